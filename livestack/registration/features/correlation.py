"""Masked normalised cross-correlation: the shift between two pictures of which parts are missing.

Padfield 2012, doi:10.1109/TIP.2011.2181402: the correlation coefficient over the overlap of every shift at once, by six
Fourier transforms. Pixels that are hot in *both* frames are masked, so the sensor itself cannot correlate.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from scipy import fft

SIDE = 320
"""Longest side of the pictures that are correlated."""
MIN_OVERLAP = 0.2
MIN_PEAK = 0.06
PEAK_OVER_REST = 1.35
"""A true peak stands this much above every other; chance does not."""


@dataclass(frozen=True)
class Shift:
    """(dx, dy) in px that moves the frame onto the reference, with the height of its peak and of the next best one."""

    dx: float
    dy: float
    peak: float
    second: float

    @property
    def believed(self) -> bool:
        """High enough, and alone."""
        return self.peak > MIN_PEAK and self.peak > PEAK_OVER_REST * self.second


def masked_correlation(
    reference: np.ndarray, reference_mask: np.ndarray, frame: np.ndarray, frame_mask: np.ndarray
) -> np.ndarray:
    """Correlation coefficient for every shift.

    Parameters
    ----------
    reference, frame : (h, w), (h2, w2) float32.
    reference_mask, frame_mask : same shapes, bool, True = bad.

    Returns
    -------
    (h + h2 - 1, w + w2 - 1) float32
        [j, i] belongs to the shift (dx, dy) = (i - (w2 - 1), j - (h2 - 1)) of the frame onto the reference; 0 where the
        overlap is below `MIN_OVERLAP` of the largest.
    """
    shape = (reference.shape[0] + frame.shape[0] - 1, reference.shape[1] + frame.shape[1] - 1)
    fast = tuple(fft.next_fast_len(n, real=True) for n in shape)
    m1 = (~reference_mask).astype(np.float32)
    m2 = (~frame_mask).astype(np.float32)[::-1, ::-1]
    f1 = np.where(reference_mask, 0, reference).astype(np.float32)
    f2 = np.where(frame_mask, 0, frame).astype(np.float32)[::-1, ::-1]
    f1 = f1 - m1 * np.float32(f1.sum() / max(1.0, float(m1.sum())))
    f2 = f2 - m2 * np.float32(f2.sum() / max(1.0, float(m2.sum())))

    def forward(image: np.ndarray) -> np.ndarray:
        return np.asarray(fft.rfft2(image, fast))

    def back(spectrum: np.ndarray) -> np.ndarray:
        return np.asarray(fft.irfft2(spectrum, fast))[: shape[0], : shape[1]]

    a1, a2, b1, b2 = forward(m1), forward(m2), forward(f1), forward(f2)
    s1, s2 = forward(f1 * f1), forward(f2 * f2)
    overlap = np.maximum(np.round(back(a1 * a2)), 1.0)
    mean1, mean2 = back(b1 * a2), back(a1 * b2)
    numerator = back(b1 * b2) - mean1 * mean2 / overlap
    variance1 = np.maximum(back(s1 * a2) - mean1**2 / overlap, 0)
    variance2 = np.maximum(back(a1 * s2) - mean2**2 / overlap, 0)
    denominator = np.sqrt(variance1 * variance2)
    floor = 1e-3 * float(denominator.max())
    good = (overlap >= MIN_OVERLAP * overlap.max()) & (denominator > floor)
    result = np.zeros(shape, dtype=np.float32)
    np.divide(numerator, denominator, out=result, where=good)
    return result


def find_shift(
    reference: np.ndarray, reference_mask: np.ndarray, frame: np.ndarray, frame_mask: np.ndarray
) -> Shift | None:
    """Best shift of the frame onto the reference, px of the pictures given; None when nothing correlates.

    Parameters as for `masked_correlation`, both pictures of one scale and orientation.
    """
    factor = max(1, round(max(reference.shape + frame.shape) / SIDE))
    parts = []
    for image, mask in ((reference, reference_mask), (frame, frame_mask)):
        size = (image.shape[1] // factor, image.shape[0] // factor)
        if min(size) < 8:
            return None
        crop = (slice(0, size[1] * factor), slice(0, size[0] * factor))
        parts.append(cv2.resize(image[crop], size, interpolation=cv2.INTER_AREA))
        parts.append(cv2.resize(mask[crop].astype(np.float32), size, interpolation=cv2.INTER_AREA) > 0.5)
    surface = masked_correlation(*parts)
    j, i = divmod(int(np.argmax(surface)), surface.shape[1])
    peak = float(surface[j, i])
    if peak <= 0:
        return None
    # The next best peak: outside the hill that the scene's own grain makes around the first.
    y, x = np.ogrid[: surface.shape[0], : surface.shape[1]]
    hill = 12
    second = float(surface[(y - j) ** 2 + (x - i) ** 2 > hill**2].max(initial=0.0))
    dx, dy = i + _vertex(surface[j], i), j + _vertex(surface[:, i], j)
    half = parts[2].shape
    return Shift(factor * (dx - (half[1] - 1)), factor * (dy - (half[0] - 1)), peak, second)


def _vertex(line: np.ndarray, at: int) -> float:
    """Offset of the parabola through three samples around a maximum."""
    if not 0 < at < len(line) - 1:
        return 0.0
    left, middle, right = (float(v) for v in line[at - 1 : at + 2])
    curvature = left - 2 * middle + right
    return 0.5 * (left - right) / curvature if curvature < 0 else 0.0
