"""The observer that asks where a reference lies: a session under the real sky, and going on from a checkpoint."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits
from typer.testing import CliRunner

from livestack.astrometry import Solved, Solver, Unsolved
from livestack.base.journal import SolutionRecord, read_journal
from livestack.base.settings import Settings
from livestack.engine.live_stack import LiveStack
from livestack.faces.cli import app
from livestack.formats import read_frame
from livestack.observers.plate_solving import PlateSolving
from livestack.products.saver import deepest
from livestack.products.stack_files import set_sky
from livestack.simulate import named_scenario, simulate_frame
from livestack.simulate.sky import star_colours
from tests.astrometry.test_installed import put_sky

pytestmark = pytest.mark.real_sky

RA, DEC, SCALE = 83.8, -1.2, 6.0


def real_sky(scale: float) -> dict[str, float]:
    """A field of Orion for the simulator."""
    return {"ra_deg": RA, "dec_deg": DEC, "focal_mm": 206.264806 * 3.76 / scale, "pixel_um": 3.76}


@pytest.fixture(scope="module")
def night(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("sky") / "night"
    words = ["simulate", str(folder), "--scenario", "sky", f"--at={RA},{DEC}", "--scale", str(SCALE), "--frames", "4"]
    assert CliRunner().invoke(app, words).exit_code == 0
    return folder


def test_a_session_knows_the_sky(night: Path, tmp_path: Path) -> None:
    done = CliRunner().invoke(app, ["stack", str(night), "--output", str(tmp_path / "out"), "--no-final-pass"])
    assert done.exit_code == 0, done.output
    told = [r for r in read_journal(tmp_path / "out") if isinstance(r, SolutionRecord)]
    assert len(told) >= 1
    assert told[-1].ra_deg == pytest.approx(RA, abs=2 / 3600)
    assert told[-1].dec_deg == pytest.approx(DEC, abs=2 / 3600)
    header = fits.getheader(next((tmp_path / "out").glob("*/stack.fits")))
    assert header["SOLVER"] == "livestack"
    assert header["PIXSCALE"] == pytest.approx(SCALE, rel=1e-3)
    assert header["SOLVRMS"] < 0.3 * SCALE
    assert header["ZEROPT"] == pytest.approx(20.0, abs=0.03)
    assert 12 < header["MAGLIM"] < 17
    stars = next((tmp_path / "out").glob("*/stars.csv")).read_text().splitlines()
    assert stars[0].split(",")[5] == "g_mag"
    assert sum(line.split(",")[5] != "" for line in stars[1:]) >= 10


def test_off_asks_nothing(night: Path, tmp_path: Path) -> None:
    done = CliRunner().invoke(
        app, ["stack", str(night), "--output", str(tmp_path / "out"), "--no-final-pass", "--solve", "off"]
    )
    assert done.exit_code == 0, done.output
    assert not [r for r in read_journal(tmp_path / "out") if isinstance(r, SolutionRecord)]
    assert "SOLVER" not in fits.getheader(next((tmp_path / "out").glob("*/stack.fits")))


def test_what_was_found_and_what_was_asked_survive_a_checkpoint(night: Path) -> None:
    first = sorted(night.glob("sky_*.fits"))[0]
    told: list[object] = []
    asked = PlateSolving(True, lambda group, answer: told.append(answer))
    with LiveStack(Settings()) as stack:
        stack.events.subscribe(asked.on_event)
        stack.add(read_frame(first))
        waiting = asked.state()
        asked.collect()
        assert isinstance(told[-1], Solved)
        # a session that goes on measures how faint its stack reaches, though it asks nothing anew
        later = PlateSolving(True, lambda group, answer: None)
        later.restore(asked.state() | {"depths": {}})
        stack.events.subscribe(later.on_event)
        for path in sorted(night.glob("sky_*.fits"))[1:4]:
            stack.add(read_frame(path))
        later.collect()
        (facts,) = (later.facts(group) for group in later.found)
        assert facts is not None
        assert facts.limit_mag is not None
        later.close()
    for state in (waiting, asked.state()):
        again = PlateSolving(True, lambda group, answer: None)
        again.restore(state)
        again.collect()
        (mine,), (theirs,) = asked.found.values(), again.found.values()
        assert mine.sky.ra_deg == theirs.sky.ra_deg
        assert np.array_equal(mine.field.sky, theirs.field.sky)
        again.close()
    asked.close()


def test_a_program_that_is_installed_is_asked_where_our_search_finds_nothing(
    night: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is told as soon as it has answered, is not asked where we know the place, and a checkpoint asks it again."""
    first, second = sorted(night.glob("sky_*.fits"))[:2]
    told: list[Solved | Unsolved] = []
    asked = PlateSolving(True, lambda group, answer: told.append(answer))
    again = PlateSolving(True, lambda group, answer: told.append(answer))
    monkeypatch.setenv("PATH", str(tmp_path))
    with LiveStack(Settings()) as stack:
        stack.events.subscribe(asked.on_event)
        stack.add(read_frame(first))
        saved = asked.state()
        asked.collect()
        ours = told.pop()
        assert isinstance(ours, Solved)
        put_sky(tmp_path, ours.sky)
        monkeypatch.setattr(Solver, "solve", lambda *words: Unsolved("not solved"))
        again.restore(saved)
        again.collect()
        later = PlateSolving(True, lambda group, answer: told.append(answer))
        stack.events.subscribe(later.on_event)
        later.restore(saved)
        while len(told) < 2:
            stack.add(read_frame(second))
    for theirs in told:
        assert isinstance(theirs, Solved)
        assert theirs.solver == "solve-field"
        assert theirs.sky.centre == pytest.approx(ours.sky.centre, abs=1e-5)
        assert theirs.n_matched >= ours.n_matched - 2
    for one in (asked, again, later):
        one.close()


def test_the_command_solves_any_image(night: Path, tmp_path: Path) -> None:
    first = sorted(night.glob("sky_*.fits"))[0]
    done = CliRunner().invoke(app, ["solve", str(first), "--output", str(tmp_path)])
    assert done.exit_code == 0, done.output
    assert "arcsec per pixel" in done.output
    header = fits.Header.fromstring((tmp_path / f"{first.stem}.wcs").read_bytes().decode("ascii"))
    assert header["CTYPE1"].startswith("RA---TAN")


def test_a_canvas_that_has_grown_is_solved_again(tmp_path: Path) -> None:
    """Two panels cut from wider pictures: the second question has stars of both, and its map holds in both."""
    words = ["simulate", str(tmp_path / "sky"), "--scenario", "sky", f"--at={RA},{DEC}", "--scale", str(SCALE)]
    done = CliRunner().invoke(app, [*words, "--frames", "6"])
    assert done.exit_code == 0, done.output
    paths = sorted((tmp_path / "sky").glob("sky_*.fits"))
    settings = Settings.model_validate({"stack": {"canvas": "union", "warmup_frames": 2}})
    told: list[object] = []
    solving = PlateSolving(True, lambda group, answer: told.append(answer))
    with LiveStack(settings) as stack:
        stack.events.subscribe(solving.on_event)
        for number, path in enumerate(paths):
            frame, left = read_frame(path), 260 if number in (2, 3, 5) else 0
            info = replace(frame.info, width=540)
            assert stack.add(replace(frame, data=frame.data[:, left : left + 540].copy(), info=info)).stacked
        solving.collect()
        (group,) = stack.groups.values()
        assert group.stack is not None
        assert group.stack.canvas.width > 1.4 * group.stack.canvas.field[1]
        member = group.members[2]
    answers = [one for one in told if isinstance(one, Solved)]
    assert len(answers) == 2
    assert answers[-1].n_matched > answers[0].n_matched
    assert (answers[-1].sky.height, answers[-1].sky.width) == group.stack.canvas.field
    there = answers[-1].sky.moved(np.linalg.inv(member.matrix), 540, 600)
    middle = there.to_sky(np.array([[399.5 - 260, 299.5]]))[0]  # of the wide picture, seen from the second panel
    assert middle == pytest.approx((RA, DEC), abs=30 / 3600)  # the mount drifts a little
    solving.close()


def test_a_mosaic_has_a_zero_point_for_each_colour() -> None:
    """Against the simulator's black bodies: what a star of some colour leaves in red and blue beside green."""
    zero = 17.5
    night = named_scenario("sky", frames=3, width=600, height=420, bayer="RGGB", zero_point_mag=zero, **real_sky(9.0))
    asked = PlateSolving(True, lambda group, answer: None)
    with LiveStack(Settings()) as stack:
        stack.events.subscribe(asked.on_event)
        for number in range(3):
            stack.add(simulate_frame(night, number).frame)
        asked.collect()
        (name,) = stack.groups
        result = stack.result(name)
        facts = asked.facts(name)
        assert facts is not None
        header = fits.Header()
        set_sky(header, deepest(facts, result, None, False), result.canvas)
    asked.close()
    assert header["ZEROPT"] == header["ZEROPT_G"] == pytest.approx(zero, abs=0.03)
    red, _, blue = star_colours(np.array([0.8 * header["COLPIVOT"]]))[0]
    assert header["ZEROPT_R"] == pytest.approx(zero + 2.5 * np.log10(red), abs=0.05)
    assert header["ZEROPT_B"] == pytest.approx(zero + 2.5 * np.log10(blue), abs=0.05)
    assert header["COLTERM"] == pytest.approx(0.0, abs=0.04)  # green is G there, whatever the colour
