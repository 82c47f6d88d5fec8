"""Rows of samples: laying a frame onto a row of the stack, what is expected there, adding, counting.

Weighted running mean and sum of squares after West (1979, doi:10.1145/359146.359153). The prediction limit with a
moderated variance is explained in `stacking.accumulators`. All values are relative to the stack's origin (the
reference's sky), so that float32 stays accurate over tens of thousands of frames.

Kernels that go over whole strips (`accumulate`, `final_test`) take what belongs together as tuples:

    frame : source (h, w) float32, one channel; inverse, from the canvas to it (`resample.sample_row`); factor, float32;
        coefficients (10,) and ruler (8,) of the additive surface (`offset_row`).
    limits : (8,) float32: kappa^2; samples that the noise model is worth; its floor and slope; structure^2, excess^2:
        (share of the local range)^2 that the model, and this frame alone, is allowed; blur; how much more the scatter
        of a pixel says of this frame.
    planes : mean, m2, weight (H, W) float32, count, low, high (H, W) uint16 of one channel.
"""

from __future__ import annotations

import numpy as np
from numba import njit

from livestack.kernels.resample import sample_row

ACCEPTED, LOW, HIGH = 0, 1, 2
"""Codes a sample gets; also ACCEPTED where there was no data."""

MOST = np.uint16(65535)
"""Counts stop here."""

CONSISTENCY = 0.985
"""Variance that clipping a normal distribution at 3.3 sigma leaves (about; 0.9850 at 3.0, 0.9951 at 3.3)."""

BEND_NOISE = np.float32(12.0)
"""Variance of the mean's Laplacian over that of the mean; 20 for white noise, less after interpolation."""

BEND_ERROR = np.float32(0.1)
"""Variance of the expected change by seeing over its square: a PSF is no Gaussian, and a Laplacian no differential."""


@njit(nogil=True, cache=True, error_model="numpy")
def offset_row(coefficients, ruler, x_first, y, out):
    """Cubic surface along a row: out[k] = p(u, v) at pixel (x_first + k, y); powers of u and v up to total three.

    Parameters
    ----------
    coefficients : (10,) float64.
    ruler : (8,) float64, u of column 0 and its step, v of row 0 and its step, then the least and largest u and v at
        which the surface is known: beyond them it keeps its value.
    """
    c = coefficients
    v = min(max(ruler[2] + y * ruler[3], ruler[6]), ruler[7])
    a0 = c[0] + v * (c[2] + v * (c[5] + v * c[9]))
    a1 = c[1] + v * (c[4] + v * c[8])
    a2 = c[3] + v * c[7]
    a3 = c[6]
    b0 = np.float32(a0)
    b1 = np.float32(a1)
    b2 = np.float32(a2)
    b3 = np.float32(a3)
    f0 = np.float32(ruler[0] + x_first * ruler[1])
    fd = np.float32(ruler[1])
    least = np.float32(ruler[4])
    largest = np.float32(ruler[5])
    for k in range(out.shape[0]):
        u = min(max(f0 + np.float32(k) * fd, least), largest)
        out[k] = ((b3 * u + b2) * u + b1) * u + b0


@njit(nogil=True, cache=True, error_model="numpy")
def local_shape_row(above, row, below, spread, curve, scratch_low, scratch_high):
    """Largest minus smallest of the 3 x 3 neighbourhood, and the Laplacian, along a row; the rows' ends repeat."""
    n = row.shape[0]
    for k in range(n):
        a = above[k]
        b = row[k]
        c = below[k]
        scratch_low[k] = min(min(a, b), c)
        scratch_high[k] = max(max(a, b), c)
    for k in range(1, n - 1):
        low = min(min(scratch_low[k - 1], scratch_low[k]), scratch_low[k + 1])
        high = max(max(scratch_high[k - 1], scratch_high[k]), scratch_high[k + 1])
        spread[k] = high - low
        curve[k] = (above[k] + below[k]) + (row[k - 1] + row[k + 1]) - np.float32(4.0) * row[k]
    for k in (0, n - 1):
        left = max(k - 1, 0)
        right = min(k + 1, n - 1)
        spread[k] = max(scratch_high[left], scratch_high[right]) - min(scratch_low[left], scratch_low[right])
        curve[k] = (above[k] + below[k]) + (row[left] + row[right]) - np.float32(4.0) * row[k]


@njit(nogil=True, cache=True, error_model="numpy")
def local_shape_tile(image, spread, curve):
    """3 x 3 range and Laplacian of (h, w); the edges repeat."""
    height, width = image.shape
    a = np.empty(width, dtype=np.float32)
    b = np.empty(width, dtype=np.float32)
    for j in range(height):
        local_shape_row(image[max(j - 1, 0)], image[j], image[min(j + 1, height - 1)], spread[j], curve[j], a, b)


@njit(nogil=True, cache=True, error_model="numpy")
def opened(refused, n):
    """By how much a limit opens where `refused` samples beside `n` that were accepted say that the mean is wrong."""
    one, zero = np.float32(1.0), np.float32(0.0)
    doubt = min(max(refused / (n + one) - np.float32(0.35), zero), np.float32(8.0))
    doubt4 = doubt * doubt * doubt * doubt
    return one + np.float32(4.0) * doubt + doubt4 * doubt4


@njit(nogil=True, cache=True, error_model="numpy")
def predict(m, squares, n, spread, curve, kappa2, dof, floor, slope, structure2, excess2, blur):
    """Where a sample is expected relative to the mean, and how far from there it may lie, squared.

    Parameters
    ----------
    m, squares, n : mean, unweighted sum of squares about it and number (at least 1) of the samples so far.
    spread, curve : 3 x 3 range and Laplacian of the mean.
    structure2, excess2 : (share of the range)^2 that the noise model, and this frame alone, is allowed around stars.
    blur : a frame with wider stars is expected to be the mean plus blur times its Laplacian.
    """
    one = np.float32(1.0)
    zero = np.float32(0.0)
    range2 = spread * spread
    model = floor + slope * max(m, zero) + structure2 * range2
    s2 = (dof * model + squares * np.float32(1.0 / CONSISTENCY)) / (dof + max(n - one, zero))
    # the Laplacian is noisy itself: believed by what it is over its own variance
    bend2 = curve * curve
    own = s2 / n
    shift = blur * curve * (bend2 / (bend2 + BEND_NOISE * own + np.float32(1e-20)))
    limit = kappa2 * (s2 + own + excess2 * range2 + BEND_ERROR * shift * shift)
    return shift, limit


@njit(nogil=True, cache=True, error_model="numpy")
def normalise_row(values, factor, offsets, present):
    """values = factor * values + offsets in place; returns how many are data; `present` gets 1 or 0."""
    n = values.shape[0]
    total = 0
    for k in range(n):
        v = values[k] * factor + offsets[k]
        finite = abs(v) < np.float32(3e38)
        present[k] = 1 if finite else 0
        values[k] = v if finite else np.float32(0.0)
        total += 1 if finite else 0
    return total


@njit(nogil=True, cache=True, error_model="numpy")
def lay_row(frame, y, values, offsets, present):
    """One row of the stack as the frame sees it, normalised; returns how many samples are data.

    Parameters
    ----------
    values, offsets, present : (W,) float32, float32, uint8, filled; `offsets` is scratch.
    """
    source, inverse, factor, coefficients, ruler = frame
    sample_row(source, inverse, float(y), 0.0, values)
    offset_row(coefficients, ruler, 0.0, float(y), offsets)
    return normalise_row(values, factor, offsets, present)


@njit(nogil=True, cache=True, error_model="numpy")
def add_row(values, present, codes, w, mean, m2, weight, count):
    """Accumulate the accepted samples of one row with weight `w`."""
    n = values.shape[0]
    for k in range(n):
        use = present[k] & np.uint8(codes[k] == ACCEPTED)
        wk = w * np.float32(use)
        total = weight[k] + wk
        d = values[k] - mean[k]
        m = mean[k] + d * (wk / max(total, np.float32(1e-20)))
        m2[k] += wk * d * (values[k] - m)
        mean[k] = m
        weight[k] = total
        count[k] += np.uint16(use & np.uint8(count[k] < MOST))


@njit(nogil=True, cache=True, error_model="numpy")
def count_row(codes, low, high):
    """Count the rejected samples of one row."""
    for k in range(codes.shape[0]):
        low[k] += np.uint16(np.uint8(codes[k] == LOW) & np.uint8(low[k] < MOST))
        high[k] += np.uint16(np.uint8(codes[k] == HIGH) & np.uint8(high[k] < MOST))
