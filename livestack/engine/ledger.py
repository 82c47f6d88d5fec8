"""The ledger of a group: which frames are in its stack, what is remembered of each, and how many were refused."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from livestack.base.frame import FrameInfo
from livestack.base.state import OwnState
from livestack.registration.distortion import Distortion
from livestack.stacking.normalisation import Normalisation
from livestack.stacking.rejected_samples import RejectedSamples


@dataclass(frozen=True, eq=False)
class Member:
    """A stacked frame as the group remembers it: enough to take it out again, or to test it anew.

    Attributes
    ----------
    matrix, distortion : frame -> reference; `normalisation` to its scale.
    noise : (C,) of the frame's pixels, ADU.
    rejected : which of its samples were refused.
    """

    name: str
    path: Path | None
    index: int
    info: FrameInfo
    matrix: np.ndarray
    normalisation: Normalisation
    weight: float
    noise: np.ndarray
    fwhm_px: float | None
    rms_px: float | None
    rejected: RejectedSamples
    rejected_fraction: float = 0.0
    distortion: Distortion | None = None

    def is_called(self, name: str) -> bool:
        """True when `name` is its name, its path, or its file's name."""
        return name in {self.name, str(self.path)} or (self.path is not None and name == self.path.name)


class Ledger(OwnState):
    """The members of one stack, in the order in which they came.

    Attributes
    ----------
    n_refused : frames of this group that are not in it.
    """

    def __init__(self) -> None:
        self.members: list[Member] = []
        self.n_refused = 0
        self._names: dict[int, str] = {}

    @property
    def exposure_s(self) -> float:
        """Accepted exposure in all."""
        return sum(member.info.exposure_s or 0.0 for member in self.members)

    def twin_of(self, fingerprint: int) -> str | None:
        """Name of the frame that was taken before with the very same pixels."""
        return self._names.get(fingerprint)

    def enter(self, member: Member, fingerprint: int) -> None:
        """One more frame is in the stack."""
        self.members.append(member)
        self._names[fingerprint] = member.name

    def find(self, name: str, index: int) -> int | None:
        """Position of the member of that name, or None."""
        for position, member in enumerate(self.members):
            if member.index == index and member.is_called(name):
                return position
        return None

    def windows(self, minutes: float | None) -> list[list[Member]]:
        """The members by time of exposure, in windows of so many minutes from the first one; none is empty."""
        dated = sorted((m.info.date_obs, n) for n, m in enumerate(self.members) if m.info.date_obs is not None)
        if minutes is None or not dated:
            return []
        found: dict[int, list[Member]] = {}
        for moment, n in dated:
            number = int((moment - dated[0][0]).total_seconds() // (60 * minutes))
            found.setdefault(number, []).append(self.members[n])
        return list(found.values())
