"""A session: one folder watched (or read once), one output folder kept. Threads and clocks live here.

    watcher thread --paths--> reader thread --detected frames--> this thread: stack --events--> its observers

Paths wait in an unbounded queue, frames in a queue of one: a burst of files costs nothing, and the next frame is read,
calibrated and searched for stars while the present one is stacked. What happens to a frame is told as events, which the
observers hear in this order: checkpoint, PSF trend, journal, status, preview. Faces read snapshots; what they ask for
comes back through `Controls` as commands that are carried out between two frames. An interrupted session first restores
its checkpoint and replays what the journal tells of the time after it (`replay`).
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from livestack.base.durable import remove_leftovers
from livestack.base.errors import FrameError, LivestackError, SessionError, UnreadableFrame, VanishedFrame
from livestack.base.folder import FileKey, look_at
from livestack.base.frame import FrameInfo
from livestack.base.journal import JOURNAL_NAME, Journal, MasterUse, PsfRecord, Record, SessionStart, WarningRecord
from livestack.base.resources import available_memory, bins_frames, memory_sentence, thread_count
from livestack.base.settings import Settings
from livestack.base.version import software, version
from livestack.engine.live_stack import LiveStack
from livestack.formats import read_frame
from livestack.kernels.bands import Bands
from livestack.observers.observer import Observer
from livestack.picture.composite import check_palette
from livestack.session.checkpoint import FOLDER_NAME, MASKS_NAME, remove_checkpoints
from livestack.session.commands import Commands
from livestack.session.file_readiness import Arrival
from livestack.session.finish import SessionEnd, finish, write_failure
from livestack.session.journal_writer import JournalWriter
from livestack.session.kernel_warmup import compile_loops, is_compiled
from livestack.session.lock import SessionLock
from livestack.session.parts import SessionParts
from livestack.session.prefetch import STUMBLES, End, Prefetcher, Read, Unread, stumble
from livestack.session.replay import go_on
from livestack.session.resume import Interrupted, check_masters, read_interrupted
from livestack.session.snapshot import Controls, Slot
from livestack.session.status_feed import StatusFeed
from livestack.session.stop import StopRequest
from livestack.session.watcher import Idle, Notice, Refusal, Watcher
from livestack.stacking.mask_store import MaskStore
from livestack.stacking.rejected_samples import RejectedSamples

if TYPE_CHECKING:
    from livestack.calibration.masters import Master, MasterLibrary

__all__ = ["Session", "SessionEnd", "default_output"]


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
    observers : more that want to know what happens to frames; see `observers.observer`.

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
        observers: Sequence[Observer] = (),
    ) -> None:
        self.settings = settings
        self.output = output
        self.slot = slot or Slot()
        self.stop_request = StopRequest()
        self._paths = [Path(path) for path in paths]
        first = Path(os.path.realpath(self._paths[0]))
        self._base = first.parent if first.is_file() else first
        self._one_shot = one_shot
        self._resumed = resumed
        self._observers = tuple(observers)
        self._tell = tell
        self._watcher: Watcher | None = None if resumed else self._make_watcher(frozenset(), None)
        check_palette(settings.render.palette)
        self._masters: MasterLibrary | None = None
        if settings.calibration.masters is not None:
            from livestack.calibration.masters import load_masters

            self._masters = load_masters(settings.calibration.masters, settings.calibration)
        self._commands = Commands(self.stop_request)
        self._touched = time.monotonic()
        self._told_memory = resumed
        self._prefetcher: Prefetcher | None = None

    def controls(self) -> Controls:
        """Commands for faces; each returns at once and is carried out between two frames."""
        return self._commands.controls()

    def stop(self) -> None:
        """First request: drain what is ready, save, end. Second: stop at once."""
        self.stop_request.signal()

    def _make_watcher(self, known: frozenset[FileKey], since: float | None) -> Watcher:
        return Watcher(
            self._paths, self.settings.ingest, exclude=[self.output, *self._outputs(), *self._others()], known=known,
            stop=self.stop_request.stopping, one_shot=self._one_shot, since=since,
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
                remove_leftovers(self.output)
                return self._run(journal, interrupted)

    def _run(self, journal: Journal, interrupted: Interrupted | None) -> SessionEnd:
        stop, folder = self.stop_request, self.output / FOLDER_NAME
        if interrupted is not None:
            present = {m.checksum: m.path.name for m in self._master_files}
            check_masters(self.output, interrupted.start.masters, present)
            self._watcher = self._make_watcher(interrupted.known, interrupted.start.time.timestamp())
        assert self._watcher is not None
        parts = self._open(journal, interrupted)
        prefetcher = self._prefetcher = Prefetcher(self._watcher, parts.stack.prepare, stop.aborting)
        drizzles = parts.settings.drizzles
        compiler = threading.Thread(
            target=compile_loops, args=(stop.stopping.is_set, drizzles), name="livestack-compile"
        )  # fmt: skip
        try:
            if interrupted is None:
                parts.journal.append(self._start_record())
                remove_checkpoints(folder)
                parts.keep_state(folder, MaskStore(folder / MASKS_NAME))
            else:
                begun = interrupted.begun_file()
                if begun is not None:
                    prefetcher.put_first(*begun)
                go_on(parts, interrupted, folder, stop.aborting.is_set)
            parts.subscribe()
            if not is_compiled(drizzles):
                parts.status.say("Preparing the compiled loops: a minute or two, on the first run only.")
                compiler.start()
            parts.status.publish(state="watching")
            if interrupted is None or not interrupted.taking_is_over:
                prefetcher.start()
                self._loop(parts, prefetcher)
            return finish(parts, stop, self._paths)
        except MemoryError as error:
            short = SessionError(
                f"{self.output}: out of memory ({error}); expected enough for this frame size: close other programs or "
                "set --memory-limit, then continue with `livestack resume`."
            )
            write_failure(parts, short)
            raise short from error
        except LivestackError as error:
            write_failure(parts, error)
            raise
        finally:
            stop.end_all()
            prefetcher.finish()
            if compiler.ident is not None:
                compiler.join()
            parts.close()
            parts.status.publish(state="ended")

    def _open(self, journal: Journal, interrupted: Interrupted | None) -> SessionParts:
        """The stack, and all that hears of it."""
        parts: SessionParts

        def keep(samples: RejectedSamples) -> RejectedSamples:
            assert parts.masks is not None
            return parts.masks.keep(samples)

        def n_waiting() -> int:
            return self._prefetcher.n_waiting if self._prefetcher is not None else 0

        stack = LiveStack(self.settings, self._masters, Bands(thread_count()), keep=keep)
        name = self._paths[0].name or str(self._paths[0])
        status = StatusFeed(self.slot, name, self.output, stack.targets, n_waiting)
        writer = JournalWriter(journal, self._base, self.settings, status.say, self._tell)
        records = interrupted.records if interrupted is not None else ()
        measured = {(record.group, record.n_frames) for record in records if isinstance(record, PsfRecord)}
        parts = SessionParts(
            self.output, self.settings, stack, status, writer, measured,
            say_later=lambda said: self._commands.put(lambda parts: parts.status.say(said)), more=self._observers,
        )  # fmt: skip
        return parts

    @property
    def _master_files(self) -> Sequence[Master]:
        return self._masters.masters if self._masters is not None else ()

    def _start_record(self) -> SessionStart:
        masters = [MasterUse(file=str(m.path), kind=m.kind.value, checksum=m.checksum) for m in self._master_files]
        # who is told is nobody's business but the user's: such addresses hold passwords
        told = self.settings.model_dump(mode="json", exclude={"notify": {"urls"}})
        return SessionStart(
            version=version(), settings=told, folder=str(self._base),
            folders=tuple(os.path.realpath(path) for path in self._paths), one_shot=self._one_shot, software=software(),
            masters=tuple(masters),
        )  # fmt: skip

    def _loop(self, parts: SessionParts, prefetcher: Prefetcher) -> None:
        stop, limit = self.stop_request, self.settings.ingest.max_frames
        self._take_up_again(parts)
        while not stop.aborting.is_set():
            self._commands.carry_out(parts)
            if parts.status.paused and not stop.stopping.is_set():
                time.sleep(0.05)
                continue
            item = prefetcher.get(0.1)
            if item is None:
                _tick(parts)
            elif isinstance(item, End):
                break
            elif isinstance(item, Read):
                self._take(parts, item)
                self._take_up_again(parts)
            elif isinstance(item, Unread):
                self._refuse(parts, item.arrival.path, item.reason, item.message, item.arrival.key)
            elif isinstance(item, Refusal):
                self._refuse(parts, item.path, item.reason, item.message, item.key)
            elif isinstance(item, Notice):
                parts.journal.warn("folder", [item.message])
            elif isinstance(item, Idle):
                _tick(parts)
                self._stop_if_quiet(item, prefetcher)
            if limit is not None and parts.stack.n_stacked >= limit:
                stop.ask(f"{limit} frame(s) are stacked, as --max-frames asked")
                return
        if prefetcher.failure:
            raise prefetcher.failure[0]

    def _stop_if_quiet(self, item: Idle, prefetcher: Prefetcher) -> None:
        limit = self.settings.ingest.idle_stop_s
        quiet = min(item.idle_s, time.monotonic() - self._touched)
        if limit is not None and quiet >= limit and prefetcher.is_empty:
            self.stop_request.ask(f"no new file came for {limit:g} s, the limit of --idle-stop")

    # One frame

    def _take(self, parts: SessionParts, read: Read) -> None:
        self._touched = time.monotonic()
        parts.collect_checkpoint()
        info, arrival = parts.stack.intake.as_told(read.frame).info, read.arrival
        if not self._told_memory:
            self._told_memory = True
            self._tell_memory(parts, info)
        parts.journal.begin_frame(arrival.path, arrival.key, info)
        parts.status.frame_size = read.frame.info.size
        read.prepared.timings_s["read"] = read.read_s
        try:
            parts.stack.add_prepared(read.prepared)
        except STUMBLES as error:
            said = stumble(arrival.path, error)
            self._refuse(parts, arrival.path, UnreadableFrame.reason, said, arrival.key, read.frame.index)
            return
        self._touched = time.monotonic()
        parts.status.publish()

    def _take_up_again(self, parts: SessionParts) -> None:
        """Frames that were refused before their target or size was believed, from their files."""
        waiting = parts.stack.targets.to_take_up
        while waiting and not self.stop_request.aborting.is_set():
            name, index = next(iter(waiting))
            path = Path(name)
            try:
                begin = time.perf_counter()
                found, frame = look_at(name), read_frame(path, index)
                read_s = time.perf_counter() - begin
                if found is None:
                    raise VanishedFrame(f"{path.name}: is gone.")
                self._take(parts, Read(Arrival(path, found.key), frame, parts.stack.prepare(frame), read_s))
            except (FrameError, OSError) as error:
                parts.status.say(f"{path.name}: should be taken up again, and cannot be read any more ({error}).")
            waiting.pop((name, index), None)

    def _tell_memory(self, parts: SessionParts, info: FrameInfo) -> None:
        """What frames of this size need; said before the first one is stacked."""
        said, concern = memory_sentence(info, self.settings, available_memory())
        parts.status.say(said)
        if concern or bins_frames(info, self.settings):
            parts.journal.append(WarningRecord(kind="memory", message=said))

    def _refuse(
        self, parts: SessionParts, path: Path, reason: str, message: str, key: FileKey | None, index: int = 0
    ) -> None:
        """A file that never became a frame."""
        self._touched = time.monotonic()
        parts.journal.refuse_file(path, reason, message, key, index)
        parts.status.note_refusal(path, reason, message)
        parts.status.publish()


def _tick(parts: SessionParts) -> None:
    """Nothing came: tell what threads have done meanwhile."""
    parts.collect_checkpoint(wait=False)
    if parts.status.has_news:
        parts.status.publish()


def default_output(paths: Sequence[Path], now: datetime | None = None) -> Path:
    """FOLDER/livestack/<start time>, beside the frames of the first path."""
    first = paths[0]
    folder = first if first.is_dir() or not first.exists() else first.parent
    moment = (now or datetime.now(UTC)).astimezone()
    return folder / "livestack" / moment.strftime("%Y-%m-%d_%H%M%S")
