"""A bright disc on a black sky (planet, Moon, eclipse, Sun): where its middle is, by its limb.

The outline at half the disc's brightness is taken to a fraction of a pixel: blur moves it as far out on one side as on
the other, and a darker pole moves it alike in all frames. Where it closes it is an ellipse (planets are flattened) that
takes all of it, else the circle that most of it lies on: a terminator or the Earth's shadow is no part of that.
Consensus as in Fischler & Bolles 1981 (doi:10.1145/358669.358692), seeded; the circle itself by Kasa 1976
(doi:10.1109/TIM.1976.6312298).
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import cv2
import numpy as np

BLACK_SHARE = 0.04
"""The sky around a disc is darker than this share of the disc's brightness; a Moon that fills the frame has none."""
LEAST_RADIUS_PX = 8.0
LEAST_ARC = 0.3
"""Share of the full circle that has to be seen."""
LEAST_SUPPORT = 0.4
MOST_SPREAD = 1.4
"""Area at half the level of the outline over that within it: the edge is sharp, not the slope of a galaxy's core."""
TOLERANCE_PX = 1.0
TRIALS = 400
HELD_WITHIN = 0.08
"""Discs whose radii differ by less are the same one, seen through other air."""


@dataclass(frozen=True)
class Disc:
    """A disc, or the part of one that is lit.

    Attributes
    ----------
    x, y : its middle, px, 0-based, integers at pixel centres.
    radius_px : of the circle, or the mean of the ellipse's axes.
    rms_px : scatter of the limb about it; arc : share of the full circle that is seen.
    brightness : of its brighter parts above the sky, ADU; the same however much of it lies in shadow.
    """

    x: float
    y: float
    radius_px: float
    rms_px: float
    arc: float
    brightness: float = 1.0


def find_disc(image: np.ndarray, radius_px: float | None = None) -> Disc | None:
    """The one disc in a picture, or None when it shows no black sky, several things, or nothing round.

    Parameters
    ----------
    image : (H, W) float32, NaN = no data.
    radius_px : of the same disc in another frame. Where only a part of the limb is seen the circle keeps it: of a short
        arc the radius is known badly, and an error in it moves the middle by as much.
    """
    plane = cv2.GaussianBlur(np.nan_to_num(image.astype(np.float32)), (0, 0), 1.0)
    sky = float(np.median(plane))
    rise = plane - sky
    top = float(np.percentile(rise, 99.9))
    if top <= 0:
        return None
    # the sky, which is more than half of the picture, is black beside the disc
    dark = rise[rise < 0.25 * top]
    if dark.size < 0.5 * rise.size or float(dark.std()) > BLACK_SHARE * top:
        return None
    lit = rise > 0.25 * top
    level = 0.5 * float(np.median(rise[lit]))
    number, _, stats, _ = cv2.connectedComponentsWithStats((rise > level).astype(np.uint8), connectivity=8)
    if number < 2:
        return None
    areas = stats[1:, cv2.CC_STAT_AREA]
    largest = 1 + int(np.argmax(areas))
    if areas.sum() > 1.5 * areas.max() or np.count_nonzero(rise > 0.5 * level) > MOST_SPREAD * areas.sum():
        return None
    left, upper, width, height = (int(v) for v in stats[largest, :4])
    points = _outline(rise, level, left, upper, width, height)
    points = points[(points > 1.5).all(axis=1) & (points < (plane.shape[1] - 2.5, plane.shape[0] - 2.5)).all(axis=1)]
    found = None if len(points) < 16 else _ellipse(points) or _circle(points, radius_px)
    return None if found is None else replace(found, brightness=float(np.percentile(rise[rise > level], 80)))


def _outline(rise: np.ndarray, level: float, left: int, upper: int, width: int, height: int) -> np.ndarray:
    """(n, 2) x, y where rows and columns of a box first and last cross `level`, between pixels."""
    y0, y1 = max(0, upper - 2), min(rise.shape[0], upper + height + 2)
    x0, x1 = max(0, left - 2), min(rise.shape[1], left + width + 2)
    box = rise[y0:y1, x0:x1]
    found = []
    for part, turned in ((box, False), (box.T, True)):
        above = part > level
        rows = np.flatnonzero(above.any(axis=1))
        first = above[rows].argmax(axis=1)
        last = part.shape[1] - 1 - above[rows][:, ::-1].argmax(axis=1)
        for inner, outer in ((first, first - 1), (last, last + 1)):
            whole = (outer >= 0) & (outer < part.shape[1])
            r, i, o = rows[whole], inner[whole], outer[whole]
            share = (part[r, i] - level) / np.maximum(part[r, i] - part[r, o], 1e-6)
            along = i + (o - i) * share
            found.append(np.column_stack([r + x0, along + y0] if turned else [along + x0, r + y0]))
    return np.concatenate(found)


def _ellipse(points: np.ndarray) -> Disc | None:
    """The ellipse through an outline all of which lies on it; the few of a moon or a shadow in front are left out."""
    for _ in range(3):
        if len(points) < 16:
            return None
        (x, y), axes, angle = cv2.fitEllipse(points.astype(np.float32))
        if not min(axes) > 2 * LEAST_RADIUS_PX or min(axes) < 0.8 * max(axes):
            return None
        turn = np.radians(angle)
        u = ((points - (x, y)) @ np.array([np.cos(turn), np.sin(turn)])) / (axes[0] / 2)
        v = ((points - (x, y)) @ np.array([-np.sin(turn), np.cos(turn)])) / (axes[1] / 2)
        off = (np.hypot(u, v) - 1) * 0.25 * (axes[0] + axes[1])
        good = np.abs(off) < max(TOLERANCE_PX, 0.01 * max(axes))
        if good.mean() < 0.85:
            return None
        arc = _arc(points[good], x, y)
        if good.all():
            break
        points = points[good]
    if arc < 0.9:
        return None
    return Disc(float(x), float(y), 0.25 * float(axes[0] + axes[1]), float(np.sqrt(np.mean(off[good] ** 2))), arc)


def _circle(points: np.ndarray, held: float | None = None) -> Disc | None:
    """The circle that most of the outline lies on; of the radius `held`, where that is near to what is seen."""
    random = np.random.default_rng(0)
    best = np.zeros(len(points), dtype=bool)
    for _ in range(TRIALS):
        x, y, radius = _through(points[random.choice(len(points), 3, replace=False)])
        if not LEAST_RADIUS_PX < radius < 4 * np.ptp(points, axis=0).max():
            continue
        good = np.abs(np.hypot(points[:, 0] - x, points[:, 1] - y) - radius) < TOLERANCE_PX
        if good.sum() > best.sum():
            best = good
    if best.sum() < max(16, LEAST_SUPPORT * len(points)):
        return None
    for _ in range(3):
        x, y, radius = _through(points[best])
        off = np.hypot(points[:, 0] - x, points[:, 1] - y) - radius
        best = np.abs(off) < TOLERANCE_PX
        if best.sum() < 16:
            return None
    if held is not None and abs(radius / held - 1) < HELD_WITHIN:
        radius = held
        for _ in range(5):
            x, y = _middle(points[best], x, y, radius)
            off = np.hypot(points[:, 0] - x, points[:, 1] - y) - radius
            best = np.abs(off) < TOLERANCE_PX
            if best.sum() < 16:
                return None
    arc = _arc(points[best], x, y)
    if arc < LEAST_ARC or radius < LEAST_RADIUS_PX:
        return None
    return Disc(x, y, radius, float(np.sqrt(np.mean(off[best] ** 2))), arc)


def _middle(points: np.ndarray, x: float, y: float, radius: float) -> tuple[float, float]:
    """Middle of a circle of a known radius through points (n, 2): one Gauss-Newton step for their distances."""
    away = points - (x, y)
    distance = np.hypot(away[:, 0], away[:, 1])
    step = np.linalg.lstsq(away / distance[:, None], distance - radius, rcond=None)[0]
    return x + float(step[0]), y + float(step[1])


def _through(points: np.ndarray) -> tuple[float, float, float]:
    """Middle and radius of the circle of least algebraic squares through points (n, 2); radius NaN for a line."""
    middle = points.mean(axis=0)
    x, y = (points - middle).T
    solution, _, rank, _ = np.linalg.lstsq(np.column_stack([2 * x, 2 * y, np.ones(len(x))]), x**2 + y**2, rcond=1e-9)
    if rank < 3:
        return 0.0, 0.0, float("nan")
    a, b, c = (float(v) for v in solution)
    return a + float(middle[0]), b + float(middle[1]), float(np.sqrt(max(c + a * a + b * b, 0.0)))


def _arc(points: np.ndarray, x: float, y: float) -> float:
    """Share of the full circle in which there are points, in steps of 5 degrees."""
    direction = np.degrees(np.arctan2(points[:, 1] - y, points[:, 0] - x)) % 360
    return len(np.unique((direction // 5).astype(int))) / 72
