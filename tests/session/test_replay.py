"""Whole journals, replayed as `docs/conventions.md` says, against the simulator's transforms."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from livestack.base.settings import Settings
from livestack.registration import transform as tf
from livestack.session.session import Session
from livestack.simulate import Fault, named_scenario, simulate_frame, write_session


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
