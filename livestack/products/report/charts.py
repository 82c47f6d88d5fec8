"""Small SVG drawings for the report: line and dot charts, the field map, the slices of a histogram.

Written by hand, not by a plotting library, for three reasons: they take their colours from the page (so that the night
view is red throughout), they scale to a phone without a raster, and sixty of them weigh less than one picture. Every
text that comes from outside is escaped here.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from html import escape

import numpy as np

from livestack.detection.psf import FieldMap

WIDTH, HEIGHT = 420.0, 210.0
LEFT, RIGHT, TOP, BOTTOM = 52.0, 10.0, 12.0, 34.0
TITLES_UP_TO = 400
"""Points beyond this number get no text of their own: pages must stay light."""


@dataclass(frozen=True)
class Series:
    """One set of points. `kind` is dots, crosses, line or dashes; `tone` a colour of the page: a, b, bad."""

    x: Sequence[float]
    y: Sequence[float]
    label: str = ""
    kind: str = "dots"
    tone: str = "a"
    notes: Sequence[str] = field(default=())


def nice_ticks(low: float, high: float, count: int = 5) -> list[float]:
    """About `count` round numbers within [low, high]."""
    span = high - low
    if not span > 0 or not math.isfinite(span):
        return [low]
    raw = span / count
    size = 10.0 ** math.floor(math.log10(raw))
    step = next(size * factor for factor in (1, 2, 2.5, 5, 10) if size * factor >= raw * 0.999)
    first = math.ceil(low / step - 1e-9)
    return [i * step for i in range(first, math.floor(high / step + 1e-9) + 1)]


def chart(
    series: Sequence[Series],
    y_label: str,
    x_label: str = "",
    times: bool = False,
    log: bool = False,
    y_zero: bool = False,
    lines: Sequence[tuple[float, str]] = (),
) -> str:
    """Draw series as SVG; x is POSIX seconds where `times`; `log` draws both axes logarithmic (points must be > 0).

    `lines` are vertical marks (x, words). Points that are not finite are left out. Empty series give an empty string.
    """
    clean = [_finite(s, log) for s in series]
    xs = np.concatenate([s[0] for s in clean]) if clean else np.array([])
    ys = np.concatenate([s[1] for s in clean]) if clean else np.array([])
    if len(xs) == 0:
        return ""
    xs = np.concatenate([xs, [x for x, _ in lines]])
    x_low, x_high = _range(xs, 0.02, log)
    y_low, y_high = _range(ys, 0.08, log)
    if y_zero:
        y_low = min(0.0, y_low)

    def across(x: float) -> float:
        share = math.log(x / x_low) / math.log(x_high / x_low) if log else (x - x_low) / (x_high - x_low)
        return LEFT + share * (WIDTH - LEFT - RIGHT)

    def up(y: float) -> float:
        share = math.log(y / y_low) / math.log(y_high / y_low) if log else (y - y_low) / (y_high - y_low)
        return HEIGHT - BOTTOM - share * (HEIGHT - TOP - BOTTOM)

    parts = [f'<svg class="chart" viewBox="0 0 {WIDTH:g} {HEIGHT:g}" role="img" aria-label="{escape(y_label)}">']
    for tick in _log_ticks(y_low, y_high) if log else nice_ticks(y_low, y_high, 4):
        y = up(tick)
        parts.append(f'<path class="grid" d="M{LEFT:g} {y:.1f}H{WIDTH - RIGHT:g}"/>')
        parts.append(f'<text x="{LEFT - 5:g}" y="{y + 4:.1f}" text-anchor="end">{_say(tick)}</text>')
    x_ticks = (
        _log_ticks(x_low, x_high) if log else _time_ticks(x_low, x_high) if times else nice_ticks(x_low, x_high, 5)
    )
    for tick in x_ticks:
        words = datetime.fromtimestamp(tick, UTC).strftime("%H:%M") if times else _say(tick)
        parts.append(f'<path class="grid" d="M{across(tick):.1f} {TOP:g}V{HEIGHT - BOTTOM:g}"/>')
        parts.append(f'<text x="{across(tick):.1f}" y="{HEIGHT - BOTTOM + 14:g}" text-anchor="middle">{words}</text>')
    if x_label:
        parts.append(f'<text x="{WIDTH - RIGHT:g}" y="{HEIGHT - 4:g}" text-anchor="end">{escape(x_label)}</text>')
    for x, words in lines:
        parts.append(f'<path class="mark" d="M{across(x):.1f} {TOP:g}V{HEIGHT - BOTTOM:g}"/>')
        parts.append(f'<text class="name" x="{across(x) + 3:.1f}" y="{TOP + 9:g}">{escape(words)}</text>')
    for (own_x, own_y, notes), s in zip(clean, series, strict=True):
        parts.append(_draw(s, [across(v) for v in own_x], [up(v) for v in own_y], notes))
    parts.append("</svg>")
    legend = "".join(f'<span class="key {s.tone} {s.kind}">{escape(s.label)}</span>' for s in series if s.label)
    return f"<figure><figcaption>{escape(y_label)} {legend}</figcaption>{''.join(parts)}</figure>"


def _finite(s: Series, log: bool) -> tuple[np.ndarray, np.ndarray, list[str]]:
    x, y = np.asarray(s.x, dtype=np.float64), np.asarray(s.y, dtype=np.float64)
    good = np.isfinite(x) & np.isfinite(y)
    if log:
        good &= (x > 0) & (y > 0)
    return x[good], y[good], [note for note, kept in zip(s.notes, good, strict=False) if kept]


def _range(values: np.ndarray, margin: float, log: bool) -> tuple[float, float]:
    low, high = float(values.min()), float(values.max())
    if log:
        return low / 1.15, high * 1.15
    spread = high - low or abs(high) * 0.1 or 1.0
    return low - margin * spread, high + margin * spread


def _draw(s: Series, x: list[float], y: list[float], notes: list[str]) -> str:
    if s.kind in ("line", "dashes"):
        path = " ".join(f"{a:.1f} {b:.1f}" for a, b in zip(x, y, strict=True))
        return f'<polyline class="{s.kind} {s.tone}" points="{path}"/>'
    titled = bool(notes) and len(x) <= TITLES_UP_TO
    marks = []
    for i, (a, b) in enumerate(zip(x, y, strict=True)):
        title = f"<title>{escape(notes[i])}</title>" if titled else ""
        if s.kind == "crosses":
            shape = f'<path class="cross {s.tone}" d="M{a - 3:.1f} {b - 3:.1f}l6 6m0 -6l-6 6">{title}</path>'
        else:
            shape = f'<circle class="dot {s.tone}" cx="{a:.1f}" cy="{b:.1f}" r="2.6">{title}</circle>'
        marks.append(shape)
    return "".join(marks)


def _say(value: float) -> str:
    if value != 0 and (abs(value) >= 1e5 or abs(value) < 1e-3):
        return f"{value:.0e}".replace("e+0", "e").replace("e-0", "e-")
    return f"{value:.6g}"


def _log_ticks(low: float, high: float) -> list[float]:
    ticks = [
        m * 10.0**e for e in range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1) for m in (1, 2, 5)
    ]
    return [t for t in ticks if low <= t <= high]


def _time_ticks(low: float, high: float) -> list[float]:
    steps = (60, 120, 300, 600, 900, 1800, 3600, 7200, 10800, 21600, 43200)
    step = next((s for s in steps if (high - low) / s <= 5), 86400)
    return [float(t) for t in range(math.ceil(low / step) * step, math.floor(high) + 1, step)]


def histogram(values: np.ndarray, marks: Sequence[tuple[float, str]], label: str, bins: int = 24) -> str:
    """Bars of how often each value came, and the Gaussian of the same width (from the median absolute deviation)."""
    centre = float(np.median(values))
    sigma = max(1.4826 * float(np.median(np.abs(values - centre))), 1e-9)
    edges = np.linspace(centre - 5 * sigma, centre + 5 * sigma, bins + 1)
    counts, _ = np.histogram(values, edges)
    x = np.repeat(edges, 2)[1:-1]
    curve_x = np.linspace(edges[0], edges[-1], 120)
    curve = len(values) * (edges[1] - edges[0]) / (sigma * math.sqrt(2 * math.pi)) * np.exp(
        -0.5 * ((curve_x - centre) / sigma) ** 2
    )  # fmt: skip
    return chart(
        [
            Series(x.tolist(), np.repeat(counts, 2).astype(float).tolist(), "measured", "line", "a"),
            Series(curve_x.tolist(), curve.tolist(), "Gaussian of the same width", "dashes", "b"),
        ],
        label, "ADU", y_zero=True, lines=marks,
    )  # fmt: skip


def field_map(field_map: FieldMap, size: tuple[int, int], bottom_up: bool = False) -> str:
    """The map of the field: each cell's FWHM in figures, its star as an ellipse (elongation exaggerated)."""
    width, height = size
    scale = 400.0 / max(width, height)
    w, h = width * scale, height * scale
    known = [cell.fwhm_px for cell in field_map.cells if cell.n_stars]
    low, high = (min(known), max(max(known), 1.1 * min(known))) if known else (0.0, 1.0)
    parts = [
        f'<svg class="chart map" style="max-width:{1.5 * w:.0f}px" viewBox="0 0 {w:.0f} {h:.0f}" role="img" '
        'aria-label="field map">'
    ]
    for cell in field_map.cells:
        x0, x1 = (cell.x0_px + 0.5) * scale, (cell.x1_px + 0.5) * scale
        y0, y1 = (cell.y0_px + 0.5) * scale, (cell.y1_px + 0.5) * scale
        if bottom_up:
            y0, y1 = h - y1, h - y0
        cx, cy = 0.5 * (x0 + x1), 0.5 * (y0 + y1)
        share = (cell.fwhm_px - low) / (high - low) if cell.n_stars and high > low else 0.0
        parts.append(
            f'<rect class="cell" x="{x0:.1f}" y="{y0:.1f}" width="{x1 - x0:.1f}" height="{y1 - y0:.1f}" '
            f'style="fill-opacity:{0.08 + 0.5 * share:.2f}"/>'
        )
        if not cell.n_stars:
            parts.append(f'<text x="{cx:.1f}" y="{cy:.1f}" text-anchor="middle">–</text>')
            continue
        radius = 0.2 * min(x1 - x0, y1 - y0)
        shape = max(cell.ratio**3, 0.08)
        turn = -cell.theta_deg if bottom_up else cell.theta_deg
        parts.append(
            f'<ellipse class="star" cx="{cx:.1f}" cy="{cy - 8:.1f}" rx="{radius / math.sqrt(shape):.1f}" '
            f'ry="{radius * math.sqrt(shape):.1f}" transform="rotate({turn:.1f} {cx:.1f} {cy - 8:.1f})"/>'
        )
        parts.append(f'<text x="{cx:.1f}" y="{y1 - 6:.1f}" text-anchor="middle">{cell.fwhm_px:.2f}</text>')
    parts.append("</svg>")
    return f"<figure><figcaption>FWHM in px over the sensor, shape of the stars</figcaption>{''.join(parts)}</figure>"
