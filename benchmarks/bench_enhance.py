"""What deconvolution does to a simulated stack with known truth, beside plain Richardson-Lucy; and how long it takes.

    python benchmarks/bench_enhance.py [--size 26]

Width of the stars, their photometry against the truth, the deepest ring (azimuthal mean around a star below its
surroundings, in sigma of the sky), the grain of the sky. Then the time for one plane of a large stack (--size).
"""

from __future__ import annotations

import argparse
import math
import time

import numpy as np
from bench_psf import draw_field
from scipy.signal import fftconvolve

from livestack.detection.psf import measure_psf
from livestack.picture.enhance import Deconvolution, deconvolve, sharpen

SKY_ADU = 10.0


def plain_richardson_lucy(image: np.ndarray, kernel: np.ndarray, iterations: int) -> np.ndarray:
    """The textbook, with nothing added."""
    x = image.astype(np.float64)
    for _ in range(iterations):
        x = x * fftconvolve(image / fftconvolve(x, kernel, mode="same"), kernel[::-1, ::-1], mode="same")
    return x.astype(np.float32)


def judge(name: str, image: np.ndarray, before: np.ndarray, positions: np.ndarray, flux: float, seconds: float) -> None:
    """Print one row."""
    first, after = measure_psf(before), measure_psf(image)
    yy, xx = np.mgrid[: image.shape[0], : image.shape[1]]
    errors, rings = [], []
    for x, y in positions:
        box = np.s_[max(round(y) - 22, 0) : round(y) + 23, max(round(x) - 22, 0) : round(x) + 23]
        r = np.hypot(xx[box] - x, yy[box] - y)
        level = np.median(image[box][(r > 14) & (r < 20)])
        errors.append((image[box][r < 9] - level).sum() / flux - 1)
        rings.append(min(image[box][(r >= q) & (r < q + 1)].mean() - level for q in range(2, 13)) / SKY_ADU)
    width = math.nan if after is None or first is None else after.fwhm_px / first.fwhm_px
    print(
        f"{name:34} {width:10.2f} {np.median(errors):+11.2%} {np.percentile(np.abs(errors), 90):8.2%} "
        f"{min(rings):10.2f} {np.std(image[:8]) / np.std(before[:8]):8.2f} {seconds:7.2f}"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--size", type=float, default=6.0, help="megapixels of the timed plane")
    megapixels = parser.parse_args().size
    print(f"{'':34} FWHM ratio  photometry  90 % of  ring sigma  grain  seconds")
    for snr in (2000, 300, 50):
        image, positions = draw_field(3.6, 0.9, 30, 3.0, snr, 5, (8, 12))
        flux = snr * SKY_ADU * math.sqrt(4 * math.pi) * 3.6 / 2.3548
        model = measure_psf(image)
        if model is None:
            continue
        kernel = model.image()
        judge(f"SNR {snr}: before", image, image, positions, flux, 0.0)
        start = time.perf_counter()
        ours = deconvolve(image, kernel, Deconvolution(photon_adu=model.photon_adu))
        seconds = time.perf_counter() - start
        judge(f"SNR {snr}: this", ours, image, positions, flux, seconds)
        for iterations in (20, 60):
            start = time.perf_counter()
            plain = plain_richardson_lucy(image, kernel, iterations)
            judge(f"SNR {snr}: plain, {iterations}", plain, image, positions, flux, time.perf_counter() - start)
        start = time.perf_counter()
        judge(f"SNR {snr}: wavelets 1,1.5,1.5,1.2,1", sharpen(image, (1, 1.5, 1.5, 1.2, 1)), image, positions, flux,
              time.perf_counter() - start)  # fmt: skip
    side = int(math.sqrt(megapixels * 1e6 / 1.5))
    tile, _ = draw_field(3.0, 0.9, 30, 3.0, 200, 5, (8, 12))
    large = np.tile(tile, (math.ceil(side / tile.shape[0]), math.ceil(1.5 * side / tile.shape[1])))[
        :side, : int(1.5 * side)
    ]
    model = measure_psf(tile)
    if model is None:
        return
    large = np.ascontiguousarray(large)
    start = time.perf_counter()
    deconvolve(large, model.image(), Deconvolution(photon_adu=model.photon_adu))
    middle = time.perf_counter()
    sharpen(large)
    end = time.perf_counter()
    print(f"{large.size / 1e6:.1f} MP, one plane: deconvolve {middle - start:.1f} s, wavelets {end - middle:.1f} s")


if __name__ == "__main__":
    main()
