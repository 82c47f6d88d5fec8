"""Frames read again for two stacks: one that stands and one that moves, each without the other's light.

First a few frames, spread over the night, are combined robustly: about the object, where the stars move through and the
median forgets them; then about the stars, without the object as it is known by then; and once more. From then on all
frames go into both.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np

from livestack.base.errors import FrameError
from livestack.engine.developer import Developer, Pixels
from livestack.engine.following import cropped
from livestack.engine.group import Group
from livestack.engine.ledger import Member
from livestack.engine.restack import Fetch
from livestack.engine.warmup import Alter, Lay, warm_samples
from livestack.stacking.accumulators import Stack
from livestack.stacking.noise_model import Limits
from livestack.stacking.rejected_samples import Added
from livestack.stacking.robust_start import start_robustly

AT_ONCE = 14
"""Frames that are combined robustly."""
ROUNDS = 2
"""How often all frames are read again at the end."""
TURNS = 2
"""How often each stack is made of them without the other."""


def separate(
    group: Group, fetch: Fetch, rounds: int, progress: Callable[[int, int], None] | None = None,
    stopped: Callable[[], bool] | None = None,
) -> bool:  # fmt: skip
    """Make both stacks of a group anew from the files of its members.

    Parameters
    ----------
    rounds : how often all frames are read, each time with what the stacks have told by then.

    Returns
    -------
    False when it was stopped; all is as it was.

    Raises
    ------
    FrameError : a frame cannot be read any more.
    """
    following = group.following
    assert following.path is not None
    before, accumulation = vars(following) | {"places": dict(following.places)}, group.accumulation
    # models of two skies are made of planes and taken off planes: from here on nothing is drizzled
    drop, accumulation.drop = accumulation.drop, None
    done = False
    try:
        done = _both_anew(group, fetch, rounds, progress, stopped)
    finally:
        if done:
            accumulation.filler = None
        else:
            vars(following).update(before)
            accumulation.drop = drop
    return done


def take_out_of_both(group: Group, position: int, fetch: Fetch) -> None:
    """Take the member at `position` out of both stacks, which are made anew of the others' files.

    Raises
    ------
    FrameError : one of them cannot be read any more; nothing is taken out.
    """
    member = group.members.pop(position)
    try:
        separate(group, fetch, 1)
    except FrameError:
        group.members.insert(position, member)
        raise


def _both_anew(
    group: Group, fetch: Fetch, rounds: int, progress: Callable[[int, int], None] | None,
    stopped: Callable[[], bool] | None,
) -> bool:  # fmt: skip
    """As `separate`; what is followed is left half done when it stops or fails."""
    following, members, reference = group.following, group.members, group.reference
    assert group.stack is not None
    assert reference is not None
    empty, fwhm = group.stack.empty, group.stars_fwhm_px
    chosen = [members[i] for i in sorted({round(i) for i in np.linspace(0, len(members) - 1, AT_ONCE)})]
    held = [(m, Developer(fetch(m), group.settings.calibration.interpolation, keep_raw=True)) for m in chosen]
    following.stars_model = following.object_model = None
    stars = empty()

    def for_object(member: Member, region: np.ndarray, y: int, x: int) -> np.ndarray:
        return following.without_stars(region, cropped(member, y, x))

    def for_stars(member: Member, region: np.ndarray, y: int, x: int) -> np.ndarray:
        return following.without_object(region, cropped(member, y, x))

    def lay(member: Member) -> Member:
        return following.on_object(member, group.field)

    def model() -> None:
        following.refresh(stars, members, fwhm, always=True)

    for _ in range(TURNS):
        following.stack = empty()
        _robustly(group, following.stack, held, for_object, lay)
        model()
        stars = empty()
        _robustly(group, stars, held, for_stars)
        model()
        for member, developer in held:
            following.measure(member, developer, reference)
        following.fit(members, reference)
    following.stack = empty()
    _robustly(group, following.stack, held, for_object, lay)
    model()
    for turn in range(rounds):
        if len(members) == len(chosen) and turn:
            break
        comet, stars = empty(), empty()
        following.used, following.used_of = following.path, len(members)
        keys = [_key(member) for member in chosen]
        of_comet = dict(zip(keys, _robustly(group, comet, held, for_object, lay), strict=True))
        of_stars = dict(zip(keys, _robustly(group, stars, held, for_stars), strict=True))
        for number, member in enumerate(members):
            if stopped is not None and stopped():
                return False
            if _key(member) not in of_stars:
                developer = Developer(fetch(member), group.settings.calibration.interpolation)
                planes = developer.whole(group.defects.known, group.bands)
                following.measure(member, developer, reference)
                parted = following.part(planes, member)
                limits = group.limits_for(member) if group.settings.stack.rejects else None
                of_stars[_key(member)] = group.accumulation.put(stars, Pixels(parted.stars), member, limits)
                of_comet[_key(member)] = group.accumulation.put(comet, Pixels(parted.object), lay(member), limits)
            if progress is not None:
                progress(turn * len(members) + number + 1, rounds * len(members))
        following.stack = comet
        if turn + 1 < rounds:
            following.fit(members, reference)
        model()
    following.rejected = {key: group.accumulation.keep(added.rejected) for key, added in of_comet.items()}
    group.accumulation.stack, group.accumulation.newest = stars, None
    group.ledger.members = [
        replace(
            m, rejected=group.accumulation.keep(of_stars[_key(m)].rejected),
            rejected_fraction=of_stars[_key(m)].rejected_fraction,
        )
        for m in members
    ]  # fmt: skip
    return True


def add_to_object(group: Group, member: Member, planes: np.ndarray, limits: Limits | None) -> None:
    """A frame without its stars into the object's stack."""
    following = group.following
    assert following.stack is not None
    lies = following.on_object(member, group.field)
    added = group.accumulation.put(following.stack, Pixels(planes), lies, limits, interpolated=True)
    following.rejected[_key(member)] = group.accumulation.keep(added.rejected)


def keep_following(group: Group, fetch: Fetch, last: bool = False) -> str | None:
    """Between two frames: look for what moves, begin to follow it, or go on; what is to be said of it.

    Parameters
    ----------
    last : there will be no other frame, and whoever asks makes both stacks anew.
    """
    following, reference = group.following, group.reference
    unfit = group.settings.stack.mode != "mean" or (reference is not None and reference.starless)
    unfit = unfit or group.settings.stack.scale != 1  # the two skies are told apart on the reference's own grid
    if following.gave_up or unfit or reference is None or group.warmup.active or group.stack is None:
        return None
    found = following.look(group.members, reference, last)
    following.fit(group.members, reference)
    if following.active:
        if not last and following.strays(group.members) and all(member.path is not None for member in group.members):
            separate(group, fetch, 1)
        following.refresh(group.stack, group.members, group.stars_fwhm_px)
        return None
    if not following.is_ready(group.members, group.stars_fwhm_px):
        return None
    assert following.path is not None
    x, y = following.path.coefficients[0]
    said = (
        f"{'Found an object that moves' if found is not None else 'Following the object'} at x {x:.0f}, y {y:.0f}: "
        f"{following.path.rate_px_min:.2f} px/min; it is stacked on itself from now on, too"
    )
    try:
        if any(member.path is None for member in group.members):
            raise FrameError("the frames so far have no files")
        if last:
            following.stack = group.stack.empty()
            return f"{said}."
        separate(group, fetch, 1)
        return f"{said}; the {len(group.members)} frames so far were read again."
    except FrameError as error:
        following.stack, following.used = group.stack.empty(), None
        following.refreshed = len(group.members)
        return f"{said}, but without the frames so far: {error}"


def _robustly(
    group: Group, stack: Stack, held: Sequence[tuple[Member, Developer]], alter: Alter, lay: Lay | None = None
) -> list[Added]:
    samples = warm_samples(group, held, alter, lay)
    return start_robustly(stack, samples, group.settings.stack.rejects, group.bands)


def _key(member: Member) -> tuple[str, int]:
    return member.name, member.index
