"""From cards to `FrameInfo`: the words of the capture programs, one small table a question."""

from __future__ import annotations

from datetime import UTC, datetime

import numpy as np
import pytest

from livestack.base.frame import FrameInfo, FrameKind
from livestack.formats.cards import Cards, parse_cards
from livestack.formats.headers import correct_saturation, describe, sexagesimal, stored_pattern


def info_of(height: int = 20, planes: int = 1, bits: int = 16, /, **values: object) -> FrameInfo:
    """Keywords with a double underscore for a hyphen."""
    cards = Cards()
    for keyword, value in values.items():
        cards.add(keyword.replace("__", "-"), value)  # type: ignore[arg-type]
    return describe(cards, 30, height, planes, bits, 65535.0)


@pytest.mark.parametrize(
    "words, kind, master",
    [
        ("Light Frame", FrameKind.LIGHT, False),
        ("LIGHT", FrameKind.LIGHT, False),
        ("object", FrameKind.LIGHT, False),
        ("Bias Frame", FrameKind.BIAS, False),
        ("ZERO", FrameKind.BIAS, False),
        ("Dark", FrameKind.DARK, False),
        ("Master Dark", FrameKind.DARK, True),
        ("masterFlat", FrameKind.FLAT, True),
        ("Flat Field", FrameKind.FLAT, False),
        ("DarkFlat", FrameKind.DARK_FLAT, False),
        ("FLAT-DARK", FrameKind.DARK_FLAT, False),
        ("Tricolor Image", FrameKind.UNKNOWN, False),
        ("", FrameKind.UNKNOWN, False),
    ],
)
def test_kind(words: str, kind: FrameKind, master: bool) -> None:
    info = info_of(IMAGETYP=words)
    assert (info.kind, info.is_master) == (kind, master)


def test_kind_elsewhere() -> None:
    assert info_of(FRAME="Light").kind == FrameKind.LIGHT
    assert info_of(PICTTYPE=3).kind == FrameKind.DARK
    assert info_of(FRAME=17, PICTTYPE=4).kind == FrameKind.FLAT


def test_combined_frames_are_masters() -> None:
    assert info_of(NCOMBINE=20).is_master
    assert info_of(STACKCNT="12").is_master
    assert not info_of(NCOMBINE=1).is_master


@pytest.mark.parametrize(
    "cards, pattern",
    [
        ({"BAYERPAT": "RGGB"}, "RGGB"),
        ({"BAYERPAT": " 'grbg' "}, "GRBG"),
        ({"BAYERPAT": "TRUE", "COLORTYP": "BGGR"}, "BGGR"),
        ({"BAYERPAT": "VALID"}, None),
        ({"BAYERPAT": True, "COLORTYP": "RAW16"}, None),
        ({"BAYERPAT": "CYYM"}, None),
        ({"BAYERPAT": "RGGB", "XBAYROFF": 1}, "GRBG"),
        ({"BAYERPAT": "RGGB", "YBAYROFF": 1.0}, "GBRG"),
        ({"BAYERPAT": "RGGB", "XBAYROFF": 1, "YBAYROFF": 1}, "BGGR"),
        ({"BAYERPAT": "RGGB", "XBAYROFF": 2, "YBAYROFF": "none"}, "RGGB"),
        ({"BAYERPAT": "RGGB", "ROWORDER": "TOP-DOWN"}, "RGGB"),
    ],
)
def test_mosaic(cards: dict[str, object], pattern: str | None) -> None:
    assert info_of(**cards).bayer == pattern


@pytest.mark.parametrize("height", [20, 21])
@pytest.mark.parametrize("named", ["RGGB", "GBRG"])
def test_bottom_up_mosaic_names_the_upright_picture(height: int, named: str) -> None:
    """Truth by flipping: paint colours on the upright picture, store it upside down, look at the stored corner."""
    upright = np.array([[named[2 * (y % 2) + x % 2] for x in range(6)] for y in range(height)])
    stored = upright[::-1]
    info = info_of(height, BAYERPAT=named, ROWORDER="BOTTOM-UP")
    assert info.bayer == "".join(stored[:2, :2].ravel())
    assert info.bottom_up


def test_bottom_up_with_offset() -> None:
    upright = np.array([["RGGB"[2 * ((y + 1) % 2) + x % 2] for x in range(6)] for y in range(20)])
    info = info_of(20, BAYERPAT="RGGB", YBAYROFF=1, ROWORDER="bottom-up")
    assert info.bayer == "".join(upright[::-1][:2, :2].ravel())


def test_colour_frames_have_no_mosaic() -> None:
    assert info_of(20, 3, BAYERPAT="RGGB").bayer is None


def test_turned_pattern_is_what_a_crop_shows() -> None:
    sensor = np.array([list("RGRGRG"), list("GBGBGB")] * 3)
    for x in range(3):
        for y in range(3):
            assert stored_pattern("RGGB", x, y, None) == "".join(sensor[y : y + 2, x : x + 2].ravel())


XTRANS = "GGRGGBGGBGGRBRGRBGGGBGGRGGRGGBRBGBRG"


@pytest.mark.parametrize("height", [36, 37, 40])
@pytest.mark.parametrize("bottom_up", [False, True])
@pytest.mark.parametrize("x, y", [(0, 0), (2, 5)])
def test_xtrans_pattern_is_that_of_the_stored_rows(height: int, bottom_up: bool, x: int, y: int) -> None:
    cell = np.array(list(XTRANS)).reshape(6, 6)
    rows, columns = np.indices((height, 30))
    upright = cell[(rows + y) % 6, (columns + x) % 6]
    stored = upright[::-1] if bottom_up else upright
    order = "BOTTOM-UP" if bottom_up else "TOP-DOWN"
    info = info_of(height, BAYERPAT=XTRANS, XBAYROFF=x, YBAYROFF=y, ROWORDER=order)
    assert info.xtrans == "".join(stored[:6, :6].ravel())
    assert info.bayer is None
    assert info.oddities == ()


def test_xtrans_has_a_card_of_its_own_and_other_36_letters_are_told() -> None:
    assert info_of(XTRANS=XTRANS, BAYERPAT="XTRANS").xtrans == XTRANS
    assert info_of(20, 3, BAYERPAT=XTRANS).xtrans is None
    odd = info_of(BAYERPAT="RGRGRGGBGBGB" * 3)
    assert (odd.xtrans, odd.bayer) == (None, None)
    assert odd.oddities == ("BAYERPAT has 36 letters that are no X-Trans pattern; taken as mono.",)


@pytest.mark.parametrize(
    "cards, moment",
    [
        ({"DATE__OBS": "2018-09-07T22:31:45.431"}, datetime(2018, 9, 7, 22, 31, 45, 431000, UTC)),
        ({"DATE__OBS": "2025-03-27T01:20:32.9553681"}, datetime(2025, 3, 27, 1, 20, 32, 955368, UTC)),
        ({"DATE__OBS": "2024-01-02 03:04:05Z"}, datetime(2024, 1, 2, 3, 4, 5, 0, UTC)),
        ({"DATE__OBS": "2024-01-02T03:04:05+02:00"}, datetime(2024, 1, 2, 1, 4, 5, 0, UTC)),
        ({"DATE__OBS": "2024-01-02T23:59:60.5"}, datetime(2024, 1, 3, 0, 0, 0, 500000, UTC)),
        ({"DATE__OBS": "2024-01-02", "TIME__OBS": "03:04:05.25"}, datetime(2024, 1, 2, 3, 4, 5, 250000, UTC)),
        ({"DATE__OBS": "26/07/99", "UT": "19:36:37"}, datetime(1999, 7, 26, 19, 36, 37, 0, UTC)),
        ({"DATE__OBS": "26/07/102", "TIME__OBS": "19:36:37"}, datetime(2002, 7, 26, 19, 36, 37, 0, UTC)),
        ({"DATE__OBS": "2024-02-30T00:00:00"}, None),
        ({"DATE__OBS": "yesterday", "DATE__BEG": "2024-01-02T00:00:00"}, datetime(2024, 1, 2, tzinfo=UTC)),
        ({"DATE__OBS": "2024:01:02 03:04:05"}, datetime(2024, 1, 2, 3, 4, 5, 0, UTC)),
        ({"DATE__OBS": ""}, None),
        ({}, None),
    ],
)
def test_date(cards: dict[str, object], moment: datetime | None) -> None:
    assert info_of(**cards).date_obs == moment


def test_bad_date_is_told() -> None:
    assert info_of(DATE__OBS="2024-02-30T00:00:00").oddities == (
        "DATE-OBS = '2024-02-30T00:00:00' is no date that we can read; ignored.",
    )


def test_julian_date_serves_when_nothing_else_does() -> None:
    moment = info_of(JD=2457383.7683333335).date_obs
    assert moment is not None
    assert abs((moment - datetime(2015, 12, 27, 6, 26, 24, tzinfo=UTC)).total_seconds()) < 0.01


@pytest.mark.parametrize(
    "cards, seconds",
    [
        ({"EXPTIME": 6.0}, 6.0),
        ({"EXPOSURE": "10"}, 10.0),
        ({"EXPOINUS": 64}, 64e-6),
        ({"EXPTIME": "0,005"}, 0.005),
        ({"EXPTIME": -1, "EXPOSURE": 2}, 2.0),
        ({"EXPTIME": float("nan")}, None),
        ({"EXPTIME": True}, None),
        ({"EXPTIME": "long"}, None),
        ({"EXPTIME": 0}, 0.0),
    ],
)
def test_exposure(cards: dict[str, object], seconds: float | None) -> None:
    assert info_of(**cards).exposure_s == pytest.approx(seconds)


def test_names_that_name_nothing() -> None:
    info = info_of(OBJECT="Unknown ", FILTER="None", TELESCOP="   ", INSTRUME="ZWO ASI")
    assert (info.object_name, info.filter_name, info.telescope, info.camera) == (None, None, None, "ZWO ASI")
    assert "OBJECT" not in {card[0] for card in info.cards}


def test_camera_words() -> None:
    info = info_of(GAIN="100", OFFSET=9, CCD__TEMP=-273.15, SET__TEMP=-10, XBINNING=2, YBINNING=3)
    assert (info.gain, info.offset, info.temperature_c, info.binning) == (100, 9, -10, (2, 3))
    assert info_of(CCDSUM="2 4").binning == (2, 4)
    assert info_of(XBINNING=0).binning == (1, 1)


@pytest.mark.parametrize(
    "cards, scale",
    [
        ({"XPIXSZ": 3.75, "FOCALLEN": 510.0}, 206.264806 * 3.75 / 510),
        ({"PIXSIZE1": 3.75, "XBINNING": 2, "FOCALLEN": 510.0}, 206.264806 * 7.5 / 510),
        ({"SCALE": 1.25, "XPIXSZ": 3.75, "FOCALLEN": 510.0}, 1.25),
        ({"CTYPE1": "RA---TAN", "CD1_1": 0.0, "CD1_2": 3e-4, "CD2_1": -3e-4, "CD2_2": 0.0}, 1.08),
        ({"CTYPE1": "RA---TAN", "CDELT1": -5e-4, "CDELT2": 5e-4}, 1.8),
        ({"CDELT1": 1.0}, None),
        ({"XPIXSZ": 3.75, "FOCALLEN": 0}, None),
    ],
)
def test_sampling(cards: dict[str, object], scale: float | None) -> None:
    assert info_of(**cards).scale_arcsec_px == pytest.approx(scale)


@pytest.mark.parametrize(
    "cards, position",
    [
        ({"RA": 193.04166, "DEC": 40.970556}, (193.04166, 40.970556)),
        ({"RA": " 15:28:35.7", "DEC": " -0:30:00.0"}, (15 * (15 + 28 / 60 + 35.7 / 3600), -0.5)),
        ({"OBJCTRA": "19 59 41.99", "OBJCTDEC": "22 43 19.37"}, (299.92495833, 22.72204722)),
        ({"RA": "here", "DEC": "there", "CTYPE1": "RA---TAN", "CRVAL1": 10.0, "CRVAL2": -5.0}, (10.0, -5.0)),
        ({"RA": 10.0, "DEC": 95.0}, (None, None)),
    ],
)
def test_pointing(cards: dict[str, object], position: tuple[float | None, float | None]) -> None:
    info = info_of(**cards)
    assert (info.ra_deg, info.dec_deg) == (pytest.approx(position[0]), pytest.approx(position[1]))


def test_sexagesimal_nonsense_is_none() -> None:
    assert [sexagesimal(text) for text in ("", "12", "1 61 0", "M 31 7", "1:2:3:4")] == [None] * 5


def test_saturation_of_a_shallow_converter() -> None:
    info = info_of(BITDEPTH=12)
    assert info.saturation_adu == 4095
    right = np.array([[4095, 7]], np.uint16)
    assert correct_saturation(info, right, 12).saturation_adu == 4095
    assert correct_saturation(info, right << 4, 12).saturation_adu == 65520
    assert info_of(SATURATE=60000, BITDEPTH=12).saturation_adu == 60000


def test_pedestal() -> None:
    assert info_of(PEDESTAL=-100).pedestal_adu == 100
    assert info_of(PEDESTAL=0).pedestal_adu is None


def cards_of(*lines: str) -> Cards:
    return parse_cards("".join(line.ljust(80) for line in (*lines, "END")).encode("latin-1"))


def test_cards_of_every_kind() -> None:
    cards = cards_of(
        "SIMPLE  =                    T / ok",
        "WHOLE   =                  -12 / whole",
        "REAL    =              1.5D-03 / Fortran",
        "TEXT    = 'It''s / here'       / comment",
        "OPEN    = 'no closing quote",
        "EMPTY   =",
        "COMMENT = 'is no value'",
        "HIERARCH ESO DET GAIN = 3.5 / long name",
        "LONG    = 'begun &'",
        "CONTINUE  'and ended' / more",
        "WHOLE   =                   99 / again",
    )
    values = {keyword: value for keyword, value, _ in cards}
    assert values == {
        "SIMPLE": True,
        "WHOLE": -12,
        "REAL": 1.5e-3,
        "TEXT": "It's / here",
        "OPEN": "no closing quote",
        "ESO DET GAIN": 3.5,
        "LONG": "begun and ended",
    }
    assert cards.oddities == []


def test_utf8_and_latin1_are_both_read() -> None:
    assert cards_of("OBSERVER= 'José'").text("OBSERVER") == "José"
    assert parse_cards("OBSERVER= 'José'".encode().ljust(80)).text("OBSERVER") == "José"
