"""Places from headers, barycentric times, air mass, scintillation: against astropy, other programs, old papers."""

from __future__ import annotations

import subprocess
import sys
import warnings

import numpy as np
import pytest
from astropy import units as u
from astropy.coordinates import AltAz, EarthLocation, SkyCoord
from astropy.io import fits
from astropy.time import Time
from astropy.utils import iers
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from livestack.base.frame import FrameInfo
from livestack.formats.cards import Cards
from livestack.formats.headers import describe
from livestack.photometry.times import (
    Site,
    airmass,
    airmass_at,
    bjd_tdb,
    find_site,
    posix_seconds,
    scintillation_mmag,
    site_of,
)

ONDREJOV = Site(49.91, 14.78, 500.0)


@pytest.fixture(autouse=True)
def _offline():
    with iers.conf.set_temp("auto_download", False):
        yield


class TestSite:
    @pytest.mark.parametrize(
        "lat, lon",
        [
            (50.0533333333, -5.51),
            ("50 03 12", "-05 30 36"),
            ("+50:03:12", "-005:30:36"),
            ("50 03 12 N", "5 30 36 W"),
            ("N50 03 12", "W 005 30 36"),
            ("50d03m12s", "-5d30m36s"),
            ("50D03M12S", "5D30M36SW"),
            ("50°03'12\" N", "5°30'36\" W"),
            ("50,0533333333", "-5,51"),
            ("50.0533333333 deg", "354.49 deg"),
            ("50.0533333333N", "-5.51W"),
            (50.0533333333, 354.49),
        ],
    )
    def test_many_ways_to_write_degrees(self, lat, lon):
        site = find_site({"SITELAT": lat, "SITELONG": lon, "SITEELEV": "250 m"})
        assert site is not None
        found = (site.lat_deg, site.lon_deg, site.height_m)
        np.testing.assert_allclose(found, (50.0533333333, -5.51, 250.0), rtol=1e-9)

    def test_south(self):
        assert find_site({"SITELAT": "33 30 00 S", "SITELONG": "70 30 E"}) == Site(-33.5, 70.5)
        assert find_site({"SITELAT": "-0 30 00", "SITELONG": "70 30"}) == Site(-0.5, 70.5)

    @pytest.mark.parametrize(
        "lat, lon, height",
        [
            ("SITELAT", "SITELONG", "SITEELEV"),
            ("LAT-OBS", "LONG-OBS", "ALT-OBS"),
            ("OBSGEO-B", "OBSGEO-L", "OBSGEO-H"),
            ("GEO_LAT", "GEO_LONG", "GEO_ELEV"),
            ("LATITUDE", "LONGITUD", "SITEELEV"),
            ("OBS-LAT", "OBS-LONG", "OBS-ELEV"),
        ],
    )
    def test_spellings_survive_in_the_frame(self, lat, lon, height):
        cards = Cards()
        for keyword, value in ((lat, 48.5), (lon, 11.25), (height, 610.0), ("APTDIA", 203.0)):
            cards.add(keyword, value)
        info = describe(cards, 30, 20, 1, 16, 65535.0)
        assert site_of(info) == Site(48.5, 11.25, 610.0)
        assert ("APTDIA", 203.0, "") in info.cards

    def test_geocentric_metres(self):
        where = EarthLocation.from_geodetic(-70.806789, -30.169283, 2241.9)
        cards = Cards()
        for axis, value in zip("XYZ", where.to_geocentric(), strict=True):
            cards.add(f"OBSGEO-{axis}", float(value.to_value("m")))
        site = site_of(describe(cards, 30, 20, 1, 16, None))
        assert site is not None
        np.testing.assert_allclose(
            (site.lat_deg, site.lon_deg, site.height_m), (-30.169283, -70.806789, 2241.9), rtol=1e-7
        )

    @pytest.mark.parametrize(
        "lat, lon",
        [(0.0, 0.0), (95.0, 11.0), (48.0, 400.0), ("", ""), ("unknown", "11"), (48.0, None), (True, 3.0),
         ("48 75 00", "11 00 00"), (float("nan"), 11.0), ("0 00 00", "+000:00:00")],
    )  # fmt: skip
    def test_nonsense_is_unknown(self, lat, lon):
        cards = {k: v for k, v in (("SITELAT", lat), ("SITELONG", lon)) if v is not None}
        assert find_site(cards) is None
        assert find_site(cards | {"LAT-OBS": 48.5, "LONG-OBS": 11.25}) == Site(48.5, 11.25), "the next spelling counts"

    def test_equator_and_greenwich_are_places(self):
        assert find_site({"SITELAT": 0.0, "SITELONG": -78.5}) == Site(0.0, -78.5)
        assert find_site({"SITELAT": 51.48, "SITELONG": 0.0}) == Site(51.48, 0.0)

    def test_unlikely_heights_are_none(self):
        for height in (20000, -7000, "high", float("inf")):
            assert find_site({"SITELAT": 48.0, "SITELONG": 11.0, "SITEELEV": height}) == Site(48.0, 11.0, 0.0)
        assert find_site({"OBSGEO-X": 0.0, "OBSGEO-Y": 0.0, "OBSGEO-Z": 0.0}) is None

    def test_a_fits_header_will_do(self):
        header = fits.Header([("SITELAT", "48 08 00"), ("SITELONG", "11 34 48")])
        site = find_site(header)
        assert site is not None
        assert site.lon_deg == pytest.approx(11.58)
        assert site_of(FrameInfo(3, 2)) is None

    @settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
    @given(st.dictionaries(st.sampled_from(["SITELAT", "SITELONG", "SITEELEV", "OBSGEO-X", "OBSGEO-Y", "OBSGEO-Z"]),
                           st.one_of(st.floats(), st.integers(), st.text(max_size=20), st.booleans())))  # fmt: skip
    def test_never_raises(self, cards):
        site = find_site(cards)
        assert site is None or (abs(site.lat_deg) <= 90 and abs(site.lon_deg) <= 180 and abs(site.height_m) <= 9000)


class TestBarycentre:
    def test_published_example(self):
        """barycorrpy's documentation: tau Ceti from Cerro Tololo; its motion is applied here, ours are at rest."""
        years = (2458000 - 2448348.5625) / 365.25  # since Hipparcos
        dec = -15.9395557246 + 0.85416 / 3600 * years
        ra = 26.0213645867 - 1.72105 / 3600 * years / np.cos(np.radians(dec))
        got = bjd_tdb(np.array([2458000.0, 2458000.00001]), ra, dec, Site(-30.169283, -70.806789, 2241.9))
        np.testing.assert_allclose(got, [2458000.00505211, 2458000.00506211], rtol=0, atol=1e-7)

    @pytest.mark.parametrize("site", [ONDREJOV, Site(-30.17, -70.8, 2200.0)])
    def test_as_astropy_has_it(self, site):
        jd = 2460380.33 + np.linspace(0, 365, 50)
        location = EarthLocation.from_geodetic(site.lon_deg, site.lat_deg, site.height_m)
        time = Time(jd, format="jd", scale="utc", location=location)
        for ra, dec in ((120.0, 30.0), (301.5, -66.6), (10.0, 89.5)):
            there = time.tdb + time.light_travel_time(SkyCoord(ra, dec, unit="deg"), ephemeris="builtin")
            seconds = np.abs(bjd_tdb(jd, ra, dec, site) - there.jd) * 86400
            assert seconds.max() < 1e-4

    def test_light_crosses_the_orbit_in_a_thousand_seconds(self):
        jd = 2460310.5 + np.arange(366.0)
        delay = (bjd_tdb(jd, 90.0, 23.44, None) - jd) * 86400  # where the Sun is in June
        assert delay.max() - delay.min() == pytest.approx(2 * 499.0, rel=0.01)
        assert abs(np.argmin(delay) - 171) <= 3
        pole = (bjd_tdb(jd, 270.0, 66.56, None) - jd) * 86400
        np.testing.assert_allclose(pole, 69.184, atol=3.5)  # leap seconds and 32.184; the Sun is off the barycentre

    def test_without_a_place_at_most_21_ms_off(self):
        jd = 2460380.0 + np.linspace(0, 1, 97)
        off = np.abs(bjd_tdb(jd, 120.0, 0.0, None) - bjd_tdb(jd, 120.0, 0.0, Site(0.1, 14.0))) * 86400
        assert 0.018 < off.max() < 0.0215

    def test_unknown_moments_stay_unknown(self):
        got = bjd_tdb(np.array([np.nan, 2460380.0, np.inf]), 120.0, 30.0, ONDREJOV)
        assert np.isfinite(got).tolist() == [False, True, False]
        assert bjd_tdb(np.array([]), 120.0, 30.0, ONDREJOV).shape == (0,)

    @pytest.mark.parametrize("jd", [2415020.5, 2440000.5, 2469807.5, 2488069.5])
    def test_far_dates_give_no_warning(self, jd):
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            assert abs(bjd_tdb(np.array([jd]), 120.0, 30.0, ONDREJOV)[0] - jd) < 700 / 86400
            assert np.isfinite(airmass(np.array([jd]), 120.0, 89.0, ONDREJOV)).all()

    def test_settings_of_astropy_are_left_alone(self):
        with iers.conf.set_temp("auto_download", True):
            bjd_tdb(np.array([2460380.0]), 120.0, 30.0, ONDREJOV)
            assert iers.conf.auto_download is True

    def test_coordinates_are_loaded_when_asked_for(self):
        code = "import sys, livestack.photometry.times; print('astropy.coordinates' in sys.modules)"
        ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
        assert ended.stdout.strip() == "False"

    @settings(max_examples=15, deadline=None)
    @given(st.integers(0, 5), st.integers(0, 4), st.booleans())
    def test_shapes(self, t, n, placed):
        jd = 2460380.0 + 0.01 * np.arange(t)
        ra, dec = np.linspace(10, 50, n)[:, None], np.linspace(-20, 80, n)[:, None]
        site = ONDREJOV if placed else None
        all_at_once = bjd_tdb(jd, ra, dec, site)
        assert all_at_once.shape == (n, t)
        assert airmass(jd, ra, dec, ONDREJOV).shape == (n, t)
        for star in range(n):
            alone = bjd_tdb(jd, float(ra[star, 0]), float(dec[star, 0]), site)
            np.testing.assert_allclose(all_at_once[star], alone, rtol=0, atol=1e-9)
        assert (np.diff(all_at_once, axis=1) > 0).all()


class TestAirmass:
    def test_known_altitudes(self):
        """Pickering 2002, from apparent altitudes (Bennett's refraction added); Young's value at the horizon."""
        true = np.array([90.0, 75.0, 60.0, 45.0, 30.0, 20.0, 10.0])
        apparent = true + 1.02 / np.tan(np.radians(true + 10.3 / (true + 5.11))) / 60
        pickering = 1 / np.sin(np.radians(apparent + 244 / (165 + 47 * apparent**1.1)))
        got = airmass_at(np.sin(np.radians(true)))
        np.testing.assert_allclose(got, pickering, rtol=4e-3)
        np.testing.assert_allclose(got[:5], 1 / np.sin(np.radians(true[:5])), rtol=5e-3)
        assert airmass_at(np.array(0.0)) == pytest.approx(31.7, abs=0.1)
        assert np.isnan(airmass_at(np.array([-1e-6, -0.5, np.nan]))).all()

    def test_altitudes_as_astropy_has_them(self):
        jd = 2460380.0 + np.linspace(0, 1, 60)
        location = EarthLocation.from_geodetic(ONDREJOV.lon_deg, ONDREJOV.lat_deg, ONDREJOV.height_m)
        star = SkyCoord(120.0, 10.0, unit="deg")
        frame = AltAz(obstime=Time(jd, format="jd", scale="utc"), location=location)
        alt = star.transform_to(frame).alt.to_value(u.deg)
        got = airmass(jd, 120.0, 10.0, ONDREJOV)
        assert np.isnan(got[alt < -0.1]).all()
        assert np.isnan(got).sum() > 10
        high = alt > 15
        np.testing.assert_allclose(got[high], airmass_at(np.sin(np.radians(alt[high]))), rtol=1e-3)
        assert np.isnan(airmass(np.array([np.nan]), 120.0, 10.0, ONDREJOV)).all()

    @given(st.lists(st.floats(0, 1), min_size=2, max_size=20))
    def test_lower_is_thicker(self, cosines):
        air = airmass_at(np.sort(cosines))
        assert (np.diff(air) <= 1e-12).all()
        assert air.min() > 0.9999


class TestScintillation:
    def test_youngs_formula_with_osborns_factor(self):
        """Young: 0.09 D_cm^(-2/3) X^1.75 exp(-h / 8000) / sqrt(2 t), of which Osborn found half again as much."""
        young = 1085.736 * 0.09 * 20.0 ** (-2 / 3) / np.sqrt(2 * 30.0) * np.exp(-500 / 8000)
        assert scintillation_mmag(np.array(1.0), 200.0, 30.0, 500.0) == pytest.approx(1.5 * young, rel=0.1)
        assert scintillation_mmag(np.array(1.0), 1000.0, 1.0, 0.0) == pytest.approx(1085.736 * 1.5 * 10**-2.5, rel=1e-5)

    @given(st.floats(1, 10), st.floats(30, 2000), st.floats(0.1, 600), st.floats(0, 4000))
    def test_laws(self, air, aperture, exposure, height):
        here = float(scintillation_mmag(np.array(air), aperture, exposure, height))
        assert scintillation_mmag(np.array(2 * air), aperture, exposure, height) == pytest.approx(here * 2**1.5)
        assert scintillation_mmag(np.array(air), 8 * aperture, exposure, height) == pytest.approx(here / 4)
        assert scintillation_mmag(np.array(air), aperture, 4 * exposure, height) == pytest.approx(here / 2)
        assert scintillation_mmag(np.array(air), aperture, exposure, height + 100) < here

    def test_nothing_to_look_through_is_an_error(self):
        with pytest.raises(ValueError, match="aperture 0 mm"):
            scintillation_mmag(np.array(1.0), 0.0, 30.0, 0.0)
        assert np.isnan(scintillation_mmag(np.array([1.0, np.nan]), 100.0, 1.0, 0.0)).tolist() == [False, True]


def test_posix_seconds_are_the_clocks():
    moment = Time("2024-03-10T20:00:25", scale="utc")
    assert posix_seconds(np.array(moment.jd)) == pytest.approx(moment.unix, abs=1e-3)
