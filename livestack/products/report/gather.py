"""What the report is made of: the journal and the saved stacks of one session's folder, read tolerantly.

Everything but the journal may be missing (a night without a single frame, a stack that was moved away): what is not
there is not reported, it is no reason to have no report.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
from astropy.io import fits

from livestack.base.errors import SessionError
from livestack.base.journal import (
    DepthRecord,
    FrameRecord,
    PsfRecord,
    ReferenceRecord,
    RemovedRecord,
    SessionStart,
    SessionStop,
    WarningRecord,
    read_journal,
)
from livestack.base.settings import Settings
from livestack.products.report.air import dimming_of

MAPS = ("COVERAGE", "REJLOW", "REJHIGH")


@dataclass(frozen=True, eq=False)
class StackFile:
    """A group's stack.fits. `image` is (C, H, W) float32, each of `maps` the same in its own type."""

    path: Path
    header: fits.Header
    image: np.ndarray
    maps: dict[str, np.ndarray]

    @property
    def first_pixel(self) -> tuple[int, int]:
        """Where the first stored pixel lies, in pixels of the stack: not (0, 0) where the canvas has grown."""
        found = (_number(self.header.get(keyword)) for keyword in ("LTV1", "LTV2"))
        edge = 0.5 * (1.0 - (_number(self.header.get("LTM1_1")) or 1.0))
        x, y = (round(edge - value) if value is not None else 0 for value in found)
        return x, y

    @property
    def bottom_up(self) -> bool:
        """Row 0 is the bottom of the picture."""
        return str(self.header.get("ROWORDER", "")).strip().upper() == "BOTTOM-UP"

    @property
    def scale_arcsec_px(self) -> float | None:
        """Sampling, from the header's own word, its WCS, or pixel size and focal length."""
        h = self.header
        for keyword in ("PIXSCALE", "SCALE", "SECPIX"):
            value = _number(h.get(keyword))
            if value is not None and value > 0:
                return value
        cd = [_number(h.get(k)) for k in ("CD1_1", "CD1_2", "CD2_1", "CD2_2")]
        if cd[0] is not None and cd[3] is not None:
            determinant = cd[0] * cd[3] - (cd[1] or 0.0) * (cd[2] or 0.0)
            if determinant:
                return 3600.0 * math.sqrt(abs(determinant))
        pixel, focal = _number(h.get("XPIXSZ")), _number(h.get("FOCALLEN"))
        return 206.2648 * pixel / focal if pixel and focal and focal > 0 else None


@dataclass(frozen=True, eq=False)
class Group:
    """One object and filter of the night."""

    name: str
    frames: tuple[FrameRecord, ...]
    stack: StackFile | None
    psf: tuple[PsfRecord, ...] = ()
    reference: ReferenceRecord | None = None
    depth: DepthRecord | None = None
    dimming: Mapping[tuple[str, int], float] = field(default_factory=dict)
    """Magnitudes that a frame (file, position in it) is dimmer than the last reference."""

    @property
    def stacked(self) -> list[FrameRecord]:
        """Frames in the stack, in the order in which they came."""
        return [frame for frame in self.frames if frame.status == "stacked"]

    @property
    def refused(self) -> list[FrameRecord]:
        """Frames that were not taken."""
        return [frame for frame in self.frames if frame.status == "refused"]

    @property
    def exposure_s(self) -> float:
        """Total of the accepted exposures."""
        return sum(frame.exposure_s or 0.0 for frame in self.stacked)


@dataclass(frozen=True, eq=False)
class Night:
    """A session, as its folder tells it."""

    folder: Path
    start: SessionStart | None
    stop: SessionStop | None
    groups: tuple[Group, ...]
    warnings: tuple[WarningRecord, ...]
    notices: tuple[str, ...]
    settings: Settings = field(default_factory=Settings)

    def source(self, frame: FrameRecord) -> Path:
        """Where the camera's file should be."""
        return Path(self.start.folder if self.start else self.folder) / frame.file

    @property
    def times(self) -> tuple[datetime, datetime] | None:
        """First and last exposure."""
        known = sorted(f.date_obs for g in self.groups for f in g.frames if f.date_obs is not None)
        return (known[0], known[-1]) if known else None


def gather_night(folder: Path) -> Night:
    """Read a session's folder.

    Raises
    ------
    SessionError
        It holds no readable journal.
    """
    notices: list[str] = []
    records: list[Any] = read_journal(folder, notices)
    if not records:
        raise SessionError(f"{folder}: the journal holds no record; give the folder of a session that saw a frame.")
    removed = {(r.file, r.index) for r in records if isinstance(r, RemovedRecord)}
    frames: dict[tuple[str, int], FrameRecord] = {}
    for record in records:
        if isinstance(record, FrameRecord):
            frames[record.file, record.index] = record  # a file taken up again counts once, as it ended
    for key in removed & frames.keys():
        frames[key] = frames[key].model_copy(
            update={"status": "refused", "reason": "removed", "message": "taken out again by hand"}
        )
    names = list(dict.fromkeys(f.group for f in frames.values() if f.group))
    names += sorted(p.parent.name for p in folder.glob("*/stack.fits") if p.parent.name not in names)
    groups = []
    for number, name in enumerate(names or [""]):
        own = [f for f in frames.values() if f.group == name or (number == 0 and not f.group)]
        groups.append(
            Group(
                name,
                tuple(own),
                _read_stack(folder / name / "stack.fits", notices),
                tuple(r for r in records if isinstance(r, PsfRecord) and r.group in (name, "")),
                next((r for r in reversed(records) if isinstance(r, ReferenceRecord) and r.group in (name, "")), None),
                next((r for r in reversed(records) if isinstance(r, DepthRecord) and r.group == name), None),
                dimming_of(records, name),
            )
        )
    start = next((r for r in records if isinstance(r, SessionStart)), None)
    return Night(
        folder, start, next((r for r in reversed(records) if isinstance(r, SessionStop)), None), tuple(groups),
        tuple(r for r in records if isinstance(r, WarningRecord) and r.active), tuple(notices), _settings_of(start),
    )  # fmt: skip


def _settings_of(start: SessionStart | None) -> Settings:
    """The session's settings as far as this version knows them."""
    try:
        return Settings.model_validate(start.settings) if start else Settings()
    except ValueError:  # written by another version
        return Settings()


def _read_stack(path: Path, notices: list[str]) -> StackFile | None:
    if not path.is_file():
        return None
    try:
        with fits.open(path, memmap=False) as hdus:
            header = hdus[0].header
            image = _planes(hdus[0], np.float32)
            maps = {hdu.name: _planes(hdu, None) for hdu in hdus[1:] if hdu.name in MAPS and hdu.data is not None}
    except (OSError, ValueError, TypeError) as error:
        notices.append(f"{path.parent.name}/stack.fits cannot be read ({error}); the report does without it.")
        return None
    return StackFile(path, header, image, maps)


def _planes(hdu: fits.ImageHDU, kind: type | None) -> np.ndarray:
    """(C, H, W) in this machine's byte order; the file's own copy is let go at once: a stack may be a gigabyte."""
    planes = np.ascontiguousarray(hdu.data, dtype=kind or hdu.data.dtype.newbyteorder("="))
    del hdu.data
    return planes[None] if planes.ndim == 2 else planes


def _number(value: object) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return float(value) if math.isfinite(value) else None
