"""What passed, as the observer tells it of small simulated nights."""

from __future__ import annotations

import csv
import io
import math

import numpy as np
import pytest

from livestack import LiveStack, Settings
from livestack.base.choices import Looking
from livestack.base.settings import PassageSettings
from livestack.movers.passages import COLUMNS, Passage, as_csv, from_rows, tally
from livestack.observers import passages
from livestack.observers.passages import Passages
from livestack.simulate import Scenario, named_scenario, simulate_frame
from livestack.simulate.movers import Mover, Passing

pytestmark = pytest.mark.passages

NIGHT = Scenario(
    seed=5, frames=16, width=420, height=300, stars=60, nebula_e=20.0, dither_px=4.0,
    passing=(
        Passing(kind="satellite", frame=2, peak_sigma=10, x=200, y=150, angle_deg=33),
        Passing(kind="meteor", frame=13, peak_sigma=15, x=220, y=140, angle_deg=100, length_px=150),
    ),
    movers=(Mover(x=120, y=110, rate_px_min=3.0, angle_deg=20, flux_e=900.0),),
)  # fmt: skip


def run(night: Scenario, look: Looking = "on", stop: int | None = None, said: list[str] | None = None):
    """(what was told, alerts, observer) of a night, or of its first frames."""
    told: list[Passage] = []
    alerts: list[str] = []
    spoken: list[str] = [] if said is None else said
    with LiveStack(Settings()) as stack:
        watch = Passages(
            PassageSettings(look=look), stack.bands, lambda group, one: told.append(one), alerts.append,
            lambda path: path.name, None, spoken.append,
        )  # fmt: skip
        stack.events.subscribe(watch.on_event)
        for index in range(night.frames if stop is None else stop):
            stack.add(simulate_frame(night, index).frame)
        for group in stack.groups:
            watch.finish(group)
    return told, alerts, watch


def test_a_satellite_in_the_warm_up_a_meteor_and_an_asteroid_are_told() -> None:
    told, alerts, _ = run(NIGHT)
    assert sorted(one.kind for one in told) == ["meteor", "mover", "satellite"]
    by_kind = {one.kind: one for one in told}
    satellite, mover = by_kind["satellite"], by_kind["mover"]
    assert satellite.first_file.endswith("[2]")
    truth = simulate_frame(NIGHT, 2)
    ends = np.array(next(a["ends"] for a in truth.artefacts if a["kind"] == "satellite")).reshape(2, 2)
    ends = ends @ truth.transform[:2, :2].T + truth.transform[:2, 2]
    way = (ends[1] - ends[0]) / np.hypot(*(ends[1] - ends[0]))
    for x, y in ((satellite.x0, satellite.y0), (satellite.x1, satellite.y1)):
        assert abs((y - ends[0][1]) * way[0] - (x - ends[0][0]) * way[1]) < 1.0
    assert mover.rate_px_min == pytest.approx(3.0, rel=0.05)
    assert math.degrees(math.atan2(mover.y1 - mover.y0, mover.x1 - mover.x0)) == pytest.approx(20, abs=4)
    assert len(alerts) == 1
    assert "meteor" in alerts[0]


def test_without_movers_and_switched_off_nothing_is_told() -> None:
    assert run(NIGHT.without_movers)[0] == []
    assert run(NIGHT, look="off", stop=3)[0] == []


def test_in_a_long_night_what_is_too_faint_is_looked_for_only_when_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(passages, "AUTO_PX", 1000)
    for look, kinds in (("auto", ["meteor", "satellite"]), ("on", ["meteor", "mover", "satellite"])):
        said: list[str] = []
        told, _, _ = run(NIGHT, look, said=said)
        assert sorted(one.kind for one in told) == kinds
        assert any("--passages on does" in sentence for sentence in said) == (look == "auto")


def test_a_state_that_was_saved_goes_on_alike() -> None:
    whole, _, _ = run(NIGHT)
    told: list[Passage] = []
    with LiveStack(Settings()) as stack:
        watch = Passages(
            PassageSettings(look="on"), stack.bands, lambda g, one: told.append(one), lambda said: None, str
        )
        end = stack.events.subscribe(watch.on_event)
        for index in range(12):
            stack.add(simulate_frame(NIGHT, index).frame)
        end()
        state = watch.state()
        # without a folder the residuals of before are gone: streaks go on exactly, what moves is looked for anew
        other = Passages(
            PassageSettings(look="on"), stack.bands, lambda g, one: told.append(one), lambda said: None, str
        )
        other.restore({name: tuple(parts) for name, parts in state.items()})
        stack.events.subscribe(other.on_event)
        for index in range(12, 16):
            stack.add(simulate_frame(NIGHT, index).frame)
    assert [one for one in told if one.kind != "mover"] == [one for one in whole if one.kind != "mover"]


def test_the_table_has_the_columns_that_are_promised_and_comes_back() -> None:
    some = [
        Passage("satellite", "a.fits", "a.fits", 1, "2026-01-01T00:00:00Z", 1.5, 2.0, 30.25, 40.0, 3.5, 7.25),
        Passage("mover", "a.fits", "z.fits", 9, "", 1.0, 2.0, 3.0, 4.0, rate_px_min=0.1234, name="(4) Vesta"),
    ]
    rows = list(csv.DictReader(io.StringIO(as_csv(some))))
    assert tuple(rows[0]) == COLUMNS
    assert rows[0]["rate_px_min"] == ""
    assert [one.row() for one in from_rows(rows)] == [one.row() for one in some]
    assert tally(some) == "1 satellite, 1 moving point"


def test_a_night_of_two_frames_ends_without_a_word() -> None:
    told, _, watch = run(NIGHT, stop=2)
    assert told == []
    assert watch.trails("m-27") is None


def test_hot_pixels_that_are_known_later_do_not_move_through_the_first_frames(monkeypatch: pytest.MonkeyPatch) -> None:
    night = named_scenario("hot", frames=14, width=420, height=300)
    assert [one for one in run(night)[0] if one.kind == "mover"] == []
    monkeypatch.setattr(Passages, "_forget_defects", staticmethod(lambda watch, maps: None))
    assert [one for one in run(night)[0] if one.kind == "mover"] != []


def test_a_comet_s_light_beside_the_mean_is_no_meteor(monkeypatch: pytest.MonkeyPatch) -> None:
    """It stays from frame to frame, and is wide: both are told from a meteor by that."""
    night = named_scenario("comet", frames=13, width=560, height=440)
    told, alerts, _ = run(night)
    assert {one.kind for one in told} <= {"mover"}
    assert not [said for said in alerts if "meteor" in said]
    monkeypatch.setattr(passages, "LEAST_ELONGATION", 0.0)
    assert {one.kind for one in run(night)[0]} <= {"mover"}, "that it stays tells enough"
    monkeypatch.setattr(passages, "LINGERS_PX", -1.0)
    assert [one for one in run(night)[0] if one.kind != "mover"], "without either, streaks are told"
