"""Past sessions, told from what they left: target, light, how they ended, pictures, files.

A session is known by a short name made of its place, so that a browser never names a path. Journals are read as plain
lines, and again only where they have grown.
"""

from __future__ import annotations

import hashlib
import json
import os
import threading
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from livestack.base.errors import FrameError
from livestack.base.folder import SESSION_MARK
from livestack.formats import read_info

MOST_SESSIONS = 200
PICTURES = (".png", ".jpg", ".jpeg")
DOWNLOADS = (*PICTURES, ".fits", ".fit", ".tif", ".tiff", ".csv", ".mp4", ".webp", ".html", ".jsonl")


@dataclass(frozen=True)
class PastSession:
    """What a session's folder tells.

    Attributes
    ----------
    key : its short name.
    targets : group -> (object, filter, frames stacked, seconds of light).
    state : "saved", "interrupted", "failed", "nothing_stacked", or "open" where the journal has no end.
    """

    key: str
    path: Path
    folder: str
    began: str
    state: str
    reason: str
    targets: dict[str, tuple[str, str, int, float]] = field(default_factory=dict)
    n_refused: int = 0

    @property
    def n_stacked(self) -> int:
        """Frames in all stacks."""
        return sum(frames for _, _, frames, _ in self.targets.values())

    @property
    def light_s(self) -> float:
        """Seconds of light in all stacks."""
        return sum(seconds for *_, seconds in self.targets.values())

    def brief(self) -> dict[str, Any]:
        """What a card of the gallery shows."""
        names = list(dict.fromkeys(name for name, *_ in self.targets.values() if name))
        return {
            "key": self.key, "name": self.path.name, "place": str(self.path), "folder": self.folder,
            "began": self.began, "state": self.state, "reason": self.reason, "objects": names,
            "frames": self.n_stacked, "refused": self.n_refused, "light_s": self.light_s,
            "picture": (self.path / "preview.jpg").is_file(), "report": (self.path / "report.html").is_file(),
            "can_resume": self.state not in ("saved", "nothing_stacked"),
            "stacks": sum((self.path / group / "stack.fits").is_file() for group in self.targets),
        }  # fmt: skip

    def full(self) -> dict[str, Any]:
        """What the page of a session shows, its files numbered as `files` lists them."""
        files = self.files()
        groups = []
        for group, (name, filter_name, frames, seconds) in sorted(self.targets.items()):
            groups.append(
                {
                    "group": group, "object": name, "filter": filter_name, "frames": frames, "light_s": seconds,
                    "pictures": [n for n, file in enumerate(files) if _shows(file, group)],
                    "enhanced": [n for n, file in enumerate(files) if file.parts[:1] == (group,)
                                 and file.name == "before_after.jpg"],
                }
            )  # fmt: skip
        listed = [
            {"number": n, "name": file.as_posix(), "bytes": _size(self.path / file)} for n, file in enumerate(files)
        ]
        return {**self.brief(), "groups": groups, "files": listed}

    def files(self) -> list[Path]:
        """What may be had of it, relative to its folder, in a fixed order."""
        found = []
        for folder, folders, names in os.walk(self.path):
            depth = len(Path(folder).relative_to(self.path).parts)
            folders[:] = sorted(f for f in folders if f != "checkpoint" and not f.startswith(".")) if depth < 2 else []
            found += [Path(folder, name) for name in names if name.lower().endswith(DOWNLOADS) and name[0] != "."]
        kept = [path for path in found if not path.is_symlink()]
        return sorted((path.relative_to(self.path) for path in kept), key=lambda path: (len(path.parts), str(path)))


def _shows(file: Path, group: str) -> bool:
    wanted = ("stack.png", "stack.jpg", "comet.png", "comet_and_stars.png", "trails.png", "merged.png")
    return file.parts[:1] == (group,) and file.name in wanted


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0


def key_of(path: Path) -> str:
    """The short name of a session's folder."""
    return hashlib.sha256(os.fsencode(os.path.realpath(path))).hexdigest()[:16]


class Gallery:
    """Finds sessions and remembers what their journals told; may be asked from any thread."""

    def __init__(self) -> None:
        self._known: dict[Path, tuple[tuple[int, int], PastSession]] = {}
        self._by_key: dict[str, Path] = {}
        self._lock = threading.Lock()

    def look(self, folders: Iterable[Path], outputs: Iterable[Path] = ()) -> list[PastSession]:
        """Sessions of watched `folders` and those right below `outputs`, the newest first."""
        places = [folder / "livestack" for folder in folders]
        found: dict[Path, PastSession] = {}
        for place in (*places, *outputs, *folders):
            for path in _sessions_in(place):
                session = self.read(path)
                if session is not None:
                    found[Path(os.path.realpath(path))] = session
        return sorted(found.values(), key=lambda one: one.began, reverse=True)[:MOST_SESSIONS]

    def find(self, key: str) -> PastSession | None:
        """The session of a short name that was listed before."""
        path = self._by_key.get(key)
        return self.read(path) if path is not None else None

    def read(self, path: Path) -> PastSession | None:
        """What a session's folder tells; None where it is none."""
        try:
            status = (path / SESSION_MARK).stat()
            state = (status.st_size, status.st_mtime_ns)
            with self._lock:
                known = self._known.get(path)
            if known is not None and known[0] == state:
                return known[1]
            session = _read(path)
        except OSError:
            return None
        if session is not None:
            with self._lock:
                self._known[path] = (state, session)
                self._by_key[session.key] = path
        return session


def _sessions_in(place: Path) -> list[Path]:
    try:
        if (place / SESSION_MARK).is_file():
            return [place]
        return [path for path in place.iterdir() if (path / SESSION_MARK).is_file()]
    except OSError:
        return []


def _read(path: Path) -> PastSession | None:
    began = folder = reason = ""
    state, n_refused = "open", 0
    light: defaultdict[str, dict[tuple[str, int], float]] = defaultdict(dict)
    with open(path / SESSION_MARK, "rb") as lines:
        for line in lines:
            try:
                told = json.loads(line)
            except ValueError:
                continue
            kind = told.get("type") if isinstance(told, dict) else None
            if kind == "session_start":
                began, folder = str(told.get("time", "")), str(told.get("folder", ""))
            elif kind == "frame":
                frame = (str(told.get("file")), int(told.get("index") or 0))
                if told.get("status") == "stacked":
                    light[str(told.get("group") or "")][frame] = float(told.get("exposure_s") or 0.0)
                else:
                    n_refused += 1
            elif kind == "removed":
                for frames in light.values():
                    frames.pop((str(told.get("file")), int(told.get("index") or 0)), None)
            elif kind == "resume":
                state = "open"
            elif kind == "session_stop":
                state, reason = str(told.get("status")), str(told.get("reason") or "")
    if not began:
        return None
    targets = {
        group: (*_names(path / group / "stack.fits", group), len(frames), sum(frames.values()))
        for group, frames in light.items()
    }
    return PastSession(key_of(path), path, folder, began, state, reason, targets, n_refused)


def _names(stack: Path, group: str) -> tuple[str, str]:
    """Object and filter by the header of a stack; the group's name as filter where there is no stack."""
    try:
        info = read_info(stack)
    except (FrameError, OSError):
        return "", group
    return info.object_name or "", info.filter_name or ""
