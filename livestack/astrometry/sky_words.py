"""The sky in words for people: what one is looking at, how faint the picture reaches, how dark the night is."""

from __future__ import annotations

import math
from collections.abc import Sequence

from livestack.astrometry.cards import CONSTELLATIONS, Card
from livestack.astrometry.objects import ObjectLabel
from livestack.astrometry.sky_map import SkyMap

NEAR = 0.3
"""An object is what one looks at within this share of the shorter side from the middle."""
PROMINENT = 12.0
"""Prominence that is enough in a field of a degree; in wider ones it takes more."""
WIDE_DEG = 12.0
WITH_ARTICLE = {"Nebula", "Galaxy", "Cluster", "Cloud", "Pleiades", "Hyades", "Group", "Quintet", "Sextet", "Sword"}
NAKED_EYE_MAG = 6.0
DARKNESS = (
    (21.6, "a truly dark sky, the Milky Way casts detail"),
    (21.2, "a dark country sky, the Milky Way is bright"),
    (20.4, "a country sky, the Milky Way is easy to see"),
    (19.5, "the edge of a town, the Milky Way is faint"),
    (18.5, "the sky over a suburb, only brighter stars are seen"),
    (-math.inf, "the sky over a city, or moonlight"),
)
"""Least mag/arcsec^2, and how it looks; after the scale of Bortle (2001, Sky & Telescope 101, 126)."""


def name_constellation(ra_deg: float, dec_deg: float) -> str:
    """Of a place, ICRS, by the borders of the IAU."""
    from astropy.coordinates import SkyCoord, get_constellation

    return str(get_constellation(SkyCoord(ra_deg, dec_deg, unit="deg")))


def say_what(labels: Sequence[ObjectLabel], sky: SkyMap, constellation: str) -> str:
    """A sentence on what one is looking at: the prominent object nearest to the middle, else the constellation."""
    field = max(sky.field_deg)
    needed = PROMINENT - 5 * math.log10(max(1.0, field))
    middle = (sky.width - 1) / 2, (sky.height - 1) / 2
    reach = NEAR * min(sky.width, sky.height)
    away = {label: math.hypot(label.x - middle[0], label.y - middle[1]) for label in labels}
    near = [label for label in labels if label.prominence <= needed and away[label] <= reach]
    what = say_object(min(near, key=lambda label: (away[label], label.prominence))) if near else None
    if field > WIDE_DEG:
        return f"You are looking at the constellation {constellation}" + (f", around {what}." if what else ".")
    return f"You are looking at {what}, in {constellation}." if what else f"You are looking at {constellation}."


def say_object(label: ObjectLabel) -> str:
    """An object in a sentence: "the Great Orion Nebula (M 42)", "the star Betelgeuse"."""
    if label.kind == "star":
        return f"the star {label.name}"
    number, _, name = label.name.removesuffix(")").partition(" (")
    if not name:
        return number
    name = name.removeprefix("the ")
    article = "the " if name.split()[-1] in WITH_ARTICLE else ""
    return f"{article}{name} ({number})"


def say_facts(label: ObjectLabel, card: Card | None) -> str:
    """A line on an object: what it is, how large, how bright, how far, and where."""
    parts = []
    if label.kind == "star":
        _, _, short = label.designation.rpartition(" ")
        return f"Star {label.designation} · mag {label.magnitude:.1f} · in {CONSTELLATIONS.get(short, short)}"
    parts.append(card.kind if card else label.kind.capitalize())
    if card and card.size_arcmin:
        long, short_axis = card.size_arcmin
        parts.append(_angle(long) if long == short_axis else f"{_angle(long)} × {_angle(short_axis)}")
    if label.magnitude is not None:
        parts.append(f"mag {label.magnitude:.1f}")
    if card and card.distance_ly is not None:
        parts.append(f"{_count(card.distance_ly)} light years")
    if card and card.constellation:
        parts.append(f"in {card.constellation}")
    return " · ".join(parts)


def say_fainter(limit_mag: float) -> str:
    """How faint the picture reaches beside the naked eye."""
    times = 10 ** (0.4 * (limit_mag - NAKED_EYE_MAG))
    if times < 2:
        return "about as faint as the naked eye sees under a dark sky"
    return f"about {_count(times)} times fainter than the naked eye sees under a dark sky"


def say_darkness(sky_mag: float) -> str:
    """How dark the sky is, mag/arcsec^2."""
    return next(words for least, words in DARKNESS if sky_mag >= least)


def _angle(arcmin: float) -> str:
    return f"{arcmin / 60:.1f}°" if arcmin >= 90 else f"{arcmin:.0f}′" if arcmin >= 10 else f"{arcmin:.1f}′"


def _count(value: float) -> str:
    """Two digits that count: "33 000", "2.5 million"."""
    if value >= 1e6:
        return f"{float(f'{value:.2g}') / 1e6:g} million"
    return f"{int(float(f'{value:.2g}')):,}".replace(",", "\N{NO-BREAK SPACE}") if value >= 10 else f"{value:.1f}"
