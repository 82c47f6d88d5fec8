"""Nights of numbers with known truth: what the sky did is told apart from what the stars did."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from livestack.photometry.ensemble import Circumstances, solve
from livestack.photometry.noise import Noise, fit_noise
from livestack.photometry.variability import VARIES, variability


def night(n: int = 60, t: int = 80, seed: int = 1) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """True mean (n,), zero (t,), and errors (n, t) from 2 to 60 mmag."""
    random = np.random.default_rng(seed)
    mean = np.sort(random.uniform(-14, -8, n))
    zero = np.cumsum(random.normal(0, 0.05, t)) + 0.6 * (np.arange(t) > t // 2)
    error = 0.002 * 10 ** (0.25 * (mean + 14))[:, None] * np.ones(t)
    return mean, zero - np.median(zero), error


def observed(mean: np.ndarray, zero: np.ndarray, error: np.ndarray, seed: int) -> np.ndarray:
    return mean[:, None] + zero[None, :] + np.random.default_rng(seed).normal(size=error.shape) * error


@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 10**6), lost=st.floats(0, 0.4))
def test_the_sky_is_found_and_errors_are_true(seed: int, lost: float) -> None:
    mean, zero, error = night(seed=seed)
    mags = observed(mean, zero, error, seed)
    mags[np.random.default_rng(seed + 1).random(mags.shape) < lost] = np.nan
    found = solve(mags, np.where(np.isfinite(mags), error, np.nan))
    off = found.zero - zero
    assert np.std(off) < 0.002
    pull = found.residual / found.error
    assert np.nanstd(pull) == pytest.approx(1, abs=0.08)
    assert found.trends == ()


def test_no_star_is_compared_with_itself() -> None:
    """Even one that outshines all others keeps its dip."""
    mean, zero, error = night(n=12)
    mags = observed(mean, zero, error, 3)
    mags[0, 30:50] += 0.010
    found = solve(mags, error)
    dip = np.mean(found.residual[0, 30:50]) - np.mean(np.delete(found.residual[0], slice(30, 50)))
    assert dip == pytest.approx(0.010, abs=0.0025)
    alone = solve(mags[[0, 5, 6, 7]], error[[0, 5, 6, 7]])
    left = mags[0] - alone.mean[0] - alone.residual[0]
    assert np.std(left - zero - np.mean(left - zero)) > 0  # its comparison is the others' noise, not its own light
    assert np.abs(np.corrcoef(alone.residual[0], mags[0] - mean[0] - zero)[0, 1]) > 0.3


def test_a_flat_s_fault_is_found_where_the_field_drifts_and_nothing_where_there_is_none() -> None:
    mean, zero, error = night(n=120)
    random = np.random.default_rng(2)
    u, v = random.uniform(-1, 1, (2, len(mean)))
    drift = np.linspace(-0.3, 0.3, len(zero))
    x, y = np.clip(u[:, None] + drift, -1, 1), np.clip(v[:, None] - 0.5 * drift, -1, 1)
    where = Circumstances(x, y, u, v, random.normal(0, 0.1, len(zero)))
    mags = observed(mean, zero, error, 4)
    assert solve(mags, error, where).trends == ()
    fault = 0.02 * x * x - 0.015 * x * y
    faulty = solve(mags + fault, error, where)
    assert "place on the sensor" in faulty.trends
    bright = mean < np.quantile(mean, 0.3)
    before = np.nanstd(solve(mags + fault, error).residual[bright])
    assert np.nanstd(faulty.residual[bright]) < 0.7 * before
    clouds = 0.03 * u[:, None] * np.sin(np.arange(len(zero)))[None, :]
    assert "clouds across the field" in solve(mags + clouds, error, where).trends


def test_gain_and_floor_are_read_off_the_scatter() -> None:
    random = np.random.default_rng(7)
    flux = 10 ** random.uniform(3, 6, 150)[:, None] * np.ones(90)
    sky_variance, photon = np.full_like(flux, 4e3), flux.copy()
    variance = sky_variance + 2.5 * photon + (0.003 / 1.0857 * flux) ** 2
    mags = -2.5 * np.log10(flux * (1 + random.normal(size=flux.shape) * np.sqrt(variance) / flux).clip(0.1))
    noise, tables = Noise(0.0, 0.0), [(flux, sky_variance, photon)]
    found = solve(mags, 1.0857 * np.sqrt(sky_variance) / flux)
    fitted = fit_noise([found], tables, noise, unknown_gain=True)
    assert fitted.per_photon == pytest.approx(2.5, rel=0.15)
    assert fitted.floor == pytest.approx(0.003, rel=0.3)
    known = fit_noise([found], tables, Noise(2.5, 0.0), unknown_gain=False)
    assert (known.per_photon, known.floor) == (2.5, pytest.approx(0.003, rel=0.3))


def test_constant_stars_do_not_vary_and_a_transit_comes_first() -> None:
    worst = 0.0
    seeing = np.zeros(120)
    for seed in range(8):
        random = np.random.default_rng(seed)
        mean = random.uniform(-14, -8, 400)
        error = 0.003 * 10 ** (0.2 * (mean + 14))[:, None] * np.ones(120)
        residual = random.normal(size=error.shape) * error
        residual[random.random(residual.shape) < 0.1] = np.nan
        worst = max(worst, float(np.nanmax(variability(residual, error, mean, seeing))))
        star = int(np.argmin(np.abs(error[:, 0] - 0.004)))
        residual[star, 40:80] += 0.008
        found = variability(residual, error, mean, seeing)
        assert int(np.nanargmax(found)) == star
        assert found[star] > VARIES
    assert worst < VARIES


def test_what_goes_with_the_seeing_is_no_star_s_own_and_one_point_alone_proves_nothing() -> None:
    random = np.random.default_rng(3)
    seeing = 0.4 * np.sin(np.arange(100) / 9.0)
    error = np.full((60, 100), 0.005)
    residual = random.normal(size=error.shape) * error
    residual[4] -= 0.05 * seeing  # a neighbour that nobody saw
    residual[9, 50] += 0.5  # a cosmic ray that nobody flagged
    found = variability(residual, error, np.linspace(-14, -9, 60), seeing)
    assert found[4] < VARIES
    assert found[9] < VARIES
    assert variability(residual, error, np.linspace(-14, -9, 60), np.zeros(100))[4] > VARIES
