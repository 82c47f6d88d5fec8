"""Which stars are worth fitting: single, unsaturated, away from the edge and from no data, well above the noise.

Found with `sep` (Bertin & Arnouts 1996; Barbary 2016, doi:10.21105/joss.00058) through a filter as wide as the stars,
so that noise does not break faint wide ones into pieces. Fitting and averaging are left to `measure`.
"""

from __future__ import annotations

import math

import cv2
import numpy as np
import sep
from scipy.spatial import cKDTree

from livestack.detection import FWHM_PER_SIGMA
from livestack.kernels.psf import half_maximum_size

DETECTION_SIGMA = 3.0
MOST_LIT = 20.0
"""No more than so many percent of the pixels are taken for stars."""
DETECTION_FWHM_PX, SMOOTH_FROM_PX = 2.5, 4.5
"""Width of the filter through which stars are looked for; those wider than the latter, through one of their own."""
MIN_SNR = 12.0
"""Fainter stars add noise and no knowledge."""
FULL_WELL_SHARE = 0.9
"""Stars that reach so much of saturation are left out: sensors bend before they clip."""
WINDOW_FWHM = 3.0
"""Radius of the fitted window in FWHM: far enough out to tell beta from background."""
NEIGHBOUR_FLUX = 0.03
"""A neighbour with so much of the star's flux inside its window makes it a bad witness."""
MIN_SHARPNESS = 0.12
"""Mean of the four neighbours over the peak; a hot pixel has less."""


def choose_stars(
    data: np.ndarray, saturation_adu: float | None, max_stars: int, positions: np.ndarray | None,
    seams: np.ndarray | None = None,
) -> tuple[np.ndarray, np.ndarray, np.ndarray, float, np.ndarray] | None:  # fmt: skip
    """Stars worth fitting, brightest first: (N, 8) first guesses, segment map, own numbers, sky sigma, SNR.

    None touches a seam (y).
    """
    height, width = data.shape
    missing = np.isnan(data)
    if missing.all() or min(height, width) < 16:
        return None
    filled = np.where(missing, np.float32(0), data) if missing.any() else data
    mesh = min(64, height, width)
    sky = sep.Background(filled, mask=missing, bw=mesh, bh=mesh)
    sky_sigma = float(sky.globalrms)
    if not sky_sigma > 0:
        return None
    level = sky.back()
    above = filled - level
    above[missing] = 0.0
    objects, segments, size, peak = _detect(above, sky_sigma, missing, 0.0)
    if len(objects) and (wide := _typical_size(size, peak)) > SMOOTH_FROM_PX:
        objects, segments, size, peak = _detect(above, sky_sigma, missing, wide)
    if len(objects) == 0:
        return None
    numbers = np.arange(1, len(objects) + 1, dtype=np.int32)
    x, y = objects["x"].astype(np.float64), objects["y"].astype(np.float64)
    local = level[np.clip(np.rint(y).astype(int), 0, height - 1), np.clip(np.rint(x).astype(int), 0, width - 1)]
    local = local.astype(np.float64)
    top = _highest_pixels(filled, objects)
    sharpness = _sharpness(above, objects)

    if saturation_adu is None:
        saturation_adu = _plateau(top, size)
    clean = (objects["flag"] & (sep.OBJ_TRUNC | sep.OBJ_SINGU)) == 0
    clean &= (top < FULL_WELL_SHARE * saturation_adu) & (sharpness > MIN_SHARPNESS) & (peak > 0)
    if not clean.any():
        return None
    typical = _typical_size(size[clean], peak[clean])
    within, _, _ = sep.sum_circle(above, x, y, np.full(len(x), typical), mask=missing, subpix=5)
    snr = within / (sky_sigma * typical * math.sqrt(math.pi / (2.0 * math.log(2.0))))
    reach = WINDOW_FWHM * typical
    clean &= (snr > MIN_SNR) & (size < 2.5 * typical) & (size > 0.4 * typical)
    clean &= (x > reach) & (y > reach) & (x < width - 1 - reach) & (y < height - 1 - reach)
    for seam in () if seams is None else seams:
        clean &= np.abs(y - seam) > reach
    clean &= _isolated(x, y, objects["flux"], reach)
    if positions is not None:
        near, _ = cKDTree(np.asarray(positions, dtype=np.float64)).query(np.stack([x, y], 1))
        clean &= near < typical
    chosen = np.flatnonzero(clean)
    if len(chosen) == 0:
        return None
    chosen = chosen[np.argsort(-snr[chosen], kind="stable")][:max_stars]
    start = np.zeros((len(chosen), 8))
    start[:, 0], start[:, 1], start[:, 2], start[:, 3] = local[chosen], peak[chosen], x[chosen], y[chosen]
    start[:, 4] = start[:, 6] = 1.0 / np.clip(size[chosen], 1.2, None) ** 2
    start[:, 7] = 1.0 / 3.0
    return start, segments, numbers[chosen], sky_sigma, snr[chosen]


def _detect(
    above: np.ndarray, sky_sigma: float, missing: np.ndarray, fwhm: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Objects, segment map, and each object's half-maximum size (px) and peak (ADU); `fwhm` 0 when not known yet."""
    sigma = max(fwhm, DETECTION_FWHM_PX) / FWHM_PER_SIGMA
    seen = cv2.GaussianBlur(above, (0, 0), sigma)
    noise = sky_sigma / (2.0 * math.sqrt(math.pi) * sigma)
    # the Moon, or a nebula that fills the frame: look only at what stands highest
    limit = max(DETECTION_SIGMA * noise, float(np.percentile(seen[:: 1 + above.shape[0] // 1000], 100 - MOST_LIT)))
    sep.set_extract_pixstack(int((seen > limit).sum()) + 10_000)
    sep.set_sub_object_limit(8192)
    objects, segments = sep.extract(
        seen, limit, mask=missing, minarea=5, filter_kernel=None, deblend_cont=0.005, segmentation_map=True
    )
    segments = np.ascontiguousarray(segments, dtype=np.int32)
    numbers = np.arange(1, len(objects) + 1, dtype=np.int32)
    x, y = objects["x"].astype(np.float64), objects["y"].astype(np.float64)
    size, peak = np.zeros(len(objects)), np.zeros(len(objects))
    if fwhm == 0:
        seen = cv2.GaussianBlur(above, (0, 0), 0.5 * sigma)
    half_maximum_size(seen, segments, numbers, x, y, np.zeros(len(objects)), 60, size, peak)
    blur = sigma * FWHM_PER_SIGMA * (0.5 if fwhm == 0 else 1.0)
    size = np.sqrt(np.maximum(size**2 - blur**2, 0.2 * size**2))
    return objects, segments, size, peak


def _typical_size(size: np.ndarray, peak: np.ndarray) -> float:
    """Median half-maximum size of the highest sixty."""
    return max(float(np.median(size[np.argsort(-peak, kind="stable")[:60]])), 1.2)


def _highest_pixels(data: np.ndarray, objects: np.ndarray) -> np.ndarray:
    """Value of each object's highest pixel, ADU with the sky."""
    return np.asarray(data[objects["ypeak"], objects["xpeak"]], dtype=np.float64)


def _sharpness(above: np.ndarray, objects: np.ndarray) -> np.ndarray:
    """Mean of the four pixels around the peak over the peak."""
    height, width = above.shape
    px, py = np.clip(objects["xpeak"], 1, width - 2), np.clip(objects["ypeak"], 1, height - 2)
    around = above[py - 1, px] + above[py + 1, px] + above[py, px - 1] + above[py, px + 1]
    return np.asarray(around / (4.0 * np.maximum(above[py, px], 1e-9)), dtype=np.float64)


def _plateau(top: np.ndarray, size: np.ndarray) -> float:
    """Saturation guessed from the brightest stars: several of one height and wider than the rest; else inf."""
    if len(top) < 8:
        return math.inf
    order = np.argsort(-top, kind="stable")
    flat = order[top[order] > 0.985 * top[order[0]]]
    rest = order[len(flat) :]
    if len(flat) < 3 or len(rest) < 3 or np.median(size[flat]) < 1.15 * np.median(size[rest[: len(rest) // 2 + 1]]):
        return math.inf
    return float(top[order[0]])


def _isolated(x: np.ndarray, y: np.ndarray, flux: np.ndarray, reach: float) -> np.ndarray:
    """True where no neighbour of consequence lies within `reach` pixels."""
    alone = np.ones(len(x), dtype=bool)
    pairs = cKDTree(np.stack([x, y], 1)).query_pairs(1.2 * reach, output_type="ndarray")
    for a, b in ((pairs[:, 0], pairs[:, 1]), (pairs[:, 1], pairs[:, 0])):
        alone[a[flux[b] > NEIGHBOUR_FLUX * flux[a]]] = False
    return alone
