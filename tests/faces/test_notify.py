"""Being told elsewhere: what is worth a message, how often, and that it arrives, by apprise, at a server here."""

from __future__ import annotations

import base64
import json
import threading
from collections.abc import Iterator
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from livestack.base.errors import UsageError
from livestack.base.journal import FrameRecord, PassageRecord, SessionStart, SessionStop, WarningRecord, read_journal
from livestack.base.settings import NotifySettings
from livestack.faces import notify
from livestack.faces.notify import Gate, Notifier, by_apprise
from livestack.faces.run import open_session, run_with_faces
from tests.small_sessions import simulate_night, small_settings

NOON = datetime(2026, 1, 1, 12)


class Heard(list[dict[str, Any]]):
    """What a server was sent, and where it listens."""

    url = ""


@pytest.fixture
def server() -> Iterator[Heard]:
    """A server of this machine that takes apprise's json:// messages."""
    heard = Heard()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            heard.append(json.loads(self.rfile.read(int(self.headers["content-length"]))))
            self.send_response(200)
            self.end_headers()

        def log_message(self, *words: Any) -> None:
            """Say nothing."""

    listening = HTTPServer(("127.0.0.1", 0), Handler)
    heard.url = f"json://127.0.0.1:{listening.server_port}/night"
    thread = threading.Thread(target=listening.serve_forever, daemon=True)
    thread.start()
    yield heard
    listening.shutdown()
    thread.join()
    listening.server_close()


class TestGate:
    def test_one_of_a_kind_in_a_quarter_of_an_hour(self) -> None:
        gate = Gate(None)
        assert gate.lets_through("clouds", 0, NOON)
        assert not gate.lets_through("clouds", 600, NOON)
        assert gate.lets_through("focus", 600, NOON)
        assert gate.lets_through("clouds", 901, NOON)
        assert gate.held == {"clouds": 1}

    def test_six_in_an_hour_and_the_end_always(self) -> None:
        gate = Gate(None)
        assert [gate.lets_through(str(n), n, NOON) for n in range(8)] == [True] * 6 + [False] * 2
        assert gate.lets_through("end", 8, NOON, urgent=True)
        assert gate.lets_through("late", 3700, NOON)

    @pytest.mark.parametrize(
        ("quiet", "hour", "silent"),
        [("23:30-06:00", 2, True), ("23:30-06:00", 12, False), ("01:00-03:00", 2, True), ("01:00-03:00", 3, False)],
    )
    def test_quiet_hours(self, quiet: str, hour: int, silent: bool) -> None:
        local = datetime(2026, 1, 1, hour, 0)
        assert Gate(quiet).lets_through("clouds", 0, local) is not silent
        assert Gate(quiet).lets_through("end", 0, local, urgent=True)

    def test_hours_that_are_none(self) -> None:
        with pytest.raises(ValueError, match="two times of the day"):
            NotifySettings(quiet="25:00-1")


class TestNotifier:
    def test_what_is_worth_a_message(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        sent: list[tuple[str, str, str, Path | None]] = []
        (tmp_path / "preview.jpg").write_bytes(b"picture")

        def send(*words: Any) -> bool:
            sent.append(words)
            return True

        told = Notifier(NotifySettings(urls=("x",)), tmp_path, send)
        for record in (
            SessionStart(version="1", settings={}, folder="/nights/M 31"),
            FrameRecord(file="gone.fits", status="stacked"),
            WarningRecord(kind="observing", message="clouds are coming: the stars are down to 30 % of their light"),
            WarningRecord(kind="observing", message="clouds are coming: the stars are down to 20 % of their light"),
            WarningRecord(kind="stack", message="masters are missing"),
            WarningRecord(kind="star", message="a star at x 3, y 4 fades"),
            PassageRecord(kind="satellite", first_file="a", last_file="a", message="a satellite"),
            PassageRecord(kind="meteor", first_file="a", last_file="a", message="a meteor"),
        ):
            told.take(record)
        monkeypatch.setattr(notify, "free_bytes", lambda path: 1.2e9)
        told.look(datetime.now(UTC))
        told.look(datetime.now(UTC))  # said once
        told.take(SessionStop(status="failed", reason="the disk is full", n_stacked=1))
        words = [text for _, text, _, _ in sent]
        assert [text.split(":")[0].split(";")[0][:20] for text in words] == [
            "clouds are coming", "a star at x 3, y 4 f", "a meteor", "1.2 GB are left on t", "failed",
        ]  # fmt: skip
        assert "(Held back meanwhile: 1 x clouds.)" in words[1]
        assert sent[0][0] == "livestack: M 31"
        assert [urgency for _, _, urgency, _ in sent] == ["warning", "info", "info", "warning", "failure"]
        assert sent[0][3] == tmp_path / "preview.jpg"

    def test_addresses_that_nobody_knows(self) -> None:
        pytest.importorskip("apprise")
        with pytest.raises(UsageError, match="nonsense"):
            by_apprise(["nonsense://secret-word"])
        with pytest.raises(UsageError) as told:
            by_apprise(["nonsense://secret-word"])
        assert "secret-word" not in str(told.value)  # it ends in terminals and logs

    def test_a_session_tells_its_end_with_the_picture(self, server: Heard, tmp_path: Path) -> None:
        pytest.importorskip("apprise", reason="apprise is not installed (extra `notify`)")
        night = simulate_night(tmp_path / "night", frames=3)
        settings = small_settings(
            notify={"urls": [server.url]}, photometry={"enabled": False}, face={"json_events": True},
            save={"final_pass": False, "formats": ["fits"]},
        )  # fmt: skip
        output = tmp_path / "out"
        session, settings, notifier = open_session([night], settings, output, one_shot=True, prints=False)
        assert run_with_faces(session, settings, notifier).status == 0
        (message,) = server
        assert message["title"] == "livestack: night"
        assert message["type"] == "success"
        assert "3 frames are stacked" in message["message"]
        (attached,) = message["attachments"]
        picture = cv2.imdecode(np.frombuffer(base64.b64decode(attached["base64"]), np.uint8), cv2.IMREAD_COLOR)
        assert picture.shape[:2] == (180, 240)
        assert server.url not in (output / "session.jsonl").read_text()  # addresses hold passwords
        assert read_journal(output)[0].settings["notify"] == {"quiet": None}
