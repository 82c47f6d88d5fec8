"""Asking a solver that is installed."""

from __future__ import annotations

import stat
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from astropy.io.fits import Header

from livestack.astrometry import Catalogue, Hint, Solved, Unsolved
from livestack.astrometry.installed import draw_stars, solve_plate, solve_stars
from livestack.astrometry.sky_map import SkyMap
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


def test_a_solver_is_ended_with_all_that_it_has_started(only_path, tmp_path):
    """What `solve-field` starts does the work, and outlives it."""
    beat = tmp_path / "beat"
    child = f"import time\nwhile True: open({str(beat)!r}, 'a').write('.'); time.sleep(0.02)"
    words = [sys.executable, "-c", child]
    put_solver(only_path, "solve-field", f"import subprocess\nsubprocess.run({words!r}, check=True)")
    cancelled = threading.Event()

    def cancel_when_it_runs():
        while not beat.exists():
            time.sleep(0.02)
        cancelled.set()

    waiting = threading.Thread(target=cancel_when_it_runs)
    waiting.start()
    solution, sentence = solve_plate(tmp_path / "stack.fits", timeout_s=60.0, cancelled=cancelled)
    waiting.join()
    assert solution is None
    assert "without a solution" in sentence
    time.sleep(0.1)
    length = beat.stat().st_size
    time.sleep(0.3)
    assert beat.stat().st_size == length


def test_stars_are_drawn_where_they_are():
    xy = np.array([[20.3, 30.6], [70.0, 12.25], [-40.0, 5.0]])
    picture = draw_stars(xy, np.array([900.0, 100.0, 50.0]), (100, 60), 1.0)
    assert picture.shape == (60, 100)
    for x, y in xy[:2]:
        rows, columns = np.mgrid[round(y) - 6 : round(y) + 7, round(x) - 6 : round(x) + 7]
        light = picture[rows, columns].astype(float) - 1000
        assert (light * columns).sum() / light.sum() == pytest.approx(x, abs=0.05)
        assert (light * rows).sum() / light.sum() == pytest.approx(y, abs=0.05)


def put_sky(only_path: Path, sky: SkyMap) -> None:
    """A program that says that every picture lies there."""
    header = Header()
    for keyword, value, comment in sky.cards():
        header[keyword] = (value, comment)
    raw = header.tostring().encode()
    put_solver(only_path, "solve-field", f"open(sys.argv[sys.argv.index('--wcs') + 1], 'wb').write({raw!r})")


@pytest.mark.parametrize("shrink", [1.0, 2.5])
def test_what_a_solver_says_is_held_against_the_catalogue(only_path, shrink):
    """The right place is believed, and its map is one of the picture's own pixels; another place is not."""
    catalogue = Catalogue.load(2026.0)
    width, height = round(2400 * shrink), round(1600 * shrink)
    cd = np.array([[-4.0, 0.3], [0.3, 4.0]]) / 3600 / shrink
    true = SkyMap(83.8, -1.2, (width - 1) / 2, (height - 1) / 2, cd, width, height)
    near = catalogue.around(np.array(_vector(83.8, -1.2)), 0.05)
    xy = true.pixels_of(catalogue.vectors[near])
    seen = ((xy > 0) & (xy < (width, height))).all(axis=1)
    xy, flux = xy[seen], 10 ** (-0.4 * catalogue.g[near][seen].astype(float))
    assert len(xy) > 20
    drawn = SkyMap(83.8, -1.2, 1199.5, 799.5, cd * shrink, 2400, 1600)
    put_sky(only_path, drawn)
    answer = solve_stars(xy, flux, width, height, Hint(), catalogue)
    assert isinstance(answer, Solved)
    assert answer.solver == "solve-field"
    assert answer.n_matched == len(xy)
    assert answer.rms_px < 0.05
    np.testing.assert_allclose(answer.sky.to_pixels(true.to_sky(np.array([[0.0, 0.0], [width, 9.0]]))),
                               [[0.0, 0.0], [width, 9.0]], atol=0.05)  # fmt: skip
    put_sky(only_path, SkyMap(95.0, 20.0, 1199.5, 799.5, cd * shrink, 2400, 1600))
    answer = solve_stars(xy, flux, width, height, Hint(), catalogue)
    assert isinstance(answer, Unsolved)
    assert "bright stars there" in answer.sentence


def _vector(ra: float, dec: float) -> tuple[float, float, float]:
    a, d = np.radians((ra, dec))
    return np.cos(d) * np.cos(a), np.cos(d) * np.sin(a), np.sin(d)
