"""What has come of a group: its stack as arrays and numbers, and the colour picture of a target through its filters."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from livestack.engine.grid import filled_canvas
from livestack.engine.group import Group
from livestack.engine.intake import slug
from livestack.engine.ledger import Member
from livestack.engine.reference import Reference
from livestack.engine.targets import Targets
from livestack.picture.composite import Composite, Part, plan_composite
from livestack.stacking.accumulators import Stack
from livestack.stacking.canvas import Canvas
from livestack.stacking.drizzle import Drop


@dataclass(frozen=True, eq=False)
class Result:
    """The stack of one group at this moment.

    Attributes
    ----------
    mean : (C, H, W) float32, ADU on the reference's scale, NaN where nothing was stacked; (H, W) for mono.
    variance : same shape, sample variance of one frame's sample, NaN with fewer than two.
    weight, coverage, rejected_low, rejected_high : same shape: sum of weights, accepted and rejected samples.
    members : the stacked frames; reference : what they were registered to.
    canvas : where the pixels lie on the grid; grid_frame : the frame that set it, of another filter perhaps.
    drop : how the frames were drizzled; None where they were interpolated.
    filler : the debayered frames of the warm-up, for pictures of a drizzled stack that has holes; None without any.
    """

    group: str
    mean: np.ndarray
    variance: np.ndarray
    weight: np.ndarray
    coverage: np.ndarray
    rejected_low: np.ndarray
    rejected_high: np.ndarray
    members: tuple[Member, ...]
    reference: Reference
    n_refused: int
    canvas: Canvas
    grid_frame: str
    drop: Drop | None = None
    filler: Stack | None = None

    @property
    def rejected(self) -> np.ndarray:
        """Rejected samples, low and high."""
        return self.rejected_low.astype(np.uint32) + self.rejected_high

    @property
    def header(self) -> dict[str, str | int | float]:
        """The numbers that describe the stack, by their FITS keywords."""
        exposures = [member.info.exposure_s or 0.0 for member in self.members]
        return {
            "NCOMBINE": len(self.members),
            "NREFUSED": self.n_refused,
            "EXPTIME": exposures[0] if exposures else 0.0,
            "EXPTOTAL": float(sum(exposures)),
            "REFFRAME": self.reference.name,
        }


def as_result(
    targets: Targets, group: Group, stack: Stack, members: Sequence[Member], n_refused: int, copy: bool
) -> Result:
    """A stack on a group's grid, in the mode of the settings.

    Parameters
    ----------
    copy : False shares weights and counts with `stack`: for who is done with them before the next frame.
    """
    assert group.reference is not None
    grid = targets.groups[group.grid.root].reference or group.reference
    stack = stack.on(filled_canvas(group))

    def flat(array: np.ndarray, owned: bool = False) -> np.ndarray:
        array = array.copy() if copy and not owned else array
        return array[0] if len(array) == 1 else array

    image, variance = stack.image(), stack.variance()
    mode = group.settings.stack.mode
    if mode == "sum":
        # A rejected sample counts as what the others say: a refused trail shall not be a dark trail.
        for c in range(len(image)):
            image[c] *= stack.count[c].astype(np.float32) + stack.low[c] + stack.high[c]
    elif mode == "maximum":
        variance[:] = np.nan
    return Result(
        group.name, flat(image, True), flat(variance, True), flat(stack.weight), flat(stack.count), flat(stack.low),
        flat(stack.high), tuple(members), group.reference, n_refused, stack.canvas, grid.name, group.accumulation.drop,
        group.accumulation.filler,
    )  # fmt: skip


def composite_of(targets: Targets, name: str, trimmed: bool = False) -> Composite | None:
    """The colour picture that a group's target makes through its filters; None when it makes none (yet).

    Parameters
    ----------
    trimmed : a canvas that has grown without the margin that nothing fills yet, as `Result` has it.

    Raises
    ------
    UsageError : the palette in the settings is not understood.
    """
    parts = []
    for one in targets.on_grid_of(name):
        if one.stack is not None and one.reference is not None and one.n_stacked:
            filter_name = one.reference.info.filter_name or ""
            stack = one.stack.on(filled_canvas(one)) if trimmed else one.stack
            parts.append(Part(one.name, filter_name, stack, one.ledger.exposure_s, one.n_stacked))
    # a filter that is still warming up has another scale: it comes in when it is of one size with the others
    parts = [part for part in parts if part.stack.canvas.scale == max(each.stack.canvas.scale for each in parts)]
    if len(parts) < 2:
        return None
    root = targets.groups[targets.groups[name].grid.root]
    assert root.reference is not None
    target = slug(root.reference.info.object_name or "") or "stack"
    return plan_composite(target + targets.number_of(root.name), parts, root.settings.render.palette)
