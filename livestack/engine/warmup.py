"""The first frames of a group: they wait with their pixels, are judged against each other, and combined robustly.

If one of them is clearly better than the first it becomes the reference. The median and the scatter of all of them
begin the stack (`stacking`), so that a satellite in the first frame leaves nothing behind; the noise that they show
about each other is the noise model that later frames are tested with.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from livestack.base.settings import StackSettings
from livestack.engine.choose import drop_of
from livestack.engine.developer import Developer, Pixels
from livestack.engine.events import Notice
from livestack.engine.grid import make_room
from livestack.engine.hits import clean_first
from livestack.engine.ledger import Member
from livestack.engine.limits import INTERPOLATION_GAIN, stacked_fwhm_px
from livestack.engine.reference import carry_over, find_better, refine_positions, weigh_anew
from livestack.engine.states import Held
from livestack.quality import FrameMeasures, Judge
from livestack.registration import reference_registration
from livestack.stacking.accumulators import Stack
from livestack.stacking.drizzle import Shot, blurred, fit_blot, for_scatter, reconsider, revise, start_from
from livestack.stacking.rejected_samples import Added
from livestack.stacking.robust_start import WarmSample, fit_noise, start_robustly

if TYPE_CHECKING:
    from livestack.engine.group import Group


Alter = Callable[[Member, np.ndarray, int, int], np.ndarray]
Lay = Callable[[Member], Member]


class WarmUp:
    """The frames that wait.

    Attributes
    ----------
    active : it is not over yet.
    chosen : measures of a reference that the user named, which need not be among the frames.
    """

    def __init__(self, settings: StackSettings) -> None:
        self._enough = 1 if settings.mode == "maximum" else settings.warmup_frames
        self.active = True
        self.held: list[Held] = []
        self.chosen: FrameMeasures | None = None

    @property
    def is_full(self) -> bool:
        """Enough frames wait."""
        return len(self.held) >= self._enough

    def state(self) -> dict[str, Any]:
        """The frames that wait are named only: their pixels are read again."""
        held = [(one.member, one.measures) for one in self.held]
        return {"active": self.active, "chosen": self.chosen, "held": held}


def finish_warmup(group: Group) -> None:
    """Combine the frames held so far robustly and begin streaming; nothing to do when that is over."""
    warmup, accumulation = group.warmup, group.accumulation
    if not warmup.active or not warmup.held:
        return
    _choose_reference(group)
    assert group.reference is not None
    assert group.stack is not None
    warmup.held = clean_first(warmup.held, group.reference.name)
    own = next((one.measures for one in warmup.held if one.member.name == group.reference.name), warmup.chosen)
    assert own is not None
    group.judge.set_reference(own)
    if group.settings.quality.enabled:
        warmup.held = weigh_anew(warmup.held, own)
    group.reference = refine_positions(group.reference, warmup.held)
    held = [(one.member, one.developer) for one in warmup.held]
    if group.settings.stack.rejects:
        fitted = fit_noise(group.stack, warm_samples(group, held), group.bands)
        if fitted is not None:
            # the frames' floors were what interpolation leaves of their noise, as long as it was not measured
            accumulation.noise = replace(fitted, floor=fitted.floor * INTERPOLATION_GAIN)
    added = start_robustly(group.stack, warm_samples(group, held), group.settings.stack.rejects, group.bands)
    drop, why = drop_of(group, [member for member, _ in held], held[0][1].bayer)
    if why is not None:
        group.events.publish(Notice(why))
    if drop is not None:
        debayered = accumulation.drizzle_from(drop)
        added = _drizzle(group, debayered, group.stack, held)
        accumulation.drop_filler()
    group.ledger.members = [
        replace(one.member, rejected=accumulation.keep(its.rejected), rejected_fraction=its.rejected_fraction)
        for one, its in zip(warmup.held, added, strict=True)
    ]
    warmup.held.clear()
    warmup.active = False


def begin_stack(group: Group, held: Sequence[tuple[Member, Developer]]) -> Stack:
    """A stack of some frames on a group's grid by themselves, robustly combined; drizzled if the group's is."""
    assert group.stack is not None
    rejects, debayered = group.settings.stack.rejects, group.stack.empty(1.0)
    start_robustly(debayered, warm_samples(group, held), rejects, group.bands)
    if group.accumulation.drop is None:
        return debayered
    stack = group.stack.empty()
    _drizzle(group, debayered, stack, held)
    return stack


def _drizzle(group: Group, debayered: Stack, stack: Stack, held: Sequence[tuple[Member, Developer]]) -> list[Added]:
    """Each frame's own pixels tested against the robust mean of the debayered ones, and dropped on a stack."""
    accumulation, rejects = group.accumulation, group.settings.stack.rejects
    assert accumulation.drop is not None
    noise, width = accumulation.noise, stacked_fwhm_px([member for member, _ in held])

    def shots() -> Iterator[tuple[Member, Shot]]:  # one after the other: ten at once are as large as the stack
        for member, developer in held:
            yield member, accumulation.shot(member, group.pixels(developer))

    if not rejects:
        return [start_from(debayered, stack, shot, None, group.bands) for _, shot in shots()]
    added = []
    for member, shot in shots():
        limits = group.limits_for(member, width)
        of_planes = limits if noise is None else for_scatter(limits, noise.floor)
        added.append(start_from(debayered, stack, shot, of_planes, group.bands))
    # the debayered frames know stars less well than the drops do: what they have refused is tested once more by those
    if accumulation.blot is None:
        tested = ((s, group.limits_for(m, width), one.rejected) for (m, s), one in zip(shots(), added, strict=True))
        accumulation.blot = fit_blot(stack, tested, blurred(accumulation.drop, stack.canvas))
    again = []
    for (member, shot), one in zip(shots(), added, strict=True):
        limits = group.limits_for(member, width)
        again.append((member, *reconsider(stack, shot, limits, one.rejected, accumulation.blot)))
    stack.low[:], stack.high[:] = 0, 0
    for member, one, revision in again:
        shot = accumulation.shot(member, Pixels(np.empty(0, np.float32)))
        revise(stack, shot, revision, one.rejected)
    return [one for _, one, _ in again]


def warm_samples(
    group: Group, held: Sequence[tuple[Member, Developer]], alter: Alter | None = None, lay: Lay | None = None
) -> list[WarmSample]:
    """Frames as the robust start wants them.

    Parameters
    ----------
    alter : what becomes of a region that begins at (y, x) of a frame; lay : where a frame lies instead.
    """
    defects = group.defects.known
    widths = [member.fwhm_px for member, _ in held if member.fwhm_px]
    middle, stacked = float(np.median(widths)) if widths else None, stacked_fwhm_px(group.ledger.members)

    def view(member: Member, developer: Developer) -> WarmSample:
        def develop(y0: int, y1: int, x0: int, x1: int) -> np.ndarray:
            region = developer.region(y0, y1, x0, x1, defects)
            return region if alter is None else alter(member, region, y0, x0)

        lies = member if lay is None else lay(member)
        return WarmSample(
            develop,
            developer.shape,
            lies.matrix,
            lies.normalisation,
            member.weight,
            group.limits_for(member, stacked, interpolated=True),
            group.limits_for(member, middle, interpolated=True),
            lies.distortion,
        )

    return [view(member, developer) for member, developer in held]


def _choose_reference(group: Group) -> None:
    """Let a clearly better frame of the warm-up take over, unless others rely on the grid."""
    reference, warmup = group.reference, group.warmup
    assert reference is not None
    fixed = group.grid.anchor is not None or group.grid.lends or group.settings.registration.reference is not None
    if fixed or reference.patches or group.judge.reference is None:
        return
    best = find_better(warmup.held, reference, group.judge.reference)
    if best is None:
        return
    to_new = np.linalg.inv(best.member.matrix)
    itself = reference_registration(len(best.stars))
    group.set_reference(best.detected, best.developer, itself, "the best frame of the warm-up", to_new)
    assert group.reference is not None
    warmup.held = carry_over(warmup.held, best, group.reference)
    for held in warmup.held:
        make_room(group, held.member, held.developer.shape)
    group.tracker.go_on_from([held.member for held in warmup.held])
    group.following.carry(to_new)
    group.judge = Judge(group.settings.quality)
    for held in warmup.held:
        group.judge.accept(held.measures)
