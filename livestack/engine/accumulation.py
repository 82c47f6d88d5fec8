"""The accumulators of a group and how a frame goes into them and out again, in the mode of the settings."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from livestack.base.settings import Settings
from livestack.engine.ledger import Member
from livestack.kernels.bands import Bands
from livestack.stacking.accumulators import Stack
from livestack.stacking.noise_model import Limits, NoiseModel
from livestack.stacking.normalisation import Normalisation
from livestack.stacking.rejected_samples import Added, RejectedSamples

Keep = Callable[[RejectedSamples], RejectedSamples]
"""Puts the rejected samples of a frame where they are kept."""


@dataclass(frozen=True, eq=False)
class LastFrame:
    """The newest frame as it went into the stack.

    Attributes
    ----------
    planes : (C, h, w) float32, linear ADU, in the frame's own pixels; `matrix` (3, 3) frame -> reference.
    share : its weight over the sum of weights.
    """

    planes: np.ndarray
    matrix: np.ndarray
    normalisation: Normalisation
    share: float


class Accumulation:
    """A stack that frames are added to.

    Parameters
    ----------
    keep : where the rejected samples of each frame are kept.

    Attributes
    ----------
    stack : None until there is a reference, and again when nothing more will be stacked or shown.
    noise : of the reference's samples, fitted in the warm-up.
    newest : the frame that was added last, for whoever shows it.
    """

    def __init__(self, settings: Settings, bands: Bands, keep: Keep) -> None:
        self._settings, self._bands = settings, bands
        self.keep = keep
        self.stack: Stack | None = None
        self.noise: NoiseModel | None = None
        self.newest: LastFrame | None = None

    def add(
        self, member: Member, planes: np.ndarray, limits: Limits | None, others: Sequence[Member],
        timings_s: dict[str, float], shown: np.ndarray,
    ) -> Added:  # fmt: skip
        """Add a frame's planes; `others` are in the stack already, `limits` None takes all samples.

        Parameters
        ----------
        shown : the planes as the newest frame shows them.
        """
        assert self.stack is not None
        begin = time.perf_counter()
        self.newest = None
        added = self.put(self.stack, planes, member, limits)
        total = member.weight + sum(one.weight for one in others)
        self.newest = LastFrame(shown, member.matrix, member.normalisation, member.weight / total)
        timings_s["accumulate"] = time.perf_counter() - begin
        return added

    def put(self, stack: Stack, planes: np.ndarray, member: Member, limits: Limits | None) -> Added:
        """Add a member's planes (C, h, w) to a stack on our grid."""
        if self._settings.stack.mode == "maximum" and stack.n_frames:
            return stack.add_largest(planes, member.matrix, member.normalisation, self._bands, member.distortion)
        return stack.add(
            planes, member.matrix, member.normalisation, member.weight, limits, self._bands, member.distortion
        )

    def take_out(self, member: Member, planes: np.ndarray) -> None:
        """Undo `add`."""
        assert self.stack is not None
        self.stack.remove(
            planes, member.matrix, member.normalisation, member.weight, member.rejected, self._bands, member.distortion
        )

    def forget_pixels(self) -> None:
        """Give the memory back: nothing more will be stacked or shown."""
        self.stack = self.newest = None
