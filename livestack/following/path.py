"""The path of a moving object over the reference's pixels: linear in time, quadratic where that pays."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

LEAST_QUADRATIC = 10
PAYS = 0.8
"""A quadratic path must leave this share of the scatter, in places that the fit did not see."""
OUTLIER = 4.0
LEAST_SIGMA_PX = 0.05
ROUNDS = 8


@dataclass(frozen=True, eq=False)
class Path:
    """Where the object is at a time.

    Attributes
    ----------
    epoch_min : time of the reference, minutes; coefficients : (2 or 3, 2) px, px/min, px/min^2 about it.
    rms_px : scatter of the n measured places that the fit believes, in both coordinates together.
    """

    epoch_min: float
    coefficients: np.ndarray
    rms_px: float
    n: int

    def at(self, minutes: float) -> np.ndarray:
        """(2,) x and y on the reference, px."""
        t = minutes - self.epoch_min
        return np.asarray(np.array([1.0, t, t * t])[: len(self.coefficients)] @ self.coefficients)

    def shift(self, minutes: float) -> np.ndarray:
        """(2,) how far it has gone since the epoch, px."""
        return self.at(minutes) - self.coefficients[0]

    @property
    def rate_px_min(self) -> float:
        """Speed at the epoch."""
        return float(np.hypot(*self.coefficients[1]))

    @property
    def angle_deg(self) -> float:
        """Direction at the epoch: from +x towards +y of the reference's pixels."""
        return math.degrees(math.atan2(self.coefficients[1, 1], self.coefficients[1, 0])) % 360.0


def fit_path(minutes: np.ndarray, xy: np.ndarray, epoch_min: float, fast: bool = True) -> Path | None:
    """The path through measured places, some of which may be of a star that was passed; None with fewer than three.

    Parameters
    ----------
    minutes : (n,); xy : (n, 2) px of the reference.
    fast : a curve is tried, too.
    """
    if len(minutes) < 3 or np.ptp(minutes) <= 0:
        return None
    t = minutes - epoch_min
    keep = np.ones(len(t), dtype=bool)
    order, scatter = 1, math.inf
    for _ in range(ROUNDS):
        orders = (1, 2) if fast and keep.sum() >= LEAST_QUADRATIC else (1,)
        order, left = min(((o, _left_out(t[keep], xy[keep], o)) for o in orders), key=lambda one: one[1])
        if order == 2 and left > PAYS * _left_out(t[keep], xy[keep], 1):
            order = 1
        coefficients = _solve(t[keep], xy[keep], order)
        off = np.hypot(*(_design(t, order) @ coefficients - xy).T)
        scatter = max(float(np.median(off[keep])) / 1.1774, LEAST_SIGMA_PX)  # Rayleigh's median over sigma
        new = off <= OUTLIER * scatter
        if new.sum() < 3 or (new == keep).all():
            break
        keep = new
    rms = float(np.sqrt(np.mean(off[keep] ** 2)))
    return Path(epoch_min, coefficients, rms, int(keep.sum()))


def _design(t: np.ndarray, order: int) -> np.ndarray:
    return np.column_stack([np.ones_like(t), t, t * t][: order + 1])


def _solve(t: np.ndarray, xy: np.ndarray, order: int) -> np.ndarray:
    """Theil and Sen's line where few places tell and one may be wrong; else least squares."""
    if order == 1 and len(t) < LEAST_QUADRATIC:
        i, j = np.triu_indices(len(t), 1)
        apart = t[j] != t[i]
        slope = np.median((xy[j] - xy[i])[apart] / (t[j] - t[i])[apart, None], axis=0)
        line = np.array([np.median(xy - t[:, None] * slope, axis=0), slope])
        off = np.hypot(*(_design(t, 1) @ line - xy).T)
        near = off <= OUTLIER * max(float(np.median(off)) / 1.1774, LEAST_SIGMA_PX)
        if near.sum() < 3:
            return line
        t, xy = t[near], xy[near]
    return np.asarray(np.linalg.lstsq(_design(t, order), xy, rcond=None)[0])


def _left_out(t: np.ndarray, xy: np.ndarray, order: int) -> float:
    """Median distance of each place from a fit to the others."""
    design = _design(t, order)
    orthogonal = np.linalg.qr(design)[0]
    off = np.hypot(*(design @ _solve(t, xy, order) - xy).T)
    return float(np.median(off / np.maximum(1.0 - np.sum(orthogonal**2, axis=1), 0.05)))
