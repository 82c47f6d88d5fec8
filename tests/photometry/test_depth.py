"""Zero point, limit and sky brightness against a drawn sky whose truth is arithmetic."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest

from livestack.astrometry import SkyMap
from livestack.astrometry.facts import FieldStars
from livestack.photometry.depth import Stamps

SIZE, SCALE, EXPOSURE, ZERO, SKY, NOISE, FWHM, BETA = 900, 2.0, 30.0, 21.3, 400.0, 12.0, 3.2, 3.0
ALPHA2 = (0.5 * FWHM) ** 2 / (2 ** (1 / BETA) - 1)


def moffat(places: np.ndarray, flux: np.ndarray) -> np.ndarray:
    """A picture of stars, sampled finely enough."""
    image = np.zeros((SIZE, SIZE))
    peak = (BETA - 1) / (math.pi * ALPHA2)
    for (px, py), light in zip(places, flux, strict=True):
        x0, y0 = max(0, int(px) - 150), max(0, int(py) - 150)  # what is farther out is a millionth
        y, x = np.mgrid[y0 : min(SIZE, y0 + 301), x0 : min(SIZE, x0 + 301)]
        image[y[:, 0], x0 : x0 + x.shape[1]] += light * peak * (1 + ((x - px) ** 2 + (y - py) ** 2) / ALPHA2) ** -BETA
    return image


@pytest.fixture(scope="module")
def night() -> tuple[np.ndarray, SkyMap, FieldStars]:
    draw = np.random.default_rng(3)
    sky = SkyMap(150.0, 30.0, SIZE / 2, SIZE / 2, np.diag([-SCALE / 3600, -SCALE / 3600]), SIZE, SIZE)
    places = draw.uniform(60, SIZE - 60, (14, 2))
    g = draw.uniform(8.0, 10.0, 14)
    image = moffat(places, EXPOSURE * 10 ** (-0.4 * (g - ZERO))) + SKY + draw.normal(0, NOISE, (SIZE, SIZE))
    order = np.argsort(g)
    field = FieldStars(sky.to_sky(places)[order], g[order], np.arange(14))
    return image.astype(np.float32)[None], sky, field


def measure(night: tuple[np.ndarray, SkyMap, FieldStars], black: bool = True, saturation: float | None = None):
    image, sky, field = night
    stamps = Stamps.cut(lambda rows, columns: image[:, rows, columns], image.shape, sky, field, FWHM, BETA)
    return stamps.measure(SCALE, EXPOSURE, saturation, black)


def test_the_zero_point_is_that_of_the_stars(night):
    assert measure(night).zero_point == pytest.approx(ZERO, abs=0.02)


def test_the_limit_is_five_times_the_noise_of_an_optimal_measurement(night):
    y, x = np.mgrid[-40:41, -40:41]
    profile = (1 + (x**2 + y**2) / ALPHA2) ** -BETA
    profile = profile / profile.sum()
    sigma = NOISE / math.sqrt(float(np.sum(profile**2)))
    truth = ZERO - 2.5 * math.log10(5 * sigma / EXPOSURE)
    assert measure(night).limit_mag == pytest.approx(truth, abs=0.1)


def test_the_sky_is_told_only_where_it_is_light_alone(night):
    truth = ZERO - 2.5 * math.log10(SKY / EXPOSURE / SCALE**2)
    assert measure(night).sky_mag == pytest.approx(truth, abs=0.05)
    assert measure(night, black=False).sky_mag is None


def test_clipped_stars_are_left_out(night):
    image, sky, field = night
    clipped = np.minimum(image, 3000.0 + SKY)
    assert measure((clipped, sky, field), saturation=3000.0 + SKY) is None or measure(
        (clipped, sky, field), saturation=3000.0 + SKY
    ).zero_point == pytest.approx(ZERO, abs=0.05)


def test_the_colour_term_is_that_of_the_stars(night):
    """G = zero - 2.5 log10(ADU/s) + term (BP - RP - pivot), with a term of 0.21 drawn into the light."""
    _, sky, field = night
    draw, term = np.random.default_rng(8), 0.21
    places = np.stack(np.meshgrid(np.linspace(80, 820, 6), np.linspace(80, 820, 5)), axis=-1).reshape(-1, 2)
    g, colour = draw.uniform(8.0, 9.0, 30), draw.uniform(-0.1, 2.2, 30)
    flux = EXPOSURE * 10 ** (-0.4 * (g - ZERO - term * (colour - 0.8)))
    image = moffat(places, flux) + SKY + draw.normal(0, NOISE, (SIZE, SIZE))
    found = measure((image.astype(np.float32)[None], sky, FieldStars(sky.to_sky(places), g, np.arange(30), colour)))
    assert found.colour_term == pytest.approx(term, abs=0.01)
    assert found.colour_pivot == pytest.approx(np.median(colour), abs=0.1)
    at_pivot = ZERO + term * (found.colour_pivot - 0.8)
    assert found.zero_point == pytest.approx(at_pivot, abs=0.03)
    assert measure(night).colour_term is None  # no star has a colour
    assert measure((night[0], sky, replace(field, bp_rp=0.8 + 0.01 * colour))).colour_term is None  # all have the same


def test_nothing_is_told_without_an_exposure_or_stars(night):
    image, sky, field = night
    none = FieldStars(field.sky[:2], field.g[:2], field.ids[:2])
    assert measure((image, sky, none)) is None
    stamps = Stamps.cut(lambda rows, columns: image[:, rows, columns], image.shape, sky, field, FWHM, BETA)
    assert stamps.measure(SCALE, None, None, True) is None
