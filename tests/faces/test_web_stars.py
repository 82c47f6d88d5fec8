"""The light of stars on the web without a browser: places, tables, curves, words, and that asking again is cheap."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import httpx
import numpy as np
import pytest

from livestack.faces.web import access_control
from livestack.faces.web.light_words import running_median, tell_light
from livestack.faces.web.server import WebServer
from livestack.faces.web.stars import MOST_POINTS, MOST_RINGS, MOST_ROWS, Starlight, list_stars, tell_star, thin_points
from livestack.photometry import SATURATED
from livestack.photometry.variability import VARIES
from livestack.session.snapshot import Snapshot, Upright
from tests.fake_session import FakeSession, make_curves, place_stars
from tests.waiting import until

WIDTH, HEIGHT = 1500, 980
GROWN = Upright(-48, -16, HEIGHT, bottom_up=True)
FADES, PULSATES, FLAGGED = 3, 5, 4
ERROR = 0.005


def light_of(n_frames: int = 120, upright: Upright = GROWN, **how: Any) -> Starlight:
    curves = make_curves(WIDTH, HEIGHT, n_frames, upright, **how)
    light = Starlight.of(Snapshot(full_size=(WIDTH, HEIGHT), curves=curves, upright=upright), 7)
    assert light is not None
    return light


@pytest.fixture
def session() -> FakeSession:
    """Two frames with a picture."""
    fake = FakeSession(700, 560)
    fake.step()
    fake.step()
    return fake


@pytest.fixture
def client(session: FakeSession) -> Iterator[httpx.Client]:
    """A visitor."""
    server = WebServer(session.slot, session.controls, "127.0.0.1", 0, "secret")
    server.start()
    with httpx.Client(base_url=server.public_url) as visitor:
        yield visitor
    server.stop()


def wait_for_news(client: httpx.Client, before: int | None = None) -> int:
    """The number of the light that is told of, as soon as it is another than `before`."""

    def look() -> int | None:
        number = client.get("/status.json").json()["stars"]
        return number if number != before else None

    return int(until(look) or 0)


class TestPlaces:
    @pytest.mark.parametrize("upright", [Upright(0, 0, HEIGHT), GROWN, Upright(30, 12, HEIGHT)])
    def test_rings_are_where_the_stars_were_painted(self, upright: Upright) -> None:
        rings = list_stars(light_of(upright=upright))["rings"]
        truth = place_stars(WIDTH, HEIGHT)
        for star, x, y, _ in rings:
            np.testing.assert_allclose((x, y), truth[star, :2], atol=0.06)

    def test_a_row_of_the_array_is_found_in_the_picture(self) -> None:
        """A picture made by cutting and turning an array over, as the renderer does."""
        reference = np.zeros((40, 60))
        reference[11, 23] = 1.0
        canvas = np.zeros((50, 70))
        canvas[4:44, 6:66] = reference
        for picture, bottom_up in ((canvas, False), (canvas[::-1], True)):
            y, x = np.argwhere(picture)[0]
            place = Upright(-6, -4, 50, bottom_up)
            assert place.from_reference(np.array(23.0), np.array(11.0)) == (x, y)
            assert place.to_reference(x, y) == (23.0, 11.0)

    def test_stars_outside_of_the_picture_have_no_ring(self) -> None:
        light = light_of()
        cut = replace(light, size=(WIDTH // 2, HEIGHT))
        assert 0 < len(list_stars(cut)["rings"]) < len(list_stars(light)["rings"])
        assert all(ring[1] < WIDTH // 2 for ring in list_stars(cut)["rings"])


class TestTable:
    def test_what_varies_is_marked_and_first(self) -> None:
        told = list_stars(light_of())
        assert [row["star"] for row in told["most"][:2]] == [FADES, PULSATES]
        assert [row["varies"] for row in told["most"]] == [True, True] + [False] * (MOST_ROWS - 2)
        assert told["varying"] == 2
        assert told["threshold"] == VARIES
        assert "less than one" in told["false_alarms"]
        assert {ring[0] for ring in told["rings"][:2]} == {FADES, PULSATES}
        rest = [ring[0] for ring in told["rings"][2:]]
        assert rest == sorted(rest)  # stars are painted brightest first

    def test_it_stays_small_however_many_stars(self) -> None:
        light = light_of()
        many = {
            name: np.tile(getattr(light.curves, name), 20)
            for name in ("x", "y", "mag", "rms_mmag", "expected_mmag", "variability", "n_good")
        }
        told = list_stars(replace(light, curves=replace(light.curves, **many)))
        assert len(told["rings"]) == MOST_RINGS
        assert len(json.dumps(told)) < 12_000

    def test_what_is_not_known_is_null_or_left_out(self) -> None:
        light = light_of(5)
        nothing = np.full(len(light.curves), np.nan)
        told = list_stars(replace(light, curves=replace(light.curves, variability=nothing, rms_mmag=nothing)))
        assert told["most"] == []
        assert told["varying"] == 0
        json.dumps(told, allow_nan=False)
        blank = replace(light.curves, variability=nothing, mags=light.curves.mags * np.nan)
        one = tell_star(replace(light, curves=blank), 0)
        assert one["points"] == []
        assert one["light"]["is"] == "new"
        json.dumps(one, allow_nan=False)

    def test_the_public_learns_no_file_names(self) -> None:
        assert "Light_" not in json.dumps([list_stars(light_of()), tell_star(light_of(), 0)])


class TestCurve:
    def test_hours_and_magnitudes_are_those_that_were_measured(self) -> None:
        light = light_of(60)
        told = tell_star(light, FADES)
        points = np.array(told["points"])
        np.testing.assert_allclose(points[:, 0], np.arange(60) / 60, atol=1e-4)
        curves = light.curves
        np.testing.assert_allclose(points[:, 1], curves.mags[FADES] - curves.mag[FADES], atol=1e-4)
        np.testing.assert_allclose(points[:, 2], curves.errors[FADES], atol=1e-4)
        assert told["start"] == 1767301200  # 2026-01-01T21:00 UTC

    def test_flagged_points_are_told_as_such(self) -> None:
        told = tell_star(light_of(60), FLAGGED)
        assert [k for k, p in enumerate(told["points"]) if p[3]] == [7]
        assert told["good"] == 59

    def test_a_clipped_star_is_called_so(self) -> None:
        light = light_of(20)
        flags = light.curves.flags.copy()
        flags[0] = SATURATED
        told = tell_star(replace(light, curves=replace(light.curves, flags=flags)), 0)
        assert told["light"]["is"] == "clipped"
        assert told["good"] == 0

    def test_frames_in_another_order_come_in_order_of_time(self) -> None:
        light = light_of(40)
        turned = replace(light.curves, jd=light.curves.jd[::-1].copy())
        hours = [p[0] for p in tell_star(replace(light, curves=turned), 0)["points"]]
        assert hours == sorted(hours)

    def test_without_dates_frames_are_counted(self) -> None:
        told = tell_star(light_of(12, dated=False), 0)
        assert told["start"] is None
        assert [p[0] for p in told["points"]] == list(range(1, 13))

    def test_long_nights_are_thinned_and_the_light_is_kept(self) -> None:
        rng = np.random.default_rng(1)
        error = rng.uniform(0.01, 0.05, 4321)
        points = np.column_stack([np.arange(4321.0), 0.2 + error * rng.standard_normal(4321), error, np.zeros(4321)])
        points[::10, 3] = 1
        thinned, each = thin_points(points)
        assert len(thinned) <= MOST_POINTS
        assert each == 4
        good = points[points[:, 3] == 0]
        mean = np.average(good[:, 1], weights=good[:, 2] ** -2)
        assert np.average(thinned[:, 1], weights=thinned[:, 2] ** -2) == pytest.approx(mean)
        pull = (thinned[:, 1] - 0.2) / thinned[:, 2]
        assert np.std(pull) == pytest.approx(1, abs=0.1)

    def test_numbers_hold_only_for_their_set_of_stars(self) -> None:
        light, longer = light_of(60), light_of(61)
        assert light.key == longer.key
        anew = replace(light.curves, files=("other.fits", *light.curves.files[1:]))
        other = Starlight.of(Snapshot(curves=anew, upright=GROWN, full_size=(WIDTH, HEIGHT)), 8)
        assert other is not None
        assert other.key != light.key
        x, y, _ = place_stars(WIDTH, HEIGHT)[9]
        assert other.find(3, light.key, (x, y), 12.0) == 9
        assert other.find(3, other.key, (x, y), 12.0) == 3
        assert other.find(3, light.key, None, 12.0) is None


class TestWords:
    def tell(self, left: np.ndarray, varies: bool = False, seed: int = 2) -> dict[str, Any]:
        noise = ERROR * np.random.default_rng(seed).standard_normal(len(left))
        return tell_light(np.arange(len(left)) / 60.0, left + noise, np.full(len(left), ERROR), varies)

    def test_constant_stars_are_steady(self) -> None:
        for seed in range(300):
            told = self.tell(np.zeros(100), seed=seed)
            assert told["is"] == "steady"
            assert told["mag"] == pytest.approx(ERROR, rel=0.35)

    @pytest.mark.parametrize(("depth", "words"), [(0.3, "faded"), (-0.1, "brightened")])
    def test_a_change_is_told_with_its_beginning(self, depth: float, words: str) -> None:
        told = self.tell(np.where(np.arange(120) < 70, 0.0, depth), varies=True)
        assert told["is"] == words
        assert told["mag"] == pytest.approx(abs(depth), abs=0.01)
        assert told["since"] == pytest.approx(70 / 60, abs=4 / 60)

    def test_a_sudden_fade_needs_no_solution(self) -> None:
        assert self.tell(np.where(np.arange(60) < 52, 0.0, 0.2))["is"] == "faded"

    def test_back_where_it_was_it_only_varies_or_has_recovered(self) -> None:
        dip = np.where(abs(np.arange(120) - 60) < 8, 0.1, 0.0)
        told = self.tell(dip, varies=True)
        assert told["is"] == "brightened"
        assert told["since"] == pytest.approx(67 / 60, abs=4 / 60)

    def test_too_few_are_called_so(self) -> None:
        assert self.tell(np.zeros(4))["is"] == "new"
        assert self.tell(np.zeros(0))["is"] == "new"

    def test_running_median_against_numpy(self) -> None:
        values = np.random.default_rng(3).standard_normal(30)
        smooth = running_median(values, 5)
        assert len(smooth) == 30
        np.testing.assert_array_equal(smooth[2:-2], [np.median(values[k - 2 : k + 3]) for k in range(2, 28)])


class TestPages:
    def test_nothing_is_told_before_stars_are_measured(self, client: httpx.Client, session: FakeSession) -> None:
        assert client.get("/status.json").json()["stars"] is None
        for path in ("/stars.json", "/star.json?star=0"):
            assert client.get(path).status_code == 404
        session.publish(curves=make_curves(700, 560, 20, GROWN))  # but the picture shows another target
        session.step()
        until(lambda: client.get("/status.json").json()["frames"] == 3)
        assert client.get("/status.json").json()["stars"] is None

    def test_visitors_read_the_table_and_a_curve(self, client: httpx.Client, session: FakeSession) -> None:
        session.measure(90)
        number = wait_for_news(client)
        answer = client.get("/stars.json")
        told = answer.json()
        assert told["number"] == number
        assert "default-src 'none'" in answer.headers["content-security-policy"]
        x, y, _ = place_stars(700, 560)[FADES]
        one = client.get("/star.json", params={"x": x + 3, "y": y - 2}).json()
        assert one["star"] == FADES
        assert one["light"]["is"] == "faded"
        assert one == client.get("/star.json", params={"star": FADES, "key": told["key"]}).json()
        assert client.get("/star.json", params={"x": -400, "y": 10}).status_code == 404
        assert client.post("/stars.json").status_code == 405

    @pytest.mark.parametrize(
        "query", ["", "star=one", "x=1", "x=nan&y=2", "x=1&y=inf", "star=1&within=far", "x=1e999&y=0"]
    )
    def test_what_is_not_understood_is_said(self, client: httpx.Client, session: FakeSession, query: str) -> None:
        session.measure(20)
        wait_for_news(client)
        answer = client.get(f"/star.json?{query}")
        assert answer.status_code == 400
        assert "Not understood" in answer.json()["message"]

    @pytest.mark.parametrize("star", ["-1", "99999", "9" * 30])
    def test_stars_that_there_are_not(self, client: httpx.Client, session: FakeSession, star: str) -> None:
        session.measure(20)
        wait_for_news(client)
        assert client.get(f"/star.json?star={star}").status_code == 404

    def test_asking_again_without_news_costs_nothing(self, client: httpx.Client, session: FakeSession) -> None:
        session.measure(30)
        number = wait_for_news(client)
        answers = [client.get(path) for path in ("/stars.json", "/star.json?star=2")]
        session.step()  # a new picture is no news of the stars
        until(lambda: client.get("/status.json").json()["frames"] == 3)
        for answer in answers:
            again = client.get(str(answer.url), headers={"If-None-Match": answer.headers["etag"]})
            assert again.status_code == 304
            assert again.content == b""
        session.measure(31)
        assert wait_for_news(client, number) > number
        for answer in answers:
            again = client.get(str(answer.url), headers={"If-None-Match": answer.headers["etag"]})
            assert again.status_code == 200
        assert len(client.get("/star.json?star=2").json()["points"]) == 31

    def test_a_visitor_cannot_ask_without_end(
        self, client: httpx.Client, session: FakeSession, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        session.measure(20)
        wait_for_news(client)
        # 60 at once are allowed, and more with time: the clock stands still, however slow the machine is
        now = time.monotonic()
        monkeypatch.setattr(access_control, "time", SimpleNamespace(monotonic=lambda: now))
        codes = [client.get("/star.json?star=1").status_code for _ in range(80)]
        assert set(codes) == {200, 429}
