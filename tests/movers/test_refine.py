"""The places of a moving point against the bound of Cramer and Rao, on frames that numpy draws and scipy filters."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.ndimage import correlate1d

from livestack.movers.reduced import filtered_sigma, point_filter
from livestack.movers.refine import refine_ends

SIGMA, SHAPE = 0.9, (50, 64)
NIGHTS = [(1.8, 36, 0.7), (6.0, 15, 0.7), (9.0, 15, 0.7), (8.0, 30, 0.2), (14.0, 12, 1.0), (6.0, 18, 0.3)]


def drawn(draw: np.random.Generator, snr: float, n: int, rate: float) -> tuple[np.ndarray, np.ndarray]:
    """Maps of n frames against the mean of those of another time, and the true ends; `rate` reduced pixels a frame."""
    way = rate * np.array([math.cos(0.9), math.sin(0.9)])
    begin = np.array([20.0, 12.0]) + draw.random(2)
    y, x = np.mgrid[: SHAPE[0], : SHAPE[1]]
    peak = snr * math.sqrt(4 * math.pi) * SIGMA / (2 * math.pi * SIGMA**2)
    frames = np.stack(
        [
            peak * np.exp(-0.5 * ((x - at[0]) ** 2 + (y - at[1]) ** 2) / SIGMA**2) + draw.standard_normal(SHAPE)
            for at in (begin + way * t for t in range(n))
        ]
    )
    apart, taps = min(12, n // 4), point_filter(SIGMA)
    maps = np.empty((n, *SHAPE), dtype=np.int8)
    for t in range(n):
        others = [s for s in range(n) if abs(s - t) > apart]
        filtered = correlate1d(correlate1d(frames[t] - frames[others].mean(axis=0), taps, axis=0), taps, axis=1)
        maps[t] = np.clip(np.round(filtered * 16), -127, 127)
    return maps, np.concatenate([begin, begin + way * (n - 1)])


@pytest.mark.parametrize(("snr", "n", "rate"), NIGHTS)
def test_the_rate_is_known_nearly_as_well_as_can_be(snr: float, n: int, rate: float) -> None:
    draw, errors = np.random.default_rng(int(10 * snr) + n), []
    for _ in range(14):
        maps, true = drawn(draw, snr, n, rate)
        rough = true + draw.normal(0, 0.5, 4)
        ends = refine_ends(maps, np.arange(n) * 0.5, 0, n - 1, rough, filtered_sigma(SIGMA), min(12, n // 4))
        direction = (true[2:] - true[:2]) / np.hypot(*(true[2:] - true[:2]))
        errors.append(float((ends[2:] - ends[:2]) @ direction / (n - 1) - rate))
    bound = math.sqrt(2) * SIGMA / snr / math.sqrt(n * (n * n - 1) / 12)
    assert np.sqrt(np.mean(np.square(errors))) < 2.2 * bound


def test_what_shows_nothing_is_left_where_it_is() -> None:
    ends = np.array([10.0, 10.0, 30.0, 20.0])
    blank = np.zeros((12, *SHAPE), dtype=np.int8)
    assert np.array_equal(refine_ends(blank, np.arange(12.0), 0, 11, ends, 1.2, 3), ends)
