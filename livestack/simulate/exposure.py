"""One exposure: light on the sensor, electrons, counts.

`simulate_frame` is the library door of the simulator: a frame with its truth, from nothing but the scenario and the
index. Photon noise is exact Poisson below 50 electrons a pixel and Gaussian above. What crosses the frame (trails,
cosmic rays) is drawn apart and added before the full well, so the twin has the very same noise without it.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from livestack.base.frame import Frame, FrameInfo, FrameKind
from livestack.kernels.simulate import add_noise, digitise
from livestack.simulate.artefacts import Crossing, draw_cosmics, draw_movers, draw_trails
from livestack.simulate.light import STAR_COLUMNS, collect_light, mosaic_of
from livestack.simulate.real_sky import told_place
from livestack.simulate.scenario import Scenario
from livestack.simulate.sensor import make_sensor
from livestack.simulate.weather import CALIBRATION, NOISE, Conditions, conditions_of, random_stream

_POISSON_BELOW_E = 50.0


@dataclass(frozen=True, eq=False)
class SimulatedFrame:
    """A frame and the truth about it.

    Attributes
    ----------
    frame : uint16, what the camera wrote.
    transform : (3, 3) float64, frame (x, y, 1) to reference (x, y, 1) (`Conditions.transform`).
    conditions : all that is known of the frame besides pixels.
    twin : the same noise without trails, movers and cosmic rays; the very same object as `frame` where there were none.
    trail_mask, cosmic_mask, defect_mask : (H, W) bool, True where a trail or cosmic ray left light, and at hot and cold
        pixels and bad columns.
    stars : structured (N,) with x, y (frame pixels, distortion included), x_ref, y_ref (reference pixels), flux_e
        (electrons in the frame; as in the green plane for a mosaic), ra_deg, dec_deg (ICRS) and g_mag (NaN where the
        sky is not the real one), those with their centre in the frame, brightest first.
    expected : (H, W) float32, noise-free ADU without trails, movers and cosmic rays, not clipped; only on request.
    artefacts : what crossed the frame, in words and numbers.
    """

    frame: Frame
    transform: np.ndarray
    conditions: Conditions
    twin: Frame
    trail_mask: np.ndarray
    cosmic_mask: np.ndarray
    defect_mask: np.ndarray
    stars: np.ndarray
    expected: np.ndarray | None
    artefacts: tuple[dict[str, object], ...]

    @property
    def artefact_mask(self) -> np.ndarray:
        """(H, W) bool, True where a trail, a cosmic ray or a sensor defect is."""
        return self.trail_mask | self.cosmic_mask | self.defect_mask


def _electrons(expected: np.ndarray, read_noise_e: float, draw: np.random.Generator) -> np.ndarray:
    """(H, W) float32: `expected` electrons with photon and read noise."""
    normal = draw.standard_normal(expected.shape, np.float32)
    out = np.empty_like(expected)
    add_noise(expected, normal, read_noise_e, out)
    low = expected < _POISSON_BELOW_E
    if low.any():
        out[low] = draw.poisson(np.maximum(expected[low], 0)) + np.float32(read_noise_e) * normal[low]
    return out


def _read_out(scenario: Scenario, electrons: np.ndarray, extra: np.ndarray | None = None) -> np.ndarray:
    """(H, W) uint16 ADU of (H, W) float32 electrons."""
    out = np.empty(electrons.shape, np.uint16)
    nothing = np.empty((0, 0), np.float32)
    digitise(
        electrons, nothing if extra is None else extra, make_sensor(scenario).columns_adu, scenario.gain_e_adu,
        scenario.pedestal_adu, scenario.full_well_e, scenario.adc_max, out,
    )  # fmt: skip
    return out


def _info(scenario: Scenario, conditions: Conditions, kind: FrameKind, exposure_s: float) -> FrameInfo:
    """What the header of such a frame says."""
    sky_frame = kind is FrameKind.LIGHT
    target = scenario.target_of(conditions.index)
    ra_deg, dec_deg = scenario.ra_deg + 15 * target, scenario.dec_deg
    if scenario.real_sky:
        ra_deg, dec_deg = told_place(scenario, target)
    return FrameInfo(
        width=scenario.width, height=scenario.height, kind=kind, bayer=scenario.bayer,
        bottom_up=scenario.row_order == "BOTTOM-UP", bits=16, saturation_adu=scenario.saturation_adu,
        exposure_s=exposure_s, date_obs=conditions.start,
        object_name=conditions.object_name if sky_frame else None,
        filter_name=conditions.filter_name if kind in (FrameKind.LIGHT, FrameKind.FLAT) else None,
        camera=scenario.camera, telescope=scenario.telescope, gain=float(scenario.gain_setting),
        offset=float(scenario.offset_setting), temperature_c=scenario.temperature_c, pixel_um=scenario.pixel_um,
        focal_mm=scenario.focal_mm, scale_arcsec_px=scenario.scale_arcsec_px,
        ra_deg=ra_deg if sky_frame else None, dec_deg=dec_deg if sky_frame else None,
    )  # fmt: skip


def simulate_frame(scenario: Scenario, index: int, *, expected: bool = False) -> SimulatedFrame:
    """Simulate frame `index` of `scenario` with its truth; `expected` adds the noise-free image.

    Raises
    ------
    IndexError : `index` is not in 0 .. frames - 1.
    """
    if not 0 <= index < scenario.frames:
        raise IndexError(f"index: the scenario {scenario.name} has frames 0 to {scenario.frames - 1}, not {index}.")
    conditions = conditions_of(scenario, index)
    if conditions.original is not None:
        index = conditions.original
    sensor, shape = make_sensor(scenario), (scenario.height, scenario.width)
    drawn_for = conditions_of(scenario, index)
    if drawn_for.dark:
        light, stars = np.zeros(shape, np.float32), np.zeros(0, STAR_COLUMNS)
    else:
        light, stars = collect_light(scenario, drawn_for)
    trails = None if drawn_for.dark else draw_trails(scenario, drawn_for, shape)
    moving = None if drawn_for.dark else draw_movers(scenario, drawn_for, shape)
    if moving is not None:
        both = moving.electrons if trails is None else moving.electrons + trails.electrons
        trails = Crossing(both, (*(trails.told if trails else ()), *moving.told))
    cosmics = draw_cosmics(scenario, drawn_for, shape)
    trail_mask = np.zeros(shape, bool) if trails is None else trails.electrons > 0
    cosmic_mask = np.zeros(shape, bool) if cosmics is None else cosmics.electrons > 0
    if sensor.flat is not None:
        light *= sensor.flat
    light += np.float32(scenario.exposure_s) * sensor.dark_e_s
    electrons = _electrons(light, scenario.read_noise_e, random_stream(scenario, NOISE, index + 1))
    info = _info(scenario, conditions, conditions.kind, scenario.exposure_s)
    label = f"{scenario.name}[{conditions.index}]"
    twin = frame = Frame(_read_out(scenario, electrons), info, label=label)
    if trails is not None or cosmics is not None:
        extra = np.zeros(shape, np.float32) if cosmics is None else cosmics.electrons
        if trails is not None:
            crossed = trails.electrons[trail_mask]
            if sensor.flat is not None:
                crossed *= sensor.flat[trail_mask]
            extra[trail_mask] += random_stream(scenario, NOISE, index + 1, 1).poisson(crossed).astype(np.float32)
        frame = Frame(_read_out(scenario, electrons, extra), info, label=label)
    told = (*(trails.told if trails else ()), *(cosmics.told if cosmics else ()))
    ideal = None
    if expected:
        ideal = light / np.float32(scenario.gain_e_adu) + np.float32(scenario.pedestal_adu) + sensor.columns_adu
    return SimulatedFrame(
        frame, conditions.transform, conditions, twin, trail_mask, cosmic_mask, sensor.defects, stars, ideal,
        told,
    )  # fmt: skip


def simulate_calibration(
    scenario: Scenario, kind: FrameKind, index: int, *, exposure_s: float | None = None, level_e: float = 25000.0
) -> Frame:
    """Simulate one calibration frame of the same camera.

    Parameters
    ----------
    kind : bias, dark, flat or dark-flat.
    index : number of the frame, from 0; each has noise of its own.
    exposure_s : default: 0 for a bias, the lights' for a dark, 2 s for flats and dark-flats.
    level_e : electrons of a flat in the middle of the sensor; the lamp flickers by 3 % from frame to frame.
    """
    usual = {FrameKind.BIAS: 0.0, FrameKind.DARK: scenario.exposure_s, FrameKind.FLAT: 2.0, FrameKind.DARK_FLAT: 2.0}
    if kind not in usual:
        raise ValueError(f"kind: expected bias, dark, flat or dark-flat, found {kind}; simulate_frame makes lights.")
    seconds = usual[kind] if exposure_s is None else exposure_s
    sensor = make_sensor(scenario)
    number = list(usual).index(kind)
    draw = random_stream(scenario, CALIBRATION, number, index + 1)
    electrons = np.zeros((scenario.height, scenario.width), np.float32)
    if kind is FrameKind.FLAT:
        electrons += np.float32(level_e * (1 + 0.03 * draw.standard_normal()))
        if scenario.bayer:
            electrons = mosaic_of(scenario, [electrons * np.float32(c) for c in (0.7, 1.0, 0.6)])
        if sensor.flat is not None:
            electrons *= sensor.flat
    electrons += np.float32(seconds) * sensor.dark_e_s
    data = _read_out(scenario, _electrons(electrons, scenario.read_noise_e, draw))
    label = f"{scenario.name} {kind.value}[{index}]"
    return Frame(data, _info(scenario, conditions_of(scenario, 0), kind, seconds), label=label)
