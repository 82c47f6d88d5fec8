"""What the air did to the light, frame by frame: light lost against the best frame, air mass, brightness of the sky.

A frame's zero point is told by the journal's `transparency`: the light of the stars that it shares with the reference,
a second of exposure, over theirs there. So frames of different exposure compare, and those of another filter are
another group. Where the reference changed, what was told before is carried over by what the new one had itself. What
this cannot tell from cloud is another gain of the camera. (The fluxes of `lightcurves.csv` would not do: they are
weighed by each frame's own profile, which the comparison with other stars takes out again.)

The sky's brightness follows from the stack's `SKYMAG`, which is that of the reference frame, by the ratio of the sky's
ADU a second: one zero point for all frames, so that a cloud that dims the stars does not pass for a brighter sky (as
Patat 2003, doi:10.1051/0004-6361:20030030, leaves it uncorrected for extinction).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from astropy.io import fits
from scipy.stats import theilslopes

from livestack.base.journal import FrameRecord, Record, ReferenceRecord
from livestack.photometry.times import airmass, find_site, jd_of

FIT_FRAMES, FIT_RANGE = 8, 0.15
"""An extinction is told of so many frames over so much air mass."""
MOST_PAIRED = 200
"""Frames whose slopes with each other begin the fit."""
Key = tuple[str, int]
"""File, and position in it."""


@dataclass(frozen=True)
class Extinction:
    """Magnitudes that each air mass takes, with their error; `at_none` is where the line begins, without air."""

    mag: float
    error: float
    at_none: float

    def at(self, air: float) -> float:
        """Light lost at an air mass, on the scale of what it was fitted to."""
        return self.at_none + self.mag * air


def dimming_of(records: Sequence[Record], group: str) -> dict[Key, float]:
    """Magnitudes that each frame of a group is dimmer than the last reference, a second of exposure.

    Parameters
    ----------
    records : of the journal, in its order.
    """
    dimmer: dict[Key, float] = {}
    for record in records:
        if isinstance(record, FrameRecord) and record.group == group:
            if record.transparency is not None and record.transparency > 0:
                dimmer[record.file, record.index] = -2.5 * math.log10(record.transparency)
        elif isinstance(record, ReferenceRecord) and record.group == group and dimmer:
            new = next((value for key, value in dimmer.items() if _spoken(*key) == record.file), None)
            if new is None or record.from_previous is None:
                dimmer.clear()
            dimmer = {key: value - new for key, value in dimmer.items() if new is not None}
    return dimmer


def lost_light(frames: Sequence[FrameRecord], dimming: Mapping[Key, float]) -> list[float]:
    """Magnitudes that each frame's stars are fainter than in the best one that was stacked; NaN: not known."""
    each = [dimming.get((frame.file, frame.index), math.nan) for frame in frames]
    taken = [one for one, frame in zip(each, frames, strict=True) if frame.status == "stacked" and math.isfinite(one)]
    best = min(taken, default=math.nan)
    return [one - best for one in each]


def air_masses(frames: Sequence[FrameRecord], place: tuple[float, float], header: fits.Header) -> list[float]:
    """Air mass of each frame towards `place` (RA, Dec, degrees); NaN without a site in the header, or its time."""
    site = find_site(header)
    jd = np.array([jd_of(frame.date_obs, frame.exposure_s) for frame in frames])
    if site is None or not np.isfinite(jd).any():
        return [math.nan] * len(frames)
    return [float(value) for value in airmass(jd, np.array(place[0]), np.array(place[1]), site)]


def fit_extinction(air: Sequence[float], lost: Sequence[float]) -> Extinction | None:
    """A line through the light lost against air mass, clouds left out; None where the frames do not tell."""
    x, y = np.asarray(air, dtype=float), np.asarray(lost, dtype=float)
    known = np.flatnonzero(np.isfinite(x + y))
    x, y = x[known], y[known]
    if len(x) < FIT_FRAMES or np.ptp(x) < FIT_RANGE:
        return None
    some = np.unique(np.linspace(0, len(x) - 1, MOST_PAIRED).astype(int))
    # the median of the slopes of all pairs: half of the frames may be clouded
    slope, begin = (float(value) for value in theilslopes(y[some], x[some])[:2])
    for _ in range(5):
        off = y - begin - slope * x
        used = np.abs(off) <= 3 * max(1.4826 * float(np.median(np.abs(off))), 0.002)
        if used.sum() < FIT_FRAMES or np.ptp(x[used]) < FIT_RANGE:
            return None
        (slope, begin), covariance = np.polyfit(x[used], y[used], 1, cov=True)
    error = math.sqrt(float(covariance[0, 0]))
    return Extinction(float(slope), error, float(begin)) if slope > 3 * error else None


def sky_magnitudes(frames: Sequence[FrameRecord], header: Mapping[str, object]) -> list[float]:
    """Brightness of each frame's sky, mag/arcsec^2; NaN where the stack's own, or the frame's level, is not known."""
    level, reference = header.get("SKYMAG"), str(header.get("REFFRAME", ""))
    rate = {_spoken(frame.file, frame.index): rate for frame in frames if (rate := _sky_rate(frame)) is not None}
    if not isinstance(level, int | float) or reference not in rate:
        return [math.nan] * len(frames)
    rates = [_sky_rate(frame) for frame in frames]
    return [math.nan if one is None else level - 2.5 * math.log10(one / rate[reference]) for one in rates]


def _sky_rate(frame: FrameRecord) -> float | None:
    if not frame.exposure_s or frame.sky_adu is None or not frame.sky_adu > 0:
        return None
    return float(frame.sky_adu / frame.exposure_s)


def _spoken(file: str, index: int) -> str:
    """A frame's name as headers and sentences have it."""
    name = Path(file).name
    return f"{name}[{index}]" if index else name
