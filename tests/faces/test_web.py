"""The web view without a browser: who may do what, what is told, and that a crowd costs no more than one."""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
import socket
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import cv2
import httpx
import numpy as np
import pytest

from livestack.astrometry.cards import CONSTELLATIONS, find_card, find_designation
from livestack.astrometry.showpieces import SHOWPIECES
from livestack.base.errors import FrameError, LivestackError, SessionError, UsageError
from livestack.faces.timelapse import ThinnedAlbum, Timelapse, write_film
from livestack.faces.web import connection_limits, streaming
from livestack.faces.web import encoder as web_feed
from livestack.faces.web.access_control import HostKey, RateLimit
from livestack.faces.web.publish import Publisher
from livestack.faces.web.server import WebServer, bind_port, qr_text
from livestack.faces.web.status import PLAIN_WORDS, frame_rows, host_status, public_status, thin
from livestack.quality.reasons import REASONS
from livestack.session.snapshot import Slot, Snapshot, TrendPoint
from tests.fake_session import FakeSession
from tests.waiting import until

TOKEN = "correct-horse-battery"
ACTIONS = {
    "pause": {},
    "resume": {},
    "save": {},
    "stop": {},
    "target": {"text": "M 13"},
    "note": {"text": "Hello"},
    "object": {"text": "M 27"},
    "stretch": {"background": 0.1, "saturation": 1.5},
    "remove": {"text": "Light_0001.fits"},
    "render": {"black": 0.1, "stretch": "log"},
    "save-settings": {"final_pass": False},
    "goal": {"filter": "Ha", "seconds": 10800},
    "follow": {"x": 10, "y": 20},
    "show": {"which": "stars"},
}

SECTIONS = {"render": "render", "save-settings": "save"}
"""Actions that change settings, and of which section."""


@pytest.fixture
def session() -> FakeSession:
    """Six frames of a small galaxy, one of them refused."""
    fake = FakeSession(700, 560)
    for _ in range(6):
        fake.step()
    return fake


@contextmanager
def serving(session: FakeSession, port: int = 0) -> Iterator[WebServer]:
    """A real server on a free port of this machine."""
    server = WebServer(session.slot, session.controls, "127.0.0.1", port, TOKEN)
    server.start()
    try:
        yield server
    finally:
        server.stop()


@pytest.fixture
def client(session: FakeSession, monkeypatch: pytest.MonkeyPatch) -> Iterator[httpx.Client]:
    """A visitor of a server that believes to be open to the network."""
    monkeypatch.setattr(WebServer, "is_open", True)
    with serving(session) as server, httpx.Client(base_url=server.public_url) as visitor:
        yield visitor


def same_colours(found: np.ndarray, truth: np.ndarray) -> bool:
    """True when two pictures agree after smoothing away what JPEG does to noise."""
    smooth = [cv2.blur(p.astype(np.float32), (8, 8)) for p in (found, truth)]
    return bool(np.abs(smooth[0] - smooth[1]).mean() < 1.5)


def as_host(client: httpx.Client) -> dict[str, str]:
    """The header that a script of the host sends."""
    return {"Authorization": f"Bearer {TOKEN}"}


class TestVisitors:
    def test_page_and_its_files_stand_alone(self, client: httpx.Client) -> None:
        page = client.get("/")
        assert page.status_code == 200
        names = re.findall(r'(?:href|src)="(static/[^"]+)"', page.text)
        assert len(names) >= 5
        for name in names:
            answer = client.get(f"/{name}")
            assert answer.status_code == 200
            # Nothing may come from another machine: the site has no internet.
            assert not re.search(r"https?://(?!www\.w3\.org/2000/svg)", answer.text)
        assert "style=" not in page.text  # the policy forbids what is written inline
        assert not re.search(r"<script(?![^>]*src=)", page.text)

    def test_every_answer_carries_the_policy(self, client: httpx.Client) -> None:
        for path in ("/", "/status.json", "/static/live.js", "/host", "/nothing-here", "/qr.svg"):
            headers = client.get(path).headers
            assert "default-src 'none'" in headers["content-security-policy"]
            assert "unsafe" not in headers["content-security-policy"]
            assert "frame-ancestors 'none'" in headers["content-security-policy"]
            assert headers["x-content-type-options"] == "nosniff"
            assert headers["referrer-policy"] == "no-referrer"
            assert headers["cache-control"]

    def test_status_tells_the_public_in_plain_words(self, client: httpx.Client) -> None:
        answer = client.get("/status.json")
        status = answer.json()
        assert (status["frames"], status["refused"], status["object"]) == (5, 1, "M 31")
        assert status["exposure_total"] == 150
        assert status["refusals"] == [{"words": "clouds dimmed the stars", "count": 1}]
        assert status["last_refusal"] == "clouds dimmed the stars"
        assert answer.headers["cache-control"] == "no-store"
        assert "Light_" not in answer.text  # no file names for the public

    def test_pictures_are_kept_for_ever_under_their_name(self, client: httpx.Client, session: FakeSession) -> None:
        status = client.get("/status.json").json()
        answer = client.get(status["picture"])
        picture = cv2.imdecode(np.frombuffer(answer.content, np.uint8), cv2.IMREAD_COLOR)
        assert picture.shape == (280, 350, 3)
        assert "immutable" in answer.headers["cache-control"]
        again = client.get(status["picture"], headers={"If-None-Match": answer.headers["etag"]})
        assert again.status_code == 304
        assert len(again.content) == 0
        # The colours are those of the session: red and blue not exchanged.
        truth = session.snapshot.picture
        assert truth is not None
        assert same_colours(picture[..., ::-1], truth)
        assert not same_colours(picture, truth)

    def test_who_comes_late_gets_the_newest_picture(self, client: httpx.Client) -> None:
        answer = client.get("/picture/stack-00000000-1.jpg")
        assert answer.status_code == 200
        assert answer.headers["cache-control"] == "no-store"
        assert client.get("/picture/nothing.jpg").status_code == 404

    def test_tiles_show_true_pixels(self, client: httpx.Client, session: FakeSession) -> None:
        tiles = client.get("/status.json").json()["tiles"]
        corner = client.get(f"{tiles}1-1.jpg")  # 700 x 560 in tiles of 512: the last one is 188 x 48
        tile = cv2.imdecode(np.frombuffer(corner.content, np.uint8), cv2.IMREAD_COLOR)
        assert tile.shape == (48, 188, 3)
        assert session.snapshot.region is not None
        truth = session.snapshot.region(512, 512, 188, 48)
        assert same_colours(tile[..., ::-1], truth)
        assert not same_colours(tile[..., ::-1], np.roll(truth, (24, 90), (0, 1)))
        assert client.get(f"{tiles}2-0.jpg").status_code == 404
        assert client.get("/tile/stack-00000000-1/0-0.jpg").status_code == 410

    def test_a_tile_is_rendered_once_for_all(self, session: FakeSession) -> None:
        asked: list[tuple[int, int, int, int]] = []
        real = session.snapshot.region
        assert real is not None

        def slow_region(x: int, y: int, w: int, h: int) -> np.ndarray:
            asked.append((x, y, w, h))
            time.sleep(0.2)
            return real(x, y, w, h)

        session.publish(region=slow_region)
        with serving(session) as server:
            tiles = httpx.get(f"{server.public_url}status.json").json()["tiles"]
            answers: list[int] = []
            crowd = [
                threading.Thread(
                    target=lambda: answers.append(httpx.get(f"{server.public_url}{tiles}0-0.jpg").status_code)
                )
                for _ in range(8)
            ]
            for visitor in crowd:
                visitor.start()
            for visitor in crowd:
                visitor.join()
        assert answers == [200] * 8
        assert asked == [(0, 0, 512, 512)]

    def test_tiles_are_rationed(self, client: httpx.Client) -> None:
        tiles = client.get("/status.json").json()["tiles"]
        # 150 at once and 30 a second are allowed: however slow the machine, asking on and on is refused in the end
        codes = []
        while 429 not in codes and len(codes) < 5000:
            codes.append(client.get(f"{tiles}0-0.jpg").status_code)
        assert codes[:100] == [200] * 100
        assert codes[-1] == 429

    def test_static_files_stay_in_their_folder(self, client: httpx.Client) -> None:
        for name in ("..%2fapp.py", "../app.py", "%2e%2e/app.py", "host.html", "nothing.js"):
            assert client.get(f"/static/{name}").status_code == 404

    def test_head_of_the_events_ends(self, client: httpx.Client) -> None:
        assert client.head("/events", timeout=5).status_code == 200

    def test_qr_code_is_drawn(self, client: httpx.Client) -> None:
        answer = client.get("/qr.svg")
        assert answer.headers["content-type"] == "image/svg+xml"
        assert 'xmlns="http://www.w3.org/2000/svg"' in answer.text

    def test_visitors_cannot_write_anywhere(self, client: httpx.Client, session: FakeSession) -> None:
        for path in ("/", "/status.json", "/events", "/qr.svg", "/host", "/host/state.json", "/static/live.js"):
            for method in ("POST", "PUT", "DELETE", "PATCH"):
                assert client.request(method, path).status_code == 405
        assert session.asked == []

    def test_empty_session_can_be_looked_at(self) -> None:
        empty = FakeSession(64, 40)
        empty.publish(full_size=(0, 0))
        with serving(empty) as server, httpx.Client(base_url=server.public_url) as visitor:
            status = visitor.get("/status.json").json()
            assert (status["frames"], status["picture"], status["tiles"], status["full"]) == (0, None, None, [0, 0])
            assert visitor.get("/qr.svg").status_code == 404
            assert visitor.get("/host").status_code == 403


class TestHost:
    def test_without_the_secret_nothing_moves(self, client: httpx.Client, session: FakeSession) -> None:
        cookie = HostKey(TOKEN).cookie
        for headers in ({}, {"Authorization": "Bearer wrong"}, {"Cookie": f"{cookie}=wrong"}, {"Authorization": "ü"}):
            coded = {k: v.encode() for k, v in headers.items()}
            for action, body in ACTIONS.items():
                assert client.post(f"/host/do/{action}", json=body, headers=coded).status_code == 403
        assert client.get("/host/state.json").status_code == 403
        assert client.get("/host").status_code == 403
        assert session.asked == []

    def test_every_control_reaches_the_session(self, client: httpx.Client, session: FakeSession) -> None:
        for action, body in ACTIONS.items():
            answer = client.post(f"/host/do/{action}", json=body, headers=as_host(client))
            assert answer.status_code == 200
            assert answer.json() == {"message": f"{'change' if action in SECTIONS else action}: done."}
        assert session.asked == [
            ("change", SECTIONS[action], body) if action in SECTIONS else (action, *body.values())
            for action, body in ACTIONS.items()
        ]

    def test_the_secret_link_makes_a_host(self, client: httpx.Client) -> None:
        assert client.get("/enter/wrong").status_code == 403
        entered = client.get(f"/enter/{TOKEN}")
        cookie = entered.headers["set-cookie"]
        for word in ("HttpOnly", "SameSite=Strict", "Path=/host"):
            assert word in cookie
        page = client.get("/host")
        assert page.status_code == 200
        assert "host.js" in page.text
        assert "host.js" not in client.get("/").text
        assert TOKEN not in page.text
        assert client.post("/host/do/pause", json={}).json()["message"] == "pause: done."

    def test_requests_from_other_sites_are_refused(self, client: httpx.Client, session: FakeSession) -> None:
        client.get(f"/enter/{TOKEN}")  # the browser has the cookie; the page that asks is a stranger's
        for headers in (
            {"Origin": "http://evil.example"},
            {"Origin": "null"},
            {"Sec-Fetch-Site": "cross-site"},
            {"Sec-Fetch-Site": "same-site"},
        ):
            assert client.post("/host/do/stop", json={}, headers=headers).status_code == 403
        assert session.asked == []
        own = {"Origin": str(client.base_url).rstrip("/"), "Sec-Fetch-Site": "same-origin"}
        assert client.post("/host/do/stop", json={}, headers=own).status_code == 200

    def test_only_small_json_is_read(self, client: httpx.Client, session: FakeSession) -> None:
        host = as_host(client)
        form = client.post("/host/do/stop", content="a=b", headers={**host, "Content-Type": "text/plain"})
        assert form.status_code == 415
        large = client.post("/host/do/note", json={"text": "x" * 5000}, headers=host)
        assert large.status_code == 413
        pieces = client.post(
            "/host/do/note", content=iter([b" " * 3000] * 3), headers={**host, "Content-Type": "application/json"}
        )
        assert pieces.status_code == 413
        for action, body in (
            ("note", b"{"),
            ("note", b'{"text": 5}'),
            ("note", json.dumps({"text": "x" * 600}).encode()),
            ("stretch", b'{"background": "a", "saturation": 1}'),
            ("stretch", b'{"background": NaN, "saturation": 1}'),
            ("stretch", b'{"background": 0.1, "saturation": 1e9}'),
            ("dance", b"{}"),
        ):
            answer = client.post(
                f"/host/do/{action}", content=body, headers={**host, "Content-Type": "application/json"}
            )
            assert answer.status_code == 400, (action, body)
        assert session.asked == []

    def test_rates_are_limited(self, client: httpx.Client) -> None:
        codes = [client.post("/host/do/save", json={}, headers=as_host(client)).status_code for _ in range(40)]
        assert codes[0] == 200
        assert 429 in codes

    def test_a_refusal_of_the_session_is_told(self, session: FakeSession) -> None:
        def fail(name: str) -> str:
            raise SessionError(f"{name}: no such frame.")

        session.controls = replace(session.controls, remove_frame=fail)
        with serving(session) as server, httpx.Client(base_url=server.public_url) as client:
            answer = client.post("/host/do/remove", json={"text": "a.fits"}, headers=as_host(client))
        assert (answer.status_code, answer.json()) == (409, {"message": "a.fits: no such frame."})

    def test_state_lists_frames_and_messages(self, client: httpx.Client) -> None:
        state = client.get("/host/state.json", headers=as_host(client)).json()
        assert state["messages"] == ["Light_0004.fits refused: clouds"]
        night = client.get("/host/night.json", headers=as_host(client)).json()
        frames = [dict(zip(night["columns"], row, strict=True)) for row in night["rows"]]
        assert [f["stacked"] for f in frames] == [True, True, True, True, False, True]
        assert frames[-1]["file"] == "Light_0005.fits"
        assert frames[-2]["message"] == "Light_0004.fits refused: clouds"
        newer = client.get(f"/host/night.json?after={frames[-2]['frame']}", headers=as_host(client)).json()
        assert newer["rows"] == night["rows"][-1:]
        assert client.get("/host/night.json?after=x", headers=as_host(client)).status_code == 400


class TestServer:
    def test_events_tell_the_latest_and_only_changes(self, session: FakeSession) -> None:
        with serving(session) as server, httpx.stream("GET", f"{server.public_url}events", timeout=10) as stream:
            assert stream.headers["content-type"].startswith("text/event-stream")
            lines = (json.loads(line[5:]) for line in stream.iter_lines() if line.startswith("data: {"))
            assert next(lines)["frames"] == 5
            for _ in range(3):
                session.step()
            seen = [next(lines)]
            while seen[-1]["frames"] < 8:
                seen.append(next(lines))
            numbers = [s["number"] for s in seen]
            assert numbers == sorted(set(numbers))

    def test_one_change_is_encoded_once_for_the_crowd(
        self, session: FakeSession, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        encoded: list[int] = []
        real = web_feed.encode_jpeg
        monkeypatch.setattr(web_feed, "encode_jpeg", lambda *a, **k: (encoded.append(1), real(*a, **k))[1])
        with serving(session) as server:
            for _ in range(20):
                status = httpx.get(f"{server.public_url}status.json").json()
                assert httpx.get(f"{server.public_url}{status['picture']}").status_code == 200
        assert len(encoded) == 3  # the stack, its small copy, the raw frame

    def test_streams_are_counted_and_capped(self, session: FakeSession, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(streaming, "MOST_STREAMS", 2)
        with serving(session) as server:
            events = f"{server.public_url}events"
            with httpx.stream("GET", events) as one, httpx.stream("GET", events) as two:
                assert (one.status_code, two.status_code) == (200, 200)
                assert httpx.get(events).status_code == 503
                assert httpx.get(f"{server.public_url}status.json").status_code == 200
            # Those who left make room.
            assert until(lambda: server._site is not None and server._site.streams.count == 0)
            with httpx.stream("GET", events) as three:
                assert three.status_code == 200

    def test_a_visitor_who_takes_nothing_is_let_go(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(streaming, "SEND_TIMEOUT_S", 0.05)
        taken: list[int] = []
        streams = streaming.Streams()

        async def send(message: dict[str, object]) -> None:
            body = message.get("body", b"")
            assert isinstance(body, bytes)
            if len(taken) == 2:
                await asyncio.sleep(60)
            taken.append(len(body))

        async def receive() -> dict[str, object]:
            await asyncio.sleep(60)
            return {"type": "http.disconnect"}

        async def visit() -> None:
            response = streaming.PatientResponse(b"x" * 1_000_000, {})
            with pytest.raises(TimeoutError):
                await response({"method": "GET"}, receive, send)  # type: ignore[arg-type]
            assert max(taken) <= 64 * 1024  # never more than a piece is handed over
            taken.clear()
            events = streaming.EventStream(web_feed.Encoder(Slot(), lambda: None), streams, "10.0.0.1")
            with pytest.raises(TimeoutError):
                await events({}, receive, send)  # type: ignore[arg-type]

        asyncio.run(asyncio.wait_for(visit(), 5))
        assert streams.count == 0

    def test_one_address_cannot_take_all_streams(self) -> None:
        async def look() -> None:
            streams = streaming.Streams()
            streams.per_caller["10.0.0.1"] = streaming.MOST_STREAMS_PER_CALLER
            assert streams.is_full("10.0.0.1")
            assert not streams.is_full("10.0.0.2")
            streams.per_caller["127.0.0.1"] = streaming.MOST_STREAMS_PER_CALLER + 1
            assert not streams.is_full("127.0.0.1")  # a reverse proxy speaks for many

        asyncio.run(look())

    def test_connections_are_counted_at_the_door(self, session: FakeSession, monkeypatch: pytest.MonkeyPatch) -> None:
        assert connection_limits.may_enter("10.0.0.1", ["10.0.0.1"] * (connection_limits.MOST_PER_CALLER - 1))
        assert not connection_limits.may_enter("10.0.0.1", ["10.0.0.1"] * connection_limits.MOST_PER_CALLER)
        assert connection_limits.may_enter("127.0.0.1", ["127.0.0.1"] * connection_limits.MOST_PER_CALLER)
        monkeypatch.setattr(connection_limits, "MOST_CONNECTIONS", 3)
        with serving(session) as server:
            address = ("127.0.0.1", server._port)
            held = [socket.create_connection(address) for _ in range(3)]
            try:
                assert until(lambda: server._server is not None and len(server._server.server_state.connections) == 3)
                with socket.create_connection(address) as turned_away:
                    turned_away.settimeout(60)
                    with contextlib.suppress(ConnectionError):
                        assert turned_away.recv(10) == b""
            finally:
                for connection in held:
                    connection.close()
            assert until(lambda: server._server is not None and not server._server.server_state.connections)
            assert httpx.get(f"{server.public_url}status.json").status_code == 200

    def test_who_says_nothing_is_let_go(self, session: FakeSession, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(connection_limits, "SILENCE_S", 0.3)
        with serving(session) as server, socket.create_connection(("127.0.0.1", server._port)) as silent:
            silent.sendall(b"GET / HTTP/1.1\r\nHost:")
            silent.settimeout(60)
            assert silent.recv(10) == b""

    def test_stop_is_quick_and_the_port_is_free_again(self, session: FakeSession) -> None:
        with serving(session) as server:
            port = server._port
            with httpx.stream("GET", f"{server.public_url}events") as stream:
                next(stream.iter_lines())
                began = time.monotonic()
                server.stop()
                assert time.monotonic() - began < 30  # a visitor who listens would hold it for ever
        with serving(session, port) as second:
            assert second._port == port
            assert httpx.get(f"{second.public_url}status.json").status_code == 200

    def test_a_taken_port_is_said_in_one_sentence(self) -> None:
        with bind_port("127.0.0.1", 0) as taken:
            taken.listen()
            port = taken.getsockname()[1]
            with pytest.raises(UsageError, match=f"--port {port}: another program uses this port; choose another"):
                WebServer(Slot(), None, "127.0.0.1", port).start()
        with pytest.raises(UsageError, match=r"--host nowhere\.invalid: there is no such address"):
            bind_port("nowhere.invalid", 80)

    def test_addresses(self) -> None:
        server = WebServer(Slot(), None, token="abc")
        assert server.public_url == "http://127.0.0.1:8765/"
        assert server.host_url == "http://127.0.0.1:8765/enter/abc"
        assert not server.is_open
        assert WebServer(Slot(), None, "0.0.0.0").is_open
        assert "0.0.0.0" not in WebServer(Slot(), None, "0.0.0.0").public_url
        tokens = {WebServer(Slot(), None).host_url for _ in range(20)}
        assert len(tokens) == 20

    def test_the_secret_is_never_logged(
        self, session: FakeSession, capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
    ) -> None:
        with caplog.at_level("DEBUG"), serving(session) as server:
            httpx.get(server.host_url)
            httpx.get(f"{server.public_url}enter/wrong")
        out = capfd.readouterr()
        assert TOKEN not in out.out + out.err
        # httpx logs what the test itself asked for; the server's own loggers must be silent.
        assert not [
            r for r in caplog.records if r.name.startswith(("uvicorn", "livestack")) and TOKEN in r.getMessage()
        ]

    def test_a_broken_region_does_not_end_the_server(self, session: FakeSession) -> None:
        def broken(x: int, y: int, w: int, h: int) -> np.ndarray:
            raise LivestackError("the stack is gone")

        session.publish(region=broken)
        with serving(session) as server:
            tiles = httpx.get(f"{server.public_url}status.json").json()["tiles"]
            assert httpx.get(f"{server.public_url}{tiles}0-0.jpg").status_code == 503
            assert httpx.get(f"{server.public_url}status.json").status_code == 200


class TestWords:
    def test_status_stays_small_after_a_long_night(self) -> None:
        trend = tuple(
            TrendPoint(
                n,
                f"Light_{n}.fits",
                "refused",
                None,
                3.0,
                0.4,
                900.0,
                0.9,
                100,
                0,
                0,
                0,
                f"odd_reason_{n % 40}",
                "m" * 200,
            )
            for n in range(3000)
        )
        noise = tuple((n, n**-0.5) for n in range(1, 3000))
        night = Snapshot(trend=trend, noise_history=noise, messages=("m" * 300,) * 500, fwhm_px=float("nan"))
        told = public_status(night)
        assert len(json.dumps(told, allow_nan=False)) < 4000
        assert told["noise"][0][0] == 1
        assert told["noise"][-1][0] == 2999
        assert told["fwhm_px"] is None
        assert len(json.dumps(host_status(night), allow_nan=False)) < 20_000
        assert len(json.dumps(frame_rows(night, -1), allow_nan=False)) < 200_000

    def test_every_reason_has_plain_words(self) -> None:
        reasons = {*REASONS, *(kind.reason for kind in FrameError.__subclasses__())}
        assert reasons <= set(PLAIN_WORDS)

    def test_thin_keeps_both_ends(self) -> None:
        assert thin(range(10), 4) == [0, 3, 6, 9]
        assert thin([1, 2], 4) == [1, 2]

    def test_control_characters_do_not_reach_the_page(self) -> None:
        assert "\x1b" not in json.dumps(
            public_status(Snapshot(object_name="a\x1b[0m", note="\x00b")), ensure_ascii=False
        )

    @pytest.mark.parametrize(
        ("text", "designation"),
        [
            ("M 31", "M31"), ("m_101 LRGB", "M101"), ("Messier 27", "M27"), ("NGC07000", "NGC7000"),
            ("ic434-Ha", "IC434"), ("Sh2-155", "Sh2-155"), ("Barnard 33", "B33"), ("Moon", None), ("C/2023 A3", None),
            ("Jupiter", None), ("", None),
        ],
    )  # fmt: skip
    def test_designations_in_free_text(self, text: str, designation: str | None) -> None:
        assert find_designation(text) == designation

    def test_card_from_the_catalogue(self) -> None:
        pytest.importorskip("pyongc", reason="the extra `catalogue` is not installed")
        card = find_card("M 27 Ha")
        assert card is not None
        # Messier 27: Dumbbell Nebula, planetary, in Vulpecula, magnitude 7.4, about 8 x 6 arcminutes.
        assert (card.common_name, card.constellation) == ("Dumbbell Nebula", "Vulpecula")
        assert "Planetary" in card.kind
        assert card.magnitude == pytest.approx(7.4, abs=0.2)
        assert find_card("Jupiter") is None
        assert find_card("M 999") is None

    def test_showpieces_agree_with_the_catalogue(self) -> None:
        ongc = pytest.importorskip("pyongc.ongc", reason="the extra `catalogue` is not installed")
        kinds = {
            "Galaxy": {"Galaxy"}, "Globular cluster": {"Globular Cluster"}, "Open cluster": {"Open Cluster"},
            "Planetary": {"Planetary Nebula"}, "Dark": {"Dark Nebula"}, "Remnant": {"Supernova remnant"},
        }  # fmt: skip
        for designation, shown in SHOWPIECES.items():
            entry = ongc.get(designation)
            assert entry is not None, designation
            assert CONSTELLATIONS[entry.constellation] == shown.constellation, designation
            for word, types in kinds.items():
                if shown.kind.startswith(word):
                    assert entry.type in types, (designation, entry.type)
            names = entry.identifiers[3] or [] if entry.identifiers else []
            if shown.common_name and names and designation not in ("NGC869", "NGC884", "IC434"):  # known by two names
                words = {w for n in names for w in n.lower().split()} - {"nebula", "galaxy", "cluster"}
                assert words & set(shown.common_name.lower().split()), (designation, names)

    def test_card_without_the_catalogue(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setitem(sys.modules, "pyongc", None)
        find_card.cache_clear()
        card = find_card("M 31")
        assert card is not None
        assert (card.common_name, card.magnitude, card.distance_ly) == ("Andromeda Galaxy", None, 2.5e6)
        assert find_card("NGC 1") is None
        find_card.cache_clear()

    def test_rate_limit_refills(self) -> None:
        rate = RateLimit(per_s=2, burst=3, callers=2)
        assert [rate.allows("a", 0.0) for _ in range(4)] == [True, True, True, False]
        assert rate.allows("a", 0.5)
        assert not rate.allows("a", 0.5)
        assert rate.allows("b", 0.5)
        assert rate.allows("c", 0.5)
        assert len(rate._buckets) == 2

    def test_qr_text_is_a_readable_code(self) -> None:
        url = "http://192.168.1.20:8765/enter/abcdefghijklmnopqrstuvwx"
        lines = qr_text(url).splitlines()
        light = {"█": (1, 1), "▀": (1, 0), "▄": (0, 1), " ": (0, 0)}
        pixels = np.array([[light[c][half] for c in line] for line in lines for half in (0, 1)], np.uint8) * 255
        big = cv2.copyMakeBorder(
            np.kron(pixels, np.ones((8, 8), np.uint8)), 32, 32, 32, 32, cv2.BORDER_CONSTANT, value=255
        )
        assert cv2.QRCodeDetector().detectAndDecode(big)[0] == url


class TestPublisher:
    def test_folder_holds_a_whole_page(self, session: FakeSession, tmp_path: Path) -> None:
        publisher = Publisher(session.slot, tmp_path / "site", interval_s=0.05)
        publisher.start()
        assert until(lambda: (tmp_path / "site/status.json").exists())
        session.step()
        publisher.stop()
        site = tmp_path / "site"
        status = json.loads((site / "status.json").read_text(encoding="utf-8"))
        assert status["frames"] == 6  # stop writes the last state
        assert status["picture"].startswith("picture.jpg?")
        page = (site / "index.html").read_text(encoding="utf-8")
        assert 'data-mode="static"' in page
        for name in re.findall(r'(?:href|src)="(static/[^"]+)"', page):
            assert (site / name).is_file()
        assert cv2.imread(str(site / "picture.jpg")).shape == (280, 350, 3)
        assert not list(site.glob(".*"))

    def test_a_folder_that_cannot_be_written_is_said(self, session: FakeSession, tmp_path: Path) -> None:
        (tmp_path / "file").write_text("in the way")
        publisher = Publisher(session.slot, tmp_path / "file" / "site", interval_s=0.05)
        publisher.start()
        assert until(lambda: publisher.failure is not None)
        publisher.stop()
        assert "could not be written" in (publisher.failure or "")


class TestTimelapse:
    @pytest.mark.parametrize("count", [1, 2, 9, 10, 11, 57, 1000])
    def test_album_spans_the_night_in_bounded_room(self, count: int) -> None:
        album: ThinnedAlbum[int] = ThinnedAlbum(10)
        for n in range(count):
            album.add(n)
            assert len(album.entries) <= 10
            assert album.entries[-1] == n
            assert album.entries[0] == 0
        steps = np.diff(album.entries[:-1])
        assert len(set(steps)) <= 1
        assert len(album.entries) >= min(count, 5)

    def test_album_needs_room(self) -> None:
        with pytest.raises(UsageError, match="at least 3"):
            ThinnedAlbum(2)

    @pytest.mark.parametrize("suffix", [".mp4", ".webp"])
    def test_film_of_a_session(self, session: FakeSession, tmp_path: Path, suffix: str) -> None:
        film = Timelapse(session.slot, longest_side=320)
        assert film.add(session.snapshot)
        assert not film.add(session.snapshot)  # the same picture again
        film.start()
        for _ in range(2):
            session.step()
            pictures = len(film.pictures)
            assert until(lambda before=pictures: len(film.pictures) > before)
        film.stop()
        path = film.write(tmp_path / f"grown{suffix}")
        assert path.stat().st_size > 1000
        if path.suffix == ".mp4":
            video = cv2.VideoCapture(str(path))
            read, picture = video.read()
            video.release()
            assert read
        else:
            picture = cv2.imreadanimation(str(path))[1].frames[0]
        assert picture.shape[:2] == (256, 320)
        assert [p.name for p in tmp_path.iterdir()] == [path.name]

    def test_another_group_begins_a_new_film(self, session: FakeSession) -> None:
        film = Timelapse(session.slot)
        film.add(session.snapshot)
        session.step()
        film.add(session.snapshot)
        assert len(film.pictures) == 2
        session.publish(group="m13", picture_sequence=100)
        film.add(session.snapshot)
        assert len(film.pictures) == 1

    def test_nothing_to_film(self, tmp_path: Path) -> None:
        with pytest.raises(UsageError, match="no picture yet"):
            write_film([], tmp_path / "a.mp4")
        with pytest.raises(UsageError, match=r"\.mp4 or \.webp"):
            write_film([b"x"], tmp_path / "a.avi")
