"""The loop that takes the light above a limit apart into stars, for `detection`.

Pixels are looked at from the brightest down. One without a neighbour seen before is a new peak, one beside a peak's
pixels joins them; where two peaks meet, the lower is a star of its own when it rises far enough above the place where
they meet, else it becomes part of the other. This is the hierarchy of level sets, with the persistence of a peak as
its significance (Edelsbrunner, Letscher & Zomorodian 2002, doi:10.1007/s00454-002-2885-2), and needs no steps of level.
"""

from __future__ import annotations

import numpy as np
from numba import njit

MIN_PIXELS = 2
"""Pixels above the limit that a star has at least."""


@njit(nogil=True, cache=True)
def _root(parent: np.ndarray, k: int) -> int:
    """The peak that `k` has become part of; shortens the way there."""
    while parent[k] != k:
        parent[k] = parent[parent[k]]
        k = parent[k]
    return k


@njit(nogil=True, cache=True)
def separate_stars(
    image: np.ndarray, order: np.ndarray, limit: float, share: float, owner: np.ndarray, stars: np.ndarray
) -> int:
    """Stars among the pixels `order` of an image; how many there are.

    Parameters
    ----------
    image : (H, W) float32, above the sky.
    order : (n,) int64 indices into the flat image, brightest first; all values above 0.
    limit, share : a peak that meets a higher one at the level v is a star when it rises by more than
        max(limit, share v) above v.
    owner : (H, W) int32, all 0; room for the loop.
    stars : (n, 3) float64, filled: x, y, and the sum of the pixels. The place is the centre of the light down to where
        the star first meets another.
    """
    height, width = image.shape
    # Of four pixels in a square at most one is a peak.
    room = min(len(order), ((height + 1) // 2) * ((width + 1) // 2)) + 1
    parent = np.empty(room, dtype=np.int32)
    top = np.empty(room, dtype=np.float32)
    sums = np.zeros((room, 3))  # light, light x, light y
    size = np.zeros(room, dtype=np.int32)
    place = np.full((room, 2), np.nan)
    peaks = 0
    found = 0
    for p in order:
        y = p // width
        x = p % width
        v = image[y, x]
        mine = 0
        for yy in range(max(y - 1, 0), min(y + 2, height)):
            for xx in range(max(x - 1, 0), min(x + 2, width)):
                if owner[yy, xx] == 0:
                    continue
                other = _root(parent, owner[yy, xx])
                if mine == 0 or other == mine:
                    mine = other
                    continue
                # Peaks are numbered from the brightest down.
                low, mine = max(mine, other), min(mine, other)
                parent[low] = mine
                if top[low] - v <= max(limit, share * v):
                    sums[mine] += sums[low]
                    size[mine] += size[low]
                    continue
                for k in (low, mine):
                    if place[k, 0] != place[k, 0]:
                        place[k, 0] = sums[k, 1] / sums[k, 0]
                        place[k, 1] = sums[k, 2] / sums[k, 0]
                if size[low] >= MIN_PIXELS:
                    stars[found, 0] = place[low, 0]
                    stars[found, 1] = place[low, 1]
                    stars[found, 2] = sums[low, 0]
                    found += 1
        if mine == 0:
            peaks += 1
            mine = peaks
            parent[mine] = mine
            top[mine] = v
        owner[y, x] = mine
        sums[mine, 0] += v
        sums[mine, 1] += v * x
        sums[mine, 2] += v * y
        size[mine] += 1
    for k in range(1, peaks + 1):
        if parent[k] == k and size[k] >= MIN_PIXELS:
            known = place[k, 0] == place[k, 0]
            stars[found, 0] = place[k, 0] if known else sums[k, 1] / sums[k, 0]
            stars[found, 1] = place[k, 1] if known else sums[k, 2] / sums[k, 0]
            stars[found, 2] = sums[k, 0]
            found += 1
    return found
