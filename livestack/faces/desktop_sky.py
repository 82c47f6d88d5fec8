"""The sky over the picture of the desktop window: names, grid, north and east, a scale bar; drawn by matplotlib.

`SkyLayer` is one artist that lays everything out while it is drawn, in pixels of the screen, from what the axes show at
that moment: names keep clear of each other at every zoom and size of the window. What is drawn is found elsewhere
(`faces.solved`).
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable
from typing import Any

import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.patches import Circle
from matplotlib.patheffects import withStroke
from matplotlib.text import Text
from matplotlib.transforms import Bbox, IdentityTransform

from livestack.astrometry.objects import ObjectLabel
from livestack.faces.solved import PlacedSky

COLOURS = {"star": "#d9e4ff", "galaxy": "#ffd9a0", "cluster": "#b8f0c8", "nebula": "#ffb8c8", "object": "#e9edf3"}
GRID, GRID_TEXT, FURNITURE = "#96beeb", "#b9d2f2", "#f2e3c4"
SHADE = "#04060a"
ROOM_PT2 = 11000.0
"""Square points of the picture for each name."""
LEAST_PT = 110.0
"""A picture that is smaller than this on the screen has no room for anything."""
Box = tuple[float, float, float, float]
"""left, bottom, right, top, px of the screen."""


class SkyLayer(Artist):
    """What is known of the sky, over the picture.

    Attributes
    ----------
    placed : what there is to draw; None: nothing.
    labels, grid : whether names and lines are drawn.
    drawn : names that found room, as they are written, when this was drawn last.
    """

    def __init__(self, axes: Axes) -> None:
        super().__init__()
        self.placed: PlacedSky | None = None
        self.labels, self.grid = True, False
        self.drawn: tuple[str, ...] = ()
        self.set_zorder(6)
        axes.add_artist(self)

    def draw(self, renderer: Any) -> None:
        """Lay out and draw all of it."""
        self.drawn = ()
        axes = self.axes
        if self.placed is None or not self.get_visible() or not isinstance(axes, Axes):
            return
        canvas = _Canvas(self, axes, renderer, self.placed)
        if min(canvas.box[2] - canvas.box[0], canvas.box[3] - canvas.box[1]) < LEAST_PT * canvas.pt:
            return
        canvas.draw_compass(self.placed)
        canvas.draw_bar(self.placed)
        if self.labels:
            self.drawn = tuple(canvas.draw_labels([label for label, _ in self.placed.labels]))
        if self.grid:
            canvas.draw_grid(self.placed)


class _Canvas:
    """One drawing: where the picture is on the screen now, and what room is taken."""

    def __init__(self, owner: Artist, axes: Axes, renderer: Any, placed: PlacedSky) -> None:
        self._owner, self._axes, self._renderer = owner, axes, renderer
        self.pt = renderer.points_to_pixels(1.0)
        corners = axes.transData.transform([(-0.5, placed.sky.height - 0.5), (placed.sky.width - 0.5, -0.5)])
        seen = axes.bbox
        self.box: Box = (
            max(seen.x0, corners[:, 0].min()), max(seen.y0, corners[:, 1].min()),
            min(seen.x1, corners[:, 0].max()), min(seen.y1, corners[:, 1].max()),
        )  # fmt: skip
        self._clip = Bbox.from_extents(*self.box)
        self._taken: list[Box] = []
        step = axes.transData.transform([(0, 0), (1, 0)])
        self.zoom = float(np.hypot(*(step[1] - step[0])))

    # What all of it is made of

    def _put(self, artist: Artist) -> None:
        artist.set_transform(IdentityTransform())
        figure = self._axes.get_figure(root=False)
        assert figure is not None
        artist.set_figure(figure)
        artist.set_clip_box(self._clip)
        artist.draw(self._renderer)

    def _line(self, xy: Iterable[Any], colour: str, width: float, alpha: float = 1.0, shaded: bool = True) -> None:
        x, y = np.asarray(list(xy), dtype=float).T
        effects = [withStroke(linewidth=width + 1.6, foreground=SHADE, alpha=0.5 * alpha)] if shaded else []
        self._put(Line2D(x, y, color=colour, linewidth=width, alpha=alpha, path_effects=effects))

    def _text(self, text: str, size: float, colour: str) -> tuple[Text, float, float]:
        """A text that can be placed, and its width and height."""
        halo = [withStroke(linewidth=2.4, foreground=SHADE, alpha=0.85)]
        made = Text(0, 0, text, color=colour, fontsize=size, path_effects=halo, parse_math=False)
        figure = self._axes.get_figure(root=False)
        assert figure is not None
        made.set_figure(figure)
        made.set_transform(IdentityTransform())
        extent = made.get_window_extent(self._renderer)
        return made, extent.width, extent.height

    def _is_free(self, box: Box) -> bool:
        inside = self.box[0] <= box[0] and self.box[1] <= box[1] and box[2] <= self.box[2] and box[3] <= self.box[3]
        return inside and not any(_meet(box, other) for other in self._taken)

    def _write(self, text: Text, box: Box, margin: float = 0.0) -> None:
        self._taken.append(box)
        text.set_verticalalignment("center")
        text.set_position((box[0] + margin, (box[1] + box[3]) / 2))
        self._put(text)

    # What is drawn

    def draw_compass(self, placed: PlacedSky) -> None:
        """Arrows to north and east, in the upper right corner."""
        pt = self.pt
        x, y, long = self.box[2] - 36 * pt, self.box[3] - 38 * pt, 20 * pt
        self._taken.append((x - 34 * pt, y - 34 * pt, self.box[2], self.box[3]))
        for (step_x, step_y), letter in ((placed.north, "N"), (placed.east, "E")):
            ends = self._axes.transData.transform([(0.0, 0.0), (step_x, step_y)])
            dx, dy = (ends[1] - ends[0]) / np.hypot(*(ends[1] - ends[0]))
            tip, back = np.array([x + long * dx, y + long * dy]), 5 * pt
            self._line([(x, y), tip], FURNITURE, 1.3)
            if letter == "N":
                sides = [tip - back * np.array([dx + 0.5 * side * dy, dy - 0.5 * side * dx]) for side in (1, -1)]
                self._line([sides[0], tip, sides[1]], FURNITURE, 1.3)
            text, wide, high = self._text(letter, 9, FURNITURE)
            cx, cy = x + (long + 8 * pt) * dx, y + (long + 8 * pt) * dy
            self._write(text, (cx - wide / 2, cy - high / 2, cx + wide / 2, cy + high / 2))

    def draw_bar(self, placed: PlacedSky) -> None:
        """A round length, below the compass."""
        pt = self.pt
        most = min(0.25 * (self.box[2] - self.box[0]), 150 * pt)
        fitting = [bar for bar in placed.bars if bar[1] * self.zoom <= most] or list(placed.bars[:1])
        if not fitting:
            return
        words, length = fitting[-1]
        right, y = self.box[2] - 10 * pt, self.box[3] - 94 * pt
        left = right - length * self.zoom
        self._line([(left, y + 3 * pt), (left, y), (right, y), (right, y + 3 * pt)], FURNITURE, 1.3)
        text, wide, high = self._text(words, 9, FURNITURE)
        middle = (left + right) / 2
        box = (middle - wide / 2, y + 4 * pt, middle + wide / 2, y + 4 * pt + high)
        self._taken.append((min(left, box[0]) - 4 * pt, y - 4 * pt, self.box[2], box[3]))
        self._write(text, box)

    def draw_labels(self, labels: list[ObjectLabel]) -> Iterable[str]:
        """Names beside what they mean, the most prominent first, as many as there is room for."""
        pt = self.pt
        wide, high = self.box[2] - self.box[0], self.box[3] - self.box[1]
        most = max(6, round(wide * high / (ROOM_PT2 * pt * pt)))
        written: list[str] = []
        short = wide < 420 * pt
        seen: set[str] = set()
        for label in labels:
            if len(written) >= most:
                break
            x, y = self._axes.transData.transform((label.x, label.y))
            if not (self.box[0] < x < self.box[2] and self.box[1] < y < self.box[3]):
                continue
            radius = max(5 * pt, 0.5 * (label.size_px or 0.0) * self.zoom)
            name = _shorten(label.name, seen) if short else label.name
            text, w, h = self._text(name, 9.5, COLOURS[label.kind])
            out = 0.72 * min(radius, 0.45 * min(wide, high)) + 3 * pt
            half = h / 2 + 1.5 * pt
            choices = (
                (x + out, y + out), (x - out - w, y + out), (x + out, y - out), (x - out - w, y - out),
                (x - w / 2, y - out - half), (x - w / 2, y),
            )  # fmt: skip
            boxes = ((left - 2, middle - half, left + w + 2, middle + half) for left, middle in choices)
            free = next((box for box in boxes if self._is_free(box)), None)
            if free is None:
                continue
            self._mark(label, x, y, radius)
            self._write(text, free, 2)
            written.append(name)
        return written

    def _mark(self, label: ObjectLabel, x: float, y: float, radius: float) -> None:
        if label.kind == "star":
            for dx, dy in ((1, 0), (-1, 0), (0, 1), (0, -1)):
                near, far = 4.5 * self.pt, 8 * self.pt
                ends = [(x + near * dx, y + near * dy), (x + far * dx, y + far * dy)]
                self._line(ends, COLOURS["star"], 1.0)
            return
        shade = [withStroke(linewidth=2.6, foreground=SHADE, alpha=0.5)]
        colour = COLOURS[label.kind]
        self._put(Circle((x, y), radius, fill=False, edgecolor=colour, linewidth=1.0, path_effects=shade))

    def draw_grid(self, placed: PlacedSky) -> None:
        """Lines of right ascension and declination, each with its value where it enters what is seen."""
        on_screen = [(line, self._axes.transData.transform(line.xy)) for line in placed.lines]
        for _, points in on_screen:
            self._line(points, GRID, 0.8, 0.55, shaded=False)
        pt = self.pt
        for line, points in on_screen:
            text, wide, high = self._text(line.text, 8.5, GRID_TEXT)
            # right ascension is written below, declination to the left, or wherever a line enters what is seen
            for edge in (1, 3, 0, 2) if line.of == "ra" else (0, 2, 1, 3):
                at = crossing(points, self.box, edge)
                if at is None:
                    continue
                left = min(self.box[2] - wide - 3 * pt, max(self.box[0] + 3 * pt, at[0] + 3 * pt))
                base = min(self.box[3] - high - 3 * pt, max(self.box[1] + 3 * pt, at[1] + 3 * pt))
                box = (left, base, left + wide, base + high)
                if self._is_free(box):
                    self._write(text, box)
                    break


def crossing(points: np.ndarray, box: Box, edge: int) -> tuple[float, float] | None:
    """Where a polyline (n, 2) crosses an edge of a box, or ends on it; edges: 0 left, 1 bottom, 2 right, 3 top."""
    axis, at = edge % 2, box[edge]
    other = 1 - axis
    for a, b in itertools.pairwise(points):
        ends = [end for end in (a, b) if abs(end[axis] - at) < 1.0]
        if ends:
            along = float(ends[0][other])
        elif (a[axis] - at) * (b[axis] - at) < 0:
            along = float(a[other] + (at - a[axis]) / (b[axis] - a[axis]) * (b[other] - a[other]))
        else:
            continue
        if box[other] <= along <= box[other + 2]:
            return (along, at) if axis else (at, along)
    return None


def _meet(a: Box, b: Box) -> bool:
    return a[0] < b[2] and b[0] < a[2] and a[1] < b[3] and b[1] < a[3]


def _shorten(name: str, seen: set[str]) -> str:
    """The common name alone; a second object of the same name is called by its number."""
    number, _, common = name.removesuffix(")").partition(" (")
    short = common if common and common not in seen else number
    seen.add(common)
    return short
