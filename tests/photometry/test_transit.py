"""Transits of known mid, depth and length are found within the errors that are told; constant stars hold none."""

from __future__ import annotations

import numpy as np
import pytest

from livestack.base.errors import UsageError
from livestack.photometry.correlated import measure_noise
from livestack.photometry.limb_darkening import fit_planet, parse_limb_darkening, scaled_axis
from livestack.photometry.transit import CERTAIN_SIGMA, Transit, fit_transit
from tests.small_curves import dip

START = 2460000.4
MINUTE = 1 / 1440
SEEDS = 12


def night(
    seed: int, depth: float = 0.015, white: float = 0.003, red: float = 0.0, gap: bool = False, outliers: int = 2
) -> tuple[Transit | None, float, float]:
    """Fit a night of 100 frames with slope and airmass; what was found, true mid, true length."""
    random = np.random.default_rng(seed)
    times = 3 * MINUTE * np.arange(100)
    span = times[-1]
    mid, length = span * random.uniform(0.42, 0.58), 0.35 * span
    airmass = 1.1 + 20 * (times - 0.3 * span) ** 2
    flux = (1 + 0.01 * times / span + 0.01 * airmass) * (1 - depth * dip(times, mid, length, 0.06 * span))
    faded = np.exp(-np.abs(times[:, None] - times) / (20 * MINUTE)) + 1e-9 * np.eye(100)
    flux += red * np.linalg.cholesky(faded) @ random.standard_normal(100) + white * random.standard_normal(100)
    flux[random.integers(0, 100, outliers)] += 0.08
    seen = ~((times > 0.62 * span) & (times < 0.72 * span)) if gap else np.ones(100, bool)
    order = random.permutation(np.flatnonzero(seen))
    # the errors that are told are a fifth too small, as they may be
    found = fit_transit(START + times[order], flux[order], np.full(len(order), 0.8 * white), airmass[order])
    return found, START + mid, length


@pytest.mark.parametrize(("white", "red", "limit"), [(0.003, 0.0, 1.4), (0.002, 0.0015, 1.7)])
def test_truth_lies_within_the_errors(white: float, red: float, limit: float) -> None:
    # lasting noise is found by the night itself, which does not always show all of it: hence the wider limit
    pulls, errors = [], []
    for seed in range(SEEDS):
        found, mid, length = night(seed, white=white, red=red, gap=seed % 2 == 1)  # a cloud in every other night
        assert found is not None
        off = (found.mid.value - mid, found.depth.value - 0.015, found.duration.value - length)
        told = (found.mid.error, found.depth.error, found.duration.error)
        pulls.append(np.divide(off, told))
        errors.append(told)
    # 68 of a hundred within one sigma of a normal distribution
    spread = np.percentile(np.abs(pulls), 68, axis=0)
    assert (spread < limit).all(), spread
    assert (np.percentile(np.abs(pulls), 90, axis=0) < 2 * limit).all()
    assert (np.abs(np.median(pulls, axis=0)) < 0.9).all()
    mid_min, depth, length_min = np.median(errors, axis=0) / (MINUTE, 1, MINUTE)
    assert mid_min < 8, "errors that are so large would always be right"
    assert depth < 0.004
    assert length_min < 30


def test_a_clear_transit_is_claimed() -> None:
    for seed in range(4):
        found, _, _ = night(seed, white=0.002)
        assert found is not None
        assert found.found
        assert found.whole
        assert found.n_left_out >= 1


@pytest.mark.parametrize(("red", "chance"), [(0.0, 0), (0.0015, 0), (0.003, 1)])
def test_a_constant_star_has_no_transit(red: float, chance: int) -> None:
    claims = [found.found for seed in range(6) if (found := night(seed, depth=0.0, red=red)[0]) is not None]
    assert sum(claims) <= chance


def hours(seed: int, frames: int = 60, depth: float = 0.0092) -> tuple[np.ndarray, np.ndarray, float]:
    """Four hours of a star of 3 mmag, level but for two hours that are 10 mmag fainter; times, flux, mid."""
    random = np.random.default_rng(seed)
    times = START + np.linspace(0, 240, frames) * MINUTE
    mid = START + (120 + random.uniform(-8, 8)) * MINUTE
    light = 1 - depth * dip(times, mid, 120 * MINUTE, 15 * MINUTE)
    return times, light + 0.003 * random.standard_normal(frames), mid


def test_what_the_curve_does_not_bear_out_does_not_blur_the_depth() -> None:
    # photons alone: 0.003 x sqrt(1 / 27 + 1 / 30) = 0.8 parts per thousand
    errors, off, sigmas = [], [], []
    for seed in range(8):
        times, flux, mid = hours(seed)
        airmass = 1.1 + 15 * (times - START - 0.08) ** 2
        found = fit_transit(times, flux, np.full(60, 0.003), airmass, 0.0003)
        assert found is not None
        errors.append((found.depth.error, found.mid.error / MINUTE))
        off.append((found.depth.value - 0.0092, (found.mid.value - mid) / MINUTE))
        sigmas.append(found.sigma)
    assert np.median(errors, axis=0)[0] < 1.15e-3
    assert np.max(errors, axis=0)[0] < 2e-3
    assert np.median(errors, axis=0)[1] < 3
    assert np.sqrt(np.mean(np.square(off), axis=0))[0] < 1.2e-3
    assert np.median(np.abs(off), axis=0)[1] < 3
    assert np.mean(np.array(sigmas) > CERTAIN_SIGMA) > 0.9


def test_a_trend_is_taken_where_it_is_borne_out() -> None:
    times, flux, _ = hours(3, frames=120)
    slope = 0.012 * (times - times.mean()) / np.ptp(times) * 2
    found = fit_transit(times, flux + slope, np.full(120, 0.003))
    assert found is not None
    assert found.slope
    assert found.depth.value == pytest.approx(0.0092, abs=3 * found.depth.error)
    level = fit_transit(times, flux, np.full(120, 0.003))
    assert level is not None
    assert not level.slope


def test_quiet_neighbours_make_a_dip_surer() -> None:
    times, flux, _ = hours(5)
    alone, among = (fit_transit(times, flux, np.full(60, 0.003), None, usual) for usual in (None, 0.0))
    assert alone is not None
    assert among is not None
    assert among.sigma > alone.sigma + 0.5


def test_half_of_a_transit_is_told_to_be_half() -> None:
    times = START + 3 * MINUTE * np.arange(90)
    noise = 0.001 * np.random.default_rng(5).standard_normal(90)
    flux = 1 - 0.02 * dip(times, times[-1], 0.5 * (times[-1] - times[0]), 0.02) + noise
    found = fit_transit(times, flux, np.full(90, 0.001))
    assert found is not None
    assert not found.whole


def test_many_points_tell_the_same_as_few() -> None:
    random = np.random.default_rng(1)
    times = START + 0.2 * MINUTE * np.arange(1500)
    span = times[-1] - times[0]
    flux = 1 - 0.012 * dip(times, times.mean(), 0.4 * span, 0.05 * span) + 0.006 * random.standard_normal(1500)
    found = fit_transit(times, flux, np.full(1500, 0.006))
    assert found is not None
    assert found.found
    assert found.depth.value == pytest.approx(0.012, abs=4 * found.depth.error)
    assert found.depth.error < 0.0012
    assert len(found.model) == 1500
    assert np.std(flux - found.model) == pytest.approx(0.006, rel=0.1)


def test_too_few_points_are_no_fit() -> None:
    assert fit_transit(START + MINUTE * np.arange(8), np.ones(8), np.full(8, 0.01)) is None


def test_noise_that_lasts_is_told_from_white() -> None:
    times = MINUTE * np.arange(150.0)
    base = np.c_[np.ones(150), times]
    faded = np.exp(-np.abs(times[:, None] - times) / (8 * MINUTE)) + 1e-9 * np.eye(150)
    root = np.linalg.cholesky(faded)
    lasting, chance = [], []
    for seed in range(20):
        random = np.random.default_rng(seed)
        white = random.standard_normal(150)
        red = root @ random.standard_normal(150)
        lasting.append(measure_noise(times, white + red, np.ones(150), base).lasting)
        # the diagonal of the root of white noise holds its errors, which are told to be half as large
        chance.append(float(np.median(np.diag(measure_noise(times, white, np.full(150, 0.5), base).root))))
    assert np.median(lasting) == pytest.approx(1.0, rel=0.25)
    assert np.median(chance) == pytest.approx(1.0, rel=0.07)


def test_the_length_of_an_orbit_fits_its_axis() -> None:
    axis, ratio, impact, period = 9.0, 0.1, 0.4, 3.0
    # by walking along the orbit: the sky distance of star and planet is below 1 + k from first to fourth contact
    phase = np.linspace(-0.1, 0.1, 400001) * period
    away = axis * np.hypot(np.sin(2 * np.pi * phase / period), impact / axis * np.cos(2 * np.pi * phase / period))
    length = np.ptp(phase[away < 1 + ratio])
    assert scaled_axis(length, ratio, impact, period) == pytest.approx(axis, rel=1e-3)


@pytest.mark.parametrize("text", ["0.4", "a,b", "0.9,0.3", "-0.1,0.2"])
def test_stars_that_are_none_are_refused(text: str) -> None:
    with pytest.raises(UsageError, match="--limb-darkening"):
        parse_limb_darkening(text)
    assert parse_limb_darkening("0.5,0.1") == (0.5, 0.1)


def test_an_eclipse_is_no_planet() -> None:
    pytest.importorskip("batman", reason="batman is an extra")
    times = START + 2 * MINUTE * np.arange(90.0)
    fade = dip(times, times.mean(), 0.06, 0.003)
    flux = 1 - 0.4 * fade + 0.002 * np.random.default_rng(2).standard_normal(90)
    first = fit_transit(times, flux, np.full(90, 0.002))
    assert first is not None
    assert fit_planet(times, flux, np.full(90, 0.002), None, first, (0.4, 0.25), 3.0) is first


def test_a_planet_before_a_limb_darkened_star() -> None:
    batman = pytest.importorskip("batman", reason="batman is an extra")
    words = batman.TransitParams()
    words.t0, words.per, words.rp, words.a, words.inc, words.ecc, words.w = START, 3.0, 0.11, 9.0, 88.0, 0.0, 90.0
    words.limb_dark, words.u = "quadratic", [0.4, 0.25]
    times = START + 2 * MINUTE * np.arange(-90.0, 90.0)
    light = batman.TransitModel(words, times).light_curve(words)
    pulls = []
    for seed in range(2):
        flux = light + 0.0015 * np.random.default_rng(seed).standard_normal(180)
        errors = np.full(180, 0.0015)
        first = fit_transit(times, flux, errors)
        assert first is not None
        found = fit_planet(times, flux, errors, None, first, (0.4, 0.25), 3.0)
        ratio = found.more["rp_rs"]
        pulls.append([(found.mid.value - START) / found.mid.error, (ratio.value - 0.11) / ratio.error])
        assert found.depth.value == pytest.approx(1 - light.min(), abs=4 * found.depth.error)
        assert found.more["a_rs"].value == pytest.approx(9.0, abs=3 * found.more["a_rs"].error)
        assert np.std(flux - found.model) < 0.0017
    assert np.abs(pulls).max() < 3.5
