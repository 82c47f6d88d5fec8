"""The rule of the house: a package imports only from packages above its own; and what `import livestack` loads."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import livestack

PACKAGE = Path(livestack.__file__).parent

LAYERS = """
base kernels simulate
formats
calibration detection
registration
astrometry
quality
stacking
following
photometry picture movers
ephemeris
engine
observers products
session
faces
"""
"""The topmost first. Packages of one line do not know each other, but for `allowed`."""

LAYER_OF = {name: number for number, line in enumerate(LAYERS.split("\n")) for name in line.split()}
ALLOWED = {("simulate", "base"), ("simulate", "kernels")}
"""The simulator shares the words and the loops, never a reader: what is tested must not be its own judge."""
HEAVY = ("watchdog", "matplotlib", "rich", "starlette", "typer", "uvicorn", "rawpy")


def packages() -> list[str]:
    """Packages directly below `livestack`."""
    return sorted(path.name for path in PACKAGE.iterdir() if path.is_dir() and path.name != "__pycache__")


def imported(source: str) -> set[str]:
    """Packages directly below `livestack` that a source imports, wherever in it (in functions and for types too)."""
    found = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found |= {alias.name.split(".")[1] for alias in node.names if alias.name.startswith("livestack.")}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"relative import of {node.module}: write it in full"
            if node.module == "livestack":
                found |= {alias.name for alias in node.names} - {"__version__"}
            elif node.module and node.module.startswith("livestack."):
                found.add(node.module.split(".")[1])
    return found


def breaches(name: str, source: str) -> set[str]:
    """Imports of a package `name` that are not from a layer above its own; a package may import within itself."""
    return {
        other
        for other in imported(source) - {name}
        if LAYER_OF.get(other, len(LAYER_OF)) >= LAYER_OF[name] and (name, other) not in ALLOWED
    }


def test_all_code_lies_in_packages_and_each_has_a_layer() -> None:
    flat = {path.name for path in PACKAGE.iterdir() if path.is_file()}
    assert flat == {"__init__.py", "__main__.py", "py.typed"}
    assert [name for name in packages() if name not in LAYER_OF] == [], "give a new package a line in LAYERS"


@pytest.mark.parametrize("name", packages())
def test_imports_only_from_layers_above(name: str) -> None:
    for file in (PACKAGE / name).rglob("*.py"):
        assert breaches(name, file.read_text(encoding="utf-8")) == set(), file.relative_to(PACKAGE)


def test_the_rule_is_able_to_fail() -> None:
    assert breaches("detection", "from livestack.base.settings import Settings") == set()
    assert breaches("detection", "from livestack.stacking.accumulators import Stack") == {"stacking"}
    assert breaches("engine", "def f():\n    import livestack.session.session as s") == {"session"}
    assert breaches("engine", "from livestack import observers, __version__") == {"observers"}
    assert breaches("engine", "from livestack import unheard_of") == {"unheard_of"}
    assert breaches("calibration", "from livestack.detection import detect") == {"detection"}
    assert breaches("simulate", "from livestack.formats import read_frame") == {"formats"}
    assert breaches("faces", "from livestack.faces.web.encoder import Encoder") == set()


def test_each_package_has_its_tests_in_a_folder_of_its_name() -> None:
    folder = Path(__file__).parent
    tested = {path.parent.name for path in folder.rglob("test_*.py") if path.parent != folder}
    assert tested == set(packages())


def test_importing_the_package_loads_nothing_heavy() -> None:
    code = "import sys, livestack; print(*{name.split('.')[0] for name in sys.modules})"
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    loaded = set(ended.stdout.split())
    assert "livestack" in loaded
    assert loaded & set(HEAVY) == set()


def test_watching_loads_watchdog_only_when_it_starts() -> None:
    code = "import sys, livestack.session.watcher; print(*{name.split('.')[0] for name in sys.modules})"
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert set(ended.stdout.split()) & set(HEAVY) == set()
