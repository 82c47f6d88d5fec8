"""Normalising: factors from stars that are known, surfaces from skies that are known, and what has no say."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from livestack.detection import Sky, StarCatalog
from livestack.registration import transform as tf
from livestack.stacking.normalise import ReferenceLight, fit_surface, flux_ratio, mesh_nodes, normalise, sample_mesh
from tests.reference import surface

WIDTH, HEIGHT = 640, 400


def catalog(flux: np.ndarray, snr: float = 80.0, saturated: np.ndarray | None = None) -> StarCatalog:
    n = len(flux)
    nan = np.full(n, np.nan)
    return StarCatalog(
        np.linspace(10, WIDTH - 10, n), np.full(n, 100.0), flux, np.full(n, snr), nan, nan, nan,
        np.zeros(n, dtype=bool) if saturated is None else saturated, 8.0,
    )  # fmt: skip


def mesh_sky(level, cells: tuple[int, int] = (10, 16), channels: int = 1) -> Sky:
    """The sky `level(x, y)` as measured on a mesh."""
    nodes = mesh_nodes(cells, WIDTH, HEIGHT)
    values = level(nodes[:, 0], nodes[:, 1]).reshape(cells)
    noise, rounding = np.full(channels, 5.0, dtype=np.float32), np.zeros(channels, np.float32)
    return Sky(np.repeat(values[None], channels, axis=0).astype(np.float32), noise, rounding)


class TestFluxRatio:
    @settings(max_examples=20, deadline=None)
    @given(seed=st.integers(0, 2**31), factor=st.floats(0.2, 5), variable=st.floats(0, 0.25))
    def test_variable_stars_do_not_matter(self, seed, factor, variable):
        rng = np.random.default_rng(seed)
        flux = rng.pareto(0.9, 60) + 100
        mine = flux / factor * np.exp(rng.normal(0, 0.01, 60))
        odd = rng.random(60) < variable
        mine[odd] *= rng.uniform(1.5, 4)
        index = np.arange(60)
        assert flux_ratio(catalog(flux), catalog(mine), index, index) == pytest.approx(factor, rel=0.015)

    def test_saturated_and_faint_stars_have_no_say(self):
        flux = np.full(20, 1000.0)
        index = np.arange(20)
        saturated = index < 15
        mine = np.where(saturated, 500.0, 800.0)
        found = flux_ratio(catalog(flux, saturated=saturated), catalog(mine), index, index)
        assert found == pytest.approx(1.25, rel=1e-6)
        assert flux_ratio(catalog(flux, snr=3.0), catalog(mine), index, index) is None
        assert flux_ratio(catalog(flux), catalog(mine), index[:0], index[:0]) is None


class TestSurface:
    @settings(max_examples=15, deadline=None)
    @given(seed=st.integers(0, 2**31))
    def test_cubic_with_outliers(self, seed):
        rng = np.random.default_rng(seed)
        coefficients = rng.normal(0, 30, 10)
        u, v = rng.uniform(-1, 1, (2, 300))
        basis = np.stack([np.ones_like(u), u, v, u * u, u * v, v * v, u**3, u * u * v, u * v * v, v**3], axis=1)
        value = basis @ coefficients + rng.normal(0, 0.5, 300)
        value[rng.random(300) < 0.1] += 500
        found = fit_surface(u, v, value)
        grid_v, grid_u = np.mgrid[-1:1:9j, -1:1:11j]
        error = surface(found, 9, 11) - surface(coefficients, 9, 11)
        assert np.abs(error[(np.abs(grid_u) < 0.9) & (np.abs(grid_v) < 0.9)]).max() < 1.0

    def test_few_points_carry_a_constant(self):
        found = fit_surface(np.array([0.0, 0.5]), np.array([0.1, -0.3]), np.array([7.0, 7.0]))
        np.testing.assert_allclose(found, [7, *[0] * 9], atol=1e-9)


class TestNormalise:
    @pytest.mark.parametrize("channels", [1, 3])
    @pytest.mark.parametrize("angle", [0.0, 2.0, 180.0])
    def test_skies_become_one(self, channels, angle):
        """value = factor * sample + surface brings a turned frame with another gradient to the reference's sky."""
        light = ReferenceLight(
            catalog(np.ones(5)),
            mesh_sky(lambda x, y: 900 + 0.1 * x - 0.05 * y, channels=channels),
            np.eye(3),
            WIDTH,
            HEIGHT,
            (HEIGHT, WIDTH),
        )
        centre = tf.similarity(1.0, 0.0, (WIDTH - 1) / 2, (HEIGHT - 1) / 2)
        matrix = centre @ tf.similarity(1.0, np.radians(angle), 6.0, -4.0) @ np.linalg.inv(centre)
        sky = mesh_sky(lambda x, y: 1500 + 0.2 * y + 1e-4 * (x - 300) ** 2, channels=channels)
        found = normalise(light, sky, matrix, 0.8, WIDTH, HEIGHT)
        np.testing.assert_allclose(found.factor, 0.8)
        points = np.random.default_rng(0).uniform((40, 40), (WIDTH - 40, HEIGHT - 40), (200, 2))
        mine = sample_mesh(sky.level, tf.apply(np.linalg.inv(matrix), points), WIDTH, HEIGHT)
        good = np.isfinite(mine).all(axis=0)
        x, y = np.round(points[good]).astype(int).T
        for c in range(channels):
            there = surface(found.surface[c], HEIGHT, WIDTH)[y, x]
            expected = 900 + 0.1 * points[good, 0] - 0.05 * points[good, 1]
            np.testing.assert_allclose(0.8 * mine[c, good] + there, expected, atol=3)

    def test_another_scale_changes_brightness_by_the_area(self):
        light = ReferenceLight(
            catalog(np.ones(5)), mesh_sky(lambda x, y: 0 * x + 900), np.eye(3), WIDTH, HEIGHT, (HEIGHT, WIDTH)
        )
        found = normalise(light, mesh_sky(lambda x, y: 0 * x + 900), tf.similarity(1.1, 0.0, 0, 0), 1.0, WIDTH, HEIGHT)
        np.testing.assert_allclose(found.factor, 1 / 1.21)

    def test_without_stars_a_brighter_sky_is_added_light(self):
        light = ReferenceLight(
            catalog(np.ones(5)), mesh_sky(lambda x, y: 0 * x + 900), np.eye(3), WIDTH, HEIGHT, (HEIGHT, WIDTH)
        )
        found = normalise(light, mesh_sky(lambda x, y: 1800 + 0.1 * x), np.eye(3), None, WIDTH, HEIGHT)
        np.testing.assert_allclose(found.factor, 1.0)
        np.testing.assert_allclose(found.surface[0, 0], -900, atol=0.06 * WIDTH)
        np.testing.assert_array_equal(found.surface[:, 1:], 0)

    @pytest.mark.parametrize("pedestal", [0.0, 700.0])
    def test_without_stars_a_scene_tells_its_brightness(self, pedestal):
        """The Moon through a veil that takes 30 %: the pedestal has no part in it."""

        def moon(x, y):
            return 3000.0 * (x > 0.5 * WIDTH) + 5 * np.sin(0.1 * y)

        light = ReferenceLight(
            catalog(np.ones(5)), mesh_sky(lambda x, y: pedestal + moon(x, y)), np.eye(3), WIDTH, HEIGHT, (HEIGHT, WIDTH)
        )
        found = normalise(light, mesh_sky(lambda x, y: pedestal + 0.7 * moon(x, y)), np.eye(3), None, WIDTH, HEIGHT)
        np.testing.assert_allclose(found.factor, 1 / 0.7, rtol=0.01)
        np.testing.assert_allclose(found.surface[0, 0], pedestal * (1 - 1 / 0.7), atol=10)

    def test_no_overlap_leaves_no_surface(self):
        light = ReferenceLight(
            catalog(np.ones(5)), mesh_sky(lambda x, y: 0 * x + 900), np.eye(3), WIDTH, HEIGHT, (HEIGHT, WIDTH)
        )
        found = normalise(
            light,
            mesh_sky(lambda x, y: 0 * x + 800),
            tf.similarity(1.0, 0.0, 5000, 0),
            1.0,
            WIDTH,
            HEIGHT,
        )
        np.testing.assert_array_equal(found.surface, 0)

    def test_mesh_is_bilinear_and_ends_with_the_frame(self):
        sky = mesh_sky(lambda x, y: 2 * x - y)
        points = np.array([[100.0, 200.0], [333.3, 111.1], [-0.6, 5.0], [WIDTH - 0.4, 5.0]])
        found = sample_mesh(sky.level, points, WIDTH, HEIGHT)[0]
        np.testing.assert_allclose(found[:2], 2 * points[:2, 0] - points[:2, 1], atol=1e-3)
        assert np.isnan(found[2:]).all()
