"""The watcher: which files of a folder are whole frames by now, in the order in which they came.

An iterator with an injected stop event. Folder events say where to look; scans at the start and at intervals find what
events lose; on network shares, which tell none, frequent scans do it all. Only paths are kept, so that a burst of files
costs nothing. Reading frames, and telling duplicates by their content, are left to the pipeline.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterator, Sequence, Set
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from livestack.base.errors import FrameError, TruncatedFrame, UsageError, VanishedFrame
from livestack.base.folder import (
    SESSION_MARK,
    Entry,
    Exclusion,
    FileKey,
    look_at,
    natural_key,
    network_file_system,
    say_name,
    scan,
)
from livestack.base.settings import IngestSettings
from livestack.formats import check_complete, is_frame_name
from livestack.session.file_readiness import Arrival, CompanionPicture, FileReadiness, Refusal, look_error
from livestack.session.folder_events import FolderEvents, Observer, native_observer

TICK_S = 0.1
"""Longest pause between two looks at the stop event."""
POLL_INTERVAL_S = 1.0
SCAN_SHARE = 0.1
"""Largest share of the time that scanning may take, however slow the disk is."""


@dataclass(frozen=True)
class Notice:
    """A sentence about the watching itself."""

    message: str


@dataclass(frozen=True)
class Idle:
    """Nothing is ready at this moment."""

    idle_s: float
    """Since a file last came or changed."""
    n_waiting: int


Item = Arrival | Refusal | Notice | Idle


class StopSign(Protocol):
    """What is used of `threading.Event`; a test puts a scripted one in its place."""

    def is_set(self) -> bool: ...
    def wait(self, timeout: float | None = None) -> bool: ...


class Watcher:
    """Iterate over what happens in the folders, until the stop event is set and what is ready by then is handed out.

    Parameters
    ----------
    folders : folders to watch; with `one_shot` also single files, which are taken whatever their name.
    settings : intervals, recursion, polling, existing files.
    exclude : folders that are never entered: the session's own output.
    known : files that were dealt with before; the same path, size and time is never handed out again.
    stop : set by the caller; iteration then ends after a last look. Closing the iterator ends it at once.
    one_shot : hand out what is there, waiting only for a second look at fresh files, then end.
    since : with `settings.existing` off, files that are there already are taken if they changed after this time
        (seconds since 1970): what came between a crash and the session that resumes.
    check, is_frame : raises a FrameError for a file that is not whole; whether a name can be a frame's.
    clock, wall, sleep : monotonic seconds, seconds since 1970, pause.
    observer_factory : makes the observer of folder events.

    Raises
    ------
    UsageError
        A folder is missing, lies in an excluded one or is a session's own; raised when the watcher is made.
    """

    def __init__(
        self,
        folders: Sequence[Path],
        settings: IngestSettings,
        exclude: Sequence[Path] = (),
        known: Set[FileKey] = frozenset(),
        stop: StopSign | None = None,
        *,
        one_shot: bool = False,
        since: float | None = None,
        check: Callable[[Path], None] = check_complete,
        is_frame: Callable[[str], bool] = is_frame_name,
        clock: Callable[[], float] = time.monotonic,
        wall: Callable[[], float] = time.time,
        sleep: Callable[[float], None] = time.sleep,
        observer_factory: Callable[[], Observer] = native_observer,
    ) -> None:
        self._roots = [os.path.realpath(folder) for folder in folders]
        self._settings = settings
        self._exclusion = Exclusion(self._roots, exclude)
        self._stop: StopSign = stop if stop is not None else threading.Event()
        self._one_shot = one_shot
        self._since = since
        self._is_frame = is_frame
        self._clock, self._wall, self._sleep = clock, wall, sleep
        self._events = FolderEvents(self._roots, settings.recursive, observer_factory)
        self._readiness = FileReadiness(settings, known, check, clock)
        self._batch: list[Entry] = []
        self._identities = {root: _identity(root) for root in self._roots}
        self._next_scan = 0.0
        for folder, root in zip(folders, self._roots, strict=True):
            self._refuse_bad_root(folder, root)

    @property
    def roots(self) -> tuple[str, ...]:
        """Real paths of what is watched."""
        return tuple(self._roots)

    @property
    def n_waiting(self) -> int:
        """Files seen and not yet handed out; may be asked from any thread."""
        return len(self._batch) + len(self._readiness) + len(self._events)

    def __iter__(self) -> Iterator[Item]:
        try:
            if not self._one_shot:
                yield from self._start_events()
            yield from self._first_scan()
            if self._one_shot:
                return
            while not self._stop.is_set():
                yield from self._check_roots()
                self._take_events()
                if self._clock() >= self._next_scan:
                    self._rescan()
                yield from self._readiness.look_at_due()
                yield Idle(self._clock() - self._readiness.active, self.n_waiting)
                self._stop.wait(min(TICK_S, self._settings.look_interval_s))
            yield from self._drain()
        finally:
            self._events.stop()

    def _drain(self) -> Iterator[Item]:
        """After the stop: what was finished just now is still taken, what is not is refused."""
        yield from self._check_roots()
        self._take_events()
        self._rescan()
        if len(self._readiness):
            self._sleep(self._settings.look_interval_s)
        yield from self._readiness.finish()

    # What is there already

    def _first_scan(self) -> Iterator[Item]:
        """Hand out the files that are there, in natural order of their names: the same files, the same order."""
        found: dict[str, Entry] = {}
        for entries in self._existing_entries():
            for entry in sorted(entries, key=lambda entry: natural_key(entry.path)):
                if not self._readiness.knows(entry.key):
                    found.setdefault(entry.key.path, entry)
        self._next_scan = self._clock() + self._scan_interval_s
        if not self._settings.existing and not self._one_shot:
            for entry in [entry for entry in found.values() if self._is_before(entry)]:
                self._readiness.remember(found.pop(entry.key.path).key)
        if any(self._is_fresh(entry) for entry in found.values()):
            self._sleep(self._settings.look_interval_s)
        self._batch = list(reversed(found.values()))
        while self._batch:
            yield from self._second_look(self._batch[-1])
            if self._batch:
                self._batch.pop()

    def _existing_entries(self) -> Iterator[list[Entry]]:
        """Files of each root; single files given one after the other count as one root, as the shell expands them."""
        loose: list[Entry] = []
        for root in self._roots:
            if os.path.isfile(root):
                with suppress(OSError):
                    loose += [entry for entry in [look_at(root)] if entry is not None]
            else:
                yield loose
                loose = []
                yield self._scan(root)
        yield loose

    def _second_look(self, entry: Entry) -> Iterator[Item]:
        """Hand out a file of the first scan, refuse it, or let it wait with the others because it may be growing."""
        try:
            now = look_at(entry.path)
            if now is not None and now.key != entry.key and self._one_shot:
                self._sleep(self._settings.look_interval_s)
                entry, now = now, look_at(now.path)
            if now is None:
                return
            error: FrameError | None
            if now.key == entry.key:
                error = self._readiness.judge(entry.path, entry.key)
            else:
                error = TruncatedFrame(f"{say_name(entry.path)}: still growing; run again when it is finished.")
        except OSError as failure:
            now, error = entry, look_error(entry.path, failure)
        gone, final = isinstance(error, VanishedFrame), isinstance(error, VanishedFrame | CompanionPicture)
        if error is None:
            yield self._readiness.arrive(entry.path, entry.key)
        elif gone and not self._one_shot and any(_identity(root) is None for root in self._roots):
            self._batch.clear()  # unplugged, not deleted: scans find the rest when it is back
        elif final or self._one_shot or not self._is_fresh(now):
            yield self._readiness.refuse(entry.path, now.key, error)
        else:
            self._readiness.notice(entry.path, now.key)

    def _is_fresh(self, entry: Entry) -> bool:
        """True for a file that may still be being written."""
        return self._wall() - entry.changed_ns / 1e9 < 2 * self._settings.settle_timeout_s

    def _is_before(self, entry: Entry) -> bool:
        return self._since is None or entry.changed_ns / 1e9 < self._since

    # What comes

    def _take_events(self) -> None:
        """Have a look at the names that events told."""
        came, renamed = self._events.take()
        for path in came:
            if path in renamed:
                self._readiness.rename(renamed[path], path)
            if not self._is_wanted(path):
                if os.path.isdir(path):  # it came with what is in it
                    self._next_scan = self._clock()
                continue
            try:
                found = look_at(path)
            except OSError:
                self._readiness.notice(path, None)
                continue
            if found is not None and not self._readiness.knows(found.key):
                self._readiness.notice(path, found.key)

    def _is_wanted(self, path: str) -> bool:
        """True for a name that a frame may have, in a folder that may be entered."""
        if not self._is_frame(path):
            return False
        folder = os.path.dirname(path)
        return (self._settings.recursive or folder in self._roots) and not self._exclusion.covers(folder)

    def _rescan(self) -> None:
        """Find what events did not tell."""
        started = self._clock()
        self._exclusion.forget()
        for root in self._roots:
            fresh = [entry for entry in self._scan(root) if not self._readiness.knows(entry.key)]
            for entry in sorted(fresh, key=lambda entry: natural_key(entry.path)):
                self._readiness.notice(entry.path, entry.key)
        now = self._clock()
        self._next_scan = now + max(self._scan_interval_s, (now - started) * (1 / SCAN_SHARE - 1))

    @property
    def _scan_interval_s(self) -> float:
        interval = self._settings.rescan_interval_s
        return interval if self._events.running else min(interval, POLL_INTERVAL_S)

    def _scan(self, root: str) -> list[Entry]:
        try:
            return list(scan(root, self._settings.recursive, self._exclusion, self._is_frame))
        except OSError:
            return []  # `_check_roots` tells

    # Folders

    def _refuse_bad_root(self, folder: Path, root: str) -> None:
        if os.path.isfile(root) and self._one_shot:
            return
        if not os.path.isdir(root):
            found = "is a file" if os.path.exists(root) else "does not exist"
            raise UsageError(f"{folder}: {found}; expected the folder that the camera writes into.")
        holder = self._exclusion.holding(root)
        if holder is not None:
            raise UsageError(
                f"{folder}: lies in the session's own output folder {holder}, whose files are never taken as frames; "
                "choose another --output."
            )
        if os.path.exists(os.path.join(root, SESSION_MARK)):
            raise UsageError(
                f"{folder}: holds a livestack session ({SESSION_MARK}), not a camera's frames; give the folder that "
                "the camera writes into, or continue the session with `livestack resume`."
            )

    def _start_events(self) -> Iterator[Item]:
        """Listen to folder events where they can be trusted; say so where not."""
        if self._settings.poll:
            return
        for root in self._roots:
            kind = network_file_system(root)
            if kind is not None:
                yield Notice(f"{root}: on a network share ({kind}), which tells no events; looking at intervals.")
                return
        why = self._events.start()
        if why is not None:
            yield Notice(f"Folder events are not to be had ({why}); looking at intervals instead, nothing is missed.")

    def _check_roots(self) -> Iterator[Item]:
        """Tell once when a folder is gone, and when it is back; events are asked for anew then."""
        for root in self._roots:
            before, now = self._identities[root], _identity(root)
            if now == before:
                continue
            self._identities[root] = now
            if now is None:
                self._readiness.forget_waiting(root)
                yield Notice(f"{root}: the folder is gone (unplugged, unmounted or renamed); still looking for it.")
                continue
            if before is None:
                self._next_scan = self._clock()
                yield Notice(f"{root}: the folder is back; watching it again.")
            with suppress(OSError):  # scans go on
                self._events.watch(root)


def _identity(root: str) -> tuple[int, int] | None:
    """Tells a folder from another one of the same name; None when there is none."""
    try:
        found = os.stat(root)
    except OSError:
        return None
    return found.st_dev, found.st_ino
