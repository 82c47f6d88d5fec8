"""TIFF and BigTIFF, one frame for each page of full size, by tifffile; LZW and JPEG pages by OpenCV.

The structure is walked by our own reader first (`exif.walk`): every strip must lie inside the file. Thumbnails and
pages of another size than the first are no frames. Samples keep their type where a `Frame` has it; wider ones become
float32.

Source: TIFF 6.0 (Adobe 1992); BigTIFF; Siril and ImageJ conventions for stacks.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

import cv2
import numpy as np

from livestack.base.errors import UnreadableFrame
from livestack.base.frame import Frame, FrameInfo
from livestack.formats.cards import Cards, parse_cards
from livestack.formats.exif import DESCRIPTION, BrokenStructure, Directory, exif_cards, walk
from livestack.formats.guards import (
    MAGIC_BYTES,
    broken_off,
    check_pixels,
    check_ratio,
    decoding,
    expect_magic,
    truncated,
)
from livestack.formats.headers import describe
from livestack.formats.raster import to_planes

# tifffile logs each oddity of a damaged file; without a handler Python prints that across the dashboard.
logging.getLogger("tifffile").addHandler(logging.NullHandler())

_BY_TIFFFILE = {1, 8, 32946, 34925, 50000}  # none, deflate (two numbers), lzma, zstd: no further package needed
_REDUCED = 1  # NewSubfileType: thumbnail
_KEPT = {"u1": "u1", "u2": "u2", "i2": "i2", "i4": "i4", "f4": "f4", "i1": "i2", "b1": "u1"}


def _structure(path: Path) -> list[Directory]:
    """All directories, every strip found to be inside the file."""
    with open(path, "rb") as stream:
        expect_magic(path, stream.read(MAGIC_BYTES), ("TIFF",), "TIFF")
        return walk_complete(path, stream)


def walk_complete(path: Path, stream: BinaryIO) -> list[Directory]:
    """The directories of an open TIFF structure whose every part lies inside the file.

    Raises
    ------
    TruncatedFrame, UnreadableFrame
    """
    size = os.fstat(stream.fileno()).st_size
    try:
        directories = list(walk(stream, size))
    except BrokenStructure as error:
        if error.needed:
            raise truncated(path, error.needed, size) from error
        raise UnreadableFrame(f"{path.name} cannot be followed as TIFF: {error}; the file is damaged.") from error
    if not directories:  # the offset of the first one is written last
        raise broken_off(path, size, "without a picture in it")
    needed = max((end for directory in directories for end in directory.ends + directory.strip_ends), default=0)
    if needed > size:
        raise truncated(path, needed, size)
    return directories


@contextmanager
def _opened(path: Path) -> Iterator[tuple[list[Any], list[Directory]]]:
    """Pages that are frames, checked for their size, and the file's directories."""
    import tifffile

    directories = _structure(path)
    with decoding(path, "TIFF"), tifffile.TiffFile(path) as tiff:
        pages: list[Any] = []
        for page in tiff.pages:
            page = page.aspage()
            if page.subfiletype & _REDUCED and len(tiff.pages) > 1:
                continue
            if pages and (page.shape, page.dtype) != (pages[0].shape, pages[0].dtype):
                continue
            pages.append(page)
        if not pages:
            raise UnreadableFrame(f"{path.name} holds thumbnails only.")
        _check_page(path, pages[0])
        yield pages, directories


def _check_page(path: Path, page: Any) -> None:
    check_pixels(path, page.imagewidth, page.imagelength)
    if page.imagedepth != 1 or page.samplesperpixel > 8 or page.dtype is None:
        raise UnreadableFrame(f"{path.name} is a TIFF of a kind that no camera writes (shape {page.shape}).")
    declared = page.imagewidth * page.imagelength * page.samplesperpixel * page.dtype.itemsize
    check_ratio(path, declared, path.stat().st_size)
    if page.tilewidth * page.tilelength > 4 * page.imagewidth * page.imagelength + 4096 * 4096:
        raise UnreadableFrame(f"{path.name} declares tiles far larger than its picture; its header is damaged.")
    if page.dtype.kind not in "uifb":
        raise UnreadableFrame(f"{path.name} holds samples of type {page.dtype}, which we do not use.")


def _planes(page: Any) -> int:
    return 3 if page.samplesperpixel >= 3 or page.photometric == 3 else 1


def _info(page: Any, directories: list[Directory]) -> FrameInfo:
    cards = exif_cards(directories)
    for card in _siril_cards(directories[0].text(DESCRIPTION)):
        cards.add(*card)
    limit = {"u1": 255.0, "u2": 65535.0, "i2": 32767.0}.get(page.dtype.str[1:])
    return describe(cards, page.imagewidth, page.imagelength, _planes(page), page.bitspersample, limit)


def _siril_cards(description: str) -> Cards:
    """Siril keeps the FITS header in the description, one card a line."""
    if not description.startswith("SIMPLE  ="):
        return Cards()
    lines = description.splitlines()[:2000]
    return parse_cards("".join(line[:80].ljust(80) for line in lines).encode("utf-8", "replace"))


def _decode(path: Path, page: Any) -> np.ndarray:
    """(H, W) or (3, H, W) in one of the types of a `Frame`."""
    if page.compression not in _BY_TIFFFILE or page.predictor == 3:
        found, images = cv2.imreadmulti(str(path), page.index, 1, flags=cv2.IMREAD_UNCHANGED)
        if not found or len(images) != 1:
            raise UnreadableFrame(f"{path.name} is compressed in a way that we cannot decode; save it uncompressed.")
        return to_planes(path, images[0], _planes(page))
    image = page.asarray(maxworkers=1)
    kept = _KEPT.get(image.dtype.str[1:], "f4")
    if page.photometric == 3:  # palette
        colours = np.asarray(page.colormap)
        return np.ascontiguousarray((colours[:, np.minimum(image, colours.shape[1] - 1)] >> 8).astype(np.uint8))
    if image.ndim == 3:
        image = image if page.axes.index("S") == 0 else np.moveaxis(image, page.axes.index("S"), 0)
        image = image[:3] if image.shape[0] >= 3 else image[0]
    if page.photometric == 0 and image.dtype.kind in "ub":  # white is zero
        image = ~image
    with np.errstate(over="ignore", invalid="ignore"):
        return np.ascontiguousarray(image.astype(kept, copy=False))


def check(path: Path) -> None:
    """Every strip and tile lies inside the file."""
    _structure(path)


def count(path: Path) -> int:
    """Pages of full size."""
    with _opened(path) as (pages, _):
        return len(pages)


def read_info(path: Path) -> FrameInfo:
    """Size and EXIF of the first page."""
    with _opened(path) as (pages, directories):
        return _info(pages[0], directories)


def _frame(path: Path, pages: list[Any], directories: list[Directory], index: int) -> Frame:
    data = _decode(path, pages[index])
    info = _info(pages[index], directories)
    if data.shape[-2:] != (info.height, info.width):
        raise UnreadableFrame(f"{path.name} declares another size than it holds; the file is damaged.")
    return Frame(data, info, path, index)


def read_frame(path: Path, index: int) -> Frame:
    """Page `index`."""
    with _opened(path) as (pages, directories):
        if not 0 <= index < len(pages):
            raise UnreadableFrame(f"{path.name} has {len(pages)} frame(s), there is none with index {index}.")
        return _frame(path, pages, directories, index)


def read_frames(path: Path) -> Iterator[Frame]:
    """All pages of full size, one at a time."""
    with _opened(path) as (pages, directories):
        for index in range(len(pages)):
            yield _frame(path, pages, directories, index)
