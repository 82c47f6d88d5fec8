"""Accuracy and speed of the PSF fits against simulated truth, beside astropy's fitter in the same run.

    python benchmarks/bench_psf.py [--quick]

Stars are Moffat profiles drawn on a fine grid and binned (a real camera's pixels integrate), on a noisy sky. For every
case: error of the averaged FWHM, axis ratio, direction, beta; rms of single stars' FWHM and of their centres; time per
200 stars. The astropy column fits the same cut-outs with `Moffat2D`, point-sampled and round (astropy has no elliptical
one); the photutils column is its `fit_fwhm` (round Gaussian).
"""

from __future__ import annotations

import argparse
import math
import time
import warnings

import numpy as np

from livestack.base.settings import PSFSettings
from livestack.detection.psf import measure_psf

SKY_ADU = 10.0


def draw_field(fwhm, ratio, theta, beta, snr, seed, grid=(10, 20)):
    """Image (H, W) float32, positions (N, 2): stars of one SNR on a jittered grid."""
    rng = np.random.default_rng(seed)
    step = max(26, int(11 * fwhm))
    fine = 9 if fwhm < 3 else 5
    flux = snr * SKY_ADU * math.sqrt(4 * math.pi) * fwhm / 2.3548
    image = np.full((grid[0] * step, grid[1] * step), 1000.0)
    alpha = fwhm / (2 * math.sqrt(2 ** (1 / beta) - 1))
    c, s = math.cos(math.radians(theta)), math.sin(math.radians(theta))
    offset = (np.arange(step * fine) + 0.5) / fine - 0.5
    positions = []
    for row in range(grid[0]):
        for column in range(grid[1]):
            dx, dy = step / 2 + rng.uniform(-1, 1, 2)
            gx, gy = offset[None] - dx, offset[:, None] - dy
            along, across = (c * gx + s * gy) * math.sqrt(ratio) / alpha, (c * gy - s * gx) / math.sqrt(ratio) / alpha
            star = flux * (beta - 1) / (math.pi * alpha**2) * (1 + along**2 + across**2) ** -beta
            tile = star.reshape(step, fine, step, fine).mean(axis=(1, 3))
            image[row * step : (row + 1) * step, column * step : (column + 1) * step] += tile
            positions.append((column * step + dx, row * step + dy))
    return (image + rng.normal(0, SKY_ADU, image.shape)).astype(np.float32), np.array(positions)


def fit_astropy(image, positions, fwhm, limit=40):
    """Median FWHM and seconds per star of astropy's Moffat2D fits; None without astropy."""
    try:
        from astropy.modeling import fitting, models
    except ImportError:
        return None
    half = math.ceil(3 * fwhm)
    found, start = [], time.perf_counter()
    for x, y in positions[:limit]:
        cx, cy = round(x), round(y)
        cut = image[cy - half : cy + half + 1, cx - half : cx + half + 1]
        yy, xx = np.mgrid[: cut.shape[0], : cut.shape[1]]
        level = float(np.median(cut))
        model = models.Moffat2D(float(cut.max()) - level, x - cx + half, y - cy + half, fwhm, 3.0) + models.Const2D(
            level
        )
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            fitted = fitting.LevMarLSQFitter()(model, xx, yy, cut)
        found.append(abs(fitted[0].fwhm))
    return float(np.median(found)), (time.perf_counter() - start) / len(found)


def fit_photutils(image, positions, fwhm, limit=40):
    """The same with photutils.psf.fit_fwhm; None without photutils."""
    try:
        from photutils.psf import fit_fwhm
    except ImportError:
        return None
    size = 2 * math.ceil(1.5 * fwhm) + 1
    start = time.perf_counter()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = fit_fwhm(image - np.median(image), xypos=positions[:limit], fwhm=fwhm, fit_shape=(size, size))
    return float(np.median(found)), (time.perf_counter() - start) / len(found)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--quick", action="store_true", help="a third of the cases")
    quick = parser.parse_args().quick
    cases = [
        (fwhm, ratio, theta, beta, snr)
        for fwhm, ratio, theta, beta in (
            (1.8, 1.0, 0, 3.0), (1.8, 0.7, 30, 3.0), (2.5, 0.8, -60, 2.5), (4.0, 0.8, 20, 4.0), (4.0, 0.5, 80, 5.0),
            (8.0, 0.8, 45, 2.5),
        )
        for snr in ((100,) if quick else (500, 100, 30, 20))
    ]  # fmt: skip
    measure_psf(draw_field(3.0, 1.0, 0, 3.0, 100, 1, (3, 4))[0])  # compile
    print("truth: FWHM  r  theta  beta  SNR |  N   dFWHM   dr   dtheta  dbeta  star rms  centre px  s/200 | ", end="")
    print("astropy dFWHM  s/200 | photutils dFWHM  s/200")
    for fwhm, ratio, theta, beta, snr in cases:
        image, positions = draw_field(fwhm, ratio, theta, beta, snr, 3)
        seconds = math.inf
        for _ in range(3):
            start = time.perf_counter()
            model = measure_psf(image, settings=PSFSettings(max_stars=200))
            seconds = min(seconds, time.perf_counter() - start)
        if model is None:
            print(f"{fwhm:11.1f} {ratio:.1f} {theta:5d} {beta:5.1f} {snr:5d} | no star fitted")
            continue
        p, stars = model.moffat, model.stars
        used = stars.used
        miss = np.hypot(stars.x_px[:, None] - positions[:, 0], stars.y_px[:, None] - positions[:, 1]).min(axis=1)
        turn = f"{(p.theta_deg - theta + 90) % 180 - 90:+6.1f}" if ratio < 0.9 else "     -"
        line = (
            f"{fwhm:11.1f} {ratio:.1f} {theta:5d} {beta:5.1f} {snr:5d} | {p.n_stars:3d} {p.fwhm_px / fwhm - 1:+7.2%} "
            f"{p.ratio - ratio:+.3f} {turn} {p.beta / beta - 1:+7.1%} {np.std(stars.fwhm_px[used]) / fwhm:8.2%} "
            f"{math.sqrt((miss**2).mean() / 2):10.4f} {seconds * 200 / len(stars):7.3f} | "
        )
        for peer in (fit_astropy, fit_photutils):
            result = peer(image, positions, fwhm)
            line += "not installed | " if result is None else f"{result[0] / fwhm - 1:+13.2%} {200 * result[1]:6.2f} | "
        print(line)


if __name__ == "__main__":
    main()
