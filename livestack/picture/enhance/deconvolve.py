"""Richardson-Lucy deconvolution with a measured PSF that neither rings nor amplifies the sky.

Plain Richardson-Lucy (Richardson 1972, doi:10.1364/JOSA.62.000055; Lucy 1974, doi:10.1086/111605) digs dark rings
around stars and turns noise into worms. Five things prevent that here:

* the sky under the objects is part of the model, not of the unknown: data = PSF * x + sky, x >= 0, so nothing can fall
  below the local sky;
* damping (White 1994, in "The Restoration of HST Images and Spectra II", 104): where data and model agree within a few
  sigma nothing is changed, so the noise is not fitted;
* stars are not driven to points: x is shown through a narrow round Gaussian that the pixels can still sample (Magain,
  Courbin & Sohy 1998, doi:10.1086/305187), in every colour the same;
* what the model leaves over is added back where the sky dominates: the grain stays what it was, and no light is lost;
* saturated cores, holes and the world beyond the edge are masked out of the fit and come back as they were.

Steps are accelerated (Biggs & Andrews 1997, doi:10.1364/AO.36.001766). Work is done in overlapping tiles, each with
the kernel of its place. Kernels come from the caller; measuring them is left to `detection.psf`.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from dataclasses import dataclass

import cv2
import numpy as np
import sep
from scipy import fft

from livestack.detection import FWHM_PER_SIGMA

KernelAt = Callable[[float, float], np.ndarray]
"""(x, y) in pixels -> kernel (k, k) that sums to one, k odd."""

TILE = 768
DAMPING_SIGMA = 3.0
DAMPING_POWER = 10
"""White's N: how sharply the damping sets in."""
GRAIN_SIGMA = 4.0
"""Signal, in sigma of the sky, at which only half of the residual is added back."""
LEAST_FWHM_PX = 1.2
"""Narrower stars would be single pixels."""
SKY_SIGMA = 5.0
"""Height of the sky in the model, in sigma: high enough that the data are positive, low enough that wings converge."""


@dataclass(frozen=True)
class Deconvolution:
    """How strongly.

    Attributes
    ----------
    iterations : accelerated steps; 10 to 30.
    final_fwhm : width of the Gaussian through which the result is seen, as a share of the PSF's FWHM.
    mismatch : what the PSF may be wrong by, as a share of the star's height; smaller differences are not fitted, or the
        brightest stars would break up.
    strength : share of the change that is applied, 0..1.
    photon_adu : variance per ADU of signal (`PSFModel.photon_adu`); 0 when unknown.
    saturation_adu : cores at or above 90 % of it are left as they are; None when unknown.
    """

    iterations: int = 20
    final_fwhm: float = 0.45
    mismatch: float = 0.01
    strength: float = 1.0
    photon_adu: float = 0.0
    saturation_adu: float | None = None


def deconvolve(
    plane: np.ndarray,
    kernel_at: KernelAt | np.ndarray,
    how: Deconvolution | None = None,
    progress: Callable[[float], None] | None = None,
) -> np.ndarray:
    """Sharpen one channel.

    Parameters
    ----------
    plane : (H, W) float32, linear, ADU, NaN = no data.
    kernel_at : one kernel, or a function that gives the kernel of a place.
    how : strength and noise.
    progress : is told the share done, 0..1.

    Returns
    -------
    (H, W) float32 on the same scale; NaN where there was none.

    Raises
    ------
    ValueError
        When `plane` is not two-dimensional or a kernel is not odd and normalised.
    """
    how = how or Deconvolution()
    if plane.ndim != 2:
        raise ValueError(f"plane: expected (H, W), found {plane.shape}; deconvolve channel by channel.")
    fixed = kernel_at if isinstance(kernel_at, np.ndarray) else None

    def kernel_of(x: float, y: float) -> np.ndarray:
        return _checked(fixed if fixed is not None else kernel_at(x, y))  # type: ignore[operator]

    height, width = plane.shape
    missing = ~np.isfinite(plane)
    if missing.all():
        return plane.copy()
    middle = kernel_of(0.5 * width, 0.5 * height)
    fwhm = _width_of(middle)
    sky, sigma = _local_sky(plane, missing, fwhm)
    masked = missing | _saturated(plane, how.saturation_adu, fwhm)
    base = SKY_SIGMA * sigma
    above = np.where(masked, np.float32(0), plane - sky).astype(np.float32)

    reach = middle.shape[0] // 2
    overlap = 2 * reach
    tiles = list(itertools.product(_cuts(height, overlap), _cuts(width, overlap)))
    total, weight = np.zeros_like(above), np.zeros_like(above)
    for number, ((y0, y1), (x0, x1)) in enumerate(tiles):
        report = None if progress is None else _part(progress, number, len(tiles))
        sharp = _sharpen_tile(
            above[y0:y1, x0:x1],
            masked[y0:y1, x0:x1],
            kernel_of(0.5 * (x0 + x1), 0.5 * (y0 + y1)),
            base,
            sigma,
            how,
            report,
        )
        feather = np.minimum.outer(_ramp(y0, y1, height, overlap), _ramp(x0, x1, width, overlap))
        total[y0:y1, x0:x1] += feather * sharp
        weight[y0:y1, x0:x1] += feather
    sharp = total / weight
    keep = cv2.GaussianBlur(
        cv2.dilate(masked.astype(np.float32), np.ones((3, 3), np.uint8)), (0, 0), max(0.5 * fwhm, 0.8)
    )
    change = how.strength * (1.0 - np.clip(2.0 * keep, 0.0, 1.0))
    result = np.where(masked, plane, sky + above + change * (sharp - above))
    result[missing] = np.nan
    return result.astype(np.float32)


def _sharpen_tile(
    above: np.ndarray,
    masked: np.ndarray,
    kernel: np.ndarray,
    base: float,
    sigma: float,
    how: Deconvolution,
    progress: Callable[[float], None] | None,
) -> np.ndarray:
    """Deconvolve one tile of data above the sky; what lies beyond its edge is unknown, hence masked."""
    reach = kernel.shape[0] // 2
    shape = tuple(fft.next_fast_len(n + 2 * reach, real=True) for n in above.shape)
    inside = (slice(reach, reach + above.shape[0]), slice(reach, reach + above.shape[1]))
    forward = _transfer(kernel, shape)
    seen = np.zeros(shape, np.float32)
    seen[inside] = ~masked
    data = np.zeros(shape, np.float32)
    data[inside] = np.maximum(above + base, 0.05 * base)
    base32 = np.float32(base)

    def blur(image: np.ndarray, adjoint: bool = False) -> np.ndarray:
        spectrum = fft.rfft2(image) * (np.conj(forward) if adjoint else forward)
        return np.asarray(fft.irfft2(spectrum, s=shape), dtype=np.float32)

    reached = np.maximum(blur(seen, adjoint=True), np.float32(1e-3))
    known = (blur(seen, adjoint=True) > 0.02).astype(np.float32)
    # the start is smooth where the sky dominates and as sharp as the data where stars do
    height = np.where(seen > 0, data - base32, 0)
    smooth = np.maximum(blur(height), np.float32(0.02 * sigma))
    clear = (smooth / np.float32(GRAIN_SIGMA * sigma)) ** 2
    x = np.maximum((smooth + clear * height) / (1 + clear), np.float32(0.02 * sigma)) * known
    photon = np.float32(how.photon_adu)
    size = 2 * math.ceil(1.5 * _width_of(kernel)) + 1
    unknown = how.mismatch * cv2.GaussianBlur(cv2.dilate(height, np.ones((size, size), np.uint8)), (0, 0), 0.2 * size)
    floor = (np.float32(sigma**2) + unknown * unknown).astype(np.float32)
    before_x, step, before_step = x, np.zeros_like(x), np.zeros_like(x)
    for iteration in range(how.iterations):
        guess = np.maximum(x + _momentum(step, before_step) * (x - before_x), 0)
        before_step = step
        model = np.maximum(blur(guess), 0) + base32
        miss = data - model
        agreement = np.minimum(miss * miss / ((floor + photon * (model - base32)) * np.float32(DAMPING_SIGMA**2)), 1)
        gentle = agreement ** (DAMPING_POWER - 1) * (DAMPING_POWER - (DAMPING_POWER - 1) * agreement)
        ratio = np.where(seen > 0, 1 + gentle * miss / model, 0)
        updated = guess * np.maximum(blur(ratio.astype(np.float32), adjoint=True) / reached, 0) * known
        step = updated - guess
        before_x, x = x, updated
        if progress is not None:
            progress((iteration + 1) / how.iterations)
    fwhm, clear = _width_of(kernel), np.float32(1.0 / (GRAIN_SIGMA * sigma))
    fitted = blur(x)[inside]
    target_px = max(how.final_fwhm * fwhm, LEAST_FWHM_PX) / FWHM_PER_SIGMA
    restored = cv2.GaussianBlur(x, (0, 0), target_px)[inside]
    residual = above - fitted
    on_sky = 1 / (1 + (clear * cv2.GaussianBlur(np.maximum(restored, fitted), (0, 0), 1.0)) ** 2)
    off_star = 1 / (1 + (clear * cv2.GaussianBlur(restored, (0, 0), 0.4 * fwhm)) ** 2)
    # in the skirts of stars the grain comes back without its smooth part, which is where the model is wrong
    smooth_part = cv2.GaussianBlur(residual, (0, 0), 0.5 * fwhm)
    grain = on_sky * residual + np.maximum(off_star - on_sky, 0) * (residual - smooth_part)
    # light that is neither in x nor in the grain goes to (or comes from) x in proportion: photometry holds, no rings
    left = np.where(masked, np.float32(0), residual - grain)
    reach_px = 2.5 * fwhm
    near = np.maximum(cv2.GaussianBlur(restored, (0, 0), reach_px), np.float32(0.2 * sigma))
    for _ in range(6):
        moved = restored * np.clip(cv2.GaussianBlur(left, (0, 0), reach_px) / near, -0.2, 0.2)
        restored, left = restored + moved, left - moved
    return np.asarray(restored + grain, dtype=np.float32)


def _momentum(step: np.ndarray, before: np.ndarray) -> np.float32:
    """How far to lean on the last step (Biggs & Andrews): the correlation of the last two, 0..0.95."""
    norm = float(np.vdot(before, before))
    return np.float32(np.clip(float(np.vdot(step, before)) / norm, 0.0, 0.95)) if norm > 0 else np.float32(0)


def _transfer(kernel: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """Spectrum of a kernel whose centre lies at [0, 0]."""
    padded = np.zeros(shape, np.float32)
    size, reach = kernel.shape[0], kernel.shape[0] // 2
    padded[:size, :size] = kernel
    return np.asarray(fft.rfft2(np.roll(padded, (-reach, -reach), (0, 1))))


def _local_sky(plane: np.ndarray, missing: np.ndarray, fwhm: float) -> tuple[np.ndarray, float]:
    """The sky under stars, smooth on the scale of many star widths, (H, W) float32; and its noise."""
    filled = np.ascontiguousarray(np.where(missing, np.float32(0), plane), dtype=np.float32)
    mesh = int(np.clip(12 * fwhm, 24, max(24, min(plane.shape) // 3)))
    sky = sep.Background(filled, mask=missing, bw=mesh, bh=mesh)
    return sky.back(), max(float(sky.globalrms), 1e-6 * max(abs(float(sky.globalback)), 1e-6))


def _saturated(plane: np.ndarray, saturation_adu: float | None, fwhm: float) -> np.ndarray:
    """True in saturated cores and a little around them."""
    if saturation_adu is None:
        return np.zeros(plane.shape, dtype=bool)
    core = (np.nan_to_num(plane, nan=0.0) >= 0.9 * saturation_adu).astype(np.uint8)
    size = 2 * max(1, round(0.3 * fwhm)) + 1
    return np.asarray(cv2.dilate(core, np.ones((size, size), np.uint8)), dtype=bool)


def _width_of(kernel: np.ndarray) -> float:
    """FWHM of the disc with as many pixels as stand above half the kernel's peak."""
    return max(2.0 * math.sqrt(float((kernel > 0.5 * kernel.max()).sum()) / math.pi), 1.0)


def _checked(kernel: np.ndarray) -> np.ndarray:
    if kernel.ndim != 2 or kernel.shape[0] != kernel.shape[1] or kernel.shape[0] % 2 == 0:
        raise ValueError(f"kernel: expected an odd square, found {kernel.shape}; take PSFModel.image().")
    if not math.isclose(float(kernel.sum()), 1.0, rel_tol=1e-3):
        raise ValueError(f"kernel: expected a sum of 1, found {float(kernel.sum()):.4g}; divide it by its sum.")
    return kernel


def _cuts(length: int, overlap: int) -> list[tuple[int, int]]:
    """Overlapping pieces of a side."""
    if length <= TILE + overlap:
        return [(0, length)]
    count = math.ceil(length / TILE)
    edges = [length * i // count for i in range(count + 1)]
    return [(max(0, a - overlap), min(length, b + overlap)) for a, b in itertools.pairwise(edges)]


def _ramp(start: int, stop: int, length: int, overlap: int) -> np.ndarray:
    """Weights that fall linearly toward the edges a tile shares with another, (stop - start,) float32."""
    place = np.arange(start, stop, dtype=np.float32)
    weight = np.ones(stop - start, np.float32)
    if start > 0:
        weight = np.minimum(weight, (place - start + 1) / (2 * overlap + 1))
    if stop < length:
        weight = np.minimum(weight, (stop - place) / (2 * overlap + 1))
    return weight


def _part(progress: Callable[[float], None], number: int, count: int) -> Callable[[float], None]:
    return lambda share: progress((number + share) / count)
