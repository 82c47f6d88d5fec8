"""PNG and JPEG, decoded by OpenCV.

The whole file is read at once, its own structure is walked first (chunks up to IEND, markers up to EOI) so that a half
written file and an absurd size are known before the decoder starts, then the bytes are decoded without turning the
picture by its EXIF orientation: pixels stay where the sensor had them. Alpha is dropped, colour becomes planes.

Sources: PNG specification (W3C, third edition), JPEG ITU-T T.81, EXIF 2.32.
"""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from livestack.base.errors import UnreadableFrame
from livestack.base.frame import Frame, FrameInfo
from livestack.formats.cards import Cards
from livestack.formats.exif import BrokenStructure, exif_cards, walk
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

# OpenCV reports each damaged file on stderr as well, across the dashboard; our own sentence is enough.
cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)

_MAX_FILE_BYTES = 4 << 30
_NO_LENGTH = {0x01, *range(0xD0, 0xD9)}
_START_OF_FRAME = set(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}


@dataclass(frozen=True)
class Structure:
    """What the file says before it is decoded."""

    width: int
    height: int
    planes: int
    bits: int
    exif: bytes


def _load(path: Path) -> tuple[bytes, Structure]:
    """The file's bytes and its structure, checked to be complete."""
    named = "PNG" if path.suffix.lower() == ".png" else "JPEG"
    with open(path, "rb") as stream:
        start = stream.read(MAGIC_BYTES)
        found = expect_magic(path, start, (named,), named)
        data = start + stream.read(_MAX_FILE_BYTES)
    structure = (_walk_png if found == "PNG" else _walk_jpeg)(path, data)
    check_pixels(path, structure.width, structure.height, structure.planes)
    check_ratio(path, structure.width * structure.height * structure.planes * structure.bits // 8, len(data))
    return data, structure


def _walk_png(path: Path, data: bytes) -> Structure:
    position, structure, exif = 8, None, b""
    view = memoryview(data)
    while position + 12 <= len(data):
        length, kind = struct.unpack_from(">I4s", data, position)
        end = position + 12 + length
        if kind == b"IEND":
            if structure is None:
                raise UnreadableFrame(f"{path.name} ends before its picture begins; the file is damaged.")
            return Structure(structure.width, structure.height, structure.planes, structure.bits, exif)
        if end > len(data):
            raise truncated(path, end + 12, len(data))
        if zlib.crc32(view[position + 4 : end - 4]) != struct.unpack_from(">I", data, end - 4)[0]:
            raise UnreadableFrame(f"{path.name} fails its own checksum at byte {position}; the file is damaged.")
        body = data[position + 8 : position + 8 + min(length, 1 << 16)]
        if kind == b"IHDR" and length >= 13:
            width, height, bits, colour = struct.unpack_from(">IIBB", body)
            structure = Structure(width, height, 3 if colour in (2, 3, 6) else 1, max(bits, 8), b"")
        elif kind == b"eXIf":
            exif = body
        elif structure is None:
            raise UnreadableFrame(f"{path.name} does not begin with a PNG header; the file is damaged.")
        position = end
    raise broken_off(path, len(data), "without its end mark")


def _walk_jpeg(path: Path, data: bytes) -> Structure:
    position, size, exif = 2, None, b""
    while position + 4 <= len(data):
        if data[position] != 0xFF:
            raise UnreadableFrame(f"{path.name} has no JPEG marker at byte {position}; the file is damaged.")
        marker = data[position + 1]
        if marker == 0xFF or marker in _NO_LENGTH:
            position += 1 if marker == 0xFF else 2
            continue
        length = struct.unpack_from(">H", data, position + 2)[0]
        body = data[position + 4 : position + 2 + length]
        if marker in _START_OF_FRAME and len(body) >= 6:
            bits, height, width, components = struct.unpack_from(">BHHB", body)
            size = (width, height, 1 if components == 1 else 3, bits)
        elif marker == 0xE1 and body.startswith(b"Exif\0\0"):
            exif = body[6:]
        elif marker == 0xDA:
            break
        elif marker == 0xD9:
            raise UnreadableFrame(f"{path.name} ends before its picture begins; the file is damaged.")
        position += 2 + length
    if data.find(b"\xff\xd9", position) < 0:
        raise broken_off(path, len(data), "without its end mark")
    if size is None:
        raise UnreadableFrame(f"{path.name} never tells its size; the file is damaged.")
    return Structure(*size, exif)


def _info(structure: Structure) -> FrameInfo:
    cards = Cards()
    if len(structure.exif) > 8:
        try:
            cards = exif_cards(list(walk(io.BytesIO(structure.exif), len(structure.exif))))
        except BrokenStructure as error:
            cards.note(f"The EXIF block is damaged ({error}); ignored.")
    limit = float(2**structure.bits - 1)
    return describe(cards, structure.width, structure.height, structure.planes, structure.bits, limit)


def check(path: Path) -> None:
    """Walk the file's chunks or markers to the end mark."""
    _load(path)


def count(path: Path) -> int:
    """Always one."""
    _load(path)
    return 1


def read_info(path: Path) -> FrameInfo:
    """Size and EXIF without decoding."""
    return _info(_load(path)[1])


def read_frame(path: Path, index: int) -> Frame:
    """Decode the picture."""
    if index != 0:
        raise UnreadableFrame(f"{path.name} has 1 frame(s), there is none with index {index}.")
    data, structure = _load(path)
    with decoding(path, "a picture"):
        image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED | cv2.IMREAD_IGNORE_ORIENTATION)
    if image is None:
        raise UnreadableFrame(f"{path.name} cannot be decoded; the file is damaged.")
    planes = to_planes(path, image, structure.planes)
    if planes.shape[-2:] != (structure.height, structure.width):
        raise UnreadableFrame(f"{path.name} declares another size than it holds; the file is damaged.")
    return Frame(planes, _info(structure), path, 0)


def to_planes(path: Path, image: np.ndarray, planes: int) -> np.ndarray:
    """OpenCV's (H, W), (H, W, 1 to 4) in B, G, R order to (H, W) or (3, H, W) in R, G, B order."""
    if image.dtype not in (np.uint8, np.uint16, np.float32):
        raise UnreadableFrame(f"{path.name} holds samples of type {image.dtype}, which we do not use.")
    if image.ndim == 2:
        return np.ascontiguousarray(image) if planes == 1 else np.ascontiguousarray(np.stack([image] * 3))
    if planes == 1 or image.shape[2] < 3:
        return np.ascontiguousarray(image[:, :, 0])
    return np.ascontiguousarray(image[:, :, 2::-1].transpose(2, 0, 1))


def read_frames(path: Path) -> Iterator[Frame]:
    """The one frame."""
    yield read_frame(path, 0)
