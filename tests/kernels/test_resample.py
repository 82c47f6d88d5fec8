"""Resampling against Keys' published kernel, conservation of flux, and the law that nothing is ever filled in."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from livestack.kernels.resample import sample_tile
from livestack.registration import transform as tf
from livestack.stacking.laying import upright
from tests.reference import keys_sample

HEIGHT, WIDTH = 37, 52


def resample(source: np.ndarray, matrix: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """(h, w) of `source` carried by `matrix` (source -> grid), as the stack does it."""
    turned, inverse = upright(source[None].astype(np.float32), np.linalg.inv(matrix))
    out = np.full(shape, -777.0, dtype=np.float32)
    sample_tile(turned[0], inverse, 0, 0, out)
    return out


def around_centre(angle_deg: float, scale: float, dx: float, dy: float) -> np.ndarray:
    """A similarity that turns about the middle of the frame."""
    centre = tf.similarity(1.0, 0.0, (WIDTH - 1) / 2, (HEIGHT - 1) / 2)
    turn = tf.similarity(scale, np.radians(angle_deg), dx, dy)
    return centre @ turn @ np.linalg.inv(centre)


def stars(rng: np.random.Generator, fwhm: float, n: int = 12, margin: int = 12) -> tuple[np.ndarray, float]:
    """A field of Gaussian stars on a sky of zero, and its flux."""
    y, x = np.mgrid[0:HEIGHT, 0:WIDTH]
    image = np.zeros((HEIGHT, WIDTH))
    for _ in range(n):
        cx, cy = rng.uniform(margin, WIDTH - margin), rng.uniform(margin, HEIGHT - margin)
        image += rng.uniform(50, 500) * np.exp(-((x - cx) ** 2 + (y - cy) ** 2) / (2 * (fwhm / 2.3548) ** 2))
    return image.astype(np.float32), float(image.sum())


class TestSlowTwin:
    @settings(max_examples=12, deadline=None)
    @given(
        angle=st.one_of(
            st.sampled_from([0.0, 1e-300, 1e-20, 0.01, 45.0, 90.0, 135.0, 180.0, 270.0, -45.0]), st.floats(-180, 180)
        ),
        scale=st.floats(0.9, 1.1),
        dx=st.floats(-9, 9),
        dy=st.floats(-9, 9),
        seed=st.integers(0, 2**31),
    )
    def test_any_similarity(self, angle, scale, dx, dy, seed):
        source = np.random.default_rng(seed).normal(100, 30, (HEIGHT, WIDTH)).astype(np.float32)
        matrix = around_centre(angle, scale, dx + 0.123456, dy - 0.0654321)
        expected = keys_sample(source, np.linalg.inv(matrix), (HEIGHT, WIDTH))
        found = resample(source, matrix, (HEIGHT, WIDTH))
        # where a position falls within rounding of the edge either answer is right
        grid = np.stack(np.meshgrid(np.arange(WIDTH), np.arange(HEIGHT)), axis=-1).reshape(-1, 2).astype(float)
        at = tf.apply(np.linalg.inv(matrix), grid).reshape(HEIGHT, WIDTH, 2)
        doubtful = (np.abs(at - np.round(at)) < 1e-6).any(axis=-1)
        np.testing.assert_array_equal(np.isnan(found)[~doubtful], np.isnan(expected)[~doubtful])
        both = np.isfinite(found) & np.isfinite(expected)
        np.testing.assert_allclose(found[both], expected[both], atol=0.02)

    @pytest.mark.parametrize("angle", [90.0, 180.0, 270.0])
    def test_quarter_turns_are_exact(self, angle):
        source = np.random.default_rng(5).normal(100, 30, (HEIGHT, WIDTH)).astype(np.float32)
        turned = np.rot90(source, k=round(angle / 90))
        # array rotation by rot90 is counter-clockwise with y up: find the matrix from where it carries a corner
        height, width = source.shape
        matrix = {
            90.0: np.array([[0, 1, 0], [-1, 0, width - 1], [0, 0, 1.0]]),
            180.0: np.array([[-1, 0, width - 1], [0, -1, height - 1], [0, 0, 1.0]]),
            270.0: np.array([[0, -1, height - 1], [1, 0, 0], [0, 0, 1.0]]),
        }[angle]
        found = resample(source, matrix, turned.shape)
        whole = np.isfinite(found)
        assert whole.mean() > 0.8
        np.testing.assert_array_equal(found[whole], turned[whole])


class TestLaws:
    @given(dx=st.integers(-60, 60), dy=st.integers(-45, 45))
    @settings(max_examples=30, deadline=None)
    def test_whole_pixels_are_copied_to_the_edge(self, dx, dy):
        source = np.random.default_rng(1).normal(size=(HEIGHT, WIDTH)).astype(np.float32)
        found = resample(source, tf.similarity(1.0, 0.0, dx, dy), (HEIGHT, WIDTH))
        expected = np.full((HEIGHT, WIDTH), np.nan, dtype=np.float32)
        y0, y1, x0, x1 = max(0, dy), min(HEIGHT, HEIGHT + dy), max(0, dx), min(WIDTH, WIDTH + dx)
        if y1 > y0 and x1 > x0:
            expected[y0:y1, x0:x1] = source[y0 - dy : y1 - dy, x0 - dx : x1 - dx]
        np.testing.assert_array_equal(found, expected)

    @settings(max_examples=15, deadline=None)
    @given(angle=st.floats(-180, 180), dx=st.floats(-2, 2), dy=st.floats(-2, 2), seed=st.integers(0, 999))
    def test_flux_is_kept(self, angle, dx, dy, seed):
        image, flux = stars(np.random.default_rng(seed), 2.4)
        matrix = tf.similarity(1.0, 0.0, 30, 30) @ around_centre(angle, 1.0, dx, dy)
        found = resample(image, matrix, (HEIGHT + 60, WIDTH + 60))
        assert np.nansum(found) == pytest.approx(flux, rel=2e-3)

    def test_quadratics_are_reproduced(self):
        y, x = np.mgrid[0:HEIGHT, 0:WIDTH].astype(float)
        image = 0.01 * x**2 - 0.02 * y**2 + 0.015 * x * y + 3 * x + 500
        matrix = around_centre(7.0, 1.02, 0.3, -0.4)
        inverse = np.linalg.inv(matrix)
        a, b = inverse[0], inverse[1]
        sx, sy = a[0] * x + a[1] * y + a[2], b[0] * x + b[1] * y + b[2]
        expected = 0.01 * sx**2 - 0.02 * sy**2 + 0.015 * sx * sy + 3 * sx + 500
        found = resample(image, matrix, (HEIGHT, WIDTH))
        whole = np.isfinite(found)
        assert whole.mean() > 0.6
        np.testing.assert_allclose(found[whole], expected[whole], atol=2e-3)

    @settings(max_examples=20, deadline=None)
    @given(
        angle=st.sampled_from([0.0, 3.0, 30.0, 45.0, 100.0, 180.0]),
        value=st.sampled_from([np.nan, np.inf, -np.inf]),
        x=st.integers(8, WIDTH - 9),
        y=st.integers(8, HEIGHT - 9),
    )
    def test_a_bad_pixel_spreads_to_its_neighbourhood_alone(self, angle, value, x, y):
        rng = np.random.default_rng(3)
        source = rng.normal(100, 5, (HEIGHT, WIDTH)).astype(np.float32)
        spoilt = source.copy()
        spoilt[y, x] = value
        matrix = around_centre(angle, 1.0, 0.31, -0.27)
        clean = resample(source, matrix, (HEIGHT, WIDTH))
        found = resample(spoilt, matrix, (HEIGHT, WIDTH))
        grid = np.stack(np.meshgrid(np.arange(WIDTH), np.arange(HEIGHT)), axis=-1).reshape(-1, 2).astype(float)
        at = tf.apply(np.linalg.inv(matrix), grid).reshape(HEIGHT, WIDTH, 2)
        near = (np.abs(at - (x, y)) < 2).all(axis=-1)
        assert not np.isfinite(found[near & np.isfinite(clean)]).any()
        np.testing.assert_array_equal(found[~near], clean[~near])

    def test_nothing_is_filled_in_outside(self):
        source = np.full((HEIGHT, WIDTH), 7.0, dtype=np.float32)
        for angle in (0.0, 12.0, 45.0, 200.0):
            matrix = around_centre(angle, 1.0, 20.5, -11.25)
            found = resample(source, matrix, (HEIGHT, WIDTH))
            grid = np.stack(np.meshgrid(np.arange(WIDTH), np.arange(HEIGHT)), axis=-1).reshape(-1, 2).astype(float)
            at = tf.apply(np.linalg.inv(matrix), grid).reshape(HEIGHT, WIDTH, 2)
            outside = (at < 0).any(axis=-1) | (at[..., 0] > WIDTH - 1) | (at[..., 1] > HEIGHT - 1)
            assert outside.any()
            assert np.isnan(found[outside]).all()
            np.testing.assert_allclose(found[np.isfinite(found)], 7.0, rtol=1e-6)

    def test_no_undershoot_beside_a_star(self):
        image = np.zeros((HEIGHT, WIDTH), dtype=np.float32)
        image[18, 25] = 1000.0
        found = resample(image, around_centre(0.0, 1.0, 0.5, 0.5), (HEIGHT, WIDTH))
        assert np.nanmin(found) == 0.0
