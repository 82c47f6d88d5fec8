"""The sky of one frame on a coarse mesh, per channel, robust against stars."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from livestack.kernels import sky as kernel
from livestack.kernels.bands import Bands

MESH_CELL_PX = 160
MESH_SAMPLES = 400


@dataclass(frozen=True, eq=False)
class Sky:
    """Sky of one frame on a coarse mesh.

    Attributes
    ----------
    level : (C, gy, gx) float32, ADU, NaN where a cell had too few good pixels; cells divide the frame evenly.
    noise : (C,) float32, ADU, sigma of one pixel (median over the cells).
    """

    level: np.ndarray
    noise: np.ndarray

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
    step = 2 if bayer else 1
    planes = phase_planes(bayer)
    sources = [(data, phases) for phases in planes] if data.ndim == 2 else [(plane, planes[0]) for plane in data]
    level = np.empty((len(sources), gy, gx), dtype=np.float32)
    noise = np.empty_like(level)
    for c, (plane, phases) in enumerate(sources):
        py, px = phases[0]

        def part(row0: int, row1: int, plane=plane, py=py, px=px, c=c) -> None:  # type: ignore[no-untyped-def]
            kernel.sky_mesh(plane, py, px, step, level[c], noise[c], row0, row1, MESH_SAMPLES)

        bands.run(part, gy)
    finite = np.isfinite(noise)
    sigma = [float(np.median(noise[c][finite[c]])) if finite[c].any() else 0.0 for c in range(len(sources))]
    return Sky(level, np.array(sigma, dtype=np.float32))
