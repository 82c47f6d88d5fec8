"""The words of the doctor: what a check says, and what a camera needs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from livestack.base.errors import UsageError
from livestack.base.frame import FrameInfo
from livestack.base.resources import session_bytes
from livestack.base.settings import Settings

Verdict = Literal["ok", "warning", "problem"]


@dataclass(frozen=True)
class Check:
    """One thing that was looked at."""

    name: str
    verdict: Verdict
    found: str
    remedy: str = ""
    """What to do; empty when all is well."""


@dataclass(frozen=True)
class Camera:
    """Size of a frame in pixels, and the channels of its picture: 1 mono, 3 colour (a mosaic too)."""

    width: int
    height: int
    channels: int = 1

    @classmethod
    def parse(cls, text: str) -> Camera:
        """Read "6248x4176" or "6248x4176x3".

        Raises
        ------
        UsageError
            It is neither.
        """
        words = text.lower().replace("×", "x").split("x")
        if len(words) in (2, 3) and all(word.strip().isdecimal() and int(word) > 0 for word in words):
            camera = cls(*map(int, words))
            if camera.channels in (1, 3):
                return camera
        raise UsageError(f"--camera {text}: expected WIDTHxHEIGHT, or WIDTHxHEIGHTx3 for colour, such as 6248x4176x3.")

    @property
    def pixels(self) -> int:
        """Pixels of one frame."""
        return self.width * self.height

    @property
    def raw_bytes(self) -> int:
        """One frame as the camera writes it, 16 bit."""
        return 2 * self.pixels

    @property
    def session_bytes(self) -> float:
        """Memory that a session of one group needs, by default settings."""
        info = FrameInfo(self.width, self.height, bayer="RGGB" if self.channels == 3 else None)
        return session_bytes(info, Settings())
