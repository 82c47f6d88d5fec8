"""What could spoil the night, looked for before it: one sentence for each check, and what to do.

`words` holds what a check says and what a camera needs, `machine` the checks of this machine, `place` those of the
watched folder, in which nothing is ever written or touched.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from livestack.base.errors import UsageError
from livestack.session.doctor import machine, place
from livestack.session.doctor.words import Camera, Check

__all__ = ["Camera", "Check", "examine", "print_checks"]


def examine(folder: Path | None, camera: Camera | None, host: str, port: int) -> Iterator[Check]:
    """Make all checks, one after the other; those on the folder only where one is given.

    Raises
    ------
    UsageError
        The folder does not exist.
    """
    if folder is not None and not folder.is_dir():
        raise UsageError(f"{folder}: is no folder; give the one that the camera writes into.")
    yield machine.check_libraries()
    yield machine.check_cores()
    yield machine.check_compiler()
    yield machine.check_display()
    yield machine.check_port(host, port)
    yield machine.check_clock(time.time())
    if folder is not None:
        frames = place.list_frames(folder)
        camera = camera or place.camera_of(frames)
        yield place.check_content(frames)
        yield place.check_access(folder)
        yield place.check_times(frames, time.time())
    yield machine.check_memory(camera, machine.available_memory())
    if folder is not None:
        yield place.check_space(folder, camera)
        yield place.check_speed(folder, camera)
        yield place.check_events(folder)


def print_checks(checks: Iterable[Check], write: Callable[[str], object]) -> bool:
    """Write one line for each check as it is made; True when one of them found a problem."""
    verdicts = []
    for check in checks:
        remedy = f"; {check.remedy}" if check.remedy else ""
        write(f"{check.verdict:8} {check.name}: {check.found.rstrip('.')}{remedy}.")
        verdicts.append(check.verdict)
    bad, doubtful = verdicts.count("problem"), verdicts.count("warning")
    if bad:
        write(f"{bad} problem{'s' * (bad > 1)} to be solved before the night.")
    else:
        write("Ready for the night" + (f", with {doubtful} warning{'s' * (doubtful > 1)}." if doubtful else "."))
    return bad > 0
