"""A master frame as a file: FITS with the mean, its VARIANCE, and all that is needed to match it to a light later.

Written by us, or read from what other programs wrote (any format that `livestack.formats` reads).
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from astropy.io import fits

from livestack.base.durable import checksum_file, replacing
from livestack.base.errors import FrameError, MasterError
from livestack.base.frame import FrameInfo, FrameKind
from livestack.calibration.calibrate import describe_sensor
from livestack.formats import read_frame

IMAGE_TYPES = {
    FrameKind.BIAS: "Master Bias",
    FrameKind.DARK: "Master Dark",
    FrameKind.FLAT: "Master Flat",
    FrameKind.DARK_FLAT: "Master Dark Flat",
}


@dataclass(frozen=True, eq=False)
class Master:
    """A master frame on disk; its pixels are read when they are asked for.

    Attributes
    ----------
    path : the file.
    kind : bias, dark, flat or dark-flat.
    info : what its header says.
    """

    path: Path
    kind: FrameKind
    info: FrameInfo

    @property
    def name(self) -> str:
        """How we speak of it: "master flat F.fits"."""
        return f"master {self.kind.value} {self.path.name}"

    @cached_property
    def checksum(self) -> str:
        """BLAKE2b of the file, hexadecimal."""
        return checksum_file(self.path)

    def read(self) -> np.ndarray:
        """(H, W) or (3, H, W) float32, ADU (a flat: whatever scale it was saved in).

        Raises
        ------
        MasterError : the file cannot be read, or is smaller than it was.
        """
        try:
            frame = read_frame(self.path)
        except FrameError as error:
            raise MasterError(f"{self.name} cannot be read: {error}") from error
        data = frame.data.astype(np.float32, copy=False)
        if self.kind is not FrameKind.FLAT and frame.data.dtype.kind == "f" and np.nanmax(data) <= 1.0:
            # Siril and PixInsight save masters as fractions of the 16-bit range.
            data = data * np.float32(65535)
        return data

    def read_variance(self) -> np.ndarray | None:
        """Variance of one frame's sample, ADU^2, of the mean's shape; None when the file does not hold it."""
        if not self.path.name.lower().endswith((".fits", ".fit", ".fts")):
            return None
        with fits.open(self.path, memmap=False) as units:
            if "VARIANCE" not in units:
                return None
            return np.ascontiguousarray(units["VARIANCE"].data, np.float32)


def write_master(
    path: Path,
    kind: FrameKind,
    info: FrameInfo,
    mean: np.ndarray,
    variance: np.ndarray,
    n_combined: int,
    rejected: float,
    history: tuple[str, ...],
) -> None:
    """Write a master, all of it or nothing.

    Parameters
    ----------
    info : the matching keys; exposure and temperature are the means of what was combined.
    mean : float32, ADU; for a flat relative to 1.
    variance : float32 of the same shape: sample variance of one frame at that pixel.
    rejected : share of samples that were clipped, 0 to 1.
    history : sentences on where it comes from.

    Raises
    ------
    SessionError : disk full or folder not writable.
    """
    header = fits.Header()
    header["IMAGETYP"] = (IMAGE_TYPES[kind], "kind of frame")
    header["NCOMBINE"] = (n_combined, "frames combined")
    header["REJFRAC"] = (round(rejected, 6), "share of samples clipped")
    cards = (
        ("EXPTIME", info.exposure_s, "[s] exposure of one frame"),
        ("GAIN", info.gain, "gain as the camera counts it"),
        ("OFFSET", info.offset, "offset as the camera counts it"),
        ("CCD-TEMP", info.temperature_c, "[C] mean temperature of the sensor"),
        ("XBINNING", info.binning[0], "binning across"),
        ("YBINNING", info.binning[1], "binning along"),
        ("INSTRUME", info.camera, "camera"),
        ("TELESCOP", info.telescope, "telescope"),
        ("FILTER", info.filter_name, "filter"),
        ("XPIXSZ", info.pixel_um, "[um] pixel size as binned"),
        ("BAYERPAT", info.mosaic, "colours of the stored rows"),
        ("SATURATE", info.saturation_adu, "[adu] where a single frame clips"),
    )
    for keyword, value, comment in cards:
        if value is not None:
            header[keyword] = (_ascii(value) if isinstance(value, str) else value, comment)
    header["ROWORDER"] = ("TOP-DOWN", "BAYERPAT is that of the rows as stored")
    header["BUNIT"] = ("relative" if kind is FrameKind.FLAT else "adu", "")
    header["SWCREATE"] = "livestack"
    if info.date_obs is not None:
        header["DATE-OBS"] = (info.date_obs.strftime("%Y-%m-%dT%H:%M:%S.%f")[:-3], "start of the first frame, UTC")
    for sentence in history:
        header.add_history(_ascii(sentence))
    units = fits.HDUList([fits.PrimaryHDU(mean, header), fits.ImageHDU(variance, name="VARIANCE")])
    with replacing(path) as temporary:
        units.writeto(temporary)


def master_file_name(kind: FrameKind, info: FrameInfo) -> str:
    """A name that tells masters of one night apart: kind, filter, exposure, gain, temperature, size, phase, camera."""
    parts = [f"master-{kind.value}"]
    if kind is FrameKind.FLAT and info.filter_name:
        parts.append(info.filter_name)
    if kind in (FrameKind.DARK, FrameKind.DARK_FLAT) and info.exposure_s is not None:
        parts.append(f"{info.exposure_s:.6g}s")
    if info.gain is not None:
        parts.append(f"gain{info.gain:g}")
    if info.offset is not None:
        parts.append(f"offset{info.offset:g}")
    if kind is not FrameKind.FLAT and info.temperature_c is not None:
        parts.append(f"{info.temperature_c:.0f}C")
    parts.append(describe_sensor(info).replace(" x ", "x") if info.mosaic else f"{info.width}x{info.height}")
    if info.binning != (1, 1):
        parts.append(f"bin{info.binning[0]}x{info.binning[1]}")
    if info.camera:
        parts.append(info.camera)
    return "_".join(re.sub(r"[^A-Za-z0-9.+-]+", "-", part) for part in parts) + ".fits"


def _ascii(text: str) -> str:
    return text.encode("ascii", "replace").decode("ascii").replace("\n", " ")
