"""The TIFF structure, read for its own sake: tags, where the picture's bytes lie, EXIF.

TIFF, DNG and most camera raws are this structure; JPEG and PNG carry one with EXIF in it. Walking it tells whether a
file is whole (every strip inside the file) and when and how long was exposed, without a decoder and without pixels.

Source: TIFF 6.0 (Adobe 1992), BigTIFF, EXIF 2.32 (CIPA DC-008).
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import BinaryIO

from livestack.formats.cards import Cards

_FORMATS = {1: "B", 2: "s", 3: "H", 4: "I", 5: "II", 6: "b", 7: "s", 8: "h", 9: "i", 10: "ii", 11: "f", 12: "d"}
_FORMATS |= {13: "I", 16: "Q", 17: "q", 18: "Q"}
_MAX_ENTRIES = 4096
_MAX_DIRECTORIES = 20000
_MAX_VALUES = 1 << 22

WIDTH, HEIGHT, DATETIME, MAKE, MODEL, DESCRIPTION = 256, 257, 306, 271, 272, 270
STRIP_OFFSETS, STRIP_COUNTS, TILE_OFFSETS, TILE_COUNTS = 273, 279, 324, 325
SUB_DIRECTORIES, EXIF_DIRECTORY = 330, 34665
EXPOSURE_TIME, ISO, FOCAL_LENGTH = 33434, 34855, 37386
DATE_ORIGINAL, SUBSEC_ORIGINAL, OFFSET_ORIGINAL = 36867, 37521, 36881
JPEG_OFFSET, JPEG_LENGTH = 513, 514


@dataclass
class Directory:
    """One image file directory: tag to its numbers (a rational is a pair) or text, and where each one lies."""

    tags: dict[int, tuple[int | float, ...] | bytes] = field(default_factory=dict)
    ends: list[int] = field(default_factory=list)
    """First bytes after each tag value that lies elsewhere."""
    strip_ends: list[int] = field(default_factory=list)
    """First bytes after each strip and tile."""

    def numbers(self, tag: int) -> tuple[int | float, ...]:
        """The numbers of a tag; empty where it is missing or text."""
        value = self.tags.get(tag, ())
        return () if isinstance(value, bytes) else value

    def text(self, tag: int) -> str:
        """The text of a tag; empty where it is missing or numbers."""
        value = self.tags.get(tag, b"")
        return value.split(b"\0")[0].decode("utf-8", "replace").strip() if isinstance(value, bytes) else ""


class BrokenStructure(Exception):
    """The structure leads outside the file or in circles; `needed` bytes would have to be there."""

    def __init__(self, what: str, needed: int = 0) -> None:
        super().__init__(what)
        self.needed = needed


def walk(stream: BinaryIO, size: int, base: int = 0) -> Iterator[Directory]:
    """All directories of a TIFF structure, sub-directories after their parents.

    Parameters
    ----------
    stream : seekable.
    size : length of the structure in bytes.
    base : where it begins in the stream.

    Raises
    ------
    BrokenStructure
    """
    reader = _Reader(stream, size, base)
    waiting = [reader.first]
    seen: set[int] = set()
    while waiting:
        offset = waiting.pop(0)
        if offset == 0:
            continue
        if offset in seen:
            raise BrokenStructure("its directories lead in circles")
        seen.add(offset)
        if len(seen) > _MAX_DIRECTORIES:
            raise BrokenStructure("it has too many directories")
        directory, following = reader.directory(offset)
        children = [int(child) for tag in (SUB_DIRECTORIES, EXIF_DIRECTORY) for child in directory.numbers(tag)]
        waiting = [child for child in children if child not in seen] + waiting + [following]
        yield directory


class _Reader:
    def __init__(self, stream: BinaryIO, size: int, base: int) -> None:
        self.stream, self.size, self.base = stream, size, base
        start = self.take(0, 4)
        self.order = "<" if start[:2] == b"II" else ">"
        self.big = struct.unpack(self.order + "H", start[2:4])[0] == 43
        self.first: int = self.unpack("Q" if self.big else "I", 8 if self.big else 4)[0]

    def take(self, offset: int, length: int) -> bytes:
        if offset < 0 or offset + length > self.size:
            raise BrokenStructure("its structure points outside the file", offset + length)
        self.stream.seek(self.base + offset)
        data = self.stream.read(length)
        if len(data) < length:
            raise BrokenStructure("its structure points outside the file", offset + length)
        return data

    def unpack(self, layout: str, offset: int) -> tuple[int, ...]:
        return struct.unpack(self.order + layout, self.take(offset, struct.calcsize("<" + layout)))

    def directory(self, offset: int) -> tuple[Directory, int]:
        head, entry, layout, inline = (8, 20, "HHQ", 8) if self.big else (2, 12, "HHI", 4)
        entries = self.unpack("Q" if self.big else "H", offset)[0]
        if entries > _MAX_ENTRIES:
            raise BrokenStructure("it has a directory of absurd length")
        table = self.take(offset + head, entries * entry)
        directory = Directory()
        for number in range(entries):
            tag, kind, repeat = struct.unpack_from(self.order + layout, table, number * entry)
            if kind not in _FORMATS:
                continue
            self.value(directory, tag, kind, repeat, table[(number + 1) * entry - inline : (number + 1) * entry])
        self.strips(directory)
        after = offset + head + entries * entry
        try:
            following = self.unpack("Q" if self.big else "I", after)[0]
        except BrokenStructure:
            following = 0  # the last directory of some raws ends with the file
        return directory, following

    def value(self, directory: Directory, tag: int, kind: int, repeat: int, inline: bytes) -> None:
        letters = _FORMATS[kind]
        length = struct.calcsize("<" + letters) * repeat
        if length <= len(inline):
            raw = inline[:length]
        else:
            where = struct.unpack(self.order + ("Q" if self.big else "I"), inline)[0]
            directory.ends.append(where + length)
            if repeat > _MAX_VALUES or where + length > self.size:
                return
            raw = self.take(where, length)
        if letters == "s":
            directory.tags[tag] = raw
            return
        numbers = struct.unpack(self.order + letters * repeat, raw) if len(letters) == 2 else None
        if numbers is None:
            directory.tags[tag] = struct.unpack(f"{self.order}{repeat}{letters}", raw)
        else:
            directory.tags[tag] = tuple(
                numerator / denominator if denominator else 0.0
                for numerator, denominator in zip(numbers[::2], numbers[1::2], strict=True)
            )

    def strips(self, directory: Directory) -> None:
        pairs = ((STRIP_OFFSETS, STRIP_COUNTS), (TILE_OFFSETS, TILE_COUNTS), (JPEG_OFFSET, JPEG_LENGTH))
        for offsets, counts in pairs:
            where, length = directory.numbers(offsets), directory.numbers(counts)
            directory.strip_ends.extend(int(a) + int(b) for a, b in zip(where, length, strict=False) if b)


def exif_cards(directories: list[Directory]) -> Cards:
    """What EXIF tells, under the names of FITS cards, for `headers.describe`."""
    cards = Cards()
    for directory in directories:
        camera = directory.text(MODEL)
        if camera:
            cards.add("INSTRUME", camera, "camera")
        for tag, keyword, comment in ((EXPOSURE_TIME, "EXPTIME", "[s] exposure"), (ISO, "GAIN", "ISO speed")):
            numbers = directory.numbers(tag)
            if numbers and numbers[0] > 0:
                cards.add(keyword, numbers[0], comment)
        focal = directory.numbers(FOCAL_LENGTH)
        if focal and focal[0] > 1:
            cards.add("FOCALLEN", focal[0], "[mm] focal length")
    original = next((d for d in directories if d.text(DATE_ORIGINAL)), None)
    if original is not None:
        date, zone = original.text(DATE_ORIGINAL), original.text(OFFSET_ORIGINAL)
        fraction = original.text(SUBSEC_ORIGINAL)
        _add_date(cards, date + (f".{fraction}" if fraction.isdigit() else "") + zone, bool(zone))
    else:
        stamp = next((d.text(DATETIME) for d in directories if d.text(DATETIME)), "")
        _add_date(cards, stamp, False)
    return cards


def _add_date(cards: Cards, text: str, zoned: bool) -> None:
    if not text or text.startswith(("0000", ":")):
        return
    cards.add("DATE-OBS", text)
    if not zoned:
        cards.note("The camera's clock names no time zone; taken as UTC.")
