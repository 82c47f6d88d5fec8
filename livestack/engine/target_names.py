"""Whether two names in headers may be one target, spelled in two ways; the stars decide."""

from __future__ import annotations

import re
import unicodedata

SHORT, LONG = 4, 8
"""Letters from which one slip, and two, are forgiven."""


def spelled_alike(one: str | None, other: str | None) -> bool:
    """True for "M 31" and "m31", "Andromeda" and "Andromdea"; not for names that differ in a number or a word.

    Examples
    --------
    >>> spelled_alike("NGC 7000", "ngc7000"), spelled_alike("M31", "M33"), spelled_alike("M31", "M31 short")
    (True, False, False)
    """
    a, b = _bare(one), _bare(other)
    if a == b:
        return True
    if re.findall(r"\d+", a) != re.findall(r"\d+", b):
        return False
    allowed = (min(len(a), len(b)) >= SHORT) + (min(len(a), len(b)) >= LONG)
    return abs(len(a) - len(b)) <= allowed and slips(a, b) <= allowed


def slips(a: str, b: str) -> int:
    """Letters left out, put in, exchanged, or swapped with a neighbour (Damerau 1964, doi:10.1145/363958.363994)."""
    rows = [list(range(len(b) + 1))]
    for i, letter in enumerate(a, 1):
        row = [i]
        for j, its in enumerate(b, 1):
            least = min(rows[-1][j] + 1, row[-1] + 1, rows[-1][j - 1] + (letter != its))
            if i > 1 and j > 1 and letter == b[j - 2] and a[i - 2] == its:
                least = min(least, rows[-2][j - 2] + 1)
            row.append(least)
        rows.append(row)
    return rows[-1][-1]


def _bare(name: str | None) -> str:
    plain = unicodedata.normalize("NFKD", name or "").encode("ascii", "ignore").decode().lower()
    return re.sub(r"[^a-z0-9]", "", plain)
