"""The grid that a group's pixels lie on, and the canvas that it shares with the other filters of its target."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Protocol

import numpy as np

from livestack.base.frame import FrameInfo
from livestack.base.resources import canvas_pixels
from livestack.base.state import OwnState
from livestack.engine.events import CanvasGrown
from livestack.engine.ledger import Member
from livestack.engine.reference import Reference
from livestack.stacking.canvas import Canvas, footprint, in_pixels

if TYPE_CHECKING:
    from livestack.engine.group import Group


class Family(Protocol):
    """Who knows all groups of the night."""

    def on_grid_of(self, name: str) -> Sequence[Group]:
        """The groups on the grid of group `name`, itself among them: one target through its filters."""
        ...

    def siblings_of(self, name: str, info: FrameInfo) -> Sequence[Group]:
        """The groups whose grid group `name`, whose first frame has this header, may share; likeliest first."""
        ...


class GridPlace(OwnState):
    """Which grid a group is on.

    Attributes
    ----------
    root : name of the group whose reference frame is the grid: its own, or a sibling's.
    anchor : reference of that sibling; None on a grid of its own.
    lends : another group is on this one's grid, which must stay as it is.
    alone : it looks for no sibling's grid any more.
    opened_for : channels, width and height of the frame that the group was opened for.
    """

    def __init__(self, root: str) -> None:
        self.root = root
        self.anchor: Reference | None = None
        self.lends = False
        self.alone = False
        self.opened_for: tuple[int, int, int] | None = None
        self.told_full = False

    def share(self, sibling: Group) -> None:
        """From now on the grid of a group of the same target."""
        self.anchor, self.root = sibling.reference, sibling.grid.root
        sibling.grid.lends = True


def make_room(group: Group, member: Member, shape: tuple[int, int]) -> tuple[str, ...]:
    """Let the canvas grow so that it holds a frame of (height, width), if it may; what is to be said of it."""
    if group.settings.stack.canvas != "union":
        return ()
    assert group.stack is not None
    assert group.reference is not None
    now = group.stack.canvas.scaled(1.0)
    wider = now.around([footprint(member.matrix, shape[0], shape[1], member.distortion)], steps=True)
    if wider == now:
        return ()
    if wider.width * wider.height > canvas_pixels(group.reference.info, group.settings):
        said = (
            f"the canvas is full: it holds {now.width} x {now.height} pixels, and this frame would make it "
            f"{wider.width} x {wider.height}; what lies outside is left out (canvas_max and memory_limit_mb say "
            "how far it may grow)"
        )
        told, group.grid.told_full = group.grid.told_full, True
        return () if told else (said,)
    for peer in group.family.on_grid_of(group.name):
        assert peer.stack is not None
        peer.accumulation.stack = peer.stack.grown(wider.scaled(peer.stack.canvas.scale))
        if peer.following.stack is not None:
            peer.following.stack = peer.following.stack.grown(wider)
    group.events.publish(CanvasGrown(group.name, wider))
    return ()


def lands(group: Group, member: Member, shape: tuple[int, int]) -> bool:
    """Whether a frame of (height, width) has a place on the canvas."""
    assert group.stack is not None
    canvas = group.stack.canvas
    x0, y0, x1, y1 = in_pixels(footprint(member.matrix, shape[0], shape[1], member.distortion), canvas.scale)
    across = x0 < canvas.left + canvas.width and x1 > canvas.left
    return across and y0 < canvas.top + canvas.height and y1 > canvas.top


def filled_canvas(group: Group) -> Canvas:
    """The part of the canvas that holds something of the frames on this grid; the whole one unless it grows."""
    assert group.stack is not None
    whole = group.stack.canvas
    members = [member for peer in group.family.on_grid_of(group.name) for member in peer.ledger.members]
    if group.settings.stack.canvas != "union" or not members:
        return whole
    boxes = [footprint(m.matrix, m.info.height, m.info.width, m.distortion) for m in members]
    x0, y0, x1, y1 = np.array([in_pixels(box, whole.scale) for box in boxes]).T
    left, top = max(whole.left, int(x0.min())), max(whole.top, int(y0.min()))
    right, bottom = min(whole.left + whole.width, int(x1.max())), min(whole.top + whole.height, int(y1.max()))
    return replace(whole, left=left, top=top, width=right - left, height=bottom - top)
