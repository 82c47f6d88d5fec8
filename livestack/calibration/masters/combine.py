"""Averaging many frames in the memory of a few, without their extremes.

The first frames are held and clipped about their median; each later one is folded in and let go. See
`kernels.combine` for the limits.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from livestack.kernels.bands import Bands, run_bands
from livestack.kernels.combine import fold_rows, start_rows

KAPPA = 4.0
HELD_BYTES = 1_000_000_000
MIN_HELD, MAX_HELD = 5, 15


@dataclass(frozen=True, eq=False)
class Combined:
    """The average of some frames.

    Attributes
    ----------
    mean : float32, NaN where no frame had data.
    variance : float32, sample variance of what was accepted; NaN where fewer than two were.
    n_frames : how many frames.
    rejected : share of samples clipped, 0 to 1.
    noise : noise of one frame, in the unit of the frames.
    """

    mean: np.ndarray
    variance: np.ndarray
    n_frames: int
    rejected: float
    noise: float


class Combiner:
    """Takes frames one at a time; memory is that of at most fifteen (fewer when they are large), whatever their number.

    Parameters
    ----------
    shape : (H, W) or (3, H, W) of the frames.
    expected : how many frames will come, if known: no more are held.
    """

    def __init__(self, shape: tuple[int, ...], expected: int = MAX_HELD, bands: Bands | None = None) -> None:
        room = int(np.clip(HELD_BYTES // (4 * int(np.prod(shape))), MIN_HELD, MAX_HELD))
        self.shape = shape
        self._flat_shape = (int(np.prod(shape[:-1])), shape[-1])
        self._held = np.empty((max(1, min(room, expected)), *self._flat_shape), np.float32)
        self._bands = bands
        self._n = 0
        self._noise = 0.0
        self._mean = np.empty(self._flat_shape, np.float32)
        self._m2 = np.empty(self._flat_shape, np.float32)
        self._count = np.empty(self._flat_shape, np.int32)

    def add(self, frame: np.ndarray) -> None:
        """One more frame: float32, of the given shape, C-contiguous."""
        if frame.shape != self.shape:
            raise ValueError(f"frame: expected shape {self.shape}, found {frame.shape}.")
        rows = frame.reshape(self._flat_shape)
        if self._n < len(self._held):
            self._held[self._n] = rows
            self._n += 1
            if self._n == len(self._held):
                self._start()
            return

        def work(y0: int, y1: int) -> None:
            fold_rows(rows, self._noise, KAPPA, self._mean, self._m2, self._count, y0, y1)

        run_bands(self._bands, work, len(rows))
        self._n += 1

    def _start(self) -> None:
        held = self._held[: self._n]
        self._noise = pair_noise(held)

        def work(y0: int, y1: int) -> None:
            start_rows(held, self._noise, KAPPA, self._mean, self._m2, self._count, y0, y1)

        run_bands(self._bands, work, held.shape[1])

    def result(self) -> Combined:
        """The average so far.

        Raises
        ------
        ValueError : no frame was added.
        """
        if self._n == 0:
            raise ValueError("frames: expected one or more, found none.")
        if self._n < len(self._held):
            self._start()
        with np.errstate(invalid="ignore", divide="ignore"):
            variance = self._m2 / (self._count - 1)
        variance[self._count < 2] = np.nan
        rejected = 1 - float(self._count.sum(dtype=np.int64)) / (self._n * self._count.size)
        return Combined(
            self._mean.reshape(self.shape).copy(), variance.reshape(self.shape), self._n, rejected, self._noise
        )


def pair_noise(frames: np.ndarray) -> float:
    """Noise of one frame, from the differences of neighbouring frames on a grid of pixels; 0 for a single frame.

    By the 68 % quantile: the median of differences is zero where a camera counts in coarse steps.
    """
    if len(frames) < 2:
        return 0.0
    pairs = [frames[i + 1, ::5, ::5] - frames[i, ::5, ::5] for i in range(min(len(frames) - 1, 4))]
    spreads = [0.0]
    for pair in pairs:
        if not np.isfinite(pair).any():
            continue
        jumps = np.abs(pair - np.nanmedian(pair))
        spread = float(np.nanquantile(jumps, 0.6827))
        spreads.append(spread if spread > 0 else float(np.nanstd(jumps)))
    return float(np.median(spreads[1:] or spreads)) / 2**0.5
