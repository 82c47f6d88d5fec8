"""The accumulators: warp, normalise, test and accumulate one frame, a row at a time, each array touched once.

Weighted running mean and sum of squares after West (1979, doi:10.1145/359146.359153). The prediction limit with a
moderated variance is explained in `stacking.accumulators`. All values are relative to the stack's origin (the
reference's sky), so that float32 stays accurate over tens of thousands of frames.
"""

from __future__ import annotations

import numpy as np
from numba import njit

from livestack.kernels.resample import sample_row

ACCEPTED, LOW, HIGH = 0, 1, 2
"""Codes a sample gets; also ACCEPTED where there was no data."""

MOST = np.uint16(65535)
"""Counts stop here."""

CONSISTENCY = 0.985
"""Variance that clipping a normal distribution at 3.3 sigma leaves (about; 0.9850 at 3.0, 0.9951 at 3.3)."""


BEND_NOISE = np.float32(12.0)
"""Variance of the mean's Laplacian over that of the mean; 20 for white noise, less after interpolation."""

BEND_ERROR = np.float32(0.1)
"""Variance of the expected change by seeing over its square: a PSF is no Gaussian, and a Laplacian no differential."""


@njit(nogil=True, cache=True, error_model="numpy")
def offset_row(coefficients, ruler, x_first, y, out):
    """Cubic surface along a row: out[k] = p(u, v) at pixel (x_first + k, y); powers of u and v up to total three.

    Parameters
    ----------
    coefficients : (10,) float64.
    ruler : (8,) float64, u of column 0 and its step, v of row 0 and its step, then the least and largest u and v at
        which the surface is known: beyond them it keeps its value.
    """
    c = coefficients
    v = min(max(ruler[2] + y * ruler[3], ruler[6]), ruler[7])
    a0 = c[0] + v * (c[2] + v * (c[5] + v * c[9]))
    a1 = c[1] + v * (c[4] + v * c[8])
    a2 = c[3] + v * c[7]
    a3 = c[6]
    b0 = np.float32(a0)
    b1 = np.float32(a1)
    b2 = np.float32(a2)
    b3 = np.float32(a3)
    f0 = np.float32(ruler[0] + x_first * ruler[1])
    fd = np.float32(ruler[1])
    least = np.float32(ruler[4])
    largest = np.float32(ruler[5])
    for k in range(out.shape[0]):
        u = min(max(f0 + np.float32(k) * fd, least), largest)
        out[k] = ((b3 * u + b2) * u + b1) * u + b0


@njit(nogil=True, cache=True, error_model="numpy")
def local_shape_row(above, row, below, spread, curve, scratch_low, scratch_high):
    """Largest minus smallest of the 3 x 3 neighbourhood, and the Laplacian, along a row; the rows' ends repeat."""
    n = row.shape[0]
    for k in range(n):
        a = above[k]
        b = row[k]
        c = below[k]
        scratch_low[k] = min(min(a, b), c)
        scratch_high[k] = max(max(a, b), c)
    for k in range(1, n - 1):
        low = min(min(scratch_low[k - 1], scratch_low[k]), scratch_low[k + 1])
        high = max(max(scratch_high[k - 1], scratch_high[k]), scratch_high[k + 1])
        spread[k] = high - low
        curve[k] = (above[k] + below[k]) + (row[k - 1] + row[k + 1]) - np.float32(4.0) * row[k]
    for k in (0, n - 1):
        left = max(k - 1, 0)
        right = min(k + 1, n - 1)
        spread[k] = max(scratch_high[left], scratch_high[right]) - min(scratch_low[left], scratch_low[right])
        curve[k] = (above[k] + below[k]) + (row[left] + row[right]) - np.float32(4.0) * row[k]


@njit(nogil=True, cache=True, error_model="numpy")
def predict(m, squares, n, spread, curve, kappa2, dof, floor, slope, structure2, excess2, blur):
    """Where a sample is expected relative to the mean, and how far from there it may lie, squared.

    Parameters
    ----------
    m, squares, n : mean, unweighted sum of squares about it and number (at least 1) of the samples so far.
    spread, curve : 3 x 3 range and Laplacian of the mean.
    structure2, excess2 : (share of the range)^2 that the noise model, and this frame alone, is allowed around stars.
    blur : a frame with wider stars is expected to be the mean plus blur times its Laplacian.
    """
    one = np.float32(1.0)
    zero = np.float32(0.0)
    range2 = spread * spread
    model = floor + slope * max(m, zero) + structure2 * range2
    s2 = (dof * model + squares * np.float32(1.0 / CONSISTENCY)) / (dof + max(n - one, zero))
    # the Laplacian is noisy itself: believed by what it is over its own variance
    bend2 = curve * curve
    own = s2 / n
    shift = blur * curve * (bend2 / (bend2 + BEND_NOISE * own + np.float32(1e-20)))
    limit = kappa2 * (s2 + own + excess2 * range2 + BEND_ERROR * shift * shift)
    return shift, limit


@njit(nogil=True, cache=True, error_model="numpy")
def normalise_row(values, factor, offsets, present):
    """values = factor * values + offsets in place; returns how many are data; `present` gets 1 or 0."""
    n = values.shape[0]
    total = 0
    for k in range(n):
        v = values[k] * factor + offsets[k]
        finite = abs(v) < np.float32(3e38)
        present[k] = 1 if finite else 0
        values[k] = v if finite else np.float32(0.0)
        total += 1 if finite else 0
    return total


@njit(nogil=True, cache=True, error_model="numpy")
def test_row(
    values,
    present,
    mean,
    m2,
    weight,
    count,
    low,
    high,
    spread,
    curve,
    kappa2,
    dof,
    floor,
    slope,
    structure2,
    excess2,
    blur,
    codes,
):
    """Prediction limit: codes = LOW or HIGH where a sample is not believed. Returns the number rejected.

    Parameters
    ----------
    kappa2 : limit squared; dof : samples that the noise model is worth; floor, slope : its variance a + b max(mean, 0);
    the others as in `predict`.
    """
    n = values.shape[0]
    rejected = 0
    one = np.float32(1.0)
    zero = np.float32(0.0)
    for k in range(n):
        m = mean[k]
        c = np.float32(count[k])
        safe_count = max(c, one)
        squares = m2[k] * safe_count / max(weight[k], np.float32(1e-20))
        shift, limit = predict(
            m, squares, safe_count, spread[k], curve[k], kappa2, dof, floor, slope, structure2, excess2, blur
        )
        # Where most samples have been refused the pixel, not the sky, is wrong: open the limit until truth gets in.
        refused = np.float32(low[k]) + np.float32(high[k])
        doubt = min(max(refused / (c + one) - np.float32(0.35), zero), np.float32(8.0))
        doubt4 = doubt * doubt * doubt * doubt
        open_up = one + np.float32(4.0) * doubt + doubt4 * doubt4
        d = values[k] - m - shift
        # Branch-free on purpose: the compiler then treats eight pixels at a time.
        out = np.uint8(d * d > limit * open_up * open_up) & np.uint8(count[k] > 0) & present[k]
        codes[k] = out + (out & np.uint8(d > zero))
        rejected += np.int64(out)
    return rejected


@njit(nogil=True, cache=True, error_model="numpy")
def add_row(values, present, codes, w, mean, m2, weight, count):
    """Accumulate the accepted samples of one row with weight `w`."""
    n = values.shape[0]
    np.float32(0.0)
    for k in range(n):
        use = present[k] & np.uint8(codes[k] == ACCEPTED)
        wk = w * np.float32(use)
        total = weight[k] + wk
        d = values[k] - mean[k]
        m = mean[k] + d * (wk / max(total, np.float32(1e-20)))
        m2[k] += wk * d * (values[k] - m)
        mean[k] = m
        weight[k] = total
        count[k] += np.uint16(use & np.uint8(count[k] < MOST))


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
def count_row(codes, low, high):
    """Count the rejected samples of one row."""
    for k in range(codes.shape[0]):
        low[k] += np.uint16(np.uint8(codes[k] == LOW) & np.uint8(low[k] < MOST))
        high[k] += np.uint16(np.uint8(codes[k] == HIGH) & np.uint8(high[k] < MOST))


@njit(nogil=True, cache=True, error_model="numpy")
def accumulate_strip(
    source,
    inverse,
    factor,
    coefficients,
    ruler,
    w,
    reject,
    kappa2,
    dof,
    floor,
    slope,
    structure2,
    excess2,
    blur,
    mean,
    m2,
    weight,
    count,
    low,
    high,
    y_first,
    y_last,
    row_above,
    row_below,
    codes,
):
    """Rows y_first..y_last of one channel: sample the frame, normalise, test, accumulate.

    Parameters
    ----------
    source : (h, w) float32, one channel of the frame; inverse : from the canvas to it, see `resample.sample_row`.
    factor, coefficients, ruler : brightness factor and the additive surface, see `offset_row`.
    row_above, row_below : copies of the mean's rows next to the strip, as they were before this frame.
    codes : (y_last - y_first, W) uint8, filled.

    Returns
    -------
    (samples with data, samples rejected)
    """
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
        sample_row(source, inverse, float(y), 0.0, values)
        offset_row(coefficients, ruler, 0.0, float(y), offsets)
        here = normalise_row(values, factor, offsets, present)
        seen += here
        line = codes[y - y_first]
        if reject:
            for k in range(width):
                current[k] = mean[y, k]
            if here > 0:
                below = mean[y + 1] if y + 1 < y_last else row_below
                local_shape_row(previous, current, below, spread, curve, low_scratch, high_scratch)
                out = test_row(
                    values,
                    present,
                    mean[y],
                    m2[y],
                    weight[y],
                    count[y],
                    low[y],
                    high[y],
                    spread,
                    curve,
                    kappa2,
                    dof,
                    floor,
                    slope,
                    structure2,
                    excess2,
                    blur,
                    line,
                )
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
def remove_strip(
    source,
    inverse,
    factor,
    coefficients,
    ruler,
    w,
    mean,
    m2,
    weight,
    count,
    low,
    high,
    y_first,
    y_last,
    codes,
):
    """Undo `accumulate_strip` for a frame whose `codes` (y_last - y_first, W) are known."""
    width = mean.shape[1]
    values = np.empty(width, dtype=np.float32)
    offsets = np.empty(width, dtype=np.float32)
    present = np.empty(width, dtype=np.uint8)
    for y in range(y_first, y_last):
        sample_row(source, inverse, float(y), 0.0, values)
        offset_row(coefficients, ruler, 0.0, float(y), offsets)
        if normalise_row(values, factor, offsets, present) > 0:
            line = codes[y - y_first]
            remove_row(values, present, line, w, mean[y], m2[y], weight[y], count[y])
            for k in range(width):
                if line[k] == LOW and low[y, k] > 0:
                    low[y, k] -= np.uint16(1)
                elif line[k] == HIGH and high[y, k] > 0:
                    high[y, k] -= np.uint16(1)


@njit(nogil=True, cache=True, error_model="numpy")
def normalised_tile(source, inverse, factor, coefficients, ruler, y_first, x_first, out):
    """Sample a frame over a tile of the reference grid and normalise it; NaN where there is no data."""
    height, width = out.shape
    offsets = np.empty(width, dtype=np.float32)
    for j in range(height):
        sample_row(source, inverse, float(y_first + j), float(x_first), out[j])
        offset_row(coefficients, ruler, float(x_first), float(y_first + j), offsets)
        for k in range(width):
            out[j, k] = out[j, k] * factor + offsets[k]


@njit(nogil=True, cache=True, error_model="numpy")
def _sorted_finite(cube, j, i, values):
    """Insertion-sort the finite samples of one pixel into `values`; returns their number."""
    n = 0
    for k in range(cube.shape[0]):
        v = cube[k, j, i]
        if abs(v) < np.float32(3e38):
            p = n
            while p > 0 and values[p - 1] > v:
                values[p] = values[p - 1]
                p -= 1
            values[p] = v
            n += 1
    return n


@njit(nogil=True, cache=True, error_model="numpy")
def _exchange(one, other):
    """The smaller values into the first row, the larger into the second."""
    for i in range(one.size):
        x, y = one[i], other[i]
        one[i] = x if x < y else y
        other[i] = y if x < y else x


@njit(nogil=True, cache=True, error_model="numpy")
def _sort_columns(rows):
    """Sort each column of (K, w): odd-even transposition, a whole row at a time, so that it vectorises."""
    frames = rows.shape[0]
    for turn in range(frames):
        for k in range(turn & 1, frames - 1, 2):
            _exchange(rows[k], rows[k + 1])


@njit(nogil=True, cache=True, error_model="numpy")
def median_and_mad(cube, median, mad):
    """Median and MAD (times 1.4826) along the first axis of (K, h, w); NaN left out, 0 and 0 where nothing is left."""
    frames, height, width = cube.shape
    rows = np.empty((frames, width), dtype=np.float32)
    whole = np.empty(width, dtype=np.uint8)
    for j in range(height):
        whole[:] = 1 if frames > 2 else 0
        for k in range(frames):
            for i in range(width):
                v = cube[k, j, i]
                finite = abs(v) < np.float32(3e38)
                whole[i] &= np.uint8(finite)
                rows[k, i] = v if finite else np.float32(0)
        _sort_columns(rows)
        half = frames // 2
        for i in range(width):
            m = rows[half, i] if frames % 2 == 1 else np.float32(0.5) * (rows[half - 1, i] + rows[half, i])
            median[j, i] = m
        for k in range(frames):
            for i in range(width):
                rows[k, i] = abs(rows[k, i] - median[j, i])
        _sort_columns(rows)
        for i in range(width):
            d = rows[half, i] if frames % 2 == 1 else np.float32(0.5) * (rows[half - 1, i] + rows[half, i])
            mad[j, i] = np.float32(1.4826) * d
        for i in range(width):
            if not whole[i]:
                median[j, i], mad[j, i] = _median_and_mad_at(cube, j, i)


@njit(nogil=True, cache=True, error_model="numpy")
def _median_and_mad_at(cube, j, i):
    """Of one pixel some of whose samples may be missing."""
    frames = cube.shape[0]
    values = np.empty(frames, dtype=np.float32)
    deviations = np.empty(frames, dtype=np.float32)
    n = _sorted_finite(cube, j, i, values)
    if n == 0:
        return np.float32(0), np.float32(0)
    # of two samples the lower: what disturbs a frame nearly always adds light
    m = values[n // 2] if n % 2 == 1 else np.float32(0.5) * (values[n // 2 - 1] + values[n // 2])
    if n == 2:
        m = values[0]
    # the deviations from the middle of sorted values are two sorted runs: merge half of them
    left = 0
    while left < n and values[left] < m:
        left += 1
    right = left
    left -= 1
    for t in range(n // 2 + 1):
        dl = m - values[left] if left >= 0 else np.float32(3e38)
        dr = values[right] - m if right < n else np.float32(3e38)
        if dl < dr:
            deviations[t] = dl
            left -= 1
        else:
            deviations[t] = dr
            right += 1
    h = n // 2
    d = deviations[h] if n % 2 == 1 else np.float32(0.5) * (deviations[h - 1] + deviations[h])
    return m, np.float32(1.4826) * d


@njit(nogil=True, cache=True, error_model="numpy")
def _all_agree(
    cube,
    j,
    i,
    median,
    mad,
    spread,
    curve,
    weights,
    total,
    floor,
    slope,
    structure2,
    blur,
    share,
    kappa,
    dof,
):
    """True when no sample of a pixel can be out by any of `combine_tile`'s tests: told of most pixels, and faster.

    floor, slope, blur : the least, the least and the largest of all frames; share : largest w / (total - w). Every
    bound is on the safe side, so that the answer True changes nothing but the time.
    """
    frames = cube.shape[0]
    bend2 = curve * curve
    first = 0.0
    farthest = 0.0
    for k in range(frames):
        x = float(cube[k, j, i])
        first += weights[k] * x
        farthest = max(farthest, abs(x - median))
    structure = structure2 * spread * spread
    worth = float(frames) if frames >= 4 else 0.0
    s2 = (dof * (floor + slope * max(median, 0.0) + structure) + worth * mad * mad) / (dof + worth)
    reach = blur * abs(curve) * (bend2 / (bend2 + BEND_NOISE * s2 / frames + 1e-20))
    # (a comparison with NaN is False)
    if not (farthest + reach) ** 2 <= 0.999 * kappa * kappa * s2:
        return False
    centre = first / total
    squares = 0.0
    farthest = 0.0
    for k in range(frames):
        away = abs(float(cube[k, j, i]) - centre)
        squares += away * away
        farthest = max(farthest, away)
    alone = farthest * (1.0 + share)  # from the mean of the others
    rest = max(0.0, squares - farthest * alone)
    model = floor + slope * max(centre - share * farthest, 0.0) + structure
    s2 = (dof * model + rest / CONSISTENCY) / (dof + frames - 2)
    reach = blur * abs(curve) * (bend2 / (bend2 + BEND_NOISE * s2 / frames + 1e-20))
    return (alone + reach) ** 2 <= 0.999 * kappa * kappa * s2


@njit(nogil=True, cache=True, error_model="numpy")
def combine_tile(
    cube,
    median,
    mad,
    local_range,
    local_curve,
    weights,
    floors,
    slopes,
    structure2,
    excesses2,
    blurs,
    excesses_median2,
    blurs_median,
    kappa,
    dof,
    reject,
    mean,
    m2,
    weight,
    count,
    low,
    high,
    codes,
):
    """Robust start: combine (K, h, w) samples, clipping from median and MAD, then iterating leave-one-out.

    Parameters
    ----------
    median, mad, local_range, local_curve : (h, w) of the cube.
    weights, floors, slopes, excesses2, blurs : (K,) per frame, against the mean and (..._median) against the median.
    mean, m2, weight, count, low, high : (h, w), filled; codes : (K, h, w) uint8, filled.
    """
    frames, height, width = cube.shape
    use = np.empty(frames, dtype=np.uint8)
    everything = float(weights.sum())
    share = 0.0
    widest = 0.0
    for k in range(frames):
        share = max(share, weights[k] / max(everything - weights[k], 1e-12))
        widest = max(widest, abs(blurs[k]), abs(blurs_median[k]))
    least_floor, least_slope = float(floors.min()), float(slopes.min())
    for j in range(height):
        for i in range(width):
            n = 0
            for k in range(frames):
                use[k] = 1 if abs(cube[k, j, i]) < np.float32(3e38) else 0
                codes[k, j, i] = ACCEPTED
                n += use[k]
            low[j, i] = 0
            high[j, i] = 0
            if n == 0:
                mean[j, i] = 0.0
                m2[j, i] = 0.0
                weight[j, i] = 0.0
                count[j, i] = 0
                continue
            spread = float(local_range[j, i])
            curve = float(local_curve[j, i])
            doubt = reject and n >= 2
            if doubt and n == frames and frames >= 3:
                doubt = not _all_agree(
                    cube,
                    j,
                    i,
                    float(median[j, i]),
                    float(mad[j, i]),
                    spread,
                    curve,
                    weights,
                    everything,
                    least_floor,
                    least_slope,
                    structure2,
                    widest,
                    share,
                    kappa,
                    dof,
                )
            if doubt:
                centre = float(median[j, i])
                level = max(centre, 0.0)
                s_mad = float(mad[j, i]) ** 2 if n >= 4 else 0.0
                worth = float(n) if n >= 4 else 0.0
                for k in range(frames):
                    x = cube[k, j, i]
                    if abs(x) < np.float32(3e38):
                        model = floors[k] + slopes[k] * level + structure2 * spread * spread
                        s2 = (dof * model + worth * s_mad) / (dof + worth)
                        shift = (
                            blurs_median[k]
                            * curve
                            * (curve * curve / (curve * curve + BEND_NOISE * 1.57 * s2 / n + 1e-20))
                        )
                        limit2 = (
                            kappa
                            * kappa
                            * (
                                s2 * (1.0 + 1.57 / n)
                                + excesses_median2[k] * spread * spread
                                + BEND_ERROR * shift * shift
                            )
                        )
                        use[k] = 1 if (x - centre - shift) ** 2 <= limit2 else 0
                for _ in range(frames):
                    total = 0.0
                    first = 0.0
                    taken = 0
                    for k in range(frames):
                        if use[k]:
                            total += weights[k]
                            first += weights[k] * cube[k, j, i]
                            taken += 1
                    if taken == 0:
                        break
                    centre = first / total
                    squares = 0.0
                    for k in range(frames):
                        if use[k]:
                            squares += (cube[k, j, i] - centre) ** 2
                    changed = False
                    for k in range(frames):
                        x = cube[k, j, i]
                        if not abs(x) < np.float32(3e38):
                            continue
                        others = taken
                        c = centre
                        q = squares
                        if use[k]:
                            others = taken - 1
                            if others == 0:
                                continue
                            c = (first - weights[k] * x) / (total - weights[k])
                            q = max(0.0, squares - (x - centre) * (x - c))
                        shift, limit2 = predict(
                            c,
                            q,
                            float(others),
                            spread,
                            curve,
                            kappa * kappa,
                            dof,
                            floors[k],
                            slopes[k],
                            structure2,
                            excesses2[k],
                            blurs[k],
                        )
                        keep = 1 if (x - c - shift) ** 2 <= limit2 else 0
                        if keep != use[k]:
                            changed = True
                            use[k] = keep
                            break
                    if not changed:
                        break
            total = 0.0
            first = 0.0
            taken = 0
            for k in range(frames):
                if use[k]:
                    total += weights[k]
                    first += weights[k] * cube[k, j, i]
                    taken += 1
            if taken == 0:
                # Nothing agrees with anything: keep all rather than invent a hole.
                for k in range(frames):
                    use[k] = 1 if abs(cube[k, j, i]) < np.float32(3e38) else 0
                    if use[k]:
                        total += weights[k]
                        first += weights[k] * cube[k, j, i]
                        taken += 1
            centre = first / total
            squares = 0.0
            for k in range(frames):
                x = cube[k, j, i]
                if use[k]:
                    squares += weights[k] * (x - centre) ** 2
                elif abs(x) < np.float32(3e38):
                    if x > centre:
                        codes[k, j, i] = HIGH
                        high[j, i] += np.uint16(1)
                    else:
                        codes[k, j, i] = LOW
                        low[j, i] += np.uint16(1)
            mean[j, i] = centre
            m2[j, i] = squares
            weight[j, i] = total
            count[j, i] = taken


@njit(nogil=True, cache=True, error_model="numpy")
def local_shape_tile(image, spread, curve):
    """3 x 3 range and Laplacian of (h, w); the edges repeat."""
    height, width = image.shape
    a = np.empty(width, dtype=np.float32)
    b = np.empty(width, dtype=np.float32)
    for j in range(height):
        local_shape_row(image[max(j - 1, 0)], image[j], image[min(j + 1, height - 1)], spread[j], curve[j], a, b)


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


@njit(nogil=True, cache=True, error_model="numpy")
def final_strip(
    source,
    inverse,
    factor,
    coefficients,
    ruler,
    w,
    kappa2,
    dof,
    floor,
    slope,
    structure2,
    excess2,
    blur,
    mean_t,
    m2_t,
    weight_t,
    count_t,
    live_codes,
    mean,
    m2,
    weight,
    count,
    low,
    high,
    y_first,
    y_last,
    row_above,
    row_below,
    codes,
):
    """The final pass: test each sample against the finished stack (*_t) without itself, accumulate into a fresh one.

    `live_codes` (rows, W) tell which samples of this frame the finished stack holds (ACCEPTED); those are taken out.
    """
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
        sample_row(source, inverse, float(y), 0.0, values)
        offset_row(coefficients, ruler, 0.0, float(y), offsets)
        here = normalise_row(values, factor, offsets, present)
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
            squares = squares_w * n / max(left, tiny)
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


@njit(nogil=True, cache=True, error_model="numpy")
def maximum_strip(source, inverse, factor, coefficients, ruler, best, weight, count, y_first, y_last):
    """Largest sample so far (star trails); the first one counts as such. Returns the number of samples with data."""
    width = best.shape[1]
    values = np.empty(width, dtype=np.float32)
    offsets = np.empty(width, dtype=np.float32)
    present = np.empty(width, dtype=np.uint8)
    seen = 0
    for y in range(y_first, y_last):
        sample_row(source, inverse, float(y), 0.0, values)
        offset_row(coefficients, ruler, 0.0, float(y), offsets)
        seen += normalise_row(values, factor, offsets, present)
        for k in range(width):
            if present[k]:
                if count[y, k] == 0 or values[k] > best[y, k]:
                    best[y, k] = values[k]
                weight[y, k] = np.float32(1.0)
                if count[y, k] < MOST:
                    count[y, k] += np.uint16(1)
    return seen
