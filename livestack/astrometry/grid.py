"""Lines of right ascension and declination over a picture, of round steps that fit its field."""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass
from typing import Literal

import numpy as np

from livestack.astrometry.catalogue import to_vectors
from livestack.astrometry.sky_map import SkyMap

DEC_STEPS_DEG = tuple(v / 3600 for v in (1, 2, 5, 10, 20, 30)) + tuple(v / 60 for v in (1, 2, 5, 10, 20, 30)) + (
    1, 2, 5, 10, 15, 30,
)  # fmt: skip
RA_STEPS_S = (
    0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 30, 60, 120, 300, 600, 1200, 1800, 3600, 7200, 10800, 21600,
)  # fmt: skip
"""Seconds of right ascension: 86400 around the sky."""
MOST_LINES = 7
AROUND_POLE_S = 7200
"""Step of right ascension where a pole is in the picture."""
SAMPLES = 240
"""Places of a line before it is thinned."""
STRAIGHT_PX = 0.2
"""So far from the line a thinned one may lie."""


@dataclass(frozen=True, eq=False)
class GridLine:
    """One line, or a piece of one where it leaves the picture between.

    Attributes
    ----------
    of : "ra": all along it right ascension is `value_deg`; "dec": declination.
    text : as it is written: "5h 36m", "−1° 20′".
    xy : (n, 2) corners of the polyline, px, all in the picture.
    """

    of: Literal["ra", "dec"]
    value_deg: float
    text: str
    xy: np.ndarray


def make_grid(sky: SkyMap) -> list[GridLine]:
    """The lines that cross a picture.

    Parameters
    ----------
    sky : of its pixels.
    """
    ra_middle, low, high, reach = _extent(sky)
    field = max(sky.field_deg)
    dec_step = next((s for s in DEC_STEPS_DEG if field / s <= MOST_LINES), DEC_STEPS_DEG[-1])
    around = reach >= 180.0
    ra_step = AROUND_POLE_S / 240 if around else next(s for s in RA_STEPS_S if 2 * reach * 240 / s <= MOST_LINES) / 240
    lines = []
    spread = np.linspace(-1.0, 1.0, SAMPLES + 1)
    for k in range(math.ceil(low / dec_step - 1e-9), math.floor(high / dec_step + 1e-9) + 1):
        dec = k * dec_step
        if abs(dec) < 90.0 - 1e-9:
            along = np.column_stack([ra_middle + reach * spread, np.full(len(spread), dec)])
            lines += [GridLine("dec", dec, say_dec(dec, dec_step), xy) for xy in _pieces(sky, along)]
    first = math.ceil((ra_middle - reach) / ra_step - 1e-9)
    last = math.floor((ra_middle + reach) / ra_step + 1e-9)
    for k in range(first, min(last, first + round(360 / ra_step) - 1) + 1):
        ra = k * ra_step % 360.0
        along = np.column_stack([np.full(len(spread), ra), (low + high) / 2 + (high - low) / 2 * spread])
        lines += [GridLine("ra", ra, say_ra(ra, ra_step), xy) for xy in _pieces(sky, along)]
    return lines


def say_ra(ra_deg: float, step_deg: float = 1 / 240) -> str:
    """Hours, minutes and seconds, as many as the step needs."""
    tenths = round(ra_deg * 2400) % 864000
    step = round(step_deg * 2400)
    h, m, s = tenths // 36000, tenths // 600 % 60, tenths % 600
    if step % 36000 == 0:
        return f"{h}h"
    if step % 600 == 0:
        return f"{h}h {m:02d}m"
    return f"{h}h {m:02d}m {s // 10:02d}s" if step % 10 == 0 else f"{h}h {m:02d}m {s / 10:04.1f}s"


def say_dec(dec_deg: float, step_deg: float = 1 / 3600) -> str:
    """Degrees, minutes and seconds of arc, as many as the step needs, with the sign."""
    seconds, step = round(abs(dec_deg) * 3600), round(step_deg * 3600)
    sign = "" if not seconds else "−" if dec_deg < 0 else "+"
    d, m, s = seconds // 3600, seconds // 60 % 60, seconds % 60
    if step % 3600 == 0:
        return f"{sign}{d}°"
    return f"{sign}{d}° {m:02d}′" if step % 60 == 0 else f"{sign}{d}° {m:02d}′ {s:02d}″"


def _extent(sky: SkyMap) -> tuple[float, float, float, float]:
    """RA of the middle, least and greatest Dec, and how far RA reaches to both sides: 180 where a pole is in it."""
    x, y = np.linspace(-0.5, sky.width - 0.5, 41), np.linspace(-0.5, sky.height - 0.5, 41)
    places = sky.to_sky(np.stack(np.meshgrid(x, y), axis=-1).reshape(-1, 2))
    low, high = float(places[:, 1].min()), float(places[:, 1].max())
    ra = sky.centre[0]
    margin = 0.05 * (high - low)
    low, high = max(-90.0, low - margin), min(90.0, high + margin)
    poles = sky.to_pixels(np.array([(0.0, -90.0), (0.0, 90.0)]))
    inside = [-0.5 <= px <= sky.width - 0.5 and -0.5 <= py <= sky.height - 0.5 for px, py in poles]
    if any(inside):
        return ra, -90.0 if inside[0] else low, 90.0 if inside[1] else high, 180.0
    reach = float(np.abs((places[:, 0] - ra + 180.0) % 360.0 - 180.0).max())
    return ra, low, high, min(180.0, 1.05 * reach)


def _pieces(sky: SkyMap, along: np.ndarray) -> list[np.ndarray]:
    """Where a line (n, 2) of the sky runs in the picture: thinned polylines, cut at its edges."""
    xy = sky.pixels_of(to_vectors(along[:, 0], along[:, 1]))
    pieces: list[list[np.ndarray]] = []
    for a, b in itertools.pairwise(xy):
        cut = _cut(a, b, sky.width, sky.height)
        if cut is None:
            continue
        if pieces and np.array_equal(pieces[-1][-1], cut[0]):
            pieces[-1].append(cut[1])
        else:
            pieces.append([cut[0], cut[1]])
    return [_thin(np.array(piece)) for piece in pieces]


def _cut(a: np.ndarray, b: np.ndarray, width: int, height: int) -> tuple[np.ndarray, np.ndarray] | None:
    """The part of a segment in the picture (Liang & Barsky 1984, doi:10.1145/357332.357333); None: no part, or NaN."""
    if not np.isfinite(a + b).all():
        return None
    start, stop = 0.0, 1.0
    for axis, end in ((0, width - 0.5), (1, height - 0.5)):
        step = b[axis] - a[axis]
        for towards, room in ((-step, a[axis] + 0.5), (step, end - a[axis])):
            if towards == 0:
                if room < 0:
                    return None
            elif towards < 0:
                start = max(start, room / towards)
            else:
                stop = min(stop, room / towards)
    if start >= stop:
        return None
    return (a if start == 0 else a + start * (b - a)), (b if stop == 1 else a + stop * (b - a))


def _thin(xy: np.ndarray) -> np.ndarray:
    """Leave out corners of a polyline (n, 2) that lie on it all the same (Douglas & Peucker 1973)."""
    if len(xy) < 3:
        return xy
    chord = xy[-1] - xy[0]
    length = float(np.hypot(*chord))
    off = xy[1:-1] - xy[0]
    away = np.abs(off @ (-chord[1], chord[0])) / length if length > 1e-9 else np.hypot(*off.T)
    worst = int(np.argmax(away)) + 1
    if away[worst - 1] <= STRAIGHT_PX:
        return xy[[0, -1]]
    return np.concatenate([_thin(xy[: worst + 1])[:-1], _thin(xy[worst:])])


def directions(sky: SkyMap) -> tuple[tuple[float, float], tuple[float, float]]:
    """North and east in the middle of the picture, as steps (x, y) of length 1."""
    middle = np.array([[(sky.width - 1) / 2, (sky.height - 1) / 2]])
    (ra, dec) = np.radians(sky.to_sky(middle)[0])
    out = to_vectors(*np.degrees((ra, dec)))
    north = np.array([-math.sin(dec) * math.cos(ra), -math.sin(dec) * math.sin(ra), math.cos(dec)])
    east = np.array([-math.sin(ra), math.cos(ra), 0.0])
    tiny = math.radians(sky.scale_arcsec / 3600)
    steps = [sky.pixels_of((out + tiny * way)[None]) - middle for way in (north, east)]
    (nx, ny), (ex, ey) = (tuple(map(float, step[0] / np.hypot(*step[0]))) for step in steps)
    return (nx, ny), (ex, ey)
