"""What several test modules share: threads for kernels, the real frames, simulated nights."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from livestack.kernels.bands import Bands

REAL_FRAMES = Path(__file__).resolve().parents[2] / "shared" / "data"


@pytest.fixture(scope="session")
def bands() -> Iterator[Bands]:
    """Two threads, whatever the machine."""
    with Bands(2) as two:
        yield two


@pytest.fixture(scope="session")
def real_frames() -> Path:
    """Folder of real frames that are not part of the project."""
    if not REAL_FRAMES.is_dir():
        pytest.skip("the real frames (../shared/data) are not here")
    return REAL_FRAMES
