"""The units of a FITS file: where each header and its data lie, and whether the file is as long as they say.

Headers are read by our own tolerant parser. Gzip is unpacked as a stream that is never held whole. What the samples
mean is the business of `fits`.

Source: FITS standard 4.0 (doi:10.1051/0004-6361/201015362), sections 3, 4 and 7.
"""

from __future__ import annotations

import gzip
import os
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import BinaryIO, cast

from livestack.base.errors import UnreadableFrame
from livestack.formats.cards import BLOCK, CARD, Cards, is_end, parse_cards
from livestack.formats.guards import MAGIC_BYTES, broken_off, expect_magic

BITPIX = {8: "u1", 16: ">i2", 32: ">i4", 64: ">i8", -32: ">f4", -64: ">f8"}
"""numpy's name of each stored type."""

MAX_UNITS = 1000

_MAX_HEADER_BLOCKS = 1000


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


@contextmanager
def opened(path: Path) -> Iterator[tuple[BinaryIO, int | None]]:
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


def read_exactly(stream: BinaryIO, length: int) -> bytes:
    """Up to `length` bytes; fewer only at the end of the stream."""
    parts: list[bytes] = []
    missing = length
    while missing and (part := stream.read(min(missing, 1 << 20))):
        parts.append(part)
        missing -= len(part)
    return b"".join(parts)


def read_unit(path: Path, stream: BinaryIO, start: int) -> Unit | None:
    """The unit whose header begins at `start`; None where nothing follows that claims to be one."""
    stream.seek(start)
    header = b""
    for _ in range(_MAX_HEADER_BLOCKS):
        block = read_exactly(stream, BLOCK)
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
    if bitpix not in BITPIX:
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
        if bitpix not in BITPIX:
            raise UnreadableFrame(f"{path.name} declares ZBITPIX = {cards.get('ZBITPIX')!r}; its header is damaged.")
        axes = tuple(axis(f"ZNAXIS{number}") for number in range(1, min(axis("ZNAXIS"), 999) + 1))
    return Unit(cards, start, data_bytes, axes, bitpix, tiled, table)


def find_picture(path: Path, stream: BinaryIO) -> tuple[Unit, Cards]:
    """The first unit with a picture in it, and the primary header."""
    start, primary = 0, None
    for number in range(MAX_UNITS):
        unit = read_unit(path, stream, start)
        if unit is None:
            if number == 1:  # a compressed frame begins with an empty unit, and may get no further for a while
                raise broken_off(path, start, "without a picture in it")
            break
        primary = primary or unit.cards
        if unit.is_picture:
            return unit, primary
        if unit.next_start == start:
            break
        start = unit.next_start
    raise UnreadableFrame(f"{path.name} holds no picture: none of its FITS units has two axes.")
