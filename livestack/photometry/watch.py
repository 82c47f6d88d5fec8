"""What is told while it happens: a star that fades, flares, or was not there before, in one sentence, once."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
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
THERE_ALL_ALONG = 0.85
"""Of a star that came, the mean of all frames holds less of its light; of one that a frame has missed, all of it."""
ALIKE, COMPARED = 4.0, 30
"""A star is compared with so many others at most whose light is within this factor of its own."""
OPENING_PX, RING_PX = 1.5, (3.0, 5.0)
"""Radii, in units of the FWHM, of the opening that light is summed in, and of the ring around it."""


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


def light_in_mean(
    image: Callable[[slice, slice], np.ndarray], shape: tuple[int, ...], one: Newcomer, stars: np.ndarray,
    flux: np.ndarray, fwhm_px: float,
) -> float | None:  # fmt: skip
    """Light of a newcomer in the mean of all frames, over what a star of its brightness has there; None: not known.

    Parameters
    ----------
    image : rows and columns of the mean -> (C, h, w) ADU; shape : (C, H, W) of it.
    stars : (n, 2) px of the mean, of all stars that are followed, the newcomer among them; flux : (n,) ADU.
    """
    near = np.abs(np.log(np.maximum(flux, 1e-9) / max(one.flux, 1e-9))) < math.log(ALIKE)
    near[one.star] = False
    others = np.flatnonzero(near)[:COMPARED]
    sums = np.array([_sum_around(image, shape, stars[k], fwhm_px) for k in (one.star, *others)])
    usual = sums[1:] / flux[others]
    usual = usual[np.isfinite(usual)]
    if len(usual) < 3 or not np.median(usual) > 0 or not np.isfinite(sums[0]):
        return None
    return float(sums[0] / (np.median(usual) * one.flux))


def _sum_around(
    image: Callable[[slice, slice], np.ndarray], shape: tuple[int, ...], at: np.ndarray, fwhm_px: float
) -> float:
    """Light within an opening, less the sky of a ring; NaN near the border."""
    reach = math.ceil(RING_PX[1] * fwhm_px)
    x, y = round(float(at[0])), round(float(at[1]))
    if not (reach <= x < shape[2] - reach and reach <= y < shape[1] - reach):
        return math.nan
    part = image(slice(y - reach, y + reach + 1), slice(x - reach, x + reach + 1)).mean(axis=0)
    r = np.hypot(np.arange(x - reach, x + reach + 1) - at[0], (np.arange(y - reach, y + reach + 1) - at[1])[:, None])
    ring = part[(r > RING_PX[0] * fwhm_px) & (r < RING_PX[1] * fwhm_px)]
    return float(np.sum(part[r < OPENING_PX * fwhm_px] - np.median(ring)))


def _stands_alone(one: Newcomer, xy: np.ndarray, size: tuple[int, int]) -> bool:
    width, height = size
    if not (BORDER_PX < one.x < width - BORDER_PX and BORDER_PX < one.y < height - BORDER_PX):
        return False
    away = np.hypot(xy[:, 0] - one.x, xy[:, 1] - one.y)
    return int((away < LONELY_PX).sum()) <= 1  # itself
