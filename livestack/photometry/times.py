"""When and through how much air a star was seen: barycentric times, air mass, and the twinkling that nobody escapes.

A light curve is compared with others in BJD_TDB, the time at which the light would have passed the centre of mass of
the solar system, on a clock that no leap second stops. Both this and the air mass need the observer's place, which
capture programs write in many spellings (`find_site`).

Sources: Eastman, Siverd & Gaudi 2010 (doi:10.1086/655938) for times; Young 1994 (doi:10.1364/AO.33.001108) for the air
mass; Young 1967 (doi:10.1086/110303) and Osborn et al. 2015 (doi:10.1093/mnras/stv1438) for scintillation. Earth and
clocks come from astropy with what it has on board: nothing is fetched. astropy's coordinates load only when asked for.
"""

from __future__ import annotations

import math
import re
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import numpy as np

from livestack.base.frame import FrameInfo
from livestack.formats.headers import sexagesimal

_SPELLINGS = (
    ("SITELAT", "SITELONG", "SITEELEV"),
    ("OBSGEO-B", "OBSGEO-L", "OBSGEO-H"),
    ("LAT-OBS", "LONG-OBS", "ALT-OBS"),
    ("OBS-LAT", "OBS-LONG", "OBS-ELEV"),
    ("GEO_LAT", "GEO_LONG", "GEO_ELEV"),
    ("LATITUDE", "LONGITUD", "SITEELEV"),
)
_HEIGHTS_M = (-500.0, 9000.0)
_SECONDS_A_DAY = 86400.0
UNIX_EPOCH_JD = 2440587.5

SCINTILLATION_SCALE_M = 8000.0
"""Height over which the turbulent air thins to 1/e, as Young took it."""
SCINTILLATION_FACTOR = 1.5
"""Osborn's C_Y: real sites twinkle by this much more than Young's formula says (median of eleven observatories)."""
MMAG = 2500.0 / math.log(10.0)
"""Thousandths of a magnitude in a relative change of light, 1085.7, for small changes."""


@dataclass(frozen=True)
class Site:
    """Where the telescope stands: geodetic degrees (north and east positive), metres above sea; 0 m if not told."""

    lat_deg: float
    lon_deg: float
    height_m: float = 0.0


def find_site(cards: Mapping[str, Any]) -> Site | None:
    """The place that header cards tell; the first spelling that makes sense counts.

    Degrees are plain numbers or sexagesimal text, east and north positive unless a letter says otherwise. Latitude and
    longitude zero together mean that nobody set them; what lies outside of the globe is no place.

    Parameters
    ----------
    cards : values by keyword; a `fits.Header` will do.
    """
    for lat_key, lon_key, height_key in _SPELLINGS:
        lat, lon = _angle(cards.get(lat_key), "NS"), _angle(cards.get(lon_key), "EW")
        if lat is None or lon is None or not (abs(lat) <= 90.0 and -180.0 <= lon <= 360.0) or lat == lon == 0.0:
            continue
        return Site(lat, lon - 360.0 if lon > 180.0 else lon, _height(cards.get(height_key)))
    return _geocentric(*(_angle(cards.get(f"OBSGEO-{axis}"), "") for axis in "XYZ"))


def site_of(info: FrameInfo) -> Site | None:
    """The place that a frame's header tells."""
    return find_site({keyword: value for keyword, value, _ in info.cards})


def bjd_tdb(jd_utc: np.ndarray, ra_deg: np.ndarray, dec_deg: np.ndarray, site: Site | None) -> np.ndarray:
    """When the light would have passed the barycentre of the solar system.

    The arguments are broadcast against each other: (t,) with two numbers for one star, (t,) with (n, 1) for n stars.
    Stars are taken to be infinitely far and at rest, ICRS.

    Parameters
    ----------
    jd_utc : middle of the exposures, UTC; NaN gives NaN.
    site : None for the centre of the Earth, from where no light is more than 21 ms early or late.

    Returns
    -------
    Julian dates in TDB, float64: good to about 40 microseconds, the step of a Julian date in 64 bits.
    """
    jd = np.asarray(jd_utc, dtype=np.float64)
    place, tdb_ahead_days = _observer(jd, site)
    star = _unit(np.asarray(ra_deg, dtype=np.float64), np.asarray(dec_deg, dtype=np.float64))
    return np.asarray(jd + (tdb_ahead_days + sum(p * s for p, s in zip(place, star, strict=True))))


def airmass(jd_utc: np.ndarray, ra_deg: np.ndarray, dec_deg: np.ndarray, site: Site) -> np.ndarray:
    """Air on the way to a star, zenith = 1, from its true altitude, unrefracted, by Young 1994; NaN below the horizon.

    Broadcasts like `bjd_tdb`. Good to 0.1 % down to 10 degrees; the air itself differs from the model by more.
    """
    zenith = _zenith(np.asarray(jd_utc, dtype=np.float64), site)
    star = _unit(np.asarray(ra_deg, dtype=np.float64), np.asarray(dec_deg, dtype=np.float64))
    return airmass_at(np.asarray(sum(z * s for z, s in zip(zenith, star, strict=True))))


def airmass_at(cos_zenith: np.ndarray) -> np.ndarray:
    """Young's air mass for the cosine of the true zenith distance; NaN where that is negative."""
    c = np.asarray(cos_zenith, dtype=np.float64)
    c = np.where(c >= 0.0, c, np.nan)
    return np.asarray(
        (1.002432 * c**2 + 0.148386 * c + 0.0096467) / (c**3 + 0.149864 * c**2 + 0.0102963 * c + 0.000303978)
    )


def scintillation_mmag(airmass: np.ndarray, aperture_mm: float, exposure_s: float, height_m: float) -> np.ndarray:
    """Scatter of a star's light that the turbulent air alone causes in one exposure, mmag.

    Young's law with Osborn's factor (their equation 7): relative variance 1e-5 C_Y^2 D^(-4/3) t^-1 X^3 exp(-2 h / H),
    D in metres, t in seconds, X the air mass, h the telescope's height, H 8000 m. It holds for exposures longer than
    the shadows need to cross the aperture (a fraction of a second), is the same for bright stars and faint ones, and is
    a median: a night may be half or twice as bad.

    Raises
    ------
    ValueError
        Aperture or exposure is not positive.
    """
    if not (aperture_mm > 0 and exposure_s > 0):
        raise ValueError(
            f"scintillation: aperture {aperture_mm:g} mm and exposure {exposure_s:g} s must both be greater than zero."
        )
    air = np.asarray(airmass, dtype=np.float64)
    thin = math.exp(-height_m / SCINTILLATION_SCALE_M)
    still = math.sqrt(1e-5 / exposure_s) * (aperture_mm / 1000.0) ** (-2.0 / 3.0)
    return np.asarray(MMAG * SCINTILLATION_FACTOR * still * thin * air**1.5)


def jd_of(date_obs: datetime | None, exposure_s: float | None) -> float:
    """Julian date, UTC, of the middle of an exposure that began at `date_obs`; NaN without a date."""
    if date_obs is None:
        return math.nan
    return UNIX_EPOCH_JD + (date_obs.astimezone(UTC).timestamp() + 0.5 * (exposure_s or 0.0)) / _SECONDS_A_DAY


def posix_seconds(jd_utc: np.ndarray) -> np.ndarray:
    """Julian dates as seconds since 1970, for charts and clocks."""
    return (np.asarray(jd_utc, dtype=np.float64) - UNIX_EPOCH_JD) * _SECONDS_A_DAY


def _angle(value: object, letters: str) -> float | None:
    """Degrees of a card; `letters` are the directions that may stand before or after it, the second one negative."""
    if isinstance(value, bool) or value is None:
        return None
    if isinstance(value, int | float):
        return float(value) if math.isfinite(value) else None
    text = re.sub(r"\s*(?:deg(?:rees)?|°)\s*(?=[NSEW]?\Z)", "", str(value).strip())
    letter = ""
    if letters:
        found = re.fullmatch(rf"([{letters}]?)\s*(.*?)(\s*)([{letters}]?)", text, re.DOTALL)
        if found is None:
            return None
        before, body, gap, after = found.groups()
        if after == "S" and not gap and re.search("[dm]", body, re.IGNORECASE):  # 50D03M12S: seconds, not south
            body, after = body + after, ""
        letter, text = before or after, body
    degrees = _number(text)
    if degrees is None:
        degrees = sexagesimal(text)
    if degrees is None or not letter:
        return degrees
    return -abs(degrees) if letter == letters[1] else abs(degrees)


def _number(text: str) -> float | None:
    if not re.fullmatch(r"[+-]?(\d+([.,]\d*)?|[.,]\d+)([Ee][+-]?\d{1,3})?", text):
        return None
    number = float(text.replace(",", "."))
    return number if math.isfinite(number) else None


def _height(value: object) -> float:
    metres = _angle(re.sub(r"\s*m(et(er|re)s?)?\s*\Z", "", value) if isinstance(value, str) else value, "")
    return metres if metres is not None and _HEIGHTS_M[0] <= metres <= _HEIGHTS_M[1] else 0.0


def _geocentric(x: float | None, y: float | None, z: float | None) -> Site | None:
    """A place given as metres from the centre of the Earth; None where that is not near its surface."""
    if x is None or y is None or z is None or not 6.34e6 < math.hypot(x, y, z) < 6.40e6:
        return None
    from astropy.coordinates import EarthLocation

    lon, lat, height = EarthLocation.from_geocentric(x, y, z, unit="m").to_geodetic()
    found = float(height.value)
    return Site(float(lat.deg), float(lon.deg), found if _HEIGHTS_M[0] <= found <= _HEIGHTS_M[1] else 0.0)


def _unit(ra_deg: np.ndarray, dec_deg: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    ra, dec = np.radians(ra_deg), np.radians(dec_deg)
    return np.cos(dec) * np.cos(ra), np.cos(dec) * np.sin(ra), np.sin(dec)


def _observer(jd_utc: np.ndarray, site: Site | None) -> tuple[np.ndarray, np.ndarray]:
    """Where the observer is, (3, ...) light-days from the barycentre in ICRS axes, and TDB - UTC in days."""

    def ask(time: Any) -> np.ndarray:
        from astropy import units as u
        from astropy.coordinates import get_body_barycentric

        light_day = u.def_unit("light_day", 299792.458 * _SECONDS_A_DAY * u.km)
        place = get_body_barycentric("earth", time, ephemeris="builtin").xyz.to_value(light_day)
        if site is not None:
            place = place + location(site).get_gcrs_posvel(time)[0].xyz.to_value(light_day)
        ahead = (time.tdb.jd1 - time.utc.jd1) + (time.tdb.jd2 - time.utc.jd2)
        return np.concatenate([place, ahead[None]])

    answer = each_moment(jd_utc, ask, 4)
    return answer[:3], answer[3]


def _zenith(jd_utc: np.ndarray, site: Site) -> np.ndarray:
    """Direction of the plumb line's upper end, (3, ...) in ICRS axes."""
    lat, lon = math.radians(site.lat_deg), math.radians(site.lon_deg)
    up = (math.cos(lat) * math.cos(lon), math.cos(lat) * math.sin(lon), math.sin(lat))

    def ask(time: Any) -> np.ndarray:
        from astropy.coordinates import EarthLocation

        where = EarthLocation.from_geocentric(*(6.371e6 * each for each in up), unit="m")
        xyz = where.get_gcrs_posvel(time)[0].xyz.value
        return np.asarray(xyz / np.linalg.norm(xyz, axis=0))

    return each_moment(jd_utc, ask, 3)


def location(site: Site) -> Any:
    """The same as astropy's `EarthLocation`."""
    from astropy.coordinates import EarthLocation

    return EarthLocation.from_geodetic(site.lon_deg, site.lat_deg, site.height_m)


def each_moment(jd_utc: np.ndarray, ask: Any, n: int) -> np.ndarray:
    """(n, ...) of what `ask` says of the finite ones of (...) moments; NaN for the others.

    Tables of the Earth's rotation end at some day; what comes later is off by metres, microseconds for us, and no
    reason for a warning or for a download in a dark field.
    """
    answer = np.full((n, *jd_utc.shape), np.nan)
    known = np.isfinite(jd_utc)
    if known.any():
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            from astropy.utils import iers

            with (
                iers.conf.set_temp("auto_download", False),
                iers.conf.set_temp("auto_max_age", None),
                iers.conf.set_temp("iers_degraded_accuracy", "ignore"),
            ):
                from astropy.time import Time

                whole = np.floor(jd_utc[known])
                answer[:, known] = ask(Time(whole, jd_utc[known] - whole, format="jd", scale="utc"))
    return answer
