"""The sky in the picture that faces show: where it lies, what is named in it, lines, directions, lengths.

All places are true pixels of the upright picture, 0-based, integers at pixel centres. `SolvedPicture` is cheap to make
for each snapshot; `PlacedSky` is made anew only where the picture lies elsewhere.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property

from livestack.astrometry.cards import Card, find_card
from livestack.astrometry.facts import SkyFacts
from livestack.astrometry.grid import GridLine, directions, make_grid
from livestack.astrometry.hints import year_of
from livestack.astrometry.objects import ObjectLabel, label_objects
from livestack.astrometry.sky_map import SkyMap
from livestack.astrometry.sky_words import name_constellation, say_what
from livestack.session.snapshot import Snapshot, Upright

MOST_LABELS = 120
"""A face writes as many of them as it has room for, the first first."""
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


@dataclass(frozen=True, eq=False)
class PlacedSky:
    """All that depends on where a picture lies alone.

    Attributes
    ----------
    looking_at : a sentence; constellation : of the middle.
    labels : what is named, the most prominent first, with its card, None where there is none.
    lines : of right ascension and declination; north, east : steps of length 1 in the middle.
    bars : round lengths, (text, px), growing.
    """

    sky: SkyMap
    looking_at: str
    constellation: str
    labels: tuple[tuple[ObjectLabel, Card | None], ...]
    lines: tuple[GridLine, ...]
    north: tuple[float, float]
    east: tuple[float, float]
    bars: tuple[tuple[str, float], ...]

    @classmethod
    def of(cls, solved: SolvedPicture) -> PlacedSky:
        """Name and measure what a picture shows."""
        sky = solved.sky
        labels = tuple(_named(label) for label in label_objects(sky, MOST_LABELS, solved.year))
        constellation = name_constellation(*sky.centre)
        said = say_what([label for label, _ in labels], sky, constellation)
        return cls(sky, said, constellation, labels, tuple(make_grid(sky)), *directions(sky), tuple(_bars(sky)))


def _named(label: ObjectLabel) -> tuple[ObjectLabel, Card | None]:
    """With its card, and with the common name that this has."""
    card = None if label.kind == "star" else find_card(label.designation)
    if card is None or not card.common_name:
        return label, card
    return replace(label, name=f"{label.name.partition(' (')[0]} ({card.common_name})"), card


def _bars(sky: SkyMap) -> list[tuple[str, float]]:
    longest = max(sky.width, sky.height) * sky.scale_arcsec
    bars = [arcsec for arcsec in BARS_ARCSEC if SHORTEST_BAR_PX * sky.scale_arcsec / 8 <= arcsec <= longest]
    return [(_say_bar(arcsec), round(arcsec / sky.scale_arcsec, 3)) for arcsec in bars]


def _say_bar(arcsec: int) -> str:
    return f"{arcsec}″" if arcsec < 60 else f"{arcsec // 60}′" if arcsec < 3600 else f"{arcsec // 3600}°"
