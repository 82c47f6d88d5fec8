"""A night of 2000 tiny frames through `livestack watch`, killed at random moments and resumed, against a quiet one.

    python benchmarks/soak.py [--frames 2000] [--seed 1] [--life 2 8]

A camera process writes frames one after the other; the session is ended with SIGKILL after a random time, again and
again, and resumed. Then the same frames go through an undisturbed session. Printed: how often it was killed, whether
every frame is in the journal exactly once and in order, whether the final arrays are equal byte for byte, and memory,
open files and threads of the undisturbed session as it went on. Exit status 1 when anything is not as it should be.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import numpy as np
from astropy.io import fits

LIVESTACK = [sys.executable, "-m", "livestack"]


def frame_lines(journal: Path) -> list[str]:
    """Files of the journal's `frame` lines."""
    names = []
    with open(journal, "rb") as file:
        for line in file:
            try:
                content = json.loads(line)
            except ValueError:
                continue
            if content["type"] == "frame":
                names.append(content["file"])
    return names


def count_frames(journal: Path) -> int:
    """How many `frame` lines there are."""
    return journal.read_bytes().count(b'{"type": "frame"') if journal.exists() else 0


def look_at(pid: int) -> tuple[float, int, int]:
    """(resident MB, open files, threads) of a process."""
    status = Path(f"/proc/{pid}/status").read_text()
    resident = int(status.split("VmRSS:")[1].split()[0]) / 1024
    return resident, len(os.listdir(f"/proc/{pid}/fd")), int(status.split("Threads:")[1].split()[0])


def camera(pool: list[Path], folder: Path, pace_s: float, done: threading.Event) -> None:
    """Write frame after frame as a capture program does: beside, then renamed."""
    for path in pool:
        part = folder / (path.name + ".part")
        shutil.copy2(path, part)
        part.rename(folder / path.name)
        time.sleep(pace_s)
    done.set()


def start(arguments: list[str]) -> subprocess.Popen[bytes]:
    """A livestack process whose events nobody reads."""
    return subprocess.Popen([*LIVESTACK, *arguments, "--json"], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)


def disturbed(pool: list[Path], home: Path, rng: random.Random, life: tuple[float, float], pace_s: float) -> int:
    """Kill and resume until all frames are taken; how often it was killed."""
    folder, output = home / "lights", home / "out"
    folder.mkdir()
    done = threading.Event()
    writer = threading.Thread(target=camera, args=(pool, folder, pace_s, done))
    writer.start()
    arguments = ["watch", str(folder), "--output", str(output)]
    kills = 0
    while True:
        process = start(arguments)
        end = time.monotonic() + rng.uniform(*life)
        while time.monotonic() < end and not (done.is_set() and count_frames(output / "session.jsonl") >= len(pool)):
            time.sleep(0.05)
        process.send_signal(signal.SIGKILL)
        process.communicate()
        kills += 1
        if (output / "session.jsonl").exists():
            arguments = ["resume", str(output)]
        if done.is_set() and count_frames(output / "session.jsonl") >= len(pool):
            break
    writer.join()
    for at in (0.5, 1.5):  # in the resume, and in the final save
        process = start([*arguments, "--idle-stop", "0.5"])
        time.sleep(at + rng.uniform(0.5, 2.0))
        if process.poll() is None:
            process.send_signal(signal.SIGKILL)
            kills += 1
        process.communicate()
    stopped = (output / "session.jsonl").read_bytes().rstrip().rsplit(b"\n", 1)[-1]
    if b'"saved"' not in stopped:
        last = start([*arguments, "--idle-stop", "0.5"])
        _, said = last.communicate()
        if last.returncode != 0:
            raise SystemExit(f"the last resume ended with {last.returncode}: {said.decode()}")
    return kills


def undisturbed(pool: list[Path], home: Path) -> list[tuple[int, float, int, int]]:
    """One session without trouble; (frames so far, resident MB, open files, threads) as it went on."""
    folder, output = home / "quiet", home / "quiet-out"
    folder.mkdir()
    for path in pool:
        shutil.copy2(path, folder)
    process = start(["watch", str(folder), "--output", str(output), "--idle-stop", "1"])
    seen = []
    step = max(1, len(pool) // 10)
    while process.poll() is None:
        n = count_frames(output / "session.jsonl")
        if n >= step * (len(seen) + 1):
            try:
                seen.append((n, *look_at(process.pid)))
            except (OSError, IndexError):
                break
        time.sleep(0.05)
    _, said = process.communicate()
    if process.returncode != 0:
        raise SystemExit(f"the quiet session ended with {process.returncode}: {said.decode()}")
    return seen


def planes(output: Path) -> dict[str, bytes]:
    """The bytes of all arrays of the final stack."""
    path = next(output.glob("*/stack.fits"))
    with fits.open(path) as hdus:
        return {hdu.name: np.asarray(hdu.data).tobytes() for hdu in hdus}


def main() -> int:
    """Run the soak."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--frames", type=int, default=2000)
    parser.add_argument("--size", default="160x120")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--life", type=float, nargs=2, default=(3.0, 10.0), help="shortest and longest life, seconds")
    parser.add_argument("--pace", type=float, default=0.03, help="seconds between two frames")
    options = parser.parse_args()
    rng = random.Random(options.seed)
    with tempfile.TemporaryDirectory(prefix="livestack-soak-") as name:
        home = Path(name)
        subprocess.run(
            [*LIVESTACK, "simulate", str(home / "pool"), "--scenario", "mono", "--frames", str(options.frames),
             "--size", options.size, "--seed", str(options.seed)],
            check=True, stdout=subprocess.DEVNULL,
        )  # fmt: skip
        pool = sorted((home / "pool").glob("*.fits"))
        begin = time.monotonic()
        kills = disturbed(pool, home, rng, tuple(options.life), options.pace)
        took = time.monotonic() - begin
        names = frame_lines(home / "out" / "session.jsonl")
        wanted = [path.name for path in pool]
        quiet = undisturbed(pool, home)
        same_order = frame_lines(home / "quiet-out" / "session.jsonl") == names
        mine, theirs = planes(home / "out"), planes(home / "quiet-out")
        same = {key: mine[key] == theirs[key] for key in theirs}
        once = names == wanted
        print(f"{len(pool)} frames of {options.size}, killed {kills} times, {took:.0f} s")
        print(f"every frame exactly once, in order: {once}; the quiet session's order: {same_order}")
        print("arrays equal byte for byte: " + ", ".join(f"{key} {value}" for key, value in same.items()))
        for n, resident, files, threads in quiet:
            print(f"  after {n:5d} frames: {resident:6.1f} MB resident, {files} files open, {threads} threads")
        return 0 if once and same_order and all(same.values()) else 1


if __name__ == "__main__":
    sys.exit(main())
