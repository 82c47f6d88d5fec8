"""An object that the user names by its place in the sky: followed once the plate is solved, also after a crash."""

from __future__ import annotations

import json
from datetime import datetime
from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits
from astropy.wcs import WCS
from typer.testing import CliRunner

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
