"""The session in a terminal: a dashboard that redraws on change, or plain lines where there is no terminal.

`Dashboard` runs a thread of its own that reads the slot's latest snapshot, at most four times a second, and draws it
with rich. On a pipe or in a log file it writes one line for each event instead, without cursor codes. Whatever goes
wrong with the terminal (closed, broken pipe) ends the drawing and never reaches the session.

Left to others: events as JSON lines, and every decision about the session.
"""

from __future__ import annotations

import io
import threading
from collections.abc import Sequence
from types import TracebackType

import numpy as np
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from livestack.base.text import clean_text, say_duration, say_exposure, say_number
from livestack.session.snapshot import Slot, Snapshot, TrendPoint

REDRAW_INTERVAL_S = 0.25
"""Shortest time between two drawings."""
LOOK_INTERVAL_S = 0.2
"""How long the thread waits for news before it looks whether it should end."""
BLOCKS = "▁▂▃▄▅▆▇█"
ASCII_BLOCKS = "_.-=+*%#"
STATE_WORDS = {
    "starting": ("starting", "cyan"),
    "watching": ("● live", "green"),
    "paused": ("paused", "yellow"),
    "saving": ("saving", "cyan"),
    "ended": ("ended", "bright_black"),
}


def sparkline(values: Sequence[float | None], width: int, blocks: str = BLOCKS) -> str:
    """Return the last `width` values as a row of blocks between their least and greatest; a gap where there is None."""
    recent = [float(v) if v is not None else np.nan for v in values[-width:]] if width > 0 else []
    known = [v for v in recent if np.isfinite(v)]
    if not known:
        return ""
    low, high = min(known), max(known)
    span = high - low
    if span <= 0:
        return "".join(blocks[len(blocks) // 2] if np.isfinite(v) else " " for v in recent)
    steps = len(blocks) - 1
    return "".join(blocks[round((v - low) / span * steps)] if np.isfinite(v) else " " for v in recent)


def new_messages(before: Sequence[str], after: Sequence[str]) -> list[str]:
    """Return what `after` has beyond `before`, both bounded lists, newest last: the old tail may open the new list."""
    for overlap in range(min(len(before), len(after)), 0, -1):
        if tuple(before[-overlap:]) == tuple(after[:overlap]):
            return list(after[overlap:])
    return list(after)


def _frame_line(point: TrendPoint) -> str:
    """One frame of the night as one line."""
    parts = [point.status, clean_text(point.file)]
    if point.fwhm_px is not None:
        parts.append(f"FWHM {say_number(point.fwhm_px, 2, 'px')}")
    if point.transparency is not None:
        parts.append(f"transparency {100 * point.transparency:.0f} %")
    if point.n_stars:
        parts.append(f"{point.n_stars} stars")
    if point.status == "refused":
        parts.append(clean_text(point.message or point.reason or ""))
    return "  ".join(parts)


def event_lines(before: Snapshot, after: Snapshot) -> list[str]:
    """Return what happened between two snapshots, one plain line for each event."""
    lines: list[str] = []
    if (after.object_name, after.group) != (before.object_name, before.group) and (after.object_name or after.group):
        lines.append(clean_text(f"target  {_title(after)}"))
    told = [clean_text(m) for m in new_messages(before.messages, after.messages)]
    last = before.trend[-1].frame if before.trend else -1
    for point in after.trend:
        # A refusal usually comes with its own message: say it once.
        if point.frame > last and not (point.status == "refused" and _is_told(point, told)):
            lines.append(_frame_line(point))
    lines += told
    lines += [f"warning  {clean_text(w)}" for w in after.warnings if w not in before.warnings]
    if after.n_session > before.n_session:
        gain = ""
        if after.snr_gain:
            gain = f"  SNR gain {say_number(after.snr_gain, 2)} of {say_number(after.snr_ideal, 2)}"
        lines.append(
            f"total  {after.n_stacked} stacked{_session_total(after)}  {after.n_refused} refused  "
            f"{after.n_waiting} waiting  exposure {clean_text(say_exposure(after.exposure_s))}{gain}"
        )
    if after.passed and after.passed != before.passed:
        lines.append(f"passed  {after.passed}")
    if after.state != before.state:
        lines.append(f"state  {after.state}")
    return lines


def _is_told(point: TrendPoint, messages: Sequence[str]) -> bool:
    """True when a message already speaks of the file."""
    name = clean_text(point.file)
    return any(name in m or (point.message and clean_text(point.message) in m) for m in messages)


def _title(snapshot: Snapshot) -> str:
    """Object and group as one heading, without saying the same word twice."""
    name = snapshot.object_name or snapshot.session_name or "livestack"
    return f"{name} · {snapshot.group}" if snapshot.group and snapshot.group != name else name


def _trend_row(
    table: Table, label: str, values: list[float | None], unit: str, width: int, blocks: str, digits: int
) -> None:
    """Add a row with a sparkline and the range it spans, where anything was measured."""
    line = sparkline(values, width, blocks)
    if not line:
        return
    shown = [v for v in values[-width:] if v is not None and np.isfinite(v)]
    span = f"{min(shown):.{digits}f}-{max(shown):.{digits}f}{unit}"
    table.add_row(label, Text.assemble((line, "cyan"), "  ", (span, "bright_black")))


def draw(snapshot: Snapshot, width: int, height: int, ascii_only: bool = False) -> RenderableType:
    """Return the dashboard for a terminal of `width` x `height` characters; it never needs more than `height` lines."""
    word, colour = STATE_WORDS[snapshot.state]
    if ascii_only:
        word = word.replace("● ", "")
    blocks = ASCII_BLOCKS if ascii_only else BLOCKS
    facts = Table.grid(padding=(0, 2))
    facts.add_column(style="bright_black", no_wrap=True, min_width=12)
    facts.add_column(overflow="ellipsis", no_wrap=True)
    refused_style = "bold yellow" if snapshot.n_refused else "bold"
    counts = Text.assemble(
        (str(snapshot.n_stacked), "bold green"), f" stacked{_session_total(snapshot)}   ",
        (str(snapshot.n_refused), refused_style), " refused   ",
        (str(snapshot.n_waiting), "bold"), " waiting",
    )  # fmt: skip
    facts.add_row("frames", counts)
    if snapshot.passed:
        facts.add_row("passed", snapshot.passed)
    facts.add_row("exposure", clean_text(_exposure_words(snapshot)))
    if snapshot.snr_gain is not None and snapshot.snr_ideal:
        share = 100 * snapshot.snr_gain / snapshot.snr_ideal
        gain = f"{snapshot.snr_gain:.2f} x   (ideal {snapshot.snr_ideal:.2f}, {share:.0f} %)"
    else:
        gain = say_number(snapshot.snr_gain, 2)
    facts.add_row("SNR gain", gain)
    arcsec = f'  {snapshot.fwhm_arcsec:.2f}"' if snapshot.fwhm_arcsec is not None else ""
    sharp = f"{say_number(snapshot.fwhm_px, 2, 'px')}{arcsec}   elongation e {say_number(snapshot.eccentricity, 2)}"
    facts.add_row("FWHM", sharp)
    facts.add_row("sky", say_number(snapshot.sky_adu, 1, "ADU"))
    room = max(8, min(48, width - 34))
    _trend_row(facts, "FWHM trend", [p.fwhm_px for p in snapshot.trend], " px", room, blocks, 2)
    clearness = [100 * p.transparency if p.transparency is not None else None for p in snapshot.trend]
    _trend_row(facts, "transparency", clearness, " %", room, blocks, 0)
    lines: list[RenderableType] = [facts]
    free = height - 3 - facts.row_count
    for warning in snapshot.warnings[: max(0, min(3, free - 2))]:
        lines.append(Text("! " + clean_text(warning), style="bold yellow", no_wrap=True, overflow="ellipsis"))
        free -= 1
    if free > 1:
        messages = [clean_text(m) for m in snapshot.messages[-min(8, free - 1) :]]
        if messages:
            lines.append(Text(""))
        for n, message in enumerate(messages):
            style = "default" if n == len(messages) - 1 else "bright_black"
            lines.append(Text(message, style=style, no_wrap=True, overflow="ellipsis"))
    title = Text.assemble((clean_text(_title(snapshot)), "bold"), "  ", (word, colour))
    return Panel(Group(*lines), title=title, title_align="left", border_style="bright_black", width=width)


def _exposure_words(snapshot: Snapshot) -> str:
    """By filter, and the sum where there are several."""
    text = say_exposure(snapshot.exposure_s)
    if len(snapshot.exposure_s) > 1:
        text += f"   (together {say_duration(sum(snapshot.exposure_s.values()))})"
    return text


class Dashboard:
    """Shows a slot's snapshots in the terminal, from a thread of its own, until `stop`.

    Parameters
    ----------
    slot : where the session publishes.
    console : rich console to draw on; standard output by default. Not a terminal: plain lines.
    """

    def __init__(self, slot: Slot, console: Console | None = None) -> None:
        self._slot = slot
        self._console = console or Console()
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None
        self.failure: str | None = None
        """Why drawing ended early, where it did."""

    def start(self) -> None:
        """Begin drawing; a second call does nothing."""
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="livestack-terminal", daemon=True)
            self._thread.start()

    def stop(self) -> None:
        """Draw the last snapshot and end."""
        self._stop.set()
        if self._thread is not None:
            self._thread.join(timeout=5)
            self._thread = None

    def __enter__(self) -> Dashboard:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def _run(self) -> None:
        try:
            stream = self._console.file
            if isinstance(stream, io.TextIOWrapper):
                stream.reconfigure(errors="replace")  # a terminal without Unicode shows "?", and goes on
            if self._console.is_terminal and not self._console.is_dumb_terminal:
                self._draw_live()
            else:
                self._print_lines()
        except (OSError, ValueError) as error:  # a closed or broken terminal; UnicodeEncodeError is a ValueError
            self.failure = str(error)
        except SystemExit:  # rich's answer to a broken pipe; the session is not ours to end
            self.failure = "the terminal was closed"

    def _draw_live(self) -> None:
        console = self._console
        ascii_only = not console.encoding.lower().startswith("utf")
        shown, size = -1, console.size
        with Live(console=console, auto_refresh=False, transient=False) as live:
            while True:
                ending = self._stop.is_set()
                latest = self._slot.wait_newer(shown, 0 if ending else LOOK_INTERVAL_S)
                if latest.sequence != shown or console.size != size:
                    shown, size = latest.sequence, console.size
                    live.update(draw(latest, size.width, size.height, ascii_only), refresh=True)
                if ending:
                    return
                self._stop.wait(REDRAW_INTERVAL_S)

    def _print_lines(self) -> None:
        before = Snapshot()
        while True:
            ending = self._stop.is_set()
            latest = self._slot.wait_newer(before.sequence, 0 if ending else LOOK_INTERVAL_S)
            if latest.sequence != before.sequence:
                for line in event_lines(before, latest):
                    self._console.out(line, highlight=False)
                before = latest
            if ending:
                return
            self._stop.wait(REDRAW_INTERVAL_S)


def _session_total(snapshot: Snapshot) -> str:
    """How many frames all targets have, where there are others beside the one that is shown."""
    return f" ({snapshot.n_session} in the session)" if snapshot.n_session > snapshot.n_stacked else ""
