"""Begins, watches and ends the one session that home runs, as a process of its own (`hosted`).

A session that breaks off leaves home as it is; a home that breaks off leaves the session running, and the next home
finds it by what it left in the state folder. To stop is to ask the session itself: it takes what is ready, saves, and
ends.
"""

from __future__ import annotations

import http.client
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from livestack.base.errors import SessionError, UsageError
from livestack.base.settings import Settings
from livestack.faces.home.memory import Memory
from livestack.faces.program import own_command
from livestack.session.lock import process_alive

LOOK_S = 0.1
START_S = 60.0
ASK_S = 5.0


@dataclass(frozen=True)
class Running:
    """The session as its process told it; `port` is None before it can be reached, and after its end."""

    folder: str
    output: str
    since: float
    port: int | None = None
    pid: int | None = None
    status: int | None = None
    message: str = ""

    @property
    def is_over(self) -> bool:
        """True when its process has ended."""
        return self.status is not None


class Runner:
    """Runs one session at a time; its methods may be called from any thread.

    Parameters
    ----------
    memory : where the session's process leaves word.
    token : the secret that opens its controls.
    """

    def __init__(self, memory: Memory, token: str) -> None:
        self._memory, self._token = memory, token
        self._process: subprocess.Popen[str] | None = None
        self._latest: Running | None = None
        self._lock = threading.Lock()
        self._closing = threading.Event()
        self.join_url: str | None = None
        self._find_again()

    @property
    def latest(self) -> Running | None:
        """The session that runs, or the last one that did; None before the first."""
        return self._latest

    @property
    def port(self) -> int | None:
        """Where the running session is served; None while none can be reached."""
        latest = self._latest
        return None if latest is None or latest.is_over else latest.port

    @property
    def is_running(self) -> bool:
        """True from the wish to begin until the process has ended."""
        return self._latest is not None and not self._latest.is_over

    def begin(
        self, paths: Sequence[Path], settings: Settings, output: Path, one_shot: bool = False, resumed: bool = False
    ) -> None:
        """Begin a session; returns when it can be reached, or has ended already.

        Raises
        ------
        UsageError : another one runs, or this one refused to begin; says why.
        """
        with self._lock:
            if self.is_running:
                raise UsageError("A session is running; stop it before another one begins.")
            told = {
                "paths": [str(path) for path in paths], "settings": settings.model_dump(mode="json"),
                "output": str(output), "one_shot": one_shot, "resumed": resumed, "token": self._token, "home": "/home",
                "join_url": self.join_url, "record": str(self._memory.running),
            }  # fmt: skip
            self._memory.running.unlink(missing_ok=True)
            self._latest = Running(str(paths[0]), str(output), time.time())
            with open(self._memory.log, "w", encoding="utf-8") as log:
                self._process = subprocess.Popen(
                    own_command("hosted"), stdin=subprocess.PIPE, stdout=log, stderr=log, text=True,
                    **_apart(),
                )  # fmt: skip
            assert self._process.stdin is not None
            with suppress(OSError), self._process.stdin as words:  # it may have ended already: then its log tells why
                words.write(json.dumps(told) + "\n")
            threading.Thread(target=self._watch, name="livestack-home-session", daemon=True).start()
        end = time.monotonic() + START_S
        while self.is_running and self.port is None and time.monotonic() < end:
            time.sleep(LOOK_S / 4)
        latest = self._latest
        if latest is not None and latest.is_over and latest.status not in (0, 1):
            raise UsageError(latest.message)

    def stop(self) -> str:
        """Let the session take what is ready, save and end; returns at once.

        Raises
        ------
        UsageError : none is running, or it cannot be reached.
        """
        port = self.port
        if port is None:
            raise UsageError("No session is running.")
        try:
            return ask_session(port, self._token, "stop")
        except OSError as error:
            raise SessionError(f"The session does not answer ({error}); it may be ending.") from error

    def kill(self) -> str:
        """End the session's process at once; it can be resumed.

        Raises
        ------
        UsageError : none is running.
        """
        latest = self._latest
        if not self.is_running or latest is None:
            raise UsageError("No session is running.")
        pid = self._process.pid if self._process is not None else latest.pid
        if pid is not None:
            with suppress(OSError):
                os.kill(pid, signal.SIGTERM if sys.platform == "win32" else signal.SIGKILL)
        return "Ended at once; resume goes on from its last checkpoint."

    def wait(self, timeout_s: float) -> bool:
        """Wait for the session's end; True when none runs any more."""
        end = time.monotonic() + timeout_s
        while self.is_running and time.monotonic() < end:
            time.sleep(LOOK_S)
        return not self.is_running

    def close(self) -> None:
        """Look no more; a session that runs goes on."""
        self._closing.set()

    # --- the process ---------------------------------------------------------------------------------------------

    def _watch(self) -> None:
        process = self._process
        while not self._closing.is_set():
            ended = not self._is_alive(process)
            self._take_record()
            if ended:
                self._take_end(process)
                return
            time.sleep(LOOK_S)

    def _is_alive(self, process: subprocess.Popen[str] | None) -> bool:
        if process is not None:
            return process.poll() is None
        told = self._read_record() or {}  # a process that nobody waits for may keep its number after its end
        pid = self._latest.pid if self._latest is not None else None
        return pid is not None and process_alive(pid) and told.get("state") != "ended"

    def _take_record(self) -> None:
        told, before = self._read_record(), self._latest
        if told is None or before is None or told.get("state") != "running" or before.is_over:
            return
        self._latest = Running(before.folder, before.output, before.since, int(told["port"]), int(told["pid"]))

    def _take_end(self, process: subprocess.Popen[str] | None) -> None:
        told, before = self._read_record() or {}, self._latest
        assert before is not None
        status = process.returncode if process is not None else None
        if told.get("state") == "ended":
            status, message = int(told["status"]), str(told["message"])
        else:
            status = status or -1
            message = (
                f"The session's program broke off ({_say_status(status)}); resume goes on from its last checkpoint."
            )
        self._latest = Running(before.folder, before.output, before.since, None, None, status, message)
        self._process = None

    def _read_record(self) -> dict[str, Any] | None:
        try:
            told = json.loads(self._memory.running.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return None
        return told if isinstance(told, dict) else None

    def _find_again(self) -> None:
        """A session that outlived the home that began it."""
        told = self._read_record()
        if told is None or told.get("state") != "running" or not process_alive(int(told["pid"])):
            return
        try:
            ask_session(int(told["port"]), self._token, None)
        except (OSError, SessionError):
            return  # another program has its number
        began = self._memory.running.stat().st_mtime
        self._latest = Running(str(told["folder"]), str(told["output"]), began, int(told["port"]), int(told["pid"]))
        threading.Thread(target=self._watch, name="livestack-home-session", daemon=True).start()


def ask_session(port: int, token: str, action: str | None) -> str:
    """Ask a session that is served on this machine for one of its controls; None only looks whether it is ours.

    Raises
    ------
    OSError : it does not answer. SessionError : it refuses.
    """
    line = http.client.HTTPConnection("127.0.0.1", port, timeout=ASK_S)
    headers = {"authorization": f"Bearer {token}", "content-type": "application/json"}
    try:
        if action is None:
            line.request("GET", "/host/state.json", headers=headers)
        else:
            line.request("POST", f"/host/do/{action}", b"{}", headers)
        answer = line.getresponse()
        told = json.loads(answer.read() or b"{}")
    except (http.client.HTTPException, ValueError) as error:
        raise SessionError(f"port {port}: is no session of livestack ({error}).") from error
    finally:
        line.close()
    if answer.status >= 400:
        raise SessionError(str(told.get("message", answer.status)))
    return str(told.get("message", ""))


def _apart() -> dict[str, Any]:
    """A process that a Ctrl-C meant for home does not reach."""
    if sys.platform == "win32":
        return {"creationflags": subprocess.CREATE_NEW_PROCESS_GROUP}
    return {"start_new_session": True}


def _say_status(status: int) -> str:
    if status < 0:
        with suppress(ValueError):
            return f"signal {signal.Signals(-status).name}"
    return f"status {status}"
