"""What lies in a folder: order, exclusions, links, network shares."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from livestack.base import folder
from livestack.base.folder import Exclusion, mount_type, natural_key, network_file_system, say_name, scan


@given(st.lists(st.text(), max_size=8))
def test_natural_order_is_total(words: list[str]) -> None:
    assert len({natural_key(word) for word in words}) == len(set(words))


def test_natural_order() -> None:
    words = ["b1", "a10.fits", "A9.fits", "a9.fits", "a1b2", "a1b10", "10", "9", "", "a.fits", "a²"]
    assert sorted(words, key=natural_key) == [
        "",
        "9",
        "10",
        "a.fits",
        "a1b2",
        "a1b10",
        "A9.fits",
        "a9.fits",
        "a10.fits",
        "a²",
        "b1",
    ]


def test_mount_table() -> None:
    table = (
        "/dev/sda / ext4 rw 0 0\n//nas/astro /mnt/my\\040nas cifs rw 0 0\n"
        "sshfs /mnt/my\\040nas/deep fuse.sshfs rw\n"
        "auto /net autofs rw 0 0\nhost:/x /net nfs4 rw 0 0\nodd\n"
    )
    assert mount_type("/home/me", table) == "ext4"
    assert mount_type("/mnt/my nas/lights", table) == "cifs"
    assert mount_type("/mnt/my nas/deep/er", table) == "fuse.sshfs"
    assert mount_type("/mnt/my nasty", table) == "ext4"
    assert mount_type("/net", table) == "nfs4"


def test_sentences_have_one_line() -> None:
    assert say_name("/x/two\nlines.fits") == "'two\\nlines.fits'"
    assert say_name("/x/Ñandú.fits") == "Ñandú.fits"


def test_case_of_the_output_folder(tmp_path: Path) -> None:
    """Where the disk knows no case, another spelling is the same folder; where it does, it is another one."""
    (tmp_path / "OUT").mkdir()
    same = (tmp_path / "out").exists()
    assert Exclusion([str(tmp_path)], [tmp_path / "OUT"]).covers(str(tmp_path / "out")) == same


def test_scan_finds_thousands(tmp_path: Path) -> None:
    for number in range(2000):
        (tmp_path / f"{number}.fits").touch()
    entries = list(scan(str(tmp_path), True, Exclusion([str(tmp_path)], []), lambda path: True))
    assert len({entry.key.path for entry in entries}) == 2000


@pytest.mark.skipif(sys.platform == "win32", reason="drives are asked another way there")
@pytest.mark.parametrize(
    ("kind", "share"),
    [("nfs4", True), ("cifs", True), ("smb3", True), ("fuse.sshfs", True), ("fuse.rclone", True), ("9p", True),
     ("vboxsf", True), ("smbfs", True), ("ext4", False), ("fuseblk", False), ("fuse.exfat", False), ("apfs", False),
     ("overlay", False), ("", False)],
)  # fmt: skip
def test_which_file_systems_are_shares(kind: str, share: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(folder, "_mount_table", lambda: f"x / {kind} rw 0 0")
    assert (network_file_system(str(tmp_path)) is not None) == share


@pytest.mark.skipif(sys.platform == "win32", reason="drives are asked another way there")
def test_mount_table_of_macos(monkeypatch: pytest.MonkeyPatch) -> None:
    said = b"""/dev/disk3s1s1 on / (apfs, sealed, local, read-only, journaled)
//me@nas._smb._tcp.local/astro on /Volumes/my astro (smbfs, nodev, nosuid, mounted by me)
/dev/disk4s1 on /Volumes/CARD (msdos, local, nodev)
"""
    monkeypatch.setattr(sys, "platform", "darwin")
    monkeypatch.setattr(subprocess, "run", lambda *_, **__: subprocess.CompletedProcess([], 0, said, b""))
    assert network_file_system("/Volumes/my astro/lights") == "smbfs"
    assert network_file_system("/Volumes/CARD/lights") is None


def test_root_that_cannot_be_listed(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="gone"):
        list(scan(str(tmp_path / "gone"), True, Exclusion([], []), lambda name: True))


@pytest.mark.skipif(sys.platform == "win32", reason="links need a privilege there")
def test_excluded_by_identity_through_a_link(tmp_path: Path) -> None:
    (tmp_path / "results").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "results")
    exclusion = Exclusion([str(tmp_path)], [tmp_path / "link"])
    assert exclusion.covers(str(tmp_path / "results"))
    assert exclusion.covers(str(tmp_path / "results" / "deep" / "er"))
    assert not exclusion.covers(str(tmp_path / "result"))
    assert exclusion.holding(str(tmp_path / "results" / "deep")) == str(tmp_path / "results")
    assert exclusion.holding(str(tmp_path)) is None


@pytest.mark.parametrize(
    ("path", "named"),
    [
        ("/n/DARK/a.fits", "DARK"),
        ("/n/flats 2s/R/a.fits", "flats 2s"),
        ("/n/Bias_01/a.fits", "Bias_01"),
        ("/n/dark-flats/a.fits", "dark-flats"),
        ("/n/darks/lights/a.fits", None),
        ("/n/LIGHT/dark_a.fits", None),
        ("/n/Dark nebulae/a.fits", None),
        ("/n/biased/a.fits", None),
        ("/n/a.fits", None),
        ("/dark/n/a.fits", None),
        ("/nights/dark/a.fits", None),
    ],
)
def test_folders_of_calibration_frames_are_known_by_their_whole_name(path: str, named: str | None) -> None:
    assert folder.calibration_folder(path, ["/n"]) == named
