"""Which livestack this is, and on what it runs."""

from __future__ import annotations

import platform
from importlib.metadata import PackageNotFoundError
from importlib.metadata import version as installed

NUMBER = "0.1.0"
LIBRARIES = ("numpy", "numba", "opencv-python-headless", "astropy", "scipy", "sep")


def version() -> str:
    """The version of livestack."""
    return NUMBER


def software() -> dict[str, str]:
    """Python and library versions, for the journal."""
    found = {"python": platform.python_version(), "system": platform.platform(terse=True)}
    for name in LIBRARIES:
        try:
            found[name] = installed(name)
        except PackageNotFoundError:
            found[name] = "unknown"
    return found
