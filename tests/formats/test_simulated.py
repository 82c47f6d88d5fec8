"""Every format that the simulator writes comes back through the door: pixels, mosaic, exposure, time."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from livestack.formats import check_complete, read_frame, read_frames
from livestack.simulate import named_scenario, simulate_frame, write_session

CASES = [
    (name, file_format)
    for name in ("mono", "osc")
    for file_format in ("fits", "fits.fz", "dng", "xisf", "tiff", "png", "ser")
]


@pytest.mark.parametrize("name, file_format", CASES)
def test_a_simulated_night_comes_back(tmp_path: Path, name: str, file_format: str) -> None:
    if file_format == "xisf":
        pytest.importorskip("xisf", reason="the package xisf is not installed")
    scenario = named_scenario(name, frames=2, width=96, height=64)
    write_session(scenario, tmp_path, file_format=file_format)
    paths = sorted(path for path in tmp_path.rglob(f"*.{file_format.split('.')[0]}*") if path.is_file())
    for path in paths:
        check_complete(path)
    found = [frame for path in paths for frame in read_frames(path)]
    assert len(found) == 2
    for index, frame in enumerate(found):
        truth = simulate_frame(scenario, index).frame
        if file_format in ("tiff", "png") and name == "osc":
            assert frame.data.shape == (3, 64, 96)  # debayered by the writer
            continue
        np.testing.assert_array_equal(frame.data, truth.data)
        assert frame.info.bayer == truth.info.bayer
        if file_format != "png":
            assert abs(frame.info.date_obs - truth.info.date_obs).total_seconds() < 1
        if file_format not in ("png", "tiff", "ser"):
            assert frame.info.exposure_s == pytest.approx(truth.info.exposure_s)


@pytest.mark.parametrize("row_order", ["TOP-DOWN", "BOTTOM-UP"])
def test_row_order_and_mosaic_agree_with_the_simulator(tmp_path: Path, row_order: str) -> None:
    scenario = named_scenario("osc", frames=1, width=96, height=64, row_order=row_order)
    write_session(scenario, tmp_path, file_format="fits")
    (path,) = tmp_path.rglob("*.fits")
    truth = simulate_frame(scenario, 0).frame
    frame = read_frame(path)
    np.testing.assert_array_equal(frame.data, truth.data)
    assert (frame.info.bayer, frame.info.bottom_up) == (truth.info.bayer, truth.info.bottom_up)
