"""Faults, one injected in each test: the session goes on or ends with one sentence, nothing is lost, files stay as they
were. `docs/faults.md` lists them."""

from __future__ import annotations

import errno
import os
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from astropy.io import fits

from livestack.base import durable
from livestack.base.errors import NothingStacked, SessionError, UsageError
from livestack.base.journal import JOURNAL_NAME
from livestack.observers import preview as artist
from livestack.products import saver
from livestack.session.journal_writer import JournalWriter
from livestack.session.lock import SessionLock
from livestack.session.session import Session, SessionEnd
from tests.small_sessions import (
    HEIGHT,
    WIDTH,
    checksums,
    copy_night,
    lines,
    planes,
    resume_session,
    run_session,
    small_settings,
)
from tests.waiting import until

FRAMES = 10


@pytest.fixture
def lights(night: Path, tmp_path: Path) -> Path:
    """The same frames, for this test to spoil."""
    return copy_night(night, tmp_path / "lights")


class Live:
    """A session that watches, in a thread."""

    def __init__(self, folder: Path, output: Path, **sections: dict[str, Any]) -> None:
        self.session = Session([folder], small_settings(**sections), output)
        self.output = output
        self.ends: list[SessionEnd | BaseException] = []
        self.thread = threading.Thread(target=self._run)
        self.thread.start()

    def _run(self) -> None:
        try:
            self.ends.append(self.session.run())
        except BaseException as error:  # noqa: BLE001  (looked at by the test)
            self.ends.append(error)

    def wait_frames(self, number: int) -> None:
        self.wait(lambda: len(lines(self.output, "frame")) >= number)

    def wait(self, condition: Callable[[], bool]) -> None:
        until(condition)

    @property
    def messages(self) -> str:
        return "\n".join(self.session.slot.latest.messages)

    def finish(self) -> SessionEnd:
        self.session.stop()
        end = self.end()
        if isinstance(end, BaseException):
            raise end
        return end

    def end(self) -> SessionEnd | BaseException:
        self.thread.join(30)
        assert not self.thread.is_alive()
        return self.ends[0]


@pytest.fixture
def live() -> Iterator[Callable[..., Live]]:
    """Starts live sessions, and ends them whatever happens."""
    begun: list[Live] = []

    def start(*arguments: Any, **sections: dict[str, Any]) -> Live:
        begun.append(Live(*arguments, **sections))
        return begun[-1]

    yield start
    for one in begun:
        one.session.stop()
        one.session.stop()
        one.thread.join(30)


def refused(output: Path) -> dict[str, tuple[str, str]]:
    told = [line for line in lines(output, "frame") if line["status"] == "refused"]
    return {line["file"]: (line["reason"], line["message"]) for line in told}


def full(*_: object) -> None:
    raise OSError(errno.ENOSPC, "No space left on device")


# Disk full


def test_disk_full_while_writing_the_journal(
    lights: Path, tmp_path: Path, undisturbed: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, left = os.write, [8]

    def write(descriptor: int, content: Any) -> int:
        if Path(os.readlink(f"/proc/self/fd/{descriptor}")).name == JOURNAL_NAME:
            left[0] -= 1
            if left[0] <= 0:
                real(descriptor, bytes(content)[:20])
                full()
        return real(descriptor, content)

    with monkeypatch.context() as patch:
        patch.setattr(os, "write", write)
        with pytest.raises(SessionError, match=r"session\.jsonl: cannot be written: the disk is full.*stack resume"):
            run_session(lights, tmp_path / "out")
    assert resume_session(tmp_path / "out").status == 0
    assert planes(tmp_path / "out") == planes(undisturbed)


def test_disk_full_while_writing_a_checkpoint(
    lights: Path, tmp_path: Path, undisturbed: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from livestack.session import checkpoint

    def save(path: Path, *_: object) -> int:
        raise durable.storage_error(path, OSError(errno.ENOSPC, "No space left on device"))

    with monkeypatch.context() as patch:
        patch.setattr(checkpoint, "save_arrays", save)
        with pytest.raises(SessionError, match=r"state-000001\.bin: cannot be written: the disk is full"):
            run_session(lights, tmp_path / "out")
    assert lines(tmp_path / "out")[-1]["status"] == "failed"
    assert resume_session(tmp_path / "out").status == 0
    assert planes(tmp_path / "out") == planes(undisturbed)


def test_disk_full_while_keeping_rejected_samples(
    lights: Path, tmp_path: Path, undisturbed: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = os.write

    def write(descriptor: int, content: Any) -> int:
        if Path(os.readlink(f"/proc/self/fd/{descriptor}")).name == "masks.bin":
            full()
        return real(descriptor, content)

    with monkeypatch.context() as patch:
        patch.setattr(os, "write", write)
        with pytest.raises(SessionError, match=r"masks\.bin: cannot be written: the disk is full"):
            run_session(lights, tmp_path / "out")
    assert resume_session(tmp_path / "out").status == 0
    assert planes(tmp_path / "out") == planes(undisturbed)


def test_disk_full_while_writing_the_preview_never_ends_a_session(
    lights: Path, tmp_path: Path, undisturbed: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from livestack.session import parts as module

    def write(path: Path, *_: object) -> None:
        raise durable.storage_error(path, OSError(errno.ENOSPC, "No space left on device"))

    monkeypatch.setattr(module, "write_preview", write)
    session = Session([lights], small_settings(), tmp_path / "out", one_shot=True)
    assert session.run().status == 0
    assert any("preview.jpg: cannot be written: the disk is full" in m for m in session.slot.latest.messages)
    assert planes(tmp_path / "out") == planes(undisturbed)


@pytest.mark.parametrize("what", ["write_stack", "write_pictures"])
def test_disk_full_in_the_final_save(
    lights: Path, tmp_path: Path, undisturbed: Path, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    def write(path: Path, *_: object) -> None:
        raise durable.storage_error(path, OSError(errno.ENOSPC, "No space left on device"))

    with monkeypatch.context() as patch:
        patch.setattr(saver, what, write)
        with pytest.raises(SessionError, match="the disk is full"):
            run_session(lights, tmp_path / "out")
    assert [line["status"] for line in lines(tmp_path / "out", "session_stop")] == ["failed"]
    assert resume_session(tmp_path / "out").status == 0
    assert planes(tmp_path / "out") == planes(undisturbed)
    assert len(lines(tmp_path / "out", "frame")) == FRAMES


def test_a_picture_that_cannot_be_drawn_never_ends_a_session(
    lights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise ValueError("odd pixels")

    monkeypatch.setattr(artist, "measure_small", fail)
    session = Session([lights], small_settings(), tmp_path / "out", one_shot=True)
    assert session.run().status == 0
    assert any("preview could not be drawn (odd pixels)" in message for message in session.slot.latest.messages)


def test_a_report_that_cannot_be_written_is_told(lights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from livestack.session import finish as module

    def fail(path: Path) -> Path:
        raise durable.storage_error(path / "report.html", OSError(errno.ENOSPC, "No space left on device"))

    monkeypatch.setattr(module, "write_report", fail)
    session = Session([lights], small_settings(), tmp_path / "out", one_shot=True)
    assert session.run().status == 0
    assert any("`livestack report` writes the report later" in message for message in session.slot.latest.messages)


# Folders that go, come back, or are not ours


def test_output_folder_removed_while_running(lights: Path, tmp_path: Path, live: Callable[..., Live]) -> None:
    before = checksums(lights)
    one = live(lights, tmp_path / "out")
    one.wait_frames(FRAMES)
    until(lambda: shutil.rmtree(tmp_path / "out") is None)  # a checkpoint that is being written may be in the way
    shutil.copy2(next(lights.glob("*.fits")), lights / "zz_new.fits")
    end = one.end()
    assert isinstance(end, SessionError)
    assert "the folder or its disk is gone" in str(end)
    (lights / "zz_new.fits").unlink()
    assert checksums(lights) == before


def test_source_folder_gone_and_back(
    lights: Path, tmp_path: Path, undisturbed: Path, live: Callable[..., Live]
) -> None:
    late = sorted(lights.glob("*.fits"))[6:]
    hold = tmp_path / "hold"
    hold.mkdir()
    for path in late:
        path.rename(hold / path.name)
    one = live(lights, tmp_path / "out")
    one.wait_frames(6)
    lights.rename(tmp_path / "unplugged")
    one.wait(lambda: "the folder is gone" in one.messages)
    for path in sorted(hold.iterdir()):
        path.rename(tmp_path / "unplugged" / path.name)
    (tmp_path / "unplugged").rename(lights)
    one.wait_frames(FRAMES)
    assert "the folder is back" in one.messages
    assert one.finish().status == 0
    assert planes(tmp_path / "out") == planes(undisturbed)


def test_output_that_cannot_be_written(lights: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("no folder")
    with pytest.raises(SessionError, match=r"file.*cannot be written"):
        run_session(lights, tmp_path / "file" / "out")


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="permissions do not bind the superuser")
def test_permission_lost_on_a_frame(lights: Path, tmp_path: Path) -> None:
    path = sorted(lights.glob("*.fits"))[3]
    path.chmod(0)
    assert run_session(lights, tmp_path / "out").status == 0
    reason, message = refused(tmp_path / "out")[path.name]
    assert reason == "unreadable"
    assert "permission" in message.lower()


def test_permission_lost_on_a_frame_as_the_system_says_it(
    lights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from livestack.session import prefetch as module

    real = module.read_frames
    path = sorted(lights.glob("*.fits"))[3]

    def read(wanted: Path) -> Any:
        if wanted.name == path.name:
            from livestack.formats.guards import guarded

            with guarded(wanted):
                raise PermissionError(errno.EACCES, "Permission denied", str(wanted))
        return real(wanted)

    monkeypatch.setattr(module, "read_frames", read)
    assert run_session(lights, tmp_path / "out").status == 0
    assert refused(tmp_path / "out")[path.name][0] == "unreadable"
    assert "ermission" in refused(tmp_path / "out")[path.name][1]
    assert lines(tmp_path / "out")[-1]["n_stacked"] == FRAMES - 1


def test_two_sessions_on_one_output(lights: Path, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    with SessionLock(tmp_path / "out"), pytest.raises(UsageError, match=rf"in use by process {os.getpid()} on"):
        run_session(lights, tmp_path / "out")
    assert not (tmp_path / "out" / JOURNAL_NAME).exists()


def test_one_folder_in_another(lights: Path, tmp_path: Path) -> None:
    """The session's results lie in the watched folder and are never taken for frames; sub-folders are."""
    sub = lights / "night two" / "deep"
    sub.mkdir(parents=True)
    for path in sorted(lights.glob("*.fits"))[5:]:
        path.rename(sub / path.name)
    output = lights / "livestack" / "first"
    assert run_session(lights, output).status == 0
    assert run_session(lights, lights / "second").status == 0
    names = [line["file"] for line in lines(lights / "second", "frame")]
    assert len(names) == FRAMES
    assert names[-1].startswith("night two/deep/")
    with pytest.raises(UsageError, match="lies in the session's own output"):
        Session([lights / "second"], small_settings(), lights / "second")


# Frames that come, go and change


def test_source_frame_deleted_before_the_final_pass(
    lights: Path, tmp_path: Path, undisturbed: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = saver.Saver.final_pass

    def delete_then_pass(self: saver.Saver, *arguments: Any) -> bool:
        sorted(lights.glob("*.fits"))[2].unlink()
        return real(self, *arguments)

    monkeypatch.setattr(saver.Saver, "final_pass", delete_then_pass)
    session = Session([lights], small_settings(save={"final_pass": True}), tmp_path / "out", one_shot=True)
    assert session.run().status == 0
    assert any("was left out" in message and "mono_0002" in message for message in session.slot.latest.messages)
    assert planes(tmp_path / "out") == planes(undisturbed), "the streaming result stays"


def test_clock_going_backwards(
    lights: Path, tmp_path: Path, undisturbed: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, calls = time.time, [0]

    def wall() -> float:
        calls[0] += 1
        return real() - 7 * 3600 * calls[0]

    monkeypatch.setattr(time, "time", wall)
    assert run_session(lights, tmp_path / "out").status == 0
    assert planes(tmp_path / "out") == planes(undisturbed)


def test_frames_faster_than_they_can_be_stacked(
    lights: Path, tmp_path: Path, undisturbed: Path, live: Callable[..., Live],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    from livestack.engine.live_stack import LiveStack

    real, held, most = LiveStack.add_prepared, [0], [0]
    prepare = LiveStack.prepare

    def counted(self: LiveStack, frame: Any) -> Any:
        held[0] += 1
        most[0] = max(most[0], held[0])
        return prepare(self, frame)

    def slowly(self: LiveStack, prepared: Any) -> Any:
        time.sleep(0.15)
        outcome = real(self, prepared)
        held[0] -= 1
        return outcome

    monkeypatch.setattr(LiveStack, "prepare", counted)
    monkeypatch.setattr(LiveStack, "add_prepared", slowly)
    one = live(lights, tmp_path / "out")
    one.wait(lambda: one.session.slot.latest.n_waiting >= FRAMES - 4)
    one.wait_frames(FRAMES)
    assert one.finish().status == 0
    assert most[0] <= 3, "one is being stacked, one waits, one is being prepared"
    assert [line["file"] for line in lines(tmp_path / "out", "frame")] == sorted(p.name for p in lights.glob("*.fits"))
    assert planes(tmp_path / "out") == planes(undisturbed)


def test_thousands_of_files_already_there(tmp_path: Path) -> None:
    folder = tmp_path / "lights"
    folder.mkdir()
    for i in range(2000):
        (folder / f"frame_{i}.fits").write_bytes(b"SIMPLE  = nothing of the kind")
    with pytest.raises(NothingStacked, match=r"none of 2000 frame\(s\) could be stacked"):
        run_session(folder, tmp_path / "out")
    names = [line["file"] for line in lines(tmp_path / "out", "frame")]
    assert names == [f"frame_{i}.fits" for i in range(2000)], "each told once, in natural order"


ODD_NAMES = [
    "with space.fits", "ünïcode ☄ 月.fits", "new\nline.fits", "Case.fits", "case.fits", "-rf.fits", "quo'te\".fits",
    "[red]m31[bold].fits", "a%20b&c.fits", "x" * 200 + ".fits",
]  # fmt: skip


def test_odd_names(lights: Path, tmp_path: Path) -> None:
    if len({name.casefold() for name in ODD_NAMES}) == len(ODD_NAMES):
        pytest.skip("expected names that differ by case only")
    for path, name in zip(sorted(lights.glob("*.fits")), ODD_NAMES, strict=True):
        path.rename(lights / name)
    before = checksums(lights)
    assert run_session(lights, tmp_path / "out", save={"final_pass": True}).status == 0
    assert {line["file"] for line in lines(tmp_path / "out", "frame")} == set(ODD_NAMES)
    assert lines(tmp_path / "out")[-1]["n_stacked"] == len(ODD_NAMES)
    assert checksums(lights) == before


def test_names_that_are_no_text_survive_a_resume(lights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = min(lights.glob("*.fits"))
    try:
        os.rename(first, os.fsencode(lights) + b"/\xff\xfe.fits")
    except OSError:
        pytest.skip("this file system takes only text for names")
    output = tmp_path / "out"
    session = Session([lights], small_settings(), output, one_shot=True)
    real = JournalWriter.append  # stop right before saving

    def append(self: JournalWriter, record: Any) -> None:
        if record.type == "saving":
            session.stop()
            session.stop()
            raise SessionError("stopped by the test")
        real(self, record)

    monkeypatch.setattr(JournalWriter, "append", append)
    with pytest.raises(SessionError):
        session.run()
    monkeypatch.undo()
    assert resume_session(output).status == 0
    assert len(lines(output, "frame")) == FRAMES
    assert lines(output)[-1]["n_stacked"] == FRAMES


def test_two_names_of_one_file_are_one_frame(lights: Path, tmp_path: Path) -> None:
    first = min(lights.glob("*.fits"))
    (lights / "zz_link.fits").symlink_to(first)
    shutil.copy2(first, lights / "zz_copy.fits")
    (lights / "loop").symlink_to(lights, target_is_directory=True)
    (lights / "dangling.fits").symlink_to(tmp_path / "nowhere.fits")
    assert run_session(lights, tmp_path / "out").status == 0
    assert lines(tmp_path / "out")[-1]["n_stacked"] == FRAMES
    told = refused(tmp_path / "out")
    assert told["zz_copy.fits"][0] == "duplicate"
    assert "zz_link.fits" not in told


def test_late_times_without_events(lights: Path, tmp_path: Path, live: Callable[..., Live]) -> None:
    """A network share: no events, times set by another clock, long after the content came."""
    new = sorted(lights.glob("*.fits"))[-1]
    content = new.read_bytes()
    new.unlink()
    one = live(lights, tmp_path / "out", ingest={"poll": True})
    one.wait_frames(FRAMES - 1)
    new.write_bytes(content)
    os.utime(new, (time.time() - 86400, time.time() - 86400))
    one.wait_frames(FRAMES)
    os.utime(lights / min(p.name for p in lights.glob("*.fits")), (1e9, 1e9))  # touched: the same exposure again
    one.wait_frames(FRAMES + 1)
    assert one.finish().status == 0
    assert lines(tmp_path / "out")[-1]["n_stacked"] == FRAMES
    assert [reason for reason, _ in refused(tmp_path / "out").values()] == ["duplicate"]


def test_an_empty_file_that_grows(lights: Path, tmp_path: Path, undisturbed: Path, live: Callable[..., Live]) -> None:
    last = max(lights.glob("*.fits"))
    content = last.read_bytes()
    last.unlink()
    one = live(lights, tmp_path / "out")
    one.wait_frames(FRAMES - 1)
    with open(last, "wb", buffering=0) as file:
        time.sleep(0.3)
        for start in range(0, len(content), len(content) // 4 + 1):
            file.write(content[start : start + len(content) // 4 + 1])
            time.sleep(0.15)
    one.wait_frames(FRAMES)
    assert one.finish().status == 0
    assert not refused(tmp_path / "out")
    assert planes(tmp_path / "out") == planes(undisturbed)


def test_an_empty_file_that_stays_empty_is_told_and_taken_when_it_grows(
    lights: Path, tmp_path: Path, live: Callable[..., Live]
) -> None:
    last = max(lights.glob("*.fits"))
    content = last.read_bytes()
    last.write_bytes(b"")
    one = live(lights, tmp_path / "out", ingest={"settle_timeout_s": 0.3})
    one.wait_frames(FRAMES)
    assert refused(tmp_path / "out")[last.name][0] == "truncated"
    last.write_bytes(content)
    one.wait_frames(FRAMES + 1)
    assert one.finish().status == 0
    assert lines(tmp_path / "out")[-1]["n_stacked"] == FRAMES


# Frames that are none


def write(path: Path, data: np.ndarray, **cards: Any) -> None:
    fits.PrimaryHDU(data, fits.Header({key.replace("_", "-"): value for key, value in cards.items()})).writeto(path)


def huge(path: Path) -> None:
    header = fits.Header([("SIMPLE", True), ("BITPIX", 16), ("NAXIS", 2), ("NAXIS1", 10**6), ("NAXIS2", 10**6)])
    path.write_bytes(header.tostring(padding=True).encode() + b"\0" * 2880)


def spoil(path: Path, **how: Any) -> None:
    with fits.open(path) as hdus:
        header, data = hdus[0].header.copy(), hdus[0].data.astype(np.float32)
    for key in ("BZERO", "BSCALE"):
        header.remove(key, ignore_missing=True)
    header.update(how.get("cards", {}))
    path.unlink()
    fits.PrimaryHDU(how["change"](data), header).writeto(path)


NO_LIGHT = {"not_a_light", "no_registration", "blank"}
SPOILT: dict[str, tuple[Callable[[Path], None], set[str], str]] = {
    "header claims 10^6 x 10^6": (lambda p: (p.unlink(), huge(p)), {"unreadable"}, "1000000"),
    "filled with NaN": (lambda p: spoil(p, change=lambda d: d * np.float32(np.nan)), NO_LIGHT, ""),
    "constant": (lambda p: spoil(p, change=lambda d: np.full_like(d, 1000)), NO_LIGHT, ""),
    "saturated": (
        lambda p: spoil(p, change=lambda d: np.full(d.shape, 65535, np.uint16)), NO_LIGHT, ""
    ),
    "dark by its header": (
        lambda p: spoil(p, change=lambda d: d.astype(np.uint16), cards={"IMAGETYP": "Dark Frame"}),
        {"not_a_light"}, "dark",
    ),
    "dark by its content": (
        lambda p: spoil(
            p, change=lambda d: np.random.default_rng(1).normal(100, 5, d.shape).astype(np.uint16),
            cards={"IMAGETYP": "Light Frame"},
        ),
        NO_LIGHT, "",
    ),
    "text named .fits": (lambda p: p.write_text("shopping list\n" * 500), {"unreadable"}, ""),
    "cut short": (lambda p: p.write_bytes(p.read_bytes()[:-9000]), {"truncated"}, ""),
    "another size": (
        lambda p: (p.unlink(), write(p, np.zeros((50, 70), np.uint16), OBJECT="M 27", IMAGETYP="Light Frame")),
        {"wrong_size"}, "50",
    ),
}  # fmt: skip


@pytest.mark.parametrize("where", [0, 6])  # of the warm-up and after it
@pytest.mark.parametrize("fault", list(SPOILT))
def test_frames_that_are_none(lights: Path, tmp_path: Path, fault: str, where: int) -> None:
    if fault == "another size" and where == 0:
        pytest.skip("the first frame sets the size")
    damage, reasons, word = SPOILT[fault]
    path = sorted(lights.glob("*.fits"))[where]
    damage(path)
    before = checksums(lights)
    assert run_session(lights, tmp_path / "out").status == 0
    told = refused(tmp_path / "out")
    assert set(told) == {path.name}, "this one, and no other"
    reason, message = told[path.name]
    assert reason in reasons
    assert path.name in message
    assert word in message
    assert "\n" not in message
    assert lines(tmp_path / "out")[-1]["n_stacked"] == FRAMES - 1
    result = np.frombuffer(planes(tmp_path / "out")["PRIMARY"], ">f4").reshape(HEIGHT, WIDTH)
    assert np.isfinite(result[20:-20, 20:-20]).all()
    assert checksums(lights) == before


@pytest.mark.parametrize("step", ["prepare", "add_prepared"])
def test_a_frame_that_we_stumble_over_is_left_out(
    lights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    from livestack.engine.live_stack import LiveStack

    real = getattr(LiveStack, step)

    def stumble(self: LiveStack, given: Any) -> Any:
        if getattr(given, "frame", given).path.name == "mono_0005.fits":
            raise ValueError("a case that nobody thought of")
        return real(self, given)

    monkeypatch.setattr(LiveStack, step, stumble)
    assert run_session(lights, tmp_path / "out").status == 0
    reason, message = refused(tmp_path / "out")["mono_0005.fits"]
    assert reason == "unreadable"
    assert "ValueError: a case that nobody thought of" in message
    assert lines(tmp_path / "out")[-1]["n_stacked"] == FRAMES - 1


def test_out_of_memory_is_told_and_the_state_kept(
    lights: Path, tmp_path: Path, undisturbed: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from livestack.engine.live_stack import LiveStack

    real, left = LiveStack.add_prepared, [7]

    def short(self: LiveStack, prepared: Any) -> Any:
        left[0] -= 1
        if left[0] == 0:
            raise MemoryError("Unable to allocate 102 MiB")
        return real(self, prepared)

    with monkeypatch.context() as patch:
        patch.setattr(LiveStack, "add_prepared", short)
        with pytest.raises(SessionError, match=r"out of memory \(Unable .* livestack resume|--memory-limit"):
            run_session(lights, tmp_path / "out")
    assert resume_session(tmp_path / "out").status == 0
    assert planes(tmp_path / "out") == planes(undisturbed)
