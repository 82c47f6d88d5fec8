"""All that was measured of one group's stars, frame by frame, and the curves that follow from it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from scipy.spatial import cKDTree

from livestack.kernels.photometry import N_WEIGHTS
from livestack.photometry.curves import POOR, Curves
from livestack.photometry.ensemble import Circumstances, Ensemble, solve
from livestack.photometry.measure import FrameLight, main_channel
from livestack.photometry.noise import MAG, Noise, fit_noise
from livestack.photometry.variability import variability

LEAST_SNR = 10.0
"""Stars that stand out less in a frame are not followed."""
SETTLED = 20
"""So many frames refine the places of the stars."""
SAME_PX = 2.5
"""Nearer to each other two detections are one star."""
RECURS = 3
"""A star that the reference did not show is followed when it was seen in so many frames."""
UNLIKE_A_STAR = 0.5
"""In ln(width): farther from the width of the frame's stars nothing is taken up as a star."""
FAINTEST = 0.05
"""Share of the stars that are followed which says how faint the faintest are."""
UNKNOWN_FLOOR = 0.005
"""mag; what bright stars are believed to scatter until the camera's gain is known."""
COLOUR_WAY = 1
"""How the pixels of the other colours are weighed."""


@dataclass(frozen=True, eq=False)
class Measured:
    """One frame: which, when, where, and the light of the stars that were known by then.

    Attributes
    ----------
    name, index : of the frame; jd : UTC, middle of the exposure, NaN: unknown; exposure_s : NaN: unknown.
    places : (2, n) float32, px on the sensor, over its size.
    flux, sky_variance, photon : (N_WEIGHTS, n) float32, of the main colour, see `measure.FrameLight`.
    colours : (C, 3, n) float32 flux, sky_variance, photon of each colour by one way; empty for mono.
    flags : (n,) uint8; fwhm_px, sky_adu.
    """

    name: str
    index: int
    jd: float
    exposure_s: float
    places: np.ndarray
    flux: np.ndarray
    sky_variance: np.ndarray
    photon: np.ndarray
    colours: np.ndarray
    flags: np.ndarray
    fwhm_px: float
    sky_adu: float

    @staticmethod
    def of(
        light: FrameLight, places: np.ndarray, size: tuple[int, int], name: str, index: int, jd: float,
        exposure_s: float,
    ) -> Measured:  # fmt: skip
        """Keep what is needed of a frame's light; places (n, 2) px, size (width, height)."""
        c = main_channel(len(light.flux))
        parts = (light.flux, light.sky_variance, light.photon)
        colours = np.stack([part[:, COLOUR_WAY] for part in parts], axis=1) if len(light.flux) > 1 else np.empty((0,))
        flux, sky_variance, photon = (part[c].astype(np.float32) for part in parts)
        return Measured(
            name, index, jd, exposure_s, (places / size).T.astype(np.float32), flux, sky_variance, photon,
            colours.astype(np.float32), light.flags[c], light.fwhm_px, float(light.sky[c]),
        )  # fmt: skip


@dataclass(frozen=True)
class Newcomer:
    """A star that the reference did not show.

    Attributes
    ----------
    star : its number; x, y : px of the reference.
    plain : its light over that of the faintest stars that are followed; flux : ADU in the reference.
    """

    star: int
    x: float
    y: float
    plain: float
    flux: float


class StarNight:
    """The stars of one group through the night.

    Parameters
    ----------
    x, y : places, px of the reference; flux : ADU in the reference, to begin with.
    size : (width, height) of the reference.

    Attributes
    ----------
    frames : what was measured, in the order in which it came.
    """

    def __init__(
        self, x: np.ndarray, y: np.ndarray, flux: np.ndarray, size: tuple[int, int], per_photon: float | None
    ) -> None:
        self.x, self.y = np.asarray(x, dtype=float).copy(), np.asarray(y, dtype=float).copy()
        self.flux = np.asarray(flux, dtype=float).copy()
        self.size, self.per_photon = size, per_photon
        self.frames: list[Measured] = []
        self._seen = np.zeros(len(self.x))
        self._candidates = np.empty((0, 4))  # x, y, flux, how often

    def __len__(self) -> int:
        return len(self.x)

    @property
    def xy(self) -> np.ndarray:
        """(n, 2) px of the reference."""
        return np.column_stack([self.x, self.y])

    def refine(
        self, seen: np.ndarray, flux: np.ndarray, snr: np.ndarray, width: np.ndarray, most: int
    ) -> list[Newcomer]:
        """Settle the places by what a frame shows, and take up stars that the reference did not; tell which.

        Parameters
        ----------
        seen : (m, 2) detections, px of the reference; flux (m,) ADU; snr (m,); width : (m,) FWHM over that of the
            frame's stars.
        most : so many stars are followed at most.
        """
        if not len(seen):
            return []
        away, star = cKDTree(self.xy).query(seen) if len(self.x) else (np.full(len(seen), np.inf), np.zeros(0, int))
        if len(self.frames) < SETTLED:
            close = np.flatnonzero(away < 1.0)
            self._seen[star[close]] += 1
            share = 1.0 / (1.0 + self._seen[star[close]])
            self.x[star[close]] += share * (seen[close, 0] - self.x[star[close]])
            self.y[star[close]] += share * (seen[close, 1] - self.y[star[close]])
        near = np.flatnonzero(away < 1.0)
        brightness = float(np.median(flux[near] / self.flux[star[near]])) if len(near) else 1.0
        # a cosmic ray or a hot pixel is narrower than a star, a trail's end or a ghost wider
        new = (away > SAME_PX) & (snr > 1.5 * LEAST_SNR) & (np.abs(np.log(np.maximum(width, 1e-3))) < UNLIKE_A_STAR)
        return self._note_new(np.column_stack([seen, flux / max(brightness, 1e-9)])[new], most)

    def _note_new(self, new: np.ndarray, most: int) -> list[Newcomer]:
        """Detections (m, 3) x, y, flux where no star is known."""
        known = self._candidates
        if len(known) and len(new):
            away, which = cKDTree(known[:, :2]).query(new[:, :2])
            again = away < 1.0
            known[which[again], 3] += 1
            new = new[~again]
        known = np.concatenate([known, np.column_stack([new, np.ones(len(new))])]) if len(new) else known
        ripe = known[:, 3] >= RECURS
        newcomers = []
        if ripe.any() and len(self) < most:
            faintest = float(np.quantile(self.flux, FAINTEST)) if len(self) else math.inf
            first = len(self)
            newcomers = [
                Newcomer(first + k, float(x), float(y), float(flux) / faintest, float(flux))
                for k, (x, y, flux) in enumerate(known[ripe, :3])
            ]
            self.extend(known[ripe, 0], known[ripe, 1], known[ripe, 2])
        self._candidates = known[~ripe][-2 * most :]
        return newcomers

    def extend(self, x: np.ndarray, y: np.ndarray, flux: np.ndarray) -> None:
        """Follow more stars from now on."""
        self.x, self.y = np.append(self.x, x), np.append(self.y, y)
        self.flux = np.append(self.flux, flux)
        self._seen = np.append(self._seen, np.zeros(len(x)))

    def move(self, matrix: np.ndarray, size: tuple[int, int]) -> None:
        """Another reference: places are carried there by `matrix` (3, 3)."""
        xy = self.xy @ matrix[:2, :2].T + matrix[:2, 2]
        self.x, self.y, self.size = xy[:, 0].copy(), xy[:, 1].copy(), size
        self._candidates = np.empty((0, 4))

    def table(self, part: str, way: int | None = None) -> np.ndarray:
        """(n, t) of one kind of measurement through the night; NaN (flags: 0) before a star was known."""
        kind = np.uint8 if part == "flags" else np.float32
        out = np.full((len(self), len(self.frames)), 0 if part == "flags" else np.nan, dtype=kind)
        for j, frame in enumerate(self.frames):
            values = getattr(frame, part)
            values = values if way is None else values[way]
            out[: len(values), j] = values
        return out

    def colour_table(self, colour: int, part: int) -> np.ndarray:
        """(n, t) flux (part 0), sky_variance (1), photon (2) of one colour."""
        out = np.full((len(self), len(self.frames)), np.nan, dtype=np.float32)
        for j, frame in enumerate(self.frames):
            if frame.colours.ndim == 3:
                out[: frame.colours.shape[2], j] = frame.colours[colour, part]
        return out

    @property
    def n_colours(self) -> int:
        """3 where colours were measured, else 0."""
        return max((len(frame.colours) for frame in self.frames if frame.colours.ndim == 3), default=0)

    def as_of(self, n_frames: int) -> StarNight:
        """The night when it had so many frames, to be worked on in another thread."""
        frozen = StarNight(self.x, self.y, self.flux, self.size, self.per_photon)
        frozen.frames = self.frames[:n_frames]
        return frozen

    def state(self) -> Mapping[str, Any]:
        """What `restored` needs."""
        frames = [tuple(getattr(f, name) for name in Measured.__dataclass_fields__) for f in self.frames]
        return {
            "x": self.x.copy(), "y": self.y.copy(), "flux": self.flux.copy(), "size": self.size,
            "per_photon": self.per_photon, "frames": frames, "seen": self._seen.copy(),
            "candidates": self._candidates.copy(),
        }  # fmt: skip

    @staticmethod
    def restored(state: Mapping[str, Any]) -> StarNight:
        """A night as `state` told it."""
        night = StarNight(state["x"], state["y"], state["flux"], state["size"], state["per_photon"])
        night.frames = [Measured(*values) for values in state["frames"]]
        night._seen, night._candidates = state["seen"].copy(), state["candidates"].copy()
        return night


@dataclass(frozen=True, eq=False)
class Solution:
    """The curves of a night, with what a frame to come is compared with.

    Attributes
    ----------
    way : (n,) how each star's pixels are weighed; mean, scatter : (n,) mag, see `ensemble.Ensemble`.
    noise : of the camera; trends : what was taken out, in words.
    n_solved : frames that the solution rests on; those after them were only compared with it.
    """

    curves: Curves
    way: np.ndarray
    mean: np.ndarray
    scatter: np.ndarray
    noise: Noise
    trends: tuple[str, ...]
    n_solved: int


def magnitudes(
    flux: np.ndarray, sky_variance: np.ndarray, photon: np.ndarray, flags: np.ndarray, noise: Noise
) -> tuple[np.ndarray, np.ndarray]:
    """Magnitudes and their errors, NaN where flagged or drowned in noise; any shape."""
    variance = sky_variance + noise.per_photon * photon
    with np.errstate(invalid="ignore", divide="ignore"):
        good = (flags == 0) & (flux > 3.0 * np.sqrt(variance)) & np.isfinite(variance)
        mags = np.where(good, -2.5 * np.log10(np.where(good, flux, 1.0)), np.nan)
        relative = variance / np.where(good, flux, 1.0) ** 2
        errors = np.where(good, np.sqrt(MAG * MAG * relative + noise.floor**2), np.nan)
    return mags, errors


def solve_night(night: StarNight, group: str) -> Solution | None:
    """The curves of all stars; None while there are too few frames or stars."""
    if len(night.frames) < 3 or len(night) < 3:
        return None
    flags = night.table("flags")
    where = _circumstances(night)
    tables = [tuple(night.table(part, way) for part in ("flux", "sky_variance", "photon")) for way in range(N_WEIGHTS)]
    noise = Noise(0.0, UNKNOWN_FLOOR) if night.per_photon is None else Noise(night.per_photon, 0.0)
    noise, found = _with_noise(tables, flags, where, noise, night.per_photon is None)
    cost = np.array([_cost(one) for one in found])
    way = np.argmin(np.where(np.isfinite(cost), cost, np.inf), axis=0)
    stars = np.arange(len(night))

    def chosen(part: str) -> np.ndarray:
        return np.stack([getattr(one, part) for one in found])[way, stars]

    residual, error, mean, scatter = (chosen(part) for part in ("residual", "error", "mean", "scatter"))
    flux, sky_variance, photon = (np.stack([table[k] for table in tables])[way, stars] for k in range(3))
    poor = _poor(residual, error)
    flags = flags | (poor[None, :] * POOR).astype(np.uint8)
    measured = np.isfinite(flux) & (flux > 0)
    residual, error = _all_measured(residual, error, flux, sky_variance, photon, noise, found, way, mean)
    good = measured & (flags == 0) & np.isfinite(residual)
    jd = np.array([frame.jd for frame in night.frames])
    order = np.argsort(np.where(np.isfinite(jd), jd, np.arange(len(jd)) * 1e-9), kind="stable")
    clean, its = np.where(good, residual, np.nan)[:, order], np.where(good, error, np.nan)[:, order]
    curves = Curves(
        group=group, x=night.x.copy(), y=night.y.copy(), mag=mean,
        rms_mmag=1e3 * _rms(clean), expected_mmag=1e3 * _expected(flux, sky_variance, photon, noise, good),
        variability=variability(clean, its, mean, where.seeing[order]), n_good=good.sum(axis=1),
        files=tuple(frame.name for frame in night.frames), index=np.array([frame.index for frame in night.frames]),
        jd=jd, mags=(mean[:, None] + residual).astype(np.float32), errors=error.astype(np.float32),
        flux=np.where(measured, flux, np.nan).astype(np.float32), flags=flags,
    )  # fmt: skip
    trends = tuple(sorted({name for one in found for name in one.trends}))
    return Solution(curves, way, mean, scatter, noise, trends, len(night.frames))


def go_on(solution: Solution, night: StarNight) -> Solution:
    """The solution with the frames that came after it, each compared with what it knows of the stars."""
    curves, done = solution.curves, len(solution.curves.files)
    new = night.frames[done:]
    if not new:
        return solution
    n, stars = len(curves), np.arange(len(curves))
    mags, errors, flux = (np.full((n, len(new)), np.nan, dtype=np.float32) for _ in range(3))
    flags = np.zeros((n, len(new)), dtype=np.uint8)
    for j, frame in enumerate(new):
        both = min(n, frame.flux.shape[1])  # stars that were found later have no curve yet
        way, some = solution.way[:both], stars[:both]
        flux[:both, j], flags[:both, j] = frame.flux[way, some], frame.flags[:both]
        unflagged = np.zeros(both, dtype=np.uint8)
        sky_variance, photon = frame.sky_variance[way, some], frame.photon[way, some]
        m, e = magnitudes(frame.flux[way, some], sky_variance, photon, unflagged, solution.noise)
        mean, scatter = solution.mean[:both], solution.scatter[:both]
        mags[:both, j], errors[:both, j] = _compared(m, e, frame.flags[:both], mean, scatter)
        if not np.isfinite(mags[:, j]).any():
            flags[:, j] |= POOR
    return replace(
        solution,
        curves=replace(
            curves, files=(*curves.files, *(frame.name for frame in new)),
            index=np.append(curves.index, [frame.index for frame in new]),
            jd=np.append(curves.jd, [frame.jd for frame in new]), mags=np.hstack([curves.mags, mags]),
            errors=np.hstack([curves.errors, errors]), flux=np.hstack([curves.flux, flux]),
            flags=np.hstack([curves.flags, flags]),
            n_good=curves.n_good + ((flags == 0) & np.isfinite(mags)).sum(axis=1),
        ),
    )  # fmt: skip


def _compared(
    mags: np.ndarray, errors: np.ndarray, flags: np.ndarray, mean: np.ndarray, scatter: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """One frame's magnitudes on the night's scale by all other good stars, and their errors; NaN with too few."""
    left = mags - mean
    good = np.isfinite(left) & (flags == 0)
    if good.sum() < 3:
        return np.full_like(mags, np.nan), np.full_like(mags, np.nan)
    variance = np.where(good, errors**2 + scatter**2, 1.0)
    zero = float(np.median(left[good]))
    weight = np.zeros_like(left)
    for _ in range(4):
        pull = np.abs(np.where(good, left - zero, 0.0)) / np.sqrt(variance)
        weight = good / variance * np.minimum(1.0, 2.5 / np.maximum(pull, 1e-9))
        zero = float(np.sum(weight * np.where(good, left, 0.0)) / weight.sum())
    others = np.maximum(weight.sum() - weight, 1e-12)
    own = zero - weight * np.where(good, left - zero, 0.0) / others
    return mags - own, np.sqrt(errors**2 + 1.0 / others)


def _circumstances(night: StarNight) -> Circumstances:
    n, t = len(night), len(night.frames)
    places = np.zeros((2, n, t))
    for j, frame in enumerate(night.frames):
        places[:, : frame.places.shape[1], j] = 2 * frame.places - 1
    seeing = np.array([frame.fwhm_px for frame in night.frames])
    width, height = night.size
    return Circumstances(
        np.clip(places[0], -1, 1), np.clip(places[1], -1, 1), 2 * night.x / width - 1, 2 * night.y / height - 1,
        seeing / np.median(seeing) - 1,
    )  # fmt: skip


def _with_noise(
    tables: list[tuple[np.ndarray, ...]], flags: np.ndarray, where: Circumstances, noise: Noise, unknown_gain: bool
) -> tuple[Noise, list[Ensemble]]:
    """Solve by each way of weighing; what the camera adds to the noise is read off the stars' scatter."""
    found: list[Ensemble] = []
    for _ in range(2):
        found = []
        for flux, sky_variance, photon in tables:
            mags, errors = magnitudes(flux, sky_variance, photon, flags, noise)
            found.append(solve(mags, errors, where))
        fitted = fit_noise(found, tables, noise, unknown_gain)
        if fitted == noise:
            break
        noise = fitted
    return noise, found


def _cost(one: Ensemble) -> np.ndarray:
    """(n,) mag, what a star measured this way scatters."""
    number = np.isfinite(one.error).sum(axis=1)
    typical = np.sqrt(np.nansum(one.error**2, axis=1) / np.maximum(number, 1) + one.scatter**2)
    return np.where(number > 0, typical, np.nan)


def _poor(residual: np.ndarray, error: np.ndarray) -> np.ndarray:
    """(t,) frames in which the stars agree much less with each other than in others, or too few can be compared."""
    pull = np.where(np.isfinite(residual), np.abs(residual) / np.where(error > 0, error, 1.0), np.nan)
    number = np.isfinite(pull).sum(axis=0)
    ordered = np.sort(pull, axis=0)
    middle = ordered[np.maximum(number - 1, 0) // 2, np.arange(pull.shape[1])]
    enough = number >= 3
    usual = float(np.median(middle[enough])) if enough.any() else 1.0
    return np.asarray(~enough | (middle > 3.0 * max(usual, 0.674)))


def _all_measured(
    residual: np.ndarray, error: np.ndarray, flux: np.ndarray, sky_variance: np.ndarray, photon: np.ndarray,
    noise: Noise, found: list[Ensemble], way: np.ndarray, mean: np.ndarray,
) -> tuple[np.ndarray, np.ndarray]:  # fmt: skip
    """Residuals and errors of flagged measurements, too: they are shown, though nothing rests on them."""
    zero = np.stack([one.zero for one in found])[way]
    mags, errors = magnitudes(flux, sky_variance, photon, np.zeros_like(flux, dtype=np.uint8), noise)
    missing = ~np.isfinite(residual)
    return np.where(missing, mags - mean[:, None] - zero, residual), np.where(missing, errors, error)


def _rms(residual: np.ndarray) -> np.ndarray:
    number = np.isfinite(residual).sum(axis=1)
    return np.where(number > 1, np.sqrt(np.nansum(residual**2, axis=1) / np.maximum(number - 1, 1)), np.nan)


def _expected(
    flux: np.ndarray, sky_variance: np.ndarray, photon: np.ndarray, noise: Noise, good: np.ndarray
) -> np.ndarray:
    """(n,) mag, by photons, sky and camera alone."""
    with np.errstate(invalid="ignore", divide="ignore"):
        each = np.where(good, (sky_variance + noise.per_photon * photon) / flux**2, 0.0)
    number = good.sum(axis=1)
    return np.where(number > 0, MAG * np.sqrt(each.sum(axis=1) / np.maximum(number, 1)), np.nan)
