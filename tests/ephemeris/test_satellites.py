"""Satellites: SGP4's published case, turned to the site by formulas written here; files that are none."""

from __future__ import annotations

import math
import sys
from pathlib import Path

import numpy as np
import pytest

from livestack.base.errors import UsageError
from livestack.ephemeris.satellites import read_satellites
from livestack.photometry.times import Site

LINES = """VANGUARD 1
1 00005U 58002B   00179.78495062  .00000023  00000-0  28098-4 0  4753
2 00005  34.2682 348.7242 1859667 331.7664  19.3264 10.82419157413667
1 06251U 62025E   06176.82412014  .00008885  00000-0  12808-3 0  3985
2 06251  58.0579  54.0425 0030035 139.1568 221.1854 15.56387291  6774
"""
EPOCH = 2451723.28495062
TEME_KM = np.array([7022.46529266, -1400.08296755, 0.03995155])
"""Of the first at its epoch: Vallado et al. 2006, "Revisiting Spacetrack Report #3", tcppver.out."""
SITE = Site(20.0, -10.0, 300.0)


def from_the_site(teme_km: np.ndarray, jd: float) -> np.ndarray:
    """Direction from the site in the axes of SGP4: the Earth turned by Greenwich's mean sidereal time (IAU 1982)."""
    t = (jd - 2451545.0) / 36525
    seconds = 67310.54841 + (876600 * 3600 + 8640184.812866) * t + 0.093104 * t**2
    angle = math.radians(seconds / 240 % 360 + SITE.lon_deg)
    lat = math.radians(SITE.lat_deg)
    n = 6378.137 / math.sqrt(1 - 0.00669437999014 * math.sin(lat) ** 2)
    height = SITE.height_m / 1000
    out = (n + height) * math.cos(lat)
    up = (n * (1 - 0.00669437999014) + height) * math.sin(lat)
    way = teme_km - np.array([out * math.cos(angle), out * math.sin(angle), up])
    return way / np.linalg.norm(way)


def test_the_published_case_is_seen_where_it_must_be(tmp_path: Path) -> None:
    pytest.importorskip("sgp4")
    path = tmp_path / "tle.txt"
    path.write_text("# heading\n" + LINES)
    satellites = read_satellites(path)
    assert satellites.names == ("VANGUARD 1", "06251")
    seen = satellites.directions(np.array([EPOCH, EPOCH + 1 / 86400]), SITE)
    assert seen.shape == (2, 2, 3)
    expected = from_the_site(TEME_KM, EPOCH)
    # the axes of date in June 2000 lie within half an arc minute of those of ICRS
    assert math.degrees(np.linalg.norm(seen[0, 0] - expected)) < 0.02
    moved = math.degrees(np.linalg.norm(seen[0, 1] - seen[0, 0]))
    assert 0.02 < moved < 1.0


def test_files_that_hold_none_and_a_missing_package_are_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "sgp4.api", None)
    with pytest.raises(UsageError, match=r"pip install livestack\[satellites\]"):
        read_satellites(tmp_path / "x")
    monkeypatch.undo()
    pytest.importorskip("sgp4")
    with pytest.raises(UsageError, match="cannot be read"):
        read_satellites(tmp_path / "gone")
    (tmp_path / "text").write_text("1 nothing\n2 nothing\n")
    with pytest.raises(UsageError, match="no satellite"):
        read_satellites(tmp_path / "text")
