"""A dip in a light curve: when, how deep, how long; and whether it is there at all.

A trapezoid is laid over a baseline that is straight in time, and goes along with airmass where that is known; all are
fitted together, so that what the baseline does not know is in the errors. Depth and baseline are linear, so that mid,
length and ingress can be tried on a grid, all of them, as in the search for boxes (Kovacs, Zucker & Mazeh 2002,
doi:10.1051/0004-6361:20020802); what is told is median and spread over the grid, each place weighed with its
likelihood. Nothing can get stuck in a corner that way, and errors of a fit that is not linear are right. Points far
off are left out; the noise is that of the scatter which is left, with what neighbouring frames share (`correlated`).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from livestack.photometry.correlated import Noise, measure_noise

MOST_POINTS = 400
"""More are averaged in groups of neighbours before the fit."""
FEWEST_POINTS = 12
CLIP_SIGMA = 4.5
CERTAIN_SIGMA = 5.0
"""A dip is called one from here. The deepest of all dips in a constant star stays below 4.6 with white noise, and gets
here in one night of fifty where noise that lasts is as strong as white."""
POSSIBLE_SIGMA = 4.2
"""From here it is called possible."""
INGRESS_SHARE, INGRESS_FACTOR = 0.15, 2.0
"""What is known beforehand of the ingress, as a share of the whole: within this factor, one sigma. Planets lie there;
without it few frames in the ingress leave the length of the transit open."""
LEAST_BEND = 0.05
"""Airmass that bends less, in air masses, dims a star by less than a thousandth of a magnitude against the others: a
baseline that followed it would follow the dip instead."""
SHARES = 0.02, 0.5
"""Of the ingress in the whole, least and largest; 0.5 is a dip like a V."""


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
    sigma : root of the ratio of likelihoods with a dip and without one, each with the lasting noise that suits it best.
    found : whether that is more than chance: `sigma` is at least `CERTAIN_SIGMA`.
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


@dataclass(frozen=True, eq=False)
class _Grid:
    """Shapes that were tried, (g,) each: mid, whole length and ingress in days; chi square with the best depth and
    baseline; that depth, share of the baseline at the mid, and its error."""

    mid: np.ndarray
    length: np.ndarray
    ingress: np.ndarray
    chi2: np.ndarray
    depth: np.ndarray
    error: np.ndarray

    def weights(self) -> np.ndarray:
        """(g,) float64, likelihood times what is known of ingresses; the sum is 1."""
        off = np.log(self.ingress / self.length / INGRESS_SHARE) / np.log(INGRESS_FACTOR)
        worth = -0.5 * (self.chi2 + off**2)
        worth[self.depth <= 0] = -np.inf
        weights = np.exp(worth - worth.max())
        return np.asarray(weights / weights.sum())


def fit_transit(
    times: np.ndarray, flux: np.ndarray, errors: np.ndarray, airmass: np.ndarray | None = None
) -> Transit | None:
    """Fit a trapezoid.

    Parameters
    ----------
    times : (m,) float64, days, of good points only.
    flux, errors : (m,) float64, relative to about 1.
    airmass : (m,) float64 or None; used where it is known everywhere and bends enough.

    Returns
    -------
    None where there are fewer than `FEWEST_POINTS` points, or nothing that is darker than the rest.
    """
    order = np.argsort(times, kind="stable")
    if len(order) < FEWEST_POINTS:
        return None
    centre = float(0.5 * (times[order[0]] + times[order[-1]]))
    points, base = _prepare(
        times[order] - centre, flux[order], errors[order], None if airmass is None else airmass[order]
    )
    found = _clip(points)
    if found is None:
        return None
    kept, shape = found
    for _ in range(2):
        noise = measure_noise(kept.times, kept.flux - _fitted(kept, shape)[0], kept.errors, _design(kept, shape))
        grid = _refine(kept, noise)
        shape = _likeliest(grid)
    blank = measure_noise(kept.times, kept.flux - _line(kept)[0], kept.errors, kept.base)
    sigma = float(np.sqrt(max(0.0, blank.deviance - noise.deviance)))
    return _tell(grid, shape, noise, sigma, kept, len(points.times) - len(kept.times), times, centre, base, order)


def baseline_columns(times: np.ndarray, airmass: np.ndarray | None) -> np.ndarray:
    """Columns of a baseline, (m, 2 or 3): one, time, and how airmass bends away from a straight line in time."""
    columns = [np.ones_like(times), times / max(float(np.abs(times).max()), 1e-9)]
    if airmass is not None and np.isfinite(airmass).all():
        bend = airmass - np.polyval(np.polyfit(times, airmass, 1), times)
        if bend.std() > LEAST_BEND:
            columns.append(bend / np.abs(bend).max())
    return np.stack(columns, axis=1)


def _prepare(
    times: np.ndarray, flux: np.ndarray, errors: np.ndarray, airmass: np.ndarray | None
) -> tuple[_Points, np.ndarray]:
    """Points to fit, of groups of neighbours where there are too many; and the baseline at all times."""
    base = baseline_columns(times, airmass)
    if len(times) <= MOST_POINTS:
        return _Points(times, flux, errors, base), base
    groups = np.array_split(np.arange(len(times)), MOST_POINTS)
    thin = [np.array([np.median(v[g]) for g in groups]) for v in (times, flux)]
    size = np.array([len(g) for g in groups])
    # the median of a group is a quarter less certain than its mean, and lets no cosmic ray through
    spread = np.array([np.sqrt(np.mean(errors[g] ** 2)) for g in groups]) * np.where(size > 2, 1.25, 1) / np.sqrt(size)
    return _Points(thin[0], thin[1], spread, np.stack([[v[g].mean() for g in groups] for v in base.T], axis=1)), base


def _shapes(points: _Points, mids: np.ndarray, lengths: np.ndarray, ingresses: np.ndarray) -> np.ndarray:
    """Trapezoids of depth 1, (n, g)."""
    away = np.abs(points.times[:, None] - mids[None, :])
    return np.clip((0.5 * lengths - away) / ingresses, 0.0, 1.0)


def _try(
    points: _Points, noise: Noise | None, mids: np.ndarray, lengths: np.ndarray, shares: np.ndarray
) -> _Grid | None:
    """Try all combinations; those of which too little was seen, or too little beside them, are left away."""
    m, w, i = (v.ravel() for v in np.meshgrid(mids, lengths, shares, indexing="ij"))
    i = i * w
    shapes = _shapes(points, m, w, i)
    seen = ((shapes > 0.5).sum(axis=0) >= 3) & ((shapes == 0).sum(axis=0) >= 4)
    if not seen.any():
        return None
    m, w, i, shapes = m[seen], w[seen], i[seen], shapes[:, seen]

    def whiten(values: np.ndarray) -> np.ndarray:
        if noise is not None:
            return noise.whiten(values)
        return values / (points.errors if values.ndim == 1 else points.errors[:, None])

    base, data = whiten(points.base), whiten(points.flux)
    ortho, _ = np.linalg.qr(base)
    data = data - ortho @ (ortho.T @ data)
    # a dip takes a share of the baseline, which is near enough to 1 for the shape, and is put right in the depth
    dips = whiten(shapes)
    dips = dips - ortho @ (ortho.T @ dips)
    size = np.maximum((dips * dips).sum(axis=0), 1e-300)
    depth = -(data @ dips) / size
    return _Grid(m, w, i, float(data @ data) - depth**2 * size, depth, size**-0.5)


def _search(points: _Points, noise: Noise | None = None) -> _Grid | None:
    """Try the whole night."""
    times = points.times
    span, step = float(times[-1] - times[0]), float(np.median(np.diff(times)))
    lengths = np.geomspace(max(4 * step, 0.05 * span), 0.9 * span, 16)
    mids = np.linspace(times[0] - 0.1 * span, times[-1] + 0.1 * span, 73)
    return _try(points, noise, mids, lengths, np.array((0.05, 0.15, 0.35)))


def _refine(points: _Points, noise: Noise) -> _Grid:
    """Try all of the night, then ever finer where anything is likely."""
    grid = _search(points, noise)
    assert grid is not None
    step = float(np.median(np.diff(points.times)))
    for _ in range(3):
        weights = grid.weights()
        likely = weights > 1e-4 * weights.max()
        low_mid, high_mid = grid.mid[likely].min(), grid.mid[likely].max()
        low, high = grid.length[likely].min(), grid.length[likely].max()
        # a step of the grid more on each side, for the best may lie between
        more_mid = max(0.3 * (high_mid - low_mid), 0.5 * step)
        mids = np.linspace(low_mid - more_mid, high_mid + more_mid, 45)
        lengths = np.geomspace(max(2 * step, low * 0.85), high * 1.2, 33)
        share = grid.ingress[likely] / grid.length[likely]
        shares = np.geomspace(max(SHARES[0], 0.8 * share.min()), min(SHARES[1], 1.25 * share.max()), 9)
        finer = _try(points, noise, mids, lengths, shares)
        if finer is None:
            break
        grid = finer
    return grid


def _likeliest(grid: _Grid) -> tuple[float, float, float]:
    best = int(np.argmax(grid.weights()))
    return float(grid.mid[best]), float(grid.length[best]), float(grid.ingress[best])


def _line(points: _Points, more: np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray]:
    """The best baseline, with a shape (n,) beside it or without: what it makes, (n,), and its coefficients."""
    design = points.base if more is None else np.c_[points.base, more]
    weight = 1 / points.errors
    linear = np.linalg.lstsq(design * weight[:, None], points.flux * weight, rcond=None)[0]
    return design @ linear, linear


def _fitted(points: _Points, shape: tuple[float, float, float]) -> tuple[np.ndarray, np.ndarray]:
    return _line(points, -_shapes(points, *(np.array([v]) for v in shape))[:, 0])


def _clip(points: _Points) -> tuple[_Points, tuple[float, float, float]] | None:
    """Fit without regard to lasting noise, and leave out what lies far off; what is kept, and the shape."""
    spread = 1.4826 * float(np.median(np.abs(np.diff(points.flux)))) / np.sqrt(2) + 1e-12
    smooth = np.array([np.median(points.flux[max(0, i - 2) : i + 3]) for i in range(len(points.times))])
    # a single point far off must not choose the place, hence what is tried first is tamed
    kept = np.abs(points.flux - smooth) < CLIP_SIGMA * max(spread, float(np.median(points.errors)))
    if kept.sum() < FEWEST_POINTS:
        kept[:] = True
    shape: tuple[float, float, float] | None = None
    for _ in range(3):
        some = _Points(points.times[kept], points.flux[kept], points.errors[kept], points.base[kept])
        grid = _search(some)
        if grid is None or not (grid.depth > 0).any():
            return None
        best = int(np.argmin(np.where(grid.depth > 0, grid.chi2, np.inf)))
        shape = float(grid.mid[best]), float(grid.length[best]), float(grid.ingress[best])
        dip = -_shapes(points, *(np.array([v]) for v in shape))[:, 0]
        model = np.c_[points.base, dip] @ _fitted(some, shape)[1]
        away = np.abs(points.flux - model) / points.errors
        new = away < CLIP_SIGMA * max(1.4826 * float(np.median(away)), 1e-12)
        if new.sum() < max(FEWEST_POINTS, 0.7 * len(new)) or np.array_equal(new, kept):
            break
        kept = new
    assert shape is not None
    return _Points(points.times[kept], points.flux[kept], points.errors[kept], points.base[kept]), shape


def _design(points: _Points, shape: tuple[float, float, float]) -> np.ndarray:
    """Derivatives of the model, (n, k), over steps that reach over the corners of the trapezoid."""
    step = 0.5 * float(np.median(np.diff(points.times)))
    columns = [points.base, _shapes(points, *(np.array([v]) for v in shape))]
    for i in range(3):
        size = min(step, 0.5 * shape[2])
        up, down = list(shape), list(shape)
        up[i] += size
        down[i] -= size
        columns.append(_shapes(points, *(np.array([v]) for v in up)) - _shapes(points, *(np.array([v]) for v in down)))
    return np.concatenate(columns, axis=1)


def _tell(
    grid: _Grid, shape: tuple[float, float, float], noise: Noise, sigma: float, points: _Points, left_out: int,
    times: np.ndarray, centre: float, base: np.ndarray, order: np.ndarray,
) -> Transit:  # fmt: skip
    weights = grid.weights()

    def value(numbers: np.ndarray, own: float = 0.0) -> tuple[float, float]:
        rising = np.argsort(numbers)
        # not mean and variance: long dips, of which the baseline is hardly seen, make a long tail
        part = np.searchsorted(np.cumsum(weights[rising]), (0.1587, 0.5, 0.8413))
        low, middle, high = (float(v) for v in numbers[rising][np.minimum(part, len(rising) - 1)])
        return middle, float(np.sqrt((0.5 * (high - low)) ** 2 + own**2))

    mid, length, ingress = value(grid.mid), value(grid.length), value(grid.ingress)
    columns = base.shape[1]
    dip = -_shapes(points, *(np.array([v]) for v in shape))[:, 0]
    design = noise.whiten(np.c_[points.base, dip])
    linear = np.linalg.lstsq(design, noise.whiten(points.flux), rcond=None)[0]
    line = np.empty(len(times))
    line[order] = base @ linear[:-1]
    level = float(np.interp(shape[0] + centre, times[order], line[order]))
    depth = value(grid.depth / level, float(np.sqrt(weights @ grid.error**2)) / level)
    model = line - linear[-1] * trapezoid(times - centre, shape[0], shape[1] - shape[2], shape[2])
    before, after = (points.times < shape[0] - 0.5 * shape[1]).sum(), (points.times > shape[0] + 0.5 * shape[1]).sum()
    return Transit(
        Value(mid[0] + centre, mid[1]), Value(*depth), Value(*length), Value(*ingress),
        sigma, bool(sigma >= CERTAIN_SIGMA), bool(before >= 3 and after >= 3), len(points.times), left_out,
        columns == 3,
        float(np.std(points.flux - points.base @ linear[:-1] - linear[-1] * dip)), noise.lasting, noise.memory, times,
        model, line, {},
    )  # fmt: skip
