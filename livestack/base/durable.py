"""Files that survive a crash: atomic replacement, checksums, and the container that a checkpoint is kept in.

A reader finds the old file or the new one, never half of either: write beside it, fsync, rename, fsync the folder. The
container is a JSON header, then each array's raw bytes followed by their BLAKE2b digest (RFC 7693), streamed both ways,
so that saving and loading need no second copy in memory. What is saved, and when, is decided elsewhere.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import secrets
import shutil
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from livestack.base.errors import SessionError

if sys.platform == "darwin":
    import fcntl

TEMPORARY_MARK = ".livestack-tmp"
MAGIC = b"LIVESTACK ARRAYS\n"
FORMAT_VERSION = 1
DIGEST_BYTES = 32
CHUNK_BYTES = 4 << 20
_FULL = {errno.ENOSPC, errno.EDQUOT}
_FORBIDDEN = {errno.EROFS, errno.EACCES, errno.EPERM}
_GONE = {errno.EIO, errno.ENODEV, errno.ENXIO, errno.ENOENT, errno.ESTALE}
_BLOCKED = {errno.EEXIST, errno.ENOTDIR}
NO_SPACE_BYTES = 1 << 20
"""With less than this free, a failure without a number (numpy's and astropy's short writes) is the full disk."""


class DamagedFile(SessionError, ValueError):
    """A file that we wrote does not hold what we wrote into it."""


def free_bytes(path: Path) -> int:
    """Bytes that this user may still write where `path` is or would be; 0 when the place cannot be asked."""
    for place in (path, *path.absolute().parents):
        with suppress(OSError):
            return shutil.disk_usage(place).free
    return 0


def storage_error(path: Path, error: OSError) -> SessionError:
    """The sentence for a write to `path` that failed with `error`: what happened, what is free, what to do."""
    where = f"{path}: cannot be written"
    if error.errno in _FULL or (error.errno is None and free_bytes(path) < NO_SPACE_BYTES):
        found = f"the disk is full or the quota used up ({free_bytes(path) / 1e6:.0f} MB free)"
        remedy = "free some space, then continue with `livestack resume`"
    elif error.errno in _FORBIDDEN:
        found = f"the place is read-only or belongs to someone else ({error.strerror})"
        remedy = "make it writable or choose another folder with --output"
    elif error.errno in _GONE:
        found = f"the folder or its disk is gone ({error.strerror})"
        remedy = "connect it again, then continue with `livestack resume`"
    elif error.errno in _BLOCKED:
        found = "a file is where its folder should be"
        remedy = "choose another folder with --output"
    else:
        found = error.strerror or str(error)
        remedy = "check the disk or choose another folder with --output"
    return SessionError(f"{where}: {found}; {remedy}.")


def sync_file(descriptor: int) -> None:
    """Make the file's bytes reach the disk itself (on macOS, plain fsync stops at the drive's cache)."""
    if sys.platform == "darwin":
        with suppress(OSError):  # network shares do not know it
            fcntl.fcntl(descriptor, fcntl.F_FULLFSYNC)
            return
    os.fsync(descriptor)


def sync_folder(folder: Path) -> None:
    """Make a rename inside `folder` durable, where the system can."""
    if sys.platform == "win32":
        return
    with suppress(OSError):  # several network file systems refuse to sync a folder
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A temporary file beside `path`, for writers that want a name; it replaces `path` when the block ends well.

    The temporary name is hidden and keeps the suffix of `path` (image writers choose the format by it). When the block
    raises, the temporary file is removed and `path` is what it was.

    Raises
    ------
    SessionError
        The folder cannot be made or written, or the disk is full (any OSError inside the block counts as that).
    """
    temporary = path.with_name(f".{path.stem}-{secrets.token_hex(4)}{TEMPORARY_MARK}{path.suffix}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield temporary
        with open(temporary, "rb+") as written:
            sync_file(written.fileno())
        _rename(temporary, path)
        sync_folder(path.parent)
    except OSError as error:
        raise storage_error(path, error) from error
    finally:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)


def write_atomically(path: Path, content: bytes | Callable[[BinaryIO], None]) -> None:
    """Replace `path` by `content`, or by what the callable writes into the open file; all of it or nothing.

    Raises
    ------
    SessionError
        Disk full, place not writable or gone.
    """
    with replacing(path) as temporary, open(temporary, "xb") as file:
        if callable(content):
            content(file)
        else:
            file.write(content)


def remove_leftovers(folder: Path) -> int:
    """Remove temporary files that a crash left anywhere below `folder`; how many there were."""
    leftovers = [path for path in folder.rglob(f".*{TEMPORARY_MARK}*") if path.is_file()]
    for path in leftovers:
        with suppress(OSError):
            path.unlink()
    return len(leftovers)


def checksum_file(path: Path) -> str:
    """BLAKE2b digest of a file's bytes, hexadecimal.

    Raises
    ------
    OSError
        It cannot be read.
    """
    with open(path, "rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.blake2b(digest_size=DIGEST_BYTES)).hexdigest()


def save_arrays(path: Path, arrays: Mapping[str, np.ndarray], meta: Mapping[str, Any]) -> int:
    """Write arrays and a JSON-able `meta` as one atomic, checksummed file; the number of bytes written.

    Raises
    ------
    SessionError
        Disk full, place not writable or gone.
    ValueError
        An array holds Python objects, or `meta` is no JSON (NaN included).
    """
    for name, array in arrays.items():
        if array.dtype.hasobject or array.dtype.names:
            raise ValueError(f"arrays[{name!r}]: expected plain numbers, found dtype {array.dtype}.")
    layout = [{"name": name, "dtype": array.dtype.str, "shape": list(array.shape)} for name, array in arrays.items()]
    header = json.dumps({"version": FORMAT_VERSION, "arrays": layout, "meta": dict(meta)}, allow_nan=False).encode()
    total = len(MAGIC) + 8 + len(header) + DIGEST_BYTES + sum(array.nbytes + DIGEST_BYTES for array in arrays.values())

    def write(file: BinaryIO) -> None:
        file.write(MAGIC + len(header).to_bytes(8, "little") + header + _digest(header))
        for array in arrays.values():
            digest = hashlib.blake2b(digest_size=DIGEST_BYTES)
            for piece in _pieces(array):
                digest.update(piece)
                file.write(piece)
            file.write(digest.digest())

    if 0 < free_bytes(path) < total:  # 0: it cannot be asked, or the first byte will tell
        raise storage_error(path, OSError(errno.ENOSPC, f"{total / 1e6:.0f} MB needed"))
    write_atomically(path, write)
    return total


def load_arrays(path: Path) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """Read back (arrays, meta) of `save_arrays`; every byte is checked.

    Raises
    ------
    DamagedFile
        The file is no such container, of a newer version, cut short, or differs from what was written.
    SessionError
        It cannot be read at all.
    """
    try:
        with open(path, "rb") as file:
            header = _read_header(path, file)
            arrays = {}
            for entry in header["arrays"]:
                array = np.empty(entry["shape"], np.dtype(entry["dtype"]))
                digest = hashlib.blake2b(digest_size=DIGEST_BYTES)
                for piece in _pieces(array):
                    if file.readinto(piece) != len(piece):
                        raise _damaged(path, f"ends inside array {entry['name']!r}")
                    digest.update(piece)
                if file.read(DIGEST_BYTES) != digest.digest():
                    raise _damaged(path, f"array {entry['name']!r} does not match its checksum")
                arrays[entry["name"]] = array
            if file.read(1):
                raise _damaged(path, "goes on after its end")
    except OSError as error:
        raise SessionError(f"{path}: cannot be read: {error.strerror}; check the disk.") from error
    return arrays, header["meta"]


def _rename(source: Path, target: Path) -> None:
    """`os.replace`, patient where a viewer holds the target open (Windows)."""
    attempts = 20 if sys.platform == "win32" else 1
    for attempt in range(attempts):
        try:
            os.replace(source, target)
            return
        except PermissionError:
            if attempt == attempts - 1:
                raise
            time.sleep(0.05)


def _digest(data: bytes) -> bytes:
    return hashlib.blake2b(data, digest_size=DIGEST_BYTES).digest()


def _pieces(array: np.ndarray) -> Iterator[memoryview]:
    """The array's bytes in C order, in pieces; views into it where it is contiguous (then they may be written to)."""
    if array.flags.c_contiguous:
        flat = array.reshape(-1).view(np.uint8).data
        for start in range(0, len(flat), CHUNK_BYTES):
            yield flat[start : start + CHUNK_BYTES]
    else:
        for row in array:  # a strided row at a time: one row is the only copy
            yield from _pieces(np.ascontiguousarray(row))


def _read_header(path: Path, file: BinaryIO) -> dict[str, Any]:
    size = os.fstat(file.fileno()).st_size
    if file.read(len(MAGIC)) != MAGIC:
        raise _damaged(path, "does not begin as one")
    length = int.from_bytes(file.read(8), "little")
    text = file.read(length) if length <= size else b""
    if not text or file.read(DIGEST_BYTES) != _digest(text):
        raise _damaged(path, "its header does not match its checksum")
    header: dict[str, Any] = json.loads(text)
    if header["version"] > FORMAT_VERSION:
        raise DamagedFile(
            f"{path}: written by a newer livestack (format {header['version']}, this one reads {FORMAT_VERSION}); "
            "update livestack."
        )
    return header


def _damaged(path: Path, found: str) -> DamagedFile:
    return DamagedFile(f"{path}: damaged, {found}; expected a file written by livestack: take an older checkpoint.")
