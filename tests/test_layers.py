"""The row rule: a module imports only from rows above its own, never sideways; and what `import livestack` loads."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import livestack

PACKAGE = Path(livestack.__file__).parent

ROWS = """
errors distortion
settings frame snapshot kernels wording version durable defects folder events noise records canvas
formats resources calibrate cosmetic debayer stars transform stack render wcs timelapse lock configuration
compose binning
composite
masters registration features psf quality simulate enhance normalise develop journal settling
members
reference limits
placing
group watcher report artist darkroom masks
pipeline library remembering
saving checkpoint telling resuming feed compiling
products
keeping
session doctor merging
terminal desktop web
running
cli
"""
"""Top row first. A new module gets its place here, with the lowest row that its imports demand."""

ROW_OF = {name: number for number, row in enumerate(ROWS.split("\n")) for name in row.split()}
HEAVY = ("watchdog", "matplotlib", "rich", "starlette", "typer", "uvicorn", "rawpy")


def modules() -> list[str]:
    """Modules and packages directly below `livestack`."""
    found = {path.relative_to(PACKAGE).parts[0].removesuffix(".py") for path in PACKAGE.rglob("*.py")}
    return sorted(found - {"__init__", "__main__"})


def imported(source: str) -> set[str]:
    """Names directly below `livestack` that a source imports, wherever in it (in functions and for types too)."""
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
    """Imports of a module `name` that are not from a row above its own; a package may import within itself."""
    return {other for other in imported(source) - {name} if ROW_OF.get(other, len(ROW_OF)) >= ROW_OF[name]}


def test_every_module_has_a_row() -> None:
    assert [name for name in modules() if name not in ROW_OF] == [], "give new modules a row in ROWS"


@pytest.mark.parametrize("name", modules())
def test_imports_only_from_rows_above(name: str) -> None:
    path = PACKAGE / name
    for file in path.rglob("*.py") if path.is_dir() else [path.with_suffix(".py")]:
        assert breaches(name, file.read_text(encoding="utf-8")) == set(), file.name


def test_the_rule_is_able_to_fail() -> None:
    assert breaches("stars", "from livestack.settings import Settings") == set()
    assert breaches("stars", "from livestack.stack import Stack") == {"stack"}
    assert breaches("stars", "def f():\n    import livestack.session as s") == {"session"}
    assert breaches("stars", "from livestack import pipeline, __version__") == {"pipeline"}
    assert breaches("stars", "from livestack import unheard_of") == {"unheard_of"}
    assert breaches("web", "from livestack.web.feed import Feed") == set()


def test_importing_the_package_loads_nothing_heavy() -> None:
    code = "import sys, livestack; print(*{name.split('.')[0] for name in sys.modules})"
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    loaded = set(ended.stdout.split())
    assert "livestack" in loaded
    assert loaded & set(HEAVY) == set()


def test_watching_loads_watchdog_only_when_it_starts() -> None:
    code = "import sys, livestack.watcher; print(*{name.split('.')[0] for name in sys.modules})"
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert set(ended.stdout.split()) & set(HEAVY) == set()
