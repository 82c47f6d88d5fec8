"""The journal of a session, `session.jsonl`: one JSON object a line, appended, flushed and synced, never rewritten.

What is known before comes first (`session_start`), then a line for every event, last what is known only at the end
(`session_stop`): the run start / event / run stop of Bluesky's event-model. `type` says which record a line is, `time`
when it was written (UTC). A number that is not finite is written as null. A crash can tear only the last line: reading
passes over it, and reopening ends it, so that the next record stands on a line of its own.
"""

from __future__ import annotations

import dataclasses
import json
import math
import os
import threading
from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, Self, get_args

import numpy as np
import pydantic.dataclasses
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from livestack.durable import storage_error, sync_file
from livestack.errors import SessionError
from livestack.folder import FileKey

JOURNAL_NAME = "session.jsonl"


def plain_value(value: Any) -> Any:
    """`value` as JSON can hold it: numpy scalars and arrays as numbers and lists, NaN and infinities as None."""
    if isinstance(value, np.generic):
        value = value.item()
    elif isinstance(value, np.ndarray):
        value = value.tolist()
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Path):
        return str(value)
    if isinstance(value, dict):
        return {str(key): plain_value(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [plain_value(each) for each in value]
    return value


Plain = BeforeValidator(plain_value)
Number = Annotated[float | None, Plain]
Text = Annotated[str, Plain]
Anything = Annotated[dict[str, Any], Plain]


class Record(BaseModel):
    """Base of every line: frozen, and a misspelt field is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    time: datetime = Field(default_factory=lambda: datetime.now(UTC), description="when the line was written, UTC")

    def to_line(self) -> bytes:
        """The record as one line of ASCII JSON, `type` and `time` first, with its newline."""
        fields = dict(self)
        written = fields.pop("time").astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
        content = {"type": fields.pop("type"), "time": written} | {k: _jsonable(v) for k, v in fields.items()}
        return json.dumps(content, allow_nan=False).encode("ascii") + b"\n"


class MasterUse(BaseModel):
    """A master that calibrates this session."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    file: Text
    kind: str
    checksum: str
    """BLAKE2b of the file, hexadecimal."""


class SessionStart(Record):
    """All that is known before the first frame."""

    type: Literal["session_start"] = "session_start"
    version: str
    settings: Anything
    """Every setting, in full."""
    folder: Text
    """The watched folder; the first one of several."""
    folders: tuple[Text, ...] = ()
    masters: tuple[MasterUse, ...] = ()
    software: Anything = Field(default_factory=dict)
    """Versions of Python and the libraries."""


@pydantic.dataclasses.dataclass(frozen=True, kw_only=True)  # no model: `register` is a method of those
class Timings:
    """Wall time of one frame's steps, seconds; None for a step that it did not reach."""

    read: Number = None
    calibrate: Number = None
    detect: Number = None
    register: Number = None
    warp: Number = None
    accumulate: Number = None


class Normalisation(BaseModel):
    """How the frame was brought to the reference's scale: frame x factor + surface."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    factor: Annotated[Any, Plain] = None
    """One number, or one for each channel."""
    surface: Annotated[Any, Plain] = None
    """Coefficients of the offset's surface; their meaning is the normaliser's."""


class FrameRecord(Record):
    """What became of one frame."""

    type: Literal["frame"] = "frame"
    file: Text
    index: int = 0
    """Position in a file of many frames."""
    group: str = ""
    status: Literal["stacked", "refused"]
    reason: str | None = None
    """Machine-readable; None when stacked."""
    message: str = ""
    transform: Annotated[tuple[tuple[Number, Number, Number], ...] | None, Plain] = None
    """Row-major 3x3, frame (x, y, 1) to reference (x, y, 1); None when unregistered."""
    method: str | None = None
    n_stars: int | None = None
    n_matched: int | None = None
    rms_px: Number = None
    fwhm_px: Number = None
    eccentricity: Number = None
    sky_adu: Number = None
    noise_adu: Number = None
    transparency: Number = None
    weight: Number = None
    rejected_fraction: Number = None
    exposure_s: Number = None
    date_obs: datetime | None = None
    timings_s: Timings = Timings()
    size_bytes: int | None = None
    mtime_ns: int | None = None
    sequence: int | None = None
    """Running number of the frame in the session, counted from 0."""
    normalisation: Normalisation | None = None


class PsfRecord(Record):
    """One estimate of the PSF."""

    type: Literal["psf"] = "psf"
    group: str = ""
    n_frames: int
    """Frames in the stack that was measured."""
    n_stars: int = 0
    fwhm_px: Number = None
    fwhm_arcsec: Number = None
    fwhm_x_px: Number = None
    fwhm_y_px: Number = None
    eccentricity: Number = None
    theta_deg: Number = None
    beta: Number = None
    gaussian: Annotated[dict[str, Any] | None, Plain] = None
    """The averaged Gaussian's columns of the PSF table."""
    moffat: Annotated[dict[str, Any] | None, Plain] = None


class CheckpointRecord(Record):
    """State was saved; a session resumes from the newest of these that is whole."""

    type: Literal["checkpoint"] = "checkpoint"
    group: str = ""
    file: Text
    n_stacked: int
    sequence: int | None = None
    """Number of the last frame that the checkpoint holds."""
    size_bytes: int | None = None
    duration_s: Number = None


class ReferenceRecord(Record):
    """The frame that the others are registered to."""

    type: Literal["reference"] = "reference"
    group: str = ""
    file: Text
    index: int = 0
    message: str = ""
    """Why this one."""
    width: int | None = None
    height: int | None = None


class GroupRecord(Record):
    """The first frame of another object, filter or size began a stack of its own."""

    type: Literal["group"] = "group"
    group: str
    object_name: str | None = None
    filter_name: str | None = None
    width: int | None = None
    height: int | None = None
    channels: int | None = None


class ResumeRecord(Record):
    """An interrupted session goes on from here."""

    type: Literal["resume"] = "resume"
    version: str
    n_stacked: int
    message: str = ""


class RemovedRecord(Record):
    """A stacked frame was taken out again."""

    type: Literal["removed"] = "removed"
    file: Text
    index: int = 0
    group: str = ""
    message: str = ""


class WarningRecord(Record):
    """Something that the person at the telescope should know."""

    type: Literal["warning"] = "warning"
    kind: str
    """Machine-readable: `focus`, `clouds`, `disk`, `folder` ..."""
    message: str
    active: bool = True
    """False when the trouble is over."""


class SessionStop(Record):
    """How the session ended."""

    type: Literal["session_stop"] = "session_stop"
    status: Literal["saved", "nothing_stacked", "interrupted", "failed"]
    reason: str
    """A sentence: who or what ended it."""
    exit_status: int | None = None
    n_stacked: int = 0
    n_refused: int = 0
    results: tuple[Text, ...] = ()
    """Files that the final save wrote."""


AnyRecord = (
    SessionStart
    | FrameRecord
    | PsfRecord
    | CheckpointRecord
    | ReferenceRecord
    | GroupRecord
    | ResumeRecord
    | RemovedRecord
    | WarningRecord
    | SessionStop
)
_MODELS: dict[str, type[Record]] = {model.model_fields["type"].default: model for model in get_args(AnyRecord)}


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
    if not isinstance(content, dict) or content.get("type") not in _MODELS:
        raise ValueError("unknown type")
    model = _MODELS[content["type"]]
    return model.model_validate({key: value for key, value in content.items() if key in model.model_fields})


def _jsonable(value: Any) -> Any:
    if isinstance(value, BaseModel):
        return {key: _jsonable(each) for key, each in value}
    if isinstance(value, Timings):
        return dataclasses.asdict(value)
    if isinstance(value, datetime):
        return value.astimezone(UTC).isoformat() if value.tzinfo else value.isoformat()
    if isinstance(value, list | tuple):
        return [_jsonable(each) for each in value]
    return plain_value(value)


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
