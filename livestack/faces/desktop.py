"""The session in a desktop window: the picture, the single frame beside it, histogram and trends.

A matplotlib window over any of its GUI toolkits, in the main thread as those demand. A timer looks at the slot's latest
snapshot four times a second and redraws on change only; what came between is never drawn. The picture shown is the
snapshot's preview, scaled in true pixels, so that zoom and pan stay where they are while the stack grows.

Once the plate is solved, names and north lie over the picture, and the place in the sky under the cursor stands below
it, beside the value of the stack's pixel.

Keys: p pause or resume, s save now, r whole picture, m stack / last frame / split, left and right move the divider,
+ and - zoom, l labels, g grid, c the comet among the stars / the stars / the comet alone, q close the window (the
session goes on). Mouse: wheel zooms, dragging pans.
"""

from __future__ import annotations

import importlib.util
import os
import sys
import time
from typing import Any, Literal, get_args

import cv2
import numpy as np
from matplotlib.figure import Figure
from matplotlib.text import Text
from matplotlib.ticker import MaxNLocator
from matplotlib.widgets import Button, Slider

from livestack.astrometry.grid import say_dec, say_ra
from livestack.astrometry.sky_words import say_darkness
from livestack.base.choices import Moving
from livestack.base.errors import LivestackError, UsageError
from livestack.base.settings import RenderSettings
from livestack.base.text import clean_text, say_exposure, say_number
from livestack.faces.desktop_sky import SkyLayer
from livestack.faces.solved import PlacedSky, SolvedPicture
from livestack.session.snapshot import Controls, Slot, Snapshot

LOOK_INTERVAL_MS = 250
STRETCH_PAUSE_S = 0.4
"""How long a slider must rest before its value goes to the session."""
LONGEST_SIDE = 1920
ROOMY_IN = 12.0, 7.4
"""Width and height, inches, of a window that has room for words of full size."""
SMALLEST_PT = 6.0
"""Of a line that had to be made smaller to fit."""
MOST_TREND_POINTS = 500
GROUND, PANEL, LINE, TEXT, DIM, ACCENT = "#07090d", "#0d1118", "#222b38", "#e9edf3", "#a3aebd", "#f2b661"
REFUSED = "#ff7d66"
RENDER = RenderSettings()
"""What the sliders begin from, until the session says what is in force."""
Mode = Literal["stack", "frame", "split"]
MODES: tuple[Mode, ...] = ("stack", "frame", "split")
TRENDS = (("fwhm_px", "FWHM (px)"), ("sky_adu", "sky (ADU)"), ("transparency", "transparency"))


class Window:
    """What the window shows, on any matplotlib figure; `refresh` takes the latest snapshot.

    Parameters
    ----------
    slot : where the session publishes.
    controls : what keys and buttons may ask; None: nothing.
    figure : empty figure to draw on; its canvas receives keys and mouse.
    """

    def __init__(self, slot: Slot, controls: Controls | None, figure: Figure) -> None:
        self._slot, self._controls, self._figure = slot, controls, figure
        self._shown: Snapshot | None = None
        self._solved: SolvedPicture | None = None
        self._full = (0, 0)
        self._drag: tuple[float, float] | None = None
        self._stretch_moved: float | None = None
        self.mode: Mode = "stack"
        self.answer = ""
        self.closed = False
        self._build()
        for event, handler in (
            ("key_press_event", self._on_key),
            ("scroll_event", self._on_scroll),
            ("button_press_event", self._on_press),
            ("button_release_event", self._on_release),
            ("motion_notify_event", self._on_move),
            ("resize_event", lambda _: self._fit_words()),
        ):
            figure.canvas.mpl_connect(event, handler)

    # --- building ------------------------------------------------------------------------------------------------

    def _build(self) -> None:
        figure = self._figure
        figure.set_facecolor(GROUND)
        self._title = figure.text(0.015, 0.97, "", color=TEXT, fontweight="bold", va="center", parse_math=False)
        self._facts = figure.text(0.015, 0.935, "", color=DIM, va="center", parse_math=False)
        self._depth = figure.text(0.015, 0.908, "", color=DIM, va="center", parse_math=False)
        self._message = figure.text(0.015, 0.018, "", color=ACCENT, va="center", parse_math=False)
        self._place = figure.text(0.015, 0.149, "", color=TEXT, va="center", parse_math=False)
        self._words = ((self._title, 16, 0.97), (self._facts, 10.5, 0.97), (self._depth, 10, 0.735),
                       (self._message, 10, 0.97), (self._place, 10, 0.735))  # fmt: skip
        self.view = figure.add_axes((0.015, 0.17, 0.70, 0.715), facecolor=GROUND)
        self.view.set_axis_off()
        self._image = self.view.imshow(np.zeros((2, 2, 3), np.uint8), interpolation="antialiased")
        self._waiting = self.view.text(
            0.5, 0.5, "Waiting for the first picture ...", color=DIM, ha="center", transform=self.view.transAxes
        )
        self._divider = self.view.axvline(0, color=ACCENT, lw=1.2, visible=False)
        self.sky = SkyLayer(self.view)
        self._headings: list[Text] = []
        self.histogram = self._small_axes((0.765, 0.76, 0.22, 0.15), "histogram")
        self._curves = [self.histogram.plot([], [], color=c, lw=1.1)[0] for c in (REFUSED, "#6fdc8c", "#7fb2ff")]
        self.histogram.set_xlim(0, 255)
        self.trends = [
            self._small_axes((0.765, 0.535 - 0.185 * n, 0.22, 0.125), title) for n, (_, title) in enumerate(TRENDS)
        ]
        self._trend_lines = [axes.plot([], [], ".-", color=ACCENT, lw=1, ms=3)[0] for axes in self.trends]
        self._trend_refused = [axes.plot([], [], "x", color=REFUSED, ms=5)[0] for axes in self.trends]
        self.split = self._slider((0.115, 0.105, 0.09, 0.022), "divider", 0, 1, 0.5)
        self.background = self._slider((0.115, 0.065, 0.24, 0.022), "background", 0.02, 0.4, RENDER.background)
        self.saturation = self._slider((0.475, 0.065, 0.24, 0.022), "saturation", 0, 3, RENDER.saturation)
        self.split.on_changed(lambda _: self._show_picture())
        for slider in (self.background, self.saturation):
            slider.on_changed(lambda _: self._note_stretch())
        self._buttons = {
            "labels": self._button((0.265, 0.098, 0.075, 0.036), "Labels (l)", lambda _: self._toggle("labels")),
            "grid": self._button((0.343, 0.098, 0.065, 0.036), "Grid (g)", lambda _: self._toggle("grid")),
            "stack": self._button((0.43, 0.098, 0.07, 0.036), "Stack", lambda _: self.set_mode("stack")),
            "frame": self._button((0.503, 0.098, 0.075, 0.036), "Last frame", lambda _: self.set_mode("frame")),
            "split": self._button((0.581, 0.098, 0.06, 0.036), "Split", lambda _: self.set_mode("split")),
            "reset": self._button((0.644, 0.098, 0.07, 0.036), "Whole", lambda _: self.reset_view()),
            "pause": self._button((0.765, 0.06, 0.105, 0.045), "Pause (p)", lambda _: self._pause()),
            "save": self._button((0.88, 0.06, 0.105, 0.045), "Save now (s)", lambda _: self._save()),
        }

    def _small_axes(self, box: tuple[float, float, float, float], title: str) -> Any:
        axes = self._figure.add_axes(box, facecolor=PANEL)
        self._headings.append(axes.set_title(title, color=DIM, fontsize=9, loc="left", pad=3))
        axes.xaxis.set_major_locator(MaxNLocator(6, integer=True))
        axes.tick_params(colors=DIM, labelsize=7.5, length=2)
        for spine in axes.spines.values():
            spine.set_color(LINE)
        if title == "histogram":
            axes.set_yticks([])
        return axes

    def _slider(
        self, box: tuple[float, float, float, float], label: str, low: float, high: float, value: float
    ) -> Slider:
        slider = Slider(
            self._figure.add_axes(box), label, low, high, valinit=value, valfmt="%.2f", color=ACCENT,
            track_color=LINE, initcolor="none", handle_style={"facecolor": ACCENT, "edgecolor": GROUND, "size": 9},
        )  # fmt: skip
        slider.label.set_color(DIM)
        slider.valtext.set_color(TEXT)
        return slider

    def _button(self, box: tuple[float, float, float, float], label: str, action: Any) -> Button:
        button = Button(self._figure.add_axes(box), label, color=PANEL, hovercolor=LINE)
        button.label.set_color(TEXT)
        button.label.set_fontsize(9)
        for spine in button.ax.spines.values():
            spine.set_color(LINE)
        button.on_clicked(action)
        return button

    # --- showing -------------------------------------------------------------------------------------------------

    def refresh(self) -> bool:
        """Show the latest snapshot; True when there was something new."""
        self._send_stretch()
        latest = self._slot.latest
        if latest is self._shown:
            return False
        before, self._shown = self._shown, latest
        if before is None or latest.render != before.render:
            self._take_stretch(latest)
        self._show_sky(latest)
        looking_at = self.sky.placed.looking_at if self.sky.placed else ""
        name = clean_text(latest.object_name or looking_at or latest.session_name or "livestack")
        state = "" if latest.state == "watching" else f"   ({latest.state})"
        more = latest.n_session > latest.n_stacked
        others = f" ({latest.n_session} in the session)" if more else ""
        self._title.set_text(f"{name}   {latest.n_stacked} frames{others}{state}")
        self._facts.set_text(clean_text(self._say_facts(latest)))
        words = latest.warnings[-1:] or latest.messages[-1:]
        self._message.set_text(clean_text(self.answer or (words[0] if words else ""))[:150])
        # a remark is no warning, and stands there for long
        self._message.set_color(ACCENT if self.answer else REFUSED if latest.warnings else DIM)
        self.answer = ""
        self._buttons["pause"].label.set_text("Resume (p)" if latest.state == "paused" else "Pause (p)")
        if before is None or latest.picture is not before.picture or latest.last_frame is not before.last_frame:
            self._show_picture()
            self._show_histogram()
        if before is None or latest.trend is not before.trend:
            self._show_trends()
        self._fit_words()
        self._figure.canvas.draw_idle()
        return True

    def _show_sky(self, latest: Snapshot) -> None:
        """Where the picture lies, made anew where that has changed; the buttons for it are there when it is known."""
        solved = SolvedPicture.of(latest, latest.sequence)
        if solved is None:
            self.sky.placed = None
        elif self._solved is None or self.sky.placed is None or not self._solved.lies_as(solved):
            self.sky.placed = PlacedSky.of(solved)
        self._solved = solved
        for name in ("labels", "grid"):
            button = self._buttons[name]
            button.active = solved is not None
            button.ax.set_visible(solved is not None)
            button.label.set_color(ACCENT if getattr(self.sky, name) else TEXT)
        self._depth.set_text(say_depth(latest))

    def _toggle(self, name: Literal["labels", "grid"]) -> None:
        if self.sky.placed is not None:
            setattr(self.sky, name, not getattr(self.sky, name))
            self._buttons[name].label.set_color(ACCENT if getattr(self.sky, name) else TEXT)
            self._figure.canvas.draw_idle()

    def _fit_words(self) -> None:
        """Make words smaller that are too long for the window, or all of them where it is small."""
        small = min(1.0, self._figure.get_figwidth() / ROOMY_IN[0], self._figure.get_figheight() / ROOMY_IN[1])
        for slider in (self.split, self.background, self.saturation):
            slider.label.set_fontsize(10 * small)
            slider.valtext.set_fontsize(10 * small)
        for button in self._buttons.values():
            button.label.set_fontsize(9 * small)
        for axes in (self.histogram, *self.trends):
            axes.tick_params(labelsize=7.5 * small)
        for heading in self._headings:
            heading.set_fontsize(9 * small)
        for text, normal, share in self._words:
            size = normal * max(small, 0.75)
            text.set_fontsize(size)
            wide = text.get_window_extent().width if text.get_text() else 0.0
            room = share * self._figure.bbox.width
            if wide > room:
                text.set_fontsize(max(SMALLEST_PT, size * room / wide))

    @staticmethod
    def _say_facts(s: Snapshot) -> str:
        arcsec = f' ({s.fwhm_arcsec:.2f}")' if s.fwhm_arcsec is not None else ""
        gain = f"   SNR gain {s.snr_gain:.2f} of {s.snr_ideal:.2f}" if s.snr_gain and s.snr_ideal else ""
        return (
            f"{s.n_refused} refused   {s.n_waiting} waiting   {say_exposure(s.exposure_s)}"
            f"   FWHM {say_number(s.fwhm_px, 2, 'px')}{arcsec}{gain}"
        )

    def _show_picture(self) -> None:
        shown = self._shown
        picture = compose(shown, self.mode, self.split.val) if shown else None
        self._waiting.set_visible(picture is None)
        if shown is None or picture is None:
            return
        full = shown.full_size if shown.full_size[0] else (picture.shape[1], picture.shape[0])
        self._image.set_data(picture)
        self._image.set_extent((-0.5, full[0] - 0.5, full[1] - 0.5, -0.5))
        if full != self._full:
            self._full = full
            self.reset_view()
        self._divider.set_visible(self.mode == "split")
        self._divider.set_xdata([self.split.val * full[0] - 0.5] * 2)
        for mode in MODES:
            self._buttons[mode].label.set_color(ACCENT if mode == self.mode else TEXT)
        self._figure.canvas.draw_idle()

    def _show_histogram(self) -> None:
        picture = self._shown.picture if self._shown else None
        if picture is None:
            return
        counts = [np.bincount(picture[::3, ::3, c].ravel(), minlength=256).astype(float) for c in range(3)]
        # The square root lets the faint stand beside the sky's peak.
        for curve, values in zip(self._curves, counts, strict=True):
            curve.set_data(np.arange(256), np.sqrt(values))
        self.histogram.set_ylim(0, 1.05 * max(1.0, *(float(np.sqrt(v.max())) for v in counts)))

    def _show_trends(self) -> None:
        points = self._shown.trend[-MOST_TREND_POINTS:] if self._shown else ()
        for (name, _), axes, line, crosses in zip(
            TRENDS, self.trends, self._trend_lines, self._trend_refused, strict=True
        ):
            known = [(p.frame, getattr(p, name), p.status) for p in points if getattr(p, name) is not None]
            for artist, status in ((line, "stacked"), (crosses, "refused")):
                chosen = [(frame, value) for frame, value, s in known if s == status]
                artist.set_data([c[0] for c in chosen], [c[1] for c in chosen])
            if known:
                axes.relim()
                axes.autoscale_view()

    # --- asking --------------------------------------------------------------------------------------------------

    def set_mode(self, mode: Mode) -> None:
        """Show the stack, the last raw frame, or the frame left of a divider and the stack right of it."""
        self.mode = mode
        self._show_picture()

    def reset_view(self) -> None:
        """Show the whole picture."""
        self.view.set_xlim(-0.5, self._full[0] - 0.5)
        self.view.set_ylim(self._full[1] - 0.5, -0.5)
        self._figure.canvas.draw_idle()

    def zoom(self, factor: float, x: float | None = None, y: float | None = None) -> None:
        """Enlarge by `factor`; the true pixel (x, y) stays where it is, the middle of the view by default."""
        left, right = self.view.get_xlim()
        bottom, top = self.view.get_ylim()
        x = (left + right) / 2 if x is None else x
        y = (bottom + top) / 2 if y is None else y
        if self._full[0] and abs(right - left) / factor > 1.5 * self._full[0]:
            self.reset_view()
            return
        if abs(right - left) / factor < 8:
            return
        self.view.set_xlim(x + (left - x) / factor, x + (right - x) / factor)
        self.view.set_ylim(y + (bottom - y) / factor, y + (top - y) / factor)
        self._figure.canvas.draw_idle()

    def _ask(self, call: Any) -> None:
        try:
            self.answer = str(call())
        except LivestackError as error:
            self.answer = str(error)
        self._message.set_text(clean_text(self.answer)[:150])
        self._fit_words()
        self._figure.canvas.draw_idle()

    def _pause(self) -> None:
        if self._controls is not None:
            paused = self._slot.latest.state == "paused"
            self._ask(self._controls.resume if paused else self._controls.pause)

    def _save(self) -> None:
        if self._controls is not None:
            self._ask(self._controls.save_now)

    def _take_stretch(self, latest: Snapshot) -> None:
        """The sliders stand at what is in force, unless somebody is moving them."""
        if self._stretch_moved is not None:
            return
        for slider, value in ((self.background, latest.render.background), (self.saturation, latest.render.saturation)):
            slider.eventson = False
            slider.set_val(value)
            slider.eventson = True

    def _show_next(self) -> None:
        """Object among the stars, stars, object: the next of them, where one is followed."""
        controls, latest = self._controls, self._slot.latest
        if controls is not None and latest.follows:
            choices = get_args(Moving)
            which = choices[(choices.index(latest.render.moving) + 1) % len(choices)]
            self._ask(lambda: controls.show(which))

    def _note_stretch(self) -> None:
        self._stretch_moved = time.monotonic()

    def _send_stretch(self) -> None:
        if self._stretch_moved is None or time.monotonic() - self._stretch_moved < STRETCH_PAUSE_S:
            return
        self._stretch_moved = None
        controls = self._controls
        if controls is not None:
            self._ask(lambda: controls.set_stretch(float(self.background.val), float(self.saturation.val)))

    def _on_key(self, event: Any) -> None:
        if event.key == "q":
            self.closed = True
        elif event.key == "p":
            self._pause()
        elif event.key == "s":
            self._save()
        elif event.key in ("r", "0", "home"):
            self.reset_view()
        elif event.key == "m":
            self.set_mode(MODES[(MODES.index(self.mode) + 1) % len(MODES)])
        elif event.key == "c":
            self._show_next()
        elif event.key == "l":
            self._toggle("labels")
        elif event.key == "g":
            self._toggle("grid")
        elif event.key in ("left", "right"):
            self.split.set_val(min(1.0, max(0.0, self.split.val + (0.02 if event.key == "right" else -0.02))))
        elif event.key in ("+", "="):
            self.zoom(1.3)
        elif event.key == "-":
            self.zoom(1 / 1.3)

    def _on_scroll(self, event: Any) -> None:
        if event.inaxes is self.view:
            self.zoom(1.25**event.step, event.xdata, event.ydata)

    def _on_press(self, event: Any) -> None:
        if event.inaxes is self.view and event.button == 1:
            if event.dblclick:
                self.reset_view()
            else:
                self._drag = (event.xdata, event.ydata)

    def _on_release(self, event: Any) -> None:
        self._drag = None

    def _on_move(self, event: Any) -> None:
        words = say_place(self._shown, event.xdata, event.ydata) if event.inaxes is self.view and self._shown else ""
        if words != self._place.get_text():
            self._place.set_text(words)
            self._fit_words()
            self._figure.canvas.draw_idle()
        if self._drag is None or event.inaxes is not self.view:
            return
        dx, dy = self._drag[0] - event.xdata, self._drag[1] - event.ydata
        self.view.set_xlim(*(v + dx for v in self.view.get_xlim()))
        self.view.set_ylim(*(v + dy for v in self.view.get_ylim()))
        self._figure.canvas.draw_idle()


def compose(snapshot: Snapshot, mode: Mode, split: float) -> np.ndarray | None:
    """Return what a mode shows, (h, w, 3) uint8 of at most 1920 pixels; None before the first picture.

    With "split" the part left of `split` (0..1 of the width) is the last raw frame, the rest the stack.
    """
    stack, frame = snapshot.picture, snapshot.last_frame
    if stack is None or frame is None:
        shown = stack if frame is None else frame
    elif mode == "split":
        if stack.shape != frame.shape:
            frame = np.asarray(cv2.resize(frame, (stack.shape[1], stack.shape[0]), interpolation=cv2.INTER_AREA))
        edge = round(split * stack.shape[1])
        shown = np.concatenate([frame[:, :edge], stack[:, edge:]], axis=1)
    else:
        shown = frame if mode == "frame" else stack
    if shown is None:
        return None
    step = -(-max(shown.shape[:2]) // LONGEST_SIDE)
    return shown[::step, ::step]


def say_place(snapshot: Snapshot, x: float, y: float) -> str:
    """What is at a place of the upright picture (true pixels): pixel, the stack's value, the place in the sky."""
    width, height = snapshot.full_size
    if not (-0.5 <= x < width - 0.5 and -0.5 <= y < height - 0.5):
        return ""
    column, row = round(x), round(y)
    values = snapshot.value(column, row) if snapshot.value is not None else ()
    parts = [f"x {column}, y {row}"]
    if values:
        names = ("R ", "G ", "B ") if len(values) == 3 else ("",)
        parts.append("  ".join(f"{name}{value:.1f}" for name, value in zip(names, values, strict=True)) + " ADU")
    if snapshot.sky is not None and snapshot.upright is not None:
        ra, dec = map(float, snapshot.sky.sky.to_sky(np.array([snapshot.upright.to_reference(x, y)]))[0])
        parts += [f"{say_ra(ra, 0.1 / 240)}  {say_dec(dec)}", f"{ra:.4f}°  {dec:+.4f}°"]
    return "     ".join(parts)


def say_depth(snapshot: Snapshot) -> str:
    """How faint the stack reaches and how dark the sky is; nothing where that is not known."""
    sky, parts = snapshot.sky, []
    if sky is not None and sky.limit_mag is not None:
        parts.append(f"faintest star {sky.limit_mag:.1f} mag")
    if sky is not None and sky.sky_mag is not None:
        parts.append(f"sky {sky.sky_mag:.1f} mag/arcsec²: {say_darkness(sky.sky_mag)}")
    return "   ".join(parts)


def choose_backend() -> str:
    """Return the matplotlib backend of a GUI toolkit that works here.

    Raises
    ------
    UsageError : there is no display, or no toolkit.
    """
    if sys.platform == "darwin":
        return "macosx"
    if sys.platform.startswith("linux") and not (os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")):
        raise UsageError("--window: this machine has no display; use --web and look with a browser instead.")
    if any(importlib.util.find_spec(name) for name in ("PySide6", "PyQt6", "PyQt5", "PySide2")):
        return "QtAgg"
    if importlib.util.find_spec("tkinter"):
        return "TkAgg"
    raise UsageError(
        "--window: Python has no window toolkit here (neither Tk nor Qt); install python3-tk or "
        "`pip install PySide6-Essentials`, or use --web."
    )


def run_window(slot: Slot, controls: Controls | None = None) -> None:
    """Show the window until it is closed or the session ended; must be called from the main thread.

    Raises
    ------
    UsageError : no window can be shown here; the sentence says what to do.
    """
    from matplotlib import pyplot

    backend = choose_backend()
    try:
        pyplot.switch_backend(backend)
        with pyplot.rc_context({"toolbar": "None"}):
            figure = pyplot.figure("livestack", figsize=(13, 8))
    except (ImportError, RuntimeError) as error:
        raise UsageError(f"--window: {backend} cannot open a window ({error}); use --web instead.") from None
    manager = figure.canvas.manager
    if manager is not None and manager.key_press_handler_id is not None:
        figure.canvas.mpl_disconnect(manager.key_press_handler_id)  # its p, s, q, r mean other things
    window = Window(slot, controls, figure)

    def look() -> None:
        window.refresh()
        if window.closed or slot.latest.state == "ended":
            timer.stop()
            pyplot.close(figure)

    timer = figure.canvas.new_timer(interval=LOOK_INTERVAL_MS)
    timer.add_callback(look)
    timer.start()
    try:
        pyplot.show(block=True)
    finally:
        timer.stop()
        pyplot.close(figure)
