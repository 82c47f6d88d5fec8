"""The pipeline against nights whose truth is known: transforms, noise, star shape, flux, verdicts, groups."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from livestack.base.errors import NothingStacked, UsageError
from livestack.base.frame import Frame, FrameInfo, FrameKind
from livestack.base.settings import Settings
from livestack.detection.psf import measure_psf
from livestack.engine.intake import group_name, slug
from livestack.engine.live_stack import LiveStack
from livestack.engine.states import Outcome
from livestack.kernels.bands import Bands
from livestack.registration import transform as tf
from livestack.simulate import Fault, Scenario, SimulatedFrame, named_scenario, simulate_frame, write_session
from livestack.stacking.accumulators import Stack
from tests.heard import HeardStack

WIDTH, HEIGHT = 720, 520


def settings(**sections: dict[str, object]) -> Settings:
    return Settings.model_validate(sections)


def stack_night(
    scenario: Scenario, chosen: Settings | None = None
) -> tuple[LiveStack, list[Outcome], list[SimulatedFrame]]:
    stack = LiveStack(chosen)
    truth = [simulate_frame(scenario, i, expected=True) for i in range(scenario.frames)]
    return stack, [stack.add(one.frame) for one in truth], truth


def corner_errors(outcomes: list[Outcome], truth: list[SimulatedFrame]) -> np.ndarray:
    """Corner displacement of every transform against truth, px."""
    return np.array(
        [
            tf.corner_displacement(o.transform, t.transform, WIDTH, HEIGHT)
            for o, t in zip(outcomes, truth, strict=True)
            if o.transform is not None
        ]
    )


@pytest.fixture(scope="module")
def mono_night() -> tuple[LiveStack, list[Outcome], list[SimulatedFrame], Scenario]:
    night = named_scenario(
        "mono",
        frames=24,
        width=WIDTH,
        height=HEIGHT,
        seed=5,
        rotation_deg=0.05,
        stars=150,
        flux_min_e=6000.0,
        nebula_e=0.0,
    )
    return *stack_night(night), night


def test_all_frames_of_a_good_night_are_stacked(mono_night) -> None:
    stack, outcomes, _, _ = mono_night
    assert [o.status for o in outcomes] == ["stacked"] * 24
    assert stack.result().header["NCOMBINE"] == 24


def test_transforms_agree_with_truth_at_the_corners(mono_night) -> None:
    _, outcomes, truth, _ = mono_night
    errors = corner_errors(outcomes, truth)
    assert len(errors) == 24
    assert np.median(errors) <= 0.04
    assert errors.max() <= 0.1


def block_scatter(image: np.ndarray) -> float:
    """Robust scatter of 8 x 8 block means about their neighbours."""
    h, w = (side // 8 * 8 for side in image.shape)
    means = image[:h, :w].astype(float).reshape(h // 8, 8, w // 8, 8).mean(axis=(1, 3))
    bend = (means[:, :-2] - 2 * means[:, 1:-1] + means[:, 2:]) / 6**0.5
    bend = bend[np.isfinite(bend)]
    return float(1.4826 * np.median(np.abs(bend - np.median(bend))))


def test_noise_of_the_stack_is_that_of_the_best_possible_mean(mono_night, bands: Bands) -> None:
    stack, _, truth, _ = mono_night
    members = stack.groups["m-27"].members
    weight = np.array([m.weight for m in members])
    # the noise-free frames through the same transforms, weights and normalisation: what remains is noise
    clean = Stack(1, HEIGHT, WIDTH, origin=stack.groups["m-27"].stack.origin)
    noise = []
    for one, member in zip(truth, members, strict=True):
        clean.add(one.expected[None], member.matrix, member.normalisation, member.weight, None, bands)
        noise.append(block_scatter(one.frame.data - one.expected) * member.normalisation.factor[0])
    ideal = np.sqrt(np.sum((weight * np.array(noise)) ** 2)) / weight.sum()
    # 2 % is the target; the estimate itself scatters by 2 % on so few blocks
    assert block_scatter(stack.result().mean - clean.image()[0]) / ideal == pytest.approx(1.0, abs=0.04)


def test_stars_of_the_stack_are_as_sharp_as_those_of_its_frames(mono_night) -> None:
    stack, _, truth, _ = mono_night
    members = stack.groups["m-27"].members
    measured = measure_psf(stack.result().mean)
    assert measured is not None
    expected = np.average([t.conditions.fwhm_px for t in truth], weights=[m.weight for m in members])
    assert measured.fwhm_px == pytest.approx(expected, rel=0.02)


def test_flux_of_stars_is_kept(mono_night) -> None:
    stack, _, truth, night = mono_night
    image = stack.result().mean - np.nanmedian(stack.result().mean)
    stars = truth[0].stars
    ratios = []
    for star in stars:
        x, y, flux = float(star["x"]), float(star["y"]), float(star["flux_e"]) / night.gain_e_adu
        others = np.hypot(stars["x"] - x, stars["y"] - y)
        if not (40 < x < WIDTH - 40 and 40 < y < HEIGHT - 40 and 3e4 < flux < 3e5 and np.sum(others < 30) == 1):
            continue
        yy, xx = np.mgrid[int(y) - 20 : int(y) + 21, int(x) - 20 : int(x) + 21]
        distance = np.hypot(xx - x, yy - y)
        cut = image[int(y) - 20 : int(y) + 21, int(x) - 20 : int(x) + 21]
        light = cut[distance <= 10].sum() - np.median(cut[(distance > 14) & (distance < 20)]) * np.sum(distance <= 10)
        first = truth[0].expected[int(y) - 20 : int(y) + 21, int(x) - 20 : int(x) + 21].astype(float)
        once = first[distance <= 10].sum() - np.median(first[(distance > 14) & (distance < 20)]) * np.sum(
            distance <= 10
        )
        ratios.append((light / once, flux))
    assert len(ratios) >= 5
    values, weights = np.array(ratios).T
    assert np.average(values, weights=weights) == pytest.approx(1.0, abs=0.006)


def test_colour_frames_and_field_rotation() -> None:
    night = named_scenario("osc", frames=12, width=WIDTH, height=HEIGHT, seed=3, rotation_deg=0.3)
    stack, outcomes, truth = stack_night(night)
    assert all(o.stacked for o in outcomes)
    assert np.median(corner_errors(outcomes, truth)) <= 0.05
    assert stack.result().mean.shape == (3, HEIGHT, WIDTH)


def test_meridian_flip_continues_the_stack() -> None:
    night = named_scenario("flip", frames=8, width=WIDTH, height=HEIGHT, seed=4)
    _, outcomes, truth = stack_night(night)
    assert all(o.stacked for o in outcomes)
    assert corner_errors(outcomes, truth).max() <= 0.1


def test_nothing_is_filled_in_where_no_frame_looked() -> None:
    night = named_scenario("mono", frames=3, width=WIDTH, height=HEIGHT, drift_px=(30.0, 0.0), jitter_px=0.0, seed=2)
    stack, _, _ = stack_night(night)
    result = stack.result()
    # frame k lies 30 k px further on: the first columns of the grid were seen once, the last by all or by none
    seen = result.coverage.astype(int) + result.rejected
    assert np.median(seen[:, 5]) in (1, 3)
    assert np.median(seen[:, -5]) in (1, 3)
    assert np.isnan(result.mean[result.coverage == 0]).all()
    assert np.isfinite(result.mean[result.coverage > 0]).all()


def test_a_satellite_in_frame_one_leaves_nothing_behind() -> None:
    night = named_scenario("trails", frames=14, width=WIDTH, height=HEIGHT, seed=8)
    stack, outcomes, truth = stack_night(night)
    twin = LiveStack(stack.settings)
    for one in truth:
        twin.add(one.twin)
    # at the grid's rim one frame alone looked: nothing can be told there
    mask = truth[0].trail_mask & (twin.result().coverage >= 8)
    assert mask.sum() > 200
    error = (stack.result().mean - twin.result().mean)[mask]
    noise = 1.4826 * np.nanmedian(np.abs(np.diff(twin.result().mean, axis=1))) / 2**0.5
    assert np.sqrt(np.mean(error**2)) < 0.7 * noise
    assert all(o.stacked for o in outcomes)


def test_bad_frames_of_a_bad_night_are_refused_for_their_reason() -> None:
    night = named_scenario("everything", frames=40, width=WIDTH, height=HEIGHT, seed=6)
    _, outcomes, truth = stack_night(night)
    for outcome, one in zip(outcomes, truth, strict=True):
        if one.conditions.reason == "truncated":
            continue
        expected = one.conditions.verdict
        assert outcome.status == expected, (outcome.name, outcome.message, one.conditions)
        if not outcome.stacked:
            assert outcome.message.startswith(outcome.name)


def test_same_frames_same_result_bit_for_bit() -> None:
    night = named_scenario("trails", frames=12, width=300, height=220, seed=9)
    one, _, _ = stack_night(night)
    other, _, _ = stack_night(night)
    a, b = one.result(), other.result()
    assert np.array_equal(a.mean, b.mean, equal_nan=True)
    assert np.array_equal(a.rejected_high, b.rejected_high)


def test_groups_by_object_and_filter_share_the_grid() -> None:
    night = named_scenario("filters", frames=12, width=400, height=300, seed=2)
    stack, outcomes, truth = stack_night(night)
    assert all(o.stacked for o in outcomes)
    names = {group_name(t.frame.info) for t in truth}
    assert set(stack.groups) == names
    assert len(names) > 3
    for target in {t.frame.info.object_name for t in truth}:
        mine = [(o, t) for o, t in zip(outcomes, truth, strict=True) if t.frame.info.object_name == target]
        first = mine[0][1].transform
        for outcome, one in mine:
            expected = np.linalg.inv(first) @ one.transform
            assert outcome.transform is not None
            assert tf.corner_displacement(outcome.transform, expected, 400, 300) < 0.3


def test_another_field_under_the_same_name_opens_a_new_group() -> None:
    here = named_scenario("mono", frames=4, width=WIDTH, height=HEIGHT, seed=1)
    there = named_scenario("mono", frames=5, width=WIDTH, height=HEIGHT, seed=99)
    stack = HeardStack()
    for i in range(4):
        assert stack.add(simulate_frame(here, i).frame).stacked
    later = [stack.add(simulate_frame(there, i).frame) for i in range(5)]
    assert [o.status for o in later] == ["refused", "refused", "stacked", "stacked", "stacked"]
    assert later[0].reason == "no_registration"
    assert set(stack.groups) == {"m-27", "m-27-2"}
    assert any("another field" in notice for notice in stack.notices)


def test_an_odd_first_frame_is_dropped() -> None:
    elsewhere = simulate_frame(named_scenario("mono", frames=1, width=WIDTH, height=HEIGHT, seed=99), 0).frame
    night = named_scenario("mono", frames=6, width=WIDTH, height=HEIGHT, seed=1)
    stack = HeardStack()
    assert stack.add(elsewhere).stacked
    later = [stack.add(simulate_frame(night, i).frame) for i in range(6)]
    assert [o.status for o in later] == ["refused", "refused", "stacked", "stacked", "stacked", "stacked"]
    assert list(stack.groups) == ["m-27"]
    assert stack.taken_out == [elsewhere.name]
    assert stack.result().header["NCOMBINE"] == 4


def test_a_first_frame_of_another_size_is_dropped() -> None:
    """A binned test shot before the night must not lock the night to its size."""
    shot = simulate_frame(named_scenario("mono", frames=1, width=WIDTH // 2, height=HEIGHT // 2, seed=1), 0).frame
    night = named_scenario("mono", frames=6, width=WIDTH, height=HEIGHT, seed=1)
    with HeardStack() as stack:
        assert stack.add(replace(shot, label="shot.fits")).stacked
        later = [stack.add(simulate_frame(night, i).frame) for i in range(6)]
        assert [o.reason for o in later] == ["wrong_size", "wrong_size", None, None, None, None]
        assert stack.taken_out == ["shot.fits"]
        assert any("another size" in notice for notice in stack.notices)
        assert stack.result().mean.shape == (HEIGHT, WIDTH)
        assert stack.result().header["NCOMBINE"] == 4


def test_a_reference_of_another_size_is_told(tmp_path: Path) -> None:
    write_session(named_scenario("mono", frames=1, width=300, height=200, seed=1), tmp_path)
    other = next(tmp_path.glob("*.fits"))
    night = named_scenario("mono", frames=2, width=WIDTH, height=HEIGHT, seed=1)
    with HeardStack(settings(registration={"reference": other})) as stack:
        assert all(stack.add(simulate_frame(night, i).frame).stacked for i in range(2))
        assert [n for n in stack.notices if "is 300 x 200, the frames of m-27 are 720 x 520" in n]


def test_a_stack_among_the_lights_is_no_light() -> None:
    """A smart telescope leaves its own stack in the folder of its frames; stacks among themselves may be stacked."""
    night = named_scenario("mono", frames=5, width=WIDTH, height=HEIGHT, seed=1)
    frames = [simulate_frame(night, i).frame for i in range(5)]
    stacks = [replace(f, info=replace(f.info, is_master=True)) for f in frames]
    with LiveStack() as stack:
        outcomes = [stack.add(f) for f in (frames[0], frames[1], stacks[2], frames[3])]
        assert [o.reason for o in outcomes] == [None, None, "not_a_light", None]
        assert "is a stack already" in outcomes[2].message
    with LiveStack() as stack:
        assert all(stack.add(f).stacked for f in stacks)


def test_another_binning_gets_a_stack_of_its_own_and_the_first_goes_on() -> None:
    night = named_scenario("mono", frames=9, width=WIDTH, height=HEIGHT, seed=1)
    binned = named_scenario("mono", frames=5, width=WIDTH // 2, height=HEIGHT // 2, seed=2)
    with LiveStack() as stack:
        for i in range(4):
            assert stack.add(simulate_frame(night, i).frame).stacked
        small = [stack.add(replace(simulate_frame(binned, i).frame, label=f"b{i}")) for i in range(5)]
        back = [stack.add(simulate_frame(night, i).frame) for i in range(4, 9)]
        assert [o.reason for o in small] == ["wrong_size", "wrong_size", None, None, None]
        assert all(o.stacked and o.group == "m-27" for o in back)
        assert {name: group.n_stacked for name, group in stack.groups.items()} == {"m-27": 9, "m-27-2": 3}


def test_frames_of_several_exposures_are_stacked_by_the_light_they_bring() -> None:
    """Thirty seconds, then two minutes of the same sky: none is refused, and the longer ones count for more."""
    short = named_scenario("mono", frames=16, width=WIDTH, height=HEIGHT, seed=1)
    long = short.model_copy(update={"exposure_s": 120.0, "sky_e": short.sky_e * 4, "flux_min_e": short.flux_min_e * 4,
                                    "flux_max_e": short.flux_max_e * 4, "nebula_e": short.nebula_e * 4})  # fmt: skip
    with LiveStack() as stack:
        outcomes = [stack.add(simulate_frame(short if i < 6 else long, i).frame) for i in range(16)]
        members = stack.result().members
    assert all(o.stacked for o in outcomes)
    few, more = members[:6], members[6:]
    ratio = np.median([m.weight for m in more]) / np.median([m.weight for m in few])
    assert 2.5 < ratio < 6.0  # four times the light in twice the noise, in the seeing of each
    factors = [np.median([m.normalisation.factor[0] for m in part]) for part in (few, more)]
    assert factors[1] / factors[0] == pytest.approx(0.25, rel=0.05)


def test_taking_a_frame_out_equals_a_stack_that_never_had_it() -> None:
    night = named_scenario("mono", frames=5, width=300, height=220, seed=12)
    frames = [simulate_frame(night, i).frame for i in range(5)]
    plain = settings(stack={"rejection": "none"}, quality={"enabled": False}, calibration={"cosmetic": False})
    with_all, without = LiveStack(plain), LiveStack(plain)
    for i, frame in enumerate(frames):
        with_all.add(frame)
        if i != 3:
            without.add(frame)
    with_all.remove(frames[3].name, frames[3].index, frames[3])
    a, b = with_all.result(), without.result()
    assert np.array_equal(a.coverage, b.coverage)
    assert np.allclose(a.mean, b.mean, atol=2e-3, equal_nan=True)
    assert np.allclose(a.variance, b.variance, rtol=1e-2, atol=0.5, equal_nan=True)


def blank(value: float = 500.0, kind: FrameKind = FrameKind.LIGHT, size: tuple[int, int] = (64, 48)) -> Frame:
    data = np.full((size[1], size[0]), value, np.float32)
    return Frame(data, FrameInfo(size[0], size[1], kind), label="blank")


def test_frames_that_are_no_lights_are_refused() -> None:
    stack = LiveStack()
    assert stack.add(blank()).reason == "blank"
    assert stack.add(blank(kind=FrameKind.DARK)).reason == "not_a_light"
    with pytest.raises(NothingStacked, match="no frame could be stacked"):
        stack.result()


@pytest.mark.parametrize("value", [np.nan, np.inf, 65535.0, 0.0])
def test_frames_without_content_never_raise(value: float) -> None:
    assert not LiveStack().add(blank(value)).stacked


def test_wrong_size_names_both_sizes() -> None:
    stack = LiveStack()
    stack.add(simulate_frame(named_scenario("mono", frames=1, width=300, height=220), 0).frame)
    outcome = stack.add(simulate_frame(named_scenario("mono", frames=1, width=320, height=240, seed=2), 0).frame)
    assert outcome.reason == "wrong_size"
    assert "320 x 240" in outcome.message
    assert "300 x 220" in outcome.message


def test_the_same_exposure_twice_counts_once() -> None:
    frame = simulate_frame(named_scenario("mono", frames=1, width=300, height=220), 0).frame
    stack = LiveStack()
    assert stack.add(frame).stacked
    again = stack.add(replace(frame, label="copy"))
    assert (again.status, again.reason) == ("refused", "duplicate")


def test_a_chosen_reference_sets_the_grid(tmp_path: Path) -> None:
    night = named_scenario("mono", frames=6, width=320, height=240, seed=21)
    write_session(night, tmp_path)
    chosen = sorted(tmp_path.glob("*.fits"))[4]
    stack = LiveStack(settings(registration={"reference": chosen}))
    for i in range(3):
        outcome = stack.add(simulate_frame(night, i).frame)
        expected = np.linalg.inv(simulate_frame(night, 4).transform) @ simulate_frame(night, i).transform
        assert outcome.transform is not None
        assert tf.corner_displacement(outcome.transform, expected, 320, 240) < 0.15
    assert stack.result().header["REFFRAME"] == chosen.name
    with pytest.raises(UsageError, match=r"--reference: .*nowhere\.fits"):
        LiveStack(settings(registration={"reference": tmp_path / "nowhere.fits"})).add(simulate_frame(night, 0).frame)


def test_a_poor_first_frame_gives_the_reference_away() -> None:
    poor = Fault(kind="defocus", first=0, amount=2.5, expected="stacked")
    night = named_scenario("mono", frames=12, width=480, height=360, seed=23, faults=(poor,))
    stack = LiveStack()
    outcomes = [stack.add(simulate_frame(night, i).frame) for i in range(12)]
    reference = stack.result().reference
    assert reference.name != outcomes[0].name
    assert reference.from_previous is not None
    number = next(i for i, o in enumerate(outcomes) if o.name == reference.name)
    grid = np.linalg.inv(simulate_frame(night, number).transform)
    for i, outcome in enumerate(outcomes):
        assert outcome.transform is not None
        # the tenth frame ends the warm-up: what is told of it speaks of the new reference already
        told = outcome.transform if i >= 9 else reference.from_previous @ outcome.transform
        assert tf.corner_displacement(told, grid @ simulate_frame(night, i).transform, 480, 360) < (
            0.6 if i == 0 else 0.1
        )


def test_unknown_frame_or_group_is_said() -> None:
    stack = LiveStack()
    with pytest.raises(UsageError, match=r"nowhere\.fits: is not in a stack"):
        stack.remove(Path("nowhere.fits"))
    with pytest.raises(UsageError, match="there is none"):
        stack.result("m-31")


@pytest.mark.parametrize(
    ("text", "name"),
    [("M 27", "m-27"), ("../../etc", "etc"), ("NGC 7000 / Hα", "ngc-7000-ha"), ("☄", ""), ("a" * 3, "aaa")],
)
def test_slugs_are_safe_folder_names(text: str, name: str) -> None:
    assert slug(text) == name


def test_nameless_frames_go_to_stack() -> None:
    assert group_name(FrameInfo(4, 4)) == "stack"
    assert group_name(FrameInfo(4, 4, object_name="☄", filter_name=None)) == "stack"
    assert group_name(FrameInfo(4, 4, object_name="M 27", filter_name="Ha")) == "m-27-ha"


def test_a_new_filter_takes_the_grid_of_its_own_size() -> None:
    """Five cropped frames in between (a region of interest) must not crop the next filter."""
    red = named_scenario("mono", frames=8, width=WIDTH, height=HEIGHT, seed=1, filters=("L", "R"))
    full = [simulate_frame(red, i).frame for i in range(8)]
    small = named_scenario("mono", frames=5, width=WIDTH // 2, height=HEIGHT // 2, seed=1, filters=("L",))
    with LiveStack() as stack:
        for frame in full[::2]:
            assert stack.add(frame).stacked
        for i in range(5):
            stack.add(replace(simulate_frame(small, i).frame, label=f"roi{i}"))
        assert "m-27-l-2" in stack.groups
        for frame in full[1::2]:
            assert stack.add(frame).stacked
        assert stack.groups["m-27-r"].grid.root == "m-27-l"
        assert stack.result("m-27-r").mean.shape == (HEIGHT, WIDTH)


def test_asking_for_a_frame_that_is_not_there_changes_nothing() -> None:
    night = named_scenario("mono", frames=4, width=WIDTH, height=HEIGHT, seed=1)
    with LiveStack() as stack:
        for i in range(4):
            stack.add(simulate_frame(night, i).frame)
        with pytest.raises(UsageError, match="is not in a stack"):
            stack.remove("typo.fits")
        assert stack.groups["m-27"].warmup.active


def test_frames_without_an_exposure_weigh_as_their_like() -> None:
    night = named_scenario("mono", frames=8, width=WIDTH, height=HEIGHT, seed=1)
    with LiveStack() as stack:
        outcomes = []
        for i in range(8):
            frame = simulate_frame(night, i).frame
            silent = replace(frame, info=replace(frame.info, exposure_s=None))
            outcomes.append(stack.add(silent if i > 4 else frame))
    assert all(0.5 < o.transparency < 2.0 and 0.3 < o.weight < 3.0 for o in outcomes)
