"""The PSF against stars drawn on a fine grid and binned, against scipy's optimiser, and against the definitions."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.integrate import dblquad
from scipy.optimize import least_squares

from livestack.base.settings import PSFSettings
from livestack.detection.psf import CSV_COLUMNS, Profile, RowSample, measure_psf, plan_sample
from livestack.detection.psf.sample import BAND_ROWS


def draw_star(shape, x, y, flux, fwhm, ratio=1.0, theta=0.0, beta=3.0, fine=7):
    """A Moffat star of geometric mean `fwhm`, drawn on a grid `fine` times finer than the pixels, then binned."""
    reach = math.ceil(10 * fwhm)
    cx, cy = round(x), round(y)
    x0, x1 = max(cx - reach, 0), min(cx + reach + 1, shape[1])
    y0, y1 = max(cy - reach, 0), min(cy + reach + 1, shape[0])
    offset = (np.arange(fine) + 0.5) / fine - 0.5
    gx = (np.arange(x0, x1)[:, None] + offset).ravel() - x
    gy = (np.arange(y0, y1)[:, None] + offset).ravel() - y
    c, s = math.cos(math.radians(theta)), math.sin(math.radians(theta))
    alpha = fwhm / (2 * math.sqrt(2 ** (1 / beta) - 1))
    along = (c * gx[None] + s * gy[:, None]) / (alpha / math.sqrt(ratio))
    across = (c * gy[:, None] - s * gx[None]) / (alpha * math.sqrt(ratio))
    profile = flux * (beta - 1) / (math.pi * alpha**2) * (1 + along**2 + across**2) ** -beta
    image = np.zeros(shape)
    image[y0:y1, x0:x1] = profile.reshape(y1 - y0, fine, x1 - x0, fine).mean(axis=(1, 3))
    return image


def draw_field(fwhm, ratio=1.0, theta=0.0, beta=3.0, snr=100.0, seed=0, shape_of=None, grid=(5, 8), sky=10.0):
    """Stars on a jittered grid, all of one SNR. Returns image (H, W) float32, positions (N, 2), flux."""
    rng = np.random.default_rng(seed)
    step = max(30, int(12 * fwhm))
    shape = (grid[0] * step, grid[1] * step)
    flux = snr * sky * math.sqrt(4 * math.pi) * fwhm / 2.3548
    image = np.full(shape, 1000.0)
    positions = []
    for row in range(grid[0]):
        for column in range(grid[1]):
            x, y = (column + 0.5) * step + rng.uniform(-2, 2), (row + 0.5) * step + rng.uniform(-2, 2)
            positions.append((x, y))
            own = (fwhm, ratio, theta) if shape_of is None else shape_of(x / shape[1], y / shape[0])
            image += draw_star(shape, x, y, flux, *own, beta=beta)
    return (image + rng.normal(0, sky, shape)).astype(np.float32), np.array(positions), flux


@pytest.mark.parametrize(
    ("fwhm", "ratio", "theta", "beta"),
    [(1.8, 0.7, 30, 3.0), (2.5, 0.8, -60, 2.5), (4.0, 0.5, 80, 5.0), (8.0, 0.95, 10, 4.0)],
)
def test_widths_and_angles_of_known_stars(fwhm, ratio, theta, beta):
    image, positions, flux = draw_field(fwhm, ratio, theta, beta, snr=200)
    model = measure_psf(image)
    p = model.profile
    assert p.n_stars >= 38
    assert p.fwhm_px == pytest.approx(fwhm, rel=0.01)
    assert p.ratio == pytest.approx(ratio, abs=0.015)
    assert p.beta == pytest.approx(beta, rel=0.1)
    assert p.flux_adu == pytest.approx(flux, rel=0.02)
    if ratio <= 0.8:
        assert abs((p.theta_deg - theta + 90) % 180 - 90) < 2.0
    assert p.background_adu == pytest.approx(1000, abs=2)
    offset = np.hypot(model.stars.x_px[:, None] - positions[:, 0], model.stars.y_px[:, None] - positions[:, 1]).min(1)
    assert math.sqrt((offset**2).mean() / 2) < 0.02 * max(fwhm / 2.5, 1)


def test_faint_stars_give_three_percent():
    image, _, _ = draw_field(3.0, 0.8, 20, 4.0, snr=30, seed=4, grid=(6, 10))
    assert measure_psf(image).fwhm_px == pytest.approx(3.0, rel=0.03)


def test_stated_errors_are_the_scatter():
    image, _, _ = draw_field(3.0, snr=100, seed=5, grid=(7, 10))
    stars = measure_psf(image).stars
    assert np.std(stars.fwhm_px[stars.used]) == pytest.approx(np.median(stars.fwhm_error_px), rel=0.35)


def test_agrees_with_a_slow_fit():
    """One star, fitted by scipy with the profile integrated over each pixel by brute force."""
    fwhm, beta = 3.1, 3.5
    rng = np.random.default_rng(8)
    image = 200 + draw_star((41, 47), 23.3, 19.7, 40000, fwhm, 0.75, 35, beta) + rng.normal(0, 6, (41, 47))
    model = measure_psf(image.astype(np.float32), settings=PSFSettings(beta=beta))
    star = model.stars

    def residual(p):
        b, flux, x, y, f, r, t = p
        return (b + draw_star((41, 47), x, y, flux, f, r, t, beta, fine=5) - image).ravel()

    slow = least_squares(residual, [200, 40000, 23, 20, 3, 0.8, 30], x_scale=[10, 1e3, 0.1, 0.1, 0.1, 0.1, 5]).x
    assert star.x_px[0] == pytest.approx(slow[2], abs=0.01)
    assert star.y_px[0] == pytest.approx(slow[3], abs=0.01)
    assert star.fwhm_px[0] == pytest.approx(slow[4], rel=0.006)
    assert star.theta_deg[0] == pytest.approx(slow[6], abs=1.0)


def test_gaussian_row_of_the_table():
    """A Gaussian field: 2 sqrt(2 ln 2) sigma, and Moffat runs to large beta with the same width."""
    rng = np.random.default_rng(2)
    shape, sigma = (180, 260), 1.7
    fine = 5
    image = rng.normal(500, 5, shape)
    grid = (np.arange(fine) + 0.5) / fine - 0.5
    for x in range(20, 250, 30):
        for y in range(20, 170, 30):
            gx = (np.arange(shape[1])[:, None] + grid).ravel() - x - 0.3
            gy = (np.arange(shape[0])[:, None] + grid).ravel() - y
            star = np.exp(-0.5 * (gy[:, None] ** 2 + gx[None] ** 2) / sigma**2)
            image += 2000 * star.reshape(shape[0], fine, shape[1], fine).mean(axis=(1, 3))
    model = measure_psf(image.astype(np.float32), settings=PSFSettings(function="gaussian"), scale_arcsec_px=2.0)
    assert model.profile is model.gaussian
    assert model.gaussian.sx_px == pytest.approx(sigma, rel=0.01)
    assert model.gaussian.fwhm_px == pytest.approx(2.3548 * sigma, rel=0.01)
    assert model.fwhm_arcsec == pytest.approx(2 * 2.3548 * sigma, rel=0.01)
    assert model.gaussian.amplitude_adu == pytest.approx(2000, rel=0.01)
    assert model.moffat.fwhm_px == pytest.approx(2.3548 * sigma, rel=0.02)
    assert model.moffat.beta > 12


def profile(beta=3.0, fwhm_x=5.0, fwhm_y=3.0, theta=25.0):
    return Profile("moffat", 9, 10.0, 50.0, fwhm_x, fwhm_y, 0.01, theta, 1.0, beta, 0.1, 900.0, 30.0, 0.02)


def test_half_maximum_is_half():
    p = profile()
    c, s = math.cos(math.radians(25)), math.sin(math.radians(25))
    assert p.value(np.array(2.5 * c), np.array(2.5 * s)) == pytest.approx(0.5)
    assert p.value(np.array(-1.5 * s), np.array(1.5 * c)) == pytest.approx(0.5)
    assert p.sx_px == pytest.approx(5 / (2 * math.sqrt(2 ** (1 / 3) - 1)))


def test_encircled_energy_is_the_integral():
    p = profile()

    def ring(radius, angle):
        return radius * float(p.value(np.array(radius * math.cos(angle)), np.array(radius * math.sin(angle))))

    inside, _ = dblquad(ring, 0, math.pi, 0, 3.0)
    everything, _ = dblquad(ring, 0, math.pi, 0, np.inf)
    assert p.encircled_energy(np.array([3.0]))[0] == pytest.approx(inside / everything, abs=1e-4)
    assert p.encircled_energy(np.array([p.radius_of_energy(0.8)]))[0] == pytest.approx(0.8, abs=1e-3)


def test_kernel_is_centred_and_sums_to_one():
    kernel = profile().image()
    assert kernel.shape[0] % 2 == 1
    assert kernel.sum() == pytest.approx(1.0)
    np.testing.assert_allclose(kernel, kernel[::-1, ::-1], atol=1e-15)
    assert (
        kernel[kernel.shape[0] // 2 + 1, kernel.shape[1] // 2 + 1]
        > kernel[kernel.shape[0] // 2 + 1, kernel.shape[1] // 2 - 1]
    )
    with pytest.raises(ValueError, match="odd"):
        profile().image(20)


def test_saturated_double_and_hot_pixels_do_not_count():
    image, _, _ = draw_field(3.0, snr=200, seed=6)
    clean = measure_psf(image).fwhm_px
    rng = np.random.default_rng(1)
    dirty = image.copy()
    for _ in range(12):  # fat saturated stars
        x, y = rng.uniform(20, image.shape[1] - 20), rng.uniform(20, image.shape[0] - 20)
        dirty += draw_star(image.shape, x, y, 3e7, 3.0, fine=3).astype(np.float32)
    dirty = np.minimum(dirty, 60000)
    dirty[rng.integers(0, image.shape[0], 300), rng.integers(0, image.shape[1], 300)] += 8000
    dirty[:, 60:63] = np.nan
    measured = measure_psf(dirty)
    assert measured.fwhm_px == pytest.approx(clean, rel=0.02)
    assert (measured.stars.amplitude_adu < 50000).all()


def test_tilt_is_seen_where_it_is():
    image, _, _ = draw_field(3.0, snr=150, seed=7, grid=(7, 10), shape_of=lambda x, y: (2.7 + 0.6 * x, 1.0, 0.0))
    field = measure_psf(image).field
    assert field.tilt_px == pytest.approx(0.6, abs=0.12)
    assert abs(field.tilt_direction_deg) < 12
    assert any("tilted" in word and "right" in word for word in field.words)
    even = measure_psf(draw_field(3.0, snr=150, seed=7, grid=(7, 10))[0]).field
    assert even.words == (
        "Stars look the same all over the sensor: no tilt and no curvature to speak of, tracking is round.",
    )


def test_coma_and_tracking_are_told_apart():
    def coma(x, y):
        dx, dy = (x - 0.5) * 1.43, y - 0.5
        return 3.0, 1.0 - 0.6 * min(dx * dx + dy * dy, 1.0), math.degrees(math.atan2(dy, dx))

    words = measure_psf(draw_field(3.0, snr=150, seed=3, grid=(7, 10), shape_of=coma)[0]).field.words
    assert any("point to the centre" in word for word in words)
    words = measure_psf(draw_field(3.0, 0.75, 40, snr=150, seed=3, grid=(7, 10))[0]).field.words
    assert any("drawn out alike, long axis at +40" in word or "long axis at +39" in word for word in words)


def test_nothing_to_measure():
    rng = np.random.default_rng(0)
    assert measure_psf(rng.normal(100, 5, (80, 120)).astype(np.float32)) is None
    assert measure_psf(np.full((80, 120), np.nan, np.float32)) is None
    assert measure_psf(np.full((80, 120), 7.0, np.float32)) is None
    with pytest.raises(ValueError, match=r"expected \(H, W\)"):
        measure_psf(np.zeros((3, 60, 80), np.float32))


def test_summary_holds_the_columns():
    image, _, _ = draw_field(3.0, snr=200, grid=(3, 5))
    model = measure_psf(image)
    assert tuple(model.summary()) == CSV_COLUMNS[1:]
    assert model.summary()["fwhm_arcsec"] is None


def test_given_positions_are_used():
    image, positions, _ = draw_field(3.0, snr=200, grid=(3, 5))
    model = measure_psf(image, positions=positions[:4])
    assert len(model.stars) == 4


def test_bands_of_rows_stand_for_the_whole():
    image, positions, _ = draw_field(3.0, snr=200, seed=5, grid=(22, 8))
    sample = RowSample(np.array([0, 263, 536]), len(image))
    bands = sample.take(lambda rows: image[rows])
    assert bands.shape == (3 * BAND_ROWS, image.shape[1])
    model, whole = measure_psf(bands, sample=sample), measure_psf(image)
    assert model.size == whole.size
    assert model.fwhm_px == pytest.approx(whole.fwhm_px, rel=0.01)
    found = np.column_stack([model.stars.x_px, model.stars.y_px])
    nearest = np.hypot(*(found[:, None] - positions[None]).transpose(2, 0, 1)).min(axis=1)
    assert nearest.max() < 0.2
    assert len(found) > 0.6 * len(positions)
    reach = np.abs(found[:, 1, None] - np.array([256, 263, 519, 536])).min(axis=1)
    assert reach.min() > 6  # no star that a seam cuts


def test_only_large_images_are_looked_at_in_part():
    assert plan_sample(1096, 1936) is None
    sample = plan_sample(4176, 6248)
    assert sample.starts[0] == 0
    assert sample.starts[-1] == 4176 - BAND_ROWS
    assert sample.share == pytest.approx(0.18, abs=0.01)
