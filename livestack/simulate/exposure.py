"""One exposure: light on the sensor, electrons, counts.

`simulate_frame` is the library door of the simulator: a frame with its truth, from nothing but the scenario and the
index. Photon noise is exact Poisson below 50 electrons a pixel and Gaussian above. What crosses the frame (trails,
cosmic rays) is drawn apart and added before the full well, so the twin has the very same noise without it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import cv2
import numpy as np

from livestack.frame import Frame, FrameInfo, FrameKind
from livestack.kernels.simulate import add_noise, add_stars, digitise
from livestack.simulate.artefacts import draw_cosmics, draw_trails
from livestack.simulate.scenario import Scenario
from livestack.simulate.sensor import make_sensor
from livestack.simulate.sky import Sky, filter_factor, make_sky
from livestack.simulate.weather import CALIBRATION, NOISE, Conditions, conditions_of, random_stream

_GRID_PX = 8
"""Smooth light is computed at every so many pixels."""
_POISSON_BELOW_E = 50.0
_SKY_RGB = np.array([0.92, 1.0, 0.78])
_HYDROGEN_RGB, _OXYGEN_RGB = np.array([1.5, 0.35, 0.5]), np.array([0.25, 1.1, 1.0])
_STAR_FLOOR_E = 0.05
_CHANNEL = {"R": 0, "G": 1, "B": 2}


@dataclass(frozen=True, eq=False)
class SimulatedFrame:
    """A frame and the truth about it.

    Attributes
    ----------
    frame : uint16, what the camera wrote.
    transform : (3, 3) float64, frame (x, y, 1) to reference (x, y, 1) (`Conditions.transform`).
    conditions : all that is known of the frame besides pixels.
    twin : the same noise without trails and cosmic rays; the very same object as `frame` where there were none.
    trail_mask, cosmic_mask, defect_mask : (H, W) bool, True where a trail or cosmic ray left light, and at hot and cold
        pixels and bad columns.
    stars : structured (N,) with x, y (frame pixels, distortion included), x_ref, y_ref (reference pixels) and flux_e
        (electrons in the frame; as in the green plane for a mosaic), those with their centre in the frame, brightest
        first.
    expected : (H, W) float32, noise-free ADU without trails and cosmic rays, not clipped; only on request.
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


def distort(scenario: Scenario, xy: np.ndarray) -> np.ndarray:
    """Move ideal frame positions (N, 2) to where the optics put them: radially, `distortion_px` in the corners."""
    centre = np.array([(scenario.width - 1) / 2, (scenario.height - 1) / 2])
    half = float(np.hypot(*centre))
    radius2 = ((xy - centre) ** 2).sum(axis=1, keepdims=True) / half**2
    return np.asarray(xy + (xy - centre) * radius2 * (scenario.distortion_px / half))


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


def _channels(scenario: Scenario) -> np.ndarray:
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
    if scenario.nebula_e:
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
    return _mosaic(scenario, planes)


def _mosaic(scenario: Scenario, planes: list[np.ndarray]) -> np.ndarray:
    """Of three planes the pixels that the mosaic lets through; of one plane all."""
    if len(planes) == 1:
        return planes[0]
    out = np.empty_like(planes[0])
    channel = _channels(scenario)
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
    return _mosaic(scenario, [seen * np.float32(c) for c in (0.95, 1.0, 0.8)]) if scenario.bayer else seen


def _light(scenario: Scenario, conditions: Conditions) -> tuple[np.ndarray, np.ndarray]:
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
            scenario.aspect, math.radians(scenario.aspect_deg), _channels(scenario), _STAR_FLOOR_E / len(smear),
        )  # fmt: skip
    inside = (
        (xy[:, 0] >= -0.5) & (xy[:, 0] < scenario.width - 0.5) & (xy[:, 1] >= -0.5) & (xy[:, 1] < scenario.height - 0.5)
    )
    table = np.zeros(int(inside.sum()), dtype=[(n, "f8") for n in ("x", "y", "x_ref", "y_ref", "flux_e")])
    table["x"], table["y"] = xy[inside].T
    table["x_ref"], table["y_ref"] = sky.x[inside], sky.y[inside]
    table["flux_e"] = flux[inside, 1]
    return light, table


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
    return FrameInfo(
        width=scenario.width, height=scenario.height, kind=kind, bayer=scenario.bayer,
        bottom_up=scenario.row_order == "BOTTOM-UP", bits=16, saturation_adu=scenario.saturation_adu,
        exposure_s=exposure_s, date_obs=conditions.start,
        object_name=conditions.object_name if sky_frame else None,
        filter_name=conditions.filter_name if kind in (FrameKind.LIGHT, FrameKind.FLAT) else None,
        camera=scenario.camera, telescope=scenario.telescope, gain=float(scenario.gain_setting),
        offset=float(scenario.offset_setting), temperature_c=scenario.temperature_c, pixel_um=scenario.pixel_um,
        focal_mm=scenario.focal_mm, scale_arcsec_px=scenario.scale_arcsec_px,
        ra_deg=scenario.ra_deg + 15 * scenario.target_of(conditions.index) if sky_frame else None,
        dec_deg=scenario.dec_deg if sky_frame else None,
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
    no_stars = np.zeros(0, dtype=[(n, "f8") for n in ("x", "y", "x_ref", "y_ref", "flux_e")])
    light, stars = (np.zeros(shape, np.float32), no_stars) if drawn_for.dark else _light(scenario, drawn_for)
    trails, cosmics = np.zeros(shape, np.float32), np.zeros(shape, np.float32)
    told = [] if drawn_for.dark else draw_trails(scenario, drawn_for, trails)
    n_cosmics = draw_cosmics(scenario, drawn_for, cosmics)
    if n_cosmics:
        told.append({"kind": "cosmic rays", "count": n_cosmics})
    trail_mask, cosmic_mask = trails > 0, cosmics > 0
    if sensor.flat is not None:
        light *= sensor.flat
        trails *= sensor.flat
    light += np.float32(scenario.exposure_s) * sensor.dark_e_s
    draw = random_stream(scenario, NOISE, index + 1)
    electrons = _electrons(light, scenario.read_noise_e, draw)
    info = _info(scenario, conditions, conditions.kind, scenario.exposure_s)
    label = f"{scenario.name}[{conditions.index}]"
    twin = Frame(_read_out(scenario, electrons), info, label=label)
    frame = twin
    touched = trail_mask | cosmic_mask
    if touched.any():
        extra = cosmics
        crossed = trails[trail_mask]
        extra[trail_mask] += random_stream(scenario, NOISE, index + 1, 1).poisson(crossed).astype(np.float32)
        frame = Frame(_read_out(scenario, electrons, extra), info, label=label)
    ideal = None
    if expected:
        ideal = light / np.float32(scenario.gain_e_adu) + np.float32(scenario.pedestal_adu) + sensor.columns_adu
    return SimulatedFrame(
        frame, conditions.transform, conditions, twin, trail_mask, cosmic_mask, sensor.defects, stars, ideal,
        tuple(told),
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
            electrons = _mosaic(scenario, [electrons * np.float32(c) for c in (0.7, 1.0, 0.6)])
        if sensor.flat is not None:
            electrons *= sensor.flat
    electrons += np.float32(seconds) * sensor.dark_e_s
    data = _read_out(scenario, _electrons(electrons, scenario.read_noise_e, draw))
    label = f"{scenario.name} {kind.value}[{index}]"
    return Frame(data, _info(scenario, conditions_of(scenario, 0), kind, seconds), label=label)
