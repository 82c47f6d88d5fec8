"""The loops behind `calibration.masters`: averaging calibration frames without their extremes.

A pixel's own scatter over a few frames is a poor judge, so it is moderated by the noise of the whole frame as if that
were `PRIOR_DOF` more samples. The first frames are held and clipped about their median by the median absolute deviation
(x 1.4826); later ones, one at a time, against mean and scatter of what was accepted (Welford 1962, West 1979).
"""

# numba infers the types of these functions from their callers
# mypy: disable-error-code="no-untyped-def"

from __future__ import annotations

import numpy as np
from numba import njit

F = np.float32
MAD_TO_SIGMA = 1.4826
PRIOR_DOF = 6.0


@njit(nogil=True, cache=True)
def _median(values, n):
    for i in range(1, n):
        v = values[i]
        j = i - 1
        while j >= 0 and values[j] > v:
            values[j + 1] = values[j]
            j -= 1
        values[j + 1] = v
    return values[n // 2] if n % 2 == 1 else F(0.5) * (values[n // 2 - 1] + values[n // 2])


@njit(nogil=True, cache=True)
def start_rows(held, noise, kappa, mean, m2, count, y0, y1):
    """Mean, sum of squared deviations and number of the samples of `held` (K, H, W) that are no extremes."""
    k = held.shape[0]
    values = np.empty(k, F)
    for y in range(y0, y1):
        for x in range(held.shape[2]):
            n = 0
            for i in range(k):
                if np.isfinite(held[i, y, x]):
                    values[n] = held[i, y, x]
                    n += 1
            if n == 0:
                mean[y, x], m2[y, x], count[y, x] = F(np.nan), F(0), 0
                continue
            centre = _median(values, n)
            for i in range(n):
                values[i] = abs(values[i] - centre)
            sigma = MAD_TO_SIGMA * _median(values, n)
            limit = kappa * np.sqrt((PRIOR_DOF * noise * noise + n * sigma * sigma) / (PRIOR_DOF + n))
            total, squares, good = 0.0, 0.0, 0
            for i in range(k):
                d = held[i, y, x] - centre
                if abs(d) <= limit:
                    total += d
                    squares += d * d
                    good += 1
            mean[y, x] = centre + total / good
            m2[y, x] = squares - total * total / good
            count[y, x] = good


@njit(nogil=True, cache=True)
def fold_rows(frame, noise, kappa, mean, m2, count, y0, y1):
    """Fold one more frame into mean, m2 and count, except where it lies beyond the prediction limit."""
    for y in range(y0, y1):
        for x in range(frame.shape[1]):
            v = frame[y, x]
            if not np.isfinite(v):
                continue
            n = count[y, x]
            if n == 0:
                mean[y, x], m2[y, x], count[y, x] = v, F(0), 1
                continue
            d = float(v) - mean[y, x]
            variance = (PRIOR_DOF * noise * noise + m2[y, x]) / (PRIOR_DOF + n - 1)
            if d * d > kappa * kappa * variance * (1.0 + 1.0 / n):
                continue
            mean[y, x] += d / (n + 1)
            m2[y, x] += d * d * n / (n + 1)
            count[y, x] = n + 1
