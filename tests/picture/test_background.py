"""The sky's surface against simulated gradients that are known exactly, with nebulae that must survive."""

from __future__ import annotations

import numpy as np
import pytest

from livestack.picture import Surface, fit_background, measure_sky, remove_gradient
from livestack.picture.families import MAX_DEGREE

HEIGHT, WIDTH = 420, 650
SKY = 1000.0


def coordinates():
    y, x = np.mgrid[0:HEIGHT, 0:WIDTH]
    return (x + 0.5) / WIDTH * 2 - 1, (y + 0.5) / HEIGHT * 2 - 1


def gradient(kind):
    u, v = coordinates()
    return {
        "flat": SKY + 0 * u,
        "plane": SKY * (1 + 0.15 * u - 0.1 * v),
        "city": SKY * (1 + 0.25 * np.exp(0.8 * (u - 1) + 0.6 * (v - 1))),
        "vignette": SKY * (1 - 0.12 * (u**2 + v**2)),
    }[kind]


def nebula(peak=150.0, width_px=35.0, centre=(0.1, -0.15)):
    u, v = coordinates()
    dx, dy = (u - centre[0]) * WIDTH / 2, (v - centre[1]) * HEIGHT / 2
    return peak * np.exp(-(dx**2 + (1.4 * dy) ** 2) / (2 * width_px**2))


def add_stars(image, rng, count=400):
    for _ in range(count):
        x, y = rng.integers(8, WIDTH - 8), rng.integers(8, HEIGHT - 8)
        yy, xx = np.mgrid[-7:8, -7:8]
        image[y - 7 : y + 8, x - 7 : x + 8] += 60 * rng.pareto(1.3) * np.exp(-(xx**2 + yy**2) / (2 * 1.7**2))


def scene(kind, seed, with_nebula=True, noise=12.0):
    """(1, H, W) float32 image, its true sky (H, W), its nebula (H, W)."""
    rng = np.random.default_rng(seed)
    sky, glow = gradient(kind), nebula() if with_nebula else np.zeros((HEIGHT, WIDTH))
    image = sky + glow
    add_stars(image, rng)
    image += rng.normal(0, noise, image.shape)
    return image[None].astype(np.float32), sky, glow


@pytest.mark.parametrize("kind", ["flat", "plane", "city", "vignette"])
@pytest.mark.parametrize("seed", [3, 4])
def test_what_is_left_of_a_gradient_is_below_a_hundredth_of_the_sky(kind, seed):
    image, sky, _ = scene(kind, seed)
    left = sky - fit_background(image).evaluate(HEIGHT, WIDTH)[0]
    left -= np.median(left)
    assert np.abs(left).max() < 0.01 * SKY
    assert left.std() < 0.003 * SKY


@pytest.mark.parametrize("kind", ["flat", "plane", "city", "vignette"])
@pytest.mark.parametrize("seed", [3, 4])
def test_the_nebula_keeps_its_light(kind, seed):
    image, sky, glow = scene(kind, seed)
    bare, _, _ = scene(kind, seed, with_nebula=False)
    surface = fit_background(image).evaluate(HEIGHT, WIDTH)[0]
    # What the presence of the nebula alone did to the sky under it.
    inside = glow > 2
    eaten = (surface - sky - np.median((surface - sky)[~inside]))[inside].sum()
    assert abs(eaten) < 0.02 * glow[inside].sum()
    without = fit_background(bare).evaluate(HEIGHT, WIDTH)[0]
    assert abs(np.mean(surface - without)) < 0.002 * SKY


def test_an_empty_frame_gets_no_waves():
    rng = np.random.default_rng(5)
    image = (SKY + rng.normal(0, 12, (1, HEIGHT, WIDTH))).astype(np.float32)
    surface = fit_background(image).evaluate(HEIGHT, WIDTH)
    assert np.ptp(surface) < 1.0
    assert abs(surface.mean() - SKY) < 0.3


def test_corrected_data_keep_the_level_and_every_star():
    image, sky, _ = scene("plane", 6)
    corrected, surface = remove_gradient(image)
    assert corrected.dtype == surface.dtype == np.float32
    assert abs(corrected.mean(dtype=float) - image.mean(dtype=float)) < 0.05
    np.testing.assert_allclose(image - surface - (corrected - corrected.mean()) + 0, (image - surface).mean(), atol=0.3)
    # Pixel for pixel only the smooth surface was taken.
    np.testing.assert_allclose(np.diff(corrected[0], axis=1), np.diff(image[0] - sky, axis=1), atol=0.2)


def test_pixels_without_data_are_neither_seen_nor_filled():
    image, sky, _ = scene("plane", 7)
    image[0, :, :70] = np.nan
    image[0, 300:, :] = np.nan
    surface = fit_background(image).evaluate(HEIGHT, WIDTH)[0]
    seen = np.isfinite(image[0])
    left = (sky - surface)[seen]
    assert np.abs(left - np.median(left)).max() < 0.01 * SKY
    corrected, _ = remove_gradient(image)
    assert np.array_equal(np.isnan(corrected), np.isnan(image))


def test_a_surface_is_the_same_whatever_the_resolution():
    """Large data are averaged first; where the blocks lie must follow, to a part of a pixel."""
    y, x = np.mgrid[0:1259, 0:1951]
    large = np.float32(1000 + 0.3 * x + 0.2 * y)
    surface = fit_background(large[None]).evaluate(*large.shape)[0]
    assert np.abs(surface - large).max() < 0.1


def test_blocks_see_between_the_steps_of_8_bits():
    rng = np.random.default_rng(12)
    u, _ = coordinates()
    sky = 2.4 + 0.5 * u
    image = np.round(sky + rng.normal(0, 0.4, sky.shape)).astype(np.float32)
    surface = fit_background(image[None]).evaluate(HEIGHT, WIDTH)[0]
    assert np.abs(surface - sky).max() < 0.15


def test_no_data_at_all_is_survived():
    surface = fit_background(np.full((3, 40, 60), np.nan, np.float32))
    assert np.all(surface.coefficients == 0)
    corrected, _ = remove_gradient(np.full((1, 40, 60), np.nan, np.float32))
    assert np.isnan(corrected).all()


def test_a_masked_object_is_not_looked_at():
    rng = np.random.default_rng(8)
    image = (gradient("plane") + rng.normal(0, 12, (HEIGHT, WIDTH))).astype(np.float32)[None]
    mask = np.zeros((HEIGHT, WIDTH), bool)
    mask[:, :260] = True
    image[0, mask] += 400
    surface = fit_background(image, order=1, mask=mask).evaluate(HEIGHT, WIDTH)[0]
    assert np.abs(surface - gradient("plane")).max() < 0.01 * SKY


def test_each_channel_has_its_own_surface():
    kinds = (("plane", 1), ("city", 2), ("vignette", 0.5))
    planes = np.stack([scene(kind, 9)[0][0] * factor for kind, factor in kinds])
    surfaces = fit_background(planes).evaluate(HEIGHT, WIDTH)
    for surface, (kind, factor) in zip(surfaces, kinds, strict=True):
        left = surface - factor * gradient(kind)
        assert np.abs(left - np.median(left)).max() < 0.01 * factor * SKY


def test_surfaces_are_the_polynomial_they_say():
    coefficients = np.zeros((1, MAX_DEGREE + 1, MAX_DEGREE + 1))
    coefficients[0, 0, 0], coefficients[0, 1, 0], coefficients[0, 1, 2], coefficients[0, 0, 3] = 5, 2, -1, 0.5
    u, v = coordinates()
    np.testing.assert_allclose(
        Surface(coefficients).evaluate(HEIGHT, WIDTH)[0], 5 + 2 * u - u * v**2 + 0.5 * v**3, rtol=1e-5
    )


def test_sky_level_and_noise_under_stars():
    rng = np.random.default_rng(10)
    image, _, _ = scene("flat", 10)
    level, sigma = measure_sky(image)
    assert abs(level - SKY) < 0.15 * 12
    assert abs(sigma - 12) < 0.1 * 12
    coarse = np.round(rng.normal(20.3, 0.6, 100_000))
    level, sigma = measure_sky(coarse)
    assert abs(level - 20.3) < 0.05
    # Rounding to whole numbers adds its own variance of 1/12.
    assert abs(sigma - np.hypot(0.6, np.sqrt(1 / 12))) < 0.05
    # The same steps, tilted by less than one of them.
    tilted = np.sort(rng.uniform(-0.01, 0.01, 100_000)) + np.round(rng.normal(1.6, 0.5, 100_000))
    level, sigma = measure_sky(tilted)
    assert abs(level - 1.6) < 0.05
    assert abs(sigma - np.hypot(0.5, np.sqrt(1 / 12))) < 0.06
    assert measure_sky(np.full(9, np.nan)) == (0.0, 0.0)


@pytest.mark.parametrize("order", [-1, 5])
def test_impossible_orders_are_refused(order):
    with pytest.raises(ValueError, match="order"):
        fit_background(np.zeros((1, 50, 60), np.float32), order)
