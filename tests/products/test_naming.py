"""Names for what passed: a planet in the guise of an asteroid, satellites on lines that formulas here draw."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
from astropy import units as u
from astropy.time import Time

from livestack.base.settings import PassageSettings
from livestack.movers.passages import Passage
from livestack.products.naming import Names, julian_day
from tests.ephemeris import test_satellites as satellites
from tests.ephemeris import test_small_bodies as bodies

START = Time("2023-09-15T22:30:00", scale="utc")


def sky_of(direction: np.ndarray) -> tuple[float, float]:
    return math.degrees(math.atan2(direction[1], direction[0])) % 360, math.degrees(math.asin(direction[2]))


def mover(minutes: float, shift_deg: float = 0.0, speed: float = 1.0) -> Passage:
    """Mars, seen so long; moved aside, or faster than it is."""
    (ra0, dec0), (ra1, dec1) = (bodies.astrometric("mars", START + k * minutes * u.min) for k in (0, speed))
    angle = math.degrees(math.atan2((ra1 - ra0) * math.cos(math.radians(dec0)), dec1 - dec0)) % 360
    return Passage(
        "mover", "a", "b", 9, "2023-09-15T22:30:00.000Z", 0.0, 0.0, 3.0, 4.0, rate_px_min=5.0 / minutes,
        position_angle_deg=angle, ra0_deg=ra0, dec0_deg=dec0 + shift_deg, ra1_deg=ra1, dec1_deg=dec1 + shift_deg,
    )  # fmt: skip


def test_what_moves_is_named_where_place_and_motion_agree(tmp_path: Path) -> None:
    epoch = Time("2023-09-13T00:00:00", scale="tt")
    path = tmp_path / "MPCORB.DAT"
    elements = bodies.elements_of("mars", epoch)
    other = bodies.asteroid_line("     (2) Pallas", "K239D", elements[0] + 4.0, *elements[1:])
    path.write_text(other + "\n" + bodies.asteroid_line("     (1) Ceres", "K239D", *elements) + "\n")
    said: list[str] = []
    names = Names(PassageSettings(mpcorb=path, comets=tmp_path / "gone"), said.append)
    (line,) = said
    assert "cannot be read" in line
    given = names.given([mover(60), mover(60, shift_deg=0.2), mover(60, speed=1.6)], bodies.SITE, 30.0)
    assert [one.name for one in given] == ["(1) Ceres", "", ""]
    streak = Passage(
        "meteor", "a", "a", 1, "2023-09-15T22:30:00Z", 0, 0, 9, 9, ra0_deg=1, dec0_deg=2, ra1_deg=3, dec1_deg=4
    )
    assert names.given([streak], bodies.SITE, 30.0) == (streak,)


def test_a_streak_is_named_by_the_satellite_whose_line_it_is(tmp_path: Path) -> None:
    api = pytest.importorskip("sgp4.api")
    path = tmp_path / "tle.txt"
    path.write_text(satellites.LINES)
    lines = satellites.LINES.splitlines()
    model = api.Satrec.twoline2rv(lines[1], lines[2])
    middle = satellites.EPOCH + 30 / 86400

    def seen(seconds: float) -> np.ndarray:
        failed, place, _ = model.sgp4(middle, seconds / 86400)
        assert failed == 0
        return satellites.from_the_site(np.array(place), middle + seconds / 86400)

    def streak(one: np.ndarray, other: np.ndarray) -> Passage:
        (ra0, dec0), (ra1, dec1) = sky_of(one), sky_of(other)
        when = Time(middle, format="jd", scale="utc").isot + "Z"
        return Passage(
            "satellite", "a", "a", 1, when, 0, 0, 9, 9, ra0_deg=ra0, dec0_deg=dec0, ra1_deg=ra1, dec1_deg=dec1
        )  # fmt: skip

    assert julian_day(streak(seen(-4), seen(4)).time_utc) == pytest.approx(middle, abs=1e-6)
    here, there = seen(-4), seen(4)
    pole = np.cross(here, there) / np.linalg.norm(np.cross(here, there))
    away = [one + math.radians(0.6) * pole for one in (here, there)]
    away = [one / np.linalg.norm(one) for one in away]
    turned = [(here + there) / np.linalg.norm(here + there) + k * 0.003 * pole for k in (-1, 1)]
    turned = [one / np.linalg.norm(one) for one in turned]
    early = streak(seen(-120), seen(-100))  # on the same line, minutes before it is there
    said: list[str] = []
    names = Names(PassageSettings(tle=path), said.append)
    asked = [streak(here, there), streak(there, here), streak(*away), streak(*turned), early]
    given = names.given(asked, satellites.SITE, 10.0)
    assert [one.name for one in given] == ["VANGUARD 1", "VANGUARD 1", "", "", ""]
    assert not said
    assert names.given(asked[:1], None, 10.0)[0].name == ""
    assert "SITELAT" in said[0]
