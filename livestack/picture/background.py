"""The brightness of the sky as a smooth surface that passes under nebulae and galaxies.

The frame is cut into blocks, and each gives its sky: the clipped middle of its pixels. How a surface is found among
blocks that hold sky and blocks that hold objects is `skyfit`'s business. It leaves to others where a surface is
subtracted: data are only ever corrected in pictures or on request.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from livestack.kernels.render import fill_surface
from livestack.picture.families import MAX_DEGREE, MAX_ORDER
from livestack.picture.reduction import reduce_planes
from livestack.picture.skyfit import fit_sky

BLOCKS = 40
"""Blocks along the longer side."""
SAMPLES = 300_000
"""Data are averaged down to about so many pixels of each channel."""


@dataclass(frozen=True, eq=False)
class Surface:
    """A polynomial for each channel over the whole frame.

    Attributes
    ----------
    coefficients : (C, MAX_DEGREE + 1, MAX_DEGREE + 1) float64, ADU; [c, p, q] belongs to u^p v^q, with u and v running
        from -1 to 1 between the outer edges of the frame along x and y.
    """

    coefficients: np.ndarray

    @classmethod
    def constant(cls, levels: np.ndarray) -> Surface:
        """The flat sky of these levels, (C,) in ADU."""
        coefficients = np.zeros((len(levels), MAX_DEGREE + 1, MAX_DEGREE + 1))
        coefficients[:, 0, 0] = levels
        return cls(coefficients)

    def evaluate(self, height: int, width: int) -> np.ndarray:
        """Return the surface at the pixel centres of a frame (or of its reduced copy), (C, height, width) float32."""
        out = np.empty((len(self.coefficients), height, width), np.float32)
        for plane, coefficients in zip(out, self.coefficients, strict=True):
            fill_surface(coefficients, 1 / width - 1, 2 / width, 1 / height - 1, 2 / height, plane, 0, height)
        return out

    def raised(self, levels: np.ndarray) -> Surface:
        """The same shape, `levels` (C,) ADU higher."""
        coefficients = self.coefficients.copy()
        coefficients[:, 0, 0] += levels
        return Surface(coefficients)

    def blended(self, other: Surface, share: float) -> Surface:
        """This surface with `share` (0..1) of the other."""
        return Surface((1 - share) * self.coefficients + share * other.coefficients)


def measure_sky(values: np.ndarray, rounds: int = 6) -> tuple[float, float]:
    """Level and noise of the sky among `values` that also hold objects.

    Median with repeated clipping at 3 sigma, where sigma is taken from the side below the median, on which there are no
    objects. Returns (level, sigma), both in the unit of `values`; (0, 0) when no value is finite.
    """
    kept = np.sort(values[np.isfinite(values)].astype(np.float32, copy=False), axis=None)
    if not kept.size:
        return 0.0, 0.0
    level, sigma = 0.0, 0.0
    for _ in range(rounds):
        level = float(0.5 * (kept[kept.size // 2] + kept[(kept.size - 1) // 2]))
        n_below = int(np.searchsorted(kept, level))
        below = level - kept[:n_below].astype(np.float64)
        spread = float(np.sqrt(np.mean(below**2))) if n_below else 0.0
        if (
            np.diff(np.searchsorted(kept, (level - 0.1 * spread, np.nextafter(level + 0.1 * spread, np.inf))))[0]
            > 0.3 * kept.size
        ):
            # Few steps of a converter (8-bit pictures): medians see the steps, means see between them.
            reach = 3 * max(spread, 1e-9)
            near = kept[np.searchsorted(kept, level - reach) : np.searchsorted(kept, level + reach, "right")]
            level, sigma = float(near.mean(dtype=np.float64)), float(near.std(dtype=np.float64))
        else:
            sigma = 1.4826 * float(np.median(below)) if n_below else 0.0
        inside = slice(np.searchsorted(kept, level - 3 * sigma), np.searchsorted(kept, level + 3 * sigma, "right"))
        if kept[inside].size == kept.size or not sigma:
            break
        kept = kept[inside]
    return level, sigma


def fit_background(linear: np.ndarray, order: int = MAX_ORDER, mask: np.ndarray | None = None) -> Surface:
    """Fit the sky under the objects.

    Parameters
    ----------
    linear : (C, H, W) float32, NaN = no data.
    order : highest that may be taken: 0 a level, 1 a plane, 2 curved, 3 a vignetted plane, 4 light that rises toward
        the borders too; no higher one is taken than explains what is there (see `skyfit`).
    mask : (H, W) bool, True = do not use, for instance a known object.

    Returns
    -------
    The surface; flat where there are too few blocks with data for anything else.

    Raises
    ------
    ValueError : `linear` has another shape, or `order` is out of range.
    """
    if linear.ndim != 3:
        raise ValueError(f"linear: expected shape (C, H, W), found {linear.shape}; use linear[None] for one plane.")
    if not 0 <= order <= MAX_ORDER:
        raise ValueError(f"order: found {order}, expected 0 to {MAX_ORDER}.")
    _, height, width = linear.shape
    if mask is not None:
        linear = np.where(mask, np.float32(np.nan), linear)
    # Averaged, not picked: the less noise in the blocks, the fainter the wings that are told from the sky.
    side = max(1, round(max(height, width) * min(1.0, (SAMPLES / (height * width)) ** 0.5)))
    sample, scale = reduce_planes(linear, side)
    levels, x, y = _block_levels(sample)
    u, v = np.meshgrid(2 * scale / width * x - 1, 2 * scale / height * y - 1)
    return Surface(fit_sky(levels, u, v, height / width, order))


def remove_gradient(
    linear: np.ndarray, order: int = MAX_ORDER, mask: np.ndarray | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Take the gradient out and leave the mean level of the sky in.

    Parameters are those of `fit_background`. Returns (corrected, surface), both (C, H, W) float32 in ADU; what was
    subtracted is `surface` less its mean over the pixels with data.
    """
    surface = fit_background(linear, order, mask).evaluate(*linear.shape[1:])
    corrected = linear - surface
    for plane, data, model in zip(corrected, linear, surface, strict=True):
        seen = np.isfinite(data)
        if seen.any():
            plane += np.float32(model[seen].mean(dtype=np.float64))
    return corrected, surface


def _block_levels(sample: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The clipped middle (C, rows, columns) of square blocks, NaN where under half has data; and where the middles of
    their columns and rows lie, in pixels from the edge."""
    channels, height, width = sample.shape
    size = max(4, -(-max(height, width) // BLOCKS))
    rows, columns = max(1, height // size), max(1, width // size)
    size_y, size_x = height // rows, width // columns
    levels = np.full((channels, rows, columns), np.nan)
    for channel in range(channels):
        cut = sample[channel, : rows * size_y, : columns * size_x]
        blocks = cut.reshape(rows, size_y, columns, size_x).swapaxes(1, 2).reshape(rows * columns, -1)
        ordered = np.sort(blocks, axis=1)
        count = np.isfinite(ordered).sum(axis=1)
        median = _quantile(ordered, count, 0.5)
        # The lower half of a block is sky even where stars crowd the upper one.
        below = median - _quantile(ordered, count, 0.25)
        coarse = float(np.mean(below == 0)) > 0.1
        if coarse:
            short = np.where(ordered < median[:, None], median[:, None] - ordered, 0)
            spread = np.sqrt((short**2).sum(axis=1) / np.maximum((short > 0).sum(axis=1), 1))
        else:
            spread = 1.4826 * below
        clipped = (ordered <= (median + 3 * spread)[:, None]).sum(axis=1)
        middle = _middle_mean(ordered, clipped, 0 if coarse else 4)
        levels[channel] = np.where(count * 2 >= blocks.shape[1], middle, np.nan).reshape(rows, columns)
    return levels, (np.arange(columns) + 0.5) * size_x, (np.arange(rows) + 0.5) * size_y


def _quantile(ordered: np.ndarray, count: np.ndarray, share: float) -> np.ndarray:
    """The `share` quantile of the first `count` values of each row, which are in rising order."""
    position = np.maximum(count - 1, 0) * share
    low = position.astype(np.intp)
    high = np.minimum(low + 1, np.maximum(count - 1, 0))
    rows = np.arange(len(ordered))
    rest = position - low
    return ordered[rows, low] * (1 - rest) + ordered[rows, high] * rest


def _middle_mean(ordered: np.ndarray, count: np.ndarray, part: int) -> np.ndarray:
    """Mean of the first `count` values of each row, without one `part`-th at either end (0: with both).

    The mean of the middle half is less noisy than the median. 8-bit pictures, in which half of a block is often one
    number, need the mean of all: it alone sees between their steps.
    """
    first = count // part if part else np.zeros_like(count)
    last = count - first
    starts = np.arange(len(ordered)) * ordered.shape[1]
    edges = np.stack([starts + first, starts + last], axis=1).ravel()
    total = np.add.reduceat(np.append(ordered, np.float32(0)), edges, dtype=np.float64)[::2]
    return total / np.maximum(last - first, 1)
