"""Loops over all pixels, for `detection`: binning, and the sky's level and noise on a mesh."""

from __future__ import annotations

import math

import numpy as np
from numba import njit


@njit(nogil=True, cache=True)
def bin_mean(data: np.ndarray, factor: int, offsets: np.ndarray, out: np.ndarray, row0: int, row1: int) -> None:
    """Mean of factor x factor pixels into rows row0..row1 of `out`; NaN samples left out, NaN where none is good.

    `offsets` (2, 2): subtracted by row and column parity first, so that a mosaic's colours share one background.
    """
    width = out.shape[1]
    total = np.empty(width, dtype=np.float32)
    area = np.float32(factor * factor)
    for j in range(row0, row1):
        total[:] = 0.0
        for dy in range(factor):
            y = j * factor + dy
            o0 = offsets[y & 1, 0]
            o1 = offsets[y & 1, 1]
            line = data[y]
            if factor == 1:
                for i in range(width):
                    total[i] += line[i] - (o0 if i % 2 == 0 else o1)
            elif factor == 2:
                o = o0 + o1
                for i in range(width):
                    total[i] += (line[2 * i] + line[2 * i + 1]) - o
            elif factor == 4:
                o = 2 * (o0 + o1)
                for i in range(width):
                    total[i] += (line[4 * i] + line[4 * i + 1]) + (line[4 * i + 2] + line[4 * i + 3]) - o
            else:
                for i in range(width):
                    for dx in range(factor):
                        total[i] += line[i * factor + dx] - (o0 if (i * factor + dx) % 2 == 0 else o1)
        for i in range(width):
            out[j, i] = total[i] / area
        # NaN anywhere in a cell made the cell NaN: do those few again, sample by sample.
        for i in range(width):
            if out[j, i] != out[j, i]:
                s = np.float32(0.0)
                n = 0
                for dy in range(factor):
                    for dx in range(factor):
                        y = j * factor + dy
                        x = i * factor + dx
                        v = data[y, x] - offsets[y & 1, x & 1]
                        if v == v:
                            s += v
                            n += 1
                if n > 0:
                    out[j, i] = s / n


@njit(nogil=True, cache=True)
def _middle_distance(part: np.ndarray, lo: int, hi: int, median: float) -> float:
    """Median of the distances to the median of part[lo:hi], which are sorted; of two middle ones the larger.

    Distances grow to both sides, so halving finds how many of the nearest half lie on the left.
    """
    m = hi - lo
    left = lo + (m - 1) // 2
    right = left + 1
    wanted = m // 2 + 1
    least, most = max(0, wanted - (hi - right)), min(wanted, right - lo)
    while least < most:
        i = (least + most) // 2
        if median - part[left - i] < part[right + wanted - i - 1] - median:
            least = i + 1
        else:
            most = i
    distance = np.float32(0.0)
    if least > 0:
        distance = median - part[left - least + 1]
    if least < wanted:
        distance = max(distance, part[right + wanted - least - 1] - median)
    return distance  # type: ignore[return-value]


@njit(nogil=True, cache=True)
def clipped_median(values: np.ndarray, n: int) -> tuple[float, float]:
    """Median and scaled MAD (sigma) of values[:n], which are sorted, after two rounds of 3-sigma clipping."""
    part = values[:n]
    lo, hi = 0, n
    median = part[n // 2]
    sigma = np.float32(0.0)
    for _ in range(3):
        m = hi - lo
        if m < 1:
            break
        median = part[lo + m // 2] if m % 2 == 1 else np.float32(0.5) * (part[lo + m // 2] + part[lo + m // 2 - 1])
        sigma = np.float32(1.4826) * _middle_distance(part, lo, hi, median)
        if sigma <= 0:
            break
        while lo < hi and part[lo] < median - 3 * sigma:
            lo += 1
        while hi > lo and part[hi - 1] > median + 3 * sigma:
            hi -= 1
    return median, sigma  # type: ignore[return-value]


@njit(nogil=True, cache=True)
def _unquantised(ordered: np.ndarray, n: int, median: float, sigma: float) -> tuple[float, float]:
    """Level and sigma of sorted values: moments in place of median and MAD where few distinct numbers occur.

    In 8-bit pictures many pixels equal the median exactly; median and MAD then know the sky to a whole number at best.
    """
    equal = 0
    for k in range(n):
        equal += 1 if ordered[k] == median else 0
    if equal * 10 < n:
        return median, sigma
    first, last = n // 50, n - n // 50
    while last > first + 1 and ordered[last - 1] > 2.0 * ordered[n // 2] - ordered[n // 50] + 1.0:
        last -= 1  # the bright side no longer than the dark one: stars are no sky
    total = 0.0
    squares = 0.0
    for k in range(first, last):
        total += ordered[k]
        squares += ordered[k] * ordered[k]
    mean = total / (last - first)
    return np.float32(mean), np.float32(math.sqrt(max(squares / (last - first) - mean * mean, 0.0)))  # type: ignore[return-value]


@njit(nogil=True, cache=True)
def sample_mesh(
    plane: np.ndarray, phase_y: int, phase_x: int, step: int, down: int, across: int, gy: int, gx: int,
    values: np.ndarray, counts: np.ndarray, row0: int, row1: int,
) -> None:  # fmt: skip
    """Samples of the cells of rows row0..row1 of a (gy, gx) mesh: every pixel (phase_y + down i, phase_x + across j).

    values : ((row1 - row0) gx, room) float32, +inf beyond the counts[k] samples of cell k; NaN pixels are left out.
    """
    height, width = plane.shape
    for j in range(row0, row1):
        y0 = j * height // gy
        y1 = (j + 1) * height // gy
        for i in range(gx):
            x0 = i * width // gx
            x1 = (i + 1) * width // gx
            line = values[(j - row0) * gx + i]
            n = 0
            for y in range(y0 + (phase_y - y0) % step, y1, down):
                for x in range(x0 + (phase_x - x0) % step, x1, across):
                    v = plane[y, x]
                    if v == v:
                        line[n] = v
                        n += 1
            counts[(j - row0) * gx + i] = n
            line[n:] = np.inf


@njit(nogil=True, cache=True)
def mesh_levels(values: np.ndarray, counts: np.ndarray, level: np.ndarray, noise: np.ndarray, step: np.ndarray) -> None:
    """Robust level and noise of cells from their sorted samples, and the least difference between two of them.

    level, noise, step : (rows, gx) float32, filled; level and noise NaN below eight samples, step +inf where all
        samples of a cell are equal.
    """
    gx = level.shape[1]
    for k in range(len(counts)):
        m = s = np.float32(np.nan)
        if counts[k] >= 8:
            m, s = clipped_median(values[k], counts[k])
            m, s = _unquantised(values[k], counts[k], m, s)
        least = np.float32(np.inf)
        for i in range(1, counts[k]):
            rise = values[k, i] - values[k, i - 1]
            if 0 < rise < least:
                least = rise
        level[k // gx, k % gx] = m
        noise[k // gx, k % gx] = s
        step[k // gx, k % gx] = least


@njit(nogil=True, cache=True)
def flatten(image: np.ndarray, level: np.ndarray) -> None:
    """image -= level; 0 where that is no finite number."""
    for y in range(image.shape[0]):
        for x in range(image.shape[1]):
            v = image[y, x] - level[y, x]
            image[y, x] = v if v - v == 0 else np.float32(0.0)
