"""Satellites from a file of two-line elements: where in the sky they cross.

By SGP4 of the package `sgp4` (an extra, MIT). Elements of the same day are good to about a kilometre across and some
along the way: minutes of arc for what flies low, and some seconds early or late.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from livestack.base.errors import UsageError
from livestack.photometry.times import Site, each_moment, location


@dataclass(frozen=True, eq=False)
class Satellites:
    """Satellites of a file.

    Attributes
    ----------
    names : by the line above the elements, else the number; models : SGP4's, all in one.
    """

    names: tuple[str, ...]
    models: Any

    def __len__(self) -> int:
        return len(self.names)

    def directions(self, jd_utc: np.ndarray, site: Site) -> np.ndarray:
        """(n, T, 3) unit vectors in ICRS axes from a site at moments (T,); NaN where elements say nothing."""
        whole = np.floor(jd_utc - 0.5) + 0.5
        failed, teme_km, _ = self.models.sgp4(whole, jd_utc - whole)
        to_icrs = _from_teme(jd_utc)
        seen = np.einsum("tij,ntj->nti", to_icrs, teme_km) - _site_km(jd_utc, site)[None]
        seen[failed != 0] = np.nan
        return np.asarray(seen / np.linalg.norm(seen, axis=2, keepdims=True))


def read_satellites(path: Path) -> Satellites:
    """Satellites of a file of elements, of two lines each or of three with a name first.

    Raises
    ------
    UsageError : it cannot be read, has none, or `sgp4` is not installed.
    """
    try:
        from sgp4.api import Satrec, SatrecArray
    except ImportError as error:
        raise UsageError(
            "--tle: naming satellites needs sgp4; `pip install livestack[satellites]` brings it."
        ) from error
    try:
        lines = [line.rstrip() for line in path.read_text(encoding="utf-8", errors="replace").splitlines()]
    except OSError as error:
        raise UsageError(f"{path}: cannot be read ({error.strerror}); expected two-line elements.") from error
    names, models = [], []
    for number, line in enumerate(lines[:-1]):
        other = lines[number + 1]
        if not (line.startswith("1 ") and other.startswith("2 ") and len(line) >= 64 and len(other) >= 63):
            continue
        try:
            models.append(Satrec.twoline2rv(line, other))
        except ValueError:
            continue
        above = lines[number - 1] if number else ""
        named = above and not above.startswith(("1 ", "2 ", "#"))
        names.append(above.removeprefix("0 ").strip() if named else line[2:7].strip())
    if not models:
        raise UsageError(f"{path}: found no satellite in it; expected two-line elements, as celestrak.org gives them.")
    return Satellites(tuple(names), SatrecArray(models))


def _from_teme(jd_utc: np.ndarray) -> np.ndarray:
    """(T, 3, 3) from the axes that SGP4 uses (true equator, mean equinox of date) to those of ICRS, at moments (T,)."""

    def ask(time: Any) -> np.ndarray:
        from astropy import units as u
        from astropy.coordinates import GCRS, TEME, CartesianRepresentation

        axes = []
        for axis in np.eye(3):
            along = CartesianRepresentation(*(np.full(time.shape, part) * 7e3 * u.km for part in axis))
            turned = TEME(along, obstime=time).transform_to(GCRS(obstime=time)).cartesian.xyz.to_value(u.km)
            axes.append(turned / 7e3)
        return np.asarray(axes).transpose(1, 0, 2).reshape(9, -1)

    return each_moment(np.asarray(jd_utc, dtype=float), ask, 9).T.reshape(-1, 3, 3)


def _site_km(jd_utc: np.ndarray, site: Site) -> np.ndarray:
    """(T, 3) of a site from the Earth's middle, ICRS axes."""

    def ask(time: Any) -> np.ndarray:
        return np.asarray(location(site).get_gcrs_posvel(time)[0].xyz.to_value("km"))

    return each_moment(np.asarray(jd_utc, dtype=float), ask, 3).T
