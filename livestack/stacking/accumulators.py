"""The stack: per pixel and channel a weighted mean, a sum of squares and counts, fed one frame at a time.

Rejection is by *prediction limit with a moderated variance*: a sample x is refused when

    |x - mean - t L| > kappa sqrt(s^2 (1 + 1/n) + (e R)^2 + 0.1 (t L)^2),   s^2 = (d0 s0^2 + M2/c) / (d0 + n - 1)

s0^2 = a + b max(mean, 0) + (g R)^2 is a noise model (read noise, photon noise, structure) worth d0 samples, so that a
pixel with few samples is not judged by its own poor variance (Smyth 2004, doi:10.2202/1544-6115.1027, for the
shrinkage); c is the variance that clipping leaves; R the 3 x 3 range of the mean, so that residual registration error
around stars is no outlier (as HST's driz_cr). L is the mean's Laplacian: a frame whose stars are wider is expected to
be the mean plus t L; what its width explains is no outlier either, and a trail through a star still is. g is fitted
in the warm-up; e is what sets this frame apart beyond all that. The first frames are combined at once, from median
and MAD (`robust_start`), so that an artefact in frame 1 leaves nothing behind. Where most samples of a pixel are
refused the limit opens: it cannot latch. What was refused of a star that has changed its brightness as a whole is taken
back (`starlight`).

(n, mean, M2) are stored, never the variance: stacks merge exactly (Chan et al. 1979; West 1979,
doi:10.1145/359146.359153). Values are relative to `origin` (the reference's sky), so float32 stays accurate. Which
frames come here, and on what scale, is `engine.pipeline`'s business.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from livestack.kernels import accumulate as kernel
from livestack.kernels.bands import Bands
from livestack.registration.distortion import Distortion
from livestack.stacking.canvas import Canvas
from livestack.stacking.laying import STRIP_ROWS, LaidFrame, lay, strips_of
from livestack.stacking.noise_model import Limits
from livestack.stacking.normalisation import Normalisation
from livestack.stacking.rejected_samples import Added, RejectedSamples, codes_of, entries_of
from livestack.stacking.starlight import Refused, take_back

Visit = Callable[[int, int, int, np.ndarray], tuple[int, int]]
"""(channel, first row, last row, codes to fill) -> (samples with data, samples rejected)."""

Revise = Callable[[np.ndarray], np.ndarray]
"""Entries of all rejected samples -> those that stay rejected."""


class Stack:
    """Running accumulators on the reference's grid. Nine of its public members are the arrays and what places them.

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

    def empty(self, scale: float | None = None) -> Stack:
        """A stack like this one with nothing in it; of another scale, if that is wanted."""
        canvas = self.canvas if scale is None else self.canvas.scaled(scale)
        return Stack(self.shape[0], *canvas.field, origin=self.origin, canvas=canvas)

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

    def planes(self, channel: int) -> tuple[np.ndarray, ...]:
        """The accumulators of one channel, (H, W) each, in the order of the kernels; see `kernels.sample_rows`."""
        return tuple(array[channel] for array in self.arrays().values())

    def _lay(
        self, planes: np.ndarray, matrix: np.ndarray, normalisation: Normalisation, distortion: Distortion | None
    ) -> LaidFrame:
        if planes.ndim != 3 or planes.shape[0] != self.shape[0]:
            raise ValueError(f"planes: expected ({self.shape[0]}, h, w), found {planes.shape}.")
        return lay(planes, matrix, normalisation, distortion, self.canvas, self.origin)

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
        blank = np.zeros(width, dtype=np.float32)
        none = np.zeros(8, dtype=np.float32)
        # copies of the rows next to each strip: the result must not depend on which thread comes first
        edges = {} if limits is None else {
            (c, y): self.mean[c, min(max(y, 0), height - 1)].copy()
            for c in range(self.shape[0]) for y0, y1 in laid.strips for y in (y0 - 1, y1)
        }  # fmt: skip

        def visit(c: int, y0: int, y1: int, codes: np.ndarray) -> tuple[int, int]:
            tested = none if limits is None else limits.of_channel(c)
            above, below = edges.get((c, y0 - 1), blank), edges.get((c, y1), blank)
            return kernel.accumulate_strip(
                laid.of_channel(c), np.float32(weight), limits is not None, tested, self.planes(c), y0, y1, above,
                below, codes,
            )  # fmt: skip

        def revise(entries: np.ndarray) -> np.ndarray:
            assert limits is not None
            return take_back(
                Refused(entries), lambda c, y, x: laid.of_channel(c), weight, limits, self.planes, self.planes,
                self.shape[0],
            )  # fmt: skip

        self.n_frames += 1
        return sweep(self, laid, visit, bands, None if limits is None else revise)

    def add_largest(
        self, planes: np.ndarray, matrix: np.ndarray, normalisation: Normalisation, bands: Bands,
        distortion: Distortion | None = None,
    ) -> Added:  # fmt: skip
        """Warp and normalise one frame and keep the larger of it and what is here (star trails); weights become 1."""
        laid = self._lay(planes, matrix, normalisation, distortion)

        def visit(c: int, y0: int, y1: int, codes: np.ndarray) -> tuple[int, int]:
            best, _, weight, count, _, _ = self.planes(c)
            seen = kernel.maximum_strip(laid.of_channel(c), best, weight, count, y0, y1)
            return seen, 0

        self.n_frames += 1
        return sweep(self, laid, visit, bands)

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
            refused = codes_of(entries, (c * height + y0) * width, (y1 - y0, width))
            kernel.remove_strip(laid.of_channel(c), np.float32(weight), self.planes(c), y0, y1, refused)
            return 0, 0

        sweep(self, laid, visit, bands)
        self.n_frames -= 1

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
                kernel.merge_rows(*self.planes(c), theirs, *other.planes(c)[1:], row0, row1)

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
            for y0, y1 in strips_of(self.shape[1]):
                rows = np.s_[c, y0:y1]
                n = self.count[rows].astype(np.float32)
                with np.errstate(invalid="ignore", divide="ignore"):
                    value[rows] = self.m2[rows] / self.weight[rows] * (n / (n - 1))
                value[rows][n < 2] = np.nan
        return value


def sweep(stack: Stack, laid: LaidFrame, visit: Visit, bands: Bands, revise: Revise | None = None) -> Added:
    """Let `visit` go over all strips of all channels, and gather what it rejected, less what `revise` takes back."""
    channels, height, width = stack.shape
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
                    found[c][s] = entries_of(codes[: y1 - y0], (c * height + y0) * width)

        bands.run(part, len(strips))
    flat = np.concatenate([np.empty(0, dtype=np.int64), *(piece for row in found for piece in row)])
    if revise is not None:
        flat = revise(flat)
    return Added(int(seen.sum()), len(flat), RejectedSamples.pack(flat, stack.canvas))
