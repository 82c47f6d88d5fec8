"""What passed, beside a group's stack: `passages.csv`, and `trails.png`, the night's streaks over the clean stack."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from livestack.base.durable import write_atomically
from livestack.base.settings import Settings
from livestack.engine.results import Result
from livestack.kernels.bands import Bands
from livestack.movers.passages import Passage, as_csv
from livestack.movers.reduced import Trails
from livestack.picture import measure_look
from livestack.products.stack_files import describe_result, render_result, write_formats


def write_passages(folder: Path, passages: Sequence[Passage]) -> Path:
    """Write the table; with its heading alone where nothing passed.

    Raises
    ------
    SessionError : disk full, or not writable.
    """
    path = folder / "passages.csv"
    folder.mkdir(parents=True, exist_ok=True)
    write_atomically(path, as_csv(passages).encode("utf-8"))
    return path


def write_trails(folder: Path, result: Result, trails: Trails, settings: Settings, bands: Bands) -> list[Path]:
    """Write `trails.png`: what crossed single frames, over the clean stack, stretched as the stack is.

    Raises
    ------
    SessionError : disk full, or not writable.
    """
    planes = result.mean if result.mean.ndim == 3 else result.mean[None]
    look = measure_look(planes, settings.render, None, bands, result.reference.terraces)
    canvas = result.canvas
    crossed = planes + trails.on_canvas(canvas.from_reference, canvas.width, canvas.height)
    crossed = crossed if result.mean.ndim == 3 else crossed[0]
    _, picture = render_result(replace(result, mean=crossed), settings, bands, look)
    upside_down = result.reference.info.bottom_up
    return write_formats(folder, "trails", picture, planes, upside_down, ("png",), describe_result(result))
