"""Loops that look for what moves: frames made smaller onto the reference, their residuals, peaks and lines in them.

A reduced pixel is the mean of `bin` x `bin` pixels of a frame, taken where the frame shows that part of the reference:
a box with fractions of pixels at its edges, so that no value is interpolated and a mosaic's colours are always mixed
alike. Callers own the arrays; `livestack.movers` is the only caller.
"""

from __future__ import annotations

import math

import numpy as np
from numba import njit

BLOCK = 8
"""Reduced pixels in a side of the blocks whose mean tells what lies around a point."""
PIECE = 32
"""Reduced pixels over which a shift is held where it hardly changes."""
STRAIGHT = 0.12
"""Pixels of the frame by which it may change over a piece for that."""
CLIP2 = np.float32(9.0)
"""A residual squared counts for no more than so many times the variance, in variance and mean."""
PATIENCE = np.float32(24.0)
"""Frames that the first guess of a variance is worth."""


@njit(nogil=True, cache=True, error_model="numpy")
def _box(plane, left, top, size, height, width):
    """Mean over a box of `size` pixels whose first edge is `left`, `top` in pixels; NaN outside."""
    i = math.floor(left)
    j = math.floor(top)
    if i < 0 or j < 0 or i + size >= width or j + size >= height:
        return np.float32(np.nan)
    f = np.float32(left - i)
    g = np.float32(top - j)
    one = np.float32(1.0)
    total = np.float32(0.0)
    for v in range(size + 1):
        line = plane[j + v]
        part = (one - f) * line[i] + f * line[i + size]
        for u in range(1, size):
            part += line[i + u]
        total += part * ((one - g) if v == 0 else (g if v == size else one))
    return total / np.float32(size * size)


@njit(nogil=True, cache=True, error_model="numpy")
def _box_of_two(plane, left, top):
    """`_box` of two pixels in a side, which must lie within the plane."""
    i = int(left)
    j = int(top)
    f = np.float32(left - i)
    g = np.float32(top - j)
    one = np.float32(1.0)
    a, b, c = plane[j], plane[j + 1], plane[j + 2]
    first = (one - g) * a[i] + b[i] + g * c[i]
    middle = (one - g) * a[i + 1] + b[i + 1] + g * c[i + 1]
    last = (one - g) * a[i + 2] + b[i + 2] + g * c[i + 2]
    return np.float32(0.25) * ((one - f) * first + middle + f * last)


@njit(nogil=True, cache=True, error_model="numpy")
def _add_rows(plane, low, span, top, slope, size, scratch, add):
    """Sums of `size` rows of a plane, with fractions, of `span` columns from `low` on; with `add`, added to scratch.

    The sums begin at `top` in the first column and `slope` lower in each one after it.
    """
    zero = np.float32(0.0)
    one = np.float32(1.0)
    s = np.float32(slope)
    begin = 0
    while begin < span:
        at = top + slope * begin
        j = math.floor(at)
        left = span - begin
        if slope > 1e-9:
            left = min(left, int((j + 1 - at) / slope) + 1)
        elif slope < -1e-9:
            left = min(left, int((at - j) / -slope) + 1)
        g = np.float32(at - j)
        to = scratch[begin : begin + left]
        a = plane[j, low + begin : low + begin + left]
        z = plane[j + size, low + begin : low + begin + left]
        if size == 2:
            b = plane[j + 1, low + begin : low + begin + left]
            for c in range(left):
                h = g + s * np.float32(c)
                to[c] = (to[c] if add else zero) + ((one - h) * a[c] + b[c] + h * z[c])
        else:
            for c in range(left):
                h = g + s * np.float32(c)
                to[c] = (to[c] if add else zero) + ((one - h) * a[c] + h * z[c])
            for v in range(1, size):
                b = plane[j + v, low + begin : low + begin + left]
                for c in range(left):
                    to[c] += b[c]
        begin += left


@njit(nogil=True, cache=True, error_model="numpy")
def reduce_rows(planes, nodes, size, out, first, last):
    """Rows first..last of a frame made smaller onto the reduced reference; mean of its planes.

    Parameters
    ----------
    planes : (P, h, w) float32, NaN where there is no data; a mosaic is one plane, with even `size`.
    nodes : (gy, gx, 2) float64, frame (x, y) of the reduced pixels (PIECE k, PIECE j); between them it is linear.
    size : pixels of the frame in a side of a reduced one.
    out : (H, W) float32, filled; NaN where the frame shows nothing.
    """
    n_planes, height, width = planes.shape
    columns = out.shape[1]
    half = 0.5 * size - 0.5
    step = 1.0 / PIECE
    scratch = np.zeros((PIECE * size + size + 3) // 2 * 2, dtype=np.float32)
    pairs = scratch.reshape(-1, 2)
    one = np.float32(1.0)
    share = np.float32(1.0 / (size * size * n_planes))
    for y in range(first, last):
        row = y // PIECE
        t = (y - row * PIECE) * step
        for piece in range((columns + PIECE - 1) // PIECE):
            k0 = piece * PIECE
            number = min(PIECE, columns - k0)
            x0 = (1 - t) * nodes[row, piece, 0] + t * nodes[row + 1, piece, 0] - half
            y0 = (1 - t) * nodes[row, piece, 1] + t * nodes[row + 1, piece, 1] - half
            x1 = (1 - t) * nodes[row, piece + 1, 0] + t * nodes[row + 1, piece + 1, 0] - half
            y1 = (1 - t) * nodes[row, piece + 1, 1] + t * nodes[row + 1, piece + 1, 1] - half
            dx = (x1 - x0) * step
            dy = (y1 - y0) * step
            to = out[y, k0 : k0 + number]
            sign = 1 if dx > 0 else -1
            even = abs(x1 - x0 - sign * size * PIECE) < STRAIGHT
            if even:
                # the columns of the frame that all boxes of the piece need, and where their rows begin
                left = x0 + 0.5 * (x1 - x0 - sign * size * PIECE)
                i = math.floor(left)
                low = i if sign > 0 else i - size * (number - 1)
                high = (i + size * (number - 1) if sign > 0 else i) + size
                slope = dy / (sign * size)
                top = y0 + slope * (low + half - left)
                bottom = top + slope * (high - low)
                even = low >= 0 and high < width and min(top, bottom) >= 0 and max(top, bottom) + size + 1 < height
            if not even:
                ends = min(x0, x1), min(y0, y1), max(x0, x1), max(y0, y1)
                whole = ends[0] >= 0 and ends[1] >= 0 and ends[2] + size < width - 1 and ends[3] + size < height - 1
                for p in range(n_planes):
                    plane = planes[p]
                    for k in range(number):
                        if size == 2 and whole:
                            value = _box_of_two(plane, x0 + k * dx, y0 + k * dy)
                        else:
                            value = _box(plane, x0 + k * dx, y0 + k * dy, size, height, width)
                        value /= np.float32(n_planes)
                        to[k] = value if p == 0 else to[k] + value
                continue
            f = np.float32(left - i)
            for p in range(n_planes):
                _add_rows(planes[p], low, high - low + 1, top, slope, size, scratch, p > 0)
            if size == 2 and sign > 0:
                for k in range(number):
                    to[k] = ((one - f) * pairs[k, 0] + pairs[k, 1] + f * pairs[k + 1, 0]) * share
                continue
            at = i - low
            for k in range(number):
                c = at + sign * size * k
                value = (one - f) * scratch[c] + f * scratch[c + size]
                for u in range(1, size):
                    value += scratch[c + u]
                to[k] = value * share


@njit(nogil=True, cache=True, error_model="numpy")
def level_row(mesh, y, step, out):
    """A row of a mesh (gy, gx) with a node at every `step` pixels, bilinear, at pixel row y; fills out (W,)."""
    row = min(int(y / step), mesh.shape[0] - 2)
    t = np.float32(y / step - row)
    inverse = np.float32(1.0 / step)
    above = mesh[row]
    below = mesh[row + 1]
    for piece in range(mesh.shape[1] - 1):
        a = above[piece] + t * (below[piece] - above[piece])
        b = above[piece + 1] + t * (below[piece + 1] - above[piece + 1])
        slope = (b - a) * inverse
        k0 = piece * step
        for k in range(k0, min(k0 + step, out.shape[0])):
            out[k] = a + slope * np.float32(k - k0)


@njit(nogil=True, cache=True, error_model="numpy")
def differences_in_blocks(image, factor, beside, count, step, down, along, blocks, numbers):
    """What `factor` times an image differs by from another, of blocks of `step` pixels a side.

    Parameters
    ----------
    image, beside : (H, W) float32; count : (H, W) uint16, 0 where `beside` is not known.
    down, along : of so many rows, and pixels of a row, one is looked at.
    blocks : (gy gx, (step / down) (step / along)) float32, filled, +inf after the last that is known.
    numbers : (gy gx,) int64 of those that are known, filled.
    """
    height, width = image.shape
    columns = (width + step - 1) // step
    f = np.float32(factor)
    blocks[:] = np.float32(np.inf)
    numbers[:] = 0
    most = np.float32(3e38)
    for y in range(0, height, down):
        line, other, known = image[y], beside[y], count[y]
        for column in range(columns):
            block = y // step * columns + column
            n = numbers[block]
            to = blocks[block]
            for x in range(column * step, min((column + 1) * step, width), along):
                value = f * line[x] - other[x]
                if known[x] > 0 and abs(value) < most:
                    to[n] = value
                    n += 1
            numbers[block] = n


@njit(nogil=True, cache=True, error_model="numpy")
def residual_rows(
    reduced, factor, level, step, sigma, count, mean, variance, most, share, out, coarse, around, first, last
):
    """Residuals against the running mean in sigma, the frame added to the mean, and sums of residuals; in one pass.

    Parameters
    ----------
    reduced : (H, W) float32, a reduced frame; factor : brings it to the mean's scale.
    level, step : (gy, gx) float32, its sky after that, at every `step` pixels.
    sigma : of a reduced pixel of sky.
    count, mean, variance : (H, W) uint16, float32, float32: frames so far, their mean, the variance of residuals in
        units of the sky's; changed in place.
    most : the mean forgets as if it had no more frames than this; share : of what it would learn, what it does.
    out : (H, W) float32, filled; 0 where there is no data or no mean of three frames.
    coarse : (H // 2, W // 2) float32, filled with sums of 2 x 2 of `out`, halved: white noise stays of sigma 1.
    around : (ceil(H / BLOCK), ceil(W / BLOCK), 2) float32, filled: the sum of the coarse ones in each block, held
        within +-4, and how many of them are known.
    first, last : rows of blocks.
    """
    height, width = reduced.shape
    sky = np.empty(width, dtype=np.float32)
    f = np.float32(factor)
    inverse = np.float32(1.0 / sigma)
    s = np.float32(sigma)
    one = np.float32(1.0)
    zero = np.float32(0.0)
    four = np.float32(4.0)
    limit = np.float32(most)
    learn = np.float32(share)
    for y in range(first * BLOCK, min(last * BLOCK, height)):
        level_row(level, y, step, sky)
        line = reduced[y]
        m = mean[y]
        v = variance[y]
        c = count[y]
        o = out[y]
        for k in range(width):
            value = f * line[k] - sky[k]
            finite = abs(value) < np.float32(3e38)
            known = np.float32(c[k])
            r = (value - m[k]) * inverse if finite else zero
            spread = v[k]
            root = math.sqrt(spread)
            old = finite and c[k] >= 3
            o[k] = r / root if old else zero
            r2 = min(r * r, CLIP2 * spread)
            bound = np.float32(3.0) * root
            pull = min(max(r, -bound), bound) if c[k] >= 3 else r
            gain = learn / (min(known, limit) + one) if finite else zero
            m[k] = m[k] + gain * pull * s
            slow = one / (min(known, limit) + PATIENCE) if old else zero
            v[k] = spread + slow * (r2 - spread)
            c[k] = c[k] + np.uint16(1 if finite and c[k] < 65535 else 0)
        if y % 2 == 0 or y // 2 >= coarse.shape[0]:
            continue
        a = out[y - 1]
        to = coarse[y // 2]
        for x in range(to.shape[0]):
            to[x] = np.float32(0.5) * ((a[2 * x] + a[2 * x + 1]) + (o[2 * x] + o[2 * x + 1]))
        sums = around[y // BLOCK]
        if y % BLOCK == 1:
            sums[:] = zero
        for block in range(sums.shape[0]):
            total = zero
            known = zero
            for x in range(block * (BLOCK // 2), min((block + 1) * (BLOCK // 2), to.shape[0])):
                total += min(max(to[x], -four), four)
                known += one if to[x] != zero else zero
            sums[block, 0] += total
            sums[block, 1] += known


@njit(nogil=True, cache=True, error_model="numpy")
def prior_rows(mean, sigma, share, variance, first, last):
    """Rows first..last of a first guess of the variance: 1 and the square of a share of the mean's 3 x 3 range."""
    height, width = mean.shape
    scale = np.float32(share / sigma)
    for y in range(first, last):
        for x in range(width):
            low = mean[y, x]
            high = low
            for j in range(max(y - 1, 0), min(y + 2, height)):
                for i in range(max(x - 1, 0), min(x + 2, width)):
                    low = min(low, mean[j, i])
                    high = max(high, mean[j, i])
            spread = (high - low) * scale
            variance[y, x] = np.float32(1.0) + spread * spread


@njit(nogil=True, cache=True, error_model="numpy")
def filter_row(residual, taps, y, column, out):
    """Row y of (H, W) float32 convolved with the separable taps (2 r + 1,) to out (W,); the borders are 0.

    `column` is room for a row.
    """
    height, width = residual.shape
    reach = taps.shape[0] // 2
    out[:] = np.float32(0.0)
    if y < reach or y >= height - reach:
        return
    if reach == 1:
        above, here, below = residual[y - 1], residual[y], residual[y + 1]
        a = taps[0]
        b = taps[1]
        for x in range(width):
            column[x] = a * (above[x] + below[x]) + b * here[x]
        for x in range(1, width - 1):
            out[x] = a * (column[x - 1] + column[x + 1]) + b * column[x]
        return
    column[:] = np.float32(0.0)
    for j in range(-reach, reach + 1):
        weight = taps[j + reach]
        row = residual[y + j]
        for x in range(width):
            column[x] += weight * row[x]
    for i in range(-reach, reach + 1):
        weight = taps[i + reach]
        for x in range(reach, width - reach):
            out[x] += weight * column[x + i]


@njit(nogil=True, cache=True, error_model="numpy")
def filter_some(residual, taps, every, out):
    """Every so many-th row of a residual as `filter_row` makes it; fills out (n, W), from row every // 2 on."""
    column = np.empty(residual.shape[1], dtype=np.float32)
    for n in range(out.shape[0]):
        filter_row(residual, taps, every // 2 + n * every, column, out[n])


@njit(nogil=True, cache=True, error_model="numpy")
def point_rows(residual, taps, around, weight, scale, out, first, last):
    """Rows first..last of (H, W) float32 filtered for points, as int8 in steps of 1/16 of sigma, held within +-7.9.

    Parameters
    ----------
    around : (ceil(H / BLOCK), ceil(W / BLOCK)) float32, what lies around a block: `weight` times it is taken off.
    scale : one over the sigma of the filtered residual.
    """
    width = residual.shape[1]
    column = np.empty(width, dtype=np.float32)
    line = np.empty(width, dtype=np.float32)
    s = np.float32(scale * 16.0)
    zero = np.float32(0.0)
    most = np.float32(127.0)
    off = np.empty(width, dtype=np.float32)
    for y in range(first, last):
        filter_row(residual, taps, y, column, line)
        if y == first or y % BLOCK == 0:
            near = around[y // BLOCK]
            for block in range(near.shape[0]):
                off[block * BLOCK : (block + 1) * BLOCK] = np.float32(weight) * near[block]
        to = out[y]
        for x in range(width):
            v = line[x]
            v = (v - off[x]) * s if v != zero else zero
            to[x] = np.int8(np.int32(min(max(v, -most), most)))


@njit(nogil=True, cache=True, error_model="numpy")
def list_peaks(image, limit, first, last, out):
    """Local maxima above `limit` in rows first..last of (H, W) int8; fills out (n, 3) float32 with x, y, value.

    Places are refined by parabolas through the neighbours. Returns how many there were; no more than fit are kept.
    """
    height, width = image.shape
    found = 0
    for y in range(max(first, 1), min(last, height - 1)):
        line = image[y]
        for x in range(1, width - 1):
            v = line[x]
            if v < limit:
                continue
            peak = True
            for j in range(-1, 2):
                for i in range(-1, 2):
                    other = image[y + j, x + i]
                    before = j < 0 or (j == 0 and i < 0)
                    if (i != 0 or j != 0) and (other > v or (other == v and before)):
                        peak = False
            if not peak:
                continue
            if found < out.shape[0]:
                a = np.float32(line[x - 1])
                b = np.float32(line[x + 1])
                c = np.float32(image[y - 1, x])
                d = np.float32(image[y + 1, x])
                two = np.float32(2.0) * np.float32(v)
                bend_x = two - a - b
                bend_y = two - c - d
                out[found, 0] = x + (np.float32(0.5) * (b - a) / bend_x if bend_x > 0 else np.float32(0.0))
                out[found, 1] = y + (np.float32(0.5) * (d - c) / bend_y if bend_y > 0 else np.float32(0.0))
                out[found, 2] = np.float32(v) / np.float32(16.0)
            found += 1
    return found


@njit(nogil=True, cache=True, error_model="numpy")
def list_above(image, limit, first, last, out):
    """Pixels above `limit` in rows first..last of (H, W) float32; fills out (n, 2) int32 with x, y; how many."""
    found = 0
    for y in range(first, last):
        line = image[y]
        for x in range(line.shape[0]):
            if line[x] > limit:
                if found < out.shape[0]:
                    out[found, 0] = x
                    out[found, 1] = y
                found += 1
    return found


@njit(nogil=True, cache=True, error_model="numpy")
def _hits_along(mask, x, y, cos, sin, reach):
    """Cells of a line through (x, y) that are set within one cell to its side, up to `reach` cells away both ways."""
    height, width = mask.shape
    steep = abs(sin) > abs(cos)
    hits = 0
    for direction in (-1, 1):
        for k in range(1, reach + 1):
            px = round(x + direction * k * cos)
            py = round(y + direction * k * sin)
            if px < 1 or py < 1 or px >= width - 1 or py >= height - 1:
                break
            hit = mask[py, px] == 1
            if not hit:
                if steep:
                    hit = mask[py, px - 1] == 1 or mask[py, px + 1] == 1
                else:
                    hit = mask[py - 1, px] == 1 or mask[py + 1, px] == 1
            hits += 1 if hit else 0
    return hits


@njit(nogil=True, cache=True, error_model="numpy")
def _has_company(mask, x, y, reach, least):
    """True when at least so many cells of the square around one are set, itself included.

    A set cell is met by no more than three steps along a line: with fewer there is no line of so many hits.
    """
    height, width = mask.shape
    number = 0
    for j in range(max(0, y - reach), min(height, y + reach + 1)):
        line = mask[j]
        for i in range(max(0, x - reach), min(width, x + reach + 1)):
            number += 1 if line[i] == 1 else 0
        if number >= least:
            return True
    return False


@njit(nogil=True, cache=True, error_model="numpy")
def trace_lines(mask, points, reach, least_hits, gap, lines):
    """Straight lines through the set cells of a mask.

    Parameters
    ----------
    mask : (H, W) uint8, 1 where a cell stands out; cells of a line that was found become 2.
    points : (n, 2) int32, x and y of the set cells, the strongest first.
    reach, least_hits : a line is begun at a cell with so many set ones on a line through it, up to `reach` both ways.
    gap : cells without a set one that end a line.
    lines : (m, 5) float64, filled: x0, y0, x1, y1 and the share of cells along it that are set.

    Returns
    -------
    How many were found.
    """
    height, width = mask.shape
    n_angles = 48
    found = 0
    xs = np.empty(4 * (height + width), dtype=np.float64)
    ys = np.empty(4 * (height + width), dtype=np.float64)
    for n in range(points.shape[0]):
        if found >= lines.shape[0]:
            break
        x = points[n, 0]
        y = points[n, 1]
        if mask[y, x] != 1 or not _has_company(mask, x, y, reach + 1, (least_hits + 2) // 3 + 1):
            continue
        best = 0
        angle = 0.0
        for a in range(n_angles):
            theta = math.pi * a / n_angles
            hits = _hits_along(mask, x, y, math.cos(theta), math.sin(theta), reach)
            if hits > best:
                best = hits
                angle = theta
        if best < least_hits:
            continue
        cx = float(x)
        cy = float(y)
        cos = math.cos(angle)
        sin = math.sin(angle)
        low = 0.0
        high = 0.0
        hits = 0
        cells = 1
        span = float(reach)
        for step in range(8):
            # collect along the line as far as it is known to be good, fit, go farther
            used = 0
            low = 0.0
            high = 0.0
            for direction in (-1, 1):
                missing = 0
                k = 0 if direction > 0 else 1
                while k <= span:
                    px = round(cx + direction * k * cos)
                    py = round(cy + direction * k * sin)
                    if px < 2 or py < 2 or px >= width - 2 or py >= height - 2:
                        break
                    hit = False
                    for w in range(-2, 3):
                        qx = px + (w if abs(sin) > abs(cos) else 0)
                        qy = py + (0 if abs(sin) > abs(cos) else w)
                        off = (qy - cy) * cos - (qx - cx) * sin
                        if mask[qy, qx] == 1 and abs(off) < 1.6:
                            hit = True
                            if used < xs.shape[0]:
                                xs[used] = qx
                                ys[used] = qy
                                used += 1
                    if hit:
                        missing = 0
                        if direction > 0:
                            high = max(high, float(k))
                        else:
                            low = min(low, -float(k))
                    else:
                        missing += 1
                        if missing > gap:
                            break
                    k += 1
            if used < 4:
                break
            mx = 0.0
            my = 0.0
            for i in range(used):
                mx += xs[i]
                my += ys[i]
            mx /= used
            my /= used
            sxx = 0.0
            sxy = 0.0
            syy = 0.0
            for i in range(used):
                sxx += (xs[i] - mx) ** 2
                syy += (ys[i] - my) ** 2
                sxy += (xs[i] - mx) * (ys[i] - my)
            theta = 0.5 * math.atan2(2 * sxy, sxx - syy)
            # keep the middle of what was seen as the origin
            c2 = math.cos(theta)
            s2 = math.sin(theta)
            if c2 * cos + s2 * sin < 0:
                c2 = -c2
                s2 = -s2
            shift = (cx - mx) * c2 + (cy - my) * s2
            cx = mx + shift * c2
            cy = my + shift * s2
            cos = c2
            sin = s2
            if span > high + gap and span > -low + gap and step > 1:
                break
            span *= 2.5
        length = high - low
        hits = 0
        cells = 0
        k = low
        while k <= high:
            px = round(cx + k * cos)
            py = round(cy + k * sin)
            if 1 <= px < width - 1 and 1 <= py < height - 1:
                cells += 1
                hit = False
                for j in range(-1, 2):
                    for i in range(-1, 2):
                        if mask[py + j, px + i] == 1:
                            hit = True
                hits += 1 if hit else 0
                for j in range(-2, 3):
                    for i in range(-2, 3):
                        qx = px + i
                        qy = py + j
                        off = (qy - cy) * cos - (qx - cx) * sin
                        if 0 <= qx < width and 0 <= qy < height and abs(off) < 2.2 and mask[qy, qx] == 1:
                            mask[qy, qx] = 3
            k += 1.0
        # the cells of this line are spent
        k = low
        while k <= high:
            px = round(cx + k * cos)
            py = round(cy + k * sin)
            for j in range(-2, 3):
                for i in range(-2, 3):
                    qx = px + i
                    qy = py + j
                    if 0 <= qx < width and 0 <= qy < height and mask[qy, qx] == 3:
                        mask[qy, qx] = 2
            k += 1.0
        if length < 4:
            continue
        lines[found, 0] = cx + low * cos
        lines[found, 1] = cy + low * sin
        lines[found, 2] = cx + high * cos
        lines[found, 3] = cy + high * sin
        lines[found, 4] = hits / max(cells, 1)
        found += 1
    return found


@njit(nogil=True, cache=True, error_model="numpy")
def straighten(image, x0, y0, cos, sin, n_along, n_across, out):
    """(n_along, n_across) samples of (H, W) float32 along a line from (x0, y0), bilinear; NaN outside.

    out[k, j] is at k pixels along and j - n_across // 2 across (to the left of the direction in array axes: the
    direction (-sin, cos)).
    """
    height, width = image.shape
    half = n_across // 2
    for k in range(n_along):
        for j in range(n_across):
            w = j - half
            x = x0 + k * cos - w * sin
            y = y0 + k * sin + w * cos
            i = math.floor(x)
            m = math.floor(y)
            if i < 0 or m < 0 or i + 1 >= width or m + 1 >= height:
                out[k, j] = np.float32(np.nan)
                continue
            f = np.float32(x - i)
            g = np.float32(y - m)
            one = np.float32(1.0)
            a = (one - f) * image[m, i] + f * image[m, i + 1]
            b = (one - f) * image[m + 1, i] + f * image[m + 1, i + 1]
            out[k, j] = (one - g) * a + g * b


@njit(nogil=True, cache=True, error_model="numpy")
def median_rows(frames, out, count, first, last):
    """Rows first..last of the median over (K, H, W) float32; `out` is 0 and `count` too where fewer than 3 are data."""
    number, _, width = frames.shape
    values = np.empty(number, dtype=np.float32)
    for y in range(first, last):
        for x in range(width):
            n = 0
            for k in range(number):
                v = frames[k, y, x]
                if abs(v) < np.float32(3e38):
                    i = n
                    while i > 0 and values[i - 1] > v:
                        values[i] = values[i - 1]
                        i -= 1
                    values[i] = v
                    n += 1
            if n >= 3:
                out[y, x] = np.float32(0.5) * (values[(n - 1) // 2] + values[n // 2])
                count[y, x] = np.uint16(n)
            else:
                out[y, x] = np.float32(0.0)
                count[y, x] = np.uint16(0)


@njit(nogil=True, cache=True, error_model="numpy")
def halve_rows(maps, scale, out, first, last):
    """Rows first..last of (N, H // 2, W // 2) int8: `scale` times the sums of 2 x 2 of maps (N, H, W) int8."""
    s = np.float32(scale)
    most = np.float32(127.0)
    for n in range(maps.shape[0]):
        for y in range(first, last):
            a = maps[n, 2 * y]
            b = maps[n, 2 * y + 1]
            line = out[n, y]
            for x in range(line.shape[0]):
                total = np.int32(a[2 * x]) + np.int32(a[2 * x + 1]) + np.int32(b[2 * x]) + np.int32(b[2 * x + 1])
                line[x] = np.int8(np.int32(min(max(s * np.float32(total), -most), most)))


@njit(nogil=True, cache=True, error_model="numpy")
def shift_rows(maps, shifts, best, which, first, last):
    """Rows first..last of the largest sum over maps that are shifted against each other, and by which shifts.

    Parameters
    ----------
    maps : (B, H, W) int8, residuals in sixteenths of sigma.
    shifts : (R, B, 2) int64, x and y at which each map is read, for each of R rates.
    best : (H, W) int16, filled; which : (H, W) int16, the number of the rate, filled.
    """
    number, height, width = maps.shape
    total = np.empty(width, dtype=np.int16)
    for y in range(first, last):
        top = best[y]
        rate = which[y]
        for x in range(width):
            top[x] = np.int16(-32000)
            rate[x] = np.int16(0)
        for r in range(shifts.shape[0]):
            for x in range(width):
                total[x] = np.int16(0)
            for b in range(number):
                row = y + shifts[r, b, 1]
                if row < 0 or row >= height:
                    continue
                dx = shifts[r, b, 0]
                source = maps[b, row]
                x0 = max(0, -dx)
                x1 = min(width, width - dx)
                for x in range(x0, x1):
                    total[x] += np.int16(source[x + dx])
            for x in range(width):
                if total[x] > top[x]:
                    top[x] = total[x]
                    rate[x] = np.int16(r)


@njit(nogil=True, cache=True, error_model="numpy")
def list_best(best, which, limit, first, last, out):
    """Local maxima of `best` above `limit` in rows first..last; fills out (n, 4) int32 with x, y, which, value."""
    height, width = best.shape
    found = 0
    for y in range(max(first, 2), min(last, height - 2)):
        for x in range(2, width - 2):
            v = best[y, x]
            if v < limit:
                continue
            peak = True
            for j in range(-2, 3):
                for i in range(-2, 3):
                    other = best[y + j, x + i]
                    if other > v or (other == v and (j < 0 or (j == 0 and i < 0))):
                        peak = False
            if peak:
                if found < out.shape[0]:
                    out[found, 0] = x
                    out[found, 1] = y
                    out[found, 2] = which[y, x]
                    out[found, 3] = v
                found += 1
    return found


@njit(nogil=True, cache=True, error_model="numpy")
def sample_track(maps, times, a, b, ends, out):
    """What maps a..b (excluded) show along a track; NaN where it lies outside. In sigma.

    Parameters
    ----------
    maps : (N, H, W) int8; times : (N,).
    ends : (4,) x and y at the time of map a, x and y at that of map b - 1.
    """
    _, height, width = maps.shape
    span = times[b - 1] - times[a]
    for n in range(a, b):
        share = (times[n] - times[a]) / span if span > 0 else 0.0
        x = ends[0] + share * (ends[2] - ends[0])
        y = ends[1] + share * (ends[3] - ends[1])
        i = math.floor(x)
        j = math.floor(y)
        if i < 0 or j < 0 or i + 1 >= width or j + 1 >= height:
            out[n - a] = np.nan
            continue
        f = x - i
        g = y - j
        top = (1 - f) * maps[n, j, i] + f * maps[n, j, i + 1]
        bottom = (1 - f) * maps[n, j + 1, i] + f * maps[n, j + 1, i + 1]
        out[n - a] = ((1 - g) * top + g * bottom) / 16.0


@njit(nogil=True, cache=True, error_model="numpy")
def _track_sum(maps, times, a, b, ends, cap, scratch):
    """Sum along a track, each no more than `cap`, over the root of how many there are."""
    sample_track(maps, times, a, b, ends, scratch)
    total = 0.0
    n = 0
    for k in range(b - a):
        if scratch[k] == scratch[k]:
            total += min(scratch[k], cap)
            n += 1
    return total / math.sqrt(n) if n > 0 else 0.0


@njit(nogil=True, cache=True, error_model="numpy")
def climb_track(maps, times, a, b, ends, cap, step, least):
    """Move the ends of a track to where the sum along it is largest; in place. Returns that sum.

    Steps of `step` reduced pixels are tried on each of the four coordinates, alone and in both ends at once, and
    halved down to `least`.
    """
    scratch = np.empty(b - a)
    best = _track_sum(maps, times, a, b, ends, cap, scratch)
    trial = np.empty(4)
    while step >= least:
        moved = True
        rounds = 0
        while moved and rounds < 12:
            moved = False
            rounds += 1
            for move in range(16):
                for k in range(4):
                    trial[k] = ends[k]
                sign = 1.0 if move % 2 == 0 else -1.0
                kind = move // 2
                if kind < 4:
                    trial[kind] += sign * step
                elif kind < 6:  # both ends the same way
                    trial[kind - 4] += sign * step
                    trial[kind - 2] += sign * step
                else:  # the ends against each other
                    trial[kind - 6] += sign * step
                    trial[kind - 4] -= sign * step
                value = _track_sum(maps, times, a, b, trial, cap, scratch)
                if value > best + 1e-9:
                    best = value
                    for k in range(4):
                        ends[k] = trial[k]
                    moved = True
        step *= 0.5
    return best


@njit(nogil=True, cache=True, error_model="numpy")
def follow_candidates(maps, times, ranges, ends, cap, kept, sums):
    """Climb each of n candidates over its own maps, then over ever more of them while that makes it more certain.

    Parameters
    ----------
    ranges : (n, 2) int64, first and last map (excluded), changed in place; ends : (n, 4), see `climb_track`.
    kept : a candidate must reach this sum over its first maps to be followed on.
    sums : (n,), filled; 0 for those that were let go.
    """
    n_maps = maps.shape[0]
    for c in range(ends.shape[0]):
        a = ranges[c, 0]
        b = ranges[c, 1]
        own = ends[c].copy()
        best = climb_track(maps, times, a, b, own, cap, 0.5, 0.24)
        if best < kept:
            sums[c] = 0.0
            continue
        grow = max(2, (b - a) // 2)
        while True:
            improved = False
            for side in range(3):
                a2 = max(0, a - grow) if side != 1 else a
                b2 = min(n_maps, b + grow) if side != 0 else b
                if side < 2 and a2 == a and b2 == b:
                    continue
                if side == 2 and (a2 == a or b2 == b):
                    continue
                span = times[b - 1] - times[a]
                if span <= 0:
                    continue
                trial = np.empty(4)
                s0 = (times[a2] - times[a]) / span
                s1 = (times[b2 - 1] - times[a]) / span
                for k in range(2):
                    trial[k] = own[k] + s0 * (own[2 + k] - own[k])
                    trial[2 + k] = own[k] + s1 * (own[2 + k] - own[k])
                value = climb_track(maps, times, a2, b2, trial, cap, 1.0, 0.24)
                if value > best + 0.15:
                    best = value
                    a = a2
                    b = b2
                    own = trial
                    improved = True
                    break
            if not improved:
                if grow <= 2 or best < 5.0:
                    break
                grow = max(2, grow // 2)
            else:
                grow = max(2, (b - a) // 2)
        best = climb_track(maps, times, a, b, own, cap, 0.25, 0.03)
        ranges[c, 0] = a
        ranges[c, 1] = b
        for k in range(4):
            ends[c, k] = own[k]
        sums[c] = best


@njit(nogil=True, cache=True, error_model="numpy")
def _columns_near(y, x0, y0, x1, cos, sin, reach, width):
    """First column of a row, and the one after the last, that may lie within `reach` of a line from (x0, y0)."""
    left = min(x0, x1) - reach
    right = max(x0, x1) + reach
    if abs(sin) > 1e-6:
        centre = x0 + (y - y0) * cos / sin
        half = reach / abs(sin)
        left = max(left, centre - half)
        right = min(right, centre + half)
    return max(0, int(left)), min(width, int(right) + 2)


@njit(nogil=True, cache=True, error_model="numpy")
def erase_line(image, x0, y0, x1, y1, reach):
    """Set what lies within `reach` pixels of a line between two places to 0, in (H, W) int8."""
    height, width = image.shape
    length = max(math.hypot(x1 - x0, y1 - y0), 1e-9)
    cos = (x1 - x0) / length
    sin = (y1 - y0) / length
    for y in range(max(0, int(min(y0, y1) - reach)), min(height, int(max(y0, y1) + reach) + 2)):
        first, end = _columns_near(y, x0, y0, x1, cos, sin, reach, width)
        for x in range(first, end):
            along = (x - x0) * cos + (y - y0) * sin
            across = (y - y0) * cos - (x - x0) * sin
            if -reach <= along <= length + reach and abs(across) <= reach:
                image[y, x] = np.int8(0)


@njit(nogil=True, cache=True, error_model="numpy")
def keep_trail(sigmas, variance, unit, x0, y0, x1, y1, reach, least, trails):
    """Take what shines within `reach` pixels of a line into a picture of the brightest light of each place; in place.

    Parameters
    ----------
    sigmas, variance : (H, W) float32, residuals and the variance that they are told in; unit : its root's, in ADU.
    least : residuals below so many sigma are noise.
    trails : (H, W) float32, ADU.
    """
    height, width = sigmas.shape
    length = max(math.hypot(x1 - x0, y1 - y0), 1e-9)
    cos = (x1 - x0) / length
    sin = (y1 - y0) / length
    for y in range(max(0, int(min(y0, y1) - reach)), min(height, int(max(y0, y1) + reach) + 2)):
        first, end = _columns_near(y, x0, y0, x1, cos, sin, reach, width)
        for x in range(first, end):
            along = (x - x0) * cos + (y - y0) * sin
            across = (y - y0) * cos - (x - x0) * sin
            if -reach <= along <= length + reach and abs(across) <= reach and sigmas[y, x] > least:
                light = np.float32(sigmas[y, x] * math.sqrt(variance[y, x]) * unit)
                trails[y, x] = max(trails[y, x], light)


@njit(nogil=True, cache=True, error_model="numpy")
def refer_to_end(maps, gains, apart, blind, out, first, last):
    """Rows first..last of maps against the mean of the frames of another time, not as it was when each came.

    A residual r_t against a mean that took a share g_t of each, M_t+1 = M_t + g_t r_t, is one against the last mean
    when all g r from t on are taken from it. From that the mean of those is taken that are more than `apart` frames
    before or after: what moves slowly is not in the mean that it is compared with.

    Parameters
    ----------
    maps, out : (N, H, W) int8; gains : (N,) float32.
    blind : (H, W) bool, True where nothing is to be looked for: stars, whose residuals last.
    """
    number, _, width = maps.shape
    later = np.empty(width, dtype=np.float32)
    sums = np.empty((number + 1, width), dtype=np.float32)
    for y in range(first, last):
        for x in range(width):
            later[x] = np.float32(0.0)
            sums[number, x] = np.float32(0.0)
        # sums[t] becomes what residuals from t on amount to
        for t in range(number - 1, -1, -1):
            g = gains[t]
            line = maps[t, y]
            for x in range(width):
                r = np.float32(line[x])
                later[x] += g * r
                sums[t, x] = sums[t + 1, x] + (r - later[x])
        for t in range(number):
            low = max(0, t - apart)
            high = min(number, t + apart + 1)
            left = number - (high - low)
            share = np.float32(1.0 / left) if left > 0 else np.float32(0.0)
            white = np.float32(1.0 / math.sqrt(1.0 + share))  # the others have noise of their own
            line = maps[t, y]
            to = out[t, y]
            for x in range(width):
                own = sums[t, x] - sums[t + 1, x]
                others = sums[0, x] - (sums[low, x] - sums[high, x])
                v = white * (own - share * others) if line[x] != 0 and not blind[y, x] else np.float32(0.0)
                to[x] = np.int8(min(max(v, np.float32(-127.0)), np.float32(127.0)))
