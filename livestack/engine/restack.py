"""Frames read once more: the final test of each against the stack without itself, windows of time, one taken out."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import Executor
from dataclasses import replace

from livestack.base.errors import UsageError
from livestack.engine.developer import Developer
from livestack.engine.group import Group
from livestack.engine.ledger import Member
from livestack.engine.limits import stacked_fwhm_px
from livestack.engine.states import Calibrated
from livestack.engine.warmup import finish_warmup, warm_samples
from livestack.stacking.accumulators import Stack
from livestack.stacking.final_test import finalise
from livestack.stacking.robust_start import start_robustly

Fetch = Callable[[Member], Calibrated]
"""Reads a member's file again and calibrates it."""


def restack(group: Group, members: Sequence[Member], fetch: Fetch) -> Stack:
    """A stack of some members by themselves: robust start, then one after the other."""
    assert group.stack is not None
    stack, settings = group.stack.empty(), group.settings.stack
    first = 1 if settings.mode == "maximum" else settings.warmup_frames
    debayer = group.settings.calibration.debayer
    start_robustly(
        stack,
        warm_samples(group, [(m, Developer(fetch(m), debayer, keep_raw=True)) for m in members[:first]]),
        settings.rejects,
        group.bands,
    )
    for member in members[first:]:
        planes = Developer(fetch(member), debayer).whole(group.defects.known, group.bands)
        group.accumulation.put(stack, planes, member, group.limits_for(member) if settings.rejects else None)
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
    developer = Developer(calibrated, group.settings.calibration.debayer)
    planes = developer.whole(group.defects.known, group.bands)
    group.accumulation.take_out(group.members[position], planes)
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
    fresh = accumulation.stack.empty()
    accumulation.newest = None
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
            Developer(calibrated, group.settings.calibration.debayer).whole(group.defects.known, group.bands),
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
