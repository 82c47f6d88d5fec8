"""The loops behind `calibration.xtrans`: sums over the samples of one colour of a 6 x 6 mosaic, and lone pixels.

A colour's filter is a table by the phase of the pixel in the 6 x 6 cell: how many samples within two pixels carry the
colour, where they are, and two weights for each: `sharp`, used where all of them are there, and `soft`, all above zero,
which are normalised by their own sum where a sample is missing (NaN, or beyond the edge).
"""

# numba infers the types of these functions from their callers
# mypy: disable-error-code="no-untyped-def"

from __future__ import annotations

import numpy as np
from numba import njit

CELL = 6
REACH = 2
F = np.float32


@njit(nogil=True, cache=True)
def one_colour_rows(mosaic, counts, dys, dxs, sharp, soft, out, y0, y1):
    """Fill rows y0 .. y1 of `out` (H, W) with one colour.

    counts : (36,) int64, samples by phase. dys, dxs : (36, n) int64. sharp, soft : (36, n) float32.
    """
    h, w = mosaic.shape
    for y in range(y0, y1):
        inside_y = REACH <= y < h - REACH
        for x in range(w):
            phase = (y % CELL) * CELL + x % CELL
            n = counts[phase]
            total = F(np.nan)
            if inside_y and REACH <= x < w - REACH:
                total = F(0)
                for i in range(n):
                    total += sharp[phase, i] * mosaic[y + dys[phase, i], x + dxs[phase, i]]
            if not np.isfinite(total):
                total, norm = F(0), F(0)
                for i in range(n):
                    yy, xx = y + dys[phase, i], x + dxs[phase, i]
                    if 0 <= yy < h and 0 <= xx < w and np.isfinite(mosaic[yy, xx]):
                        total += soft[phase, i] * mosaic[yy, xx]
                        norm += soft[phase, i]
                total = total / norm if norm > F(0) else F(np.nan)
            out[y, x] = total


@njit(nogil=True, cache=True)
def colour_and_green_rows(mosaic, green, counts, dys, dxs, soft, colour_out, green_out, y0, y1):
    """Means of a colour's samples and of `green` (H, W) at the same places, both with the `soft` weights."""
    h, w = mosaic.shape
    for y in range(y0, y1):
        for x in range(w):
            phase = (y % CELL) * CELL + x % CELL
            total, under, norm = F(0), F(0), F(0)
            for i in range(counts[phase]):
                yy, xx = y + dys[phase, i], x + dxs[phase, i]
                if 0 <= yy < h and 0 <= xx < w and np.isfinite(mosaic[yy, xx]) and np.isfinite(green[yy, xx]):
                    total += soft[phase, i] * mosaic[yy, xx]
                    under += soft[phase, i] * green[yy, xx]
                    norm += soft[phase, i]
            colour_out[y, x] = total / norm if norm > F(0) else F(np.nan)
            green_out[y, x] = under / norm if norm > F(0) else F(np.nan)


@njit(nogil=True, cache=True)
def lone_rows(mosaic, colours, noise, n_sigma, share, room, found, y0, y1):
    """Mark pixels that stand far out and share no light with the eight around them, whatever their colour.

    colours : (36,) int64, 0, 1, 2 by phase. noise : (3,) float32, sigma of a pixel of each colour. share : largest sum
    of the light in the eight over that of the pixel. room : half the side of the square whose medians are the sky.
    found : (H, W) bool, to be marked.
    """
    h, w = mosaic.shape
    values = np.empty((3, (2 * room + 1) ** 2), F)
    for y in range(max(1, y0), min(h - 1, y1)):
        for x in range(1, w - 1):
            v = mosaic[y, x]
            own = colours[(y % CELL) * CELL + x % CELL]
            limit = F(n_sigma) * noise[own]
            highest = v - limit
            if not np.isfinite(v):
                continue
            # nearly all pixels end here: one of their own colour within two pixels is about as bright
            lone = True
            for yy in range(max(0, y - REACH), min(h, y + REACH + 1)):
                for xx in range(max(0, x - REACH), min(w, x + REACH + 1)):
                    same = colours[(yy % CELL) * CELL + xx % CELL] == own
                    if same and (yy != y or xx != x) and mosaic[yy, xx] > highest:
                        lone = False
                        break
                if not lone:
                    break
            if not lone:
                continue
            counts = np.zeros(3, np.int64)
            for yy in range(max(0, y - room), min(h, y + room + 1)):
                for xx in range(max(0, x - room), min(w, x + room + 1)):
                    if np.isfinite(mosaic[yy, xx]):
                        c = colours[(yy % CELL) * CELL + xx % CELL]
                        values[c, counts[c]] = mosaic[yy, xx]
                        counts[c] += 1
            around = F(0)
            for yy in range(y - 1, y + 2):
                for xx in range(x - 1, x + 2):
                    c = colours[(yy % CELL) * CELL + xx % CELL]
                    if (yy != y or xx != x) and np.isfinite(mosaic[yy, xx]):
                        around += mosaic[yy, xx] - np.median(values[c, : counts[c]])
            above = v - np.median(values[own, : counts[own]])
            if above > limit and around < F(share) * above:
                found[y, x] = True
