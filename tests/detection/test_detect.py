"""Stars of simulated frames against the simulator's truth; frames that hold none, or hardly any, or nothing at all."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import numpy as np
import pytest
from scipy.spatial import cKDTree

from livestack.base.settings import DetectionSettings
from livestack.detection import Sky, StarCatalog, find_stars, measure_sky
from livestack.kernels.bands import Bands
from livestack.kernels.sky import clipped_median
from livestack.simulate import SimulatedFrame, named_scenario, simulate_frame

BANDS = Bands()
MOON = Path(__file__).resolve().parents[3] / "shared" / "data" / "moon_png"


def search(data: np.ndarray, bayer: str | None = None, saturation: float | None = 65535.0) -> tuple[Sky, StarCatalog]:
    sky = measure_sky(data, bayer, BANDS)
    return sky, find_stars(data, bayer, sky, saturation, DetectionSettings(), BANDS)


@cache
def simulated(name: str, **knobs: float | str | None) -> SimulatedFrame:
    return simulate_frame(named_scenario(name, frames=4, width=640, height=432, **knobs), 1)


def found_in(made: SimulatedFrame) -> StarCatalog:
    info = made.frame.info
    return search(made.frame.data.astype(np.float32), info.bayer, info.saturation_adu)[1]


def matched(stars: StarCatalog, made: SimulatedFrame, radius: float = 1.5) -> tuple[np.ndarray, np.ndarray]:
    """Indices (catalogue, truth) of stars within `radius` of a true one."""
    truth = np.column_stack([made.stars["x"], made.stars["y"]])
    distance, index = cKDTree(truth).query(stars.xy)
    near = np.flatnonzero(distance < radius)
    return near, index[near]


@pytest.mark.parametrize("name", ["mono", "osc"])
def test_bright_stars_are_found_where_they_are(name: str) -> None:
    made = simulated(name, nebula_e=0.0)
    stars = found_in(made)
    ours, true = matched(stars, made)
    assert len(ours) > 0.97 * len(stars), "hardly anything that is no star"
    inside = (made.stars["x"] > 15) & (made.stars["x"] < 625) & (made.stars["y"] > 15) & (made.stars["y"] < 417)
    bright = np.flatnonzero(inside)[:50]
    assert np.isin(bright, true).mean() > 0.94, "the others are one with a neighbour"
    offset = stars.xy[ours] - np.column_stack([made.stars["x"], made.stars["y"]])[true]
    good = (stars.snr[ours] > 100) & ~stars.saturated[ours]
    assert good.sum() >= 8
    assert np.sqrt(np.mean(offset[good] ** 2)) < 0.05
    assert abs(np.median(offset[good])) < 0.02, "no shift between the grids"


@pytest.mark.parametrize("fwhm", [2.0, 3.5, 6.0])
def test_fwhm_is_measured(fwhm: float) -> None:
    made = simulated("mono", fwhm_px=fwhm, beta=30.0, seeing_jitter=0.0)
    assert found_in(made).fwhm_px == pytest.approx(fwhm, rel=0.08)


def test_shared_elongation_is_measured_with_its_direction() -> None:
    made = simulated("mono", aspect=1.5, aspect_deg=30.0, seeing_jitter=0.0)
    stars = found_in(made)
    assert stars.median_eccentricity == pytest.approx((1 - 1 / 1.5**2) ** 0.5, abs=0.08)
    assert stars.elongation_deg == pytest.approx(30, abs=4)


def test_round_stars_are_round() -> None:
    assert (found_in(simulated("mono")).median_eccentricity or 1) < 0.35


def test_fluxes_are_those_of_the_truth_but_for_one_factor() -> None:
    made = simulated("mono")
    stars = found_in(made)
    ours, true = matched(stars, made)
    good = (stars.snr[ours] > 60) & ~stars.saturated[ours]
    ratio = stars.flux[ours][good] / made.stars["flux_e"][true][good]
    spread = np.subtract(*np.percentile(ratio, [75, 25])) / np.median(ratio)
    assert spread < 0.08


@pytest.mark.parametrize("bayer", [None, "RGGB"])
@pytest.mark.parametrize("fwhm", [1.5, 3.0])
def test_hot_pixels_are_no_stars(bayer: str | None, fwhm: float) -> None:
    made = simulated("osc" if bayer else "mono", hot_pixels=0.001 if bayer else 0.004, fwhm_px=fwhm, bayer=bayer)
    stars = found_in(made)
    ours, _ = matched(stars, made, 2.0)
    alone = np.setdiff1d(np.arange(len(stars)), ours)
    hot = np.argwhere(made.defect_mask)[:, ::-1]
    distance, _ = cKDTree(hot).query(stars.xy[alone])
    assert len(ours) > 30
    assert np.count_nonzero(distance < 1.5) <= max(1, 0.02 * len(ours))


def test_thousands_of_hot_pixels_do_not_take_the_places_of_stars() -> None:
    made = simulated("mono", hot_pixels=0.006)
    places = np.count_nonzero(made.defect_mask)
    wanted = DetectionSettings(max_stars=places // 3)
    data = made.frame.data.astype(np.float32)
    stars = find_stars(data, None, measure_sky(data, None, BANDS), None, wanted, BANDS)
    everything = DetectionSettings(max_stars=20 * places)
    assert 30 < len(stars) == len(find_stars(data, None, measure_sky(data, None, BANDS), None, everything, BANDS))


def test_stars_under_four_sigma_a_pixel_are_found() -> None:
    rng = np.random.default_rng(3)
    sigma, peak, noise = 2.0, 3.3, 10.0
    height, width = 400, 560
    y, x = np.mgrid[:height, :width]
    places = [(60 + 65 * i + 0.3, 50 + 60 * j + 0.7) for i in range(8) for j in range(6)]
    image = rng.normal(500, noise, (height, width))
    for cx, cy in places:
        image += peak * noise * np.exp(-((x - cx) ** 2 + (y - cy) ** 2) / (2 * sigma**2))
    _, stars = search(image.astype(np.float32))
    distance, _ = cKDTree(np.array(places)).query(stars.xy)
    assert np.count_nonzero(distance < 1.5) >= 44
    assert np.count_nonzero(distance >= 1.5) <= 2


def test_saturated_stars_are_kept_in_place_and_marked() -> None:
    made = simulated("mono", flux_max_e=3e6, flux_slope=0.4)
    stars = found_in(made)
    ours, true = matched(stars, made)
    burnt = stars.saturated[ours]
    assert burnt.sum() >= 2
    offset = stars.xy[ours][burnt] - np.column_stack([made.stars["x"], made.stars["y"]])[true][burnt]
    assert np.sqrt(np.mean(offset**2)) < 0.2
    assert np.isnan(stars.fwhm[stars.saturated]).all()


def test_one_missing_pixel_loses_no_star_and_a_hole_loses_only_its_own() -> None:
    data = simulated("mono").frame.data.astype(np.float32)
    whole = search(data)[1]
    holes = data.copy()
    holes[np.random.default_rng(4).random(data.shape) < 0.0008] = np.nan
    holes[200:260, 300:420] = np.nan
    stars = search(holes)[1]
    assert np.isfinite(stars.xy).all()
    outside = (whole.x < 285) | (whole.x > 435) | (whole.y < 185) | (whole.y > 275)
    bright = outside & (whole.snr > 15)
    distance, _ = cKDTree(stars.xy).query(whole.xy[bright])
    assert np.mean(distance < 0.5) > 0.95
    assert not ((stars.x > 302) & (stars.x < 417) & (stars.y > 202) & (stars.y < 257)).any()


def test_colour_planes_and_mono_of_the_same_light_agree() -> None:
    data = simulated("mono").frame.data.astype(np.float32)
    mono, colour = search(data)[1], search(np.stack([data, data, data]))[1]
    distance, _ = cKDTree(colour.xy).query(mono.xy[:60])
    assert np.median(distance) < 0.01


@pytest.mark.parametrize("shape", [(48, 64), (1, 1), (5, 400), (64, 48), (33, 31), (3, 48, 64)])
@pytest.mark.parametrize("value", [0.0, 1234.0, np.nan])
@pytest.mark.parametrize("bayer", [None, "GRBG"])
def test_empty_frames_of_any_size_hold_no_stars(shape: tuple[int, ...], value: float, bayer: str | None) -> None:
    if bayer and (len(shape) == 3 or min(shape) < 2):
        return
    data = np.full(shape, value, dtype=np.float32)
    _, stars = search(data, bayer)
    assert len(stars) == 0
    noisy = (data + np.random.default_rng(5).normal(0, 5, shape)).astype(np.float32)
    assert len(search(noisy, bayer)[1]) <= 1


def test_noise_alone_is_no_field_of_stars() -> None:
    rng = np.random.default_rng(6)
    counts = [len(search(rng.normal(300, 12, (480, 640)).astype(np.float32))[1]) for _ in range(4)]
    assert sum(counts) <= 4


def test_crowded_stars_are_told_apart() -> None:
    made = simulated("mono", stars=2500)
    stars = found_in(made)
    ours, true = matched(stars, made)
    assert len(ours) > 500
    assert len(set(true)) > 0.97 * len(true), "each star once"


def test_two_stars_less_than_three_widths_apart_are_two() -> None:
    rng = np.random.default_rng(9)
    y, x = np.mgrid[:320, :448]
    image = rng.normal(200, 5, x.shape)
    places = []
    for k in range(24):
        cx, cy = 50 + 70 * (k % 6) + rng.uniform(0, 1), 50 + 70 * (k // 6) + rng.uniform(0, 1)
        turn = rng.uniform(0, 2 * np.pi)
        for side, peak in ((-4, 2000.0), (4, 700.0)):
            places.append((cx + side * np.cos(turn), cy + side * np.sin(turn)))
            image += peak * np.exp(-((x - places[-1][0]) ** 2 + (y - places[-1][1]) ** 2) / (2 * 1.3**2))
    _, stars = search(image.astype(np.float32))
    distance, index = cKDTree(np.array(places)).query(stars.xy)
    assert len(set(index[distance < 0.8])) > 44
    assert np.count_nonzero(distance >= 0.8) <= 1


def test_terrain_is_not_taken_for_stars() -> None:
    made = simulate_frame(named_scenario("moon", frames=2, width=800, height=600), 0)
    assert len(found_in(made)) < 3


@pytest.mark.skipif(not MOON.is_dir(), reason="the real frames of the Moon are not on this machine")
def test_the_real_moon_is_not_taken_for_stars() -> None:
    import cv2

    for path in sorted(MOON.glob("*.png"))[::6]:
        image = cv2.imread(str(path), cv2.IMREAD_UNCHANGED).astype(np.float32)
        assert len(search(image, None, 255.0)[1]) == 0


def test_sky_per_colour_of_a_mosaic() -> None:
    rng = np.random.default_rng(7)
    data = rng.normal(0, 4, (300, 460)).astype(np.float32)
    data[0::2, 0::2] += 100
    data[0::2, 1::2] += 200
    data[1::2, 0::2] += 200
    data[1::2, 1::2] += 50
    sky = measure_sky(data, "RGGB", BANDS)
    assert np.median(sky.level, axis=(1, 2)) == pytest.approx([100, 200, 50], abs=0.5)
    assert sky.noise == pytest.approx([4, 4, 4], rel=0.1)


def test_sky_follows_a_gradient_and_ignores_stars_and_nan() -> None:
    rng = np.random.default_rng(8)
    x = np.arange(800) + np.zeros((480, 1))
    data = (1000 + 0.05 * x + rng.normal(0, 10, x.shape)).astype(np.float32)
    data[rng.random(x.shape) < 0.03] = 40000
    data[rng.random(x.shape) < 0.05] = np.nan
    sky = measure_sky(data, None, BANDS)
    cells = sky.level[0].mean(axis=0)
    assert cells == pytest.approx(1000 + 0.05 * 800 * (np.arange(len(cells)) + 0.5) / len(cells), abs=2)
    assert sky.noise_adu == pytest.approx(10, rel=0.1)


@pytest.mark.parametrize("n", [1, 2, 9, 10, 251])
@pytest.mark.parametrize("digits", [0, 7])
def test_clipped_median_is_that_of_its_slow_twin(n: int, digits: int) -> None:
    values = np.random.default_rng(n).normal(5, 1, n).round(digits).astype(np.float32)
    values[: n // 5] = 90
    median, sigma = clipped_median(np.sort(values), n)
    part = values
    for _ in range(3):
        middle = np.median(part)
        spread = 1.4826 * np.sort(np.abs(part - middle))[len(part) // 2]
        part = part[np.abs(part - middle) <= 3 * spread] if spread > 0 else part
    assert (median, sigma) == pytest.approx((middle, spread), abs=1e-5)


@pytest.mark.parametrize("name", ["mono", "osc"])
def test_the_answer_does_not_depend_on_the_threads(name: str) -> None:
    made = simulated(name)
    data, bayer = made.frame.data.astype(np.float32), made.frame.info.bayer
    one_sky, one = search(data, bayer)
    with Bands(3) as several:
        sky = measure_sky(data, bayer, several)
        many = find_stars(data, bayer, sky, 65535.0, DetectionSettings(), several)
    assert sky.level.tobytes() == one_sky.level.tobytes()
    assert sky.noise.tobytes() == one_sky.noise.tobytes()
    for what in ("xy", "flux", "snr", "fwhm", "eccentricity", "theta_deg", "saturated"):
        assert getattr(many, what).tobytes() == getattr(one, what).tobytes()


def clipped_picture(n_planes: int) -> tuple[np.ndarray, np.ndarray]:
    """An 8-bit picture whose sky is clipped to one value, and the (x, y) of its thirty stars."""
    rng = np.random.default_rng(4)
    places = np.column_stack([rng.uniform(20, 620, 30), rng.uniform(20, 410, 30)])
    y, x = np.mgrid[:430, :640]
    light = rng.normal(-4.0, 1.5, (430, 640))
    for place_x, place_y in places:
        light += 120 * np.exp(-0.5 * ((x - place_x) ** 2 + (y - place_y) ** 2) / 1.4**2)
    picture = np.clip(np.round(light), 0, 255).astype(np.float32)
    return (picture if n_planes == 1 else np.stack([picture] * n_planes)), places


@pytest.mark.parametrize("n_planes", [1, 3])
def test_a_sky_of_one_value_is_known_no_better_than_its_step(n_planes: int) -> None:
    picture, places = clipped_picture(n_planes)
    sky, stars = search(picture, saturation=255.0)
    assert np.median(picture) == 0
    assert sky.noise == pytest.approx(np.full(n_planes, 12**-0.5), rel=1e-3)
    distance, _ = cKDTree(stars.xy).query(places)
    assert np.mean(distance < 0.5) > 0.9
    assert len(stars) <= len(places) + 1


def test_rounding_says_nothing_of_a_noisy_sky_and_nothing_of_fractions() -> None:
    rng = np.random.default_rng(1)
    noisy = rng.normal(300, 5, (320, 480)).astype(np.float32)
    assert measure_sky(noisy, None, BANDS).rounding[0] < 0.01
    whole = measure_sky(np.round(noisy), None, BANDS)
    assert whole.rounding[0] == pytest.approx(12**-0.5, rel=1e-3)
    assert whole.noise[0] == pytest.approx(5.0, rel=0.15)  # to a whole number, by median and MAD
    assert measure_sky(np.full((320, 480), 7.0, np.float32), None, BANDS).noise[0] == 0


def test_a_mosaic_has_the_fluxes_of_its_colours(bands: Bands) -> None:
    """A stack in colour may be the reference of a night of mosaics: the same sky has the same fluxes in both."""
    draw = np.random.default_rng(2)
    y, x = np.mgrid[:240, :320]
    sky = np.full(y.shape, 300.0)
    for px, py in draw.uniform(30, 210, (12, 2)):
        sky += 4000 * np.exp(-((x - px) ** 2 + (y - py) ** 2) / 6.0)
    mosaic = (sky + draw.normal(0, 5, sky.shape)).astype(np.float32)
    planes = (sky + draw.normal(0, 5, (3, *sky.shape))).astype(np.float32)
    flux = []
    for data, bayer in ((mosaic, "RGGB"), (planes, None)):
        stars = find_stars(data, bayer, measure_sky(data, bayer, bands), None, DetectionSettings(), bands)
        assert len(stars) >= 8
        flux.append(np.sort(stars.flux)[-8:])
    np.testing.assert_allclose(flux[0], flux[1], rtol=0.03)
