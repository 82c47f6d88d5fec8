"""From an image to its PSF: choose stars (`choose`), fit them, average them.

The fits (`kernels.psf`) take four rounds: Gaussian; Moffat with free beta; both again with the noise model
learnt from the residuals; Moffat once more with the beta that all stars share, which leaves the width far better
determined. Stars that are wider, narrower or longer than the crowd (galaxies, close pairs, hot pixels) are clipped
before averaging.
"""

from __future__ import annotations

import math
from typing import Literal

import numpy as np

from livestack.base.settings import PSFSettings
from livestack.detection.psf.choose import WINDOW_FWHM, choose_stars
from livestack.detection.psf.field import axes_of, map_field
from livestack.detection.psf.model import Profile, PSFModel, StarTable
from livestack.detection.psf.sample import RowSample
from livestack.kernels.psf import CONVERGED, fit_stars

CLIP_SIGMA = 3.5
MAX_SPREAD = 0.35
"""Scatter of the widths, as a share, beyond which the things measured are not stars."""
SOFTNESS = 0.004
"""What no profile knows of a real star, as a share of its height; keeps bright stars from dictating."""
MAX_STEPS = 40


def measure_psf(
    image: np.ndarray,
    saturation_adu: float | None = None,
    settings: PSFSettings | None = None,
    scale_arcsec_px: float | None = None,
    positions: np.ndarray | None = None,
    sample: RowSample | None = None,
) -> PSFModel | None:
    """Measure the PSF of an image.

    Parameters
    ----------
    image : (H, W) float32, linear, ADU; NaN = no data.
    saturation_adu : value at which the image clips; None: a plateau among the brightest stars is looked for.
    settings : how many stars, which profile.
    scale_arcsec_px : sampling, carried into the model.
    positions : (N, 2) x, y of stars to use instead of searching; they are still judged.
    sample : which rows of a larger image these are (`plan_sample`); positions in the model are in the larger one.

    Returns
    -------
    PSFModel, or None when the image holds no usable star.

    Raises
    ------
    ValueError
        When the image is not two-dimensional.
    """
    settings = settings or PSFSettings()
    if image.ndim != 2:
        raise ValueError(f"image: expected (H, W), found {image.shape}; measure one plane, or the planes' mean.")
    data = np.ascontiguousarray(image, dtype=np.float32)
    found = choose_stars(data, saturation_adu, settings.max_stars, positions, None if sample is None else sample.seams)
    if found is None:
        return None
    start, segments, numbers, sky_sigma, snr = found
    fwhm = 1.0 / np.sqrt(start[:, 4])
    radius = float(np.clip(WINDOW_FWHM * np.median(fwhm), 4.5, 60.0))
    sky_variance = np.full(len(start), sky_sigma**2)

    def fit(first: np.ndarray, photon: float, softness: float, gaussian: bool, n_free: int) -> tuple[np.ndarray, ...]:
        count = len(first)
        fitted, covariance = np.zeros((count, 8)), np.zeros((count, 8, 8))
        quality, status = np.zeros((count, 5)), np.zeros(count, dtype=np.int64)
        fit_stars(
            data, segments, numbers, first, radius, sky_variance, photon, softness, gaussian, n_free, MAX_STEPS,
            fitted, covariance, quality, status,
        )  # fmt: skip
        good = (status == CONVERGED) & (fitted[:, 1] > 0) & np.isfinite(fitted).all(axis=1)
        narrow = fitted[:, 4] * fitted[:, 6] - fitted[:, 5] ** 2 > (0.6 * radius) ** -4.0  # FWHM well inside the window
        good &= narrow & (np.hypot(fitted[:, 2] - start[:, 2], fitted[:, 3] - start[:, 3]) < np.median(fwhm) + 1.0)
        return fitted, covariance, quality, good

    round_fit, _, _, good = fit(start, 0.0, 0.0, True, 7)
    if not good.any():
        return None
    first = np.where(good[:, None], round_fit, start)
    first[:, 7] = 1.0 / (settings.beta or 3.0)
    free_beta = settings.beta is None
    moffat_fit, _, quality, good = fit(first, 0.0, 0.0, False, 8 if free_beta else 7)
    if not good.any():
        return None
    photon = _photon_noise(quality[good], snr[good])
    first = np.where(good[:, None], moffat_fit, first)

    beta_of_star = np.full(len(start), 1.0 / first[0, 7])
    beta, beta_error = 1.0 / float(first[0, 7]), 0.0
    if free_beta:
        moffat_fit, covariance, _, good = fit(first, photon, SOFTNESS, False, 8)
        gamma, gamma_error = moffat_fit[:, 7], np.sqrt(np.maximum(covariance[:, 7, 7], 1e-12))
        if not good.any():
            return None
        mean, error = robust_mean(gamma[good], gamma_error[good])
        beta, beta_error, beta_of_star = 1.0 / mean, error / mean**2, 1.0 / gamma
        first = np.where(good[:, None], moffat_fit, first)
        first[:, 7] = mean
    moffat_fit, covariance, quality, good = fit(first, photon, SOFTNESS, False, 7)
    gauss_fit, gauss_covariance, gauss_quality, gauss_good = fit(round_fit, photon, SOFTNESS, True, 7)

    if sample is not None:
        moffat_fit[:, 3], gauss_fit[:, 3] = sample.true_y(moffat_fit[:, 3]), sample.true_y(gauss_fit[:, 3])
    table, matrices = _star_table(moffat_fit, covariance, quality, beta_of_star, snr, good, "moffat", beta)
    gauss_table, gauss_matrices = _star_table(
        gauss_fit, gauss_covariance, gauss_quality, np.full(len(start), math.inf), snr, gauss_good, "gaussian", math.inf
    )
    if not table.used.any() or not gauss_table.used.any() or not _alike(table):
        return None
    height, width = (data.shape[0] if sample is None else sample.height), data.shape[1]
    used = table.used
    return PSFModel(
        gaussian=_average(gauss_table, gauss_matrices, "gaussian", math.inf, 0.0),
        moffat=_average(table, matrices, "moffat", beta, beta_error),
        stars=table,
        field=map_field(table.x_px[used], table.y_px[used], matrices[used], table.fwhm_error_px[used], (width, height))
        if used.sum() >= 5 else None,
        scale_arcsec_px=scale_arcsec_px,
        photon_adu=photon,
        sky_sigma_adu=sky_sigma,
        function=settings.function,
        size=(width, height),
    )  # fmt: skip


def _photon_noise(quality: np.ndarray, snr: np.ndarray) -> float:
    """Variance per ADU of signal, from the residuals of the brighter half: median over the stars, never negative."""
    bright = snr >= np.median(snr)
    return max(0.0, float(np.median(quality[bright, 3] / np.maximum(quality[bright, 4], 1e-30))))


def robust_mean(values: np.ndarray, errors: np.ndarray) -> tuple[float, float]:
    """Weighted mean and its error; outliers are clipped, the spread between stars is part of the weights."""
    centre = float(np.median(values))
    spread = 1.4826 * float(np.median(np.abs(values - centre)))
    kept = np.abs(values - centre) <= CLIP_SIGMA * np.maximum(spread, errors)
    own = max(spread**2 - float(np.median(errors[kept] ** 2)), 0.0)
    weight = 1.0 / (errors[kept] ** 2 + own + 1e-12)
    return float((weight * values[kept]).sum() / weight.sum()), float(1.0 / math.sqrt(weight.sum()))


def _star_table(
    fitted: np.ndarray, covariance: np.ndarray, quality: np.ndarray, beta_of_star: np.ndarray, snr: np.ndarray,
    good: np.ndarray, function: Literal["gaussian", "moffat"], beta: float,
) -> tuple[StarTable, np.ndarray]:  # fmt: skip
    """Turn fitted parameters into a table, mark whom to average, and give the FWHM matrices (N, 3) [xx, xy, yy]."""
    fitted, covariance, quality = fitted[good], covariance[good], quality[good]
    beta_of_star, snr = beta_of_star[good], snr[good]
    w = fitted[:, 4:7]
    determinant = w[:, 0] * w[:, 2] - w[:, 1] ** 2
    matrices = np.stack([w[:, 2], -w[:, 1], w[:, 0]], 1) / determinant[:, None]
    fwhm = determinant**-0.25
    # ln FWHM = -1/4 ln det W, so its gradient in W is -1/4 (Wyy, -2 Wxy, Wxx) / det W.
    slope = -0.25 * np.stack([w[:, 2], -2.0 * w[:, 1], w[:, 0]], 1) / determinant[:, None]
    stretch = np.sqrt(np.maximum(quality[:, 0], 1.0))
    variance = np.maximum(np.einsum("ni,nij,nj->n", slope, covariance[:, 4:7, 4:7], slope), 0.0)
    fwhm_error = fwhm * np.sqrt(variance) * stretch
    axes = np.array([axes_of(*row) for row in matrices]).reshape(-1, 3)
    if function == "gaussian":
        volume = math.pi / (4.0 * math.log(2.0))
    else:
        volume = math.pi / (4.0 * (2.0 ** (1.0 / beta) - 1.0) * (beta - 1.0))
    table = StarTable(
        used=_crowd(fwhm, fwhm_error, matrices),
        x_px=fitted[:, 2], y_px=fitted[:, 3],
        centroid_error_px=np.sqrt(np.maximum(0.5 * (covariance[:, 2, 2] + covariance[:, 3, 3]), 0.0)) * stretch,
        fwhm_x_px=axes[:, 0], fwhm_y_px=axes[:, 1], fwhm_error_px=fwhm_error, theta_deg=axes[:, 2],
        beta=beta_of_star, background_adu=fitted[:, 0], amplitude_adu=fitted[:, 1],
        flux_adu=volume * fitted[:, 1] * fwhm**2, snr=snr, mad=quality[:, 1] / fitted[:, 1],
    )  # fmt: skip
    return table, matrices


def _crowd(fwhm: np.ndarray, error: np.ndarray, matrices: np.ndarray) -> np.ndarray:
    """True for stars like the others in width and shape."""
    used = (fwhm > 0.7) & np.isfinite(error) & (error < 0.5 * fwhm)
    total = matrices[:, 0] + matrices[:, 2]
    quantities = (np.log(fwhm), (matrices[:, 0] - matrices[:, 2]) / total, 2.0 * matrices[:, 1] / total)
    for _ in range(3):
        if used.sum() < 4:
            break
        kept = used.copy()
        for q in quantities:
            centre = float(np.median(q[used]))
            spread = 1.4826 * float(np.median(np.abs(q[used] - centre)))
            kept &= np.abs(q - centre) <= CLIP_SIGMA * np.maximum(spread, error / fwhm) + 0.01
        used = kept
    return used


def _alike(table: StarTable) -> bool:
    """False when the widths have nothing in common: craters and clouds are no stars."""
    fwhm, error = table.fwhm_px[table.used], table.fwhm_error_px[table.used]
    if len(fwhm) < 4:
        return True
    centre = float(np.median(fwhm))
    spread = 1.4826 * float(np.median(np.abs(fwhm - centre)))
    return spread**2 - float(np.median(error)) ** 2 < (MAX_SPREAD * centre) ** 2


def _average(
    table: StarTable, matrices: np.ndarray, function: Literal["gaussian", "moffat"], beta: float, beta_error: float
) -> Profile:
    """Average the stars in use."""
    used = table.used
    matrices, error = matrices[used], table.fwhm_error_px[used]
    fwhm, fwhm_error = robust_mean(table.fwhm_px[used], error)
    share = 2.0 * error / table.fwhm_px[used]
    total = matrices[:, 0] + matrices[:, 2]
    e1, e1_error = robust_mean((matrices[:, 0] - matrices[:, 2]) / total, share)
    e2, e2_error = robust_mean(2.0 * matrices[:, 1] / total, share)
    elongation = min(math.hypot(e1, e2), 0.98)
    # (a^2 - b^2) / (a^2 + b^2) = e with a b = FWHM^2
    ratio = math.sqrt((1.0 - elongation) / (1.0 + elongation))
    theta = 0.5 * math.degrees(math.atan2(e2, e1))
    theta_error = min(90.0, 0.5 * math.degrees(math.hypot(e1_error, e2_error) / max(elongation, 1e-6)))
    amplitude, flux = float(np.median(table.amplitude_adu[used])), float(np.median(table.flux_adu[used]))
    # mean over the half-maximum ellipse: share of the volume inside over its area, pi/4 FWHM^2
    if function == "gaussian":
        inside = 0.5
    else:
        inside = 1.0 - 2.0 ** ((1.0 - beta) / beta)
    return Profile(
        function=function, n_stars=int(used.sum()), background_adu=float(np.median(table.background_adu[used])),
        amplitude_adu=amplitude, fwhm_x_px=fwhm / math.sqrt(ratio), fwhm_y_px=fwhm * math.sqrt(ratio),
        fwhm_error_px=fwhm_error, theta_deg=90.0 if theta <= -90.0 else theta, theta_error_deg=theta_error,
        beta=beta, beta_error=beta_error, flux_adu=flux,
        signal_adu=inside * flux / (0.25 * math.pi * fwhm**2), mad=float(np.median(table.mad[used])),
    )  # fmt: skip
