"""SER films: a header of 178 bytes, frames of fixed size, and perhaps a trailer of time stamps. One frame at a time.

Byte order: the specification says that 1 in the field `LittleEndian` means little-endian, but the first program that
wrote the format wrote 0 for little-endian data, and most capture programs, and Siril, follow it. So the flag cannot be
believed either way. We look at the samples: the byte that differs more from pixel to pixel is the low one. Only where
they do not tell (one of the two is constant, or both are noise) is the flag taken with its customary, inverted meaning:
0 little-endian, 1 big-endian.

Source: H. Wilson, SER format description version 3b (2014); the remark on the flag in Siril's source.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import BinaryIO

import numpy as np

from livestack.base.errors import UnreadableFrame
from livestack.base.frame import Frame, FrameInfo
from livestack.formats.cards import Cards
from livestack.formats.guards import MAGIC_BYTES, broken_off, check_pixels, expect_magic, truncated
from livestack.formats.headers import correct_saturation, describe

_HEADER = struct.Struct("<14s7i40s40s40s2q")
_PATTERNS = {8: "RGGB", 9: "GRBG", 10: "GBRG", 11: "BGGR"}
_MONO, _RGB, _BGR = 0, 100, 101
_TICKS_ORIGIN = datetime(1, 1, 1, tzinfo=UTC)  # .NET: units of 100 ns
_DECISIVE = 1.5


@dataclass(frozen=True)
class Film:
    """The header, and what follows from it."""

    colour: int
    flag: int
    width: int
    height: int
    depth: int
    frames: int
    observer: str
    instrument: str
    telescope: str
    utc_ticks: int
    size: int

    @property
    def planes(self) -> int:
        """Samples of a pixel."""
        return 3 if self.colour in (_RGB, _BGR) else 1

    @property
    def sample_bytes(self) -> int:
        """Bytes of a sample."""
        return 1 if self.depth <= 8 else 2

    @property
    def frame_bytes(self) -> int:
        """Bytes of a frame."""
        return self.width * self.height * self.planes * self.sample_bytes

    @property
    def end(self) -> int:
        """First byte after the last frame: where the trailer begins."""
        return _HEADER.size + self.frames * self.frame_bytes


def _read_header(path: Path, stream: BinaryIO) -> Film:
    start = stream.read(_HEADER.size)
    expect_magic(path, start[:MAGIC_BYTES], ("SER",), "SER")
    if len(start) < _HEADER.size:
        raise truncated(path, _HEADER.size, len(start))
    _, _, colour, flag, width, height, depth, frames, *texts, _, ticks = _HEADER.unpack(start)
    words = [text.split(b"\0")[0].decode("latin-1").strip() for text in texts]
    size = os.fstat(stream.fileno()).st_size
    film = Film(colour, flag, width, height, depth, frames, words[0], words[1], words[2], ticks, size)
    check_pixels(path, width, height)
    if not 1 <= depth <= 16:
        raise UnreadableFrame(f"{path.name} declares {depth} bits a sample; SER has 1 to 16, its header is damaged.")
    if colour not in (_MONO, _RGB, _BGR, *_PATTERNS):
        raise UnreadableFrame(
            f"{path.name} has colour format {colour}; we read mono, the four Bayer patterns, RGB and BGR."
        )
    if frames < 1:
        raise broken_off(path, size, "and its header counts no frame yet")
    if film.end > size:
        raise truncated(path, film.end, size)
    return film


def _time(film: Film, stream: BinaryIO, index: int) -> datetime | None:
    """Time stamp of a frame from the trailer; the film's start serves the first frame of a film without one."""
    ticks = film.utc_ticks if index == 0 else 0
    if film.end + 8 * film.frames <= film.size:
        stream.seek(film.end + 8 * index)
        stamp = stream.read(8)
        ticks = struct.unpack("<q", stamp)[0] if len(stamp) == 8 else ticks
    try:
        moment = _TICKS_ORIGIN + timedelta(microseconds=ticks // 10)
    except OverflowError:
        return None
    return moment if 1950 <= moment.year <= 2200 else None


def _info(film: Film, stream: BinaryIO, index: int) -> FrameInfo:
    cards = Cards()
    for keyword, text in (("INSTRUME", film.instrument), ("TELESCOP", film.telescope), ("OBSERVER", film.observer)):
        if text:
            cards.add(keyword, text)
    if film.colour in _PATTERNS:
        cards.add("BAYERPAT", _PATTERNS[film.colour])
    cards.add("BITDEPTH", film.depth)
    moment = _time(film, stream, index)
    if moment is not None:
        cards.add("DATE-OBS", moment.isoformat())
    if film.end < film.size < film.end + 8 * film.frames:
        cards.note("The trailer of time stamps is incomplete; ignored.")
    bits = 8 * film.sample_bytes
    return describe(cards, film.width, film.height, film.planes, bits, float(2**bits - 1))


def _is_big_endian(film: Film, stream: BinaryIO) -> bool:
    """Byte order of 16-bit samples, judged on the middle of the first frame; see the module's opening."""
    if film.sample_bytes == 1:
        return False
    rows = min(film.height, max(1, (1 << 18) // film.width))
    stream.seek(_HEADER.size + (film.height - rows) // 2 * film.width * film.planes * 2)
    block = stream.read(rows * film.width * film.planes * 2)
    samples = np.frombuffer(block, "<u2")
    limit = 2**film.depth
    little_fits, big_fits = bool(samples.max() < limit), bool(samples.byteswap().max() < limit)
    if little_fits != big_fits:
        return big_fits
    pairs = np.frombuffer(block, np.uint8).reshape(rows, film.width * film.planes, 2).astype(np.int16)
    step = 2 * film.planes  # the next pixel of the same colour
    first, second = np.abs(pairs[:, step:] - pairs[:, :-step]).mean(axis=(0, 1)) if film.width > 2 else (0.0, 0.0)
    if min(first, second) > 0 and max(first, second) > _DECISIVE * min(first, second):
        return bool(second > first)
    return film.flag == 1


def _load(path: Path, film: Film, stream: BinaryIO, index: int, big_endian: bool) -> Frame:
    stream.seek(_HEADER.size + index * film.frame_bytes)
    flat = np.empty(film.frame_bytes // film.sample_bytes, np.uint8 if film.sample_bytes == 1 else np.uint16)
    got = stream.readinto(flat.view(np.uint8).data)  # type: ignore[attr-defined]
    if got != film.frame_bytes:
        raise truncated(path, film.end, _HEADER.size + index * film.frame_bytes + (got or 0))
    if film.sample_bytes == 2 and big_endian != (np.dtype("=u2") == np.dtype(">u2")):
        flat.byteswap(inplace=True)
    if film.planes == 1:
        data = flat.reshape(film.height, film.width)
    else:
        pixels = flat.reshape(film.height, film.width, 3)
        data = np.ascontiguousarray((pixels if film.colour == _RGB else pixels[:, :, ::-1]).transpose(2, 0, 1))
    return Frame(data, correct_saturation(_info(film, stream, index), data, film.depth), path, index)


def check(path: Path) -> None:
    """The frames that the header counts lie inside the file; the trailer may be missing."""
    with open(path, "rb") as stream:
        _read_header(path, stream)


def count(path: Path) -> int:
    """Frames that the header counts."""
    with open(path, "rb") as stream:
        return _read_header(path, stream).frames


def read_info(path: Path) -> FrameInfo:
    """What the header tells of the first frame."""
    with open(path, "rb") as stream:
        return _info(_read_header(path, stream), stream, 0)


def read_frame(path: Path, index: int) -> Frame:
    """Frame `index`."""
    with open(path, "rb") as stream:
        film = _read_header(path, stream)
        if not 0 <= index < film.frames:
            raise UnreadableFrame(f"{path.name} has {film.frames} frame(s), there is none with index {index}.")
        return _load(path, film, stream, index, _is_big_endian(film, stream))


def read_frames(path: Path) -> Iterator[Frame]:
    """All frames, one at a time."""
    with open(path, "rb") as stream:
        film = _read_header(path, stream)
        big_endian = _is_big_endian(film, stream)
        for index in range(film.frames):
            yield _load(path, film, stream, index, big_endian)
