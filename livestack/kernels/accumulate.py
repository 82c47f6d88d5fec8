"""The running accumulators: test and accumulate one frame, a row at a time, each array touched once; and undo it.

What the arguments hold is said in `sample_rows`.
"""

from __future__ import annotations

import numpy as np
from numba import njit

from livestack.kernels.sample_rows import (
    ACCEPTED,
    HIGH,
    LOW,
    MOST,
    add_row,
    count_row,
    lay_row,
    local_shape_row,
    opened,
    predict,
)


@njit(nogil=True, cache=True, error_model="numpy")
def test_row(values, present, stack, spread, curve, limits, codes):
    """Prediction limit: codes = LOW or HIGH where a sample is not believed. Returns the number rejected.

    Parameters
    ----------
    stack : the row of each of the planes; spread, curve : 3 x 3 range and Laplacian of the mean there.
    """
    mean, m2, weight, count, low, high = stack
    kappa2, dof, floor, slope = limits[0], limits[1], limits[2], limits[3]
    structure2, excess2, blur, louder = limits[4], limits[5], limits[6], limits[7]
    n = values.shape[0]
    rejected = 0
    one = np.float32(1.0)
    zero = np.float32(0.0)
    for k in range(n):
        m = mean[k]
        c = np.float32(count[k])
        safe_count = max(c, one)
        squares = louder * m2[k] * safe_count / max(weight[k], np.float32(1e-20))
        shift, limit = predict(
            m, squares, safe_count, spread[k], curve[k], kappa2, dof, floor, slope, structure2, excess2, blur
        )
        # Where most samples have been refused the pixel, not the sky, is wrong: open the limit until truth gets in.
        open_up = opened(np.float32(low[k]) + np.float32(high[k]), c)
        d = values[k] - m - shift
        # Branch-free on purpose: the compiler then treats eight pixels at a time.
        out = np.uint8(d * d > limit * open_up * open_up) & np.uint8(count[k] > 0) & present[k]
        codes[k] = out + (out & np.uint8(d > zero))
        rejected += np.int64(out)
    return rejected


@njit(nogil=True, cache=True, error_model="numpy")
def accumulate_strip(frame, w, reject, limits, planes, y_first, y_last, row_above, row_below, codes):
    """Rows y_first..y_last of one channel: sample the frame, normalise, test, accumulate with weight `w`.

    Parameters
    ----------
    frame, limits, planes : see `sample_rows`.
    row_above, row_below : copies of the mean's rows next to the strip, as they were before this frame.
    codes : (y_last - y_first, W) uint8, filled.

    Returns
    -------
    (samples with data, samples rejected)
    """
    mean, m2, weight, count, low, high = planes
    width = mean.shape[1]
    values = np.empty(width, dtype=np.float32)
    offsets = np.empty(width, dtype=np.float32)
    present = np.empty(width, dtype=np.uint8)
    spread = np.empty(width, dtype=np.float32)
    curve = np.empty(width, dtype=np.float32)
    low_scratch = np.empty(width, dtype=np.float32)
    high_scratch = np.empty(width, dtype=np.float32)
    previous = row_above.copy()
    current = np.empty(width, dtype=np.float32)
    seen = 0
    rejected = 0
    for y in range(y_first, y_last):
        here = lay_row(frame, y, values, offsets, present)
        seen += here
        line = codes[y - y_first]
        if reject:
            for k in range(width):
                current[k] = mean[y, k]
            if here > 0:
                below = mean[y + 1] if y + 1 < y_last else row_below
                local_shape_row(previous, current, below, spread, curve, low_scratch, high_scratch)
                row = (mean[y], m2[y], weight[y], count[y], low[y], high[y])
                out = test_row(values, present, row, spread, curve, limits, line)
                if out > 0:
                    rejected += out
                    count_row(line, low[y], high[y])
            else:
                line[:] = ACCEPTED
            previous, current = current, previous
        else:
            line[:] = ACCEPTED
        if here > 0:
            add_row(values, present, line, w, mean[y], m2[y], weight[y], count[y])
    return seen, rejected


@njit(nogil=True, cache=True, error_model="numpy")
def remove_row(values, present, codes, w, mean, m2, weight, count):
    """Undo `add_row`: the stack as if these samples had never come."""
    n = values.shape[0]
    for k in range(n):
        if present[k] == 1 and codes[k] == ACCEPTED and count[k] > 0:
            left = weight[k] - w
            if count[k] == 1 or left <= np.float32(1e-6) * w:
                mean[k] = 0.0
                m2[k] = 0.0
                weight[k] = 0.0
                count[k] = 0
            else:
                d = values[k] - mean[k]
                m = mean[k] - d * (w / left)
                # a sample alone has no scatter: no rounding may leave it any
                m2[k] = max(m2[k] - w * d * (values[k] - m), np.float32(0.0)) if count[k] > 2 else np.float32(0.0)
                mean[k] = m
                weight[k] = left
                count[k] -= np.uint16(1)


@njit(nogil=True, cache=True, error_model="numpy")
def remove_strip(frame, w, planes, y_first, y_last, codes):
    """Undo `accumulate_strip` for a frame whose `codes` (y_last - y_first, W) are known."""
    mean, m2, weight, count, low, high = planes
    width = mean.shape[1]
    values = np.empty(width, dtype=np.float32)
    offsets = np.empty(width, dtype=np.float32)
    present = np.empty(width, dtype=np.uint8)
    for y in range(y_first, y_last):
        if lay_row(frame, y, values, offsets, present) > 0:
            line = codes[y - y_first]
            remove_row(values, present, line, w, mean[y], m2[y], weight[y], count[y])
            for k in range(width):
                if line[k] == LOW and low[y, k] > 0:
                    low[y, k] -= np.uint16(1)
                elif line[k] == HIGH and high[y, k] > 0:
                    high[y, k] -= np.uint16(1)


@njit(nogil=True, cache=True, error_model="numpy")
def maximum_strip(frame, best, weight, count, y_first, y_last):
    """Largest sample so far (star trails); the first one counts as such. Returns the number of samples with data."""
    width = best.shape[1]
    values = np.empty(width, dtype=np.float32)
    offsets = np.empty(width, dtype=np.float32)
    present = np.empty(width, dtype=np.uint8)
    seen = 0
    for y in range(y_first, y_last):
        seen += lay_row(frame, y, values, offsets, present)
        for k in range(width):
            if present[k]:
                if count[y, k] == 0 or values[k] > best[y, k]:
                    best[y, k] = values[k]
                weight[y, k] = np.float32(1.0)
                if count[y, k] < MOST:
                    count[y, k] += np.uint16(1)
    return seen


@njit(nogil=True, cache=True, error_model="numpy")
def merge_rows(mean, m2, weight, count, low, high, mean_b, m2_b, weight_b, count_b, low_b, high_b, row0, row1):
    """Add accumulators b to a, exactly (Chan, Golub & LeVeque 1979), rows row0..row1 of (H, W) arrays."""
    for y in range(row0, row1):
        for x in range(mean.shape[1]):
            wb = weight_b[y, x]
            if wb > 0:
                wa = weight[y, x]
                total = wa + wb
                d = mean_b[y, x] - mean[y, x]
                mean[y, x] += d * (wb / total)
                m2[y, x] += m2_b[y, x] + d * d * (wa * (wb / total))
                weight[y, x] = total
                count[y, x] = min(65535, np.int64(count[y, x]) + np.int64(count_b[y, x]))
            low[y, x] = min(65535, np.int64(low[y, x]) + np.int64(low_b[y, x]))
            high[y, x] = min(65535, np.int64(high[y, x]) + np.int64(high_b[y, x]))
