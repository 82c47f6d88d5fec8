"""Compiled loops behind the picture: area averaging with no-data pixels, sky subtraction and balance, the stretch.

Each works on rows `[row0, row1)` of the output only, so that several threads can share one picture by bands. Output
pixel (i, j) covers `origin + index * scale .. origin + (index + 1) * scale` of the input in edge coordinates (input
pixel k covers k .. k + 1). Callers own all memory; shapes and dtypes are checked by `livestack.picture`.
"""

from __future__ import annotations

import math

import numpy as np
from numba import njit

LUMA = (0.3, 0.4, 0.3)
"""Weights of R, G, B in luminance: nearly equal, because narrowband pictures have as much to say in red and blue."""


@njit(nogil=True, cache=True, error_model="numpy")
def average_area(plane, x0, y0, scale, out, row0, row1):
    """Mean of the valid part of each output pixel's footprint; NaN where nothing is valid.

    plane (H, W) float32, NaN = no data; out (h, w) float32; scale >= 1, input pixels per output pixel.
    """
    height, width = plane.shape
    left, right = max(0, math.floor(x0)), min(width, math.ceil(x0 + out.shape[1] * scale - 1e-6))
    first, n_more, share0, share1 = footprints(x0 - left, scale, out.shape[1], right - left)
    total, known = np.empty(right - left, np.float32), np.empty(right - left, np.float32)
    zero = np.float32(0)
    for i in range(row0, row1):
        top, bottom = max(0.0, y0 + i * scale), min(float(height), y0 + (i + 1) * scale)
        total[:] = zero
        known[:] = zero
        whole = zero
        for y in range(int(top), min(height, math.ceil(bottom - 1e-6))):
            share = np.float32(min(bottom, y + 1.0) - max(top, float(y)))
            whole += share
            line = plane[y, left:right]
            for x in range(line.size):
                value = line[x]
                valid = value == value
                total[x] += share * value if valid else zero
                known[x] += share if valid else zero
        average_columns(total, known, whole, first, n_more, share0, share1, out[i])


@njit(nogil=True, cache=True, error_model="numpy")
def average_weighted(plane, weight, x0, y0, scale, out, row0, row1):
    """`average_area` of data that are valid where weight (H, W) float32 is above nought."""
    height, width = plane.shape
    left, right = max(0, math.floor(x0)), min(width, math.ceil(x0 + out.shape[1] * scale - 1e-6))
    first, n_more, share0, share1 = footprints(x0 - left, scale, out.shape[1], right - left)
    total, known = np.empty(right - left, np.float32), np.empty(right - left, np.float32)
    zero = np.float32(0)
    for i in range(row0, row1):
        top, bottom = max(0.0, y0 + i * scale), min(float(height), y0 + (i + 1) * scale)
        total[:] = zero
        known[:] = zero
        whole = zero
        for y in range(int(top), min(height, math.ceil(bottom - 1e-6))):
            share = np.float32(min(bottom, y + 1.0) - max(top, float(y)))
            whole += share
            line, weights = plane[y, left:right], weight[y, left:right]
            for x in range(line.size):
                valid = weights[x] > zero
                total[x] += share * line[x] if valid else zero
                known[x] += share if valid else zero
        average_columns(total, known, whole, first, n_more, share0, share1, out[i])


@njit(nogil=True, cache=True, error_model="numpy")
def footprints(x0, scale, columns, width):
    """Which of `width` input columns an output column covers: the first, how many more, and the shares of both ends."""
    first, n_more = np.empty(columns, np.int64), np.empty(columns, np.int64)
    share0, share1 = np.empty(columns, np.float32), np.zeros(columns, np.float32)
    for j in range(columns):
        start, stop = max(0.0, x0 + j * scale), min(float(width), x0 + (j + 1) * scale)
        first[j] = min(int(start), width - 1)
        n_more[j] = max(min(width, math.ceil(stop - 1e-6)) - 1 - first[j], 0)
        share0[j] = min(stop, first[j] + 1.0) - start
        if n_more[j] > 0:
            share1[j] = stop - (first[j] + n_more[j])
    return first, n_more, share0, share1


@njit(nogil=True, cache=True, error_model="numpy")
def average_columns(total, known, whole, first, n_more, share0, share1, out):
    """Second half of `average_area`: out[j] = sum of total over sum of known; `known` is `whole` where all is valid."""
    n_missing = 0
    for x in range(known.size):
        n_missing += 1 if known[x] < whole else 0
    for j in range(out.size):
        a, b = first[j], first[j] + n_more[j]
        numerator = 0.0 + share0[j] * total[a] + share1[j] * total[b]
        for x in range(a + 1, b):
            numerator += total[x]
        if n_missing == 0:
            denominator = 0.0 + whole * (share0[j] + share1[j] + np.float32(max(b - a - 1, 0)))
        else:
            denominator = 0.0 + share0[j] * known[a] + share1[j] * known[b]
            for x in range(a + 1, b):
                denominator += known[x]
        out[j] = numerator / denominator if denominator > 0 else np.nan


@njit(nogil=True, cache=True, error_model="numpy")
def weigh_terms(values, weights, levels, normal, right):
    """Normal equations of a weighted least-squares fit of terms to levels: normal = V' W V, right = V' W levels.

    values (blocks, n) float64; weights, levels (blocks,); normal (n, n) and right (n,) are overwritten. A few hundred
    blocks: a matrix library would spend more on waking its threads.
    """
    blocks, n = values.shape
    normal[:] = 0.0
    right[:] = 0.0
    for b in range(blocks):
        row = values[b]
        for k in range(n):
            weighted = weights[b] * row[k]
            right[k] += weighted * levels[b]
            line = normal[k]
            for j in range(n):
                line[j] += weighted * row[j]


@njit(nogil=True, cache=True, error_model="numpy")
def sum_terms(values, factors, out):
    """out (blocks,) = values (blocks, n) times factors (n,)."""
    blocks, n = values.shape
    for b in range(blocks):
        total = 0.0
        for k in range(n):
            total += values[b, k] * factors[k]
        out[b] = total


@njit(nogil=True, cache=True, error_model="numpy")
def surface_row(coefficients, u, v, out):
    """out[j] = sum_pq coefficients[p, q] u[j]^p v^q; coefficients (D, D), u and out (columns,) float64."""
    order = coefficients.shape[0]
    out[:] = 0.0
    rising = False
    for p in range(order - 1, -1, -1):
        value = 0.0
        for q in range(order - 1, -1, -1):
            value = value * v + coefficients[p, q]
        # Most skies are planes: the powers that they do not have cost nothing.
        if rising:
            for j in range(out.size):
                out[j] = out[j] * u[j] + value
        elif value != 0.0:
            out[:] = value
            rising = True


@njit(nogil=True, cache=True, error_model="numpy")
def fill_surface(coefficients, u0, du, v0, dv, out, row0, row1):
    """Write sum_pq coefficients[p, q] u^p v^q; u = u0 + j du and v = v0 + i dv. coefficients (D, D); out (h, w)."""
    u = u0 + du * np.arange(out.shape[1])
    row = np.empty(u.size)
    for i in range(row0, row1):
        surface_row(coefficients, u, v0 + i * dv, row)
        for j in range(u.size):
            out[i, j] = row[j]


@njit(nogil=True, cache=True, error_model="numpy")
def balance_rows(planes, coefficients, gains, u0, du, v0, dv, luma, row0, row1):
    """Subtract the sky, apply the gains, in place, and write the luminance (NaN where no channel has data).

    planes (C, h, w) float32; coefficients (C, D, D); gains (C,); luma (h, w) float32. A channel without data takes the
    mean of the others: its colour is then neutral. Infinities count as no data.
    """
    channels, _, columns = planes.shape
    u = u0 + du * np.arange(columns)
    row = np.empty(columns)
    for i in range(row0, row1):
        for c in range(channels):
            surface_row(coefficients[c], u, v0 + i * dv, row)
            gain = gains[c]
            for j in range(columns):
                level = np.float32((planes[c, i, j] - row[j]) * gain)
                planes[c, i, j] = level if abs(level) < np.inf else np.float32(np.nan)
        if channels == 1:
            luma[i, :] = planes[0, i, :]
            continue
        for j in range(columns):
            red, green, blue = planes[0, i, j], planes[1, i, j], planes[2, i, j]
            if math.isnan(red) or math.isnan(green) or math.isnan(blue):
                total = 0.0
                count = 0
                for c in range(3):
                    if not math.isnan(planes[c, i, j]):
                        total += planes[c, i, j]
                        count += 1
                mean = np.float32(total / count) if count else np.float32(np.nan)
                for c in range(3):
                    if math.isnan(planes[c, i, j]):
                        planes[c, i, j] = mean
                red, green, blue = planes[0, i, j], planes[1, i, j], planes[2, i, j]
            luma[i, j] = LUMA[0] * red + LUMA[1] * green + LUMA[2] * blue


@njit(nogil=True, cache=True, error_model="numpy")
def weigh_chroma(planes, luma, sigma, black, chroma, row0, row1):
    """Prepare the smoothing of colour: everything that is going to be averaged over neighbours, zero without data.

    chroma (7, h, w) float32 receives, for strong light, L - black, R - L, B - L; for faint light a weight that falls
    where light is strong, so that stars do not bleed, and the weight x L, x (R - L), x (B - L).
    """
    one = np.float32(1)
    inverse = np.float32(1.0 / (3.0 * sigma))
    for i in range(row0, row1):
        for j in range(luma.shape[1]):
            level = luma[i, j]
            if level == level:
                ratio = level * inverse
                weight = one / (one + ratio * ratio)
                red, blue = planes[0, i, j] - level, planes[2, i, j] - level
                chroma[0, i, j] = max(level - black, sigma)
                chroma[1, i, j] = red
                chroma[2, i, j] = blue
                chroma[3, i, j] = weight
                chroma[4, i, j] = weight * level
                chroma[5, i, j] = weight * red
                chroma[6, i, j] = weight * blue
            else:
                for k in range(7):
                    chroma[k, i, j] = np.float32(0)


@njit(nogil=True, cache=True, error_model="numpy")
def look_up(curve, x):
    """Value of the stretch at x >= 0; knots lie at sqrt(x) = k / (n - 1), fine where the sky is; 1 beyond the end."""
    last = curve.size - 1
    position = np.float32(math.sqrt(x)) * np.float32(last)
    if position >= last:
        return curve[last]
    k = int(position)
    rest = position - np.float32(k)
    return curve[k] + rest * (curve[k + 1] - curve[k])


@njit(nogil=True, cache=True, error_model="numpy")
def enhance(excess, saturation):
    """How far a channel is shown above the luminance, from its excess in the data; both relative to the luminance.

    The square root does for colour what the stretch does for brightness. Strong colours are held back, so that faint
    ones can be lifted without neon.
    """
    shown = saturation * (np.float32(math.sqrt(max(np.float32(0), np.float32(1) + excess))) - np.float32(1))
    return shown / (np.float32(1) + np.float32(0.5) * max(shown, np.float32(0)))


@njit(nogil=True, cache=True, error_model="numpy")
def stretch_mono(luma, black, inverse_range, curve, top, out, row0, row1):
    """Grey picture: out (h, w, 3) uint8 or uint16 in 0 .. top; NaN becomes 0."""
    for i in range(row0, row1):
        for j in range(luma.shape[1]):
            level = luma[i, j]
            if level == level:
                x = max(np.float32(0), np.float32((level - black) * inverse_range))
                value = look_up(curve, x) * top + np.float32(0.5)
            else:
                value = np.float32(0)
            for c in range(3):
                out[i, j, c] = int(value)


@njit(nogil=True, cache=True, error_model="numpy")
def stretch_colour(luma, chroma, sigma, saturation, black, inverse_range, curve, top, out, row0, row1):
    """Colour picture: the luminance is stretched, the channels follow by their ratio to it.

    chroma is that of `weigh_chroma`, smoothed: strong light takes its colour from the closest pixels, faint light from
    a wider circle; where there is nothing but sky, colour fades out. Colour that would clip is mixed with white just
    enough. out (h, w, 3) uint8 or uint16 in 0 .. top; NaN becomes 0.
    """
    zero, one, half = np.float32(0), np.float32(1), np.float32(0.5)
    tiny, least = np.float32(1e-6), np.float32(1e-9)
    red_share, green_share, blue_share = np.float32(LUMA[0]), np.float32(LUMA[1]), np.float32(LUMA[2])
    columns = luma.shape[1]
    shown = np.empty(columns, np.float32)
    red, green, blue = np.empty(columns, np.float32), np.empty(columns, np.float32), np.empty(columns, np.float32)
    for i in range(row0, row1):
        for j in range(columns):
            level = luma[i, j]
            shown[j] = look_up(curve, max(zero, (level - black) * inverse_range)) if level == level else zero
        # No branches here: this loop is worked through eight pixels at a time.
        for j in range(columns):
            level = luma[i, j] if luma[i, j] == luma[i, j] else zero
            snr = max(zero, level / sigma)
            own = snr * snr / (snr * snr + np.float32(25.0))
            near = own / max(chroma[0, i, j], least)
            weight = max(chroma[3, i, j], tiny)
            glow = max(zero, chroma[4, i, j] / (weight * sigma))
            faint = (one - own) * max(own, glow * glow / (glow * glow + one))
            far = faint / (weight * max(level - black, sigma))
            d_red = near * chroma[1, i, j] + far * chroma[5, i, j]
            d_blue = near * chroma[2, i, j] + far * chroma[6, i, j]
            d_green = -(red_share * d_red + blue_share * d_blue) / green_share
            r = max(zero, one + enhance(d_red, saturation))
            g = max(zero, one + enhance(d_green, saturation))
            b = max(zero, one + enhance(d_blue, saturation))
            bright = shown[j]
            norm = bright / max(tiny, red_share * r + green_share * g + blue_share * b)
            r, g, b = r * norm, g * norm, b * norm
            most = max(r, max(g, b))
            mix = min(one, (one - bright) / max(most - bright, tiny))
            red[j] = min(one, max(zero, bright + (r - bright) * mix)) * top + half
            green[j] = min(one, max(zero, bright + (g - bright) * mix)) * top + half
            blue[j] = min(one, max(zero, bright + (b - bright) * mix)) * top + half
        for j in range(columns):
            known = luma[i, j] == luma[i, j]
            out[i, j, 0] = np.int32(red[j]) if known else 0
            out[i, j, 1] = np.int32(green[j]) if known else 0
            out[i, j, 2] = np.int32(blue[j]) if known else 0
