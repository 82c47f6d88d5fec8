"""X-Trans mosaics against pictures whose colours, and stars whose places, are known."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.special import erf

from livestack.calibration.xtrans import debayer_xtrans, find_lone_pixels
from livestack.kernels.bands import Bands

PATTERN = "GGRGGBGGBGGRBRGRBGGGBGGRGGRGGBRBGBRG"
TURNED = "".join(np.array(list(PATTERN)).reshape(6, 6).T.ravel())


def mosaic_of(picture: np.ndarray, pattern: str) -> np.ndarray:
    """(3, H, W) -> (H, W) float32, what the sensor sees."""
    cell = np.array(["RGB".index(letter) for letter in pattern]).reshape(6, 6)
    y, x = np.indices(picture.shape[1:])
    return np.take_along_axis(picture, cell[y % 6, x % 6][None], 0)[0].astype(np.float32)


def star(shape: tuple[int, int], x: float, y: float, fwhm: float) -> np.ndarray:
    """A Gaussian of unit flux, integrated over the pixels."""
    scale = fwhm / 2.3548 * np.sqrt(2.0)

    def along(n: int, centre: float) -> np.ndarray:
        edges = (np.arange(n + 1) - 0.5 - centre) / scale
        return 0.5 * np.diff(erf(edges))

    return np.outer(along(shape[0], y), along(shape[1], x))


def place(plane: np.ndarray, x: float, y: float, fwhm: float) -> np.ndarray:
    """(x, y) by a Gaussian window of the star's own width, moved until it stays."""
    yy, xx = np.indices(plane.shape)
    centre = np.array([x, y])
    for _ in range(30):
        weight = plane * np.exp(-((xx - centre[0]) ** 2 + (yy - centre[1]) ** 2) / 2 / (fwhm / 2.3548) ** 2)
        off = np.array([(weight * (xx - centre[0])).sum(), (weight * (yy - centre[1])).sum()]) / weight.sum()
        centre = centre + 2 * off
    return centre


@pytest.mark.parametrize("pattern", [PATTERN, TURNED, PATTERN[::-1]])
def test_a_flat_field_stays_flat_to_the_edges(pattern: str) -> None:
    picture = np.ones((3, 41, 64)) * np.array([300.0, -20.0, 90.0])[:, None, None]
    np.testing.assert_allclose(debayer_xtrans(mosaic_of(picture, pattern), pattern), picture, atol=1e-3)


def test_a_slope_stays_one_away_from_the_edges() -> None:
    y, x = np.indices((41, 64))
    slope = 100 + 3.0 * x - 2.0 * y
    made = debayer_xtrans(mosaic_of(np.stack([slope] * 3), PATTERN), PATTERN)
    np.testing.assert_allclose(made[1, 2:-2, 2:-2], slope[2:-2, 2:-2], atol=1e-2)
    np.testing.assert_allclose(made[:, 4:-4, 4:-4], np.stack([slope] * 3)[:, 4:-4, 4:-4], atol=1e-2)


@pytest.mark.parametrize("colour", [(1.0, 1.0, 1.0), (0.5, 1.0, 0.4), (1.0, 0.6, 0.4)])
def test_stars_keep_their_places_in_each_colour(colour: tuple[float, float, float]) -> None:
    """FWHM 3 px, as cameras see them through the air, anywhere on the cell; the light of a star stays too."""
    rng = np.random.default_rng(1)
    side, n = 42, 7
    places = rng.uniform(18, 24, (n * n, 2))
    light = np.zeros((n * side, n * side))
    for k, (x, y) in enumerate(places):
        part = np.s_[k // n * side : (k // n + 1) * side, k % n * side : (k % n + 1) * side]
        light[part] = star((side, side), x, y, 3.0)
    picture = 1e5 * light * np.array(colour)[:, None, None] + np.array([200.0, 310.0, 150.0])[:, None, None]
    noisy = mosaic_of(picture + rng.normal(0, 0.5, picture.shape), PATTERN)
    made = debayer_xtrans(noisy, PATTERN)
    off = np.empty((3, n * n, 2))
    flux = np.empty((3, n * n))
    for c in range(3):
        plane = made[c] - np.median(made[c])
        for k, (x, y) in enumerate(places):
            part = plane[k // n * side : (k // n + 1) * side, k % n * side : (k % n + 1) * side]
            off[c, k] = place(part, x, y, 3.0) - (x, y)
            flux[c, k] = part[8:-8, 8:-8].sum() / colour[c] / 1e5
    assert np.hypot(*off.transpose(2, 0, 1)).max() < 0.03
    assert np.abs(off.mean(axis=1)).max() < 0.01
    np.testing.assert_allclose(flux.mean(axis=1), 1.0, atol=0.01)


def test_missing_samples_are_made_up_for_by_their_own_colour() -> None:
    picture = np.ones((3, 42, 60)) * np.array([300.0, 800.0, 90.0])[:, None, None]
    mosaic = mosaic_of(picture, PATTERN)
    mosaic[:, 30] = np.nan
    mosaic[20, 10:13] = np.nan
    np.testing.assert_allclose(debayer_xtrans(mosaic, PATTERN), picture, atol=1e-3)


def test_threads_change_nothing(bands: Bands) -> None:
    mosaic = np.random.default_rng(2).normal(100, 9, (50, 70)).astype(np.float32)
    np.testing.assert_array_equal(debayer_xtrans(mosaic, PATTERN, bands), debayer_xtrans(mosaic, PATTERN))
    np.testing.assert_array_equal(find_lone_pixels(mosaic, PATTERN, bands), find_lone_pixels(mosaic, PATTERN))


def test_hot_pixels_are_found_and_sharp_stars_are_not() -> None:
    rng = np.random.default_rng(4)
    light = np.zeros((240, 300))
    for x, y, magnitude in rng.uniform((5, 5, 2.5), (295, 235, 5), (150, 3)):
        light += 10**magnitude * star(light.shape, x, y, 1.5)
    sky = np.array([400.0, 700.0, 300.0])[:, None, None] * np.linspace(0.8, 1.2, 300)
    picture = sky + light * np.array([0.6, 1.0, 0.1])[:, None, None]
    mosaic = mosaic_of(rng.normal(picture, 10), PATTERN)
    assert not find_lone_pixels(mosaic, PATTERN).any()
    hot = np.zeros(mosaic.shape, bool)
    hot[rng.integers(3, 237, 60), rng.integers(3, 297, 60)] = True
    lit = np.maximum(light, 1e-9) > 20
    hot &= ~lit
    mosaic[hot] += rng.uniform(400, 4000, hot.sum()).astype(np.float32)
    found = find_lone_pixels(mosaic, PATTERN)
    assert (found & ~hot).sum() == 0
    assert (found & hot).sum() >= 0.9 * hot.sum()
