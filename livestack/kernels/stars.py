"""Loops over star windows, for `stars`.

Windowed centroids as in SExtractor's XWIN (Bertin & Arnouts 1996, doi:10.1051/aas:1996164); adaptive moments with a
matched elliptical Gaussian weight (Bernstein & Jarvis 2002, doi:10.1086/338085).
"""

from __future__ import annotations

import math

import numpy as np
from numba import njit

from livestack.kernels.sky import clipped_median

# Columns of the table that measure_stars fills.
X, Y, FLUX, PEAK, MXX, MXY, MYY, SNR, SKY, SHARPNESS, STATUS = range(11)
N_COLUMNS = 11

OK, LOST, EDGE, SATURATED, PIXEL = 0, 1, 2, 3, 4
"""STATUS: good; no star after all; too near the edge; saturated (position is good); a single hot pixel."""


@njit(nogil=True, cache=True, inline="always")
def _value(data: np.ndarray, offsets: np.ndarray, box: int, y: int, x: int) -> float:
    """Light at (y, x): the pixel, or for a mosaic the mean of the 2 x 2 cell that begins there (all colours once)."""
    if box == 0:
        return data[y, x] - offsets[y & 1, x & 1]
    return np.float32(0.25) * (
        data[y, x] - offsets[y & 1, x & 1]
        + data[y, x + 1] - offsets[y & 1, (x + 1) & 1]
        + data[y + 1, x] - offsets[(y + 1) & 1, x & 1]
        + data[y + 1, x + 1] - offsets[(y + 1) & 1, (x + 1) & 1]
    )


@njit(nogil=True, cache=True)
def _mend(cut: np.ndarray, sky: float) -> None:
    """Fill the few NaN of a window with the mean of their good neighbours, in place."""
    size = cut.shape[0]
    for j in range(size):
        for i in range(size):
            if cut[j, i] != cut[j, i]:
                total = 0.0
                n = 0
                for dy in range(-1, 2):
                    for dx in range(-1, 2):
                        if 0 <= j + dy < size and 0 <= i + dx < size:
                            v = cut[j + dy, i + dx]
                            if v == v:
                                total += v
                                n += 1
                cut[j, i] = total / n if n > 0 else sky


@njit(nogil=True, cache=True)
def measure_stars(
    data: np.ndarray, offsets: np.ndarray, box: int, start: np.ndarray, sigma: float, radius: int, saturation: float,
    least_around: float, noise: float, table: np.ndarray, first: int, last: int, n_shapes: int,
) -> None:  # fmt: skip
    """Centroid, flux and (of the first `n_shapes`) adaptive moments of stars first..last of `start` (n, 2) (x, y).

    Parameters
    ----------
    data : (H, W) float32; `offsets` (2, 2) by pixel parity; `box` 1 for a mosaic (see `_value`), else 0.
    sigma : width of the Gaussian window (px); radius : half size of the square window (px).
    saturation : ADU at which a raw pixel counts as saturated; noise : sigma of one value (ADU).
    least_around : a hot pixel's eight neighbours hold less than this share of its light.
    n_shapes : moments only of the stars before this one.
    table : (n, N_COLUMNS) float64, filled. With box = 1 positions are moved by +0.5 to pixel coordinates.
    """
    height, width = data.shape
    size = 2 * radius + 1
    ex = np.empty(size)
    ey = np.empty(size)
    cut = np.empty((size, size), dtype=np.float32)
    ring = np.empty(size * size, dtype=np.float32)
    shift = 0.5 * box
    for k in range(first, last):
        x = start[k, 0] - shift
        y = start[k, 1] - shift
        for c in range(N_COLUMNS):
            table[k, c] = np.nan
        ix = math.floor(x + 0.5)
        iy = math.floor(y + 0.5)
        if ix - radius < 0 or iy - radius < 0 or ix + radius + box >= width or iy + radius + box >= height:
            table[k, STATUS] = EDGE
            continue
        # Cut the window once; sky from its rim (median), so that nebulae and gradients do not pull the centroid.
        n = 0
        raw_peak = np.float32(-1e30)
        py = px = 0
        lost = 0
        for j in range(size):
            for i in range(size):
                yy = iy - radius + j
                xx = ix - radius + i
                v = _value(data, offsets, box, yy, xx)
                cut[j, i] = v
                if v != v:
                    lost += 1
                    continue
                r2 = (j - radius) ** 2 + (i - radius) ** 2
                if r2 > (radius - 1.5) ** 2:
                    ring[n] = v
                    n += 1
                if r2 <= (0.6 * radius) ** 2 and data[yy, xx] > raw_peak:
                    raw_peak = data[yy, xx]
                    py = yy
                    px = xx
        if lost > 4 * (1 + 3 * box) or n < 8:
            table[k, STATUS] = LOST
            continue
        sky, _ = clipped_median(ring, n)
        if lost > 0:
            _mend(cut, sky)
        # A hot pixel or a cosmic ray: all the light in one raw pixel, its eight neighbours at sky level.
        status = OK
        if 0 < py < height - 1 and 0 < px < width - 1:
            around = 0.0
            for dy in range(-1, 2):
                for dx in range(-1, 2):
                    if dy != 0 or dx != 0:
                        around += data[py + dy, px + dx] - offsets[(py + dy) & 1, (px + dx) & 1] - sky
            top = raw_peak - offsets[py & 1, px & 1] - sky
            table[k, SHARPNESS] = around / top if top > 0 else 9.0
            # Noise of the sum of eight pixels: 2.8 sigma of a pixel. A peak that noise could have made says nothing.
            pixel_noise = noise * (1 + box)
            if top > (6.0 - 1.5 * box) * pixel_noise and around < least_around * top + 4.2 * pixel_noise:
                status = PIXEL
        if raw_peak >= saturation:
            status = SATURATED
        cx = x - ix + radius
        cy = y - iy + radius
        inv = 0.5 / (sigma * sigma)
        flux = 0.0
        weight2 = 0.0
        ok = True
        for _iteration in range(12):
            for i in range(size):
                ex[i] = math.exp(-((i - cx) ** 2) * inv)
                ey[i] = math.exp(-((i - cy) ** 2) * inv)
            s = 0.0
            sx = 0.0
            sy = 0.0
            weight2 = 0.0
            for j in range(size):
                row = 0.0
                rowx = 0.0
                for i in range(size):
                    wv = ex[i] * (cut[j, i] - sky)
                    row += wv
                    rowx += wv * (i - cx)
                s += ey[j] * row
                sx += ey[j] * rowx
                sy += ey[j] * row * (j - cy)
            if s <= 0:
                ok = False
                break
            flux = s
            step_x = 2.0 * sx / s
            step_y = 2.0 * sy / s
            cx += step_x
            cy += step_y
            if abs(cx - radius) > 0.5 * radius or abs(cy - radius) > 0.5 * radius:
                ok = False
                break
            if step_x * step_x + step_y * step_y < 4e-7:
                break
        if not ok:
            table[k, STATUS] = LOST
            continue
        for i in range(size):
            weight2 += ex[i] * ex[i]
        total = 0.0
        for j in range(size):
            for i in range(size):
                if (j - cy) ** 2 + (i - cx) ** 2 <= radius * radius:
                    total += cut[j, i] - sky
        table[k, X] = cx - radius + ix + shift
        table[k, Y] = cy - radius + iy + shift
        table[k, FLUX] = total * (4.0 if box else 1.0)
        table[k, PEAK] = raw_peak
        table[k, SKY] = sky
        # matched-filter signal to noise: sum(w v) / (noise sqrt(sum w^2)); sum w^2 = pi sigma^2 for this window
        table[k, SNR] = flux / max(noise * math.sqrt(math.pi) * sigma, 1e-9)
        table[k, STATUS] = status
        if k >= n_shapes or status == PIXEL:
            continue
        mxx = sigma * sigma
        myy = sigma * sigma
        mxy = 0.0
        for _iteration in range(25):
            det = mxx * myy - mxy * mxy
            if not det > 1e-3:
                ok = False
                break
            ixx = myy / det
            iyy = mxx / det
            ixy = -mxy / det
            s = 0.0
            vxx = 0.0
            vxy = 0.0
            vyy = 0.0
            for j in range(size):
                dy = j - cy
                for i in range(size):
                    dx = i - cx
                    q = ixx * dx * dx + 2.0 * ixy * dx * dy + iyy * dy * dy
                    if q < 25.0:
                        wv = math.exp(-0.5 * q) * (cut[j, i] - sky)
                        s += wv
                        vxx += wv * dx * dx
                        vxy += wv * dx * dy
                        vyy += wv * dy * dy
            if s <= 0:
                ok = False
                break
            # For a Gaussian star and the same weight the measured moment is half the true one.
            nxx = 2.0 * vxx / s
            nxy = 2.0 * vxy / s
            nyy = 2.0 * vyy / s
            change = abs(nxx - mxx) + abs(nyy - myy) + abs(nxy - mxy)
            mxx, mxy, myy = nxx, nxy, nyy
            if not (0.02 < mxx < radius * radius and 0.02 < myy < radius * radius):
                ok = False
                break
            if change < 1e-3 * (mxx + myy):
                break
        if ok:
            pixel = 0.25 * box  # variance that the 2 x 2 mean added
            table[k, MXX] = mxx - pixel
            table[k, MXY] = mxy
            table[k, MYY] = myy - pixel
