"""FITS: every stored type against astropy, the layouts, the compressed kinds, and files that are not whole."""

from __future__ import annotations

import gzip
import io
from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits

from livestack.base.errors import FrameError, TruncatedFrame, UnreadableFrame
from livestack.formats import check_complete, count_frames, read_frame, read_frames, read_info
from livestack.formats.cards import Cards
from livestack.formats.headers import carried_cards

H, W = 21, 34
RNG = np.random.default_rng(11)
COUNTS = RNG.integers(0, 65536, (H, W), dtype=np.uint16)


def save(path: Path, *units: fits.PrimaryHDU) -> Path:
    fits.HDUList(list(units)).writeto(path)
    return path


def plain_bytes(data: np.ndarray = COUNTS, **cards: object) -> bytes:
    buffer = io.BytesIO()
    fits.PrimaryHDU(data, fits.Header(cards)).writeto(buffer)
    return buffer.getvalue()


@pytest.mark.parametrize(
    "stored, expected",
    [
        ("u1", "u1"),
        ("u2", "u2"),
        ("i2", "i2"),
        ("i4", "i4"),
        ("u4", "f4"),
        ("i8", "f4"),
        ("f4", "f4"),
        ("f8", "f4"),
    ],
)
def test_every_stored_type_equals_astropy(tmp_path: Path, stored: str, expected: str) -> None:
    data = RNG.normal(300, 90, (H, W)).astype(stored) if stored[0] == "f" else (COUNTS >> 8).astype(stored)
    if stored == "i2":
        data = (COUNTS.astype(np.int32) - 32768).astype(np.int16)
    path = save(tmp_path / "a.fits", fits.PrimaryHDU(data))
    frame = read_frame(path)
    assert frame.data.dtype == np.dtype(expected)
    assert frame.data.dtype.isnative
    assert frame.data.flags.c_contiguous
    np.testing.assert_array_equal(frame.data, fits.getdata(path).astype(expected))


def test_unsigned_16_bit_reaches_both_ends(tmp_path: Path) -> None:
    data = np.array([[0, 1, 32767], [32768, 65534, 65535]], np.uint16)
    frame = read_frame(save(tmp_path / "a.fit", fits.PrimaryHDU(data)))
    np.testing.assert_array_equal(frame.data, data)
    assert frame.info.saturation_adu == 65535


def test_a_picture_longer_than_the_buffer_is_read_whole(tmp_path: Path) -> None:
    data = RNG.integers(0, 65536, (517, 701), dtype=np.uint16)
    np.testing.assert_array_equal(read_frame(save(tmp_path / "a.fts", fits.PrimaryHDU(data))).data, data)


def test_scaling_and_blank(tmp_path: Path) -> None:
    unit = fits.PrimaryHDU(np.array([[10, 20, -99], [30, 40, 50]], np.int16))
    unit.header["BSCALE"], unit.header["BZERO"], unit.header["BLANK"] = 0.5, 100.0, -99
    buffer = io.BytesIO()
    fits.HDUList([unit]).writeto(buffer)
    # astropy rewrites scaled headers of data in memory, so the cards are put into the bytes
    content = buffer.getvalue()
    cards = f"{'BSCALE':8}= {'0.5':>20}".ljust(80) + f"{'BZERO':8}= {'100.0':>20}".ljust(80)
    cards += f"{'BLANK':8}= {-99:>20}".ljust(80) + "END".ljust(80)
    head = content[: content.index(b"NAXIS2") + 80].decode() + cards
    path = tmp_path / "a.fits"
    path.write_bytes(head.ljust(2880).encode() + content[2880:])
    expected = np.array([[105, 110, np.nan], [115, 120, 125]], np.float32)
    np.testing.assert_array_equal(read_frame(path).data, expected)


def test_three_planes_are_colour_in_order(tmp_path: Path) -> None:
    data = RNG.integers(0, 60000, (3, H, W), dtype=np.uint16)
    path = save(tmp_path / "rgb.fits", fits.PrimaryHDU(data, fits.Header({"BAYERPAT": "RGGB"})))
    frame = read_frame(path)
    np.testing.assert_array_equal(frame.data, data)
    assert (frame.info.planes, frame.info.bayer, count_frames(path)) == (3, None, 1)


def test_interleaved_colour_becomes_planes(tmp_path: Path) -> None:
    data = RNG.integers(0, 60000, (H, W, 3), dtype=np.uint16)
    frame = read_frame(save(tmp_path / "rgb.fits", fits.PrimaryHDU(data)))
    np.testing.assert_array_equal(frame.data, data.transpose(2, 0, 1))
    assert frame.info.size == (W, H)


@pytest.mark.parametrize("compressed", [False, True])
def test_a_cube_is_many_frames(tmp_path: Path, compressed: bool) -> None:
    cube = RNG.integers(0, 60000, (5, H, W), dtype=np.uint16)
    if compressed:
        path = save(tmp_path / "c.fits.fz", fits.PrimaryHDU(), fits.CompImageHDU(cube, compression_type="RICE_1"))
    else:
        path = save(tmp_path / "c.fits", fits.PrimaryHDU(cube))
    assert count_frames(path) == 5
    frames = list(read_frames(path))
    assert [frame.index for frame in frames] == [0, 1, 2, 3, 4]
    np.testing.assert_array_equal(np.stack([frame.data for frame in frames]), cube)
    np.testing.assert_array_equal(read_frame(path, 3).data, cube[3])
    with pytest.raises(UnreadableFrame, match=r"has 5 frame\(s\), there is none with index 5"):
        read_frame(path, 5)


def test_degenerate_axes_are_dropped(tmp_path: Path) -> None:
    frame = read_frame(save(tmp_path / "a.fits", fits.PrimaryHDU(COUNTS[None, None])))
    np.testing.assert_array_equal(frame.data, COUNTS)


def test_the_first_picture_counts_and_the_primary_header_helps(tmp_path: Path) -> None:
    table = fits.BinTableHDU.from_columns([fits.Column("x", "J", array=np.arange(9))])
    path = save(
        tmp_path / "a.fits",
        fits.PrimaryHDU(header=fits.Header({"EXPTIME": 7.0, "GAIN": 100})),
        table,
        fits.ImageHDU(COUNTS, fits.Header({"GAIN": 120})),
        fits.ImageHDU(np.zeros((5, 4), np.float32)),
    )
    frame = read_frame(path)
    np.testing.assert_array_equal(frame.data, COUNTS)
    assert (frame.info.exposure_s, frame.info.gain) == (7.0, 120.0)


@pytest.mark.parametrize("compression", ["RICE_1", "GZIP_1", "GZIP_2", "HCOMPRESS_1"])
def test_lossless_tiles_give_back_every_pixel(tmp_path: Path, compression: str) -> None:
    unit = fits.CompImageHDU(COUNTS, fits.Header({"EXPTIME": 2.5}), compression_type=compression)
    path = save(tmp_path / "a.fits.fz", fits.PrimaryHDU(), unit)
    check_complete(path)
    frame = read_frame(path)
    assert frame.data.dtype == np.uint16
    np.testing.assert_array_equal(frame.data, COUNTS)
    assert (frame.info.exposure_s, frame.info.bits, frame.info.saturation_adu) == (2.5, 16, 65535)


def test_quantised_floats_equal_astropy(tmp_path: Path) -> None:
    data = RNG.normal(1000, 5, (H, W)).astype(np.float32)
    unit = fits.CompImageHDU(data, compression_type="RICE_1", quantize_level=16)
    path = save(tmp_path / "a.fz", fits.PrimaryHDU(), unit)
    np.testing.assert_array_equal(read_frame(path).data, fits.getdata(path, 1))


def test_gzip_is_read_and_its_damage_noticed(tmp_path: Path) -> None:
    packed = gzip.compress(plain_bytes(EXPTIME=3.0))
    path = tmp_path / "a.fits.gz"
    path.write_bytes(packed)
    check_complete(path)
    np.testing.assert_array_equal(read_frame(path).data, COUNTS)
    assert read_info(path).exposure_s == 3.0
    path.write_bytes(packed[: len(packed) // 2])
    with pytest.raises(TruncatedFrame, match="inside its compressed data"):
        check_complete(path)
    with pytest.raises(TruncatedFrame):
        read_frame(path)


def test_gzip_bomb_is_refused_before_it_unpacks(tmp_path: Path) -> None:
    head = fits.Header({"SIMPLE": True, "BITPIX": 16, "NAXIS": 2, "NAXIS1": 19000, "NAXIS2": 19000})
    path = tmp_path / "bomb.fits.gz"
    path.write_bytes(gzip.compress(head.tostring().encode() + bytes(1 << 20)))
    with pytest.raises(UnreadableFrame, match="claims to unpack to"):
        check_complete(path)
    with pytest.raises(UnreadableFrame, match="claims to unpack to"):
        read_frame(path)


def test_truncation_at_any_byte_is_noticed_and_told(tmp_path: Path) -> None:
    whole = plain_bytes()
    pixels_end = 2880 + COUNTS.nbytes
    path = tmp_path / "a.fits"
    for length in [1, 79, 80, 100, 2879, 2880, 2881, pixels_end - 1]:
        path.write_bytes(whole[:length])
        for look in (check_complete, read_frame):
            with pytest.raises(TruncatedFrame) as raised:
                look(path)
            assert str(length) in str(raised.value)
    assert f"declares {len(whole)} bytes and holds {pixels_end - 1}" in str(raised.value)


def test_an_empty_file_is_empty_so_far(tmp_path: Path) -> None:
    path = tmp_path / "a.fits"
    path.touch()
    for look in (check_complete, read_frame, read_info):
        with pytest.raises(TruncatedFrame, match=r"a\.fits is empty so far"):
            look(path)


def test_missing_padding_is_an_oddity_only(tmp_path: Path) -> None:
    path = tmp_path / "a.fits"
    path.write_bytes(plain_bytes()[: 2880 + COUNTS.nbytes])
    check_complete(path)
    frame = read_frame(path)
    np.testing.assert_array_equal(frame.data, COUNTS)
    assert any("padding" in sentence for sentence in frame.info.oddities)


def test_a_truncated_extension_makes_the_file_incomplete(tmp_path: Path) -> None:
    path = save(tmp_path / "a.fits", fits.PrimaryHDU(COUNTS), fits.ImageHDU(np.zeros((50, 70), np.float32)))
    check_complete(path)
    path.write_bytes(path.read_bytes()[:-5000])
    with pytest.raises(TruncatedFrame):
        check_complete(path)


def test_zeros_after_the_last_unit_are_tolerated(tmp_path: Path) -> None:
    path = tmp_path / "a.fits"
    path.write_bytes(plain_bytes() + bytes(5000))
    check_complete(path)
    np.testing.assert_array_equal(read_frame(path).data, COUNTS)


def test_an_absurd_size_is_refused_before_allocation(tmp_path: Path) -> None:
    head = fits.Header({"SIMPLE": True, "BITPIX": -64, "NAXIS": 2, "NAXIS1": 10**6, "NAXIS2": 10**6})
    path = tmp_path / "a.fits"
    path.write_bytes(head.tostring().encode() + bytes(2880))
    for look in (check_complete, read_frame, read_info):
        with pytest.raises(UnreadableFrame, match="1000000 x 1000000 pixels"):
            look(path)


@pytest.mark.parametrize(
    "keyword, value", [("BITPIX", "12"), ("NAXIS1", "-5"), ("NAXIS2", "'many'"), ("NAXIS", "x"), ("NAXIS1", "0")]
)
def test_contradicting_structure_is_refused_in_words(tmp_path: Path, keyword: str, value: str) -> None:
    content = plain_bytes()
    where = content.index(keyword.ljust(8).encode() + b"=")
    path = tmp_path / "a.fits"
    path.write_bytes(content[:where] + f"{keyword:8}= {value:>20}".ljust(80).encode() + content[where + 80 :])
    with pytest.raises(FrameError, match=r"^a\.fits .*\.$"):
        read_frame(path)


def test_no_picture_at_all(tmp_path: Path) -> None:
    table = fits.BinTableHDU.from_columns([fits.Column("x", "J", array=np.arange(9))])
    path = save(tmp_path / "a.fits", fits.PrimaryHDU(), table)
    for look in (check_complete, read_frame, read_info):
        with pytest.raises(UnreadableFrame, match="holds no picture"):
            look(path)


def test_an_empty_first_unit_may_be_the_beginning_of_more(tmp_path: Path) -> None:
    """So it is while a compressed frame is being written."""
    path = save(tmp_path / "a.fits.fz", fits.PrimaryHDU(header=fits.Header({"EXPTIME": 1.0})))
    for look in (check_complete, read_frame, read_info):
        with pytest.raises(TruncatedFrame, match="ends after 2880 bytes without a picture"):
            look(path)


def test_a_missing_tile_is_noticed(tmp_path: Path) -> None:
    path = save(tmp_path / "a.fits.fz", fits.PrimaryHDU(), fits.CompImageHDU(COUNTS, compression_type="RICE_1"))
    content = path.read_bytes().replace(f"ZNAXIS2 = {H:>20}".encode(), f"ZNAXIS2 = {H + 4:>20}".encode())
    path.write_bytes(content)
    with pytest.raises(UnreadableFrame, match=f"{H} tiles instead of {H + 4}"):
        read_frame(path)


def test_a_header_that_breaks_the_rules_is_survived(tmp_path: Path) -> None:
    content = bytearray(plain_bytes(EXPTIME=1.0, OBSERVER="Jose", DATE="x", GAIN=5))
    for keyword, card in {
        b"EXPTIME": b"EXPTIME =              6,4E-05 / Total Exposure Time (s)",
        b"OBSERVER": b"OBSERVER= 'Jos\xe9 \xff'",
        b"DATE": b"DATE    = \x00\x01\x02 nonsense '",
        b"GAIN": b"GAIN    = 12abc / not a number",
    }.items():
        where = content.index(keyword.ljust(8) + b"=")
        content[where : where + 80] = card.ljust(80)
    end = content.index(b"END".ljust(80))
    content[end + 3 : 2880] = bytes(2880 - end - 3)  # zeros where blanks belong
    path = tmp_path / "a.fits"
    path.write_bytes(bytes(content))
    check_complete(path)
    frame = read_frame(path)
    np.testing.assert_array_equal(frame.data, COUNTS)
    assert frame.info.exposure_s == 6.4e-05
    assert frame.info.gain is None
    assert "EXPTIME = '6,4E-05' uses a decimal comma; read as 6.4e-05." in frame.info.oddities
    assert any("GAIN" in sentence for sentence in frame.info.oddities)
    assert any("not ASCII" in sentence for sentence in frame.info.oddities)


def test_carried_cards_make_a_valid_header(tmp_path: Path) -> None:
    path = tmp_path / "a.fits"
    cards = {"OBJECT": "M 31", "CRVAL1": 10.5, "CD1_1": -2e-4, "RADECSYS": "FK5", "A_ORDER": 2, "AP_1_0": 1e-7}
    path.write_bytes(plain_bytes(**cards, NOTES="not carried", OBSERVER="x"))
    content = path.read_bytes().replace(b"OBSERVER= 'x ", b"OBSERVER= '\xe9 ")
    path.write_bytes(content)
    carried = read_info(path).cards
    header = fits.Header([fits.Card(*card) for card in carried])
    fits.PrimaryHDU(np.zeros((2, 3)), header).verify("exception")
    assert header["RADESYS"] == "FK5"
    assert (header["CRVAL1"], header["A_ORDER"], header["OBSERVER"]) == (10.5, 2, "e")
    assert "NOTES" not in header


def test_long_comments_are_cut_to_the_card() -> None:
    """astropy warns, and warnings are errors here, when a card is longer than 80 columns."""
    cards = Cards()
    cards.add("OBJECT", "O'Neill's " * 4, "x" * 200)
    cards.add("FILTER", "H alpha", "y" * 200)
    cards.add("GAIN", 1.23456789012345e-7, "z" * 200)
    cards.add("OBSERVER", "a name longer than a whole card " * 5, "w" * 90)
    for card in carried_cards(cards):
        assert fits.Card.fromstring(fits.Card(*card).image).value == card[1]
