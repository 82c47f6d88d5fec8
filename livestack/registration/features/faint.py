"""Whether two frames with hardly a star agree on what lies below the limit of detection: faint stars, wisps of nebula.

A proposed transform carries one onto the other, the detected stars cut out. Two witnesses are heard. Wisps: the details
are correlated for all shifts at once; what both show makes the highest peak where the proposal is. Faint stars: bumps
too low for a catalogue are mostly noise, but noise does not come twice at one place; how many do by chance is counted
(Poisson). What stands still with the sensor would bear out that nothing moved, and is no witness there.
"""

from __future__ import annotations

import math

import cv2
import numpy as np
from scipy import fft
from scipy.spatial import cKDTree

from livestack.registration.features.prepare import HIGH_PASS_SHARE, Prepared

STAR_RADIUS = 5 * HIGH_PASS_SHARE
"""What is cut out around a detected star, share of the longest side: a bright one leaves a bowl in the high pass."""
LIMIT = 4.0
"""Details beyond so many times their scatter count no more than this: no single thing is to decide."""
BLUR_PX = 1.2
NEAR_PX = 2
"""Stars fix the proposal to a fraction of a pixel; the pictures may be smaller than the frames."""
STILL_PX = 4.0
PEAK = 5.5
"""Height of a believed peak over the scatter of the surface."""
ALONE = 0.75
"""Share of the highest peak that it must have: wisps are wide, and the top of their peak wanders."""
COARSE = 4
"""So many pixels along each side are averaged where wisps are sought."""
BUMP, BUMPS = 3.0, 400
"""Height of a bump over the scatter, and how many of the highest are looked at."""
CHANCE = 1e-4
MIN_SHARED = 0.2


def agree(reference: Prepared, frame: Prepared, matrix: np.ndarray, known: np.ndarray, seen: np.ndarray) -> bool:
    """True when what is too faint for a catalogue bears the transform out.

    Parameters
    ----------
    matrix : (3, 3) frame -> reference, between the pictures.
    known, seen : (n, 2), (m, 2) detected stars in the pictures of the reference and of the frame.
    """
    size = reference.detail.shape[::-1]
    middle = np.array([(size[0] - 1) / 2, (size[1] - 1) / 2, 1.0])
    still = middle[:2] - matrix[:2] @ middle  # the shift from the proposal to a sensor that has not moved
    if np.hypot(*still) < STILL_PX:
        return False
    ours, valid = _details(reference, known)
    theirs, shown = _details(frame, seen)
    moved = cv2.warpAffine(theirs, matrix[:2], size, flags=cv2.INTER_LINEAR)
    both = cv2.warpAffine(shown.astype(np.uint8), matrix[:2], size, flags=cv2.INTER_NEAREST).astype(bool) & valid
    if both.sum() < MIN_SHARED * both.size:
        return False
    return _bumps_agree(ours, moved, both) or _wisps_agree(ours, moved, both, still)


def _details(picture: Prepared, stars: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(h, w) float32 limited details, and where they may be asked: no star, no hot pixel, data."""
    good = (picture.valid & ~picture.hot).astype(np.uint8)
    radius = max(4, round(STAR_RADIUS * max(good.shape)))
    for x, y in np.rint(stars).astype(int).tolist():
        cv2.circle(good, (x, y), radius, 0, -1)
    detail = cv2.GaussianBlur(np.clip(picture.detail, -LIMIT, LIMIT), (0, 0), BLUR_PX)
    # a bright star's bowl pulls at the medians of its rows and columns, which the high pass took away
    for axis in (1, 0):
        number = np.maximum(good.sum(axis=axis, keepdims=True, dtype=np.float32), np.float32(1))
        detail -= (detail * good).sum(axis=axis, keepdims=True) / number
    return detail, good > 0


def _bumps_agree(ours: np.ndarray, theirs: np.ndarray, both: np.ndarray) -> bool:
    mine, its = _bumps(ours, both), _bumps(theirs, both)
    if min(len(mine), len(its)) < 2:
        return False
    hits = int(np.isfinite(cKDTree(mine).query(its, distance_upper_bound=NEAR_PX)[0]).sum())
    expected = len(mine) * len(its) * math.pi * NEAR_PX**2 / float(both.sum())
    return hits >= 2 and _poisson_tail(hits, expected) < CHANCE


def _bumps(detail: np.ndarray, both: np.ndarray) -> np.ndarray:
    """(n, 2) local maxima that stand out, the highest ones."""
    inside = detail[both]
    middle = float(np.median(inside))
    level = middle + BUMP * 1.4826 * float(np.median(np.abs(inside - middle)))
    top = (detail >= cv2.dilate(detail, np.ones((5, 5), np.uint8))) & (detail > level) & both
    y, x = np.nonzero(top)
    order = np.argsort(-detail[y, x], kind="stable")[:BUMPS]
    return np.column_stack([x, y])[order].astype(float)


def _poisson_tail(hits: int, expected: float) -> float:
    """Chance of `hits` or more where `expected` are expected."""
    return 1.0 - sum(
        math.exp(-expected + k * math.log(max(expected, 1e-300)) - math.lgamma(k + 1)) for k in range(hits)
    )


def _wisps_agree(ours: np.ndarray, theirs: np.ndarray, both: np.ndarray, still: np.ndarray) -> bool:
    """Wisps are wide: noise is averaged away below their size."""
    size = (ours.shape[1] // COARSE, ours.shape[0] // COARSE)
    share = cv2.resize(both.astype(np.float32), size, interpolation=cv2.INTER_AREA)
    parts = []
    for part in (ours, theirs):
        level = np.where(both, part - part[both].mean(), np.float32(0))
        coarse = cv2.resize(level, size, interpolation=cv2.INTER_AREA) / np.maximum(share, np.float32(0.5))
        parts.append(cv2.GaussianBlur(coarse, (0, 0), 1.0))
    spectrum = fft.rfft2(parts[0]) * np.conj(fft.rfft2(parts[1]))
    surface = np.asarray(fft.fftshift(fft.irfft2(spectrum, size[::-1])))  # the middle is no shift at all
    off_y = np.arange(size[1])[:, None] - size[1] // 2
    off_x = np.arange(size[0])[None, :] - size[0] // 2
    # stripes of the sensor make a cross where it stood still
    fixed = (np.abs(off_y - still[1] / COARSE) <= 2) | (np.abs(off_x - still[0] / COARSE) <= 2)
    here = (np.abs(off_y) <= 1) & (np.abs(off_x) <= 1)
    if fixed[here].any():
        return False
    peak = float(surface[here].max())
    scatter = 1.4826 * float(np.median(np.abs(surface)))
    return peak > PEAK * scatter and peak > ALONE * float(surface[~fixed].max())
