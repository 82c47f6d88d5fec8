"""Stars that come: drawn frames with two that appear, and a point that moves; and the picture of a night's trails."""

from __future__ import annotations

import numpy as np
import pytest

from livestack import LiveStack, Settings
from livestack.base.settings import PassageSettings
from livestack.movers.passages import Passage
from livestack.observers.passages import Passages
from livestack.simulate import Scenario, simulate_frame
from livestack.simulate.movers import Mover, Newcomer, Passing
from livestack.stacking.canvas import Canvas

pytestmark = pytest.mark.passages

NIGHT = Scenario(
    seed=8, frames=18, width=420, height=300, stars=60, dither_px=4.0,
    newcomers=(Newcomer(x=150, y=140, first=9, flux_e=2500.0), Newcomer(x=330, y=235, first=11, flux_e=9000.0)),
    movers=(Mover(x=220, y=200, rate_px_min=1.2, angle_deg=100, flux_e=2500.0),),
)  # fmt: skip


def told_of(night: Scenario) -> tuple[list[Passage], list[str]]:
    told: list[Passage] = []
    alerts: list[str] = []
    with LiveStack(Settings()) as stack:
        watch = Passages(
            PassageSettings(look="on"), stack.bands, lambda group, one: told.append(one), alerts.append, str
        )
        stack.events.subscribe(watch.on_event)
        for index in range(night.frames):
            stack.add(simulate_frame(night, index).frame)
        for group in stack.groups:
            watch.finish(group)
    return told, alerts


def test_stars_that_come_are_told_where_and_when_and_what_moves_is_none() -> None:
    told, alerts = told_of(NIGHT)
    came = sorted((one for one in told if one.kind == "newcomer"), key=lambda one: one.x0)
    assert len(came) == 2
    for one, true in zip(came, NIGHT.newcomers, strict=True):
        assert (one.x0, one.y0) == pytest.approx((true.x, true.y), abs=1.0)
        assert one.first_file.endswith(f"[{true.first}]")
    assert len([said for said in alerts if "star that was not there" in said]) == 2
    assert len([one for one in told if one.kind == "mover"]) == 1


def test_nothing_comes_or_moves_where_nothing_does() -> None:
    assert told_of(NIGHT.without_movers) == ([], [])


def test_light_of_streaks_is_kept_for_the_picture_of_the_trails_through_a_checkpoint() -> None:
    night = NIGHT.model_copy(
        update={"movers": (), "newcomers": (), "passing": (
            Passing(kind="satellite", frame=3, peak_sigma=20, x=210, y=150, angle_deg=30),
            Passing(kind="satellite", frame=10, peak_sigma=20, x=210, y=150, angle_deg=120),
        )}
    )  # fmt: skip
    with LiveStack(Settings()) as stack:

        def watch() -> Passages:
            return Passages(PassageSettings(look="on"), stack.bands, lambda g, one: None, lambda said: None, str)

        first, second = watch(), watch()
        end = stack.events.subscribe(first.on_event)
        for index in range(9):
            stack.add(simulate_frame(night, index).frame)
        end()
        (name,) = stack.groups
        second.restore(dict(first.state()))
        stack.events.subscribe(second.on_event)
        for index in range(9, 12):
            stack.add(simulate_frame(night, index).frame)
        trails = second.trails(name)
        assert trails is not None
        light = trails.on_canvas(Canvas(290, 440, (280, 430), 5, -10).from_reference, 440, 290)
    assert light.shape == (290, 440)
    for index in (3, 10):
        truth = simulate_frame(night, index)
        ends = np.array(truth.artefacts[0]["ends"]).reshape(2, 2) @ truth.transform[:2, :2].T + truth.transform[:2, 2]
        way = (ends[1] - ends[0]) / np.hypot(*(ends[1] - ends[0]))
        middle = ends.mean(axis=0)
        on = [middle + way * step + (10, -5) for step in range(-60, 61, 4)]
        off = [place + 12.0 * np.array([-way[1], way[0]]) for place in on if np.hypot(*(place - on[15])) > 30]
        shines = [light[round(y), round(x)] for x, y in on]
        assert np.median(shines) > 100
        assert np.median([light[round(y), round(x)] for x, y in off]) == 0
