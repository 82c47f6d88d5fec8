"""Keypoints: ORB, FLANN and a partial affine by RANSAC; and the refinement by tracked windows.

After the recipe of the OpenCV tutorials: ORB (Rublee et al. 2011, doi:10.1109/ICCV.2011.6126544), locality-sensitive
hashing for the match, four degrees of freedom. Where contrast is too low for keypoints, an adaptive threshold and a
slight erosion give the picture edges that ORB can hold on to. RANSAC and hashing are seeded.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from livestack.registration import transform as tf

KEYPOINTS = 1500
SEED = 20250514
LOWE_RATIO = 0.8
RANSAC_PX = 3.0
ENOUGH_KEYPOINTS = 60
TRACK_POINTS = 400
TRACK_WINDOW_PX = 31


@dataclass(frozen=True, eq=False)
class Keypoints:
    """Positions (n, 2) float64 and ORB descriptors (n, 32) uint8 of one picture."""

    xy: np.ndarray
    descriptors: np.ndarray


def thresholded(picture: np.ndarray) -> np.ndarray:
    """Adaptive threshold and slight erosion of a uint8 picture: edges where contrast is too low for ORB."""
    block = max(11, (max(picture.shape) // 40) | 1)
    smooth = cv2.GaussianBlur(picture, (0, 0), 2.0)
    edges = cv2.adaptiveThreshold(smooth, 255, cv2.ADAPTIVE_THRESH_GAUSSIAN_C, cv2.THRESH_BINARY, block, -2)
    return np.asarray(cv2.GaussianBlur(cv2.erode(edges, np.ones((3, 3), np.uint8)), (0, 0), 1.0))


def find_keypoints(picture: np.ndarray) -> Keypoints:
    """ORB keypoints of a uint8 picture, spread over the field."""
    orb = cv2.ORB.create(nfeatures=KEYPOINTS, fastThreshold=8)
    points, descriptors = orb.detectAndCompute(picture, None)
    if not points:
        return Keypoints(np.empty((0, 2)), np.empty((0, 32), np.uint8))
    return Keypoints(np.array([p.pt for p in points], dtype=float), descriptors)


def match_keypoints(frame: Keypoints, reference: Keypoints) -> tuple[np.ndarray, int] | None:
    """(3, 3) similarity frame -> reference and its number of inliers; None when too few agree."""
    if min(len(frame.xy), len(reference.xy)) < 8:
        return None
    cv2.setRNGSeed(SEED)
    lsh = {"algorithm": 6, "table_number": 6, "key_size": 12, "multi_probe_level": 1}
    pairs = cv2.FlannBasedMatcher(lsh, {"checks": 50}).knnMatch(frame.descriptors, reference.descriptors, k=2)
    good = [p[0] for p in pairs if len(p) == 2 and p[0].distance < LOWE_RATIO * p[1].distance]
    if len(good) < 6:
        return None
    source = frame.xy[[m.queryIdx for m in good]]
    target = reference.xy[[m.trainIdx for m in good]]
    cv2.setRNGSeed(SEED)
    partial, inliers = cv2.estimateAffinePartial2D(
        source, target, method=cv2.RANSAC, ransacReprojThreshold=RANSAC_PX, maxIters=3000, confidence=0.999
    )
    if partial is None:
        return None
    return np.vstack([partial, [0.0, 0.0, 1.0]]), int(inliers.sum())


def track_points(picture: np.ndarray) -> np.ndarray:
    """(n, 1, 2) float32 well-textured points of a picture, spread over it, for `refine`."""
    spacing = max(8.0, 0.7 * float(np.sqrt(picture.size / TRACK_POINTS)))
    points = None
    for quality in (0.2, 0.06):  # the strongest first; weaker ones, which noise may have made, where there are few
        points = cv2.goodFeaturesToTrack(picture, TRACK_POINTS, quality, spacing, blockSize=7)
        if points is not None and len(points) >= TRACK_POINTS // 2:
            break
    return np.empty((0, 1, 2), np.float32) if points is None else points


@dataclass(frozen=True)
class Refined:
    """Transform after tracking: matrix frame -> reference, residual, points that agree and points that were tried."""

    matrix: np.ndarray
    rms_px: float
    inliers: int
    tried: int


def refine(reference: np.ndarray, points: np.ndarray, frame: np.ndarray, matrix: np.ndarray) -> Refined | None:
    """Sub-pixel similarity from windows tracked between the reference and the frame warped onto it.

    Lucas-Kanade (Bouguet's pyramid) from the reference's points; two rounds, so that the last displacement is near
    zero, where the method has no bias. None when too few windows could be followed.

    Parameters
    ----------
    reference, frame : (h, w) uint8 pictures; points : from `track_points(reference)`; matrix : frame -> reference.
    """
    height, width = reference.shape
    found: Refined | None = None
    for levels in (2, 0):
        warped = cv2.warpAffine(frame, matrix[:2], (width, height), flags=cv2.INTER_LINEAR)
        inside = tf.apply(np.linalg.inv(matrix), points[:, 0].astype(float))
        margin = TRACK_WINDOW_PX // 2
        ok = (inside >= margin).all(axis=1)
        ok &= (inside[:, 0] < frame.shape[1] - margin) & (inside[:, 1] < frame.shape[0] - margin)
        start = points[ok]
        if len(start) < 8:
            return None
        moved, status, _ = cv2.calcOpticalFlowPyrLK(
            reference, warped, start, None, winSize=(TRACK_WINDOW_PX, TRACK_WINDOW_PX), maxLevel=levels,
            criteria=(cv2.TERM_CRITERIA_EPS | cv2.TERM_CRITERIA_COUNT, 40, 0.003),
        )  # fmt: skip
        tracked = status[:, 0] > 0
        source, target = moved[tracked, 0].astype(float), start[tracked, 0].astype(float)
        step, used = _robust(source, target)
        if step is None or used.sum() < 8:
            return None
        matrix = step @ matrix
        residual = tf.apply(step, source[used]) - target[used]
        found = Refined(matrix, float(np.sqrt(np.mean(np.sum(residual**2, axis=1)))), int(used.sum()), len(start))
    return found


def _robust(source: np.ndarray, target: np.ndarray) -> tuple[np.ndarray | None, np.ndarray]:
    """Similarity by iterated trimming at three robust sigmas, begun at the median shift; mask of survivors."""
    used = np.ones(len(source), dtype=bool)
    if len(source) < 8:
        return None, used
    matrix = np.eye(3)
    matrix[:2, 2] = np.median(target - source, axis=0)
    for _ in range(6):
        residual = np.hypot(*(tf.apply(matrix, source) - target).T)
        limit = min(12.0, max(0.3, 3.0 * float(np.median(residual))))
        used = residual < limit
        if used.sum() < 8:
            return None, used
        matrix = tf.fit_similarity(source[used], target[used])
    return matrix, used
