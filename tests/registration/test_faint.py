"""What is too faint for a catalogue as a witness: it bears out the truth, and never a star on another star."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from livestack.registration.features import FeatureReference

WIDTH, HEIGHT = 420, 300
TRUTH = (31.0, -22.0)


def moved(dx: float, dy: float) -> np.ndarray:
    return np.array([[1.0, 0.0, dx], [0.0, 1.0, dy], [0.0, 0.0, 1.0]])


def wisps(rng: np.random.Generator) -> np.ndarray:
    """A sky three times as large as a frame with structure of ten pixels and more, unit scatter."""
    sky = cv2.GaussianBlur(rng.normal(0, 1, (3 * HEIGHT, 3 * WIDTH)).astype(np.float32), (0, 0), 6)
    return np.asarray(sky / sky.std())


def stars(rng: np.random.Generator, n: int, peak: float) -> np.ndarray:
    sky = np.zeros((3 * HEIGHT, 3 * WIDTH), np.float32)
    sky[rng.integers(0, 3 * HEIGHT, n), rng.integers(0, 3 * WIDTH, n)] = 1.0
    sky = cv2.GaussianBlur(sky, (0, 0), 1.3)
    return np.asarray(sky * (peak / sky.max()))


def view(
    sky: np.ndarray, dx: float, dy: float, rng: np.random.Generator, sensor: np.ndarray | float = 0.0
) -> np.ndarray:
    """What a frame shows whose pixel (0, 0) is that of the reference at (dx, dy)."""
    part = sky[HEIGHT + int(dy) : 2 * HEIGHT + int(dy), WIDTH + int(dx) : 2 * WIDTH + int(dx)]
    return (1000 + 10 * (part + sensor) + rng.normal(0, 10, (HEIGHT, WIDTH))).astype(np.float32)


def with_star(frame: np.ndarray, x: float, y: float, flux: float) -> np.ndarray:
    rows, columns = np.mgrid[0:HEIGHT, 0:WIDTH]
    profile = (1 + ((columns - x) ** 2 + (rows - y) ** 2) / 6.0) ** -3.5
    return np.asarray(frame + flux * profile, dtype=np.float32)


@pytest.mark.parametrize("kind", ["wisps", "stars"])
def test_the_same_sky_is_known_again_where_it_is(kind: str) -> None:
    rng = np.random.default_rng(1)
    sky = 0.5 * wisps(rng) if kind == "wisps" else stars(rng, 180, 4.0)
    reference = with_star(view(sky, 0, 0, rng), 200.0, 140.0, 3000.0)
    frame = with_star(view(sky, *TRUTH, rng), 200.0 - TRUTH[0], 140.0 - TRUTH[1], 3000.0)
    known, seen = np.array([[200.0, 140.0]]), np.array([[200.0 - TRUTH[0], 140.0 - TRUTH[1]]])
    features = FeatureReference(reference)
    assert features.agrees(frame, moved(*TRUTH), known, seen)
    for dx, dy in ((50.0, 20.0), (-20.0, -40.0), (31.0, 12.0)):
        assert not features.agrees(frame, moved(dx, dy), known, seen)


@pytest.mark.parametrize("flux", [300.0, 2e4, 2e6])
def test_one_star_on_another_is_not_borne_out_by_its_own_light(flux: float) -> None:
    for seed in range(6):
        rng = np.random.default_rng([2, seed])
        reference = with_star(view(0.5 * wisps(rng), 0, 0, rng), 210.0, 150.0, flux)
        frame = with_star(view(0.5 * wisps(rng), 0, 0, rng), 170.0, 165.0, flux)
        known, seen = np.array([[210.0, 150.0]]), np.array([[170.0, 165.0]])
        assert not FeatureReference(reference).agrees(frame, moved(40.0, -15.0), known, seen), seed


def test_the_sensor_itself_is_no_witness() -> None:
    rng = np.random.default_rng(3)
    pattern = 1.5 * rng.normal(0, 1, (1, WIDTH)) + rng.normal(0, 0.7, (HEIGHT, WIDTH))
    pattern[rng.random((HEIGHT, WIDTH)) < 1e-3] += 12.0
    nothing = np.zeros((3 * HEIGHT, 3 * WIDTH), np.float32)
    features = FeatureReference(view(nothing, 0, 0, rng, pattern))
    frame = view(nothing, 0, 0, rng, pattern)
    none = np.empty((0, 2))
    for dx, dy in ((0.0, 0.0), (1.0, 1.0), (0.0, 30.0), (25.0, 0.0), (14.0, -9.0)):
        assert not features.agrees(frame, moved(dx, dy), none, none), (dx, dy)


def test_frames_that_hardly_overlap_or_differ_in_size_are_not_compared() -> None:
    rng = np.random.default_rng(4)
    sky, none = wisps(rng), np.empty((0, 2))
    features = FeatureReference(view(sky, 0, 0, rng))
    assert features.agrees(view(sky, *TRUTH, rng), moved(*TRUTH), none, none)
    assert not features.agrees(view(sky, *TRUTH, rng), moved(380.0, 200.0), none, none)
    large = np.tile(view(sky, 0, 0, rng), (5, 5))
    assert not features.agrees(large, moved(*TRUTH), none, none)
