"""The chapter on the sky: where the picture lies, how faint it reaches, how dark and how clear the night was."""

from __future__ import annotations

import math
from collections.abc import Sequence
from html import escape
from pathlib import Path

import numpy as np
from astropy.io import fits

from livestack.astrometry.grid import say_dec, say_ra
from livestack.astrometry.headers import map_of_cards
from livestack.astrometry.objects import label_objects
from livestack.astrometry.sky_map import SkyMap
from livestack.astrometry.sky_words import name_constellation, say_darkness, say_fainter, say_what
from livestack.base.journal import FrameRecord
from livestack.detection.psf import PSFModel
from livestack.products.report.air import Extinction, air_masses, fit_extinction, lost_light, sky_magnitudes
from livestack.products.report.charts import Series, chart
from livestack.products.report.gather import Group, StackFile
from livestack.products.report.page import facts

MOON_DEG = 0.52
NAMED = 30
WORTH_A_WORD = 0.05
"""Magnitudes lost that are told of."""


def sky_chapter(group: Group, psf: PSFModel | None) -> str:
    """Where it lies, how faint and how dark, and the air through the night; "" where none of it is known."""
    stack = group.stack
    if stack is None:
        return ""
    sky = map_of_stack(stack)
    words, through = _through_the_night(group, sky)
    charts = through + _limits(group)
    if sky is None and not charts:
        return ""
    told = f"<p>{escape(_looking_at(sky))}</p>{facts(_rows(stack.header, sky, group, psf))}" if sky is not None else ""
    return f'<h2 id=sky>The sky</h2>{told}{words}<div class="grid2">{charts}</div>'


def map_of_stack(stack: StackFile) -> SkyMap | None:
    """Where the upright picture lies; None without a WCS in the header."""
    _, height, width = stack.image.shape
    cards = tuple((card.keyword, card.value, card.comment) for card in stack.header.cards)
    sky = map_of_cards(cards, width, height)
    if sky is None or not stack.bottom_up:
        return sky
    return sky.moved(np.array([[1.0, 0.0, 0.0], [0.0, -1.0, height - 1.0], [0.0, 0.0, 1.0]]), width, height)


def _looking_at(sky: SkyMap) -> str:
    return say_what(label_objects(sky, NAMED), sky, name_constellation(*sky.centre))


def _rows(header: fits.Header, sky: SkyMap, group: Group, psf: PSFModel | None) -> list[tuple[str, str]]:
    (ra, dec), (wide, high) = sky.centre, sky.field_deg
    moons = max(wide, high) / MOON_DEG
    solved = f"{header['SOLVER']}, by {header.get('SOLVSTAR', '?')} stars" if "SOLVER" in header else ""
    rms = _number(header, "SOLVRMS")
    limit, dark, zero = (_number(header, key) for key in ("MAGLIM", "SKYMAG", "ZEROPT"))
    widths = [frame.fwhm_px for frame in group.stacked if frame.fwhm_px]
    return [
        ("Middle", f"{say_ra(ra)}, {say_dec(dec)} (RA {ra:.4f}°, Dec {dec:+.4f}°)"),
        ("Field", f"{_angle(wide)} × {_angle(high)}, {moons:.1f} full Moons wide"),
        ("Scale", f"{sky.scale_arcsec:.3f} arcsec a pixel"),
        ("Up is", f"position angle {round(sky.rotation_deg, 1) % 360:.1f}°{', mirrored' if sky.mirrored else ''}"),
        ("Solved by", f"{solved}, which lie within {rms:.2f} arcsec (rms)" if solved and rms is not None else solved),
        ("Stars in the stack", f"{psf.fwhm_px * sky.scale_arcsec:.2f} arcsec wide (FWHM)" if psf else ""),
        ("Stars in single frames", f"{np.median(widths) * sky.scale_arcsec:.2f} arcsec wide" if widths else ""),
        ("Zero point", f"{zero:.2f} mag: Gaia G of a star of 1 ADU/s{_of_colours(header)}" if zero is not None else ""),
        ("Faintest star", f"{limit:.1f} mag at 5 sigma, {say_fainter(limit)}" if limit is not None else ""),
        ("Brightness of the sky", f"{dark:.1f} mag/arcsec²: {say_darkness(dark)}" if dark is not None else ""),
    ]


def _of_colours(header: fits.Header) -> str:
    zeros = [(name, _number(header, f"ZEROPT_{name}")) for name in "RGB"]
    said = ", ".join(f"{name} {zero:.2f}" for name, zero in zeros if zero is not None)
    term = _number(header, "COLTERM")
    more = f"; {round(term, 2) + 0.0:+.2f} mag for each magnitude of BP - RP" if term is not None else ""
    return (f" ({said})" if said else "") + more


def _angle(deg: float) -> str:
    return f"{deg:.2f}°" if deg >= 1 else f"{60 * deg:.1f}′"


def _number(header: fits.Header, keyword: str) -> float | None:
    value = header.get(keyword)
    known = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    return float(value) if known else None


# Through the night


def _through_the_night(group: Group, sky: SkyMap | None) -> tuple[str, str]:
    """Words on the air, and the charts."""
    stack = group.stack
    frames = [frame for frame in group.frames if frame.exposure_s]
    if stack is None or len(frames) < 3:
        return "", ""
    lost = lost_light(frames, group.dimming)
    air = air_masses(frames, sky.centre, stack.header) if sky is not None else [math.nan] * len(frames)
    times = all(frame.date_obs is not None for frame in frames)
    x = [frame.date_obs.timestamp() if frame.date_obs and times else i + 1.0 for i, frame in enumerate(frames)]
    label = "UTC" if times else "frame"
    fitted = fit_extinction(air, lost)
    parts = [
        chart(
            [*_split(frames, x, lost, "mag"), *_air_alone(x, air, fitted)],
            "Transparency: light lost against the best frame, mag", label, times, y_zero=True,
        ),
        chart([Series(x, air, "", "dots", "a")], "Air mass (1 is the zenith)", label, times),
        chart(
            _split(frames, x, sky_magnitudes(frames, stack.header), "mag/arcsec²"),
            "Brightness of the sky, mag/arcsec² (higher is darker)", label, times,
        ),
    ]  # fmt: skip
    return _words(lost, fitted), "".join(parts)


def _split(frames: Sequence[FrameRecord], x: Sequence[float], y: Sequence[float], unit: str) -> list[Series]:
    """Dots of stacked frames, crosses of refused ones."""
    made = []
    for status, kind, tone in (("stacked", "dots", "a"), ("refused", "crosses", "bad")):
        own = [i for i, frame in enumerate(frames) if frame.status == status and math.isfinite(y[i])]
        notes = [f"{Path(frames[i].file).name}: {y[i]:.3f} {unit}" for i in own]
        if own:
            named = "refused" if status == "refused" else ""
            made.append(Series([x[i] for i in own], [y[i] for i in own], named, kind, tone, notes))
    return made


def _air_alone(x: Sequence[float], air: Sequence[float], fitted: Extinction | None) -> list[Series]:
    if fitted is None:
        return []
    known = sorted((where, fitted.at(mass)) for where, mass in zip(x, air, strict=True) if math.isfinite(mass))
    return [Series([where for where, _ in known], [lost for _, lost in known], "clear air alone", "dashes", "b")]


def _words(lost: Sequence[float], fitted: Extinction | None) -> str:
    known = [value for value in lost if math.isfinite(value)]
    if not known:
        return ""
    most, usual = max(known), float(np.median(known))
    said = (
        f"At worst {most:.2f} mag were lost, {100 * (1 - 10 ** (-0.4 * most)):.0f} % of the light, at the median "
        f"{usual:.2f} mag."
        if most >= WORTH_A_WORD
        else f"The air let through the same light all night, within {most:.3f} mag."
    )
    if fitted is not None:
        said += (
            f" Each air mass took {fitted.mag:.2f} ± {fitted.error:.2f} mag: the lower the target, the more; what lies "
            "above the dashed line is cloud, haze or dew."
        )
    return f"<p>{escape(said)}</p>"


def _limits(group: Group) -> str:
    known = [] if group.depth is None else [(n, mag) for n, mag in group.depth.limits if math.isfinite(mag)]
    if len(known) < 2:
        return ""
    (first, least), last = known[0], known[-1][0]
    counts = np.unique(np.linspace(first, last, 40).round())
    ideal = least + 1.25 * np.log10(counts / first)
    return chart(
        [Series([n for n, _ in known], [mag for _, mag in known], "measured", "dots", "a"),
         Series(counts.tolist(), ideal.tolist(), "by the root of the number", "dashes", "b")],
        "Faintest star as frames were added, mag (higher is fainter)", "frames stacked",
    )  # fmt: skip
