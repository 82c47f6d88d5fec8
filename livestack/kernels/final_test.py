"""The final pass: each sample of a frame against the finished stack without it."""

from __future__ import annotations

import numpy as np
from numba import njit

from livestack.kernels.sample_rows import ACCEPTED, add_row, count_row, lay_row, local_shape_row, predict


@njit(nogil=True, cache=True, error_model="numpy")
def final_strip(frame, w, limits, finished, live_codes, fresh, y_first, y_last, row_above, row_below, codes):
    """The final pass: test each sample against the finished stack without itself, accumulate into a fresh one.

    Parameters
    ----------
    frame, limits : see `sample_rows`; finished, fresh : planes, see there; of the finished one only the first four.
    live_codes : (rows, W), which samples of this frame the finished stack holds (ACCEPTED); those are taken out.
    row_above, row_below : the finished mean's rows next to the strip.
    codes : (y_last - y_first, W) uint8, filled.

    Returns
    -------
    (samples with data, samples rejected)
    """
    mean_t, m2_t, weight_t, count_t = finished
    mean, m2, weight, count, low, high = fresh
    kappa2, dof, floor, slope = limits[0], limits[1], limits[2], limits[3]
    structure2, excess2, blur, louder = limits[4], limits[5], limits[6], limits[7]
    width = mean.shape[1]
    values = np.empty(width, dtype=np.float32)
    offsets = np.empty(width, dtype=np.float32)
    present = np.empty(width, dtype=np.uint8)
    spread = np.empty(width, dtype=np.float32)
    curve = np.empty(width, dtype=np.float32)
    scratch_a = np.empty(width, dtype=np.float32)
    scratch_b = np.empty(width, dtype=np.float32)
    one = np.float32(1.0)
    zero = np.float32(0.0)
    tiny = np.float32(1e-20)
    seen = 0
    rejected = 0
    for y in range(y_first, y_last):
        here = lay_row(frame, y, values, offsets, present)
        line = codes[y - y_first]
        if here == 0:
            line[:] = ACCEPTED
            continue
        seen += here
        above = mean_t[y - 1] if y > y_first else row_above
        below = mean_t[y + 1] if y + 1 < y_last else row_below
        local_shape_row(above, mean_t[y], below, spread, curve, scratch_a, scratch_b)
        live = live_codes[y - y_first]
        mt = mean_t[y]
        qt = m2_t[y]
        wt = weight_t[y]
        ct = count_t[y]
        out_here = 0
        for k in range(width):
            x = values[k]
            inside = np.float32(1.0) if live[k] == 0 else zero
            wi = w * inside
            n_all = np.float32(ct[k])
            n = n_all - inside
            left = wt[k] - wi
            d_all = x - mt[k]
            # mean and squares without this sample
            d = d_all * wt[k] / max(left, tiny) if inside > zero else d_all
            squares_w = max(qt[k] - wi * d_all * d, zero)
            squares = louder * squares_w * n / max(left, tiny)
            shift, limit = predict(
                mt[k], squares, max(n, one), spread[k], curve[k], kappa2, dof, floor, slope, structure2, excess2, blur
            )
            d -= shift
            out = np.uint8(d * d > limit) & np.uint8(n > np.float32(1.5)) & present[k]
            line[k] = out + (out & np.uint8(d > zero))
            out_here += np.int64(out)
        if out_here > 0:
            rejected += out_here
            count_row(line, low[y], high[y])
        add_row(values, present, line, w, mean[y], m2[y], weight[y], count[y])
    return seen, rejected
