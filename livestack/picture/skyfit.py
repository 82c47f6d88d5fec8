"""A smooth surface through the sky among objects that may fill half of the field: how it is found.

The sky is a plane; curved, if it must be (vignetting, a flat field that is not quite right); the product of the two;
and light that rises ever more steeply toward a border or a corner (a town, the Moon, an amplifier's glow). What is
brighter than that is an object. Nothing beyond the parabola can make a hump inside the field: the powers of the
distance from the opposite border have factors >= 0.

* **Start**: at each order, least trimmed squares over the best-fitting fifth of the blocks (Rousseeuw & Van Driessen
  2006, doi:10.1007/s10618-005-0024-4), from two regression quantiles (Koenker & Bassett 1978, doi:10.2307/1913643).
* **Objects** are seeds that stand out clearly, grown down to their faint wings, as long as the blocks around are
  above 0.4 sigma on average (hysteresis); the sky is fitted again without them, until nothing changes.
* **Order**: a higher one is taken only if it *explains* what the lower one left: where it adds most, next to nothing
  may remain. A gradient passes; a nebula, which no such surface fits, does not, however much the sum of squares falls.

Channels are judged together, and what is an object in one of them is left out in all; each gets its own surface.
Blocks and their levels come from `background`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import cv2
import numpy as np
from scipy.special import ndtri

from livestack.picture.families import CURVED, MAX_DEGREE, VIGNETTED, Family, families_at

COVERED = 0.2
"""Share of the blocks that a start must fit: the rest may be objects."""
QUANTILES = (0.1, 0.45)
LEFT_OVER = 0.15
"""Of what a higher order adds, the most that may remain unexplained."""


@dataclass(frozen=True, eq=False)
class _Blocks:
    """Where the blocks with data lie on their grid.

    Attributes
    ----------
    seen : (rows, columns) True where there is data.
    near : for each side of a box, the share of it that has data, (rows, columns).
    """

    seen: np.ndarray
    near: dict[int, np.ndarray]

    def at_border(self, block: int) -> bool:
        """True when the block (a number among those with data) is one of the two outermost rows or columns."""
        row, column = np.argwhere(self.seen)[block]
        rows, columns = self.seen.shape
        return bool(min(row, rows - 1 - row, column, columns - 1 - column) < 2)

    @staticmethod
    def of(seen: np.ndarray) -> _Blocks:
        known = seen.astype(np.float32)
        return _Blocks(seen, {side: np.maximum(_box(known, side), 1e-6) for side in (3, 5)})

    def smooth(self, values: np.ndarray, side: int) -> np.ndarray:
        """Mean over a box of `side` x `side` blocks around each, of those with data, (blocks,)."""
        grid = np.zeros(self.seen.shape, np.float32)
        grid[self.seen] = values
        return (_box(grid, side) / self.near[side])[self.seen]

    def objects(self, residual: np.ndarray, sigma: float) -> np.ndarray:
        """(blocks,) True for what stands above the sky, with its wings."""
        seeds = (self.smooth(residual, 3) > 1.5 * sigma) | (residual > 4 * sigma)
        wide = np.zeros(self.seen.shape, np.uint8)
        wide[self.seen] = seeds | (self.smooth(residual, 5) > 0.4 * sigma)
        _, pieces = cv2.connectedComponents(wide, connectivity=4)
        inside = pieces[self.seen]
        grown = np.zeros(pieces.max() + 1, bool)
        grown[inside[seeds]] = True
        return grown[inside]


def fit_sky(levels: np.ndarray, u: np.ndarray, v: np.ndarray, aspect: float, order: int) -> np.ndarray:
    """Fit the sky under the objects.

    Parameters
    ----------
    levels : (C, rows, columns) float64, of blocks; NaN = no data.
    u, v : (rows, columns) where the blocks lie, -1 .. 1.
    aspect : height over width of the field.
    order : highest that may be taken, 0 to `MAX_ORDER`.

    Returns
    -------
    (C, MAX_DEGREE + 1, MAX_DEGREE + 1) float64, the coefficient of u^p v^q at [c, p, q].
    """
    out = np.zeros((len(levels), MAX_DEGREE + 1, MAX_DEGREE + 1))
    known = np.isfinite(levels).any(axis=(1, 2))
    for channel in np.flatnonzero(known):
        out[channel, 0, 0] = np.nanmedian(levels[channel])
    seen = np.isfinite(levels[known]).all(axis=0)
    if not known.any() or not seen.any() or order == 0:
        return out
    noise = np.array([_block_noise(grid) for grid in levels[known]])
    scale = np.maximum(noise, 0.1 * np.median(noise))
    flat = levels[known][:, seen] / scale[:, None]
    flat -= np.median(flat, axis=1)[:, None]
    grid = np.full(seen.shape, np.nan)
    grid[seen] = flat.sum(axis=0) / math.sqrt(len(flat))
    blocks = _Blocks.of(seen)
    chosen = _choose(grid, blocks, families_at(u[seen], v[seen], aspect)[:order])
    if chosen is None:
        return out
    family, objects = chosen
    for channel, level, sigma in zip(np.flatnonzero(known), levels[known][:, seen], noise, strict=True):
        factors = _settle(level, family, blocks, objects, sigma)
        out[channel] = np.tensordot(factors, family.coefficients, axes=1)
    return out


def _choose(grid: np.ndarray, blocks: _Blocks, families: list[Family]) -> tuple[Family, np.ndarray] | None:
    """The lowest family that leaves nothing a higher one explains, and the objects above it; None: too few blocks."""
    levels = grid[blocks.seen]
    noise = _block_noise(grid)
    fits: list[np.ndarray] = []
    objects: list[np.ndarray] = []
    best = -1
    for number, family in enumerate(families):
        covered = max(round(COVERED * levels.size), 4 * family.n_terms)
        if covered > levels.size:
            break
        fitted, above = _fit_among_objects(levels, blocks, family, covered, noise, fits[-1:])
        fits.append(fitted)
        objects.append(above)
        if number <= CURVED:
            taken = number == 0 or _explains(levels, blocks, fits[best], fitted, noise)
        elif number == VIGNETTED:
            # It has no humps, so it need not explain the very corners, where an object may be: it is enough that what
            # were objects to the parabola turn out to be sky.
            taken = best == CURVED and bool(above.mean() < objects[CURVED].mean() - 0.06)
            taken = taken or _explains(levels, blocks, fits[best], fitted, noise)
        else:
            # Light from the borders must be strongest there, and must do better than all without it; where it does not,
            # that may do as well.
            added = fitted - fits[best]
            taken = blocks.at_border(int(np.argmax(np.abs(added - np.median(added))))) and _explains(
                levels, blocks, fits[best], fitted, noise
            )
            if taken and not _explains(levels, blocks, fits[VIGNETTED], fitted, noise):
                taken = False
                if _explains(levels, blocks, fits[best], fits[VIGNETTED], noise, fitted):
                    best = VIGNETTED
        if taken:
            best = number
    return (families[best], objects[best]) if fits else None


def _fit_among_objects(
    levels: np.ndarray, blocks: _Blocks, family: Family, covered: int, noise: float, starts: list[np.ndarray]
) -> tuple[np.ndarray, np.ndarray]:
    """The surface at the blocks, and which of them are objects."""
    tried = [_trimmed(levels, family, start, covered) for start in (*_quantile_fits(levels, family), *starts)]
    rms, fitted = min(tried, key=lambda pair: pair[0])
    # The rms of the middle share of a normal distribution, whose limits are at +- edge.
    share = covered / levels.size
    edge = float(ndtri(0.5 + 0.5 * min(share, 0.999)))
    inner = math.sqrt(max(1 - 2 * edge * math.exp(-0.5 * edge**2) / math.sqrt(2 * math.pi) / share, 1e-6))
    sigma = max(rms / inner, 0.8 * noise)
    above = np.zeros(levels.size, bool)
    for _ in range(10):
        residual = levels - fitted
        above = blocks.objects(residual, sigma)
        again = family.fit(levels, _weights(residual, above, sigma))
        change = float(np.abs(again - fitted).max())
        fitted = again
        if change < 0.05 * sigma:
            break
    return fitted, above


def _settle(
    levels: np.ndarray, family: Family, blocks: _Blocks, objects: np.ndarray, noise: float
) -> np.ndarray:  # fmt: skip
    """Factors of one channel's surface: without the objects of all channels, and those that only it shows."""
    above = objects
    factors = family.solve(levels, np.where(objects, 1e-3, 1.0))
    for _ in range(10):
        residual = levels - family.at_blocks(factors)
        sky = ~above
        sigma = max(1.4826 * float(np.median(np.abs(residual[sky]))) if sky.any() else 0.0, 0.8 * noise)
        above = objects | blocks.objects(residual, sigma)
        again = family.solve(levels, _weights(residual, above, sigma))
        change = float(np.abs(family.at_blocks(again - factors)).max())
        factors = again
        if change < 0.05 * sigma:
            break
    return factors


def _weights(residual: np.ndarray, above: np.ndarray, sigma: float) -> np.ndarray:
    """Sky counts; holes do not; objects count next to nothing: enough to hold a border where there is no sky at all."""
    faint = 0.1 / (1 + (residual / sigma) ** 2)
    return np.where(above | (residual < -5 * sigma), faint, 1.0)


def _explains(
    levels: np.ndarray, blocks: _Blocks, lower: np.ndarray, higher: np.ndarray, noise: float,
    guide: np.ndarray | None = None,
) -> bool:  # fmt: skip
    """True when next to nothing remains where the higher order (or a `guide`) adds most to the lower one."""
    added = (higher if guide is None else guide) - lower
    added = np.abs(added - np.median(added))
    there = added > 0.3 * added.max()
    if not there.any():
        return False
    # A little below the median: part of the place may be an object after all.
    before, after = (
        float(np.quantile(np.abs(blocks.smooth(levels - fitted, 3))[there], 0.4)) for fitted in (lower, higher)
    )
    allowed = 0.4 * noise
    return before > 4 * allowed and after < LEFT_OVER * before + allowed


def _trimmed(levels: np.ndarray, family: Family, fitted: np.ndarray, covered: int) -> tuple[float, np.ndarray]:
    """Least trimmed squares from a start: rms of the `covered` best blocks, and the surface at all of them."""
    last = math.inf
    for _ in range(20):
        best = np.argpartition(np.abs(levels - fitted), covered - 1)[:covered]
        weights = np.zeros(levels.size)
        weights[best] = 1
        fitted = family.fit(levels, weights)
        rms = float(np.sqrt(np.mean((levels[best] - fitted[best]) ** 2)))
        if rms > 0.98 * last:
            break
        last = rms
    return rms, fitted


def _quantile_fits(levels: np.ndarray, family: Family) -> list[np.ndarray]:
    """Surfaces with a tenth and with nearly half of the blocks below them, by reweighting; (blocks,) each."""
    fits = []
    least = max(1e-3 * float(np.ptp(levels)), 1e-12)
    for share in QUANTILES:
        fitted = np.full(levels.shape, np.quantile(levels, share))
        for _ in range(6):
            residual = levels - fitted
            weights = np.where(residual > 0, share, 1 - share) / np.maximum(np.abs(residual), least)
            fitted = family.fit(levels, weights / weights.max())
        fits.append(fitted)
    return fits


def _block_noise(grid: np.ndarray) -> float:
    """Sigma of the blocks' levels, from what sets each apart from its four neighbours; never nought."""
    around = grid[:-2, 1:-1] + grid[2:, 1:-1] + grid[1:-1, :-2] + grid[1:-1, 2:]
    apart = grid[1:-1, 1:-1] - 0.25 * around
    apart = np.abs(apart[np.isfinite(apart)])
    sigma = 1.4826 * float(np.median(apart)) / math.sqrt(1.25) if apart.size else 0.0
    return max(sigma, 1e-6 * float(np.nanmax(np.abs(grid))), 1e-12)


def _box(grid: np.ndarray, side: int) -> np.ndarray:
    """Mean over side x side; the border is continued."""
    return cv2.blur(grid, (side, side), borderType=cv2.BORDER_REPLICATE)
