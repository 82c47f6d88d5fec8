"""The conditions of one frame before any light is drawn: where it points, how sharp and how clear it is, what is wrong.

Slow wander (seeing, transparency) is a sum of sines with seeded phases, so that frame n needs none of the frames before
it. Frame 0 of a faultless night defines the reference grid: its transform is the identity.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

import numpy as np

from livestack.base.frame import FrameKind
from livestack.simulate.scenario import Fault, Scenario, Verdict


def random_stream(scenario: Scenario, *words: int) -> np.random.Generator:
    """A generator of its own for each purpose and frame: frames can be made in any order."""
    return np.random.default_rng([scenario.seed, *words])


# first word of each stream
POINTING, SEEING, CLEARNESS, TRAILS, COSMICS, NOISE, STARS, NEBULA, SENSOR, TERRAIN, CALIBRATION = range(11)
FAINT, COLOURS, AIM, OTHER_FIELD, PASSING = range(11, 16)


@dataclass(frozen=True, eq=False)
class Conditions:
    """One frame of the night.

    Attributes
    ----------
    index : number of the frame.
    kind : light, or dark when the shutter stayed closed and the header says so.
    sky_number : which star field it shows (targets count from 0; another field has a number of its own).
    transform : (3, 3) float64, frame (x, y, 1) to reference (x, y, 1) of that sky, radial distortion left out.
    fwhm_px : Moffat FWHM before any smear; smear_px, smear_deg : length and direction of a wind smear.
    transparency : of the air, 1 = clear; sky_e : electrons a pixel and exposure in the middle of the frame.
    dark : True when no light reaches the sensor.
    original : for a duplicate the index of the frame it repeats, else None.
    written_share : share of the file that reaches the disk.
    verdict, reason : what should become of the frame.
    """

    index: int
    start: datetime
    kind: FrameKind
    object_name: str
    filter_name: str | None
    sky_number: int
    transform: np.ndarray
    fwhm_px: float
    smear_px: float
    smear_deg: float
    transparency: float
    sky_e: float
    gradient_deg: float
    dark: bool
    original: int | None
    written_share: float
    faults: tuple[Fault, ...]
    verdict: Verdict
    reason: str | None


def _wander(scenario: Scenario, stream: int, index: int) -> float:
    """A slow and fast wander of rms 1: four sines of 6 to 80 frames and some white noise."""
    slow = random_stream(scenario, stream)
    periods = np.exp(slow.uniform(math.log(6), math.log(80), 4))
    phases = slow.uniform(0, 2 * math.pi, 4)
    sines = float(np.sin(2 * math.pi * index / periods + phases).sum())
    return 0.85 * sines / math.sqrt(2) + 0.53 * float(random_stream(scenario, stream, index + 1).standard_normal())


def pointing(scenario: Scenario, index: int) -> np.ndarray:
    """The transform of frame `index`: (3, 3) float64, frame (x, y, 1) to reference (x, y, 1)."""
    centre = np.array([(scenario.width - 1) / 2, (scenario.height - 1) / 2])
    pivot = np.array(scenario.rotation_centre) * (scenario.width - 1, scenario.height - 1)
    shift = np.array(scenario.drift_px) * index
    if index:
        shift += random_stream(scenario, POINTING, 0, index).normal(0, scenario.jitter_px, 2)
    place = index // scenario.dither_every
    if place and scenario.dither_px:
        draw = random_stream(scenario, POINTING, 1, place)
        radius, angle = scenario.dither_px * math.sqrt(draw.uniform()), draw.uniform(0, 2 * math.pi)
        shift += (radius * math.cos(angle), radius * math.sin(angle))
    angle_rad = math.radians(scenario.rotation_deg * index)
    linear = np.array(
        [[math.cos(angle_rad), -math.sin(angle_rad)], [math.sin(angle_rad), math.cos(angle_rad)]], np.float64
    )
    offset = pivot - linear @ pivot + shift
    for fault in scenario.faults_of(index):
        if fault.kind == "rescale":  # about the centre of the frame
            offset = offset + linear @ (centre - centre / fault.amount)
            linear = linear / fault.amount
    if scenario.flip_at is not None and index >= scenario.flip_at:
        offset = offset + linear @ (2 * centre) + np.array(scenario.flip_error_px)
        linear = -linear
    transform = np.eye(3)
    transform[:2, :2], transform[:2, 2] = linear, offset
    return transform


def conditions_of(scenario: Scenario, index: int) -> Conditions:
    """Everything about frame `index` except its pixels."""
    faults = scenario.faults_of(index)
    amounts = {fault.kind: fault.amount for fault in faults}
    original = index - max(1, round(amounts["duplicate"])) if "duplicate" in amounts else None
    if original is not None and original < 0:
        raise ValueError(f"faults: frame {index} repeats frame {original}; the original must come before it.")
    if original is not None:
        return replace(conditions_of(scenario, original), index=index, original=original, verdict="refused",
                       reason="duplicate", faults=faults)  # fmt: skip
    transparency = float(np.clip(1 + scenario.transparency_jitter * _wander(scenario, CLEARNESS, index), 0.05, 1.2))
    if index == 0:
        transparency = 1.0
    clouds = amounts.get("clouds", 1.0)
    sky_e = scenario.clear_sky_e * (1 + scenario.sky_trend * index) * amounts.get("bright_sky", 1.0)
    sky_e *= 1 + 0.6 * (1 - clouds)  # clouds are lit from below
    fwhm = scenario.fwhm_px * math.exp(scenario.seeing_jitter * _wander(scenario, SEEING, index))
    verdict: Verdict = "stacked"
    reason = None
    severity = {"stacked": 0, "either": 1, "refused": 2}
    for fault in faults:
        word, why = fault.verdict
        # what hides a fault counts before it: a truncated file is never looked at
        if severity[word] > severity[verdict] or (word == verdict and fault.kind == "truncated"):
            verdict, reason = word, why
    target = scenario.target_of(index)
    return Conditions(
        index=index,
        start=scenario.start + timedelta(seconds=scenario.cadence_s * index),
        kind=FrameKind.DARK if "dark" in amounts else FrameKind.LIGHT,
        object_name=scenario.objects[target],
        filter_name=scenario.filter_of(index),
        sky_number=1000 + index if "other_field" in amounts else target,
        transform=pointing(scenario, index),
        fwhm_px=fwhm * amounts.get("defocus", 1.0),
        smear_px=amounts.get("wind", 0.0),
        smear_deg=float(random_stream(scenario, SEEING, 0, index, 1).uniform(0, 180)),
        transparency=transparency * clouds,
        sky_e=max(sky_e, 0.0),
        gradient_deg=scenario.sky_gradient_deg + scenario.sky_gradient_turn_deg * index,
        dark="dark" in amounts or "capped" in amounts,
        original=None,
        written_share=amounts.get("truncated", 1.0),
        faults=faults,
        verdict=verdict,
        reason=reason,
    )
