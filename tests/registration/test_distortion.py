"""Distortions: there and back, beyond the stars, and on pixels of another size."""

from __future__ import annotations

import numpy as np
import pytest

from livestack.registration import transform as tf
from livestack.registration.distortion import Distortion, terms, to_frame, to_reference

MATRIX = tf.similarity(1.01, 0.3, 40.0, -25.0)


@pytest.fixture
def lens() -> Distortion:
    rng = np.random.default_rng(1)
    return Distortion(rng.normal(0, 1.5, (2, 10)), (319.5, 239.5), 320.0, (-1.0, 0.9, -0.7, 0.75))


@pytest.fixture
def points() -> np.ndarray:
    return np.random.default_rng(2).uniform((0, 0), (640, 480), (200, 2))


def test_terms_are_those_of_a_cubic() -> None:
    u, v = np.array([0.5, -2.0]), np.array([3.0, 0.25])
    expected = [[u[i] ** a * v[i] ** (n - a) for n in range(4) for a in range(n, -1, -1)] for i in range(2)]
    np.testing.assert_allclose(terms(u, v), expected)


def test_there_and_back(lens: Distortion, points: np.ndarray) -> None:
    seen = to_frame(MATRIX, lens, points)
    assert np.hypot(*(seen - to_frame(MATRIX, None, points)).T).max() > 2
    np.testing.assert_allclose(to_reference(MATRIX, lens, seen), points, atol=1e-5)


def test_without_distortion_it_is_the_matrix(points: np.ndarray) -> None:
    np.testing.assert_allclose(to_reference(MATRIX, None, points), tf.apply(MATRIX, points))
    np.testing.assert_allclose(to_frame(MATRIX, None, tf.apply(MATRIX, points)), points)


def test_the_shift_is_in_pixels_of_the_frame_beside_the_matrix(lens: Distortion) -> None:
    place = np.array([[319.5 + 160.0, 239.5 - 96.0]])
    expected = lens.coefficients @ terms(np.array([0.5]), np.array([-0.3]))[0]
    np.testing.assert_allclose(to_frame(MATRIX, lens, place)[0] - tf.apply(np.linalg.inv(MATRIX), place)[0], expected)


def test_beyond_its_stars_it_keeps_its_value(lens: Distortion) -> None:
    edge = np.array([[319.5 + 0.9 * 320, 239.5 + 0.75 * 320]])
    np.testing.assert_allclose(lens.shift(edge + 5000.0), lens.shift(edge))
    np.testing.assert_allclose(lens.shift(edge + np.array([0.0, 800.0])), lens.shift(edge))


def test_in_other_pixels_of_the_frame(lens: Distortion, points: np.ndarray) -> None:
    onto = tf.similarity(2.0, 0.7, 0.5, 0.5)
    seen = to_frame(MATRIX @ np.linalg.inv(onto), lens.turned(onto[:2, :2]), points)
    np.testing.assert_allclose(seen, tf.apply(onto, to_frame(MATRIX, lens, points)))


def test_no_points_are_no_trouble(lens: Distortion) -> None:
    assert to_reference(MATRIX, lens, np.empty((0, 2))).shape == (0, 2)
    assert to_frame(MATRIX, lens, np.empty((0, 2))).shape == (0, 2)
