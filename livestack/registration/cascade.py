"""The order of the attempts, each believed only after its inliers, residual and geometry were checked.

Predict from the last transforms; the same with an unknown shift (dither, a jump); asterisms of the brightest with a
vote; every pair of stars on every pair where there are few; one star under the last known rotation. A match must
beat chance: how many stars would fall within the measured residual by accident, times the transforms that were tried,
is computed. A false match is worse than a refusal.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
from scipy.spatial import cKDTree

from livestack import transform as tf
from livestack.kernels import match as kernel
from livestack.registration.asterisms import ASTERISM_STARS, asterisms
from livestack.registration.model import fit_matched
from livestack.registration.reference import StarReference
from livestack.settings import RegistrationSettings
from livestack.stars import StarCatalog
from livestack.transform import Registration, Unregistered

SHAPE_TOLERANCE = 0.012
PREDICT_RADIUS_PX = 6.0
MATCH_RADIUS_PX = 3.0
SHIFT_STARS = 40
PAIR_STARS = 20
LOG_CHANCE = math.log(1e-7)
"""With many stars a match is believed when luck would do as well less often than this."""
LOG_CHANCE_FEW = math.log(3e-4)
"""With a handful of stars, where fluxes and the empty places speak as well."""
FLUX_SHARE = 0.35
"""Share of the reference's stars that look like a given one by brightness."""
FLUX_SLACK = 0.13
"""How far, in ln(flux), a well measured star may be wrong."""
SOLID_SNR = 8.0
TWO_STARS_OVERLAP = 0.4
ONE_STAR_FLUX = math.log(3.0)
"""A single star fainter than this factor is behind a cloud, or another star."""
HINT_TURN_RAD = math.radians(2.0)


@dataclass(frozen=True, eq=False)
class _Candidate:
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


def register_stars(
    reference: StarReference,
    stars: StarCatalog,
    hints: list[np.ndarray],
    settings: RegistrationSettings,
) -> Registration | Unregistered:
    """Carry a frame onto the reference by its stars.

    Parameters
    ----------
    reference : the session's reference.
    stars : catalogue of the frame.
    hints : transforms worth trying first, best first (prediction, last good one); may be empty.

    Returns
    -------
    Registration, or Unregistered with the reason as a sentence.
    """
    if len(reference.stars) == 0:
        return Unregistered("the reference has no stars")
    if len(stars) == 0:
        return Unregistered("no star was found")
    for hint in hints:
        found = _by_prediction(reference, stars, hint, settings)
        if found is not None:
            return found
    few = min(len(stars), len(reference.stars)) <= PAIR_STARS
    last = hints[0] if hints else None
    if last is not None and not few:
        found = _by_shift(reference, stars, last, settings)
        if found is not None:
            return found
    found = None if few else _by_asterisms(reference, stars, settings)
    if found is None:
        found = _by_few(reference, stars, last, settings)
    if found is None and few:
        found = _by_solid_stars(reference, stars, last, settings)
    if found is not None:
        return found
    return Unregistered(
        f"its {len(stars)} stars do not match the {len(reference.stars)} of the reference "
        "in any shift, rotation or scale"
    )


def _verify(
    reference: StarReference, stars: StarCatalog, matrix: np.ndarray, settings: RegistrationSettings,
    first_radius: float, free: int,
) -> _Candidate | None:
    """Grow a rough transform into a fit over all stars; None when it falls apart."""
    xy = stars.xy
    radius = first_radius
    for _ in range(4):
        frame_index, ref_index = reference.match_near(xy, matrix, radius)
        if len(frame_index) < 2:
            return None
        source, target = xy[frame_index], reference.stars.xy[ref_index]
        residual = np.hypot(*(tf.apply(matrix, source) - target).T)
        keep = residual <= max(3.0 * float(np.median(residual)), 0.3)
        if keep.sum() < 2 or np.ptp(source[keep], axis=0).max() <= 0:
            return None
        matrix = tf.fit_similarity(source[keep], target[keep])
        spread = 1.4826 * float(np.median(np.hypot(*(tf.apply(matrix, source[keep]) - target[keep]).T)))
        new_radius = float(np.clip(5 * spread, 0.7, MATCH_RADIUS_PX))
        if new_radius >= radius and radius <= MATCH_RADIUS_PX:
            break
        radius = min(new_radius, radius)
    for model in ("similarity", settings.model):  # the first fit is good enough to find every star; the second counts
        frame_index, ref_index = reference.match_near(xy, matrix, radius)
        if len(frame_index) < 2:
            return None
        source, target = xy[frame_index], reference.stars.xy[ref_index]
        matrix, used = fit_matched(source, target, stars.snr[frame_index], reference.stars.snr[ref_index], model)
        if used.sum() < 2 or not _plausible_scale(matrix, settings):
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
    return _Candidate(matrix, frame_index, ref_index, rms, honest, chance, mine, float(min(mine, theirs)))


def _plausible_scale(matrix: np.ndarray, settings: RegistrationSettings) -> bool:
    scale = math.sqrt(abs(float(np.linalg.det(matrix[:2, :2]))))
    return scale > 0 and abs(math.log(scale)) <= math.log1p(settings.max_scale_change)


def _by_prediction(
    reference: StarReference, stars: StarCatalog, predicted: np.ndarray, settings: RegistrationSettings
) -> Registration | None:
    found = _verify(reference, stars, predicted, settings, PREDICT_RADIUS_PX, 2)
    if found is None or found.hits < 4 or found.log_chance > LOG_CHANCE or found.hits < 0.3 * found.expected:
        return None
    return found.named("predicted")


def _by_shift(
    reference: StarReference, stars: StarCatalog, hint: np.ndarray, settings: RegistrationSettings
) -> Registration | None:
    """The hint's rotation and scale with any shift: a dither, a bump, a recentring."""
    mapped = tf.apply(hint, stars.xy[:SHIFT_STARS])
    best = np.zeros((3, 3))
    kernel.shift_votes(mapped, reference.stars.xy[:SHIFT_STARS], 4.0, best)
    for votes, dx, dy in best:
        if votes < 4:
            break
        shifted = hint.copy()
        shifted[:2, 2] += (dx, dy)
        found = _by_prediction(reference, stars, shifted, settings)
        if found is not None:
            return found
    return None


def _by_asterisms(
    reference: StarReference, stars: StarCatalog, settings: RegistrationSettings
) -> Registration | None:
    xy = stars.xy
    shapes, corners = asterisms(xy[:ASTERISM_STARS])
    if reference.shape_tree is None or len(shapes) == 0:
        return None
    near = reference.shape_tree.query_ball_point(shapes, SHAPE_TOLERANCE)
    counts = np.array([len(row) for row in near])
    if counts.sum() == 0:
        return None
    mine = np.repeat(np.arange(len(shapes)), counts)
    theirs = np.concatenate([np.asarray(row, dtype=int) for row in near if row])
    a, b = xy[corners[mine]], reference.stars.xy[reference.corners[theirs]]
    # Each pair of triangles proposes a similarity: z (rotation and scale) and where it puts the frame's middle.
    za, zb = a[:, 1] - a[:, 0], b[:, 1] - b[:, 0]
    z = (zb[:, 0] + 1j * zb[:, 1]) / (za[:, 0] + 1j * za[:, 1])
    scale_ok = np.abs(np.log(np.abs(z))) <= math.log1p(settings.max_scale_change)
    if not scale_ok.any():
        return None
    z, a, b = z[scale_ok], a[scale_ok], b[scale_ok]
    middle = complex(*xy.mean(axis=0))
    ca, cb = a.mean(axis=1), b.mean(axis=1)
    where = (cb[:, 0] + 1j * cb[:, 1]) + z * (middle - (ca[:, 0] + 1j * ca[:, 1]))
    # Vote in the space (middle x, y; rotation and scale times the field's size): true pairs agree to a few pixels.
    size = math.hypot(reference.width, reference.height)
    reach = 0.25 * size
    space = np.column_stack([where.real, where.imag, z.real * reach, z.imag * reach])
    tree = cKDTree(space)
    radius = max(6.0, 0.008 * size)
    votes = tree.query_ball_point(space, radius, return_length=True)
    best: _Candidate | None = None
    for _ in range(12):
        top = int(np.argmax(votes))
        if votes[top] < 1:
            break
        cluster = np.asarray(tree.query_ball_point(space[top], radius), dtype=int)
        votes[cluster] = -1
        rough = tf.fit_similarity(a[cluster].reshape(-1, 2), b[cluster].reshape(-1, 2))
        found = _verify(reference, stars, rough, settings, max(MATCH_RADIUS_PX, 0.004 * size), 3)
        if found is None or found.hits < 5 or found.log_chance > LOG_CHANCE or found.hits < 0.2 * found.expected:
            continue
        if best is None or found.log_chance < best.log_chance:
            best = found
            if found.hits >= 8 and found.hits > 0.5 * found.expected:
                break
    return None if best is None else best.named("asterisms")


def _by_few(
    reference: StarReference, stars: StarCatalog, last: np.ndarray | None, settings: RegistrationSettings
) -> Registration | None:
    return _by_pairs(reference, stars, last, settings) or _by_one_star(reference, stars, last)


def _by_solid_stars(
    reference: StarReference, stars: StarCatalog, last: np.ndarray | None, settings: RegistrationSettings
) -> Registration | None:
    """The same without what is barely detected: beside a bright star or two, a bump of the noise is a third star."""
    mine, theirs = _solid(stars), _solid(reference.stars)
    if mine.all() and theirs.all():
        return None
    clean = StarReference(reference.stars.select(theirs), reference.width, reference.height)
    found = _by_few(clean, stars.select(mine), last, settings)
    if found is None:
        return None
    return replace(
        found,
        frame_index=np.flatnonzero(mine)[found.frame_index],
        reference_index=np.flatnonzero(theirs)[found.reference_index],
    )


def _solid(stars: StarCatalog) -> np.ndarray:
    return np.asarray(stars.snr >= min(SOLID_SNR, 0.25 * float(stars.snr.max())))


def _slack(stars: StarCatalog, n: int) -> np.ndarray:
    """How far ln(flux) may be wrong: noise, and saturation that swallows light."""
    return np.asarray(
        FLUX_SLACK + 2.0 / np.maximum(stars.snr[:n], 2.0) + np.where(stars.saturated[:n], 1.5, 0.0), dtype=float
    )


def _by_pairs(
    reference: StarReference, stars: StarCatalog, hint: np.ndarray | None, settings: RegistrationSettings
) -> Registration | None:
    """Every pair of bright stars on every pair: first near the hint's rotation and scale, then anywhere."""
    n, m = min(PAIR_STARS, len(stars)), min(PAIR_STARS, len(reference.stars))
    if n < 2 or m < 2:
        return None
    everywhere = (math.log1p(settings.max_scale_change), 0.0, math.pi)
    rounds = [everywhere]
    if hint is not None:
        rounds.insert(0, (0.01, math.atan2(hint[1, 0], hint[0, 0]), HINT_TURN_RAD))
    mags = np.log(np.maximum(stars.flux[:n], 1e-9)), np.log(np.maximum(reference.stars.flux[:m], 1e-9))
    slack = _slack(stars, n), _slack(reference.stars, m)
    best = np.zeros((8, 6))
    for max_log_scale, turn, max_turn in rounds:
        tried = kernel.pair_similarities(
            stars.xy[:n], mags[0], slack[0], reference.stars.xy[:m], mags[1], slack[1],
            max_log_scale, turn, max_turn, 20.0, 1.5, best,
        )  # fmt: skip
        for hits, _, a, b, tx, ty in best:
            if hits < 2:
                break
            matrix = np.array([[a, -b, tx], [b, a, ty], [0.0, 0.0, 1.0]])
            found = _verify(reference, stars, matrix, settings, MATCH_RADIUS_PX, 2)
            if found is None or found.hits < 0.5 * found.expected:
                continue
            if found.hits == 2:
                # No star is left to confirm it: the scale alone must, and nothing else may be in the overlap.
                if _two_stars_hold(reference, stars, found, tried, max_turn):
                    return found.named("two stars")
                continue
            if not _fluxes_agree(reference, stars, found):
                continue
            chance = reference.log_chance(
                max(found.in_overlap, found.hits), found.hits, max(2 * found.spread_px, 0.15), 2, FLUX_SHARE
            )
            if chance + math.log(max(1, tried)) < LOG_CHANCE_FEW:
                return found.named("pairs")
    return None


def _fluxes_agree(reference: StarReference, stars: StarCatalog, found: _Candidate) -> bool:
    """The matched stars keep their brightness, but for one factor (a thin cloud) and their own uncertainty."""
    ratio = np.log(np.maximum(stars.flux[found.frame_index], 1e-9)) - np.log(
        np.maximum(reference.stars.flux[found.reference_index], 1e-9)
    )
    slack = _slack(stars, len(stars))[found.frame_index] + _slack(reference.stars, len(reference.stars))[
        found.reference_index
    ]
    return bool(np.mean(np.abs(ratio - np.median(ratio)) < slack) > 0.6)


def _two_stars_hold(
    reference: StarReference, stars: StarCatalog, found: _Candidate, tried: int, max_turn: float
) -> bool:
    """Two stars fix a similarity and leave nothing over; their distance must then agree to the centroids' accuracy."""
    if found.expected > 2:
        return False
    size = reference.width, reference.height
    if tf.overlap_fraction(found.matrix, *size, *size) < TWO_STARS_OVERLAP:
        return False
    base = float(np.hypot(*(stars.xy[found.frame_index[1]] - stars.xy[found.frame_index[0]])))
    scale = math.sqrt(abs(float(np.linalg.det(found.matrix[:2, :2]))))
    off = abs(scale - 1.0) * base
    if max_turn < math.pi:  # near the last known rotation and scale
        return off < max(1.5, 0.004 * base)
    return off < 0.75 and tried <= 4 and len(stars) == 2 and len(reference.stars) == 2


def _by_one_star(reference: StarReference, stars: StarCatalog, hint: np.ndarray | None) -> Registration | None:
    """A shift under the last known rotation, when one of the frames has a single star and the other no more than two.

    One star proves nothing by itself: it must be about as bright, and within a quarter of the field of where it was.
    """
    n, m = len(stars), len(reference.stars)
    if min(n, m) != 1 or max(n, m) > 2:
        return None
    matrix = np.eye(3) if hint is None else hint.copy()
    best: tuple[float, np.ndarray, int, int] | None = None
    for i in range(n):
        for k in range(m):
            difference = abs(math.log(max(stars.flux[i], 1e-9) / max(reference.stars.flux[k], 1e-9)))
            move = reference.stars.xy[k] - tf.apply(matrix, stars.xy[i : i + 1])[0]
            far = max(abs(move[0]) / reference.width, abs(move[1]) / reference.height)
            if difference < ONE_STAR_FLUX and far < 0.25 and (best is None or far < best[0]):
                best = (far, move, i, k)
    if best is None:
        return None
    matrix[:2, 2] += best[1]
    return Registration(matrix, "one star", np.array([best[2]]), np.array([best[3]]), 0.0)
