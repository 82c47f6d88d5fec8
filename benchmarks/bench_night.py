"""Seconds a frame, from the file to the accumulators, by step; and the memory that a night takes.

    PYTHONPATH=. python benchmarks/bench_night.py [--sizes 1936x1096 6248x4176] [--kinds mono osc]
        [--frames 60] [--folder DIR] [--debayer drizzle]

A simulated night is written once into a folder (kept and taken again when it is named). Each row of the tables runs
in a process of its own, so that its peak of memory is its own.

* library: `read_frames` and `LiveStack.add` one after the other, nothing else going on; "learn" looks for defects
  of the sensor, "other" is what is left (fingerprint, judging, normalising).
* session: `livestack stack --no-final-pass --json`, reader thread, previews and PSF included; seconds between two
  frames' lines of the journal, and the resident memory at frames 15 and 60 (Linux tells it).

Warm means after frame 12: the warm-up of ten frames, whose robust start is a line of its own, lies behind. On a
machine that others use the clock is theirs as much as ours; the processor's time, of all threads, over the number
of cores is what the clock would show on an idle one, were every step shared evenly. The fastest tenth lies between.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

SIZES = ("1936x1096", "4144x2822", "6248x4176")
KINDS = ("mono", "osc")
STEPS = ("read", "calibrate", "sky", "stars", "register", "learn", "develop", "accumulate")
WARM = 12
ROBUST_START = 9
HEADER_BLOCK = 2880


def write_night(folder: Path, kind: str, size: str, frames: int, distinct: int) -> Path:
    """A folder with `frames` FITS frames, of which `distinct` are simulated; taken again when it is there already.

    Later frames are earlier ones to and fro, the last bit of each pixel drawn anew: no copies, as the session sees it.
    """
    from livestack.simulate import named_scenario, parse_size, simulate_frame
    from livestack.simulate.files import encode_frame

    place = folder / f"{kind}-{size}"
    place.mkdir(parents=True, exist_ok=True)
    width, height = parse_size(size)
    night = named_scenario(kind, frames=frames, width=width, height=height, seed=1)
    distinct = min(distinct, frames)
    draw = np.random.default_rng(1)
    for number in range(frames):
        path = place / f"light_{number:04d}.fits"
        if path.exists():
            continue
        if number < distinct:
            path.write_bytes(encode_frame(night, simulate_frame(night, number).frame, "fits"))
            continue
        lap, step = divmod(number, distinct - 1) if distinct > 1 else (0, 0)
        source = step if lap % 2 == 0 else distinct - 1 - step
        content = bytearray((place / f"light_{source:04d}.fits").read_bytes())
        start = len(content) - -(-2 * width * height // HEADER_BLOCK) * HEADER_BLOCK
        low_bytes = np.frombuffer(content, np.uint8)[start + 1 : start + 2 * width * height : 2]
        low_bytes ^= draw.integers(0, 2, low_bytes.size, np.uint8)
        path.write_bytes(content)
    return place


def resident_mb(process: int | str = "self") -> float:
    """Memory that a process holds now, MB; NaN where the system does not tell."""
    try:
        for line in Path(f"/proc/{process}/status").read_text().splitlines():
            if line.startswith("VmRSS:"):
                return float(line.split()[1]) / 1024
    except OSError:
        pass
    return float("nan")


class Stopwatch:
    """Clock and processor seconds (of all threads) spent in functions, by step."""

    def __init__(self) -> None:
        self.seconds: dict[str, np.ndarray] = {}

    def note(self, step: str, begin: np.ndarray) -> None:
        """Add what has gone by since `begin`."""
        self.seconds[step] = self.seconds.get(step, np.zeros(2)) + now() - begin

    def watch(self, place: object, name: str, step: str) -> None:
        """Time a function or method from here on."""
        function = getattr(place, name)

        def timed(*arguments, **words):
            begin = now()
            try:
                return function(*arguments, **words)
            finally:
                self.note(step, begin)

        setattr(place, name, timed)


def now() -> np.ndarray:
    """(clock, processor) seconds."""
    return np.array([time.perf_counter(), time.process_time()])


def run_library(place: Path, frames: int, debayer: str) -> None:
    """Child: the night through the library; prints one JSON object."""
    from livestack.base.settings import CalibrationSettings, Settings
    from livestack.engine import accumulation, developer, prepare
    from livestack.engine.live_stack import LiveStack
    from livestack.engine.sensor_defects import SensorDefects
    from livestack.engine.tracker import Tracker
    from livestack.formats import read_frames
    from livestack.kernels.bands import Bands

    watch = Stopwatch()
    watch.watch(prepare, "apply_masters", "calibrate")
    watch.watch(prepare, "measure_sky", "sky")
    watch.watch(prepare, "find_stars", "stars")
    watch.watch(Tracker, "register", "register")
    watch.watch(SensorDefects, "learn", "learn")
    watch.watch(developer.Developer, "whole", "develop")
    watch.watch(accumulation.Accumulation, "put", "accumulate")
    rows, memory, refused = [], {}, 0
    settings = Settings(calibration=CalibrationSettings(debayer=debayer))
    with LiveStack(settings, bands=Bands(os.cpu_count() or 1)) as stack:
        for number, path in enumerate(sorted(place.glob("light_*.fits"))[:frames]):
            watch.seconds.clear()
            begin = now()
            frame = next(read_frames(path))
            watch.note("read", begin)
            refused += not stack.add(frame).stacked
            watch.note("sum", begin)
            row = [watch.seconds.get(step, np.zeros(2)) for step in STEPS]
            rows.append(np.array([*row, watch.seconds["sum"] - np.sum(row, axis=0), watch.seconds["sum"]]).tolist())
            memory[number + 1] = resident_mb()
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(json.dumps({"rows": rows, "memory": memory, "peak": peak, "refused": refused}))


def run_session(place: Path, frames: int, debayer: str) -> dict:
    """The night through the command line; seconds between the journal's lines, memory on the way, the whole run."""
    with tempfile.TemporaryDirectory() as output:
        command = [
            sys.executable, "-m", "livestack", "stack", *map(str, sorted(place.glob("light_*.fits"))[:frames]),
            "--no-final-pass", "--json", "--output", output, "--debayer", debayer,
        ]  # fmt: skip
        begin = time.perf_counter()
        stamps, memory, refused, preview = [], {}, 0, 0
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as process:
            assert process.stdout is not None
            for line in process.stdout:
                record = json.loads(line)
                if record["type"] != "frame":
                    continue
                stamps.append(time.perf_counter() - begin)
                refused += record["status"] != "stacked"
                memory[len(stamps)] = resident_mb(process.pid)
            _, status, usage = os.wait4(process.pid, 0)
            process.returncode = os.waitstatus_to_exitcode(status)
        whole = time.perf_counter() - begin
        preview = (Path(output) / "preview.jpg").exists()
    return {
        "stamps": stamps, "memory": memory, "peak": usage.ru_maxrss / 1024, "refused": refused, "whole": whole,
        "processor": usage.ru_utime + usage.ru_stime, "status": process.returncode, "preview": preview,
    }  # fmt: skip


def fastest(seconds: np.ndarray) -> float:
    """Tenth percentile."""
    return float(np.percentile(seconds, 10))


def at(memory: dict, number: int) -> str:
    """Memory at a frame, as text."""
    found = {int(key): value for key, value in memory.items()}
    return f"{found[number]:.0f}" if number in found else "-"


def library_table(cases: list[tuple[str, str, Path]], frames: int, debayer: str) -> None:
    """Print the table of steps."""
    names = [*STEPS, "other", "**sum**"]
    print("\nlibrary, ms a frame after frame 12; MB resident at frames 15 and 60, and at most\n")
    print("| night | | " + " | ".join(names) + " | robust start | frame 15 | frame 60 | peak |")
    print("|---" * (len(names) + 6) + "|")
    for kind, size, place in cases:
        command = [sys.executable, __file__, "--child", str(place), "--frames", str(frames), "--debayer", debayer]
        answer = json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout)
        rows = 1000 * np.array(answer["rows"])
        warm, start = rows[WARM:], rows[ROBUST_START, -1]
        memory = answer["memory"]
        lines = {
            "clock, median": [*np.median(warm[..., 0], axis=0), start[0]],
            "clock, fastest tenth": [*(fastest(column) for column in warm[..., 0].T)],
            "processor, median": [*np.median(warm[..., 1], axis=0), start[1]],
        }
        for what, values in lines.items():
            cells = [f"{value:.0f}" for value in values] + [""] * (len(names) + 1 - len(values))
            print(f"| {kind} {size} | {what} | " + " | ".join(cells) + f" | {at(memory, 15)} | {at(memory, 60)} "
                  f"| {answer['peak']:.0f} |", flush=True)  # fmt: skip
        share = np.median(warm[:, :-1, 1], axis=0) / np.median(warm[:, -1, 1])
        print("| | share | " + " | ".join(f"{100 * part:.0f} %" for part in share) + " | | | | | |", flush=True)
        if answer["refused"]:
            print(f"{answer['refused']} frames were refused", flush=True)


def session_table(cases: list[tuple[str, str, Path]], frames: int, debayer: str) -> None:
    """Print the table of whole sessions."""
    print("\nsession (`livestack stack --no-final-pass`): ms a frame, MB\n")
    print(
        "| night | median | fastest tenth | mean | first frame | whole run | processor | frame 15 | frame 60 | peak |"
    )
    print("|---" * 10 + "|")
    for kind, size, place in cases:
        run = run_session(place, frames, debayer)
        steps = 1000 * np.diff(run["stamps"])[WARM - 1 :]
        print(f"| {kind} {size} | {np.median(steps):.0f} | {fastest(steps):.0f} | {np.mean(steps):.0f} "
              f"| {run['stamps'][0]:.1f} s | {run['whole']:.1f} s | {run['processor']:.1f} s "
              f"| {at(run['memory'], 15)} | {at(run['memory'], 60)} | {run['peak']:.0f} |", flush=True)  # fmt: skip
        if run["refused"] or run["status"]:
            print(f"{run['refused']} frames were refused, exit status {run['status']}", flush=True)


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", nargs="+", default=list(SIZES))
    parser.add_argument("--kinds", nargs="+", default=list(KINDS), choices=KINDS)
    parser.add_argument("--frames", type=int, default=60)
    parser.add_argument("--distinct", type=int, default=20, help="frames that are simulated, the rest are varied")
    parser.add_argument("--folder", type=Path, help="where the nights lie or shall lie (3 GB a night at 26 MP)")
    parser.add_argument("--debayer", default="mhc", help="as livestack's option; drizzle, for mono, too")
    parser.add_argument("--only", choices=("library", "session"))
    parser.add_argument("--child", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.child is not None:
        run_library(arguments.child, arguments.frames, arguments.debayer)
        return
    with tempfile.TemporaryDirectory() as temporary:
        home = arguments.folder or Path(temporary)
        cases = [
            (kind, size, write_night(home, kind, size, arguments.frames, arguments.distinct))
            for size in arguments.sizes
            for kind in arguments.kinds
        ]
        print(f"load of the machine {os.getloadavg()[0]:.1f}, {os.cpu_count()} cores")
        if arguments.only != "session":
            library_table(cases, arguments.frames, arguments.debayer)
        if arguments.only != "library":
            session_table(cases, arguments.frames, arguments.debayer)


if __name__ == "__main__":
    main()
