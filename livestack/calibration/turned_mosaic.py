"""Whether a mosaic begins with another pixel than the header says: a flipped read-out, a sub-frame at odd pixels.

The two greens of a cell see the same sky, red and blue hardly ever do. Where the frames of a camera showed just that,
and one of them then shows the two "greens" apart and "red" and "blue" alike, its rows or columns are the other way
round. Which of both, the colour of the sky tells. Upside down and left to right at once swaps red and blue only, which
a change of the sky may do as well: that is left to the header.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

SAMPLES = 50_000
SURE_SIGMA = 6.0
LEAST_SKY = 0.1
"""Difference of two colours over the noise of a pixel: below it may be the electronics."""
ALIKE = 0.2
"""What must agree does so within this share of what must differ."""


@dataclass(frozen=True)
class CellColours:
    """The sky on the four pixels of a cell.

    Attributes
    ----------
    level : four medians in ADU, row by row.
    least : a difference of two levels that is certain, ADU.
    """

    level: tuple[float, float, float, float]
    least: float

    def apart(self, bayer: str) -> tuple[float, float]:
        """Differences between the two greens (the first less the second), and of red less blue, ADU."""
        first, second = (self.level[k] for k in range(4) if bayer[k] == "G")
        return first - second, self.level[bayer.index("R")] - self.level[bayer.index("B")]

    def bears_out(self, bayer: str) -> bool:
        """True when the greens agree, and red and blue surely do not."""
        greens, red_blue = self.apart(bayer)
        return abs(red_blue) > self.least and abs(greens) < ALIKE * abs(red_blue)


def cell_colours(data: np.ndarray) -> CellColours | None:
    """Of a mosaic (H, W) in ADU as the camera wrote it; None where it shows no noise to measure by."""
    step = 2 * max(1, int(np.sqrt(data.size / 4 / SAMPLES)))
    cells = [data[k // 2 :: step, k % 2 :: step].astype(np.float64).ravel() for k in range(4)]
    level = [float(np.nanmedian(cell)) for cell in cells]
    noise = [1.4826 * float(np.nanmedian(np.abs(c - m))) for c, m in zip(cells, level, strict=True)]
    worst = max(noise)
    if not worst > 0:
        return None
    error = 1.2533 * worst * np.sqrt(2.0 / len(cells[0]))
    a, b, c, d = level
    return CellColours((a, b, c, d), float(max(SURE_SIGMA * error, LEAST_SKY * worst)))


def turned_pattern(bayer: str, usual_red_blue: float, colours: CellColours) -> str | None:
    """The pattern that a frame shows in place of `bayer`, with rows or columns the other way round; None = `bayer`.

    Parameters
    ----------
    usual_red_blue : red less blue of this camera's frames that bear `bayer` out, ADU.
    """
    if colours.bears_out(bayer):
        return None
    columns, rows = (bayer[1] + bayer[0] + bayer[3] + bayer[2]), bayer[2:] + bayer[:2]
    for pattern in (columns, rows):
        if colours.bears_out(pattern) and colours.apart(pattern)[1] * usual_red_blue > 0:
            return pattern
    return None
