"""What lies in a watched folder: its files in natural order, what is never looked at, and whether it is a share.

Files are followed through symbolic links and known by the real path, so that two names of one file are one frame; a
loop of links is walked once. Never entered: hidden folders, thumbnails and waste bins of the system, the folders that
the caller excludes, and any folder that holds a session of livestack, for its results look like frames. Whether a file
is whole, and when to look, is the watcher's business.
"""

from __future__ import annotations

import os
import re
import stat
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

SESSION_MARK = "session.jsonl"
"""A folder that holds this file is a session's own."""
_NEVER_ENTERED = {"@eadir", "#recycle", "#snapshot", "$recycle.bin", "system volume information", "__macosx"}
_DIGITS = re.compile(r"[0-9]+")
_LIGHTS = re.compile(r"lights?([-_ .]?[0-9].*)?", re.IGNORECASE)
_CALIBRATION = re.compile(
    r"(bias(es)?|offsets?|darks?|flats?|dark[-_ ]?flats?|flat[-_ ]?darks?)([-_ .]?[0-9].*)?", re.IGNORECASE
)
_SHARES = {"9p", "afpfs", "afs", "beegfs", "ceph", "cifs", "davfs", "drvfs", "glusterfs", "lustre", "ncpfs", "nfs",
           "nfs4", "prl_fs", "smb2", "smb3", "smbfs", "vboxsf", "virtiofs", "vmhgfs", "webdav"}  # fmt: skip
_LOCAL_FUSE = {"fuse", "fuseblk", "fuse.ntfs", "fuse.ntfs-3g", "fuse.exfat", "fuse.mergerfs", "fuse.fuse-overlayfs"}


@dataclass(frozen=True)
class FileKey:
    """One state of one file; another size or time of modification is another frame."""

    path: str
    """Real path, links resolved."""
    size: int
    mtime_ns: int


@dataclass(frozen=True)
class Entry:
    """A file as a scan found it."""

    path: str
    """Name below the watched folder."""
    key: FileKey
    changed_ns: int
    """Latest of modification and change of status, ns since 1970: a copy may keep the old time, its status is new."""


def natural_key(name: str) -> tuple[str, str]:
    """Sort key under which `light_9` comes before `light_10`, whatever the case; total, hence the same everywhere."""
    return _DIGITS.sub(lambda number: number[0].zfill(20), name.casefold()), name


def say_name(path: str | os.PathLike[str]) -> str:
    """A file's name for a sentence: line breaks and undecodable bytes escaped."""
    name = os.path.basename(os.fspath(path))
    return name if name.isprintable() else ascii(name)


def look_at(path: str, real: str | None = None) -> Entry | None:
    """The file's present state; None for what is no regular file. `real` is its real path where that is known already.

    Raises
    ------
    OSError
        It is gone, or cannot be looked at.
    """
    found = os.stat(path)
    if not stat.S_ISREG(found.st_mode):
        return None
    key = FileKey(real or os.path.realpath(path), found.st_size, found.st_mtime_ns)
    return Entry(path, key, max(found.st_mtime_ns, found.st_ctime_ns))


def calibration_folder(path: str | os.PathLike[str], roots: Sequence[str]) -> str | None:
    """The name of the nearest folder below one of `roots` that says that its files are no lights; None when none does.

    Whole names only (`DARK`, `flats`, `Bias_01`, `dark 300s`): "Dark nebulae" is a folder of lights.
    """
    folder = os.path.dirname(os.fspath(path))
    while folder not in roots and any(folder.startswith(root.rstrip(os.sep) + os.sep) for root in roots):
        folder, name = os.path.split(folder)
        if _LIGHTS.fullmatch(name):
            return None
        if _CALIBRATION.fullmatch(name):
            return name
    return None


class Exclusion:
    """Which folders are never entered below `roots`; remembers its answers until `forget`.

    Parameters
    ----------
    roots : real paths of the watched folders.
    excluded : folders that must not be entered; compared by identity on the disk where they exist, so neither case nor
        links lead around it, else by name.
    """

    def __init__(self, roots: Sequence[str], excluded: Sequence[Path]) -> None:
        self._roots = set(roots)
        self._excluded = [os.path.realpath(path) for path in excluded]
        self._answers: dict[str, bool] = {}

    def forget(self) -> None:
        """Look afresh from now on: folders come and go."""
        self._answers.clear()

    def covers(self, folder: str) -> bool:
        """True when `folder` (real path, or path below a root) must not be entered."""
        answer = self._answers.get(folder)
        if answer is None:
            above = os.path.dirname(folder)
            answer = self._is_excluded(folder) or (folder not in self._roots and above != folder and self.covers(above))
            self._answers[folder] = answer
        return answer

    def holding(self, folder: str) -> str | None:
        """The excluded folder that is `folder` or one of its parents, if any."""
        here = folder
        while True:
            if self._matches(here):
                return here
            above = os.path.dirname(here)
            if above == here:
                return None
            here = above

    def _is_excluded(self, folder: str) -> bool:
        name = os.path.basename(folder)
        if folder not in self._roots:
            if name.startswith(".") or name.casefold() in _NEVER_ENTERED:
                return True
            if os.path.exists(os.path.join(folder, SESSION_MARK)):
                return True
        return self._matches(folder)

    def _matches(self, folder: str) -> bool:
        for excluded in self._excluded:
            if os.path.normcase(folder) == os.path.normcase(excluded):
                return True
            alike = os.path.basename(folder).casefold() == os.path.basename(excluded).casefold()
            with suppress(OSError):
                if (alike or os.path.islink(folder)) and os.path.samefile(folder, excluded):
                    return True
        return False


def scan(root: str, recursive: bool, exclusion: Exclusion, wanted: Callable[[str], bool]) -> Iterator[Entry]:
    """Every regular file below `root` whose name is `wanted`, folder by folder, links to folders last.

    Raises
    ------
    OSError
        `root` itself cannot be listed; sub-folders that cannot are passed over.
    """
    visited: set[tuple[int, int]] = set()
    folders, linked = [root], list[str]()
    while folders or linked:
        folder = folders.pop() if folders else linked.pop(0)
        try:
            here = os.stat(folder)
            if (here.st_dev, here.st_ino) in visited and here.st_ino:
                continue
            visited.add((here.st_dev, here.st_ino))
            with os.scandir(folder) as listing:
                entries = list(listing)
            real = os.path.realpath(folder)
        except OSError:
            if folder == root:
                raise
            continue
        for entry in entries:
            with suppress(OSError):  # gone since the listing: the next scan will not find it
                if entry.is_dir():
                    if recursive and not exclusion.covers(entry.path) and not _leads_out(entry, exclusion):
                        (linked if entry.is_symlink() else folders).append(entry.path)
                elif wanted(entry.path):
                    # the listing itself may lag behind the file (Windows), hence a look of its own
                    found = look_at(entry.path, None if entry.is_symlink() else os.path.join(real, entry.name))
                    if found is not None:
                        yield found


def network_file_system(path: str) -> str | None:
    """The type of the network file system that `path` lies on; None for a local one, or where it cannot be told."""
    if sys.platform == "win32":
        import ctypes

        drive = os.path.splitdrive(os.path.realpath(path))[0]
        remote = drive.startswith("\\\\") or ctypes.windll.kernel32.GetDriveTypeW(drive + "\\") == 4  # DRIVE_REMOTE
        return "network drive" if remote else None
    kind = mount_type(os.path.realpath(path), _mount_table())
    if kind in _SHARES or (kind.startswith("fuse") and kind not in _LOCAL_FUSE):
        return kind
    return None


def mount_type(path: str, mounts: str) -> str:
    """The file system type of `path` (a real path) by a table in the form of /proc/mounts; '' when none fits."""
    best, kind = -1, ""
    for line in mounts.splitlines():
        fields = line.split(" ")
        if len(fields) < 3:
            continue
        point = re.sub(r"\\([0-7]{3})", lambda octal: chr(int(octal[1], 8)), fields[1]).rstrip("/")
        if (path == point or path.startswith(point + "/")) and len(point) >= best:
            best, kind = len(point), fields[2]
    return kind


def _mount_table() -> str:
    """What is mounted where, in the form of /proc/mounts; '' where it cannot be told."""
    if sys.platform == "linux":
        with suppress(OSError), open("/proc/self/mounts", encoding="utf-8", errors="surrogateescape") as mounts:
            return mounts.read()
        return ""
    with suppress(OSError, subprocess.SubprocessError):
        said = subprocess.run(["mount"], capture_output=True, timeout=5, check=True).stdout.decode(errors="replace")
        lines = re.findall(r"^.* on (/.*?) \((?:type )?(\w+)", said, re.MULTILINE)
        return "\n".join(f"- {point.replace(' ', chr(92) + '040')} {kind}" for point, kind in lines)
    return ""


def _leads_out(entry: os.DirEntry[str], exclusion: Exclusion) -> bool:
    """True for a link whose target lies in a folder that must not be entered."""
    return entry.is_symlink() and exclusion.holding(os.path.realpath(entry.path)) is not None
