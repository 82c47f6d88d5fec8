"""What lies in a solved field: deep-sky objects of OpenNGC (package `pyongc`, an extra) and bright stars with names.

OpenNGC: https://github.com/mattiaverga/OpenNGC, Mattia Verga, CC BY-SA 4.0. What to show first is decided by one number
like a magnitude: the light of an object, with some favour for what is large, has a name or is in Messier's list.
"""

from __future__ import annotations

import importlib.util
import math
import re
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np

from livestack.astrometry.cards import find_designation
from livestack.astrometry.sky_map import SkyMap
from livestack.astrometry.star_names import NAMED_STARS

Kind = Literal["star", "galaxy", "cluster", "nebula", "object"]

LEFT_OUT = {
    "Duplicated record",
    "Star",
    "Double star",
    "Nova star",
    "Nonexistent object",
    "Object of other/unknown type",
}
"""Types of OpenNGC that are nothing to see, or that nobody looks for; Messier's objects are shown whatever they are."""
_KINDS: dict[str, Kind] = {
    "Open Cluster": "cluster", "Globular Cluster": "cluster", "Association of stars": "cluster",
    "Planetary Nebula": "nebula", "Nebula": "nebula", "HII Ionized region": "nebula", "Star cluster + Nebula": "nebula",
    "Reflection Nebula": "nebula", "Supernova remnant": "nebula", "Emission Nebula": "nebula", "Dark Nebula": "nebula",
    "Galaxy": "galaxy", "Galaxy Pair": "galaxy", "Galaxy Triplet": "galaxy", "Group of galaxies": "galaxy",
}  # fmt: skip
UNKNOWN_MAG = 12.0
FAVOUR_MESSIER, FAVOUR_NAME = 3.0, 1.0
"""Magnitudes."""
SMALLEST_PX, CLEAR_MAG = 3.0, 8.0
"""Smaller objects look like stars; they are left out unless they are bright."""
WIDEST_DEG = 89.0
_COMMON_KINDS = ("nebula", "galaxy", "cluster")


@dataclass(frozen=True)
class ObjectLabel:
    """A named object in a picture.

    Attributes
    ----------
    name : as it is written: "M 42 (Great Orion Nebula)", "Betelgeuse".
    x, y : its middle, pixels of the map, 0-based.
    size_px : its longer axis; None where it has none or it is not known.
    designation : in the catalogue: "M42", "NGC7331", "α Ori".
    prominence : less is more; a star's magnitude.
    """

    name: str
    x: float
    y: float
    size_px: float | None
    kind: Kind = "object"
    designation: str = ""
    ra_deg: float = math.nan
    dec_deg: float = math.nan
    magnitude: float | None = None
    prominence: float = math.nan


def has_catalogue() -> bool:
    """Whether deep-sky objects can be named here."""
    return importlib.util.find_spec("pyongc") is not None


def place_of(name: str) -> tuple[float, float] | None:
    """RA and Dec in degrees of what a header calls by its name: "M 31", "NGC7000", "Betelgeuse"; None if not known."""
    wanted = _bare(name)
    for star in NAMED_STARS:
        if wanted in (_bare(star.name), _bare(star.designation)):
            return star.place(2000.0)
    if not has_catalogue():
        return None
    from pyongc import ongc

    if re.fullmatch(r"(m|ngc|ic|b|c|mel|messier|caldwell|barnard|melotte)\d{1,4}", wanted):
        item = ongc.get(find_designation(wanted.replace("melotte", "mel")))
        return None if item is None or item.rad_coords is None else _degrees_of(item)
    for item in ongc.listObjects(withname=True):
        commons = {_bare(common) for common in item.identifiers[3] or ()}
        if item.rad_coords is not None and commons & {wanted, *(wanted + kind for kind in _COMMON_KINDS)}:
            return _degrees_of(item)
    return None


def _degrees_of(item: Any) -> tuple[float, float]:
    ra, dec = np.degrees(item.rad_coords)
    return float(ra), float(dec)


def _bare(name: str) -> str:
    return re.sub(r"[\W_]", "", name).lower()


def label_objects(sky: SkyMap, limit: int = 30, year: float = 2000.0) -> list[ObjectLabel]:
    """Name what lies in the picture, the most prominent first.

    Messier numbers and common names are preferred. Without `pyongc` stars alone are named.

    Parameters
    ----------
    sky : of the picture's pixels.
    limit : how many at most.
    year : Julian, that stars have moved to.
    """
    labels = [*_stars(year), *(_deep_sky(sky) if has_catalogue() else ())]
    if not labels:
        return []
    scale = sky.scale_arcsec / 60
    places = sky.to_pixels(np.array([(label.ra_deg, label.dec_deg) for label in labels]))
    shown = []
    for label, (x, y) in zip(labels, places, strict=True):
        if not (-0.5 <= x < sky.width - 0.5 and -0.5 <= y < sky.height - 0.5):  # NaN, too
            continue
        size = None if label.size_px is None else label.size_px / scale
        bright = label.magnitude is not None and label.magnitude < CLEAR_MAG
        if label.kind == "star" or bright or (size is not None and size >= SMALLEST_PX):
            shown.append(replace(label, x=float(x), y=float(y), size_px=size))
    shown.sort(key=lambda label: (label.prominence, label.name))
    return shown[:limit]


def _stars(year: float) -> list[ObjectLabel]:
    return [
        ObjectLabel(
            star.name, math.nan, math.nan, None, "star", star.designation, *star.place(year), star.mag, star.mag
        )
        for star in NAMED_STARS
    ]


def _deep_sky(sky: SkyMap) -> list[ObjectLabel]:
    """Of the circle around the picture; sizes in arcminutes."""
    corners = np.array([(-0.5, -0.5), (sky.width, -0.5), (-0.5, sky.height), (sky.width, sky.height)])
    radius = max(separation_deg(*sky.centre, *place) for place in sky.to_sky(corners))
    labels = []
    for item in _catalogue_around(*sky.centre, min(1.02 * radius, WIDEST_DEG)):
        if item.rad_coords is None:
            continue
        messier, _, _, common, _ = item.identifiers
        if item.type in LEFT_OUT and not messier:
            continue
        blue, visual = item.magnitudes[:2]
        magnitude = visual if visual is not None else blue
        size = item.dimensions[0]
        prominence = (UNKNOWN_MAG if magnitude is None else magnitude) - 2.5 * math.log10(1 + (size or 0.0))
        prominence -= FAVOUR_MESSIER * bool(messier) + FAVOUR_NAME * bool(common)
        ra, dec = (float(v) for v in np.degrees(item.rad_coords))
        kind = _KINDS.get(item.type, "object")
        number = f"M{int(messier[1:])}" if messier else re.sub(r"^([A-Za-z]+)0*(?=\d)", r"\1", item.name)
        name = _spoken_name(item)
        labels.append(ObjectLabel(name, math.nan, math.nan, size, kind, number, ra, dec, magnitude, prominence))
    return labels


def _catalogue_around(ra: float, dec: float, radius: float) -> list[Any]:
    """Catalogue entries in a box on the sky that holds the circle; the box may run over 0 h or a pole."""
    from pyongc import ongc

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
            found[item.name] = item
    return list(found.values())


def separation_deg(ra1: float, dec1: float, ra2: float, dec2: float) -> float:
    """Angle between two places, all in degrees."""
    a1, d1, a2, d2 = (math.radians(v) for v in (ra1, dec1, ra2, dec2))
    haversine = math.sin((d2 - d1) / 2) ** 2 + math.cos(d1) * math.cos(d2) * math.sin((a2 - a1) / 2) ** 2
    return math.degrees(2 * math.asin(min(1.0, math.sqrt(haversine))))


def _spoken_name(item: Any) -> str:
    messier, _, _, common, _ = item.identifiers
    number = f"M {int(messier[1:])}" if messier else re.sub(r"^([A-Za-z]+)0*(?=\d)", r"\1 ", item.name)
    return f"{number} ({common[0]})" if common else number
