"""Drizzle: a camera's own pixels tested against the stack, then dropped on its grid, each in its own colour.

Variable-pixel linear reconstruction (Fruchter & Hook 2002, doi:10.1086/338393): a pixel shrinks to a square drop, which
lands where the frame's transform puts its centre, and each pixel of the grid takes of it what it overlaps. The drop's
sides run with the grid's (the "turbo" kernel of Fruchter & Hook): the pieces of a drop sum to its area whatever the
rotation, so that weight and flux are conserved.

How a sample is tested before is in `drizzle_test`; `drizzle_rows` does the same as `drop_tile`, faster, for frames
that lie much as the grid does.

What the arguments hold:

    source : (h, w) float32, the frame's pixels, NaN = bad; of a mosaic, or of one plane.
    colours : (2, 2) int64, the channel that pixel (y & 1, x & 1) feeds.
    nodes : (ny, nx, 2 + C) float64: at every `pitch`-th pixel of the frame the place on the grid, x and y, and the
        additive surface of each channel; straight in between.
    factor : (C,) float32.
    planes : mean, m2, weight (C, H, W) float32, count (C, H, W) uint16; for tests low and high, too.
    half : half the side of a drop, px of the grid.
"""

from __future__ import annotations

import math

import numpy as np
from numba import njit

from livestack.kernels.sample_rows import MOST


@njit(nogil=True, cache=True, error_model="numpy")
def node_row(nodes, pitch, j, out):
    """The nodes (nx, 2 + C) along row `j` of a frame."""
    k = min(j // pitch, nodes.shape[0] - 2)
    f = j / pitch - k
    for i in range(nodes.shape[1]):
        for q in range(nodes.shape[2]):
            out[i, q] = (1.0 - f) * nodes[k, i, q] + f * nodes[k + 1, i, q]


@njit(nogil=True, cache=True, error_model="numpy")
def place_of(line, pitch, i):
    """For pixel `i` of a row with these nodes: the node before it, how far on to the next it is, its place x and y."""
    piece = i // pitch
    f = (i - piece * pitch) / pitch
    x = line[piece, 0] + (line[piece + 1, 0] - line[piece, 0]) * f
    y = line[piece, 1] + (line[piece + 1, 1] - line[piece, 1]) * f
    return piece, f, x, y


@njit(nogil=True, cache=True, error_model="numpy")
def kept_step(length, change, part):
    """How many pixels on, at most `length`, whole-pixel parts keep step along an axis.

    Parameters
    ----------
    change : of the fraction from one pixel to the next; part : where in its pixel the first one is, 0 to 1.
    """
    if change > 1e-12:
        return min(length, math.ceil((1.0 - part) / change))
    if change < -1e-12:
        return min(length, math.floor(part / -change) + 1)
    return length


@njit(nogil=True, cache=True, error_model="numpy")
def drop_tile(source, colours, nodes, pitch, factor, codes, w, half, planes, sign, bounds, rows, sums):
    """Add a frame's drops to one tile of the grid, or (`sign` -1) take them out again.

    Parameters
    ----------
    codes : (h, w) uint8, not ACCEPTED = not dropped.
    bounds : (4,) int64: first and last row, first and last column of the tile (ends excluded).
    rows : (2,) int64: rows of the frame that may reach it (end excluded).
    sums : (4, C, tile rows, tile columns) float32, zero; scratch, zero again afterwards.
    """
    mean, m2, weight, count = planes
    y0, y1, x0, x1 = bounds[0], bounds[1], bounds[2], bounds[3]
    width = source.shape[1]
    line = np.empty(nodes.shape[1:], dtype=np.float64)
    s0, s1, s2, sn = sums[0], sums[1], sums[2], sums[3]
    channels = mean.shape[0]
    reach = half + 0.5
    for j in range(rows[0], rows[1]):
        node_row(nodes, pitch, j, line)
        for piece in range(nodes.shape[1] - 1):
            first = piece * pitch
            last = min(width, first + pitch)
            ya, yb = line[piece, 1], line[piece + 1, 1]
            xa, xb = line[piece, 0], line[piece + 1, 0]
            if max(ya, yb) < y0 - 0.5 - reach or min(ya, yb) > y1 - 0.5 + reach:
                continue
            if max(xa, xb) < x0 - 0.5 - reach or min(xa, xb) > x1 - 0.5 + reach:
                continue
            dx, dy = (xb - xa) / pitch, (yb - ya) / pitch
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
                code = codes[j, i]
                if code != 0:
                    continue
                q = 2 + c
                slope = (line[piece + 1, q] - line[piece, q]) / pitch
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
def count_refused(places, high_ones, colours, nodes, pitch, width, half, low, high, sign):
    """Count refused samples in all pixels of the grid that their drops would have reached.

    Parameters
    ----------
    places : (n,) int64, flat indices in a frame `width` pixels wide; high_ones : (n,) uint8, 1 = was too high.
    low, high : (C, H, W) uint16.
    """
    line = np.empty(nodes.shape[1:], dtype=np.float64)
    row = -1
    for k in range(places.shape[0]):
        j, i = places[k] // width, places[k] % width
        if j != row:
            node_row(nodes, pitch, j, line)
            row = j
        _, _, x, y = place_of(line, pitch, i)
        c = colours[j & 1, i & 1]
        to = high if high_ones[k] else low
        for b in range(max(0, math.floor(y - half + 0.5)), min(to.shape[1], math.ceil(y + half - 0.5) + 1)):
            for a in range(max(0, math.floor(x - half + 0.5)), min(to.shape[2], math.ceil(x + half - 0.5) + 1)):
                n = np.int64(to[c, b, a]) + sign
                to[c, b, a] = np.uint16(min(max(n, 0), 65535))


@njit(nogil=True, cache=True, error_model="numpy")
def drop_some(places, values, colours, nodes, pitch, width, factor, w, half, mean, m2, weight, count, sign):
    """Add the drops of some samples, one by one, or (`sign` -1) take them out again.

    Parameters
    ----------
    places : (n,) int64, flat indices in a frame `width` pixels wide; values : (n,) float32, the frame's samples there.
    """
    line = np.empty(nodes.shape[1:], dtype=np.float64)
    row = -1
    tiny, zero = np.float32(1e-20), np.float32(0.0)
    for k in range(places.shape[0]):
        j, i = places[k] // width, places[k] % width
        if not abs(values[k]) < np.float32(3e38):
            continue
        if j != row:
            node_row(nodes, pitch, j, line)
            row = j
        piece, f, x, y = place_of(line, pitch, i)
        c = colours[j & 1, i & 1]
        q = 2 + c
        value = values[k] * factor[c] + np.float32(line[piece, q] + (line[piece + 1, q] - line[piece, q]) * f)
        for b in range(max(0, math.floor(y - half + 0.5)), min(mean.shape[1], math.ceil(y + half - 0.5) + 1)):
            tall = np.float32(min(y + half, b + 0.5) - max(y - half, b - 0.5))
            for a in range(max(0, math.floor(x - half + 0.5)), min(mean.shape[2], math.ceil(x + half - 0.5) + 1)):
                area = tall * np.float32(min(x + half, a + 0.5) - max(x - half, a - 0.5))
                if not area > 0:
                    continue
                wa = w * area
                d = value - mean[c, b, a]
                if sign > 0:
                    total = weight[c, b, a] + wa
                    shift = d * (wa / max(total, tiny))
                    mean[c, b, a] += shift
                    m2[c, b, a] += wa * d * (d - shift)
                    weight[c, b, a] = total
                    count[c, b, a] = np.uint16(min(np.int64(count[c, b, a]) + 1, 65535))
                elif count[c, b, a] > 0:
                    rest = weight[c, b, a] - wa
                    if count[c, b, a] == 1 or rest <= np.float32(1e-6) * weight[c, b, a]:
                        mean[c, b, a], m2[c, b, a], weight[c, b, a], count[c, b, a] = zero, zero, zero, 0
                        continue
                    shift = d * (wa / rest)
                    mean[c, b, a] -= shift
                    m2[c, b, a] = max(m2[c, b, a] - wa * d * (d + shift), zero) if count[c, b, a] > 2 else zero
                    weight[c, b, a] = rest
                    count[c, b, a] -= np.uint16(1)
