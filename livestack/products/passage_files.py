"""What passed, as `passages.csv` beside a group's stack."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from livestack.base.durable import write_atomically
from livestack.movers.passages import Passage, as_csv


def write_passages(folder: Path, passages: Sequence[Passage]) -> Path:
    """Write the table; with its heading alone where nothing passed.

    Raises
    ------
    SessionError : disk full, or not writable.
    """
    path = folder / "passages.csv"
    folder.mkdir(parents=True, exist_ok=True)
    write_atomically(path, as_csv(passages).encode("utf-8"))
    return path
