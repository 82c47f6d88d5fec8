"""Asking a solver that is installed."""

from __future__ import annotations

import stat
import sys

import numpy as np
import pytest
from astropy.io.fits import Header

from livestack.products.plate_solving import solve_plate
from tests.formats.test_wcs import HEIGHT, sky_cards, wcs_from, worst_arcsec


def put_solver(folder, name, body):
    script = folder / name
    script.write_text(f"#!{sys.executable}\nimport sys, time\n{body}\n")
    script.chmod(script.stat().st_mode | stat.S_IXUSR)


@pytest.fixture
def only_path(tmp_path, monkeypatch):
    """An empty folder that is all there is on PATH."""
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", str(folder))
    return folder


def header_of_sky() -> Header:
    header = Header()
    for keyword, value, comment in sky_cards():
        header[keyword] = (value, comment)
    return header


def test_without_a_solver_there_is_a_sentence(only_path, tmp_path):
    solution, sentence = solve_plate(tmp_path / "stack.fits")
    assert solution is None
    assert "astap_cli" in sentence


def test_astap_is_asked_and_its_text_header_read(only_path, tmp_path):
    text = header_of_sky().tostring(sep="\r\n", padding=False, endcard=True)
    put_solver(
        only_path,
        "astap_cli",
        f"args = sys.argv\nopen({str(tmp_path / 'asked')!r}, 'w').write(' '.join(args[1:]))\n"
        f"open(args[args.index('-o') + 1] + '.wcs', 'w', newline='').write({text!r})",
    )
    solution, sentence = solve_plate(tmp_path / "stack.fits", 299.9, 22.7, scale_arcsec_px=1.8, height_px=HEIGHT)
    assert solution is not None
    assert solution.solver == "astap_cli"
    assert worst_arcsec(wcs_from(sky_cards()), wcs_from(solution.cards), np.eye(3)) < 1e-5
    assert "OBJECT" not in {card[0] for card in solution.cards}
    assert "1.800 arcsec" in sentence
    words = (tmp_path / "asked").read_text().split()
    assert words[words.index("-fov") + 1] == "0.2400"
    assert float(words[words.index("-ra") + 1]) == pytest.approx(299.9 / 15)
    assert float(words[words.index("-spd") + 1]) == pytest.approx(112.7)


def test_solve_field_is_asked_and_its_fits_header_read(only_path, tmp_path):
    raw = header_of_sky().tostring()
    put_solver(
        only_path,
        "solve-field",
        f"args = sys.argv\nopen(args[args.index('--wcs') + 1], 'wb').write({raw.encode()!r})",
    )
    solution, _ = solve_plate(tmp_path / "stack.fits")
    assert solution is not None
    assert worst_arcsec(wcs_from(sky_cards()), wcs_from(solution.cards), np.eye(3)) < 1e-5


def test_a_solver_that_fails_or_hangs_costs_nothing_but_time(only_path, tmp_path):
    put_solver(only_path, "astap", "sys.exit(1)")
    solution, sentence = solve_plate(tmp_path / "stack.fits")
    assert solution is None
    assert "exit status 1" in sentence
    put_solver(only_path, "astap", "time.sleep(60)")
    solution, sentence = solve_plate(tmp_path / "stack.fits", timeout_s=0.3)
    assert solution is None
    assert "0.3 s" in sentence
