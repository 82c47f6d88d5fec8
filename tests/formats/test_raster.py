"""PNG, JPEG and TIFF against the encoders that wrote them."""

from __future__ import annotations

import io
import struct
import zlib
from datetime import UTC, datetime
from pathlib import Path

import cv2
import numpy as np
import pytest
import tifffile

from livestack.base.errors import TruncatedFrame, UnreadableFrame
from livestack.formats import check_complete, count_frames, read_frame, read_frames, read_info

H, W = 21, 34
RNG = np.random.default_rng(5)
GREY8 = RNG.integers(0, 256, (H, W), dtype=np.uint8)
GREY16 = RNG.integers(0, 65536, (H, W), dtype=np.uint16)
RGB8 = RNG.integers(0, 256, (H, W, 3), dtype=np.uint8)
RGB16 = RNG.integers(0, 65536, (H, W, 3), dtype=np.uint16)


def chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def png(image: np.ndarray, bits: int, colour: int, *extra: bytes) -> bytes:
    """A PNG by the book: (H, W) or (H, W, C) in file order, filter 0."""
    rows = image.astype(f">u{max(bits // 8, 1)}").reshape(image.shape[0], -1)
    body = b"".join(b"\0" + row.tobytes() for row in rows)
    head = struct.pack(">IIBBBBB", image.shape[1], image.shape[0], bits, colour, 0, 0, 0)
    parts = [chunk(b"IHDR", head), *extra, chunk(b"IDAT", zlib.compress(body)), chunk(b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


def planes(image: np.ndarray) -> np.ndarray:
    return image.transpose(2, 0, 1)


PALETTE = RNG.integers(0, 256, (256, 3), dtype=np.uint8)


@pytest.mark.parametrize(
    "content, expected",
    [
        (png(GREY8, 8, 0), GREY8),
        (png(GREY16, 16, 0), GREY16),
        (png(RGB8, 8, 2), planes(RGB8)),
        (png(RGB16, 16, 2), planes(RGB16)),
        (png(np.dstack([RGB8, GREY8]), 8, 6), planes(RGB8)),
        (png(np.dstack([GREY8, GREY8 // 2]), 8, 4), GREY8),
        (png(np.dstack([GREY16, GREY16 // 2]), 16, 4), GREY16),
        (png(GREY8, 8, 3, chunk(b"PLTE", PALETTE.tobytes())), planes(PALETTE[GREY8])),
    ],
    ids=["grey8", "grey16", "rgb8", "rgb16", "rgba", "grey-alpha8", "grey-alpha16", "palette"],
)
def test_png_of_every_colour_type(tmp_path: Path, content: bytes, expected: np.ndarray) -> None:
    path = tmp_path / "a.png"
    path.write_bytes(content)
    check_complete(path)
    frame = read_frame(path)
    assert frame.data.dtype == expected.dtype
    assert frame.data.flags.c_contiguous
    np.testing.assert_array_equal(frame.data, expected)
    assert read_info(path) == frame.info
    assert (frame.info.size, frame.info.planes) == ((W, H), 3 if expected.ndim == 3 else 1)
    assert frame.info.saturation_adu == np.iinfo(expected.dtype).max


def test_png_truncated_anywhere(tmp_path: Path) -> None:
    content = png(GREY8, 8, 0)
    path = tmp_path / "a.png"
    for length in range(1, len(content) - 12, 7):
        path.write_bytes(content[:length])
        with pytest.raises(TruncatedFrame, match=str(length)):
            check_complete(path)


def test_png_with_a_flipped_bit_fails_its_checksum(tmp_path: Path) -> None:
    content = bytearray(png(GREY8, 8, 0))
    content[len(content) // 2] ^= 4
    path = tmp_path / "a.png"
    path.write_bytes(content)
    with pytest.raises(UnreadableFrame, match="fails its own checksum"):
        read_frame(path)


def test_png_bomb_is_refused_before_decoding(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    for size, words in ((60000, "no camera makes that"), (19000, "claims to unpack to")):
        head = struct.pack(">IIBBBBB", size, size, 16, 2, 0, 0, 0)
        body = chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(bytes(1 << 20))) + chunk(b"IEND", b"")
        path.write_bytes(b"\x89PNG\r\n\x1a\n" + body)
        with pytest.raises(UnreadableFrame, match=words):
            read_frame(path)


def smooth_rgb() -> np.ndarray:
    y, x = np.mgrid[:H, :W]
    return np.dstack([200 - 3 * x, 60 + 4 * y, 20 + x + y]).astype(np.uint8)


def test_jpeg_has_red_first(tmp_path: Path) -> None:
    image = smooth_rgb()
    path = tmp_path / "a.jpg"
    path.write_bytes(cv2.imencode(".jpg", image[:, :, ::-1], [cv2.IMWRITE_JPEG_QUALITY, 98])[1].tobytes())
    check_complete(path)
    frame = read_frame(path)
    assert frame.data.shape == (3, H, W)
    assert np.abs(frame.data.astype(int) - planes(image)).mean() < 3


def test_grey_jpeg_stays_grey(tmp_path: Path) -> None:
    path = tmp_path / "a.jpeg"
    path.write_bytes(cv2.imencode(".jpg", smooth_rgb()[:, :, 0])[1].tobytes())
    assert read_frame(path).data.shape == (H, W)


def exif_block(orientation: int) -> bytes:
    """Orientation, and a sub-directory with exposure 1/4 s, ISO 800, a date with its zone."""
    date, zone = b"2024:05:06 07:08:09\0", b"+02:00\0"
    first = struct.pack("<H", 2) + struct.pack("<HHIHH", 274, 3, 1, orientation, 0)
    first += struct.pack("<HHII", 34665, 4, 1, 38)
    first += struct.pack("<I", 0)
    start = 38 + 2 + 4 * 12 + 4
    sub = struct.pack("<H", 4)
    sub += struct.pack("<HHII", 33434, 5, 1, start) + struct.pack("<HHII", 34855, 3, 1, 800)
    sub += struct.pack("<HHII", 36867, 2, len(date), start + 8) + struct.pack("<HHII", 36881, 2, len(zone), start + 28)
    sub += struct.pack("<I", 0) + struct.pack("<II", 1, 4) + date + zone
    return b"Exif\0\0II*\0" + struct.pack("<I", 8) + first + sub


def test_jpeg_exif_is_read_and_the_picture_never_turned(tmp_path: Path) -> None:
    plain = cv2.imencode(".jpg", smooth_rgb()[:, :, ::-1])[1].tobytes()
    block = exif_block(6)
    path = tmp_path / "a.jpg"
    path.write_bytes(plain[:2] + b"\xff\xe1" + struct.pack(">H", len(block) + 2) + block + plain[2:])
    frame = read_frame(path)
    assert frame.data.shape == (3, H, W)
    assert (frame.info.exposure_s, frame.info.gain) == (0.25, 800)
    assert frame.info.date_obs == datetime(2024, 5, 6, 5, 8, 9, tzinfo=UTC)
    assert frame.info.oddities == ()


def test_jpeg_truncated_anywhere_after_its_thumbnail(tmp_path: Path) -> None:
    """An end mark inside the EXIF thumbnail must not count."""
    plain = cv2.imencode(".jpg", smooth_rgb())[1].tobytes()
    block = b"Exif\0\0" + b"\xff\xd8 thumbnail \xff\xd9"
    content = plain[:2] + b"\xff\xe1" + struct.pack(">H", len(block) + 2) + block + plain[2:]
    path = tmp_path / "a.jpg"
    path.write_bytes(content)
    check_complete(path)
    for length in range(60, len(content) - 1, 41):
        path.write_bytes(content[:length])
        with pytest.raises(TruncatedFrame, match="without its end mark"):
            check_complete(path)


def test_jpeg_with_zeros_behind_its_end(tmp_path: Path) -> None:
    path = tmp_path / "a.jpg"
    path.write_bytes(cv2.imencode(".jpg", smooth_rgb())[1].tobytes() + bytes(1000))
    check_complete(path)


def tiff(image: np.ndarray, **options: object) -> bytes:
    buffer = io.BytesIO()
    tifffile.imwrite(buffer, image, metadata=None, **options)  # type: ignore[arg-type]
    return buffer.getvalue()


FLOAT = RNG.normal(0.1, 0.02, (H, W)).astype(np.float32)


@pytest.mark.parametrize(
    "content, expected",
    [
        (tiff(GREY8), GREY8),
        (tiff(GREY16), GREY16),
        (tiff(GREY16, byteorder=">"), GREY16),
        (tiff(GREY16, bigtiff=True), GREY16),
        (tiff(GREY16, compression="zlib", predictor=True), GREY16),
        (tiff(GREY16, tile=(16, 16)), GREY16),
        (tiff(GREY16, photometric="miniswhite"), 65535 - GREY16),
        (tiff((GREY16 - 32768.0).astype(np.int16)), (GREY16 - 32768.0).astype(np.int16)),
        (tiff(GREY16.astype(np.int32) * 1000), GREY16.astype(np.int32) * 1000),
        (tiff(GREY16.astype(np.uint32) * 65537), (GREY16.astype(np.uint32) * 65537).astype(np.float32)),
        (tiff(FLOAT), FLOAT),
        (tiff(FLOAT.astype(np.float64)), FLOAT),
        (tiff(RGB16, photometric="rgb"), planes(RGB16)),
        (tiff(planes(RGB16), photometric="rgb", planarconfig="separate"), planes(RGB16)),
        (tiff(np.dstack([RGB8, GREY8]), photometric="rgb", extrasamples=["unassalpha"]), planes(RGB8)),
        (tiff(GREY8, photometric="palette", colormap=PALETTE.T.astype(np.uint16) * 257), planes(PALETTE[GREY8])),
        (cv2.imencode(".tif", GREY16, [cv2.IMWRITE_TIFF_COMPRESSION, 5])[1].tobytes(), GREY16),
        (cv2.imencode(".tif", RGB16[:, :, ::-1], [cv2.IMWRITE_TIFF_COMPRESSION, 5])[1].tobytes(), planes(RGB16)),
    ],
    ids=[
        *["u1", "u2", "big-endian", "bigtiff", "deflate", "tiled", "white-is-zero", "i2", "i4", "u4", "f4", "f8"],
        *["rgb", "planar", "rgba", "palette", "lzw", "lzw-rgb"],
    ],
)
def test_tiff_of_every_kind(tmp_path: Path, content: bytes, expected: np.ndarray) -> None:
    path = tmp_path / "a.tif"
    path.write_bytes(content)
    check_complete(path)
    frame = read_frame(path)
    assert frame.data.dtype == expected.dtype
    assert frame.data.flags.c_contiguous
    assert frame.data.dtype.isnative
    np.testing.assert_array_equal(frame.data, expected)
    assert read_info(path) == frame.info
    assert count_frames(path) == 1


def test_tiff_of_many_pages(tmp_path: Path) -> None:
    cube = RNG.integers(0, 65536, (4, H, W), dtype=np.uint16)
    path = tmp_path / "a.tiff"
    path.write_bytes(tiff(cube, photometric="minisblack"))
    assert count_frames(path) == 4
    np.testing.assert_array_equal(np.stack([frame.data for frame in read_frames(path)]), cube)
    assert read_frame(path, 2).name == "a.tiff[2]"
    with pytest.raises(UnreadableFrame, match="none with index 4"):
        read_frame(path, 4)


def test_tiff_thumbnail_is_no_frame(tmp_path: Path) -> None:
    path = tmp_path / "a.tif"
    with tifffile.TiffWriter(path) as writer:
        writer.write(GREY16, metadata=None)
        writer.write(GREY8[::4, ::4].copy(), metadata=None, subfiletype=1)
        writer.write(GREY16[:-2], metadata=None)
    assert count_frames(path) == 1
    np.testing.assert_array_equal(read_frame(path).data, GREY16)


def test_tiff_truncated_tells_both_lengths(tmp_path: Path) -> None:
    content = tiff(GREY16)
    path = tmp_path / "a.tif"
    path.write_bytes(content[:-100])
    with pytest.raises(TruncatedFrame, match=f"declares {len(content)} bytes and holds {len(content) - 100}"):
        check_complete(path)


def test_tiff_bomb_is_refused_before_decoding(tmp_path: Path) -> None:
    content = tiff(np.zeros((64, 64), np.uint16), compression="zlib", rowsperstrip=64)
    for tag in (256, 257):
        where = content.index(struct.pack("<HHI", tag, 4, 1)) if struct.pack("<HHI", tag, 4, 1) in content else -1
        kind, layout = ("<HHI", "<I") if where >= 0 else ("<HHI", "<H")
        where = where if where >= 0 else content.index(struct.pack(kind, tag, 3, 1))
        content = content[: where + 8] + struct.pack(layout, 19000) + content[where + 8 + struct.calcsize(layout) :]
    path = tmp_path / "a.tif"
    path.write_bytes(content)
    with pytest.raises(UnreadableFrame, match="claims to unpack to"):
        read_frame(path)


def test_tiff_date_and_the_header_that_siril_keeps(tmp_path: Path) -> None:
    lines = ["SIMPLE  =                    T", "EXPTIME =                 30.5 / s", "FILTER  = 'Ha'", "END"]
    path = tmp_path / "a.tif"
    path.write_bytes(tiff(GREY16, description="\n".join(lines), datetime="2024:05:06 07:08:09"))
    info = read_info(path)
    assert (info.exposure_s, info.filter_name) == (30.5, "Ha")
    assert info.date_obs == datetime(2024, 5, 6, 7, 8, 9, tzinfo=UTC)
    assert info.oddities == ("The camera's clock names no time zone; taken as UTC.",)


def test_tiff_whose_directory_is_not_written_yet(tmp_path: Path) -> None:
    path = tmp_path / "a.tif"
    path.write_bytes(b"II*\0" + bytes(2000))
    for look in (check_complete, read_frame):
        with pytest.raises(TruncatedFrame, match="ends after 2004 bytes without a picture"):
            look(path)


def test_circular_directories_end(tmp_path: Path) -> None:
    content = bytearray(tiff(GREY8))
    entries = struct.unpack_from("<H", content, 8)[0]
    struct.pack_into("<I", content, 8 + 2 + 12 * entries, 8)
    path = tmp_path / "a.tif"
    path.write_bytes(content)
    with pytest.raises(UnreadableFrame, match="lead in circles"):
        read_frame(path)
