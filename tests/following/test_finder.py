"""What moves is found among drawn source lists; what only seems to is not."""

from __future__ import annotations

import math

import numpy as np
import pytest

from livestack.following.finder import Sources, find_moving

N_STARS, WIDE, HIGH = 90, 1000, 700


def frames(
    n: int, seed: int, mover: tuple[float, float] | None = None, hot: int = 0, drift: float = 0.0, turn: float = 0.0,
    lost: float = 0.15, begins: int = 0,
) -> list[Sources]:  # fmt: skip
    """Source lists: stars that flicker in and out, an object of (vx, vy) px/frame, defects that stay on the sensor."""
    draw = np.random.default_rng(seed)
    stars, flux = draw.uniform(0, 1, (N_STARS, 2)) * (WIDE, HIGH), 10 ** draw.uniform(2.5, 4.5, N_STARS)
    defects = draw.uniform(0, 1, (hot, 2)) * (WIDE, HIGH)
    result = []
    for k in range(n):
        seen = draw.random(N_STARS) > lost
        xy = stars[seen] + draw.normal(0, 0.06, (seen.sum(), 2))
        # what registration leaves at the edges
        xy += turn * k * (xy - (WIDE / 2, HIGH / 2)) / WIDE
        light, width = flux[seen], np.full(seen.sum(), 3.0)
        if mover is not None and k >= begins:
            place = np.array([400.0, 300.0]) + np.array(mover) * (k - begins) + draw.normal(0, 0.08, 2)
            xy, light, width = np.vstack([xy, place]), np.r_[light, 2000.0], np.r_[width, 4.0]
        there = defects + np.array([drift, 0.4 * drift]) * k
        xy, light = np.vstack([xy, there]), np.r_[light, np.full(hot, 3000.0)]
        width = np.r_[width, np.full(hot, 1.2)]
        order = np.argsort(-light)
        xy, light, width = xy[order], light[order], width[order]
        on_frame = xy - (drift * k, 0.4 * drift * k)
        result.append(Sources(f"f{k}", 0, float(k), xy, on_frame, light, light / 20, width))
    return result


@pytest.mark.parametrize("speed", [0.5, 1.0, 3.0, 5.0])
def test_an_object_is_found_with_its_rate(speed):
    for seed in range(4):
        vx, vy = speed * math.cos(1.0 + seed), speed * math.sin(1.0 + seed)
        found = find_moving(frames(16, seed, (vx, vy), hot=5, drift=0.7), 0.0)
        assert found is not None
        assert np.allclose(found.path.coefficients[1], (vx, vy), atol=0.03)
        assert len(found.places) >= 12


def test_what_comes_into_the_field_later_is_found():
    found = find_moving(frames(36, 3, (1.5, -1.0), begins=22), 0.0)
    assert found is not None
    assert np.allclose(found.path.coefficients[1], (1.5, -1.0), atol=0.03)


@pytest.mark.parametrize("seed", range(12))
def test_stars_and_defects_of_the_sensor_are_no_objects(seed):
    assert find_moving(frames(20, seed, hot=30, drift=0.6), 0.0) is None
    assert find_moving(frames(20, seed, hot=10, drift=3.0, turn=0.15), 0.0) is None


def passing(n: int, seed: int, every: float, hidden_within: float) -> list[Sources]:
    """An object that goes over a star every so many px and is lost in it, or pulled by it, nearby."""
    draw = np.random.default_rng(seed)
    along = np.array([math.cos(seed), math.sin(seed)])
    start = np.array([400.0, 300.0])
    on_path = start + np.arange(7.0, 3.0 * n, every)[:, None] * along
    result = []
    for one in frames(n, seed):
        place = start + 3.0 * one.minutes * along
        apart = np.hypot(*(on_path - place).T)
        xy, flux = (
            np.vstack([one.xy, on_path + draw.normal(0, 0.06, on_path.shape)]),
            np.r_[one.flux, np.full(len(on_path), 20000.0)],
        )
        if apart.min() > hidden_within:
            xy, flux = np.vstack([xy, place + draw.normal(0, 0.08, 2)]), np.r_[flux, 2000.0]
        order = np.argsort(-flux)
        width = np.full(len(flux), 3.0)
        result.append(Sources(one.name, 0, one.minutes, xy[order], xy[order], flux[order], flux[order] / 20, width))
    return result


@pytest.mark.parametrize("seed", range(4))
def test_an_object_that_stars_hide_most_of_the_time_is_found(seed):
    """Met in a third of the frames; nothing contradicts it in the others."""
    found = find_moving(passing(27, seed, every=17.0, hidden_within=5.9), 0.0)
    assert found is not None
    assert np.allclose(found.path.coefficients[1], (3 * math.cos(seed), 3 * math.sin(seed)), atol=0.03)


@pytest.mark.parametrize("seed", range(6))
def test_nothing_moves_among_so_many_stars_that_they_would_hide_it(seed):
    assert find_moving(passing(27, seed, every=17.0, hidden_within=99.0), 0.0) is None


def test_too_few_frames_tell_nothing():
    assert find_moving(frames(5, 1, (2.0, 0.0)), 0.0) is None
    assert find_moving([], 0.0) is None
