"""What several test modules share: threads for kernels, the real frames, simulated nights."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from livestack.kernels.bands import Bands
from livestack.observers.plate_solving import PlateSolving
from tests.small_sessions import no_sky

REAL_FRAMES = Path(__file__).resolve().parents[2] / "shared" / "data"


@pytest.fixture(scope="session")
def bands() -> Iterator[Bands]:
    """Two threads, whatever the machine."""
    with Bands(2) as two:
        yield two


ASK = PlateSolving._begin


@pytest.fixture(autouse=True, scope="session")
def _no_sky() -> Iterator[None]:
    """Sessions of tests that are about something else do not look where they are in the sky."""
    with no_sky():
        yield


@pytest.fixture(autouse=True)
def _real_sky(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Those that are marked so do."""
    if request.node.get_closest_marker("real_sky") is not None:
        monkeypatch.setattr(PlateSolving, "_begin", ASK)


@pytest.fixture(scope="session")
def real_frames() -> Path:
    """Folder of real frames that are not part of the project."""
    if not REAL_FRAMES.is_dir():
        pytest.skip("the real frames (../shared/data) are not here")
    return REAL_FRAMES
