"""What the pages are told of the sky in the picture: where it lies, lines, names, and how faint it reaches.

The map from pixels to the sky is sent as its numbers, so that a page finds the place under a finger by itself.
`SkyDesk` makes the answer once for each change; names and lines (`faces.solved`) are made anew only where the picture
lies elsewhere.
"""

from __future__ import annotations

import json
import threading
from typing import Any

import numpy as np

from livestack.astrometry.cards import Card
from livestack.astrometry.facts import SkyFacts
from livestack.astrometry.grid import say_dec, say_ra
from livestack.astrometry.objects import ObjectLabel, has_catalogue
from livestack.astrometry.sky_words import say_darkness, say_facts, say_fainter
from livestack.faces.solved import PlacedSky, SolvedPicture
from livestack.faces.web.status import CURVE_POINTS, finite, thin


def tell_place(solved: SolvedPicture) -> dict[str, Any]:
    """Return what depends on where the picture lies alone, as JSON values.

    `bars` are round lengths, [text, px], growing; `map` is what `SkyMap` has, pixels to the sky.
    """
    placed = PlacedSky.of(solved)
    sky = placed.sky
    ra, dec = sky.centre
    return {
        "looking_at": placed.looking_at,
        "constellation": placed.constellation,
        "centre": [finite(ra, 6), finite(dec, 6)],
        "centre_words": [say_ra(ra), say_dec(dec)],
        "scale": finite(sky.scale_arcsec, 4),
        "rotation": finite(sky.rotation_deg, 2),
        "mirrored": sky.mirrored,
        "field": [finite(side, 5) for side in sky.field_deg],
        "north": [finite(step, 5) for step in placed.north],
        "east": [finite(step, 5) for step in placed.east],
        "map": {
            "ra": sky.ra_deg, "dec": sky.dec_deg, "x": sky.x, "y": sky.y, "cd": sky.cd.tolist(), "order": sky.order,
            "sip": sky.sip.tolist(),
        },
        "bars": placed.bars,
        "grid": [{"of": line.of, "text": line.text, "xy": np.round(line.xy, 1).tolist()} for line in placed.lines],
        "labels": [_describe(label, card) for label, card in placed.labels],
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
