"""The first two stages, which know one frame alone: calibrate it, measure its sky, find its stars.

So the next frame is prepared, in another thread, while the present one is being stacked.
"""

from __future__ import annotations

import time
import zlib
from dataclasses import replace

import numpy as np

from livestack.base.frame import Frame, FrameInfo
from livestack.base.resources import bins_frames
from livestack.base.settings import Settings
from livestack.calibration.binning import TO_BINNED, bin_data, binned_info
from livestack.calibration.calibrate import MatchedMasters, saturation_after
from livestack.calibration.calibrate import calibrate as apply_masters
from livestack.calibration.cosmetic import estimate_noise, find_cosmic_rays, repair
from livestack.calibration.debayer import debayer
from livestack.calibration.xtrans import debayer_xtrans, find_lone_pixels
from livestack.detection import find_stars, measure_sky
from livestack.engine.states import Calibrated, Detected
from livestack.kernels.bands import Bands

HASH_ROWS = 16


def fingerprint(data: np.ndarray) -> int:
    """A number that tells two exposures apart: CRC of every sixteenth row, and the shape."""
    rows = np.ascontiguousarray(data.reshape(-1, data.shape[-1])[::HASH_ROWS])
    return zlib.crc32(rows.view(np.uint8).data, zlib.crc32(repr(data.shape).encode()))


def prepare(frame: Frame, masters: MatchedMasters | None, settings: Settings, bands: Bands) -> Detected:
    """Both stages: calibrate a frame and measure it.

    Raises
    ------
    MasterError : the masters do not fit it.
    """
    return detect(calibrate(frame, masters, settings, bands), frame.data, settings, bands)


def detect(calibrated: Calibrated, raw: np.ndarray, settings: Settings, bands: Bands) -> Detected:
    """Measure the sky of a calibrated frame and find its stars; `raw` is what the camera wrote."""
    assert calibrated.data is not None
    begin = time.perf_counter()
    info, data = calibrated.frame.info, calibrated.data
    sky = measure_sky(data, info.bayer, bands)
    saturation = saturation_after(info, calibrated.masters)
    stars = find_stars(data, info.bayer, sky, saturation, settings.detection, bands, calibrated.grainy)
    return Detected(
        frame=calibrated.frame, data=data, masters=calibrated.masters, sky=sky, stars=stars,
        fingerprint=fingerprint(raw), timings_s={**calibrated.timings_s, "detect": time.perf_counter() - begin},
    )  # fmt: skip


def calibrate(frame: Frame, masters: MatchedMasters | None, settings: Settings, bands: Bands) -> Calibrated:
    """Linear data of a frame; with super-pixel debayering, and from an X-Trans mosaic, it becomes a colour frame.

    Raises
    ------
    MasterError : the masters do not fit it.
    """
    begin, grainy = time.perf_counter(), frame.info.xtrans is not None
    frame, data = _calibrated(frame, masters, settings, bands)
    timings_s = {"calibrate": time.perf_counter() - begin}
    return Calibrated(frame=frame, data=data, masters=masters, timings_s=timings_s, grainy=grainy)


def _calibrated(
    frame: Frame, masters: MatchedMasters | None, settings: Settings, bands: Bands
) -> tuple[Frame, np.ndarray]:
    data = apply_masters(frame, masters, bands=bands)
    info = frame.info
    binned = bins_frames(info, settings)
    if info.xtrans is not None:
        return _xtrans_in_colour(frame, data, masters, settings, bands)
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


def _xtrans_in_colour(
    frame: Frame, data: np.ndarray, masters: MatchedMasters | None, settings: Settings, bands: Bands
) -> tuple[Frame, np.ndarray]:
    """A colour frame of `data`, which is changed; all that comes later knows mosaics of 2 x 2 only."""
    info = frame.info
    assert info.xtrans is not None
    if settings.calibration.cosmetic:
        if masters is not None and masters.defects is not None:
            data[masters.defects.mask] = np.nan
        data[find_lone_pixels(data, info.xtrans, bands)] = np.nan
    planes = debayer_xtrans(data, info.xtrans, bands)
    info = replace(info, xtrans=None, planes=3)
    for halves in (bins_frames(frame.info, settings), settings.calibration.debayer == "superpixel"):
        if halves:
            planes = bin_data(planes, mosaic=False)
            info = binned_info(info, planes.shape[2], planes.shape[1])
    return replace(frame, data=planes, info=info, label=frame.name), planes


def file_to_stack_pixels(info: FrameInfo, settings: Settings) -> np.ndarray:
    """(3, 3) the file's own pixels -> those of the data that are stacked; not the identity where frames are binned."""
    matrix = TO_BINNED if bins_frames(info, settings) else np.eye(3)
    halved = info.mosaic is not None and settings.calibration.debayer == "superpixel"
    return TO_BINNED @ matrix if halved else matrix
