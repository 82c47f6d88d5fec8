"""The terminal's view of a session: what it says, and that it never disturbs anything."""

from __future__ import annotations

import io
import re
import time

import pytest
from rich.console import Console

from livestack.base.text import clean_text, say_duration, say_exposure
from livestack.faces.terminal import Dashboard, draw, event_lines, new_messages, sparkline
from livestack.session.snapshot import Slot, Snapshot, TrendPoint
from tests.waiting import until


def point(frame: int, status: str = "stacked", message: str | None = None, fwhm: float | None = 3.0) -> TrendPoint:
    """One frame of a made-up night."""
    return TrendPoint(
        frame,
        f"L_{frame:03d}.fits",
        status,
        None,
        fwhm,
        0.4,
        1200.0,
        0.9,
        87,
        0.0,
        0.0,
        0.0,
        "clouds",
        message,  # type: ignore[arg-type]
    )


def night(sequence: int = 1, frames: int = 3, **more: object) -> Snapshot:
    """A snapshot after so many frames."""
    values: dict[str, object] = {
        "sequence": sequence, "state": "watching", "object_name": "M 27", "n_stacked": frames, "n_session": frames,
        "exposure_s": {"L": 30.0 * frames, "Ha": 300.0}, "fwhm_px": 3.12, "fwhm_arcsec": 2.41, "sky_adu": 1234.5,
        "snr_gain": 1.7, "snr_ideal": 1.732, "trend": tuple(point(n) for n in range(frames)),
    }  # fmt: skip
    return Snapshot(**{**values, **more})  # type: ignore[arg-type]


def rendered(snapshot: Snapshot, width: int, height: int, **options: bool) -> str:
    """What the dashboard writes, without colours."""
    out = io.StringIO()
    Console(file=out, width=width, height=height, color_system=None).print(draw(snapshot, width, height, **options))
    return out.getvalue()


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(0, "0 s"), (0.5, "0.5 s"), (45, "45 s"), (200, "3 min 20 s"), (3900, "1 h 05 min"), (float("nan"), "0 s")],
)
def test_durations_are_said_in_two_units(seconds: float, words: str) -> None:
    assert say_duration(seconds) == words


def test_exposure_by_filter_and_without_names() -> None:
    assert say_exposure({"L": 60, "Ha": 600}) == "Ha 10 min · L 1 min"
    assert say_exposure({"": 60}) == "1 min"


def test_sparkline_spans_least_to_greatest_and_keeps_gaps() -> None:
    assert sparkline([1.0, None, 2.0], 10) == "▁ █"
    assert sparkline([5.0, 1.0, 2.0], 2) == "▁█"  # only the last two
    assert sparkline([None], 10) == ""


def test_new_messages_of_a_bounded_list() -> None:
    assert new_messages(["a", "b", "c"], ["b", "c", "d"]) == ["d"]
    assert new_messages([], ["a"]) == ["a"]
    assert new_messages(["a"], ["a"]) == []


@pytest.mark.parametrize(("width", "height"), [(80, 24), (60, 15), (40, 12), (200, 50)])
def test_dashboard_fits_the_terminal(width: int, height: int) -> None:
    crowded = night(
        frames=60,
        messages=tuple(
            f"L_{n}.fits refused: clouds dimmed the stars to {n} % of what they were before" for n in range(30)
        ),
        warnings=("Focus has drifted by 20 %: refocus.",) * 5,
    )
    lines = rendered(crowded, width, height).splitlines()
    assert len(lines) <= height
    assert max(map(len, lines)) <= width
    assert "60 stacked" in rendered(crowded, width, height)


def test_dashboard_says_what_matters() -> None:
    text = rendered(
        night(n_refused=1, n_waiting=4, messages=("L_9.fits refused: clouds",), warnings=("No new file",)), 80, 24
    )
    for words in ("M 27", "3 stacked", "1 refused", "4 waiting", "3.12 px", '2.41"', "1234.5 ADU", "1.70", "1.73"):
        assert words in text
    for words in ("Ha 5 min", "L 1 min 30 s", "clouds", "No new file"):
        assert words in text


def test_empty_session_can_be_drawn() -> None:
    assert "0 stacked" in rendered(Snapshot(), 80, 24)


def test_a_file_name_cannot_drive_the_terminal() -> None:
    nasty = "\x1b[2J[red]evil\n\x07.fits"
    assert "\x1b" not in clean_text(nasty)
    text = rendered(night(messages=(nasty,), object_name=nasty), 80, 24)
    assert "\x1b" not in text
    assert "[red]evil" in text  # shown as written, not obeyed as markup


def test_event_lines_say_each_event_once() -> None:
    before = night(1, 3)
    refused = point(3, "refused", "L_003.fits refused: clouds")
    after = night(2, 3, n_refused=1, trend=(*before.trend, refused), messages=("L_003.fits refused: clouds",))
    assert event_lines(before, after) == ["L_003.fits refused: clouds"]
    silent = night(2, 3, trend=(*before.trend, point(3, "refused", "dimmed by clouds")))
    assert len(event_lines(before, silent)) == 1
    assert "dimmed by clouds" in event_lines(before, silent)[0]
    assert event_lines(after, after) == []


def test_plain_lines_without_a_terminal() -> None:
    out, slot = io.StringIO(), Slot()
    with Dashboard(slot, Console(file=out, width=80)):
        slot.publish(night(1, 2))
        assert until(lambda: "2 stacked" in out.getvalue())
        slot.publish(night(2, 3, messages=("L_009.fits refused: clouds",)))
        slot.publish(night(3, 3, messages=("L_009.fits refused: clouds", "saved"), state="ended"))
    text = out.getvalue()
    assert "\x1b" not in text
    assert text.count("L_009.fits refused") == 1
    assert text.count("saved") == 1
    assert "state  ended" in text  # the last snapshot is told before stop returns
    assert re.search(r"^stacked  L_002.fits", text, re.M)


def test_redraws_are_few_and_only_on_change(monkeypatch: pytest.MonkeyPatch) -> None:
    drawn: list[int] = []
    monkeypatch.setattr("livestack.faces.terminal.draw", lambda snapshot, *_: drawn.append(snapshot.sequence) or "x")
    slot = Slot()
    with Dashboard(
        slot, Console(file=io.StringIO(), force_terminal=True, width=80, height=24, _environ={"TERM": "xterm"})
    ):
        began = time.monotonic()
        for n in range(1, 60):
            slot.publish(night(n))
            time.sleep(0.01)
        elapsed = time.monotonic() - began
        until(lambda: drawn[-1:] == [59])
    assert drawn[-1] == 59
    assert len(drawn) == len(set(drawn))
    assert len(drawn) <= elapsed / 0.25 + 3


class BrokenStream(io.StringIO):
    """A terminal that was closed."""

    def write(self, text: str) -> int:
        raise OSError("gone")


@pytest.mark.parametrize("terminal", [True, False])
def test_a_broken_terminal_ends_the_drawing_only(terminal: bool) -> None:
    slot = Slot()
    dashboard = Dashboard(slot, Console(file=BrokenStream(), force_terminal=terminal, _environ={"TERM": "xterm"}))
    dashboard.start()
    slot.publish(night(1))
    dashboard.stop()
    assert dashboard.failure == "gone"
