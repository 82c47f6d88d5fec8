"""Frames that are soft and faint: all of their light is registered at once, and what stands still is no witness."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from livestack import LiveStack, Settings
from livestack.base.frame import Frame, FrameInfo
from livestack.registration import transform as tf
from livestack.registration.features.smoothed import Smoothed, register_smoothed, smooth, smooth_rows

WIDTH, HEIGHT = 760, 560


def cluster(seed: int) -> tuple[np.ndarray, np.ndarray]:
    """(n, 2) places and (n,) fluxes of a cluster of faint stars in a thin field."""
    rng = np.random.default_rng(seed)
    r, t = rng.exponential(70, 150), rng.uniform(0, 2 * np.pi, 150)
    middle = np.column_stack([WIDTH / 2 + r * np.cos(t), HEIGHT / 2 + r * np.sin(t)])
    field = np.column_stack([rng.uniform(-60, WIDTH + 60, 40), rng.uniform(-60, HEIGHT + 60, 40)])
    flux = np.concatenate([600 / (1 - 0.9 * rng.random(150)), rng.uniform(800, 3000, 40)])
    return np.concatenate([middle, field]), flux


def exposure(seed: int, dx: float, dy: float, noise_seed: int, pattern: np.ndarray | None = None) -> np.ndarray:
    """(HEIGHT, WIDTH) float32: rings of 7 px instead of stars, banded read-out, and what belongs to the sensor."""
    rng = np.random.default_rng(noise_seed)
    xy, flux = cluster(seed)
    light = np.zeros((HEIGHT, WIDTH), np.float32)
    for (x, y), total in zip(xy - (dx, dy), flux, strict=True):
        column, row = round(x), round(y)
        if 8 <= column < WIDTH - 8 and 8 <= row < HEIGHT - 8:
            v, u = np.mgrid[row - 8 : row + 9, column - 8 : column + 9]
            ring = np.exp(-((np.hypot(u - x, v - y) - 3.5) ** 2) / 2)
            light[row - 8 : row + 9, column - 8 : column + 9] += (total / ring.sum() * ring).astype(np.float32)
    noisy = rng.poisson(light + 500).astype(np.float32) + rng.normal(0, 14, light.shape).astype(np.float32)
    noisy += np.cumsum(rng.normal(0, 0.5, HEIGHT))[:, None].astype(np.float32)
    return noisy if pattern is None else noisy + pattern


def fixed_pattern() -> np.ndarray:
    """Dust and warm pixels of one sensor, stronger than the stars."""
    rng = np.random.default_rng(7)
    grain = cv2.GaussianBlur(rng.normal(0, 1, (HEIGHT, WIDTH)).astype(np.float32), (0, 0), 2.5)
    return np.asarray(grain / grain.std() * 6.0, dtype=np.float32)


@pytest.mark.parametrize("seed", range(4))
def test_the_shift_is_found_to_a_pixel(seed: int) -> None:
    rng = np.random.default_rng(seed)
    dx, dy = rng.uniform(-40, 40, 2)
    found = register_smoothed(
        smooth(exposure(seed, 0, 0, 1)), smooth(exposure(seed, dx, dy, 2)), None, [np.eye(3)]
    )  # fmt: skip
    assert found is not None
    truth = np.array([[1, 0, dx], [0, 1, dy], [0, 0, 1.0]])
    assert tf.corner_displacement(found.matrix, truth, WIDTH, HEIGHT) < 1.2


def test_unrelated_fields_never_match() -> None:
    pictures = [smooth(exposure(seed, 0, 0, seed)) for seed in range(10, 22)]
    for one in pictures:
        for other in pictures:
            if one is not other:
                assert register_smoothed(one, other, None, [np.eye(3)]) is None


def test_a_pattern_of_the_sensor_does_not_say_that_nothing_moved() -> None:
    pattern = fixed_pattern()
    here, there = smooth(exposure(3, 0, 0, 1, pattern)), smooth(exposure(3, 23, -9, 2, pattern))
    other = smooth(exposure(4, 23, -9, 3, pattern))
    found = register_smoothed(here, there, None, [np.eye(3)])
    truth = np.array([[1, 0, 23], [0, 1, -9], [0, 0, 1.0]])
    assert found is None or tf.corner_displacement(found.matrix, truth, WIDTH, HEIGHT) < 2
    assert register_smoothed(here, other, None, [np.eye(3)]) is None, "another field on the same sensor"


def test_a_turned_frame_is_found_under_the_turn_that_is_expected() -> None:
    angle = np.radians(30.0)
    turn = np.array([[np.cos(angle), -np.sin(angle), 0], [np.sin(angle), np.cos(angle), 0], [0, 0, 1.0]])
    middle = np.array([(WIDTH - 1) / 2, (HEIGHT - 1) / 2])
    turn[:2, 2] = middle - turn[:2, :2] @ middle
    whole = exposure(5, 0, 0, 1)
    turned = cv2.warpAffine(exposure(5, 0, 0, 2), np.linalg.inv(turn)[:2], (WIDTH, HEIGHT), borderValue=float("nan"))
    found = register_smoothed(smooth(whole), smooth(turned), turn, [])
    assert found is not None
    assert tf.corner_displacement(found.matrix, turn, WIDTH, HEIGHT) < 2


def test_rows_one_after_the_other_are_the_same_as_all_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    image = exposure(1, 0, 0, 1)
    image[100:130, 200:260] = np.nan
    whole = smooth(image)
    monkeypatch.setattr("livestack.registration.features.smoothed.BLOCK_ROWS", 280)
    parts = smooth_rows(lambda rows: image[rows], image.shape)
    assert isinstance(parts, Smoothed)
    assert np.mean(np.abs(whole.picture - parts.picture) < 0.2) > 0.98
    assert not whole.picture[105:125, 205:255].any()


def test_a_night_out_of_focus_is_stacked_where_it_belongs() -> None:
    info = FrameInfo(width=WIDTH, height=HEIGHT, exposure_s=30.0, saturation_adu=65535.0)
    moves = [(0.0, 0.0), (11.3, 4.1), (20.2, 1.7), (33.4, 9.8), (41.0, 6.5)]
    with LiveStack(Settings()) as stack:
        for number, (dx, dy) in enumerate(moves):
            data = np.clip(exposure(6, dx, dy, 50 + number), 0, 65535).astype(np.uint16)
            outcome = stack.add(Frame(data, info, label=f"soft_{number}.fits"))
            assert outcome.status == "stacked", outcome.message
            assert outcome.transform is not None
            truth = np.array([[1, 0, dx], [0, 1, dy], [0, 0, 1.0]])
            assert tf.corner_displacement(outcome.transform, truth, WIDTH, HEIGHT) < 1.5
