"""Checkpoints: state that was saved and loaded goes on as state that was not, bit for bit; damage is noticed."""

from __future__ import annotations

import json
import threading
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest

from livestack.base.durable import DamagedFile
from livestack.base.errors import SessionError
from livestack.base.frame import FrameInfo, FrameKind
from livestack.base.settings import Settings
from livestack.engine.live_stack import LiveStack
from livestack.formats import read_frame
from livestack.kernels.bands import Bands
from livestack.session.checkpoint import MAX_SHARE, Checkpointer, generations, load_newest
from livestack.session.state_codec import from_tree, to_text, to_tree
from livestack.simulate import named_scenario, write_session
from livestack.stacking.mask_store import MaskStore, StoredSamples
from livestack.stacking.rejected_samples import RejectedSamples

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
    assert loaded.observers == {"word": "ä"}
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


# The container of objects


def test_objects_come_back_as_they_were() -> None:
    value = {
        "info": FrameInfo(
            640, 480, kind=FrameKind.LIGHT, bayer="RGGB", date_obs=datetime(2026, 1, 2, 3, 4, 5, 6, tzinfo=UTC),
            cards=(("GAIN", 1.0, "ä"), ("COUNT", 3, ""), ("FLAG", True, ""), ("NAN", float("nan"), "")),
        ),
        "set": {"a"}, 7: (1, 2.5, None, [True]), "path": Path("a/b\udcff"), "bytes": b"\0" * 100, "few": b"ab",
        "array": np.arange(12, dtype=np.uint16).reshape(3, 4), "float32": np.float32(0.1),
        "tiny": np.array([0.1, np.nan]),
    }  # fmt: skip
    arrays: list[np.ndarray] = []
    text = to_text(to_tree(value, arrays))
    back = from_tree(json.loads(text), arrays, None)
    assert repr(back) == repr(value)
    assert back["info"].cards[2][1] is True
    assert type(back["info"].cards[1][1]) is int
    assert back["float32"].dtype == np.float32


def test_foreign_classes_are_neither_kept_nor_made() -> None:
    with pytest.raises(TypeError, match="cannot be kept"):
        to_tree(object(), [])
    with pytest.raises(ValueError, match="unknown to this version"):
        from_tree({"$": "Popen", "of": {}}, [], None)
    with pytest.raises(ValueError, match="unexpected keyword"):
        from_tree({"$": "Sky", "of": {"evil": 1}}, [], None)


# Rejected samples on disk


def test_rejected_samples_come_back_from_disk(tmp_path: Path) -> None:
    store = MaskStore(tmp_path / "masks.bin")
    entries = [np.sort(np.random.default_rng(i).integers(0, 2**36, 40 * i)) for i in range(4)]
    kept = [store.keep(RejectedSamples.pack(each)) for each in entries]
    assert [one.packed for one in kept] == [b""] * 4, "nothing stays in memory"
    for one, each in zip(kept, entries, strict=True):
        assert np.array_equal(one.unpack(), each)
    store.close()
    content = bytearray((tmp_path / "masks.bin").read_bytes())
    content[kept[2].offset + 12] ^= 0xFF
    (tmp_path / "masks.bin").write_bytes(content)
    again = MaskStore(tmp_path / "masks.bin", len(content))
    with pytest.raises(DamagedFile, match="rejected samples of that frame are lost"):
        StoredSamples(b"", kept[2].n, None, kept[2].offset, kept[2].size, again).unpack()
    again.close()
    with pytest.raises(DamagedFile):
        MaskStore(tmp_path / "masks.bin", len(content) + 1)


# When, and how many


def streaming(bands: Bands, paths: list[Path], masks: MaskStore) -> LiveStack:
    stack = LiveStack(settings(), bands=bands, keep=masks.keep)
    fill(stack, paths[: WARM + 1])
    return stack


def test_due_by_frames_or_time_but_never_for_a_warm_up(
    frames: dict[str, list[Path]], tmp_path: Path, bands: Bands
) -> None:
    now = [0.0]
    masks = MaskStore(tmp_path / "masks.bin")
    writer = Checkpointer(tmp_path, masks, 3, 100.0, clock=lambda: now[0])
    stack = streaming(bands, frames["mono"], masks)
    assert not writer.is_due(stack), "nothing came"
    for _ in range(3):
        writer.count_frame()
    assert writer.is_due(stack)
    warming = LiveStack(settings(), bands=bands)
    fill(warming, frames["mono"][:2])
    assert not writer.is_due(warming)
    writer.begin(stack, 3, 2, {})
    writer.settle()
    writer.count_frame()
    assert not writer.is_due(stack)
    now[0] = 101.0
    assert writer.is_due(stack)
    masks.close()


def test_slow_disks_make_checkpoints_rare(frames: dict[str, list[Path]], tmp_path: Path, bands: Bands) -> None:
    times = iter([0.0, 0.0, 10.0, 10.0])
    now = [10.0]
    masks = MaskStore(tmp_path / "masks.bin")
    writer = Checkpointer(tmp_path, masks, 1, 1.0, clock=lambda: next(times, now[0]))
    stack = streaming(bands, frames["mono"], masks)
    writer.count_frame()
    writer.begin(stack, 1, 0, {})
    written = writer.settle()
    assert written is not None
    assert written.duration_s == 10.0
    writer.count_frame()
    now[0] = 200.0
    assert not writer.is_due(stack)
    now[0] = 10.0 + 10.0 / MAX_SHARE
    assert writer.is_due(stack)
    masks.close()


def test_two_generations_are_kept_and_the_newest_whole_one_is_taken(
    frames: dict[str, list[Path]], tmp_path: Path, bands: Bands
) -> None:
    masks = MaskStore(tmp_path / "masks.bin")
    writer = Checkpointer(tmp_path, masks, 1, 1.0)
    stack = streaming(bands, frames["mono"], masks)
    for number in range(1, 5):
        writer.begin(stack, number, number - 1, {})
        writer.settle()
    masks.close()
    assert [number for number, _ in generations(tmp_path)] == [4, 3]
    notices: list[str] = []
    loaded = load_newest(tmp_path, 3, notices)
    assert loaded is not None
    assert loaded.n_events == 3
    assert "holds 4 events, the journal has 3" in notices[0]
    loaded.masks.close()
    newest = generations(tmp_path)[0][1]
    newest.write_bytes(newest.read_bytes()[:-1000])
    loaded = load_newest(tmp_path, 9, notices)
    assert loaded is not None
    assert loaded.n_events == 3
    loaded.masks.close()


def test_what_is_written_is_what_stood_when_it_began(
    frames: dict[str, list[Path]], tmp_path: Path, bands: Bands, monkeypatch: pytest.MonkeyPatch
) -> None:
    masks = MaskStore(tmp_path / "masks.bin")
    stack = LiveStack(settings(), bands=bands, keep=masks.keep)
    fill(stack, frames["mono"][:6])
    before = arrays_of(stack, "m-27")
    sync = masks.sync
    go = threading.Event()
    monkeypatch.setattr(masks, "sync", lambda: (go.wait(60), sync()))
    writer = Checkpointer(tmp_path, masks, 1, 1.0)
    writer.begin(stack, 6, 5, {})
    assert not writer.is_done
    go.set()
    writer.settle()  # whoever changes the stack waits for this
    fill(stack, frames["mono"][6:])
    masks.close()
    loaded = load_newest(tmp_path, 6, [])
    assert loaded is not None
    second = LiveStack(settings(), bands=bands, keep=loaded.masks.keep)
    second.restore(loaded.state)
    assert_same(arrays_of(second, "m-27"), before)
    loaded.masks.close()


def test_a_full_disk_is_told_and_the_older_checkpoint_stays(
    frames: dict[str, list[Path]], tmp_path: Path, bands: Bands, monkeypatch: pytest.MonkeyPatch
) -> None:
    masks = MaskStore(tmp_path / "masks.bin")
    writer = Checkpointer(tmp_path, masks, 1, 1.0)
    stack = streaming(bands, frames["mono"], masks)
    writer.begin(stack, 5, 4, {})
    writer.settle()
    monkeypatch.setattr("livestack.base.durable.free_bytes", lambda path: 1000)
    writer.begin(stack, 6, 5, {})
    with pytest.raises(SessionError, match="the disk is full"):
        writer.settle()
    masks.close()
    loaded = load_newest(tmp_path, 9, [])
    assert loaded is not None
    assert loaded.n_events == 5
    loaded.masks.close()


def test_frames_of_the_warm_up_that_are_gone_are_named(
    frames: dict[str, list[Path]], tmp_path: Path, bands: Bands
) -> None:
    paths = [tmp_path / path.name for path in frames["mono"]]
    for path, source in zip(paths, frames["mono"], strict=True):
        path.write_bytes(source.read_bytes())
    masks = MaskStore(tmp_path / "masks.bin")
    first = LiveStack(settings(), bands=bands)
    fill(first, paths[:3])
    writer = Checkpointer(tmp_path, masks, 1, 1.0)
    writer.begin(first, 3, 2, {})
    writer.settle()
    masks.close()
    paths[1].unlink()
    loaded = load_newest(tmp_path, 3, [])
    assert loaded is not None
    second = LiveStack(settings(), bands=bands)
    assert [member.name for member in second.restore(loaded.state)] == [paths[1].name]
    assert second.n_stacked == 2
    loaded.masks.close()
