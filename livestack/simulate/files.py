"""Simulated frames as the bytes of the files that cameras write.

Written with astropy, tifffile and OpenCV directly, never with `livestack.formats`: a reader must not be tested
against its own writer.
"""

from __future__ import annotations

import io
from datetime import UTC

import numpy as np
from astropy.io import fits

from livestack.frame import Frame, FrameKind
from livestack.simulate.scenario import Scenario

SINGLE_FILE_FORMATS = ("fits",)

_IMAGETYP = {
    FrameKind.LIGHT: "Light Frame",
    FrameKind.BIAS: "Bias Frame",
    FrameKind.DARK: "Dark Frame",
    FrameKind.FLAT: "Flat Frame",
    FrameKind.DARK_FLAT: "Dark Flat",
}


def iso_time(frame: Frame) -> str:
    """DATE-OBS: UTC without a zone, to the millisecond."""
    assert frame.info.date_obs is not None
    return frame.info.date_obs.astimezone(UTC).replace(tzinfo=None).isoformat(timespec="milliseconds")


def named_pattern(frame: Frame) -> str | None:
    """What BAYERPAT says: the colours of the upright picture, so of the last rows where the file is bottom-up."""
    pattern = frame.info.bayer
    if pattern and frame.info.bottom_up and frame.info.height % 2 == 0:
        return pattern[2:] + pattern[:2]
    return pattern


def fits_header(scenario: Scenario, frame: Frame) -> fits.Header:
    """The cards that a capture program would write."""
    info = frame.info
    cards: list[tuple[str, str | float | int | None, str]] = [
        ("IMAGETYP", _IMAGETYP[info.kind], "Type of exposure"),
        ("EXPTIME", info.exposure_s, "[s] Exposure duration"),
        ("DATE-OBS", iso_time(frame), "Time of observation (UTC)"),
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
        ("ROWORDER", scenario.row_order, "FITS Image Orientation"),
        ("BAYERPAT", named_pattern(frame), "Sensor Bayer pattern"),
        ("XBAYROFF", 0 if info.bayer else None, "Bayer pattern X axis offset"),
        ("YBAYROFF", 0 if info.bayer else None, "Bayer pattern Y axis offset"),
        ("SWCREATE", "livestack simulate", "Software that created this file"),
    ]
    return fits.Header([card for card in cards if card[1] is not None])


def _encode_fits(scenario: Scenario, frame: Frame) -> bytes:
    """16-bit unsigned integers, as BZERO = 32768."""
    buffer = io.BytesIO()
    fits.PrimaryHDU(np.asarray(frame.data), fits_header(scenario, frame)).writeto(buffer)
    return buffer.getvalue()


def encode_frame(scenario: Scenario, frame: Frame, file_format: str) -> bytes:
    """The bytes of a file of one frame."""
    return _encode_fits(scenario, frame)
