"""What is told while it happens: a star that fades, flares, or was not there before, in one sentence, once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from livestack.photometry.night import Newcomer, Solution

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

PLAIN = 4.0
"""A newcomer has to be so many times as bright as the faintest stars of the reference, which thus would have shown it
plainly, had it been there."""
BORDER_PX = 12.0
"""Nearer to the reference's border a star may have been cut by it."""
LONELY_PX = 12.0
"""Nearer to a star that is known, what is new may be its halo, or a companion that better seeing has parted from it."""


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


def say_newcomers(found: Sequence[Newcomer], xy: np.ndarray, size: tuple[int, int]) -> list[str]:
    """Sentences on stars that were not there before; none where many come at once, for then the sky has cleared.

    Parameters
    ----------
    xy : (n, 2) px of the reference, of all stars that are followed; size : (width, height) of the reference.
    """
    plain = [one for one in found if one.plain >= PLAIN and _stands_alone(one, xy, size)]
    if len(plain) > MOST_AT_ONCE:
        return []
    return [
        f"A star that was not there before: star {one.star} (x {one.x:.0f}, y {one.y:.0f}), {one.plain:.0f} times as "
        "bright as the faintest of the first frames. Look whether it moves, and whether a chart has it."
        for one in plain
    ]


def _stands_alone(one: Newcomer, xy: np.ndarray, size: tuple[int, int]) -> bool:
    width, height = size
    if not (BORDER_PX < one.x < width - BORDER_PX and BORDER_PX < one.y < height - BORDER_PX):
        return False
    away = np.hypot(xy[:, 0] - one.x, xy[:, 1] - one.y)
    return int((away < LONELY_PX).sum()) <= 1  # itself
