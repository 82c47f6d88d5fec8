"""Plane transforms: similarities and affines as 3x3 matrices that map frame (x, y) to reference (x, y).

A matrix may have a `Distortion` beside it, for a lens that distorts. Fits are closed-form least squares (Umeyama 1991,
doi:10.1109/34.88573, without reflection) or linear; what is matched with what is decided in `registration`.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from livestack.registration.distortion import MARGIN, Distortion, terms

IDENTITY = np.eye(3)
RELAY_POINTS = 21
"""Along each side of a frame, where two distortions are made one."""


@dataclass(frozen=True)
class Decomposition:
    """A similarity in people's words: scale, rotation (degrees, +x toward +y), shift of the frame's centre (px)."""

    scale: float
    rotation_deg: float
    dx_px: float
    dy_px: float
    mirrored: bool = False


@dataclass(frozen=True, eq=False)
class Registration:
    """How a frame was carried onto the reference.

    Attributes
    ----------
    matrix : (3, 3) frame (x, y, 1) -> reference (x, y, 1).
    method : "reference", "predicted", "asterisms", "pairs", "two stars", "one star", "disc", "features",
        "phase" or "none".
    frame_index, reference_index : (n,) indices of the matched stars in the two catalogues.
    rms_px : residual of the matched stars or tracked windows, px in the reference; nan where there are none.
    n_points : windows that agreed where features, not stars, were matched.
    distortion : what the lens adds to the matrix; None where the matrix says all.
    factor : brightness of the reference's disc over that of the frame's; None where stars or the scene tell it.
    """

    matrix: np.ndarray
    method: str
    frame_index: np.ndarray
    reference_index: np.ndarray
    rms_px: float
    n_points: int = 0
    distortion: Distortion | None = None
    factor: float | None = None

    @property
    def n_matched(self) -> int:
        """Number of matched stars."""
        return len(self.frame_index)


@dataclass(frozen=True)
class Unregistered:
    """Why there is no transform, as a sentence."""

    message: str


def similarity(scale: float, rotation_rad: float, dx: float, dy: float) -> np.ndarray:
    """(3, 3) matrix: rotate about (0, 0) and scale, then shift by (dx, dy)."""
    c, s = scale * math.cos(rotation_rad), scale * math.sin(rotation_rad)
    return np.array([[c, -s, dx], [s, c, dy], [0.0, 0.0, 1.0]])


def apply(matrix: np.ndarray, points: np.ndarray) -> np.ndarray:
    """Map (n, 2) points (x, y)."""
    return points @ matrix[:2, :2].T + matrix[:2, 2]


def fit_similarity(source: np.ndarray, target: np.ndarray, weights: np.ndarray | None = None) -> np.ndarray:
    """Least-squares similarity from (n, 2) `source` to `target`, n >= 2; no reflection."""
    w = np.ones(len(source)) if weights is None else np.asarray(weights, dtype=float)
    w = w / w.sum()
    mean_s, mean_t = w @ source, w @ target
    ds, dt = source - mean_s, target - mean_t
    # As complex numbers a similarity is one multiplication: dt = z * ds.
    zs, zt = ds[:, 0] + 1j * ds[:, 1], dt[:, 0] + 1j * dt[:, 1]
    spread = float(np.sum(w * np.abs(zs) ** 2))
    if spread <= 0:
        raise ValueError("source: all points coincide; a similarity needs two different points.")
    z = np.sum(w * np.conj(zs) * zt) / spread
    matrix = np.array([[z.real, -z.imag, 0.0], [z.imag, z.real, 0.0], [0.0, 0.0, 1.0]])
    matrix[:2, 2] = mean_t - matrix[:2, :2] @ mean_s
    return matrix


def fit_affine(source: np.ndarray, target: np.ndarray, weights: np.ndarray | None = None) -> np.ndarray:
    """Least-squares affine from (n, 2) `source` to `target`, n >= 3 points that are not on one line."""
    w = np.ones(len(source)) if weights is None else np.asarray(weights, dtype=float)
    root = np.sqrt(w)[:, None]
    centre = source.mean(axis=0)
    design = np.column_stack([source - centre, np.ones(len(source))])
    solution, _, rank, _ = np.linalg.lstsq(design * root, target * root, rcond=None)
    if rank < 3:
        raise ValueError("source: the points lie on one line; an affine needs three that do not.")
    matrix = np.eye(3)
    matrix[:2, :2] = solution[:2].T
    matrix[:2, 2] = solution[2] - matrix[:2, :2] @ centre
    return matrix


def split(
    coefficients: np.ndarray, centre: tuple[float, float], half: float, places: np.ndarray
) -> tuple[np.ndarray, Distortion]:
    """A polynomial from reference to frame as the best single matrix, frame -> reference, and what is left beside it.

    Parameters
    ----------
    coefficients : (2, 10) of frame x and y, for the terms of `distortion.terms`; centre, half : see `Distortion`.
    places : (n, 2) points of the reference that the polynomial was fitted to: the matrix is best over these.
    """
    uv = (places - centre) / half
    matrix = fit_affine(terms(*uv.T) @ coefficients.T, places)
    back = np.linalg.inv(matrix)
    rest = coefficients.copy()
    rest[:, 0] -= back[:2, :2] @ centre + back[:2, 2]
    rest[:, 1:3] -= back[:2, :2] * half
    (u0, v0), (u1, v1) = (uv.min(axis=0) - MARGIN).tolist(), (uv.max(axis=0) + MARGIN).tolist()
    return matrix, Distortion(rest, centre, half, (u0, u1, v0, v1))


def relay(width: int, height: int, onto: Callable[[np.ndarray], np.ndarray]) -> tuple[np.ndarray, Distortion]:
    """Matrix and distortion of a frame that reaches its reference by way of another frame.

    Parameters
    ----------
    onto : frame (n, 2) -> reference (n, 2), smooth; no cubic itself, but a cubic comes close to it.
    """
    xs, ys = np.linspace(0, width - 1, RELAY_POINTS), np.linspace(0, height - 1, RELAY_POINTS)
    here = np.stack(np.meshgrid(xs, ys), axis=-1).reshape(-1, 2)
    there = onto(here)
    low, high = there.min(axis=0), there.max(axis=0)
    centre, half = (float((low[0] + high[0]) / 2), float((low[1] + high[1]) / 2)), float((high - low).max() / 2)
    solution = np.linalg.lstsq(terms(*((there - centre) / half).T), here, rcond=None)[0]
    return split(solution.T, centre, half, there)


def decompose(matrix: np.ndarray, width: int, height: int) -> Decomposition:
    """Scale, rotation and shift of the centre of a `width` x `height` frame; of a mirror image, of it mirrored in x."""
    a = matrix[:2, :2]
    scale = math.sqrt(abs(np.linalg.det(a)))
    turned_over = is_mirrored(matrix)
    if turned_over:
        a = a @ np.diag([-1.0, 1.0])
    rotation = math.degrees(math.atan2(a[1, 0] - a[0, 1], a[0, 0] + a[1, 1]))
    centre = np.array([[(width - 1) / 2, (height - 1) / 2]])
    dx, dy = (apply(matrix, centre) - centre)[0]
    return Decomposition(scale, rotation, float(dx), float(dy), turned_over)


def is_mirrored(matrix: np.ndarray) -> bool:
    """True when a transform turns the picture over: another diagonal, another telescope, a flipped read-out."""
    return bool(np.linalg.det(matrix[:2, :2]) < 0)


def corners(width: int, height: int) -> np.ndarray:
    """(4, 2) centres of the corner pixels."""
    return np.array([[0.0, 0.0], [width - 1.0, 0.0], [width - 1.0, height - 1.0], [0.0, height - 1.0]])


def corner_displacement(one: np.ndarray, other: np.ndarray, width: int, height: int) -> float:
    """Largest distance (px) between where the two matrices put the frame's corners."""
    points = corners(width, height)
    return float(np.max(np.hypot(*(apply(one, points) - apply(other, points)).T)))


def overlap_fraction(matrix: np.ndarray, width: int, height: int, ref_width: int, ref_height: int) -> float:
    """Share of the frame's area that falls on the reference, estimated on a 32 x 32 grid."""
    xs = np.linspace(0, width - 1, 32)
    ys = np.linspace(0, height - 1, 32)
    grid = np.stack(np.meshgrid(xs, ys), axis=-1).reshape(-1, 2)
    x, y = apply(matrix, grid).T
    return float(np.mean((x >= 0) & (x <= ref_width - 1) & (y >= 0) & (y <= ref_height - 1)))
