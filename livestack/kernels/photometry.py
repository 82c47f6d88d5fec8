"""Loops over the pixels around stars: a frame's profile fitted to a few of them, the light of all measured with it.

The profile is Moffat's (1969) with elliptical contours, of unit flux and averaged over pixels:

    P(dx, dy) = (beta - 1) sqrt(A C - B^2) / pi (1 + A dx^2 + 2 B dx dy + C dy^2)^-beta
"""

from __future__ import annotations

import math

import numpy as np
from numba import njit

from livestack.kernels.psf import solve_positive

N_WEIGHTS = 4
"""Ways to weigh the pixels of a star, from the profile itself to next to an aperture."""
SOFTNESS = np.array([np.inf, 0.25, 0.03, 0.003])
"""Weight of a pixel: P / (1 + P / (softness x P's peak)): proportional to P in the wings, flat in the core."""
MASKED, LEVEL, SIGMA, N_SKY, CLIPPED, LOST = range(N_WEIGHTS, N_WEIGHTS + 6)
"""Columns of a measurement after the fluxes by each way, see `measure`."""
N_COLUMNS = N_WEIGHTS + 6
CUT_AT_2_5 = 1.0476
"""Sigma of a normal distribution over that of its part within 2.5 sigma of the mean."""
NODE_OF_2, NODE_OF_3 = 0.5 / math.sqrt(3.0), 0.5 * math.sqrt(0.6)
"""Gauss and Legendre's outer nodes within a pixel, of two and of three."""


@njit(nogil=True, cache=True)
def _profile(shape: np.ndarray, dx: float, dy: float, nodes: int) -> float:
    """The profile at an offset (px), averaged over the pixel at 1, 2 or 3 nodes a side."""
    a, b, c, beta = shape[0], shape[1], shape[2], shape[3]
    norm = (beta - 1.0) * math.sqrt(a * c - b * b) / math.pi
    if nodes == 1:
        return norm * math.exp(-beta * math.log1p(a * dx * dx + 2.0 * b * dx * dy + c * dy * dy))
    reach = NODE_OF_2 if nodes == 2 else NODE_OF_3
    total = 0.0
    for j in range(nodes):
        for i in range(nodes):
            x, y = dx + reach * (2.0 * i / (nodes - 1) - 1.0), dy + reach * (2.0 * j / (nodes - 1) - 1.0)
            weight = 0.25
            if nodes == 3:
                weight = (4.0 if i == 1 else 2.5) * (4.0 if j == 1 else 2.5) / 81.0
            total += weight * math.exp(-beta * math.log1p(a * x * x + 2.0 * b * x * y + c * y * y))
    return norm * total


@njit(nogil=True, cache=True)
def _nodes(far: float, fwhm: float) -> int:
    """How many nodes a side a pixel needs, sqrt(far) px from the middle of a star."""
    if far > (1.2 * fwhm) ** 2:
        return 1
    return 2 if fwhm > 2.6 else 3


@njit(nogil=True, cache=True)
def _misfit(
    values: np.ndarray, xs: np.ndarray, ys: np.ndarray, weights: np.ndarray, counts: np.ndarray, shape: np.ndarray,
    residuals: np.ndarray, fluxes: np.ndarray,
) -> float:  # fmt: skip
    """Sum of squares of what the profile leaves of all stars, each with the flux that fits it best."""
    total = 0.0
    fwhm = 1.0 / math.sqrt(math.sqrt(max(shape[0] * shape[2] - shape[1] ** 2, 1e-12)))
    for k in range(len(counts)):
        top = bottom = 0.0
        for i in range(counts[k]):
            p = _profile(shape, xs[k, i], ys[k, i], _nodes(xs[k, i] ** 2 + ys[k, i] ** 2, fwhm))
            residuals[k, i] = p
            top += weights[k, i] * p * values[k, i]
            bottom += weights[k, i] * p * p
        fluxes[k] = top / bottom if bottom > 0 else 0.0
        for i in range(counts[k]):
            r = math.sqrt(weights[k, i]) * (values[k, i] - fluxes[k] * residuals[k, i])
            r = max(-6.0, min(6.0, r))  # a neighbour, a cosmic ray
            residuals[k, i] = r
            total += r * r
    return total


@njit(nogil=True, cache=True)
def fit_profile(
    values: np.ndarray, xs: np.ndarray, ys: np.ndarray, weights: np.ndarray, counts: np.ndarray, shape: np.ndarray,
    steps: int,
) -> float:  # fmt: skip
    """The one profile of several stars, by Levenberg and Marquardt; fluxes follow from it (variable projection).

    values, xs, ys, weights : (n, room) light above the sky, offsets from the star, 1 / variance; `counts` used of each.
    shape : (4,) A, B, C, beta: the first guess, and the result.
    Returns the mean square of the normalised residuals.
    """
    n_pixels = counts.sum()
    if n_pixels < 20:
        return math.nan
    fluxes = np.empty(len(counts))
    residuals, moved = np.empty_like(values), np.empty_like(values)
    jacobian = np.empty((4, len(counts), values.shape[1]))
    damping = 1e-3
    best = _misfit(values, xs, ys, weights, counts, shape, residuals, fluxes)
    for _ in range(steps):
        normal, right = np.zeros((4, 4)), np.zeros(4)
        size = math.sqrt(shape[0] * shape[2])
        for q in range(4):
            step = 1e-4 * (size if q < 3 else shape[3])
            other = shape.copy()
            other[q] += step
            _misfit(values, xs, ys, weights, counts, other, moved, fluxes)
            for k in range(len(counts)):
                for i in range(counts[k]):
                    jacobian[q, k, i] = (moved[k, i] - residuals[k, i]) / step
        for q in range(4):
            for k in range(len(counts)):
                for i in range(counts[k]):
                    right[q] -= jacobian[q, k, i] * residuals[k, i]
            for p in range(q, 4):
                s = 0.0
                for k in range(len(counts)):
                    for i in range(counts[k]):
                        s += jacobian[q, k, i] * jacobian[p, k, i]
                normal[q, p] = normal[p, q] = s
        accepted = False
        for _try in range(6):
            damped = normal.copy()
            for q in range(4):
                damped[q, q] *= 1.0 + damping
            change = np.zeros(4)
            if not solve_positive(damped, right, 4, change):
                break
            new = shape + change
            new[3] = max(1.3, min(new[3], 12.0))
            if new[0] > 1e-4 and new[2] > 1e-4 and new[0] * new[2] - new[1] ** 2 > 0.05 * new[0] * new[2]:
                trial = _misfit(values, xs, ys, weights, counts, new, moved, fluxes)
                if trial < best:
                    accepted = best - trial > 1e-3 * best
                    best = trial
                    shape[:] = new
                    residuals[:] = moved
                    damping = max(damping * 0.1, 1e-6)
                    break
            damping *= 10.0
        if not accepted:
            break
    return best / n_pixels


@njit(nogil=True, cache=True)
def profile_misfit(
    values: np.ndarray, xs: np.ndarray, ys: np.ndarray, noise: np.ndarray, per_photon: float, counts: np.ndarray,
    shape: np.ndarray, room: np.ndarray,
) -> float:  # fmt: skip
    """How far pixels of real stars are from the profile beyond their noise, as a share of it: sigma, robust.

    noise : (n,) sigma of the sky; room : as many float32 as there are pixels; other arguments as for `fit_profile`.
    """
    peak = _profile(shape, 0.0, 0.0, 2)
    n = 0
    for k in range(len(counts)):
        top = bottom = 0.0
        for i in range(counts[k]):
            p = _profile(shape, xs[k, i], ys[k, i], 2)
            top += p * values[k, i]
            bottom += p * p
        flux = top / bottom if bottom > 0 else 0.0
        for i in range(counts[k]):
            p = _profile(shape, xs[k, i], ys[k, i], 2)
            if p < 0.1 * peak or flux <= 0:
                continue
            own = noise[k] ** 2 + per_photon * flux * p
            off = (values[k, i] - flux * p) ** 2 - own
            room[n] = max(off, 0.0) / (flux * (p + 0.15 * peak)) ** 2
            n += 1
    if n < 20:
        return 0.0
    ordered = np.sort(room[:n])
    # two thirds of a normal distribution lie within one sigma
    return math.sqrt(ordered[int(0.683 * (n - 1))])


@njit(nogil=True, cache=True)
def _is_defect(defects: np.ndarray, place: int) -> bool:
    """Whether a flat index is among the sorted ones."""
    low, high = 0, len(defects)
    while low < high:
        middle = (low + high) // 2
        if defects[middle] < place:
            low = middle + 1
        else:
            high = middle
    return low < len(defects) and defects[low] == place


@njit(nogil=True, cache=True)
def _clipped_mean(values: np.ndarray) -> tuple[float, float, int]:
    """Mean, sigma and number of values within 2.5 sigma of that mean, found in rounds from the median of a sample."""
    n = len(values)
    step = max(1, n // 63)
    sample = np.sort(values[::step])
    m = len(sample)
    level = float(sample[m // 2])
    spread = 0.5 * float(sample[(5 * m) // 6] - sample[m // 6]) / 0.9674
    used = n
    for number in range(6):
        total = square = 0.0
        inside = 0
        reach = (3.5 if number == 0 else 2.5) * spread
        for i in range(n):
            v = values[i] - level
            if abs(v) <= reach:
                total += v
                square += v * v
                inside += 1
        if inside < 12:
            break
        mean = total / inside
        spread = math.sqrt(max(square / inside - mean * mean, 0.0))
        if number > 0:
            spread *= CUT_AT_2_5
        level += mean
        if number > 1 and inside == used:
            break
        used = inside
    return level, spread, used


@njit(nogil=True, cache=True)
def sky_around(
    data: np.ndarray, colours: np.ndarray, channel: int, xs: np.ndarray, ys: np.ndarray, inner: float, outer: float,
    first: np.ndarray, others: np.ndarray, reach: np.ndarray, begin: int, end: int, room: np.ndarray, out: np.ndarray,
) -> None:  # fmt: skip
    """Level, noise and number of pixels of the sky in a ring around each star, without other stars.

    data : (H, W) float32; colours : (2, 2) channel of each pixel by parity.
    inner, outer : of the ring, px.
    first, others : neighbours of star k are others[first[k] : first[k + 1]]; `reach` (n,) px, how far each shines.
    begin, end : which stars to look at; room : float32, as many as the ring has pixels.
    out : (n, 3): level, sigma (NaN with fewer than 12 pixels), number.
    """
    height, width = data.shape
    half = math.ceil(outer)
    for k in range(begin, end):
        cx, cy = round(xs[k]), round(ys[k])
        n = 0
        for y in range(max(0, cy - half), min(height, cy + half + 1)):
            dy = y - ys[k]
            for x in range(max(0, cx - half), min(width, cx + half + 1)):
                if colours[y & 1, x & 1] != channel:
                    continue
                dx = x - xs[k]
                far = dx * dx + dy * dy
                if far < inner * inner or far > outer * outer:
                    continue
                v = data[y, x]
                if v != v:
                    continue
                clear = True
                for m in range(first[k], first[k + 1]):
                    o = others[m]
                    if (x - xs[o]) ** 2 + (y - ys[o]) ** 2 < reach[o] * reach[o]:
                        clear = False
                        break
                if clear:
                    room[n] = v
                    n += 1
        if n < 12:
            out[k, 0], out[k, 1], out[k, 2] = np.nan, np.nan, n
            continue
        out[k, 0], out[k, 1], out[k, 2] = _clipped_mean(room[:n])


@njit(nogil=True, cache=True)
def gather(
    data: np.ndarray, colours: np.ndarray, channel: int, xs: np.ndarray, ys: np.ndarray, sky: np.ndarray,
    radius: float, per_photon: float, saturation: float, defects: np.ndarray, values: np.ndarray, dx: np.ndarray,
    dy: np.ndarray, weights: np.ndarray, counts: np.ndarray,
) -> None:  # fmt: skip
    """Pixels within `radius` of each star for `fit_profile`; none of a star that is clipped or at an edge.

    per_photon : variance that light adds, ADU^2 per ADU (inverse gain); other arguments as for `measure`.
    """
    height, width = data.shape
    half = math.ceil(radius)
    for k in range(len(xs)):
        cx, cy = round(xs[k]), round(ys[k])
        counts[k] = 0
        if cx < half or cy < half or cx + half >= width or cy + half >= height or not sky[k, 1] > 0:
            continue
        n = 0
        clipped = False
        for y in range(cy - half, cy + half + 1):
            for x in range(cx - half, cx + half + 1):
                ox, oy = x - xs[k], y - ys[k]
                if ox * ox + oy * oy > radius * radius:
                    continue
                v = data[y, x]
                clipped = clipped or v >= saturation
                if colours[y & 1, x & 1] != channel or v != v or _is_defect(defects, y * width + x):
                    continue
                light = v - sky[k, 0]
                values[k, n] = light
                dx[k, n] = ox
                dy[k, n] = oy
                signal = max(light, 0.0)
                weights[k, n] = 1.0 / (sky[k, 1] ** 2 + per_photon * signal + (0.03 * signal) ** 2)
                n += 1
        counts[k] = 0 if clipped else n


@njit(nogil=True, cache=True)
def measure(
    data: np.ndarray, colours: np.ndarray, channel: int, xs: np.ndarray, ys: np.ndarray, shape: np.ndarray,
    sky: np.ndarray, radius: float, inner: float, outer: float, per_photon: float, misfit: float, saturation: float,
    defects: np.ndarray, first: np.ndarray, others: np.ndarray, fluxes: np.ndarray, wanted: np.ndarray,
    out: np.ndarray, spread: np.ndarray,
) -> None:  # fmt: skip
    """The light of stars at known places, by the profile of the frame.

    Each way of weighing gives flux = sum(W (d - sky)) / sum(W P): whatever the profile's error is, it is the same share
    of every star's flux, bright or faint, since W depends on the profile alone. Pixels without data, defects, and what
    stands out of the fit (cosmic rays) are left out of both sums.

    Parameters
    ----------
    data : (H, W) float32, ADU; colours : (2, 2) channel by parity; channel : the one to be measured.
    xs, ys : (n,) places, px; shape : (4,) of the profile; sky : (n, 3) of `sky_around`, in the ring `inner`, `outer`.
    radius : pixels within it are used; per_photon : ADU^2 of variance per ADU of light.
    misfit : share of the profile by which pixels may differ from it.
    saturation : ADU; defects : sorted flat indices.
    first, others : neighbours, as for `sky_around`; their light, of `fluxes` (n,) ADU, is taken off.
    wanted : (m,) which stars to measure.
    out : (n, N_COLUMNS): fluxes by each way (ADU), share of light in pixels left out, level and noise of the sky,
        pixels that it rests on, number of clipped pixels, share of the light outside of the frame.
    spread : (n, N_WEIGHTS, 3): sum W^2 L / (sum W P)^2 with L the light of star and neighbours (ADU), sum W^2 / (sum W
        P)^2 and sum W / sum W P, by each way.
    """
    height, width = data.shape
    half = math.ceil(radius)
    size = (2 * half + 1) ** 2
    profile, light, used = np.empty(size), np.empty(size), np.empty(size, dtype=np.bool_)
    foreign = np.empty(size)
    fwhm = 1.0 / math.sqrt(math.sqrt(max(shape[0] * shape[2] - shape[1] ** 2, 1e-12)))
    core = (1.2 * fwhm) ** 2
    peak = _profile(shape, 0.0, 0.0, _nodes(0.0, fwhm))
    # own light in the ring of its sky, mean over the ring
    n_ring, ring = 24, 0.0
    for i in range(n_ring):
        r = math.sqrt(inner**2 + (outer**2 - inner**2) * (i + 0.5) / n_ring)
        ring += _profile(shape, r * 0.7071, r * 0.7071, 1) / n_ring
    for position in range(len(wanted)):
        k = wanted[position]
        out[k] = np.nan
        spread[k] = np.nan
        if not (-half < xs[k] < width + half and -half < ys[k] < height + half and sky[k, 1] > 0):
            continue
        cx, cy = round(xs[k]), round(ys[k])
        n, whole, outside, lost, clipped = 0, 0.0, 0.0, 0.0, 0
        for y in range(cy - half, cy + half + 1):
            for x in range(cx - half, cx + half + 1):
                dx, dy = x - xs[k], y - ys[k]
                far = dx * dx + dy * dy
                if far > radius * radius or colours[y & 1, x & 1] != channel:
                    if far < core and 0 <= y < height and 0 <= x < width and data[y, x] >= saturation:
                        clipped += 1
                    continue
                p = _profile(shape, dx, dy, _nodes(far, fwhm))
                whole += p
                if y < 0 or x < 0 or y >= height or x >= width:
                    outside += p
                    continue
                v = data[y, x]
                if v != v or _is_defect(defects, y * width + x):
                    lost += p
                    continue
                if v >= saturation and far < core:
                    clipped += 1
                theirs = 0.0
                for m in range(first[k], first[k + 1]):
                    o = others[m]
                    ox, oy = x - xs[o], y - ys[o]
                    if ox * ox + oy * oy < 2.0 * radius * radius:
                        theirs += fluxes[o] * _profile(shape, ox, oy, _nodes(ox * ox + oy * oy, fwhm))
                profile[n], light[n], foreign[n], used[n] = p, v - sky[k, 0] - theirs, theirs, True
                n += 1
        variance = sky[k, 1] ** 2
        flux = 0.0
        for _ in range(3):
            top = bottom = 0.0
            for i in range(n):
                if used[i]:
                    top += profile[i] * (light[i] + flux * ring)
                    bottom += profile[i] ** 2
            if bottom <= 0.0:
                break
            flux = top / bottom
            changed = False
            for i in range(n):
                model = max(flux, 0.0) * profile[i]
                allowed = 25.0 * (variance + per_photon * (model + foreign[i]))
                allowed += (misfit * (model + 0.15 * flux * peak) + 3.0 * misfit * foreign[i]) ** 2
                off = light[i] + flux * ring - flux * profile[i]
                stands_out = off * off > allowed
                if stands_out == used[i]:
                    changed = True
                used[i] = not stands_out
            if not changed:
                break
        for i in range(n):
            if not used[i]:
                lost += profile[i]
        out[k, MASKED] = lost / whole if whole > 0 else 1.0
        out[k, LOST] = outside / whole if whole > 0 else 1.0
        out[k, CLIPPED] = clipped
        out[k, LEVEL], out[k, SIGMA], out[k, N_SKY] = sky[k, 0], sky[k, 1], sky[k, 2]
        for way in range(N_WEIGHTS):
            soft = SOFTNESS[way] * peak
            top = all_p = all_w = square = cube = 0.0
            for i in range(n):
                if used[i]:
                    w = profile[i] / (1.0 + profile[i] / soft)
                    top += w * light[i]
                    all_p += w * profile[i]
                    all_w += w
                    square += w * w
                    cube += w * w * (max(flux, 0.0) * profile[i] + foreign[i])
            below = all_p - ring * all_w
            if below > 0.0 and all_p > 0.0:
                out[k, way] = top / below
                spread[k, way, 0] = cube / all_p**2
                spread[k, way, 1] = square / all_p**2
                spread[k, way, 2] = all_w / all_p
