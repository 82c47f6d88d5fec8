"""The accumulators of a group and how a frame goes into them and out again, in the mode of the settings.

A stack begins with the debayered frames of the warm-up. Where it is drizzled, it is made anew at their end of the
frames' own pixels (`drizzle_from`); what was until then stays as the `filler` of what no drop has reached yet.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from livestack.base.settings import Settings
from livestack.engine.developer import Pixels
from livestack.engine.ledger import Member
from livestack.kernels.bands import Bands
from livestack.stacking import drizzle
from livestack.stacking.accumulators import Stack
from livestack.stacking.drizzle import Drop, Shot
from livestack.stacking.filling import has_holes
from livestack.stacking.noise_model import Blot, Limits, NoiseModel
from livestack.stacking.normalisation import Normalisation
from livestack.stacking.rejected_samples import Added, RejectedSamples

LOOK_EVERY = 8
"""Frames after which a stack that had holes is looked at again."""
Keep = Callable[[RejectedSamples], RejectedSamples]
"""Puts the rejected samples of a frame where they are kept."""


@dataclass(frozen=True, eq=False)
class LastFrame:
    """The newest frame as it went into the stack.

    Attributes
    ----------
    develop : makes its planes; `matrix` (3, 3) frame -> reference.
    share : its weight over the sum of weights.
    """

    develop: Callable[[], np.ndarray]
    matrix: np.ndarray
    normalisation: Normalisation
    share: float

    @cached_property
    def planes(self) -> np.ndarray:
        """(C, h, w) float32, linear ADU, in the frame's own pixels."""
        return self.develop()


class Accumulation:
    """A stack that frames are added to.

    Parameters
    ----------
    keep : where the rejected samples of each frame are kept.

    Attributes
    ----------
    stack : None until there is a reference, and again when nothing more will be stacked or shown.
    noise : of the reference's samples, fitted in the warm-up.
    drop : how frames are drizzled; None while they are interpolated.
    blot : how their stack says what a sample should be; fitted in the warm-up.
    filler : the debayered frames of the warm-up of a drizzled stack, as long as it has holes; None without any.
    newest : the frame that was added last, for whoever shows it.
    """

    def __init__(self, settings: Settings, bands: Bands, keep: Keep) -> None:
        self._settings, self._bands = settings, bands
        self.keep = keep
        self.stack: Stack | None = None
        self.noise: NoiseModel | None = None
        self.drop: Drop | None = None
        self.blot: Blot | None = None
        self.filler: Stack | None = None
        self.newest: LastFrame | None = None

    def add(
        self, member: Member, pixels: Pixels, limits: Limits | None, others: Sequence[Member],
        timings_s: dict[str, float], shown: Callable[[], np.ndarray],
    ) -> Added:  # fmt: skip
        """Add a frame; `others` are in the stack already, `limits` None takes all samples.

        Parameters
        ----------
        shown : makes the planes as the newest frame shows them.
        """
        assert self.stack is not None
        begin = time.perf_counter()
        self.newest = None
        added = self.put(self.stack, pixels, member, limits)
        total = member.weight + sum(one.weight for one in others)
        if self.filler is not None and self.stack.n_frames % LOOK_EVERY == 0:
            self.drop_filler()
        self.newest = LastFrame(shown, member.matrix, member.normalisation, member.weight / total)
        timings_s["accumulate"] = time.perf_counter() - begin
        return added

    def put(
        self, stack: Stack, pixels: Pixels, member: Member, limits: Limits | None, interpolated: bool = False
    ) -> Added:
        """Add a member to a stack on our grid; `interpolated` adds planes though our own stack is drizzled."""
        m, planes, bands = member, pixels.data, self._bands
        if self.drop is not None and not interpolated:
            return drizzle.add(stack, self.shot(member, pixels), limits, bands, self.blot)
        if self._settings.stack.mode == "maximum" and stack.n_frames:
            return stack.add_largest(planes, m.matrix, m.normalisation, bands, m.distortion)
        return stack.add(planes, m.matrix, m.normalisation, m.weight, limits, bands, m.distortion)

    def take_out(self, member: Member, pixels: Pixels) -> None:
        """Undo `add`."""
        assert self.stack is not None
        m, bands = member, self._bands
        if self.drop is not None:
            drizzle.remove(self.stack, self.shot(member, pixels), member.rejected, bands)
            return
        self.stack.remove(pixels.data, m.matrix, m.normalisation, m.weight, m.rejected, bands, m.distortion)

    def shot(self, member: Member, pixels: Pixels) -> Shot:
        """A member to be drizzled."""
        assert self.drop is not None
        m = member
        return Shot(pixels.data, self.drop, m.matrix, m.normalisation, m.weight, m.distortion, pixels.defects)

    def drizzle_from(self, drop: Drop) -> Stack:
        """From now on frames are drizzled: an empty stack for them is begun; what was before fills its holes.

        Returns
        -------
        The stack of the debayered frames.
        """
        assert self.stack is not None
        before = self.stack
        self.drop, self.filler = drop, before
        self.stack = before.empty(self._settings.stack.scale)
        return before

    def drop_filler(self) -> None:
        """Let the filler go when nothing is left for it to fill."""
        if self.filler is not None and self.stack is not None and self.stack.n_frames >= 2 and not self.has_holes:
            self.filler = None

    @property
    def has_holes(self) -> bool:
        """Some pixels hold nothing in some colour, where others beside them do."""
        assert self.stack is not None
        return any(has_holes(plane) for plane in self.stack.weight)

    def forget_pixels(self) -> None:
        """Give the memory back: nothing more will be stacked or shown."""
        self.stack = self.newest = self.filler = None
