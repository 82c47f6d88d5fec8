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

from livestack.kernels.light_curves import best_boxes, chi_squares, take_out_seeing

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
    error = np.ascontiguousarray(error, dtype=np.float64)
    clean = np.empty((n, t))
    take_out_seeing(
        np.ascontiguousarray(residual, dtype=np.float64), error, np.ascontiguousarray(seeing, dtype=np.float64),
        2 * LEAST_POINTS, LIMIT, SEEING_CHI2, clean,
    )  # fmt: skip
    scales = np.array([2**k for k in range(max(1, int(math.log2(max(t, 2))))) if t >= 3 * 2**k], dtype=np.int64)
    squares, numbers = np.empty((n, len(scales))), np.empty((n, len(scales)))
    chi_squares(clean, error, scales, LEAST_POINTS, LIMIT, squares, numbers)
    found = np.full(n, np.nan)
    order = np.argsort(mean, kind="stable")
    for k in range(len(scales)):
        ready = order[numbers[order, k] > 0]
        if not len(ready):
            continue
        points = numbers[ready, k]
        ratio = squares[ready, k] / points
        chance = 1.0 + 2.5 * np.sqrt(2.0 / points / min(NEIGHBOURS, len(ready)))
        usual = np.maximum(_running_median(ratio / (1.0 - 2.0 / (9.0 * points)) ** 3) / chance, 1.0)
        found[ready] = np.fmax(found[ready], _sigma(ratio / usual, points))
    boxes = np.empty(n)
    best_boxes(clean, error, 2 * LEAST_POINTS, LIMIT, MOST_BINS, boxes)
    ready = order[np.isfinite(boxes[order])]
    if len(ready):
        usual = np.maximum(_running_median(boxes[ready]) / USUAL_BOX, 1.0)
        # the best of so many boxes is large by chance, too
        beyond = np.sqrt(np.maximum((boxes[ready] / usual) ** 2 - USUAL_BOX**2, 0.0))
        found[ready] = np.fmax(found[ready], beyond)
    return found


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
