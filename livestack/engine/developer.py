"""The pixels of a calibrated frame as linear planes, debayered when they are asked for, whole or in part."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from livestack.calibration.calibrate import pedestal_adu
from livestack.calibration.cosmetic import repair
from livestack.calibration.debayer import debayer, debayer_region
from livestack.calibration.defects import DefectMap
from livestack.kernels.bands import Bands

if TYPE_CHECKING:
    from livestack.engine.states import Calibrated

MARGIN = 12


@dataclass(frozen=True, eq=False)
class Pixels:
    """What of a frame goes into the stack.

    Attributes
    ----------
    data : (C, h, w) float32, ADU, planes; or, to be drizzled, (h, w) as a mosaic has it, or (C, h, w).
    defects : flat indices of what is not to be dropped of it; None where planes were repaired.
    """

    data: np.ndarray
    defects: np.ndarray | None = None


def mosaic_of(planes: np.ndarray, bayer: str | None) -> np.ndarray:
    """(H, W) of planes (3, H, W): of each pixel the colour that it measured; planes as they are without a pattern."""
    if bayer is None:
        return planes
    mosaic = np.empty(planes.shape[1:], dtype=planes.dtype)
    for k, letter in enumerate(bayer):
        cells = np.s_[k // 2 :: 2, k % 2 :: 2]
        mosaic[cells] = planes["RGB".index(letter)][cells]
    return mosaic


class Developer:
    """Gives the pixels of a frame as linear planes, whole or in part; holds the lighter of raw and calibrated.

    Parameters
    ----------
    calibrated : the frame.
    method : debayering.
    keep_raw : hold the camera's own numbers instead of float32 where nothing but a constant separates the two (half
        the memory, for frames that wait).
    """

    def __init__(self, calibrated: Calibrated, method: str, keep_raw: bool = False) -> None:
        frame = calibrated.frame
        self.bayer = frame.info.bayer
        self.method = method
        masters, data = calibrated.masters, calibrated.data
        plain = masters is None or (masters.dark is None and masters.inverse_flat is None)
        light = frame.data.dtype.itemsize < 4 and (data is None or not np.isnan(np.min(data)))
        self._raw = frame.data if keep_raw and plain and light else None
        self._data = None if self._raw is not None else calibrated.data
        self._pedestal = np.float32(pedestal_adu(frame.info))
        self.shape = (frame.info.height, frame.info.width)

    def _part(self, y0: int, y1: int, x0: int, x1: int, defects: DefectMap | None) -> np.ndarray:
        source = self._raw if self._raw is not None else self._data
        assert source is not None
        part = source[..., y0:y1, x0:x1].astype(np.float32)
        if self._raw is not None and self._pedestal:
            part -= self._pedestal
        if defects is not None and len(defects):
            repair(part, defects.crop(y0, y1, x0, x1), self.bayer)
        return part

    def region(self, y0: int, y1: int, x0: int, x1: int, defects: DefectMap | None) -> np.ndarray:
        """(C, y1 - y0, x1 - x0) float32, the same as the crop of `whole`."""
        height, width = self.shape
        # margins give the filters and the repair their neighbours; even ones keep the mosaic's phase
        top, left = max(0, y0 - MARGIN) & ~1, max(0, x0 - MARGIN) & ~1
        part = self._part(top, min(height, y1 + MARGIN), left, min(width, x1 + MARGIN), defects)
        if self.bayer is None:
            inner = part[..., y0 - top : y1 - top, x0 - left : x1 - left]
            return np.ascontiguousarray(inner if part.ndim == 3 else inner[None])
        return debayer_region(part, self.bayer, y0 - top, y1 - top, x0 - left, x1 - left, self.method)  # type: ignore[arg-type]

    def pixels(self, drizzled: bool, defects: DefectMap | None, bands: Bands) -> Pixels:
        """What goes into a stack: whole planes, or the frame's own pixels, whose defects are named, not repaired."""
        if not drizzled:
            return Pixels(self.whole(defects, bands))
        data = self._data
        if data is None:
            data = self._part(0, self.shape[0], 0, self.shape[1], None)
        return Pixels(data, None if defects is None or data.ndim == 3 else defects.indices)

    def whole(self, defects: DefectMap | None, bands: Bands) -> np.ndarray:
        """(C, H, W) float32 linear planes. Repairs the held data in place."""
        data = self._data
        if data is None:
            data = self._part(0, self.shape[0], 0, self.shape[1], None)
        if defects is not None and len(defects):
            repair(data, defects, self.bayer)
        if self.bayer is None:
            return data if data.ndim == 3 else data[None]
        return debayer(data, self.bayer, self.method, bands=bands)  # type: ignore[arg-type]
