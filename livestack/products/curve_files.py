"""What is written of one star's light curve: all of its lines, and the files that databases and other programs take.

AAVSO: Extended File Format 1.2 (https://www.aavso.org/aavso-extended-file-format), differential magnitudes against the
ensemble of all other stars. EXOTIC (Zellem et al. 2020, doi:10.1088/1538-3873/ab7ee7): time, flux, error, airmass, as
it reads pre-reduced light curves.
"""

from __future__ import annotations

import csv
import io
import json
import math
import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from livestack.base.durable import write_atomically
from livestack.base.errors import UsageError
from livestack.base.version import version
from livestack.photometry.transit import POSSIBLE_SIGMA, Transit
from livestack.products.light_curves import CURVE_COLUMNS, StarCurve, cell

AAVSO_BANDS = (
    "U", "B", "V", "R", "I", "J", "H", "K", "TG", "TB", "TR", "CV", "CR", "SZ", "SU", "SG", "SR", "SI",
    "STU", "STV", "STB", "STY", "STHBW", "STHBN", "MA", "MB", "MI", "ZS", "Y", "HA", "HAC", "CBB", "O",
)  # fmt: skip
"""Codes of filters that the format knows; CV is no filter, or a clear one, compared with V."""
ADDED_COLUMNS = ("hours", "mag_relative")
PER_MAG = 0.4 * math.log(10)


def mean_mag(curve: StarCurve) -> float:
    """The weighed mean of the good measurements, mag; NaN without any."""
    good = curve.good
    return float(np.average(curve.mag[good], weights=curve.mag_err[good] ** -2.0)) if good.any() else math.nan


def hours_since_start(curve: StarCurve) -> np.ndarray:
    """(t,) float64, hours since the middle of the first dated exposure."""
    dated = curve.jd[np.isfinite(curve.jd)]
    return np.asarray((curve.jd - dated.min()) * 24) if len(dated) else np.full(len(curve.jd), np.nan)


def relative_flux(curve: StarCurve) -> tuple[np.ndarray, np.ndarray]:
    """Flux and its error relative to the mean, (t,) float64 each: brighter is larger."""
    flux = 10 ** (-0.4 * (curve.mag - mean_mag(curve)))
    return flux, PER_MAG * curve.mag_err * flux


def write_curve_csv(path: Path, curve: StarCurve) -> None:
    """All lines of the star, flagged ones too, with hours since the start and magnitude less the mean of the good."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow((*CURVE_COLUMNS, *ADDED_COLUMNS))
    hours, relative = hours_since_start(curve), curve.mag - mean_mag(curve)
    for i, file in enumerate(curve.files):
        writer.writerow((
            curve.name, file, int(curve.index[i]), cell(curve.jd[i], 8), cell(curve.bjd[i], 8),
            cell(curve.airmass[i], 4), cell(curve.flux[i], 1), cell(curve.mag[i], 5), cell(curve.mag_err[i], 5),
            int(curve.flag[i]), cell(hours[i], 5), cell(relative[i], 5),
        ))  # fmt: skip
    write_atomically(path, text.getvalue().encode())


def check_aavso(name: str, band: str | None, obscode: str | None) -> None:
    """Refuse words that the format cannot hold, before anything is written.

    Raises
    ------
    UsageError : an unknown code of a filter, or a name or observer's code that the format does not take.
    """
    if band is not None and band.upper() not in AAVSO_BANDS:
        raise UsageError(f"--band {band}: is no filter that the AAVSO knows; expected one of {', '.join(AAVSO_BANDS)}.")
    if obscode is not None and not re.fullmatch(r"[A-Za-z0-9]{2,8}", obscode):
        raise UsageError(f"--obscode {obscode}: is no observer's code; expected letters and digits.")
    if "," in name or len(name) > 30:
        raise UsageError(f"--name {name}: the AAVSO takes names of up to 30 characters without a comma; shorten it.")


def write_aavso(path: Path, curve: StarCurve, name: str, band: str, obscode: str | None) -> None:
    """Good measurements in the AAVSO's Extended File Format, with the middle of each exposure as JD (UTC).

    The format has no barycentric dates; what it wants of those who are unsure is JD. Magnitudes are differential
    (`DIF`): against all other stars of the field at once, whose own brightness is not known.
    """
    lines = [
        "#TYPE=EXTENDED", f"#OBSCODE={obscode or ''}", f"#SOFTWARE=livestack {version()}", "#DELIM=,", "#DATE=JD",
        "#OBSTYPE=CCD", "#NAME,DATE,MAG,MERR,FILT,TRANS,MTYPE,CNAME,CMAG,KNAME,KMAG,AMASS,GROUP,CHART,NOTES",
    ]  # fmt: skip
    mean = mean_mag(curve)
    for i in np.flatnonzero(curve.good):
        airmass = f"{curve.airmass[i]:.3f}" if math.isfinite(curve.airmass[i]) else "na"
        lines.append(
            f"{name},{curve.jd[i]:.6f},{curve.mag[i] - mean:.4f},{min(curve.mag_err[i], 9.9999):.4f},{band},NO,DIF,"
            f"ENSEMBLE,na,na,na,{airmass},na,na,differential to the night's mean"
        )
    write_atomically(path, ("\n".join(lines) + "\n").encode("ascii", "replace"))


def write_exotic(path: Path, curve: StarCurve) -> str | None:
    """Good measurements as EXOTIC reads them; what is missing, as a sentence, where that cannot be.

    Times are BJD (TDB) where all are known, else JD (UTC), which EXOTIC turns into them; the heading says which.
    """
    good = curve.good
    if not np.isfinite(curve.airmass[good]).all():
        return "No file for EXOTIC was written: it wants airmass, which needs site and coordinates in the headers."
    barycentric = bool(np.isfinite(curve.bjd[good]).all())
    times = curve.bjd if barycentric else curve.jd
    flux, error = relative_flux(curve)
    lines = [f"#{'BJD_TDB' if barycentric else 'JD_UTC'},Norm_Flux,Norm_Err,AM"]
    lines += [f"{times[i]:.8f},{flux[i]:.7f},{error[i]:.7f},{curve.airmass[i]:.5f}" for i in np.flatnonzero(good)]
    write_atomically(path, ("\n".join(lines) + "\n").encode())
    return None if barycentric else "The times for EXOTIC are JD_UTC, for barycentric ones are not known; tell it so."


def write_transit(path: Path, transit: Transit, clock: str) -> None:
    """What was fitted, as JSON; `clock` names the times: BJD_TDB or JD_UTC."""
    hours = {"duration_h": transit.duration, "ingress_h": transit.ingress}
    words: dict[str, object] = {
        "model": transit.name,
        "clock": clock,
        "mid": transit.mid.value,
        "mid_error": transit.mid.error,
        "depth": transit.depth.value,
        "depth_error": transit.depth.error,
        **{name: value.value * 24 for name, value in hours.items()},
        **{f"{name}_error": value.error * 24 for name, value in hours.items()},
        **{name: value.value for name, value in transit.more.items()},
        **{f"{name}_error": value.error for name, value in transit.more.items()},
        "sigma": transit.sigma,
        "found": transit.found,
        "whole": transit.whole,
        "points": transit.n,
        "points_left_out": transit.n_left_out,
        "airmass_in_baseline": transit.airmass,
        "scatter": transit.scatter,
        "lasting_noise": transit.lasting,
        "memory_h": transit.memory * 24,
    }
    write_atomically(path, (json.dumps(words, indent=2, allow_nan=False) + "\n").encode())


def say_transit(transit: Transit | None, clock: str) -> Sequence[str]:
    """What was found, in a sentence or two."""
    if transit is None:
        return ("No transit was fitted: there are too few good points, or nothing is darker than the rest.",)
    mid, depth, length = transit.mid, transit.depth, transit.duration
    numbers = (
        f"mid {mid.value:.5f} +- {mid.error:.5f} {clock} (+- {mid.error * 1440:.1f} min), "
        f"depth {1e3 * depth.value:.2f} +- {1e3 * depth.error:.2f} parts per thousand, "
        f"duration (T14) {24 * length.value:.2f} +- {24 * length.error:.2f} h"
    )
    if not transit.found and transit.sigma >= POSSIBLE_SIGMA:
        return (f"A transit is possible, but at {transit.sigma:.1f} sigma not certain: {numbers}; {transit.name}.",)
    if not transit.found:
        return (f"No transit is claimed: the best dip, at {transit.sigma:.1f} sigma, may be chance ({numbers}).",)
    words = [f"Transit at {transit.sigma:.0f} sigma: {numbers}; {transit.name}."]
    if not transit.whole:
        words.append("Only a part of it was seen: frames before or after are missing; mid and duration are unsure.")
    if transit.lasting > 0.3 * transit.scatter:
        words.append(
            f"Noise that lasts {transit.memory * 1440:.0f} min is {1e3 * transit.lasting:.1f} parts per thousand; "
            "it is in the errors."
        )
    return words
