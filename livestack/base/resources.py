"""What a session needs of the machine, and what the machine has: threads and memory.

The estimate of memory was measured (`benchmarks/README.md`) as the highest resident size of whole sessions, saving
included; it holds for one target through one filter. A session that would need more than its limit bins its frames.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from livestack.base.errors import UsageError
from livestack.base.frame import FrameInfo
from livestack.base.settings import Settings

MOST_THREADS = 8
PROGRAM_BYTES = 560e6
"""Python, its libraries and compiled loops, and the report."""
BYTES_PER_SAMPLE = 42
"""For each pixel and channel of the stack: accumulators, those of the final pass, one developed frame."""
MASTERS_BYTES = 12
"""For each pixel of a frame: dark, flat and defects."""
THREADS_VARIABLE = "LIVESTACK_THREADS"


def thread_count(environment: Mapping[str, str] = os.environ) -> int:
    """Threads for the compiled loops: the cores that this process may use, at most eight, or what the user says.

    Raises
    ------
    UsageError : `LIVESTACK_THREADS` is no number above zero.
    """
    said = environment.get(THREADS_VARIABLE)
    if said is not None:
        if not said.isdecimal() or int(said) < 1:
            raise UsageError(f"{THREADS_VARIABLE}: found {said!r}, expected a number of threads, 1 or more.")
        return int(said)
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min(cores, MOST_THREADS)


def available_memory() -> float | None:
    """Bytes that may be used without swapping; None where it cannot be told."""
    if sys.platform == "win32":
        return _windows_memory()
    with suppress(OSError, ValueError, IndexError):
        for line in Path("/proc/meminfo").read_text().splitlines():
            if line.startswith("MemAvailable:"):
                return float(line.split()[1]) * 1024
    with suppress(OSError, ValueError):  # macOS tells the whole memory only: count on half of it
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2
    return None


def session_bytes(info: FrameInfo, settings: Settings, binning: int = 1) -> float:
    """Memory that a session on such frames needs at most, bytes.

    Parameters
    ----------
    binning : 2 when the frames are binned 2 x 2.
    """
    pixels = info.width * info.height / binning**2
    channels = _channels(info)
    raw = binning == 1 and info.bits <= 16 and settings.calibration.masters is None and info.xtrans is None
    planes = 3 if info.xtrans else info.planes  # an X-Trans frame is held as colour
    held = (2 if raw else 4) * planes * settings.stack.warmup_frames
    held += 0 if settings.calibration.masters is None else MASTERS_BYTES * info.planes
    incoming = 0 if binning == 1 else info.width * info.height * planes * 8
    scale2 = settings.stack.scale**2
    # what a drizzled stack was before stays until that has no holes
    stacked = BYTES_PER_SAMPLE * channels * (scale2 if scale2 == 1 else scale2 + 1)
    return PROGRAM_BYTES + pixels * (held + stacked) + incoming


def canvas_pixels(info: FrameInfo, settings: Settings, binning: int = 1) -> float:
    """The most pixels that a growing canvas may have on frames of this size: by its setting and the memory limit."""
    pixels = info.width * info.height / binning**2
    limit = settings.save.memory_limit_mb
    most = settings.stack.canvas_max * pixels
    if limit is None:
        return most
    channels = _channels(info)
    spare = limit * 1e6 - session_bytes(info, settings, binning)
    return min(most, pixels + max(0.0, spare) / (BYTES_PER_SAMPLE * channels * settings.stack.scale**2))


def bins_frames(info: FrameInfo, settings: Settings) -> bool:
    """True when frames of this size are binned 2 x 2, because the session would need more than its limit otherwise."""
    limit = settings.save.memory_limit_mb
    return limit is not None and session_bytes(info, settings) > limit * 1e6


def memory_sentence(info: FrameInfo, settings: Settings, available: float | None) -> tuple[str, bool]:
    """What is said at the start: what is needed and what there is; and whether that is cause for concern."""
    limit = settings.save.memory_limit_mb
    need = session_bytes(info, settings)
    size = f"{info.width} x {info.height}{' in colour' if _channels(info) == 3 else ''}"
    said = f"Memory: frames of {size} need about {need / 1e9:.1f} GB"
    if bins_frames(info, settings):
        need = session_bytes(info, settings, 2)
        said += f", more than the limit of {limit} MB: they are binned 2 x 2, which needs about {need / 1e9:.1f} GB"
        if limit is not None and need > limit * 1e6:
            return f"{said}; that is still more than the limit: bin the camera.", True
    if settings.stack.canvas == "union":
        channels = _channels(info)
        binning = 2 if bins_frames(info, settings) else 1
        spread = canvas_pixels(info, settings, binning) - info.width * info.height / binning**2
        said += f", {(need + BYTES_PER_SAMPLE * channels * spread) / 1e9:.1f} GB where the canvas grows to its limit"
    if available is None:
        return f"{said}.", False
    said += f"; {available / 1e9:.1f} GB are free"
    if need <= available:
        return f"{said}.", False
    return f"{said}: close other programs, or begin again with --memory-limit {available / 1.2e6:.0f}.", True


def _channels(info: FrameInfo) -> int:
    """Of the stack of such frames."""
    return 3 if info.mosaic or info.planes == 3 else 1


def _windows_memory() -> float | None:
    import ctypes

    status = (ctypes.c_ulonglong * 8)()
    status[0] = 64  # MEMORYSTATUSEX: its own length, then load, whole and available memory
    if not ctypes.windll.kernel32.GlobalMemoryStatusEx(ctypes.byref(status)):  # type: ignore[attr-defined,unused-ignore]
        return None
    return float(status[2])
