"""What the journal of an interrupted session says about going on: where it was, and what happened since its checkpoint.

Everything that changed the stacks is an event: a frame, a frame taken out again, a new target, a save (which ends a
warm-up). A checkpoint says how many events it holds; the rest are replayed in the journal's order, frames from their
files. Doing so is the session's business.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from livestack.base.errors import FrameError, UsageError
from livestack.base.folder import FileKey, look_at
from livestack.base.journal import (
    JOURNAL_NAME,
    FollowRecord,
    FrameRecord,
    MasterUse,
    Record,
    RemovedRecord,
    SavingRecord,
    SessionStart,
    SessionStop,
    TargetRecord,
    known_files,
    read_journal,
)
from livestack.base.settings import Settings
from livestack.formats import count_frames

TAIL_BYTES = 1 << 16

Event = FrameRecord | RemovedRecord | TargetRecord | FollowRecord | SavingRecord


@dataclass(frozen=True)
class Interrupted:
    """An interrupted session, as its journal tells it.

    Attributes
    ----------
    start : its first line; `records` all lines from there on.
    events : those that changed the stacks, in order.
    known : files that were dealt with.
    taking_is_over : it broke off while saving: nothing is to be taken any more.
    notices : lines of the journal that could not be read.
    """

    output: Path
    start: SessionStart
    records: Sequence[Record]
    events: Sequence[Event]
    known: frozenset[FileKey]
    taking_is_over: bool
    notices: tuple[str, ...]

    @property
    def base(self) -> Path:
        """What relative names in the journal start from."""
        return Path(self.start.folder)

    @property
    def folders(self) -> list[Path]:
        """What was watched."""
        return [Path(folder) for folder in self.start.folders or (self.start.folder,)]

    def path_of(self, record: FrameRecord) -> Path:
        """The file of a frame."""
        return self.base / record.file

    def is_unchanged(self, record: FrameRecord) -> bool:
        """True when the file of a frame is the very one that was taken."""
        try:
            found = look_at(os.fspath(self.path_of(record)))
        except OSError:
            return False
        return found is not None and (found.key.size, found.key.mtime_ns) == (record.size_bytes, record.mtime_ns)

    def was_removed(self, record: FrameRecord) -> bool:
        """True when the frame was taken out of its stack later on."""
        return self.was_taken_out(record.file, record.index) or self.was_taken_out(Path(record.file).name, record.index)

    def was_taken_out(self, file: str, index: int) -> bool:
        """True when the journal says that this frame was taken out."""
        return any(
            isinstance(event, RemovedRecord) and (event.file, event.index) == (file, index) for event in self.events
        )

    def begun_file(self) -> tuple[Path, FileKey, int] | None:
        """The file of many frames that was being read: its path, state, and the first frame that was not taken yet."""
        last = next((event for event in reversed(self.events) if isinstance(event, FrameRecord)), None)
        if last is None or not last.group or self.taking_is_over or not self.is_unchanged(last):
            return None
        path = self.path_of(last)
        taken = [e.index for e in self.events if isinstance(e, FrameRecord) and e.file == last.file]
        farthest = max(taken)  # a frame taken up again lies before it
        try:
            more = count_frames(path) > farthest + 1
        except FrameError:
            return None
        key = FileKey(os.path.realpath(path), last.size_bytes or 0, last.mtime_ns or 0)
        return (path, key, farthest + 1) if more else None


def check_masters(output: Path, begun_with: Sequence[MasterUse], present: Mapping[str, str]) -> None:
    """Make sure that a session goes on with the masters that it began with.

    Parameters
    ----------
    present : checksum -> name of the masters that are there now.

    Raises
    ------
    UsageError : one is gone, differs, or is new; says which.
    """
    before = {master.checksum: Path(master.file).name for master in begun_with}
    lost = [name for checksum, name in before.items() if checksum not in present]
    new = [name for checksum, name in present.items() if checksum not in before]
    if lost or new:
        found = f"master {lost[0]} is gone or was changed" if lost else f"master {new[0]} was not there"
        raise UsageError(
            f"{output}: {found} since the session began; bring the masters back as they were, or stack the frames anew "
            "with `livestack stack`."
        )


def read_interrupted(output: Path) -> Interrupted:
    """Read the journal of a session that shall go on.

    Raises
    ------
    SessionError : there is no journal.
    UsageError : it holds no session, or one that is finished.
    """
    notices: list[str] = []
    records = read_journal(output, notices)
    starts = [i for i, record in enumerate(records) if isinstance(record, SessionStart)]
    if not starts:
        raise UsageError(f"{output}: its journal tells of no session; start one with `livestack watch FOLDER`.")
    records = records[starts[-1] :]
    stop = next((r for r in reversed(records) if isinstance(r, SessionStop)), None)
    if stop is not None and stop.status == "saved":
        remedy = "start a new one with `livestack watch FOLDER`"
        if not (output / "report.html").exists():
            remedy = f"only its report is missing: `livestack report {output}` writes it"
        raise UsageError(f"{output}: this session is finished and saved; expected one that broke off: {remedy}.")
    events = [
        record
        for record in records
        if isinstance(record, FrameRecord | RemovedRecord | TargetRecord | FollowRecord)
        or (isinstance(record, SavingRecord) and not record.final)
    ]
    start = records[0]
    over = any(isinstance(record, SavingRecord) and record.final for record in records)
    known = frozenset(known_files(records, Path(start.folder)))
    return Interrupted(output, start, records, events, known, over, tuple(notices))


def stacked_without(output: Path, unwanted: Sequence[str]) -> tuple[SessionStart, list[Path]]:
    """The files that a session stacked, in its order, but for the `unwanted` ones, named as in its journal or by name.

    Raises
    ------
    SessionError : there is no journal.
    UsageError : it holds no session, a file is not among those stacked, or nothing would be left.
    """
    records = read_journal(output)
    start = next((record for record in records if isinstance(record, SessionStart)), None)
    if start is None:
        raise UsageError(f"{output}: its journal tells of no session; expected the folder of one.")
    removed = {record.file for record in records if isinstance(record, RemovedRecord)}
    stacked = [
        record.file for record in records
        if isinstance(record, FrameRecord) and record.status == "stacked" and record.file not in removed
    ]  # fmt: skip
    files = list(dict.fromkeys(stacked))
    for name in unwanted:
        if name not in files and name not in {Path(file).name for file in files}:
            raise UsageError(f"{name}: is not among the {len(files)} stacked frames of {output}; see session.jsonl.")
    left = [file for file in files if file not in unwanted and Path(file).name not in unwanted]
    if not left:
        raise UsageError(f"{output}: nothing would be left to stack.")
    return start, [Path(start.folder) / file for file in left]


def settings_of(start: SessionStart, output: Path, changes: dict[str, dict[str, Any]]) -> Settings:
    """The settings of an interrupted session, with `changes` (section -> field -> value).

    Raises
    ------
    UsageError : they are not those of this version.
    """
    content = {name: dict(section) for name, section in start.settings.items()}
    for section, fields in changes.items():
        content.setdefault(section, {}).update(fields)
    content.setdefault("save", {})["output"] = str(output)
    try:
        return Settings.model_validate(content)
    except ValidationError as error:
        first = error.errors()[0]
        raise UsageError(
            f"{output}: was begun by livestack {start.version}, whose setting {'.'.join(map(str, first['loc']))} this "
            f"version does not accept ({first['msg'].lower()}); resume it with that version, or start a new session."
        ) from error


def find_unfinished(folder: Path) -> Path | None:
    """The newest session below FOLDER/livestack, if it broke off; None otherwise."""
    journals = []
    for journal in sorted(folder.glob(f"livestack/*/{JOURNAL_NAME}")):
        try:
            journals.append((journal.stat().st_mtime_ns, journal))
        except OSError:
            continue
    if not journals:
        return None
    newest = max(journals)[1]
    return newest.parent if _is_unfinished(newest) else None


def _is_unfinished(journal: Path) -> bool:
    try:
        with open(journal, "rb") as file:
            file.seek(max(0, os.fstat(file.fileno()).st_size - TAIL_BYTES))
            lines = file.read().split(b"\n")
    except OSError:
        return False
    for line in reversed(lines):
        try:
            content = json.loads(line)
        except ValueError:
            continue
        if isinstance(content, dict) and content.get("type") == "session_stop":
            return content.get("status") not in ("saved", "nothing_stacked")
        if isinstance(content, dict) and content.get("type") in ("session_start", "frame", "resume", "checkpoint"):
            return True
    return False
