"""Camera raws: a small DNG written by the book with tifffile, opened by LibRaw."""

from __future__ import annotations

import struct
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest
import tifffile

from livestack.base.errors import TruncatedFrame, UnreadableFrame
from livestack.formats import check_complete, count_frames, read_frame, read_frames, read_info

H, W = 62, 96
RNG = np.random.default_rng(4)
COUNTS = RNG.integers(500, 15000, (H, W), dtype=np.uint16)
COLOURS = {"R": 0, "G": 1, "B": 2}


def write_dng(path: Path, pattern: str = "RGGB", repeat: tuple[int, int] = (2, 2), black: int = 512) -> Path:
    cfa = bytes(COLOURS[letter] for letter in pattern)
    unity = [(1, 1), (0, 1), (0, 1), (0, 1), (1, 1), (0, 1), (0, 1), (0, 1), (1, 1)]
    matrix = [number for pair in unity for number in pair]
    tags = [
        (271, "s", 0, "Maker", True),
        (272, "s", 0, "Model 1", True),
        (306, "s", 0, "2024:05:06 07:08:09", True),
        (33421, "H", 2, repeat, True),
        (33422, "B", len(cfa), cfa, True),
        (33434, "2I", 1, (5, 2), True),
        (34855, "H", 1, 1600, True),
        (50706, "B", 4, bytes([1, 4, 0, 0]), True),
        (50707, "B", 4, bytes([1, 1, 0, 0]), True),
        (50708, "s", 0, "Model 1", True),
        (50710, "B", 3, bytes([0, 1, 2]), True),
        (50711, "H", 1, 1, True),
        (50714, "H", 1, black, True),
        (50717, "H", 1, 16000, True),
        (50721, "2i", 9, matrix, True),
        (50728, "2I", 3, [1, 1, 1, 1, 1, 1], True),
        (50778, "H", 1, 21, True),
    ]
    tifffile.imwrite(path, COUNTS, photometric=32803, metadata=None, extratags=tags, software=None)
    return path


@pytest.mark.parametrize("pattern", ["RGGB", "BGGR", "GRBG", "GBRG"])
def test_dng_is_the_untouched_mosaic(tmp_path: Path, pattern: str) -> None:
    path = write_dng(tmp_path / "a.dng", pattern)
    check_complete(path)
    frame = read_frame(path)
    assert frame.data.dtype == np.uint16
    assert frame.data.flags.c_contiguous
    np.testing.assert_array_equal(frame.data, COUNTS)
    info = frame.info
    assert (info.bayer, info.planes, info.pedestal_adu, info.saturation_adu) == (pattern, 1, 512, 16000)
    assert (info.exposure_s, info.gain, info.camera) == (2.5, 1600, "Model 1")
    assert info.date_obs == datetime(2024, 5, 6, 7, 8, 9, tzinfo=UTC)
    assert read_info(path) == info
    assert count_frames(path) == len(list(read_frames(path))) == 1


def test_the_data_outlive_the_decoder(tmp_path: Path) -> None:
    data = read_frame(write_dng(tmp_path / "a.dng")).data
    assert data.flags.owndata
    data += 1
    np.testing.assert_array_equal(data, COUNTS + 1)


def test_another_mosaic_is_refused_with_its_name(tmp_path: Path) -> None:
    path = write_dng(tmp_path / "a.dng", "GGRGGBGGBGGRBRGRBGGGBGGRGGRGGBRBGBRG", (6, 6))
    with pytest.raises(UnreadableFrame, match=r"no 2 x 2 Bayer mosaic \(X-Trans"):
        read_frame(path)


def test_truncated_dng_tells_both_lengths(tmp_path: Path) -> None:
    path = write_dng(tmp_path / "a.dng")
    whole = path.read_bytes()
    path.write_bytes(whole[:-1000])
    for look in (check_complete, read_frame, read_info):
        with pytest.raises(TruncatedFrame, match=f"holds {len(whole) - 1000}"):
            look(path)


def test_a_raw_that_libraw_does_not_know(tmp_path: Path) -> None:
    path = tmp_path / "a.rw2"
    path.write_bytes(b"IIU\0" + bytes(range(256)) * 20)
    for look in (check_complete, read_info, read_frame):
        with pytest.raises(UnreadableFrame, match="cannot be decoded as a camera raw"):
            look(path)


def test_boxes_of_a_cr3_are_added_up(tmp_path: Path) -> None:
    path = tmp_path / "a.cr3"
    start = struct.pack(">I8s", 24, b"ftypcrx ") + bytes(12)
    path.write_bytes(start + struct.pack(">I4sQ", 1, b"mdat", 5000) + bytes(1000))
    with pytest.raises(TruncatedFrame, match="declares 5024 bytes and holds 1040"):
        check_complete(path)


def test_offsets_of_a_raf_are_believed(tmp_path: Path) -> None:
    path = tmp_path / "a.raf"
    start = b"FUJIFILMCCD-RAW 0201".ljust(84, b"\0")
    path.write_bytes(start + struct.pack(">6I", 148, 1000, 1148, 200, 1348, 90000) + bytes(3000))
    with pytest.raises(TruncatedFrame, match="declares 91348 bytes and holds 3108"):
        check_complete(path)
