"""Which folders of this machine the browser may see: below a few roots, and nowhere else.

A path from a browser is taken only where it is whole, plain and real: no `..`, no hidden name below a root, no share or
device name that no root begins with, and where its links lead must lie below a root, too. Windows' own ways around
(`C:folder`, `\\\\?\\`, `\\\\server\\share`, `name:stream`, `...`) are refused by their form, before the disk is asked.
"""

from __future__ import annotations

import getpass
import os
import re
import string
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

from livestack.base.errors import UsageError

LONGEST = 4096
_DRIVE = re.compile(r"[A-Za-z]:")


class OutsideRoots(UsageError):
    """A path that the browser may not see."""


@dataclass(frozen=True)
class Root:
    """One place to begin from."""

    name: str
    path: Path


class Roots:
    """The places that may be seen.

    Parameters
    ----------
    roots : folders that exist; those that lie within another are kept, as places to begin from.
    """

    def __init__(self, roots: Iterable[Root]) -> None:
        self.roots = tuple({os.path.realpath(root.path): root for root in roots if root.path.is_dir()}.values())
        self._real = [os.path.realpath(root.path) for root in self.roots]

    def admit(self, asked: object) -> Path:
        """Return the real path of a folder or file that may be seen.

        Raises
        ------
        OutsideRoots : it may not.
        """
        check_form(asked, os.path, self._real)
        assert isinstance(asked, str)
        try:
            real = os.path.realpath(asked)
        except (OSError, ValueError) as error:
            raise OutsideRoots(f"{asked}: cannot be looked at ({error}).") from None
        for root in self._real:
            if is_below(real, root):
                rest = os.path.relpath(real, root).split(os.sep)
                if not any(name.startswith(".") and name not in (".",) for name in rest):
                    return Path(real)
        raise OutsideRoots(f"{asked}: lies outside the folders that may be seen; begin with --root FOLDER to add it.")

    def above(self, path: Path) -> Path | None:
        """The folder that holds `path`, where that may be seen, too."""
        try:
            return self.admit(str(path.parent)) if path.parent != path else None
        except OutsideRoots:
            return None


def is_below(real: str, root: str) -> bool:
    """True where a real path is a root or lies below it."""
    one, other = os.path.normcase(real), os.path.normcase(root)
    return one == other or one.startswith(other.rstrip(os.sep) + os.sep)


def check_form(asked: object, flavour: ModuleType, roots: Sequence[str] = ()) -> None:
    """Refuse a path by its words alone.

    Parameters
    ----------
    flavour : `posixpath` or `ntpath`: whose rules hold.
    roots : real paths; one of them may be a share.

    Raises
    ------
    OutsideRoots : it is no whole, plain path.
    """
    if not isinstance(asked, str) or not asked or len(asked) > LONGEST or any(ord(c) < 32 for c in asked):
        raise OutsideRoots("path: expected the whole path of a folder.")
    windows = flavour.sep == "\\"
    words = asked.replace("/", "\\") if windows else asked
    drive, rest = flavour.splitdrive(words)
    names = [name for name in rest.split(flavour.sep) if name]
    if not flavour.isabs(words) or ".." in names:
        raise OutsideRoots(f"{asked}: expected a whole path, without '..'.")
    if not windows:
        if words.startswith("//"):
            raise OutsideRoots(f"{asked}: expected a path that begins with one '/'.")
        return
    share = words.startswith("\\\\")
    if share and not any(words.casefold().startswith(root.casefold().rstrip("\\") + "\\") or
                         words.casefold() == root.casefold() for root in roots if root.startswith("\\\\")):  # fmt: skip
        raise OutsideRoots(f"{asked}: is on a share that was not given; begin with --root \\\\server\\share.")
    if not share and not _DRIVE.fullmatch(drive):
        raise OutsideRoots(f"{asked}: expected a path that begins with a drive.")
    if any(":" in name or "?" in name or "*" in name or not name.strip(" .") for name in names):
        raise OutsideRoots(f"{asked}: holds a name that no folder has.")


def machine_roots(extra: Sequence[Path] = ()) -> Roots:
    """The user's folder, mounted media, and what was given on the command line.

    Raises
    ------
    UsageError : a folder that was given is not there.
    """
    for path in extra:
        if not path.is_dir():
            raise UsageError(f"--root {path}: is no folder; give one that is there.")
    given = [Root(path.name or str(path), path) for path in extra]
    return Roots([*given, Root("Home", Path.home()), *(Root(path.name or str(path), path) for path in find_media())])


def find_media() -> list[Path]:
    """Where disks, cards and shares are mounted on this machine."""
    if sys.platform == "win32":
        home = os.path.splitdrive(Path.home())[0].casefold()
        drives = [Path(f"{letter}:\\") for letter in string.ascii_uppercase if f"{letter}:".casefold() != home]
        return [drive for drive in drives if os.path.exists(drive)]
    if sys.platform == "darwin":
        return _folders(Path("/Volumes"))
    try:
        user = getpass.getuser()
    except (KeyError, OSError):
        user = ""
    places = [Path("/media") / user, Path("/run/media") / user] if user else []
    return [found for place in (*places, Path("/media"), Path("/mnt")) for found in _folders(place)]


def _folders(place: Path) -> list[Path]:
    try:
        return sorted(path for path in place.iterdir() if path.is_dir() and not path.is_symlink())
    except OSError:
        return []
