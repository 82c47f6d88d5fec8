"""Light curves of a finished session, read back: `stars.csv` and `lightcurves.csv` (or `.fits`) of a group.

The table of stars is read whole; of the curves only the lines of the star that is asked for are kept. Which star is
meant is found here too: by its number, its place in the picture or in the sky. What is written of it: `curve_files`.
"""

from __future__ import annotations

import csv
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from astropy.io import fits

from livestack.astrometry.objects import separation_deg
from livestack.base.errors import UsageError
from livestack.formats.wcs import read_wcs

STARS, CURVES, CURVES_FITS = "stars.csv", "lightcurves.csv", "lightcurves.fits"
STAR_COLUMNS = (
    "star", "x", "y", "ra_deg", "dec_deg", "g_mag", "n", "mag", "rms_mmag", "expected_mmag", "variability",
)  # fmt: skip
CURVE_COLUMNS = (
    "star", "file", "index", "jd_utc_mid", "bjd_tdb", "airmass", "flux_adu", "mag", "mag_err", "flag",
)  # fmt: skip
COLOUR_COLUMNS = ("star", "file", "index", "colour", "flux_adu", "flux_err_adu")
NEAR_PX = 12.0
NEAR_DEG = 30 / 3600
"""No star is meant by a place that is farther from it than this."""
ALIKE, LEAST_ALIKE = 40, 8
"""So many stars of like brightness say what is usual, at most and at least."""


@dataclass(frozen=True, eq=False)
class StarTable:
    """The stars of a group, one row a star.

    Attributes
    ----------
    folder : of the group.
    names : (n) as the column `star` has them.
    x, y : (n,) float64, px of the reference, 0-based.
    ra_deg, dec_deg : (n,) float64, ICRS; NaN without a WCS.
    g_mag, mag, rms_mmag, expected_mmag, variability : (n,) float64; NaN where unknown.
    n : (n,) int, good measurements.
    """

    folder: Path
    names: tuple[str, ...]
    x: np.ndarray
    y: np.ndarray
    ra_deg: np.ndarray
    dec_deg: np.ndarray
    g_mag: np.ndarray
    n: np.ndarray
    mag: np.ndarray
    rms_mmag: np.ndarray
    expected_mmag: np.ndarray
    variability: np.ndarray

    def __len__(self) -> int:
        return len(self.names)

    def most_variable(self, count: int) -> list[int]:
        """Rows, the surest variable first; those of unknown variability are not among them."""
        known = [i for i in range(len(self)) if math.isfinite(self.variability[i])]
        return sorted(known, key=lambda i: (-self.variability[i], i))[:count]

    def usual_excess(self, row: int) -> float | None:
        """What stars of like brightness scatter beyond photons, sky and camera, mag; None where too few tell."""
        others = np.isfinite(self.rms_mmag) & np.isfinite(self.expected_mmag) & np.isfinite(self.mag)
        others[row] = False
        if others.sum() < LEAST_ALIKE:
            return None
        beyond = np.maximum(self.rms_mmag[others] ** 2 - self.expected_mmag[others] ** 2, 0.0)
        alike = np.argsort(np.abs(self.mag[others] - self.mag[row]), kind="stable")[:ALIKE]
        return 1e-3 * math.sqrt(float(np.median(beyond[alike])))


@dataclass(frozen=True, eq=False)
class StarCurve:
    """One star through the night, in the order of time (of files, where no header has a date).

    Attributes
    ----------
    name : of the star, as in the table.
    row : of the star in the table.
    files : (t) names of frames. index : (t,) int, positions in files of many.
    jd, bjd : (t,) float64, UTC, and TDB at the barycentre, middle of the exposure; NaN where unknown.
    airmass, flux, mag, mag_err : (t,) float64, flux in ADU; NaN where unknown.
    flag : (t,) int, 0 = good; bits as in `photometry.curves`.
    """

    name: str
    row: int
    files: tuple[str, ...]
    index: np.ndarray
    jd: np.ndarray
    bjd: np.ndarray
    airmass: np.ndarray
    flux: np.ndarray
    mag: np.ndarray
    mag_err: np.ndarray
    flag: np.ndarray

    @property
    def good(self) -> np.ndarray:
        """(t,) bool: measured, dated, without a flag."""
        known = np.isfinite(self.mag) & np.isfinite(self.mag_err) & np.isfinite(self.jd) & (self.mag_err > 0)
        return np.asarray((self.flag == 0) & known)

    @property
    def label(self) -> str:
        """Name that sorts and suits a file: `star0012`."""
        return f"star{int(self.name):04d}" if self.name.isdecimal() else "star_" + re.sub(r"[^\w.-]", "_", self.name)


def cell(value: float, digits: int) -> str:
    """A number as it stands in the tables, nothing where it is unknown."""
    return f"{value:.{digits}f}" if math.isfinite(value) else ""


def find_group(session: Path, group: str | None) -> Path:
    """The folder of the group that has light curves.

    Raises
    ------
    UsageError : there is no session, no such group, none with light curves, or several to choose from.
    """
    if not session.is_dir():
        raise UsageError(f"{session}: no such folder; expected a session's, with light curves in it.")
    found = sorted(path.parent for path in session.rglob(STARS) if path.is_file())
    if not found:
        raise UsageError(
            f"{session}: no {STARS} was found in it; expected a session at whose end light curves were written."
        )
    names = [path.relative_to(session).as_posix() for path in found]
    if group is None:
        if len(found) > 1:
            raise UsageError(f"{session}: has light curves of {', '.join(names)}; choose one with --group.")
        return found[0]
    if group not in names:
        raise UsageError(f"--group {group}: has no light curves in {session}; expected one of {', '.join(names)}.")
    return found[names.index(group)]


def read_stars(folder: Path) -> StarTable:
    """Read `stars.csv`.

    Raises
    ------
    UsageError : a column is missing, or a cell holds no number.
    """
    path = folder / STARS
    rows = list(_rows(path, STAR_COLUMNS))
    if not rows:
        raise UsageError(f"{path}: holds no star; expected one a line.")
    numbers = {name: np.array([_number(path, row, name) for row in rows]) for name in STAR_COLUMNS[1:]}
    counts = np.nan_to_num(numbers.pop("n")).astype(int)
    return StarTable(folder=folder, names=tuple(str(row["star"]) for row in rows), n=counts, **numbers)


def read_curve(table: StarTable, row: int) -> StarCurve:
    """Read one star's lines; nothing else of the file is kept.

    Raises
    ------
    UsageError : there is no file of curves, it lacks a column, a cell holds no number, or no line is of this star.
    """
    name = table.names[row]
    path = table.folder / CURVES
    if path.exists():
        lines: list[Mapping[str, object]] = [line for line in _rows(path, CURVE_COLUMNS) if line["star"] == name]
    else:
        path = table.folder / CURVES_FITS
        lines = _fits_rows(path, name)
    if not lines:
        raise UsageError(f"{path}: holds no line of star {name}, which {STARS} names; write the light curves again.")
    value = {key: np.array([_number(path, line, key) for line in lines]) for key in CURVE_COLUMNS if key not in _TEXTS}
    order = np.lexsort((np.arange(len(lines)), value["jd_utc_mid"]))
    value = {key: numbers[order] for key, numbers in value.items()}
    return StarCurve(
        name=name, row=row, files=tuple(str(lines[i]["file"]) for i in order),
        index=np.nan_to_num(value["index"]).astype(int), jd=value["jd_utc_mid"], bjd=value["bjd_tdb"],
        airmass=value["airmass"], flux=value["flux_adu"], mag=value["mag"], mag_err=value["mag_err"],
        flag=np.nan_to_num(value["flag"], nan=255).astype(int),
    )  # fmt: skip


def star_of_name(table: StarTable, name: str) -> int:
    """The row of a star by what the column `star` says."""
    wanted = name.lstrip("0") or "0"
    for row, known in enumerate(table.names):
        if known in (name, wanted):
            return row
    raise UsageError(f"--star {name}: no such star in {table.folder / STARS}, which names {_range(table.names)}.")


def star_at(table: StarTable, x: float, y: float) -> int:
    """The row of the star nearest to a pixel of the reference."""
    away = np.hypot(table.x - x, table.y - y)
    row = int(np.nanargmin(away))
    if not away[row] <= NEAR_PX:
        raise UsageError(
            f"--at {x:g},{y:g}: the nearest star, {table.names[row]} at {table.x[row]:.1f},{table.y[row]:.1f}, is "
            f"{away[row]:.0f} px away; expected one within {NEAR_PX:g} px."
        )
    return row


def star_in_sky(table: StarTable, ra_deg: float, dec_deg: float, asked: str) -> int:
    """The row of the star nearest to a place in the sky; `asked` is what an error names."""
    known = np.isfinite(table.ra_deg) & np.isfinite(table.dec_deg)
    if not known.any():
        raise UsageError(
            f"{asked}: {table.folder / STARS} has no places in the sky, for the stack has no WCS; solve the plate "
            "(--solve), or say the star's pixel with --at."
        )
    away = np.full(len(table), np.inf)
    places = zip(table.ra_deg[known], table.dec_deg[known], strict=True)
    away[known] = [separation_deg(ra_deg, dec_deg, float(ra), float(dec)) for ra, dec in places]
    row = int(np.argmin(away))
    if away[row] > NEAR_DEG:
        raise UsageError(
            f"{asked}: the nearest star, {table.names[row]}, is {say_angle(float(away[row]))} away; "
            f"expected one within {NEAR_DEG * 3600:g} arcsec."
        )
    return row


def star_of_object(table: StarTable, name: str) -> int:
    """The row of the star nearest to where the stack's header says that the object `name` is.

    There is no catalogue of names: the header's OBJECT, with OBJCTRA and OBJCTDEC, or RA and DEC, is all that is known.
    """
    path = table.folder / "stack.fits"
    if not path.exists():
        raise UsageError(f"--name {name}: no {path}, whose header would say where it is; use --radec or --at.")
    header = fits.getheader(path)
    known = str(header.get("OBJECT", "")).strip()
    if _plain(known) != _plain(name):
        said = f"OBJECT is {known}" if known else "there is no OBJECT"
        raise UsageError(
            f"--name {name}: only the object that the header names can be found by name, and in {path} {said}; "
            "use --radec or --at."
        )
    pairs = (("OBJCTRA", "OBJCTDEC"), ("RA", "DEC"))
    place = next((f"{header[a]},{header[b]}" for a, b in pairs if a in header and b in header), None)
    if place is None:
        raise UsageError(
            f"--name {name}: the header of {path} does not say where it is (OBJCTRA and OBJCTDEC, or RA and DEC); "
            "use --radec or --at."
        )
    ra, dec = parse_radec(place, f"--name {name}")
    if np.isfinite(table.ra_deg).any():
        return star_in_sky(table, ra, dec, f"--name {name}")
    cards = tuple((card.keyword, card.value, card.comment) for card in header.cards if card.keyword)
    wcs = read_wcs(cards)
    if wcs is None:
        raise UsageError(
            f"--name {name}: {path} has no WCS, so that no place in the sky can be found in it; solve the plate "
            "(--solve), or say the star's pixel with --at."
        )
    x, y = (float(v) for v in wcs.all_world2pix([[ra, dec]], 0)[0])
    return star_at(table, *on_reference(header, x, y))


def on_reference(header: fits.Header, x: float, y: float) -> tuple[float, float]:
    """A pixel of a stack as a place on the reference, both 0-based."""
    scale = float(header.get("LTM1_1", 1.0))
    shifts = (float(header.get(keyword, 0.0)) for keyword in ("LTV1", "LTV2"))
    left, top = (shift + scale - 1.0 for shift in shifts)
    return (x - left) / scale, (y - top) / scale


def parse_radec(text: str, asked: str) -> tuple[float, float]:
    """Degrees "210.8,54.3", or hours and degrees "14:03:12,+54:20:57" (also with blanks), as degrees, ICRS."""
    parts = text.split(",")
    if len(parts) == 2:
        ra, dec = (_angle(part) for part in parts)
        if ra is not None and dec is not None:
            in_hours = bool(re.search(r"\d[: h]+\d", parts[0].strip()))
            ra = ra * 15 if in_hours else ra
            if 0 <= ra < 360 and -90 <= dec <= 90:
                return ra, dec
    raise UsageError(
        f"{asked}: '{text}' is no place in the sky; expected degrees like 210.80,54.35, or 14:03:12,+54:20:57."
    )


def say_angle(degrees: float) -> str:
    """An angle as people say it."""
    if degrees >= 1:
        return f"{degrees:.2f} degrees"
    return f"{degrees * 60:.1f} arcmin" if degrees >= 1 / 60 else f"{degrees * 3600:.0f} arcsec"


_TEXTS = ("star", "file")


def _rows(path: Path, columns: Sequence[str]) -> Iterator[Mapping[str, str]]:
    if not path.exists():
        raise UsageError(f"{path}: is not there; expected the light curves that a session writes at its end.")
    with open(path, encoding="utf-8", newline="") as file:
        reader = csv.DictReader(file)
        missing = [name for name in columns if name not in (reader.fieldnames or ())]
        if missing:
            raise UsageError(
                f"{path}: has no column {', '.join(missing)}; expected {','.join(columns)}: write them again."
            )
        yield from reader


def _fits_rows(path: Path, name: str) -> list[Mapping[str, object]]:
    if not path.exists():
        raise UsageError(f"{path.parent}: holds neither {CURVES} nor {CURVES_FITS}; expected one of them.")
    with fits.open(path, memmap=True) as hdus:
        data = hdus[1].data
        missing = [column for column in CURVE_COLUMNS if column not in data.names]
        if missing:
            raise UsageError(f"{path}: has no column {', '.join(missing)}; expected {','.join(CURVE_COLUMNS)}.")
        stars = data["star"]
        mine = np.flatnonzero(np.char.strip(stars.astype(str)) == name)
        some = data[mine]
        return [{column: some[column][i] for column in CURVE_COLUMNS} for i in range(len(mine))]


def _number(path: Path, row: Mapping[str, object], name: str) -> float:
    cell = row[name]
    if cell is None or cell == "":
        return math.nan
    try:
        return float(cell)  # type: ignore[arg-type]
    except ValueError:
        raise UsageError(f"{path}: '{cell}' in column {name} is no number; expected one, or an empty cell.") from None


def _range(names: Sequence[str]) -> str:
    return f"{names[0]} to {names[-1]}" if len(names) > 1 else names[0]


def _plain(name: str) -> str:
    return re.sub(r"[\s_-]+", "", name).casefold()


def _angle(text: str) -> float | None:
    match = re.fullmatch(r"\s*([+-]?)(\d+(?:\.\d*)?)(?:[: hd]+(\d+(?:\.\d*)?))?(?:[: m]+(\d+(?:\.\d*)?))?s?\s*", text)
    if match is None:
        return None
    whole, minutes, seconds = (float(part or 0) for part in match.groups()[1:])
    if minutes >= 60 or seconds >= 60:
        return None
    return (-1 if match[1] == "-" else 1) * (whole + minutes / 60 + seconds / 3600)
