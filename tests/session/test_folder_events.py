"""Folder events: each name once, only what announces content, nothing left running."""

from __future__ import annotations

import errno
import os
import threading
from pathlib import Path
from types import SimpleNamespace

import pytest

from livestack.session.folder_events import FolderEvents, native_observer


def event(kind: str, path: str | bytes, new: str | bytes = "", is_directory: bool = False) -> SimpleNamespace:
    return SimpleNamespace(event_type=kind, src_path=path, dest_path=new, is_directory=is_directory)


@pytest.fixture
def events() -> FolderEvents:
    return FolderEvents(["/night"], True, native_observer)


def test_a_name_is_kept_once_in_the_order_of_its_first_event(events: FolderEvents) -> None:
    for number in range(1000):
        events.dispatch(event("modified", "/night/b.fits"))
        events.dispatch(event("modified", f"/night/{number % 3}.fits"))
    assert len(events) == 4
    assert events.take() == (["/night/b.fits", "/night/0.fits", "/night/1.fits", "/night/2.fits"], {})
    assert events.take() == ([], {})


@pytest.mark.parametrize("kind", ["opened", "closed_no_write", "deleted", "attrib"])
def test_what_announces_no_content_is_ignored(events: FolderEvents, kind: str) -> None:
    events.dispatch(event(kind, "/night/a.fits"))
    assert len(events) == 0


def test_new_folders_count_and_changed_ones_do_not(events: FolderEvents) -> None:
    """A folder is 'modified' by each file written into it: that would be a scan for each."""
    events.dispatch(event("modified", "/night", is_directory=True))
    assert len(events) == 0
    events.dispatch(event("created", "/night/sub", is_directory=True))
    events.dispatch(event("moved", "/night/x", "/night/y", is_directory=True))
    assert events.take()[0] == ["/night/sub", "/night/y"]


def test_renaming_is_remembered_and_names_may_be_bytes(events: FolderEvents) -> None:
    name = os.fsencode("/night/Ñ.fits")
    events.dispatch(event("moved", b"/night/a.tmp", name))
    events.dispatch(event("moved", "/night/a.fits", ""))
    assert events.take() == (["/night/Ñ.fits"], {"/night/Ñ.fits": "/night/a.tmp"})


def test_start_that_fails_leaves_nothing_running(tmp_path: Path) -> None:
    before = threading.active_count()
    events = FolderEvents([str(tmp_path), str(tmp_path / "missing")], True, native_observer)
    assert events.start() is not None
    assert not events.running
    events.stop()
    assert threading.active_count() <= before + 1  # watchdog keeps one reader of inotify for the whole process


def test_exhausted_limit_says_which(tmp_path: Path) -> None:
    def none_left() -> None:
        raise OSError(errno.ENOSPC, "inotify watch limit reached")

    events = FolderEvents([str(tmp_path)], True, none_left)  # type: ignore[arg-type]
    assert events.start() == (
        "inotify watch limit reached; raising fs.inotify.max_user_watches and max_user_instances helps"
    )


def test_stop_twice_and_watch_when_stopped(tmp_path: Path) -> None:
    events = FolderEvents([str(tmp_path)], True, native_observer)
    events.stop()
    assert events.start() is None
    assert events.running
    events.watch(str(tmp_path))
    events.stop()
    events.stop()
    events.watch(str(tmp_path))
    assert not events.running
