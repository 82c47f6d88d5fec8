"""How noisy a picture is, judged by means of 8 x 8 blocks: noise per pixel would flatter what interpolation blurs."""

from __future__ import annotations

import numpy as np

BLOCK = 8
PATCH = 256


def block_noise(planes: np.ndarray) -> float | None:
    """Robust scatter between neighbouring blocks, in units of the data; None where there is too little.

    Parameters
    ----------
    planes : (C, H, W), NaN = no data. Nine patches are looked at; their median spares nebulae and crowded clusters.

    Returns
    -------
    Standard deviation of the mean of a block, in the mean of the channels.
    """
    height, width = planes.shape[-2:]
    rows = np.unique(np.linspace(0, max(0, height - PATCH), 5).astype(int)[1:-1])
    columns = np.unique(np.linspace(0, max(0, width - PATCH), 5).astype(int)[1:-1])
    found = []
    for y in rows:
        for x in columns:
            patch = planes[:, y : y + PATCH, x : x + PATCH].mean(axis=0, dtype=np.float64)
            h, w = (side // BLOCK * BLOCK for side in patch.shape)
            means = patch[:h, :w].reshape(h // BLOCK, BLOCK, w // BLOCK, BLOCK).mean(axis=(1, 3))
            # second difference: slopes of the sky do not count; (1, -2, 1) multiplies the variance by 6
            bend = (means[:, :-2] - 2 * means[:, 1:-1] + means[:, 2:]).ravel()
            bend = bend[np.isfinite(bend)]
            if len(bend) >= 20:
                found.append(1.4826 * float(np.median(np.abs(bend - np.median(bend)))) / 6.0**0.5)
    return float(np.median(found)) if found else None
