"""False matches: frames of different fields, carried through the whole way of a frame, one after the other.

    python benchmarks/bench_unrelated.py [--pairs 500] [--kinds quantised hits soft stars] [--seed 1]

For each kind of frame so many pairs of fields that have nothing to do with each other; the second frame of each pair
must be refused. Kinds: `stars`, a decent 16-bit field, where a mirror image is tried as well; `quantised`, 8 bits with
the sky clipped at 0; `hits`, three stars among cosmic rays and hot pixels; `soft`, faint rings out of focus with banded
read-out. Drawn here with numpy alone. Exit status 1 where more than one pair of a kind was matched.
"""

from __future__ import annotations

import argparse
import itertools
import math
import sys
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from livestack.base.frame import Frame, FrameInfo
from livestack.base.settings import Settings
from livestack.engine.live_stack import LiveStack

WIDTH, HEIGHT = 640, 480
KINDS = ("stars", "quantised", "hits", "soft")


def draw(light: np.ndarray, x: float, y: float, flux: float, fwhm: float, ring: float = 0.0) -> None:
    """A Gaussian star, or a ring of that radius, added to (H, W) electrons."""
    reach = int(4 * fwhm + ring + 4)
    x0, x1 = max(int(x) - reach, 0), min(int(x) + reach + 1, WIDTH)
    y0, y1 = max(int(y) - reach, 0), min(int(y) + reach + 1, HEIGHT)
    if x1 <= x0 or y1 <= y0:
        return
    away = np.hypot(np.arange(x0, x1) - x, (np.arange(y0, y1) - y)[:, None])
    profile = np.exp(-0.5 * ((away - ring) / (fwhm / 2.3548)) ** 2)
    light[y0:y1, x0:x1] += flux * profile / profile.sum()


def scatter(rng: np.random.Generator, n: int, least: float, most: float) -> list[tuple[float, float, float]]:
    """n stars anywhere, their fluxes by a power law."""
    u = rng.random(n)
    flux = least / (1 - u * (1 - least / most))
    return list(zip(rng.uniform(0, WIDTH, n), rng.uniform(0, HEIGHT, n), flux, strict=True))


def picture(rng: np.random.Generator, kind: str, sensor: np.ndarray) -> np.ndarray:
    """(H, W) of one field; `sensor` (H, W) is what the same camera adds to every frame."""
    sky = {"stars": 300.0, "quantised": 30.0, "hits": 400.0, "soft": 500.0}[kind]
    light = np.full((HEIGHT, WIDTH), sky)
    if kind == "stars":
        for star in scatter(rng, int(rng.integers(12, 120)), 2e3, 4e5):
            draw(light, *star, 3.0)
    elif kind == "quantised":
        for star in scatter(rng, 100, 4e3, 3e6):
            draw(light, *star, 2.4)
    elif kind == "hits":
        for flux in (9e3, 1.4e4, 2.4e4):
            draw(light, rng.uniform(60, WIDTH - 60), rng.uniform(60, HEIGHT - 60), flux, 3.6)
    else:
        for _, _, flux in scatter(rng, 60, 500, 5e3):
            r, turn = rng.exponential(60), rng.uniform(0, 2 * math.pi)
            draw(light, WIDTH / 2 + r * math.cos(turn), HEIGHT / 2 + r * math.sin(turn), flux, 3.5, ring=3.5)
        for star in scatter(rng, 8, 900, 3500):
            draw(light, *star, 3.5, ring=3.5)
    read = 14.0 if kind == "soft" else 4.0
    data = rng.poisson(light) + rng.normal(0, read, light.shape)
    if kind == "quantised":
        return np.clip(np.round((data - 45) / 90), 0, 255).astype(np.uint8)
    if kind == "hits":
        data += sensor
        for _ in range(rng.poisson(8)):
            y, x = rng.integers(0, HEIGHT - 3), rng.integers(0, WIDTH - 3)
            data[y : y + rng.integers(1, 3), x : x + rng.integers(1, 4)] += rng.uniform(200, 8000)
    if kind == "soft":
        data += np.cumsum(rng.normal(0, 0.5, HEIGHT))[:, None]
    return np.clip(np.round(data + 200), 0, 65535).astype(np.uint16)


def count_matches(kind: str, pairs: int, seed: int) -> tuple[int, int]:
    """(pairs that were tried, pairs whose second frame was stacked)."""
    n = math.ceil(math.sqrt(pairs)) + 1
    rng = np.random.default_rng([seed, KINDS.index(kind)])
    sensor = np.where(rng.random((HEIGHT, WIDTH)) < 2e-4, rng.uniform(300, 4000, (HEIGHT, WIDTH)), 0.0)
    bits = 8 if kind == "quantised" else 16
    info = FrameInfo(WIDTH, HEIGHT, bits=bits, saturation_adu=2.0**bits - 1, exposure_s=30.0)
    frames = [Frame(picture(rng, kind, sensor), info, label=f"{kind} {k}") for k in range(n)]
    tried = matched = 0
    for one, other in itertools.islice(itertools.permutations(frames, 2), pairs):
        with LiveStack(Settings()) as stack:
            if stack.add(one).status == "stacked":
                tried += 1
                matched += stack.add(other).status == "stacked"
    return tried, matched


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", type=int, default=500)
    parser.add_argument("--kinds", nargs="+", default=list(KINDS), choices=KINDS)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    worst = 0
    print("| kind | pairs | matched |\n|---|---|---|")
    for kind in options.kinds:
        tried, matched = count_matches(kind, options.pairs, options.seed)
        print(f"| {kind} | {tried} | {matched} |", flush=True)
        worst = max(worst, matched)
    return int(worst > 1)


if __name__ == "__main__":
    raise SystemExit(main())
