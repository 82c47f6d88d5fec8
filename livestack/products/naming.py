"""Names for what passed, from files of elements that the user has: satellites by their line, small bodies by their way.

A satellite's elements tell its line better than when it is where on it: it must cross the streak's line closely, in its
direction, and be near it some seconds before, after, or while the frame was exposed. A small body must be near the
place, and move as it did. What fits nothing, or is not known in the sky, keeps no name.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import TypeVar

import numpy as np

from livestack.astrometry.catalogue import to_vectors
from livestack.base.errors import UsageError
from livestack.base.settings import PassageSettings
from livestack.ephemeris.satellites import Satellites, read_satellites
from livestack.ephemeris.small_bodies import SmallBodies, find_body, read_asteroids, read_comets
from livestack.movers.passages import Passage
from livestack.photometry.times import Site, jd_of

Read = TypeVar("Read")
ACROSS_DEG = 0.25
"""A satellite's line may be so far from a streak: some kilometres at the distance of those that fly low."""
TURN_DEG = 4.0
SLACK_S = 8.0
"""A satellite may be so many seconds early or late."""
STEPS = 25
NEAR_DEG = 0.05
"""A small body may be so far from where its elements say: months from their epoch that are minutes of arc."""
RATE_SHARE, RATE_ARCSEC_MIN = 0.25, 0.1
"""Its motion may differ by such a share, or by so much."""


@dataclass(frozen=True, eq=False)
class Body:
    """One body of a file."""

    file: SmallBodies
    number: int

    @property
    def name(self) -> str:
        """As the file spells it."""
        return self.file.name(self.number)

    def place(self, jd_utc: float, site: Site | None) -> tuple[float, float]:
        """ICRS RA and Dec, degrees."""
        ra, dec = self.file.some(np.array([self.number])).places(jd_utc, site)[0]
        return float(ra), float(dec)


class Names:
    """Gives names to passages.

    Parameters
    ----------
    say : told in a sentence what could not be read; the night goes on without those names.
    """

    def __init__(self, settings: PassageSettings, say: Callable[[str], None]) -> None:
        self._say = say
        self._satellites = self._read(read_satellites, settings.tle)
        self._bodies = [
            bodies
            for reader, path in ((read_asteroids, settings.mpcorb), (read_comets, settings.comets))
            if (bodies := self._read(reader, path)) is not None
        ]

    def find(self, name: str) -> Body:
        """A small body by its name.

        Raises
        ------
        UsageError : there is no file of elements, or none of them has it.
        """
        if not self._bodies:
            raise UsageError(
                f"--follow {name}: a name needs a file of elements, --comets CometEls.txt or --mpcorb MPCORB.DAT; or"
                " give X,Y (pixels) or RA,+DEC (degrees)."
            )
        found = find_body(name, self._bodies)
        if found is None:
            raise UsageError(
                f"--follow {name}: no body in the files of elements is called so; expected a name, number or"
                " designation as they write it, such as 12P or C/2023 A3."
            )
        return Body(*found)

    def given(self, passages: Iterable[Passage], site: Site | None, exposure_s: float) -> tuple[Passage, ...]:
        """The same with names.

        Parameters
        ----------
        passages : with their places in the sky.
        site : of the telescope; without it no satellite is named.
        exposure_s : of a frame.
        """
        passages = tuple(passages)
        if self._satellites is not None and site is None and any(one.kind == "satellite" for one in passages):
            self._say("Satellites have no names: the headers tell no site (SITELAT, SITELONG).")
        return tuple(self._named(one, site, exposure_s) for one in passages)

    def _named(self, one: Passage, site: Site | None, exposure_s: float) -> Passage:
        if one.name or not one.time_utc or not math.isfinite(one.ra0_deg):
            return one
        name = ""
        if one.kind == "satellite" and self._satellites is not None and site is not None:
            name = name_satellite(one, self._satellites, site, exposure_s)
        if one.kind == "mover" and self._bodies:
            name = name_body(one, self._bodies, site)
        return replace(one, name=name) if name else one

    def _read(self, reader: Callable[[Path], Read], path: Path | None) -> Read | None:
        if path is None:
            return None
        try:
            return reader(path)
        except UsageError as error:
            self._say(f"{error} What it holds is not named.")
            return None


def julian_day(time_utc: str) -> float:
    """Of a moment in ISO 8601, UTC."""
    return jd_of(datetime.fromisoformat(time_utc), None)


def name_satellite(one: Passage, satellites: Satellites, site: Site, exposure_s: float) -> str:
    """The satellite whose line fits a streak best; "" where none does."""
    ends = _ends(one)
    middle = julian_day(one.time_utc)
    # of several frames the time is that of the first, and between them the camera pauses
    half = (one.n_frames - 0.5) * exposure_s * (1.0 if one.n_frames == 1 else 1.3) + SLACK_S
    moments = middle + np.linspace(-half, half, STEPS) / 86400.0
    rough = satellites.directions(moments, site)
    pole = np.cross(ends[0], ends[1])
    pole /= max(float(np.linalg.norm(pole)), 1e-12)
    centre = ends.sum(axis=0) / np.linalg.norm(ends.sum(axis=0))
    reach = math.acos(np.clip(float(centre @ ends[0]), -1, 1)) + math.radians(ACROSS_DEG)
    best, name = math.inf, ""
    with np.errstate(invalid="ignore"):
        travelled = np.linalg.norm(np.diff(rough, axis=1), axis=2).max(axis=1)
        near = np.arccos(np.clip(rough @ centre, -1, 1)).min(axis=1) < reach + travelled
    for k in np.flatnonzero(near):
        way = rough[k]
        # where it is closest to the middle of the streak, between the moments too
        at = int(np.argmax(way @ centre))
        other = at + 1 if at == 0 or (at + 1 < STEPS and way[at + 1] @ centre > way[at - 1] @ centre) else at - 1
        its_pole = np.cross(way[min(at, other)], way[max(at, other)])
        size = float(np.linalg.norm(its_pole))
        if size < 1e-9:
            continue
        its_pole /= size
        turn = math.degrees(math.acos(min(1.0, abs(float(its_pole @ pole)))))
        across = math.degrees(abs(math.asin(np.clip(float(its_pole @ centre), -1, 1))))
        step = math.degrees(math.acos(np.clip(float(way[at] @ way[other]), -1, 1)))
        away = math.degrees(math.acos(np.clip(float(way[at] @ centre), -1, 1)))
        if across > ACROSS_DEG or turn > TURN_DEG or away > math.degrees(reach) + step:
            continue
        score = (across / ACROSS_DEG) ** 2 + (turn / TURN_DEG) ** 2
        if score < best:
            best, name = score, satellites.names[k]
    return name


def name_body(one: Passage, files: Sequence[SmallBodies], site: Site | None) -> str:
    """The small body that is nearest to a moving point and moves alike; "" where none is."""
    jd = julian_day(one.time_utc)
    begin, end = _ends(one)
    minutes = math.hypot(one.x1 - one.x0, one.y1 - one.y0) / one.rate_px_min if one.rate_px_min > 0 else math.nan
    if not math.isfinite(minutes):
        return ""
    best, name = math.radians(NEAR_DEG), ""
    rate = math.degrees(float(_separation(begin, end))) * 3600.0 / minutes
    for every in files:
        bodies = every.near(one.ra0_deg, one.dec0_deg, NEAR_DEG, jd, site)
        places = bodies.places(jd, site)
        away = _separation(to_vectors(*places.T), begin)
        for k in np.flatnonzero(away < best):
            motion, apart = bodies.motion(int(k), jd, site), float(away[k])
            turned = math.radians(motion.position_angle_deg - one.position_angle_deg)
            east, north = motion.rate_arcsec_min * math.sin(turned), motion.rate_arcsec_min * math.cos(turned)
            off = math.hypot(east, north - rate)
            if off < max(RATE_SHARE * rate, RATE_ARCSEC_MIN) and apart < best:
                best, name = apart, bodies.name(int(k))
    return name


def _ends(one: Passage) -> np.ndarray:
    """Unit vectors (2, 3) of where it was first and last."""
    return to_vectors(np.array([one.ra0_deg, one.ra1_deg]), np.array([one.dec0_deg, one.dec1_deg]))


def _separation(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Angle in radians between unit vectors."""
    return 2 * np.arcsin(np.clip(np.linalg.norm(one - other, axis=-1) / 2, 0, 1))
