"""The brightness of the sky as a smooth surface that passes under nebulae and galaxies.

Method: the frame is cut into blocks; each block gives its clipped median. A low-order polynomial is fitted to these,
beginning with a plane, by least squares with asymmetric clipping: whatever stands above the surface is an object (and
so are its neighbours), whatever lies on or below it is sky. The order rises one by one, and only while the robust
scatter of the remaining blocks falls noticeably, so that an empty frame gets a plane and no frame gets waves. The idea
of fitting a clipped polynomial to block estimates is that of IRAF `imsurfit` and Siril's background extraction.

It leaves to others where a surface is subtracted: data are only ever corrected in pictures or on request.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.ndimage import binary_dilation

from livestack.kernels.render import fill_surface

BLOCKS = 40
"""Blocks along the longer side."""
MAX_DEGREE = 4
"""Coefficient arrays are (MAX_DEGREE + 1, MAX_DEGREE + 1) whatever the degree, so that surfaces can be blended."""
SAMPLES = 300_000
"""About so many pixels of each channel are looked at."""


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
    kept = values[np.isfinite(values)].astype(np.float32, copy=False)
    if not kept.size:
        return 0.0, 0.0
    level, sigma = 0.0, 0.0
    for _ in range(rounds):
        level = float(np.median(kept))
        below = level - kept[kept < level]
        coarse = 1 - 2 * below.size / kept.size
        if coarse > 0.05:
            # Few steps of a converter (8-bit pictures): medians see the steps, means see between them.
            near = kept[np.abs(kept - level) <= 3 * max(float(np.sqrt(np.mean(below**2))) if below.size else 0.0, 1e-9)]
            level, sigma = float(near.mean(dtype=np.float64)), float(near.std(dtype=np.float64))
        else:
            sigma = 1.4826 * float(np.median(below))
        inside = np.abs(kept - level) <= 3 * sigma
        if inside.all() or not sigma:
            break
        kept = kept[inside]
    return level, sigma


def fit_background(linear: np.ndarray, degree: int = 4, mask: np.ndarray | None = None) -> Surface:
    """Fit the sky under the objects.

    Parameters
    ----------
    linear : (C, H, W) float32, NaN = no data.
    degree : highest total degree of the polynomial, 0 to 4; fewer are taken when more do not help.
    mask : (H, W) bool, True = do not use, for instance a known object.

    Returns
    -------
    The surface; flat where there are too few blocks with data for anything else.

    Raises
    ------
    ValueError : `linear` has another shape, or `degree` is out of range.
    """
    if linear.ndim != 3:
        raise ValueError(f"linear: expected shape (C, H, W), found {linear.shape}; use linear[None] for one plane.")
    if not 0 <= degree <= MAX_DEGREE:
        raise ValueError(f"degree: found {degree}, expected 0 to {MAX_DEGREE}.")
    _, height, width = linear.shape
    stride = max(1, round((height * width / SAMPLES) ** 0.5))
    sample = linear[:, ::stride, ::stride]
    if mask is not None:
        sample = np.where(mask[::stride, ::stride], np.float32(np.nan), sample)
    levels, u, v = _block_levels(sample)
    coefficients = np.zeros((len(linear), MAX_DEGREE + 1, MAX_DEGREE + 1))
    for channel, grid in enumerate(levels):
        coefficients[channel] = _fit_plane(grid, u, v, degree)
    return Surface(coefficients)


def remove_gradient(
    linear: np.ndarray, degree: int = 4, mask: np.ndarray | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Take the gradient out and leave the mean level of the sky in.

    Parameters are those of `fit_background`. Returns (corrected, surface), both (C, H, W) float32 in ADU; what was
    subtracted is `surface` less its mean over the pixels with data.
    """
    surface = fit_background(linear, degree, mask).evaluate(*linear.shape[1:])
    corrected = linear - surface
    for plane, data, model in zip(corrected, linear, surface, strict=True):
        seen = np.isfinite(data)
        if seen.any():
            plane += np.float32(model[seen].mean(dtype=np.float64))
    return corrected, surface


def _block_levels(sample: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Clipped medians (C, rows, columns) of square blocks, NaN where under half has data; and the blocks' u, v."""
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
        spread = 1.4826 * (median - _quantile(ordered, count, 0.25))
        clipped = (ordered <= (median + 3 * spread)[:, None]).sum(axis=1)
        levels[channel] = np.where(count * 2 >= blocks.shape[1], _quantile(ordered, clipped, 0.5), np.nan).reshape(
            rows, columns
        )
    u = (np.arange(columns) + 0.5) * 2 * size_x / width - 1
    v = (np.arange(rows) + 0.5) * 2 * size_y / height - 1
    return levels, *np.meshgrid(u, v)


def _quantile(ordered: np.ndarray, count: np.ndarray, share: float) -> np.ndarray:
    """The `share` quantile of the first `count` values of each row, which are in rising order."""
    position = np.maximum(count - 1, 0) * share
    low = position.astype(np.intp)
    high = np.minimum(low + 1, np.maximum(count - 1, 0))
    rows = np.arange(len(ordered))
    rest = position - low
    return ordered[rows, low] * (1 - rest) + ordered[rows, high] * rest


def _fit_plane(grid: np.ndarray, u: np.ndarray, v: np.ndarray, degree: int) -> np.ndarray:
    """Coefficients (MAX_DEGREE + 1, MAX_DEGREE + 1) of one channel's surface through the sky among its blocks."""
    best = np.zeros((MAX_DEGREE + 1, MAX_DEGREE + 1))
    seen = np.isfinite(grid)
    if not seen.any():
        return best
    best[0, 0], scatter = measure_sky(grid)
    sky = seen
    for order in range(1, degree + 1):
        powers = [(p, q) for p in range(order + 1) for q in range(order + 1 - p)]
        terms = np.stack([u**p * v**q for p, q in powers])
        if seen.sum() < 4 * len(powers):
            break
        start = seen if order == 1 else sky
        solution, kept, spread = _fit_clipped(grid, terms, start, seen)
        grown = solution is not None and kept.sum() > 1.01 * sky.sum() and spread < 1.02 * scatter
        if solution is None or (order > 1 and spread > 0.93 * scatter and not grown):
            break
        best = np.zeros_like(best)
        for (p, q), value in zip(powers, solution, strict=True):
            best[p, q] = value
        sky, scatter = kept, spread
    return best


def _fit_clipped(
    grid: np.ndarray, terms: np.ndarray, start: np.ndarray, seen: np.ndarray
) -> tuple[np.ndarray | None, np.ndarray, float]:
    """Least squares with asymmetric clipping: (solution, blocks taken for sky, robust scatter); None if too few."""
    sky = start
    solution: np.ndarray | None = None
    spread = 0.0
    for _ in range(12):
        if sky.sum() < 2 * len(terms):
            return None, sky, spread
        solution = np.linalg.lstsq(terms[:, sky].T, grid[sky], rcond=None)[0]
        residual = grid - np.tensordot(solution, terms, axes=1)
        inside = residual[sky]
        below = -inside[inside < 0]
        spread = 1.4826 * float(np.median(below)) if below.size else 0.0
        spread = max(spread, 1e-6 * float(np.abs(solution[0])), 1e-12)
        objects = seen & (residual > 2.0 * spread)
        # Single noisy blocks are no objects; the neighbours of extended ones hold their faint outskirts.
        extended = binary_dilation(objects & (residual > 3.5 * spread), iterations=1)
        kept = seen & ~objects & ~extended & (residual > -5.0 * spread)
        if (kept == sky).all():
            break
        sky = kept
    return solution, sky, spread
