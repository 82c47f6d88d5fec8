"""How sure it is that a star varies: the loops against numpy's least squares, medians and sums, written plainly."""

from __future__ import annotations

import math

import numpy as np
import pytest

from livestack.kernels.light_curves import best_boxes, chi_squares, normal_equations, take_out_seeing
from livestack.photometry.variability import LEAST_POINTS, LIMIT, MOST_BINS, SEEING_CHI2, VARIES, variability


def night(seed: int, n: int = 12, t: int = 61) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    draw = np.random.default_rng(seed)
    error = draw.uniform(0.003, 0.02, (n, t))
    seeing = draw.normal(0, 0.1, t) if seed else np.zeros(t)
    residual = draw.normal(size=(n, t)) * error + np.arange(n)[:, None] * 0.02 * seeing
    residual[draw.random((n, t)) < 0.1] = np.nan
    residual[1, 5:] = np.nan
    error[2, ::3] = np.nan
    return residual, error, seeing


def points_of(residual: np.ndarray, error: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    good = np.isfinite(residual) & (error > 0)
    points, errors = np.clip(residual[good] / error[good], -LIMIT, LIMIT), error[good]
    loneliest = int(np.argmax(np.abs(points)))
    return np.delete(points, loneliest), np.delete(errors, loneliest)


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_what_goes_with_the_seeing_is_that_of_least_squares(seed: int) -> None:
    residual, error, seeing = night(seed)
    out = np.empty_like(residual)
    take_out_seeing(residual, error, seeing, 2 * LEAST_POINTS, LIMIT, SEEING_CHI2, out)
    basis = np.stack([np.ones_like(seeing), seeing, seeing**2], axis=1)
    taken = 0
    for star in range(len(residual)):
        good = np.isfinite(residual[star]) & (error[star] > 0)
        expected = residual[star]
        if good.sum() >= 2 * LEAST_POINTS:
            weighed = basis[good] / error[star, good, None]
            fit = np.linalg.lstsq(weighed, residual[star, good] / error[star, good], rcond=1e-6)[0]
            if np.sum((weighed @ fit) ** 2) > SEEING_CHI2:
                expected = residual[star] - basis[:, 1:] @ fit[1:]
                taken += 1
        np.testing.assert_allclose(out[star], expected, atol=1e-10)
    assert (taken > 3) == (seed > 0)


def test_averages_and_boxes_are_those_of_numpy() -> None:
    residual, error, _ = night(3)
    scales = np.array([1, 2, 4, 16])
    squares, numbers, boxes = (np.empty(shape) for shape in ((12, 4), (12, 4), 12))
    chi_squares(residual, error, scales, LEAST_POINTS, LIMIT, squares, numbers)
    best_boxes(residual, error, 2 * LEAST_POINTS, LIMIT, MOST_BINS, boxes)
    assert math.isnan(boxes[1])
    assert not numbers[1].any()
    for star in (0, 2, 7, 11):
        points, errors = points_of(residual[star], error[star])
        middle = np.median(points)
        for s, scale in enumerate(scales):
            if len(points) + 1 < 3 * scale:
                assert numbers[star, s] == 0
                continue
            sets = []
            for begin in {0, scale // 2}:
                use = points[begin:]
                sets.append(use[: len(use) // scale * scale].reshape(-1, scale).mean(axis=1) - middle)
            total = np.mean([np.sum(bins**2) * scale for bins in sets])
            assert squares[star, s] == pytest.approx(total, rel=1e-9)
            assert numbers[star, s] == np.mean([len(bins) for bins in sets])
        edges = np.unique(np.linspace(0, len(points), min(len(points), MOST_BINS) + 1).astype(int))
        weight, best = errors**-2.0, 0.0
        for i in edges:
            for j in edges[np.searchsorted(edges, i) + 2 :]:
                inside = np.zeros(len(points), dtype=bool)
                inside[i:j] = True
                if weight[~inside].sum() <= 0.1 * weight.sum():
                    continue
                magnitudes = points * errors
                depth = np.average(magnitudes[inside], weights=weight[inside])
                depth -= np.average(magnitudes[~inside], weights=weight[~inside])
                best = max(best, abs(depth) / math.sqrt(1 / weight[inside].sum() + 1 / weight[~inside].sum()))
        assert boxes[star] == pytest.approx(best, rel=1e-9)


def test_weighed_sums_are_those_of_numpy() -> None:
    draw = np.random.default_rng(1)
    columns, weight, left = draw.normal(size=(5, 70)), draw.random(70), draw.normal(size=70)
    weight[::7] = 0
    normal, right = normal_equations(columns, weight, left)
    np.testing.assert_allclose(normal, columns * weight @ columns.T, rtol=1e-12)
    np.testing.assert_allclose(right, columns * weight @ left, rtol=1e-12)


def test_a_dip_is_sure_and_constant_stars_are_not() -> None:
    draw = np.random.default_rng(4)
    error = np.full((300, 80), 0.01)
    residual = draw.normal(size=error.shape) * error
    residual[17, 30:50] += 0.02
    found = variability(residual, error, draw.uniform(-10, -5, 300), np.zeros(80))
    assert found[17] > VARIES
    assert np.sum(found > VARIES) == 1
