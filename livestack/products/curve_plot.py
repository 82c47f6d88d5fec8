"""A picture of one star's light curve, with the fitted transit in it where there is one (matplotlib)."""

from __future__ import annotations

import io
import math
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np

from livestack.base.durable import write_atomically
from livestack.photometry.times import UNIX_EPOCH_JD
from livestack.photometry.transit import Transit
from livestack.products.curve_files import mean_mag
from livestack.products.light_curves import StarCurve, StarTable

POINTS_A_BIN = 6


def bin_means(
    hours: np.ndarray, values: np.ndarray, errors: np.ndarray, points: int = POINTS_A_BIN
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Weighed means of neighbours, (b,) each: time, value, error. A bin does not reach over a gap in the night.

    Parameters
    ----------
    hours, values, errors : (t,) float64, ascending in time.
    points : in a bin, where no gap cuts it short.
    """
    if len(hours) < 2:
        return hours[:0], hours[:0], hours[:0]
    steps = np.diff(hours)
    cuts = np.flatnonzero(steps > max(5 * float(np.median(steps)), 1e-9)) + 1
    groups = [run[i : i + points] for run in np.split(np.arange(len(hours)), cuts) for i in range(0, len(run), points)]
    groups = [group for group in groups if 2 * len(group) > points]
    if not groups:
        return hours[:0], hours[:0], hours[:0]
    weights = [errors[group] ** -2.0 for group in groups]
    means = [
        [float(np.average(v[g], weights=w)) for g, w in zip(groups, weights, strict=True)] for v in (hours, values)
    ]
    return np.array(means[0]), np.array(means[1]), np.array([w.sum() ** -0.5 for w in weights])


def draw_curve(
    path: Path, curve: StarCurve, table: StarTable, title: str, transit: Transit | None, used: np.ndarray | None = None
) -> None:
    """Draw magnitudes, the bright ones above, over hours of UTC.

    Parameters
    ----------
    transit : drawn over the points, when it is given.
    used : (t,) bool, the points it was fitted to, in the order of its times.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10, 5.6), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    dated = np.isfinite(curve.jd) & np.isfinite(curve.mag)
    good, mean = curve.good, mean_mag(curve)
    first = float(curve.jd[dated].min()) if dated.any() else UNIX_EPOCH_JD
    midnight = math.floor(first + 0.5) - 0.5
    hours = (curve.jd - midnight) * 24
    relative = curve.mag - (mean if math.isfinite(mean) else 0.0)
    flagged = dated & ~good
    axes.errorbar(
        hours[good], relative[good], curve.mag_err[good], fmt="o", ms=3.5, lw=0.8, color="#2b5c8a", label="good"
    )
    when, value, error = bin_means(hours[good], relative[good], curve.mag_err[good])
    axes.errorbar(
        when, value, error, fmt="s", ms=6, lw=1.4, color="#d9822b", mec="black", zorder=4,
        label=f"means of {POINTS_A_BIN}",
    )  # fmt: skip
    low, high = _limits(relative[good], curve.mag_err[good])
    if flagged.any():
        # what lies outside is drawn at the edge, so that it does not flatten the rest
        shown = np.clip(relative[flagged], low, high)
        axes.plot(hours[flagged], shown, "o", ms=3.5, color="0.75", mfc="none", label="flagged", zorder=1)
    if transit is not None and used is not None:
        axes.plot(
            hours[used], -2.5 * np.log10(transit.model), color="#b3202c", lw=1.8, zorder=5,
            label="transit" if transit.found else f"best dip, not certain ({transit.sigma:.1f} sigma)",
        )  # fmt: skip
        axes.plot(hours[used], -2.5 * np.log10(transit.baseline), color="#b3202c", lw=0.8, ls=":", zorder=3)
    axes.set_ylim(high, low)
    rms, expected = table.rms_mmag[curve.row], table.expected_mmag[curve.row]
    words = f"{title}: {int(good.sum())} good of {int(dated.sum())} measurements"
    if rms > 0:
        words += f", rms {rms:.1f} mmag"
        words += f", expected {expected:.1f} ({rms / expected:.2f} x)" if expected > 0 else ""
    axes.set_title(words, parse_math=False, fontsize=11)
    day = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(days=midnight - UNIX_EPOCH_JD)
    label = f"hours UTC since {day:%Y-%m-%d} 00:00"
    dated_b = curve.bjd[np.isfinite(curve.bjd)]
    label += f"   ·   BJD (TDB) {dated_b.min():.4f} to {dated_b.max():.4f}" if len(dated_b) else "   ·   BJD not known"
    axes.set(xlabel=label, ylabel="magnitude less the mean")
    axes.grid(alpha=0.25)
    axes.legend(fontsize=9, ncols=4, loc="lower left")
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=110)
    write_atomically(path, buffer.getvalue())


def _limits(values: np.ndarray, errors: np.ndarray) -> tuple[float, float]:
    """From the brightest to the faintest, with room for error bars and the legend."""
    if not len(values):
        return -0.1, 0.1
    low, high = float((values - errors).min()), float((values + errors).max())
    room = max(0.06 * (high - low), 1e-3)
    return low - room, high + 3 * room
