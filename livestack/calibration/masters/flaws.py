"""Defective pixels that master frames show.

A dark shows pixels whose dark current is so high that its noise outweighs the sky's, and pixels that flicker (their
variance over the frames stands out); a flat shows pixels that hardly answer to light. Pixels that are merely warm, or a
little less sensitive, are put right by subtraction and division, and left alone.
"""

from __future__ import annotations

import math

import numpy as np

from livestack.calibration.defects import DefectMap
from livestack.kernels.bands import Bands, run_bands
from livestack.kernels.cosmetic import excess_rows

HOT_SIGMA = 8.0
"""Above the scatter of the neighbourhood's excess."""
HOT_NOISE = 5.0
"""Above the noise of a single frame: a dark current that high makes the pixel twice as noisy and more."""
FLICKER = 25.0
"""Variance over the median variance."""
MIN_RESPONSE, MAX_RESPONSE = 0.5, 1.5
"""Share of the light that the same-colour neighbours see."""
MAX_SHARE = 0.02
"""A sensor of which more is called defective is not understood: then only the worst are."""
COLUMN_ROWS = 256
COLUMN_SHARE = 0.5


def find_flaws(
    dark: np.ndarray | None,
    variance: np.ndarray | None,
    flat: np.ndarray | None,
    mosaic: str | None,
    bands: Bands | None = None,
) -> DefectMap | None:
    """Defects that a dark (and its variance) and a flat show; None when there is neither.

    Parameters
    ----------
    dark : (H, W) float32, ADU. variance : (H, W) float32, ADU^2 of a single frame. flat : (H, W) float32, any scale.
    mosaic : its pattern of 4 or 36 letters, or None.
    """
    given = next((a for a in (dark, flat) if a is not None), None)
    if given is None:
        return None
    hot, cold = np.zeros(given.shape, bool), np.zeros(given.shape, bool)
    step = 1 if mosaic is None else math.isqrt(len(mosaic))
    if dark is not None:
        excess = _excess(dark, step, bands)
        sample = excess[::3, ::3]
        scatter = 1.4826 * float(np.nanmedian(np.abs(sample - np.nanmedian(sample))))
        limit = max(HOT_SIGMA * scatter, 1.0, float(np.nanquantile(np.abs(sample), 1 - MAX_SHARE)))
        noise: np.ndarray | float = 0.0
        if variance is not None and np.isfinite(variance).any():
            # Of the neighbours: where the amplifier glows, all pixels are noisier.
            around = np.fmax(variance - _excess(variance, step, bands), np.float32(np.nanmedian(variance[::3, ::3])))
            noise = np.sqrt(around)
            flicker = variance > FLICKER * around
            if 0 < flicker.mean() < MAX_SHARE:
                hot |= flicker
        hot |= excess > np.maximum(limit, HOT_NOISE * noise)
        cold |= excess < -np.maximum(limit, HOT_NOISE * noise)
    if flat is not None:
        # Excess over neighbours relative to the neighbours: pixel / neighbours - 1.
        excess = _excess(flat, step, bands)
        with np.errstate(divide="ignore", invalid="ignore"):
            response = flat / (flat - excess)
        cold |= ~(response > MIN_RESPONSE)
        hot |= response > MAX_RESPONSE
    return DefectMap.of(given.shape, hot, cold, _columns(hot | cold))


def _excess(image: np.ndarray, step: int, bands: Bands | None) -> np.ndarray:
    out = np.empty_like(image)
    run_bands(bands, lambda y0, y1: excess_rows(image, step, out, y0, y1), image.shape[0])
    return out


def _columns(bad: np.ndarray) -> np.ndarray:
    """Whole segments of columns half of which is bad."""
    column = np.zeros_like(bad)
    for y0 in range(0, bad.shape[0], COLUMN_ROWS):
        share = bad[y0 : y0 + COLUMN_ROWS].mean(axis=0)
        column[y0 : y0 + COLUMN_ROWS, share > COLUMN_SHARE] = True
    return column
