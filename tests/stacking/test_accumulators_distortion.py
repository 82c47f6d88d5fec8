"""Stacking through a lens that distorts: where samples come from, and that all ways of stacking agree on it."""

from __future__ import annotations

import numpy as np
import pytest

from livestack.kernels.bands import Bands
from livestack.registration import transform as tf
from livestack.registration.distortion import STRAIGHT_PX, Distortion, to_frame
from livestack.stacking.accumulators import Stack
from livestack.stacking.canvas import Canvas, footprint
from livestack.stacking.final_test import finalise
from livestack.stacking.noise_model import Limits
from livestack.stacking.normalisation import Normalisation
from livestack.stacking.robust_start import WarmSample, start_robustly

HEIGHT, WIDTH = 150, 420
PLAIN = Normalisation.identity(1)
LIMITS = Limits(np.array([9.0]), np.array([0.0]), 0.3, 0.0, 0.0, 4.0, 12.0)
TURNS = [0.0, 0.02, 0.3, np.pi / 2, np.pi, -1.2]


@pytest.fixture(scope="module")
def bands():
    with Bands(2) as bands:
        yield bands


def lens(size: float = 1.5, seed: int = 1) -> Distortion:
    rng = np.random.default_rng(seed)
    return Distortion(rng.normal(0, size, (2, 10)), (209.5, 74.5), 210.0, (-0.93, 0.88, -0.3, 0.31))


def about_centre(turn: float, dx: float = 3.3, dy: float = -2.7) -> np.ndarray:
    centre = np.array([(WIDTH - 1) / 2, (HEIGHT - 1) / 2])
    matrix = tf.similarity(1.003, turn, 0, 0)
    matrix[:2, 2] = centre - matrix[:2, :2] @ centre + (dx, dy)
    return matrix


def ramps() -> tuple[np.ndarray, np.ndarray]:
    """Frames whose pixels say where they are: Keys' kernel takes a plane as it is."""
    y, x = np.mgrid[0:HEIGHT, 0:WIDTH].astype(np.float32)
    return x[None], y[None]


def places(canvas: Canvas, matrix: np.ndarray, distortion: Distortion | None) -> np.ndarray:
    """(2, H, W) frame x and y of each pixel of the canvas, from the formula."""
    y, x = np.mgrid[0 : canvas.height, 0 : canvas.width]
    points = np.column_stack([x.ravel() + canvas.left, y.ravel() + canvas.top]).astype(float)
    return to_frame(matrix, distortion, points).T.reshape(2, canvas.height, canvas.width)


def noisy(seed: int) -> np.ndarray:
    return np.random.default_rng(seed).normal(100, 3, (1, HEIGHT, WIDTH)).astype(np.float32)


@pytest.mark.parametrize("turn", TURNS)
@pytest.mark.parametrize("canvas", [Canvas.of(HEIGHT, WIDTH), Canvas(190, 500, (HEIGHT, WIDTH), -16, -48)])
def test_every_sample_comes_from_where_the_formula_says(turn: float, canvas: Canvas, bands: Bands) -> None:
    matrix, distortion = about_centre(turn), lens()
    expected = places(canvas, matrix, distortion)
    assert np.abs(expected - places(canvas, matrix, None)).max() > 1
    for axis, ramp in enumerate(ramps()):
        stack = Stack(1, HEIGHT, WIDTH, canvas=canvas)
        stack.add(ramp, matrix, PLAIN, 1.0, None, bands, distortion)
        seen = stack.count[0] > 0
        assert np.abs(stack.mean[0] - expected[axis])[seen].max() < 1.5 * STRAIGHT_PX
        whole = (expected >= 1.01).all(axis=0) & (expected[0] < WIDTH - 2.01) & (expected[1] < HEIGHT - 2.01)
        assert seen[whole].all()
        assert whole.sum() > 0.1 * whole.size


def test_no_distortion_in_another_form_is_the_same_stack(bands: Bands) -> None:
    none = Distortion(np.zeros((2, 10)), (209.5, 74.5), 210.0, (-1.0, 1.0, -1.0, 1.0))
    one, other = Stack(1, HEIGHT, WIDTH), Stack(1, HEIGHT, WIDTH)
    one.add(noisy(1), about_centre(0.02), PLAIN, 1.0, None, bands)
    other.add(noisy(1), about_centre(0.02), PLAIN, 1.0, None, bands, none)
    np.testing.assert_allclose(one.mean, other.mean, atol=1e-3)
    np.testing.assert_array_equal(one.count, other.count)


def warm(frames: list[np.ndarray], turns: list[float]) -> list[WarmSample]:
    def sample(i: int) -> WarmSample:
        return WarmSample(
            lambda y0, y1, x0, x1: frames[i][:, y0:y1, x0:x1], (HEIGHT, WIDTH), about_centre(turns[i]), PLAIN, 1.0,
            LIMITS, LIMITS, lens(seed=i + 1),
        )  # fmt: skip

    return [sample(i) for i in range(len(frames))]


def test_the_warm_up_takes_the_same_samples_as_the_stream(bands: Bands) -> None:
    turns = [0.0, 0.01, 3.14, 0.3]
    frames = [noisy(i) for i in range(4)]
    robust, plain = Stack(1, HEIGHT, WIDTH), Stack(1, HEIGHT, WIDTH)
    start_robustly(robust, warm(frames, turns), False, bands)
    for i, frame in enumerate(frames):
        plain.add(frame, about_centre(turns[i]), PLAIN, 1.0, None, bands, lens(seed=i + 1))
    np.testing.assert_array_equal(robust.count, plain.count)
    np.testing.assert_allclose(robust.mean, plain.mean, atol=2e-3)


def test_what_was_added_can_be_taken_out(bands: Bands) -> None:
    turns = [0.0, 0.01, 0.02, 0.3]
    frames = [noisy(i) for i in range(4)]
    stack = Stack(1, HEIGHT, WIDTH)
    start_robustly(stack, warm(frames, turns), True, bands)
    before = {name: array.copy() for name, array in stack.arrays().items()}
    extra = noisy(9)
    extra[0, 60:70, 100:200] += 500.0
    added = stack.add(extra, about_centre(0.05), PLAIN, 1.3, LIMITS, bands, lens(seed=9))
    assert added.n_rejected > 500
    stack.remove(extra, about_centre(0.05), PLAIN, 1.3, added.rejected, bands, lens(seed=9))
    np.testing.assert_array_equal(stack.count, before["count"])
    np.testing.assert_array_equal(stack.high, before["high"])
    np.testing.assert_allclose(stack.mean, before["mean"], atol=1e-3)


def test_the_final_pass_samples_as_the_stream_did(bands: Bands) -> None:
    stack = Stack(1, HEIGHT, WIDTH)
    frames = [noisy(i) for i in range(3)]
    added = [stack.add(f, about_centre(0.01), PLAIN, 1.0, None, bands, lens()) for f in frames]
    fresh = stack.empty()
    wide = Limits(np.array([9.0]), np.array([0.0]), 0.3, 0.0, 0.0, 40.0, 12.0)
    for frame, one in zip(frames, added, strict=True):
        finalise(stack, fresh, frame, about_centre(0.01), PLAIN, 1.0, wide, one.rejected, bands, lens())
    np.testing.assert_array_equal(fresh.mean, stack.mean)
    np.testing.assert_array_equal(fresh.count, stack.count)


def test_star_trails_are_bent_too(bands: Bands) -> None:
    stack, plain = Stack(1, HEIGHT, WIDTH), Stack(1, HEIGHT, WIDTH)
    stack.add_largest(noisy(1), about_centre(0.0), PLAIN, bands, lens())
    plain.add(noisy(1), about_centre(0.0), PLAIN, 1.0, None, bands, lens())
    np.testing.assert_array_equal(stack.mean, plain.mean)


def test_threads_change_nothing() -> None:
    def stacked(threads: int) -> bytes:
        with Bands(threads) as bands:
            stack = Stack(1, HEIGHT, WIDTH)
            for i in range(4):
                stack.add(noisy(i), about_centre(0.02 * i), PLAIN, 1.0, LIMITS, bands, lens(seed=i + 1))
            return stack.mean.tobytes() + stack.m2.tobytes()

    assert stacked(1) == stacked(3)


@pytest.mark.parametrize("turn", TURNS)
def test_footprint_holds_all_that_a_frame_reaches(turn: float) -> None:
    matrix, distortion = about_centre(turn), lens()
    x0, y0, x1, y1 = footprint(matrix, HEIGHT, WIDTH, distortion)
    around = Canvas(900, 900, (HEIGHT, WIDTH), -350, -250)
    x, y = places(around, matrix, distortion)
    rows, columns = np.nonzero((x >= 0) & (y >= 0) & (x <= WIDTH - 1) & (y <= HEIGHT - 1))
    assert x0 <= columns.min() - 250
    assert y0 <= rows.min() - 350
    assert columns.max() - 250 < x1 <= columns.max() - 250 + 6
    assert rows.max() - 350 < y1 <= rows.max() - 350 + 6
