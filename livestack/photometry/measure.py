"""The light of stars at known places in one frame, in its own calibrated pixels, by the frame's own profile.

What is measured is the camera's light, not the stack's: nothing is interpolated, and of a mosaic each colour has only
its own pixels. The profile (Moffat, elliptical) is fitted to the brightest lonely stars of the frame; each star is then
weighed in several ways, from the profile (best for faint stars, Naylor 1998, doi:10.1046/j.1365-8711.1998.01314.x) to
next to an aperture some FWHM wide (best for bright ones), with the light of its neighbours taken off.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from scipy.spatial import cKDTree

from livestack.kernels import photometry as kernel
from livestack.kernels.bands import Bands
from livestack.kernels.photometry import N_WEIGHTS
from livestack.photometry.curves import BLENDED, COSMIC, DEFECT, EDGE, SATURATED

PROFILE_STARS = 12
LEAST_PROFILE_STARS = 3
APERTURE_FWHM = 2.1
"""Pixels within so many FWHM are used."""
LONELY_FWHM = 4.0
BLENDED_SHARE, LEFT_SHARE = 0.25, 0.04
"""A star that takes in more than this share of its own light from neighbours cannot be measured by itself; nor one to
which more than that share is left when they have been taken off by a profile that fits badly."""
MASKED_SHARE = 0.08
"""Share of a star's light in pixels that are left out from which it is flagged."""
RING_PIXELS = 700
MISFIT = 0.06, 3.0
"""Share by which pixels may differ from the profile: least, and most (defocus, trails, coma)."""
UNKNOWN_MISFIT = 0.6
PASSES = 3
"""Rounds of taking off the light of neighbours."""


@dataclass(frozen=True, eq=False)
class Exposure:
    """What is to be measured of one frame, its pixels as they are.

    Attributes
    ----------
    data : (H, W) mono or mosaic, or (3, H, W), float32, ADU, calibrated, not debayered; NaN = no data.
    bayer : pattern of a mosaic, else None.
    saturation_adu : from which a pixel is clipped; None: unknown.
    per_photon : ADU^2 of variance for each ADU of light, the inverse of the gain in e-/ADU; None: unknown.
    defects : sorted flat indices of pixels not to be trusted.
    fwhm_px, noise_adu : guesses, from the star search and the sky.
    """

    data: np.ndarray
    bayer: str | None
    saturation_adu: float | None
    per_photon: float | None
    defects: np.ndarray
    fwhm_px: float | None
    noise_adu: float

    @property
    def clips_at(self) -> float:
        """From here a pixel counts as clipped, ADU."""
        return math.inf if self.saturation_adu is None else 0.97 * self.saturation_adu

    @property
    def light_variance(self) -> float:
        """As `per_photon`; where that is unknown, as if the sky's noise were that of its photons: at worst too much."""
        return self.per_photon if self.per_photon is not None else max(self.noise_adu, 0.1) / 10.0


@dataclass(frozen=True, eq=False)
class FrameLight:
    """Light of n stars in one frame, C channels.

    Attributes
    ----------
    flux : (C, N_WEIGHTS, n) float64, ADU by each way of weighing; NaN: not measured.
    sky_variance, photon : (C, N_WEIGHTS, n): variance from sky and camera (ADU^2), and the flux that its photons count
        for: variance = sky_variance + per_photon x photon.
    flags : (C, n) uint8, see `curves`.
    sky : (C,) ADU, median level; fwhm_px : of the profile, NaN where none was fitted.
    """

    flux: np.ndarray
    sky_variance: np.ndarray
    photon: np.ndarray
    flags: np.ndarray
    sky: np.ndarray
    fwhm_px: float


def channels_of(exposure: Exposure) -> list[tuple[np.ndarray, np.ndarray, int]]:
    """For each channel its plane (H, W), the channels of its pixels by parity (2, 2), and which of these it is."""
    data = exposure.data
    if data.ndim == 3:
        return [(plane, np.zeros((2, 2), dtype=np.int64), 0) for plane in data]
    if exposure.bayer is None:
        return [(data, np.zeros((2, 2), dtype=np.int64), 0)]
    colours = np.array(["RGB".index(letter) for letter in exposure.bayer]).reshape(2, 2)
    return [(data, colours, c) for c in range(3)]


def main_channel(n_channels: int) -> int:
    """The channel whose light is *the* light of a star: green, which is nearest to V, of colour; else the only one."""
    return 1 if n_channels == 3 else 0


def measure_frame(exposure: Exposure, places: np.ndarray, brightness: np.ndarray, bands: Bands) -> FrameLight | None:
    """Measure stars at known places.

    Parameters
    ----------
    places : (n, 2) x, y in the frame's pixels; stars outside of it are not measured.
    brightness : (n,) expected flux, to choose stars for the profile and to weigh neighbours; any unit.

    Returns
    -------
    None where the frame shows no star well enough to say how wide they are.
    """
    height, width = exposure.data.shape[-2:]
    guess = exposure.fwhm_px
    if guess is None or not math.isfinite(guess) or not len(places):
        return None
    x, y = (np.ascontiguousarray(v, dtype=float) for v in np.asarray(places, dtype=float).T)
    tree = cKDTree(places)
    channels = channels_of(exposure)
    inside = (x > 0) & (y > 0) & (x < width - 1) & (y < height - 1)
    plane, colours, channel = channels[main_channel(len(channels))]
    lonely = _lonely(tree, places, brightness, LONELY_FWHM * guess) & inside
    chosen = np.flatnonzero(lonely)
    chosen = chosen[np.argsort(-brightness[chosen], kind="stable")][: 2 * PROFILE_STARS]
    shape, misfit = _fit(exposure, plane, colours, channel, x[chosen], y[chosen], guess)
    fwhm = fwhm_of(shape)
    n = len(x)
    flux, sky_variance, photon = (np.full((len(channels), N_WEIGHTS, n), np.nan) for _ in range(3))
    flags = np.zeros((len(channels), n), dtype=np.uint8)
    sky = np.full(len(channels), np.nan)
    first, others, blended = _neighbours(tree, places, brightness, fwhm, misfit)
    for c, (plane, colours, channel) in enumerate(channels):
        share = float(np.mean(colours == channel))
        table, spread = _measure(
            exposure, plane, colours, channel, x, y, shape, misfit, share, first, others, brightness, bands
        )  # fmt: skip
        flux[c] = table[:, :N_WEIGHTS].T
        variance = table[:, kernel.SIGMA] ** 2
        around = variance / np.maximum(table[:, kernel.N_SKY], 1)
        sky_variance[c] = (variance[:, None] * spread[:, :, 1] + around[:, None] * spread[:, :, 2] ** 2).T
        photon[c] = spread[:, :, 0].T
        flags[c] = _flags(table, plane, exposure.defects, x, y, fwhm) | (blended * BLENDED).astype(np.uint8)
        level = table[np.isfinite(table[:, kernel.LEVEL]), kernel.LEVEL]
        sky[c] = float(np.median(level)) if len(level) else math.nan
    return FrameLight(flux, sky_variance, photon, flags, sky, fwhm)


def fwhm_of(shape: np.ndarray) -> float:
    """FWHM (px, mean of the axes) of a profile A, B, C, beta."""
    a, b, c, beta = (float(v) for v in shape)
    return 2.0 * math.sqrt(2.0 ** (1.0 / beta) - 1.0) / (a * c - b * b) ** 0.25


def round_profile(fwhm_px: float, beta: float = 3.0) -> np.ndarray:
    """(4,) A, B, C, beta of a round profile."""
    a = (2.0 * math.sqrt(2.0 ** (1.0 / beta) - 1.0) / fwhm_px) ** 2
    return np.array([a, 0.0, a, beta])


def _lonely(tree: cKDTree, places: np.ndarray, brightness: np.ndarray, within: float) -> np.ndarray:
    """(n,) bool: no neighbour of a hundredth of its light or more."""
    pairs = tree.query_pairs(within, output_type="ndarray")
    lonely = np.ones(len(places), dtype=bool)
    for one, other in ((0, 1), (1, 0)):
        disturbed = brightness[pairs[:, other]] > 0.01 * brightness[pairs[:, one]]
        lonely[pairs[disturbed, one]] = False
    return lonely


def _neighbours(
    tree: cKDTree, places: np.ndarray, brightness: np.ndarray, fwhm: float, misfit: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """For each star those whose light reaches its pixels or its sky, as first (n + 1,) and others; and which are too
    near to a brighter one to be told apart."""
    n = len(places)
    pairs = tree.query_pairs((APERTURE_FWHM + 5.0) * fwhm, output_type="ndarray")
    both = np.concatenate([pairs, pairs[:, ::-1]]) if len(pairs) else np.empty((0, 2), dtype=np.intp)
    away = np.hypot(*(places[both[:, 0]] - places[both[:, 1]]).T)
    ratio = brightness[both[:, 1]] / brightness[both[:, 0]]
    # what the profile takes in of a neighbour's light: the product of two profiles, about as wide as both together
    taken = ratio * (1.0 + (away / (1.37 * fwhm)) ** 2) ** -2.5
    share = np.bincount(both[:, 0], taken, n)
    blended = (share > BLENDED_SHARE) | (share * misfit > LEFT_SHARE)
    # light falls with about the third power of the square of the distance
    both = both[ratio / np.maximum(1.0, 2.0 * away / fwhm) ** 4 > 1e-3]
    both = both[np.lexsort((both[:, 1], both[:, 0]))]
    first = np.searchsorted(both[:, 0], np.arange(n + 1))
    return first.astype(np.int64), np.ascontiguousarray(both[:, 1], dtype=np.int64), blended


def _fit(
    exposure: Exposure, plane: np.ndarray, colours: np.ndarray, channel: int, x: np.ndarray, y: np.ndarray,
    guess: float,
) -> tuple[np.ndarray, float]:  # fmt: skip
    """The frame's profile (4,) by its brightest lonely stars, and the share by which pixels may differ from it."""
    shape = round_profile(guess)
    radius = 2.2 * guess + 0.5
    alone = np.zeros(len(x) + 1, dtype=np.int64)
    nobody, nothing = np.empty(0, dtype=np.int64), np.empty(0)
    inner, outer = _ring(guess, float(np.mean(colours == channel)))
    sky = np.empty((len(x), 3))
    room = np.empty(int(math.pi * (outer + 2) ** 2) + 64, dtype=np.float32)
    kernel.sky_around(plane, colours, channel, x, y, inner, outer, alone, nobody, nothing, 0, len(x), room, sky)
    size = (2 * math.ceil(radius) + 1) ** 2
    values, dx, dy, weights = (np.empty((len(x), size)) for _ in range(4))
    counts = np.zeros(len(x), dtype=np.int64)
    per_photon = exposure.light_variance
    kernel.gather(
        plane, colours, channel, x, y, sky, radius, per_photon, exposure.clips_at, exposure.defects, values, dx, dy,
        weights, counts,
    )  # fmt: skip
    good = np.flatnonzero(counts > 0)[:PROFILE_STARS]
    if len(good) < LEAST_PROFILE_STARS:
        return shape, UNKNOWN_MISFIT
    quality = kernel.fit_profile(values[good], dx[good], dy[good], weights[good], counts[good], shape, 5)
    if not math.isfinite(quality) or not 0.4 < fwhm_of(shape) / guess < 2.5:
        return round_profile(guess), UNKNOWN_MISFIT
    room = np.empty(int(counts[good].sum()), dtype=np.float32)
    off = kernel.profile_misfit(
        values[good], dx[good], dy[good], sky[good, 1], per_photon, counts[good], shape, room
    )  # fmt: skip
    return shape, float(np.clip(3.5 * off, *MISFIT))


def _ring(fwhm: float, share: float) -> tuple[float, float]:
    """Radii of the ring of the sky around a star, px; `share` of all pixels is of the colour that is measured."""
    inner = max(3.2 * fwhm, 6.0)
    return inner, math.sqrt(inner**2 + RING_PIXELS / share / math.pi)


def _measure(
    exposure: Exposure, plane: np.ndarray, colours: np.ndarray, channel: int, x: np.ndarray, y: np.ndarray,
    shape: np.ndarray, misfit: float, share: float, first: np.ndarray, others: np.ndarray, brightness: np.ndarray,
    bands: Bands,
) -> tuple[np.ndarray, np.ndarray]:  # fmt: skip
    """All stars in one channel: the table of the kernel (n, N_COLUMNS) and its spread (n, N_WEIGHTS, 3)."""
    n, fwhm = len(x), fwhm_of(shape)
    inner, outer = _ring(fwhm, share)
    # as far as a star stands out of the noise of a pixel, others do not look for their sky
    scale = 4.0 * brightness / (1.5 * fwhm**2 * max(exposure.noise_adu, 1e-6))
    reach = np.clip(0.5 * fwhm * np.maximum(scale, 1.0) ** 0.25, 0.8 * fwhm, 4.0 * fwhm)
    sky, table = np.empty((n, 3)), np.empty((n, kernel.N_COLUMNS))
    spread = np.empty((n, N_WEIGHTS, 3))
    per_photon, defects = exposure.light_variance, exposure.defects
    fluxes, wanted = np.zeros(n), np.arange(n)

    def look(begin: int, end: int) -> None:
        room = np.empty(int(math.pi * (outer + 2) ** 2) + 64, dtype=np.float32)
        kernel.sky_around(
            plane, colours, channel, x, y, inner, outer, first, others, reach, begin, end, room, sky
        )  # fmt: skip

    def weigh(begin: int, end: int) -> None:
        kernel.measure(
            plane, colours, channel, x, y, shape, sky, APERTURE_FWHM * fwhm, inner, outer, per_photon, misfit,
            exposure.clips_at, defects, first, others, fluxes, wanted[begin:end], table, spread,
        )  # fmt: skip

    bands.run(look, n)
    bands.run(weigh, n)
    crowded = np.flatnonzero(np.diff(first) > 0)
    if len(crowded):
        wanted = crowded
        for _ in range(PASSES):
            fluxes = np.nan_to_num(table[:, 0]).clip(0)
            bands.run(weigh, len(crowded))
    return table, spread


def _flags(
    table: np.ndarray, plane: np.ndarray, defects: np.ndarray, x: np.ndarray, y: np.ndarray, fwhm: float
) -> np.ndarray:
    """(n,) uint8 what is wrong with each star here."""
    flags = np.zeros(len(table), dtype=np.uint8)
    flags[table[:, kernel.CLIPPED] > 0] |= SATURATED
    flags[~(table[:, kernel.LOST] < 0.02)] |= EDGE
    masked = np.flatnonzero(table[:, kernel.MASKED] >= MASKED_SHARE)
    if len(masked):
        width = plane.shape[1]
        spots = np.column_stack([defects % width, defects // width]) if len(defects) else np.full((1, 2), -1e9)
        near = cKDTree(spots).query(np.column_stack([x[masked], y[masked]]))[0] < 1.5 * fwhm
        flags[masked[near]] |= DEFECT
        flags[masked[~near]] |= COSMIC
    return flags
