"""Drizzle: a camera's own pixels tested against the stack, then dropped on its grid, each in its own colour.

Variable-pixel linear reconstruction (Fruchter & Hook 2002, doi:10.1086/338393): a pixel shrinks to a square drop, which
lands where the frame's transform puts its centre, and each pixel of the grid takes of it what it overlaps. The drop's
sides run with the grid's (the "turbo" kernel of Fruchter & Hook): the pieces of a drop sum to its area whatever the
rotation, so that weight and flux are conserved.

A sample is expected to be what the mean says at its place (a parabola through 3 x 3 pixels of the grid: the "blot"),
sharpened by what drop and pixel have blurred; its limit is that of `sample_rows.predict`.

What the arguments hold:

    source : (h, w) float32, the frame's pixels, NaN = bad; of a mosaic, or of one plane.
    colours : (2, 2) int64, the channel that pixel (y & 1, x & 1) feeds.
    nodes : (ny, nx, 2 + C) float64: at every `NODE`-th pixel of the frame the place on the grid, x and y, and the
        additive surface of each channel; straight in between.
    factor : (C,) float32.
    planes : mean, m2, weight (C, H, W) float32, count, low, high (C, H, W) uint16.
    half : half the side of a drop, px of the grid.
"""

from __future__ import annotations

import math

import numpy as np
from numba import njit

from livestack.kernels.sample_rows import HIGH, LOW, MOST, predict

NODE = 64
"""Pixels of a frame between two nodes."""


@njit(nogil=True, cache=True, error_model="numpy")
def node_row(nodes, j, out):
    """The nodes (nx, 2 + C) along row `j` of a frame."""
    k = min(j // NODE, nodes.shape[0] - 2)
    f = j / NODE - k
    for i in range(nodes.shape[1]):
        for q in range(nodes.shape[2]):
            out[i, q] = (1.0 - f) * nodes[k, i, q] + f * nodes[k + 1, i, q]


@njit(nogil=True, cache=True, error_model="numpy")
def drop_tile(source, colours, nodes, factor, codes, tested, w, half, planes, sign, bounds, rows, sums):
    """Add a frame's drops to one tile of the grid, or (`sign` -1) take them out again.

    Parameters
    ----------
    codes : (h, w) uint8, not ACCEPTED = not dropped but counted; looked at where `tested`.
    bounds : (4,) int64: first and last row, first and last column of the tile (ends excluded).
    rows : (2,) int64: rows of the frame that may reach it (end excluded).
    sums : (4, C, tile rows, tile columns) float32, zero; scratch, zero again afterwards.

    Returns
    -------
    Drops whose centre lies in the tile.
    """
    mean, m2, weight, count, low, high = planes
    y0, y1, x0, x1 = bounds[0], bounds[1], bounds[2], bounds[3]
    width = source.shape[1]
    line = np.empty(nodes.shape[1:], dtype=np.float64)
    s0, s1, s2, sn = sums[0], sums[1], sums[2], sums[3]
    channels = mean.shape[0]
    reach = half + 0.5
    landed = 0
    for j in range(rows[0], rows[1]):
        node_row(nodes, j, line)
        for piece in range(nodes.shape[1] - 1):
            first = piece * NODE
            last = min(width, first + NODE)
            ya, yb = line[piece, 1], line[piece + 1, 1]
            xa, xb = line[piece, 0], line[piece + 1, 0]
            if max(ya, yb) < y0 - 0.5 - reach or min(ya, yb) > y1 - 0.5 + reach:
                continue
            if max(xa, xb) < x0 - 0.5 - reach or min(xa, xb) > x1 - 0.5 + reach:
                continue
            dx, dy = (xb - xa) / NODE, (yb - ya) / NODE
            for i in range(first, last):
                v = source[j, i]
                if not abs(v) < np.float32(3e38):
                    continue
                step = i - first
                x = xa + dx * step
                y = ya + dy * step
                left, top = x - half, y - half
                ix = math.floor(left + 0.5)
                iy = math.floor(top + 0.5)
                right, bottom = x + half, y + half
                jx = math.ceil(right - 0.5) + 1
                jy = math.ceil(bottom - 0.5) + 1
                ix, jx = max(ix, x0), min(jx, x1)
                iy, jy = max(iy, y0), min(jy, y1)
                if ix >= jx or iy >= jy:
                    continue
                c = colours[j & 1, i & 1]
                code = codes[j, i] if tested else np.uint8(0)
                landed += 1 if x0 - 0.5 <= x < x1 - 0.5 and y0 - 0.5 <= y < y1 - 0.5 else 0
                if code != 0:
                    for b in range(iy, jy):
                        for a in range(ix, jx):
                            if code == HIGH:
                                n = np.int64(high[c, b, a]) + sign
                                high[c, b, a] = np.uint16(min(max(n, 0), 65535))
                            else:
                                n = np.int64(low[c, b, a]) + sign
                                low[c, b, a] = np.uint16(min(max(n, 0), 65535))
                    continue
                q = 2 + c
                slope = (line[piece + 1, q] - line[piece, q]) / NODE
                value = v * factor[c] + np.float32(line[piece, q] + slope * step)
                for b in range(iy, jy):
                    tall = np.float32(min(bottom, b + 0.5) - max(top, b - 0.5))
                    for a in range(ix, jx):
                        area = tall * np.float32(min(right, a + 0.5) - max(left, a - 0.5))
                        d = value - mean[c, b, a]
                        s0[c, b - y0, a - x0] += area
                        s1[c, b - y0, a - x0] += area * d
                        s2[c, b - y0, a - x0] += area * d * d
                        sn[c, b - y0, a - x0] += np.float32(1.0)
    n = x1 - x0
    for c in range(channels):
        for b in range(y0, y1):
            at = (s0[c, b - y0, :n], s1[c, b - y0, :n], s2[c, b - y0, :n], sn[c, b - y0, :n])
            to = (mean[c, b, x0:x1], m2[c, b, x0:x1], weight[c, b, x0:x1], count[c, b, x0:x1])
            if sign > 0:
                _join_row(at[0], at[1], at[2], at[3], w, to[0], to[1], to[2], to[3])
            else:
                _part_row(at[0], at[1], at[2], at[3], w, to[0], to[1], to[2], to[3])
            for one in at:
                one[:] = 0
    return landed


@njit(nogil=True, cache=True, error_model="numpy")
def _join_row(s0, s1, s2, sn, w, mean, m2, weight, count):
    """A frame's sums about the mean join mean and squares (Chan, Golub & LeVeque 1979)."""
    for k in range(mean.shape[0]):
        first = w * s1[k]
        total = weight[k] + w * s0[k]
        shift = first / max(total, np.float32(1e-20))
        mean[k] += shift
        m2[k] += max(w * s2[k] - first * shift, np.float32(0.0))
        weight[k] = total
        count[k] = np.uint16(min(np.float32(count[k]) + sn[k], np.float32(MOST)))


@njit(nogil=True, cache=True, error_model="numpy")
def _part_row(s0, s1, s2, sn, w, mean, m2, weight, count):
    """Undo `_join_row`; the sums are about the mean that holds them."""
    for k in range(mean.shape[0]):
        if sn[k] == 0:
            continue
        left = np.float32(count[k]) - sn[k]
        rest = weight[k] - w * s0[k]
        if left <= 0 or rest <= np.float32(1e-6) * weight[k]:
            mean[k], m2[k], weight[k], count[k] = 0.0, 0.0, 0.0, 0
            continue
        first = w * s1[k]
        shift = first / rest
        mean[k] -= shift
        m2[k] = max(m2[k] - w * s2[k] - first * shift, np.float32(0.0)) if left > 1 else np.float32(0.0)
        weight[k] = rest
        count[k] = np.uint16(left)


@njit(nogil=True, cache=True, error_model="numpy")
def _shape(m):
    """(gradient x, y, curvature xx, yy, xy, range) of 3 x 3 values, row by row."""
    low, high = m[0], m[0]
    for k in range(1, 9):
        low = min(low, m[k])
        high = max(high, m[k])
    half, quarter, two = np.float32(0.5), np.float32(0.25), np.float32(2.0)
    gx = half * (m[5] - m[3])
    gy = half * (m[7] - m[1])
    xx = m[5] + m[3] - two * m[4]
    yy = m[7] + m[1] - two * m[4]
    xy = quarter * (m[8] - m[6] - m[2] + m[0])
    return gx, gy, xx, yy, xy, high - low


@njit(nogil=True, cache=True, error_model="numpy")
def test_rows(
    source, colours, nodes, factor, limits, planes, without, held, w, half, sharpen, first_row, last_row, codes
):  # fmt: skip
    """Test rows of a frame against the stack: codes = LOW or HIGH where a sample is not believed.

    Parameters
    ----------
    limits : (C, 8) float32, see `sample_rows`.
    without : the stack holds the frame's samples, but those that `held` (h, w) uint8 says were refused; each is tested
        against the stack without itself. Else the stack does not hold the frame.
    sharpen : by how much the mean is blurred against a sample, px^2 of the grid, half the difference of sigma^2.
    codes : (h, w) uint8, filled in these rows.

    Returns
    -------
    (samples with data, samples rejected)
    """
    mean, m2, weight, count, low, high = planes
    height, width = mean.shape[1], mean.shape[2]
    line = np.empty(nodes.shape[1:], dtype=np.float64)
    m = np.empty(9, dtype=np.float32)
    there = np.empty(9, dtype=np.uint8)
    one, zero, tiny = np.float32(1.0), np.float32(0.0), np.float32(1e-20)
    seen, rejected = 0, 0
    for j in range(first_row, last_row):
        node_row(nodes, j, line)
        for i in range(source.shape[1]):
            codes[j, i] = 0
            v = source[j, i]
            if not abs(v) < np.float32(3e38):
                continue
            piece = i // NODE
            step = i - piece * NODE
            f = step / NODE
            x = line[piece, 0] + (line[piece + 1, 0] - line[piece, 0]) * f
            y = line[piece, 1] + (line[piece + 1, 1] - line[piece, 1]) * f
            kx = math.floor(x + 0.5)
            ky = math.floor(y + 0.5)
            if kx < 0 or ky < 0 or kx >= width or ky >= height:
                continue
            c = colours[j & 1, i & 1]
            seen += 1
            q = 2 + c
            value = v * factor[c] + np.float32(line[piece, q] + (line[piece + 1, q] - line[piece, q]) * f)
            own = without and held[j, i] == 0
            hole = False
            inside = kx > 0 and ky > 0 and kx < width - 1 and ky < height - 1
            k = 0
            for b in range(ky - 1, ky + 2):
                for a in range(kx - 1, kx + 2):
                    if inside or (0 <= a < width and 0 <= b < height):
                        m[k] = mean[c, b, a]
                    else:
                        m[k] = 0.0
                    # a pixel that holds nothing is exactly zero: ask its weight only then
                    hole = hole or m[k] == zero
                    k += 1
            n = np.float32(count[c, ky, kx])
            total = weight[c, ky, kx]
            squares = m2[c, ky, kx]
            here = m[4]
            if own:
                left, right = x - half, x + half
                top, bottom = y - half, y + half
                k = 0
                for b in range(ky - 1, ky + 2):
                    tall = max(min(bottom, b + 0.5) - max(top, b - 0.5), 0.0)
                    for a in range(kx - 1, kx + 2):
                        area = tall * max(min(right, a + 0.5) - max(left, a - 0.5), 0.0)
                        if area > 0 and (inside or (0 <= a < width and 0 <= b < height)):
                            wa = w * np.float32(area)
                            rest = weight[c, b, a] - wa
                            if count[c, b, a] > 1 and rest > np.float32(1e-4) * wa:
                                moved = m[k] - (value - m[k]) * (wa / rest)
                                if k == 4:
                                    squares = max(squares - wa * (value - m[k]) * (value - moved), zero)
                                    total = rest
                                    n -= one
                                m[k] = moved
                            else:
                                m[k] = 0.0
                                hole = True
                                if k == 4:
                                    n = zero
                        k += 1
            if hole:
                # some pixels around hold nothing: their level is that of the others
                sum_w, sum_m = zero, zero
                k = 0
                best = zero
                for b in range(ky - 1, ky + 2):
                    for a in range(kx - 1, kx + 2):
                        there[k] = 0
                        if 0 <= a < width and 0 <= b < height and weight[c, b, a] > 0:
                            there[k] = 1
                            if m[k] == zero and mean[c, b, a] != zero:
                                there[k] = 0  # nothing is left there without the sample
                            else:
                                wt = weight[c, b, a]
                                sum_w += wt
                                sum_m += wt * m[k]
                                if n < one and wt > best:
                                    best = wt
                                    squares = m2[c, b, a]
                                    total = wt
                                    here = np.float32(count[c, b, a])
                        k += 1
                if sum_w <= 0:
                    continue
                if n < one:
                    n = max(here, one)
                level = sum_m / sum_w
                missing = False
                for k in range(9):
                    if there[k] == 0:
                        m[k] = level
                        missing = True
                gx, gy, xx, yy, xy, spread = _shape(m)
                if missing:
                    gx, gy, xx, yy, xy = zero, zero, zero, zero, zero
                    centre = level if there[4] == 0 else m[4]
                else:
                    centre = m[4]
            else:
                gx, gy, xx, yy, xy, spread = _shape(m)
                centre = m[4]
            if n < one or (without and n < np.float32(1.5)):
                continue
            dx, dy = np.float32(x - kx), np.float32(y - ky)
            half_ = np.float32(0.5)
            expected = centre + dx * gx + dy * gy + half_ * (dx * dx * xx + dy * dy * yy) + dx * dy * xy
            lim = limits[c]
            scatter = lim[7] * squares * n / max(total, tiny)
            shift, limit = predict(
                expected, scatter, n, spread, xx + yy, lim[0], lim[1], lim[2], lim[3], lim[4], lim[5],
                lim[6] - sharpen,
            )  # fmt: skip
            if not without:
                refused = np.float32(low[c, ky, kx]) + np.float32(high[c, ky, kx])
                doubt = min(max(refused / (n + one) - np.float32(0.35), zero), np.float32(8.0))
                doubt4 = doubt * doubt * doubt * doubt
                open_up = one + np.float32(4.0) * doubt + doubt4 * doubt4
                limit *= open_up * open_up
            d = value - expected - shift
            if d * d > limit:
                codes[j, i] = HIGH if d > 0 else LOW
                rejected += 1
    return seen, rejected
