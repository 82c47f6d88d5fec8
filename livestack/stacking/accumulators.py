"""The stack: per pixel and channel a weighted mean, a sum of squares and counts, fed one frame at a time.

Rejection is by *prediction limit with a moderated variance*: a sample x is refused when

    |x - mean - t L| > kappa sqrt(s^2 (1 + 1/n) + (e R)^2 + 0.1 (t L)^2),   s^2 = (d0 s0^2 + M2/c) / (d0 + n - 1)

s0^2 = a + b max(mean, 0) + (g R)^2 is a noise model (read noise, photon noise, structure) worth d0 samples, so that a
pixel with few samples is not judged by its own poor variance (Smyth 2004, doi:10.2202/1544-6115.1027, for the
shrinkage); c is the variance that clipping leaves; R the 3 x 3 range of the mean, so that residual registration error
around stars is no outlier (as HST's driz_cr). L is the mean's Laplacian: a frame whose stars are wider is expected to
be the mean plus t L; what its width explains is no outlier either, and a trail through a star still is. g is fitted
in the warm-up; e is what sets this frame apart beyond all that. The first frames are combined at once, from median
and MAD (`start_robustly`), so that an artefact in frame 1 leaves nothing behind. Where most samples of a pixel are
refused the limit opens: it cannot latch.

(n, mean, M2) are stored, never the variance: stacks merge exactly (Chan et al. 1979; West 1979,
doi:10.1145/359146.359153). Values are relative to `origin` (the reference's sky), so float32 stays accurate. Which
frames come here, and on what scale, is `engine.pipeline`'s business.
"""

from __future__ import annotations

import itertools
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from livestack.kernels import stack as kernel
from livestack.kernels.bands import Bands
from livestack.registration.distortion import TERMS, Distortion
from livestack.stacking.canvas import EDGE_POINTS, Canvas, footprint

STRIP_ROWS = 64
TILE_ROWS, TILE_COLUMNS = 128, 1024
MIN_STRUCTURED = 100
STRUCTURE_QUANTILE = 0.75
"""Of the squared shares that pixels on stars show, the one that stands for all: more than the median, for no two
places on a star are alike."""


@dataclass(frozen=True, eq=False)
class Normalisation:
    """Brings a frame onto the reference's scale: value = factor * sample + surface(x, y).

    Attributes
    ----------
    factor : (C,) brightness factor.
    surface : (C, 10) float64 coefficients of 1, u, v, u^2, uv, v^2, u^3, u^2 v, u v^2, v^3, with u and v running from
        -1 to 1 over the reference; ADU.
    reach : least and largest u, least and largest v up to which the surface is known; farther out it keeps its value.
    """

    factor: np.ndarray
    surface: np.ndarray
    reach: tuple[float, float, float, float] = (-1.0, 1.0, -1.0, 1.0)

    @staticmethod
    def identity(channels: int) -> Normalisation:
        """Leaves everything as it is."""
        return Normalisation(np.ones(channels), np.zeros((channels, 10)))


@dataclass(frozen=True, eq=False)
class NoiseModel:
    """Variance of one sample of the reference: floor + slope * max(mean above sky, 0) + (structure * local range)^2.

    Attributes
    ----------
    floor, slope : (C,) ADU^2 and ADU.
    structure : share of the 3 x 3 range, left by registration, interpolation and shape when seeing is allowed for; None
        where too few stars tell.
    """

    floor: np.ndarray
    slope: np.ndarray
    structure: float | None = None


@dataclass(frozen=True, eq=False)
class Limits:
    """What a frame's samples are tested with: the noise model on this frame's scale, and allowances around stars.

    Attributes
    ----------
    floor, slope, structure : noise model, see there.
    excess : share of the 3 x 3 range by which this frame may be out beyond that.
    blur : how much wider this frame's stars are than the stack's: its samples are expected at the mean plus blur times
        the mean's Laplacian (px^2; for small changes half the difference of sigma^2).
    """

    floor: np.ndarray
    slope: np.ndarray
    structure: float
    excess: float
    blur: float
    kappa: float
    prior_dof: float


@dataclass(frozen=True, eq=False)
class RejectedSamples:
    """Which samples of one frame were refused, compressed: flat index * 2 + (1 if it was too high), sorted.

    Attributes
    ----------
    canvas : whose flat indices these are; None where nobody asks.
    """

    packed: bytes
    n: int
    canvas: Canvas | None = None

    @staticmethod
    def pack(entries: np.ndarray, canvas: Canvas | None = None) -> RejectedSamples:
        """From (n,) sorted int64 entries."""
        steps = np.diff(entries, prepend=np.int64(0))
        narrow = steps.astype(np.uint32) if len(steps) == 0 or steps.max() < 2**32 else steps
        return RejectedSamples(
            zlib.compress(narrow.tobytes(), 1)
            if narrow.dtype == np.uint32
            else b"w" + zlib.compress(narrow.tobytes(), 1),
            len(entries),
            canvas,
        )

    def unpack(self) -> np.ndarray:
        """(n,) sorted int64 entries."""
        wide = self.packed[:1] == b"w"
        raw = zlib.decompress(self.packed[1:] if wide else self.packed)
        return np.cumsum(np.frombuffer(raw, dtype=np.int64 if wide else np.uint32).astype(np.int64))

    def unpack_on(self, canvas: Canvas) -> np.ndarray:
        """The same on a canvas that has grown since."""
        entries = self.unpack()
        if self.canvas is None or self.canvas == canvas:
            return entries
        return self.canvas.carry(entries >> 1, canvas) * 2 + (entries & 1)


@dataclass(frozen=True, eq=False)
class Added:
    """What became of a frame's samples."""

    n_samples: int
    n_rejected: int
    rejected: RejectedSamples

    @property
    def rejected_fraction(self) -> float:
        """Share of the samples that were refused."""
        return self.n_rejected / self.n_samples if self.n_samples else 0.0


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


def upright(source: np.ndarray, inverse: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Turn a frame by a multiple of 90 degrees so that its rows run with the reference's, for `sample_row`.

    Parameters
    ----------
    source : (C, h, w) float32.
    inverse : (3, 3) or (2, 3) reference -> frame; or (2, 18), with a distortion (`Distortion.lines`).

    Returns
    -------
    source, inverse : turned alike, source C-contiguous, inverse (2, n), inverse[0, 0] > 0, the largest in its column.
    """
    inverse = np.array(inverse[:2], order="C")
    places = inverse[:, : 3 + TERMS]  # columns that speak of the frame; those behind speak of the reference
    if abs(inverse[1, 0]) > abs(inverse[0, 0]):
        # swap the axes: (x, y) -> (y, x)
        source = source.transpose(0, 2, 1)
        places[:] = places[::-1].copy()
    if inverse[0, 0] < 0:
        source = source[:, :, ::-1]
        places[0] *= -1
        places[0, 2] += source.shape[2] - 1
    return np.ascontiguousarray(source, dtype=np.float32), inverse


@dataclass(frozen=True, eq=False)
class _Laid:
    """A frame laid onto a stack, as the kernels want it.

    Attributes
    ----------
    source, inverse : see `upright`; factor : (C,) float32; surface : (C, 10) relative to the stack's origin.
    ruler : see `kernels.stack.offset_row`; strips : first and last row (excluded) of those that the frame touches.
    """

    source: np.ndarray
    inverse: np.ndarray
    factor: np.ndarray
    surface: np.ndarray
    ruler: np.ndarray
    strips: list[tuple[int, int]]


Visit = Callable[[int, int, int, np.ndarray], tuple[int, int]]
"""(channel, first row, last row, codes to fill) -> (samples with data, samples rejected)."""


class Stack:
    """Running accumulators on the reference's grid.

    Parameters
    ----------
    channels, height, width : of the reference.
    origin : (C,) ADU, the reference's sky; accumulators hold values minus this.
    canvas : where the stack's pixels lie; default on the reference itself.

    Attributes
    ----------
    mean, m2, weight : (C, H, W) float32, relative to `origin`; valid where weight > 0.
    count, low, high : (C, H, W) uint16, accepted, rejected as too low, rejected as too high.
    """

    def __init__(
        self, channels: int, height: int, width: int, origin: np.ndarray | None = None, canvas: Canvas | None = None
    ) -> None:
        self.canvas = canvas or Canvas.of(height, width)
        shape = (channels, self.canvas.height, self.canvas.width)
        self.origin = np.zeros(channels) if origin is None else np.asarray(origin, dtype=float).copy()
        self.mean = np.zeros(shape, dtype=np.float32)
        self.m2 = np.zeros(shape, dtype=np.float32)
        self.weight = np.zeros(shape, dtype=np.float32)
        self.count = np.zeros(shape, dtype=np.uint16)
        self.low = np.zeros(shape, dtype=np.uint16)
        self.high = np.zeros(shape, dtype=np.uint16)
        self.n_frames = 0

    @property
    def shape(self) -> tuple[int, int, int]:
        """(C, H, W)."""
        return self.mean.shape

    def empty(self) -> Stack:
        """A stack like this one with nothing in it."""
        return Stack(self.shape[0], *self.canvas.field, origin=self.origin, canvas=self.canvas)

    def grown(self, canvas: Canvas) -> Stack:
        """This stack on a larger canvas that holds its own; a copy, so that whoever reads this one is not disturbed."""
        wider = Stack(self.shape[0], *self.canvas.field, origin=self.origin, canvas=canvas)
        rows, columns = canvas.slices(self.canvas)
        for name, array in self.arrays().items():
            getattr(wider, name)[:, rows, columns] = array
        wider.n_frames = self.n_frames
        return wider

    def arrays(self) -> dict[str, np.ndarray]:
        """The accumulators by name, for checkpoints."""
        names = ("mean", "m2", "weight", "count", "low", "high")
        return {name: getattr(self, name) for name in names}

    @staticmethod
    def restore(
        arrays: dict[str, np.ndarray], origin: np.ndarray, n_frames: int, canvas: Canvas | None = None
    ) -> Stack:
        """A stack from saved accumulators; raises ValueError when they do not belong together."""
        shapes = {name: array.shape for name, array in arrays.items()}
        if len(set(shapes.values())) != 1:
            raise ValueError(f"accumulators: all must have one shape, found {shapes}.")
        stack = Stack.__new__(Stack)
        stack.origin = np.asarray(origin, dtype=float).copy()
        stack.n_frames = n_frames
        for name in ("mean", "m2", "weight"):
            setattr(stack, name, np.ascontiguousarray(arrays[name], dtype=np.float32))
        for name in ("count", "low", "high"):
            setattr(stack, name, np.ascontiguousarray(arrays[name], dtype=np.uint16))
        stack.canvas = canvas or Canvas.of(*stack.shape[1:])
        if stack.shape[1:] != (stack.canvas.height, stack.canvas.width):
            raise ValueError(f"accumulators: {stack.shape} do not fill the canvas {stack.canvas}.")
        return stack

    def _strips(self, first: int = 0, last: int | None = None) -> list[tuple[int, int]]:
        """Strips of rows that hold some of the rows first..last (excluded)."""
        height = self.shape[1]
        begin, end = max(0, first) // STRIP_ROWS * STRIP_ROWS, height if last is None else min(height, last)
        return [(y, min(height, y + STRIP_ROWS)) for y in range(begin, end, STRIP_ROWS)]

    def _ruler(self, normalisation: Normalisation) -> np.ndarray:
        return np.array([*self.canvas.ruler, *normalisation.reach])

    def _surfaces(self, normalisation: Normalisation) -> np.ndarray:
        surface = np.array(normalisation.surface, dtype=float)
        surface[:, 0] -= self.origin
        return surface

    def _back(self, matrix: np.ndarray, distortion: Distortion | None) -> np.ndarray:
        """(2, 3) or (2, 18) from a pixel of the canvas to one of the frame."""
        back = np.linalg.inv(self.canvas.from_reference @ matrix)[:2]
        return back if distortion is None else distortion.lines(back, self.canvas.left, self.canvas.top)

    def _lay(
        self, planes: np.ndarray, matrix: np.ndarray, normalisation: Normalisation, distortion: Distortion | None
    ) -> _Laid:
        if planes.ndim != 3 or planes.shape[0] != self.shape[0]:
            raise ValueError(f"planes: expected ({self.shape[0]}, h, w), found {planes.shape}.")
        _, top, _, bottom = footprint(matrix, planes.shape[1], planes.shape[2], distortion)
        source, inverse = upright(planes, self._back(matrix, distortion))
        return _Laid(
            source,
            inverse,
            np.asarray(normalisation.factor, dtype=np.float32),
            self._surfaces(normalisation),
            self._ruler(normalisation),
            self._strips(top - self.canvas.top, bottom - self.canvas.top),
        )

    def _sweep(self, laid: _Laid, visit: Visit, bands: Bands) -> Added:
        """Let `visit` go over all strips of all channels, and gather what it rejected."""
        channels, height, width = self.shape
        strips = laid.strips
        seen = np.zeros((channels, len(strips)), dtype=np.int64)
        found = [[np.empty(0, dtype=np.int64)] * len(strips) for _ in range(channels)]
        for c in range(channels):

            def part(first: int, last: int, c: int = c) -> None:
                codes = np.empty((STRIP_ROWS, width), dtype=np.uint8)
                for s in range(first, last):
                    y0, y1 = strips[s]
                    seen[c, s], n_out = visit(c, y0, y1, codes[: y1 - y0])
                    if n_out:
                        found[c][s] = _entries(codes[: y1 - y0], (c * height + y0) * width)

            bands.run(part, len(strips))
        flat = np.concatenate([np.empty(0, dtype=np.int64), *(piece for row in found for piece in row)])
        return Added(int(seen.sum()), len(flat), RejectedSamples.pack(flat, self.canvas))

    def add(
        self,
        planes: np.ndarray,
        matrix: np.ndarray,
        normalisation: Normalisation,
        weight: float,
        limits: Limits | None,
        bands: Bands,
        distortion: Distortion | None = None,
    ) -> Added:
        """Warp, normalise, test and accumulate one frame.

        Parameters
        ----------
        planes : (C, h, w) float32, ADU; NaN = bad, carries no weight.
        matrix, distortion : frame (x, y) -> reference (x, y), (3, 3) and what a lens adds to it.
        limits : None accumulates everything (rejection off).
        """
        laid = self._lay(planes, matrix, normalisation, distortion)
        _, height, width = self.shape
        f = np.float32
        blank = np.zeros(width, dtype=f)
        # copies of the rows next to each strip: the result must not depend on which thread comes first
        edges = {} if limits is None else {
            (c, y): self.mean[c, min(max(y, 0), height - 1)].copy()
            for c in range(self.shape[0]) for y0, y1 in laid.strips for y in (y0 - 1, y1)
        }  # fmt: skip

        def visit(c: int, y0: int, y1: int, codes: np.ndarray) -> tuple[int, int]:
            return kernel.accumulate_strip(
                laid.source[c], laid.inverse, laid.factor[c], laid.surface[c], laid.ruler, f(weight),
                limits is not None, f(limits.kappa**2 if limits else 0), f(limits.prior_dof if limits else 1),
                f(limits.floor[c] if limits else 0), f(limits.slope[c] if limits else 0),
                f(limits.structure**2 if limits else 0), f(limits.excess**2 if limits else 0),
                f(limits.blur if limits else 0), self.mean[c], self.m2[c], self.weight[c], self.count[c],
                self.low[c], self.high[c], y0, y1, edges.get((c, y0 - 1), blank), edges.get((c, y1), blank), codes,
            )  # fmt: skip

        self.n_frames += 1
        return self._sweep(laid, visit, bands)

    def add_largest(
        self, planes: np.ndarray, matrix: np.ndarray, normalisation: Normalisation, bands: Bands,
        distortion: Distortion | None = None,
    ) -> Added:  # fmt: skip
        """Warp and normalise one frame and keep the larger of it and what is here (star trails); weights become 1."""
        laid = self._lay(planes, matrix, normalisation, distortion)

        def visit(c: int, y0: int, y1: int, codes: np.ndarray) -> tuple[int, int]:
            seen = kernel.maximum_strip(
                laid.source[c], laid.inverse, laid.factor[c], laid.surface[c], laid.ruler,
                self.mean[c], self.weight[c], self.count[c], y0, y1,
            )  # fmt: skip
            return seen, 0

        self.n_frames += 1
        return self._sweep(laid, visit, bands)

    def remove(
        self,
        planes: np.ndarray,
        matrix: np.ndarray,
        normalisation: Normalisation,
        weight: float,
        rejected: RejectedSamples,
        bands: Bands,
        distortion: Distortion | None = None,
    ) -> None:
        """Take a frame out again, with what `add` was given and what it returned: as if it had never come."""
        laid = self._lay(planes, matrix, normalisation, distortion)
        _, height, width = self.shape
        entries = rejected.unpack_on(self.canvas)

        def visit(c: int, y0: int, y1: int, codes: np.ndarray) -> tuple[int, int]:
            kernel.remove_strip(
                laid.source[c], laid.inverse, laid.factor[c], laid.surface[c], laid.ruler, np.float32(weight),
                self.mean[c], self.m2[c], self.weight[c], self.count[c], self.low[c], self.high[c], y0, y1,
                _codes(entries, (c * height + y0) * width, (y1 - y0, width)),
            )  # fmt: skip
            return 0, 0

        self._sweep(laid, visit, bands)
        self.n_frames -= 1

    def finalise(
        self,
        fresh: Stack,
        planes: np.ndarray,
        matrix: np.ndarray,
        normalisation: Normalisation,
        weight: float,
        limits: Limits,
        rejected: RejectedSamples,
        bands: Bands,
        distortion: Distortion | None = None,
    ) -> Added:
        """Test a frame against this finished stack without the frame's own samples, and add it to `fresh`.

        `rejected` is what streaming refused of this frame: those samples this stack does not hold. `fresh` is like
        `empty`.
        """
        laid = self._lay(planes, matrix, normalisation, distortion)
        _, height, width = self.shape
        live = rejected.unpack_on(self.canvas)
        f = np.float32

        def visit(c: int, y0: int, y1: int, codes: np.ndarray) -> tuple[int, int]:
            return kernel.final_strip(
                laid.source[c], laid.inverse, laid.factor[c], laid.surface[c], laid.ruler, f(weight),
                f(limits.kappa**2), f(limits.prior_dof), f(limits.floor[c]), f(limits.slope[c]),
                f(limits.structure**2), f(limits.excess**2), f(limits.blur),
                self.mean[c], self.m2[c], self.weight[c], self.count[c],
                _codes(live, (c * height + y0) * width, (y1 - y0, width)),
                fresh.mean[c], fresh.m2[c], fresh.weight[c], fresh.count[c], fresh.low[c], fresh.high[c], y0, y1,
                self.mean[c, max(0, y0 - 1)], self.mean[c, min(height - 1, y1)], codes,
            )  # fmt: skip

        fresh.n_frames += 1
        return self._sweep(laid, visit, bands)

    def start_robustly(self, samples: Sequence[WarmSample], reject: bool, bands: Bands) -> list[Added]:
        """Replace whatever is here by the robust combination of the warm-up: median/MAD, then iterated clipping.

        Returns
        -------
        One `Added` for each sample, in order.
        """
        channels, height, width = self.shape
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
                cube = self._warp_tile(
                    samples, max(0, y0 - 1), min(height, y1 + 1), max(0, x0 - 1), min(width, x1 + 1)
                )
                top, left = y0 - max(0, y0 - 1), x0 - max(0, x0 - 1)
                inner = np.s_[top : top + y1 - y0, left : left + x1 - x0]
                for c in range(channels):
                    median = np.empty(cube.shape[2:], dtype=f32)
                    mad = np.empty_like(median)
                    spread = np.empty_like(median)
                    curve = np.empty_like(median)
                    kernel.median_and_mad(cube[:, c], median, mad)
                    kernel.local_shape_tile(median, spread, curve)
                    codes = np.empty((k, y1 - y0, x1 - x0), dtype=np.uint8)
                    out = [np.s_[c, y0:y1, x0:x1]]
                    kernel.combine_tile(
                        cube[:, c][(slice(None), *inner)], median[inner], mad[inner], spread[inner], curve[inner],
                        weights,
                        np.array([s.limits.floor[c] for s in samples], dtype=f32),
                        np.array([s.limits.slope[c] for s in samples], dtype=f32),
                        structure2, excesses2, blurs, excesses_m, blurs_m, kappa, dof, reject,
                        self.mean[out[0]], self.m2[out[0]], self.weight[out[0]],
                        self.count[out[0]], self.low[out[0]], self.high[out[0]], codes,
                    )  # fmt: skip
                    for i in range(k):
                        seen[i, t] += int(np.count_nonzero(np.isfinite(cube[i, c][inner])))
                        local = np.flatnonzero(codes[i])
                        if len(local):
                            rows, columns = np.divmod(local, x1 - x0)
                            flat = (c * height + y0 + rows) * width + x0 + columns
                            found[i][t].append(flat * 2 + (codes[i].ravel()[local] == kernel.HIGH))

        bands.run(part, len(tiles))
        self.n_frames = k
        added = []
        for i in range(k):
            pieces = [piece for tile in found[i] for piece in tile]
            flat = np.sort(np.concatenate(pieces)) if pieces else np.empty(0, dtype=np.int64)
            added.append(Added(int(seen[i].sum()), len(flat), RejectedSamples.pack(flat, self.canvas)))
        return added

    def _warp_tile(self, samples: Sequence[WarmSample], y0: int, y1: int, x0: int, x1: int) -> np.ndarray:
        """(K, C, y1 - y0, x1 - x0): every sample frame on one tile of the grid, normalised; NaN = no data."""
        channels = self.shape[0]
        cube = np.full((len(samples), channels, y1 - y0, x1 - x0), np.nan, dtype=np.float32)
        for i, sample in enumerate(samples):
            inverse = self._back(sample.matrix, sample.distortion)
            steps = 2 if sample.distortion is None else EDGE_POINTS
            edges = np.meshgrid(np.linspace(x0, x1, steps), np.linspace(y0, y1, steps))
            places = np.stack([*(edge.ravel() for edge in edges), np.ones(steps**2)])
            x, y = inverse[:, :3] @ places
            if sample.distortion is not None:
                corner = np.array([self.canvas.left, self.canvas.top])
                x, y = np.stack([x, y]) + sample.distortion.shift(places[:2].T + corner).T
            height, width = sample.shape
            # even edges keep the mosaic's phase
            top, left = max(0, int(y.min()) - 4) & ~1, max(0, int(x.min()) - 4) & ~1
            bottom, right = min(height, int(y.max()) + 5), min(width, int(x.max()) + 5)
            if bottom - top < 4 or right - left < 4:
                continue
            crop = sample.develop(top, bottom, left, right)
            inverse[:, 2] -= left, top
            source, small = upright(crop, inverse)
            surface, ruler = self._surfaces(sample.normalisation), self._ruler(sample.normalisation)
            for c in range(channels):
                factor = np.float32(sample.normalisation.factor[c])
                kernel.normalised_tile(source[c], small, factor, surface[c], ruler, y0, x0, cube[i, c])
        return cube

    def fit_noise(self, samples: Sequence[WarmSample], bands: Bands) -> NoiseModel | None:
        """Read noise and photon noise from the scatter of the warm-up frames on a tenth of the field.

        Returns None with fewer than four samples. The floor is that of a frame whose own floor (`limits.floor`) is the
        mean of the samples'; the interpolation's smoothing is thereby included.
        """
        if len(samples) < 4:
            return None
        channels, height, width = self.shape
        side = 96
        field_height, field_width = self.canvas.field
        rows = np.linspace(0, max(0, field_height - side), 5).astype(int) - self.canvas.top
        columns = np.linspace(0, max(0, field_width - side), 7).astype(int) - self.canvas.left
        spots = sorted({(int(y), int(x)) for y in rows for x in columns})
        pieces: list[list[tuple[np.ndarray, np.ndarray, np.ndarray]]] = [[] for _ in spots]
        blurs = np.array([s.limits_median.blur for s in samples], dtype=np.float32)[:, None, None]

        def part(first: int, last: int) -> None:
            for s in range(first, last):
                y, x = spots[s]
                cube = self._warp_tile(samples, y, min(height, y + side), x, min(width, x + side))
                whole = np.isfinite(cube).all(axis=(0, 1))
                # the edges know no Laplacian
                whole[[0, -1], :] = whole[:, [0, -1]] = False
                median, mad, spread, curve = (np.empty(cube.shape[2:], dtype=np.float32) for _ in range(4))
                for c in range(channels):
                    kernel.median_and_mad(cube[:, c], median, mad)
                    kernel.local_shape_tile(median, spread, curve)
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
        return NoiseModel(floor, slope, structure)

    def merge(self, other: Stack, bands: Bands) -> None:
        """Add another stack on the same grid and origin, exactly."""
        if self.shape != other.shape or self.canvas != other.canvas:
            raise ValueError(
                f"other: {other.shape} on {other.canvas}, expected {self.shape} on {self.canvas}; resample it first."
            )
        shift = (other.origin - self.origin).astype(np.float32)
        for c in range(self.shape[0]):
            theirs = other.mean[c] if shift[c] == 0 else other.mean[c] + shift[c]

            def part(row0: int, row1: int, c=c, theirs=theirs) -> None:  # type: ignore[no-untyped-def]
                kernel.merge_rows(
                    self.mean[c], self.m2[c], self.weight[c], self.count[c], self.low[c], self.high[c],
                    theirs, other.m2[c], other.weight[c], other.count[c], other.low[c], other.high[c], row0, row1,
                )  # fmt: skip

            bands.run(part, self.shape[1])
        self.n_frames += other.n_frames

    def on(self, canvas: Canvas) -> Stack:
        """The part of this stack on a canvas within its own: a view."""
        if canvas == self.canvas:
            return self
        rows, columns = self.canvas.slices(canvas)
        part = Stack.__new__(Stack)
        part.origin, part.n_frames, part.canvas = self.origin, self.n_frames, canvas
        for name, array in self.arrays().items():
            setattr(part, name, array[:, rows, columns])
        return part

    def image(self, rows: slice = slice(None), columns: slice = slice(None)) -> np.ndarray:
        """(C, h, w) float32 mean in ADU on the reference's scale; NaN where nothing was stacked. A copy."""
        picture = self.mean[:, rows, columns] + self.origin.astype(np.float32)[:, None, None]
        for plane, weight in zip(picture, self.weight[:, rows, columns], strict=True):
            plane[weight <= 0] = np.nan
        return picture

    def variance(self) -> np.ndarray:
        """(C, H, W) float32 sample variance of the accepted samples, ADU^2; NaN with fewer than two."""
        value = np.empty_like(self.m2)
        for c in range(self.shape[0]):
            for y0, y1 in self._strips():
                rows = np.s_[c, y0:y1]
                n = self.count[rows].astype(np.float32)
                with np.errstate(invalid="ignore", divide="ignore"):
                    value[rows] = self.m2[rows] / self.weight[rows] * (n / (n - 1))
                value[rows][n < 2] = np.nan
        return value


def _entries(codes: np.ndarray, start: int) -> np.ndarray:
    """Sorted int64 entries (flat index * 2 + high) of a strip's rejected samples; it begins at flat index `start`."""
    flat = codes.ravel()
    local = np.flatnonzero(flat)
    return (local + start) * 2 + (flat[local] == kernel.HIGH)


def _codes(entries: np.ndarray, start: int, shape: tuple[int, int]) -> np.ndarray:
    """The strip's (rows, W) uint8 codes again."""
    codes = np.zeros(shape[0] * shape[1], dtype=np.uint8)
    first, last = np.searchsorted(entries, [start * 2, (start + codes.size) * 2])
    part = entries[first:last]
    codes[(part >> 1) - start] = np.where(part & 1, kernel.HIGH, kernel.LOW)
    return codes.reshape(shape)


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
