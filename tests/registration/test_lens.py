"""Registration through a lens that distorts: star lists whose true places are known, linear fields among them."""

from __future__ import annotations

import numpy as np
import pytest

from livestack.base.settings import RegistrationSettings
from livestack.detection import StarCatalog
from livestack.registration import Registration, StarReference, register_stars
from livestack.registration import transform as tf
from livestack.registration.distortion import Distortion, to_frame

WIDTH, HEIGHT = 1200, 800
CENTRE = np.array([(WIDTH - 1) / 2, (HEIGHT - 1) / 2])
HALF = float(np.hypot(*CENTRE))
SETTINGS = RegistrationSettings()


def through_lens(xy: np.ndarray, corner_px: float) -> np.ndarray:
    """Radial distortion that moves what is in the corner by `corner_px`."""
    out = xy - CENTRE
    return np.asarray(xy + out * np.sum(out**2, axis=1, keepdims=True) * corner_px / HALF**3)


def without_lens(xy: np.ndarray, corner_px: float) -> np.ndarray:
    ideal = xy.copy()
    for _ in range(60):
        ideal += xy - through_lens(ideal, corner_px)
    return ideal


def move(turn: float, dx: float, dy: float) -> np.ndarray:
    matrix = tf.similarity(1.0, turn, 0, 0)
    matrix[:2, 2] = CENTRE - matrix[:2, :2] @ CENTRE + (dx, dy)
    return matrix


def catalog(xy: np.ndarray, flux: np.ndarray) -> StarCatalog:
    order = np.argsort(-flux)
    nan = np.full(len(order), np.nan)
    return StarCatalog(
        xy[order, 0], xy[order, 1], flux[order], np.clip(8 * flux[order], 8, 300), nan, nan, nan,
        np.zeros(len(order), dtype=bool), 8.0,
    )  # fmt: skip


class Night:
    """One sky through one lens; frames by where they point."""

    def __init__(self, n: int, corner_px: float, seed: int, within: float = 1.0, noise_px: float = 0.05) -> None:
        self.rng = np.random.default_rng(seed)
        self.corner_px, self.noise_px = corner_px, noise_px
        self.xy = self.rng.uniform((-WIDTH, -HEIGHT), (2 * WIDTH, 2 * HEIGHT), (9 * n, 2))
        self.flux = self.rng.pareto(0.9, 9 * n) + 1
        far = np.abs(self.xy - CENTRE) / (WIDTH / 2, HEIGHT / 2)
        self.reference = StarReference(self.frame(np.eye(3), (far < within).all(axis=1)), WIDTH, HEIGHT)

    def frame(self, truth: np.ndarray, seen: np.ndarray | None = None) -> StarCatalog:
        xy = through_lens(tf.apply(np.linalg.inv(truth), self.xy), self.corner_px)
        keep = ((xy >= 0) & (xy < (WIDTH, HEIGHT))).all(axis=1) & (self.rng.random(len(xy)) > 0.1)
        keep &= True if seen is None else seen
        return catalog(xy[keep] + self.rng.normal(0, self.noise_px, (keep.sum(), 2)), self.flux[keep])

    def errors(self, found: object, truth: np.ndarray) -> tuple[float, float]:
        """Largest displacement over what both show: by the matrix alone, and with the distortion."""
        assert isinstance(found, Registration), found
        x, y = np.meshgrid(np.linspace(0, WIDTH - 1, 25), np.linspace(0, HEIGHT - 1, 17))
        points = np.column_stack([x.ravel(), y.ravel()])
        places = through_lens(tf.apply(np.linalg.inv(truth), without_lens(points, self.corner_px)), self.corner_px)
        shown = ((places >= 0) & (places <= (WIDTH - 1, HEIGHT - 1))).all(axis=1)

        def worst(distortion: Distortion | None) -> float:
            return float(np.hypot(*(to_frame(found.matrix, distortion, points) - places)[shown].T).max())

        return worst(None), worst(found.distortion)


@pytest.mark.parametrize("corner_px", [-10.0, 5.0])
@pytest.mark.parametrize(("turn", "dx", "dy"), [(0.1, 200, -80), (1.0, 500, 200), (3.0, 100, 50)])
def test_corners_are_met_where_a_matrix_misses_them(corner_px: float, turn: float, dx: float, dy: float) -> None:
    night, truth = Night(400, corner_px, 3), move(turn, dx, dy)
    found = register_stars(night.reference, night.frame(truth), [], SETTINGS)
    alone, whole = night.errors(found, truth)
    assert alone > 1.0
    assert whole < 0.35
    assert found.rms_px < 0.2


def test_stars_beyond_the_match_radius_come_in() -> None:
    night, truth = Night(400, -10.0, 4), move(0.1, 200, -80)
    stars = night.frame(truth)
    bent = register_stars(night.reference, stars, [], SETTINGS)
    plain = register_stars(night.reference, stars, [], RegistrationSettings(model="affine"))
    assert isinstance(bent, Registration)
    assert isinstance(plain, Registration)
    assert plain.distortion is None
    assert bent.n_matched > plain.n_matched + 10
    matched = to_frame(bent.matrix, bent.distortion, night.reference.stars.xy[bent.reference_index])
    assert np.hypot(*(matched - stars.xy[bent.frame_index]).T).max() < 0.5


def test_the_matrix_stays_the_best_single_one() -> None:
    night, truth = Night(400, -10.0, 4), move(0.1, 200, -80)
    stars = night.frame(truth)
    found = register_stars(night.reference, stars, [], SETTINGS)
    assert isinstance(found, Registration)
    pairs = stars.xy[found.frame_index], night.reference.stars.xy[found.reference_index]
    best = tf.fit_affine(*pairs)
    misses = [np.sqrt(np.mean((tf.apply(m, pairs[0]) - pairs[1]) ** 2)) for m in (found.matrix, best)]
    assert misses[0] < 1.01 * misses[1]


@pytest.mark.parametrize("n", [30, 80, 400])
def test_a_field_without_distortion_comes_out_as_it_came_in(n: int) -> None:
    for seed in range(12):
        night, truth = Night(n, 0.0, 50 + seed, noise_px=0.2), move(0.1, 100, -80)
        stars = night.frame(truth)
        one = register_stars(night.reference, stars, [], SETTINGS)
        other = register_stars(night.reference, stars, [], RegistrationSettings(model="polynomial"))
        assert isinstance(one, Registration)
        assert isinstance(other, Registration)
        assert one.distortion is None, seed
        assert night.errors(other, truth)[1] < {30: 3.0, 80: 1.5, 400: 0.6}[n], "even where it is asked for"


def test_corners_without_stars_are_not_bent_wildly() -> None:
    for seed in range(5):
        night, truth = Night(300, 5.0, 80 + seed, within=0.6), move(0.1, 200, -80)
        alone, whole = night.errors(register_stars(night.reference, night.frame(truth), [], SETTINGS), truth)
        assert whole < alone


@pytest.mark.parametrize("corner_px", [0.7, 2.0, 5.0])
def test_a_quarter_without_stars_is_left_alone_or_mended(corner_px: float) -> None:
    """Where a weak distortion is seen, but not how it goes on beyond the stars, a matrix is the safer guess."""
    bent, with_lens, alone = 0, 0.0, 0.0
    for seed in range(8):
        night, truth = Night(150, corner_px, 200 + seed, noise_px=0.1), move(0.1, 200, -80)
        empty = (night.xy[:, 0] > WIDTH / 2) & (night.xy[:, 1] > HEIGHT / 2)
        night.reference = StarReference(night.frame(np.eye(3), ~empty), WIDTH, HEIGHT)
        stars = night.frame(truth)
        found = register_stars(night.reference, stars, [], SETTINGS)
        plain = register_stars(night.reference, stars, [], RegistrationSettings(model="affine"))
        assert isinstance(found, Registration)
        bent += found.distortion is not None
        with_lens += night.errors(found, truth)[1]
        alone += night.errors(plain, truth)[0]
    assert with_lens < 1.1 * alone
    assert bent >= (6 if corner_px == 5.0 else 0)


def test_few_stars_do_not_bend() -> None:
    night, truth = Night(14, 3.0, 6), move(0.05, 60, -20)
    found = register_stars(night.reference, night.frame(truth), [], RegistrationSettings(model="polynomial"))
    assert isinstance(found, Registration)
    assert found.distortion is None


def test_false_stars_do_not_bend() -> None:
    night, truth = Night(300, 6.0, 7), move(0.1, 150, -80)
    stars = night.frame(truth)
    wrong = night.rng.random(len(stars)) < 0.15
    jumped = stars.xy + np.where(wrong[:, None], night.rng.uniform(-2.5, 2.5, (len(stars), 2)), 0.0)
    found = register_stars(night.reference, stars.placed(jumped), [], SETTINGS)
    alone, whole = night.errors(found, truth)
    assert alone > 1.0
    assert whole < 0.5


def test_prediction_carries_the_distortion_on() -> None:
    """At the last frame the corners are farther out than any prediction by a matrix would look."""
    night, hints, lens = Night(500, -15.0, 8), [np.eye(3)], None
    for k in range(1, 13):
        truth = move(0.01 * k, 25.0 * k, -12.0 * k)
        found = register_stars(night.reference, night.frame(truth), hints, SETTINGS, lens)
        assert isinstance(found, Registration), k
        step = found.matrix @ np.linalg.inv(hints[-1])
        hints, lens = [step @ found.matrix, found.matrix], found.distortion
        alone, whole = night.errors(found, truth)
        assert whole < 0.6, k
    assert found.method == "predicted"
    assert alone > 5.0


def test_a_wrong_distortion_does_no_harm() -> None:
    night, truth = Night(300, 0.0, 9), move(0.02, 20, -10)
    stars = night.frame(truth)
    wrong = Distortion(np.full((2, 10), 2.0), (600.0, 400.0), 600.0, (-1.0, 1.0, -1.0, 1.0))
    found = register_stars(night.reference, stars, [move(0.02, 19, -9)], SETTINGS, wrong)
    plain = register_stars(night.reference, stars, [move(0.02, 19, -9)], SETTINGS)
    assert isinstance(found, Registration)
    assert isinstance(plain, Registration)
    assert found.distortion is None
    assert found.matrix.tobytes() == plain.matrix.tobytes()


def test_same_stars_same_distortion_to_the_last_bit() -> None:
    night = Night(300, 6.0, 10)
    stars = night.frame(move(0.1, 150, -80))
    one, other = (register_stars(night.reference, stars, [], SETTINGS) for _ in range(2))
    assert isinstance(one, Registration)
    assert isinstance(other, Registration)
    assert one.distortion is not None
    assert other.distortion is not None
    assert one.distortion.coefficients.tobytes() == other.distortion.coefficients.tobytes()
