"""Damaged files: whatever is cut off or flipped, there is a frame or one sentence, soon, in small memory."""

from __future__ import annotations

import gzip
import io
import struct
import sys
import zlib
from collections.abc import Callable
from functools import cache
from pathlib import Path

import cv2
import numpy as np
import pytest
import tifffile
from astropy.io import fits
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from livestack.base.errors import FrameError
from livestack.formats import check_complete, count_frames, read_frame, read_frames, read_info

H, W = 22, 36
RNG = np.random.default_rng(2)
COUNTS = RNG.integers(0, 65536, (H, W), dtype=np.uint16)
RGB = RNG.integers(0, 256, (H, W, 3), dtype=np.uint8)
MEMORY = 400 << 20


def fits_bytes(*units: fits.PrimaryHDU) -> bytes:
    buffer = io.BytesIO()
    fits.HDUList(list(units)).writeto(buffer)
    return buffer.getvalue()


def plain() -> bytes:
    header = fits.Header({"BAYERPAT": "RGGB", "EXPTIME": 3.5, "DATE-OBS": "2024-01-02T03:04:05", "BITDEPTH": 14})
    return fits_bytes(fits.PrimaryHDU(COUNTS, header))


def tiles(compression: str) -> bytes:
    data = COUNTS >> 8 if compression == "PLIO_1" else COUNTS
    data = data.astype(np.int16) if compression == "PLIO_1" else data
    return fits_bytes(fits.PrimaryHDU(), fits.CompImageHDU(data, compression_type=compression))


def tiff(image: np.ndarray, **options: object) -> bytes:
    buffer = io.BytesIO()
    tifffile.imwrite(buffer, image, **options)  # type: ignore[arg-type]
    return buffer.getvalue()


def ser() -> bytes:
    head = struct.pack("<14s7i40s40s40s2q", b"LUCAM-RECORDER", 0, 8, 0, W, H, 16, 2, b"o", b"i", b"t", 0, 638 * 10**15)
    return head + COUNTS.tobytes() * 2 + struct.pack("<2q", 638 * 10**15, 638 * 10**15 + 9)


def xisf() -> bytes:
    block = zlib.compress(COUNTS.tobytes())
    image = (
        f'<Image geometry="{W}:{H}:1" sampleFormat="UInt16" compression="zlib:{COUNTS.nbytes}" '
        f'location="attachment:1024:{len(block)}"><FITSKeyword name="EXPTIME" value="3.5" comment=""/></Image>'
    )
    header = f'<xisf version="1.0">{image}</xisf>'.encode()
    return (b"XISF0100" + len(header).to_bytes(4, "little") + bytes(4) + header).ljust(1024, b"\0") + block


def dng() -> bytes:
    tags = [
        (33421, "H", 2, (2, 2), True),
        (33422, "B", 4, bytes([0, 1, 1, 2]), True),
        (50706, "B", 4, bytes([1, 4, 0, 0]), True),
        (50721, "2i", 9, [1, 1, 0, 1, 0, 1, 0, 1, 1, 1, 0, 1, 0, 1, 0, 1, 1, 1], True),
    ]
    return tiff(COUNTS, photometric=32803, metadata=None, extratags=tags)


KINDS: dict[str, Callable[[], bytes]] = {
    "a.fits": plain,
    "b.fits": lambda: fits_bytes(fits.PrimaryHDU(np.stack([COUNTS] * 4))),
    "c.fits.gz": lambda: gzip.compress(plain()),
    "rice.fits.fz": lambda: tiles("RICE_1"),
    "gzip.fits.fz": lambda: tiles("GZIP_2"),
    "hcompress.fits.fz": lambda: tiles("HCOMPRESS_1"),
    "plio.fits.fz": lambda: tiles("PLIO_1"),
    "a.png": lambda: cv2.imencode(".png", COUNTS)[1].tobytes(),
    "a.jpg": lambda: cv2.imencode(".jpg", RGB)[1].tobytes(),
    "a.tif": lambda: tiff(COUNTS),
    "deflate.tif": lambda: tiff(RGB, photometric="rgb", compression="zlib", predictor=True),
    "lzw.tif": lambda: cv2.imencode(".tif", COUNTS, [cv2.IMWRITE_TIFF_COMPRESSION, 5])[1].tobytes(),
    "pages.tif": lambda: tiff(np.stack([COUNTS] * 3), photometric="minisblack"),
    "a.ser": ser,
    "a.xisf": xisf,
    "a.dng": dng,
}


@cache
def whole(name: str) -> bytes:
    return KINDS[name]()


def look_at(path: Path) -> list[str]:
    """What became of a file through every function of the door."""
    fates = []
    for look in (
        check_complete,
        count_frames,
        read_info,
        read_frame,
        lambda path: [f for f, _ in zip(frames(path), "12", strict=False)],
    ):
        try:
            look(path)
            fates.append("fine")
        except FrameError as error:
            sentence = str(error)
            assert sentence.startswith(path.name), sentence
            assert sentence.endswith("."), sentence
            assert "\n" not in sentence
            assert len(sentence) < 400
            fates.append(error.reason)
    return fates


def frames(path: Path):  # type: ignore[no-untyped-def]
    for frame in read_frames(path):
        assert frame.data.flags.c_contiguous
        yield frame


def peak_bytes() -> int:
    resource = pytest.importorskip("resource", reason="no resource usage on this system")
    unit = 1 if sys.platform == "darwin" else 1024
    return int(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss) * unit


@pytest.mark.parametrize("name", KINDS)
def test_undamaged_files_are_fine(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    path.write_bytes(whole(name))
    assert look_at(path) == ["fine"] * 5


@pytest.mark.parametrize("name", KINDS)
def test_cut_anywhere(tmp_path: Path, name: str) -> None:
    """At sixty places: one sentence; and what the check takes for whole has every pixel (padding may be missing)."""
    path = tmp_path / name
    content = whole(name)
    path.write_bytes(content)
    pixels = read_frame(path).data
    marks = {*range(0, len(content) - 1, max(1, len(content) // 50)), 1, 2, 15, 16, 17, len(content) - 1}
    refused = 0
    for mark in sorted(marks):
        path.write_bytes(content[:mark])
        if look_at(path)[0] == "fine":
            np.testing.assert_array_equal(read_frame(path).data, pixels)
        else:
            refused += 1
    assert refused > 0.6 * len(marks)


@pytest.mark.parametrize("name", KINDS)
def test_bytes_flipped(tmp_path: Path, name: str) -> None:
    content = whole(name)
    path = tmp_path / name
    before = peak_bytes()

    @settings(max_examples=60, deadline=2000, derandomize=True, database=None, suppress_health_check=list(HealthCheck))
    @given(
        places=st.lists(
            st.tuples(
                st.one_of(st.integers(0, min(len(content), 700) - 1), st.integers(0, len(content) - 1)),
                st.sampled_from([0, 1, 0x20, 0x39, 0x7F, 0x80, 0xFF]),
            ),
            min_size=1,
            max_size=4,
        ),
        keep=st.one_of(st.just(len(content)), st.integers(0, len(content))),
    )
    def damage(places: list[tuple[int, int]], keep: int) -> None:
        damaged = bytearray(content)
        for place, value in places:
            damaged[place] = value
        path.write_bytes(damaged[:keep])
        look_at(path)

    damage()
    assert peak_bytes() - before < MEMORY
