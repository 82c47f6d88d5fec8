"""Binned frames that name a mosaic: whose colours were summed, were kept, or cannot be told."""

from __future__ import annotations

import numpy as np
import pytest

from livestack.calibration.binned_mosaic import is_mosaic_still
from livestack.calibration.binning import bin_data
from livestack.simulate import named_scenario, simulate_frame

SHAPE = (480, 640)


def summed(data: np.ndarray) -> np.ndarray:
    """2 x 2 with all colours together, as whole numbers."""
    cells = [data[k // 2 :: 2, k % 2 :: 2].astype(np.float32) for k in range(4)]
    return np.add.reduce(cells).clip(0, 65535).astype(np.uint16)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("fwhm_px", [2.5, 5.0])
@pytest.mark.parametrize("pattern", ["RGGB", "GBRG"])
def test_summed_and_kept_colours(seed: int, fwhm_px: float, pattern: str) -> None:
    night = named_scenario("osc", frames=1, width=1280, height=960, seed=seed, bayer=pattern, fwhm_px=fwhm_px)
    data = simulate_frame(night, 0).frame.data
    assert is_mosaic_still(summed(data), pattern) is False
    assert is_mosaic_still(bin_data(data.astype(np.float32), mosaic=True).astype(np.uint16), pattern) is True


def sky(seed: int, slope: float = 0.0, colours: tuple[float, ...] = (0, 0, 0, 0)) -> np.ndarray:
    y, x = np.indices(SHAPE)
    level = np.array(colours)[2 * (y % 2) + x % 2] + 1000 + slope * (x - 0.5 * y)
    return np.random.default_rng(seed).normal(level, 20).astype(np.uint16)


def test_a_sky_of_one_level_tells_nothing_a_slope_and_odd_columns_neither() -> None:
    assert is_mosaic_still(sky(1), "RGGB") is None
    assert is_mosaic_still(sky(2, slope=0.5), "RGGB") is None
    assert is_mosaic_still(sky(3, colours=(0, 30, 0, 30)), "RGGB") is None
    assert is_mosaic_still(sky(4, colours=(0, 0, 30, 30)), "RGGB") is None
    assert is_mosaic_still(sky(5)[:100, :100], "RGGB") is None


def test_the_sky_alone_shows_colours() -> None:
    assert is_mosaic_still(sky(1, colours=(0, 20, 20, 5)), "RGGB") is True
    assert is_mosaic_still(sky(2, colours=(-15, 0, 0, 15)), "RGGB") is True
    assert is_mosaic_still(sky(3, colours=(0, -15, 15, 0)), "GRBG") is True


def test_stars_alone_show_colours_or_none() -> None:
    """A sky too dark to have a colour; clipped stars have none either, and say nothing."""
    rng = np.random.default_rng(3)
    y, x = np.indices(SHAPE)
    light = np.zeros(SHAPE)
    for at_x, at_y in zip(rng.uniform(20, 620, 40), rng.uniform(20, 460, 40), strict=True):
        light += 8000 * np.exp(-((x - at_x) ** 2 + (y - at_y) ** 2) / 3.0)
    for response, still in (((0.6, 1.0, 1.0, 0.5), True), ((1.0, 1.0, 1.0, 1.0), False)):
        seen = light * np.array(response)[2 * (y % 2) + x % 2]
        assert is_mosaic_still((sky(7) + seen).astype(np.uint16), "RGGB") is still
    clipped = np.minimum(sky(7) + 1000 * light, 60000).astype(np.uint16)
    assert is_mosaic_still(clipped, "RGGB", 60000.0) is not True
