"""The words for one exposure: what kind it is, what its header says, and its pixels.

A `Frame` is what a file held, nothing done to it yet. Conventions (`docs/conventions.md`): arrays are (H, W) for mono
and mosaic, (3, H, W) in R, G, B order for colour; pixel centres are at integers, 0-based; (0, 0) is the first pixel of
the file, whichever way up that is shown; values are ADU as the camera wrote them.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from datetime import datetime
from enum import StrEnum
from pathlib import Path

import numpy as np

EXPOSURE_TOLERANCE = 0.02
BAYER_PATTERNS = ("RGGB", "BGGR", "GRBG", "GBRG")


class FrameKind(StrEnum):
    """What the shutter and the sky did."""

    LIGHT = "light"
    BIAS = "bias"
    DARK = "dark"
    FLAT = "flat"
    DARK_FLAT = "dark-flat"
    UNKNOWN = "unknown"
    """The header does not say; treated as a light unless its content speaks against it."""


@dataclass(frozen=True)
class FrameInfo:
    """What the header of a frame told us; `None` where it was silent.

    Attributes
    ----------
    width, height : size in pixels as stored.
    planes : 3 for colour, 1 for mono and mosaic.
    bayer : colour of the pixels at [0, 0], [0, 1], [1, 0], [1, 1] of the array *as stored*, e.g. "RGGB": offsets
        (`XBAYROFF`, `YBAYROFF`) and row order are already resolved. None for mono and for colour frames.
    xtrans : the same for a mosaic of 6 x 6 (Fujifilm's X-Trans): 36 letters, row by row; `bayer` is None then.
    bottom_up : True when row 0 is the bottom of the picture (`ROWORDER = 'BOTTOM-UP'`); only pictures care.
    saturation_adu : value at which the sensor or the file clips.
    pedestal_adu : constant still in the pixels that stands for no light (a raw file's black level); None if not told.
    pixel_um, focal_mm, scale_arcsec_px : pixel size (as binned), focal length, sampling (given or derived).
    date_obs : start of the exposure, UTC, timezone-aware.
    cards : (keyword, value, comment) of the header cards worth carrying to the result (instrument, object, WCS ...).
    oddities : sentences on what was wrong with the header and was survived.
    """

    width: int
    height: int
    kind: FrameKind = FrameKind.UNKNOWN
    bayer: str | None = None
    bottom_up: bool = False
    bits: int = 16
    saturation_adu: float | None = None
    pedestal_adu: float | None = None
    exposure_s: float | None = None
    date_obs: datetime | None = None
    object_name: str | None = None
    filter_name: str | None = None
    camera: str | None = None
    telescope: str | None = None
    gain: float | None = None
    offset: float | None = None
    temperature_c: float | None = None
    binning: tuple[int, int] = (1, 1)
    pixel_um: float | None = None
    focal_mm: float | None = None
    scale_arcsec_px: float | None = None
    ra_deg: float | None = None
    dec_deg: float | None = None
    is_master: bool = False
    cards: tuple[tuple[str, str | int | float | bool, str], ...] = ()
    oddities: tuple[str, ...] = ()
    planes: int = 1
    xtrans: str | None = None

    @property
    def mosaic(self) -> str | None:
        """The colours of the mosaic's cell, row by row, 4 or 36 letters; None where there is no mosaic."""
        return self.bayer or self.xtrans

    @property
    def size(self) -> tuple[int, int]:
        """(width, height), as people say it."""
        return self.width, self.height


@dataclass(frozen=True, eq=False)
class Frame:
    """One exposure as the file held it.

    Attributes
    ----------
    data : (H, W) or (3, H, W), C-contiguous, native byte order; uint8, uint16, int16, int32 or float32, in ADU.
    info : what the header says.
    path : the file, or None for a frame that a program handed over.
    index : position in a file of many frames (SER, cube); 0 otherwise.
    """

    data: np.ndarray
    info: FrameInfo
    path: Path | None = None
    index: int = 0
    label: str = field(default="")

    def __post_init__(self) -> None:
        shape = self.data.shape
        if not (self.data.ndim == 2 or (self.data.ndim == 3 and shape[0] == 3)):
            raise ValueError(
                f"data: expected shape (H, W) or (3, H, W), found {shape}; transpose colour to planes first."
            )
        if shape[-2:] != (self.info.height, self.info.width):
            raise ValueError(f"info: says {self.info.width} x {self.info.height}, data are {shape[-1]} x {shape[-2]}.")
        if not self.data.dtype.isnative:
            raise ValueError(f"data: dtype {self.data.dtype} is not in native byte order; use .astype('=...') first.")

    @property
    def name(self) -> str:
        """How we speak of it in a sentence."""
        if self.label:
            return self.label
        if self.path is None:
            return "frame"
        return f"{self.path.name}[{self.index}]" if self.index else self.path.name

    @property
    def is_colour(self) -> bool:
        """True for three planes; a mosaic is not colour yet."""
        return self.data.ndim == 3

    @property
    def channels(self) -> int:
        """Number of channels of the finished picture: 3 for colour and mosaic, 1 for mono."""
        return 3 if self.is_colour or self.info.mosaic else 1


def same_exposure(one_s: float, other_s: float) -> bool:
    """Whether two exposures in s are the same but for what a shutter or a clock is off."""
    return abs(one_s - other_s) <= EXPOSURE_TOLERANCE * max(one_s, other_s)


def with_bayer(frame: Frame, pattern: str | None) -> Frame:
    """The frame with the Bayer pattern that the user knows better than its header; colour frames stay as they are.

    Parameters
    ----------
    pattern : of the pixels as stored, "none" for a mono sensor, None to believe the header.
    """
    info = frame.info if frame.data.ndim == 3 else info_with_bayer(frame.info, pattern)
    return frame if info is frame.info else replace(frame, info=info)


def info_with_bayer(info: FrameInfo, pattern: str | None) -> FrameInfo:
    """The same for a header alone; its `oddities` say what was corrected."""
    bayer = None if pattern == "none" else pattern
    if pattern is None or info.planes == 3 or info.mosaic == bayer:
        return info
    theirs = say_mosaic(info) or "no Bayer pattern"
    said = f"the header says {theirs}; taken for {bayer or 'mono'}, as --bayer says"
    return replace(info, bayer=bayer, xtrans=None, oddities=(*info.oddities, said))


def say_mosaic(info: FrameInfo) -> str | None:
    """The mosaic as people say it, "RGGB" or "X-Trans"; None where there is none."""
    return "X-Trans" if info.xtrans else info.bayer
