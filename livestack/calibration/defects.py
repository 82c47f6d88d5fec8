"""The word for what is wrong with a sensor: which pixels and columns not to trust, in camera coordinates.

Found by `calibration.masters` (in darks and flats) or `calibration.cosmetic` (while running), which repairs them.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np


@dataclass(frozen=True, eq=False)
class DefectMap:
    """Defective pixels of a sensor.

    Attributes
    ----------
    shape : (H, W) of the sensor as read.
    hot, cold, column : sorted flat indices (int64, row x W + column) of hot pixels, of cold or dead pixels, and of the
        pixels of defective columns. A pixel may be in more than one.
    """

    shape: tuple[int, int]
    hot: np.ndarray
    cold: np.ndarray
    column: np.ndarray

    @classmethod
    def of(
        cls,
        shape: tuple[int, int],
        hot: np.ndarray | None = None,
        cold: np.ndarray | None = None,
        column: np.ndarray | None = None,
    ) -> DefectMap:
        """From masks (H, W) of bool (True = bad) or flat indices in any order; None = none of that kind.

        Raises
        ------
        ValueError : a mask has another shape, or an index lies outside.
        """
        return cls(shape, *(_indices(part, shape) for part in (hot, cold, column)))

    @cached_property
    def indices(self) -> np.ndarray:
        """All defects: sorted flat indices, int64, each once."""
        return np.union1d(np.union1d(self.hot, self.cold), self.column)

    @cached_property
    def mask(self) -> np.ndarray:
        """(H, W) bool, True = bad."""
        mask = np.zeros(self.shape, bool)
        mask.reshape(-1)[self.indices] = True
        return mask

    def __len__(self) -> int:
        return len(self.indices)

    def __or__(self, other: DefectMap) -> DefectMap:
        """The defects of both."""
        if self.shape != other.shape:
            raise ValueError(f"defects: of sensors of different shape, {self.shape} and {other.shape}.")
        if not len(other) or other is self:
            return self
        if not len(self):
            return other
        pairs = ((self.hot, other.hot), (self.cold, other.cold), (self.column, other.column))
        return DefectMap(self.shape, *(np.union1d(a, b) for a, b in pairs))

    def crop(self, y0: int, y1: int, x0: int, x1: int) -> DefectMap:
        """The defects of rows y0 .. y1 and columns x0 .. x1, in that part's own coordinates."""

        def inside(indices: np.ndarray) -> np.ndarray:
            first, last = np.searchsorted(indices, [y0 * self.shape[1], y1 * self.shape[1]])
            y, x = np.divmod(indices[first:last], self.shape[1])
            keep = (x >= x0) & (x < x1)
            return np.asarray((y[keep] - y0) * (x1 - x0) + (x[keep] - x0))

        return DefectMap((y1 - y0, x1 - x0), inside(self.hot), inside(self.cold), inside(self.column))

    def describe(self) -> str:
        """How we speak of it: "312 hot, 4 cold pixels, 976 in bad columns"."""
        return f"{len(self.hot)} hot, {len(self.cold)} cold pixels, {len(self.column)} in bad columns"


def _indices(part: np.ndarray | None, shape: tuple[int, int]) -> np.ndarray:
    if part is None:
        return np.empty(0, np.int64)
    part = np.asarray(part)
    if part.dtype == bool:
        if part.shape != shape:
            raise ValueError(f"mask: expected shape {shape}, found {part.shape}.")
        return np.flatnonzero(part).astype(np.int64)
    indices = np.unique(part.astype(np.int64))
    if len(indices) and (indices[0] < 0 or indices[-1] >= shape[0] * shape[1]):
        raise ValueError(f"indices: expected 0 .. {shape[0] * shape[1] - 1}, found {indices[0]} .. {indices[-1]}.")
    return indices
