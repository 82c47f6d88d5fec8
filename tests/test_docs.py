"""The documents tell the truth: the page made from docstrings is current, and what they name is there."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).resolve().parents[1]
PAGES = [
    "docs/architecture.md", "docs/conventions.md", "docs/faults.md", "docs/lightcurves.md", "CONTRIBUTING.md",
    "benchmarks/README.md",
]  # fmt: skip


def load(path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_page_of_the_library_is_made_from_the_docstrings_of_today() -> None:
    made = load(ROOT / "docs" / "make_api.py").page()
    said = "docs/api.md is not that of today: python docs/make_api.py"
    assert made == (ROOT / "docs" / "api.md").read_text(encoding="utf-8"), said
    for name in ("LiveStack", "Result", "Outcome", "Settings", "read_frames", "FrameDone", "StackView"):
        assert re.search(rf"^## `?{name}\b", made, re.M), name


@pytest.mark.parametrize("page", PAGES)
def test_files_that_a_page_names_exist(page: str) -> None:
    text = (ROOT / page).read_text(encoding="utf-8")
    named = {name for name in re.findall(r"`([\w/]+\.(?:py|md|toml))", text) if "<" not in name}
    homes = (ROOT, ROOT / "livestack", ROOT / "tests", ROOT / "benchmarks", (ROOT / page).parent)
    lost = [name for name in named if not any((home / name).exists() for home in homes)]
    assert lost == []


def test_the_architecture_names_every_package() -> None:
    text = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    named = set(re.findall(r"^\| `(\w+)` \|", text, re.M))
    assert named == {path.name for path in (ROOT / "livestack").iterdir() if (path / "__init__.py").exists()}
