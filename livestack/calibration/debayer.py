"""From a calibrated colour-filter mosaic to a picture of three planes.

Malvar-He-Cutler by default: bilinear interpolation plus a correction by the Laplacian of the colour that was measured
at the pixel, gains 1/2, 5/8 and 3/4 (H. Malvar, L. He, R. Cutler, "High-quality linear interpolation for demosaicing of
Bayer-patterned color images", ICASSP 2004, doi:10.1109/ICASSP.2004.1326587). It is linear, so noise and flux stay
what photometry expects. Bilinear and super-pixel (half size, no interpolation) are there for comparison and taste.

Input is calibrated float data: values below zero stay. Defects should have been repaired before, by
`calibration.cosmetic`; a sample that is still missing (NaN) is missing in its own colour only.
"""

from __future__ import annotations

from typing import Literal

import numpy as np

from livestack.base.frame import BAYER_PATTERNS
from livestack.kernels import debayer as kernels
from livestack.kernels.bands import Bands, run_bands

Method = Literal["mhc", "bilinear", "superpixel"]
MIN_SIDE = 4
"""Smallest mosaic side: the 5 x 5 filters mirror two pixels beyond each edge."""


def red_position(pattern: str) -> tuple[int, int]:
    """(row, column) of the red pixel in the 2 x 2 cell.

    Raises
    ------
    ValueError : when `pattern` is none of RGGB, BGGR, GRBG, GBRG.
    """
    if pattern not in BAYER_PATTERNS:
        raise ValueError(f"pattern: expected one of {', '.join(BAYER_PATTERNS)}, found {pattern!r}.")
    return divmod(pattern.index("R"), 2)


def debayer(
    mosaic: np.ndarray,
    pattern: str,
    method: Method = "mhc",
    out: np.ndarray | None = None,
    bands: Bands | None = None,
) -> np.ndarray:
    """Interpolate the colours that each pixel did not measure.

    Parameters
    ----------
    mosaic : (H, W) float32, linear ADU, H and W at least 4.
    pattern : colours at [0, 0], [0, 1], [1, 0], [1, 1], e.g. "RGGB".
    method : "mhc", "bilinear", or "superpixel" for a picture of half the size.
    out : float32 of the result's shape, C-contiguous, to be filled (saves allocating 300 MB at 26 MP), or None.
    bands : threads to share the rows among; None works in this thread.

    Returns
    -------
    (3, H, W) float32 in R, G, B order, ADU; (3, H // 2, W // 2) for "superpixel", whose pixel (x, y) is centred on
    (2x + 0.5, 2y + 0.5) of the mosaic.

    Raises
    ------
    ValueError : pattern, method, shape or dtype is not as above.
    """
    red_y, red_x = red_position(pattern)
    _check_mosaic(mosaic)
    h, w = mosaic.shape
    shape = (3, h // 2, w // 2) if method == "superpixel" else (3, h, w)
    if out is None:
        out = np.empty(shape, np.float32)
    elif out.shape != shape or out.dtype != np.float32 or not out.flags.c_contiguous:
        raise ValueError(f"out: expected C-contiguous float32 of shape {shape}, found {out.dtype} {out.shape}.")
    if method == "superpixel":
        run_bands(bands, lambda y0, y1: kernels.superpixel_rows(mosaic, red_y, red_x, y0, y1, out), shape[1])
        return out
    kernel = _kernel(method)
    run_bands(bands, lambda y0, y1: kernel(mosaic, red_y, red_x, y0, y1, 0, w, out, y0), h)
    return out


def debayer_region(
    mosaic: np.ndarray, pattern: str, y0: int, y1: int, x0: int, x1: int, method: Literal["mhc", "bilinear"] = "mhc"
) -> np.ndarray:
    """Rows y0 .. y1 and columns x0 .. x1 of `debayer(mosaic, pattern, method)`, without the rest.

    Parameters
    ----------
    mosaic : (H, W) float32, the whole of it: the filters look two pixels beyond the region.
    y0, y1, x0, x1 : bounds in pixels of the mosaic, 0 <= y0 < y1 <= H, 0 <= x0 < x1 <= W.

    Returns
    -------
    (3, y1 - y0, x1 - x0) float32, ADU.

    Raises
    ------
    ValueError : the region does not lie in the mosaic, or as `debayer`.
    """
    red_y, red_x = red_position(pattern)
    _check_mosaic(mosaic)
    if method not in ("mhc", "bilinear"):
        raise ValueError(f"method: expected mhc or bilinear for a region at full size, found {method!r}.")
    h, w = mosaic.shape
    if not (0 <= y0 < y1 <= h and 0 <= x0 < x1 <= w):
        raise ValueError(f"region: rows {y0}..{y1}, columns {x0}..{x1} do not lie within {h} rows and {w} columns.")
    out = np.empty((3, y1 - y0, x1 - x0), np.float32)
    _kernel(method)(mosaic, red_y, red_x, y0, y1, x0, x1, out, 0)
    return out


def _kernel(method: str):  # type: ignore[no-untyped-def]
    if method == "mhc":
        return kernels.mhc_rows
    if method == "bilinear":
        return kernels.bilinear_rows
    raise ValueError(f"method: expected mhc, bilinear or superpixel, found {method!r}.")


def _check_mosaic(mosaic: np.ndarray) -> None:
    if mosaic.ndim != 2 or min(mosaic.shape) < MIN_SIDE:
        raise ValueError(f"mosaic: expected (H, W) of {MIN_SIDE} x {MIN_SIDE} or more, found shape {mosaic.shape}.")
    if mosaic.dtype != np.float32 or not mosaic.dtype.isnative or not mosaic.flags.c_contiguous:
        raise ValueError(f"mosaic: expected C-contiguous native float32, found {mosaic.dtype}; calibrate it first.")
