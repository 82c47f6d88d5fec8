"""Asteroids and comets from the Minor Planet Center's files, and where in the sky they are.

`MPCORB.DAT` and `CometEls.txt` have fixed columns (minorplanetcenter.net/iau/info/MPOrbitFormat.html and
CometOrbitFormat.html). Places are astrometric (light-time taken off, no aberration: as a catalogue's stars are), seen
from the telescope where its site is known, by astropy's own ephemeris of the Earth.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np

from livestack.astrometry.catalogue import to_degrees, to_vectors
from livestack.base.errors import UsageError
from livestack.ephemeris.orbits import MU, Orbits
from livestack.photometry.times import Site, each_moment, location

LIGHT_AU_DAY = 299792.458 * 86400.0 / 149597870.7
LIGHT_SLACK_DEG = 0.5
"""What moves in the time that its light takes, at most, but for what passes close to the Earth."""
CHUNK = 50_000
"""Lines of a file that are read at once; the Center's file has more than a million."""
_ASTEROID = {"epoch": (20, 25), "m": (26, 35), "w": (37, 46), "node": (48, 57), "i": (59, 68), "e": (70, 79),
             "a": (92, 103), "name": (166, 194)}  # fmt: skip
_COMET = {"year": (14, 18), "month": (19, 21), "day": (22, 29), "q": (30, 39), "e": (41, 49), "w": (51, 59),
          "node": (61, 69), "i": (71, 79), "name": (102, 158)}  # fmt: skip


@dataclass(frozen=True)
class SkyMotion:
    """Where a body is and how it moves: ICRS degrees, arcsec a minute, position angle from north through east."""

    ra_deg: float
    dec_deg: float
    rate_arcsec_min: float
    position_angle_deg: float


@dataclass(frozen=True, eq=False)
class SmallBodies:
    """Bodies of a file, in its order.

    Attributes
    ----------
    names : as the file spells them, in ASCII; orbits : as many.
    """

    names: np.ndarray
    orbits: Orbits

    def __len__(self) -> int:
        return len(self.names)

    def some(self, which: np.ndarray) -> SmallBodies:
        """Those with these numbers."""
        return SmallBodies(self.names[which], self.orbits.some(which))

    def name(self, number: int) -> str:
        """Of one of them: "(1) Ceres"."""
        return str(self.names[number].decode("ascii", "replace")).strip()

    def numbers_of(self, name: str) -> list[int]:
        """Those whose name, or a whole word of it, is this: "Ceres", "1P", "C/2023 A3"; case does not matter."""
        wanted = " ".join(name.lower().split()).encode("ascii", "replace")
        names: Any = np.char.lower(np.char.strip(self.names))
        near = np.flatnonzero(np.char.find(names, wanted) >= 0)
        return [int(k) for k in near if wanted in _parts(bytes(names[k]))]

    def places(self, jd_utc: float, site: Site | None, rounds: int = 3) -> np.ndarray:
        """(n, 2) ICRS RA and Dec in degrees at a moment, of all; the light's way is taken off in so many rounds."""
        observer, jd_tt = observer_from_sun(np.array([jd_utc]), site)
        delay = np.zeros(len(self))
        for _ in range(rounds):
            way = self.orbits.places(jd_tt[0] - delay) - observer[0]
            delay = np.sqrt((way**2).sum(axis=1)) / LIGHT_AU_DAY
        return to_degrees(way)

    def near(self, ra_deg: float, dec_deg: float, radius_deg: float, jd_utc: float, site: Site | None) -> SmallBodies:
        """Those within a radius of a place at a moment; a few from somewhat beyond it may be among them."""
        there = to_vectors(*self.places(jd_utc, site, rounds=1).T) @ to_vectors(ra_deg, dec_deg)
        return self.some(np.flatnonzero(there > math.cos(math.radians(min(radius_deg + LIGHT_SLACK_DEG, 180.0)))))

    def motion(self, number: int, jd_utc: float, site: Site | None) -> SkyMotion:
        """Of one of them, by its places a minute before and after."""
        one = self.some(np.array([number]))
        minute = 1.0 / 1440.0
        (ra0, dec0), (ra, dec), (ra1, dec1) = (one.places(jd_utc + k * minute, site)[0] for k in (-1, 0, 1))
        east = ((ra1 - ra0 + 180.0) % 360.0 - 180.0) * math.cos(math.radians(dec)) * 1800.0
        north = (dec1 - dec0) * 1800.0
        return SkyMotion(float(ra), float(dec), math.hypot(east, north), math.degrees(math.atan2(east, north)) % 360.0)


def observer_from_sun(jd_utc: np.ndarray, site: Site | None) -> tuple[np.ndarray, np.ndarray]:
    """Where the telescope is, (n, 3) au from the Sun in ICRS axes, and TT (n,), of moments (n,).

    site : None for the centre of the Earth: a body at 1 au is then up to 9 arcsec off.
    """

    def ask(time: Any) -> np.ndarray:
        from astropy.coordinates import get_body_barycentric

        earth, sun = (get_body_barycentric(name, time, ephemeris="builtin").xyz for name in ("earth", "sun"))
        place = (earth - sun).to_value("au")
        if site is not None:
            place = place + location(site).get_gcrs_posvel(time)[0].xyz.to_value("au")
        return np.concatenate([place, np.asarray(time.tt.jd)[None]])

    answer = each_moment(np.asarray(jd_utc, dtype=float), ask, 4)
    return answer[:3].T, answer[3]


def read_asteroids(path: Path) -> SmallBodies:
    """Bodies of a file like `MPCORB.DAT`; lines that are none, its heading among them, are left out.

    Raises
    ------
    UsageError : it cannot be read, or has no such line.
    """
    names, columns = _read(path, _ASTEROID, _asteroid_numbers, "MPCORB.DAT")
    epoch, m, w, node, i, e, a = columns
    motion = np.sqrt(MU / a**3)
    since = ((np.radians(m) + math.pi) % (2 * math.pi) - math.pi) / motion
    return SmallBodies(names, Orbits(a * (1.0 - e), e, i, node, w, epoch - since))


def read_comets(path: Path) -> SmallBodies:
    """Bodies of a file like `CometEls.txt`; see `read_asteroids`."""
    names, columns = _read(path, _COMET, _comet_numbers, "CometEls.txt")
    year, month, day, q, e, w, node, i = columns
    first = np.array([date(int(y), int(m), 1).toordinal() + 1721424.5 for y, m in zip(year, month, strict=True)])
    return SmallBodies(names, Orbits(q, e, i, node, w, first + day - 1.0))


def _parts(name: bytes) -> set[bytes]:
    """What a body may be called by: "(1) ceres" by all of it, by "(1)", "1" and "ceres"."""
    tail = name.partition(b" ")[2].strip()
    words = {name, tail, name.partition(b"/")[0].strip(), name.partition(b"/")[2].strip()}
    words |= {name.partition(b" (")[0], *name.split(b"(")[1:2], name.split(b" ")[0].strip(b"()")}
    return {word.strip(b"() ") for word in words} | {name}


def _read(path: Path, columns: dict[str, tuple[int, int]], numbers: Any, kind: str) -> tuple[np.ndarray, np.ndarray]:
    """Names (n,) of bytes and the columns before the name as numbers (k, n) of all lines that hold numbers there."""
    first, last = columns["name"]
    names: list[np.ndarray] = []
    tables: list[np.ndarray] = []
    try:
        with path.open("rb") as file:
            while lines := file.readlines(CHUNK * 200):
                whole = [line.rstrip(b"\r\n") for line in lines if len(line) > first]
                if not whole:
                    continue
                table = np.array(whole, dtype=f"S{last}").view("S1").reshape(-1, last)
                table = np.where(table == b"", b" ", table)
                good, values = numbers(lambda name, t=table: _column(t, *columns[name]))
                tables.append(values[:, good])
                names.append(_column(table, first, last)[good])
    except OSError as error:
        raise UsageError(f"{path}: cannot be read ({error.strerror}); expected a file like {kind}.") from error
    if not sum(len(part) for part in names):
        raise UsageError(
            f"{path}: found no body in it; expected the fixed columns of {kind} of the Minor Planet Center."
        )
    return np.concatenate(names), np.concatenate(tables, axis=1)


def _column(table: np.ndarray, first: int, last: int) -> np.ndarray:
    """Columns of a table (n, w) of characters as (n,) words."""
    return np.ascontiguousarray(table[:, first:last]).view(f"S{last - first}").ravel()


def _floats(words: np.ndarray) -> np.ndarray:
    """(n,) float64, NaN for what is no number."""
    try:
        return words.astype(float)
    except ValueError:
        return np.array([_float(bytes(word)) for word in words])


def _float(word: bytes) -> float:
    try:
        return float(word)
    except ValueError:
        return math.nan


def _asteroid_numbers(column: Any) -> tuple[np.ndarray, np.ndarray]:
    packed, which = np.unique(column("epoch"), return_inverse=True)
    epoch = np.array([unpack_day(bytes(word).decode("ascii", "replace")) for word in packed])[which]
    values = np.stack([epoch, *(_floats(column(name)) for name in ("m", "w", "node", "i", "e", "a"))])
    return np.isfinite(values).all(axis=0) & (values[5] < 1.0) & (values[5] >= 0) & (values[6] > 0), values


def _comet_numbers(column: Any) -> tuple[np.ndarray, np.ndarray]:
    values = np.stack([_floats(column(name)) for name in ("year", "month", "day", "q", "e", "w", "node", "i")])
    year, month, day, q, e = values[:5]
    good = np.isfinite(values).all(axis=0) & (year >= 1) & (year < 9999) & (month >= 1) & (month <= 12)
    return good & (day >= 1) & (day < 32) & (q > 0) & (e >= 0), values


def unpack_day(word: str) -> float:
    """Julian day of the Center's packed date: "K239D" is 2023 September 13, 0 h; NaN for what is none."""
    digits = "0123456789ABCDEFGHIJKLMNOPQRSTUV"
    if len(word) != 5 or word[0] not in "IJK" or not word[1:3].isdigit():
        return math.nan
    month, day = digits.find(word[3]), digits.find(word[4])
    try:
        return date(100 * digits.index(word[0]) + int(word[1:3]), month, day).toordinal() + 1721424.5
    except ValueError:
        return math.nan


def find_body(name: str, files: Sequence[SmallBodies]) -> tuple[SmallBodies, int] | None:
    """The first body of that name in several files; None where there is none."""
    for bodies in files:
        found = bodies.numbers_of(name)
        if found:
            return bodies, found[0]
    return None
