"""The command `livestack info`: a table for each file, a sentence on stderr for what is none, exit status 1 then."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits

from livestack.base.frame import FrameInfo, FrameKind
from livestack.faces.cli import main
from livestack.formats.words import describe_info


@pytest.fixture
def light(tmp_path: Path) -> Path:
    path = tmp_path / "light.fits"
    header = fits.Header({"BAYERPAT": "RGGB", "OBJECT": "M 31", "EXPTIME": "6,4E-05", "IMAGETYP": "Light Frame"})
    fits.PrimaryHDU(np.zeros((6, 8), np.uint16), header).writeto(path)
    return path


def run(monkeypatch: pytest.MonkeyPatch, *words: str) -> int:
    monkeypatch.setattr(sys, "argv", ["livestack", "info", *words])
    with pytest.raises(SystemExit) as ended:
        main()
    return int(ended.value.code or 0)


def test_a_table_with_the_oddities(
    light: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", "120")
    assert run(monkeypatch, str(light)) == 0
    shown = capsys.readouterr().out
    for words in ("light.fits", "8 x 6, mosaic RGGB, 16 bit", "M 31", "6.4e-05 s", "uses a decimal comma"):
        assert words in shown


def test_what_cannot_be_read_is_said_and_the_rest_shown(
    light: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    broken = light.with_name("broken.fits")
    broken.write_bytes(light.read_bytes()[:-2880])
    assert run(monkeypatch, str(broken), str(light)) == 1
    shown = capsys.readouterr()
    assert "M 31" in shown.out
    assert (
        shown.err == "livestack: broken.fits declares 5760 bytes and holds 2880: still being written, or broken off.\n"
    )


def test_rows_name_only_what_is_known() -> None:
    assert describe_info(FrameInfo(8, 6)) == [("picture", "8 x 6, mono, 16 bit"), ("kind", "unknown")]
    full = FrameInfo(
        8, 6, FrameKind.DARK, planes=3, is_master=True, bottom_up=True, binning=(2, 2), ra_deg=10.0, dec_deg=-5.5
    )
    rows = dict(describe_info(full, frames=7))
    assert rows["kind"] == "master dark"
    assert rows["frames in the file"] == "7"
    assert rows["first row"] == "bottom of the picture"
    assert rows["binning"] == "2 x 2"
    assert rows["pointing"] == "RA 10.0000°, Dec -5.5000°"
