"""Measuring how a picture should look: sky surface, noise, white point and colour balance of linear data.

A `Look` holds every number that turning data into a picture needs, so that the preview, a zoomed region and the saved
file are the same picture. It is measured on a copy reduced to the size of the preview, robustly, and blended with the
previous one, so that nothing jumps from frame to frame. The sky's level and noise are followed at once (they are known
to a thousandth); the colours and the white point, which hang on a few stars, follow over several frames.

Colour: the median colour of bright, unsaturated stars is made neutral, with a mild prior (see `balance`); after the
sky is subtracted channel by channel there is nothing left that could be green. Where most of the frame shows something
else than sky (Moon, planets, daylight) black and white are percentiles instead.

It leaves the drawing to `picture`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Literal

import cv2
import numpy as np

from livestack.base.settings import RenderSettings
from livestack.kernels.bands import Bands
from livestack.picture.background import Surface, fit_background, measure_sky
from livestack.picture.balance import measure_balance, mix_luma, normalise_gains, statistics_stride
from livestack.picture.families import MAX_ORDER
from livestack.picture.reduction import Small, shrink

STEP_SHARE = 2.0
"""What is this share of half a step high counts as noise to the stretch."""
FOLLOW = 0.3
"""Share of a new measurement of colour, shape of the sky and white point that is taken over."""


@dataclass(frozen=True, eq=False)
class Look:
    """All numbers of a picture. Levels are ADU above the sky, after the gains.

    Attributes
    ----------
    kind : "sky": faint things on a dark sky; "bright": Moon, planets, daylight.
    size : (width, height) in pixels of the data it was measured on.
    surface : the sky, subtracted first.
    gains : (C,) factors of the channels, their mean (as luminance) is 1.
    noise : sigma of the luminance at the sky, as ((reduction, sigma), ...) by rising reduction.
    black : for "bright" the level shown black; for "sky" black follows from the noise at the scale that is drawn.
    white : level shown white.
    midtone : for "bright" the level between black and white, 0..1, that is shown at 0.5.
    n_stars : stars that the balance stands on.
    settings : what was asked for.
    grain : noise of the data that are drawn, over that of the data that were measured; for colour only.
    norm : noise that sets the stretch, over that of the data that were measured.
    """

    kind: Literal["sky", "bright"]
    size: tuple[int, int]
    surface: Surface
    gains: np.ndarray
    noise: tuple[tuple[float, float], ...]
    black: float
    white: float
    midtone: float
    n_stars: int
    settings: RenderSettings
    grain: float = 1.0
    norm: float = 1.0

    def with_grain(self, factor: float) -> Look:
        """This look for data `factor` times as noisy: the same stretch, but colour is trusted less.

        For a single frame beside the stack: drawn with the stack's own look its noise would be a carpet of colours.
        """
        return replace(self, grain=max(1.0, factor))

    def normed(self, factor: float) -> Look:
        """This look with black and stretch by data `factor` times as noisy: those of a single frame, say."""
        return replace(self, norm=max(1.0, factor))

    def noise_at(self, scale: float) -> float:
        """Sigma of the luminance at the sky when `scale` pixels are averaged along each side."""
        scales = [math.log(s) for s, _ in self.noise]
        return math.exp(np.interp(math.log(max(scale, 1.0)), scales, [math.log(sigma) for _, sigma in self.noise]))


def measure_look(
    linear: np.ndarray, settings: RenderSettings, previous: Look | None = None, bands: Bands | None = None,
    terraces: np.ndarray | None = None,
) -> Look:  # fmt: skip
    """Measure how data should be shown.

    Parameters
    ----------
    linear : (C, H, W) float32 in ADU, C = 1 or 3, NaN = no data.
    settings : stretch, strength of colour ...; these take effect at once, whatever was before.
    previous : the look of the picture before this one; it is blended in where size and kind agree.
    bands : threads to share the reading of large data.
    terraces : (C,) ADU, half the height of the steps that the data's sky is made of (`detection.terraces_of`): the
        stretch does not amplify what is lower.

    Raises
    ------
    ValueError : `linear` has another shape or dtype.
    """
    return measure_small(shrink(linear, settings.preview_width, bands), settings, previous, terraces)


def measure_small(
    small: Small, settings: RenderSettings, previous: Look | None = None, terraces: np.ndarray | None = None
) -> Look:
    """`measure_look` of data that are reduced to about `settings.preview_width` already."""
    # An infinity, as a division in somebody's calibration leaves it, says as little as NaN.
    infinite = np.isinf(small.planes)
    planes = np.where(infinite, np.float32(np.nan), small.planes) if infinite.any() else small.planes
    if previous is not None and (previous.size != small.size or len(previous.gains) != len(planes)):
        previous = None
    if is_bright(planes, was_bright=previous is not None and previous.kind == "bright"):
        look = _measure_bright(planes, settings, small.size)
    else:
        look = _measure_sky_look(replace(small, planes=planes), settings, previous, terraces)
    if previous is None or previous.kind != look.kind:
        return look
    share = FOLLOW if look.kind == "sky" else 0.5
    return replace(
        look,
        gains=normalise_gains(np.exp(_mix(np.log(previous.gains), np.log(look.gains), share))),
        white=math.exp(_mix(math.log(previous.white), math.log(look.white), share)),
        black=_mix(previous.black, look.black, share),
        midtone=_mix(previous.midtone, look.midtone, share),
    )


def is_bright(small: np.ndarray, was_bright: bool = False) -> bool:
    """True when the frame shows a bright extended thing (Moon, planet, daylight) and not a dark sky with faint things.

    On the luminance of (C, h, w): such a thing is far above the noise, does not follow a smooth sky, is large, and has
    an edge: most of what is lit is well lit, whereas a nebula, a galaxy and a star's halo fade. A frame that follows
    bright ones is judged more leniently, so that a cloud's edge does not make the picture flicker.
    """
    luma = small.mean(axis=0)
    seen = np.isfinite(luma)
    if min(luma.shape) < 16 or not seen.any():
        return False
    luma = cv2.blur(np.where(seen, luma, luma[seen].min()), (3, 3))
    step = max(1, round(max(luma.shape) / 480))
    # Four pixels apart: nearer ones share noise through debayering, registration and the blur above.
    noise = 1.4826 * float(np.median(np.abs(luma[::step, 4:] - luma[::step, :-4]))) / math.sqrt(2)
    view, known = luma[::step, ::step], seen[::step, ::step]
    ease = 0.6 if was_bright else 1.0
    above = view - fit_background(np.where(known, view, np.float32(np.nan))[None]).evaluate(*view.shape)[0]
    high = float(np.percentile(above[known], 99.9))
    if high <= 0:
        return False
    lit = np.where(known, above / high, 0)
    # Craters and mountains all over, where a nebula, however wide and bright, is smooth.
    side = max(3, max(view.shape) // 16)
    rough = np.abs(view - cv2.blur(view, (side, side), borderType=cv2.BORDER_REFLECT))[known] > 6 * noise
    large = high > 20 * noise and float(np.mean(np.abs(above[known]) > 6 * noise)) > 0.15 * ease
    if (
        large
        and float(np.mean(rough)) > 0.05 * ease
        and np.mean(lit > 0.25) > 0.12 * ease
        and _filled(lit) > 0.5 * ease
    ):
        return True
    if high <= 100 * ease * noise:
        return False
    pieces = cv2.connectedComponentsWithStats((lit > 0.25).astype(np.uint8), connectivity=8)[2][1:]
    return bool(
        pieces.size and pieces[:, cv2.CC_STAT_AREA].max() > 0.01 * ease * view.size and _filled(lit) > 0.6 * ease
    )


def _filled(lit: np.ndarray) -> float:
    """Share of the lit pixels that are well lit."""
    return float((lit > 0.25).sum() / max(1, (lit > 0.05).sum()))


def _measure_sky_look(
    data: Small, settings: RenderSettings, previous: Look | None, terraces: np.ndarray | None
) -> Look:
    small, scale = data.planes, data.scale
    surface = fit_background(small, MAX_ORDER if settings.gradient_removal else 0)
    if (
        previous is not None
        and previous.kind == "sky"
        and previous.settings.gradient_removal == settings.gradient_removal
    ):
        surface = previous.surface.blended(surface, _surface_share(previous, surface, scale))
    above = small - surface.evaluate(*small.shape[1:])
    stride = statistics_stride(small)
    levels, sigmas = np.array([measure_sky(plane[::stride, ::stride]) for plane in above]).T
    surface = surface.raised(levels)
    above -= levels[:, None, None].astype(np.float32)
    gains, n_stars = np.ones(len(small)), 0
    if len(small) == 3 and not settings.linked:
        gains = normalise_gains(1 / np.maximum(sigmas, 1e-6))
    elif len(small) == 3 and settings.white_balance == "stars":
        gains, n_stars = measure_balance(above, small, sigmas)
    luma = mix_luma(above, gains)
    top = _near_the_top(luma, luma[::stride, ::stride])
    # Two limits on the stretch: noise never fills the range, and a very deep stack is not torn up to its last photon.
    # Nor are the steps of a sky that the file's whole numbers made terraces of.
    steps = np.zeros(len(small)) if terraces is None else terraces
    least = STEP_SHARE * float(mix_luma(steps[:, None, None].astype(np.float32), gains)[0, 0])
    noise = max(measure_sky(luma[::stride, ::stride])[1], 2e-4 * top, 1e-6, least)
    white = max(top, 250 * noise)
    by_scale = ((1.0, noise),) if scale <= 1 else ((1.0, max(noise, _full_noise(data, gains))), (scale, noise))
    return Look("sky", data.size, surface, gains, by_scale, 0.0, white, 0.5, n_stars, settings)


def _near_the_top(luma: np.ndarray, sample: np.ndarray) -> float:
    """The level that one pixel in 50 000 exceeds; `sample`, some of the pixels, tells where to look for them."""
    rank = max(1, luma.size // 50_000)
    known = np.sort(sample[np.isfinite(sample)], axis=None)
    if not known.size:
        return 1.0
    bright = luma[luma >= known[-max(1, known.size // 500)]]
    if bright.size < rank:
        bright = luma[np.isfinite(luma)]
    rank = min(rank, bright.size)
    return float(np.partition(bright, -rank)[-rank])


def _surface_share(previous: Look, surface: Surface, scale: float) -> float:
    """How much of a new sky surface to take over: slowly as long as the shapes agree within the noise, else at once."""
    change = surface.evaluate(12, 16) - previous.surface.evaluate(12, 16)
    change -= change.mean(axis=(1, 2), keepdims=True)
    rms = float(np.sqrt((change**2).mean(axis=(1, 2))).max())
    return min(1.0, FOLLOW * max(1.0, rms / previous.noise_at(scale)))


def _measure_bright(small: np.ndarray, settings: RenderSettings, size: tuple[int, int]) -> Look:
    stride = statistics_stride(small)
    view = small[:, ::stride, ::stride]
    gains = np.ones(len(small))
    floor = np.array([np.nanpercentile(plane, 0.3) for plane in view])
    if len(small) == 3 and settings.white_balance == "stars":
        lit = view - floor[:, None, None]
        luma = mix_luma(lit, gains)
        colour = np.array([np.nanmean(plane[luma > np.nanpercentile(luma, 60)]) for plane in lit])
        # A cast of the bare sensor is taken out; a picture that is nearly balanced keeps its own colours.
        cast = np.log(np.maximum(colour, 1e-9) / np.mean(np.maximum(colour, 1e-9)))
        if np.abs(cast).max() > 0.15:
            gains = normalise_gains(np.exp(-np.clip(cast, -1.2, 1.2)))
    surface = Surface.constant(floor)
    luma = mix_luma(view - floor[:, None, None], gains)
    white = max(float(np.nanpercentile(luma, 99.8)), 1e-9)
    middle = min(max(float(np.nanmedian(luma)) / white, 1e-3), 1.0)
    noise = max(1.4826 * float(np.nanmedian(np.abs(np.diff(luma, axis=1)))) / math.sqrt(2), 1e-6 * white)
    # A midtone below one half lifts the shadows; near one half the picture is linear, as the eye saw it.
    midtone = min(max(middle / 0.35 * 0.5, 0.35), 0.5)
    return Look("bright", size, surface, gains, ((1.0, noise),), 0.0, white, midtone, 0, settings)


def _full_noise(data: Small, gains: np.ndarray) -> float:
    """Sigma of the luminance of true pixels, from neighbours, so that gradients do not count."""
    difference = mix_luma(data.here, gains) - mix_luma(data.there, gains)
    difference = difference[np.isfinite(difference)]
    return 1.4826 * float(np.median(np.abs(difference))) / math.sqrt(2) if difference.size else 0.0


def _mix(old: float, new: float, share: float) -> float:
    return (1 - share) * old + share * new
