"""The loops behind `calibration.cosmetic`: repair of defects, and the watch for pixels that stand out.

"Ring" is the set of nearest pixels of the same colour around a pixel: 8 at distance `step` (1 for mono, 2 for a
mosaic). A pixel stands out when it exceeds all of its ring but two (fewer at the edges of the sensor): two, so that a
neighbouring defect, or a defective column with its neighbours above and below, does not hide it.
"""

# numba infers the types of these functions from their callers
# mypy: disable-error-code="no-untyped-def"

from __future__ import annotations

import numpy as np
from numba import njit

F = np.float32
MAX_RING = 4
RING_CONTRAST = 2.0
"""A pixel must exceed its ring by so many times the ring's own spread: on the limb of the Moon nothing stands out."""
STAR_SHARE = 0.25
"""Where the adjacent pixels have more than this share of the excess, it is a star (0.45 at a FWHM of 1.8 px)."""
SHARP_SHARE = 0.03
"""A pixel is sharper than any star when its neighbours have less than this share of its excess. A star of FWHM 1.8 px
has 0.45 in the adjacent pixels (0.045 where those of a mosaic see a tenth of the light, as in H alpha) and 0.03
(Gaussian) to 0.08 (Moffat) at two pixels' distance; both distances are tested."""


@njit(nogil=True, cache=True)
def _sort(values, n):
    for i in range(1, n):
        v = values[i]
        j = i - 1
        while j >= 0 and values[j] > v:
            values[j + 1] = values[j]
            j -= 1
        values[j + 1] = v


@njit(nogil=True, cache=True)
def _median(values, n):
    _sort(values, n)
    if n % 2 == 1:
        return values[n // 2]
    return F(0.5) * (values[n // 2 - 1] + values[n // 2])


@njit(nogil=True, cache=True)
def _collect_ring(image, y, x, step, values):
    """Finite values of the 8 nearest at distance `step` within the image; how many."""
    h, w = image.shape
    n = 0
    for dy in range(-step, step + 1, step):
        for dx in range(-step, step + 1, step):
            yy, xx = y + dy, x + dx
            if (dy != 0 or dx != 0) and 0 <= yy < h and 0 <= xx < w and np.isfinite(image[yy, xx]):
                values[n] = image[yy, xx]
                n += 1
    return n


@njit(nogil=True, cache=True)
def repair_pixels(image, mask, indices, mosaic, green_parity):
    """Replace image.flat[indices] by the median of the nearest good pixels of the same colour; how many had none (NaN).

    Rings of growing distance (Chebyshev) are looked through until three good pixels are found. `green_parity` is
    (y + x) & 1 of green pixels; those have neighbours of their own colour on the diagonals.
    """
    h, w = image.shape
    values = np.empty((2 * (2 * MAX_RING) + 1) ** 2, F)
    failed = 0
    for k in range(len(indices)):
        y, x = indices[k] // w, indices[k] % w
        green = mosaic and ((y + x) & 1) == green_parity
        step = 2 if mosaic and not green else 1
        n = 0
        for ring in range(1, MAX_RING + 1):
            for j in range(-ring, ring + 1):
                for i in range(-ring, ring + 1):
                    if max(abs(j), abs(i)) != ring or (green and (j + i) % 2 != 0):
                        continue
                    yy, xx = y + step * j, x + step * i
                    if 0 <= yy < h and 0 <= xx < w and not mask[yy, xx] and np.isfinite(image[yy, xx]):
                        values[n] = image[yy, xx]
                        n += 1
            if n >= 3:
                break
        if n == 0:
            image[y, x] = F(np.nan)
            failed += 1
        else:
            image[y, x] = _median(values, n)
    return failed


@njit(nogil=True, cache=True)
def _bump(image, y, x, a, b, sign, values):
    """How far the picture rises (`sign` -1: falls) toward the pixel: (mean, median) over the four directions of the
    difference between distances a and b.

    Differences of the wrong sign count as zero: another star is near, which must not hide this one's wings.
    """
    h, w = image.shape
    total = F(0)
    n = 0
    for k in range(4):
        dy = (1, -1, 0, 0)[k]
        dx = (0, 0, 1, -1)[k]
        if 0 <= y + b * dy < h and 0 <= x + b * dx < w:
            values[n] = max(F(sign) * (image[y + a * dy, x + a * dx] - image[y + b * dy, x + b * dx]), F(0))
            total += values[n]
            n += 1
    if n == 0:
        return F(0), F(0)
    return total / F(n), _median(values, n)


@njit(nogil=True, cache=True)
def _judge(image, y, x, step, sigma, n_sigma, ring):
    """+1 stands out above its ring, -1 below, 0 neither; and whether it is sharper than any star.

    Where the adjacent pixels (of whatever colour) share the excess it is a star that is not too undersampled: 0.
    """
    c = image[y, x]
    n = _collect_ring(image, y, x, step, ring)
    if n < 3 or not np.isfinite(c):
        return 0, False
    _sort(ring, n)
    allow = 2 if n == 8 else (1 if n >= 4 else 0)
    high, low, middle = ring[n - 1 - allow], ring[allow], ring[n // 2]
    margin = max(F(n_sigma) * sigma, F(RING_CONTRAST) * (high - low))
    sign = 1 if c > high + margin else (-1 if c < low - margin else 0)
    if sign == 0:
        return 0, False
    excess = abs(c - middle)
    mean, typical = _bump(image, y, x, 1, 3, sign, ring)
    if typical > F(STAR_SHARE) * excess + sigma:
        return 0, False
    if sign < 0:
        return -1, False
    sharp = mean + sigma < F(SHARP_SHARE) * excess
    if sharp and step == 2:
        mean, typical = _bump(image, y, x, 2, 4, sign, ring)
        sharp = mean + sigma < F(SHARP_SHARE) * excess
    return 1, sharp


@njit(inline="always")
def _sort4(a, b, c, d):
    a, b = min(a, b), max(a, b)
    c, d = min(c, d), max(c, d)
    a, c = min(a, c), max(a, c)
    b, d = min(b, d), max(b, d)
    return a, min(b, c), max(b, c), d


@njit(nogil=True, cache=True)
def _flag_row(up, row, down, step, limit, flags):
    """flags = 1 where a pixel exceeds the third highest, or is below the third lowest, of its ring by `limit`."""
    n = len(row) - 2 * step
    # Shifted views, so that all are read at the same index: the loop vectorises.
    up0, up1, up2 = up[:n], up[step : step + n], up[2 * step :]
    left, centre, right = row[:n], row[step : step + n], row[2 * step :]
    down0, down1, down2 = down[:n], down[step : step + n], down[2 * step :]
    out = flags[step : step + n]
    for i in range(n):
        c = centre[i]
        a, b, d, e = _sort4(up0[i], up1[i], up2[i], left[i])
        p, q, r, s = _sort4(right[i], down0[i], down1[i], down2[i])
        high = max(max(b, q), max(min(e, r), min(d, s)))
        low = min(min(d, r), min(max(a, q), max(b, p)))
        out[i] = np.uint8(c - high > limit) | np.uint8(low - c > limit)


@njit(nogil=True, cache=True)
def observe_rows(image, step, sigmas, n_sigma, score, sharp, y0, y1):
    """Count the pixels of rows y0 .. y1 that stand out: `score` (int8) up for hot, down for cold, `sharp` (uint8) up.

    sigmas : (2, 2) noise by the parity of row and column, ADU. A vectorised sorting network flags candidates, the rest
    is done for those only, and for all pixels of the edge, whose ring is incomplete. Returns how many stood out above.
    """
    h, w = image.shape
    ring = np.empty(8, F)
    words = np.empty((w + 7) // 8, np.uint64)  # eight flags at a time: nearly all are zero
    flags = words.view(np.uint8)
    flags[:] = 1
    n_hot = 0
    for y in range(y0, y1):
        limit = F(n_sigma) * min(sigmas[y & 1, 0], sigmas[y & 1, 1])
        if step <= y < h - step:
            _flag_row(image[y - step], image[y], image[y + step], step, limit, flags)
        else:
            flags[:] = 1
        for k in range(len(words)):
            if words[k] == 0:
                continue
            for x in range(8 * k, min(8 * k + 8, w)):
                if flags[x] == 0:
                    continue
                sign, is_sharp = _judge(image, y, x, step, sigmas[y & 1, x & 1], n_sigma, ring)
                if sign != 0:
                    score[y, x] += sign
                if sign > 0:
                    n_hot += 1
                if is_sharp:
                    sharp[y, x] += 1
    return n_hot


@njit(nogil=True, cache=True)
def count_column_sides(image, step, edges, above, below, s0, s1):
    """For segments s0 .. s1 of rows edges[s] .. edges[s + 1], count the rows in which a column stands out.

    Of every sixteen rows two are looked at. above, below : (segments, W) int32, rows in which the pixel exceeds (is
    below) all but one of its four nearest of the same colour in the row.
    """
    n = image.shape[1] - 4 * step
    for s in range(s0, s1):
        for y in range(edges[s], edges[s + 1]):
            if (y - edges[s]) % 16 > 1:
                continue
            row = image[y]
            left2, left, centre = row[:n], row[step : step + n], row[2 * step : 2 * step + n]
            right, right2 = row[3 * step : 3 * step + n], row[4 * step :]
            up, down = above[s, 2 * step : 2 * step + n], below[s, 2 * step : 2 * step + n]
            for i in range(n):
                c = centre[i]
                # Second highest and second lowest of the four neighbours.
                _lowest, b, d, _highest = _sort4(left2[i], left[i], right[i], right2[i])
                up[i] += np.int32(c > d)
                down[i] += np.int32(c < b)


@njit(nogil=True, cache=True)
def _median_row(up, row, down, step, out):
    """out = median of the eight of each pixel's ring, except at the ends; how many rings are not all finite."""
    n = len(row) - 2 * step
    up0, up1, up2 = up[:n], up[step : step + n], up[2 * step :]
    left, right = row[:n], row[2 * step :]
    down0, down1, down2 = down[:n], down[step : step + n], down[2 * step :]
    inner = out[step : step + n]
    bad = 0
    for i in range(n):
        a1, a2, a3, a4 = _sort4(up0[i], up1[i], up2[i], left[i])
        b1, b2, b3, b4 = _sort4(right[i], down0[i], down1[i], down2[i])
        # The k-th of two sorted lists is the least of max(a_i, b_j) over i + j = k.
        fourth = min(min(a4, b4), min(max(a1, b3), min(max(a2, b2), max(a3, b1))))
        fifth = min(min(max(a1, b4), max(a2, b3)), min(max(a3, b2), max(a4, b1)))
        inner[i] = F(0.5) * (fourth + fifth)
        total = ((up0[i] + up1[i]) + (up2[i] + left[i])) + ((right[i] + down0[i]) + (down1[i] + down2[i]))
        bad += 1 if total - total != F(0) else 0
    return bad


@njit(nogil=True, cache=True)
def excess_rows(image, step, out, y0, y1):
    """out = image less the median of the pixel's ring; NaN where the ring is empty."""
    h, w = image.shape
    ring = np.empty(8, F)
    for y in range(y0, y1):
        whole = 1
        if step <= y < h - step:
            whole = _median_row(image[y - step], image[y], image[y + step], step, out[y])
        for x in range(w):
            if whole != 0 or x < step or x >= w - step:
                n = _collect_ring(image, y, x, step, ring)
                out[y, x] = _median(ring, n) if n > 0 else F(np.nan)
        for x in range(w):
            out[y, x] = image[y, x] - out[y, x]
