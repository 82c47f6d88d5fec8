"""Folder events: which names the system says were written, moved into place or changed, gathered until asked for.

A thin wrapper over a watchdog observer, the only thread here. An event says where to look and nothing more; it may come
twice, late or never, so the watcher scans as well. Bounded: a name is kept once, however often it changes.
"""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any, Protocol

_TELLING = {"created", "modified", "moved", "closed"}


class Observer(Protocol):
    """What is used of a watchdog observer."""

    def schedule(self, event_handler: Any, path: str, *, recursive: bool = False) -> Any: ...
    def unschedule(self, watch: Any) -> None: ...
    def start(self) -> None: ...
    def stop(self) -> None: ...
    def join(self, timeout: float | None = None) -> None: ...


def native_observer() -> Observer:
    """The observer of this system's own folder events."""
    from watchdog.observers import Observer as NativeObserver  # here, for `import livestack` must not load it

    observer: Observer = NativeObserver()
    return observer


class FolderEvents:
    """Gathers the names that events tell, from `start` to `stop`.

    Parameters
    ----------
    roots : real paths of the folders.
    recursive : sub-folders too.
    factory : makes the observer.
    """

    def __init__(
        self, roots: Sequence[str], recursive: bool, factory: Callable[[], Observer] = native_observer
    ) -> None:
        self._roots = roots
        self._recursive = recursive
        self._factory = factory
        self._observer: Observer | None = None
        self._watches: dict[str, Any] = {}
        self._lock = threading.Lock()
        self._came: dict[str, None] = {}
        self._renamed: dict[str, str] = {}

    def __len__(self) -> int:
        return len(self._came)

    @property
    def running(self) -> bool:
        """True while events are being listened to."""
        return self._observer is not None

    def start(self) -> str | None:
        """Begin to listen; why it could not be done, or None."""
        logging.getLogger("watchdog").addHandler(logging.NullHandler())  # its chatter at the end is not for stderr
        try:
            self._observer = self._factory()
            self._observer.start()
            for root in self._roots:
                self.watch(root)
        except (OSError, RuntimeError, ImportError) as error:
            self.stop()
            why = getattr(error, "strerror", None) or str(error)
            hint = "; raising fs.inotify.max_user_watches and max_user_instances helps" if "inotify" in why else ""
            return why + hint
        return None

    def watch(self, root: str) -> None:
        """Listen to a folder, anew if it was listened to before: a folder that went and came back is another one."""
        if self._observer is None:
            return
        old = self._watches.pop(root, None)
        if old is not None:
            with suppress(KeyError, OSError):  # it died with the folder
                self._observer.unschedule(old)
        self._watches[root] = self._observer.schedule(self, root, recursive=self._recursive)

    def stop(self) -> None:
        """Listen no more; safe to call twice."""
        observer, self._observer = self._observer, None
        self._watches.clear()
        if observer is not None:
            observer.stop()
            with suppress(RuntimeError):  # it never started
                observer.join(5.0)

    def dispatch(self, event: Any) -> None:
        """Take one watchdog event (called by the observer's thread)."""
        kind = event.event_type
        if kind not in _TELLING or (event.is_directory and kind not in ("created", "moved")):
            return
        path = os.fsdecode(event.dest_path if kind == "moved" else event.src_path)
        if path:
            with self._lock:
                self._came[path] = None
                if kind == "moved":
                    self._renamed[path] = os.fsdecode(event.src_path)

    def take(self) -> tuple[list[str], dict[str, str]]:
        """(names, new name -> old name of those that were renamed) since the last time, in the order they came."""
        with self._lock:
            came, self._came = self._came, {}
            renamed, self._renamed = self._renamed, {}
        return list(came), renamed
