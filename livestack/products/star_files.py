"""The light curves of a night as files: `stars.csv`, `lightcurves.csv`, and one with the colours of a colour camera.

Tables of more rows than a spreadsheet takes are written as a FITS binary table, which the field's programs open.
"""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
from astropy.io import fits
from astropy.wcs import WCS

from livestack.astrometry.facts import SkyFacts
from livestack.base.durable import replacing, storage_error
from livestack.base.frame import FrameInfo
from livestack.formats.wcs import read_wcs
from livestack.photometry.night import Solution, StarNight
from livestack.photometry.times import airmass, bjd_tdb, site_of
from livestack.products.light_curves import (
    COLOUR_COLUMNS,
    CURVE_COLUMNS,
    CURVES,
    CURVES_FITS,
    STAR_COLUMNS,
    STARS,
    cell,
)

SAME_ARCSEC, SAME_PX = 2.0, 2.0
"""A star nearer than the larger of the two is the one of the catalogue."""
MOST_ROWS = 1_000_000
"""Longer tables are written as FITS: spreadsheets end here."""


def write_curves(
    folder: Path, solution: Solution, night: StarNight, info: FrameInfo, spoken: Callable[[Path], str],
    facts: SkyFacts | None = None,
) -> list[Path]:  # fmt: skip
    """Write a group's light curves.

    Parameters
    ----------
    info : of the reference: position, site and WCS in its header.
    spoken : how the journal calls a file.
    facts : where the reference lies, as it was solved; else the header is believed.

    Raises
    ------
    SessionError : disk full, or not writable.
    """
    curves, wcs = solution.curves, read_wcs(facts.sky.cards() if facts is not None else info.cards)
    names = [spoken(Path(name)) for name in curves.files]
    written = []
    try:
        folder.mkdir(parents=True, exist_ok=True)
        written.append(_write_csv(folder / STARS, STAR_COLUMNS, _star_rows(solution, wcs, facts)))
        times = _times(solution, info, wcs)
        if curves.mags.size > MOST_ROWS:
            written.append(_write_fits(folder / CURVES_FITS, solution, names, times))
        else:
            written.append(_write_csv(folder / CURVES, CURVE_COLUMNS, _curve_rows(solution, names, times)))
        if night.n_colours and curves.mags.size * night.n_colours <= MOST_ROWS:
            rows = _colour_rows(solution, night, names)
            written.append(_write_csv(folder / "lightcurves_colour.csv", COLOUR_COLUMNS, rows))
    except OSError as error:
        raise storage_error(folder, error) from error
    return written


def _write_csv(path: Path, columns: tuple[str, ...], rows: Iterator[tuple[object, ...]]) -> Path:
    with (
        replacing(path) as temporary,
        temporary.open("w", newline="", encoding="utf-8", errors="surrogateescape") as file,
    ):
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(columns)
        writer.writerows(rows)
    return path


def _sky_places(solution: Solution, wcs: WCS | None) -> np.ndarray:
    """(n, 2) RA and Dec, degrees; NaN without a WCS."""
    curves = solution.curves
    if wcs is None or not len(curves):
        return np.full((len(curves), 2), np.nan)
    return np.asarray(wcs.all_pix2world(np.column_stack([curves.x, curves.y]), 0))


def _catalogue_mags(sky: np.ndarray, facts: SkyFacts | None) -> np.ndarray:
    """(n,) G of the catalogue's star at each place; NaN where it has none."""
    mags = np.full(len(sky), np.nan)
    if facts is not None and facts.field is not None:
        found = facts.field.nearest(sky, max(SAME_ARCSEC, SAME_PX * facts.sky.scale_arcsec))
        mags[found >= 0] = facts.field.g[found[found >= 0]]
    return mags


def _star_rows(solution: Solution, wcs: WCS | None, facts: SkyFacts | None) -> Iterator[tuple[object, ...]]:
    curves, sky = solution.curves, _sky_places(solution, wcs)
    g = _catalogue_mags(sky, facts)
    for k in range(len(curves)):
        yield (
            k, cell(curves.x[k], 3), cell(curves.y[k], 3), cell(sky[k, 0], 6), cell(sky[k, 1], 6), cell(g[k], 3),
            int(curves.n_good[k]), cell(curves.mag[k], 5), cell(curves.rms_mmag[k], 3),
            cell(curves.expected_mmag[k], 3), cell(curves.variability[k], 2),
        )  # fmt: skip


def _times(solution: Solution, info: FrameInfo, wcs: WCS | None) -> tuple[np.ndarray, np.ndarray]:
    """(t,) BJD in TDB, and airmass; NaN where position, site or time are unknown."""
    jd = solution.curves.jd
    unknown = np.full(len(jd), np.nan)
    ra, dec, site = info.ra_deg, info.dec_deg, site_of(info)
    if wcs is not None:
        ra, dec = (float(v) for v in wcs.all_pix2world([[(info.width - 1) / 2, (info.height - 1) / 2]], 0)[0])
    if ra is None or dec is None or not np.isfinite(jd).any():
        return unknown, unknown
    place = np.array(ra), np.array(dec)
    return bjd_tdb(jd, *place, site), unknown if site is None else airmass(jd, *place, site)


def _curve_rows(
    solution: Solution, names: list[str], times: tuple[np.ndarray, np.ndarray]
) -> Iterator[tuple[object, ...]]:
    curves, (bjd, air) = solution.curves, times
    stamps = [(cell(curves.jd[j], 8), cell(bjd[j], 8), cell(air[j], 4)) for j in range(len(names))]
    for k in range(len(curves)):
        for j in np.flatnonzero(np.isfinite(curves.flux[k])):
            yield (
                k, names[j], int(curves.index[j]), *stamps[j], cell(curves.flux[k, j], 2),
                cell(curves.mags[k, j], 5), cell(curves.errors[k, j], 5), int(curves.flags[k, j]),
            )  # fmt: skip


def _write_fits(path: Path, solution: Solution, names: list[str], times: tuple[np.ndarray, np.ndarray]) -> Path:
    curves, (bjd, air) = solution.curves, times
    star, frame = np.nonzero(np.isfinite(curves.flux))
    width = max((len(name) for name in names), default=1)
    columns = [
        fits.Column("star", "J", array=star), fits.Column("file", f"{width}A", array=np.array(names)[frame]),
        fits.Column("index", "J", array=curves.index[frame]), fits.Column("jd_utc_mid", "D", array=curves.jd[frame]),
        fits.Column("bjd_tdb", "D", array=bjd[frame]), fits.Column("airmass", "E", array=air[frame]),
        fits.Column("flux_adu", "E", array=curves.flux[star, frame]),
        fits.Column("mag", "E", array=curves.mags[star, frame]),
        fits.Column("mag_err", "E", array=curves.errors[star, frame]),
        fits.Column("flag", "B", array=curves.flags[star, frame]),
    ]  # fmt: skip
    with replacing(path) as temporary:
        fits.BinTableHDU.from_columns(columns, name="LIGHTCURVES").writeto(temporary, overwrite=True)
    return path


def _colour_rows(solution: Solution, night: StarNight, names: list[str]) -> Iterator[tuple[object, ...]]:
    """The light in each colour of a mosaic or colour frame, by its own pixels."""
    curves = solution.curves
    for c in range(night.n_colours):
        flux, sky_variance, photon = (night.colour_table(c, part) for part in range(3))
        error = np.sqrt(sky_variance + solution.noise.per_photon * photon)
        for k in range(len(curves)):
            for j in np.flatnonzero(np.isfinite(flux[k])):
                yield k, names[j], int(curves.index[j]), "RGB"[c], cell(flux[k, j], 2), cell(error[k, j], 2)
