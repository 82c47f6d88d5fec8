"""A camera that bins its mosaic away and names it all the same."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from livestack import Frame, Settings
from livestack.calibration.binning import bin_data
from livestack.simulate import named_scenario, simulate_frame
from tests.calibration.test_binned_mosaic import summed
from tests.heard import HeardStack

NIGHT = named_scenario("osc", frames=3, width=1280, height=960, seed=3)
FRAMES = [simulate_frame(NIGHT, number).frame for number in range(3)]


def binned(frame: Frame, keeps_colours: bool) -> Frame:
    data = frame.data.astype(np.float32)
    small = bin_data(data, mosaic=True).astype(np.uint16) if keeps_colours else summed(frame.data)
    return replace(frame, data=small, info=replace(frame.info, width=640, height=480, binning=(2, 2)))


def stacked(keeps_colours: bool, bayer: str | None = None) -> tuple[np.ndarray, list[str]]:
    with HeardStack(Settings.model_validate({"calibration": {"bayer": bayer}})) as stack:
        for frame in FRAMES:
            outcome = stack.add(binned(frame, keeps_colours))
            assert outcome.status == "stacked", outcome.message
        return stack.result().mean, [said for said in stack.notices if "binned" in said]


@pytest.mark.parametrize("keeps_colours", [False, True])
def test_decided_by_what_is_seen_and_said_once(keeps_colours: bool) -> None:
    mean, said = stacked(keeps_colours)
    assert mean.shape == ((3, 480, 640) if keeps_colours else (480, 640))
    assert len(said) == 1
    assert ("a mosaic still" if keeps_colours else "taken for mono") in said[0]


def test_the_user_counts_more() -> None:
    assert FRAMES[0].info.bayer is not None
    mean, said = stacked(False, FRAMES[0].info.bayer)
    assert mean.shape == (3, 480, 640)
    assert said == []


def test_decided_once_and_kept_over_an_interruption() -> None:
    with HeardStack() as stack:
        stack.add(binned(FRAMES[0], False))
        state = stack.state()
    with HeardStack() as again:
        again.intake.mosaics = state["own"]["mosaics"]
        blank = replace(binned(FRAMES[1], False), data=np.full((480, 640), 500, np.uint16))
        assert again.intake.as_told(blank).info.bayer is None
    with HeardStack() as new:
        assert new.intake.as_told(blank).info.bayer == FRAMES[0].info.bayer
