"""livestack: live stacking for amateur astronomers, as a program and as a library."""

from __future__ import annotations

from livestack.base.frame import Frame, FrameInfo, FrameKind
from livestack.base.settings import Settings
from livestack.base.version import NUMBER
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
