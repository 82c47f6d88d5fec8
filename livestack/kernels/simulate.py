"""Compiled loops of the simulator: stars, trails and the read-out of the sensor.

Stars are Moffat profiles integrated over each pixel by Gauss-Legendre quadrature (5 x 5 points a pixel in the core of
an undersampled star, 3 x 3 in the core, 2 x 2 in the wings), cut off where they sink below a floor and scaled so that
the stamp holds the star's flux exactly. Callers own the arrays and check them; `livestack.simulate` is the only caller.
"""

from __future__ import annotations

import math

import numpy as np
from numba import njit

MAX_RADIUS = 96
"""No star is drawn farther out than this, in pixels."""

_GAUSS_2 = np.polynomial.legendre.leggauss(2)
_GAUSS_3 = np.polynomial.legendre.leggauss(3)
_GAUSS_5 = np.polynomial.legendre.leggauss(5)
_NODES_2, _WEIGHTS_2 = _GAUSS_2[0] / 2, _GAUSS_2[1] / 2
_NODES_3, _WEIGHTS_3 = _GAUSS_3[0] / 2, _GAUSS_3[1] / 2
_NODES_5, _WEIGHTS_5 = _GAUSS_5[0] / 2, _GAUSS_5[1] / 2


@njit(nogil=True, cache=True)
def _pixel_integral(
    dx: float, dy: float, qxx: float, qxy: float, qyy: float, beta: float, nodes: np.ndarray, weights: np.ndarray
) -> float:
    """Integral of (1 + q(r))^-beta over the pixel whose centre is (dx, dy) from the star."""
    total = 0.0
    for j in range(nodes.size):
        v = dy + nodes[j]
        row = 0.0
        for i in range(nodes.size):
            u = dx + nodes[i]
            q = qxx * u * u + qxy * u * v + qyy * v * v
            row += weights[i] * math.exp(-beta * math.log(1.0 + q))
        total += weights[j] * row
    return total


@njit(nogil=True, cache=True)
def add_stars(
    image: np.ndarray,
    x: np.ndarray,
    y: np.ndarray,
    flux: np.ndarray,
    alpha: np.ndarray,
    beta: float,
    aspect: float,
    angle: float,
    channel: np.ndarray,
    floor: float,
) -> None:
    """Add Moffat stars to `image` in place.

    Parameters
    ----------
    image : (H, W) float32, electrons.
    x, y : (N,) float64, centres in pixels (0-based, integers at pixel centres).
    flux : (N, 3) float64, total electrons that the star would leave if every pixel had that colour's filter.
    alpha : (N,) float64, Moffat core radius (geometric mean of the axes) in pixels.
    beta : Moffat exponent, > 1.
    aspect, angle : ratio of the long to the short axis (>= 1), direction of the long axis in radians from +x to +y.
    channel : (2, 2) int8, colour of the pixels at [y % 2, x % 2]; all 0 for mono.
    floor : stars end where they are fainter than this, electrons a pixel.
    """
    height, width = image.shape
    stamp = np.empty((2 * MAX_RADIUS + 3, 2 * MAX_RADIUS + 3), np.float64)
    cos, sin = math.cos(angle), math.sin(angle)
    for n in range(x.size):
        brightest = max(flux[n, 0], flux[n, 1], flux[n, 2])
        if not brightest > 0.0:
            continue
        a2 = alpha[n] * alpha[n]
        peak = brightest * (beta - 1.0) / (math.pi * a2)
        reach = math.sqrt(max((peak / floor) ** (1.0 / beta) - 1.0, 0.0)) * alpha[n]
        reach = min(max(reach, 3.0 * alpha[n], 2.5) * math.sqrt(aspect), float(MAX_RADIUS))
        if x[n] < -reach - 1 or y[n] < -reach - 1 or x[n] > width + reach or y[n] > height + reach:
            continue
        long2, short2 = a2 * aspect, a2 / aspect
        qxx = cos * cos / long2 + sin * sin / short2
        qyy = sin * sin / long2 + cos * cos / short2
        qxy = 2.0 * cos * sin * (1.0 / long2 - 1.0 / short2)
        limit = reach * reach / long2
        x0, y0 = math.floor(x[n] - reach), math.floor(y[n] - reach)
        x1, y1 = math.ceil(x[n] + reach), math.ceil(y[n] + reach)
        fine = math.sqrt(short2) < 1.3
        total = 0.0
        for iy in range(y0, y1 + 1):
            dy = iy - y[n]
            for ix in range(x0, x1 + 1):
                dx = ix - x[n]
                q = qxx * dx * dx + qxy * dx * dy + qyy * dy * dy
                if q > limit:
                    value = 0.0
                elif q > 6.0 and short2 * q > 25.0:
                    value = _pixel_integral(dx, dy, qxx, qxy, qyy, beta, _NODES_2, _WEIGHTS_2)
                elif fine:
                    value = _pixel_integral(dx, dy, qxx, qxy, qyy, beta, _NODES_5, _WEIGHTS_5)
                else:
                    value = _pixel_integral(dx, dy, qxx, qxy, qyy, beta, _NODES_3, _WEIGHTS_3)
                stamp[iy - y0, ix - x0] = value
                total += value
        for iy in range(max(y0, 0), min(y1, height - 1) + 1):
            for ix in range(max(x0, 0), min(x1, width - 1) + 1):
                share = stamp[iy - y0, ix - x0] / total
                image[iy, ix] += np.float32(flux[n, channel[iy & 1, ix & 1]] * share)


@njit(nogil=True, cache=True)
def add_trail(
    image: np.ndarray,
    x: float,
    y: float,
    cos: float,
    sin: float,
    sigma: float,
    peak: float,
    dash: float,
    duty: float,
    flare: float,
) -> None:
    """Add a straight trail with a Gaussian cross-section, cut off at 3.5 sigma, to `image` in place.

    Parameters
    ----------
    image : (H, W) float32, electrons; zero outside the trails stays zero.
    x, y : a point on the trail; `cos`, `sin`: its direction.
    sigma : half-width of the cross-section in pixels; peak : electrons a pixel on the axis.
    dash, duty : period of the blinking in pixels (0: steady) and the lit share of it.
    flare : 0 steady .. 1: slow brightening and fading along the trail.
    """
    height, width = image.shape
    reach = 3.5 * sigma
    for iy in range(height):
        # along the row, |distance| < reach is one interval of x
        if abs(sin) > 1e-9:
            centre = x + (iy - y) * cos / sin
            half = reach / abs(sin)
            x0, x1 = max(0.0, math.ceil(centre - half)), min(width - 1.0, math.floor(centre + half))
        elif abs(iy - y) < reach:
            x0, x1 = 0.0, width - 1.0
        else:
            continue
        for ix in range(int(x0), int(x1) + 1):
            along = (ix - x) * cos + (iy - y) * sin
            if dash > 0.0 and (along / dash) - math.floor(along / dash) > duty:
                continue
            across = (iy - y) * cos - (ix - x) * sin
            if abs(across) > reach:
                continue
            bright = peak * math.exp(-0.5 * (across / sigma) ** 2)
            bright *= 1.0 + flare * math.sin(along * 0.006)
            image[iy, ix] += np.float32(bright)


@njit(nogil=True, cache=True)
def add_streak(
    image: np.ndarray, x0: float, y0: float, x1: float, y1: float, sigma: float, step: float, profile: np.ndarray
) -> None:
    """Add a straight streak that begins and ends, Gaussian across and at its ends, to `image` in place.

    Parameters
    ----------
    image : (H, W) float32, electrons.
    x0, y0, x1, y1 : its ends; they may lie outside.
    sigma : half-width of the cross-section in pixels, cut off at 4.5 sigma.
    profile : (N,) float64, electrons a pixel on the axis at every `step` pixels from the first end.
    """
    height, width = image.shape
    length = math.hypot(x1 - x0, y1 - y0)
    cos, sin = (x1 - x0) / length, (y1 - y0) / length
    reach = 4.5 * sigma
    root = math.sqrt(2.0) * sigma
    top = max(0, math.floor(min(y0, y1) - reach))
    bottom = min(height - 1, math.ceil(max(y0, y1) + reach))
    for iy in range(top, bottom + 1):
        left, right = min(x0, x1) - reach, max(x0, x1) + reach
        if abs(sin) > 1e-9:
            centre = x0 + (iy - y0) * cos / sin
            half = reach / abs(sin)
            left, right = max(left, centre - half), min(right, centre + half)
        for ix in range(max(0, math.ceil(left)), min(width - 1, math.floor(right)) + 1):
            along = (ix - x0) * cos + (iy - y0) * sin
            across = (iy - y0) * cos - (ix - x0) * sin
            ends = 0.5 * (math.erf(along / root) - math.erf((along - length) / root))
            at = min(max(along / step, 0.0), profile.size - 1.001)
            k = int(at)
            bright = profile[k] + (at - k) * (profile[k + 1] - profile[k])
            image[iy, ix] += np.float32(bright * ends * math.exp(-0.5 * (across / sigma) ** 2))


@njit(nogil=True, cache=True)
def add_noise(expected: np.ndarray, normal: np.ndarray, read_noise: float, out: np.ndarray) -> None:
    """Write `expected` plus Gaussian photon and read noise into `out`; all (H, W) float32 in electrons.

    `normal` holds standard normal deviates. Good where more than some 50 electrons are expected.
    """
    height, width = expected.shape
    variance = np.float32(read_noise * read_noise)
    for iy in range(height):
        for ix in range(width):
            level = expected[iy, ix]
            out[iy, ix] = level + math.sqrt(max(level, np.float32(0.0)) + variance) * normal[iy, ix]


@njit(nogil=True, cache=True)
def digitise(
    electrons: np.ndarray,
    extra: np.ndarray,
    columns: np.ndarray,
    gain: float,
    pedestal: float,
    full_well: float,
    adc_max: int,
    out: np.ndarray,
) -> None:
    """Turn electrons into ADU: full well, gain, pedestal, rounding, range of the converter.

    Parameters
    ----------
    electrons : (H, W) float32; extra : (H, W) float32 added to it, or (0, 0) for none.
    columns : (W,) float32, fixed offset of each column in ADU.
    gain : electrons for one ADU; pedestal : ADU; full_well : electrons; adc_max : largest ADU.
    out : (H, W) uint16, written.
    """
    height, width = electrons.shape
    with_extra = extra.size > 0
    for iy in range(height):
        for ix in range(width):
            value = electrons[iy, ix]
            if with_extra:
                value += extra[iy, ix]
            value = min(value, full_well)
            adu = math.floor(value / gain + pedestal + columns[ix] + 0.5)
            out[iy, ix] = np.uint16(min(max(adu, 0.0), adc_max))
