"""The residual maps of a night, one byte a reduced pixel: in a file that only grows, or in memory where there is none.

The file is no part of a checkpoint: a checkpoint says how many maps of it belong to it, and what was written later is
cut off when a session goes on from there.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from livestack.kernels import movers as kernel
from livestack.kernels.bands import Bands

APART = 12
"""Frames before and after one that it is not compared with, where there are enough others."""

MOST_IN_FILE, MOST_IN_MEMORY = 3_000_000_000, 500_000_000
"""Bytes; at the end of the night as many again are needed in the same place."""


class MapStore:
    """Maps of one shape, in the order in which they came.

    Parameters
    ----------
    path : of the file; None keeps them in memory.
    shape : (H, W).
    most_bytes : no more are kept than fit; usually `MOST_IN_FILE` or `MOST_IN_MEMORY`.
    """

    def __init__(self, path: Path | None, shape: tuple[int, int], most_bytes: int | None = None) -> None:
        if most_bytes is None:
            most_bytes = MOST_IN_MEMORY if path is None else MOST_IN_FILE
        self._path, self._shape = path, shape
        self._kept: list[np.ndarray] = []
        self._room = max(8, most_bytes // (shape[0] * shape[1]))
        self._n = 0
        if path is not None:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.unlink(missing_ok=True)

    def __len__(self) -> int:
        return self._n

    @staticmethod
    def restored(path: Path | None, shape: tuple[int, int], n: int) -> MapStore | None:
        """A store of the first n maps of a file; None where they are not there any more."""
        size = shape[0] * shape[1] * n
        if path is None or not path.is_file() or path.stat().st_size < size:
            return None
        with path.open("r+b") as file:
            file.truncate(size)
        store = MapStore(None, shape, MOST_IN_FILE)
        store._path, store._n = path, n
        return store

    def append(self, image: np.ndarray) -> bool:
        """Keep a copy of one more (H, W) int8; False where there is no room for it."""
        if self._n >= self._room:
            return False
        if self._path is None:
            self._kept.append(image.copy())
        else:
            with self._path.open("ab") as file:
                file.write(np.ascontiguousarray(image).data)
        self._n += 1
        return True

    def maps(self) -> np.ndarray:
        """(N, H, W) int8; from the file page by page as they are looked at."""
        if self._path is None or not self._n:
            return np.array(self._kept, dtype=np.int8).reshape(self._n, *self._shape)
        return np.memmap(self._path, dtype=np.int8, mode="r", shape=(self._n, *self._shape)).view(np.ndarray)

    def against_end(self, gains: np.ndarray, blind: np.ndarray, bands: Bands) -> np.ndarray:
        """(N, H, W) int8, the maps against the mean of the whole night; see `kernels.movers.refer_to_end`."""
        maps = self.maps()
        apart = min(APART, self._n // 4)
        if self._path is None or not self._n:
            out = np.empty_like(maps)
        else:
            out = np.memmap(self._path.with_suffix(".end"), dtype=np.int8, mode="w+", shape=maps.shape).view(np.ndarray)
        bands.run(lambda a, b: kernel.refer_to_end(maps, gains, apart, blind, out, a, b), self._shape[0])
        return out

    def close(self) -> None:
        """Give the room back."""
        self._kept.clear()
        if self._path is not None:
            self._path.unlink(missing_ok=True)
            self._path.with_suffix(".end").unlink(missing_ok=True)
        self._n = 0
