"""Where a stack's pixels lie: a rectangle of the reference's grid, as large as the reference or larger.

The reference's pixel (0, 0) stays the origin of all transforms, whatever the canvas does; a canvas that has grown to
the left or upward begins at negative coordinates. `Canvas` only counts; `engine.group` says when and how far.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, replace

import numpy as np

from livestack.registration.distortion import Distortion, to_reference

STEP_SHARE = 64
"""A canvas grows in steps of this share of the reference's longer side, so that it need not grow with every frame."""
STEP_PX = 16
EDGE_POINTS = 17
"""Along each edge of a frame through a lens that distorts."""


@dataclass(frozen=True)
class Canvas:
    """A rectangle of whole pixels on the reference's grid.

    Attributes
    ----------
    height, width : of the canvas, px.
    field : (height, width) of the reference; smooth surfaces are given in coordinates from -1 to 1 over it.
    top, left : reference (y, x) of the canvas's pixel (0, 0), in pixels of the canvas.
    scale : pixels of the canvas along one of the reference; the outer edges of both coincide.
    """

    height: int
    width: int
    field: tuple[int, int]
    top: int = 0
    left: int = 0
    scale: float = 1.0

    @classmethod
    def of(cls, height: int, width: int) -> Canvas:
        """The reference itself."""
        return cls(height, width, (height, width))

    @property
    def moved(self) -> bool:
        """True when its first pixel is not the reference's."""
        return (self.top, self.left) != (0, 0)

    @property
    def from_reference(self) -> np.ndarray:
        """(3, 3) reference (x, y, 1) -> pixel of the canvas."""
        matrix = on_scale(self.scale)
        matrix[:2, 2] -= self.left, self.top
        return matrix

    @property
    def ruler(self) -> tuple[float, float, float, float]:
        """(u of the first column, step of u, v of the first row, step of v): surfaces' coordinates along the canvas."""
        height, width = self.field
        du, dv = 2.0 / max(1, width - 1) / self.scale, 2.0 / max(1, height - 1) / self.scale
        shift = 0.5 * (self.scale - 1.0)
        return -1.0 + (self.left - shift) * du, du, -1.0 + (self.top - shift) * dv, dv

    def scaled(self, scale: float) -> Canvas:
        """The same part of the sky, with `scale` pixels along each of the reference."""
        box = (self.left, self.top, self.left + self.width, self.top + self.height)
        x0, y0, x1, y1 = in_pixels(tuple(round(edge / self.scale) for edge in box), scale)  # type: ignore[arg-type]
        return Canvas(y1 - y0, x1 - x0, self.field, y0, x0, scale)

    def around(self, boxes: Iterable[tuple[int, int, int, int]], steps: bool = False) -> Canvas:
        """The smallest canvas that holds this one and some boxes (x0, y0, x1, y1 in reference pixels, ends excluded).

        Parameters
        ----------
        steps : each side that moves, moves by whole steps.
        """
        x0, y0, x1, y1 = self.left, self.top, self.left + self.width, self.top + self.height
        step = max(STEP_PX, math.ceil(max(self.field) / STEP_SHARE / STEP_PX) * STEP_PX) if steps else 1
        for box in boxes:
            left, top, right, bottom = in_pixels(box, self.scale)
            x0 -= step * max(0, math.ceil((x0 - left) / step))
            y0 -= step * max(0, math.ceil((y0 - top) / step))
            x1 += step * max(0, math.ceil((right - x1) / step))
            y1 += step * max(0, math.ceil((bottom - y1) / step))
        return replace(self, left=x0, top=y0, width=x1 - x0, height=y1 - y0)

    def slices(self, inner: Canvas) -> tuple[slice, slice]:
        """Rows and columns of this canvas that are `inner`, which lies within it."""
        y, x = inner.top - self.top, inner.left - self.left
        return slice(y, y + inner.height), slice(x, x + inner.width)

    def carry(self, entries: np.ndarray, onto: Canvas) -> np.ndarray:
        """Flat indices of (C, height, width) samples of this canvas -> those of a canvas that holds it; sorted stays
        sorted."""
        plane = self.height * self.width
        channel, rest = np.divmod(entries, plane)
        row, column = np.divmod(rest, self.width)
        row += self.top - onto.top
        column += self.left - onto.left
        return np.asarray((channel * onto.height + row) * onto.width + column)


def on_scale(scale: float) -> np.ndarray:
    """(3, 3) pixels (x, y, 1) of a grid -> those of one with `scale` pixels along each, whose outer edges coincide."""
    shift = 0.5 * (scale - 1.0)
    return np.array([[scale, 0.0, shift], [0.0, scale, shift], [0.0, 0.0, 1.0]])


def in_pixels(box: tuple[int, int, int, int], scale: float) -> tuple[int, int, int, int]:
    """A box (x0, y0, x1, y1, ends excluded) of reference pixels in those of a canvas, rounded outward."""
    x0, y0, x1, y1 = box
    return math.floor(x0 * scale), math.floor(y0 * scale), math.ceil(x1 * scale), math.ceil(y1 * scale)


def footprint(
    matrix: np.ndarray, height: int, width: int, distortion: Distortion | None = None
) -> tuple[int, int, int, int]:
    """(x0, y0, x1, y1), ends excluded: the whole reference pixels whose centres a frame of (height, width) may reach.

    Parameters
    ----------
    matrix, distortion : frame -> reference.
    """
    steps = np.linspace(0, 1, 2 if distortion is None else EDGE_POINTS)
    grid = np.stack(np.meshgrid(steps * (width - 1), steps * (height - 1)), axis=-1).reshape(-1, 2)
    x, y = to_reference(matrix, distortion, grid).T
    # a corner on a pixel's centre, but for rounding; an edge that bulges between two points
    slack = 1e-6 if distortion is None else 1.0
    return (
        math.ceil(float(x.min()) - slack),
        math.ceil(float(y.min()) - slack),
        math.floor(float(x.max()) + slack) + 1,
        math.floor(float(y.max()) + slack) + 1,
    )
