"""Plate solving: with a hint pairs of stars against the catalogue around it, without one foursomes against all the sky.

Every proposal is a camera (rotation, focal length, parity), is grown into a fit over all stars (`refine`) and believed
only where luck would do as well less often than once in 10,000 nights, all proposals that were tried counted.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from livestack.astrometry.blind import QuadIndex
from livestack.astrometry.catalogue import Catalogue, to_degrees, to_vectors
from livestack.astrometry.facts import FieldStars
from livestack.astrometry.refine import Camera, Fit, Picture, refine
from livestack.astrometry.sky_map import SkyMap
from livestack.kernels import plate as kernel

LOG_CHANCE = math.log(1e-4)
PAIR_STARS = 32
"""So many of the brightest stars of the picture propose, in pairs."""
CATALOGUE_STARS = 150
FIELD_STARS = 22
"""Catalogue stars a field that pairs are made of, and at most so many in all."""
SPREAD_FROM = 8
"""They are chosen evenly among so many times as many of the brightest."""
SLACK_MAG = 1.0
KEPT = 24
ENOUGH = 7
"""A proposal that so many stars support ends the search for others."""
FIELD_SHARE, MOST_FIELD_STARS = 1.3, 3000
"""Stars that are remembered of a solved field: around it, too, where the canvas may grow."""
MOST_STARS = 500
NARROW_DEG = 2.0
"""A field that the header says is smaller is not looked for in the whole sky."""
SIDES_DEG = (1.5, 3.1, 0.75, 6.4, 13.0, 27.0)
"""Longer sides of fields that are tried, likeliest first, where the scale is not known."""
YEARS = 0.5
"""A catalogue serves so long."""


@dataclass(frozen=True)
class Hint:
    """What is known beforehand; all may be None.

    Attributes
    ----------
    ra_deg, dec_deg : about the middle of the picture.
    scale_arcsec : about the arcseconds of a pixel.
    sure : the scale is known to 1 part in 100 (the same camera was solved before).
    whence : who says so.
    """

    ra_deg: float | None = None
    dec_deg: float | None = None
    scale_arcsec: float | None = None
    sure: bool = False
    whence: str = "where the header points"

    @property
    def points(self) -> bool:
        """Whether it says where to look."""
        return self.ra_deg is not None and self.dec_deg is not None


@dataclass(frozen=True, eq=False)
class Solved:
    """Where a picture lies.

    Attributes
    ----------
    sky : pixels to sky; solver : who found it; sentence : for people.
    mine : (k,) indices of the matched stars as they were given; theirs : (k,) indices in the catalogue.
    rms_px : root mean square distance; log_chance : ln of the chance that luck matches as much; NaN where a program
        that is installed has solved it, and for `rms_px` where our catalogue has no star there.
    field : the catalogue's stars in and around the picture, brightest first.
    """

    sky: SkyMap
    solver: str
    sentence: str
    mine: np.ndarray
    theirs: np.ndarray
    rms_px: float
    log_chance: float
    field: FieldStars

    @property
    def n_matched(self) -> int:
        return len(self.mine)

    @property
    def rms_arcsec(self) -> float:
        return self.rms_px * self.sky.scale_arcsec


@dataclass(frozen=True)
class Unsolved:
    """Why not, and what to do."""

    sentence: str


@dataclass(frozen=True)
class _Round:
    """How far the hint is trusted: ln of the scale, and of the field's longer side as pointing error."""

    log_scale: float
    reach_fields: float
    least_reach_deg: float


_ROUNDS = (_Round(0.012, 0.15, 0.3), _Round(0.06, 0.3, 0.6), _Round(0.36, 0.6, 1.5))


class Solver:
    """Solves plates; holds the catalogue, once it was needed."""

    def __init__(self) -> None:
        self._catalogue: Catalogue | None = None
        self._quads: QuadIndex | None = None

    def catalogue(self, year: float) -> Catalogue:
        """The stars at a year.

        Raises
        ------
        LivestackError : no catalogue is installed.
        """
        known = self._catalogue
        if known is None or (known.moves and abs(known.year - year) > YEARS):
            self._catalogue = Catalogue.load(year)
            self._quads = None
            return self._catalogue
        return known

    def solve(
        self, xy: np.ndarray, flux: np.ndarray, width: int, height: int, hint: Hint, year: float
    ) -> Solved | Unsolved:
        """Find where a picture lies.

        Parameters
        ----------
        xy : (n, 2) places of its stars, px, 0-based, in any order; flux : (n,) ADU.
        width, height : of the picture, px.
        hint : what is known.
        year : when it was taken, Julian, e.g. 2026.9.

        Raises
        ------
        LivestackError : no catalogue is installed.
        """
        catalogue = self.catalogue(year)
        usable = np.flatnonzero(np.isfinite(xy).all(axis=1) & (flux > 0))
        order = usable[np.argsort(-flux[usable], kind="stable")][:MOST_STARS]
        picture = Picture(np.asarray(xy, dtype=float)[order], -2.5 * np.log10(flux[order]), width, height)
        if len(order) < 3:
            return Unsolved(f"not solved: the picture has {len(order)} stars, expected at least 3")
        fit = self._hinted(picture, catalogue, hint)
        how = f"near {hint.whence}"
        if fit is None and (hint.scale_arcsec is None or _side_deg(picture, hint.scale_arcsec) > NARROW_DEG):
            fit, how = self._blind(picture, catalogue, hint), "without knowing where to look"
        if fit is None:
            return Unsolved(_why(picture, hint))
        ra, dec = fit.sky.centre
        wide, high = fit.sky.field_deg
        said = (
            f"solved {how}: RA {ra:.4f} deg, Dec {dec:+.4f} deg, {fit.sky.scale_arcsec:.3f} arcsec per pixel, "
            f"{wide:.2f} x {high:.2f} deg, {fit.hits} stars within {fit.rms_px:.2f} px"
        )
        return Solved(
            fit.sky,
            "livestack",
            said,
            order[fit.mine],
            fit.theirs,
            fit.rms_px,
            fit.log_chance,
            catalogue_stars(fit.sky, catalogue)[1],
        )

    def _hinted(self, picture: Picture, catalogue: Catalogue, hint: Hint) -> Fit | None:
        """Around a place; where the scale is not known, for one size of the field after the other."""
        if hint.ra_deg is None or hint.dec_deg is None:
            return None
        pointing = to_vectors(hint.ra_deg, hint.dec_deg)
        longer, spent = max(picture.width, picture.height), 0
        if hint.scale_arcsec is not None:
            trials = [(hint.scale_arcsec, step) for step in (_ROUNDS[:1] if hint.sure else _ROUNDS)]
        else:
            trials = [(side * 3600 / longer, _ROUNDS[-1]) for side in SIDES_DEG]
        for scale, step in trials:
            fit, tried = self._around(picture, catalogue, pointing, scale, step, spent)
            spent += tried
            if fit is not None:
                return fit
        return None

    def _around(
        self, picture: Picture, catalogue: Catalogue, pointing: np.ndarray, scale: float, step: _Round, spent: int
    ) -> tuple[Fit | None, int]:
        """One round: the fit, and how many proposals there were; `spent` were tried before."""
        f0 = 206264.806 / scale
        field = math.degrees(2 * math.atan(0.5 * max(picture.width, picture.height) / f0))
        bright, tried = min(PAIR_STARS, len(picture.mag)), 0
        reach = math.radians(max(step.least_reach_deg, step.reach_fields * field))
        f_low = f0 * math.exp(-step.log_scale)
        cone = reach + math.atan(0.5 * picture.diagonal / f_low)
        area = picture.width * picture.height / f0**2
        whole = 2 * math.pi * (1 - math.cos(min(cone, 1.5)))
        depth = min(CATALOGUE_STARS, max(20, round(FIELD_STARS * whole / area)))
        around = catalogue.around(pointing, min(cone, 1.5), SPREAD_FROM * depth)
        index = catalogue.spread(around, 0.3 * picture.diagonal / f0, depth)
        if len(index) < 3:
            return None, 0
        vectors, g = catalogue.vectors[index], catalogue.g[index].astype(float)
        pairs, angles = _pairs(vectors, 2 * math.atan(0.5 * picture.diagonal / f_low) * 1.01)
        radius = 2.0 + 0.003 * picture.diagonal * (1.0 if field > 5 else 0.3)
        best = np.zeros((KEPT, 15))
        for enough in (ENOUGH, len(g) + 1):  # what many stars support is looked at first
            tried += kernel.propose_by_pairs(
                picture.centred[:bright], picture.mag[:bright], picture.half, vectors, g, pairs, angles, pointing,
                f0, step.log_scale, reach, 0.12 * picture.diagonal, radius, SLACK_MAG, enough, best,
            )  # fmt: skip
            cameras = [Camera(row[3], row[4], row[5:14].reshape(3, 3)) for row in best if row[1] >= 3]
            fit = self._best(picture, catalogue, cameras, 2 * radius, spent + tried)
            if fit is not None:
                return fit, tried
            if best[0, 1] < ENOUGH:
                break  # all were tried
        return None, tried

    def release(self) -> None:
        """Let go of the catalogue and what was made of it; read again when it is needed again."""
        self._quads = self._catalogue = None

    def _blind(self, picture: Picture, catalogue: Catalogue, hint: Hint) -> Fit | None:
        if self._quads is None:
            self._quads = QuadIndex(catalogue)
        cameras, tried = self._quads.propose(picture, hint.scale_arcsec)
        return self._best(picture, catalogue, cameras, 4.0 + 0.006 * picture.diagonal, tried)

    def _best(
        self, picture: Picture, catalogue: Catalogue, cameras: list[Camera], radius: float, tried: int
    ) -> Fit | None:
        """The first that is beyond doubt, else the likeliest that is believed."""
        best: Fit | None = None
        limit = LOG_CHANCE - math.log(max(1, tried))
        for camera in cameras:
            fit = refine(picture, catalogue, camera, radius)
            if fit is None or fit.log_chance > limit or fit.hits < 0.4 * fit.expected:
                continue
            if best is None or fit.log_chance < best.log_chance:
                best = fit
                if fit.log_chance < limit - 20:
                    break
        return best


def catalogue_stars(sky: SkyMap, catalogue: Catalogue) -> tuple[np.ndarray, FieldStars]:
    """Stars of the catalogue in a field and a little around it, brightest first: their indices, and what they are."""
    radius = math.radians(FIELD_SHARE * 0.5 * math.hypot(*sky.field_deg))
    near = catalogue.around(to_vectors(*sky.centre), radius, MOST_FIELD_STARS)
    g, colour = (values[near].astype(float) for values in (catalogue.g, catalogue.bp_rp))
    return near, FieldStars(to_degrees(catalogue.vectors[near]), g, catalogue.ids[near], colour)


def _pairs(vectors: np.ndarray, widest: float) -> tuple[np.ndarray, np.ndarray]:
    """(p, 2) int32 pairs of the stars not farther apart than that, (p,) their angles, ascending."""
    first, second = np.triu_indices(len(vectors), 1)
    chord = np.linalg.norm(vectors[first] - vectors[second], axis=1)
    angle = 2 * np.arcsin(np.minimum(1.0, chord / 2))
    order = np.argsort(angle, kind="stable")
    order = order[(angle[order] <= widest) & (angle[order] > 0)]
    return np.column_stack([first[order], second[order]]).astype(np.int32), angle[order]


def _side_deg(picture: Picture, scale_arcsec: float) -> float:
    """The longer side, small angles taken for large ones."""
    return max(picture.width, picture.height) * scale_arcsec / 3600


def _why(picture: Picture, hint: Hint) -> str:
    """Why a picture was not solved, and what helps."""
    if hint.points and hint.scale_arcsec is None:
        return (
            f"not solved: no agreement of its {len(picture.mag)} stars with the catalogue (to mag 10) around "
            f"RA {hint.ra_deg:.3f} deg, Dec {hint.dec_deg:+.3f} deg at any scale; focal length and pixel size in the "
            "header would help, or ASTAP or astrometry.net (--solve external)"
        )
    if hint.points:
        assert hint.scale_arcsec is not None
        side = _side_deg(picture, hint.scale_arcsec)
        return (
            f"not solved: no agreement of its {len(picture.mag)} stars with the catalogue (to mag 10) around "
            f"RA {hint.ra_deg:.3f} deg, Dec {hint.dec_deg:+.3f} deg at {hint.scale_arcsec:.2f} arcsec per pixel"
            + (
                f"; a field of {side:.1f} deg holds few stars so bright: ASTAP or astrometry.net with their deep "
                "catalogues can solve it (--solve external)"
                if side < 1.5
                else "; check position and focal length in the header"
            )
        )
    return (
        f"not solved: the header does not say where the picture points or its scale, and its {len(picture.mag)} stars "
        "match nothing in the sky in a field of 3 degrees or more; narrower fields need RA, DEC and focal length in "
        "the header, or ASTAP or astrometry.net (--solve external)"
    )
