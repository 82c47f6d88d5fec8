"""What a gradient's removal leaves of the gradient, and of a nebula, over a grid of simulated skies.

    python benchmarks/bench_gradient.py [--size 650x420] [--noise 4] [--quick]

Each sky is a gradient (planes of 10, 30 and 60 %, vignetting, a bowl, the light of a town beyond one corner), stars,
and one object: Gaussian, exponential, ragged (many knots and a dark lane) or a galaxy, from 3 to 50 % of the field's
side wide (FWHM over the root of width times height), in the middle, beside it or in a corner, 3, 15 or 60 % as bright
as the sky. Printed, for each width and profile, the median and the 95th percentile over the rest of the grid of

* the residual gradient: 99th percentile of |fitted - true sky|, less its median, where there is no object, in per cent
  of the sky's level;
* the flux lost (or gained): what the fit took too much where the brightest 90 % of the object's light lie, less the
  same median, in per cent of the object's light there.

Then the worst cases. `--noise` is that of the stack, in ADU a pixel at a sky of 1000.
"""

from __future__ import annotations

import argparse
import itertools
import time
from collections.abc import Sequence
from typing import Any

import cv2
import numpy as np

from livestack.picture import fit_background

SKY = 1000.0
WIDTHS = (0.03, 0.1, 0.2, 0.33, 0.5)
PLACES = {"middle": (0.0, 0.05), "beside": (0.35, -0.3), "corner": (-0.75, 0.7)}
BRIGHTNESS = (0.03, 0.15, 0.6)


def make_gradients(u: np.ndarray, v: np.ndarray) -> dict[str, np.ndarray]:
    """Skies, (H, W) each, over the field's coordinates from -1 to 1."""
    plane = (0.8 * u - 0.6 * v) / 2.8
    # A lens darkens the corners, in pixels round the middle.
    ratio = u.shape[0] / u.shape[1]
    radius2 = (u**2 + (ratio * v) ** 2) / (1 + ratio**2)
    return {
        "plane 10 %": SKY * (1 + 0.1 * plane),
        "plane 30 %": SKY * (1 + 0.3 * plane),
        "plane 60 %": SKY * (1 + 0.6 * plane),
        "vignetting": SKY * (1 + 0.1 * plane) * (1 - 0.2 * radius2),
        "bowl": SKY * (1 + 0.15 * plane + 0.12 * (0.7 * u**2 + 0.3 * u * v + 0.2 * v**2)),
        "town": SKY * (1 + 0.35 * np.exp(-np.hypot(u - 1.2, v - 1.2) / 0.9)),
    }


def make_object(kind: str, width_px: float, x: np.ndarray, y: np.ndarray, seed: int = 5) -> np.ndarray:
    """(H, W), peak 1; x and y in pixels from its centre."""
    r = np.hypot(x, y)
    if kind == "Gaussian":
        return np.exp(-4 * np.log(2) * (r / width_px) ** 2)
    if kind == "exponential":
        return np.exp(-2 * np.log(2) * r / width_px)
    if kind == "galaxy":
        a, b = 0.8 * x + 0.6 * y, -0.6 * x + 0.8 * y
        disc = np.exp(-2 * np.log(2) * np.hypot(a, b / 0.4) / width_px)
        return (disc + 0.6 * np.exp(-2 * np.log(2) * r / (0.15 * width_px))) / 1.6
    rng = np.random.default_rng(seed)
    glow = 0.3 * np.exp(-4 * np.log(2) * (r / width_px) ** 2)
    for _ in range(14):
        dx, dy = rng.normal(0, 0.3 * width_px, 2)
        size = width_px * rng.uniform(0.08, 0.35)
        stretch = rng.uniform(0.5, 1.0)
        glow += rng.uniform(0.2, 1.0) * np.exp(-(((x - dx) * stretch) ** 2 + (y - dy) ** 2) / (2 * size**2))
    glow *= 1 - 0.6 * np.exp(-(((x - 0.5 * y) / (0.1 * width_px)) ** 2))
    return glow / glow.max()


def make_stars(height: int, width: int, rng: np.random.Generator) -> np.ndarray:
    """(H, W): as many faint stars as a rich field has, and a few bright ones with wide wings."""
    stars = np.zeros((height, width))
    ys, xs = np.mgrid[-12:13, -12:13]
    spot = (1 + (ys**2 + xs**2) / 6.0) ** -2.5
    for _ in range(height * width // 600):
        cy, cx = rng.integers(12, height - 12), rng.integers(12, width - 12)
        stars[cy - 12 : cy + 13, cx - 12 : cx + 13] += min(25 * rng.pareto(1.2), 30000) * spot
    return stars


def judge(surface: np.ndarray, sky: np.ndarray, glow: np.ndarray) -> tuple[float, float]:
    """Residual gradient and flux lost, per cent; see the top."""
    wrong = surface - sky
    dark = glow <= max(0.005 * float(glow.max()), float(np.quantile(glow, 0.05)))
    wrong = wrong - np.median(wrong[dark])
    ordered = np.sort(glow, axis=None)[::-1]
    inside = glow >= ordered[np.searchsorted(np.cumsum(ordered), 0.9 * ordered.sum())]
    return (
        100 * float(np.quantile(np.abs(wrong[dark]), 0.99)) / SKY,
        100 * float(wrong[inside].sum() / glow[inside].sum()),
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--size", default="650x420")
    parser.add_argument("--noise", type=float, default=4.0)
    parser.add_argument("--quick", action="store_true", help="a sixth of the grid")
    parser.add_argument("--worst", type=int, default=15, help="how many to list")
    options = parser.parse_args()
    width, height = (int(part) for part in options.size.split("x"))
    rng = np.random.default_rng(1)
    rows, columns = np.mgrid[0:height, 0:width].astype(float)
    u, v = (columns + 0.5) * 2 / width - 1, (rows + 0.5) * 2 / height - 1
    grain = cv2.GaussianBlur(rng.normal(0, 1, (height, width)), (0, 0), 0.5)
    grain *= options.noise / grain.std()
    grain += make_stars(height, width, rng)
    gradients = make_gradients(u, v)
    found = []
    spent = 0.0
    cases = itertools.product(("Gaussian", "exponential", "ragged", "galaxy"), WIDTHS, PLACES, BRIGHTNESS, gradients)
    for number, (kind, wide, place, bright, gradient) in enumerate(cases):
        if options.quick and number % 7:
            continue
        x = (u - PLACES[place][0]) * width / 2
        y = (v - PLACES[place][1]) * height / 2
        glow = bright * SKY * make_object(kind, wide * (width * height) ** 0.5, x, y)
        image = (gradients[gradient] + glow + grain)[None].astype(np.float32)
        begin = time.perf_counter()
        surface = fit_background(image)
        spent += time.perf_counter() - begin
        found.append(
            (kind, wide, place, bright, gradient, *judge(surface.evaluate(height, width)[0], gradients[gradient], glow))
        )

    print(f"{len(found)} skies of {width} x {height}, {1000 * spent / len(found):.1f} ms each")
    print(f"{'':24s} residual gradient %      flux lost %")
    print(f"{'':24s} median   95 %          median   95 %   over 2 %")

    def tell(name: str, chosen: Sequence[tuple[Any, ...]]) -> None:
        residual = np.array([float(case[5]) for case in chosen])
        lost = np.abs([float(case[6]) for case in chosen])
        share = 100 * float(np.mean(lost > 2))
        print(
            f"{name:24s} {np.median(residual):6.2f} {np.quantile(residual, 0.95):6.2f}  "
            f"       {np.median(lost):6.2f} {np.quantile(lost, 0.95):6.2f}   {share:4.0f} % of cases"
        )

    for kind, wide in itertools.product(("Gaussian", "exponential", "ragged", "galaxy"), WIDTHS):
        tell(f"{kind} {100 * wide:.0f} %", [case for case in found if case[:2] == (kind, wide)])
    for index, values in ((2, PLACES), (3, BRIGHTNESS), (4, gradients)):
        for value in values:
            tell(str(value), [case for case in found if case[index] == value])
    tell("all", found)
    for name, column in (("residual", 5), ("flux", 6)):
        print(f"worst {name}:")
        for case in sorted(found, key=lambda case: -abs(case[column]))[: options.worst]:
            print("  {:12s} {:.2f} {:7s} {:.2f} {:11s} residual {:6.2f} %  lost {:7.2f} %".format(*case))


if __name__ == "__main__":
    main()
