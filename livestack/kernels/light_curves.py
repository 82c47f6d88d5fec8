"""Loops over the stars of a night: weighed sums, what goes with the seeing, averages over longer times, boxes."""

from __future__ import annotations

import math

import numpy as np
from numba import njit

DEPENDENT = 1e-6
"""A column that is shorter than so much of the longest, once the others are taken out of it, says nothing more."""


@njit(nogil=True, cache=True)
def normal_equations(columns: np.ndarray, weight: np.ndarray, left: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(k, k) weighed products of columns with each other, and (k,) with what is left.

    Parameters
    ----------
    columns : (k, m) float64; weight, left : (m,) float64.
    """
    number, length = columns.shape
    normal, right = np.zeros((number, number)), np.zeros(number)
    heavy = np.empty(number)
    for k in range(length):
        if weight[k] == 0.0:
            continue
        for a in range(number):
            heavy[a] = weight[k] * columns[a, k]
        for a in range(number):
            right[a] += heavy[a] * left[k]
            for b in range(a, number):
                normal[a, b] += heavy[a] * columns[b, k]
    for a in range(number):
        for b in range(a):
            normal[a, b] = normal[b, a]
    return normal, right


@njit(nogil=True, cache=True)
def _gather(residual: np.ndarray, error: np.ndarray, limit: float, points: np.ndarray, errors: np.ndarray) -> int:
    """Residuals in units of their errors, clipped at `limit`, of the good frames; how many."""
    number = 0
    for frame in range(len(residual)):
        if math.isfinite(residual[frame]) and error[frame] > 0:
            points[number] = min(max(residual[frame] / error[frame], -limit), limit)
            errors[number] = error[frame]
            number += 1
    return number


@njit(nogil=True, cache=True)
def _drop_loneliest(points: np.ndarray, errors: np.ndarray, number: int) -> int:
    """Take the point farthest from 0 out: one point alone proves nothing; how many are left."""
    loneliest = 0
    for k in range(1, number):
        if abs(points[k]) > abs(points[loneliest]):
            loneliest = k
    for k in range(loneliest, number - 1):
        points[k], errors[k] = points[k + 1], errors[k + 1]
    return number - 1


@njit(nogil=True, cache=True)
def chi_squares(
    residual: np.ndarray, error: np.ndarray, scales: np.ndarray, least: int, limit: float, squares: np.ndarray,
    numbers: np.ndarray,
) -> None:  # fmt: skip
    """Sums of squares of normalised averages, and how many: the mean of two sets of bins half a bin apart.

    Parameters
    ----------
    residual, error : (n, t) float64, mag, in order of time; NaN where there is no good measurement.
    scales : (s,) int64, points that are averaged; least : fewest points of a star; limit : sigma beyond which a point
        says no more.
    squares, numbers : (n, s) float64, filled; 0 where there are too few points.
    """
    n, t = residual.shape
    points, errors = np.empty(t), np.empty(t)
    for star in range(n):
        whole = _gather(residual[star], error[star], limit, points, errors)
        if whole < least:
            squares[star], numbers[star] = 0.0, 0.0
            continue
        number = _drop_loneliest(points, errors, whole)
        middle = np.median(points[:number])
        for s in range(len(scales)):
            scale = scales[s]
            squares[star, s], numbers[star, s] = 0.0, 0.0
            if whole < 3 * scale:
                continue
            sets = 2 if scale > 1 else 1
            for shifted in range(sets):
                first = shifted * (scale // 2)
                bins = (number - first) // scale
                for k in range(bins):
                    total = 0.0
                    for j in range(scale):
                        total += points[first + k * scale + j] - middle
                    squares[star, s] += total * total / scale / sets
                numbers[star, s] += bins / sets


@njit(nogil=True, cache=True)
def best_boxes(
    residual: np.ndarray, error: np.ndarray, least: int, limit: float, most_bins: int, boxes: np.ndarray
) -> None:
    """How many sigma the run of points that differs most is from the others.

    Parameters
    ----------
    residual, error, limit : as for `chi_squares`; least : fewest points; most_bins : borders of runs are so fine.
    boxes : (n,) float64, filled; NaN with too few points.
    """
    n, t = residual.shape
    points, errors = np.empty(t), np.empty(t)
    light, heavy = np.zeros(most_bins + 1), np.zeros(most_bins + 1)
    for star in range(n):
        boxes[star] = math.nan
        number = _gather(residual[star], error[star], limit, points, errors)
        if number < least:
            continue
        number = _drop_loneliest(points, errors, number)
        bins = min(number, most_bins)
        k = 0
        for edge in range(1, bins + 1):
            light[edge], heavy[edge] = light[edge - 1], heavy[edge - 1]
            while k < edge * number // bins:
                light[edge] += points[k] / errors[k]
                heavy[edge] += 1.0 / errors[k] ** 2
                k += 1
        for i in range(bins - 1):
            for j in range(i + 2, bins + 1):  # two bins and more
                inside, its = light[j] - light[i], heavy[j] - heavy[i]
                rest = heavy[bins] - its
                if rest <= 0.1 * heavy[bins]:
                    continue
                depth = inside / its - (light[bins] - inside) / rest
                sigma = abs(depth) / math.sqrt(1.0 / its + 1.0 / rest)
                if not sigma <= boxes[star]:
                    boxes[star] = sigma


@njit(nogil=True, cache=True)
def take_out_seeing(
    residual: np.ndarray, error: np.ndarray, seeing: np.ndarray, least: int, limit: float, beyond: float,
    out: np.ndarray,
) -> None:  # fmt: skip
    """Residuals without the part that is linear and square in the seeing, of stars that show one beyond doubt.

    By modified Gram-Schmidt (Golub & Van Loan, Matrix Computations, 5.2.8).

    Parameters
    ----------
    residual, error, least, limit : as for `best_boxes`; seeing : (t,) FWHM over its median, less 1.
    beyond : chi squared of the fit from which it is taken out.
    out : (n, t) float64, filled.
    """
    n, t = residual.shape
    columns, values = np.empty((3, t)), np.empty(t)
    upper, coefficients, along = np.zeros((3, 3)), np.zeros(3), np.zeros(3)
    for star in range(n):
        out[star] = residual[star]
        number = 0
        for frame in range(t):
            if math.isfinite(residual[star, frame]) and error[star, frame] > 0:
                weight = 1.0 / error[star, frame]
                columns[0, number] = weight
                columns[1, number] = seeing[frame] * weight
                columns[2, number] = seeing[frame] ** 2 * weight
                values[number] = min(max(residual[star, frame] * weight, -limit), limit)
                number += 1
        if number < least:
            continue
        longest, explained = 0.0, 0.0
        for c in range(3):
            longest = max(longest, math.sqrt(np.sum(columns[c, :number] ** 2)))
        for c in range(3):
            for before in range(c):
                upper[before, c] = np.sum(columns[before, :number] * columns[c, :number])
                columns[c, :number] -= upper[before, c] * columns[before, :number]
            upper[c, c] = math.sqrt(np.sum(columns[c, :number] ** 2))
            if upper[c, c] <= DEPENDENT * longest:
                upper[c, c], along[c] = 0.0, 0.0
                columns[c, :number] = 0.0
                continue
            columns[c, :number] /= upper[c, c]
            along[c] = np.sum(columns[c, :number] * values[:number])
            values[:number] -= along[c] * columns[c, :number]
            explained += along[c] ** 2
        if explained <= beyond:
            continue
        for c in range(2, -1, -1):
            coefficients[c] = 0.0
            if upper[c, c] > 0:
                known = along[c]
                for after in range(c + 1, 3):
                    known -= upper[c, after] * coefficients[after]
                coefficients[c] = known / upper[c, c]
        for frame in range(t):
            out[star, frame] -= coefficients[1] * seeing[frame] + coefficients[2] * seeing[frame] ** 2
