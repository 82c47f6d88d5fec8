"""The report of a small session: complete, self-contained, honest in its numbers, and safe against hostile names."""

from __future__ import annotations

import csv
import json
import re
import warnings
from html.parser import HTMLParser

import cv2
import numpy as np
import pytest
from astropy.io import fits
from scipy import stats

from livestack.base.errors import NothingStacked, SessionError
from livestack.base.journal import RemovedRecord, read_journal
from livestack.base.settings import PSFSettings
from livestack.detection.psf import Cell, FieldMap
from livestack.products.report import write_report
from livestack.products.report.charts import Series, chart, field_map, nice_ticks
from livestack.products.report.gather import gather_night
from livestack.products.report.lesson import clipped_mean, learn
from livestack.products.report.psf_words import STAR_COLUMNS, draw_psf, measure_file, plain_words, write_star_csv
from livestack.products.report.samples import PIECE, Samples, block_noise, choose_piece, noise_as_added, sample_piece
from tests.night_folder import NOISE, SHAPE, make_night


class Checker(HTMLParser):
    """Collects what a page would fetch or run, and whether its tags close."""

    VOID = frozenset(("meta", "img", "input", "br", "path", "circle", "ellipse", "rect", "polyline", "link"))

    def __init__(self):
        super().__init__()
        self.sources, self.open, self.broken, self.tags = [], [], [], []

    def handle_starttag(self, tag, attributes):
        self.tags.append(tag)
        self.sources += [v for k, v in attributes if k in ("src", "href", "data", "action", "srcset")]
        if any(k.startswith("on") for k, _ in attributes):
            self.broken.append(f"handler on {tag}")
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        if tag in self.VOID:
            return
        if not self.open or self.open[-1] != tag:
            self.broken.append(f"</{tag}> closes {self.open[-1:]}")
        else:
            self.open.pop()


def check(page):
    checker = Checker()
    checker.feed(page)
    return checker


@pytest.fixture(scope="module")
def session(tmp_path_factory):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # all-NaN corners of the made-up stack
        return make_night(tmp_path_factory.mktemp("night"))


@pytest.fixture(scope="module")
def page(session):
    return write_report(session).read_text(encoding="utf-8")


def test_every_chapter_is_there(page):
    for words in (
        "The session", "Through the night", "Refused frames", "The image of a star", "Coverage and rejection",
        "Did more frames help?", "Why stacking works", "What crossed your picture",
    ):  # fmt: skip
        assert words in page
    assert "The stars grow: check the focus." in page
    assert "2: 2 clouds" in page
    assert "12 min" in page
    assert "Cam &lt;1&gt;" in page


def test_page_is_whole_and_fetches_nothing(page):
    checker = check(page)
    assert checker.broken == []
    assert checker.open == []
    assert [s for s in checker.sources if not s.startswith(("data:image/jpeg;base64,", "#"))] == []
    assert "http://" not in page
    assert "https://" not in page
    assert "@import" not in page
    assert "url(" not in page
    assert len(page) < 5e6
    targets = set(re.findall(r'id="([^"]+)"', page))
    assert {s[1:] for s in checker.sources if s.startswith("#")} <= targets


def test_refused_frames_have_reason_and_thumbnail(page):
    part = page.split("Refused frames</h2>")[1].split("<h2")[0]
    assert part.count("<li>") == 2
    assert part.count("data:image/jpeg") == 2
    assert "light_002.fits" in part
    assert "20 % of their usual light" in part


def test_camera_files_are_only_read(session):
    camera = session.parent.parent
    before = {p.name: (p.stat().st_mtime_ns, p.read_bytes()) for p in camera.glob("*.fits")}
    write_report(session)
    assert {p.name: (p.stat().st_mtime_ns, p.read_bytes()) for p in camera.glob("*.fits")} == before


def test_names_cannot_inject(tmp_path):
    evil = "<script>alert('x')</script>\"onload=\"&"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        folder = make_night(tmp_path, n=4, object_name=evil, trail_in=None, frames_gone=True)
    journal = folder / "session.jsonl"
    text = journal.read_text().replace("clouds: the stars", "<img src=x onerror=alert(1)> the stars")
    text = text.replace("light_002.fits", "<b>light_002.fits").replace("the folder was quiet", "</td><h1>quiet")
    journal.write_text(text)
    page = write_report(folder).read_text(encoding="utf-8")
    checker = check(page)
    assert checker.broken == []
    assert checker.tags.count("script") == 1
    assert "<img src=x" not in page
    assert checker.tags.count("h1") == 1


def test_without_camera_files_the_rest_is_reported(tmp_path):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        folder = make_night(tmp_path, n=5, frames_gone=True)
    page = write_report(folder).read_text(encoding="utf-8")
    assert "Through the night" in page
    assert "The image of a star" in page
    assert "Why stacking works, on" not in page
    assert "they could not be had" in page


def test_nothing_stacked_still_has_a_report(tmp_path):
    (tmp_path / "session.jsonl").write_text(
        '{"type": "session_start", "time": "2026-03-14T22:00:00Z", "version": "1", "settings": {}, "folder": "/x"}\n'
        '{"type": "frame", "time": "2026-03-14T22:00:09Z", "file": "a.fits", "status": "refused", "reason": "cut",'
        ' "message": "truncated: 4 of 9 bytes"}\n{"type": "fra'
    )
    page = write_report(tmp_path).read_text(encoding="utf-8")
    assert "truncated: 4 of 9 bytes" in page
    assert "no stack" in page
    assert "cut short" in page


def test_no_journal_is_named(tmp_path):
    with pytest.raises(SessionError, match="journal"):
        write_report(tmp_path)


def test_a_frame_taken_out_counts_as_refused(session, tmp_path):
    copy = tmp_path / "copy"
    copy.mkdir()
    text = (session / "session.jsonl").read_bytes()
    removed = RemovedRecord(file="light_005.fits", group="m13").to_line()
    (copy / "session.jsonl").write_bytes(text + removed)
    group = gather_night(copy).groups[0]
    assert len(group.stacked) == len(gather_night(session).groups[0].stacked) - 1
    assert any(f.file == "light_005.fits" and f.reason == "removed" for f in group.refused)
    assert len(read_journal(copy)) == len(read_journal(session)) + 1


def test_samples_lie_on_the_stack(session):
    """The piece of each frame, brought to the grid by the journal's transform, is the stack's piece plus noise."""
    night = gather_night(session)
    group = night.groups[0]
    corner = choose_piece(group.stack)
    samples = sample_piece(night, group, corner)
    x, y = corner
    truth = group.stack.image[0, y : y + PIECE, x : x + PIECE]
    assert samples.cube.shape == (12, PIECE, PIECE)
    residual = samples.cube - truth
    residual = residual[np.isfinite(residual)]
    inside = np.abs(residual) < 6 * NOISE
    assert inside.mean() > 0.98
    assert np.std(residual[inside]) < 1.3 * NOISE
    assert abs(np.median(residual)) < 0.1 * NOISE


def pure_noise(n, size=PIECE, seed=1):
    rng = np.random.default_rng(seed)
    cube = rng.normal(500, 7, (n, size, size)).astype(np.float32)
    return Samples(cube, [f"f{i}" for i in range(n)], (10, 20), n)


def test_noise_falls_with_the_root_of_n():
    counts, noise = noise_as_added(pure_noise(25).cube)
    np.testing.assert_allclose(noise, 1 / np.sqrt(counts), rtol=0.08)
    assert block_noise(pure_noise(1).cube[0]) == pytest.approx(7 / 4, rel=0.05)


def test_the_lesson_tells_the_truth():
    samples = pure_noise(30)
    samples.cube[11, 40, 60] += 300
    lesson = learn(samples)
    assert lesson.hit_is_real
    assert (lesson.hit.x, lesson.hit.y) == (70, 60)
    assert lesson.hit.culprit == 11
    values = samples.cube[:, 40, 60].astype(float)
    assert lesson.hit.mean == pytest.approx(values.mean())
    assert lesson.hit.median == pytest.approx(np.median(values))
    distance = np.abs(values - np.median(values))
    kept = distance <= 3 * 1.4826 * np.median(distance)
    assert not kept[11]
    assert lesson.hit.clipped == pytest.approx(values[kept].mean())
    assert lesson.hit.n_clipped == 30 - kept.sum()
    assert lesson.noise[1] == pytest.approx(1.22, abs=0.06)
    assert lesson.noise[2] == pytest.approx(1.05, abs=0.06)
    assert lesson.normality_p == pytest.approx(stats.shapiro(lesson.quiet.samples).pvalue)
    assert np.std(lesson.pooled) == pytest.approx(7, rel=0.08)


def test_without_a_satellite_one_is_added_on_paper():
    lesson = learn(pure_noise(20))
    assert not lesson.hit_is_real
    assert lesson.hit.samples.max() == pytest.approx(lesson.quiet.median + 20 * lesson.quiet.sigma)


def test_clipping_against_the_plain_definition():
    rng = np.random.default_rng(4)
    cube = rng.normal(0, 1, (15, 6, 7))
    cube[3] += 30
    mean, left_out = clipped_mean(cube)
    for y in range(6):
        for x in range(7):
            v = cube[:, y, x]
            limit = 3 * 1.4826 * np.median(np.abs(v - np.median(v)))
            kept = v[np.abs(v - np.median(v)) <= limit]
            assert mean[y, x] == pytest.approx(kept.mean())
            assert left_out[y, x] == 15 - len(kept)


def test_charts_escape_and_leave_out_what_is_not_finite():
    drawn = chart(
        [Series([1, 2, 3, 4], [1.0, np.nan, 3.0, np.inf], "<b>", notes=("a", "b", "<i>", "d"))], "y & z", "x<"
    )
    assert drawn.count("<circle") == 2
    assert "&lt;b&gt;" in drawn
    assert "&lt;i&gt;" in drawn
    assert "y &amp; z" in drawn
    assert check(drawn).broken == []
    assert chart([Series([], [])], "nothing") == ""
    assert chart([Series([1.0], [5.0])], "one") != ""


def test_ticks_are_round_and_inside():
    assert nice_ticks(0, 10, 5) == [0, 2, 4, 6, 8, 10]
    assert nice_ticks(5, 5) == [5]
    for low, high in ((0.013, 0.0171), (-3e4, 9e5), (1e-9, 2e-9)):
        ticks = nice_ticks(low, high)
        assert 2 <= len(ticks) <= 7
        assert low <= min(ticks)
        assert max(ticks) <= high * (1 + 1e-9)


def test_field_map_is_turned_with_the_picture():
    cells = tuple(Cell(0, 50.0 * i, 100, 50.0 * i + 50, 3, 3.0 + i, 0.8, 30.0) for i in range(2))
    the_map = FieldMap(1, 2, cells, None, None, None, 0.1, 0.0, None, ())
    top_down, bottom_up = field_map(the_map, (100, 100)), field_map(the_map, (100, 100), bottom_up=True)
    assert "rotate(30.0" in top_down
    assert "rotate(-30.0" in bottom_up
    assert top_down.index("3.00<") < top_down.index("4.00<")
    heights = [float(v) for v in re.findall(r'<rect[^>]* y="([-\d.]+)"', bottom_up)]
    assert heights[0] > heights[1]


def test_picture_size_does_not_run_away(page):
    assert SHAPE == (330, 420)
    assert len(page) < 1_500_000


def test_the_psf_command_reads_any_image(session, tmp_path):
    model = measure_file(session / "m13" / "stack.fits", PSFSettings())
    # drawn as (1 + (r / 3.2)^2)^-3, point-sampled: FWHM 6.4 sqrt(2^(1/3) - 1) = 3.26 px; the warp widens it
    assert model.fwhm_px == pytest.approx(3.26, rel=0.05)
    assert model.scale_arcsec_px == pytest.approx(206.265 * 3.76 / 530, rel=1e-3)
    words = json.loads(json.dumps(plain_words(model), allow_nan=False))
    assert words["moffat"]["beta"] == pytest.approx(3.0, rel=0.15)
    assert words["gaussian"]["beta"] is None
    write_star_csv(model, tmp_path / "stars.csv")
    rows = list(csv.reader((tmp_path / "stars.csv").read_text().splitlines()))
    assert rows[0] == list(STAR_COLUMNS)
    assert len(rows) == 1 + len(model.stars)
    assert float(rows[1][rows[0].index("snr")]) >= float(rows[-1][rows[0].index("snr")])
    draw_psf(model, tmp_path / "psf.png", "M 13 $x$")
    assert cv2.imread(str(tmp_path / "psf.png")).shape[1] > 1000


def test_the_psf_command_says_when_there_is_no_star(tmp_path):
    fits.writeto(tmp_path / "empty.fits", np.random.default_rng(0).normal(100, 5, (80, 120)).astype(np.float32))
    with pytest.raises(NothingStacked, match=r"empty\.fits: found no single"):
        measure_file(tmp_path / "empty.fits", PSFSettings())
