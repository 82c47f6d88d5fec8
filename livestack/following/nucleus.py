"""The place of a nucleus in a frame: the windowed centroid of what is brightest near where it is expected.

Windowed as SExtractor's XWIN (Bertin & Arnouts 1996, doi:10.1051/aas:1996164): a Gaussian of the stars' width weighs
the pixels and moves with the centroid, so that coma and neighbours count little.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import cv2
import numpy as np

STEPS = 25
STILL_PX = 1e-3
LEAST_SNR = 4.0
CLEAR = 0.8
"""Share of the window that must be known: a star that was left out beside it would draw the centroid away."""
FAR_SIGMAS = 2.5
"""A centroid may end so many window widths from where it began."""


@dataclass(frozen=True)
class Nucleus:
    """Where it is, in pixels of the patch; how far it stands above the noise; and its height, ADU."""

    x: float
    y: float
    snr: float
    height: float


def find_nucleus(
    patch: np.ndarray, x: float, y: float, reach_px: float, fwhm_px: float, height: float | None = None
) -> Nucleus | None:
    """The nucleus in a patch (h, w), NaN where nothing is known; None where nothing stands out.

    Parameters
    ----------
    x, y : where it is expected; reach_px : and how far from there it may be.
    fwhm_px : of stars.
    height : that it had before: what is nearest to that, and to the place, is taken.
    """
    sigma = max(fwhm_px, 1.5) / 2.3548
    known = np.isfinite(patch)
    if known.mean() < 0.5:
        return None
    filled = np.where(known, patch, np.median(patch[known])).astype(np.float32)
    share = cv2.GaussianBlur(known.astype(np.float32), (0, 0), sigma)
    smooth = np.where(
        share > 0.3, cv2.GaussianBlur(filled * known, (0, 0), sigma) / np.maximum(share, 0.3), np.median(patch[known])
    ).astype(np.float32)
    rough = filled - smooth
    noise = 1.4826 * float(np.median(np.abs(rough - np.median(rough)))) / (2 * math.sqrt(math.pi) * sigma)
    wide = cv2.GaussianBlur(filled, (0, 0), 4 * sigma)
    contrast = smooth - wide
    peaks = (contrast == cv2.dilate(contrast, np.ones((3, 3), np.uint8))) & known
    yy, xx = np.nonzero(peaks)
    away = np.hypot(xx - x, yy - y)
    near = away <= reach_px
    tall = contrast[yy, xx] > LEAST_SNR * max(noise, 1e-9)
    yy, xx, away = yy[near & tall], xx[near & tall], away[near & tall]
    if not len(xx):
        return None
    tallness = contrast[yy, xx]
    if height is None:
        score = -tallness / (1 + (away / max(reach_px, 1e-9)) ** 2)
    else:
        score = np.abs(np.log(tallness / height)) + away / max(reach_px, 1e-9)
    best = int(np.argmin(score))
    found = _centroid(filled - wide.min(), float(xx[best]), float(yy[best]), sigma)
    if found is None or share[min(round(found[1]), len(share) - 1), min(round(found[0]), share.shape[1] - 1)] < CLEAR:
        return None
    return Nucleus(*found, float(tallness[best] / max(noise, 1e-9)), float(tallness[best]))


def _centroid(image: np.ndarray, x: float, y: float, sigma: float) -> tuple[float, float] | None:
    height, width = image.shape
    half = math.ceil(3.5 * sigma)
    x0, y0 = x, y
    for _ in range(STEPS):
        left, top = round(x) - half, round(y) - half
        if left < 0 or top < 0 or left + 2 * half >= width or top + 2 * half >= height:
            return None
        part = image[top : top + 2 * half + 1, left : left + 2 * half + 1]
        border = np.concatenate([part[0], part[-1], part[:, 0], part[:, -1]])
        dx = np.arange(left, left + 2 * half + 1) - x
        dy = np.arange(top, top + 2 * half + 1)[:, None] - y
        weight = np.exp(-0.5 * (dx**2 + dy**2) / sigma**2) * (part - np.median(border))
        total = float(weight.sum())
        if total <= 0:
            return None
        step_x, step_y = 2 * float((weight * dx).sum()) / total, 2 * float((weight * dy).sum()) / total
        x, y = x + step_x, y + step_y
        if math.hypot(x - x0, y - y0) > FAR_SIGMAS * sigma + 1:
            return None
        if math.hypot(step_x, step_y) < STILL_PX:
            break
    return x, y
