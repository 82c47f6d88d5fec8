"""How much the noise has fallen, measured on the pictures themselves.

Judged by means of 8 x 8 blocks, since noise per pixel would flatter an interpolation that blurs. What both the frame
and the stack show (nebula, stars too faint to be found) is no noise: with f and s the block-to-block differences of
frame and stack, S^2 what they share, and w the frame's share of the stack's weight,

    var(f) = S^2 + sf^2,   var(s) = S^2 + ss^2,   cov(f, s) = S^2 + w sf^2

which gives the noise of one frame, sf, and of the stack, ss, after clipping. Blocks with stars in them are too many for
any clipping: only places darker than their surroundings are looked at.
"""

from __future__ import annotations

import cv2
import numpy as np

BLOCK = 8
SURROUNDINGS = 31
PLACE = 5
DARK_SHARE = 0.6
MIN_BLOCKS = 150
CLIP_SIGMA = 3.5


def _block_means(planes: np.ndarray) -> np.ndarray:
    """(h, w) means of blocks, in the mean of the channels; NaN where a sample is missing."""
    plane = planes[0] if len(planes) == 1 else planes.mean(axis=0, dtype=np.float32)
    h, w = (side // BLOCK for side in plane.shape)
    whole = np.ascontiguousarray(plane[: h * BLOCK, : w * BLOCK], dtype=np.float32)
    return cv2.resize(whole, (w, h), interpolation=cv2.INTER_AREA).astype(np.float64)


def _dark_blocks(means: np.ndarray) -> np.ndarray:
    """(h, w) True for blocks in places darker than most of their surroundings.

    A place is 5 x 5 blocks: picking single blocks by their level would pick their noise along with it. A second
    difference within the place has nothing in common with the place's mean.
    """
    good = np.isfinite(means)
    filled = np.where(good, means, np.median(means[good]))
    limited = np.minimum(filled, np.quantile(filled, 0.9)).astype(np.float32)
    wide = cv2.blur(limited, (SURROUNDINGS, SURROUNDINGS), borderType=cv2.BORDER_REFLECT)
    above = cv2.blur(filled.astype(np.float32), (PLACE, PLACE), borderType=cv2.BORDER_REFLECT) - wide
    return np.asarray(good & (above <= np.quantile(above[good], DARK_SHARE)))


def _bends(means: np.ndarray) -> np.ndarray:
    """Second differences along x with unit variance factor; slopes of the sky drop out."""
    return np.asarray((means[:, :-2] - 2 * means[:, 1:-1] + means[:, 2:]) / 6.0**0.5)


def measure_noise(stack: np.ndarray, frame: np.ndarray, share: float) -> tuple[float, float] | None:
    """Noise of one frame and of the stack that holds it.

    Parameters
    ----------
    stack, frame : (C, H, W) on one grid and scale, NaN = no data.
    share : the frame's weight over the sum of weights, 0 <= share < 1; 0 when the stack does not hold it.

    Returns
    -------
    (frame, stack) standard deviation of a block's mean; None where too little is covered.
    """
    if min(stack.shape[-2:]) < 8 * BLOCK:
        return None
    means = _block_means(stack)
    if not np.isfinite(means).any():
        return None
    dark = _dark_blocks(means)
    s, f = _bends(means), _bends(_block_means(frame))
    use = np.isfinite(s) & np.isfinite(f) & dark[:, :-2] & dark[:, 1:-1] & dark[:, 2:]
    if use.sum() < MIN_BLOCKS:
        return None
    s, f = s[use], f[use]
    for values in (s, f):
        scale = 1.4826 * np.median(np.abs(values - np.median(values)))
        keep = np.abs(s - np.median(s)) <= CLIP_SIGMA * scale if values is s else np.abs(f) <= CLIP_SIGMA * scale
        s, f = s[keep], f[keep]
    covariance = float(np.mean(s * f) - s.mean() * f.mean())
    noise_f = (float(f.var()) - covariance) / (1.0 - share) if share < 1 else float(f.var())
    if noise_f <= 0:
        return None
    shared = max(0.0, covariance - share * noise_f)
    noise_s = float(s.var()) - shared
    # where the shared part drowns the rest, the stack's whole scatter is at least an upper limit
    return noise_f**0.5, (noise_s if noise_s > 0.1 * float(s.var()) else float(s.var())) ** 0.5
