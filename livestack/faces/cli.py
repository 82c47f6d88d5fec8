"""The command line: words in, exit status out; each command is a thin call into the module that does the work.

Exit status: 0 done; 1 nothing could be stacked; 2 wrong usage; 3 the session cannot continue; 130 stopped at once. What
goes wrong is one sentence on stderr.
Modules are imported inside the commands, so that `livestack --help` answers at once.
"""

from __future__ import annotations

import sys
import traceback
from pathlib import Path
from typing import Annotated, Any, Literal, cast

import typer

from livestack.base.errors import FrameError, LivestackError, SessionError, UsageError

app = typer.Typer(
    name="livestack",
    help="Live stacking for amateur astronomers: watches the folder that your camera fills.",
    epilog="--debug, anywhere on the line: with an error, also where in the program it arose.",
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
)


WrongWords: type[Exception] = typer.BadParameter.__mro__[1]
"""Any mistake in the words of a command line; Typer has it from Click, or from a Click of its own, by version."""


def _print_version(wanted: bool) -> None:
    if wanted:
        from livestack.base.version import version

        print(f"livestack {version()}")
        raise typer.Exit


@app.callback()
def livestack(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="print the version")
    ] = False,
) -> None:
    """Live stacking for amateur astronomers: watches the folder that your camera fills."""


def exit_status(error: LivestackError) -> int:
    """The exit status that an error stands for."""
    if isinstance(error, UsageError):
        return 2
    if isinstance(error, SessionError):
        return 3
    return 1


Masters = Annotated[Path | None, typer.Option(help="folder of master frames", show_default=False)]
Output = Annotated[
    Path | None, typer.Option(help="session folder [default: FOLDER/livestack/<start time>]", show_default=False)
]
Config = Annotated[Path | None, typer.Option(help="settings as TOML; see `livestack config`", show_default=False)]
ReferenceFile = Annotated[Path | None, typer.Option(help="register to this frame", show_default=False)]
Existing = Annotated[
    bool | None, typer.Option("--existing/--no-existing", help="take the frames already there", show_default=False)
]
Recursive = Annotated[
    bool | None, typer.Option("--recursive/--no-recursive", help="look into sub-folders", show_default=False)
]
Poll = Annotated[
    bool | None, typer.Option("--poll", help="look at intervals instead of trusting folder events", show_default=False)
]
IdleStop = Annotated[
    float | None, typer.Option(min=0, help="end after so many seconds without a new file", show_default=False)
]
MaxFrames = Annotated[int | None, typer.Option(min=1, help="end after so many stacked frames", show_default=False)]
Rejection = Annotated[str | None, typer.Option(help="live or none", show_default=False)]
Mode = Annotated[str | None, typer.Option(help="mean, maximum (star trails) or sum", show_default=False)]
WindowMinutes = Annotated[
    float | None, typer.Option(help="also save a stack for each so many minutes", show_default=False)
]
Quality = Annotated[
    str | None, typer.Option(help="on or off: refuse and weight frames by their quality", show_default=False)
]
Cosmetic = Annotated[str | None, typer.Option(help="on or off: repair defective pixels", show_default=False)]
Registration = Annotated[str | None, typer.Option(help="auto, stars, features, phase or none", show_default=False)]
BayerPattern = Annotated[
    Literal["RGGB", "GRBG", "GBRG", "BGGR", "none"] | None,
    typer.Option(help="Bayer pattern where the header is wrong or silent; none: mono", show_default=False),
]
Debayer = Annotated[str | None, typer.Option(help="mhc, bilinear or superpixel", show_default=False)]
FinalPass = Annotated[
    bool | None,
    typer.Option("--final-pass/--no-final-pass", help="test all frames again at the end", show_default=False),
]
Window = Annotated[bool | None, typer.Option("--window/--no-window", help="desktop window", show_default=False)]
Web = Annotated[bool | None, typer.Option("--web/--no-web", help="web view", show_default=False)]
Host = Annotated[str | None, typer.Option(help="address of the web view; 0.0.0.0 lets phones in", show_default=False)]
Port = Annotated[
    int | None, typer.Option(min=0, max=65535, help="port of the web view; 0: any free one", show_default=False)
]
Publish = Annotated[
    Path | None, typer.Option(help="also write picture and status as static files here", show_default=False)
]
Timelapse = Annotated[
    bool | None, typer.Option("--timelapse/--no-timelapse", help="film of the stack growing", show_default=False)
]
MemoryLimit = Annotated[
    int | None, typer.Option(min=1, help="in MB; frames are binned 2 x 2 rather than need more", show_default=False)
]
Palette = Annotated[
    str | None,
    typer.Option(
        help="colours of a target with several filters: auto, LRGB, RGB, SHO, HOO, none, or a mixture such as "
        "'R=SII, G=0.8*Ha+0.2*OIII, B=OIII'",
        show_default=False,
    ),
]
CanvasChoice = Annotated[
    str | None,
    typer.Option(help="reference: as large as that frame; union: growing with what is seen", show_default=False),
]
Formats = Annotated[
    str | None,
    typer.Option(help="what to write, of fits,png,png16,tiff,tiff32,jpeg [default: fits,png,tiff]", show_default=False),
]
Flatten = Annotated[
    bool | None,
    typer.Option("--flatten/--no-flatten", help="also a linear stack without its sky gradient", show_default=False),
]
Solve = Annotated[
    bool | None,
    typer.Option("--solve/--no-solve", help="solve the plate at the end (ASTAP, astrometry.net)", show_default=False),
]
Json = Annotated[
    bool | None,
    typer.Option("--json", help="events as JSON lines on stdout instead of the dashboard", show_default=False),
]


@app.command()
def watch(
    folder: Annotated[Path, typer.Argument(help="folder that the camera fills", show_default=False)],
    output: Output = None, config: Config = None, masters: Masters = None, reference: ReferenceFile = None,
    existing: Existing = None, recursive: Recursive = None, poll: Poll = None, idle_stop: IdleStop = None,
    max_frames: MaxFrames = None, rejection: Rejection = None, mode: Mode = None,
    window_minutes: WindowMinutes = None, canvas: CanvasChoice = None, quality: Quality = None,
    cosmetic: Cosmetic = None, registration: Registration = None, bayer: BayerPattern = None, debayer: Debayer = None,
    final_pass: FinalPass = None, window: Window = None, web: Web = None, host: Host = None, port: Port = None,
    publish: Publish = None, timelapse: Timelapse = None,
    memory_limit: MemoryLimit = None,
    palette: Palette = None, formats: Formats = None, flatten: Flatten = None, solve: Solve = None, json: Json = None,
) -> None:  # fmt: skip
    """Live session: frames already there, then new ones, until Ctrl-C, SIGTERM, --idle-stop or --max-frames."""
    options = _options(locals())
    from livestack.faces.run import run

    raise typer.Exit(run([folder], options, one_shot=False))


@app.command()
def stack(
    paths: Annotated[list[Path], typer.Argument(help="folders or frames", show_default=False)],
    output: Output = None, config: Config = None, masters: Masters = None, reference: ReferenceFile = None,
    existing: Existing = None, recursive: Recursive = None, poll: Poll = None, idle_stop: IdleStop = None,
    max_frames: MaxFrames = None, rejection: Rejection = None, mode: Mode = None,
    window_minutes: WindowMinutes = None, canvas: CanvasChoice = None, quality: Quality = None,
    cosmetic: Cosmetic = None, registration: Registration = None, bayer: BayerPattern = None, debayer: Debayer = None,
    final_pass: FinalPass = None, window: Window = None, web: Web = None, host: Host = None, port: Port = None,
    publish: Publish = None, timelapse: Timelapse = None,
    memory_limit: MemoryLimit = None,
    palette: Palette = None, formats: Formats = None, flatten: Flatten = None, solve: Solve = None, json: Json = None,
) -> None:  # fmt: skip
    """The same engine over what is there, then the final save."""
    options = _options(locals())
    from livestack.faces.run import run

    raise typer.Exit(run(paths, options, one_shot=True))


@app.command()
def resume(
    session: Annotated[Path, typer.Argument(help="folder of the interrupted session", show_default=False)],
    poll: Poll = None, idle_stop: IdleStop = None, max_frames: MaxFrames = None, final_pass: FinalPass = None,
    window: Window = None, web: Web = None, host: Host = None, port: Port = None, publish: Publish = None,
    timelapse: Timelapse = None, json: Json = None,
) -> None:  # fmt: skip
    """Continue an interrupted session exactly: what it had is loaded, what came since is stacked, and it goes on."""
    options = {name: value for name, value in _options(locals()).items() if name != "session"}
    from livestack.faces import run as running

    raise typer.Exit(running.resume(session, options))


@app.command()
def remove(
    session: Annotated[Path, typer.Argument(help="a session's folder", show_default=False)],
    files: Annotated[list[str], typer.Argument(help="frames to leave out, by name", show_default=False)],
    output: Output = None,
) -> None:
    """Stack a session anew without some frames, as if they had never come; the session itself stays as it is."""
    from livestack.faces import run as running

    raise typer.Exit(running.remove(session, files, output))


@app.command()
def demo(
    frames: Annotated[int, typer.Option(min=3, help="frames that the simulated camera takes")] = 24,
    pace: Annotated[float, typer.Option(min=0, help="seconds between two frames")] = 0.7,
    output: Annotated[Path | None, typer.Option(help="where to leave the result", show_default=False)] = None,
    web: Web = None, window: Window = None, port: Port = None,
) -> None:  # fmt: skip
    """A simulated camera writes into a temporary folder, and a live session watches it."""
    from livestack.faces.run import run_demo

    raise typer.Exit(run_demo(frames, pace, output, {"web": web, "window": window, "port": port}))


@app.command(name="config")
def show_config() -> None:
    """Print the default settings as commented TOML."""
    from livestack.base.configuration import default_toml

    print(default_toml(), end="")


def _options(words: dict[str, Any]) -> dict[str, Any]:
    """Options that were given on the command line."""
    return {name: value for name, value in words.items() if name not in ("folder", "paths") and value is not None}


@app.command()
def simulate(
    out: Annotated[Path, typer.Argument(help="folder to write into; made if it is not there", show_default=False)],
    scenario: Annotated[str, typer.Option(help="name of the night; `list` tells which there are")] = "mono",
    frames: Annotated[int, typer.Option(min=1, help="number of light frames")] = 38,
    size: Annotated[str, typer.Option(help="width x height in pixels")] = "800x600",
    file_format: Annotated[str, typer.Option("--format", help="fits, fits.fz, dng, ser, xisf, tiff or png")] = "fits",
    pace: Annotated[float, typer.Option(min=0, help="seconds between two frames; 0: as fast as it goes")] = 0.0,
    seed: Annotated[int, typer.Option(min=0, help="another number, another night")] = 1,
    twin: Annotated[bool, typer.Option(help="also write each frame without trails and cosmic rays")] = False,
    masks: Annotated[bool, typer.Option(help="also write where trails, cosmic rays and defects are")] = False,
    calibration: Annotated[int, typer.Option(min=0, help="also so many bias, dark, flat, dark-flat frames each")] = 0,
    rename: Annotated[bool, typer.Option(help="write beside and rename into place, as some programs do")] = False,
) -> None:
    """Write a night with known truth into a folder, as a camera would. Ctrl-C ends it early; its truth is written."""
    import signal
    import threading

    from livestack.simulate import SCENARIOS, named_scenario, parse_size, write_session

    if scenario == "list":
        for name, (meaning, _) in SCENARIOS.items():
            print(f"{name:12} {meaning}")
        return
    width, height = parse_size(size)
    night = named_scenario(scenario, frames=frames, width=width, height=height, seed=seed)
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
def info(
    files: Annotated[list[Path], typer.Argument(help="frames of any kind that we read", show_default=False)],
) -> None:
    """Show what we understood of each file, and what is odd about it."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    from livestack.formats import check_complete, count_frames, read_info
    from livestack.formats.words import describe_info

    unreadable = 0
    for path in files:
        try:
            check_complete(path)
            rows = describe_info(read_info(path), count_frames(path))
        except FrameError as error:
            print(f"livestack: {error}", file=sys.stderr)
            unreadable += 1
            continue
        table = Table(title=Text(path.name), title_justify="left", show_header=False)
        for name, words in rows:
            table.add_row(name, Text(words, style="yellow" if name == "odd" else ""))
        Console().print(table)
    if unreadable:
        raise typer.Exit(1)


@app.command()
def masters(
    paths: Annotated[
        list[Path], typer.Argument(help="bias, dark, flat, dark-flat frames, or folders of them", show_default=False)
    ],
    output: Annotated[Path, typer.Option(help="folder for the masters; made if it is not there", show_default=False)],
    config: Config = None,
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

    settings = load_settings(config, {})
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
def psf(
    image: Annotated[Path, typer.Argument(help="any image with stars: a frame or a stack", show_default=False)],
    stars: Annotated[bool, typer.Option("--stars", help="also list every fitted star")] = False,
    csv_file: Annotated[Path | None, typer.Option("--csv", help="write the fitted stars to this file")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="the table as JSON instead")] = False,
    plot: Annotated[Path | None, typer.Option(help="draw PSF, field map and encircled energy to this PNG")] = None,
    scale: Annotated[float | None, typer.Option(min=0.001, help="arcseconds a pixel, if the header is silent")] = None,
    max_stars: Annotated[int, typer.Option(min=3, help="fit at most so many stars")] = 200,
) -> None:
    """Measure how an image's stars are smeared: the PSF table, the field map, the encircled energy."""
    import json

    from livestack.base.settings import PSFSettings
    from livestack.products.report.psf_words import (
        STAR_COLUMNS,
        draw_psf,
        measure_file,
        plain_words,
        star_rows,
        write_star_csv,
    )
    from livestack.products.report.sections import psf_rows

    model = measure_file(image, PSFSettings(max_stars=max_stars), scale)
    if csv_file is not None:
        write_star_csv(model, csv_file)
    if plot is not None:
        draw_psf(model, plot, image.name)
    if as_json:
        print(json.dumps(plain_words(model), indent=2, allow_nan=False))
        return
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    console = Console()
    table = Table("", "Gaussian", "Moffat", title=Text(f"Average PSF of {image.name}"))
    for row in psf_rows(model):
        table.add_row(*row)
    console.print(table)
    for sentence in model.field.words if model.field else ():
        console.print(sentence, markup=False)
    if stars:
        rows = [STAR_COLUMNS, *star_rows(model)]
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        for star in rows:  # a table of rich would squeeze fifteen columns into the terminal's width
            print("  ".join(cell.rjust(width) for cell, width in zip(star, widths, strict=True)))


@app.command()
def enhance(
    stack: Annotated[Path, typer.Argument(help="a stack.fits", show_default=False)],
    output: Annotated[Path | None, typer.Option(help="folder for the results; default: beside the stack")] = None,
    deconvolution: Annotated[
        bool | None, typer.Option("--deconvolve/--no-deconvolve", help="take the measured PSF back; default: if stars")
    ] = None,
    iterations: Annotated[int, typer.Option(min=1, max=200, help="of the deconvolution")] = 20,
    wavelets: Annotated[
        str | None, typer.Option(help="factor of each scale, finest first, like 1,1.5,1.3; 'off' for none")
    ] = None,
    crop: Annotated[bool, typer.Option("--crop/--no-crop", help="cut to the part that all frames cover")] = True,
    target: Annotated[str, typer.Option(help="deep-sky, moon or auto (stars found or not)")] = "auto",
) -> None:
    """Deconvolve a stack with its own PSF, sharpen it by scale, crop it, and draw it beside the original."""
    from rich.console import Console
    from rich.progress import Progress

    from livestack.products.enhance import enhance_stack, parse_wishes

    wishes = parse_wishes(target, deconvolution, iterations, wavelets, crop)
    with Progress(transient=True, console=Console(stderr=True)) as bar:
        task = bar.add_task(f"enhancing {stack.name}".replace("[", r"\["), total=1.0)
        made = enhance_stack(stack, output, wishes, lambda share: bar.update(task, completed=share))
    for sentence in made.words:
        print(sentence)
    print(made.fits_path)
    print(made.picture_path)
    print(made.comparison_path)


@app.command()
def merge(
    stacks: Annotated[list[Path], typer.Argument(help="sessions or stack.fits files, two or more", show_default=False)],
    output: Annotated[
        Path | None, typer.Option(help="file to write [default: merged.fits beside the first]", show_default=False)
    ] = None,
) -> None:
    """Merge stacks of several nights or telescopes onto the grid of the first: exactly where it is the same grid."""
    from livestack.base.resources import thread_count
    from livestack.kernels.bands import Bands
    from livestack.products.merge import merge_stacks

    with Bands(thread_count()) as bands:
        made = merge_stacks(stacks, output, bands)
    for sentence in made.words:
        print(sentence)
    print(made.path)


@app.command()
def report(
    session: Annotated[Path, typer.Argument(help="a session's folder", show_default=False)],
) -> None:
    """Write (again) the night report of a session: report.html in its folder."""
    from livestack.products.report import write_report

    print(write_report(session))


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


def main() -> None:
    """Entry point: run the command, turn our errors into one sentence on stderr and an exit status."""
    debug = "--debug" in sys.argv
    arguments = [word for word in sys.argv[1:] if word != "--debug"]
    if not arguments:
        app(["--help"], prog_name="livestack", standalone_mode=False)
        sys.exit(2)
    try:
        status = app(arguments, prog_name="livestack", standalone_mode=False)
    except WrongWords as error:
        wrong = cast(typer.BadParameter, error)
        command = wrong.ctx.command_path if wrong.ctx is not None else "livestack"
        _tell(f"{' '.join(wrong.format_message().split()).rstrip('.')}; see `{command} --help`.", debug)
        sys.exit(2)
    except LivestackError as error:
        _tell(str(error), debug)
        sys.exit(exit_status(error))
    except OSError as error:
        _tell(
            f"{error.filename or 'the system'}: {error.strerror or error}; check that it can be read or written.", debug
        )
        sys.exit(3)
    except Exception as error:  # noqa: BLE001  (a fault of ours is told in a sentence too)
        _tell(
            f"{type(error).__name__}: {error}; this is a fault of livestack: please report what --debug shows.", debug
        )
        sys.exit(3)
    sys.exit(status or 0)


def _tell(sentence: str, debug: bool) -> None:
    """One sentence on stderr; with `debug`, where in the program the error in hand arose before it."""
    if debug:
        traceback.print_exc()
    print(f"livestack: {sentence}", file=sys.stderr)


if __name__ == "__main__":
    main()
