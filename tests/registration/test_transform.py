"""Transforms: fits against points moved by a known matrix, and what they say in words."""

from __future__ import annotations

import math

import numpy as np
import pytest

from livestack.registration import transform as tf
from livestack.registration.distortion import Distortion, to_frame, to_reference


@pytest.fixture
def points() -> np.ndarray:
    return np.random.default_rng(1).uniform((0, 0), (640, 480), (30, 2))


def test_similarity_turns_from_x_toward_y() -> None:
    matrix = tf.similarity(2.0, math.radians(90), 5.0, -3.0)
    assert np.allclose(tf.apply(matrix, np.array([[1.0, 0.0]])), [[5.0, -1.0]])


def test_fit_similarity_finds_the_matrix_that_moved_the_points(points: np.ndarray) -> None:
    truth = tf.similarity(1.03, 2.5, 120.0, -45.0)
    assert np.allclose(tf.fit_similarity(points, tf.apply(truth, points)), truth, atol=1e-9)


def test_fit_similarity_never_mirrors(points: np.ndarray) -> None:
    mirrored = points * (-1.0, 1.0)
    assert np.linalg.det(tf.fit_similarity(points, mirrored)[:2, :2]) >= 0


def test_fit_similarity_follows_the_weights(points: np.ndarray) -> None:
    truth = tf.similarity(1.0, 0.1, 3.0, 4.0)
    moved = tf.apply(truth, points)
    moved[:5] += 50
    weights = np.ones(len(points))
    weights[:5] = 0
    assert np.allclose(tf.fit_similarity(points, moved, weights), truth, atol=1e-9)
    assert not np.allclose(tf.fit_similarity(points, moved), truth, atol=1e-2)


def test_fit_similarity_refuses_one_point() -> None:
    with pytest.raises(ValueError, match="two different points"):
        tf.fit_similarity(np.ones((3, 2)), np.zeros((3, 2)))


def test_fit_affine_finds_the_matrix_that_moved_the_points(points: np.ndarray) -> None:
    truth = np.array([[1.01, 0.02, 7.0], [-0.03, 0.98, -9.0], [0, 0, 1.0]])
    assert np.allclose(tf.fit_affine(points, tf.apply(truth, points)), truth, atol=1e-9)


def test_fit_affine_refuses_a_line() -> None:
    line = np.column_stack([np.arange(5.0), 2 * np.arange(5.0)])
    with pytest.raises(ValueError, match="on one line"):
        tf.fit_affine(line, line)


def test_decompose_says_what_was_put_in() -> None:
    width, height = 641, 481
    matrix = tf.similarity(1.02, math.radians(-30), 0, 0)
    centre = np.array([320.0, 240.0])
    matrix[:2, 2] = centre + np.array([4, -7]) - matrix[:2, :2] @ centre
    said = tf.decompose(matrix, width, height)
    assert said.scale == pytest.approx(1.02)
    assert said.rotation_deg == pytest.approx(-30)
    assert (said.dx_px, said.dy_px) == pytest.approx((4, -7))


def test_corner_displacement_sees_a_rotation_at_the_corners() -> None:
    turned = tf.similarity(1.0, 0.001, 0.0, 0.0)
    assert tf.corner_displacement(turned, np.eye(3), 801, 601) == pytest.approx(1.0, rel=1e-3)


@pytest.mark.parametrize(("dx", "share"), [(0, 1.0), (320, 0.5), (640, 0.0)])
def test_overlap_fraction(dx: float, share: float) -> None:
    matrix = tf.similarity(1.0, 0.0, dx, 0.0)
    assert tf.overlap_fraction(matrix, 640, 480, 640, 480) == pytest.approx(share, abs=0.04)


def test_a_frame_that_comes_by_way_of_another_has_one_distortion() -> None:
    rng = np.random.default_rng(4)

    def lens() -> Distortion:
        return Distortion(rng.normal(0, 0.35, (2, 10)), (319.5, 239.5), 320.0, (-1.5, 1.5, -1.5, 1.5))

    first, second = (tf.similarity(1.0, 0.1, 12.0, -9.0), lens()), (tf.similarity(1.01, 2.0, 500.0, 30.0), lens())
    matrix, distortion = tf.relay(640, 480, lambda xy: to_reference(*second, to_reference(*first, xy)))
    frame = rng.uniform((0, 0), (640, 480), (100, 2))
    there = to_reference(*second, to_reference(*first, frame))
    assert np.abs(to_frame(matrix, distortion, there) - frame).max() < 0.1
    assert np.abs(to_frame(matrix, None, there) - frame).max() > 0.5
    best = tf.fit_affine(frame, there)
    assert tf.corner_displacement(matrix, best, 640, 480) < 0.5, "the matrix is the best there is"
