"""Where a moving point was, as well as its light tells: a fit to what all frames of its way show around it.

A point's place in a frame is known no better than sqrt(2) sigma / SNR on each axis (sigma of the star's profile, SNR of
the best weighting: the bound of Cramer and Rao on a bright sky). Of N frames at even times the rate along one axis is
then known to that over sqrt(N (N^2 - 1) / 12) a frame: for SNR 5 to 9, sigma 1.3 px, 8 to 30 frames and 0.4 to 5 px a
frame that is 0.1 to 10 %, so that a slow one in few frames cannot be known to 2 %.

All frames between the first and the last count, those too in which noise hides it. First its light is fitted, as the
maps cut it off at 7.9 sigma, its own trace in the mean of the other frames included; then, where it is fainter and
leaves no such trace, its path is moved to where the sum of the filtered frames along it is largest, which is the most
likely path.
"""

from __future__ import annotations

import math

import numpy as np

REACH = 3
"""Reduced pixels around the path that are looked at."""
MOST_SIGMA = 127 / 16
"""Of a map."""
FAINT_SIGMA = 6.5
"""Fainter points are not cut off in the maps."""
MOST_TRACE = 0.03
"""Of its light: more of it in the mean that it is compared with pushes the largest sum outward along the path."""
MOST_MOVED_PX = 3.0
"""A fit that leaves the path by more has gone to something else."""


def refine_ends(
    maps: np.ndarray, times: np.ndarray, first: int, last: int, ends: np.ndarray, sigma: float, apart: int
) -> np.ndarray:
    """The ends (4,) of a track, x0, y0, x1, y1 in reduced pixels, fitted anew; as they were where no fit holds.

    Parameters
    ----------
    maps : (N, H, W) int8, residuals filtered for points, sixteenths of sigma; times : (N,).
    first, last : frames (both included) between whose times the ends lie.
    sigma : of a star in the filtered maps, reduced pixels.
    apart : frames so near to each other were not compared.
    """
    from scipy.optimize import least_squares

    span = times[last] - times[first]
    if span <= 0:
        return ends
    share = (times[first : last + 1] - times[first]) / span
    cut = _windows(maps, first, ends, share)
    if cut is None:
        return ends
    values, x, y = cut
    number = len(maps)
    near = np.abs(np.subtract.outer(np.arange(first, last + 1), np.arange(first, last + 1))) <= apart
    inside = [min(number, t + apart + 1) - max(0, t - apart) for t in range(first, last + 1)]
    weight = np.where(near, 0.0, 1.0) / np.maximum(number - np.array(inside), 1)[:, None]
    known = values != 0

    def light(path: np.ndarray) -> np.ndarray:
        px, py = _along(path, share)
        own = np.exp(-0.5 * ((x - px[:, None]) ** 2 + (y - py[:, None]) ** 2) / sigma**2)
        close = np.hypot(np.subtract.outer(px, px), np.subtract.outer(py, py)) < REACH * 2 + 3 * sigma
        for t, s in np.argwhere(close & (weight > 0)):
            own[t] -= weight[t, s] * np.exp(-0.5 * ((x[t] - px[s]) ** 2 + (y[t] - py[s]) ** 2) / sigma**2)
        return own

    def trace(path: np.ndarray) -> float:
        px, py = _along(path, share)
        apart2 = np.subtract.outer(px, px) ** 2 + np.subtract.outer(py, py) ** 2
        return float((weight * np.exp(-0.5 * apart2 / sigma**2)).sum(axis=1).max())

    def misfit(trial: np.ndarray) -> np.ndarray:
        return np.asarray((np.clip(trial[4] * light(trial[:4]), -MOST_SIGMA, MOST_SIGMA) - values)[known])

    start = np.append(ends, max(2.0, float(np.median(values.max(axis=1)))))
    fit = least_squares(misfit, start, loss="soft_l1", f_scale=2.0, max_nfev=40)
    best = fit.x[:4]
    if not np.isfinite(best).all() or np.abs(best - ends).max() > MOST_MOVED_PX:
        return ends
    if abs(fit.x[4]) < FAINT_SIGMA and trace(best) < MOST_TRACE:
        climbed = _climb(values, x, y, best, share)
        if np.abs(climbed - ends).max() <= MOST_MOVED_PX:
            best = climbed
    return np.asarray(best)


def _along(path: np.ndarray, share: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """x and y (n,) at shares of the time between the ends."""
    return path[0] + share * (path[2] - path[0]), path[1] + share * (path[3] - path[1])


def _windows(
    maps: np.ndarray, first: int, ends: np.ndarray, share: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray] | None:
    """Sigmas, x and y (n, (2 REACH + 1)^2) around the path; what lies outside is 0. None where nothing is left."""
    _, height, width = maps.shape
    px, py = _along(ends, share)
    dy, dx = (grid.ravel() for grid in np.mgrid[-REACH : REACH + 1, -REACH : REACH + 1])
    x, y = np.rint(px).astype(int)[:, None] + dx, np.rint(py).astype(int)[:, None] + dy
    within = (x >= 0) & (y >= 0) & (x < width) & (y < height)
    frames = first + np.arange(len(share))[:, None]
    values = maps[frames, np.clip(y, 0, height - 1), np.clip(x, 0, width - 1)] / 16.0
    values = np.where(within, values, 0.0)
    return (values, x, y) if (values != 0).any() else None


def _climb(values: np.ndarray, x: np.ndarray, y: np.ndarray, path: np.ndarray, share: np.ndarray) -> np.ndarray:
    """The path near one along which the sum of the windows, between their pixels by cubic splines, is largest."""
    from scipy.ndimage import map_coordinates, spline_filter
    from scipy.optimize import minimize

    side = 2 * REACH + 1
    room = side + 8
    sheet = np.zeros((room, room * len(share)))
    for k, window in enumerate(values):
        sheet[4 : 4 + side, k * room + 4 : k * room + 4 + side] = window.reshape(side, side)
    spline = spline_filter(sheet, order=3)
    left, top = x[:, 0], y[:, 0]
    columns = np.arange(len(share)) * room + 4

    def loss(trial: np.ndarray) -> float:
        px, py = _along(trial, share)
        u, v = px - left, py - top
        if (np.abs(u - REACH) > REACH).any() or (np.abs(v - REACH) > REACH).any():
            return math.inf
        return -float(map_coordinates(spline, [v + 4, u + columns], order=3, prefilter=False).sum())

    steps = path + np.vstack([np.zeros(4), 0.3 * np.eye(4)])
    found = minimize(loss, path, method="Nelder-Mead", options={"initial_simplex": steps, "xatol": 3e-3, "fatol": 1e-3})
    return np.asarray(found.x if math.isfinite(found.fun) else path)
