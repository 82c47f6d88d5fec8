"""What the pages are told of the stars' light: which vary most, where they are in the picture, one star's curve.

Places are true pixels of the upright picture, 0-based, integers at pixel centres. Magnitudes are relative to the star's
mean: positive is fainter. Everything is small, however many stars and frames there are: rings for the brightest stars,
a short table, and curves of at most a thousand points. `StarDesk` makes each answer once for each change.
"""

from __future__ import annotations

import hashlib
import json
import threading
from collections import OrderedDict
from dataclasses import dataclass
from typing import Any

import numpy as np

from livestack.faces.web.light_words import tell_light
from livestack.faces.web.status import finite
from livestack.photometry import SATURATED, Curves
from livestack.photometry.times import posix_seconds
from livestack.photometry.variability import VARIES
from livestack.session.snapshot import Snapshot, Upright

MOST_RINGS = 200
MOST_ROWS = 20
MOST_POINTS = 1000
LEAST_GOOD = 3
"""Stars with fewer good measurements are not shown."""
WITHIN_PX = 60.0
"""A tap hits the nearest star that is not further from it, at most; pages ask for less when zoomed in."""
HOURS = 24.0
FALSE_ALARMS = "By chance alone less than one star in a night of two thousand is marked."
KEPT = 64


@dataclass(frozen=True, eq=False)
class Starlight:
    """Curves with the picture that they belong to; one for each change of either.

    Attributes
    ----------
    number : names the change.
    key : names the set of stars: the same as long as a star keeps its row.
    """

    number: int
    key: str
    curves: Curves
    upright: Upright
    size: tuple[int, int]

    @classmethod
    def of(cls, snapshot: Snapshot, number: int) -> Starlight | None:
        """The light that a snapshot shows; None where it shows none."""
        curves, upright = snapshot.curves, snapshot.upright
        if curves is None or upright is None or not len(curves) or not curves.files:
            return None
        # A group that begins anew numbers its stars anew; it then begins with another frame.
        words = f"{curves.group}\n{curves.files[0]}\n{curves.index[0]}"
        return cls(number, hashlib.sha256(words.encode()).hexdigest()[:12], curves, upright, snapshot.full_size)

    def is_of(self, snapshot: Snapshot) -> bool:
        """True when a snapshot shows just this."""
        same = snapshot.curves is self.curves and snapshot.upright == self.upright
        return same and snapshot.full_size == self.size

    def find(
        self, star: int | None, key: str | None, place: tuple[float, float] | None, within_px: float
    ) -> int | None:
        """The star of that number where the numbers still mean the same, else the nearest to a place of the picture."""
        if star is not None and key in (None, self.key):
            return star if 0 <= star < len(self.curves) else None
        if place is None:
            return None
        return self.curves.nearest(*self.upright.to_reference(*place), min(within_px, WITHIN_PX))


def list_stars(light: Starlight) -> dict[str, Any]:
    """Return where to draw rings, and the table of what varies most, as JSON values."""
    curves = light.curves
    x, y = light.upright.from_reference(curves.x, curves.y)
    width, height = light.size
    inside = (x > -0.5) & (y > -0.5) & (x < width - 0.5) & (y < height - 0.5)
    usable = np.flatnonzero(inside & (curves.n_good >= LEAST_GOOD) & np.isfinite(curves.mag))
    sure = np.nan_to_num(curves.variability, nan=-np.inf)
    varies = sure > VARIES
    by_light = usable[np.lexsort((curves.mag[usable], ~varies[usable]))]  # those that vary first, then the brightest
    known = usable[np.isfinite(curves.variability[usable])]
    most = known[np.argsort(-sure[known], kind="stable")][:MOST_ROWS]
    return {
        "number": light.number,
        "key": light.key,
        "frames": len(curves.files),
        "measured": len(usable),
        "varying": int(np.count_nonzero(varies[usable])),
        "threshold": VARIES,
        "false_alarms": FALSE_ALARMS,
        "rings": [
            [int(star), finite(x[star], 1), finite(y[star], 1), int(varies[star])] for star in by_light[:MOST_RINGS]
        ],
        "most": [_describe(light, int(star)) for star in most],
    }


def tell_star(light: Starlight, star: int) -> dict[str, Any]:
    """Return one star's curve as JSON values.

    `points` are [hours since `start`, mag relative to the mean, error, flag], flag 0 = good; `start` is in seconds
    since 1970 UTC. Where the frames have no dates `start` is null and the frame's number stands for the hours. `light`
    is what `tell_light` says, or "clipped" of a star that is too bright to be measured.
    """
    curves = light.curves
    hours, start = _hours(curves.jd)
    left, error = curves.mags[star] - curves.mag[star], curves.errors[star]
    flag = curves.flags[star].astype(int)
    shown = np.isfinite(hours) & np.isfinite(left) & np.isfinite(error)
    order = np.flatnonzero(shown)[np.argsort(hours[shown], kind="stable")]
    points = np.column_stack([hours, left, error, flag])[order]
    good = points[points[:, 3] == 0]
    thinned, frames = thin_points(points)
    told = tell_light(good[:, 0], good[:, 1], good[:, 2], bool(curves.variability[star] > VARIES))
    if told["is"] == "new" and np.mean(flag & SATURATED != 0) > 0.5:
        told["is"] = "clipped"
    return {
        "number": light.number,
        "key": light.key,
        **_describe(light, star),
        "good": len(good),
        "start": start,
        "light": told,
        "frames_per_point": frames,
        "points": [[finite(h, 4), finite(m, 4), finite(e, 4), int(f)] for h, m, e, f in thinned],
    }


def thin_points(points: np.ndarray) -> tuple[np.ndarray, int]:
    """Bring (n, 4) points in order of time to a thousand at most, each the mean of so many frames in a row.

    Flagged points are left out first; a mean is weighted by the errors.
    """
    if len(points) <= MOST_POINTS:
        return points, 1
    good = points[points[:, 3] == 0]
    each = -(-len(good) // MOST_POINTS)
    if each <= 1:
        return good, 1
    first = np.arange(0, len(good), each)
    weight = 1.0 / np.maximum(good[:, 2], 1e-6) ** 2
    total = np.add.reduceat(weight, first)
    hours, left = (np.add.reduceat(weight * good[:, k], first) / total for k in (0, 1))
    return np.column_stack([hours, left, total**-0.5, np.zeros(len(first))]), each


def _describe(light: Starlight, star: int) -> dict[str, Any]:
    curves = light.curves
    x, y = light.upright.from_reference(curves.x[star], curves.y[star])
    return {
        "star": star,
        "x": finite(float(x), 1),
        "y": finite(float(y), 1),
        "mag": finite(curves.mag[star]),
        "rms_mmag": finite(curves.rms_mmag[star], 1),
        "expected_mmag": finite(curves.expected_mmag[star], 1),
        "variability": finite(curves.variability[star], 1),
        "varies": bool(curves.variability[star] > VARIES),
    }


def _hours(jd: np.ndarray) -> tuple[np.ndarray, float | None]:
    """Hours since the first frame that has a date, and that date; the number of each frame where hardly any has one."""
    dated = np.isfinite(jd)
    if dated.sum() < 2 or dated.mean() < 0.5:
        return np.arange(1, len(jd) + 1, dtype=float), None
    first = float(jd[dated].min())
    return (jd - first) * HOURS, round(float(posix_seconds(np.array(first))), 1)


class StarDesk:
    """Makes answers once for each change, and keeps the newest; may be asked from any thread."""

    def __init__(self) -> None:
        self._kept: OrderedDict[tuple[int, int | None], bytes] = OrderedDict()
        self._lock = threading.Lock()

    def answer(self, light: Starlight, star: int | None) -> bytes:
        """Return the list (None), or one star's curve, as JSON."""
        key = (light.number, star)
        with self._lock:
            if key not in self._kept:
                told = list_stars(light) if star is None else tell_star(light, star)
                self._kept[key] = json.dumps(told, allow_nan=False, separators=(",", ":")).encode()
                while len(self._kept) > KEPT:
                    self._kept.popitem(last=False)
            return self._kept[key]
