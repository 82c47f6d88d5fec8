"""State that goes into a checkpoint: all attributes of an object but those that are given to it anew."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar


class OwnState:
    """An object whose attributes are its state, but for those named in `GIVEN`, which its maker hands it each time."""

    GIVEN: ClassVar[frozenset[str]] = frozenset()

    def state(self) -> dict[str, Any]:
        """All that `restore` needs to go on as if nothing had been; the live objects, not copies."""
        return {name: value for name, value in vars(self).items() if name not in self.GIVEN}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go on from what `state` returned."""
        vars(self).update(state)
