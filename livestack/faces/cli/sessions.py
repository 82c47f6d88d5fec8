"""Commands that run a session: watch, stack, resume, remove, demo."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from livestack.faces.cli.app import app
from livestack.faces.cli.options import GOING_ON, SESSION, Output, with_options


@app.command()
@with_options(*SESSION)
def watch(
    folder: Annotated[Path, typer.Argument(help="folder that the camera fills", show_default=False)], **options: Any
) -> None:
    """Live session: frames already there, then new ones, until Ctrl-C, SIGTERM, --idle-stop or --max-frames."""
    from livestack.faces.run import run

    raise typer.Exit(run([folder], options, one_shot=False))


@app.command()
@with_options(*SESSION)
def stack(
    paths: Annotated[list[Path], typer.Argument(help="folders or frames", show_default=False)], **options: Any
) -> None:
    """The same engine over what is there, then the final save."""
    from livestack.faces.run import run

    raise typer.Exit(run(paths, options, one_shot=True))


@app.command()
@with_options(*GOING_ON)
def resume(
    session: Annotated[Path, typer.Argument(help="folder of the interrupted session", show_default=False)],
    **options: Any,
) -> None:
    """Continue an interrupted session exactly: what it had is loaded, what came since is stacked, and it goes on."""
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
@with_options("web", "window", "port")
def demo(
    frames: Annotated[int, typer.Option(min=3, help="frames that the simulated camera takes")] = 24,
    pace: Annotated[float, typer.Option(min=0, help="seconds between two frames")] = 0.7,
    output: Annotated[Path | None, typer.Option(help="where to leave the result", show_default=False)] = None,
    **options: Any,
) -> None:
    """A simulated camera writes into a temporary folder, and a live session watches it."""
    from livestack.faces.run import run_demo

    raise typer.Exit(run_demo(frames, pace, output, options))
