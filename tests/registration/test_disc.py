"""Discs of known place on black: planets, a Moon with a shadow across it; and pictures that show none."""

from __future__ import annotations

import numpy as np
import pytest

from livestack import LiveStack, Settings
from livestack.base.frame import Frame, FrameInfo
from livestack.registration.features.disc import find_disc
from tests.heard import HeardStack

HEIGHT, WIDTH = 360, 480


def disc(
    x: float, y: float, radius: float, flat: float = 1.0, shadow: float | None = None, seed: int = 1
) -> np.ndarray:
    """(H, W) uint8: a disc with belts, its limb blurred, sky and noise in whole numbers; `shadow` hides what lies
    below that row."""
    rows, columns = np.mgrid[:HEIGHT, :WIDTH].astype(float)
    u, v = columns - x, (rows - y) / flat
    body = (0.8 + 0.12 * np.sin(v / radius * 9)) / (1 + np.exp((np.hypot(u, v) - radius) / 1.3))
    if shadow is not None:
        body *= 1 / (1 + np.exp(np.clip((rows - shadow) / 12, -50, 50)))
    noise = np.random.default_rng(seed).normal(0, 1.2, body.shape)
    return np.clip(np.round(150 * body + noise), 0, 255).astype(np.uint8)


@pytest.mark.parametrize("flat", [1.0, 0.93])
@pytest.mark.parametrize("radius", [14.0, 60.0, 120.0])
def test_a_planet_is_followed_to_a_tenth_of_a_pixel(radius: float, flat: float) -> None:
    one = find_disc(disc(231.3, 170.7, radius, flat).astype(np.float32))
    other = find_disc(disc(236.9, 160.2, radius, flat, seed=2).astype(np.float32))
    assert one is not None
    assert other is not None
    assert (other.x - one.x, other.y - one.y) == (pytest.approx(5.6, abs=0.1), pytest.approx(-10.5, abs=0.1))
    assert np.hypot(one.x - 231.3, one.y - 170.7) < 0.3
    assert one.arc > 0.95


def test_a_shadow_across_the_moon_does_not_move_its_middle() -> None:
    for row in (150.0, 190.0, 230.0):
        found = find_disc(disc(240.4, 175.2, 130.0, shadow=row).astype(np.float32))
        assert found is not None
        assert np.hypot(found.x - 240.4, found.y - 175.2) < 1.5
        assert found.radius_px == pytest.approx(130, abs=1.5)


def test_of_a_crescent_the_middle_is_known_by_the_radius_of_the_full_disc() -> None:
    """Of a short arc the radius is a guess, and an error in it would move the middle by as much."""
    alone, held = [], []
    for seed, row in enumerate((110.0, 118.0, 126.0, 134.0)):
        image = disc(240.4, 175.2, 130.0, shadow=row, seed=seed + 1).astype(np.float32)
        for found, off in ((find_disc(image), alone), (find_disc(image, 130.0), held)):
            assert found is not None
            off.append(float(np.hypot(found.x - 240.4, found.y - 175.2)))
    assert max(held) < 0.5
    assert max(held) < 0.5 * max(alone)


def test_what_is_no_disc_on_black() -> None:
    rng = np.random.default_rng(3)
    rows, columns = np.mgrid[:HEIGHT, :WIDTH]
    far2 = (columns - 200.0) ** 2 + (rows - 150.0) ** 2
    nothing = np.zeros((HEIGHT, WIDTH))
    square = np.where((abs(columns - 200) < 60) & (abs(rows - 150) < 60), 200.0, 0.0)
    galaxy = 200 * np.exp(-0.5 * far2 / 40**2)
    two = (disc(120, 100, 40).astype(float)) + disc(350, 250, 40)
    cases = {"nothing": nothing, "square": square, "galaxy": galaxy, "two": two, "noise": rng.normal(300, 9, two.shape)}
    assert {name: find_disc(image.astype(np.float32)) for name, image in cases.items()} == dict.fromkeys(cases)
    assert find_disc(disc(120, 100, 40).astype(np.float32)) is not None


def test_a_video_of_a_planet_is_stacked_and_every_frame_is_in_its_place() -> None:
    rng = np.random.default_rng(8)
    middle = np.array([240.0, 180.0])
    places = middle + rng.normal(0, 4, (14, 2))
    with LiveStack(Settings()) as stack:
        outcomes = []
        for number, (x, y) in enumerate(places):
            data = disc(x, y, 55, 0.93, seed=number)
            info = FrameInfo(width=WIDTH, height=HEIGHT, saturation_adu=255.0)
            outcomes.append(stack.add(Frame(data, info, label=f"jupiter_{number:02d}.png")))
        assert [outcome.status for outcome in outcomes] == ["stacked"] * len(places)
        assert {outcome.method for outcome in outcomes[1:]} == {"disc"}
        members = stack.result().members
    seen = np.array([member.matrix[:2, 2] + place for member, place in zip(members, places, strict=True)])
    assert np.abs(seen - seen.mean(axis=0)).max() < 0.2


def test_a_black_sky_without_any_scatter_has_a_noise_model() -> None:
    rng = np.random.default_rng(2)
    with LiveStack(Settings()) as stack:
        for number, (x, y) in enumerate(np.array([240.0, 180.0]) + rng.normal(0, 8, (12, 2))):
            data = disc(x, y, 110, shadow=y - 20, seed=number)
            data[data < 8] = 0
            info = FrameInfo(width=WIDTH, height=HEIGHT, saturation_adu=255.0)
            assert stack.add(Frame(data, info, label=f"eclipse_{number:02d}.jpg")).status == "stacked"
        result = stack.result()
    assert result.header["NCOMBINE"] == 12
    assert np.nanmax(result.mean) > 100


def test_another_exposure_of_a_planet_counts_at_the_scale_of_the_reference() -> None:
    rng = np.random.default_rng(5)
    with HeardStack(Settings()) as stack:
        for number, (x, y) in enumerate(np.array([240.0, 180.0]) + rng.normal(0, 5, (12, 2))):
            data = disc(x, y, 60, seed=number)
            data = np.round(data * (0.6 if number % 2 else 1.0)).astype(np.uint8)
            info = FrameInfo(width=WIDTH, height=HEIGHT, saturation_adu=255.0)
            outcome = stack.add(Frame(data, info, label=f"planet_{number:02d}.png"))
            assert outcome.status == "stacked", outcome.message
            assert outcome.normalisation is not None
            mine, its = (0.6 if n % 2 else 1.0 for n in (number, int(stack.references[-1][0][7:9])))
            assert outcome.normalisation.factor[0] == pytest.approx(its / mine, rel=0.03)
    assert len(stack.references) == 2
