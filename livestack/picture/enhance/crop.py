"""The part of a stack that all frames cover."""

from __future__ import annotations

import cv2
import numpy as np

from livestack.kernels.enhance import largest_rectangle

SHARES = (0.95, 0.5, 0.2)
"""Covered so often, compared with the best covered part, counts as full; where that is little, less must do."""
WORTH = 0.5
"""A rectangle is taken when it keeps so much of all that was seen: of a mosaic the overlap is not the picture."""


def full_coverage(coverage: np.ndarray) -> tuple[int, int, int, int]:
    """The largest rectangle of full coverage; where it would lose most of what was seen, of less, or all there is.

    Parameters
    ----------
    coverage : (H, W) accepted samples a pixel, or a weight; NaN counts as none. Single pixels that lost samples to the
        rejection do not matter.

    Returns
    -------
    (x0, y0, x1, y1) in pixels, x1 and y1 exclusive; the whole image when nothing is covered.
    """
    height, width = coverage.shape
    counts = np.nan_to_num(coverage.astype(np.float32), nan=0.0)
    # what the rejection took from the middle of the field is lower than its surroundings on all sides: closed again
    closed = cv2.morphologyEx(
        cv2.copyMakeBorder(counts, 8, 8, 8, 8, cv2.BORDER_CONSTANT, value=0.0),
        cv2.MORPH_CLOSE,
        np.ones((15, 15), np.uint8),
    )[8:-8, 8:-8]
    top = float(np.percentile(closed, 99.0))
    if not top > 0:
        return 0, 0, width, height
    seen = closed > 0
    for share in SHARES:
        corners = np.zeros(4, np.int64)
        area = largest_rectangle(np.ascontiguousarray((closed >= share * top).astype(np.uint8)), corners)
        if area >= WORTH * np.count_nonzero(seen):
            x0, y0, x1, y1 = (int(v) for v in corners)
            return x0, y0, x1, y1
    rows, columns = np.flatnonzero(seen.any(axis=1)), np.flatnonzero(seen.any(axis=0))
    return int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1
