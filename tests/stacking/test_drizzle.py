"""Drizzle: equal to a plain sum over drops at every prefix, and the laws that follow from it."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from livestack.kernels.bands import Bands
from livestack.registration.distortion import Distortion, to_reference
from livestack.stacking import drizzle
from livestack.stacking.accumulators import Stack
from livestack.stacking.drizzle import Drop, Shot
from livestack.stacking.noise_model import Limits
from livestack.stacking.normalisation import Normalisation

HEIGHT, WIDTH = 19, 27
ORIGIN = 100.0


@pytest.fixture(scope="module")
def bands():
    with Bands(1) as one:
        yield one


def limits(channels: int, **changes: float) -> Limits:
    knobs = {"structure": 0.2, "excess": 0.0, "blur": 0.0, "kappa": 3.5, "prior_dof": 12.0, **changes}
    return Limits(np.full(channels, 400.0), np.full(channels, 0.5), **knobs)


def shots(seed: int, bayer: str | None, pixfrac: float, turn: float, n: int = 4, shape=(HEIGHT, WIDTH)) -> list[Shot]:
    """Frames of noise with holes, dithered; each is turned by about `turn`."""
    rng = np.random.default_rng(seed)
    channels = 1 if bayer is None else 3
    middle = np.array([shape[1], shape[0]]) / 2
    out = []
    for _ in range(n):
        angle, zoom = turn + rng.normal(0, 0.01), rng.uniform(0.98, 1.02)
        linear = zoom * np.array([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]])
        matrix = np.eye(3)
        matrix[:2, :2], matrix[:2, 2] = linear, middle - linear @ middle + rng.uniform(-2, 2, 2)
        samples = rng.normal(200, 20, shape).astype(np.float32)
        samples.flat[rng.integers(0, samples.size, 5)] = np.nan
        normalisation = Normalisation(np.full(channels, rng.uniform(0.8, 1.2)), np.zeros((channels, 10)))
        out.append(Shot(samples, Drop(pixfrac, bayer), matrix, normalisation, rng.uniform(0.5, 2.0)))
    return out


def plain(some: list[Shot], channels: int, scale: float) -> tuple[np.ndarray, ...]:
    """Mean, m2, weight and count by their definitions, a drop at a time."""
    height, width = math.ceil(HEIGHT * scale), math.ceil(WIDTH * scale)
    sums = np.zeros((3, channels, height, width))
    count = np.zeros((channels, height, width), int)
    edges_y, edges_x = np.arange(height + 1) - 0.5, np.arange(width + 1) - 0.5

    def overlap(centre: float, half: float, edges: np.ndarray) -> np.ndarray:
        return np.diff(np.clip(edges, centre - half, centre + half))

    for shot in some:
        i, j = np.meshgrid(np.arange(WIDTH), np.arange(HEIGHT))
        there = to_reference(shot.matrix, shot.distortion, np.stack([i.ravel(), j.ravel()], axis=1).astype(float))
        centres = (scale * (there + 0.5) - 0.5).reshape(HEIGHT, WIDTH, 2)
        half = 0.5 * shot.drop.pixfrac * scale * math.sqrt(np.linalg.det(shot.matrix[:2, :2]))
        for (j, i), sample in np.ndenumerate(shot.samples):
            if not np.isfinite(sample):
                continue
            c = 0 if shot.drop.bayer is None else "RGB".index(shot.drop.bayer[(j & 1) * 2 + (i & 1)])
            x, y = centres[j, i]
            area = np.outer(overlap(y, half, edges_y), overlap(x, half, edges_x))
            value = float(sample) * shot.normalisation.factor[c] - ORIGIN
            sums[:, c] += shot.weight * area * np.array([1.0, value, value**2])[:, None, None]
            count[c] += area > 0
    with np.errstate(invalid="ignore"):
        mean = np.where(count > 0, sums[1] / np.where(count > 0, sums[0], 1), 0)
    return mean, sums[2] - sums[0] * mean**2, sums[0], count


def empty(channels: int, scale: float = 1.0) -> Stack:
    return Stack(channels, HEIGHT, WIDTH, np.full(channels, ORIGIN)).empty(scale)


def assert_close(stack: Stack, expected: tuple[np.ndarray, ...]) -> None:
    mean, m2, weight, count = expected
    solid = weight > 1e-3  # of less than that rounding leaves no mean
    assert np.abs(stack.weight - weight).max() < 1e-5 * weight.max()
    assert np.abs(stack.mean - mean)[solid].max() < 1e-2
    assert np.abs(stack.m2 - m2).max() < 1e-4 * m2.max() + 0.02  # the first sample counts from the origin
    assert (stack.count != count)[solid].sum() == 0


@settings(max_examples=8, deadline=None)
@given(
    st.integers(0, 2**30),
    st.sampled_from(["RGGB", "GBRG", "BGGR", None]),
    st.sampled_from([(1.0, 1.0, 0.0), (1.0, 0.6, 0.03), (1.0, 1.0, math.pi), (1.5, 1.0, 0.7), (2.0, 0.5, 0.0)]),
)
def test_every_prefix_is_the_plain_sum_over_drops(seed, bayer, how):
    scale, pixfrac, turn = how
    channels = 1 if bayer is None else 3
    some, stack = shots(seed, bayer, pixfrac, turn, n=3), empty(channels, scale)
    with Bands(1) as bands:
        for n, shot in enumerate(some, start=1):
            drizzle.add(stack, shot, None, bands)
            assert_close(stack, plain(some[:n], channels, scale))


@settings(max_examples=6, deadline=None)
@given(st.integers(0, 2**30), st.sampled_from(["RGGB", None]), st.sampled_from([0.0, 0.5]))
def test_a_frame_taken_out_leaves_nothing(seed, bayer, turn):
    channels = 1 if bayer is None else 3
    some, stack = shots(seed, bayer, 1.0, turn), empty(channels)
    with Bands(1) as bands:
        kept = [drizzle.add(stack, shot, limits(channels, kappa=2.0), bands) for shot in some]
        before = replace(some[1], defects=np.array([5, 60]))
        added = drizzle.add(stack, before, limits(channels, kappa=1.5), bands)
        assert added.n_rejected > 0
        drizzle.remove(stack, before, added.rejected, bands)
        rest = empty(channels)
        for shot, one in zip(some, kept, strict=True):
            refused = drizzle.unpack(one.rejected, shot.samples) != 0
            drizzle.add(rest, replace(shot, samples=np.where(refused, np.nan, shot.samples)), None, bands)
    assert_close(stack, (rest.mean, rest.m2, rest.weight, rest.count))
    assert stack.low.sum() + stack.high.sum() > 0
    again = empty(channels)
    with Bands(1) as bands:
        for shot in some:
            drizzle.add(again, shot, limits(channels, kappa=2.0), bands)
    assert np.array_equal(stack.low, again.low)
    assert np.array_equal(stack.high, again.high)


@pytest.mark.parametrize(("scale", "pixfrac", "turn"), [(1.0, 1.0, 0.02), (1.0, 0.4, 0.8), (2.0, 0.7, 0.0)])
def test_weight_and_flux_are_conserved(bands, scale, pixfrac, turn):
    stack = empty(3, scale)
    for shot in shots(3, "GRBG", pixfrac, turn):
        inner = np.full_like(shot.samples, np.nan)
        inner[7:12, 10:17] = np.nan_to_num(shot.samples[7:12, 10:17], nan=150.0)
        before = stack.weight.sum(), float((stack.weight * stack.mean.astype(float)).sum())
        drizzle.add(stack, replace(shot, samples=inner), None, bands)
        area = (pixfrac * scale) ** 2 * np.linalg.det(shot.matrix[:2, :2])
        values = inner[np.isfinite(inner)].astype(float) * shot.normalisation.factor[0] - ORIGIN
        assert stack.weight.sum() - before[0] == pytest.approx(shot.weight * area * len(values), rel=1e-4)
        flux = float((stack.weight * stack.mean.astype(float)).sum()) - before[1]
        assert flux == pytest.approx(shot.weight * area * values.sum(), rel=1e-4)


@pytest.mark.parametrize("turn", [0.0, 0.4])
def test_the_number_of_threads_changes_nothing(turn):
    shape = (150, 131)
    results = []
    for threads in (1, 3):
        stack = Stack(3, *shape, np.full(3, ORIGIN))
        with Bands(threads) as several:
            for shot in shots(8, "RGGB", 0.9, turn, shape=shape):
                added = drizzle.add(stack, shot, limits(3, kappa=2.5), several)
        results.append((*stack.arrays().values(), added.rejected.unpack()))
    for one, other in zip(*results, strict=True):
        assert np.array_equal(one, other)


def test_stacks_of_half_the_frames_merge_to_that_of_all(bands):
    some = shots(5, "RGGB", 1.0, 0.0, n=6)
    first, second, whole = empty(3), empty(3), empty(3)
    for n, shot in enumerate(some):
        drizzle.add(first if n < 3 else second, shot, None, bands)
        drizzle.add(whole, shot, None, bands)
    first.merge(second, bands)
    assert_close(first, (whole.mean, whole.m2, whole.weight, whole.count))


def test_a_lens_that_distorts_is_followed(bands):
    lens = Distortion(np.zeros((2, 10)), (WIDTH / 2, HEIGHT / 2), WIDTH / 2, (-1.0, 1.0, -1.0, 1.0))
    lens.coefficients[0, 6] = lens.coefficients[1, 9] = 1.5
    some = [replace(shot, distortion=lens) for shot in shots(6, "RGGB", 1.0, 0.0, n=2)]
    stack = empty(3)
    for shot in some:
        drizzle.add(stack, shot, None, bands)
    mean, _, weight, _ = plain(some, 3, 1.0)
    # places are straight in between nodes, of which so small a frame has one cell
    assert np.abs(stack.weight.sum() - weight.sum()) < 0.02 * weight.sum()
    assert np.corrcoef(stack.weight.ravel(), weight.ravel())[0, 1] > 0.7
    assert np.isfinite(mean).all()


def field(rng: np.random.Generator, shape: tuple[int, int], matrix: np.ndarray) -> np.ndarray:
    """What a frame sees of a few stars on a sky, a colour camera of one colour."""
    x, y = np.meshgrid(np.arange(shape[1]), np.arange(shape[0]))
    x, y = matrix[0, 0] * x + matrix[0, 1] * y + matrix[0, 2], matrix[1, 0] * x + matrix[1, 1] * y + matrix[1, 2]
    sky = np.full(shape, ORIGIN)
    for cx, cy, peak in ((30.3, 25.1, 3000.0), (61.8, 40.6, 500.0), (20.2, 60.7, 9000.0)):
        sky += peak * np.exp(-((x - cx) ** 2 + (y - cy) ** 2) / (2 * 0.9**2))
    return rng.normal(sky, np.sqrt(100 + np.maximum(sky - ORIGIN, 0) * 0.5)).astype(np.float32)


def test_samples_are_tested_where_they_were_measured_and_again_in_the_end(bands):
    rng = np.random.default_rng(2)
    shape = (81, 93)
    stack, expected = Stack(3, *shape, np.full(3, ORIGIN)), Limits(
        np.full(3, 100.0), np.full(3, 0.5), structure=0.1, excess=0.0, blur=0.0, kappa=3.5, prior_dof=12.0
    )  # fmt: skip
    some, kept = [], []
    for n in range(24):
        matrix = np.eye(3)
        matrix[:2, 2] = rng.uniform(-2, 2, 2)
        samples = field(rng, shape, matrix)
        if n in (15, 2):
            samples[50 if n == 2 else 73, 10:80] += 300  # a satellite; the first comes while all is believed
        normalisation = Normalisation(np.ones(3), np.zeros((3, 10)))
        some.append(Shot(samples, Drop(1.0, "RGGB"), matrix, normalisation, 1.0))
        kept.append(drizzle.add(stack, some[-1], None if n < 8 else expected, bands))
    said = [drizzle.unpack(one.rejected, shot.samples) for one, shot in zip(kept, some, strict=True)]
    assert (said[15][73, 10:80] != 0).mean() > 0.95
    assert all(one.n_rejected < 0.01 * one.n_samples for n, one in enumerate(kept) if n not in (15,))
    again = [
        drizzle.test_again(stack, shot, expected, one.rejected, bands, None)
        for shot, one in zip(some, kept, strict=True)
    ]
    stack.low[:], stack.high[:] = 0, 0
    fresh = Stack(3, *shape, np.full(3, ORIGIN))
    for shot, (added, revision) in zip(some, again, strict=True):
        drizzle.revise(stack, shot, revision, added.rejected)
        refused = drizzle.unpack(added.rejected, shot.samples) != 0
        drizzle.add(fresh, replace(shot, samples=np.where(refused, np.nan, shot.samples)), None, bands)
    last = [drizzle.unpack(added.rejected, shot.samples) for shot, (added, _) in zip(some, again, strict=True)]
    assert (last[2][50, 10:80] != 0).mean() > 0.95
    assert_close(stack, (fresh.mean, fresh.m2, fresh.weight, fresh.count))
    assert (stack.high.sum(), stack.low.sum()) == pytest.approx(
        tuple(4 * sum((one == code).sum() for one in last) for code in (2, 1)), rel=0.1
    )
