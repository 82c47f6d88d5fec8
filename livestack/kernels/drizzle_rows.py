"""Drizzle for frames that lie much as the grid does, with drops no larger than its pixels: whole rows at a time.

The same as `drizzle.drop_tile`, gathered: a pixel of the grid is reached by the 3 x 3 pixels of the frame about its own
place at most. Within a segment of a row whole-pixel parts keep step, so that memory is read as it lies and the
compiler treats eight pixels at a time. What the arguments hold is said in `drizzle`; here `source` is padded by `PAD`
pixels of NaN on all sides, and what was refused is NaN, too.
"""

from __future__ import annotations

import math

import numpy as np
from numba import njit

from livestack.kernels.drizzle import kept_step
from livestack.kernels.sample_rows import MOST, offset_row

PAD = 2
"""Even, so that a mosaic keeps its phase."""
BLOCK = 256
"""Pixels of a row that are treated at once, at most."""


@njit(nogil=True, cache=True, error_model="numpy")
def pad_rows(source, codes, first, last, out):
    """Rows first..last of (h, w) into `out` (h + 4, w + 4), NaN around them and where `codes` refuse."""
    width = source.shape[1]
    nan = np.float32(np.nan)
    for j in range(first, last):
        to = out[j + PAD]
        row = source[j]
        code = codes[j]
        for k in range(PAD):
            to[k] = nan
            to[width + PAD + k] = nan
        inner = to[PAD : PAD + width]
        for k in range(width):
            inner[k] = row[k] if code[k] == 0 else nan


@njit(inline="always")
def _tap(v, factor, offset, m, dx, dy, reach, most):
    """(area, area d, area d^2, 1) of a drop whose centre lies (dx, dy) from that of a pixel; zeros where none is."""
    zero = np.float32(0.0)
    value = v * factor + offset
    finite = abs(value) < np.float32(3e38)
    wide = min(max(reach - abs(dx), zero), most)
    tall = min(max(reach - abs(dy), zero), most)
    area = wide * tall if finite else zero
    d = value - m if finite else zero
    ad = area * d
    return area, ad, ad * d, np.float32(1.0) if area > zero else zero


@njit(inline="always")
def _join(w, s0, s1, s2, n, m, q, total, count):
    first = w * s1
    new = total + w * s0
    shift = first / max(new, np.float32(1e-20))
    return m + shift, q + max(w * s2 - first * shift, np.float32(0.0)), new, min(count + n, np.float32(MOST))


@njit(inline="always")
def _part(w, s0, s1, s2, n, m, q, total, count):
    zero, one = np.float32(0.0), np.float32(1.0)
    left = count - n
    rest = total - w * s0
    gone = (left <= zero) | (rest <= np.float32(1e-6) * total)
    first = w * s1
    shift = first / (one if gone else rest)
    q_new = max(q - w * s2 - first * shift, zero)
    same = n <= zero
    q_new = zero if left < np.float32(1.5) else q_new
    m_out = m if same else (zero if gone else m - shift)
    q_out = q if same else (zero if gone else q_new)
    w_out = total if same else (zero if gone else rest)
    return m_out, q_out, w_out, count if same else (zero if gone else left)


@njit(nogil=True, cache=True, error_model="numpy")
def _bayer(r0, r1, r2, n, x0, ex, y0, ey, a, b, factor, half, block):
    """Sums over the drops that reach `n` pixels (at most `BLOCK`), for the three colours.

    Parameters
    ----------
    r0, r1, r2 : rows of the frame that begin one pixel left of the first pixel's place.
    x0, y0 : of the middle drop, from the grid's pixel; ex, ey : their change along the row.
    a, b : (2,) change of both with one pixel of the frame along a row, and with one row.
    factor : (3,) of green, of the row's own other colour, of the colour that is not in the row.
    block : (19 * BLOCK,) float32, rows of `BLOCK`: means of these three colours, their offsets, and 1 where the frame's
        pixel in the middle is green; then filled with area, area d, area d^2 and number of each. One array, so that
        the compiler need not ask which of many overlap.
    """
    reach = half + np.float32(0.5)
    most = min(half + half, np.float32(1.0))
    fg, fx, fy = factor[0], factor[1], factor[2]
    ax, ay, bx, by = a[0], a[1], b[0], b[1]
    for k in range(n):
        t = block[6 * BLOCK + k] > np.float32(0.5)
        step = np.float32(k)
        dx, dy = x0 + step * ex, y0 + step * ey
        mg, mx, my = block[k], block[BLOCK + k], block[2 * BLOCK + k]
        og, ox, oy = block[3 * BLOCK + k], block[4 * BLOCK + k], block[5 * BLOCK + k]
        m00, f00, o00 = mg if t else mx, fg if t else fx, og if t else ox
        m01, f01, o01 = mx if t else mg, fx if t else fg, ox if t else og
        m10, f10, o10 = my if t else mg, fy if t else fg, oy if t else og
        m11, f11, o11 = mg if t else my, fg if t else fy, og if t else oy
        c0, c1, c2, cn = _tap(r1[k + 1], f00, o00, m00, dx, dy, reach, most)
        l0, l1, l2, ln = _tap(r1[k], f01, o01, m01, dx - ax, dy - ay, reach, most)
        e0, e1, e2, en = _tap(r1[k + 2], f01, o01, m01, dx + ax, dy + ay, reach, most)
        u0, u1, u2, un = _tap(r0[k + 1], f10, o10, m10, dx - bx, dy - by, reach, most)
        v0, v1, v2, vn = _tap(r2[k + 1], f10, o10, m10, dx + bx, dy + by, reach, most)
        p0, p1, p2, pn = _tap(r0[k], f11, o11, m11, dx - ax - bx, dy - ay - by, reach, most)
        q0, q1, q2, qn = _tap(r0[k + 2], f11, o11, m11, dx + ax - bx, dy + ay - by, reach, most)
        s0, s1, s2, sn = _tap(r2[k], f11, o11, m11, dx - ax + bx, dy - ay + by, reach, most)
        t0, t1, t2, tn = _tap(r2[k + 2], f11, o11, m11, dx + ax + bx, dy + ay + by, reach, most)
        h0, h1, h2, hn = l0 + e0, l1 + e1, l2 + e2, ln + en
        i0, i1, i2, ni = u0 + v0, u1 + v1, u2 + v2, un + vn
        d0, d1, d2, dn = (p0 + q0) + (s0 + t0), (p1 + q1) + (s1 + t1), (p2 + q2) + (s2 + t2), (pn + qn) + (sn + tn)
        block[7 * BLOCK + k] = c0 + d0 if t else h0 + i0
        block[8 * BLOCK + k] = c1 + d1 if t else h1 + i1
        block[9 * BLOCK + k] = c2 + d2 if t else h2 + i2
        block[10 * BLOCK + k] = cn + dn if t else hn + ni
        block[11 * BLOCK + k] = h0 if t else c0
        block[12 * BLOCK + k] = h1 if t else c1
        block[13 * BLOCK + k] = h2 if t else c2
        block[14 * BLOCK + k] = hn if t else cn
        block[15 * BLOCK + k] = i0 if t else d0
        block[16 * BLOCK + k] = i1 if t else d1
        block[17 * BLOCK + k] = i2 if t else d2
        block[18 * BLOCK + k] = ni if t else dn


@njit(nogil=True, cache=True, error_model="numpy")
def _settle(block, first, n, w, sign, mean, m2, weight, count, at):
    """The sums of one colour, in `block` from row `first` on, join what is there, or leave it.

    Parameters
    ----------
    mean, m2, weight, count : all planes as one line each; `at`, unsigned, the first of the `n` pixels.
    """
    if sign > 0:
        for k in range(n):
            i, a = first * BLOCK + k, at + np.uintp(k)
            mean[a], m2[a], weight[a], c = _join(
                w, block[i], block[i + BLOCK], block[i + 2 * BLOCK], block[i + 3 * BLOCK], mean[a], m2[a], weight[a],
                np.float32(count[a]),
            )  # fmt: skip
            count[a] = np.uint16(c)
    else:
        for k in range(n):
            i, a = first * BLOCK + k, at + np.uintp(k)
            mean[a], m2[a], weight[a], c = _part(
                w, block[i], block[i + BLOCK], block[i + 2 * BLOCK], block[i + 3 * BLOCK], mean[a], m2[a], weight[a],
                np.float32(count[a]),
            )  # fmt: skip
            count[a] = np.uint16(c)


@njit(nogil=True, cache=True, error_model="numpy")
def _plain(r0, r1, r2, n, x0, ex, y0, ey, a, b, factor, offset, w, sign, half, mean, m2, weight, count):
    """`n` pixels of a plane that all of the frame's pixels feed; arguments as `_bayer`."""
    reach = half + np.float32(0.5)
    most = min(half + half, np.float32(1.0))
    ax, ay, bx, by = a[0], a[1], b[0], b[1]
    for k in range(n):
        step = np.float32(k)
        dx, dy = x0 + step * ex, y0 + step * ey
        m, o = mean[k], offset[k]
        c0, c1, c2, cn = _tap(r1[k + 1], factor, o, m, dx, dy, reach, most)
        l0, l1, l2, ln = _tap(r1[k], factor, o, m, dx - ax, dy - ay, reach, most)
        e0, e1, e2, en = _tap(r1[k + 2], factor, o, m, dx + ax, dy + ay, reach, most)
        u0, u1, u2, un = _tap(r0[k + 1], factor, o, m, dx - bx, dy - by, reach, most)
        v0, v1, v2, vn = _tap(r2[k + 1], factor, o, m, dx + bx, dy + by, reach, most)
        p0, p1, p2, pn = _tap(r0[k], factor, o, m, dx - ax - bx, dy - ay - by, reach, most)
        q0, q1, q2, qn = _tap(r0[k + 2], factor, o, m, dx + ax - bx, dy + ay - by, reach, most)
        s0, s1, s2, sn = _tap(r2[k], factor, o, m, dx - ax + bx, dy - ay + by, reach, most)
        t0, t1, t2, tn = _tap(r2[k + 2], factor, o, m, dx + ax + bx, dy + ay + by, reach, most)
        z0 = c0 + (l0 + e0) + (u0 + v0) + ((p0 + q0) + (s0 + t0))
        z1 = c1 + (l1 + e1) + (u1 + v1) + ((p1 + q1) + (s1 + t1))
        z2 = c2 + (l2 + e2) + (u2 + v2) + ((p2 + q2) + (s2 + t2))
        zn = cn + (ln + en) + (un + vn) + ((pn + qn) + (sn + tn))
        if sign > 0:
            mean[k], m2[k], weight[k], c = _join(w, z0, z1, z2, zn, m, m2[k], weight[k], np.float32(count[k]))
        else:
            mean[k], m2[k], weight[k], c = _part(w, z0, z1, z2, zn, m, m2[k], weight[k], np.float32(count[k]))
        count[k] = np.uint16(c)


@njit(nogil=True, cache=True, error_model="numpy")
def drop_rows(source, colours, forward, factor, coefficients, ruler, w, half, planes, sign, first_row, last_row):
    """Add a frame's drops to rows of the grid, or (`sign` -1) take them out again.

    Parameters
    ----------
    source : (h + 4, w + 4) float32, see above.
    forward : (2, 3) float64, frame (x, y, 1) -> grid, with forward[0, 0] > 0 and no large rotation.
    coefficients, ruler : (C, 10) and (8,), see `sample_rows.offset_row`.
    planes : mean, m2, weight, count of all channels (C, H, W).
    """
    mean, m2, weight, count = planes
    channels, high, width = mean.shape
    mean_line, m2_line, weight_line, count_line = (
        mean.reshape(-1),
        m2.reshape(-1),
        weight.reshape(-1),
        count.reshape(-1),
    )
    tall, wide = source.shape
    det = forward[0, 0] * forward[1, 1] - forward[0, 1] * forward[1, 0]
    ixx, ixy = forward[1, 1] / det, -forward[0, 1] / det
    iyx, iyy = -forward[1, 0] / det, forward[0, 0] / det
    a = np.array([forward[0, 0], forward[1, 0]], dtype=np.float32)
    b = np.array([forward[0, 1], forward[1, 1]], dtype=np.float32)
    offsets = np.empty((channels, width), dtype=np.float32)
    offset_line = offsets.reshape(-1)
    parity = np.empty(BLOCK + 1, dtype=np.float32)
    for k in range(BLOCK + 1):
        parity[k] = np.float32(k & 1)
    block = np.empty(19 * BLOCK, dtype=np.float32)
    h = np.float32(half)
    order = np.empty(3, dtype=np.int64)
    factors = np.empty(3, dtype=np.float32)
    for y in range(first_row, last_row):
        for c in range(channels):
            offset_row(coefficients[c], ruler, 0.0, float(y), offsets[c])
        tx, ty = -forward[0, 2], y - forward[1, 2]
        bx = ixx * tx + ixy * ty + PAD
        by = iyx * tx + iyy * ty + PAD
        x = 0
        while x < width:
            px = bx + ixx * x
            py = by + iyx * x
            i = math.floor(px + 0.5)
            j = math.floor(py + 0.5)
            if i < 1 or j < 1 or i > wide - 2 or j > tall - 2:
                if (i < 1 and ixx > 0) or (i <= wide - 2 and (j < 1 or j > tall - 2)):
                    x += 1
                    continue
                break
            # how far the whole-pixel parts keep step
            length = min(min(width - x, wide - 1 - i), BLOCK)
            length = max(1, kept_step(kept_step(length, ixx - 1.0, px + 0.5 - i), iyx, py + 0.5 - j))
            # the middle drop's centre from the pixel of the grid, and its change along the row
            u, v = i - PAD, j - PAD
            x0 = np.float32(forward[0, 0] * u + forward[0, 1] * v + forward[0, 2] - x)
            y0 = np.float32(forward[1, 0] * u + forward[1, 1] * v + forward[1, 2] - y)
            r0 = source[j - 1, i - 1 : i + length + 1]
            r1 = source[j, i - 1 : i + length + 1]
            r2 = source[j + 1, i - 1 : i + length + 1]
            dx, dy = np.float32(forward[0, 0] - 1.0), np.float32(forward[1, 0])
            end = x + length
            if channels == 1:
                _plain(
                    r0, r1, r2, length, x0, dx, y0, dy, a, b, factor[0], offsets[0, x:end], w, sign, h,
                    mean[0, y, x:end], m2[0, y, x:end], weight[0, y, x:end], count[0, y, x:end],
                )  # fmt: skip
            else:
                here = colours[j & 1, i & 1]
                order[0] = 1
                order[1] = colours[j & 1, (i + 1) & 1] if here == 1 else here
                order[2] = colours[(j + 1) & 1, i & 1] if here == 1 else colours[(j + 1) & 1, (i + 1) & 1]
                for q in range(3):
                    factors[q] = factor[order[q]]
                    at = np.uintp((order[q] * high + y) * width + x)
                    to = (order[q] * width) + x
                    for k in range(length):
                        block[q * BLOCK + k] = mean_line[at + np.uintp(k)]
                        block[(3 + q) * BLOCK + k] = offset_line[np.uintp(to + k)]
                start = 1 if here == 1 else 0
                for k in range(length):
                    block[6 * BLOCK + k] = parity[start + k]
                _bayer(r0, r1, r2, length, x0, dx, y0, dy, a, b, factors, h, block)
                for q in range(3):
                    at = np.uintp((order[q] * high + y) * width + x)
                    _settle(block, 7 + 4 * q, length, w, sign, mean_line, m2_line, weight_line, count_line, at)
            x = end
