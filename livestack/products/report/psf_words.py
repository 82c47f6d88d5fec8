"""The PSF of one image for the `psf` command: from a file to a model, as plain numbers, as CSV, as a drawing."""

from __future__ import annotations

import csv
import io
import math
from pathlib import Path

import numpy as np

from livestack.base.durable import write_atomically
from livestack.base.errors import NothingStacked
from livestack.base.settings import PSFSettings
from livestack.calibration.debayer import debayer
from livestack.calibration.xtrans import debayer_xtrans
from livestack.detection.psf import PSFModel, measure_psf
from livestack.formats import read_frame

STAR_COLUMNS = (
    "used", "x_px", "y_px", "centroid_error_px", "fwhm_px", "fwhm_x_px", "fwhm_y_px", "fwhm_error_px", "theta_deg",
    "beta", "background_adu", "amplitude_adu", "flux_adu", "snr", "mad",
)  # fmt: skip


def measure_file(path: Path, settings: PSFSettings, scale_arcsec_px: float | None = None) -> PSFModel:
    """Measure the PSF of any image file: the mean of a colour image's planes, the green of a mosaic.

    Raises
    ------
    FrameError
        The file cannot be read.
    NothingStacked
        It holds no star that could be measured.
    """
    frame = read_frame(path, 0)
    data = np.ascontiguousarray(frame.data, dtype=np.float32)
    if data.ndim == 3:
        plane = data.mean(axis=0)
    elif frame.info.xtrans is not None:
        plane = debayer_xtrans(data, frame.info.xtrans)[1]
    elif frame.info.bayer is not None:
        plane = debayer(data, frame.info.bayer, "bilinear")[1]
    else:
        plane = data
    scale = scale_arcsec_px or frame.info.scale_arcsec_px
    model = measure_psf(plane, frame.info.saturation_adu, settings, scale)
    if model is None:
        raise NothingStacked(
            f"{path.name}: found no single, unsaturated star to measure, expected at least one; "
            "the PSF is measured on linear images with stars."
        )
    return model


def plain_words(model: PSFModel) -> dict[str, object]:
    """Everything but the single stars, ready for JSON."""

    def tidy(profile: object) -> dict[str, object]:
        return {k: (v if not isinstance(v, float) or math.isfinite(v) else None) for k, v in vars(profile).items()}

    field = model.field
    return {
        **model.summary(),
        "scale_arcsec_px": model.scale_arcsec_px,
        "gaussian": tidy(model.gaussian),
        "moffat": tidy(model.moffat),
        "radius_50_px": model.profile.radius_of_energy(0.5),
        "radius_80_px": model.profile.radius_of_energy(0.8),
        "field": None if field is None else {
            "columns": field.columns, "rows": field.rows, "cells": [tidy(cell) for cell in field.cells],
            "words": list(field.words),
        },
    }  # fmt: skip


def star_rows(model: PSFModel) -> list[list[str]]:
    """A row of `STAR_COLUMNS` for each star, brightest first."""
    rows = []
    for i in np.argsort(-model.stars.snr, kind="stable"):
        values = [getattr(model.stars, name)[i] for name in STAR_COLUMNS]
        rows.append([str(int(values[0])), *(f"{v:.6g}" for v in values[1:])])
    return rows


def write_star_csv(model: PSFModel, path: Path) -> None:
    """Write `STAR_COLUMNS` and a row for each star."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(STAR_COLUMNS)
    writer.writerows(star_rows(model))
    write_atomically(path, text.getvalue().encode())


def draw_psf(model: PSFModel, path: Path, title: str) -> None:
    """Draw PSF, field map and encircled energy side by side as PNG (matplotlib)."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.patches import Ellipse

    figure = Figure(figsize=(13, 4.4), layout="constrained")
    FigureCanvasAgg(figure)
    left, middle, right = figure.subplots(1, 3)
    p = model.profile
    figure.suptitle(f"{title}: FWHM {p.fwhm_px:.2f} px, ratio {p.ratio:.2f}, {p.n_stars} stars", parse_math=False)
    kernel = model.image(2 * math.ceil(2.5 * p.fwhm_x_px) + 1)
    half = kernel.shape[0] / 2
    left.imshow(np.sqrt(kernel), extent=(-half, half, half, -half), cmap="cividis")
    left.set(title="Point spread function (square root)", xlabel="px", ylabel="px")
    width, height = model.size
    stars = model.stars
    shown = middle.scatter(
        stars.x_px[stars.used], stars.y_px[stars.used], c=stars.fwhm_px[stars.used], s=14, cmap="viridis"
    )
    figure.colorbar(shown, ax=middle, label="FWHM, px")
    for cell in model.field.cells if model.field else ():
        if not cell.n_stars:
            continue
        size = 0.3 * min(cell.x1_px - cell.x0_px, cell.y1_px - cell.y0_px)
        shape = max(cell.ratio**3, 0.08)
        centre = 0.5 * (cell.x0_px + cell.x1_px), 0.5 * (cell.y0_px + cell.y1_px)
        middle.add_patch(Ellipse(centre, size / shape**0.5, size * shape**0.5, angle=cell.theta_deg, fill=False))
        middle.annotate(f"{cell.fwhm_px:.2f}", centre, ha="center", va="center", fontsize=8)
    middle.set(title="Over the field", xlim=(-0.5, width - 0.5), ylim=(height - 0.5, -0.5), aspect="equal")
    radii = np.linspace(0, 4 * p.fwhm_px, 200)
    right.plot(radii, p.encircled_energy(radii))
    for share in (0.5, 0.8):
        right.axvline(p.radius_of_energy(share), linestyle=":", color="0.5")
    right.set(title="Encircled energy", xlabel="radius, px", ylabel="share of the light", ylim=(0, 1.02))
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=110)
    write_atomically(path, buffer.getvalue())
