"""Slow twins of the compiled loops: plain numpy in float64, one pixel at a time, written from the formulas alone."""

from __future__ import annotations

import math

import numpy as np


def keys_weight(t: float) -> float:
    """Keys' cubic kernel with a = -1/2 (doi:10.1109/TASSP.1981.1163711), equation 15."""
    t = abs(t)
    if t < 1:
        return 1.5 * t**3 - 2.5 * t**2 + 1
    if t < 2:
        return -0.5 * t**3 + 2.5 * t**2 - 4 * t + 2
    return 0.0


def keys_sample(source: np.ndarray, inverse: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """(h, w) float64 samples of (H, W) `source` on a grid; `inverse` (3, 3) maps grid (x, y, 1) to source (x, y, 1).

    NaN where any of the sixteen neighbours is missing or NaN; never below the lowest of them.
    """
    height, width = source.shape
    out = np.full(shape, np.nan)
    for y in range(shape[0]):
        for x in range(shape[1]):
            sx, sy, _ = inverse @ (x, y, 1)
            ix, iy = math.floor(sx), math.floor(sy)
            if ix < 1 or iy < 1 or ix > width - 3 or iy > height - 3:
                continue
            part = source[iy - 1 : iy + 3, ix - 1 : ix + 3].astype(float)
            wx = np.array([keys_weight(sx - (ix + i)) for i in range(-1, 3)])
            wy = np.array([keys_weight(sy - (iy + i)) for i in range(-1, 3)])
            value = wy @ part @ wx
            out[y, x] = value if not np.isfinite(value) else max(value, part.min())
    return out


def moments(samples: np.ndarray, weights: np.ndarray, used: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Weighted mean, weighted sum of squares about it and sum of weights along axis 0; `used` True = counts."""
    w = weights.reshape(-1, *[1] * (samples.ndim - 1)) * used
    total = w.sum(axis=0)
    with np.errstate(invalid="ignore", divide="ignore"):
        mean = np.where(total > 0, (w * np.where(used, samples, 0)).sum(axis=0) / total, 0.0)
    squares = (w * (np.where(used, samples, 0) - mean) ** 2 * used).sum(axis=0)
    return mean, squares, total


def surface(coefficients: np.ndarray, height: int, width: int) -> np.ndarray:
    """(H, W) cubic polynomial over u, v in -1 .. 1: constant, u, v, u2, uv, v2, u3, u2v, uv2, v3."""
    v, u = np.meshgrid(np.linspace(-1, 1, height), np.linspace(-1, 1, width), indexing="ij")
    terms = (np.ones_like(u), u, v, u * u, u * v, v * v, u**3, u * u * v, u * v * v, v**3)
    return np.sum([c * t for c, t in zip(coefficients, terms, strict=True)], axis=0)


def local_range(image: np.ndarray) -> np.ndarray:
    """Largest minus smallest of the 3 x 3 neighbourhood; the edges repeat."""
    wide = np.pad(image, 1, mode="edge")
    views = [wide[j : j + image.shape[0], i : i + image.shape[1]] for j in range(3) for i in range(3)]
    return np.max(views, axis=0) - np.min(views, axis=0)


def laplacian(image: np.ndarray) -> np.ndarray:
    """Sum of the four neighbours minus four times the pixel; the edges repeat."""
    wide = np.pad(image, 1, mode="edge")
    return wide[:-2, 1:-1] + wide[2:, 1:-1] + wide[1:-1, :-2] + wide[1:-1, 2:] - 4 * image


def prediction(
    mean: np.ndarray, m2: np.ndarray, weight: np.ndarray, count: np.ndarray, spread: np.ndarray, curve: np.ndarray,
    kappa: float, dof: float, floor: float, slope: float, structure: float, excess: float, blur: float,
) -> tuple[np.ndarray, np.ndarray]:  # fmt: skip
    """Expected shift from the mean and largest believed distance from there; formulas of `stacking.accumulators`."""
    n = np.maximum(count.astype(float), 1)
    squares = m2 * n / np.maximum(weight, 1e-20)
    model = floor + slope * np.maximum(mean, 0) + (structure * spread) ** 2
    s2 = (dof * model + squares / 0.985) / (dof + n - 1)
    believed = curve**2 / (curve**2 + 12 * s2 / n + 1e-20)
    shift = blur * curve * believed
    return shift, kappa * np.sqrt(s2 * (1 + 1 / n) + (excess * spread) ** 2 + 0.1 * shift**2)
