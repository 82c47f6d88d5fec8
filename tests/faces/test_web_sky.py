"""The sky on the web without a browser: places against astropy, words, and that asking again is cheap."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest

from livestack.astrometry import SkyMap
from livestack.astrometry.facts import SkyFacts
from livestack.astrometry.objects import ObjectLabel
from livestack.astrometry.sky_words import say_darkness, say_facts, say_fainter, say_object, say_what
from livestack.faces.solved import SolvedPicture
from livestack.faces.web.publish import Publisher
from livestack.faces.web.server import WebServer
from livestack.faces.web.sky import SkyDesk, tell_depth, tell_place
from livestack.session.snapshot import Snapshot, Upright
from tests.astrometry.test_grid import HEIGHT, WIDTH, map_at, wcs_of
from tests.fake_session import FakeSession
from tests.waiting import until

PLEIADES = (56.75, 24.1, 5.0, 20.0)
DEPTH: dict[str, Any] = {
    "zero_point": 24.31, "limit_mag": 17.3, "sky_mag": 20.1, "limits": ((4, 15.9), (10, 16.4), (40, 17.3)),
}  # fmt: skip


def solved_at(sky: SkyMap, upright: Upright | None = None, **facts: Any) -> SolvedPicture:
    upright = upright or Upright(0, 0, sky.height)
    snapshot = Snapshot(sky=SkyFacts(sky, "livestack", 0.4, 87, **facts), upright=upright, full_size=(WIDTH, HEIGHT))
    found = SolvedPicture.of(snapshot, 7)
    assert found is not None
    return found


@pytest.fixture
def session() -> FakeSession:
    fake = FakeSession(WIDTH, HEIGHT)
    fake.step()
    fake.step()
    return fake


@pytest.fixture
def client(session: FakeSession) -> Iterator[httpx.Client]:
    server = WebServer(session.slot, session.controls, "127.0.0.1", 0, "secret")
    server.start()
    with httpx.Client(base_url=server.public_url) as visitor:
        yield visitor
    server.stop()


def wait_for_news(client: httpx.Client, before: int | None = None) -> int:
    def look() -> int | None:
        number = client.get("/status.json").json()["sky"]
        return number if number != before else None

    return int(until(look) or 0)


class TestPlaces:
    @pytest.mark.parametrize("bends", [False, True])
    @pytest.mark.parametrize(
        "upright", [Upright(0, 0, HEIGHT), Upright(-48, -16, HEIGHT, True), Upright(30, 12, HEIGHT)]
    )
    def test_the_picture_lies_where_the_reference_does(self, upright: Upright, bends: bool) -> None:
        reference = map_at(*PLEIADES, bends=bends)
        picture = solved_at(reference, upright).sky
        x, y = np.meshgrid(np.linspace(0, WIDTH - 1, 7), np.linspace(0, HEIGHT - 1, 5))
        px, py = upright.from_reference(x.ravel(), y.ravel())
        found = picture.to_sky(np.column_stack([px, py]))
        truth = wcs_of(reference).all_pix2world(np.column_stack([x.ravel(), y.ravel()]), 0)
        off = (found - truth) * (np.cos(np.radians(24.1)), 1) * 3600
        assert np.abs(off).max() < 0.01 * 5.0
        assert picture.mirrored == (reference.mirrored != upright.bottom_up)

    def test_names_stand_where_astropy_says(self) -> None:
        solved = solved_at(map_at(*PLEIADES), Upright(-48, -16, HEIGHT, bottom_up=True))
        told = tell_place(solved)
        wcs = wcs_of(solved.sky)
        # Gaia DR3, carried to 2026 by hand
        truth = {"Alcyone": (56.87125, 24.10499), "Atlas": (57.29073, 24.05327)}
        for label in told["labels"]:
            if label["name"] in truth:
                x, y = wcs.all_world2pix([truth.pop(label["name"])], 0)[0]
                assert math.hypot(label["x"] - x, label["y"] - y) < 1
        assert not truth

    def test_centre_scale_rotation_and_bars(self) -> None:
        sky = map_at(*PLEIADES)
        told = tell_place(solved_at(sky))
        np.testing.assert_allclose(
            told["centre"], wcs_of(sky).all_pix2world([[(WIDTH - 1) / 2, (HEIGHT - 1) / 2]], 0)[0]
        )
        assert told["scale"] == pytest.approx(5.0)
        assert told["rotation"] == pytest.approx(20.0, abs=0.1)
        assert told["field"] == pytest.approx([WIDTH * 5 / 3600, HEIGHT * 5 / 3600], rel=1e-3)
        assert not told["mirrored"]
        assert dict(told["bars"])["10′"] == pytest.approx(120.0)
        lengths = [px for _, px in told["bars"]]
        assert lengths == sorted(lengths)
        assert told["constellation"] == "Taurus"

    def test_it_stays_small_in_wide_fields(self) -> None:
        for where in ((84.0, 0.0, 72.0, 5.0), (37.0, 88.7, 60.0, 5.0), (186.0, 12.0, 20.0, 0.0)):
            told = SkyDesk().answer(solved_at(map_at(*where, bends=True), **DEPTH))
            assert len(told) < 50_000
            json.loads(told)


class TestWords:
    def label(self, name: str, x: float, prominence: float, kind: Any = "nebula") -> ObjectLabel:
        return ObjectLabel(name, x, 490.0, 20.0, kind, "α Ori", 84.0, 0.0, 1.0, prominence)

    def test_what_one_looks_at_is_prominent_and_near_the_middle(self) -> None:
        sky = map_at(84.0, 0.0, 5.0, 0.0)
        near, far = self.label("M 42 (Great Orion Nebula)", 700, -4), self.label("M 43", 100, -6)
        faint = self.label("NGC 1", 749, 14)
        said = say_what([far, near, faint], sky, "Orion")
        assert said == "You are looking at the Great Orion Nebula (M 42), in Orion."
        assert say_what([far, faint], sky, "Orion") == "You are looking at Orion."
        wide = map_at(84.0, 0.0, 72.0, 0.0)
        star = self.label("Alnilam", 740, 1.7, "star")
        assert say_what([star], wide, "Orion") == "You are looking at the constellation Orion, around the star Alnilam."
        assert say_what([], wide, "Orion") == "You are looking at the constellation Orion."

    def test_objects(self) -> None:
        assert say_object(self.label("NGC 7331", 0, 0)) == "NGC 7331"
        assert say_object(self.label("NGC 1909 (the Witch Head Nebula)", 0, 0)) == "the Witch Head Nebula (NGC 1909)"
        assert say_object(self.label("PGC 143 (Wolf-Lundmark-Melotte)", 0, 0)) == "Wolf-Lundmark-Melotte (PGC 143)"
        assert say_facts(self.label("Betelgeuse", 0, 0, "star"), None) == "Star α Ori · mag 1.0 · in Orion"

    def test_faint_and_dark(self) -> None:
        assert say_fainter(17.3).startswith("about 33\N{NO-BREAK SPACE}000 times fainter")
        assert "as faint as" in say_fainter(6.1)
        assert "town" in say_darkness(20.1)
        assert "city" in say_darkness(15.0)
        assert "truly dark" in say_darkness(22.0)

    def test_depth(self) -> None:
        told = tell_depth(SkyFacts(map_at(*PLEIADES), "livestack", 0.4, 87, **DEPTH))
        assert (told["limit_mag"], told["sky_mag"], told["zero_point"]) == (17.3, 20.1, 24.31)
        assert told["limits"] == [[4, 15.9], [10, 16.4], [40, 17.3]]
        nothing = tell_depth(SkyFacts(map_at(*PLEIADES), "livestack", 0.4, 87))
        assert nothing["limit_mag"] is nothing["limit_words"] is nothing["sky_mag"] is nothing["sky_words"] is None

    def test_without_the_catalogue_stars_alone_are_named(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("livestack.astrometry.objects.has_catalogue", lambda: False)
        monkeypatch.setattr("livestack.faces.web.sky.has_catalogue", lambda: False)
        told = tell_place(solved_at(map_at(*PLEIADES)))
        assert not told["catalogue"]
        assert {label["kind"] for label in told["labels"]} == {"star"}
        assert told["looking_at"] == "You are looking at the star Alcyone, in Taurus."


class TestPages:
    def test_nothing_is_told_before_it_is_solved(self, client: httpx.Client) -> None:
        assert client.get("/status.json").json()["sky"] is None
        answer = client.get("/sky.json")
        assert answer.status_code == 404
        assert "not known" in answer.json()["message"]

    def test_asking_again_without_news_costs_nothing(self, client: httpx.Client, session: FakeSession) -> None:
        sky = map_at(*PLEIADES)
        session.solve(sky, **DEPTH)
        number = wait_for_news(client)
        answer = client.get("/sky.json")
        assert answer.json()["number"] == number
        assert answer.json()["looking_at"].startswith("You are looking at ")
        session.step()
        facts = session.snapshot.sky
        assert facts is not None
        session.publish(sky=SkyFacts(**vars(facts)))  # the session makes them anew each time
        until(lambda: client.get("/status.json").json()["frames"] == 3)
        again = client.get("/sky.json", headers={"If-None-Match": answer.headers["etag"]})
        assert (again.status_code, again.content) == (304, b"")
        session.publish(sky=SkyFacts(**{**vars(facts), "limit_mag": 17.5}))
        assert wait_for_news(client, number) > number
        assert client.get("/sky.json").json()["limit_mag"] == 17.5
        session.solve(None)
        until(lambda: client.get("/sky.json").status_code == 404)

    def test_names_and_lines_are_made_once_for_a_place(self, monkeypatch: pytest.MonkeyPatch) -> None:
        sky, desk, made = map_at(*PLEIADES), SkyDesk(), []
        monkeypatch.setattr("livestack.faces.web.sky.tell_place", lambda solved: made.append(solved) or {})
        first = solved_at(sky)
        desk.answer(first)
        desk.answer(first)
        desk.answer(SolvedPicture(8, SkyFacts(sky, "x", 0.1, 5, limit_mag=12.0), first.upright, first.size, 2026.0))
        assert len(made) == 1
        desk.answer(SolvedPicture(9, first.facts, Upright(-4, 0, HEIGHT), first.size, 2026.0))
        assert len(made) == 2

    def test_a_visitor_cannot_ask_without_end(self, client: httpx.Client, session: FakeSession) -> None:
        session.solve(map_at(*PLEIADES))
        wait_for_news(client)
        codes = [client.get("/sky.json").status_code for _ in range(60)]
        assert set(codes) == {200, 429}

    def test_the_published_page_has_it_too(self, session: FakeSession, tmp_path: Path) -> None:
        publisher = Publisher(session.slot, tmp_path)
        publisher.write(session.snapshot)
        assert json.loads((tmp_path / "status.json").read_text())["sky"] is None
        session.solve(map_at(*PLEIADES))
        publisher.write(session.snapshot)
        number = json.loads((tmp_path / "status.json").read_text())["sky"]
        assert json.loads((tmp_path / "sky.json").read_text())["number"] == number
        assert (tmp_path / "static" / "sky.js").exists()
