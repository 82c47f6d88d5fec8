"""What passed in a night: one `Passage` for each, and how it is told in words and in a table."""

from __future__ import annotations

import csv
import io
import math
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from typing import Any

import numpy as np

from livestack.astrometry.sky_map import position_angle_deg

COLUMNS = (
    "kind", "first_file", "last_file", "n_frames", "time_utc", "x0", "y0", "x1", "y1", "width_px", "snr",
    "rate_px_min", "position_angle_deg", "ra0_deg", "dec0_deg", "ra1_deg", "dec1_deg", "name",
)  # fmt: skip
"""Of `passages.csv`."""
KINDS = ("satellite", "aircraft", "meteor", "mover", "newcomer", "unknown")
_WORDS = {
    "satellite": ("satellite", "satellites"),
    "aircraft": ("aircraft", "aircraft"),
    "meteor": ("meteor", "meteors"),
    "mover": ("moving point", "moving points"),
    "newcomer": ("new star", "new stars"),
    "unknown": ("trail of unknown kind", "trails of unknown kind"),
}
JOINED_TURN_DEG, JOINED_OFF_PX, JOINED_GAP = 3.0, 6.0, 1.5
"""A satellite goes on in the next frame along its line, no farther on than so many lengths."""
_DIGITS = {"snr": 2, "rate_px_min": 4, "position_angle_deg": 2} | dict.fromkeys(
    ("ra0_deg", "dec0_deg", "ra1_deg", "dec1_deg"), 6
)


@dataclass(frozen=True)
class Passage:
    """Something that passed, moved, or is new; NaN where a number is not known.

    Attributes
    ----------
    kind : one of `KINDS`.
    first_file, last_file, n_frames : in which frames; time_utc : ISO 8601, the middle of the first exposure.
    x0, y0, x1, y1 : pixels of the reference: ends of a streak, or first and last place of what moves.
    width_px : FWHM across; snr : of a streak, mean light on its axis over the noise of a pixel; of a point, of its
        light in a single frame.
    rate_px_min : of what moves from frame to frame; position_angle_deg : of its motion, or of a streak, north through
        east; of a streak 0 to 180.
    """

    kind: str
    first_file: str
    last_file: str
    n_frames: int
    time_utc: str
    x0: float
    y0: float
    x1: float
    y1: float
    width_px: float = math.nan
    snr: float = math.nan
    rate_px_min: float = math.nan
    position_angle_deg: float = math.nan
    ra0_deg: float = math.nan
    dec0_deg: float = math.nan
    ra1_deg: float = math.nan
    dec1_deg: float = math.nan
    name: str = ""

    def row(self) -> list[str]:
        """As a row of the table."""
        return [_cell(column, getattr(self, column)) for column in COLUMNS]

    def state(self) -> dict[str, Any]:
        """Plain values, for `Passage(**state)`."""
        return asdict(self)

    @property
    def length_px(self) -> float:
        """From end to end."""
        return math.hypot(self.x1 - self.x0, self.y1 - self.y0)

    def distance_px(self, x: float, y: float) -> float:
        """How far a place lies from the way between its ends."""
        dx, dy = self.x1 - self.x0, self.y1 - self.y0
        share = ((x - self.x0) * dx + (y - self.y0) * dy) / max(dx * dx + dy * dy, 1e-9)
        share = min(max(share, 0.0), 1.0)
        return math.hypot(x - self.x0 - share * dx, y - self.y0 - share * dy)

    @property
    def sentence(self) -> str:
        """What is said of it."""
        word = _WORDS[self.kind][0]
        what = f"{self.name} ({word})" if self.name else f"{'an' if word[0] in 'au' else 'a'} {word}"
        if self.kind == "newcomer":
            return f"{what} at pixel {self.x0:.1f}, {self.y0:.1f}, first seen in {self.first_file}"
        if self.kind == "mover":
            return (
                f"{what} from pixel {self.x0:.0f}, {self.y0:.0f} to {self.x1:.0f}, {self.y1:.0f} in {self.n_frames} "
                f"frames, {self.rate_px_min:.3g} px a minute"
            )
        where = self.first_file if self.n_frames == 1 else f"{self.n_frames} frames from {self.first_file} on"
        return f"{what} in {where}, {self.length_px:.0f} px long"


def _cell(column: str, value: object) -> str:
    if isinstance(value, float):
        return f"{value:.{_DIGITS.get(column, 2)}f}" if math.isfinite(value) else ""
    return str(value)


def on_sky(passage: Passage, to_sky: Callable[[np.ndarray], np.ndarray]) -> Passage:
    """With its places in the sky and its position angle.

    Parameters
    ----------
    to_sky : reference pixels (n, 2) -> right ascension and declination (n, 2), degrees.
    """
    places = np.array([[passage.x0, passage.y0], [passage.x1, passage.y1]])
    (ra0, dec0), (ra1, dec1) = np.asarray(to_sky(places), dtype=float).tolist()
    angle = position_angle_deg(ra0, dec0, ra1, dec1) % (360.0 if passage.kind == "mover" else 180.0)
    return replace(
        passage, ra0_deg=ra0, dec0_deg=dec0, ra1_deg=ra1, dec1_deg=dec1,
        position_angle_deg=math.nan if passage.kind == "newcomer" else angle,
    )  # fmt: skip


def join_satellites(passages: Iterable[Passage], files: Sequence[str]) -> list[Passage]:
    """The same with satellites that go on from one frame to the next as one each, in their first place.

    Parameters
    ----------
    files : of the frames, in the order in which they were taken.
    """
    number = {file: k for k, file in enumerate(files)}
    joined: list[Passage] = []
    for one in passages:
        before = next((k for k in reversed(range(len(joined))) if _goes_on(joined[k], one, number)), None)
        if before is None:
            joined.append(one)
        else:
            joined[before] = _as_one(joined[before], one)
    return joined


def _goes_on(one: Passage, later: Passage, number: Mapping[str, int]) -> bool:
    """True when the streak of the frame after another's last is on its line, behind one of its ends, and as long."""
    if not (one.kind == later.kind == "satellite") or later.n_frames != 1:
        return False
    if number.get(one.last_file, -2) + 1 != number.get(later.first_file, -1):
        return False
    length, its = one.length_px / one.n_frames, later.length_px
    turn = math.atan2(later.y1 - later.y0, later.x1 - later.x0) - math.atan2(one.y1 - one.y0, one.x1 - one.x0)
    if not 0.7 < its / max(length, 1e-9) < 1.4 or abs(math.sin(turn)) > math.sin(math.radians(JOINED_TURN_DEG)):
        return False
    way = np.array([one.x1 - one.x0, one.y1 - one.y0]) / max(one.length_px, 1e-9)
    ends = np.array([[later.x0, later.y0], [later.x1, later.y1]]) - (one.x0, one.y0)
    along, across = ends @ way, ends @ np.array([-way[1], way[0]])
    gap = max(float(along.min()) - one.length_px, -float(along.max()))
    if one.n_frames > 1 and float(along.min()) < one.length_px - JOINED_OFF_PX:
        return False  # it has a direction by now
    off = JOINED_OFF_PX + math.sin(math.radians(JOINED_TURN_DEG)) * max(gap, 0.0)
    return -JOINED_OFF_PX < gap < JOINED_GAP * length and float(np.abs(across).max()) < off


def _as_one(one: Passage, later: Passage) -> Passage:
    """Two parts of a satellite's way, from where it was first to where it was last."""
    ends = np.array([[one.x0, one.y0], [one.x1, one.y1], [later.x0, later.y0], [later.x1, later.y1]])
    apart = np.hypot(*(ends[:2, None] - ends[None, 2:]).transpose(2, 0, 1))
    begin, end = np.unravel_index(int(apart.argmax()), apart.shape)
    (x0, y0), (x1, y1) = ends[begin].tolist(), ends[2 + end].tolist()
    return replace(
        one, last_file=later.last_file, n_frames=one.n_frames + 1, x0=x0, y0=y0, x1=x1, y1=y1,
        snr=max(one.snr, later.snr),
    )  # fmt: skip


def as_csv(passages: Iterable[Passage]) -> str:
    """The table, with its heading."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(COLUMNS)
    writer.writerows(one.row() for one in passages)
    return text.getvalue()


def from_rows(rows: Iterable[Mapping[str, str]]) -> list[Passage]:
    """Passages of a table that was read with `csv.DictReader`."""
    made = []
    for row in rows:
        words = {one.name: row.get(one.name, "") for one in fields(Passage)}
        plain: dict[str, Any] = {}
        for name, word in words.items():
            if name in ("kind", "first_file", "last_file", "time_utc", "name"):
                plain[name] = word
            elif name == "n_frames":
                plain[name] = int(word or 1)
            else:
                plain[name] = float(word) if word else math.nan
        made.append(Passage(**plain))
    return made


def kind_words(kind: str) -> str:
    """What one of a kind is called: "satellite"."""
    return _WORDS[kind][0] if kind in _WORDS else kind


def tally(passages: Sequence[Passage]) -> str:
    """ "14 satellites, 1 meteor, 2 moving points"; empty where nothing passed."""
    counts = Counter(one.kind for one in passages)
    return ", ".join(f"{counts[kind]} {_WORDS[kind][counts[kind] > 1]}" for kind in KINDS if counts[kind])
