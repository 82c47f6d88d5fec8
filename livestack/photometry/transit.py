"""A dip in a light curve: when, how deep, how long; and whether it is there at all.

A trapezoid is laid over a baseline that is straight in time, and in airmass where that helps; all are fitted together,
so that what the baseline does not know is in the errors. The start is the best of all boxes (Kovacs, Zucker & Mazeh 2002,
doi:10.1051/0004-6361:20020802), points far off are left out, and errors come from the scatter that is left, including
noise that neighbouring frames share (`correlated`). `limb_darkening` has a model of a planet's path over a star.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.optimize import least_squares

from livestack.photometry.correlated import Noise, measure_noise

MOST_POINTS = 400
"""More are averaged in groups of neighbours before the fit."""
FEWEST_POINTS = 12
CLIP_SIGMA = 4.5
CERTAIN_SIGMA = 7.0
"""A dip is called one from here: constant stars with lasting noise, of which all mids and lengths are tried, stay below."""
INGRESS_SHARE, INGRESS_FACTOR = 0.15, 2.0
"""What is known beforehand of the ingress, as a share of the whole: within this factor, one sigma. Planets lie there;
without it few frames in the ingress leave the length of the transit open."""

STARTS = ((0.0, 1.0, None), (0.1, 1.0, 0.1), (-0.1, 1.0, 0.1), (0.0, 1.0, 0.4), (0.0, 0.75, 0.15), (0.0, 1.3, 0.15))
"""Where the search for the best fit begins: the mid shifted and the width changed by so much of the width, ingress as a
share of the width. The corners of a trapezoid make hollows in which a search from one place may stay."""
DRAWS = 80
Model = Callable[[np.ndarray, np.ndarray], np.ndarray]
"""Parameters of the shape (k,), times (n,) -> share of the light that is left, (n,), 1 outside of the dip."""


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
    sigma : depth over its error, lasting noise included.
    found : whether that is more than chance: `sigma` is at least `CERTAIN_SIGMA`, and both ends, or at least one and some
        of the time outside, were seen.
    whole : frames lie before the first and after the fourth contact.
    n, n_left_out : points that were fitted, and those far off.
    airmass : whether the baseline goes along with airmass.
    scatter, lasting : standard deviation of what is left, and of the part of it that lasts, share of the light.
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
    airmass: bool
    scatter: float
    lasting: float
    memory: float
    times: np.ndarray
    model: np.ndarray
    baseline: np.ndarray
    more: dict[str, Value]
    name: str = "trapezoid"


def trapezoid(times: np.ndarray, mid: float, width: float, ingress: float) -> np.ndarray:
    """A dip of depth 1; `width` is that at half depth, and the whole, T14, is `width + ingress`."""
    return np.clip((0.5 * (width + ingress) - np.abs(times - mid)) / max(ingress, 1e-12), 0.0, 1.0)


@dataclass(frozen=True, eq=False)
class _Points:
    """What is fitted: times from the middle of the night, relative flux, errors, baseline (n, k)."""

    times: np.ndarray
    flux: np.ndarray
    errors: np.ndarray
    base: np.ndarray

    def of(self, which: np.ndarray) -> _Points:
        return _Points(self.times[which], self.flux[which], self.errors[which], self.base[which])


@dataclass(frozen=True, eq=False)
class _Fitted:
    """Coefficients of the baseline, then of the shape; their covariance; noise."""

    parameters: np.ndarray
    covariance: np.ndarray
    noise: Noise
    cost: float


def fit_transit(
    times: np.ndarray, flux: np.ndarray, errors: np.ndarray, airmass: np.ndarray | None = None
) -> Transit | None:
    """Fit a trapezoid.

    Parameters
    ----------
    times : (m,) float64, days, of good points only.
    flux, errors : (m,) float64, relative to about 1.
    airmass : (m,) float64 or None; used where it is known everywhere and explains enough.

    Returns
    -------
    None where there are fewer than `FEWEST_POINTS` points, or nothing that is darker than the rest.
    """
    order = np.argsort(times, kind="stable")
    if len(order) < FEWEST_POINTS:
        return None
    centre = float(0.5 * (times[order[0]] + times[order[-1]]))
    points, base = _prepare(times[order] - centre, flux[order], errors[order], None if airmass is None else airmass[order])
    chosen: tuple[float, _Points, np.ndarray] | None = None
    for columns in (2, 3) if base.shape[1] == 3 else (2,):
        some = _Points(points.times, points.flux, points.errors, points.base[:, :columns])
        start = _search(some)
        if start is None:
            continue
        kept, found = _clip(some, start)
        worth = _chi2(kept, found) + (columns * np.log(len(points.times)))
        if chosen is None or (worth < chosen[0] - 2 and len(kept.times) >= len(chosen[1].times) - 2):
            chosen = worth, kept, found
    if chosen is None:
        return None
    _, kept, found = chosen
    best = _refine(kept, found)
    return _tell(best, kept, len(points.times) - len(kept.times), times, centre, base, order)


def _prepare(
    times: np.ndarray, flux: np.ndarray, errors: np.ndarray, airmass: np.ndarray | None
) -> tuple[_Points, np.ndarray]:
    """Points to fit, of groups of neighbours where there are too many; and the baseline at all times."""
    columns = [np.ones_like(times), times / max(times[-1], 1e-9)]
    if airmass is not None and np.isfinite(airmass).all():
        straight = np.polyval(np.polyfit(times, airmass, 1), times)
        bend = airmass - straight
        if bend.std() > 1e-3:
            columns.append(bend / np.abs(bend).max())
    base = np.stack(columns, axis=1)
    if len(times) <= MOST_POINTS:
        return _Points(times, flux, errors, base), base
    groups = np.array_split(np.arange(len(times)), MOST_POINTS)
    thin = [np.array([np.median(v[g]) for g in groups]) for v in (times, flux)]
    size = np.array([len(g) for g in groups])
    # the median of a group is a quarter less certain than its mean, and lets no cosmic ray through
    spread = np.array([np.sqrt(np.mean(errors[g] ** 2)) for g in groups]) * np.where(size > 2, 1.25, 1) / np.sqrt(size)
    return _Points(*thin, spread, np.stack([[v[g].mean() for g in groups] for v in base.T], axis=1)), base


def _search(points: _Points) -> np.ndarray | None:
    """Mid, width, ingress of the box that explains most, weighed; None where nothing is darker than the rest."""
    times, span = points.times, float(points.times[-1] - points.times[0])
    weight = 1 / points.errors
    ortho, _ = np.linalg.qr(points.base * weight[:, None])
    # a single point far off must not choose the place
    spread = 1.4826 * float(np.median(np.abs(np.diff(points.flux)))) / np.sqrt(2) + 1e-12
    smooth = np.array([np.median(points.flux[max(0, i - 2) : i + 3]) for i in range(len(times))])
    tame = np.clip(points.flux, smooth - 4 * spread, smooth + 4 * spread) * weight
    tame = tame - ortho @ (ortho.T @ tame)
    best, found = 0.0, None
    step = float(np.median(np.diff(times)))
    for width in np.geomspace(max(4 * step, 0.03 * span), 0.8 * span, 18):
        for mid in np.arange(times[0], times[-1] + 1e-9, max(width / 10, span / 300)):
            shape = trapezoid(times, mid, width, 0.15 * width)
            inside = shape > 0.5
            if inside.sum() < 3 or (~inside).sum() < 4:
                continue
            dip = shape * weight
            dip = dip - ortho @ (ortho.T @ dip)
            size = float(dip @ dip)
            fall = -float(dip @ tame)
            if size > 0 and fall > 0 and fall * fall / size > best:
                best, found = fall * fall / size, np.array([mid, width, 0.15 * width])
    return found


def _model(points: _Points, parameters: np.ndarray) -> np.ndarray:
    columns = points.base.shape[1]
    depth, mid, width, ingress = parameters[columns:]
    return (points.base @ parameters[:columns]) * (1 - depth * trapezoid(points.times, mid, width, ingress))


def _prior(parameters: np.ndarray) -> float:
    """By how many sigma the ingress is away from what is known of ingresses."""
    width, ingress = parameters[-2:]
    share = ingress / (width + ingress)
    return float(np.log(share / INGRESS_SHARE) / np.log(INGRESS_FACTOR))


def _solve(
    points: _Points, start: np.ndarray, whiten: Callable[[np.ndarray], np.ndarray], starts: int = 99
) -> tuple[np.ndarray, float]:
    """Least squares from several starts around one; parameters and cost."""
    columns = points.base.shape[1]
    times = points.times
    span, step = float(times[-1] - times[0]), float(np.median(np.diff(times)))
    low = np.r_[np.full(columns, -np.inf), 0.0, times[0] - 0.5 * span, step, 0.2 * step]
    high = np.r_[np.full(columns, np.inf), 0.95, times[-1] + 0.5 * span, 1.5 * span, 0.8 * span]

    def off(parameters: np.ndarray) -> np.ndarray:
        return np.r_[whiten(points.flux - _model(points, parameters)), _prior(parameters)]

    best: tuple[float, np.ndarray] | None = None
    width = start[-2]
    for shift, wider, ingress in STARTS[:starts]:
        begin = start.copy()
        begin[-3] += shift * width
        begin[-2] = wider * width
        begin[-1] = begin[-1] if ingress is None else ingress * width
        begin = np.clip(begin, low + 1e-9, high - 1e-9)
        ended = least_squares(off, begin, bounds=(low, high), x_scale="jac", max_nfev=60)
        if best is None or ended.cost < best[0]:
            best = float(ended.cost), np.asarray(ended.x)
    assert best is not None
    return best[1], best[0]


def _begin(points: _Points, shape: np.ndarray) -> np.ndarray:
    """All parameters from mid, width and ingress: the rest is linear."""
    dip = trapezoid(points.times, *shape)
    design = np.c_[points.base, -dip] / points.errors[:, None]
    linear = np.linalg.lstsq(design, points.flux / points.errors, rcond=None)[0]
    return np.r_[linear[:-1], np.clip(linear[-1], 1e-5, 0.9), shape]


def _clip(points: _Points, shape: np.ndarray) -> tuple[_Points, np.ndarray]:
    """Fit without regard to lasting noise, and leave out what lies far off; what is kept, and parameters."""
    kept = np.ones(len(points.times), bool)
    parameters = _begin(points, shape)
    for _ in range(3):
        some = points.of(kept)
        parameters, _ = _solve(some, parameters, lambda v, e=some.errors: v / e)  # type: ignore[misc]
        away = (points.flux - _model(points, parameters)) / points.errors
        limit = CLIP_SIGMA * max(1.4826 * float(np.median(np.abs(away[kept]))), 1e-12)
        new = np.abs(away) < limit
        if new.sum() < 0.7 * len(new) or np.array_equal(new, kept):
            break
        kept = new
    return points.of(kept), parameters


def _chi2(points: _Points, parameters: np.ndarray) -> float:
    off = (points.flux - _model(points, parameters)) / points.errors
    return len(off) * float(np.log(np.mean(off**2)))


def _design(points: _Points, parameters: np.ndarray) -> np.ndarray:
    """Derivatives of the model, (n, k), over steps that reach over the corners of the trapezoid."""
    step = float(np.median(np.diff(points.times)))
    columns = points.base.shape[1]
    # of a half of the time between two frames, so that a corner between them is not overlooked
    sizes = np.r_[np.full(columns, 1e-4), 1e-5, np.full(3, 0.5 * step)]
    sizes[-1] = min(sizes[-1], 0.5 * parameters[-1])
    rows = []
    for i, size in enumerate(sizes):
        up, down = parameters.copy(), parameters.copy()
        up[i] += size
        down[i] -= size
        rows.append((_model(points, up) - _model(points, down)) / (2 * size))
    return np.stack(rows, axis=1)


def _refine(points: _Points, parameters: np.ndarray) -> _Fitted:
    """Fit again with the noise as it is, lasting part and all."""
    cost = 0.0
    for _ in range(2):
        noise = measure_noise(
            points.times, points.flux - _model(points, parameters), points.errors, _design(points, parameters)
        )
        parameters, cost = _solve(points, parameters, noise.whiten)
    seen = noise.whiten(_design(points, parameters))
    width, ingress = parameters[-2:]
    known = np.zeros(len(parameters))
    known[-1] = (1 / ingress - 1 / (width + ingress)) / np.log(INGRESS_FACTOR)
    known[-2] = -1 / (width + ingress) / np.log(INGRESS_FACTOR)
    formal = np.linalg.pinv(seen.T @ seen + np.outer(known, known))
    drawn = _scatter_of_refits(points, parameters, noise)
    # the larger of both: the fit is not linear, and few refits may by chance lie close together
    factor = np.sqrt(np.maximum(1.0, np.diag(drawn) / np.maximum(np.diag(formal), 1e-300)))
    return _Fitted(parameters, formal * factor[:, None] * factor, noise, cost)


def _scatter_of_refits(points: _Points, parameters: np.ndarray, noise: Noise) -> np.ndarray:
    """Covariance of the parameters of curves that are drawn anew with this model and noise (parametric bootstrap)."""
    random = np.random.default_rng(0)
    exact = _model(points, parameters)
    found = []
    for _ in range(DRAWS):
        again = _Points(
            points.times, exact + noise.root @ random.standard_normal(len(exact)), points.errors, points.base
        )
        found.append(_solve(again, parameters, noise.whiten, starts=3)[0])
    return np.cov(np.array(found).T)


def _tell(
    best: _Fitted, points: _Points, left_out: int, times: np.ndarray, centre: float, base: np.ndarray, order: Sequence[int]
) -> Transit:
    columns = points.base.shape[1]
    depth, mid, width, ingress = (float(v) for v in best.parameters[columns:])
    spread = best.covariance
    error = np.sqrt(np.maximum(np.diag(spread), 0))
    length = width + ingress
    length_error = float(np.sqrt(max(spread[-1, -1] + spread[-2, -2] + 2 * spread[-1, -2], 0)))
    sigma = depth / float(error[columns]) if error[columns] > 0 else 0.0
    before, after = (points.times < mid - 0.5 * length).sum(), (points.times > mid + 0.5 * length).sum()
    inside = (np.abs(points.times - mid) < 0.5 * width).sum()
    seen_enough = inside >= 3 and before + after >= 5
    line = np.empty(len(times))
    line[np.asarray(order)] = base[:, :columns] @ best.parameters[:columns]
    return Transit(
        Value(mid + centre, float(error[columns + 1])), Value(depth, float(error[columns])), Value(length, length_error),
        Value(ingress, float(error[columns + 3])), sigma, bool(seen_enough and sigma >= CERTAIN_SIGMA),
        bool(before >= 3 and after >= 3), len(points.times), left_out, columns == 3,
        float(np.std(points.flux - _model(points, best.parameters))), best.noise.lasting, best.noise.memory, times,
        line * (1 - depth * trapezoid(times - centre, mid, width, ingress)), line, {},
    )  # fmt: skip
