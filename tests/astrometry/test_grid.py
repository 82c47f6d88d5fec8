"""Lines of right ascension and declination: every place of them against astropy's WCS."""

from __future__ import annotations

import math
from itertools import pairwise

import numpy as np
import pytest
from astropy.io.fits import Header
from astropy.wcs import WCS

from livestack.astrometry import SkyMap
from livestack.astrometry.grid import MOST_LINES, directions, make_grid, say_dec, say_ra
from livestack.astrometry.sky_map import powers

WIDTH, HEIGHT = 1500, 980
FIELDS = {
    "Orion": (84.0, -1.2, 9.5, 25.0),
    "zero hours": (359.97, 15.0, 8.0, -70.0),
    "across zero hours, south": (0.4, -72.0, 30.0, 190.0),
    "a pole": (37.0, 88.7, 14.0, 40.0),
    "the other pole": (200.0, -89.99, 2.0, 0.0),
    "near a pole": (120.0, 86.5, 10.0, 15.0),
    "thirty degrees": (84.0, 0.0, 72.0, 5.0),
    "an eyepiece": (210.8, 54.35, 0.25, 0.0),
}


def map_at(ra: float, dec: float, scale: float, turn: float, mirrored: bool = False, bends: bool = False) -> SkyMap:
    a, s = math.radians(turn), scale / 3600
    cd = s * np.array([[-math.cos(a), -math.sin(a)], [math.sin(a), -math.cos(a)]])
    if mirrored:
        cd = cd @ np.diag([-1.0, 1.0])
    sky = SkyMap(ra, dec, (WIDTH - 1) / 2 + 30, (HEIGHT - 1) / 2 - 12, cd, WIDTH, HEIGHT)
    if not bends:
        return sky
    sip = np.zeros((len(powers(3)), 2))
    sip[0], sip[2], sip[3], sip[6] = (2e-6, 0), (0, -3e-6), (1.5e-8, 0), (0, 1.5e-8)
    return SkyMap(ra, dec, sky.x, sky.y, cd, WIDTH, HEIGHT, 3, sip)


def wcs_of(sky: SkyMap) -> WCS:
    header = Header()
    for keyword, value, comment in sky.cards():
        header[keyword] = (value, comment)
    return WCS(header)


@pytest.mark.parametrize("bends", [False, True])
@pytest.mark.parametrize("where", FIELDS)
def test_every_place_of_a_line_lies_where_astropy_says(where: str, bends: bool) -> None:
    sky = map_at(*FIELDS[where], mirrored=where == "Orion", bends=bends)
    wcs = wcs_of(sky)
    lines = make_grid(sky)
    assert {line.of for line in lines} == {"ra", "dec"}
    for line in lines:
        fine = np.concatenate([a + np.linspace(0, 1, 9)[:, None] * (b - a) for a, b in pairwise(line.xy)])
        ra, dec = wcs.all_pix2world(fine, 0).T
        off = dec - line.value_deg
        if line.of == "ra":
            off = ((ra - line.value_deg + 180) % 360 - 180) * np.cos(np.radians(dec))
        assert np.abs(off).max() * 3600 / sky.scale_arcsec < 0.6, line.text
        assert (line.xy >= -0.501).all()
        assert (line.xy <= (WIDTH - 0.499, HEIGHT - 0.499)).all()


@pytest.mark.parametrize("where", FIELDS)
def test_there_are_some_lines_and_not_too_many(where: str) -> None:
    lines = make_grid(map_at(*FIELDS[where]))
    for of in ("ra", "dec"):
        n = len({line.text for line in lines if line.of == of})
        assert 2 <= n <= (12 if "pole" in where and of == "ra" else MOST_LINES + 2), of


def test_around_a_pole_all_hours_meet_and_circles_close() -> None:
    lines = make_grid(map_at(*FIELDS["a pole"]))
    assert {line.text for line in lines if line.of == "ra"} == {f"{h}h" for h in range(0, 24, 2)}
    pole = wcs_of(map_at(*FIELDS["a pole"])).all_world2pix([[0, 90]], 0)[0]
    for line in lines:
        if line.of == "ra":
            assert np.hypot(*(line.xy - pole).T).min() < 0.5
    circle = next(line for line in make_grid(map_at(*FIELDS["the other pole"])) if line.text == "−89° 50′")
    np.testing.assert_allclose(circle.xy[0], circle.xy[-1], atol=0.1)


@pytest.mark.parametrize("mirrored", [False, True])
@pytest.mark.parametrize("where", FIELDS)
def test_north_and_east_point_where_astropy_says(where: str, mirrored: bool) -> None:
    sky = map_at(*FIELDS[where], mirrored=mirrored)
    north, east = directions(sky)
    wcs, (ra, dec) = wcs_of(sky), sky.centre
    small = sky.scale_arcsec / 3600
    places = [(ra, dec + small), (ra, dec - small), (ra + small / math.cos(math.radians(dec)), dec)]
    up, down, left = wcs.all_world2pix(places, 0)
    middle = wcs.all_world2pix([(ra, dec)], 0)[0]
    assert north @ ((up - down) / np.hypot(*(up - down))) > 0.9999
    assert east @ ((left - middle) / np.hypot(*(left - middle))) > 0.999
    handed = north[0] * east[1] - north[1] * east[0]
    assert (handed < 0) == (not sky.mirrored)


def test_words() -> None:
    assert say_ra(84.05, 1 / 240) == "5h 36m 12s"
    assert say_ra(359.9999, 1 / 240) == "0h 00m 00s"
    assert say_ra(82.5, 2.5) == "5h 30m"
    assert say_ra(30.0, 30.0) == "2h"
    assert say_ra(30.002, 0.1 / 240) == "2h 00m 00.5s"
    assert say_dec(-0.5, 0.25) == "−0° 30′"
    assert say_dec(-1.2019, 1 / 3600) == "−1° 12′ 07″"
    assert say_dec(0.0, 1.0) == "0°"
    assert say_dec(89.99999, 1 / 3600) == "+90° 00′ 00″"
