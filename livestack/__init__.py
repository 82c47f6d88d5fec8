"""livestack: live stacking for amateur astronomers, as a program and as a library.

What a program needs is named here and loaded when it is first asked for, so that `import livestack` costs next to
nothing.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from livestack.base.version import NUMBER

if TYPE_CHECKING:
    from livestack.base.frame import Frame, FrameInfo, FrameKind
    from livestack.base.settings import Settings
    from livestack.engine.live_stack import LiveStack
    from livestack.engine.results import Result
    from livestack.engine.states import Outcome
    from livestack.formats.sequence import read_frames

__version__ = NUMBER
__all__ = [
    "Frame",
    "FrameInfo",
    "FrameKind",
    "LiveStack",
    "Outcome",
    "Result",
    "Settings",
    "__version__",
    "read_frames",
]
_HOMES = {
    "Frame": "base.frame",
    "FrameInfo": "base.frame",
    "FrameKind": "base.frame",
    "LiveStack": "engine.live_stack",
    "Outcome": "engine.states",
    "Result": "engine.results",
    "Settings": "base.settings",
    "read_frames": "formats.sequence",
}


def __getattr__(name: str) -> Any:
    """Load a public name from where it lives."""
    if name not in _HOMES:
        raise AttributeError(f"module 'livestack' has no attribute {name!r}")
    return getattr(import_module(f"livestack.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return sorted(__all__)
