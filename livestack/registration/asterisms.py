"""Triangles of stars, described without regard to shift, scale and rotation.

Groth 1986, doi:10.1086/114099; Valdes et al. 1995, doi:10.1086/133667.
"""

from __future__ import annotations

import numpy as np
from scipy.spatial import cKDTree

ASTERISM_STARS = 60
NEIGHBOURS = 6


def asterisms(xy: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Triangles of each star with its near neighbours.

    Parameters
    ----------
    xy : (n, 2) positions, brightest first.

    Returns
    -------
    shapes : (m, 2) the third corner's position in the frame in which the longest side is the unit vector (a mirrored
        triangle has another shape).
    corners : (m, 3) star indices, ordered: start and end of the longest side, then the third corner.
    """
    n = len(xy)
    if n < 3:
        return np.empty((0, 2)), np.empty((0, 3), dtype=int)
    # Neighbours among nested subsets of the brightest, so that one missing faint star does not change every triangle.
    found = []
    for depth in (12, 25, n):
        part = xy[:depth]
        if len(part) < 3 or (depth != n and depth >= n):
            continue
        k = min(NEIGHBOURS, len(part))
        _, near = cKDTree(part).query(part, k=k)
        a, b, c = np.array([(a, b, c) for a in range(k) for b in range(a + 1, k) for c in range(b + 1, k)]).T
        found.append(np.sort(np.stack([near[:, a], near[:, b], near[:, c]], axis=-1).reshape(-1, 3), axis=1))
    index = np.unique(np.concatenate(found), axis=0)
    p = xy[index]
    sides = np.stack([np.hypot(*(p[:, (k + 1) % 3] - p[:, k]).T) for k in range(3)], axis=1)
    longest = np.argmax(sides, axis=1)
    rows = np.arange(len(index))
    start, end, third = index[rows, longest], index[rows, (longest + 1) % 3], index[rows, (longest + 2) % 3]
    real = sides.max(axis=1) >= 12
    start, end, third = start[real], end[real], third[real]
    base, side = xy[end] - xy[start], xy[third] - xy[start]
    z = (side[:, 0] + 1j * side[:, 1]) / (base[:, 0] + 1j * base[:, 1])
    # Direction of the base: the third corner lies nearer to its start; else turn the base round.
    turn = z.real > 0.5
    z = np.where(turn, 1 - z, z)
    start, end = np.where(turn, end, start), np.where(turn, start, end)
    wide = np.abs(z.imag) >= 0.03
    shapes = np.column_stack([z.real, z.imag])
    return shapes[wide], np.column_stack([start, end, third])[wide]
