"""A proposed transform grown into a fit over all stars, with all that speaks for or against it."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from livestack.base.settings import RegistrationSettings
from livestack.detection import StarCatalog
from livestack.registration import transform as tf
from livestack.registration.model import fit_matched, median
from livestack.registration.reference import StarReference
from livestack.registration.transform import Registration

MATCH_RADIUS_PX = 3.0


@dataclass(frozen=True, eq=False)
class Candidate:
    """A transform with its support; `spread_px` is the residual with the degrees of freedom of the fit put back."""

    matrix: np.ndarray
    frame_index: np.ndarray
    reference_index: np.ndarray
    rms_px: float
    spread_px: float
    log_chance: float
    in_overlap: int
    expected: float

    @property
    def hits(self) -> int:
        return len(self.frame_index)

    def named(self, method: str) -> Registration:
        return Registration(self.matrix, method, self.frame_index, self.reference_index, self.rms_px)


def verify(
    reference: StarReference,
    stars: StarCatalog,
    matrix: np.ndarray,
    settings: RegistrationSettings,
    first_radius: float,
    free: int,
) -> Candidate | None:
    """Grow a rough transform into a fit over all stars; None when it falls apart."""
    xy = stars.xy
    radius = first_radius
    for _ in range(4):
        frame_index, ref_index = reference.match_near(xy, matrix, radius)
        if len(frame_index) < 2:
            return None
        source, target = xy[frame_index], reference.stars.xy[ref_index]
        residual = np.hypot(*(tf.apply(matrix, source) - target).T)
        keep = residual <= max(3.0 * median(residual), 0.3)
        if keep.sum() < 2 or np.ptp(source[keep], axis=0).max() <= 0:
            return None
        matrix = tf.fit_similarity(source[keep], target[keep])
        spread = 1.4826 * median(np.hypot(*(tf.apply(matrix, source[keep]) - target[keep]).T))
        new_radius = float(np.clip(5 * spread, 0.7, MATCH_RADIUS_PX))
        if new_radius >= radius and radius <= MATCH_RADIUS_PX:
            break
        radius = min(new_radius, radius)
    linear = "auto" if settings.model == "polynomial" else settings.model
    for model in ("similarity", linear):  # the first fit is good enough to find every star; the second counts
        frame_index, ref_index = reference.match_near(xy, matrix, radius)
        if len(frame_index) < 2:
            return None
        source, target = xy[frame_index], reference.stars.xy[ref_index]
        matrix, used = fit_matched(source, target, stars.snr[frame_index], reference.stars.snr[ref_index], model)
        if used.sum() < 2 or not plausible_scale(matrix, settings):
            return None
    frame_index, ref_index = frame_index[used], ref_index[used]
    hits = len(frame_index)
    residual = np.hypot(*(tf.apply(matrix, xy[frame_index]) - reference.stars.xy[ref_index]).T)
    rms = float(np.sqrt(np.mean(residual**2)))
    if rms > settings.max_rms_px:
        return None
    # A fit to few stars hides part of their scatter: undo that before asking what luck would do within it.
    honest = float(np.sqrt(np.sum(residual**2) / max(1, 2 * hits - 4)))
    size = np.maximum(xy.max(axis=0) + 1, (reference.width, reference.height))
    mine, theirs = reference.in_overlap(xy, matrix, (float(size[0]), float(size[1])))
    chance = reference.log_chance(max(mine, hits), hits, max(3 * honest, 0.25), free)
    return Candidate(matrix, frame_index, ref_index, rms, honest, chance, mine, float(min(mine, theirs)))


def plausible_scale(matrix: np.ndarray, settings: RegistrationSettings) -> bool:
    scale = math.sqrt(abs(float(np.linalg.det(matrix[:2, :2]))))
    return scale > 0 and abs(math.log(scale)) <= math.log1p(settings.max_scale_change)
