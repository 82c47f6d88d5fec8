"""What several test modules share: threads for kernels, the real frames, simulated nights."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from livestack.kernels.bands import Bands
from livestack.observers.passages import Passages
from livestack.observers.plate_solving import PlateSolving
from tests.small_sessions import no_sky

REAL_FRAMES = Path(__file__).resolve().parents[2] / "shared" / "data"


@pytest.fixture(scope="session")
def bands() -> Iterator[Bands]:
    """Two threads, whatever the machine."""
    with Bands(2) as two:
        yield two


ASK, LOOK = PlateSolving._begin, Passages._begin
TESTS = Path(__file__).parent
LONG = ("session", "engine", "faces", "observers", "test_soak.py", "detection", "photometry")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What takes long begins first, else one process works on alone at the end; files stay whole."""

    def turn(item: pytest.Item) -> int:
        first = item.path.relative_to(TESTS).parts[0]
        return LONG.index(first) if first in LONG else len(LONG)

    items.sort(key=turn)


@pytest.fixture(autouse=True, scope="session")
def _no_sky() -> Iterator[None]:
    """Sessions of tests that are about something else do not look where they are in the sky."""
    with no_sky():
        yield


@pytest.fixture(autouse=True)
def _real_sky(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Those that are marked `real_sky` do, and those marked `passages` look for what passes."""
    if request.node.get_closest_marker("real_sky") is not None:
        monkeypatch.setattr(PlateSolving, "_begin", ASK)
    if request.node.get_closest_marker("passages") is not None:
        monkeypatch.setattr(Passages, "_begin", LOOK)


@pytest.fixture(scope="session")
def real_frames() -> Path:
    """Folder of real frames that are not part of the project."""
    if not REAL_FRAMES.is_dir():
        pytest.skip("the real frames (../shared/data) are not here")
    return REAL_FRAMES
