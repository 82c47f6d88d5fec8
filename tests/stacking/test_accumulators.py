"""The stack as a whole: laws that hold for any frames, and what it must not do to stars."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from livestack.kernels.bands import Bands
from livestack.registration import transform as tf
from livestack.stacking.accumulators import Stack
from livestack.stacking.final_test import finalise
from livestack.stacking.laying import upright
from livestack.stacking.noise_model import Limits
from livestack.stacking.normalisation import Normalisation
from livestack.stacking.rejected_samples import RejectedSamples
from livestack.stacking.robust_start import WarmSample, fit_noise, start_robustly
from tests.reference import keys_sample, laplacian, local_range, moments, prediction, surface

HEIGHT, WIDTH = 150, 67
SHAPE = (HEIGHT, WIDTH)


@pytest.fixture(scope="module")
def bands():
    with Bands(1) as one:
        yield one


def limits(channels: int = 1, **changes: float) -> Limits:
    knobs = {"structure": 0.1, "excess": 0.0, "blur": 0.0, "kappa": 3.5, "prior_dof": 12.0, **changes}
    return Limits(np.full(channels, 25.0), np.full(channels, 0.5), **knobs)


def frames(rng: np.random.Generator, n: int, channels: int = 1, sky: float = 1000.0) -> list[tuple]:
    """Noisy frames of one star field with transforms, normalisations and weights."""
    y, x = np.mgrid[0:HEIGHT, 0:WIDTH]
    clean = np.full(SHAPE, sky)
    for _ in range(6):
        cx, cy = rng.uniform(8, WIDTH - 8), rng.uniform(8, HEIGHT - 8)
        clean += rng.uniform(100, 3000) * np.exp(-((x - cx) ** 2 + (y - cy) ** 2) / (2 * 1.3**2))
    out = []
    for _ in range(n):
        planes = rng.normal(clean, 5, (channels, HEIGHT, WIDTH)).astype(np.float32)
        matrix = tf.similarity(1.0, rng.normal(0, 0.002), rng.normal(0, 1.5), rng.normal(0, 1.5))
        coefficients = np.zeros((channels, 10))
        coefficients[:, :3] = rng.normal(0, 10, (channels, 3))
        out.append(
            (planes, matrix, Normalisation(np.full(channels, rng.uniform(0.8, 1.2)), coefficients), rng.uniform(0.3, 2))
        )
    return out


def filled(some: list[tuple], bands: Bands, limit: Limits | None = None, origin: float = 1000.0) -> Stack:
    channels = some[0][0].shape[0]
    stack = Stack(channels, HEIGHT, WIDTH, origin=np.full(channels, origin))
    for planes, matrix, normalisation, weight in some:
        stack.add(planes, matrix, normalisation, weight, limit, bands)
    return stack


def assert_same(a: Stack, b: Stack, rtol: float = 1e-4, squares: np.ndarray | float = 0.0) -> None:
    """Equal but for rounding: float32 of `squares`, the sum of squares that came and went, is lost."""
    np.testing.assert_array_equal(a.count, b.count)
    np.testing.assert_array_equal(a.low, b.low)
    np.testing.assert_array_equal(a.high, b.high)
    np.testing.assert_allclose(a.weight, b.weight, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(a.image(), b.image(), rtol=1e-6, atol=5e-3)
    assert (np.abs(a.m2 - b.m2) <= 0.5 + rtol * b.m2 + 1e-6 * squares).all()
    assert a.n_frames == b.n_frames


class TestAgainstNumpy:
    def test_warp_normalise_and_accumulate(self, bands):
        """The whole of `add` without rejection against the slow twins."""
        some = frames(np.random.default_rng(1), 4)
        stack = filled(some, bands)
        samples = []
        for planes, matrix, normalisation, _ in some:
            value = keys_sample(planes[0], np.linalg.inv(matrix), SHAPE)
            samples.append(value * normalisation.factor[0] + surface(normalisation.surface[0], HEIGHT, WIDTH))
        cube, weights = np.array(samples), np.array([w for *_, w in some])
        mean, m2, total = moments(cube, weights, np.isfinite(cube))
        edge = np.isfinite(cube).sum(axis=0) != stack.count[0]
        assert edge.mean() < 1e-3
        assert np.isnan(stack.image()[0][total == 0]).all()
        use = (total > 0) & ~edge
        np.testing.assert_allclose(stack.image()[0][use], mean[use], atol=0.02)
        np.testing.assert_allclose(stack.m2[0][use], m2[use], rtol=2e-3, atol=1)
        several = use & (stack.count[0] > 1)
        n = stack.count[0][several]
        np.testing.assert_allclose(
            stack.variance()[0][several], m2[several] / total[several] * n / (n - 1), rtol=2e-3, atol=1
        )
        assert np.isnan(stack.variance()[0][stack.count[0] < 2]).all()

    def test_rejection(self, bands):
        """One frame tested against a stack, by the formulas."""
        rng = np.random.default_rng(7)
        some = [(planes, matrix, Normalisation.identity(1), w) for planes, matrix, _, w in frames(rng, 12)]
        stack = filled(some, bands)
        planes = some[3][0].copy()
        planes[0, 60:64, :] += 160
        planes[0, 90, 10:50] -= 120
        limit = limits(blur=0.1, excess=0.05)
        mean, m2 = stack.mean[0].astype(float), stack.m2[0].astype(float)
        weight, count = stack.weight[0].astype(float), stack.count[0].copy()
        shift, far = prediction(
            mean, m2, weight, count, local_range(mean), laplacian(mean), 3.5, 12, 25, 0.5, 0.1, 0.05, 0.1
        )
        added = stack.add(planes, np.eye(3), Normalisation.identity(1), 1.0, limit, bands)
        d = planes[0] - 1000.0 - mean - shift
        expected = (np.abs(d) > far) & (count > 0)
        clear = np.abs(np.abs(d) - far) > 1e-3 * far + 0.02
        rejected = (stack.low + stack.high)[0] > 0
        np.testing.assert_array_equal(rejected[clear], expected[clear])
        assert added.n_rejected == rejected.sum()
        assert rejected[60:64].mean() > 0.8
        flat = added.rejected.unpack()
        np.testing.assert_array_equal(np.unique(flat >> 1), np.flatnonzero(rejected))
        np.testing.assert_array_equal(flat & 1, stack.high[0].ravel()[flat >> 1] > 0)


class TestLaws:
    @settings(max_examples=8, deadline=None)
    @given(seed=st.integers(0, 2**31), n=st.integers(2, 6), split=st.integers(1, 5), channels=st.sampled_from([1, 3]))
    def test_merge_equals_all_at_once(self, bands, seed, n, split, channels):
        some = frames(np.random.default_rng(seed), n, channels)
        split = min(split, n - 1)
        whole = filled(some, bands)
        first, second = filled(some[:split], bands), filled(some[split:], bands, origin=990.0)
        first.merge(second, bands)
        assert_same(first, whole)
        other = filled(some[split:], bands)
        other.merge(filled(some[:split], bands), bands)
        assert_same(other, whole)

    @settings(max_examples=8, deadline=None)
    @given(seed=st.integers(0, 2**31), n=st.integers(1, 5), which=st.integers(0, 4), reject=st.booleans())
    def test_removing_undoes_adding(self, bands, seed, n, which, reject):
        some = frames(np.random.default_rng(seed), n + 1)
        which = min(which, n)
        *rest, last = [*some[:which], *some[which + 1 :], some[which]]
        stack = filled(rest, bands)
        before = filled(rest, bands)
        added = stack.add(*last, limits() if reject else None, bands)
        if reject:
            assert added.n_rejected == (stack.low.sum(dtype=int) + stack.high.sum(dtype=int))
        squares = stack.m2.copy()
        stack.remove(*last, added.rejected, bands)
        assert_same(stack, before, rtol=2e-3, squares=squares)

    @settings(max_examples=6, deadline=None)
    @given(seed=st.integers(0, 2**31), scale=st.sampled_from([0.25, 2.0, 64.0]))
    def test_weights_are_free_of_scale(self, bands, seed, scale):
        """A power of two, so that not even rounding may differ."""
        some = frames(np.random.default_rng(seed), 5)
        scaled = [(planes, matrix, normalisation, w * scale) for planes, matrix, normalisation, w in some]
        a, b = filled(some, bands, limits()), filled(scaled, bands, limits())
        np.testing.assert_array_equal(a.image(), b.image())
        np.testing.assert_array_equal(a.variance(), b.variance())
        np.testing.assert_array_equal(a.high, b.high)

    @settings(max_examples=8, deadline=None)
    @given(seed=st.integers(0, 2**31), value=st.sampled_from([np.nan, np.inf, -np.inf]))
    def test_no_data_never_enters(self, bands, seed, value):
        rng = np.random.default_rng(seed)
        some = frames(rng, 4)
        spoilt = []
        for planes, *rest in some:
            bad = planes.copy()
            bad[rng.random(bad.shape) < 0.02] = value
            bad[:, 40:50, 20:30] = value
            spoilt.append((bad, *rest))
        stack = filled(spoilt, bands, limits())
        for array in (stack.mean, stack.m2, stack.weight):
            assert np.isfinite(array).all()
        image = stack.image()
        np.testing.assert_array_equal(np.isnan(image), stack.weight <= 0)
        assert (stack.count <= 4).all()
        assert np.abs(image[np.isfinite(image)]).max() < 1e5

    @pytest.mark.parametrize("live", [False, True])
    def test_threads_do_not_matter(self, live):
        some = frames(np.random.default_rng(3), 5, 3)
        some[4][0][:, 20:26] += 500
        stacks = []
        for threads in (1, 3):
            with Bands(threads) as bands:
                stack = Stack(3, HEIGHT, WIDTH, origin=np.full(3, 1000.0))
                start_robustly(stack, warm(some[:3], 3), live, bands)
                fresh = Stack(3, HEIGHT, WIDTH, origin=stack.origin)
                added = [stack.add(*one, limits(3) if live else None, bands) for one in some[3:]]
                for one, was in zip(some[3:], added, strict=True):
                    finalise(stack, fresh, *one, limits(3), was.rejected, bands)
                stacks.append((stack, fresh, added))
        (a, fresh_a, added_a), (b, fresh_b, added_b) = stacks
        for one, two in ((a, b), (fresh_a, fresh_b)):
            for name, array in one.arrays().items():
                np.testing.assert_array_equal(array, two.arrays()[name], err_msg=name)
        assert [x.rejected.packed for x in added_a] == [x.rejected.packed for x in added_b]
        if live:
            assert added_a[1].n_rejected > 1000

    @settings(max_examples=10, deadline=None)
    @given(angle=st.floats(-180, 180), scale=st.floats(0.9, 1.1))
    def test_upright_turns_pixels_and_matrix_alike(self, angle, scale):
        source = np.random.default_rng(0).normal(size=(1, 9, 14)).astype(np.float32)
        inverse = np.linalg.inv(tf.similarity(scale, np.radians(angle), 3.0, -2.0))
        turned, small = upright(source, inverse)
        assert small[0, 0] > 0
        assert small[0, 0] >= abs(small[1, 0]) - 1e-12
        for x, y in ((0.0, 0.0), (5.0, 7.0), (-3.0, 11.0)):
            sx, sy, _ = inverse @ (x, y, 1)
            tx, ty = small @ (x, y, 1)
            ix, iy, jx, jy = round(sx), round(sy), round(tx), round(ty)
            if 0 <= ix < 14 and 0 <= iy < 9 and max(abs(sx - ix), abs(sy - iy)) < 0.49:
                assert turned[0, jy, jx] == source[0, iy, ix]

    @settings(max_examples=20, deadline=None)
    @given(st.lists(st.integers(0, 2**36), unique=True), st.booleans())
    def test_masks_survive_packing(self, entries, near):
        entries = np.array(sorted(e % 10**6 for e in entries) if near else sorted(entries), dtype=np.int64)
        packed = RejectedSamples.pack(entries)
        np.testing.assert_array_equal(packed.unpack(), entries)
        assert packed.n == len(entries)


def warm(some: list[tuple], channels: int = 1, limit: Limits | None = None) -> list[WarmSample]:
    limit = limit or limits(channels)

    def sample(planes, matrix, normalisation, weight):
        return WarmSample(
            lambda y0, y1, x0, x1: planes[:, y0:y1, x0:x1].copy(), SHAPE, matrix, normalisation, weight, limit, limit
        )

    return [sample(*one) for one in some]


class TestRobustStart:
    def test_without_rejection_it_is_the_mean(self, bands):
        some = frames(np.random.default_rng(5), 6, 3)
        stack = Stack(3, HEIGHT, WIDTH, origin=np.full(3, 1000.0))
        start_robustly(stack, warm(some, 3), False, bands)
        assert_same(stack, filled(some, bands), rtol=1e-3)

    @pytest.mark.parametrize("n", [3, 5, 10])
    def test_a_trail_in_any_frame_is_gone(self, bands, n):
        rng = np.random.default_rng(n)
        some = frames(rng, n)
        for frame in (0, n - 1):
            clean = [(p.copy(), np.eye(3), Normalisation.identity(1), 1.0) for p, *_ in some]
            dirty = [(p.copy(), *rest) for p, *rest in clean]
            dirty[frame][0][0, 70:74] += 100
            stack = Stack(1, HEIGHT, WIDTH, origin=np.array([1000.0]))
            added = start_robustly(stack, warm(dirty), True, bands)
            assert added[frame].n_rejected >= 0.95 * 4 * WIDTH
            bias = float((stack.image() - filled(clean, bands).image())[0, 70:74].mean())
            assert abs(bias) < 1.0

    def test_removing_a_frame_of_the_warmup(self, bands):
        some = frames(np.random.default_rng(9), 7)
        some[2][0][0, 100:103] += 200
        stack = Stack(1, HEIGHT, WIDTH, origin=np.array([1000.0]))
        added = start_robustly(stack, warm(some), True, bands)
        codes = [one.rejected for one in added]
        stack.remove(*some[2], codes[2], bands)
        rest = Stack(1, HEIGHT, WIDTH, origin=np.array([1000.0]))
        for k, one in enumerate(some):
            if k != 2:
                hold = Stack(1, HEIGHT, WIDTH, origin=np.array([1000.0]))
                hold.add(*one, None, bands)
                flat = codes[k].unpack() >> 1
                for array in (hold.mean, hold.m2, hold.weight, hold.count):
                    array.ravel()[flat] = 0
                rest.merge(hold, bands)
        np.testing.assert_array_equal(stack.count, rest.count)
        np.testing.assert_allclose(stack.image(), rest.image(), atol=0.01)

    def test_noise_model_is_found(self, bands):
        """Photon noise, read noise and nothing else: variance 36 + 0.6 x level above sky."""
        rng = np.random.default_rng(12)
        y, x = np.mgrid[0:HEIGHT, 0:WIDTH]
        level = 900 * np.exp(-((x - 30) ** 2 + (y - 70) ** 2) / (2 * 25.0**2))
        some = [
            (rng.normal(1000 + level, np.sqrt(36 + 0.6 * level), (1, *SHAPE)).astype(np.float32), np.eye(3),
             Normalisation.identity(1), 1.0) for _ in range(10)
        ]  # fmt: skip
        stack = Stack(1, HEIGHT, WIDTH, origin=np.array([1000.0]))
        model = fit_noise(stack, warm(some), bands)
        assert model is not None
        assert model.floor[0] * 25 == pytest.approx(36, rel=0.15), "as a share of the floor that the frames said"
        assert model.slope[0] == pytest.approx(0.6, rel=0.15)
        assert fit_noise(stack, warm(some[:3]), bands) is None

    def test_short_and_long_exposures_alternate(self, bands):
        """Sky noise of 5 and 25 in turn, each frame saying its own: the model is right for both."""
        samples = []
        for one in alternating(np.random.default_rng(13), 10):
            samples += warm([one[:4]], limit=one[4])
        model = fit_noise(Stack(1, HEIGHT, WIDTH, origin=np.array([1000.0])), samples, bands)
        assert model is not None
        assert model.floor[0] == pytest.approx(1, rel=0.15)


def alternating(rng: np.random.Generator, n: int) -> list[tuple]:
    """Frames of an empty sky, quiet and loud in turn, with weights and limits after their own noise."""
    out = []
    for k in range(n):
        sigma = (5.0, 25.0)[k % 2]
        planes = rng.normal(1000.0, sigma, (1, *SHAPE)).astype(np.float32)
        mean_variance = (25.0 + 625.0 / 25) / (1 + 1 / 25)  # of the stack's frames, by weight
        louder = np.array([max(sigma**2 / mean_variance, 1.0)])
        limit = Limits(np.array([sigma**2]), np.zeros(1), 0.1, 0.0, 0.0, 3.5, 12.0, louder)
        out.append((planes, np.eye(3), Normalisation.identity(1), 25.0 / sigma**2, limit))
    return out


def test_the_loud_half_of_a_night_is_tested_with_its_own_noise(bands):
    """A pixel's scatter is that of the quiet frames, by weight: 3.5 sigma of a loud one are refused, no more."""
    stack = Stack(1, HEIGHT, WIDTH, origin=np.array([1000.0]))
    shares = []
    for planes, matrix, normalisation, weight, limit in alternating(np.random.default_rng(14), 40):
        added = stack.add(planes, matrix, normalisation, weight, limit, bands)
        shares.append(added.n_rejected / added.n_samples)
    assert max(shares[11::2]) < 0.003
    assert max(shares[10::2]) < 0.003
    planes, matrix, normalisation, weight, limit = alternating(np.random.default_rng(15), 2)[1]
    planes[0, 40] += 9 * 25
    added = stack.add(planes, matrix, normalisation, weight, limit, bands)
    assert added.n_rejected > 0.9 * WIDTH, "a trail in a loud frame is seen still"


class TestStars:
    @pytest.mark.parametrize("fwhm", [1.6, 3.0, 5.0])
    def test_seeing_does_not_eat_stars(self, bands, fwhm):
        """Frames whose stars are up to a quarter wider or narrower: flux is kept."""
        rng = np.random.default_rng(17)
        y, x = np.mgrid[0:HEIGHT, 0:WIDTH]
        places = [(x0, y0) for x0 in (14.3, 33.6, 51.9) for y0 in (20.1, 61.5, 99.8, 133.2)]

        def sky(width):
            sigma = width / 2.3548
            light = sum(np.exp(-((x - a) ** 2 + (y - b) ** 2) / (2 * sigma**2)) for a, b in places)
            return 2e5 * light / (2 * np.pi * sigma**2)

        stack, clean = (Stack(1, HEIGHT, WIDTH, origin=np.zeros(1)) for _ in range(2))
        stack.n_frames = 0
        for k in range(40):
            width = fwhm * (1.0 if k < 10 else rng.uniform(0.82, 1.22))
            light = sky(width)
            planes = rng.normal(light, np.sqrt(25 + light))[None].astype(np.float32)
            blur = (1 - (fwhm / width) ** 2) / (4 * (1 - np.exp(-0.5 / (fwhm / 2.3548) ** 2)))
            limit = Limits(np.full(1, 25.0), np.full(1, 1.0), 0.05, 0.5 * abs(np.log(width / fwhm)), blur, 3.5, 12.0)
            stack.add(planes, np.eye(3), Normalisation.identity(1), 1.0, limit if k >= 10 else None, bands)
            clean.add(planes, np.eye(3), Normalisation.identity(1), 1.0, None, bands)
        for a, b in places:
            near = (x - a) ** 2 + (y - b) ** 2 < (2 * fwhm + 2) ** 2
            found, truth = (float(s.image()[0][near].sum()) for s in (stack, clean))
            assert found == pytest.approx(truth, rel=5e-3)

    def test_a_trail_through_a_star_is_refused(self, bands):
        rng = np.random.default_rng(18)
        y, x = np.mgrid[0:HEIGHT, 0:WIDTH]
        light = 4000 * np.exp(-((x - 33) ** 2 + (y - 70) ** 2) / (2 * 1.4**2))
        stack = Stack(1, HEIGHT, WIDTH, origin=np.zeros(1))
        one = limits(structure=0.05)
        for k in range(21):
            planes = rng.normal(light, np.sqrt(25 + 0.5 * light))[None].astype(np.float32)
            if k == 20:
                planes[0, 69:72] += 400
            added = stack.add(planes, np.eye(3), Normalisation.identity(1), 1.0, one if k >= 10 else None, bands)
        rejected = stack.high[0, 69:72]
        assert rejected[:, 25:42].mean() > 0.85
        assert added.rejected_fraction < 0.05


class TestSteps:
    def test_a_step_of_the_sky_is_not_the_end(self, bands):
        """+8 sigma that normalisation missed: the stack takes it in, sooner or later, instead of refusing all night."""
        rng = np.random.default_rng(20)
        stack = Stack(1, HEIGHT, WIDTH, origin=np.array([1000.0]))
        for k in range(120):
            planes = rng.normal(1000 + (40 if k >= 15 else 0), 5, (1, *SHAPE)).astype(np.float32)
            stack.add(planes, np.eye(3), Normalisation.identity(1), 1.0, limits() if k >= 10 else None, bands)
        assert np.median(stack.count) > 80
        assert abs(float(np.median(stack.image())) - 1040) < 10
