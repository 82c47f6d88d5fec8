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
OVERTONES = 2


def row_profile(view: np.ndarray) -> np.ndarray:
    """(H,) mean of each row of the pixels of one colour of a flat that was brought to 1.

    Colour by colour, since a lamp's phosphors glow on for different times: red flickers less than blue.
    """
    return np.asarray(np.nanmean(view, axis=1, dtype=np.float64))


def measure_bands(profiles: np.ndarray) -> float:
    """Relative rms of what moves from row to row and from frame to frame; `profiles` (N, H), 0 for a single frame."""
    if len(profiles) < 2:
        return 0.0
    change = profiles / profiles.mean(axis=0)
    change = change - np.array([_smooth(row) for row in change])
    return float(np.median(np.std(change, axis=1)))


def band_corrections(profiles: np.ndarray) -> np.ndarray:
    """(N, H) float32: what to divide the rows of each frame by.

    The smooth curve is fitted together with the bands (a common period and two overtones, the phase free in each
    frame), else the bands would bend it where they are few.
    """
    height = profiles.shape[1]
    logs = np.log(np.maximum(profiles, 1e-3))
    change = logs - logs.mean(axis=0)
    power = (np.abs(np.fft.rfft(change * np.hanning(height), 4 * height, axis=1)) ** 2).sum(axis=0)
    coarse = (np.argmax(power[8:]) + 8) / 4.0  # periods over the height, from two up
    y = np.linspace(-1, 1, height)
    smooth = np.polynomial.legendre.legvander(y, DEGREE)
    best, curve = np.inf, logs.mean(axis=0)
    for periods in np.linspace(coarse - 0.4, coarse + 0.4, 41):
        phase = np.pi * periods * y
        waves = [wave(k * phase) for k in range(1, OVERTONES + 2) for wave in (np.cos, np.sin)]
        basis = np.column_stack([smooth, *waves])
        found, *_ = np.linalg.lstsq(basis, logs.T, rcond=None)
        misfit = float(np.sum((basis @ found - logs.T) ** 2))
        if misfit < best:
            best, curve = misfit, smooth @ found[: DEGREE + 1].mean(axis=1)
    return np.exp(logs - curve).astype(np.float32)


def _smooth(profile: np.ndarray) -> np.ndarray:
    y = np.linspace(-1, 1, len(profile))
    return np.polynomial.legendre.legval(y, np.polynomial.legendre.legfit(y, profile, DEGREE))
