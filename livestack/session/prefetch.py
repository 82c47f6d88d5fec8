"""From the watcher to the stack: two threads, one that watches and one that reads and prepares, and the queues between.

Paths wait in an unbounded queue, frames in a queue of one: a burst of files costs nothing, and the next frame is read,
calibrated and searched for stars while the present one is being stacked. Order is kept all the way.
"""

from __future__ import annotations

import contextlib
import queue
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import cv2

from livestack.base.errors import FrameError, UnreadableFrame
from livestack.base.folder import FileKey, calibration_folder, say_name
from livestack.base.frame import Frame, FrameKind
from livestack.engine.states import Detected, Outcome
from livestack.formats import read_frames, read_info
from livestack.session.watcher import Arrival, Idle, Watcher

STUMBLES = (ValueError, ArithmeticError, LookupError, TypeError, cv2.error)
"""What our own steps raise on a frame that nobody thought of."""


@dataclass(frozen=True, eq=False)
class Read:
    """A frame that came out of a file, prepared; `read_s` what reading took."""

    arrival: Arrival
    frame: Frame
    prepared: Detected | Outcome
    read_s: float


@dataclass(frozen=True)
class Unread:
    """A file that held no frame after all."""

    arrival: Arrival
    reason: str
    message: str


class End:
    """Nothing more will come."""


def stumble(path: Path, error: Exception) -> str:
    """The sentence for a frame that we stumble over: one frame is less than the night."""
    kind = type(error).__name__
    return f"{say_name(path)}: could not be worked on ({kind}: {error}); it is left out: please report this."


def _no_light(path: Path, folder: str) -> str:
    return (
        f"{say_name(path)}: not a light: its header does not say and its folder is called {folder}; build masters "
        "from it with `livestack masters`, or rename the folder."
    )


class Prefetcher:
    """Hands out what the watcher finds, frames read and prepared; whatever else it says is passed on in its place.

    Parameters
    ----------
    watcher : iterated in a thread.
    prepare : the part of the work that needs no other frame.
    aborting : set by the caller to end at once.
    """

    def __init__(
        self, watcher: Watcher, prepare: Callable[[Frame], Detected | Outcome], aborting: threading.Event
    ) -> None:
        self.failure: list[BaseException] = []
        """What ended a thread; to be raised by whoever gets `End`."""
        self._watcher, self._prepare, self._aborting = watcher, prepare, aborting
        self._items: queue.Queue[object] = queue.Queue()
        self._frames: queue.Queue[object] = queue.Queue(maxsize=1)
        self._n_arrived = 0
        self._n_begun = 0
        self._begun: dict[Path, int] = {}
        self._threads = [
            threading.Thread(target=self._watch, name="livestack-watch", daemon=True),
            threading.Thread(target=self._read, name="livestack-read", daemon=True),
        ]

    def start(self) -> None:
        """Begin."""
        for thread in self._threads:
            thread.start()

    def put_first(self, path: Path, key: FileKey, index: int) -> None:
        """Before `start`: a file of many frames, to be read from frame `index` on."""
        self._begun[path] = index
        self._n_arrived += 1
        self._items.put(Arrival(path, key))

    def get(self, timeout_s: float) -> object:
        """The next `Read`, `Unread`, `End`, or item of the watcher; None when there was none in time."""
        with contextlib.suppress(queue.Empty):
            return self._frames.get(timeout=timeout_s)
        return None

    @property
    def is_empty(self) -> bool:
        """No file waits to be read."""
        return self._items.empty()

    @property
    def n_waiting(self) -> int:
        """Files that were seen and not yet begun to be read."""
        return self._n_arrived - self._n_begun + self._watcher.n_waiting

    def finish(self) -> None:
        """Wait for the threads, after `aborting` was set; what waits for a place in the queue is let go."""
        while any(thread.is_alive() for thread in self._threads):
            with contextlib.suppress(queue.Empty):
                self._frames.get_nowait()
            for thread in self._threads:
                if thread.ident is not None:
                    thread.join(0.02)

    def _watch(self) -> None:
        try:
            for item in self._watcher:
                if self._aborting.is_set():
                    break
                if isinstance(item, Idle) and not self._items.empty():
                    continue  # not idle: others are still waiting to be read
                self._n_arrived += isinstance(item, Arrival)
                self._items.put(item)
        except BaseException as error:  # noqa: BLE001  (raised again in the session's own thread)
            self.failure.append(error)
        finally:
            self._items.put(End())

    def _read(self) -> None:
        try:
            while True:
                item = self._items.get()
                if self._aborting.is_set():
                    break
                if isinstance(item, Arrival):
                    self._n_begun += 1
                    self._read_file(item)
                else:
                    self._frames.put(item)
                if isinstance(item, End):
                    return
        except BaseException as error:  # noqa: BLE001  (raised again in the session's own thread)
            self.failure.append(error)
        self._frames.put(End())

    def _read_file(self, arrival: Arrival) -> None:
        first = self._begun.pop(arrival.path, 0)
        try:
            folder = calibration_folder(arrival.path, self._watcher.roots)
            if folder is not None and read_info(arrival.path).kind is FrameKind.UNKNOWN:
                self._frames.put(Unread(arrival, "not_a_light", _no_light(arrival.path, folder)))
                return
            frames = read_frames(arrival.path)
            while not self._aborting.is_set():
                begin = time.perf_counter()
                frame = next(frames, None)
                if frame is None:
                    return
                if frame.index < first:
                    continue
                read_s = time.perf_counter() - begin
                self._frames.put(Read(arrival, frame, self._prepare(frame), read_s))
        except FrameError as error:
            self._frames.put(Unread(arrival, error.reason, str(error)))
        except STUMBLES as error:
            self._frames.put(Unread(arrival, UnreadableFrame.reason, stumble(arrival.path, error)))
