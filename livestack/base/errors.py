"""Every error that livestack raises on purpose: one small tree.

The text of an error is one sentence for the person at the telescope: who (the file, the option, the master), what was
found, what was expected, and what to do about it. Clouds, trailing and the like are not errors: they are a `Verdict`.
"""

from __future__ import annotations


class LivestackError(Exception):
    """Base of the tree; whatever is raised on purpose derives from it."""

    reason = "error"
    """Machine-readable reason, the same word that the journal writes."""


class FrameError(LivestackError):
    """A file cannot be used as a frame. The session refuses the file and goes on."""

    reason = "unreadable"


class UnreadableFrame(FrameError):
    """The file is no image that we know, or its content contradicts itself."""


class TruncatedFrame(FrameError):
    """The file is shorter than it declares: still being written, or broken off."""

    reason = "truncated"


class VanishedFrame(FrameError):
    """The file was seen and is gone."""

    reason = "vanished"


class MasterError(LivestackError):
    """A master cannot be built, or does not fit the frame it is asked to calibrate."""

    reason = "master"


class NothingStacked(LivestackError):
    """No frame could be stacked (exit status 1)."""

    reason = "nothing_stacked"


class UsageError(LivestackError):
    """Wrong words on the command line, or settings that contradict each other (exit status 2)."""

    reason = "usage"


class SessionError(LivestackError):
    """The session cannot go on: disk full, output not writable (exit status 3). Its state is kept."""

    reason = "session"
