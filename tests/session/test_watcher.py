"""The watcher, on a scripted night (clock, events and stop are the test's) and on a real folder with real events."""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from livestack.base.errors import TruncatedFrame, UnreadableFrame, UsageError, VanishedFrame
from livestack.base.folder import FileKey
from livestack.base.settings import IngestSettings
from livestack.session.watcher import Arrival, Idle, Notice, Refusal, Watcher
from tests.waiting import until

WHOLE = b"SIMPLE" + b"x" * 94 + b"END"


def check(path: Path) -> None:
    """A frame begins with SIMPLE and ends with END."""
    try:
        content = path.read_bytes()
    except FileNotFoundError as error:
        raise VanishedFrame(f"{path.name}: gone") from error
    if content[:6] != b"SIMPLE"[: len(content)] and content:
        raise UnreadableFrame(f"{path.name}: no frame")
    if not content.endswith(b"END"):
        raise TruncatedFrame(f"{path.name}: {len(content)} bytes")


class Night:
    """Clock, stop sign and observer in one; waiting runs what the script has for that time."""

    def __init__(self, folder: Path, *, ends: float = 100.0, events: bool = True) -> None:
        self.folder = folder
        self.now = 0.0
        self.ends = ends
        self.wall_offset = 0.0
        self.script: list[tuple[float, Callable[[], object]]] = []
        self.handlers: dict[str, object] = {}
        self.watching: list[str] = []
        self.events = events
        self.checked: list[str] = []
        self.looks: list[float] = []

    # the stop sign
    def is_set(self) -> bool:
        return self.now >= self.ends

    def wait(self, timeout: float | None = None) -> bool:
        self.sleep(timeout or 0.0)
        return self.is_set()

    def sleep(self, seconds: float) -> None:
        self.now += seconds
        while self.script and self.script[0][0] <= self.now:
            self.script.pop(0)[1]()

    # the observer
    def schedule(self, handler: object, path: str, *, recursive: bool = False) -> str:
        if not os.path.isdir(path):
            raise FileNotFoundError(2, "No such file or directory", path)
        self.handlers[path] = handler
        self.watching.append(path)
        return path

    def unschedule(self, watch: str) -> None:
        del self.handlers[watch]

    def start(self) -> None:
        if not self.events:
            raise OSError(24, "inotify instance limit reached")

    def stop(self) -> None:
        self.handlers.clear()

    def join(self, timeout: float | None = None) -> None:
        pass

    # the script
    def at(self, when: float, action: Callable[[], object]) -> None:
        self.script.append((when, action))
        self.script.sort(key=lambda line: line[0])

    def tell(self, kind: str, path: Path, old: Path | None = None, is_directory: bool = False) -> None:
        event = SimpleNamespace(
            event_type=kind, src_path=str(old or path), dest_path=str(path) if old else "", is_directory=is_directory
        )
        for handler in list(self.handlers.values()):
            handler.dispatch(event)  # type: ignore[attr-defined]

    def write(self, name: str, content: bytes = WHOLE, *, tell: str | None = "created") -> Path:
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
        if tell:
            self.tell(tell, path)
        return path

    def check(self, path: Path) -> None:
        self.checked.append(path.name)
        self.looks.append(self.now)
        check(path)

    def watcher(self, *, exclude: tuple[Path, ...] = (), known: frozenset[FileKey] = frozenset(), **options) -> Watcher:
        parameters = ("one_shot", "since")
        extra = {key: options.pop(key) for key in parameters if key in options}
        folders = options.pop("folders", [self.folder])
        return Watcher(
            folders,
            IngestSettings(**options),
            exclude,
            known,
            self,
            check=self.check,
            clock=lambda: self.now,
            wall=lambda: time.time() + self.wall_offset,
            sleep=self.sleep,
            observer_factory=lambda: self,
            **extra,
        )

    def run(self, **options) -> list:
        return [item for item in self.watcher(**options) if not isinstance(item, Idle)]


@pytest.fixture
def night(tmp_path: Path) -> Night:
    return Night(tmp_path)


def names(items: list, kind: type = Arrival) -> list[str]:
    return [item.path.name for item in items if isinstance(item, kind)]


class TestArrivals:
    def test_a_file_is_handed_out_after_two_looks(self, night: Night) -> None:
        night.at(10.0, lambda: night.write("a.fits"))
        [item] = night.run()
        assert item.path == night.folder / "a.fits"
        assert item.key == FileKey(str(night.folder / "a.fits"), len(WHOLE), os.stat(item.path).st_mtime_ns)
        assert 10.3 <= night.looks[0] < 10.8

    def test_many_events_for_one_file_hand_it_out_once(self, night: Night) -> None:
        def chatter() -> None:
            path = night.write("a.fits")
            for kind in ("created", "modified", "modified", "closed", "closed"):
                night.tell(kind, path)

        night.at(1.0, chatter)
        night.at(5.0, lambda: night.tell("modified", night.folder / "a.fits"))
        assert names(night.run()) == ["a.fits"]

    def test_one_byte_at_a_time(self, night: Night) -> None:
        """Nothing is handed out, or even opened, while it grows by a byte every 0.25 s."""
        path = night.folder / "slow.fits"

        def grow(byte: bytes) -> None:
            with open(path, "ab") as file:
                file.write(byte)
            night.tell("modified", path)

        for number in range(len(WHOLE)):
            night.at(1.0 + 0.25 * number, lambda byte=WHOLE[number : number + 1]: grow(byte))
        [item] = night.run()
        assert item.key.size == len(WHOLE)
        assert night.looks == [pytest.approx(1.0 + 0.25 * (len(WHOLE) - 1) + 0.4, abs=0.25)]

    def test_pauses_while_writing_do_not_make_it_whole(self, night: Night) -> None:
        """Still for 20 s in the middle, as over a bad network: waited for, not refused."""
        night.at(1.0, lambda: night.write("a.fits", WHOLE[:50]))
        night.at(21.0, lambda: night.write("a.fits", WHOLE, tell="modified"))
        [item] = night.run()
        assert isinstance(item, Arrival)
        assert item.key.size == len(WHOLE)

    def test_truncated_is_refused_once_and_taken_when_completed(self, night: Night) -> None:
        night.ends = 300
        night.at(1.0, lambda: night.write("a.fits", WHOLE[:50]))
        night.at(200.0, lambda: night.write("a.fits", WHOLE, tell="modified"))
        refusal, arrival = night.run()
        assert (refusal.reason, refusal.message) == ("truncated", "a.fits: 50 bytes")
        assert refusal.key.size == 50
        assert isinstance(arrival, Arrival)
        assert 61 <= [when for when in night.looks if when < 200][-1] <= 62

    def test_checks_grow_rarer(self, night: Night) -> None:
        """A check may decode the file: not 200 times in a minute."""
        night.at(1.0, lambda: night.write("a.fits", WHOLE[:50]))
        night.run()
        assert len(night.checked) < 25

    def test_preallocated_file_of_zeros_waits(self, night: Night) -> None:
        night.at(1.0, lambda: night.write("a.fits", b"\0" * len(WHOLE)))
        night.at(30.0, lambda: night.write("a.fits", WHOLE, tell="modified"))
        assert [type(item) for item in night.run()] == [Arrival]

    def test_unreadable_is_refused_after_the_timeout(self, night: Night) -> None:
        night.at(1.0, lambda: night.write("a.fits", b"holiday photo"))
        [refusal] = night.run(settle_timeout_s=20.0)
        assert refusal.reason == "unreadable"
        assert 21 <= night.looks[-1] <= 22

    def test_growing_while_it_is_checked(self, night: Night) -> None:
        """Two looks and a good end, and still the program appends: what was checked is not what is there."""

        def check_and_append(path: Path) -> None:
            check(path)
            if path.stat().st_size == len(WHOLE):
                path.write_bytes(WHOLE + b"more END")

        night.check = check_and_append  # type: ignore[method-assign]
        night.at(1.0, lambda: night.write("a.fits"))
        [item] = night.run()
        assert item.key.size == len(WHOLE + b"more END")

    def test_moved_into_place(self, night: Night) -> None:
        def move() -> None:
            (night.folder / "a.fits.tmp").rename(night.folder / "a.fits")
            night.tell("moved", night.folder / "a.fits", night.folder / "a.fits.tmp")

        night.at(1.0, lambda: night.write("a.fits.tmp", WHOLE[:40]))
        night.at(2.0, lambda: night.write("a.fits.tmp", WHOLE, tell="modified"))
        night.at(2.0, move)
        assert names(night.run()) == ["a.fits"]

    def test_renamed_after_it_was_taken_is_not_taken_again(self, night: Night) -> None:
        def move() -> None:
            (night.folder / "a.fits").rename(night.folder / "b.fits")
            night.tell("moved", night.folder / "b.fits", night.folder / "a.fits")

        night.at(1.0, lambda: night.write("a.fits"))
        night.at(10.0, move)
        assert names(night.run()) == ["a.fits"]

    def test_renamed_while_it_settles_is_no_loss(self, night: Night) -> None:
        def move() -> None:
            (night.folder / "a.fits").rename(night.folder / "b.fits")
            night.tell("moved", night.folder / "b.fits", night.folder / "a.fits")

        night.at(1.0, lambda: night.write("a.fits"))
        night.at(1.2, move)
        [item] = night.run()
        assert (type(item), item.path.name) == (Arrival, "b.fits")

    def test_same_name_new_exposure_is_a_new_frame(self, night: Night) -> None:
        for number in range(5):
            content = WHOLE[:-3] + b"%dEND" % number
            night.at(1.0 + 10 * number, lambda content=content: night.write("latest.fits", content, tell="modified"))
        items = night.run()
        assert names(items) == ["latest.fits"] * 5
        assert len({item.key for item in items}) == 5

    def test_burst_keeps_its_order(self, night: Night) -> None:
        order = [f"light_{(37 * number) % 300}.fits" for number in range(300)]
        night.at(1.0, lambda: [night.write(name) for name in order])
        assert names(night.run()) == order

    def test_lost_events_are_found_by_the_scan(self, night: Night) -> None:
        night.at(1.0, lambda: [night.write(f"l{number}.fits", tell=None) for number in (10, 9, 1)])
        assert names(night.run()) == ["l1.fits", "l9.fits", "l10.fits"]
        assert night.looks[0] < 7

    def test_growing_file_does_not_hold_up_the_next(self, night: Night) -> None:
        night.at(1.0, lambda: night.write("a.fits", WHOLE[:9]))
        night.at(2.0, lambda: night.write("b.fits"))
        night.at(9.0, lambda: night.write("a.fits", WHOLE, tell="modified"))
        assert names(night.run()) == ["b.fits", "a.fits"]

    def test_folder_moved_in_with_its_content(self, night: Night, tmp_path_factory: pytest.TempPathFactory) -> None:
        card = tmp_path_factory.mktemp("card") / "100CANON"
        card.mkdir()
        (card / "a.fits").write_bytes(WHOLE)

        def move() -> None:
            shutil.move(card, night.folder / "100CANON")
            night.tell("created", night.folder / "100CANON", is_directory=True)

        night.at(6.0, move)
        assert names(night.run(rescan_interval_s=90.0)) == ["a.fits"]
        assert night.looks[0] < 8

    def test_slow_disk_is_not_scanned_all_the_time(self, night: Night, monkeypatch: pytest.MonkeyPatch) -> None:
        """A scan that takes 4 s, as of thousands of files over a poor network, comes every 40 s, not every 1."""
        scans = []

        def slow_scan(*arguments: object) -> list:
            scans.append(night.now)
            night.sleep(4.0)
            return []

        monkeypatch.setattr("livestack.session.watcher.scan", slow_scan)
        night.ends = 200.0
        night.run(poll=True)
        pauses = [after - before for before, after in pairwise(scans[1:-1])]
        assert pauses == [pytest.approx(40.0, abs=0.2)] * 4


class TestVanishing:
    def test_deleted_at_once(self, night: Night) -> None:
        def flash() -> None:
            night.write("a.fits").unlink()

        night.at(1.0, flash)
        night.at(2.0, lambda: night.write("b.fits"))
        gone, arrival = night.run()
        assert (gone.path.name, gone.reason, gone.key) == ("a.fits", "vanished", None)
        assert arrival.path.name == "b.fits"

    def test_deleted_while_it_settles(self, night: Night) -> None:
        night.at(1.0, lambda: night.write("a.fits"))
        night.at(1.15, lambda: (night.folder / "a.fits").unlink())
        [gone] = night.run()
        assert (gone.reason, "is gone" in gone.message) == ("vanished", True)

    def test_gone_for_a_moment_is_not_gone(self, night: Night) -> None:
        """Some programs delete the old file, then write the new one."""
        night.at(1.0, lambda: night.write("a.fits"))
        night.at(1.15, lambda: (night.folder / "a.fits").unlink())
        night.at(1.55, lambda: night.write("a.fits", tell=None))
        assert [type(item) for item in night.run()] == [Arrival]

    def test_taken_frames_may_be_tidied_away(self, night: Night) -> None:
        def tidy() -> None:
            (night.folder / "a.fits").unlink()
            night.tell("modified", night.folder / "a.fits")

        night.at(1.0, lambda: night.write("a.fits"))
        night.at(5.0, tidy)
        assert [type(item) for item in night.run()] == [Arrival]

    def test_comes_back(self, night: Night) -> None:
        night.at(1.0, lambda: night.write("a.fits").unlink())
        night.at(9.0, lambda: night.write("a.fits"))
        assert [type(item) for item in night.run()] == [Refusal, Arrival]

    def test_folder_unplugged_and_plugged_in_again(self, night: Night, tmp_path: Path) -> None:
        night.folder = tmp_path / "stick"
        night.folder.mkdir()
        away = tmp_path / "away"
        night.at(1.0, lambda: night.write("a.fits"))
        night.at(4.9, lambda: night.write("b.fits", WHOLE[:20]))
        night.at(5.0, lambda: night.folder.rename(away))
        night.at(40.0, lambda: (away / "b.fits").write_bytes(WHOLE))
        night.at(50.0, lambda: away.rename(night.folder))
        night.at(60.0, lambda: night.write("c.fits"))
        items = night.run(rescan_interval_s=90.0)
        assert names(items) == ["a.fits", "b.fits", "c.fits"]
        assert [item.message.split(": ")[1][:18] for item in items if isinstance(item, Notice)] == [
            "the folder is gone",
            "the folder is back",
        ]
        assert names(items, Refusal) == []
        assert night.watching == [str(night.folder)] * 2

    def test_unplugged_in_the_middle_of_the_backlog(self, night: Night, tmp_path: Path) -> None:
        night.folder = tmp_path / "stick"
        away = tmp_path / "away"
        for number in range(20):
            night.write(f"l{number}.fits", tell=None)
        night.at(30.0, lambda: away.rename(night.folder))
        items = []
        for item in night.watcher():
            if not isinstance(item, Idle):
                items.append(item)
            if len(names(items)) == 5 and not away.exists() and night.now < 30:
                night.folder.rename(away)
        assert names(items) == [f"l{number}.fits" for number in range(20)]
        assert names(items, Refusal) == []

    def test_folder_replaced_by_another_one_is_listened_to(self, night: Night, tmp_path: Path) -> None:
        night.folder = tmp_path / "lights"
        night.folder.mkdir()

        def replace() -> None:
            (tmp_path / "fresh").mkdir()  # before the old one goes, so that it has another inode
            night.folder.rmdir()
            (tmp_path / "fresh").rename(night.folder)

        night.at(5.0, replace)
        night.at(20.0, lambda: night.write("a.fits"))
        assert names(night.run(rescan_interval_s=90.0)) == ["a.fits"]
        assert night.looks[0] < 21


class TestExisting:
    def test_natural_order_whatever_the_times(self, night: Night) -> None:
        for number in (10, 2, 1, 33):
            path = night.write(f"Light_{number}.fits")
            os.utime(path, ns=(10**18, 10**18 - number))
        night.write("sub/Light_5.fits")
        expected = ["Light_1.fits", "Light_2.fits", "Light_10.fits", "Light_33.fits", "Light_5.fits"]
        assert names(night.run(one_shot=True)) == expected
        assert names(night.run()) == expected

    def test_old_files_flow_at_once(self, night: Night) -> None:
        for number in range(30):
            night.write(f"{number}.fits", WHOLE if number != 7 else WHOLE[:30], tell=None)
        night.wall_offset = 1000.0
        items = night.run()
        assert names(items) == [f"{number}.fits" for number in range(30) if number != 7]
        assert names(items, Refusal) == ["7.fits"]
        assert night.looks[:30] == [0.0] * 30

    def test_copied_just_now_with_its_old_time_is_fresh(self, night: Night) -> None:
        """`cp -p` keeps the old time; the change of status tells."""
        path = night.write("a.fits", WHOLE[:30], tell=None)
        os.utime(path, ns=(10**18, 10**18))
        night.at(2.0, lambda: night.write("a.fits", WHOLE, tell="modified"))
        assert [type(item) for item in night.run()] == [Arrival]

    def test_one_shot_waits_for_one_look_only(self, night: Night) -> None:
        night.write("a.fits")
        night.write("b.fits", WHOLE[:20])
        night.write("c.fits", b"holiday")
        items = night.run(one_shot=True)
        assert [(item.path.name, getattr(item, "reason", None)) for item in items] == [
            ("a.fits", None),
            ("b.fits", "truncated"),
            ("c.fits", "unreadable"),
        ]
        assert night.now == pytest.approx(0.3)

    def test_one_shot_refuses_what_is_growing(self, night: Night) -> None:
        for step in range(9):
            night.at(0.1 + 0.1 * step, lambda size=step: night.write("a.fits", b"SIMPLE" + b"x" * size))
        night.write("a.fits", b"SIMPLE")
        [item] = night.run(one_shot=True)
        assert "still growing" in item.message

    def test_one_shot_takes_single_files(self, night: Night, tmp_path: Path) -> None:
        files = [night.write(name) for name in ("l10.fits", "l9.fits", "odd.name")]
        assert names(night.run(one_shot=True, folders=files)) == ["l9.fits", "l10.fits", "odd.name"]

    def test_same_file_given_twice_counts_once(self, night: Night) -> None:
        path = night.write("a.fits")
        assert names(night.run(one_shot=True, folders=[path, night.folder, night.folder])) == ["a.fits"]

    def test_no_existing(self, night: Night) -> None:
        night.write("old.fits")
        night.write("growing.fits", WHOLE[:20])
        night.at(3.0, lambda: night.write("new.fits"))
        night.at(6.0, lambda: night.write("growing.fits", WHOLE, tell="modified"))
        assert names(night.run(existing=False)) == ["new.fits", "growing.fits"]

    def test_no_existing_on_resume_takes_what_came_after_the_start(self, night: Night) -> None:
        night.write("before.fits")
        time.sleep(0.02)
        started = time.time()
        time.sleep(0.02)
        night.write("between.fits")
        assert names(night.run(existing=False, since=started)) == ["between.fits"]

    def test_known_files_are_not_taken_again(self, night: Night) -> None:
        first = night.run(one_shot=True, folders=[night.write("a.fits"), night.write("b.fits")])
        night.write("a.fits", WHOLE + b"END")
        assert names(night.run(known=frozenset(item.key for item in first))) == ["a.fits"]


class TestWhatIsLeftAlone:
    def test_output_folder_inside(self, night: Night) -> None:
        output = night.folder / "livestack" / "2026"
        night.write("livestack/2026/M27/stack.fits", tell=None)
        night.at(2.0, lambda: night.write("livestack/2026/M27/later.fits"))
        night.at(3.0, lambda: night.write("a.fits"))
        assert names(night.run(exclude=(output,))) == ["a.fits"]

    def test_output_folder_that_is_made_later(self, night: Night) -> None:
        night.at(2.0, lambda: night.write("out/stack.fits"))
        night.at(3.0, lambda: night.write("out/x.fits", tell=None))
        assert night.run(exclude=(night.folder / "out",)) == []

    def test_other_sessions_results(self, night: Night) -> None:
        night.write("livestack/yesterday/session.jsonl", b"{}\n", tell=None)
        night.write("livestack/yesterday/M27/stack.fits", tell=None)
        night.at(2.0, lambda: night.write("livestack/yesterday/M27/stack.fits", WHOLE + b"END"))
        assert night.run() == []

    @pytest.mark.skipif(sys.platform == "win32", reason="links need a privilege there")
    def test_link_into_the_output(self, night: Night, tmp_path_factory: pytest.TempPathFactory) -> None:
        output = tmp_path_factory.mktemp("out")
        (output / "stack.fits").write_bytes(WHOLE)
        (night.folder / "results").symlink_to(output)
        assert night.run(exclude=(output,)) == []

    def test_hidden_and_temporary(self, night: Night) -> None:
        for name in (".a.fits", "~b.fits", "c.tmp.fits", "._d.fits", ".trash/e.fits", "@eaDir/f.fits", "notes.txt"):
            night.write(name)
            night.at(2.0, lambda name=name: night.write(name, WHOLE + b"END"))
        assert night.run() == []

    @pytest.mark.parametrize("pair", [("a.CR2", "a.JPG"), ("a.fits", "a.png"), ("a.fits.fz", "a.tif")])
    def test_pictures_beside_the_frame_are_not_stacked_too(self, night: Night, pair: tuple[str, str]) -> None:
        frame, picture = pair
        night.write("first/" + frame)
        night.write("first/" + picture)
        night.at(2.0, lambda: night.write(frame))
        night.at(2.0, lambda: night.write(picture))
        night.at(3.0, lambda: night.write("b" + picture))
        items = night.run()
        assert names(items) == [frame, frame, "b" + picture]
        refused = [(item.path.name, item.reason) for item in items if isinstance(item, Refusal)]
        assert refused == [(picture, "duplicate")] * 2
        assert night.looks[-1] < 4

    @pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes with names here")
    def test_pipes_are_not_opened(self, night: Night) -> None:
        """Opening one would wait for ever."""
        os.mkfifo(night.folder / "a.fits")
        (night.folder / "b.fits").mkdir()
        night.at(2.0, lambda: night.tell("created", night.folder / "a.fits"))
        assert night.run() == []

    def test_not_recursive(self, night: Night) -> None:
        night.write("sub/a.fits")
        night.at(2.0, lambda: night.write("sub/b.fits"))
        night.at(2.0, lambda: night.write("c.fits"))
        assert names(night.run(recursive=False)) == ["c.fits"]

    @pytest.mark.skipif(sys.platform == "win32", reason="links need a privilege there")
    def test_links(self, night: Night, tmp_path_factory: pytest.TempPathFactory) -> None:
        """A linked file counts once, a linked folder is entered, a loop ends."""
        card = tmp_path_factory.mktemp("card")
        (card / "z.fits").write_bytes(WHOLE)
        night.write("sub/a.fits")
        (night.folder / "sub" / "loop").symlink_to(night.folder)
        (night.folder / "again.fits").symlink_to(night.folder / "sub" / "a.fits")
        (night.folder / "card").symlink_to(card)
        (night.folder / "dangling.fits").symlink_to(night.folder / "nothing")
        items = night.run(one_shot=True)
        assert sorted(item.key.path for item in items) == sorted([str(card / "z.fits"), f"{night.folder}/sub/a.fits"])

    @pytest.mark.skipif(sys.platform == "win32", reason="links need a privilege there")
    def test_two_names_of_one_file_that_come_at_once(self, night: Night) -> None:
        def link() -> None:
            path = night.write("a.fits")
            (night.folder / "b.fits").symlink_to(path)
            night.tell("created", night.folder / "b.fits")

        night.at(1.0, link)
        assert names(night.run()) == ["a.fits"]

    @pytest.mark.parametrize("name", ["a b.fits", "Ñandú 銀河.fits", "two\nlines.fits", "ünï.fits", "-rf.fits"])
    def test_names(self, night: Night, name: str) -> None:
        if sys.platform == "win32" and "\n" in name:
            pytest.skip("no such name there")
        night.at(1.0, lambda: night.write(name))
        night.at(2.0, lambda: night.write("x" + name, b"holiday"))
        arrival, refusal = night.run()
        assert arrival.path.name == name
        assert "x" + name == refusal.path.name

    def test_nothing_is_changed(self, night: Night) -> None:
        night.write("a.fits")
        os.chmod(night.folder / "a.fits", 0o444)
        before = [(path, os.stat(path)) for path in sorted(night.folder.rglob("*"))]
        night.run()
        after = [(path, os.stat(path)) for path in sorted(night.folder.rglob("*"))]
        assert [(p, s.st_mtime_ns, s.st_size, s.st_mode) for p, s in before] == [
            (p, s.st_mtime_ns, s.st_size, s.st_mode) for p, s in after
        ]


class TestEnding:
    def test_idle_time(self, night: Night) -> None:
        night.at(5.0, lambda: night.write("a.fits"))
        idle = {round(night.now, 1): item.idle_s for item in night.watcher() if isinstance(item, Idle)}
        assert idle[4.9] == pytest.approx(4.9)
        assert idle[5.2] < 0.3
        assert idle[15.0] == pytest.approx(15 - night.looks[0], abs=0.11)

    def test_a_file_that_stands_unfinished_does_not_count_as_activity(self, night: Night) -> None:
        night.ends = 30.0
        night.at(5.0, lambda: night.write("a.fits", WHOLE[:20]))
        waits = [item for item in night.watcher() if isinstance(item, Idle)]
        assert waits[-1].n_waiting == 1
        assert waits[-1].idle_s == pytest.approx(25, abs=0.3)

    def test_stop_drains_what_is_ready(self, night: Night) -> None:
        night.at(night.ends - 0.01, lambda: [night.write("a.fits"), night.write("b.fits", WHOLE[:20])])
        night.at(night.ends - 0.01, lambda: night.write("c.fits", tell=None))
        items = night.run()
        assert names(items) == ["a.fits", "c.fits"]
        assert [(item.path.name, item.reason) for item in items if isinstance(item, Refusal)] == [
            ("b.fits", "truncated")
        ]
        assert night.now < night.ends + 1

    def test_stop_refuses_what_is_growing(self, night: Night) -> None:
        night.at(night.ends - 0.1, lambda: night.write("a.fits", WHOLE[:20]))
        night.at(night.ends + 0.1, lambda: night.write("a.fits", WHOLE[:30]))
        [item] = night.run()
        assert "still growing when the session ended" in item.message

    def test_closing_ends_at_once(self, night: Night) -> None:
        for number in range(10):
            night.write(f"{number}.fits")
        watch = iter(night.watcher())
        assert isinstance(next(watch), Arrival)
        watch.close()
        assert night.handlers == {}
        assert night.checked == ["0.fits"]

    def test_n_waiting_counts_the_backlog(self, night: Night) -> None:
        for number in range(10):
            night.write(f"{number}.fits")
        watcher = night.watcher()
        watch = iter(watcher)
        next(watch)
        next(watch)
        assert 8 <= watcher.n_waiting <= 9
        watch.close()


ACTIONS = st.tuples(
    st.floats(0.0, 12.0),
    st.sampled_from(["whole", "half", "junk", "grow", "delete", "touch", "rename", "replace"]),
    st.sampled_from("abc"),
    st.booleans(),
)


class TestAnyNight:
    """Whatever a capture program does, and however many events are lost."""

    @settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
    @given(st.lists(ACTIONS, max_size=14))
    def test_nothing_is_lost_and_nothing_comes_twice(self, actions: list) -> None:
        with tempfile.TemporaryDirectory() as folder:
            night = Night(Path(os.path.realpath(folder)), ends=20.0)
            ticks = iter(range(10**18, 10**18 + 10**6, 1000))

            def act(what: str, name: str, told: bool) -> None:
                path, other = night.folder / f"{name}.fits", night.folder / f"{'bca'['abc'.index(name)]}.fits"
                if what in ("whole", "half", "junk"):
                    path.write_bytes({"whole": WHOLE, "half": WHOLE[:40], "junk": b"holiday photo"}[what])
                elif what == "grow" and path.exists():
                    path.write_bytes(WHOLE[: path.stat().st_size + 30] + (b"END" if path.stat().st_size > 80 else b""))
                elif what == "delete":
                    path.unlink(missing_ok=True)
                elif what == "replace":
                    (night.folder / "x.tmp").write_bytes(WHOLE)
                    os.utime(night.folder / "x.tmp", ns=(0, next(ticks)))
                    (night.folder / "x.tmp").replace(path)
                elif what == "rename" and path.exists():
                    path.rename(other)
                    if told:
                        night.tell("moved", other, path)
                    return
                if path.exists():
                    os.utime(path, ns=(0, next(ticks)))
                if told and what != "delete":
                    night.tell("modified", path)

            for when, what, name, told in actions:
                night.at(when, lambda what=what, name=name, told=told: act(what, name, told))
            taken, refused = [], set()
            for item in night.watcher(settle_timeout_s=2.0):
                if isinstance(item, Arrival):
                    assert item.path.read_bytes().endswith(b"END")
                    taken.append(item.key)
                elif isinstance(item, Refusal) and item.key:
                    refused.add((item.key.size, item.key.mtime_ns))
            assert len(set(taken)) == len(taken)
            states = {(key.size, key.mtime_ns) for key in taken}
            for path in night.folder.glob("*.fits"):
                state = (path.stat().st_size, path.stat().st_mtime_ns)
                if path.read_bytes().endswith(b"END"):
                    assert state in states
                else:
                    assert state in refused


class TestRoots:
    def test_missing(self, night: Night) -> None:
        with pytest.raises(UsageError, match="does not exist; expected the folder"):
            night.run(folders=[night.folder / "nope"])

    def test_a_file(self, night: Night) -> None:
        with pytest.raises(UsageError, match="is a file"):
            night.run(folders=[night.write("a.fits")])

    def test_the_output_itself(self, night: Night) -> None:
        with pytest.raises(UsageError, match="own output folder"):
            night.run(exclude=(night.folder,))

    def test_inside_the_output(self, night: Night) -> None:
        with pytest.raises(UsageError, match="own output folder"):
            night.run(exclude=(night.folder.parent,))

    def test_a_session(self, night: Night) -> None:
        night.write("session.jsonl")
        with pytest.raises(UsageError, match="livestack resume"):
            night.run()

    def test_no_events_to_be_had(self, tmp_path: Path) -> None:
        night = Night(tmp_path, events=False)
        night.at(2.0, lambda: night.write("a.fits"))
        notice, arrival = night.run(rescan_interval_s=60.0)
        assert "inotify instance limit reached" in notice.message
        assert arrival.path.name == "a.fits"
        assert night.looks[0] < 5

    def test_polling_asks_for_no_events(self, night: Night) -> None:
        night.at(2.0, lambda: night.write("a.fits", tell=None))
        assert names(night.run(poll=True)) == ["a.fits"]
        assert night.watching == []
        assert night.looks[0] < 4

    def test_network_share_is_polled(self, night: Night, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("livestack.session.watcher.network_file_system", lambda path: "cifs")
        night.at(2.0, lambda: night.write("a.fits", tell=None))
        notice, arrival = night.run()
        assert "network share (cifs)" in notice.message
        assert night.watching == []
        assert arrival.path.name == "a.fits"


class TestRealEvents:
    """The system's own events on a real folder; scans are put off, so that only events can find a file."""

    @pytest.fixture
    def watched(self, tmp_path: Path):
        folder = tmp_path / "lights"
        folder.mkdir()
        (tmp_path / "elsewhere").mkdir()
        stop, started, items = threading.Event(), threading.Event(), []
        ingest = IngestSettings(look_interval_s=0.05, rescan_interval_s=1000, settle_timeout_s=1.0)
        output = folder / "out"
        watcher = Watcher([folder], ingest, [output], stop=stop, check=check)
        if watcher._events.start() is not None:
            pytest.skip("this system gives no folder events")
        watcher._events.stop()

        def run() -> None:
            for item in watcher:
                started.set()
                if not isinstance(item, Idle):
                    items.append(item)

        thread = threading.Thread(target=run)
        thread.start()
        assert started.wait(60)

        def until_there(count: int) -> list:
            until(lambda: len(items) >= count)
            return items

        yield SimpleNamespace(folder=folder, elsewhere=tmp_path / "elsewhere", items=items, until=until_there)
        stop.set()
        thread.join(60)
        assert not thread.is_alive()

    def test_a_night(self, watched: SimpleNamespace) -> None:
        folder = watched.folder
        with open(folder / "bytes.fits", "wb", buffering=0) as file:
            for byte in WHOLE:
                file.write(bytes([byte]))
        assert names(watched.until(1)) == ["bytes.fits"]

        (watched.elsewhere / "moved.fits").write_bytes(WHOLE)
        (watched.elsewhere / "moved.fits").rename(folder / "moved.fits")
        assert names(watched.until(2)) == ["bytes.fits", "moved.fits"]

        (folder / "late.tmp").write_bytes(WHOLE)
        (folder / "late.tmp").rename(folder / "late.fits")
        assert names(watched.until(3))[-1] == "late.fits"

        (folder / "sub").mkdir()
        (folder / "sub" / "deep.fits").write_bytes(WHOLE)
        assert names(watched.until(4))[-1] == "deep.fits"

    def test_burst(self, watched: SimpleNamespace) -> None:
        for number in range(300):
            (watched.folder / f"light_{number}.fits").write_bytes(WHOLE)
        assert sorted(names(watched.until(300))) == sorted(f"light_{number}.fits" for number in range(300))

    def test_truncated_then_completed(self, watched: SimpleNamespace) -> None:
        (watched.folder / "a.fits").write_bytes(WHOLE[:30])
        assert [item.reason for item in watched.until(1)] == ["truncated"]
        (watched.folder / "a.fits").write_bytes(WHOLE)
        assert names(watched.until(2)) == ["a.fits"]

    def test_deleted_at_once_and_output_left_alone(self, watched: SimpleNamespace) -> None:
        (watched.folder / "out").mkdir()
        (watched.folder / "out" / "stack.fits").write_bytes(WHOLE)
        (watched.folder / "flash.fits").write_bytes(WHOLE)
        (watched.folder / "flash.fits").unlink()
        (watched.folder / "a.fits").write_bytes(WHOLE)
        items = watched.until(2)
        assert names(items) == ["a.fits"]
        assert [(item.path.name, item.reason) for item in items if isinstance(item, Refusal)] == [
            ("flash.fits", "vanished")
        ]

    def test_folder_goes_and_comes_back(self, watched: SimpleNamespace) -> None:
        watched.folder.rename(watched.elsewhere / "away")
        watched.until(1)
        watched.folder.mkdir()
        watched.until(2)
        time.sleep(0.2)
        (watched.folder / "a.fits").write_bytes(WHOLE)
        items = watched.until(3)
        assert [type(item) for item in items] == [Notice, Notice, Arrival]
