"""`--bayer`: what the user says of the mosaic counts, whatever the header says."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from livestack import Frame, Settings
from livestack.base.frame import with_bayer
from livestack.base.settings import CalibrationSettings
from livestack.calibration.masters import load_masters
from livestack.faces.cli import app
from livestack.formats import read_info
from livestack.simulate import named_scenario, simulate_frame, write_session
from tests.heard import HeardStack

NIGHT = named_scenario("osc", frames=4, width=320, height=240, seed=3)
FRAMES = [simulate_frame(NIGHT, number).frame for number in range(4)]


def stacked(bayer: str | None, header: str | None) -> tuple[np.ndarray, list[str]]:
    """The stack of the frames with another pattern in their headers, and what was said."""
    with HeardStack(Settings.model_validate({"calibration": {"bayer": bayer}})) as stack:
        for frame in FRAMES:
            outcome = stack.add(replace(frame, info=replace(frame.info, bayer=header)))
            assert outcome.status == "stacked", outcome.message
        return stack.result().mean, stack.notices


@pytest.mark.parametrize("header", [None, "BGGR"])
def test_a_silent_or_wrong_header_is_corrected_and_it_is_said_once(header: str | None) -> None:
    true = FRAMES[0].info.bayer
    assert true is not None
    right, silent = stacked(None, true)
    corrected, said = stacked(true, header)
    assert right.shape == (3, 240, 320)
    np.testing.assert_array_equal(corrected, right)
    assert [sentence for sentence in silent if "--bayer" in sentence] == []
    assert len([sentence for sentence in said if f"taken for {true}, as --bayer says" in sentence]) == 1


def test_none_is_mono_and_colour_planes_are_left_alone() -> None:
    assert with_bayer(FRAMES[0], "none").info.bayer is None
    assert stacked("none", FRAMES[0].info.bayer)[0].shape == (240, 320)
    colour = Frame(np.zeros((3, 8, 9), np.float32), replace(FRAMES[0].info, width=9, height=8, planes=3, bayer=None))
    assert with_bayer(colour, "RGGB") is colour


def test_other_words_are_refused_with_the_choices() -> None:
    ended = CliRunner().invoke(app, ["stack", ".", "--bayer", "RGBG"])
    assert ended.exit_code == 2
    assert "RGGB" in ended.output


def test_info_and_masters_take_the_pattern_too(tmp_path: Path) -> None:
    night = named_scenario("osc", frames=3, width=160, height=120, seed=2, bayer="RGGB")
    write_session(night, tmp_path / "night", calibration=3)
    darks = sorted((tmp_path / "night").rglob("dark*.fits"))
    assert darks
    said = CliRunner().invoke(app, ["info", str(darks[0]), "--bayer", "BGGR"], env={"COLUMNS": "160"})
    assert said.exit_code == 0
    assert "BGGR" in said.output
    assert "as --bayer says" in said.output
    made = CliRunner().invoke(app, ["masters", *map(str, darks), "--output", str(tmp_path / "m"), "--bayer", "BGGR"])
    assert made.exit_code == 0, made.output
    master = next((tmp_path / "m").glob("*.fits"))
    assert read_info(master).bayer == "BGGR"
    assert load_masters(tmp_path / "m", CalibrationSettings(bayer="GRBG")).masters[0].info.bayer == "GRBG"
