"""The part of a stack that all frames cover."""

from __future__ import annotations

import cv2
import numpy as np

from livestack.kernels.enhance import largest_rectangle

FULL_SHARE = 0.95
"""Covered so often, compared with the best covered part, counts as full."""


def full_coverage(coverage: np.ndarray) -> tuple[int, int, int, int]:
    """The largest rectangle of full coverage.

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
    good = (closed >= FULL_SHARE * top).astype(np.uint8)
    corners = np.zeros(4, np.int64)
    if largest_rectangle(np.ascontiguousarray(good), corners) == 0:
        return 0, 0, width, height
    x0, y0, x1, y1 = (int(v) for v in corners)
    return x0, y0, x1, y1
