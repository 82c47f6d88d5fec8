"""The wish to end, from whoever has it: a signal, a face, a limit in the settings."""

from __future__ import annotations

import threading


class StopRequest:
    """Whether, why and how soon a session shall end.

    Attributes
    ----------
    stopping : take no more than what is ready; aborting : end at once.
    why : the first reason that was given, which the journal tells.
    """

    def __init__(self) -> None:
        self.stopping = threading.Event()
        self.aborting = threading.Event()
        self.why: str | None = None
        self._asked = False

    def ask(self, why: str) -> None:
        """Take no more than what is ready."""
        self.why = self.why or why
        self.stopping.set()

    def signal(self) -> None:
        """First time: drain what is ready, save, end. Second time: stop at once."""
        if self._asked:
            self.aborting.set()
        self._asked = True
        self.ask("ended by Ctrl-C, SIGTERM or a closed terminal")

    def end_all(self) -> None:
        """All threads shall end."""
        self.stopping.set()
        self.aborting.set()
