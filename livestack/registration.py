"""From the stars (or features) of a frame to the transform that carries it onto the reference.

A cascade, each step believed only after its inliers, residual and geometry were checked: (1) predict from the last good
transform and its drift; (2) asterisms: triangles of bright stars by scale-free shape on a k-d tree with a vote
(Groth 1986, doi:10.1086/114099; Valdes et al. 1995, doi:10.1086/133667), any shift, rotation and a few per cent of scale;
(3) two stars or one, confirmed on the others; (4) without stars: `features`. A match must beat chance: the number of
stars that would fall within the tolerance by accident is computed from their density, and a match that luck explains is refused.
"""

from __future__ import annotations

import math
import numpy as np
from scipy.spatial import cKDTree

from livestack import transform as tf
from livestack.settings import RegistrationSettings
from livestack.stars import StarCatalog
from livestack.transform import Registration, Unregistered

__all__ = ["Registration", "StarReference", "Unregistered", "asterisms", "reference_registration", "register_stars"]

ASTERISM_STARS = 60
NEIGHBOURS = 6
SHAPE_TOLERANCE = 0.012
PREDICT_RADIUS_PX = 6.0
MATCH_RADIUS_PX = 3.0
CHANCE_LIMIT = 1e-7
"""A match is believed when luck would do as well less often than this."""


NO_STARS = np.empty(0, dtype=int)


def reference_registration(n_stars: int) -> Registration:
    """The reference onto itself."""
    index = np.arange(n_stars)
    return Registration(np.eye(3), "reference", index, index, 0.0)


def _log_binomial_tail(hits: int, tries: int, p: float) -> float:
    """Natural logarithm of an upper bound (Chernoff) on the chance of `hits` or more among `tries` at probability p."""
    if tries == 0 or hits <= tries * p:
        return 0.0
    q = hits / tries
    first = q * math.log(q / p)
    second = (1 - q) * math.log((1 - q) / (1 - p)) if q < 1 else 0.0
    return -tries * (first + second)


class StarReference:
    """The reference's stars, with their k-d tree and asterisms, computed once for a session.

    Parameters
    ----------
    stars : catalogue of the reference frame.
    width, height : of the reference, px.
    """

    def __init__(self, stars: StarCatalog, width: int, height: int) -> None:
        self.stars = stars
        self.width = width
        self.height = height
        self.tree = cKDTree(stars.xy) if len(stars) else None
        self.shapes, self.corners = asterisms(stars.xy[:ASTERISM_STARS])
        self.shape_tree = cKDTree(self.shapes) if len(self.shapes) else None

    def match_near(self, xy: np.ndarray, matrix: np.ndarray, radius: float) -> tuple[np.ndarray, np.ndarray]:
        """Indices (frame, reference) of stars that are each other's nearest within `radius` once `matrix` is applied."""
        if self.tree is None or len(xy) == 0:
            return NO_STARS, NO_STARS
        mapped = tf.apply(matrix, xy)
        distance, index = self.tree.query(mapped, distance_upper_bound=radius)
        near = np.flatnonzero(np.isfinite(distance))
        if len(near) == 0:
            return NO_STARS, NO_STARS
        # keep one frame star for each reference star: the nearest
        order = near[np.lexsort((near, distance[near]))]
        _, first = np.unique(index[order], return_index=True)
        chosen = np.sort(order[first])
        return chosen, index[chosen]

    def chance(self, xy: np.ndarray, matrix: np.ndarray, hits: int, radius: float, free: int) -> float:
        """Natural log of the chance that luck matches as many stars; `free` of the hits were used to find the transform."""
        mapped = tf.apply(matrix, xy)
        inside = (
            (mapped[:, 0] > -radius) & (mapped[:, 0] < self.width + radius)
            & (mapped[:, 1] > -radius) & (mapped[:, 1] < self.height + radius)
        )
        tries = int(inside.sum())
        p = min(0.9, len(self.stars) * math.pi * radius**2 / (self.width * self.height))
        return _log_binomial_tail(max(0, hits - free), max(1, tries - free), p)


def asterisms(xy: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Triangles of each star with its near neighbours, described without regard to shift, scale and rotation.

    Parameters
    ----------
    xy : (n, 2) positions, brightest first.

    Returns
    -------
    shapes : (m, 2) the two other corners' position in the frame in which the longest side is the unit vector (a
        mirrored triangle has another shape).
    corners : (m, 3) star indices, ordered: start and end of the longest side, then the third corner.
    """
    n = len(xy)
    if n < 3:
        return np.empty((0, 2)), np.empty((0, 3), dtype=int)
    # Neighbours among nested subsets of the brightest, so that one missing faint star does not change every triangle.
    groups = set()
    for depth in (12, 25, n):
        part = xy[:depth]
        if len(part) < 3 or (depth != n and depth >= n):
            continue
        k = min(NEIGHBOURS, len(part))
        _, near = cKDTree(part).query(part, k=k)
        for row in np.atleast_2d(near):
            for a in range(k):
                for b in range(a + 1, k):
                    for c in range(b + 1, k):
                        groups.add(tuple(sorted((int(row[a]), int(row[b]), int(row[c])))))
    index = np.array(sorted(groups), dtype=int)
    p = xy[index]
    sides = np.stack([np.hypot(*(p[:, (k + 1) % 3] - p[:, k]).T) for k in range(3)], axis=1)
    longest = np.argmax(sides, axis=1)
    rows = np.arange(len(index))
    a, b, c = index[rows, longest], index[rows, (longest + 1) % 3], index[rows, (longest + 2) % 3]
    base = xy[b] - xy[a]
    z = ((xy[c] - xy[a])[:, 0] + 1j * (xy[c] - xy[a])[:, 1]) / (base[:, 0] + 1j * base[:, 1])
    # Direction of the base: the third corner lies nearer to its start (|z| < |z - 1|); else turn the base round.
    turn = z.real > 0.5
    z = np.where(turn, 1 - z, z)
    start, end = np.where(turn, b, a), np.where(turn, a, b)
    ordered = np.column_stack([start, end, c])
    shapes = np.column_stack([z.real, z.imag])
    slim = (np.abs(z.imag) < 0.03) | (sides.max(axis=1) < 12)
    return shapes[~slim], ordered[~slim]


def _verify(
    reference: StarReference, xy: np.ndarray, matrix: np.ndarray, settings: RegistrationSettings, first_radius: float,
) -> tuple[np.ndarray, np.ndarray, np.ndarray, float] | None:
    """Grow a rough transform into a least-squares one over all stars; None when it falls apart."""
    radius = first_radius
    frame_index, ref_index = NO_STARS, NO_STARS
    for _ in range(6):
        frame_index, ref_index = reference.match_near(xy, matrix, radius)
        if len(frame_index) < 2:
            return None
        source, target = xy[frame_index], reference.stars.xy[ref_index]
        residual = np.hypot(*(tf.apply(matrix, source) - target).T)
        centre = np.median(residual)
        keep = residual <= max(3.0 * centre, 0.3)
        if keep.sum() < 2:
            return None
        matrix = tf.fit_similarity(source[keep], target[keep])
        spread = 1.4826 * np.median(np.hypot(*(tf.apply(matrix, source[keep]) - target[keep]).T))
        new_radius = float(np.clip(5 * spread, 0.7, MATCH_RADIUS_PX))
        if new_radius >= radius and radius <= MATCH_RADIUS_PX:
            break
        radius = min(new_radius, radius)
    frame_index, ref_index = reference.match_near(xy, matrix, radius)
    if len(frame_index) < 2:
        return None
    matrix, used = _robust_similarity(
        xy[frame_index], reference.stars.xy[ref_index], reference.stars.snr[ref_index]
    )
    frame_index, ref_index = frame_index[used], ref_index[used]
    residual = np.hypot(*(tf.apply(matrix, xy[frame_index]) - reference.stars.xy[ref_index]).T)
    return matrix, frame_index, ref_index, float(np.sqrt(np.mean(residual**2)))


def _robust_similarity(source: np.ndarray, target: np.ndarray, snr: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Weighted similarity with Tukey reweighting; bright stars count more, down to the floor that seeing sets.

    Returns the matrix and the (n,) mask of stars that carried it.
    """
    floor = 0.02
    base = 1.0 / (floor**2 + (1.0 / np.maximum(snr, 1.0)) ** 2)
    base /= base.max()
    weights = base
    matrix = tf.fit_similarity(source, target, weights)
    used = np.ones(len(source), dtype=bool)
    for _ in range(5):
        scaled = np.hypot(*(tf.apply(matrix, source) - target).T) * np.sqrt(base)
        limit = max(4.685 * 1.4826 * float(np.median(scaled)), 0.05)
        tukey = np.clip(1 - (scaled / limit) ** 2, 0, None) ** 2
        used = tukey > 0
        if used.sum() < 2:
            break
        weights = base * tukey
        matrix = tf.fit_similarity(source[used], target[used], weights[used])
    return matrix, used


def _plausible_scale(matrix: np.ndarray, settings: RegistrationSettings) -> bool:
    scale = math.sqrt(abs(np.linalg.det(matrix[:2, :2])))
    return abs(math.log(scale)) <= math.log1p(settings.max_scale_change)


def _by_prediction(
    reference: StarReference, xy: np.ndarray, predicted: np.ndarray, settings: RegistrationSettings
) -> Registration | None:
    result = _verify(reference, xy, predicted, settings, PREDICT_RADIUS_PX)
    if result is None:
        return None
    matrix, frame_index, ref_index, rms = result
    hits = len(frame_index)
    if hits < 4 or rms > settings.max_rms_px or not _plausible_scale(matrix, settings):
        return None
    radius = max(3 * rms, 0.7)
    if reference.chance(xy, matrix, hits, radius, 2) > math.log(CHANCE_LIMIT):
        return None
    if hits < 0.3 * _expected_matches(reference, xy, matrix):
        return None
    return Registration(matrix, "predicted", frame_index, ref_index, rms)


def _expected_matches(reference: StarReference, xy: np.ndarray, matrix: np.ndarray) -> float:
    """How many matches a right transform should give: the smaller of both catalogues' counts in the overlap."""
    mapped = tf.apply(matrix, xy)
    inside = (mapped >= 0).all(axis=1) & (mapped[:, 0] < reference.width) & (mapped[:, 1] < reference.height)
    return min(float(inside.sum()), len(reference.stars) * inside.mean() if len(xy) else 0.0)


def _by_asterisms(reference: StarReference, xy: np.ndarray, settings: RegistrationSettings) -> Registration | None:
    if reference.shape_tree is None or len(xy) < 3:
        return None
    shapes, corners = asterisms(xy[:ASTERISM_STARS])
    if len(shapes) == 0:
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
    votes = np.array([len(v) for v in tree.query_ball_point(space, radius)])
    tried = np.zeros(len(space), dtype=bool)
    best: Registration | None = None
    best_score = math.log(CHANCE_LIMIT)
    for _ in range(12):
        votes_left = np.where(tried, -1, votes)
        top = int(np.argmax(votes_left))
        if votes_left[top] < 1:
            break
        cluster = np.asarray(tree.query_ball_point(space[top], radius), dtype=int)
        tried[cluster] = True
        source, target = a[cluster].reshape(-1, 2), b[cluster].reshape(-1, 2)
        rough = tf.fit_similarity(source, target)
        result = _verify(reference, xy, rough, settings, max(MATCH_RADIUS_PX, 0.004 * size))
        if result is None:
            continue
        matrix, frame_index, ref_index, rms = result
        hits = len(frame_index)
        if hits < 4 or rms > settings.max_rms_px or not _plausible_scale(matrix, settings):
            continue
        score = reference.chance(xy, matrix, hits, max(3 * rms, 0.7), 3)
        if hits < 0.2 * _expected_matches(reference, xy, matrix):
            continue
        if score < best_score:
            best_score = score
            best = Registration(matrix, "asterisms", frame_index, ref_index, rms)
            if hits > 0.5 * _expected_matches(reference, xy, matrix) and hits >= 8:
                break
    return best


def _by_few_stars(
    reference: StarReference, stars: StarCatalog, hint: np.ndarray | None, settings: RegistrationSettings
) -> Registration | None:
    """Two to five stars: a similarity of rotation and scale near the hint's from two; one star: a shift under the hint."""
    base = np.eye(3) if hint is None else hint
    mine, theirs = stars.xy[:6], reference.stars.xy[:6]
    if len(mine) == 0 or len(theirs) == 0:
        return None
    flux_mine, flux_theirs = stars.flux[:6], reference.stars.flux[:6]
    best: tuple[tuple[int, float], Registration] | None = None
    for i in range(len(mine)):
        for j in range(len(theirs)):
            if not 0.25 < flux_mine[i] / max(flux_theirs[j], 1e-9) < 4.0:
                continue
            shifted = base.copy()
            shifted[:2, 2] += theirs[j] - tf.apply(base, mine[i : i + 1])[0]
            frame_index, ref_index = reference.match_near(mine, shifted, 5.0)
            hits = len(frame_index)
            if hits == 0:
                continue
            matrix, rms, method = shifted, 0.0, "one star"
            if hits >= 2:
                source, target = mine[frame_index], theirs_at(reference, ref_index)
                matrix = tf.fit_similarity(source, target)
                turn = tf.decompose(matrix @ np.linalg.inv(base), reference.width, reference.height)
                if abs(turn.scale - 1) > 0.01 or abs(turn.rotation_deg) > 2.0:
                    matrix, hits = shifted, 1
                else:
                    rms = float(np.sqrt(np.mean(np.sum((tf.apply(matrix, source) - target) ** 2, axis=1))))
                    method = "two stars"
            if rms > settings.max_rms_px:
                continue
            if hits == 1:
                if min(len(mine), len(theirs)) > 1 and (len(mine) > 2 and len(theirs) > 2):
                    continue  # several stars, and only one agrees: that is chance
                if i != 0 or j != 0:
                    continue  # one star is believed only as the brightest of both
                frame_index, ref_index = np.array([i]), np.array([j])
            expected = min(len(mine), len(theirs))
            if hits < 0.5 * expected:
                continue
            score = (hits, -rms)
            if best is None or score > best[0]:
                best = (score, Registration(matrix, method, frame_index, ref_index, rms))
    return best[1] if best else None


def theirs_at(reference: StarReference, index: np.ndarray) -> np.ndarray:
    """(n, 2) positions of the reference's stars `index`."""
    return reference.stars.xy[index]


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
        found = _by_prediction(reference, stars.xy, hint, settings)
        if found is not None:
            return found
    found = _by_asterisms(reference, stars.xy, settings)
    if found is not None:
        return found
    if min(len(stars), len(reference.stars)) <= 6:
        found = _by_few_stars(reference, stars, hints[0] if hints else None, settings)
        if found is not None:
            return found
    return Unregistered(
        f"its {len(stars)} stars do not match the {len(reference.stars)} of the reference in any shift, rotation or scale"
    )
