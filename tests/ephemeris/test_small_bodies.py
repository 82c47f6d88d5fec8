"""Small bodies: files written here column by column, places against astropy's planets and closed formulas."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
from astropy import units as u
from astropy.coordinates import EarthLocation, get_body_barycentric, get_body_barycentric_posvel
from astropy.time import Time

from livestack.base.errors import UsageError
from livestack.ephemeris.orbits import MU, OBLIQUITY_DEG, Orbits, stumpff
from livestack.ephemeris.small_bodies import find_body, read_asteroids, read_comets, unpack_day
from livestack.photometry.times import Site

SITE = Site(47.0, 11.0, 600.0)


def asteroid_line(name: str, epoch: str, m: float, w: float, node: float, i: float, e: float, a: float) -> str:
    """A line of MPCORB.DAT by the columns that the Minor Planet Center tells (counted from 1)."""
    line = [" "] * 202
    for first, text in (
        (1, "00001  "), (9, " 3.33"), (15, " 0.15"), (21, epoch), (27, f"{m:9.5f}"), (38, f"{w:9.5f}"),
        (49, f"{node:9.5f}"), (60, f"{i:9.5f}"), (71, f"{e:9.7f}"), (81, f"{0.2:11.8f}"), (93, f"{a:11.7f}"),
        (167, name),
    ):  # fmt: skip
        line[first - 1 : first - 1 + len(text)] = text
    return "".join(line)


def comet_line(name: str, when: str, q: float, e: float, w: float, node: float, i: float) -> str:
    """A line of CometEls.txt, as above; `when` "YYYY MM DD.DDDD"."""
    line = [" "] * 168
    for first, text in (
        (5, "C"), (15, when), (31, f"{q:9.6f}"), (42, f"{e:8.6f}"), (52, f"{w:8.4f}"), (62, f"{node:8.4f}"),
        (72, f"{i:8.4f}"), (92, " 5.0"), (97, " 4.0"), (103, name),
    ):  # fmt: skip
        line[first - 1 : first - 1 + len(text)] = text
    return "".join(line)


def elements_of(body: str, time: Time) -> tuple[float, ...]:
    """M, w, node, i, e, a (degrees, au) of a planet as astropy knows it, by textbook formulas (Bate et al. 1971)."""
    (place, velocity), (sun, its) = (get_body_barycentric_posvel(name, time, "builtin") for name in (body, "sun"))
    r = (place - sun).xyz.to_value(u.au)
    v = (velocity - its).xyz.to_value(u.au / u.day)
    tilt = math.radians(OBLIQUITY_DEG)
    turn = np.array([[1, 0, 0], [0, math.cos(tilt), math.sin(tilt)], [0, -math.sin(tilt), math.cos(tilt)]])
    r, v = turn @ r, turn @ v
    h = np.cross(r, v)
    node = np.cross([0, 0, 1], h)
    eccentric = np.cross(v, h) / MU - r / np.linalg.norm(r)
    e = float(np.linalg.norm(eccentric))
    a = 1 / (2 / np.linalg.norm(r) - v @ v / MU)
    i = math.degrees(math.acos(h[2] / np.linalg.norm(h)))
    w = math.degrees(math.acos(node @ eccentric / np.linalg.norm(node) / e))
    w = 360 - w if eccentric[2] < 0 else w
    anomaly = math.acos(np.clip(eccentric @ r / e / np.linalg.norm(r), -1, 1))
    anomaly = 2 * math.pi - anomaly if r @ v < 0 else anomaly
    half = 2 * math.atan(math.sqrt((1 - e) / (1 + e)) * math.tan(anomaly / 2))
    m = math.degrees(half - e * math.sin(half)) % 360
    return m, w, math.degrees(math.atan2(node[1], node[0])) % 360, i, e, float(a)


def astrometric(body: str, time: Time) -> tuple[float, float]:
    """RA and Dec from the site, the light's time taken off, by astropy's own places."""
    where = EarthLocation.from_geodetic(SITE.lon_deg, SITE.lat_deg, SITE.height_m)
    here = get_body_barycentric("earth", time, "builtin").xyz + where.get_gcrs_posvel(time)[0].xyz
    delay = 0 * u.s
    for _ in range(4):
        way = get_body_barycentric(body, time - delay, "builtin").xyz - here
        delay = np.linalg.norm(way.to_value(u.km)) / 299792.458 * u.s
    x, y, z = way.to_value(u.au)
    return math.degrees(math.atan2(y, x)) % 360, math.degrees(math.atan2(z, math.hypot(x, y)))


def separation_arcsec(one, other) -> float:
    (a, b), (c, d) = np.radians(one), np.radians(other)
    return math.degrees(math.hypot((a - c) * math.cos(b), b - d)) * 3600


@pytest.mark.parametrize(("body", "limit"), [("mars", 4.0), ("jupiter", 10.0)])
def test_a_body_with_a_planets_elements_is_where_the_planet_is(tmp_path: Path, body: str, limit: float) -> None:
    epoch = Time("2023-09-13T00:00:00", scale="tt")
    line = asteroid_line("     (1) Ceres", "K239D", *elements_of(body, epoch))
    path = tmp_path / "MPCORB.DAT"
    path.write_text(
        "Some heading\n" + "-" * 160 + "\n" + line + "\n\n" + line.replace("(1) Ceres", "(2) Pallas") + "\n"
    )
    bodies = read_asteroids(path)
    assert [bodies.name(k) for k in range(2)] == ["(1) Ceres", "(2) Pallas"]
    time = Time("2023-09-15T22:30:00", scale="utc")
    place = bodies.places(time.jd, SITE)
    assert separation_arcsec(place[0], astrometric(body, time)) < limit
    motion = bodies.motion(1, time.jd, SITE)
    before, after = (astrometric(body, time + k * u.hour) for k in (-0.5, 0.5))
    assert motion.rate_arcsec_min == pytest.approx(separation_arcsec(before, after) / 60, rel=0.02)
    north = (after[1] - before[1]) * 3600
    east = (after[0] - before[0]) * math.cos(math.radians(after[1])) * 3600
    assert motion.position_angle_deg == pytest.approx(math.degrees(math.atan2(east, north)) % 360, abs=1.0)


def test_a_parabola_is_barkers_and_a_line_of_the_comets_is_read(tmp_path: Path) -> None:
    path = tmp_path / "CometEls.txt"
    path.write_text(
        comet_line("C/2023 A3 (Tsuchinshan-ATLAS)", "2024 09 27.7405", 0.4, 1.0, 308.5, 21.56, 139.1) + "\n"
    )
    comets = read_comets(path)
    assert comets.name(0) == "C/2023 A3 (Tsuchinshan-ATLAS)"
    at = Time("2024-09-27T00:00:00", scale="tt").jd + 0.7405
    assert comets.orbits.time_jd[0] == pytest.approx(at, abs=1e-6)
    for days in (-200.0, -3.0, 0.0, 1e-4, 50.0, 3000.0):
        # Barker: with W = 3 k t / sqrt(2 q^3) / 2 the tangent of half the anomaly is y - 1 / y, y^3 = W + sqrt(W^2 + 1)
        wide = 1.5 * math.sqrt(MU / 2 / 0.4**3) * days
        y = np.cbrt(wide + math.sqrt(wide * wide + 1))
        tangent = y - 1 / y
        r = np.linalg.norm(comets.orbits.places(at + days), axis=1)[0]
        assert r == pytest.approx(0.4 * (1 + tangent**2), rel=1e-6)


@pytest.mark.parametrize("e", [0.0, 0.2, 0.9, 0.9999, 1.0, 1.0001, 1.3, 3.4])
def test_orbits_obey_the_suns_pull(e: float) -> None:
    """The second derivative of the place, by differences, is the pull; at the perihelion the distance is q."""
    orbit = Orbits(*(np.array([v]) for v in (0.7, e, 33.0, 100.0, 250.0, 2460000.5)))
    assert np.linalg.norm(orbit.places(2460000.5)) == pytest.approx(0.7, rel=1e-12)
    for day in (-400.0, -30.0, 0.5, 80.0, 900.0):
        h = 0.05
        a, b, c = (orbit.places(2460000.5 + day + k * h)[0] for k in (-1, 0, 1))
        pull = -MU * b / np.linalg.norm(b) ** 3
        assert np.allclose((a - 2 * b + c) / h**2, pull, rtol=0, atol=3e-4 * np.linalg.norm(pull) + 2e-9)


def test_stumpffs_functions_join() -> None:
    x = np.array([-0.1001, -0.0999, 0.0, 0.0999, 0.1001, 40.0])
    c0, c1, c2, c3 = stumpff(x)
    assert np.allclose(c0, np.where(x < 0, np.cosh(np.sqrt(abs(x))), np.cos(np.sqrt(abs(x)))), atol=1e-13)
    assert np.allclose(c0 + x * c2, 1.0)
    assert np.allclose(c1 + x * c3, 1.0)


def test_bodies_are_found_by_what_people_call_them(tmp_path: Path) -> None:
    lines = [
        asteroid_line(name, "K239D", 1, 2, 3, 4, 0.1, 2.5)
        for name in ("     (1) Ceres", "    (11) Parthenope", "        2023 AB12")
    ]
    path = tmp_path / "m"
    path.write_text("\n".join(lines) + "\n")
    bodies = read_asteroids(path)
    for name, number in (("ceres", 0), ("1", 0), ("11", 1), ("(11) Parthenope", 1), ("2023 AB12", 2)):
        found = find_body(name, [bodies])
        assert found is not None
        assert found[1] == number
    assert find_body("Parthen", [bodies]) is None
    comets = tmp_path / "c"
    comets.write_text(comet_line("1P/Halley", "1986 02 05.8951", 0.575, 0.967, 112.0, 59.1, 162.2) + "\n")
    for name in ("1P", "Halley", "1P/Halley"):
        assert find_body(name, [bodies, read_comets(comets)]) is not None


def test_packed_days_and_files_that_are_none(tmp_path: Path) -> None:
    assert unpack_day("K239D") == Time("2023-09-13T00:00:00", scale="tt").jd
    assert unpack_day("J9611") == Time("1996-01-01T00:00:00", scale="tt").jd
    assert unpack_day("K16AV") == Time("2016-10-31T00:00:00", scale="tt").jd
    assert math.isnan(unpack_day("K2392 "))
    assert math.isnan(unpack_day("K23D1"))
    with pytest.raises(UsageError, match="cannot be read"):
        read_asteroids(tmp_path / "gone")
    (tmp_path / "text").write_text("nothing " * 60 + "\n")
    for read in (read_asteroids, read_comets):
        with pytest.raises(UsageError, match="no body"):
            read(tmp_path / "text")
