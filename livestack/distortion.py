"""What a lens leaves over when a plane transform has done its best: a smooth shift, cubic in the place on the sensor.

A lens that distorts puts the same stars at other distances from each other wherever the field drifts or turns over the
sensor; no 3 x 3 matrix mends that. A `Distortion` is given in the direction in which frames are sampled, reference to
frame:

    frame (x, y) = inverse(matrix) reference (x, y) + shift(reference (x, y))

`matrix` stays the best single matrix for those who need no more. Beyond the stars that it was fitted to the shift keeps
its value: a cubic goes anywhere where nothing holds it. The fit is made in `registration`.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

TERMS = 10
COLUMNS = {1: 3, 2: 6, 3: 10}
"""Terms of a polynomial of this order."""
BACK_STEPS = 30
BACK_PX = 1e-7


def terms(u: np.ndarray, v: np.ndarray) -> np.ndarray:
    """(n, 10) values of 1, u, v, u^2, uv, v^2, u^3, u^2 v, u v^2, v^3."""
    uu, vv = u * u, v * v
    return np.stack([np.ones_like(u), u, v, uu, u * v, vv, uu * u, uu * v, u * vv, vv * v], axis=-1)


@dataclass(frozen=True, eq=False)
class Distortion:
    """A smooth shift over the reference, in pixels of the frame.

    Attributes
    ----------
    coefficients : (2, 10) float64, of the shift in x and in y, for the terms of `terms`.
    centre : reference (x, y) where u = v = 0; half : reference px for which u or v changes by 1.
    reach : least and largest u, least and largest v up to which stars tell; beyond, the shift keeps its value.
    """

    coefficients: np.ndarray
    centre: tuple[float, float]
    half: float
    reach: tuple[float, float, float, float]

    def shift(self, points: np.ndarray) -> np.ndarray:
        """(n, 2) shift in frame px at (n, 2) points of the reference."""
        x, y = np.asarray(points, dtype=float).T
        u = np.clip((x - self.centre[0]) / self.half, self.reach[0], self.reach[1])
        v = np.clip((y - self.centre[1]) / self.half, self.reach[2], self.reach[3])
        return np.asarray(terms(u, v) @ self.coefficients.T)

    def scaled(self, frame: float, reference: float) -> Distortion:
        """For frames and a reference whose pixels are `frame` and `reference` times as many along a side.

        Pixel centres are integers: what was at x is at factor * x + (factor - 1) / 2.
        """
        x, y = (reference * c + (reference - 1) / 2 for c in self.centre)
        return replace(self, coefficients=self.coefficients * frame, centre=(x, y), half=self.half * reference)


def to_frame(matrix: np.ndarray, distortion: Distortion | None, points: np.ndarray) -> np.ndarray:
    """Reference (n, 2) -> frame (n, 2)."""
    back = np.linalg.inv(matrix)
    plain = points @ back[:2, :2].T + back[:2, 2]
    return np.asarray(plain if distortion is None else plain + distortion.shift(points))


def to_reference(matrix: np.ndarray, distortion: Distortion | None, points: np.ndarray) -> np.ndarray:
    """Frame (n, 2) -> reference (n, 2): `to_frame` solved by repeated substitution, for its shift varies slowly."""
    there = points @ matrix[:2, :2].T + matrix[:2, 2]
    if distortion is None:
        return np.asarray(there)
    for _ in range(BACK_STEPS):
        before, there = there, (points - distortion.shift(there)) @ matrix[:2, :2].T + matrix[:2, 2]
        if np.abs(there - before).max(initial=0.0) < BACK_PX:
            break
    return np.asarray(there)
