"""Loops over star windows, for `detection`.

Windowed centroids as in SExtractor's XWIN (Bertin & Arnouts 1996, doi:10.1051/aas:1996164); adaptive moments with a
matched elliptical Gaussian weight (Bernstein & Jarvis 2002, doi:10.1086/338085).

`window_rims` comes first, then the caller sorts the rims (numpy does so with vector instructions, twenty times faster
than a compiled loop), then `measure_stars`.
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
LEAST_WEIGHT = math.exp(-12.5)
"""Moments are summed out to five sigma."""


@njit(nogil=True, cache=True, inline="always")
def _value(data: np.ndarray, offsets: np.ndarray, box: int, y: int, x: int) -> float:
    """Light at (y, x): the pixel, or for a mosaic the mean of the 2 x 2 cell that begins there (all colours once)."""
    if box == 0:
        return data[y, x] - offsets[0, 0]
    level = np.float32(0.25) * ((offsets[0, 0] + offsets[0, 1]) + (offsets[1, 0] + offsets[1, 1]))
    return np.float32(0.25) * ((data[y, x] + data[y, x + 1]) + (data[y + 1, x] + data[y + 1, x + 1])) - level


@njit(nogil=True, cache=True)
def _place(start: np.ndarray, k: int, box: int) -> tuple[int, int]:
    """Whole pixel nearest to star k, (y, x)."""
    return math.floor(start[k, 1] - 0.5 * box + 0.5), math.floor(start[k, 0] - 0.5 * box + 0.5)


@njit(nogil=True, cache=True)
def _inside(data: np.ndarray, iy: int, ix: int, radius: int, box: int) -> bool:
    """True when the window around (iy, ix) lies within the image."""
    height, width = data.shape
    return ix >= radius and iy >= radius and ix + radius + box < width and iy + radius + box < height


@njit(nogil=True, cache=True)
def window_rims(
    data: np.ndarray, offsets: np.ndarray, box: int, start: np.ndarray, radius: int, rims: np.ndarray,
    counts: np.ndarray,
) -> None:  # fmt: skip
    """Values on the rim of each star's window: sky, so that nebulae and gradients do not pull the centroid.

    rims : (n, (2 radius + 1)^2 at most) float32, +inf beyond counts[k] values; NaN pixels are left out.
    """
    for k in range(len(start)):
        iy, ix = _place(start, k, box)
        n = 0
        if _inside(data, iy, ix, radius, box):
            for j in range(-radius, radius + 1):
                for i in range(-radius, radius + 1):
                    if j * j + i * i > (radius - 1.5) ** 2:
                        v = _value(data, offsets, box, iy + j, ix + i)
                        if v == v:
                            rims[k, n] = v
                            n += 1
        counts[k] = n
        rims[k, n:] = np.inf


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
def _cut_window(
    data: np.ndarray, offsets: np.ndarray, box: int, top: int, left: int, sky: float, cut: np.ndarray
) -> int:
    """Light above `sky` of the window that begins at (top, left), into `cut`; how many NaN there were."""
    size = cut.shape[0]
    lost = 0
    for j in range(size):
        for i in range(size):
            v = _value(data, offsets, box, top + j, left + i) - sky
            cut[j, i] = v
            lost += 1 if v != v else 0
    if lost > 0:
        _mend(cut, np.float32(0.0))
    return lost


@njit(nogil=True, cache=True)
def _highest(data: np.ndarray, iy: int, ix: int, radius: int) -> tuple[float, int, int]:
    """Highest raw pixel within 0.6 radii of (iy, ix): value, y, x."""
    highest = np.float32(-1e30)
    py = px = 0
    reach = 0.6 * radius
    for j in range(-int(reach), int(reach) + 1):
        half = int(math.sqrt(reach * reach - j * j))
        for i in range(-half, half + 1):
            v = data[iy + j, ix + i]
            if v > highest:
                highest = v
                py = iy + j
                px = ix + i
    return highest, py, px  # type: ignore[return-value]


@njit(nogil=True, cache=True)
def _gaussian(centre: float, inverse: float, out: np.ndarray) -> None:
    """out[i] = exp(-inverse (i - centre)^2), outwards from the pixel nearest to the centre, each from the last."""
    size = len(out)
    middle = min(max(math.floor(centre + 0.5), 0), size - 1)
    off = middle - centre
    out[middle] = math.exp(-inverse * off * off)
    shrink = math.exp(-2.0 * inverse)
    value, factor = out[middle], math.exp(-inverse * (1.0 + 2.0 * off))
    for i in range(middle + 1, size):
        value *= factor
        factor *= shrink
        out[i] = value
    value, factor = out[middle], math.exp(-inverse * (1.0 - 2.0 * off))
    for i in range(middle - 1, -1, -1):
        value *= factor
        factor *= shrink
        out[i] = value


@njit(nogil=True, cache=True)
def _centre(
    cut: np.ndarray, sigma: float, cx: float, cy: float, ex: np.ndarray, ey: np.ndarray, column: np.ndarray,
    lever: np.ndarray,
) -> tuple[bool, float, float, float]:  # fmt: skip
    """Centroid of `cut` in a Gaussian window that follows it, from (cx, cy): whether there is one, x, y, weighted sum.

    The last four arguments are room for one row each.
    """
    size = cut.shape[0]
    radius = size // 2
    inverse = 0.5 / (sigma * sigma)
    s = 0.0
    for _iteration in range(12):
        _gaussian(cx, inverse, ex)
        _gaussian(cy, inverse, ey)
        column[:] = 0.0
        lever[:] = 0.0
        for j in range(size):
            wj = ey[j]
            dj = wj * (j - cy)
            for i in range(size):  # without a sum along the row: this loop is vectorised
                column[i] += wj * cut[j, i]
                lever[i] += dj * cut[j, i]
        s = sx = sy = 0.0
        for i in range(size):
            wv = ex[i] * column[i]
            s += wv
            sx += wv * (i - cx)
            sy += ex[i] * lever[i]
        if s <= 0:
            return False, cx, cy, s
        step_x = 2.0 * sx / s
        step_y = 2.0 * sy / s
        cx += step_x
        cy += step_y
        if abs(cx - radius) > 0.5 * radius or abs(cy - radius) > 0.5 * radius:
            return False, cx, cy, s
        if step_x * step_x + step_y * step_y < 4e-7:
            break
    return True, cx, cy, s


@njit(nogil=True, cache=True)
def _aperture_sum(cut: np.ndarray, cx: float, cy: float) -> float:
    """Sum of the pixels whose centres lie within the window's radius of (cx, cy)."""
    size = cut.shape[0]
    radius = size // 2
    total = 0.0
    for j in range(size):
        left = radius * radius - (j - cy) ** 2
        if left < 0:
            continue
        half = math.sqrt(left)
        for i in range(max(0, math.ceil(cx - half)), min(size - 1, math.floor(cx + half)) + 1):
            total += cut[j, i]
    return total


@njit(nogil=True, cache=True)
def _weighted_moments(
    cut: np.ndarray, cx: float, cy: float, ixx: float, ixy: float, iyy: float
) -> tuple[float, float, float, float]:
    """Sum, and second moments xx, xy, yy, of `cut` under exp(-(ixx dx^2 + 2 ixy dx dy + iyy dy^2) / 2)."""
    size = cut.shape[0]
    s = vxx = vxy = vyy = 0.0
    shrink = math.exp(-ixx)
    for j in range(size):
        dy = j - cy
        # Outwards from the row's heaviest pixel, each weight from the last.
        middle = min(max(math.floor(cx - ixy * dy / ixx + 0.5), 0), size - 1)
        dx = middle - cx
        first = math.exp(-0.5 * (ixx * dx * dx + 2.0 * ixy * dx * dy + iyy * dy * dy))
        if first < LEAST_WEIGHT:
            continue
        s0 = s1 = s2 = 0.0
        weight, factor = first, math.exp(-(ixx * (dx + 0.5) + ixy * dy))
        i = middle
        while i < size and weight > LEAST_WEIGHT:
            wv = weight * cut[j, i]
            s0 += wv
            s1 += wv * (i - cx)
            s2 += wv * (i - cx) * (i - cx)
            weight *= factor
            factor *= shrink
            i += 1
        factor = math.exp(ixx * (dx - 0.5) + ixy * dy)
        weight = first * factor
        i = middle - 1
        while i >= 0 and weight > LEAST_WEIGHT:
            wv = weight * cut[j, i]
            s0 += wv
            s1 += wv * (i - cx)
            s2 += wv * (i - cx) * (i - cx)
            factor *= shrink
            weight *= factor
            i -= 1
        s += s0
        vxx += s2
        vxy += s1 * dy
        vyy += s0 * dy * dy
    return s, vxx, vxy, vyy


@njit(nogil=True, cache=True)
def _adaptive_moments(cut: np.ndarray, cx: float, cy: float, sigma: float) -> tuple[bool, float, float, float]:
    """Second moments xx, xy, yy of the Gaussian that matches the star; False in front when there is none.

    Weighted by a Gaussian of moments M, a Gaussian star of moments S has V = (1/M + 1/S)^-1. Hence the next guess is
    (1/V - 1/M)^-1, right at once for such a star; where noise leaves no such guess, 2 V, which leads to the same end.
    """
    radius = cut.shape[0] // 2
    mxx = myy = sigma * sigma
    mxy = 0.0
    for _iteration in range(25):
        det = mxx * myy - mxy * mxy
        if not det > 1e-3:
            return False, mxx, mxy, myy
        ixx, ixy, iyy = myy / det, -mxy / det, mxx / det
        s, vxx, vxy, vyy = _weighted_moments(cut, cx, cy, ixx, ixy, iyy)
        if s <= 0:
            return False, mxx, mxy, myy
        vxx, vxy, vyy = vxx / s, vxy / s, vyy / s
        nxx, nxy, nyy = 2.0 * vxx, 2.0 * vxy, 2.0 * vyy
        det = vxx * vyy - vxy * vxy
        if det > 0:
            pxx, pxy, pyy = vyy / det - ixx, -vxy / det - ixy, vxx / det - iyy
            det = pxx * pyy - pxy * pxy
            if pxx > 0.25 * ixx and pyy > 0.25 * iyy and det > 0.0625 * (ixx * iyy - ixy * ixy):
                nxx, nxy, nyy = pyy / det, -pxy / det, pxx / det
        change = abs(nxx - mxx) + abs(nyy - myy) + abs(nxy - mxy)
        mxx, mxy, myy = nxx, nxy, nyy
        if not (0.02 < mxx < radius * radius and 0.02 < myy < radius * radius):
            return False, mxx, mxy, myy
        if change < 1e-3 * (mxx + myy):
            break
    return True, mxx, mxy, myy


@njit(nogil=True, cache=True)
def measure_stars(
    data: np.ndarray, offsets: np.ndarray, box: int, start: np.ndarray, sigma: float, radius: int, saturation: float,
    least_around: float, noise: float, rims: np.ndarray, counts: np.ndarray, table: np.ndarray, n_shapes: int,
) -> None:  # fmt: skip
    """Centroid, flux and (of the first `n_shapes`) adaptive moments of the stars at `start` (n, 2) (x, y).

    Parameters
    ----------
    data : (H, W) float32; `box` 1 for a mosaic (see `_value`), else 0.
    offsets : (2, 2) sky by pixel parity, all equal with `box` 0.
    sigma : width of the Gaussian window (px); radius : half size of the square window (px).
    saturation : ADU at which a raw pixel counts as saturated; noise : sigma of one value (ADU).
    least_around : a hot pixel's eight neighbours hold less than this share of its light.
    rims, counts : from `window_rims`, each row sorted.
    n_shapes : moments only of the stars before this one.
    table : (n, N_COLUMNS) float64, filled. With box = 1 positions are moved by +0.5 to pixel coordinates.
    """
    height, width = data.shape
    size = 2 * radius + 1
    ex = np.empty(size)
    ey = np.empty(size)
    column = np.empty(size)
    lever = np.empty(size)
    cut = np.empty((size, size), dtype=np.float32)
    shift = 0.5 * box
    for k in range(len(start)):
        table[k] = np.nan
        iy, ix = _place(start, k, box)
        if not _inside(data, iy, ix, radius, box):
            table[k, STATUS] = EDGE
            continue
        if counts[k] < 8:
            table[k, STATUS] = LOST
            continue
        sky, _ = clipped_median(rims[k], counts[k])
        lost = _cut_window(data, offsets, box, iy - radius, ix - radius, sky, cut)
        if lost > 4 * (1 + 3 * box):
            table[k, STATUS] = LOST
            continue
        # A hot pixel or a cosmic ray: all the light in one raw pixel, its eight neighbours at sky level.
        status = OK
        raw_peak, py, px = _highest(data, iy, ix, radius)
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
        cx = start[k, 0] - shift - ix + radius
        cy = start[k, 1] - shift - iy + radius
        found, cx, cy, flux = _centre(cut, sigma, cx, cy, ex, ey, column, lever)
        if not found:
            table[k, STATUS] = LOST
            continue
        table[k, X] = cx - radius + ix + shift
        table[k, Y] = cy - radius + iy + shift
        table[k, FLUX] = _aperture_sum(cut, cx, cy)
        table[k, PEAK] = raw_peak
        table[k, SKY] = sky
        # matched-filter signal to noise: sum(w v) / (noise sqrt(sum w^2)); sum w^2 = pi sigma^2 for this window
        table[k, SNR] = flux / max(noise * math.sqrt(math.pi) * sigma, 1e-9)
        table[k, STATUS] = status
        if k >= n_shapes or status == PIXEL:
            continue
        found, mxx, mxy, myy = _adaptive_moments(cut, cx, cy, sigma)
        if found:
            pixel = 0.25 * box  # variance that the 2 x 2 mean added
            table[k, MXX] = mxx - pixel
            table[k, MXY] = mxy
            table[k, MYY] = myy - pixel
