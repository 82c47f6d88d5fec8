"""Simulated frames as the bytes of the files that cameras write.

Written with astropy, tifffile, OpenCV and xisf directly, never with `livestack.formats`: a reader must not be tested
against its own writer. TIFF and PNG have no word for a mosaic, so a mosaic becomes a colour picture there, as a
camera's own developer would make it (OpenCV's bilinear). SER holds many frames and is in `simulate.ser`.
"""

from __future__ import annotations

import io
import tempfile
from datetime import UTC
from pathlib import Path
from typing import Any, get_args

import cv2
import numpy as np
import tifffile
from astropy.io import fits

from livestack.base.choices import FrameFormat
from livestack.base.errors import UsageError
from livestack.base.frame import Frame, FrameKind
from livestack.simulate.dng import encode_dng
from livestack.simulate.projection import spell_place
from livestack.simulate.scenario import Scenario

SINGLE_FILE_FORMATS = tuple(name for name in get_args(FrameFormat) if name != "ser")
FORMATS: tuple[str, ...] = get_args(FrameFormat)

_IMAGETYP = {
    FrameKind.LIGHT: "Light Frame",
    FrameKind.BIAS: "Bias Frame",
    FrameKind.DARK: "Dark Frame",
    FrameKind.FLAT: "Flat Frame",
    FrameKind.DARK_FLAT: "Dark Flat",
}
_OPENCV_BAYER = {  # OpenCV names a mosaic by the second and third pixel of its second row
    "RGGB": cv2.COLOR_BayerBG2RGB,
    "BGGR": cv2.COLOR_BayerRG2RGB,
    "GRBG": cv2.COLOR_BayerGB2RGB,
    "GBRG": cv2.COLOR_BayerGR2RGB,
}


def _iso_time(frame: Frame) -> str:
    """DATE-OBS: UTC without a zone, to the millisecond."""
    assert frame.info.date_obs is not None
    return frame.info.date_obs.astimezone(UTC).replace(tzinfo=None).isoformat(timespec="milliseconds")


def _named_pattern(frame: Frame) -> str | None:
    """What BAYERPAT says: the colours of the upright picture, whose first row is the last one of a bottom-up file."""
    pattern = frame.info.bayer
    if pattern and frame.info.bottom_up and frame.info.height % 2 == 0:
        return pattern[2:] + pattern[:2]
    return pattern


def header_cards(scenario: Scenario, frame: Frame) -> list[tuple[str, str | float | int, str]]:
    """(keyword, value, comment) of the cards that a capture program would write."""
    info = frame.info
    ra_words = dec_words = None
    if info.ra_deg is not None and info.dec_deg is not None:
        ra_words, dec_words = spell_place(info.ra_deg, info.dec_deg)
    cards: list[tuple[str, str | float | int | None, str]] = [
        ("IMAGETYP", _IMAGETYP[info.kind], "Type of exposure"),
        ("EXPTIME", info.exposure_s, "[s] Exposure duration"),
        ("DATE-OBS", _iso_time(frame), "Time of observation (UTC)"),
        ("OBJECT", info.object_name, "Name of the object of interest"),
        ("FILTER", info.filter_name, "Active filter name"),
        ("INSTRUME", info.camera, "Imaging instrument name"),
        ("TELESCOP", info.telescope, "Name of telescope"),
        ("GAIN", scenario.gain_setting, "Sensor gain"),
        ("OFFSET", scenario.offset_setting, "Sensor gain offset"),
        ("EGAIN", scenario.gain_e_adu, "[e-/ADU] Electrons per A/D unit"),
        ("XPIXSZ", info.pixel_um, "[um] Pixel X axis size"),
        ("YPIXSZ", info.pixel_um, "[um] Pixel Y axis size"),
        ("XBINNING", 1, "X axis binning factor"),
        ("YBINNING", 1, "Y axis binning factor"),
        ("CCD-TEMP", info.temperature_c, "[degC] CCD temperature"),
        ("SET-TEMP", info.temperature_c, "[degC] CCD temperature setpoint"),
        ("FOCALLEN", info.focal_mm, "[mm] Focal length"),
        ("RA", info.ra_deg, "[deg] RA of telescope"),
        ("DEC", info.dec_deg, "[deg] Declination of telescope"),
        ("OBJCTRA", ra_words, "[H M S] RA of imaged object"),
        ("OBJCTDEC", dec_words, "[D M S] Declination of imaged object"),
        ("ROWORDER", scenario.row_order, "FITS Image Orientation"),
        ("BAYERPAT", _named_pattern(frame), "Sensor Bayer pattern"),
        ("XBAYROFF", 0 if info.bayer else None, "Bayer pattern X axis offset"),
        ("YBAYROFF", 0 if info.bayer else None, "Bayer pattern Y axis offset"),
        ("SWCREATE", "livestack simulate", "Software that created this file"),
    ]
    return [(keyword, value, comment) for keyword, value, comment in cards if value is not None]


def _encode_fits(scenario: Scenario, frame: Frame) -> bytes:
    """16-bit unsigned integers, as BZERO = 32768."""
    buffer = io.BytesIO()
    fits.PrimaryHDU(frame.data, fits.Header(header_cards(scenario, frame))).writeto(buffer)
    return buffer.getvalue()


def _encode_fits_fz(scenario: Scenario, frame: Frame) -> bytes:
    """Rice-compressed tiles in a binary table, as `fpack` makes them: lossless for integers."""
    buffer = io.BytesIO()
    image = fits.CompImageHDU(frame.data, fits.Header(header_cards(scenario, frame)), compression_type="RICE_1")
    fits.HDUList([fits.PrimaryHDU(), image]).writeto(buffer)
    return buffer.getvalue()


def _picture(frame: Frame) -> np.ndarray:
    """(H, W) uint16 of a mono frame, (H, W, 3) in R, G, B order of a mosaic."""
    if frame.info.bayer is None:
        return frame.data
    return np.asarray(cv2.cvtColor(frame.data, _OPENCV_BAYER[frame.info.bayer]))


def _encode_tiff(scenario: Scenario, frame: Frame) -> bytes:
    """16 bit, without any metadata that a stacker could use but the time."""
    assert frame.info.date_obs is not None
    buffer = io.BytesIO()
    photometric = "rgb" if frame.info.bayer else "minisblack"
    tifffile.imwrite(
        buffer, _picture(frame), photometric=photometric, metadata=None, software="livestack simulate",
        datetime=frame.info.date_obs.astimezone(UTC).replace(tzinfo=None),
    )  # fmt: skip
    return buffer.getvalue()


def _encode_png(scenario: Scenario, frame: Frame) -> bytes:
    """16 bit, without any metadata."""
    picture = _picture(frame)
    done, content = cv2.imencode(".png", picture[..., ::-1] if picture.ndim == 3 else picture)
    if not done:
        raise UsageError(f"format: OpenCV cannot write {frame.name} as png; choose fits.")
    return content.tobytes()


def _encode_xisf(scenario: Scenario, frame: Frame) -> bytes:
    """One uncompressed image with FITS keywords."""
    try:
        from xisf import XISF
    except ImportError as error:
        raise UsageError("format: xisf needs the package xisf, which is not there; pip install xisf.") from error
    keywords: dict[str, list[dict[str, Any]]] = {}
    for keyword, value, comment in header_cards(scenario, frame):
        text = f"'{value}'" if isinstance(value, str) else str(value)
        keywords[keyword] = [{"value": text, "comment": comment}]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "frame.xisf"
        XISF.write(str(path), frame.data[..., None], "livestack simulate", {"FITSKeywords": keywords})
        return path.read_bytes()


_ENCODERS = {
    "fits": _encode_fits,
    "fits.fz": _encode_fits_fz,
    "dng": encode_dng,
    "xisf": _encode_xisf,
    "tiff": _encode_tiff,
    "png": _encode_png,
}


def encode_frame(scenario: Scenario, frame: Frame, file_format: str) -> bytes:
    """The bytes of a file that holds this one frame.

    Raises
    ------
    UsageError : the format is unknown, holds more than one frame, or needs a package that is not there.
    """
    if file_format not in _ENCODERS:
        raise UsageError(f"format: found {file_format}, expected one of {', '.join(SINGLE_FILE_FORMATS)}.")
    return _ENCODERS[file_format](scenario, frame)
