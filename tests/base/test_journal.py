"""The journal: what was appended is read, whatever a crash does to its last line."""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
import tempfile
import threading
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from livestack.base import journal as module
from livestack.base.errors import SessionError
from livestack.base.folder import SESSION_MARK, FileKey
from livestack.base.journal import (
    JOURNAL_NAME,
    CheckpointRecord,
    FrameRecord,
    GroupRecord,
    Journal,
    MasterUse,
    Normalisation,
    PsfRecord,
    ReferenceRecord,
    RemovedRecord,
    ResumeRecord,
    SessionStart,
    SessionStop,
    Timings,
    WarningRecord,
    known_files,
    read_journal,
)
from livestack.base.settings import Settings

WHEN = datetime(2026, 11, 20, 21, 30, 5, 250000, tzinfo=UTC)


def one_of_each() -> list[module.Record]:
    return [
        SessionStart(
            time=WHEN,
            version="0.1.0",
            settings=Settings().model_dump(mode="json"),
            folder="/night/M27 Ñ",
            folders=("/night/M27 Ñ",),
            masters=(MasterUse(file="dark.fits", kind="dark", checksum="ab12"),),
        ),
        ReferenceRecord(time=WHEN, group="m27", file="a.fits", width=640, height=480, message="the sharpest"),
        GroupRecord(time=WHEN, group="m27-ha", object_name="M 27", filter_name="Ha", channels=1),
        FrameRecord(
            time=WHEN,
            file="two\nlines.fits",
            group="m27",
            status="stacked",
            transform=((1.0, -0.001, 12.5), (0.001, 1.0, -3.25), (0.0, 0.0, 1.0)),
            method="predict",
            n_stars=210,
            n_matched=190,
            rms_px=0.0123456789,
            fwhm_px=2.5,
            weight=0.93,
            exposure_s=30.0,
            date_obs=WHEN,
            timings_s=Timings(read=0.0123, warp=0.1),
            size_bytes=2540160,
            mtime_ns=1763674205123456789,
            sequence=3,
            normalisation=Normalisation(factor=[1.01], surface=[[0.5, -0.1]]),
        ),
        FrameRecord(time=WHEN, file="b.fits", status="refused", reason="clouds", message="b.fits: clouds."),
        PsfRecord(time=WHEN, group="m27", n_frames=5, n_stars=88, fwhm_px=2.4, moffat={"beta": 3.1}),
        CheckpointRecord(time=WHEN, file="checkpoint/1.bin", n_stacked=20, size_bytes=10, duration_s=0.4),
        RemovedRecord(time=WHEN, file="a.fits", group="m27", message="by the host"),
        WarningRecord(time=WHEN, kind="focus", message="Focus drifts."),
        ResumeRecord(time=WHEN, version="0.1.0", n_stacked=20),
        SessionStop(time=WHEN, status="saved", reason="stopped by Ctrl-C", exit_status=0, results=("m27/stack.fits",)),
    ]


def write(path: Path, records: list[module.Record]) -> None:
    with Journal(path) as journal:
        for record in records:
            journal.append(record)


def test_reads_what_was_written(tmp_path: Path) -> None:
    write(tmp_path / JOURNAL_NAME, one_of_each())
    notices: list[str] = []
    assert read_journal(tmp_path, notices) == one_of_each()
    assert read_journal(tmp_path / JOURNAL_NAME) == one_of_each()
    assert notices == []


def test_name_is_the_one_that_marks_a_session() -> None:
    assert JOURNAL_NAME == SESSION_MARK


def test_lines_are_what_the_contract_says(tmp_path: Path) -> None:
    """Read with plain json, as a user's script does."""
    write(tmp_path / "j", one_of_each())
    lines = [json.loads(line) for line in (tmp_path / "j").read_text("ascii").splitlines()]
    assert [line["type"] for line in lines] == [
        "session_start", "reference", "group", "frame", "frame", "psf", "checkpoint", "removed", "warning", "resume",
        "session_stop",
    ]  # fmt: skip
    assert {line["time"] for line in lines} == {"2026-11-20T21:30:05.250Z"}
    frame = lines[3]
    contract = (
        "file index group status reason message transform method n_stars n_matched rms_px fwhm_px eccentricity sky_adu "
        "noise_adu transparency weight rejected_fraction exposure_s date_obs timings_s"
    )
    assert set(contract.split()) <= set(frame)
    assert set(frame["timings_s"]) == {"read", "calibrate", "detect", "register", "warp", "accumulate"}
    assert frame["transform"] == [[1.0, -0.001, 12.5], [0.001, 1.0, -3.25], [0.0, 0.0, 1.0]]
    assert frame["rms_px"] == 0.0123456789
    assert frame["mtime_ns"] == 1763674205123456789
    assert datetime.fromisoformat(frame["date_obs"]) == WHEN
    assert (lines[4]["status"], lines[4]["reason"], lines[4]["transform"]) == ("refused", "clouds", None)
    assert lines[0]["settings"]["stack"]["kappa"] == Settings().stack.kappa
    assert lines[-1]["status"] == "saved"


def test_numbers_that_are_none_are_null(tmp_path: Path) -> None:
    record = FrameRecord(
        file=Path("a.fits"),
        status="stacked",
        rms_px=math.nan,
        fwhm_px=np.float32(np.inf),
        sky_adu=np.float64(7.5),
        n_stars=np.int64(3),
        transform=np.full((3, 3), np.nan),
        timings_s=Timings(read=-math.inf),
        normalisation=Normalisation(factor=np.array([1.5, np.nan]), surface=[(np.nan, np.float32(2))]),
    )
    write(tmp_path / "j", [record])
    text = (tmp_path / "j").read_text()
    assert "NaN" not in text
    assert "Infinity" not in text
    line = json.loads(text)
    assert (line["rms_px"], line["fwhm_px"], line["sky_adu"], line["n_stars"]) == (None, None, 7.5, 3)
    assert line["transform"] == [[None] * 3] * 3
    assert line["timings_s"]["read"] is None
    assert line["normalisation"] == {"factor": [1.5, None], "surface": [[None, 2.0]]}


def test_times_are_utc(tmp_path: Path) -> None:
    zone = timezone(timedelta(hours=2))
    write(tmp_path / "j", [WarningRecord(time=WHEN.astimezone(zone), kind="x", message="y")])
    assert json.loads((tmp_path / "j").read_text())["time"] == "2026-11-20T21:30:05.250Z"
    before = datetime.now(UTC)
    assert before <= WarningRecord(kind="x", message="y").time <= datetime.now(UTC)


@pytest.mark.skipif(sys.platform in ("win32", "darwin"), reason="names are text there")
def test_file_names_that_are_no_text(tmp_path: Path) -> None:
    name = os.fsdecode(b"/night/bad\xff\xfe.fits")
    write(tmp_path / "j", [FrameRecord(file=name, status="stacked")])
    assert read_journal(tmp_path / "j")[0].file == name


def test_misspelt_field_is_an_error() -> None:
    with pytest.raises(ValidationError, match="fwhm"):
        FrameRecord(file="a", status="stacked", fwhm=2.0)  # type: ignore[call-arg]
    with pytest.raises(ValidationError, match="status"):
        FrameRecord(file="a", status="good")  # type: ignore[arg-type]


def test_torn_at_every_byte(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever a crash leaves of the last line, the lines before it are read and the next one is whole."""
    monkeypatch.setattr(module, "sync_file", lambda descriptor: None)  # a thousand of them are slow
    path = tmp_path / "j"
    first, second = one_of_each()[3:5]
    write(path, [first])
    length = path.stat().st_size
    write(path, [second])
    content = path.read_bytes()
    after = WarningRecord(time=WHEN, kind="x", message="after the crash")
    for cut in range(length, len(content) + 1):
        path.write_bytes(content[:cut])
        whole = [first, second] if cut >= len(content) - 1 else [first]
        notices: list[str] = []
        assert read_journal(path, notices) == whole
        assert len(notices) == (length < cut < len(content) - 1)
        write(path, [after])
        assert path.read_bytes().startswith(content[:cut])
        assert read_journal(path) == [*whole, after]


def test_killed_process_loses_nothing_that_was_acknowledged(tmp_path: Path) -> None:
    """A process writes lines and says each number after `append` returned; it is killed in the middle."""
    code = (
        "import sys\nfrom pathlib import Path\nfrom livestack.base.journal import Journal, WarningRecord\n"
        "journal = Journal(Path(sys.argv[1]))\n"
        "for n in range(10**6):\n"
        "    journal.append(WarningRecord(kind=str(n), message='x' * 2000))\n    print(n, flush=True)\n"
    )
    process = subprocess.Popen([sys.executable, "-c", code, str(tmp_path / "j")], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    for _ in range(40):
        process.stdout.readline()
    process.kill()
    said = 40 + len(process.stdout.read().splitlines())
    process.wait(20)
    process.stdout.close()
    after = WarningRecord(kind="after", message="")
    write(tmp_path / "j", [after])
    kinds = [record.kind for record in read_journal(tmp_path / "j")]
    assert kinds[-1] == "after"
    assert kinds[:-1] == [str(number) for number in range(len(kinds) - 1)]
    assert len(kinds) - 1 >= said - 1  # the last line of the pipe may be torn itself


@settings(max_examples=60, deadline=None)
@given(st.lists(st.binary(max_size=40) | st.sampled_from([b"{}", b"[]", b'{"type":"frame"}', b'{"type":3}', b"nul"])))
def test_garbage_is_passed_over_and_told(garbage: list[bytes]) -> None:
    """Blocks of zeros and the like, as some file systems leave after a power cut."""
    good = one_of_each()[-1]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "j"
        path.write_bytes(b"\n".join([*garbage, good.to_line()]))
        notices: list[str] = []
        assert read_journal(path, notices) == [good]
    lines = [line for item in garbage for line in item.split(b"\n") if line.strip()]
    assert len(notices) == len(lines)


def test_deep_nesting_is_garbage(tmp_path: Path) -> None:
    (tmp_path / "j").write_bytes(b"[" * 100_000 + b"\n" + one_of_each()[-1].to_line())
    assert len(read_journal(tmp_path / "j")) == 1


def test_torn_line_is_told_as_a_crash(tmp_path: Path) -> None:
    (tmp_path / "j").write_bytes(one_of_each()[0].to_line() + b'{"type": "fra')
    notices: list[str] = []
    read_journal(tmp_path / "j", notices)
    assert notices == ["j: line 2 was cut short by a crash; passed over."]


def test_newer_journals_are_read_as_far_as_known(tmp_path: Path) -> None:
    line = json.loads(one_of_each()[4].to_line()) | {"moon_phase": 0.5}
    (tmp_path / "j").write_text(json.dumps(line) + '\n{"type": "meteor", "time": "2026-11-20T21:30:05Z"}\n')
    notices: list[str] = []
    assert read_journal(tmp_path / "j", notices) == [one_of_each()[4]]
    assert notices == ["j: line 2 is no record (unknown type); passed over."]


def test_every_line_is_synced_before_append_returns(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    synced: list[int] = []
    path = tmp_path / "j"
    monkeypatch.setattr(module, "sync_file", lambda descriptor: synced.append(path.stat().st_size))
    with Journal(path) as journal:
        for number, record in enumerate(one_of_each(), start=1):
            journal.append(record)
            assert len(synced) == number
            assert synced[-1] == path.stat().st_size


def test_threads_do_not_mix_lines(tmp_path: Path) -> None:
    with Journal(tmp_path / "j") as journal:
        threads = [
            threading.Thread(
                target=lambda n=n: [journal.append(WarningRecord(kind=str(n), message="x" * 500)) for _ in range(20)]
            )
            for n in range(4)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(30)
    assert sorted(record.kind for record in read_journal(tmp_path / "j")) == sorted("0123" * 20)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full here")
def test_full_disk_is_one_sentence() -> None:
    with Journal(Path("/dev/full")) as journal, pytest.raises(SessionError, match="disk is full") as caught:
        journal.append(one_of_each()[0])
    assert "\n" not in str(caught.value)


def test_line_that_a_full_disk_cut_is_ended_when_there_is_room(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Half a line goes out, then the disk is full; later it is not."""
    first, second = one_of_each()[:2]
    real = os.write
    calls: list[int] = []

    def short(descriptor: int, data: memoryview) -> int:
        calls.append(len(data))
        if len(calls) == 1:
            return real(descriptor, data[:20])
        raise OSError(28, "No space left on device")

    with Journal(tmp_path / "j") as journal:
        monkeypatch.setattr(os, "write", short)
        with pytest.raises(SessionError, match="livestack resume"):
            journal.append(first)
        monkeypatch.setattr(os, "write", real)
        journal.append(second)
    assert read_journal(tmp_path / "j") == [second]


def test_place_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(SessionError, match="cannot be written"):
        Journal(tmp_path / "file" / "session.jsonl")
    with pytest.raises(SessionError, match="no journal can be read there"):
        read_journal(tmp_path / "nowhere")


def test_closed_journal_says_so(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "j")
    journal.close()
    journal.close()
    with pytest.raises(ValueError, match="is closed"):
        journal.append(one_of_each()[0])


def test_known_files_for_the_watcher(tmp_path: Path) -> None:
    frame = one_of_each()[3]
    relative = frame.model_copy(update={"file": "sub/../a.fits"})
    absolute = frame.model_copy(update={"file": "/elsewhere/b.fits"})
    without = frame.model_copy(update={"file": "c.fits", "mtime_ns": None})
    assert known_files([relative, absolute, without, *one_of_each()[:3]], tmp_path) == {
        FileKey(os.path.realpath(tmp_path / "a.fits"), 2540160, 1763674205123456789),
        FileKey(os.path.realpath("/elsewhere/b.fits"), 2540160, 1763674205123456789),
    }
