"""Whole journals, replayed as `docs/conventions.md` says, against the simulator's transforms."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from livestack.base.journal import Record
from livestack.base.settings import Settings
from livestack.registration import transform as tf
from livestack.session.journal_writer import JournalWriter
from livestack.session.session import Session
from livestack.simulate import Fault, Scenario, named_scenario, simulate_frame, write_session
from tests.small_sessions import in_process


@pytest.mark.parametrize("best", [4, 9])
def test_a_journal_with_a_new_reference_replays_as_documented(tmp_path: Path, best: int) -> None:
    """Lines before a `reference` line need `from_previous`, lines after it do not: also the frame that brought it."""
    poor = tuple(Fault(kind="defocus", first=i, amount=2.2, expected="stacked") for i in range(10) if i != best)
    night = named_scenario("mono", frames=13, width=480, height=360, seed=23, faults=poor)
    write_session(night, tmp_path / "night")
    quality = {"enabled": False}
    settings = Settings.model_validate({"save": {"final_pass": False}, "quality": quality})
    Session([tmp_path / "night"], settings, tmp_path / "out", one_shot=True).run()
    told: dict[str, np.ndarray] = {}
    reference = ""
    for line in (tmp_path / "out" / "session.jsonl").read_text(encoding="utf-8").splitlines():
        record = json.loads(line)
        if record["type"] == "reference":
            reference = record["file"]
            if record["from_previous"] is not None:
                told = {name: np.array(record["from_previous"]) @ matrix for name, matrix in told.items()}
        elif record["type"] == "frame":
            told[record["file"]] = np.array(record["transform"])
    names = sorted(told)
    assert len(names) == 13
    assert reference == names[best]
    assert np.allclose(told[reference], np.eye(3))
    grid = np.linalg.inv(simulate_frame(night, best).transform)
    for number, name in enumerate(names):
        truth = grid @ simulate_frame(night, number).transform
        assert tf.corner_displacement(told[name], truth, 480, 360) < (0.3 if number >= 10 or number == best else 0.8)


SCENARIOS = (
    "mono", "osc", "trails", "altaz", "flip", "clouds", "wind", "defocus", "hot", "gradient", "sparse", "filters",
)  # fmt: skip
SIZE = (480, 360)
N_FRAMES = 13


def replayed(output: Path) -> dict[str, dict[str, np.ndarray]]:
    """Transforms of the stacked frames by group and file, as `docs/conventions.md` says to read them."""
    told: dict[str, dict[str, np.ndarray]] = {}
    for line in (output / "session.jsonl").read_text(encoding="utf-8").splitlines():
        record = json.loads(line)
        group = told.setdefault(record.get("group") or "", {})
        if record["type"] == "reference" and record["from_previous"] is not None:
            for name in group:
                group[name] = np.array(record["from_previous"]) @ group[name]
        elif record["type"] == "frame" and record["status"] == "stacked":
            group[record["file"]] = np.array(record["transform"])
        elif record["type"] == "removed":
            group.pop(record["file"], None)
    return {name: frames for name, frames in told.items() if frames}


def worst_px(frames: dict[str, np.ndarray], night: Scenario) -> float:
    """Largest displacement of a corner against truth, relative to the frame that agrees best with the others."""
    truth = {name: simulate_frame(night, int(name.split("_")[-1].split(".")[0])).transform for name in frames}

    def displacements(base: str) -> list[float]:
        return [
            tf.corner_displacement(
                np.linalg.inv(frames[base]) @ frames[name], np.linalg.inv(truth[base]) @ truth[name], *SIZE
            )
            for name in frames
        ]

    return max(min((displacements(base) for base in frames), key=np.median))


def watch_until_killed(folder: Path, output: Path) -> None:
    """A session that a crash ends when it has told of eight frames."""
    import os
    import signal

    real = JournalWriter.append_event

    def append(self: JournalWriter, record: Record) -> None:
        real(self, record)
        if self.n_events == 8:
            os.kill(os.getpid(), signal.SIGKILL)

    JournalWriter.append_event = append  # type: ignore[method-assign]
    Session([folder], replay_settings(), output, one_shot=True).run()


def replay_settings() -> Settings:
    return Settings.model_validate({"save": {"final_pass": False, "checkpoint_every_frames": 3}})


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_the_journal_tells_the_truth_about_every_frame(tmp_path: Path, scenario: str) -> None:
    night = named_scenario(scenario, frames=N_FRAMES, width=SIZE[0], height=SIZE[1], seed=5)
    write_session(night, tmp_path / "night")
    Session([tmp_path / "night"], replay_settings(), tmp_path / "out", one_shot=True).run()
    groups = replayed(tmp_path / "out")
    assert sum(map(len, groups.values())) >= 0.7 * N_FRAMES
    for frames in groups.values():
        assert worst_px(frames, night) < 0.3


@pytest.mark.parametrize("scenario", ["osc", "flip", "filters"])
def test_also_after_a_resume(tmp_path: Path, scenario: str) -> None:
    night = named_scenario(scenario, frames=N_FRAMES, width=SIZE[0], height=SIZE[1], seed=5)
    write_session(night, tmp_path / "night")
    assert in_process(watch_until_killed, tmp_path / "night", tmp_path / "out") == -9
    resumed = Session([tmp_path / "night"], replay_settings(), tmp_path / "out", one_shot=True, resumed=True)
    assert resumed.run().status == 0
    groups = replayed(tmp_path / "out")
    assert sum(map(len, groups.values())) == N_FRAMES
    for frames in groups.values():
        assert worst_px(frames, night) < 0.3
