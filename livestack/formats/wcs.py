"""A world coordinate system in a header: reading it, and carrying it through a transform of the pixels.

A WCS of FITS (Greisen & Calabretta 2002, doi:10.1051/0004-6361:20021326) maps pixels (1-based in its cards) to the sky.
Under an affine map of the pixels it stays exact: the reference pixel moves with the map and the CD matrix takes its
inverse. SIP distortion (Shupe et al. 2005) is counted from the reference pixel, so it survives shifts; under rotation
or scale it is dropped, and a sentence says so.
"""

from __future__ import annotations

import re
import warnings

import numpy as np
from astropy.io.fits import Card, Header
from astropy.io.fits.verify import VerifyError, VerifyWarning
from astropy.wcs import WCS, FITSFixedWarning

Cards = tuple[tuple[str, str | int | float | bool, str], ...]

_LINEAR = re.compile(
    r"(CTYPE|CRVAL|CRPIX|CDELT|CROTA|CUNIT|CD|PC|PV|LONPOLE|LATPOLE|WCSAXES|WCSNAME|RADESYS|RADECSYS|EQUINOX)"
    r"(\d+(_\d+)?)?"
)
_SIP = re.compile(r"(A|B|AP|BP)_(ORDER|DMAX|\d+_\d+)")


def is_wcs_card(keyword: str) -> bool:
    """Whether a card belongs to the WCS."""
    return _LINEAR.fullmatch(keyword) is not None or _SIP.fullmatch(keyword) is not None


def read_wcs(cards: Cards) -> WCS | None:
    """The celestial WCS among cards, or None when there is none or it cannot be understood."""
    header = Header()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FITSFixedWarning)
        warnings.simplefilter("ignore", VerifyWarning)
        try:
            for keyword, value, comment in cards:
                if is_wcs_card(keyword):
                    header[keyword] = (value, comment)
            if "CTYPE1" not in header or "CTYPE2" not in header:
                return None
            wcs = WCS(header, naxis=2)
            return wcs if wcs.has_celestial and np.linalg.det(wcs.pixel_scale_matrix) else None
        except (ValueError, TypeError, KeyError, AttributeError, VerifyError, np.linalg.LinAlgError):
            # A header from a capture program may hold anything; a WCS is a convenience, its loss no error.
            return None


def wcs_cards(cards: Cards, transform: np.ndarray) -> tuple[Cards, str | None]:
    """Carry the WCS among cards to another pixel grid.

    Parameters
    ----------
    cards : (keyword, value, comment), as in `FrameInfo.cards`.
    transform : (3, 3), old (x, y, 1) to new (x, y, 1), 0-based; the last row must be (0, 0, 1).

    Returns
    -------
    All cards, the WCS among them replaced (at the end, as a CD matrix), and a sentence when something had to be left
    out. Cards without a usable WCS come back without any WCS card: a wrong position is worse than none.

    Raises
    ------
    ValueError : `transform` is no invertible affine map.
    """
    transform = np.asarray(transform, dtype=float)
    if transform.shape != (3, 3) or not np.allclose(transform[2], (0, 0, 1)) or not abs(np.linalg.det(transform)) > 0:
        raise ValueError(f"transform: expected an invertible affine 3 x 3 matrix, found {transform.tolist()}.")
    others = tuple(card for card in cards if not is_wcs_card(card[0]))
    if len(others) == len(cards):
        return others, None
    wcs = read_wcs(cards)
    if wcs is None:
        return others, "The WCS in the header could not be understood and was left out."
    linear = transform[:2, :2]
    crpix = linear @ (wcs.wcs.crpix - 1) + transform[:2, 2] + 1
    cd = wcs.pixel_scale_matrix @ np.linalg.inv(linear)
    note = None
    sip: Cards = ()
    ctype = [str(name) for name in wcs.wcs.ctype]
    if wcs.sip is not None:
        if np.allclose(linear, np.eye(2), atol=1e-9):
            sip = tuple(card for card in cards if _SIP.fullmatch(card[0]))
        else:
            ctype = [name.removesuffix("-SIP") for name in ctype]
            note = "The distortion terms (SIP) of the WCS were left out: they do not survive a rotation or scale."
    new: list[tuple[str, str | int | float | bool, str]] = [("WCSAXES", 2, "number of axes")]
    for axis in (1, 2):
        new += [
            (f"CTYPE{axis}", ctype[axis - 1], "projection"),
            (f"CUNIT{axis}", "deg", "unit"),
            (f"CRVAL{axis}", float(wcs.wcs.crval[axis - 1]), "[deg] sky at the reference pixel"),
            (f"CRPIX{axis}", float(crpix[axis - 1]), "reference pixel, 1-based"),
        ]
    new += [(f"CD{i + 1}_{j + 1}", float(cd[i, j]), "[deg/px]") for i in range(2) for j in range(2)]
    kept = ("LONPOLE", "LATPOLE", "RADESYS", "EQUINOX")
    new += [card for card in cards if card[0] in kept or card[0].startswith("PV")]
    return others + tuple(new) + sip, note


def parse_header(data: bytes) -> Cards:
    """Cards of a `.wcs` file: a FITS header (astrometry.net) or the same as lines of text (ASTAP)."""
    text = data.decode("latin-1")
    lines = text.splitlines() if "\n" in text else [text[i : i + 80] for i in range(0, len(text), 80)]
    cards: list[tuple[str, str | int | float | bool, str]] = []
    for line in lines:
        if line[8:10] != "= ":
            if line.strip() == "END":
                break
            continue
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", VerifyWarning)
            card = Card.fromstring(line.ljust(80)[:80])
            try:
                if isinstance(card.value, (str, int, float, bool)):
                    cards.append((card.keyword, card.value, card.comment))
            except (VerifyError, ValueError):
                # One unreadable card, for instance of a comment with odd characters, costs only itself.
                continue
    return tuple(cards)
