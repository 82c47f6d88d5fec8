"""Satellites that are seen in several frames are one each; what is beside, behind or across them is not theirs."""

from __future__ import annotations

import math

from livestack.movers.passages import Passage, join_satellites

FILES = [f"f{k}" for k in range(6)]


def streak(number: int, along: float, length: float = 60.0, aside: float = 0.0, turn: float = 0.0, **other) -> Passage:
    """On a line at 30 degrees through (100, 100): from `along` on."""
    a, b = math.radians(30.0), math.radians(30.0 + turn)
    x, y = 100 + along * math.cos(a) - aside * math.sin(a), 100 + along * math.sin(a) + aside * math.cos(a)
    ends = (x, y, x + length * math.cos(b), y + length * math.sin(b))
    if other.pop("reverse", False):
        ends = (*ends[2:], *ends[:2])
    return Passage(other.get("kind", "satellite"), FILES[number], FILES[number], 1, "", *ends, 3.0, 5.0)


def test_parts_become_one_whichever_way_they_were_told() -> None:
    parts = [streak(1, 0.0), streak(2, 70.0, reverse=True), streak(3, 140.0)]
    (one,) = join_satellites(parts, FILES)
    assert (one.first_file, one.last_file, one.n_frames) == ("f1", "f3", 3)
    assert math.hypot(one.x0 - 100, one.y0 - 100) < 1e-9
    assert abs(one.length_px - 200.0) < 1e-9
    (back,) = join_satellites([streak(1, 0.0), streak(2, -70.0), streak(3, -140.0)], FILES)
    assert abs(back.length_px - 200.0) < 1e-9
    assert math.hypot(back.x1 - one.x0, back.y1 - one.y0) > 100


def test_others_stay_apart() -> None:
    first = streak(1, 0.0)
    for other in (
        streak(3, 70.0), streak(2, 70.0, aside=15.0), streak(2, 70.0, turn=12.0), streak(2, 70.0, length=150.0),
        streak(2, 300.0), streak(2, 20.0), streak(2, 70.0, kind="meteor"), streak(1, 70.0),
    ):  # fmt: skip
        assert join_satellites([first, other], FILES) == [first, other]
    # no turning back
    assert len(join_satellites([first, streak(2, 70.0), streak(3, -70.0)], FILES)) == 2
