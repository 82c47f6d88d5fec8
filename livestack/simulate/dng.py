"""A frame as a DNG: what a DSLR's raw looks like to LibRaw.

A CFA DNG (linear raw for a mono camera) after the DNG specification 1.4: uncompressed 16-bit samples, black and white
level, a colour matrix, and an EXIF directory with exposure, sensitivity and time.
"""

from __future__ import annotations

import io
import struct
from datetime import UTC

import numpy as np
import tifffile

from livestack.base.frame import Frame
from livestack.simulate.scenario import Scenario

_CFA_CODE = {"R": 0, "G": 1, "B": 2}
_PHOTOMETRIC_TAG, _LINEAR_RAW = 262, 34892
_EXIF_TAG, _STAND_IN_TAG = 34665, 34666
"""tifffile does not write the first, so its place is kept by the second, which sorts alike."""
# XYZ (D65) to linear sRGB, times 10000: this camera sees sRGB primaries
_COLOUR_MATRIX = (32405, -15371, -4985, -9693, 18760, 416, 556, -2040, 10572)
_BYTE, _ASCII, _SHORT, _LONG, _RATIONAL, _SRATIONAL = 1, 2, 3, 4, 5, 10


def _exif_directory(frame: Frame, offset: int, iso: int) -> bytes:
    """A little-endian EXIF directory that will lie at `offset`: exposure time, ISO, time of the exposure."""
    assert frame.info.date_obs is not None
    assert frame.info.exposure_s is not None
    when = frame.info.date_obs.astimezone(UTC).strftime("%Y:%m:%d %H:%M:%S").encode() + b"\0"
    fraction = f"{frame.info.date_obs.microsecond // 1000:03d}".encode() + b"\0"
    after = offset + 2 + 12 * 4 + 4
    entries = [
        struct.pack("<HHII", 33434, _RATIONAL, 1, after),
        struct.pack("<HHIHH", 34855, _SHORT, 1, iso, 0),
        struct.pack("<HHII", 36867, _ASCII, len(when), after + 8),
        struct.pack("<HHI4s", 37521, _ASCII, len(fraction), fraction),
    ]
    exposure = struct.pack("<II", round(frame.info.exposure_s * 10000), 10000)
    return struct.pack("<H", len(entries)) + b"".join(entries) + struct.pack("<I", 0) + exposure + when


def encode_dng(scenario: Scenario, frame: Frame) -> bytes:
    """The bytes of a DNG of a mono or mosaic frame."""
    assert frame.info.date_obs is not None
    bayer = frame.info.bayer
    black, white = round(scenario.pedestal_adu), round(min(scenario.saturation_adu, 65535))
    model = f"{scenario.camera}\0"
    tags: list[tuple[int, int, int, object, bool]] = [
        (271, _ASCII, 0, "Livestack", True),
        (272, _ASCII, 0, scenario.camera, True),
        (274, _SHORT, 1, 1, True),
        (_STAND_IN_TAG, _LONG, 1, 0, True),
        (50706, _BYTE, 4, bytes((1, 4, 0, 0)), True),
        (50707, _BYTE, 4, bytes((1, 1, 0, 0)), True),
        (50708, _ASCII, len(model), model, True),
        (50714, _LONG, 1, black, True),
        (50717, _LONG, 1, white, True),
    ]
    if bayer:
        matrix = [part for number in _COLOUR_MATRIX for part in (number, 10000)]
        tags += [
            (33421, _SHORT, 2, (2, 2), True),
            (33422, _BYTE, 4, bytes(_CFA_CODE[letter] for letter in bayer), True),
            (50710, _BYTE, 3, bytes((0, 1, 2)), True),
            (50711, _SHORT, 1, 1, True),
            (50721, _SRATIONAL, 9, matrix, True),
            (50728, _RATIONAL, 3, (92, 100, 100, 100, 78, 100), True),
            (50778, _SHORT, 1, 21, True),
        ]
    buffer = io.BytesIO()
    tifffile.imwrite(
        buffer, frame.data, byteorder="<", photometric="cfa" if bayer else "minisblack", metadata=None,
        software="livestack simulate", extratags=tags,
        datetime=frame.info.date_obs.astimezone(UTC).replace(tzinfo=None),
    )  # fmt: skip
    buffer.seek(0)
    with tifffile.TiffFile(buffer) as tiff:
        exif, photometric = (tiff.pages.first.tags[tag] for tag in (_STAND_IN_TAG, _PHOTOMETRIC_TAG))
    content = bytearray(buffer.getvalue())
    if not bayer:  # tifffile wants three samples for linear raw; one is what a mono camera has
        struct.pack_into("<H", content, photometric.valueoffset, _LINEAR_RAW)
    content += b"\0" * (len(content) % 2)  # directories start at even offsets
    struct.pack_into("<H", content, exif.offset, _EXIF_TAG)
    struct.pack_into("<I", content, exif.valueoffset, len(content))
    content += _exif_directory(frame, len(content), int(np.clip(scenario.gain_setting, 1, 65535)))
    return bytes(content)
