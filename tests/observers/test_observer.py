"""Observers: what they hear in which order, what they may touch, their state; one that stumbles costs nothing."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest

from livestack import LiveStack, Settings
from livestack.engine.events import (
    Alert,
    Event,
    FrameDone,
    FrameRefused,
    FrameRegistered,
    FrameStacked,
    FrameTakenOut,
    Notice,
    ReferenceChanged,
)
from livestack.observers.observer import guarded, restore_all, states_of
from livestack.session.session import Session
from livestack.simulate import named_scenario, simulate_frame
from tests.small_sessions import in_process, lines, planes, run_session, simulate_night, small_settings

FRAMES = 12


class Counter:
    """Counts stacked frames and remembers the brightest mean, as a photometer might."""

    name: ClassVar[str] = "counter"
    version: ClassVar[int] = 3

    def __init__(self) -> None:
        self.names: list[str] = []
        self.brightest = np.zeros(1000)
        self.restored = False

    def on_event(self, event: Event) -> None:
        if isinstance(event, FrameDone) and event.view is not None:
            self.names.append(event.outcome.name)
            self.brightest[len(self.names)] = np.nanmax(event.view.image())

    def state(self) -> Mapping[str, Any]:
        return {"names": self.names, "brightest": self.brightest}

    def restore(self, state: Mapping[str, Any]) -> None:
        self.names, self.brightest, self.restored = list(state["names"]), np.array(state["brightest"]), True


def test_what_is_told_of_a_frame_and_in_which_order() -> None:
    """An odd first frame: taken out when the next three agree with each other."""
    elsewhere = simulate_frame(named_scenario("mono", frames=1, width=360, height=260, seed=99), 0).frame
    night = named_scenario("mono", frames=3, width=360, height=260, seed=1)
    heard: list[list[Event]] = [[]]

    def hear(event: Event) -> None:
        heard[-1].append(event)
        if isinstance(event, FrameDone):
            heard.append([])

    with LiveStack() as stack:
        stack.events.subscribe(hear)
        stack.add(elsewhere)
        for number in range(3):
            stack.add(simulate_frame(night, number).frame)
        kinds = [[type(event) for event in events] for events in heard[:-1]]
        assert kinds[0] == [ReferenceChanged, FrameRegistered, FrameStacked, FrameDone]
        assert kinds[1] == kinds[2] == [FrameRefused, FrameDone]
        assert kinds[3] == [ReferenceChanged, FrameRegistered, FrameStacked, FrameTakenOut, Notice, FrameDone]
        assert all(kind is not Alert for events in kinds for kind in events)
        done = heard[3][-1]
        assert isinstance(done, FrameDone)
        assert done.view is not None
        assert done.view.n_stacked == 1


def test_pixels_are_for_looking_at_only() -> None:
    night = named_scenario("mono", frames=1, width=200, height=150, seed=1)
    seen: list[FrameDone] = []
    with LiveStack(Settings.model_validate({"stack": {"warmup_frames": 1}})) as stack:
        stack.events.subscribe(lambda event: seen.append(event) if isinstance(event, FrameDone) else None)
        stack.add(simulate_frame(night, 0).frame)
        view = seen[0].view
        assert view is not None
        for array in view.arrays().values():
            with pytest.raises(ValueError, match="read-only"):
                array[:] = 0
        before = stack.result().mean
        view.image()[:] = 0
        np.testing.assert_array_equal(stack.result().mean, before)


def test_who_ends_listening_hears_no_more() -> None:
    heard: list[Event] = []
    with LiveStack() as stack:
        stop = stack.events.subscribe(heard.append)
        stop()
        stack.add(simulate_frame(named_scenario("mono", frames=1, width=200, height=150), 0).frame)
    assert heard == []


def test_an_observer_that_stumbles_is_let_go_and_said_once() -> None:
    said: list[str] = []

    class Broken(Counter):
        def on_event(self, event: Event) -> None:
            raise LookupError("no such star")

    hear = guarded(Broken(), said.append)
    for _ in range(3):
        hear(Notice("x"))
    assert said == ["counter: stumbled (LookupError: no such star) and is left out from now on; stacking goes on."]


def test_states_go_by_name_and_version() -> None:
    one, other = Counter(), Counter()
    one.names.append("a.fits")
    saved = states_of([one])
    assert restore_all([other], saved) == []
    assert other.names == ["a.fits"]
    saved["counter"] = (2, saved["counter"][1])
    fresh = Counter()
    assert restore_all([fresh], saved) == [
        "checkpoint: what counter remembered is of version 2, expected 3; it begins anew."
    ]
    assert fresh.names == []
    assert restore_all([fresh], {}) == []  # a checkpoint from before there was this observer


def watch_and_die(folder: Path, output: Path) -> None:
    """A session that is killed when its ninth frame is told."""
    import os
    import signal

    class Deadly(Counter):
        def on_event(self, event: Event) -> None:
            super().on_event(event)
            if len(self.names) == 9:
                os.kill(os.getpid(), signal.SIGKILL)

    Session([folder], small_settings(), output, observers=[Deadly()]).run()


def test_an_observer_more_changes_no_result_and_goes_on_after_a_crash(tmp_path: Path) -> None:
    folder = simulate_night(tmp_path / "lights", FRAMES)
    assert run_session(folder, tmp_path / "alone").status == 0
    counter = Counter()
    assert Session([folder], small_settings(), tmp_path / "with", one_shot=True, observers=[counter]).run().status == 0
    assert planes(tmp_path / "with") == planes(tmp_path / "alone")
    assert counter.names == [line["file"] for line in lines(tmp_path / "alone", "frame")]

    assert in_process(watch_and_die, folder, tmp_path / "crashed") == -9
    after = Counter()
    settings = small_settings(ingest={"idle_stop_s": 0.5})
    resumed = Session([folder], settings, tmp_path / "crashed", resumed=True, observers=[after])
    assert resumed.run().status == 0
    assert planes(tmp_path / "crashed") == planes(tmp_path / "alone")
    assert after.restored
    assert after.names == counter.names
    np.testing.assert_array_equal(after.brightest, counter.brightest)
