"""A few bands of rows that stand for a large image: the PSF of a running stack need not be looked for in every pixel.

The bands are spread evenly from the top to the bottom, so that the field map keeps its reach; together they make an
image of their own, whose seams no star may touch.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

BAND_ROWS = 256
SAMPLE_PIXELS = 4e6


@dataclass(frozen=True, eq=False)
class RowSample:
    """Bands of `BAND_ROWS` rows, the first of each in `starts` (n,), of an image that is `height` high."""

    starts: np.ndarray
    height: int

    @property
    def share(self) -> float:
        """Of the image's rows."""
        return len(self.starts) * BAND_ROWS / self.height

    @property
    def seams(self) -> np.ndarray:
        """(n - 1,) y of the seams in the image of bands."""
        return BAND_ROWS * np.arange(1, len(self.starts)) - 0.5

    def take(self, rows: Callable[[slice], np.ndarray]) -> np.ndarray:
        """The image of bands; `rows` gives (BAND_ROWS, W) of the whole."""
        return np.concatenate([rows(slice(int(y), int(y) + BAND_ROWS)) for y in self.starts])

    def true_y(self, y: np.ndarray) -> np.ndarray:
        """y in the whole image of y in the image of bands."""
        band = np.clip((y + 0.5) // BAND_ROWS, 0, len(self.starts) - 1).astype(int)
        return np.asarray(y + self.starts[band] - BAND_ROWS * band)


def plan_sample(height: int, width: int) -> RowSample | None:
    """Bands for an image of this size; None where it is small enough to be looked at as a whole."""
    count = math.ceil(SAMPLE_PIXELS / (BAND_ROWS * width))
    if count < 2 or 2 * count * BAND_ROWS > height:
        return None
    return RowSample(np.linspace(0, height - BAND_ROWS, count).round().astype(int), height)
