"""The night report: one HTML file that tells what became of the night, from the session's folder alone.

`write_report` gathers journal and stacks (`gather`), goes back to the camera's files for single frames where they can
still be read (`samples`), and writes `report.html`: pictures, the session in figures, the sky, trends, refused frames,
the image of a star, maps, and why stacking worked (`sections`, `sky`, `teaching`). The page needs nothing but itself.
"""

from __future__ import annotations

from html import escape
from pathlib import Path

import numpy as np

from livestack.base.durable import write_atomically
from livestack.detection.psf import PSFModel, measure_psf
from livestack.products.report import sections
from livestack.products.report.colour import colour_chapter
from livestack.products.report.gather import Group, Night, StackFile, gather_night
from livestack.products.report.lesson import learn
from livestack.products.report.light import light_chapter
from livestack.products.report.page import page
from livestack.products.report.passed import passed_chapter
from livestack.products.report.samples import choose_piece, frame_on_grid, sample_piece
from livestack.products.report.sky import sky_chapter
from livestack.products.report.teaching import lesson_chapter, noise_chapter

__all__ = ["REPORT_NAME", "write_report"]

REPORT_NAME = "report.html"
CHAPTERS = (
    ("session", "Session"), ("sky", "Sky"), ("trends", "Trends"), ("refused", "Refused"), ("stars", "Stars"),
    ("light", "Light of the stars"), ("passed", "What passed"), ("maps", "Maps"),
    ("noise", "Noise"), ("why", "Why stacking works"),
)  # fmt: skip


def write_report(session_dir: Path) -> Path:
    """Write the report of a session into its folder; its path.

    Parameters
    ----------
    session_dir : the folder that holds session.jsonl. The camera's files are only read.

    Raises
    ------
    SessionError
        The folder holds no journal, or the report cannot be written.
    """
    night = gather_night(Path(session_dir))
    parts = [_group_part(night, group, len(night.groups) > 1) for group in night.groups]
    said = list(night.notices)
    parts.insert(0, colour_chapter(night, said))
    notices = "".join(f'<p class="soft">{escape(notice)}</p>' for notice in said)
    target = Path(session_dir) / REPORT_NAME
    text = page(f"Night report: {_title(night)}", _head(night) + "".join(parts) + notices)
    write_atomically(target, text.encode(errors="replace"))  # names of files need not be text
    return target


def _title(night: Night) -> str:
    """Objects of the night, or the folder's name."""
    objects = [str(g.stack.header.get("OBJECT", "")).strip() for g in night.groups if g.stack]
    return ", ".join(dict.fromkeys(name for name in objects if name)) or (
        Path(night.start.folder).name if night.start else night.folder.name
    )


def _head(night: Night) -> str:
    times = night.times
    when = f"{times[0]:%Y-%m-%d %H:%M} – {times[1]:%H:%M} UTC" if times else ""
    return (
        f'<header><div><h1>{escape(_title(night))}</h1><span class="soft">{escape(when)}</span></div>'
        '<button id="night" type="button" aria-pressed="false">Night view (red)</button></header>'
    )


def _group_part(night: Night, group: Group, several: bool) -> str:
    """All chapters of one group."""
    stack = group.stack
    n_stars = [f.n_stars for f in group.stacked if f.n_stars is not None]
    psf = None if stack is None or (n_stars and np.median(n_stars) < 3) else _measure(stack)
    single = None if stack is None else frame_on_grid(night, group, stack.image.shape, stack.first_pixel)
    corner = None if stack is None else choose_piece(stack)
    samples = None
    if stack is not None and corner is not None:
        samples = sample_piece(night, group, corner, stack.first_pixel, mono=len(stack.image) == 1)
    chapters = [
        sections.first_view(night, group, single[1] if single else None, Path(single[0].file).name if single else ""),
        sections.summary(night, group, psf),
        sky_chapter(group, psf),
        sections.trends(night, group, psf),
        sections.refused(night, group),
        sections.star_images(psf, stack.bottom_up if stack else False),
        light_chapter(night.folder / group.name),
        passed_chapter(night, group),
        sections.maps(group),
        noise_chapter(samples) if samples else "",
        lesson_chapter(samples, learn(samples)) if samples else "",
    ]
    if not samples and group.stacked:
        chapters.append(
            '<p class="soft">The chapters on noise and on why stacking works need at least three of the '
            "camera's files and a "
            "quiet, fully covered piece of sky; they could not be had.</p>"
        )
    body = "".join(chapters)
    links = "".join(
        f'<a href="#{_anchor(group, key, several)}">{words}</a>' for key, words in CHAPTERS if f"id={key}>" in body
    )
    for key, _ in CHAPTERS:
        body = body.replace(f"<h2 id={key}>", f'<h2 id="{_anchor(group, key, several)}">')
    heading = f"<h2>{escape(group.name)}</h2>" if several else ""
    return f'<section>{heading}<nav aria-label="chapters">{links}</nav>{body}</section>'


def _anchor(group: Group, key: str, several: bool) -> str:
    return escape(f"{group.name}-{key}".replace(" ", "-")) if several else key


def _measure(stack: StackFile) -> PSFModel | None:
    """The PSF of a stack's mean over its channels."""
    luminance = stack.image.mean(axis=0, dtype=np.float32)
    return measure_psf(luminance, scale_arcsec_px=stack.scale_arcsec_px)
