"""What is written is what the contract says, read back with astropy."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
from astropy.io import fits
from astropy.wcs import WCS

from livestack.base.settings import Settings
from livestack.engine.live_stack import LiveStack
from livestack.engine.results import Result
from livestack.products.stack_files import EXTENSIONS, build_header, write_pictures, write_stack
from livestack.simulate import named_scenario, simulate_frame


@pytest.fixture(scope="module", params=["mono", "osc"])
def saved(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Result]:
    night = named_scenario(request.param, frames=5, width=320, height=230, seed=4)
    folder = tmp_path_factory.mktemp("saved")
    settings = Settings()
    with LiveStack(settings) as stack:
        for i in range(5):
            stack.add(simulate_frame(night, i).frame)
        result = stack.result()
        header = build_header(result, settings, "0", None, ["Calibrated with nothing: a test, 5 °C."], final=False)
        write_stack(folder / "stack.fits", result, header)
        write_pictures(folder, result, settings, stack.bands, None)
    return folder, result


def test_arrays_and_maps(saved: tuple[Path, Result]) -> None:
    folder, result = saved
    with fits.open(folder / "stack.fits") as hdus:
        assert hdus[0].data.dtype == np.dtype(">f4")
        assert np.array_equal(hdus[0].data, result.mean, equal_nan=True)
        assert [hdu.name for hdu in hdus[1:]] == list(EXTENSIONS)
        for name in EXTENSIONS:
            assert hdus[name].data.shape == result.mean.shape
        assert np.array_equal(hdus["COVERAGE"].data, result.coverage)
        assert np.array_equal(hdus["VARIANCE"].data, result.variance, equal_nan=True)
        hdus.verify("exception")


def test_header(saved: tuple[Path, Result]) -> None:
    folder, _ = saved
    header = fits.getheader(folder / "stack.fits")
    assert (header["NCOMBINE"], header["NREFUSED"], header["EXPTIME"], header["EXPTOTAL"]) == (5, 0, 30.0, 150.0)
    assert header["DATE-OBS"] == "2025-08-14T21:03:20.000"
    assert header["DATE-END"] == "2025-08-14T21:05:58.000"
    assert header["OBJECT"] == "M 27"
    assert header["REJECT"] == "live"
    assert header["SWCREATE"].startswith("livestack")
    assert header["REFFRAME"].endswith("[0]")
    assert header["FWHM"] == pytest.approx(3.1, abs=0.5)
    assert "Calibrated with nothing" in str(header["HISTORY"])
    assert WCS(header, fix=False).naxis in (2, 3)


def test_pictures(saved: tuple[Path, Result]) -> None:
    folder, _ = saved
    png, tif = (cv2.imread(str(folder / name), cv2.IMREAD_UNCHANGED) for name in ("stack.png", "stack.tif"))
    assert (png.dtype, tif.dtype) == (np.uint8, np.uint16)
    assert png.shape[:2] == tif.shape[:2] == (230, 320)
    assert 10 < np.median(png) < 90
