"""A session: one folder watched (or read once), one output folder kept. The only module with threads and clocks.

    watcher thread --paths--> reader thread --prepared frames--> this thread: stack, journal, snapshot
                                                                      |
                                                                      +--> artist thread: preview

Paths wait in an unbounded queue, frames in a queue of one: a burst of files costs nothing, and the next frame is read,
calibrated and searched for stars while the present one is stacked. Faces read snapshots; what they ask for comes back
through `Controls` as commands that are carried out between two frames.
"""

from __future__ import annotations

import contextlib
import queue
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from livestack import transform as tf
from livestack.artist import Artist, Drawing, LastFrame
from livestack.durable import remove_leftovers
from livestack.errors import FrameError, LivestackError, NothingStacked, SessionError, UsageError
from livestack.formats import read_frames
from livestack.frame import Frame
from livestack.group import GroupStack, Outcome, Reference
from livestack.journal import (
    FrameRecord,
    Journal,
    PsfRecord,
    Record,
    ReferenceRecord,
    RemovedRecord,
    SessionStart,
    SessionStop,
    Timings,
    WarningRecord,
)
from livestack.journal import Normalisation as NormalisationRecord
from livestack.lock import SessionLock
from livestack.pipeline import LiveStack, Prepared, Result
from livestack.psf import CSV_COLUMNS, PSFModel, measure_psf
from livestack.render import render_part
from livestack.report import write_report
from livestack.saving import append_psf_csv, build_header, write_pictures, write_preview, write_stack
from livestack.settings import Settings
from livestack.snapshot import Controls, Slot, Snapshot, State, TrendPoint
from livestack.version import software, version
from livestack.watcher import Arrival, Idle, Notice, Refusal, Watcher

MESSAGES_KEPT = 50
TREND_KEPT = 2000
PREVIEW_INTERVAL_S = 0.8
HISTORY_POINTS = 200


@dataclass(frozen=True, eq=False)
class Read:
    """A frame that came out of a file, prepared; `read_s` what reading took."""

    arrival: Arrival
    frame: Frame
    prepared: Prepared | Outcome
    read_s: float


@dataclass(frozen=True)
class Unread:
    """A file that held no frame after all."""

    arrival: Arrival
    reason: str
    message: str


class End:
    """Nothing more will come."""


@dataclass(frozen=True)
class SessionEnd:
    """How a session ended."""

    status: int
    message: str
    results: tuple[Path, ...] = ()


class Session:
    """Runs one session.

    Parameters
    ----------
    paths : the folder to watch; for `one_shot` folders and files.
    settings : everything.
    output : the session's folder.
    one_shot : take what is there and end.
    slot : where snapshots are published.
    tell : called with each journal record, for `--json`.

    Raises
    ------
    UsageError : a path is missing; another session holds the output; masters are missing.
    SessionError : the output cannot be written.
    """

    def __init__(
        self,
        paths: Sequence[Path],
        settings: Settings,
        output: Path,
        one_shot: bool = False,
        slot: Slot | None = None,
        tell: Callable[[Record], None] | None = None,
    ) -> None:
        self.settings = settings
        self.output = output
        self.slot = slot or Slot()
        self.stopping = threading.Event()
        self.aborting = threading.Event()
        self._paths = [Path(path) for path in paths]
        self._one_shot = one_shot
        self._tell = tell
        ingest = settings.ingest
        self._watcher = Watcher(
            self._paths, ingest, exclude=[output, *self._outputs()], stop=self.stopping, one_shot=one_shot
        )
        masters = None
        if settings.calibration.masters is not None:
            from livestack.masters import load_masters

            masters = load_masters(settings.calibration.masters)
        self._stack = LiveStack(settings, masters, on_reference=self._on_reference)
        self._commands: queue.Queue[Callable[[], None]] = queue.Queue()
        self._items: queue.Queue[object] = queue.Queue()
        self._frames: queue.Queue[object] = queue.Queue(maxsize=1)
        self._backlog = 0
        self._failure: list[BaseException] = []
        self._snapshot = Snapshot(session_name=self._paths[0].name or str(self._paths[0]), output=output)
        self._messages: deque[str] = deque(maxlen=MESSAGES_KEPT)
        self._trend: deque[TrendPoint] = deque(maxlen=TREND_KEPT)
        self._noise: list[tuple[int, float]] = []
        self._refused_files = 0
        self._sequence = 0
        self._paused = False
        self._drawn: Drawing | None = None
        self._drawn_lock = threading.Lock()
        self._last_preview = 0.0
        self._psf_task: tuple[str, int, threading.Thread, list[PSFModel | None]] | None = None
        self._psf: dict[str, PSFModel] = {}
        self._active_group = ""
        self._results: list[Path] = []
        self._object_override = ""
        self._touched = time.monotonic()

    def _outputs(self) -> list[Path]:
        """Where earlier sessions of this folder lie by default."""
        return [path / "livestack" for path in self._paths if path.is_dir()]

    # What faces may ask

    def controls(self) -> Controls:
        """Commands for faces; each returns at once and is carried out between two frames."""

        def command(action: Callable[[], None], said: str) -> str:
            self._commands.put(action)
            return said

        return Controls(
            pause=lambda: command(lambda: self._pause(True), "Pausing after the frame in hand."),
            resume=lambda: command(lambda: self._pause(False), "Going on."),
            save_now=lambda: command(self._save_now, "Saving the stack as it stands."),
            stop=lambda: self._stop_asked(),
            new_target=lambda name: command(lambda: self._new_target(name), "The next frame begins a new stack."),
            set_note=lambda text: command(lambda: self._publish(note=text[:500]), "The words are shown."),
            set_object=lambda name: command(lambda: self._set_object(name), "The name is shown."),
            set_stretch=lambda background, saturation: command(
                lambda: self._set_stretch(background, saturation), "The picture is being drawn anew."
            ),
            remove_frame=lambda name: command(lambda: self._remove(name), f"Taking {name} out."),
        )

    def _stop_asked(self) -> str:
        self.stopping.set()
        return "Finishing what is ready, then saving."

    def stop(self) -> None:
        """First request: drain what is ready, save, end. Second: stop at once."""
        if self.stopping.is_set():
            self.aborting.set()
        self.stopping.set()

    # The run

    def run(self) -> SessionEnd:
        """Run to the end; the exit status is in what is returned or raised.

        Raises
        ------
        NothingStacked, SessionError, UsageError : see `livestack.errors`.
        """
        with SessionLock(self.output), Journal(self.output / "session.jsonl") as journal:
            self._journal = journal
            remove_leftovers(self.output)
            self._append(
                SessionStart(
                    version=version(), settings=self.settings.model_dump(mode="json"), folder=str(self._paths[0]),
                    folders=tuple(str(path) for path in self._paths), software=software(),
                )
            )  # fmt: skip
            self._artist = Artist(self._take_drawing, self._say)
            threads = [
                threading.Thread(target=self._watch, name="livestack-watch", daemon=True),
                threading.Thread(target=self._read, name="livestack-read", daemon=True),
            ]
            self._publish(state="watching")
            for thread in threads:
                thread.start()
            try:
                self._loop()
                return self._finish()
            except (LivestackError, MemoryError) as error:
                self._fail(error)
                raise
            finally:
                self.stopping.set()
                self.aborting.set()
                self._unblock(threads)
                self._artist.finish()
                self._stack.close()
                self._publish(state="ended")

    def _unblock(self, threads: Sequence[threading.Thread]) -> None:
        """Let the reader, which may wait for a place in the queue, come to its end."""
        while any(thread.is_alive() for thread in threads):
            with contextlib.suppress(queue.Empty):
                self._frames.get_nowait()
            threads[0].join(0.02)
            threads[1].join(0.02)

    def _watch(self) -> None:
        try:
            for item in self._watcher:
                if self.aborting.is_set():
                    break
                if isinstance(item, Idle) and not self._items.empty():
                    continue  # not idle: others are still waiting to be read
                self._backlog += isinstance(item, Arrival)
                self._items.put(item)
        except BaseException as error:  # noqa: BLE001  (raised again in the session's own thread)
            self._failure.append(error)
        finally:
            self._items.put(End())

    def _read(self) -> None:
        """Reader thread: files to prepared frames, in order; everything else is passed on."""
        try:
            while True:
                item = self._items.get()
                if self.aborting.is_set():
                    break
                if isinstance(item, Arrival):
                    self._backlog -= 1
                    self._read_file(item)
                else:
                    self._frames.put(item)
                if isinstance(item, End):
                    return
        except BaseException as error:  # noqa: BLE001  (raised again in the session's own thread)
            self._failure.append(error)
        self._frames.put(End())

    def _read_file(self, arrival: Arrival) -> None:
        try:
            frames = read_frames(arrival.path)
            while not self.aborting.is_set():
                begin = time.perf_counter()
                frame = next(frames, None)
                if frame is None:
                    return
                read_s = time.perf_counter() - begin
                self._frames.put(Read(arrival, frame, self._stack.prepare(frame), read_s))
        except FrameError as error:
            self._frames.put(Unread(arrival, error.reason, str(error)))

    def _loop(self) -> None:
        limit = self.settings.ingest.max_frames
        while not self.aborting.is_set():
            self._obey()
            if self._paused and not self.stopping.is_set():
                time.sleep(0.05)
                continue
            try:
                item = self._frames.get(timeout=0.1)
            except queue.Empty:
                self._tick()
                continue
            if isinstance(item, End):
                break
            if isinstance(item, Read):
                self._take(item)
            elif isinstance(item, Unread):
                self._note_refusal(item.arrival.path, item.reason, item.message, item.arrival.key)
            elif isinstance(item, Refusal):
                self._note_refusal(item.path, item.reason, item.message, item.key)
            elif isinstance(item, Notice):
                self._say(item.message)
            elif isinstance(item, Idle):
                self._idle(item)
            if limit is not None and self._stack.n_stacked >= limit:
                self.stopping.set()
                return
        if self._failure:
            raise self._failure[0]

    def _obey(self) -> None:
        """Carry out what faces asked for."""
        while True:
            try:
                action = self._commands.get_nowait()
            except queue.Empty:
                return
            try:
                action()
            except (FrameError, UsageError, NothingStacked) as error:
                self._say(str(error))

    def _idle(self, item: Idle) -> None:
        self._tick()
        limit = self.settings.ingest.idle_stop_s
        quiet = min(item.idle_s, time.monotonic() - self._touched)
        if limit is not None and quiet >= limit and self._items.empty():
            self.stopping.set()

    # One frame

    def _take(self, read: Read) -> None:
        self._touched = time.monotonic()
        prepared = read.prepared
        outcome = prepared if isinstance(prepared, Outcome) else self._stack.add_prepared(prepared)
        self._touched = time.monotonic()
        outcome.timings_s["read"] = read.read_s
        for notice in self._stack.notices:
            self._say(notice)
        self._stack.notices.clear()
        self._collect_psf(outcome.group)
        self._append(self._record(outcome, read.arrival))
        for sentence in outcome.warnings:
            self._append(WarningRecord(kind="observing", message=sentence))
            self._say(sentence)
        if not outcome.stacked:
            self._say(outcome.message)
        self._note_trend(outcome, read.frame)
        group = self._stack.groups.get(outcome.group)
        if group is not None and outcome.stacked:
            self._active_group = outcome.group
            self._want_psf(group)
            self._want_preview(group)
        self._publish()

    def _record(self, outcome: Outcome, arrival: Arrival) -> FrameRecord:
        matrix = outcome.transform
        normalisation = outcome.normalisation
        self._sequence += 1
        return FrameRecord(
            file=self._spoken_path(arrival.path),
            index=outcome.index,
            group=outcome.group,
            status="stacked" if outcome.stacked else "refused",
            reason=outcome.reason,
            message=outcome.message,
            transform=None if matrix is None else tuple(tuple(float(v) for v in row) for row in matrix),
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
            size_bytes=arrival.key.size,
            mtime_ns=arrival.key.mtime_ns,
            sequence=self._sequence - 1,
            normalisation=None
            if normalisation is None
            else NormalisationRecord(
                factor=[float(v) for v in normalisation.factor],
                surface=[[float(v) for v in row] for row in normalisation.surface],
            ),
        )

    def _note_refusal(self, path: Path, reason: str, message: str, key: Any) -> None:
        """A file that never became a frame."""
        self._touched = time.monotonic()
        self._refused_files += 1
        self._sequence += 1
        self._append(
            FrameRecord(
                file=self._spoken_path(path), status="refused", reason=reason, message=message,
                sequence=self._sequence - 1,
                size_bytes=key.size if key else None, mtime_ns=key.mtime_ns if key else None,
            )
        )  # fmt: skip
        self._say(message)
        blank = TrendPoint(
            self._sequence, path.name, "refused", None, None, None, None, None, 0, None, None, None, reason, message
        )
        self._trend.append(blank)
        self._publish()

    def _note_trend(self, outcome: Outcome, frame: Frame) -> None:
        moved = (
            tf.decompose(outcome.transform, frame.info.width, frame.info.height)
            if outcome.transform is not None
            else None
        )
        self._trend.append(
            TrendPoint(
                frame=self._sequence,
                file=outcome.name,
                status="stacked" if outcome.stacked else "refused",
                time=outcome.date_obs,
                fwhm_px=outcome.fwhm_px,
                eccentricity=outcome.eccentricity,
                sky_adu=outcome.sky_adu,
                transparency=outcome.transparency,
                n_stars=outcome.n_stars or 0,
                dx_px=moved.dx_px if moved else None,
                dy_px=moved.dy_px if moved else None,
                rotation_deg=moved.rotation_deg if moved else None,
                reason=outcome.reason,
                message=outcome.message or None,
            )
        )

    def _on_reference(self, group: str, reference: Reference, why: str) -> None:
        self._append(
            ReferenceRecord(
                group=group, file=reference.name, message=why, width=reference.shape[1], height=reference.shape[0]
            )
        )

    # PSF through the night

    def _want_psf(self, group: GroupStack) -> None:
        """Every few frames measure the stack's PSF in the background, on a copy."""
        every = self.settings.psf.every_frames
        if group.n_stacked % every or group.stack is None or (group.reference and group.reference.starless):
            return
        self._collect_psf(None)
        image = np.mean(group.stack.image(), axis=0)
        found: list[PSFModel | None] = []
        info = group.reference.info if group.reference else None
        scale = info.scale_arcsec_px if info else None
        saturation = info.saturation_adu if info else None
        settings = self.settings.psf
        worker = threading.Thread(
            target=lambda: found.append(measure_psf(image, saturation, settings, scale)),
            name="livestack-psf",
            daemon=True,
        )
        worker.start()
        self._psf_task = (group.name, group.n_stacked, worker, found)

    def _collect_psf(self, before: str | None) -> None:
        """Write down the PSF that was being measured. It always comes before the next frame's line, so that the same
        night gives the same journal."""
        if self._psf_task is None:
            return
        name, n_frames, worker, found = self._psf_task
        self._psf_task = None
        worker.join()
        model = found[0] if found else None
        if model is not None:
            self._write_psf(name, n_frames, model)

    def _write_psf(self, name: str, n_frames: int, model: PSFModel) -> None:
        self._psf[name] = model
        profile = model.profile
        self._append(
            PsfRecord(
                group=name, n_frames=n_frames, n_stars=model.n_stars, fwhm_px=model.fwhm_px,
                fwhm_arcsec=model.fwhm_arcsec, fwhm_x_px=profile.fwhm_x_px, fwhm_y_px=profile.fwhm_y_px,
                eccentricity=model.eccentricity, theta_deg=profile.theta_deg, beta=profile.beta,
            )
        )  # fmt: skip
        append_psf_csv(self.output / name / "psf.csv", CSV_COLUMNS, {"n_frames": n_frames, **model.summary()})

    # Pictures

    def _want_preview(self, group: GroupStack) -> None:
        now = time.monotonic()
        if group.stack is None or (not self._artist.idle and now - self._last_preview < PREVIEW_INTERVAL_S):
            return
        self._last_preview = now
        newest = group.newest
        last = LastFrame(*newest) if newest is not None else None
        bottom_up = bool(group.reference and group.reference.info.bottom_up)
        self._artist.draw(group.name, group.stack, last, self.settings.render, bottom_up)
        group.newest = None

    def _take_drawing(self, drawing: Drawing) -> None:
        """From the artist's thread: write the preview, keep the drawing for the next snapshot."""
        try:
            write_preview(self.output / "preview.jpg", drawing.picture)
        except SessionError as error:
            said = str(error)
            self._commands.put(lambda: self._say(said))
        with self._drawn_lock:
            self._drawn = drawing

    def _region(self, x: int, y: int, w: int, h: int) -> np.ndarray:
        """True pixels of the upright picture, for zooming; called from faces' threads."""
        with self._drawn_lock:
            drawing = self._drawn
        group = self._stack.groups.get(drawing.group) if drawing else None
        if drawing is None or group is None or group.stack is None:
            raise ValueError("region: nothing has been drawn yet.")
        info = group.reference.info if group.reference else None
        flipped = bool(info and info.bottom_up)
        height, width = group.stack.shape[1:]
        # 16 pixels around, for what the renderer smooths
        x0, y0, x1, y1 = max(0, x - 16), max(0, y - 16), min(width, x + w + 16), min(height, y + h + 16)
        rows = slice(height - y1, height - y0) if flipped else slice(y0, y1)
        part = group.stack.image(rows, slice(x0, x1))
        drawn = render_part(part, drawing.look, (x0, rows.start), bottom_up=flipped).rgb
        return drawn[y - y0 : y - y0 + h, x - x0 : x - x0 + w]

    # Telling

    def _spoken_path(self, path: Path) -> str:
        """Relative to the watched folder, with forward slashes; whole where it lies elsewhere."""
        for root in self._paths:
            with contextlib.suppress(ValueError):
                relative = path.relative_to(root.resolve()) if path.is_absolute() else path.relative_to(root)
                return relative.as_posix() if relative.name else path.name
        return str(path)

    def _append(self, record: Record) -> None:
        self._journal.append(record)
        if self._tell is not None:
            self._tell(record)

    def _say(self, message: str) -> None:
        self._messages.append(message)

    def _tick(self) -> None:
        if self._drawn is not None and self._drawn.n_frames != self._noted_frames():
            self._publish()

    def _noted_frames(self) -> int:
        return self._noise[-1][0] if self._noise else -1

    def _publish(self, state: State | None = None, note: str | None = None) -> None:
        with self._drawn_lock:
            drawing = self._drawn
        old = self._snapshot
        picture, last, sequence = old.picture, old.last_frame, old.picture_sequence
        if drawing is not None and drawing.picture.rgb is not picture:
            picture, last, sequence = drawing.picture.rgb, drawing.last_frame, sequence + 1
            if drawing.noise and min(drawing.noise) > 0 and drawing.n_frames != self._noted_frames():
                self._noise.append((drawing.n_frames, drawing.noise[1] / drawing.noise[0]))
                if len(self._noise) > HISTORY_POINTS:
                    del self._noise[1::2]
        group = self._stack.groups.get(self._active_group)
        point = self._trend[-1] if self._trend else None
        psf = self._psf.get(self._active_group)
        info = group.reference.info if group is not None and group.reference is not None else None
        exposure: dict[str, float] = {}
        for one in self._stack.groups.values():
            if one.reference is not None:
                name = one.reference.info.filter_name or ""
                exposure[name] = exposure.get(name, 0.0) + one.exposure_s
        ratio = self._noise[-1][1] if self._noise else None
        fwhm = psf.fwhm_px if psf else (point.fwhm_px if point else None)
        scale = info.scale_arcsec_px if info else None
        self._snapshot = replace(
            old,
            sequence=old.sequence + 1,
            picture_sequence=sequence,
            state=state or ("paused" if self._paused else old.state if old.state != "paused" else "watching"),
            object_name=self._object_override or (info.object_name or "" if info else ""),
            group=self._active_group,
            n_stacked=self._stack.n_stacked,
            n_refused=self._refused_files + sum(one.n_refused for one in self._stack.groups.values()),
            n_waiting=self._watcher.n_waiting + self._backlog,
            exposure_s=exposure,
            fwhm_px=fwhm,
            fwhm_arcsec=fwhm * scale if fwhm and scale else None,
            eccentricity=psf.eccentricity if psf else (point.eccentricity if point else None),
            sky_adu=point.sky_adu if point else None,
            snr_gain=1.0 / ratio if ratio else None,
            snr_ideal=float(group.n_stacked) ** 0.5 if group is not None and group.n_stacked else None,
            noise_history=tuple(self._noise),
            trend=tuple(self._trend),
            messages=tuple(self._messages),
            warnings=group.warnings.active if group is not None else (),
            picture=picture,
            last_frame=last,
            full_size=(group.stack.shape[2], group.stack.shape[1]) if group is not None and group.stack else (0, 0),
            region=self._region if picture is not None else None,
            note=old.note if note is None else note,
        )
        self.slot.publish(self._snapshot)

    # Commands

    def _pause(self, paused: bool) -> None:
        self._paused = paused
        self._say("Paused: new frames wait." if paused else "Going on.")
        self._publish()

    def _new_target(self, name: str) -> None:
        self._stack.start_new_target()
        self._object_override = name.strip()[:80]
        self._say("The next frame begins a new stack.")
        self._publish()

    def _set_object(self, name: str) -> None:
        self._object_override = name.strip()[:80]
        self._publish()

    def _set_stretch(self, background: float, saturation: float) -> None:
        wanted = self.settings.render.model_copy(update={"background": background, "saturation": saturation})
        self.settings = self.settings.model_copy(update={"render": type(wanted)(**wanted.model_dump())})
        group = self._stack.groups.get(self._active_group)
        if group is not None:
            self._want_preview(group)
        self._publish()

    def _remove(self, name: str) -> None:
        group = self._stack.remove(name)
        self._append(RemovedRecord(file=name, group=group, message=f"{name} was taken out of the stack."))
        self._say(f"{name} was taken out of {group}.")
        self._want_preview(self._stack.groups[group])
        self._publish()

    def _save_now(self) -> None:
        for group in list(self._stack.groups.values()):
            if group.n_stacked:
                self._save_group(group, final=False)
        self._say(f"Saved to {self.output}.")
        self._publish()

    # The end

    def _finish(self) -> SessionEnd:
        if self.aborting.is_set():
            self._append(self._stop_record("interrupted", "stopped at once by the user", 130))
            return SessionEnd(130, f"Stopped at once; `livestack resume {self.output}` goes on from here.")
        self._collect_psf(None)
        filled = [group for group in self._stack.groups.values() if group.n_stacked]
        if not filled:
            reason = self._why_nothing()
            self._append(self._stop_record("nothing_stacked", reason, 1))
            raise NothingStacked(reason)
        self._publish(state="saving")
        for group in filled:
            self._save_group(group, final=False)
            if self.settings.save.final_pass and self._final_pass(group):
                self._save_group(group, final=True)
        if self.aborting.is_set():
            self._append(self._stop_record("interrupted", "stopped while saving", 130))
            return SessionEnd(130, f"Stopped; the streaming result is in {self.output}.", tuple(self._results))
        for group in filled:
            self._want_preview(group)
        self._append(self._stop_record("saved", "all frames are done", 0))
        self._results.append(write_report(self.output))
        self._say(f"Saved to {self.output}.")
        return SessionEnd(0, f"Saved to {self.output}.", tuple(self._results))

    def _why_nothing(self) -> str:
        where = ", ".join(str(path) for path in self._paths)
        if not self._trend:
            return f"{where}: no frame was found; expected FITS, raw, TIFF, PNG, JPEG, SER or XISF; check the folder."
        last = self._trend[-1]
        why = last.message or last.reason
        return f"{where}: none of {len(self._trend)} frame(s) could be stacked; the last one: {why}"

    def _final_pass(self, group: GroupStack) -> bool:
        total = group.n_stacked

        def progress(done: int, of: int) -> None:
            if done == of or done % max(1, of // 20) == 0:
                self._say(f"Final pass {group.name}: {done} of {of} frames tested again.")
                self._publish()

        try:
            return self._stack.final_pass(group.name, progress, self.aborting.is_set)
        except FrameError as error:
            self._say(f"The final pass of {group.name} over {total} frames was left out: {error}")
            return False

    def _save_group(self, group: GroupStack, final: bool) -> None:
        result = self._stack.result(group.name)
        folder = self.output / group.name
        model = self._measure_final(result)
        if model is not None:
            self._psf[group.name] = model
        header = build_header(result, self.settings, version(), model, group.history, final)
        path = folder / "stack.fits"
        write_stack(path, result, header)
        written = [path]
        last_word = final or not self.settings.save.final_pass or self.settings.stack.rejection != "live"
        if last_word and model is not None:
            self._write_psf(group.name, group.n_stacked, model)
        written += write_pictures(folder, result, self.settings, self._stack.bands, None)
        self._results.extend(p for p in written if p not in self._results)

    def _measure_final(self, result: Result) -> PSFModel | None:
        if result.reference.starless:
            return None
        image = result.mean if result.mean.ndim == 2 else np.mean(result.mean, axis=0)
        info = result.reference.info
        return measure_psf(image, info.saturation_adu, self.settings.psf, info.scale_arcsec_px)

    def _stop_record(self, status: Any, reason: str, exit_status: int) -> SessionStop:
        refused = self._refused_files + sum(group.n_refused for group in self._stack.groups.values())
        return SessionStop(
            status=status,
            reason=reason,
            exit_status=exit_status,
            n_stacked=self._stack.n_stacked,
            n_refused=refused,
            results=tuple(str(path) for path in self._results),
        )

    def _fail(self, error: BaseException) -> None:
        """Write down why the session broke off, if the disk still takes it."""
        if isinstance(error, NothingStacked):
            return
        with contextlib.suppress(SessionError):
            self._append(self._stop_record("failed", str(error), 3))


def default_output(paths: Sequence[Path], now: datetime | None = None) -> Path:
    """FOLDER/livestack/<start time>, beside the frames of the first path."""
    first = paths[0]
    folder = first if first.is_dir() or not first.exists() else first.parent
    moment = (now or datetime.now(UTC)).astimezone()
    return folder / "livestack" / moment.strftime("%Y-%m-%d_%H%M%S")
