"""Whether a group's frames are drizzled: as the user says, or by what was measured of the first frames.

Drizzle pays where stars are undersampled: there debayering mixes colours that no interpolation can part, and the stack
takes good light on stars for outliers. It asks for frames whose shifts bring each colour to each pixel of the grid.
Where stars are wide debayering loses nothing, and the stack is a little sharper without drops.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from livestack.engine.ledger import Member
from livestack.stacking.drizzle import Drop

if TYPE_CHECKING:
    from livestack.engine.group import Group

LEAST_FRAMES = 10
"""So many frames tell how the field moves."""
WIDE_PX = 2.3
"""Stars of this FWHM and more lose nothing by debayering."""
EVEN = 0.4
"""The least drizzled pixel of a cell of the mosaic has to get this share of what the mean one gets."""


def drop_of(group: Group, members: Sequence[Member], bayer: str | None) -> tuple[Drop | None, str | None]:
    """How the frames of a group are to be drizzled, None where they are to be interpolated; and why, if that was asked.

    Parameters
    ----------
    members : the frames so far; `bayer` the pattern of their mosaic.
    """
    settings = group.settings
    drop = Drop(settings.stack.pixfrac, bayer)
    if group.following.active or not settings.drizzles:
        return None, None
    if settings.calibration.debayer == "drizzle" or settings.stack.scale != 1:
        return drop, None
    if bayer is None or settings.stack.mode == "maximum":
        return None, None
    widths = [member.fwhm_px for member in members if member.fwhm_px]
    if len(members) < LEAST_FRAMES or not widths:
        return None, f"{group.name}: debayered; too few frames or stars tell whether drizzle would do better."
    width, even = float(np.median(widths)), evenness(members)
    if width >= WIDE_PX:
        return None, f"{group.name}: debayered; stars of {width:.1f} px are wide enough for it to lose nothing."
    if even < EVEN:
        return None, (
            f"{group.name}: debayered; stars of {width:.1f} px would be sharper drizzled, but the frames hardly moved "
            "against each other; dither them."
        )
    return drop, f"{group.name}: drizzled; stars of {width:.1f} px are undersampled, and the frames' shifts carry it."


def evenness(members: Sequence[Member]) -> float:
    """How evenly the red pixels of frames fall on the four pixels of a cell: the least over the mean, 1 at best.

    The worst of nine places of the field: turned frames move otherwise in the corners than in the middle.
    """
    info = members[0].info
    x, y = np.meshgrid(np.linspace(0, info.width - 1, 3), np.linspace(0, info.height - 1, 3))
    # whole even pixels, so that all frames' red lies alike there
    places = 2 * np.round(0.5 * np.stack([x.ravel(), y.ravel()], axis=1))
    weights = np.zeros((len(places), 4))
    for member in members:
        there = places @ member.matrix[:2, :2].T + member.matrix[:2, 2]
        # overlap of a drop with the nearest pixels of either parity, along x and y: 1 on it, 0 beside it
        along = [[1 - np.abs((there[:, axis] - parity + 1) % 2 - 1) for parity in (0, 1)] for axis in (0, 1)]
        for cell in range(4):
            weights[:, cell] += member.weight * along[0][cell % 2] * along[1][cell // 2]
    return float((weights.min(axis=1) / weights.mean(axis=1)).min())
