"""A session: one folder watched (or read once), one output folder kept. Threads and clocks live here.

    watcher thread --paths--> reader thread --prepared frames--> this thread: stack, journal, checkpoint, snapshot
                                                                      |
                                                                      +--> artist thread: preview

Paths wait in an unbounded queue, frames in a queue of one: a burst of files costs nothing, and the next frame is read,
calibrated and searched for stars while the present one is stacked. Faces read snapshots; what they ask for comes back
through `Controls` as commands that are carried out between two frames. An interrupted session first restores its
checkpoint and replays what the journal tells of the time after it.
"""

from __future__ import annotations

import contextlib
import errno
import os
import queue
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from livestack.base.durable import remove_leftovers, storage_error
from livestack.base.errors import FrameError, LivestackError, NothingStacked, SessionError, UnreadableFrame, UsageError
from livestack.base.folder import FileKey
from livestack.base.frame import FrameInfo
from livestack.base.journal import (
    JOURNAL_NAME,
    CheckpointRecord,
    FrameRecord,
    Journal,
    MasterUse,
    PsfRecord,
    Record,
    ReferenceRecord,
    RemovedRecord,
    ResumeRecord,
    SavingRecord,
    SessionStart,
    SessionStop,
    TargetRecord,
    Timings,
    WarningRecord,
)
from livestack.base.journal import Distortion as DistortionRecord
from livestack.base.journal import Normalisation as NormalisationRecord
from livestack.base.resources import available_memory, bins_frames, memory_sentence, thread_count
from livestack.base.settings import Settings
from livestack.base.version import software, version
from livestack.engine.group import GroupStack
from livestack.engine.ledger import Outcome
from livestack.engine.pipeline import LiveStack
from livestack.engine.prepare import file_to_stack_pixels
from livestack.engine.reference import Reference
from livestack.formats import read_frame
from livestack.kernels.bands import Bands
from livestack.observers.preview import Drawing, LastFrame, PreviewRenderer
from livestack.picture.composite import check_palette
from livestack.products.report import write_report
from livestack.products.stack_files import write_preview
from livestack.registration.distortion import Distortion
from livestack.session.checkpoint import FOLDER_NAME, MASKS_NAME, Checkpointer, load_newest, remove_checkpoints
from livestack.session.keeping import Keeper
from livestack.session.kernel_warmup import compile_loops, is_compiled
from livestack.session.lock import SessionLock
from livestack.session.prefetch import STUMBLES, End, Prefetcher, Read, Unread, stumble
from livestack.session.resume import Event, Interrupted, check_masters, read_interrupted
from livestack.session.snapshot import Controls, Slot
from livestack.session.status_feed import StatusFeed
from livestack.session.watcher import Idle, Notice, Refusal, Watcher
from livestack.stacking.accumulators import RejectedSamples
from livestack.stacking.mask_store import MaskStore


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
    resumed : go on with the interrupted session whose folder `output` is.

    Raises
    ------
    UsageError : a path is missing; masters are missing.
    """

    def __init__(
        self,
        paths: Sequence[Path],
        settings: Settings,
        output: Path,
        one_shot: bool = False,
        slot: Slot | None = None,
        tell: Callable[[Record], None] | None = None,
        resumed: bool = False,
    ) -> None:
        self.settings = settings
        self.output = output
        self.slot = slot or Slot()
        self.stopping = threading.Event()
        self.aborting = threading.Event()
        self._paths = [Path(path) for path in paths]
        first = Path(os.path.realpath(self._paths[0]))
        self._base = first.parent if first.is_file() else first
        self._one_shot = one_shot
        self._resumed = resumed
        self._tell = tell
        self._watcher: Watcher | None = None if resumed else self._make_watcher(frozenset(), None)
        check_palette(settings.render.palette)
        masters = None
        if settings.calibration.masters is not None:
            from livestack.calibration.masters import load_masters

            masters = load_masters(settings.calibration.masters, settings.calibration)
        self._masters = masters.masters if masters is not None else ()
        self._stack = LiveStack(
            settings, masters, Bands(thread_count()), on_reference=self._on_reference, keep=self._keep_mask
        )
        self._commands: queue.Queue[Callable[[], None]] = queue.Queue()
        self._prefetcher: Prefetcher | None = None
        self._teller = StatusFeed(
            self.slot, self._paths[0].name or str(self._paths[0]), output, self._stack, self._n_waiting
        )
        self._masks: MaskStore
        self._state: Checkpointer
        self._sequence = 0
        self._n_events = 0
        self._known_references: set[tuple[str, str, str]] = set()
        self._composites: set[str] = set()
        self._touched = time.monotonic()
        self._told_memory = resumed
        self._why_ended: str | None = None
        self._asked_to_stop = False
        self._noticed: set[str] = set()

    def _make_watcher(self, known: frozenset[FileKey], since: float | None) -> Watcher:
        return Watcher(
            self._paths, self.settings.ingest, exclude=[self.output, *self._outputs(), *self._others()], known=known,
            stop=self.stopping, one_shot=self._one_shot, since=since,
        )  # fmt: skip

    def _outputs(self) -> list[Path]:
        """Where earlier sessions of this folder lie by default."""
        return [path / "livestack" for path in self._paths if path.is_dir()]

    def _others(self) -> list[Path]:
        """Folders below the watched ones whose files are no frames: what is published, and the masters."""
        save, masters = self.settings.save, self.settings.calibration.masters
        roots = [Path(os.path.realpath(path)) for path in self._paths]
        # masters that lie among the lights are told apart by their headers
        apart = masters is not None and not any(root.is_relative_to(os.path.realpath(masters)) for root in roots)
        return [path for path in (save.publish, masters if apart else None) if path is not None]

    def _n_waiting(self) -> int:
        return self._prefetcher.n_waiting if self._prefetcher is not None else 0

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
            stop=self._stop_asked,
            new_target=lambda name: command(lambda: self._new_target(name), "The next frame begins a new stack."),
            set_note=lambda text: command(lambda: self._teller.publish(note=text[:500]), "The words are shown."),
            set_object=lambda name: command(lambda: self._set_object(name), "The name is shown."),
            set_stretch=lambda background, saturation: command(
                lambda: self._set_stretch(background, saturation), "The picture is being drawn anew."
            ),
            remove_frame=lambda name: command(lambda: self._remove(name), f"Taking {name} out."),
        )

    def _stop_asked(self) -> str:
        self._end("the host ended it from a screen")
        return "Finishing what is ready, then saving."

    def stop(self) -> None:
        """First request: drain what is ready, save, end. Second: stop at once."""
        if self._asked_to_stop:
            self.aborting.set()
        self._asked_to_stop = True
        self._end("ended by Ctrl-C, SIGTERM or a closed terminal")

    def _end(self, why: str) -> None:
        """Take no more than what is ready; the first reason is the one that the journal tells."""
        self._why_ended = self._why_ended or why
        self.stopping.set()

    # The run

    def run(self) -> SessionEnd:
        """Run to the end; the exit status is in what is returned or raised.

        Raises
        ------
        NothingStacked, SessionError, UsageError : see `base.errors`.
        """
        with SessionLock(self.output):
            interrupted = read_interrupted(self.output) if self._resumed else None
            with Journal(self.output / JOURNAL_NAME) as journal:
                self._journal = journal
                remove_leftovers(self.output)
                return self._run(interrupted)

    def _run(self, interrupted: Interrupted | None) -> SessionEnd:
        folder = self.output / FOLDER_NAME
        measured: set[tuple[str, int]] = set()
        if interrupted is not None:
            check_masters(self.output, interrupted.start.masters, {m.checksum: m.path.name for m in self._masters})
            self._watcher = self._make_watcher(interrupted.known, interrupted.start.time.timestamp())
            measured = {(r.group, r.n_frames) for r in interrupted.records if isinstance(r, PsfRecord)}
        self._keeper = Keeper(self.output, self.settings, self._stack, self._append, self._teller.say, measured)
        self._teller.psf = self._keeper.psf
        self._artist = PreviewRenderer(self._take_drawing, self._teller.say)
        assert self._watcher is not None
        prefetcher = self._prefetcher = Prefetcher(self._watcher, self._stack.prepare, self.aborting)
        compiler = threading.Thread(target=compile_loops, args=(self.stopping.is_set,), name="livestack-compile")
        try:
            if interrupted is None:
                self._append(self._start_record())
                remove_checkpoints(folder)
                self._masks = MaskStore(folder / MASKS_NAME)
                self._state = self._make_checkpointer(folder)
            else:
                self._go_on(interrupted, folder, prefetcher)
            if not is_compiled():
                self._teller.say("Preparing the compiled loops: half a minute, on the first run only.")
                compiler.start()
            self._teller.publish(state="watching")
            if interrupted is None or not interrupted.taking_is_over:
                prefetcher.start()
                self._loop(prefetcher)
            return self._finish()
        except MemoryError as error:
            short = SessionError(
                f"{self.output}: out of memory ({error}); expected enough for this frame size: close other programs or "
                "set --memory-limit, then continue with `livestack resume`."
            )
            self._fail(short)
            raise short from error
        except LivestackError as error:
            self._fail(error)
            raise
        finally:
            self.stopping.set()
            self.aborting.set()
            prefetcher.finish()
            if compiler.ident is not None:
                compiler.join()
            self._artist.finish()
            self._keeper.close()
            if hasattr(self, "_state"):
                self._state.close()
                self._masks.close()
            self._stack.close()
            self._teller.publish(state="ended")

    def _start_record(self) -> SessionStart:
        return SessionStart(
            version=version(), settings=self.settings.model_dump(mode="json"), folder=str(self._base),
            folders=tuple(os.path.realpath(path) for path in self._paths), one_shot=self._one_shot, software=software(),
            masters=tuple(MasterUse(file=str(m.path), kind=m.kind.value, checksum=m.checksum) for m in self._masters),
        )  # fmt: skip

    def _make_checkpointer(self, folder: Path) -> Checkpointer:
        save = self.settings.save
        return Checkpointer(folder, self._masks, save.checkpoint_every_frames, save.checkpoint_every_s)

    # Going on

    def _go_on(self, interrupted: Interrupted, folder: Path, prefetcher: Prefetcher) -> None:
        """Restore the newest checkpoint, then replay what came after it."""
        records, events = interrupted.records, interrupted.events
        frames = [record for record in records if isinstance(record, FrameRecord)]
        self._sequence = 1 + max((f.sequence for f in frames if f.sequence is not None), default=len(frames) - 1)
        self._known_references = {(r.group, r.file, r.message) for r in records if isinstance(r, ReferenceRecord)}
        self._teller.recall(records)
        notices = list(interrupted.notices)
        loaded = load_newest(folder, len(events), notices)
        self._masks = loaded.masks if loaded is not None else MaskStore(folder / MASKS_NAME)
        self._state = self._make_checkpointer(folder)
        for notice in notices:
            self._teller.say(notice)
        if loaded is not None:
            self._n_events = loaded.n_events
            self._teller.noise = list(loaded.extra["noise"])
            self._teller.object_override = str(loaded.extra["object"])
            for member in self._stack.restore(loaded.state):
                self._lose(self._spoken_path(member.path) if member.path else member.name, member.index)
            newest = events[loaded.n_events - 1] if loaded.n_events else None
            if isinstance(newest, FrameRecord) and newest.status == "stacked" and newest.group in self._stack.groups:
                self._keeper.want_psf(self._stack.groups[newest.group])
        begun = interrupted.begun_file()
        last = next((i for i in reversed(range(len(events))) if isinstance(events[i], FrameRecord)), -1)
        said = {r.message for r in records[_after_last_frame(records) :] if isinstance(r, WarningRecord)}
        self._noticed = {r.message for r in records if isinstance(r, WarningRecord)}
        for number in range(self._n_events, len(events)):
            if self.aborting.is_set():
                return
            outcome = self._replay(interrupted, events[number])
            self._n_events = max(self._n_events, number + 1)
            notices = self._take_notices()
            if number == last:
                self._warn("stack", notices)
                self._warn("observing", [s for s in (outcome.warnings if outcome else ()) if s not in said])
        message = f"Going on with {self._stack.n_stacked} frame(s) stacked."
        self._append(ResumeRecord(version=version(), n_stacked=self._stack.n_stacked, message=message))
        self._teller.say(message)
        if begun is not None:
            prefetcher.put_first(*begun)
        group = self._stack.groups.get(self._teller.active_group)
        if group is not None:
            self._want_preview(group)

    def _replay(self, interrupted: Interrupted, event: Event) -> Outcome | None:
        """Do again what the journal tells."""
        if isinstance(event, TargetRecord):
            self._stack.start_new_target()
        elif isinstance(event, SavingRecord):
            for group in self._stack.groups.values():
                group.finish_warmup()
        elif isinstance(event, RemovedRecord):
            with contextlib.suppress(UsageError, FrameError):  # it is not in the stack, which is what was wanted
                self._stack.remove(event.file, event.index)
        elif event.group:
            return self._replay_frame(interrupted, event)
        return None

    def _replay_frame(self, interrupted: Interrupted, record: FrameRecord) -> Outcome | None:
        outcome: Outcome | None = None
        path = interrupted.path_of(record)
        try:
            if interrupted.is_unchanged(record):
                prepared = self._stack.prepare(read_frame(path, record.index))
                outcome = prepared if isinstance(prepared, Outcome) else self._stack.add_prepared(prepared)
        except FrameError:
            outcome = None
        self._tell_dropped(outcome, interrupted)
        if outcome is None:
            if record.status == "stacked" and not interrupted.was_removed(record):
                self._lose(record.file, record.index)
            return None
        group = self._stack.groups.get(outcome.group)
        self._keeper.collect_psf(due=True)
        if group is not None and outcome.stacked:
            self._keeper.want_psf(group)
        self._teller.publish()
        self._state.count_frame()
        return outcome

    def _tell_dropped(self, outcome: Outcome | None, interrupted: Interrupted | None = None) -> None:
        """Write down which frames the pipeline took out again, unless an interrupted session's journal tells it."""
        for member in self._stack.dropped:
            if outcome is None or (interrupted and interrupted.was_taken_out(member.name, member.index)):
                continue
            said = f"{member.name}: is taken out; the frames after it are of another field or size."
            self._append_event(RemovedRecord(file=member.name, index=member.index, group=outcome.group, message=said))
        self._stack.dropped.clear()

    def _lose(self, file: str, index: int) -> None:
        """A frame that was stacked before the interruption is not there any more."""
        message = f"{file}: was stacked before the interruption, but is gone or changed now; the stack does without it."
        self._append_event(RemovedRecord(file=file, index=index, message=message))
        self._teller.say(message)

    def _loop(self, prefetcher: Prefetcher) -> None:
        limit = self.settings.ingest.max_frames
        while not self.aborting.is_set():
            self._obey()
            if self._teller.paused and not self.stopping.is_set():
                time.sleep(0.05)
                continue
            item = prefetcher.get(0.1)
            if item is None:
                self._tick()
            elif isinstance(item, End):
                break
            elif isinstance(item, Read):
                self._take(item)
            elif isinstance(item, Unread):
                self._note_refusal(item.arrival.path, item.reason, item.message, item.arrival.key)
            elif isinstance(item, Refusal):
                self._note_refusal(item.path, item.reason, item.message, item.key)
            elif isinstance(item, Notice):
                self._warn("folder", [item.message])
            elif isinstance(item, Idle):
                self._idle(item, prefetcher)
            if limit is not None and self._stack.n_stacked >= limit:
                self._end(f"{limit} frame(s) are stacked, as --max-frames asked")
                return
        if prefetcher.failure:
            raise prefetcher.failure[0]

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
                self._teller.say(str(error))

    def _idle(self, item: Idle, prefetcher: Prefetcher) -> None:
        self._tick()
        limit = self.settings.ingest.idle_stop_s
        quiet = min(item.idle_s, time.monotonic() - self._touched)
        if limit is not None and quiet >= limit and prefetcher.is_empty:
            self._end(f"no new file came for {limit:g} s, the limit of --idle-stop")

    # One frame

    def _take(self, read: Read) -> None:
        self._touched = time.monotonic()
        self._collect_checkpoint()
        if not self._told_memory:
            self._told_memory = True
            self._tell_memory(self._stack.as_told(read.frame).info)
        prepared = read.prepared
        try:
            outcome = prepared if isinstance(prepared, Outcome) else self._stack.add_prepared(prepared)
        except STUMBLES as error:
            name = read.arrival.path
            self._note_refusal(name, UnreadableFrame.reason, stumble(name, error), read.arrival.key, read.frame.index)
            return
        self._touched = time.monotonic()
        outcome.timings_s["read"] = read.read_s
        notices = self._take_notices()
        self._keeper.collect_psf(due=True)
        self._append_event(self._record(outcome, read))
        self._tell_dropped(outcome)
        self._warn("stack", notices)
        self._warn("observing", outcome.warnings)
        if not outcome.stacked:
            self._teller.say(outcome.message)
        self._teller.note(self._sequence, outcome, read.frame.info.size)
        self._state.count_frame()
        self._keep_state()
        group = self._stack.groups.get(outcome.group)
        if group is not None and outcome.stacked:
            self._keeper.want_psf(group)
            self._want_preview(group)
        self._teller.publish()

    def _take_notices(self) -> list[str]:
        """What the stack has to say that was not said before."""
        notices = [notice for notice in self._stack.notices if notice not in self._noticed]
        self._stack.notices.clear()
        self._noticed.update(notices)
        return notices

    def _warn(self, kind: str, sentences: Sequence[str]) -> None:
        for sentence in sentences:
            self._append(WarningRecord(kind=kind, message=sentence))
            self._teller.say(sentence)

    def _tell_memory(self, info: FrameInfo) -> None:
        """What frames of this size need; said before the first one is stacked."""
        said, concern = memory_sentence(info, self.settings, available_memory())
        self._teller.say(said)
        if concern or bins_frames(info, self.settings):
            self._append(WarningRecord(kind="memory", message=said))

    def _record(self, outcome: Outcome, read: Read) -> FrameRecord:
        arrival, matrix = read.arrival, outcome.transform
        lens = outcome.distortion
        if matrix is not None:  # the journal speaks of the file's own pixels
            to_stack = file_to_stack_pixels(self._stack.as_told(read.frame).info, self.settings)
            matrix = matrix @ to_stack
            lens = None if lens is None else lens.turned(np.linalg.inv(to_stack)[:2, :2])
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

    def _note_refusal(self, path: Path, reason: str, message: str, key: FileKey | None, index: int = 0) -> None:
        """A file that never became a frame."""
        self._touched = time.monotonic()
        self._sequence += 1
        self._append_event(
            FrameRecord(
                file=self._spoken_path(path), index=index, status="refused", reason=reason, message=message,
                sequence=self._sequence - 1,
                size_bytes=key.size if key else None, mtime_ns=key.mtime_ns if key else None,
            )
        )  # fmt: skip
        self._teller.note_refusal(self._sequence, path.name, reason, message)
        self._teller.publish()

    def _on_reference(self, group: str, reference: Reference, why: str) -> None:
        if (group, reference.name, why) in self._known_references:
            return  # the journal has it from before the interruption
        self._append(
            ReferenceRecord(
                group=group,
                file=reference.name,
                message=why,
                width=reference.shape[1],
                height=reference.shape[0],
                from_previous=None
                if reference.from_previous is None
                else tuple(tuple(float(v) for v in row) for row in reference.from_previous),
            )
        )

    # Pictures

    def _want_preview(self, group: GroupStack) -> None:
        if group.stack is None:
            return
        newest = group.newest
        last = LastFrame(*newest) if newest is not None else None
        bottom_up = bool(group.reference and group.reference.info.bottom_up)
        composite = self._stack.composite_of(group.name)
        if composite is not None and composite.name not in self._composites:
            self._composites.add(composite.name)
            self._teller.say(f"{group.name}: the picture is now {composite.words}.")
        self._artist.draw(group.name, group.stack, last, self.settings.render, bottom_up, composite)
        group.newest = None

    def _take_drawing(self, drawing: Drawing) -> None:
        """From the artist's thread: write the preview, keep the drawing for the next snapshot."""
        try:
            write_preview(self.output / "preview.jpg", drawing.picture)
        except SessionError as error:
            said = str(error)
            self._commands.put(lambda: self._teller.say(said))
        self._teller.draw(drawing)

    # Telling

    def _spoken_path(self, path: Path) -> str:
        """Relative to the (first) watched folder, with forward slashes; whole where it lies elsewhere."""
        with contextlib.suppress(ValueError):
            return path.relative_to(self._base).as_posix()
        return str(path)

    def _append(self, record: Record) -> None:
        if not self._journal.path.exists():  # writing into a removed file would go unnoticed
            raise storage_error(self._journal.path, OSError(errno.ENOENT, "no such file"))
        self._journal.append(record)
        if self._tell is not None:
            self._tell(record)

    def _tick(self) -> None:
        self._collect_checkpoint(wait=False)
        if self._teller.has_news:
            self._teller.publish()

    # Keeping state

    def _append_event(self, record: Record) -> None:
        """Write down something that changed the stacks."""
        self._append(record)
        self._n_events += 1

    def _keep_mask(self, samples: RejectedSamples) -> RejectedSamples:
        return self._masks.keep(samples)

    def _collect_checkpoint(self, wait: bool = True) -> None:
        """Write down the checkpoint that was under way; with `wait`, the accumulators may be changed afterwards."""
        if not wait and not self._state.is_done:
            return
        written = self._state.settle()
        if written is not None:
            self._append(
                CheckpointRecord(
                    file=written.path.relative_to(self.output).as_posix(), n_stacked=written.n_stacked,
                    sequence=written.sequence, size_bytes=written.size_bytes, duration_s=round(written.duration_s, 4),
                )
            )  # fmt: skip

    def _keep_state(self) -> None:
        # before the PSF of this frame is begun and after that of an earlier one was written down: see `_go_on`
        if self._keeper.at_rest and self._state.is_due(self._stack):
            extra = {"noise": self._teller.noise, "object": self._teller.object_override}
            self._state.begin(self._stack, self._n_events, self._sequence - 1, extra)

    # Commands

    def _pause(self, paused: bool) -> None:
        self._teller.paused = paused
        self._teller.say("Paused: new frames wait." if paused else "Going on.")
        self._teller.publish()

    def _new_target(self, name: str) -> None:
        self._append_event(TargetRecord(name=name.strip()[:80]))
        self._stack.start_new_target()
        self._teller.object_override = name.strip()[:80]
        self._teller.say("The next frame begins a new stack.")
        self._teller.publish()

    def _set_object(self, name: str) -> None:
        self._teller.object_override = name.strip()[:80]
        self._teller.publish()

    def _set_stretch(self, background: float, saturation: float) -> None:
        wanted = self.settings.render.model_copy(update={"background": background, "saturation": saturation})
        self.settings = self.settings.model_copy(update={"render": type(wanted)(**wanted.model_dump())})
        self._keeper.use(self.settings)
        group = self._stack.groups.get(self._teller.active_group)
        if group is not None:
            self._want_preview(group)
        self._teller.publish()

    def _remove(self, name: str) -> None:
        self._collect_checkpoint()
        group = self._stack.remove(name)
        self._append_event(RemovedRecord(file=name, group=group, message=f"{name} was taken out of the stack."))
        self._teller.say(f"{name} was taken out of {group}.")
        self._want_preview(self._stack.groups[group])
        self._teller.publish()

    def _save_now(self) -> None:
        self._collect_checkpoint()
        self._append_event(SavingRecord(final=False))
        for group in list(self._stack.groups.values()):
            if group.n_stacked:
                self._keeper.save_group(group, final=False)
        self._keeper.save_products(final=False)
        self._teller.say(f"Saved to {self.output}.")
        self._teller.publish()

    # The end

    def _finish(self) -> SessionEnd:
        if self.aborting.is_set():
            self._append(self._stop_record("interrupted", "stopped at once by the user", 130))
            return SessionEnd(130, f"Stopped at once; `livestack resume {self.output}` goes on from here.")
        self._collect_checkpoint()
        self._keeper.collect_psf()
        filled = [group for group in self._stack.groups.values() if group.n_stacked]
        if not filled:
            reason = self._why_nothing()
            self._append(self._stop_record("nothing_stacked", reason, 1))
            raise NothingStacked(reason)
        self._append(SavingRecord(final=True))
        self._stack.n_refused_elsewhere = self._teller.n_refused - sum(group.n_refused for group in filled)
        self._teller.publish(state="saving")
        for group in filled:
            self._keeper.save_group(group, final=False)
            if self.settings.save.final_pass and self._keeper.final_pass(
                group, self._teller.publish, self.aborting.is_set
            ):
                self._keeper.save_group(group, final=True)
            self._keeper.save_windows(group, self.aborting.is_set)
        if self.aborting.is_set():
            self._append(self._stop_record("interrupted", "stopped while saving", 130))
            return SessionEnd(
                130,
                f"Stopped; the streaming result is in {self.output}, `livestack resume {self.output}` finishes it.",
                tuple(self._keeper.results),
            )
        self._keeper.save_products(final=True)
        self._want_preview(self._stack.groups.get(self._teller.active_group) or filled[-1])
        self._append(self._stop_record("saved", self._why_ended or "all frames are done", 0))
        self._artist.finish()
        for group in filled:
            group.forget_pixels()  # all is saved: the report needs the memory
        try:
            self._keeper.results.append(write_report(self.output))
        except Exception as error:  # noqa: BLE001  (the stacks are saved: whatever ails the report must not hide it)
            self._teller.say(f"{error} The stacks are saved; `livestack report` writes the report later.")
        self._state.close()
        self._masks.close()
        remove_checkpoints(self.output / FOLDER_NAME)
        self._teller.say(f"Saved to {self.output}.")
        return SessionEnd(0, f"Saved to {self.output}.", tuple(self._keeper.results))

    def _why_nothing(self) -> str:
        where = ", ".join(str(path) for path in self._paths)
        if not self._teller.trend:
            return f"{where}: no frame was found; expected FITS, raw, TIFF, PNG, JPEG, SER or XISF; check the folder."
        last = self._teller.trend[-1]
        why = last.message or last.reason
        return f"{where}: none of {len(self._teller.trend)} frame(s) could be stacked; the last one: {why}"

    def _stop_record(self, status: Any, reason: str, exit_status: int) -> SessionStop:
        return SessionStop(
            status=status,
            reason=reason,
            exit_status=exit_status,
            n_stacked=self._stack.n_stacked,
            n_refused=self._teller.n_refused,
            results=tuple(str(path) for path in self._keeper.results),
        )

    def _fail(self, error: BaseException) -> None:
        """Write down why the session broke off, if the disk still takes it."""
        if isinstance(error, NothingStacked):
            return
        with contextlib.suppress(SessionError):
            self._append(self._stop_record("failed", str(error), 3))


def _after_last_frame(records: Sequence[Record]) -> int:
    """Where the lines after the last frame's begin."""
    return 1 + max((i for i, record in enumerate(records) if isinstance(record, FrameRecord)), default=-1)


def default_output(paths: Sequence[Path], now: datetime | None = None) -> Path:
    """FOLDER/livestack/<start time>, beside the frames of the first path."""
    first = paths[0]
    folder = first if first.is_dir() or not first.exists() else first.parent
    moment = (now or datetime.now(UTC)).astimezone()
    return folder / "livestack" / moment.strftime("%Y-%m-%d_%H%M%S")


def _distortion_record(lens: Distortion) -> DistortionRecord:
    x, y = (tuple(float(v) for v in row) for row in lens.coefficients)
    return DistortionRecord(coefficients=(x, y), centre=lens.centre, half=lens.half, reach=lens.reach)
