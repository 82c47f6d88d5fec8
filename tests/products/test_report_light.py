"""The report's chapter on the light of stars, from tables written here."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits

from livestack.products.light_curves import CURVE_COLUMNS, STAR_COLUMNS
from livestack.products.report.light import light_chapter


def write(folder: Path, variability: float, ratio: float = 1.0, n: int = 20) -> None:
    """Thirty stars over five magnitudes; star 4 varies as surely as is said."""
    random = np.random.default_rng(1)
    stars, curves = [",".join(STAR_COLUMNS)], [",".join(CURVE_COLUMNS)]
    for k in range(30):
        mag, expected = -14 + k / 6, 2.0 * 1.15**k
        sure = variability if k == 4 else 0.5
        stars.append(f"{k},{10 + k},{20 + k},,,,{n},{mag},{ratio * expected},{expected},{sure}")
        for j in range(n):
            value = mag + random.normal() * expected / 1e3 + (0.3 if k == 4 and j > n // 2 else 0)
            jd = 2460380.3 + j / 1440
            curves.append(f"{k},f{j}.fits,0,{jd:.8f},,,1000,{value:.5f},{expected / 1e3},{16 if j == 3 else 0}")
    (folder / "stars.csv").write_text("\n".join(stars) + "\n")
    (folder / "lightcurves.csv").write_text("\n".join(curves) + "\n")


def test_a_star_that_varies_is_drawn_and_the_others_are_said_to_hold(tmp_path: Path) -> None:
    write(tmp_path, 12.0)
    said = light_chapter(tmp_path)
    assert "30 stars were measured" in said
    assert "1 star varies beyond doubt" in said
    assert "<h3>Star 4</h3>" in said
    assert "100 % of all hold" in said
    assert said.count("<svg") == 2
    assert "flagged" in said


@pytest.mark.parametrize("variability", [5.0, float("nan")])
def test_what_is_not_sure_is_not_claimed(tmp_path: Path, variability: float) -> None:
    write(tmp_path, variability, ratio=1.5)
    said = light_chapter(tmp_path)
    assert "No star varied beyond doubt" in said
    assert "0 % of all hold" in said
    assert said.count("<svg") == 1


def test_nothing_to_say(tmp_path: Path) -> None:
    assert light_chapter(tmp_path) == ""
    write(tmp_path, 12.0, n=3)
    assert light_chapter(tmp_path) == ""


def test_the_twinkling_of_the_air_is_drawn_where_the_telescope_is_known(tmp_path: Path) -> None:
    write(tmp_path, 1.0)
    assert "is not drawn: no header names the aperture" in light_chapter(tmp_path)
    header = fits.Header(
        [("APTDIA", 80.0), ("EXPTIME", 10.0), ("SITELAT", 45.0), ("SITELONG", 8.0), ("SITEELEV", 300.0)]
    )
    fits.PrimaryHDU(np.zeros((2, 2), np.float32), header).writeto(tmp_path / "stack.fits")
    said = light_chapter(tmp_path)
    # Young 1967 in the form of Dravins et al. 1998: 0.09 D^(-2/3) / sqrt(2 t), D in cm; half as much again by Osborn
    young = 1085.7 * 0.09 * 8.0 ** (-2 / 3) / np.sqrt(2 * 10.0) * np.exp(-300 / 8000)
    number = float(said.split("by Young's law ")[1].split(" mmag")[0])
    assert number == pytest.approx(1.5 * young, rel=0.15)
    assert "scintillation of the air" in said
    assert "300 m above the sea" in said
    assert "in the zenith" in said
