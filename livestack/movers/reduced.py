"""The night made smaller: each frame as boxes of pixels on the reference's grid, and its residual beside the mean.

A frame's reduced pixels are compared with a running mean that a residual cannot pull far, and told in units of what
that pixel usually scatters: around stars seeing makes it scatter more. The first frames wait for each other and begin
the mean by their median, so that a satellite in the first frame is found like any other.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np

from livestack.kernels import movers as kernel
from livestack.kernels.bands import Bands
from livestack.registration.distortion import Distortion, to_frame, to_reference

FIRST_FRAMES = 8
LEAST_FRAMES = 3
MARGIN = kernel.PIECE
"""Reduced pixels beyond the reference that are looked at, too."""
MESH_PX = 64
"""Reduced pixels from one node of a frame's sky to the next."""
STAR_VARIANCE = 1.8
LIGHT_SIGMA, NEAR_PX = 5.0, 2
"""What stands out so much of the mean of the first frames was there, so many reduced pixels around, too."""
EVEN_PX = 15
"""Reduced pixels over which the sky is taken to be even."""
SOME = 32
"""Of so many rows one is filtered to know how much they scatter."""
DOWN, ALONG = 4, 4
"""Of so many rows, and pixels of a row, one is looked at for the sky."""
TRAIL_SIGMA = 2.0
"""Light of a trail below that is not told from noise."""
FORGETS_AFTER = 400
MAD_SIGMA = 1.4826
STRUCTURE = 0.12
"""Share of the local range that seeing and registration leave, until a night's own is measured."""


@dataclass(frozen=True)
class Grid:
    """The reduced reference: pixel (i, j) is the box whose middle is reference (left + bin i, top + bin j) / sides.

    Attributes
    ----------
    bin : reference pixels in a side of a reduced pixel.
    width, height : in reduced pixels.
    """

    bin: int
    width: int
    height: int

    @staticmethod
    def of(shape: tuple[int, int], fwhm_px: float, mosaic: bool, planes: int) -> Grid:
        """For a reference of (height, width) whose stars are so wide."""
        large = shape[0] * shape[1] > 4_500_000
        size = (
            1 if fwhm_px < 2.0 and not large else 2 if fwhm_px < (2.5 if large else 4.6) else 3 if fwhm_px < 7.0 else 4
        )
        if mosaic and planes == 1:
            size = max(2, size + size % 2)  # each box has the same share of each colour
        return Grid(size, -(-shape[1] // size) + 2 * MARGIN, -(-shape[0] // size) + 2 * MARGIN)

    def to_reference(self, points: np.ndarray) -> np.ndarray:
        """Reduced (n, 2) -> reference (n, 2)."""
        return np.asarray((np.asarray(points, dtype=float) - MARGIN) * self.bin + 0.5 * (self.bin - 1))

    def from_reference(self, points: np.ndarray) -> np.ndarray:
        """Reference (n, 2) -> reduced (n, 2)."""
        return np.asarray((np.asarray(points, dtype=float) - 0.5 * (self.bin - 1)) / self.bin + MARGIN)

    def psf_sigma(self, fwhm_px: float) -> float:
        """Sigma of a star in reduced pixels; the box widens it."""
        return math.sqrt((fwhm_px / 2.3548) ** 2 + self.bin**2 / 12) / self.bin


@dataclass(frozen=True, eq=False)
class Residual:
    """A frame beside the mean.

    Attributes
    ----------
    sigmas : (H, W) float32, residuals in units of the pixel's own scatter; 0 where nothing is known.
    coarse : (H // 2, W // 2) float32, sums of 2 x 2 of them, sigma 1.
    points : (H, W) int8, filtered for points of light, in sixteenths of sigma.
    sigma_adu : of a reduced pixel of sky, on the reference's scale.
    """

    sigmas: np.ndarray
    coarse: np.ndarray
    points: np.ndarray
    sigma_adu: float


@dataclass(frozen=True, eq=False)
class Trails:
    """The light of a night's streaks: at each place the brightest of them.

    Attributes
    ----------
    light : (H, W) float32, ADU on the reference's scale, 0 where nothing passed.
    """

    light: np.ndarray
    grid: Grid

    def on_canvas(self, onto: np.ndarray, width: int, height: int) -> np.ndarray:
        """(height, width) float32, of a canvas to whose pixels `onto` (3, 3) leads from the reference's."""
        back = np.linalg.inv(onto)
        first, second = back @ (0, 0, 1), back @ (1, 0, 1)
        (x, y), (x1, _) = self.grid.from_reference(np.stack([first[:2], second[:2]]))
        step = x1 - x
        matrix = np.array([[step, 0.0, x], [0.0, step, y]])
        flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
        return np.asarray(cv2.warpAffine(self.light, matrix, (width, height), flags=flags))


class ReducedNight:
    """The running mean of one group's reduced frames.

    Parameters
    ----------
    fwhm_px : of the reference's stars.

    Attributes
    ----------
    trails : (H, W) float32, ADU, the brightest light of streaks at each place; None before there was one.
    """

    def __init__(self, grid: Grid, fwhm_px: float) -> None:
        self.grid, self.fwhm_px = grid, fwhm_px
        shape = (grid.height, grid.width)
        self.n_frames = 0
        self._mean = np.zeros(shape, dtype=np.float32)
        self._variance = np.ones(shape, dtype=np.float32)
        self._count = np.zeros(shape, dtype=np.uint16)
        self._first = np.zeros((0, 0), dtype=np.float32)
        self.trails: np.ndarray | None = None
        self._room: dict[str, np.ndarray] = {}
        self._mesh = tuple(-(-side // kernel.PIECE) + 1 for side in shape)
        y, x = np.mgrid[: self._mesh[0], : self._mesh[1]] * kernel.PIECE
        self._places = grid.to_reference(np.stack([x.ravel(), y.ravel()], axis=1))
        self._taps = point_filter(grid.psf_sigma(fwhm_px))

    @property
    def mean(self) -> np.ndarray:
        """(H, W) float32, ADU above the sky; 0 where nothing is known."""
        return self._mean

    def lay(
        self, data: np.ndarray, matrix: np.ndarray, distortion: Distortion | None, defects: np.ndarray, bands: Bands
    ) -> np.ndarray:
        """A frame on the reduced grid.

        Parameters
        ----------
        data : (h, w) mono or mosaic, or (3, h, w), float32, ADU.
        matrix, distortion : frame -> reference.
        defects : flat indices of bad pixels of the frame.

        Returns
        -------
        (H, W) float32, ADU, NaN where it shows nothing.
        """
        grid = self.grid
        planes = data if data.ndim == 3 else data[None]
        nodes = np.ascontiguousarray(to_frame(matrix, distortion, self._places).reshape(*self._mesh, 2))
        # frames that wait for each other before there is a mean are kept; later each takes the place of the one before
        out = self._array("laid") if self.n_frames else np.empty((grid.height, grid.width), dtype=np.float32)
        bands.run(lambda a, b: kernel.reduce_rows(planes, nodes, grid.bin, out, a, b), grid.height)
        if len(defects):
            height, width = planes.shape[1:]
            flat = np.unique(defects % (height * width))
            bad = np.stack([flat % width, flat // width], axis=1).astype(float)
            at = grid.from_reference(to_reference(matrix, distortion, bad))
            for dx, dy in ((-0.5, -0.5), (0.5, -0.5), (-0.5, 0.5), (0.5, 0.5)):
                i, j = np.rint(at[:, 0] + dx * 0.98).astype(int), np.rint(at[:, 1] + dy * 0.98).astype(int)
                inside = (i >= 0) & (j >= 0) & (i < grid.width) & (j < grid.height)
                out[j[inside], i[inside]] = np.nan
        return out

    def begin(self, held: list[tuple[np.ndarray, float]], bands: Bands) -> None:
        """The mean and the scatter of the first frames, each with its factor."""
        frames = np.empty((len(held), *self._mean.shape), dtype=np.float32)
        # the sky of each beside that of the first: what stays is part of the mean, a nebula and a gradient, too
        first, its_factor = held[0]
        start, all_known = np.float32(its_factor) * first, np.ones(first.shape, dtype=np.uint16)
        for out, (laid, factor) in zip(frames, held, strict=True):
            level, _ = self._level(laid, factor, start, all_known)
            _subtract(laid, factor, level, out)
        bands.run(lambda a, b: kernel.median_rows(frames, self._mean, self._count, a, b), self.grid.height)
        self._first = self._mean.copy()
        sigma, share = self._structure(frames)
        bands.run(lambda a, b: kernel.prior_rows(self._mean, sigma, share, self._variance, a, b), self.grid.height)

    @property
    def first(self) -> np.ndarray:
        """(H, W) float32, ADU, the mean of the first frames."""
        return self._first

    @property
    def usual_known(self) -> np.ndarray:
        """(H, W) bool, True where most frames showed something."""
        return np.asarray(2 * self._count >= self._count.max(initial=0))

    @property
    def taps(self) -> np.ndarray:
        """(2 r + 1,) float32, the separable filter for points of light."""
        return self._taps

    @property
    def stars(self) -> np.ndarray:
        """(H, W) bool, True where there was light from the beginning, and residuals scatter more than the sky's."""
        # what moves slowly makes residuals scatter, too, but where there was none
        return np.asarray((self._variance > STAR_VARIANCE) & self.first_lights(self.usual_known))

    def first_lights(self, seen: np.ndarray) -> np.ndarray:
        """(H, W) bool, True within `NEAR_PX` pixels of what stands out of the first frames' mean where that is seen."""
        if self._first.shape != self._mean.shape:
            return np.zeros(self._mean.shape, dtype=bool)
        fine = self._first - cv2.blur(self._first, (EVEN_PX, EVEN_PX))
        some = fine[::3, ::3][seen[::3, ::3]]
        scatter = MAD_SIGMA * float(np.median(np.abs(some))) if len(some) else 0.0
        light = ((np.abs(fine) > LIGHT_SIGMA * scatter) & seen).astype(np.uint8)
        side = 2 * NEAR_PX + 1
        return np.asarray(cv2.dilate(light, np.ones((side, side), dtype=np.uint8)) > 0)

    @property
    def gain(self) -> float:
        """Share of the next frame's residual that the mean will take."""
        return 1.0 / (min(self.n_frames, FORGETS_AFTER) + 1)

    def add(self, laid: np.ndarray, factor: float, bands: Bands, learn: bool = True) -> Residual:
        """What a frame shows beside the mean; the frame then belongs to it.

        Parameters
        ----------
        laid : (H, W) float32 as `lay` returns it; factor : brings it to the reference's brightness.
        learn : False for a frame that the mean was begun with.
        """
        count = None if learn else self._count.copy()
        height, width = self._mean.shape
        level, sigma = self._level(laid, factor, self._mean, self._count)
        sigmas = self._array("sigmas")
        coarse = self._array("coarse", (height // 2, width // 2))
        rows, columns = -(-height // kernel.BLOCK), -(-width // kernel.BLOCK)
        sums = np.zeros((rows, columns, 2), dtype=np.float32)
        bands.run(
            lambda a, b: kernel.residual_rows(
                laid, factor, level, MESH_PX, sigma, self._count, self._mean, self._variance, FORGETS_AFTER,
                float(learn), sigmas, coarse, sums, a, b,
            ),
            rows,
        )  # fmt: skip
        some = np.empty((height // SOME, width), dtype=np.float32)
        kernel.filter_some(sigmas, self._taps, SOME, some)
        scale = 1.0 / max(_scatter(some[:, ::8]), 0.3)
        around = _around(sums)
        weight = 0.5 * float(self._taps.sum()) ** 2
        points = self._array("points", dtype=np.int8)
        bands.run(lambda a, b: kernel.point_rows(sigmas, self._taps, around, weight, scale, points, a, b), height)
        coarse *= np.float32(1.0 / max(_scatter(coarse[::16, ::4]), 0.5))
        if count is not None:
            self._count = count
        self.n_frames += 1
        return Residual(sigmas, coarse, points, sigma)

    def keep_trail(self, residual: Residual, ends: np.ndarray, reach: float) -> None:
        """Let the light of a streak of the frame that was added last into the picture of the night's trails.

        Parameters
        ----------
        ends : (2, 2) of the streak, reduced pixels; reach : so far to its side.
        """
        if self.trails is None:
            self.trails = np.zeros(self._mean.shape, dtype=np.float32)
        kernel.keep_trail(
            residual.sigmas, self._variance, residual.sigma_adu, *np.ravel(ends), reach, TRAIL_SIGMA, self.trails
        )

    def state(self) -> dict[str, Any]:
        """What `restored` needs."""
        return {
            "grid": (self.grid.bin, self.grid.width, self.grid.height), "fwhm": self.fwhm_px, "n": self.n_frames,
            "mean": self._mean, "variance": self._variance, "count": self._count, "first": self._first,
            "trails": self.trails,
        }  # fmt: skip

    @staticmethod
    def restored(state: Mapping[str, Any]) -> ReducedNight:
        """From what `state` returned."""
        night = ReducedNight(Grid(*state["grid"]), state["fwhm"])
        night.n_frames = state["n"]
        night._mean = np.array(state["mean"], dtype=np.float32)
        night._variance = np.array(state["variance"], dtype=np.float32)
        night._count = np.array(state["count"], dtype=np.uint16)
        night._first = np.array(state["first"], dtype=np.float32)
        night.trails = None if state["trails"] is None else np.array(state["trails"], dtype=np.float32)
        return night

    def _array(self, name: str, shape: tuple[int, int] | None = None, dtype: type = np.float32) -> np.ndarray:
        """Room that is used again by each frame, of the mean's shape unless told otherwise."""
        if name not in self._room:
            self._room[name] = np.zeros(self._mean.shape if shape is None else shape, dtype=dtype)
        return self._room[name]

    def _level(
        self, laid: np.ndarray, factor: float, beside: np.ndarray, count: np.ndarray
    ) -> tuple[np.ndarray, float]:
        """The sky of a frame beside another picture on a mesh (gy, gx) float32, and the sigma of a reduced pixel of it.

        `beside` is of the shape of `laid`, and known where `count` is not 0.
        """
        height, width = laid.shape
        rows, columns = -(-height // MESH_PX), -(-width // MESH_PX)
        blocks = np.empty((rows * columns, (MESH_PX // DOWN) * (MESH_PX // ALONG)), dtype=np.float32)
        n = np.zeros(rows * columns, dtype=np.int64)
        kernel.differences_in_blocks(laid, factor, beside, count, MESH_PX, DOWN, ALONG, blocks, n)
        blocks.sort(axis=1)
        enough = n >= 64
        if not enough.any():
            return np.zeros((rows + 1, columns + 1), dtype=np.float32), 1.0
        index = np.arange(len(blocks))
        middle = blocks[index, np.minimum(n // 2, blocks.shape[1] - 1)]
        low, high = blocks[index, (0.1587 * n).astype(int)], blocks[index, (0.8413 * n).astype(int)]
        sigma = float(np.median(0.5 * (high[enough] - low[enough])))
        values = np.where(enough, middle, np.nan).reshape(rows, columns)
        return _nodes(values), max(sigma, 1e-6)

    def _structure(self, frames: np.ndarray) -> tuple[float, float]:
        """Sigma of the sky of the first frames, and the share of the local range by which they differ at stars."""
        part = frames[:, ::2, ::2] - self._mean[::2, ::2]
        sigma = MAD_SIGMA * float(np.nanmedian(np.abs(part[:, ::4, ::4]))) or 1.0
        mean = self._mean
        spread = np.zeros_like(mean)
        spread[1:-1, 1:-1] = np.maximum(
            np.abs(mean[2:, 1:-1] - mean[:-2, 1:-1]), np.abs(mean[1:-1, 2:] - mean[1:-1, :-2])
        )
        spread = spread[::2, ::2]
        steep = spread > 25 * sigma
        share = STRUCTURE
        if steep.sum() >= 50:
            ratio = np.abs(part[:, steep]) / spread[steep]
            share = MAD_SIGMA * float(np.nanmedian(ratio))
        return sigma, float(np.clip(1.3 * share, 0.03, 0.4))


def point_filter(sigma: float) -> np.ndarray:
    """(2 r + 1,) float32, separable, for stars of that sigma, reduced pixels; white noise keeps its scatter."""
    reach = 1 if sigma < 1.0 else 2
    taps = np.exp(-0.5 * (np.arange(-reach, reach + 1) / sigma) ** 2)
    return np.asarray(taps / math.sqrt((taps**2).sum()), dtype=np.float32)


def filtered_sigma(sigma: float) -> float:
    """Of a star of that sigma after `point_filter`."""
    taps = point_filter(sigma).astype(float)
    along = np.arange(len(taps)) - len(taps) // 2
    return math.sqrt(sigma**2 + float((taps * along**2).sum() / taps.sum()))


def _nodes(values: np.ndarray) -> np.ndarray:
    """(gy + 1, gx + 1) float32 corners of cells from their middles (gy, gx); cells without a value take others'."""
    known = np.isfinite(values)
    y, x = np.mgrid[: values.shape[0], : values.shape[1]].astype(float)
    terms = np.stack([np.ones_like(x), x - x.mean(), y - y.mean()])
    if known.sum() >= 6:  # a slope goes on beyond the middles of the outermost cells
        plane = np.tensordot(np.linalg.lstsq(terms[:, known].T, values[known], rcond=None)[0], terms, 1)
    else:
        plane = np.full_like(x, float(np.median(values[known])))
    rest = np.where(known, values - plane, 0.0)
    filled = rest.copy()
    for _ in range(0 if known.all() else 3):  # cells without a value are like their neighbours
        weight = cv2.boxFilter(known.astype(float), -1, (3, 3), normalize=False, borderType=cv2.BORDER_CONSTANT)
        total = cv2.boxFilter(filled, -1, (3, 3), normalize=False, borderType=cv2.BORDER_CONSTANT)
        filled = np.where(known, filled, total / np.maximum(weight, 1e-9))
        known = known | (weight > 0)
    padded = np.pad(filled, 1, mode="edge")
    corners = 0.25 * (padded[:-1, :-1] + padded[1:, :-1] + padded[:-1, 1:] + padded[1:, 1:])
    by_plane = np.pad(plane, ((0, 1), (0, 1)), mode="reflect", reflect_type="odd")
    step_x, step_y = plane[0, -1] - plane[0, -2], plane[-1, 0] - plane[-2, 0]
    corners += by_plane - 0.5 * (step_x + step_y)
    return np.ascontiguousarray(corners, dtype=np.float32)


def _around(sums: np.ndarray) -> np.ndarray:
    """Mean of the coarse residuals in each block and its neighbours, from their sums and numbers (gy, gx, 2)."""
    total = cv2.boxFilter(sums, -1, (3, 3), normalize=False, borderType=cv2.BORDER_CONSTANT)
    return np.asarray(total[..., 0] / np.maximum(total[..., 1], 1.0))


def _subtract(laid: np.ndarray, factor: float, level: np.ndarray, out: np.ndarray) -> None:
    """out = factor * laid - level."""
    sky = np.empty(laid.shape[1], dtype=np.float32)
    for y in range(laid.shape[0]):
        kernel.level_row(level, float(y), MESH_PX, sky)
        out[y] = laid[y] * np.float32(factor) - sky


def _scatter(image: np.ndarray) -> float:
    """Robust sigma of an image about 0, where it is not exactly 0."""
    part = image.ravel()
    part = part[part != 0]
    if len(part) < 50:
        return 1.0
    return MAD_SIGMA * float(np.median(np.abs(part)))
