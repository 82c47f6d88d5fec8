"""Threads and memory: what is said before the night, and frames binned rather than a session that dies."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from livestack.base.errors import UsageError
from livestack.base.frame import FrameInfo
from livestack.base.resources import bins_frames, memory_sentence, session_bytes, thread_count
from livestack.base.settings import Settings
from livestack.calibration.binning import TO_BINNED, bin_data, binned_info
from tests.small_sessions import (
    HEIGHT,
    WIDTH,
    in_process,
    kill_in_write,
    lines,
    planes,
    resume_session,
    run_session,
    simulate_night,
)


def limited(megabytes: int | None) -> Settings:
    return Settings.model_validate({"save": {"memory_limit_mb": megabytes}})


def test_threads_are_capped() -> None:
    assert thread_count({"LIVESTACK_THREADS": "3"}) == 3
    assert 1 <= thread_count({}) <= 8
    for wrong in ("0", "-1", "many", ""):
        with pytest.raises(UsageError, match="LIVESTACK_THREADS: found"):
            thread_count({"LIVESTACK_THREADS": wrong})


def test_the_result_does_not_depend_on_the_number_of_threads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    night = simulate_night(tmp_path / "lights", 8)
    results = []
    for threads in ("1", "2", "5"):
        monkeypatch.setenv("LIVESTACK_THREADS", threads)
        run_session(night, tmp_path / threads)
        results.append(planes(tmp_path / threads))
    assert results[0] == results[1] == results[2]


def test_memory_is_told_and_binning_chosen() -> None:
    info = FrameInfo(6248, 4176)
    need = session_bytes(info, limited(None))
    assert 1.5e9 < need < 3e9
    assert session_bytes(FrameInfo(6248, 4176, bayer="RGGB"), limited(None)) > 1.8 * need
    said, concern = memory_sentence(info, limited(None), 8e9)
    assert said == "Memory: frames of 6248 x 4176 need about 2.2 GB; 8.0 GB are free."
    assert not concern
    said, concern = memory_sentence(info, limited(None), 1.5e9)
    assert concern
    assert "close other programs, or begin again with --memory-limit" in said
    assert not bins_frames(info, limited(4000))
    assert bins_frames(info, limited(1500))
    said, concern = memory_sentence(info, limited(1500), 8e9)
    assert "they are binned 2 x 2" in said
    assert not concern
    assert memory_sentence(info, limited(600), 8e9)[1], "not even binned"


def test_binning_keeps_means_and_mosaics() -> None:
    rng = np.random.default_rng(4)
    mono = rng.normal(100, 5, (31, 45)).astype(np.float32)
    assert bin_data(mono, False).shape == (15, 22)
    assert bin_data(mono, False)[2, 3] == pytest.approx(mono[4:6, 6:8].mean())
    colour = np.stack([mono, 2 * mono, 3 * mono])
    assert bin_data(colour, False)[2] == pytest.approx(3 * bin_data(mono, False), rel=1e-6)
    mosaic = np.zeros((18, 26), np.float32)
    for value, (y, x) in enumerate(((0, 0), (0, 1), (1, 0), (1, 1)), start=1):
        mosaic[y::2, x::2] = value
    binned = bin_data(mosaic, True)
    assert binned.shape == (8, 12)
    assert np.array_equal(binned, mosaic[:8, :12]), "each colour stays where it was in the pattern"


def test_a_binned_pixel_lies_where_the_transform_says() -> None:
    y, x = np.mgrid[:24, :32].astype(np.float32)
    for mosaic in (False, True):
        where = np.stack([bin_data(x, mosaic), bin_data(y, mosaic), np.ones((12, 16))])
        mapped = np.tensordot(TO_BINNED, where, axes=1)[:2]
        assert (mapped - np.mgrid[:12, :16][::-1]).mean(axis=(1, 2)) == pytest.approx([0, 0], abs=1e-6)


def test_header_of_a_binned_frame() -> None:
    info = binned_info(FrameInfo(100, 80, pixel_um=3.0, scale_arcsec_px=1.5, binning=(1, 1)), 50, 40)
    assert (info.width, info.height, info.binning, info.pixel_um, info.scale_arcsec_px) == (50, 40, (2, 2), 6.0, 3.0)


@pytest.mark.parametrize("kind", ["mono", "osc"])
def test_a_session_beyond_its_limit_is_binned_and_resumes(tmp_path: Path, kind: str) -> None:
    night = simulate_night(tmp_path / "lights", 9, kind)
    whole = tmp_path / "whole"
    run_session(night, whole, save={"memory_limit_mb": 1, "final_pass": True})
    assert "binned 2 x 2" in lines(whole, "warning")[0]["message"]
    stacked = [line for line in lines(whole, "frame") if line["status"] == "stacked"]
    assert len(stacked) == 9
    for line in stacked:  # file's pixels to the stack's
        assert np.linalg.det(np.array(line["transform"])) == pytest.approx(0.25, rel=0.02)
    size = 4 * (WIDTH // 2) * (HEIGHT // 2) * (3 if kind == "osc" else 1)
    assert len(planes(whole)["PRIMARY"]) == size
    cut = tmp_path / "cut"
    assert in_process(binned_and_killed, night, cut) == -9
    resume_session(cut)
    assert planes(cut) == planes(whole)


def binned_and_killed(night: Path, output: Path) -> None:
    kill_in_write("session.jsonl", 11)
    run_session(night, output, save={"memory_limit_mb": 1, "final_pass": True})
