"""What the engine tells: one type for each thing that can happen, in the order in which it happened.

Whoever wants to know subscribes a callable to the `Events` of a `LiveStack`; the engine knows none of them. For each
frame that is carried through come, in this order:

    ReferenceChanged, CanvasGrown     (while it is on its way, where they apply)
    FrameRegistered                   (where it is; whatever becomes of it)
    FrameStacked or FrameRefused
    FrameTakenOut                     (of other frames, where one had to go)
    Notice, Alert                     (sentences)
    FrameDone                         (nothing changes any more until the next frame comes)

Subscribers are called in the order in which they subscribed, in the thread that stacks: who has much to do takes what
it needs at `FrameDone` and works in a thread of its own.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from livestack.engine.ledger import Member
from livestack.engine.reference import Reference
from livestack.engine.states import Detected, Outcome
from livestack.registration.transform import Registration
from livestack.stacking.canvas import Canvas

if TYPE_CHECKING:
    from livestack.engine.views import StackView


@dataclass(frozen=True, eq=False)
class ReferenceChanged:
    """A frame has become the reference of a group; `why`, in words."""

    group: str
    reference: Reference
    why: str


@dataclass(frozen=True, eq=False)
class CanvasGrown:
    """The canvas that a group shares with others of its target has grown."""

    group: str
    canvas: Canvas


@dataclass(frozen=True, eq=False)
class FrameRegistered:
    """A frame lies on the reference of a group; whether it is good enough is not known yet.

    Attributes
    ----------
    detected : the frame; its pixels cannot be written, and are to be read before the call returns.
    defects : sorted flat indices of the pixels that are known to be defective by now.
    """

    group: str
    detected: Detected
    registration: Registration
    defects: np.ndarray


@dataclass(frozen=True, eq=False)
class FrameStacked:
    """A frame is in a stack."""

    outcome: Outcome


@dataclass(frozen=True, eq=False)
class FrameRefused:
    """A frame is not in a stack; the outcome says why."""

    outcome: Outcome


@dataclass(frozen=True, eq=False)
class FrameTakenOut:
    """A frame that was in the stack of a group is not any more."""

    member: Member
    group: str
    why: str


@dataclass(frozen=True)
class Notice:
    """A sentence on the stack, to be told once: masters that are missing, another target."""

    message: str


@dataclass(frozen=True)
class Alert:
    """A sentence on the night, for the person at the telescope: clouds, focus, dew."""

    message: str


@dataclass(frozen=True, eq=False)
class FrameDone:
    """Everything about a frame is told; `view` is of the stack that it is in, None where it was refused."""

    outcome: Outcome
    view: StackView | None


Event = (
    ReferenceChanged | CanvasGrown | FrameRegistered | FrameStacked | FrameRefused | FrameTakenOut | Notice | Alert
    | FrameDone
)  # fmt: skip
Subscriber = Callable[[Event], None]


class Events:
    """Passes on what happens to whoever subscribed."""

    def __init__(self) -> None:
        self._subscribers: list[Subscriber] = []

    def subscribe(self, subscriber: Subscriber) -> Callable[[], None]:
        """Let `subscriber` be called with every event from now on; what is returned ends that."""
        self._subscribers.append(subscriber)
        return lambda: self._subscribers.remove(subscriber)

    def publish(self, event: Event) -> None:
        """Call all subscribers, the first one first."""
        for subscriber in tuple(self._subscribers):
            subscriber(event)
