"""The pipeline: one frame in, one outcome out.

    frame -> calibrate, measure sky, find stars      (`prepare.prepare`: knows this frame alone)
          -> which target, which filter              (`LiveStack._group_of`)
          -> register, judge, normalise, stack       (`group.GroupStack.offer`)
          -> outcome

`LiveStack` is also the library's door: no files are written, there is no clock and no thread of its own here (kernels
share their rows among a few workers). Same frames in the same order give the same result, bit for bit.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

import numpy as np

from livestack.base.errors import FrameError, MasterError, NothingStacked, UnreadableFrame, UsageError
from livestack.base.frame import Frame, FrameInfo, with_bayer
from livestack.base.resources import thread_count
from livestack.base.settings import Settings
from livestack.calibration.calibrate import MatchedMasters
from livestack.engine.group import GroupStack
from livestack.engine.ledger import Member, Outcome
from livestack.engine.prepare import Prepared, prepare, prepare_pixels
from livestack.engine.reference import Reference
from livestack.formats import read_frame
from livestack.kernels.bands import Bands
from livestack.picture.composite import Composite, Part, plan_composite
from livestack.quality import refuse
from livestack.stacking.accumulators import RejectedSamples, Stack
from livestack.stacking.canvas import Canvas

if TYPE_CHECKING:
    from livestack.calibration.masters import MasterLibrary


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


def slug(text: str) -> str:
    """A folder name that every file system accepts: "M 27" -> "m-27", "Hα" -> "ha"."""
    greek = text.replace("α", "a").replace("β", "b").replace("γ", "g")
    plain = unicodedata.normalize("NFKD", greek).encode("ascii", "ignore").decode()
    return re.sub(r"[^a-z0-9]+", "-", plain.lower()).strip("-")


def group_name(info: FrameInfo) -> str:
    """The group that a frame belongs to by its header: object and filter, or "stack" when it names neither."""
    words = [slug(part) for part in (info.object_name, info.filter_name) if part]
    return "-".join(word for word in words if word) or "stack"


def _same_object(group: GroupStack, info: FrameInfo) -> bool:
    """Whether the header of a frame names the target of a group; also when neither names one."""
    return group.reference is not None and (group.reference.info.object_name or "") == (info.object_name or "")


def _difference(outcome: Outcome) -> str:
    """What sets a frame apart from its group, as the middle of a sentence."""
    return "has another size" if outcome.reason == "wrong_size" else "shows another field"


class LiveStack:
    """Stacks frames as they come.

    Parameters
    ----------
    settings : everything.
    masters : library of master frames, or None.
    bands : threads for the kernels; default all cores, at most eight.
    on_reference : told (group, reference, why) when a frame becomes a group's reference.
    keep : where the rejected samples of each frame are kept; None holds them in memory.

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
        on_reference: Callable[[str, Reference, str], None] | None = None,
        keep: Callable[[RejectedSamples], RejectedSamples] | None = None,
    ) -> None:
        self.settings = settings or Settings()
        self.masters = masters
        self.bands = bands or Bands(thread_count())
        self.groups: dict[str, GroupStack] = {}
        self.notices: list[str] = []
        """Sentences to be told once (missing masters ...); whoever tells them clears the list."""
        self._on_reference = on_reference
        self._keep = keep
        self._current: dict[str, str] = {}
        self.n_refused_elsewhere = 0
        """Frames refused before it was known where they belong (files that could not be read). Whoever reads files
        counts them; they are part of each stack's NREFUSED."""
        self.dropped: list[Member] = []
        """Members that the pipeline took out again; whoever keeps the journal writes it down and clears the list."""
        self._renew: set[str] = set()
        self._past: set[str] = set()
        self._bases: dict[str, str] = {}
        self._told: set[str] = set()
        self._matches: dict[tuple[object, ...], MatchedMasters] = {}
        self._in_hand: MatchedMasters | None = None

    @cached_property
    def _chosen(self) -> Prepared | None:
        """The frame that the user wants everything registered to."""
        path = self.settings.registration.reference
        if path is None:
            return None
        try:
            frame = self.as_told(read_frame(path))
            return prepare(frame, self._match(frame.info), self.settings, self.bands)
        except FrameError as error:
            raise UsageError(f"--reference: {error}") from error

    def __enter__(self) -> LiveStack:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """End the kernels' threads."""
        self.bands.close()

    # One frame through

    def add(self, frame: Frame) -> Outcome:
        """Carry one frame through; says what became of it, and why."""
        prepared = self.prepare(frame)
        return prepared if isinstance(prepared, Outcome) else self.add_prepared(prepared)

    def prepare(self, frame: Frame) -> Prepared | Outcome:
        """The part that needs no other frame; may run in another thread while a frame is being added."""
        frame = self.as_told(frame)
        try:
            return prepare(frame, self._match(frame.info), self.settings, self.bands)
        except MasterError as error:
            verdict = refuse("master", detail=str(error))
            info = frame.info
            return Outcome(
                frame.name, frame.path, frame.index, group_name(info), "refused", verdict.reason,
                f"{frame.name}: {verdict.message}", exposure_s=info.exposure_s, date_obs=info.date_obs,
            )  # fmt: skip

    def as_told(self, frame: Frame) -> Frame:
        """The frame with the Bayer pattern of the settings, which corrects the header's; said once."""
        told = with_bayer(frame, self.settings.calibration.bayer)
        if told is not frame:
            theirs = frame.info.bayer or "no Bayer pattern"
            said = f"the headers say {theirs}; the frames are taken for {told.info.bayer or 'mono'}, as --bayer says."
            if said not in self._told:
                self._told.add(said)
                self.notices.append(said)
        return told

    def add_prepared(self, prepared: Prepared) -> Outcome:
        """The rest: register, judge, normalise, stack. One frame at a time."""
        self._in_hand = prepared.masters
        group = self._group_of(prepared.frame)
        outcome = group.offer(prepared)
        home = self._home_of(prepared, group) if outcome.reason == "no_registration" else None
        if home is not None:
            group.forget_unmatched()
            self.notices.append(
                f"{prepared.frame.name}: shows the field of {home.grid}, not that of {group.name}; "
                f"from now on frames are stacked as {home.name}."
            )
            outcome = home.offer(prepared)
        elif outcome.new_target and group.reference is None:
            group.forget_unmatched()
            group.stand_alone()
            self.notices.append(
                f"{prepared.frame.name}: the frames of {group.name} do not fit those of the same target through other "
                "filters; they are stacked on a grid of their own and cannot be part of a colour picture."
            )
            outcome = group.offer(prepared)
        elif outcome.new_target and group.n_stacked == 1 and group.warming and not group.lends_grid:
            # The first frame was the odd one (a test shot, the mount still moving): begin anew without it.
            odd = group.members[0]
            self.dropped.append(odd)
            self.notices.append(
                f"{odd.name}: {_difference(outcome)} than the frames after it; it is taken out and {group.name} begun "
                "anew."
            )
            fresh = self._open(group.name, prepared.frame)
            fresh.n_refused = group.n_refused
            outcome = fresh.offer(prepared)
        elif outcome.new_target:
            fresh = self._open_next(prepared.frame)
            self.notices.append(
                f"{prepared.frame.name}: {_difference(outcome)} than the frames of {group.name}, as those before it; "
                f"from now on they are stacked as {fresh.name}."
            )
            group.n_refused -= 1
            outcome = fresh.offer(prepared)
        return outcome

    def _match(self, info: FrameInfo) -> MatchedMasters | None:
        if self.masters is None:
            return None
        key = (
            info.size, info.bayer, info.binning, info.gain, info.offset, info.filter_name, info.exposure_s,
            None if info.temperature_c is None else round(info.temperature_c, 1), info.camera,
        )  # fmt: skip
        if key not in self._matches:
            self._matches[key] = self.masters.match(info)
            self.notices.extend(s for s in self._matches[key].missing if s not in self._told)
            self._told.update(self._matches[key].missing)
        return self._matches[key]

    def _group_of(self, frame: Frame) -> GroupStack:
        base = self._base_of(frame)
        if base in self._renew:
            self._renew.discard(base)
            return self._open_next(frame)
        name = self._current.setdefault(base, base)
        group = self.groups.get(name)
        if group is None:
            return self._open(name, frame)
        unlike = group.reference is None and group.opened_for != (frame.channels, *frame.info.size)
        if unlike or not group.fits(frame):  # back from another binning, to a stack that was begun before?
            for other in reversed(self.groups.values()):
                begun = other.reference is not None and other.name not in self._past
                if begun and self._bases[other.name] == base and other.fits(frame):
                    self._current[base] = other.name
                    return other
        return group

    def _base_of(self, frame: Frame) -> str:
        """The group's name by the header; where a colour and a mono camera share one, they are told apart."""
        base = group_name(frame.info)
        same = self.groups.get(self._current.get(base, base))
        if same is None or same.stack is None or same.stack.shape[0] == frame.channels:
            return base
        return f"{base}-{'colour' if frame.channels == 3 else 'mono'}"

    def _home_of(self, prepared: Prepared, stranger: GroupStack) -> GroupStack | None:
        """The group of an earlier target that a frame shows which does not fit `stranger`; None when it shows none."""
        frame = prepared.frame
        base = self._base_of(frame)
        for root in reversed(self.groups.values()):
            if root.grid != root.name or root.grid == stranger.grid or not _same_object(root, frame.info):
                continue
            assert root.reference is not None
            aligned = self.settings.registration.method == "none"
            if aligned and root.reference.info.size != frame.info.size:
                continue
            if root.recognises(prepared):
                for group in reversed(self.groups.values()):
                    if group.grid == root.name and self._bases[group.name] == base:
                        self._current[base] = group.name
                        return group
                return self._open_next(frame)
        return None

    def on_grid_of(self, name: str) -> list[GroupStack]:
        """The groups that share the grid of group `name`, itself among them: one target through its filters."""
        grid = self.groups[name].grid if name in self.groups else None
        return [one for one in self.groups.values() if one.grid == grid and one.reference is not None]

    def exposure_of(self, name: str) -> dict[str, float]:
        """Accepted exposure of a group's target in s, by filter name ("" when headers name none)."""
        exposure: dict[str, float] = {}
        for one in self.on_grid_of(name):
            assert one.reference is not None
            key = one.reference.info.filter_name or ""
            exposure[key] = exposure.get(key, 0.0) + one.exposure_s
        return exposure

    def composite_of(self, name: str, trimmed: bool = False) -> Composite | None:
        """The colour picture that a group's target makes through its filters; None when it makes none (yet).

        Parameters
        ----------
        trimmed : a canvas that has grown without the margin that nothing fills yet, as `result` has it.

        Raises
        ------
        UsageError : the palette in the settings is not understood.
        """
        parts = []
        for one in self.on_grid_of(name):
            if one.stack is not None and one.reference is not None and one.n_stacked:
                filter_name = one.reference.info.filter_name or ""
                stack = one.stack.on(one.canvas) if trimmed else one.stack
                parts.append(Part(one.name, filter_name, stack, one.exposure_s, one.n_stacked))
        if len(parts) < 2:
            return None
        root = self.groups[self.groups[name].grid]
        assert root.reference is not None
        target = slug(root.reference.info.object_name or "") or "stack"
        number = root.name.removeprefix(self._bases[root.name])
        return plan_composite(target + number, parts, self.settings.render.palette)

    def _open_next(self, frame: Frame) -> GroupStack:
        """A new target under the same name: `m-27-2`, `m-27-3` ..."""
        base = self._base_of(frame)
        number = 2
        while f"{base}-{number}" in self.groups:
            number += 1
        self._current[base] = f"{base}-{number}"
        return self._open(f"{base}-{number}", frame)

    def start_new_target(self) -> None:
        """Whatever comes next begins new groups, also under a name that was there before."""
        self._renew = set(self._current)
        self._past = set(self.groups)

    def _make(self, name: str, anchor: Reference | None) -> GroupStack:
        def on_reference(reference: Reference, why: str) -> None:
            if self._on_reference is not None:
                self._on_reference(name, reference, why)

        return GroupStack(
            name, self.settings, self.bands, anchor, on_reference, self._keep, self._grids_for, self.on_grid_of
        )

    def _open(self, name: str, frame: Frame) -> GroupStack:
        self._bases[name] = self._base_of(frame)
        group = self._make(name, None)
        group.opened_for = (frame.channels, *frame.info.size)
        matched = self._in_hand
        if matched is not None:
            group.history = matched.history
            if matched.defects is not None and matched.defects.shape == (frame.info.height, frame.info.width):
                group.master_defects = matched.defects  # else repaired before the frame was made smaller
        self.groups[name] = group
        chosen = self._chosen
        if chosen is not None and group.anchor is None:
            theirs, ours = (f"{one.width} x {one.height}" for one in (chosen.frame.info, frame.info))
            if theirs == ours:
                group.adopt_reference(chosen)
            else:
                self.notices.append(
                    f"--reference: {chosen.frame.name} is {theirs}, the frames of {name} are {ours}; the first of "
                    "them is their reference."
                )
        return group

    def _grids_for(self, name: str, info: FrameInfo) -> Sequence[GroupStack]:
        """Groups of the same target through other filters (or, where headers name no target, perhaps of the same)."""
        found = [
            group
            for group in reversed(self.groups.values())
            if group.grid == group.name
            and group.name not in self._past
            and self._bases[group.name] != self._bases[name]
            and _same_object(group, info)
        ]
        return sorted(found, key=lambda group: group.reference is None or group.reference.info.size != info.size)

    # Going on after an interruption

    _NO_STATE = frozenset(
        {
            "settings", "masters", "bands", "groups", "notices", "_on_reference", "_keep", "_matches", "_chosen",
            "_in_hand",
        }
    )  # fmt: skip
    """Attributes that are given anew, or kept in another form; all others are the state."""

    def state(self) -> dict[str, Any]:
        """All that `restore` needs to go on as if nothing had been; see `GroupStack.state`."""
        own = {name: value for name, value in vars(self).items() if name not in self._NO_STATE}
        return {"own": own, "groups": {name: group.state() for name, group in self.groups.items()}}

    def restore(self, state: Mapping[str, Any]) -> list[Member]:
        """Go on from what `state` returned; the frames that a warm-up held are read again.

        Returns
        -------
        Frames that are lost, because they can be read no more while their warm-up lasted. The others of that warm-up
        begin it anew.
        """
        lost = []
        vars(self).update(state["own"])
        for name, saved in state["groups"].items():
            own = saved["own"]
            self.groups[name] = group = self._make(name, own["anchor"])
            try:
                group.restore(saved, self._fetch)
            except FrameError:
                self.groups[name] = group = self._make(name, own["anchor"])
                group.master_defects, group.history = own["master_defects"], own["history"]
                for member, _ in saved["held"]:
                    try:
                        group.offer(self._fetch(member))
                    except FrameError:
                        lost.append(member)
        return lost

    def _fetch(self, member: Member) -> Prepared:
        """Read a frame again and prepare it."""
        if member.path is None:
            raise UnreadableFrame(f"{member.name}: has no file to read it from again.")
        prepared = self.prepare(read_frame(member.path, member.index))
        if isinstance(prepared, Outcome):
            raise UnreadableFrame(prepared.message)
        return prepared

    # What has come of it

    @property
    def n_stacked(self) -> int:
        """Frames in all stacks."""
        return sum(group.n_stacked for group in self.groups.values())

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
        chosen.finish_warmup()
        stack, reference = chosen.stack, chosen.reference
        assert stack is not None
        assert reference is not None
        return self._as_result(chosen, stack, chosen.members, copy)

    def _as_result(self, group: GroupStack, stack: Stack, members: Sequence[Member], copy: bool) -> Result:
        """A stack on a group's grid, in the mode of the settings."""
        assert group.reference is not None
        grid = self.groups[group.grid].reference or group.reference
        stack = stack.on(group.canvas)

        def flat(array: np.ndarray, owned: bool = False) -> np.ndarray:
            array = array.copy() if copy and not owned else array
            return array[0] if len(array) == 1 else array

        image, variance = stack.image(), stack.variance()
        mode = self.settings.stack.mode
        if mode == "sum":
            # A rejected sample counts as what the others say: a refused trail shall not be a dark trail.
            for c in range(len(image)):
                image[c] *= stack.count[c].astype(np.float32) + stack.low[c] + stack.high[c]
        elif mode == "maximum":
            variance[:] = np.nan
        return Result(
            group.name, flat(image, True), flat(variance, True), flat(stack.weight), flat(stack.count), flat(stack.low),
            flat(stack.high), tuple(members), group.reference,
            group.n_refused + self.n_refused_elsewhere, stack.canvas, grid.name,
        )  # fmt: skip

    def windows(self, group: str, stopped: Callable[[], bool] | None = None) -> Iterator[Result]:
        """One result after the other for each window of `window_minutes`: its frames read again, stacked by themselves.

        Raises
        ------
        FrameError : a frame cannot be read any more.
        """
        chosen = self._choose(group)
        chosen.finish_warmup()
        for members in chosen.windows():
            if stopped is not None and stopped():
                return
            yield self._as_result(chosen, chosen.restack(members, self._fetch_pixels), members, False)

    def _fetch_pixels(self, member: Member) -> Prepared:
        """Read a member's file again and calibrate it."""
        if member.path is None:
            raise UnreadableFrame(f"{member.name}: has no file to read it from again; its streaming result stays.")
        frame = self.as_told(read_frame(member.path, member.index))
        return prepare_pixels(frame, self._match(frame.info), self.settings, self.bands)

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
        chosen.finish_warmup()
        if not self.settings.stack.rejects or chosen.n_stacked < 3:
            return False

        with ThreadPoolExecutor(1, thread_name_prefix="livestack-read") as reader:
            return chosen.test_again(self._fetch_pixels, reader, progress, stopped)

    def _choose(self, group: str | None) -> GroupStack:
        if group is not None:
            if group not in self.groups:
                raise UsageError(f"group {group!r}: there is none; there are {', '.join(self.groups) or 'none yet'}.")
            return self.groups[group]
        filled = [one for one in self.groups.values() if one.n_stacked]
        if not filled:
            raise NothingStacked("no frame could be stacked; the outcome of each says why.")
        return max(filled, key=lambda one: one.n_stacked)

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
            for position, member in enumerate(group.members):
                names = {member.name, str(member.path)} | ({member.path.name} if member.path else set())
                if wanted in names and member.index == index:
                    if frame is None:
                        if member.path is None:
                            raise UsageError(f"{wanted}: has no file to read it from; hand the frame over.")
                        frame = read_frame(member.path, member.index)
                    frame = self.as_told(frame)
                    group.remove(position, prepare_pixels(frame, self._match(frame.info), self.settings, self.bands))
                    return group.name
        raise UsageError(f"{wanted}: is not in a stack; the journal lists those that are.")
