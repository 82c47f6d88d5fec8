"""The groups of a night: which target and which filter a frame belongs to, and who shares whose grid."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import ClassVar

from livestack.base.frame import Frame, FrameInfo
from livestack.base.state import OwnState
from livestack.engine.events import Event, Notice
from livestack.engine.group import Group
from livestack.engine.intake import group_name, slug
from livestack.engine.pipeline import fits
from livestack.engine.states import Detected
from livestack.engine.target_names import spelled_alike


class Targets(OwnState):
    """All groups, by name.

    Parameters
    ----------
    make : an empty group of that name.
    set_up : told (group, first frame) when a group is opened.
    aligned : frames are said to lie on each other already: groups of another size are no candidates.
    """

    GIVEN: ClassVar[frozenset[str]] = frozenset({"groups", "_make", "_set_up", "_aligned"})

    def __init__(self, make: Callable[[str], Group], set_up: Callable[[Group, Detected], None], aligned: bool) -> None:
        self._make, self._set_up, self._aligned = make, set_up, aligned
        self.groups: dict[str, Group] = {}
        self._current: dict[str, str] = {}
        self._bases: dict[str, str] = {}
        self._renew: set[str] = set()
        self._past: set[str] = set()
        self.to_take_up: dict[tuple[str, int], str] = {}
        """Frames (file, index) that were refused before their target or size was believed; by which group."""

    def group_of(self, detected: Detected, told: list[Event]) -> Group:
        """The group that a frame belongs to by its header and size; opened where there is none.

        Parameters
        ----------
        told : what is to be said of it is appended.
        """
        frame = detected.frame
        base = self._base_of(frame)
        if base in self._renew:
            self._renew.discard(base)
            return self.open_next(detected)
        name = self._current.setdefault(base, base)
        group = self.groups.get(name)
        if group is None:
            known = self._under_another_spelling(detected)
            if known is None:
                return self.open(name, detected)
            self._current[base] = known.name
            said = f"is called {frame.info.object_name!r} in its header and shows the field of {known.name}"
            told.append(Notice(f"{frame.name}: {said}; it is stacked there."))
            group = known
        unlike = group.reference is None and group.grid.opened_for != (frame.channels, *frame.info.size)
        if unlike or not fits(group, frame):  # back from another binning, to a stack that was begun before?
            for other in reversed(self.groups.values()):
                begun = other.reference is not None and other.name not in self._past
                if begun and self._bases[other.name] == base and fits(other, frame):
                    self._current[base] = other.name
                    return other
        return group

    def _under_another_spelling(self, detected: Detected) -> Group | None:
        """The group through the same filter whose name is spelled almost as a frame's, where their stars agree."""
        info = detected.frame.info
        for group in reversed(self.groups.values()):
            its = group.reference
            if its is None or group.name in self._past or not fits(group, detected.frame):
                continue
            names = its.info.object_name, info.object_name
            filters = slug(its.info.filter_name or ""), slug(info.filter_name or "")
            alike = all(names) and filters[0] == filters[1] and spelled_alike(*names)
            if alike and group.tracker.points_at(its, detected):
                return group
        return None

    def home_of(self, detected: Detected, stranger: Group) -> Group | None:
        """The group of an earlier target that a frame shows which does not fit `stranger`; None when it shows none."""
        base = self._base_of(detected.frame)
        info = detected.frame.info
        for root in reversed(self.groups.values()):
            same = root.grid.root == root.name and root.grid.root != stranger.grid.root and _same_object(root, info)
            if not same or root.reference is None or (self._aligned and root.reference.info.size != info.size):
                continue
            if root.tracker.recognises(root.reference, detected):
                for group in reversed(self.groups.values()):
                    if group.grid.root == root.name and self._bases[group.name] == base:
                        self._current[base] = group.name
                        return group
                return self.open_next(detected)
        return None

    def open(self, name: str, detected: Detected) -> Group:
        """A new group, for a frame that is its first; replaces one of that name."""
        frame = detected.frame
        self._bases[name] = self._base_of(frame)
        self.groups[name] = group = self._make(name)
        group.grid.opened_for = (frame.channels, *frame.info.size)
        self._set_up(group, detected)
        return group

    def open_next(self, detected: Detected) -> Group:
        """A new target under the same name: `m-27-2`, `m-27-3` ..."""
        base = self._base_of(detected.frame)
        number = 2
        while f"{base}-{number}" in self.groups:
            number += 1
        self._current[base] = f"{base}-{number}"
        return self.open(f"{base}-{number}", detected)

    def take_up(self, refused_by: Group) -> None:
        """Let the frames that a group refused, and which the frame that was noted last agrees with, come once more."""
        self.to_take_up |= dict.fromkeys(refused_by.tracker.believed, refused_by.name)

    def comes_again(self, frame: Frame) -> None:
        """A frame is about to be carried through: where it is one of those, it does not count as refused any more."""
        name = self.to_take_up.pop((str(frame.path), frame.index), None)
        if name is not None and name in self.groups:
            self.groups[name].ledger.n_refused -= 1

    def start_new(self) -> None:
        """Whatever comes next begins new groups, also under a name that was there before."""
        self._renew = set(self._current)
        self._past = set(self.groups)

    def on_grid_of(self, name: str) -> list[Group]:
        """The groups that share the grid of group `name`, itself among them: one target through its filters."""
        root = self.groups[name].grid.root if name in self.groups else None
        return [one for one in self.groups.values() if one.grid.root == root and one.reference is not None]

    def siblings_of(self, name: str, info: FrameInfo) -> Sequence[Group]:
        """Groups of the same target through other filters (or, where headers name no target, perhaps of the same)."""
        found = [
            group
            for group in reversed(self.groups.values())
            if group.grid.root == group.name
            and group.name not in self._past
            and self._bases[group.name] != self._bases[name]
            and _same_object(group, info)
        ]
        return sorted(found, key=lambda group: group.reference is None or group.reference.info.size != info.size)

    def exposure_of(self, name: str) -> dict[str, float]:
        """Accepted exposure of a group's target in s, by filter name ("" when headers name none)."""
        exposure: dict[str, float] = {}
        for one in self.on_grid_of(name):
            assert one.reference is not None
            key = one.reference.info.filter_name or ""
            exposure[key] = exposure.get(key, 0.0) + one.ledger.exposure_s
        return exposure

    def number_of(self, name: str) -> str:
        """What tells the targets of one name apart: "" for the first, "-2", "-3" ..."""
        return name.removeprefix(self._bases[name])

    def _base_of(self, frame: Frame) -> str:
        """The group's name by the header; where a colour and a mono camera share one, they are told apart."""
        base = group_name(frame.info)
        same = self.groups.get(self._current.get(base, base))
        if same is None or same.stack is None or same.stack.shape[0] == frame.channels:
            return base
        return f"{base}-{'colour' if frame.channels == 3 else 'mono'}"


def _same_object(group: Group, info: FrameInfo) -> bool:
    """Whether the header of a frame names the target of a group; also when neither names one."""
    if group.reference is None:
        return False
    its, mine = group.reference.info.object_name or "", info.object_name or ""
    return its == mine or bool(its and mine and spelled_alike(its, mine))
