"""XISF as PixInsight and N.I.N.A. write it, by hand and by another package, and what is wrong with some."""

from __future__ import annotations

import sys
import zlib
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest

from livestack.base.errors import TruncatedFrame, UnreadableFrame
from livestack.base.frame import FrameKind
from livestack.formats import check_complete, read_frame, read_info

H, W = 21, 34
RNG = np.random.default_rng(9)
COUNTS = RNG.integers(0, 65536, (H, W), dtype=np.uint16)


def xisf(block: bytes, attributes: str, inside: str = "", position: int = 4096) -> bytes:
    """A monolithic file by the specification."""
    image = f'<Image {attributes} location="attachment:{position}:{len(block)}">{inside}</Image>'
    header = f'<?xml version="1.0" encoding="UTF-8"?><xisf version="1.0" xmlns="http://www.pixinsight.com/xisf">{image}</xisf>'
    start = b"XISF0100" + len(header.encode()).to_bytes(4, "little") + bytes(4) + header.encode()
    return start.ljust(position, b"\0") + block


def save(path: Path, content: bytes) -> Path:
    path.write_bytes(content)
    return path


def shuffled(data: bytes, item: int) -> bytes:
    return np.frombuffer(data, np.uint8).reshape(-1, item).T.tobytes()


GEOMETRY = f'geometry="{W}:{H}:1" sampleFormat="UInt16" colorSpace="Gray"'
RAW = COUNTS.astype("<u2").tobytes()
PACKED, SHUFFLED = zlib.compress(RAW), zlib.compress(shuffled(RAW, 2))
HALVES = [zlib.compress(RAW[:700]), zlib.compress(RAW[700:])]
SUBBLOCKS = f'subblocks="{len(HALVES[0])},700:{len(HALVES[1])},{len(RAW) - 700}"'


@pytest.mark.parametrize(
    "block, attributes",
    [
        (RAW, GEOMETRY),
        (COUNTS.astype(">u2").tobytes(), GEOMETRY + ' byteOrder="big"'),
        (PACKED, GEOMETRY + f' compression="zlib:{len(RAW)}"'),
        (SHUFFLED, GEOMETRY + f' compression="zlib+sh:{len(RAW)}:2"'),
        (b"".join(HALVES), GEOMETRY + f' compression="zlib:{len(RAW)}" {SUBBLOCKS}'),
    ],
    ids=["plain", "big-endian", "zlib", "shuffled", "subblocks"],
)
def test_grey_blocks(tmp_path: Path, block: bytes, attributes: str) -> None:
    path = save(tmp_path / "a.xisf", xisf(block, attributes))
    check_complete(path)
    frame = read_frame(path)
    assert frame.data.dtype == np.uint16
    assert frame.data.flags.writeable
    np.testing.assert_array_equal(frame.data, COUNTS)
    assert frame.info.saturation_adu == 65535


@pytest.mark.parametrize("storage", ["Planar", "Normal"])
def test_colour(tmp_path: Path, storage: str) -> None:
    rgb = RNG.random((3, H, W)).astype("<f4")
    block = (rgb if storage == "Planar" else rgb.transpose(1, 2, 0)).tobytes()
    attributes = f'geometry="{W}:{H}:3" sampleFormat="Float32" colorSpace="RGB" bounds="0:1" pixelStorage="{storage}"'
    frame = read_frame(save(tmp_path / "a.xisf", xisf(block, attributes)))
    np.testing.assert_array_equal(frame.data, rgb)
    assert (frame.info.planes, frame.info.saturation_adu) == (3, 1.0)


def test_keywords_and_colour_filter_array(tmp_path: Path) -> None:
    inside = (
        '<FITSKeyword name="EXPTIME" value="120.5" comment="[s] exposure"/>'
        '<FITSKeyword name="OBJECT" value="\'M 31\'" comment="target"/>'
        '<FITSKeyword name="DATE-OBS" value="\'2024-05-06T07:08:09.123\'" comment=""/>'
        '<FITSKeyword name="COMMENT" value="" comment="words"/>'
        '<ColorFilterArray pattern="GRBG" width="2" height="2" name="x"/>'
    )
    path = save(tmp_path / "a.xisf", xisf(RAW, GEOMETRY + ' imageType="MasterDark"', inside))
    info = read_info(path)
    assert (info.exposure_s, info.object_name, info.bayer) == (120.5, "M 31", "GRBG")
    assert (info.kind, info.is_master) == (FrameKind.DARK, True)
    assert info.date_obs == datetime(2024, 5, 6, 7, 8, 9, 123000, UTC)


@pytest.mark.parametrize("codec", [None, "zlib", "lz4", "lz4hc", "zstd"])
@pytest.mark.parametrize("shuffle", [False, True])
def test_files_of_another_package(tmp_path: Path, codec: str | None, shuffle: bool) -> None:
    package = pytest.importorskip("xisf", reason="the package xisf is not installed")
    smooth = (COUNTS >> 9) + np.arange(W, dtype=np.uint16)
    path = tmp_path / "a.xisf"
    package.XISF.write(str(path), smooth[..., None], "test", codec=codec, shuffle=shuffle)
    check_complete(path)
    np.testing.assert_array_equal(read_frame(path).data, smooth)


def test_a_missing_codec_names_the_remedy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "zstandard", None)
    monkeypatch.setitem(sys.modules, "lz4", None)
    for codec in ("zstd", "lz4"):
        path = save(tmp_path / "a.xisf", xisf(RAW, GEOMETRY + f' compression="{codec}:{len(RAW)}"'))
        check_complete(path)
        with pytest.raises(UnreadableFrame, match=r"pip install livestack\[xisf\]"):
            read_frame(path)


def test_truncated(tmp_path: Path) -> None:
    whole = xisf(RAW, GEOMETRY)
    path = tmp_path / "a.xisf"
    for length in (9, 15, 100, 4095, len(whole) - 1):
        path.write_bytes(whole[:length])
        with pytest.raises(TruncatedFrame, match=str(length)):
            check_complete(path)
    with pytest.raises(TruncatedFrame, match=f"declares {len(whole)} bytes and holds {len(whole) - 1}"):
        read_frame(path)


@pytest.mark.parametrize(
    "block, attributes, words",
    [
        (RAW, 'geometry="99999:99999:1" sampleFormat="UInt8"', "no camera makes that"),
        (RAW, 'geometry="19000:19000:3" sampleFormat="Float64"', "claims to unpack to"),
        (RAW, f'geometry="{W}:{H}:4:2" sampleFormat="UInt16"', "3 dimensions"),
        (RAW, f'geometry="{W}:{H}:1" sampleFormat="Complex32"', "type 'Complex32'"),
        (RAW, f'geometry="{W}:{H + 1}:1" sampleFormat="UInt16"', "fewer pixels|contradicts"),
        (RAW, 'sampleFormat="UInt16"', "geometry"),
        (PACKED, GEOMETRY + f' compression="zlib:{len(RAW) - 2}"', "contradicts itself"),
        (zlib.compress(RAW + RAW), GEOMETRY + f' compression="zlib:{len(RAW)}"', "another length"),
        (PACKED[:-9], GEOMETRY + f' compression="zlib:{len(RAW)}"', "damaged"),
        (RAW, GEOMETRY + f' compression="brotli:{len(RAW)}"', "we read zlib"),
    ],
)
def test_contradictions_are_told(tmp_path: Path, block: bytes, attributes: str, words: str) -> None:
    path = save(tmp_path / "a.xisf", xisf(block, attributes))
    with pytest.raises(UnreadableFrame, match=words):
        read_frame(path)


def test_entities_are_refused_unread(tmp_path: Path) -> None:
    bomb = '<!DOCTYPE x [<!ENTITY a "aaaaaaaaaa"><!ENTITY b "&a;&a;&a;&a;">]><xisf>&b;</xisf>'
    content = b"XISF0100" + len(bomb).to_bytes(4, "little") + bytes(4) + bomb.encode() + bytes(100)
    with pytest.raises(UnreadableFrame, match="document type"):
        check_complete(save(tmp_path / "a.xisf", content))
