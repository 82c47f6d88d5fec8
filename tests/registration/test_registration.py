"""Registration of star lists whose true transform is known, from thousands of stars to one; and of unrelated fields."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from livestack.base.settings import DetectionSettings, RegistrationSettings
from livestack.detection import StarCatalog, find_stars, measure_sky
from livestack.kernels.bands import Bands
from livestack.registration import Registration, StarReference, Unregistered, asterisms, register_stars
from livestack.registration import transform as tf

WIDTH, HEIGHT = 1936, 1096
SETTINGS = RegistrationSettings()
DATA = Path(__file__).resolve().parents[3] / "shared" / "data"


def catalog(xy: np.ndarray, flux: np.ndarray, rng: np.random.Generator, noise: float = 0.03) -> StarCatalog:
    """What detection would have made of these stars, brightest first."""
    xy = xy + rng.normal(0, noise, xy.shape)
    flux = flux * np.exp(rng.normal(0, 0.05, len(flux)))
    order = np.argsort(-flux)
    n = len(order)
    nan = np.full(n, np.nan)
    return StarCatalog(
        xy[order, 0], xy[order, 1], flux[order], np.full(n, 50.0), nan, nan, nan, np.zeros(n, dtype=bool), 8.0
    )


def inside(xy: np.ndarray) -> np.ndarray:
    return np.asarray((xy >= 0).all(axis=1) & (xy[:, 0] < WIDTH) & (xy[:, 1] < HEIGHT))


def sky(n: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Stars over nine fields, n in each on average."""
    return rng.uniform((-WIDTH, -HEIGHT), (2 * WIDTH, 2 * HEIGHT), (9 * n, 2)), rng.pareto(0.9, 9 * n) + 1


def move(scale: float, turn: float, dx: float, dy: float) -> np.ndarray:
    """About the centre of the field."""
    centre = np.array([WIDTH / 2, HEIGHT / 2])
    matrix = tf.similarity(scale, turn, 0, 0)
    matrix[:2, 2] = centre - matrix[:2, :2] @ centre + (dx, dy)
    return matrix


def pair(
    n: int, rng: np.random.Generator, truth: np.ndarray, drop: float = 0.1, common: int = 3
) -> tuple[StarCatalog, StarCatalog]:
    """Reference and frame with at least `common` stars in both; `drop` of the stars are missed in each."""
    while True:
        xy, flux = sky(n, rng)
        seen = tf.apply(np.linalg.inv(truth), xy)
        here = inside(xy) & (rng.random(len(xy)) >= drop)
        there = inside(seen) & (rng.random(len(xy)) >= drop)
        if (here & there).sum() >= common:
            return catalog(xy[here], flux[here], rng), catalog(seen[there], flux[there], rng)


def error(found: Registration | Unregistered, truth: np.ndarray) -> float:
    assert isinstance(found, Registration), found
    return tf.corner_displacement(found.matrix, truth, WIDTH, HEIGHT)


@pytest.mark.parametrize("n", [9, 30, 300, 1500])
@pytest.mark.parametrize("seed", range(8))
def test_any_rotation_shift_and_a_few_per_cent_of_scale(n: int, seed: int) -> None:
    rng = np.random.default_rng([n, seed])
    truth = move(
        math.exp(rng.uniform(-0.05, 0.05)), rng.uniform(-math.pi, math.pi), *rng.uniform(-0.25, 0.25, 2) * (1936, 1096)
    )
    reference, stars = pair(n, rng, truth)
    limit = {9: 0.5, 30: 0.3, 300: 0.06, 1500: 0.03}[n]
    assert error(register_stars(StarReference(reference, WIDTH, HEIGHT), stars, [], SETTINGS), truth) < limit


def test_half_the_field_away_and_upside_down() -> None:
    rng = np.random.default_rng(4)
    truth = move(1.0, math.pi, WIDTH / 2, 0)
    reference, stars = pair(200, rng, truth)
    assert error(register_stars(StarReference(reference, WIDTH, HEIGHT), stars, [], SETTINGS), truth) < 0.1


@pytest.mark.parametrize("n, trials", [(9, 60), (40, 40), (600, 15)])
def test_unrelated_fields_are_refused(n: int, trials: int) -> None:
    for seed in range(trials):
        rng = np.random.default_rng([7, n, seed])
        (xy, flux), (other, light) = sky(n, rng), sky(n, rng)
        reference = StarReference(catalog(xy[inside(xy)], flux[inside(xy)], rng), WIDTH, HEIGHT)
        stars = catalog(other[inside(other)], light[inside(other)], rng)
        found = register_stars(reference, stars, [np.eye(3)], SETTINGS)
        assert isinstance(found, Unregistered), (seed, found)
        assert "do not match" in found.message


def test_prediction_is_believed_first_and_gives_the_same_transform() -> None:
    rng = np.random.default_rng(5)
    truth = move(1.0, 0.01, 12, -7)
    reference, stars = pair(400, rng, truth)
    known = StarReference(reference, WIDTH, HEIGHT)
    predicted = register_stars(known, stars, [move(1.0, 0.011, 10, -5)], SETTINGS)
    blind = register_stars(known, stars, [], SETTINGS)
    assert isinstance(predicted, Registration)
    assert isinstance(blind, Registration)
    assert (predicted.method, blind.method) == ("predicted", "asterisms")
    assert tf.corner_displacement(predicted.matrix, blind.matrix, WIDTH, HEIGHT) < 0.01
    assert error(predicted, truth) < 0.05


def test_a_wrong_prediction_does_no_harm() -> None:
    rng = np.random.default_rng(6)
    truth = move(1.0, 2.0, 150, 60)
    reference, stars = pair(300, rng, truth)
    hints = [move(1.0, 0.0, -300, 0), move(1.0, 1.0, 0, 0)]
    assert error(register_stars(StarReference(reference, WIDTH, HEIGHT), stars, hints, SETTINGS), truth) < 0.1


def test_matched_stars_are_the_same_stars() -> None:
    rng = np.random.default_rng(8)
    truth = move(0.98, 0.4, 30, 40)
    reference, stars = pair(200, rng, truth, drop=0.3)
    found = register_stars(StarReference(reference, WIDTH, HEIGHT), stars, [], SETTINGS)
    assert isinstance(found, Registration)
    offset = tf.apply(truth, stars.xy[found.frame_index]) - reference.xy[found.reference_index]
    assert np.hypot(*offset.T).max() < 0.5
    assert len(set(found.reference_index)) == found.n_matched > 60


def two(rng: np.random.Generator, truth: np.ndarray, xy: np.ndarray) -> tuple[StarReference, StarCatalog]:
    flux = np.linspace(9000, 4000, len(xy))
    frame = tf.apply(np.linalg.inv(truth), xy)
    return StarReference(catalog(xy, flux, rng), WIDTH, HEIGHT), catalog(frame, flux, rng)


@pytest.mark.parametrize("turn", [0.0, 0.01, math.pi])
def test_two_stars_fix_a_similarity(turn: float) -> None:
    rng = np.random.default_rng(9)
    truth = move(1.0, turn, 25, -14)
    known, stars = two(rng, truth, np.array([[400.0, 300.0], [1500.0, 800.0]]))
    found = register_stars(known, stars, [move(1.0, turn, 20, -10)], SETTINGS)
    assert error(found, truth) < 0.3
    assert isinstance(found, Registration)
    assert found.method == "two stars"


def test_two_stars_at_another_distance_are_not_those() -> None:
    rng = np.random.default_rng(10)
    known, _ = two(rng, np.eye(3), np.array([[400.0, 300.0], [1500.0, 800.0]]))
    _, other = two(rng, np.eye(3), np.array([[400.0, 300.0], [1400.0, 500.0]]))
    assert isinstance(register_stars(known, other, [np.eye(3)], SETTINGS), Unregistered)


def three(rng: np.random.Generator, truth: np.ndarray, noise: float, apart: float) -> tuple[StarReference, StarCatalog]:
    """Three stars, whose centres are known to `noise` px."""
    xy = 300.0 + apart * np.array([[0.0, 0.0], [1.2, 0.3], [0.5, 1.3]])
    flux = np.array([9000.0, 6000.0, 4000.0])
    frame = tf.apply(np.linalg.inv(truth), xy)
    return StarReference(catalog(xy, flux, rng, noise), WIDTH, HEIGHT), catalog(frame, flux, rng, noise)


def test_a_few_soft_stars_keep_the_scale_of_the_frame_before() -> None:
    truth = move(1.0, 0.002, 12, -5)
    scales = []
    for seed in range(30):
        known, stars = three(np.random.default_rng(seed), truth, 0.2, apart=100)
        found = register_stars(known, stars, [move(1.0, 0.0, 10, -4)], SETTINGS)
        if isinstance(found, Registration):
            scales.append(tf.decompose(found.matrix, WIDTH, HEIGHT).scale)
    assert len(scales) >= 20
    assert np.sqrt(np.mean((np.array(scales) - 1) ** 2)) < 1.5e-3, "by the stars alone it is 2.5e-3"


def test_soft_stars_that_are_predicted_keep_it_too() -> None:
    truth, scales = move(1.0, 0.002, 12, -5), []
    for seed in range(20):
        rng = np.random.default_rng(seed)
        xy = 500.0 + rng.normal(0, 90, (14, 2))
        flux = rng.uniform(4000, 9000, 14)
        known = StarReference(catalog(xy, flux, rng, 0.6), WIDTH, HEIGHT)
        stars = catalog(tf.apply(np.linalg.inv(truth), xy), flux, rng, 0.6)
        found = register_stars(known, stars, [move(1.0, 0.002, 11, -5)], SETTINGS)
        assert isinstance(found, Registration)
        assert found.method == "predicted"
        scales.append(tf.decompose(found.matrix, WIDTH, HEIGHT).scale)
    assert np.sqrt(np.mean((np.array(scales) - 1) ** 2)) < 3e-4, "by the stars alone it is 2e-3"


def test_a_few_sharp_stars_tell_another_scale() -> None:
    truth = move(1.006, 0.002, 12, -5)
    known, stars = three(np.random.default_rng(3), truth, 0.03, apart=500)
    found = register_stars(known, stars, [move(1.0, 0.0, 10, -4)], SETTINGS)
    assert isinstance(found, Registration)
    assert tf.decompose(found.matrix, WIDTH, HEIGHT).scale == pytest.approx(1.006, abs=6e-4)


def test_one_star_fixes_a_shift_under_the_last_rotation() -> None:
    rng = np.random.default_rng(11)
    truth = move(1.0, 0.3, 12, 5)
    known, stars = two(rng, truth, np.array([[900.0, 500.0]]))
    found = register_stars(known, stars, [move(1.0, 0.3, 0, 0)], SETTINGS)
    assert isinstance(found, Registration)
    assert found.method == "one star"
    star = np.array([[900.0, 500.0]])
    assert np.allclose(tf.apply(found.matrix, tf.apply(np.linalg.inv(truth), star)), star, atol=0.3)
    assert tf.decompose(found.matrix, WIDTH, HEIGHT).rotation_deg == pytest.approx(math.degrees(0.3))


def test_one_star_of_another_brightness_is_refused() -> None:
    rng = np.random.default_rng(12)
    place = np.array([[900.0, 500.0]])
    known = StarReference(catalog(place, np.array([9000.0]), rng), WIDTH, HEIGHT)
    faint = catalog(place, np.array([700.0]), rng)
    assert isinstance(register_stars(known, faint, [np.eye(3)], SETTINGS), Unregistered)


def test_one_star_far_from_where_it_was_needs_a_witness() -> None:
    rng = np.random.default_rng(18)
    truth = move(1.0, 0.0, 0.18 * WIDTH, -30)
    known, stars = two(rng, truth, np.array([[900.0, 500.0]]))
    asked: list[np.ndarray] = []

    def witness(says: bool) -> Callable[[np.ndarray], bool]:
        return lambda matrix: (asked.append(matrix), says)[1]

    assert isinstance(register_stars(known, stars, [np.eye(3)], SETTINGS), Unregistered)
    assert isinstance(register_stars(known, stars, [np.eye(3)], SETTINGS, witness=witness(False)), Unregistered)
    found = register_stars(known, stars, [np.eye(3)], SETTINGS, witness=witness(True))
    assert error(found, truth) < 0.3
    assert np.allclose(asked[-1], truth, atol=0.3)
    near = register_stars(known, stars, [truth], SETTINGS, witness=witness(False))
    assert isinstance(near, Registration), "what lies where it was expected needs none"


def test_two_stars_far_from_where_they_were_need_a_witness() -> None:
    rng = np.random.default_rng(19)
    truth = move(1.0, 0.0, 0.18 * WIDTH, -30)
    known, stars = two(rng, truth, np.array([[900.0, 300.0], [1500.0, 800.0]]))
    assert isinstance(register_stars(known, stars, [np.eye(3)], SETTINGS), Unregistered)
    assert error(register_stars(known, stars, [np.eye(3)], SETTINGS, witness=lambda matrix: True), truth) < 0.4


def test_no_stars_are_refused_with_a_reason() -> None:
    rng = np.random.default_rng(13)
    nothing = catalog(np.empty((0, 2)), np.empty(0), rng)
    some = catalog(*(part[:30] for part in sky(30, rng)), rng)
    found = register_stars(StarReference(some, WIDTH, HEIGHT), nothing, [], SETTINGS)
    assert found == Unregistered("no star was found")
    found = register_stars(StarReference(nothing, WIDTH, HEIGHT), some, [], SETTINGS)
    assert found == Unregistered("the reference has no stars")


def test_scale_beyond_the_setting_is_refused() -> None:
    rng = np.random.default_rng(14)
    truth = move(1.08, 0.2, 0, 0)
    reference, stars = pair(100, rng, truth)
    known = StarReference(reference, WIDTH, HEIGHT)
    assert isinstance(register_stars(known, stars, [], SETTINGS), Registration)
    strict = RegistrationSettings(max_scale_change=0.03)
    assert isinstance(register_stars(known, stars, [], strict), Unregistered)


def test_the_affine_is_taken_only_where_it_pays() -> None:
    rng = np.random.default_rng(15)
    shear = np.array([[1.001, 0.0008, 3.0], [-0.0003, 0.9992, -4.0], [0, 0, 1.0]])
    reference, stars = pair(400, rng, shear)
    known = StarReference(reference, WIDTH, HEIGHT)
    assert error(register_stars(known, stars, [], SETTINGS), shear) < 0.1
    assert error(register_stars(known, stars, [], RegistrationSettings(model="similarity")), shear) > 0.3
    truth = move(1.0, 0.1, 5, 5)
    reference, stars = pair(400, rng, truth)
    found = register_stars(StarReference(reference, WIDTH, HEIGHT), stars, [], SETTINGS)
    assert isinstance(found, Registration)
    a = found.matrix[:2, :2]
    assert abs(a[0, 0] - a[1, 1]) < 1e-12, "a similarity was enough"
    assert abs(a[0, 1] + a[1, 0]) < 1e-12


def test_same_stars_same_transform_to_the_last_bit() -> None:
    rng = np.random.default_rng(16)
    reference, stars = pair(60, rng, move(1.01, 1.2, 80, 60))
    one, other = (
        register_stars(StarReference(reference, WIDTH, HEIGHT), stars, [np.eye(3)], SETTINGS) for _ in range(2)
    )
    assert isinstance(one, Registration)
    assert isinstance(other, Registration)
    assert one.matrix.tobytes() == other.matrix.tobytes()
    assert one.method == other.method


def test_asterisms_ignore_shift_scale_and_rotation_but_not_mirrors() -> None:
    rng = np.random.default_rng(17)
    xy = rng.uniform((0, 0), (WIDTH, HEIGHT), (12, 2))
    shapes, corners = asterisms(xy)
    moved, same = asterisms(tf.apply(tf.similarity(1.3, 2.0, 50, -9), xy))
    assert np.array_equal(corners, same)
    assert np.allclose(shapes, moved, atol=1e-9)
    mirrored, _ = asterisms(xy * (-1, 1))
    assert np.allclose(mirrored[:, 1], -shapes[:, 1], atol=1e-9)


def search(data: np.ndarray, bayer: str | None, saturation: float) -> StarCatalog:
    with Bands() as bands:
        return find_stars(data, bayer, measure_sky(data, bayer, bands), saturation, DetectionSettings(), bands)


def chain(catalogs: list[StarCatalog], width: int, height: int) -> list[Registration]:
    """Register all onto the first as a session does: the last transform is the hint."""
    reference, hints, found = StarReference(catalogs[0], width, height), [], []
    for stars in catalogs:
        one = register_stars(reference, stars, hints, SETTINGS)
        assert isinstance(one, Registration), one
        found.append(one)
        hints = [one.matrix]
    return found


@pytest.mark.skipif(not DATA.is_dir(), reason="the real frames are not on this machine")
def test_the_field_of_a_real_alt_az_mount_turns_smoothly() -> None:
    import cv2

    paths = sorted((DATA / "m44_altaz_jpeg").glob("*.jpeg"))
    planes = [cv2.imread(str(path)).astype(np.float32).transpose(2, 0, 1).copy() for path in paths]
    found = chain([search(data, None, 255.0) for data in planes], 1304, 976)
    turns = np.array([tf.decompose(one.matrix, 1304, 976).rotation_deg for one in found])
    assert len(turns) == 18
    assert turns[-1] == pytest.approx(-0.62, abs=0.02)
    assert np.diff(turns) == pytest.approx(np.full(17, -0.62 / 17), abs=0.012)


@pytest.mark.skipif(not DATA.is_dir(), reason="the real frames are not on this machine")
@pytest.mark.parametrize(("folder", "bayer", "count"), [("m94_osc_seestar", "GRBG", 12), ("m27_osc_asi224", "RGGB", 5)])
def test_every_whole_real_frame_is_registered(folder: str, bayer: str, count: int) -> None:
    from astropy.io import fits

    catalogs = []
    for path in sorted((DATA / folder).glob("*.fit*")):
        if path.name == "Light_1283.fits":  # broken off
            continue
        data = fits.getdata(path).astype(np.float32)
        catalogs.append(search(data, bayer, 65535.0))
    found = chain(catalogs, data.shape[1], data.shape[0])
    assert len(found) == count
    for one in found:
        said = tf.decompose(one.matrix, data.shape[1], data.shape[0])
        assert abs(said.scale - 1) < 0.0005
        assert abs(said.rotation_deg) < 0.05
        assert one.rms_px < 0.6


@pytest.mark.parametrize("n", [12, 60, 600])
@pytest.mark.parametrize("turn", [0.0, 1.0, math.pi])
def test_a_mirror_image_is_recognised_and_followed(n: int, turn: float) -> None:
    rng = np.random.default_rng(n)
    over = np.diag([-1.0, 1.0, 1.0])
    over[0, 2] = WIDTH - 1.0
    truth = move(1.0, turn, 14.0, -9.0) @ over
    known, seen = pair(n, rng, truth, common=9)
    reference = StarReference(known, WIDTH, HEIGHT)
    first = register_stars(reference, seen, [np.eye(3)], SETTINGS)
    assert isinstance(first, Registration), first
    assert tf.corner_displacement(first.matrix, truth, WIDTH, HEIGHT) < 0.3
    assert tf.decompose(first.matrix, WIDTH, HEIGHT).mirrored
    again = register_stars(reference, seen, [first.matrix], SETTINGS)
    assert isinstance(again, Registration)
    assert again.method == "predicted"
    assert tf.corner_displacement(again.matrix, truth, WIDTH, HEIGHT) < 0.3


@pytest.mark.parametrize(("n", "fields"), [(9, 150), (40, 40)])  # 40 more of 40 stars than above: they take long
def test_unrelated_fields_are_no_mirror_images_either(n: int, fields: int) -> None:
    rng = np.random.default_rng(5)
    matched = 0
    for _ in range(fields):
        known, _ = pair(n, rng, np.eye(3))
        _, seen = pair(n, rng, np.eye(3))
        found = register_stars(StarReference(known, WIDTH, HEIGHT), seen, [np.eye(3)], SETTINGS)
        matched += isinstance(found, Registration)
    assert matched == 0
