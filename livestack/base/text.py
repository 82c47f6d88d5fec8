"""How numbers are said to people: durations, quantities with units, clean text. Shared by the faces.

Imports nothing of ours, so that every face may use it without knowing another face.
"""

from __future__ import annotations

import math


def say_duration(seconds: float) -> str:
    """Return a duration in at most two units: "45 s", "3 min 20 s", "1 h 05 min"."""
    if not math.isfinite(seconds) or seconds <= 0:
        return "0 s"
    if seconds < 10 and seconds != round(seconds):
        return f"{seconds:.1f} s"
    whole = round(seconds)
    hours, rest = divmod(whole, 3600)
    minutes, seconds_left = divmod(rest, 60)
    if hours:
        return f"{hours} h {minutes:02d} min"
    if minutes:
        return f"{minutes} min {seconds_left:02d} s" if seconds_left else f"{minutes} min"
    return f"{seconds_left} s"


def say_number(value: float | None, digits: int = 1, unit: str = "") -> str:
    """Return a number with its unit, or a dash where it was not measured."""
    if value is None or not math.isfinite(value):
        return "–"
    return f"{value:.{digits}f}{' ' + unit if unit else ''}"


def say_exposure(exposure_s: dict[str, float]) -> str:
    """Return the exposure by filter: "L 1 h 05 min · Ha 20 min"; without filter names just the time."""
    if not exposure_s:
        return "0 s"
    return " · ".join(f"{name} {say_duration(t)}".strip() for name, t in sorted(exposure_s.items()))


def clean_text(text: str) -> str:
    """Return `text` without control characters: a file name must not be able to drive a terminal or break a line."""
    return "".join(c if c.isprintable() else " " for c in text)
