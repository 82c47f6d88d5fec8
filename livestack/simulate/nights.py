"""Nights with a name: what `livestack simulate --scenario` offers.

Each is the default night with some knobs turned. Faults sit at shares of the night, so that they scale with the number
of frames.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from livestack.errors import UsageError
from livestack.simulate.scenario import Fault, FaultKind, Scenario

_AREA_PX = 800 * 600
"""Frames of this size have the number of stars that the night says; others go with the root of their area."""


def _at(frames: int, share: float) -> int:
    """The frame at that share of the night."""
    return min(int(share * frames), frames - 1)


def _fault(kind: FaultKind, frames: int, share: float, amount: float = 1.0, to: float | None = None) -> Fault:
    """A fault from one share of the night to another."""
    last = None if to is None else max(_at(frames, to), _at(frames, share))
    return Fault(kind=kind, first=_at(frames, share), last=last, amount=amount)


def _mono(frames: int) -> dict[str, Any]:
    return {"rotation_deg": 0.02, "dither_px": 4.0}


def _osc(frames: int) -> dict[str, Any]:
    return {"bayer": "RGGB", "rotation_deg": 0.02, "dither_px": 4.0, "camera": "Simulated 533MC"}


def _trails(frames: int) -> dict[str, Any]:
    crossing = [_fault("satellite", frames, share, 25) for share in (0.3, 0.3, 0.6)]
    faults = [Fault(kind="satellite", first=0, amount=20), *crossing]
    return {**_mono(frames), "satellite_rate": 0.35, "cosmic_rate": 25.0,
            "faults": (*faults, _fault("aircraft", frames, 0.75, 18))}  # fmt: skip


SCENARIOS: dict[str, tuple[str, Callable[[int], dict[str, Any]]]] = {
    "mono": ("equatorial mount, drift, dither and a little rotation", _mono),
    "osc": ("the same with a colour mosaic", _osc),
    "trails": ("satellites (one in the first frame, two that cross), an aircraft, cosmic rays", _trails),
}
"""Name: what it shows, and the knobs it turns for a given number of frames."""


def named_scenario(name: str, **changes: Any) -> Scenario:
    """The night called `name`, with any other knobs of `Scenario` turned by `changes`.

    Raises
    ------
    UsageError : there is no such night, or a knob has no such name or value.
    """
    if name not in SCENARIOS:
        raise UsageError(f"scenario: there is no night called {name}; choose one of {', '.join(SCENARIOS)}.")
    frames = int(changes.get("frames", Scenario().frames))
    knobs: dict[str, Any] = {"name": name, **SCENARIOS[name][1](frames), **changes}
    if "stars_within" not in knobs and "stars" not in changes:
        area = int(knobs.get("width", 800)) * int(knobs.get("height", 600))
        knobs["stars"] = round(int(knobs.get("stars", Scenario().stars)) * math.sqrt(area / _AREA_PX))
    try:
        return Scenario(**knobs)
    except ValueError as error:
        raise UsageError(f"scenario: {error}") from error


def parse_size(words: str) -> tuple[int, int]:
    """(width, height) of "800x600"."""
    parts = words.lower().split("x")
    if len(parts) != 2 or not all(part.strip().isdigit() for part in parts):
        raise UsageError(f"size: found {words}, expected width x height in pixels, such as 800x600.")
    return int(parts[0]), int(parts[1])
