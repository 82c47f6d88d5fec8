"""What a star's light did, as few numbers that a page can say in a sentence: steady, faded since, varies by so much.

The newest light, smoothed over some frames, is compared with the brightest and the faintest that was seen before it.
Where the larger of the two differences is beyond chance it is told, with the time when the light last was as before.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from livestack.photometry.watch import LEAST_MAG

FEWEST = 5
"""With fewer good measurements nothing is said."""
SURE, VERY_SURE = 6.0, 8.0
"""Sigma of a change that is told: of a star that is known to vary, and of one that is not (yet)."""
BEGUN = 0.15
"""The change had not begun while the light was within this share of it."""
MEDIAN_NOISE = 1.25
"""A median is so much noisier than a mean."""


def tell_light(hours: np.ndarray, left_mag: np.ndarray, error_mag: np.ndarray, varies: bool) -> dict[str, Any]:
    """Say what the light did.

    Parameters
    ----------
    hours, left_mag, error_mag : (n,) good measurements in order of time; mag relative to the mean, positive is fainter.
    varies : the star is known to vary.

    Returns
    -------
    `is`: "new" (too few), "steady", "faded", "brightened" or "varies"; `mag`: by how much (steady: the scatter, one
    sigma), `since`: in hours like those given, of "faded" and "brightened", else None.
    """
    if len(left_mag) < FEWEST:
        return {"is": "new", "mag": None, "since": None}
    width = max(3, len(left_mag) // 20 | 1)
    smooth = running_median(left_mag, width)
    sigma = MEDIAN_NOISE * float(np.median(error_mag)) / width**0.5
    now = float(smooth[-1])
    extreme = max((int(np.argmin(smooth)), int(np.argmax(smooth))), key=lambda k: abs(now - smooth[k]))
    change = now - float(smooth[extreme])
    sure = SURE if varies else VERY_SURE
    if abs(change) > sure * 2**0.5 * sigma and (varies or abs(change) > LEAST_MAG):
        before = np.flatnonzero(np.abs(smooth - smooth[extreme]) <= BEGUN * abs(change))
        words = "faded" if change > 0 else "brightened"
        return {"is": words, "mag": round(abs(change), 4), "since": round(float(hours[before[-1]]), 4)}
    if varies:
        low, high = np.percentile(smooth, [2, 98])
        return {"is": "varies", "mag": round(float(high - low), 4), "since": None}
    return {"is": "steady", "mag": round(float(np.std(left_mag, ddof=1)), 4), "since": None}


def running_median(values: np.ndarray, width: int) -> np.ndarray:
    """(n,) median over `width` (odd) values around each; at the ends over the `width` first and last."""
    windows = np.median(np.lib.stride_tricks.sliding_window_view(values, width), axis=1)
    half = width // 2
    return np.concatenate([np.full(half, windows[0]), windows, np.full(half, windows[-1])])
