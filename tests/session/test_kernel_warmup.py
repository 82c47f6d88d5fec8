"""What the first run compiles beside the wait for frames."""

from __future__ import annotations

import os
import subprocess
import sys

from livestack.engine.live_stack import LiveStack
from livestack.kernels import forget_old_loops
from livestack.session.kernel_warmup import compile_loops, invented_frames

COUNT = """
from livestack.session.kernel_warmup import compile_loops, invented_frames
from livestack.kernels import accumulate, debayer, final_test, psf, render, robust_start, stars
loops = (accumulate.accumulate_strip, robust_start.combine_tile, final_test.final_strip, stars.measure_stars,
         psf.fit_stars, debayer.mhc_rows, render.average_area)
before = [len(loop.signatures) for loop in loops]
compile_loops(lambda: False)
assert before == [0] * len(loops), before
print([loop.py_func.__name__ for loop in loops if not loop.signatures])
"""


def test_every_step_is_gone_through() -> None:
    run = subprocess.run([sys.executable, "-c", COUNT], capture_output=True, text=True, env=os.environ, timeout=120)
    assert run.stdout.strip() == "[]", run.stderr


def test_invented_frames_are_stacked() -> None:
    for bayer in (None, "BGGR"):
        with LiveStack() as stack:
            assert [stack.add(frame).status for frame in invented_frames(bayer)] == ["stacked"] * 3


def test_stops_when_told() -> None:
    asked = []
    compile_loops(lambda: bool(asked.append(1)) or len(asked) > 1)
    assert len(asked) == 2


def test_loops_are_forgotten_when_any_source_changed(tmp_path):
    """numba itself looks only at the file that a loop stands in, not at those that it calls."""
    folder = tmp_path / "kernels"
    (folder / "__pycache__").mkdir(parents=True)
    (folder / "a.py").write_text("one")
    (folder / "b.py").write_text("two")
    index = folder / "__pycache__" / "a.loop-1.py311.nbi"
    index.write_bytes(b"compiled")
    assert forget_old_loops(folder)
    assert not index.exists()
    index.write_bytes(b"compiled")
    assert not forget_old_loops(folder)
    assert index.exists()
    (folder / "b.py").write_text("three")
    assert forget_old_loops(folder)
    assert not index.exists()
