"""The lock of a session's folder: one holder at a time, and a dead one holds nothing."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from livestack.base.errors import SessionError, UsageError
from livestack.session import lock
from livestack.session.lock import LOCK_NAME, LockHolder, SessionLock, process_alive

HOLD = """
import sys, os
from pathlib import Path
from livestack.session.lock import SessionLock
held = SessionLock(Path(sys.argv[1]))
held.acquire()
print(os.getpid(), flush=True)
sys.stdin.readline()
os._exit(9)
"""


@pytest.fixture
def holder(tmp_path: Path):
    """Another process that holds the folder until a line is sent to it; then it dies without giving it free."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert int(process.stdout.readline()) == process.pid
    yield process
    if process.returncode is None:
        process.communicate("\n", timeout=120)


def dead_pid() -> int:
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait(20)
    return process.pid


def test_second_holder_is_refused_and_told_who(tmp_path: Path) -> None:
    with SessionLock(tmp_path), pytest.raises(UsageError, match=rf"in use by process {os.getpid()} on .* since 20"):
        SessionLock(tmp_path).acquire()
    with SessionLock(tmp_path):
        pass
    assert list(tmp_path.iterdir()) == []


def test_other_process_is_named_and_its_death_frees_the_folder(tmp_path: Path, holder: subprocess.Popen) -> None:
    with pytest.raises(UsageError, match=f"process {holder.pid} on"):
        SessionLock(tmp_path).acquire()
    holder.communicate("\n", timeout=120)
    assert holder.returncode == 9
    assert (tmp_path / LOCK_NAME).exists()
    with SessionLock(tmp_path):
        assert json.loads((tmp_path / LOCK_NAME).read_text())["pid"] == os.getpid()
    assert not (tmp_path / LOCK_NAME).exists()


def test_other_machine_on_a_share_is_believed(tmp_path: Path) -> None:
    """Its system's lock may not reach us."""
    elsewhere = {"pid": 1, "host": "observatory", "machine": 1, "since": "2026-11-20T20:00:00Z"}
    (tmp_path / LOCK_NAME).write_text(json.dumps(elsewhere))
    with pytest.raises(UsageError, match=f"process 1 on observatory since 2026-11-20T20:00:00Z.*delete {LOCK_NAME}"):
        SessionLock(tmp_path).acquire()


def test_this_machine_under_another_name_is_known(tmp_path: Path) -> None:
    """A laptop is called differently in every network."""
    here = vars(LockHolder.this_process()) | {"host": "laptop.cafe.example", "pid": dead_pid()}
    (tmp_path / LOCK_NAME).write_text(json.dumps(here))
    with SessionLock(tmp_path):
        pass


@pytest.mark.parametrize("text", ["", "{", "[]", '{"pid": "x"}', "\xff\xfe"])
def test_torn_lock_file_of_a_crash_is_taken_over(tmp_path: Path, text: str) -> None:
    (tmp_path / LOCK_NAME).write_text(text, encoding="latin-1")
    with SessionLock(tmp_path):
        pass


def test_file_system_without_locks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """There, the number of the process decides."""
    monkeypatch.setattr(lock, "_try_lock", lambda file: None)
    with SessionLock(tmp_path), pytest.raises(UsageError, match="in use by process"):
        SessionLock(tmp_path).acquire()
    dead = vars(LockHolder.this_process()) | {"pid": dead_pid()}
    (tmp_path / LOCK_NAME).write_text(json.dumps(dead))
    with SessionLock(tmp_path):
        pass


def test_only_one_of_many_wins(tmp_path: Path) -> None:
    """Eight at once, many times over, with release between: never two inside."""
    inside, clashes = [], []

    def compete() -> None:
        for _ in range(50):
            try:
                with SessionLock(tmp_path):
                    inside.append(1)
                    if len(inside) > 1:
                        clashes.append(1)
                    inside.pop()
            except UsageError:
                pass

    threads = [threading.Thread(target=compete) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert clashes == []


def test_folder_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(SessionError, match="cannot be written"):
        SessionLock(tmp_path / "file" / "session").acquire()


def test_process_alive() -> None:
    assert process_alive(os.getpid())
    assert not process_alive(dead_pid())
