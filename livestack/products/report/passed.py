"""The chapter on what passed: counts in words, a table, and the brightest cut from the camera's files."""

from __future__ import annotations

import csv
import math
from collections.abc import Sequence
from html import escape
from pathlib import Path

import cv2
import numpy as np

from livestack.base.errors import FrameError
from livestack.movers.passages import Passage, from_rows, kind_words, tally
from livestack.products.report.gather import Group, Night
from livestack.products.report.page import picture, table
from livestack.products.report.pictures import draw_thumbnail, jpeg_address
from livestack.products.report.samples import read_planes
from livestack.stacking.canvas import on_scale

MOST_THUMBNAILS = 24
MOST_ROWS = 200
MARGIN_PX = 24
"""Beyond the ends of a streak that its thumbnail shows."""
TRAILS_SIDE = 1400
"""Longest side of the picture of the night's trails in the report."""
PASSAGES, TRAILS = "passages.csv", "trails.png"
HEAD = ("what", "frame", "frames", "time, UTC", "from x, y", "to x, y", "width, px", "SNR", "px a minute", "name")


def passed_chapter(night: Night, group: Group) -> str:
    """What passed while a group was stacked; "" where nothing did or nobody looked."""
    path = night.folder / group.name / PASSAGES
    if not path.is_file():
        return ""
    try:
        with path.open(newline="", encoding="utf-8") as file:
            passages = from_rows(csv.DictReader(file))
    except (OSError, ValueError) as error:
        return f'<h2 id=passed>What passed</h2><p class="soft">{escape(f"{PASSAGES} cannot be read: {error}")}</p>'
    if not passages:
        return ""
    more = len(passages) - MOST_ROWS
    rest = f'<p class="soft">and {more} more: see {PASSAGES}</p>' if more > 0 else ""
    return (
        f"<h2 id=passed>What passed</h2><p>{escape(tally(passages))}. None of it is in the stack.</p>"
        + table(HEAD, [_row(one) for one in passages[:MOST_ROWS]])
        + rest
        + _trails(night.folder / group.name / TRAILS)
        + _thumbnails(night, group, passages)
    )


def _trails(path: Path) -> str:
    """The picture of the night's trails, small; "" where nothing crossed a frame."""
    data = np.frombuffer(path.read_bytes(), dtype=np.uint8) if path.is_file() else np.zeros(0, dtype=np.uint8)
    drawn = cv2.imdecode(data, cv2.IMREAD_COLOR_RGB) if len(data) else None
    if drawn is None:
        return ""
    scale = min(1.0, TRAILS_SIDE / max(drawn.shape[:2]))
    small = cv2.resize(drawn, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
    words = f"All that crossed single frames, over the stack; full size in {path.parent.name}/{path.name}."
    return picture(jpeg_address(small), "the night's trails", words)


def _row(one: Passage) -> tuple[str, ...]:
    def say(value: float, digits: int) -> str:
        return f"{value:.{digits}f}" if math.isfinite(value) else ""

    ends = (f"{say(one.x0, 0)}, {say(one.y0, 0)}", f"{say(one.x1, 0)}, {say(one.y1, 0)}")
    numbers = say(one.width_px, 1), say(one.snr, 1), say(one.rate_px_min, 3)
    return kind_words(one.kind), one.first_file, str(one.n_frames), one.time_utc[:19], *ends, *numbers, one.name


def _thumbnails(night: Night, group: Group, passages: Sequence[Passage]) -> str:
    """The brightest, each cut from the file in which it was first seen."""
    brightest = sorted(passages, key=lambda one: -(one.snr if math.isfinite(one.snr) else 0.0))[:MOST_THUMBNAILS]
    items = []
    for one in brightest:
        cut = _cut(night, group, one)
        if cut is not None:
            name = escape(f"{kind_words(one.kind)}, {Path(one.first_file).name}")
            image = f'<img src="{jpeg_address(draw_thumbnail(cut), 75)}" alt="{name}">'
            items.append(f"<li>{image}<div><b>{name}</b></div></li>")
    return f'<ul class="refused">{"".join(items)}</ul>' if items else ""


def _cut(night: Night, group: Group, one: Passage) -> np.ndarray | None:
    """The piece (C, h, w) of a frame around what passed; None where the file cannot be read any more."""
    frame = next((each for each in group.frames if each.file == one.first_file), None)
    if frame is None or frame.transform is None:
        return None
    how = night.settings.calibration
    try:
        planes = read_planes(night.source(frame), frame.index, how.interpolation, how.bayer)
    except (FrameError, OSError, ValueError):
        return None
    to_frame = np.linalg.inv(np.array(frame.transform, dtype=float))
    # what moves is shown where it was in this frame, a streak from end to end
    ends = [(one.x0, one.y0)] if one.kind in ("mover", "newcomer") else [(one.x0, one.y0), (one.x1, one.y1)]
    to_frame = to_frame @ on_scale(night.settings.stack.scale)
    places = np.column_stack([np.array(ends), np.ones(len(ends))]) @ to_frame.T
    places = places[:, :2] / places[:, 2:]
    _, height, width = planes.shape
    left, top = np.maximum(places.min(axis=0) - MARGIN_PX, 0).astype(int)
    right, bottom = np.minimum(places.max(axis=0) + MARGIN_PX + 1, (width, height)).astype(int)
    return planes[:, top:bottom, left:right] if right - left > 4 and bottom - top > 4 else None
