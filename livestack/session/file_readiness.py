"""When a file is ready: from one that was seen to a file that is whole, or to the reason why it never became one.

A file is whole when its size and time of modification held still over two looks *and* its content is complete. Until
then it is looked at again, less and less often, for at most the settle timeout. What was handed out, or refused, is
known from then on by path, size and time: any change makes it another file. Where files come from is the watcher's.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Set
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from livestack.base.errors import FrameError, TruncatedFrame, UnreadableFrame, VanishedFrame
from livestack.base.folder import FileKey, look_at, say_name
from livestack.base.settings import IngestSettings
from livestack.formats import SUFFIXES

PICTURES = frozenset({".jpg", ".jpeg", ".png", ".tif", ".tiff"})
_ORIGINALS = sorted(SUFFIXES - PICTURES - {".ser"})


class CompanionPicture(FrameError):
    """A picture that the camera wrote beside the frame itself; the same exposure twice."""

    reason = "duplicate"


@dataclass(frozen=True)
class Arrival:
    """A whole frame file."""

    path: Path
    key: FileKey


@dataclass(frozen=True)
class Refusal:
    """A file that never became a whole frame, or is gone; it is taken up again if it changes."""

    path: Path
    reason: str
    """As in `base.errors`: truncated, unreadable, vanished; or duplicate."""
    message: str
    key: FileKey | None = None
    """The state that was refused; None when it was gone."""


@dataclass
class Candidate:
    """A file that is being looked at until it stands still and is whole."""

    path: str
    key: FileKey | None
    """Its state at the last look; None when only its name is known."""
    since: float
    """When it was first seen in this state."""
    due: float
    gone: bool = False


class FileReadiness:
    """The files that were seen and are not whole yet, and the ones that were dealt with.

    Parameters
    ----------
    settings : `look_interval_s` and `settle_timeout_s`.
    known : files that were dealt with before.
    check : raises a FrameError for a file that is not whole.
    clock : monotonic seconds.
    """

    def __init__(
        self,
        settings: IngestSettings,
        known: Set[FileKey],
        check: Callable[[Path], None],
        clock: Callable[[], float],
    ) -> None:
        self._settings = settings
        self._known = set(known)
        self._known_paths = {key.path for key in known}
        self._check = check
        self._clock = clock
        self._candidates: dict[str, Candidate] = {}
        self.active = clock()
        """When a file last came or changed."""

    def __len__(self) -> int:
        return len(self._candidates)

    def knows(self, key: FileKey) -> bool:
        """True for a file that was dealt with in this very state."""
        return key in self._known

    def remember(self, key: FileKey) -> None:
        """Deal with this file no more unless it changes."""
        self._known.add(key)
        self._known_paths.add(key.path)

    def notice(self, path: str, key: FileKey | None) -> None:
        """A file was seen in the state `key` (None: named, but not found); it waits from now on."""
        now = self._clock()
        candidate = self._candidates.get(path)
        if candidate is None:
            due = now if key is None else now + self._settings.look_interval_s
            self._candidates[path] = Candidate(path, key, now, due)
            self.active = now
        elif key is not None and candidate.key != key:
            self._change(candidate, key)

    def rename(self, old: str, new: str) -> None:
        """A file has another name now: one that waits starts anew, one that was dealt with stays so."""
        if self._candidates.pop(old, None) is None:
            with suppress(OSError):
                found = look_at(new)
                if found is not None and self.knows(FileKey(old, found.key.size, found.key.mtime_ns)):
                    self.remember(found.key)

    def look_at_due(self) -> Iterator[Arrival | Refusal]:
        """Look at those whose time has come, in the order in which they came."""
        for candidate in list(self._candidates.values()):
            if self._clock() >= candidate.due:
                yield from self._settle(candidate, last=False)

    def finish(self) -> Iterator[Arrival | Refusal]:
        """A last look at everything; what is not whole now is refused."""
        for candidate in list(self._candidates.values()):
            yield from self._settle(candidate, last=True)

    def forget_waiting(self, root: str) -> None:
        """Wait no more for what lay below `root`: the folder itself is gone."""
        for path in [path for path in self._candidates if path.startswith(root + os.sep)]:
            del self._candidates[path]

    def judge(self, path: str, key: FileKey) -> FrameError | None:
        """Why a file that stands still in the state `key` is not whole; None when it is."""
        original = find_original(path)
        if original is not None:
            return CompanionPicture(
                f"{say_name(path)}: the same exposure as {say_name(original)}, which is taken instead; "
                "keep pictures out of the folder to see this no more."
            )
        try:
            self._check(Path(path))
            found = look_at(path)
        except FrameError as error:
            return error
        except OSError as failure:
            return look_error(path, failure)
        if found is None or found.key != key:
            return TruncatedFrame(f"{say_name(path)}: changed while it was being checked; taken when it is finished.")
        return None

    def arrive(self, path: str, key: FileKey) -> Arrival:
        """Hand a whole file out."""
        self.active = self._clock()
        self.remember(key)
        return Arrival(Path(path), key)

    def refuse(self, path: str, key: FileKey | None, error: FrameError) -> Refusal:
        """Give a file up until it changes."""
        self.active = self._clock()
        if isinstance(error, VanishedFrame):
            key = None
        elif key is not None:
            self.remember(key)
        return Refusal(Path(path), error.reason, str(error), key)

    def _settle(self, candidate: Candidate, last: bool) -> Iterator[Arrival | Refusal]:
        """One more look; `last`: no more waiting after it."""
        path = candidate.path
        try:
            found = look_at(path)
        except FileNotFoundError as failure:
            if candidate.key is None and _real_path(path) in self._known_paths:
                del self._candidates[path]  # a frame that we have was touched and taken away
            elif candidate.gone or last:
                yield self._give_up(candidate, look_error(path, failure))
            else:  # once more: a rename may be under way
                candidate.gone = True
                candidate.due = self._clock() + self._settings.look_interval_s
            return
        except OSError as failure:
            yield from self._wait_or_give_up(candidate, look_error(path, failure), last)
            return
        candidate.gone = False
        if found is None or self.knows(found.key):
            del self._candidates[path]
        elif found.key != candidate.key:
            self._change(candidate, found.key)
            if last:
                growing = f"{say_name(path)}: still growing when the session ended; it was not stacked."
                yield self._give_up(candidate, TruncatedFrame(growing))
        else:
            error = self.judge(path, found.key)
            if error is None:
                del self._candidates[path]
                yield self.arrive(path, found.key)
            else:
                yield from self._wait_or_give_up(candidate, error, last)

    def _wait_or_give_up(self, candidate: Candidate, error: FrameError, last: bool) -> Iterator[Refusal]:
        now, timeout = self._clock(), self._settings.settle_timeout_s
        still = now - candidate.since
        if last or still >= timeout or isinstance(error, VanishedFrame | CompanionPicture):
            yield self._give_up(candidate, error)
            return
        pause = max(self._settings.look_interval_s, still / 4)  # ever longer, as a check may decode the whole file
        candidate.due = min(now + pause, candidate.since + timeout)

    def _give_up(self, candidate: Candidate, error: FrameError) -> Refusal:
        del self._candidates[candidate.path]
        return self.refuse(candidate.path, candidate.key, error)

    def _change(self, candidate: Candidate, key: FileKey) -> None:
        self.active = candidate.since = self._clock()
        candidate.key, candidate.gone = key, False
        candidate.due = candidate.since + self._settings.look_interval_s


def find_original(path: str) -> str | None:
    """The raw or FITS file of the same name beside a picture (RAW + JPEG, preview of a smart telescope), if any."""
    stem, suffix = os.path.splitext(path)
    if suffix.lower() not in PICTURES:
        return None
    names = (stem + case for ending in _ORIGINALS for case in (ending, ending.upper()))
    return next((name for name in names if os.path.exists(name)), None)


def look_error(path: str, failure: OSError) -> FrameError:
    """What a failed look at a file means."""
    name = say_name(path)
    if isinstance(failure, FileNotFoundError | NotADirectoryError):
        return VanishedFrame(f"{name}: was seen and is gone; nothing to do unless it was removed by mistake.")
    why = failure.strerror or str(failure)
    return UnreadableFrame(f"{name}: cannot be read ({why}); check the disk and the file's permissions.")


def _real_path(path: str) -> str:
    return os.path.join(os.path.realpath(os.path.dirname(path)), os.path.basename(path))
