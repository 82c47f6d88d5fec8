"""From a calibrated X-Trans mosaic, 6 x 6, to a picture of three planes.

Every step is a weighted mean of samples of one colour within two pixels, the weights being those of the pixel's phase
in the cell, so a field of one colour stays what it is. Green, on 20 of 36 pixels, is rebuilt by the weights that are
best for stars of FWHM 2.5 px and exact for a slope (kriging, G. Matheron 1963, doi:10.2113/gsecongeo.58.8.1246). Red
and blue are on 8 pixels each, too few to say where a sharp star is: they are normalised convolutions with a tent of
5 x 5 (H. Knutsson, C.-F. Westin, CVPR 1993, doi:10.1109/CVPR.1993.341081), to which the detail is added that green
shows beyond the same convolution of itself, as strong as the stars of the frame are in that colour.

A sample that is missing (NaN) is left out of the means: defects are not repaired, but given no weight. Hot pixels must
be found here, in a single frame, since they are smeared over 5 x 5 pixels afterwards.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import numpy as np

from livestack.kernels import xtrans as kernels
from livestack.kernels.bands import Bands, run_bands

STAR_SIGMA_PX = 1.06
"""FWHM 2.5 px."""
NOISE_SHARE = 0.05
"""Variance of the noise over that of the stars, for which the weights of green are best."""
LONE_SIGMA = 8.0
LONE_SHARE = 0.15
"""Light in the eight pixels around over that of the pixel: 1.5 for a star of FWHM 1.5 px, sharper than any optics."""
LONE_ROOM_PX = 6
STAR_SIGMA = 20.0
FEW_STAR_PIXELS = 30
MOST_RATIO = 4.0


@dataclass(frozen=True, eq=False)
class Filter:
    """Samples of one colour by phase in the cell: see `kernels.xtrans`."""

    counts: np.ndarray
    dys: np.ndarray
    dxs: np.ndarray
    sharp: np.ndarray
    soft: np.ndarray


@cache
def filter_of(pattern: str, colour: str) -> Filter:
    """The filter that rebuilds a colour, "R", "G" or "B", of a pattern of 36 letters."""
    cell, reach = kernels.CELL, kernels.REACH
    letters = np.array(list(pattern)).reshape(cell, cell)
    steps = np.arange(-reach, reach + 1)
    dy, dx = (a.ravel() for a in np.meshgrid(steps, steps, indexing="ij"))
    n = len(dy)
    made = Filter(
        np.zeros(cell**2, np.int64), np.zeros((cell**2, n), np.int64), np.zeros((cell**2, n), np.int64),
        np.zeros((cell**2, n), np.float32), np.zeros((cell**2, n), np.float32),
    )  # fmt: skip
    for phase in range(cell**2):
        y, x = divmod(phase, cell)
        there = letters[(y + dy) % cell, (x + dx) % cell] == colour
        v, u = dy[there], dx[there]
        tent = (reach + 1.0 - np.abs(v)) * (reach + 1.0 - np.abs(u))
        made.counts[phase] = len(v)
        made.dys[phase, : len(v)], made.dxs[phase, : len(v)] = v, u
        made.soft[phase, : len(v)] = tent / tent.sum()
        made.sharp[phase, : len(v)] = _kriging_weights(v, u)
    return made


def _kriging_weights(v: np.ndarray, u: np.ndarray) -> np.ndarray:
    """(n,) weights of samples at (v, u) for the value at (0, 0): sum 1, centroid 0."""

    def likeness(square_px: np.ndarray) -> np.ndarray:
        return np.asarray(np.exp(-square_px / (4.0 * STAR_SIGMA_PX**2)))

    n = len(v)
    between = likeness((v[:, None] - v) ** 2 + (u[:, None] - u) ** 2) + NOISE_SHARE * np.eye(n)
    exact = np.stack([np.ones(n), u, v], axis=1)
    system = np.block([[between, exact], [exact.T, np.zeros((3, 3))]])
    wanted = np.concatenate([likeness(v**2 + u**2), [1.0, 0.0, 0.0]])
    return np.asarray(np.linalg.lstsq(system, wanted, rcond=None)[0][:n])


def debayer_xtrans(mosaic: np.ndarray, pattern: str, bands: Bands | None = None) -> np.ndarray:
    """Rebuild the colours that each pixel did not measure.

    Parameters
    ----------
    mosaic : (H, W) float32, linear ADU, C-contiguous; NaN = missing.
    pattern : 36 letters, the colours of rows and columns 0 .. 5, row by row.

    Returns
    -------
    (3, H, W) float32 in R, G, B order, ADU; NaN where no sample of a colour is within two pixels.
    """
    out = np.empty((3, *mosaic.shape), np.float32)
    rows = mosaic.shape[0]
    g = filter_of(pattern, "G")
    run_bands(
        bands,
        lambda y0, y1: kernels.one_colour_rows(mosaic, g.counts, g.dys, g.dxs, g.sharp, g.soft, out[1], y0, y1),
        rows,
    )
    under = np.empty_like(out[1])
    for plane, colour in ((out[0], "R"), (out[2], "B")):
        _fill_sparse(mosaic, out[1], filter_of(pattern, colour), plane, under, bands)
        plane += np.float32(star_ratio(plane, under)) * (out[1] - under)
    return out


def _fill_sparse(
    mosaic: np.ndarray, green: np.ndarray, f: Filter, plane: np.ndarray, under: np.ndarray, bands: Bands | None
) -> None:
    def work(y0: int, y1: int) -> None:
        kernels.colour_and_green_rows(mosaic, green, f.counts, f.dys, f.dxs, f.soft, plane, under, y0, y1)

    run_bands(bands, work, mosaic.shape[0])


def star_ratio(colour: np.ndarray, green: np.ndarray) -> float:
    """How bright the frame's stars are in a colour over green, both (H, W) blurred alike; 1 where there are too few."""
    c, g = colour[::2, ::2].ravel(), green[::2, ::2].ravel()
    good = np.isfinite(c) & np.isfinite(g)
    if not good.any():
        return 1.0
    c, g = c[good] - np.median(c[good]), g[good] - np.median(g[good])
    bright = g > STAR_SIGMA * 1.4826 * float(np.median(np.abs(g)))
    if np.count_nonzero(bright) < FEW_STAR_PIXELS:
        return 1.0
    return float(np.clip(np.median(c[bright] / g[bright]), 0.0, MOST_RATIO))


def find_lone_pixels(mosaic: np.ndarray, pattern: str, bands: Bands | None = None) -> np.ndarray:
    """Hot pixels and single hits: far above the sky, with no light in the pixels around them.

    Parameters
    ----------
    mosaic : (H, W) float32, ADU.

    Returns
    -------
    (H, W) bool, True = hot.
    """
    colours = np.array(["RGB".index(letter) for letter in pattern])
    found = np.zeros(mosaic.shape, bool)
    noise = np.array([_noise(mosaic, pattern, colour) for colour in "RGB"], np.float32)
    if not np.all(np.isfinite(noise)):
        return found

    def work(y0: int, y1: int) -> None:
        kernels.lone_rows(mosaic, colours, noise, LONE_SIGMA, LONE_SHARE, LONE_ROOM_PX, found, y0, y1)

    run_bands(bands, work, mosaic.shape[0])
    return found


def _noise(mosaic: np.ndarray, pattern: str, colour: str) -> float:
    """Sigma of a pixel of one colour, ADU, by the differences of samples six pixels apart in a row; NaN for none."""
    cell = kernels.CELL
    y, x = divmod(pattern.index(colour), cell)
    samples = mosaic[y :: cell * max(1, mosaic.shape[0] // 600), x::cell]
    jumps = np.abs(np.diff(samples, axis=1))
    jumps = jumps[np.isfinite(jumps)]
    return 1.4826 * float(np.median(jumps)) / np.sqrt(2.0) if len(jumps) else np.nan
