"""Home without a browser: what may be seen, who may ask, and a session that it begins, loses, resumes and stops."""

from __future__ import annotations

import json
import ntpath
import os
import posixpath
import re
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import httpx
import pytest
from starlette.routing import Route

from livestack.base.errors import UsageError
from livestack.base.journal import FrameRecord, Journal, RemovedRecord, SessionStart, SessionStop
from livestack.base.settings import Settings
from livestack.faces import cli
from livestack.faces.home.form import HIDDEN, make_form, read_wishes
from livestack.faces.home.gallery import Gallery
from livestack.faces.home.memory import Memory
from livestack.faces.home.presets import PRESETS
from livestack.faces.home.roots import OutsideRoots, Root, Roots, check_form
from livestack.faces.home.runner import Runner
from livestack.faces.home.server import HomeServer
from livestack.faces.home.survey import survey
from livestack.faces.web.app import make_app
from livestack.faces.web.server import WebServer
from livestack.faces.web.static_files import STATIC
from tests.fake_session import FakeSession
from tests.small_sessions import simulate_night
from tests.waiting import until

TOKEN = "home-of-the-host-0123456789"


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """A root with a night, a hidden folder, and links that lead out of it."""
    root = tmp_path / "root"
    (root / "night").mkdir(parents=True)
    (root / ".secret").mkdir()
    (tmp_path / "outside" / "inner").mkdir(parents=True)
    (root / "way-out").symlink_to(tmp_path / "outside")
    (root / "way-in").symlink_to(root / "night")
    return root


@pytest.fixture
def roots(place: Path) -> Roots:
    """Only that root."""
    return Roots([Root("root", place)])


@pytest.fixture
def home(place: Path, tmp_path: Path) -> Iterator[HomeServer]:
    """Home, served on a free port of this machine, with no session."""
    memory = Memory(tmp_path / "state")
    (tmp_path / "state" / "token").write_text(TOKEN)
    server = HomeServer("127.0.0.1", 0, [place], memory)
    server.start()
    yield server
    server.stop()


@pytest.fixture
def client(home: HomeServer) -> Iterator[httpx.Client]:
    """A visitor of home, who has no token."""
    with httpx.Client(base_url=home.public_url) as visitor:
        yield visitor


HOST = {"Authorization": f"Bearer {TOKEN}"}


class TestRoots:
    def test_what_lies_below_is_seen(self, place: Path, roots: Roots) -> None:
        assert roots.admit(str(place)) == place
        assert roots.admit(str(place / "night")) == place / "night"
        assert roots.admit(str(place / "way-in")) == place / "night"
        assert roots.above(place) is None
        assert roots.above(place / "night") == place

    @pytest.mark.parametrize(
        "asked",
        [
            "", "night", "/", "/etc", "{root}/..", "{root}/night/../../outside", "{root}/../root-not", "{root}x",
            "{root}/way-out", "{root}/way-out/inner", "{root}/.secret", "//etc", "/proc/self/root/etc",
            "{root}\0/night", "{root}/%2e%2e", "file://{root}", "{root}/night\n", "~", "../root", None, 7, ["{root}"],
        ],
    )  # fmt: skip
    def test_nothing_else_is(self, place: Path, roots: Roots, asked: Any) -> None:
        path = asked.replace("{root}", str(place)) if isinstance(asked, str) else asked
        if asked == "{root}/%2e%2e":  # decoded once by the server; what is left is a name that no folder has
            assert not roots.admit(path).exists()
            return
        with pytest.raises(OutsideRoots):
            roots.admit(path)

    @pytest.mark.parametrize(
        ("flavour", "asked"),
        [
            (ntpath, r"C:night"), (ntpath, r"\night"), (ntpath, r"C:\night\..\Windows"), (ntpath, "C:/night/../x"),
            (ntpath, r"\\server\share\x"), (ntpath, "//server/share/x"), (ntpath, r"\\?\C:\Windows"),
            (ntpath, r"\\.\C:\Windows"), (ntpath, r"C:\night:stream"), (ntpath, r"C:\night\...\x"),
            (ntpath, r"C:\night\.. \x"), (ntpath, r"C:\ni?ht"), (ntpath, r"\\server\other\x"),
            (posixpath, "//server/x"), (posixpath, "night"), (posixpath, "/a/../b"),
        ],
    )  # fmt: skip
    def test_forms_that_lead_elsewhere(self, flavour: ModuleType, asked: str) -> None:
        with pytest.raises(OutsideRoots):
            check_form(asked, flavour, [r"C:\night", r"\\server\mine"])

    def test_forms_that_are_plain(self) -> None:
        for asked in (r"C:\night", r"C:\night\M 31", "D:/captures", r"\\server\mine\M 31"):
            check_form(asked, ntpath, [r"C:\night", r"\\server\mine"])
        check_form("/home/me/night.of.stars", posixpath)


def paths_of(routes: list[Any]) -> list[tuple[str, set[str]]]:
    """Each route with something in the place of its parameters, and its methods."""
    found = []
    for route in routes:
        assert isinstance(route, Route)
        found.append((re.sub(r"\{(\w+)(:int)?\}", "1", route.path), set(route.methods or ())))
    return found


class TestGuard:
    def test_every_route_of_the_host_is_closed_without_the_token(self, home: HomeServer, client: httpx.Client) -> None:
        """Walks all routes there are, so that one that is added tomorrow is looked at, too."""
        session = FakeSession(64, 48)
        session.step()
        live = WebServer(session.slot, session.controls, "127.0.0.1", 0, TOKEN)
        live.start()
        looked = 0
        try:
            with httpx.Client(base_url=live.public_url) as visitor:
                for app, someone in ((home.make(), client), (live.make(), visitor)):
                    for path, methods in paths_of(app.routes):
                        if not path.startswith(("/home", "/host")):
                            continue
                        for method in methods - {"HEAD"}:
                            for headers in ({}, {"Authorization": "Bearer wrong"}, {"Cookie": "livestack_x=1"}):
                                answer = someone.request(method, path, headers=headers, json={})
                                assert answer.status_code == 403, (method, path)
                                looked += 1
        finally:
            live.stop()
        assert looked >= 60
        assert session.asked == []

    def test_open_routes_are_those_of_visitors(self, home: HomeServer) -> None:
        live = make_app(FakeSession(64, 48).slot, None, TOKEN)
        every = [path for app in (home.make(), live) for path, _ in paths_of(app.routes)]
        opened = {path for path in every if not path.startswith(("/home", "/host", "/static", "/enter"))}
        assert opened == {
            "/", "/overlay", "/status.json", "/events", "/picture/1.jpg", "/tile/1/1-1.jpg", "/stars.json",
            "/star.json", "/sky.json", "/qr.svg",
        }  # fmt: skip

    def test_the_link_opens_home_and_no_stranger_acts(self, client: httpx.Client) -> None:
        assert client.get("/enter/wrong").status_code == 403
        cookie = client.get(f"/enter/{TOKEN}").headers["set-cookie"]
        for word in ("HttpOnly", "SameSite=Strict", "Path=/;"):
            assert word in cookie
        assert client.get("/home").status_code == 200
        assert client.get("/").headers["location"] == "/home"
        evil = client.post("/home/do/stop", json={}, headers={"Origin": "http://evil.example"})
        assert evil.status_code == 403
        assert client.post("/home/do/stop", content="{}").status_code == 415
        assert client.post("/home/do/nothing", json={}).status_code == 400
        assert client.post("/home/do/stop", json={"x": "y" * 99999}).status_code == 413
        assert client.post("/home/do/stop", json={}).json() == {"message": "No session is running."}

    def test_visitors_are_told_that_nothing_runs(self, client: httpx.Client) -> None:
        assert "The telescope rests" in client.get("/").text
        assert client.get("/status.json").status_code == 503
        assert client.get("/host/state.json").status_code == 403

    def test_folders_outside_are_refused(self, client: httpx.Client, place: Path) -> None:
        for path in (
            "/etc",
            f"{place}/way-out",
            f"{place}/.secret",
            f"{place}/night/../../outside",
            "C:\\",
            "\\\\x\\y",
        ):
            for question in ("folder", "survey", "doctor"):
                answer = client.get(f"/home/{question}.json", params={"path": path}, headers=HOST)
                assert answer.status_code == 403, (question, path)
            assert client.post("/home/do/start", json={"folder": path}, headers=HOST).status_code == 403
        encoded = client.get(f"/home/folder.json?path={place}%2Fnight%2F%2e%2e%2F%2e%2e%2Foutside", headers=HOST)
        assert encoded.status_code == 403
        inside = client.get("/home/folder.json", params={"path": str(place)}, headers=HOST).json()
        assert [one["name"] for one in inside["folders"]] == ["night", "way-in"]

    def test_pages_are_small(self) -> None:
        for page in ("home.html", "index.html"):
            text = (STATIC / page).read_text(encoding="utf-8")
            if page == "index.html":
                text += (STATIC / "host.html").read_text(encoding="utf-8")
            names = set(re.findall(r'(?:href|src)="/?static/([^"]+)"', text))
            todo = list(names)
            while todo:
                source = (STATIC / todo.pop()).read_text(encoding="utf-8")
                assert not re.search(r"https?://(?!www\.w3\.org/2000/svg)", source)  # no request leaves the machine
                new = set(re.findall(r'from "\./([\w.]+)"', source)) - names
                names |= new
                todo += new
            assert len(text) + sum((STATIC / name).stat().st_size for name in names) < 150_000, page


class TestSettings:
    def test_the_form_shows_every_setting(self) -> None:
        shown = {(section["name"], field["name"]) for section in make_form() for field in section["fields"]}
        every = {(name, key) for name, section in Settings() for key in type(section).model_fields if name != "face"}
        assert shown == every - HIDDEN
        for section in make_form():
            for field in section["fields"]:
                assert field["words"]
                assert field["kind"] in ("switch", "choice", "integer", "number", "words", "path", "text")

    def test_wishes_are_laid_over_the_preset(self, roots: Roots, place: Path) -> None:
        preset = {"stack": {"canvas": "union", "kappa": 4.0}}
        asked = {
            "stack": {"kappa": 3.0},
            "calibration": {"masters": str(place / "night")},
            "save": {"formats": ["png"]},
        }
        settings = read_wishes(preset, asked, roots)
        assert (settings.stack.canvas, settings.stack.kappa) == ("union", 3.0)
        assert settings.calibration.masters == place / "night"
        assert settings.save.formats == ("png",)

    @pytest.mark.parametrize(
        ("asked", "words"),
        [
            ({"stack": {"kappa": -1}}, "kappa"), ({"stack": {"kapa": 3}}, "kapa"), ({"face": {"host": "0"}}, "face"),
            ({"save": {"output": "/"}}, "output"), ({"save": {"publish": "/"}}, "publish"), ([], "sections"),
            ({"registration": {"reference": "/etc/passwd"}}, "outside the folders"),
        ],
    )  # fmt: skip
    def test_wrong_wishes_are_told(self, roots: Roots, asked: Any, words: str) -> None:
        with pytest.raises(UsageError, match=words):
            read_wishes({}, asked, roots)

    @pytest.mark.parametrize("preset", PRESETS, ids=lambda one: one.name)
    def test_presets_say_what_they_change(self, preset: Any, roots: Roots) -> None:
        settings = read_wishes(preset.changes, {}, roots)
        for section, fields in preset.changes.items():
            for name, value in fields.items():
                assert getattr(getattr(settings, section), name) == value
                assert getattr(getattr(Settings(), section), name) != value or name == "recursive"
        assert preset.why.endswith(".")


class TestSurvey:
    def test_what_lies_there(self, tmp_path: Path) -> None:
        night = simulate_night(tmp_path / "lights", frames=3)
        (night / "livestack").mkdir()
        (night / "livestack" / "old.fits").write_bytes(b"a result, no frame")
        found = survey(night)
        assert found["frames"] == found["read"] == 3
        assert sum(row["frames"] for row in found["lights"]) == 3
        assert found["lights"][0]["width"] == 240
        assert found["newest"]["name"].endswith(".fits")
        assert survey(tmp_path / "nowhere")["error"]

    def test_a_journal_becomes_a_card(self, tmp_path: Path) -> None:
        folder = tmp_path / "night" / "livestack" / "one"
        with Journal(folder / "session.jsonl") as journal:
            journal.append(SessionStart(version="1", settings={}, folder=str(tmp_path / "night")))
            for number in range(4):
                refused = number == 3
                journal.append(
                    FrameRecord(
                        file=f"{number}.fits", group="m-27", status="refused" if refused else "stacked", exposure_s=30.0
                    )
                )
            journal.append(RemovedRecord(file="1.fits", group="m-27"))
        gallery = Gallery()
        (session,) = gallery.look([tmp_path / "night"])
        assert (session.state, session.n_stacked, session.light_s, session.n_refused) == ("open", 2, 60.0, 1)
        assert session.brief()["can_resume"]
        with Journal(folder / "session.jsonl") as journal:  # it has grown: it is read again
            journal.append(SessionStop(status="saved", reason="all frames are done"))
        found = gallery.find(session.key)
        assert found is not None
        assert not found.brief()["can_resume"]
        assert gallery.find("0" * 16) is None


def test_a_session_is_begun_lost_resumed_and_stopped(tmp_path: Path) -> None:
    """A session that is killed leaves home as it was; resumed it goes on; stopped it saves, and lies in the gallery."""
    night = simulate_night(tmp_path / "night" / "lights", frames=6)
    server = HomeServer("127.0.0.1", 0, [tmp_path / "night"], Memory(tmp_path / "state"))
    server.start()
    ours = {"Authorization": f"Bearer {server._token}"}
    try:
        with (
            httpx.Client(base_url=server.public_url, timeout=60) as host,
            httpx.Client(base_url=server.public_url) as you,
        ):

            def do(action: str, **asked: Any) -> httpx.Response:
                return host.post(f"/home/do/{action}", json=asked, headers=ours)

            def state() -> dict[str, Any]:
                return dict(host.get("/home/state.json", headers=ours).json()["session"])

            def frames() -> int:
                answer = you.get("/status.json")
                return int(answer.json()["frames"]) if answer.status_code == 200 else -1

            quick = {
                "save": {"final_pass": False, "solve": "off", "formats": ["fits", "png"], "checkpoint_every_frames": 2},
                "photometry": {"enabled": False}, "stack": {"warmup_frames": 2},
            }  # fmt: skip
            begun = do("start", folder=str(night), settings=quick)
            assert begun.status_code == 200, begun.text
            assert do("start", folder=str(night)).status_code == 409  # one at a time
            until(lambda: frames() == 6, timeout_s=240)  # where the loops are not compiled yet
            assert you.get("/host/state.json").status_code == 403  # the session's own guard, behind home's
            assert host.get("/host/state.json", headers=ours).json()["home"] == "/home"
            picture = until(lambda: you.get("/status.json").json()["small"])
            first, again = you.get(f"/{picture}"), you.get(f"/{picture}")
            assert first.content == again.content
            assert first.headers["content-type"] == "image/jpeg"
            with you.stream("GET", "/events") as stream:
                told = next(line for line in stream.iter_lines() if line.startswith("data: "))
            assert json.loads(told[6:])["frames"] == 6

            running = json.loads((tmp_path / "state" / "running.json").read_text())
            os.kill(running["pid"], signal.SIGTERM if os.name == "nt" else signal.SIGKILL)
            until(lambda: not state()["running"])
            assert "broke off" in state()["message"]
            assert you.get("/status.json").status_code == 503
            (past,) = host.get("/home/gallery.json", headers=ours).json()
            assert past["can_resume"]

            resumed = do("resume", key=past["key"])
            assert resumed.status_code == 200, resumed.text
            until(lambda: frames() == 6)
            assert do("stop").status_code == 200
            until(lambda: not state()["running"])
            assert state()["status"] == 0
            (past,) = host.get("/home/gallery.json", headers=ours).json()
            assert (past["state"], past["frames"], past["report"]) == ("saved", 6, True)
            report = host.get(f"/home/report/{past['key']}", headers=ours)
            assert "sandbox" in report.headers["content-security-policy"]
            assert report.text.startswith("<!DOCTYPE html>")
            one = host.get(f"/home/session/{past['key']}.json", headers=ours).json()
            stack = next(file for file in one["files"] if file["name"].endswith("stack.fits"))
            sent = host.get(f"/home/file/{past['key']}/{stack['number']}", headers=ours)
            assert sent.content[:6] == b"SIMPLE"
            assert host.get(f"/home/file/{past['key']}/9999", headers=ours).status_code == 404
            assert host.get(f"/home/picture/{past['key']}.jpg", headers=ours).content[:2] == b"\xff\xd8"
            assert do("merge", keys=[past["key"]]).status_code == 409
    finally:
        if server.runner.is_running:
            server.runner.kill()
            server.runner.wait(20)
        server.stop()


def test_another_home_finds_the_session_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    memory = Memory(tmp_path / "state")
    session = FakeSession(64, 48)
    session.step()
    server = WebServer(session.slot, session.controls, "127.0.0.1", 0, TOKEN)
    server.start()
    told = {"pid": os.getpid(), "port": server.port, "folder": "/night", "output": "/night/livestack/x"}
    memory.running.write_text(json.dumps({**told, "state": "running"}))
    try:
        assert not Runner(memory, "another-secret").is_running  # not ours
        runner = Runner(memory, TOKEN)
        assert runner.is_running
        assert runner.port == server.port
        assert runner.stop() == "stop: done."
        assert ("stop",) in session.asked
        memory.running.write_text(json.dumps({**told, "state": "ended", "status": 0, "message": "Saved."}))
        until(lambda: not runner.is_running)
        assert runner.latest is not None
        assert (runner.latest.status, runner.latest.message) == (0, "Saved.")
        assert time.time() > runner.latest.since
    finally:
        server.stop()


def test_memory_is_for_the_user_alone(tmp_path: Path) -> None:
    memory = Memory(tmp_path / "state")
    token = memory.token()
    assert Memory(tmp_path / "state").token() == token
    assert len(token) > 20
    if os.name != "nt":
        assert (tmp_path / "state" / "token").stat().st_mode & 0o077 == 0
        assert (tmp_path / "state").stat().st_mode & 0o077 == 0
    for name in ("a", "b", "a"):
        (tmp_path / name).mkdir(exist_ok=True)
        memory.remember(tmp_path / name)
    assert memory.recent() == [str(tmp_path / "a"), str(tmp_path / "b")]
    memory.forget(str(tmp_path / "a"))
    assert memory.recent() == [str(tmp_path / "b")]


def test_livestack_alone_opens_home(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[Any, ...]] = []

    def note(*words: Any) -> int:
        asked.append(words)
        return 0

    monkeypatch.setattr("livestack.faces.home.server.run_home", note)
    for line in (["livestack"], ["livestack", "app", "--no-browser", "--host", "0.0.0.0", "--port", "0"]):
        monkeypatch.setattr("sys.argv", line)
        with pytest.raises(SystemExit) as ended:
            cli.main()
        assert ended.value.code == 0
    assert asked == [("127.0.0.1", 8765, [], True), ("0.0.0.0", 0, [], False)]
