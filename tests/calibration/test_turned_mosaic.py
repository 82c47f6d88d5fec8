"""Frames whose read-out was flipped while their header stayed as it was: mosaics laid out here by hand."""

from __future__ import annotations

import numpy as np
import pytest

from livestack import LiveStack, Settings
from livestack.base.frame import Frame, FrameInfo
from livestack.calibration.turned_mosaic import cell_colours, turned_pattern
from livestack.engine.events import Event, Notice

LEVEL = {"R": 700.0, "G": 900.0, "B": 620.0}
SHAPE = (300, 400)


def mosaic(rng: np.random.Generator, bayer: str, level: dict[str, float] = LEVEL, slope: float = 0.0) -> np.ndarray:
    """A sky of those colours behind a filter mosaic, with noise of 20 ADU and a gradient."""
    sky = np.empty(SHAPE)
    for k in range(4):
        sky[k // 2 :: 2, k % 2 :: 2] = level[bayer[k]]
    x = np.arange(SHAPE[1]) / SHAPE[1]
    return np.asarray(np.round(rng.normal(sky * (1 + slope * x), 20)).astype(np.uint16))


@pytest.mark.parametrize("bayer", ["RGGB", "BGGR", "GRBG", "GBRG"])
@pytest.mark.parametrize(("way", "turned"), [(np.s_[:, ::-1], True), (np.s_[::-1], True), (np.s_[::-1, ::-1], False)])
def test_rows_or_columns_the_other_way_round(bayer: str, way: tuple[slice, ...], turned: bool) -> None:
    rng = np.random.default_rng(3)
    first = cell_colours(mosaic(rng, bayer, slope=0.3))
    assert first is not None
    assert first.bears_out(bayer)
    flipped = cell_colours(mosaic(rng, bayer, slope=0.3)[way])
    expected = "".join(np.array(list(bayer)).reshape(2, 2)[way].ravel())
    assert flipped is not None
    assert turned_pattern(bayer, first.apart(bayer)[1], flipped) == (expected if turned else None)


@pytest.mark.parametrize(
    "level",
    [{"R": 1500.0, "G": 620.0, "B": 620.0}, {"R": 640.0, "G": 900.0, "B": 640.0}, {"R": 900.0, "G": 900.0, "B": 900.0}],
)
def test_narrowband_and_grey_skies_are_what_the_header_says(level: dict[str, float]) -> None:
    colours = cell_colours(mosaic(np.random.default_rng(4), "RGGB", level))
    assert colours is not None
    assert turned_pattern("RGGB", 80.0, colours) is None


def test_greens_that_differ_a_little_are_greens() -> None:
    data = mosaic(np.random.default_rng(5), "RGGB")
    data[::2, 1::2] += 15  # the amplifier of every other row
    colours = cell_colours(data)
    assert colours is not None
    assert turned_pattern("RGGB", 80.0, colours) is None


def stacked_colours(flips_at: int) -> tuple[list[float], list[str]]:
    """Red and blue over green of the stars of a night whose header never changes, and what was said."""
    rng = np.random.default_rng(6)
    y, x = np.mgrid[: SHAPE[0], : SHAPE[1]]
    light = np.zeros(SHAPE)
    for _ in range(40):
        cx, cy = rng.uniform(10, SHAPE[1] - 10), rng.uniform(10, SHAPE[0] - 10)
        light += rng.uniform(300, 4000) * np.exp(-((x - cx) ** 2 + (y - cy) ** 2) / (2 * 1.8**2))
    colour = np.ones(SHAPE)
    for k, share in enumerate((1.0, 0.5, 0.5, 0.2)):
        colour[k // 2 :: 2, k % 2 :: 2] = share
    said: list[str] = []

    def hear(event: Event) -> None:
        if isinstance(event, Notice):
            said.append(event.message)

    with LiveStack(Settings()) as stack:
        stack.events.subscribe(hear)
        for number in range(8):
            data = mosaic(rng, "RGGB") + np.round(light * colour).astype(np.uint16)
            data = np.ascontiguousarray(data if number < flips_at else data[:, ::-1])
            info = FrameInfo(SHAPE[1], SHAPE[0], bayer="RGGB", exposure_s=10.0 if number % 2 else 12.0)
            assert stack.add(Frame(data, info, label=f"f{number}")).status == "stacked"
        mean = stack.result().mean
    bright = light > 500
    over = [float(np.median((mean[c] - np.nanmedian(mean[c]))[bright] / light[bright])) for c in range(3)]
    return [over[0] / over[1], over[2] / over[1]], said


def test_a_night_that_flips_is_stacked_in_its_colours_and_each_thing_is_said_once() -> None:
    plain, said = stacked_colours(8)
    assert not any("colours" in one for one in said)
    assert plain == pytest.approx([2.0, 0.4], rel=0.2), "debayering mixes some"
    assert sum("10 s and 12 s exposures are stacked together" in one for one in said) == 1
    flipped, said = stacked_colours(4)
    assert flipped == pytest.approx(plain, rel=0.02)
    assert sum("taken for GRBG" in one for one in said) == 1
