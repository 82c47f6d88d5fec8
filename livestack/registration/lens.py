"""What no matrix can mend: a quadratic or cubic correction where a lens distorts and the field moved over the sensor.

The fit goes from reference to frame, as frames are sampled: all terms of a polynomial at once, reweighted as in
`model`, with a ridge on the terms beyond the linear so that a few stars cannot bend it far. A matrix reaches only the
stars that it misses by less than the match radius; so the match grows with the model, from where the matrix holds
outward. The order is the one that best predicts stars left out of its fit, and the matrix alone is kept unless a
polynomial lowers that residual by more than chance would, and is known well enough where there are no stars: fields
without distortion come out as they came in.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from livestack.base.settings import RegistrationSettings
from livestack.detection import StarCatalog
from livestack.registration import transform as tf
from livestack.registration.distortion import COLUMNS, TERMS, Distortion, terms, to_frame, to_reference
from livestack.registration.model import (
    AFFINE_CHANCE,
    AFFINE_GAIN,
    FLOOR_PX,
    centroid_noise2,
    fit_robustly,
    left_out,
)
from livestack.registration.reference import StarReference
from livestack.registration.transform import Registration
from livestack.registration.verify import MATCH_RADIUS_PX

STARS, CUBIC_STARS = 16, 30
"""Fewer do not speak of a lens, or not of a cubic."""
WORTH_PX = 0.1
"""A correction that stays below this wherever there are stars is not worth a slower way through the pixels."""
RIDGE = 3.0
"""The terms beyond the linear are expected to be no larger than this times the scatter that a matrix leaves."""
STEEP = 0.1
"""Largest believed change of the correction, px per px."""
KNOWN, GRID = 0.7, 9
"""At all places of a grid over the overlap the correction must be known to this share of what it is at the stars."""
ROUNDS = 16


def bend(
    reference: StarReference, stars: StarCatalog, found: Registration, settings: RegistrationSettings
) -> Registration:
    """The same registration with a `Distortion`, where one is called for; else `found` itself."""
    if settings.model not in ("auto", "polynomial") or found.n_matched < STARS:
        return found
    fit = _Fit(reference, stars)
    if settings.model == "auto" and not fit.gains(found.frame_index, found.reference_index):
        return found
    try:
        pairs = fit.grow((found.frame_index, found.reference_index))
        bent = fit.choose(*pairs, always=settings.model == "polynomial") if len(pairs[0]) >= STARS else None
    except ValueError:  # all on one line
        return found
    if bent is None or bent.rms_px > settings.max_rms_px or bent.n_matched < 0.8 * found.n_matched:
        return found
    return replace(bent, method=found.method)


def straightened(stars: StarCatalog, matrix: np.ndarray, distortion: Distortion) -> StarCatalog:
    """The stars where they would be if the matrix alone had put them there."""
    back = np.linalg.inv(matrix)
    return stars.placed(tf.apply(back, to_reference(matrix, distortion, stars.xy)))


class _Fit:
    """Polynomials from reference to frame over the matched stars of one frame."""

    def __init__(self, reference: StarReference, stars: StarCatalog) -> None:
        self.reference, self.stars = reference, stars
        self.centre = (reference.width - 1) / 2, (reference.height - 1) / 2
        self.half = max(reference.width, reference.height) / 2
        known = reference.stars.xy
        self.design = terms(*((known - self.centre) / self.half).T)

    def noise2(self, mine: np.ndarray, theirs: np.ndarray) -> np.ndarray:
        return centroid_noise2(self.stars.snr[mine], self.reference.stars.snr[theirs])

    def gains(self, mine: np.ndarray, theirs: np.ndarray) -> bool:
        """Whether a cubic through all stars leaves so much less than a plane that it is worth a closer look."""
        design, target = self.design[theirs], self.stars.xy[mine]
        noise2 = self.noise2(mine, theirs)
        weights = 1.0 / (noise2 + max(FLOOR_PX**2, float(np.median(noise2))))
        normal = design.T @ (weights[:, None] * design)
        target = target - target.mean(axis=0)  # the sums of squares below are differences of large numbers
        moment = design.T @ (weights[:, None] * target)
        whole = float(weights @ np.sum(target**2, axis=1))
        left = [
            whole - float(np.sum(moment[:n] * np.linalg.lstsq(normal[:n, :n], moment[:n], rcond=None)[0]))
            for n in (COLUMNS[1], TERMS if len(mine) >= CUBIC_STARS else COLUMNS[2])
        ]
        return left[1] < self._gain(len(mine)) ** 2 * left[0]

    @staticmethod
    def _gain(n: int) -> float:
        return min(AFFINE_GAIN, 1.0 - AFFINE_CHANCE / n)

    def grow(self, pairs: tuple[np.ndarray, np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
        """Match, bend, match again farther out, until no more stars come in: the indices (frame, reference)."""
        order = 2
        radius = MATCH_RADIUS_PX
        last = len(pairs[0])
        for _ in range(ROUNDS):
            solution, used, _ = self._solve(*pairs, COLUMNS[order])
            matrix, distortion = self._split(solution, pairs[1][used])
            if not self._gentle(distortion):
                break
            placed = to_reference(matrix, distortion, self.stars.xy)
            pairs = self.reference.match_near(placed, np.eye(3), radius)
            if len(pairs[0]) < STARS:
                break
            if len(pairs[0]) <= 1.01 * last:
                if order == 3 or len(pairs[0]) < CUBIC_STARS:
                    break
                order = 3
            last = len(pairs[0])
        return pairs

    def choose(self, mine: np.ndarray, theirs: np.ndarray, always: bool) -> Registration | None:
        """The order that best predicts stars it has not seen; None where that is the first."""
        highest = 3 if len(mine) >= CUBIC_STARS else 2
        _, used, weights = self._solve(mine, theirs, COLUMNS[highest])
        mine, theirs, weights = mine[used], theirs[used], weights[used]
        if len(mine) < STARS:
            return None
        design, target = self.design[theirs], self.stars.xy[mine]
        ridge = self._ridge(design, target, weights)
        missed = {
            order: left_out(design[:, : COLUMNS[order]], target, weights, ridge, _along)
            for order in range(1, highest + 1)
        }
        gain = self._gain(len(mine))
        order = 3 if highest == 3 and missed[3] < gain * missed[2] else 2
        while order > 1 and (always or missed[order] < gain * missed[1]):
            bent = self._with(order, mine, theirs, weights, ridge, always)
            if bent is not None:
                return bent
            order -= 1
        return None

    def _with(
        self, order: int, mine: np.ndarray, theirs: np.ndarray, weights: np.ndarray, ridge: _Ridge, always: bool
    ) -> Registration | None:
        """The registration with a polynomial of this order; None where it is wild, of no use, or not known well."""
        design, target = self.design[theirs][:, : COLUMNS[order]], self.stars.xy[mine]
        solution = ridge(design, target, weights)
        matrix, distortion = self._split(solution, theirs)
        if not self._gentle(distortion):
            return None
        places = self.reference.stars.xy[theirs]
        if not always:
            if np.hypot(*distortion.shift(places).T).max() < WORTH_PX:
                return None
            left2 = float(weights @ np.sum((design @ solution - target) ** 2, axis=1)) / (
                2 * len(mine) - 2 * len(solution)
            )
            if not self._certain(matrix, distortion, ridge.scatter2(design, weights) * left2, places):
                return None
        placed = to_reference(matrix, distortion, target)
        rms = float(np.sqrt(np.mean(np.sum((placed - places) ** 2, axis=1))))
        return Registration(matrix, "", mine, theirs, rms, distortion=distortion)

    def _certain(self, matrix: np.ndarray, distortion: Distortion, covariance: np.ndarray, places: np.ndarray) -> bool:
        """Whether the correction is nowhere on the overlap known less well than what it amounts to at the stars."""
        size = np.array([self.reference.width, self.reference.height]) - 1.0
        steps = np.linspace(0, 1, GRID)
        grid = np.stack(np.meshgrid(steps * size[0], steps * size[1]), axis=-1).reshape(-1, 2)
        seen = to_frame(matrix, None, grid)
        grid = grid[((seen >= 0) & (seen <= size)).all(axis=1)]
        if len(grid) == 0:
            return False
        u0, u1, v0, v1 = distortion.reach
        uv = np.clip((grid - self.centre) / self.half, (u0, v0), (u1, v1))
        design = terms(*uv.T)[:, : len(covariance)]
        scatter2 = 2.0 * np.einsum("ij,jk,ik->i", design, covariance, design)
        return float(scatter2.max()) < KNOWN**2 * float(np.mean(np.sum(distortion.shift(places) ** 2, axis=1)))

    def _solve(self, mine: np.ndarray, theirs: np.ndarray, columns: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        design, target = self.design[theirs], self.stars.xy[mine]
        noise2 = self.noise2(mine, theirs)
        ridge = self._ridge(design, target, 1.0 / (FLOOR_PX**2 + noise2))
        return fit_robustly(design[:, :columns], target, noise2, ridge, _along)

    @staticmethod
    def _ridge(design: np.ndarray, target: np.ndarray, weights: np.ndarray) -> _Ridge:
        """A ridge that expects the terms to be as large as what a plane leaves over."""
        plane = _Ridge(0.0)(design[:, : COLUMNS[1]], target, weights)
        left2 = np.sum((design[:, : COLUMNS[1]] @ plane - target) ** 2, axis=1)
        return _Ridge(1.0 / (RIDGE**2 * max(float(np.mean(left2)), FLOOR_PX**2)))

    def _split(self, solution: np.ndarray, theirs: np.ndarray) -> tuple[np.ndarray, Distortion]:
        coefficients = np.zeros((2, TERMS))
        coefficients[:, : len(solution)] = solution.T
        return tf.split(coefficients, self.centre, self.half, self.reference.stars.xy[theirs])

    def _gentle(self, distortion: Distortion) -> bool:
        """Whether the correction varies slowly, as a lens does, wherever it may be asked for."""
        u0, u1, v0, v1 = distortion.reach
        grid = np.stack(np.meshgrid(np.linspace(u0, u1, 9), np.linspace(v0, v1, 9)), axis=-1).reshape(-1, 2)
        points = grid * self.half + self.centre
        step = 1e-3 * self.half
        here = distortion.shift(points)
        slopes = [distortion.shift(points + move) - here for move in ((step, 0.0), (0.0, step))]
        return float(np.abs(np.stack(slopes)).max()) / step < STEEP


class _Ridge:
    """Weighted least squares with a ridge on all columns beyond the linear."""

    def __init__(self, strength: float) -> None:
        self.strength = strength

    def __call__(self, design: np.ndarray, target: np.ndarray, weights: np.ndarray) -> np.ndarray:
        normal = self._normal(design, weights)
        return np.asarray(np.linalg.lstsq(normal, design.T @ (weights[:, None] * target), rcond=None)[0])

    def scatter2(self, design: np.ndarray, weights: np.ndarray) -> np.ndarray:
        """Covariance of the solution for residuals of 1 / weights."""
        return np.asarray(np.linalg.pinv(self._normal(design, weights), hermitian=True))

    def _normal(self, design: np.ndarray, weights: np.ndarray) -> np.ndarray:
        normal = design.T @ (weights[:, None] * design)
        beyond = np.arange(COLUMNS[1], design.shape[1])
        normal[beyond, beyond] += self.strength
        return np.asarray(normal)


def _along(solution: np.ndarray, design: np.ndarray) -> np.ndarray:
    return np.asarray(design @ solution)
