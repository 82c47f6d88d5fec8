"""Why stacking works, shown on the user's own frames: the samples of one pixel, and what one outlier does to the mean.

Numbers only; the words around them are in `sections`. Clipping is by median and median absolute deviation (x 1.4826),
which one outlier cannot widen, then the mean of what is left.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from scipy.special import ndtri

from livestack.products.report.samples import Samples, block_noise

KAPPA = 3.0
OUTLIER_SIGMA = 6.0


@dataclass(frozen=True, eq=False)
class PixelStory:
    """One pixel's samples over the frames, ADU, in the order of the frames."""

    x: int
    y: int
    samples: np.ndarray
    mean: float
    median: float
    clipped: float
    sigma: float
    """Robust spread of one sample."""
    n_clipped: int
    culprit: int
    """The frame with the sample farthest out."""


@dataclass(frozen=True, eq=False)
class Lesson:
    """What the frames teach.

    Attributes
    ----------
    quiet : a pixel with nothing but noise; `theory` are the Gaussian's quantiles for its sorted samples, `normality_p`
        the Shapiro-Wilk probability of such a sample when the noise is Gaussian.
    hit : the pixel with the strongest single outlier; `hit_is_real` False when nothing crossed the piece and an outlier
        of 20 sigma was added on paper.
    noise : noise of half the frames combined by mean, median and clipped mean, relative to the mean.
    pooled : deviations of all samples of the piece from their pixel's median, ADU.
    """

    quiet: PixelStory
    theory: np.ndarray
    normality_p: float
    hit: PixelStory
    hit_is_real: bool
    noise: tuple[float, float, float]
    pooled: np.ndarray


def clipped_mean(samples: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean over axis 0 of the samples within 3 robust sigma of the median, and how many were left out."""
    centre = np.median(samples, axis=0)
    sigma = 1.4826 * np.median(np.abs(samples - centre), axis=0)
    kept = np.abs(samples - centre) <= KAPPA * np.maximum(sigma, 1e-9)
    count = kept.sum(axis=0)
    total = np.where(kept, samples, 0.0).sum(axis=0)
    return np.asarray(total / np.maximum(count, 1)), len(samples) - count


def learn(samples: Samples) -> Lesson:
    """Draw the lesson from at least three frames' samples."""
    covered = np.isfinite(samples.cube).all(axis=0)
    cube = np.where(covered, samples.cube, np.float32(0))
    centre = np.median(cube, axis=0)
    sigma = 1.4826 * np.median(np.abs(cube - centre), axis=0)
    typical = float(np.median(sigma[covered]))
    farthest = np.abs(cube - centre).max(axis=0) / np.maximum(sigma, typical)
    score = np.where(covered, np.abs(sigma / max(typical, 1e-9) - 1) + np.maximum(farthest - 3, 0), np.inf)
    # the sky, not a star: near the piece's median
    score += np.where(covered, np.abs(centre - np.median(centre[covered])) / max(typical, 1e-9), 0.0)
    qy, qx = np.unravel_index(int(np.argmin(score)), score.shape)
    quiet = _story(samples, int(qx), int(qy), cube[:, qy, qx])
    n = len(quiet.samples)
    theory = ndtri((np.arange(1, n + 1) - 0.5) / n)
    from scipy import stats  # a third of a second of start-up that a session owes to its report alone

    p = float(stats.shapiro(quiet.samples).pvalue) if n >= 3 and np.ptp(quiet.samples) > 0 else math.nan

    # a single frame sticking out while the second-farthest does not: satellite, aircraft, cosmic ray
    ordered = np.sort(cube - centre, axis=0)
    lone = np.where(covered, (ordered[-1] - 2.0 * np.maximum(ordered[-2], 0.0)) / np.maximum(sigma, typical), 0.0)
    hy, hx = np.unravel_index(int(np.argmax(lone)), lone.shape)
    real = bool(lone[hy, hx] > OUTLIER_SIGMA)
    if real:
        hit = _story(samples, int(hx), int(hy), cube[:, hy, hx])
    else:
        told = quiet.samples.copy()
        told[len(told) // 2] = quiet.median + 20.0 * quiet.sigma
        hit = _story(samples, int(qx), int(qy), told)

    noise = _method_noise(cube, covered)
    pooled = (cube - centre)[:, covered].ravel()[::7] * math.sqrt(n / max(n - 1, 1))
    return Lesson(quiet, theory, p, hit, real, noise, pooled)


def _method_noise(cube: np.ndarray, covered: np.ndarray) -> tuple[float, float, float]:
    """Noise of mean, median and clipped mean over that of the mean.

    Taken from the difference of two halves of the frames, in which everything that is really in the sky cancels.
    """
    noises = []
    for combine in (
        lambda half: half.mean(axis=0),
        lambda half: np.median(half, axis=0),
        lambda half: clipped_mean(half)[0],
    ):
        difference = np.where(covered, combine(cube[0::2]) - combine(cube[1::2]), np.nan)
        noises.append(block_noise(difference.astype(np.float32)))
    base = max(noises[0], 1e-12)
    return noises[0] / base, noises[1] / base, noises[2] / base


def _story(samples: Samples, x: int, y: int, values: np.ndarray) -> PixelStory:
    values = values.astype(np.float64)
    mean, left_out = clipped_mean(values[:, None])
    median = float(np.median(values))
    return PixelStory(
        samples.corner[0] + x, samples.corner[1] + y, values, float(values.mean()), median, float(mean[0]),
        float(1.4826 * np.median(np.abs(values - median))), int(left_out[0]), int(np.argmax(np.abs(values - median))),
    )  # fmt: skip
