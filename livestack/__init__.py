"""livestack: live stacking for amateur astronomers, as a program and as a library."""

from __future__ import annotations

from livestack.frame import Frame, FrameInfo, FrameKind
from livestack.settings import Settings
from livestack.version import NUMBER

__version__ = NUMBER
__all__ = ["Frame", "FrameInfo", "FrameKind", "Settings", "__version__"]
