"""What kind of calibration frame a file is, and which of them belong together.

The kind comes from the header; where that is silent from the names of file and folders ("flats", "Bias_001"), nearest
first; at last from the content: a bias has the lowest level and no hot pixels, a dark is as low but has them, a flat is
high and smooth. Frames belong together when everything that a master is matched by is the same.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy.ndimage import median_filter

from livestack.base.frame import Frame, FrameInfo, FrameKind

_WORDS = (
    (FrameKind.DARK_FLAT, r"dark[-_ ]?flats?|flat[-_ ]?darks?"),
    (FrameKind.BIAS, r"bias(es)?|offsets?|zeros?"),
    (FrameKind.DARK, r"darks?"),
    (FrameKind.FLAT, r"(sky|dawn|dusk|panel)?[-_ ]?flats?"),
    (FrameKind.LIGHT, r"lights?|science"),
)
_PATTERNS = tuple(
    (kind, re.compile(rf"(?<![a-z])(master[-_ ]?)?({words})(?![a-z])", re.IGNORECASE)) for kind, words in _WORDS
)
FLAT_LEVEL = 0.1
"""Share of the range above which a smooth frame is a flat."""
MAX_ROUGHNESS = 3.0
"""Of a flat; dust covers too little of it to count. Real flats have 1.1, landscapes of the Moon 13 to 28."""
SHORT_S = 0.01
SAMPLE_PX = 512


@dataclass(frozen=True)
class Candidate:
    """One frame that may go into a master.

    Attributes
    ----------
    path, index : the file and the position in it.
    kind : as told or found; `why` says by what.
    info : its header.
    level_adu : median of its pixels.
    """

    path: Path
    index: int
    kind: FrameKind
    why: str
    info: FrameInfo
    level_adu: float

    @property
    def name(self) -> str:
        """How we speak of it."""
        return f"{self.path.name}[{self.index}]" if self.index else self.path.name


def kind_by_name(path: Path, root: Path) -> FrameKind:
    """Kind by the file's name, else by the names of its folders up to and with `root`, nearest first."""
    names = [path.stem]
    for parent in path.parents:
        names.append(parent.name)
        if parent == root:
            break
    for name in names:
        for kind, pattern in _PATTERNS:
            if pattern.search(name):
                return kind
    return FrameKind.UNKNOWN


def kind_by_content(frame: Frame) -> FrameKind:
    """Kind by the pixels in the middle of the frame; UNKNOWN when they look like none (stars, daylight).

    A hot pixel is alone, a star shares its light with its neighbours: where most of the outliers have company, it is a
    light.
    """
    data = frame.data if frame.data.ndim == 2 else frame.data[1]
    step = 1 if frame.info.mosaic is None else math.isqrt(len(frame.info.mosaic))
    h, w = data.shape
    y0, x0 = max(0, (h - SAMPLE_PX) // 4 * 2), max(0, (w - SAMPLE_PX) // 4 * 2)
    part = data[y0 : y0 + SAMPLE_PX, x0 : x0 + SAMPLE_PX].astype(np.float32)
    full = frame.info.saturation_adu or (np.iinfo(data.dtype).max if data.dtype.kind in "iu" else float(data.max()))
    level = float(np.median(part)) / full
    excess = np.zeros_like(part)
    for j in range(step):
        for i in range(step):
            phase = part[j::step, i::step]
            excess[j::step, i::step] = phase - median_filter(phase, 5)
    noise = max(float(np.percentile(np.abs(excess), 68.27)), 1e-6 * full)
    strong = excess > 10 * noise
    count = int(strong.sum())
    neighbours = np.zeros_like(part, bool)
    for axis in (0, 1):
        for direction in (-1, 1):
            neighbours |= np.roll(excess, direction, axis) > 4 * noise
    if count >= 10 and (strong & neighbours).sum() > 0.5 * count:
        return FrameKind.UNKNOWN
    if level > FLAT_LEVEL:
        smooth = count <= 1e-3 * part.size and _roughness(part[::step, ::step]) < MAX_ROUGHNESS
        return FrameKind.FLAT if smooth else FrameKind.UNKNOWN
    exposure = frame.info.exposure_s
    if exposure is not None:
        return FrameKind.BIAS if exposure < SHORT_S else FrameKind.DARK
    return FrameKind.DARK if count > 2e-5 * part.size else FrameKind.BIAS


def _roughness(part: np.ndarray) -> float:
    """How much 8 x 8 means vary along the rows, beyond a slope, relative to what the pixels' own noise makes them.

    1 for light without structure; along the rows only, since a flickering lamp leaves bands from row to row.
    """
    h, w = part.shape
    blocks = part[: h // 8 * 8, : w // 8 * 8].reshape(h // 8, 8, w // 8, 8).mean(axis=(1, 3))
    if blocks.shape[1] < 3:
        return 1.0

    def bend(values: np.ndarray) -> float:
        return float(np.percentile(np.abs(np.diff(values, 2, axis=1)), 68.27))

    return 8 * bend(blocks) / max(bend(part), 1e-6)


def key_of(candidate: Candidate) -> tuple[object, ...]:
    """What frames of one master share, temperature apart."""
    i = candidate.info
    exposure = None
    if candidate.kind in (FrameKind.DARK, FrameKind.DARK_FLAT) and i.exposure_s is not None:
        exposure = float(f"{i.exposure_s:.3g}")
    filter_name = (i.filter_name or "").casefold() if candidate.kind is FrameKind.FLAT else ""
    pixels = i.size, i.planes, i.mosaic, i.binning
    return candidate.kind.value, *pixels, i.gain, i.offset, i.camera, exposure, filter_name


def group_candidates(candidates: list[Candidate], tolerance_c: float) -> list[list[Candidate]]:
    """Frames that belong together, in a fixed order.

    Temperatures count for bias and dark frames only: sorted, they are cut where a group would span more than
    `tolerance_c`. Frames that do not tell theirs form a group of their own.
    """
    by_key: dict[tuple[object, ...], list[Candidate]] = {}
    for candidate in sorted(candidates, key=lambda c: (str(c.path), c.index)):
        by_key.setdefault(key_of(candidate), []).append(candidate)
    groups = []
    for key in sorted(by_key, key=repr):
        members = by_key[key]
        if members[0].kind is FrameKind.FLAT:
            groups.append(members)
            continue
        groups += _cut_by_temperature(members, tolerance_c)
    return groups


def _cut_by_temperature(members: list[Candidate], tolerance_c: float) -> list[list[Candidate]]:
    silent = [c for c in members if c.info.temperature_c is None]
    told = sorted((c for c in members if c.info.temperature_c is not None), key=lambda c: c.info.temperature_c or 0.0)
    groups: list[list[Candidate]] = [silent] if silent else []
    start = None
    for candidate in told:
        t = candidate.info.temperature_c or 0.0
        if start is None or t - start > tolerance_c:
            groups.append([])
            start = t
        groups[-1].append(candidate)
    return [sorted(group, key=lambda c: (str(c.path), c.index)) for group in groups]
