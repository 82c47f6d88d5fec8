"""The start of a stack: the frames of the warm-up combined at once, and the noise that they show about each other."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np

from livestack.kernels import robust_start as kernel
from livestack.kernels.bands import Bands
from livestack.kernels.sample_rows import HIGH, local_shape_tile
from livestack.registration.distortion import Distortion
from livestack.stacking.accumulators import Stack
from livestack.stacking.canvas import EDGE_POINTS
from livestack.stacking.laying import FrameRows, LaidFrame, ruler_on, surfaces_above, to_frame, upright
from livestack.stacking.noise_model import Limits, NoiseModel
from livestack.stacking.normalisation import Normalisation
from livestack.stacking.rejected_samples import Added, RejectedSamples
from livestack.stacking.starlight import REACH, Refused, take_back

TILE_ROWS, TILE_COLUMNS = 128, 1024
MIN_STRUCTURED = 100
LIKE_NOISE = 2.5
"""Ratio of the variances of the sky of frames that tell of each other's noise."""
STRUCTURE_QUANTILE = 0.75
"""Of the squared shares that pixels on stars show, the one that stands for all: more than the median, for no two
places on a star are alike."""


@dataclass(frozen=True, eq=False)
class WarmSample:
    """A frame of the warm-up: how to get at its pixels, and how it lies on the reference.

    Attributes
    ----------
    develop : (y0, y1, x0, x1) in frame pixels -> (C, y1 - y0, x1 - x0) float32 calibrated and debayered.
    shape : (height, width) of the frame.
    matrix, distortion : frame -> reference.
    """

    develop: Callable[[int, int, int, int], np.ndarray]
    shape: tuple[int, int]
    matrix: np.ndarray
    normalisation: Normalisation
    weight: float
    limits: Limits
    limits_median: Limits
    """Against the median of the warm-up, whose stars are not as wide as those of the mean."""
    distortion: Distortion | None = None


def start_robustly(stack: Stack, samples: Sequence[WarmSample], reject: bool, bands: Bands) -> list[Added]:
    """Replace whatever is here by the robust combination of the warm-up: median/MAD, then iterated clipping.

    Returns
    -------
    One `Added` for each sample, in order.
    """
    channels, height, width = stack.shape
    tiles = [
        (y, min(height, y + TILE_ROWS), x, min(width, x + TILE_COLUMNS))
        for y in range(0, height, TILE_ROWS)
        for x in range(0, width, TILE_COLUMNS)
    ]
    k = len(samples)
    f32 = np.float32
    weights = np.array([s.weight for s in samples], dtype=f32)
    excesses2 = np.array([s.limits.excess**2 for s in samples], dtype=f32)
    blurs = np.array([s.limits.blur for s in samples], dtype=f32)
    excesses_m = np.array([s.limits_median.excess**2 for s in samples], dtype=f32)
    blurs_m = np.array([s.limits_median.blur for s in samples], dtype=f32)
    structure2 = samples[0].limits.structure ** 2
    kappa, dof = samples[0].limits.kappa, samples[0].limits.prior_dof
    found: list[list[list[np.ndarray]]] = [[[] for _ in tiles] for _ in samples]
    seen = np.zeros((k, len(tiles)), dtype=np.int64)

    def part(first: int, last: int) -> None:
        for t in range(first, last):
            y0, y1, x0, x1 = tiles[t]
            # one pixel around, for the 3 x 3 range
            cube = _warp_tile(stack, samples, max(0, y0 - 1), min(height, y1 + 1), max(0, x0 - 1), min(width, x1 + 1))
            top, left = y0 - max(0, y0 - 1), x0 - max(0, x0 - 1)
            inner = np.s_[top : top + y1 - y0, left : left + x1 - x0]
            for c in range(channels):
                median = np.empty(cube.shape[2:], dtype=f32)
                mad = np.empty_like(median)
                spread = np.empty_like(median)
                curve = np.empty_like(median)
                kernel.median_and_mad(cube[:, c], median, mad)
                local_shape_tile(median, spread, curve)
                codes = np.empty((k, y1 - y0, x1 - x0), dtype=np.uint8)
                out = [np.s_[c, y0:y1, x0:x1]]
                kernel.combine_tile(
                    cube[:, c][(slice(None), *inner)], median[inner], mad[inner], spread[inner], curve[inner],
                    weights,
                    np.array([s.limits.floor[c] for s in samples], dtype=f32),
                    np.array([s.limits.slope[c] for s in samples], dtype=f32),
                    structure2, excesses2, blurs, excesses_m, blurs_m, kappa, dof, reject,
                    stack.mean[out[0]], stack.m2[out[0]], stack.weight[out[0]],
                    stack.count[out[0]], stack.low[out[0]], stack.high[out[0]], codes,
                )  # fmt: skip
                for i in range(k):
                    seen[i, t] += int(np.count_nonzero(np.isfinite(cube[i, c][inner])))
                    local = np.flatnonzero(codes[i])
                    if len(local):
                        rows, columns = np.divmod(local, x1 - x0)
                        flat = (c * height + y0 + rows) * width + x0 + columns
                        found[i][t].append(flat * 2 + (codes[i].ravel()[local] == HIGH))

    bands.run(part, len(tiles))
    stack.n_frames = k
    added = []
    for i in range(k):
        pieces = [piece for tile in found[i] for piece in tile]
        flat = np.sort(np.concatenate(pieces)) if pieces else np.empty(0, dtype=np.int64)
        if reject:
            flat = take_back(
                Refused(flat), partial(_around, stack, samples[i]), samples[i].weight, samples[i].limits, stack.planes,
                stack.planes, channels, one_by_one=True,
            )  # fmt: skip
        added.append(Added(int(seen[i].sum()), len(flat), RejectedSamples.pack(flat, stack.canvas)))
    return added


def fit_noise(stack: Stack, samples: Sequence[WarmSample], bands: Bands) -> NoiseModel | None:
    """Read noise and photon noise from the scatter of the warm-up frames on a tenth of the field.

    Only frames of much the same noise tell, as many as there are: short and long exposures differ by more than their
    number can even out. The floor of what is returned is a share of a frame's own (`limits.floor`), which includes the
    interpolation's smoothing; the slope is that of a frame of factor 1. None with fewer than four such frames.
    """
    samples = _of_like_noise(samples)
    if len(samples) < 4:
        return None
    channels, height, width = stack.shape
    side = 96
    field_height, field_width = stack.canvas.field
    rows = np.linspace(0, max(0, field_height - side), 5).astype(int) - stack.canvas.top
    columns = np.linspace(0, max(0, field_width - side), 7).astype(int) - stack.canvas.left
    spots = sorted({(int(y), int(x)) for y in rows for x in columns})
    pieces: list[list[tuple[np.ndarray, np.ndarray, np.ndarray]]] = [[] for _ in spots]
    blurs = np.array([s.limits_median.blur for s in samples], dtype=np.float32)[:, None, None]

    def part(first: int, last: int) -> None:
        for s in range(first, last):
            y, x = spots[s]
            cube = _warp_tile(stack, samples, y, min(height, y + side), x, min(width, x + side))
            whole = np.isfinite(cube).all(axis=(0, 1))
            # the edges know no Laplacian
            whole[[0, -1], :] = whole[:, [0, -1]] = False
            median, mad, spread, curve = (np.empty(cube.shape[2:], dtype=np.float32) for _ in range(4))
            for c in range(channels):
                kernel.median_and_mad(cube[:, c], median, mad)
                local_shape_tile(median, spread, curve)
                structured = spread >= 12 * np.median(mad[whole]) if whole.any() else ~whole
                bent = cube[:, c] - blurs * np.where(structured, curve, np.float32(0))
                kernel.median_and_mad(bent, np.empty_like(median), mad)
                pieces[s].append((median[whole], mad[whole], np.where(structured, spread, 0)[whole]))

    bands.run(part, len(spots))
    correction = 1.0 / _mad_bias(len(samples)) ** 2
    floor, slope = np.zeros(channels), np.zeros(channels)
    shares = []
    for c in range(channels):
        level, mad, spread = (np.concatenate([piece[c][i] for piece in pieces]) for i in range(3))
        variance = mad.astype(float) ** 2 * correction
        smooth = spread == 0
        usual = float(np.mean([s.limits.floor[c] for s in samples]))
        fitted = _fit_variance(level[smooth], variance[smooth], usual)
        if fitted is None:
            return None
        floor[c], slope[c] = fitted
        rough = ~smooth
        rest = variance[rough] - floor[c] - slope[c] * np.maximum(level[rough], 0)
        shares.append(rest / spread[rough].astype(float) ** 2)
    share = np.concatenate(shares)
    structure = (
        float(np.sqrt(max(0.0, np.quantile(share, STRUCTURE_QUANTILE)))) if len(share) >= MIN_STRUCTURED else None
    )
    floor /= np.maximum(np.mean([s.limits.floor for s in samples], axis=0), 1e-12)
    slope /= np.mean([s.normalisation.factor for s in samples], axis=0)
    return NoiseModel(floor, slope, structure)


def _of_like_noise(samples: Sequence[WarmSample]) -> list[WarmSample]:
    """As many as there are whose floors lie within LIKE_NOISE of each other; the quietest of as many."""
    floors = np.array([float(np.mean(s.limits.floor)) for s in samples])
    alike = [(floors >= least) & (floors <= LIKE_NOISE * least) for least in np.sort(floors)]
    best = max(alike, key=np.count_nonzero)
    return [sample for sample, is_one in zip(samples, best, strict=True) if is_one]


def _warp_tile(stack: Stack, samples: Sequence[WarmSample], y0: int, y1: int, x0: int, x1: int) -> np.ndarray:
    """(K, C, y1 - y0, x1 - x0): every sample frame on one tile of the grid, normalised; NaN = no data."""
    channels = stack.shape[0]
    cube = np.full((len(samples), channels, y1 - y0, x1 - x0), np.nan, dtype=np.float32)
    for i, sample in enumerate(samples):
        laid = _lay_tile(stack, sample, y0, y1, x0, x1)
        if laid is not None:
            for c in range(channels):
                kernel.normalised_tile(*laid.of_channel(c), y0, x0, cube[i, c])
    return cube


def _lay_tile(stack: Stack, sample: WarmSample, y0: int, y1: int, x0: int, x1: int) -> LaidFrame | None:
    """As much of a frame as a tile of the grid shows; None where it shows next to nothing of it."""
    inverse = to_frame(stack.canvas, sample.matrix, sample.distortion)
    steps = 2 if sample.distortion is None else EDGE_POINTS
    edges = np.meshgrid(np.linspace(x0, x1, steps), np.linspace(y0, y1, steps))
    places = np.stack([*(edge.ravel() for edge in edges), np.ones(steps**2)])
    x, y = inverse[:, :3] @ places
    if sample.distortion is not None:
        corner = np.array([stack.canvas.left, stack.canvas.top])
        x, y = np.stack([x, y]) + sample.distortion.shift(places[:2].T + corner).T
    height, width = sample.shape
    # even edges keep the mosaic's phase
    top, left = max(0, int(y.min()) - 4) & ~1, max(0, int(x.min()) - 4) & ~1
    bottom, right = min(height, int(y.max()) + 5), min(width, int(x.max()) + 5)
    if bottom - top < 4 or right - left < 4:
        return None
    crop = sample.develop(top, bottom, left, right)
    inverse[:, 2] -= left, top
    source, small = upright(crop, inverse)
    factor = np.asarray(sample.normalisation.factor, dtype=np.float32)
    surface = surfaces_above(sample.normalisation, stack.origin)
    return LaidFrame(source, small, factor, surface, ruler_on(stack.canvas, sample.normalisation), [])


def _around(stack: Stack, sample: WarmSample, channel: int, y: int, x: int) -> FrameRows:
    """What a frame shows of the surroundings of a star that it has refused samples of."""
    _, height, width = stack.shape
    laid = _lay_tile(
        stack, sample, max(0, y - REACH), min(height, y + REACH + 1), max(0, x - REACH), min(width, x + REACH + 1)
    )
    assert laid is not None, "samples were refused there"
    return laid.of_channel(channel)


def _mad_bias(n: int) -> float:
    """Expected 1.4826 MAD of n normal samples over sigma, a median over pixels (the mean: Croux & Rousseeuw 1992)."""
    rng = np.random.default_rng(20261120)
    draws = rng.standard_normal((4000, n))
    mad = 1.4826 * np.median(np.abs(draws - np.median(draws, axis=1, keepdims=True)), axis=1)
    return float(np.sqrt(np.median(mad**2)))


def _fit_variance(level: np.ndarray, variance: np.ndarray, usual: float) -> tuple[float, float] | None:
    """Robust line variance = floor + slope * level through medians in bins of level; slope >= 0.

    usual : the frames' own variance of the sky, which stands in where none can be seen: a sky clipped to one value.
    """
    if len(level) < 500:
        return None
    edges = np.unique(np.quantile(level, [0, 0.25, 0.5, 0.75, 0.9, 0.96, 0.985, 0.995, 1.0]))
    points = []
    for lo, hi in itertools.pairwise(edges):
        inside = (level >= lo) & (level <= hi)
        if inside.sum() >= 40:
            points.append((float(np.median(level[inside])), float(np.median(variance[inside])), int(inside.sum())))
    if not points:
        return None
    x, y, n = (np.array(column, dtype=float) for column in zip(*points, strict=True))
    y = np.where(y > 0, y, usual)
    if not (y > 0).all():
        return None
    x = np.maximum(x, 0.0)
    weights = np.sqrt(n) / y
    if len(points) >= 3 and np.ptp(x) > 0:
        design = np.column_stack([np.ones_like(x), x]) * weights[:, None]
        floor, slope = np.linalg.lstsq(design, y * weights, rcond=None)[0]
        if slope >= 0 and floor > 0:
            return float(floor), float(slope)
    return float(np.average(y, weights=weights)), 0.0
