"""The loops behind `calibration.cosmetic.find_cosmic_rays`: the edge detection of van Dokkum (2001), PASP 113, 1420.

The medians over 5 x 5 and 7 x 7 pixels, the slow part of the published method, are formed around candidates only. A
mosaic is worked on colour by colour: `step` 2 makes the nearest pixel of the same colour the neighbour.
"""

# numba infers the types of these functions from their callers
# mypy: disable-error-code="no-untyped-def"

from __future__ import annotations

import numpy as np
from numba import njit

from livestack.kernels.cosmetic import _median

F = np.float32


@njit(inline="always")
def _clamp(i: int, n: int, step: int) -> int:
    """Nearest index of the same phase within 0 .. n."""
    if i < 0:
        return i % step
    if i >= n:
        return i - step * ((i - n) // step + 1)
    return i


@njit(nogil=True, cache=True)
def edge_rows(data, noise, step, out, y0, y1):
    """out = positive Laplacian of the image doubled in size, averaged back, over twice the noise (eqs. 5-11): S."""
    h, w = data.shape
    for y in range(y0, y1):
        up, down = data[_clamp(y - step, h, step)], data[_clamp(y + step, h, step)]
        row = data[y]
        for x in range(w):
            c = row[x]
            left, right = row[_clamp(x - step, w, step)], row[_clamp(x + step, w, step)]
            # Each quarter of a doubled pixel has two neighbours in the same pixel and two in the adjacent ones.
            total = max(F(2) * c - up[x] - left, F(0)) + max(F(2) * c - up[x] - right, F(0))
            total += max(F(2) * c - down[x] - left, F(0)) + max(F(2) * c - down[x] - right, F(0))
            out[y, x] = F(0.25) * total / (F(2) * noise[y if noise.shape[0] > 1 else 0, x if noise.shape[1] > 1 else 0])


@njit(nogil=True, cache=True)
def _local_median(image, y, x, radius, step, values):
    h, w = image.shape
    n = 0
    for j in range(-radius, radius + 1):
        for i in range(-radius, radius + 1):
            v = image[_clamp(y + step * j, h, step), _clamp(x + step * i, w, step)]
            if np.isfinite(v):
                values[n] = v
                n += 1
    return _median(values, n) if n > 0 else F(np.nan)


@njit(nogil=True, cache=True)
def _fine_structure(data, y, x, step, values, smooth):
    """Median over 3 x 3 less the median over 7 x 7 of those medians: what stars have and rays have not (eq. 14)."""
    h, w = data.shape
    n = 0
    centre = F(0)
    for j in range(-3, 4):
        for i in range(-3, 4):
            m = _local_median(data, _clamp(y + step * j, h, step), _clamp(x + step * i, w, step), 1, step, values)
            if j == 0 and i == 0:
                centre = m
            if np.isfinite(m):
                smooth[n] = m
                n += 1
    return centre - _median(smooth, n)


@njit(nogil=True, cache=True)
def mark_rows(data, edges, noise, step, limit, contrast, mask, y0, y1):
    """mask = True where S less its local median exceeds `limit`, and S x noise `contrast` x fine structure."""
    values = np.empty(49, F)
    smooth = np.empty(49, F)
    for y in range(y0, y1):
        for x in range(data.shape[1]):
            s = edges[y, x]
            if not s > limit:
                continue
            if not s - _local_median(edges, y, x, 2, step, values) > limit:
                continue
            sigma = noise[y if noise.shape[0] > 1 else 0, x if noise.shape[1] > 1 else 0]
            fine = max(_fine_structure(data, y, x, step, values, smooth), F(0.01) * sigma)
            if sigma * s > F(contrast) * fine:
                mask[y, x] = True


@njit(nogil=True, cache=True)
def grow_rows(edges, core, step, limit, mask, y0, y1):
    """mask = core, and the 8 neighbours of the core where S less its local median exceeds `limit`."""
    h, w = core.shape
    values = np.empty(25, F)
    for y in range(y0, y1):
        for x in range(w):
            if core[y, x]:
                mask[y, x] = True
                continue
            if not edges[y, x] > limit:
                continue
            near = False
            for j in range(-step, step + 1, step):
                for i in range(-step, step + 1, step):
                    near = near or core[_clamp(y + j, h, step), _clamp(x + i, w, step)]
            if near and edges[y, x] - _local_median(edges, y, x, 2, step, values) > limit:
                mask[y, x] = True
