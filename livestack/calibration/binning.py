"""Binning 2 x 2 in software: a quarter of the memory where the machine has too little for the camera's frames.

Pixels are averaged, so ADU keep their scale. A mosaic stays one: four pixels of one colour make one of that colour, and
the binned pixel (x, y) lies, in the mean over the colours, where it lies in a binned mono frame.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from livestack.base.frame import FrameInfo
from livestack.formats.wcs import wcs_cards

TO_BINNED = np.array([[0.5, 0.0, -0.25], [0.0, 0.5, -0.25], [0.0, 0.0, 1.0]])
"""(x, y, 1) of the file's pixels to the binned ones; centres at integers in both."""


def bin_data(data: np.ndarray, mosaic: bool) -> np.ndarray:
    """Average 2 x 2.

    Parameters
    ----------
    data : (H, W) or (3, H, W) float32; NaN in, NaN out. Rows and columns that are left over at the end are dropped.
    mosaic : four pixels of one colour are averaged.

    Returns
    -------
    (H // 2, W // 2) or (3, H // 2, W // 2) float32; for a mosaic 2 (H // 4) and 2 (W // 4).
    """
    if not mosaic:
        height, width = (side // 2 * 2 for side in data.shape[-2:])
        part = data[..., :height, :width]
        total = part[..., 0::2, 0::2] + part[..., 0::2, 1::2]
        total += part[..., 1::2, 0::2]
        total += part[..., 1::2, 1::2]
        return np.asarray(total * np.float32(0.25), dtype=np.float32)
    height, width = (side // 4 * 4 for side in data.shape)
    out = np.empty((height // 2, width // 2), dtype=np.float32)
    for y in range(2):
        for x in range(2):
            out[y::2, x::2] = bin_data(data[y:height:2, x:width:2], mosaic=False)
    return out


def binned_info(info: FrameInfo, width: int, height: int) -> FrameInfo:
    """The header of a binned frame of this size; its WCS is carried along."""

    def double(value: float | None) -> float | None:
        return None if value is None else 2 * value

    cards, _ = wcs_cards(info.cards, TO_BINNED)
    return replace(
        info, width=width, height=height, cards=cards, binning=(2 * info.binning[0], 2 * info.binning[1]),
        pixel_um=double(info.pixel_um), scale_arcsec_px=double(info.scale_arcsec_px),
    )  # fmt: skip
