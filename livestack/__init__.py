"""livestack: live stacking for amateur astronomers, as a program and as a library."""

from __future__ import annotations

from livestack.frame import Frame, FrameInfo, FrameKind
from livestack.library import read_frames
from livestack.pipeline import LiveStack, Outcome, Result
from livestack.settings import Settings
from livestack.version import NUMBER

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
