"""How sure it is that a star varies: its residuals, averaged over longer and longer times, against its errors.

A constant star's averages over m frames shrink with the root of m; those of a star that fades for an hour do not. For
each m the sum of squares of the averages is chi squared distributed (Wilson & Hilferty 1931,
doi:10.1073/pnas.17.12.684). One dip or flare is searched for besides, as the run of frames that differs most from the
rest (a box, Kovacs et al. 2002, doi:10.1051/0004-6361:20020802). The largest significance counts. What all stars of
like brightness show (flats, seeing, the comparison) is no sign of a star's own: their median sets the scale, where it
is beyond chance.
"""

from __future__ import annotations

import math

import numpy as np

VARIES = 5.5
"""Significance from which a star is said to vary: less than one false alarm in a night of two thousand stars."""
LEAST_POINTS = 8
NEIGHBOURS = 41
SEEING_CHI2 = 20.0
"""Part of chi squared that goes with the seeing from which it is taken out."""
MOST_BINS = 60
USUAL_BOX = 3.0
"""Sigma of the best box of a constant star, in the middle."""
NEAR = 4.0
"""Up to so many sigma the cube root is good."""
LIMIT = 50.0
"""Beyond so many sigma a point says no more."""


def variability(residual: np.ndarray, error: np.ndarray, mean: np.ndarray, seeing: np.ndarray) -> np.ndarray:
    """Significance for each star, in sigma.

    Parameters
    ----------
    residual, error : (n, t) mag, in order of time, NaN where there is no good measurement.
    mean : (n,) mag, to find stars of like brightness.
    seeing : (t,) FWHM over its median, less 1. What goes with it is no star's own: bad seeing brings in the light of
        neighbours that the star search could not part from the star.

    Returns
    -------
    (n,) float64, NaN where there are too few points.
    """
    n, t = residual.shape
    residual = _without_seeing(residual, error, seeing)
    scales = [2**k for k in range(max(1, int(math.log2(max(t, 2))))) if t >= 3 * 2**k]
    found = np.full(n, np.nan)
    order = np.argsort(mean, kind="stable")
    for scale in scales:
        squares, number = np.zeros(n), np.zeros(n)
        for star in range(n):
            good = np.flatnonzero(np.isfinite(residual[star]) & (error[star] > 0))
            if len(good) < LEAST_POINTS or len(good) < 3 * scale:
                continue
            points = np.clip(residual[star, good] / error[star, good], -LIMIT, LIMIT)
            points = np.delete(points, int(np.argmax(np.abs(points))))  # one point alone proves nothing
            squares[star], number[star] = _binned(points, scale)
        ready = order[number[order] > 0]
        if not len(ready):
            continue
        ratio = squares[ready] / number[ready]
        points = number[ready]
        chance = 1.0 + 2.5 * np.sqrt(2.0 / points / min(NEIGHBOURS, len(ready)))
        usual = np.maximum(_running_median(ratio / (1.0 - 2.0 / (9.0 * points)) ** 3) / chance, 1.0)
        found[ready] = np.fmax(found[ready], _sigma(ratio / usual, points))
    boxes = np.array([_box(residual[star], error[star]) for star in range(n)])
    ready = order[np.isfinite(boxes[order])]
    if len(ready):
        usual = np.maximum(_running_median(boxes[ready]) / USUAL_BOX, 1.0)
        # the best of so many boxes is large by chance, too
        beyond = np.sqrt(np.maximum((boxes[ready] / usual) ** 2 - USUAL_BOX**2, 0.0))
        found[ready] = np.fmax(found[ready], beyond)
    return found


def _box(residual: np.ndarray, error: np.ndarray) -> float:
    """How many sigma the run of points that differs most is from the others; NaN with too few points."""
    good = np.flatnonzero(np.isfinite(residual) & (error > 0))
    if len(good) < 2 * LEAST_POINTS:
        return math.nan
    points = np.clip(residual[good] / error[good], -LIMIT, LIMIT)
    loneliest = int(np.argmax(np.abs(points)))
    points, weight = np.delete(points / error[good], loneliest), np.delete(error[good] ** -2.0, loneliest)
    edges = np.unique(np.linspace(0, len(points), min(len(points), MOST_BINS) + 1).astype(int))
    light, heavy = (np.append(0.0, np.cumsum(part))[edges] for part in (points, weight))
    i, j = np.triu_indices(len(edges), 2)  # two bins and more
    inside, its = light[j] - light[i], heavy[j] - heavy[i]
    rest = heavy[-1] - its
    fair = rest > 0.1 * heavy[-1]
    if not fair.any():
        return math.nan
    inside, its, rest = inside[fair], its[fair], rest[fair]
    depth = inside / its - (light[-1] - inside) / rest
    return float(np.max(np.abs(depth) / np.sqrt(1.0 / its + 1.0 / rest)))


def _without_seeing(residual: np.ndarray, error: np.ndarray, seeing: np.ndarray) -> np.ndarray:
    """Residuals without the part that is linear and square in the seeing, of stars that show one beyond doubt."""
    out = residual.copy()
    basis = np.stack([np.ones_like(seeing), seeing, seeing**2], axis=1)
    for star in range(len(residual)):
        good = np.isfinite(residual[star]) & (error[star] > 0)
        if good.sum() < 2 * LEAST_POINTS:
            continue
        weighed = basis[good] / error[star, good, None]
        points = residual[star, good] / error[star, good]
        fit = np.linalg.lstsq(weighed, np.clip(points, -LIMIT, LIMIT), rcond=1e-6)[0]
        if float(np.sum((weighed @ fit) ** 2)) > SEEING_CHI2:
            out[star] -= basis @ fit - fit[0]
    return out


def _binned(points: np.ndarray, scale: int) -> tuple[float, float]:
    """Sum of squares of normalised averages over `scale` points, and how many; the mean of two sets of bins."""
    total = count = 0.0
    middle = float(np.median(points))
    for begin in {0, scale // 2}:
        use = points[begin:]
        use = use[: len(use) // scale * scale].reshape(-1, scale) - middle
        total += float(np.sum(use.mean(axis=1) ** 2) * scale)
        count += len(use)
    sets = len({0, scale // 2})
    return total / sets, count / sets


def _running_median(values: np.ndarray) -> np.ndarray:
    """Median of the neighbours in a list, of itself too."""
    half = min(NEIGHBOURS, len(values)) // 2
    padded = np.pad(values, half, mode="reflect") if len(values) > half else values
    if len(padded) == len(values):
        return np.full(len(values), float(np.median(values)))
    return np.asarray(np.median(np.lib.stride_tricks.sliding_window_view(padded, 2 * half + 1), axis=1))[: len(values)]


def _sigma(ratio: np.ndarray, number: np.ndarray) -> np.ndarray:
    """Chi squared over its degrees of freedom, as sigma of a normal distribution: near 1 by the cube root, far beyond
    by the tail itself, which goes with the root of chi squared."""
    spread = 2.0 / (9.0 * number)
    near = (np.cbrt(ratio) - (1.0 - spread)) / np.sqrt(spread)
    tail = np.sqrt(np.maximum(number * (ratio - 1.0 - np.log(np.maximum(ratio, 1e-9))), 0.0))
    return np.where(near < NEAR, near, np.maximum(NEAR, tail))
