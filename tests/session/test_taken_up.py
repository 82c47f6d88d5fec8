"""Frames that were refused before another target or size was believed come once more, from their files."""

from __future__ import annotations

import os
import shutil
import signal
from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits

from livestack.base.journal import Record
from livestack.session.journal_writer import JournalWriter
from livestack.session.session import Session
from livestack.session.snapshot import Slot
from tests.small_sessions import in_process, lines, planes, resume_session, simulate_night, small_settings


@pytest.fixture(scope="module")
def night(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Five frames of one field, six of another under the same name, and five of them cut down to a smaller size."""
    root = tmp_path_factory.mktemp("taken-up")
    folder = root / "night"
    folder.mkdir()
    fields = [sorted(simulate_night(root / str(seed), frames=8, seed=seed).glob("*.fits")) for seed in (3, 4)]
    for number, path in enumerate(fields[0][:5] + fields[1][:6]):
        shutil.copy(path, folder / f"f_{number:02d}.fits")
    for number, path in enumerate(fields[0][:5]):
        data, header = fits.getdata(path, header=True)
        fits.writeto(folder / f"f_{11 + number:02d}.fits", np.ascontiguousarray(data[20:160, 10:230]), header)
    return folder


def stacked(output: Path) -> dict[str, set[int]]:
    """Numbers of the frames in each stack, as the journal ends."""
    last = {line["file"]: line for line in lines(output, "frame")}
    found: dict[str, set[int]] = {}
    for name, line in last.items():
        if line["status"] == "stacked":
            found.setdefault(line["group"], set()).add(int(name[2:4]))
    return found


def test_no_frame_is_lost_to_another_field_or_size(night: Path, tmp_path: Path) -> None:
    slot = Slot()
    Session([night], small_settings(), tmp_path / "out", one_shot=True, slot=slot).run()
    groups = {"m-27": set(range(5)), "m-27-2": set(range(5, 11)), "m-27-3": set(range(11, 16))}
    assert stacked(tmp_path / "out") == groups
    for group, frames in groups.items():
        header = fits.getheader(tmp_path / "out" / group / "stack.fits")
        assert (header["NCOMBINE"], header["NREFUSED"]) == (len(frames), 0)
    assert slot.latest.n_refused == 0


def test_also_when_it_is_interrupted_just_then(night: Path, tmp_path: Path) -> None:
    Session([night], small_settings(), tmp_path / "whole", one_shot=True).run()
    assert in_process(until_killed, night, tmp_path / "out") == -signal.SIGKILL
    told = lines(tmp_path / "out", "frame")
    assert told[-1]["file"] == "f_07.fits", "the frame that opened the group, and none yet of those that come again"
    resume_session(tmp_path / "out")
    assert stacked(tmp_path / "out") == stacked(tmp_path / "whole")
    for group in stacked(tmp_path / "whole"):
        assert planes(tmp_path / "out", group) == planes(tmp_path / "whole", group)


def until_killed(folder: Path, output: Path) -> None:
    """A session that ends without warning when the frame that opens a second group is told."""
    real = JournalWriter.append_event

    def append(self: JournalWriter, record: Record) -> None:
        real(self, record)
        if getattr(record, "group", "") == "m-27-2" and getattr(record, "status", "") == "stacked":
            os.kill(os.getpid(), signal.SIGKILL)

    JournalWriter.append_event = append  # type: ignore[method-assign]
    Session([folder], small_settings(), output, one_shot=True).run()
