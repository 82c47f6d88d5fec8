"""Holes between the drops of a drizzled stack, filled for the eye from the debayered mean of frames that are in it."""

from __future__ import annotations

import cv2
import numpy as np

from livestack.stacking.accumulators import Stack
from livestack.stacking.canvas import Canvas

FEW = 2e-3
"""So small a share of pixels without a sample, at the frames' edges, is no reason to keep another stack."""


def fill_holes(image: np.ndarray, canvas: Canvas, filler: Stack, x: int = 0, y: int = 0) -> None:
    """Fill in place what is NaN in a part (C, h, w) of a stack on `canvas` that begins at its pixel (x, y).

    Parameters
    ----------
    filler : on the same reference, whatever its scale and canvas; where it holds nothing either, NaN stays.
    """
    first = np.array([[1.0, 0.0, x], [0.0, 1.0, y], [0.0, 0.0, 1.0]])
    matrix = filler.canvas.from_reference @ np.linalg.inv(canvas.from_reference) @ first
    size = (image.shape[2], image.shape[1])
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    for plane, mean, weight, level in zip(image, filler.mean, filler.weight, filler.origin, strict=True):
        holes = np.isnan(plane)
        if not holes.any():
            continue
        there = cv2.warpAffine(mean, matrix[:2], size, flags=flags, borderValue=float("nan"))
        nearest = cv2.INTER_NEAREST | cv2.WARP_INVERSE_MAP
        known = cv2.warpAffine(weight, matrix[:2], size, flags=nearest, borderValue=0.0) > 0
        use = holes & known
        plane[use] = there[use] + np.float32(level)


def has_holes(weight: np.ndarray) -> bool:
    """Whether places of (H, W) weights have none, though frames have seen what lies on both sides in the row."""
    seen = weight > 0
    first = np.argmax(seen, axis=1)
    last = seen.shape[1] - 1 - np.argmax(seen[:, ::-1], axis=1)
    width = np.where(seen.any(axis=1), last - first + 1, 0)
    return bool(width.sum() - seen.sum() > FEW * width.sum())
