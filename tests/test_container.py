"""The container is built, is no superuser, stacks, and serves home; where docker or podman is there."""

from __future__ import annotations

import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
NAME = "livestack-test"
pytestmark = pytest.mark.timeout(1800)


def run(*words: str, check: bool = True) -> str:
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert done.returncode == 0 or not check, f"{' '.join(words)}: {done.stdout}{done.stderr}"
    return done.stdout


@pytest.fixture(scope="module")
def engine() -> str:
    """A program for containers that works here, after it has built ours."""
    for name in ("docker", "podman"):
        if shutil.which(name) and subprocess.run([name, "info"], capture_output=True, check=False).returncode == 0:
            run(name, "build", "-t", NAME, str(ROOT))
            return name
    pytest.skip("neither docker nor podman runs here")


@pytest.fixture
def home(engine: str) -> Iterator[str]:
    """A container that serves home."""
    run(engine, "run", "-d", "--name", NAME, "-p", "127.0.0.1:18765:8765", NAME)
    yield NAME
    run(engine, "rm", "-f", NAME)


def test_it_is_no_superuser_and_stacks(engine: str) -> None:
    assert run(engine, "run", "--rm", "--entrypoint", "id", NAME, "-un").strip() == "livestack"
    script = (
        "livestack simulate /tmp/night --frames 5 --size 320x240 && livestack stack /tmp/night --output /results/out"
    )
    run(engine, "run", "--rm", "--entrypoint", "sh", NAME, "-c", script + " && ls /results/out/*/stack.fits")


def test_home_answers_and_is_healthy(engine: str, home: str) -> None:
    end = time.monotonic() + 120
    while (state := run(engine, "inspect", "--format", "{{.State.Health.Status}}", home).strip()) != "healthy":
        assert time.monotonic() < end, state
        time.sleep(1)
    assert "/enter/" in run(engine, "logs", home) or subprocess.run(
        [engine, "logs", home], capture_output=True, text=True, check=True
    ).stderr.count("/enter/")
