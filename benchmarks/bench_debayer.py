"""Debayering: how near to the truth, and how fast beside OpenCV's demosaicing of the same frame.

The truth is a colour picture of Gaussian stars (integrated over pixels) of known, different colours over a faint
nebula. It is sampled by an RGGB mosaic, with photon noise or without, and brought back. Run from the repository's root:

    PYTHONPATH=. python benchmarks/bench_debayer.py
"""

from __future__ import annotations

import argparse
import time

import cv2
import numpy as np
from scipy.special import erf

from livestack.base.frame import Frame, FrameInfo
from livestack.calibration.calibrate import MatchedMasters, calibrate
from livestack.calibration.cosmetic import DefectLearner, repair
from livestack.calibration.debayer import debayer
from livestack.calibration.defects import DefectMap
from livestack.kernels.bands import Bands

SKY = np.array([300.0, 400.0, 250.0])
RGGB = ((0, 0, 0), (1, 0, 1), (1, 1, 0), (2, 1, 1))


def make_truth(shape, fwhm_px, n_stars, seed):
    """(3, H, W) expected electrons, and the stars' (x, y, fluxes in R, G, B)."""
    rng = np.random.default_rng(seed)
    sigma = fwhm_px / 2.3548
    margin = 20
    side = int(np.sqrt(n_stars))
    xs = np.tile(np.linspace(margin, shape[1] - margin, side), side) + rng.uniform(-2, 2, side * side)
    ys = np.repeat(np.linspace(margin, shape[0] - margin, side), side) + rng.uniform(-2, 2, side * side)
    flux = 10 ** rng.uniform(4, 5, side * side)
    colour = np.stack([rng.uniform(0.5, 1.5, side * side), np.ones(side * side), rng.uniform(0.4, 1.4, side * side)], 1)
    y, x = np.mgrid[: shape[0], : shape[1]]
    nebula = 60 * np.exp(-((x - shape[1] / 2) ** 2 + (y - shape[0] / 2) ** 2) / (2 * (shape[0] / 5) ** 2))
    picture = SKY[:, None, None] + nebula * np.array([1.0, 0.4, 0.6])[:, None, None]

    def along(centre, n):
        edges = np.arange(n + 1) - 0.5
        return np.diff(0.5 * erf((edges - centre) / (sigma * 2**0.5)))

    for x0, y0, f, c in zip(xs, ys, flux, colour, strict=True):
        picture += (f * c)[:, None, None] * np.outer(along(y0, shape[0]), along(x0, shape[1]))
    return picture, (xs, ys, flux[:, None] * colour)


def measure(result, truth, stars, fwhm_px, scale):
    """rms error of the planes around stars and of the sky (ADU), error of the stars' colours and widths (%)."""
    xs, ys, fluxes = stars
    near = np.zeros(truth.shape[1:], bool)
    colour_errors, widths = [], []
    reach = int(np.ceil(2.2 * fwhm_px / scale)) + 1
    for x, y, flux in zip((xs + 0.5) / scale - 0.5, (ys + 0.5) / scale - 0.5, fluxes, strict=True):
        cx, cy = round(x), round(y)
        window = np.s_[:, cy - reach : cy + reach + 1, cx - reach : cx + reach + 1]
        near[window[1:]] = True
        gy, gx = np.mgrid[cy - reach : cy + reach + 1, cx - reach : cx + reach + 1]
        ring = (np.maximum(abs(gx - cx), abs(gy - cy)) == reach)[None]
        part = result[window] - np.array([np.median(p[ring[0]]) for p in result[window]])[:, None, None]
        disc = np.hypot(gx - x, gy - y) <= 2 * fwhm_px / scale
        measured = (part * disc).sum(axis=(1, 2))
        colour_errors.append((measured[[0, 2]] / measured[1]) / (flux[[0, 2]] / flux[1]) - 1)
        ideal = truth[window] - np.array([np.median(p[ring[0]]) for p in truth[window]])[:, None, None]
        r2 = (gx - x) ** 2 + (gy - y) ** 2
        core = np.hypot(gx - x, gy - y) <= 1.2 * fwhm_px / scale + 1
        width = [(p * r2 * core).sum() / (p * core).sum() for p in (part.sum(axis=0), ideal.sum(axis=0))]
        widths.append((width[0] / width[1]) ** 0.5)
    error = result - truth
    return (
        float(np.sqrt(np.mean(error[:, near] ** 2))),
        float(np.sqrt(np.mean(error[:, ~near] ** 2))),
        100 * float(np.sqrt(np.mean(np.square(colour_errors)))),
        100 * (float(np.median(widths)) - 1),
    )


def colour_table(noisy):
    rng = np.random.default_rng(5)
    print("photon noise" if noisy else "no noise")
    print("| FWHM px | kernel | rms near stars | rms sky | star colours % | width % |")
    print("|---|---|---|---|---|---|")
    for fwhm_px in (1.8, 2.5, 4.0):
        truth, stars = make_truth((620, 760), fwhm_px, 300, 1)
        light = rng.poisson(truth).astype(np.float64) if noisy else truth
        mosaic = np.empty(truth.shape[1:], np.float32)
        for plane, j, i in RGGB:
            mosaic[j::2, i::2] = light[plane, j::2, i::2]
        halves = truth.reshape(3, truth.shape[1] // 2, 2, truth.shape[2] // 2, 2).mean(axis=(2, 4))
        for method in ("mhc", "bilinear", "superpixel"):
            scale = 2 if method == "superpixel" else 1
            result = debayer(mosaic, "RGGB", method)
            row = measure(result, halves if scale == 2 else truth, stars, fwhm_px, scale)
            print(f"| {fwhm_px} | {method} | " + " | ".join(f"{v:.2f}" for v in row) + " |")
        for name, code in (("cv2", cv2.COLOR_BayerRGGB2RGB), ("cv2 edge-aware", cv2.COLOR_BayerRGGB2RGB_EA)):
            counts = np.clip(np.rint(mosaic * 2), 0, 65535).astype(np.uint16)
            result = cv2.demosaicing(counts, code).transpose(2, 0, 1) / 2.0
            row = measure(result, truth, stars, fwhm_px, 1)
            print(f"| {fwhm_px} | {name} | " + " | ".join(f"{v:.2f}" for v in row) + " |")


def clock(call, repeat):
    """Best and median time, ms."""
    times = []
    for _ in range(repeat):
        begin = time.perf_counter()
        call()
        times.append(1e3 * (time.perf_counter() - begin))
    return min(times), float(np.median(times))


def speed_table(width, height, repeat, threads):
    rng = np.random.default_rng(2)
    raw = rng.normal(1000, 30, (height, width)).astype(np.uint16)
    mosaic = raw.astype(np.float32)
    out = np.empty((3, height, width), np.float32)
    frame = Frame(raw, FrameInfo(width=width, height=height, bayer="RGGB"))
    masters = MatchedMasters(frame.info, np.full_like(mosaic, 500), np.ones_like(mosaic))
    defects = DefectMap.of(raw.shape, hot=rng.choice(raw.size, raw.size // 1000, replace=False))
    learner = DefectLearner(raw.shape, "RGGB")
    defects.mask.any()
    cv2.setNumThreads(threads)
    with Bands(threads) as bands:
        steps = {
            "copy of float32 (the yardstick)": lambda: np.copyto(out[0], mosaic),
            "calibrate uint16, dark and flat": lambda: calibrate(frame, masters, out[0], bands),
            "repair 1 pixel in 1000": lambda: repair(out[0], defects, "RGGB"),
            "learn defects": lambda: learner.update(mosaic, (9.0, 4.0), bands),
            "debayer mhc": lambda: debayer(mosaic, "RGGB", "mhc", out, bands),
            "debayer bilinear": lambda: debayer(mosaic, "RGGB", "bilinear", out, bands),
            "debayer superpixel": lambda: debayer(mosaic, "RGGB", "superpixel", None, bands),
            "cv2 demosaicing (bilinear, uint16)": lambda: cv2.demosaicing(raw, cv2.COLOR_BayerRGGB2RGB),
            "cv2 demosaicing edge-aware (uint16)": lambda: cv2.demosaicing(raw, cv2.COLOR_BayerRGGB2RGB_EA),
            "cv2 demosaicing, then float planes": lambda: [
                plane.astype(np.float32) for plane in cv2.split(cv2.demosaicing(raw, cv2.COLOR_BayerRGGB2RGB))
            ],
        }  # fmt: skip
        print(f"{width} x {height}, {threads} threads, ms (best, median of {repeat}), ratio of bests to the copy")
        print("| step | best | median | ratio |")
        print("|---|---|---|---|")
        yardstick = None
        for name, call in steps.items():
            call()
            best, typical = clock(call, repeat)
            yardstick = yardstick or best
            print(f"| {name} | {best:.1f} | {typical:.1f} | {best / yardstick:.1f} |")


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeat", type=int, default=9)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--size", default="6248x4176")
    arguments = parser.parse_args()
    colour_table(noisy=False)
    colour_table(noisy=True)
    width, height = map(int, arguments.size.split("x"))
    speed_table(width, height, arguments.repeat, arguments.threads)


if __name__ == "__main__":
    main()
