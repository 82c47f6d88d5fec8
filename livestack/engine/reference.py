"""The frame that the others are registered to and normalised with: making it, choosing a better one, refining it.

All of it pure: frames and lists in, a new `Reference` or new lists out.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np

from livestack.base.frame import FrameInfo
from livestack.detection import terraces_of
from livestack.engine.ledger import Member
from livestack.engine.states import Detected, Held
from livestack.quality import FrameMeasures, content_stats, frame_weight
from livestack.registration import StarReference
from livestack.registration import transform as tf
from livestack.registration.distortion import Distortion, to_frame, to_reference
from livestack.registration.features import FeatureReference
from livestack.registration.transform import Registration
from livestack.stacking.normalisation import Normalisation
from livestack.stacking.normalise import ReferenceLight, flux_ratio, mesh_nodes, normalise

BETTER_REFERENCE = 2.0
"""A frame of the warm-up takes the reference over when it is so many times as good as the first: the log then speaks of
two grids, which small gains are not worth."""
FEW_STARS = 8
NEW_SHARE = 0.15
"""A frame of which so much lies where neither the reference nor a patch has looked becomes a patch itself."""
STARLESS_STRUCTURE = 4.0


@dataclass(frozen=True, eq=False)
class Patch:
    """A stacked frame that shows what the reference does not: where the canvas has grown, others are matched to it.

    Attributes
    ----------
    stars : in the frame's own pixels; matrix, distortion : frame -> reference.
    ratio : flux on the reference's scale over that of the frame.
    """

    stars: StarReference
    matrix: np.ndarray
    ratio: float
    distortion: Distortion | None = None


@dataclass(frozen=True, eq=False)
class Reference:
    """What frames are registered to and normalised with."""

    name: str
    info: FrameInfo
    shape: tuple[int, int]
    stars: StarReference
    light: ReferenceLight
    starless: bool
    features: FeatureReference | None
    from_previous: np.ndarray | None = None
    """(3, 3) the reference before -> this one, where it took over; transforms told earlier speak of that one."""
    patches: tuple[Patch, ...] = ()
    terraces: np.ndarray | None = None
    """(C,) half the steps that its sky is made of, where noise does not blur them; see `detection.terraces_of`."""


def is_starless(detected: Detected) -> bool:
    """True for the Moon, planets, landscapes: structure everywhere, and no common size of what looks like stars."""
    stars = detected.stars
    content = content_stats(detected.sky, stars)
    widths = stars.fwhm[np.isfinite(stars.fwhm)]
    if content.structure <= STARLESS_STRUCTURE:
        return False
    if len(widths) < 3:
        return True
    middle = float(np.median(widths))
    scatter = 1.4826 * float(np.median(np.abs(widths - middle)))
    return middle > 18.0 or scatter > 0.3 * middle


def make_reference(
    detected: Detected,
    grid: tuple[int, int],
    matrix: np.ndarray,
    starless: bool,
    features: FeatureReference | None,
    from_previous: np.ndarray | None = None,
    distortion: Distortion | None = None,
) -> Reference:
    """A reference from a frame that lies on a grid of (height, width) by `matrix` (3, 3) and `distortion`, frame ->
    grid."""
    info, stars = detected.frame.info, detected.stars
    aligned = distortion is None and np.array_equal(matrix, np.eye(3))
    on_grid = stars if aligned else stars.placed(to_reference(matrix, distortion, stars.xy))
    return Reference(
        name=detected.frame.name,
        info=info,
        shape=grid,
        stars=StarReference(on_grid, grid[1], grid[0]),
        light=ReferenceLight(stars, detected.sky, matrix, info.width, info.height, grid),
        starless=starless,
        features=features,
        from_previous=from_previous,
        terraces=None if detected.data is None else terraces_of(detected.data, detected.sky),
    )


def extend(
    reference: Reference,
    detected: Detected,
    found: Registration,
    normalisation: Normalisation,
    ratio: float | None,
) -> Reference:
    """The reference with a frame as one more patch, where the frame shows enough that is new; else as it was.

    Parameters
    ----------
    found, normalisation, ratio : bring the frame onto the reference's place, scale and flux.
    """
    matrix = found.matrix
    info, stars, sky = detected.frame.info, detected.stars, detected.sky
    if reference.starless or ratio is None or len(stars) < FEW_STARS:
        return reference
    places = tf.apply(matrix, mesh_nodes(sky.level.shape[1:], info.width, info.height))
    if np.isnan(reference.light.sky_at(places)).any(axis=0).mean() < NEW_SHARE:
        return reference
    light = ReferenceLight(stars, sky, matrix, info.width, info.height, reference.shape)
    patch = Patch(StarReference(stars, info.width, info.height), matrix, ratio, found.distortion)
    return replace(
        reference, light=reference.light.with_beyond(light, normalisation), patches=(*reference.patches, patch)
    )


def nearest_patches(reference: Reference, hint: np.ndarray | None) -> list[Patch | None]:
    """Where to look for a frame's stars, likeliest first: the reference itself (None) and its patches.

    The reference comes first where it should hold half of the frame; else by how much of the frame each should hold.

    Parameters
    ----------
    hint : (3, 3) where the frame is expected; None tells nothing.
    """
    if hint is None or not reference.patches:
        return [None, *reversed(reference.patches)]
    size = reference.stars.width, reference.stars.height

    def overlap(patch: Patch | None) -> float:
        if patch is None:
            share = tf.overlap_fraction(hint, *size, *size)
            return share + 1.0 if share >= 0.5 else share
        its = patch.stars.width, patch.stars.height
        return tf.overlap_fraction(np.linalg.inv(patch.matrix) @ hint, *its, *its)

    return sorted((None, *reference.patches), key=overlap, reverse=True)


def find_better(held: Sequence[Held], reference: Reference, own: FrameMeasures) -> Held | None:
    """The frame of the warm-up that should be the reference instead, or None.

    `own` are the measures that weights are relative to.
    """
    if len(held) < 3:
        return None

    def score(measures: FrameMeasures) -> float:
        return frame_weight(measures, own) * math.sqrt(max(measures.n_stars, 1))

    scores = [score(one.measures) for one in held]
    best = int(np.argmax(scores))
    mine = next(i for i, one in enumerate(held) if one.member.name == reference.name)
    return held[best] if scores[best] > BETTER_REFERENCE * scores[mine] else None


def exposure_ratio(info: FrameInfo, reference: FrameInfo) -> float:
    """Exposure of a frame over that of the reference; 1 where a header does not tell."""
    one, other = info.exposure_s or 0.0, reference.exposure_s or 0.0
    return one / other if one > 0 and other > 0 else 1.0


def carry_over(held: Sequence[Held], best: Held, reference: Reference) -> list[Held]:
    """The held frames with transforms and normalisations relative to `best`, which has become `reference`."""
    to_new = np.linalg.inv(best.member.matrix)
    moved = []
    for one in held:
        matrix, distortion = to_new @ one.member.matrix if one is not best else np.eye(3), None
        info = one.member.info
        if one is not best and not (one.member.distortion is None and best.member.distortion is None):
            matrix, distortion = tf.relay(info.width, info.height, partial(_by_way_of, one.member, best.member))
        pairs = reference.stars.match_near(to_reference(matrix, distortion, one.stars.xy), np.eye(3), 2.0)
        ratio = flux_ratio(best.stars, one.stars, pairs[1], pairs[0]) if len(pairs[0]) else None
        factor = None
        if reference.features is not None and reference.features.disc is not None:
            ratio = None  # its stars are belts and craters
            factor = float(one.member.normalisation.factor[0] / best.member.normalisation.factor[0])
        normalisation = normalise(reference.light, one.detected.sky, matrix, ratio, info.width, info.height, factor)
        exposures = exposure_ratio(info, reference.info)
        measures = replace(one.measures, transparency=None if ratio is None else 1.0 / (ratio * exposures))
        member = replace(one.member, matrix=matrix, distortion=distortion, normalisation=normalisation)
        moved.append(replace(one, member=member, measures=measures))
    return moved


def _by_way_of(one: Member, best: Member, points: np.ndarray) -> np.ndarray:
    """Points (n, 2) of a frame in the pixels of another frame on the same grid."""
    return to_frame(best.matrix, best.distortion, to_reference(one.matrix, one.distortion, points))


def weigh_anew(held: Sequence[Held], own: FrameMeasures) -> list[Held]:
    """The held frames with weights relative to the reference's measures."""
    return [replace(one, member=replace(one.member, weight=frame_weight(one.measures, own))) for one in held]


def refine_positions(reference: Reference, held: Sequence[Held]) -> Reference:
    """Average each reference star's position over the warm-up: later frames are matched to better positions."""
    stars = reference.stars.stars
    if reference.starless or len(stars) < FEW_STARS:
        return reference
    total = stars.xy * 1.0
    number = np.ones(len(stars))
    for one in held:
        if one.member.name == reference.name:
            continue
        places = to_reference(one.member.matrix, one.member.distortion, one.stars.xy)
        frame_index, ref_index = reference.stars.match_near(places, np.eye(3), 1.0)
        total[ref_index] += places[frame_index]
        number[ref_index] += 1
    height, width = reference.shape
    return replace(reference, stars=StarReference(stars.placed(total / number[:, None]), width, height))
