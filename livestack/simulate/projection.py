"""From places in the sky to pixels and back: the simulator's own gnomonic projection, and how places are written.

A plane touches the sphere at the picture's middle (TAN; Calabretta & Greisen 2002, doi:10.1051/0004-6361:20021327). The
simulator has this of its own on purpose: what it draws tests the projections of the rest. Pixels are 0-based, integers
at pixel centres; the optics' distortion comes after and is in `simulate.light`.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass

import numpy as np

from livestack.base.errors import UsageError

ARCSEC = math.radians(1 / 3600)
_NEAREST_DEPTH = 0.02
"""Cosine of the angle from the middle below which a star is taken to lie behind the picture."""
_PLACE = "expected RA,DEC in degrees (192.72,41.12) or as hours and degrees (12:50:53,+41:07:14)"


def unit_vectors(ra_deg: np.ndarray | float, dec_deg: np.ndarray | float) -> np.ndarray:
    """(..., 3) float64 of places in degrees."""
    ra, dec = np.radians(np.asarray(ra_deg, np.float64)), np.radians(np.asarray(dec_deg, np.float64))
    return np.stack([np.cos(dec) * np.cos(ra), np.cos(dec) * np.sin(ra), np.sin(dec)], axis=-1)


def ra_dec(vectors: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Right ascension (0 to 360) and declination in degrees, (...,) each, of vectors (..., 3) of any length."""
    x, y, z = np.moveaxis(np.asarray(vectors, np.float64), -1, 0)
    return np.degrees(np.arctan2(y, x)) % 360.0, np.degrees(np.arctan2(z, np.hypot(x, y)))


def east_north(ra_deg: np.ndarray | float, dec_deg: np.ndarray | float) -> tuple[np.ndarray, np.ndarray]:
    """Unit vectors (..., 3) toward east and north at places in degrees; at a pole as the meridian `ra_deg` has them."""
    ra, dec = np.radians(np.asarray(ra_deg, np.float64)), np.radians(np.asarray(dec_deg, np.float64))
    east = np.stack([-np.sin(ra), np.cos(ra), np.zeros_like(ra)], axis=-1)
    north = np.stack([-np.sin(dec) * np.cos(ra), -np.sin(dec) * np.sin(ra), np.cos(dec)], axis=-1)
    return east, north


@dataclass(frozen=True)
class Tangent:
    """A picture's place in the sky.

    Attributes
    ----------
    ra_deg, dec_deg : of the point where the plane touches the sky.
    x, y : pixel of that point.
    scale_arcsec : arcseconds a pixel there.
    position_angle_deg : of the direction against the stored rows (up, drawn from the top): north through east.
    mirrored : False where the stored rows, drawn from the top, show the sky as we see it: east is left of north.
    """

    ra_deg: float
    dec_deg: float
    x: float
    y: float
    scale_arcsec: float
    position_angle_deg: float = 0.0
    mirrored: bool = False

    def _steps(self) -> np.ndarray:
        """(2, 2): east and north, in radians on the plane, of one pixel along a row and of one row down."""
        angle = math.radians(self.position_angle_deg)
        right = 1 if self.mirrored else -1
        steps = np.array([[right * math.cos(angle), -math.sin(angle)], [-right * math.sin(angle), -math.cos(angle)]])
        return steps * self.scale_arcsec * ARCSEC

    def to_pixels(self, vectors: np.ndarray) -> np.ndarray:
        """(N, 2) pixels of unit vectors (N, 3); NaN for what lies behind the picture."""
        east, north = east_north(self.ra_deg, self.dec_deg)
        depth = vectors @ unit_vectors(self.ra_deg, self.dec_deg)
        depth = np.where(depth > _NEAREST_DEPTH, depth, np.nan)
        plane = np.stack([vectors @ east / depth, vectors @ north / depth], axis=-1)
        return np.asarray(plane @ np.linalg.inv(self._steps()).T + (self.x, self.y))

    def to_vectors(self, xy: np.ndarray) -> np.ndarray:
        """(N, 3) unit vectors of pixels (N, 2)."""
        east, north = east_north(self.ra_deg, self.dec_deg)
        plane = (np.asarray(xy, np.float64) - (self.x, self.y)) @ self._steps().T
        out = unit_vectors(self.ra_deg, self.dec_deg) + plane[:, :1] * east + plane[:, 1:] * north
        return np.asarray(out / np.linalg.norm(out, axis=1, keepdims=True))

    def seen_through(self, transform: np.ndarray, x: float, y: float) -> Tangent:
        """The projection about pixel (x, y) of a frame: where that looks, how it is turned, how large it shows the sky.

        Parameters
        ----------
        transform : (3, 3) affine, pixels of the frame (x, y, 1) to those of this picture (x, y, 1).
        """
        frame = np.array([[x, y, 1], [x, y - 0.5, 1], [x, y + 0.5, 1], [x - 0.5, y, 1], [x + 0.5, y, 1]])
        middle, up, down, left, right = self.to_vectors((frame @ np.asarray(transform).T)[:, :2])
        ra, dec = (float(angle) for angle in ra_dec(middle))
        east, north = east_north(ra, dec)
        rise, along = up - down, right - left
        angle = math.degrees(math.atan2(rise @ east, rise @ north)) % 360
        area = (along @ east) * (rise @ north) - (along @ north) * (rise @ east)
        return Tangent(ra, dec, x, y, math.sqrt(abs(area)) / ARCSEC, angle, bool(area > 0))


def _sexagesimal(words: str) -> float:
    """The number that up to three parts say, such as -00:30:15.2; ValueError where they do not."""
    match = re.fullmatch(r"([+-]?)(\d+(?:\.\d*)?)(?:[:\s](\d+(?:\.\d*)?))?(?:[:\s](\d+(?:\.\d*)?))?", words.strip())
    if match is None:
        raise ValueError(words)
    whole, minutes, seconds = (float(part or 0) for part in match.groups()[1:])
    if minutes >= 60 or seconds >= 60:
        raise ValueError(words)
    return (-1 if match[1] == "-" else 1) * (whole + minutes / 60 + seconds / 3600)


def parse_place(words: str) -> tuple[float, float]:
    """Right ascension (0 to 360) and declination in degrees of "RA,DEC".

    Degrees, or sexagesimal with colons or blanks; right ascension is then in hours.

    Raises
    ------
    UsageError : those are no words for a place in the sky.
    """
    parts = words.split(",")
    try:
        ra, dec = (_sexagesimal(part) for part in parts)
    except ValueError as error:
        raise UsageError(f"at: found {words}; {_PLACE}.") from error
    if re.search(r"\d[:\s]+\d", parts[0].strip()):
        ra *= 15
    if not -90 <= dec <= 90 or not -360 <= ra <= 360:
        raise UsageError(f"at: found {words}; declinations go from -90 to 90, right ascensions to 24 h or 360 degrees.")
    return ra % 360.0, dec


def spell_place(ra_deg: float, dec_deg: float) -> tuple[str, str]:
    """The two as capture programs write them: ("12 50 53.00", "+41 07 14.0")."""
    hundredths = round(ra_deg % 360 * 24000) % 8640000
    hours, rest = divmod(hundredths, 360000)
    tenths = round(abs(dec_deg) * 36000)
    degrees, left = divmod(tenths, 36000)
    ra = f"{hours:02d} {rest // 6000:02d} {rest % 6000 / 100:05.2f}"
    return ra, f"{'-' if dec_deg < 0 else '+'}{degrees:02d} {left // 600:02d} {left % 600 / 10:04.1f}"


def name_place(ra_deg: float, dec_deg: float) -> str:
    """What to call a field that was given no name: J1250+4107."""
    ra, dec = spell_place(ra_deg, dec_deg)
    return f"J{ra[:2]}{ra[3:5]}{dec[:3]}{dec[4:6]}"
