"""The command `app`: home in the browser; and what home runs sessions with."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from livestack.faces.cli.app import app


@app.command(name="app")
def open_home(
    root: Annotated[
        list[Path] | None,
        typer.Option(help="a folder to choose from, besides your own and mounted disks (repeatable)"),
    ] = None,
    host: Annotated[str, typer.Option(help="address to serve on; 0.0.0.0 lets phones in")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="port to serve on; 0: any free one")] = 8765,
    browser: Annotated[bool, typer.Option("--browser/--no-browser", help="open the browser")] = True,
) -> None:
    """Home in the browser: choose a folder, start the night, look at past ones. `livestack` alone does the same."""
    from livestack.faces.home.server import run_home

    raise typer.Exit(run_home(host, port, root or [], browser))


@app.command(hidden=True)
def hosted() -> None:
    """A session that home began; it is told what to do on its standard input."""
    from livestack.faces.home.hosted import read_told, run_hosted

    raise typer.Exit(run_hosted(read_told()))
