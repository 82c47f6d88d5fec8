"""The door to all files: which names are frames, is a file whole, and its frames.

The extension chooses the reader; the reader checks that the content agrees. Whatever goes wrong with a file ends as a
`FrameError` with one sentence, never as another exception: a session refuses the file and goes on. Each reader is a
module with the same five functions (`Reader`), imported when the first file of its kind appears.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Protocol, cast

from livestack.base.errors import UnreadableFrame
from livestack.base.frame import Frame, FrameInfo
from livestack.formats.guards import guarded, truncated

__all__ = ["SUFFIXES", "check_complete", "count_frames", "is_frame_name", "read_frame", "read_frames", "read_info"]


class Reader(Protocol):
    """What a module of this package offers for its kind of file."""

    def check(self, path: Path) -> None: ...
    def count(self, path: Path) -> int: ...
    def read_info(self, path: Path) -> FrameInfo: ...
    def read_frame(self, path: Path, index: int) -> Frame: ...
    def read_frames(self, path: Path) -> Iterator[Frame]: ...


_READERS = {
    "fits": (".fit", ".fits", ".fts", ".fz", ".fits.fz", ".fit.fz", ".fits.gz", ".fit.gz", ".fts.gz"),
    "raster": (".png", ".jpg", ".jpeg"),
    "tiff": (".tif", ".tiff"),
    "raw": (".dng", ".cr2", ".cr3", ".nef", ".arw", ".raf", ".orf", ".rw2", ".pef"),
    "ser": (".ser",),
    "xisf": (".xisf",),
}
_READER_OF = {suffix: reader for reader, suffixes in _READERS.items() for suffix in suffixes}

SUFFIXES: frozenset[str] = frozenset(_READER_OF)
"""Endings of everything readable, lower case."""

_UNFINISHED = (".tmp", ".temp", ".part", ".partial", ".crdownload", ".download", ".filepart", ".swp", "~")


def _suffix(name: str) -> str:
    """The longest known ending of a name, or ""."""
    parts = name.lower().split(".")
    for suffix in ("." + ".".join(parts[-2:]), "." + parts[-1]):
        if suffix in _READER_OF and len(suffix) < len(name):
            return suffix
    return ""


def is_frame_name(path: str | os.PathLike[str]) -> bool:
    """Whether a name is one of a finished frame: a known ending, neither hidden nor a temporary name."""
    name = Path(path).name
    lower = name.lower()
    if name.startswith((".", "~", "#")) or lower.endswith(_UNFINISHED):
        return False
    suffix = _suffix(name)
    stem = lower.removesuffix(suffix)
    return bool(suffix) and not stem.endswith(_UNFINISHED)


def _reader(path: Path) -> Reader:
    """The reader for a file that exists and is one.

    Raises
    ------
    UnreadableFrame, VanishedFrame, TruncatedFrame
    """
    status = path.stat()
    if stat.S_ISDIR(status.st_mode):
        raise UnreadableFrame(f"{path.name} is a folder, not a frame; name the files in it.")
    if not stat.S_ISREG(status.st_mode):
        raise UnreadableFrame(f"{path.name} is a device or pipe, not a file; it is left alone.")
    suffix = _suffix(path.name)
    if not suffix:
        raise UnreadableFrame(f"{path.name} has no ending that we read; expected one of {', '.join(sorted(SUFFIXES))}.")
    if status.st_size == 0:
        raise truncated(path, 0, 0)
    return cast(Reader, import_module(f"{__name__}.{_READER_OF[suffix]}"))


def check_complete(path: str | os.PathLike[str]) -> None:
    """Cheap test that a file is as long as it declares.

    Raises
    ------
    TruncatedFrame
        Shorter than declared: still being written, or broken off.
    VanishedFrame
        It is not there any more.
    UnreadableFrame
        It can never become a frame.
    """
    path = Path(path)
    with guarded(path):
        _reader(path).check(path)


def count_frames(path: str | os.PathLike[str]) -> int:
    """Number of frames in a file: 1, or more for SER, FITS cubes and TIFF of many pages.

    Raises
    ------
    FrameError
    """
    path = Path(path)
    with guarded(path):
        return _reader(path).count(path)


def read_info(path: str | os.PathLike[str]) -> FrameInfo:
    """What the header of a file tells, without decoding pixels.

    Raises
    ------
    FrameError
    """
    path = Path(path)
    with guarded(path):
        return _reader(path).read_info(path)


def read_frame(path: str | os.PathLike[str], index: int = 0) -> Frame:
    """One frame of a file.

    Returns
    -------
    Frame
        Its data are (H, W) or (3, H, W), C-contiguous, native byte order, as stored: nothing subtracted, never turned.

    Raises
    ------
    FrameError
    """
    path = Path(path)
    with guarded(path):
        return _reader(path).read_frame(path, index)


def read_frames(path: str | os.PathLike[str]) -> Iterator[Frame]:
    """All frames of a file, read one at a time as they are asked for.

    Raises
    ------
    FrameError
    """
    path = Path(path)
    with guarded(path):
        frames = _reader(path).read_frames(path)
    while True:
        with guarded(path):
            frame = next(frames, None)
        if frame is None:
            return
        yield frame
