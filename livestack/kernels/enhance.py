"""The largest upright rectangle in a mask, by the histogram-and-stack method, one pass over the rows."""

from __future__ import annotations

import numpy as np
from numba import njit


@njit(nogil=True, cache=True)
def largest_rectangle(good, corners):
    """Find the largest rectangle of nonzero `good` (H, W) uint8; fills `corners` (4,): x0, y0, x1, y1 (exclusive)."""
    height, width = good.shape
    tall = np.zeros(width + 1, np.int64)
    starts = np.zeros(width + 1, np.int64)
    heights = np.zeros(width + 1, np.int64)
    best = 0
    for y in range(height):
        depth = 0
        for x in range(width + 1):
            if x < width:
                tall[x] = tall[x] + 1 if good[y, x] else 0
            now = tall[x] if x < width else 0
            start = x
            while depth > 0 and heights[depth - 1] >= now:
                depth -= 1
                start = starts[depth]
                area = heights[depth] * (x - start)
                if area > best:
                    best = area
                    corners[0] = start
                    corners[1] = y + 1 - heights[depth]
                    corners[2] = x
                    corners[3] = y + 1
            if now > 0:
                starts[depth] = start
                heights[depth] = now
                depth += 1
    return best
