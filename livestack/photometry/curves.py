"""What is known of the light of a group's stars: one row a star, one column a frame."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

SATURATED = 1
"""A pixel of the star is clipped."""
EDGE = 2
"""A part of the star lies outside of the frame."""
BLENDED = 4
"""A neighbour's light cannot be parted from the star's."""
DEFECT = 8
"""Defective pixels take part of the star's light."""
COSMIC = 16
"""Something else shone there in this frame: a cosmic ray, a satellite."""
POOR = 32
"""The frame itself says little: clouds, too few stars to compare with."""


@dataclass(frozen=True, eq=False)
class Curves:
    """The light of the stars of one group at one moment; nothing in it changes any more.

    Attributes
    ----------
    group : its name.
    x, y : (n,) float64, px of the reference, 0-based, integers at pixel centres. A star is its row, also later.
    mag : (n,) float64, mean brightness, mag: -2.5 log10 of ADU in a frame like the reference (instrumental).
    rms_mmag, expected_mmag : (n,) float64, scatter of the good measurements, and what photons, sky and camera explain.
    variability : (n,) float64, how sure it is that a star varies, in sigma, comparable between stars; NaN: unknown.
    n_good : (n,) int, measurements without a flag.
    files, index : (t,) of the frames: names as in the journal, positions in files of many.
    jd : (t,) float64, UTC, middle of the exposure; NaN where the header has no date.
    mags, errors : (n, t) float32, mag, brought to the sky of the reference by the other stars; NaN: not measured.
    flux : (n, t) float32, ADU in the frame itself.
    flags : (n, t) uint8, sums of `SATURATED` ...; 0 = good.
    """

    group: str
    x: np.ndarray
    y: np.ndarray
    mag: np.ndarray
    rms_mmag: np.ndarray
    expected_mmag: np.ndarray
    variability: np.ndarray
    n_good: np.ndarray
    files: tuple[str, ...]
    index: np.ndarray
    jd: np.ndarray
    mags: np.ndarray
    errors: np.ndarray
    flux: np.ndarray
    flags: np.ndarray

    def __len__(self) -> int:
        return len(self.x)

    def nearest(self, x: float, y: float, within_px: float = 12.0) -> int | None:
        """The star nearest to a place (px of the reference), or None where there is none so near."""
        if not len(self):
            return None
        away = np.hypot(self.x - x, self.y - y)
        star = int(np.argmin(away))
        return star if away[star] <= within_px else None
