"""How faint a stack reaches: its zero point from catalogue stars, the 5 sigma limit, the brightness of the sky.

The zero point is the median of catalogue magnitude minus instrumental magnitude in large apertures. The limit is that
of a matched filter with the stack's own PSF, its noise measured on the filtered stack itself: interpolation correlates
neighbouring pixels, and faint stars and galaxies are noise, too. Only stamps are looked at, never the whole stack.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

import cv2
import numpy as np

from livestack.astrometry.facts import FieldStars, SkyFacts
from livestack.astrometry.sky_map import SkyMap
from livestack.base.frame import FrameInfo

Take = Callable[[slice, slice], np.ndarray]
"""(rows, columns) -> (C, h, w) float32, ADU, NaN where nothing was stacked."""

MOST_STARS = 120
APERTURE, INNER, OUTER = 4.0, 5.0, 7.5
"""Radii of the aperture and of the ring for the sky, in FWHM."""
LEAST_RADIUS_PX = 4.0
TILES, TILE_PX = 6, 96
"""So many tiles along each side, for noise and sky."""
LEAST_STARS = 3
LINEAR = 0.8
"""Share of saturation up to which a pixel is trusted."""
BETA = 3.5
"""Of Moffat's profile, where it was not measured."""
SIGNIFICANT = 5.0
LEAST_SNR = 20.0
COLOUR_STARS = 12
LEAST_SPREAD, LARGEST_ERROR = 0.2, 0.05
"""A colour term is told where stars differ so much in BP - RP, mag, and it is known so well, mag/mag."""


@dataclass(frozen=True)
class Depth:
    """What a stack's light is worth.

    Attributes
    ----------
    zero_point : magnitude (G) of 1 ADU/s in the green or only channel; scatter_mag : of one star about it.
    zero_points : of each channel.
    limit_mag : point source at 5 sigma; sky_mag : mag/arcsec^2; None: not known.
    colour_term, colour_pivot : change of the zero point for each magnitude of BP - RP, and the BP - RP for which it
        holds; None: not known.
    n_stars : that the zero point rests on.
    """

    zero_point: float
    scatter_mag: float
    zero_points: tuple[float, ...]
    limit_mag: float | None
    sky_mag: float | None
    colour_term: float | None
    n_stars: int
    colour_pivot: float | None = None

    def added_to(self, facts: SkyFacts, limits: tuple[tuple[int, float], ...]) -> SkyFacts:
        """The facts with these."""
        return replace(
            facts, zero_point=self.zero_point, limit_mag=self.limit_mag, sky_mag=self.sky_mag, limits=limits,
            zero_points=self.zero_points, colour_term=self.colour_term, colour_pivot=self.colour_pivot,
        )  # fmt: skip


def exposure_of(info: FrameInfo) -> float | None:
    """Seconds in which a pixel of a stack on this frame's scale was filled; None where the header is silent."""
    return info.exposure_s if info.exposure_s else None


@dataclass(frozen=True, eq=False)
class Stamps:
    """Copies of the places that are looked at.

    Attributes
    ----------
    stars : (k, C, s, s); offsets : (k, 2) of the star from the stamp's middle, px; g, bp_rp : (k,).
    tiles : (t, C, h, w).
    fwhm_px, beta : of the stack's PSF.
    """

    stars: np.ndarray
    offsets: np.ndarray
    g: np.ndarray
    bp_rp: np.ndarray
    tiles: np.ndarray
    fwhm_px: float
    beta: float

    @classmethod
    def cut(
        cls, take: Take, shape: tuple[int, ...], sky: SkyMap, field: FieldStars | None, fwhm_px: float,
        beta: float | None = None,
    ) -> Stamps:  # fmt: skip
        """Copy what is needed of a stack (C, H, W).

        Parameters
        ----------
        sky : of the stack's pixels; field : the catalogue's stars there.
        beta : of Moffat's profile; None where it is not known, infinite for a Gaussian.
        """
        channels, height, width = shape
        half = math.ceil(OUTER * max(fwhm_px, LEAST_RADIUS_PX / APERTURE)) + 1
        places = sky.to_pixels(field.sky) if field is not None else np.empty((0, 2))
        with np.errstate(invalid="ignore"):
            inside = (
                (places > half).all(axis=1) & (places[:, 0] < width - 1 - half) & (places[:, 1] < height - 1 - half)
            )
        chosen = np.flatnonzero(inside)
        chosen = (
            chosen[np.unique(np.linspace(0, max(len(chosen) - 1, 0), MOST_STARS).astype(int))]
            if len(chosen)
            else chosen
        )
        middle = np.round(places[chosen]).astype(int)
        stars = np.empty((len(chosen), channels, 2 * half + 1, 2 * half + 1), np.float32)
        for k, (x, y) in enumerate(middle):
            stars[k] = take(slice(y - half, y + half + 1), slice(x - half, x + half + 1))
        h, w = min(TILE_PX, height), min(TILE_PX, width)
        corners = [
            (round(y), round(x))
            for y in np.linspace(0.03, 0.97, TILES) * (height - h)
            for x in np.linspace(0.03, 0.97, TILES) * (width - w)
        ]
        tiles = np.stack([take(slice(y, y + h), slice(x, x + w)) for y, x in corners])
        g = field.g[chosen] if field is not None else np.empty(0)
        colours = field.bp_rp if field is not None else None
        colour = colours[chosen] if colours is not None else np.full(len(g), np.nan)
        return cls(stars, places[chosen] - middle, g, colour, tiles, fwhm_px, beta if beta is not None else BETA)

    def measure(
        self, scale_arcsec: float, exposure_s: float | None, saturation_adu: float | None, black: bool
    ) -> Depth | None:
        """Zero point, limit and sky brightness; None with too few stars, or without an exposure.

        Parameters
        ----------
        exposure_s : in which the values were gathered.
        saturation_adu : above `LINEAR` times this a pixel is not trusted.
        black : the sky's level is light alone.
        """
        if exposure_s is None or len(self.g) < LEAST_STARS:
            return None
        flux = self._fluxes(saturation_adu)
        main = 1 if flux.shape[1] == 3 else 0
        good = np.isfinite(flux).all(axis=1) & (flux > 0).all(axis=1)
        if good.sum() < LEAST_STARS:
            return None
        flux, g, colour = flux[good], self.g[good], self.bp_rp[good]
        each = g[:, None] + 2.5 * np.log10(flux / exposure_s)
        kept = _clip(each[:, main])
        if kept.sum() < LEAST_STARS:
            return None
        zero = float(np.median(each[kept, main]))
        scatter = 1.4826 * float(np.median(np.abs(each[kept, main] - zero)))
        limit = sky_mag = None
        sigma, level = self._noise(main)
        if sigma is not None and sigma > 0:
            limit = zero - 2.5 * math.log10(SIGNIFICANT * sigma / exposure_s)
        if black and level is not None and level > 0:
            sky_mag = zero - 2.5 * math.log10(level / exposure_s / scale_arcsec**2)
        term, pivot = _colour_term(colour[kept], each[kept, main])
        beside = each[kept] - each[kept, main : main + 1]
        zero_points = tuple(zero + _at_pivot(colour[kept], column, pivot) for column in beside.T)
        return Depth(zero, scatter, zero_points, limit, sky_mag, term, int(kept.sum()), pivot)

    def _fluxes(self, saturation_adu: float | None) -> np.ndarray:
        """(k, C) ADU in the aperture over the sky around; NaN where it is clipped, torn or too faint."""
        half = self.stars.shape[-1] // 2
        y, x = np.mgrid[-half : half + 1, -half : half + 1]
        fwhm = max(self.fwhm_px, LEAST_RADIUS_PX / APERTURE)
        flux = np.full(self.stars.shape[:2], np.nan)
        for k, stamp in enumerate(self.stars):
            radius = np.hypot(x - self.offsets[k, 0], y - self.offsets[k, 1])
            weight = np.clip(APERTURE * fwhm + 0.5 - radius, 0, 1)
            ring = (radius > INNER * fwhm) & (radius < OUTER * fwhm)
            used = weight > 0
            for c, plane in enumerate(stamp):
                around = plane[ring][np.isfinite(plane[ring])]
                if around.size < 20 or not np.isfinite(plane[used]).all():
                    continue
                if saturation_adu is not None and plane[used].max() > LINEAR * saturation_adu:
                    continue
                level = float(np.median(around))
                spread = 1.4826 * float(np.median(np.abs(around - level)))
                light = float(np.sum(weight * (np.where(used, plane, level) - level)))
                if light > LEAST_SNR * spread * math.sqrt(float(np.sum(weight))):
                    flux[k, c] = light
        return flux

    def _noise(self, channel: int) -> tuple[float | None, float | None]:
        """Noise of a point source's flux, ADU, and the level of the sky, ADU; None where there is no empty place."""
        kernel = _profile(self.fwhm_px, self.beta)
        sharpness = float(np.sum(kernel**2))
        margin = kernel.shape[0] // 2
        sigmas, levels = [], []
        for tile in self.tiles[:, channel]:
            if min(tile.shape) <= 4 * margin or not np.isfinite(tile).all():
                continue
            level = float(np.median(tile))
            seen = cv2.filter2D(tile - level, cv2.CV_32F, kernel.astype(np.float32))[margin:-margin, margin:-margin]
            # both sides of the median: where faint stars crowd each other they are noise to one more
            middle = float(np.median(seen))
            sigmas.append(1.4826 * float(np.median(np.abs(seen - middle))) / sharpness)
            levels.append(level)
        if not sigmas:
            return None, None
        return float(np.median(sigmas)), float(np.median(levels))


def _clip(values: np.ndarray) -> np.ndarray:
    """(k,) bool: what lies within three times the scatter of the median."""
    kept = np.ones(len(values), dtype=bool)
    for _ in range(5):
        middle = float(np.median(values[kept]))
        spread = max(1.4826 * float(np.median(np.abs(values[kept] - middle))), 0.01)
        new = np.abs(values - middle) <= 3.0 * spread
        if (new == kept).all() or new.sum() < LEAST_STARS:
            break
        kept = new
    return kept


def _colour_term(bp_rp: np.ndarray, zero: np.ndarray) -> tuple[float | None, float | None]:
    """Slope of the zero points (k,) against BP - RP (k,), and the median colour; None where it is not known well."""
    known = np.isfinite(bp_rp)
    bp_rp, zero = bp_rp[known], zero[known]
    if len(zero) < COLOUR_STARS or float(np.std(bp_rp)) < LEAST_SPREAD:
        return None, None
    pivot = float(np.median(bp_rp))
    used = np.ones(len(zero), dtype=bool)
    for _ in range(5):
        (slope, level), covariance = np.polyfit(bp_rp[used] - pivot, zero[used], 1, cov=True)
        new = _clip(zero - level - slope * (bp_rp - pivot))
        if (new == used).all() or new.sum() < COLOUR_STARS:
            break
        used = new
    if math.sqrt(float(covariance[0, 0])) > LARGEST_ERROR:
        return None, None
    return float(slope), pivot


def _at_pivot(bp_rp: np.ndarray, values: np.ndarray, pivot: float | None) -> float:
    """What a star of the colour `pivot` has, by a parabola through all (k,); the median where colours are not known."""
    known = np.isfinite(bp_rp)
    if pivot is None or not values.any():
        return float(np.median(values))
    x, y = bp_rp[known] - pivot, values[known]
    used = np.ones(len(y), dtype=bool)
    for _ in range(5):
        curve = np.polyfit(x[used], y[used], 2)
        new = _clip(y - np.polyval(curve, x))
        if (new == used).all() or new.sum() < COLOUR_STARS:
            break
        used = new
    return float(curve[2])


def _profile(fwhm_px: float, beta: float) -> np.ndarray:
    """Moffat's profile (s, s), sum 1, averaged over the pixels."""
    half = math.ceil(3.0 * fwhm_px)
    fine = 5
    axis = (np.arange((2 * half + 1) * fine) + 0.5) / fine - 0.5 - half
    r2 = axis[:, None] ** 2 + axis[None, :] ** 2
    if math.isfinite(beta):
        alpha2 = (0.5 * fwhm_px) ** 2 / (2.0 ** (1.0 / beta) - 1.0)
        light = (1.0 + r2 / alpha2) ** -beta
    else:
        light = np.exp(-4.0 * math.log(2.0) * r2 / fwhm_px**2)
    light = light.reshape(2 * half + 1, fine, 2 * half + 1, fine).sum(axis=(1, 3))
    return np.asarray(light / light.sum())
