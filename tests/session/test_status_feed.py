"""What faces are told: everything beside a picture speaks of that picture's target."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from livestack import LiveStack, Settings
from livestack.base.journal import FrameRecord, RemovedRecord, SessionStart
from livestack.engine.events import Event, FrameDone
from livestack.engine.views import StackView
from livestack.faces.terminal import draw
from livestack.faces.web.status import public_status
from livestack.observers.photometry import Photometry
from livestack.observers.preview import Drawing, PreviewRenderer
from livestack.session.snapshot import Slot, Upright
from livestack.session.status_feed import StatusFeed
from livestack.simulate import named_scenario, simulate_frame

FRAMES = 12


def walk(tmp_path: Path) -> StatusFeed:
    """Two targets one after the other, filters in turn; every picture is drawn and published."""
    night = named_scenario("filters", frames=FRAMES, width=320, height=240, seed=3, filters=("L", "R"))
    drawn: list[Drawing] = []
    with LiveStack(Settings.model_validate({"stack": {"warmup_frames": 2}})) as stack:
        status = StatusFeed(Slot(), "night", tmp_path, stack.targets, lambda: 0)
        stack.events.subscribe(status.on_event)
        views: dict[str, StackView] = {}

        def look(event: Event) -> None:
            if isinstance(event, FrameDone) and event.view is not None:
                views[event.view.group] = event.view

        stack.events.subscribe(look)
        for number in range(FRAMES):
            outcome = stack.add(simulate_frame(night, number).frame)
            assert outcome.stacked
            renderer = PreviewRenderer(drawn.append, lambda said: None)
            renderer.draw(views[outcome.group], stack.settings.render)
            renderer.finish()
            status.draw(drawn[-1])
            status.publish()
    return status


def test_what_stands_beside_a_picture_is_of_its_target(tmp_path: Path) -> None:
    status = walk(tmp_path)
    shown = status.slot.latest
    groups = status._targets.groups
    mine = [group for name, group in groups.items() if group.grid.root == groups[shown.group].grid.root]
    assert len({group.grid.root for group in groups.values()}) == 2, "two targets"
    assert shown.n_stacked == sum(group.n_stacked for group in mine) < FRAMES
    assert shown.n_session == FRAMES
    np.testing.assert_allclose(sum(shown.exposure_s.values()), sum(group.ledger.exposure_s for group in mine))
    newest = groups[shown.group]
    assert [n for n, _ in shown.noise_history] == sorted({n for n, _ in shown.noise_history})
    assert shown.noise_history[-1][0] <= newest.n_stacked, "the chart does not go on from another target"
    assert shown.snr_ideal == newest.n_stacked**0.5
    assert shown.snr_gain is not None
    assert shown.snr_gain < 1.3 * shown.snr_ideal

    told = public_status(shown)
    assert (told["frames"], told["frames_session"]) == (shown.n_stacked, FRAMES)
    out = io.StringIO()
    Console(file=out, width=120, height=30, color_system=None).print(draw(shown, 120, 30))
    assert f"{shown.n_stacked} stacked ({FRAMES} in the session)" in out.getvalue()


def test_its_memory_survives(tmp_path: Path) -> None:
    status = walk(tmp_path)
    other = StatusFeed(Slot(), "night", tmp_path, status._targets, lambda: 0)
    other.restore(status.state())
    assert other.noise == status.noise
    assert len(other.noise) == 4


@pytest.mark.parametrize("row_order", ["TOP-DOWN", "BOTTOM-UP"])
def test_stars_are_where_the_picture_shows_them(tmp_path: Path, row_order: str) -> None:
    """On a canvas that has grown to the left and in height, whichever way up it is shown."""
    night = named_scenario("mono", frames=8, width=320, height=240, seed=4, dither_px=25.0, row_order=row_order)
    chosen = {"stack": {"warmup_frames": 2, "canvas": "union", "canvas_max": 4.0}}
    drawn: list[Drawing] = []
    with LiveStack(Settings.model_validate(chosen)) as stack:
        status = StatusFeed(Slot(), "night", tmp_path, stack.targets, lambda: 0)
        seen = Photometry(stack.settings.photometry, stack.bands, lambda said: None)
        renderer = PreviewRenderer(drawn.append, lambda said: None)

        def look(event: Event) -> None:
            if isinstance(event, FrameDone) and event.view is not None:
                renderer.draw(event.view, stack.settings.render)

        for listener in (seen.on_event, status.on_event, look):
            stack.events.subscribe(listener)
        for number in range(8):
            stack.add(simulate_frame(night, number).frame)
        renderer.finish()
        (group,) = stack.groups
        assert seen.finish(group) is not None
        status.curves = seen.curves
        status.draw(drawn[-1])
        status.publish()
        shown = status.slot.latest
        assert shown.curves is not None
        assert shown.upright is not None
        assert shown.region is not None
        assert shown.upright.bottom_up == (row_order == "BOTTOM-UP")
        assert shown.upright.left < 0
        assert shown.upright.height > 240
        brightest = np.argsort(shown.curves.mag)[:8]
        x, y = shown.upright.from_reference(shown.curves.x[brightest], shown.curves.y[brightest])
        away = []
        for px, py in zip(x, y, strict=True):
            left, top = round(px) - 6, round(py) - 6
            part = shown.region(left, top, 13, 13).sum(axis=2).astype(float)
            light = np.clip(part - np.percentile(part, 70), 0, None)
            rows, columns = np.indices(part.shape)
            centre = np.array([(light * columns).sum(), (light * rows).sum()]) / light.sum()
            away.append(centre + np.array([left - px, top - py]))
            back = shown.upright.to_reference(px, py)
            np.testing.assert_allclose(shown.upright.from_reference(*map(np.asarray, back)), (px, py))
        assert np.abs(np.median(away, axis=0)).max() < 0.1  # some have neighbours
        assert np.hypot(*np.transpose(away)).max() < 3.0
        assert shown.value is not None
        (filled,) = stack.groups.values()
        assert filled.stack is not None
        stored = filled.stack.image()[0]
        upright = stored[::-1] if shown.upright.bottom_up else stored
        row, column = (int(v) for v in np.argwhere(np.isfinite(upright))[777])
        assert shown.value(column, row) == (float(upright[row, column]),)
        assert shown.value(-1, 5) == shown.value(5, len(upright)) == ()


def test_no_place_is_told_while_the_picture_is_of_another_target(tmp_path: Path) -> None:
    status = walk(tmp_path)
    assert isinstance(status.slot.latest.upright, Upright)
    groups = status._targets.groups
    other = next(n for n, g in groups.items() if g.grid.root != groups[status.active_group].grid.root)
    status.active_group = other
    status.publish()
    assert status.slot.latest.upright is None


def test_an_interrupted_night_is_told_again(tmp_path: Path) -> None:
    """Frames of the journal have their numbers, files and fates; those that come later have other numbers."""
    frames = [FrameRecord(file=f"sub/{k}.fits", group="m-27", status="stacked", fwhm_px=2.5) for k in range(3)]
    records = [
        SessionStart(version="1", settings={}, folder="/night"), *frames[:2],
        RemovedRecord(file="0.fits", group="m-27", message="the host took it out"), frames[2],
    ]  # fmt: skip
    with LiveStack(Settings()) as stack:
        status = StatusFeed(Slot(), "night", tmp_path, stack.targets, lambda: 0)
        status.recall(records)
        status.note_refusal(Path("/night/late.fits"), "unreadable", "late.fits: broken")
        points = list(status.trend)
    assert [(p.file, p.status, p.reason) for p in points] == [
        ("1.fits", "stacked", None), ("0.fits", "refused", "removed"), ("2.fits", "stacked", None),
        ("late.fits", "refused", "unreadable"),
    ]  # fmt: skip
    assert [p.frame for p in points] == sorted({p.frame for p in points})
    assert points[1].path == Path("/night/sub/0.fits")
    status.goals = {"Ha": 3600.0}
    other = StatusFeed(Slot(), "night", tmp_path, stack.targets, lambda: 0)
    other.restore(status.state())
    assert other.goals == {"Ha": 3600.0}
