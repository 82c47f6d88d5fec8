"""What happens to frames, as lines of the journal; and what is warned of, said to whoever looks.

A line that tells of a change of the stacks is an *event*: `resume` replays those that came after its checkpoint.
"""

from __future__ import annotations

import contextlib
import errno
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from livestack.astrometry import SkyMap, Solved, Unsolved
from livestack.astrometry.facts import SkyFacts
from livestack.base.durable import storage_error
from livestack.base.folder import FileKey
from livestack.base.frame import FrameInfo
from livestack.base.journal import (
    DepthRecord,
    FrameRecord,
    Journal,
    PassageRecord,
    PsfRecord,
    Record,
    ReferenceRecord,
    RemovedRecord,
    SolutionRecord,
    Timings,
    WarningRecord,
)
from livestack.base.journal import Distortion as DistortionRecord
from livestack.base.journal import Normalisation as NormalisationRecord
from livestack.base.settings import Settings
from livestack.detection.psf import CSV_COLUMNS, PSFModel
from livestack.engine.events import Alert, Event, FrameRefused, FrameStacked, FrameTakenOut, Notice, ReferenceChanged
from livestack.engine.prepare import file_to_stack_pixels
from livestack.engine.states import Outcome
from livestack.movers.passages import Passage
from livestack.products.stack_files import append_psf_csv, isot
from livestack.registration.distortion import Distortion
from livestack.stacking.canvas import on_scale


class JournalWriter:
    """Writes the journal of one session. Its many members are the kinds of lines, one each.

    Parameters
    ----------
    base : folder that the names of files are relative to.
    say : tells a sentence to whoever looks.
    tell : called with each record, for `--json`.

    Attributes
    ----------
    sequence : frames and files told so far; n_events : events told so far.
    """

    name: ClassVar[str] = "journal"
    version: ClassVar[int] = 1

    def __init__(
        self, journal: Journal, base: Path, settings: Settings, say: Callable[[str], None],
        tell: Callable[[Record], None] | None,
    ) -> None:  # fmt: skip
        self.sequence = 0
        self.n_events = 0
        self._journal, self._base, self._settings, self._say, self._tell = journal, base, settings, say, tell
        self._known_references: set[tuple[str, str, str]] = set()
        self._noticed: set[str] = set()
        self._passages: set[tuple[object, ...]] = set()
        self._file: tuple[Path, FileKey, FrameInfo] | None = None

    def recall(self, records: Iterable[Record]) -> None:
        """The journal of the interrupted session has told these already."""
        records = list(records)
        frames = [record for record in records if isinstance(record, FrameRecord)]
        self.sequence = 1 + max((f.sequence for f in frames if f.sequence is not None), default=len(frames) - 1)
        self._known_references = {(r.group, r.file, r.message) for r in records if isinstance(r, ReferenceRecord)}
        self._passages = {_told(r) for r in records if isinstance(r, PassageRecord)}
        self._noticed = {r.message for r in records if isinstance(r, WarningRecord)}

    # From the engine

    def begin_frame(self, path: Path, key: FileKey, info: FrameInfo) -> None:
        """The next frame comes from this file, and its header says this."""
        self._file = (path, key, info)

    def on_event(self, event: Event) -> None:
        """Write it down."""
        if isinstance(event, FrameStacked | FrameRefused):
            self.append_event(self._frame_record(event.outcome))
        elif isinstance(event, FrameTakenOut):
            removed = RemovedRecord(
                file=event.member.name, index=event.member.index, group=event.group, message=event.why
            )
            self.append_event(removed)
        elif isinstance(event, ReferenceChanged):
            self.on_reference(event)
        elif isinstance(event, Notice):
            self.notice(event.message)
        elif isinstance(event, Alert):
            self.warn("observing", [event.message])

    def state(self) -> Mapping[str, Any]:
        """Nothing: the journal is its own memory."""
        return {}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Nothing to go on from."""

    def on_reference(self, event: ReferenceChanged) -> None:
        """A frame has become a reference, unless the journal has it from before an interruption."""
        reference = event.reference
        if (event.group, reference.name, event.why) in self._known_references:
            return
        previous = reference.from_previous
        self.append(
            ReferenceRecord(
                group=event.group, file=reference.name, message=event.why, width=reference.shape[1],
                height=reference.shape[0], from_previous=None if previous is None else _rows(previous),
            )
        )  # fmt: skip

    def notice(self, sentence: str, kind: str = "stack") -> None:
        """A sentence on the stack, or on something of another `kind`, told once in a session."""
        if sentence not in self._noticed:
            self._noticed.add(sentence)
            self.warn(kind, [sentence])

    # From the session

    def append(self, record: Record) -> None:
        """Write one line.

        Raises
        ------
        SessionError : it cannot be written.
        """
        if not self._journal.path.exists():  # writing into a removed file would go unnoticed
            raise storage_error(self._journal.path, OSError(errno.ENOENT, "no such file"))
        self._journal.append(record)
        if self._tell is not None:
            self._tell(record)

    def append_event(self, record: Record) -> None:
        """Write down something that changed the stacks."""
        self.append(record)
        self.n_events += 1

    def warn(self, kind: str, sentences: Sequence[str]) -> None:
        """Write and say sentences."""
        for sentence in sentences:
            self.append(WarningRecord(kind=kind, message=sentence))
            self._say(sentence)

    def refuse_file(self, path: Path, reason: str, message: str, key: FileKey | None, index: int = 0) -> None:
        """A file that never became a frame."""
        self.sequence += 1
        self.append_event(
            FrameRecord(
                file=self.spoken(path), index=index, status="refused", reason=reason, message=message,
                sequence=self.sequence - 1,
                size_bytes=key.size if key else None, mtime_ns=key.mtime_ns if key else None,
            )
        )  # fmt: skip

    def lose(self, file: str, index: int) -> None:
        """A frame that was stacked before the interruption is not there any more."""
        message = f"{file}: was stacked before the interruption, but is gone or changed now; the stack does without it."
        self.append_event(RemovedRecord(file=file, index=index, message=message))
        self._say(message)

    def write_psf(self, output: Path, group: str, n_frames: int, newest_at: datetime | None, model: PSFModel) -> None:
        """A measurement of a stack's PSF, into the journal and the group's psf.csv.

        Raises
        ------
        SessionError : it cannot be written.
        """
        profile = model.profile
        self.append(
            PsfRecord(
                group=group, n_frames=n_frames, n_stars=model.n_stars, fwhm_px=model.fwhm_px,
                fwhm_arcsec=model.fwhm_arcsec, fwhm_x_px=profile.fwhm_x_px, fwhm_y_px=profile.fwhm_y_px,
                eccentricity=model.eccentricity, theta_deg=profile.theta_deg, beta=profile.beta,
                gaussian=vars(model.gaussian), moffat=vars(model.moffat),
            )
        )  # fmt: skip
        path = output / group / "psf.csv"
        row: dict[str, object] = {"n_frames": n_frames, **model.summary()}
        row["date_obs"] = isot(newest_at) if newest_at is not None else None
        try:
            append_psf_csv(path, (*CSV_COLUMNS, "date_obs"), row)
        except OSError as error:
            raise storage_error(path, error) from error

    def write_solution(self, group: str, answer: Solved | Unsolved) -> None:
        """Where a reference lies in the sky, or why that is not known."""
        if isinstance(answer, Unsolved):
            self.warn("solution", [f"{group}: {answer.sentence}."])
            return
        said = f"{group}: {answer.sentence}."
        self.append(_solution_record(group, answer.solver, answer.sky, answer.n_matched, answer.rms_arcsec, said))
        self._say(said)

    def write_passage(self, group: str, passage: Passage) -> None:
        """Something passed; unless the journal has it from before an interruption."""
        said = f"{group}: {passage.sentence}."
        record = PassageRecord(group=group, **passage.state(), message=said)
        if _told(record) not in self._passages:
            self._passages.add(_told(record))
            self.append(record)
            self._say(said)

    def write_depth(self, group: str, n_frames: int, facts: SkyFacts) -> None:
        """How faint a stack reaches, where that is known."""
        if facts.zero_point is not None:
            self.append(
                DepthRecord(
                    group=group, n_frames=n_frames, zero_point=facts.zero_point, zero_points=facts.zero_points,
                    colour_term=facts.colour_term, colour_pivot=facts.colour_pivot, limit_mag=facts.limit_mag,
                    sky_mag=facts.sky_mag, limits=facts.limits,
                )
            )  # fmt: skip

    def spoken(self, path: Path) -> str:
        """A file's name, relative to the (first) watched folder with forward slashes; whole where it is elsewhere."""
        with contextlib.suppress(ValueError):
            return path.relative_to(self._base).as_posix()
        return str(path)

    def _frame_record(self, outcome: Outcome) -> FrameRecord:
        assert self._file is not None
        path, key, info = self._file
        matrix, lens = outcome.transform, outcome.distortion
        if matrix is not None:  # the journal speaks of the file's own pixels
            to_stack = file_to_stack_pixels(info, self._settings)
            matrix = on_scale(self._settings.stack.scale) @ matrix @ to_stack
            lens = None if lens is None else lens.turned(np.linalg.inv(to_stack)[:2, :2])
        normalisation = outcome.normalisation
        self.sequence += 1
        return FrameRecord(
            file=self.spoken(path),
            index=outcome.index,
            group=outcome.group,
            status="stacked" if outcome.stacked else "refused",
            reason=outcome.reason,
            message=outcome.message,
            transform=None if matrix is None else _rows(matrix),
            distortion=None if lens is None else _distortion_record(lens),
            method=outcome.method,
            n_stars=outcome.n_stars,
            n_matched=outcome.n_matched,
            rms_px=outcome.rms_px,
            fwhm_px=outcome.fwhm_px,
            eccentricity=outcome.eccentricity,
            sky_adu=outcome.sky_adu,
            noise_adu=outcome.noise_adu,
            transparency=outcome.transparency,
            weight=outcome.weight,
            rejected_fraction=outcome.rejected_fraction,
            exposure_s=outcome.exposure_s,
            date_obs=outcome.date_obs,
            timings_s=Timings(**{name: round(seconds, 5) for name, seconds in outcome.timings_s.items()}),
            size_bytes=key.size,
            mtime_ns=key.mtime_ns,
            sequence=self.sequence - 1,
            normalisation=None
            if normalisation is None
            else NormalisationRecord(
                factor=[float(v) for v in normalisation.factor],
                surface=[[float(v) for v in row] for row in normalisation.surface],
            ),
        )


def _rows(matrix: np.ndarray) -> tuple[tuple[float, ...], ...]:
    return tuple(tuple(float(v) for v in row) for row in matrix)


def _told(record: PassageRecord) -> tuple[object, ...]:
    """What makes a passage that was told the same as another."""
    place = tuple(None if v is None else round(v) for v in (record.x0, record.y0, record.x1, record.y1))
    return record.group, record.kind, record.first_file, record.last_file, record.n_frames, *place


def _solution_record(
    group: str, solver: str, sky: SkyMap, n_stars: int, rms_arcsec: float, message: str
) -> SolutionRecord:
    ra, dec = sky.centre
    width, height = sky.field_deg
    return SolutionRecord(
        group=group, solver=solver, ra_deg=ra, dec_deg=dec, scale_arcsec=sky.scale_arcsec,
        rotation_deg=sky.rotation_deg, mirrored=sky.mirrored, width_deg=width, height_deg=height, n_stars=n_stars,
        rms_arcsec=rms_arcsec, wcs={keyword: value for keyword, value, _ in sky.cards()}, message=message,
    )  # fmt: skip


def _distortion_record(lens: Distortion) -> DistortionRecord:
    x, y = (tuple(float(v) for v in row) for row in lens.coefficients)
    return DistortionRecord(coefficients=(x, y), centre=lens.centre, half=lens.half, reach=lens.reach)
