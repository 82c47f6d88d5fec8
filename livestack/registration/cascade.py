"""The order of the attempts, each believed only after its inliers, residual and geometry were checked.

Predict from the last transforms; the same with an unknown shift (dither, a jump); asterisms of the brightest with a
vote; every pair of stars on every pair where there are few; one star under the last known rotation. A match must
beat chance: how many stars would fall within the measured residual by accident, times the transforms that were tried,
is computed. A false match is worse than a refusal.
"""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
from scipy.spatial import cKDTree

from livestack.base.settings import RegistrationSettings
from livestack.detection import StarCatalog
from livestack.kernels import match as kernel
from livestack.registration import transform as tf
from livestack.registration.asterisms import ASTERISM_STARS, asterisms
from livestack.registration.distortion import Distortion
from livestack.registration.few import PAIR_STARS, Witness, by_few, by_solid_stars, by_stars_of_one_width, hold_scale
from livestack.registration.lens import bend, straightened
from livestack.registration.reference import StarReference
from livestack.registration.transform import Registration, Unregistered
from livestack.registration.verify import MATCH_RADIUS_PX, Candidate, verify

SHAPE_TOLERANCE = 0.012
PREDICT_RADIUS_PX = 6.0
SCALE_TOLD_BADLY = 7e-4
"""Sigma, in ln, of the scale that matched stars tell, from which that of the prediction is asked, too."""
SHIFT_STARS = 40
MIRROR_STARS = 6
LOG_CHANCE = math.log(1e-7)
"""With many stars a match is believed when luck would do as well less often than this."""


def register_stars(
    reference: StarReference,
    stars: StarCatalog,
    hints: list[np.ndarray],
    settings: RegistrationSettings,
    distortion: Distortion | None = None,
    witness: Witness = None,
) -> Registration | Unregistered:
    """Carry a frame onto the reference by its stars.

    Parameters
    ----------
    reference : the session's reference.
    stars : catalogue of the frame.
    hints : transforms worth trying first, best first (prediction, last good one); may be empty.
    distortion : of the last frame, likely much the same for this one; goes with all hints.
    witness : asked whether the pixels bear out a transform that rests on a star or two.

    Returns
    -------
    Registration, or Unregistered with the reason as a sentence.
    """
    mirrored = [hint for hint in hints if tf.is_mirrored(hint)]
    hints = [hint for hint in hints if not tf.is_mirrored(hint)]
    if mirrored:  # the frame before was a mirror image: so, likely, is this one
        turned_over = _by_mirror(reference, stars, mirrored, settings)
        if turned_over is not None:
            return turned_over
    if distortion is not None:
        for hint in hints:
            straight = straightened(stars, hint, distortion)
            found = _by_prediction(reference, straight, hint, settings)
            if found is not None:
                bent = bend(reference, stars, found, settings)
                if bent is not found:
                    return bent
    plain = _by_matrix(reference, stars, hints, settings, witness)
    if isinstance(plain, Registration):
        return bend(reference, stars, plain, settings)
    return (None if mirrored else _by_mirror(reference, stars, [], settings)) or plain


def _by_mirror(
    reference: StarReference, stars: StarCatalog, hints: list[np.ndarray], settings: RegistrationSettings
) -> Registration | None:
    """The frame taken for a mirror image; never with a handful of stars, which fit one as well as the other."""
    if min(len(stars), len(reference.stars)) < MIRROR_STARS:
        return None
    over = np.diag([-1.0, 1.0, 1.0])
    over[0, 2] = stars.x.max()  # within the frame, where a frame's stars are looked for
    turned = stars.placed(tf.apply(over, stars.xy))
    found = _by_matrix(reference, turned, [hint @ over for hint in hints], settings, None)
    if isinstance(found, Unregistered) or found.n_matched < MIRROR_STARS:
        return None
    return replace(found, matrix=found.matrix @ over)


def _by_matrix(
    reference: StarReference,
    stars: StarCatalog,
    hints: list[np.ndarray],
    settings: RegistrationSettings,
    witness: Witness,
) -> Registration | Unregistered:
    """The attempts in their order, with a matrix alone."""
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
        found = by_few(reference, stars, last, settings, witness)
    if found is None and few:
        found = by_solid_stars(reference, stars, last, settings, witness)
    if found is None and few:
        found = by_stars_of_one_width(reference, stars, last, settings, witness)
    if found is not None:
        return found
    return Unregistered(
        f"its {len(stars)} stars do not match the {len(reference.stars)} of the reference "
        "in any shift, rotation or scale"
    )


def _by_prediction(
    reference: StarReference, stars: StarCatalog, predicted: np.ndarray, settings: RegistrationSettings
) -> Registration | None:
    found = verify(reference, stars, predicted, settings, PREDICT_RADIUS_PX, 2)
    if found is None or found.hits < 4 or found.log_chance > LOG_CHANCE or found.hits < 0.3 * found.expected:
        return None
    return hold_scale(reference, stars, found, predicted, SCALE_TOLD_BADLY).named("predicted")


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


def _by_asterisms(reference: StarReference, stars: StarCatalog, settings: RegistrationSettings) -> Registration | None:
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
    best: Candidate | None = None
    for _ in range(12):
        top = int(np.argmax(votes))
        if votes[top] < 1:
            break
        cluster = np.asarray(tree.query_ball_point(space[top], radius), dtype=int)
        votes[cluster] = -1
        rough = tf.fit_similarity(a[cluster].reshape(-1, 2), b[cluster].reshape(-1, 2))
        found = verify(reference, stars, rough, settings, max(MATCH_RADIUS_PX, 0.004 * size), 3)
        if found is None or found.hits < 5 or found.log_chance > LOG_CHANCE or found.hits < 0.2 * found.expected:
            continue
        if best is None or found.log_chance < best.log_chance:
            best = found
            if found.hits >= 8 and found.hits > 0.5 * found.expected:
                break
    return None if best is None else best.named("asterisms")
