"""The Moon's altitude against astropy's ephemeris, over years, from both hemispheres."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import numpy as np
from astropy import units as u
from astropy.coordinates import AltAz, EarthLocation, get_body
from astropy.time import Time
from astropy.utils import iers

from livestack.ephemeris.moon import moon_altitude_deg


def test_altitude_agrees_with_a_long_ephemeris() -> None:
    times = [datetime(2020, 1, 1, tzinfo=UTC) + timedelta(hours=401.7 * k) for k in range(40)]
    for lat, lon in ((48.1, 11.6), (-33.9, -70.5)):
        place = EarthLocation(lat=lat * u.deg, lon=lon * u.deg, height=0 * u.m)
        with iers.conf.set_temp("auto_download", False), iers.conf.set_temp("iers_degraded_accuracy", "ignore"):
            moment = Time(times)
            truth = get_body("moon", moment, place).transform_to(AltAz(obstime=moment, location=place)).alt.deg
        found = [moon_altitude_deg(time, lat, lon) for time in times]
        assert np.abs(np.array(found) - truth).max() < 0.6
        assert np.std(truth) > 20  # it was high and low
