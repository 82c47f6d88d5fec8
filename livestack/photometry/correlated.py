"""Noise that remembers: how much of a light curve's scatter comes from one frame to the next, and how much stays.

Passing haze, flat field errors under a drifting star and focus leave errors that neighbouring frames share ("red"
noise: Pont, Zucker & Queloz 2006, doi:10.1111/j.1365-2966.2006.11012.x); with them a hundred frames tell less than a
hundred times one. Here it is white noise plus an exponentially fading one (Ornstein-Uhlenbeck), found by restricted
maximum likelihood (Patterson & Thompson 1971, doi:10.1093/biomet/58.3.545), which knows that whatever was fitted to the
curve has eaten some of its noise. What is fitted is others' business.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.linalg import cholesky, solve_triangular

RATIOS = (0.0, 0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 6.4, 12.8)
"""Of variances, lasting against white, that are tried."""
_TIMES = 6


@dataclass(frozen=True, eq=False)
class Noise:
    """What was found.

    Attributes
    ----------
    white : factor that brings the errors that were given to the scatter that is there.
    lasting : standard deviation of the part that stays for a while, in the unit of the data.
    memory : time after which that part has fallen to 1/e, in the unit of the times; 0 where there is no such part.
    root : (n, n) float64, lower Cholesky factor of the covariance.
    deviance : -2 ln of the greatest likelihood of any such noise, up to a constant; to compare models of one curve.
    """

    white: float
    lasting: float
    memory: float
    root: np.ndarray
    deviance: float

    def whiten(self, values: np.ndarray) -> np.ndarray:
        """Values, (n,) or (n, k), brought to unit variance without correlation."""
        return np.asarray(solve_triangular(self.root, values, lower=True, check_finite=False))


def measure_noise(times: np.ndarray, residuals: np.ndarray, errors: np.ndarray, design: np.ndarray) -> Noise:
    """Find the noise of what a fit has left.

    Parameters
    ----------
    times : (n,) float64, ascending.
    residuals, errors : (n,) float64, data less model, and standard errors as they were told.
    design : (n, k) float64, derivatives of the model to all that was fitted.
    """
    away = np.abs(times[:, None] - times[None, :])
    span, step = float(times[-1] - times[0]), float(np.median(np.diff(times)))
    diagonal = np.diag(errors**2)
    typical = float(np.median(errors**2))
    # of a memory longer than a quarter of the night, or shorter than two frames, the curve says nothing
    memories = np.geomspace(2 * step, max(span / 4, 2.5 * step), _TIMES)
    best: tuple[float, float, float, float, np.ndarray] | None = None
    deviance = np.inf
    for memory in memories:
        faded = typical * np.exp(-away / memory)
        for ratio in RATIOS:
            if ratio == 0 and memory != memories[0]:
                continue
            root = cholesky(diagonal + ratio * faded, lower=True, check_finite=False)
            left = solve_triangular(root, residuals, lower=True, check_finite=False)
            seen = solve_triangular(root, design, lower=True, check_finite=False)
            ortho, upper = np.linalg.qr(seen)
            worth = np.abs(np.diag(upper))
            kept = worth > 1e-9 * max(float(worth.max()), 1e-300)
            left = left - ortho[:, kept] @ (ortho[:, kept].T @ left)
            free = max(1, len(residuals) - int(kept.sum()))
            variance = float(left @ left) / free
            unlikely = free * np.log(max(variance, 1e-300)) + 2 * np.log(np.diag(root)).sum()
            unlikely += 2 * np.log(worth[kept]).sum()
            if best is None or unlikely < best[0] - 1e-9:
                best = float(unlikely), variance, ratio, float(memory), root
            n = len(residuals)
            plain = n * np.log(max(variance * free / n, 1e-300)) + 2 * np.log(np.diag(root)).sum()
            deviance = min(deviance, float(plain))
    assert best is not None
    _, variance, ratio, memory, root = best
    factor = float(np.sqrt(variance))
    return Noise(factor, factor * float(np.sqrt(ratio * typical)), memory if ratio else 0.0, factor * root, deviance)
