"""Looking at the whole sky: foursomes of stars by their shape, in fields of 2.5 degrees and more.

The index is made when it is first needed, of stars thinned to one density for each size of field; nothing is written to
disk. Foursomes as in Lang et al. 2010, doi:10.1088/0004-6256/139/5/1782.
"""

from __future__ import annotations

import itertools
import math

import numpy as np
from scipy.spatial import cKDTree

from livestack.astrometry.catalogue import Catalogue
from livestack.astrometry.refine import Camera, Picture
from livestack.kernels import plate as kernel

SMALLEST_DEG, LARGEST_DEG = 2.2, 27.0
"""Sides of squares as large as the fields of the first and the last level."""
STEP = 1.42
FIELD_STARS = 11
"""Stars of a level in a square of its size."""
NEIGHBOURS = 5
CELL, TOLERANCE = 0.03, 0.014
TURN = 0.03
DEPTHS = (8, 12, 18, 26, 38)
"""Foursomes of the picture are of so many of its brightest stars, each with its neighbours."""
PICTURE_NEIGHBOURS = 7
MOST_MATCHES = 60_000
PROPOSED = 80
CHECKED = 6_000


class QuadIndex:
    """The foursomes of the catalogue, by shape."""

    def __init__(self, catalogue: Catalogue) -> None:
        self._catalogue = catalogue
        codes, stars = [], []
        side = SMALLEST_DEG
        self._levels: list[tuple[float, np.ndarray, cKDTree]] = []
        while side <= LARGEST_DEG:
            chosen = thin(catalogue, side)
            self._levels.append((math.radians(side), chosen, cKDTree(catalogue.vectors[chosen])))
            code, four = _quads_of_sky(catalogue.vectors[chosen], math.radians(side))
            codes.append(code)
            stars.append(chosen[four].astype(np.int32))
            side *= STEP
        self._codes, self._stars = np.concatenate(codes), np.concatenate(stars)
        keys = np.empty(len(self._codes), dtype=np.int64)
        kernel.quad_keys(self._codes, CELL, keys)
        order = np.argsort(keys, kind="stable")
        self._keys, self._codes, self._stars = keys[order], self._codes[order], self._stars[order]

    def __len__(self) -> int:
        return len(self._keys)

    def propose(self, picture: Picture, scale_arcsec: float | None) -> tuple[list[Camera], int]:
        """Cameras that foursomes propose, best supported first, and how many there were.

        Parameters
        ----------
        scale_arcsec : about the scale, where it is known.
        """
        xy = picture.centred
        codes, quads, parity = _quads_of_picture(xy)
        if not len(codes):
            return [], 0
        found = np.empty((MOST_MATCHES, 2), dtype=np.int32)
        total = kernel.match_quads(codes, self._keys, self._codes, CELL, TOLERANCE, found)
        found = found[: min(total, MOST_MATCHES)]
        cameras = np.empty((len(found), 11))
        vectors = self._catalogue.vectors
        kept = kernel.propose_by_quads(found, xy, quads, vectors, self._stars, parity, TURN, cameras)
        cameras = cameras[:kept]
        if scale_arcsec is not None:
            cameras = cameras[np.abs(np.log(cameras[:, 0] * scale_arcsec / 206264.806)) < 0.35]
        return self._rank(picture, cameras), max(total, 1)

    def _rank(self, picture: Picture, cameras: np.ndarray) -> list[Camera]:
        """By how many others propose the same, then by the stars that support them."""
        if not len(cameras):
            return []
        f, turn = cameras[:, 0], cameras[:, 2:11]
        field = picture.diagonal / f
        # in units of the field: true ones agree to a percent or two of it
        space = np.column_stack([turn / field[:, None], np.log(f) * 2])
        votes = cKDTree(space).query_ball_point(space, 0.06, return_length=True)
        order = np.argsort(-votes, kind="stable")[:CHECKED]
        bright = min(DEPTHS[-1] + 12, len(picture.mag))
        xy, mag, half = picture.centred[:bright], picture.mag[:bright], picture.half
        radius = 3.0 + 0.005 * picture.diagonal
        first, following = kernel.raster_of(xy, half, max(radius, 2 * float(half.max()) / kernel.CELLS))
        scored = []
        for k in order:
            rotation = np.ascontiguousarray(turn[k].reshape(3, 3))
            near = self._near(rotation[2], math.atan(0.5 * picture.diagonal / f[k]), field[k])
            inside, hits = kernel.support(
                rotation, f[k], cameras[k, 1], self._catalogue.vectors[near], self._catalogue.g[near], xy, mag, half,
                first, following, radius, 0.0, 1e9,
            )  # fmt: skip
            scored.append((hits - 0.25 * (inside - hits), int(votes[k]), int(k)))
        scored.sort(reverse=True)
        return [Camera(f[k], cameras[k, 1], turn[k].reshape(3, 3)) for _, _, k in scored[:PROPOSED]]

    def _near(self, axis: np.ndarray, radius: float, field: float) -> np.ndarray:
        """Stars of the level that fits, around a direction."""
        sizes = [abs(math.log(0.6 * field / side)) for side, _, _ in self._levels]
        _, chosen, tree = self._levels[int(np.argmin(sizes))]
        return chosen[tree.query_ball_point(axis, 2 * math.sin(min(radius, 3.0) / 2))]


def thin(catalogue: Catalogue, side_deg: float) -> np.ndarray:
    """Indices of the brightest stars, about as many in each square of that side, brightest first."""
    cell = math.radians(side_deg) / 2
    each = max(1, round(FIELD_STARS / 4))
    v = catalogue.vectors
    dec = np.arcsin(np.clip(v[:, 2], -1, 1))
    band = np.floor((dec + math.pi / 2) / cell).astype(np.int64)
    middle = (band + 0.5) * cell - math.pi / 2
    around = np.maximum(1, np.round(2 * math.pi * np.cos(middle) / cell)).astype(np.int64)
    ra = np.arctan2(v[:, 1], v[:, 0]) % (2 * math.pi)
    place = band * 100_000 + np.minimum((ra / (2 * math.pi) * around).astype(np.int64), around - 1)
    order = np.lexsort((np.arange(len(v)), place))  # the catalogue is in order of brightness
    sorted_place = place[order]
    start = np.flatnonzero(np.r_[True, sorted_place[1:] != sorted_place[:-1]])
    rank = np.arange(len(v)) - np.repeat(start, np.diff(np.r_[start, len(v)]))
    return np.sort(order[rank < each])


def _fours(near: np.ndarray) -> np.ndarray:
    """(q, 4) foursomes: each star (first column of `near`) with three of its neighbours, each once."""
    n = near.shape[1] - 1
    parts = [near[:, [0, 1 + a, 1 + b, 1 + c]] for a, b, c in itertools.combinations(range(n), 3)]
    four = np.sort(np.concatenate(parts), axis=1).astype(np.int64)
    first, second = four[:, 0] << 32 | four[:, 1], four[:, 2] << 32 | four[:, 3]
    order = np.lexsort((second, first))
    first, second = first[order], second[order]
    new = np.r_[True, (first[1:] != first[:-1]) | (second[1:] != second[:-1])]
    return four[order[new]]


def _quads_of_sky(vectors: np.ndarray, side: float) -> tuple[np.ndarray, np.ndarray]:
    """Codes (q, 4) float32 and stars (q, 4) of a level's foursomes, none wider than its field."""
    _, near = cKDTree(vectors).query(vectors, k=NEIGHBOURS + 1)
    four = _fours(near)
    middle = vectors[four].mean(axis=1)
    middle /= np.linalg.norm(middle, axis=1)[:, None]
    east = np.column_stack([-middle[:, 1], middle[:, 0], np.zeros(len(middle))])
    east /= np.maximum(np.linalg.norm(east, axis=1), 1e-12)[:, None]
    north = np.cross(middle, east)
    places = np.empty((len(four), 4, 2))
    for k in range(4):
        v = vectors[four[:, k]]
        depth = np.einsum("ij,ij->i", v, middle)
        # seen from outside the sphere as a camera sees it: x to the west
        places[:, k, 0] = -np.einsum("ij,ij->i", v, east) / depth
        places[:, k, 1] = -np.einsum("ij,ij->i", v, north) / depth
    wide = np.ptp(places, axis=1).max(axis=1)
    good = (wide < side) & (wide > 0.05 * side)
    codes, order = np.full((int(good.sum()), 4), np.nan, dtype=np.float32), four[good].astype(np.int32)
    kernel.quad_codes(places[good], four[good].astype(np.int32), order, codes)
    known = np.isfinite(codes).all(axis=1)
    return codes[known], order[known]


def _quads_of_picture(xy: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Codes, stars and parity of the picture's foursomes, as seen and as a mirror image."""
    fours = []
    for depth in DEPTHS:
        part = xy[:depth]
        if len(part) < 4:
            continue
        k = min(PICTURE_NEIGHBOURS + 1, len(part))
        _, near = cKDTree(part).query(part, k=k)
        fours.append(_fours(near))
        if depth >= len(xy):
            break
    if not fours:
        return np.empty((0, 4), np.float32), np.empty((0, 4), np.int32), np.empty(0)
    four = np.unique(np.concatenate(fours), axis=0).astype(np.int32)
    results = []
    for parity in (1.0, -1.0):
        places = xy[four] * (parity, 1.0)
        codes, order = np.full((len(four), 4), np.nan, dtype=np.float32), four.copy()
        kernel.quad_codes(places, four, order, codes)
        results.append((codes, order, np.full(len(four), parity)))
    codes, quads, sides = (np.concatenate(part) for part in zip(*results, strict=True))
    return codes, quads, sides
