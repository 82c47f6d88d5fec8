"""What durability costs: share of the time that journal and checkpoints take on frames of 26 megapixels.

    python benchmarks/bench_durability.py [--size 6248x4176] [--frames 40] [--pace 0]

One noise-free field is shifted and given fresh noise for each frame; the same frames go through a session twice, as it
is and with journal lines unsynced and checkpoints switched off, and the stacking thread's own waits are measured. Also
printed: bytes of rejected samples a frame, size and duration of a checkpoint.
"""

from __future__ import annotations

import argparse
import shutil
import tempfile
import time
from pathlib import Path

import numpy as np
from astropy.io import fits

from livestack.base.settings import Settings
from livestack.session import session as module
from livestack.session.checkpoint import Checkpoints
from livestack.session.finish import SessionEnd
from livestack.session.journal_writer import JournalWriter
from livestack.session.session import Session
from livestack.stacking.mask_store import MaskStore


def write_frames(folder: Path, width: int, height: int, number: int) -> None:
    """A field of 800 stars, drifting, with fresh noise."""
    folder.mkdir()
    rng = np.random.default_rng(1)
    canvas = np.full((height + 64, width + 64), 800, np.float32)
    reach = np.arange(-12, 13)
    for x, y, flux in zip(
        rng.uniform(20, width + 40, 800), rng.uniform(20, height + 40, 800), 10 ** rng.uniform(3, 5, 800), strict=True
    ):
        i, j = int(x), int(y)
        shape = np.exp(-(((reach - (x - i)) ** 2)[None] + ((reach - (y - j)) ** 2)[:, None]) / (2 * 1.4**2))
        canvas[j - 12 : j + 13, i - 12 : i + 13] += flux * shape / (2 * np.pi * 1.4**2)
    noise = rng.normal(0, 1, canvas.size // 4).astype(np.float32)
    for n in range(number):
        dy, dx = (n * 3) % 40, (n * 5) % 50
        image = canvas[dy : dy + height, dx : dx + width].copy()
        start = int(rng.integers(0, len(noise)))
        image += np.resize(np.roll(noise, start), image.shape) * np.sqrt(image)
        header = fits.Header({"OBJECT": "M 27", "IMAGETYP": "Light Frame", "EXPTIME": 10.0})
        fits.PrimaryHDU(np.clip(image, 0, 65535).astype(np.uint16), header).writeto(folder / f"light_{n:04d}.fits")


class Clocked:
    """Sums up the time spent in some calls."""

    def __init__(self) -> None:
        self.spent_s = 0.0
        self.calls = 0

    def wrap(self, function):  # type: ignore[no-untyped-def]
        def timed(*arguments, **named):  # type: ignore[no-untyped-def]
            begin = time.perf_counter()
            try:
                return function(*arguments, **named)
            finally:
                self.spent_s += time.perf_counter() - begin
                self.calls += 1

        return timed


def run(folder: Path, output: Path, durable: bool, pace_s: float) -> dict[str, float]:
    """One session over all frames; how long its loop took, and what it waited for."""
    save = {"final_pass": False}
    if not durable:
        save |= {"checkpoint_every_frames": 10**9, "checkpoint_every_s": 1e9}
    settings = Settings.model_validate({"save": save})
    session = Session([folder], settings, output, one_shot=True)
    journal, waits, begins, masks = Clocked(), Clocked(), Clocked(), Clocked()
    seen: list[float] = []
    append, collect, begin = JournalWriter.append, Checkpoints.collect, Checkpoints.on_event
    keep, finish = MaskStore.keep, module.finish
    if durable:
        JournalWriter.append = journal.wrap(append)  # type: ignore[method-assign]
    Checkpoints.collect = waits.wrap(collect)  # type: ignore[method-assign]
    Checkpoints.on_event = begins.wrap(begin)  # type: ignore[method-assign]
    MaskStore.keep = masks.wrap(keep)  # type: ignore[method-assign]
    module.finish = lambda *_: SessionEnd(0, "")
    take = session._take
    frames: dict[str, float] = {}

    def taken(parts, read):  # type: ignore[no-untyped-def]
        seen.append(time.perf_counter())
        take(parts, read)
        seen.append(time.perf_counter())
        frames["spent"] = parts.checkpoints.writer.spent_s
        frames["masks"] = parts.masks.length
        if pace_s:
            time.sleep(pace_s)

    session._take = taken  # type: ignore[method-assign]
    try:
        session.run()
    finally:
        JournalWriter.append, Checkpoints.collect, Checkpoints.on_event = append, collect, begin  # type: ignore[method-assign]
        MaskStore.keep, module.finish = keep, finish  # type: ignore[method-assign]
    return {
        "loop": seen[-1] - seen[0], "journal": journal.spent_s, "lines": journal.calls, "waits": waits.spent_s,
        "begins": begins.spent_s, "masks": masks.spent_s, "writing": frames["spent"], "bytes": frames["masks"],
    }  # fmt: skip


def main() -> None:
    """Print the figures."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--size", default="6248x4176")
    parser.add_argument("--frames", type=int, default=40)
    parser.add_argument("--pace", type=float, default=0.0, help="seconds between two frames; 0: as fast as it goes")
    options = parser.parse_args()
    width, height = map(int, options.size.split("x"))
    home = Path(tempfile.mkdtemp(prefix="livestack-durability-"))
    try:
        write_frames(home / "lights", width, height, options.frames)
        run(home / "lights", home / "warm", False, 0)  # compiles, and fills the page cache
        bare = run(home / "lights", home / "bare", False, options.pace)
        full = run(home / "lights", home / "full", True, options.pace)
        n = options.frames
        print(f"{n} frames of {width} x {height}, {options.pace} s between two")
        print(f"without checkpoints {1000 * bare['loop'] / n:.0f} ms a frame, with {1000 * full['loop'] / n:.0f} ms")
        print(
            f"journal {1000 * full['journal'] / max(1, full['lines']):.2f} ms a line, "
            f"{100 * full['journal'] / full['loop']:.2f} % of the time"
        )
        held = full["waits"] + full["begins"] + full["masks"]
        print(
            f"checkpoints: {full['writing']:.2f} s of writing beside, stacking held up for {held:.2f} s, "
            f"{100 * held / full['loop']:.2f} % of the time"
        )
        print(f"rejected samples: {full['bytes'] / n / 1000:.0f} kB a frame on disk")
        size = sum(path.stat().st_size for path in (home / "full" / "checkpoint").glob("state-*.bin"))
        number = len(list((home / "full" / "checkpoint").glob("state-*.bin")))
        print(f"{number} checkpoint(s) kept, {size / max(1, number) / 1e6:.0f} MB each")
    finally:
        shutil.rmtree(home, ignore_errors=True)


if __name__ == "__main__":
    main()
