"""Service of systemd and launcher: what is written is held against systemd's and freedesktop's own checkers."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from livestack.faces import launcher
from livestack.faces.cli import app
from livestack.faces.service import Service


def run(*words: str) -> int:
    return app(list(words), prog_name="livestack", standalone_mode=False) or 0


@pytest.fixture
def systemd(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A machine whose `systemctl` and `loginctl` write down what they are asked; returns that file."""
    asked = tmp_path / "asked"
    tools = tmp_path / "tools"
    tools.mkdir()
    for name in ("systemctl", "loginctl"):
        tool = tools / name
        tool.write_text(f'#!/bin/sh\necho {name} "$@" >> "{asked}"\n[ "$2" = is-active ] && echo active\nexit 0\n')
        tool.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tools}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.setattr("os.geteuid", lambda: 1000, raising=False)
    return asked


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="systemd is Linux")
def test_a_service_is_installed_told_and_removed(
    systemd: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert run("service", "status") == 1
    assert run("service", "install", "--port", "8901", "--root", str(tmp_path / "my 100% $nights")) == 0
    unit = tmp_path / "config" / "systemd" / "user" / "livestack.service"
    text = unit.read_text()
    assert f'ExecStart="{sys.executable}" "-m" "livestack" "app" "--no-browser" "--host" "0.0.0.0"' in text
    assert text.rstrip().split("\n")[-1] == "WantedBy=default.target"
    assert f'"--root" "{tmp_path}/my 100%% $$nights"' in text
    monkeypatch.setenv("LIVESTACK_STATE", str(tmp_path / "state"))
    capsys.readouterr()
    assert run("service", "status") == 0
    link = re.search(r"http://[^ ]+:8901/enter/([\w-]{20,})", capsys.readouterr().out)
    assert link is not None
    assert link[1] == (tmp_path / "state" / "token").read_text()
    assert run("service", "remove") == 0
    assert not unit.exists()
    asked = [line.split() for line in systemd.read_text().splitlines()]
    assert [words[2] for words in asked if words[0] == "systemctl"] == [
        "daemon-reload",
        "enable",
        "restart",
        "is-active",
        "disable",
        "daemon-reload",
    ]
    assert ["loginctl", "enable-linger"] in asked


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd-analyze is not here")
def test_the_unit_is_what_systemd_reads(tmp_path: Path) -> None:
    unit = tmp_path / "livestack.service"
    unit.write_text(Service(unit, True)._text(["--host", "0.0.0.0", "--root", "/tmp/a b"]))
    checked = subprocess.run(["systemd-analyze", "verify", str(unit)], capture_output=True, text=True, check=False)
    told = [line for line in checked.stderr.splitlines() if "livestack.service" in line]
    assert not told


def test_a_machine_without_systemd_is_told_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shutil.which", lambda name: None)
    with pytest.raises(Exception, match="no systemd; start `livestack app` by hand"):
        Service.here()


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="the freedesktop entry is Linux's")
def test_the_launcher_is_a_desktop_entry(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    launcher.install()
    entry = tmp_path / "applications" / "livestack.desktop"
    assert f'Exec="{sys.executable}" "-m" "livestack" "app"\n' in entry.read_text()
    assert (tmp_path / "icons/hicolor/scalable/apps/livestack.svg").read_text().startswith("<svg")
    if shutil.which("desktop-file-validate"):
        subprocess.run(["desktop-file-validate", str(entry)], check=True)
    assert len(launcher.remove()) == 2
    assert not entry.exists()
    assert launcher.remove() == ["There is no launcher; nothing to remove."]


@pytest.mark.parametrize("platform", ["darwin", "win32"])
def test_launchers_of_other_systems(platform: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Their files and commands as far as they can be made here."""
    there = SimpleNamespace(platform=platform, executable=sys.executable)
    monkeypatch.setattr(launcher, "sys", there)
    monkeypatch.setenv("APPDATA", str(tmp_path))
    monkeypatch.setattr(Path, "home", classmethod(lambda cls: tmp_path))
    asked: list[list[str]] = []

    def answer(command: list[str], **options: object) -> subprocess.CompletedProcess[str]:
        asked.append(command)
        return subprocess.CompletedProcess(command, 0, "", "")

    monkeypatch.setattr(subprocess, "run", answer)
    (told,) = launcher.install()
    if platform == "darwin":
        program = tmp_path / "Applications/livestack.app/Contents/MacOS/livestack"
        assert os.access(program, os.X_OK)
        assert program.read_text().endswith("-m livestack app\n")
        assert launcher.remove()[0].endswith("removed.")
    else:
        assert "CreateShortcut('" in asked[0][-1]
        assert "start menu" in told
