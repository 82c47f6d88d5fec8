"""Bands that a lamp on the mains leaves in flats of a rolling shutter.

The lamp flickers at twice the mains frequency while the rows are read one after the other: bright and dark bands,
elsewhere in each frame, of 20 % and more at short exposures. Averaging a few such flats leaves bands in every light
that is divided by them. What differs from row to row *and* from frame to frame cannot be the optics, so each row is
brought to a smooth curve (a polynomial through the average of the frames' row profiles): vignetting stays, dust stays,
bands go.
"""

from __future__ import annotations

import numpy as np

MIN_BANDS = 0.003
"""Rms of the bands, relative, above which they are taken out. Photon noise of a row's mean is ten times less."""
DEGREE = 4


def row_profile(flat: np.ndarray) -> np.ndarray:
    """(H,) mean of each row of a flat that was brought to 1 in each colour; colour planes are averaged."""
    planes = flat.reshape(-1, *flat.shape[-2:])
    return np.mean([np.nanmean(plane, axis=1, dtype=np.float64) for plane in planes], axis=0)


def measure_bands(profiles: np.ndarray) -> float:
    """Relative rms of what moves from row to row and from frame to frame; `profiles` (N, H), 0 for a single frame."""
    if len(profiles) < 2:
        return 0.0
    change = profiles / profiles.mean(axis=0)
    change = change - np.array([_smooth(row) for row in change])
    return float(np.median(np.std(change, axis=1)))


def band_corrections(profiles: np.ndarray) -> np.ndarray:
    """(N, H) float32: what to divide the rows of each frame by."""
    return (profiles / _smooth(profiles.mean(axis=0))).astype(np.float32)


def _smooth(profile: np.ndarray) -> np.ndarray:
    y = np.linspace(-1, 1, len(profile))
    return np.polynomial.legendre.legval(y, np.polynomial.legendre.legfit(y, profile, DEGREE))
