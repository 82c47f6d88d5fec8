"""Stars that change keep their light in the stack; what only lies on a star is refused as before."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import pytest

from livestack.kernels.bands import Bands
from livestack.registration import transform as tf
from livestack.stacking import accumulators, final_test, robust_start
from livestack.stacking.accumulators import Stack
from livestack.stacking.final_test import finalise
from livestack.stacking.noise_model import Limits
from livestack.stacking.normalisation import Normalisation
from livestack.stacking.rejected_samples import RejectedSamples
from livestack.stacking.robust_start import WarmSample, start_robustly

HEIGHT, WIDTH, SKY, FRAMES, WARM = 70, 90, 400.0, 40, 8
SIGMA = 1.3
STARS = ((25.3, 20.6, 2e4), (62.8, 24.1, 2e4), (27.6, 50.2, 4e3), (66.2, 47.7, 2e4))
LIMITS = Limits(np.full(1, 0.75 * (SKY + 25)), np.full(1, 0.75), 0.08, 0.0, 0.0, 3.5, 12.0)
Y, X = np.mgrid[0:HEIGHT, 0:WIDTH]

Brightness = Callable[[int, int], float]
"""(star, frame) -> share of its usual light."""


@pytest.fixture(scope="module")
def bands() -> Iterator[Bands]:
    with Bands(1) as one:
        yield one


def fades(star: int, frame: int) -> float:
    return 0.7 if star != 3 and frame >= FRAMES // 2 else 1.0


def flares(star: int, frame: int) -> float:
    return 1.6 if star != 3 and 20 <= frame < 23 else 1.0


def flares_at_once(star: int, frame: int) -> float:
    return 1.6 if star != 3 and 2 <= frame < 4 else 1.0


def pulsates(star: int, frame: int) -> float:
    return 1 + 0.25 * np.sin(frame) if star != 3 else 1.0


def constant(star: int, frame: int) -> float:
    return 1.0


def night(brightness: Brightness, seed: int = 1) -> list[tuple[np.ndarray, np.ndarray]]:
    """Frames (1, H, W) that drift about, each with its transform."""
    rng = np.random.default_rng(seed)
    frames = []
    for k in range(FRAMES):
        dx, dy = rng.uniform(-3, 3, 2)
        light = np.full((HEIGHT, WIDTH), SKY)
        for star, (x, y, flux) in enumerate(STARS):
            profile = np.exp(-((X - x - dx) ** 2 + (Y - y - dy) ** 2) / (2 * SIGMA**2)) / (2 * np.pi * SIGMA**2)
            light += flux * brightness(star, k) * profile
        noisy = rng.poisson(light) + rng.normal(0, 5, light.shape)
        frames.append((noisy.astype(np.float32)[None], tf.similarity(1.0, 0.0, -dx, -dy)))
    return frames


def stacked(frames: list[tuple[np.ndarray, np.ndarray]], bands: Bands) -> tuple[Stack, list[RejectedSamples], Stack]:
    """The live stack, what it refused of each frame, and the one that the final pass makes of it."""
    live, none = Stack(1, HEIGHT, WIDTH, origin=np.array([SKY])), Normalisation.identity(1)

    def sample(planes: np.ndarray, matrix: np.ndarray) -> WarmSample:
        return WarmSample(
            lambda y0, y1, x0, x1: planes[:, y0:y1, x0:x1].copy(), (HEIGHT, WIDTH), matrix, none, 1.0, LIMITS, LIMITS
        )

    rejected = [one.rejected for one in start_robustly(live, [sample(*one) for one in frames[:WARM]], True, bands)]
    rejected += [live.add(planes, matrix, none, 1.0, LIMITS, bands).rejected for planes, matrix in frames[WARM:]]
    final = live.empty()
    for (planes, matrix), its in zip(frames, rejected, strict=True):
        finalise(live, final, planes, matrix, none, 1.0, LIMITS, its, bands)
    return live, rejected, final


def plain(frames: list[tuple[np.ndarray, np.ndarray]], bands: Bands) -> np.ndarray:
    stack = Stack(1, HEIGHT, WIDTH, origin=np.array([SKY]))
    for planes, matrix in frames:
        stack.add(planes, matrix, Normalisation.identity(1), 1.0, None, bands)
    return stack.image()[0]


def around(star: int, radius: float) -> np.ndarray:
    x, y, _ = STARS[star]
    return (X - x) ** 2 + (Y - y) ** 2 < radius**2


@pytest.mark.parametrize("brightness", [fades, flares, flares_at_once, pulsates, constant])
def test_a_star_that_changes_keeps_its_light(bands: Bands, brightness: Brightness) -> None:
    frames = night(brightness)
    live, _, final = stacked(frames, bands)
    truth = plain(frames, bands)
    for star, (_, _, flux) in enumerate(STARS):
        near = around(star, 4.0)
        for stack in (live, final):
            lost = (stack.low + stack.high)[0][near]
            assert lost.max() <= 2, (star, lost.max())
            assert abs(float((stack.image()[0] - truth)[near].sum())) < 0.003 * flux


def blot(frames: list[tuple[np.ndarray, np.ndarray]], number: int, star: int, width: int, adu: float) -> np.ndarray:
    """A hit of some pixels in a row on the core of a star in one frame; where that lies in the stack, (H, W) bool."""
    planes, matrix = frames[number]
    x, y = tf.apply(np.linalg.inv(matrix), np.array([STARS[star][:2]]))[0]
    row, column = round(float(y)), round(float(x))
    planes[0, row, column - width // 2 : column - width // 2 + width] += adu
    hit = tf.apply(matrix, np.array([[column, row]]))[0]
    return (hit[0] - X) ** 2 + (hit[1] - Y) ** 2 < 1.0


@pytest.mark.parametrize("number", [3, 25, 36])
@pytest.mark.parametrize("width", [1, 2, 3])
@pytest.mark.parametrize("brightness", [constant, fades])
def test_a_hit_on_a_star_stays_refused(bands: Bands, number: int, width: int, brightness: Brightness) -> None:
    frames = night(brightness)
    truth = plain(frames, bands)
    for star in (0, 3):
        blot(frames, number, star, width, 3000.0)
    live, rejected, final = stacked(frames, bands)
    for star in (0, 3):
        for stack in (live, final):
            off = float((stack.image()[0] - truth)[around(star, 4.0)].sum())
            # of the hit's own light at most a fifth is left in the mean
            assert abs(off) < 0.2 * 3000 * width / FRAMES + 0.003 * 2e4
    assert rejected[number].n >= 4


@pytest.mark.parametrize("angle_deg", [0.0, 35.0, 90.0])
def test_a_trail_over_stars_stays_refused(bands: Bands, angle_deg: float, monkeypatch: pytest.MonkeyPatch) -> None:
    frames = night(constant)
    for number in (4, 30):
        planes, matrix = frames[number]
        x, y = tf.apply(np.linalg.inv(matrix), np.array([STARS[1][:2]]))[0]
        angle = np.radians(angle_deg)
        across = (X - x) * np.sin(angle) - (Y - y) * np.cos(angle)
        planes[0] += (400 * np.exp(-(across**2) / (2 * 1.5**2))).astype(np.float32)
    live, _, final = stacked(frames, bands)
    for module in (accumulators, final_test, robust_start):
        monkeypatch.setattr(module, "take_back", lambda refused, *_, **__: refused.entries)
    for stack, without in zip((live, final), stacked(frames, bands)[::2], strict=True):
        near = around(1, 6.0)
        assert without.high[0][near].sum() > 60
        assert np.array_equal(stack.high[0][near], without.high[0][near])


def test_a_frame_with_a_flare_goes_out_again(bands: Bands) -> None:
    frames = night(flares)
    live, rejected, _ = stacked(frames, bands)
    planes, matrix = frames[21]
    live.remove(planes, matrix, Normalisation.identity(1), 1.0, rejected[21], bands)
    del frames[21]
    truth = plain(frames, bands)
    off = np.abs(live.image()[0] - truth)[around(0, 3.0)]
    assert off.max() < 3.0  # the frame itself would be off by 400 / 39
