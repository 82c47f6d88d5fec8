"""Linear data at the size of the screen: exact averages over areas, skipping pixels without data.

Averaging, not picking: a pixel of the preview has the low noise of all the pixels under it. Any reduction >= 1 is
possible, not only whole ones.
"""

from __future__ import annotations

import numpy as np

from livestack.kernels.bands import Bands, run_bands
from livestack.kernels.render import average_area

Region = tuple[int, int, int, int]
"""(x, y, width, height) in pixels of the data."""


def reduce_planes(
    linear: np.ndarray, max_side: int | None = None, region: Region | None = None, bands: Bands | None = None
) -> tuple[np.ndarray, float]:
    """Average data down so that the longer side has at most `max_side` pixels.

    Parameters
    ----------
    linear : (C, H, W) float32, C = 1 or 3, NaN = no data.
    max_side : None keeps the size.
    region : the part that is wanted, inside the data; None for all.

    Returns
    -------
    A copy (C, h, w) float32, and the scale: input pixels per output pixel, >= 1.

    Raises
    ------
    ValueError : another shape or dtype, or a region that is not inside.
    """
    if linear.ndim != 3 or linear.shape[0] not in (1, 3):
        raise ValueError(f"linear: expected shape (1, H, W) or (3, H, W), found {linear.shape}.")
    if linear.dtype != np.float32:
        raise ValueError(f"linear: expected float32, found {linear.dtype}; convert with .astype(np.float32).")
    channels, height, width = linear.shape
    x, y, w, h = region or (0, 0, width, height)
    if w < 1 or h < 1 or x < 0 or y < 0 or x + w > width or y + h > height:
        raise ValueError(f"region: {(x, y, w, h)} is not inside the {width} x {height} pixels of the data.")
    scale = 1.0 if max_side is None else max(1.0, max(w, h) / max_side)
    if scale == 1.0:
        return linear[:, y : y + h, x : x + w].copy(), 1.0
    out = np.empty((channels, max(1, round(h / scale)), max(1, round(w / scale))), np.float32)

    def average(row0: int, row1: int) -> None:
        for plane, target in zip(linear, out, strict=True):
            average_area(plane, float(x), float(y), scale, target, row0, row1)

    run_bands(bands, average, out.shape[1])
    return out, scale
