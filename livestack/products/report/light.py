"""The chapter on the light of stars: how well it was measured, and which of them vary."""

from __future__ import annotations

import math
from dataclasses import dataclass
from html import escape
from pathlib import Path

import numpy as np
from astropy.io import fits

from livestack.photometry.times import find_site, posix_seconds, scintillation_mmag
from livestack.photometry.variability import VARIES
from livestack.products.light_curves import CURVES, CURVES_FITS, STARS, StarTable, read_curve, read_stars
from livestack.products.report.charts import Series, chart
from livestack.products.report.page import table

MOST_CURVES = 6
HOLDS = 1.25
"""A star whose scatter is within so many times what is expected holds."""
BIN_MAG = 1.0
ENOUGH = 8
"""Good measurements that a star needs to be counted."""


def light_chapter(folder: Path) -> str:
    """Scatter against brightness, the stars that vary, and how well the others hold; "" without light curves.

    Parameters
    ----------
    folder : of the group.
    """
    if not (folder / STARS).is_file():
        return ""
    stars = read_stars(folder)
    counted = (stars.n >= ENOUGH) & np.isfinite(stars.rms_mmag) & np.isfinite(stars.expected_mmag)
    counted &= (stars.rms_mmag > 0) & (stars.expected_mmag > 0)
    if counted.sum() < 3:
        return ""
    brightest = counted & (stars.mag <= np.quantile(stars.mag[counted], 0.1))
    holds = stars.rms_mmag[counted] <= HOLDS * stars.expected_mmag[counted]
    finest = float(np.median(stars.rms_mmag[brightest]))
    air = _scintillation(stars, int(np.flatnonzero(counted)[0]))
    return (
        "<h2 id=light>Light of the stars</h2>"
        f"<p>{int(counted.sum())} stars were measured in each frame and compared with each other. The brightest are "
        f"good to {finest:.1f} thousandths of a magnitude a frame; {100 * float(holds.mean()):.0f} % of all hold as "
        "still as photons, sky and camera allow.</p>"
        + _scatter(stars, counted, air)
        + ("" if air is None else f"<p>Scintillation, {air.words}.</p>")
        + (
            '<p class="soft">How much the air makes stars twinkle is not drawn: no header names the aperture of the '
            "telescope (APTDIA, mm) and the exposure.</p>"
            if air is None
            else ""
        )
        + _bins(stars, counted)
        + _varying(stars, folder)
    )


def _scatter(stars: StarTable, counted: np.ndarray, air: _Air | None) -> str:
    order = np.flatnonzero(counted)[np.argsort(stars.mag[counted])]
    faintest = float(stars.mag[order].max())
    x = faintest - stars.mag[order]  # bright to the right, as light grows
    drawn = [
        Series(list(x), list(np.log10(stars.rms_mmag[order])), "measured", "dots", "a"),
        Series(list(x), list(np.log10(stars.expected_mmag[order])), "photons, sky, camera", "line", "b"),
    ]
    if air is not None:
        ends = [float(x.min()), float(x.max())]
        drawn.append(Series(ends, [math.log10(air.mmag)] * 2, "scintillation of the air", "line", "bad"))
    return chart(drawn, "scatter a frame, log10 of mmag", "magnitudes brighter than the faintest")


@dataclass(frozen=True)
class _Air:
    """What the air does to each star, mmag, and by what that is known, in words."""

    mmag: float
    words: str


def _scintillation(stars: StarTable, row: int) -> _Air | None:
    """By Young's law, from the header of the stack; None where that does not name aperture and exposure."""
    path = stars.folder / "stack.fits"
    if not path.is_file():
        return None
    header = fits.getheader(path)
    aperture, exposure = (_positive(header.get(key)) for key in ("APTDIA", "EXPTIME"))
    if aperture is None or exposure is None:
        return None
    site = find_site(header)
    airmass = read_curve(stars, row).airmass if _has_curves(stars.folder) else np.empty(0)
    known = airmass[np.isfinite(airmass)]
    typical = float(np.median(known)) if len(known) else 1.0
    height = site.height_m if site is not None else 0.0
    mmag = float(scintillation_mmag(np.array(typical), aperture, exposure, height))
    said = f"at air mass {typical:.2f}" if len(known) else "in the zenith, for the air mass is not known"
    where = f"{height:.0f} m above the sea" if site is not None else "at the sea, for the site is not known"
    return _Air(mmag, f"by Young's law {mmag:.2f} mmag for {aperture:.0f} mm and {exposure:g} s, {said}, {where}")


def _positive(value: object) -> float | None:
    return float(value) if isinstance(value, int | float) and math.isfinite(value) and value > 0 else None


def _has_curves(folder: Path) -> bool:
    return (folder / CURVES).is_file() or (folder / CURVES_FITS).is_file()


def _bins(stars: StarTable, counted: np.ndarray) -> str:
    """How many stars hold, by brightness: the check of the stars that others are compared with."""
    faintest = float(stars.mag[counted].max())
    step = np.floor((faintest - stars.mag[counted]) / BIN_MAG).astype(int)
    ratio = stars.rms_mmag[counted] / stars.expected_mmag[counted]
    rows = []
    for number in sorted(set(step.tolist()), reverse=True):
        its = ratio[step == number]
        rms = float(np.median(stars.rms_mmag[counted][step == number]))
        share = f"{100 * float(np.mean(its <= HOLDS)):.0f} %"
        words = f"{number * BIN_MAG:.0f} to {(number + 1) * BIN_MAG:.0f}"
        rows.append((words, str(len(its)), f"{rms:.1f} mmag", f"{float(np.median(its)):.2f}", share))
    head = ("magnitudes above the faintest", "stars", "scatter", "of what is expected", "hold")
    return table(head, rows)


def _varying(stars: StarTable, folder: Path) -> str:
    found = [row for row in stars.most_variable(MOST_CURVES) if stars.variability[row] >= VARIES]
    if not found:
        return '<p class="soft">No star varied beyond doubt.</p>'
    drawn = []
    for row in found:
        ratio = stars.rms_mmag[row] / stars.expected_mmag[row]
        drawn.append(
            f"<h3>Star {escape(stars.names[row])}</h3><p>At x {stars.x[row]:.0f}, y {stars.y[row]:.0f}: varies by "
            f"{stars.rms_mmag[row]:.0f} mmag ({ratio:.1f} times what is expected), sure by "
            f"{stars.variability[row]:.0f} sigma.</p>" + _curve(stars, row, folder)
        )
    several = "1 star varies" if len(found) == 1 else f"{len(found)} stars vary"
    return f"<h3>{several} beyond doubt</h3>" + "".join(drawn)


def _curve(stars: StarTable, row: int, folder: Path) -> str:
    if not _has_curves(folder):
        return ""
    curve = read_curve(stars, row)
    dated = bool(np.isfinite(curve.jd).any())
    x = posix_seconds(curve.jd) if dated else np.arange(len(curve.mag), dtype=float)
    middle = float(np.nanmedian(curve.mag[curve.good])) if curve.good.any() else math.nan
    y = middle - curve.mag  # brighter is up
    series = [
        Series(list(x[curve.good]), list(y[curve.good]), "good", "dots", "a"),
        Series(list(x[~curve.good]), list(y[~curve.good]), "flagged", "crosses", "bad"),
    ]
    return chart(series, "magnitudes brighter", "time, UTC" if dated else "frame", times=dated)
