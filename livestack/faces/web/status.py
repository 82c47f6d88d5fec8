"""What the pages are told: a snapshot as plain JSON values, in words for the public and in full for the host.

The public learns no file names and no paths. Lists are thinned so that an update stays within a few kilobytes however
long the night was.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any, TypeVar

from livestack.astrometry.cards import find_card
from livestack.base.text import clean_text
from livestack.session.snapshot import Snapshot

Item = TypeVar("Item")

PLAIN_WORDS = {
    "unreadable": "the file was damaged",
    "truncated": "the file was incomplete",
    "vanished": "the file was gone",
    "wrong_size": "the picture had another size",
    "master": "the calibration did not fit",
    "duplicate": "the same picture came twice",
    "not_a_light": "it was a calibration picture",
    "blank": "the picture was empty",
    "no_registration": "the stars could not be matched",
    "other_field": "the telescope looked elsewhere",
    "clouds": "clouds dimmed the stars",
    "bright_sky": "the sky was too bright",
    "defocus": "the stars were out of focus",
    "trailing": "the telescope shook or the tracking slipped",
    "too_few_stars": "too few stars were visible",
    "high_residual": "the stars did not fit well enough",
    "rejected_samples": "something bright crossed the picture",
    "removed": "the host took it out",
}
"""The reason of a refusal as a visitor understands it; a reason that is not here is shown as its own words."""
CURVE_POINTS = 48
HOST_FRAMES = 400
"""The newest so many frames are listed on the host's page."""


def plain_words(reason: str | None) -> str:
    """Return a machine-readable reason in words for the public."""
    return PLAIN_WORDS.get(reason or "", clean_text((reason or "unknown reason").replace("_", " ")))


def thin(items: Sequence[Item], limit: int) -> list[Item]:
    """Return at most `limit` items, evenly spread, with the first and the last."""
    if len(items) <= limit:
        return list(items)
    step = (len(items) - 1) / (limit - 1)
    return [items[round(n * step)] for n in range(limit)]


def finite(value: float | None, digits: int = 3) -> float | None:
    """Return a rounded number, or None for what JSON cannot hold."""
    return round(float(value), digits) if value is not None and math.isfinite(value) else None


def public_status(snapshot: Snapshot) -> dict[str, Any]:
    """Return what everybody may know of a session, as JSON values."""
    refused = [p for p in snapshot.trend if p.status == "refused"]
    counts = Counter(plain_words(p.reason) for p in refused)
    card = find_card(snapshot.object_name)
    return {
        "state": snapshot.state,
        "object": clean_text(snapshot.object_name),
        "note": clean_text(snapshot.note),
        "card": asdict(card) if card else None,
        "frames": snapshot.n_stacked,
        "frames_session": snapshot.n_session,
        "refused": snapshot.n_refused,
        "waiting": snapshot.n_waiting,
        "exposure": {clean_text(name): finite(t, 1) for name, t in snapshot.exposure_s.items()},
        "exposure_total": finite(sum(snapshot.exposure_s.values()), 1),
        "fwhm_px": finite(snapshot.fwhm_px, 2),
        "fwhm_arcsec": finite(snapshot.fwhm_arcsec, 2),
        "gain": finite(snapshot.snr_gain, 2),
        "ideal": finite(snapshot.snr_ideal, 2),
        "noise": [[n, finite(v, 4)] for n, v in thin(snapshot.noise_history, CURVE_POINTS) if finite(v) is not None],
        "refusals": [{"words": words, "count": count} for words, count in counts.most_common(6)],
        "passed": snapshot.passed,
        "last_refusal": plain_words(refused[-1].reason) if refused else None,
        "full": list(snapshot.full_size),
    }


def host_status(snapshot: Snapshot) -> dict[str, Any]:
    """Return what only the host sees: messages, warnings and the newest frames, newest first."""
    return {
        "group": clean_text(snapshot.group),
        "session": clean_text(snapshot.session_name),
        "state": snapshot.state,
        "sky_adu": finite(snapshot.sky_adu, 1),
        "eccentricity": finite(snapshot.eccentricity, 2),
        "background": snapshot.render.background,
        "saturation": snapshot.render.saturation,
        "moving": snapshot.render.moving if snapshot.follows else None,
        "messages": [clean_text(m) for m in snapshot.messages[-30:]][::-1],
        "warnings": [clean_text(w) for w in snapshot.warnings],
        "frames": [
            {
                "file": p.file,
                "status": p.status,
                "fwhm_px": finite(p.fwhm_px, 2),
                "transparency": finite(p.transparency, 2),
                "stars": p.n_stars,
                "message": clean_text(p.message) if p.message else (plain_words(p.reason) if p.reason else None),
            }
            for p in reversed(snapshot.trend[-HOST_FRAMES:])
        ],
    }
