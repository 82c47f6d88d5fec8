"""A frame to its group: what happens when it fits none, or shows another target than the frames before it."""

from __future__ import annotations

from livestack.engine.events import Event, FrameTakenOut, Notice
from livestack.engine.group import Group
from livestack.engine.pipeline import carry
from livestack.engine.states import Detected, Refused, Stacked
from livestack.engine.targets import Targets

TAKEN_OUT = "is taken out; the frames after it are of another field or size."


def route(targets: Targets, detected: Detected, told: list[Event]) -> tuple[Group, Stacked | Refused]:
    """Carry a frame through the group that it belongs to.

    Parameters
    ----------
    told : events to be published after the frame's own are appended.
    """
    name = detected.frame.name
    group = targets.group_of(detected, told)
    went = carry(group, detected)
    if isinstance(went, Stacked):
        return group, went
    home = targets.home_of(detected, group) if went.outcome.reason == "no_registration" else None
    if home is not None:
        _forget(group)
        said = f"shows the field of {home.grid.root}, not that of {group.name}; from now on frames are stacked as"
        told.append(Notice(f"{name}: {said} {home.name}."))
        return home, carry(home, detected)
    if not went.new_target:
        return group, went
    difference = "has another size" if went.outcome.reason == "wrong_size" else "shows another field"
    targets.take_up(group)
    if group.reference is None:
        _forget(group)
        group.grid.alone = True
        told.append(
            Notice(
                f"{name}: the frames of {group.name} do not fit those of the same target through other filters; they "
                "are stacked on a grid of their own and cannot be part of a colour picture."
            )
        )
        return group, carry(group, detected)
    if group.n_stacked == 1 and group.warmup.active and not group.grid.lends:
        # The first frame was the odd one (a test shot, the mount still moving): begin anew without it.
        odd = group.members[0]
        told.append(FrameTakenOut(odd, group.name, f"{odd.name}: {TAKEN_OUT}"))
        said = f"{difference} than the frames after it; it is taken out and {group.name} begun anew."
        told.append(Notice(f"{odd.name}: {said}"))
        fresh = targets.open(group.name, detected)
        fresh.ledger.n_refused = group.ledger.n_refused
        return fresh, carry(fresh, detected)
    fresh = targets.open_next(detected)
    said = f"{difference} than the frames of {group.name}, as those before it; from now on they are stacked as"
    told.append(Notice(f"{name}: {said} {fresh.name}."))
    group.ledger.n_refused -= 1
    return fresh, carry(fresh, detected)


def _forget(group: Group) -> None:
    """The frame refused last was no frame of this group."""
    group.ledger.n_refused -= 1
    group.tracker.forget_unmatched()
