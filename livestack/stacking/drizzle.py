"""Live drizzle: the camera's own pixels are tested against the stack and dropped on its grid, each in its own colour.

No colour is interpolated before it is stacked, and no pixel of a frame: what is refused, is refused where it was
measured. The accumulators are those of `accumulators.Stack`: weight sums the pieces of drops times their frame's
weight, count the drops that touched a pixel, mean and M2 are those of the drops. How it is done is said in
`kernels.drizzle`; when it is chosen is the engine's business.

Which samples of a frame were refused is kept as flat indices of the frame's pixels: (H, W) of a mosaic, else (C, H, W).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace

import numpy as np

from livestack.calibration.debayer import red_position
from livestack.kernels import drizzle as kernel
from livestack.kernels import drizzle_rows as rows_kernel
from livestack.kernels.bands import Bands
from livestack.kernels.drizzle_test import look_at_rows, test_rows, test_some
from livestack.kernels.sample_rows import HIGH
from livestack.registration.distortion import Distortion, to_frame, to_reference
from livestack.stacking.accumulators import Stack
from livestack.stacking.canvas import EDGE_POINTS, Canvas
from livestack.stacking.laying import ruler_on, surfaces_above
from livestack.stacking.noise_model import Blot, Limits
from livestack.stacking.normalisation import Normalisation
from livestack.stacking.rejected_samples import Added, RejectedSamples, codes_of, entries_of

TILE_ROWS, TILE_COLUMNS = 64, 1024
PITCH = 256
"""Pixels of a frame between two places that are computed; a quarter of it through a lens that distorts."""
LOOKED_AT = 400_000
"""Samples of a frame of which those on stars are looked at."""
STAR = 12.0
"""Range of the mean, in sigma of a sample, from which on there is a star."""
ENOUGH = 300
CORE = 0.3
"""Where the Laplacian is beyond minus this share of the range there is the core of a star."""
LARGE, LARGE_SIGMA = 0.98, 2.326
"""A quantile of what is left of samples on stars, and the sigma that it is of a normal distribution: what stars leave
has long tails."""
STRAIGHT = 1 / 12
"""A frame that is turned, and scaled, by no more than this lies as the grid does."""
MOST_HALF = 0.55
"""Largest half side of a drop for which 3 x 3 pixels of such a frame hold all that reach a pixel of the grid."""
Planes = tuple[np.ndarray, ...]


@dataclass(frozen=True)
class Drop:
    """What becomes of a camera pixel.

    Attributes
    ----------
    pixfrac : side of the drop over that of the pixel, above 0, at most 1.
    bayer : colours of the mosaic's cell, e.g. "RGGB"; None where all channels see all pixels.
    """

    pixfrac: float = 1.0
    bayer: str | None = None


@dataclass(frozen=True, eq=False)
class Shot:
    """A frame to be drizzled.

    Attributes
    ----------
    samples : (h, w) mosaic or mono, or (C, h, w), float32, ADU, calibrated, NaN = bad.
    matrix, normalisation, weight, distortion : as in `Stack.add`.
    defects : flat indices of pixels that are not to be trusted; they count as refused.
    """

    samples: np.ndarray
    drop: Drop
    matrix: np.ndarray
    normalisation: Normalisation
    weight: float
    distortion: Distortion | None = None
    defects: np.ndarray | None = None


@dataclass(frozen=True, eq=False)
class Laid:
    """How a frame lies on a stack's canvas, in the form that the kernels want.

    Attributes
    ----------
    nodes, pitch, half : see `kernels.drizzle`.
    straight : (2, 3) frame -> canvas, with `surface` (C, 10) and `ruler` (8,), where whole rows can be dropped
        (`kernels.drizzle_rows`); None where the frame lies otherwise.
    tiles : of the canvas, else.
    """

    source: np.ndarray
    colours: np.ndarray
    nodes: np.ndarray
    pitch: int
    factor: np.ndarray
    half: float
    straight: np.ndarray | None
    surface: np.ndarray
    ruler: np.ndarray
    tiles: list[tuple[np.ndarray, np.ndarray]]

    def layers(self, channels: int) -> Iterator[tuple[np.ndarray, np.ndarray, slice, slice]]:
        """(plane, nodes, its channels, its rows among all planes' rows) one after the other."""
        height = self.source.shape[-2]
        if self.source.ndim == 2:
            yield self.source, self.nodes, slice(0, channels), slice(0, height)
            return
        for c in range(channels):
            nodes = np.ascontiguousarray(self.nodes[..., [0, 1, 2 + c]])
            yield self.source[c], nodes, slice(c, c + 1), slice(c * height, (c + 1) * height)


def lay(shot: Shot, canvas: Canvas, origin: np.ndarray) -> Laid:
    """A frame's pixels on a canvas whose values are relative to `origin` (C,)."""
    samples, drop, matrix, distortion = shot.samples, shot.drop, shot.matrix, shot.distortion
    if samples.ndim == 3 and len(samples) == 1:
        samples = samples[0]
    height, width = samples.shape[-2:]
    channels = len(origin)
    colours = np.zeros((2, 2), dtype=np.int64)
    if drop.bayer is not None:
        red_y, red_x = red_position(drop.bayer)
        colours[:] = 1
        colours[red_y, red_x], colours[1 - red_y, 1 - red_x] = 0, 2
    if (channels == 1) != (samples.ndim == 2 and drop.bayer is None):
        raise ValueError(f"samples: found {samples.shape} of {drop.bayer or 'no mosaic'} for {channels} channel(s).")
    step = PITCH if distortion is None else PITCH // 4
    x = np.arange((width - 1) // step + 2) * step
    y = np.arange((height - 1) // step + 2) * step
    points = np.stack(np.meshgrid(x, y), axis=-1).reshape(-1, 2).astype(float)
    there = to_reference(matrix, distortion, points)
    on_canvas = there @ canvas.from_reference[:2, :2].T + canvas.from_reference[:2, 2]
    nodes = np.empty((len(points), 2 + channels))
    nodes[:, :2] = on_canvas
    nodes[:, 2:] = _surface(shot.normalisation, origin, canvas, on_canvas)
    scale = canvas.scale * abs(float(np.linalg.det(matrix[:2, :2]))) ** 0.5
    half = 0.5 * drop.pixfrac * scale
    forward = np.ascontiguousarray((canvas.from_reference @ matrix)[:2])
    turned = abs(forward[0, 0] - 1.0) + abs(forward[1, 0])
    straight = distortion is None and turned <= STRAIGHT and forward[1, 1] > 0 and half <= MOST_HALF
    return Laid(
        np.ascontiguousarray(samples, dtype=np.float32), colours, nodes.reshape(len(y), len(x), -1), step,
        np.asarray(shot.normalisation.factor, dtype=np.float32), half, forward if straight else None,
        surfaces_above(shot.normalisation, origin), ruler_on(canvas, shot.normalisation),
        [] if straight else list(_tiles(canvas, matrix, distortion, height, half + 0.5)),
    )  # fmt: skip


def _surface(normalisation: Normalisation, origin: np.ndarray, canvas: Canvas, points: np.ndarray) -> np.ndarray:
    """(n, C) additive surfaces relative to the origin at pixels of the canvas (n, 2)."""
    u0, du, v0, dv = canvas.ruler
    reach = normalisation.reach
    u = np.clip(u0 + points[:, 0] * du, *reach[:2])
    v = np.clip(v0 + points[:, 1] * dv, *reach[2:])
    powers = np.stack([np.ones_like(u), u, v, u * u, u * v, v * v, u**3, u * u * v, u * v * v, v**3], axis=1)
    return np.asarray(powers @ surfaces_above(normalisation, origin).T)


def _tiles(
    canvas: Canvas, matrix: np.ndarray, distortion: Distortion | None, height: int, reach: float
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """(first and last row, first and last column; rows of the frame that may reach it) of each tile it reaches."""
    back = np.linalg.inv(canvas.from_reference)
    slack = 2 if distortion is None else 4
    steps = np.linspace(0, 1, 2 if distortion is None else EDGE_POINTS)
    for y0 in range(0, canvas.height, TILE_ROWS):
        y1 = min(canvas.height, y0 + TILE_ROWS)
        for x0 in range(0, canvas.width, TILE_COLUMNS):
            x1 = min(canvas.width, x0 + TILE_COLUMNS)
            x, y = np.meshgrid(x0 - reach + steps * (x1 - x0 + 2 * reach), y0 - reach + steps * (y1 - y0 + 2 * reach))
            edge = np.stack([x.ravel(), y.ravel()], axis=1) @ back[:2, :2].T + back[:2, 2]
            rows = to_frame(matrix, distortion, edge)[:, 1]
            first, last = max(0, int(rows.min()) - slack), min(height, int(rows.max()) + slack + 1)
            if first < last:
                yield np.array([y0, y1, x0, x1]), np.array([first, last])


def pack(codes: np.ndarray) -> RejectedSamples:
    """From the codes (rows of all planes, w) of a frame's pixels."""
    return RejectedSamples.pack(entries_of(codes, 0))


def unpack(rejected: RejectedSamples, samples: np.ndarray) -> np.ndarray:
    """The codes again, for a frame's samples (h, w) or (C, h, w)."""
    width = samples.shape[-1]
    return codes_of(rejected.unpack(), 0, (samples.size // width, width))


def _limits(limits: Limits, channels: int, scale: float) -> np.ndarray:
    rows = np.stack([limits.of_channel(c) for c in range(channels)])
    rows[:, 6] *= scale**2  # a Laplacian per pixel of the grid is so much smaller
    return rows


def _test(
    stack: Stack, laid: Laid, limits: Limits, sharpen: float, weight: float, held: np.ndarray | None, bands: Bands
) -> tuple[np.ndarray, int]:
    """Codes of a frame's pixels, and how many of them lie on the canvas."""
    channels = stack.shape[0]
    width = laid.source.shape[-1]
    codes = np.zeros((laid.source.size // width, width), dtype=np.uint8)
    tested = _limits(limits, channels, stack.canvas.scale)
    arrays = tuple(stack.arrays().values())
    seen = 0
    for plane, nodes, some, rows in laid.layers(channels):
        planes = tuple(array[some] for array in arrays)
        mine = codes[rows]
        refused = mine if held is None else held[rows]
        counted = np.zeros(len(plane), dtype=np.int64)

        def part(
            first: int, last: int, plane: np.ndarray = plane, nodes: np.ndarray = nodes, some: slice = some,
            planes: Planes = planes, mine: np.ndarray = mine, refused: np.ndarray = refused,
            counted: np.ndarray = counted,
        ) -> None:  # fmt: skip
            counted[first], _ = test_rows(
                plane, laid.colours, nodes, laid.pitch, laid.factor[some], tested[some], planes, held is not None,
                refused, np.float32(weight), laid.half, np.float32(sharpen), first, last, mine,
            )  # fmt: skip

        bands.run(part, len(plane))
        seen += int(counted.sum())
    return codes, seen


def _drop(stack: Stack, laid: Laid, codes: np.ndarray, weight: float, sign: int, bands: Bands) -> None:
    """Drop a frame's pixels, or (`sign` -1) take them away; what `codes` refuse is only counted."""
    arrays = tuple(stack.arrays().values())
    for plane, nodes, some, rows in laid.layers(stack.shape[0]):
        planes, mine = tuple(array[some] for array in arrays), codes[rows]
        if laid.straight is None:
            _drop_tiles(laid, plane, nodes, some, planes[:4], mine, weight, sign, bands)
        else:
            _drop_rows(laid, plane, some, planes[:4], mine, weight, sign, bands)
        places = np.flatnonzero(mine)
        places = places[np.isfinite(plane.reshape(-1)[places])]
        high_ones = (mine.reshape(-1)[places] == HIGH).astype(np.uint8)
        kernel.count_refused(
            places, high_ones, laid.colours, nodes, laid.pitch, plane.shape[1], laid.half, *planes[4:], sign
        )


def _drop_rows(
    laid: Laid, plane: np.ndarray, some: slice, planes: Planes, codes: np.ndarray, weight: float, sign: int,
    bands: Bands,
) -> None:  # fmt: skip
    height, width = plane.shape
    pad = rows_kernel.PAD
    padded = np.empty((height + 2 * pad, width + 2 * pad), dtype=np.float32)
    padded[:pad] = padded[height + pad :] = np.nan
    bands.run(lambda first, last: rows_kernel.pad_rows(plane, codes, first, last, padded), height)

    def part(first: int, last: int) -> None:
        rows_kernel.drop_rows(
            padded, laid.colours, laid.straight, laid.factor[some], laid.surface[some], laid.ruler, np.float32(weight),
            laid.half, planes, sign, first, last,
        )  # fmt: skip

    bands.run(part, planes[0].shape[1])


def _drop_tiles(
    laid: Laid, plane: np.ndarray, nodes: np.ndarray, some: slice, planes: Planes, codes: np.ndarray, weight: float,
    sign: int, bands: Bands,
) -> None:  # fmt: skip
    def part(first: int, last: int) -> None:
        sums = np.zeros((4, some.stop - some.start, TILE_ROWS, TILE_COLUMNS), dtype=np.float32)
        for bounds, reached in laid.tiles[first:last]:
            kernel.drop_tile(
                plane, laid.colours, nodes, laid.pitch, laid.factor[some], codes, np.float32(weight), laid.half, planes,
                sign, bounds, reached, sums,
            )  # fmt: skip

    bands.run(part, len(laid.tiles))


def blurred(drop: Drop, canvas: Canvas) -> Blot:
    """What drop and pixel of the grid do to wide stars: half of what they add to the variance, px^2 of the grid."""
    return Blot(((drop.pixfrac * canvas.scale) ** 2 + 1.0) / 24.0)


def fit_blot(stack: Stack, shots: Iterable[tuple[Shot, Limits, RejectedSamples]], usual: Blot) -> Blot:
    """What the samples of some frames on stars say of the mean of the others; `usual` where too few tell.

    Parameters
    ----------
    shots : frames that the stack holds, what they are tested with, and what was refused of them.
    """
    channels = stack.shape[0]
    found: list[np.ndarray] = []
    arrays = tuple(stack.arrays().values())
    for shot, limits, rejected in shots:
        laid, held = lay(shot, stack.canvas, stack.origin), unpack(rejected, shot.samples)
        noise = np.sqrt(np.asarray(limits.floor, dtype=float)).astype(np.float32)
        for plane, nodes, some, rows in laid.layers(channels):
            height, width = plane.shape
            step = max(1, height * width // LOOKED_AT) | 1
            looked = np.arange(step // 2, height, step)
            out = np.empty((5, 20_000), dtype=np.float32)
            n = look_at_rows(
                plane, laid.colours, nodes, laid.pitch, laid.factor[some], tuple(a[some] for a in arrays), held[rows],
                np.float32(shot.weight), laid.half, looked, STAR * noise[some], out,
            )  # fmt: skip
            out = out[:, :n].astype(float)
            c = out[4].astype(int) + some.start
            expected = np.asarray(limits.floor)[c] + np.asarray(limits.slope)[c] * np.maximum(out[3], 0)
            # what another seeing does to this frame is known
            found.append(np.stack([out[0] - limits.blur * stack.canvas.scale**2 * out[1], out[1], out[2], expected]))
    away, curve, spread, variance = np.concatenate(found, axis=1)
    if len(away) < ENOUGH:
        return usual
    # on cores, where it matters, by the median of what each says, by how much it says
    core = curve < -CORE * spread
    if np.count_nonzero(core) < ENOUGH // 10:
        return usual
    said, worth = -away[core] / curve[core], np.abs(curve[core]) / np.sqrt(variance[core] + (0.1 * spread[core]) ** 2)
    order = np.argsort(said)
    passed = np.cumsum(worth[order])
    sharpen = float(said[order][np.searchsorted(passed, 0.5 * passed[-1])])
    sharpen = min(max(sharpen, usual.sharpen), 4 * usual.sharpen)  # few frames make it small: their mean is noisy
    share = ((away + sharpen * curve) ** 2 - variance) / spread**2
    return Blot(sharpen, math.sqrt(max(0.0, float(np.quantile(share, LARGE)))) / LARGE_SIGMA)


def add(stack: Stack, shot: Shot, limits: Limits | None, bands: Bands, blot: Blot | None = None) -> Added:
    """Test a frame's pixels and drop those that are believed; `limits` None believes all.

    Parameters
    ----------
    blot : what `fit_blot` found; its structure is what `limits` have.
    """
    laid = lay(shot, stack.canvas, stack.origin)
    if limits is None:
        codes, seen = _no_codes(shot), None
    else:
        blot = blot or blurred(shot.drop, stack.canvas)
        codes, seen = _test(stack, laid, limits, blot.sharpen, shot.weight, None, bands)
    return _add(stack, shot, laid, codes, seen, bands)


def start_from(debayered: Stack, stack: Stack, shot: Shot, limits: Limits | None, bands: Bands) -> Added:
    """Test a frame of the warm-up against the robust mean of its debayered frames, and drop it on `stack`."""
    laid = lay(shot, stack.canvas, stack.origin)
    if limits is None:
        codes, seen = _no_codes(shot), None
    else:
        codes, seen = _test(debayered, lay(shot, debayered.canvas, debayered.origin), limits, 0.0, 0.0, None, bands)
    return _add(stack, shot, laid, codes, seen, bands)


def _add(stack: Stack, shot: Shot, laid: Laid, codes: np.ndarray, seen: int | None, bands: Bands) -> Added:
    out = int(np.count_nonzero(codes))
    _leave_out(codes, shot.defects)
    _drop(stack, laid, codes, shot.weight, 1, bands)
    stack.n_frames += 1
    return Added(int(np.isfinite(shot.samples).sum()) if seen is None else seen, out, pack(codes))


def _no_codes(shot: Shot) -> np.ndarray:
    width = shot.samples.shape[-1]
    return np.zeros((shot.samples.size // width, width), dtype=np.uint8)


def _leave_out(codes: np.ndarray, defects: np.ndarray | None) -> None:
    """Mark defective pixels as refused."""
    if defects is not None and len(defects):
        flat = codes.ravel()
        flat[defects] = np.where(flat[defects] == 0, HIGH, flat[defects])


def remove(stack: Stack, shot: Shot, rejected: RejectedSamples, bands: Bands) -> None:
    """Take a frame out again, with what `add` was given and what it returned: as if it had never come."""
    laid = lay(shot, stack.canvas, stack.origin)
    _drop(stack, laid, unpack(rejected, shot.samples), shot.weight, -1, bands)
    stack.n_frames -= 1


@dataclass(frozen=True, eq=False)
class Revision:
    """What the final test says otherwise than the one while streaming.

    Attributes
    ----------
    shape : of the frame's samples.
    places : (n,) flat indices of the samples of which the other is said; values : (n,) float32, their ADU.
    """

    shape: tuple[int, ...]
    places: np.ndarray
    values: np.ndarray


def test_again(
    finished: Stack, shot: Shot, limits: Limits, rejected: RejectedSamples, bands: Bands, blot: Blot | None
) -> tuple[Added, Revision]:
    """Test a frame's pixels against the finished stack without themselves; changes nothing.

    Parameters
    ----------
    rejected : what was refused before: those samples the finished stack does not hold.
    """
    laid = lay(shot, finished.canvas, finished.origin)
    held = unpack(rejected, shot.samples)
    blot = blot or blurred(shot.drop, finished.canvas)
    codes, seen = _test(finished, laid, limits, blot.sharpen, shot.weight, held, bands)
    out = int(np.count_nonzero(codes))
    _leave_out(codes, shot.defects)
    places = np.flatnonzero((codes != 0) != (held != 0))
    return Added(seen, out, pack(codes)), Revision(shot.samples.shape, places, shot.samples.reshape(-1)[places])


def reconsider(
    stack: Stack, shot: Shot, limits: Limits, rejected: RejectedSamples, blot: Blot
) -> tuple[Added, Revision]:
    """Test those samples of a frame once more that were refused, and that the stack therefore does not hold.

    Parameters
    ----------
    rejected : what was refused before.
    """
    laid, codes = lay(shot, stack.canvas, stack.origin), unpack(rejected, shot.samples)
    tested, arrays = _limits(limits, stack.shape[0], stack.canvas.scale), tuple(stack.arrays().values())
    before = codes.copy()
    for plane, nodes, some, rows in laid.layers(stack.shape[0]):
        mine = codes[rows].reshape(-1)
        places = np.flatnonzero(mine)
        places = places[np.isfinite(plane.reshape(-1)[places])]
        again = np.empty(len(places), dtype=np.uint8)
        test_some(
            places, plane, laid.colours, nodes, laid.pitch, laid.factor[some], tested[some],
            tuple(array[some] for array in arrays), np.float32(shot.weight), laid.half, np.float32(blot.sharpen), again,
        )  # fmt: skip
        mine[places] = again
    out = int(np.count_nonzero(codes))
    _leave_out(codes, shot.defects)
    places = np.flatnonzero((codes != 0) != (before != 0))
    return Added(int(np.isfinite(shot.samples).sum()), out, pack(codes)), Revision(
        shot.samples.shape, places, shot.samples.reshape(-1)[places]
    )


def revise(stack: Stack, shot: Shot, revision: Revision, rejected: RejectedSamples) -> None:
    """Let a frame have in the stack what the final test has left of it, where that is something else.

    Parameters
    ----------
    stack : whose counts of refused samples were set to zero before the first frame is revised.
    shot : without its samples; rejected : what the final test refuses.
    """
    width = revision.shape[-1]
    codes = unpack(rejected, np.empty(revision.shape, dtype=np.float32))
    laid = lay(replace(shot, samples=np.empty(revision.shape, dtype=np.float32)), stack.canvas, stack.origin)
    arrays = tuple(stack.arrays().values())
    goes = codes.reshape(-1)[revision.places] != 0
    weight = np.float32(shot.weight)
    for _, nodes, some, rows in laid.layers(stack.shape[0]):
        planes = tuple(array[some] for array in arrays)
        begin, end = rows.start * width, rows.stop * width
        here = (revision.places >= begin) & (revision.places < end)
        for which, sign in ((goes & here, -1), (~goes & here, 1)):
            kernel.drop_some(
                revision.places[which] - begin, revision.values[which], laid.colours, nodes, laid.pitch, width,
                laid.factor[some], weight, laid.half, *planes[:4], sign,
            )  # fmt: skip
        mine = codes[rows].reshape(-1)
        places = np.flatnonzero(mine)
        high_ones = (mine[places] == HIGH).astype(np.uint8)
        kernel.count_refused(places, high_ones, laid.colours, nodes, laid.pitch, width, laid.half, *planes[4:], 1)


def for_scatter(limits: Limits, gain: np.ndarray) -> Limits:
    """Limits for a stack whose own scatter is `gain` (C,) times that of the samples that are tested."""
    louder = np.ones_like(gain) if limits.louder is None else limits.louder
    return replace(limits, louder=louder / np.maximum(gain, 0.05))
