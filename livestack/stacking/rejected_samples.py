"""Which samples of a frame were refused, compressed, and what became of all of them."""

from __future__ import annotations

import zlib
from dataclasses import dataclass

import numpy as np

from livestack.kernels.sample_rows import HIGH, LOW
from livestack.stacking.canvas import Canvas


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


def entries_of(codes: np.ndarray, start: int) -> np.ndarray:
    """Sorted int64 entries (flat index * 2 + high) of a strip's rejected samples; it begins at flat index `start`."""
    flat = codes.ravel()
    local = np.flatnonzero(flat)
    return (local + start) * 2 + (flat[local] == HIGH)


def codes_of(entries: np.ndarray, start: int, shape: tuple[int, int]) -> np.ndarray:
    """The strip's (rows, W) uint8 codes again."""
    codes = np.zeros(shape[0] * shape[1], dtype=np.uint8)
    first, last = np.searchsorted(entries, [start * 2, (start + codes.size) * 2])
    part = entries[first:last]
    codes[(part >> 1) - start] = np.where(part & 1, HIGH, LOW)
    return codes.reshape(shape)
