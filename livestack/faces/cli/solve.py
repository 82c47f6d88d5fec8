"""The command `solve`: where any image with stars points."""

from __future__ import annotations

import math
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from livestack.base.errors import FrameError, LivestackError, UsageError
from livestack.faces.cli.app import app

if TYPE_CHECKING:
    from livestack.astrometry import Solved, Solver, Unsolved


@app.command()
def solve(
    images: Annotated[list[Path], typer.Argument(help="frames or stacks of any kind that we read", show_default=False)],
    radec: Annotated[
        str | None, typer.Option(help="about where: 210.80,54.35 (degrees) or 14:03:12,+54:20:57", show_default=False)
    ] = None,
    scale: Annotated[
        float | None, typer.Option(min=0.001, help="about the arcseconds of a pixel", show_default=False)
    ] = None,
    output: Annotated[
        Path | None, typer.Option(help="write NAME.wcs there: a FITS header with the solution", show_default=False)
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="a line of JSON for each image instead")] = False,
) -> None:
    """Find where images point by their stars; position and scale in the header help, and wide fields need neither."""
    from livestack.astrometry import Solved, Solver
    from livestack.products.light_curves import parse_radec

    place = parse_radec(radec, "--radec") if radec is not None else None
    solver, failed = Solver(), 0
    for path in images:
        try:
            answer = _solve_one(solver, path, place, scale)
        except FrameError as error:
            print(f"livestack: {error}", file=sys.stderr)
            failed += 1
            continue
        except LivestackError as error:
            raise UsageError(str(error)) from error
        failed += not isinstance(answer, Solved)
        _print(path, answer, as_json)
        if output is not None and isinstance(answer, Solved):
            print(_write(output / f"{path.stem}.wcs", answer))
    if failed:
        raise typer.Exit(1)


def _solve_one(solver: Solver, path: Path, place: tuple[float, float] | None, scale: float | None) -> Solved | Unsolved:
    from dataclasses import replace

    from livestack.astrometry import Solved, Unsolved
    from livestack.astrometry.hints import hints_of, year_of
    from livestack.astrometry.installed import find_solver, solve_stars
    from livestack.base.settings import Settings
    from livestack.engine.live_stack import LiveStack
    from livestack.engine.states import Detected
    from livestack.formats import read_frame

    frame = read_frame(path)
    with LiveStack(Settings()) as stack:
        detected = stack.prepare(frame)
    if not isinstance(detected, Detected):
        return Unsolved(f"not solved: {detected.message}")
    info, stars = detected.frame.info, detected.stars
    if place is not None:
        info = replace(info, ra_deg=place[0], dec_deg=place[1])
    if scale is not None:
        info = replace(info, scale_arcsec_px=scale)
    answer: Solved | Unsolved = Unsolved("not solved")
    hints = hints_of(info)
    for hint in hints:
        answer = solver.solve(stars.xy, stars.flux, info.width, info.height, hint, year_of(info.date_obs))
        if isinstance(answer, Solved):
            return answer
    if find_solver() is None:
        return answer
    hint = next((one for one in hints if one.points), hints[0])
    catalogue = solver.catalogue(year_of(info.date_obs))
    return solve_stars(stars.xy, stars.flux, info.width, info.height, hint, catalogue)


def _print(path: Path, answer: Solved | Unsolved, as_json: bool) -> None:
    import json

    if as_json:
        print(json.dumps({"file": str(path), **_as_words(answer)}, allow_nan=False))
    else:
        print(f"{path.name}: {answer.sentence}.")


def _as_words(answer: Solved | Unsolved) -> dict[str, Any]:
    from livestack.astrometry import Solved

    if not isinstance(answer, Solved):
        return {"solved": False, "message": answer.sentence}
    ra, dec = answer.sky.centre
    width, height = answer.sky.field_deg
    return {
        "solved": True, "solver": answer.solver, "ra_deg": ra, "dec_deg": dec, "scale_arcsec": answer.sky.scale_arcsec,
        "rotation_deg": answer.sky.rotation_deg, "mirrored": answer.sky.mirrored, "width_deg": width,
        "height_deg": height, "n_stars": answer.n_matched,
        "rms_arcsec": answer.rms_arcsec if math.isfinite(answer.rms_arcsec) else None,
        "wcs": {keyword: value for keyword, value, _ in answer.sky.cards()}, "message": answer.sentence,
    }  # fmt: skip


def _write(path: Path, answer: Solved) -> Path:
    from astropy.io import fits

    from livestack.base.durable import write_atomically

    header = fits.Header([fits.Card("SIMPLE", True), fits.Card("BITPIX", 8), fits.Card("NAXIS", 0)])
    for keyword, value, comment in answer.sky.cards():
        header[keyword] = (value, comment)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, header.tostring().encode("ascii"))
    return path
