"""Commands on single files: info, psf, enhance, merge."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from livestack.base import choices
from livestack.base.errors import FrameError
from livestack.faces.cli.app import app
from livestack.faces.cli.options import Bayer


@app.command()
def info(
    files: Annotated[list[Path], typer.Argument(help="frames of any kind that we read", show_default=False)],
    bayer: Bayer = None,
) -> None:
    """Show what we understood of each file, and what is odd about it."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    from livestack.base.frame import info_with_bayer
    from livestack.formats import check_complete, count_frames, read_info
    from livestack.formats.words import describe_info

    unreadable = 0
    for path in files:
        try:
            check_complete(path)
            rows = describe_info(info_with_bayer(read_info(path), bayer), count_frames(path))
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
    target: Annotated[choices.EnhanceTarget, typer.Option(help="auto: by the stars that are found or not")] = "auto",
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
        Path | None, typer.Option(help="file to write \\[default: merged.fits beside the first]", show_default=False)
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
    print(made.picture)
