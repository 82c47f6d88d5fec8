"""Levenberg-Marquardt fits of a star's image, one star after the other, in one compiled loop.

The model of a pixel is B + A P(u) averaged over the pixel's area, u = d' W d with d the distance from the star's centre
and W the inverse of the FWHM matrix (eigenvalues FWHM^2, so that u = 1/4 on the half-maximum ellipse):

    Gaussian   P = exp(-4 ln2 u)
    Moffat     P = (1 + 4 k u)^-beta,   k = 2^(1/beta) - 1        (Moffat 1969, A&A 3, 455)

Written in W the width hardly depends on beta, and both profiles share their parameters: [B, A, x0, y0, Wxx, Wxy, Wyy,
gamma = 1/beta]. The mean over a pixel is taken by Gauss-Legendre nodes in the core, where the profile bends within a
pixel; the far wings take one node. The damping is Marquardt's (1963, doi:10.1137/0111030), the Jacobian analytic.
Choice of stars, averaging and words are left to `detection.psf`.
"""

from __future__ import annotations

import math

import numpy as np
from numba import njit

N_PARAMETERS = 8
"""B, A, x0, y0, Wxx, Wxy, Wyy, gamma."""

GAMMA_MIN, GAMMA_MAX = 0.02, 0.85
"""Bounds of 1/beta: from all but Gaussian to all but infinite flux."""

CONVERGED, NOT_CONVERGED, TOO_FEW_PIXELS = 0, 1, 2
"""What became of a fit."""

_LN2 = math.log(2.0)
_NODES = np.array(
    [
        [0.0, 0.0, 0.0, 0.0],
        [-0.28867513459481287, 0.28867513459481287, 0.0, 0.0],
        [-0.3872983346207417, 0.0, 0.3872983346207417, 0.0],
        [-0.43056815579702629, -0.16999052179242813, 0.16999052179242813, 0.43056815579702629],
    ]
)
_NODE_WEIGHTS = np.array(
    [
        [1.0, 0.0, 0.0, 0.0],
        [0.5, 0.5, 0.0, 0.0],
        [0.2777777777777778, 0.4444444444444444, 0.2777777777777778, 0.0],
        [0.17392742256872692, 0.32607257743127307, 0.32607257743127307, 0.17392742256872692],
    ]
)


@njit(nogil=True, cache=True)
def _model(p, gaussian, dx, dy, n_nodes, gradient):
    """Mean of the model over the pixel at (dx, dy) from the star; fills `gradient` (8,), returns the value above B."""
    for i in range(8):
        gradient[i] = 0.0
    gradient[0] = 1.0
    beta = 1.0 / p[7]
    two_gamma = math.exp(p[7] * _LN2)
    k = two_gamma - 1.0
    total = 0.0
    for j in range(n_nodes):
        sy = dy + _NODES[n_nodes - 1, j]
        for i in range(n_nodes):
            sx = dx + _NODES[n_nodes - 1, i]
            weight = _NODE_WEIGHTS[n_nodes - 1, i] * _NODE_WEIGHTS[n_nodes - 1, j]
            gx = p[4] * sx + p[5] * sy
            gy = p[5] * sx + p[6] * sy
            u = gx * sx + gy * sy
            if gaussian:
                profile = weight * math.exp(-4.0 * _LN2 * u)
                slope = -4.0 * _LN2 * p[1] * profile
            else:
                v = 1.0 + 4.0 * k * u
                log_v = math.log(v)
                profile = weight * math.exp(-beta * log_v)
                slope = -beta * 4.0 * k / v * p[1] * profile
                gradient[7] += p[1] * profile * (beta * beta * log_v - beta * 4.0 * u * two_gamma * _LN2 / v)
            total += profile
            gradient[2] -= 2.0 * gx * slope
            gradient[3] -= 2.0 * gy * slope
            gradient[4] += sx * sx * slope
            gradient[5] += 2.0 * sx * sy * slope
            gradient[6] += sy * sy * slope
    gradient[1] = total
    return p[1] * total


@njit(nogil=True, cache=True)
def solve_positive(matrix, vector, n, solution):
    """Solve the symmetric positive system in place by Cholesky; False when it is not positive."""
    for i in range(n):
        for j in range(i + 1):
            total = matrix[i, j]
            for m in range(j):
                total -= matrix[i, m] * matrix[j, m]
            if i == j:
                if not total > 0.0:
                    return False
                matrix[i, i] = math.sqrt(total)
            else:
                matrix[i, j] = total / matrix[j, j]
    for i in range(n):
        total = vector[i]
        for m in range(i):
            total -= matrix[i, m] * solution[m]
        solution[i] = total / matrix[i, i]
    for i in range(n - 1, -1, -1):
        total = solution[i]
        for m in range(i + 1, n):
            total -= matrix[m, i] * solution[m]
        solution[i] = total / matrix[i, i]
    return True


@njit(nogil=True, cache=True)
def _normal_equations(values, xs, ys, weights, n_pixels, p, gaussian, n_free, n_nodes, core, gradient, normal, right):
    """Fill J'WJ and J'Wr; return chi squared."""
    for i in range(n_free):
        right[i] = 0.0
        for j in range(n_free):
            normal[i, j] = 0.0
    chi2 = 0.0
    for index in range(n_pixels):
        dx = xs[index] - p[2]
        dy = ys[index] - p[3]
        nodes = n_nodes if dx * dx + dy * dy < core * core else 1
        residual = values[index] - p[0] - _model(p, gaussian, dx, dy, nodes, gradient)
        weight = weights[index]
        chi2 += weight * residual * residual
        for i in range(n_free):
            wg = weight * gradient[i]
            right[i] += wg * residual
            for j in range(i + 1):
                normal[i, j] += wg * gradient[j]
    for i in range(n_free):
        for j in range(i):
            normal[j, i] = normal[i, j]
    return chi2


@njit(nogil=True, cache=True)
def _fit_one(values, xs, ys, weights, n_pixels, p, gaussian, n_free, n_nodes, core, max_steps, covariance):
    """Fit one star; `p` is start and result, `covariance` (8, 8) is filled. Returns (status, chi squared)."""
    gradient = np.zeros(8)
    normal = np.zeros((8, 8))
    trial_normal = np.zeros((8, 8))
    damped = np.zeros((8, 8))
    right = np.zeros(8)
    trial_right = np.zeros(8)
    step = np.zeros(8)
    trial = np.zeros(8)
    damping = 1e-2
    chi2 = _normal_equations(
        values, xs, ys, weights, n_pixels, p, gaussian, n_free, n_nodes, core, gradient, normal, right
    )
    status = NOT_CONVERGED
    for _ in range(max_steps):
        active = n_free
        if n_free == 8 and ((p[7] <= GAMMA_MIN and right[7] < 0.0) or (p[7] >= GAMMA_MAX and right[7] > 0.0)):
            active = 7  # gamma pushes against its bound: move the others as if it were held
        for i in range(active):
            for j in range(active):
                damped[i, j] = normal[i, j]
            damped[i, i] = normal[i, i] * (1.0 + damping) + 1e-300
        uphill = False
        believed = solve_positive(damped, right, active, step)
        if believed:
            for i in range(8):
                trial[i] = p[i] + (step[i] if i < active else 0.0)
            trial[7] = min(max(trial[7], GAMMA_MIN), GAMMA_MAX)
            shift = math.hypot(trial[2] - p[2], trial[3] - p[3])
            believed = (
                trial[4] > 0.0 and trial[6] > 0.0
                and trial[4] * trial[6] - trial[5] * trial[5] > 1e-4 * trial[4] * trial[6]
                and trial[4] < 25.0 and trial[6] < 25.0 and shift < 0.75 * core
            )  # fmt: skip
        if believed:
            trial_chi2 = _normal_equations(
                values, xs, ys, weights, n_pixels, trial, gaussian, n_free, n_nodes, core, gradient, trial_normal,
                trial_right,
            )  # fmt: skip
            believed = trial_chi2 <= chi2
            uphill = not believed
        if not believed:
            damping *= 8.0
            if damping > 1e12:
                status = CONVERGED if uphill else NOT_CONVERGED  # no way down: this is the bottom, to rounding
                break
            continue
        gained = chi2 - trial_chi2
        small = abs(trial[2] - p[2]) + abs(trial[3] - p[3]) < 1e-5 and abs(trial[1] - p[1]) < 1e-5 * abs(p[1])
        for i in range(8):
            p[i] = trial[i]
            right[i] = trial_right[i]
            for j in range(8):
                normal[i, j] = trial_normal[i, j]
        chi2 = trial_chi2
        damping = max(damping * 0.1, 1e-9)
        if gained <= 1e-3 * chi2 / n_pixels or (small and gained <= 1e-4 * chi2):
            status = CONVERGED
            break
    for column in range(n_free):
        for i in range(n_free):
            for j in range(n_free):
                damped[i, j] = normal[i, j]
            trial_right[i] = 1.0 if i == column else 0.0
        if not solve_positive(damped, trial_right, n_free, step):
            status = NOT_CONVERGED
            break
        for i in range(n_free):
            covariance[i, column] = step[i]
    return status, chi2


@njit(nogil=True, cache=True)
def fit_stars(
    image, segments, numbers, start, radius, sky_variance, photon, softness, gaussian, n_free, max_steps, fitted,
    covariance, quality, status,
):  # fmt: skip
    """Fit every star in turn. All arrays are the caller's and in native byte order.

    Parameters
    ----------
    image : (H, W) float32, ADU; NaN pixels are left out.
    segments, numbers : (H, W) int32 map of detected objects and (N,) the star's own number in it; pixels of other
        objects are left out. A number of 0 leaves nothing out.
    start : (N, 8) first guess of [B, A, x0, y0, Wxx, Wxy, Wyy, gamma].
    radius : the window is the disc of so many pixels around the first guess.
    sky_variance : (N,) variance of the sky, ADU^2.
    photon, softness : the variance of a pixel is sky + photon x signal + (softness x signal)^2, the signal being
        that of the first guess; photon in ADU (the inverse gain), softness a fraction (what the model does not know).
    gaussian, n_free : True for a Gaussian; 8 fits gamma, 7 holds it.
    fitted, covariance : (N, 8), (N, 8, 8), results; the covariance stands on the noise model.
    quality : (N, 5): reduced chi squared; mean absolute residual in ADU; share of the window used; sum of
        signal x (residual^2 - sky variance) and sum of signal^2, whose ratio estimates `photon`.
    status : (N,) CONVERGED, NOT_CONVERGED or TOO_FEW_PIXELS.
    """
    height, width = image.shape
    reach = math.ceil(radius)
    room = (2 * reach + 1) ** 2
    values = np.empty(room)
    xs = np.empty(room)
    ys = np.empty(room)
    weights = np.empty(room)
    gradient = np.zeros(8)
    for star in range(start.shape[0]):
        p = fitted[star]
        for i in range(8):
            p[i] = start[star, i]
        fwhm = 1.0 / math.sqrt(math.sqrt(max(p[4] * p[6] - p[5] * p[5], 1e-12)))
        n_nodes = 2 if fwhm >= 3.2 else (3 if fwhm >= 1.8 else 4)
        core = max(1.5 * fwhm, 6.0) if fwhm < 5.0 else fwhm + 1.0
        n_pixels = 0
        inside = 0
        cx = round(p[2])
        cy = round(p[3])
        for y in range(cy - reach, cy + reach + 1):
            for x in range(cx - reach, cx + reach + 1):
                dx = x - p[2]
                dy = y - p[3]
                if dx * dx + dy * dy > radius * radius:
                    continue
                inside += 1
                if x < 0 or y < 0 or x >= width or y >= height:
                    continue
                value = image[y, x]
                if math.isnan(value):
                    continue
                if numbers[star] != 0 and segments[y, x] != 0 and segments[y, x] != numbers[star]:
                    continue
                signal = max(_model(p, gaussian, dx, dy, 1, gradient), 0.0)
                values[n_pixels] = value
                xs[n_pixels] = x
                ys[n_pixels] = y
                weights[n_pixels] = 1.0 / (sky_variance[star] + photon * signal + (softness * signal) ** 2)
                n_pixels += 1
        if n_pixels < 2 * n_free + 4 or 2 * n_pixels < inside:
            status[star] = TOO_FEW_PIXELS
            continue
        state, chi2 = _fit_one(
            values, xs, ys, weights, n_pixels, p, gaussian, n_free, n_nodes, core, max_steps, covariance[star]
        )
        status[star] = state
        absolute = 0.0
        above = 0.0
        square = 0.0
        for index in range(n_pixels):
            dx = xs[index] - p[2]
            dy = ys[index] - p[3]
            nodes = n_nodes if dx * dx + dy * dy < core * core else 1
            signal = _model(p, gaussian, dx, dy, nodes, gradient)
            residual = values[index] - p[0] - signal
            absolute += abs(residual)
            above += signal * (residual * residual - sky_variance[star])
            square += signal * signal
        quality[star, 0] = chi2 / (n_pixels - n_free)
        quality[star, 1] = absolute / n_pixels
        quality[star, 2] = n_pixels / inside
        quality[star, 3] = above
        quality[star, 4] = square


@njit(nogil=True, cache=True)
def half_maximum_size(image, segments, numbers, xs, ys, background, reach, fwhm, peak):
    """First guess: FWHM of the disc with as many pixels as stand above half the star's peak; `background` in ADU."""
    height, width = image.shape
    for star in range(xs.shape[0]):
        cx = round(xs[star])
        cy = round(ys[star])
        top = 0.0
        for y in range(max(cy - 1, 0), min(cy + 2, height)):
            for x in range(max(cx - 1, 0), min(cx + 2, width)):
                if image[y, x] - background[star] > top:
                    top = image[y, x] - background[star]
        count = 0
        for y in range(max(cy - reach, 0), min(cy + reach + 1, height)):
            for x in range(max(cx - reach, 0), min(cx + reach + 1, width)):
                own = numbers[star] == 0 or segments[y, x] == numbers[star]
                if own and image[y, x] - background[star] > 0.5 * top:
                    count += 1
        fwhm[star] = 2.0 * math.sqrt(count / math.pi)
        peak[star] = top
