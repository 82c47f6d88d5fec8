"""The accumulators' loops against plain numpy: moments, prediction limit, robust start, long sums, counts that end."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from livestack.kernels import accumulate, robust_start, sample_rows
from livestack.stacking.canvas import Canvas
from tests.reference import laplacian, local_range, moments, prediction, surface

F = np.float32
WIDTH = 57


class Row:
    """Accumulators of one row."""

    def __init__(self, width: int = WIDTH) -> None:
        self.mean, self.m2, self.weight = (np.zeros(width, dtype=F) for _ in range(3))
        self.count, self.low, self.high = (np.zeros(width, dtype=np.uint16) for _ in range(3))

    def add(self, values: np.ndarray, w: float, codes: np.ndarray | None = None) -> None:
        values = values.astype(F)
        present = np.isfinite(values).astype(np.uint8)
        codes = np.zeros(len(values), dtype=np.uint8) if codes is None else codes
        sample_rows.add_row(
            np.where(present, values, F(0)), present, codes, F(w), self.mean, self.m2, self.weight, self.count
        )


class TestMoments:
    @settings(max_examples=25, deadline=None)
    @given(seed=st.integers(0, 2**31), n=st.integers(1, 30), holes=st.floats(0, 0.5), equal=st.booleans())
    def test_equal_to_numpy_at_every_prefix(self, seed, n, holes, equal):
        rng = np.random.default_rng(seed)
        samples = rng.normal(40, 90, (n, WIDTH)).astype(F)
        samples[rng.random(samples.shape) < holes] = np.nan
        weights = np.ones(n) if equal else rng.uniform(0.2, 3, n)
        row = Row()
        for k in range(n):
            row.add(samples[k], weights[k])
            used = np.isfinite(samples[: k + 1])
            mean, squares, total = moments(samples[: k + 1].astype(float), weights[: k + 1], used)
            np.testing.assert_allclose(row.weight, total, rtol=1e-5)
            np.testing.assert_array_equal(row.count, used.sum(axis=0))
            np.testing.assert_allclose(row.mean, mean, atol=1e-3)
            np.testing.assert_allclose(row.m2, squares, rtol=2e-4, atol=0.5)

    @pytest.mark.parametrize("level", [0.0, 800.0, 30000.0], ids=["origin", "gradient", "bright star"])
    def test_ten_thousand_frames(self, level):
        """Sky of 30000 ADU (noise 173) above which `level` is left after the origin was taken off."""
        rng = np.random.default_rng(8)
        n, width = 10000, 64
        row = Row(width)
        sigma = np.sqrt(30000.0 + level)
        total, squares = np.zeros(width), np.zeros(width)
        for _ in range(n):
            values = (level + rng.normal(0, sigma, width)).astype(F)
            row.add(values, 1.0)
            total += values.astype(float) - level
            squares += (values.astype(float) - level) ** 2
        mean = level + total / n
        error = row.mean - mean
        noise = sigma / np.sqrt(n)
        assert np.sqrt(np.mean(error**2)) < 0.02 * noise
        variance = row.m2.astype(float) / (n - 1)
        np.testing.assert_allclose(variance, (squares - total**2 / n) / (n - 1), rtol=2e-3)
        assert (row.count == n).all()

    def test_counts_stop_at_the_end(self):
        row = Row(9)
        row.count[:] = 65534
        row.low[:] = 65535
        row.weight[:] = 65534
        row.add(np.ones(9), 1.0)
        row.add(np.ones(9), 1.0)
        assert (row.count == 65535).all()
        sample_rows.count_row(np.full(9, sample_rows.LOW, dtype=np.uint8), row.low, row.high)
        assert (row.low == 65535).all()
        one = [a[None] for a in (row.mean, row.m2, row.weight, row.count, row.low, row.high)]
        two = [a.copy() for a in one]
        accumulate.merge_rows(*one, *two, 0, 1)
        assert (row.count == 65535).all()
        assert (row.low == 65535).all()
        assert (row.weight == 2 * 65536).all()

    @pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 3.3e38])
    def test_what_is_no_number_never_enters(self, value):
        values = np.linspace(1, 2, 11, dtype=F)
        values[4] = value
        present = np.zeros(11, dtype=np.uint8)
        with np.errstate(over="ignore"):
            n = sample_rows.normalise_row(values, F(2.0), np.zeros(11, dtype=F), present)
        assert n == 10
        assert present.sum() == 10
        assert not present[4]
        row = Row(11)
        row.add(np.where(present, values, np.nan), 1.0)
        assert row.count.sum() == 10
        assert np.isfinite(row.mean).all()


class TestSurface:
    @settings(max_examples=20, deadline=None)
    @given(seed=st.integers(0, 2**31))
    def test_polynomial(self, seed):
        coefficients = np.random.default_rng(seed).normal(0, 50, 10)
        height, width = 23, 41
        expected = surface(coefficients, height, width)
        ruler = np.array([*Canvas.of(height, width).ruler, -1.0, 1.0, -1.0, 1.0])
        out = np.empty(width, dtype=F)
        for y in range(height):
            sample_rows.offset_row(coefficients, ruler, 0.0, float(y), out)
            np.testing.assert_allclose(out, expected[y], atol=2e-3)


class TestPrediction:
    @settings(max_examples=40, deadline=None)
    @given(
        seed=st.integers(0, 2**31), blur=st.floats(-0.5, 0.5), structure=st.floats(0, 0.5), excess=st.floats(0, 0.5),
        kappa=st.floats(1, 6), dof=st.floats(1, 20),
    )  # fmt: skip
    def test_against_the_slow_twin(self, seed, blur, structure, excess, kappa, dof):
        rng = np.random.default_rng(seed)
        shape = (3, WIDTH)
        image = rng.normal(0, 20, shape).astype(F)
        image[:, 20:25] += rng.uniform(0, 5000, (3, 5)).astype(F)
        count = rng.integers(0, 40, shape[1]).astype(np.uint16)
        weight = (count * rng.uniform(0.5, 2)).astype(F)
        m2 = (rng.uniform(0, 900, WIDTH) * weight).astype(F)
        low, high = (np.zeros(WIDTH, dtype=np.uint16) for _ in range(2))
        spread, curve = local_range(image)[1], laplacian(image)[1]
        found_spread, found_curve = np.empty(WIDTH, F), np.empty(WIDTH, F)
        sample_rows.local_shape_row(
            image[0], image[1], image[2], found_spread, found_curve, np.empty(WIDTH, F), np.empty(WIDTH, F)
        )
        np.testing.assert_allclose(found_spread, spread, rtol=1e-6)
        np.testing.assert_allclose(found_curve, curve, rtol=1e-4, atol=0.02)
        floor, slope, louder = 300.0, 0.7, float(F(rng.uniform(1, 4)))
        shift, limit = prediction(
            image[1].astype(float),
            louder * m2.astype(float),
            weight.astype(float),
            count,
            spread.astype(float),
            curve.astype(float),
            kappa,
            dof,
            floor,
            slope,
            structure,
            excess,
            blur,
        )
        values = (image[1] + shift + rng.uniform(-2, 2, WIDTH) * limit).astype(F)
        present = (rng.random(WIDTH) > 0.1).astype(np.uint8)
        codes = np.full(WIDTH, 9, dtype=np.uint8)
        n = accumulate.test_row(
            values, present, (image[1], m2, weight, count, low, high), found_spread, found_curve,
            np.array([kappa**2, dof, floor, slope, structure**2, excess**2, blur, louder], dtype=F), codes,
        )  # fmt: skip
        d = values - image[1] - shift
        expected = np.where(
            (np.abs(d) > limit) & (count > 0) & (present == 1), np.where(d > 0, sample_rows.HIGH, sample_rows.LOW), 0
        )
        clear = np.abs(np.abs(d) - limit) > 1e-3 * limit + 0.02
        np.testing.assert_array_equal(codes[clear], expected[clear])
        assert n == np.count_nonzero(codes)

    def test_truth_cannot_be_locked_out(self):
        """Ten samples agree on a lie; whatever comes after says otherwise: the limit opens within forty frames."""
        rng = np.random.default_rng(2)
        for step in (8.0, 60.0, 1000.0):
            row = Row(3)
            spread = curve = np.zeros(3, dtype=F)
            codes = np.zeros(3, dtype=np.uint8)
            for k in range(400):
                values = rng.normal(0 if k < 10 else step, 1, 3).astype(F)
                present = np.ones(3, dtype=np.uint8)
                if k:
                    accumulate.test_row(
                        values, present, (row.mean, row.m2, row.weight, row.count, row.low, row.high), spread, curve,
                        np.array([3.5**2, 12, 1, 0, 0, 0, 0, 1], dtype=F), codes,
                    )  # fmt: skip
                    sample_rows.count_row(codes, row.low, row.high)
                row.add(values, 1.0, codes)
            assert (row.count > 100).all(), f"step {step}: {row.count}"
            assert (np.abs(row.mean - step) < 0.15 * step).all(), f"step {step}: {row.mean}"


def combine(
    samples: np.ndarray, *, kappa: float = 3.5, dof: float = 12.0, floor: float = 1.0, weights=None, reject=True
):
    """`combine_tile` of (K, h, w) samples; flat sky, no allowances."""
    k, h, w = samples.shape
    cube = samples.astype(F)
    median, mad, spread, curve = (np.zeros((h, w), dtype=F) for _ in range(4))
    robust_start.median_and_mad(cube, median, mad)
    weights = np.ones(k) if weights is None else weights
    out = [np.empty((h, w), dtype=F) for _ in range(3)] + [np.empty((h, w), dtype=np.uint16) for _ in range(3)]
    codes = np.empty((k, h, w), dtype=np.uint8)
    nothing = np.zeros(k, dtype=F)
    robust_start.combine_tile(
        cube, median, mad, spread, curve, weights.astype(F), np.full(k, floor, dtype=F), nothing, 0.0, nothing, nothing,
        nothing, nothing, kappa, dof, reject, *out, codes,
    )  # fmt: skip
    return (*out, codes, median, mad)


class TestRobustStart:
    @settings(max_examples=15, deadline=None)
    @given(seed=st.integers(0, 2**31), k=st.integers(1, 13), holes=st.floats(0, 0.6))
    def test_median_and_mad(self, seed, k, holes):
        rng = np.random.default_rng(seed)
        cube = rng.normal(0, 10, (k, 5, 7)).astype(F)
        cube[rng.random(cube.shape) < holes] = np.nan
        median, mad = np.empty((5, 7), dtype=F), np.empty((5, 7), dtype=F)
        robust_start.median_and_mad(cube, median, mad)
        for j in range(5):
            for i in range(7):
                values = cube[:, j, i][np.isfinite(cube[:, j, i])]
                if len(values) == 0:
                    assert median[j, i] == mad[j, i] == 0
                    continue
                expected = values.min() if len(values) == 2 else np.median(values)
                assert median[j, i] == pytest.approx(expected, abs=1e-4)
                assert mad[j, i] == pytest.approx(1.4826 * np.median(np.abs(values - expected)), abs=1e-3)

    @settings(max_examples=25, deadline=None)
    @given(seed=st.integers(0, 2**31), k=st.integers(1, 12), holes=st.floats(0, 0.4), reject=st.booleans())
    def test_moments_are_those_of_the_accepted(self, seed, k, holes, reject):
        rng = np.random.default_rng(seed)
        samples = rng.normal(0, 1, (k, 6, 9))
        samples[rng.random(samples.shape) < 0.05] += 30
        samples[rng.random(samples.shape) < holes] = np.nan
        weights = rng.uniform(0.5, 2, k)
        mean, m2, weight, count, low, high, codes, _, _ = combine(samples, weights=weights, reject=reject)
        used = np.isfinite(samples) & (codes == sample_rows.ACCEPTED)
        expected = moments(samples.astype(F).astype(float), weights.astype(F).astype(float), used)
        np.testing.assert_allclose(mean, expected[0], atol=1e-4)
        np.testing.assert_allclose(m2, expected[1], rtol=1e-4, atol=1e-3)
        np.testing.assert_allclose(weight, expected[2], rtol=1e-5)
        np.testing.assert_array_equal(count, used.sum(axis=0))
        np.testing.assert_array_equal(low, (codes == sample_rows.LOW).sum(axis=0))
        np.testing.assert_array_equal(high, (codes == sample_rows.HIGH).sum(axis=0))
        # nobody is sent away who holds the only sample
        np.testing.assert_array_equal(count > 0, np.isfinite(samples).any(axis=0))
        if not reject:
            assert not codes.any()

    def test_a_fixed_point_of_leave_one_out(self):
        """What was accepted passes the limit that the others set, what was rejected does not."""
        rng = np.random.default_rng(4)
        samples = rng.normal(0, 1, (10, 20, 30))
        samples[0, :, 3:6] += 20
        samples[7, 4:9] += 9
        samples[2, 4:6, 10:20] -= 15
        *_, codes, _, _ = combine(samples)
        samples = samples.astype(F).astype(float)
        used = codes == sample_rows.ACCEPTED
        wrong = 0
        for k in range(10):
            others = used.copy()
            others[k] = False
            mean, squares, n = moments(samples, np.ones(10), others)
            _, limit = prediction(mean, squares, n, n, np.zeros((20, 30)), np.zeros((20, 30)), 3.5, 12, 1, 0, 0, 0, 0)
            wrong += np.count_nonzero((np.abs(samples[k] - mean) <= limit) != used[k])
        assert wrong <= 2
        assert (codes[0, :, 3:6] == sample_rows.HIGH).mean() > 0.99
        assert (codes[2, 4:6, 10:20] == sample_rows.LOW).all()

    def test_clean_samples_are_kept(self):
        samples = np.random.default_rng(6).normal(0, 1, (10, 100, 100))
        *_, codes, _, _ = combine(samples)
        assert np.mean(codes != 0) < 0.002
