"""Waiting for what another thread or process does: long enough for the slowest machine, no longer than it takes."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

Found = TypeVar("Found")
PATIENCE_S = 90.0


def until(
    condition: Callable[[], Found], alive: Callable[[], str] | None = None, timeout_s: float = PATIENCE_S
) -> Found:
    """Wait until a condition holds, and return what it gave. Files that are not there yet are no trouble.

    Parameters
    ----------
    alive : asked now and then; what it returns, when that is not empty, is why waiting is in vain.
    """
    end = time.monotonic() + timeout_s
    while True:
        try:
            if found := condition():
                return found
        except OSError:
            pass
        reason = alive() if alive is not None else ""
        assert not reason, reason
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.02)
