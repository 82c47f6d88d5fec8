"""The final fit: a similarity or, where it pays, an affine, over all matched stars; polynomials are `lens`'s.

Bright stars count more, down to a floor that is measured from the residuals themselves (seeing moves bright stars too);
Tukey's biweight takes out what does not belong. A richer model is taken only when it lowers the residual of stars
that were left out of its fit (five-fold cross-validation).
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from livestack.registration import transform as tf

Fit = Callable[[np.ndarray, np.ndarray, np.ndarray], np.ndarray]
"""(source, target, weights) -> what `Apply` takes."""
Apply = Callable[[np.ndarray, np.ndarray], np.ndarray]
"""(what was fitted, source) -> (n, 2) where it leads."""

FLOOR_PX = 0.01
CENTROID_PX, CENTROID_POWER = 1.5, 0.8
"""Centroid error of a star, px = CENTROID_PX / snr^CENTROID_POWER: measured on simulated frames from signal to noise 8
to 450. The noise in `snr` is that of the sky alone; the photons of the star itself make the power less than 1."""
FOLDS = 5
AFFINE_STARS = 40
AFFINE_GAIN = 0.97
AFFINE_CHANCE = 10.0
"""With n stars chance alone lowers the residual by a few parts in n: a gain below AFFINE_CHANCE / n proves nothing."""


def fit_matched(
    source: np.ndarray, target: np.ndarray, source_snr: np.ndarray, target_snr: np.ndarray, model: str = "similarity"
) -> tuple[np.ndarray, np.ndarray]:
    """Matrix source -> target and the (n,) mask of the stars that carried it.

    Parameters
    ----------
    source, target : (n, 2) matched positions, n >= 2.
    source_snr, target_snr : (n,) signal to noise.
    model : "similarity", "affine" (n >= 3 stars not on a line) or "auto".
    """
    noise2 = centroid_noise2(source_snr, target_snr)
    matrix, used, weights = fit_robustly(source, target, noise2, tf.fit_similarity)
    if model == "similarity" or used.sum() < (6 if model == "affine" else AFFINE_STARS):
        return matrix, used
    gain = min(AFFINE_GAIN, 1.0 - AFFINE_CHANCE / float(used.sum()))
    try:
        if model == "auto":  # a gain that is not even there with all stars in the fit needs no cross-validation
            linear = tf.fit_affine(source[used], target[used], weights[used])
            if misfit(linear, source[used], target[used], weights[used]) > gain * misfit(
                matrix, source[used], target[used], weights[used]
            ):
                return matrix, used
        richer, kept, _ = fit_robustly(source, target, noise2, tf.fit_affine)
        if model == "affine":
            return richer, kept
        plain = left_out(source[used], target[used], weights[used], tf.fit_similarity)
        affine = left_out(source[used], target[used], weights[used], tf.fit_affine)
    except ValueError:  # all on one line
        return matrix, used
    return (richer, kept) if affine < gain * plain else (matrix, used)


def centroid_noise2(source_snr: np.ndarray, target_snr: np.ndarray) -> np.ndarray:
    """(n,) px^2 by which noise parts the two centroids of a star, along each axis."""
    power = -2.0 * CENTROID_POWER
    return np.asarray(CENTROID_PX**2 * (np.maximum(source_snr, 1.0) ** power + np.maximum(target_snr, 1.0) ** power))


def median(values: np.ndarray) -> float:
    """What numpy's median gives for (n,) values, in a quarter of the time when they are few."""
    ordered = np.sort(values)
    n = len(ordered)
    if n == 0 or np.isnan(ordered[-1]):
        return np.nan
    return float(ordered[n // 2]) if n % 2 else float((ordered[n // 2 - 1] + ordered[n // 2]) / 2)


def fit_robustly(
    source: np.ndarray, target: np.ndarray, noise2: np.ndarray, fit: Fit, apply: Apply = tf.apply
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Iteratively reweighted fit: matrix (or what `fit` gives), mask of stars with weight, (n,) weights."""
    used = np.ones(len(source), dtype=bool)
    weights = 1.0 / (FLOOR_PX**2 + noise2)
    matrix = fit(source, target, weights)
    bright = noise2 <= median(noise2)
    explained2 = median(noise2[bright])
    for _ in range(6):
        residual2 = np.sum((apply(matrix, source) - target) ** 2, axis=1)
        # Scatter that photons do not explain: the median of a two-dimensional residual^2 is 1.386 sigma^2.
        floor2 = max(FLOOR_PX**2, median(residual2[bright]) / 1.386 - explained2)
        base = 1.0 / (floor2 + noise2)
        scaled = np.sqrt(residual2 * base)
        limit = 4.685 * max(1.0, median(scaled) / 1.177)
        tukey = np.clip(1 - (scaled / limit) ** 2, 0, None) ** 2
        keep = tukey > 0
        if keep.sum() < 3:
            break
        used, weights = keep, base * tukey
        before, matrix = matrix, fit(source[used], target[used], weights[used])
        if np.abs(apply(matrix, source[:32]) - apply(before, source[:32])).max() < 1e-4:
            break
    return matrix, used, weights


def misfit(matrix: np.ndarray, source: np.ndarray, target: np.ndarray, weights: np.ndarray) -> float:
    """Weighted rms residual."""
    return float(np.sqrt(weights @ np.sum((tf.apply(matrix, source) - target) ** 2, axis=1) / weights.sum()))


def left_out(source: np.ndarray, target: np.ndarray, weights: np.ndarray, fit: Fit, apply: Apply = tf.apply) -> float:
    """Weighted rms of stars that took no part in the fit."""
    fold = np.arange(len(source)) % FOLDS
    total = 0.0
    for k in range(FOLDS):
        out = fold == k
        matrix = fit(source[~out], target[~out], weights[~out])
        total += float(weights[out] @ np.sum((apply(matrix, source[out]) - target[out]) ** 2, axis=1))
    return float(np.sqrt(total / weights.sum()))
