"""One interpolation per sample: rows of the reference grid taken from a frame, by Keys' cubic kernel.

Keys' kernel with a = -1/2 (doi:10.1109/TASSP.1981.1163711) reproduces quadratics: it moves no flux and adds nothing to
a star's second moment. Its undershoot beside sharp edges is cut at the lowest of the sixteen samples used. NaN in any
of the sixteen gives NaN; so does a sample whose neighbourhood leaves the frame: nothing is ever filled in.

Within a *segment* of a row the whole-pixel parts of the source position advance in step with the target, so that the
inner loop reads contiguous memory and the compiler vectorises it; where rotation makes segments too short, each sample
gathers its own neighbourhood (`_scattered`). The caller turns frames by
multiples of 90 degrees first (`stacking.accumulators.upright`) so that segments stay long after a meridian flip.
"""

from __future__ import annotations

import math

import numpy as np
from numba import njit

LOWEST = np.float32(-3e38)
BLOCK = 256
SHORT = 12.0
"""Segments that are shorter than this on average are not worth their start: see `_scattered`."""


@njit(nogil=True, cache=True, error_model="numpy")
def _segment(r0, r1, r2, r3, n, fx0, ex, fy0, ey, out):
    """`n` samples; r0..r3 are source rows that begin one pixel left of the first sample's whole-pixel position."""
    half = np.float32(0.5)
    one = np.float32(1.0)
    c15 = np.float32(1.5)
    c25 = np.float32(2.5)
    two = np.float32(2.0)
    for k in range(n):
        step = np.float32(k)
        fx = fx0 + step * ex
        fy = fy0 + step * ey
        x0 = ((one - half * fx) * fx - half) * fx
        x1 = (c15 * fx - c25) * fx * fx + one
        x2 = ((two - c15 * fx) * fx + half) * fx
        x3 = (half * fx - half) * fx * fx
        y0 = ((one - half * fy) * fy - half) * fy
        y1 = (c15 * fy - c25) * fy * fy + one
        y2 = ((two - c15 * fy) * fy + half) * fy
        y3 = (half * fy - half) * fy * fy
        a0 = r0[k]
        a1 = r0[k + 1]
        a2 = r0[k + 2]
        a3 = r0[k + 3]
        b0 = r1[k]
        b1 = r1[k + 1]
        b2 = r1[k + 2]
        b3 = r1[k + 3]
        c0 = r2[k]
        c1 = r2[k + 1]
        c2 = r2[k + 2]
        c3 = r2[k + 3]
        d0 = r3[k]
        d1 = r3[k + 1]
        d2 = r3[k + 2]
        d3 = r3[k + 3]
        value = (
            y0 * (x0 * a0 + x1 * a1 + x2 * a2 + x3 * a3)
            + y1 * (x0 * b0 + x1 * b1 + x2 * b2 + x3 * b3)
            + y2 * (x0 * c0 + x1 * c1 + x2 * c2 + x3 * c3)
            + y3 * (x0 * d0 + x1 * d1 + x2 * d2 + x3 * d3)
        )
        low = min(
            min(min(min(a0, a1), min(a2, a3)), min(min(b0, b1), min(b2, b3))),
            min(min(min(c0, c1), min(c2, c3)), min(min(d0, d1), min(d2, d3))),
        )
        # -inf is no undershoot: it came from a sample without data, and stays
        out[k] = low if (value < low) & (value > LOWEST) else value


@njit(nogil=True, cache=True, error_model="numpy")
def _scattered(source, bx, ax, by, ay, first, last, out):
    """Samples `first`..`last` of a row, each with its own neighbourhood: for rotations that leave no long segments."""
    half = np.float32(0.5)
    one = np.float32(1.0)
    c15 = np.float32(1.5)
    c25 = np.float32(2.5)
    two = np.float32(2.0)
    width = source.shape[1]
    pitch = np.uintp(width)
    flat = source.reshape(-1)
    corners = np.empty(BLOCK, dtype=np.uintp)
    weights = np.empty((BLOCK, 8), dtype=np.float32)
    fxs = np.empty(BLOCK, dtype=np.float32)
    fys = np.empty(BLOCK, dtype=np.float32)
    for start in range(first, last, BLOCK):
        n = min(BLOCK, last - start)
        for k in range(n):
            sx = bx + ax * (start + k)
            sy = by + ay * (start + k)
            i = int(sx)
            j = int(sy)
            fxs[k] = sx - i
            fys[k] = sy - j
            corners[k] = np.uintp((j - 1) * width + i - 1)
        for k in range(n):
            fx = fxs[k]
            fy = fys[k]
            weights[k, 0] = ((one - half * fx) * fx - half) * fx
            weights[k, 1] = (c15 * fx - c25) * fx * fx + one
            weights[k, 2] = ((two - c15 * fx) * fx + half) * fx
            weights[k, 3] = (half * fx - half) * fx * fx
            weights[k, 4] = ((one - half * fy) * fy - half) * fy
            weights[k, 5] = (c15 * fy - c25) * fy * fy + one
            weights[k, 6] = ((two - c15 * fy) * fy + half) * fy
            weights[k, 7] = (half * fy - half) * fy * fy
        for k in range(n):
            # unsigned, so that no index can mean 'from the end'
            a = corners[k]
            b = a + pitch
            c = b + pitch
            d = c + pitch
            y0 = weights[k, 4]
            y1 = weights[k, 5]
            y2 = weights[k, 6]
            y3 = weights[k, 7]
            a0 = flat[a]
            a1 = flat[a + np.uintp(1)]
            a2 = flat[a + np.uintp(2)]
            a3 = flat[a + np.uintp(3)]
            b0 = flat[b]
            b1 = flat[b + np.uintp(1)]
            b2 = flat[b + np.uintp(2)]
            b3 = flat[b + np.uintp(3)]
            c0 = flat[c]
            c1 = flat[c + np.uintp(1)]
            c2 = flat[c + np.uintp(2)]
            c3 = flat[c + np.uintp(3)]
            d0 = flat[d]
            d1 = flat[d + np.uintp(1)]
            d2 = flat[d + np.uintp(2)]
            d3 = flat[d + np.uintp(3)]
            # columns first: the compiler treats the four at a time
            s0 = y0 * a0 + y1 * b0 + y2 * c0 + y3 * d0
            s1 = y0 * a1 + y1 * b1 + y2 * c1 + y3 * d1
            s2 = y0 * a2 + y1 * b2 + y2 * c2 + y3 * d2
            s3 = y0 * a3 + y1 * b3 + y2 * c3 + y3 * d3
            m0 = min(min(a0, b0), min(c0, d0))
            m1 = min(min(a1, b1), min(c1, d1))
            m2 = min(min(a2, b2), min(c2, d2))
            m3 = min(min(a3, b3), min(c3, d3))
            value = (weights[k, 0] * s0 + weights[k, 1] * s1) + (weights[k, 2] * s2 + weights[k, 3] * s3)
            low = min(min(m0, m1), min(m2, m3))
            out[start + k] = low if (value < low) & (value > LOWEST) else value


@njit(nogil=True, cache=True, error_model="numpy")
def _inside(b, a, n, size):
    """First and last index k (exclusive) with 1 <= b + a k and floor(b + a k) <= size - 3, for a monotonic b + a k."""
    first = 0
    last = n
    upper = float(size - 2)
    # limited as floating-point numbers: for a next to nothing the quotients are larger than any integer
    most = float(n)
    if a > 0.0:
        first = max(0, int(min(most, np.ceil((1.0 - b) / a) - 1.0))) if b < 1.0 else 0
        last = int(max(0.0, min(most, np.ceil((upper - b) / a) + 1.0)))
    elif a < 0.0:
        first = max(0, int(min(most, np.floor((upper - b) / a) - 1.0))) if b >= upper else 0
        last = int(max(0.0, min(most, np.floor((1.0 - b) / a) + 2.0)))
    elif b < 1.0 or b >= upper:
        return 0, 0
    first = min(first, n)
    # rounding: look at the ends themselves
    while first < last and not (1.0 <= b + a * first < upper):
        first += 1
    while last > first and not (1.0 <= b + a * (last - 1) < upper):
        last -= 1
    return first, last


@njit(nogil=True, cache=True, error_model="numpy")
def _line(source, bx, ax, by, ay, out):
    """Fill `out` (n,) with the source's values at (bx + ax k, by + ay k)."""
    height, width = source.shape
    n = out.shape[0]
    if ax == 1.0 and ay == 0.0 and bx == math.floor(bx) and by == math.floor(by):
        # A whole-pixel shift needs no interpolation and no neighbours: exact to the frame's edge.
        sx = int(bx)
        sy = int(by)
        for k in range(n):
            out[k] = np.nan
        if 0 <= sy < height:
            first = max(0, -sx)
            last = min(n, width - sx)
            row = source[sy]
            for k in range(first, last):
                out[k] = row[k + sx]
        return
    if abs(ax - 1.0) + abs(ay) > 1.0 / SHORT:
        first, last = _inside(bx, ax, n, width)
        first_y, last_y = _inside(by, ay, n, height)
        first, last = max(first, first_y), min(last, last_y)
        last = max(first, last)
        for k in range(first):
            out[k] = np.nan
        for k in range(last, n):
            out[k] = np.nan
        _scattered(source, bx, ax, by, ay, first, last, out)
        return
    k = 0
    while k < n:
        sx = bx + ax * k
        sy = by + ay * k
        ix = math.floor(sx)
        iy = math.floor(sy)
        if ix < 1 or ix > width - 3 or iy < 1 or iy > height - 3:
            out[k] = np.nan
            k += 1
            continue
        fx = sx - ix
        fy = sy - iy
        # How far the whole-pixel parts keep step: until fx + (ax - 1) j or fy + ay j leaves [0, 1).
        length = min(n - k, width - 2 - ix)
        ex = ax - 1.0
        if ex > 1e-12:
            length = min(length, math.ceil((1.0 - fx) / ex))
        elif ex < -1e-12:
            length = min(length, math.floor(fx / -ex) + 1)
        if ay > 1e-12:
            length = min(length, math.ceil((1.0 - fy) / ay))
        elif ay < -1e-12:
            length = min(length, math.floor(fy / -ay) + 1)
        length = max(1, length)
        left = ix - 1
        right = left + length + 3
        _segment(
            source[iy - 1, left:right],
            source[iy, left:right],
            source[iy + 1, left:right],
            source[iy + 2, left:right],
            length,
            np.float32(fx),
            np.float32(ex),
            np.float32(fy),
            np.float32(ay),
            out[k : k + length],
        )
        k += length


@njit(nogil=True, cache=True, error_model="numpy")
def sample_row(source, inverse, y, x_first, out):
    """Fill `out` (n,) with the source's values at reference pixels (x_first + k, y).

    Parameters
    ----------
    source : (H, W) float32.
    inverse : (2, 3) float64, reference (x, y, 1) -> source (x, y), with inverse[0, 0] > 0; or (2, 18), see `_bent_row`.
    """
    if inverse.shape[1] > 3:
        _bent_row(source, inverse, y, x_first, out)
        return
    ax = inverse[0, 0]
    ay = inverse[1, 0]
    bx = inverse[0, 0] * x_first + inverse[0, 1] * y + inverse[0, 2]
    by = inverse[1, 0] * x_first + inverse[1, 1] * y + inverse[1, 2]
    _line(source, bx, ax, by, ay, out)


@njit(nogil=True, cache=True, error_model="numpy")
def _bent_row(source, inverse, y, x_first, out):
    """The same through a lens that distorts: short pieces of a row, each straight, that meet at their ends.

    `inverse` (2, 18) holds, x in the first row and y in the second: the linear part (3); coefficients of the shift in
    1, u, v, u^2, uv, v^2, u^3, u^2 v, u v^2, v^3 (10); the reference pixel of u = v = 0; the pixels for which u, v
    change by 1; the least and the largest u, v, beyond which the shift keeps its value; and in the last column the
    pixel from which pieces are counted, and their length. Pieces lie where they lie whatever part of a row is asked
    for, so that every part gives the same samples; two meet around the kink where the shift stops changing.
    """
    n = out.shape[0]
    centre = inverse[0, 13]
    half = inverse[0, 14]
    least = inverse[0, 15]
    most = inverse[0, 16]
    start = inverse[0, 17]
    piece = inverse[1, 17]
    v = min(max((y - inverse[1, 13]) / inverse[1, 14], inverse[1, 15]), inverse[1, 16])
    # along a row both shifts are cubics in u
    px = np.empty(4)
    py = np.empty(4)
    for row, p in ((0, px), (1, py)):
        c = inverse[row]
        p[0] = c[3] + v * (c[5] + v * (c[8] + v * c[12]))
        p[1] = c[4] + v * (c[7] + v * c[11])
        p[2] = c[6] + v * c[10]
        p[3] = c[9]
    low = float(math.floor(centre + least * half))
    high = float(math.floor(centre + most * half))
    x = x_first
    while x < x_first + n:
        left = start + math.floor((x - start) / piece) * piece
        right = left + piece
        for kink in (low, low + 1.0, high, high + 1.0):
            if left < kink <= x:
                left = kink
            elif x < kink < right:
                right = kink
        u0 = min(max((left - centre) / half, least), most)
        u1 = min(max((right - centre) / half, least), most)
        x0 = inverse[0, 0] * left + inverse[0, 1] * y + inverse[0, 2] + _cubic(px, u0)
        y0 = inverse[1, 0] * left + inverse[1, 1] * y + inverse[1, 2] + _cubic(py, u0)
        x1 = inverse[0, 0] * right + inverse[0, 1] * y + inverse[0, 2] + _cubic(px, u1)
        y1 = inverse[1, 0] * right + inverse[1, 1] * y + inverse[1, 2] + _cubic(py, u1)
        ax = (x1 - x0) / (right - left)
        ay = (y1 - y0) / (right - left)
        first = int(x - x_first)
        last = min(n, int(right - x_first))
        _line(source, x0 + ax * (x - left), ax, y0 + ay * (x - left), ay, out[first:last])
        x = right


@njit(nogil=True, cache=True, error_model="numpy")
def _cubic(p, u):
    return p[0] + u * (p[1] + u * (p[2] + u * p[3]))


@njit(nogil=True, cache=True, error_model="numpy")
def sample_tile(source, inverse, y_first, x_first, out):
    """Fill `out` (h, w) with the source's values at reference pixels (x_first + i, y_first + j)."""
    for j in range(out.shape[0]):
        sample_row(source, inverse, float(y_first + j), float(x_first), out[j])
