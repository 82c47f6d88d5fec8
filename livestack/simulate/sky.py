"""The sky of a scenario on the reference grid: stars (drawn, or those of the real sky), nebula, landscape of the Moon.

Star counts follow a power law N(>F) ~ F^-slope, drawn cell by cell, so that the sky goes on wherever the mount drifts
and does not depend on how far it does. Colours are black bodies: B-V of a mixed field to temperature (Ballesteros 2012,
doi:10.1209/0295-5075/97/34008), photons at 630, 530 and 460 nm.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache

import cv2
import numpy as np

from livestack.simulate.real_sky import RealStars, draw_real_stars
from livestack.simulate.scenario import Scenario
from livestack.simulate.weather import NEBULA, STARS, TERRAIN, pointing, random_stream

_CELL_PX = 256
_FILTER_SHARES = {"R": 0.32, "G": 0.34, "B": 0.30}
"""Light of a grey source through each filter; anything else counts as narrow."""
_NARROW_SHARE = 0.06
_TERRAIN_MARGIN_PX = 200


@dataclass(frozen=True, eq=False)
class Sky:
    """What there is to see, on the reference grid.

    Attributes
    ----------
    x, y : (N,) float64, star positions in reference pixels (0-based, integers at pixel centres).
    flux_e : (N,) float64, electrons of one exposure under a clear sky, without filter (mono) or in green (mosaic).
    colour : (N, 3) float64, light in R, G, B relative to G.
    blobs : (M, 5) float64, the nebula as Gaussians: x, y, sigma (pixels), strength (1 = brightest), hydrogen share.
    terrain : (h, w) float32, mean 1, or None; its pixel [0, 0] lies at `terrain_origin` (x, y) of the reference.
    real : what is known of the same stars where the sky is the real one, else None.
    """

    x: np.ndarray
    y: np.ndarray
    flux_e: np.ndarray
    colour: np.ndarray
    blobs: np.ndarray
    terrain: np.ndarray | None = None
    terrain_origin: tuple[float, float] = (0.0, 0.0)
    real: RealStars | None = None

    def fluxes_through(self, filter_name: str | None, mosaic: bool) -> np.ndarray:
        """(N, 3) float64 electrons in R, G and B pixels; three times the same for mono."""
        if mosaic:
            return self.flux_e[:, None] * self.colour
        return np.repeat((self.flux_e * filter_factor(self.colour, filter_name))[:, None], 3, axis=1)


def filter_factor(colour: np.ndarray, filter_name: str | None) -> np.ndarray:
    """What a filter leaves of light of that (..., 3) colour, relative to no filter at all."""
    if filter_name is None or filter_name == "L":
        return np.ones(colour.shape[:-1])
    mean = colour.mean(axis=-1)
    if filter_name in _FILTER_SHARES:
        return np.asarray(_FILTER_SHARES[filter_name] * colour[..., "RGB".index(filter_name)] / mean)
    return np.full(colour.shape[:-1], _NARROW_SHARE)


def star_colours(b_v: np.ndarray) -> np.ndarray:
    """Light in R, G, B relative to G of black bodies with that colour index: (N,) -> (N, 3)."""
    kelvin = 4600 * (1 / (0.92 * b_v + 1.7) + 1 / (0.92 * b_v + 0.62))
    metres = np.array([630e-9, 530e-9, 460e-9])
    photons = metres**-4 / np.expm1(0.0143877688 / (metres * kelvin[:, None]))
    return photons / photons[:, 1:2]


def _draw_stars(scenario: Scenario, number: int, box: tuple[float, float, float, float]) -> tuple[np.ndarray, ...]:
    """x, y, flux, B-V of all stars of sky `number` in the cells that touch `box` (x0, y0, x1, y1)."""
    parts = []
    if scenario.stars_within is not None:
        draw = random_stream(scenario, STARS, number + 1)
        share, count = scenario.stars_within, scenario.stars
        x = (0.5 + share * (draw.uniform(size=count) - 0.5)) * (scenario.width - 1)
        y = (0.5 + share * (draw.uniform(size=count) - 0.5)) * (scenario.height - 1)
        parts.append((x, y, draw.uniform(size=count), draw.standard_normal(count)))
    else:
        density = scenario.stars / (scenario.width * scenario.height)
        cells = [math.floor(edge / _CELL_PX) for edge in box]
        for row in range(cells[1], cells[3] + 1):
            for column in range(cells[0], cells[2] + 1):
                draw = random_stream(scenario, STARS, number + 1, row + 2**24, column + 2**24)
                count = draw.poisson(density * _CELL_PX**2)
                x = (draw.uniform(size=count) + column) * _CELL_PX - 0.5
                y = (draw.uniform(size=count) + row) * _CELL_PX - 0.5
                parts.append((x, y, draw.uniform(size=count), draw.standard_normal(count)))
    x, y, rank, normal = (np.concatenate(column) for column in zip(*parts, strict=True))
    # N(>F) ~ F^-slope between flux_min and flux_max
    least = (scenario.flux_min_e / scenario.flux_max_e) ** scenario.flux_slope
    flux = scenario.flux_min_e * (least + (1 - least) * (1 - rank)) ** (-1 / scenario.flux_slope)
    return x, y, flux, np.clip(0.75 + 0.4 * normal, -0.25, 1.9)


def _draw_nebula(scenario: Scenario, number: int) -> np.ndarray:
    """(M, 5): blobs of a nebula around the middle of the reference frame."""
    draw = random_stream(scenario, NEBULA, number + 1)
    count, size = 24, math.hypot(scenario.width, scenario.height)
    sigma = size * np.exp(draw.uniform(math.log(0.025), math.log(0.16), count))
    x = (scenario.width - 1) / 2 + draw.normal(0, 0.16 * scenario.width, count)
    y = (scenario.height - 1) / 2 + draw.normal(0, 0.16 * scenario.height, count)
    strength = draw.uniform(0.2, 1, count)
    blobs = np.stack([x, y, sigma, strength, draw.uniform(0.1, 1, count)], axis=1)
    distance2 = (x[:, None] - x) ** 2 + (y[:, None] - y) ** 2
    peak = (strength * np.exp(-distance2 / (2 * sigma**2))).sum(axis=1).max()
    blobs[:, 3] /= peak
    return blobs


def _draw_terrain(scenario: Scenario) -> tuple[np.ndarray, tuple[float, float]]:
    """A cratered landscape lit from the left, mean 1, and where its first pixel lies."""
    draw = random_stream(scenario, TERRAIN)
    margin = _TERRAIN_MARGIN_PX
    height, width = scenario.height + 2 * margin, scenario.width + 2 * margin
    relief = np.zeros((height, width), np.float32)
    for octave in range(2, 8):
        grid = draw.standard_normal((2**octave * height // width + 3, 2**octave + 3)).astype(np.float32)
        height_px = np.float32(14 * 2.0 ** (-1.1 * octave))
        relief += height_px * cv2.resize(grid, (width, height), interpolation=cv2.INTER_CUBIC)
    count = int(height * width / 2200)
    radii = np.minimum(2.5 * draw.uniform(size=count) ** (-1 / 1.8), 0.16 * width)
    for x, y, radius in zip(draw.uniform(0, width, count), draw.uniform(0, height, count), radii, strict=True):
        x0, x1 = max(0, int(x - 2 * radius)), min(width, int(x + 2 * radius) + 2)
        y0, y1 = max(0, int(y - 2 * radius)), min(height, int(y + 2 * radius) + 2)
        rows, columns = np.mgrid[y0:y1, x0:x1].astype(np.float32)
        r = np.hypot(columns - x, rows - y) / radius
        bowl = np.where(r < 1, 0.55 * (r**2 - 1), 0) + 0.35 * np.exp(-(((r - 1) / 0.22) ** 2))
        relief[y0:y1, x0:x1] += (0.30 * radius * bowl).astype(np.float32)
    relief = cv2.GaussianBlur(relief, (0, 0), 0.8)
    slope = cv2.Sobel(relief, cv2.CV_32F, 1, 0, scale=1 / 8)
    shade = np.clip(1 + 0.9 * slope / (1 + 0.45 * np.abs(slope)), 0.03, None)
    return (shade / shade.mean()).astype(np.float32), (-float(margin), -float(margin))


def seen_box(scenario: Scenario, margin_px: float = 110.0) -> tuple[float, float, float, float]:
    """x0, y0, x1, y1 in reference pixels of all that any frame of the night sees, with a margin for stars' wings."""
    right, bottom = scenario.width - 1, scenario.height - 1
    corners = np.array([[0, right, 0, right], [0, 0, bottom, bottom], [1, 1, 1, 1]], np.float64)
    seen = np.concatenate([(pointing(scenario, index) @ corners)[:2] for index in range(scenario.frames)], axis=1)
    low, high = seen.min(axis=1) - margin_px, seen.max(axis=1) + margin_px
    return float(low[0]), float(low[1]), float(high[0]), float(high[1])


def _real_sky(scenario: Scenario, number: int) -> Sky:
    """The stars of the real sky, without nebula."""
    stars = draw_real_stars(scenario, number, seen_box(scenario))
    flux = scenario.electrons_of(0.0) * 10 ** (-0.4 * stars.g_mag)
    return Sky(stars.x, stars.y, flux, star_colours(stars.b_v), np.zeros((0, 5)), real=stars)


@lru_cache(maxsize=8)
def make_sky(scenario: Scenario, number: int = 0) -> Sky:
    """The sky of target `number` of `scenario`, wide enough for all its frames; brightest star first."""
    if scenario.real_sky:
        return _real_sky(scenario, number)
    x, y, flux, b_v = _draw_stars(scenario, number, seen_box(scenario))
    order = np.argsort(-flux, kind="stable")
    terrain, origin = None, (0.0, 0.0)
    if scenario.terrain_e:
        box = seen_box(scenario, margin_px=4)
        beyond = max(-box[0], -box[1], box[2] - scenario.width + 1, box[3] - scenario.height + 1)
        if beyond > _TERRAIN_MARGIN_PX:
            raise ValueError(
                f"terrain_e: frames look {beyond:.0f} px past the first one, but the landscape ends after"
                f" {_TERRAIN_MARGIN_PX} px; let the mount drift less."
            )
        terrain, origin = _draw_terrain(scenario)
    colour = star_colours(b_v[order])
    return Sky(x[order], y[order], flux[order], colour, _draw_nebula(scenario, number), terrain, origin)
