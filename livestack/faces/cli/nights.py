"""Commands around a night: config, doctor, simulate, masters, report."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from livestack.base import choices
from livestack.faces.cli.app import app
from livestack.faces.cli.options import Bayer, Config


@app.command(name="config")
def show_config() -> None:
    """Print the default settings as commented TOML."""
    from livestack.base.configuration import default_toml

    print(default_toml(), end="")


@app.command()
def doctor(
    folder: Annotated[
        Path | None, typer.Argument(help="the folder that the camera writes into", show_default=False)
    ] = None,
    camera: Annotated[
        str | None, typer.Option(help="size of a frame, WIDTHxHEIGHT, x3 for colour; default: that of the newest frame")
    ] = None,
    host: Annotated[str, typer.Option(help="address that the web view would be served on")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="port that the web view would be served on")] = 8765,
) -> None:
    """Look before the night for what could spoil it: libraries, memory, disk, folder events, clock, port."""
    from livestack.session.doctor import Camera, examine, print_checks

    if print_checks(examine(folder, Camera.parse(camera) if camera else None, host, port), print):
        raise typer.Exit(1)


@app.command()
def simulate(
    out: Annotated[Path, typer.Argument(help="folder to write into; made if it is not there", show_default=False)],
    scenario: Annotated[str, typer.Option(help="name of the night; `list` tells which there are")] = "mono",
    frames: Annotated[int, typer.Option(min=1, help="number of light frames")] = 38,
    size: Annotated[str, typer.Option(help="width x height in pixels")] = "800x600",
    file_format: Annotated[choices.FrameFormat, typer.Option("--format", help="what the camera writes")] = "fits",
    pace: Annotated[float, typer.Option(min=0, help="seconds between two frames; 0: as fast as it goes")] = 0.0,
    seed: Annotated[int, typer.Option(min=0, help="another number, another night")] = 1,
    twin: Annotated[bool, typer.Option(help="also write each frame without trails, movers and cosmic rays")] = False,
    masks: Annotated[bool, typer.Option(help="also write where trails, cosmic rays and defects are")] = False,
    calibration: Annotated[int, typer.Option(min=0, help="also so many bias, dark, flat, dark-flat frames each")] = 0,
    bayer: Annotated[
        choices.BayerPattern | None, typer.Option(help="mosaic of the camera; none: mono", show_default=False)
    ] = None,
    name: Annotated[str | None, typer.Option("--object", help="name of the target", show_default=False)] = None,
    scale: Annotated[
        float | None, typer.Option(min=0.01, max=1000, help="arcseconds a pixel", show_default=False)
    ] = None,
    distortion: Annotated[
        float | None, typer.Option(help="pixels that the lens moves a corner outward", show_default=False)
    ] = None,
    at: Annotated[
        str | None,
        typer.Option(
            help="real sky about RA,DEC: degrees, or hours and degrees 12:50:53,+41:07:14", show_default=False
        ),
    ] = None,
    rotation: Annotated[
        float | None, typer.Option(help="real sky: position angle of up, degrees; else 0", show_default=False)
    ] = None,
    mirror: Annotated[bool, typer.Option("--mirror", help="real sky: as a mirror shows it")] = False,
    zero_point: Annotated[
        float | None, typer.Option(help="real sky: G magnitude for 1 ADU a second; else 20", show_default=False)
    ] = None,
    extinction: Annotated[
        float | None, typer.Option(min=0, help="real sky: magnitudes that air takes; else 0", show_default=False)
    ] = None,
    sky_mag: Annotated[
        float | None, typer.Option(help="real sky: magnitudes an arcsec^2; else 20.5", show_default=False)
    ] = None,
    pointing_error: Annotated[
        float | None,
        typer.Option(
            min=0, max=90, help="real sky: error of the header's place, degrees; else 0.1", show_default=False
        ),
    ] = None,
    movers: Annotated[
        bool, typer.Option("--with-movers/--without-movers", help="with or without all that moves, crosses, or is new")
    ] = True,
    rename: Annotated[bool, typer.Option(help="write beside and rename into place, as some programs do")] = False,
) -> None:
    """Write a night with known truth into a folder, as a camera would. Ctrl-C ends it early; its truth is written."""
    import signal
    import threading

    from livestack.simulate import SCENARIOS, asked_scenario, parse_size, write_session

    if scenario == "list":
        for name, (meaning, _) in SCENARIOS.items():
            print(f"{name:12} {meaning}")
        return
    width, height = parse_size(size)
    night = asked_scenario(
        scenario, at=at, scale_arcsec=scale, frames=frames, width=width, height=height, seed=seed, bayer=bayer,
        objects=name and (name,), distortion_px=distortion, position_angle_deg=rotation, mirrored=mirror or None,
        zero_point_mag=zero_point, extinction_mag=extinction, sky_mag_arcsec2=sky_mag,
        pointing_error_deg=pointing_error,
    )  # fmt: skip
    night = night if movers else night.without_movers
    stop = threading.Event()
    before = {number: signal.signal(number, lambda *_: stop.set()) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        truth = write_session(
            night, out, file_format=file_format, pace_s=pace, twin=twin, masks=masks, calibration=calibration,
            style="rename" if rename else "direct", stop=stop.is_set,
        )  # fmt: skip
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    print(truth)


@app.command()
def masters(
    paths: Annotated[
        list[Path], typer.Argument(help="bias, dark, flat, dark-flat frames, or folders of them", show_default=False)
    ],
    output: Annotated[Path, typer.Option(help="folder for the masters; made if it is not there", show_default=False)],
    config: Config = None,
    bayer: Bayer = None,
) -> None:
    """Build master frames: sorted out by header, name or content, averaged without extremes."""
    from rich.console import Console
    from rich.progress import Progress
    from rich.table import Table
    from rich.text import Text

    from livestack.base.configuration import load_settings
    from livestack.base.resources import thread_count
    from livestack.calibration.masters import build_masters
    from livestack.kernels.bands import Bands

    settings = load_settings(config, {} if bayer is None else {"bayer": bayer})
    errors = Console(stderr=True)
    quiet = not errors.is_terminal
    with Bands(thread_count()) as bands, Progress(console=errors, transient=True, disable=quiet) as bar:
        task = bar.add_task("")
        report = build_masters(
            paths,
            output,
            settings.calibration,
            lambda done, total, what: bar.update(task, completed=done, total=total, description=what),
            bands,
        )
    console = Console()
    table = Table("file", "kind", "frames", "noise of one frame", "clipped")
    for master in report.masters:
        noise = f"{100 * master.noise:.2f} %" if master.kind == "flat" else f"{master.noise:.2f} ADU"
        cells = (master.path.name, master.kind, str(len(master.frames)), noise, f"{100 * master.rejected:.2f} %")
        table.add_row(*(Text(cell, overflow="fold") for cell in cells))
    console.print(table)
    for master in report.masters:
        for note in master.notes:
            console.print(Text(f"{master.kind}: {note}", style="yellow"), soft_wrap=True)
    for path, reason in report.refused:
        console.print(Text(f"refused {path}: {reason}", style="red"), soft_wrap=True)


@app.command()
def report(
    session: Annotated[Path, typer.Argument(help="a session's folder", show_default=False)],
) -> None:
    """Write (again) the night report of a session: report.html in its folder."""
    from livestack.products.report import write_report

    print(write_report(session))
