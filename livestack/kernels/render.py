"""Compiled loops behind the picture: area averaging with no-data pixels, sky subtraction and balance, the stretch.

Each works on rows `[row0, row1)` of the output only, so that several threads can share one picture by bands. Output
pixel (i, j) covers `origin + index * scale .. origin + (index + 1) * scale` of the input in edge coordinates (input
pixel k covers k .. k + 1). Callers own all memory; shapes and dtypes are checked by `livestack.render`.
"""

from __future__ import annotations

import math

import numpy as np
from numba import njit

LUMA = (0.3, 0.4, 0.3)
"""Weights of R, G, B in luminance: nearly equal, because narrowband pictures have as much to say in red and blue."""


@njit(nogil=True, cache=True)
def average_area(plane, x0, y0, scale, out, row0, row1):
    """Mean of the valid part of each output pixel's footprint; NaN where nothing is valid.

    plane (H, W) float32, NaN = no data; out (h, w) float32; scale >= 1, input pixels per output pixel.
    """
    height, width = plane.shape
    columns = out.shape[1]
    left = max(0, math.floor(x0))
    right = min(width, math.ceil(x0 + columns * scale - 1e-6))
    total = np.empty(right - left, np.float32)
    weight = np.empty(right - left, np.float32)
    zero = np.float32(0)
    for i in range(row0, row1):
        top = max(0.0, y0 + i * scale)
        bottom = min(float(height), y0 + (i + 1) * scale)
        total[:] = zero
        weight[:] = zero
        for y in range(int(top), min(height, math.ceil(bottom - 1e-6))):
            share = np.float32(min(bottom, y + 1.0) - max(top, float(y)))
            line = plane[y, left:right]
            for x in range(line.size):
                value = line[x]
                valid = value == value
                total[x] += share * value if valid else zero
                weight[x] += share if valid else zero
        for j in range(columns):
            start = max(float(left), x0 + j * scale)
            stop = min(float(right), x0 + (j + 1) * scale)
            numerator = 0.0
            denominator = 0.0
            for x in range(int(start), min(right, math.ceil(stop - 1e-6))):
                share = np.float32(min(stop, x + 1.0) - max(start, float(x)))
                numerator += share * total[x - left]
                denominator += share * weight[x - left]
            out[i, j] = numerator / denominator if denominator > 0.0 else np.nan


@njit(nogil=True, cache=True)
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


@njit(nogil=True, cache=True)
def sum_terms(values, factors, out):
    """out (blocks,) = values (blocks, n) times factors (n,)."""
    blocks, n = values.shape
    for b in range(blocks):
        total = 0.0
        for k in range(n):
            total += values[b, k] * factors[k]
        out[b] = total


@njit(nogil=True, cache=True)
def fill_surface(coefficients, u0, du, v0, dv, out, row0, row1):
    """Write sum_pq coefficients[p, q] u^p v^q; u = u0 + j du and v = v0 + i dv. coefficients (D, D); out (h, w)."""
    order = coefficients.shape[0]
    row = np.empty(order)
    for i in range(row0, row1):
        v = v0 + i * dv
        for p in range(order):
            value = 0.0
            for q in range(order - 1, -1, -1):
                value = value * v + coefficients[p, q]
            row[p] = value
        for j in range(out.shape[1]):
            u = u0 + j * du
            value = 0.0
            for p in range(order - 1, -1, -1):
                value = value * u + row[p]
            out[i, j] = value


@njit(nogil=True, cache=True)
def balance_rows(planes, coefficients, gains, u0, du, v0, dv, luma, row0, row1):
    """Subtract the sky, apply the gains, in place, and write the luminance (NaN where no channel has data).

    planes (C, h, w) float32; coefficients (C, D, D); gains (C,); luma (h, w) float32. A channel without data takes the
    mean of the others: its colour is then neutral. Infinities count as no data.
    """
    channels, _, columns = planes.shape
    order = coefficients.shape[1]
    line = np.empty((channels, order))
    for i in range(row0, row1):
        v = v0 + i * dv
        for c in range(channels):
            for p in range(order):
                value = 0.0
                for q in range(order - 1, -1, -1):
                    value = value * v + coefficients[c, p, q]
                line[c, p] = value
        for c in range(channels):
            for j in range(columns):
                u = u0 + j * du
                value = 0.0
                for p in range(order - 1, -1, -1):
                    value = value * u + line[c, p]
                level = np.float32((planes[c, i, j] - value) * gains[c])
                planes[c, i, j] = level if math.isfinite(level) else np.float32(np.nan)
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


@njit(nogil=True, cache=True)
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


@njit(nogil=True, cache=True)
def look_up(curve, x):
    """Value of the stretch at x >= 0; knots lie at sqrt(x) = k / (n - 1), fine where the sky is; 1 beyond the end."""
    last = curve.size - 1
    position = np.float32(math.sqrt(x)) * np.float32(last)
    if position >= last:
        return curve[last]
    k = int(position)
    rest = position - np.float32(k)
    return curve[k] + rest * (curve[k + 1] - curve[k])


@njit(nogil=True, cache=True)
def enhance(excess, saturation):
    """How far a channel is shown above the luminance, from its excess in the data; both relative to the luminance.

    The square root does for colour what the stretch does for brightness. Strong colours are held back, so that faint
    ones can be lifted without neon.
    """
    shown = saturation * (np.float32(math.sqrt(max(np.float32(0), np.float32(1) + excess))) - np.float32(1))
    return shown / (np.float32(1) + np.float32(0.5) * shown) if shown > 0 else shown


@njit(nogil=True, cache=True)
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


@njit(nogil=True, cache=True)
def stretch_colour(luma, chroma, sigma, saturation, black, inverse_range, curve, top, out, row0, row1):
    """Colour picture: the luminance is stretched, the channels follow by their ratio to it.

    chroma is that of `weigh_chroma`, smoothed: strong light takes its colour from the closest pixels, faint light from
    a wider circle; where there is nothing but sky, colour fades out. Colour that would clip is mixed with white just
    enough. out (h, w, 3) uint8 or uint16 in 0 .. top; NaN becomes 0.
    """
    zero = np.float32(0)
    one = np.float32(1)
    for i in range(row0, row1):
        for j in range(luma.shape[1]):
            level = luma[i, j]
            if level != level:
                for c in range(3):
                    out[i, j, c] = 0
                continue
            x = max(zero, np.float32((level - black) * inverse_range))
            bright = look_up(curve, x)
            snr = max(zero, np.float32(level / sigma))
            own = snr * snr / (snr * snr + np.float32(25.0))
            near = own / chroma[0, i, j]
            d_red = near * chroma[1, i, j]
            d_blue = near * chroma[2, i, j]
            weight = chroma[3, i, j]
            if weight > zero:
                glow = max(zero, chroma[4, i, j] / (weight * sigma))
                shown = (one - own) * max(own, glow * glow / (glow * glow + one))
                far = shown / (weight * max(level - black, sigma))
                d_red += far * chroma[5, i, j]
                d_blue += far * chroma[6, i, j]
            d_green = -(np.float32(LUMA[0]) * d_red + np.float32(LUMA[2]) * d_blue) / np.float32(LUMA[1])
            r = one + enhance(d_red, saturation)
            g = one + enhance(d_green, saturation)
            b = one + enhance(d_blue, saturation)
            r, g, b = max(zero, r), max(zero, g), max(zero, b)
            norm = bright / max(
                np.float32(1e-6), np.float32(LUMA[0]) * r + np.float32(LUMA[1]) * g + np.float32(LUMA[2]) * b
            )
            r, g, b = r * norm, g * norm, b * norm
            most = max(r, max(g, b))
            if most > one:
                mix = (one - bright) / (most - bright)
                r, g, b = bright + (r - bright) * mix, bright + (g - bright) * mix, bright + (b - bright) * mix
            out[i, j, 0] = int(min(one, max(zero, r)) * top + np.float32(0.5))
            out[i, j, 1] = int(min(one, max(zero, g)) * top + np.float32(0.5))
            out[i, j, 2] = int(min(one, max(zero, b)) * top + np.float32(0.5))
