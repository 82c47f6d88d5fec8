"""How the image of a star changes across the sensor: a map in cells, and what it says about tilt, focus and tracking.

Width is fitted as a plane plus a bowl (tilt, curvature), the shape as one common elongation plus one that grows toward
the corners (tracking; coma, astigmatism or rotation of the field). A pattern is put into words only when it is both
significant and large enough to see. Averages use the FWHM matrix (eigenvalues FWHM^2), for which noise leaves a round
star round on average: averaging axis ratios instead would call every faint star elongated.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

SIGNIFICANT = 4.0
"""Standard errors that a pattern must reach before it is spoken of."""
VISIBLE = 0.06
"""Change of width or elongation, as a share, below which nobody would see it."""
STARS_FOR_PATTERN = 12
"""With fewer stars only the cells are given."""


@dataclass(frozen=True)
class Cell:
    """One cell of the map, its bounds in pixels; widths are NaN where no star was fitted."""

    x0_px: float
    y0_px: float
    x1_px: float
    y1_px: float
    n_stars: int
    fwhm_px: float
    ratio: float
    theta_deg: float


@dataclass(frozen=True)
class FieldMap:
    """The map and what it says.

    Attributes
    ----------
    cells : row by row, `columns` in each row.
    tilt_px : difference of FWHM between the two ends of the sensor along the steepest direction, of the fitted plane.
    tilt_direction_deg : where the stars become wider, from +x toward +y.
    curvature_px : FWHM in the corners less that in the centre, of the fitted bowl.
    elongation : common elongation of all stars, (a^2 - b^2) / (a^2 + b^2), and its direction.
    radial : what the corners add to it; positive points to the centre, negative runs around it.
    words : sentences for the person at the telescope.
    """

    columns: int
    rows: int
    cells: tuple[Cell, ...]
    tilt_px: float | None
    tilt_direction_deg: float | None
    curvature_px: float | None
    elongation: float
    elongation_deg: float
    radial: float | None
    words: tuple[str, ...]


def axes_of(fxx: float, fxy: float, fyy: float) -> tuple[float, float, float]:
    """Long and short FWHM and the direction of the long axis (degrees, -90 < theta <= 90) of a FWHM matrix."""
    middle, half = 0.5 * (fxx + fyy), math.hypot(0.5 * (fxx - fyy), fxy)
    theta = 0.5 * math.degrees(math.atan2(2.0 * fxy, fxx - fyy))
    return math.sqrt(middle + half), math.sqrt(max(middle - half, 1e-12)), 90.0 if theta <= -90.0 else theta


def weighted_plane(design: np.ndarray, values: np.ndarray, errors: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Robust weighted least squares: coefficients and standard errors, three rounds of clipping at 3.5 sigma."""
    used = np.ones(len(values), dtype=bool)
    coefficients = np.zeros(design.shape[1])
    covariance = np.zeros((design.shape[1], design.shape[1]))
    for _ in range(3):
        scatter = max(float(np.median(errors[used])), 1e-9)
        weight = 1.0 / (errors[used] ** 2 + scatter**2)
        normal = (design[used] * weight[:, None]).T @ design[used]
        covariance = np.linalg.pinv(normal)
        coefficients = covariance @ ((design[used] * weight[:, None]).T @ values[used])
        residual = values - design @ coefficients
        chi2 = float((weight * residual[used] ** 2).sum()) / max(int(used.sum()) - design.shape[1], 1)
        covariance = covariance * chi2
        spread = 1.4826 * float(np.median(np.abs(residual[used]))) + 1e-12
        kept = np.abs(residual) <= 3.5 * spread
        if kept.sum() <= design.shape[1] + 2 or bool((kept == used).all()):
            break
        used = kept
    return coefficients, np.sqrt(np.maximum(np.diag(covariance), 0.0))


def map_field(
    x_px: np.ndarray,
    y_px: np.ndarray,
    matrices: np.ndarray,
    fwhm_error_px: np.ndarray,
    size: tuple[int, int],
) -> FieldMap:
    """Map the image of a star over the sensor.

    Parameters
    ----------
    x_px, y_px : (N,) positions, 0-based.
    matrices : (N, 3) FWHM matrices [xx, xy, yy], px^2.
    fwhm_error_px : (N,) standard error of each star's FWHM.
    size : (width, height) of the image.
    """
    width, height = size
    long_cells = 5 if len(x_px) >= 60 else 3
    short_cells = max(2, round(long_cells * min(size) / max(size)))
    columns, rows = (long_cells, short_cells) if width >= height else (short_cells, long_cells)
    cells = []
    for row in range(rows):
        for column in range(columns):
            x0, x1 = width * column / columns - 0.5, width * (column + 1) / columns - 0.5
            y0, y1 = height * row / rows - 0.5, height * (row + 1) / rows - 0.5
            inside = (x_px >= x0) & (x_px < x1) & (y_px >= y0) & (y_px < y1)
            count = int(inside.sum())
            if count:
                long, short, theta = axes_of(*np.median(matrices[inside], axis=0))
                cells.append(Cell(x0, y0, x1, y1, count, math.sqrt(long * short), short / long, theta))
            else:
                cells.append(Cell(x0, y0, x1, y1, 0, math.nan, math.nan, math.nan))

    fxx, fxy, fyy = matrices.T
    e1, e2 = (fxx - fyy) / (fxx + fyy), 2.0 * fxy / (fxx + fyy)
    common1, common2 = float(np.median(e1)), float(np.median(e2))
    fwhm = (fxx * fyy - fxy**2) ** 0.25
    typical = float(np.median(fwhm))
    tilt = direction = curvature = radial = None
    words: list[str] = []
    if len(x_px) >= STARS_FOR_PATTERN:
        half = 0.5 * math.hypot(width, height)
        x, y = (x_px - 0.5 * (width - 1)) / half, (y_px - 0.5 * (height - 1)) / half
        bowl = x**2 + y**2
        plane, plane_error = weighted_plane(np.stack([np.ones_like(x), x, y, bowl], 1), fwhm, fwhm_error_px)
        reach = (width / (2.0 * half), height / (2.0 * half))
        tilt = 2.0 * (abs(plane[1]) * reach[0] + abs(plane[2]) * reach[1])
        direction = math.degrees(math.atan2(plane[2], plane[1]))
        curvature = float(plane[3])
        tilt_sure = math.hypot(plane[1], plane[2]) > SIGNIFICANT * math.hypot(plane_error[1], plane_error[2])
        if tilt_sure and tilt > VISIBLE * typical:
            words.append(
                f"Stars grow by {tilt:.2f} px from one end of the sensor to the other, widest at the "
                f"{_side(direction)} of the stored picture: the sensor or the focuser is tilted."
            )
        if abs(curvature) > SIGNIFICANT * plane_error[3] and abs(curvature) > VISIBLE * typical:
            words.append(
                f"Stars in the corners are {curvature:.2f} px wider than in the centre: the field is curved, or the "
                "corrector sits at the wrong distance."
                if curvature > 0
                else f"Stars in the corners are {-curvature:.2f} px narrower than in the centre: the field is curved "
                "and the focus was set on its edge."
            )
        cos, sin = bowl * np.cos(2.0 * np.arctan2(y, x)), bowl * np.sin(2.0 * np.arctan2(y, x))
        one, zero = np.ones_like(x), np.zeros_like(x)
        design = np.concatenate([np.stack([one, zero, cos], 1), np.stack([zero, one, sin], 1)])
        shape_error = np.tile(2.0 * fwhm_error_px / fwhm, 2)
        shape, shape_sigma = weighted_plane(design, np.concatenate([e1, e2]), shape_error)
        common1, common2, radial = float(shape[0]), float(shape[1]), float(shape[2])
        if abs(radial) > SIGNIFICANT * shape_sigma[2] and abs(radial) > 2.0 * VISIBLE:
            words.append(
                "Stars in the corners point to the centre: coma, or the corrector sits at the wrong distance."
                if radial > 0
                else "Stars in the corners run around the centre: the field rotated during an exposure, or astigmatism."
            )
        common = math.hypot(common1, common2)
        if common > SIGNIFICANT * math.hypot(shape_sigma[0], shape_sigma[1]) and common > 2.0 * VISIBLE:
            along = 0.5 * math.degrees(math.atan2(common2, common1))
            words.append(
                f"All stars are drawn out alike, long axis at {along:+.0f} deg: tracking or wind; if the direction "
                "turns by 90 deg through focus, astigmatism."
            )
        if not words:
            words.append(
                "Stars look the same all over the sensor: no tilt and no curvature to speak of, tracking is round."
            )
    return FieldMap(
        columns, rows, tuple(cells), None if tilt is None else float(tilt), direction, curvature,
        math.hypot(common1, common2), 0.5 * math.degrees(math.atan2(common2, common1)), radial, tuple(words),
    )  # fmt: skip


def _side(direction_deg: float) -> str:
    """The side of the array that a direction points to, row 0 being the top."""
    names = ("right", "lower right", "bottom", "lower left", "left", "upper left", "top", "upper right")
    return names[round(direction_deg / 45.0) % 8]
