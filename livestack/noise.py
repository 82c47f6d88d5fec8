"""How much the noise has fallen, measured on the pictures themselves.

Judged by means of 8 x 8 blocks, since noise per pixel would flatter an interpolation that blurs. What both the frame
and the stack show (nebula, stars too faint to be found) is no noise: with f and s the block-to-block differences of
frame and stack, S^2 what they share, and w the frame's share of the stack's weight,

    var(f) = S^2 + sf^2,   var(s) = S^2 + ss^2,   cov(f, s) = S^2 + w sf^2

which gives the noise of one frame, sf, and of the stack, ss. All three are robust (MAD).
"""

from __future__ import annotations

import numpy as np

BLOCK = 8
PATCH = 256
MIN_BLOCKS = 60
DARK_SHARE = 0.7


def _block_means(planes: np.ndarray) -> np.ndarray:
    """Means of blocks, in the mean of the channels."""
    plane = planes.mean(axis=0, dtype=np.float64)
    h, w = (side // BLOCK * BLOCK for side in plane.shape)
    return np.asarray(plane[:h, :w].reshape(h // BLOCK, BLOCK, w // BLOCK, BLOCK).mean(axis=(1, 3)))


def _bends(means: np.ndarray) -> np.ndarray:
    """Second differences of block means along x; slopes of the sky drop out."""
    return np.asarray((means[:, :-2] - 2 * means[:, 1:-1] + means[:, 2:]) / 6.0**0.5)


def _variance(values: np.ndarray) -> float:
    return (1.4826 * float(np.median(np.abs(values - np.median(values))))) ** 2


def measure_noise(stack: np.ndarray, frame: np.ndarray, share: float) -> tuple[float, float] | None:
    """Noise of one frame and of the stack that holds it.

    Parameters
    ----------
    stack, frame : (C, H, W) on one grid and scale, NaN = no data. Nine patches are looked at.
    share : the frame's weight over the sum of weights, 0 <= share < 1; 0 when the stack does not hold it.

    Returns
    -------
    (frame, stack) standard deviation of a block's mean, medians over the patches; None where too little is covered.
    """
    height, width = stack.shape[-2:]
    rows = np.unique(np.linspace(0, max(0, height - PATCH), 5).astype(int)[1:-1])
    columns = np.unique(np.linspace(0, max(0, width - PATCH), 5).astype(int)[1:-1])
    found = []
    for y in rows:
        for x in columns:
            patch = np.s_[:, y : y + PATCH, x : x + PATCH]
            means = _block_means(stack[patch])
            s, f = _bends(means), _bends(_block_means(frame[patch]))
            # blocks with stars in them are too many for any median: only the darker part of the patch is looked at
            dark = means <= np.nanquantile(means, DARK_SHARE) if np.isfinite(means).any() else means < 0
            both = np.isfinite(s) & np.isfinite(f) & dark[:, :-2] & dark[:, 1:-1] & dark[:, 2:]
            if both.sum() < MIN_BLOCKS:
                continue
            s, f = s[both], f[both]
            covariance = 0.25 * (_variance(f + s) - _variance(f - s))
            noise_f = max(0.0, (_variance(f) - covariance) / (1.0 - share)) if share < 1 else _variance(f)
            structure = covariance - share * noise_f
            found.append((noise_f, max(0.0, _variance(s) - max(0.0, structure))))
    if not found:
        return None
    one, all_ = np.median(np.array(found), axis=0)
    return float(one) ** 0.5, float(all_) ** 0.5
