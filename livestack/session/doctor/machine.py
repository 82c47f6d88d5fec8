"""Checks of this machine: libraries, processor, compiler, display, port, clock, memory."""

from __future__ import annotations

import importlib
import importlib.util
import os
import socket
import sys
import time

import numpy as np

from livestack.base.resources import available_memory as available_memory  # for those who ask this module
from livestack.session.doctor.words import Camera, Check

LIBRARIES = ("numpy", "cv2", "astropy", "scipy", "numba", "sep", "pydantic", "rawpy", "tifffile", "watchdog",
             "matplotlib", "rich", "typer", "starlette", "uvicorn", "segno")  # fmt: skip
GUI_TOOLKITS = ("PyQt6", "PySide6", "PyQt5", "PySide2", "tkinter", "gi", "wx")
EARLIEST = 1_760_000_000
"""October 2025: no clock that is right shows less."""


def check_libraries() -> Check:
    """Every library that a session uses can be loaded."""
    broken = []
    for name in LIBRARIES:
        try:
            importlib.import_module(name)
        except (ImportError, OSError, AttributeError) as error:  # a missing system library, a mixed-up installation
            broken.append(f"{name} ({error})")
    python = ".".join(map(str, sys.version_info[:3]))
    if broken:
        return Check("libraries", "problem", f"cannot be loaded: {'; '.join(broken)}", "install livestack again")
    return Check("libraries", "ok", f"Python {python} and all {len(LIBRARIES)} libraries are there")


def check_cores() -> Check:
    """Two cores keep up with a fast camera."""
    count = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    if count < 2:
        return Check("processor", "warning", "one core", "use exposures of some seconds, or leave the window closed")
    return Check("processor", "ok", f"{count} cores")


def check_compiler() -> Check:
    """numba compiles, computes and can keep what it compiled."""
    try:
        from numba import njit

        started = time.perf_counter()
        total = njit(nogil=True, cache=True)(_sum_of_squares)(np.arange(5.0))
        took = time.perf_counter() - started
    except (ImportError, RuntimeError, OSError) as error:  # RuntimeError: no folder to keep compiled code in
        remedy = "make the folder of the installation writable or set NUMBA_CACHE_DIR to one that is"
        return Check("compiler", "problem", f"numba cannot compile ({error})", remedy)
    if total != 30.0:
        return Check("compiler", "problem", f"numba computes {total} for 30", "install numba again")
    return Check("compiler", "ok", f"numba compiles (in {took:.1f} s) and keeps what it compiled")


def check_display() -> Check:
    """A window can be opened; no session needs one."""
    remedy = "needed only for --window; the web view (--web) does without"
    if sys.platform == "linux" and not (os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")):
        return Check("window", "warning", "there is no display", remedy)
    there = [name for name in GUI_TOOLKITS if importlib.util.find_spec(name) is not None]
    if not there and sys.platform != "darwin":
        return Check("window", "warning", "no toolkit for windows is installed", f"install PySide6 or Tk: {remedy}")
    return Check("window", "ok", f"a window can be opened ({there[0] if there else 'Cocoa'})")


def check_port(host: str, port: int) -> Check:
    """Nobody else serves on the port of the web view."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as trial:
        if sys.platform != "win32":  # there it would allow what must not be
            trial.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            trial.bind((host, port))
        except OSError as error:
            found = f"port {port} on {host} is not to be had ({error.strerror or error})"
            return Check("web view", "warning", found, "close the other program or choose another --port")
    return Check("web view", "ok", f"port {port} on {host} is free")


def check_clock(now: float) -> Check:
    """The clock of this machine is set."""
    shown = time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime(now))
    if not EARLIEST < now < EARLIEST + 60 * 365.25 * 86400:
        return Check("clock", "warning", f"this machine believes that it is {shown} UTC", "set its clock")
    return Check("clock", "ok", f"{shown} UTC")


def check_memory(camera: Camera | None, available: float | None) -> Check:
    """The stack of this camera fits into memory."""
    if available is None:
        return Check("memory", "warning", "the free memory of this machine cannot be told", "close other programs")
    if camera is None:
        found = f"{available / 1e9:.1f} GB free; what the camera needs is not known"
        return Check("memory", "ok", found, "give --camera WIDTHxHEIGHT (x3 for colour) to have it estimated")
    need, size = camera.session_bytes, f"{camera.width} x {camera.height} x {camera.channels}"
    found = f"about {need / 1e9:.1f} GB needed for {size}, {available / 1e9:.1f} GB free"
    if need > available:
        return Check("memory", "problem", found, "close other programs, or bin 2 x 2 (--memory-limit)")
    if need > 0.7 * available:
        return Check("memory", "warning", found, "close other programs before you start")
    return Check("memory", "ok", found)


def _sum_of_squares(values: np.ndarray) -> float:
    total = 0.0
    for value in values:
        total += value * value
    return total
