"""Two skies told apart: light is conserved, and a frame that is moved keeps its sky."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from livestack.following.two_skies import Model, moved, moved_sky, object_models, paint, star_model, subtract
from livestack.registration.distortion import Distortion, terms, to_frame
from livestack.stacking.accumulators import Stack
from livestack.stacking.canvas import Canvas
from livestack.stacking.normalisation import Normalisation

HIGH, WIDE = 180, 240


def gaussians(places: np.ndarray, heights: np.ndarray, sigma: float = 1.5) -> np.ndarray:
    y, x = np.mgrid[:HIGH, :WIDE]
    image = np.zeros((HIGH, WIDE))
    for (px, py), height in zip(places, heights, strict=True):
        image += height * np.exp(-0.5 * ((x - px) ** 2 + (y - py) ** 2) / sigma**2)
    return image


def stack_of(image: np.ndarray) -> Stack:
    stack = Stack(1, HIGH, WIDE)
    stack.mean[0], stack.weight[:], stack.count[:], stack.n_frames = image, 10.0, 10, 10
    return stack


def test_the_model_of_the_stars_holds_their_light_and_no_sky():
    draw = np.random.default_rng(1)
    places, heights = draw.uniform(20, 160, (25, 2)), draw.uniform(50, 400, 25)
    light = gaussians(places, heights)
    ramp = np.linspace(0, 60, WIDE)[None, :]
    model = star_model(stack_of(light + ramp + draw.normal(0, 2.0, light.shape)), np.array([1e9]))
    assert abs(float(model.light.sum()) / light.sum() - 1) < 0.05
    dark = light < 0.5
    assert abs(float(np.mean(model.light[0][dark]))) < 0.3


def test_what_may_be_wrong_is_left_out():
    light = gaussians(np.array([[100.0, 90.0]]), np.array([1000.0]))
    model = star_model(stack_of(light), np.array([20.0]))
    assert np.isnan(model.light[0, 90, 100])
    assert np.isfinite(model.light[0, 90, 115])


@settings(max_examples=30, deadline=None)
@given(st.floats(-20, 20), st.floats(-20, 20), st.floats(-0.4, 0.4), st.integers(0, 1000))
def test_a_moved_frame_keeps_its_sky_and_its_lens(dx, dy, angle, seed):
    draw = np.random.default_rng(seed)
    c, s = np.cos(angle), np.sin(angle)
    matrix = np.array([[c, -s, 12.0], [s, c, -7.0], [0, 0, 1]])
    normalisation = Normalisation(np.array([1.3]), draw.normal(0, 5, (1, 10)))
    lens = Distortion(draw.normal(0, 0.5, (2, 10)), (WIDE / 2, HIGH / 2), WIDE / 2, (-5.0, 5.0, -5.0, 5.0))
    there, bent = moved(matrix, lens, np.array([dx, dy]))
    sky = moved_sky(normalisation, np.array([dx, dy]), (HIGH, WIDE))
    points = draw.uniform(30, 150, (40, 2))
    assert np.allclose(to_frame(there, bent, points - (dx, dy)), to_frame(matrix, lens, points), atol=1e-8)

    def surface(one: Normalisation, at: np.ndarray) -> np.ndarray:
        return terms(2 * at[:, 0] / (WIDE - 1) - 1, 2 * at[:, 1] / (HIGH - 1) - 1) @ one.surface[0]

    assert np.allclose(surface(sky, points - (dx, dy)), surface(normalisation, points), atol=1e-6)


def test_a_frame_without_its_stars_is_its_sky():
    places, heights = np.array([[60.0, 50.0], [150.0, 120.0]]), np.array([300.0, 90.0])
    light = gaussians(places, heights, 2.5)
    model = Model(light[None].astype(np.float32), Canvas.of(HIGH, WIDE))
    shift = np.array([[1.0, 0.0, 3.4], [0.0, 1.0, -2.2], [0, 0, 1]])  # frame -> grid
    frame = 100 + 0.5 * gaussians(places - (3.4, -2.2), heights, 2.5)
    left = subtract(
        frame[None].astype(np.float32), model, shift, Normalisation(np.array([2.0]), np.zeros((1, 10))), None
    )
    assert np.abs(left[0, 5:-5, 5:-5] - 100).max() < 6.0  # linear interpolation at the peak
    assert abs(float(np.mean(left[0, 5:-5, 5:-5])) - 100) < 0.02


def test_the_object_is_modelled_to_where_its_light_ends_and_shown_where_it_is():
    draw = np.random.default_rng(3)
    d = np.hypot(np.arange(WIDE) - 120.0, (np.arange(HIGH) - 90.0)[:, None])
    coma = 200 * np.exp(-d / 12)
    stack = stack_of(coma + 7.0 + draw.normal(0, 1.0, d.shape))
    _, model = object_models(stack, 120.0, 90.0, 3.0, np.array([20.0]))
    image = np.zeros((1, HIGH, WIDE), dtype=np.float32)
    paint(image, stack.canvas, model)
    assert np.unravel_index(int(image[0].argmax()), image[0].shape) == (90, 120)
    assert abs(float(image.sum() / model.light.sum()) - 1) < 1e-4
    assert abs(float(image[0][d < 40].sum()) / coma[d < 40].sum() - 1) < 0.03
    assert np.abs(image[0] - coma)[d > 45].max() < 5.0  # what is left is below the noise of a frame


def test_a_tail_is_modelled_as_far_as_it_goes_and_a_slope_of_the_sky_is_none():
    draw = np.random.default_rng(3)
    high, wide, x, y = 420, 600, 180.0, 160.0
    dx, dy = np.arange(wide) - x, (np.arange(high) - y)[:, None]
    r, along, across = np.hypot(dx, dy), (0.8 * dx + 0.6 * dy), (0.8 * dy - 0.6 * dx)
    coma = 300 * np.exp(-r / 12)
    tail = np.where(along > 0, 40 * np.exp(-along / 120) * np.exp(-0.5 * (across / (4 + 0.08 * np.abs(along))) ** 2), 0)
    slope = 500 + 0.05 * dx - 0.08 * dy + 0.00015 * dx**2
    stack = Stack(1, high, wide)
    stack.weight[:], stack.count[:], stack.n_frames = 10.0, 10, 10
    stack.mean[0] = coma + tail + slope + draw.normal(0, 3.0, (high, wide))
    model, _ = object_models(stack, x, y, 3.0, np.array([1e9]))
    light = np.zeros((high, wide))
    box = model.canvas
    light[box.top : box.top + box.height, box.left : box.left + box.width] = model.light[0]
    for start in (60, 120, 200):
        here = (along > start) & (along < start + 60) & (np.abs(across) < 30)
        assert light[here].sum() == pytest.approx(tail[here].sum(), rel=0.15)
    beside = (r > 100) & (np.abs(across) > 90)
    assert np.abs(light[beside]).mean() < 0.15
    stack.mean[0] = coma + slope + draw.normal(0, 3.0, (high, wide))
    model, _ = object_models(stack, x, y, 3.0, np.array([1e9]))
    assert max(model.canvas.width, model.canvas.height) < 300


def test_a_coma_wider_than_the_field_is_taken_off_without_an_edge():
    draw = np.random.default_rng(5)
    high, wide, x, y = 480, 640, 300.0, 230.0
    r = np.hypot(np.arange(wide) - x, (np.arange(high) - y)[:, None])
    stack = Stack(1, high, wide)
    stack.weight[:], stack.count[:], stack.n_frames = 10.0, 10, 10
    stack.mean[0] = 860 + np.maximum(60 * np.log(400 / (r + 4)), 0) + draw.normal(0, 2.0, r.shape)
    _, model = object_models(stack, x, y, 3.0, np.array([1e9]))
    image = np.zeros((1, high, wide), dtype=np.float32)
    paint(image, stack.canvas, model)
    left = stack.mean[0] - image[0]
    rings = np.array([np.median(left[(r >= k) & (r < k + 10)]) for k in range(10, 300, 10)])
    assert image[0][r < 5].mean() > 150
    assert np.maximum.accumulate(rings)[-1] - rings[0] < 4.0  # outwards it grows nowhere: no ring of light
