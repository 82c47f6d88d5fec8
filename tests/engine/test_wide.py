"""A short lens that distorts, a field that drifts and turns over it: the whole way from frames to the stack."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from livestack import LiveStack, Settings
from livestack.base.journal import Distortion as DistortionRecord
from livestack.base.journal import FrameRecord
from livestack.detection import StarCatalog, find_stars, measure_sky
from livestack.engine.grid import filled_canvas
from livestack.engine.states import Outcome
from livestack.formats import read_frame
from livestack.registration import transform as tf
from livestack.registration.distortion import Distortion, to_frame, to_reference
from livestack.session.checkpoint import Checkpointer, load_newest
from livestack.session.state_codec import from_tree, to_text, to_tree
from livestack.simulate import Scenario, named_scenario, project_pixels, simulate_frame, write_session
from livestack.stacking.mask_store import MaskStore
from tests.heard import HeardStack

WIDTH, HEIGHT, FRAMES = 620, 460, 12
SCENARIO = named_scenario("wide", width=WIDTH, height=HEIGHT, frames=FRAMES, stars=700, seed=5)


def settings(**registration: object) -> Settings:
    default = Settings()
    return default.model_copy(
        update={
            "registration": default.registration.model_copy(update=registration),
            "stack": default.stack.model_copy(update={"warmup_frames": 5}),
        }
    )


def stacked(scenario: Scenario, chosen: Settings) -> tuple[LiveStack, list[Outcome]]:
    stack = LiveStack(chosen)
    outcomes = [stack.add(simulate_frame(scenario, i).frame) for i in range(scenario.frames)]
    assert all(outcome.stacked for outcome in outcomes)
    return stack, outcomes


@pytest.fixture(scope="module")
def night() -> tuple[LiveStack, list[Outcome]]:
    return stacked(SCENARIO, settings())


def stars_of(stack: LiveStack) -> StarCatalog:
    image = np.nan_to_num(stack.result().mean, nan=float(np.nanmedian(stack.result().mean)))
    image = np.ascontiguousarray(image.reshape(HEIGHT, WIDTH), dtype=np.float32)
    sky = measure_sky(image, None, stack.bands)
    return find_stars(image, None, sky, 60000.0, Settings().detection, stack.bands)


def missed_px(stack: LiveStack) -> np.ndarray:
    """(n,) how far bright stars of the stack lie from where the reference, the first frame, shows them."""
    found, truth = stars_of(stack).xy, simulate_frame(SCENARIO, 0).stars
    bright = truth["flux_e"] > 3000
    places = np.column_stack([truth["x"], truth["y"]])[bright]
    away = np.hypot(*(found[:, None] - places[None]).transpose(2, 0, 1)).min(axis=1)
    return away[away < 1.5]


def test_stars_of_the_stack_are_where_the_reference_has_them(night: tuple[LiveStack, list[Outcome]]) -> None:
    assert sum(outcome.distortion is not None for outcome in night[1]) >= FRAMES - 4
    with_lens = missed_px(night[0])
    alone = missed_px(stacked(SCENARIO, settings(model="affine"))[0])
    assert len(with_lens) > 100
    assert np.percentile(with_lens, 90) < 0.1
    assert np.percentile(alone, 90) > 2 * np.percentile(with_lens, 90)


def test_each_frame_lies_where_the_lens_puts_it(night: tuple[LiveStack, list[Outcome]]) -> None:
    x, y = np.meshgrid(np.linspace(0, WIDTH - 1, 15), np.linspace(0, HEIGHT - 1, 11))
    points = np.column_stack([x.ravel(), y.ravel()])
    first = simulate_frame(SCENARIO, 0).transform
    whole, alone = [], []
    for k in range(1, FRAMES):
        truth = project_pixels(SCENARIO, points, first, simulate_frame(SCENARIO, k).transform)
        shown = ((truth >= 0) & (truth <= (WIDTH - 1, HEIGHT - 1))).all(axis=1)
        outcome = night[1][k]
        assert outcome.transform is not None
        for way, worst in ((outcome.distortion, whole), (None, alone)):
            worst.append(np.hypot(*(to_frame(outcome.transform, way, points) - truth)[shown].T).max())
    assert max(whole) < 0.4
    assert max(alone) > 1.5


def test_the_final_pass_and_taking_out_follow_the_lens(tmp_path: Path) -> None:
    write_session(SCENARIO, tmp_path)
    frames = [read_frame(path) for path in sorted(tmp_path.rglob("*.fits"))]
    assert len(frames) == FRAMES
    with LiveStack(settings()) as whole, LiveStack(settings()) as short:
        for frame in frames:
            assert whole.add(frame).stacked
        for frame in frames[:-1]:
            assert short.add(frame).stacked
        streamed = whole.result().mean.copy()
        whole.remove(frames[-1].name, frames[-1].index, frames[-1])
        np.testing.assert_array_equal(whole.result().coverage, short.result().coverage)
        np.testing.assert_allclose(whole.result().mean, short.result().mean, atol=0.05, equal_nan=True)
        assert short.final_pass(next(iter(short.groups)))
        good = short.result().coverage == FRAMES - 1
        assert np.abs(short.result().mean - streamed)[good].mean() < 3.0
        assert np.percentile(missed_px(short), 90) < 0.1


def test_a_better_reference_takes_the_lens_along() -> None:
    """The first frame is out of focus: one of the warm-up takes over, and the others follow it through the lens."""
    faults = ({"kind": "defocus", "first": 0, "amount": 1.7, "expected": "stacked"},)
    scenario = Scenario.model_validate({**SCENARIO.model_dump(), "faults": faults})
    stack = HeardStack(settings())
    for i in range(scenario.frames):
        stack.add(simulate_frame(scenario, i).frame)
    assert stack.references[-1][1] == "the best frame of the warm-up"
    (group,) = stack.groups.values()
    assert group.reference is not None
    number = int(group.reference.name.split("[")[1].rstrip("]"))
    onto = simulate_frame(scenario, number).transform
    frame = np.random.default_rng(1).uniform((60, 60), (WIDTH - 60, HEIGHT - 60), (50, 2))
    bent = 0
    for member in group.members[:5]:
        mine = simulate_frame(scenario, int(member.name.split("[")[1].rstrip("]"))).transform
        truth = project_pixels(scenario, frame, mine, onto)
        assert np.hypot(*(to_reference(member.matrix, member.distortion, frame) - truth).T).max() < 0.3
        bent += member.distortion is not None
    assert bent


def test_a_checkpoint_remembers_the_distortion(night: tuple[LiveStack, list[Outcome]]) -> None:
    (group,) = night[0].groups.values()
    member = group.members[-1]
    assert member.distortion is not None
    arrays: list[np.ndarray] = []
    text = to_text(to_tree(member.distortion, arrays))
    assert not arrays, "the ledger has room for a few numbers only"
    again = from_tree(json.loads(text), (), None)
    assert again.coefficients.tobytes() == member.distortion.coefficients.tobytes()
    for name in ("centre", "half", "reach"):
        assert getattr(again, name) == getattr(member.distortion, name)


def test_an_interrupted_session_goes_on_through_the_lens(
    tmp_path: Path, night: tuple[LiveStack, list[Outcome]]
) -> None:
    frames = [simulate_frame(SCENARIO, i).frame for i in range(FRAMES)]
    masks = MaskStore(tmp_path / "masks.bin")
    first = LiveStack(settings(), keep=masks.keep)
    for frame in frames[:8]:
        first.add(frame)
    writer = Checkpointer(tmp_path, masks, 1, 1e9)
    writer.begin(first, 8, 7, {})
    assert writer.settle() is not None
    masks.close()
    loaded = load_newest(tmp_path, 8, [])
    assert loaded is not None
    second = LiveStack(settings(), keep=loaded.masks.keep)
    assert second.restore(loaded.state) == []
    for frame in frames[8:]:
        assert second.add(frame).stacked
    np.testing.assert_array_equal(second.result().mean, night[0].result().mean)
    loaded.masks.close()


def test_a_canvas_that_grows_follows_the_lens() -> None:
    knobs = {"drift_px": (22.0, 6.0), "rotation_deg": 0.2, "distortion_px": -4.0, "frames": 20}
    scenario = Scenario.model_validate({**SCENARIO.model_dump(), **knobs})
    chosen = settings()
    chosen = chosen.model_copy(update={"stack": chosen.stack.model_copy(update={"canvas": "union"})})
    stack, outcomes = stacked(scenario, chosen)
    (group,) = stack.groups.values()
    assert filled_canvas(group).width > 1.5 * WIDTH
    assert group.reference is not None
    assert any(patch.distortion is not None for patch in group.reference.patches)
    first, points = (
        simulate_frame(scenario, 0).transform,
        np.random.default_rng(2).uniform((0, 0), (WIDTH, HEIGHT), (80, 2)),
    )
    for k, outcome in enumerate(outcomes):
        truth = project_pixels(scenario, points, simulate_frame(scenario, k).transform, first)
        shared = ((truth >= 0) & (truth <= (WIDTH - 1, HEIGHT - 1))).all(axis=1)
        assert outcome.transform is not None
        away = np.hypot(*(to_reference(outcome.transform, outcome.distortion, points) - truth)[shared].T)
        assert away.max(initial=0.0) < 0.5, k


def test_the_journal_says_it() -> None:
    rng = np.random.default_rng(3)
    lens = Distortion(rng.normal(0, 1, (2, 10)), (300.0, 200.0), 310.0, (-1.0, 1.0, -0.7, 0.7))
    x, y = (tuple(row.tolist()) for row in lens.coefficients)
    said = DistortionRecord(coefficients=(x, y), centre=lens.centre, half=lens.half, reach=lens.reach)
    line = json.loads(FrameRecord(file="a.fits", status="stacked", distortion=said).to_line())["distortion"]
    # what docs/conventions.md says, word for word
    place = np.array([500.0, 10.0])
    u, v = (place - line["centre"]) / line["half"]
    u, v = np.clip(u, *line["reach"][:2]), np.clip(v, *line["reach"][2:])
    values = [1, u, v, u**2, u * v, v**2, u**3, u**2 * v, u * v**2, v**3]
    matrix = tf.similarity(1.0, 0.2, 5.0, 6.0)
    expected = np.linalg.inv(matrix) @ (*place, 1.0)
    shift = np.array(line["coefficients"]) @ values
    np.testing.assert_allclose(to_frame(matrix, lens, place[None])[0], expected[:2] + shift)
    assert json.loads(FrameRecord(file="a.fits", status="stacked").to_line())["distortion"] is None
