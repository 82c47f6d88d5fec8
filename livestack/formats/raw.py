"""Camera raws (CR2, CR3, NEF, ARW, RAF, ORF, RW2, PEF) and DNG: the untouched mosaic, by LibRaw.

Nothing is developed: no black level, no white balance, no curve. The black level stands in `FrameInfo.pedestal_adu` and
the white level in `saturation_adu`; calibration deals with both, or a bias or dark takes the black level off anyhow.
Exposure and date come from EXIF, read by `exif`. Sensors with another mosaic than 2 x 2 (X-Trans) are refused.

Whether a file is whole is told by the strips (TIFF-like raws), boxes (CR3) or offsets (RAF) that it declares, and for
the others by unpacking them.
"""

from __future__ import annotations

import io
import os
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from livestack.base.errors import UnreadableFrame
from livestack.base.frame import BAYER_PATTERNS, Frame, FrameInfo
from livestack.formats.cards import Cards
from livestack.formats.exif import BrokenStructure, Directory, exif_cards, walk
from livestack.formats.guards import MAGIC_BYTES, broken_off, check_pixels, decoding, expect_magic, truncated
from livestack.formats.headers import describe

_HEAD_BYTES = 1 << 20


def _directories(stream: BinaryIO, size: int, base: int = 0) -> list[Directory]:
    """As many directories as can be followed; makers bend the structure, LibRaw has the last word."""
    found: list[Directory] = []
    try:
        for directory in walk(stream, size, base):
            found.append(directory)
    except BrokenStructure:
        pass  # what was read until here is kept; a file that is really broken fails in LibRaw
    return found


def _declared_bytes(stream: BinaryIO, size: int, start: bytes) -> int | None:
    """How long the file says it is; None where its kind does not tell."""
    if start[:4] in (b"II*\0", b"MM\0*"):
        return max((end for directory in _directories(stream, size) for end in directory.strip_ends), default=None)
    if start[4:8] == b"ftyp":
        position = 0
        while position + 16 <= size:
            stream.seek(position)
            length, _, extended = struct.unpack(">I4sQ", stream.read(16))
            length = extended if length == 1 else length or size - position
            if length < 8:
                return None
            position += length
        return position
    if start.startswith(b"FUJIFILM"):
        stream.seek(84)
        offsets = stream.read(24)
        if len(offsets) < 24:
            return 108
        numbers = struct.unpack(">6I", offsets)
        return max(where + length for where, length in zip(numbers[::2], numbers[1::2], strict=True))
    return None


def _check_open(path: Path, stream: BinaryIO) -> bool:
    """Check magic and declared length; False where the kind of file does not declare one.

    Raises
    ------
    TruncatedFrame, UnreadableFrame
    """
    size = os.fstat(stream.fileno()).st_size
    start = stream.read(MAGIC_BYTES)
    expect_magic(path, start, ("TIFF", "raw"), "a camera raw")
    declared = _declared_bytes(stream, size, start)
    if declared is not None and declared > size:
        raise truncated(path, declared, size)
    return declared is not None


def _exif(path: Path) -> Cards:
    """EXIF, wherever this kind of raw keeps it."""
    with open(path, "rb") as stream:
        size = os.fstat(stream.fileno()).st_size
        start = stream.read(MAGIC_BYTES)
        if start[:2] in (b"II", b"MM"):
            return exif_cards(_directories(stream, size))
        stream.seek(0)
        head = stream.read(_HEAD_BYTES)
        directories: list[Directory] = []
        for mark, skip in ((b"CMT1", 4), (b"CMT2", 4), (b"Exif\0\0", 6)):
            where = head.find(mark)
            if where >= 0 and head[where + skip : where + skip + 2] in (b"II", b"MM"):
                block = head[where + skip :]
                directories += _directories(io.BytesIO(block), len(block))
        return exif_cards(directories)


@contextmanager
def _opened(path: Path) -> Iterator[Any]:
    """The file, its size checked, then unpacked by LibRaw (which knows the mosaic and the levels only afterwards)."""
    import rawpy

    with open(path, "rb") as stream:
        _check_open(path, stream)
    with decoding(path, "a camera raw"), rawpy.RawPy() as raw:
        raw.open_file(os.fspath(path))
        sizes = raw.sizes
        check_pixels(path, sizes.raw_width, sizes.raw_height)
        check_pixels(path, sizes.width, sizes.height)
        try:
            raw.unpack()
        except rawpy.LibRawIOError as error:
            raise broken_off(path, path.stat().st_size, "inside its picture") from error
        yield raw


def _pattern(path: Path, raw: Any) -> str | None:
    """Colours of the first visible pixels; None for a monochrome sensor.

    Raises
    ------
    UnreadableFrame
        For a mosaic that is not 2 x 2.
    """
    if raw.num_colors == 1:
        return None
    smallest = raw.raw_pattern
    if smallest is None or smallest.shape != (2, 2):
        raise UnreadableFrame(
            f"{path.name} has no 2 x 2 Bayer mosaic (X-Trans or similar); convert it to TIFF or DNG with three colours."
        )
    top, left = raw.sizes.top_margin, raw.sizes.left_margin
    letters = raw.color_desc.decode("ascii", "replace")
    indices = [raw.raw_color(top + row, left + column) for row in (0, 1) for column in (0, 1)]
    pattern = "".join(letters[index] if index < len(letters) else "?" for index in indices)
    if pattern not in BAYER_PATTERNS:
        raise UnreadableFrame(f"{path.name} has the mosaic {pattern}; expected one of {', '.join(BAYER_PATTERNS)}.")
    return pattern


def _info(path: Path, raw: Any) -> FrameInfo:
    import rawpy

    cards = _exif(path)
    colour = raw.raw_type == rawpy.RawType.Stack
    if colour and path.suffix.lower() != ".dng":
        raise UnreadableFrame(f"{path.name} is a reduced raw without a mosaic; set the camera to full-size raw.")
    if not colour and (pattern := _pattern(path, raw)):
        cards.add("BAYERPAT", pattern, "mosaic of the first visible pixels")
    black = [float(level) for level in raw.black_level_per_channel]
    if black and any(black):
        cards.add("BLACKLEV", sum(black) / len(black))
        if max(black) - min(black) > 1:
            cards.note(
                f"The black level differs between colours ({min(black):g} to {max(black):g}); their mean is used."
            )
    white = float(raw.white_level) if raw.white_level else None
    return describe(cards, raw.sizes.width, raw.sizes.height, 3 if colour else 1, 16, white)


def check(path: Path) -> None:
    """By what the file declares; unpacked where it declares nothing."""
    with open(path, "rb") as stream:
        told = _check_open(path, stream)
    if not told:
        with _opened(path):
            return


def count(path: Path) -> int:
    """Always one."""
    with open(path, "rb") as stream:
        _check_open(path, stream)
    return 1


def read_info(path: Path) -> FrameInfo:
    """Metadata."""
    with _opened(path) as raw:
        return _info(path, raw)


def read_frame(path: Path, index: int) -> Frame:
    """The mosaic as uint16, the masked border left out; three planes from a linear DNG."""
    if index != 0:
        raise UnreadableFrame(f"{path.name} has 1 frame(s), there is none with index {index}.")
    with _opened(path) as raw:
        info = _info(path, raw)
        visible = raw.raw_image_visible
        if visible.ndim == 3:
            data = np.array(visible[:, :, :3].transpose(2, 0, 1), dtype=np.uint16, order="C")
        else:
            data = np.array(visible, dtype=np.uint16, order="C")
    if data.shape[-2:] != (info.height, info.width) or data.ndim != (3 if info.planes == 3 else 2):
        raise UnreadableFrame(f"{path.name} declares another size than it holds; the file is damaged.")
    return Frame(data, info, path, 0)


def read_frames(path: Path) -> Iterator[Frame]:
    """The one frame."""
    yield read_frame(path, 0)
