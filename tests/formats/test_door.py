"""The door: names, wrong names, folders, links, permissions; every refusal is a sentence."""

from __future__ import annotations

import os
from pathlib import Path

import cv2
import numpy as np
import pytest
from astropy.io import fits

from livestack.base.errors import TruncatedFrame, UnreadableFrame, VanishedFrame
from livestack.formats import SUFFIXES, check_complete, count_frames, is_frame_name, read_frame, read_frames, read_info

LOOKS = (check_complete, count_frames, read_info, read_frame, lambda path: list(read_frames(path)))


@pytest.mark.parametrize(
    "name",
    [
        *["a.fit", "A.FITS", "x/y/b.fts", "c.fits.fz", "c.fit.gz", "d.Tif", "e.jpeg", "f.CR2", "g.dng", "h.ser"],
        *["i.xisf", "M 31_10.0s.fit", "a.b.c.png", "tmp.fits", "part.fit"],
    ],
)
def test_frame_names(name: str) -> None:
    assert is_frame_name(name)
    assert is_frame_name(Path("/some/folder.tmp") / name)


@pytest.mark.parametrize(
    "name",
    [
        *[".a.fits", "._a.fits", "a.fits~", "a.fits.tmp", "a.tmp.fits", "a.fit.part", "a.fits.crdownload", "~a.fit"],
        *[".fits", "a.txt", "a", "fits", "a.gz", "a.json", "", "a.fits.sha1", "Thumbs.db", "#a.fits"],
    ],
)
def test_other_names(name: str) -> None:
    assert not is_frame_name(name)


def test_suffixes_are_lower_case_and_complete() -> None:
    assert all(suffix == suffix.lower() and suffix.startswith(".") for suffix in SUFFIXES)
    assert {".fits", ".fits.fz", ".fits.gz", ".cr3", ".raf", ".orf", ".rw2", ".pef", ".nef", ".arw"} <= SUFFIXES


@pytest.mark.parametrize("suffix", sorted(SUFFIXES))
def test_every_kind_meets_the_same_fates(tmp_path: Path, suffix: str) -> None:
    """Missing, empty, zeros, text and a folder under each name: the right error, from every function."""
    path = tmp_path / f"frame{suffix}"
    fates: list[tuple[type[Exception], str]] = []
    for look in LOOKS:
        with pytest.raises(VanishedFrame, match="is not there"):
            look(path)
    for content, error, words in [
        (b"", TruncatedFrame, "is empty so far"),
        (bytes(5000), TruncatedFrame, "5000 bytes which are zeros so far"),
        (b"Dear observatory,\n the clouds ...", UnreadableFrame, "holds text"),
        (b"GIF89a" + bytes(range(256)), UnreadableFrame, "a GIF picture"),
    ]:
        path.write_bytes(content)
        fates.append((error, words))
        for look in LOOKS:
            with pytest.raises(error, match=words):
                look(path)
    path.unlink()
    path.mkdir()
    for look in LOOKS:
        with pytest.raises(UnreadableFrame, match="is a folder"):
            look(path)


def test_a_png_named_fits_says_so(tmp_path: Path) -> None:
    path = tmp_path / "light.fits"
    path.write_bytes(cv2.imencode(".png", np.zeros((4, 5), np.uint8))[1].tobytes())
    with pytest.raises(UnreadableFrame, match=r"light\.fits is named like FITS but holds PNG data; give it the right"):
        check_complete(path)


def test_a_fits_named_tif_says_so(tmp_path: Path) -> None:
    fits.PrimaryHDU(np.zeros((4, 5), np.uint16)).writeto(tmp_path / "a.fits")
    path = (tmp_path / "a.fits").rename(tmp_path / "a.tif")
    with pytest.raises(UnreadableFrame, match="named like TIFF but holds FITS data"):
        read_frame(path)


def test_unknown_ending(tmp_path: Path) -> None:
    path = tmp_path / "notes.txt"
    path.write_text("x")
    with pytest.raises(UnreadableFrame, match=r"notes\.txt has no ending that we read"):
        read_frame(path)


def test_links(tmp_path: Path) -> None:
    loop = tmp_path / "loop.fits"
    loop.symlink_to(loop)
    with pytest.raises(UnreadableFrame, match="leads back to itself"):
        check_complete(loop)
    dangling = tmp_path / "dangling.fits"
    dangling.symlink_to(tmp_path / "gone.fits")
    with pytest.raises(VanishedFrame):
        check_complete(dangling)
    fits.PrimaryHDU(np.zeros((4, 5), np.uint16)).writeto(tmp_path / "a.fits")
    good = tmp_path / "good.fits"
    good.symlink_to(tmp_path / "a.fits")
    assert read_frame(good).info.size == (5, 4)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no named pipes on this system")
def test_a_pipe_never_blocks(tmp_path: Path) -> None:
    path = tmp_path / "pipe.fits"
    os.mkfifo(path)
    with pytest.raises(UnreadableFrame, match="is a device or pipe"):
        check_complete(path)


def test_no_permission(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By a stand-in for `open`, since root may read everything."""
    path = tmp_path / "a.fits"
    path.write_bytes(b"SIMPLE  =")

    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr("builtins.open", refuse)
    with pytest.raises(UnreadableFrame, match="may not be read by this user"):
        check_complete(path)


def test_paths_may_be_text(tmp_path: Path) -> None:
    path = tmp_path / "a.fits"
    fits.PrimaryHDU(np.zeros((4, 5), np.uint16)).writeto(path)
    assert read_frame(str(path)).path == path
