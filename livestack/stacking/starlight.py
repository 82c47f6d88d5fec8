"""Light of stars that change is no outlier: what the test has refused of it is taken back.

The test of a sample knows its pixel alone; whether a star has faded as a whole is seen only around it. Hence this comes
after the test, in streaming, in the robust start and in the final pass alike. See `kernels.starlight` for the rule.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from livestack.kernels import starlight as kernel
from livestack.stacking.laying import FrameRows
from livestack.stacking.noise_model import Limits

REACH = kernel.REACH
"""Pixels around a star that are looked at, at most."""

MOST_STARS = 500
"""Of a frame and channel; where more places are refused it is the sky's steps (8 bits without noise), no star."""

FrameOf = Callable[[int, int, int], FrameRows]
"""(channel, y, x) -> a frame, at least as far as `REACH` around there."""

Planes = tuple[np.ndarray, ...]


@dataclass(frozen=True, eq=False)
class Refused:
    """What a test has refused of a frame, and the stacks that know of it.

    Attributes
    ----------
    entries : (n,) sorted int64, flat index * 2 + high.
    held : (k,) likewise, samples of the frame that the tested stack does not hold; None: those of `entries`.
    """

    entries: np.ndarray
    held: np.ndarray | None = None


def take_back(
    refused: Refused, frame: FrameOf, weight: float, limits: Limits, tested: Callable[[int], Planes],
    added: Callable[[int], Planes], channels: int, one_by_one: bool = False,
) -> np.ndarray:  # fmt: skip
    """Add the light of stars that were refused, in place, and return what stays refused.

    Parameters
    ----------
    frame, weight, limits : of the frame, as for the test.
    tested : planes (`Stack.planes`) of a channel that samples were tested against; added : those that they go into.
    one_by_one : ask `frame` for each star.
    """
    entries = refused.entries
    if not len(entries):
        return entries
    restored = np.zeros(len(entries), dtype=np.uint8)
    held = entries if refused.held is None else refused.held
    held_restored = restored if refused.held is None else np.zeros(len(held), dtype=np.uint8)
    for c in range(channels):
        template, fresh = tested(c), added(c)
        height, width = template[0].shape
        begin = c * height * width
        first, last = np.searchsorted(entries, [begin * 2, (begin + height * width) * 2])
        if first == last:
            continue
        mine = limits.of_channel(c)
        peaks = np.empty(last - first, dtype=np.int64)
        kernel.climb(entries[first:last], begin, template[0], template[2], mine[2], mine[3], peaks)
        stars = np.unique(peaks[peaks >= 0])
        if len(stars) > MOST_STARS:
            brightest = np.argsort(-template[0].ravel()[stars], kind="stable")[:MOST_STARS]
            stars = np.sort(stars[brightest])
        groups = [stars[i : i + 1] for i in range(len(stars))] if one_by_one else [stars] if len(stars) else []
        for some in groups:
            y, x = divmod(int(some[0]), width)
            kernel.restore_stars(
                frame(c, y, x), np.float32(weight), mine, template[:4], fresh, begin, entries, restored, held,
                held_restored, some,
            )  # fmt: skip
    return entries[restored == 0]
