"""Many filters, many targets: frames find their groups, groups share a grid, and the colour picture is registered."""

from __future__ import annotations

import copy
import random
from dataclasses import replace

import cv2
import numpy as np
import pytest
import sep
from scipy.spatial import cKDTree

from livestack.base.errors import UsageError
from livestack.base.frame import Frame
from livestack.base.settings import RenderSettings, Settings
from livestack.engine.results import composite_of
from livestack.observers.preview import Drawing, PreviewRenderer, warp_frame
from livestack.picture import measure_look, render
from livestack.picture.composite import Composite, Part, check_palette, plan_composite
from livestack.session.snapshot import Slot
from livestack.session.status_feed import StatusFeed
from livestack.simulate import named_scenario, simulate_frame
from livestack.stacking.accumulators import Stack
from tests.heard import HeardStack

WIDTH, HEIGHT = 480, 360
TARGETS = ("M 27", "NGC 6960")


def night(filters: tuple[str, ...], frames: int, **changes: object):  # type: ignore[no-untyped-def]
    return named_scenario(
        "filters", frames=frames, width=WIDTH, height=HEIGHT, seed=3, filters=filters,
        **{"objects": TARGETS, "stars": 220, "flux_min_e": 2000.0, **changes},
    )  # fmt: skip


def shuffled(filters: tuple[str, ...], each: int) -> HeardStack:
    """A night of two targets, `each` frames a filter and target, in any order."""
    scenario = night(filters, 2 * each * len(filters))
    order = list(range(scenario.frames))
    random.Random(7).shuffle(order)
    stack = HeardStack(Settings.model_validate({"stack": {"warmup_frames": 4}}))
    for index in order:
        assert stack.add(simulate_frame(scenario, index).frame).stacked
    return stack


@pytest.fixture(scope="module")
def lrgb() -> HeardStack:
    return shuffled(("L", "R", "G", "B"), 6)


@pytest.fixture(scope="module")
def sho() -> HeardStack:
    return shuffled(("Ha 7nm", "OIII", "S II"), 5)


def find_stars(plane: np.ndarray) -> np.ndarray:
    """(n, 2) windowed centroids of bright stars, brightest first."""
    image = np.nan_to_num(np.ascontiguousarray(plane, dtype=np.float32), nan=float(np.nanmedian(plane)))
    sky = sep.Background(image)
    image = image - sky.back()
    found = sep.extract(image, 20, err=sky.globalrms)
    found = found[np.argsort(-found["flux"])]
    found = found[(found["flag"] == 0) & (found["peak"] < 30000)]
    x, y, flag = sep.winpos(image, found["x"], found["y"], np.full(len(found), 1.3))
    inside = (flag == 0) & (x > 25) & (x < WIDTH - 25) & (y > 25) & (y < HEIGHT - 25)
    return np.column_stack([x, y])[inside]


def assert_registered(planes: list[np.ndarray], least: int) -> None:
    stars = [find_stars(plane) for plane in planes]
    for other in stars[1:]:
        distance, index = cKDTree(other).query(stars[0], distance_upper_bound=1.5)
        met = np.flatnonzero(np.isfinite(distance))[:40]
        assert len(met) >= least
        offset = stars[0][met] - other[index[met]]
        assert np.all(np.abs(np.median(offset, axis=0)) < 0.03)
        assert np.percentile(distance[met], 90) < 0.1


# Groups


@pytest.mark.parametrize("target, slug", [("M 27", "m-27"), ("NGC 6960", "ngc-6960")])
def test_a_shuffled_night_comes_to_the_right_groups(lrgb: HeardStack, target: str, slug: str) -> None:
    assert len(lrgb.groups) == 8
    mine = [group for name, group in lrgb.groups.items() if name.startswith(slug)]
    assert sorted(group.name for group in mine) == [f"{slug}-{f}" for f in "bglr"]
    assert len({group.grid.root for group in mine}) == 1
    assert {group.n_stacked for group in mine} == {6}
    assert {member.info.object_name for group in mine for member in group.members} == {target}
    assert lrgb.targets.exposure_of(f"{slug}-r") == {"L": 180.0, "R": 180.0, "G": 180.0, "B": 180.0}


@pytest.mark.parametrize("slug", ["m-27", "ngc-6960"])
def test_stars_of_all_channels_lie_on_each_other(lrgb: HeardStack, slug: str) -> None:
    assert_registered([lrgb.result(f"{slug}-{f}").mean for f in "lrgb"], 20)
    composite = composite_of(lrgb.targets, f"{slug}-b")
    assert composite is not None
    assert (composite.name, composite.narrowband) == (f"{slug}-lrgb", False)
    planes, sky = composite.make()
    assert planes.shape == (3, HEIGHT, WIDTH)
    assert_registered(list(planes), 20)
    np.testing.assert_allclose([np.nanmedian(plane) for plane in planes], sky, atol=6)


@pytest.mark.parametrize("slug", ["m-27", "ngc-6960"])
def test_a_narrowband_night(sho: HeardStack, slug: str) -> None:
    composite = composite_of(sho.targets, f"{slug}-oiii")
    assert composite is not None
    assert (composite.palette_name, list(composite.parts)) == ("SHO", ["SII", "Ha", "OIII"])
    assert {role: (part.n_frames, part.exposure_s) for role, part in composite.parts.items()} == dict.fromkeys(
        ("SII", "Ha", "OIII"), (5, 150.0)
    )
    assert composite.settings_for(RenderSettings()).white_balance == "none"
    assert_registered(list(composite.make()[0]), 12)


def test_exposure_is_told_for_the_target_that_is_shown(lrgb: HeardStack, tmp_path) -> None:  # type: ignore[no-untyped-def]
    slot = Slot()
    teller = StatusFeed(slot, "night", tmp_path, lrgb.targets, lambda: 0)
    teller.active_group = "ngc-6960-g"
    teller.publish()
    assert slot.latest.exposure_s == {"L": 180.0, "R": 180.0, "G": 180.0, "B": 180.0}


def test_a_cloudy_first_frame_does_not_part_a_filter_from_the_others() -> None:
    scenario = night(("L", "R"), 12, objects=("M 27",))
    stack = HeardStack()
    frames = [simulate_frame(scenario, i).frame for i in range(8)]
    assert stack.add(frames[0]).stacked
    rng = np.random.default_rng(4)
    fog = rng.normal(900, 20, (HEIGHT, WIDTH)).clip(0).astype(np.uint16)
    outcome = stack.add(replace(frames[1], data=fog))
    assert not outcome.stacked
    for frame in frames[2:]:
        assert stack.add(frame).stacked
    assert stack.groups["m-27-r"].grid.root == "m-27-l"


def test_a_filter_that_fits_nowhere_gets_a_grid_of_its_own_and_says_so() -> None:
    here = night(("L",), 4, objects=("M 27",))
    there = named_scenario("filters", frames=5, width=WIDTH, height=HEIGHT, seed=99, filters=("R",), objects=("M 27",))
    stack = HeardStack()
    for i in range(4):
        assert stack.add(simulate_frame(here, i).frame).stacked
    outcomes = [stack.add(simulate_frame(there, i).frame) for i in range(5)]
    assert [o.stacked for o in outcomes] == [False, False, True, True, True]
    assert stack.groups["m-27-r"].grid.root == "m-27-r"
    assert any("grid of their own" in notice for notice in stack.notices)
    assert composite_of(stack.targets, "m-27-l") is None


# Coming back


def nameless(frame: Frame, filter_name: str | None) -> Frame:
    return replace(frame, info=replace(frame.info, object_name=None, filter_name=filter_name))


def test_coming_back_to_a_target_without_a_name_continues_it() -> None:
    here = named_scenario("mono", frames=6, width=WIDTH, height=HEIGHT, seed=1)
    there = named_scenario("mono", frames=5, width=WIDTH, height=HEIGHT, seed=99)
    stack = HeardStack()
    walk = [(here, range(3)), (there, range(5)), (here, range(3, 6))]
    outcomes = [
        stack.add(nameless(simulate_frame(scenario, i).frame, None)) for scenario, numbers in walk for i in numbers
    ]
    assert [o.group for o in outcomes if o.stacked] == ["stack"] * 3 + ["stack-2"] * 3 + ["stack"] * 3
    assert [o.stacked for o in outcomes[-3:]] == [True] * 3
    assert [group.ledger.n_refused for group in stack.groups.values()] == [2, 0]
    assert any("shows the field of stack, not that of stack-2" in notice for notice in stack.notices)


def test_filters_of_targets_without_a_name_stay_together() -> None:
    here = named_scenario("mono", frames=8, width=WIDTH, height=HEIGHT, seed=1)
    there = named_scenario("mono", frames=12, width=WIDTH, height=HEIGHT, seed=99)
    stack = HeardStack()
    for scenario, numbers in ((here, range(4)), (there, range(12)), (here, range(4, 8))):
        for i in numbers:
            stack.add(nameless(simulate_frame(scenario, i).frame, "LR"[i % 2]))
    grids = {name: group.grid.root for name, group in stack.groups.items()}
    assert grids["l"] == grids["r"]
    assert grids["l-2"] == grids["r-2"] != grids["l"]
    assert {name: group.n_stacked for name, group in stack.groups.items() if name in "lr"} == {"l": 4, "r": 4}
    # the first two of each filter show that it is another field
    assert {name: group.n_stacked for name, group in stack.groups.items() if name not in "lr"} == {"l-2": 4, "r-2": 4}


def test_a_colour_camera_and_a_mono_one_on_the_same_target() -> None:
    mono = named_scenario("mono", frames=3, width=WIDTH, height=HEIGHT, seed=1)
    colour = named_scenario("osc", frames=3, width=WIDTH, height=HEIGHT, seed=1, objects=mono.objects)
    stack = HeardStack()
    for i in range(3):
        assert stack.add(simulate_frame(colour, i).frame).stacked
        assert stack.add(simulate_frame(mono, i).frame).stacked
    assert set(stack.groups) == {"m-27", "m-27-mono"}
    composite = composite_of(stack.targets, "m-27")
    assert composite is not None
    assert composite.words == "LRGB of L (3 frames, 90 s), colour (3 frames, 90 s)"
    assert np.isfinite(composite.make()[0][:, 40:-40, 40:-40]).all()


# Planning


def part(filter_name: str, exposure_s: float = 60.0, channels: int = 1) -> Part:
    return Part(f"x-{filter_name}", filter_name, Stack(channels, 6, 8), exposure_s, 1)


def roles(composite: Composite | None) -> list[str] | None:
    return None if composite is None else list(composite.parts)


@pytest.mark.parametrize(
    "filters, palette, expected",
    [
        ("L R G B", "auto", ["L", "R", "G", "B"]),
        ("L R G B", "rgb", ["R", "G", "B"]),
        ("R G B Ha", "auto", ["R", "G", "B"]),
        ("Ha OIII", "auto", ["Ha", "OIII"]),
        ("Ha OIII SII", "auto", ["SII", "Ha", "OIII"]),
        ("Ha OIII SII", "HOO", ["Ha", "OIII"]),
        ("Ha OIII", "R=Ha, G=0.3*Ha+0.7*OIII, B=OIII", ["Ha", "OIII"]),
        ("Ha OIII", "SHO", None),
        ("L R", "auto", None),
        ("L R G B", "none", None),
        ("L", "auto", None),
    ],
)
def test_what_is_made_of_which_filters(filters: str, palette: str, expected: list[str] | None) -> None:
    assert roles(plan_composite("x", [part(name) for name in filters.split()], palette)) == expected


def test_the_longer_exposed_of_two_alike_is_taken() -> None:
    composite = plan_composite("x", [part("Ha"), part("H-alpha", 90.0), part("O3")], "auto")
    assert composite is not None
    assert composite.parts["Ha"].filter_name == "H-alpha"


def test_mono_colours_come_before_a_colour_camera() -> None:
    assert roles(plan_composite("x", [part("", 60, 3), *map(part, "RGBL")], "auto")) == ["L", "R", "G", "B"]
    assert roles(plan_composite("x", [part("", 60, 3), part("R"), part("Lum")], "auto")) == ["L", "RGB"]
    custom = plan_composite("x", [part("", 60, 3), part("Ha")], "R=0.5*R+0.5*Ha, G=G, B=B")
    assert custom is not None
    assert (custom.name, list(custom.parts)) == ("x-custom", ["RGB", "Ha"])


def test_a_palette_that_nobody_understands_is_refused_at_once() -> None:
    for good in ("auto", "None", "sho", "R=Ha, G=OIII, B=OIII"):
        check_palette(good)
    with pytest.raises(UsageError, match="'Hubble' in 'Hubble' is not understood; expected auto, RGB"):
        check_palette("Hubble")


# Pictures


def draw(stack: HeardStack, group: str, side: int) -> Drawing:
    drawn: list[Drawing] = []
    artist = PreviewRenderer(drawn.append, lambda sentence: pytest.fail(sentence))
    settings = RenderSettings(preview_width=side)
    artist.draw(stack.views[group], settings, composite_of(stack.targets, group))
    artist.finish()
    return drawn[-1]


def test_the_preview_is_the_colour_picture_and_zooming_shows_the_same(lrgb: HeardStack) -> None:
    drawing = draw(lrgb, "m-27-g", 240)
    assert drawing.picture.rgb.shape == (180, 240, 3)
    assert drawing.last_frame is not None
    assert drawing.last_frame.shape == drawing.picture.rgb.shape
    assert np.ptp(drawing.picture.rgb.astype(int), axis=2).max() > 60  # stars have colours
    live = lrgb.views["m-27-g"]
    zoomed = drawing.region(live, 100, 60, 160, 120).astype(float)
    assert zoomed.shape == (120, 160, 3)
    assert drawing.mixed is not None
    whole, _ = drawing.mixed.composite.make()
    settings = RenderSettings(preview_width=240)
    saved = render(whole, measure_look(whole, settings)).rgb[60:180, 100:260].astype(float)
    np.testing.assert_allclose(np.median(zoomed, axis=(0, 1)), np.median(saved, axis=(0, 1)), atol=5)
    assert np.corrcoef(zoomed.ravel(), saved.ravel())[0, 1] > 0.95
    assert live.reference is not None
    info = replace(live.reference.info, bottom_up=True)
    turned = replace(live, reference=replace(live.reference, info=info))
    flipped = drawing.region(turned, 100, HEIGHT - 180, 160, 120)
    np.testing.assert_allclose(flipped[::-1].astype(float), zoomed, atol=1)


def test_a_lone_frame_beside_a_deep_stack_shows_no_neon_noise() -> None:
    scenario = named_scenario("osc", frames=10, width=WIDTH, height=HEIGHT, seed=4, sky_e=900.0)
    stack = HeardStack(Settings.model_validate({"stack": {"warmup_frames": 3}}))
    for i in range(10):
        assert stack.add(simulate_frame(scenario, i).frame).stacked
    drawing = draw(stack, "m-27", 1920)
    assert drawing.mixed is None
    assert drawing.last_frame is not None

    def colour(rgb: np.ndarray) -> float:
        return float(np.mean(np.ptp(rgb.astype(int), axis=2)))

    one = stack.views["m-27"]
    assert one.newest is not None
    image = one.image()
    look = measure_look(image, RenderSettings())
    without = render(warp_frame(one.newest, image.shape[-2:]), look).rgb
    assert colour(drawing.last_frame) < 0.5 * colour(without)


def test_filters_still_share_their_grid_after_an_interruption() -> None:
    scenario = night(("L", "R", "G", "B"), 16, objects=("M 27",))
    chosen = Settings.model_validate({"stack": {"warmup_frames": 2}})
    frames = [simulate_frame(scenario, i).frame for i in range(12)]
    before, after = HeardStack(chosen), HeardStack(chosen)
    for i in (0, 1, 4, 5):  # L R L R
        assert before.add(frames[i]).stacked
    assert after.restore(copy.deepcopy(before.state())) == []
    for i in (2, 6, 8, 9):  # G G L R
        outcomes = [stack.add(frames[i]) for stack in (before, after)]
        assert all(outcome.stacked for outcome in outcomes)
        assert np.array_equal(outcomes[0].transform, outcomes[1].transform)  # type: ignore[arg-type]
    assert {group.grid.root for group in after.groups.values()} == {"m-27-l"}
    told = [stack.targets.exposure_of("m-27-g") for stack in (before, after)]
    assert told == [{"L": 90.0, "R": 90.0, "G": 60.0}] * 2


def test_filters_of_the_moon_share_a_grid_by_its_features() -> None:
    scenario = named_scenario("moon", frames=6, width=800, height=600, filters=("R", "G", "B"))
    stack = HeardStack()
    for i in range(6):
        assert stack.add(simulate_frame(scenario, i).frame).stacked
    assert {group.grid.root for group in stack.groups.values()} == {"moon-r"}
    composite = composite_of(stack.targets, "moon-g")
    assert composite is not None
    red, green, blue = (np.nan_to_num(plane[60:-60, 60:-60]).astype(float) for plane in composite.make()[0])
    for other in (green, blue):
        shift, _ = cv2.phaseCorrelate(red, other)
        assert np.hypot(*shift) < 0.1


def test_patience_with_frames_that_fit_no_other_filter_ends() -> None:
    here = night(("L",), 2, objects=("M 27",))
    stack = HeardStack()
    assert stack.add(simulate_frame(here, 0).frame).stacked
    outcomes = []
    for i in range(7):  # never the same field, so that no three agree
        other = named_scenario("filters", frames=7, width=WIDTH, height=HEIGHT, seed=50 + i, filters=("R",))
        outcomes.append(stack.add(replace(simulate_frame(other, 0).frame, label=f"other {i}")))
    assert [outcome.stacked for outcome in outcomes] == [False] * 5 + [True, False]
    assert stack.groups["m-27-r"].grid.root == "m-27-r"
