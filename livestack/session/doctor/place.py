"""Checks of the watched folder and its disk: content, access, times, space, speed, events.

Nothing in the folder is written or touched: speed and events are tried in a scratch folder on the same file system, or
said to be untested where there is none.
"""

from __future__ import annotations

import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import numpy as np

from livestack.base.durable import free_bytes, storage_error, sync_file
from livestack.base.errors import FrameError
from livestack.base.folder import SESSION_MARK, Entry, Exclusion, natural_key, network_file_system, say_name, scan
from livestack.base.frame import say_mosaic
from livestack.formats import check_complete, is_frame_name, read_info
from livestack.session.doctor.words import Camera, Check
from livestack.session.folder_events import FolderEvents, Observer, native_observer

TRIAL_BYTES = 64 << 20
SLOW_BYTES_S = 30e6
UNTESTED = "not tested: there is no place for a trial on that disk outside the folder"


def list_frames(folder: Path) -> list[Entry]:
    """Files that look like frames, in natural order."""
    root = os.path.realpath(folder)
    with suppress(OSError):
        return sorted(scan(root, True, Exclusion([root], []), is_frame_name), key=lambda entry: natural_key(entry.path))
    return []


def camera_of(frames: list[Entry]) -> Camera | None:
    """The camera by the newest frame that can be read; None without one."""
    for entry in sorted(frames, key=lambda entry: -entry.key.mtime_ns)[:5]:
        with suppress(FrameError):
            info = read_info(Path(entry.path))
            return Camera(info.width, info.height, 3 if info.mosaic else 1)
    return None


def check_content(frames: list[Entry]) -> Check:
    """What is in the folder can be read."""
    if not frames:
        return Check("folder", "ok", "no frames yet")
    newest = max(frames, key=lambda entry: entry.key.mtime_ns)
    try:
        check_complete(Path(newest.path))
        info = read_info(Path(newest.path))
    except FrameError as error:
        return Check(
            "folder", "warning", f"{len(frames)} frames; of the newest: {error}", "look again when it is written"
        )
    kind = f"{info.width} x {info.height}" + (f" {say_mosaic(info)}" if info.mosaic else "")
    return Check("folder", "ok", f"{len(frames)} frames; the newest, {say_name(newest.path)}, can be read ({kind})")


def check_access(folder: Path) -> Check:
    """The folder can be listed, and a session's results can lie in it."""
    if not os.access(folder, os.R_OK | os.X_OK):
        return Check("access", "problem", f"{folder} may not be read by this user", "change its permissions")
    if (folder / SESSION_MARK).exists():
        return Check("access", "problem", f"{folder} is a session's own", "give the folder that the camera writes into")
    if not os.access(folder, os.W_OK):
        return Check("access", "warning", f"{folder} may not be written", "give --output, as results cannot lie in it")
    return Check("access", "ok", "results go into the folder livestack inside it, unless --output is given")


def check_times(frames: list[Entry], now: float) -> Check:
    """No frame comes from the future: camera and this machine agree about the time."""
    newest = max((entry.key.mtime_ns / 1e9 for entry in frames), default=now)
    if newest > now + 120:
        found = f"the newest frame is {newest - now:.0f} s in the future"
        return Check("times", "warning", found, "set the clocks of the camera, the share and this machine alike")
    return Check("times", "ok", "no frame comes from the future")


def check_space(folder: Path, camera: Camera | None) -> Check:
    """The disk holds the night's frames and the session's files."""
    free = free_bytes(folder)
    own = (camera.session_bytes if camera else 2e9) + 1e9
    found = f"{free / 1e9:.1f} GB free"
    if camera is not None:
        found += f", room for {max(0, int((free - own) / camera.raw_bytes))} more frames beside the session's own files"
    if free < own:
        return Check("disk space", "problem", found, "free some space, or put the results elsewhere with --output")
    if camera is not None and free - own < 500 * camera.raw_bytes:
        return Check("disk space", "warning", found, "free some space for a long night")
    return Check("disk space", "ok", found)


def check_speed(folder: Path, camera: Camera | None) -> Check:
    """The disk takes what camera and checkpoints write."""
    with scratch_folder(folder) as scratch:
        if scratch is None:
            return Check("disk speed", "ok", UNTESTED)
        block = np.random.default_rng(0).bytes(1 << 20)
        size = int(min(TRIAL_BYTES, free_bytes(scratch) / 10)) >> 20
        started = time.perf_counter()
        try:
            with open(scratch / "trial", "wb") as file:
                for _ in range(size):
                    file.write(block)
                file.flush()
                sync_file(file.fileno())
        except OSError as error:
            return Check("disk speed", "problem", str(storage_error(scratch, error)), "use another disk")
        speed = (size << 20) / max(time.perf_counter() - started, 1e-9)
    found = f"writes {speed / 1e6:.0f} MB/s"
    if camera is not None:
        found += f", {speed / camera.raw_bytes:.1f} frames of this camera a second"
    if speed < SLOW_BYTES_S:
        return Check("disk speed", "warning", found, "put the results on a faster disk with --output")
    return Check("disk speed", "ok", found)


def check_events(
    folder: Path,
    factory: Callable[[], Observer] = native_observer,
    timeout_s: float = 3.0,
) -> Check:
    """The system tells of new files at once."""
    kind = network_file_system(os.path.realpath(folder))
    if kind is not None:
        found = f"on a network share ({kind}), which tells no events: the folder will be looked at every second"
        return Check("folder events", "ok", found)
    with scratch_folder(folder) as scratch:
        if scratch is None:
            return Check("folder events", "ok", UNTESTED)
        events = FolderEvents([os.path.realpath(scratch)], False, factory)
        why = events.start()
        if why is not None:
            return Check(
                "folder events", "warning", f"not to be had ({why})", "nothing is missed, only found a second later"
            )
        try:
            started = time.perf_counter()
            (scratch / "trial.fits").write_bytes(b"x")
            while not len(events) and time.perf_counter() - started < timeout_s:
                time.sleep(0.005)
            took, came = time.perf_counter() - started, len(events)
        finally:
            events.stop()
    if not came:
        return Check("folder events", "warning", f"none within {timeout_s:.0f} s", "start the session with --poll")
    return Check("folder events", "ok", f"arrive after {1000 * took:.0f} ms")


@contextmanager
def scratch_folder(folder: Path) -> Iterator[Path | None]:
    """A temporary folder on the same file system as `folder`, outside it; None where there is no such place."""
    folder = folder.resolve()
    for place in (Path(tempfile.gettempdir()).resolve(), Path.home() / ".cache", Path.home()):
        with suppress(OSError):
            if place.stat().st_dev == folder.stat().st_dev and folder != place and folder not in place.parents:
                scratch = Path(tempfile.mkdtemp(prefix="livestack-doctor-", dir=place))
                break
    else:
        yield None
        return
    try:
        yield scratch
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
