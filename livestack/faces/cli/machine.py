"""Commands that put livestack's home on a machine: service, launcher."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from livestack.faces.cli.app import app

service = typer.Typer(help="Home in the browser from the moment the machine has started (systemd; a Raspberry Pi).")
launcher = typer.Typer(help="An entry in the menu of your desktop that opens home.")
app.add_typer(service, name="service", no_args_is_help=True)
app.add_typer(launcher, name="launcher", no_args_is_help=True)


@service.command(name="install")
def install_service(
    host: Annotated[str, typer.Option(help="address that home is served on; 0.0.0.0 lets your network in")] = "0.0.0.0",
    port: Annotated[int, typer.Option(min=1, max=65535, help="port that home is served on")] = 8765,
    root: Annotated[
        list[Path] | None, typer.Option(help="folder that home may look into; repeatable", show_default=False)
    ] = None,
) -> None:
    """Begin home now and with every start of the machine."""
    from livestack.faces.service import Service

    words = ["--host", host, "--port", str(port)]
    for folder in root or ():
        words += ["--root", str(folder.absolute())]
    for sentence in Service.here().install(words):
        print(sentence)


@service.command(name="remove")
def remove_service() -> None:
    """End it, saving what runs, and do not begin any more."""
    from livestack.faces.service import Service

    for sentence in Service.here().remove():
        print(sentence)


@service.command(name="status")
def tell_service() -> None:
    """Tell whether it runs, and where it tells what it does; exit status 1 when it does not."""
    from livestack.faces.service import Service

    told, active = Service.here().status()
    for sentence in told:
        print(sentence)
    if not active:
        raise typer.Exit(1)


@launcher.command(name="install")
def install_launcher() -> None:
    """Make the entry."""
    from livestack.faces.launcher import install

    for sentence in install():
        print(sentence)


@launcher.command(name="remove")
def remove_launcher() -> None:
    """Delete the entry."""
    from livestack.faces.launcher import remove

    for sentence in remove():
        print(sentence)
