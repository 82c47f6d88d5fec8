"""From a rough camera to a map of the sky: all stars matched, the map fitted, bent where the lens deserves it, judged.

The map touches the sky in the middle of the picture. It begins as scale, rotation and parity, becomes affine, then gets
polynomials of SIP as long as stars that were left out of a fit are met better for it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
from scipy.spatial import cKDTree

from livestack.astrometry.catalogue import Catalogue, to_degrees
from livestack.astrometry.sky_map import SkyMap, monomials, powers
from livestack.registration.reference import log_binomial_tail

ORDERS = (1, 2, 3)
STARS_FOR = {1: 5, 2: 16, 3: 26}
"""Stars that an affine map, a quadratic and a cubic one need; fewer get scale and rotation alone."""
GAIN = 0.92
"""A higher order must leave this share of the scatter, in stars that the fit did not see."""
LEAST_RADIUS_PX = 0.6
MOST_RMS_PX = 2.5
"""A map that leaves more is none."""
BRIGHT_FIRST = 60
"""A rough map is first made of so many: among all of them a wrong star is always near."""
FREE = (2, 3, 6, 10)
"""Stars that each order uses up."""
MOST_LEVERAGE = 4.0
"""A bent map must know the picture's corners to twice the scatter of its stars: where there are none it goes astray."""
ZONES, ZONE_STARS, ZONE_SHARE = 3, 12, 0.3
"""In each of 3 x 3 parts of the picture with so many expected stars this share of what the whole picture meets."""
RAYLEIGH = 0.8493
"""Scatter in one coordinate over the median distance in two."""
SLACK_MAG = 1.0
LEAST_SPREAD_MAG = 0.8
"""Bright stars are clipped: the brightest may be so much fainter than the others tell."""


@dataclass(frozen=True, eq=False)
class Camera:
    """A proposal: focal length in px, parity, rotation (3, 3) sky -> camera; see `kernels.plate`."""

    f: float
    parity: float
    rotation: np.ndarray

    def map(self, width: int, height: int) -> SkyMap:
        ra, dec = to_degrees(self.rotation[2])
        east = np.array([-math.sin(math.radians(ra)), math.cos(math.radians(ra)), 0.0])
        north = np.cross(self.rotation[2], east)
        # a pixel's step along x is parity * (first row) / f on the tangent plane
        steps = np.array([self.parity * self.rotation[0], self.rotation[1]]) / self.f
        cd = np.degrees(np.array([steps @ east, steps @ north]))
        return SkyMap(float(ra), float(dec), (width - 1) / 2, (height - 1) / 2, cd, width, height)


@dataclass(frozen=True, eq=False)
class Picture:
    """The stars of a picture, brightest first.

    Attributes
    ----------
    xy : (n, 2) px; mag : (n,) -2.5 log10(flux).
    """

    xy: np.ndarray
    mag: np.ndarray
    width: int
    height: int

    @property
    def centred(self) -> np.ndarray:
        return np.asarray(self.xy - ((self.width - 1) / 2, (self.height - 1) / 2))

    @property
    def half(self) -> np.ndarray:
        return np.array([self.width / 2, self.height / 2])

    @property
    def diagonal(self) -> float:
        return math.hypot(self.width, self.height)


@dataclass(frozen=True, eq=False)
class Fit:
    """A map with what speaks for it.

    Attributes
    ----------
    mine, theirs : (k,) indices of matched stars of the picture, of the catalogue.
    expected : catalogue stars that should be there; rms_px : of the distances.
    log_chance : ln of the chance that luck matches so many, for one proposal.
    zero : magnitude of the picture minus that of the catalogue.
    """

    sky: SkyMap
    mine: np.ndarray
    theirs: np.ndarray
    expected: int
    rms_px: float
    log_chance: float
    zero: float

    @property
    def hits(self) -> int:
        return len(self.mine)


def refine(picture: Picture, catalogue: Catalogue, camera: Camera, radius_px: float) -> Fit | None:
    """Grow a proposal into a fit over all stars; None when it falls apart.

    Parameters
    ----------
    radius_px : how far from its place a star may be under the proposal.
    """
    fit, order = _grow(picture, catalogue, camera, radius_px, ORDERS[-1])
    if fit is None and order > 1:  # bent on too few stars, perhaps
        fit, _ = _grow(picture, catalogue, camera, radius_px, 1)
    return fit


def _grow(
    picture: Picture, catalogue: Catalogue, camera: Camera, radius_px: float, most_order: int
) -> tuple[Fit | None, int]:
    """As `refine`, with no higher order than that; and the order that it came to."""
    sky = camera.map(picture.width, picture.height)
    field = _Field(picture, catalogue, sky)
    radius, order, zero = radius_px, 0, None
    pairs: tuple[np.ndarray, np.ndarray] | None = None
    for number in range(9):
        pairs = field.match(sky, radius, zero, BRIGHT_FIRST if number < 2 else None)
        if len(pairs[0]) < 3:
            return None, order
        order, keep = field.choose(sky, *pairs, most_order)
        pairs = pairs[0][keep], pairs[1][keep]
        if len(pairs[0]) < 3:
            return None, order
        sky = field.fit(sky, *pairs, order)
        zero = float(np.median(picture.mag[pairs[0]] - catalogue.g[pairs[1]]))
        sigma = field.sigma(sky, *pairs, order)
        new = float(np.clip(4.0 * sigma, LEAST_RADIUS_PX, radius_px))
        if number > 2 and abs(new - radius) < 0.05 * radius:
            break
        radius = new
    assert pairs is not None
    return field.judge(sky, pairs, order, radius, zero or 0.0), order


class _Field:
    """The picture's stars against the catalogue's in and around it."""

    def __init__(self, picture: Picture, catalogue: Catalogue, sky: SkyMap) -> None:
        self.picture, self.catalogue = picture, catalogue
        radius = math.radians(0.55 * math.hypot(*sky.field_deg))
        near = catalogue.around(_axis(sky), radius)
        # no deeper than the picture: what it cannot show would only be met by chance
        self.index = near[: max(30, 2 * len(picture.mag))]
        self.vectors = catalogue.vectors[self.index]
        self.tree = cKDTree(picture.xy)
        self.middle = (picture.width - 1) / 2, (picture.height - 1) / 2

    def inside(self, places: np.ndarray) -> np.ndarray:
        with np.errstate(invalid="ignore"):
            low = (places >= -0.5).all(axis=1)
            return low & (places[:, 0] < self.picture.width - 0.5) & (places[:, 1] < self.picture.height - 0.5)

    def match(
        self, sky: SkyMap, radius: float, zero: float | None, bright: int | None = None
    ) -> tuple[np.ndarray, np.ndarray]:
        """Indices (picture, catalogue) of stars that are each other's nearest, of about the same brightness.

        Parameters
        ----------
        bright : only so many of the brightest of both.
        """
        places = sky.pixels_of(self.vectors)
        seen = np.flatnonzero(self.inside(places))[:bright]
        if not len(seen):
            return seen, seen
        tree = self.tree if bright is None else cKDTree(self.picture.xy[:bright])
        distance, nearest = tree.query(places[seen], distance_upper_bound=radius)
        good = np.isfinite(distance)
        seen, nearest, distance = seen[good], nearest[good], distance[good]
        if zero is not None:
            off = self.picture.mag[nearest] - self.catalogue.g[self.index[seen]] - zero
            good = np.abs(off) < 2 * SLACK_MAG
            seen, nearest, distance = seen[good], nearest[good], distance[good]
        order = np.argsort(distance, kind="stable")
        _, first = np.unique(nearest[order], return_index=True)
        chosen = order[first]
        return nearest[chosen], self.index[seen[chosen]]

    def residuals(self, sky: SkyMap, mine: np.ndarray, theirs: np.ndarray) -> np.ndarray:
        return np.asarray(sky.pixels_of(self.catalogue.vectors[theirs]) - self.picture.xy[mine])

    def choose(self, sky: SkyMap, mine: np.ndarray, theirs: np.ndarray, most: int) -> tuple[int, np.ndarray]:
        """The order that stars left out speak for, 0 (scale and rotation) to `most`; which pairs (k,) it leaves."""
        half = 0.5 * max(self.picture.width, self.picture.height)
        uv = (self.picture.xy[mine] - self.middle) / half
        # the sky in pixels of the map so far: fits are compared there, without inverting polynomials
        plane = np.degrees(sky.plane_of(self.catalogue.vectors[theirs])) * (3600.0 / sky.scale_arcsec)
        sign = math.copysign(1.0, float(np.linalg.det(sky.cd)))
        corners = np.array([[x, y] for x in (-1, 1) for y in (-1, 1)]) * self.picture.half / half
        keep, order = np.ones(len(mine), dtype=bool), 0
        for _ in range(5):
            order, off = _best_order(uv, plane, sign, keep, corners, most)
            new = off <= max(4.0 * RAYLEIGH * float(np.median(off[keep])), 0.3)
            if new.sum() < 3 or (new == keep).all():
                break
            keep = new
        return order, keep

    def fit(self, sky: SkyMap, mine: np.ndarray, theirs: np.ndarray, order: int, rounds: int = 3) -> SkyMap:
        """Least squares from pixels to the tangent plane; the point of touch moves until the middle lies on it."""
        uv = self.picture.xy[mine] - self.middle
        sky = replace(sky, x=self.middle[0], y=self.middle[1])
        half = 0.5 * max(self.picture.width, self.picture.height)
        for _ in range(rounds):
            plane = np.degrees(sky.plane_of(self.catalogue.vectors[theirs]))
            offset, linear, bent = _solve(uv / half, plane, order, math.copysign(1.0, float(np.linalg.det(sky.cd))))
            cd = linear / half
            sip = np.empty((0, 2))
            if order >= 2:
                scaled = bent / np.array([half ** (p + q) for p, q in powers(order)])[:, None]
                sip = scaled @ np.linalg.inv(cd).T
            touched = replace(sky, cd=np.eye(2), order=0, sip=np.empty((0, 2)), x=0.0, y=0.0).to_sky(offset[None])[0]
            sky = replace(sky, ra_deg=float(touched[0]), dec_deg=float(touched[1]), cd=cd, order=order, sip=sip)
            if np.hypot(*offset) * 3600 < 1e-4 * sky.scale_arcsec:
                break
        return sky

    def sigma(self, sky: SkyMap, mine: np.ndarray, theirs: np.ndarray, order: int) -> float:
        """Scatter in one coordinate, px, with the degrees of freedom of the fit put back."""
        off = np.hypot(*self.residuals(sky, mine, theirs).T)
        free = len(mine) - FREE[order]
        return RAYLEIGH * float(np.median(off)) * math.sqrt(len(mine) / max(free, 1))

    def judge(
        self, sky: SkyMap, pairs: tuple[np.ndarray, np.ndarray], order: int, radius: float, zero: float
    ) -> Fit | None:
        mine, theirs = self.match(sky, radius, zero)
        if len(mine) < 3:
            return None
        picture, g = self.picture, self.catalogue.g
        off = self.residuals(sky, mine, theirs)
        offset = picture.mag[mine] - g[theirs]
        zero = float(np.median(offset))
        spread = float(np.clip(3 * 1.4826 * np.median(np.abs(offset - zero)), LEAST_SPREAD_MAG, SLACK_MAG))
        good = np.abs(offset - zero) <= spread
        places = sky.pixels_of(self.vectors)
        inside = self.inside(places)
        seen = self.index[inside]
        # a star that luck matches is one of those of its brightness
        ordered = np.sort(picture.mag)
        alike = np.searchsorted(ordered, g[seen] + zero + spread) - np.searchsorted(ordered, g[seen] + zero - spread)
        deep = g[seen] + zero <= ordered[-1]
        seen, alike = seen[deep], alike[deep]
        hits = int(good.sum())
        if hits < 3 or not self._met_everywhere(places[inside][deep], self.picture.xy[mine[good]]):
            return None
        p = float(np.mean(alike)) * math.pi * radius**2 / (picture.width * picture.height) if len(alike) else 1.0
        free = FREE[order]
        expected = max(len(seen), hits)
        chance = log_binomial_tail(max(0, hits - free), max(1, expected - free), min(0.9, max(p, 1e-9)))
        rms = math.sqrt(float(np.mean(np.sum(off[good] ** 2, axis=1))))
        if rms > MOST_RMS_PX:
            return None
        return Fit(sky, mine[good], theirs[good], expected, rms, chance, zero)

    def _met_everywhere(self, expected: np.ndarray, met: np.ndarray) -> bool:
        """Whether no part of the picture with many expected stars (n, 2) is left out: there the map would be wrong."""
        size = self.picture.half * 2 / ZONES

        def by_zone(places: np.ndarray) -> np.ndarray:
            column, row = np.clip((places / size).astype(int), 0, ZONES - 1).T
            return np.bincount(row * ZONES + column, minlength=ZONES**2)

        there, found = by_zone(expected), by_zone(met)
        usual = len(met) / max(len(expected), 1)
        many = there >= ZONE_STARS
        return bool((found[many] >= ZONE_SHARE * usual * there[many]).all())


def _axis(sky: SkyMap) -> np.ndarray:
    return sky._axes()[2]


def _best_order(
    uv: np.ndarray, plane: np.ndarray, sign: float, keep: np.ndarray, corners: np.ndarray, most: int
) -> tuple[int, np.ndarray]:
    """The order under which each kept pair is met best by a fit to the others, and the distances (k,) it leaves."""
    n = int(keep.sum())
    best, least, distances = 0, math.inf, np.full(len(uv), math.inf)
    for order in range(most + 1):
        if order and n < STARS_FOR[order]:
            break
        if order > 1 and _leverage(uv[keep], corners, order) > MOST_LEVERAGE:
            break
        offset, linear, bent = _solve(uv[keep], plane[keep], order, sign)
        design = monomials(uv, order)
        off = np.hypot(*(offset + uv @ linear.T + design @ bent - plane).T)
        if order:
            orthogonal = np.linalg.qr(np.column_stack([np.ones(n), uv[keep], design[keep]]))[0]
            left_out = off[keep] / np.maximum(1.0 - np.sum(orthogonal**2, axis=1), 0.05)  # exact, without refitting
        else:
            left_out = off[keep] * n / max(n - 2, 0.5)
        scatter = float(np.median(left_out))
        if scatter < GAIN * least:
            best, least, distances = order, scatter, off
    return best, distances


def _leverage(uv: np.ndarray, at: np.ndarray, order: int) -> float:
    """Largest variance of a fit to places (n, 2) at other places, in units of the variance of one star."""

    def terms(where: np.ndarray) -> np.ndarray:
        return np.column_stack([np.ones(len(where)), where, monomials(where, order)])

    root = np.asarray(np.linalg.qr(terms(uv), mode="r"))
    if np.linalg.cond(root) > 1e8:
        return math.inf
    return float(np.max(np.sum(np.linalg.solve(root.T, terms(at).T) ** 2, axis=0)))


def _solve(uv: np.ndarray, plane: np.ndarray, order: int, sign: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Offset (2,), linear part (2, 2), and higher terms (terms, 2) of plane = offset + linear uv + ...

    Order 0 keeps angles: `sign` is that of the linear part's determinant.
    """
    if order == 0:
        middle, where = uv.mean(axis=0), plane.mean(axis=0)
        z = (uv[:, 0] - middle[0]) + 1j * sign * (uv[:, 1] - middle[1])
        w = (plane[:, 0] - where[0]) + 1j * (plane[:, 1] - where[1])
        turn = np.vdot(z, w) / np.vdot(z, z)
        linear = np.array([[turn.real, -sign * turn.imag], [turn.imag, sign * turn.real]])
        return where - linear @ middle, linear, np.empty((0, 2))
    design = np.column_stack([np.ones(len(uv)), uv, monomials(uv, order)])
    found = np.linalg.lstsq(design, plane, rcond=None)[0]
    return found[0], found[1:3].T, found[3:]
