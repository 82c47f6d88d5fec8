"""The cascade without stars: a disc's limb, hint, keypoints, thresholded keypoints, phase correlation."""

from __future__ import annotations

import math

import cv2
import numpy as np

from livestack.registration.features.correlation import find_shift
from livestack.registration.features.disc import find_disc
from livestack.registration.features.faint import agree
from livestack.registration.features.keypoints import find_keypoints, match_keypoints, refine, thresholded, track_points
from livestack.registration.features.prepare import Prepared, prepare
from livestack.registration.transform import Registration, Unregistered

MIN_AGREEMENT = 0.2
"""Correlation of the details over the overlap below which two pictures are not of one scene."""
MIN_INLIERS = 14
MAX_RMS_PX = 4.0
"""Scatter of the tracked windows: turbulence moves them by 1 to 2 px, other scenes by 6 to 16."""
DISC_SCALE = 0.06
"""Largest believed ln of the ratio of two discs' sizes: seeing changes a planet's by some percent."""
NO_POINTS = np.empty(0, dtype=int)


class FeatureReference:
    """The reference's picture, its keypoints and points to track, computed once.

    Parameters
    ----------
    image : (H, W) float32 luminance of the reference, NaN = no data; not a mosaic.
    max_scale_change : largest believed difference of scale.
    """

    def __init__(self, image: np.ndarray, max_scale_change: float = 0.12) -> None:
        self.height, self.width = image.shape
        self.max_scale_change = max_scale_change
        self.disc = find_disc(image)
        self._prepared = prepare(image)
        self._texture = _texture(self._prepared)
        self._points = track_points(self._texture)
        self._keypoints = find_keypoints(self._prepared.picture)
        self._edges = find_keypoints(thresholded(self._prepared.picture))

    def register(
        self, image: np.ndarray, hint: np.ndarray | None = None, methods: tuple[str, ...] = ("features", "phase")
    ) -> Registration | Unregistered:
        """Carry a frame onto the reference by what is to be seen in it.

        Parameters
        ----------
        image : (H, W) float32 luminance, NaN = no data, of the reference's scale; sizes may differ.
        hint : (3, 3) transform that may hold still, frame -> reference.
        methods : which ways to try.

        Returns
        -------
        Registration
            Method "features" or "phase"; `rms_px` is that of the tracked windows, `n_points` how many agreed.
        """
        frame = prepare(image)
        if frame.scale != self._prepared.scale:
            return Unregistered(
                f"the frame is {image.shape[1]} x {image.shape[0]}, the reference {self.width} x {self.height}"
            )
        if not frame.picture.any() or len(self._points) < 8:
            return Unregistered("there is no structure to hold on to")
        texture = _texture(frame)
        tried: list[tuple[str, np.ndarray]] = []
        if hint is not None:
            tried.append((next(iter(methods), "features"), _scaled(hint, frame.scale)))
        best = self._verified(frame, texture, tried)
        if best is not None:
            return best
        if "features" in methods:
            for picture, known in (
                (lambda: frame.picture, self._keypoints),
                (lambda: thresholded(frame.picture), self._edges),
            ):
                match = match_keypoints(find_keypoints(picture()), known)
                if match is not None and match[1] >= MIN_INLIERS:
                    found = self._verified(frame, texture, [("features", match[0])])
                    if found is not None:
                        return found
        if "phase" in methods:
            found = self._by_phase(frame, texture, hint)
            if found is not None:
                return found
        return Unregistered("nothing in it could be recognised in the reference")

    def register_disc(self, image: np.ndarray) -> Registration | None:
        """Carry a frame onto the reference by the limb of the one disc that both show; shifts only.

        Parameters
        ----------
        image : as for `register`.

        Returns
        -------
        Registration
            Method "disc"; `rms_px` is the limb's scatter. None when either shows no disc, or another one.
        """
        mine = find_disc(image, self.disc.radius_px) if self.disc is not None else None
        if mine is None or self.disc is None:
            return None
        if abs(math.log(mine.radius_px / self.disc.radius_px)) > DISC_SCALE:
            return None
        matrix = np.eye(3)
        matrix[:2, 2] = self.disc.x - mine.x, self.disc.y - mine.y
        factor = self.disc.brightness / mine.brightness
        return Registration(matrix, "disc", NO_POINTS, NO_POINTS, mine.rms_px, factor=factor)

    def agrees(self, image: np.ndarray, matrix: np.ndarray, known: np.ndarray, seen: np.ndarray) -> bool:
        """Whether what is too faint to be a star bears out a transform that a star or two propose.

        Parameters
        ----------
        image : as for `register`; matrix : (3, 3) frame -> reference.
        known, seen : (n, 2) stars of the reference, (m, 2) of the frame, px.
        """
        frame, ours = prepare(image), self._prepared
        if frame.scale != ours.scale:
            return False
        here, there = (stars * ours.scale + (ours.scale - 1) / 2 for stars in (known, seen))
        return agree(ours, frame, _scaled(matrix, ours.scale), here, there)

    def _by_phase(self, frame: Prepared, texture: np.ndarray, hint: np.ndarray | None) -> Registration | None:
        """Shift by masked correlation, under no rotation or the hint's."""
        base = np.eye(3) if hint is None else _scaled(hint, frame.scale)
        turned = base.copy()
        detail, valid, hot = frame.detail, frame.valid, frame.hot
        if hint is not None:
            middle = np.array([(detail.shape[1] - 1) / 2, (detail.shape[0] - 1) / 2])
            turned[:2, 2] = middle - turned[:2, :2] @ middle
            size = detail.shape[::-1]
            detail = cv2.warpAffine(detail, turned[:2], size, flags=cv2.INTER_LINEAR)
            valid = cv2.warpAffine(valid.astype(np.uint8), turned[:2], size, flags=cv2.INTER_NEAREST) > 0
        ours = self._prepared
        both = np.zeros(detail.shape, dtype=bool)
        if ours.hot.shape == hot.shape:  # hot in both at the same place of the sensor: the sensor's, not the sky's
            both = cv2.dilate((ours.hot & hot).astype(np.uint8), np.ones((3, 3), np.uint8)) > 0
        shift = find_shift(ours.detail, ~ours.valid | both, detail, ~valid | both)
        if shift is None or not shift.believed:
            return None
        matrix = turned.copy()
        matrix[:2, 2] += (shift.dx, shift.dy)
        return self._verified(frame, texture, [("phase", matrix)])

    def _verified(
        self, frame: Prepared, texture: np.ndarray, tried: list[tuple[str, np.ndarray]]
    ) -> Registration | None:
        """Refine by tracking and believe it when enough windows agree and the details correlate."""
        for method, matrix in tried:
            scale = math.sqrt(abs(float(np.linalg.det(matrix[:2, :2]))))
            if abs(math.log(max(scale, 1e-6))) > math.log1p(self.max_scale_change):
                continue
            refined = refine(self._texture, self._points, texture, matrix)
            if refined is None or refined.inliers < max(MIN_INLIERS, 0.5 * refined.tried):
                continue
            if refined.rms_px > MAX_RMS_PX:
                continue
            if self._agreement(frame, refined.matrix) < MIN_AGREEMENT:
                continue
            full = _scaled(refined.matrix, 1 / frame.scale)
            return Registration(
                full, method, NO_POINTS, NO_POINTS, refined.rms_px / frame.scale, n_points=refined.inliers
            )
        return None

    def _agreement(self, frame: Prepared, matrix: np.ndarray) -> float:
        """Correlation coefficient of the details over the overlap, hot pixels of either frame left out."""
        ours = self._prepared
        size = ours.detail.shape[::-1]
        seen = (frame.valid & ~frame.hot).astype(np.uint8)
        detail = cv2.warpAffine(frame.detail, matrix[:2], size, flags=cv2.INTER_LINEAR)
        good = (cv2.warpAffine(seen, matrix[:2], size, flags=cv2.INTER_NEAREST) > 0) & ours.valid & ~ours.hot
        if good.sum() < 0.1 * good.size:
            return 0.0
        # A slight blur: detail finer than the seeing is noise, or the sensor's own pattern.
        a = cv2.GaussianBlur(ours.detail, (0, 0), 1.5)[good]
        b = cv2.GaussianBlur(detail, (0, 0), 1.5)[good]
        a, b = a - a.mean(), b - b.mean()
        return float(a @ b / max(1e-12, math.sqrt(float(a @ a) * float(b @ b))))


def _texture(prepared: Prepared) -> np.ndarray:
    """(h, w) uint8 of the details, slightly smoothed: brightness and its gradients are gone."""
    smooth = cv2.GaussianBlur(prepared.detail, (0, 0), 1.2)
    limit = max(float(np.percentile(np.abs(smooth[::2, ::2]), 99.5)), 1e-6)
    return np.clip(128 + (110 / limit) * smooth, 0, 255).astype(np.uint8)


def _scaled(matrix: np.ndarray, scale: float) -> np.ndarray:
    """The same transform between pictures `scale` times as large; pixel centres at integers in both."""
    move = np.array([[scale, 0, (scale - 1) / 2], [0, scale, (scale - 1) / 2], [0, 0, 1.0]])
    return np.asarray(move @ matrix @ np.linalg.inv(move))
