"""The stars of one frame as a catalogue, and what they share: width and elongation."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace

import numpy as np

FWHM_PER_SIGMA = 2.0 * math.sqrt(2.0 * math.log(2.0))
"""FWHM of a Gaussian over its sigma."""


@dataclass(frozen=True, eq=False)
class StarCatalog:
    """Stars of one frame, brightest first.

    Attributes
    ----------
    x, y : (n,) float64, pixel coordinates (0-based, integers at centres).
    flux : (n,) float64, sky-subtracted ADU within `radius_px`.
    snr : (n,) float64, matched-filter signal to noise.
    fwhm_px, eccentricity, theta_deg : (n,) float64 from adaptive moments; NaN where not measured (saturated or faint).
    saturated : (n,) bool, True = core clipped: the position is good, the flux is not.
    """

    x: np.ndarray
    y: np.ndarray
    flux: np.ndarray
    snr: np.ndarray
    fwhm: np.ndarray
    eccentricity: np.ndarray
    theta_deg: np.ndarray
    saturated: np.ndarray
    radius_px: float
    xy: np.ndarray = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "xy", np.column_stack([self.x, self.y]).astype(float))

    def __len__(self) -> int:
        return len(self.x)

    def placed(self, xy: np.ndarray) -> StarCatalog:
        """The same stars at other positions (n, 2)."""
        return replace(self, x=xy[:, 0].copy(), y=xy[:, 1].copy())

    def select(self, keep: np.ndarray) -> StarCatalog:
        """The stars for which `keep` (n,) bool is True, in the same order."""
        return StarCatalog(
            self.x[keep], self.y[keep], self.flux[keep], self.snr[keep], self.fwhm[keep], self.eccentricity[keep],
            self.theta_deg[keep], self.saturated[keep], self.radius_px,
        )  # fmt: skip

    @property
    def fwhm_px(self) -> float | None:
        """Median FWHM of the stars that were measured."""
        good = np.isfinite(self.fwhm)
        return float(np.median(self.fwhm[good])) if good.any() else None

    @property
    def median_eccentricity(self) -> float | None:
        """Eccentricity sqrt(1 - b^2/a^2) of the *mean* star: what all stars share (trailing), not each one's noise."""
        return self._mean_shape()[0]

    @property
    def elongation_deg(self) -> float | None:
        """Direction of that shared elongation, degrees in [-90, 90)."""
        return self._mean_shape()[1]

    def _mean_shape(self) -> tuple[float | None, float | None]:
        good = np.isfinite(self.eccentricity)
        if not good.any():
            return None, None
        # Average the shapes as spin-2 vectors e = (1-q^2)/(1+q^2): the noise of single stars then cancels.
        q2 = 1 - self.eccentricity[good] ** 2
        size = (1 - q2) / (1 + q2)
        angle = 2 * np.radians(self.theta_deg[good])
        e1, e2 = np.median(size * np.cos(angle)), np.median(size * np.sin(angle))
        e = math.hypot(e1, e2)
        return math.sqrt(2 * e / (1 + e)), math.degrees(0.5 * math.atan2(e2, e1))
