"""The command `livestack` itself: its name, its help, its version."""

from __future__ import annotations

from typing import Annotated

import typer

app = typer.Typer(
    name="livestack",
    help="Live stacking for amateur astronomers: watches the folder that your camera fills.",
    epilog="--debug, anywhere on the line: with an error, also where in the program it arose.",
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
)


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
