"""XISF, the format of PixInsight, which N.I.N.A. also writes: monolithic files, first image.

The XML header is read here, its declared sizes are held against the file and the limits, and samples are taken from
where it says. Plain and zlib-compressed files need nothing else; LZ4 and Zstandard need the codecs that come with
`pip install livestack[xisf]`. FITS keywords in the header are understood as in a FITS file.

Source: XISF 1.0 specification (Pleiades Astrophoto, 2017), sections 9.5, 10.6 and 11.5.
"""

from __future__ import annotations

import os
import re
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, cast
from xml.etree import ElementTree

import numpy as np

from livestack.base.errors import UnreadableFrame
from livestack.base.frame import Frame, FrameInfo
from livestack.formats.cards import Cards, read_card
from livestack.formats.guards import (
    MAGIC_BYTES,
    broken_off,
    check_pixels,
    check_ratio,
    decoding,
    expect_magic,
    truncated,
)
from livestack.formats.headers import adc_bits, correct_saturation, describe

_MAX_HEADER = 64 << 20
_TYPES = {"UInt8": "u1", "UInt16": "u2", "UInt32": "u4", "UInt64": "u8", "Float32": "f4", "Float64": "f8"}
_KEPT = {"u1": "u1", "u2": "u2"}


@dataclass(frozen=True)
class Picture:
    """The first image element: geometry, sample type, and where its block lies."""

    width: int
    height: int
    channels: int
    stored: np.dtype
    interleaved: bool
    position: int
    length: int
    codec: str
    item_bytes: int
    blocks: tuple[tuple[int, int], ...]
    """(compressed, uncompressed) lengths of the parts of the block."""
    upper: float
    cards: Cards

    @property
    def planes(self) -> int:
        """1 or 3; further channels (alpha) are dropped."""
        return 3 if self.channels >= 3 else 1

    @property
    def data_bytes(self) -> int:
        """Length of the samples after unpacking."""
        return self.width * self.height * self.channels * self.stored.itemsize


def _read_picture(path: Path, stream: BinaryIO) -> Picture:
    """Parse the header and hold it against the file.

    Raises
    ------
    TruncatedFrame, UnreadableFrame
    """
    size = os.fstat(stream.fileno()).st_size
    start = stream.read(MAGIC_BYTES)
    expect_magic(path, start, ("XISF",), "XISF")
    length = int.from_bytes(start[8:12], "little")
    if 16 + length > size or len(start) < 16:
        raise truncated(path, 16 + length, size)
    if length == 0:
        raise broken_off(path, size, "without a header")
    if length > _MAX_HEADER:
        raise UnreadableFrame(f"{path.name} declares a header of {length} bytes; it is damaged.")
    text = stream.read(length).rstrip(b"\0")
    if b"<!DOCTYPE" in text or b"<!ENTITY" in text:
        raise UnreadableFrame(f"{path.name} has a document type in its XISF header, which the format does not have.")
    with decoding(path, "XISF"):
        root = ElementTree.fromstring(text)
        image = next((element for element in root.iter() if element.tag.rpartition("}")[2] == "Image"), None)
        if image is None:
            raise UnreadableFrame(f"{path.name} holds no image.")
        picture = _parse_image(path, image)
    check_pixels(path, picture.width, picture.height, picture.planes)
    if picture.position + picture.length > size:
        raise truncated(path, picture.position + picture.length, size)
    check_ratio(path, picture.data_bytes, picture.length)
    if sum(unpacked for _, unpacked in picture.blocks) != picture.data_bytes:
        raise UnreadableFrame(f"{path.name} contradicts itself on the length of its pixels; the file is damaged.")
    if sum(packed for packed, _ in picture.blocks) > picture.length or min(min(pair) for pair in picture.blocks) < 0:
        raise UnreadableFrame(f"{path.name} contradicts itself on the length of its blocks; the file is damaged.")
    return picture


def _parse_image(path: Path, image: ElementTree.Element) -> Picture:
    geometry = [int(part) for part in image.attrib["geometry"].split(":")]
    if len(geometry) != 3:
        raise UnreadableFrame(f"{path.name} holds an image of {len(geometry) - 1} dimensions; expected two.")
    width, height, channels = geometry
    sample = image.attrib.get("sampleFormat", "")
    if sample not in _TYPES:
        raise UnreadableFrame(f"{path.name} holds samples of type {sample!r}; expected one of {', '.join(_TYPES)}.")
    if channels > 16 or channels < 1:
        raise UnreadableFrame(f"{path.name} holds {channels} channels; a picture has 1 to 4.")
    order = ">" if image.attrib.get("byteOrder") == "big" else "<"
    stored = np.dtype(order + _TYPES[sample])
    location = image.attrib["location"].split(":")
    if location[0] != "attachment":
        raise UnreadableFrame(f"{path.name} keeps its pixels {location[0]}; only attached pixels are read.")
    position, length = int(location[1]), int(location[2])
    if position < 0 or length < 0:
        raise UnreadableFrame(f"{path.name} places its pixels before its beginning; the file is damaged.")
    blocks: tuple[tuple[int, int], ...]
    codec, item, blocks = "", 1, ((length, width * height * channels * stored.itemsize),)
    if "compression" in image.attrib:
        parts = image.attrib["compression"].split(":")
        codec, blocks = parts[0], ((length, int(parts[1])),)
        item = int(parts[2]) if len(parts) > 2 else stored.itemsize
        if "subblocks" in image.attrib:
            pairs = [pair.split(",") for pair in image.attrib["subblocks"].split(":")]
            blocks = tuple((int(packed), int(unpacked)) for packed, unpacked in pairs)
    bounds = re.split(":", image.attrib.get("bounds", "0:1"))
    cards = _cards(image)
    interleaved = image.attrib.get("pixelStorage", "Planar") == "Normal" and channels > 1
    upper = float(bounds[-1])
    return Picture(width, height, channels, stored, interleaved, position, length, codec, item, blocks, upper, cards)


def _cards(image: ElementTree.Element) -> Cards:
    """FITS keywords of the image, read by the parser of FITS cards; a colour filter array as BAYERPAT."""
    cards = Cards()
    cfa = None
    for element in image.iter():
        kind = element.tag.rpartition("}")[2]
        if kind == "FITSKeyword":
            name, value = element.attrib.get("name", "")[:8].upper(), element.attrib.get("value", "").strip()
            comment = element.attrib.get("comment", "")
            read_card(f"{name:8}= {value} / {comment}".replace("\n", " "), cards)
        elif kind == "ColorFilterArray" and element.attrib.get("width") == element.attrib.get("height") == "2":
            cfa = element.attrib.get("pattern")
    if cfa:
        cards.add("BAYERPAT", cfa, "from ColorFilterArray")
    if image.attrib.get("imageType"):
        cards.add("IMAGETYP", image.attrib["imageType"])
    return cards


def _unpack(path: Path, codec: str, packed: bytes, unpacked_bytes: int) -> bytes:
    """Decompress one block into exactly `unpacked_bytes` bytes."""
    name = codec.removesuffix("+sh")
    if name == "zlib":
        unpacker = zlib.decompressobj()
        data = unpacker.decompress(packed, unpacked_bytes + 1)
    else:
        data = _extra_codec(path, name)(packed, unpacked_bytes)
    if len(data) != unpacked_bytes:
        raise UnreadableFrame(f"{path.name} unpacks to another length than it declares; the file is damaged.")
    return data


def _extra_codec(path: Path, name: str) -> Callable[[bytes, int], bytes]:
    """(packed, unpacked length) -> unpacked, from a package of the extra `xisf`."""
    try:
        if name in ("lz4", "lz4hc"):
            from lz4 import block  # type: ignore[import-untyped]

            return lambda packed, length: cast(bytes, block.decompress(packed, uncompressed_size=length))
        if name == "zstd":
            import zstandard

            return lambda packed, length: zstandard.ZstdDecompressor().stream_reader(packed).read(length)
    except ImportError as error:
        raise UnreadableFrame(
            f"{path.name} is compressed with {name}, which needs further packages: pip install livestack[xisf]."
        ) from error
    raise UnreadableFrame(f"{path.name} is compressed with {name!r}; we read zlib, lz4, lz4hc and zstd.")


def _decode(path: Path, stream: BinaryIO, picture: Picture) -> np.ndarray:
    """(H, W) or (3, H, W) in one of the types of a `Frame`."""
    stream.seek(picture.position)
    packed = stream.read(picture.length)
    if picture.codec:
        with decoding(path, "XISF"):
            parts, start = [], 0
            for length, unpacked in picture.blocks:
                parts.append(_unpack(path, picture.codec, packed[start : start + length], unpacked))
                start += length
            packed = b"".join(parts)
            if picture.codec.endswith("+sh"):
                packed = _unshuffle(packed, picture.item_bytes)
    if len(packed) < picture.data_bytes:
        raise UnreadableFrame(f"{path.name} holds fewer pixels than it declares; the file is damaged.")
    samples = np.frombuffer(packed, picture.stored, picture.width * picture.height * picture.channels)
    if picture.interleaved:
        image = samples.reshape(picture.height, picture.width, picture.channels).transpose(2, 0, 1)
    else:
        image = samples.reshape(picture.channels, picture.height, picture.width)
    image = image[:3] if picture.planes == 3 else image[0]
    with np.errstate(over="ignore", invalid="ignore"):
        return np.array(image, dtype=_KEPT.get(picture.stored.str[1:], "f4"), order="C")


def _unshuffle(data: bytes, item: int) -> bytes:
    """Undo byte shuffling: all first bytes, all second bytes ... back to items."""
    if item < 2:
        return data
    whole = len(data) // item * item
    return np.frombuffer(data[:whole], np.uint8).reshape(item, -1).T.tobytes() + data[whole:]


def _info(picture: Picture) -> FrameInfo:
    kind = picture.stored.str[1:]
    limit = {"u1": 255.0, "u2": 65535.0, "u4": float(2**32 - 1), "u8": float(2**64 - 1)}.get(kind, picture.upper)
    bits = 8 * picture.stored.itemsize
    return describe(picture.cards, picture.width, picture.height, picture.planes, bits, limit)


def check(path: Path) -> None:
    """The image block lies inside the file."""
    with open(path, "rb") as stream:
        _read_picture(path, stream)


def count(path: Path) -> int:
    """Always one: further images of a file are masks and maps."""
    check(path)
    return 1


def read_info(path: Path) -> FrameInfo:
    """Header only."""
    with open(path, "rb") as stream:
        return _info(_read_picture(path, stream))


def read_frame(path: Path, index: int) -> Frame:
    """The first image."""
    if index != 0:
        raise UnreadableFrame(f"{path.name} has 1 frame(s), there is none with index {index}.")
    with open(path, "rb") as stream:
        picture = _read_picture(path, stream)
        data = _decode(path, stream, picture)
    return Frame(data, correct_saturation(_info(picture), data, adc_bits(picture.cards)), path, 0)


def read_frames(path: Path) -> Iterator[Frame]:
    """The one frame."""
    yield read_frame(path, 0)
