"""FITS frames: images, colour planes, cubes, compressed tiles, and everything a header can do to the samples.

The usual frame, 16-bit integers in the first unit, goes from the disk through a buffer that stays in the processor's
cache into its array: one pass that turns the bytes and adds 32768. Where headers and data lie is told by `units`, tiles
(.fz) are unpacked by `tiles`, and what the keywords mean is in `headers`.

Source: FITS standard 4.0 (doi:10.1051/0004-6361/201015362), sections 4.4 and 5.
"""

from __future__ import annotations

import io
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, cast

import numpy as np

from livestack.base.errors import UnreadableFrame
from livestack.base.frame import Frame, FrameInfo
from livestack.formats import tiles
from livestack.formats.cards import Cards
from livestack.formats.guards import check_pixels, check_ratio, truncated
from livestack.formats.headers import adc_bits, correct_saturation, describe
from livestack.formats.units import BITPIX, MAX_UNITS, Unit, find_picture, opened, read_exactly, read_unit

_CHUNK = 1 << 18  # bytes: stays in the second-level cache together with its destination


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


def _layout(path: Path, unit: Unit) -> Layout:
    """How the axes are to be understood; sizes are checked here, before anything is allocated."""
    axes = [*unit.axes[:2], *(length for length in unit.axes[2:] if length != 1)]
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
    limits = np.iinfo(BITPIX[unit.bitpix])
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
    stored = np.dtype(BITPIX[unit.bitpix])
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
    data = read_exactly(stream, unit.data_bytes)
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
    unit, primary = find_picture(path, stream)
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
    with opened(path) as (stream, size):
        _layout(path, find_picture(path, stream)[0])
        start = 0
        for _ in range(MAX_UNITS):
            unit = read_unit(path, stream, start)
            if unit is None:
                return
            if size is None:
                check_ratio(path, unit.end, path.stat().st_size)
                if unit.data_bytes and stream.seek(unit.end) < unit.end:
                    raise truncated(path, unit.next_start, stream.tell())
            elif unit.end > size:
                raise truncated(path, unit.next_start, size)
            start = unit.next_start


def count(path: Path) -> int:
    """Frames in the file."""
    with opened(path) as (stream, _):
        return _layout(path, find_picture(path, stream)[0]).count


def read_info(path: Path) -> FrameInfo:
    """Header only."""
    with opened(path) as (stream, size):
        unit, primary = find_picture(path, stream)
        return _info(unit, primary, _layout(path, unit), size)


def read_frame(path: Path, index: int) -> Frame:
    """Frame `index` of the file."""
    with opened(path) as (stream, size):
        return next(_frames(path, stream, size, index))


def read_frames(path: Path) -> Iterator[Frame]:
    """All frames, one at a time."""
    with opened(path) as (stream, size):
        yield from _frames(path, stream, size, None)
