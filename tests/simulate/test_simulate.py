"""The simulator against laws that it does not know: photon statistics, conservation of flux, other people's readers."""

from __future__ import annotations

import json
import math
import signal
import struct
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import cv2
import numpy as np
import pytest
import rawpy
import sep
import tifffile
from astropy.io import fits
from scipy.integrate import dblquad
from typer.testing import CliRunner

from livestack.base.errors import SessionError, UsageError
from livestack.base.frame import FrameKind
from livestack.faces.cli import app
from livestack.simulate import (
    SCENARIOS,
    Fault,
    Scenario,
    conditions_of,
    make_sky,
    named_scenario,
    parse_size,
    project_pixels,
    simulate_calibration,
    simulate_frame,
    write_session,
)
from livestack.simulate.files import SINGLE_FILE_FORMATS, encode_frame
from livestack.simulate.session import Style
from tests.waiting import until

STEADY = {"drift_px": (0.0, 0.0), "jitter_px": 0.0, "seeing_jitter": 0.0, "transparency_jitter": 0.0}
EMPTY = {"stars": 0, "nebula_e": 0.0}


def light_of(scenario: Scenario, index: int = 0) -> np.ndarray:
    """Expected electrons of a frame, dark current included, pedestal not."""
    expected = simulate_frame(scenario, index, expected=True).expected
    assert expected is not None
    return (expected.astype(float) - scenario.pedestal_adu) * scenario.gain_e_adu


def apply(transform: np.ndarray, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """(N, 2) positions after a transform."""
    return (transform @ np.stack([x, y, np.ones_like(x)]))[:2].T


# --- photons and electrons --------------------------------------------------------------------------------------------


def test_photon_transfer_gives_back_gain_and_read_noise() -> None:
    scenario = Scenario(width=320, height=240, gain_e_adu=0.7, read_noise_e=3.5, dark_e_s=0.0)
    means, variances = [], []
    for level in (500.0, 2000.0, 8000.0, 20000.0, 40000.0):
        one, two = (simulate_calibration(scenario, FrameKind.FLAT, i, level_e=level).data.astype(float) for i in (0, 1))
        means.append((one.mean() + two.mean()) / 2 - scenario.pedestal_adu)
        variances.append((one - two).var() / 2)
    slope = np.polyfit(means, variances, 1)[0]
    assert 1 / slope == pytest.approx(scenario.gain_e_adu, rel=0.02)
    bias = simulate_calibration(scenario, FrameKind.BIAS, 0).data.astype(float)
    assert bias.mean() == pytest.approx(scenario.pedestal_adu, abs=0.1)
    # the converter's steps add 1/12 ADU^2
    assert math.sqrt(bias.var() - 1 / 12) * scenario.gain_e_adu == pytest.approx(scenario.read_noise_e, rel=0.02)


@pytest.mark.parametrize("sky_e", [0.4, 8.0, 49.0, 51.0, 700.0])
def test_photon_noise_is_the_root_of_the_light_however_faint(sky_e: float) -> None:
    scenario = Scenario(width=400, height=300, sky_e=sky_e, read_noise_e=0.5, gain_e_adu=0.1, dark_e_s=0.0, **EMPTY)
    electrons = (simulate_frame(scenario, 0).frame.data - scenario.pedestal_adu) * scenario.gain_e_adu
    assert electrons.mean() == pytest.approx(sky_e, rel=0.01, abs=0.02)
    assert electrons.var() == pytest.approx(sky_e + 0.25, rel=0.02)


def test_frames_agree_with_their_expected_image() -> None:
    scenario = named_scenario("mono", width=200, height=150, frames=30, **STEADY, dither_px=0.0, rotation_deg=0.0)
    frames = np.stack([simulate_frame(scenario, i).frame.data for i in range(30)]).astype(float)
    expected = simulate_frame(scenario, 0, expected=True).expected
    assert expected is not None
    good = expected < 0.8 * scenario.saturation_adu
    sigma = np.sqrt((expected - 500) * 0.8 + 1.8**2) / 0.8 / math.sqrt(30)
    pull = (frames.mean(axis=0) - expected)[good] / sigma[good]
    assert abs(pull.mean()) < 0.03
    assert pull.std() == pytest.approx(1, abs=0.03)


def test_dark_current_grows_with_time_and_doubles_every_six_degrees() -> None:
    scenario = Scenario(width=300, height=200, dark_e_s=0.5, temperature_c=-10.0)
    warm = scenario.model_copy(update={"temperature_c": 2.0})
    cold, warmer, longer = (
        (simulate_calibration(s, FrameKind.DARK, 0, exposure_s=t).data.mean() - 500) * 0.8
        for s, t in ((scenario, 30), (warm, 30), (scenario, 120))
    )
    assert cold == pytest.approx(15, rel=0.01)
    assert warmer == pytest.approx(60, rel=0.01)
    assert longer == pytest.approx(60, rel=0.01)


@pytest.mark.parametrize(("bits", "top"), [(16, 63000), (12, 4095)])
def test_bright_stars_clip_at_full_well_or_converter(bits: int, top: int) -> None:
    scenario = Scenario(
        width=160, height=120, stars=3, stars_within=0.6, flux_min_e=1.9e6, flux_max_e=2e6, adc_bits=bits
    )
    simulated = simulate_frame(scenario, 0)
    assert scenario.saturation_adu == top
    assert simulated.frame.data.max() == top
    assert (simulated.frame.data == top).sum() > 9
    assert simulated.frame.info.saturation_adu == top


# --- stars ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("fwhm", [0.7, 1.2, 2.0, 3.3, 6.0])
@pytest.mark.parametrize("seed", [1, 2, 3])
def test_a_star_keeps_its_flux_and_its_place(fwhm: float, seed: int) -> None:
    scenario = Scenario(
        width=141, height=120, seed=seed, stars=1, stars_within=0.2, flux_min_e=2e4, flux_max_e=3e4, nebula_e=0,
        sky_e=0, dark_e_s=0, fwhm_px=fwhm, **STEADY, full_well_e=1e6,
    )  # fmt: skip
    light = light_of(scenario)
    (star,) = simulate_frame(scenario, 0).stars
    assert light.sum() == pytest.approx(star["flux_e"], rel=1e-3)
    if fwhm < 1:
        return  # pixels as coarse as this shift the first moment: it is no truth any more
    rows, columns = np.indices(light.shape)
    assert (light * columns).sum() / light.sum() == pytest.approx(star["x"], abs=0.01)
    assert (light * rows).sum() / light.sum() == pytest.approx(star["y"], abs=0.01)


def test_pixels_hold_the_integral_of_the_profile_over_their_area() -> None:
    fwhm, beta = 1.1, 3.0
    scenario = Scenario(
        width=90, height=60, stars=1, stars_within=0.1, flux_min_e=1e6, flux_max_e=2e6, nebula_e=0, sky_e=0,
        dark_e_s=0, fwhm_px=fwhm, beta=beta, **STEADY, full_well_e=1e9,
    )  # fmt: skip
    light = light_of(scenario)
    (star,) = simulate_frame(scenario, 0).stars
    alpha = fwhm / (2 * math.sqrt(2 ** (1 / beta) - 1))
    norm = (beta - 1) / (math.pi * alpha**2) * star["flux_e"]
    x, y = round(star["x"]), round(star["y"])
    for dx, dy in ((0, 0), (1, 0), (-1, 2), (4, -3)):
        at_x, at_y = x + dx - star["x"], y + dy - star["y"]
        truth, _ = dblquad(
            lambda v, u: norm * (1 + (u * u + v * v) / alpha**2) ** -beta,
            at_x - 0.5, at_x + 0.5, at_y - 0.5, at_y + 0.5,
        )  # fmt: skip
        assert light[y + dy, x + dx] == pytest.approx(truth, rel=2e-3)


def test_long_axis_points_where_the_scenario_says() -> None:
    scenario = Scenario(
        width=121, height=100, stars=1, stars_within=0.1, flux_min_e=1e5, nebula_e=0, sky_e=0, dark_e_s=0,
        fwhm_px=4, beta=6, aspect=1.5, aspect_deg=30, **STEADY, full_well_e=1e9,
    )  # fmt: skip
    light = light_of(scenario)
    rows, columns = np.indices(light.shape).astype(float)
    u, v = columns - (light * columns).sum() / light.sum(), rows - (light * rows).sum() / light.sum()
    xx, yy, xy = ((light * m).sum() / light.sum() for m in (u * u, v * v, u * v))
    assert math.degrees(math.atan2(2 * xy, xx - yy) / 2) == pytest.approx(30, abs=0.5)
    spread = math.hypot(xx - yy, 2 * xy)
    assert math.sqrt((xx + yy + spread) / (xx + yy - spread)) == pytest.approx(1.5, rel=0.02)


def test_star_counts_follow_the_power_law_and_do_not_depend_on_the_length_of_the_night() -> None:
    scenario = Scenario(width=900, height=700, stars=3000, flux_slope=0.8, flux_max_e=1e9)
    sky = make_sky(scenario)
    counts = [(sky.flux_e > f).sum() for f in (1000, 2000, 4000)]
    assert counts[0] / counts[1] == pytest.approx(2**0.8, rel=0.06)
    assert counts[1] / counts[2] == pytest.approx(2**0.8, rel=0.08)
    inside = (np.abs(sky.x - 449.5) < 450) & (np.abs(sky.y - 349.5) < 350)
    assert inside.sum() == pytest.approx(3000, rel=0.06)
    longer = make_sky(scenario.model_copy(update={"frames": 900}))
    assert longer.x.size > sky.x.size
    assert set(sky.x) <= set(longer.x)


def test_red_stars_are_red_on_the_mosaic() -> None:
    for seed in (1, 4):
        scenario = Scenario(
            width=120, height=100, seed=seed, bayer="GRBG", stars=1, stars_within=0.1, flux_min_e=5e4, nebula_e=0,
            sky_e=0, dark_e_s=0, fwhm_px=5, full_well_e=1e9, **STEADY,
        )  # fmt: skip
        light, colour = light_of(scenario), make_sky(scenario).colour[0]
        green = light[0::2, 0::2].sum() + light[1::2, 1::2].sum()
        assert light[0::2, 1::2].sum() / green * 2 == pytest.approx(colour[0], rel=0.01)
        assert light[1::2, 0::2].sum() / green * 2 == pytest.approx(colour[2], rel=0.01)
        assert (colour[0] > 1) == (colour[2] < 1)


def test_filters_share_out_the_light() -> None:
    scenario = named_scenario("filters", width=120, height=90, frames=8)
    assert [conditions_of(scenario, i).filter_name for i in range(4)] == ["L", "R", "G", "B"]
    assert [conditions_of(scenario, i).object_name for i in (3, 4)] == ["M 27", "NGC 6960"]
    sky = make_sky(scenario)
    total = sum(sky.fluxes_through(name, False)[:, 0] for name in "RGB")
    np.testing.assert_allclose(total / sky.fluxes_through("L", False)[:, 0], 0.96, atol=0.06)
    assert not np.array_equal(make_sky(scenario, 1).x, sky.x)


# --- geometry ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["mono", "altaz", "flip"])
def test_transform_takes_stars_to_the_reference(name: str) -> None:
    scenario = named_scenario(name, width=480, height=360, frames=20)
    np.testing.assert_array_equal(simulate_frame(scenario, 0).transform, np.eye(3))
    for index in (7, 19):
        simulated = simulate_frame(scenario, index)
        stars = simulated.stars
        assert len(stars) > 100
        mapped = apply(simulated.transform, stars["x"], stars["y"])
        np.testing.assert_allclose(mapped, np.stack([stars["x_ref"], stars["y_ref"]], axis=1), atol=1e-9)


@pytest.mark.parametrize("name", ["mono", "altaz", "flip"])
def test_light_falls_where_the_transform_says(name: str) -> None:
    scenario = named_scenario(name, width=480, height=360, frames=20, flux_min_e=3000.0)

    def measure(index: int) -> np.ndarray:
        data = simulate_frame(scenario, index).frame.data.astype(np.float32)
        found = sep.extract(data - sep.Background(data).back(), 60.0)
        sharp = (found["peak"] < 40000) & (found["flag"] == 0) & (found["npix"] > 12)
        x, y, _ = sep.winpos(data - sep.Background(data).back(), found["x"][sharp], found["y"][sharp], 1.3)
        return np.stack([x, y], axis=1)

    first, last = measure(0), measure(19)
    mapped = apply(simulate_frame(scenario, 19).transform, *last.T)
    distance = np.hypot(*(mapped[:, None] - first[None]).transpose(2, 0, 1))
    nearest = distance.argmin(axis=1)
    paired = distance.min(axis=1) < 0.7
    assert paired.sum() > 25
    residual = (mapped - first[nearest])[paired]
    assert np.hypot(*np.median(residual, axis=0)) < 0.02
    assert np.median(np.abs(residual)) < 0.05


def test_field_turns_about_the_point_that_was_asked_for() -> None:
    scenario = Scenario(width=400, height=300, rotation_deg=2, rotation_centre=(0.25, 0.8), **STEADY)
    pivot = np.array([0.25 * 399, 0.8 * 299, 1])
    transform = simulate_frame(scenario, 10).transform
    np.testing.assert_allclose(transform @ pivot, pivot, atol=1e-9)
    assert math.degrees(math.atan2(transform[1, 0], transform[0, 0])) == pytest.approx(20)


def test_meridian_flip_turns_the_frame_upside_down_but_not_the_sensor() -> None:
    scenario = named_scenario("flip", width=201, height=150, frames=4, hot_pixels=0.001, cold_pixels=0.001, **STEADY)
    scenario = scenario.model_copy(update={"flip_error_px": (0.0, 0.0), "rotation_deg": 0.0, "dither_px": 0.0})
    before, after = simulate_frame(scenario, 1), simulate_frame(scenario, 2)
    np.testing.assert_allclose(after.transform @ (0, 0, 1), (200, 149, 1), atol=1e-9)
    np.testing.assert_array_equal(before.defect_mask, after.defect_mask)
    hot = before.defect_mask & (before.frame.data > 2000) & (after.frame.data > 2000)
    assert hot.sum() > 10
    assert np.mean(light_of(scenario, 1)[::-1, ::-1] == light_of(scenario, 2)) < 0.5  # pixels stay, light turns
    stars = [simulate_frame(scenario, i).stars["flux_e"][:20] for i in (1, 2)]
    np.testing.assert_allclose(stars[0], stars[1])


def test_rescaled_frame_shows_the_sky_larger() -> None:
    scenario = Scenario(width=300, height=200, frames=2, faults=(Fault(kind="rescale", first=1, amount=1.1),), **STEADY)
    transform = simulate_frame(scenario, 1).transform
    assert math.sqrt(np.linalg.det(transform)) == pytest.approx(1 / 1.1)
    np.testing.assert_allclose(transform @ (149.5, 99.5, 1), (149.5, 99.5, 1))


def test_distortion_moves_stars_radially_by_what_was_asked_in_the_corner() -> None:
    scenario = Scenario(width=400, height=300, distortion_px=3.0, stars=2000, **STEADY)
    stars = simulate_frame(scenario, 0).stars
    dx, dy = stars["x"] - stars["x_ref"], stars["y"] - stars["y_ref"]
    radius = np.hypot(stars["x_ref"] - 199.5, stars["y_ref"] - 149.5) / math.hypot(199.5, 149.5)
    np.testing.assert_allclose(np.hypot(dx, dy), 3 * radius**3, atol=1e-9)


def test_pixels_of_one_frame_are_found_in_another_through_the_lens() -> None:
    scenario = named_scenario("wide", width=400, height=300, frames=6)
    one, other = simulate_frame(scenario, 0), simulate_frame(scenario, 5)
    _, mine, its = np.intersect1d(one.stars["x_ref"], other.stars["x_ref"], return_indices=True)
    here, there = (np.column_stack([stars["x"], stars["y"]]) for stars in (one.stars[mine], other.stars[its]))
    assert len(here) > 100
    np.testing.assert_allclose(project_pixels(scenario, here, one.transform, other.transform), there, atol=1e-6)


def test_landscape_of_the_moon_moves_with_the_transform() -> None:
    scenario = named_scenario("moon", width=320, height=240, frames=12)
    first, last = simulate_frame(scenario, 0), simulate_frame(scenario, 11)
    upright = cv2.warpAffine(last.frame.data.astype(np.float32), last.transform[:2], (320, 240), flags=cv2.INTER_CUBIC)
    inner = np.s_[20:220, 40:280]
    target = first.frame.data[inner].astype(np.float32)
    start, halt = np.eye(2, 3, dtype=np.float32), (3, 200, 1e-8)
    likeness, found = cv2.findTransformECC(target, upright[inner], start, cv2.MOTION_TRANSLATION, halt, None, 5)
    assert likeness > 0.98
    np.testing.assert_allclose(found[:, 2], (0, 0), atol=0.02)
    assert abs(last.transform[0, 2]) > 20
    assert len(first.stars) == 0


# --- what is fixed on the sensor, what varies -------------------------------------------------------------------------


def test_flat_shows_the_vignetting_and_lights_suffer_the_same() -> None:
    scenario = named_scenario("calibrated", width=400, height=300, frames=3, dust=0, prnu=0, amp_glow_e_s=0, **EMPTY)
    flat = simulate_calibration(scenario, FrameKind.FLAT, 0).data - scenario.pedestal_adu
    light = light_of(scenario.model_copy(update={"hot_pixels": 0.0, "bias_columns_adu": 0.0}))
    for image in (flat, light):
        corner, centre = np.median(image[:6, :6]), np.median(image[145:155, 195:205])
        assert corner / centre == pytest.approx(1 - 0.35, abs=0.025)


def test_hot_pixels_stay_and_are_told() -> None:
    scenario = named_scenario("hot", width=300, height=200, frames=5)
    one, two = simulate_frame(scenario, 0), simulate_frame(scenario, 4)
    assert one.defect_mask.sum() > 40
    dark = simulate_calibration(scenario, FrameKind.DARK, 0).data
    outliers = dark > np.median(dark) + 200
    assert outliers.sum() > 30
    assert not (outliers & ~one.defect_mask).any()
    np.testing.assert_array_equal(one.defect_mask, two.defect_mask)
    assert (one.artefact_mask >= one.defect_mask).all()


def test_clouds_dim_the_stars_and_a_brighter_sky_is_brighter() -> None:
    faults = (Fault(kind="clouds", first=1, amount=0.4), Fault(kind="bright_sky", first=2, amount=3.0))
    scenario = Scenario(width=300, height=200, frames=3, faults=faults, nebula_e=0, **STEADY)
    clear, cloudy, bright = (simulate_frame(scenario, i) for i in range(3))
    np.testing.assert_allclose(cloudy.stars["flux_e"], 0.4 * clear.stars["flux_e"])
    np.testing.assert_allclose(bright.stars["flux_e"], clear.stars["flux_e"])
    sky = [np.median(f.frame.data) - 500 for f in (clear, cloudy, bright)]
    assert sky[2] == pytest.approx(3 * sky[0], rel=0.02)
    assert sky[1] > 1.2 * sky[0]


def test_gradient_rises_along_its_direction() -> None:
    scenario = Scenario(width=400, height=300, sky_gradient=0.3, sky_gradient_deg=0.0, sky_e=1000, dark_e_s=0, **EMPTY)
    light = light_of(scenario)
    assert light[:, 399].mean() - light[:, 0].mean() == pytest.approx(2 * 0.3 * 1000 * 199.5 / 250, rel=1e-3)
    assert light[:, 200].std() < 1e-2


def test_wind_smears_along_a_line_and_keeps_flux() -> None:
    base = Scenario(
        width=160, height=140, frames=2, stars=1, stars_within=0.1, flux_min_e=1e5, nebula_e=0, sky_e=0, dark_e_s=0,
        faults=(Fault(kind="wind", first=1, amount=15),), full_well_e=1e9, beta=6, **STEADY,
    )  # fmt: skip
    still, smeared = light_of(base, 0), light_of(base, 1)
    assert smeared.sum() == pytest.approx(still.sum(), rel=1e-3)
    rows, columns = np.indices(still.shape).astype(float)
    spreads = []
    for light in (still, smeared):
        u, v = columns - (light * columns).sum() / light.sum(), rows - (light * rows).sum() / light.sum()
        xx, yy = (light * u * u).sum() / light.sum(), (light * v * v).sum() / light.sum()
        spreads.append(xx + yy)
    # points on both ends included, a line of n points has the variance L^2 (n + 1) / (n - 1) / 12
    n = 1 + math.ceil(15 / 1.2)
    assert spreads[1] - spreads[0] == pytest.approx(15**2 * (n + 1) / (n - 1) / 12, rel=0.02)


# --- artefacts and truth ----------------------------------------------------------------------------------------------


def test_twin_differs_only_where_the_masks_say() -> None:
    scenario = named_scenario("trails", width=320, height=240, frames=10)
    for index in (0, 3, 7):
        simulated = simulate_frame(scenario, index)
        differs = simulated.frame.data != simulated.twin.data
        told = simulated.trail_mask | simulated.cosmic_mask
        assert told.sum() > 300
        assert not (differs & ~told).any()
        assert differs.sum() > 0.8 * told.sum()
        assert (simulated.frame.data >= simulated.twin.data).all()
    kinds = [[a["kind"] for a in simulate_frame(scenario, i).artefacts] for i in (0, 3, 7)]
    assert kinds[0][0] == "satellite"
    assert kinds[1][:2] == ["satellite", "satellite"]
    assert kinds[2][0] == "aircraft"


def test_trail_is_as_bright_as_it_was_asked_to_be() -> None:
    scenario = Scenario(width=300, height=200, faults=(Fault(kind="satellite", first=0, amount=20),), **EMPTY)
    simulated = simulate_frame(scenario, 0)
    added = simulated.frame.data.astype(float) - simulated.twin.data
    noise_adu = math.sqrt(300 + 1.8**2) / 0.8
    assert np.percentile(added[simulated.trail_mask], 98) == pytest.approx(20 * noise_adu, rel=0.45)
    (told,) = simulated.artefacts
    angle = math.radians(float(told["angle_deg"]))  # type: ignore[arg-type]
    rows, columns = np.nonzero(added > 0.5 * added.max())
    across = (rows - told["y"]) * math.cos(angle) - (columns - told["x"]) * math.sin(angle)
    assert np.abs(across).max() < 3


def test_a_frame_depends_on_seed_and_index_alone() -> None:
    scenario = named_scenario("everything", width=200, height=150, frames=12)
    backwards = [simulate_frame(scenario, i) for i in (9, 3, 0)]
    again = [simulate_frame(scenario, i) for i in (9, 3, 0)]
    for one, two in zip(backwards, again, strict=True):
        np.testing.assert_array_equal(one.frame.data, two.frame.data)
    longer = Scenario(width=200, height=150, frames=70)
    shorter = longer.model_copy(update={"frames": 5})
    np.testing.assert_array_equal(simulate_frame(longer, 4).frame.data, simulate_frame(shorter, 4).frame.data)
    other = simulate_frame(longer.model_copy(update={"seed": 2}), 4)
    assert (other.frame.data != simulate_frame(longer, 4).frame.data).mean() > 0.9
    assert len({simulate_frame(longer, i).frame.data.tobytes() for i in range(6)}) == 6


@pytest.mark.parametrize("name", sorted(SCENARIOS))
def test_every_named_night_can_be_simulated(name: str) -> None:
    scenario = named_scenario(name, width=96, height=64, frames=9)
    assert conditions_of(scenario, 0).verdict == "stacked"
    data = simulate_frame(scenario, 8).frame.data
    assert data.shape == (64, 96)
    assert data.dtype == np.uint16
    assert data.std() > 5


def test_bad_night_has_every_reason() -> None:
    scenario = named_scenario("everything")
    reasons = {conditions_of(scenario, i).reason for i in range(scenario.frames)}
    expected = {"clouds", "truncated", "trailing", "not_a_light", "no_registration", "defocus", "duplicate", None}
    assert reasons == expected


def test_few_stars_are_exactly_as_many_and_stay_in_the_frame() -> None:
    for name, count in (("sparse", 9), ("two_stars", 2), ("one_star", 1)):
        scenario = named_scenario(name, width=640, height=480)
        assert {len(simulate_frame(scenario, i).stars) for i in (0, 20, 37)} == {count}


# --- files ------------------------------------------------------------------------------------------------------------


def test_every_format_is_read_by_somebody_else(tmp_path: Path) -> None:
    for bayer in (None, "GBRG"):
        scenario = named_scenario("mono", width=130, height=96, frames=2, bayer=bayer)
        frame = simulate_frame(scenario, 1).frame
        for name in SINGLE_FILE_FORMATS:
            if name == "xisf":
                continue
            path = tmp_path / f"frame.{name}"
            path.write_bytes(encode_frame(scenario, frame, name))
            if name == "dng":
                with rawpy.imread(str(path)) as raw:
                    np.testing.assert_array_equal(raw.raw_image_visible, frame.data)
                    assert raw.black_level_per_channel == [500] * 4
                    assert raw.white_level == 63000
                    if bayer:
                        names = raw.color_desc.decode()
                        assert "".join(names[i] for i in raw.raw_pattern.ravel()) == bayer
                with tifffile.TiffFile(path) as tiff:
                    exif = tiff.pages.first.tags["ExifTag"].value
                assert exif["ExposureTime"][0] / exif["ExposureTime"][1] == 30
                assert exif["DateTimeOriginal"] == "2025:08:14 21:03:52"
            elif name.startswith("fits"):
                with fits.open(path) as hdus:
                    hdu = hdus[-1]
                    np.testing.assert_array_equal(hdu.data, frame.data)
                    assert hdu.data.dtype.kind == "u"
                    assert hdu.header["IMAGETYP"] == "Light Frame"
                    assert hdu.header["DATE-OBS"] == "2025-08-14T21:03:52.000"
                    assert hdu.header.get("BAYERPAT") == bayer
            else:
                image = tifffile.imread(path) if name == "tiff" else cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
                assert image.dtype == np.uint16
                if bayer is None:
                    np.testing.assert_array_equal(image, frame.data)
                    continue
                rgb = image if name == "tiff" else image[..., ::-1]
                # the pixels of the mosaic itself survive in their own colour
                np.testing.assert_array_equal(rgb[10:-10:2, 10:-10:2, 1], frame.data[10:-10:2, 10:-10:2])
                np.testing.assert_array_equal(rgb[10:-10:2, 11:-10:2, 2], frame.data[10:-10:2, 11:-10:2])
                np.testing.assert_array_equal(rgb[11:-10:2, 10:-10:2, 0], frame.data[11:-10:2, 10:-10:2])


def test_xisf_is_read_by_its_package(tmp_path: Path) -> None:
    xisf = pytest.importorskip("xisf", reason="the optional package xisf is not installed")
    scenario = named_scenario("osc", width=130, height=96, frames=2)
    frame = simulate_frame(scenario, 1).frame
    path = tmp_path / "frame.xisf"
    path.write_bytes(encode_frame(scenario, frame, "xisf"))
    read = xisf.XISF(str(path))
    np.testing.assert_array_equal(read.read_image(0)[..., 0], frame.data)
    keywords = read.get_images_metadata()[0]["FITSKeywords"]
    assert keywords["BAYERPAT"][0]["value"].strip("'") == "RGGB"
    assert float(keywords["EXPTIME"][0]["value"]) == 30


def test_bottom_up_file_names_the_colours_of_the_upright_picture() -> None:
    scenario = named_scenario("osc", width=64, height=48, frames=1, row_order="BOTTOM-UP")
    frame = simulate_frame(scenario, 0).frame
    header = fits.Header.fromstring(encode_frame(scenario, frame, "fits").decode("latin-1")[:2880])
    upright = np.array(list(frame.info.bayer or "")).reshape(2, 2)[::-1]
    assert header["ROWORDER"] == "BOTTOM-UP"
    assert header["BAYERPAT"] == "".join(upright.ravel())


@pytest.mark.parametrize("bits", [8, 12, 16])
def test_ser_recording(tmp_path: Path, bits: int) -> None:
    scenario = named_scenario("moon", width=100, height=70, frames=4, adc_bits=bits, bayer="GRBG", gain_e_adu=200.0)
    scenario = scenario.model_copy(update={"pedestal_adu": 4.0, "exposure_s": 0.01})
    truth = json.loads(write_session(scenario, tmp_path, file_format="ser", twin=True).read_text())
    content = (tmp_path / "moon.ser").read_bytes()
    mark, _, colour, endian, width, height, depth, count = struct.unpack_from("<14s7i", content)
    assert (mark, colour, endian, width, height, depth, count) == (b"LUCAM-RECORDER", 9, 0, 100, 70, bits, 4)
    sample = "<u1" if bits == 8 else "<u2"
    size = 7000 * np.dtype(sample).itemsize
    assert len(content) == 178 + 4 * size + 4 * 8
    for index in range(4):
        data = np.frombuffer(content, sample, 7000, 178 + index * size).reshape(70, 100)
        np.testing.assert_array_equal(data, simulate_frame(scenario, index).frame.data)
    stamps = np.frombuffer(content, "<i8", 4, 178 + 4 * size)
    when = datetime(1, 1, 1, tzinfo=UTC) + timedelta(microseconds=int(stamps[3]) // 10)
    assert when.isoformat() == truth["frames"][3]["date_obs"]
    assert [(f["file"], f["index"]) for f in truth["frames"]] == [("moon.ser", i) for i in range(4)]
    assert (tmp_path / "twin" / "moon.ser").stat().st_size == len(content)


def test_command_writes_what_the_truth_says(tmp_path: Path) -> None:
    words = "--scenario everything --frames 38 --size 150x100 --seed 3 --masks --twin --calibration 1"
    result = CliRunner().invoke(app, ["simulate", str(tmp_path), *words.split()])
    assert result.exit_code == 0, result.output
    truth = json.loads((tmp_path / "truth.json").read_text())
    scenario = Scenario.model_validate(truth["scenario"])
    assert scenario == named_scenario("everything", frames=38, width=150, height=100, seed=3)
    assert sorted(p.name for p in tmp_path.glob("*.fits")) == [f["file"] for f in truth["frames"]]
    assert len(list((tmp_path / "calibration").iterdir())) == 4
    by_reason: dict[str, dict[str, object]] = {}
    for index, told in enumerate(truth["frames"]):
        simulated = simulate_frame(scenario, index)
        path = tmp_path / told["file"]
        by_reason.setdefault(str(told["reason"]), told)
        if told["reason"] == "truncated":
            header = fits.Header.fromfile(path)
            assert path.stat().st_size < header["NAXIS1"] * header["NAXIS2"] * 2
            continue
        with fits.open(path) as hdus:
            np.testing.assert_array_equal(hdus[0].data, simulated.frame.data)
            assert told["date_obs"].startswith(hdus[0].header["DATE-OBS"].rstrip("0").rstrip("."))
            if told["faults"] == ["dark"]:
                assert hdus[0].header["IMAGETYP"] == "Dark Frame"
        if told["transform"] is not None:
            np.testing.assert_array_equal(told["transform"], simulated.transform)
        with np.load(tmp_path / "masks" / (path.stem + ".npz")) as stored:
            np.testing.assert_array_equal(stored["trail"], simulated.trail_mask)
    assert by_reason["no_registration"]["transform"] is None
    assert by_reason["not_a_light"]["transform"] is None
    copy = truth["frames"].index(by_reason["duplicate"])
    files = [tmp_path / truth["frames"][i]["file"] for i in (copy - 1, copy)]
    assert files[0].read_bytes() == files[1].read_bytes()
    stars = truth["stars"]["M 27"]
    shown = simulate_frame(scenario, 0).stars[0]
    assert np.hypot(np.array(stars["x"]) - shown["x_ref"], np.array(stars["y"]) - shown["y_ref"]).min() < 1e-3


def test_paced_night_can_be_stopped_and_renamed_files_leave_nothing_behind(tmp_path: Path) -> None:
    scenario = named_scenario("osc", width=64, height=48, frames=30)
    calls = iter(range(1000))
    truth = write_session(scenario, tmp_path, pace_s=0.01, style="rename", stop=lambda: next(calls) > 12)
    told = json.loads(truth.read_text())["frames"]
    assert 1 <= len(told) < 30
    assert sorted(p.name for p in tmp_path.iterdir()) == [*(f["file"] for f in told), "truth.json"]


@pytest.mark.parametrize("style", ["direct", "rename"])
def test_slow_files_are_whole_in_the_end(tmp_path: Path, style: Style) -> None:
    scenario = named_scenario("osc", width=64, height=48, frames=2)
    write_session(scenario, tmp_path, pace_s=0.05, style=style)
    for index in range(2):
        content = (tmp_path / f"osc_{index:04d}.fits").read_bytes()
        assert content == encode_frame(scenario, simulate_frame(scenario, index).frame, "fits")


def test_interrupted_command_leaves_the_truth_of_what_it_wrote(tmp_path: Path) -> None:
    words = ["--frames", "500", "--size", "64x48", "--pace", "0.05"]
    with subprocess.Popen([sys.executable, "-m", "livestack", "simulate", str(tmp_path), *words]) as process:
        until((tmp_path / "mono_0002.fits").exists)
        process.send_signal(signal.SIGINT)
        assert process.wait(timeout=120) == 0
    told = json.loads((tmp_path / "truth.json").read_text())["frames"]
    assert 3 <= len(told) < 500
    assert sorted(p.name for p in tmp_path.glob("*.fits")) == [f["file"] for f in told]


# --- wrong words ------------------------------------------------------------------------------------------------------


def test_wrong_words_are_named(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"no night called stormy; choose one of mono, osc"):
        named_scenario("stormy")
    with pytest.raises(UsageError, match=r"size: found 800, expected width x height"):
        parse_size("800")
    with pytest.raises(UsageError, match="colour_of_money"):
        named_scenario("mono", colour_of_money=1)
    with pytest.raises(UsageError, match=r"format: found bmp, expected one of fits"):
        write_session(named_scenario("mono", frames=1), tmp_path, file_format="bmp")
    (tmp_path / "file").write_text("")
    with pytest.raises(SessionError, match="cannot write the simulated night"):
        write_session(named_scenario("mono", frames=1, width=32, height=20), tmp_path / "file")
    with pytest.raises(IndexError, match="frames 0 to 37, not 38"):
        simulate_frame(named_scenario("mono"), 38)
    with pytest.raises(ValueError, match="simulate_frame makes lights"):
        simulate_calibration(named_scenario("mono"), FrameKind.LIGHT, 0)
    with pytest.raises(ValueError, match="landscape ends"):
        simulate_frame(named_scenario("moon", width=64, height=48, drift_px=(9.0, 0.0)), 0)
    with pytest.raises(ValueError, match="original must come before"):
        simulate_frame(Scenario(width=64, height=48, faults=(Fault(kind="duplicate", first=0),)), 0)
    result = CliRunner().invoke(app, ["simulate", str(tmp_path), "--scenario", "list"])
    assert result.exit_code == 0
    assert "altaz" in result.output


@pytest.mark.parametrize("name", ["trails", "mosaic", "bad_night"])
def test_sample_sessions_show_the_stars_that_their_truth_tells(name: str) -> None:
    folder = Path(__file__).parents[2] / "sample_sessions" / name
    truth = json.loads((folder / "truth.json").read_text())
    (stars,) = truth["stars"].values()
    catalogue = np.stack([stars["x"], stars["y"]], axis=1)
    looked = 0
    for told in truth["frames"]:
        if told["expected"] != "stacked":
            continue
        with fits.open(folder / told["file"]) as hdus:
            data = np.ascontiguousarray(hdus[-1].data, np.float32)
        data = cv2.blur(data, (2, 2), anchor=(0, 0)) if name == "mosaic" else cv2.medianBlur(data, 3)
        found = sep.extract(data - sep.Background(data, bw=32, bh=32).back(), 80.0)
        found = found[(found["a"] < 1.5 * found["b"]) & (found["npix"] > 5) & (found["npix"] < 200)]
        half = 0.5 if name == "mosaic" else 0.0
        mapped = apply(np.array(told["transform"]), found["x"] + half, found["y"] + half)
        nearest = np.hypot(*(mapped[:, None] - catalogue[None]).transpose(2, 0, 1)).min(axis=1)
        assert len(found) > 4, told["file"]
        assert np.median(nearest) < 0.35, told["file"]
        looked += 1
    assert looked >= 7
