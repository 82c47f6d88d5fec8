"""A session holds what it holds: neither memory nor files nor threads grow with the frames. The long one is
`benchmarks/soak.py`."""

from __future__ import annotations

import json
import os
import sys
import threading
from pathlib import Path

import pytest

from livestack.session.session import Session
from tests.small_sessions import in_process, simulate_night, small_settings

FRAMES = 60


def resident_mb() -> float:
    return int(Path("/proc/self/status").read_text().split("VmRSS:")[1].split()[0]) / 1024


def session_with_figures(folder: Path, output: Path, figures: Path) -> None:
    seen: list[tuple[float, int, int]] = []

    def tell(record: object) -> None:
        if getattr(record, "type", "") == "frame":
            seen.append((resident_mb(), len(os.listdir("/proc/self/fd")), threading.active_count()))

    before = len(os.listdir("/proc/self/fd")), {thread.name for thread in threading.enumerate()}
    Session([folder], small_settings(), output, one_shot=True, tell=tell).run()
    after = len(os.listdir("/proc/self/fd")), {thread.name for thread in threading.enumerate()}
    figures.write_text(json.dumps({"seen": seen, "same": before == after}))


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="the figures come from /proc")
def test_nothing_grows_with_the_frames(tmp_path: Path) -> None:
    folder = simulate_night(tmp_path / "lights", FRAMES)
    assert in_process(session_with_figures, folder, tmp_path / "out", tmp_path / "figures.json", sky=True) == 0
    figures = json.loads((tmp_path / "figures.json").read_text())
    memory, files, threads = zip(*figures["seen"], strict=True)
    assert len(memory) == FRAMES
    assert max(memory[-10:]) - max(memory[12:22]) < 8.0, (
        "a raw frame held each time would be 3.3 MB; light curves take 60 bytes a star and frame"
    )
    assert max(files[-10:]) <= max(files[12:22]) + 1
    assert max(threads[-10:]) <= max(threads[12:22]) + 1
    assert figures["same"], "files or threads were left behind"
