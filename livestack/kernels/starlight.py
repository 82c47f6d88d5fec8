"""Stars that change: samples that were refused although they are a star's own light, brighter or fainter than before.

A star that fades or flares in a frame shows its whole profile, scaled. Around a peak of the mean on which samples were
refused, the scale is fitted to all of the star's samples at once; where the scaled profile explains how they differ
from the mean, they are tested against it instead. A cosmic ray, a hot pixel or a trail has another shape than the star,
and stays refused. What the arguments hold is said in `sample_rows`.
"""

from __future__ import annotations

import math

import numpy as np
from numba import njit

from livestack.kernels.robust_start import normalised_tile
from livestack.kernels.sample_rows import MOST, local_shape_tile, predict

REACH = 20
"""Pixels around a peak that are looked at, at most."""
WIDEST = 6.0
"""px; half the FWHM of the widest star."""
CLEAR = 4.0
"""A star's peak has to be so many sigma of a sample above its surroundings."""
FAINT = 0.7
"""Sigma of a sample that a star's light has to reach where its change is refused: else it would flare fivefold."""
RADIUS = 2.6
"""The star's samples lie within so many times half its FWHM."""
LEAST_SAMPLES = 12
SURE = 36.0
"""Chi squared by which the scaled profile has to be better than the mean."""
UNEXPLAINED = 0.12
"""Share of what is beyond noise that the scaled profile may leave: trails and hits on a star leave half and more."""
SHAPE_ERROR2 = 0.1**2
"""Of the light that has come or gone, how much may lie beside the profile, squared."""


@njit(nogil=True, cache=True, error_model="numpy")
def climb(entries, first_flat, mean, weight, floor, slope, peaks):
    """For each refused sample the peak of the mean that it lies on, as flat index, or -1 where none stands out.

    Parameters
    ----------
    entries : (n,) int64, flat index * 2 + high; those of this channel begin at flat index `first_flat`.
    peaks : (n,) int64, filled.
    """
    height, width = mean.shape
    for e in range(entries.shape[0]):
        flat = (entries[e] >> 1) - first_flat
        y, x = flat // width, flat % width
        peaks[e] = -1
        m = mean[y, x]
        # most of a trail lies on the sky, where no star's change reaches
        if m <= 0 or m * m < FAINT * FAINT * (floor + slope * m):
            continue
        for _ in range(REACH):
            if y < 1 or x < 1 or y >= height - 1 or x >= width - 1:
                break
            best, by, bx = mean[y, x], y, x
            for j in range(y - 1, y + 2):
                for i in range(x - 1, x + 2):
                    if weight[j, i] > 0 and mean[j, i] > best:
                        best, by, bx = mean[j, i], j, i
            if by == y and bx == x:
                if best * best > CLEAR * CLEAR * (floor + slope * best) and best > 0:
                    peaks[e] = y * width + x
                break
            y, x = by, bx


@njit(nogil=True, cache=True, error_model="numpy")
def _ring(mean, weight, y, x, radius):
    """Median of the mean around a peak; NaN where much of it is unknown."""
    height, width = mean.shape
    values = np.empty(24)
    n = 0
    for k in range(24):
        j = y + round(radius * math.sin(k * math.pi / 12))
        i = x + round(radius * math.cos(k * math.pi / 12))
        if 0 <= j < height and 0 <= i < width and weight[j, i] > 0:
            values[n] = mean[j, i]
            n += 1
    return np.median(values[:n]) if n >= 16 else np.nan


@njit(nogil=True, cache=True, error_model="numpy")
def _half_width(mean, y, x, around):
    """Half of the FWHM of a peak, px, by the four directions; NaN where it is no star."""
    height, width = mean.shape
    half = 0.5 * (mean[y, x] - around)
    total = 0.0
    for k in range(4):
        dy, dx = (0, 0, 1, -1)[k], (1, -1, 0, 0)[k]
        before = mean[y, x] - around
        step = 0
        while True:
            step += 1
            j, i = y + dy * step, x + dx * step
            if step > WIDEST or j < 0 or i < 0 or j >= height or i >= width:
                return np.nan
            here = mean[j, i] - around
            if here < half:
                total += step - 1 + (before - half) / max(before - here, 1e-12)
                break
            before = here
    return 0.25 * total


@njit(nogil=True, cache=True, error_model="numpy")
def _code(entries, restored, flat):
    """Position of a refused sample in `entries`, or -1 where it was not refused, or was taken back."""
    low, high = 0, entries.shape[0]
    while low < high:
        middle = (low + high) // 2
        if (entries[middle] >> 1) < flat:
            low = middle + 1
        else:
            high = middle
    if low < entries.shape[0] and (entries[low] >> 1) == flat and restored[low] == 0:
        return low
    return -1


@njit(nogil=True, cache=True, error_model="numpy")
def restore_stars(frame, w, limits, template, fresh, first_flat, entries, restored, live, live_restored, peaks):
    """Take back what was refused of stars that have only changed their brightness; returns the number of samples.

    Parameters
    ----------
    frame, limits : see `sample_rows`; w : the frame's weight.
    template : mean, m2, weight, count that samples are tested against; fresh : planes that they are added to.
    entries, live : (n,) sorted, refused samples of this frame, as told by the test, and those that the template does
        not hold; flat indices of this channel begin at `first_flat`.
    restored, live_restored : (n,) uint8, 1 = taken back; the first is filled. Where `template` is `fresh` both are one.
    peaks : (m,) sorted flat indices within the channel.
    """
    mean_t, m2_t, weight_t, count_t = template
    mean, m2, weight, count, low, high = fresh
    source, inverse, factor, coefficients, ruler = frame
    kappa2, dof, floor, slope = limits[0], limits[1], limits[2], limits[3]
    structure2, excess2, blur, louder = limits[4], limits[5], limits[6], limits[7]
    height, width = mean_t.shape
    one, zero, tiny = np.float32(1.0), np.float32(0.0), np.float32(1e-20)
    taken_back = 0
    for p in range(peaks.shape[0]):
        y, x = peaks[p] // width, peaks[p] % width
        around = _ring(mean_t, weight_t, y, x, 2 * WIDEST)
        half = _half_width(mean_t, y, x, around)
        if not half > 0:
            continue
        radius = max(RADIUS * half, 2.3)
        around = _ring(mean_t, weight_t, y, x, 1.6 * radius + 1)
        reach = math.ceil(radius) + 1
        y0, y1, x0, x1 = max(0, y - reach), min(height, y + reach + 1), max(0, x - reach), min(width, x + reach + 1)
        side = (y1 - y0, x1 - x0)
        values = np.empty(side, dtype=np.float32)
        normalised_tile(source, inverse, factor, coefficients, ruler, y0, x0, values)
        # the mean without this frame, and what is expected of its samples
        others = np.empty(side, dtype=np.float32)
        squares = np.empty(side, dtype=np.float32)
        number = np.empty(side, dtype=np.float32)
        for j in range(side[0]):
            for i in range(side[1]):
                b, a = y0 + j, x0 + i
                m, n, total = mean_t[b, a], np.float32(count_t[b, a]), weight_t[b, a]
                v = values[j, i]
                q = m2_t[b, a]
                refused = _code(live, live_restored, first_flat + b * width + a) >= 0
                if abs(v) < np.float32(3e38) and not refused and n > 0:
                    left = total - w
                    d = v - m
                    if n > one and left > tiny:
                        m = m - d * (w / left)
                        q = max(q - w * d * (v - m), zero)
                        n -= one
                        total = left
                    else:
                        n = zero
                others[j, i], number[j, i] = m, n
                squares[j, i] = louder * q * n / max(total, tiny)
        spread, curve = np.empty(side, dtype=np.float32), np.empty(side, dtype=np.float32)
        local_shape_tile(others, spread, curve)
        room = side[0] * side[1]
        away, light, variance = np.empty(room), np.empty(room), np.empty(room)
        place = np.empty(room, dtype=np.int64)
        n_star = 0
        for j in range(side[0]):
            for i in range(side[1]):
                off2 = (y0 + j - y) ** 2 + (x0 + i - x) ** 2
                if off2 > radius * radius or number[j, i] < one or not abs(values[j, i]) < np.float32(3e38):
                    continue
                shift, limit = predict(
                    others[j, i], squares[j, i], number[j, i], spread[j, i], curve[j, i], kappa2, dof, floor, slope,
                    structure2, excess2, blur,
                )  # fmt: skip
                away[n_star] = values[j, i] - others[j, i] - shift
                light[n_star] = others[j, i] - around
                variance[n_star] = max(limit / kappa2, tiny)
                place[n_star] = j * side[1] + i
                n_star += 1
        if n_star < LEAST_SAMPLES:
            continue
        scale = _fit_scale(away[:n_star], light[:n_star], variance[:n_star], kappa2)
        if not abs(scale) > 0:
            continue
        for s in range(n_star):
            left = away[s] - scale * light[s]
            j, i = place[s] // side[1], place[s] % side[1]
            b, a = y0 + j, x0 + i
            e = _code(entries, restored, first_flat + b * width + a)
            if e < 0 or left * left > kappa2 * _expected(variance[s], scale, light[s]):
                continue
            restored[e] = 1
            taken_back += 1
            if (entries[e] & 1) == 1 and high[b, a] > 0:
                high[b, a] -= np.uint16(1)
            elif (entries[e] & 1) == 0 and low[b, a] > 0:
                low[b, a] -= np.uint16(1)
            v = values[j, i]
            total = weight[b, a] + w
            d = v - mean[b, a]
            m = mean[b, a] + d * (w / total)
            m2[b, a] += w * d * (v - m)
            mean[b, a] = m
            weight[b, a] = total
            if count[b, a] < MOST:
                count[b, a] += np.uint16(1)
    return taken_back


@njit(nogil=True, cache=True, error_model="numpy")
def _expected(variance, scale, light):
    """Variance of a sample about the scaled profile."""
    return variance * (1.0 + max(scale, 0.0)) + SHAPE_ERROR2 * (scale * light) ** 2


@njit(nogil=True, cache=True, error_model="numpy")
def _fit_scale(away, light, variance, kappa2):
    """By what share of its light a star is brighter than in the mean; 0 where that is not what sets its samples apart.

    Parameters
    ----------
    away : (n,) samples less the mean; light : the mean's profile; variance : of `away`.
    """
    n = away.shape[0]
    # the median of what each sample says, by how much it says: a hit on a few samples does not carry it
    said = np.empty(n)
    worth = np.empty(n)
    for s in range(n):
        said[s] = away[s] / light[s] if light[s] > 0 else 0.0
        worth[s] = light[s] / math.sqrt(variance[s]) if light[s] > 0 else 0.0
    order = np.argsort(said)
    half = 0.5 * worth.sum()
    passed = 0.0
    scale = 0.0
    for s in range(n):
        passed += worth[order[s]]
        if passed >= half:
            scale = said[order[s]]
            break
    for _ in range(3):
        above, below = 0.0, 0.0
        for s in range(n):
            left = away[s] - scale * light[s]
            if left * left <= kappa2 * _expected(variance[s], scale, light[s]):
                above += away[s] * light[s] / variance[s]
                below += light[s] * light[s] / variance[s]
        if not below > 0:
            return 0.0
        scale = above / below
    # by all samples: those beside the core, where a trail goes on and the star does not, tell the two apart
    before, after = 0.0, 0.0
    for s in range(n):
        left = away[s] - scale * light[s]
        before += away[s] * away[s] / variance[s]
        after += left * left / variance[s]
    if before - after < SURE or after - n > UNEXPLAINED * (before - n) + 3.0 * math.sqrt(2.0 * n):
        return 0.0
    return scale
