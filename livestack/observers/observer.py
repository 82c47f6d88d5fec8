"""What every observer is: something with a name that hears the engine's events, and may keep a state of its own.

An observer subscribes to `engine.events`. It never changes what is stacked; pixels it gets as a `StackView`; what
takes long it does in a thread of its own. What it must not lose in a crash it returns from `state`: checkpoints hold it
under its name and version, beside the stack's own, so that an observer can be added or changed without touching those.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, ClassVar, Protocol

from livestack.engine.events import Event


class Observer(Protocol):
    """Hears what happens to frames.

    Attributes
    ----------
    name, version : of its entry in checkpoints; a state of another version is not handed back.
    """

    name: ClassVar[str]
    version: ClassVar[int]

    def on_event(self, event: Event) -> None:
        """Something happened; called in the thread that stacks."""
        ...

    def state(self) -> Mapping[str, Any]:
        """What `restore` needs, as plain values and arrays; empty where there is nothing to remember."""
        ...

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go on from what `state` returned."""
        ...


STUMBLES = (ValueError, ArithmeticError, LookupError, TypeError, AttributeError, RuntimeError, MemoryError)
"""What goes wrong in an observer that is not the session's own error."""


def guarded(observer: Observer, say: Callable[[str], None]) -> Callable[[Event], None]:
    """What to subscribe for an observer that the night can do without: one that stumbles is told of and let go."""
    let_go: list[Exception] = []

    def hear(event: Event) -> None:
        if let_go:
            return
        try:
            observer.on_event(event)
        except STUMBLES as error:
            let_go.append(error)
            kind = type(error).__name__
            say(f"{observer.name}: stumbled ({kind}: {error}) and is left out from now on; stacking goes on.")

    return hear


def states_of(observers: Iterable[Observer]) -> dict[str, Any]:
    """The entries of all observers in a checkpoint: name -> (version, state)."""
    return {each.name: (each.version, dict(each.state())) for each in observers}


def restore_all(observers: Iterable[Observer], saved: Mapping[str, Any]) -> list[str]:
    """Hand each observer its entry back; what is said of those that cannot have theirs."""
    said = []
    for each in observers:
        version, state = saved.get(each.name, (each.version, None))
        if version != each.version:
            said.append(
                f"checkpoint: what {each.name} remembered is of version {version}, expected {each.version}; it begins "
                "anew."
            )
        elif state is not None:
            each.restore(state)
    return said
