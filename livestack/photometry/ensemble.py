"""What the sky did to all stars, and what is left for each: the ensemble of a night.

The model is m(i, j) = M(i) + Z(j) + trends, with M the brightness of star i, Z the sky of frame j, and trends that all
stars share (where they lay on the sensor, clouds across the field, seeing). It is solved by least squares with weights
from each star's measured scatter, robustly, in rounds (Honeycutt 1992, doi:10.1086/133015; Broeg et al. 2005,
doi:10.1002/asna.200410350). No star is compared with itself: Z of star i is that of all others. A trend is taken out
only where stars that had no part in its fit scatter less without it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from livestack.kernels.light_curves import normal_equations

ROUNDS = 8
LEAST_STARS = 3
LEAST_FRAMES = 5
"""A star needs so many good frames, and so has its scatter."""
HUBER = 2.5
GAIN = 0.01
"""A trend has to take this share off the squared scatter of stars that had no part in it."""
FLOOR = 2e-4
"""mag; less than this is never believed of a star's own scatter."""
FEW_FRAMES = 12


@dataclass(frozen=True, eq=False)
class Ensemble:
    """The solution for n stars in t frames.

    Attributes
    ----------
    mean : (n,) M, mag; NaN: a star that was not measured well enough.
    zero : (t,) Z, mag, of all stars, 0 on average; NaN: a frame with too few.
    scatter : (n,) mag, what a star scatters beyond its errors.
    residual : (n, t) mag, what is left of each measurement, against all other stars.
    error : (n, t) mag, of the residual: the measurement's and the comparison's.
    trends : names of those taken out.
    """

    mean: np.ndarray
    zero: np.ndarray
    scatter: np.ndarray
    residual: np.ndarray
    error: np.ndarray
    trends: tuple[str, ...]


@dataclass(frozen=True, eq=False)
class Circumstances:
    """What trends may hang on.

    Attributes
    ----------
    x, y : (n, t) place on the sensor, from -1 to 1.
    u, v : (n,) place on the reference, from -1 to 1.
    seeing : (t,) FWHM over its median, less 1.
    """

    x: np.ndarray
    y: np.ndarray
    u: np.ndarray
    v: np.ndarray
    seeing: np.ndarray


def _columns(where: Circumstances, mean: np.ndarray) -> dict[str, Callable[[], list[np.ndarray]]]:
    """The trends that are tried, in this order, by name: columns (n, t)."""
    one = np.ones_like(where.x)
    bright = np.clip(np.nan_to_num(mean - np.nanmedian(mean)), -4, 4)[:, None]

    def sensor() -> list[np.ndarray]:
        x, y = where.x, where.y
        return [x, y, x * x, x * y, y * y, x**3, x * x * y, x * y * y, y**3, x**4, x * x * y * y, y**4]

    def seeing() -> list[np.ndarray]:
        s, u, v = where.seeing * one, where.u[:, None], where.v[:, None]
        return [s * bright, s * bright**2, s * u, s * v, s * u * u, s * u * v, s * v * v]

    return {"place on the sensor": sensor, "seeing": seeing}


def solve(
    mags: np.ndarray, errors: np.ndarray, where: Circumstances | None = None, start: np.ndarray | None = None
) -> Ensemble:
    """Solve a night.

    Parameters
    ----------
    mags, errors : (n, t) mag, NaN where there is no good measurement.
    where : what trends may hang on; None tries none.
    start : (t,) first guess of Z.
    """
    good = np.isfinite(mags) & np.isfinite(errors) & (errors > 0)
    good &= (good.sum(axis=0) >= LEAST_STARS)[None, :]
    good &= (good.sum(axis=1) >= min(LEAST_FRAMES, mags.shape[1]))[:, None]
    values = np.where(good, mags, 0.0)
    variance = np.where(good, errors, 1.0) ** 2
    taken = np.zeros_like(values)
    zero = _first_zero(values, good) if start is None else np.where(np.isfinite(start), start, 0.0)
    mean, zero, scatter, weight = _rounds(values, variance, good, zero)
    trends: list[str] = []
    n_frames = int(good.any(axis=0).sum())
    if where is not None and n_frames >= FEW_FRAMES:
        for name, make in _columns(where, np.where(good.any(axis=1), mean, np.nan)).items():
            fitted = _trend(make(), values - taken - mean[:, None] - zero[None, :], variance, good, scatter)
            if fitted is not None:
                taken += fitted
                mean, zero, scatter, weight = _rounds(values - taken, variance, good, zero)
                trends.append(name)
        across = _across(values - taken - mean[:, None] - zero[None, :], weight, where)
        if across is not None:
            taken += across
            mean, zero, scatter, weight = _rounds(values - taken, variance, good, zero)
            trends.append("clouds across the field")
    residual, own = _left_out(values - taken, mean, zero, weight, good)
    error = np.where(good, np.sqrt(variance + own), np.nan)
    mean = np.where(good.any(axis=1), mean, np.nan)
    zero = np.where(good.any(axis=0), zero, np.nan)
    return Ensemble(mean, zero, scatter, residual, error, tuple(trends))


def _first_zero(values: np.ndarray, good: np.ndarray) -> np.ndarray:
    """(t,) Z by the medians of all stars' differences from their own median."""
    masked = np.where(good, values, np.nan)
    zero = np.zeros(values.shape[1])
    for _ in range(3):
        own = median(masked - zero[None, :], 1)
        zero = zero + np.nan_to_num(median(masked - zero[None, :] - own[:, None], 0))
    return zero - _middle(zero, np.asarray(good.any(axis=0)))


def median(values: np.ndarray, axis: int) -> np.ndarray:
    """Median without NaN; NaN where there is nothing."""
    ordered = np.sort(values, axis=axis)  # NaN last
    number = np.isfinite(values).sum(axis=axis)
    low, high = (np.maximum(number - 1, 0) // 2, np.maximum(number, 1) // 2)
    high = np.minimum(high, values.shape[axis] - 1)
    if axis == 1:
        rows = np.arange(len(values))
        middle = 0.5 * (ordered[rows, low] + ordered[rows, high])
    else:
        columns = np.arange(values.shape[1])
        middle = 0.5 * (ordered[low, columns] + ordered[high, columns])
    return np.where(number > 0, middle, np.nan)


def _middle(zero: np.ndarray, some: np.ndarray) -> float:
    return float(np.median(zero[some])) if some.any() else 0.0


def _rounds(
    values: np.ndarray, variance: np.ndarray, good: np.ndarray, zero: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Mean, zero, scatter of the stars and weights (n, t), by turns."""
    scatter = np.full(len(values), FLOOR)
    mean = np.zeros(len(values))
    weight = good / (variance + scatter[:, None] ** 2)
    some = np.asarray(good.any(axis=0))
    for number in range(ROUNDS):
        mean = _average(values - zero[None, :], weight, 1)
        left = values - mean[:, None] - zero[None, :]
        scatter = _scatter(left, variance, good)
        total = variance + scatter[:, None] ** 2
        far = np.abs(left) / np.sqrt(total)
        weight = good / total * np.minimum(1.0, HUBER / np.maximum(far, 1e-9))
        step = _average(left, weight, 0)
        zero = zero + step
        zero = zero - _middle(zero, some)
        if number > 2 and np.max(np.abs(step), initial=0.0) < 1e-6:
            break
    mean = _average(values - zero[None, :], weight, 1)
    return mean, zero, scatter, weight


def _average(values: np.ndarray, weight: np.ndarray, axis: int) -> np.ndarray:
    total = weight.sum(axis=axis)
    return np.asarray((values * weight).sum(axis=axis) / np.where(total > 0, total, 1.0))


def _scatter(left: np.ndarray, variance: np.ndarray, good: np.ndarray) -> np.ndarray:
    """(n,) mag, robust scatter beyond the errors."""
    masked = np.where(good, left, np.nan)
    spread = 1.4826 * median(np.abs(masked - median(masked, 1)[:, None]), 1)
    own = median(np.where(good, variance, np.nan), 1)
    return np.sqrt(np.maximum(np.nan_to_num(spread**2 - own), FLOOR**2))


def _left_out(
    values: np.ndarray, mean: np.ndarray, zero: np.ndarray, weight: np.ndarray, good: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """(n, t) residuals against the frame's zero by all *other* stars, and the variance of that."""
    left = values - mean[:, None] - zero[None, :]
    others = np.maximum(weight.sum(axis=0)[None, :] - weight, 1e-12)
    shift = ((weight * left).sum(axis=0)[None, :] - weight * left) / others
    return np.where(good, left - shift, np.nan), 1.0 / others


def _trend(
    columns: list[np.ndarray], left: np.ndarray, variance: np.ndarray, good: np.ndarray, scatter: np.ndarray
) -> np.ndarray | None:
    """(n, t) a common trend in what is left; None unless each half of the stars bears out what the other half says."""
    weight = good / (variance + scatter[:, None] ** 2)
    far = np.abs(left) * np.sqrt(weight)
    weight = np.where(far > 4.0, 0.0, weight)
    centred = [_centred(column, weight) for column in columns]
    return _borne_out(left, weight, lambda some: _least_squares(centred, left, some))


def _borne_out(
    left: np.ndarray, weight: np.ndarray, fit: Callable[[np.ndarray], np.ndarray | None]
) -> np.ndarray | None:
    """What `fit` makes of all weights (n, t); None unless what it makes of either half of the stars, taken in turn by
    brightness, takes enough off the other half's scatter."""
    brightest = np.argsort(np.argsort(-weight.sum(axis=1), kind="stable"), kind="stable")
    half = (brightest % 2 == 0)[:, None]
    before = after = 0.0
    for mine in (half, ~half):
        fitted = fit(weight * mine)
        if fitted is None:
            return None
        other = weight * ~mine
        before += float((other * left**2).sum())
        after += float((other * (left - fitted) ** 2).sum())
    return fit(weight) if after < (1 - GAIN) * before else None


def _centred(column: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """A column without what a star's mean and a frame's zero would take of it."""
    for _ in range(3):
        column = column - _average(column, weight, 1)[:, None]
        column = column - _average(column, weight, 0)[None, :]
    return column


def _least_squares(columns: list[np.ndarray], left: np.ndarray, weight: np.ndarray) -> np.ndarray | None:
    table = np.array(columns).reshape(len(columns), -1)
    normal, right = normal_equations(table, weight.ravel(), left.ravel())
    size = np.sqrt(np.diag(normal))
    useful = size > 1e-6 * max(float(size.max()), 1e-300)
    if not useful.any():
        return None
    scaled = normal[np.ix_(useful, useful)] / np.outer(size[useful], size[useful])
    # columns that say the same share the answer
    solution = np.linalg.solve(scaled + 1e-6 * np.eye(len(scaled)), right[useful] / size[useful]) / size[useful]
    fitted = sum(c * column for c, column in zip(solution, table[useful], strict=True))
    return np.asarray(fitted).reshape(left.shape)


def _across(left: np.ndarray, weight: np.ndarray, where: Circumstances) -> np.ndarray | None:
    """(n, t) a plane over the field for each frame (clouds, differential extinction); None unless halves agree."""
    u, v = where.u[:, None], where.v[:, None]
    return _borne_out(left, weight, lambda some: _planes(left, some, u, v))


def _planes(left: np.ndarray, weight: np.ndarray, u: np.ndarray, v: np.ndarray) -> np.ndarray | None:
    total = weight.sum(axis=0)
    if not (np.count_nonzero(weight, axis=0) >= 12).all():
        return None
    mu, mv = (weight * u).sum(axis=0) / total, (weight * v).sum(axis=0) / total
    du, dv = u - mu, v - mv
    uu, uv, vv = (weight * du * du).sum(axis=0), (weight * du * dv).sum(axis=0), (weight * dv * dv).sum(axis=0)
    au, av = (weight * du * left).sum(axis=0), (weight * dv * left).sum(axis=0)
    det = uu * vv - uv * uv
    if not (det > 1e-9 * uu * vv).all():
        return None
    a, b = (vv * au - uv * av) / det, (uu * av - uv * au) / det
    return np.asarray(a * du + b * dv)
