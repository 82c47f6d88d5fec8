"""The records of a session's journal: what is known before, a line for every event, what is known only at the end.

The run start / event / run stop of Bluesky's event-model. `type` says which record a line is, `time` when it was
written (UTC). A number that is not finite is written as null; a misspelt field is an error. How lines are kept is
`journal`'s.
"""

from __future__ import annotations

import dataclasses
import json
import math
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

import numpy as np
import pydantic.dataclasses
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field


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
    one_shot: bool = False
    """Takes what is there and ends; else it goes on watching."""
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


class Distortion(BaseModel):
    """What a lens adds to a transform; `docs/conventions.md` says how it is meant."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    coefficients: tuple[tuple[float, ...], ...]
    """2 x 10, frame pixels."""
    centre: tuple[float, float]
    half: float
    reach: tuple[float, float, float, float]


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
    distortion: Distortion | None = None
    """What a lens adds to it; None where it adds nothing."""
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


class SolutionRecord(Record):
    """Where the reference of a group lies in the sky."""

    type: Literal["solution"] = "solution"
    group: str = ""
    solver: str
    ra_deg: Number = None
    """Of the middle of the reference, with `dec_deg`; ICRS."""
    dec_deg: Number = None
    scale_arcsec: Number = None
    """Arcseconds a pixel."""
    rotation_deg: Number = None
    """Position angle of the direction against the stored rows, north through east."""
    mirrored: bool = False
    width_deg: Number = None
    height_deg: Number = None
    n_stars: int = 0
    """Matched with the catalogue."""
    rms_arcsec: Number = None
    wcs: Anything = Field(default_factory=dict)
    """The cards of the WCS, for the pixels of the reference."""
    message: str = ""


class PassageRecord(Record):
    """Something passed, moved, or is new; the words are those of `passages.csv`."""

    type: Literal["passage"] = "passage"
    group: str = ""
    kind: str
    """satellite, aircraft, meteor, mover, newcomer or unknown."""
    first_file: Text
    last_file: Text
    n_frames: int = 1
    time_utc: str = ""
    x0: Number = None
    y0: Number = None
    x1: Number = None
    y1: Number = None
    width_px: Number = None
    snr: Number = None
    rate_px_min: Number = None
    position_angle_deg: Number = None
    ra0_deg: Number = None
    dec0_deg: Number = None
    ra1_deg: Number = None
    dec1_deg: Number = None
    name: str = ""
    message: str = ""


class DepthRecord(Record):
    """How faint a stack reaches, told when it is saved; the last one of a group counts."""

    type: Literal["depth"] = "depth"
    group: str = ""
    n_frames: int
    zero_point: Number = None
    """Magnitude (Gaia's G) of 1 ADU/s in the green or only channel."""
    zero_points: tuple[Number, ...] = ()
    """Of each channel, R, G, B."""
    colour_term: Number = None
    """Change of the zero point with BP - RP, which holds at `colour_pivot`."""
    colour_pivot: Number = None
    limit_mag: Number = None
    """Point source at 5 sigma."""
    sky_mag: Number = None
    """mag/arcsec^2."""
    limits: tuple[tuple[int, float], ...] = ()
    """(frames stacked, `limit_mag`) as the stack grew."""


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
    from_previous: Annotated[tuple[tuple[Number, Number, Number], ...] | None, Plain] = None
    """Row-major 3x3, the group's reference before (x, y, 1) to this one: carries earlier transforms over."""
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


class TargetRecord(Record):
    """The host asked for a new stack; the next frame begins it."""

    type: Literal["target"] = "target"
    name: Text = ""


class FollowRecord(Record):
    """What is at this place of a group's reference, in pixels, is followed from now on; px/min where that is known."""

    type: Literal["follow"] = "follow"
    group: str
    x: float
    y: float
    velocity: tuple[float, float] | None = None


class SavingRecord(Record):
    """The stacks are being saved; a warm-up that was under way ends with it."""

    type: Literal["saving"] = "saving"
    final: bool
    """Nothing is taken any more: a session that breaks off after this line only needs to be saved."""


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
    | SolutionRecord
    | PassageRecord
    | DepthRecord
    | TargetRecord
    | FollowRecord
    | SavingRecord
    | WarningRecord
    | SessionStop
)
MODELS: dict[str, type[Record]] = {model.model_fields["type"].default: model for model in get_args(AnyRecord)}
"""By the word that `type` holds."""


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
