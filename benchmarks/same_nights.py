"""Whether a change of the code changed a result: fingerprints of whole nights, before and after, bit for bit.

    python benchmarks/same_nights.py record before.json [--data FOLDER] [--only NAME]
    python benchmarks/same_nights.py compare before.json [--data FOLDER] [--only NAME]

Each night goes through the command line as a user's would. Its fingerprint holds a checksum of every array of every
FITS file that was saved, of the decoded pictures, of the tables, and each line of the journal without what differs
from run to run (times, durations, paths, sizes of checkpoints). The nights: each folder of `sample_sessions/`, each
folder of frames below `--data`, and simulated ones that walk through what those do not (several filters, a growing
canvas, the largest sample, windows of time, an interruption, a frame taken out, a merge).
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from astropy.io import fits

HERE = Path(__file__).resolve().parent.parent
PASSING = {
    "time", "mtime_ns", "timings_s", "duration_s", "version", "software", "results", "folder", "folders", "output",
    "reference", "settings", "masters",
}  # fmt: skip
"""Fields of the journal that tell of the run, not of the night."""
DATED = {"DATE", "CHECKSUM", "DATASUM", "CREATOR", "SWCREATE", "PROGRAM"}
PSF_FIRST = {"psf": 1}
"""Lines that another thread writes: when, the scheduler says, so they are compared apart from the others."""


def run(*words: object, status: tuple[int, ...] = (0,)) -> int:
    """One command of the program."""
    command = [sys.executable, "-m", "livestack", *map(str, words)]
    ended = subprocess.run(command, capture_output=True, text=True, check=False, env={**os.environ, "COLUMNS": "120"})
    if ended.returncode not in status:
        raise SystemExit(f"{' '.join(command)}: exit {ended.returncode}\n{ended.stdout}\n{ended.stderr}")
    return ended.returncode


def until_frame(number: int, *words: object) -> subprocess.Popen[str]:
    """A session's process, once it has told of the frame of that number."""
    command = [sys.executable, "-m", "livestack", *map(str, words), "--json"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    assert process.stdout is not None
    for line in process.stdout:
        record = json.loads(line)
        if record["type"] == "frame" and record["sequence"] == number:
            break
    return process


def digest(array: np.ndarray) -> str:
    """Checksum of an array's shape, type and content."""
    whole = np.ascontiguousarray(array)
    return hashlib.sha256(f"{whole.shape}{whole.dtype}".encode() + whole.tobytes()).hexdigest()[:16]


def without_passing(value: Any) -> Any:
    """A record without what differs from run to run, at any depth."""
    if isinstance(value, dict):
        return {key: without_passing(each) for key, each in value.items() if key not in PASSING}
    return [without_passing(each) for each in value] if isinstance(value, list) else value


def journal_lines(path: Path, folder: Path) -> list[str]:
    """The journal's lines, paths made relative, those of other threads last."""
    records = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    kept = [without_passing(record) for record in records if record["type"] not in ("checkpoint", "resume")]
    kept.sort(key=lambda record: PSF_FIRST.get(record["type"], 0))
    return [json.dumps(record, sort_keys=True).replace(str(folder), "...") for record in kept]


def fingerprint(output: Path) -> dict[str, Any]:
    """Everything that a night left, as checksums and lines."""
    found: dict[str, Any] = {}
    for path in sorted(output.rglob("*")):
        name = path.relative_to(output).as_posix()
        if path.suffix == ".fits":
            with fits.open(path) as parts:
                for number, part in enumerate(parts):
                    cards = {
                        card.keyword: str(card.value)
                        for card in part.header.cards
                        if card.keyword not in DATED and "/" not in str(card.value)
                    }
                    if part.data is not None and part.is_image:
                        found[f"{name}[{number}]"] = digest(part.data)
                    elif part.data is not None:
                        found[f"{name}[{number}]"] = hashlib.sha256(repr(part.data).encode()).hexdigest()[:16]
                    found[f"{name}[{number}] header"] = cards
        elif path.name == "preview.jpg":
            continue  # drawn beside the stacking: what it shows is the scheduler's to say
        elif path.suffix in (".png", ".tif"):
            picture = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
            assert picture is not None, path
            found[name] = digest(picture)
        elif path.suffix == ".csv":
            found[name] = path.read_text(encoding="utf-8").splitlines()
        elif path.name == "session.jsonl":
            found[name] = journal_lines(path, output)
    return found


def stack(frames: Path, output: Path, *options: object) -> dict[str, Any]:
    """A folder stacked in one go."""
    status = run("stack", frames, "--output", output, "--no-web", "--no-window", *options, status=(0, 1))
    return {"exit status": status, **fingerprint(output)}


def simulated(scenario: str, frames: int, size: str, work: Path, *options: object) -> dict[str, Any]:
    """A simulated night stacked in one go."""
    run("simulate", work / "frames", "--scenario", scenario, "--frames", frames, "--size", size)
    return stack(work / "frames", work / "out", *options)


def interrupted(work: Path) -> dict[str, Any]:
    """A night that ends after half of its frames, then goes on, loses a frame by command, and is merged with itself."""
    run("simulate", work / "frames", "--scenario", "osc", "--frames", 16, "--size", "320x240")
    names = sorted(path for path in (work / "frames").iterdir() if path.suffix == ".fits")
    late = work / "late"
    late.mkdir()
    for path in names[13:]:
        path.rename(late / path.name)
    until_frame(12, "watch", work / "frames", "--output", work / "out", "--no-web", "--no-window").kill()
    for path in late.iterdir():
        shutil.move(path, work / "frames" / path.name)
    resumed = until_frame(15, "resume", work / "out")
    resumed.send_signal(signal.SIGINT)
    resumed.communicate(timeout=120)
    found = {f"resumed {key}": value for key, value in fingerprint(work / "out").items()}
    run("remove", work / "out", names[3].name, "--output", work / "without")
    found |= {f"without {key}": value for key, value in fingerprint(work / "without").items()}
    stacks = [next((work / part).rglob("stack.fits")) for part in ("out", "without")]
    run("merge", *stacks, "--output", work / "merged.fits")
    (work / "m").mkdir()
    (work / "merged.fits").rename(work / "m" / "merged.fits")
    return found | {f"merged {key}": value for key, value in fingerprint(work / "m").items()}


Night = Callable[[Path], dict[str, Any]]


def nights(data: Path | None) -> Iterator[tuple[str, Night]]:
    """Name of each night, and what makes its fingerprint in a working folder."""
    folders = [path for path in sorted((HERE / "sample_sessions").iterdir()) if path.is_dir()]
    folders += [path for path in sorted(data.iterdir()) if path.is_dir()] if data is not None else []
    for folder in folders:
        yield folder.name, lambda work, folder=folder: stack(folder, work / "out")
    for name, scenario, frames, options in (
        ("streaming only", "mono", 18, ("--no-final-pass", "--window-minutes", 3)),
        ("filters", "filters", 24, ("--formats", "fits,png")),
        ("union", "altaz", 16, ("--canvas", "union")),
        ("maximum", "mono", 12, ("--mode", "maximum")),
        ("sum", "osc", 12, ("--mode", "sum", "--debayer", "superpixel")),
        ("no rejection", "everything", 16, ("--rejection", "none", "--quality", "off")),
        ("features", "moon", 12, ()),
        ("flip", "flip", 16, ("--flatten",)),
    ):
        yield name, partial(_simulated, scenario, frames, options)
    yield "interrupted", interrupted


def _simulated(scenario: str, frames: int, options: tuple[object, ...], work: Path) -> dict[str, Any]:
    return simulated(scenario, frames, "320x240", work, *options)


def differences(name: str, before: Any, after: Any) -> Iterator[str]:
    """Where two fingerprints of a night differ."""
    if isinstance(before, dict) and isinstance(after, dict):
        for key in sorted(before.keys() | after.keys()):
            yield from differences(f"{name}: {key}", before.get(key), after.get(key))
    elif isinstance(before, list) and isinstance(after, list) and len(before) == len(after):
        for number, (one, other) in enumerate(zip(before, after, strict=True)):
            yield from differences(f"{name} line {number + 1}", one, other)
    elif before != after:
        yield f"{name}\n    before {str(before)[:1500]}\n    after  {str(after)[:1500]}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("action", choices=("record", "compare"))
    parser.add_argument("file", type=Path)
    parser.add_argument("--data", type=Path, default=HERE.parent / "shared" / "data", help="folders of real frames")
    parser.add_argument("--only", help="nights whose name holds this")
    given = parser.parse_args()
    chosen = [
        (name, night)
        for name, night in nights(given.data if given.data.is_dir() else None)
        if given.only is None or given.only in name
    ]

    def one(item: tuple[str, Night]) -> tuple[str, dict[str, Any]]:
        with tempfile.TemporaryDirectory() as work:
            found = item[1](Path(work))
        print(f"{item[0]}: {len(found)} parts", flush=True)
        return item[0], found

    with ThreadPoolExecutor(2) as workers:
        found = dict(workers.map(one, chosen))
    if given.action == "record":
        given.file.write_text(json.dumps(found, indent=1))
        return
    recorded = json.loads(given.file.read_text())
    said = [line for name in found for line in differences(name, recorded.get(name), found[name])]
    print("\n".join(said) or f"{len(found)} nights: the same, bit for bit")
    sys.exit(1 if said else 0)


if __name__ == "__main__":
    main()
