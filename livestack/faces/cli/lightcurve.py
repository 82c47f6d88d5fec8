"""The command `lightcurve`: one star of a finished session as table, picture and files for databases."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from livestack.base.errors import UsageError
from livestack.faces.cli.app import app

if TYPE_CHECKING:
    import numpy as np

    from livestack.photometry.transit import Transit
    from livestack.products.light_curves import StarCurve, StarTable


@app.command()
def lightcurve(
    session: Annotated[Path, typer.Argument(help="a session's folder", show_default=False)],
    star: Annotated[str | None, typer.Option(help="its number in stars.csv", show_default=False)] = None,
    at: Annotated[str | None, typer.Option(help="the star at pixel X,Y of the reference", show_default=False)] = None,
    radec: Annotated[
        str | None, typer.Option(help="the star at 210.80,54.35 (degrees) or 14:03:12,+54:20:57", show_default=False)
    ] = None,
    name: Annotated[
        str | None, typer.Option(help="the object of the headers; with a star: what to call it", show_default=False)
    ] = None,
    group: Annotated[str | None, typer.Option(help="which, if the session has several", show_default=False)] = None,
    output: Annotated[Path | None, typer.Option(help="folder \\[default: the group's]", show_default=False)] = None,
    transit: Annotated[bool, typer.Option("--transit", help="fit a transit")] = False,
    limb_darkening: Annotated[
        str | None, typer.Option(help="u1,u2 of the star, for a transit with batman", show_default=False)
    ] = None,
    period: Annotated[float, typer.Option(min=0.1, help="days, for a transit with batman")] = 3.0,
    band: Annotated[str, typer.Option(help="filter, as the AAVSO calls it; CV: none")] = "CV",
    obscode: Annotated[str | None, typer.Option(help="your observer's code at the AAVSO", show_default=False)] = None,
) -> None:
    """Show a star's light through the night: table, plot, AAVSO and EXOTIC files; without a star, the most variable."""
    from livestack.photometry.limb_darkening import is_there, parse_limb_darkening
    from livestack.products.curve_files import (
        check_aavso,
        write_aavso,
        write_curve_csv,
        write_exotic,
    )
    from livestack.products.curve_plot import draw_curve
    from livestack.products.light_curves import find_group, read_curve, read_stars

    places = [word for word in (star, at, radec) if word is not None]
    if len(places) > 1:
        raise UsageError("lightcurve: expected one of --star, --at and --radec, found several; leave one.")
    if not transit and limb_darkening is not None:
        raise UsageError("--limb-darkening: is for a transit; add --transit.")
    darkening = parse_limb_darkening(limb_darkening)
    if limb_darkening is not None and not is_there():
        raise UsageError("--limb-darkening: needs batman, which is not installed: pip install 'livestack[transit]'.")
    check_aavso(name or "", band, obscode)
    table = read_stars(find_group(session, group))
    row = _find_star(table, star, at, radec, name)
    curve = read_curve(table, row)
    if not curve.good.any():
        raise UsageError(
            f"star {curve.name}: has no good, dated measurement among {len(curve.files)}; expected one at least: "
            "choose another star."
        )
    folder = output or table.folder
    folder.mkdir(parents=True, exist_ok=True)
    stem = f"lightcurve_{curve.label}"
    title = name or f"Star {curve.name}"
    fitted, used = None, None
    if transit:
        fitted, used = _fit(curve, table.usual_excess(row), darkening, period, folder / f"{stem}_transit.json")
    write_curve_csv(folder / f"{stem}.csv", curve)
    draw_curve(folder / f"{stem}.png", curve, table, title, fitted, used)
    write_aavso(folder / f"{stem}.txt", curve, name or curve.label, band.upper(), obscode)
    missing = write_exotic(folder / f"{stem}_exotic.csv", curve)
    if missing is not None:
        print(missing)
    if obscode is None:
        print(f"{stem}.txt lacks the observer's code that the AAVSO wants: give it with --obscode.")
    for ending in (".csv", ".png", ".txt", "_exotic.csv", "_transit.json"):
        path = folder / f"{stem}{ending}"
        if (ending != "_exotic.csv" or missing is None or "JD_UTC" in missing) and (
            ending != "_transit.json" or fitted is not None
        ):
            print(path)


def _find_star(table: StarTable, star: str | None, at: str | None, radec: str | None, name: str | None) -> int:
    from livestack.products.light_curves import parse_radec, star_at, star_in_sky, star_of_name, star_of_object

    if star is not None:
        return star_of_name(table, star)
    if at is not None:
        try:
            x, y = (float(part) for part in at.split(","))
        except ValueError:
            raise UsageError(f"--at {at}: is no pixel; expected two numbers like 412.5,288.") from None
        return star_at(table, x, y)
    if radec is not None:
        return star_in_sky(table, *parse_radec(radec, "--radec"), f"--radec {radec}")
    if name is not None:
        return star_of_object(table, name)
    _print_most_variable(table)
    rows = table.most_variable(1)
    if not rows:
        raise UsageError(
            f"{table.folder}: of no star it is known how variable it is; choose one with --star, --at or --radec."
        )
    return rows[0]


def _print_most_variable(table: StarTable) -> None:
    from rich.console import Console
    from rich.table import Table

    from livestack.base.text import say_number

    shown = Table("star", "x", "y", "RA", "Dec", "mag", "good", "rms, mmag", "expected", "variability")
    for row in table.most_variable(10):
        shown.add_row(
            table.names[row], f"{table.x[row]:.1f}", f"{table.y[row]:.1f}", say_number(table.ra_deg[row], 4),
            say_number(table.dec_deg[row], 4), say_number(table.mag[row], 2), str(table.n[row]),
            say_number(table.rms_mmag[row]), say_number(table.expected_mmag[row]), say_number(table.variability[row]),
        )  # fmt: skip
    Console().print(shown)


def _fit(
    curve: StarCurve, usual_mag: float | None, darkening: tuple[float, float], period: float, path: Path
) -> tuple[Transit | None, np.ndarray | None]:
    """Fit, print what was found and write it; and which points were fitted.

    `usual_mag` is what stars of like brightness scatter beyond their noise.
    """
    import numpy as np

    from livestack.photometry.limb_darkening import fit_planet, is_there
    from livestack.photometry.transit import fit_transit
    from livestack.products.curve_files import PER_MAG, relative_flux, say_transit, write_transit

    good = curve.good
    barycentric = bool(np.isfinite(curve.bjd[good]).all())
    times, clock = (curve.bjd, "BJD_TDB") if barycentric else (curve.jd, "JD_UTC")
    flux, errors = relative_flux(curve)
    airmass = curve.airmass[good] if np.isfinite(curve.airmass[good]).all() else None
    usual = None if usual_mag is None else PER_MAG * usual_mag
    fitted = fit_transit(times[good], flux[good], errors[good], airmass, usual)
    if fitted is not None and fitted.found and is_there():
        fitted = fit_planet(times[good], flux[good], errors[good], airmass, fitted, darkening, period, usual)
    for sentence in say_transit(fitted, clock):
        print(sentence)
    if not barycentric:
        print("Times are JD_UTC, not barycentric: site and coordinates were not known; up to 8.3 min off from BJD.")
    if fitted is not None:
        write_transit(path, fitted, clock)
    return fitted, np.flatnonzero(good)
