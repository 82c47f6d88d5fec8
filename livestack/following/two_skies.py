"""A stack of what stands and a stack of what moves, each taken off the frames before they go into the other.

The model of the stars is their stack without its sky, where it stands above its noise. The model of the object is its
stack within the radius to which its light reaches, smoothed the more the fainter it is. Where a model may be wrong by
more than the noise of a frame (seeing, registration: a share of its sharp part) the frame's samples are left out.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import cv2
import numpy as np

from livestack.registration import transform as tf
from livestack.registration.distortion import Distortion, terms, to_frame, to_reference
from livestack.stacking.accumulators import Stack
from livestack.stacking.canvas import Canvas
from livestack.stacking.normalisation import Normalisation

SHARP_ERROR, LEVEL_ERROR = 0.10, 0.02
"""Share of a model's sharp part, and of the model, that a frame may differ by."""
MASKED_AT = 1.0
"""Samples are left out where that is more than so many times a frame's noise."""
STAR_SIGNIFICANCE = 3.0
LEFT_OF_OBJECT = 0.25
MESH_PX, MESH_STEP = 48, 3
"""Side of its cells, and every which pixel is looked at."""
SPREAD_STEP = 4
LEVELS_PX = (0.0, 1.5, 3.0, 6.0, 12.0)
LEVEL_SNR = 6.0
"""The finest smoothing at which the object stands so far above its stack's noise is taken."""
LEAST_RADIUS_FWHM = 4.0
INNER, OUTER, RING_PIXELS = 0.9, 1.15, 20_000
"""The sky about the object is that of a ring, radii in units of the object's, so many pixels of it: just where the
model ends, for a coma that goes on beyond would else end in a step."""
TAIL_SKY = 1.5
"""Along a tail the sky is that of farther out from so many radii on."""
SECTORS, SECTOR_PIXELS, SECTOR_SIGMAS, SECTOR_SAMPLES = 32, 25, 4.0, 500_000
"""Directions in which a tail is looked for, by medians of so many pixels or more, so far above those of the sky; about
so many pixels are looked at in all."""
CUBIC = tuple((p, q) for p in range(4) for q in range(4 - p))
REMAP_NODES = 33


@dataclass(frozen=True, eq=False)
class Model:
    """Light on a stack's canvas.

    Attributes
    ----------
    light : (C, h, w) float32, ADU on the reference's scale; NaN where it is not to be trusted.
    canvas : the rectangle of the grid that it fills; outside there is none.
    """

    light: np.ndarray
    canvas: Canvas


def star_model(stack: Stack, noise: np.ndarray, sharp_error: float = SHARP_ERROR, passed: Model | None = None) -> Model:
    """What stands, without the sky.

    Parameters
    ----------
    noise : (C,) of a frame's sample, ADU on the reference's scale; sharp_error : share of the model's sharp part.
    passed : the most that the object has shone on each place: what is much fainter than that there may be left of it.
    """
    light = np.empty_like(stack.mean)
    for c, (plane, weight) in enumerate(zip(stack.mean, stack.weight, strict=True)):
        known = weight > 0
        filled = np.where(known, plane, np.float32(0.0))
        above = filled - _sky_of(filled, known)
        rough = cv2.GaussianBlur(above, (0, 0), 1.0)
        some = rough[::SPREAD_STEP, ::SPREAD_STEP][known[::SPREAD_STEP, ::SPREAD_STEP]]
        spread = 1.4826 * float(np.median(np.abs(some))) if some.size else 0.0
        bright = (rough > STAR_SIGNIFICANCE * spread) & known
        if passed is not None:
            rows, columns = stack.canvas.slices(passed.canvas)
            bright[rows, columns] &= rough[rows, columns] > LEFT_OF_OBJECT * passed.light[c]
        bright = cv2.dilate(bright.astype(np.uint8), np.ones((3, 3), np.uint8)).astype(bool)
        light[c] = _masked(np.where(bright, above, np.float32(0.0)), float(noise[c]), sharp_error)
        light[c][~known] = 0.0
    return Model(light, stack.canvas)


def object_models(
    stack: Stack, x: float, y: float, fwhm_px: float, noise: np.ndarray, sharp_error: float = SHARP_ERROR
) -> tuple[Model, Model]:
    """What moves, within the radius that its light reaches: to be taken off frames, and, nothing masked, to be shown.

    Parameters
    ----------
    x, y : of its nucleus on the reference's grid, px; fwhm_px : of stars.
    noise, sharp_error : as in `star_model`.
    """
    canvas = stack.canvas
    cx, cy = x - canvas.left, y - canvas.top
    radius = _radius_of(stack, cx, cy, fwhm_px)
    outside = _look_outside(stack, cx, cy, radius)
    farthest = float(outside.reach.max())
    x0, x1 = max(0, math.floor(cx - farthest)), min(canvas.width, math.ceil(cx + farthest) + 1)
    y0, y1 = max(0, math.floor(cy - farthest)), min(canvas.height, math.ceil(cy + farthest) + 1)
    if x0 >= x1 or y0 >= y1:
        none = Model(np.zeros((stack.shape[0], 1, 1), np.float32), replace(canvas, height=1, width=1))
        return none, none
    box = replace(canvas, left=canvas.left + x0, top=canvas.top + y0, width=x1 - x0, height=y1 - y0)
    dx, dy = np.arange(x0, x1, dtype=np.float32) - cx, (np.arange(y0, y1, dtype=np.float32) - cy)[:, None]
    r, turn = np.hypot(dx, dy), np.arctan2(dy, dx) * np.float32(SECTORS / (2 * math.pi))
    # sectors are in the middle of their reach; in between it goes straight from one to the next
    limit = np.interp(turn % SECTORS, np.arange(SECTORS + 1), np.append(outside.reach, outside.reach[0])).astype(
        np.float32
    )
    edge = np.clip((limit - r) / (0.15 * limit), 0.0, 1.0)
    light = np.empty((stack.shape[0], y1 - y0, x1 - x0), dtype=np.float32)
    shown = np.empty_like(light)
    for c in range(stack.shape[0]):
        known = stack.weight[c, y0:y1, x0:x1] > 0
        level = _level_around(stack, c, cx, cy, radius)
        sky = level[0] + level[1] * dx + level[2] * dy
        if farthest > radius:
            away = np.clip((r - radius) / ((TAIL_SKY - 1.0) * radius), 0.0, 1.0)
            sky = (1.0 - away) * sky + away * outside.sky(c, dx, dy)
        plane = np.where(known, stack.mean[c, y0:y1, x0:x1] - sky, 0.0).astype(np.float32)
        smooth = _adaptively(plane, known, r)
        shown[c] = smooth * edge
        light[c] = _masked(smooth, float(noise[c]), sharp_error) * edge
        light[c][~known & (r < LEAST_RADIUS_FWHM * fwhm_px)] = np.nan
    return Model(light, box), Model(shown, box)


def paint(image: np.ndarray, canvas: Canvas, model: Model, scale: float = 1.0) -> None:
    """Add a model's light to a picture (C, h, w) of a canvas that is `scale` times smaller, to the nearest pixel."""
    left, top = round((model.canvas.left - canvas.left) / scale), round((model.canvas.top - canvas.top) / scale)
    for plane, light in zip(image, model.light, strict=True):
        size = max(1, round(light.shape[1] / scale)), max(1, round(light.shape[0] / scale))
        small = light if scale == 1.0 else cv2.resize(light, size, interpolation=cv2.INTER_AREA)
        x0, y0 = max(0, left), max(0, top)
        x1, y1 = min(plane.shape[1], left + small.shape[1]), min(plane.shape[0], top + small.shape[0])
        if x0 < x1 and y0 < y1:
            plane[y0:y1, x0:x1] += small[y0 - top : y1 - top, x0 - left : x1 - left]


def passed_over(model: Model, shifts: np.ndarray, canvas: Canvas) -> Model:
    """The most that a model's light has shone on each place of a canvas, moved by each of `shifts` (n, 2), px."""
    steps = np.unique(np.round(shifts).astype(int), axis=0)
    box = model.canvas
    left, top = box.left + steps[:, 0].min(), box.top + steps[:, 1].min()
    right, bottom = box.left + box.width + steps[:, 0].max(), box.top + box.height + steps[:, 1].max()
    x0, y0 = max(left, canvas.left), max(top, canvas.top)
    x1, y1 = min(right, canvas.left + canvas.width), min(bottom, canvas.top + canvas.height)
    if x0 >= x1 or y0 >= y1:
        return Model(np.zeros((len(model.light), 1, 1), np.float32), replace(canvas, width=1, height=1))
    most = np.zeros((len(model.light), bottom - top, right - left), dtype=np.float32)
    for dx, dy in steps:
        x, y = box.left + dx - left, box.top + dy - top
        part = most[:, y : y + box.height, x : x + box.width]
        np.maximum(part, model.light, out=part)
    inside = most[:, y0 - top : y1 - top, x0 - left : x1 - left]
    return Model(np.ascontiguousarray(inside), replace(canvas, left=x0, top=y0, width=x1 - x0, height=y1 - y0))


def subtract(
    planes: np.ndarray, model: Model, matrix: np.ndarray, normalisation: Normalisation, distortion: Distortion | None,
    blur: float = 0.0,
) -> np.ndarray:  # fmt: skip
    """A frame's planes (C, h, w) without a model's light, NaN where the model is not to be trusted; a copy.

    Parameters
    ----------
    matrix, distortion : frame -> the model's grid; normalisation : of the frame.
    blur : how much wider the frame's stars are than the model's: half the difference of sigma^2, px^2. Light that is
        spread so much wider is itself and so many times its Laplacian.
    """
    out = planes.copy()
    box = _footprint(model.canvas, matrix, distortion, planes.shape[1:])
    if box is None:
        return out
    y0, y1, x0, x1 = box
    for c, light in enumerate(model.light):
        seen = _seen(light, model.canvas, matrix, distortion, y0, y1, x0, x1)
        if blur:
            seen = seen + np.float32(blur) * cv2.Laplacian(seen, cv2.CV_32F, ksize=1)
        out[c, y0:y1, x0:x1] -= seen / np.float32(normalisation.factor[c])
    return out


def moved(matrix: np.ndarray, distortion: Distortion | None, shift: np.ndarray) -> tuple[np.ndarray, Distortion | None]:
    """Where a frame lies on the grid of an object that has gone by `shift` (2,) px since the epoch."""
    there = tf.similarity(1.0, 0.0, -shift[0], -shift[1]) @ matrix
    if distortion is not None:
        centre = distortion.centre[0] - float(shift[0]), distortion.centre[1] - float(shift[1])
        distortion = replace(distortion, centre=centre)
    return there, distortion


def moved_sky(normalisation: Normalisation, shift: np.ndarray, field: tuple[int, int]) -> Normalisation:
    """What brings a frame to the reference's brightness, on the grid of such an object.

    Parameters
    ----------
    field : (height, width) of the reference, over which smooth surfaces are given.
    """
    u, v = (axis.ravel() for axis in np.meshgrid(np.linspace(-1, 1, 6), np.linspace(-1, 1, 6)))
    du, dv = 2.0 * shift[0] / max(1, field[1] - 1), 2.0 * shift[1] / max(1, field[0] - 1)
    # a cubic that is moved is a cubic: its coefficients follow exactly from its values
    values = terms(u + du, v + dv) @ normalisation.surface.T
    surface = np.linalg.lstsq(terms(u, v), values, rcond=None)[0].T
    reach = normalisation.reach
    known = reach[0] - du, reach[1] - du, reach[2] - dv, reach[3] - dv
    return replace(normalisation, surface=surface, reach=known)


def _masked(light: np.ndarray, noise: float, sharp_error: float) -> np.ndarray:
    """NaN where a frame may differ from the model by more than its noise."""
    sharp = np.abs(light - cv2.blur(light, (5, 5)))
    error = sharp_error * sharp + LEVEL_ERROR * np.abs(light)
    return np.where(error > MASKED_AT * noise, np.float32(np.nan), light).astype(np.float32)


def _sky_of(plane: np.ndarray, known: np.ndarray) -> np.ndarray:
    """(H, W) a smooth sky: medians of a mesh, of 3 x 3 of those, a cubic in between, straight on to the edges."""
    height, width = plane.shape
    side = min(MESH_PX, height, width)
    rows, columns = max(2, math.ceil(height / MESH_PX)), max(2, math.ceil(width / MESH_PX))
    first = [np.round(np.linspace(0, size - side, n)).astype(int) for size, n in ((height, rows), (width, columns))]
    ys, xs = ((start[:, None] + np.arange(0, side, MESH_STEP)).ravel() for start in first)
    grid = np.ix_(ys, xs)
    values = np.where(known[grid], plane[grid], np.float32(np.nan))
    blocks = values.reshape(rows, -1, columns, len(xs) // columns).transpose(0, 2, 1, 3).reshape(rows, columns, -1)
    whole = np.isfinite(blocks).all(axis=-1)
    mesh = np.zeros((rows, columns), dtype=np.float32)
    mesh[whole] = np.median(blocks[whole], axis=-1)
    for y, x in np.argwhere(~whole & np.isfinite(blocks).any(axis=-1)):
        mesh[y, x] = np.nanmedian(blocks[y, x])
    if min(mesh.shape) >= 3:
        mesh = cv2.medianBlur(mesh, 3)
    padded = (
        np.pad(mesh, 2, mode="reflect", reflect_type="odd") if min(mesh.shape) > 2 else np.pad(mesh, 2, mode="edge")
    )
    up, across = (rows - 1) / max(1, height - side), (columns - 1) / max(1, width - side)
    middle = (side - 1) / 2
    onto = np.array([[across, 0.0, 2 - middle * across], [0.0, up, 2 - middle * up]])
    flags = cv2.INTER_CUBIC | cv2.WARP_INVERSE_MAP
    return np.asarray(cv2.warpAffine(padded, onto, (width, height), flags=flags, borderMode=cv2.BORDER_REPLICATE))


def _rings(stack: Stack, c: int, cx: float, cy: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Radii, medians and their errors of rings around a place."""
    _, height, width = stack.shape
    step = 2 if max(height, width) > 1500 else 1
    plane, known = stack.mean[c, ::step, ::step], stack.weight[c, ::step, ::step] > 0
    r = np.hypot(np.arange(0, width, step) - cx, (np.arange(0, height, step) - cy)[:, None])
    farthest = 0.9 * max(min(max(cx, width - cx), max(cy, height - cy)), 20.0)
    inside = known & (r < farthest)
    number = (np.sqrt(r[inside]) * 2.0).astype(int)  # wider and wider
    values = plane[inside]
    order = np.argsort(number, kind="stable")
    number, values, radius = number[order], values[order], r[inside][order]
    starts = np.flatnonzero(np.r_[True, number[1:] != number[:-1]])
    pieces = np.split(np.arange(len(number)), starts[1:])
    middle, error, at = [], [], []
    for piece in pieces:
        if len(piece) < 6:
            continue
        inner = float(np.median(values[piece]))
        spread = 1.4826 * float(np.median(np.abs(values[piece] - inner)))
        middle.append(inner)
        error.append(1.2533 * spread / math.sqrt(len(piece)))
        at.append(float(np.median(radius[piece])))
    return np.array(at), np.array(middle), np.array(error)


def _radius_of(stack: Stack, cx: float, cy: float, fwhm_px: float) -> float:
    """How far the light reaches: to where rings are no brighter than those far out, px."""
    reach = LEAST_RADIUS_FWHM * fwhm_px
    for c in range(stack.shape[0]):
        at, middle, error = _rings(stack, c, cx, cy)
        if len(at) < 8:
            continue
        far = at > 0.6 * at[-1]
        level = float(np.median(middle[far]))
        wander = 1.4826 * float(np.median(np.abs(middle[far] - level)))
        above = middle - level > 3.0 * np.hypot(error, wander) + 1e-9
        below = np.flatnonzero(~above & (at > reach))
        reach = max(reach, float(at[below[0]]) if len(below) else float(at[-1]) * 0.8)
    return 1.3 * reach


@dataclass(frozen=True, eq=False)
class _Outside:
    """What lies beyond the round part of an object.

    Attributes
    ----------
    reach : (SECTORS,) how far the light reaches in each direction, px: a tail goes farther than the rest.
    skies : (C, 10) a cubic of the sky out there, in units of `scale` px from the nucleus.
    """

    reach: np.ndarray
    skies: np.ndarray
    scale: float

    def sky(self, c: int, dx: np.ndarray, dy: np.ndarray) -> np.ndarray:
        """(h, w) of a channel at distances dx (w,) and dy (h, 1)."""
        powers = [(dx / self.scale) ** p * (dy / self.scale) ** q for p, q in CUBIC]
        return np.asarray(sum(k * power for k, power in zip(self.skies[c], powers, strict=True)))


def _look_outside(stack: Stack, cx: float, cy: float, radius: float) -> _Outside:
    """Medians of sectors in rings: a cubic through those beyond a radius is the sky; a tail is what stands above it in
    one ring after the other, from there on."""
    channels, height, width = stack.shape
    step = max(1, round(math.sqrt(height * width / SECTOR_SAMPLES)))
    dx, dy = np.arange(0, width, step) - cx, (np.arange(0, height, step) - cy)[:, None]
    r = np.hypot(dx, dy)
    sector = np.round(np.arctan2(dy, dx) * (SECTORS / (2 * math.pi))).astype(int) % SECTORS
    ring = (np.sqrt(r) * 2.0).astype(int)  # wider and wider
    n_rings = int(ring.max()) + 1
    at = (np.arange(n_rings) / 2.0 + 0.25) ** 2
    turn = np.arange(SECTORS)[:, None] * (2 * math.pi / SECTORS)
    x, y = (at * np.cos(turn) / at[-1]).ravel(), (at * np.sin(turn) / at[-1]).ravel()
    design = np.column_stack([x**p * y**q for p, q in CUBIC])
    reach, skies = np.full(SECTORS, radius), np.zeros((channels, len(CUBIC)))
    first = int(2.0 * math.sqrt(radius)) + 1
    for c in range(channels):
        known = stack.weight[c, ::step, ::step] > 0
        values, key = stack.mean[c, ::step, ::step][known], (sector * n_rings + ring)[known]
        order = np.argsort(key, kind="stable")
        ends = np.searchsorted(key[order], np.arange(SECTORS * n_rings + 1))
        middle = np.full(SECTORS * n_rings, np.nan)
        for k in np.flatnonzero(np.diff(ends) >= SECTOR_PIXELS):
            middle[k] = np.median(values[order[ends[k] : ends[k + 1]]])
        found = _fit_sky(design, middle, np.isfinite(middle) & np.tile(at > radius, SECTORS))
        if found is None:
            continue
        skies[c], above = found[0], found[1].reshape(SECTORS, n_rings)
        for s in range(SECTORS):
            beyond = first
            while beyond < n_rings and above[s, beyond] > SECTOR_SIGMAS:
                beyond += 1
            if beyond > first:
                reach[s] = max(reach[s], 1.3 * (beyond / 2.0) ** 2)
    # a tail lies across two sectors, as likely as not
    reach = np.maximum(reach, np.maximum(np.roll(reach, 1), np.roll(reach, -1)))
    return _Outside(reach, skies, float(at[-1]))


def _fit_sky(design: np.ndarray, values: np.ndarray, use: np.ndarray) -> tuple[np.ndarray, np.ndarray] | None:
    """Coefficients through `use`, outliers left out; and how far all are above, in units of the scatter about it."""
    fitted: tuple[np.ndarray, np.ndarray] | None = None
    for _ in range(5):
        if use.sum() < 2 * SECTORS:
            break
        coefficients = np.linalg.lstsq(design[use], values[use], rcond=None)[0]
        off = values - design @ coefficients
        scatter = 1.4826 * float(np.median(np.abs(off[use]))) + 1e-9
        fitted = coefficients, off / scatter
        use = use & (np.abs(off) < 3.0 * scatter)
    return fitted


def _level_around(stack: Stack, c: int, cx: float, cy: float, radius: float) -> np.ndarray:
    """(3,) the sky about the object: its level at (cx, cy), and its slopes along x and y; a plane fitted to a ring."""
    _, height, width = stack.shape
    x0, x1 = max(0, round(cx - OUTER * radius)), min(width, round(cx + OUTER * radius))
    y0, y1 = max(0, round(cy - OUTER * radius)), min(height, round(cy + OUTER * radius))
    step = max(1, round(math.sqrt(max(1, (y1 - y0) * (x1 - x0)) / RING_PIXELS)))
    y, x = np.mgrid[y0:y1:step, x0:x1:step]
    dx, dy = x - cx, y - cy
    r = np.hypot(dx, dy)
    use = (r > INNER * radius) & (r < OUTER * radius) & (stack.weight[c, y0:y1:step, x0:x1:step] > 0)
    if use.sum() < 50:
        return np.zeros(3)
    values = stack.mean[c, y0:y1:step, x0:x1:step][use].astype(float)
    quadrants = np.bincount((dx[use] > 0).astype(int) * 2 + (dy[use] > 0), minlength=4)
    design = np.column_stack([np.ones(len(values)), dx[use], dy[use]])
    if quadrants.min() < 0.1 * len(values):  # the ring is cut: a slope would be a guess
        design = design[:, :1]
    keep = np.abs(values - np.median(values)) < 4 * 1.4826 * np.median(np.abs(values - np.median(values))) + 1e-9
    plane = np.zeros(3)
    for _ in range(4):
        found = np.linalg.lstsq(design[keep], values[keep], rcond=None)[0]
        off = np.abs(values - design @ found)
        keep = off < 3 * 1.4826 * np.median(off) + 1e-9
        plane[: len(found)] = found
    return plane


def _adaptively(plane: np.ndarray, known: np.ndarray, r: np.ndarray) -> np.ndarray:
    """The finest of several smoothings at which each place stands out of the noise; as it is near the nucleus."""
    weight = known.astype(np.float32)
    rough = plane - cv2.GaussianBlur(plane, (0, 0), 2.0)
    noise = 1.4826 * float(np.median(np.abs(rough[known]))) if known.any() else 0.0
    result = plane.copy()
    done = np.zeros(plane.shape, dtype=bool)
    for sigma in LEVELS_PX:
        if sigma == 0:
            smooth, left = plane, noise
        else:
            smooth = cv2.GaussianBlur(plane * weight, (0, 0), sigma) / np.maximum(
                cv2.GaussianBlur(weight, (0, 0), sigma), np.float32(0.05)
            )
            left = noise * 1.3 / (2 * math.sqrt(math.pi) * sigma)
        coarse = sigma == LEVELS_PX[-1]
        # what is smoothed must be smooth over that: the coma's brightness goes with its radius
        good = ((np.abs(smooth) > LEVEL_SNR * left) | coarse) & ((r > 6 * sigma) | (sigma == 0)) & ~done
        result[good] = smooth[good]
        done |= good
    return result


def _footprint(
    canvas: Canvas, matrix: np.ndarray, distortion: Distortion | None, shape: tuple[int, ...]
) -> tuple[int, int, int, int] | None:
    """(y0, y1, x0, x1) of a frame in which a rectangle of the grid is seen; None where it is not."""
    steps = np.linspace(0, 1, 9)
    grid = np.stack(np.meshgrid(canvas.left + steps * (canvas.width - 1), canvas.top + steps * (canvas.height - 1)), -1)
    places = to_frame(matrix, distortion, grid.reshape(-1, 2))
    height, width = shape[-2:]
    x0, y0 = np.floor(places.min(axis=0)).astype(int) - 2
    x1, y1 = np.ceil(places.max(axis=0)).astype(int) + 3
    x0, y0, x1, y1 = max(0, x0), max(0, y0), min(width, x1), min(height, y1)
    return (y0, y1, x0, x1) if x0 < x1 and y0 < y1 else None


def _seen(
    light: np.ndarray, canvas: Canvas, matrix: np.ndarray, distortion: Distortion | None, y0: int, y1: int, x0: int,
    x1: int,
) -> np.ndarray:  # fmt: skip
    """(y1 - y0, x1 - x0) a plane of the grid as the frame sees it."""
    size = (x1 - x0, y1 - y0)
    if distortion is None:
        onto = (canvas.from_reference @ matrix @ tf.similarity(1.0, 0.0, x0, y0))[:2]
        flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
        return np.asarray(cv2.warpAffine(light, onto, size, flags=flags, borderValue=0.0))
    nodes = np.stack(
        np.meshgrid(np.linspace(x0, x1 - 1, REMAP_NODES), np.linspace(y0, y1 - 1, REMAP_NODES)), axis=-1
    ).reshape(-1, 2)
    there = to_reference(matrix, distortion, nodes) - (canvas.left, canvas.top)
    coarse = there.reshape(REMAP_NODES, REMAP_NODES, 2).astype(np.float32)
    u = np.linspace(0, REMAP_NODES - 1, size[0], dtype=np.float32)
    v = np.linspace(0, REMAP_NODES - 1, size[1], dtype=np.float32)
    lines = np.meshgrid(u, v)
    maps = [cv2.remap(np.ascontiguousarray(coarse[..., k]), lines[0], lines[1], cv2.INTER_LINEAR) for k in (0, 1)]
    seen = cv2.remap(light, maps[0], maps[1], cv2.INTER_LINEAR, borderMode=cv2.BORDER_CONSTANT, borderValue=0.0)
    return np.asarray(seen)
