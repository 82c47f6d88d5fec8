"""The library's way to frames: a file, or all files of a folder, one frame after the other."""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterator
from pathlib import Path

from livestack.base.errors import FrameError, UsageError
from livestack.base.folder import natural_key
from livestack.base.frame import Frame
from livestack.formats import is_frame_name
from livestack.formats import read_frames as read_file


def read_frames(place: str | os.PathLike[str]) -> Iterator[Frame]:
    """Frames of a file, or of all files of a folder in the natural order of their names.

    Parameters
    ----------
    place : a file (which may hold many frames) or a folder (not searched any deeper).

    Yields
    ------
    Frame
        A file of a folder that cannot be read is passed over with a warning that says why.

    Raises
    ------
    FrameError : `place` is a file and cannot be read.
    UsageError : there is no such place.
    """
    path = Path(place)
    if path.is_dir():
        found = (file for file in path.iterdir() if is_frame_name(file))
        files = sorted(found, key=lambda file: natural_key(file.name))
        for file in files:
            try:
                yield from read_file(file)
            except FrameError as error:
                warnings.warn(str(error), stacklevel=2)
    elif path.exists():
        yield from read_file(path)
    else:
        raise UsageError(f"{path}: there is no such file or folder; check the name.")
