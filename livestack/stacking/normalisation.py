"""What brings a frame onto the reference's scale."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True, eq=False)
class Normalisation:
    """Brings a frame onto the reference's scale: value = factor * sample + surface(x, y).

    Attributes
    ----------
    factor : (C,) brightness factor.
    surface : (C, 10) float64 coefficients of 1, u, v, u^2, uv, v^2, u^3, u^2 v, u v^2, v^3, with u and v running from
        -1 to 1 over the reference; ADU.
    reach : least and largest u, least and largest v up to which the surface is known; farther out it keeps its value.
    """

    factor: np.ndarray
    surface: np.ndarray
    reach: tuple[float, float, float, float] = (-1.0, 1.0, -1.0, 1.0)

    @staticmethod
    def identity(channels: int) -> Normalisation:
        """Leaves everything as it is."""
        return Normalisation(np.ones(channels), np.zeros((channels, 10)))
