"""Streaks in residuals that numpy draws: where they end, and that noise has none."""

from __future__ import annotations

import math

import numpy as np
import pytest

from livestack.movers.reduced import MARGIN, Grid, Residual
from livestack.movers.streaks import find_streaks

GRID = Grid(2, 300 + 2 * MARGIN, 210 + 2 * MARGIN)
FWHM = 3.2
CORNERS = np.array([[-0.5, -0.5], [599.5, -0.5], [599.5, 419.5], [-0.5, 419.5]])


def residual(draw: np.random.Generator, lines=(), profile=lambda share: np.ones_like(share)) -> Residual:
    """Noise of sigma 1 and Gaussian lines (x0, y0, x1, y1, peak); ends in pixels of the reference."""
    image = draw.standard_normal((GRID.height, GRID.width)).astype(np.float32)
    y, x = np.mgrid[: GRID.height, : GRID.width]
    px, py = ((axis - MARGIN) * GRID.bin + 0.5 for axis in (x, y))
    for x0, y0, x1, y1, peak in lines:
        length = math.hypot(x1 - x0, y1 - y0)
        along = ((px - x0) * (x1 - x0) + (py - y0) * (y1 - y0)) / length
        across = ((py - y0) * (x1 - x0) - (px - x0) * (y1 - y0)) / length
        inside = (along >= 0) & (along <= length)
        image += (peak * inside * profile(along / length) * np.exp(-0.5 * (across / 1.6) ** 2)).astype(np.float32)
    image[:MARGIN], image[-MARGIN:], image[:, :MARGIN], image[:, -MARGIN:] = 0, 0, 0, 0
    part = image[: GRID.height // 2 * 2, : GRID.width // 2 * 2]
    coarse = 0.5 * (part[::2, ::2] + part[1::2, ::2] + part[::2, 1::2] + part[1::2, 1::2])
    return Residual(image, np.ascontiguousarray(coarse), np.zeros((1, 1), np.int8), 1.0)


@pytest.mark.parametrize("angle", [0.0, 0.4, 1.2, 2.5])
def test_a_steady_streak_is_a_satellite_with_its_ends(angle: float) -> None:
    way = 75 * np.array([math.cos(angle), math.sin(angle)])
    true = np.array([np.subtract((300, 210), way), np.add((300, 210), way)])
    streaks = find_streaks(residual(np.random.default_rng(3), [(*true.ravel(), 5.0)]), GRID, FWHM, CORNERS)
    assert [one.kind for one in streaks] == ["satellite"]
    found = np.array([[streaks[0].x0, streaks[0].y0], [streaks[0].x1, streaks[0].y1]])
    off = min(np.abs(found - true).max(), np.abs(found[::-1] - true).max())
    assert off < 3.0
    assert not streaks[0].cut0
    assert not streaks[0].cut1


def test_one_that_crosses_ends_at_the_borders_of_the_frame() -> None:
    (one,) = find_streaks(residual(np.random.default_rng(1), [(-90, 40, 700, 300, 4.0)]), GRID, FWHM, CORNERS)
    slope = 260 / 790
    for x, y in ((one.x0, one.y0), (one.x1, one.y1)):
        assert y == pytest.approx(40 + slope * (x + 90), abs=1.5)
    assert sorted((one.x0, one.x1)) == pytest.approx((-0.5, 599.5), abs=2.0)


def test_light_that_rises_and_falls_is_a_meteor() -> None:
    fading = residual(np.random.default_rng(2), [(150, 120, 420, 300, 9.0)], lambda share: 1 - np.abs(2 * share - 1))
    assert [one.kind for one in find_streaks(fading, GRID, FWHM, CORNERS)] == ["meteor"]


def test_light_that_blinks_is_an_aircraft() -> None:
    blinking = residual(
        np.random.default_rng(4), [(-50, 60, 650, 380, 12.0)], lambda share: np.where((share * 14) % 1 < 0.25, 1.0, 0.2)
    )
    assert [one.kind for one in find_streaks(blinking, GRID, FWHM, CORNERS)] == ["aircraft"]


def test_noise_has_no_streaks() -> None:
    draw = np.random.default_rng(7)
    assert not [one for _ in range(20) for one in find_streaks(residual(draw), GRID, FWHM, CORNERS)]
