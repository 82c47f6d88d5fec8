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
from livestack.detection.psf import PSFModel
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
    """Return what only the host sees: messages, warnings, what is in force, and the newest frame's number."""
    removed = sum(point.reason == "removed" for point in snapshot.trend)
    return {
        "group": clean_text(snapshot.group),
        "session": clean_text(snapshot.session_name),
        "state": snapshot.state,
        "sky_adu": finite(snapshot.sky_adu, 1),
        "eccentricity": finite(snapshot.eccentricity, 2),
        "render": snapshot.render.model_dump(mode="json"),
        "save": {"final_pass": snapshot.save.final_pass, "flatten": snapshot.save.flatten},
        "moving": snapshot.render.moving if snapshot.follows else None,
        "messages": [clean_text(m) for m in snapshot.messages[-30:]][::-1],
        "warnings": [clean_text(w) for w in snapshot.warnings],
        "newest": snapshot.trend[-1].frame if snapshot.trend else -1,
        "removed": removed,
        "levels": None if snapshot.levels is None else snapshot.levels.tolist(),
        "goals": {clean_text(name): seconds for name, seconds in snapshot.goals.items()},
        "exposure": {clean_text(name): finite(t, 1) for name, t in snapshot.exposure_s.items()},
        "psf": None if snapshot.psf is None else field_map(snapshot.psf, snapshot),
    }


FRAME_COLUMNS = (
    "frame", "file", "stacked", "time", "fwhm_px", "sky_adu", "transparency", "stars", "dx_px", "dy_px", "elongation",
    "reason", "message", "file_there",
)  # fmt: skip
MOST_FRAMES = 500
"""In one answer; the page asks again for those that follow."""


def frame_rows(snapshot: Snapshot, after: int) -> dict[str, Any]:
    """Return the frames that came after number `after`, oldest first, as columns; `more` where there are more."""
    points = [point for point in snapshot.trend if point.frame > after]
    rows = [
        [
            p.frame, clean_text(p.file), p.status == "stacked", None if p.time is None else round(p.time.timestamp()),
            finite(p.fwhm_px, 2), finite(p.sky_adu, 1), finite(p.transparency, 3), p.n_stars, finite(p.dx_px, 2),
            finite(p.dy_px, 2), finite(p.eccentricity, 2), p.reason,
            clean_text(p.message) if p.message else (plain_words(p.reason) if p.reason else None), p.path is not None,
        ]
        for p in points[:MOST_FRAMES]
    ]  # fmt: skip
    return {"columns": FRAME_COLUMNS, "rows": rows, "more": len(points) > MOST_FRAMES}


def field_map(psf: PSFModel, snapshot: Snapshot) -> dict[str, Any]:
    """Return the PSF and how it changes across the field; cells from top to bottom as the picture is shown."""
    profile, field = psf.profile, psf.field
    told: dict[str, Any] = {
        "fwhm_px": finite(psf.fwhm_px, 2), "fwhm_arcsec": finite(psf.fwhm_arcsec, 2), "n_stars": psf.n_stars,
        "fwhm_x_px": finite(profile.fwhm_x_px, 2), "fwhm_y_px": finite(profile.fwhm_y_px, 2),
        "theta_deg": finite(profile.theta_deg, 0), "beta": finite(profile.beta, 1),
        "eccentricity": finite(psf.eccentricity, 2), "map": None,
    }  # fmt: skip
    if field is not None:
        flipped = snapshot.upright is not None and snapshot.upright.bottom_up
        rows = [field.cells[k : k + field.columns] for k in range(0, len(field.cells), field.columns)]
        cells = [cell for row in (reversed(rows) if flipped else rows) for cell in row]
        turn = -1.0 if flipped else 1.0
        told["map"] = {
            "columns": field.columns, "rows": field.rows, "words": list(field.words),
            "cells": [[finite(c.fwhm_px, 2), finite(c.ratio, 2), finite(turn * c.theta_deg, 0), c.n_stars]
                      for c in cells],
        }  # fmt: skip
    return told
