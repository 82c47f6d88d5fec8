"""Repair against pictures whose truth is known; learning against simulated nights of stars moving over a bad sensor."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.ndimage import binary_dilation
from scipy.special import erf

from livestack.calibration.cosmetic import DefectLearner, estimate_noise, find_cosmic_rays, repair
from livestack.calibration.defects import DefectMap
from livestack.kernels.bands import Bands
from livestack.kernels.cosmetic import excess_rows

SHAPE = (180, 260)


def star_field(shape, xs, ys, fluxes, fwhm_px):
    """Gaussian stars integrated over the pixels (error function), ADU."""
    sigma = fwhm_px / 2.3548
    image = np.zeros(shape)
    edges_y, edges_x = np.arange(shape[0] + 1) - 0.5, np.arange(shape[1] + 1) - 0.5
    for x, y, flux in zip(xs, ys, fluxes, strict=True):
        in_x = np.diff(0.5 * erf((edges_x - x) / (sigma * 2**0.5)))
        in_y = np.diff(0.5 * erf((edges_y - y) / (sigma * 2**0.5)))
        image += flux * np.outer(in_y, in_x)
    return image


class Night:
    """Frames of a moving field on a sensor with known defects."""

    def __init__(self, bayer, fwhm_px, seed, response=(0.6, 1.0, 0.4), n_stars=120):
        self.rng = np.random.default_rng(seed)
        self.fwhm_px = fwhm_px
        self.colour = np.ones(SHAPE)
        if bayer:
            for k, letter in enumerate(bayer):
                self.colour[k // 2 :: 2, k % 2 :: 2] = response["RGB".index(letter)]
        self.xs = self.rng.uniform(-20, SHAPE[1] + 20, n_stars)
        self.ys = self.rng.uniform(-20, SHAPE[0] + 20, n_stars)
        self.fluxes = 10 ** self.rng.uniform(2.5, 5.3, n_stars)
        size = SHAPE[0] * SHAPE[1]
        bad = self.rng.choice(size, 230, replace=False)
        self.hot, self.cold = bad[:200], bad[200:]
        self.level = self.rng.uniform(80, 3000, 200)  # from 8 sigma of the sky

    def frame(self, x, y):
        light = star_field(SHAPE, self.xs + x, self.ys + y, self.fluxes, self.fwhm_px) * self.colour + 100
        image = self.rng.poisson(light).astype(np.float32)
        image.flat[self.hot] += self.rng.poisson(self.level)
        image.flat[self.cold] -= 80
        return image


def learn(night, bayer, positions):
    learner = DefectLearner(SHAPE, bayer)
    last = np.zeros(2)
    for position in positions:
        learner.update(night.frame(*position), tuple(position - last))
        last = position
    return learner


def dithered(n, seed=5):
    return np.random.default_rng(seed).uniform(-12, 12, (n, 2))


@pytest.mark.parametrize("bayer", [None, "RGGB", "GBRG"])
@pytest.mark.parametrize("fwhm_px", [1.8, 3.5])
def test_fifteen_dithered_frames_show_the_defects_and_eat_no_star(bayer, fwhm_px):
    night = Night(bayer, fwhm_px, seed=3)
    found = learn(night, bayer, dithered(15)).defects()
    assert len(np.intersect1d(found.hot, night.hot)) >= 0.995 * len(night.hot)
    assert len(np.setdiff1d(found.hot, night.hot)) == 0
    assert len(np.intersect1d(found.cold, night.cold)) >= 0.95 * len(night.cold)
    assert len(np.setdiff1d(found.cold, night.cold)) == 0
    assert len(found.column) == 0


@pytest.mark.parametrize("bayer, response", [(None, (1, 1, 1)), ("GRBG", (0.6, 1, 0.4)), ("RGGB", (1, 0.08, 0.02))])
def test_a_field_that_stands_still_loses_no_star(bayer, response):
    """The last sensor sees H alpha: a star's adjacent pixels are nearly dark."""
    night = Night(bayer, 1.8, seed=9, response=response)
    learner = learn(night, bayer, np.random.default_rng(1).normal(0, 0.15, (12, 2)))
    assert learner.appearances_needed() > learner.observations
    found = learner.defects()
    assert len(np.setdiff1d(found.hot, night.hot)) == 0
    strong = night.hot[night.level > 1500]
    assert len(np.intersect1d(found.hot, strong)) >= 0.6 * len(strong), "extremely sharp ones are believed"


def test_a_field_that_jumps_between_two_places_loses_no_star():
    night = Night("RGGB", 1.8, seed=4, response=(1, 0.08, 0.02), n_stars=300)
    positions = np.array([(0.0, 0.0), (17.0, 6.0)] * 8)
    assert len(np.setdiff1d(learn(night, "RGGB", positions).defects().hot, night.hot)) == 0


def test_slow_drift_is_motion_too():
    night = Night(None, 2.5, seed=6)
    found = learn(night, None, np.arange(20)[:, None] * np.array([0.7, 0.2])).defects()
    assert len(np.intersect1d(found.hot, night.hot)) >= 0.98 * len(night.hot)
    assert len(np.setdiff1d(found.hot, night.hot)) == 0


@pytest.mark.parametrize("bayer", [None, "RGGB"])
@pytest.mark.parametrize("sign", [1, -1])
def test_a_bad_column_is_learned_as_such(bayer, sign):
    night = Night(bayer, 2.5, seed=8)
    learner = DefectLearner(SHAPE, bayer)
    for position in dithered(10):
        frame = night.frame(*position)
        frame[:, 97] += sign * 20  # two sigma: hardly a single pixel of it stands out
        learner.update(frame, tuple(position))
    found = learner.defects()
    assert set((found.column % SHAPE[1]).tolist()) == {97}
    assert len(found.column) == SHAPE[0]


def test_what_was_learned_stays_though_frames_come_repaired():
    night = Night("RGGB", 2.5, seed=10)
    learner = learn(night, "RGGB", dithered(10))
    before = learner.defects()
    for position in dithered(40, seed=11):
        frame = night.frame(*position)
        repair(frame, before, "RGGB")
        learner.update(frame, tuple(position))
    assert np.all(np.isin(before.hot, learner.defects().hot))


def test_counters_never_overflow():
    night = Night(None, 2.5, seed=12, n_stars=5)
    learner = DefectLearner(SHAPE, None)
    frames = [night.frame(*p) for p in dithered(4)]
    for k in range(300):
        learner.update(frames[k % 4], (11.0 * (-1) ** k + k % 7, 5.0))
    assert learner.observations <= 120
    assert len(np.setdiff1d(learner.defects().hot, night.hot)) == 0
    assert len(np.intersect1d(learner.defects().hot, night.hot)) >= 0.99 * len(night.hot)


def test_threads_change_nothing_in_what_is_learned():
    maps = []
    for threads in (1, 3):
        night = Night("GRBG", 1.8, seed=3)
        learner = DefectLearner(SHAPE, "GRBG")
        with Bands(threads) as bands:
            for position in dithered(8):
                learner.update(night.frame(*position), tuple(position), bands)
        maps.append(learner.defects())
    np.testing.assert_array_equal(maps[0].indices, maps[1].indices)


@pytest.mark.parametrize("bayer", [None, "RGGB", "GRBG", "GBRG", "BGGR"])
def test_repair_takes_neighbours_of_the_same_colour(bayer):
    rng = np.random.default_rng(2)
    colour = {"R": 900.0, "G": 200.0, "B": -40.0}
    truth = np.full(SHAPE, 70.0, np.float32)
    for k, letter in enumerate(bayer or ""):
        truth[k // 2 :: 2, k % 2 :: 2] = colour[letter]
    mask = rng.random(SHAPE) < 0.02
    mask[:, 50] = True
    mask[0, :3] = mask[-1, -2:] = True
    data = np.where(mask, np.float32(30000), truth)
    defects = DefectMap.of(SHAPE, hot=mask)
    assert repair(data, defects, bayer) == mask.sum()
    np.testing.assert_array_equal(data, truth)


def test_repair_is_the_median_of_the_eight_around():
    data = np.random.default_rng(1).normal(0, 1, SHAPE).astype(np.float32)
    before = data.copy()
    repair(data, DefectMap.of(SHAPE, hot=np.array([40 * SHAPE[1] + 70])), None)
    assert data[40, 70] == pytest.approx(np.median(np.delete(before[39:42, 69:72].ravel(), 4)))
    data[40, 70] = before[40, 70]
    np.testing.assert_array_equal(data, before)


def test_across_a_column_the_picture_goes_on():
    x = np.broadcast_to(np.arange(SHAPE[1], dtype=np.float32), SHAPE).copy()
    data = x.copy()
    mask = np.zeros(SHAPE, bool)
    mask[:, 60] = True
    data[mask] = 9999
    repair(data, DefectMap.of(SHAPE, column=mask), None)
    np.testing.assert_allclose(data, x)


def test_without_any_good_neighbour_a_pixel_is_missing():
    mask = np.ones(SHAPE, bool)
    data = np.ones(SHAPE, np.float32)
    assert repair(data, DefectMap.of(SHAPE, hot=mask), "RGGB") == 0
    assert np.isnan(data).all()


def test_repair_works_on_each_plane_of_a_colour_frame():
    data = np.ones((3, *SHAPE), np.float32) * np.array([1, 2, 3], np.float32)[:, None, None]
    data[:, 8, 9] = 500
    repair(data, DefectMap.of(SHAPE, hot=np.array([8 * SHAPE[1] + 9])), None)
    np.testing.assert_array_equal(data[:, 8, 9], [1, 2, 3])


@pytest.mark.parametrize("bayer", [None, "RGGB"])
def test_noise_is_estimated_colour_by_colour(bayer):
    rng = np.random.default_rng(4)
    data = rng.normal(500, 8, (400, 300))
    if bayer:
        data[1::2, 0::2] = rng.normal(100, 20, (200, 150))
    sigmas = estimate_noise(data.astype(np.float32), bayer)
    expected = [[8, 8], [20, 8]] if bayer else [[8, 8], [8, 8]]
    np.testing.assert_allclose(sigmas, expected, rtol=0.06)


@pytest.mark.parametrize("bayer, fwhm_px", [(None, 2.5), ("RGGB", 4.0)])
def test_cosmic_rays_are_found_and_stars_spared(bayer, fwhm_px):
    rng = np.random.default_rng(6)
    xs, ys = rng.uniform(5, SHAPE[1] - 5, 60), rng.uniform(5, SHAPE[0] - 5, 60)
    light = star_field(SHAPE, xs, ys, 10 ** rng.uniform(3, 5, 60), fwhm_px) + 100
    image = rng.poisson(light).astype(np.float32)
    hits = np.zeros(SHAPE, bool)
    for k in range(60):
        y, x = rng.integers(3, SHAPE[0] - 3), rng.integers(3, SHAPE[1] - 6)
        hits[y, x : x + 1 + k % 3] = True
    faint = light < 150  # a ray on top of a star is nobody's concern here
    hits &= faint
    image[hits] += rng.uniform(400, 4000, hits.sum())
    noise = np.sqrt(light).astype(np.float32)
    mask = find_cosmic_rays(image, noise, bayer)
    assert (mask & hits).sum() >= 0.93 * hits.sum()
    around = binary_dilation(hits, np.ones((5, 5), bool))
    assert (mask & ~around).sum() <= 3, "a star or the sky was taken for a ray"
    assert (mask & ~hits).sum() <= 0.2 * hits.sum()
    with Bands(3) as bands:
        np.testing.assert_array_equal(find_cosmic_rays(image, noise, bayer, bands=bands), mask)


@pytest.mark.parametrize("step", [1, 2])
def test_excess_is_over_the_median_of_the_ring(step):
    rng = np.random.default_rng(7)
    image = rng.normal(0, 1, (23, 31)).astype(np.float32)
    image[11, 12] = np.nan
    out = np.empty_like(image)
    excess_rows(image, step, out, 0, 23)
    for y, x in np.ndindex(*image.shape):
        near = [(y + j, x + i) for j in (-step, 0, step) for i in (-step, 0, step) if (j, i) != (0, 0)]
        ring = [image[p] for p in near if 0 <= p[0] < 23 and 0 <= p[1] < 31]
        assert out[y, x] == pytest.approx(image[y, x] - np.nanmedian(ring), abs=1e-6, nan_ok=True)


def test_maps_are_joined_and_described():
    a = DefectMap.of((4, 5), hot=np.array([3, 3, 1]))
    b = DefectMap.of((4, 5), cold=np.array([[False] * 5] * 3 + [[True] + [False] * 4]))
    both = a | b
    np.testing.assert_array_equal(both.indices, [1, 3, 15])
    assert both.mask.sum() == len(both) == 3
    assert both.describe() == "2 hot, 1 cold pixels, 0 in bad columns"


@pytest.mark.parametrize(
    "call, text",
    [
        (lambda: repair(np.zeros(SHAPE), DefectMap.of(SHAPE), None), "calibrate it first"),
        (lambda: repair(np.zeros((9, 9), np.float32), DefectMap.of(SHAPE), None), r"data are \(9, 9\)"),
        (lambda: DefectLearner((5, 90)), "8 x 8 or more"),
        (lambda: DefectLearner(SHAPE).update(np.zeros(SHAPE, np.uint16), (0, 0)), "expected C-contiguous float32"),
        (lambda: DefectLearner(SHAPE).update(np.zeros(SHAPE, np.float32), (np.nan, 0)), "two finite numbers"),
        (lambda: DefectMap.of((4, 5), hot=np.array([20])), r"expected 0 \.\. 19"),
        (lambda: DefectMap.of((4, 5)) | DefectMap.of((5, 4)), "different shape"),
        (lambda: find_cosmic_rays(np.zeros(SHAPE, np.float32), 0.0), "positive number"),
    ],
)
def test_wrong_arguments_are_named(call, text):
    with pytest.raises(ValueError, match=text):
        call()
