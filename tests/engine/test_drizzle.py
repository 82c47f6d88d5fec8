"""Drizzled stacks through the whole way of a frame: scaled grids, going on, taking out, and who chooses."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from livestack import LiveStack, Settings
from livestack.base.settings import CalibrationSettings, FollowSettings, StackSettings
from livestack.detection import find_stars, measure_sky
from livestack.engine.choose import evenness
from livestack.engine.developer import Developer
from livestack.engine.events import Notice
from livestack.engine.restack import test_anew as again
from livestack.kernels.bands import Bands
from livestack.session.state_codec import from_tree, to_tree
from livestack.simulate import Scenario, simulate_frame
from livestack.stacking import drizzle
from livestack.stacking.accumulators import Stack

N = 14
NIGHT = Scenario(
    frames=N, width=300, height=220, bayer="GRBG", stars=70, fwhm_px=2.6, dither_px=4.0, cosmic_rate=5.0, seed=5
)
FRAMES = [simulate_frame(NIGHT, index) for index in range(N)]
FILES = {one.frame.name: one.frame for one in FRAMES}


def settings(debayer: str = "drizzle", **stack) -> Settings:
    return Settings(
        calibration=CalibrationSettings(debayer=debayer), stack=StackSettings(**{"warmup_frames": 6, **stack}),
        follow=FollowSettings(target="none"),
    )  # fmt: skip


def stacked(chosen: Settings, frames=FRAMES) -> LiveStack:
    live = LiveStack(chosen)
    for one in frames:
        assert live.add(one.frame).stacked
    return live


def arrays(live: LiveStack) -> dict[str, np.ndarray]:
    (group,) = live.groups.values()
    assert group.stack is not None
    return group.stack.arrays()


@pytest.mark.parametrize(("scale", "canvas"), [(1.5, "reference"), (2.0, "union")])
def test_stars_lie_on_a_scaled_grid_where_its_transform_says(scale, canvas):
    with stacked(settings(scale=scale, pixfrac=0.8, canvas=canvas)) as live:
        (group,) = live.groups.values()
        result = live.result()
        truth = next(one for one in FRAMES if one.frame.name == group.reference.name)
    assert result.canvas.scale == scale
    if canvas == "reference":
        assert result.mean.shape == (3, round(220 * scale), round(300 * scale))
    image = np.nan_to_num(result.mean, nan=float(np.nanmedian(result.mean)))
    with Bands(1) as bands:
        found = find_stars(image, None, measure_sky(image, None, bands), 65535.0, live.settings.detection, bands)
    onto = result.canvas.from_reference
    away = []
    for star in truth.stars[:25]:
        x, y = onto[:2, :2] @ (star["x"], star["y"]) + onto[:2, 2]
        distance = np.hypot(found.xy[:, 0] - x, found.xy[:, 1] - y)
        away.append(found.xy[np.argmin(distance)] - (x, y) if distance.min() < 2 else (np.nan, np.nan))
    assert np.isfinite(away).all(axis=1).mean() > 0.8
    assert np.abs(np.nanmedian(away, axis=0)).max() < 0.1 * scale
    assert found.fwhm_px == pytest.approx(truth.conditions.fwhm_px * scale, rel=0.25)


def test_going_on_from_what_was_saved_is_exact():
    with stacked(settings()) as whole, stacked(settings(), FRAMES[:9]) as first, LiveStack(settings()) as second:
        kept: list[np.ndarray] = []
        tree = to_tree(first.state(), kept)
        second.restore(from_tree(tree, [one.copy() for one in kept], None))
        for one in FRAMES[9:]:
            second.add(one.frame)
        for name, array in arrays(whole).items():
            assert np.array_equal(array, arrays(second)[name]), name


def held_by(live: LiveStack) -> Stack:
    """A stack of what the members say they hold, made of their own pixels."""
    (group,) = live.groups.values()
    fresh = group.stack.empty()
    for member in group.members:
        pixels = group.pixels(Developer(live.intake.calibrate(FILES[member.name]), "mhc"))
        pixels.data[drizzle.unpack(member.rejected, pixels.data) != 0] = np.nan
        drizzle.add(fresh, group.accumulation.shot(member, pixels), None, live.bands)
    return fresh


def test_a_frame_taken_out_is_as_if_it_had_never_come():
    with stacked(settings()) as live:
        one = FRAMES[8].frame
        live.remove(one.name, frame=one)
        (group,) = live.groups.values()
        fresh = held_by(live)
        assert len(group.members) == N - 1
    assert np.array_equal(fresh.count, group.stack.count)
    assert np.abs(fresh.mean - group.stack.mean)[fresh.weight > 0.05].max() < 0.5


def test_the_final_pass_holds_what_it_says_it_refused():
    with stacked(settings()) as live, ThreadPoolExecutor(1) as reader:
        (group,) = live.groups.values()
        counts = ("count", "low", "high")
        before = sum(arrays(live)[name].astype(int) for name in counts)
        assert again(group, lambda member: live.intake.calibrate(FILES[member.name]), reader, None, None)
        after = sum(arrays(live)[name].astype(int) for name in counts)
        fresh = held_by(live)
    assert (before != after).mean() < 1e-3
    assert (fresh.count != group.stack.count).mean() < 1e-3
    assert np.abs(fresh.mean - group.stack.mean)[fresh.weight > 0.05].max() < 0.5


@pytest.mark.parametrize(
    ("changes", "drizzled", "word"),
    [
        ({"fwhm_px": 1.5}, True, "undersampled"),
        ({"fwhm_px": 3.2}, False, "wide enough"),
        ({"fwhm_px": 1.5, "dither_px": 0.0, "drift_px": 0.0, "rotation_deg": 0.0}, False, "dither them"),
    ],
)
def test_auto_chooses_by_what_was_measured_and_says_so(changes, drizzled, word):
    known = {name: value for name, value in changes.items() if name in Scenario.model_fields}
    night = NIGHT.model_copy(update=known)
    said: list[str] = []
    with LiveStack(settings("auto", warmup_frames=10)) as live:
        live.events.subscribe(lambda event: said.append(event.message) if isinstance(event, Notice) else None)
        for index in range(11):
            live.add(simulate_frame(night, index).frame)
        (group,) = live.groups.values()
        assert (group.accumulation.drop is not None) is drizzled
        assert 0 <= evenness(group.members) <= 1
    assert sum(word in one for one in said) == 1


def test_mono_frames_are_drizzled_too():
    night = NIGHT.model_copy(update={"bayer": None})
    with stacked(settings(), [simulate_frame(night, index) for index in range(8)]) as live:
        result = live.result()
    assert result.mean.shape == (220, 300)
    assert np.isfinite(result.mean[20:-20, 20:-20]).all()
    assert np.median(result.coverage) == 29  # four pixels of each frame touch one of the grid; of the reference one


def test_a_scale_without_drizzle_is_refused():
    with pytest.raises(ValueError, match="needs debayer drizzle"):
        settings("mhc", scale=2.0)
