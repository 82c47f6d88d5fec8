"""The robust start: the frames of the warm-up combined pixel by pixel, from median and MAD, then leaving one out."""

from __future__ import annotations

import numpy as np
from numba import njit

from livestack.kernels.resample import sample_row
from livestack.kernels.sample_rows import ACCEPTED, BEND_ERROR, BEND_NOISE, CONSISTENCY, HIGH, LOW, offset_row, predict


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
