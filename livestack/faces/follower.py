"""Following a session beside everything else: a thread that looks at each new snapshot, but not too often."""

from __future__ import annotations

import threading

from livestack.session.snapshot import Slot, Snapshot

LOOK_S = 0.2
"""A stop is noticed within this."""
LAST_WORDS_S = 10.0
"""The last snapshot is waited for so long."""


class SlotFollower:
    """Base of the faces that work in a thread of their own.

    Parameters
    ----------
    slot : where the session publishes.
    name : of the thread; `interval_s` is the shortest time between two looks.
    """

    def __init__(self, slot: Slot, name: str, interval_s: float) -> None:
        self._slot, self._name, self._interval_s = slot, name, interval_s
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Begin to follow the slot."""
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name=self._name, daemon=True)
            self._thread.start()

    def stop(self) -> None:
        """Take the last snapshot and end the thread."""
        self._stop.set()
        if self._thread is not None:
            self._thread.join(timeout=LAST_WORDS_S)
            self._thread = None

    def take(self, snapshot: Snapshot) -> bool:
        """Do something with a snapshot; False where it has to be tried again."""
        raise NotImplementedError

    def _run(self) -> None:
        seen, done = -1, True
        while not self._stop.is_set():
            latest = self._slot.wait_newer(seen, LOOK_S)
            if latest.sequence != seen:
                seen, done = latest.sequence, self.take(latest)
                self._stop.wait(self._interval_s)
        if self._slot.latest.sequence != seen or not done:
            self.take(self._slot.latest)
