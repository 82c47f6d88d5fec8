"""Defective pixels: repairing known ones, learning unknown ones while running, and cosmic rays in a single frame.

`repair` works before debayering, so that a hot pixel does not become a coloured cross. `DefectLearner` counts, for each
camera pixel, in how many frames it stood out from its same-colour neighbours. What belongs to the sky moves with it: a
star can stand out at one pixel only in those frames in which the camera pointed within a pixel or two of the same
place. The learner therefore demands more appearances than that, and than several stars can account for by chance. As
long as the field has not moved, it believes only pixels sharper than any optics can make them.

`find_cosmic_rays` is van Dokkum's method (2001, PASP 113, 1420, doi:10.1086/323894); off by default, since the stack's
rejection sees cosmic rays better. Defects seen in darks and flats are found by `calibration.masters`.
"""

from __future__ import annotations

import itertools
from math import comb

import numpy as np

from livestack.calibration.defects import DefectMap
from livestack.kernels import cosmetic as kernels
from livestack.kernels import cosmic_rays as ray_kernels
from livestack.kernels.bands import Bands, run_bands

MIN_SIDE = 8
STAND_OUT_SIGMA = 3.5
MIN_OBSERVATIONS = 6
NOISE_PAIRS = 250
"""Pairs of a row whose difference is taken; of some 24 rows, they give the noise to one or two percent."""
LOOK_GROWTH = 1.15
MIN_SHARE = 0.6
"""A defect stands out in at least this share of the observations: noise hides weak ones at times, stars cover some."""
CHANCE = 0.1
CROWDING = 3.0
"""Stars are not spread evenly: how much more crowded than the average the crowded part of a field is."""
MIN_STATIC_OBSERVATIONS = 8
MIN_STATIC_SHARE = 0.8
MAX_OBSERVATIONS = 120
"""Counters are halved then: they are 8-bit, and a sensor that warms up grows new defects."""
SHARED_PX = {1: 1.25, 2: 3.5}
"""Positions of the sky closer than this can show the same star at the same pixel. Measured on noise-free stars of FWHM
1.2 to 5 px: one stands out at pixels up to 0.5 px from its centre (mono), 2.1 px (mosaic, neighbours 2 px apart)."""
SEGMENT_ROWS = 512
COLUMN_SIGMA = 4.5


def repair(data: np.ndarray, defects: DefectMap, bayer: str | None) -> int:
    """Replace each defect by the median of the nearest good pixels of its colour, in place.

    Parameters
    ----------
    data : (H, W) float32 mono or mosaic, or (3, H, W) colour, each plane of which is repaired; ADU.
    defects : of the same sensor. Across a bad column the neighbours left and right are used, since those above and
        below are bad themselves.
    bayer : mosaic pattern, or None.

    Returns
    -------
    Number of pixels repaired. A pixel without any good neighbour within four rings becomes NaN and is not counted.

    Raises
    ------
    ValueError : shapes differ, or `data` is not C-contiguous float32.
    """
    if data.dtype != np.float32 or not data.flags.c_contiguous:
        raise ValueError(f"data: expected C-contiguous float32, found {data.dtype}; calibrate it first.")
    if data.shape[-2:] != defects.shape:
        raise ValueError(f"defects: of a sensor of {defects.shape}, data are {data.shape[-2:]} (rows, columns).")
    if not len(defects):
        return 0
    green_parity = _green_parity(bayer)
    failed = 0
    for plane in data.reshape(-1, *data.shape[-2:]):
        failed = kernels.repair_pixels(plane, defects.mask, defects.indices, bayer is not None, green_parity)
    return len(defects) - failed


def estimate_noise(data: np.ndarray, bayer: str | None) -> np.ndarray:
    """Pixel noise by the parity of row and column, from differences of same-colour neighbours in a sample of rows.

    Parameters
    ----------
    data : (H, W) float32, ADU.

    Returns
    -------
    (2, 2) float32: 1.4826 x median |difference| / sqrt(2), ADU; where the picture is textured, an upper bound.
    """
    height, width = data.shape
    step = 1 if bayer is None else 2
    down, across = 2 * max(1, height // 48), step * max(1, width // (NOISE_PAIRS * step))
    sigmas = np.empty((2, 2), np.float32)
    for j in range(2):
        for i in range(step):
            left, right = data[j::down, i : width - step : across], data[j::down, i + step :: across]
            jumps = np.abs(right - left)
            jumps = jumps[np.isfinite(jumps)]
            sigmas[j, i:] = np.median(jumps) * 1.4826 / np.sqrt(2.0) if len(jumps) else np.nan
    if bayer is None:
        sigmas[:] = np.nanmean(sigmas) if np.isfinite(sigmas).any() else np.nan
    return sigmas


class DefectLearner:
    """Learns hot and cold pixels and bad columns from the lights themselves.

    Parameters
    ----------
    shape : (H, W) of the frames.
    bayer : mosaic pattern, or None.

    Notes
    -----
    Two bytes a pixel. What has been learned stays learned, so frames may be handed over repaired or not.
    """

    def __init__(self, shape: tuple[int, int], bayer: str | None = None) -> None:
        if min(shape) < MIN_SIDE:
            raise ValueError(f"shape: expected {MIN_SIDE} x {MIN_SIDE} or more, found {shape}.")
        self.shape = shape
        self.bayer = bayer
        self._step = 1 if bayer is None else 2
        self._green_parity = _green_parity(bayer)
        self._score = np.zeros(shape, np.int8)
        self._sharp = np.zeros(shape, np.uint8)
        n_segments = max(1, shape[0] // SEGMENT_ROWS)
        self._edges = np.linspace(0, shape[0], n_segments + 1).astype(np.int64)
        self._column_score = np.zeros((n_segments, shape[1]), np.int8)
        self._positions: list[tuple[float, float]] = []
        self._shares: list[float] = []
        self._known = DefectMap.of(shape)
        self._next_look = MIN_OBSERVATIONS

    @property
    def observations(self) -> int:
        """How many frames the counters stand for."""
        return len(self._positions)

    def update(self, frame: np.ndarray, shift_px: tuple[float, float], bands: Bands | None = None) -> None:
        """Look at one more frame.

        Parameters
        ----------
        frame : (H, W) float32, calibrated, not debayered, ADU.
        shift_px : (dx, dy) by which the sky moved over the sensor since the frame handed over last, in pixels; the sign
            does not matter as long as it stays the same. Frames whose shift is unknown should not be handed over.

        Raises
        ------
        ValueError : shape or dtype is not as above, or the shift is not finite.
        """
        if frame.shape != self.shape or frame.dtype != np.float32 or not frame.flags.c_contiguous:
            raise ValueError(f"frame: expected C-contiguous float32 {self.shape}, found {frame.dtype} {frame.shape}.")
        if not np.all(np.isfinite(shift_px)):
            raise ValueError(f"shift_px: expected two finite numbers, found {shift_px}.")
        if self.observations >= MAX_OBSERVATIONS:
            self._halve()
        x, y = self._positions[-1] if self._positions else (0.0, 0.0)
        self._positions.append((x + float(shift_px[0]), y + float(shift_px[1])))

        sigmas = estimate_noise(frame, self.bayer)
        if not np.all(np.isfinite(sigmas)):
            self._shares.append(0.0)
            return
        score, sharp, step = self._score, self._sharp, self._step

        counts: list[int] = []

        def work(y0: int, y1: int) -> None:
            counts.append(kernels.observe_rows(frame, step, sigmas, STAND_OUT_SIGMA, score, sharp, y0, y1))

        run_bands(bands, work, self.shape[0])
        self._shares.append(sum(counts) / frame.size)
        self._observe_columns(frame, bands)
        if self.observations >= self._next_look:
            self._look_through()
            self._next_look = self._look_after(self.observations)

    @staticmethod
    def _look_after(n: int) -> int:
        """Looking through all counters takes longer than counting: 6, 7, 9, 11, 13, 15, 18, 21, 25 ... observations."""
        return int(np.ceil(LOOK_GROWTH * n))

    def _observe_columns(self, frame: np.ndarray, bands: Bands | None) -> None:
        """Count a column's segment when it exceeds its neighbours in far more rows than noise would make it."""
        above = np.zeros(self._column_score.shape, np.int32)
        below = np.zeros_like(above)

        def work(s0: int, s1: int) -> None:
            kernels.count_column_sides(frame, self._step, self._edges, above, below, s0, s1)

        run_bands(bands, work, len(above))
        heights = np.diff(self._edges)
        looked_at = heights // 16 * 2 + np.minimum(heights % 16, 2)
        # Of five equally noisy pixels, one is the first or second in 2/5 of the rows.
        limit = (0.4 + COLUMN_SIGMA * np.sqrt(0.24 / looked_at)) * looked_at
        self._column_score += (above > limit[:, None]).astype(np.int8)
        self._column_score -= (below > limit[:, None]).astype(np.int8)

    def largest_group(self) -> int:
        """In how many frames one star can have stood out at one and the same pixel."""
        if not self._positions:
            return 0
        p = np.array(self._positions)
        near = np.hypot(*(p[:, None, :] - p[None, :, :]).transpose(2, 0, 1)) <= SHARED_PX[self._step]
        return int(near.sum(axis=1).max())

    def appearances_needed(self) -> int:
        """In how many frames a pixel has to stand out before stars cannot be the reason; may be more than there were.

        One star accounts for no more than the largest group of frames. Several stars, one after the other at the same
        pixel, account for more: so many appearances are demanded that less than `CHANCE` pixels of the whole sensor are
        expected to have them by chance, given the share of pixels that stand out in a frame and are not
        the same ones every time.
        """
        n, group = self.observations, max(self.largest_group(), 1)
        groups = int(np.ceil(n / group))
        need = max(int(np.ceil(MIN_SHARE * n)), group + 2, 5)
        lasting = np.count_nonzero(self._score >= need) / self._score.size
        share = min(1.0, CROWDING * max(float(np.median(self._shares)) - lasting, 0.0))
        while need <= n:
            stars = min(int(np.ceil(need / group)), groups)
            if comb(groups, stars) * share**stars * self._score.size < CHANCE:
                break
            need += 1
        return need

    def defects(self) -> DefectMap:
        """All defects learned so far; the same object until there are more."""
        return self._known

    def _look_through(self) -> None:
        """Take in the pixels that have stood out often enough by now."""
        n, need = self.observations, self.appearances_needed()
        hot = np.zeros(0, np.int64)
        cold, column = hot, np.zeros(self.shape, bool)
        if need <= n:
            hot = np.flatnonzero(self._score >= need)
            cold = np.flatnonzero(self._score <= -need)
            for s, (y0, y1) in enumerate(itertools.pairwise(self._edges)):
                column[y0:y1, np.abs(self._column_score[s]) >= need] = True
        if n >= MIN_STATIC_OBSERVATIONS:
            hot = np.union1d(hot, np.flatnonzero(self._sharp >= max(MIN_STATIC_SHARE * n, MIN_STATIC_OBSERVATIONS)))
        found = self._known | DefectMap.of(self.shape, hot, cold, column)
        if len(found) > len(self._known):
            self._known = found

    def _halve(self) -> None:
        self._score //= 2
        self._sharp //= 2
        self._column_score //= 2
        self._positions = self._positions[1::2]
        self._shares = self._shares[1::2]
        self._next_look = self._look_after(self.observations)


def find_cosmic_rays(
    data: np.ndarray,
    noise: float | np.ndarray,
    bayer: str | None = None,
    limit_sigma: float = 4.5,
    contrast: float = 8.0,
    bands: Bands | None = None,
) -> np.ndarray:
    """Pixels hit by cosmic rays, by their edges, sharper than those of stars (van Dokkum 2001, one iteration).

    Parameters
    ----------
    data : (H, W) float32 mono or mosaic, ADU; each colour of a mosaic is looked at on its own.
    noise : standard deviation of a pixel, ADU: a number, or (H, W) float32.
    bayer : mosaic pattern, or None.
    limit_sigma : how far the Laplacian must stand out. Neighbours of a hit count from half of it.
    contrast : least ratio of the Laplacian to the symmetric fine structure; larger spares sharper stars.

    Returns
    -------
    (H, W) bool, True = hit. Pixels that are NaN are never marked.
    """
    if data.ndim != 2 or min(data.shape) < MIN_SIDE or data.dtype != np.float32:
        raise ValueError(f"data: expected (H, W) float32 of 8 x 8 or more, found {data.dtype} {data.shape}.")
    sigma = np.ascontiguousarray(np.atleast_2d(np.asarray(noise, np.float32)))
    if sigma.shape not in ((1, 1), data.shape) or not np.all(sigma > 0):
        raise ValueError(f"noise: expected a positive number or an array {data.shape} of them, found {sigma.shape}.")
    data = np.ascontiguousarray(data)
    step = 1 if bayer is None else 2
    edges = np.empty(data.shape, np.float32)
    core = np.zeros(data.shape, bool)
    mask = np.zeros(data.shape, bool)
    h = data.shape[0]
    run_bands(bands, lambda y0, y1: ray_kernels.edge_rows(data, sigma, step, edges, y0, y1), h)
    run_bands(
        bands, lambda y0, y1: ray_kernels.mark_rows(data, edges, sigma, step, limit_sigma, contrast, core, y0, y1), h
    )
    run_bands(bands, lambda y0, y1: ray_kernels.grow_rows(edges, core, step, 0.5 * limit_sigma, mask, y0, y1), h)
    return mask


def _green_parity(bayer: str | None) -> int:
    """(y + x) & 1 of the green pixels."""
    return 0 if bayer is not None and bayer[0] == "G" else 1
