"""The report's chapter on what passed, from a table written here and files of numpy's."""

from __future__ import annotations

import base64
import re
from pathlib import Path

import cv2
import numpy as np
from astropy.io import fits

from livestack.base.journal import FrameRecord
from livestack.movers.passages import Passage, as_csv
from livestack.products.report.gather import Group, Night
from livestack.products.report.passed import passed_chapter

SHIFT = [[1.0, 0.0, 30.0], [0.0, 1.0, 10.0], [0.0, 0.0, 1.0]]


def a_night(folder: Path, passages: list[Passage]) -> tuple[Night, Group]:
    (folder / "g").mkdir()
    (folder / "g" / "passages.csv").write_text(as_csv(passages))
    frame = FrameRecord(file="a.fits", status="stacked", group="g", transform=SHIFT)
    group = Group("g", (frame,), None)
    return Night(folder, None, None, (group,), (), ()), group


def test_what_passed_is_counted_told_and_cut_from_its_frame(tmp_path: Path) -> None:
    image = np.random.default_rng(1).normal(500, 10, (120, 200)).astype(np.float32)
    image[50, 40:100] += 900
    fits.PrimaryHDU(image).writeto(tmp_path / "a.fits")
    streak = Passage("satellite", "a.fits", "a.fits", 1, "2026-11-20T20:00:00Z", 70, 60, 129, 60, 3.0, 12.0)
    gone = Passage("meteor", "gone & lost.fits", "gone & lost.fits", 1, "", 1, 2, 3, 4)
    said = passed_chapter(*a_night(tmp_path, [streak, gone]))
    assert "1 satellite, 1 meteor" in said
    assert "gone &amp; lost.fits" in said
    (drawn,) = re.findall(r'base64,([^"]+)"', said)
    cut = cv2.imdecode(np.frombuffer(base64.b64decode(drawn), np.uint8), cv2.IMREAD_GRAYSCALE)
    assert cut.shape == (49, 108)
    assert int(cut.mean(axis=1).argmax()) == 24


def test_nothing_to_say(tmp_path: Path) -> None:
    assert passed_chapter(*a_night(tmp_path, [])) == ""
    (tmp_path / "g" / "passages.csv").unlink()
    night, group = a_night(tmp_path / "g", [])
    assert passed_chapter(Night(tmp_path, None, None, (), (), ()), group) == ""
    assert night.groups == (group,)
