"""SER films: colour kinds, depths, time stamps, and the byte order that cannot be believed."""

from __future__ import annotations

import struct
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest

from livestack.base.errors import TruncatedFrame, UnreadableFrame
from livestack.formats import check_complete, count_frames, read_frame, read_frames, read_info

H, W, N = 22, 36, 3
RNG = np.random.default_rng(8)
START = datetime(2024, 2, 3, 4, 5, 6, 789000, UTC)


def ticks(moment: datetime) -> int:
    """.NET ticks: 100 ns since the year 1."""
    return (moment - datetime(1, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1) * 10


def sky(depth: int, planes: int = 1) -> np.ndarray:
    """(N, H, W, planes) of a dim, noisy sky with a bright gradient in it, in counts of `depth` bits."""
    top = 2**depth
    y, x = np.mgrid[:H, :W]
    picture = top * (0.1 + 0.5 * np.exp(-((x - 12) ** 2 + (y - 9) ** 2) / 30))
    noise = RNG.normal(0, max(1.0, top / 400), (N, H, W, planes))
    return np.clip(picture[None, :, :, None] + noise, 0, top - 1).astype(np.uint8 if depth <= 8 else np.uint16)


def film(
    path: Path,
    samples: np.ndarray,
    *,
    colour: int = 0,
    depth: int = 16,
    big: bool = False,
    flag: int = 0,
    stamps: int = N,
    frames: int = N,
) -> Path:
    head = struct.pack(
        "<14s7i40s40s40s2q",
        b"LUCAM-RECORDER",
        0,
        colour,
        flag,
        W,
        H,
        depth,
        frames,
        b"Observer",
        b"ZWO ASI462MC",
        b"C8",
        ticks(START),
        ticks(START),
    )
    order = samples.astype(samples.dtype.newbyteorder(">" if big else "<"))
    trailer = b"".join(struct.pack("<q", ticks(START + timedelta(milliseconds=20 * i))) for i in range(stamps))
    path.write_bytes(head + order.tobytes() + trailer)
    return path


@pytest.mark.parametrize("depth", [8, 10, 12, 16])
def test_mono_of_every_depth(tmp_path: Path, depth: int) -> None:
    samples = sky(depth)
    path = film(tmp_path / "a.ser", samples, depth=depth)
    check_complete(path)
    assert count_frames(path) == N
    frames = list(read_frames(path))
    np.testing.assert_array_equal(np.stack([frame.data for frame in frames]), samples[..., 0])
    assert frames[0].data.dtype == samples.dtype
    assert {frame.info.saturation_adu for frame in frames} == {2.0**depth - 1}
    np.testing.assert_array_equal(read_frame(path, 2).data, samples[2, ..., 0])


@pytest.mark.parametrize("big", [False, True])
@pytest.mark.parametrize("flag", [0, 1])
@pytest.mark.parametrize("depth", [12, 16])
def test_the_samples_tell_the_byte_order_whatever_the_flag(tmp_path: Path, big: bool, flag: int, depth: int) -> None:
    samples = sky(depth)
    frame = read_frame(film(tmp_path / "a.ser", samples, depth=depth, big=big, flag=flag))
    np.testing.assert_array_equal(frame.data, samples[0, ..., 0])
    assert frame.data.dtype.isnative


@pytest.mark.parametrize("flag, big", [(0, False), (1, True)])
def test_the_flag_has_its_customary_meaning_where_samples_do_not_tell(tmp_path: Path, flag: int, big: bool) -> None:
    samples = RNG.integers(0, 65536, (N, H, W, 1), dtype=np.uint16)
    frame = read_frame(film(tmp_path / "a.ser", samples, flag=flag, big=big))
    np.testing.assert_array_equal(frame.data, samples[0, ..., 0])


def test_eight_bits_in_the_high_byte_follow_the_flag(tmp_path: Path) -> None:
    samples = (sky(8).astype(np.uint16) << 8).astype(np.uint16)
    frame = read_frame(film(tmp_path / "a.ser", samples, flag=0))
    np.testing.assert_array_equal(frame.data, samples[0, ..., 0])


@pytest.mark.parametrize("colour, pattern", [(8, "RGGB"), (9, "GRBG"), (10, "GBRG"), (11, "BGGR")])
def test_mosaics(tmp_path: Path, colour: int, pattern: str) -> None:
    assert read_info(film(tmp_path / "a.ser", sky(8), depth=8, colour=colour)).bayer == pattern


@pytest.mark.parametrize("depth", [8, 16])
@pytest.mark.parametrize("colour, order", [(100, (0, 1, 2)), (101, (2, 1, 0))])
def test_colour_planes_are_red_green_blue(tmp_path: Path, depth: int, colour: int, order: tuple[int, ...]) -> None:
    samples = sky(depth, 3)
    frame = read_frame(film(tmp_path / "a.ser", samples, depth=depth, colour=colour), 1)
    np.testing.assert_array_equal(frame.data, samples[1][..., list(order)].transpose(2, 0, 1))
    assert (frame.info.planes, frame.info.bayer) == (3, None)


def test_time_stamps_and_words(tmp_path: Path) -> None:
    path = film(tmp_path / "a.ser", sky(8), depth=8)
    assert [frame.info.date_obs for frame in read_frames(path)] == [
        START + timedelta(milliseconds=20 * index) for index in range(N)
    ]
    assert (read_info(path).camera, read_info(path).telescope) == ("ZWO ASI462MC", "C8")


def test_a_film_without_or_with_half_a_trailer(tmp_path: Path) -> None:
    path = film(tmp_path / "a.ser", sky(8), depth=8, stamps=0)
    check_complete(path)
    assert [frame.info.date_obs for frame in read_frames(path)] == [START, None, None]
    path = film(tmp_path / "b.ser", sky(8), depth=8, stamps=1)
    assert read_info(path).oddities == ("The trailer of time stamps is incomplete; ignored.",)


def test_left_aligned_twelve_bits_clip_higher(tmp_path: Path) -> None:
    frame = read_frame(film(tmp_path / "a.ser", sky(12) << 4, depth=12))
    assert frame.info.saturation_adu == 65520


def test_truncated_and_unfinished_films(tmp_path: Path) -> None:
    path = film(tmp_path / "a.ser", sky(8), depth=8, stamps=0)
    whole = path.read_bytes()
    for length in (20, 177, 178, len(whole) - 1):
        path.write_bytes(whole[:length])
        with pytest.raises(TruncatedFrame, match=f"holds {length}"):
            check_complete(path)
    path = film(tmp_path / "b.ser", sky(8), depth=8, frames=0)
    with pytest.raises(TruncatedFrame, match="counts no frame yet"):
        check_complete(path)


@pytest.mark.parametrize(
    "offset, value, words",
    [(18, 19, "colour format 19"), (26, 10**8, "no camera makes that"), (34, 33, "33 bits"), (30, -4, "empty picture")],
)
def test_absurd_headers(tmp_path: Path, offset: int, value: int, words: str) -> None:
    path = film(tmp_path / "a.ser", sky(8), depth=8)
    content = bytearray(path.read_bytes())
    struct.pack_into("<i", content, offset, value)
    path.write_bytes(content)
    with pytest.raises((UnreadableFrame, TruncatedFrame), match=words):
        read_frame(path)
