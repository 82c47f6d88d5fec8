"""A night of as many frames as the module's FRAMES says, and what a session makes of it that nothing happens to."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.small_sessions import run_session, simulate_night


@pytest.fixture(scope="module")
def night(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the frames; not to be changed."""
    return simulate_night(tmp_path_factory.mktemp("night") / "lights", request.module.FRAMES)


@pytest.fixture(scope="module")
def undisturbed(night: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Output of a session that nothing happened to."""
    output = tmp_path_factory.mktemp("undisturbed") / "out"
    assert run_session(night, output).status == 0
    return output
