"""What is in a frame beyond its sky: trails, all that moves, cosmic rays; expected electrons and where they fell."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from livestack.kernels.simulate import add_trail
from livestack.simulate.light import colour_of_pixels, distort
from livestack.simulate.movers import draw_comet, draw_passing, draw_points
from livestack.simulate.scenario import Scenario
from livestack.simulate.weather import COSMICS, PASSING, TRAILS, Conditions, random_stream

_SIGMA_OF_FWHM = 1 / 2.3548200450309493


@dataclass(frozen=True, eq=False)
class Crossing:
    """What crossed a frame: `electrons` (H, W) float32 (expected ones for trails, before vignetting), and its story."""

    electrons: np.ndarray
    told: tuple[dict[str, object], ...]


def trails_of(scenario: Scenario, conditions: Conditions) -> list[tuple[str, float]]:
    """(kind, peak in sigma of the sky noise) of each trail in a frame: the faults first, then the chance ones."""
    named = [(fault.kind, fault.amount) for fault in conditions.faults if fault.kind in ("satellite", "aircraft")]
    draw = random_stream(scenario, TRAILS, conditions.index + 1)
    by_chance = [
        (kind, float(np.exp(draw.normal(math.log(15), 0.7))))
        for kind, rate in (("satellite", scenario.satellite_rate), ("aircraft", scenario.aircraft_rate))
        for _ in range(draw.poisson(rate))
    ]
    return named + by_chance


def draw_trails(scenario: Scenario, conditions: Conditions, shape: tuple[int, int]) -> Crossing | None:
    """The trails of a frame of `shape` (H, W); None where there is none."""
    trails = trails_of(scenario, conditions)
    if not trails:
        return None
    height, width = shape
    image = np.zeros(shape, np.float32)
    noise = math.sqrt(conditions.sky_e + scenario.read_noise_e**2)
    told: list[dict[str, object]] = []
    for number, (kind, peak_sigma) in enumerate(trails):
        draw = random_stream(scenario, TRAILS, conditions.index + 1, number + 1)
        x, y = draw.uniform(0.25, 0.75) * width, draw.uniform(0.25, 0.75) * height
        angle = draw.uniform(0, math.pi)
        cos, sin = math.cos(angle), math.sin(angle)
        sigma = conditions.fwhm_px * _SIGMA_OF_FWHM
        told.append({"kind": kind, "x": x, "y": y, "angle_deg": math.degrees(angle), "peak_sigma": peak_sigma})
        peak = peak_sigma * noise
        if kind == "satellite":
            add_trail(image, x, y, cos, sin, sigma * 1.1, peak, 0.0, 1.0, draw.uniform(0, 0.4))
            continue
        # an aircraft: two steady lights near each other and a strobe, out of focus
        gap, dash = draw.uniform(4, 9) * sigma, draw.uniform(25, 70)
        for side in (-0.5, 0.5):
            at_x, at_y = x - sin * gap * side, y + cos * gap * side
            add_trail(image, at_x, at_y, cos, sin, sigma * 1.6, peak, 0.0, 1.0, 0.0)
        add_trail(image, x, y, cos, sin, sigma * 2.2, 3 * peak, dash, 0.12, 0.0)
    return Crossing(image, tuple(told))


def draw_movers(scenario: Scenario, conditions: Conditions, shape: tuple[int, int]) -> Crossing | None:
    """What moves, is new, or is told to pass through a frame of `shape` (H, W); None where there is none."""
    index = conditions.index
    passing = [(n, one) for n, one in enumerate(scenario.passing) if one.frame <= index < one.frame + one.frames]
    new = [one for one in scenario.newcomers if one.first <= index]
    if conditions.sky_number != 0 or not (passing or new or scenario.movers):
        return None
    image, told = np.zeros(shape, np.float32), []
    noise = math.sqrt(conditions.sky_e + scenario.read_noise_e**2)
    for number, one in passing:
        draw = random_stream(scenario, PASSING, number + 1)
        told += draw_passing(one, index, draw, image, conditions.fwhm_px, noise)
    to_frame = np.linalg.inv(conditions.transform)
    places, fluxes = [], []
    for mover in scenario.movers:
        smear = mover.rate_px_min * scenario.exposure_s / 60.0
        steps = 1 + math.ceil(smear / (0.4 * conditions.fwhm_px))
        minutes = scenario.minutes_of(index)
        off = (np.arange(steps) - (steps - 1) / 2) / steps * scenario.exposure_s / 60.0
        path = np.array([mover.place(minutes + one) for one in off])
        path = distort(scenario, path @ to_frame[:2, :2].T + to_frame[:2, 2])
        places.append(path)
        fluxes.append(np.full(steps, mover.flux_e * conditions.transparency / steps))
        x, y = path.mean(axis=0)
        if mover.kind == "comet":
            glow = np.zeros(shape, np.float32)
            draw_comet(glow, mover, (float(x), float(y)), conditions.transform[:2, :2], conditions.fwhm_px)
            image += glow * np.float32(conditions.transparency)
        at = mover.place(minutes)
        told.append({"kind": mover.kind, "x": float(x), "y": float(y), "x_ref": at[0], "y_ref": at[1]})
    for star in new:
        x, y = distort(scenario, np.array([[star.x, star.y]]) @ to_frame[:2, :2].T + to_frame[:2, 2])[0]
        places.append(np.array([[x, y]]))
        fluxes.append(np.array([star.flux_e * conditions.transparency]))
        told.append({"kind": "newcomer", "x": float(x), "y": float(y), "x_ref": star.x, "y_ref": star.y})
    if places:
        colours = colour_of_pixels(scenario)
        where, flux = np.concatenate(places), np.concatenate(fluxes)
        draw_points(image, where, flux, conditions.fwhm_px, scenario.beta, colours)
    return Crossing(image, tuple(told))


def draw_cosmics(scenario: Scenario, conditions: Conditions, shape: tuple[int, int]) -> Crossing | None:
    """The cosmic rays of a frame of `shape` (H, W); None where there is none."""
    height, width = shape
    draw = random_stream(scenario, COSMICS, conditions.index + 1)
    count = int(draw.poisson(scenario.cosmic_rate * height * width / 1e6))
    if not count:
        return None
    image = np.zeros(shape, np.float32)
    for _ in range(count):
        x, y = draw.uniform(-0.5, width - 0.5), draw.uniform(-0.5, height - 0.5)
        angle, length = draw.uniform(0, 2 * math.pi), min(0.7 * draw.pareto(1.3), 30.0)
        energy = float(np.exp(draw.normal(math.log(1800), 0.9)))
        steps = np.linspace(0, length, 2 + int(3 * length))
        columns = np.rint(x + steps * math.cos(angle)).astype(int)
        rows = np.rint(y + steps * math.sin(angle)).astype(int)
        inside = (columns >= 0) & (columns < width) & (rows >= 0) & (rows < height)
        # a longer track leaves more electrons, each step its share; whole ones, so that none rounds away
        share = max(1.0, round(energy * (1 + length) / steps.size / 2))
        np.add.at(image, (rows[inside], columns[inside]), np.float32(share))
    return Crossing(image, ({"kind": "cosmic rays", "count": count},))
