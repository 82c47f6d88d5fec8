"""Where the Moon stands, to a fraction of a degree: enough to say that it rises.

Low-precision series of the Astronomical Almanac (page D22; Meeus, Astronomical Algorithms, chapter 47, has the long
ones), good to 0.3 degrees; with its parallax of a degree, without refraction.
"""

from __future__ import annotations

import math
from datetime import UTC, datetime

J2000 = datetime(2000, 1, 1, 12, tzinfo=UTC)


def moon_altitude_deg(time: datetime, lat_deg: float, lon_deg: float) -> float:
    """Altitude of the Moon's centre above the horizon of a place, degrees; north and east positive.

    Parameters
    ----------
    time : timezone-aware; UTC is taken for UT1 and TT alike, which moves the Moon by half a minute of arc.
    """
    days = (time - J2000).total_seconds() / 86400.0
    t = days / 36525.0

    def sine(*term: float) -> float:
        amplitude, phase, rate = term
        return amplitude * math.sin(math.radians(phase + rate * t))

    longitude = math.radians(
        218.32 + 481267.881 * t
        + sine(6.29, 135.0, 477198.87) + sine(-1.27, 259.3, -413335.36) + sine(0.66, 235.7, 890534.22)
        + sine(0.21, 269.9, 954397.74) + sine(-0.19, 357.5, 35999.05) + sine(-0.11, 186.5, 966404.03)
    )  # fmt: skip
    latitude = math.radians(
        sine(5.13, 93.3, 483202.02) + sine(0.28, 228.2, 960400.89) + sine(-0.28, 318.3, 6003.15)
        + sine(-0.17, 217.6, -407332.21)
    )  # fmt: skip
    parallax = 0.9508 + 0.0518 * math.cos(math.radians(135.0 + 477198.87 * t))
    x = math.cos(latitude) * math.cos(longitude)
    y = 0.9175 * math.cos(latitude) * math.sin(longitude) - 0.3978 * math.sin(latitude)
    z = 0.3978 * math.cos(latitude) * math.sin(longitude) + 0.9175 * math.sin(latitude)
    ra, dec = math.atan2(y, x), math.asin(z)
    sidereal = math.radians(280.46062 + 360.98564737 * days + lon_deg)
    lat = math.radians(lat_deg)
    sine_altitude = math.sin(lat) * math.sin(dec) + math.cos(lat) * math.cos(dec) * math.cos(sidereal - ra)
    altitude = math.degrees(math.asin(max(-1.0, min(1.0, sine_altitude))))
    return altitude - parallax * math.cos(math.radians(altitude))
