"""The path through measured places: exact on exact places, whatever few others say."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from livestack.following.path import fit_path

coordinate = st.floats(-2000, 2000)
speed = st.floats(-20, 20)


@settings(max_examples=60, deadline=None)
@given(coordinate, coordinate, speed, speed, st.integers(3, 40), st.floats(0.2, 5.0))
def test_a_straight_path_is_found_exactly(x, y, vx, vy, n, step):
    t = 100.0 + step * np.arange(n)
    path = fit_path(t, np.column_stack([x + vx * (t - 100), y + vy * (t - 100)]), 100.0)
    assert path is not None
    assert np.allclose(path.at(t[-1]), (x + vx * (t[-1] - 100), y + vy * (t[-1] - 100)), atol=1e-5)
    assert abs(path.rate_px_min - np.hypot(vx, vy)) < 1e-5
    assert np.allclose(path.shift(100.0), 0.0, atol=1e-9)


def test_places_of_stars_that_were_passed_are_not_believed():
    draw = np.random.default_rng(4)
    t = np.arange(20.0)
    xy = np.column_stack([50 + 1.5 * t, 80 - 0.7 * t]) + draw.normal(0, 0.05, (20, 2))
    xy[[3, 8, 9, 15]] += draw.uniform(2, 6, (4, 2))
    path = fit_path(t, xy, 0.0)
    assert path is not None
    assert path.n == 16
    assert np.hypot(*(path.at(19.0) - (50 + 28.5, 80 - 13.3))) < 0.1


def test_a_curve_is_taken_only_where_it_pays():
    draw = np.random.default_rng(5)
    t = np.arange(30.0)
    noise = draw.normal(0, 0.05, (30, 2))
    straight = fit_path(t, np.column_stack([t, 2 * t]) + noise, 0.0)
    curved = fit_path(t, np.column_stack([t + 0.01 * t * t, 2 * t]) + noise, 0.0)
    assert straight is not None
    assert curved is not None
    assert len(straight.coefficients) == 2
    assert len(curved.coefficients) == 3
    assert np.hypot(*(curved.at(15.0) - (15 + 2.25, 30.0))) < 0.1


def test_too_little_is_no_path():
    assert fit_path(np.array([0.0, 1.0]), np.zeros((2, 2)), 0.0) is None
    assert fit_path(np.zeros(5), np.zeros((5, 2)), 0.0) is None
