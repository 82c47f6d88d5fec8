"""Stars that were not there when the night began: a nova, a supernova, a star that flares up and stays.

The mean of the night is compared with that of its first frames, where those show the sky alone. What stands out must be
as wide as a star, must have come at one time, must be in most frames after it and in none before, and must stay where
it is in the sky, not on the sensor.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import cv2
import numpy as np

from livestack.movers.reduced import EVEN_PX, ReducedNight

LEAST_SIGMA = 6.0
"""Of what the mean of the night gained, in units of the scatter of all such differences."""
LEAST_AFTER, LEAST_BEFORE = 5, 3
"""Frames that must show it, and that must not."""
LEAST_SNR = 3.0
"""In a single frame; what is fainter can hardly be told from seeing."""
LEAST_SHARE = 0.8
"""Of the frames after it came show it."""
NARROWEST = 0.6
"""Its neighbours' light is so much of what a star's would be, at least: less is a pixel of the sensor."""
MOST_NEWCOMERS = 200
MOST_WIDE_FWHM = 8.0
"""What is larger is no star: a cloud, a reflection."""


@dataclass(frozen=True)
class Newcomer:
    """A star that came.

    Attributes
    ----------
    x, y : reduced pixels; first : number of the first frame that shows it; n_seen : frames that do.
    snr : median of the frames since it came.
    """

    x: float
    y: float
    first: int
    n_seen: int
    snr: float


def find_newcomers(night: ReducedNight, maps: np.ndarray, gains: np.ndarray) -> list[Newcomer]:
    """All stars that came while the night was watched.

    Parameters
    ----------
    maps : (N, H, W) int8, residuals as they were when each frame came, filtered, sixteenths of sigma.
    gains : (N,) share of each that the mean took.
    """
    number = len(maps)
    if number < LEAST_AFTER + LEAST_BEFORE or night.first.shape != night.mean.shape:
        return []
    seen = cv2.erode(night.usual_known.astype(np.uint8), np.ones((EVEN_PX, EVEN_PX), dtype=np.uint8)) > 0
    gained = np.where(night.usual_known, night.mean - night.first, np.float32(0.0))
    smooth = cv2.sepFilter2D(gained, cv2.CV_32F, night.taps, night.taps)
    smooth -= cv2.blur(smooth, (EVEN_PX, EVEN_PX))
    smooth[night.first_lights(seen) | ~seen] = 0.0
    known = smooth[::3, ::3]
    scatter = 1.4826 * float(np.median(np.abs(known[known != 0]))) if (known != 0).sum() > 50 else math.inf
    if not math.isfinite(scatter) or scatter <= 0:
        return []
    # what is bright is not pulled into the mean at once: its middle is flat, and its place that of all of its light
    bright = (smooth > LEAST_SIGMA * scatter).astype(np.uint8)
    number, _, boxes, middles = cv2.connectedComponentsWithStats(bright)
    small = boxes[:, cv2.CC_STAT_AREA] < (MOST_WIDE_FWHM * night.fwhm_px / night.grid.bin) ** 2
    places = [middles[k] for k in range(1, number) if small[k]][:MOST_NEWCOMERS]
    found = [_judge(float(x), float(y), smooth, maps, gains, night) for x, y in places]
    return [one for one in found if one is not None]


def _judge(
    x: float, y: float, smooth: np.ndarray, maps: np.ndarray, gains: np.ndarray, night: ReducedNight
) -> Newcomer | None:
    """A place at which a star came at one time and stayed."""
    i, j = round(x), round(y)
    beside = float(np.mean([smooth[j, i - 1], smooth[j, i + 1], smooth[j - 1, i], smooth[j + 1, i]])) / smooth[j, i]
    star = math.exp(-0.25 / night.grid.psf_sigma(night.fwhm_px) ** 2)
    if beside < NARROWEST * star:
        return None
    shown = maps[:, j, i].astype(float) / 16.0
    seen = shown != 0
    if seen.sum() < LEAST_AFTER + LEAST_BEFORE:
        return None
    # against the mean of the night's end, to which nothing is added any more
    later = np.cumsum((gains * shown)[::-1])[::-1]
    against_end = shown - later
    best, first = 0.0, 0
    indices = np.flatnonzero(seen)
    for k in range(LEAST_BEFORE, len(indices) - LEAST_AFTER + 1):
        before, after = against_end[indices[:k]], against_end[indices[k:]]
        step = (after.mean() - before.mean()) * math.sqrt(k * (len(indices) - k) / len(indices))
        if step > best:
            best, first = float(step), k
    if not first:
        return None
    before, after = against_end[indices[:first]], against_end[indices[first:]]
    height = float(np.median(after) - np.median(before))
    there, not_yet = after - np.median(before) > 0.5 * height, before - np.median(before) < 0.5 * height
    if height < LEAST_SNR or there.mean() < LEAST_SHARE or not_yet.mean() < LEAST_SHARE:
        return None
    return Newcomer(x, y, int(indices[first]), int(there.sum()), height)
