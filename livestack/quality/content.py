"""Frames that are no lights: by their header, or by what is in them when the header says nothing or lies.

A cap left on, a roof that closed, flats taken into the lights' folder. A frame of the Moon has no stars either, but it
is anything but structureless; an overcast sky has none and is bright. Decided on the numbers that detection has anyway.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import cv2
import numpy as np

from livestack.base.frame import FrameInfo, FrameKind
from livestack.detection import MESH_SAMPLES, Sky, StarCatalog
from livestack.quality.judge import Judge
from livestack.quality.reasons import Verdict, refuse

NO_LIGHTS = (FrameKind.BIAS, FrameKind.DARK, FrameKind.FLAT, FrameKind.DARK_FLAT)
TEXTURE_SIGMA = 2.0
"""Scatter that neighbouring pixels share, over what they do not, above which there is a scene: rows and amplifier glow
give a dark 0.5 at most, the terrain of the Moon 10 to 20."""
TEXTURE_SAMPLES = 200_000
BRIGHT_SIGMA = 8.0
"""A patch of some pixels that stands so far above the sky is something: a planet, a sliver of the Moon."""
PATCH_PX = 4
STRUCTURE_SIGMA = 0.6
"""Spread of the sky mesh over a pixel's noise below which there is nothing to see (its own noise is about 0.06)."""


@dataclass(frozen=True)
class ContentStats:
    """What a frame holds.

    Attributes
    ----------
    n_stars : stars found.
    sky_adu, noise_adu : median sky (NaN where no pixel holds a number), noise of one pixel.
    structure : spread (10 to 90 %) of the sky over the frame in units of a pixel's noise: terrain, nebulae, vignetting.
    rounded : the noise is no more than what whole numbers make: the sky of an 8-bit picture, often one value.
    """

    n_stars: int
    sky_adu: float
    noise_adu: float
    structure: float
    rounded: bool = False


def content_stats(sky: Sky, stars: StarCatalog) -> ContentStats:
    """Gather what `not_a_light` asks for from the sky mesh and the catalogue."""
    spreads = []
    for level in sky.level:
        good = level[np.isfinite(level)]
        spreads.append(float(np.subtract(*np.percentile(good, [90, 10]))) if good.size > 3 else 0.0)
    noise = sky.noise_adu
    level_adu = sky.level_adu if np.isfinite(sky.level).any() else math.nan
    rounded = bool(np.all(sky.noise <= sky.rounding))
    return ContentStats(len(stars), level_adu, noise, max(spreads) / noise if noise > 0 else 0.0, rounded)


def shows_something(data: np.ndarray, sky_adu: float, noise_adu: float) -> bool:
    """Whether a patch of some pixels is far brighter than the sky; single hot pixels and cosmic rays are none.

    Parameters
    ----------
    data : (H, W) mono or mosaic, or (3, H, W), ADU.
    sky_adu, noise_adu : level, and sigma of one pixel, of the frame.
    """
    plane = data if data.ndim == 2 else np.mean(data, axis=0, dtype=np.float32)
    height, width = (side // PATCH_PX for side in plane.shape)
    if min(height, width) < 3:
        return False
    small = cv2.resize(np.nan_to_num(plane.astype(np.float32)), (width, height), interpolation=cv2.INTER_AREA)
    return bool(cv2.medianBlur(small, 3).max() > sky_adu + BRIGHT_SIGMA * noise_adu)


def texture(data: np.ndarray, mosaic: bool) -> float:
    """How much neighbouring pixels vary together, in units of how much they vary by themselves; 0 for pure noise.

    The ratio of von Neumann (1941, doi:10.1214/aoms/1177731677): the scatter of all pixels against that of the
    differences of neighbours, both robust, for a mosaic among pixels of one colour.

    Parameters
    ----------
    data : (H, W) mono or mosaic, or (3, H, W), ADU.
    """
    plane = data[1] if data.ndim == 3 else data
    step = 2 if mosaic else 1
    plane = plane[:: step * max(1, plane[::step, ::step].size // TEXTURE_SAMPLES), ::step].astype(np.float64)
    steps = np.diff(plane, axis=1)
    values, steps = plane[np.isfinite(plane)], steps[np.isfinite(steps)]
    if len(steps) == 0:
        return 0.0
    centre, spread = float(np.median(values)), float(values.std())
    for _ in range(5):
        values = values[np.abs(values - centre) <= 3 * spread]
        centre, spread = float(values.mean()), float(values.std())
    alone = float(steps[np.abs(steps) <= 3 * steps.std()].std()) / math.sqrt(2)
    return math.sqrt(max(0.0, (spread / alone) ** 2 - 1)) if alone > 0 else 0.0


def not_a_light(
    info: FrameInfo, content: ContentStats, judge: Judge | None = None, data: np.ndarray | None = None
) -> Verdict | None:
    """Refusal of a frame that is no light, or None.

    Parameters
    ----------
    info : its header; a kind other than light or unknown settles it.
    content : from `content_stats`.
    judge : of the frame's group; knows the usual sky. Without it only a frame that holds nothing at all is refused.
    data : its pixels, (H, W) or (3, H, W) ADU; looked at when stars and sky show nothing (craters smaller than the
        cells of the sky's mesh).
    """
    if info.kind in NO_LIGHTS:
        return refuse("not_a_light", detail=f"its header says {info.kind.value}; put it into the folder of masters")
    if data is not None and content.rounded and shows_something(data, content.sky_adu, content.noise_adu):
        return None
    if content.noise_adu <= 0 and content.n_stars == 0:
        found = (
            f"all its pixels are about {content.sky_adu:.0f} ADU"
            if np.isfinite(content.sky_adu)
            else "it holds no number"
        )
        return refuse("blank", detail=f"{found}; check camera and cable")
    if content.n_stars > 2 or content.structure > STRUCTURE_SIGMA:
        return None
    if data is not None and texture(data, info.bayer is not None) > TEXTURE_SIGMA:
        return None
    usual_sky = judge.usual("sky_adu", info.exposure_s) if judge else None
    usual_noise = judge.usual("noise_adu", info.exposure_s) if judge else None
    if usual_sky is None or usual_noise is None:
        if content.n_stars:
            return None
        return refuse("not_a_light", detail="no stars and nothing else in it: a dark, or the cap is on")
    margin = max(3 * usual_noise * (1.25 / MESH_SAMPLES**0.5), 0.1 * usual_noise)
    if content.sky_adu < usual_sky - margin and content.noise_adu < usual_noise:
        return refuse(
            "not_a_light",
            detail=(
                f"no stars, and the sky is at {content.sky_adu:.0f} ADU instead of {usual_sky:.0f}: "
                "a dark, or the cap is on"
            ),
        )
    return None
