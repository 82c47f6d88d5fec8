"""livestack: live stacking for amateur astronomers, as a program and as a library."""

from __future__ import annotations

from livestack.frame import Frame, FrameInfo, FrameKind
from livestack.settings import Settings

__version__ = "0.1.0"
__all__ = ["Frame", "FrameInfo", "FrameKind", "Settings", "__version__"]
