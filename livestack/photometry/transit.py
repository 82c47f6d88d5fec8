"""A dip in a light curve: when, how deep, how long; and whether it is there at all.

A trapezoid is laid over a baseline. That is level unless the curve bears out a slope, or that it goes along with
airmass: a trend that is free for nothing eats the depth. So it is with noise that lasts. What is told is median and
spread over all shapes, trends and kinds of noise, each weighed with its probability (`dips`): nothing can get stuck in
a corner, and what is not known is in the errors. Points far off are left out.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from livestack.photometry.correlated import kinds_of_noise, scaled_errors
from livestack.photometry.dips import (
    PER_AIRMASS,
    SLOPE,
    Points,
    Shapes,
    Way,
    all_ways,
    one_way,
    refine,
    search,
    shape_of,
)

MOST_POINTS = 240
"""More are averaged in groups of neighbours before the fit."""
FEWEST_POINTS = 12
CLIP_SIGMA = 4.5
CERTAIN_SIGMA = 5.0
POSSIBLE_SIGMA = 4.2
_NORMAL = -1.6449, -1.0364, -0.6745, -0.3853, -0.1257, 0.1257, 0.3853, 0.6745, 1.0364, 1.6449
"""Middles of ten equal parts of a normal distribution."""


@dataclass(frozen=True)
class Value:
    """A number and its standard error."""

    value: float
    error: float


@dataclass(frozen=True, eq=False)
class Transit:
    """What was fitted. Times are in days, as those that were given.

    Attributes
    ----------
    mid, duration, ingress : middle, first to fourth contact (T14), first to second contact.
    depth : share of the light that is missing at the middle.
    sigma : root of the ratio of likelihoods with a dip and without one, each with the noise and the trends that suit
        it best.
    found : whether that is more than chance: `sigma` is at least `CERTAIN_SIGMA`.
    whole : frames lie before the first and after the fourth contact.
    n, n_left_out : points that were fitted, and those far off.
    slope, airmass : whether the likeliest baseline has a slope, and goes along with airmass.
    scatter, lasting : standard deviation of what is left, and of the part of it that lasts in the likeliest noise,
        share of the light.
    memory : days that this part lasts; 0 where there is none.
    model, baseline : (m,) float64, relative flux at all times that were given.
    times : (m,) float64, those times.
    more : further numbers of a model of the star, by name.
    name : of the model.
    """

    mid: Value
    depth: Value
    duration: Value
    ingress: Value
    sigma: float
    found: bool
    whole: bool
    n: int
    n_left_out: int
    slope: bool
    airmass: bool
    scatter: float
    lasting: float
    memory: float
    times: np.ndarray
    model: np.ndarray
    baseline: np.ndarray
    more: dict[str, Value]
    name: str = "trapezoid"


def fit_transit(
    times: np.ndarray,
    flux: np.ndarray,
    errors: np.ndarray,
    airmass: np.ndarray | None = None,
    usual_noise: float | None = None,
) -> Transit | None:
    """Fit a dip.

    Parameters
    ----------
    times : (m,) float64, days, any order; of good points only.
    flux, errors : (m,) float64, relative to about 1.
    airmass : (m,) float64 or None; used where it is known everywhere.
    usual_noise : standard deviation of what lasts in the light of constant stars of like brightness, share of the
        light; None where that is not known.

    Returns
    -------
    None where there are fewer than `FEWEST_POINTS` points, or nothing that is darker than the rest.
    """
    order = np.argsort(times, kind="stable")
    if len(order) < FEWEST_POINTS:
        return None
    centre = float(0.5 * (times[order[0]] + times[order[-1]]))
    trends = trend_columns(times[order] - centre, None if airmass is None else airmass[order])
    everywhere = Points(times[order] - centre, flux[order], errors[order], trends)
    points = _thin(everywhere)
    kept = _clip(points)
    if kept is None:
        return None
    points, left_out = points.only(kept), len(kept) - int(kept.sum())
    ways = all_ways(points, usual_noise)
    shapes = search(points, ways)
    if shapes is None:
        return None
    shapes = refine(points, ways, shapes)
    best = int(np.argmax(shapes.likelihood))
    blank = max(way.without_dip for way in ways)
    sigma = float(np.sqrt(max(0.0, 2.0 * (shapes.likelihood[best] - blank))))
    return _tell(shapes, ways, sigma, points, left_out, times, everywhere, order)


def trend_columns(times: np.ndarray, airmass: np.ndarray | None) -> np.ndarray:
    """What a baseline may have besides its level, (m, 1 or 2), each as large as it usually is: a slope, and airmass.

    Parameters
    ----------
    times : (m,) from about the middle of the night.
    """
    columns = [SLOPE * times / max(float(np.abs(times).max()), 1e-9)]
    if airmass is not None and np.isfinite(airmass).all():
        columns.append(PER_AIRMASS * (airmass - airmass.mean()))
    return np.stack(columns, axis=1)


def _thin(points: Points) -> Points:
    """Groups of neighbours where there are too many points."""
    if len(points.times) <= MOST_POINTS:
        return points
    groups = np.array_split(np.arange(len(points.times)), MOST_POINTS)
    times, flux = (np.array([np.median(v[g]) for g in groups]) for v in (points.times, points.flux))
    size = np.array([len(g) for g in groups])
    spread = np.array([np.sqrt(np.mean(points.errors[g] ** 2)) for g in groups])
    # the median of a group is a quarter less certain than its mean, and lets no cosmic ray through
    spread *= np.where(size > 2, 1.25, 1) / np.sqrt(size)
    return Points(times, flux, spread, np.stack([points.trends[g].mean(axis=0) for g in groups]))


def _clip(points: Points) -> np.ndarray | None:
    """(n,) bool, the points that do not lie far off the best dip; None where there is no dip."""
    spread = 1.4826 * float(np.median(np.abs(np.diff(points.flux)))) / np.sqrt(2) + 1e-12
    smooth = np.array([np.median(points.flux[max(0, i - 2) : i + 3]) for i in range(len(points.times))])
    # a single point far off must not choose the place, hence what is tried first is tamed
    kept = np.asarray(np.abs(points.flux - smooth) < CLIP_SIGMA * max(spread, float(np.median(points.errors))))
    if kept.sum() < FEWEST_POINTS:
        kept[:] = True
    for _ in range(3):
        some = points.only(kept)
        white = next(iter(kinds_of_noise(some.times, scaled_errors(some.flux, some.errors))))
        way = one_way(some, white, points.trends.shape[1], points.trends.shape[1])
        shapes = search(some, [way])
        if shapes is None:
            return None
        best = int(np.argmax(shapes.likelihood))
        away = np.abs(points.flux - _model(some, shapes, best, way, points)[0]) / points.errors
        new = away < CLIP_SIGMA * max(1.4826 * float(np.median(away)), 1e-12)
        if new.sum() < max(FEWEST_POINTS, 0.7 * len(new)) or np.array_equal(new, kept):
            break
        kept = new
    return kept


def _model(points: Points, shapes: Shapes, number: int, way: Way, everywhere: Points) -> tuple[np.ndarray, np.ndarray]:
    """The best model with one of the shapes, and its baseline, (m,) each, at the times of `everywhere`."""
    dip, there = shape_of(points, shapes, number), shape_of(everywhere, shapes, number)
    design = way.noise.whiten(np.c_[np.ones(len(dip)), -dip, points.trends[:, : way.trends]])
    held = np.eye(design.shape[1])[2:]
    values = np.r_[way.noise.whiten(points.flux), np.zeros(len(held))]
    linear = np.linalg.lstsq(np.concatenate([design, held]), values, rcond=None)[0]
    line = linear[0] + everywhere.trends[:, : way.trends] @ linear[2:]
    return line - linear[1] * there, line


def _tell(
    shapes: Shapes, ways: list[Way], sigma: float, points: Points, left_out: int, times: np.ndarray,
    everywhere: Points, order: np.ndarray,
) -> Transit:  # fmt: skip
    weights = shapes.weights()
    best = int(np.argmax(weights))
    way = ways[int(shapes.way[best])]
    model, line = np.empty(len(times)), np.empty(len(times))
    model[order], line[order] = _model(points, shapes, best, way, everywhere)
    first, last = (float(edges[best]) for edges in shapes.edges)
    half = 0.5 * float(shapes.ingress[best])
    before, after = (points.times < first - half).sum(), (points.times > last + half).sum()
    level = float(np.interp(shapes.mid[best], everywhere.times, line[order]))
    left = points.flux - _model(points, shapes, best, way, points)[0]
    some = weights > 1e-7 * weights[best]
    shapes, weights = shapes.only(some), weights[some]
    middle = float(times[order[0]] - everywhere.times[0])
    mid, length, ingress = (_middle(v, weights) for v in (shapes.mid, shapes.length, shapes.ingress))
    # the depth of each shape is known within its own error
    depths = (shapes.depth[:, None] + np.outer(shapes.error, _NORMAL)) / level
    depth = _middle(depths.ravel(), np.repeat(weights, len(_NORMAL)))
    return Transit(
        Value(mid.value + middle, mid.error), depth, length, ingress, sigma, bool(sigma >= CERTAIN_SIGMA),
        bool(before >= 3 and after >= 3), len(points.times), left_out, way.trends >= 1, way.trends >= 2,
        float(np.std(left)), way.noise.lasting, way.noise.memory, times, model, line, {},
    )  # fmt: skip


def _middle(numbers: np.ndarray, weights: np.ndarray) -> Value:
    """Median, and half of what holds 68 of a hundred. Not mean and variance: long dips, of which the baseline is hardly
    seen, make a long tail."""
    rising = np.argsort(numbers)
    part = np.cumsum(weights[rising])
    low, middle, high = numbers[rising][np.searchsorted(part, np.array((0.1587, 0.5, 0.8413)) * part[-1])]
    return Value(float(middle), float(0.5 * (high - low)))
