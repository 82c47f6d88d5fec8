"""From header cards to `FrameInfo`: what the keywords of the capture programs mean.

N.I.N.A., Ekos, SharpCap, ASIAIR, MaxIm DL, Seestar and observatories name the same things differently; each question
here asks their names in order and takes the first sensible answer. Nothing raises: what makes no sense is left out and
noted in `FrameInfo.oddities`. EXIF, SER and XISF readers bring their fields here as cards of the same names.

Sources: FITS standard 4.0; SBFITSEXT 1.0 (Diffraction Limited); N.I.N.A., INDI and SharpCap documentation of keywords.
"""

from __future__ import annotations

import math
import re
import unicodedata
from dataclasses import replace

import numpy as np

from livestack.base.frame import BAYER_PATTERNS, FrameInfo, FrameKind
from livestack.formats.cards import Cards, Value
from livestack.formats.dates import find_date

_CARRIED = re.compile(
    r"(OBJECT|FILTER|INSTRUME|TELESCOP|OBSERVER|SITE[A-Z]{0,4}|[XY]PIXSZ|[XY]BINNING|FOCALLEN|GAIN|OFFSET|EGAIN"
    r"|APTDIA|(LAT|LONG|ALT)-OBS|OBS-(LAT|LONG|ELEV)|OBSGEO-[BLHXYZ]|GEO_(LAT|LONG|ELEV)|LATITUDE|LONGITUD"
    r"|CCD-TEMP|SET-TEMP|RA|DEC|OBJCTRA|OBJCTDEC|EQUINOX|RADESYS|RADECSYS|ROWORDER"
    r"|WCSAXES|(CTYPE|CRVAL|CRPIX|CDELT|CROTA|CUNIT)[12]|(CD|PC)[12]_[12]|LONPOLE|LATPOLE"
    r"|[AB]P?_(ORDER|DMAX|\d_\d)|P[CV][12]_\d{1,2})\Z"
)
_NAMELESS = {"", "unknown", "none", "n/a", "na", "-", "object", "undefined", "no object", "not set", "null"}
_NO_FILTER = {"", "unknown", "none", "n/a", "-", "no filter", "undefined", "null"}
_BAYER_KEYS = ("BAYERPAT", "BAYRPAT", "CFAPAT", "CFA-PAT", "CFAPATTERN", "COLORTYP", "CFATYPE", "MOSAIC", "XTRANS")
_KIND_KEYS = ("IMAGETYP", "FRAME", "IMAGETYPE", "FRAMETYP", "PICTTYPE", "OBSTYPE")
_SBIG_KINDS = {1: FrameKind.LIGHT, 2: FrameKind.BIAS, 3: FrameKind.DARK, 4: FrameKind.FLAT}
_BINNING_KEYS = (("XBINNING", "YBINNING"), ("CCDXBIN", "CCDYBIN"), ("XFACTOR", "YFACTOR"), ("BINX", "BINY"))
_ADC_KEYS = ("ADCBITS", "ADCDEPTH", "BITDEPTH", "DATABITS", "CAMBITS")


def describe(cards: Cards, width: int, height: int, planes: int, bits: int, saturation_adu: float | None) -> FrameInfo:
    """What the cards say about a frame of known size.

    Parameters
    ----------
    planes : 1 (mono or mosaic) or 3 (colour).
    bits : bits of a stored sample.
    saturation_adu : where the stored type clips, used unless the cards know better.
    """
    binning = _binning(cards)
    pixel_um = _pixel_um(cards, binning[0])
    focal_mm = _positive(cards, "FOCALLEN", "FOCAL", "TELFOCAL")
    ra_deg, dec_deg = _position(cards)
    kind, called_master = _kind(cards)
    bottom_up = (cards.text("ROWORDER", "ROW-ORDER") or "").upper().replace("_", "-") == "BOTTOM-UP"
    mosaic = _mosaic(cards, height, bottom_up) if planes == 1 else None
    info = FrameInfo(
        width=width,
        height=height,
        planes=planes,
        kind=kind,
        bayer=mosaic if mosaic and len(mosaic) == 4 else None,
        xtrans=mosaic if mosaic and len(mosaic) == 36 else None,
        bottom_up=bottom_up,
        bits=bits,
        saturation_adu=_saturation(cards, bits, saturation_adu),
        pedestal_adu=_pedestal(cards),
        exposure_s=_exposure_s(cards),
        date_obs=find_date(cards),
        object_name=_name(cards, _NAMELESS, "OBJECT", "OBJNAME", "TARGET"),
        filter_name=_name(cards, _NO_FILTER, "FILTER", "FILTER1", "FILTNAM", "FILTERNA"),
        camera=cards.text("INSTRUME", "CAMERA", "DETECTOR"),
        telescope=cards.text("TELESCOP"),
        gain=cards.number("GAIN", "ISOSPEED", "GAINRAW"),
        offset=cards.number("OFFSET", "BLKLEVEL", "BRIGHTNE"),
        temperature_c=_temperature_c(cards),
        binning=binning,
        pixel_um=pixel_um,
        focal_mm=focal_mm,
        scale_arcsec_px=_scale(cards, pixel_um, focal_mm),
        ra_deg=ra_deg,
        dec_deg=dec_deg,
        is_master=called_master or any((cards.number(key) or 0) > 1 for key in ("NCOMBINE", "STACKCNT")),
        cards=carried_cards(cards),
    )
    return replace(info, oddities=tuple(cards.oddities))


def carried_cards(cards: Cards) -> tuple[tuple[str, Value, str], ...]:
    """The cards worth carrying to the result, made fit for a strict FITS header (ASCII, finite numbers)."""
    carried = []
    for keyword, value, comment in cards:
        if not _CARRIED.match(keyword):
            continue
        if isinstance(value, str):
            value = _ascii(value).strip()
            if not value:
                continue
        elif not abs(value) < (1e300 if isinstance(value, float) else 2**62):
            continue
        if keyword == "OBJECT" and str(value).lower() in _NAMELESS:
            continue
        if keyword == "RADECSYS":  # its name before FITS 3.0
            if "RADESYS" in cards:
                continue
            keyword = "RADESYS"
        used = max(30, 12 + len(value.replace("'", "''"))) if isinstance(value, str) else 30
        carried.append((keyword, value, _ascii(comment)[: max(0, 77 - used)].strip()))
    return tuple(carried)


def stored_pattern(pattern: str, x: int, y: int, height: int | None) -> str:
    """The pattern, 2 x 2 or 6 x 6, of the stored rows; `height` of a file that is bottom-up, else None.

    A pattern names the upright picture, seen from pixel (x, y); rows of a bottom-up file run the other way.
    """
    side = math.isqrt(len(pattern))
    rows = [row if height is None else height - 1 - row for row in range(side)]
    return "".join(pattern[side * ((row + y) % side) + (column + x) % side] for row in rows for column in range(side))


def _ascii(text: str) -> str:
    plain = unicodedata.normalize("NFKD", text).encode("ascii", "ignore").decode("ascii")
    return "".join(character if " " <= character <= "~" else " " for character in plain)


def _positive(cards: Cards, *keywords: str) -> float | None:
    number = cards.number(*keywords)
    return number if number is not None and number > 0 else None


def _name(cards: Cards, nameless: set[str], *keywords: str) -> str | None:
    text = cards.text(*keywords)
    return None if text is None or text.lower() in nameless else text


def _kind(cards: Cards) -> tuple[FrameKind, bool]:
    """Kind of the frame, and whether it is called a master."""
    for keyword in _KIND_KEYS:
        value = cards.get(keyword)
        if keyword == "PICTTYPE" and isinstance(value, int) and value in _SBIG_KINDS:
            return _SBIG_KINDS[value], False
        word = re.sub("[^a-z]", "", str(value).lower()) if isinstance(value, str) else ""
        master = "master" in word
        if "flatdark" in word or "darkflat" in word:
            return FrameKind.DARK_FLAT, master
        if "bias" in word or "zero" in word or word.startswith("offset"):
            return FrameKind.BIAS, master
        if "dark" in word:
            return FrameKind.DARK, master
        if "flat" in word:
            return FrameKind.FLAT, master
        if "light" in word or word in ("object", "science", "target", "sci"):
            return FrameKind.LIGHT, master
        if master:
            return FrameKind.UNKNOWN, True
    return FrameKind.UNKNOWN, False


def _is_xtrans(pattern: str) -> bool:
    """36 letters as Fujifilm lays them: 20 green, 8 red and 8 blue, each colour in every row and column."""
    lines = [pattern[k : k + 6] for k in range(0, 36, 6)] + [pattern[k::6] for k in range(6)]
    return [pattern.count(c) for c in "RGB"] == [8, 20, 8] and all(set(line) == set("RGB") for line in lines)


def _mosaic(cards: Cards, height: int, bottom_up: bool) -> str | None:
    """Colours of the stored pixels of the mosaic's cell, row by row: 4 letters, or 36 of an X-Trans."""
    for keyword in _BAYER_KEYS:
        value = cards.get(keyword)
        if not isinstance(value, str):
            continue
        pattern = re.sub("[^A-Z]", "", value.upper())
        if pattern in BAYER_PATTERNS or (len(pattern) == 36 and _is_xtrans(pattern)):
            x, y = (cards.whole(key) or 0 for key in ("XBAYROFF", "YBAYROFF"))
            return stored_pattern(pattern, x, y, height if bottom_up else None)
        if len(pattern) == 36 and set(pattern) <= set("RGB"):
            cards.note(f"{keyword} has 36 letters that are no X-Trans pattern; taken as mono.")
        if len(pattern) == 4 and set(pattern) <= set("CMYGRB") and keyword.startswith(("BAY", "CFA")):
            cards.note(f"{keyword} = '{value.strip()}' is no Bayer pattern that we know; taken as mono.")
    return None


def _saturation(cards: Cards, bits: int, type_limit: float | None) -> float | None:
    declared = _positive(cards, "SATURATE", "SATLEVEL", "MAXADU", "DATAMAX")
    if declared is not None:
        return declared
    depth = adc_bits(cards)
    if depth is not None and depth < bits <= 16:
        return float(2**depth - 1)
    return type_limit


def adc_bits(cards: Cards) -> int | None:
    """Depth of the camera's converter where the header tells it, 8 to 16."""
    for keyword in _ADC_KEYS:
        depth = cards.whole(keyword)
        if depth is not None and 8 <= depth <= 16:
            return depth
    return None


def correct_saturation(info: FrameInfo, data: np.ndarray, depth: int | None) -> FrameInfo:
    """A 12-bit camera may store its values shifted to the top of 16 bits: then they clip at 65520, not 4095."""
    if (
        depth is None
        or depth >= info.bits
        or info.saturation_adu != 2**depth - 1
        or data.dtype.kind == "f"
        or data.max() < 2**depth
    ):
        return info
    return replace(info, saturation_adu=float((2**depth - 1) << max(0, info.bits - depth)))


def _pedestal(cards: Cards) -> float | None:
    """Constant in the pixels that stands for no light (`PEDESTAL` in FITS is what to *add* to reach zero)."""
    black = cards.number("BLACKLEV")
    if black is not None:
        return black
    pedestal = cards.number("PEDESTAL")
    return -pedestal if pedestal else None


def _exposure_s(cards: Cards) -> float | None:
    for keyword, factor in (
        ("EXPTIME", 1.0),
        ("EXPOSURE", 1.0),
        ("EXP_TIME", 1.0),
        ("EXPOSED", 1.0),
        ("ITIME", 1.0),
        ("EXPOINUS", 1e-6),
        ("EXPTIMEU", 1e-6),
        ("EXPMS", 1e-3),
    ):
        number = cards.number(keyword)
        if number is None:
            continue
        if number >= 0:
            return number * factor
        cards.note(f"{keyword} = {number:g} is no exposure time; ignored.")
    return None


def _temperature_c(cards: Cards) -> float | None:
    for keyword in ("CCD-TEMP", "CCD_TEMP", "CCDTEMP", "CAMTEMP", "DET-TEMP", "SENSTEMP", "SET-TEMP"):
        number = cards.number(keyword)
        if number is not None and -200 < number < 150:
            return number
    return None


def _binning(cards: Cards) -> tuple[int, int]:
    for along_x, along_y in _BINNING_KEYS:
        x = cards.whole(along_x)
        if x is not None and 1 <= x <= 64:
            y = cards.whole(along_y)
            return x, y if y is not None and 1 <= y <= 64 else x
    text = cards.text("BINNING", "CCDSUM")
    found = re.findall(r"\d+", text or "")
    if 1 <= len(found) <= 2 and all(1 <= int(number[:3]) <= 64 for number in found):
        return int(found[0]), int(found[-1])
    return 1, 1


def _pixel_um(cards: Cards, binning: int) -> float | None:
    """Size of a stored pixel: XPIXSZ counts the binning in, PIXSIZE1 (INDI) does not."""
    binned = _positive(cards, "XPIXSZ", "XPIXELSZ")
    if binned is not None:
        return binned
    single = _positive(cards, "PIXSIZE1", "PIXSIZE", "PIXELSZ")
    return None if single is None else single * binning


def _scale(cards: Cards, pixel_um: float | None, focal_mm: float | None) -> float | None:
    """Sampling in arcseconds a pixel: solved, stated, or derived from pixel and focal length."""
    candidates: list[tuple[str, float]] = []
    if (cards.text("CTYPE1") or "").upper().startswith(("RA", "DEC", "GLON")):
        cd = [cards.number(key) for key in ("CD1_1", "CD1_2", "CD2_1", "CD2_2")]
        if any(cd):
            a, b, c, d = (number or 0.0 for number in cd)
            candidates.append(("CD", abs(a * d - b * c) ** 0.5 * 3600))
        elif (step := cards.number("CDELT1")) and abs(step) != 1.0:
            candidates.append(("CDELT1", abs(step) * 3600))
    for keyword in ("SCALE", "PIXSCALE", "SECPIX", "SECPIX1", "PIXSCAL1"):
        if number := cards.number(keyword):
            candidates.append((keyword, number))
    if pixel_um and focal_mm:
        candidates.append(("FOCALLEN", 206.264806 * pixel_um / focal_mm))
    for source, scale in candidates:
        if 1e-3 < scale < 2000:
            return scale
        cards.note(f"{source} gives {scale:g} arcseconds a pixel, which no telescope has; ignored.")
    return None


def sexagesimal(text: str) -> float | None:
    """'19 59 41.99', '-0:00:25.1', '12h50m53s' to a number in the unit of its first part; None if it is none."""
    parts = re.findall(r"\d+(?:[.,]\d*)?", text)
    if not 2 <= len(parts) <= 3 or not re.fullmatch(r"\s*[+-]?\d[\d\s:.,hmsd°'\"′″]+", text, re.IGNORECASE):
        return None
    numbers = [float(part[:20].replace(",", ".")) for part in parts]
    if any(number >= 60 for number in numbers[1:]):
        return None
    total = sum(number / 60**power for power, number in enumerate(numbers))
    return -total if text.strip().startswith("-") else total


def _position(cards: Cards) -> tuple[float | None, float | None]:
    """Pointing in degrees; a sexagesimal right ascension is in hours, a plain number in degrees."""
    for ra_key, dec_key in (("RA", "DEC"), ("OBJCTRA", "OBJCTDEC"), ("CRVAL1", "CRVAL2")):
        if ra_key == "CRVAL1" and not (cards.text("CTYPE1") or "").upper().startswith("RA"):
            continue
        ra, dec = _degrees(cards, ra_key, 15.0), _degrees(cards, dec_key, 1.0)
        if ra is not None and dec is not None and -360 <= ra <= 360 and -90 <= dec <= 90:
            return ra % 360.0, dec
    return None, None


def _degrees(cards: Cards, keyword: str, hours: float) -> float | None:
    number = cards.number(keyword)
    if number is not None:
        return number
    text = cards.text(keyword)
    parsed = sexagesimal(text) if text else None
    return None if parsed is None else parsed * hours
