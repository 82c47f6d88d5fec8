"""The light of stars of known flux in frames of known noise, drawn here on a grid of nine by nine points a pixel."""

from __future__ import annotations

import numpy as np
import pytest

from livestack.kernels.bands import Bands
from livestack.photometry import BLENDED, COSMIC, DEFECT, EDGE, SATURATED
from livestack.photometry.measure import Exposure, FrameLight, main_channel, measure_frame

HEIGHT, WIDTH = 300, 400
SKY, READ = 200.0, 4.0
FINE = 9


def draw(
    places: np.ndarray, flux: np.ndarray, fwhm: float = 3.0, seed: int | None = 1, beta: float = 3.0
) -> np.ndarray:
    """(H, W) float32 electrons; without noise where `seed` is None."""
    image = np.full((HEIGHT, WIDTH), SKY)
    alpha = fwhm / (2 * np.sqrt(2 ** (1 / beta) - 1))
    off = (np.arange(FINE) + 0.5) / FINE - 0.5
    half = 26
    for (x, y), light in zip(places, flux, strict=True):
        ix, iy = round(x), round(y)
        us = (np.arange(-half, half + 1)[:, None] + off[None, :]).ravel()
        r2 = (us[None, :] + ix - x) ** 2 + (us[:, None] + iy - y) ** 2
        p = (beta - 1) / (np.pi * alpha**2) * (1 + r2 / alpha**2) ** -beta / FINE**2
        p = p.reshape(2 * half + 1, FINE, 2 * half + 1, FINE).sum(axis=(1, 3))
        y0, y1, x0, x1 = max(0, iy - half), min(HEIGHT, iy + half + 1), max(0, ix - half), min(WIDTH, ix + half + 1)
        if y0 < y1 and x0 < x1:
            image[y0:y1, x0:x1] += light * p[y0 - iy + half : y1 - iy + half, x0 - ix + half : x1 - ix + half]
    if seed is None:
        return image.astype(np.float32)
    random = np.random.default_rng(seed)
    return (random.poisson(image) + random.normal(0, READ, image.shape)).astype(np.float32)


def field(n: int = 40, seed: int = 5) -> tuple[np.ndarray, np.ndarray]:
    """Places on a loose grid, and fluxes over five magnitudes."""
    random = np.random.default_rng(seed)
    grid = np.array([(x, y) for y in range(35, HEIGHT - 30, 45) for x in range(35, WIDTH - 30, 45)], dtype=float)[:n]
    return grid + random.uniform(-4, 4, grid.shape), 10 ** random.uniform(3.3, 5.3, len(grid))


def look(image: np.ndarray, places: np.ndarray, flux: np.ndarray, **more: object) -> FrameLight:
    given = {"bayer": None, "saturation_adu": 60000.0, "per_photon": 1.0, "defects": np.empty(0, np.int64)}
    given |= {"fwhm_px": 3.0, "noise_adu": float(np.sqrt(SKY + READ**2))} | more
    with Bands(1) as bands:
        found = measure_frame(Exposure(data=image, **given), places, flux, bands)  # type: ignore[arg-type]
    assert found is not None
    return found


@pytest.mark.parametrize("fwhm", [2.0, 3.0, 5.0])
def test_fluxes_are_true_and_their_errors_too(fwhm: float) -> None:
    places, flux = field()
    pulls, shares = [], []
    for seed in range(12):
        moved = places + np.random.default_rng(seed).uniform(-1, 1, 2)
        light = look(draw(moved, flux, fwhm, seed), moved, flux, fwhm_px=1.1 * fwhm)
        assert light.fwhm_px == pytest.approx(fwhm, rel=0.05)
        assert not light.flags.any()
        error = np.sqrt(light.sky_variance[0] + light.photon[0])
        shares.append(light.flux[0] / flux)
        pulls.append((light.flux[0] - flux) / error)
    way = np.argmin(error / flux, axis=0)
    stars = np.arange(len(flux))
    share, pull = np.array(shares)[:, way, stars], np.array(pulls)[:, way, stars]
    assert np.median(share[:, flux > 3e4]) == pytest.approx(1, abs=0.004 if fwhm > 2.5 else 0.02)
    assert 1.4826 * np.median(np.abs(pull - np.median(pull, axis=0))) == pytest.approx(1, abs=0.2)


def test_each_colour_of_a_mosaic_has_its_own_pixels() -> None:
    places, flux = field()
    colours = np.array([0.5, 1.0, 0.25])
    planes = [draw(places, flux * share, seed=None) for share in colours]
    mosaic = planes[1].copy()
    mosaic[0::2, 0::2] = planes[0][0::2, 0::2]
    mosaic[1::2, 1::2] = planes[2][1::2, 1::2]
    light = look(mosaic, places, flux, bayer="RGGB")
    bright = flux > 2e4
    for c in range(3):
        assert np.median(light.flux[c, 3, bright] / flux[bright]) == pytest.approx(colours[c], rel=0.01)
        assert np.std(light.flux[c, 3, bright] / flux[bright]) < 0.01 * colours[c]
    assert main_channel(3) == 1


def test_what_disturbs_a_star_is_left_out_or_said() -> None:
    places, flux = field()
    quiet = draw(places, flux)
    clean = look(quiet, places, flux)
    image = quiet.copy()
    hit, hot, clipped = 3, 5, int(np.argmax(flux))
    y, x = round(places[hit, 1]) + 3, round(places[hit, 0]) - 3
    image[y, x] += 20000  # a cosmic ray in the wing: left out, the flux stays
    hy, hx = round(places[hot, 1]), round(places[hot, 0])
    image[hy, hx] += 30000
    image[hy + 1, hx] += 30000
    defects = np.array([hy * WIDTH + hx, (hy + 1) * WIDTH + hx])
    light = look(image, places, flux, defects=defects, saturation_adu=float(quiet.max() - 1))
    assert light.flags[0, hit] == 0
    assert light.flux[0, 1, hit] == pytest.approx(clean.flux[0, 1, hit], rel=0.02)
    assert light.flags[0, hot] == DEFECT
    assert light.flux[0, 1, hot] == pytest.approx(clean.flux[0, 1, hot], rel=0.03)
    assert light.flags[0, clipped] & SATURATED
    assert look(image, places, flux).flags[0, hot] & COSMIC
    away = np.vstack([places, [[2.0, 100.0]], [[-500.0, 0.0]]])
    light = look(quiet, away, np.append(flux, [1e4, 1e4]))
    assert light.flags[0, -2] & EDGE
    assert np.isnan(light.flux[0, 0, -1])


def test_a_neighbour_is_taken_off() -> None:
    places, flux = field()
    both = np.vstack([places, places[:10] + np.array([5.5, 2.0])])
    bright = np.append(flux, 0.5 * flux[:10])
    light = look(draw(both, bright, seed=None), both, bright)
    alone = look(draw(places, flux, seed=None), places, flux)
    assert not (light.flags[0, :10] & BLENDED).any()
    np.testing.assert_allclose(light.flux[0, 0, :10], alone.flux[0, 0, :10], rtol=0.01)
    near = np.vstack([places, places[:10] + np.array([1.5, 1.0])])
    light = look(draw(near, bright, seed=None), near, bright)
    assert (light.flags[0, :10] & BLENDED).all()


def test_a_frame_without_stars_says_nothing() -> None:
    with Bands(1) as bands:
        exposure = Exposure(draw(np.empty((0, 2)), np.empty(0)), None, None, None, np.empty(0, np.int64), None, 14.0)
        assert measure_frame(exposure, np.zeros((3, 2)), np.ones(3), bands) is None
