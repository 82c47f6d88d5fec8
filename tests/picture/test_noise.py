"""Measured noise against noise that was put in."""

from __future__ import annotations

import numpy as np
import pytest

from livestack.picture.noise import measure_noise

SHAPE = (1, 520, 740)


def scene(rng: np.random.Generator) -> np.ndarray:
    """A sky with a nebula, a slope and stars."""
    yy, xx = np.mgrid[: SHAPE[1], : SHAPE[2]].astype(float)
    sky = 300 + 0.1 * xx + 200 * np.exp(-((xx - 400) ** 2 + (yy - 200) ** 2) / 9000)
    for x, y, flux in zip(rng.uniform(0, 740, 120), rng.uniform(0, 520, 120), rng.uniform(50, 3000, 120), strict=True):
        sky += flux * np.exp(-((xx - x) ** 2 + (yy - y) ** 2) / 6)
    return sky[None]


@pytest.mark.parametrize("frames", [1, 4, 30])
def test_noise_of_frame_and_stack(frames: int) -> None:
    rng = np.random.default_rng(7)
    truth = scene(rng)
    taken = [truth + rng.normal(0, 8.0, SHAPE) for _ in range(frames)]
    found = measure_noise(np.mean(taken, axis=0).astype(np.float32), taken[0].astype(np.float32), 1 / frames)
    assert found is not None
    if frames == 1:  # the frame is the stack
        assert found[1] == pytest.approx(1.0, rel=0.15)
        return
    # a block of 8 x 8 pixels averages 64 of them
    assert found[0] == pytest.approx(1.0, rel=0.1)
    assert found[0] / found[1] == pytest.approx(frames**0.5, rel=0.15)


def test_an_empty_sky_is_not_judged_by_its_darkest_blocks() -> None:
    rng = np.random.default_rng(9)
    taken = rng.normal(300, 8.0, (12, *SHAPE))
    found = measure_noise(taken.mean(axis=0).astype(np.float32), taken[5].astype(np.float32), 1 / 12)
    assert found is not None
    assert found[0] == pytest.approx(1.0, rel=0.06)
    assert found[1] == pytest.approx(1.0 / 12**0.5, rel=0.06)


def test_structure_alone_is_no_noise() -> None:
    rng = np.random.default_rng(8)
    truth = scene(rng)
    found = measure_noise(truth.astype(np.float32), (truth + rng.normal(0, 8.0, SHAPE)).astype(np.float32), 0.0)
    assert found is not None
    assert found[1] < 0.15


def test_too_little_is_said() -> None:
    assert measure_noise(np.full(SHAPE, np.nan, np.float32), np.full(SHAPE, np.nan, np.float32), 0.5) is None
    assert measure_noise(np.zeros((1, 20, 30), np.float32), np.zeros((1, 20, 30), np.float32), 0.5) is None
