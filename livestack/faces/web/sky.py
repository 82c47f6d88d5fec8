"""What the pages are told of the sky in the picture: where it lies, lines, names, and how faint it reaches.

All places are true pixels of the upright picture, 0-based, integers at pixel centres; the map from pixels to the sky is
sent as its numbers, so that a page finds the place under a finger by itself. `SkyDesk` makes the answer once for each
change; names and lines are made anew only where the picture lies elsewhere.
"""

from __future__ import annotations

import json
import threading
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np

from livestack.astrometry.facts import SkyFacts
from livestack.astrometry.grid import directions, make_grid, say_dec, say_ra
from livestack.astrometry.hints import year_of
from livestack.astrometry.objects import ObjectLabel, has_catalogue, label_objects
from livestack.astrometry.sky_map import SkyMap
from livestack.faces.web.catalogue import Card, find_card
from livestack.faces.web.sky_words import name_constellation, say_darkness, say_facts, say_fainter, say_what
from livestack.faces.web.status import CURVE_POINTS, finite, thin
from livestack.session.snapshot import Snapshot, Upright

MOST_LABELS = 120
"""A page writes as many of them as it has room for, the first first."""
BARS_ARCSEC = (1, 2, 5, 10, 20, 30, 60, 120, 300, 600, 1200, 1800, 3600, 7200, 18000, 36000, 72000)
SHORTEST_BAR_PX = 20.0


@dataclass(frozen=True, eq=False)
class SolvedPicture:
    """A picture that is known to lie somewhere in the sky; one for each change of what is known.

    Attributes
    ----------
    number : names the change.
    year : Julian, of the newest frame.
    """

    number: int
    facts: SkyFacts
    upright: Upright
    size: tuple[int, int]
    year: float

    @classmethod
    def of(cls, snapshot: Snapshot, number: int) -> SolvedPicture | None:
        """What a snapshot shows; None where its place is not known."""
        if snapshot.sky is None or snapshot.upright is None or not all(snapshot.full_size):
            return None
        year = year_of(snapshot.trend[-1].time if snapshot.trend else None)
        return cls(number, snapshot.sky, snapshot.upright, snapshot.full_size, year)

    def is_of(self, snapshot: Snapshot) -> bool:
        """True when a snapshot shows just this."""
        return snapshot.sky is not None and self.lies_as(snapshot) and _depth(snapshot.sky) == _depth(self.facts)

    def lies_as(self, other: Snapshot | SolvedPicture) -> bool:
        """True when another's pixels lie where these do."""
        facts, size = (other.sky, other.full_size) if isinstance(other, Snapshot) else (other.facts, other.size)
        same = facts is not None and facts.sky is self.facts.sky
        return same and other.upright == self.upright and size == self.size

    @cached_property
    def sky(self) -> SkyMap:
        """Of the picture's own pixels."""
        return self.facts.sky.moved(self.upright.transform, *self.size)


def _depth(facts: SkyFacts) -> tuple[object, ...]:
    return facts.zero_point, facts.limit_mag, facts.sky_mag, facts.limits


def tell_place(solved: SolvedPicture) -> dict[str, Any]:
    """Return what depends on where the picture lies alone, as JSON values.

    `bars` are round lengths, [text, px], growing; `map` is what `SkyMap` has, pixels to the sky.
    """
    sky = solved.sky
    ra, dec = sky.centre
    cards = {label: _card(label) for label in label_objects(sky, MOST_LABELS, solved.year)}
    labels = {_named(label, card): card for label, card in cards.items()}
    constellation = name_constellation(ra, dec)
    north, east = directions(sky)
    return {
        "looking_at": say_what(list(labels), sky, constellation),
        "constellation": constellation,
        "centre": [finite(ra, 6), finite(dec, 6)],
        "centre_words": [say_ra(ra), say_dec(dec)],
        "scale": finite(sky.scale_arcsec, 4),
        "rotation": finite(sky.rotation_deg, 2),
        "mirrored": sky.mirrored,
        "field": [finite(side, 5) for side in sky.field_deg],
        "north": [finite(step, 5) for step in north],
        "east": [finite(step, 5) for step in east],
        "map": {
            "ra": sky.ra_deg, "dec": sky.dec_deg, "x": sky.x, "y": sky.y, "cd": sky.cd.tolist(), "order": sky.order,
            "sip": sky.sip.tolist(),
        },
        "bars": _bars(sky),
        "grid": [{"of": line.of, "text": line.text, "xy": np.round(line.xy, 1).tolist()} for line in make_grid(sky)],
        "labels": [_describe(label, card) for label, card in labels.items()],
        "catalogue": has_catalogue(),
    }  # fmt: skip


def tell_depth(facts: SkyFacts) -> dict[str, Any]:
    """Return how faint the picture reaches and how dark the sky is, as JSON values; null where it is not known."""
    limits = [[n, finite(limit, 2)] for n, limit in thin(facts.limits, CURVE_POINTS) if finite(limit) is not None]
    limit, sky_mag = finite(facts.limit_mag, 2), finite(facts.sky_mag, 2)
    return {
        "solver": facts.solver,
        "n_stars": facts.n_stars,
        "rms_arcsec": finite(facts.rms_arcsec, 3),
        "zero_point": finite(facts.zero_point, 3),
        "limit_mag": limit,
        "limit_words": None if limit is None else say_fainter(limit),
        "limits": limits,
        "sky_mag": sky_mag,
        "sky_words": None if sky_mag is None else say_darkness(sky_mag),
    }


def _bars(sky: SkyMap) -> list[tuple[str, float]]:
    longest = max(sky.width, sky.height) * sky.scale_arcsec
    bars = [arcsec for arcsec in BARS_ARCSEC if SHORTEST_BAR_PX * sky.scale_arcsec / 8 <= arcsec <= longest]
    return [(_say_bar(arcsec), round(arcsec / sky.scale_arcsec, 3)) for arcsec in bars]


def _say_bar(arcsec: int) -> str:
    return f"{arcsec}″" if arcsec < 60 else f"{arcsec // 60}′" if arcsec < 3600 else f"{arcsec // 3600}°"


def _card(label: ObjectLabel) -> Card | None:
    return None if label.kind == "star" else find_card(label.designation)


def _named(label: ObjectLabel, card: Card | None) -> ObjectLabel:
    """With the common name that its card has."""
    if card is None or not card.common_name:
        return label
    return replace(label, name=f"{label.name.partition(' (')[0]} ({card.common_name})")


def _describe(label: ObjectLabel, card: Card | None) -> dict[str, Any]:
    return {
        "kind": label.kind,
        "name": label.name,
        "x": finite(label.x, 1),
        "y": finite(label.y, 1),
        "size": finite(label.size_px, 1),
        "place": [say_ra(label.ra_deg), say_dec(label.dec_deg)],
        "facts": say_facts(label, card),
    }


class SkyDesk:
    """Makes the answer once for each change; may be asked from any thread."""

    def __init__(self) -> None:
        self._place: tuple[SolvedPicture, dict[str, Any]] | None = None
        self._answer: tuple[int, bytes] | None = None
        self._lock = threading.Lock()

    def answer(self, solved: SolvedPicture) -> bytes:
        """Return all that is known of a picture's sky, as JSON."""
        with self._lock:
            if self._answer is None or self._answer[0] != solved.number:
                if self._place is None or not self._place[0].lies_as(solved):
                    self._place = solved, tell_place(solved)
                told = {"number": solved.number, **self._place[1], **tell_depth(solved.facts)}
                text = json.dumps(told, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
                self._answer = solved.number, text.encode()
            return self._answer[1]
