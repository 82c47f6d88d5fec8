"""Zero point, faintest star and sky of simulated nights under the real sky, against truth and against injected stars.

    python benchmarks/bench_depth.py [--frames 12] [--seed 1]

A night is simulated and stacked by the commands. Stars of known light with the stack's own profile are then put into
`stack.fits` at random places and looked for with a filter of that profile: at MAGLIM half of them should stand above
five times the noise, which is that of the filtered stack at places where nothing was put. Nothing of
`livestack.photometry` is used.
"""

from __future__ import annotations

import argparse
import csv
import math
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
from astropy.io import fits
from scipy.signal import fftconvolve

NIGHTS = (("83.8,-1.2", "6", "mono"), ("299.9,22.7", "2", "mono"), ("192.7,41.1", "8", "RGGB"))
ZERO_POINT, SKY_MAG = 20.0, 20.5
SKY_PX = 64
"""The sky is the median of so many pixels square."""
STARS, REACH_MAG, STEP_MAG = 500, 1.2, 0.1


def run(*words: str) -> None:
    """A command of livestack, as a user gives it."""
    subprocess.run([sys.executable, "-m", "livestack", *words], check=True, stdout=subprocess.DEVNULL)


def profile(fwhm: float, beta: float) -> np.ndarray:
    """Moffat's profile over pixels, sum 1."""
    half = math.ceil(3 * fwhm)
    fine = np.linspace(-half - 0.5, half + 0.5, (2 * half + 1) * 5 + 1)
    middle = 0.5 * (fine[1:] + fine[:-1])
    r2 = middle**2 + middle[:, None] ** 2
    alpha2 = (0.5 * fwhm) ** 2 / (2 ** (1 / beta) - 1)
    values = (1 + r2 / alpha2) ** -beta
    binned = values.reshape(2 * half + 1, 5, 2 * half + 1, 5).sum(axis=(1, 3))
    return np.asarray(binned / binned.sum())


def recovered_at(image: np.ndarray, psf: np.ndarray, zero: float, exposure: float, limit: float, seed: int) -> float:
    """Magnitude at which half of the injected stars stand above 5 sigma."""
    draw = np.random.default_rng(seed)
    half = len(psf) // 2
    height, width = image.shape
    near = np.lib.stride_tricks.sliding_window_view(
        np.pad(image, SKY_PX // 2, mode="reflect")[::8, ::8], (SKY_PX // 8,) * 2
    )
    sky = np.median(near, axis=(2, 3)).repeat(8, 0).repeat(8, 1)[:height, :width]
    weight = psf / np.sum(psf**2)
    score = fftconvolve(image - sky, weight[::-1, ::-1], mode="same")
    y, x = draw.integers(2 * half, height - 2 * half, STARS), draw.integers(2 * half, width - 2 * half, STARS)
    blank = score[y, x]
    level = np.median(blank)
    sigma = 1.4826 * np.median(np.abs(blank - level))
    mags, share = np.arange(limit - REACH_MAG, limit + REACH_MAG, STEP_MAG), []
    for mag in mags:
        flux = exposure * 10 ** (-0.4 * (mag - zero))
        share.append(np.mean(blank + flux - level > 5 * sigma))  # the filter is linear: a star adds its flux
    return float(np.interp(-0.5, -np.array(share), mags))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--frames", type=int, default=12)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    print("| field | scale | camera | ZEROPT - truth | MAGLIM | half recovered at | difference | SKYMAG - truth |")
    print("|---|---|---|---|---|---|---|---|")
    for number, (at, scale, camera) in enumerate(NIGHTS):
        with tempfile.TemporaryDirectory() as folder:
            night, out = Path(folder) / "night", Path(folder) / "out"
            more = ["--bayer", camera] if camera != "mono" else []
            run(
                "simulate", str(night), "--scenario", "sky", f"--at={at}", "--scale", scale, "--frames",
                str(options.frames), "--seed", str(options.seed + number), "--zero-point", str(ZERO_POINT),
                "--sky-mag", str(SKY_MAG), "--calibration", "8", *more,
            )  # fmt: skip
            masters = Path(folder) / "masters"
            run("masters", str(night / "calibration"), "--output", str(masters))
            run("stack", str(night), "--masters", str(masters), "--output", str(out), "--no-final-pass")
            group = next(out.glob("*/stack.fits")).parent
            data, header = fits.getdata(group / "stack.fits"), fits.getheader(group / "stack.fits")
            image = np.asarray(data[1] if data.ndim == 3 else data, dtype=float)
            with (group / "psf.csv").open(newline="") as stream:
                last = list(csv.DictReader(stream))[-1]
            psf = profile(float(last["fwhm_px"]), float(last.get("beta") or 3.5))
            filled = np.where(np.isfinite(image), image, np.nanmedian(image))
            found = recovered_at(filled, psf, header["ZEROPT"], header["EXPTIME"], header["MAGLIM"], number)
            sky = f"{header['SKYMAG'] - SKY_MAG:+.3f}" if "SKYMAG" in header else "not told"
            off = header["MAGLIM"] - found
            print(
                f"| {at} | {scale} | {camera} | {header['ZEROPT'] - ZERO_POINT:+.3f} | {header['MAGLIM']:.2f} "
                f"| {found:.2f} | {off:+.2f} | {sky} |",
                flush=True,
            )
            assert math.isfinite(found)


if __name__ == "__main__":
    main()
