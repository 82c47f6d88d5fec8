"""Small sessions for tests: a simulated night of tiny frames, run in this process or in one that may be killed."""

from __future__ import annotations

import hashlib
import json
import math
import multiprocessing
import os
import shutil
import signal
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
from astropy.io import fits

from livestack.base.settings import Settings
from livestack.faces import cli
from livestack.observers.passages import Passages
from livestack.observers.plate_solving import PlateSolving
from livestack.session import checkpoint
from livestack.session.session import Session, SessionEnd
from livestack.simulate import named_scenario, write_session

WIDTH, HEIGHT = 240, 180
WARM = 4
EVERY = 5
"""Frames between two checkpoints."""


def simulate_night(
    folder: Path, frames: int = 14, name: str = "mono", file_format: str = "fits", seed: int = 3
) -> Path:
    """Write a night of tiny frames; the folder of the frames."""
    scenario = named_scenario(
        name, frames=frames, width=WIDTH, height=HEIGHT, seed=seed, stars=90, flux_min_e=6000.0, dither_px=6.0
    )
    write_session(scenario, folder, file_format=file_format)
    for other in folder.iterdir():  # the truth is none of the camera's files
        if other.suffix in (".json", ".csv", ".npz"):
            other.unlink()
    return folder


def copy_night(night: Path, folder: Path) -> Path:
    """The same frames in another place, in the same order, with the same times."""
    return Path(shutil.copytree(night, folder))


def small_settings(**sections: dict[str, Any]) -> Settings:
    """Quick settings: short warm-up, frequent checkpoints, no final pass; `sections` change them further."""
    content: dict[str, dict[str, Any]] = {
        "ingest": {"look_interval_s": 0.05, "rescan_interval_s": 0.3, "settle_timeout_s": 1.0},
        "stack": {"warmup_frames": WARM},
        "save": {"final_pass": False, "checkpoint_every_frames": EVERY},
    }
    for name, fields in sections.items():
        content.setdefault(name, {}).update(fields)
    return Settings.model_validate(content)


def run_session(folder: Path, output: Path, one_shot: bool = True, **sections: dict[str, Any]) -> SessionEnd:
    """Run a session to its end."""
    with checkpoints_by_frames():
        return Session([folder], small_settings(**sections), output, one_shot).run()


def resume_session(output: Path, **sections: dict[str, Any]) -> SessionEnd:
    """Continue one to its end."""
    with checkpoints_by_frames():
        return resumed(output, **sections).run()


def checkpoints_by_frames() -> AbstractContextManager[Any]:
    """Every checkpoint that is due is made, however slow the disk is at this moment."""
    return patch.object(checkpoint, "CHEAP_S", math.inf)


@contextmanager
def no_sky() -> Iterator[None]:
    """Sessions do not ask where they are in the sky, nor what passes: seconds each, and none is about that."""
    nothing = lambda self, group, reference: None  # noqa: E731
    with patch.object(PlateSolving, "_begin", nothing), patch.object(Passages, "_begin", nothing):
        yield


def resumed(output: Path, **sections: dict[str, Any]) -> Session:
    """A session that will go on."""
    from livestack.session.resume import read_interrupted, settings_of

    interrupted = read_interrupted(output)
    settings = settings_of(interrupted.start, output, sections)
    return Session(interrupted.folders, settings, output, interrupted.start.one_shot, resumed=True)


def lines(output: Path, kind: str | None = None) -> list[dict[str, Any]]:
    """Lines of a journal that can be read, of one type if wanted."""
    found = []
    for line in (output / "session.jsonl").read_bytes().splitlines():
        try:
            content = json.loads(line)
        except ValueError:
            continue
        if kind is None or content["type"] == kind:
            found.append(content)
    return found


def planes(output: Path, group: str = "m-27") -> dict[str, bytes]:
    """The bytes of all arrays of a stack.fits."""
    with fits.open(output / group / "stack.fits") as hdus:
        return {hdu.name: np.asarray(hdu.data).tobytes() for hdu in hdus}


def checksums(folder: Path) -> dict[str, str]:
    """Digest of every camera file, whatever its name."""
    return {
        os.fspath(path): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and "livestack" not in path.relative_to(folder).parts
    }


# Processes that may be killed

_context = multiprocessing.get_context("forkserver" if sys.platform != "win32" else "spawn")
if sys.platform != "win32":
    _context.set_forkserver_preload(["livestack.session.session", "livestack.faces.cli", "livestack.faces.run"])


def in_process(target: Callable[..., None], *arguments: object, timeout: float = 200, sky: bool = False) -> int:
    """Run a function of a test module in a process of its own; its exit status, negative when a signal ended it.

    `sky`: its sessions may ask where they are in the sky.
    """
    process = _context.Process(target=target if sky else _under_no_sky, args=arguments if sky else (target, *arguments))
    process.start()
    process.join(timeout)
    if process.exitcode is None:
        process.kill()
        process.join()
        raise AssertionError("the session did not end in time")
    return process.exitcode


def command(*words: object, timeout: float = 200) -> tuple[int, str, str]:
    """`livestack WORDS` in a process of its own: exit status, stdout, stderr.

    It is forked where that can be from a process that has imported everything: start and imports take four seconds.
    """
    with tempfile.TemporaryDirectory() as folder:
        status = in_process(_livestack, Path(folder), [str(word) for word in words], timeout=timeout)
        out, err = ((Path(folder) / name).read_text(encoding="utf-8") for name in ("out", "err"))
        return status, out, err


def _livestack(folder: Path, words: list[str]) -> None:
    for name, descriptor in (("out", 1), ("err", 2)):
        with open(folder / name, "wb") as file:
            os.dup2(file.fileno(), descriptor)
    os.environ["COLUMNS"] = "200"
    sys.argv = ["livestack", *words]
    cli.main()


def _under_no_sky(target: Callable[..., None], *arguments: object) -> None:
    with no_sky():
        target(*arguments)


def kill_at_sync(number: int) -> None:
    """End this process without warning at its `number`-th fsync: before journal, checkpoint or result is safe."""
    left = [number]
    real = os.fsync

    def fsync(descriptor: int) -> None:
        left[0] -= 1
        if left[0] <= 0:
            os.kill(os.getpid(), signal.SIGKILL)
        real(descriptor)

    os.fsync = fsync  # type: ignore[assignment]


def kill_in_write(name: str, number: int) -> None:
    """End this process in the middle of its `number`-th `os.write` to the file of this name."""
    left = [number]
    real = os.write

    def write(descriptor: int, content: Any) -> int:
        if Path(os.readlink(f"/proc/self/fd/{descriptor}")).name == name:
            left[0] -= 1
            if left[0] <= 0:
                real(descriptor, bytes(content)[: len(content) // 2])
                os.kill(os.getpid(), signal.SIGKILL)
        return real(descriptor, content)

    os.write = write  # type: ignore[assignment]
