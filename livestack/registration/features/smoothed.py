"""Frames too soft and too faint for a catalogue, registered by all of their light at once.

Out of focus or through haze, few stars stand out, not the same ones in each frame, and their positions wander by more
than a pixel. Averaged over the size of such an image, though, hundreds of them that no catalogue holds correlate. The
frame's smoothed details are correlated with those of the stack for all shifts at once; the height of the peak over the
scatter of the surface says whether it is believed, and that several parts of the field agree with it. What stays put
on the sensor correlates, too: rows and columns are levelled, hot pixels left out, and a shift that would leave the
sensor where it stood is never believed alone.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from scipy import fft

from livestack.registration import transform as tf
from livestack.registration.transform import Registration

PICTURE_PIXELS = 1.5e6
BLOCK_ROWS = 1024
"""So many rows of a stack are looked at at once."""
SIGMA_PX = 2.5
"""Of the smoothing, in pixels of the picture; what is eight times wider is sky."""
SKY = 8.0
HOT = 5.0
"""A pixel so many times the scatter away from the median of its neighbours is the sensor's, or a cosmic ray."""
LIMIT = 3.0
"""Details beyond so many times their scatter count no more than this: no single star is to decide."""
PEAK, ALONE = 10.0, 1.4
"""Height of a believed peak over the scatter of the surface, and over every other peak. Of unrelated frames the highest
is at 5 to 7.5."""
FARTHEST = 0.25
"""Believed shift, as a share of the field."""
HILL = 6.0
"""Half-size of a peak, in sigmas of the smoothing."""
STILL_PX = 2.5
TILES = 8
TILE_PEAK, TILE_REACH = 4.5, 6
LEAST_TILES, ENOUGH_TO_TURN = 2, 5
LEAST_SPREAD = 0.15
"""Of the parts that agree, as a share of the field, for a turn to be told from them."""
PLAIN_TURN = 2.0
"""What a turn leaves must be so many times less than without it; the parts are no better than half a pixel."""
MOST_TURN = 0.01
"""A believed turn and change of scale between neighbours, in rad and as a share; the hint has the rest."""
PLAIN = 0.005
NO_STARS = np.empty(0, dtype=int)


@dataclass(frozen=True, eq=False)
class Smoothed:
    """Details of a picture in units of their scatter, 0 where there are no data.

    Attributes
    ----------
    picture : (h, w) float32; `factor` pixels of the image along each side are one of it.
    """

    picture: np.ndarray
    factor: int


def smooth(image: np.ndarray) -> Smoothed:
    """The smoothed details of (H, W) float32, NaN = no data."""
    return smooth_rows(lambda rows: image[rows], image.shape)


def smooth_rows(read: Callable[[slice], np.ndarray], shape: tuple[int, int]) -> Smoothed:
    """The same of an image of (height, width) that is never held as a whole: `read` gives rows of it."""
    height, width = shape
    factor = max(1, math.ceil(math.sqrt(height * width / PICTURE_PIXELS)))
    size = width // factor, height // factor
    small, valid = np.empty(size[::-1], np.float32), np.empty(size[::-1], bool)
    step = max(1, BLOCK_ROWS // factor)
    for top in range(0, size[1], step):
        rows = slice(top, min(size[1], top + step))
        part = read(slice(rows.start * factor, rows.stop * factor))[:, : size[0] * factor]
        small[rows], valid[rows] = _reduced(part, (size[0], rows.stop - rows.start))
    small[~valid] = np.median(small[valid]) if valid.any() else 0.0
    for axis in (1, 0):
        small -= np.median(small, axis=axis, keepdims=True)
    detail = cv2.GaussianBlur(small, (0, 0), SIGMA_PX) - cv2.GaussianBlur(small, (0, 0), SKY * SIGMA_PX)
    inside = detail[valid]
    scatter = 1.4826 * float(np.median(np.abs(inside - np.median(inside)))) if len(inside) else 0.0
    if not scatter > 0:
        return Smoothed(np.zeros_like(detail), factor)
    detail = np.clip(detail / np.float32(scatter), -LIMIT, LIMIT)
    detail[~valid] = 0
    return Smoothed(detail, factor)


def _reduced(part: np.ndarray, size: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    """Rows averaged to (width, height), hot pixels left out; and where more than half of them are data."""
    bad = ~np.isfinite(part)
    whole = part.astype(np.float32)  # a copy
    whole[bad] = np.median(whole[~bad]) if not bad.all() else 0.0
    away = whole - cv2.medianBlur(whole, 3)
    hot = np.abs(away) > HOT * 1.4826 * float(np.median(np.abs(away)))
    whole[hot] -= away[hot]
    share = cv2.resize((~bad).astype(np.float32), size, interpolation=cv2.INTER_AREA)
    return cv2.resize(whole, size, interpolation=cv2.INTER_AREA), share > 0.5


def register_smoothed(
    reference: Smoothed, frame: Smoothed, hint: np.ndarray | None, still: Sequence[np.ndarray]
) -> Registration | None:
    """Carry a frame onto a stack.

    Parameters
    ----------
    hint : (3, 3) frame -> stack, where it is expected; its rotation and scale are taken over, its shift is not.
    still : (3, 3) each, frame -> stack as it would be had the sensor not moved since a frame in the stack.

    Returns
    -------
    Registration of the method "correlation"; None where nothing is believed.
    """
    if frame.factor != reference.factor or not reference.picture.any() or not frame.picture.any():
        return None
    factor = reference.factor
    height, width = reference.picture.shape
    base = np.eye(3) if hint is None or _is_plain(hint) else _scaled(hint, 1 / factor)
    middle = np.array([(frame.picture.shape[1] - 1) / 2, (frame.picture.shape[0] - 1) / 2])
    turned = base.copy()
    turned[:2, 2] = (np.array([(width - 1) / 2, (height - 1) / 2])) - turned[:2, :2] @ middle
    moved = cv2.warpAffine(frame.picture, turned[:2], (width, height), flags=cv2.INTER_LINEAR)
    fixed = [tf.apply(_scaled(one, 1 / factor), middle[None])[0] - tf.apply(turned, middle[None])[0] for one in still]
    shift = _find_peak(reference.picture, moved, fixed)
    if shift is None:
        return None
    matrix = turned.copy()
    matrix[:2, 2] += shift
    refined = _refine(reference.picture, frame.picture, matrix)
    if refined is None:
        return None
    return Registration(_scaled(refined, factor), "correlation", NO_STARS, NO_STARS, math.nan)


def _is_plain(hint: np.ndarray) -> bool:
    """Whether a turn and a change of scale are less than the stars of soft frames can tell."""
    return bool(np.abs(hint[:2, :2] - np.eye(2)).max() < PLAIN)


def _find_peak(ours: np.ndarray, theirs: np.ndarray, fixed: Sequence[np.ndarray]) -> np.ndarray | None:
    """(dx, dy) that moves `theirs` onto `ours`, believed; where the sensor stood still, only beside nothing else."""
    height, width = ours.shape
    shape = tuple(fft.next_fast_len(round(n * (1 + FARTHEST)), real=True) for n in (height, width))
    spectrum = fft.rfft2(ours, shape) * np.conj(fft.rfft2(theirs, shape))
    surface = np.asarray(fft.irfft2(spectrum, shape))
    reach_y, reach_x = int(FARTHEST * height), int(FARTHEST * width)
    surface = np.roll(surface, (reach_y, reach_x), axis=(0, 1))[: 2 * reach_y + 1, : 2 * reach_x + 1]
    surface -= np.median(surface)
    scatter = 1.4826 * float(np.median(np.abs(surface)))
    if not scatter > 0:
        return None
    hill = round(HILL * SIGMA_PX)
    peaks: list[tuple[float, np.ndarray]] = []
    for _ in range(len(fixed) + 2):
        j, i = divmod(int(np.argmax(surface)), surface.shape[1])
        at = np.array([i + _vertex(surface[j], i) - reach_x, j + _vertex(surface[:, i], j) - reach_y])
        peaks.append((float(surface[j, i]) / scatter, at))
        surface[max(0, j - hill) : j + hill + 1, max(0, i - hill) : i + hill + 1] = -np.inf
    free = [
        (height_, at) for height_, at in peaks if all(np.hypot(*(at - where)) > STILL_PX for where in fixed)
    ]  # fmt: skip
    if len(free) < 2 or free[0][0] < PEAK or free[0][0] < ALONE * free[1][0]:
        return None
    return free[0][1]


def _refine(ours: np.ndarray, theirs: np.ndarray, matrix: np.ndarray) -> np.ndarray | None:
    """The transform that the parts of the field agree on; None where too few of them see anything."""
    height, width = ours.shape
    moved = cv2.warpAffine(theirs, matrix[:2], (width, height), flags=cv2.INTER_LINEAR)
    places, offsets = [], []
    for row in range(TILES):
        for column in range(TILES):
            y0, y1 = row * height // TILES, (row + 1) * height // TILES
            x0, x1 = column * width // TILES, (column + 1) * width // TILES
            inner = moved[y0 + TILE_REACH : y1 - TILE_REACH, x0 + TILE_REACH : x1 - TILE_REACH]
            if min(inner.shape, default=0) < 4 * TILE_REACH or not inner.any():
                continue
            scores = cv2.matchTemplate(np.ascontiguousarray(ours[y0:y1, x0:x1]), inner, cv2.TM_CCORR)
            j, i = divmod(int(np.argmax(scores)), scores.shape[1])
            scatter = float(np.sqrt(np.sum(inner.astype(float) ** 2) * np.mean(ours[y0:y1, x0:x1].astype(float) ** 2)))
            scatter *= math.sqrt(2 * math.pi) * SIGMA_PX  # neighbours are alike over the size of the smoothing
            edge = {0, scores.shape[0] - 1} & {j} or {0, scores.shape[1] - 1} & {i}
            if edge or float(scores[j, i]) < TILE_PEAK * scatter:
                continue
            places.append([(x0 + x1 - 1) / 2, (y0 + y1 - 1) / 2])
            offsets.append([i + _vertex(scores[j], i) - TILE_REACH, j + _vertex(scores[:, i], j) - TILE_REACH])
    if len(places) < LEAST_TILES:
        return None
    here, off = np.array(places), np.array(offsets)
    spread = float(np.hypot(*here.std(axis=0))) if len(here) else 0.0
    if len(places) >= ENOUGH_TO_TURN and spread > LEAST_SPREAD * math.hypot(width, height):
        correction = tf.fit_similarity(here, here + off)
        turn = math.hypot(correction[0, 0] - 1, correction[1, 0])
        left = float(np.median(np.hypot(*(tf.apply(correction, here) - here - off).T)))
        without = float(np.median(np.hypot(*(off - np.median(off, axis=0)).T)))
        if turn < MOST_TURN and left < 1.5 and without > PLAIN_TURN * max(left, 0.5):
            return np.asarray(correction @ matrix)
    shifted = matrix.copy()
    shifted[:2, 2] += np.median(off, axis=0)
    return shifted


def _vertex(line: np.ndarray, at: int) -> float:
    """Offset of the parabola through three samples around a maximum."""
    if not 0 < at < len(line) - 1:
        return 0.0
    left, middle, right = (float(v) for v in line[at - 1 : at + 2])
    curvature = left - 2 * middle + right
    return 0.5 * (left - right) / curvature if curvature < 0 else 0.0


def _scaled(matrix: np.ndarray, scale: float) -> np.ndarray:
    """The same transform between pictures `scale` times as large; pixel centres at integers in both."""
    move = np.array([[scale, 0, (scale - 1) / 2], [0, scale, (scale - 1) / 2], [0, 0, 1.0]])
    return np.asarray(move @ matrix @ np.linalg.inv(move))
