"""The library's door: frames in, outcomes and stacks out.

No files are written, there is no clock and no thread of its own here (kernels share their rows among a few workers).
The way of a frame is in `pipeline`, which group it takes in `routing`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

from livestack.base.errors import FrameError, NothingStacked, UsageError
from livestack.base.frame import Frame, same_exposure
from livestack.base.resources import thread_count
from livestack.base.settings import Settings
from livestack.engine.accumulation import Keep
from livestack.engine.events import Alert, Event, Events, FrameDone, FrameRefused, FrameStacked, FrameTakenOut, Notice
from livestack.engine.group import Group
from livestack.engine.intake import Intake
from livestack.engine.ledger import Member
from livestack.engine.pipeline import adopt_reference, carry
from livestack.engine.restack import restack, take_out, test_anew
from livestack.engine.results import Result, as_result
from livestack.engine.routing import route
from livestack.engine.separate import ROUNDS, keep_following, separate, take_out_of_both
from livestack.engine.states import Detected, Outcome, Stacked
from livestack.engine.targets import Targets
from livestack.engine.views import StackView
from livestack.engine.warmup import finish_warmup
from livestack.kernels.bands import Bands

if TYPE_CHECKING:
    from livestack.calibration.masters import MasterLibrary


class LiveStack:
    """Stacks frames as they come. It has more public members than other classes: it is all that a program needs.

    Parameters
    ----------
    settings : everything.
    masters : library of master frames, or None.
    bands : threads for the kernels; default all cores, at most eight.
    keep : where the rejected samples of each frame are kept; None holds them in memory.

    Attributes
    ----------
    events : what happens is told here; see `engine.events`.
    intake : makes frames ready; `targets` knows all groups.
    n_refused_elsewhere : frames refused before it was known where they belong (files that could not be read). Whoever
        reads files counts them; they are part of each stack's NREFUSED.

    Examples
    --------
    >>> stack = LiveStack(Settings())
    >>> for frame in read_frames("night/"):       # doctest: +SKIP
    ...     outcome = stack.add(frame)
    >>> result = stack.result()                   # doctest: +SKIP
    """

    def __init__(
        self,
        settings: Settings | None = None,
        masters: MasterLibrary | None = None,
        bands: Bands | None = None,
        keep: Keep | None = None,
    ) -> None:
        self.settings = settings or Settings()
        self.bands = bands or Bands(thread_count())
        self.events = Events()
        self._keep = keep or (lambda rejected: rejected)
        self._to_tell: list[Event] = []
        self.intake = Intake(self.settings, masters, self.bands, lambda said: self._to_tell.append(Notice(said)))
        self.targets = Targets(self._make, self._set_up, self.settings.registration.method == "none")
        self.n_refused_elsewhere = 0

    def __enter__(self) -> LiveStack:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """End the kernels' threads."""
        self.bands.close()

    @property
    def groups(self) -> dict[str, Group]:
        """All groups by name; to be looked at."""
        return self.targets.groups

    @property
    def n_stacked(self) -> int:
        """Frames in all stacks."""
        return sum(group.n_stacked for group in self.groups.values())

    # Frames

    def add(self, frame: Frame) -> Outcome:
        """Carry one frame through; says what became of it, and why."""
        return self.add_prepared(self.prepare(frame))

    def prepare(self, frame: Frame) -> Detected | Outcome:
        """The part that needs no other frame; may run in another thread while a frame is being added."""
        return self.intake.prepare(frame)

    def add_prepared(self, prepared: Detected | Outcome) -> Outcome:
        """The rest, for what `prepare` returned: register, judge, normalise, stack. One frame at a time."""
        told = self._to_tell
        stacked_in: Group | None = None
        if isinstance(prepared, Outcome):
            outcome = prepared
        else:
            self.targets.comes_again(prepared.frame)
            group, went = route(self.targets, prepared, told)
            outcome, stacked_in = went.outcome, group if isinstance(went, Stacked) else None
            if stacked_in is not None:
                self._tell_exposures(stacked_in)
            followed = keep_following(group, self.intake.calibrate_again) if isinstance(went, Stacked) else None
            if followed is not None:
                told.append(Notice(followed))
        view = StackView.of(stacked_in) if stacked_in is not None else None
        self.events.publish(FrameRefused(outcome) if stacked_in is None else FrameStacked(outcome))
        said = [told.pop(0) for _ in range(len(told))]  # the thread that prepares may append meanwhile
        said.sort(key=lambda event: isinstance(event, Notice))  # frames that were taken out before words
        for event in (*said, *map(Alert, outcome.warnings), FrameDone(outcome, view)):
            self.events.publish(event)
        return outcome

    def _tell_exposures(self, group: Group) -> None:
        """Say that the frame stacked last was exposed otherwise than those before it."""
        *earlier, newest = (member.info.exposure_s for member in group.members[-2:])
        if newest is None or newest in earlier:
            return
        known = {member.info.exposure_s for member in group.members[:-1]}
        if newest in known:
            return
        other = next((t for t in known if t is not None and not same_exposure(t, newest)), None)
        if other is not None:
            self.intake.tell(
                f"{group.name}: {min(other, newest):g} s and {max(other, newest):g} s exposures are stacked together, "
                "brought to one brightness, each counts by its noise; darks are chosen by exposure."
            )

    def remove(self, file: str | Path, index: int = 0, frame: Frame | None = None) -> str:
        """Take a stacked frame out again, as if it had never come.

        Parameters
        ----------
        file : its path or name; it is read again, unless `frame` brings its pixels.

        Returns
        -------
        The group it was taken out of.

        Raises
        ------
        UsageError : no such frame is in a stack.
        FrameError : the file cannot be read any more.
        """
        wanted = str(file)
        for group in self.groups.values():
            position = group.ledger.find(wanted, index)
            if position is None:
                continue
            member = group.members[position]
            if frame is None and member.path is None:
                raise UsageError(f"{wanted}: has no file to read it from; hand the frame over.")
            if group.following.active:
                take_out_of_both(group, position, self.intake.calibrate_again)
            else:
                calibrated = self.intake.calibrate_again(member) if frame is None else self.intake.calibrate(frame)
                take_out(group, position, calibrated)
            self.events.publish(FrameTakenOut(member, group.name, f"{wanted} was taken out of the stack."))
            return group.name
        raise UsageError(f"{wanted}: is not in a stack; the journal lists those that are.")

    def start_new_target(self) -> None:
        """Whatever comes next begins new groups, also under a name that was there before."""
        self.targets.start_new()

    # What has come of it

    def result(self, group: str | None = None, copy: bool = True) -> Result:
        """The stack as it stands; ends a warm-up that is under way.

        Parameters
        ----------
        group : its name; None takes the only one, or the one with the most frames.
        copy : False shares weights and counts with the live stack: for who is done with them before the next frame.

        Raises
        ------
        NothingStacked : no frame was stacked.
        UsageError : there is no such group.
        """
        chosen = self._choose(group)
        finish_warmup(chosen)
        assert chosen.stack is not None
        n_refused = chosen.ledger.n_refused + self.n_refused_elsewhere
        return as_result(self.targets, chosen, chosen.stack, chosen.members, n_refused, copy)

    def follow(self, group: str, x: float, y: float, velocity: tuple[float, float] | None = None) -> None:
        """From now on stack what is at that place of a group's reference, in pixels, on itself, too.

        Parameters
        ----------
        velocity : px/min along x and y of the reference, where it is known how it moves.

        Raises
        ------
        UsageError : there is no such group.
        """
        self._choose(group).following.follow(x, y, velocity)

    def object_result(self, group: str) -> Result | None:
        """The stack of the object that a group follows, at its place at the reference's time; None without one."""
        chosen = self._choose(group)
        if chosen.following.stack is None:
            return None
        n_refused = chosen.ledger.n_refused + self.n_refused_elsewhere
        return as_result(self.targets, chosen, chosen.following.stack, chosen.members, n_refused, False)

    def windows(self, group: str, stopped: Callable[[], bool] | None = None) -> Iterator[Result]:
        """One result after the other for each window of `window_minutes`: its frames read again, stacked by themselves.

        Raises
        ------
        FrameError : a frame cannot be read any more.
        """
        chosen = self._choose(group)
        finish_warmup(chosen)
        n_refused = chosen.ledger.n_refused + self.n_refused_elsewhere
        for members in chosen.ledger.windows(self.settings.stack.window_minutes):
            if stopped is not None and stopped():
                return
            stack = restack(chosen, members, self.intake.calibrate_again)
            yield as_result(self.targets, chosen, stack, members, n_refused, False)

    def final_pass(
        self, group: str, progress: Callable[[int, int], None] | None = None, stopped: Callable[[], bool] | None = None
    ) -> bool:
        """Read a group's frames once more and test each against the finished stack without itself.

        Removes what streaming could not know when the sample came. The group's stack is replaced only when all is done.

        Parameters
        ----------
        progress : told (frames done, frames in all); stopped : asked before each frame.

        Returns
        -------
        True when the stack was replaced; False when it was stopped, or there is nothing to test.

        Raises
        ------
        FrameError : a frame cannot be read any more; the stack stays what streaming made it.
        """
        chosen = self._choose(group)
        finish_warmup(chosen)
        if not self.settings.stack.rejects or chosen.n_stacked < 3:
            return False
        followed = keep_following(chosen, self.intake.calibrate_again, last=True)
        if followed is not None:
            self.events.publish(Notice(followed))
        if chosen.following.active:
            return separate(chosen, self.intake.calibrate_again, ROUNDS, progress, stopped)
        with ThreadPoolExecutor(1, thread_name_prefix="livestack-read") as reader:
            return test_anew(chosen, self.intake.calibrate_again, reader, progress, stopped)

    def _choose(self, group: str | None) -> Group:
        if group is not None:
            if group not in self.groups:
                raise UsageError(f"group {group!r}: there is none; there are {', '.join(self.groups) or 'none yet'}.")
            return self.groups[group]
        filled = [one for one in self.groups.values() if one.n_stacked]
        if not filled:
            raise NothingStacked("no frame could be stacked; the outcome of each says why.")
        return max(filled, key=lambda one: one.n_stacked)

    # Groups

    def _make(self, name: str) -> Group:
        return Group(name, self.settings, self.bands, self.targets, self.events, self._keep)

    def _set_up(self, group: Group, first: Detected) -> None:
        """What a group knows from its first frame: masters, and the reference that the user chose."""
        info, masters = first.frame.info, first.masters
        if masters is not None:
            group.history = masters.history
            alike = masters.info.size == info.size and masters.info.planes == info.planes
            if masters.defects is not None and alike:
                group.defects.by_masters = masters.defects  # else dealt with before it was made smaller or colour
        chosen = self.intake.chosen
        if chosen is None:
            return
        theirs, ours = (f"{one.width} x {one.height}" for one in (chosen.frame.info, info))
        if theirs == ours:
            adopt_reference(group, chosen)
        else:
            said = f"{chosen.frame.name} is {theirs}, the frames of {group.name} are {ours}; the first of them is"
            self._to_tell.append(Notice(f"--reference: {said} their reference."))

    # Going on after an interruption

    def state(self) -> dict[str, Any]:
        """All that `restore` needs to go on as if nothing had been; see `Group.state`."""
        intake = {"told": self.intake.told, "mosaics": self.intake.mosaics, "red_blue": self.intake.red_blue}
        own = {"n_refused_elsewhere": self.n_refused_elsewhere, **intake}
        groups = {name: group.state() for name, group in self.groups.items()}
        return {"own": own, "targets": self.targets.state(), "groups": groups}

    def restore(self, state: Mapping[str, Any]) -> list[Member]:
        """Go on from what `state` returned; the frames that a warm-up held are read again.

        Returns
        -------
        Frames that are lost, because they can be read no more while their warm-up lasted. The others of that warm-up
        begin it anew.
        """
        lost = []
        self.n_refused_elsewhere, self.intake.told = state["own"]["n_refused_elsewhere"], state["own"]["told"]
        self.intake.mosaics = state["own"].get("mosaics", {})
        self.intake.red_blue = state["own"].get("red_blue", {})
        self.targets.restore(state["targets"])
        for name, saved in state["groups"].items():
            self.groups[name] = group = self._make(name)
            try:
                group.restore(saved, self.intake.prepare_again)
            except FrameError:
                self.groups[name] = group = self._make(name)
                group.grid.anchor = saved["grid"]["anchor"]
                group.defects.by_masters, group.history = saved["defects"]["by_masters"], saved["history"]
                for member, _ in saved["warmup"]["held"]:
                    try:
                        carry(group, self.intake.prepare_again(member))
                    except FrameError:
                        lost.append(member)
        return lost
