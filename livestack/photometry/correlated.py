"""Noise that remembers: how much of a light curve's scatter comes from one frame to the next, and how much stays.

Passing haze, flat field errors under a drifting star and focus leave errors that neighbouring frames share ("red"
noise: Pont, Zucker & Queloz 2006, doi:10.1111/j.1365-2966.2006.11012.x); with them a hundred frames tell less than a
hundred times one. Here it is white noise plus an exponentially fading one (Ornstein-Uhlenbeck). One short curve
hardly tells how much of that there is: a dip is as well a slow wave of noise. What stars of like brightness show is
therefore heard first, and the curve may overrule it. What is fitted is others' business.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
from scipy.linalg import cholesky, solve_triangular

RATIOS = (0.0, 0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 6.4)
"""Of variances, lasting against white, that are tried."""
WHITE_SHARE = 0.5
"""What is believed beforehand of there being no lasting noise at all."""
USUAL = 0.7
"""Standard deviation of lasting noise against white that is believed where nothing is known of other stars."""
LEAST_USUAL = 0.25
"""However quiet other stars are, this one may have a hot pixel of its own."""
_TIMES = 4


@dataclass(frozen=True, eq=False)
class Noise:
    """One kind of noise.

    Attributes
    ----------
    lasting : standard deviation of the part that stays for a while, in the unit of the data.
    memory : time after which that part has fallen to 1/e, in the unit of the times; 0 where there is no such part.
    root : (n, n) float64, lower Cholesky factor of the covariance.
    belief : natural logarithm of what is believed of it beforehand.
    """

    lasting: float
    memory: float
    root: np.ndarray
    belief: float

    def whiten(self, values: np.ndarray) -> np.ndarray:
        """Values, (n,) or (n, k), brought to unit variance without correlation."""
        return np.asarray(solve_triangular(self.root, values, lower=True, check_finite=False))

    @property
    def volume(self) -> float:
        """Half the logarithm of the covariance's determinant."""
        return float(np.log(np.diag(self.root)).sum())


def scaled_errors(values: np.ndarray, errors: np.ndarray) -> np.ndarray:
    """Errors, (n,), brought to what values scatter from one to the next, in order of time."""
    steps = np.abs(np.diff(values)) / np.hypot(errors[1:], errors[:-1])
    return np.asarray(errors * max(1.4826 * float(np.median(steps)), 1e-12))


def kinds_of_noise(times: np.ndarray, errors: np.ndarray, usual: float | None = None) -> Iterator[Noise]:
    """All kinds of noise that a curve may have.

    Parameters
    ----------
    times, errors : (n,) float64, times ascending; errors of the white part.
    usual : standard deviation of lasting noise that is usual for such a star; None: nothing is known of it.
    """
    typical = float(np.median(errors))
    width = USUAL if usual is None else max(usual / typical, LEAST_USUAL)
    span, step = float(times[-1] - times[0]), float(np.median(np.diff(times)))
    # of a memory longer than a quarter of the night, or shorter than two frames, the curve says nothing
    memories = np.geomspace(2 * step, max(span / 4, 2.5 * step), _TIMES)
    sizes = np.sqrt(RATIOS[1:])
    # half a normal distribution; the sizes are spaced evenly in their logarithm
    belief = np.log(sizes) - 0.5 * (sizes / width) ** 2
    belief += np.log((1 - WHITE_SHARE) / _TIMES) - np.log(np.exp(belief).sum())
    yield Noise(0.0, 0.0, np.diag(errors), float(np.log(WHITE_SHARE)))
    away = np.abs(times[:, None] - times[None, :])
    for memory in memories:
        faded = typical**2 * np.exp(-away / memory)
        for ratio, size, known in zip(RATIOS[1:], sizes, belief, strict=True):
            root = cholesky(np.diag(errors**2) + ratio * faded, lower=True, check_finite=False)
            yield Noise(typical * float(size), float(memory), root, float(known))


def measure_noise(
    times: np.ndarray, residuals: np.ndarray, errors: np.ndarray, design: np.ndarray, usual: float | None = None
) -> Noise:
    """The likeliest noise of what a fit has left, by restricted likelihood (Patterson & Thompson 1971,
    doi:10.1093/biomet/58.3.545), which knows that whatever was fitted has eaten some of the noise.

    Parameters
    ----------
    times : (n,) float64, ascending.
    residuals, errors : (n,) float64, data less model, and standard errors as they were told.
    design : (n, k) float64, derivatives of the model to all that was fitted.
    usual : see `kinds_of_noise`.
    """
    best: tuple[float, float, Noise] | None = None
    for noise in kinds_of_noise(times, scaled_errors(residuals, errors), usual):
        left, seen = noise.whiten(residuals), noise.whiten(design)
        ortho, upper = np.linalg.qr(seen)
        left = left - ortho @ (ortho.T @ left)
        free = max(1, len(residuals) - design.shape[1])
        variance = float(left @ left) / free
        worth = noise.belief - 0.5 * free * np.log(max(variance, 1e-300)) - noise.volume
        worth -= float(np.log(np.maximum(np.abs(np.diag(upper)), 1e-300)).sum())
        if best is None or worth > best[0]:
            best = worth, float(np.sqrt(variance)), noise
    assert best is not None
    _, factor, noise = best
    return replace(noise, lasting=factor * noise.lasting, root=factor * noise.root)
