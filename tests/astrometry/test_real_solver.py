"""An astrometry.net that is really installed, on a picture of the simulated real sky; skipped where there is none."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from astropy.io import fits
from typer.testing import CliRunner

from livestack.astrometry import installed
from livestack.faces.cli import app
from livestack.formats.wcs import read_wcs


def _has_indexes() -> bool:
    return any(Path("/usr/share/astrometry").glob("index-*"))


@pytest.mark.skipif(shutil.which("solve-field") is None, reason="astrometry.net (solve-field) is not installed")
@pytest.mark.skipif(not _has_indexes(), reason="no index files of astrometry.net are installed")
def test_solve_field_finds_what_was_drawn(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    words = ["simulate", str(tmp_path / "sky"), "--scenario", "sky", "--at=83.8,-1.2", "--scale", "12", "--frames", "1"]
    assert CliRunner().invoke(app, words).exit_code == 0
    image = next((tmp_path / "sky").glob("sky_*.fits"))
    monkeypatch.setattr(installed, "SOLVERS", ("solve-field",))
    solved, sentence = installed.solve_plate(image, 83.9, -1.1, 12.5, 600, 60.0)
    assert solved is not None, sentence
    assert solved.solver == "solve-field"
    wcs = read_wcs(solved.cards)
    assert wcs is not None
    ra, dec = wcs.all_pix2world([[399.5, 299.5]], 0)[0]
    assert ra == pytest.approx(83.8, abs=6 / 3600)
    assert dec == pytest.approx(-1.2, abs=6 / 3600)


@pytest.mark.skipif(shutil.which("solve-field") is None, reason="astrometry.net (solve-field) is not installed")
@pytest.mark.skipif(not _has_indexes(), reason="no index files of astrometry.net are installed")
def test_the_command_asks_it_where_our_catalogue_is_too_thin(tmp_path: Path) -> None:
    """A field of a degree that lies ten degrees from where it is said to: our own search around there finds nothing."""
    words = ["simulate", str(tmp_path / "sky"), "--scenario", "sky", "--at=83.8,-5.4", "--scale", "6", "--frames", "1"]
    assert CliRunner().invoke(app, words).exit_code == 0
    image = next((tmp_path / "sky").glob("sky_*.fits"))
    with fits.open(image, mode="update") as hdus:
        for keyword in ("RA", "DEC", "OBJCTRA", "OBJCTDEC", "OBJECT", "FOCALLEN", "XPIXSZ", "YPIXSZ"):
            hdus[0].header.pop(keyword, None)
    done = CliRunner().invoke(app, ["solve", str(image), "--radec", "90.0,-1.0", "--scale", "6", "--json"])
    assert done.exit_code == 0, done.output
    answer = json.loads(done.output)
    assert answer["solver"] == "solve-field"
    assert answer["ra_deg"] == pytest.approx(83.8, abs=6 / 3600)
    assert answer["dec_deg"] == pytest.approx(-5.4, abs=6 / 3600)
