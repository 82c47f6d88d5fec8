"""What is told while it happens: a star that fades or flares, in one sentence, once."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from livestack.photometry.night import Solution

FRAMES = 3
"""So many good frames in a row have to agree."""
SIGMA = 6.0
"""Each of them is off by so much, against its error and the star's usual scatter; chance makes that once in 10^25."""
LEAST_MAG = 0.03
"""Smaller changes are left to the table of what varies: they may still turn out to be the sky's."""
LEAST_SOLVED = 12
"""Frames before which too little is known of the stars' usual scatter."""
MOST_AT_ONCE = 3
"""More stars at once are no stars' doing, but the sky's."""


class Sudden:
    """Notices stars of one group that change; remembers which were told."""

    def __init__(self, told: Mapping[str, Any] | None = None) -> None:
        self._told: set[int] = set(told["stars"]) if told is not None else set()

    def state(self) -> Mapping[str, Any]:
        """What the constructor takes."""
        return {"stars": sorted(self._told)}

    def look(self, solution: Solution) -> list[str]:
        """Sentences on stars that have changed in the newest frames."""
        curves = solution.curves
        if solution.n_solved < LEAST_SOLVED:
            return []
        mags, errors, flags = (part[:, -FRAMES:] for part in (curves.mags, curves.errors, curves.flags))
        left = mags - solution.mean[:, None]
        with np.errstate(invalid="ignore"):
            pull = left / np.hypot(errors, solution.scatter[:, None])
            good = (flags == 0) & np.isfinite(pull)
            faded = (good & (pull > SIGMA)).all(axis=1)
            flared = (good & (pull < -SIGMA)).all(axis=1)
            much = np.abs(np.median(left, axis=1)) > LEAST_MAG
        found = [int(k) for k in np.flatnonzero((faded | flared) & much) if k not in self._told]
        if len(found) > MOST_AT_ONCE:
            return []
        self._told.update(found)
        return [_sentence(solution, star, float(np.median(left[star]))) for star in found]


def _sentence(solution: Solution, star: int, by: float) -> str:
    curves = solution.curves
    did = "fades" if by > 0 else "flares"
    where = f"x {curves.x[star]:.0f}, y {curves.y[star]:.0f}"
    return f"Star {star} ({where}) {did}: {abs(by):.2f} mag {'fainter' if by > 0 else 'brighter'} than before."
