"""Which samples each frame had rejected, on disk: over a night they outgrow memory, and they are seldom asked for.

One file, only ever appended to. An entry is reached by its offset and length, which the frame's `Member` holds; zlib's
own checksum tells when it is not what was written. When the file is made durable is the checkpoint's to say.
"""

from __future__ import annotations

import os
import threading
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np

from livestack.base.durable import DamagedFile, storage_error, sync_file
from livestack.stacking.rejected_samples import RejectedSamples


@dataclass(frozen=True, eq=False)
class StoredSamples(RejectedSamples):
    """Rejected samples that lie in a `MaskStore`.

    Attributes
    ----------
    offset, size : where in the store's file, bytes.
    """

    offset: int = 0
    size: int = 0
    store: MaskStore | None = None

    def unpack(self) -> np.ndarray:
        """(n,) sorted int64 entries.

        Raises
        ------
        DamagedFile : the file does not hold what was written.
        """
        if self.store is None:
            raise ValueError("store: the entry was read from a checkpoint and belongs to no store yet.")
        try:
            entries = RejectedSamples(self.store.read(self.offset, self.size), self.n).unpack()
        except (zlib.error, ValueError) as error:
            raise self.store.damaged(self.offset) from error
        if len(entries) != self.n:
            raise self.store.damaged(self.offset)
        return entries


class MaskStore:
    """The file; safe to use from several threads.

    Parameters
    ----------
    path : of the file; made when it is not there.
    length : bytes of it that are known to be good; what a crash left beyond them is cut off. None begins anew.

    Raises
    ------
    SessionError : it cannot be opened.
    """

    _MODE: ClassVar[int] = os.O_RDWR | os.O_CREAT | getattr(os, "O_BINARY", 0)

    def __init__(self, path: Path, length: int | None = None) -> None:
        self.path = path
        self._lock = threading.Lock()
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._descriptor: int | None = os.open(path, self._MODE, 0o666)
            found = os.fstat(self._descriptor).st_size
            if length is not None and found < length:
                raise self.damaged(found)
            os.ftruncate(self._descriptor, length or 0)
        except OSError as error:
            raise storage_error(path, error) from error
        self.length = length or 0

    def keep(self, samples: RejectedSamples) -> StoredSamples:
        """Append one frame's samples.

        Raises
        ------
        SessionError : disk full, or gone.
        """
        with self._lock:
            offset, pending = self.length, memoryview(samples.packed)
            try:
                os.lseek(self._open(), offset, os.SEEK_SET)
                while pending:
                    pending = pending[os.write(self._open(), pending) :]
            except OSError as error:
                raise storage_error(self.path, error) from error
            self.length += len(samples.packed)
        return StoredSamples(b"", samples.n, samples.canvas, offset, len(samples.packed), self)

    def read(self, offset: int, size: int) -> bytes:
        """The bytes of one entry."""
        with self._lock:
            try:
                os.lseek(self._open(), offset, os.SEEK_SET)
                pieces, left = [], size
                while left and (piece := os.read(self._open(), left)):
                    pieces.append(piece)
                    left -= len(piece)
            except OSError as error:
                raise storage_error(self.path, error) from error
        return b"".join(pieces)

    def sync(self) -> None:
        """Make durable what was appended so far."""
        try:
            sync_file(self._open())
        except OSError as error:
            raise storage_error(self.path, error) from error

    def close(self) -> None:
        """Close the file; safe to call twice."""
        with self._lock:
            descriptor, self._descriptor = self._descriptor, None
            if descriptor is not None:
                os.close(descriptor)

    def damaged(self, where: int) -> DamagedFile:
        """The error for bytes at `where` that are not what was written."""
        return DamagedFile(f"{self.path}: damaged at byte {where}; the rejected samples of that frame are lost.")

    def _open(self) -> int:
        if self._descriptor is None:
            raise ValueError(f"{self.path}: is closed.")
        return self._descriptor
