"""The noise to expect of a sample, and what a frame's samples are tested with."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True, eq=False)
class NoiseModel:
    """Variance of one sample of the reference: floor + slope * max(mean above sky, 0) + (structure * local range)^2.

    Attributes
    ----------
    floor, slope : (C,) ADU^2 and ADU.
    structure : share of the 3 x 3 range, left by registration, interpolation and shape when seeing is allowed for; None
        where too few stars tell.
    """

    floor: np.ndarray
    slope: np.ndarray
    structure: float | None = None


@dataclass(frozen=True)
class Blot:
    """How a drizzled mean says what a sample on a star should be.

    Attributes
    ----------
    sharpen : the sample is the mean less so many times its Laplacian, px^2 of the grid.
    structure : share of the 3 x 3 range that this leaves unknown; None where too few stars tell.
    """

    sharpen: float
    structure: float | None = None


@dataclass(frozen=True, eq=False)
class Limits:
    """What a frame's samples are tested with: the noise model on this frame's scale, and allowances around stars.

    Attributes
    ----------
    floor, slope, structure : noise model, see there.
    excess : share of the 3 x 3 range by which this frame may be out beyond that.
    blur : how much wider this frame's stars are than the stack's: its samples are expected at the mean plus blur times
        the mean's Laplacian (px^2; for small changes half the difference of sigma^2).
    louder : (C,) variance of this frame's sky over that of the frames in the stack, at least 1: their scatter at a
        pixel says as much more of this one's. None is 1.
    """

    floor: np.ndarray
    slope: np.ndarray
    structure: float
    excess: float
    blur: float
    kappa: float
    prior_dof: float
    louder: np.ndarray | None = None

    def of_channel(self, channel: int) -> np.ndarray:
        """(8,) float32, as the kernels want them; see `kernels.sample_rows`."""
        return np.array(
            [
                self.kappa**2, self.prior_dof, self.floor[channel], self.slope[channel], self.structure**2,
                self.excess**2, self.blur, 1.0 if self.louder is None else self.louder[channel],
            ],
            dtype=np.float32,
        )  # fmt: skip
