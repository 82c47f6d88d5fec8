"""An object that the user names by its place in the sky: followed once the plate is solved, also after a crash."""

from __future__ import annotations

import json
from datetime import datetime
from pathlib import Path

import numpy as np
import pytest
from astropy.coordinates import get_body_barycentric_posvel
from astropy.io import fits
from astropy.time import Time, TimeDelta
from astropy.wcs import WCS
from typer.testing import CliRunner

from livestack.base.errors import UsageError
from livestack.base.journal import FollowRecord, read_journal
from livestack.faces.cli import app
from livestack.observers import plate_solving

pytestmark = pytest.mark.real_sky

RA, DEC, SCALE = 83.8, -1.2, 5.0


@pytest.fixture(scope="module")
def night(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("comet") / "night"
    words = ["simulate", str(folder), "--scenario", "comet", f"--at={RA},{DEC}", "--scale", str(SCALE)]
    done = CliRunner().invoke(app, [*words, "--frames", "14", "--size", "480x360"])
    assert done.exit_code == 0, done.output
    return folder


def comet_in(night: Path) -> tuple[float, float]:
    """RA and Dec of the comet in the first frame, by astropy."""
    truth = json.loads((night / "truth.json").read_text())
    first, mover = truth["frames"][0], truth["movers"][0]
    assert np.cos(np.radians(first["position_angle_deg"])) == pytest.approx(1, abs=1e-12)
    assert not first["mirrored"]
    wcs = WCS(naxis=2)
    wcs.wcs.ctype = ["RA---TAN", "DEC--TAN"]
    wcs.wcs.crval, wcs.wcs.crpix = (RA, DEC), (240.5, 180.5)
    wcs.wcs.cd = np.array([[-SCALE, 0], [0, -SCALE]]) / 3600
    ra, dec = wcs.all_pix2world([[mover["x_ref"][0], mover["y_ref"][0]]], 0)[0]
    return float(ra), float(dec)


def test_a_place_in_the_sky_is_followed_once_it_is_known_where_that_is(
    night: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(plate_solving, "WAIT_FRAMES", 1)
    ra, dec = comet_in(night)
    words = ["stack", str(night), "--output", str(tmp_path), f"--follow={ra:.6f},{dec:+.6f}", "--no-final-pass"]
    done = CliRunner().invoke(app, words)
    assert done.exit_code == 0, done.output
    (told,) = [record for record in read_journal(tmp_path) if isinstance(record, FollowRecord)]
    assert (told.x, told.y) == pytest.approx((300.0, 230.0), abs=1.0)
    header = fits.getheader(next(tmp_path.glob("*/comet.fits")))
    assert header["RATEPXM"] == pytest.approx(3.0, rel=0.02)
    assert "is stacked on itself" in done.output
    truth = json.loads((night / "truth.json").read_text())
    start, reference = truth["frames"][0]["date_obs"], header["RATEEPOC"]
    gone = (datetime.fromisoformat(reference + "+00:00") - datetime.fromisoformat(start)).total_seconds() - 15.0
    assert header["RATEX"] == pytest.approx(300.0 + gone / 60 * 3.0 * np.cos(np.radians(28.0)), abs=0.3)


def test_a_place_outside_the_field_is_said(night: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plate_solving, "WAIT_FRAMES", 1)
    words = ["stack", str(night), "--output", str(tmp_path), f"--follow={RA + 20},{DEC:+}", "--no-final-pass"]
    done = CliRunner().invoke(app, [*words, "--max-frames", "4"])
    assert done.exit_code == 0, done.output
    assert "lies outside the field" in done.output
    assert not list(tmp_path.glob("*/comet.fits"))


def elements_through(ra: float, dec: float, east: float, north: float, when: Time, away_au: float = 0.05) -> str:
    """A line of `CometEls.txt` of a body that is seen there at that time, moving by so many radians a day.

    From place and speed to elements by Murray & Dermott, Solar System Dynamics, 2.8; Earth and Sun by astropy.
    """
    (earth, speed), (sun, suns) = (get_body_barycentric_posvel(name, when) for name in ("earth", "sun"))
    a, d = np.radians(ra), np.radians(dec)
    towards = np.array([np.cos(a) * np.cos(d), np.sin(a) * np.cos(d), np.sin(d)])
    to_east, to_north = np.array([-np.sin(a), np.cos(a), 0]), np.cross(towards, [-np.sin(a), np.cos(a), 0])
    place = (earth - sun).xyz.to_value("au") + away_au * towards
    moves = (speed - suns).xyz.to_value("au/d") + away_au * (east * to_east + north * to_north)
    tilt = np.radians(84381.448 / 3600)
    ecliptic = np.array([[1, 0, 0], [0, np.cos(tilt), np.sin(tilt)], [0, -np.sin(tilt), np.cos(tilt)]])
    r, v = ecliptic @ place, ecliptic @ moves
    mu = 0.01720209895**2
    spin = np.cross(r, v)
    shape = np.cross(v, spin) / mu - r / np.linalg.norm(r)
    e, node = np.linalg.norm(shape), np.arctan2(spin[0], -spin[1])
    q = spin @ spin / mu / (1 + e)
    tilted = np.arccos(spin[2] / np.linalg.norm(spin))
    ascending = np.array([np.cos(node), np.sin(node), 0])
    w = np.arctan2(np.dot(np.cross(ascending, shape), spin) / np.linalg.norm(spin), ascending @ shape)
    anomaly = np.arctan2(np.dot(np.cross(shape, r), spin) / np.linalg.norm(spin), shape @ r)
    assert 0 < e < 1
    eccentric = 2 * np.arctan(np.sqrt((1 - e) / (1 + e)) * np.tan(anomaly / 2))
    since = (eccentric - e * np.sin(eccentric)) * (q / (1 - e)) ** 1.5 / np.sqrt(mu)
    then = (when - TimeDelta(since, format="jd")).tt.datetime
    day = then.day + (then.hour + (then.minute + (then.second + then.microsecond / 1e6) / 60) / 60) / 24
    angles = (f"{np.degrees(angle) % 360:8.4f}" for angle in (w, node, tilted))
    middle = "  ".join(angles)
    line = f"{'':14}{then.year:4d} {then.month:02d} {day:7.4f} {q:9.6f}  {e:8.6f}  {middle}"
    return f"{line:<102}{'99P/Invented':<57}"


def test_a_comet_is_followed_by_its_name(night: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plate_solving, "WAIT_FRAMES", 1)
    ra, dec = comet_in(night)
    first = json.loads((night / "truth.json").read_text())["frames"][0]
    when = Time(datetime.fromisoformat(first["date_obs"]).replace(tzinfo=None)) + TimeDelta(15, format="sec")
    # x grows to the west and y to the south
    rate = 3.0 * SCALE / 3600 * np.pi / 180 * 1440
    line = elements_through(ra, dec, -rate * np.cos(np.radians(28)), -rate * np.sin(np.radians(28)), when)
    elements = tmp_path / "CometEls.txt"
    elements.write_text(line + "\n")
    out = tmp_path / "out"
    words = [
        "stack",
        str(night),
        "--output",
        str(out),
        "--follow",
        "99P",
        "--comets",
        str(elements),
        "--passages",
        "off",
    ]
    done = CliRunner().invoke(app, [*words, "--no-final-pass"])
    assert done.exit_code == 0, done.output
    (told,) = [record for record in read_journal(out) if isinstance(record, FollowRecord)]
    assert (told.x, told.y) == pytest.approx((300.0, 230.0), abs=8.0)
    assert told.velocity == pytest.approx((3.0 * np.cos(np.radians(28)), 3.0 * np.sin(np.radians(28))), abs=0.05)
    assert fits.getheader(next(out.glob("*/comet.fits")))["RATEPXM"] == pytest.approx(3.0, rel=0.02)
    assert "Following 99P/Invented" in done.output


def test_a_name_that_no_file_holds_is_refused_before_the_night(night: Path, tmp_path: Path) -> None:
    words = ["stack", str(night), "--output", str(tmp_path / "out"), "--follow", "12P"]
    for more, said in (((), "needs a file of elements"), (("--comets", str(tmp_path / "els")), "no body")):
        (tmp_path / "els").write_text(elements_through(10, 10, 0, 0, Time("2025-01-01")) + "\n")
        with pytest.raises(UsageError, match=said):
            CliRunner().invoke(app, [*words, *more], catch_exceptions=False)
