"""The journal of a session, `session.jsonl`: one JSON object a line, appended, flushed and synced, never rewritten.

A crash can tear only the last line: reading passes over it, and reopening ends it, so that the next record stands on a
line of its own. What the lines hold is said in `records`, whose names can be had from here.
"""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Iterable
from pathlib import Path
from typing import Any, ClassVar, Self

from pydantic import ValidationError

from livestack.base.durable import storage_error, sync_file
from livestack.base.errors import SessionError
from livestack.base.folder import FileKey
from livestack.base.records import (
    MODELS,
    AnyRecord,
    CheckpointRecord,
    DepthRecord,
    Distortion,
    FollowRecord,
    FrameRecord,
    GroupRecord,
    MasterUse,
    Normalisation,
    PassageRecord,
    PsfRecord,
    Record,
    ReferenceRecord,
    RemovedRecord,
    ResumeRecord,
    SavingRecord,
    SessionStart,
    SessionStop,
    SolutionRecord,
    TargetRecord,
    Timings,
    WarningRecord,
    plain_value,
)

__all__ = [
    "JOURNAL_NAME",
    "AnyRecord",
    "CheckpointRecord",
    "DepthRecord",
    "Distortion",
    "FollowRecord",
    "FrameRecord",
    "GroupRecord",
    "Journal",
    "MasterUse",
    "Normalisation",
    "PassageRecord",
    "PsfRecord",
    "Record",
    "ReferenceRecord",
    "RemovedRecord",
    "ResumeRecord",
    "SavingRecord",
    "SessionStart",
    "SessionStop",
    "SolutionRecord",
    "TargetRecord",
    "Timings",
    "WarningRecord",
    "known_files",
    "plain_value",
    "read_journal",
]

JOURNAL_NAME = "session.jsonl"


class Journal:
    """Appends records to a journal; safe to use from several threads.

    Parameters
    ----------
    path : the file; made when it is not there. A last line that a crash tore is ended, never removed.

    Raises
    ------
    SessionError
        The file cannot be opened or written: disk full, not writable, gone.
    """

    _MODE: ClassVar[int] = os.O_RDWR | os.O_CREAT | os.O_APPEND | getattr(os, "O_BINARY", 0)

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock = threading.Lock()
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._descriptor: int | None = os.open(path, self._MODE, 0o666)
            self._torn = _ends_torn(self._descriptor)
        except OSError as error:
            raise storage_error(path, error) from error

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def append(self, record: Record) -> None:
        """Write one record; when this returns it is on the disk."""
        line = record.to_line()
        with self._lock:
            if self._descriptor is None:
                raise ValueError(f"{self.path}: the journal is closed.")
            try:
                pending = memoryview(b"\n" + line if self._torn else line)
                self._torn = True  # until the whole line is out
                while pending:
                    pending = pending[os.write(self._descriptor, pending) :]
                self._torn = False
                sync_file(self._descriptor)
            except OSError as error:
                raise storage_error(self.path, error) from error

    def close(self) -> None:
        """Close the file; safe to call twice."""
        with self._lock:
            if self._descriptor is not None:
                os.close(self._descriptor)
                self._descriptor = None


def read_journal(path: Path, notices: list[str] | None = None) -> list[Any]:
    """Read a journal's records in order, passing over what cannot be one.

    Parameters
    ----------
    path : the file, or the session's folder that holds it.
    notices : if given, a sentence is appended for every line that was passed over; a torn last line, the mark of a
        crash, among them.

    Raises
    ------
    SessionError
        There is no such file, or it cannot be read.
    """
    path = path / JOURNAL_NAME if path.is_dir() else path
    try:
        lines = path.read_bytes().split(b"\n")
    except OSError as error:
        raise SessionError(
            f"{path}: no journal can be read there ({error.strerror}); give the folder of a livestack session."
        ) from error
    records: list[Record] = []
    said = notices if notices is not None else []
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            records.append(_parse(line))
        except (ValueError, RecursionError) as error:
            torn = "was cut short by a crash" if number == len(lines) else f"is no record ({_brief(error)})"
            said.append(f"{path.name}: line {number} {torn}; passed over.")
    return records


def known_files(records: Iterable[Record], folder: Path) -> set[FileKey]:
    """Files that a session has dealt with, for the watcher of the session that resumes it.

    `folder` is what relative names in the journal start from. Records without size and time of the file are left out.
    """
    return {
        FileKey(os.path.realpath(folder / record.file), record.size_bytes, record.mtime_ns)
        for record in records
        if isinstance(record, FrameRecord) and record.size_bytes is not None and record.mtime_ns is not None
    }


def _parse(line: bytes) -> Record:
    """One record of one line; fields of a newer version are left out."""
    content = json.loads(line)
    if not isinstance(content, dict) or content.get("type") not in MODELS:
        raise ValueError("unknown type")
    model = MODELS[content["type"]]
    return model.model_validate({key: value for key, value in content.items() if key in model.model_fields})


def _ends_torn(descriptor: int) -> bool:
    """True when the file's last byte is no newline."""
    size = os.lseek(descriptor, 0, os.SEEK_END)
    if size == 0:
        return False
    os.lseek(descriptor, size - 1, os.SEEK_SET)
    return os.read(descriptor, 1) != b"\n"


def _brief(error: Exception) -> str:
    if isinstance(error, ValidationError):
        first = error.errors()[0]
        return f"{'.'.join(map(str, first['loc']))}: {first['msg']}"
    return str(error)
