"""How a frame lies on a stack's canvas, in the form that the kernels want."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from livestack.registration.distortion import TERMS, Distortion
from livestack.stacking.canvas import Canvas, footprint
from livestack.stacking.normalisation import Normalisation

STRIP_ROWS = 64
"""A canvas is worked on in strips of so many rows."""

FrameRows = tuple[np.ndarray, np.ndarray, np.float32, np.ndarray, np.ndarray]
"""The `frame` that the kernels want; see `kernels.sample_rows`."""


def upright(source: np.ndarray, inverse: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Turn a frame by a multiple of 90 degrees so that its rows run with the reference's, for `sample_row`.

    Parameters
    ----------
    source : (C, h, w) float32.
    inverse : (3, 3) or (2, 3) reference -> frame; or (2, 18), with a distortion (`Distortion.lines`).

    Returns
    -------
    source, inverse : turned alike, source C-contiguous, inverse (2, n), inverse[0, 0] > 0, the largest in its column.
    """
    inverse = np.array(inverse[:2], order="C")
    places = inverse[:, : 3 + TERMS]  # columns that speak of the frame; those behind speak of the reference
    if abs(inverse[1, 0]) > abs(inverse[0, 0]):
        # swap the axes: (x, y) -> (y, x)
        source = source.transpose(0, 2, 1)
        places[:] = places[::-1].copy()
    if inverse[0, 0] < 0:
        source = source[:, :, ::-1]
        places[0] *= -1
        places[0, 2] += source.shape[2] - 1
    return np.ascontiguousarray(source, dtype=np.float32), inverse


@dataclass(frozen=True, eq=False)
class LaidFrame:
    """A frame laid onto a stack, as the kernels want it.

    Attributes
    ----------
    source, inverse : see `upright`; factor : (C,) float32; surface : (C, 10) relative to the stack's origin.
    ruler : see `kernels.sample_rows.offset_row`.
    strips : first and last row (excluded) of those that the frame touches.
    """

    source: np.ndarray
    inverse: np.ndarray
    factor: np.ndarray
    surface: np.ndarray
    ruler: np.ndarray
    strips: list[tuple[int, int]]

    def of_channel(self, channel: int) -> FrameRows:
        """One channel of it."""
        return self.source[channel], self.inverse, self.factor[channel], self.surface[channel], self.ruler


def lay(
    planes: np.ndarray, matrix: np.ndarray, normalisation: Normalisation, distortion: Distortion | None,
    canvas: Canvas, origin: np.ndarray,
) -> LaidFrame:  # fmt: skip
    """A frame (C, h, w) on a canvas whose values are relative to `origin` (C,).

    Parameters
    ----------
    matrix, distortion : frame -> reference, as in `Stack.add`.
    """
    _, top, _, bottom = footprint(matrix, planes.shape[1], planes.shape[2], distortion)
    source, inverse = upright(planes, to_frame(canvas, matrix, distortion))
    return LaidFrame(
        source,
        inverse,
        np.asarray(normalisation.factor, dtype=np.float32),
        surfaces_above(normalisation, origin),
        ruler_on(canvas, normalisation),
        strips_of(canvas.height, top - canvas.top, bottom - canvas.top),
    )


def to_frame(canvas: Canvas, matrix: np.ndarray, distortion: Distortion | None) -> np.ndarray:
    """(2, 3) or (2, 18) from a pixel of the canvas to one of the frame."""
    back = np.linalg.inv(canvas.from_reference @ matrix)[:2]
    return back if distortion is None else distortion.lines(back, canvas.left, canvas.top)


def surfaces_above(normalisation: Normalisation, origin: np.ndarray) -> np.ndarray:
    """(C, 10) additive surfaces relative to the stack's origin."""
    surface = np.array(normalisation.surface, dtype=float)
    surface[:, 0] -= origin
    return surface


def ruler_on(canvas: Canvas, normalisation: Normalisation) -> np.ndarray:
    """(8,) where on the surfaces a pixel of the canvas lies."""
    return np.array([*canvas.ruler, *normalisation.reach])


def strips_of(height: int, first: int = 0, last: int | None = None) -> list[tuple[int, int]]:
    """Strips of rows of an image so high that hold some of the rows first..last (excluded)."""
    begin, end = max(0, first) // STRIP_ROWS * STRIP_ROWS, height if last is None else min(height, last)
    return [(y, min(height, y + STRIP_ROWS)) for y in range(begin, end, STRIP_ROWS)]
