"""What moves through a simulated night: comets, asteroids, a nova, and all that crosses single frames, with its truth.

Places and rates are those of the reference grid; what crosses a single frame is placed in that frame. All of it is
light of its own that is added to a frame with photon noise of its own, so that the twin has the very same sky without.
"""

from __future__ import annotations

import math
from typing import Literal

import numpy as np
from pydantic import Field

from livestack.base.settings import Section
from livestack.kernels.simulate import add_stars, add_streak

SIGMA_OF_FWHM = 1 / 2.3548200450309493
PassingKind = Literal["satellite", "train", "geostationary", "aircraft", "meteor"]
STEP_PX = 4.0
"""The brightness along a streak is told at every so many pixels."""
COMA_REACH = 6.0
"""A coma is drawn out to so many of its scale lengths."""


class Mover(Section):
    """A comet or an asteroid: it moves at an even rate over the reference."""

    kind: Literal["asteroid", "comet"] = Field("asteroid", description="a point, or a nucleus with coma and tail")
    x: float = Field(description="reference px at the middle of the first exposure")
    y: float = Field(description="reference px at the middle of the first exposure")
    rate_px_min: float = Field(1.0, ge=0, description="pixels a minute")
    angle_deg: float = Field(0.0, description="direction of the motion, from +x to +y")
    flux_e: float = Field(3000.0, ge=0, description="electrons of the asteroid, or the nucleus, in one exposure")
    coma_e: float = Field(0.0, ge=0, description="electrons a pixel of the coma at its scale length")
    coma_px: float = Field(30.0, gt=0, description="scale length of the coma: its light falls as exp(-r/it)/r")
    tail_e: float = Field(0.0, ge=0, description="electrons a pixel of the tail at its root")
    tail_px: float = Field(150.0, gt=0, description="scale length of the tail")
    tail_deg: float = Field(200.0, description="direction of the tail")

    def place(self, minutes: float) -> tuple[float, float]:
        """Reference (x, y) so many minutes after the middle of the first exposure."""
        angle, way = math.radians(self.angle_deg), self.rate_px_min * minutes
        return self.x + way * math.cos(angle), self.y + way * math.sin(angle)


class Newcomer(Section):
    """A star that was not there before: a nova."""

    x: float = Field(description="reference px")
    y: float = Field(description="reference px")
    first: int = Field(ge=0, description="first frame that shows it")
    flux_e: float = Field(5000.0, gt=0, description="electrons in one exposure")


class Passing(Section):
    """Something that crosses one frame, or a few one after the other."""

    kind: PassingKind
    frame: int = Field(ge=0, description="the frame that it crosses, counted from 0")
    frames: int = Field(1, ge=1, description="so many frames in a row, each where the one before left off")
    peak_sigma: float = Field(15.0, gt=0, description="brightest pixel in sigma of the sky noise")
    x: float | None = Field(None, description="frame px of its middle; None: by chance")
    y: float | None = Field(None, description="frame px of its middle; None: by chance")
    angle_deg: float | None = Field(None, description="its direction; None: by chance")
    length_px: float | None = Field(None, gt=0, description="None: right across; by chance for what is short")
    number: int = Field(1, ge=1, le=60, description="so many beside each other, of a train")


def passing_line(
    one: Passing, index: int, draw: np.random.Generator, size: tuple[int, int]
) -> tuple[float, float, float, float]:
    """Ends (x0, y0, x1, y1) in the frame, in the direction of the motion; they may lie outside.

    Parameters
    ----------
    index : of the frame, which may be a later one of several; `size` (width, height).
    """
    width, height = size
    x = draw.uniform(0.25, 0.75) * width if one.x is None else one.x
    y = draw.uniform(0.25, 0.75) * height if one.y is None else one.y
    angle = draw.uniform(0, 2 * math.pi) if one.angle_deg is None else math.radians(one.angle_deg)
    across = 2.5 * math.hypot(width, height)
    short = {"meteor": draw.uniform(0.15, 0.6) * width, "geostationary": draw.uniform(0.06, 0.2) * width}
    length = one.length_px if one.length_px is not None else short.get(one.kind, across)
    shift = (index - one.frame) * length * 1.02
    cos, sin = math.cos(angle), math.sin(angle)
    x, y = x + shift * cos, y + shift * sin
    return x - cos * length / 2, y - sin * length / 2, x + cos * length / 2, y + sin * length / 2


def draw_passing(
    one: Passing, index: int, draw: np.random.Generator, image: np.ndarray, fwhm_px: float, noise_e: float
) -> list[dict[str, object]]:
    """Add it to `image` (H, W) float32, electrons; what is told of it."""
    height, width = image.shape
    x0, y0, x1, y1 = passing_line(one, index, draw, (width, height))
    length = math.hypot(x1 - x0, y1 - y0)
    cos, sin = (x1 - x0) / length, (y1 - y0) / length
    sigma, peak = fwhm_px * SIGMA_OF_FWHM, one.peak_sigma * noise_e
    along = np.arange(0.0, length + 2 * STEP_PX, STEP_PX)
    share = along / length
    lights: list[tuple[float, float, np.ndarray]] = []  # offset across, sigma, brightness
    if one.kind == "aircraft":
        gap, dash, lit = draw.uniform(4, 9) * sigma, draw.uniform(40, 90), draw.uniform(0.1, 0.25)
        steady = np.full(along.shape, peak / 2)
        strobe = np.where((along / dash) % 1.0 < lit, peak, 0.0)
        lights = [(-gap / 2, 1.5 * sigma, steady), (gap / 2, 1.5 * sigma, steady), (0.0, 2.0 * sigma, strobe)]
    elif one.kind == "meteor":
        rise, burst = draw.uniform(0.45, 0.75), draw.uniform(0.0, 0.5)
        shape = np.where(share < rise, share / rise, np.maximum(1 - share, 0) / (1 - rise))
        shape = np.clip(shape, 0, 1) ** 1.2 + burst * np.exp(-(((share - rise) / 0.06) ** 2))
        lights = [(0.0, sigma * draw.uniform(1.0, 1.3), peak * shape / shape.max())]
    else:
        swing = draw.uniform(0, 0.2)
        steady = peak * (1 + swing * np.sin(along * 0.006 + draw.uniform(0, 6))) / (1 + swing)
        number = one.number if one.kind == "train" else 1
        offsets = np.arange(number) * draw.uniform(14, 30) if number > 1 else np.zeros(1)
        lights = [(float(offset), sigma * 1.05, steady) for offset in offsets - offsets.mean()]
    told: list[dict[str, object]] = []
    for offset, wide, profile in lights:
        dx, dy = -sin * offset, cos * offset
        add_streak(image, x0 + dx, y0 + dy, x1 + dx, y1 + dy, wide, STEP_PX, profile.astype(np.float64))
        if one.kind != "aircraft":
            told.append({"kind": one.kind, "ends": [x0 + dx, y0 + dy, x1 + dx, y1 + dy], "peak_sigma": one.peak_sigma})
    return told or [{"kind": one.kind, "ends": [x0, y0, x1, y1], "peak_sigma": one.peak_sigma}]


def draw_points(
    image: np.ndarray, places: np.ndarray, flux_e: np.ndarray, fwhm_px: float, beta: float, channel: np.ndarray
) -> None:
    """Add points of light (n, 2) of so many electrons each to `image`, in place; white."""
    alpha = np.full(len(places), fwhm_px / (2 * math.sqrt(2 ** (1 / beta) - 1)))
    flux = np.repeat(np.asarray(flux_e, float)[:, None], 3, axis=1)
    add_stars(image, places[:, 0].copy(), places[:, 1].copy(), flux, alpha, beta, 1.0, 0.0, channel, 0.02)


def draw_comet(image: np.ndarray, mover: Mover, place: tuple[float, float], linear: np.ndarray, fwhm_px: float) -> None:
    """Add coma and tail to `image` (H, W) float32, in place.

    Parameters
    ----------
    place : of the nucleus in the frame; linear : (2, 2) frame -> reference, for the tail's direction.
    """
    height, width = image.shape
    reach = COMA_REACH * max(mover.coma_px, mover.tail_px if mover.tail_e else 0.0)
    left, right = max(0, int(place[0] - reach)), min(width, int(place[0] + reach) + 2)
    top, bottom = max(0, int(place[1] - reach)), min(height, int(place[1] + reach) + 2)
    if left >= right or top >= bottom:
        return
    x = np.arange(left, right, dtype=np.float32) - np.float32(place[0])
    y = np.arange(top, bottom, dtype=np.float32)[:, None] - np.float32(place[1])
    softened = np.sqrt(x * x + y * y + np.float32(fwhm_px * fwhm_px))
    part = image[top:bottom, left:right]
    if mover.coma_e:
        part += np.float32(mover.coma_e * mover.coma_px * math.e) * np.exp(-softened / mover.coma_px) / softened
    if mover.tail_e:
        u, v = linear[0, 0] * x + linear[0, 1] * y, linear[1, 0] * x + linear[1, 1] * y
        angle = math.radians(mover.tail_deg)
        along, across = u * math.cos(angle) + v * math.sin(angle), v * math.cos(angle) - u * math.sin(angle)
        wide = 0.6 * fwhm_px + 0.12 * np.maximum(along, 0)
        light = np.exp(-np.maximum(along, 0) / mover.tail_px - 0.5 * (across / wide) ** 2) / (
            1 + np.exp(-2 * np.maximum(along, -20))
        )
        part += (mover.tail_e * light).astype(np.float32)
