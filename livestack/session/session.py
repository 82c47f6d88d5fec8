"""A session: one folder watched (or read once), one output folder kept. Threads and clocks live here.

    watcher thread --paths--> reader thread --detected frames--> this thread: stack --events--> its observers

Paths wait in an unbounded queue, frames in a queue of one: a burst of files costs nothing, and the next frame is read,
calibrated and searched for stars while the present one is stacked. What happens to a frame is told as events, which the
observers hear in this order: checkpoint, PSF trend, journal, status, preview. Faces read snapshots; what they ask for
comes back through `Controls` as commands that are carried out between two frames. An interrupted session first restores
its checkpoint and replays what the journal tells of the time after it (`replay`).
"""

from __future__ import annotations

import contextlib
import os
import queue
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from livestack.base.durable import remove_leftovers
from livestack.base.errors import FrameError, LivestackError, NothingStacked, SessionError, UnreadableFrame, UsageError
from livestack.base.folder import FileKey
from livestack.base.frame import FrameInfo
from livestack.base.journal import (
    JOURNAL_NAME,
    FrameRecord,
    Journal,
    MasterUse,
    PsfRecord,
    Record,
    ResumeRecord,
    SavingRecord,
    SessionStart,
    SessionStop,
    TargetRecord,
    WarningRecord,
)
from livestack.base.resources import available_memory, bins_frames, memory_sentence, thread_count
from livestack.base.settings import Settings
from livestack.base.version import software, version
from livestack.detection.psf import PSFModel
from livestack.engine.group import Group
from livestack.engine.live_stack import LiveStack
from livestack.engine.views import StackView
from livestack.kernels.bands import Bands
from livestack.observers.observer import Observer, restore_all
from livestack.observers.preview import Drawing, Preview
from livestack.observers.psf_trend import PsfTrend
from livestack.picture.composite import check_palette
from livestack.products.report import write_report
from livestack.products.saver import Saver
from livestack.products.stack_files import write_preview
from livestack.session.checkpoint import (
    FOLDER_NAME,
    MASKS_NAME,
    Checkpointer,
    Checkpoints,
    load_newest,
    remove_checkpoints,
)
from livestack.session.journal_writer import JournalWriter
from livestack.session.kernel_warmup import compile_loops, is_compiled
from livestack.session.lock import SessionLock
from livestack.session.prefetch import STUMBLES, End, Prefetcher, Read, Unread, stumble
from livestack.session.replay import Replay
from livestack.session.resume import Interrupted, check_masters, read_interrupted
from livestack.session.snapshot import Controls, Slot
from livestack.session.status_feed import StatusFeed
from livestack.session.watcher import Idle, Notice, Refusal, Watcher
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
            settings, masters, Bands(thread_count()), keep=lambda samples: self._masks.keep(samples)
        )
        self._commands: queue.Queue[Callable[[], None]] = queue.Queue()
        self._prefetcher: Prefetcher | None = None
        name = self._paths[0].name or str(self._paths[0])
        self._status = StatusFeed(self.slot, name, output, self._stack.targets, self._n_waiting)
        self._journal: JournalWriter
        self._masks: MaskStore
        self._checkpoints: Checkpoints
        self._touched = time.monotonic()
        self._told_memory = resumed
        self._why_ended: str | None = None
        self._asked_to_stop = False

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
            set_note=lambda text: command(lambda: self._status.publish(note=text[:500]), "The words are shown."),
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
                self._journal = JournalWriter(journal, self._base, self.settings, self._status.say, self._tell)
                remove_leftovers(self.output)
                return self._run(interrupted)

    def _run(self, interrupted: Interrupted | None) -> SessionEnd:
        folder = self.output / FOLDER_NAME
        measured: set[tuple[str, int]] = set()
        if interrupted is not None:
            check_masters(self.output, interrupted.start.masters, {m.checksum: m.path.name for m in self._masters})
            self._watcher = self._make_watcher(interrupted.known, interrupted.start.time.timestamp())
            measured = {(r.group, r.n_frames) for r in interrupted.records if isinstance(r, PsfRecord)}
        self._psf = PsfTrend(self.settings.psf, self._tell_psf, measured)
        self._saver = Saver(self.output, self.settings, self._stack, self._status.say, self._tell_psf)
        self._status.psf = self._psf.latest
        self._preview = Preview(
            self._stack.targets, self.settings.render, self._take_drawing, self._status.say, self._status.say
        )
        self._observers: tuple[Observer, ...] = (self._psf, self._journal, self._status, self._preview)
        assert self._watcher is not None
        prefetcher = self._prefetcher = Prefetcher(self._watcher, self._stack.prepare, self.aborting)
        compiler = threading.Thread(target=compile_loops, args=(self.stopping.is_set,), name="livestack-compile")
        try:
            if interrupted is None:
                self._journal.append(self._start_record())
                remove_checkpoints(folder)
                self._masks = MaskStore(folder / MASKS_NAME)
                self._checkpoints = self._make_checkpoints(folder)
            else:
                self._go_on(interrupted, folder, prefetcher)
            for observer in (self._checkpoints, *self._observers):
                self._stack.events.subscribe(observer.on_event)
            if not is_compiled():
                self._status.say("Preparing the compiled loops: half a minute, on the first run only.")
                compiler.start()
            self._status.publish(state="watching")
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
            self._preview.close()
            self._psf.close()
            if hasattr(self, "_checkpoints"):
                self._checkpoints.writer.close()
                self._masks.close()
            self._stack.close()
            self._status.publish(state="ended")

    def _start_record(self) -> SessionStart:
        return SessionStart(
            version=version(), settings=self.settings.model_dump(mode="json"), folder=str(self._base),
            folders=tuple(os.path.realpath(path) for path in self._paths), one_shot=self._one_shot, software=software(),
            masters=tuple(MasterUse(file=str(m.path), kind=m.kind.value, checksum=m.checksum) for m in self._masters),
        )  # fmt: skip

    def _make_checkpoints(self, folder: Path) -> Checkpoints:
        save = self.settings.save
        writer = Checkpointer(folder, self._masks, save.checkpoint_every_frames, save.checkpoint_every_s)
        return Checkpoints(writer, self._stack, self._journal, self._observers, lambda: self._psf.at_rest)

    # Going on

    def _go_on(self, interrupted: Interrupted, folder: Path, prefetcher: Prefetcher) -> None:
        """Restore the newest checkpoint, then replay what came after it."""
        records, events = interrupted.records, interrupted.events
        self._journal.recall(records, 0)
        self._status.recall(records)
        self._status.sequence = self._journal.sequence
        notices = list(interrupted.notices)
        loaded = load_newest(folder, len(events), notices)
        self._masks = loaded.masks if loaded is not None else MaskStore(folder / MASKS_NAME)
        self._checkpoints = self._make_checkpoints(folder)
        if loaded is not None:
            notices += restore_all(self._observers, loaded.observers)
        for notice in notices:
            self._status.say(notice)
        first = 0
        if loaded is not None:
            first = self._journal.n_events = loaded.n_events
            for member in self._stack.restore(loaded.state):
                name = self._journal.spoken(member.path) if member.path else member.name
                self._journal.lose(name, member.index)
            newest = events[loaded.n_events - 1] if loaded.n_events else None
            if isinstance(newest, FrameRecord) and newest.status == "stacked" and newest.group in self._stack.groups:
                view = StackView.of(self._stack.groups[newest.group], with_newest=False)
                if view is not None:
                    self._psf.begin(view)
        begun = interrupted.begun_file()
        unsubscribe = self._stack.events.subscribe(self._psf.on_event)
        replay = Replay(interrupted, self._stack, self._journal, self._after_replayed)
        done = replay.run(first, self.aborting.is_set)
        unsubscribe()
        if not done:
            return
        message = f"Going on with {self._stack.n_stacked} frame(s) stacked."
        self._journal.append(ResumeRecord(version=version(), n_stacked=self._stack.n_stacked, message=message))
        self._status.say(message)
        if begun is not None:
            prefetcher.put_first(*begun)
        self._preview.draw_group(self._stack.groups.get(self._status.active_group))

    def _after_replayed(self) -> None:
        self._status.publish()
        self._checkpoints.writer.count_frame()

    def _loop(self, prefetcher: Prefetcher) -> None:
        limit = self.settings.ingest.max_frames
        while not self.aborting.is_set():
            self._obey()
            if self._status.paused and not self.stopping.is_set():
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
                self._journal.warn("folder", [item.message])
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
                self._status.say(str(error))

    def _idle(self, item: Idle, prefetcher: Prefetcher) -> None:
        self._tick()
        limit = self.settings.ingest.idle_stop_s
        quiet = min(item.idle_s, time.monotonic() - self._touched)
        if limit is not None and quiet >= limit and prefetcher.is_empty:
            self._end(f"no new file came for {limit:g} s, the limit of --idle-stop")

    # One frame

    def _take(self, read: Read) -> None:
        self._touched = time.monotonic()
        self._checkpoints.collect(self.output)
        info = self._stack.intake.as_told(read.frame).info
        if not self._told_memory:
            self._told_memory = True
            self._tell_memory(info)
        self._journal.begin_frame(read.arrival.path, read.arrival.key, info)
        self._status.frame_size = read.frame.info.size
        read.prepared.timings_s["read"] = read.read_s
        try:
            self._stack.add_prepared(read.prepared)
        except STUMBLES as error:
            name = read.arrival.path
            self._note_refusal(name, UnreadableFrame.reason, stumble(name, error), read.arrival.key, read.frame.index)
            return
        self._touched = time.monotonic()
        self._status.publish()

    def _tell_memory(self, info: FrameInfo) -> None:
        """What frames of this size need; said before the first one is stacked."""
        said, concern = memory_sentence(info, self.settings, available_memory())
        self._status.say(said)
        if concern or bins_frames(info, self.settings):
            self._journal.append(WarningRecord(kind="memory", message=said))

    def _note_refusal(self, path: Path, reason: str, message: str, key: FileKey | None, index: int = 0) -> None:
        """A file that never became a frame."""
        self._touched = time.monotonic()
        self._journal.refuse_file(path, reason, message, key, index)
        self._status.note_refusal(path.name, reason, message)
        self._status.publish()

    # Told by threads of observers

    def _tell_psf(self, group: str, n_frames: int, newest_at: datetime | None, model: PSFModel) -> None:
        self._psf.latest[group] = model
        self._journal.write_psf(self.output, group, n_frames, newest_at, model)

    def _take_drawing(self, drawing: Drawing) -> None:
        """From the thread that draws: write the preview, keep the drawing for the next snapshot."""
        try:
            write_preview(self.output / "preview.jpg", drawing.picture)
        except SessionError as error:
            said = str(error)
            self._commands.put(lambda: self._status.say(said))
        self._status.draw(drawing)

    def _tick(self) -> None:
        self._checkpoints.collect(self.output, wait=False)
        if self._status.has_news:
            self._status.publish()

    # Commands

    def _pause(self, paused: bool) -> None:
        self._status.paused = paused
        self._status.say("Paused: new frames wait." if paused else "Going on.")
        self._status.publish()

    def _new_target(self, name: str) -> None:
        self._journal.append_event(TargetRecord(name=name.strip()[:80]))
        self._stack.start_new_target()
        self._status.object_override = name.strip()[:80]
        self._status.say("The next frame begins a new stack.")
        self._status.publish()

    def _set_object(self, name: str) -> None:
        self._status.object_override = name.strip()[:80]
        self._status.publish()

    def _set_stretch(self, background: float, saturation: float) -> None:
        wanted = self.settings.render.model_copy(update={"background": background, "saturation": saturation})
        self.settings = self.settings.model_copy(update={"render": type(wanted)(**wanted.model_dump())})
        self._saver.settings = self.settings
        self._preview.settings = self.settings.render
        self._preview.draw_group(self._stack.groups.get(self._status.active_group))
        self._status.publish()

    def _remove(self, name: str) -> None:
        self._checkpoints.collect(self.output)
        group = self._stack.remove(name)
        self._status.say(f"{name} was taken out of {group}.")
        self._preview.draw_group(self._stack.groups[group])
        self._status.publish()

    def _save_now(self) -> None:
        self._checkpoints.collect(self.output)
        self._journal.append_event(SavingRecord(final=False))
        for group in list(self._stack.groups.values()):
            if group.n_stacked:
                self._save_group(group, final=False)
        self._saver.save_products(final=False)
        self._status.say(f"Saved to {self.output}.")
        self._status.publish()

    # The end

    def _finish(self) -> SessionEnd:
        if self.aborting.is_set():
            self._journal.append(self._stop_record("interrupted", "stopped at once by the user", 130))
            return SessionEnd(130, f"Stopped at once; `livestack resume {self.output}` goes on from here.")
        self._checkpoints.collect(self.output)
        self._psf.collect()
        filled = [group for group in self._stack.groups.values() if group.n_stacked]
        if not filled:
            reason = self._why_nothing()
            self._journal.append(self._stop_record("nothing_stacked", reason, 1))
            raise NothingStacked(reason)
        self._journal.append(SavingRecord(final=True))
        self._stack.n_refused_elsewhere = self._status.n_refused - sum(group.ledger.n_refused for group in filled)
        self._status.publish(state="saving")
        for group in filled:
            self._save_group(group, final=False)
            if self.settings.save.final_pass and self._saver.final_pass(
                group, self._status.publish, self.aborting.is_set
            ):
                self._save_group(group, final=True)
            self._saver.save_windows(group, self.aborting.is_set)
        if self.aborting.is_set():
            self._journal.append(self._stop_record("interrupted", "stopped while saving", 130))
            return SessionEnd(
                130,
                f"Stopped; the streaming result is in {self.output}, `livestack resume {self.output}` finishes it.",
                tuple(self._saver.results),
            )
        self._saver.save_products(final=True)
        self._preview.draw_group(self._stack.groups.get(self._status.active_group) or filled[-1])
        self._journal.append(self._stop_record("saved", self._why_ended or "all frames are done", 0))
        self._preview.close()
        for group in filled:
            group.accumulation.forget_pixels()  # all is saved: the report needs the memory
        try:
            self._saver.results.append(write_report(self.output))
        except Exception as error:  # noqa: BLE001  (the stacks are saved: whatever ails the report must not hide it)
            self._status.say(f"{error} The stacks are saved; `livestack report` writes the report later.")
        self._checkpoints.writer.close()
        self._masks.close()
        remove_checkpoints(self.output / FOLDER_NAME)
        self._status.say(f"Saved to {self.output}.")
        return SessionEnd(0, f"Saved to {self.output}.", tuple(self._saver.results))

    def _save_group(self, group: Group, final: bool) -> None:
        model = self._saver.save_group(group, final)
        if model is not None:
            self._psf.latest[group.name] = model

    def _why_nothing(self) -> str:
        where = ", ".join(str(path) for path in self._paths)
        if not self._status.trend:
            return f"{where}: no frame was found; expected FITS, raw, TIFF, PNG, JPEG, SER or XISF; check the folder."
        last = self._status.trend[-1]
        why = last.message or last.reason
        return f"{where}: none of {len(self._status.trend)} frame(s) could be stacked; the last one: {why}"

    def _stop_record(self, status: Any, reason: str, exit_status: int) -> SessionStop:
        return SessionStop(
            status=status,
            reason=reason,
            exit_status=exit_status,
            n_stacked=self._stack.n_stacked,
            n_refused=self._status.n_refused,
            results=tuple(str(path) for path in self._saver.results),
        )

    def _fail(self, error: BaseException) -> None:
        """Write down why the session broke off, if the disk still takes it."""
        if isinstance(error, NothingStacked):
            return
        with contextlib.suppress(SessionError):
            self._journal.append(self._stop_record("failed", str(error), 3))


def default_output(paths: Sequence[Path], now: datetime | None = None) -> Path:
    """FOLDER/livestack/<start time>, beside the frames of the first path."""
    first = paths[0]
    folder = first if first.is_dir() or not first.exists() else first.parent
    moment = (now or datetime.now(UTC)).astimezone()
    return folder / "livestack" / moment.strftime("%Y-%m-%d_%H%M%S")
