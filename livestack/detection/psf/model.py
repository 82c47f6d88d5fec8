"""What is known of a PSF: the averaged table, the stars behind it, its picture and its encircled energy.

The table is the one that astronomers know from other programs (N, B, A, sx, sy, FWHMx, FWHMy, r, theta, beta, flux,
signal, MAD). x names the long axis of the star, y the short one, theta is where the long axis points. How it was
measured is left to `measure`, how it changes over the sensor to `field`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np

from livestack.detection import FWHM_PER_SIGMA
from livestack.detection.psf.field import FieldMap

CSV_COLUMNS = (
    "n_frames", "n_stars", "background_adu", "amplitude_adu", "sx_px", "sy_px", "fwhm_x_px", "fwhm_y_px", "fwhm_px",
    "fwhm_error_px", "fwhm_arcsec", "ratio", "theta_deg", "beta", "flux_adu", "signal_adu", "mad", "eccentricity",
    "tilt_px", "curvature_px",
)  # fmt: skip
"""Columns of a group's psf.csv: how many frames were stacked, then `PSFModel.summary()`."""


@dataclass(frozen=True)
class Profile:
    """One averaged profile: a row of the table. A Gaussian has beta = inf.

    Attributes
    ----------
    background_adu, amplitude_adu : B and A, medians over the stars; A is the height of the profile before the pixels
        average it.
    fwhm_x_px, fwhm_y_px : full width at half maximum along the long and the short axis.
    fwhm_error_px : standard error of their geometric mean.
    theta_deg : direction of the long axis, from +x toward +y of the array, -90 < theta <= 90; its error is 90 for a
        round star.
    flux_adu : volume of the profile, ADU x px, median over the stars.
    signal_adu : mean of the profile inside its half-maximum ellipse, median over the stars.
    mad : mean absolute residual over the fitted window as a share of A, median over the stars.
    """

    function: Literal["gaussian", "moffat"]
    n_stars: int
    background_adu: float
    amplitude_adu: float
    fwhm_x_px: float
    fwhm_y_px: float
    fwhm_error_px: float
    theta_deg: float
    theta_error_deg: float
    beta: float
    beta_error: float
    flux_adu: float
    signal_adu: float
    mad: float

    @property
    def fwhm_px(self) -> float:
        """Geometric mean of both axes."""
        return math.sqrt(self.fwhm_x_px * self.fwhm_y_px)

    @property
    def sx_px(self) -> float:
        """Width parameter along the long axis: sigma of a Gaussian, alpha of a Moffat."""
        return self.fwhm_x_px / self._fwhm_per_width

    @property
    def sy_px(self) -> float:
        """Width parameter along the short axis: sigma of a Gaussian, alpha of a Moffat."""
        return self.fwhm_y_px / self._fwhm_per_width

    @property
    def _fwhm_per_width(self) -> float:
        if math.isinf(self.beta):
            return FWHM_PER_SIGMA
        return 2.0 * math.sqrt(2.0 ** (1.0 / self.beta) - 1.0)

    @property
    def ratio(self) -> float:
        """Short axis over long axis, 1 for round stars."""
        return self.fwhm_y_px / self.fwhm_x_px

    @property
    def eccentricity(self) -> float:
        """sqrt(1 - ratio^2)."""
        return math.sqrt(max(0.0, 1.0 - self.ratio**2))

    def value(self, dx: np.ndarray, dy: np.ndarray) -> np.ndarray:
        """Height of the profile, 1 at its centre, at offsets (dx, dy) in pixels; not averaged over pixels."""
        cos, sin = math.cos(math.radians(self.theta_deg)), math.sin(math.radians(self.theta_deg))
        u = ((cos * dx + sin * dy) / self.fwhm_x_px) ** 2 + ((cos * dy - sin * dx) / self.fwhm_y_px) ** 2
        if math.isinf(self.beta):
            return np.asarray(np.exp(-4.0 * math.log(2.0) * u))
        return np.asarray((1.0 + 4.0 * (2.0 ** (1.0 / self.beta) - 1.0) * u) ** -self.beta)

    def image(self, size: int | None = None, oversampling: int = 7) -> np.ndarray:
        """The profile averaged over pixels, centred, as a kernel that sums to one.

        Parameters
        ----------
        size : odd number of pixels; by default wide enough for all but the outermost light (8 times the FWHM).
        oversampling : nodes a side in each pixel.

        Returns
        -------
        (size, size) float64.
        """
        if size is None:
            size = 2 * math.ceil(4.0 * self.fwhm_x_px) + 1
        if size < 1 or size % 2 == 0:
            raise ValueError(f"size: expected an odd number of pixels, found {size}; a kernel needs a central pixel.")
        fine = (np.arange(size * oversampling) + 0.5) / oversampling - size / 2.0
        profile = self.value(fine[None, :], fine[:, None])
        kernel = profile.reshape(size, oversampling, size, oversampling).mean(axis=(1, 3))
        return np.asarray(kernel / kernel.sum())

    def encircled_energy(self, radii_px: np.ndarray) -> np.ndarray:
        """Share of the light within circles of these radii; exact up to 360 directions."""
        angle = np.radians(np.arange(360) + 0.5 - self.theta_deg)
        g = 4.0 * (np.cos(angle) / self.fwhm_x_px) ** 2 + 4.0 * (np.sin(angle) / self.fwhm_y_px) ** 2
        squared = np.asarray(radii_px, dtype=np.float64)[:, None] ** 2 * g
        if math.isinf(self.beta):
            outside = np.exp(-math.log(2.0) * squared)
        else:
            outside = (1.0 + (2.0 ** (1.0 / self.beta) - 1.0) * squared) ** (1.0 - self.beta)
        return np.asarray(1.0 - (outside / g).sum(axis=1) / (1.0 / g).sum())

    def radius_of_energy(self, share: float) -> float:
        """Radius in pixels of the circle that holds this share (0..1) of the light."""
        radii = np.geomspace(0.05, 40.0, 600) * self.fwhm_px
        return float(np.interp(share, self.encircled_energy(radii), radii))


@dataclass(frozen=True, eq=False)
class StarTable:
    """The fitted stars, one entry a star: those used for the average and those clipped from it.

    Attributes
    ----------
    used : bool; True where the star went into the average.
    x_px, y_px, centroid_error_px : centre and its standard error on each axis.
    fwhm_x_px, fwhm_y_px, fwhm_error_px, theta_deg : as in `Profile`, with beta held at the average.
    beta : of the free fit; noisy for faint stars.
    snr : flux over its noise for the best possible photometry.
    mad : mean absolute residual over amplitude.
    """

    used: np.ndarray
    x_px: np.ndarray
    y_px: np.ndarray
    centroid_error_px: np.ndarray
    fwhm_x_px: np.ndarray
    fwhm_y_px: np.ndarray
    fwhm_error_px: np.ndarray
    theta_deg: np.ndarray
    beta: np.ndarray
    background_adu: np.ndarray
    amplitude_adu: np.ndarray
    flux_adu: np.ndarray
    snr: np.ndarray
    mad: np.ndarray

    def __len__(self) -> int:
        return len(self.x_px)

    @property
    def fwhm_px(self) -> np.ndarray:
        """Geometric mean of both axes, (N,)."""
        return np.asarray(np.sqrt(self.fwhm_x_px * self.fwhm_y_px))


@dataclass(frozen=True, eq=False)
class PSFModel:
    """The PSF of an image.

    Attributes
    ----------
    profile : the recommended average (Moffat with all stars' common beta, unless the settings say Gaussian).
    gaussian, moffat : both averages.
    stars : the stars behind it.
    field : how it changes across the sensor; None with too few stars.
    scale_arcsec_px : sampling, None when unknown.
    photon_adu, sky_sigma_adu : noise model found on the way: variance = sky_sigma^2 + photon x signal.
    """

    gaussian: Profile
    moffat: Profile
    stars: StarTable
    field: FieldMap | None
    scale_arcsec_px: float | None
    photon_adu: float
    sky_sigma_adu: float
    function: Literal["gaussian", "moffat"] = "moffat"
    size: tuple[int, int] = (0, 0)
    """(width, height) of the measured image."""

    @property
    def profile(self) -> Profile:
        """The recommended average."""
        return self.moffat if self.function == "moffat" else self.gaussian

    @property
    def n_stars(self) -> int:
        """Stars in the average."""
        return self.profile.n_stars

    @property
    def fwhm_px(self) -> float:
        """Geometric mean FWHM in pixels."""
        return self.profile.fwhm_px

    @property
    def fwhm_arcsec(self) -> float | None:
        """Geometric mean FWHM in arcseconds, None when the scale is unknown."""
        return None if self.scale_arcsec_px is None else self.fwhm_px * self.scale_arcsec_px

    @property
    def eccentricity(self) -> float:
        """Of the average star."""
        return self.profile.eccentricity

    def image(self, size: int | None = None) -> np.ndarray:
        """Kernel (size, size) float64 that sums to one: what the camera makes of a point; see `Profile.image`."""
        return self.profile.image(size)

    def summary(self) -> dict[str, float | int | None]:
        """The table as plain numbers (`CSV_COLUMNS` but the first) for journal and psf.csv; None = unknown."""
        p = self.profile
        words: dict[str, float | int | None] = {"n_stars": p.n_stars}
        for name in CSV_COLUMNS[2:-2]:
            if name == "fwhm_arcsec":
                words[name] = self.fwhm_arcsec
                continue
            value = float(getattr(p, name))
            words[name] = value if math.isfinite(value) else None
        words["tilt_px"] = None if self.field is None else self.field.tilt_px
        words["curvature_px"] = None if self.field is None else self.field.curvature_px
        return words
