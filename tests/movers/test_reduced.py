"""Frames made smaller: a slope of light is the same however the frame is turned, and no data stays where it is."""

from __future__ import annotations

import numpy as np
import pytest

from livestack.kernels.bands import Bands
from livestack.movers.reduced import Grid, ReducedNight
from livestack.registration import transform as tf

SHAPE = (210, 330)


def slope(shape: tuple[int, int]) -> np.ndarray:
    """(h, w) float32 of light that rises evenly along both axes."""
    y, x = np.mgrid[: shape[0], : shape[1]]
    return (100.0 + 0.5 * x - 0.3 * y).astype(np.float32)


@pytest.mark.parametrize("fwhm_px", [1.7, 3.0, 6.0])
@pytest.mark.parametrize("turn", [0.0, 0.004, -0.012, 0.03, 0.3, np.pi - 0.005, np.pi])
def test_a_slope_of_light_is_laid_where_it_is(fwhm_px: float, turn: float) -> None:
    grid = Grid.of(SHAPE, fwhm_px, False, 1)
    middle = np.array([SHAPE[1], SHAPE[0]]) / 2
    matrix = tf.similarity(1.001, turn, 0, 0)
    matrix[:2, 2] = middle + np.array([2.3, -1.7]) - matrix[:2, :2] @ middle
    laid = ReducedNight(grid, fwhm_px).lay(slope(SHAPE), matrix, None, np.zeros(0, dtype=int), Bands())
    y, x = np.mgrid[: grid.height, : grid.width]
    places = grid.to_reference(np.stack([x.ravel(), y.ravel()], axis=1))
    in_frame = tf.apply(np.linalg.inv(matrix), places)
    expected = (100.0 + 0.5 * in_frame[:, 0] - 0.3 * in_frame[:, 1]).reshape(laid.shape)
    known = np.isfinite(laid)
    inner = (in_frame > 8).all(axis=1) & (in_frame < middle * 2 - 8).all(axis=1)
    assert known[inner.reshape(laid.shape)].all()
    assert np.abs(laid - expected)[known].max() < 0.05  # a shift may be off by 0.06 px along a row


def test_a_row_without_data_leaves_a_row_without_data() -> None:
    grid = Grid.of(SHAPE, 3.0, False, 1)
    image = slope(SHAPE)
    image[100] = np.nan
    laid = ReducedNight(grid, 3.0).lay(
        image, tf.similarity(1.0, 0.002, 0.3, 0.2), None, np.zeros(0, dtype=int), Bands()
    )
    y = grid.to_reference(np.stack([np.zeros(grid.height), np.arange(grid.height)], axis=1))[:, 1]
    inside = slice(40, grid.width - 40)
    missing = np.isnan(laid[:, inside])
    near = np.abs(y - 100.0) < 1.9
    far = (np.abs(y - 100.0) > 3.0) & (y > 5) & (y < SHAPE[0] - 5)
    assert missing[near].any(axis=0).all()
    assert not missing[far].any()
