"""From what the camera wrote to linear data: subtract bias and dark, divide by the flat.

    linear = (raw - dark) / flat

in one pass from the camera's own number type to float32. Values below zero are kept, since cutting noise at zero would
lift the sky; nothing is clamped at the top either: `saturation_after` says from which level a result may be saturated.
NaN stays NaN. A pixel that the flat found dead becomes NaN, for `calibration.cosmetic` to repair or the stack to skip.

`calibration.masters` decides which masters belong to a frame, `calibration.cosmetic` repairs their defects.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from livestack.base.errors import MasterError
from livestack.base.frame import Frame, FrameInfo, say_mosaic
from livestack.calibration.defects import DefectMap
from livestack.kernels import calibrate as kernels
from livestack.kernels.bands import Bands, run_bands

RAW_DTYPES = (np.uint8, np.uint16, np.int16, np.int32, np.float32)


@dataclass(frozen=True, eq=False)
class MatchedMasters:
    """What is to be done to lights of one kind: the masters that fit them, ready for use.

    Attributes
    ----------
    info : header of the light that the masters were matched to.
    dark : float32 of the light's shape, ADU: all that is subtracted (bias included, exposure scaled), or None.
    inverse_flat : float32 of the light's shape, 1 / flat (mean 1 in each colour), NaN where it is dead; or None.
    defects : pixels that the masters show to be defective, or None (no masters that show them, or a colour frame).
    missing : sentences on what was not there or does not fit well; to be told once.
    history : sentences on what was used, for the HISTORY cards of the result.
    used : (path, kind, BLAKE2b checksum of the file) of each master used, for the journal.
    """

    info: FrameInfo
    dark: np.ndarray | None = None
    inverse_flat: np.ndarray | None = None
    defects: DefectMap | None = None
    missing: tuple[str, ...] = ()
    history: tuple[str, ...] = ()
    used: tuple[tuple[Path, str, str], ...] = ()


def pedestal_adu(info: FrameInfo) -> float:
    """The constant that the file says was added to every pixel, in ADU; 0 when it is silent.

    Programs disagree about the sign of the card `PEDESTAL` (some name what was added, others what has to be added to
    get rid of it); a pedestal is always above zero in the pixels.
    """
    return abs(info.pedestal_adu or 0.0)


def calibrate(
    frame: Frame, masters: MatchedMasters | None = None, out: np.ndarray | None = None, bands: Bands | None = None
) -> np.ndarray:
    """Bring a raw frame to linear ADU.

    Parameters
    ----------
    frame : as the file held it.
    masters : what to subtract and to divide by; None only converts, and subtracts the header's pedestal.
    out : float32 of the frame's shape, C-contiguous, to be filled, or None.
    bands : threads to share the rows among; None works in this thread.

    Returns
    -------
    float32 of `frame.data`'s shape, ADU of the frame's scale, values below zero kept, NaN where there is no data.

    Raises
    ------
    MasterError : the frame differs from what the masters were matched to in size, mosaic phase or number of colours.
    ValueError : `out` or the frame's dtype is not as above.
    """
    raw = np.ascontiguousarray(frame.data)
    if raw.dtype.type not in RAW_DTYPES:
        raise ValueError(f"{frame.name}: expected uint8, uint16, int16, int32 or float32 pixels, found {raw.dtype}.")
    if out is None:
        out = np.empty(raw.shape, np.float32)
    elif out.shape != raw.shape or out.dtype != np.float32 or not out.flags.c_contiguous:
        raise ValueError(f"out: expected C-contiguous float32 of shape {raw.shape}, found {out.dtype} {out.shape}.")
    if masters is not None:
        check_fit(frame, masters)
    dark = masters.dark if masters else None
    inverse_flat = masters.inverse_flat if masters else None
    pedestal = 0.0 if dark is not None else pedestal_adu(frame.info)

    width = raw.shape[-1]
    rows, result = raw.reshape(-1, width), out.reshape(-1, width)
    d = None if dark is None else dark.reshape(-1, width)
    f = None if inverse_flat is None else inverse_flat.reshape(-1, width)

    def work(y0: int, y1: int) -> None:
        if d is not None and f is not None:
            kernels.subtract_divide_rows(rows, d, f, result, y0, y1)
        elif d is not None:
            kernels.subtract_rows(rows, d, result, y0, y1)
        elif f is not None:
            kernels.divide_rows(rows, pedestal, f, result, y0, y1)
        else:
            kernels.offset_rows(rows, pedestal, result, y0, y1)

    run_bands(bands, work, rows.shape[0])
    return out


def check_fit(frame: Frame, masters: MatchedMasters) -> None:
    """Raise MasterError, naming both sides, unless the masters have the frame's size, mosaic phase and colours."""
    there, here = masters.info, frame.info
    shapes = [a.shape for a in (masters.dark, masters.inverse_flat) if a is not None]
    same_shape = all(shape == frame.data.shape for shape in shapes)
    if there.size != here.size or there.mosaic != here.mosaic or not same_shape:
        raise MasterError(
            f"masters for {describe_sensor(there)} do not fit {frame.name}, which is {describe_sensor(here)}: "
            "use masters of this camera and binning."
        )


def describe_sensor(info: FrameInfo) -> str:
    """Size and colours as people say them: "1304 x 976 RGGB"."""
    plain = "in colour" if info.planes == 3 else "without a colour mosaic"
    return f"{info.width} x {info.height} {say_mosaic(info) or plain}"


def saturation_after(info: FrameInfo, masters: MatchedMasters | None) -> float | None:
    """Lowest calibrated value that a saturated pixel can have, in ADU; None when the header's saturation is unknown.

    Sampled on every 8th row and column: dark current brings a pixel nearer the limit, a flat above 1 lowers its result.
    """
    if info.saturation_adu is None:
        return None
    level = np.asarray(info.saturation_adu, np.float64)
    if masters is None or (masters.dark is None and masters.inverse_flat is None):
        return float(level - pedestal_adu(info))
    grid = (..., slice(None, None, 8), slice(None, None, 8))
    level = level - (pedestal_adu(info) if masters.dark is None else np.percentile(masters.dark[grid], 99.0))
    if masters.inverse_flat is not None:
        level = level * np.nanmin(masters.inverse_flat[grid])
    return float(level)
