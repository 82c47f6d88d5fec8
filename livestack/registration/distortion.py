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
MARGIN = 0.1
"""Beyond the outermost stars a distortion is followed for this share of half the field."""
BACK_STEPS = 30
BACK_PX = 1e-7
STRAIGHT_PX = 0.005
"""Pieces of a row in which the shift changes evenly are so short that they are out by no more than this."""
PIECES = 8, 256
"""Shortest and longest of them."""


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

    def lines(self, back: np.ndarray, left: int, top: int) -> np.ndarray:
        """(2, 18) what `kernels.resample.sample_row` takes, for a grid that begins at reference (left, top).

        Parameters
        ----------
        back : (2, 3) linear part, from that grid to the frame.
        """
        columns = np.array([
            [self.centre[0] - left, self.half, *self.reach[:2], -left],
            [self.centre[1] - top, self.half, *self.reach[2:], self.piece_px],
        ])  # fmt: skip
        return np.ascontiguousarray(np.hstack([back, self.coefficients, columns]))

    @property
    def piece_px(self) -> int:
        """Length of a piece of a row over which the shift changes evenly, to `STRAIGHT_PX`."""
        u, v = np.meshgrid(self.reach[:2], self.reach[2:])
        c = self.coefficients[:, :, None]
        # the second derivative along u is linear: its largest value is in a corner
        bow = np.abs(2 * c[:, 3] + 6 * c[:, 6] * u.ravel() + 2 * c[:, 7] * v.ravel()).max() / self.half**2
        return int(np.clip(np.sqrt(8 * STRAIGHT_PX / max(bow, 1e-12)), *PIECES))

    def turned(self, linear: np.ndarray) -> Distortion:
        """For other coordinates of the frame, to which the (2, 2) linear part `linear` leads."""
        return replace(self, coefficients=linear @ self.coefficients)


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
