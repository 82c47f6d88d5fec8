"""Where in the sky: carrying a world coordinate system through a transform, solving for one, naming what it shows.

A WCS of FITS (Greisen & Calabretta 2002, doi:10.1051/0004-6361:20021326) maps pixels (1-based in its cards) to the sky.
Under an affine map of the pixels it stays exact: the reference pixel moves with the map and the CD matrix takes its
inverse. SIP distortion (Shupe et al. 2005) is counted from the reference pixel, so it survives shifts; under rotation
or scale it is dropped, and a sentence says so.

Solving is left to a program that is installed anyway, ASTAP or astrometry.net; object names come from `pyongc`
(OpenNGC) where that is installed. This module runs programs, with a time limit; it writes in a temporary folder only.
"""

from __future__ import annotations

import importlib.util
import math
import re
import shutil
import subprocess
import tempfile
import warnings
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from astropy.io.fits import Card, Header
from astropy.io.fits.verify import VerifyError, VerifyWarning
from astropy.wcs import WCS, FITSFixedWarning

from livestack.base.errors import FrameError

Cards = tuple[tuple[str, str | int | float | bool, str], ...]

SOLVERS = ("astap_cli", "astap", "solve-field")
_LINEAR = re.compile(
    r"(CTYPE|CRVAL|CRPIX|CDELT|CROTA|CUNIT|CD|PC|PV|LONPOLE|LATPOLE|WCSAXES|WCSNAME|RADESYS|RADECSYS|EQUINOX)"
    r"(\d+(_\d+)?)?"
)
_SIP = re.compile(r"(A|B|AP|BP)_(ORDER|DMAX|\d+_\d+)")


@dataclass(frozen=True)
class PlateSolution:
    """What a solver found: WCS cards of the picture it was shown, and a sentence about it."""

    cards: Cards
    solver: str
    sentence: str


@dataclass(frozen=True)
class ObjectLabel:
    """A named object in the picture: centre in pixels (0-based, as stored), and its larger axis in pixels or None."""

    name: str
    x: float
    y: float
    size_px: float | None


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


def solve_plate(
    image: Path,
    ra_deg: float | None = None,
    dec_deg: float | None = None,
    scale_arcsec_px: float | None = None,
    height_px: int | None = None,
    timeout_s: float = 120.0,
) -> tuple[PlateSolution | None, str]:
    """Ask an installed solver where a picture points.

    Parameters
    ----------
    image : a FITS file (or PNG, JPEG); it is only read.
    ra_deg, dec_deg, scale_arcsec_px : what is known beforehand; makes it fast.
    height_px : height of the picture, from which with the scale follows the field that ASTAP asks for.
    timeout_s : after so long the solver is stopped.

    Returns
    -------
    The solution, or None; and a sentence on what happened. Without a solver, or without success, nothing is raised.
    """
    solver = next((path for name in SOLVERS if (path := shutil.which(name))), None)
    if solver is None:
        looked = ", ".join(SOLVERS)
        return None, f"No plate solver was found ({looked}); install ASTAP (astap_cli) or astrometry.net."
    name = Path(solver).name
    with tempfile.TemporaryDirectory(prefix="livestack-solve-") as folder:
        base = Path(folder) / "solved"
        if name == "solve-field":
            command = _astrometry_command(solver, image, base, ra_deg, dec_deg, scale_arcsec_px, timeout_s)
        else:
            command = _astap_command(solver, image, base, ra_deg, dec_deg, scale_arcsec_px, height_px)
        try:
            done = subprocess.run(command, capture_output=True, timeout=timeout_s, check=False, cwd=folder)
        except subprocess.TimeoutExpired:
            return None, f"{name} was stopped after {timeout_s:g} s without a solution of {image.name}."
        except OSError as error:
            return None, f"{name} could not be started: {error.strerror}."
        found = base.with_suffix(".wcs")
        if not found.exists():
            return None, f"{name} found no solution for {image.name} (exit status {done.returncode})."
        cards = parse_header(found.read_bytes())
    wcs = read_wcs(cards)
    if wcs is None:
        return None, f"{name} wrote a WCS for {image.name} that cannot be understood."
    ra, dec = (float(v) for v in wcs.wcs.crval)
    scale = 3600 * math.sqrt(abs(float(np.linalg.det(wcs.pixel_scale_matrix))))
    sentence = f"{name} solved {image.name}: RA {ra:.4f} deg, Dec {dec:+.4f} deg, {scale:.3f} arcsec per pixel."
    return PlateSolution(tuple(card for card in cards if is_wcs_card(card[0])), name, sentence), sentence


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


def label_objects(cards: Cards, width: int, height: int, limit: int = 30) -> list[ObjectLabel]:
    """Name the deep-sky objects in the picture, the largest first.

    Messier, NGC and IC objects from OpenNGC; Messier numbers and common names are preferred. The list is empty where
    `pyongc` is not installed.

    Raises
    ------
    FrameError : the cards hold no usable WCS.
    """
    wcs = read_wcs(cards)
    if wcs is None:
        raise FrameError("Object names need a WCS, and the header has none that can be used; solve the picture first.")
    if importlib.util.find_spec("pyongc") is None:
        return []
    from pyongc import ongc

    centre = np.array(wcs.all_pix2world([[(width - 1) / 2, (height - 1) / 2]], 0)[0])
    scale_deg = math.sqrt(abs(float(np.linalg.det(wcs.pixel_scale_matrix))))
    radius = 0.5 * math.hypot(width, height) * scale_deg
    labels = []
    for item in _catalogue_around(ongc, float(centre[0]), float(centre[1]), radius):
        if item.rad_coords is None:
            continue
        ra, dec = np.degrees(item.rad_coords)
        if _separation_deg(ra, dec, *centre) > min(radius * 1.05, 89.0):
            continue
        # The inverse of distortion terms may not converge far outside; the linear part is enough for a label.
        x, y = wcs.wcs_world2pix([[ra, dec]], 0)[0]
        if not (0 <= x < width and 0 <= y < height):
            continue
        major = item.dimensions[0]
        size = None if major is None else float(major) / 60 / scale_deg
        labels.append(ObjectLabel(_spoken_name(item), float(x), float(y), size))
    labels.sort(key=lambda label: (-(label.size_px or 0.0), label.name))
    return labels[:limit]


def _catalogue_around(ongc, ra: float, dec: float, radius: float) -> list:  # type: ignore[no-untyped-def]
    """Catalogue entries in a box on the sky that holds the circle; the box may run over 0 h or a pole."""
    low, high = max(-90.0, dec - radius), min(90.0, dec + radius)
    if max(abs(low), abs(high)) > 85:
        spans = [(-1.0, 361.0)]
    else:
        reach = min(180.0, radius / math.cos(math.radians(max(abs(low), abs(high)))))
        spans = [(ra - reach, ra + reach)]
        if spans[0][0] < 0:
            spans.append((spans[0][0] + 360, 361.0))
        if spans[0][1] > 360:
            spans.append((-1.0, spans[0][1] - 360))
    found = {}
    for start, stop in spans:
        for item in ongc.listObjects(minra=start, maxra=stop, mindec=low - 0.01, maxdec=high + 0.01):
            if (
                "Duplicate" not in item.type
                and "star" not in item.type.lower().split()
                and item.type != "Nonexistent object"
            ):
                found[item.name] = item
    return list(found.values())


def _separation_deg(ra1: float, dec1: float, ra2: float, dec2: float) -> float:
    a1, d1, a2, d2 = (math.radians(v) for v in (ra1, dec1, ra2, dec2))
    haversine = math.sin((d2 - d1) / 2) ** 2 + math.cos(d1) * math.cos(d2) * math.sin((a2 - a1) / 2) ** 2
    return math.degrees(2 * math.asin(min(1.0, math.sqrt(haversine))))


def _spoken_name(item) -> str:  # type: ignore[no-untyped-def]
    messier, _, _, common, _ = item.identifiers
    number = f"M {int(messier[1:])}" if messier else re.sub(r"^(NGC|IC)0*(\d+.*)$", r"\1 \2", item.name)
    return f"{number} ({common[0]})" if common else number


def _astap_command(
    solver: str, image: Path, base: Path, ra: float | None, dec: float | None, scale: float | None, height: int | None
) -> list[str]:
    command = [solver, "-f", str(image), "-o", str(base), "-wcs"]
    if scale is not None and height is not None:
        command += ["-fov", f"{scale * height / 3600:.4f}"]
    if ra is not None and dec is not None:
        command += ["-ra", f"{ra / 15:.6f}", "-spd", f"{dec + 90:.6f}", "-r", "30"]
    else:
        command += ["-r", "180"]
    return command


def _astrometry_command(
    solver: str, image: Path, base: Path, ra: float | None, dec: float | None, scale: float | None, timeout_s: float
) -> list[str]:
    command = [solver, "--overwrite", "--no-plots", "--dir", str(base.parent), "--wcs", f"{base}.wcs"]
    command += ["--new-fits", "none", "--cpulimit", f"{max(1, round(timeout_s))}"]
    if scale is not None:
        command += ["--scale-units", "arcsecperpix", "--scale-low", f"{0.8 * scale:.5f}"]
        command += ["--scale-high", f"{1.2 * scale:.5f}"]
    if ra is not None and dec is not None:
        command += ["--ra", f"{ra:.6f}", "--dec", f"{dec:.6f}", "--radius", "10"]
    return [*command, str(image)]
