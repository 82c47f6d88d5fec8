"""Checkpoints: state that was saved and loaded goes on as state that was not, bit for bit; damage is noticed."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from livestack.checkpoint import Checkpointer, generations, load_newest
from livestack.durable import DamagedFile
from livestack.errors import SessionError
from livestack.formats import read_frame
from livestack.frame import FrameInfo, FrameKind
from livestack.kernels.bands import Bands
from livestack.masks import MaskStore
from livestack.pipeline import LiveStack
from livestack.remembering import from_tree, to_text, to_tree
from livestack.settings import Settings
from livestack.simulate import named_scenario, write_session
from livestack.stack import RejectedSamples

WIDTH, HEIGHT = 240, 180
WARM = 4


def night(folder: Path, name: str = "mono", frames: int = 12) -> list[Path]:
    scenario = named_scenario(
        name, frames=frames, width=WIDTH, height=HEIGHT, seed=3, stars=90, flux_min_e=6000.0, dither_px=6.0
    )
    write_session(scenario, folder)
    return sorted(folder.rglob("*.fits"))


def settings() -> Settings:
    return Settings.model_validate({"stack": {"warmup_frames": WARM}})


def fill(stack: LiveStack, paths: list[Path]) -> None:
    for path in paths:
        stack.add(read_frame(path))


def arrays(stack: LiveStack) -> list[np.ndarray]:
    result = stack.result()
    return [
        result.mean, result.variance, result.weight, result.coverage, result.rejected_low, result.rejected_high,
        *(member.matrix for member in result.members), *(member.rejected.unpack() for member in result.members),
        *(np.array([member.weight, member.rejected_fraction]) for member in result.members),
    ]  # fmt: skip


def assert_same(a: list[np.ndarray], b: list[np.ndarray]) -> None:
    assert len(a) == len(b)
    for one, other in zip(a, b, strict=True):
        assert one.dtype == other.dtype
        assert one.tobytes() == other.tobytes()


@pytest.fixture(scope="module")
def frames(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[Path]]:
    return {name: night(tmp_path_factory.mktemp(name), name) for name in ("mono", "osc", "filters")}


@pytest.mark.parametrize("cut", [2, WARM, 7])
@pytest.mark.parametrize("kind", ["mono", "osc", "filters"])
def test_saved_and_loaded_goes_on_as_if_nothing_had_been(
    frames: dict[str, list[Path]], tmp_path: Path, bands: Bands, kind: str, cut: int
) -> None:
    paths = frames[kind]
    whole = LiveStack(settings(), bands=bands)
    fill(whole, paths)

    masks = MaskStore(tmp_path / "masks.bin")
    first = LiveStack(settings(), bands=bands, keep=masks.keep)
    fill(first, paths[:cut])
    writer = Checkpointer(tmp_path, masks, 1, 1e9)
    writer.begin(first, cut, cut - 1, {"word": "ä"})
    written = writer.settle()
    assert written is not None
    assert written.n_events == cut
    masks.keep(RejectedSamples.pack(np.arange(5)))  # what came after the checkpoint, before the crash
    masks.close()

    loaded = load_newest(tmp_path, cut, [])
    assert loaded is not None
    assert loaded.extra == {"word": "ä"}
    second = LiveStack(settings(), bands=bands, keep=loaded.masks.keep)
    assert second.restore(loaded.state) == []
    fill(second, paths[cut:])
    for name in whole.groups:
        assert_same(arrays_of(whole, name), arrays_of(second, name))
    loaded.masks.close()


def arrays_of(stack: LiveStack, name: str) -> list[np.ndarray]:
    result = stack.result(name)
    return [
        result.mean, result.variance, result.weight, result.coverage, result.rejected_low, result.rejected_high,
        *(member.matrix for member in result.members), *(member.rejected.unpack() for member in result.members),
        *(np.array([member.weight, member.rejected_fraction]) for member in result.members),
    ]  # fmt: skip
