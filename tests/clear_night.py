"""A simulated night under the real sky whose air is known: each frame through as much air as its time and site say."""

from __future__ import annotations

import math
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
from astropy import units as u
from astropy.coordinates import AltAz, EarthLocation, SkyCoord
from astropy.io import fits
from astropy.time import Time

from livestack.simulate import conditions_of, named_scenario, simulate_frame
from livestack.simulate.files import encode_frame

RA, DEC, SCALE, ZERO, EACH_AIRMASS = 83.8, -1.2, 15.0, 16.0, 0.25
LAT, LON = 48.0, 11.0
START = datetime(2026, 1, 10, 19, 0, tzinfo=UTC)


@dataclass(frozen=True)
class Truth:
    """Of each frame: name, air mass, zero point with air and jitter, sky in ADU a second, exposure."""

    name: str
    air: float
    zero_mag: float
    sky_adu_s: float
    exposure_s: float


def make_clear_night(
    folder: Path, frames: int = 12, hours: float = 5.0, size: tuple[int, int] = (400, 300)
) -> list[Truth]:
    """Write the frames; every third is half as long. Their headers tell site, place and black level."""
    folder.mkdir(parents=True)
    site = EarthLocation.from_geodetic(LON * u.deg, LAT * u.deg, 500 * u.m)
    told = []
    for number in range(frames):
        exposure_s = 10.0 if number % 3 == 2 else 20.0
        when = START + timedelta(hours=hours * number / (frames - 1))
        middle = Time(when + timedelta(seconds=exposure_s / 2))
        altitude = SkyCoord(RA, DEC, unit="deg").transform_to(AltAz(obstime=middle, location=site)).alt
        air = float(1.0 / np.cos(math.pi / 2 - altitude.rad))
        scenario = named_scenario(
            "sky", frames=frames, width=size[0], height=size[1], ra_deg=RA, dec_deg=DEC, pixel_um=3.76,
            focal_mm=206.264806 * 3.76 / SCALE, zero_point_mag=ZERO, extinction_mag=EACH_AIRMASS * air,
            exposure_s=exposure_s, faintest_mag=11.5, sky_mag_arcsec2=19.5 - 0.1 * number, pedestal_adu=500.0,
        )  # fmt: skip
        shown = simulate_frame(scenario, number)
        path = folder / f"sky_{number:03d}.fits"
        path.write_bytes(encode_frame(scenario, shown.frame, "fits"))
        with fits.open(path, mode="update") as hdus:
            cards = {"DATE-OBS": when.strftime("%Y-%m-%dT%H:%M:%S"), "SITELAT": LAT, "SITELONG": LON, "PEDESTAL": -500}
            hdus[0].header.update({**cards, "OBJECT": "clear"})
        seen = conditions_of(scenario, number)
        zero = scenario.clear_zero_point_mag + 2.5 * math.log10(seen.transparency)
        told.append(Truth(path.name, air, zero, seen.sky_e / scenario.gain_e_adu / exposure_s, exposure_s))
    return told
