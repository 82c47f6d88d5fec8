"""An astrometry.net that is really installed, on a picture of the simulated real sky; skipped where there is none."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from typer.testing import CliRunner

from livestack.faces.cli import app
from livestack.formats.wcs import read_wcs
from livestack.products import plate_solving


def _has_indexes() -> bool:
    return any(Path("/usr/share/astrometry").glob("index-*"))


@pytest.mark.skipif(shutil.which("solve-field") is None, reason="astrometry.net (solve-field) is not installed")
@pytest.mark.skipif(not _has_indexes(), reason="no index files of astrometry.net are installed")
def test_solve_field_finds_what_was_drawn(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    words = ["simulate", str(tmp_path / "sky"), "--scenario", "sky", "--at=83.8,-1.2", "--scale", "12", "--frames", "1"]
    assert CliRunner().invoke(app, words).exit_code == 0
    image = next((tmp_path / "sky").glob("sky_*.fits"))
    monkeypatch.setattr(plate_solving, "SOLVERS", ("solve-field",))
    solved, sentence = plate_solving.solve_plate(image, 83.9, -1.1, 12.5, 600, 60.0)
    assert solved is not None, sentence
    assert solved.solver == "solve-field"
    wcs = read_wcs(solved.cards)
    assert wcs is not None
    ra, dec = wcs.all_pix2world([[399.5, 299.5]], 0)[0]
    assert ra == pytest.approx(83.8, abs=6 / 3600)
    assert dec == pytest.approx(-1.2, abs=6 / 3600)
