"""The colour picture in the report."""

from __future__ import annotations

import base64
import re
import warnings
from pathlib import Path

import cv2
import numpy as np
import pytest
from astropy.io import fits

from livestack.products.report import write_report
from tests.night_folder import SHAPE, draw_sky, make_night


@pytest.fixture
def session(tmp_path: Path) -> Path:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # numpy on the corners without data
        return make_night(tmp_path, n=4, frames_gone=True)


def put_composite(session: Path, **cards: object) -> None:
    rng = np.random.default_rng(8)
    planes = np.stack([500 + draw_sky((0, 0)) * k + rng.normal(0, 4, SHAPE) for k in (0.6, 1.0, 0.8)])
    header = fits.Header({"OBJECT": "M <13>", **cards})
    folder = session / "m-13-sho"
    folder.mkdir()
    fits.writeto(folder / "composite.fits", planes.astype(np.float32), header)


def test_the_report_opens_with_the_colour_picture(session: Path) -> None:
    put_composite(session, PALETTE="SHO", EXPTHA=600.0, EXPTOIII=90.0, EXPTSII=60.0, EXPTOTAL=750.0)
    text = write_report(session).read_text()
    assert "M &lt;13&gt; in colour" in text
    assert "SHO of Ha 10 min, OIII 1 min 30 s, SII 1 min" in text
    first = re.search(r'<img src="data:image/jpeg;base64,([^"]+)"', text)
    assert first is not None
    assert text.index("in colour</h2>") < first.start() < text.index("<h2 id=")
    shown = cv2.imdecode(np.frombuffer(base64.b64decode(first[1]), np.uint8), cv2.IMREAD_COLOR)
    assert shown is not None
    assert shown.shape == (*SHAPE, 3)
    assert 10 < np.median(shown) < 60


def test_without_one_the_report_is_as_ever(session: Path) -> None:
    assert "in colour" not in write_report(session).read_text()


def test_one_that_cannot_be_read_costs_a_sentence(session: Path) -> None:
    put_composite(session, PALETTE="SHO")
    (session / "m-13-sho" / "composite.fits").write_bytes(b"no picture " * 500)
    text = write_report(session).read_text()
    assert "m-13-sho/composite.fits cannot be read" in text
