"""Streaks in one frame: where they begin and end, how wide and bright they are, and what left them.

Cells that stand out on the coarse residuals are taken together to lines; a line is fitted anew on the finer ones, and
its ends are where the light along it most likely begins and ends (the largest sum of light above half the mean: the
likelihood of a step). Steady ones are satellites; what blinks, or is wide or double, is an aircraft; what brightens and
fades within the frame is a meteor.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np

from livestack.kernels import movers as kernel
from livestack.movers.reduced import Grid, Residual

CELL_LIMIT = 2.9
MOST_CELLS = 6000
MOST_LINES = 64
REACH_CELLS, LEAST_HITS, GAP_CELLS = 10, 8, 14
ACROSS = 25
"""Reduced pixels to both sides, and on, that are looked at across a line."""
LEAST_LENGTH_FWHM = 7.0
LEAST_LENGTH_PX = 24.0
SURE_LENGTH_FWHM = 26.0
LEAST_TOTAL = 10.0
LEAST_SNR = 1.4
SIDE_PX = 48
"""Reduced pixels along a line over which the sky beside it is taken together."""
CHUNKS = 10


@dataclass(frozen=True)
class Streak:
    """A line of light in one frame.

    Attributes
    ----------
    x0, y0, x1, y1 : its ends, in pixels of the reference.
    width_px : FWHM across; snr : mean light on its axis over the noise of a pixel of the frame.
    cut0, cut1 : the end lies at the border of what is known.
    kind : satellite, aircraft, meteor or unknown.
    """

    x0: float
    y0: float
    x1: float
    y1: float
    width_px: float
    snr: float
    cut0: bool
    cut1: bool
    kind: str

    @property
    def length_px(self) -> float:
        """From end to end."""
        return math.hypot(self.x1 - self.x0, self.y1 - self.y0)


def find_streaks(residual: Residual, grid: Grid, fwhm_px: float, footprint: np.ndarray) -> list[Streak]:
    """All streaks of a frame.

    Parameters
    ----------
    footprint : (4, 2) corners of the frame on the reference, in order.
    """
    coarse = residual.coarse
    room = np.empty((200_000, 2), dtype=np.int32)
    n = kernel.list_above(coarse, np.float32(CELL_LIMIT), 0, coarse.shape[0], room)
    cells = room[: min(n, len(room))]
    if len(cells) < LEAST_HITS:
        return []
    strength = coarse[cells[:, 1], cells[:, 0]]
    order = np.argsort(-strength, kind="stable")[:MOST_CELLS]
    mask = np.zeros(coarse.shape, dtype=np.uint8)
    mask[cells[:, 1], cells[:, 0]] = 1
    lines = np.empty((MOST_LINES, 5))
    found = kernel.trace_lines(mask, cells[order], REACH_CELLS, LEAST_HITS, GAP_CELLS, lines)
    streaks: list[Streak] = []
    for x0, y0, x1, y1, _ in lines[:found]:
        # the middle of a coarse cell (i, j) is that of four finer pixels
        ends = np.array([[x0, y0], [x1, y1]]) * 2 + 0.5
        if any(_covers(one, ends, grid) for one in streaks):
            continue
        one = _measure(residual.sigmas, ends, grid, fwhm_px, footprint)
        if one is not None and not any(_same(one, other) for other in streaks):
            streaks.append(one)
    return _joined(streaks)


def _covers(one: Streak, ends: np.ndarray, grid: Grid) -> bool:
    """True when both ends of a line (2, 2), reduced, lie on a streak that is known."""
    limit = max(1.2 * one.width_px, 3.0 * grid.bin)
    return all(_off(one, *point)[0] < limit and _off(one, *point)[1] for point in grid.to_reference(ends))


def _off(one: Streak, x: float, y: float) -> tuple[float, bool]:
    """How far a place lies from the line of a streak, and whether it is between its ends."""
    length = max(one.length_px, 1e-9)
    cos, sin = (one.x1 - one.x0) / length, (one.y1 - one.y0) / length
    along = (x - one.x0) * cos + (y - one.y0) * sin
    return abs((y - one.y0) * cos - (x - one.x0) * sin), -8.0 < along < length + 8.0


def _same(one: Streak, other: Streak) -> bool:
    limit = max(4.0, 0.8 * other.width_px)
    middle = (one.x0 + one.x1) / 2, (one.y0 + one.y1) / 2
    points = ((one.x0, one.y0), (one.x1, one.y1), middle)
    return sum(_off(other, *point)[0] < limit and _off(other, *point)[1] for point in points) >= 2


def _joined(streaks: list[Streak]) -> list[Streak]:
    """With the lights and pieces of one aircraft as one streak: nearly parallel, and beside or behind each other."""
    rest = sorted(streaks, key=lambda one: -one.length_px)
    joined: list[Streak] = []
    while rest:
        base, rest = rest[0], rest[1:]
        while True:
            parts = [one for one in rest if "aircraft" in (one.kind, base.kind) and _belongs(one, base)]
            if not parts:
                break
            rest = [one for one in rest if one not in parts]
            base = _as_one([base, *parts])
        joined.append(base)
    return joined


def _belongs(one: Streak, base: Streak) -> bool:
    """True when a shorter streak may be a part of an aircraft's."""
    turn = math.atan2(one.y1 - one.y0, one.x1 - one.x0) - math.atan2(base.y1 - base.y0, base.x1 - base.x0)
    reach = 1.2 * max(base.width_px, one.width_px) + 6.0
    # the direction of a wide piece is known no better than its width over its length
    slack = math.radians(3.0) + 1.2 * one.width_px / one.length_px
    if abs(math.sin(turn)) > math.sin(min(slack, 0.5)):
        return False
    off = [_off(base, *point)[0] for point in ((one.x0, one.y0), (one.x1, one.y1))]
    return max(off) < reach + 0.05 * base.length_px and min(off) < reach


def _as_one(parts: list[Streak]) -> Streak:
    """Parts of an aircraft's light as one streak."""
    points = np.array([end for one in parts for end in ((one.x0, one.y0), (one.x1, one.y1))])
    weight = np.repeat([one.length_px for one in parts], 2)
    middle = np.average(points, axis=0, weights=weight)
    _, vectors = np.linalg.eigh(np.cov((points - middle).T, aweights=weight))
    way = vectors[:, 1] * (1 if vectors[:, 1] @ (points[1] - points[0]) >= 0 else -1)
    along = (points - middle) @ way
    first, last = int(along.argmin()), int(along.argmax())
    cuts = np.array([cut for one in parts for cut in (one.cut0, one.cut1)])
    (x0, y0), (x1, y1) = middle + along[first] * way, middle + along[last] * way
    widest = max(parts, key=lambda one: one.length_px)
    return Streak(
        float(x0), float(y0), float(x1), float(y1), widest.width_px, max(one.snr for one in parts), bool(cuts[first]),
        bool(cuts[last]), "aircraft",
    )  # fmt: skip


def _fit_line(sigmas: np.ndarray, ends: np.ndarray, sigma: float) -> np.ndarray:
    """The line (2, 2) through the light near a line: offsets of pieces of it, fitted with those that agree."""
    for step in range(3):
        (x0, y0), (x1, y1) = ends
        length = math.hypot(x1 - x0, y1 - y0)
        cos, sin = (x1 - x0) / length, (y1 - y0) / length
        n, wide = max(4, int(length)), (11 if step == 0 else 7)
        strip = np.empty((n, wide), dtype=np.float32)
        kernel.straighten(sigmas, x0, y0, cos, sin, n, wide, strip)
        strip = np.clip(np.nan_to_num(strip), -8, 30)
        pieces = int(np.clip(n // 6, 2, 40))
        parts = np.array([part.mean(axis=0) for part in np.array_split(strip, pieces)])
        across = np.arange(wide) - wide // 2
        places = np.arange(-(wide // 2) + 1, wide // 2 - 0.99, 0.25)
        template = np.exp(-0.5 * ((across[None, :] - places[:, None]) / max(sigma, 0.8)) ** 2)
        match = parts @ template.T
        best = match.argmax(axis=1)
        weight = np.maximum(match[np.arange(pieces), best], 0.0)
        offset, along = places[best], (np.arange(pieces) + 0.5) * n / pieces
        keep = weight > 0
        slope, base = 0.0, 0.0
        for _ in range(4):
            if keep.sum() < 2:
                break
            slope, base = np.polyfit(along[keep], offset[keep], 1, w=np.minimum(weight, np.median(weight) * 3)[keep])
            off = np.abs(offset - base - slope * along)
            keep = (weight > 0) & (off < max(0.6, 2.0 * float(np.median(off[keep]))))
        at0, at1 = base, base + slope * length
        ends = np.array([[x0 - at0 * sin, y0 + at0 * cos], [x1 - at1 * sin, y1 + at1 * cos]])
    return ends


def _above_sides(strip: np.ndarray, sigma: float) -> np.ndarray:
    """A strip (n, w) less what lies beside its line: the sky's own unevenness is no streak."""
    middle = strip.shape[1] // 2
    inner = math.ceil(5 * sigma) + 2
    sides = np.concatenate([strip[:, : max(middle - inner, 4)], strip[:, min(middle + inner + 1, 2 * middle - 3) :]], 1)
    pieces = max(1, len(strip) // SIDE_PX)
    level = np.array([np.median(part) for part in np.array_split(sides, pieces)])
    places = (np.arange(pieces) + 0.5) * len(strip) / pieces
    return np.asarray(strip - np.interp(np.arange(len(strip)), places, level)[:, None], dtype=np.float32)


def _fit_wide(sigmas: np.ndarray, ends: np.ndarray, wide: float) -> np.ndarray:
    """The line (2, 2) along the middle of a broad band of light: centres of the light of pieces of it."""
    for _ in range(3):
        (x0, y0), (x1, y1) = ends
        length = math.hypot(x1 - x0, y1 - y0)
        cos, sin = (x1 - x0) / length, (y1 - y0) / length
        n, reach = max(4, int(length)), int(min(ACROSS, 1.3 * wide + 2))
        strip = np.empty((n, 2 * reach + 1), dtype=np.float32)
        kernel.straighten(sigmas, x0, y0, cos, sin, n, 2 * reach + 1, strip)
        parts = np.array([p.mean(axis=0) for p in np.array_split(np.clip(np.nan_to_num(strip), -6, 40), min(24, n))])
        parts = np.maximum(parts - np.minimum(parts[:, :2].mean(), parts[:, -2:].mean()), 0.0)
        light = parts.sum(axis=1)
        offset = (parts @ (np.arange(2 * reach + 1) - reach)) / np.maximum(light, 1e-6)
        along = (np.arange(len(parts)) + 0.5) * n / len(parts)
        slope, base = np.polyfit(along, offset, 1, w=np.minimum(light, 2 * np.median(light)) + 1e-6)
        at0, at1 = base, base + slope * length
        ends = np.array([[x0 - at0 * sin, y0 + at0 * cos], [x1 - at1 * sin, y1 + at1 * cos]])
    return ends


def _fades(light: np.ndarray, valid: np.ndarray, first: int, last: int) -> bool:
    """True when light that rises from nothing and falls to nothing fits better than a steady one."""
    n = last - first
    low, high = max(0, first - n // 3), min(len(light), last + n // 3)
    use = valid[low:high]
    if n < 12 or use.sum() < 12:
        return False
    along = (np.arange(low, high) - first) / n
    seen = np.minimum(light[low:high], 3 * float(np.mean(light[first:last])))

    def misfit(model: np.ndarray) -> float:
        model = np.where(use, model, 0.0)
        scale = float(model @ seen) / max(float(model @ model), 1e-9)
        return float((((seen - scale * model) * use) ** 2).sum())

    steady = misfit(((along >= 0) & (along <= 1)).astype(float))
    best = math.inf
    for before in (0.0, 0.1, 0.2, 0.32):
        for after in (0.0, 0.1, 0.2, 0.32):
            for top in (0.2, 0.35, 0.5, 0.65, 0.8):
                rise, fall = (along + before) / (top + before), (1 + after - along) / (1 + after - top)
                best = min(best, misfit(np.maximum(np.minimum(rise, fall), 0.0)))
    return best < steady - 12.0


def _longest(light: np.ndarray) -> tuple[int, int]:
    """First and last index (excluded) of the part with the largest sum."""
    total = np.concatenate([[0.0], np.cumsum(light)])
    least = np.minimum.accumulate(total)
    gain = total - least
    last = int(gain.argmax())
    first = int(np.flatnonzero(total[: last + 1] == least[last])[-1])
    return first, last


def _measure(
    sigmas: np.ndarray, ends: np.ndarray, grid: Grid, fwhm_px: float, footprint: np.ndarray, wide: float = 0.0
) -> Streak | None:
    """A streak near a line (2, 2) of reduced pixels; None where there is none worth the name.

    `wide` is its FWHM in reduced pixels where that is known to be much more than a star's.
    """
    sigma = grid.psf_sigma(fwhm_px)
    ends = _fit_wide(sigmas, ends, wide) if wide else _fit_line(sigmas, ends, sigma)
    (x0, y0), (x1, y1) = ends
    length = math.hypot(x1 - x0, y1 - y0)
    cos, sin = (x1 - x0) / length, (y1 - y0) / length
    # the whole line, from border to border
    reach = math.hypot(*sigmas.shape)
    before = min(int(reach), int(max(60.0, 2.0 * length)))
    n = int(length) + 2 * before
    strip = np.empty((n, 2 * ACROSS + 1), dtype=np.float32)
    kernel.straighten(sigmas, x0 - before * cos, y0 - before * sin, cos, sin, n, 2 * ACROSS + 1, strip)
    core = strip[:, ACROSS - 2 : ACROSS + 3]
    valid = np.isfinite(core).all(axis=1) & (core != 0).any(axis=1)
    strip = _above_sides(np.nan_to_num(strip), sigma)
    across = np.arange(-ACROSS, ACROSS + 1)
    shape = max(1.15 * sigma, 0.8, wide / 2.3548)
    weight = np.where(np.abs(across) <= max(4, 3 * shape), np.exp(-0.5 * (across / shape) ** 2), 0.0)
    weight /= math.sqrt((weight**2).sum())
    light = np.where(valid, np.clip(strip, -6, 60) @ weight, 0.0)
    inner = slice(before, before + max(int(length), 1))
    usual = float(np.mean(np.minimum(light[inner], 3 * max(np.median(light[inner]), 1.0))))
    if usual < 1.2:
        return None
    capped = np.minimum(light, 3 * usual)
    first, last = _longest(np.where(valid, capped - max(0.35 * usual, 0.9), 0.0))
    if last - first < 5:
        return None
    level = float(np.mean(capped[first:last]))
    first = _refine_end(capped, valid, first, last, level, True)
    if last - first < CHUNKS:
        return None
    last = _refine_end(capped, valid, first, last, level, False)
    if last - first < CHUNKS:
        return None
    length_px = (last - first) * grid.bin
    if length_px < max(LEAST_LENGTH_PX, LEAST_LENGTH_FWHM * fwhm_px):
        return None
    inside = light[first:last]
    profile = np.mean(np.clip(strip[first:last], -6, 2000), axis=0)
    if not _is_whole(inside, level):
        return None
    width = _width(profile, across)
    narrow = grid.psf_sigma(0.82 * fwhm_px) * 2.3548
    if length_px < SURE_LENGTH_FWHM * fwhm_px and width < narrow:
        return None  # a track of a cosmic ray
    deconvolved = math.sqrt(max((width * grid.bin) ** 2 - (0.68 * grid.bin) ** 2, 0.25))
    begin = np.array([x0, y0]) + (first - 0.5 - before) * np.array([cos, sin])
    end = np.array([x0, y0]) + (last - 0.5 - before) * np.array([cos, sin])
    cut0 = not valid[max(first - 2, 0) : first + 2].all() or first <= 2
    cut1 = not valid[last - 2 : min(last + 2, n)].all() or last >= n - 2
    ((ax, ay), (bx, by)) = grid.to_reference(np.array([begin, end]))
    border0, border1 = (_to_border(footprint, p, d) for p, d in (((ax, ay), (-cos, -sin)), ((bx, by), (cos, sin))))
    close = 4.0 * grid.bin + 2.0
    cut0, cut1 = cut0 or border0 < close, cut1 or border1 < close
    if cut0 and border0 < 200:
        ax, ay = ax - border0 * cos, ay - border0 * sin
    if cut1 and border1 < 200:
        bx, by = bx + border1 * cos, by + border1 * sin
    kind = _kind(strip[first:last], inside, across, sigma, width, cut0, cut1)
    if kind == "aircraft" and not wide and width > 2.0 * 2.3548 * sigma:
        whole = _measure(sigmas, grid.from_reference(np.array([[ax, ay], [bx, by]])), grid, fwhm_px, footprint, width)
        if whole is not None:
            return replace(whole, kind=kind)
    if kind == "satellite" and not (cut0 and cut1) and _fades(light, valid, first, last):
        kind = "meteor"
    if float(profile[ACROSS - 1 : ACROSS + 2].max()) / grid.bin * 1.2 < LEAST_SNR:
        return None
    snr = float(profile[ACROSS - 1 : ACROSS + 2].max()) / grid.bin * 1.2
    return Streak(float(ax), float(ay), float(bx), float(by), deconvolved, snr, cut0, cut1, kind)


def _refine_end(light: np.ndarray, valid: np.ndarray, first: int, last: int, level: float, begin: bool) -> int:
    """Where the light begins or ends: the largest sum above half of what it is near there."""
    reach = 24
    near = min(reach, last - first)
    inside = light[first : first + near] if begin else light[last - near : last]
    own = float(np.mean(inside))
    limit = max(0.5 * min(own, level), 0.7)
    end = first if begin else last
    low, high = max(end - reach, 0), min(end + reach, len(light))
    if begin:
        part = np.where(valid[low:high], light[low:high] - limit, -1.0)
        sums = np.cumsum(part[::-1])[::-1]
        return low + int(sums.argmax())
    part = np.where(valid[low:high], light[low:high] - limit, -1.0)
    return low + int(np.cumsum(part).argmax()) + 1


def _is_whole(inside: np.ndarray, level: float) -> bool:
    """True when there is light all along, not in two or three stars."""
    total = float(np.minimum(inside, 3 * level).sum()) / math.sqrt(len(inside))
    if total < LEAST_TOTAL:
        return False
    parts = np.array_split(inside, CHUNKS)
    medians = np.array([np.mean(np.minimum(part, 2.5 * level)) for part in parts])
    error = np.array([1.0 / math.sqrt(max(len(part), 1)) for part in parts])
    return bool((medians > np.maximum(2.0 * error, 0.12 * level)).sum() >= CHUNKS - 2)


def _width(profile: np.ndarray, across: np.ndarray) -> float:
    """FWHM in reduced pixels of the mean profile, by where it falls to half on both sides."""
    base = float(np.median(np.concatenate([profile[:6], profile[-6:]])))
    height = profile - base
    peak = int(ACROSS - 3 + height[ACROSS - 3 : ACROSS + 4].argmax())
    half = 0.5 * height[peak]
    edges = []
    for direction in (-1, 1):
        k = peak
        while 0 < k < len(height) - 1 and height[k + direction] > half:
            k += direction
        k2 = k + direction
        if not 0 <= k2 < len(height):
            return float(len(height))
        drop = height[k] - height[k2]
        edges.append(abs(k - peak) + (float(height[k] - half) / drop if drop > 0 else 0.5))
    return float(sum(edges))


def _kind(
    strip: np.ndarray, inside: np.ndarray, across: np.ndarray, sigma: float, width: float, cut0: bool, cut1: bool
) -> str:
    """What left the light.

    Parameters
    ----------
    strip : (n, w) residuals along and across; inside : (n,) light along; sigma, width : of a star, of the streak.
    """
    n = len(inside)
    mean = float(np.mean(inside))
    # lights beside each other, or wide ones: more light beside the axis than a point's
    wide = np.abs(across) <= min(ACROSS, int(12 * sigma) + 2)
    profile = np.mean(np.clip(strip[:, wide], -6, 60), axis=0)
    error = 1.0 / math.sqrt(n)
    beside = np.abs(across[wide]) >= 3.4 * sigma + 0.5
    peaks = profile[beside].max(initial=0.0)
    axis = profile[~beside].max(initial=1e-6)
    wide_light = width > 1.9 * 2.3548 * sigma
    double = peaks > max(0.18 * axis, 5 * error)
    # blinking: what is left of the light along it when its slow changes are taken out, over the noise
    span = 15
    blink = 0.0
    if n >= 4 * span:
        box = np.ones(3) / 3
        quick = np.convolve(np.clip(strip[:, np.abs(across) <= 3.0 * sigma + 1], -6, 200).sum(axis=1), box, "valid")
        pieces = np.array_split(quick, max(2, len(quick) // (4 * span)))
        level = [np.polyval(np.polyfit(np.arange(len(p)), p, 1), np.arange(len(p))) for p in pieces]
        swings = [
            float(np.percentile(p - its, 90) - np.percentile(p - its, 25)) / max(float(np.mean(p)), 1e-6)
            for p, its in zip(pieces, level, strict=True)
        ]
        quiet = 2.0 * math.sqrt((2 * int(3.0 * sigma + 1) + 1) / 3.0) / max(float(np.mean(quick)), 1e-6)
        blink = float(np.median(swings)) - quiet
    if blink > 0.45 or (wide_light and blink > 0.25) or (double and blink > 0.2):
        return "aircraft"
    if not (cut0 and cut1):
        parts = np.array([np.mean(np.minimum(p, 6 * mean)) for p in np.array_split(inside, CHUNKS)])
        top = float(np.sort(parts)[-3:].mean())
        begin, end = parts[0] / top, parts[-1] / top
        fades = [share for share, cut in ((begin, cut0), (end, cut1)) if not cut]
        slope = [parts[1] / top, parts[-2] / top]
        ramps = [s for s, cut in zip(slope, (cut0, cut1), strict=True) if not cut]
        if fades and max(fades) < 0.5 and max(ramps) < 0.8:
            return "meteor"
    if wide_light and double:
        return "aircraft"
    return "satellite"


def _to_border(footprint: np.ndarray, point: tuple[float, float], direction: tuple[float, float]) -> float:
    """How far it is from a place within a polygon (n, 2) to its border, in a direction; 0 outside."""
    nearest = math.inf
    for (ax, ay), (bx, by) in zip(footprint, np.roll(footprint, -1, axis=0), strict=True):
        ex, ey = bx - ax, by - ay
        cross = direction[0] * ey - direction[1] * ex
        if abs(cross) < 1e-12:
            continue
        way = ((ax - point[0]) * ey - (ay - point[1]) * ex) / cross
        share = ((ax - point[0]) * direction[1] - (ay - point[1]) * direction[0]) / cross
        if 0 <= share <= 1 and way > -6.0:
            nearest = min(nearest, way)
    return nearest if math.isfinite(nearest) else 0.0
