"""Checkpoints: the whole state of a `LiveStack` on disk, so that an interrupted session goes on exactly.

A thread writes straight from the live accumulators, without a copy: whoever wants to change them waits for it
(`settle`). In a live session it is done before the next exposure; where frames come as fast as they can be read, the
distance to the next checkpoint grows until writing takes no more than `MAX_SHARE` of the time. Two generations are
kept; the older one goes only when the newer one is whole. The rejected samples of each frame lie in a file of their
own that only grows. What happens to frames that came after the checkpoint is `resume`'s business.
"""

from __future__ import annotations

import json
import re
import shutil
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar
from weakref import WeakKeyDictionary

import numpy as np

from livestack.base.durable import DamagedFile, load_arrays, save_arrays
from livestack.base.journal import CheckpointRecord
from livestack.engine.events import Event, FrameDone
from livestack.engine.ledger import Member
from livestack.engine.live_stack import LiveStack
from livestack.observers.observer import Observer, states_of
from livestack.session.journal_writer import JournalWriter
from livestack.session.state_codec import from_tree, to_text, to_tree
from livestack.stacking.mask_store import MaskStore

FOLDER_NAME = "checkpoint"
MASKS_NAME = "masks.bin"
STATE_VERSION = 4
GENERATIONS = 2
MAX_SHARE = 0.04
"""Share of the time that checkpoints may take ..."""
CHEAP_S = 0.1
"""... when one takes longer than this: small ones come when they are due, so the same night gives the same journal."""
BYTES_PER_S = 300e6
"""A disk writes about so much: what the first checkpoint will cost is reckoned from it, later ones tell themselves."""
_NAME = re.compile(r"state-(\d{6,})\.bin")


@dataclass(frozen=True)
class Written:
    """A checkpoint that is whole.

    Attributes
    ----------
    n_events : how many events of the journal it holds (see `resume`).
    duration_s : from the decision to the disk.
    """

    path: Path
    n_stacked: int
    n_events: int
    sequence: int
    size_bytes: int
    duration_s: float


@dataclass(frozen=True, eq=False)
class Loaded:
    """A checkpoint that was read: the `LiveStack`'s state, the rejected samples' store, the observers' states."""

    path: Path
    n_events: int
    state: Mapping[str, Any]
    masks: MaskStore
    observers: Mapping[str, Any]


class Checkpointer:
    """Writes checkpoints of one session.

    Parameters
    ----------
    folder : the session's `checkpoint` folder.
    masks : the rejected samples' store.
    every_frames, every_s : a checkpoint is due after so many frames or seconds, whichever comes first.
    clock : monotonic seconds.
    """

    def __init__(
        self, folder: Path, masks: MaskStore, every_frames: int, every_s: float,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:  # fmt: skip
        self.folder = folder
        self._masks = masks
        self._every_frames, self._every_s = every_frames, every_s
        self._clock = clock
        self._number = max((number for number, _ in generations(folder)), default=0)
        self._ended = clock()
        self._cost: float | None = None
        self._frames = 0
        self._thread: threading.Thread | None = None
        self._result: list[Written | BaseException] = []
        self._lines: WeakKeyDictionary[Member, bytes] = WeakKeyDictionary()
        self.spent_s = 0.0
        """Time that all checkpoints took."""

    def count_frame(self) -> None:
        """One more frame went into the state."""
        self._frames += 1

    def is_due(self, stack: LiveStack) -> bool:
        """True when it is time, and there is something that the frames themselves do not tell."""
        if self._thread is not None or not self._frames or all(group.warmup.active for group in stack.groups.values()):
            return False
        since = self._clock() - self._ended
        due = self._frames >= self._every_frames or since >= self._every_s
        cost = self._cost if self._cost is not None else _state_bytes(stack) / BYTES_PER_S
        return due and (cost <= CHEAP_S or cost <= MAX_SHARE * (since + cost))

    def begin(self, stack: LiveStack, n_events: int, sequence: int, observers: Mapping[str, Any]) -> None:
        """Start writing; nothing may change the stack's accumulators before `settle` has returned."""
        begin = self._clock()
        arrays: list[np.ndarray] = []
        state = stack.state()
        ledgers = {name: self._ledger(group["ledger"].pop("members")) for name, group in state["groups"].items()}
        tree = {
            "n_events": n_events, "sequence": sequence, "n_stacked": stack.n_stacked, "masks": self._masks.length,
            "stack": to_tree(state, arrays), "observers": to_tree(dict(observers), arrays), "ledgers": list(ledgers),
        }  # fmt: skip
        named = {f"a{i}": array for i, array in enumerate(arrays)}
        named |= {f"m{i}": np.frombuffer(text, np.uint8) for i, text in enumerate(ledgers.values())}
        named["tree"] = np.frombuffer(to_text(tree), np.uint8)
        self._number += 1
        path = self.folder / f"state-{self._number:06d}.bin"
        self._frames = 0

        def write() -> None:
            try:
                self._masks.sync()
                size = save_arrays(path, named, {"state": STATE_VERSION, "n_arrays": len(arrays)})
                for _, old in generations(self.folder)[GENERATIONS:]:
                    with suppress(OSError):
                        old.unlink()
                took = self._clock() - begin
                self._result.append(Written(path, tree["n_stacked"], n_events, sequence, size, took))
            except BaseException as error:  # noqa: BLE001  (raised again by whoever collects)
                self._result.append(error)

        self._thread = threading.Thread(target=write, name="livestack-checkpoint", daemon=True)
        self._thread.start()

    @property
    def is_done(self) -> bool:
        """A checkpoint was written, and `settle` has not been asked yet."""
        return self._thread is not None and not self._thread.is_alive()

    def settle(self) -> Written | None:
        """Wait for the checkpoint under way; what was written, None when there was none.

        Raises
        ------
        SessionError : it could not be written; the older ones are untouched.
        """
        if self._thread is None:
            return None
        self._thread.join()
        self._thread = None
        result = self._result.pop()
        if isinstance(result, BaseException):
            raise result
        self._ended = self._clock()
        self._cost = result.duration_s
        self.spent_s += result.duration_s
        return result

    def close(self) -> None:
        """Wait for the thread; a failure of it is no news any more."""
        if self._thread is not None:
            self._thread.join()
            self._thread = None

    def _ledger(self, members: list[Member]) -> bytes:
        """A line for each member; each is put into words once."""
        lines = []
        for member in members:
            line = self._lines.get(member)
            if line is None:
                arrays: list[np.ndarray] = []
                line = self._lines[member] = to_text(to_tree(member, arrays))
                if arrays:
                    raise TypeError(f"{member.name}: its record holds large arrays; expected a few numbers.")
            lines.append(line)
        return b"\n".join(lines)


def _state_bytes(stack: LiveStack) -> int:
    """Size of the accumulators."""
    stacks = [group.stack for group in stack.groups.values() if group.stack is not None]
    return sum(array.nbytes for one in stacks for array in one.arrays().values())


def generations(folder: Path) -> list[tuple[int, Path]]:
    """Number and path of the checkpoints in a folder, newest first."""
    with suppress(OSError):
        found = [(int(match[1]), path) for path in folder.iterdir() if (match := _NAME.fullmatch(path.name))]
        return sorted(found, reverse=True)
    return []


def load_newest(folder: Path, most_events: int, notices: list[str]) -> Loaded | None:
    """The newest checkpoint that is whole and holds no more events than the journal; None when there is none.

    Parameters
    ----------
    notices : a sentence is appended for each that cannot be used.

    Raises
    ------
    SessionError : the disk cannot be read or written.
    """
    for _, path in generations(folder):
        try:
            loaded = _load(path, most_events)
        except DamagedFile as error:
            notices.append(str(error))
            continue
        return loaded
    return None


def _load(path: Path, most_events: int) -> Loaded:
    named, meta = load_arrays(path)
    if meta.get("state") != STATE_VERSION:
        raise DamagedFile(
            f"{path}: holds state of version {meta.get('state')}, expected {STATE_VERSION}; the frames are read again."
        )
    tree = json.loads(named["tree"].tobytes())
    if tree["n_events"] > most_events:
        raise DamagedFile(
            f"{path}: holds {tree['n_events']} events, the journal has {most_events}; an older one is taken."
        )
    arrays = [named[f"a{i}"] for i in range(meta["n_arrays"])]
    masks = MaskStore(path.with_name(MASKS_NAME), tree["masks"])
    try:
        state = from_tree(tree["stack"], arrays, masks)
        for i, name in enumerate(tree["ledgers"]):
            lines = named[f"m{i}"].tobytes().splitlines()
            state["groups"][name]["ledger"]["members"] = [from_tree(json.loads(line), (), masks) for line in lines]
        observers = from_tree(tree["observers"], arrays, masks)
    except (ValueError, KeyError, TypeError, IndexError) as error:
        masks.close()
        raise DamagedFile(f"{path}: cannot be understood ({error}); an older one is taken.") from error
    return Loaded(path, tree["n_events"], state, masks, observers)


def remove_checkpoints(folder: Path) -> None:
    """Give the disk back what a finished session needs no more."""
    with suppress(OSError):
        shutil.rmtree(folder)


class Checkpoints:
    """Keeps the state of a session on disk: begins a checkpoint when one is due, and tells the journal of it.

    Parameters
    ----------
    output : the session's folder, which the journal's names start from.
    observers : whose states belong in beside the stack's.
    at_rest : False while somebody measures what the journal does not hold yet.
    """

    name: ClassVar[str] = "checkpoint"
    version: ClassVar[int] = 1

    def __init__(
        self, writer: Checkpointer, output: Path, stack: LiveStack, journal: JournalWriter,
        observers: Sequence[Observer], at_rest: Callable[[], bool],
    ) -> None:  # fmt: skip
        self.writer = writer
        self._output = output
        self._stack, self._journal, self._observers, self._at_rest = stack, journal, observers, at_rest

    def on_event(self, event: Event) -> None:
        """Nothing changes until the next frame comes: the moment to begin.

        That is before the PSF of this frame is begun, and after that of an earlier one was told: see `replay`.
        """
        if isinstance(event, FrameDone):
            self.writer.count_frame()
            if self._at_rest() and self.writer.is_due(self._stack):
                n_events, sequence = self._journal.n_events, self._journal.sequence - 1
                self.writer.begin(self._stack, n_events, sequence, states_of(self._observers))

    def state(self) -> Mapping[str, Any]:
        """Nothing of its own."""
        return {}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Nothing to go on from."""

    def collect(self, wait: bool = True) -> None:
        """Tell of the checkpoint that was under way; with `wait`, the accumulators may be changed afterwards."""
        if not wait and not self.writer.is_done:
            return
        written = self.writer.settle()
        if written is not None:
            self._journal.append(
                CheckpointRecord(
                    file=written.path.relative_to(self._output).as_posix(), n_stacked=written.n_stacked,
                    sequence=written.sequence, size_bytes=written.size_bytes, duration_s=round(written.duration_s, 4),
                )
            )  # fmt: skip
