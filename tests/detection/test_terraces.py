"""Skies whose noise is less than a step of the file: terraces, which the stretch must not show."""

from __future__ import annotations

import numpy as np
import pytest

from livestack import LiveStack, Settings
from livestack.base.frame import Frame, FrameInfo
from livestack.base.settings import RenderSettings
from livestack.detection import measure_sky, terraces_of
from livestack.kernels.bands import Bands
from livestack.picture import measure_look, render

WIDTH, HEIGHT = 800, 560


def vignetted(noise: float, seed: int, colours: int = 3) -> np.ndarray:
    """(3, HEIGHT, WIDTH) uint8: a sky that falls off by 60 %, stars, and noise of so many steps."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:HEIGHT, :WIDTH]
    fall = 1 - 0.6 * ((x - WIDTH / 2) ** 2 + (y - HEIGHT / 2) ** 2) / (WIDTH**2 / 4 + HEIGHT**2 / 4)
    planes = np.array([12.0, 24.0, 40.0])[:colours, None, None] * fall
    stars = np.random.default_rng(1).uniform((20, 20), (WIDTH - 20, HEIGHT - 20), (40, 2))
    for px, py in stars:
        planes += 120 * np.exp(-((x - px) ** 2 + (y - py) ** 2) / 4)
    return np.clip(np.round(planes + rng.normal(0, noise, planes.shape)), 0, 255).astype(np.uint8)


@pytest.mark.parametrize(("noise", "seen"), [(0.0, True), (0.25, True), (1.0, False), (3.0, False)])
def test_terraces_are_told_from_noise(noise: float, seen: bool, bands: Bands) -> None:
    data = vignetted(noise, 2).astype(np.float32)
    found = terraces_of(data, measure_sky(data, None, bands))
    np.testing.assert_allclose(found, [0.5 if seen else 0.0] * 3, atol=1e-3)


def test_fractions_have_no_steps(bands: Bands) -> None:
    data = vignetted(0.25, 2).astype(np.float32) + np.random.default_rng(3).normal(0, 0.2, (3, HEIGHT, WIDTH))
    data = data.astype(np.float32)
    assert terraces_of(data, measure_sky(data, None, bands)).max() < 1e-3


def test_the_picture_of_a_terraced_sky_is_even_and_neutral() -> None:
    info = FrameInfo(width=WIDTH, height=HEIGHT, planes=3, saturation_adu=255.0, exposure_s=10.0)
    with LiveStack(Settings()) as stack:
        for number in range(5):
            frame = Frame(vignetted(0.25, 10 + number), info, label=f"img_{number}.png")
            assert stack.add(frame).status == "stacked"
        result = stack.result()
        torn = render(result.mean, measure_look(result.mean, RenderSettings())).rgb.astype(float)
        look = measure_look(result.mean, RenderSettings(), terraces=result.reference.terraces)
        even = render(result.mean, look).rgb.astype(float)

    def unevenness(rgb: np.ndarray) -> float:
        """From the darkest to the brightest of the sky's rings, in levels of the picture."""
        blocks = np.median(rgb.reshape(HEIGHT // 10, 10, WIDTH // 10, 10, 3), axis=(1, 3))
        return float(np.percentile(blocks, 98) - np.percentile(blocks, 2))

    assert unevenness(torn) > 15, "the test sees rings where there are some"
    assert unevenness(even) < 6
    sky = np.median(even, axis=(0, 1))
    assert np.ptp(sky) < 4
    assert even.max() > 200, "stars are still to be seen"
