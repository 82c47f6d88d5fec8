"""The loops behind `calibration.debayer`: from a colour-filter mosaic to three planes.

Each loop fills rows y0 .. y1 and columns x0 .. x1 of the picture from the whole mosaic, so a region is the same numbers
as the whole picture cropped. Beyond an edge the mosaic is mirrored about the edge *pixel* (index -1 is 1, -2 is 2),
which keeps the colour phase. All five sums that the filters need are formed for every pixel and the colour is chosen by
a select on the column's parity: no branch, contiguous loads, so LLVM vectorises the row.

A sample that is not finite would spoil all results whose filter touches it. Rows in which that happened are gone over
again: there, a spoilt value becomes the mean of the good nearest samples of its colour. Only the missing sample itself
stays missing.
"""

# numba infers the types of these functions from their callers
# mypy: disable-error-code="no-untyped-def"

from __future__ import annotations

import numpy as np
from numba import njit

F = np.float32


@njit(inline="always")
def _mirror(i: int, n: int) -> int:
    if i < 0:
        return -i
    if i >= n:
        return 2 * n - 2 - i
    return i


@njit(nogil=True, cache=True)
def _nearest_mean(mosaic, y, x, ys, xs):
    """Mean of the finite samples at (y + ys[i], x + xs[i]), mirrored; NaN when there is none."""
    h, w = mosaic.shape
    total = F(0)
    n = 0
    for i in range(len(ys)):
        v = mosaic[_mirror(y + ys[i], h), _mirror(x + xs[i], w)]
        if np.isfinite(v):
            total += v
            n += 1
    if n == 0:
        return F(np.nan)
    return total / F(n)


@njit(nogil=True, cache=True)
def _bilinear_pixel(mosaic, y, x, is_green, which):
    """Value of one channel at (y, x): which = 0 green, 1 the row's other colour, 2 the colour not in this row."""
    if is_green:
        if which == 0:
            return mosaic[y, x]
        if which == 1:
            return _nearest_mean(mosaic, y, x, (0, 0), (-1, 1))
        return _nearest_mean(mosaic, y, x, (-1, 1), (0, 0))
    if which == 1:
        return mosaic[y, x]
    if which == 0:
        return _nearest_mean(mosaic, y, x, (-1, 1, 0, 0), (0, 0, -1, 1))
    return _nearest_mean(mosaic, y, x, (-1, -1, 1, 1), (-1, 1, -1, 1))


@njit(nogil=True, cache=True)
def _mend_row(mosaic, y, x0, x1, green_parity, green, own, other):
    """Replace what is not finite in the three output rows by means of good neighbours."""
    for x in range(x0, x1):
        is_green = (x & 1) == green_parity
        i = x - x0
        if not np.isfinite(green[i]):
            green[i] = _bilinear_pixel(mosaic, y, x, is_green, 0)
        if not np.isfinite(own[i]):
            own[i] = _bilinear_pixel(mosaic, y, x, is_green, 1)
        if not np.isfinite(other[i]):
            other[i] = _bilinear_pixel(mosaic, y, x, is_green, 2)


@njit(inline="always")
def _mhc(c, h1, v1, h2, v2, d, is_green):
    """The eight filters of Malvar, He & Cutler (2004), figure 2: gains 1/2, 5/8 and 3/4 as sums over eighths."""
    green_at_x = F(0.5) * c + F(0.25) * (h1 + v1) - F(0.125) * (h2 + v2)
    other_at_x = F(0.75) * c + F(0.25) * d - F(0.1875) * (h2 + v2)
    own_at_g = F(0.625) * c + F(0.5) * h1 - F(0.125) * (d + h2) + F(0.0625) * v2
    other_at_g = F(0.625) * c + F(0.5) * v1 - F(0.125) * (d + v2) + F(0.0625) * h2
    if is_green:
        return c, own_at_g, other_at_g
    return green_at_x, c, other_at_x


@njit(inline="always")
def _bilinear(c, h1, v1, d, is_green):
    if is_green:
        return c, F(0.5) * h1, F(0.5) * v1
    return F(0.25) * (h1 + v1), c, F(0.25) * d


@njit(nogil=True, cache=True)
def mhc_rows(mosaic, red_y, red_x, y0, y1, x0, x1, out, out_y):
    """Malvar-He-Cutler. `out` (3, >= out_y + y1 - y0, x1 - x0); row y goes to out[:, out_y + y - y0]."""
    h, w = mosaic.shape
    for y in range(y0, y1):
        red_row = (y & 1) == red_y
        green_parity = 1 - red_x if red_row else red_x
        green = out[1, out_y + y - y0]
        own = out[0 if red_row else 2, out_y + y - y0]
        other = out[2 if red_row else 0, out_y + y - y0]
        nn = mosaic[_mirror(y - 2, h)]
        n = mosaic[_mirror(y - 1, h)]
        m = mosaic[y]
        s = mosaic[_mirror(y + 1, h)]
        ss = mosaic[_mirror(y + 2, h)]
        a = max(x0, 2)
        b = max(a, min(x1, w - 2))
        bad = 0
        for i in range(b - a):
            x = a + i
            c = m[x]
            d = (n[x - 1] + n[x + 1]) + (s[x - 1] + s[x + 1])
            g, p, q = _mhc(
                c, m[x - 1] + m[x + 1], n[x] + s[x], m[x - 2] + m[x + 2], nn[x] + ss[x], d, (x & 1) == green_parity
            )
            green[x - x0] = g
            own[x - x0] = p
            other[x - x0] = q
            t = g + p + q
            bad += 1 if t - t != F(0) else 0
        for x in range(x0, x1):
            if a <= x < b:
                continue
            w1, e1 = _mirror(x - 1, w), _mirror(x + 1, w)
            w2, e2 = _mirror(x - 2, w), _mirror(x + 2, w)
            d = (n[w1] + n[e1]) + (s[w1] + s[e1])
            g, p, q = _mhc(m[x], m[w1] + m[e1], n[x] + s[x], m[w2] + m[e2], nn[x] + ss[x], d, (x & 1) == green_parity)
            green[x - x0] = g
            own[x - x0] = p
            other[x - x0] = q
            t = g + p + q
            bad += 1 if t - t != F(0) else 0
        if bad > 0:
            _mend_row(mosaic, y, x0, x1, green_parity, green, own, other)


@njit(nogil=True, cache=True)
def bilinear_rows(mosaic, red_y, red_x, y0, y1, x0, x1, out, out_y):
    """Mean of the two or four nearest samples of each colour; arguments as `mhc_rows`."""
    h, w = mosaic.shape
    for y in range(y0, y1):
        red_row = (y & 1) == red_y
        green_parity = 1 - red_x if red_row else red_x
        green = out[1, out_y + y - y0]
        own = out[0 if red_row else 2, out_y + y - y0]
        other = out[2 if red_row else 0, out_y + y - y0]
        n = mosaic[_mirror(y - 1, h)]
        m = mosaic[y]
        s = mosaic[_mirror(y + 1, h)]
        a = max(x0, 1)
        b = max(a, min(x1, w - 1))
        bad = 0
        for i in range(b - a):
            x = a + i
            d = (n[x - 1] + n[x + 1]) + (s[x - 1] + s[x + 1])
            g, p, q = _bilinear(m[x], m[x - 1] + m[x + 1], n[x] + s[x], d, (x & 1) == green_parity)
            green[x - x0] = g
            own[x - x0] = p
            other[x - x0] = q
            t = g + p + q
            bad += 1 if t - t != F(0) else 0
        for x in range(x0, x1):
            if a <= x < b:
                continue
            w1, e1 = _mirror(x - 1, w), _mirror(x + 1, w)
            d = (n[w1] + n[e1]) + (s[w1] + s[e1])
            g, p, q = _bilinear(m[x], m[w1] + m[e1], n[x] + s[x], d, (x & 1) == green_parity)
            green[x - x0] = g
            own[x - x0] = p
            other[x - x0] = q
            t = g + p + q
            bad += 1 if t - t != F(0) else 0
        if bad > 0:
            _mend_row(mosaic, y, x0, x1, green_parity, green, own, other)


@njit(nogil=True, cache=True)
def superpixel_rows(mosaic, red_y, red_x, y0, y1, out):
    """One colour pixel for each 2 x 2 cell; y0, y1 are rows of `out` (3, H // 2, W // 2). Green is the mean of two."""
    n = out.shape[2]
    for y in range(y0, y1):
        red_row = mosaic[2 * y + red_y]
        blue_row = mosaic[2 * y + 1 - red_y]
        red = out[0, y]
        green = out[1, y]
        blue = out[2, y]
        bad = 0
        for x in range(n):
            red[x] = red_row[2 * x + red_x]
            blue[x] = blue_row[2 * x + 1 - red_x]
            g = F(0.5) * (red_row[2 * x + 1 - red_x] + blue_row[2 * x + red_x])
            green[x] = g
            bad += 1 if g - g != F(0) else 0
        if bad > 0:
            for x in range(n):
                if not np.isfinite(green[x]):
                    g0, g1 = red_row[2 * x + 1 - red_x], blue_row[2 * x + red_x]
                    green[x] = g0 if np.isfinite(g0) else (g1 if np.isfinite(g1) else F(np.nan))
