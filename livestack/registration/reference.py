"""The reference's stars, by position and by shape; what supports a transform, and what luck would do as well."""

from __future__ import annotations

import math

import numpy as np
from scipy.spatial import cKDTree

from livestack.detection import StarCatalog
from livestack.registration import transform as tf
from livestack.registration.asterisms import ASTERISM_STARS, asterisms
from livestack.registration.transform import Registration

NO_STARS = np.empty(0, dtype=int)


def reference_registration(n_stars: int) -> Registration:
    """The reference onto itself."""
    index = np.arange(n_stars)
    return Registration(np.eye(3), "reference", index, index, 0.0)


def log_binomial_tail(hits: int, tries: int, p: float) -> float:
    """Natural log of an upper bound on the chance of `hits` or more among `tries` at probability p: Chernoff's, or the
    number of choices of `hits` times the chance of one, whichever is lower."""
    if tries == 0 or hits <= tries * p:
        return 0.0
    q = hits / tries
    first = q * math.log(q / p)
    second = (1 - q) * math.log((1 - q) / (1 - p)) if q < 1 else 0.0
    choices = math.lgamma(tries + 1) - math.lgamma(hits + 1) - math.lgamma(tries - hits + 1)
    return min(-tries * (first + second), choices + hits * math.log(p))


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
        """Indices (frame, reference) of stars that are each other's nearest within `radius` under `matrix`."""
        if self.tree is None or len(xy) == 0:
            return NO_STARS, NO_STARS
        distance, index = self.tree.query(tf.apply(matrix, xy), distance_upper_bound=radius)
        near = np.flatnonzero(np.isfinite(distance))
        if len(near) == 0:
            return NO_STARS, NO_STARS
        # keep one frame star for each reference star: the nearest
        order = near[np.lexsort((near, distance[near]))]
        _, first = np.unique(index[order], return_index=True)
        chosen = np.sort(order[first])
        return chosen, index[chosen]

    def in_overlap(self, xy: np.ndarray, matrix: np.ndarray, size: tuple[float, float]) -> tuple[int, int]:
        """How many frame stars fall on the reference, and how many reference stars on a frame of `size`."""
        mapped = tf.apply(matrix, xy)
        mine = (mapped >= -0.5).all(axis=1) & (mapped[:, 0] < self.width) & (mapped[:, 1] < self.height)
        back = tf.apply(np.linalg.inv(matrix), self.stars.xy)
        theirs = (back >= -0.5).all(axis=1) & (back[:, 0] < size[0]) & (back[:, 1] < size[1])
        return int(mine.sum()), int(theirs.sum())

    def log_chance(self, tries: int, hits: int, radius: float, free: int, share: float = 1.0) -> float:
        """Natural log of the chance that luck matches `hits` of `tries` stars within `radius` of a reference star.

        `free` of the hits were used to find the transform: they prove nothing. `share` of the reference stars would
        pass for a given star by brightness.
        """
        p = min(0.9, share * len(self.stars) * math.pi * radius**2 / (self.width * self.height))
        return log_binomial_tail(max(0, hits - free), max(1, tries - free), p)
