"""The preview: never in the way, latest wins, survives what cannot be drawn."""

from __future__ import annotations

import threading

import numpy as np
import pytest

from livestack.base.settings import RenderSettings
from livestack.engine.accumulation import LastFrame
from livestack.engine.views import StackView
from livestack.observers.preview import Drawing, PreviewRenderer
from livestack.picture.composite import Part, plan_composite
from livestack.stacking.accumulators import Stack
from livestack.stacking.normalisation import Normalisation

HEIGHT, WIDTH = 90, 130
SETTINGS = RenderSettings(preview_width=64)


def filled(channels: int = 1, seed: int = 3, sky: float = 500.0, frames: int = 4) -> Stack:
    """A stack with a sky and stars; a strip without data on the left."""
    rng = np.random.default_rng(seed)
    stack = Stack(channels, HEIGHT, WIDTH, origin=np.full(channels, sky))
    stack.mean[:] = rng.normal(0, 5, stack.shape)
    for x, y in rng.integers(20, 80, (12, 2)):
        stack.mean[:, y : y + 3, x : x + 3] += 600
    stack.weight[:, :, 10:] = frames
    stack.count[:, :, 10:] = frames
    stack.n_frames = frames
    return stack


def test_asking_never_waits_and_the_latest_wins() -> None:
    begun, go_on, drawn = threading.Event(), threading.Event(), []

    def deliver(drawing: Drawing) -> None:
        drawn.append(drawing.n_frames)
        begun.set()
        assert go_on.wait(20)

    renderer = PreviewRenderer(deliver, pytest.fail)
    renderer.draw(StackView("m-27", filled(frames=1), newest=None), SETTINGS)
    assert begun.wait(20)
    for frames in range(2, 7):  # the renderer is busy all the while: this would hang if anything waited for it
        renderer.draw(StackView("m-27", filled(frames=frames), newest=None), SETTINGS)
    assert not renderer.idle
    go_on.set()
    renderer.finish()
    assert drawn == [1, 6]


def test_what_cannot_be_drawn_is_said_and_the_next_is_drawn() -> None:
    said: list[str] = []
    drawn: list[Drawing] = []
    ready = threading.Event()
    renderer = PreviewRenderer(drawn.append, lambda sentence: (said.append(sentence), ready.set())[1])
    broken = LastFrame(lambda: np.zeros((1, 0, 0), np.float32), np.eye(3), Normalisation.identity(1), 1.0)
    renderer.draw(StackView("m-27", filled(), newest=broken), SETTINGS)
    assert ready.wait(20)
    renderer.draw(StackView("m-27", filled(), newest=None), SETTINGS)
    renderer.finish()
    assert len(drawn) == 1
    assert "could not be drawn" in said[0]
    assert "stacking goes on" in said[0]


def test_the_last_frame_lies_where_the_stack_shows_it() -> None:
    drawn: list[Drawing] = []
    renderer = PreviewRenderer(drawn.append, pytest.fail)
    stack = filled()
    shift = np.array([[1.0, 0, 7], [0, 1, -4], [0, 0, 1]])
    frame = np.roll(stack.image(), (4, -7), (1, 2)) / 2
    frame = np.nan_to_num(frame, nan=250.0)
    twice = Normalisation(np.array([2.0]), np.zeros((1, 10)))
    renderer.draw(StackView("m-27", stack, newest=LastFrame(lambda: frame, shift, twice, 0.25)), RenderSettings())
    renderer.finish()
    picture, last = drawn[0].picture.rgb.astype(int), drawn[0].last_frame
    assert last is not None
    assert last.shape == picture.shape == (HEIGHT, WIDTH, 3)
    inside = np.s_[8:-12, 20:-20]
    assert np.abs(last[inside].astype(int) - picture[inside]).max() <= 2
    assert (picture[:, :10] == 0).all()


def test_the_look_goes_on_when_the_filter_changes() -> None:
    drawn: list[Drawing] = []
    stacks = {name: filled(seed=k, sky=400.0 + 100 * k) for k, name in enumerate("RGB")}
    composite = plan_composite("m-27", [Part(name, name, stack, 60.0, 4) for name, stack in stacks.items()], "auto")
    renderer = PreviewRenderer(drawn.append, pytest.fail)
    whites = []
    for name in "RGB":
        done = threading.Event()
        renderer._deliver = lambda drawing, done=done: (drawn.append(drawing), done.set())[1]  # type: ignore[misc]
        renderer.draw(StackView(f"m-27-{name.lower()}", stacks[name], newest=None), SETTINGS, composite)
        assert done.wait(20)
        whites.append(drawn[-1].look.white)
        for stack in stacks.values():  # the white point follows the stars slowly, whichever filter is in
            stack.mean[stack.mean > 300] *= 4
    renderer.finish()
    assert drawn[-1].mixed is not None
    assert 0.1 * np.log(4) < np.log(whites[1] / whites[0]) < 0.6 * np.log(4)
