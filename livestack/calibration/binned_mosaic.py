"""Whether a frame that was binned in the camera is a mosaic still: by what its four sub-lattices see.

Many cameras sum neighbouring pixels of all colours and leave `BAYERPAT` in the header; others sum pixels of one colour
and keep the mosaic. Where colours are left, red and blue together do not see twice what green sees, of the sky or of
the stars, or red and blue differ while the greens agree. A slope of the sky and offsets of rows or columns do neither.
"""

from __future__ import annotations

import numpy as np

BLOCK = 16
"""Cells of 2 x 2 pixels; the median over the blocks is free of stars."""
SURE_SIGMA = 6.0
LEAST_SKY = 0.1
"""Difference of the colours over the noise of a cell: below it may be the electronics."""
GREENS_AGREE = 0.2
BRIGHT_SIGMA = 8.0
STAR_CELLS = 3
"""A hot pixel makes one bright cell, a star several."""
FEW_BLOCKS = 8
LEAST_STAR = 0.04
"""Share of a star's light; stars on a mosaic show 0.1 to 0.5."""
CLIPPED = 0.9


def is_mosaic_still(data: np.ndarray, bayer: str, saturation_adu: float | None = None) -> bool | None:
    """True when the colours differ, False when all four pixels of a cell see the same, None when nothing tells.

    Parameters
    ----------
    data : (H, W), ADU, as the camera wrote it.
    bayer : what the header says.
    saturation_adu : where a pixel clips; clipped stars have no colour.
    """
    height, width = (side // (2 * BLOCK) * 2 * BLOCK for side in data.shape)
    if min(height, width) < 8 * BLOCK:
        return None
    whole = data[:height, :width].astype(np.float32)
    cells = [whole[k // 2 :: 2, k % 2 :: 2] for k in range(4)]
    green = [cells[k] for k in range(4) if bayer[k] == "G"]
    other = [cells[k] for k in range(4) if bayer[k] != "G"]
    total = np.add.reduce(cells)
    crossed = np.add.reduce(other) - np.add.reduce(green)
    if _sky_differs(crossed, other[0] - other[1], green[0] - green[1]):
        return True
    full = saturation_adu or float(np.nanmax(whole))
    return _stars_differ(total, crossed, np.maximum.reduce(cells) < CLIPPED * full)


def _blocks(values: np.ndarray) -> np.ndarray:
    """(n, BLOCK^2): one row a block."""
    rows, columns = (side // BLOCK for side in values.shape)
    return values.reshape(rows, BLOCK, columns, BLOCK).swapaxes(1, 2).reshape(rows * columns, BLOCK * BLOCK)


def _median(values: np.ndarray) -> tuple[float, float]:
    """The median, and its standard error by the scatter."""
    centre = float(np.median(values))
    sigma = 1.4826 * float(np.median(np.abs(values - centre)))
    return centre, 1.2533 * sigma / np.sqrt(len(values))


def _sky_differs(crossed: np.ndarray, red_blue: np.ndarray, greens: np.ndarray) -> bool:
    """Red and blue against green, and red against blue; (h, w) each."""

    def of_sky(values: np.ndarray) -> tuple[float, float]:
        means = _blocks(values).mean(axis=1)
        return _median(means[np.isfinite(means)]) if np.isfinite(means).any() else (0.0, np.inf)

    noise = 1.4826 * float(np.nanmedian(np.abs(np.diff(crossed, axis=1)))) / np.sqrt(2.0)
    both, error = of_sky(crossed)
    if abs(both) > max(SURE_SIGMA * error, LEAST_SKY * noise):
        return True
    apart, error = of_sky(red_blue)
    sure = abs(apart) > max(SURE_SIGMA * error, LEAST_SKY * noise)
    return sure and abs(of_sky(greens)[0]) < GREENS_AGREE * abs(apart)


def _stars_differ(total: np.ndarray, crossed: np.ndarray, whole: np.ndarray) -> bool | None:
    """The same for the light of stars; None where there are too few."""
    excess = _blocks(total) - np.nanmedian(_blocks(total), axis=1)[:, None]
    noise = 1.4826 * float(np.nanmedian(np.abs(excess)))
    bright = (excess > BRIGHT_SIGMA * max(noise, 1.0)) & _blocks(whole)
    found = np.count_nonzero(bright, axis=1) >= STAR_CELLS
    if np.count_nonzero(found) < FEW_BLOCKS:
        return None
    bright = bright[found]
    share, error = _median((_blocks(crossed)[found] * bright).sum(axis=1) / (excess[found] * bright).sum(axis=1))
    if abs(share) > max(SURE_SIGMA * error, LEAST_STAR):
        return True
    return False if abs(share) + 2 * error < LEAST_STAR else None
