"""The report's chapters, each a function from what was gathered to markup; "" where there is nothing to say.

Words for people: what was done, what was refused and why, how good the stars were. The lesson on why stacking works
is in `teaching`.
"""

from __future__ import annotations

import math
from collections import Counter
from datetime import datetime
from html import escape
from pathlib import Path

import numpy as np

from livestack.base.errors import FrameError
from livestack.base.journal import FrameRecord
from livestack.base.text import say_duration
from livestack.detection.psf import Profile, PSFModel
from livestack.products.report.charts import Series, chart, field_map
from livestack.products.report.gather import Group, Night
from livestack.products.report.page import facts, picture, slider, table
from livestack.products.report.pictures import (
    draw_crop_pair,
    draw_kernel,
    draw_map,
    draw_pair,
    draw_thumbnail,
    jpeg_address,
)
from livestack.products.report.samples import read_planes
from livestack.products.stack_files import terraces_in

MOST_THUMBNAILS = 24
REASON_WORDS = {
    "no_registration": "could not be aligned", "clouds": "clouds", "bright_sky": "bright sky",
    "defocus": "out of focus", "trailing": "trailed stars", "too_few_stars": "too few stars",
    "high_residual": "aligned badly",
    "rejected_samples": "too unlike the others", "not_a_light": "not a light frame", "wrong_size": "other size",
    "truncated": "file broken off", "unreadable": "file not readable", "vanished": "file vanished",
    "duplicate": "seen twice", "removed": "taken out by hand", "other_field": "another part of the sky",
    "blank": "nothing on it", "master": "no fitting calibration",
}  # fmt: skip


def first_view(night: Night, group: Group, single: np.ndarray | None, single_name: str) -> str:
    """The final picture with one frame beneath it, and the same at full resolution."""
    if group.stack is None:
        return '<p class="warn">This group left no stack.</p>'
    stack = group.stack
    terraces = terraces_in(stack.header, len(stack.image))
    whole, lone = draw_pair(stack.image, single, night.settings.render, stack.bottom_up, terraces)
    n = len(group.stacked)
    label = f"{n} frames stacked" if n else "the stack"
    if lone is None or single is None:
        return picture(jpeg_address(whole), f"the finished picture: {label}")
    _, height, width = stack.image.shape
    near = draw_crop_pair(stack.image, single, night.settings.render, stack.bottom_up, _lively(stack.image), terraces)
    return (
        slider(jpeg_address(lone, 74), jpeg_address(whole, 82), "one frame", label)
        + f'<p class="soft">Drag across the picture. Left: {escape(single_name)}, one frame as it came from the '
        f"camera; "
        "right: the stack. Both are drawn with the same black, white and stretch.</p>"
        + (
            "<h3>A piece at full resolution</h3>"
            + slider(jpeg_address(near[1], 76), jpeg_address(near[0], 82), "one frame", label)
            if width > near[0].shape[1] or height > near[0].shape[0]
            else ""
        )
    )


def _lively(stack: np.ndarray) -> tuple[int, int]:
    """Where there is something to see: centre of the brightest large patch, x and y in stored pixels."""
    luma = np.nan_to_num(stack.mean(axis=0), nan=float(np.nanmedian(stack)))
    height, width = luma.shape
    size = max(8, min(height, width) // 12)
    rows, columns = height // size, width // size
    blocks = np.median(
        luma[: rows * size, : columns * size]
        .reshape(rows, size, columns, size)
        .transpose(0, 2, 1, 3)
        .reshape(rows, columns, -1),
        axis=2,
    )
    middle = np.hypot(*np.meshgrid(np.linspace(-1, 1, rows), np.linspace(-1, 1, columns), indexing="ij"))
    level = float(np.median(blocks))
    row, column = np.unravel_index(int(np.argmax((blocks - level) * (1.3 - 0.6 * middle))), blocks.shape)
    return int((column + 0.5) * size), int((row + 0.5) * size)


def summary(night: Night, group: Group, psf: PSFModel | None) -> str:
    """What happened, in a table."""
    stacked, refused = group.stacked, group.refused
    header = group.stack.header if group.stack else {}
    fwhm = [f.fwhm_px for f in stacked if f.fwhm_px]
    reasons = Counter(f.reason or "" for f in refused)
    because = ", ".join(f"{count} {REASON_WORDS.get(reason, reason)}" for reason, count in reasons.most_common())
    times = sorted(f.date_obs for f in group.frames if f.date_obs)
    rows = [
        ("Object", str(header.get("OBJECT", ""))),
        ("Filter", str(header.get("FILTER", ""))),
        ("Frames stacked", str(len(stacked))),
        ("Frames refused", f"{len(refused)}{': ' + because if because else ''}"),
        ("Exposure in the stack", say_duration(group.exposure_s) if group.exposure_s else ""),
        ("First and last frame", f"{_clock(times[0])} – {_clock(times[-1])} UTC" if times else ""),
        ("Camera, telescope", ", ".join(str(header[k]) for k in ("INSTRUME", "TELESCOP") if header.get(k))),
        ("Reference frame", Path(group.reference.file).name if group.reference else str(header.get("REFFRAME", ""))),
        ("Stars in single frames", f"{np.median(fwhm):.2f} px wide (quick measure, pixels included)" if fwhm else ""),
        ("Stars in the stack", _star_words(psf) if psf else ""),
        ("Rejection", _rejection_words(header)),
        ("Masters", ", ".join(f"{Path(m.file).name} ({m.kind})" for m in night.start.masters) if night.start else ""),
        ("Ended", f"{night.stop.status}: {night.stop.reason}" if night.stop else "cut short: there is no closing line"),
        ("Written by", f"livestack {night.start.version}" if night.start else ""),
    ]  # fmt: skip
    warnings = "".join(f'<p class="warn">{escape(w.message)}</p>' for w in night.warnings)
    return f"<h2 id=session>The session</h2>{warnings}{facts(rows)}"


def _clock(moment: datetime) -> str:
    return moment.strftime("%Y-%m-%d %H:%M:%S")


def _star_words(psf: PSFModel) -> str:
    arcsec = f' = {psf.fwhm_arcsec:.2f}"' if psf.fwhm_arcsec is not None else ""
    return f"{psf.fwhm_px:.2f} px{arcsec} (FWHM of the fitted profile), {psf.profile.ratio:.2f} as wide as long"


def _rejection_words(header: object) -> str:
    value = header.get("REJECT", "") if hasattr(header, "get") else ""
    return str(value)


def trends(night: Night, group: Group, psf: PSFModel | None) -> str:
    """Seeing, focus, sky, transparency, stars, drift and rotation over the night."""
    frames = [f for f in group.frames if f.fwhm_px is not None or f.sky_adu is not None or f.transform is not None]
    if len(frames) < 2:
        return ""
    times = all(f.date_obs is not None for f in frames) and len({f.date_obs for f in frames}) > 1
    where = {id(f): (f.date_obs.timestamp() if times and f.date_obs else float(i + 1)) for i, f in enumerate(frames)}
    label = "UTC" if times else "frame"
    scale = psf.scale_arcsec_px if psf else (group.stack.scale_arcsec_px if group.stack else None)
    factor, unit = (scale, "arcsec") if scale else (1.0, "px")

    def split(value: str, factor: float = 1.0) -> list[Series]:
        made = []
        for status, kind, tone in (("stacked", "dots", "a"), ("refused", "crosses", "bad")):
            own = [f for f in frames if f.status == status and getattr(f, value) is not None]
            if not any(getattr(f, value) for f in own):
                continue
            made.append(
                Series(
                    [where[id(f)] for f in own], [factor * getattr(f, value) for f in own],
                    status if own and status == "refused" else "", kind, tone,
                    [f"{Path(f.file).name}: {factor * getattr(f, value):.4g}" for f in own],
                )
            )  # fmt: skip
        return made

    placed = [(f, np.array(f.transform, dtype=np.float64)) for f in frames if f.transform is not None]
    middle = (np.array([0.0, 0.0, 1.0]) if group.stack is None else
              np.array([group.stack.image.shape[2] / 2, group.stack.image.shape[1] / 2, 1.0]))  # fmt: skip
    moves = [m @ middle for _, m in placed]
    at = [where[id(f)] for f, _ in placed]
    drift_x = [float(v[0] / v[2] - middle[0]) for v in moves]
    drift_y = [float(v[1] / v[2] - middle[1]) for v in moves]
    turn = [math.degrees(math.atan2(m[1, 0], m[0, 0])) for _, m in placed]
    drawn = [
        chart(split("fwhm_px", factor), f"Seeing and focus: FWHM of the stars, {unit}", label, times),
        chart(split("eccentricity"), "Roundness: eccentricity (0 is round)", label, times),
        chart(split("sky_adu"), "Sky brightness, ADU", label, times),
        chart(split("transparency"), "Transparency: light of the stars, reference = 1", label, times),
        chart(split("n_stars"), "Stars found", label, times),
        chart([Series(at, drift_x, "x", "dots", "a"), Series(at, drift_y, "y", "dots", "b")],
              "Drift at the centre of the field, px", label, times),
        chart([Series(at, turn, "", "dots", "a")], "Rotation against the reference, deg", label, times),
        chart(_stack_fwhm(group, factor), f"Stars of the stack as it grew: FWHM, {unit}", "frames stacked"),
    ]  # fmt: skip
    return (
        "<h2 id=trends>Through the night</h2><p>Each dot is a frame; a cross is one that was refused. "
        "A slow rise of the width is focus or the air near the horizon; a jump of the sky is the Moon, dawn or "
        "a lamp; a dip "
        f'of the transparency is a cloud.</p><div class="grid2">{"".join(drawn)}</div>'
    )


def _stack_fwhm(group: Group, factor: float) -> list[Series]:
    known = [(float(r.n_frames), factor * r.fwhm_px) for r in group.psf if r.fwhm_px]
    return [Series([n for n, _ in known], [v for _, v in known], "", "dots", "a")] if len(known) > 2 else []


def refused(night: Night, group: Group) -> str:
    """Every refused frame, with its reason and, where the file can be read, a thumbnail."""
    if not group.refused:
        return ""
    items = []
    for number, frame in enumerate(group.refused):
        shown = _thumbnail(night, frame) if number < MOST_THUMBNAILS else ""
        where = f"{Path(frame.file).name}{f'[{frame.index}]' if frame.index else ''}"
        items.append(
            f"<li>{shown}<div><b>{escape(where)}</b><br>"
            f"{escape(frame.message or frame.reason or 'no reason was recorded')}</div></li>"
        )
        if number >= 199:
            items.append(f"<li><div>and {len(group.refused) - 200} more: see session.jsonl</div></li>")
            break
    return f'<h2 id=refused>Refused frames</h2><ul class="refused">{"".join(items)}</ul>'


def _thumbnail(night: Night, frame: FrameRecord) -> str:
    try:
        planes = read_planes(night.source(frame), frame.index, "superpixel", night.settings.calibration.bayer)
    except (FrameError, OSError, ValueError):
        return ""
    bottom_up = False
    return f'<img src="{jpeg_address(draw_thumbnail(planes, bottom_up), 70)}" alt="thumbnail of the refused frame">'


def star_images(psf: PSFModel | None, bottom_up: bool) -> str:
    """The PSF: table, picture, encircled energy and field map."""
    if psf is None:
        return ""
    radii = np.linspace(0.0, 4.0 * psf.fwhm_px, 120)
    energy = chart(
        [Series(radii.tolist(), psf.profile.encircled_energy(radii).tolist(), "", "line", "a")],
        "Light within a circle, share of the star's light", "radius in px", y_zero=True,
        lines=[(psf.profile.radius_of_energy(0.5), "50 %"), (psf.profile.radius_of_energy(0.8), "80 %")],
    )  # fmt: skip
    kernel = psf.image(2 * math.ceil(2.5 * psf.profile.fwhm_x_px) + 1)
    shown = picture(
        jpeg_address(draw_kernel(kernel), 90), "the point spread function",
        "The point spread function, pixel by pixel (square root of its height)",
    )  # fmt: skip
    map_drawn = field_map(psf.field, psf.size, bottom_up) if psf.field else ""
    words = "".join(f"<p>{escape(sentence)}</p>" for sentence in (psf.field.words if psf.field else ()))
    return (
        "<h2 id=stars>The image of a star</h2><p>A star is a point; what the camera made of it is how every "
        "point of the "
        "picture was smeared, by the air, the optics, the focus and the tracking. Fitted to "
        f"{psf.n_stars} single, unsaturated stars of the stack and averaged:</p>"
        f"<div "
        f'class="grid2"><div>{psf_table(psf)}</div><div>{shown}</div><div>{map_drawn}{words}</div><div>{energy}</div></div>'
        '<p class="soft">A Gaussian is too narrow in the wings for real stars; the Moffat profile is the one to '
        "trust, and "
        "the one that <code>livestack enhance</code> takes back by deconvolution.</p>"
    )


def psf_table(psf: PSFModel) -> str:
    """The averaged table, Gaussian beside Moffat."""
    return table(("", "Gaussian", "Moffat"), psf_rows(psf))


def psf_rows(psf: PSFModel) -> list[tuple[str, str, str]]:
    """(name, Gaussian, Moffat) of the averaged table, as text."""
    scale = psf.scale_arcsec_px

    def both(name: str, say) -> tuple[str, str, str]:  # type: ignore[no-untyped-def]
        return name, say(psf.gaussian), say(psf.moffat)

    def length(name: str, pick) -> list[tuple[str, str, str]]:  # type: ignore[no-untyped-def]
        rows = [both(name, lambda p: f"{pick(p):.2f} px")]
        return [*rows, both("", lambda p: f'{pick(p) * scale:.2f}"')] if scale else rows

    def beta(p: Profile) -> str:
        return "–" if math.isinf(p.beta) else f"{p.beta:.2f} ± {p.beta_error:.2f}"

    return [
        both("N, stars", lambda p: f"{p.n_stars}"),
        both("B, background", lambda p: f"{p.background_adu:.5g} ADU"),
        both("A, amplitude", lambda p: f"{p.amplitude_adu:.5g} ADU"),
        both("sx, width along", lambda p: f"{p.sx_px:.2f} px"),
        both("sy, width across", lambda p: f"{p.sy_px:.2f} px"),
        *length("FWHMx, along", lambda p: p.fwhm_x_px),
        *length("FWHMy, across", lambda p: p.fwhm_y_px),
        both("± (mean of both)", lambda p: f"{p.fwhm_error_px:.3f} px"),
        both("r, across / along", lambda p: f"{p.ratio:.3f}"),
        both("theta, long axis", lambda p: f"{p.theta_deg:+.1f} ± {p.theta_error_deg:.1f} deg"),
        both("beta", beta),
        both("flux", lambda p: f"{p.flux_adu:.4g} ADU px"),
        both("signal", lambda p: f"{p.signal_adu:.4g} ADU"),
        both("MAD, share of A", lambda p: f"{p.mad:.4f}"),
    ]


def maps(group: Group) -> str:
    """Where how much was stacked, and where how much was rejected."""
    if group.stack is None:
        return ""
    shown = []
    coverage = group.stack.maps.get("COVERAGE")
    if coverage is not None:
        mean = coverage.mean(axis=0, dtype=np.float32)
        most = float(np.nanmax(mean)) if mean.size else 0.0
        shown.append(
            picture(
                jpeg_address(draw_map(mean, 0.0, most, group.stack.bottom_up), 84), "coverage map",
                f"Coverage: accepted samples a pixel, dark 0 to bright {most:.0f}",
            )
        )  # fmt: skip
    total = [group.stack.maps[name] for name in ("REJLOW", "REJHIGH") if name in group.stack.maps]
    if total and group.stacked:
        share = sum(m.mean(axis=0, dtype=np.float32) for m in total) * np.float32(100.0 / len(group.stacked))
        top = max(float(np.nanpercentile(share, 99.9)), 100.0 / len(group.stacked))
        shown.append(
            picture(
                jpeg_address(draw_map(np.asarray(share), 0.0, top, group.stack.bottom_up), 84), "rejection map",
                f"Rejected samples: dark none to bright {top:.1f} %; {float(np.nanmean(share)):.2f} % of all "
                f"were rejected",
            )
        )  # fmt: skip
    if not shown:
        return ""
    return (
        '<h2 id=maps>Coverage and rejection</h2><div class="grid2">' + "".join(shown) + "</div>"
        "<p>Lines across the rejection map are satellites and aircraft; specks are cosmic rays and hot pixels; "
        "rings around bright stars mean that the seeing changed or the frames do not lie quite on each other.</p>"
    )
