"""The doctor: each trouble is found and named, the user's folder stays as it was."""

from __future__ import annotations

import errno
import os
import socket
import time
from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits
from typer.testing import CliRunner

from livestack.base.errors import UsageError
from livestack.base.folder import Entry, FileKey
from livestack.faces.cli import app
from livestack.session.doctor import Camera, Check, examine, machine, place, print_checks


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two whole frames, an older and a newer one."""
    night = tmp_path / "night"
    night.mkdir()
    for number in (1, 2):
        header = fits.Header([("BAYERPAT", "RGGB")])
        fits.writeto(night / f"light_{number}.fits", np.zeros((40, 60), np.uint16), header)
        os.utime(night / f"light_{number}.fits", (1.7e9 + number, 1.7e9 + number))
    return night


def entry(mtime_s: float) -> Entry:
    return Entry("/x/a.fits", FileKey("/x/a.fits", 1, int(mtime_s * 1e9)), 0)


class TestCamera:
    @pytest.mark.parametrize(
        ("text", "camera"), [("6248x4176", (6248, 4176, 1)), ("100X50x3", (100, 50, 3)), ("10×20", (10, 20, 1))]
    )
    def test_reads(self, text: str, camera: tuple[int, int, int]) -> None:
        assert Camera.parse(text) == Camera(*camera)

    @pytest.mark.parametrize("text", ["", "big", "100", "0x10", "-5x10", "10x10x2", "10x10x3x1", "1e3x5"])
    def test_refuses(self, text: str) -> None:
        with pytest.raises(UsageError, match="expected WIDTHxHEIGHT"):
            Camera.parse(text)

    def test_26_megapixels_in_colour(self) -> None:
        assert 3e9 < Camera(6248, 4176, 3).session_bytes < 4.5e9


class TestMachine:
    def test_libraries(self, monkeypatch: pytest.MonkeyPatch) -> None:
        assert machine.check_libraries().verdict == "ok"
        monkeypatch.setattr(machine, "LIBRARIES", ("numpy", "no_such_library_anywhere"))
        check = machine.check_libraries()
        assert check.verdict == "problem"
        assert "no_such_library_anywhere" in check.found

    def test_compiler(self, monkeypatch: pytest.MonkeyPatch) -> None:
        assert machine.check_compiler().verdict == "ok"

        def refuse(**_: object) -> None:
            raise RuntimeError("cannot cache function: no locator available")

        monkeypatch.setattr("numba.njit", refuse)
        assert "NUMBA_CACHE_DIR" in machine.check_compiler().remedy

    def test_display(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("sys.platform", "linux")
        monkeypatch.delenv("DISPLAY", raising=False)
        monkeypatch.delenv("WAYLAND_DISPLAY", raising=False)
        assert machine.check_display().found == "there is no display"
        monkeypatch.setenv("DISPLAY", ":0")
        monkeypatch.setattr(machine, "GUI_TOOLKITS", ("no_toolkit",))
        assert machine.check_display().verdict == "warning"
        monkeypatch.setattr(machine, "GUI_TOOLKITS", ("no_toolkit", "json"))
        assert machine.check_display() == Check("window", "ok", "a window can be opened (json)")

    def test_port(self) -> None:
        with socket.create_server(("127.0.0.1", 0)) as server:
            port = server.getsockname()[1]
            check = machine.check_port("127.0.0.1", port)
            assert (check.verdict, str(port) in check.found) == ("warning", True)
        assert machine.check_port("127.0.0.1", port).verdict == "ok"
        assert machine.check_port("192.0.2.1", 0).verdict == "warning"

    def test_clock(self) -> None:
        assert machine.check_clock(0.0) == Check(
            "clock", "warning", "this machine believes that it is 1970-01-01 00:00:00 UTC", "set its clock"
        )
        assert machine.check_clock(time.time()).verdict == "ok"

    @pytest.mark.parametrize(("free", "verdict"), [(1e9, "problem"), (5e9, "warning"), (16e9, "ok"), (None, "warning")])
    def test_memory(self, free: float | None, verdict: str) -> None:
        assert machine.check_memory(Camera(6248, 4176, 3), free).verdict == verdict

    def test_memory_without_a_camera(self) -> None:
        assert "--camera" in machine.check_memory(None, 8e9).remedy

    def test_available_memory_is_of_this_world(self) -> None:
        free = machine.available_memory()
        assert free is not None
        assert 1e7 < free < 1e14


class TestPlace:
    def test_content(self, folder: Path) -> None:
        check = place.check_content(place.list_frames(folder))
        assert check.found == "2 frames; the newest, light_2.fits, can be read (60 x 40 RGGB)"
        with open(folder / "light_2.fits", "rb+") as file:
            file.truncate(3000)
        assert place.check_content(place.list_frames(folder)).verdict == "warning"
        assert place.check_content([]).found == "no frames yet"

    def test_camera_of_the_newest(self, folder: Path) -> None:
        assert place.camera_of(place.list_frames(folder)) == Camera(60, 40, 3)
        assert place.camera_of([]) is None

    def test_times(self) -> None:
        assert place.check_times([entry(1000), entry(5000)], 1000).found == "the newest frame is 4000 s in the future"
        assert place.check_times([entry(1000)], 1000).verdict == "ok"
        assert place.check_times([], 1000).verdict == "ok"

    def test_access(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        assert place.check_access(folder).verdict == "ok"
        monkeypatch.setattr(os, "access", lambda path, mode: not mode & os.W_OK)
        assert "--output" in place.check_access(folder).remedy
        monkeypatch.setattr(os, "access", lambda path, mode: False)
        assert place.check_access(folder).verdict == "problem"
        monkeypatch.undo()
        (folder / "session.jsonl").touch()
        assert "a session's own" in place.check_access(folder).found

    @pytest.mark.parametrize(("free", "verdict"), [(1e9, "problem"), (6e9, "warning"), (900e9, "ok")])
    def test_space(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, free: float, verdict: str) -> None:
        monkeypatch.setattr(place, "free_bytes", lambda path: int(free))
        assert place.check_space(tmp_path, Camera(6248, 4176, 3)).verdict == verdict

    def test_speed(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(place, "TRIAL_BYTES", 2 << 20)
        monkeypatch.setattr(place.tempfile, "gettempdir", lambda: str(tmp_path.parent))
        monkeypatch.setattr(place, "SLOW_BYTES_S", 1.0)
        check = place.check_speed(tmp_path, Camera(60, 40))
        assert (check.verdict, "MB/s" in check.found) == ("ok", True)
        monkeypatch.setattr(place, "SLOW_BYTES_S", 1e15)
        assert place.check_speed(tmp_path, None).verdict == "warning"

        def full(descriptor: int) -> None:
            raise OSError(errno.ENOSPC, "No space left on device")

        monkeypatch.setattr(place, "sync_file", full)
        assert "disk is full" in place.check_speed(tmp_path, None).found

    def test_events(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(place.tempfile, "gettempdir", lambda: str(tmp_path.parent))
        assert place.check_events(tmp_path).found.startswith("arrive after")

        class Deaf:
            """Starts, and never tells anything."""

            def schedule(self, *_: object, **__: object) -> None: ...
            def unschedule(self, watch: object) -> None: ...
            def start(self) -> None: ...
            def stop(self) -> None: ...
            def join(self, timeout: float | None = None) -> None: ...

        check = place.check_events(tmp_path, Deaf, timeout_s=0.05)
        assert (check.verdict, check.remedy) == ("warning", "start the session with --poll")

        def none_left() -> Deaf:
            raise OSError(errno.EMFILE, "inotify instance limit reached")

        assert "max_user_instances" in place.check_events(tmp_path, none_left).found
        monkeypatch.setattr(place, "network_file_system", lambda path: "cifs")
        assert "looked at every second" in place.check_events(tmp_path).found

    def test_no_place_for_trials(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """Never inside the folder, even if it is the only place."""
        monkeypatch.setattr(place.tempfile, "gettempdir", lambda: str(tmp_path))
        monkeypatch.setattr(Path, "home", lambda: tmp_path)
        with place.scratch_folder(tmp_path) as scratch:
            assert scratch is None
        assert place.check_events(tmp_path).found == place.UNTESTED
        assert place.check_speed(tmp_path, None).found == place.UNTESTED

    def test_scratch_is_removed(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        (tmp_path / "night").mkdir()
        monkeypatch.setattr(place.tempfile, "gettempdir", lambda: str(tmp_path))
        with place.scratch_folder(tmp_path / "night") as scratch:
            assert scratch is not None
            assert scratch.parent == tmp_path
            (scratch / "x").touch()
        assert os.listdir(tmp_path) == ["night"]


class TestCommand:
    def test_leaves_the_folder_as_it_was(self, folder: Path) -> None:
        def state() -> list:
            return [(p.name, p.stat().st_mtime_ns, p.stat().st_size) for p in sorted([folder, *folder.rglob("*")])]

        before = state()
        checks = list(examine(folder, None, "127.0.0.1", 0))
        assert state() == before
        assert [check.name for check in checks if check.verdict == "problem"] == []
        assert len({check.name for check in checks}) == len(checks) == 13
        assert "for 60 x 40 x 3" in next(check.found for check in checks if check.name == "memory")

    def test_says_each_check_in_a_line_and_counts(self) -> None:
        lines: list[str] = []
        checks = [Check("a", "ok", "fine"), Check("b", "warning", "odd", "look"), Check("c", "problem", "bad", "mend")]
        assert print_checks(checks, lines.append)
        assert lines == [
            "ok       a: fine.",
            "warning  b: odd; look.",
            "problem  c: bad; mend.",
            "1 problem to be solved before the night.",
        ]
        assert not print_checks(checks[:2], lines.append)
        assert lines[-1] == "Ready for the night, with 1 warning."
        print_checks(checks[:1], lines.append)
        assert lines[-1] == "Ready for the night."

    def test_exit_status(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        run = CliRunner()
        assert run.invoke(app, ["doctor", str(folder), "--port", "0"]).exit_code == 0
        monkeypatch.setattr(machine, "LIBRARIES", ("no_such_library_anywhere",))
        ended = run.invoke(app, ["doctor", "--port", "0", "--camera", "640x480"])
        assert ended.exit_code == 1
        assert "1 problem to be solved" in ended.output

    def test_wrong_words(self, tmp_path: Path) -> None:
        with pytest.raises(UsageError, match="is no folder"):
            list(examine(tmp_path / "nope", None, "127.0.0.1", 0))
