"""The words of the doctor: what a check says, and what a camera needs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from livestack.errors import UsageError

Verdict = Literal["ok", "warning", "problem"]
STACK_BYTES = 18
"""For each pixel and channel: weight, mean and M2 (float32), accepted and rejected counts (3 x uint16)."""
WARMUP_FRAMES = 10
WORKING_COPIES = 4
"""float32 planes of the present and the next frame while they are read, calibrated, debayered and warped."""
PROGRAM_BYTES = 500e6
"""Python with its compiled libraries."""


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
        """Memory that a session of one group needs."""
        planes = 4 * self.pixels * self.channels
        stack = STACK_BYTES * self.pixels * self.channels
        return stack + WARMUP_FRAMES * self.raw_bytes + WORKING_COPIES * planes + PROGRAM_BYTES
