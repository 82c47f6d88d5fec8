"""Drizzle: a camera's own pixels tested against what the stack says at their places.

A sample is expected to be the mean at its place, by a parabola through 3 x 3 pixels of the grid (the "blot"), sharpened
by what drop and pixel have blurred; its limit is that of `sample_rows.predict`. Where a frame lies much as the grid
does, pixels of one colour are tested many at once (`_segment`); holes, edges, and in the final test all that is not
plainly good, one by one (`_test_one`). What the arguments hold is said in `drizzle`.
"""

from __future__ import annotations

import math

import numpy as np
from numba import njit

from livestack.kernels.drizzle import kept_step, node_row, place_of
from livestack.kernels.sample_rows import HIGH, LOW, opened, predict

BLOCK = 256
GROUP = 32
SHORT = 12.0
"""Segments that are shorter than this on average are not worth their start."""
PLAINLY = np.float32(0.25)
"""Of the limit (squared) within which a sample that the mean holds is good without it, too, where there are
`MANY` samples."""
MANY = np.float32(6.0)
ASK = np.float32(2e30)
WORTH = np.float32(0.5625)
"""Independent samples that a drop counts for: with the pieces of drops of a pixel's size as weights it is 9/16."""


def _segment_of(stride):
    """The loop over samples that lie `stride` pixels apart: one for each, so that the compiler knows it."""

    @njit(nogil=True, cache=True, error_model="numpy")
    def segment(
        n, source, first, mean, q, total, count, low, high, at, pitch, x0, ex, y0, ey, factor, o0, eo, lim, sharpen,
        least, opens, out,
    ):  # fmt: skip
        """For `n` samples of one colour the squared distance from what is expected over the limit, with its sign.

        Parameters
        ----------
        source : a frame as one line, whose sample `first` is the first.
        mean, q, total, count, low, high : all planes as one line: mean, m2, weight and counts; `at` is the first
            sample's nearest pixel there, and a row of the grid is `pitch` long. Indices are unsigned, so that none can
            mean 'from the end'.
        x0, y0 : of the sample from its nearest pixel; ex, ey : their change from one sample to the next.
        o0, eo : additive surface, and its change. least : with fewer samples nothing is told here.
        opens : 1 where much that was refused opens the limit, else 0.
        out : filled; `ASK` where it cannot be told at once.
        """
        kappa2, dof, floor, slope = lim[0], lim[1], lim[2], lim[3]
        structure2, excess2, blur, louder = lim[4], lim[5], lim[6] - sharpen, lim[7]
        one, zero, half, quarter = np.float32(1.0), np.float32(0.0), np.float32(0.5), np.float32(0.25)
        u1 = np.uintp(1)
        up, down = at - pitch, at + pitch
        for k in range(n):
            step = np.uintp(stride * k)
            a, above, below = at + step, up + step, down + step
            s = np.float32(k)
            m0, m1, m2 = mean[above - u1], mean[above], mean[above + u1]
            m3, m4, m5 = mean[a - u1], mean[a], mean[a + u1]
            m6, m7, m8 = mean[below - u1], mean[below], mean[below + u1]
            least_m = min(min(min(m0, m1), min(m2, m3)), min(min(m4, m5), min(m6, min(m7, m8))))
            most_m = max(max(max(m0, m1), max(m2, m3)), max(max(m4, m5), max(m6, max(m7, m8))))
            number = np.float32(count[a])
            # a pixel that holds nothing is exactly zero
            hole = (m0 == zero) | (m1 == zero) | (m2 == zero) | (m3 == zero) | (m4 == zero) | (m5 == zero)
            hole = hole | (m6 == zero) | (m7 == zero) | (m8 == zero) | (number < least)
            dx, dy = x0 + s * ex, y0 + s * ey
            xx = (m3 + m5) - (m4 + m4)
            yy = (m1 + m7) - (m4 + m4)
            xy = quarter * ((m8 - m6) - (m2 - m0))
            expected = m4 + half * (dx * ((m5 - m3) + dx * xx) + dy * ((m7 - m1) + dy * yy)) + dx * dy * xy
            worth = max(number * WORTH, one)
            shift, limit = predict(
                expected, louder * q[a] * worth / max(total[a], np.float32(1e-20)), worth, most_m - least_m, xx + yy,
                kappa2, dof, floor, slope, structure2, excess2, blur,
            )  # fmt: skip
            wide = opened(opens * (np.float32(low[a]) + np.float32(high[a])), number)
            d = source[first + step] * factor + (o0 + s * eo) - expected - shift
            told = d * abs(d) / (limit * wide * wide)
            out[k] = ASK if hole else told

    return segment


_beside = _segment_of(1)
_apart = _segment_of(2)


@njit(nogil=True, cache=True, error_model="numpy")
def _look(value, x, y, planes, c, own, w, half):
    """What the stack says of a sample's place, whatever lies around: without the sample where it is its `own`.

    Returns
    -------
    (1 or 0 for nothing known, expected, range, Laplacian, samples, m2, weight); the Laplacian is 0 beside holes.
    """
    mean, m2, weight, count = planes[0], planes[1], planes[2], planes[3]
    height, width = mean.shape[1], mean.shape[2]
    m = np.empty(9, dtype=np.float32)
    there = np.empty(9, dtype=np.uint8)
    one, zero = np.float32(1.0), np.float32(0.0)
    kx, ky = math.floor(x + 0.5), math.floor(y + 0.5)
    if kx < 0 or ky < 0 or kx >= width or ky >= height:
        return 0, zero, zero, zero, zero, zero, zero
    sum_w, sum_m, best = zero, zero, zero
    n, total, squares = zero, zero, zero
    filled = 0
    for k in range(9):
        b, a = ky - 1 + k // 3, kx - 1 + k % 3
        there[k] = 0
        m[k] = zero
        if not (0 <= a < width and 0 <= b < height) or not weight[c, b, a] > 0:
            continue
        here, wt, sq, cn = mean[c, b, a], weight[c, b, a], m2[c, b, a], np.float32(count[c, b, a])
        if own:
            # the mean without this sample
            wide = min(x + half, a + 0.5) - max(x - half, a - 0.5)
            tall = min(y + half, b + 0.5) - max(y - half, b - 0.5)
            if wide > 0 and tall > 0:
                wa = w * np.float32(wide * tall)
                rest = wt - wa
                if cn < np.float32(1.5) or rest <= np.float32(1e-4) * wa:
                    continue
                moved = here - (value - here) * (wa / rest)
                sq = max(sq - wa * (value - here) * (value - moved), zero)
                here, wt, cn = moved, rest, cn - one
        there[k] = 1
        filled += 1
        m[k] = here
        sum_w += wt
        sum_m += wt * here
        if k == 4 or (k < 4 and wt > best) or (k > 4 and there[4] == 0 and wt > best):
            best, n, total, squares = wt, cn, wt, sq
    if filled == 0 or not sum_w > 0:
        return 0, zero, zero, zero, zero, zero, zero
    level = sum_m / sum_w
    middle = m[4] if there[4] == 1 else level
    least, most = middle, middle
    for k in range(9):
        if there[k] == 0:
            m[k] = level
        least, most = min(least, m[k]), max(most, m[k])
    expected, curve = middle, zero
    if filled == 9:
        dx, dy, h = np.float32(x - kx), np.float32(y - ky), np.float32(0.5)
        xx = (m[3] + m[5]) - (m[4] + m[4])
        yy = (m[1] + m[7]) - (m[4] + m[4])
        xy = np.float32(0.25) * ((m[8] - m[6]) - (m[2] - m[0]))
        expected = m[4] + h * (dx * ((m[5] - m[3]) + dx * xx) + dy * ((m[7] - m[1]) + dy * yy)) + dx * dy * xy
        curve = xx + yy
    return 1, expected, most - least, curve, n, squares, total


@njit(nogil=True, cache=True, error_model="numpy")
def _test_one(value, x, y, planes, c, lim, without, own, w, half, sharpen):
    """Code of one sample (`test_rows` says what the arguments are)."""
    low, high = planes[4], planes[5]
    one = np.float32(1.0)
    known, expected, spread, curve, n, squares, total = _look(value, x, y, planes, c, own, w, half)
    if known == 0 or (without and n < np.float32(1.5)):
        return np.uint8(0)
    n = max(n, one)
    worth = max(n * WORTH, one)
    shift, limit = predict(
        expected, lim[7] * squares * worth / max(total, np.float32(1e-20)), worth, spread, curve, lim[0], lim[1],
        lim[2], lim[3], lim[4], lim[5], lim[6] - sharpen,
    )  # fmt: skip
    if not without:
        kx, ky = math.floor(x + 0.5), math.floor(y + 0.5)
        open_up = opened(np.float32(low[c, ky, kx]) + np.float32(high[c, ky, kx]), n)
        limit *= open_up * open_up
    d = value - expected - shift
    if d * d > limit:
        return np.uint8(HIGH) if d > 0 else np.uint8(LOW)
    return np.uint8(0)


@njit(nogil=True, cache=True, error_model="numpy")
def test_some(places, source, colours, nodes, pitch, factor, limits, planes, w, half, sharpen, codes):
    """Test samples that the stack does not hold once more, one by one; arguments as in `test_rows`.

    Parameters
    ----------
    places : (n,) int64, flat indices of the frame's samples.
    codes : (n,) uint8, filled.
    """
    line = np.empty(nodes.shape[1:], dtype=np.float64)
    row = -1
    width = source.shape[1]
    for k in range(places.shape[0]):
        j, i = places[k] // width, places[k] % width
        if j != row:
            node_row(nodes, pitch, j, line)
            row = j
        piece, f, x, y = place_of(line, pitch, i)
        c = colours[j & 1, i & 1]
        q = 2 + c
        value = source[j, i] * factor[c] + np.float32(line[piece, q] + (line[piece + 1, q] - line[piece, q]) * f)
        codes[k] = _test_one(value, x, y, planes, c, limits[c], True, False, w, half, sharpen)


@njit(nogil=True, cache=True, error_model="numpy")
def look_at_rows(source, colours, nodes, pitch, factor, planes, held, w, half, rows, least, out):
    """How samples on stars differ from what the mean of the others says at their places.

    Parameters
    ----------
    rows : (n,) int64, rows of the frame that are looked at; the others as in `test_rows`, `without` the samples.
    least : (C,) float32, range of the mean from which on there is a star.
    out : (5, m) float32, filled: sample less mean, Laplacian, range and mean there, channel.

    Returns
    -------
    How many were found, at most m.
    """
    line = np.empty(nodes.shape[1:], dtype=np.float64)
    found = 0
    for j in rows:
        node_row(nodes, pitch, j, line)
        for i in range(source.shape[1]):
            v = source[j, i]
            if not abs(v) < np.float32(3e38) or held[j, i] != 0 or found == out.shape[1]:
                continue
            piece, f, x, y = place_of(line, pitch, i)
            c = colours[j & 1, i & 1]
            q = 2 + c
            value = v * factor[c] + np.float32(line[piece, q] + (line[piece + 1, q] - line[piece, q]) * f)
            known, expected, spread, curve, n, _, _ = _look(value, x, y, planes, c, True, w, half)
            if known == 0 or n < np.float32(2.0) or spread < least[c] or curve == 0:
                continue
            out[0, found] = value - expected
            out[1, found] = curve
            out[2, found] = spread
            out[3, found] = expected
            out[4, found] = c
            found += 1
    return found


@njit(nogil=True, cache=True, error_model="numpy")
def test_rows(
    source, colours, nodes, pitch, factor, limits, planes, without, held, w, half, sharpen, first_row, last_row, codes
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
    out = np.empty(BLOCK, dtype=np.float32)
    step = 1 if mean.shape[0] == 1 else 2
    enough = PLAINLY if without else np.float32(1.0)
    least = MANY if without else np.float32(1.0)
    opens = np.float32(0.0) if without else np.float32(1.0)
    mean_line, m2_line, weight_line = mean.reshape(-1), m2.reshape(-1), weight.reshape(-1)
    count_line, low_line, high_line = count.reshape(-1), low.reshape(-1), high.reshape(-1)
    source_line, long, line_pitch = source.reshape(-1), source.shape[1], np.uintp(width)
    seen, rejected = 0, 0
    for j in range(first_row, last_row):
        node_row(nodes, pitch, j, line)
        row = source[j]
        for piece in range(nodes.shape[1] - 1):
            start = piece * pitch
            stop = min(source.shape[1], start + pitch)
            xa, ya = line[piece, 0], line[piece, 1]
            dx, dy = (line[piece + 1, 0] - xa) / pitch, (line[piece + 1, 1] - ya) / pitch
            fast = abs(dx - 1.0) + abs(dy) <= 1.0 / SHORT
            i = start
            while i < stop:
                x, y = xa + dx * (i - start), ya + dy * (i - start)
                kx, ky = math.floor(x + 0.5), math.floor(y + 0.5)
                end = i + 1
                inside = fast and 1 <= kx <= width - 2 and 1 <= ky <= height - 2
                if inside:
                    # how far the whole-pixel parts keep step
                    length = min(min(stop - i, width - 1 - kx), BLOCK)
                    length = kept_step(kept_step(length, dx - 1.0, x + 0.5 - kx), dy, y + 0.5 - ky)
                    end = i + max(1, length)
                for p in range(step):
                    i0 = i + p
                    if i0 >= end:
                        continue
                    c = colours[j & 1, i0 & 1]
                    lim = limits[c]
                    o0 = line[piece, 2 + c] + (line[piece + 1, 2 + c] - line[piece, 2 + c]) * ((i0 - start) / pitch)
                    eo = (line[piece + 1, 2 + c] - line[piece, 2 + c]) / pitch * step
                    n = (end - i0 + step - 1) // step
                    # whole groups, as the compiler treats them; what lies beyond is not looked at
                    whole = (n + GROUP - 1) // GROUP * GROUP
                    f = factor[c]
                    if inside:
                        k = kx + p
                        first = (c * height + ky) * width + k
                        room = (mean.size - first - width - 1) // step
                        there = (source.size - j * long - i0) // step
                        whole = whole if whole <= min(min(BLOCK, room), there) else n
                        at = np.uintp(first)
                        x0, ex = np.float32(x + p * dx - k), np.float32((dx - 1.0) * step)
                        y0, ey = np.float32(y + p * dy - ky), np.float32(dy * step)
                        if step == 1:
                            _beside(
                                whole, source_line, np.uintp(j * long + i0), mean_line, m2_line,
                                weight_line, count_line, low_line, high_line, at, line_pitch, x0, ex, y0, ey, f,
                                np.float32(o0), np.float32(eo), lim, sharpen, least, opens, out,
                            )  # fmt: skip
                        else:
                            _apart(
                                whole, source_line, np.uintp(j * long + i0), mean_line, m2_line,
                                weight_line, count_line, low_line, high_line, at, line_pitch, x0, ex, y0, ey, f,
                                np.float32(o0), np.float32(eo), lim, sharpen, least, opens, out,
                            )  # fmt: skip
                    for t in range(n):
                        at = i0 + t * step
                        if inside:
                            q = out[t]
                            if abs(q) <= enough:
                                codes[j, at] = 0
                                seen += 1
                                continue
                            if not without and abs(q) < ASK:
                                codes[j, at] = HIGH if q > 0 else LOW
                                seen += 1
                                rejected += 1
                                continue
                        codes[j, at] = 0
                        v = row[at]
                        if not abs(v) < np.float32(3e38):
                            continue
                        xt, yt = xa + dx * (at - start), ya + dy * (at - start)
                        if xt < -0.5 or yt < -0.5 or xt >= width - 0.5 or yt >= height - 0.5:
                            continue
                        seen += 1
                        value = v * f + np.float32(o0 + eo * t)
                        own = without and held[j, at] == 0
                        code = _test_one(value, xt, yt, planes, c, lim, without, own, w, half, sharpen)
                        codes[j, at] = code
                        rejected += 1 if code != 0 else 0
                i = end
    return seen, rejected
