"""The desktop window: what it shows, what stays where it is, and what keys ask for."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from astropy import units as u
from astropy.coordinates import SkyCoord
from matplotlib.backend_bases import KeyEvent, MouseEvent
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from livestack.astrometry import SkyMap
from livestack.astrometry.facts import SkyFacts
from livestack.astrometry.objects import has_catalogue
from livestack.base.errors import SessionError, UsageError
from livestack.faces import desktop
from livestack.faces.desktop import Window, choose_backend, compose, run_window
from livestack.faces.desktop_sky import crossing
from livestack.session.snapshot import Slot, Snapshot, Upright
from tests.astrometry.test_grid import map_at, wcs_of
from tests.fake_session import FakeSession


@pytest.fixture
def session() -> FakeSession:
    """Six frames of a small galaxy, one of them refused."""
    fake = FakeSession(360, 240)
    for _ in range(6):
        fake.step()
    return fake


def open_window(session: FakeSession) -> Window:
    """A window on a canvas in memory."""
    figure = Figure(figsize=(10, 6))
    FigureCanvasAgg(figure)
    window = Window(session.slot, session.controls, figure)
    window.refresh()
    return window


def pixels(window: Window) -> np.ndarray:
    """What is on the screen, (h, w, 3)."""
    canvas = window._figure.canvas
    assert isinstance(canvas, FigureCanvasAgg)
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())[..., :3].copy()


def press(window: Window, key: str) -> None:
    """Press a key."""
    canvas = window._figure.canvas
    canvas.callbacks.process("key_press_event", KeyEvent("key_press_event", canvas, key))


def at_centre(window: Window, name: str, dx: float = 0, **options: object) -> None:
    """Something done with the mouse, `dx` points right of the picture's middle."""
    canvas, box = window._figure.canvas, window.view.bbox
    x, y = (box.x0 + box.x1) / 2 + dx, (box.y0 + box.y1) / 2
    canvas.callbacks.process(name, MouseEvent(name, canvas, x, y, **options))  # type: ignore[arg-type]


def view_of(window: Window) -> tuple[float, ...]:
    """The limits of the picture's axes."""
    return (*window.view.get_xlim(), *window.view.get_ylim())


def test_compose_puts_the_raw_frame_left_of_the_divider() -> None:
    stack, frame = np.full((4, 10, 3), 200, np.uint8), np.full((4, 10, 3), 50, np.uint8)
    snapshot = Snapshot(picture=stack, last_frame=frame)
    split = compose(snapshot, "split", 0.3)
    assert split is not None
    assert split[:, :3].max() == 50
    assert split[:, 3:].min() == 200
    assert np.array_equal(compose(snapshot, "frame", 0.3), frame)  # type: ignore[arg-type]
    assert np.array_equal(compose(snapshot, "stack", 0.3), stack)  # type: ignore[arg-type]


def test_compose_before_the_first_pictures() -> None:
    frame = np.full((4, 10, 3), 50, np.uint8)
    assert compose(Snapshot(), "split", 0.5) is None
    assert np.array_equal(compose(Snapshot(last_frame=frame), "stack", 0.5), frame)  # type: ignore[arg-type]
    assert np.array_equal(compose(Snapshot(picture=frame), "frame", 0.5), frame)  # type: ignore[arg-type]


def test_compose_survives_other_sizes_and_large_pictures() -> None:
    stack, frame = np.full((2400, 4000, 3), 200, np.uint8), np.full((20, 40, 3), 50, np.uint8)
    split = compose(Snapshot(picture=stack, last_frame=frame), "split", 0.5)
    assert split is not None
    assert max(split.shape) <= 1920
    assert (split[:, 0].max(), split[:, -1].min()) == (50, 200)


def test_window_shows_the_stack_and_redraws_only_on_change(session: FakeSession) -> None:
    window = open_window(session)
    first = pixels(window)
    assert not window.refresh()
    session.step()
    assert window.refresh()
    assert not np.array_equal(first, pixels(window))
    assert "M 31   6 frames" in window._title.get_text()
    assert "1 refused" in window._facts.get_text()


def test_an_empty_session_can_be_shown() -> None:
    window = open_window(FakeSession(64, 40))
    assert window._waiting.get_visible()
    assert pixels(window).std() > 0


def test_modes_differ_on_the_screen(session: FakeSession) -> None:
    window = open_window(session)
    shown = {}
    for mode in ("stack", "frame", "split"):
        assert window.mode == mode
        shown[mode] = pixels(window)
        press(window, "m")
    height, width = shown["stack"].shape[:2]
    box = window.view.bbox
    left = slice(int(box.x0) + 20, int((box.x0 + box.x1) / 2) - 20)
    right = slice(int((box.x0 + box.x1) / 2) + 20, int(box.x1) - 20)
    rows = slice(height - int(box.y1) + 20, height - int(box.y0) - 20)
    assert width > right.stop
    assert np.array_equal(shown["split"][rows, left], shown["frame"][rows, left])
    assert np.array_equal(shown["split"][rows, right], shown["stack"][rows, right])
    assert not np.array_equal(shown["stack"][rows, left], shown["frame"][rows, left])


def test_zoom_and_pan_stay_while_the_stack_grows(session: FakeSession) -> None:
    window = open_window(session)
    whole = view_of(window)
    at_centre(window, "scroll_event", step=3)
    at_centre(window, "button_press_event", button=1)
    at_centre(window, "motion_notify_event", dx=30)
    at_centre(window, "button_release_event", button=1)
    moved = view_of(window)
    assert abs(moved[1] - moved[0]) == pytest.approx(360 / 1.25**3)
    assert sum(moved[:2]) / 2 < sum(whole[:2]) / 2  # dragged to the right: what lies left comes into view
    session.step()
    window.refresh()
    assert view_of(window) == moved
    press(window, "r")
    assert view_of(window) == whole
    session.publish(full_size=(720, 480), picture=np.zeros((240, 360, 3), np.uint8))  # another target
    window.refresh()
    assert view_of(window)[:2] == (-0.5, 719.5)


def test_scrolling_keeps_the_pixel_under_the_pointer(session: FakeSession) -> None:
    window = open_window(session)
    window.zoom(2, 100, 50)
    left, right, bottom, top = view_of(window)
    assert (100 - left) / (right - left) == pytest.approx((100 + 0.5) / 360)
    assert (50 - top) / (bottom - top) == pytest.approx((50 + 0.5) / 240)


def test_keys_ask_the_session(session: FakeSession) -> None:
    window = open_window(session)
    press(window, "p")
    window.refresh()
    assert "Resume" in window._buttons["pause"].label.get_text()
    press(window, "p")
    press(window, "s")
    assert session.asked == [("pause",), ("resume",), ("save",)]
    assert window._message.get_text() == "save: done."
    assert not window.closed
    press(window, "q")
    assert window.closed
    assert ("stop",) not in session.asked  # closing the window does not end the session


def test_a_refusal_of_the_session_is_shown(session: FakeSession) -> None:
    def fail() -> str:
        raise SessionError("The disk is full.")

    session.controls = replace(session.controls, save_now=fail)
    window = open_window(session)
    press(window, "s")
    assert window._message.get_text() == "The disk is full."


def test_stretch_is_sent_once_when_the_slider_rests(session: FakeSession, monkeypatch: pytest.MonkeyPatch) -> None:
    window = open_window(session)
    now = [100.0]
    monkeypatch.setattr(desktop.time, "monotonic", lambda: now[0])
    for value in (0.2, 0.25, 0.3):
        window.background.set_val(value)
        now[0] += 0.1
        window.refresh()
    assert session.asked == []
    now[0] += 0.5
    window.refresh()
    window.refresh()
    assert session.asked == [("stretch", pytest.approx(0.3), pytest.approx(1.5))]


def test_sliders_stand_at_what_is_in_force(session: FakeSession) -> None:
    window = open_window(session)
    assert (window.background.val, window.saturation.val) == (0.12, 1.5)
    session.controls.set_stretch(0.3, 2.0)  # from the host's page, say
    window.refresh()
    assert (window.background.val, window.saturation.val) == (0.3, 2.0)
    assert session.asked == [("stretch", 0.3, 2.0)]  # nothing was sent back


def test_the_comet_alone_is_shown_where_one_is_followed(session: FakeSession) -> None:
    window = open_window(session)
    press(window, "c")
    assert session.asked == []
    session.publish(follows=True)
    for which in ("stars", "object", "both"):
        press(window, "c")
        assert session.asked[-1] == ("show", which)


def test_trends_tell_stacked_from_refused(session: FakeSession) -> None:
    window = open_window(session)
    stacked, refused = window._trend_lines[2].get_xdata(), window._trend_refused[2].get_xdata()
    assert list(stacked) == [0, 1, 2, 3, 5]
    assert list(refused) == [4]
    assert list(window._trend_refused[0].get_xdata()) == []  # its FWHM was not measured


def test_without_a_display_the_web_view_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.delenv("DISPLAY", raising=False)
    monkeypatch.delenv("WAYLAND_DISPLAY", raising=False)
    with pytest.raises(UsageError, match="no display; use --web"):
        run_window(Slot())


def test_without_a_toolkit_the_remedy_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.setenv("DISPLAY", ":0")
    monkeypatch.setattr(desktop.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(UsageError, match="python3-tk"):
        choose_backend()


REAL_WINDOW = """
import sys, threading, time

from tests.fake_session import FakeSession
from livestack.faces.desktop import run_window
session = FakeSession(360, 240)
session.start(0.1)
def end():
    time.sleep(2)
    session.stop()
    session.publish(state="ended")
threading.Thread(target=end, daemon=True).start()
run_window(session.slot, session.controls)
print("returned after", session.snapshot.n_stacked)
"""


def test_a_real_window_opens_and_returns_when_the_session_ends() -> None:
    pytest.importorskip("tkinter", reason="Python was built without Tk")
    xvfb = shutil.which("xvfb-run")
    if not xvfb:
        pytest.skip("xvfb-run is not installed: no display to open a window on")
    script = REAL_WINDOW
    done = subprocess.run(
        [xvfb, "-a", sys.executable, "-W", "error", "-c", script], capture_output=True, text=True, timeout=60,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "returned after" in done.stdout


PLEIADES = (56.75, 24.1, 5.0, 20.0)


def solved_window(size: tuple[float, float] = (13, 8), name: str = "M 31", **facts: object) -> tuple[Window, SkyMap]:
    """A window on a dark picture of the Pleiades, and where its own pixels lie."""
    sky, upright = map_at(*PLEIADES), Upright(-16, -32, 980, bottom_up=True)
    reference = sky.moved(np.linalg.inv(upright.transform), sky.width, sky.height)
    known = SkyFacts(reference, "livestack", 0.4, 87, **facts)  # type: ignore[arg-type]
    slot, dark = Slot(), np.full((490, 750, 3), 40, np.uint8)
    slot.publish(Snapshot(object_name=name, picture=dark, full_size=(1500, 980), upright=upright, sky=known))
    figure = Figure(figsize=size)
    FigureCanvasAgg(figure)
    window = Window(slot, None, figure)
    window.refresh()
    return window, sky


def test_the_place_under_the_cursor_is_told_once_the_plate_is_solved() -> None:
    fake = FakeSession(1500, 980)
    fake.publish(picture=np.zeros((98, 150, 3), np.uint8))
    window = Window(fake.slot, None, Figure())
    window.refresh()
    at = SimpleNamespace(inaxes=window.view, xdata=210.0, ydata=700.0)
    window._on_move(at)
    assert window._place.get_text() == "x 210, y 700"
    sky = map_at(*PLEIADES)
    fake.solve(sky)
    fake.publish(value=lambda x, y: (float(x), 0.5, float(y)))
    window.refresh()
    window._on_move(at)
    place = SkyCoord(*wcs_of(sky).all_pix2world([[210.0, 700.0]], 0)[0], unit="deg")
    assert window._place.get_text().endswith(f"{place.ra.deg:.4f}°  {place.dec.deg:+.4f}°")
    assert "R 210.0  G 0.5  B 700.0 ADU" in window._place.get_text()
    window._on_move(SimpleNamespace(inaxes=window.view, xdata=-40.0, ydata=10.0))
    assert window._place.get_text() == ""


def test_depth_and_what_one_looks_at_are_told() -> None:
    window, _ = solved_window(name="", limit_mag=17.3, sky_mag=20.1)
    assert window._depth.get_text().startswith("faintest star 17.3 mag   sky 20.1 mag/arcsec²: the edge of a town")
    what = "the Pleiades (M 45)" if has_catalogue() else "the star Alcyone"
    assert window._title.get_text().startswith(f"You are looking at {what}, in Taurus.")
    named, _ = solved_window()
    assert named._title.get_text().startswith("M 31 ")
    assert named._depth.get_text() == ""


@pytest.mark.parametrize("size", [(13, 8), (8, 5.2), (5, 4)])
def test_words_stay_in_the_window(size: tuple[float, float]) -> None:
    window, _ = solved_window(size, "", limit_mag=17.3, sky_mag=20.1)
    window._on_move(SimpleNamespace(inaxes=window.view, xdata=1310.0, ydata=700.0))
    for text in (window._title, window._facts, window._depth, window._message, window._place):
        assert text.get_window_extent().x1 <= window._figure.bbox.width


def test_labels_and_grid_are_switched() -> None:
    window, sky = solved_window()
    without = solved_window()[0]
    without.sky.set_visible(False)
    bare, labelled = pixels(without), pixels(window)
    assert "Atlas" in window.sky.drawn
    # the cross about Atlas lies where astropy says that Gaia's place is
    x, y = wcs_of(sky).all_world2pix([(57.29073, 24.05327)], 0)[0]
    px, py = window.view.transData.transform((x, y))
    row, column = round(bare.shape[0] - py), round(px)
    near = (slice(row - 12, row + 12), slice(column - 12, column + 12))
    assert np.abs(labelled[near].astype(int) - bare[near]).max() > 60
    press(window, "l")
    assert np.array_equal(pixels(window)[near], bare[near])
    assert window.sky.drawn == ()
    press(window, "g")
    lined = pixels(window)
    # a line of declination: all along 24 deg the picture changes
    dec = wcs_of(sky).all_world2pix([(ra, 24.0) for ra in np.linspace(56.5, 57.0, 30)], 0)
    spots = window.view.transData.transform(dec)
    differ = np.abs(lined.astype(int) - bare).max(axis=2) > 5
    changed = [differ[round(len(bare) - v) - 2 :, round(u) - 2 :][:4, :4].any() for u, v in spots]
    assert np.mean(changed) > 0.95


def test_names_keep_clear_of_each_other_and_follow_the_zoom() -> None:
    window, _ = solved_window()
    pixels(window)
    whole = window.sky.drawn
    assert len(whole) >= 5
    window.zoom(6, 20, 20)
    pixels(window)
    assert len(window.sky.drawn) < len(whole)


def test_north_and_east_point_where_astropy_says() -> None:
    window, sky = solved_window()
    assert window.sky.placed is not None
    middle = np.array([[(sky.width - 1) / 2, (sky.height - 1) / 2]])
    wcs = wcs_of(sky)
    here = SkyCoord(*wcs.all_pix2world(middle, 0)[0], unit="deg")
    for told, angle in ((window.sky.placed.north, 0.0), (window.sky.placed.east, 90.0)):
        there = here.directional_offset_by(angle * u.deg, 20 * u.arcsec)
        step = wcs.all_world2pix([(there.ra.deg, there.dec.deg)], 0)[0] - middle[0]
        assert told == pytest.approx(step / np.hypot(*step), abs=1e-3)


def test_an_unsolved_picture_has_no_buttons_for_the_sky(session: FakeSession) -> None:
    window = open_window(session)
    press(window, "g")
    assert not window._buttons["labels"].ax.get_visible()
    assert not window.sky.grid
    session.solve(map_at(*PLEIADES))
    window.refresh()
    assert window._buttons["labels"].ax.get_visible()
    session.solve(None)
    window.refresh()
    assert window.sky.placed is None


def test_a_line_is_written_where_it_enters_the_box() -> None:
    line = np.array([(-5.0, 2.0), (15.0, 12.0)])
    assert crossing(line, (0.0, 0.0, 10.0, 20.0), 0) == pytest.approx((0.0, 4.5))
    assert crossing(line, (0.0, 0.0, 10.0, 20.0), 2) == pytest.approx((10.0, 9.5))
    assert crossing(line, (0.0, 0.0, 10.0, 20.0), 1) is None
