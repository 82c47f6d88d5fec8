"""Registration without stars: simulated terrain with known transforms, a sensor pattern that must not win, the Moon."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import numpy as np
import pytest

from livestack.registration import transform as tf
from livestack.registration.features import FeatureReference, sharpness
from livestack.registration.features.correlation import find_shift, masked_correlation
from livestack.registration.transform import Registration, Unregistered
from livestack.simulate import named_scenario, simulate_frame

DATA = Path(__file__).resolve().parents[3] / "shared" / "data" / "moon_png"
WIDTH, HEIGHT = 480, 352


@cache
def terrain(seed: int, index: int, **knobs: float) -> tuple[np.ndarray, np.ndarray]:
    """One frame (H, W) float32 of a landscape, and its transform onto the simulator's grid."""
    scenario = named_scenario("moon", frames=8, width=WIDTH, height=HEIGHT, seed=seed, **knobs)
    made = simulate_frame(scenario, index)
    return made.frame.data.astype(np.float32), made.transform


def moved(seed: int, index: int, **knobs: float) -> np.ndarray:
    """True transform of frame `index` onto frame 0."""
    return np.asarray(np.linalg.inv(terrain(seed, 0, **knobs)[1]) @ terrain(seed, index, **knobs)[1])


def hot_pixels(rng: np.random.Generator, share: float = 0.01, height_adu: float = 15000) -> np.ndarray:
    hot = rng.random((HEIGHT, WIDTH)) < share
    return np.where(hot, rng.exponential(height_adu, hot.shape), 0).astype(np.float32)


def error(found: Registration | Unregistered, truth: np.ndarray) -> float:
    assert isinstance(found, Registration), found
    return tf.corner_displacement(found.matrix, truth, WIDTH, HEIGHT)


@pytest.mark.parametrize("methods", [("features",), ("phase",)])
@pytest.mark.parametrize("index", [1, 4, 7])
def test_terrain_is_found_again(methods: tuple[str, ...], index: int) -> None:
    found = FeatureReference(terrain(1, 0)[0]).register(terrain(1, index)[0], methods=methods)
    assert error(found, moved(1, index)) < 0.25
    assert isinstance(found, Registration)
    assert found.method == methods[0]
    assert found.n_points >= 14


def test_turned_terrain_is_found_again() -> None:
    found = FeatureReference(terrain(1, 0, rotation_deg=5.0)[0]).register(terrain(1, 6, rotation_deg=5.0)[0])
    assert error(found, moved(1, 6, rotation_deg=5.0)) < 0.25


def test_a_fixed_sensor_pattern_does_not_win() -> None:
    pattern = hot_pixels(np.random.default_rng(3))
    reference = FeatureReference(terrain(1, 0)[0] + pattern)
    assert error(reference.register(terrain(1, 7)[0] + pattern), moved(1, 7)) < 0.3
    for seed in (11, 12, 13):
        other = reference.register(terrain(seed, 7)[0] + pattern)
        assert isinstance(other, Unregistered), other


def test_hot_pixels_on_an_empty_sky_are_no_match() -> None:
    rng = np.random.default_rng(4)
    pattern = hot_pixels(rng)
    one, other = (rng.normal(500, 10, (HEIGHT, WIDTH)).astype(np.float32) + pattern for _ in range(2))
    assert isinstance(FeatureReference(one).register(other), Unregistered)


def test_a_hint_is_verified_before_it_is_believed() -> None:
    reference = FeatureReference(terrain(1, 0)[0])
    wrong = tf.similarity(1.0, 0.0, 90.0, -70.0)
    assert error(reference.register(terrain(1, 5)[0], hint=wrong), moved(1, 5)) < 0.25
    good = moved(1, 5)
    assert error(reference.register(terrain(1, 5)[0], hint=good, methods=()), good) < 0.25


def test_missing_pixels_are_no_structure() -> None:
    image, holes = terrain(1, 4)[0].copy(), np.random.default_rng(5)
    image[100:140, 200:300] = np.nan
    image[holes.random(image.shape) < 0.001] = np.nan
    assert error(FeatureReference(terrain(1, 0)[0]).register(image), moved(1, 4)) < 0.3


@pytest.mark.parametrize("image", [np.zeros((HEIGHT, WIDTH)), np.full((HEIGHT, WIDTH), np.nan)])
def test_nothing_to_see_is_said(image: np.ndarray) -> None:
    assert isinstance(FeatureReference(terrain(1, 0)[0]).register(image.astype(np.float32)), Unregistered)
    assert isinstance(FeatureReference(image.astype(np.float32)).register(terrain(1, 0)[0]), Unregistered)


def test_same_frames_same_transform_to_the_last_bit() -> None:
    one, other = (FeatureReference(terrain(1, 0)[0]).register(terrain(1, 3)[0]) for _ in range(2))
    assert isinstance(one, Registration)
    assert isinstance(other, Registration)
    assert one.matrix.tobytes() == other.matrix.tobytes()


def test_masked_correlation_is_the_correlation_coefficient_of_the_overlap() -> None:
    rng = np.random.default_rng(6)
    a, b = rng.normal(size=(14, 19)).astype(np.float32), rng.normal(size=(14, 19)).astype(np.float32)
    mask_a, mask_b = rng.random(a.shape) < 0.1, rng.random(b.shape) < 0.1
    surface = masked_correlation(a, mask_a, b, mask_b)
    dx, dy = 3, -2  # the frame b moved by this lies over the reference a
    ours, theirs = np.s_[: 14 + dy, dx:], np.s_[-dy:, : 19 - dx]
    good = ~mask_a[ours] & ~mask_b[theirs]
    expected = np.corrcoef(a[ours][good], b[theirs][good])[0, 1]
    assert surface[dy + 13, dx + 18] == pytest.approx(expected, abs=1e-4)


def test_find_shift_has_the_sign_of_frame_to_reference() -> None:
    scene = np.random.default_rng(7).normal(size=(120, 150)).astype(np.float32)
    nothing = np.zeros((100, 120), dtype=bool)
    reference, frame = scene[10:110, 10:130], scene[15:115, 3:123]
    shift = find_shift(reference, nothing, frame, nothing)
    assert shift is not None
    assert shift.believed
    assert (shift.dx, shift.dy) == pytest.approx((-7, 5), abs=0.1)


def test_sharpness_falls_with_blur_and_ignores_brightness_and_noise() -> None:
    import cv2

    scene = terrain(1, 0)[0]
    soft = cv2.GaussianBlur(scene, (0, 0), 2.0)
    assert sharpness(scene) > 1.15 * sharpness(cv2.GaussianBlur(scene, (0, 0), 1.0)) > 1.15 * sharpness(soft)
    assert sharpness(2 * scene) == pytest.approx(sharpness(scene), rel=1e-3)
    noisy = soft + np.random.default_rng(8).normal(0, 60, soft.shape).astype(np.float32)
    assert sharpness(noisy) < 1.3 * sharpness(soft)


@pytest.mark.skipif(not DATA.is_dir(), reason="the real frames of the Moon are not on this machine")
def test_every_real_frame_of_the_moon() -> None:
    import cv2

    frames = [cv2.imread(str(path), cv2.IMREAD_UNCHANGED).astype(np.float32) for path in sorted(DATA.glob("*.png"))]
    reference = FeatureReference(frames[0])
    for image in frames:
        found = reference.register(image)
        assert isinstance(found, Registration), found
        said = tf.decompose(found.matrix, 1280, 960)
        assert abs(said.scale - 1) < 0.004
        assert abs(said.rotation_deg) < 0.1
        assert abs(said.dx_px) < 20
        assert abs(said.dy_px) < 20
