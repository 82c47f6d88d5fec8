"""Detection on binned data, measurement on full-size windows: `find_stars`."""

from __future__ import annotations

import math

import cv2
import numpy as np
from scipy.spatial import cKDTree

from livestack.base.settings import DetectionSettings
from livestack.detection.catalogue import FWHM_PER_SIGMA, StarCatalog
from livestack.detection.sky import Sky, measure_mesh
from livestack.kernels import sky as sky_kernel
from livestack.kernels import stars as kernel
from livestack.kernels.bands import Bands, run_bands
from livestack.kernels.peaks import separate_stars

DETECTION_PIXELS = 1.7e6
DETECTION_CELL = 64
DETECTION_SAMPLES = 250
DEBLEND_SHARE = 0.1
"""A star beside a brighter one rises by this share above the place where the two meet."""
LAST_PLACE = np.uint64(0xFFFFFFFF)
SHAPE_STARS = 150
"""Shapes are measured of so many of the brightest: their median says all there is to say of a frame."""
PROBE_STARS = 50
MOST_TRIED = 4
"""So many times more places are looked at than stars are wanted: a sensor may have thousands of hot pixels."""
ENOUGH_STARS = 12
LEAST_AROUND = 0.3
"""Neighbours over peak: 0 for a hot pixel, 2 for a star of FWHM 1.5 px, 5 for one of 3 px, less in a mosaic."""
DEEP_SIGMA = 4.8
"""Limit of the second look: hardly a false detection in a frame of half a million cells."""
GRAIN_PX = 4
MOST_GRAIN = 2.6
"""Independent noise shows 1, a rebuilt X-Trans mosaic 2.0 to 2.4; a crowded field shows more, which is not noise."""
TERRAIN_DISPERSION = 0.2
TERRAIN_AXES = 0.6
"""Real frames of stars: sizes scatter by 0.04-0.19, axes by 0.65-0.87;
the Moon: 0.22-0.36 and 0.5. Trailed stars scatter little."""


def luminance(data: np.ndarray) -> np.ndarray:
    """(H, W) in which stars are looked for: the data themselves, or the mean of three planes."""
    return data if data.ndim == 2 else np.asarray(np.mean(data, axis=0, dtype=np.float32))


def grain_of(image: np.ndarray, noise: float) -> float:
    """How much more noise is left in means of 4 x 4 pixels than of independent pixels: neighbours that share theirs.

    Parameters
    ----------
    image : (H, W) float32, ADU.
    noise : sigma of one pixel if the three planes were independent, ADU.

    Returns
    -------
    1 to `MOST_GRAIN`.
    """
    height, width = (side // GRAIN_PX for side in image.shape)
    if min(height, width) < 8 or not noise > 0:
        return 1.0
    means = cv2.resize(image[: height * GRAIN_PX, : width * GRAIN_PX], (width, height), interpolation=cv2.INTER_AREA)
    steps = np.abs(np.diff(means, axis=1))
    steps = steps[np.isfinite(steps)]
    if not len(steps):
        return 1.0
    grain = 1.4826 * float(np.median(steps)) / math.sqrt(2.0) * GRAIN_PX / noise
    return min(max(grain, 1.0), MOST_GRAIN)


def _parity_offsets(sky: Sky, bayer: str | None, colour: bool) -> np.ndarray:
    """(2, 2) float32 sky level by pixel parity."""
    medians = [float(np.nanmedian(level)) if np.isfinite(level).any() else 0.0 for level in sky.level]
    if bayer is None:
        return np.full((2, 2), np.mean(medians) if colour else medians[0], dtype=np.float32)
    return np.array([[medians["RGB".index(bayer[2 * r + c])] for c in range(2)] for r in range(2)], dtype=np.float32)


def _detect(
    binned: np.ndarray, threshold_sigma: float, sigma_px: float, least_noise: float, bands: Bands
) -> np.ndarray:
    """(n, 2) x, y of sources in the binned image, brightest first; `binned` is used up.

    least_noise : of a cell; a sky that is one value throughout shows less.
    """
    height, width = binned.shape
    gy, gx = max(1, round(height / DETECTION_CELL)), max(1, round(width / DETECTION_CELL))
    (level,), (spread,), _ = measure_mesh([(binned, (0, 0))], 1, (gy, gx), DETECTION_SAMPLES, bands)
    good = np.isfinite(level)
    if not good.any():
        return np.empty((0, 2))
    level[~good] = np.median(level[good])
    noise = max(float(np.median(spread[good])), least_noise)
    if not noise > 0:
        return np.empty((0, 2))
    if min(gy, gx) >= 3:
        level = cv2.medianBlur(level, 3)  # a cell full of a bright star or a galaxy's core is no sky
    sky_kernel.flatten(binned, cv2.resize(level, (width, height), interpolation=cv2.INTER_LINEAR))
    half = max(1, math.ceil(2 * sigma_px))
    profile = np.exp(-0.5 * (np.arange(-half, half + 1) / sigma_px) ** 2)
    profile /= profile.sum()
    smooth = cv2.sepFilter2D(binned, cv2.CV_32F, profile, profile, borderType=cv2.BORDER_CONSTANT)
    # A filter of unit sum makes the noise smaller by this factor, and with it the limit.
    limit = threshold_sigma * noise * float(np.sum(profile**2))
    above = np.flatnonzero(smooth > limit)
    # Value and place in one number: sorted at once, and equal values always in the same order.
    keys = (smooth.view(np.uint32).ravel()[above].astype(np.uint64) << 32) | (LAST_PLACE - above.astype(np.uint64))
    keys.sort()
    order = (LAST_PLACE - (keys[::-1] & LAST_PLACE)).astype(np.int64)
    owner, stars = binned.view(np.int32), np.empty((len(order), 3))
    owner[:] = 0
    stars = stars[: separate_stars(smooth, order, limit, DEBLEND_SHARE, owner, stars)]
    return stars[np.lexsort((stars[:, 0], stars[:, 1], -stars[:, 2])), :2]


def _measure(
    image: np.ndarray, offsets: np.ndarray, box: int, start: np.ndarray, sigma: float, saturation: float, noise: float,
    n_shapes: int, least_around: float, bands: Bands | None = None,
) -> np.ndarray:  # fmt: skip
    """Run the window kernel over the `start` positions, shared among the threads when there are any."""
    radius = math.ceil(max(4.2 * sigma, 4.0)) + 2
    axis = np.arange(-radius, radius + 1)
    room = np.count_nonzero(np.add.outer(axis**2, axis**2) > (radius - 1.5) ** 2)
    table = np.empty((len(start), kernel.N_COLUMNS))

    def part(first: int, last: int) -> None:
        own, rims = start[first:last], np.empty((last - first, room), dtype=np.float32)
        counts = np.empty(last - first, dtype=np.int64)
        kernel.window_rims(image, offsets, box, own, radius, rims, counts)
        rims.sort(axis=1)
        kernel.measure_stars(
            image, offsets, box, own, sigma, radius, saturation, least_around, noise, rims, counts, table[first:last],
            n_shapes - first,
        )  # fmt: skip

    run_bands(bands, part, len(start))
    return table


def find_stars(
    data: np.ndarray,
    bayer: str | None,
    sky: Sky,
    saturation_adu: float | None,
    settings: DetectionSettings,
    bands: Bands,
    grainy: bool = False,
) -> StarCatalog:
    """Detect and measure the stars of a calibrated frame.

    Parameters
    ----------
    data : (H, W) mono or mosaic, or (3, H, W), float32, ADU, NaN = no data.
    bayer : pattern of a mosaic, else None.
    sky : from `measure_sky`.
    saturation_adu : value from which a pixel counts as clipped, None when unknown.
    grainy : neighbours share noise, so that more of it is left in a star's window; how much is measured.

    Returns
    -------
    StarCatalog
        Empty when there are none; single hot pixels are left out.
    """
    image = luminance(data)
    height, width = image.shape
    offsets = _parity_offsets(sky, bayer, data.ndim == 3)
    box = 1 if bayer else 0
    noise = sky.noise_adu / (2.0 if box else 1.0) / (math.sqrt(3.0) if data.ndim == 3 else 1.0)
    least = float(np.mean(sky.rounding)) / (math.sqrt(3.0) if data.ndim == 3 else 1.0)
    if grainy:
        noise *= grain_of(image, noise)
        least = max(least, noise)
    saturation = 0.97 * saturation_adu if saturation_adu else math.inf
    factor = 2
    while (height // factor) * (width // factor) > DETECTION_PIXELS and factor < 4:
        factor *= 2
    best: StarCatalog | None = None
    # A faint or sparse field is looked at again before giving up: finer, then wider, and deeper each time.
    finer, deeper = max(factor // 2, 2 if box else 1), min(DEEP_SIGMA, settings.threshold_sigma)
    looks = ((factor, 0.8, settings.threshold_sigma), (finer, 1.2, deeper), (factor, 1.8, deeper))
    for cells, width_px, limit in looks:
        table, sigma = _find_at(image, offsets, box, cells, width_px, limit, saturation, noise, least, settings, bands)
        if _is_terrain(table):
            return _catalog(table[:0], sigma, limit, 0)
        catalog = _catalog(table, sigma, limit, settings.max_stars)
        if best is None or len(catalog) > len(best):
            best = catalog
        if len(best) >= ENOUGH_STARS:
            break
    assert best is not None
    return best


def _light_around(sigma: float) -> float:
    """Light in the eight neighbours over that in the brightest pixel of a Gaussian star on the centre of a pixel."""
    return (math.erf(1.5 / (sigma * math.sqrt(2))) / math.erf(0.5 / (sigma * math.sqrt(2)))) ** 2 - 1


def _is_terrain(table: np.ndarray) -> bool:
    """True when what was detected is craters and mountains: stars of one frame share a shape, whatever it is."""
    half_sum = 0.5 * (table[:, kernel.MXX] + table[:, kernel.MYY])
    half_diff = np.hypot(0.5 * (table[:, kernel.MXX] - table[:, kernel.MYY]), table[:, kernel.MXY])
    good = (table[:, kernel.STATUS] == kernel.OK) & (half_sum > half_diff) & (table[:, kernel.SNR] > 15)
    if good.sum() < 10:
        return False
    size = 0.5 * np.log(half_sum[good])
    dispersion = 1.4826 * float(np.median(np.abs(size - np.median(size))))
    ratio = (half_sum[good] - half_diff[good]) / (half_sum[good] + half_diff[good])
    return dispersion > TERRAIN_DISPERSION and float(np.median(ratio)) < TERRAIN_AXES**2


def _find_at(
    image: np.ndarray, offsets: np.ndarray, box: int, factor: int, width_px: float, threshold: float,
    saturation: float, noise: float, least: float, settings: DetectionSettings, bands: Bands,
) -> tuple[np.ndarray, float]:  # fmt: skip
    """Detect on cells of `factor` pixels with a filter of sigma `width_px` cells; measured table and window sigma."""
    height, width = image.shape
    if min(height, width) < 8 * factor:
        return np.empty((0, kernel.N_COLUMNS)), 1.5
    binned = np.full((height // factor, width // factor), np.nan, dtype=np.float32)
    bands.run(lambda row0, row1: sky_kernel.bin_mean(image, factor, offsets, binned, row0, row1), binned.shape[0])
    places = _detect(binned, threshold, width_px, least / factor, bands)[: MOST_TRIED * settings.max_stars]
    start = places * factor + (factor - 1) / 2.0
    sigma = 1.5
    least_around = LEAST_AROUND
    # Width of this frame's stars from the brightest that are whole; two rounds settle it.
    for _ in range(2):
        brightest = start[:PROBE_STARS]
        probe = _measure(image, offsets, box, brightest, sigma, saturation, noise, PROBE_STARS, least_around)
        size = np.sqrt(0.5 * (probe[:, kernel.MXX] + probe[:, kernel.MYY]))
        good = (probe[:, kernel.STATUS] == kernel.OK) & np.isfinite(size) & (probe[:, kernel.SNR] > 10)
        if good.sum() < 3:
            break
        sigma = float(np.clip(np.median(size[good]), 0.8, 12.0))
        least_around = max(LEAST_AROUND, (0.08 if box else 0.35) * _light_around(sigma))
        if _is_terrain(probe):
            return probe, sigma
    parts = [np.empty((0, kernel.N_COLUMNS))]
    wanted = settings.max_stars
    for first in range(0, len(start), settings.max_stars):
        some, shapes = start[first : first + settings.max_stars], 0 if first else SHAPE_STARS
        parts.append(_measure(image, offsets, box, some, sigma, saturation, noise, shapes, least_around, bands))
        wanted -= int(np.count_nonzero(_is_star(parts[-1], threshold)))
        if wanted <= 0:
            break
    return np.concatenate(parts), sigma


def _is_star(table: np.ndarray, threshold: float) -> np.ndarray:
    """(n,) bool: measured, and above the limit."""
    status = table[:, kernel.STATUS]
    return ((status == kernel.OK) | (status == kernel.SATURATED)) & (table[:, kernel.SNR] > threshold)


def _catalog(table: np.ndarray, sigma: float, threshold: float, max_stars: int) -> StarCatalog:
    table = table[_is_star(table, threshold)]
    table = table[np.lexsort((table[:, kernel.X], table[:, kernel.Y], -table[:, kernel.FLUX]))]
    if len(table) > 1:  # two detections that converged on one star: keep the brighter
        tree = cKDTree(table[:, [kernel.X, kernel.Y]])
        table = np.delete(table, tree.query_pairs(max(1.5, sigma), output_type="ndarray").max(axis=1), axis=0)
    table = table[:max_stars]
    mxx, mxy, myy = (table[:, c] for c in (kernel.MXX, kernel.MXY, kernel.MYY))
    half_sum, half_diff = 0.5 * (mxx + myy), np.hypot(0.5 * (mxx - myy), mxy)
    saturated = table[:, kernel.STATUS] == kernel.SATURATED
    usable = ~saturated & (table[:, kernel.SNR] > 15)
    major, minor = half_sum + half_diff, np.maximum(half_sum - half_diff, 0.0)
    with np.errstate(invalid="ignore", divide="ignore"):
        fwhm = np.where(usable, FWHM_PER_SIGMA * np.sqrt(np.maximum(half_sum, 0.04)), np.nan)
        eccentricity = np.where(usable, np.sqrt(1 - minor / major), np.nan)
    theta = np.degrees(0.5 * np.arctan2(2 * mxy, mxx - myy))
    return StarCatalog(
        x=table[:, kernel.X].copy(),
        y=table[:, kernel.Y].copy(),
        flux=table[:, kernel.FLUX].copy(),
        snr=table[:, kernel.SNR].copy(),
        fwhm=fwhm,
        eccentricity=eccentricity,
        theta_deg=theta,
        saturated=saturated,
        radius_px=math.ceil(max(4.2 * sigma, 4.0)) + 2.0,
    )
