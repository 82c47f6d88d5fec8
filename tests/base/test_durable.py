"""Durable files: the old one or the new one, never half; what was saved is what is loaded, or it is refused."""

from __future__ import annotations

import errno
import hashlib
import os
import subprocess
import sys
import tempfile
import textwrap
from pathlib import Path
from typing import BinaryIO

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from livestack.base import durable
from livestack.base.durable import (
    DamagedFile,
    checksum_file,
    free_bytes,
    load_arrays,
    remove_leftovers,
    replacing,
    save_arrays,
    write_atomically,
)
from livestack.base.errors import LivestackError, SessionError


def files(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def run_python(code: str, *arguments: object) -> subprocess.CompletedProcess[bytes]:
    command = [sys.executable, "-c", textwrap.dedent(code), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, timeout=60, check=False)


def small_arrays(code: str) -> st.SearchStrategy[np.ndarray]:
    return hnp.arrays(np.dtype(code), hnp.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=5))


class TestWriteAtomically:
    def test_writes_bytes_and_leaves_nothing_beside(self, tmp_path: Path) -> None:
        write_atomically(tmp_path / "new" / "a.txt", b"one")
        write_atomically(tmp_path / "new" / "a.txt", lambda file: file.write(b"two") and None)
        assert (tmp_path / "new" / "a.txt").read_bytes() == b"two"
        assert files(tmp_path / "new") == ["a.txt"]

    def test_failure_in_the_middle_keeps_the_old_file(self, tmp_path: Path) -> None:
        path = tmp_path / "a.txt"
        path.write_bytes(b"old")

        def fail(file: BinaryIO) -> None:
            file.write(b"half of the new")
            file.flush()
            raise ZeroDivisionError

        with pytest.raises(ZeroDivisionError):
            write_atomically(path, fail)
        assert path.read_bytes() == b"old"
        assert files(tmp_path) == ["a.txt"]

    def test_process_killed_in_the_middle_keeps_the_old_file(self, tmp_path: Path) -> None:
        path = tmp_path / "a.txt"
        path.write_bytes(b"old")
        ended = run_python(
            """
            import os, sys
            from pathlib import Path
            from livestack.base.durable import write_atomically
            def die(file):
                file.write(b"half of the new")
                file.flush()
                os._exit(9)
            write_atomically(Path(sys.argv[1]), die)
            """,
            path,
        )
        assert ended.returncode == 9, ended.stderr
        assert path.read_bytes() == b"old"
        assert len(files(tmp_path)) == 2
        assert remove_leftovers(tmp_path) == 1
        assert files(tmp_path) == ["a.txt"]

    def test_readers_never_see_half(self, tmp_path: Path) -> None:
        """A reader in another process, while the file is replaced 200 times."""
        path = tmp_path / "preview.jpg"
        write_atomically(path, bytes(1000))
        reader = subprocess.Popen(
            [
                sys.executable,
                "-c",
                "import sys, pathlib\nwhile (b := pathlib.Path(sys.argv[1]).read_bytes())[:1] != b'z':\n"
                "    assert len(b) == 1000 and len(set(b)) == 1, b",
                str(path),
            ]
        )
        for number in range(200):
            write_atomically(path, bytes([number % 100]) * 1000)
        write_atomically(path, b"z" * 1000)
        assert reader.wait(30) == 0

    def test_name_for_writers_that_want_one_keeps_the_suffix(self, tmp_path: Path) -> None:
        with replacing(tmp_path / "stack.tif") as temporary:
            assert temporary.suffix == ".tif"
            assert temporary.name.startswith(".")
            temporary.write_bytes(b"x")
            assert not (tmp_path / "stack.tif").exists()
        assert files(tmp_path) == ["stack.tif"]

    def test_order_is_content_sync_rename_sync(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        steps = []
        monkeypatch.setattr(durable, "sync_file", lambda descriptor: steps.append("sync file"))
        monkeypatch.setattr(durable, "sync_folder", lambda folder: steps.append("sync folder"))
        real = os.replace
        monkeypatch.setattr(os, "replace", lambda a, b: (steps.append("rename"), real(a, b)))
        write_atomically(tmp_path / "a", lambda file: steps.append("content"))
        assert steps == ["content", "sync file", "rename", "sync folder"]

    @pytest.mark.parametrize(
        ("number", "words"),
        [
            (errno.ENOSPC, "the disk is full or the quota used up"),
            (errno.EDQUOT, "MB free"),
            (errno.EROFS, "read-only"),
            (errno.EACCES, "--output"),
            (errno.EIO, "the folder or its disk is gone"),
            (errno.ENODEV, "livestack resume"),
            (errno.EFBIG, "check the disk"),
        ],
    )
    def test_disk_trouble_is_one_sentence(self, tmp_path: Path, number: int, words: str) -> None:
        def fail(file: BinaryIO) -> None:
            raise OSError(number, os.strerror(number))

        with pytest.raises(SessionError) as caught:
            write_atomically(tmp_path / "stack.fits", fail)
        text = str(caught.value)
        assert text.startswith(f"{tmp_path / 'stack.fits'}: cannot be written: ")
        assert words in text
        assert "\n" not in text
        assert files(tmp_path) == []

    @pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full here")
    def test_really_full_disk(self) -> None:
        with pytest.raises(OSError, match="No space left") as caught, open("/dev/full", "wb", buffering=0) as file:
            file.write(b"x")
        assert "disk is full" in str(durable.storage_error(Path("/dev/full"), caught.value))


class TestChecksum:
    def test_is_blake2b(self, tmp_path: Path) -> None:
        data = np.random.default_rng(1).bytes(3_000_001)
        (tmp_path / "a").write_bytes(data)
        assert checksum_file(tmp_path / "a") == hashlib.blake2b(data, digest_size=32).hexdigest()

    def test_free_bytes_of_what_is_not_there_yet(self, tmp_path: Path) -> None:
        assert free_bytes(tmp_path / "not" / "yet") > 0
        assert abs(free_bytes(tmp_path / "not" / "yet") - free_bytes(tmp_path)) < 1e9


class TestArrays:
    @settings(max_examples=60, deadline=None)
    @given(
        st.dictionaries(st.text(max_size=5), st.sampled_from("?bBhHiIqQefdFD").flatmap(small_arrays), max_size=3),
        st.dictionaries(st.text(max_size=3), st.integers() | st.text(max_size=3) | st.none(), max_size=3),
    )
    def test_loads_what_was_saved(self, arrays: dict[str, np.ndarray], meta: dict) -> None:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "state.bin"
            assert save_arrays(path, arrays, meta) == path.stat().st_size
            loaded, meta_loaded = load_arrays(path)
        assert meta_loaded == meta
        assert list(loaded) == list(arrays)
        for name, array in arrays.items():
            assert loaded[name].dtype == array.dtype
            np.testing.assert_array_equal(loaded[name], array)
            assert loaded[name].flags.c_contiguous
            assert loaded[name].flags.writeable

    def test_large_strided_and_swapped(self, tmp_path: Path) -> None:
        """Longer than a piece; columns first; every second pixel; big-endian, as FITS has it."""
        rng = np.random.default_rng(2)
        cube = rng.normal(size=(3, 700, 901)).astype(np.float32)
        cube[0, 3, 5] = np.nan
        arrays = {
            "cube": cube,
            "f": np.asfortranarray(cube[1]),
            "step": cube[:, ::2, ::3],
            "big": cube[2].astype(">f4"),
        }
        save_arrays(tmp_path / "a", arrays, {})
        loaded, _ = load_arrays(tmp_path / "a")
        for name, array in arrays.items():
            np.testing.assert_array_equal(loaded[name], array)
            assert loaded[name].dtype == array.dtype

    def test_same_state_same_file(self, tmp_path: Path) -> None:
        arrays = {"a": np.arange(10), "b": np.eye(3)}
        save_arrays(tmp_path / "1", arrays, {"n": 1})
        save_arrays(tmp_path / "2", arrays, {"n": 1})
        assert checksum_file(tmp_path / "1") == checksum_file(tmp_path / "2")

    def test_every_cut_and_every_flipped_byte_is_found(self, tmp_path: Path) -> None:
        path = tmp_path / "state.bin"
        save_arrays(path, {"mean": np.arange(6, dtype=np.float32), "n": np.ones((2, 3), np.uint8)}, {"frames": 7})
        good = path.read_bytes()
        for position in range(len(good)):
            path.write_bytes(good[:position])
            with pytest.raises(DamagedFile, match=r"state.bin: damaged"):
                load_arrays(path)
            path.write_bytes(good[:position] + bytes([good[position] ^ 1]) + good[position + 1 :])
            with pytest.raises(DamagedFile, match=r"state.bin: damaged"):
                load_arrays(path)
        path.write_bytes(good + b"x")
        with pytest.raises(DamagedFile, match="goes on"):
            load_arrays(path)

    def test_damage_names_the_array_and_is_of_our_tree(self, tmp_path: Path) -> None:
        path = tmp_path / "state.bin"
        save_arrays(path, {"mean": np.zeros(5), "weight": np.zeros(5)}, {})
        data = bytearray(path.read_bytes())
        data[-40] ^= 1
        path.write_bytes(data)
        with pytest.raises(ValueError, match="array 'weight' does not match its checksum") as caught:
            load_arrays(path)
        assert isinstance(caught.value, LivestackError)

    def test_missing_and_newer(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        with pytest.raises(SessionError, match="cannot be read"):
            load_arrays(tmp_path / "none")
        monkeypatch.setattr(durable, "FORMAT_VERSION", 2)
        save_arrays(tmp_path / "a", {}, {})
        monkeypatch.setattr(durable, "FORMAT_VERSION", 1)
        with pytest.raises(DamagedFile, match="newer livestack"):
            load_arrays(tmp_path / "a")

    def test_objects_and_nan_in_meta_are_refused(self, tmp_path: Path) -> None:
        with pytest.raises(ValueError, match=r"arrays\['x'\]: expected plain numbers"):
            save_arrays(tmp_path / "a", {"x": np.array([None])}, {})
        with pytest.raises(ValueError, match="JSON"):
            save_arrays(tmp_path / "a", {}, {"x": float("nan")})
        assert files(tmp_path) == []

    def test_full_disk_is_told_before_it_is_filled(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(durable, "free_bytes", lambda path: 1000)
        with pytest.raises(SessionError, match="disk is full"):
            save_arrays(tmp_path / "a", {"x": np.zeros(1000)}, {})
        assert files(tmp_path) == []

    def test_process_killed_while_saving_keeps_the_old_state(self, tmp_path: Path) -> None:
        path = tmp_path / "state.bin"
        save_arrays(path, {"x": np.arange(5)}, {"frames": 1})
        ended = run_python(
            """
            import os, sys
            from pathlib import Path
            import numpy as np
            from livestack.base import durable
            def die(*_): os._exit(9)
            durable._rename = die
            durable.save_arrays(Path(sys.argv[1]), {"x": np.zeros(100000)}, {"frames": 2})
            """,
            path,
        )
        assert ended.returncode == 9, ended.stderr
        assert load_arrays(path)[1] == {"frames": 1}
