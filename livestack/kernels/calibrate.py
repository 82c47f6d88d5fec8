"""The loop behind `calibration.calibrate`: raw ADU to linear ADU in one pass over the frame.

Works on rows y0 .. y1 of (H, W) arrays; (3, H, W) is passed as (3H, W). Arithmetic is float32: raw values of up to 24
bits are exact.
"""

# numba infers the types of these functions from their callers
# mypy: disable-error-code="no-untyped-def"

from __future__ import annotations

import numpy as np
from numba import njit

F = np.float32


@njit(nogil=True, cache=True)
def offset_rows(raw, pedestal, out, y0, y1):
    """out = raw - pedestal."""
    p = F(pedestal)
    for y in range(y0, y1):
        for x in range(raw.shape[1]):
            out[y, x] = F(raw[y, x]) - p


@njit(nogil=True, cache=True)
def subtract_rows(raw, dark, out, y0, y1):
    """out = raw - dark."""
    for y in range(y0, y1):
        for x in range(raw.shape[1]):
            out[y, x] = F(raw[y, x]) - dark[y, x]


@njit(nogil=True, cache=True)
def divide_rows(raw, pedestal, inverse_flat, out, y0, y1):
    """out = (raw - pedestal) x inverse_flat."""
    p = F(pedestal)
    for y in range(y0, y1):
        for x in range(raw.shape[1]):
            out[y, x] = (F(raw[y, x]) - p) * inverse_flat[y, x]


@njit(nogil=True, cache=True)
def subtract_divide_rows(raw, dark, inverse_flat, out, y0, y1):
    """out = (raw - dark) x inverse_flat."""
    for y in range(y0, y1):
        for x in range(raw.shape[1]):
            out[y, x] = (F(raw[y, x]) - dark[y, x]) * inverse_flat[y, x]
