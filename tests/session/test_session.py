"""A session goes on after whatever ended it, and the result is that of an undisturbed one, bit for bit."""

from __future__ import annotations

import csv
import shutil
import threading
from datetime import datetime
from pathlib import Path

import pytest

from livestack.base.errors import SessionError, UsageError
from livestack.session.session import Session
from tests.small_sessions import (
    EVERY,
    checksums,
    copy_night,
    in_process,
    kill_at_sync,
    kill_in_write,
    lines,
    planes,
    resume_session,
    resumed,
    run_session,
    simulate_night,
    small_settings,
)

FRAMES = 14


def files(output: Path) -> list[str]:
    return [line["file"] for line in lines(output, "frame")]


def assert_as_undisturbed(output: Path, undisturbed: Path) -> None:
    assert files(output) == files(undisturbed), "every frame exactly once, in the same order"
    assert planes(output) == planes(undisturbed)
    assert lines(output)[-1]["status"] == "saved"


# In processes that are killed


def watched(folder: Path, output: Path, at_sync: int | None, in_journal: int | None) -> None:
    if at_sync is not None:
        kill_at_sync(at_sync)
    if in_journal is not None:
        kill_in_write("session.jsonl", in_journal)
    run_session(folder, output, one_shot=True)


def continued(output: Path, at_sync: int | None) -> None:
    if at_sync is not None:
        kill_at_sync(at_sync)
    resume_session(output)


@pytest.mark.parametrize("at_sync", [3, 9, 12, 13, 17, 26])
def test_killed_at_any_sync(night: Path, undisturbed: Path, tmp_path: Path, at_sync: int) -> None:
    output = tmp_path / "out"
    before = checksums(night)
    status = in_process(watched, night, output, at_sync, None)
    assert status == -9
    assert resume_session(output).status == 0
    assert_as_undisturbed(output, undisturbed)
    assert checksums(night) == before


@pytest.mark.parametrize("number", [2, 9])
def test_killed_in_the_middle_of_a_line_of_the_journal(
    night: Path, undisturbed: Path, tmp_path: Path, number: int
) -> None:
    output = tmp_path / "out"
    assert in_process(watched, night, output, None, number) == -9
    assert not (output / "session.jsonl").read_bytes().endswith(b"\n")
    assert resume_session(output).status == 0
    assert_as_undisturbed(output, undisturbed)


def test_killed_again_and_again(night: Path, undisturbed: Path, tmp_path: Path) -> None:
    output = tmp_path / "out"
    assert in_process(watched, night, output, 9, None) == -9
    for _ in range(6):
        status = in_process(continued, output, 7)
        if status == 0:
            break
        assert status == -9
    assert resume_session(output).status == 0 if status else True
    assert_as_undisturbed(output, undisturbed)


def test_psf_lines_are_those_of_an_undisturbed_session(night: Path, undisturbed: Path, tmp_path: Path) -> None:
    output = tmp_path / "out"
    assert in_process(watched, night, output, 14, None) == -9
    assert resume_session(output).status == 0

    def told(where: Path) -> list[tuple[object, ...]]:
        return [(line["n_frames"], line["fwhm_px"], line["n_stars"]) for line in lines(where, "psf")]

    assert told(output) == told(undisturbed)


def test_psf_csv_tells_when_and_the_journal_both_profiles(night: Path, undisturbed: Path) -> None:
    with open(next(undisturbed.glob("*/psf.csv")), encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    told = lines(undisturbed, "psf")
    stacked = [line for line in lines(undisturbed, "frame") if line["status"] == "stacked"]
    assert len(rows) == len(told) > 1
    for row, line in zip(rows, told, strict=True):
        newest = stacked[int(row["n_frames"]) - 1]["date_obs"]
        assert datetime.fromisoformat(row["date_obs"] + "+00:00") == datetime.fromisoformat(newest)
        assert float(row["fwhm_px"]) == line["fwhm_px"]
        assert line["moffat"]["fwhm_x_px"] == line["fwhm_x_px"]
        assert line["gaussian"]["n_stars"] > 0
        assert line["gaussian"]["beta"] is None


def test_same_night_twice_gives_the_same_journal(night: Path, undisturbed: Path, tmp_path: Path) -> None:
    run_session(night, tmp_path / "out")

    def told(output: Path) -> list[dict[str, object]]:
        changing = ("time", "timings_s", "duration_s", "size_bytes", "results", "settings")
        # when a checkpoint is written depends on how long the disk took for the one before
        told = [line for line in lines(output) if line["type"] != "checkpoint"]
        return [{key: value for key, value in line.items() if key not in changing} for line in told]

    assert told(tmp_path / "out") == told(undisturbed)


# Checkpoints


def test_a_damaged_checkpoint_gives_way_to_the_older_one(night: Path, undisturbed: Path, tmp_path: Path) -> None:
    output = tmp_path / "out"
    assert in_process(watched, night, output, None, 5 + FRAMES) == -9
    newest = sorted((output / "checkpoint").glob("state-*.bin"))
    assert len(newest) == 2
    content = bytearray(newest[-1].read_bytes())
    content[len(content) // 2] ^= 1
    newest[-1].write_bytes(content)
    session = resumed(output)
    assert session.run().status == 0
    assert any("does not match its checksum" in message for message in session.slot.latest.messages)
    assert_as_undisturbed(output, undisturbed)


@pytest.mark.parametrize("what", ["checkpoint", "checkpoint/masks.bin"])
def test_lost_checkpoints_cost_time_only(night: Path, undisturbed: Path, tmp_path: Path, what: str) -> None:
    output = tmp_path / "out"
    assert in_process(watched, night, output, None, 5 + FRAMES) == -9
    if (output / what).is_dir():
        shutil.rmtree(output / what)
    else:
        (output / what).unlink()
    assert resume_session(output).status == 0
    assert_as_undisturbed(output, undisturbed)


def test_checkpoints_are_told_and_go_when_the_session_is_saved(undisturbed: Path) -> None:
    written = lines(undisturbed, "checkpoint")
    assert [line["n_stacked"] for line in written] == [EVERY, 2 * EVERY]
    assert all(line["size_bytes"] > 0 and line["duration_s"] > 0 for line in written)
    assert not (undisturbed / "checkpoint").exists()


# Stopping and going on


def test_second_stop_leaves_a_session_to_be_resumed(night: Path, undisturbed: Path, tmp_path: Path) -> None:
    output = tmp_path / "out"
    seen = []

    def tell(record: object) -> None:
        seen.append(record)
        if len(seen) == 9:
            session.stop()
            session.stop()

    session = Session([night], small_settings(), output, one_shot=True, tell=tell)
    end = session.run()
    assert end.status == 130
    assert f"livestack resume {output}" in end.message
    assert lines(output)[-1]["status"] == "interrupted"
    assert resume_session(output).status == 0
    assert_as_undisturbed(output, undisturbed)


def test_a_finished_session_is_not_resumed(undisturbed: Path) -> None:
    with pytest.raises(UsageError, match="is finished and saved"):
        resumed(undisturbed)


def test_a_folder_without_session_is_told(tmp_path: Path) -> None:
    with pytest.raises(SessionError, match="no journal can be read"):
        resumed(tmp_path)


def test_watching_goes_on_with_frames_that_came_meanwhile(night: Path, undisturbed: Path, tmp_path: Path) -> None:
    folder = tmp_path / "lights"
    folder.mkdir()
    names = sorted(path.name for path in night.glob("*.fits"))
    for name in names[:9]:
        shutil.copy2(night / name, folder)
    assert in_process(watch_forever, folder, tmp_path / "out", 6) == -9
    for name in names[9:]:
        shutil.copy2(night / name, folder)
    assert resume_session(tmp_path / "out", ingest={"idle_stop_s": 0.5}).status == 0
    assert_as_undisturbed(tmp_path / "out", undisturbed)


def watch_forever(folder: Path, output: Path, in_journal: int) -> None:
    kill_in_write("session.jsonl", in_journal)
    run_session(folder, output, one_shot=False)


def test_a_crash_while_saving_only_saves_again(night: Path, undisturbed: Path, tmp_path: Path) -> None:
    folder = copy_night(night, tmp_path / "lights")
    output = tmp_path / "out"
    in_process(fail_in_save, folder, output)
    assert lines(output)[-1]["type"] == "saving"
    assert not (output / "m-27" / "stack.fits").exists()
    shutil.copy2(next(folder.glob("*.fits")), folder / "zz_late.fits")
    assert resume_session(output).status == 0
    assert_as_undisturbed(output, undisturbed)


def fail_in_save(folder: Path, output: Path) -> None:
    import os
    import signal

    from livestack.products import saver

    saver.write_stack = lambda *_: os.kill(os.getpid(), signal.SIGKILL)  # type: ignore[assignment]
    run_session(folder, output)


def test_a_frame_deleted_before_it_could_be_replayed_is_taken_out_and_told(night: Path, tmp_path: Path) -> None:
    folder = copy_night(night, tmp_path / "lights")
    output = tmp_path / "out"
    assert in_process(watched, folder, output, None, 11) == -9
    gone = lines(output, "frame")[-1]["file"]
    (folder / gone).unlink()
    session = resumed(output)
    assert session.run().status == 0
    removed = lines(output, "removed")
    assert [line["file"] for line in removed] == [gone]
    assert "gone or changed" in removed[0]["message"]
    assert lines(output)[-1]["n_stacked"] == FRAMES - 1


def test_a_file_of_many_frames_goes_on_in_the_middle(tmp_path: Path) -> None:
    folder = simulate_night(tmp_path / "lights", 12, file_format="ser")
    run_session(folder, tmp_path / "whole", quality={"enabled": False})
    output = tmp_path / "out"
    assert in_process(watch_ser, folder, output, 9) == -9
    resume_session(output)
    assert [(line["file"], line["index"]) for line in lines(output, "frame")] == [
        (line["file"], line["index"]) for line in lines(tmp_path / "whole", "frame")
    ]
    group = next(path.parent.name for path in output.glob("*/stack.fits"))
    assert planes(output, group) == planes(tmp_path / "whole", group)


def watch_ser(folder: Path, output: Path, in_journal: int) -> None:
    kill_in_write("session.jsonl", in_journal)
    run_session(folder, output, quality={"enabled": False})


# What the host asks for


def test_commands_are_replayed(night: Path, tmp_path: Path) -> None:
    def obey(session: Session, n_lines: int, number: int) -> None:
        controls = session.controls()
        if n_lines == 6:
            controls.save_now()
        if n_lines == 9:
            controls.remove_frame(sorted(path.name for path in night.glob("*.fits"))[1])
        if n_lines == 12:
            controls.new_target("second")
        if number and n_lines >= number:
            session.stop()
            session.stop()

    def run(output: Path, number: int) -> Path:
        seen: list[object] = []

        def tell(record: object) -> None:
            if getattr(record, "type", "") == "frame":
                seen.append(record)
                obey(session, len(seen), number)

        session = Session([night], small_settings(), output, one_shot=True, tell=tell)
        session.run()
        return output

    whole = run(tmp_path / "whole", 0)
    assert {path.parent.name for path in whole.glob("*/stack.fits")} == {"m-27", "m-27-2"}
    cut = run(tmp_path / "cut", 13)
    assert lines(cut)[-1]["status"] == "interrupted"
    resume_session(cut)
    for group in ("m-27", "m-27-2"):
        assert planes(cut, group) == planes(whole, group)


def test_nothing_is_left_behind(night: Path, tmp_path: Path) -> None:
    before = {thread.name for thread in threading.enumerate()}
    run_session(night, tmp_path / "out")
    assert {thread.name for thread in threading.enumerate()} == before
    assert not list((tmp_path / "out").glob("**/.*livestack-tmp*"))
    assert not (tmp_path / "out" / "session.lock").exists()


def test_loops_are_compiled_beside_the_wait(night: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from livestack.session import session as module

    ran = []
    monkeypatch.setattr(module, "is_compiled", lambda drizzled: False)
    monkeypatch.setattr(module, "compile_loops", lambda stopped, drizzled: ran.append(threading.current_thread().name))
    session = Session([night], small_settings(), tmp_path / "out", one_shot=True)
    assert session.run().status == 0
    assert ran == ["livestack-compile"]
