"""From linear data and a `Look` to a picture: subtract the sky, balance, stretch the luminance, let colour follow.

Stretch: the sky is brought to the brightness that the settings ask for, black lies 2.8 sigma below it. "auto" is the
midtone transfer function of PixInsight's screen stretch, m(x) = (m - 1) x / ((2 m - 1) x - m); "asinh" follows Lupton
et al. 2004 (doi:10.1086/382245), "log" and "gamma" bring the sky to the same brightness, "linear" lets it be; then come
black, middle and white point of the settings. From Lupton also comes the treatment of colour: the luminance is
stretched and the channels keep their ratio to it, so that stars keep their colour up to the clip.

Faint colour is smoothed over a few pixels, and fades where there is only sky: the eye sees colour at low resolution,
and a single frame would show nothing but coloured noise. The data are drawn band by band, so that a large picture needs
little memory; whichever part is drawn, the pixels are the same.

Encoding to files is in `encode`; measuring is in `look`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import cv2
import numpy as np

from livestack.kernels.bands import Bands, run_bands
from livestack.kernels.render import balance_rows, stretch_colour, stretch_mono, weigh_chroma
from livestack.picture.look import Look
from livestack.picture.reduction import Region, Small, reduce_planes

SHADOWS_SIGMA = 2.8
CHROMA_SIGMA_PX = 2.5
DETAIL_SIGMA_PX = 1.2
"""Debayering leaves false colours at the edges of sharp stars; they alternate over two pixels."""
DETAIL_MARGIN = 4
MARGIN = 8
"""Rows and columns that the smoothing of colour reaches."""
BAND_ROWS = 512
KNOTS = 4097
HISTOGRAM_PIXELS = 40_000


@dataclass(frozen=True, eq=False)
class Picture:
    """A finished picture.

    Attributes
    ----------
    rgb : (h, w, 3) uint8 or uint16, sRGB, the right way up.
    scale : pixels of the data per pixel of the picture, >= 1.
    """

    rgb: np.ndarray
    scale: float


def render(
    linear: np.ndarray,
    look: Look,
    max_side: int | None = None,
    region: Region | None = None,
    depth: int = 8,
    bottom_up: bool = False,
    bands: Bands | None = None,
) -> Picture:
    """Draw data.

    Parameters
    ----------
    linear : (C, H, W) float32 in ADU, NaN = no data (drawn black).
    look : from `measure_look` on these or earlier data of the same size.
    max_side : longest side of the picture; None for every pixel.
    region : (x, y, w, h) of the upright picture, in pixels of the data; parts outside are left out. None for all.
    depth : bits, 8 or 16.
    bottom_up : row 0 of the data is the bottom of the picture.
    bands : threads to share the work.

    Raises
    ------
    ValueError : `depth`, shape or dtype are wrong, the look is of data of another size, or the region is outside.
    """
    if depth not in (8, 16):
        raise ValueError(f"depth: found {depth}, expected 8 or 16.")
    if linear.ndim != 3:
        raise ValueError(f"linear: expected shape (C, H, W), found {linear.shape}.")
    _check_look(look, (linear.shape[2], linear.shape[1]), len(linear))
    _, height, width = linear.shape
    x, y, w, h = _inside(region or (0, 0, width, height), width, height)
    if bottom_up:
        y = height - y - h
    if max_side is None or max(w, h) <= max_side:
        rgb = _draw_full(linear, look, (x, y, w, h), depth, bands)
        scale = 1.0
    else:
        small, scale = reduce_planes(linear, max_side, (x, y, w, h), bands)
        rgb = _draw(small, look, (x, y), scale, depth, bands)
    return Picture(np.ascontiguousarray(rgb[::-1]) if bottom_up else rgb, scale)


def render_small(small: Small, look: Look, bottom_up: bool = False, bands: Bands | None = None) -> Picture:
    """Draw reduced data, 8 bit, at the size that they have.

    Parameters
    ----------
    small : its planes are overwritten.
    look, bottom_up, bands : as for `render`.

    Raises
    ------
    ValueError : the look is of data of another size.
    """
    _check_look(look, small.size, len(small.planes))
    rgb = _draw(small.planes, look, (0, 0), small.scale, 8, bands)
    return Picture(np.ascontiguousarray(rgb[::-1]) if bottom_up else rgb, small.scale)


def _check_look(look: Look, size: tuple[int, int], channels: int) -> None:
    if size != look.size or channels != len(look.gains):
        raise ValueError(
            f"look: was measured on {look.size[0]} x {look.size[1]} pixels, {len(look.gains)} channel(s); "
            f"the data have {size[0]} x {size[1]}, {channels} channel(s); measure again."
        )


def render_part(part: np.ndarray, look: Look, origin: tuple[int, int], bottom_up: bool = False) -> Picture:
    """Draw a piece of the data in true pixels, 8 bit, without the rest of them.

    Parameters
    ----------
    part : (C, h, w) float32 in ADU, NaN = no data; a copy, it is overwritten. Its outer `MARGIN` pixels lack
        neighbours: take so many more than are wanted, and cut them off.
    look : from `measure_look` on the whole.
    origin : (x, y) of the piece's corner in the data, as stored.
    """
    rgb = _draw(part, look, origin, 1.0, 8, None)
    return Picture(np.ascontiguousarray(rgb[::-1]) if bottom_up else rgb, 1.0)


def stretch_curve(look: Look, scale: float) -> tuple[np.ndarray, float, float]:
    """The stretch at a scale, for x = (L - black) / (white - black) and knots at sqrt(x) = k / (n - 1).

    Returns (values at the knots, black, 1 / (white - black)).
    """
    plain, black, inverse = plain_curve(look, scale)
    settings = look.settings
    curve = _levels(plain, settings.black, settings.midtone, settings.white)
    return curve.astype(np.float32), black, inverse


def plain_curve(look: Look, scale: float) -> tuple[np.ndarray, float, float]:
    """`stretch_curve` before black, midtone and white of the settings; float64."""
    x = np.linspace(0.0, 1.0, KNOTS) ** 2
    settings = look.settings
    if look.kind == "bright":
        black, white = look.black, look.white
        level, target = look.midtone, 0.5
        automatic = _midtone(x, look.midtone)
    else:
        black = -SHADOWS_SIGMA * look.noise_at(scale) * look.norm
        white = max(look.white, -3 * black)
        level, target = min(-black / (white - black), 0.5), settings.background
        automatic = _midtone(x, (target - 1) * level / ((2 * target - 1) * level - target))
    if settings.stretch == "auto":
        curve = automatic
    elif settings.stretch == "linear" or level >= target:
        curve = x
    elif settings.stretch == "gamma":
        curve = x ** (math.log(target) / math.log(level))
    else:
        curve = _lifted(x, level, target, np.arcsinh if settings.stretch == "asinh" else np.log1p)
    return curve, black, 1.0 / (white - black)


def _levels(curve: np.ndarray, black: float, midtone: float, white: float) -> np.ndarray:
    """What black, middle and white point make of a curve."""
    if (black, midtone, white) == (0.0, 0.5, 1.0):
        return curve
    return _midtone(np.clip((curve - black) / (white - black), 0.0, 1.0), midtone)


def count_levels(small: Small, look: Look, bins: int = 64) -> np.ndarray:
    """How many pixels of reduced data have which brightness after the stretch, before black, midtone and white.

    Returns
    -------
    (C, bins) int64, of each channel, from 0 to 1 in equal steps; what is outside counts at the ends.
    """
    channels, height, width = small.planes.shape
    stride = max(1, math.isqrt(height * width // HISTOGRAM_PIXELS))
    rows, columns = np.arange(0, height, stride), np.arange(0, width, stride)
    sky = look.surface.evaluate(height, width)[:, rows[:, None], columns]
    curve, black, inverse = plain_curve(look, small.scale)
    counted = np.zeros((channels, bins), np.int64)
    for c, plane in enumerate((small.planes[:, ::stride, ::stride] - sky) * look.gains[:, None, None]):
        x = (plane[np.isfinite(plane)] - black) * inverse
        shown = np.interp(np.sqrt(np.clip(x, 0.0, 1.0)), np.linspace(0.0, 1.0, KNOTS), curve)
        counted[c] = np.histogram(np.clip(shown, 0.0, 1.0), bins, (0.0, 1.0))[0]
    return counted


def _midtone(x: np.ndarray, m: float) -> np.ndarray:
    return (m - 1) * x / ((2 * m - 1) * x - m)


def _lifted(x: np.ndarray, level: float, target: float, rise: np.ufunc) -> np.ndarray:
    """rise(x / b) / rise(1 / b), b such that `level` comes to `target`; `rise` is arcsinh or log1p."""
    low, high = math.log(1e-9), math.log(1e3)
    for _ in range(80):
        middle = 0.5 * (low + high)
        b = math.exp(middle)
        if float(rise(level / b) / rise(1 / b)) > target:
            low = middle
        else:
            high = middle
    b = math.exp(low)
    return np.asarray(rise(x / b) / rise(1 / b))


def _inside(region: Region, width: int, height: int) -> Region:
    x0, y0 = max(0, region[0]), max(0, region[1])
    x1, y1 = min(width, region[0] + region[2]), min(height, region[1] + region[3])
    if x1 <= x0 or y1 <= y0:
        raise ValueError(f"region: {region} lies outside the {width} x {height} pixels of the data.")
    return x0, y0, x1 - x0, y1 - y0


def _draw_full(linear: np.ndarray, look: Look, region: Region, depth: int, bands: Bands | None) -> np.ndarray:
    """Draw true pixels in bands of rows, each with the margin that the smoothing of colour needs."""
    _, height, width = linear.shape
    x, y, w, h = region
    out = np.empty((h, w, 3), np.uint8 if depth == 8 else np.uint16)
    left, right = max(0, x - MARGIN), min(width, x + w + MARGIN)
    for start in range(y, y + h, BAND_ROWS):
        stop = min(start + BAND_ROWS, y + h)
        top, bottom = max(0, start - MARGIN), min(height, stop + MARGIN)
        part = _draw(linear[:, top:bottom, left:right].copy(), look, (left, top), 1.0, depth, bands)
        out[start - y : stop - y] = part[start - top : stop - top, x - left : x - left + w]
    return out


def _draw(
    planes: np.ndarray, look: Look, origin: tuple[int, int], scale: float, depth: int, bands: Bands | None
) -> np.ndarray:
    """Draw planes (C, h, w), which are overwritten; `origin` is their corner in the data."""
    channels, height, width = planes.shape
    full_width, full_height = look.size
    du, dv = 2 * scale / full_width, 2 * scale / full_height
    u0 = 2 * (origin[0] + 0.5 * scale) / full_width - 1
    v0 = 2 * (origin[1] + 0.5 * scale) / full_height - 1
    luma = np.empty((height, width), np.float32)
    surface, gains = look.surface.coefficients, look.gains
    run_bands(bands, lambda a, b: balance_rows(planes, surface, gains, u0, du, v0, dv, luma, a, b), height)
    curve, low, slope = stretch_curve(look, scale)
    black, inverse = np.float32(low), np.float32(slope)
    top = np.float32(255 if depth == 8 else 65535)
    out = np.empty((height, width, 3), np.uint8 if depth == 8 else np.uint16)
    if channels == 1:
        run_bands(bands, lambda a, b: stretch_mono(luma, black, inverse, curve, top, out, a, b), height)
        return out
    sigma = np.float32(look.noise_at(scale) * look.grain)
    chroma = _smooth_chroma(planes, luma, sigma, black, bands)
    saturation = np.float32(look.settings.saturation)
    run_bands(
        bands,
        lambda a, b: stretch_colour(luma, chroma, sigma, saturation, black, inverse, curve, top, out, a, b),
        height,
    )
    return out


def _smooth_chroma(
    planes: np.ndarray, luma: np.ndarray, sigma: np.float32, black: np.float32, bands: Bands | None
) -> np.ndarray:
    """What `weigh_chroma` lays out, (7, h, w) float32, smoothed: narrowly for strong light, widely for faint light."""
    chroma = np.empty((7, *luma.shape), np.float32)
    run_bands(bands, lambda a, b: weigh_chroma(planes, luma, sigma, black, chroma, a, b), len(luma))
    for k, plane in enumerate(chroma):
        reach, width = (DETAIL_MARGIN, DETAIL_SIGMA_PX) if k < 3 else (MARGIN, CHROMA_SIGMA_PX)
        size = (2 * reach + 1, 2 * reach + 1)
        cv2.GaussianBlur(plane, size, width, dst=plane, borderType=cv2.BORDER_REFLECT_101)
    return chroma
