"""What the README says is true: its program runs, its commands and options exist."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
COMMANDS = sorted(set(re.findall(r"(?:`|^|bin/)livestack ([a-z]+)", README, re.MULTILINE)))


def run(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "livestack", *words], capture_output=True, text=True, timeout=120, cwd=ROOT
    )


def test_there_is_something_to_check() -> None:
    assert BLOCKS
    assert {"watch", "stack", "resume", "masters", "psf", "enhance", "report", "simulate", "config"} <= set(COMMANDS)


@pytest.mark.parametrize("number", range(len(BLOCKS)))
def test_programs_run(number: int, tmp_path: Path) -> None:
    program = tmp_path / "program.py"
    program.write_text(BLOCKS[number], encoding="utf-8")
    ended = subprocess.run(
        [sys.executable, "-W", "error::RuntimeWarning", str(program)],
        capture_output=True,
        text=True,
        timeout=240,
        cwd=ROOT,
    )
    assert ended.returncode == 0, ended.stderr
    assert "5 frames, 150.0 s" in ended.stdout


@pytest.mark.parametrize("command", COMMANDS)
def test_commands_exist(command: str) -> None:
    ended = run(command, "--help")
    assert ended.returncode == 0, ended.stderr


def test_options_exist() -> None:
    shown = "".join(run(command, "--help").stdout for command in ("watch", "masters", "simulate", "lightcurve", "app"))
    for option in set(re.findall(r"--[a-z][a-z-]+", README)):
        assert option in shown or option in ("--help",), option


def test_linked_files_exist() -> None:
    for name in re.findall(r"\]\(([^)#:]+)\)|`((?:docs|benchmarks|livestack)/[\w./]+)`", README):
        assert (ROOT / (name[0] or name[1])).exists(), name
