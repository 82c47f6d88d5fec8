"""The command `lightcurve`: what it prints, what it writes, how it refuses; real processes."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.small_curves import write_curves
from tests.small_sessions import command


def run(*words: object) -> tuple[int, str, str]:
    return command("lightcurve", *words)


@pytest.fixture(scope="module")
def session(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("session")
    write_curves(folder / "one")
    return folder


def test_without_a_star_the_most_variable_are_listed_and_the_first_is_drawn(session: Path, tmp_path: Path) -> None:
    code, out, err = run(session, "--output", tmp_path / "new")
    assert code == 0, err
    assert "variability" in out
    endings = (".csv", ".png", ".txt", "_exotic.csv")
    assert {path.name for path in (tmp_path / "new").iterdir()} == {f"lightcurve_star0012{end}" for end in endings}
    assert "--obscode" in out


def test_a_transit_is_told_and_written(session: Path) -> None:
    code, out, err = run(session, "--at", "200,80", "--transit", "--obscode", "TST", "--band", "r")
    assert code == 0, err
    assert "Transit at" in out
    assert "BJD_TDB" in out
    found = json.loads((session / "one" / "lightcurve_star0002_transit.json").read_text())
    assert found["found"]
    assert found["depth"] == pytest.approx(0.02, abs=4 * found["depth_error"])
    lines = (session / "one" / "lightcurve_star0002.txt").read_text().splitlines()
    assert lines[1] == "#OBSCODE=TST"
    assert ",R,NO,DIF," in lines[7]


def test_a_constant_star_is_not_said_to_hold_a_planet(session: Path, tmp_path: Path) -> None:
    code, out, err = run(session, "--star", 1, "--transit", "--output", tmp_path)
    assert code == 0, err
    assert "No transit" in out


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--star", "77"), "--star 77: no such star"),
        (("--star", "1", "--at", "2,2"), "found several"),
        (("--at", "here"), "--at here: is no pixel"),
        (("--at", "5000,80"), "the nearest star"),
        (("--radec", "1;2"), "is no place in the sky"),
        (("--name", "WASP-12"), "whose header would say where it is"),
        (("--group", "two"), "expected one of one"),
        (("--star", "13"), "no good, dated measurement"),
        (("--star", "1", "--band", "Q"), "--band Q"),
        (("--star", "1", "--limb-darkening", "0.4,0.2"), "add --transit"),
        (("--star", "1", "--transit", "--limb-darkening", "2,2"), "--limb-darkening 2,2"),
    ],
)
def test_what_cannot_be_done_is_told_in_one_sentence(
    session: Path, tmp_path: Path, words: tuple[str, ...], said: str
) -> None:
    code, _, err = run(session, *words, "--output", tmp_path / "out")
    assert code == 2
    assert said in err
    assert len(err.splitlines()) == 1
    assert not (tmp_path / "out").exists()
