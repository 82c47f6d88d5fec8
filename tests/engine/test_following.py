"""A small night with a comet, drawn here: two stacks that know nothing of each other, resumed, and without a frame."""

from __future__ import annotations

import json
import math
import shutil
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits

from livestack.base.errors import FrameError
from livestack.base.settings import Settings
from livestack.engine import following
from livestack.engine.events import FrameDone, Notice
from livestack.engine.live_stack import LiveStack
from livestack.engine.separate import AT_ONCE, ROUNDS
from livestack.engine.views import StackView
from livestack.formats import read_frame
from livestack.registration import transform as tf
from livestack.session.state_codec import from_tree, to_text, to_tree

WIDE, HIGH, N, SKY, READ = 320, 240, 22, 400.0, 5.0
RATE = np.array([1.9, -0.8])
START = np.array([120.0, 140.0])


@dataclass(frozen=True)
class Night:
    """Files of a night with a comet, and of the same one without it; what the comet looks like when it stands still."""

    files: list[Path]
    plain: list[Path]
    comet: np.ndarray


def comet_at(x: float, y: float) -> np.ndarray:
    d = np.hypot(np.arange(WIDE) - x, (np.arange(HIGH) - y)[:, None])
    return 700 * np.exp(-0.5 * (d / 1.4) ** 2) + 300 / (1 + (d / 4) ** 1.4) * np.exp(-d / 25)


@pytest.fixture(scope="module")
def night(tmp_path_factory: pytest.TempPathFactory) -> Night:
    folder = tmp_path_factory.mktemp("comet")
    draw = np.random.default_rng(8)
    stars, flux = draw.uniform(8, 232, (70, 2)) * (WIDE / HIGH, 1), 10 ** draw.uniform(3.2, 5.0, 70)
    files, plain = [], []
    for k in range(N):
        shift = draw.uniform(-2.5, 2.5, 2)
        x, y = np.arange(WIDE), np.arange(HIGH)[:, None]
        light = np.full((HIGH, WIDE), SKY)
        for (px, py), f in zip(stars + shift, flux, strict=True):
            light += f / (2 * math.pi * 1.4**2) * np.exp(-0.5 * ((x - px) ** 2 + (y - py) ** 2) / 1.4**2)
        noise = draw.standard_normal(light.shape)
        start = datetime(2026, 11, 20, 21, k, tzinfo=UTC)
        header = fits.Header({"EXPTIME": 60.0, "DATE-OBS": (start - timedelta(seconds=30)).isoformat()[:19]})
        for name, extra, made in (
            ("comet", comet_at(*(START + RATE * k + shift)), files), ("plain", 0.0, plain),
        ):  # fmt: skip
            true = light + extra
            image = true + noise * np.sqrt(true + READ**2)
            path = folder / f"{name}_{k:02d}.fits"
            fits.writeto(path, np.clip(image, 0, 65535).astype(np.uint16), header)
            made.append(path)
    return Night(files, plain, comet_at(*START))


def stacked(files: list[Path], target: str = "auto", final: bool = False) -> tuple[LiveStack, list[str]]:
    said: list[str] = []
    settings = Settings.model_validate({"follow": {"target": target}, "stack": {"warmup_frames": 6}})
    stack = LiveStack(settings)
    stack.events.subscribe(lambda event: said.append(event.message) if isinstance(event, Notice) else None)
    for path in files:
        assert stack.add(read_frame(path)).stacked
    if final:
        assert stack.final_pass(next(iter(stack.groups)))
    return stack, said


def noise_of(image: np.ndarray) -> float:
    return 1.4826 * float(np.nanmedian(np.abs(image - np.nanmedian(image))))


def inner(image: np.ndarray) -> np.ndarray:
    return image[12:-12, 12:-12]


@pytest.mark.parametrize("final", [False, True])
def test_a_comet_is_found_and_neither_stack_knows_of_the_other(night: Night, final: bool) -> None:
    stack, said = stacked(night.files, final=final)
    (name,) = stack.groups
    assert sum("moves" in sentence for sentence in said) == 1
    path = stack.groups[name].following.path
    assert path is not None
    reference = stack.groups[name].reference
    assert reference is not None
    number = int(reference.name[6:8])
    comet = stack.object_result(name)
    assert comet is not None
    assert path.rate_px_min == pytest.approx(float(np.hypot(*RATE)), rel=0.01)
    # the reference is dithered as all frames are: the comet is measured about its own place
    x, y = path.coefficients[0]
    d = np.hypot(np.arange(WIDE) - x, (np.arange(HIGH) - y)[:, None])
    true = comet_at(x, y)
    sky = float(np.nanmedian(comet.mean[(d > 70) & (d < 100)]))
    for radius in (3, 10, 30):
        assert np.nansum((comet.mean - sky)[d < radius]) / true[d < radius].sum() == pytest.approx(1.0, abs=0.03)
    # stars left no trace: what is not the comet is noise
    rest = inner(comet.mean - sky - true)
    assert np.nanmean(np.abs(rest) > 5 * noise_of(rest)) < 0.003
    # nor did the comet in the stack of the stars
    stars = stack.result(name).mean
    other, _ = stacked(night.plain, "none")
    alone = other.result(next(iter(other.groups))).mean
    along = np.min([np.hypot(np.arange(WIDE) - x - RATE[0] * k, (np.arange(HIGH) - y - RATE[1] * k)[:, None])
                    for k in range(-number, N - number)], axis=0)  # fmt: skip
    difference = stars - alone
    assert abs(float(np.nanmedian(difference[along < 4]))) < 0.5 * noise_of(alone)
    assert abs(float(np.nanmedian(difference[along < 25]))) < 0.35 * noise_of(alone)
    stack.close()
    other.close()


def test_pictures_show_the_object_the_stars_or_both(night: Night) -> None:
    """Each against the frames' own truth at the place of the nucleus and of the brightest star, in ADU over the sky."""
    stack, _ = stacked(night.files[:-1])
    views: list[StackView] = []
    with stack:
        stack.events.subscribe(lambda event: views.append(event.view) if isinstance(event, FrameDone) else None)
        stack.add(read_frame(night.files[-1]))
        (group,), (view,) = stack.groups.values(), views
        assert view.has_object
        last = group.members[-1]
        path = group.following.path
        assert path is not None
        now, then = path.at(group.following.minutes_of(last)), path.coefficients[0]
        star = group.reference.stars.stars.xy[np.argmax(group.reference.stars.stars.flux)]
        light = {}
        for which in ("both", "stars", "object"):
            image = view.showing(which).seen(slice(0, HIGH), slice(0, WIDE))[0]
            part = view.showing(which).seen(slice(20, HIGH), slice(30, WIDE))[0]
            np.testing.assert_array_equal(part, image[20:, 30:])
            light[which] = [
                float(np.nanmax(image[round(y) - 1 : round(y) + 2, round(x) - 1 : round(x) + 2]) - np.nanmedian(image))
                for x, y in (now, then, star)
            ]
            newest = view.showing(which).newest
            assert newest is not None
            shift = tf.apply(newest.matrix, np.array([[0.0, 0.0]])) - tf.apply(last.matrix, np.array([[0.0, 0.0]]))
            assert np.allclose(shift, then - now if which == "object" else 0.0)
    assert light["both"][0] > 700
    assert light["stars"][0] < 150
    assert light["both"][2] == pytest.approx(light["stars"][2], abs=2.0)
    assert light["stars"][2] > 1000
    assert light["object"][1] > 700
    assert abs(light["object"][2]) < 0.05 * light["both"][2]


def test_what_is_found_only_at_the_end_is_told_and_read_no_oftener(
    night: Night, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(following, "LOOKED_AT", (99,))
    read: list[str] = []
    stack, said = stacked(night.files)
    assert not said
    fetch = stack.intake.calibrate_again
    monkeypatch.setattr(stack.intake, "calibrate_again", lambda member: read.append(member.name) or fetch(member))
    with stack:
        (name,) = stack.groups
        assert stack.final_pass(name)
        result = stack.object_result(name)
    assert [sentence for sentence in said if "moves" in sentence]
    assert len(read) == AT_ONCE + ROUNDS * (N - AT_ONCE)
    assert result is not None
    assert len(result.members) == N


def test_nothing_is_followed_where_nothing_moves_or_nobody_wants_it(night: Night) -> None:
    for files, target in ((night.plain, "auto"), (night.files, "none")):
        stack, said = stacked(files, target)
        (name,) = stack.groups
        assert stack.object_result(name) is None
        assert not said
        stack.close()


def test_a_place_that_is_named_is_followed(night: Night) -> None:
    stack, _ = stacked(night.files[:14], "120,141")
    (name,) = stack.groups
    path = stack.groups[name].following.path
    assert path is not None
    assert path.rate_px_min == pytest.approx(float(np.hypot(*RATE)), rel=0.02)
    assert stack.object_result(name) is not None
    stack.close()


def test_going_on_from_a_checkpoint_is_as_if_nothing_had_been(night: Night) -> None:
    whole, _ = stacked(night.files)
    first, _ = stacked(night.files[:17])
    arrays: list[np.ndarray] = []
    tree = to_text(to_tree(first.state(), arrays))
    second = LiveStack(first.settings)
    second.restore(from_tree(json.loads(tree), [array.copy() for array in arrays], None))
    first.close()
    for path in night.files[17:]:
        second.add(read_frame(path))
    for name in whole.groups:
        one, other = whole.object_result(name), second.object_result(name)
        assert one is not None
        assert other is not None
        assert np.array_equal(one.mean, other.mean, equal_nan=True)
        assert np.array_equal(whole.result(name).mean, second.result(name).mean, equal_nan=True)
    whole.close()
    second.close()


def test_a_frame_taken_out_is_in_neither_stack(night: Night) -> None:
    stack, _ = stacked(night.files)
    (name,) = stack.groups
    group = stack.groups[name]
    stack.remove(night.files[15])
    assert group.n_stacked == N - 1
    assert group.following.stack is not None
    assert group.following.stack.n_frames == N - 1
    assert group.stack is not None
    assert int(group.following.stack.count.max()) <= N - 1
    stack.close()


def test_what_cannot_be_taken_out_stays_in_both(night: Night, tmp_path: Path) -> None:
    copies = [Path(shutil.copy2(path, tmp_path)) for path in night.files]
    stack, _ = stacked(copies)
    (name,) = stack.groups
    group = stack.groups[name]
    assert group.following.stack is not None
    stars, comet, path = stack.result(name).mean, group.following.stack.mean.copy(), group.following.path
    copies[3].unlink()
    with pytest.raises(FrameError):
        stack.remove(copies[15])
    assert group.n_stacked == N
    assert group.following.path is path
    assert np.array_equal(stack.result(name).mean, stars, equal_nan=True)
    assert np.array_equal(group.following.stack.mean, comet)
    stack.close()
