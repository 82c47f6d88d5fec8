"""Synthetic tracking: what moves evenly through the night, though no single frame shows it.

Blocks of a few frames are shifted against each other by a grid of rates and added (Shao et al. 2014,
doi:10.1088/0004-637X/782/1/1; Heinze et al. 2015, doi:10.1088/0004-6256/150/4/125); what stands out in one is followed
through ever more frames, its ends moved to where the sum along it is largest. So many rates and places are tried that
chance alone makes sums of six sigma: what is believed must be beyond what the number of trials allows.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from livestack.kernels import movers as kernel
from livestack.kernels.bands import Bands
from livestack.movers.map_store import APART
from livestack.movers.reduced import Grid, filtered_sigma
from livestack.movers.refine import refine_ends
from livestack.registration.distortion import to_frame

BLOCK = 8
LARGE = 2_500_000
"""Maps of more pixels are searched for candidates at half their size; what is found is followed in the whole ones."""
LEAST_FRAMES = 5
FASTEST = 2.6
"""Reduced pixels a frame."""
RATE_STEP = 0.36
CANDIDATE_SIGMA = 3.6
MOST_CANDIDATES = 6000
MOST_BLOCKS = 24
CAP = 8.0
"""A frame counts for no more than so many sigma in a sum."""
FALSE_A_NIGHT = 0.03
WINDOWS = 4
"""Spans of frames that are tried are worth so many independent ones."""
LEAST_SIGMA = 7.2
"""Chance alone asks for about 6.4; sky and seeing that are not quite even make sums of so much, too."""
LEAST_WAY_FWHM = 1.3
SAME_PX = 5.0
FEW_FRAMES, LEAST_SNR_IN_FEW = 8, 4.5
"""What is seen in fewer frames must show in each of them: the mean of so few still has stars' seeing in it."""
STILL_SHARE = 0.72
STILL_ON_SENSOR_PX = 1.6


@dataclass(frozen=True, eq=False)
class Track:
    """A point that moves evenly.

    Attributes
    ----------
    first, last : numbers of the frames, both included.
    x0, y0, x1, y1 : reduced pixels at the middle of those.
    total : sigma of the sum; snr : mean over the frames.
    n_seen : frames that show its place.
    """

    first: int
    last: int
    x0: float
    y0: float
    x1: float
    y1: float
    total: float
    snr: float
    n_seen: int

    @staticmethod
    def of(first: int, last: int, ends: np.ndarray, total: float, snr: float, n_seen: int) -> Track:
        """With its ends as (4,) x0, y0, x1, y1."""
        x0, y0, x1, y1 = (float(v) for v in ends)
        return Track(first, last, x0, y0, x1, y1, total, snr, n_seen)

    def place(self, share: Any) -> tuple[Any, Any]:
        """Reduced (x, y) at a share of the time from first to last."""
        return self.x0 + share * (self.x1 - self.x0), self.y0 + share * (self.y1 - self.y0)


def find_tracks(
    maps: np.ndarray, times: np.ndarray, matrices: Sequence[np.ndarray], bin_px: int, fwhm_px: float, bands: Bands
) -> list[Track]:
    """All that moves through a night.

    Parameters
    ----------
    maps : (N, H, W) int8, residuals filtered for points, sixteenths of sigma, in the order of time.
    times : (N,) minutes, rising.
    matrices : N of (3, 3), frame -> reference.
    bin_px : reference pixels in a reduced one; fwhm_px : of a star, on the reference.
    """
    n_maps, height, width = maps.shape
    if n_maps < LEAST_FRAMES:
        return []
    block = min(BLOCK, n_maps)
    starts = np.unique(
        np.linspace(0, n_maps - block, max(1, min(MOST_BLOCKS, 2 * (n_maps - block) // block + 1))).astype(int)
    )
    ranges, ends, values = [], [], []
    zoom = 2 if height * width > LARGE else 1
    shape = (height // zoom, width // zoom)
    best, which = np.empty(shape, dtype=np.int16), np.empty(shape, dtype=np.int16)
    limit = int(CANDIDATE_SIGMA * 16 * math.sqrt(block))
    for start in starts:
        part = np.ascontiguousarray(maps[start : start + block])
        if zoom == 2:
            part = _halved(part, bands)
        shifts = _shifts(times[start : start + block], FASTEST / zoom)

        def add(a: int, b: int, part: np.ndarray = part, shifts: np.ndarray = shifts) -> None:
            kernel.shift_rows(part, shifts, best, which, a, b)

        bands.run(add, shape[0])
        room = np.empty((200_000, 4), dtype=np.int32)
        found = room[: min(kernel.list_best(best, which, limit, 0, shape[0], room), len(room))]
        found = found[np.argsort(-found[:, 3], kind="stable")][:MOST_CANDIDATES]
        middle = 0.5 * (zoom - 1)  # of a larger pixel among the smaller ones
        for x, y, rate, value in found:
            places = zoom * (np.array([x, y]) + shifts[rate][[0, -1]]) + middle
            ranges.append((start, start + block))
            ends.append(tuple(places.ravel()))
            values.append(value)
    if not ranges:
        return []
    order = np.argsort(-np.array(values), kind="stable")
    its_ranges = np.array(ranges, dtype=np.int64)[order]
    its_ends = np.array(ends, dtype=float)[order]
    sums = np.zeros(len(order))

    def follow(a: int, b: int) -> None:
        kernel.follow_candidates(maps, times, its_ranges[a:b], its_ends[a:b], CAP, CANDIDATE_SIGMA, sums[a:b])

    bands.run(follow, len(order))
    trials = float(height) * width / 4 * (2 * FASTEST * n_maps / 1.4) ** 2 * math.pi / 4
    believed = max(_sigma_of(FALSE_A_NIGHT / (WINDOWS * trials)), LEAST_SIGMA)
    tracks: list[Track] = []
    explained: list[Track] = []
    for k in np.argsort(-sums, kind="stable"):
        if sums[k] < believed:
            break
        (first, last), own = its_ranges[k], its_ends[k]
        whole = Track.of(int(first), int(last) - 1, own, float(sums[k]), 0.0, 0)
        if any(_shares_light(whole, other, times) for other in explained):
            continue
        explained.append(whole)  # what is no mover is not told in pieces either
        one = _judge(maps, times, matrices, its_ranges[k], own, float(sums[k]), bin_px, fwhm_px)
        if one is not None:
            tracks.append(_refined(one, maps, times, bin_px, fwhm_px))
    return tracks


def _refined(one: Track, maps: np.ndarray, times: np.ndarray, bin_px: int, fwhm_px: float) -> Track:
    """A track with the ends that its light fits best."""
    sigma = filtered_sigma(Grid(bin_px, 0, 0).psf_sigma(fwhm_px))
    ends = np.array([one.x0, one.y0, one.x1, one.y1])
    x0, y0, x1, y1 = refine_ends(maps, times, one.first, one.last, ends, sigma, min(APART, len(maps) // 4)).tolist()
    return replace(one, x0=x0, y0=y0, x1=x1, y1=y1)


def _halved(maps: np.ndarray, bands: Bands) -> np.ndarray:
    """(N, H // 2, W // 2) int8, sums of 2 x 2 of maps (N, H, W) int8, again in sixteenths of their sigma."""
    n_maps, height, width = maps.shape
    some = maps[:, : height // 2 * 2, : width // 2 * 2][:, ::16, ::8].astype(np.int16)
    for dy, dx in ((0, 1), (1, 0), (1, 1)):
        some += maps[:, dy : height // 2 * 2 : 16, dx : width // 2 * 2 : 8]
    known = some[some != 0]
    sigma = 1.4826 * float(np.median(np.abs(known))) if len(known) else 16.0
    out = np.empty((n_maps, height // 2, width // 2), dtype=np.int8)
    bands.run(lambda a, b: kernel.halve_rows(maps, 16.0 / max(sigma, 1.0), out, a, b), height // 2)
    return out


def _shifts(times: np.ndarray, fastest: float) -> np.ndarray:
    """(R, B, 2) int64: where each of B frames is read, for all rates up to the fastest, pixels a frame."""
    usual = float(np.median(np.diff(times))) or 1.0
    step = RATE_STEP * BLOCK / len(times)
    grid = np.arange(-math.floor(fastest / step), math.floor(fastest / step) + 1) * step
    vx, vy = np.meshgrid(grid, grid)
    keep = vx**2 + vy**2 <= fastest**2
    rates = np.stack([vx[keep], vy[keep]], axis=1)
    since = (times - times.mean()) / usual
    return np.rint(rates[:, None, :] * since[None, :, None]).astype(np.int64)


def _sigma_of(chance: float) -> float:
    """How many sigma a normal number is beyond with that chance."""
    from scipy.stats import norm

    return float(norm.isf(chance))


def _judge(
    maps: np.ndarray, times: np.ndarray, matrices: Sequence[np.ndarray], span: np.ndarray, ends: np.ndarray,
    total: float, bin_px: int, fwhm_px: float,
) -> Track | None:  # fmt: skip
    """A track that is believed: it moves, on the sensor too, and is not two or three hits alone."""
    first, last = int(span[0]), int(span[1])
    values = np.empty(last - first)
    kernel.sample_track(maps, times, first, last, ends, values)
    seen = np.isfinite(values)
    first, last, ends = _without_blank(values, first, times, ends)
    values = values[int(np.flatnonzero(seen)[0]) : int(np.flatnonzero(seen)[-1]) + 1]
    known = values[np.isfinite(values)]
    if len(known) < LEAST_FRAMES:
        return None
    if len(known) < FEW_FRAMES and (known.mean() < LEAST_SNR_IN_FEW or np.sort(known)[1] < 0.5 * LEAST_SNR_IN_FEW):
        return None
    way = math.hypot(ends[2] - ends[0], ends[3] - ends[1]) * bin_px
    if way < max(LEAST_WAY_FWHM * fwhm_px, 3.0):
        return None
    # without its three best frames it still stands out
    rest = np.sort(known)[:-3]
    if len(rest) and rest.sum() / math.sqrt(len(rest)) < 0.45 * total * math.sqrt(len(rest) / len(known)):
        return None
    # what stays where it is shows at one place what it shows along a path
    for part in (0.0, 0.25, 0.5, 0.75, 1.0):
        at = np.tile(ends[:2] + part * (ends[2:] - ends[:2]), 2)
        still = np.empty(last - first)
        kernel.sample_track(maps, times, first, last, at, still)
        if np.nansum(np.minimum(still, CAP)) / math.sqrt(len(still)) > STILL_SHARE * total:
            return None
    share = (times[first:last] - times[first]) / max(times[last - 1] - times[first], 1e-9)
    path = np.stack([ends[0] + share * (ends[2] - ends[0]), ends[1] + share * (ends[3] - ends[1])], axis=1) * bin_px
    on_sensor = np.array(
        [to_frame(matrices[n], None, p[None])[0] for n, p in zip(range(first, last), path, strict=True)]
    )
    off = on_sensor - np.median(on_sensor, axis=0)
    if np.sqrt((off**2).sum(axis=1)).max() < STILL_ON_SENSOR_PX:
        return None  # a pixel of the sensor
    return Track.of(first, last - 1, ends, total, float(known.mean()), len(known))


def _without_blank(values: np.ndarray, first: int, times: np.ndarray, ends: np.ndarray) -> tuple[int, int, np.ndarray]:
    """First and last frame (excluded) between which a track is seen, and its ends there."""
    seen = np.flatnonzero(np.isfinite(values))
    if not len(seen):
        return first, first + 1, ends
    a, b = first + int(seen[0]), first + int(seen[-1]) + 1
    span = max(times[first + len(values) - 1] - times[first], 1e-9)
    shares = (times[a] - times[first]) / span, (times[b - 1] - times[first]) / span
    cut = [ends[k] + share * (ends[2 + k] - ends[k]) for share in shares for k in range(2)]
    return a, b, np.array(cut)


def _shares_light(one: Track, other: Track, times: np.ndarray) -> bool:
    """True when two tracks are at one place at some time: one of them may be made of the other's light."""
    a, b = max(one.first, other.first), min(one.last, other.last)
    if a > b:
        return False
    when = times[a : b + 1]

    def path(track: Track) -> np.ndarray:
        share = (when - times[track.first]) / max(times[track.last] - times[track.first], 1e-9)
        return np.stack(track.place(share), axis=-1)

    return bool(np.hypot(*(path(one) - path(other)).T).min() < SAME_PX)
