"""Linear data at the size of the screen: exact averages over areas, skipping pixels without data.

Averaging, not picking: a pixel of the preview has the low noise of all the pixels under it. Any reduction >= 1 is
possible, not only whole ones. A `Small` holds all that a preview needs of the data, read once, from a finished image
(`shrink`) or straight from a stack's accumulators (`shrink_stack`), which saves a copy of the whole.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from livestack.kernels.bands import Bands, run_bands
from livestack.kernels.render import average_area, average_weighted

Region = tuple[int, int, int, int]
"""(x, y, width, height) in pixels of the data."""
APART = 4
"""Pixels nearer than this share noise through debayering and registration."""
NOISE_PIXELS = 50_000


@dataclass(frozen=True, eq=False)
class Small:
    """Data at the size of the screen, and what only their true pixels tell.

    Attributes
    ----------
    planes : (C, h, w) float32, NaN = no data.
    scale : true pixels per pixel, >= 1.
    size : (width, height) of the data in true pixels.
    here, there : (C, n, m) float32, true pixels from all over and others `APART` pixels beside them; for their noise.
    """

    planes: np.ndarray
    scale: float
    size: tuple[int, int]
    here: np.ndarray
    there: np.ndarray


def shrink(linear: np.ndarray, max_side: int | None = None, bands: Bands | None = None) -> Small:
    """Reduce data so that the longer side has at most `max_side` pixels.

    Parameters
    ----------
    linear : (C, H, W) float32, C = 1 or 3, NaN = no data.

    Raises
    ------
    ValueError : another shape or dtype.
    """
    planes, scale = reduce_planes(linear, max_side, bands=bands)
    here, there = _apart(linear)
    return Small(planes, scale, (linear.shape[2], linear.shape[1]), here.copy(), there.copy())


def shrink_stack(
    mean: np.ndarray, weight: np.ndarray, origin: np.ndarray, max_side: int | None = None, bands: Bands | None = None
) -> Small:
    """`shrink` of mean + origin where weight > 0, without that image ever being made.

    Parameters
    ----------
    mean, weight : (C, H, W) float32, C = 1 or 3; `mean` is relative to `origin` (C,), ADU.

    Raises
    ------
    ValueError : another shape or dtype, or shapes that differ.
    """
    _check(mean)
    if weight.shape != mean.shape or weight.dtype != np.float32:
        raise ValueError(
            f"weight: expected float32 of shape {mean.shape}, found {weight.dtype} of {weight.shape}; pass the weights "
            "that belong to the mean."
        )
    channels, height, width = mean.shape
    scale = 1.0 if max_side is None else max(1.0, max(width, height) / max_side)
    planes = np.empty((channels, max(1, round(height / scale)), max(1, round(width / scale))), np.float32)
    shift = origin.astype(np.float32)

    def average(row0: int, row1: int) -> None:
        for plane, known, target, level in zip(mean, weight, planes, shift, strict=True):
            average_weighted(plane, known, 0.0, 0.0, scale, target, row0, row1)
            target[row0:row1] += level

    run_bands(bands, average, planes.shape[1])
    values = zip(_apart(mean), _apart(weight), strict=True)
    here, there = (np.where(known > 0, value + shift[:, None, None], np.float32(np.nan)) for value, known in values)
    return Small(planes, scale, (width, height), here, there)


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
    _check(linear)
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


def _check(linear: np.ndarray) -> None:
    if linear.ndim != 3 or linear.shape[0] not in (1, 3):
        raise ValueError(f"linear: expected shape (1, H, W) or (3, H, W), found {linear.shape}.")
    if linear.dtype != np.float32:
        raise ValueError(f"linear: expected float32, found {linear.dtype}; convert with .astype(np.float32).")


def _apart(data: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Views of pixels from all over (C, H, W), and of those `APART` pixels on, (C, n, m) each."""
    height, width = data.shape[1:]
    step = max(APART + 1, round((height * width / NOISE_PIXELS) ** 0.5))
    there = data[:, ::step, APART::step]
    return data[:, ::step, ::step][..., : there.shape[-1]], there
