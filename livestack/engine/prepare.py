"""One frame on its own: calibrated, its sky measured, its stars found; and its pixels, debayered, when asked for.

Nothing here knows of other frames, so the next frame is prepared while the present one is being stacked.
"""

from __future__ import annotations

import time
import zlib
from dataclasses import dataclass, field, replace

import numpy as np

from livestack.base.frame import Frame, FrameInfo
from livestack.base.resources import bins_frames
from livestack.base.settings import Settings
from livestack.calibration.binning import TO_BINNED, bin_data, binned_info
from livestack.calibration.calibrate import MatchedMasters, calibrate, pedestal_adu, saturation_after
from livestack.calibration.cosmetic import estimate_noise, find_cosmic_rays, repair
from livestack.calibration.debayer import debayer, debayer_region
from livestack.calibration.defects import DefectMap
from livestack.detection import Sky, StarCatalog, find_stars, measure_sky
from livestack.kernels.bands import Bands

HASH_ROWS = 16
MARGIN = 12


@dataclass(frozen=True, eq=False)
class Prepared:
    """A frame with all that can be known of it alone.

    Attributes
    ----------
    data : (H, W) mono or mosaic, or (3, H, W), float32, calibrated ADU, not debayered; None once `lighten` let it go.
    fingerprint : of the raw pixels; equal for copies of one exposure.
    timings_s : seconds by step.
    """

    frame: Frame
    data: np.ndarray | None
    sky: Sky
    stars: StarCatalog
    masters: MatchedMasters | None
    fingerprint: int
    timings_s: dict[str, float] = field(default_factory=dict)

    @property
    def shape(self) -> tuple[int, int]:
        """(height, width)."""
        return self.frame.info.height, self.frame.info.width


def fingerprint(data: np.ndarray) -> int:
    """A number that tells two exposures apart: CRC of every sixteenth row, and the shape."""
    rows = np.ascontiguousarray(data.reshape(-1, data.shape[-1])[::HASH_ROWS])
    return zlib.crc32(rows.view(np.uint8).data, zlib.crc32(repr(data.shape).encode()))


def prepare(frame: Frame, masters: MatchedMasters | None, settings: Settings, bands: Bands) -> Prepared:
    """Calibrate a frame and measure it.

    Raises
    ------
    MasterError : the masters do not fit it.
    """
    begin = time.perf_counter()
    raw, (frame, data) = frame.data, _calibrated(frame, masters, settings, bands)
    calibrated = time.perf_counter()
    sky = measure_sky(data, frame.info.bayer, bands)
    stars = find_stars(data, frame.info.bayer, sky, saturation_after(frame.info, masters), settings.detection, bands)
    found = time.perf_counter()
    timings = {"calibrate": calibrated - begin, "detect": found - calibrated}
    return Prepared(frame, data, sky, stars, masters, fingerprint(raw), timings)


def prepare_pixels(frame: Frame, masters: MatchedMasters | None, settings: Settings, bands: Bands) -> Prepared:
    """Calibrate only: for a frame whose place in the stack is known already."""
    frame, data = _calibrated(frame, masters, settings, bands)
    none = np.empty(0)
    no_stars = StarCatalog(none, none, none, none, none, none, none, none.astype(bool), 0.0)
    nothing = np.zeros(frame.channels, np.float32)
    blank = Sky(np.full((frame.channels, 2, 2), np.nan, np.float32), nothing, nothing)
    return Prepared(frame, data, blank, no_stars, masters, 0)


def _calibrated(
    frame: Frame, masters: MatchedMasters | None, settings: Settings, bands: Bands
) -> tuple[Frame, np.ndarray]:
    """Linear data of a frame; with super-pixel debayering it becomes a colour frame of half the size."""
    data = calibrate(frame, masters, bands=bands)
    info = frame.info
    binned = bins_frames(info, settings)
    if settings.calibration.cosmic_rays and data.ndim == 2:
        noise = float(np.nanmedian(estimate_noise(data, info.bayer)))
        if noise > 0:
            data[find_cosmic_rays(data, noise, info.bayer, bands=bands)] = np.nan
    if binned:
        if masters is not None and masters.defects is not None and settings.calibration.cosmetic:
            repair(data, masters.defects, info.bayer)
        data = bin_data(data, info.bayer is not None)
        info = binned_info(info, data.shape[-1], data.shape[-2])
        frame = replace(frame, data=data, info=info, label=frame.name)
    if info.bayer is None or settings.calibration.debayer != "superpixel":
        return frame, data
    if not binned and masters is not None and masters.defects is not None and settings.calibration.cosmetic:
        repair(data, masters.defects, info.bayer)
    planes = debayer(data, info.bayer, "superpixel", bands=bands)
    half = replace(binned_info(info, planes.shape[2], planes.shape[1]), bayer=None, planes=3)
    return replace(frame, data=planes, info=half, label=frame.name), planes


def file_to_stack_pixels(info: FrameInfo, settings: Settings) -> np.ndarray:
    """(3, 3) the file's own pixels -> those of the data that are stacked; not the identity where frames are binned."""
    matrix = TO_BINNED if bins_frames(info, settings) else np.eye(3)
    halved = info.bayer is not None and settings.calibration.debayer == "superpixel"
    return TO_BINNED @ matrix if halved else matrix


class Developer:
    """Gives the pixels of a prepared frame as linear planes, whole or in part; holds the lighter of raw and calibrated.

    Parameters
    ----------
    prepared : the frame.
    method : debayering.
    keep_raw : hold the camera's own numbers instead of float32 where nothing but a constant separates the two (half
        the memory, for frames that wait).
    """

    def __init__(self, prepared: Prepared, method: str, keep_raw: bool = False) -> None:
        frame = prepared.frame
        self.bayer = frame.info.bayer
        self.method = method
        masters, data = prepared.masters, prepared.data
        plain = masters is None or (masters.dark is None and masters.inverse_flat is None)
        light = frame.data.dtype.itemsize < 4 and (data is None or not np.isnan(np.min(data)))
        self._raw = frame.data if keep_raw and plain and light else None
        self._data = None if self._raw is not None else prepared.data
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
