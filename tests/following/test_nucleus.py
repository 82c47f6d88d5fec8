"""The place of a nucleus against the place where it was drawn."""

from __future__ import annotations

import numpy as np
import pytest

from livestack.following.nucleus import find_nucleus

SIZE, FWHM = 81, 3.2


def drawn(x: float, y: float, height: float, noise: float, seed: int = 1) -> np.ndarray:
    draw = np.random.default_rng(seed)
    d = np.hypot(np.arange(SIZE) - x, (np.arange(SIZE) - y)[:, None])
    return (
        height * np.exp(-0.5 * (d * 2.3548 / FWHM) ** 2)
        + 0.3 * height / (1 + (d / 5) ** 1.3)
        + draw.normal(0, noise, d.shape)
    )


@pytest.mark.parametrize(("x", "y"), [(40.0, 40.0), (38.37, 43.81), (42.5, 39.5)])
def test_a_bright_nucleus_is_found_to_a_twentieth_of_a_pixel(x, y):
    found = find_nucleus(drawn(x, y, 1000.0, 10.0), 40.0, 40.0, 8.0, FWHM)
    assert found is not None
    assert np.hypot(found.x - x, found.y - y) < 0.05


def test_a_brighter_star_beside_it_is_not_taken_when_its_height_is_known():
    image = drawn(40.3, 40.1, 600.0, 8.0)
    d = np.hypot(np.arange(SIZE) - 47.0, (np.arange(SIZE) - 42.0)[:, None])
    image += 3000 * np.exp(-0.5 * (d * 2.3548 / FWHM) ** 2)
    alone = find_nucleus(drawn(40.3, 40.1, 600.0, 8.0), 40.0, 40.0, 3.0, FWHM)
    assert alone is not None
    found = find_nucleus(image, 40.0, 40.0, 9.0, FWHM, alone.height)
    assert found is not None
    assert np.hypot(found.x - 40.3, found.y - 40.1) < 0.5


def test_nothing_is_found_in_noise_or_where_pixels_are_missing():
    noise = np.random.default_rng(2).normal(0, 10, (SIZE, SIZE))
    assert find_nucleus(noise, 40.0, 40.0, 4.0, FWHM) is None
    assert find_nucleus(np.full((SIZE, SIZE), np.nan), 40.0, 40.0, 4.0, FWHM) is None
