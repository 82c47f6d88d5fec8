"""One process at a time may write into a session's folder: the lock that sees to it.

The system's own file lock decides, because it dies with its process; the file's text names the holder, and decides
where the file system knows no locks or several machines share it. What lies in the folder is not its business.
"""

from __future__ import annotations

import errno
import json
import os
import socket
import sys
import time
import uuid
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from livestack.base.durable import storage_error, sync_file
from livestack.base.errors import UsageError

if sys.platform == "win32":
    import ctypes
    import msvcrt
else:
    import fcntl

LOCK_NAME = "session.lock"
_LOCKED_BYTE = 1 << 30
_NO_LOCKS = {errno.ENOLCK, errno.ENOTSUP, errno.ENOSYS, errno.EINVAL}


def process_alive(pid: int) -> bool:
    """True when a process of this machine has this number."""
    if sys.platform == "win32":  # signal 0 would end it there
        kernel = ctypes.windll.kernel32
        handle = kernel.OpenProcess(0x1000, False, pid)  # PROCESS_QUERY_LIMITED_INFORMATION
        if not handle:
            return bool(kernel.GetLastError() == 5)  # access denied: somebody's, and alive
        code = ctypes.c_ulong()
        kernel.GetExitCodeProcess(handle, ctypes.byref(code))
        kernel.CloseHandle(handle)
        return code.value == 259  # STILL_ACTIVE
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except (PermissionError, OverflowError):
        return isinstance(pid, int) and pid < 1 << 31
    return True


@dataclass(frozen=True)
class LockHolder:
    """Who wrote a lock file."""

    pid: int
    host: str
    machine: int
    """Hardware number: a laptop's host name changes with the network it is in."""
    since: str

    @classmethod
    def this_process(cls) -> LockHolder:
        """Ourselves, from now."""
        since = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
        return cls(os.getpid(), socket.gethostname(), uuid.getnode(), since)

    @classmethod
    def parse(cls, text: str) -> LockHolder | None:
        """Read a lock file's text; None when it says nothing (a crash before it was written)."""
        try:
            held = json.loads(text)
            return cls(int(held["pid"]), str(held["host"]), int(held["machine"]), str(held["since"]))
        except (ValueError, KeyError, TypeError):
            return None

    def is_gone(self, exclusive: bool) -> bool:
        """True when the holder surely runs no more; `exclusive` says that the system gave us the file's lock."""
        here = LockHolder.this_process()
        if here.host != self.host and here.machine != self.machine:
            return False  # another machine on a share, whose locks may not reach us
        return exclusive or not process_alive(self.pid)


class SessionLock:
    """Holds a session's folder for this process; a context manager. A crashed session's lock is taken over in silence.

    Raises
    ------
    UsageError
        Another process holds the folder; the sentence says who and since when.
    SessionError
        The folder cannot be written.
    """

    def __init__(self, folder: Path) -> None:
        self.path = folder / LOCK_NAME
        self._file: BinaryIO | None = None

    def __enter__(self) -> SessionLock:
        self.acquire()
        return self

    def __exit__(self, *_: object) -> None:
        self.release()

    def acquire(self) -> None:
        """Take the lock, or raise as the class says."""
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            while self._file is None:
                self._file = self._open()
        except OSError as error:
            raise storage_error(self.path, error) from error

    def release(self) -> None:
        """Give the folder free; safe to call twice."""
        file, self._file = self._file, None
        if file is None:
            return
        with suppress(OSError):
            ours = self._is_current(file)
            if sys.platform == "win32":  # an open file cannot be removed there
                file.close()
            if ours:
                self.path.unlink()
        file.close()

    def _open(self) -> BinaryIO | None:
        """The locked file with our name in it; None when it was replaced under our hands and must be tried again."""
        file = open(os.open(self.path, os.O_RDWR | os.O_CREAT, 0o666), "r+b", buffering=0)  # noqa: SIM115
        try:
            exclusive = _try_lock(file)
            if exclusive is not False and not self._is_current(file):
                file.close()
                return None
            holder = LockHolder.parse(file.read().decode(errors="replace"))
            if exclusive is False or (holder and not holder.is_gone(exclusive is True)):
                raise self._refusal(holder)
            file.seek(0)
            file.truncate()
            file.write(json.dumps(vars(LockHolder.this_process())).encode())
            sync_file(file.fileno())
        except BaseException:
            file.close()
            raise
        return file

    def _is_current(self, file: BinaryIO) -> bool:
        """True when the open file is still the one that the name leads to."""
        try:
            return os.path.samestat(os.fstat(file.fileno()), os.stat(self.path))
        except FileNotFoundError:
            return False

    def _refusal(self, holder: LockHolder | None) -> UsageError:
        who = f"process {holder.pid} on {holder.host} since {holder.since}" if holder else "another process"
        return UsageError(
            f"{self.path.parent}: in use by {who}; stop that session first, choose another --output, "
            f"or, when you are sure that it runs no more, delete {LOCK_NAME} there."
        )


def _try_lock(file: BinaryIO) -> bool | None:
    """True: ours; False: somebody holds it; None: this file system knows no locks."""
    try:
        if sys.platform == "win32":  # locked bytes cannot be read there, hence one beyond the text
            file.seek(_LOCKED_BYTE)
            msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)
            file.seek(0)
        else:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except (BlockingIOError, PermissionError):
        file.seek(0)
        return False
    except OSError as error:
        if error.errno in _NO_LOCKS:
            return None
        raise
    return True
