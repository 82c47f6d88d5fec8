"""Light curves of a simulated night: what is measured, what is saved, and that the stack does not notice."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest

from livestack.base.settings import PhotometrySettings, Settings
from livestack.engine.live_stack import LiveStack
from livestack.kernels.bands import Bands
from livestack.observers.photometry import Photometry
from livestack.photometry.night import StarNight, go_on, solve_night
from livestack.photometry.watch import Sudden
from livestack.products.light_curves import CURVE_COLUMNS, STAR_COLUMNS
from livestack.products.star_files import write_curves
from livestack.simulate import named_scenario, simulate_frame

NIGHT = named_scenario("mono", frames=16, width=400, height=320, seed=4)


def watched(indices: range, night=NIGHT, said: list[str] | None = None) -> tuple[LiveStack, Photometry]:
    stack = LiveStack(Settings())
    seen = Photometry(PhotometrySettings(), stack.bands, (said if said is not None else []).append)
    stack.events.subscribe(seen.on_event)
    for index in indices:
        stack.add(simulate_frame(night, index).frame)
    return stack, seen


def test_the_stars_of_a_night_hold_and_the_stack_does_not_notice() -> None:
    stack, seen = watched(range(16))
    plain = LiveStack(Settings())
    for index in range(16):
        plain.add(simulate_frame(NIGHT, index).frame)
    for name, array in stack.result().__dict__.items():
        if isinstance(array, np.ndarray):
            np.testing.assert_array_equal(array, getattr(plain.result(), name))
    (group,) = stack.groups
    solution = seen.finish(group)
    assert solution is not None
    curves = solution.curves
    assert len(curves.files) >= 14
    good = curves.n_good >= 12
    assert good.sum() >= 20
    ratio = curves.rms_mmag[good] / curves.expected_mmag[good]
    assert np.median(ratio) == pytest.approx(1.05, abs=0.2)
    assert np.nanmax(curves.variability, initial=0) < 8
    star = curves.nearest(curves.x[3] + 0.4, curves.y[3])
    assert star == 3
    assert curves.nearest(-500, -500) is None


def test_going_on_after_a_crash_is_exact() -> None:
    stack, whole = watched(range(14))
    (group,) = stack.groups
    first, half = watched(range(9))
    again = Photometry(PhotometrySettings(), Bands(1), lambda said: None)
    again.restore(half.state())
    first.events.subscribe(again.on_event)
    for index in range(9, 14):
        first.add(simulate_frame(NIGHT, index).frame)
    one, other = whole.finish(group), again.finish(group)
    assert one is not None
    assert other is not None
    for name in ("x", "y", "mag", "mags", "errors", "flags", "flux", "variability"):
        np.testing.assert_array_equal(getattr(one.curves, name), getattr(other.curves, name), err_msg=name)


def test_a_frame_after_the_solution_is_compared_with_it() -> None:
    stack, seen = watched(range(12))
    (group,) = stack.groups
    solved = seen.finish(group)
    assert solved is not None
    stack.add(simulate_frame(NIGHT, 12).frame)
    live = seen.curves(group)
    assert live is not None
    assert len(live.files) == len(solved.curves.files) + 1
    whole = seen.finish(group)
    assert whole is not None
    good = np.isfinite(live.mags[:, -1]) & (live.flags[:, -1] == 0)
    off = (live.mags - whole.curves.mags)[good, -1] / live.errors[good, -1]
    assert np.nanmedian(np.abs(off)) < 0.7


def test_what_is_saved(tmp_path: Path) -> None:
    stack, seen = watched(range(12))
    (group,) = stack.groups
    solution = seen.finish(group)
    assert solution is not None
    reference = seen.references[group]
    written = write_curves(tmp_path, solution, seen.nights[group], reference.info, lambda path: path.name)
    assert [path.name for path in written] == ["stars.csv", "lightcurves.csv"]
    with (tmp_path / "stars.csv").open() as file:
        stars = list(csv.DictReader(file))
    with (tmp_path / "lightcurves.csv").open() as file:
        points = list(csv.DictReader(file))
    assert tuple(stars[0]) == STAR_COLUMNS
    assert tuple(points[0]) == CURVE_COLUMNS
    assert len(stars) == len(solution.curves)
    mine = [float(p["mag"]) for p in points if p["star"] == "2" and p["flag"] == "0"]
    assert np.mean(mine) == pytest.approx(float(stars[2]["mag"]), abs=0.01)
    assert {p["file"] for p in points} <= set(solution.curves.files)


def test_a_star_that_fades_is_told_once() -> None:
    stack, seen = watched(range(12))
    (group,) = stack.groups
    night = seen.nights[group]
    faded = StarNight.restored(night.state())
    for number in range(4):
        last = faded.frames[number]
        flux = last.flux.copy()
        flux[:, 1] *= 0.7
        faded.frames.append(type(last)(**{**last.__dict__, "flux": flux, "jd": last.jd + 0.1}))
    solution = solve_night(night, group)
    assert solution is not None
    sudden = Sudden()
    assert sudden.look(solution) == []
    said = sudden.look(go_on(solution, faded))
    assert len(said) == 1
    assert "Star 1 " in said[0]
    assert "fades: 0.39 mag fainter" in said[0]
    assert sudden.look(go_on(solution, faded)) == []
    assert Sudden(sudden.state()).look(go_on(solution, faded)) == []


def test_a_reference_that_takes_over_keeps_the_stars() -> None:
    night = StarNight(np.array([10.0, 20.0]), np.array([5.0, 6.0]), np.ones(2), (100, 80), None)
    night.move(np.array([[1.0, 0, 3.0], [0, 1, -2.0], [0, 0, 1]]), (100, 80))
    np.testing.assert_allclose(night.xy, [[13, 3], [23, 4]])


def test_a_star_that_the_reference_did_not_show_is_taken_up() -> None:
    night = StarNight(np.array([10.0]), np.array([5.0]), np.ones(1), (100, 80), None)
    for _ in range(3):
        night.refine(np.array([[10.0, 5.0], [60.0, 40.0]]), np.array([1.0, 2.0]), np.array([50.0, 50.0]), 100)
    assert len(night) == 2
    assert night.x[1] == pytest.approx(60)
    night.refine(np.array([[80.0, 70.0]]), np.array([1.0]), np.array([50.0]), 100)
    assert len(night) == 2
