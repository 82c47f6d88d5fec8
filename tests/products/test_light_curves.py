"""Light curves are read back as they were written, a star is found where it is, and files are what others read."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits
from astropy.table import Table

from livestack.base.errors import UsageError
from livestack.photometry.transit import fit_transit
from livestack.products.curve_files import (
    check_aavso,
    mean_mag,
    relative_flux,
    say_transit,
    write_aavso,
    write_curve_csv,
    write_exotic,
    write_transit,
)
from livestack.products.curve_plot import bin_means, draw_curve
from livestack.products.light_curves import (
    find_group,
    parse_radec,
    read_curve,
    read_stars,
    star_at,
    star_in_sky,
    star_of_name,
    star_of_object,
)
from tests.small_curves import write_curves


@pytest.fixture(scope="module")
def group(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("session") / "M101" / "L"
    write_curves(folder)
    return folder


def test_one_group_needs_no_name_and_several_do(group: Path, tmp_path: Path) -> None:
    session = group.parents[1]
    assert find_group(session, None) == group
    assert find_group(session, "M101/L") == group
    with pytest.raises(UsageError, match=r"--group R: has no light curves .* expected one of M101/L"):
        find_group(session, "R")
    write_curves(tmp_path / "a")
    write_curves(tmp_path / "b")
    with pytest.raises(UsageError, match=r"has light curves of a, b; choose one with --group"):
        find_group(tmp_path, None)
    (tmp_path / "none").mkdir()
    with pytest.raises(UsageError, match=r"no stars\.csv was found"):
        find_group(tmp_path / "none", None)
    with pytest.raises(UsageError, match="no such folder"):
        find_group(tmp_path / "gone", None)


def test_stars_and_one_curve_are_what_was_written(group: Path) -> None:
    table = read_stars(group)
    assert table.names == ("1", "2", "12", "13")
    assert [table.names[row] for row in table.most_variable(10)] == ["12", "2", "1"]
    curve = read_curve(table, 1)
    assert curve.label == "star0002"
    assert len(curve.files) == 90
    assert list(np.flatnonzero(curve.flag)) == [7]
    assert curve.good.sum() == 89
    assert not read_curve(table, 3).good.any()
    assert mean_mag(read_curve(table, 0)) == pytest.approx(-9.5, abs=0.002)
    flux, error = relative_flux(curve)
    assert np.median(flux[40:50]) == pytest.approx(0.98 / 0.993, abs=0.004)
    assert error[0] == pytest.approx(0.00276, rel=0.05)


def test_a_table_of_fits_reads_as_the_text_does(group: Path, tmp_path: Path) -> None:
    (tmp_path / "stars.csv").write_bytes((group / "stars.csv").read_bytes())
    Table.read(group / "lightcurves.csv", format="ascii.csv").write(tmp_path / "lightcurves.fits")
    table = read_stars(tmp_path)
    text, binary = read_curve(read_stars(group), 2), read_curve(table, 2)
    assert binary.files == text.files
    for name in ("jd", "bjd", "airmass", "flux", "mag", "mag_err", "flag", "index"):
        assert np.array_equal(getattr(binary, name), getattr(text, name)), name


def test_lines_come_in_the_order_of_time(group: Path, tmp_path: Path) -> None:
    head, *lines = (group / "lightcurves.csv").read_text().splitlines()
    (tmp_path / "stars.csv").write_bytes((group / "stars.csv").read_bytes())
    (tmp_path / "lightcurves.csv").write_text("\n".join([head, *lines[::-1]]))
    curve = read_curve(read_stars(tmp_path), 0)
    assert (np.diff(curve.jd) > 0).all()
    assert curve.files[0] == "light_000.fits"


def test_damaged_tables_are_told_in_a_sentence(group: Path, tmp_path: Path) -> None:
    stars = (group / "stars.csv").read_text()
    (tmp_path / "stars.csv").write_text(stars.replace("variability", "other", 1))
    with pytest.raises(UsageError, match="has no column variability"):
        read_stars(tmp_path)
    (tmp_path / "stars.csv").write_text(stars.replace("300.5", "three"))
    with pytest.raises(UsageError, match="'three' in column x is no number"):
        read_stars(tmp_path)
    (tmp_path / "stars.csv").write_text(stars.splitlines()[0])
    with pytest.raises(UsageError, match="holds no star"):
        read_stars(tmp_path)
    (tmp_path / "stars.csv").write_text(stars)
    with pytest.raises(UsageError, match=r"neither lightcurves.csv nor lightcurves.fits"):
        read_curve(read_stars(tmp_path), 0)
    (tmp_path / "lightcurves.csv").write_text((group / "lightcurves.csv").read_text().splitlines()[0])
    with pytest.raises(UsageError, match="holds no line of star 1"):
        read_curve(read_stars(tmp_path), 0)


def test_a_star_is_found_by_number_pixel_and_place(group: Path, tmp_path: Path) -> None:
    table = read_stars(group)
    assert star_of_name(table, "12") == star_of_name(table, "0012") == 2
    with pytest.raises(UsageError, match="--star 99: no such star"):
        star_of_name(table, "99")
    assert star_at(table, 203, 78) == 1
    with pytest.raises(UsageError, match=r"the nearest star, 2 at 200.0,80.0, is 40 px away"):
        star_at(table, 240, 80)
    ra, dec = float(table.ra_deg[1]), float(table.dec_deg[1])
    assert star_in_sky(table, ra, dec + 5 / 3600, "--radec") == 1
    with pytest.raises(UsageError, match=r"the nearest star, 13, is 1.\d\d degrees away"):
        star_in_sky(table, ra, dec - 1.5, "--radec")
    write_curves(tmp_path / "plain", sky=False)
    with pytest.raises(UsageError, match="no places in the sky"):
        star_in_sky(read_stars(tmp_path / "plain"), ra, dec, "--radec")


@pytest.mark.parametrize(
    ("text", "ra", "dec"),
    [
        ("210.5,-54.25", 210.5, -54.25),
        ("14:03:12,+54:20:57", 210.8, 54.34917),
        ("14 03 12, -00 30 00", 210.8, -0.5),
        ("14h03m12s,+54d20m57s", 210.8, 54.34917),
    ],
)
def test_places_in_the_sky(text: str, ra: float, dec: float) -> None:
    assert parse_radec(text, "--radec") == pytest.approx((ra, dec), abs=1e-4)


@pytest.mark.parametrize("text", ["", "1", "a,b", "400,0", "10,95", "14:70:00,0", "1,2,3"])
def test_no_places_in_the_sky(text: str) -> None:
    with pytest.raises(UsageError, match="is no place in the sky"):
        parse_radec(text, "--radec")


def test_the_object_of_the_header_is_found(group: Path, tmp_path: Path) -> None:
    for name in ("stars.csv", "lightcurves.csv"):
        (tmp_path / name).write_bytes((group / name).read_bytes())
    table = read_stars(tmp_path)
    with pytest.raises(UsageError, match=r"no .*stack.fits"):
        star_of_object(table, "WASP-12")
    header = fits.Header({"OBJECT": "WASP-12"})

    def stack() -> None:
        fits.writeto(tmp_path / "stack.fits", np.zeros((100, 400), np.float32), header, overwrite=True)

    stack()
    with pytest.raises(UsageError, match="does not say where it is"):
        star_of_object(table, "wasp 12")
    header["RA"], header["DEC"] = float(table.ra_deg[2]), float(table.dec_deg[2])
    stack()
    assert star_of_object(table, "wasp 12") == 2
    with pytest.raises(UsageError, match="OBJECT is WASP-12"):
        star_of_object(table, "XO-1")


def test_the_object_is_found_through_a_wcs_where_the_table_has_no_places(tmp_path: Path) -> None:
    folder = tmp_path / "group"
    write_curves(folder, sky=False)
    header = fits.Header({"OBJECT": "XO-1", "OBJCTRA": "14 00 00", "OBJCTDEC": "+54 00 00"})
    fits.writeto(folder / "stack.fits", np.zeros((100, 400), np.float32), header)
    with pytest.raises(UsageError, match="has no WCS"):
        star_of_object(read_stars(folder), "XO-1")
    for axis, ctype, value, pixel in ((1, "RA---TAN", 210.0, 201.0), (2, "DEC--TAN", 54.0, 81.0)):
        header.update({f"CTYPE{axis}": ctype, f"CRVAL{axis}": value, f"CRPIX{axis}": pixel, f"CDELT{axis}": 1 / 3600})
    fits.writeto(folder / "stack.fits", np.zeros((100, 400), np.float32), header, overwrite=True)
    assert star_of_object(read_stars(folder), "XO-1") == 1


def test_what_is_written_for_a_star(group: Path, tmp_path: Path) -> None:
    curve = read_curve(read_stars(group), 1)
    write_curve_csv(tmp_path / "star.csv", curve)
    rows = list(csv.DictReader((tmp_path / "star.csv").read_text().splitlines()))
    assert len(rows) == 90
    assert rows[7]["flag"] == "2"
    assert float(rows[30]["hours"]) == pytest.approx(1.0, abs=1e-4)
    relative = [float(row["mag_relative"]) for row in rows if row["flag"] == "0"]
    assert np.mean(relative) == pytest.approx(0, abs=1e-5)

    write_aavso(tmp_path / "star.txt", curve, "WASP-12 b", "R", "TST")
    lines = (tmp_path / "star.txt").read_text(encoding="ascii").splitlines()
    heads = [line.split("=")[0] for line in lines[:6]]
    assert heads == ["#TYPE", "#OBSCODE", "#SOFTWARE", "#DELIM", "#DATE", "#OBSTYPE"]
    columns = lines[6].lstrip("#").split(",")
    assert len(lines) == 7 + 89
    for line in lines[7:]:
        cells = dict(zip(columns, line.split(","), strict=True))
        assert (cells["FILT"], cells["TRANS"], cells["MTYPE"], cells["CNAME"]) == ("R", "NO", "DIF", "ENSEMBLE")
        assert len(cells["DATE"]) <= 16
        assert len(cells["MAG"]) <= 8
        assert "." in cells["MAG"]
        assert len(cells["MERR"]) <= 6
        assert len(cells["AMASS"]) <= 7

    assert write_exotic(tmp_path / "exotic.csv", curve) is None
    numbers = np.loadtxt(tmp_path / "exotic.csv", delimiter=",")
    assert (tmp_path / "exotic.csv").read_text().startswith("#BJD_TDB,")
    assert numbers.shape == (89, 4)
    assert numbers[:, 0] == pytest.approx(curve.bjd[curve.good], abs=1e-8)
    assert numbers[:, 1].mean() == pytest.approx(1, abs=1e-3)


def test_what_is_not_known_is_not_written(tmp_path: Path) -> None:
    write_curves(tmp_path / "plain", sky=False)
    curve = read_curve(read_stars(tmp_path / "plain"), 1)
    said = write_exotic(tmp_path / "exotic.csv", curve)
    assert said is not None
    assert "airmass" in said
    assert not (tmp_path / "exotic.csv").exists()
    write_aavso(tmp_path / "star.txt", curve, "star0002", "CV", None)
    assert (tmp_path / "star.txt").read_text().splitlines()[8].split(",")[11] == "na"


@pytest.mark.parametrize(
    ("words", "said"),
    [(("a", "Q", None), "--band Q"), (("a", "V", "x;y"), "--obscode x;y"), (("a,b", "V", None), "--name a,b")],
)
def test_what_the_aavso_does_not_take_is_refused(words: tuple[str, str, str | None], said: str) -> None:
    with pytest.raises(UsageError, match=said):
        check_aavso(*words)


def test_bins_do_not_reach_over_gaps() -> None:
    hours = np.r_[np.arange(12) * 0.1, 5 + np.arange(6) * 0.1]
    when, value, error = bin_means(hours, np.r_[np.zeros(12), np.ones(6)], np.full(18, 0.6), 6)
    assert when == pytest.approx([0.25, 0.85, 5.25])
    assert value == pytest.approx([0, 0, 1])
    assert error == pytest.approx(0.6 / 6**0.5)


def test_the_plot_and_the_transit_in_words_and_json(group: Path, tmp_path: Path) -> None:
    table = read_stars(group)
    curve = read_curve(table, 1)
    good = curve.good
    flux, errors = relative_flux(curve)
    transit = fit_transit(curve.bjd[good], flux[good], errors[good], curve.airmass[good])
    assert transit is not None
    draw_curve(tmp_path / "star.png", curve, table, "WASP-12 b [$x$]", transit, np.flatnonzero(good))
    assert (tmp_path / "star.png").read_bytes().startswith(b"\x89PNG")
    sentence = say_transit(transit, "BJD_TDB")[0]
    assert sentence.startswith("Transit at ")
    assert "BJD_TDB" in sentence
    write_transit(tmp_path / "transit.json", transit, "BJD_TDB")
    words = json.loads((tmp_path / "transit.json").read_text())
    assert words["depth"] == pytest.approx(0.02, abs=4 * words["depth_error"])
    assert words["mid"] == pytest.approx(curve.bjd.mean(), abs=4 * words["mid_error"])
    assert "too few" in say_transit(None, "JD_UTC")[0]


def test_stars_of_like_brightness_say_what_is_usual(tmp_path: Path) -> None:
    rows = ["star,x,y,ra_deg,dec_deg,g_mag,n,mag,rms_mmag,expected_mmag,variability"]
    for k in range(20):  # the bright half scatters by 3 mmag beyond photons, the faint half does not
        beyond = 3.0 if k < 10 else 0.0
        rows.append(f"{k},{k},5,,,,50,{-12 + 0.3 * k},{(16 + beyond**2) ** 0.5:.4f},4,1")
    (tmp_path / "stars.csv").write_text("\n".join(rows) + "\n")
    table = read_stars(tmp_path)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("livestack.products.light_curves.ALIKE", 8)
        assert table.usual_excess(0) == pytest.approx(3e-3, rel=1e-3)
        assert table.usual_excess(19) == pytest.approx(0.0, abs=1e-6)
    few = "\n".join(rows[:6]) + "\n"
    (tmp_path / "stars.csv").write_text(few)
    assert read_stars(tmp_path).usual_excess(0) is None
