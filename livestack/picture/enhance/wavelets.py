"""Sharpening by scale with the starlet transform (a trous, B3 spline).

The image is a sum of layers, each holding detail of 1, 2, 4, 8, 16 ... pixels, and a smooth rest (Starck, Fadili &
Murtagh 2007, doi:10.1109/TIP.2006.887733). A layer's gain acts only where its detail stands clear of the layer's own
noise, so that the sky's grain is not sharpened with the Moon's craters; and not next to things so steep that they would
ring.
"""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np

B3 = np.array([1, 4, 6, 4, 1], dtype=np.float32) / 16
DEFAULT_GAINS = (1.0, 1.3, 1.3, 1.15, 1.0)
MOON_GAINS = (2.5, 3.5, 2.5, 1.5, 1.0)
"""Finest first; 1 leaves a layer alone, 0 removes it."""
WHITE_NOISE = (0.891, 0.200, 0.086, 0.041, 0.021, 0.010)
"""Sigma of each layer of white noise of sigma 1 (Starck & Murtagh 2006, Astronomical Image and Data Analysis)."""
STAR_SIGMA, STAR_REACH_PX = 5.0, 4
"""What stands so many sigma high in the two finest layers is a star; it reaches so far, farther in coarser layers."""
STEEP_SIGMA = 20.0
"""Around detail of so many sigma, the halo of a bright star, the gain is halved."""
NOISE_SIGMA = 3.0
"""Detail of so many sigma gets half of its layer's gain."""


def starlet(image: np.ndarray, scales: int) -> list[np.ndarray]:
    """Layers of (H, W) float32, finest first, and the smooth rest last; their sum is the image.

    Raises
    ------
    ValueError
        When the image is too small for so many scales.
    """
    if scales < 1 or 2 ** (scales + 1) >= min(image.shape):
        raise ValueError(f"scales: {scales} do not fit an image of {image.shape[1]} x {image.shape[0]} pixels.")
    layers = []
    smooth = np.ascontiguousarray(image, dtype=np.float32)
    for scale in range(scales):
        row = np.zeros(4 * 2**scale + 1, np.float32)
        row[:: 2**scale] = B3
        smoother = cv2.sepFilter2D(smooth, cv2.CV_32F, row, row, borderType=cv2.BORDER_REFLECT_101)
        layers.append(smooth - smoother)
        smooth = smoother
    return [*layers, smooth]


def sharpen(plane: np.ndarray, gains: Sequence[float] = DEFAULT_GAINS, protect_stars: bool = True) -> np.ndarray:
    """Multiply the detail of each scale.

    Parameters
    ----------
    plane : (H, W) float32, linear, NaN = no data.
    gains : of the layers, finest first.
    protect_stars : leave stars as they are: they would grow rings and lose their photometry, and have no detail to
        show. False for Moon and planets, where everything is as steep as a star.

    Returns
    -------
    (H, W) float32.
    """
    missing = ~np.isfinite(plane)
    if missing.all():
        return plane.copy()
    filled = _filled(plane, missing)
    *layers, smooth = starlet(filled, len(gains))
    result = smooth.copy()
    noises = layer_noise(layers, missing)
    points = np.max([layer / (STAR_SIGMA * s) for layer, s in zip(layers[:2], noises[:2], strict=True)], axis=0) > 1.0
    for number, (layer, gain, sigma) in enumerate(zip(layers, gains, noises, strict=True)):
        squared = (layer / (NOISE_SIGMA * sigma)) ** 2
        clear = squared / (1.0 + squared)
        if protect_stars:
            reach = 2 * 2**number + 1
            steep = cv2.dilate(np.abs(layer), np.ones((2 * reach + 1, 2 * reach + 1), np.uint8)) / (STEEP_SIGMA * sigma)
            clear *= (1.0 - _near_stars(points, STAR_REACH_PX + 2**number)) / (1.0 + steep**2)
        result += layer * (1.0 + (np.float32(gain) - 1.0) * clear)
    result[missing] = np.nan
    return np.asarray(result, dtype=np.float32)


def _near_stars(points: np.ndarray, reach: int) -> np.ndarray:
    """1 within `reach` pixels of a star, falling smoothly to 0 beyond; (H, W) float32."""
    disc = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * reach + 1, 2 * reach + 1))
    return np.asarray(cv2.GaussianBlur(cv2.dilate(points.astype(np.float32), disc), (0, 0), 0.3 * reach))


def layer_noise(layers: Sequence[np.ndarray], missing: np.ndarray) -> list[float]:
    """Noise of each layer, finest first: the robust sigma of what is in it, but no more than noise can be.

    On the Moon every layer is full of detail. The finest holds least of it, and noise falls from layer to layer at a
    known rate; twice that rate allows for noise that the interpolation has correlated.
    """
    spread = [1.4826 * float(np.median(np.abs(layer[~missing]))) for layer in layers]
    bounds = [spread[0]] + [
        2.0 * spread[0] * WHITE_NOISE[min(i, len(WHITE_NOISE) - 1)] / WHITE_NOISE[0] for i in range(1, len(layers))
    ]
    return [max(min(s, bound), 1e-12) for s, bound in zip(spread, bounds, strict=True)]


def _filled(plane: np.ndarray, missing: np.ndarray) -> np.ndarray:
    """Holes closed with the mean of what is around them (only so that the filters have something to chew on)."""
    filled = np.where(missing, np.float32(0), plane).astype(np.float32)
    if not missing.any():
        return filled
    seen = (~missing).astype(np.float32)
    size = (31, 31)
    near = cv2.blur(filled, size) / np.maximum(cv2.blur(seen, size), 1e-6)
    level = np.float32(np.median(plane[~missing]))
    near = np.where(cv2.blur(seen, size) > 0.01, near, level)
    return np.where(missing, near, filled).astype(np.float32)
