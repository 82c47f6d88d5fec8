"""Finding what moves steadily while the stars stand still, in the star lists of registered frames.

Every source is followed from frame to frame by the nearest one to where it should be. Stars end where they began; what
goes along a line, by more than any star, is an object. A defect of the sensor that drifts against the sky has a place
of its own on the sensor, and is narrower than stars.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.spatial import cKDTree

from livestack.following.path import Path, fit_path

LEAST_FRAMES = 6
BRIGHTEST = 200
RECENT = 16
"""What has come into the field since is looked for in so many of the last frames."""
REACH_PX = 7.0
"""Farthest that a source may be from where it should be, in the next frame."""
ALIKE = 2.5
"""Ratio of fluxes in two frames."""
LEAST_SHARE = 0.75
LEAST_MOTION_PX, MOTION_RMS = 3.0, 8.0
"""It must have gone so far, and so many times the scatter about its path."""
STAR_MOTIONS = 6.0
"""And so many times as far as stars seem to go."""
LEAST_SNR = 7.0
LOOSE, TRIED = 40, 12
"""So many of the sources of a frame that do not keep still are joined with those of another; and lines judged."""
ON_LINE_PX, HIDING_PX, FASTEST_PX = 1.2, 8.0, 15.0
"""How near to its place an object is met, a star hides it; and the fastest, px a frame."""
SEEN_SHARE, STEADY_SHARE = 0.25, 0.6
"""It must be met in so many of the frames, the others explained; and a star in so many."""
LEAST_ON_LINE, ON_LINE_SHARE = 5, 0.6
"""So many places must lie on the line, and so many of those that were met: stars nearby pull at some."""
NARROW, STILL_PX, STILL_SHARE = 0.85, 0.5, 0.5


@dataclass(frozen=True, eq=False)
class Sources:
    """The sources of a registered frame, brightest first.

    Attributes
    ----------
    minutes : when; name, index : the frame.
    xy : (n, 2) on the reference; on_frame : (n, 2) on the frame; flux, snr, fwhm : (n,).
    """

    name: str
    index: int
    minutes: float
    xy: np.ndarray
    on_frame: np.ndarray
    flux: np.ndarray
    snr: np.ndarray
    fwhm: np.ndarray


@dataclass(frozen=True, eq=False)
class Found:
    """A moving object: its path, and the frames (name, index) with its place (x, y) in each frame's own pixels."""

    path: Path
    places: dict[tuple[str, int], tuple[float, float]]
    snr: float


def find_moving(frames: Sequence[Sources], epoch_min: float) -> Found | None:
    """The brightest object that moves; None where nothing does beyond doubt.

    Parameters
    ----------
    frames : in order of time.
    """
    frames = sorted(frames, key=lambda one: one.minutes)
    if len(frames) < LEAST_FRAMES:
        return None
    for part in (frames, frames[-RECENT:]):
        starts = range(min(3, len(part) - LEAST_FRAMES + 1))
        found = [one for start in starts for one in _tracks(part[start:], len(part), epoch_min)]
        found = found or _lines(part, epoch_min)
        if found:
            return max(found, key=lambda one: one.snr)
        if len(frames) <= RECENT:
            break
    return None


def _tracks(frames: Sequence[Sources], total: int, epoch_min: float) -> list[Found]:
    first = frames[0]
    n = min(BRIGHTEST, len(first.xy))
    if n == 0:
        return []
    chosen = np.flatnonzero(first.snr[:n] >= LEAST_SNR)
    chain = np.full((len(frames), len(chosen)), -1)
    chain[0] = chosen
    # where each was seen last, and how fast it went
    at, when = first.xy[chosen].copy(), np.full(len(chosen), first.minutes)
    velocity, flux = np.zeros_like(at), first.flux[chosen].copy()
    origin, began = at.copy(), when.copy()
    seen = np.ones(len(chosen), dtype=int)
    for k, frame in enumerate(frames[1:], start=1):
        if not len(frame.xy):
            continue
        expected = at + velocity * (frame.minutes - when)[:, None]
        distance, nearest = cKDTree(frame.xy).query(expected, distance_upper_bound=REACH_PX)
        ok = np.isfinite(distance)
        index = np.where(ok, nearest, 0)
        ratio = frame.flux[index] / flux
        ok &= (ratio < ALIKE) & (ratio > 1 / ALIKE)
        chain[k, ok] = index[ok]
        at[ok], when[ok], flux[ok] = frame.xy[index[ok]], frame.minutes, frame.flux[index[ok]]
        seen += ok
        moved = ok & (when > began)
        velocity[moved] = (at[moved] - origin[moved]) / (when[moved] - began[moved])[:, None]
    usual = np.hypot(*(velocity[seen > 0.7 * len(frames)] * (frames[-1].minutes - first.minutes)).T)
    stars = float(np.median(usual)) if len(usual) else 0.0
    results = []
    for column in np.flatnonzero(seen >= max(LEAST_FRAMES, LEAST_SHARE * total)):
        rows = np.flatnonzero(chain[:, column] >= 0)
        found = _judge([(frames[int(k)], int(chain[k, column])) for k in rows], stars, epoch_min)
        if found is not None:
            results.append(found)
    return results


def _lines(frames: Sequence[Sources], epoch_min: float) -> list[Found]:
    """Objects by the line that they keep to, though stars on their way hide them now and then."""
    steady = [_steady(frames, k) for k in range(len(frames))]
    loose = [
        np.flatnonzero(~still & (frame.snr >= LEAST_SNR))[:LOOSE] for still, frame in zip(steady, frames, strict=True)
    ]
    loose_trees = [cKDTree(frame.xy[index]) if len(index) else None for frame, index in zip(frames, loose, strict=True)]
    star_trees = [
        cKDTree(frame.xy[still]) if still.any() else None for still, frame in zip(steady, frames, strict=True)
    ]
    results = []
    for i, j in _pairs_of(len(frames)):
        if not len(loose[i]) or not len(loose[j]):
            continue
        a, b = frames[i], frames[j]
        one, other = (grid.ravel() for grid in np.meshgrid(loose[i], loose[j], indexing="ij"))
        ratio = b.flux[other] / a.flux[one]
        span = b.minutes - a.minutes
        away = np.hypot(*(b.xy[other] - a.xy[one]).T)
        good = (ratio < ALIKE) & (ratio > 1 / ALIKE) & (away > LEAST_MOTION_PX / 2) & (away < FASTEST_PX * (j - i))
        one, other = one[good], other[good]
        if not len(one) or span <= 0:
            continue
        velocity = (b.xy[other] - a.xy[one]) / span
        places = a.xy[one]
        met = np.zeros((len(frames), len(one)), dtype=int) - 1
        unexplained = np.zeros(len(one), dtype=int)
        left = np.arange(len(one))
        for k, frame in enumerate(frames):
            expected = places[left] + velocity[left] * (frame.minutes - a.minutes)
            explained = np.zeros(len(left), dtype=bool)
            if (tree := loose_trees[k]) is not None:
                distance, nearest = tree.query(expected, distance_upper_bound=ON_LINE_PX)
                explained = np.isfinite(distance)
                met[k, left] = np.where(explained, np.append(loose[k], -1)[nearest], -1)
            if (tree := star_trees[k]) is not None:
                explained |= np.isfinite(tree.query(expected, distance_upper_bound=HIDING_PX)[0])
            unexplained[left] += ~explained
            left = left[unexplained[left] <= (1 - LEAST_SHARE) * len(frames)]
        seen = (met[:, left] >= 0).sum(axis=0)
        enough = seen >= max(LEAST_ON_LINE, SEEN_SHARE * len(frames))
        left, seen = left[enough], seen[enough]
        for column in left[np.argsort(-seen, kind="stable")][:TRIED]:
            rows = np.flatnonzero(met[:, column] >= 0)
            track = [(frames[int(k)], int(met[k, column])) for k in rows]
            found = _judge(track, 0.0, epoch_min, LEAST_ON_LINE, ON_LINE_SHARE)
            if found is not None:
                results.append(found)
    return results


def _pairs_of(n: int) -> list[tuple[int, int]]:
    """Frames that lines are drawn through: a third and a half of the night apart, from all parts of it."""
    pairs = {(k * n // 12, k * n // 12 + n // step) for k in range(10) for step in (2, 3)}
    return sorted((i, j) for i, j in pairs if i < j < n)


def _steady(frames: Sequence[Sources], number: int) -> np.ndarray:
    """(n,) bool: sources of a frame that are in most others at the same place."""
    here = frames[number].xy
    if not len(here):
        return np.zeros(0, dtype=bool)
    others = [frame for k, frame in enumerate(frames) if k != number and len(frame.xy)]
    met = sum(
        (cKDTree(frame.xy).query(here, distance_upper_bound=ON_LINE_PX)[0] < np.inf).astype(int) for frame in others
    )
    return np.asarray(met > STEADY_SHARE * len(others))


def _judge(
    track: Sequence[tuple[Sources, int]], stars_px: float, epoch_min: float, least: int = LEAST_FRAMES,
    share: float = LEAST_SHARE,
) -> Found | None:  # fmt: skip
    minutes = np.array([frame.minutes for frame, _ in track])
    xy = np.array([frame.xy[i] for frame, i in track])
    path = fit_path(minutes, xy, epoch_min, fast=False)
    if path is None or path.n < max(least, share * len(track)):
        return None
    gone = float(np.hypot(*(path.at(minutes.max()) - path.at(minutes.min()))))
    if gone < max(LEAST_MOTION_PX, MOTION_RMS * path.rms_px, STAR_MOTIONS * stars_px):
        return None
    snr = float(np.median([frame.snr[i] for frame, i in track]))
    on_frame = np.array([frame.on_frame[i] for frame, i in track])
    near = np.hypot(*(on_frame - np.median(on_frame, axis=0)).T) < STILL_PX
    still = near.mean() > STILL_SHARE
    widths = np.array([frame.fwhm[i] for frame, i in track])
    usual = np.nanmedian(np.concatenate([frame.fwhm for frame, _ in track]))
    width = np.nanmedian(widths) if np.isfinite(widths).any() else np.nan
    if still and not width >= NARROW * usual:
        return None
    if snr < LEAST_SNR:
        return None
    places = {
        (frame.name, frame.index): (float(x), float(y)) for (frame, _), (x, y) in zip(track, on_frame, strict=True)
    }
    return Found(path, places, snr)
