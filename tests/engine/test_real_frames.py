"""The main job on frames that real cameras took under a real sky, through the command line."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits


def stack(folder: Path, output: Path, *options: str) -> tuple[subprocess.CompletedProcess[str], list[dict]]:
    ended = subprocess.run(
        [sys.executable, "-m", "livestack", "stack", str(folder), "--output", str(output), *options],
        capture_output=True, text=True, timeout=280,
    )  # fmt: skip
    journal = output / "session.jsonl"
    lines = [json.loads(line) for line in journal.read_text().splitlines()] if journal.exists() else []
    return ended, [line for line in lines if line["type"] == "frame"]


@pytest.mark.parametrize(
    ("name", "frames", "shape"),
    [
        ("m27_osc_asi224", 6, (3, 976, 1304)),
        ("m94_osc_seestar", 12, (3, 1920, 1080)),
        ("m44_altaz_jpeg", 18, (3, 976, 1304)),
        ("moon_png", 24, (960, 1280)),
        ("eso085_pair", 2, (682, 1024)),
        ("streak_single", 1, (512, 512)),
    ],
)
def test_every_frame_is_stacked(
    name: str, frames: int, shape: tuple[int, ...], real_frames: Path, tmp_path: Path
) -> None:
    ended, lines = stack(real_frames / name, tmp_path / "out", "--no-final-pass")
    assert ended.returncode == 0, ended.stderr
    assert [line["status"] for line in lines] == ["stacked"] * frames, [line["message"] for line in lines]
    (result,) = (tmp_path / "out").glob("*/stack.fits")
    with fits.open(result) as hdus:
        assert hdus[0].data.shape == shape
        assert hdus[0].header["NCOMBINE"] == frames
        assert np.isfinite(hdus[0].data).mean() > 0.9
        # what was not seen is not data
        assert np.isnan(hdus[0].data[hdus["COVERAGE"].data == 0]).all()


def test_field_rotation_of_an_altaz_mount(real_frames: Path, tmp_path: Path) -> None:
    _, lines = stack(real_frames / "m44_altaz_jpeg", tmp_path / "out", "--no-final-pass")
    turns = [np.degrees(np.arctan2(line["transform"][1][0], line["transform"][0][0])) for line in lines]
    assert turns[-1] - turns[0] == pytest.approx(-0.62, abs=0.02)
    assert np.abs(np.diff(turns, n=2)).max() < 0.03


def test_a_truncated_frame_is_refused_with_both_lengths(real_frames: Path, tmp_path: Path) -> None:
    lights = tmp_path / "lights"
    shutil.copytree(real_frames / "m27_osc_asi224", lights)
    whole = (real_frames / "m27_osc_asi224" / "Light_1283.fits").read_bytes()
    (lights / "Light_1283.fits").chmod(0o644)
    (lights / "Light_1283.fits").write_bytes(whole[: len(whole) // 2])
    ended, lines = stack(lights, tmp_path / "out", "--no-final-pass")
    assert ended.returncode == 0, ended.stderr
    assert [line["status"] for line in lines].count("stacked") == 5
    (refused,) = (line for line in lines if line["status"] == "refused")
    assert refused["reason"] == "truncated"
    assert str(len(whole)) in refused["message"]
    assert str(len(whole) // 2) in refused["message"]


def test_two_cameras_in_one_folder(real_frames: Path, tmp_path: Path) -> None:
    """Frames of another size and name make a group of their own; neither disturbs the other."""
    lights = tmp_path / "lights"
    lights.mkdir()
    for name in ("eso085_pair", "streak_single"):
        for file in (real_frames / name).iterdir():
            shutil.copy(file, lights)
    ended, lines = stack(lights, tmp_path / "out", "--no-final-pass")
    assert ended.returncode == 0, ended.stderr
    assert {line["status"] for line in lines} == {"stacked"}
    assert len({line["group"] for line in lines}) == 2
