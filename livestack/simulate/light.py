"""Light from above: stars, sky glow, nebula and landscape as electrons on the sensor, before vignetting and noise."""

from __future__ import annotations

import math

import cv2
import numpy as np

from livestack.kernels.simulate import add_stars
from livestack.simulate.scenario import Scenario
from livestack.simulate.sky import Sky, filter_factor, make_sky
from livestack.simulate.weather import Conditions

STAR_COLUMNS = np.dtype([(name, "f8") for name in ("x", "y", "x_ref", "y_ref", "flux_e", "ra_deg", "dec_deg", "g_mag")])
"""Columns of a frame's star table, as `SimulatedFrame.stars` explains them."""

_GRID_PX = 8
"""Smooth light is computed at every so many pixels."""
_SKY_RGB = np.array([0.92, 1.0, 0.78])
_HYDROGEN_RGB, _OXYGEN_RGB = np.array([1.5, 0.35, 0.5]), np.array([0.25, 1.1, 1.0])
_STAR_FLOOR_E = 0.05
_CHANNEL = {"R": 0, "G": 1, "B": 2}


def distort(scenario: Scenario, xy: np.ndarray) -> np.ndarray:
    """Move ideal frame positions (N, 2) to where the optics put them: radially, `distortion_px` in the corners."""
    centre = np.array([(scenario.width - 1) / 2, (scenario.height - 1) / 2])
    half = float(np.hypot(*centre))
    radius2 = ((xy - centre) ** 2).sum(axis=1, keepdims=True) / half**2
    if scenario.distortion_px < 0:  # beyond this the cubic would turn round and show far stars in the frame
        radius2 = np.minimum(radius2, -half / (3 * scenario.distortion_px))
    return np.asarray(xy + (xy - centre) * radius2 * (scenario.distortion_px / half))


def undistort(scenario: Scenario, xy: np.ndarray) -> np.ndarray:
    """The ideal positions (N, 2) that `distort` moves to `xy`."""
    ideal = np.array(xy, dtype=float)
    for _ in range(100):
        off = xy - distort(scenario, ideal)
        ideal += off
        if np.abs(off).max(initial=0.0) < 1e-9:
            break
    return ideal


def project_pixels(scenario: Scenario, xy: np.ndarray, transform: np.ndarray, onto: np.ndarray) -> np.ndarray:
    """Where another frame shows what one frame shows at its pixels `xy` (N, 2), distortion of both included.

    Parameters
    ----------
    transform, onto : (3, 3) of the frame and of the other one (`SimulatedFrame.transform`).
    """
    matrix = np.linalg.inv(onto) @ transform
    return distort(scenario, undistort(scenario, xy) @ matrix[:2, :2].T + matrix[:2, 2])


def project_stars(scenario: Scenario, sky: Sky, transform: np.ndarray) -> np.ndarray:
    """(N, 2) frame positions of the stars of `sky` (all of them, also those outside the frame)."""
    to_frame = np.linalg.inv(transform)
    return distort(scenario, np.stack([sky.x, sky.y], axis=1) @ to_frame[:2, :2].T + to_frame[:2, 2])


def _smear(conditions: Conditions) -> np.ndarray:
    """(K, 2) offsets that a gust spreads the light over: evenly along a line, centred."""
    if conditions.smear_px <= 0:
        return np.zeros((1, 2))
    count = 1 + math.ceil(conditions.smear_px / (0.4 * conditions.fwhm_px))
    along = np.linspace(-0.5, 0.5, count) * conditions.smear_px
    angle = math.radians(conditions.smear_deg)
    return np.stack([along * math.cos(angle), along * math.sin(angle)], axis=1)


def colour_of_pixels(scenario: Scenario) -> np.ndarray:
    """(2, 2) int8 colour of the pixels at [y % 2, x % 2]; 0 for mono."""
    if scenario.bayer is None:
        return np.zeros((2, 2), np.int8)
    return np.array([_CHANNEL[letter] for letter in scenario.bayer], np.int8).reshape(2, 2)


def _smooth_light(scenario: Scenario, sky: Sky, conditions: Conditions) -> np.ndarray:
    """(H, W) float32: sky and nebula in electrons, computed on a coarse grid and interpolated."""
    height, width = scenario.height, scenario.width
    # grid node (i, j) lies at frame pixel ((j - 2) * step, (i - 2) * step)
    grid_x = (np.arange(width // _GRID_PX + 6) - 2.0) * _GRID_PX
    grid_y = (np.arange(height // _GRID_PX + 6) - 2.0) * _GRID_PX
    gx, gy = np.meshgrid(grid_x, grid_y)
    t = conditions.transform
    x = t[0, 0] * gx + t[0, 1] * gy + t[0, 2]
    y = t[1, 0] * gx + t[1, 1] * gy + t[1, 2]
    gradient = np.ones_like(x)
    if scenario.sky_gradient:
        angle, half = math.radians(conditions.gradient_deg), math.hypot(width, height) / 2
        middle = t @ ((width - 1) / 2, (height - 1) / 2, 1)
        along = (x - middle[0]) * math.cos(angle) + (y - middle[1]) * math.sin(angle)
        gradient += scenario.sky_gradient * along / half
    hydrogen, oxygen = np.zeros_like(x), np.zeros_like(x)
    if scenario.nebula_e and len(sky.blobs):
        for at_x, at_y, sigma, strength, share in sky.blobs:
            blob = strength * np.exp(-((x - at_x) ** 2 + (y - at_y) ** 2) / (2 * sigma**2))
            hydrogen += share * blob
            oxygen += (1 - share) * blob
    scale = scenario.nebula_e * conditions.transparency
    planes = []
    for colour in range(3 if scenario.bayer else 1):
        if scenario.bayer:
            weights = [_SKY_RGB[colour], _HYDROGEN_RGB[colour], _OXYGEN_RGB[colour]]
        else:
            name = conditions.filter_name
            weights = [float(filter_factor(c, name)) for c in (_SKY_RGB, _HYDROGEN_RGB, _OXYGEN_RGB)]
            if name in ("Ha", "SII"):
                weights = [weights[0], 0.9, 0.02]
            elif name == "OIII":
                weights = [weights[0], 0.02, 0.9]
        nodes = conditions.sky_e * weights[0] * gradient + scale * (weights[1] * hydrogen + weights[2] * oxygen)
        to_node = np.array([[1 / _GRID_PX, 0, 2], [0, 1 / _GRID_PX, 2]])
        planes.append(
            cv2.warpAffine(
                nodes.astype(np.float32), to_node, (width, height), flags=cv2.INTER_CUBIC | cv2.WARP_INVERSE_MAP
            )
        )
    return mosaic_of(scenario, planes)


def mosaic_of(scenario: Scenario, planes: list[np.ndarray]) -> np.ndarray:
    """Of three planes the pixels that the mosaic lets through; of one plane all."""
    if len(planes) == 1:
        return planes[0]
    out = np.empty_like(planes[0])
    channel = colour_of_pixels(scenario)
    for row in range(2):
        for column in range(2):
            out[row::2, column::2] = planes[channel[row, column]][row::2, column::2]
    return out


def _terrain_light(scenario: Scenario, sky: Sky, conditions: Conditions) -> np.ndarray:
    """(H, W) float32: the lunar landscape through the air of the moment, in electrons."""
    assert sky.terrain is not None
    shift = np.eye(3)
    shift[0, 2], shift[1, 2] = -sky.terrain_origin[0], -sky.terrain_origin[1]
    seen = cv2.warpAffine(
        sky.terrain, (shift @ conditions.transform)[:2], (scenario.width, scenario.height),
        flags=cv2.INTER_CUBIC | cv2.WARP_INVERSE_MAP, borderMode=cv2.BORDER_REFLECT,
    )  # fmt: skip
    seen = cv2.GaussianBlur(seen, (0, 0), conditions.fwhm_px / 2.3548)
    seen = np.maximum(seen, 0) * np.float32(scenario.terrain_e * conditions.transparency)
    return mosaic_of(scenario, [seen * np.float32(c) for c in (0.95, 1.0, 0.8)]) if scenario.bayer else seen


def collect_light(scenario: Scenario, conditions: Conditions) -> tuple[np.ndarray, np.ndarray]:
    """(H, W) float32 electrons of all light from above before vignetting, and the stars in the frame."""
    sky = make_sky(scenario, conditions.sky_number)
    light = _smooth_light(scenario, sky, conditions)
    if sky.terrain is not None:
        light += _terrain_light(scenario, sky, conditions)
    xy = project_stars(scenario, sky, conditions.transform)
    flux = sky.fluxes_through(conditions.filter_name, scenario.bayer is not None) * conditions.transparency
    offset = (xy - ((scenario.width - 1) / 2, (scenario.height - 1) / 2)) / (scenario.width / 2, scenario.height / 2)
    growth = 1 + scenario.tilt * offset[:, 0] + scenario.curvature * (offset**2).sum(axis=1) / 2
    alpha = conditions.fwhm_px * np.maximum(growth, 0.3) / (2 * math.sqrt(2 ** (1 / scenario.beta) - 1))
    smear = _smear(conditions)
    for dx, dy in smear:
        add_stars(
            light, xy[:, 0] + dx, xy[:, 1] + dy, flux / len(smear), alpha, scenario.beta,
            scenario.aspect, math.radians(scenario.aspect_deg), colour_of_pixels(scenario), _STAR_FLOOR_E / len(smear),
        )  # fmt: skip
    inside = (
        (xy[:, 0] >= -0.5) & (xy[:, 0] < scenario.width - 0.5) & (xy[:, 1] >= -0.5) & (xy[:, 1] < scenario.height - 0.5)
    )
    table = np.zeros(int(inside.sum()), STAR_COLUMNS)
    table["x"], table["y"] = xy[inside].T
    table["x_ref"], table["y_ref"] = sky.x[inside], sky.y[inside]
    table["flux_e"] = flux[inside, 1]
    for name in ("ra_deg", "dec_deg", "g_mag"):
        table[name] = np.nan if sky.real is None else getattr(sky.real, name)[inside]
    return light, table
