"""How livestack starts itself: as a module of Python, or as the one program that it was packed into."""

from __future__ import annotations

import sys


def own_command(*words: str) -> list[str]:
    """The command line that runs livestack itself, also where it is packed into one program."""
    if getattr(sys, "frozen", False):
        return [sys.executable, *words]
    return [sys.executable, "-m", "livestack", *words]
