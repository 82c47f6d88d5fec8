"""The camera of a scenario: all that stays where it is on the sensor while the stars move.

Sensitivity (vignetting, dust, pixel scatter, cold pixels, bad columns), dark current (hot pixels, amp glow) and the
bias pattern. Drawn once for a scenario and kept.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from livestack.simulate.scenario import Scenario
from livestack.simulate.weather import SENSOR, random_stream


@dataclass(frozen=True, eq=False)
class Sensor:
    """Fixed maps in camera coordinates.

    Attributes
    ----------
    flat : (H, W) float32, sensitivity to light relative to a good pixel in the middle; None where it is 1 everywhere.
    dark_e_s : (H, W) float32, dark current in electrons a second at the temperature of the night; or one number.
    columns_adu : (W,) float32, fixed offset of each column.
    defects : (H, W) bool, True at hot and cold pixels and bad columns.
    """

    flat: np.ndarray | None
    dark_e_s: np.ndarray | float
    columns_adu: np.ndarray
    defects: np.ndarray


def _illumination(scenario: Scenario, draw: np.random.Generator) -> np.ndarray:
    """(H, W) float32: light that reaches each pixel, 1 in the middle."""
    height, width = scenario.height, scenario.width
    x = (np.arange(width, dtype=np.float32) - np.float32((width - 1) / 2))[None, :]
    y = (np.arange(height, dtype=np.float32) - np.float32((height - 1) / 2))[:, None]
    light = 1 - scenario.vignetting * (x * x + y * y) / np.float32((width**2 + height**2) / 4)
    for _ in range(scenario.dust):
        at_x, at_y = draw.uniform(-0.45, 0.45) * width, draw.uniform(-0.45, 0.45) * height
        radius, depth = draw.uniform(0.012, 0.04) * math.hypot(width, height), draw.uniform(0.02, 0.08)
        r = np.hypot(x - at_x, y - at_y) / radius
        light *= 1 - depth * np.exp(-(((r - 0.75) / 0.3) ** 2))  # a ring: the mirror's shadow in the middle
    return light.astype(np.float32)


@lru_cache(maxsize=2)
def make_sensor(scenario: Scenario) -> Sensor:
    """The sensor of `scenario`."""
    draw = random_stream(scenario, SENSOR)
    height, width = scenario.height, scenario.width
    defects = np.zeros((height, width), bool)
    flat = dark = None
    if scenario.vignetting or scenario.dust:
        flat = _illumination(scenario, draw)
    if scenario.prnu or scenario.cold_pixels or scenario.bad_columns:
        flat = np.ones((height, width), np.float32) if flat is None else flat
        if scenario.prnu:
            flat *= 1 + np.float32(scenario.prnu) * draw.standard_normal((height, width), np.float32)
        cold = draw.choice(defects.size, round(defects.size * scenario.cold_pixels), replace=False)
        flat.flat[cold] *= draw.uniform(0.05, 0.5, cold.size).astype(np.float32)
        defects.flat[cold] = True
        for column in draw.choice(width, scenario.bad_columns, replace=False):
            from_row = int(draw.uniform(0, 0.6) * height)
            flat[from_row:, column] *= np.float32(0.4)
            defects[from_row:, column] = True
    warmth = 2 ** ((scenario.temperature_c + 10) / 6)
    if scenario.hot_pixels or scenario.amp_glow_e_s:
        dark = np.full((height, width), scenario.dark_e_s, np.float32)
        if scenario.amp_glow_e_s:
            x = np.arange(width - 1, -1, -1, dtype=np.float32)[None, :] / np.float32(0.12 * width)
            y = np.arange(height, dtype=np.float32)[:, None] / np.float32(0.2 * height)
            dark += np.float32(scenario.amp_glow_e_s) * np.exp(-np.hypot(x, y))
        hot = draw.choice(defects.size, round(defects.size * scenario.hot_pixels), replace=False)
        dark.flat[hot] += draw.gamma(1.5, scenario.hot_e_s / 1.5, hot.size).astype(np.float32)
        defects.flat[hot] = True
        dark *= np.float32(warmth)
    defects.flags.writeable = False  # handed out with every frame
    columns = np.float32(scenario.bias_columns_adu) * draw.standard_normal(width, np.float32)
    return Sensor(flat, scenario.dark_e_s * warmth if dark is None else dark, columns, defects)
