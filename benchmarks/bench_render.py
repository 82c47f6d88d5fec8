"""How long a picture takes, against one plain reading of the same data.

    python benchmarks/bench_render.py [--size 6248x4176] [--threads 2] [--repeat 7]

Prints milliseconds on the clock and of processor time over all threads (each the best of the repeats, after a first
run that compiles) for measuring the look, drawing the preview, a zoomed region, the full picture at 16 bits and the
JPEG; the processor time also as a multiple of `numpy.sum` over the data in the same run, which is about as fast as
memory can be read by one thread. On a busy machine trust the processor time.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable

import numpy as np

from livestack.base.settings import RenderSettings
from livestack.kernels.bands import Bands
from livestack.picture import encode_jpeg, measure_look, measure_small, render, render_small, shrink_stack


def make_data(width: int, height: int) -> np.ndarray:
    """(3, H, W) float32: sky with a gradient, noise, stars, and a border without data."""
    rng = np.random.default_rng(1)
    data = rng.standard_normal((3, height, width), dtype=np.float32) * 20 + 1000
    data += np.linspace(0, 200, width, dtype=np.float32)
    for _ in range(width * height // 10_000):
        y, x = rng.integers(4, height - 4), rng.integers(4, width - 4)
        data[:, y - 2 : y + 3, x - 2 : x + 3] += 100 * rng.pareto(1.5)
    data[:, :20] = np.nan
    return data


def best_ms(call: Callable[[], object], repeat: int) -> tuple[float, float]:
    """Shortest clock and processor time of `repeat` runs, after one that does not count."""
    call()
    times = []
    for _ in range(repeat):
        clock, processor = time.perf_counter(), time.process_time()
        call()
        times.append((time.perf_counter() - clock, time.process_time() - processor))
    return 1000 * min(t[0] for t in times), 1000 * min(t[1] for t in times)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--size", default="6248x4176")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--repeat", type=int, default=7)
    options = parser.parse_args()
    width, height = (int(part) for part in options.size.split("x"))
    data, settings = make_data(width, height), RenderSettings()
    weight, origin = np.isfinite(data).astype(np.float32), np.zeros(3)
    with Bands(options.threads) as bands:

        def draw_live() -> object:
            """As the live preview is drawn: straight from the accumulators, which are read once."""
            small = shrink_stack(data, weight, origin, settings.preview_width, bands)
            return render_small(small, measure_small(small, settings, look), bands=bands)

        look = measure_look(data, settings, bands=bands)
        picture = render(data, look, settings.preview_width, bands=bands)
        region = (width // 3, height // 3, 800, 600)
        _, read = best_ms(lambda: data.sum(dtype=np.float32), options.repeat)
        print(f"{width} x {height} colour, {options.threads} threads; one reading of the data {read:.0f} ms")
        for name, call, repeat in (
            ("copy", data.copy, options.repeat),
            ("measure look", lambda: measure_look(data, settings, look, bands), options.repeat),
            ("preview", lambda: render(data, look, settings.preview_width, bands=bands), options.repeat),
            ("both, as when live", draw_live, options.repeat),
            ("region 800 x 600", lambda: render(data, look, region=region, bands=bands), options.repeat),
            ("full size, 16 bit", lambda: render(data, look, depth=16, bands=bands), 2),
            ("JPEG of the preview", lambda: encode_jpeg(picture), options.repeat),
        ):
            clock, processor = best_ms(call, repeat)
            print(f"  {name:20s} {clock:6.0f} ms clock {processor:6.0f} ms processor {processor / read:7.2f} x reading")


if __name__ == "__main__":
    main()
