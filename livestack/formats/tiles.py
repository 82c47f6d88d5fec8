"""Tile-compressed FITS pictures (`.fz`), decompressed by astropy behind a gate.

The C decoders trust what they are given: a wrong size inside an HCOMPRESS tile or a block size of zero crashes or hangs
the whole process, which no exception handler can mend. So every number that they will believe is checked here first:
tile sizes, the table of descriptors, and the head of each tile. Then astropy sees a header with nothing in it but the
structure, so that bad cards of the camera cannot stop it.

Source: FITS standard 4.0 (doi:10.1051/0004-6361/201015362), section 10.1 and 10.4.
"""

from __future__ import annotations

import io
import re
import struct
from collections.abc import Iterable, Iterator
from math import prod
from pathlib import Path

import numpy as np

from livestack.base.errors import UnreadableFrame
from livestack.formats.cards import BLOCK, Cards
from livestack.formats.guards import decoding

_STRUCTURE = ("XTENSION", "BITPIX", "NAXIS", "PCOUNT", "GCOUNT", "TFIELDS", "TTYPE", "TFORM", "Z")
_FORM = re.compile(r"\s*(\d{0,9})([LXBIJKAEDCMPQ])")
_ITEM_BYTES = {"L": 1, "B": 1, "A": 1, "I": 2, "J": 4, "K": 8, "E": 4, "D": 8, "C": 8, "M": 16, "P": 8, "Q": 16}
_CODECS = ("RICE_1", "RICE_ONE", "GZIP_1", "GZIP_2", "HCOMPRESS_1", "PLIO_1", "NOCOMPRESS")
_DATA_COLUMNS = ("COMPRESSED_DATA", "GZIP_COMPRESSED_DATA", "UNCOMPRESSED_DATA")


def unpack(
    path: Path, cards: Cards, axes: tuple[int, ...], data: bytes, planes: Iterable[int] | None
) -> Iterator[np.ndarray]:
    """The stored samples, unscaled, flat, one array for each plane.

    Parameters
    ----------
    cards : header of the binary table.
    axes : ZNAXIS1, ZNAXIS2 ...
    data : table and heap.
    planes : which planes of a cube; None for everything at once.

    Raises
    ------
    UnreadableFrame
    """
    from astropy.io import fits

    with decoding(path, "tile-compressed FITS"):
        _check(path, cards, axes, data)
        clean = fits.Header()
        for keyword, value, _ in cards:
            if keyword.startswith(_STRUCTURE) and len(keyword) <= 8:
                clean[keyword] = value
        bare = fits.PrimaryHDU().header.tostring() + clean.tostring()
        whole = io.BytesIO(bare.encode("ascii") + data + b"\0" * (-len(data) % BLOCK))
        with fits.open(whole, do_not_scale_image_data=True, memmap=False, ignore_blank=True) as units:
            section = units[1].section
            if planes is None:
                yield np.ascontiguousarray(section[:]).reshape(-1)
                return
            for plane in planes:
                yield np.ascontiguousarray(section[plane]).reshape(-1)


def _check(path: Path, cards: Cards, axes: tuple[int, ...], data: bytes) -> None:
    """Hold everything that the decoders believe against the picture and the data."""
    codec = (cards.text("ZCMPTYPE") or "").upper()
    if codec not in _CODECS:
        raise UnreadableFrame(f"{path.name} is compressed with {codec or 'nothing we know'}; save it as plain FITS.")
    tile = [cards.whole(f"ZTILE{axis + 1}") or (axes[0] if axis == 0 else 1) for axis in range(len(axes))]
    if any(not 1 <= length <= 2 * whole + 64 for length, whole in zip(tile, axes, strict=True)):
        raise UnreadableFrame(f"{path.name} declares tiles of {tile} in a picture of {list(axes)}; it is damaged.")
    counts = [-(-whole // length) for length, whole in zip(tile, axes, strict=True)]
    rows, row_bytes = cards.whole("NAXIS2"), cards.whole("NAXIS1") or 0
    if rows != prod(counts):
        raise UnreadableFrame(f"{path.name} has {rows} tiles instead of {prod(counts)}; it is damaged.")
    for number in range(1, 10):
        name, value = cards.text(f"ZNAME{number}"), cards.whole(f"ZVAL{number}")
        allowed = {"BLOCKSIZE": range(1, 4097), "BYTEPIX": (1, 2, 4, 8)}.get((name or "").upper())
        if allowed is not None and value not in allowed:
            raise UnreadableFrame(f"{path.name} declares {name} = {value} for its compression; it is damaged.")
    heap = cards.whole("THEAP") or rows * row_bytes
    for name, offset, wide in _columns(path, cards, row_bytes):
        table = np.frombuffer(data, np.uint8, rows * row_bytes).reshape(rows, row_bytes)
        pairs = np.ascontiguousarray(table[:, offset : offset + (16 if wide else 8)]).view(">i8" if wide else ">i4")
        lengths, starts = pairs[:, 0].astype(np.int64), pairs[:, 1].astype(np.int64)
        if (lengths < 0).any() or (starts < 0).any() or (starts > len(data)).any() or (lengths > len(data)).any():
            raise UnreadableFrame(f"{path.name} has tiles outside its data; it is damaged.")
        unit = 2 if codec == "PLIO_1" and name == "COMPRESSED_DATA" else 1
        for row in range(rows):
            start, length = heap + int(starts[row]), int(lengths[row]) * unit
            shape = _shape_of(row, tile, counts, axes)
            if start + length > len(data) or (
                length and name != "UNCOMPRESSED_DATA" and not _sane(name, codec, data, start, length, shape)
            ):
                raise UnreadableFrame(f"{path.name} is damaged in tile {row + 1} of {rows}.")


def _columns(path: Path, cards: Cards, row_bytes: int) -> list[tuple[str, int, bool]]:
    """(name, offset in the row, 64-bit descriptors) of the columns that hold tiles."""
    found, offset = [], 0
    for number in range(1, min(cards.whole("TFIELDS") or 0, 999) + 1):
        form = _FORM.match(cards.text(f"TFORM{number}") or "")
        if form is None:
            raise UnreadableFrame(f"{path.name} has no valid TFORM{number}; it is damaged.")
        repeat = int(form.group(1) or 1)
        letter = form.group(2)
        name = (cards.text(f"TTYPE{number}") or "").upper()
        if name in _DATA_COLUMNS:
            if letter not in "PQ" or repeat != 1:
                raise UnreadableFrame(f"{path.name} keeps {name} in a column that is none for tiles; it is damaged.")
            found.append((name, offset, letter == "Q"))
        offset += -(-repeat // 8) if letter == "X" else repeat * _ITEM_BYTES[letter]
    if offset != row_bytes or not found:
        raise UnreadableFrame(f"{path.name} has columns that do not fill its rows of {row_bytes} bytes; it is damaged.")
    return found


def _shape_of(row: int, tile: list[int], counts: list[int], axes: tuple[int, ...]) -> list[int]:
    """Size of tile `row` along each axis; the last ones are cut at the picture's edge."""
    shape = []
    for length, count, whole in zip(tile, counts, axes, strict=True):
        row, position = divmod(row, count)
        shape.append(min(length, whole - position * length))
    return shape


def _sane(name: str, codec: str, data: bytes, start: int, length: int, shape: list[int]) -> bool:
    """Whether the head of a tile agrees with the tile's size."""
    samples = prod(shape)
    if name == "GZIP_COMPRESSED_DATA" or codec.startswith("GZIP"):
        if length < 18:
            return False
        return bool(struct.unpack_from("<I", data, start + length - 4)[0] <= 8 * samples)
    if codec == "HCOMPRESS_1":
        if length < 25:
            return False
        magic, rows, columns, _, _, *planes = struct.unpack_from(">2siiiq3B", data, start)
        sides = [side for side in shape if side > 1]
        long_enough = length >= 25 and max(planes) <= 40
        return magic == b"\xdd\x99" and rows * columns == samples and set(sides) <= {rows, columns} and long_enough
    if codec == "PLIO_1":
        if length < 14:
            return False
        words = struct.unpack_from(">7h", data, start)
        declared = words[2] if words[2] > 0 else (words[4] << 15) + words[3]
        return 0 <= declared * 2 <= length
    return True
