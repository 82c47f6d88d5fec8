"""What may be seen of a stack by those who must not change it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime

import numpy as np

from livestack.base.choices import Moving
from livestack.engine.accumulation import LastFrame
from livestack.engine.group import Group
from livestack.engine.reference import Reference
from livestack.following.two_skies import Model, moved, paint
from livestack.kernels.bands import Bands
from livestack.picture import Small, shrink, shrink_stack
from livestack.stacking.accumulators import Stack
from livestack.stacking.canvas import Canvas
from livestack.stacking.filling import fill_holes


@dataclass(frozen=True, eq=False)
class StackView:
    """The stack of a group as it stood at an event.

    While the next frame is being added, `image` and `shrunk` may show a row of it beside one of the old: harmless in a
    picture. Who needs exact pixels takes them before returning from `FrameDone`.

    Attributes
    ----------
    n_stacked : frames in it.
    reference : what they were registered to.
    newest : the frame that was added last, None where it was let go; `newest_at` when it began.
    moving : light of the object that is followed, where it is now; pictures show it among the stars.
    has_object : an object is followed, and has a stack of its own.
    """

    group: str
    _stack: Stack
    n_stacked: int = 0
    reference: Reference | None = None
    newest: LastFrame | None = None
    newest_at: datetime | None = None
    moving: Model | None = None
    _object: Stack | None = None
    _gone: np.ndarray | None = None
    _filler: Stack | None = None

    @staticmethod
    def of(group: Group, with_newest: bool = True) -> StackView | None:
        """The view of a group; None while it has no stack. With its newest frame, which the group then lets go."""
        stack = group.stack  # once: other threads ask, too
        if stack is None:
            return None
        newest = None
        if with_newest:
            newest, group.accumulation.newest = group.accumulation.newest, None
        last = group.members[-1] if group.members else None
        newest_at = last.info.date_obs if last is not None else None
        moving = group.following.light_at(last) if last is not None else None
        gone = group.following.gone_by(last) if last is not None else None
        object_stack = group.following.stack if gone is not None else None
        known = group.name, stack, group.n_stacked, group.reference, newest, newest_at
        return StackView(*known, moving, object_stack, gone, group.accumulation.filler)

    @property
    def has_object(self) -> bool:
        """See above."""
        return self._object is not None

    def showing(self, which: Moving) -> StackView:
        """The same view with the object among the stars, without it, or of the object's stack alone."""
        if which == "both" or self._object is None or self._gone is None:
            return self
        if which == "stars":
            return replace(self, moving=None)
        newest = self.newest
        if newest is not None:
            newest = replace(newest, matrix=moved(newest.matrix, None, self._gone)[0])
        return replace(self, _stack=self._object, newest=newest, moving=None, _filler=None)

    @property
    def shape(self) -> tuple[int, int, int]:
        """(C, H, W)."""
        return self._stack.shape

    @property
    def n_frames(self) -> int:
        """Frames in it at this moment."""
        return self._stack.n_frames

    @property
    def canvas(self) -> Canvas:
        """Where the pixels lie on the reference's grid."""
        return self._stack.canvas

    @property
    def bottom_up(self) -> bool:
        """The upright picture begins with the last row."""
        return bool(self.reference and self.reference.info.bottom_up)

    @property
    def terraces(self) -> np.ndarray | None:
        """What `picture.measure_look` wants to know of the sky."""
        return self.reference.terraces if self.reference is not None else None

    def image(self, rows: slice = slice(None), columns: slice = slice(None)) -> np.ndarray:
        """(C, h, w) float32, ADU, NaN where nothing was stacked; a copy."""
        return self._stack.image(rows, columns)

    def seen(self, rows: slice, columns: slice) -> np.ndarray:
        """As `image`, with the light of what moves, and holes between drops filled: for looking at."""
        image = self.image(rows, columns)
        y, x = rows.indices(self.shape[1])[0], columns.indices(self.shape[2])[0]
        if self._filler is not None:
            fill_holes(image, self.canvas, self._filler, x, y)
        if self.moving is not None:
            here = replace(self.canvas, left=self.canvas.left + x, top=self.canvas.top + y)
            paint(image, here, self.moving)
        return image

    def arrays(self) -> dict[str, np.ndarray]:
        """The accumulators by name, (C, H, W), read-only; see `stacking.accumulators`."""
        found = {}
        for name, array in self._stack.arrays().items():
            found[name] = view = array.view()
            view.flags.writeable = False
        return found

    def shrunk(self, longest_side: int, bands: Bands) -> Small:
        """The image at the size of a screen, without a full-size copy of it."""
        if self._filler is not None and max(self.shape[1:]) <= longest_side:
            image = self.image()
            fill_holes(image, self.canvas, self._filler)
            small = shrink(image, longest_side, bands)
        else:  # of many drops in each pixel that is drawn, some landed
            small = shrink_stack(self._stack.mean, self._stack.weight, self._stack.origin, longest_side, bands)
        if self.moving is not None:
            paint(small.planes, self.canvas, self.moving, small.scale)
        return small
