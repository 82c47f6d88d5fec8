"""Bringing a frame to the reference's brightness and sky before any of its samples is compared with the stack.

Factor from the flux ratio of matched stars; offset from a smooth surface fitted robustly to the difference of the two
skies. Without this a step in sky brightness makes any rejection refuse everything.
"""

from __future__ import annotations

import math

import numpy as np

from livestack.detection import Sky, StarCatalog
from livestack.registration import transform as tf
from livestack.stacking.normalisation import Normalisation

MIN_SNR = 15.0
FLUX_FLOOR = 0.01
"""Scatter of a flux ratio that even the brightest star has (flat, aperture, scintillation)."""
SCENE_CONTRAST = 0.5
"""Bright and dark places must differ by so much of the usual level before their ratio tells of transparency: less
may be a gradient of the sky, which is added light."""


class ReferenceLight:
    """Fluxes and sky of the reference, on the stack's grid.

    Parameters
    ----------
    stars : catalogue of the reference frame, in the order of the star reference.
    sky : its sky, in its own pixels.
    matrix : (3, 3) reference frame -> grid (identity unless another filter's frame set the grid).
    width, height : of the reference frame.
    field : (height, width) of the grid.
    beyond : frames that were brought to this one's scale, for where it sees nothing itself: their light, and how.
    """

    def __init__(
        self,
        stars: StarCatalog,
        sky: Sky,
        matrix: np.ndarray,
        width: int,
        height: int,
        field: tuple[int, int],
        beyond: tuple[tuple[ReferenceLight, Normalisation], ...] = (),
    ) -> None:
        self.stars = stars
        self.sky = sky
        self.inverse = np.linalg.inv(matrix)
        self.area = abs(float(np.linalg.det(matrix[:2, :2])))
        self.width = width
        self.height = height
        self.field = field
        self.beyond = beyond

    def sky_at(self, points: np.ndarray) -> np.ndarray:
        """(C, n) sky in ADU at grid points (n, 2); NaN where neither the reference nor a frame beyond it looked."""
        level = sample_mesh(self.sky.level, tf.apply(self.inverse, points), self.width, self.height)
        for light, normalisation in self.beyond:
            unseen = np.isnan(level).any(axis=0)
            if not unseen.any():
                break
            theirs = light.sky_at(points[unseen])
            u, v = _coordinates(points[unseen], self.field)
            surface = _basis(u, v, normalisation.reach) @ normalisation.surface.T
            level[:, unseen] = normalisation.factor[:, None] * theirs + surface.T
        return level

    def with_beyond(self, light: ReferenceLight, normalisation: Normalisation) -> ReferenceLight:
        """This light, and one more frame beyond it that `normalisation` brings to its scale."""
        return ReferenceLight(
            self.stars, self.sky, np.linalg.inv(self.inverse), self.width, self.height, self.field,
            (*self.beyond, (light, normalisation)),
        )  # fmt: skip


def mesh_nodes(shape: tuple[int, int], width: int, height: int) -> np.ndarray:
    """(gy * gx, 2) centres of the cells of a sky mesh, in frame pixels."""
    gy, gx = shape
    x = (np.arange(gx) + 0.5) * width / gx - 0.5
    y = (np.arange(gy) + 0.5) * height / gy - 0.5
    return np.stack(np.meshgrid(x, y), axis=-1).reshape(-1, 2)


def sample_mesh(level: np.ndarray, points: np.ndarray, width: int, height: int) -> np.ndarray:
    """(C, n) bilinear values of a (C, gy, gx) mesh at frame points; held beyond the outer nodes, NaN outside."""
    _, gy, gx = level.shape
    u = np.clip((points[:, 0] + 0.5) * gx / width - 0.5, 0, gx - 1)
    v = np.clip((points[:, 1] + 0.5) * gy / height - 0.5, 0, gy - 1)
    i = np.minimum(u.astype(int), gx - 2)
    j = np.minimum(v.astype(int), gy - 2)
    fu, fv = u - i, v - j
    value = (
        level[:, j, i] * (1 - fu) * (1 - fv)
        + level[:, j, i + 1] * fu * (1 - fv)
        + level[:, j + 1, i] * (1 - fu) * fv
        + level[:, j + 1, i + 1] * fu * fv
    )
    outside = (
        (points[:, 0] < -0.5) | (points[:, 0] > width - 0.5) | (points[:, 1] < -0.5) | (points[:, 1] > height - 0.5)
    )
    value[:, outside] = np.nan
    return value


def flux_ratio(
    reference: StarCatalog, stars: StarCatalog, reference_index: np.ndarray, frame_index: np.ndarray
) -> float | None:
    """Robust flux(reference) / flux(frame) of matched, unsaturated stars; None when there is none that is good."""
    a, b = reference_index, frame_index
    good = (
        ~reference.saturated[a]
        & ~stars.saturated[b]
        & (reference.snr[a] > MIN_SNR)
        & (stars.snr[b] > MIN_SNR / 2)
        & (reference.flux[a] > 0)
        & (stars.flux[b] > 0)
    )
    a, b = a[good], b[good]
    if len(a) == 0:
        return None
    ratio = np.log(reference.flux[a] / stars.flux[b])
    variance = FLUX_FLOOR**2 + 4.0 / reference.snr[a] ** 2 + 4.0 / stars.snr[b] ** 2
    weight = 1.0 / variance
    centre = float(np.median(ratio))
    for _ in range(3):
        pull = np.abs(ratio - centre) / np.sqrt(variance)
        scale = max(1.0, 1.4826 * float(np.median(pull)))
        keep = pull <= 3.0 * scale
        centre = float(np.average(ratio[keep], weights=weight[keep]))
    return math.exp(centre)


def normalise(
    light: ReferenceLight,
    sky: Sky,
    matrix: np.ndarray,
    ratio: float | None,
    width: int,
    height: int,
    factor: float | None = None,
) -> Normalisation:
    """Factor and additive surface that bring a frame onto the reference's scale.

    Parameters
    ----------
    light : the reference.
    sky : of the frame, width x height.
    matrix : (3, 3) frame -> grid.
    ratio : from `flux_ratio`; None (no stars) takes the ratio of bright to dark places instead, where the scene has
        both (the Moon), else 1; the offset is then a constant.
    factor : of a scene whose brightness was measured otherwise (a disc's); counts where `ratio` is None.
    """
    channels = sky.level.shape[0]
    points = tf.apply(matrix, mesh_nodes(sky.level.shape[1:], width, height))
    theirs = light.sky_at(points)
    mine = sky.level.reshape(channels, -1)
    good = np.isfinite(theirs).all(axis=0) & np.isfinite(mine).all(axis=0)
    surface = np.zeros((channels, 10))
    if ratio is None:
        if not good.any():
            return Normalisation.identity(channels)
        if factor is None:
            factor = _factor_of_scenes(theirs[:, good], mine[:, good])
        surface[:, 0] = np.median(theirs[:, good] - factor * mine[:, good], axis=1)
        return Normalisation(np.full(channels, factor), surface)
    # Interpolation keeps surface brightness; stars measured in frame pixels cover `area` times as many grid pixels.
    area = abs(float(np.linalg.det(matrix[:2, :2]))) / light.area
    factor = ratio / area
    u, v = _coordinates(points, light.field)
    height_px, width_px = light.field
    inside = good & (points >= -0.5).all(axis=1) & (points[:, 0] < width_px) & (points[:, 1] < height_px)
    use = inside if inside.sum() >= 4 and not light.beyond else good
    reach = (-1.0, 1.0, -1.0, 1.0)
    if use.any():
        u, v = u[use], v[use]
        if light.beyond:
            (u0, u1), (v0, v1) = ((float(each.min()), float(each.max())) for each in (u, v))
            reach = min(-1.0, u0), max(1.0, u1), min(-1.0, v0), max(1.0, v1)
        for c in range(channels):
            surface[c] = fit_surface(u, v, theirs[c, use] - factor * mine[c, use])
    return Normalisation(np.full(channels, factor), surface, reach)


def _factor_of_scenes(theirs: np.ndarray, mine: np.ndarray) -> float:
    """Brightness factor between two views (C, n) of one scene, pedestals aside; 1 where the scene has no contrast."""
    low, high = np.percentile(mine, (5, 95), axis=1)
    strong = high - low > SCENE_CONTRAST * np.abs(np.median(mine, axis=1))
    factors = []
    for x, y in zip(mine[strong], theirs[strong], strict=True):
        dark, bright = x <= np.quantile(x, 0.25), x >= np.quantile(x, 0.75)
        span = np.median(x[bright]) - np.median(x[dark])
        if span > 0:  # else much black sky around one bright thing, of which cells tell little
            factors.append((np.median(y[bright]) - np.median(y[dark])) / span)
    return float(np.clip(np.median(factors), 0.2, 5.0)) if factors else 1.0


def _coordinates(points: np.ndarray, field: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    """u and v, from -1 to 1 over the field, of grid points (n, 2)."""
    height, width = field
    return 2.0 * points[:, 0] / max(1, width - 1) - 1.0, 2.0 * points[:, 1] / max(1, height - 1) - 1.0


def _basis(
    u: np.ndarray, v: np.ndarray, reach: tuple[float, float, float, float] = (-np.inf, np.inf, -np.inf, np.inf)
) -> np.ndarray:
    """(n, 10) powers of u and v as in `Normalisation.surface`; both are held at the ends of `reach`."""
    u, v = np.clip(u, *reach[:2]), np.clip(v, *reach[2:])
    return np.stack([np.ones_like(u), u, v, u * u, u * v, v * v, u**3, u * u * v, u * v * v, v**3], axis=1)


def fit_surface(u: np.ndarray, v: np.ndarray, value: np.ndarray) -> np.ndarray:
    """(10,) robust polynomial through (n,) values: constant, plane, quadratic or cubic by how many points carry it."""
    terms = 10 if len(value) >= 100 else 6 if len(value) >= 30 else 3 if len(value) >= 9 else 1
    basis = _basis(u, v)[:, :terms]
    out = np.zeros(10)
    weight = np.ones(len(value))
    out[0] = np.median(value)
    for _ in range(6):
        residual = value - basis @ out[:terms]
        scale = max(1.4826 * float(np.median(np.abs(residual))), 1e-9)
        weight = np.clip(1 - (residual / (4.685 * scale)) ** 2, 0, None) ** 2
        if (weight > 0.1).sum() < 2 * terms:
            break
        root = np.sqrt(weight)[:, None]
        out[:terms] = np.linalg.lstsq(basis * root, value * root[:, 0], rcond=None)[0]
    return out
