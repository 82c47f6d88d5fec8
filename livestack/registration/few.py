"""Few stars: every pair on every pair, two stars, one star; fluxes and empty places speak as well as positions."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace

import numpy as np

from livestack.base.settings import RegistrationSettings
from livestack.detection import StarCatalog
from livestack.kernels import match as kernel
from livestack.registration import transform as tf
from livestack.registration.model import centroid_noise2
from livestack.registration.reference import StarReference
from livestack.registration.transform import Registration
from livestack.registration.verify import MATCH_RADIUS_PX, Candidate, verify

PAIR_STARS = 20
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
SAME_SCALE, TOLD_WELL, OTHER_SCALE = 1.5e-4, 0.95, 4.0
"""How far, in ln, the scale of a telescope wanders from one frame to the next: focus, temperature; refraction near the
horizon changes it by a thousandth in an hour. Where the stars tell it so much better, or clearly tell another
(by so many sigma: focus was moved), it is theirs alone."""
WIDE_REACH, NEAR_REACH = 0.25, 0.08
"""Farthest believed move of a field with one star or two, as a share of it: with the pixels' word and without."""
LEAST_ALIKE = 3
"""So many sources of one width are stars, if any are."""
WIDTH_SPREAD = 0.2
"""Widths of well measured stars of one frame lie within this, in ln from the least to the largest."""
MOST_SEEING = 1.8
"""Ratio of the widths of stars of two frames of a night."""
Witness = Callable[[np.ndarray], bool] | None
"""Whether the pixels bear a transform (3, 3) out; None where they cannot be asked."""


def by_few(
    reference: StarReference,
    stars: StarCatalog,
    last: np.ndarray | None,
    settings: RegistrationSettings,
    witness: Witness,
) -> Registration | None:
    return _by_pairs(reference, stars, last, settings, witness) or _by_one_star(reference, stars, last, witness)


def by_solid_stars(
    reference: StarReference,
    stars: StarCatalog,
    last: np.ndarray | None,
    settings: RegistrationSettings,
    witness: Witness,
) -> Registration | None:
    """The same without what is barely detected: beside a bright star or two, a bump of the noise is a third star."""
    mine, theirs = _solid(stars), _solid(reference.stars)
    if mine.all() and theirs.all():
        return None
    clean = StarReference(reference.stars.select(theirs), reference.width, reference.height)
    found = by_few(clean, stars.select(mine), last, settings, witness)
    if found is None:
        return None
    return replace(
        found,
        frame_index=np.flatnonzero(mine)[found.frame_index],
        reference_index=np.flatnonzero(theirs)[found.reference_index],
    )


def by_stars_of_one_width(
    reference: StarReference,
    stars: StarCatalog,
    last: np.ndarray | None,
    settings: RegistrationSettings,
    witness: Witness,
) -> Registration | None:
    """The same with what shares a width, the widest first: cosmic rays and hot pixels are narrower than any star."""
    for theirs in _of_one_width(reference.stars):
        for mine in _of_one_width(stars):
            if mine.all() and theirs.all():
                continue
            widths = [float(np.nanmedian(c.fwhm[kept])) for c, kept in ((stars, mine), (reference.stars, theirs))]
            if not 1 / MOST_SEEING < widths[0] / widths[1] < MOST_SEEING:
                continue
            clean = StarReference(reference.stars.select(theirs), reference.width, reference.height)
            found = by_few(clean, stars.select(mine), last, settings, witness)
            if found is not None and found.n_matched >= LEAST_ALIKE:
                return replace(
                    found,
                    frame_index=np.flatnonzero(mine)[found.frame_index],
                    reference_index=np.flatnonzero(theirs)[found.reference_index],
                )
    return None


def _of_one_width(stars: StarCatalog) -> list[np.ndarray]:
    """(n,) bool each: the sources that share a width, the widest first; two such groups at most."""
    groups: list[np.ndarray] = []
    left = np.isfinite(stars.fwhm) & (stars.fwhm > 0)
    while left.any() and len(groups) < 2:
        widest = float(stars.fwhm[left].max())
        alike = left & (stars.fwhm > widest * math.exp(-WIDTH_SPREAD))
        if alike.sum() >= LEAST_ALIKE:
            groups.append(alike)
            left &= ~alike
        else:
            left &= stars.fwhm < widest
    return groups


def _solid(stars: StarCatalog) -> np.ndarray:
    return np.asarray(stars.snr >= min(SOLID_SNR, 0.25 * float(stars.snr.max())))


def _slack(stars: StarCatalog, n: int) -> np.ndarray:
    """How far ln(flux) may be wrong: noise, and saturation that swallows light."""
    return np.asarray(
        FLUX_SLACK + 2.0 / np.maximum(stars.snr[:n], 2.0) + np.where(stars.saturated[:n], 1.5, 0.0), dtype=float
    )


def _by_pairs(
    reference: StarReference,
    stars: StarCatalog,
    hint: np.ndarray | None,
    settings: RegistrationSettings,
    witness: Witness,
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
        near = None if max_turn == math.pi else hint
        tried = kernel.pair_similarities(
            stars.xy[:n], mags[0], slack[0], reference.stars.xy[:m], mags[1], slack[1],
            max_log_scale, turn, max_turn, 20.0, 1.5, best,
        )  # fmt: skip
        for hits, _, a, b, tx, ty in best:
            if hits < 2:
                break
            matrix = np.array([[a, -b, tx], [b, a, ty], [0.0, 0.0, 1.0]])
            found = verify(reference, stars, matrix, settings, MATCH_RADIUS_PX, 2)
            if found is None or found.hits < 0.5 * found.expected:
                continue
            if found.hits == 2:
                # No star is left to confirm it: the scale alone must, and nothing else may be in the overlap.
                if _two_stars_hold(reference, stars, found, tried, max_turn) and _believed(
                    reference, found.matrix, hint, witness
                ):
                    return hold_scale(reference, stars, found, near).named("two stars")
                continue
            if not _fluxes_agree(reference, stars, found):
                continue
            chance = reference.log_chance(
                max(found.in_overlap, found.hits), found.hits, max(2 * found.spread_px, 0.15), 2, FLUX_SHARE
            )
            if chance + math.log(max(1, tried)) < LOG_CHANCE_FEW:
                return hold_scale(reference, stars, found, near).named("pairs")
    return None


def hold_scale(
    reference: StarReference, stars: StarCatalog, found: Candidate, near: np.ndarray | None, told_badly: float = 0.0
) -> Candidate:
    """The candidate with the scale that its stars and the frame before (`near`) tell together.

    Where its stars tell it to `told_badly` (sigma of ln) or better it is theirs: a transform that hangs on the frames
    before is no more the same in whatever order they come.

    A few soft stars close to each other say little of the scale, and the corners of the frame would be off by pixels.
    It turns about the stars' middle, which stays where it is. None is a frame that has nothing to do with the last one.
    """
    if near is None:
        return found
    source, target = stars.xy[found.frame_index], reference.stars.xy[found.reference_index]
    noise2 = centroid_noise2(stars.snr[found.frame_index], reference.stars.snr[found.reference_index])
    arms2 = float(np.sum((target - target.mean(axis=0)) ** 2))
    scatter2 = max(found.spread_px**2, float(np.mean(noise2)))
    told2 = scatter2 / max(arms2, 1e-9)
    trust = SAME_SCALE**2 / (SAME_SCALE**2 + told2)
    off = 0.5 * math.log(abs(float(np.linalg.det(found.matrix[:2, :2]) / np.linalg.det(near[:2, :2]))))
    if told2 < told_badly**2 or trust > TOLD_WELL or abs(off) > OTHER_SCALE * math.sqrt(SAME_SCALE**2 + told2):
        return found
    matrix, middle = found.matrix.copy(), source.mean(axis=0)
    matrix[:2, :2] *= math.exp((trust - 1.0) * off)
    matrix[:2, 2] += tf.apply(found.matrix, middle[None])[0] - tf.apply(matrix, middle[None])[0]
    rms = float(np.sqrt(np.mean(np.sum((tf.apply(matrix, source) - target) ** 2, axis=1))))
    return replace(found, matrix=matrix, rms_px=rms)


def _fluxes_agree(reference: StarReference, stars: StarCatalog, found: Candidate) -> bool:
    """The matched stars keep their brightness, but for one factor (a thin cloud) and their own uncertainty."""
    ratio = np.log(np.maximum(stars.flux[found.frame_index], 1e-9)) - np.log(
        np.maximum(reference.stars.flux[found.reference_index], 1e-9)
    )
    slack = (
        _slack(stars, len(stars))[found.frame_index]
        + _slack(reference.stars, len(reference.stars))[found.reference_index]
    )
    return bool(np.mean(np.abs(ratio - np.median(ratio)) < slack) > 0.6)


def _two_stars_hold(
    reference: StarReference, stars: StarCatalog, found: Candidate, tried: int, max_turn: float
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


def _by_one_star(
    reference: StarReference, stars: StarCatalog, hint: np.ndarray | None, witness: Witness
) -> Registration | None:
    """A shift under the last known rotation, when one of the frames has a single star and the other no more than two.

    One star proves nothing by itself: it must be about as bright, within a quarter of the field of where it was, and
    the pixels must bear it out; where they tell nothing it must be nearer.
    """
    n, m = len(stars), len(reference.stars)
    if min(n, m) != 1 or max(n, m) > 2:
        return None
    matrix = np.eye(3) if hint is None else hint
    tried: list[tuple[float, int, int, np.ndarray]] = []
    for i in range(n):
        for k in range(m):
            difference = abs(math.log(max(stars.flux[i], 1e-9) / max(reference.stars.flux[k], 1e-9)))
            shifted = matrix.copy()
            shifted[:2, 2] += reference.stars.xy[k] - tf.apply(matrix, stars.xy[i : i + 1])[0]
            far = _far(reference, shifted, matrix)
            if difference < ONE_STAR_FLUX and far < WIDE_REACH:
                tried.append((far, i, k, shifted))
    for _, i, k, shifted in sorted(tried, key=lambda one: one[:3]):
        if _believed(reference, shifted, matrix, witness):
            return Registration(shifted, "one star", np.array([i]), np.array([k]), 0.0)
    return None


def _believed(reference: StarReference, matrix: np.ndarray, hint: np.ndarray | None, witness: Witness) -> bool:
    """Whether the pixels bear a transform out; where they cannot tell, whether it is near to where it was expected."""
    near = hint is None or _far(reference, matrix, hint) < NEAR_REACH
    return near or (witness is not None and witness(matrix))


def _far(reference: StarReference, matrix: np.ndarray, hint: np.ndarray) -> float:
    """How far the middle of the field is from where it was expected, as a share of the field."""
    middle = np.array([[(reference.width - 1) / 2, (reference.height - 1) / 2]])
    off = tf.apply(matrix, middle)[0] - tf.apply(hint, middle)[0]
    return float(max(abs(off[0]) / reference.width, abs(off[1]) / reference.height))
