"""Frames of real cameras: what their headers say, and pixels as astropy and OpenCV see them. Skipped where absent."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import cv2
import numpy as np
import pytest
from astropy.io import fits

from livestack.base.errors import TruncatedFrame
from livestack.base.frame import FrameKind
from livestack.formats import check_complete, count_frames, is_frame_name, read_frame, read_info

DATA = Path(__file__).resolve().parents[3] / "shared" / "data"
pytestmark = pytest.mark.skipif(not DATA.is_dir(), reason="the folder of real frames is not beside the repository")

FOLDERS = {
    "m27_osc_asi224": (6, (1304, 976), "RGGB", 1),
    "m94_osc_seestar": (12, (1080, 1920), "GRBG", 1),
    "m44_altaz_jpeg": (18, (1304, 976), None, 3),
    "moon_png": (24, (1280, 960), None, 1),
    "eso085_pair": (2, (1024, 682), None, 1),
    "streak_single": (1, (512, 512), None, 1),
    "calib_osc_asi120/bias": (5, (1280, 960), "GRBG", 1),
    "calib_osc_asi120/dark_10s": (5, (1280, 960), "GRBG", 1),
    "calib_osc_asi120/flat": (5, (1280, 960), "GRBG", 1),
}


def first(folder: str) -> Path:
    return sorted((DATA / folder).iterdir())[0]


@pytest.mark.parametrize("folder", FOLDERS)
def test_all_are_whole_and_alike(folder: str) -> None:
    number, size, bayer, planes = FOLDERS[folder]
    paths = sorted(path for path in (DATA / folder).iterdir() if is_frame_name(path))
    assert len(paths) == number
    for path in paths:
        check_complete(path)
        info = read_info(path)
        assert (info.size, info.bayer, info.planes) == (size, bayer, planes)
        assert count_frames(path) == 1


@pytest.mark.parametrize("folder", [name for name in FOLDERS if "jpeg" not in name and "png" not in name])
def test_pixels_equal_astropy(folder: str) -> None:
    path = first(folder)
    frame = read_frame(path)
    np.testing.assert_array_equal(frame.data, fits.getdata(path))
    assert frame.data.dtype == (np.int16 if folder == "streak_single" else np.uint16)


@pytest.mark.parametrize("folder", ["m44_altaz_jpeg", "moon_png"])
def test_pixels_equal_opencv(folder: str) -> None:
    path = first(folder)
    image = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
    np.testing.assert_array_equal(
        read_frame(path).data, image if image.ndim == 2 else image[..., ::-1].transpose(2, 0, 1)
    )


def test_words_of_indi() -> None:
    info = read_info(first("m27_osc_asi224"))
    assert (info.kind, info.object_name, info.filter_name) == (FrameKind.LIGHT, None, "Luminance")
    assert (info.exposure_s, info.gain, info.camera) == (6.0, 180.0, "ZWO CCD ASI224MC")
    assert info.date_obs == datetime(2018, 9, 7, 22, 31, 45, 431000, UTC)
    assert info.scale_arcsec_px == pytest.approx(1.51691, abs=1e-4)
    assert (info.ra_deg, info.dec_deg) == (pytest.approx(299.925, abs=1e-3), pytest.approx(22.722, abs=1e-3))


def test_words_of_seestar() -> None:
    info = read_info(first("m94_osc_seestar"))
    assert (info.kind, info.object_name, info.exposure_s) == (FrameKind.LIGHT, "M 94", 10.0)
    assert (info.pixel_um, info.focal_mm, info.temperature_c) == (pytest.approx(2.9), 250.0, 25.125)
    assert info.date_obs == datetime(2025, 3, 27, 1, 20, 32, 955368, UTC)


def test_words_of_maxim() -> None:
    info = read_info(first("eso085_pair"))
    assert (info.kind, info.binning, info.telescope) == (FrameKind.LIGHT, (3, 3), None)
    assert info.scale_arcsec_px == pytest.approx(206.264806 * 27 / 7475)


def test_decimal_comma_of_asiimg() -> None:
    info = read_info(first("calib_osc_asi120/bias"))
    assert (info.exposure_s, info.offset, info.gain) == (6.4e-05, 9.0, 0.0)
    assert "EXPTIME = '6,4E-05' uses a decimal comma; read as 6.4e-05." in info.oddities
    assert read_info(first("calib_osc_asi120/dark_10s")).exposure_s == 10.0
    assert read_info(first("calib_osc_asi120/flat")).exposure_s == 0.005


def test_the_year_that_counts_from_1900() -> None:
    """The header's own Julian date, 2452482.31709, is the same moment."""
    path = first("streak_single")
    info = read_info(path)
    assert info.date_obs == datetime(2002, 7, 26, 19, 36, 37, tzinfo=UTC)
    moment = info.date_obs.timestamp() / 86400 + 2440587.5
    assert moment == pytest.approx(fits.getheader(path)["JD"], abs=1e-5)
    assert len(info.oddities) == 1
    assert info.ra_deg == pytest.approx(15 * (15 + 28 / 60 + 35.7 / 3600))


def test_a_real_frame_cut_off_is_told_with_both_lengths(tmp_path: Path) -> None:
    content = (DATA / "m27_osc_asi224" / "Light_1283.fits").read_bytes()
    path = tmp_path / "Light_1283.fits"
    path.write_bytes(content[: len(content) // 3])
    with pytest.raises(TruncatedFrame) as raised:
        check_complete(path)
    assert str(raised.value) == (
        f"Light_1283.fits declares {len(content)} bytes and holds {len(content) // 3}: "
        "still being written, or broken off."
    )


@pytest.mark.parametrize("folder", FOLDERS)
def test_carried_cards_are_valid(folder: str) -> None:
    header = fits.Header([fits.Card(*card) for card in read_info(first(folder)).cards])
    fits.PrimaryHDU(np.zeros((2, 3)), header).verify("exception")
