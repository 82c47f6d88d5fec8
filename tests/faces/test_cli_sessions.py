"""What the command line does with a session: exit status, one sentence on stderr, no traceback; real processes."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits

from tests.small_sessions import checksums, command, lines, simulate_night
from tests.waiting import until

FRAMES = 6


@pytest.fixture(scope="module")
def night(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return simulate_night(tmp_path_factory.mktemp("night") / "lights", FRAMES)


def start(*words: object, cwd: Path | None = None) -> subprocess.Popen[str]:
    """`livestack watch` or `stack` from the very beginning; where in the sky, which takes seconds, is not asked."""
    environment = {**os.environ, "COLUMNS": "200"}
    return subprocess.Popen(
        [sys.executable, "-m", "livestack", *map(str, words), "--solve", "off"],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment, cwd=cwd,
    )  # fmt: skip


@pytest.fixture
def watching(tmp_path: Path) -> Iterator[tuple[subprocess.Popen[str], Path, Path]]:
    """A session that watches an empty folder."""
    folder = tmp_path / "lights"
    folder.mkdir()
    process = start("watch", folder, "--output", tmp_path / "out", "--no-final-pass", "--json")
    until(lambda: bool(lines(tmp_path / "out", "session_start")), ended(process))
    yield process, folder, tmp_path / "out"
    if process.poll() is None:
        process.kill()
    process.communicate()


def ended(process: subprocess.Popen[str]) -> Callable[[], str]:
    """What a process said at its end; nothing while it lives."""
    return lambda: "" if process.poll() is None else str(process.communicate())


def one_sentence(err: str) -> str:
    """The one line that stderr may hold."""
    assert "Traceback" not in err
    said = [line for line in err.splitlines() if line.startswith("livestack: ")]
    assert len(said) == 1, err
    return said[0]


@pytest.mark.parametrize(
    ("make", "status", "word"),
    [
        ("missing", 2, "does not exist"),
        ("empty", 1, "no frame was found"),
        ("text", 1, "could be stacked"),
        ("unwritable", 3, "cannot be written"),
        ("no session", 3, "no journal can be read"),
        ("no masters", 2, "no such folder of masters"),
        ("no number", 2, "Invalid value for '--max-frames'"),
        ("no option", 2, "No such option: --bogus"),
    ],
)
def test_what_cannot_be_done_is_told_in_one_sentence(tmp_path: Path, make: str, status: int, word: str) -> None:
    folder = tmp_path / "lights"
    if make != "missing":
        folder.mkdir()
    if make == "text":
        for i in range(3):
            (folder / f"note{i}.fits").write_text("no frame at all\n" * 300)
    output = tmp_path / "out"
    if make == "unwritable":
        output.write_text("a file where a folder should be")
    words: tuple[object, ...] = ("watch", folder, "--output", output, "--idle-stop", "0.2")
    if make == "no session":
        words = ("resume", folder)
    more = {"no masters": ("--masters", tmp_path / "m"), "no number": ("--max-frames", "x"), "no option": ("--bogus",)}
    words = (*words, *more.get(make, ()))
    code, out, err = command(*words)
    assert code == status, (out, err)
    assert word in one_sentence(err)
    assert len(err.splitlines()) == 1
    assert make != "missing" or not output.exists(), "a slip of the pen leaves nothing behind"


def test_json_is_nothing_but_records_and_a_dark_is_refused(night: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(night, tmp_path / "lights"))
    with fits.open(min(folder.glob("*.fits"))) as hdus:
        hdus[0].header["IMAGETYP"] = "Dark Frame"
        hdus[0].data = hdus[0].data[::-1].copy()
        hdus.writeto(folder / "zz_dark.fits")
    before = checksums(folder)
    output = tmp_path / "out"
    code, out, err = command("watch", folder, "--output", output, "--idle-stop", "0.3", "--no-final-pass", "--json")
    assert code == 0, err
    assert "Traceback" not in err
    records = [json.loads(line) for line in out.splitlines()]
    assert records[0]["type"] == "session_start"
    assert records[-1]["status"] == "saved"
    refused = [r for r in records if r["type"] == "frame" and r["status"] == "refused"]
    assert [(r["file"], r["reason"]) for r in refused] == [("zz_dark.fits", "not_a_light")]
    assert checksums(folder) == before


def test_debug_shows_where_and_keeps_the_exit_status(tmp_path: Path) -> None:
    code, _, err = command("stack", tmp_path / "nowhere", "--debug")
    assert code == 2
    assert "Traceback" in err
    assert "does not exist" in err.splitlines()[-1]


def test_a_reader_of_stdout_that_goes_does_not_end_the_night(night: Path, tmp_path: Path) -> None:
    process = start("stack", night, "--output", tmp_path / "out", "--no-final-pass", "--json")
    assert process.stdout is not None
    assert process.stderr is not None
    process.stdout.readline()
    process.stdout.close()
    assert process.wait(120) == 0
    assert "nobody reads it any more" in one_sentence(process.stderr.read())
    assert len(lines(tmp_path / "out", "frame")) == FRAMES
    process.stderr.close()


def test_masters_that_cannot_be_used_are_in_the_events(night: Path, tmp_path: Path) -> None:
    """Those who read the events are told that the dark is left aside, too."""
    light = min(night.glob("*.fits"))
    with fits.open(light) as hdus:
        hdus[0].header["IMAGETYP"] = "Master Dark"
        hdus[0].header["EXPTIME"] = 7.0
        (tmp_path / "m").mkdir()
        hdus.writeto(tmp_path / "m" / "master_dark.fits")
    code, out, err = command(
        "stack", night, "--output", tmp_path / "out", "--masters", tmp_path / "m", "--no-final-pass", "--json"
    )
    assert code == 0, err
    warnings = [json.loads(line) for line in out.splitlines() if '"warning"' in line]
    assert sum("scaling needs a master bias" in each["message"] for each in warnings) == 1, warnings


def test_calibration_folders_beside_the_lights_are_left_alone(night: Path, tmp_path: Path) -> None:
    """Raw files and some FITS do not say what they are: hot pixels must not be taken for stars."""
    rng = np.random.default_rng(8)
    lights = sorted(night.glob("*.fits"))
    shape = fits.getdata(lights[0]).shape
    hot = rng.uniform(3000, 30000, shape) * (rng.uniform(size=shape) < 1e-3)
    for kind, level in (("DARK", hot + 500), ("LIGHT", None)):
        (tmp_path / "n" / kind).mkdir(parents=True)
        for number, light in enumerate(lights):
            with fits.open(light) as hdus:
                data = hdus[0].data if level is None else (level + rng.normal(0, 6, shape)).astype(np.uint16)
                fits.PrimaryHDU(data).writeto(tmp_path / "n" / kind / f"{number}.fits")
    code, _, err = command("stack", tmp_path / "n", "--output", tmp_path / "out", "--no-final-pass", "--json")
    assert code == 0, err
    told = {(line["file"].split("/")[0], line["status"], line["reason"]) for line in lines(tmp_path / "out", "frame")}
    assert told == {("DARK", "refused", "not_a_light"), ("LIGHT", "stacked", None)}


def test_masters_and_published_pictures_in_the_folder_are_no_frames(night: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(night, tmp_path / "lights"))
    (folder / "m").mkdir()
    with fits.open(min(night.glob("*.fits"))) as hdus:
        hdus[0].header["IMAGETYP"] = "Master Dark"
        hdus[0].data[:] = 300
        hdus.writeto(folder / "m" / "master_dark.fits")
    words = ("--masters", folder / "m", "--publish", folder / "pub", "--output", tmp_path / "out")
    process = start("watch", folder, *words, "--no-final-pass", "--json")
    until(lambda: (folder / "pub" / "picture.jpg").exists(), ended(process))
    time.sleep(1)  # long enough for a look at it
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=120)
    assert process.returncode == 0, err
    assert [line["file"] for line in lines(tmp_path / "out", "frame")] == sorted(p.name for p in night.glob("*.fits"))


def test_resume_wants_the_masters_that_it_began_with(night: Path, tmp_path: Path) -> None:
    """Named from one folder, resumed from another; a master that was changed meanwhile would spoil the stack."""
    master = tmp_path / "m" / "master_dark.fits"
    master.parent.mkdir()
    with fits.open(min(night.glob("*.fits"))) as hdus:
        hdus[0].header["IMAGETYP"] = "Master Dark"
        hdus[0].data[:] = 300
        hdus.writeto(master)
    process = start("watch", night, "--output", tmp_path / "out", "--masters", "m", "--json", cwd=tmp_path)
    until(lambda: len(lines(tmp_path / "out", "frame")) >= 3, ended(process))
    process.kill()
    process.communicate()
    before = master.read_bytes()
    with fits.open(master, mode="update") as hdus:
        hdus[0].data[:] = 310
    code, _, err = command("resume", tmp_path / "out", "--idle-stop", "0.3", "--no-final-pass", "--json")
    assert code == 2
    assert "master master_dark.fits is gone or was changed since the session began" in one_sentence(err)
    master.write_bytes(before)
    code, _, err = command("resume", tmp_path / "out", "--idle-stop", "0.3", "--no-final-pass", "--json")
    assert code == 0, err
    assert {line["status"] for line in lines(tmp_path / "out", "frame")} == {"stacked"}


def test_max_frames_ends_the_session(night: Path, tmp_path: Path) -> None:
    words = ("--output", tmp_path / "out", "--max-frames", "3", "--no-final-pass", "--json")
    code, _, err = command("watch", night, *words)
    assert code == 0, err
    assert lines(tmp_path / "out")[-1]["n_stacked"] == 3
    assert "--max-frames" in lines(tmp_path / "out")[-1]["reason"]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, getattr(signal, "SIGHUP", signal.SIGTERM)])
def test_first_signal_drains_and_saves(
    watching: tuple[subprocess.Popen[str], Path, Path], night: Path, number: signal.Signals
) -> None:
    process, folder, output = watching
    for path in sorted(night.glob("*.fits")):
        shutil.copy2(path, folder)
    until(lambda: len(lines(output, "frame")) >= 2, ended(process))
    process.send_signal(number)
    _, err = process.communicate(timeout=120)
    assert process.returncode == 0, err
    assert lines(output)[-1]["status"] == "saved"
    assert lines(output)[-1]["reason"].startswith("ended by Ctrl-C")
    assert lines(output)[-1]["n_stacked"] == FRAMES
    assert (output / "m-27" / "stack.fits").exists()


def test_second_signal_stops_at_once_and_resume_goes_on(
    watching: tuple[subprocess.Popen[str], Path, Path], night: Path
) -> None:
    process, folder, output = watching
    for path in sorted(night.glob("*.fits"))[:4]:
        shutil.copy2(path, folder)
    until(lambda: len(lines(output, "frame")) >= 4, ended(process))
    process.send_signal(signal.SIGINT)
    process.send_signal(signal.SIGTERM)  # two of one kind at once would be one
    _, err = process.communicate(timeout=120)
    if process.returncode == 0:
        pytest.skip("it was faster than the second signal")
    assert process.returncode == 130, err
    assert "Traceback" not in err
    for path in sorted(night.glob("*.fits"))[4:]:
        shutil.copy2(path, folder)
    code, _, err = command("resume", output, "--idle-stop", "0.3", "--json")
    assert code == 0, err
    assert [line["file"] for line in lines(output, "frame")] == sorted(path.name for path in night.glob("*.fits"))


def test_watch_offers_an_unfinished_session(night: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(night, tmp_path / "lights"))
    process = start("watch", folder, "--json")
    until(lambda: any(len(lines(path, "frame")) >= 2 for path in (folder / "livestack").iterdir()), ended(process))
    process.kill()
    process.communicate()
    session = next((folder / "livestack").iterdir())
    time.sleep(1.1)  # a folder's name is its second
    code, _, err = command("watch", folder, "--idle-stop", "0.3", "--no-final-pass", "--json")
    assert code == 0, err
    said = [line for line in err.splitlines() if "livestack resume" in line]
    assert len(said) == 1
    assert str(session) in said[0]
    assert len(list((folder / "livestack").iterdir())) == 2


def test_files_a_byte_at_a_time_moved_in_in_a_burst_and_deleted_at_once(
    watching: tuple[subprocess.Popen[str], Path, Path], night: Path, tmp_path: Path
) -> None:
    process, folder, output = watching
    paths = sorted(night.glob("*.fits"))
    with open(folder / paths[0].name, "wb", buffering=0) as file:
        content = paths[0].read_bytes()
        for byte in content[:200]:
            file.write(bytes([byte]))
        time.sleep(0.5)
        file.write(content[200:])
    shutil.copy2(paths[1], tmp_path / "beside.fits")
    (tmp_path / "beside.fits").rename(folder / paths[1].name)
    for path in paths[2:]:
        shutil.copy2(path, folder)
    shutil.copy2(paths[0], folder / "gone.fits")
    (folder / "gone.fits").unlink()
    until(lambda: sum(line["status"] == "stacked" for line in lines(output, "frame")) >= FRAMES, ended(process))
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=120)
    frames = lines(output, "frame")
    assert sorted(line["file"] for line in frames if line["status"] == "stacked") == [path.name for path in paths]
    assert {(line["file"], line["reason"]) for line in frames if line["status"] == "refused"} <= {
        ("gone.fits", "vanished"), ("gone.fits", "duplicate"),
    }  # fmt: skip
