"""Three stars among cosmic rays that are brighter than they are."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np

from livestack import LiveStack, Settings
from livestack.base.frame import Frame, FrameInfo
from livestack.base.settings import RegistrationSettings
from livestack.detection import StarCatalog
from livestack.registration import StarReference, register_stars
from livestack.registration import transform as tf
from livestack.registration.transform import Registration

WIDTH, HEIGHT = 640, 480
STARS = np.array([[180.0, 140.0], [470.0, 210.0], [330.0, 360.0]])
FLUX = np.array([9e3, 1.4e4, 2.4e4])


def catalogue(xy: np.ndarray, flux: np.ndarray, fwhm: np.ndarray) -> StarCatalog:
    order = np.argsort(-flux)
    n = len(flux)
    xy, flux, fwhm = xy[order], flux[order], fwhm[order]
    return StarCatalog(
        xy[:, 0].copy(), xy[:, 1].copy(), flux, flux / 120, fwhm, np.full(n, 0.1), np.zeros(n), np.zeros(n, bool), 9.0
    )


def with_hits(rng: np.random.Generator, xy: np.ndarray, flux: np.ndarray) -> StarCatalog:
    n = int(rng.integers(4, 9))
    hits = np.column_stack([rng.uniform(5, WIDTH - 5, n), rng.uniform(5, HEIGHT - 5, n)])
    widths = np.concatenate([rng.normal(3.6, 0.06, len(xy)), rng.choice([1.43, 1.5, 1.66, 2.04, 2.12], n)])
    return catalogue(np.concatenate([xy, hits]), np.concatenate([flux, 10 ** rng.uniform(3, 4.6, n)]), widths)


def test_stars_are_told_from_hits_by_their_width() -> None:
    rng = np.random.default_rng(1)
    settings = RegistrationSettings()
    for _ in range(40):
        turn, shift = rng.normal(0, 0.01), rng.normal(0, 12, 2)
        truth = np.array([
            [math.cos(turn), -math.sin(turn), shift[0]], [math.sin(turn), math.cos(turn), shift[1]], [0, 0, 1],
        ])  # fmt: skip
        reference = StarReference(with_hits(rng, tf.apply(truth, STARS), FLUX), WIDTH, HEIGHT)
        noisy = STARS + rng.normal(0, 0.03, STARS.shape)
        found = register_stars(reference, with_hits(rng, noisy, FLUX * rng.normal(1, 0.02, 3)), [np.eye(3)], settings)
        assert isinstance(found, Registration)
        assert tf.corner_displacement(found.matrix, truth, WIDTH, HEIGHT) < 0.3


def test_unrelated_frames_with_hits_do_not_match() -> None:
    rng = np.random.default_rng(2)
    settings = RegistrationSettings()
    for _ in range(150):
        one, other = (
            with_hits(rng, np.column_stack([rng.uniform(9, WIDTH - 9, 3), rng.uniform(9, HEIGHT - 9, 3)]), FLUX)
            for _ in range(2)
        )
        assert not isinstance(
            register_stars(StarReference(one, WIDTH, HEIGHT), other, [np.eye(3)], settings), Registration
        )


def exposure(rng: np.random.Generator, number: int) -> Frame:
    """Three stars of FWHM 3.6 px that drift, eight cosmic rays a frame."""
    y, x = np.mgrid[:HEIGHT, :WIDTH]
    light = np.full((HEIGHT, WIDTH), 400.0)
    sigma = 3.6 / 2.3548
    for (px, py), flux in zip(STARS + np.array([1.5, 0.7]) * number, FLUX, strict=True):
        light += flux / (2 * np.pi * sigma**2) * np.exp(-((x - px) ** 2 + (y - py) ** 2) / (2 * sigma**2))
    data = rng.poisson(light) + rng.normal(0, 5, light.shape)
    for _ in range(8):
        row, column = rng.integers(0, HEIGHT - 3), rng.integers(0, WIDTH - 4)
        data[row : row + 2, column : column + rng.integers(2, 4)] += rng.uniform(2000, 8000)
    info = FrameInfo(width=WIDTH, height=HEIGHT, exposure_s=30.0, saturation_adu=65535.0)
    return Frame(np.clip(np.round(data), 0, 65535).astype(np.uint16), info, label=f"light_{number:02d}.fits")


def test_a_night_of_three_stars_is_stacked_and_measured_by_its_stars() -> None:
    rng = np.random.default_rng(3)
    with LiveStack(Settings.model_validate({"stack": {"warmup_frames": 6}})) as stack:
        outcomes = [stack.add(exposure(rng, number)) for number in range(14)]
        assert [outcome.status for outcome in outcomes] == ["stacked"] * 14
        for number, outcome in enumerate(outcomes):
            assert outcome.transform is not None
            expected = np.array([[1, 0, -1.5 * number], [0, 1, -0.7 * number], [0, 0, 1.0]])
            base = outcomes[0].transform
            assert tf.corner_displacement(np.linalg.inv(base) @ outcome.transform, expected, WIDTH, HEIGHT) < 0.4
            if number:
                assert outcome.fwhm_px is not None
                assert abs(outcome.fwhm_px - 3.6) < 0.3
        weights = [member.weight for member in stack.groups["stack"].members]
        assert max(weights) / min(weights) < 1.6, "the first frame is measured by its stars, too"


def test_a_wide_field_is_not_touched() -> None:
    """Galaxies among stars: what matches is the stars, and nothing is dropped where there are many."""
    rng = np.random.default_rng(4)
    xy = np.column_stack([rng.uniform(9, WIDTH - 9, 60), rng.uniform(9, HEIGHT - 9, 60)])
    stars = catalogue(xy, 10 ** rng.uniform(3, 5, 60), rng.normal(3.0, 0.1, 60))
    found = register_stars(StarReference(stars, WIDTH, HEIGHT), replace(stars), [np.eye(3)], RegistrationSettings())
    assert isinstance(found, Registration)
    assert found.n_matched == 60
