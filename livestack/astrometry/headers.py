"""A map of the sky from the WCS of a header, whatever its projection."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from livestack.astrometry.catalogue import to_vectors
from livestack.astrometry.sky_map import Cards, SkyMap
from livestack.formats.wcs import read_wcs


def map_of_cards(cards: Cards, width: int, height: int) -> SkyMap | None:
    """The gnomonic map that touches the sky in the middle of the picture; None where the cards hold no usable WCS.

    Distortion within the picture is left out; good enough to write names beside what they mean.
    """
    wcs = read_wcs(cards)
    if wcs is None:
        return None
    middle = np.array([(width - 1) / 2, (height - 1) / 2])
    reach = min(width, height) / 4
    ends = middle + reach * np.array([(0, 0), (1, 0), (-1, 0), (0, 1), (0, -1)])
    sky = wcs.all_pix2world(ends, 0)
    if not np.isfinite(sky).all():
        return None
    x, y = float(middle[0]), float(middle[1])
    centre = SkyMap(float(sky[0, 0]), float(sky[0, 1]), x, y, np.eye(2), width, height)
    plane = np.degrees(centre.plane_of(to_vectors(sky[:, 0], sky[:, 1])))
    cd = np.column_stack([plane[1] - plane[2], plane[3] - plane[4]]) / (2 * reach)
    return replace(centre, cd=cd)
