"""Time and memory of the stack at full size, as ratios to reading and writing the same arrays once.

    python benchmarks/bench_stack.py [--size 6248x4176] [--repeat 7] [--threads 2] [--memory]

Speed: `Stack.add` (warp, normalise, test, accumulate) of one frame under shifts and rotations, mono and colour, and the
robust start of the warm-up. The floor is one pass that reads the frame and reads and writes the accumulators. The least
of some repeats counts: the machine may be busy. Memory (`--memory`): the peak of a process that stacks a mosaic night.
"""

from __future__ import annotations

import argparse
import itertools
import resource
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from numba import njit

from livestack.kernels.bands import Bands
from livestack.registration import transform as tf
from livestack.simulate import parse_size
from livestack.stacking.accumulators import Stack
from livestack.stacking.noise_model import Limits
from livestack.stacking.normalisation import Normalisation


@njit(nogil=True, cache=True)
def touch(frame, mean, m2, weight, count, y0, y1):
    """Reads the frame, reads and writes the accumulators that every frame changes."""
    for y in range(y0, y1):
        for x in range(frame.shape[1]):
            v = frame[y, x]
            mean[y, x] += v
            m2[y, x] += v
            weight[y, x] += v
            count[y, x] += np.uint16(1)


def least(fn: Callable[[], object], repeat: int) -> float:
    """Milliseconds of the fastest of some runs; the first is not counted."""
    fn()
    best = np.inf
    for _ in range(repeat):
        began = time.perf_counter()
        fn()
        best = min(best, time.perf_counter() - began)
    return 1000 * best


def turned(angle_deg: float, width: int, height: int) -> np.ndarray:
    """A turn about the middle, and a shift that is no whole number of pixels."""
    centre = tf.similarity(1.0, 0.0, (width - 1) / 2, (height - 1) / 2)
    return centre @ tf.similarity(1.0, np.radians(angle_deg), 3.37, -2.21) @ np.linalg.inv(centre)


def speed(channels: int, width: int, height: int, repeat: int, bands: Bands) -> None:
    """Print the table for mono (1) or colour (3)."""
    rng = np.random.default_rng(1)
    # each frame has noise of its own: one frame added again and again would teach the stack that there is none
    frames = [rng.normal(1000, 20, (channels, height, width)).astype(np.float32) for _ in range(6)]
    stack = Stack(channels, height, width, origin=np.full(channels, 1000.0))
    normalisation = Normalisation(np.full(channels, 1.01), np.full((channels, 10), 0.1))
    limits = Limits(np.full(channels, 400.0), np.full(channels, 0.5), 0.1, 0.05, 0.1, 3.5, 12.0)

    def floor() -> None:
        for c in range(channels):
            bands.run(
                lambda y0, y1, c=c: touch(
                    frames[0][c], stack.mean[c], stack.m2[c], stack.weight[c], stack.count[c], y0, y1
                ),
                height,
            )

    one_pass = least(floor, repeat)
    words = "mono" if channels == 1 else "colour"
    print(f"\n{words} {width}x{height}, {bands.threads} thread(s): one read and write pass {one_pass:.0f} ms")
    for name, matrix in [
        ("whole pixels", np.eye(3)),
        *((f"{a:g} deg", turned(a, width, height)) for a in (0, 0.05, 0.5, 5, 45, 90, 180)),
    ]:
        for array in stack.arrays().values():
            array[:] = 0
        for planes in frames[:4]:
            stack.add(planes, matrix, normalisation, 1.0, None, bands)
        turn = itertools.cycle(frames[4:])
        took = least(
            lambda matrix=matrix, turn=turn: stack.add(next(turn), matrix, normalisation, 1.0, limits, bands), repeat
        )
        print(f"  add, {name:13} {took:6.0f} ms  {took / one_pass:5.1f} passes")


def memory(width: int, height: int, frames: int) -> None:
    """Print the peak memory of a mosaic night of simulated arrays, by stage."""
    from livestack.base.frame import Frame, FrameInfo, FrameKind
    from livestack.base.settings import Settings
    from livestack.engine.live_stack import LiveStack

    def peak() -> int:
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024

    rng = np.random.default_rng(2)
    stars = [
        (int(x), int(y), f)
        for x, y, f in zip(
            rng.uniform(40, width - 40, 400),
            rng.uniform(40, height - 40, 400),
            rng.pareto(1, 400) * 4000 + 1500,
            strict=True,
        )
    ]
    yy, xx = np.mgrid[-7:8, -7:8]
    tile = rng.normal(0, 20, (512, 512)).astype(np.float32)
    print(f"\nmosaic {width}x{height}, {frames} frames; peak memory in MB: {peak()} before")
    with LiveStack(Settings()) as live:
        for k in range(frames):
            data = np.empty((height, width), np.uint16)
            shift = rng.integers(0, 512, 2)
            for y in range(0, height, 512):
                rows = min(512, height - y)
                noise = np.roll(tile, (shift[0] + y, shift[1]), (0, 1))
                wide = np.tile(noise[:rows], (1, width // 512 + 1))[:, :width]
                data[y : y + rows] = 1000 + wide
            dx, dy = rng.uniform(-3, 3, 2)
            for x, y, f in stars:
                light = f * np.exp(-((xx - dx) ** 2 + (yy - dy) ** 2) / (2 * 1.4**2))
                data[y - 7 : y + 8, x - 7 : x + 8] += light.astype(np.uint16)
            info = FrameInfo(width, height, FrameKind.LIGHT, bayer="RGGB", saturation_adu=65535.0, exposure_s=30.0)
            outcome = live.add(Frame(data, info, label=f"frame {k}"))
            print(
                f"  frame {k:3} {outcome.status:8} {peak():6} MB  "
                + " ".join(f"{n} {1000 * s:.0f}" for n, s in outcome.timings_s.items())
            )
        live.result(copy=False)  # as the session asks for it
        print(f"  result       {peak():6} MB")


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--size", default="6248x4176")
    parser.add_argument("--repeat", type=int, default=7)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--memory", action="store_true", help="measure memory instead of time")
    parser.add_argument("--frames", type=int, default=13)
    words = parser.parse_args()
    width, height = parse_size(words.size)
    if words.memory:
        memory(width, height, words.frames)
        return
    with Bands(words.threads) as bands:
        for channels in (1, 3):
            speed(channels, width, height, words.repeat, bands)


if __name__ == "__main__":
    main()
