"""Two spellings of a name: which may be one target, and what the stars make of it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from livestack.base.settings import Settings
from livestack.engine.events import Notice
from livestack.engine.live_stack import LiveStack
from livestack.engine.target_names import slips, spelled_alike
from livestack.formats import read_frame
from tests.small_sessions import simulate_night


@pytest.mark.parametrize(
    ("one", "other", "alike"),
    [
        ("M 31", "m31", True),
        ("Andromeda", "Andromdea", True),
        ("Rosette", "Rosete", True),
        ("NGC 7000", "NGC-7000", True),
        ("Élan", "elan", True),
        ("M31", "M33", False),
        ("M31", "M31 short", False),
        ("Panel 1", "Panel 2", False),
        ("M1", "M11", False),
        ("Veil East", "Veil West", True),  # two slips of nine letters: the stars have to tell
        ("Ha", "He", False),
    ],
)
def test_spelling(one: str, other: str, alike: bool) -> None:
    assert spelled_alike(one, other) is alike
    assert spelled_alike(other, one) is alike


@given(st.text("abc", max_size=6), st.text("abc", max_size=6))
def test_slips_are_a_distance(a: str, b: str) -> None:
    assert slips(a, b) == slips(b, a)
    assert (slips(a, b) == 0) == (a == b)
    assert abs(len(a) - len(b)) <= slips(a, b) <= max(len(a), len(b))


def _frames(folder: Path, seed: int) -> list[Path]:
    return sorted(simulate_night(folder, frames=4, seed=seed).glob("*.fits"))


def test_a_misspelt_name_joins_the_group_of_its_field(tmp_path: Path) -> None:
    here, there = _frames(tmp_path / "a", 3), _frames(tmp_path / "b", 4)
    said: list[str] = []
    with LiveStack(Settings()) as stack:
        stack.events.subscribe(lambda event: said.append(event.message) if isinstance(event, Notice) else None)

        def group_of(path: Path, name: str) -> str:
            frame = read_frame(path)
            return stack.add(replace(frame, info=replace(frame.info, object_name=name))).group

        names = ("Rosette", "Rosette", "Rosete", "Rosette", "rosette")
        groups = [group_of(path, name) for path, name in zip((*here[:4], here[0]), names, strict=True)]
        assert set(groups) == {"rosette"}
        assert sum("Rosete" in sentence for sentence in said) == 1
        # the same stars under a name of its own, and other stars under a name spelled alike, stay by themselves
        assert group_of(here[1], "Rosette short") == "rosette-short"
        assert group_of(there[0], "Rosetta") == "rosetta"
