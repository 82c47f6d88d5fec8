"""What lies in a folder: sub-folders, frames, the camera and target by their headers, masters, earlier sessions.

Nothing is written or touched. A look takes a second at most, however full the folder is: where there are more files
than can be opened in that time, some of them speak for all, and it is said how many.
"""

from __future__ import annotations

import os
import time
from collections import Counter
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from livestack.base.errors import FrameError, LivestackError
from livestack.base.folder import SESSION_MARK, Entry, Exclusion, calibration_folder, natural_key, scan
from livestack.base.frame import FrameInfo, FrameKind, say_mosaic
from livestack.calibration.masters.grouping import kind_by_name
from livestack.formats import is_frame_name, read_info
from livestack.session.resume import find_unfinished

MOST_FOLDERS = 500
MOST_FILES = 50_000
MOST_READ = 48
LONGEST_READ_S = 1.0


def list_folder(folder: Path) -> list[dict[str, Any]]:
    """Sub-folders by name, newest activity told; hidden ones left out, and those that hold a session's results marked.

    Raises
    ------
    OSError : the folder cannot be listed.
    """
    found = []
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.name.startswith((".", "$", "@")):
                continue
            try:
                if not entry.is_dir():
                    continue
                changed = entry.stat().st_mtime
            except OSError:
                continue
            session = os.path.exists(os.path.join(entry.path, SESSION_MARK))
            found.append({"name": entry.name, "path": entry.path, "changed": changed, "session": session})
    found.sort(key=lambda one: natural_key(str(one["name"])))
    return found[:MOST_FOLDERS]


def survey(folder: Path, recursive: bool = True) -> dict[str, Any]:
    """What a session on this folder would find, as JSON values."""
    root = os.path.realpath(folder)
    entries: list[Entry] = []
    end = time.monotonic() + 2 * LONGEST_READ_S
    more = False
    try:
        for entry in scan(root, recursive, Exclusion([root], [Path(root) / "livestack"]), is_frame_name):
            entries.append(entry)
            if len(entries) >= MOST_FILES or time.monotonic() > end:
                more = True
                break
    except OSError as error:
        return {"path": str(folder), "error": f"{folder}: cannot be listed ({error.strerror})."}
    entries.sort(key=lambda entry: natural_key(entry.path))
    newest = max(entries, key=lambda entry: entry.key.mtime_ns, default=None)
    read = _read_some(entries, root)
    lights = [info for info, kind in read if kind in (FrameKind.LIGHT, FrameKind.UNKNOWN)]
    others = Counter(str(kind) for _, kind in read if kind not in (FrameKind.LIGHT, FrameKind.UNKNOWN))
    unfinished = find_unfinished(folder)
    return {
        "path": str(folder),
        "frames": len(entries),
        "more": more,
        "read": len(read),
        "newest": None if newest is None else _say_file(newest),
        "lights": _count(lights, len(entries), len(read)),
        "calibration": [{"kind": kind, "frames": _share(n, len(entries), len(read))} for kind, n in others.items()],
        "camera": _most(info.camera for info in lights),
        "telescope": _most(info.telescope for info in lights),
        "masters": find_masters(folder),
        "unfinished": None if unfinished is None else str(unfinished),
        "is_session": (folder / SESSION_MARK).exists(),
        "writable": os.access(folder, os.W_OK),
    }


def _say_file(entry: Entry) -> dict[str, Any]:
    changed = entry.key.mtime_ns / 1e9
    return {"name": os.path.basename(entry.path), "time": datetime.fromtimestamp(changed, UTC).isoformat()}


def _read_some(entries: Sequence[Entry], root: str) -> list[tuple[FrameInfo, FrameKind]]:
    """Headers of some of the files, evenly spread, the last one among them."""
    if not entries:
        return []
    wanted = min(MOST_READ, len(entries))
    step = max(1.0, (len(entries) - 1) / max(1, wanted - 1))
    chosen = dict.fromkeys(min(len(entries) - 1, round(k * step)) for k in range(wanted))
    read: list[tuple[FrameInfo, FrameKind]] = []
    end = time.monotonic() + LONGEST_READ_S
    for number in (len(entries) - 1, *chosen):
        if number == len(entries) - 1 and read:
            continue
        path = Path(entries[number].path)
        try:
            info = read_info(path)
        except (FrameError, OSError):
            continue
        kind = info.kind
        if kind is FrameKind.UNKNOWN and calibration_folder(str(path), [root]) is not None:
            kind = kind_by_name(path, Path(root))
        read.append((info, kind))
        if time.monotonic() > end:
            break
    return read


def _share(count: int, of: int, read: int) -> int:
    return count if read == of else round(count * of / max(1, read))


def _count(lights: Sequence[FrameInfo], n_entries: int, n_read: int) -> list[dict[str, Any]]:
    """What would be stacked: one row for each target, filter, exposure and size."""
    rows = Counter(
        (
            info.object_name or "",
            info.filter_name or "",
            info.exposure_s,
            info.size,
            say_mosaic(info) or "",
            info.planes,
        )
        for info in lights
    )
    return [
        {
            "object": target, "filter": filter_name, "exposure_s": exposure, "width": size[0], "height": size[1],
            "colour": mosaic or ("colour" if planes == 3 else "mono"), "frames": _share(count, n_entries, n_read),
        }
        for (target, filter_name, exposure, size, mosaic, planes), count in rows.most_common(12)
    ]  # fmt: skip


def _most(words: Any) -> str | None:
    counted = Counter(word for word in words if word)
    return counted.most_common(1)[0][0] if counted else None


def find_masters(folder: Path) -> list[dict[str, Any]]:
    """Masters in, or right beside, the folder: where they are, and of what kinds."""
    found: list[dict[str, Any]] = []
    for place in dict.fromkeys((folder / "masters", folder / "Masters", folder.parent / "masters")):
        if not place.is_dir():
            continue
        kinds = masters_in(place)
        if kinds and all(str(place.resolve()) != one["path"] for one in found):
            found.append({"path": str(place.resolve()), "kinds": kinds})
    return found


def masters_in(folder: Path) -> list[str]:
    """The kinds of masters that a folder holds, in words; empty where it holds none."""
    from livestack.calibration.masters import load_masters

    try:
        library = load_masters(folder)
    except (LivestackError, OSError):
        return []
    counted = Counter(master.kind.value for master in library.masters)
    return [kind if count == 1 else f"{count} x {kind}" for kind, count in sorted(counted.items())]
