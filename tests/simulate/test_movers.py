"""Movers of the simulator: where the truth says that they are, there is light, and the twin has none of it."""

from __future__ import annotations

import json

import numpy as np
import pytest

from livestack.simulate import Scenario, simulate_frame, write_session
from livestack.simulate.movers import Mover, Newcomer, Passing

NIGHT = Scenario(seed=3, frames=4, width=240, height=170, stars=8, nebula_e=0.0, rotation_deg=0.3, dither_px=3.0)


def light_of(night: Scenario, index: int) -> np.ndarray:
    """Electrons that the movers left."""
    made = simulate_frame(night, index)
    return (made.frame.data.astype(float) - made.twin.data) * night.gain_e_adu


def test_an_asteroid_is_where_the_truth_says_and_as_bright() -> None:
    night = NIGHT.model_copy(update={"movers": (Mover(x=90, y=80, rate_px_min=5, angle_deg=30, flux_e=2e4),)})
    made, light = simulate_frame(night, 3), light_of(night, 3)
    told = next(one for one in made.artefacts if one["kind"] == "asteroid")
    rows, columns = np.mgrid[: night.height, : night.width]
    weight = light * (np.hypot(columns - told["x"], rows - told["y"]) < 15)
    assert (weight * columns).sum() / weight.sum() == pytest.approx(told["x"], abs=0.1)
    assert (weight * rows).sum() / weight.sum() == pytest.approx(told["y"], abs=0.1)
    assert weight.sum() == pytest.approx(2e4 * made.conditions.transparency, rel=0.03)
    way = 5 * night.minutes_of(3)
    assert told["x_ref"] == pytest.approx(90 + way * np.cos(np.radians(30)))
    seen = made.transform @ (told["x"], told["y"], 1)
    assert seen[:2] == pytest.approx((told["x_ref"], told["y_ref"]), abs=1e-6)


@pytest.mark.parametrize("kind", ["satellite", "geostationary", "meteor", "aircraft"])
def test_what_passes_lies_on_its_line_and_ends_where_it_is_told(kind: str) -> None:
    one = Passing(kind=kind, frame=1, peak_sigma=30, x=120, y=80, angle_deg=25, length_px=100)
    night = NIGHT.model_copy(update={"passing": (one,)})
    light = light_of(night, 1)
    x0, y0, x1, y1 = next(told["ends"] for told in simulate_frame(night, 1).artefacts if told["kind"] == kind)
    rows, columns = np.nonzero(light > 30)
    along = ((columns - x0) * (x1 - x0) + (rows - y0) * (y1 - y0)) / 100
    across = ((rows - y0) * (x1 - x0) - (columns - x0) * (y1 - y0)) / 100
    assert np.hypot(x1 - x0, y1 - y0) == pytest.approx(100)
    assert np.abs(across).max() < 16
    assert -6 < along.min() < 25
    assert 75 < along.max() < 106
    assert not light_of(night, 0).any()


def test_a_nova_appears_and_stays() -> None:
    night = NIGHT.model_copy(update={"newcomers": (Newcomer(x=100, y=90, first=2, flux_e=9e3),)})
    sums = [light_of(night, index).sum() for index in range(4)]
    assert sums[0] == sums[1] == 0
    assert sums[3] == pytest.approx(9e3, rel=0.06)


def test_a_comet_has_coma_and_tail() -> None:
    comet = Mover(kind="comet", x=120, y=85, rate_px_min=1, flux_e=4e3, coma_e=30, coma_px=12, tail_e=40, tail_deg=0)
    light = light_of(NIGHT.model_copy(update={"movers": (comet,)}), 0)
    assert light[85 - 8 : 85 + 9, 160:200].mean() > 3 * max(light[85 - 8 : 85 + 9, 40:80].mean(), 1)
    assert light[100, 120] > light[120, 120] > 0


def test_the_night_without_movers_is_the_twin(tmp_path) -> None:
    night = NIGHT.model_copy(
        update={"frames": 2, "movers": (Mover(x=90, y=80, flux_e=8e3),), "passing": (Passing(kind="meteor", frame=1),)}
    )
    assert np.array_equal(simulate_frame(night.without_movers, 1).frame.data, simulate_frame(night, 1).twin.data)
    truth = json.loads(write_session(night, tmp_path).read_text())
    assert truth["movers"][0]["x_ref"][0] == 90
    assert {one["kind"] for one in truth["frames"][1]["artefacts"]} == {"asteroid", "meteor"}
