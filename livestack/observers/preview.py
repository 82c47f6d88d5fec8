"""Draws the running stack beside the stacking: preview, last frame, measured noise. Latest wins; nothing waits for it.

One thread, one pending request: a new one replaces an older one that was not begun. While frames keep coming it rests
between two drawings, so that pictures take no more than a set share of one core from the stack. Reading the
accumulators while a frame is being added may show a row of the new frame beside one of the old: harmless in a preview,
never in what is saved.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import cv2
import numpy as np

from livestack.base.choices import Moving
from livestack.base.settings import RenderSettings
from livestack.engine.accumulation import LastFrame
from livestack.engine.events import Event, FrameDone
from livestack.engine.group import Group
from livestack.engine.results import composite_of
from livestack.engine.targets import Targets
from livestack.engine.views import StackView
from livestack.kernels.bands import Bands
from livestack.picture import (
    Look,
    Picture,
    Small,
    count_levels,
    measure_look,
    measure_small,
    reduce_planes,
    render,
    render_part,
    render_small,
)
from livestack.picture.composite import Composite, Mixed
from livestack.picture.noise import measure_noise
from livestack.stacking.canvas import Canvas

NOISE_SIDE = 2048
"""Noise is measured on so much of the middle of the field."""
SHARE = 0.2
"""Of one core's time, the most that pictures take."""
LONGEST_REST_S = 6.0


@dataclass(frozen=True, eq=False)
class Drawing:
    """What came of one request.

    Attributes
    ----------
    look : of the picture, in true pixels.
    picture : the stack, or the colour picture of all filters of its target; `last_frame` has the same size.
    noise : of one frame and of the stack, measured.
    canvas : of the stack when it was drawn; parts in true pixels come from that canvas only.
    levels : (C, n) how many pixels have which brightness, see `picture.count_levels`.
    mixed : how the colour picture was made; None where the picture is the stack.
    moving : what it shows of an object that is followed.
    """

    group: str
    n_frames: int
    look: Look
    picture: Picture
    last_frame: np.ndarray | None
    noise: tuple[float, float] | None
    canvas: Canvas
    levels: np.ndarray
    mixed: Mixed | None = None
    moving: Moving = "both"

    def region(self, view: StackView, x: int, y: int, w: int, h: int) -> np.ndarray:
        """(h, w, 3) uint8, true pixels of the upright picture as it is now; `view` is of the group's stack."""
        (height, width), bottom_up = view.shape[1:], view.bottom_up
        # 16 pixels around, for what the renderer smooths
        x0, y0, x1, y1 = max(0, x - 16), max(0, y - 16), min(width, x + w + 16), min(height, y + h + 16)
        rows, columns = slice(height - y1, height - y0) if bottom_up else slice(y0, y1), slice(x0, x1)
        shown = view.showing(self.moving)
        part = shown.seen(rows, columns) if self.mixed is None else self.mixed.part(rows, columns)
        drawn = render_part(part, self.look, (x0, rows.start), bottom_up=bottom_up).rgb
        return drawn[y - y0 : y - y0 + h, x - x0 : x - x0 + w]

    def value(self, view: StackView, x: int, y: int) -> tuple[float, ...]:
        """ADU of each channel at a true pixel of the upright picture; empty outside, and where nothing was stacked."""
        height, width = view.shape[1:]
        row = height - 1 - y if view.bottom_up else y
        if not (0 <= x < width and 0 <= row < height):
            return ()
        here = slice(row, row + 1), slice(x, x + 1)
        values = view.showing(self.moving).seen(*here) if self.mixed is None else self.mixed.part(*here)
        return tuple(float(v) for v in values[:, 0, 0]) if np.isfinite(values).all() else ()


@dataclass(frozen=True, eq=False)
class _Request:
    view: StackView
    settings: RenderSettings
    composite: Composite | None


class PreviewRenderer:
    """Renders in a thread of its own.

    Parameters
    ----------
    deliver : called with each finished Drawing, from the thread that draws.
    fail : called with a sentence when drawing failed.
    """

    def __init__(self, deliver: Callable[[Drawing], None], fail: Callable[[str], None]) -> None:
        self._deliver = deliver
        self._fail = fail
        self._bands = Bands(1)
        self._looks: dict[str, Look] = {}
        self._grains: dict[str, float] = {}
        self._wanted: _Request | None = None
        self._busy = False
        self._ended = False
        self._rested_at = 0.0
        self._drawn_with: RenderSettings | None = None
        self._changed = threading.Condition()
        self._thread = threading.Thread(target=self._run, name="livestack-preview", daemon=True)
        self._thread.start()

    @property
    def idle(self) -> bool:
        """Nothing is being drawn or waits."""
        return self._wanted is None and not self._busy

    def draw(self, view: StackView, settings: RenderSettings, composite: Composite | None = None) -> None:
        """Ask for a picture of the stack, or of what it is part of, as it stands; replaces a request not begun.

        While another picture is being drawn, the newest frame is not kept for this one: it is as large as the frames
        that wait for it, and where they come that fast nobody sees each of them.
        """
        with self._changed:
            if self._busy:
                view = replace(view, newest=None)
            elif view.newest is None and self._wanted is not None and self._wanted.view.group == view.group:
                view = replace(view, newest=self._wanted.view.newest)
            self._wanted = _Request(view, settings, composite)
            self._changed.notify_all()

    def finish(self) -> None:
        """Draw what is wanted, then end."""
        with self._changed:
            self._ended = True
            self._changed.notify_all()
        self._thread.join()
        self._bands.close()

    def _run(self) -> None:
        while True:
            with self._changed:
                self._busy = False
                self._changed.wait_for(lambda: self._wanted is not None or self._ended)
                while self._may_rest() and (rest := self._rested_at - time.monotonic()) > 0:
                    self._changed.wait(rest)
                request, self._wanted = self._wanted, None
                if request is None:
                    return
                self._busy = True
            begin = time.thread_time()
            try:
                self._deliver(self._make(request))
            except (ValueError, RuntimeError, MemoryError, cv2.error) as error:
                self._fail(f"the preview could not be drawn ({error}); stacking goes on.")
            self._drawn_with = request.settings
            del request  # while it waits for the next one, it holds no stack that may be given up meanwhile
            rest = (time.thread_time() - begin) * (1 / SHARE - 1)
            self._rested_at = time.monotonic() + min(rest, LONGEST_REST_S)

    def _may_rest(self) -> bool:
        """False when somebody waits: for the end, or to see what another stretch looks like."""
        return not self._ended and self._wanted is not None and self._wanted.settings == self._drawn_with

    def _make(self, request: _Request) -> Drawing:
        settings, which = request.settings, request.settings.moving
        view = request.view.showing(which)
        small = view.shrunk(settings.preview_width, self._bands)
        key = view.group if which == "both" else f"{view.group} {which}"
        look = measure_small(small, settings, self._looks.get(key), view.terraces)
        self._looks[key] = look
        # noise is that of the stars' stack, whatever is looked at
        noise: tuple[float, float] | None = None
        one: np.ndarray | None = None
        if view.newest is not None:
            last = replace(view.newest, matrix=view.canvas.from_reference @ view.newest.matrix)
            if which != "object":
                noise = noise_of(view, last)
            if noise and noise[1] > 0:
                self._grains[view.group] = noise[0] / noise[1]
        grain = self._grains.get(view.group, 1.0)
        if settings.norm == "frame":
            look = look.normed(grain)
        if view.newest is not None:
            last = replace(view.newest, matrix=view.canvas.from_reference @ view.newest.matrix)
            # one frame drawn with the stack's look: its colours are as uncertain as it is noisier
            one = self._draw_frame(last, look.with_grain(grain), small, request)
        if request.composite is None:
            levels = count_levels(small, look)
            picture = render_small(small, look, view.bottom_up, self._bands)
            return Drawing(view.group, view.n_frames, look, picture, one, noise, view.canvas, levels, moving=which)
        picture, look, mixed, levels = self._mix(request, request.composite, grain)
        return Drawing(view.group, view.n_frames, look, picture, one, noise, view.canvas, levels, mixed)

    def _draw_frame(self, last: LastFrame, look: Look, small: Small, request: _Request) -> np.ndarray:
        """The newest frame with the stack's look and geometry, at the size of the preview."""
        shape = small.planes.shape[-2:]
        if small.scale == 1.0:
            planes = warp_frame(last, shape)
        else:
            # warped after it was reduced: a full-size copy of the frame would cost more memory than all else here
            reduced, scale = reduce_planes(last.planes, request.settings.preview_width, bands=self._bands)
            matrix = _to_reduced(small.scale) @ last.matrix @ np.linalg.inv(_to_reduced(scale))
            planes = warp_frame(replace(last, develop=lambda: reduced, matrix=matrix), shape)
        return render_small(replace(small, planes=planes), look, request.view.bottom_up, self._bands).rgb

    def _mix(self, request: _Request, composite: Composite, grain: float) -> tuple[Picture, Look, Mixed, np.ndarray]:
        """The colour picture at the size of the preview, and what zooming into it needs."""
        small, mixed = composite.make_small(request.settings.preview_width, self._bands)
        key = f"{composite.name} in colour"
        look = measure_look(small, composite.settings_for(request.settings), self._looks.get(key), self._bands)
        self._looks[key] = look
        if request.settings.norm == "frame":
            look = look.normed(grain)
        levels = count_levels(Small(small, 1.0, look.size, small[:0], small[:0]), look)
        picture = render(small, look, bottom_up=request.view.bottom_up, bands=self._bands)
        return Picture(picture.rgb, mixed.scale), mixed.look(look), mixed, levels


def warp_frame(last: LastFrame, shape: tuple[int, int]) -> np.ndarray:
    """(C, H, W) the frame on the stack's grid and scale, NaN outside; for looking at only."""
    height, width = shape
    out = np.empty((len(last.planes), height, width), dtype=np.float32)
    for c, plane in enumerate(last.planes):
        cv2.warpAffine(
            plane,
            last.matrix[:2],
            (width, height),
            dst=out[c],
            flags=cv2.INTER_LINEAR,
            borderMode=cv2.BORDER_CONSTANT,
            borderValue=float("nan"),
        )
        out[c] *= np.float32(last.normalisation.factor[c])
        out[c] += np.float32(last.normalisation.surface[c, 0])
    return out


def noise_of(view: StackView, last: LastFrame) -> tuple[float, float] | None:
    """Noise of the frame and of the stack, measured on the middle of the field."""
    _, height, width = view.shape
    y, x = max(0, (height - NOISE_SIDE) // 2), max(0, (width - NOISE_SIDE) // 2)
    part = view.image(slice(y, y + NOISE_SIDE), slice(x, x + NOISE_SIDE))
    moved = np.array([[1.0, 0.0, -x], [0.0, 1.0, -y], [0.0, 0.0, 1.0]]) @ last.matrix
    return measure_noise(part, warp_frame(replace(last, matrix=moved), part.shape[-2:]), last.share)


def _to_reduced(scale: float) -> np.ndarray:
    """(3, 3) pixels of the data -> pixels of a picture `scale` times smaller, centres at integers in both."""
    offset = 0.5 / scale - 0.5
    return np.array([[1 / scale, 0.0, offset], [0.0, 1 / scale, offset], [0.0, 0.0, 1.0]])


class Preview:
    """Lets the picture follow the stack: draws it anew after each frame.

    Parameters
    ----------
    targets : knows which groups make one colour picture.
    settings : may be replaced while it runs; the next picture is drawn with the new ones.
    deliver, fail : as for `PreviewRenderer`.
    say : tells a sentence to whoever looks, in the thread that stacks.
    """

    name: ClassVar[str] = "preview"
    version: ClassVar[int] = 1

    def __init__(
        self, targets: Targets, settings: RenderSettings, deliver: Callable[[Drawing], None],
        fail: Callable[[str], None], say: Callable[[str], None],
    ) -> None:  # fmt: skip
        self.settings = settings
        self._targets, self._say = targets, say
        self._composites: set[str] = set()
        self._renderer = PreviewRenderer(deliver, fail)

    def on_event(self, event: Event) -> None:
        """Draw the stack that a frame went into."""
        if isinstance(event, FrameDone) and event.view is not None:
            self.draw(event.view)

    def state(self) -> Mapping[str, Any]:
        """Nothing: a picture is drawn anew."""
        return {}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Nothing to go on from."""

    def draw(self, view: StackView) -> None:
        """Draw a stack, or the colour picture of its target."""
        composite = composite_of(self._targets, view.group)
        if composite is not None and composite.name not in self._composites:
            self._composites.add(composite.name)
            self._say(f"{view.group}: the picture is now {composite.words}.")
        self._renderer.draw(view, self.settings, composite)

    def draw_group(self, group: Group | None) -> None:
        """Draw a group's stack as it stands; nothing where it has none."""
        view = StackView.of(group) if group is not None else None
        if view is not None:
            self.draw(view)

    def close(self) -> None:
        """Draw what is wanted, then end."""
        self._renderer.finish()
