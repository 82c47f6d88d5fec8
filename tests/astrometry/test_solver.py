"""Plate solving against astropy's own projection of the catalogue's stars; nothing is believed of stars at random."""

from __future__ import annotations

import math

import numpy as np
import pytest
from astropy.wcs import WCS

from livestack.astrometry import Catalogue, Hint, SkyMap, Solved, Solver, Unsolved
from livestack.astrometry.catalogue import to_degrees, to_vectors

YEAR = 2026.9
WIDTH, HEIGHT = 1600, 1200


@pytest.fixture(scope="module")
def solver() -> Solver:
    return Solver()


@pytest.fixture(scope="module")
def catalogue() -> Catalogue:
    return Catalogue.load(YEAR)


def wcs_at(ra: float, dec: float, scale: float, turn: float, mirrored: bool) -> WCS:
    """A projection of astropy's; with rows downward an unmirrored sky has a positive determinant."""
    wcs = WCS(naxis=2)
    wcs.wcs.ctype = ["RA---TAN", "DEC--TAN"]
    wcs.wcs.crval = [ra, dec]
    wcs.wcs.crpix = [(WIDTH + 1) / 2, (HEIGHT + 1) / 2]
    c, s = math.cos(math.radians(turn)), math.sin(math.radians(turn))
    flip = np.diag([1.0 if mirrored else -1.0, -1.0])
    wcs.wcs.cd = scale / 3600 * flip @ np.array([[c, s], [-s, c]])
    return wcs


def drawn(
    catalogue: Catalogue, wcs: WCS, draw: np.random.Generator, missing: float = 0.3
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Places and fluxes of a picture's stars, with stars missing and false ones; and all true places, without noise."""
    ra, dec = wcs.wcs.crval
    radius = math.radians(float(np.hypot(WIDTH, HEIGHT)) * abs(np.linalg.det(wcs.wcs.cd)) ** 0.5 * 0.55)
    near = catalogue.around(to_vectors(ra, dec), radius)
    places = wcs.all_world2pix(to_degrees(catalogue.vectors[near]), 0)
    inside = ((places > 0) & (places < (WIDTH - 1, HEIGHT - 1))).all(axis=1)
    places, g = places[inside], catalogue.g[near][inside]
    kept = draw.random(len(g)) >= missing
    n_false = max(1, round(missing * len(g)))
    xy = np.vstack(
        [places[kept] + draw.normal(0, 0.15, (kept.sum(), 2)), draw.uniform(0, 1, (n_false, 2)) * (WIDTH, HEIGHT)]
    )
    mag = np.r_[g[kept] + draw.normal(0, 0.2, kept.sum()), draw.choice(g, n_false)]
    order = draw.permutation(len(xy))
    return xy[order], 10 ** (-0.4 * (mag[order] - 25)), places


@pytest.mark.parametrize(
    "ra, dec, scale, turn, mirrored",
    [
        (83.8, -1.2, 5.0, 30.0, False),
        (359.9, 62.0, 8.0, 200.0, True),
        (40.0, 89.6, 12.0, 111.0, False),
        (266.4, -29.0, 20.0, 300.0, True),
        (120.0, 20.0, 55.0, 80.0, False),
    ],
)
def test_a_field_near_its_hint_is_solved(solver, catalogue, ra, dec, scale, turn, mirrored):
    draw = np.random.default_rng(round(10 * scale))
    wcs = wcs_at(ra, dec, scale, turn, mirrored)
    xy, flux, places = drawn(catalogue, wcs, draw)
    hint = Hint(ra + 0.3 / max(0.02, math.cos(math.radians(dec))), dec - 0.2, scale * 1.04)
    answer = solver.solve(xy, flux, WIDTH, HEIGHT, hint, YEAR)
    assert isinstance(answer, Solved), answer
    off = np.hypot(*(answer.sky.to_pixels(wcs.all_pix2world(places, 0)) - places).T)
    assert np.percentile(off, 95) < 0.4
    assert answer.sky.mirrored is mirrored
    assert answer.sky.scale_arcsec == pytest.approx(scale, rel=1e-3)
    assert answer.rms_px < 0.4
    told = WCS({keyword: value for keyword, value, _ in answer.sky.cards()}, naxis=2)
    again = told.all_world2pix(wcs.all_pix2world(places, 0), 0)
    assert np.percentile(np.hypot(*(again - places).T), 95) < 0.4


@pytest.mark.parametrize("ra, dec, scale", [(83.8, -1.2, 9.0), (250.0, 36.0, 25.0), (15.0, -72.0, 60.0)])
def test_a_wide_field_is_found_in_the_whole_sky(solver, catalogue, ra, dec, scale):
    wcs = wcs_at(ra, dec, scale, 33.0, False)
    xy, flux, places = drawn(catalogue, wcs, np.random.default_rng(5))
    answer = solver.solve(xy, flux, WIDTH, HEIGHT, Hint(), YEAR)
    assert isinstance(answer, Solved), answer
    off = np.hypot(*(answer.sky.to_pixels(wcs.all_pix2world(places, 0)) - places).T)
    assert np.percentile(off, 95) < 0.4


def test_a_lens_that_bends_gets_polynomials(solver, catalogue):
    wcs = wcs_at(200.0, 45.0, 30.0, 10.0, False)
    xy, flux, places = drawn(catalogue, wcs, np.random.default_rng(9))
    middle, half = np.array([(WIDTH - 1) / 2, (HEIGHT - 1) / 2]), WIDTH / 2

    def bent(points: np.ndarray) -> np.ndarray:
        away = points - middle
        return middle + away * (1 + 0.006 * np.sum(away**2, axis=1, keepdims=True) / half**2)

    answer = solver.solve(bent(xy), flux, WIDTH, HEIGHT, Hint(200.0, 45.0, 30.0), YEAR)
    assert isinstance(answer, Solved), answer
    assert answer.sky.order >= 2
    off = np.hypot(*(answer.sky.to_pixels(wcs.all_pix2world(places, 0)) - bent(places)).T)
    assert np.percentile(off, 95) < 0.5
    told = WCS({keyword: value for keyword, value, _ in answer.sky.cards()}, naxis=2)
    sky = told.all_pix2world(bent(places), 0)
    assert np.abs(answer.sky.to_sky(bent(places)) - sky).max() < 1e-6


@pytest.mark.parametrize("seed", range(3))
def test_stars_at_random_are_never_believed(solver, seed):
    draw = np.random.default_rng(seed)
    n = int(draw.integers(3, 300))
    xy, flux = draw.uniform(0, 1, (n, 2)) * (WIDTH, HEIGHT), 10 ** draw.uniform(2, 5, n)
    hint = Hint(draw.uniform(0, 360), math.degrees(math.asin(draw.uniform(-1, 1))), 10 ** draw.uniform(0.2, 1.6))
    assert isinstance(solver.solve(xy, flux, WIDTH, HEIGHT, hint, YEAR), Unsolved)


def test_why_not_is_said(solver):
    few = solver.solve(np.zeros((2, 2)), np.ones(2), WIDTH, HEIGHT, Hint(), YEAR)
    assert isinstance(few, Unsolved)
    assert "2 stars" in few.sentence
    draw = np.random.default_rng(1)
    narrow = solver.solve(draw.uniform(0, 1000, (20, 2)), np.ones(20), WIDTH, HEIGHT, Hint(10.0, 10.0, 1.0), YEAR)
    assert isinstance(narrow, Unsolved)
    assert "ASTAP" in narrow.sentence


def test_a_map_moves_with_its_pixels():
    sip = np.array([[1e-6, 0], [2e-6, -1e-6], [0, 3e-6], [1e-9, 0], [0, 1e-9], [1e-9, 0], [0, 2e-9]])
    sky = SkyMap(10.0, 50.0, 400.0, 300.0, np.array([[-1e-3, 2e-4], [2e-4, 1e-3]]), 800, 600, 3, sip)
    c, s = math.cos(0.4), math.sin(0.4)
    transform = np.array([[1.1 * c, -1.1 * s, 30.0], [1.1 * s, 1.1 * c, -12.0], [0, 0, 1]])
    points = np.random.default_rng(2).uniform(0, 600, (50, 2))
    there = points @ transform[:2, :2].T + transform[:2, 2]
    moved = sky.moved(transform, 900, 700)
    assert np.abs(moved.to_sky(there) - sky.to_sky(points)).max() < 1e-9
    assert np.abs(moved.to_pixels(moved.to_sky(there)) - there).max() < 1e-5


def test_places_and_magnitudes_are_those_of_the_sky(catalogue):
    # SIMBAD, ICRS, epoch 2000; slow stars
    for ra, dec, g in ((88.792939, 7.407064, 0.5), (37.954561, 89.264109, 2.0), (247.351915, -26.432003, 0.9)):
        near = catalogue.around(to_vectors(ra, dec), math.radians(10 / 3600))
        assert len(near)
        assert abs(float(catalogue.g[near[0]]) - g) < 1.0


def test_bright_stars_on_one_side_bend_no_map_astray(solver, catalogue):
    """The brightest stars, saturated, stand in one half of a crowded field: the map has to hold in the other, too."""
    wcs = wcs_at(266.2, -49.5, 60.0, 2.6, False)
    draw = np.random.default_rng(3)
    xy, flux, places = drawn(catalogue, wcs, draw)
    mag = -2.5 * np.log10(flux)
    left = xy[:, 0] < 0.45 * WIDTH
    mag[~left] = np.maximum(mag[~left], np.partition(mag, 80)[80])
    mag = np.where(mag < np.partition(mag, 60)[60], np.partition(mag, 60)[60] - draw.uniform(0, 0.1, len(mag)), mag)
    answer = solver.solve(xy, 10 ** (-0.4 * mag), WIDTH, HEIGHT, Hint(265.5, -49.0, 58.8), YEAR)
    assert isinstance(answer, Solved), answer
    off = np.hypot(*(answer.sky.to_pixels(wcs.all_pix2world(places, 0)) - places).T)
    assert off.max() < 2.0


@pytest.mark.parametrize("scale", [2.5, 6.0, 40.0])
def test_a_place_without_a_scale_is_enough(solver, catalogue, scale):
    wcs = wcs_at(83.8, -1.2, scale, 77.0, False)
    xy, flux, places = drawn(catalogue, wcs, np.random.default_rng(4))
    answer = solver.solve(xy, flux, WIDTH, HEIGHT, Hint(83.9, -1.1), YEAR)
    assert isinstance(answer, Solved), answer
    off = np.hypot(*(answer.sky.to_pixels(wcs.all_pix2world(places, 0)) - places).T)
    assert np.percentile(off, 95) < 0.5


def test_a_scale_off_by_a_quarter_in_a_poor_field(solver, catalogue):
    """Where the field is poorer in bright stars than its surroundings, they must not crowd out its own."""
    wcs = wcs_at(79.21, -45.112, 5.5, 257.0, False)
    xy, flux, places = drawn(catalogue, wcs, np.random.default_rng(6))
    answer = solver.solve(xy, flux, WIDTH, HEIGHT, Hint(79.2, -44.9, 5.5 * 1.28), YEAR)
    assert isinstance(answer, Solved), answer
    off = np.hypot(*(answer.sky.to_pixels(wcs.all_pix2world(places, 0)) - places).T)
    assert np.percentile(off, 95) < 0.5


@pytest.mark.parametrize(("ra", "dec", "truth"), [(243.9053, -8.3694, 0.82), (269.452, 4.739, 2.83)])
def test_colours_are_those_of_gaia(catalogue: Catalogue, ra: float, dec: float, truth: float) -> None:
    """18 Scorpii, the Sun's twin, and Barnard's star: BP - RP by Gaia DR3."""
    star = int(np.argmax(catalogue.vectors @ to_vectors(ra, dec)))
    assert catalogue.bp_rp[star] == pytest.approx(truth, abs=0.02)
    vega = int(np.argmin(np.abs(catalogue.ids + 91262)))
    assert math.isnan(catalogue.bp_rp[vega])  # Gaia is blinded
