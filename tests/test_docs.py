"""The documents tell the truth: the page made from docstrings is current, and what they name is there."""

from __future__ import annotations

import importlib.util
import os
import re
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

from livestack.quality import REASONS
from livestack.quality.alerts import LEVELS, Alerts

ROOT = Path(__file__).resolve().parents[1]
PAGES = [
    "docs/architecture.md", "docs/conventions.md", "docs/faults.md", "docs/lightcurves.md", "docs/install.md",
    "docs/troubleshooting.md", "CONTRIBUTING.md", "benchmarks/README.md",
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


def test_the_page_of_sentences_is_made_from_the_source_of_today() -> None:
    made = load(ROOT / "docs" / "make_sentences.py").page()
    said = "docs/sentences.md is not that of today: python docs/make_sentences.py"
    assert made == (ROOT / "docs" / "sentences.md").read_text(encoding="utf-8"), said
    for words in ("another program uses this port", "is damaged", "cannot be written", "livestack resume"):
        assert words in made, words


def test_every_reason_and_every_warning_has_its_place() -> None:
    text = (ROOT / "docs" / "troubleshooting.md").read_text(encoding="utf-8")
    assert set(re.findall(r"^\| `(\w+)` \|", text, re.M)) == set(REASONS)
    source = Path(str(sys.modules[Alerts.__module__].__file__)).read_text(encoding="utf-8")
    warnings = text.split("## A warning")[1].split("\n## ")[0].splitlines()[4:]
    begins = [line.split("|")[1].strip() for line in warnings if line.startswith("| ")]
    assert all(words in source for words in begins)
    assert len(begins) == len(LEVELS) + 1, "tracking has two sentences, all others one"


def test_the_site_is_whole(tmp_path: Path) -> None:
    pytest.importorskip("material", reason="mkdocs-material is not here: pip install -e '.[docs]'")
    quiet = {**os.environ, "NO_MKDOCS_2_WARNING": "1"}
    words = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(tmp_path)]
    built = subprocess.run(words, cwd=ROOT, env=quiet, capture_output=True, text=True, check=False)
    assert built.returncode == 0, built.stderr
    page = (tmp_path / "first-night.html").read_text(encoding="utf-8")
    assert "livestack demo" in page
    fetched = re.findall(r'<(?:script|img|link rel="stylesheet")[^>]*(?:src|href)="(https?:[^"]+)"', page)
    assert fetched == []
