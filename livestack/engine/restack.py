"""Frames read once more: the final test of each against the stack without itself, windows of time, one taken out."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import Executor
from dataclasses import replace

import numpy as np

from livestack.base.errors import FrameError, UsageError
from livestack.engine.choose import drop_of
from livestack.engine.developer import Developer, Pixels
from livestack.engine.events import Notice
from livestack.engine.group import Group
from livestack.engine.ledger import Member
from livestack.engine.limits import stacked_fwhm_px
from livestack.engine.states import Calibrated
from livestack.engine.warmup import begin_stack, finish_warmup
from livestack.stacking.accumulators import Stack
from livestack.stacking.drizzle import Drop, Revision, for_scatter, revise, start_from, test_again
from livestack.stacking.final_test import finalise

Fetch = Callable[[Member], Calibrated]
"""Reads a member's file again and calibrates it."""


def restack(group: Group, members: Sequence[Member], fetch: Fetch) -> Stack:
    """A stack of some members by themselves: robust start, then one after the other."""
    assert group.stack is not None
    settings = group.settings.stack
    first = 1 if settings.mode == "maximum" else settings.warmup_frames
    debayer = group.settings.calibration.interpolation
    held = [(m, Developer(fetch(m), debayer, keep_raw=True)) for m in members[:first]]
    stack = begin_stack(group, held)
    for member in members[first:]:
        pixels = group.pixels(Developer(fetch(member), debayer))
        group.accumulation.put(stack, pixels, member, group.limits_for(member) if settings.rejects else None)
    return stack


def take_out(group: Group, position: int, calibrated: Calibrated) -> None:
    """Take the member at `position` out of the stack again; `calibrated` is its frame, read anew.

    Raises
    ------
    UsageError : the stack has forgotten the other samples.
    """
    if group.settings.stack.mode == "maximum":
        raise UsageError(
            f"{group.members[position].name}: is in a stack of largest samples, which forgets the others; stack the "
            "remaining frames anew."
        )
    finish_warmup(group)
    developer = Developer(calibrated, group.settings.calibration.interpolation)
    group.accumulation.take_out(group.members[position], group.pixels(developer))
    del group.members[position]


def test_anew(
    group: Group, fetch: Fetch, reader: Executor, progress: Callable[[int, int], None] | None,
    stopped: Callable[[], bool] | None,
) -> bool:  # fmt: skip
    """Test every member against the finished stack without itself; replace the stack when all were tested.

    `reader` runs `fetch` one frame ahead.

    Returns
    -------
    False when it was stopped; the stack is as it was.
    """
    accumulation, members = group.accumulation, group.members
    assert accumulation.stack is not None
    accumulation.newest = None
    if accumulation.drop is None and (drop := _drizzled_after_all(group)) is not None:
        return _drizzle_anew(group, drop, fetch, reader, progress, stopped)
    if accumulation.drop is not None:
        return _test_drizzled(group, fetch, reader, progress, stopped)
    fresh = accumulation.stack.empty()
    tested = []
    width = stacked_fwhm_px(members)
    ahead = reader.submit(fetch, members[0])
    for number, member in enumerate(members):
        if stopped is not None and stopped():
            ahead.cancel()
            return False
        calibrated = ahead.result()
        if number + 1 < len(members):
            ahead = reader.submit(fetch, members[number + 1])
        added = finalise(
            accumulation.stack,
            fresh,
            Developer(calibrated, group.settings.calibration.interpolation).whole(group.defects.known, group.bands),
            member.matrix,
            member.normalisation,
            member.weight,
            group.limits_for(member, width),
            member.rejected,
            group.bands,
            member.distortion,
        )
        del calibrated
        kept = accumulation.keep(added.rejected)
        tested.append(replace(member, rejected=kept, rejected_fraction=added.rejected_fraction))
        if progress is not None:
            progress(number + 1, len(members))
    accumulation.stack = fresh
    group.ledger.members = tested
    return True


def _test_drizzled(
    group: Group, fetch: Fetch, reader: Executor, progress: Callable[[int, int], None] | None,
    stopped: Callable[[], bool] | None,
) -> bool:  # fmt: skip
    """As `test_anew`: nothing of the stack changes before all frames were tested, and then only what must."""
    accumulation, members = group.accumulation, group.members
    stack = accumulation.stack
    assert stack is not None
    revisions: list[Revision] = []
    tested: list[Member] = []
    width, debayer = stacked_fwhm_px(members), group.settings.calibration.interpolation
    ahead = reader.submit(fetch, members[0])
    for number, member in enumerate(members):
        if stopped is not None and stopped():
            ahead.cancel()
            return False
        pixels = group.pixels(Developer(ahead.result(), debayer))
        if number + 1 < len(members):
            ahead = reader.submit(fetch, members[number + 1])
        shot, limits = accumulation.shot(member, pixels), group.limits_for(member, width)
        added, revision = test_again(stack, shot, limits, member.rejected, group.bands, accumulation.blot)
        revisions.append(revision)
        kept = accumulation.keep(added.rejected)
        tested.append(replace(member, rejected=kept, rejected_fraction=added.rejected_fraction))
        if progress is not None:
            progress(number + 1, len(members))
    stack.low[:], stack.high[:] = 0, 0
    for member, revision in zip(tested, revisions, strict=True):
        shot = accumulation.shot(member, Pixels(np.empty(0, np.float32)))
        revise(stack, shot, revision, member.rejected)
    group.ledger.members = tested
    accumulation.drop_filler()
    return True


def _drizzled_after_all(group: Group) -> Drop | None:
    """How the frames are to be drizzled where all of them speak for it and the first did not."""
    info = group.members[0].info
    if group.settings.calibration.debayer != "auto" or info.bayer is None:
        return None
    drop, why = drop_of(group, group.members, info.bayer)
    if drop is not None and why is not None:
        group.events.publish(Notice(f"After all frames, {why}"))
    return drop


def _drizzle_anew(
    group: Group, drop: Drop, fetch: Fetch, reader: Executor, progress: Callable[[int, int], None] | None,
    stopped: Callable[[], bool] | None,
) -> bool:  # fmt: skip
    """Drizzle all frames of a stack that was interpolated, each tested against that."""
    accumulation, members = group.accumulation, group.members
    before, noise = accumulation.stack, accumulation.noise
    assert before is not None
    stack, tested = before.empty(), []
    width, debayer = stacked_fwhm_px(members), group.settings.calibration.interpolation
    accumulation.drop = drop
    ahead = reader.submit(fetch, members[0])
    for number, member in enumerate(members):
        if stopped is not None and stopped():
            ahead.cancel()
            accumulation.drop = None
            return False
        try:
            pixels = group.pixels(Developer(ahead.result(), debayer))
        except FrameError:
            accumulation.drop = None
            raise
        if number + 1 < len(members):
            ahead = reader.submit(fetch, members[number + 1])
        limits = group.limits_for(member, width)
        of_planes = limits if noise is None else for_scatter(limits, noise.floor)
        added = start_from(before, stack, accumulation.shot(member, pixels), of_planes, group.bands)
        kept = accumulation.keep(added.rejected)
        tested.append(replace(member, rejected=kept, rejected_fraction=added.rejected_fraction))
        if progress is not None:
            progress(number + 1, len(members))
    accumulation.stack, accumulation.filler = stack, before
    group.ledger.members = tested
    accumulation.drop_filler()
    return True
