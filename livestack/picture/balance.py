"""White by the stars: gains that make the median bright star neutral, and the luminance that goes with them.

Method: local maxima well above the noise, not saturated; the share of each channel in a star's light as the stretch
will show it; the weighted median of these shares. A prior is mixed in, which alone decides where there are no stars:
nothing extended in the sky is greener than both red and blue, hence what is so is a sensor with more green. What is
measured here is a matter of taste, not of photometry: a field of young stars comes out slightly too red.
"""

from __future__ import annotations

import math

import cv2
import numpy as np

from livestack.kernels.render import LUMA
from livestack.picture.background import measure_sky

STATISTICS_PIXELS = 120_000
"""About so many pixels are looked at for levels and noise."""
MAX_STARS = 150
PRIOR_STARS = 2.0
"""How many stars the prior is worth."""


def measure_balance(above: np.ndarray, small: np.ndarray, sigmas: np.ndarray) -> tuple[np.ndarray, int]:
    """Gains (3,) that make the median star neutral, and the number of stars that say so.

    `above` is (3, h, w) with the sky at 0 and noise `sigmas` (3,); `small` is the same before the sky was subtracted
    (for saturation). Stars are local maxima; their light is what stands above the median of a ring around.
    """
    sigmas = np.maximum(sigmas, 1e-9)
    stride = statistics_stride(above)
    # Channels are weighed by their noise: a red star must be found as well as a blue one.
    weights = (1 / (math.sqrt(3) * sigmas)).tolist()
    detect = above[0] * np.float32(weights[0])
    for plane, weight in zip(above[1:], weights[1:], strict=True):
        cv2.scaleAdd(plane, weight, detect, dst=detect)
    detect = cv2.GaussianBlur(np.nan_to_num(detect, copy=False), (0, 0), 0.8)
    peak = detect >= cv2.dilate(detect, np.ones((7, 7), np.uint8))
    noise = max(measure_sky(detect[::stride, ::stride])[1], 1e-9)
    peak &= detect > 8 * noise
    peak[:8], peak[-8:], peak[:, :8], peak[:, -8:] = False, False, False, False
    ys, xs = np.nonzero(peak)
    prior = _without_green(above, detect > 4 * noise)
    if not len(ys):
        return prior, 0
    order = np.argsort(-detect[ys, xs], kind="stable")[: MAX_STARS * 4]
    ys, xs = ys[order], xs[order]
    offsets = np.arange(-8, 9)
    window = above[:, ys[:, None, None] + offsets[:, None], xs[:, None, None] + offsets]
    distance = np.hypot(offsets[:, None], offsets)
    light = window - np.median(window[..., distance > 6.5], axis=-1)[..., None, None]
    top, bottom = np.nanmax(small, axis=(1, 2)), np.nanmin(small[:, ::stride, ::stride], axis=(1, 2))
    peaks = (small[:, ys, xs] - bottom[:, None]) / (top - bottom)[:, None].clip(1e-9)
    # The stretch shows a star's wings as broad as its core, so both have their say, by the square root of their light;
    # wide enough, too, for a lens whose red or blue is less sharp than its green.
    together = np.where(distance <= 6.5, np.maximum(light.sum(axis=0), 0), 0)
    sigma = float(np.linalg.norm(sigmas))
    flux = (light / np.sqrt(together + 3 * sigma) * (together > 3 * sigma)).sum(axis=(2, 3))
    total = flux.sum(axis=0)
    # Selected by their light in all channels together: to ask for a clear signal in each would prefer blue stars.
    clear = light[..., distance <= 2.5].sum(axis=(0, 2)) > 12 * math.sqrt(21) * sigma
    good = np.isfinite(total) & (total > 0) & clear & (peaks < 0.7).all(axis=0)
    brightest = np.argsort(-total[good], kind="stable")[:MAX_STARS]
    share = (flux[:, good] / total[good])[:, brightest]
    n_stars = len(brightest)
    if not n_stars:
        return prior, 0
    # Faint stars are redder, by nature and by dust; white is what the conspicuous ones are on average.
    weight = total[good][brightest]
    colour = np.log(np.maximum([_weighted_median(one, weight) for one in share], 0.03) * 3)
    wanted = (PRIOR_STARS * np.log(prior) - n_stars * colour) / (n_stars + PRIOR_STARS)
    return normalise_gains(np.exp(np.clip(wanted, -1.6, 1.6))), n_stars


def _without_green(above: np.ndarray, lit: np.ndarray) -> np.ndarray:
    """Gains (3,) that lower green to the stronger of red and blue in what is `lit` (h, w), and change nothing else."""
    gains = np.ones(3)
    light = above.reshape(3, -1)[:, np.flatnonzero(lit)]
    light = light[:, np.isfinite(light).all(axis=0)]
    if light.size:
        red, green, blue = light.mean(axis=1, dtype=np.float64).tolist()
        if green > max(red, blue) > 0:
            gains[1] = max(max(red, blue) / green, 0.3)
    return normalise_gains(gains)


def mix_luma(planes: np.ndarray, gains: np.ndarray) -> np.ndarray:
    """Luminance (h, w) of balanced planes (C, h, w)."""
    if len(planes) == 1:
        return planes[0] * np.float32(gains[0])
    weights = (np.array(LUMA) * gains).astype(np.float32)
    return np.tensordot(weights, planes, axes=1)


def normalise_gains(gains: np.ndarray) -> np.ndarray:
    """Scale gains so that white keeps its luminance."""
    return gains / (gains @ np.array(LUMA)) if len(gains) == 3 else np.ones(1)


def _weighted_median(values: np.ndarray, weights: np.ndarray) -> float:
    order = np.argsort(values, kind="stable")
    half = np.cumsum(weights[order]) - 0.5 * weights[order]
    return float(np.interp(0.5 * weights.sum(), half, values[order]))


def statistics_stride(planes: np.ndarray) -> int:
    """Step along both axes of (C, h, w) that leaves about `STATISTICS_PIXELS`."""
    return max(1, round((planes.shape[1] * planes.shape[2] / STATISTICS_PIXELS) ** 0.5))
