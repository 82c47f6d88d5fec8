"""FITS files: images, colour planes, cubes, compressed tiles, gzip, and headers that break the rules.

The usual frame, 16-bit integers in the first unit, goes from the disk through a buffer that stays in the processor's
cache into its array: one pass that turns the bytes and adds 32768. The header is read by our own tolerant parser;
tiles (.fz) are the business of `tiles`. A file is taken as complete
when the arithmetic of its headers fits its length (`check`). What keywords mean is in `headers`.

Source: FITS standard 4.0 (doi:10.1051/0004-6361/201015362), sections 3-5, 7 and 10.
"""

from __future__ import annotations

import gzip
import io
import os
import zlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import BinaryIO, cast

import numpy as np

from livestack.errors import UnreadableFrame
from livestack.formats import tiles
from livestack.formats.cards import BLOCK, CARD, Cards, is_end, parse_cards
from livestack.formats.guards import (
    MAGIC_BYTES,
    broken_off,
    check_pixels,
    check_ratio,
    expect_magic,
    truncated,
)
from livestack.formats.headers import adc_bits, correct_saturation, describe
from livestack.frame import Frame, FrameInfo

SUFFIXES = frozenset({".fit", ".fits", ".fts", ".fz", ".fits.fz", ".fit.fz", ".fits.gz", ".fit.gz", ".fts.gz"})

_MAX_HEADER_BLOCKS = 1000
_MAX_UNITS = 1000
_CHUNK = 1 << 18  # bytes: stays in the second-level cache together with its destination
_BITPIX = {8: "u1", 16: ">i2", 32: ">i4", 64: ">i8", -32: ">f4", -64: ">f8"}


@dataclass(frozen=True)
class Unit:
    """One header and its data: `axes` as in NAXIS1, NAXIS2 ... of the picture, `data_bytes` without padding."""

    cards: Cards
    start: int
    data_bytes: int
    axes: tuple[int, ...]
    bitpix: int
    tiled: bool
    table: bool

    @property
    def end(self) -> int:
        """First byte after the data."""
        return self.start + self.data_bytes

    @property
    def is_picture(self) -> bool:
        """Whether it is an image (plain or tiled) with two real axes."""
        return (self.tiled or not self.table) and sum(length > 1 for length in self.axes) >= 2

    @property
    def next_start(self) -> int:
        """Where the next header would begin."""
        return self.start + -(-self.data_bytes // BLOCK) * BLOCK


@dataclass(frozen=True)
class Layout:
    """How the samples of a unit make frames: `count` frames of `planes` x `height` x `width`."""

    count: int
    planes: int
    height: int
    width: int
    interleaved: bool = False

    @property
    def samples(self) -> int:
        """Samples of one frame."""
        return self.planes * self.height * self.width


@contextmanager
def _opened(path: Path) -> Iterator[tuple[BinaryIO, int | None]]:
    """The file as a seekable stream of FITS bytes, and its length where that is known before unpacking."""
    with open(path, "rb", buffering=0) as plain:
        found = expect_magic(path, plain.read(MAGIC_BYTES), ("FITS", "gzip"), "FITS")
        plain.seek(0)
        if found == "FITS":
            yield plain, os.fstat(plain.fileno()).st_size
            return
        try:
            with gzip.GzipFile(fileobj=plain) as unpacked:
                stream = cast(BinaryIO, unpacked)
                expect_magic(path, stream.read(MAGIC_BYTES), ("FITS",), "FITS")
                stream.seek(0)
                yield stream, None
        except EOFError as error:
            raise broken_off(path, path.stat().st_size, "inside its compressed data") from error
        except (gzip.BadGzipFile, zlib.error) as error:
            raise UnreadableFrame(f"{path.name} cannot be unpacked ({error}); the file is damaged.") from error


def _read_exactly(stream: BinaryIO, length: int) -> bytes:
    """Up to `length` bytes; fewer only at the end of the stream."""
    parts: list[bytes] = []
    missing = length
    while missing and (part := stream.read(min(missing, 1 << 20))):
        parts.append(part)
        missing -= len(part)
    return b"".join(parts)


def _read_unit(path: Path, stream: BinaryIO, start: int) -> Unit | None:
    """The unit whose header begins at `start`; None where nothing follows that claims to be one."""
    stream.seek(start)
    header = b""
    for _ in range(_MAX_HEADER_BLOCKS):
        block = _read_exactly(stream, BLOCK)
        if start and not header and not block.startswith(b"XTENSION"):
            return None
        header += block
        if any(is_end(block[card : card + CARD]) for card in range(0, len(block), CARD)):
            return _make_unit(path, parse_cards(header), start + -(-len(header) // BLOCK) * BLOCK)
        if len(block) < BLOCK:
            raise broken_off(path, start + len(header), "inside a header")
    raise UnreadableFrame(f"{path.name} has no END in {_MAX_HEADER_BLOCKS} blocks of header; it is damaged.")


def _make_unit(path: Path, cards: Cards, start: int) -> Unit:
    def axis(keyword: str) -> int:
        value = cards.whole(keyword)
        if value is None or value < 0:
            raise UnreadableFrame(f"{path.name} has no valid {keyword} in its header (found {cards.get(keyword)!r}).")
        return value

    bitpix, naxis = cards.whole("BITPIX"), axis("NAXIS")
    if bitpix not in _BITPIX:
        raise UnreadableFrame(f"{path.name} declares BITPIX = {cards.get('BITPIX')!r}; that is no FITS number type.")
    if naxis > 999:
        raise UnreadableFrame(f"{path.name} declares {naxis} axes; a picture has 2 or 3.")
    axes = tuple(axis(f"NAXIS{number}") for number in range(1, naxis + 1))
    grouped = bool(axes) and axes[0] == 0 and cards.get("GROUPS") is True
    elements = prod(axes[1:] if grouped else axes) if axes else 0
    repeat, extra = max(cards.whole("GCOUNT") or 1, 1), max(cards.whole("PCOUNT") or 0, 0)
    data_bytes = abs(bitpix) // 8 * repeat * (extra + elements) if elements or extra else 0
    table = (cards.text("XTENSION") or "IMAGE").upper() != "IMAGE"
    tiled = table and cards.get("ZIMAGE") is True
    if tiled:
        bitpix = cards.whole("ZBITPIX")
        if bitpix not in _BITPIX:
            raise UnreadableFrame(f"{path.name} declares ZBITPIX = {cards.get('ZBITPIX')!r}; its header is damaged.")
        axes = tuple(axis(f"ZNAXIS{number}") for number in range(1, min(axis("ZNAXIS"), 999) + 1))
    return Unit(cards, start, data_bytes, axes, bitpix, tiled, table)


def _find_picture(path: Path, stream: BinaryIO) -> tuple[Unit, Cards]:
    """The first unit with a picture in it, and the primary header."""
    start, primary = 0, None
    for _ in range(_MAX_UNITS):
        unit = _read_unit(path, stream, start)
        if unit is None:
            break
        primary = primary or unit.cards
        if unit.is_picture:
            return unit, primary
        if unit.next_start == start:
            break
        start = unit.next_start
    raise UnreadableFrame(f"{path.name} holds no picture: none of its FITS units has two axes.")


def _layout(path: Path, unit: Unit) -> Layout:
    """How the axes are to be understood; sizes are checked here, before anything is allocated."""
    axes = list(unit.axes)
    while len(axes) > 2 and axes[-1] == 1:
        axes.pop()
    if len(axes) == 4 and 1 in axes[2:]:
        axes.remove(1)
    if len(axes) == 2:
        layout = Layout(1, 1, axes[1], axes[0])
    elif len(axes) == 3 and axes[2] == 3:
        layout = Layout(1, 3, axes[1], axes[0])
    elif len(axes) == 3 and axes[0] == 3:
        layout = Layout(1, 3, axes[2], axes[1], interleaved=True)
    elif len(axes) == 3:
        layout = Layout(axes[2], 1, axes[1], axes[0])
    elif len(axes) == 4 and axes[2] == 3:
        layout = Layout(axes[3], 3, axes[1], axes[0])
    else:
        raise UnreadableFrame(f"{path.name} has axes {unit.axes}; expected a picture, three colour planes or a cube.")
    check_pixels(path, layout.width, layout.height, layout.planes)
    if layout.count < 1:
        raise UnreadableFrame(f"{path.name} declares a cube without planes.")
    return layout


def _info(unit: Unit, primary: Cards, layout: Layout, size: int | None) -> FrameInfo:
    cards = Cards(dict(unit.cards.values), list(unit.cards.oddities))
    if primary is not unit.cards:
        for keyword, value, comment in primary:
            cards.add(keyword, value, comment)
        for sentence in primary.oddities:
            cards.note(sentence)
    if size is not None and unit.end <= size < unit.next_start:
        cards.note("The file ends without the padding that FITS asks for; all pixels are there.")
    bits = abs(unit.bitpix)
    limit: float | None = None
    if unit.bitpix in (8, 16):
        scale, zero = _scaling(unit.cards)
        limit = (255 if bits == 8 else 32767) * scale + zero
    return describe(cards, layout.width, layout.height, layout.planes, bits, limit)


def _scaling(cards: Cards) -> tuple[float, float]:
    """(BSCALE, BZERO)."""
    return cards.number("BSCALE") or 1.0, cards.number("BZERO") or 0.0


def _blank(unit: Unit) -> int | None:
    """Stored value that means no data, for integer pictures."""
    blank = unit.cards.whole("ZBLANK" if unit.tiled and "ZBLANK" in unit.cards else "BLANK")
    if blank is None or unit.bitpix < 0:
        return None
    limits = np.iinfo(_BITPIX[unit.bitpix])
    return blank if limits.min <= blank <= limits.max else None


def _result_type(unit: Unit) -> str:
    scale, zero = _scaling(unit.cards)
    if scale != 1.0 or _blank(unit) is not None or unit.bitpix not in (8, 16, 32):
        return "f4"
    kinds = {(8, 0.0): "u1", (8, -128.0): "i2", (16, 0.0): "i2", (16, 32768.0): "u2", (32, 0.0): "i4"}
    return kinds.get((unit.bitpix, zero), "f4")


def _convert(raw: np.ndarray, out: np.ndarray, unit: Unit) -> None:
    """Stored samples (any byte order) to physical values in `out`, both flat and of one length."""
    scale, zero = _scaling(unit.cards)
    if out.dtype == np.uint16:
        np.bitwise_xor(raw.view(raw.dtype.str.replace("i", "u")), np.uint16(0x8000), out=out)
        return
    if scale == 1.0 and zero == 0.0:
        with np.errstate(over="ignore", invalid="ignore"):
            np.copyto(out, raw, casting="same_kind" if raw.dtype.kind == "f" else "unsafe")
    else:
        with np.errstate(over="ignore", invalid="ignore"):
            np.copyto(out, raw.astype(np.float64) * scale + zero, casting="unsafe")
    blank = _blank(unit)
    if blank is not None:
        out[raw == blank] = np.nan


def _load(path: Path, stream: BinaryIO, unit: Unit, layout: Layout, index: int) -> np.ndarray:
    """Samples of frame `index` of a plain unit, flat."""
    stored = np.dtype(_BITPIX[unit.bitpix])
    stream.seek(unit.start + index * layout.samples * stored.itemsize)
    out = np.empty(layout.samples, _result_type(unit))
    buffer = np.empty(min(_CHUNK // stored.itemsize, layout.samples), stored)
    window = buffer.view(np.uint8).data
    done = 0
    while done < layout.samples:
        wanted = min(buffer.size, layout.samples - done) * stored.itemsize
        got = 0
        while got < wanted:
            read = cast(io.RawIOBase, stream).readinto(window[got:wanted])
            if not read:
                raise truncated(path, unit.end, unit.start + (index * layout.samples + done) * stored.itemsize + got)
            got += read
        samples = wanted // stored.itemsize
        _convert(buffer[:samples], out[done : done + samples], unit)
        done += samples
    return out


def _unpack_tiles(
    path: Path, stream: BinaryIO, unit: Unit, layout: Layout, indices: Iterable[int]
) -> Iterator[np.ndarray]:
    """Samples of the frames `indices` of a tile-compressed unit, flat."""
    check_ratio(path, layout.samples * layout.count * abs(unit.bitpix) // 8, unit.data_bytes)
    stream.seek(unit.start)
    data = _read_exactly(stream, unit.data_bytes)
    if len(data) < unit.data_bytes:
        raise truncated(path, unit.end, unit.start + len(data))
    for raw in tiles.unpack(path, unit.cards, unit.axes, data, indices if layout.count > 1 else None):
        if raw.size != layout.samples:
            raise UnreadableFrame(f"{path.name} unpacks to another size than it declares; it is damaged.")
        out = np.empty(layout.samples, _result_type(unit))
        _convert(raw, out, unit)
        yield out


def _frames(path: Path, stream: BinaryIO, size: int | None, wanted: int | None) -> Iterator[Frame]:
    """Frame `wanted`, or all of them, from an open file."""
    unit, primary = _find_picture(path, stream)
    layout = _layout(path, unit)
    if wanted is not None and not 0 <= wanted < layout.count:
        raise UnreadableFrame(f"{path.name} has {layout.count} frame(s), there is none with index {wanted}.")
    if size is not None and unit.end > size:
        raise truncated(path, unit.next_start, size)
    if size is None:
        check_ratio(path, unit.end, path.stat().st_size)
    info = _info(unit, primary, layout, size)
    indices = range(layout.count) if wanted is None else range(wanted, wanted + 1)
    if unit.tiled:
        samples = _unpack_tiles(path, stream, unit, layout, indices)
    else:
        samples = (_load(path, stream, unit, layout, index) for index in indices)
    for index, flat in zip(indices, samples, strict=True):
        data = _shape(flat, layout)
        yield Frame(data, correct_saturation(info, data, adc_bits(unit.cards)), path, index)


def _shape(flat: np.ndarray, layout: Layout) -> np.ndarray:
    if layout.interleaved:
        return np.ascontiguousarray(flat.reshape(layout.height, layout.width, 3).transpose(2, 0, 1))
    if layout.planes == 3:
        return flat.reshape(3, layout.height, layout.width)
    return flat.reshape(layout.height, layout.width)


def check(path: Path) -> None:
    """Hold the length against the headers of all units, without looking at a pixel."""
    with _opened(path) as (stream, size):
        start = 0
        for _ in range(_MAX_UNITS):
            unit = _read_unit(path, stream, start)
            if unit is None:
                return
            if unit.is_picture:
                _layout(path, unit)
            if size is None:
                check_ratio(path, unit.end, path.stat().st_size)
                if unit.data_bytes and stream.seek(unit.end) < unit.end:
                    raise truncated(path, unit.next_start, stream.tell())
            elif unit.end > size:
                raise truncated(path, unit.next_start, size)
            start = unit.next_start
        # more units than anybody writes: what counts has been seen


def count(path: Path) -> int:
    """Frames in the file."""
    with _opened(path) as (stream, _):
        return _layout(path, _find_picture(path, stream)[0]).count


def read_info(path: Path) -> FrameInfo:
    """Header only."""
    with _opened(path) as (stream, size):
        unit, primary = _find_picture(path, stream)
        return _info(unit, primary, _layout(path, unit), size)


def read_frame(path: Path, index: int) -> Frame:
    """Frame `index` of the file."""
    with _opened(path) as (stream, size):
        return next(_frames(path, stream, size, index))


def read_frames(path: Path) -> Iterator[Frame]:
    """All frames, one at a time."""
    with _opened(path) as (stream, size):
        yield from _frames(path, stream, size, None)
