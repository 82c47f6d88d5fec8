"""A canvas that grows: what lies where, and that nothing is lost or moved when it does."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
from astropy.io import fits
from astropy.wcs import WCS
from hypothesis import given
from hypothesis import strategies as st

from livestack.base.frame import FrameInfo
from livestack.base.resources import canvas_pixels, session_bytes
from livestack.base.settings import Settings
from livestack.engine.live_stack import LiveStack
from livestack.engine.results import composite_of
from livestack.formats.sequence import read_frames
from livestack.kernels.bands import Bands
from livestack.registration import transform as tf
from livestack.session.state_codec import from_tree, to_text, to_tree
from livestack.simulate import named_scenario, simulate_frame, write_session
from livestack.stacking.accumulators import Stack
from livestack.stacking.canvas import Canvas, footprint
from livestack.stacking.noise_model import Limits
from livestack.stacking.normalisation import Normalisation
from tests.small_sessions import run_session

WIDTH, HEIGHT = 480, 360
UNION = {"canvas": "union", "canvas_max": 9.0}
sides = st.integers(1, 12)


def settings(**sections: dict[str, object]) -> Settings:
    return Settings.model_validate({"stack": UNION} | sections)


class TestCanvas:
    @given(sides, sides, st.integers(0, 5), st.integers(0, 5), st.integers(0, 5), st.integers(0, 5), st.integers(0, 9))
    def test_indices_are_carried_as_arrays_are_copied(self, height, width, left, top, right, bottom, seed):
        small = Canvas.of(height, width)
        large = small.around([(-left, -top, width + right, height + bottom)])
        chosen = np.sort(np.random.default_rng(seed).choice(2 * height * width, min(7, height * width), replace=False))
        marks = np.zeros((2, height, width), bool)
        marks.ravel()[chosen] = True
        embedded = np.zeros((2, large.height, large.width), bool)
        embedded[:, *large.slices(small)] = marks
        np.testing.assert_array_equal(small.carry(chosen, large), np.flatnonzero(embedded))

    @given(st.integers(-400, 400), st.integers(-400, 400), st.booleans())
    def test_it_holds_the_box_and_no_more_than_a_step_beyond(self, x, y, steps):
        box = (x, y, x + 90, y + 70)
        canvas = Canvas.of(100, 150).around([box], steps)
        assert canvas.left <= min(x, 0)
        assert canvas.top <= min(y, 0)
        assert canvas.left + canvas.width >= max(x + 90, 150)
        assert canvas.top + canvas.height >= max(y + 70, 100)
        slack = 16 if steps else 1
        assert canvas.left > min(x, 0) - slack
        assert canvas.top + canvas.height < max(y + 70, 100) + slack

    def test_surfaces_are_measured_on_the_reference(self):
        canvas = Canvas.of(101, 201).around([(-100, -50, 10, 10)])
        u0, du, v0, dv = canvas.ruler
        assert u0 == pytest.approx(-2.0)
        assert u0 + du * 100 == pytest.approx(-1.0)
        assert u0 + du * 300 == pytest.approx(1.0)
        assert v0 + dv * 150 == pytest.approx(1.0)

    def test_footprint_of_a_turned_frame(self):
        assert footprint(np.eye(3), 20, 30) == (0, 0, 30, 20)
        assert footprint(tf.similarity(1.0, np.pi, 29.0, 19.0), 20, 30) == (0, 0, 30, 20)
        assert footprint(tf.similarity(1.0, 0.0, 3.4, -2.5), 20, 30) == (4, -2, 33, 17)


class TestGrowingStack:
    def test_growing_between_frames_changes_nothing(self):
        """Grown step by step, and as large as that from the start: the same sums, bit for bit, also after a removal."""
        rng = np.random.default_rng(3)
        places = [tf.similarity(1.0, 0.01 * k, 17.3 * k, -11.7 * k) for k in range(5)]
        frames = [rng.normal(100, 5, (1, 60, 90)).astype(np.float32) for _ in places]
        bend = Normalisation(np.array([1.1]), np.array([[3.0, 8.0, -4.0, 2.0, 1.0, 0, 0, 0, 0, 0]]))
        whole = Canvas.of(60, 90).around([footprint(m, 60, 90) for m in places], steps=True)
        with Bands(2) as bands:
            grown = Stack(1, 60, 90, origin=np.array([100.0]))
            fixed = Stack(1, 60, 90, origin=np.array([100.0]), canvas=whole)
            taken = []
            for frame, matrix in zip(frames, places, strict=True):
                grown = grown.grown(grown.canvas.around([footprint(matrix, 60, 90)], steps=True))
                taken.append(grown.add(frame, matrix, bend, 1.0, None, bands))
                fixed.add(frame, matrix, bend, 1.0, None, bands)
            grown.remove(frames[1], places[1], bend, 1.0, taken[1].rejected, bands)
            fixed.remove(frames[1], places[1], bend, 1.0, taken[1].rejected, bands)
        assert grown.canvas == whole
        for name, array in fixed.arrays().items():
            np.testing.assert_array_equal(grown.arrays()[name], array, err_msg=name)

    def test_refused_samples_are_found_again_on_a_larger_canvas(self):
        limits = Limits(np.full(1, 4.0), np.full(1, 0.0), 0.1, 0.0, 0.0, kappa=3.5, prior_dof=12.0)
        rng = np.random.default_rng(4)
        frames = [rng.normal(100, 2, (1, 60, 90)).astype(np.float32) for _ in range(8)]
        frames[6][0, 20:24, 30:60] += 500
        with Bands(1) as bands:
            stack = Stack(1, 60, 90, origin=np.array([100.0]))
            same = Normalisation.identity(1)
            added = [stack.add(f, np.eye(3), same, 1.0, limits, bands) for f in frames]
            assert added[6].n_rejected >= 100
            before = int(stack.high.sum()) + int(stack.low.sum())
            wide = stack.grown(stack.canvas.around([(-40, -30, 95, 61)]))
            wide.remove(frames[6], np.eye(3), same, 1.0, added[6].rejected, bands)
        assert before - int(wide.high.sum()) - int(wide.low.sum()) == added[6].n_rejected
        assert wide.high[:, 50:54, 70:100].sum() == 0
        assert wide.n_frames == 7


def night(frames: int = 30, **changes: object):
    given = {"drift_px": (24.0, -9.0), "sky_gradient": 0.2, "stars": 120, "flux_min_e": 3000.0, "nebula_e": 0.0}
    return named_scenario("mono", frames=frames, width=WIDTH, height=HEIGHT, seed=3, **(given | changes))


class TestNight:
    @pytest.mark.parametrize("changes", [{}, {"bayer": "RGGB"}, {"rotation_deg": 3.0, "drift_px": (9.0, 4.0)}])
    def test_a_field_that_drifts_away_is_followed(self, changes):
        """A field and a half of drift: every frame stacked where truth has it, one flat sky all over."""
        scenario = night(**changes)
        truth = [simulate_frame(scenario, i) for i in range(scenario.frames)]
        with LiveStack(settings()) as stack:
            outcomes = [stack.add(one.frame) for one in truth]
            result = stack.result()
            group = next(iter(stack.groups.values()))
            patches = len(group.reference.patches)
        assert [o.status for o in outcomes] == ["stacked"] * scenario.frames
        errors = [
            tf.corner_displacement(o.transform, t.transform, WIDTH, HEIGHT)
            for o, t in zip(outcomes, truth, strict=True)
        ]
        assert max(errors) < 0.1
        assert patches >= 2
        boxes = [footprint(t.transform, HEIGHT, WIDTH) for t in truth]
        assert abs(result.canvas.width - (max(b[2] for b in boxes) - min(b[0] for b in boxes))) <= 2
        assert result.mean.shape[-2:] == (result.canvas.height, result.canvas.width)
        assert result.coverage.max() <= scenario.frames
        sky = result.mean if result.mean.ndim == 2 else result.mean[1]
        blocks = [
            np.median(sky[y : y + 40, x : x + 40])
            for y in range(0, sky.shape[0] - 40, 40)
            for x in range(0, sky.shape[1] - 40, 40)
            if np.isfinite(sky[y : y + 40, x : x + 40]).all()
        ]
        level = np.median(blocks)
        # the reference's gradient is 20 % of its sky from centre to corner; beyond, nothing may break or run away
        assert len(blocks) > 60
        assert np.ptp(blocks) < 0.5 * level

    def test_the_reference_alone_loses_what_leaves_it(self):
        scenario = night(frames=12, drift_px=(60.0, 0.0))
        with LiveStack(settings(stack={"canvas": "reference"})) as stack:
            for i in range(scenario.frames):
                stack.add(simulate_frame(scenario, i).frame)
            assert stack.result(next(iter(stack.groups))).mean.shape == (HEIGHT, WIDTH)

    def test_a_full_canvas_says_so_once_and_stacks_on(self):
        scenario = night(frames=20)
        with LiveStack(settings(stack=UNION | {"canvas_max": 1.5})) as stack:
            outcomes = [stack.add(simulate_frame(scenario, i).frame) for i in range(scenario.frames)]
            result = stack.result()
        told = [w for o in outcomes for w in o.warnings if "canvas is full" in w]
        assert len(told) == 1
        assert "canvas_max" in told[0]
        assert all(o.stacked for o in outcomes)
        assert result.mean.size <= 1.5 * WIDTH * HEIGHT

    def test_filters_of_one_target_share_the_canvas(self):
        scenario = night(frames=24, filters=("L", "R", "G", "B"), drift_px=(8.0, 5.0))
        with LiveStack(settings()) as stack:
            for i in range(scenario.frames):
                assert stack.add(simulate_frame(scenario, i).frame).stacked
            composite = composite_of(stack.targets, "m-27-l", trimmed=True)
            results = [stack.result(name) for name in stack.groups]
            planes, _ = composite.make()
        assert len(results) == 4
        assert {r.canvas for r in results} == {results[0].canvas}
        assert results[0].canvas.moved or results[0].canvas.width > WIDTH
        assert planes.shape[1:] == results[0].mean.shape

    def test_final_pass_and_removal_know_the_larger_canvas(self, tmp_path):
        scenario = night(frames=16, satellite_rate=0.5)
        write_session(scenario, tmp_path / "night", twin=False)
        with LiveStack(settings(stack=UNION | {"warmup_frames": 4})) as stack:
            names = [stack.add(f).name for f in read_frames(tmp_path / "night")]
            live = stack.result()
            assert stack.final_pass(live.group)
            final = stack.result()
            assert final.canvas == live.canvas
            seen = live.coverage.astype(int) + live.rejected
            np.testing.assert_array_equal(final.coverage.astype(int) + final.rejected, seen)
            stack.remove(names[7])
            less = stack.result()
        assert less.header["NCOMBINE"] == 15
        assert seen.max() <= 16


def test_memory_limit_bounds_the_canvas():
    info = FrameInfo(width=1000, height=800)
    free = Settings.model_validate({"stack": UNION})
    assert canvas_pixels(info, free) == 9.0 * 800_000
    half_more = session_bytes(FrameInfo(width=1500, height=800), free) - 20 * 400_000  # the warm-up does not grow
    tight = Settings.model_validate({"stack": UNION, "save": {"memory_limit_mb": round(half_more / 1e6)}})
    assert 1.4 * 800_000 < canvas_pixels(info, tight) < 1.6 * 800_000


def test_saved_stack_says_where_it_lies(tmp_path):
    """WCS and LTV of a saved canvas point where those of the reference do; the report copes."""
    scenario = night(frames=14, drift_px=(-30.0, 12.0))
    write_session(scenario, tmp_path / "night")
    lights = tmp_path / "night"
    first = sorted(lights.glob("*.fits"))[0]
    for path in lights.glob("*.fits"):
        wcs = WCS(naxis=2)
        wcs.wcs.crpix, wcs.wcs.crval = (200.0, 150.0), (83.8, -5.4)
        wcs.wcs.cd = np.array([[-4e-4, 3e-5], [3e-5, 4e-4]])
        wcs.wcs.ctype = "RA---TAN", "DEC--TAN"
        with fits.open(path, mode="update") as hdus:
            hdus[0].header.update(wcs.to_header())
    run_session(lights, tmp_path / "s", stack=UNION)
    path = next((tmp_path / "s").glob("*/stack.fits"))
    with fits.open(path) as hdus:
        header = hdus[0].header
        shape = hdus[0].data.shape
        assert all(hdu.data.shape == shape for hdu in hdus)
    assert shape[1] > WIDTH + 300
    place = np.array([header["LTV1"], header["LTV2"]])
    assert place[0] > 300
    reference = fits.getheader(first)
    assert WCS(reference, naxis=2).has_celestial
    points = np.array([[10.0, 20.0], [400.0, 300.0]])
    here = WCS(header, naxis=2).all_pix2world(points + place, 0)
    there = WCS(reference, naxis=2).all_pix2world(points, 0)
    np.testing.assert_allclose(here, there, atol=1e-7)
    lines = [json.loads(line) for line in (tmp_path / "s" / "session.jsonl").read_text().splitlines()]
    transforms = [line["transform"] for line in lines if line["type"] == "frame"]
    np.testing.assert_allclose(transforms[0], np.eye(3), atol=1e-9)
    assert (tmp_path / "s" / "report.html").stat().st_size > 10_000


def test_state_carries_the_canvas(tmp_path):
    scenario = night(frames=18)
    frames = [simulate_frame(scenario, i).frame for i in range(18)]
    with LiveStack(settings()) as whole, LiveStack(settings()) as before, LiveStack(settings()) as after:
        for frame in frames:
            whole.add(frame)
        for frame in frames[:13]:
            before.add(frame)
        arrays: list[np.ndarray] = []
        tree = json.loads(to_text(to_tree(before.state(), arrays)))
        after.restore(from_tree(tree, arrays, None))
        for frame in frames[13:]:
            after.add(frame)
        expected, found = whole.result(), after.result()
    assert found.canvas == expected.canvas
    for name in ("mean", "variance", "weight", "coverage", "rejected_high"):
        np.testing.assert_array_equal(getattr(found, name), getattr(expected, name), err_msg=name)
    assert replace(found.canvas, left=0) != found.canvas or found.canvas.top < 0


def test_frames_beyond_a_full_canvas_do_not_count():
    scenario = night(frames=30, drift_px=(40.0, 0.0))
    with LiveStack(settings(stack=UNION | {"canvas_max": 1.3})) as stack:
        outcomes = [stack.add(simulate_frame(scenario, i).frame) for i in range(scenario.frames)]
        result = stack.result()
    assert any("outside the canvas" in o.message for o in outcomes if not o.stacked)
    here = [o for o in outcomes if o.stacked and o.group == result.group]
    assert result.header["NCOMBINE"] == len(here) < 30
    for outcome in here:
        x0, _, x1, _ = footprint(outcome.transform, HEIGHT, WIDTH)
        assert x0 < result.canvas.left + result.canvas.width
        assert x1 > result.canvas.left
