"""Light curves of a simulated night: what is measured, what is saved, and that the stack does not notice."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest

from livestack.base.settings import PhotometrySettings, Settings
from livestack.detection import StarCatalog
from livestack.engine import prepare
from livestack.engine.live_stack import LiveStack
from livestack.kernels.bands import Bands
from livestack.observers import photometry
from livestack.observers.photometry import Photometry
from livestack.photometry.night import Newcomer, StarNight, go_on, solve_night
from livestack.photometry.watch import THERE_ALL_ALONG, Sudden, say_newcomers
from livestack.products.light_curves import CURVE_COLUMNS, STAR_COLUMNS
from livestack.products.star_files import write_curves
from livestack.simulate import named_scenario, simulate_frame
from livestack.simulate.movers import Newcomer as NewStar

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
        night.refine(
            np.array([[10.0, 5.0], [60.0, 40.0]]), np.array([1.0, 2.0]), np.array([50.0, 50.0]), np.ones(2), 100
        )
    assert len(night) == 2
    assert night.x[1] == pytest.approx(60)
    night.refine(np.array([[80.0, 70.0]]), np.array([1.0]), np.array([50.0]), np.ones(1), 100)
    assert len(night) == 2


def detections(
    random: np.random.Generator, stars: np.ndarray, light: np.ndarray, clear: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Places, flux, SNR and width of what a star search finds: stars above 5 sigma, and some cosmic rays."""
    snr = clear * light / 20 / np.sqrt(1 + clear * light / 4000)
    seen = snr * random.normal(1, 0.15, len(stars)) > 5
    hits = random.uniform(10, 390, (3, 2))
    places = np.concatenate([stars[seen] + random.normal(0, 0.1, (int(seen.sum()), 2)), hits])
    flux = np.append(clear * light[seen], random.uniform(300, 5000, 3))
    return places, flux, np.append(snr[seen], [100, 100, 100]), np.append(np.ones(int(seen.sum())), [0.4, 0.5, 0.55])


def test_a_star_that_was_not_there_is_told_once_and_others_are_not() -> None:
    random = np.random.default_rng(7)
    told = false = 0
    for _ in range(60):
        stars = random.uniform(0, 400, (150, 2))
        light = 100 * random.pareto(1.0, 150) + 60
        new = np.array([[200.0, 200.0]])
        stars = stars[np.hypot(*(stars - new[0]).T) > 16]
        light = light[: len(stars)]
        cloudy = random.random() < 0.5
        first = detections(random, stars, light, 0.4 if cloudy else 1.0)
        plain = first[2] >= 10
        night = StarNight(first[0][plain, 0], first[0][plain, 1], first[1][plain], (400, 400), None)
        said: list[str] = []
        for frame in range(30):
            there = frame >= 15
            all_stars = np.concatenate([stars, new]) if there else stars
            all_light = np.append(light, 3000.0) if there else light
            places, flux, snr, width = detections(random, all_stars, all_light, random.uniform(0.5, 1.0))
            found = night.refine(places, flux, snr, width, 2000)
            sentences = say_newcomers(found, night.xy, night.size)
            said += sentences
            told += there and any("x 200, y 200" in one for one in sentences)
        false += len([one for one in said if "x 200, y 200" not in one])
    assert told >= 58
    assert false <= 3


def test_many_new_stars_at_once_are_a_sky_that_clears() -> None:
    many = [Newcomer(30 + k, 50.0 + 60 * k, 100.0, 9.0, 900.0) for k in range(5)]
    xy = np.array([[one.x, one.y] for one in many])
    assert say_newcomers(many, xy, (400, 400)) == []
    assert len(say_newcomers(many[:2], xy, (400, 400))) == 2
    near = np.append(xy, [[many[0].x + 6, many[0].y]], axis=0)
    assert len(say_newcomers(many[:2], near, (400, 400))) == 1, "a companion is no newcomer"


@pytest.mark.parametrize("there_all_along", [THERE_ALL_ALONG, 9.0])
def test_a_star_that_the_first_frame_missed_is_no_newcomer(
    monkeypatch: pytest.MonkeyPatch, there_all_along: float
) -> None:
    """The detection loses a plain star in the reference; the mean of all frames has it in full, and so nothing is said,
    as it would be if the mean were not asked."""
    detect, calls = prepare.find_stars, []

    def lose_one(*words: object) -> StarCatalog:
        found = detect(*words)
        calls.append(len(found))
        if len(calls) > 1:
            return found
        away = np.hypot(*(found.xy[:, None] - found.xy[None]).T) + 1e9 * np.eye(len(found))
        inside = ((found.xy > 40) & (found.xy < (360, 280))).all(axis=1)
        plain = np.flatnonzero((away.min(axis=0) > 20) & inside & (found.snr > 60))
        return found.select(np.arange(len(found)) != plain[len(plain) // 2])

    monkeypatch.setattr(prepare, "find_stars", lose_one)
    monkeypatch.setattr(photometry, "THERE_ALL_ALONG", there_all_along)
    said: list[str] = []
    watched(range(9), NIGHT, said)
    told = [one for one in said if "was not there before" in one]
    assert len(told) == (there_all_along > 1)


def test_a_new_star_in_frames_is_told() -> None:
    appears = NewStar(x=200.0, y=160.0, first=9, flux_e=40000.0)
    said: list[str] = []
    watched(range(14), NIGHT.model_copy(update={"newcomers": (appears,)}), said)
    assert sum("was not there before" in one for one in said) == 1
