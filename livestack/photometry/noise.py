"""What the camera adds to the noise of stars, read off the scatter of constant ones: its gain, and a floor."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.optimize import nnls

from livestack.photometry.ensemble import FLOOR, Ensemble, median

LEAST_STARS = 8
LEAST_FRAMES = 8
CHI2_MEDIAN = 0.4549
"""Of one degree of freedom."""
MAG = 2.5 / math.log(10.0)


@dataclass(frozen=True)
class Noise:
    """Noise of a star: variance of sky and camera + per_photon x its light + (floor x flux)^2.

    Attributes
    ----------
    per_photon : ADU^2 per ADU, inverse gain.
    floor : mag; flats, seeing and whatever else all bright stars show.
    """

    per_photon: float
    floor: float


def fit_noise(
    found: Sequence[Ensemble], tables: Sequence[tuple[np.ndarray, ...]], noise: Noise, unknown_gain: bool
) -> Noise:
    """Gain (where it is unknown) and floor that the scatter of most stars asks for.

    Parameters
    ----------
    found, tables : solution, and (flux, sky_variance, photon) of (n, t), by each way of weighing.
    """
    skies, lights, seen = [], [], []
    for one, (flux, sky_variance, photon) in zip(found, tables, strict=True):
        good = np.isfinite(one.residual)
        stars = good.sum(axis=1) >= LEAST_FRAMES
        use = good[stars]

        def middle(values: np.ndarray, use: np.ndarray = use, stars: np.ndarray = stars) -> np.ndarray:
            return median(np.where(use, values[stars], np.nan), 1)

        power = np.maximum(middle(flux), 1e-6) ** 2
        its_sky, its_light = middle(sky_variance) / power, middle(photon) / power
        spread = middle(one.residual**2) / CHI2_MEDIAN / MAG**2
        # the comparison's share of the error is no noise of the star's own
        comparison = np.maximum(middle(one.error**2) / MAG**2 - _told(noise, its_sky, its_light), 0.0)
        skies.append(its_sky)
        lights.append(its_light)
        seen.append(np.maximum(spread - comparison, 0.0))
    sky, light, target = (np.concatenate(part) for part in (skies, lights, seen))
    if len(target) < LEAST_STARS * len(found):
        return noise
    whole = np.ones(len(target))
    columns = np.column_stack([light, whole]) if unknown_gain else whole[:, None]
    known = sky if unknown_gain else sky + noise.per_photon * light
    weight = 1.0 / np.maximum(target, 1e-8)
    solution = np.zeros(columns.shape[1])
    for _ in range(12):
        solution, _ = nnls(columns * weight[:, None], (target - known) * weight)
        model = known + columns @ solution
        off = target / np.maximum(model, 1e-12)
        # relative residuals; variables and blends stand far above, and do not count
        weight = 1.0 / np.maximum(model, 1e-12) * np.where(off > 2.5, 0.0, 1.0)
    per_photon = float(solution[0]) if unknown_gain else noise.per_photon
    floor = MAG * math.sqrt(float(solution[-1]))
    return Noise(per_photon, floor if floor > FLOOR else 0.0)


def _told(noise: Noise, sky: np.ndarray, light: np.ndarray) -> np.ndarray:
    """Relative variance by a noise."""
    return np.asarray(sky + noise.per_photon * light + (noise.floor / MAG) ** 2)
