"""Going on after an interruption: the newest checkpoint is restored, and what the journal tells of later is done again.

While that lasts the stack's events go nowhere but here: the journal has most of them already. Only what it cannot know
is written: a reference that was not chosen before, a frame that is lost.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from pathlib import Path

from livestack.base.errors import FrameError, UsageError
from livestack.base.journal import (
    FollowRecord,
    FrameRecord,
    Record,
    RemovedRecord,
    ResumeRecord,
    SavingRecord,
    TargetRecord,
    WarningRecord,
)
from livestack.base.version import version
from livestack.engine.events import Alert, Event, FrameTakenOut, Notice, ReferenceChanged
from livestack.engine.live_stack import LiveStack
from livestack.engine.views import StackView
from livestack.engine.warmup import finish_warmup
from livestack.formats import read_frame
from livestack.observers.observer import guarded, restore_all
from livestack.session.checkpoint import MASKS_NAME, load_newest
from livestack.session.journal_writer import JournalWriter
from livestack.session.parts import SessionParts
from livestack.session.resume import Event as JournalEvent
from livestack.session.resume import Interrupted
from livestack.stacking.mask_store import MaskStore


class Replay:
    """Does again what the journal of an interrupted session tells, from event `first` on.

    Parameters
    ----------
    after_frame : called when a frame has been carried through again.
    """

    def __init__(
        self, interrupted: Interrupted, stack: LiveStack, journal: JournalWriter, after_frame: Callable[[], None]
    ) -> None:
        self._interrupted, self._stack, self._journal, self._after_frame = interrupted, stack, journal, after_frame
        self._notices: list[str] = []
        self._alerts: list[str] = []

    def run(self, first: int, stopped: Callable[[], bool]) -> bool:
        """True when all is done; False when it was stopped."""
        records, events = self._interrupted.records, self._interrupted.events
        last = next((i for i in reversed(range(len(events))) if isinstance(events[i], FrameRecord)), -1)
        said = {r.message for r in records[_after_last_frame(records) :] if isinstance(r, WarningRecord)}
        unsubscribe = self._stack.events.subscribe(self._on_event)
        try:
            for number in range(first, len(events)):
                if stopped():
                    return False
                self._notices.clear()
                self._alerts.clear()
                self._do(events[number])
                self._journal.n_events = max(self._journal.n_events, number + 1)
                if number == last:  # the interruption may have come before these were told
                    for notice in self._notices:
                        self._journal.notice(notice)
                    self._journal.warn("observing", [alert for alert in self._alerts if alert not in said])
        finally:
            unsubscribe()
        return True

    def _on_event(self, event: Event) -> None:
        if isinstance(event, ReferenceChanged):
            self._journal.on_reference(event)
        elif isinstance(event, Notice):
            self._notices.append(event.message)
        elif isinstance(event, Alert):
            self._alerts.append(event.message)
        elif isinstance(event, FrameTakenOut) and not self._is_told(event):
            self._journal.on_event(event)

    def _is_told(self, event: FrameTakenOut) -> bool:
        return self._interrupted.was_taken_out(event.member.name, event.member.index)

    def _do(self, event: JournalEvent) -> None:
        if isinstance(event, TargetRecord):
            self._stack.start_new_target()
        elif isinstance(event, FollowRecord):
            self._stack.follow(event.group, event.x, event.y, event.velocity)
        elif isinstance(event, SavingRecord):
            for group in self._stack.groups.values():
                finish_warmup(group)
        elif isinstance(event, RemovedRecord):
            with contextlib.suppress(UsageError, FrameError):  # it is not in the stack, which is what was wanted
                self._stack.remove(event.file, event.index)
        elif event.group:
            self._carry(event)

    def _carry(self, record: FrameRecord) -> None:
        path = self._interrupted.path_of(record)
        try:
            if self._interrupted.is_unchanged(record):
                self._stack.add(read_frame(path, record.index))
                self._after_frame()
                return
        except FrameError:
            pass  # gone or damaged since: as one that was changed
        if record.status == "stacked" and not self._interrupted.was_removed(record):
            self._journal.lose(record.file, record.index)


def _after_last_frame(records: Sequence[Record]) -> int:
    """Where the lines after the last frame's begin."""
    return 1 + max((i for i, record in enumerate(records) if isinstance(record, FrameRecord)), default=-1)


def go_on(parts: SessionParts, interrupted: Interrupted, folder: Path, stopped: Callable[[], bool]) -> None:
    """Restore the newest checkpoint in `folder`, then replay what came after it.

    Raises
    ------
    SessionError : the disk cannot be read or written.
    """
    stack, journal, status = parts.stack, parts.journal, parts.status
    journal.recall(interrupted.records)
    status.recall(interrupted.records)
    status.sequence = journal.sequence
    notices = list(interrupted.notices)
    loaded = load_newest(folder, len(interrupted.events), notices)
    masks = loaded.masks if loaded is not None else MaskStore(folder / MASKS_NAME)
    checkpoints = parts.keep_state(folder, masks)
    if loaded is not None:
        notices += restore_all(parts.observers, loaded.observers)
    for notice in notices:
        status.say(notice)
    if loaded is not None:
        journal.n_events = loaded.n_events
        for member in stack.restore(loaded.state):
            journal.lose(journal.spoken(member.path) if member.path else member.name, member.index)
        _measure_again(parts, interrupted, loaded.n_events)

    def after_frame() -> None:
        status.publish()
        checkpoints.writer.count_frame()

    subscribed = [stack.events.subscribe(guarded(one, status.say)) for one in parts.measuring]
    try:
        first = loaded.n_events if loaded is not None else 0
        if not Replay(interrupted, stack, journal, after_frame).run(first, stopped):
            return
    finally:
        for unsubscribe in subscribed:
            unsubscribe()
    message = f"Going on with {stack.n_stacked} frame(s) stacked."
    journal.append(ResumeRecord(version=version(), n_stacked=stack.n_stacked, message=message))
    status.say(message)
    parts.draw_active()


def _measure_again(parts: SessionParts, interrupted: Interrupted, n_events: int) -> None:
    """Begin the PSF of the checkpoint's newest frame, which was to be begun right after it."""
    newest = interrupted.events[n_events - 1] if n_events else None
    if isinstance(newest, FrameRecord) and newest.status == "stacked" and newest.group in parts.stack.groups:
        view = StackView.of(parts.stack.groups[newest.group], with_newest=False)
        if view is not None:
            parts.psf.begin(view)
