"""A stack that remembers what it told."""

from __future__ import annotations

from typing import Any

from livestack import LiveStack
from livestack.engine.events import Event, FrameDone, FrameTakenOut, Notice, ReferenceChanged
from livestack.engine.views import StackView


class HeardStack(LiveStack):
    """A `LiveStack` with a subscriber: what it said, whom it took out, what its references were, its last views."""

    def __init__(self, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        self.notices: list[str] = []
        self.taken_out: list[str] = []
        self.references: list[tuple[str, str]] = []
        self.views: dict[str, StackView] = {}
        self.events.subscribe(self._hear)

    def _hear(self, event: Event) -> None:
        if isinstance(event, Notice):
            self.notices.append(event.message)
        elif isinstance(event, FrameTakenOut):
            self.taken_out.append(event.member.name)
        elif isinstance(event, ReferenceChanged):
            self.references.append((event.reference.name, event.why))
        elif isinstance(event, FrameDone) and event.view is not None:
            self.views[event.view.group] = event.view
