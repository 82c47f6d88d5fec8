"""Sessions put together from the command line: taking frames out of a finished one."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits

from livestack.base.errors import UsageError
from livestack.faces import run as running
from livestack.simulate import named_scenario, write_session


@pytest.fixture(scope="module")
def night(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("night")
    write_session(named_scenario("trails", frames=7, width=300, height=220, seed=3), folder / "lights")
    options = {"output": folder / "session", "json": True}
    assert running.run([folder / "lights"], options, one_shot=True) == 0
    return folder


def test_a_session_without_a_frame_is_as_if_it_had_never_come(night: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = (night / "session" / "session.jsonl").read_bytes()
    assert running.remove(night / "session", ["trails_0003.fits"], None) == 0
    assert (night / "session" / "session.jsonl").read_bytes() == before
    others = [file for file in sorted((night / "lights").glob("*.fits")) if file.name != "trails_0003.fits"]
    assert running.run(others, {"output": night / "others", "json": True}, one_shot=True) == 0
    with (
        fits.open(night / "session-without-1" / "m-27" / "stack.fits") as ours,
        fits.open(night / "others" / "m-27" / "stack.fits") as expected,
    ):
        assert ours[0].header["NCOMBINE"] == 6
        for one, other in zip(ours, expected, strict=True):
            assert np.array_equal(one.data, other.data, equal_nan=True), one.name


def test_a_frame_that_is_not_in_it_is_named(night: Path) -> None:
    with pytest.raises(UsageError, match=r"nope\.fits: is not among the 7 stacked frames"):
        running.remove(night / "session", ["nope.fits"], None)
    with pytest.raises(UsageError, match="nothing would be left"):
        running.remove(night / "session", [f"trails_000{i}.fits" for i in range(7)], None)
