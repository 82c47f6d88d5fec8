"""The sky of one frame on a coarse mesh, per channel, robust against stars."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from livestack.kernels import sky as kernel
from livestack.kernels.bands import Bands

MESH_CELL_PX = 160
MESH_SAMPLES = 400
ROUNDING = 1 / math.sqrt(12.0)
"""Sigma of what rounding takes from a number, in steps (Widrow & Kollar 2008): the sky of an 8-bit picture may be one
value throughout, and yet it is not known any better than this."""

UNBLURRED = 0.5
"""Share of neighbours that are equal from which a sky is terraces: noise of 0.35 of a step; of one step, 0.28 are."""
APART = 4
"""Neighbours, in pixels: of one colour in a mosaic, and not mixed by debayering."""


@dataclass(frozen=True, eq=False)
class Sky:
    """Sky of one frame on a coarse mesh.

    Attributes
    ----------
    level : (C, gy, gx) float32, ADU, NaN where a cell had too few good pixels; cells divide the frame evenly.
    noise : (C,) float32, ADU, sigma of one pixel (median over the cells), never below `rounding`.
    rounding : (C,) float32, ADU, sigma that the step between two values of the file makes by itself: 0.29 for whole
        numbers, next to nothing for fractions, 0 where all pixels are equal.
    """

    level: np.ndarray
    noise: np.ndarray
    rounding: np.ndarray

    @property
    def level_adu(self) -> float:
        """Median sky over cells and channels; NaN where no cell has a level."""
        return float(np.nanmedian(self.level)) if np.isfinite(self.level).any() else math.nan

    @property
    def noise_adu(self) -> float:
        """Noise of one pixel, mean of the channels."""
        return float(np.mean(self.noise))


def phase_planes(bayer: str | None) -> list[list[tuple[int, int]]]:
    """(row, column) parities of the pixels of each channel; for mono one channel with all pixels."""
    if bayer is None:
        return [[(0, 0)]]
    return [[(k // 2, k % 2) for k in range(4) if bayer[k] == colour] for colour in "RGB"]


def measure_sky(data: np.ndarray, bayer: str | None, bands: Bands) -> Sky:
    """Robust sky on a coarse mesh, per channel.

    Parameters
    ----------
    data : (H, W) mono or mosaic, or (3, H, W), float32, ADU.
    bayer : pattern of a mosaic, else None.
    """
    height, width = data.shape[-2:]
    gy, gx = (max(2, min(32, round(side / MESH_CELL_PX))) for side in (height, width))
    planes = phase_planes(bayer)
    sources = [(data, phases[0]) for phases in planes] if data.ndim == 2 else [(plane, (0, 0)) for plane in data]
    level, noise, step = measure_mesh(sources, 2 if bayer else 1, (gy, gx), MESH_SAMPLES, bands)
    finite = np.isfinite(noise)
    sigma = [float(np.median(noise[c][finite[c]])) if finite[c].any() else 0.0 for c in range(len(sources))]
    rounding = (step * ROUNDING).astype(np.float32)
    return Sky(level, np.maximum(np.array(sigma, dtype=np.float32), rounding), rounding)


def measure_mesh(
    sources: list[tuple[np.ndarray, tuple[int, int]]], step: int, mesh: tuple[int, int], samples: int, bands: Bands
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Robust level and noise of each source in the cells of a mesh.

    Parameters
    ----------
    sources : C images (H, W) float32, each with the (row, column) of the first pixel to look at.
    step : distance of the pixels to look at; 2 for one colour of a mosaic.
    mesh : (gy, gx) cells, which divide the image evenly.
    samples : about so many pixels of each cell are looked at.

    Returns
    -------
    level, noise : (C, gy, gx) float32; NaN in cells with fewer than eight good samples.
    step : (C,) float32, the least difference between two samples of a cell; 0 where none differ.
    """
    (height, width), (gy, gx) = sources[0][0].shape, mesh
    level = np.empty((len(sources), gy, gx), dtype=np.float32)
    noise, steps = np.empty_like(level), np.empty_like(level)
    # Few rows, and in each every fourth sample: whole cache lines, not one value from each.
    share = height * width / (gy * gx * step * step * samples)
    across = step * max(1, min(4, int(math.sqrt(share))))
    down = step * max(1, int(share * step / across))
    room = (-(-height // gy) // down + 2) * (-(-width // gx) // across + 2)

    def part(row0: int, row1: int) -> None:
        values = np.empty(((row1 - row0) * gx, room), dtype=np.float32)
        counts = np.empty(len(values), dtype=np.int64)
        for c, (plane, (py, px)) in enumerate(sources):
            kernel.sample_mesh(plane, py, px, step, down, across, gy, gx, values, counts, row0, row1)
            values.sort(axis=1)  # numpy sorts with vector instructions, twenty times faster than a compiled loop
            kernel.mesh_levels(values, counts, level[c, row0:row1], noise[c, row0:row1], steps[c, row0:row1])

    bands.run(part, gy)
    step = steps.min(axis=(1, 2))
    return level, noise, np.where(np.isfinite(step), step, np.float32(0.0))


def terraces_of(data: np.ndarray, sky: Sky) -> np.ndarray:
    """(C,) ADU, half a step between two values of a frame whose noise is too small to blur its steps; else 0.

    A smooth sky of such a frame is terraces, in each frame the same ones: they do not average away.

    Parameters
    ----------
    data : (H, W) mono or mosaic, or (3, H, W), as for `measure_sky`.
    """
    half_a_step = 0.5 * sky.rounding / ROUNDING
    planes = np.broadcast_to(data, (len(sky.rounding), *data.shape)) if data.ndim == 2 else data
    along = [np.mean(planes[:, ::8, APART:] == planes[:, ::8, :-APART], axis=(1, 2))]
    along.append(np.mean(planes[:, APART:, ::8] == planes[:, :-APART, ::8], axis=(1, 2)))
    equal = np.max(along, axis=0)  # a gradient lets neighbours differ in one direction more than in the other
    return np.where(equal > UNBLURRED, half_a_step, 0.0)
