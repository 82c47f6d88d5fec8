"""The wheel and the source distribution hold all that the program needs, and run from where they are unpacked."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with wheel and source distribution, built from a copy of what belongs to the project."""
    pytest.importorskip("build", reason="the package `build` is not here")
    source, out = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("dist")
    kept = shutil.ignore_patterns("__pycache__")
    shutil.copytree(ROOT / "livestack", source / "livestack", ignore=kept)
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    words = [sys.executable, "-m", "build", "--no-isolation", "--outdir", str(out), str(source)]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return out


def needed() -> set[str]:
    """Files of the package, as they stand in the checkout."""
    found = (path for path in (ROOT / "livestack").rglob("*") if path.is_file())
    return {path.relative_to(ROOT).as_posix() for path in found if "__pycache__" not in path.parts}


def test_all_files_are_in_both(built: Path) -> None:
    (wheel,), (source,) = built.glob("*.whl"), built.glob("*.tar.gz")
    with zipfile.ZipFile(wheel) as archive:
        assert needed() <= set(archive.namelist())
    with tarfile.open(source) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    assert needed() <= names
    assert {"README.md", "LICENSE", "pyproject.toml"} <= names


def test_it_runs_where_it_is_unpacked(built: Path, tmp_path: Path) -> None:
    (wheel,) = built.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(tmp_path / "site")
    there = {**os.environ, "PYTHONPATH": str(tmp_path / "site"), "PYTHONSAFEPATH": "1"}
    script = "import livestack, livestack.faces.home.app, livestack.faces.web.app; print(livestack.__file__)"
    for words in (["-c", script], ["-m", "livestack", "--version"], ["-m", "livestack", "config"]):
        done = subprocess.run(
            [sys.executable, *words], cwd=tmp_path, env=there, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr
        if words[0] == "-c":
            assert done.stdout.startswith(str(tmp_path / "site"))
