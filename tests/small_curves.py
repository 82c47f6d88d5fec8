"""Sessions that hold nothing but light curves, as the measuring writes them, with known truth."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np

STARS = ("star", "x", "y", "ra_deg", "dec_deg", "g_mag", "n", "mag", "rms_mmag", "expected_mmag", "variability")
CURVES = ("star", "file", "index", "jd_utc_mid", "bjd_tdb", "airmass", "flux_adu", "mag", "mag_err", "flag")
START = 2460380.3
STEP = 2 / 1440
"""Two minutes a frame."""


def dip(times: np.ndarray, mid: float, length: float, ingress: float) -> np.ndarray:
    """A trapezoid of depth 1, by its corners."""
    half = length / 2
    return np.interp(times, [mid - half, mid - half + ingress, mid + half - ingress, mid + half], [0, 1, 1, 0])


def write_curves(
    folder: Path, frames: int = 90, sky: bool = True, dates: bool = True, depth: float = 0.02, seed: int = 3
) -> None:
    """Four stars: 1 is constant, 2 has a transit in the middle, 12 flares, 13 is flagged all through.

    `sky`: with places in the sky, barycentric times and airmass.
    """
    folder.mkdir(parents=True)
    random = np.random.default_rng(seed)
    times = START + STEP * np.arange(frames)
    mid, span = times.mean(), times[-1] - times[0]
    with open(folder / "stars.csv", "w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(STARS)
        for star, x, y, variability in ((1, 100, 50, 1.0), (2, 200, 80, 9.0), (12, 300.5, 20, 30.0), (13, 10, 10, "")):
            place = (f"{210 + x / 3600:.6f}", f"{54 + y / 3600:.6f}", "12.1") if sky else ("", "", "")
            writer.writerow((star, x, y, *place, frames, -9.5, 4.2, 4.0, variability))
    light = {1: np.ones(frames), 2: 1 - depth * dip(times, mid, 0.4 * span, 0.08 * span), 12: np.ones(frames)}
    light[12][frames // 2 : frames // 2 + 3] += 0.3
    light[13] = np.ones(frames)
    noise = {star: 0.003 * random.standard_normal(frames) for star in light}
    with open(folder / "lightcurves.csv", "w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(CURVES)
        for i in range(frames):
            for star in light:
                flagged = star == 13 or (star == 2 and i == 7)
                known = (f"{times[i] + 0.003:.8f}", f"{1.2 + 0.1 * (i / frames - 0.3) ** 2:.4f}") if sky else ("", "")
                mag = -9.5 - 2.5 * np.log10(light[star][i]) + noise[star][i] + (0.8 if flagged else 0)
                date = f"{times[i]:.8f}" if dates else ""
                row = (star, f"light_{i:03d}.fits", 0, date, *known, "6300.5", f"{mag:.6f}", "0.003", 2 * flagged)
                writer.writerow(row)
