"""Pictures for the report: arrays in, `data:` addresses out, small enough that the page stays light."""

from __future__ import annotations

import base64
import math

import cv2
import numpy as np

from livestack.base.settings import RenderSettings
from livestack.picture import Look, Picture, encode_jpeg, measure_look, reduce_planes, render

STACK_SIDE = 1400
CROP_SIDE = 560
MAP_SIDE = 640
THUMB_SIDE = 200


def jpeg_address(rgb: np.ndarray, quality: int = 82) -> str:
    """`data:` address of a JPEG of (h, w, 3) uint8."""
    return "data:image/jpeg;base64," + base64.b64encode(encode_jpeg(Picture(rgb, 1.0), quality)).decode("ascii")


def draw_pair(
    stack: np.ndarray,
    single: np.ndarray | None,
    settings: RenderSettings,
    bottom_up: bool,
    terraces: np.ndarray | None = None,
) -> tuple[np.ndarray, np.ndarray | None]:
    """Stack and single frame (C, H, W) in one and the same stretch, (h, w, 3) uint8 each, at most `STACK_SIDE` wide.

    The single frame must be on the stack's grid; its sky is brought to the stack's, channel by channel, because it may
    not be calibrated.
    """
    look = look_of(stack, settings, terraces)
    picture = render(stack, look, STACK_SIDE, bottom_up=bottom_up).rgb
    if single is None:
        return picture, None
    return picture, render(same_sky(single, stack), look, STACK_SIDE, bottom_up=bottom_up).rgb


def draw_crop_pair(
    stack: np.ndarray,
    single: np.ndarray,
    settings: RenderSettings,
    bottom_up: bool,
    centre: tuple[int, int],
    terraces: np.ndarray | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """The same at full resolution, around `centre` (x, y in stored pixels)."""
    _, height, width = stack.shape
    w, h = min(CROP_SIDE, width), min(CROP_SIDE * 2 // 3, height)
    x = int(np.clip(centre[0] - w // 2, 0, width - w))
    y = int(np.clip(centre[1] - h // 2, 0, height - h))
    region = (x, height - y - h if bottom_up else y, w, h)
    look = look_of(stack, settings, terraces)
    return (
        render(stack, look, region=region, bottom_up=bottom_up).rgb,
        render(same_sky(single, stack), look, region=region, bottom_up=bottom_up).rgb,
    )


def look_of(stack: np.ndarray, settings: RenderSettings, terraces: np.ndarray | None = None) -> Look:
    """The stretch of a stack."""
    return measure_look(stack, settings, terraces=terraces)


def same_sky(single: np.ndarray, stack: np.ndarray) -> np.ndarray:
    """`single` shifted so that its median in each channel is the stack's; (C, H, W) float32."""
    step = max(1, max(stack.shape) // 800)
    shift = [
        float(np.nanmedian(s[::step, ::step]) - np.nanmedian(f[::step, ::step]))
        for s, f in zip(stack, single, strict=True)
    ]
    return np.asarray(
        single + np.array([d if math.isfinite(d) else 0.0 for d in shift], dtype=np.float32)[:, None, None]
    )


def draw_thumbnail(planes: np.ndarray, bottom_up: bool = False) -> np.ndarray:
    """A frame (C, H, W) with a stretch of its own, `THUMB_SIDE` wide at most."""
    small, _ = reduce_planes(planes, THUMB_SIDE)
    if not np.isfinite(small).any():
        small = np.zeros_like(small)  # refused because it holds no number: black
    low, high = np.nanpercentile(small, 1), np.nanpercentile(small, 99.7)
    level = np.clip((small - low) / max(float(high - low), 1e-9), 0, 1) ** 0.5
    rgb = np.nan_to_num(np.broadcast_to(level, (3, *level.shape[1:]))).transpose(1, 2, 0)
    return np.ascontiguousarray((255 * (rgb[::-1] if bottom_up else rgb)).astype(np.uint8))


def draw_map(values: np.ndarray, low: float, high: float, bottom_up: bool) -> np.ndarray:
    """A map (H, W) in false colours from `low` to `high`, `MAP_SIDE` wide at most; NaN is black."""
    small, _ = reduce_planes(np.ascontiguousarray(values[None], dtype=np.float32), MAP_SIDE)
    level = np.clip((small[0] - low) / max(high - low, 1e-9), 0, 1)
    rgb = cv2.cvtColor(
        cv2.applyColorMap((255 * np.nan_to_num(level)).astype(np.uint8), cv2.COLORMAP_CIVIDIS), cv2.COLOR_BGR2RGB
    )
    rgb[~np.isfinite(small[0])] = 0
    return np.ascontiguousarray(rgb[::-1] if bottom_up else rgb)


def draw_kernel(kernel: np.ndarray, side: int = 280) -> np.ndarray:
    """The PSF as a picture: square root of its height, each pixel enlarged to a square."""
    level = np.sqrt(kernel / kernel.max())
    rgb = cv2.cvtColor(cv2.applyColorMap((255 * level).astype(np.uint8), cv2.COLORMAP_CIVIDIS), cv2.COLOR_BGR2RGB)
    return np.asarray(cv2.resize(rgb, (side, side), interpolation=cv2.INTER_NEAREST))
