"""The pictures that star-less registration works on, and how sharp a frame is.

A fixed sensor pattern must not win the match, so what stands still with the sensor goes first: single hot pixels
(median filter), stripes of rows and columns, and everything broader than the scene's detail (high pass).
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

WORK_SIDE = 1280
"""Longest side of the pictures that are searched for keypoints; positions are refined far below a pixel."""
HIGH_PASS_SHARE = 1 / 40
"""Sigma of the high pass over the longest side."""


@dataclass(frozen=True, eq=False)
class Prepared:
    """One frame made ready.

    Attributes
    ----------
    picture : (h, w) uint8, percentile-stretched, at working size.
    detail : (h, w) float32, high-passed, unit robust scatter; 0 where there is no data.
    valid : (h, w) bool, True = data (*not* a bad-pixel mask).
    hot : (h, w) bool, True = a hot pixel was taken out here.
    scale : working pixels per full pixel, <= 1.
    """

    picture: np.ndarray
    detail: np.ndarray
    valid: np.ndarray
    hot: np.ndarray
    scale: float


def prepare(image: np.ndarray) -> Prepared:
    """Make one frame ready.

    Parameters
    ----------
    image : (H, W) float32 luminance, NaN = no data; not a mosaic.
    """
    image = np.ascontiguousarray(image, dtype=np.float32)
    valid = np.isfinite(image)
    if not valid.all():
        fill = float(np.median(image[valid])) if valid.any() else 0.0
        image = np.where(valid, image, np.float32(fill))
    smooth = cv2.medianBlur(image, 3)
    rest = image - smooth
    sample = np.abs(rest[::4, ::4])
    # The mean where the median is zero: eight-bit pictures are flat but for a few steps.
    hot = np.abs(rest) > 10 * max(1.4826 * float(np.median(sample)), float(sample.mean()), 1e-6)
    hot &= np.abs(rest) > 0.05 * float(np.subtract(*np.percentile(smooth[::4, ::4], [99.5, 0.5])))
    height, width = image.shape
    scale = min(1.0, WORK_SIDE / max(height, width))
    if scale < 1.0:
        size = (max(8, round(width * scale)), max(8, round(height * scale)))
        smooth = cv2.resize(smooth, size, interpolation=cv2.INTER_AREA)
        valid = cv2.resize(valid.astype(np.uint8), size, interpolation=cv2.INTER_NEAREST) > 0
        hot = cv2.resize(hot.astype(np.float32), size, interpolation=cv2.INTER_AREA) > 0
    low, high = np.percentile(smooth[::3, ::3], [0.5, 99.7])
    picture = np.clip((smooth - low) * (255.0 / max(high - low, 1e-6)), 0, 255).astype(np.uint8)
    return Prepared(picture, _high_pass(smooth, valid), valid, hot, scale)


def _high_pass(smooth: np.ndarray, valid: np.ndarray) -> np.ndarray:
    """Detail finer than the high pass, without row and column stripes, in units of its robust scatter."""
    sigma = max(2.0, HIGH_PASS_SHARE * max(smooth.shape))
    # A broad Gaussian costs little on a quarter-size copy.
    small = cv2.resize(smooth, None, fx=0.25, fy=0.25, interpolation=cv2.INTER_AREA)
    broad = cv2.resize(cv2.GaussianBlur(small, (0, 0), sigma / 4), smooth.shape[::-1], interpolation=cv2.INTER_LINEAR)
    detail = smooth - broad
    detail -= np.median(detail[:, ::2], axis=1, keepdims=True)
    detail -= np.median(detail[::2], axis=0, keepdims=True)
    spread = 1.4826 * float(np.median(np.abs(detail[::3, ::3])))
    if spread <= 0:
        spread = max(float(detail.std()), 1e-6)
    detail /= np.float32(spread)
    # Limb and terminator must not outvote the terrain.
    limit = max(8.0, float(np.percentile(np.abs(detail[::2, ::2]), 99.8)))
    np.clip(detail, -limit, limit, out=detail)
    detail[~valid] = 0
    return detail


def sharpness(image: np.ndarray) -> float:
    """How much fine structure a frame holds, whatever its scale, brightness and noise; larger is sharper.

    Energy of the Laplacian on four scales (pixel sizes 1, 2, 4, 8), less what the noise measured on the finest scale
    would give, over the variance of the picture. Comparable between frames of one scene only.

    Parameters
    ----------
    image : (H, W) float32 luminance, NaN = no data; not a mosaic.
    """
    level = np.ascontiguousarray(image, dtype=np.float32)
    bad = ~np.isfinite(level)
    if bad.any():
        if bad.all():
            return 0.0
        level = np.where(bad, np.float32(np.median(level[~bad])), level)
    level = cv2.medianBlur(level, 3)
    # Immerkaer 1996, doi:10.1006/cviu.1996.0060: this difference of Laplacians sees noise and hardly any structure.
    probe = cv2.filter2D(level, -1, np.array([[1, -2, 1], [-2, 4, -2], [1, -2, 1]], dtype=np.float32))
    noise = 1.4826 * float(np.median(np.abs(probe[::2, ::2]))) / 6.0
    total = 0.0
    contrast = float(np.var(cv2.resize(level, None, fx=0.125, fy=0.125, interpolation=cv2.INTER_AREA)))
    for step in range(4):
        if min(level.shape) < 16:
            break
        laplacian = cv2.Laplacian(level, cv2.CV_32F, ksize=1)[1:-1, 1:-1]
        # Neighbouring samples are independent after binning; the median filter had made the finest ones alike.
        energy = max(0.0, float(np.mean(laplacian**2)) - 20 * (noise / 2**step) ** 2)
        total += energy / 16**step  # curvature in true pixels: coarse scales count only where there is nothing finer
        level = cv2.resize(level, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA)
    return float(np.sqrt(total / max(contrast, noise**2, 1e-12)))
