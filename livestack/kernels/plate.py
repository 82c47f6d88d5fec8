"""Loops of plate solving, for `astrometry`: what pairs and foursomes of stars propose, and how many stars support it.

A camera is a rotation (3, 3) from the sky's unit vectors to its own (x to the right, y along the rows, z outward), a
focal length in pixels, and a parity: -1 turns x round. A star at camera vector c is seen at f * parity * cx / cz,
f * cy / cz, from the middle of the picture.
"""

from __future__ import annotations

import math

import numpy as np
from numba import njit

CELLS = 1 << 10
"""Most columns and rows of the raster in which stars of the picture are looked up."""


@njit(nogil=True, cache=True)
def raster_of(xy: np.ndarray, half: np.ndarray, cell: float) -> tuple[np.ndarray, np.ndarray]:
    """Stars of the picture by cells: the first star of each (rows, columns), and the next one in the same cell (n,);
    -1: none.

    Parameters
    ----------
    xy : (n, 2) from the middle of the picture, px; half : (2,) half its size, px.
    cell : side, px.
    """
    columns = int(2 * half[0] / cell) + 1
    rows = int(2 * half[1] / cell) + 1
    first = np.full((rows, columns), -1, dtype=np.int32)
    following = np.full(len(xy), -1, dtype=np.int32)
    for i in range(len(xy)):
        column = min(max(int((xy[i, 0] + half[0]) / cell), 0), columns - 1)
        row = min(max(int((xy[i, 1] + half[1]) / cell), 0), rows - 1)
        following[i] = first[row, column]
        first[row, column] = i
    return first, following


@njit(nogil=True, cache=True)
def focal_length(ax: float, ay: float, bx: float, by: float, cosine: float, guess: float) -> float:
    """Focal length, px, under which two places of the picture are as far apart as `cosine` says; 0 where none is."""
    target = math.acos(min(1.0, max(-1.0, cosine)))
    f = guess
    for _ in range(12):
        na = math.sqrt(ax * ax + ay * ay + f * f)
        nb = math.sqrt(bx * bx + by * by + f * f)
        # the cross product keeps small angles exact
        cx, cy, cz = ay * f - f * by, f * bx - ax * f, ax * by - ay * bx
        sine = math.sqrt(cx * cx + cy * cy + cz * cz) / (na * nb)
        dot = (ax * bx + ay * by + f * f) / (na * nb)
        angle = math.atan2(sine, dot)
        ratio = angle / target
        f *= ratio
        if abs(ratio - 1.0) < 1e-7:
            return f
        if not 1.0 < f < 1e9:
            return 0.0
    return f if abs(ratio - 1.0) < 1e-3 else 0.0


@njit(nogil=True, cache=True)
def attitude(
    ax: float, ay: float, bx: float, by: float, f: float, parity: float, va: np.ndarray, vb: np.ndarray, out: np.ndarray
) -> None:
    """Rotation (3, 3) that puts the sky's va, vb where a and b are seen; exact in the middle between them (TRIAD)."""
    na = math.sqrt(ax * ax + ay * ay + f * f)
    nb = math.sqrt(bx * bx + by * by + f * f)
    p = np.array((parity * ax / na, ay / na, f / na))
    q = np.array((parity * bx / nb, by / nb, f / nb))
    c1, s1 = p + q, va + vb
    c2, s2 = np.cross(p, q), np.cross(va, vb)
    c1 /= math.sqrt(c1 @ c1)
    s1 /= math.sqrt(s1 @ s1)
    c2 /= math.sqrt(c2 @ c2)
    s2 /= math.sqrt(s2 @ s2)
    c3, s3 = np.cross(c1, c2), np.cross(s1, s2)
    for i in range(3):
        for j in range(3):
            out[i, j] = c1[i] * s1[j] + c2[i] * s2[j] + c3[i] * s3[j]


@njit(nogil=True, cache=True)
def support(
    rotation: np.ndarray,
    f: float,
    parity: float,
    vectors: np.ndarray,
    g: np.ndarray,
    xy: np.ndarray,
    mag: np.ndarray,
    half: np.ndarray,
    first: np.ndarray,
    following: np.ndarray,
    radius: float,
    zero: float,
    slack: float,
) -> tuple[int, int]:
    """How many catalogue stars fall into the picture, and how many of them have a star of about their brightness
    within `radius` (px).

    Parameters
    ----------
    zero : mag of the picture minus mag of the catalogue; slack : how far a star may be from that.
    """
    rows, columns = first.shape
    cell = max(2 * half[0] / columns, 2 * half[1] / rows)
    inside = hits = 0
    for k in range(len(vectors)):
        v = vectors[k]
        z = rotation[2, 0] * v[0] + rotation[2, 1] * v[1] + rotation[2, 2] * v[2]
        if z < 0.1:
            continue
        x = f * parity * (rotation[0, 0] * v[0] + rotation[0, 1] * v[1] + rotation[0, 2] * v[2]) / z
        y = f * (rotation[1, 0] * v[0] + rotation[1, 1] * v[1] + rotation[1, 2] * v[2]) / z
        if abs(x) > half[0] or abs(y) > half[1]:
            continue
        inside += 1
        low_column = max(int((x + half[0] - radius) / cell), 0)
        high_column = min(int((x + half[0] + radius) / cell), columns - 1)
        low_row = max(int((y + half[1] - radius) / cell), 0)
        high_row = min(int((y + half[1] + radius) / cell), rows - 1)
        found = False
        for row in range(low_row, high_row + 1):
            for column in range(low_column, high_column + 1):
                i = first[row, column]
                while i >= 0 and not found:
                    dx, dy = xy[i, 0] - x, xy[i, 1] - y
                    near = dx * dx + dy * dy <= radius * radius
                    found = near and abs(mag[i] - g[k] - zero) <= slack
                    i = following[i]
        hits += found
    return inside, hits


@njit(nogil=True, cache=True)
def propose_by_pairs(
    xy: np.ndarray,
    mag: np.ndarray,
    half: np.ndarray,
    vectors: np.ndarray,
    g: np.ndarray,
    pairs: np.ndarray,
    angles: np.ndarray,
    pointing: np.ndarray,
    f0: float,
    max_log_scale: float,
    reach: float,
    min_base: float,
    radius: float,
    slack: float,
    enough: int,
    best: np.ndarray,
) -> int:
    """Try every pair of stars of the picture on every pair of the catalogue, either parity; keep the best supported.

    Parameters
    ----------
    xy : (n, 2) from the middle, px; mag : (n,), any zero point; half : (2,).
    vectors, g : (m, 3), (m,) catalogue around the place expected.
    pairs : (p, 2) int32 indices, angles : (p,) radians between them, ascending.
    pointing : (3,) where the middle is expected, within `reach`, radians.
    f0, max_log_scale : focal length expected, px, and how far ln of it may be off.
    min_base : shortest distance of a pair, px; radius, slack : as in `support`.
    enough : stop when so many stars, and half of those expected, support a proposal.
    best : (k, 15) float64, filled in falling order of score: score, hits, inside, f, parity, rotation (9), zero.

    Returns
    -------
    int
        Proposals that passed the tests of scale, brightness and place: what chance has to be measured against.
    """
    cell = max(radius, 2 * max(half[0], half[1]) / CELLS)
    first, following = raster_of(xy, half, cell)
    best[:] = 0.0
    best[:, 0] = -1e9
    kept = best.shape[0]
    rotation = np.empty((3, 3))
    least = math.cos(min(reach, math.pi))
    tried = 0
    low, high = math.exp(-max_log_scale), math.exp(max_log_scale)
    for i in range(len(xy)):
        for j in range(i + 1, len(xy)):
            ax, ay, bx, by = xy[i, 0], xy[i, 1], xy[j, 0], xy[j, 1]
            if math.hypot(ax - bx, ay - by) < min_base:
                continue
            cx, cy, cz = (ay - by) * f0, (bx - ax) * f0, ax * by - ay * bx
            angle = math.atan2(math.sqrt(cx * cx + cy * cy + cz * cz), ax * bx + ay * by + f0 * f0)
            k = np.searchsorted(angles, angle * low)
            end = np.searchsorted(angles, angle * high)
            while k < end:
                step = mag[j] - mag[i]
                for turn in range(2):
                    a, b = pairs[k, turn], pairs[k, 1 - turn]
                    if abs(step - (g[b] - g[a])) > slack:
                        continue
                    va, vb = vectors[a], vectors[b]
                    f = focal_length(ax, ay, bx, by, math.cos(angles[k]), f0 * angle / angles[k])
                    if not f0 * low <= f <= f0 * high:
                        continue
                    for side in range(2):
                        parity = 1.0 - 2.0 * side
                        attitude(ax, ay, bx, by, f, parity, va, vb, rotation)
                        if (
                            rotation[2, 0] * pointing[0] + rotation[2, 1] * pointing[1] + rotation[2, 2] * pointing[2]
                            < least
                        ):
                            continue
                        tried += 1
                        zero = 0.5 * (mag[i] - g[a] + mag[j] - g[b])
                        inside, hits = support(
                            rotation, f, parity, vectors, g, xy, mag, half, first, following, radius, zero, slack
                        )
                        score = hits - 0.2 * (inside - hits)
                        if hits < 3 or score <= best[kept - 1, 0]:
                            continue
                        row = kept - 1
                        while row > 0 and best[row - 1, 0] < score:
                            best[row] = best[row - 1]
                            row -= 1
                        best[row, 0], best[row, 1], best[row, 2] = score, hits, inside
                        best[row, 3], best[row, 4] = f, parity
                        for p in range(3):
                            for q in range(3):
                                best[row, 5 + 3 * p + q] = rotation[p, q]
                        best[row, 14] = zero
                        if hits >= enough and 2 * hits >= inside:
                            return tried
                k += 1
    return tried


@njit(nogil=True, cache=True)
def quad_codes(places: np.ndarray, members: np.ndarray, order: np.ndarray, codes: np.ndarray) -> None:
    """Describe foursomes of stars without regard to place, scale and rotation.

    The widest pair A, B spans the unit of length from 0 to 1; C and D stand where they stand in it, the sum of their
    first coordinates at most 1, C's at most D's (Lang et al. 2010, doi:10.1088/0004-6256/139/5/1782).

    Parameters
    ----------
    places : (q, 4, 2) of the four, on a plane; members : (q, 4) int32 their numbers.
    order : (q, 4) int32, filled with the numbers of A, B, C, D; codes : (q, 4) float32: C's and D's coordinates; NaN
        where the foursome is degenerate.
    """
    for n in range(len(places)):
        p = places[n]
        widest, a, b = -1.0, 0, 1
        for i in range(4):
            for j in range(i + 1, 4):
                d = (p[i, 0] - p[j, 0]) ** 2 + (p[i, 1] - p[j, 1]) ** 2
                if d > widest:
                    widest, a, b = d, i, j
        c = d_ = -1
        for i in range(4):
            if i not in (a, b):
                if c < 0:
                    c = i
                else:
                    d_ = i
        if widest <= 0:
            codes[n] = np.nan
            continue
        for _ in range(2):
            ux, uy = p[b, 0] - p[a, 0], p[b, 1] - p[a, 1]
            x = ((p[c, 0] - p[a, 0]) * ux + (p[c, 1] - p[a, 1]) * uy) / widest
            y = ((p[c, 1] - p[a, 1]) * ux - (p[c, 0] - p[a, 0]) * uy) / widest
            z = ((p[d_, 0] - p[a, 0]) * ux + (p[d_, 1] - p[a, 1]) * uy) / widest
            w = ((p[d_, 1] - p[a, 1]) * ux - (p[d_, 0] - p[a, 0]) * uy) / widest
            if x + z <= 1.0:
                break
            a, b = b, a
        if x > z:
            c, d_ = d_, c
            x, y, z, w = z, w, x, y
        codes[n, 0], codes[n, 1], codes[n, 2], codes[n, 3] = x, y, z, w
        order[n, 0], order[n, 1], order[n, 2], order[n, 3] = members[n, a], members[n, b], members[n, c], members[n, d_]


@njit(nogil=True, cache=True)
def quad_key(x: float, y: float, z: float, w: float, cell: float) -> int:
    """Number of the cell of a code."""
    return (
        ((int((x + 1.0) / cell) * 512 + int((y + 2.0) / cell)) * 512 + int((z + 1.0) / cell)) * 512
        + int((w + 2.0) / cell)
    )  # fmt: skip


@njit(nogil=True, cache=True)
def quad_keys(codes: np.ndarray, cell: float, keys: np.ndarray) -> None:
    for n in range(len(codes)):
        keys[n] = quad_key(codes[n, 0], codes[n, 1], codes[n, 2], codes[n, 3], cell)


@njit(nogil=True, cache=True)
def match_quads(
    codes: np.ndarray, keys: np.ndarray, known: np.ndarray, cell: float, tolerance: float, found: np.ndarray
) -> int:
    """Foursomes of the picture that look like some of the catalogue.

    Parameters
    ----------
    codes : (n, 4) of the picture; keys, known : (m,) int64 ascending, (m, 4) float32 of the catalogue.
    tolerance : of each coordinate; at most `cell`.
    found : (k, 2) int32, filled with (picture, catalogue).

    Returns
    -------
    int
        How many there are; no more than fit are filled in.
    """
    total = 0
    for n in range(len(codes)):
        if not codes[n, 0] > -1.0:
            continue
        for corner in range(8):
            x = codes[n, 0] + (tolerance if corner & 1 else -tolerance)
            y = codes[n, 1] + (tolerance if corner & 2 else -tolerance)
            z = codes[n, 2] + (tolerance if corner & 4 else -tolerance)
            if corner & 1 and int((x + 1) / cell) == int((x - 2 * tolerance + 1) / cell):
                continue
            if corner & 2 and int((y + 2) / cell) == int((y - 2 * tolerance + 2) / cell):
                continue
            if corner & 4 and int((z + 1) / cell) == int((z - 2 * tolerance + 1) / cell):
                continue
            # the last coordinate's cells follow one another
            k = np.searchsorted(keys, quad_key(x, y, z, codes[n, 3] - tolerance, cell))
            last = quad_key(x, y, z, codes[n, 3] + tolerance, cell)
            while k < len(keys) and keys[k] <= last:
                if (
                    abs(known[k, 0] - codes[n, 0]) <= tolerance and abs(known[k, 1] - codes[n, 1]) <= tolerance
                    and abs(known[k, 2] - codes[n, 2]) <= tolerance and abs(known[k, 3] - codes[n, 3]) <= tolerance
                ):  # fmt: skip
                    if total < len(found):
                        found[total, 0], found[total, 1] = n, k
                    total += 1
                k += 1
    return total


@njit(nogil=True, cache=True)
def propose_by_quads(
    found: np.ndarray,
    xy: np.ndarray,
    quads: np.ndarray,
    vectors: np.ndarray,
    stars: np.ndarray,
    parity: np.ndarray,
    turn: float,
    cameras: np.ndarray,
) -> int:
    """Cameras from foursomes that look alike.

    Parameters
    ----------
    found : (n, 2) foursome of the picture, of the catalogue.
    xy : (s, 2) places, px from the middle; quads : (q, 4) stars of the picture's foursomes; parity : (q,) -1 where the
        picture was taken for a mirror image.
    vectors : (m, 3) of the catalogue; stars : (p, 4) its foursomes' stars.
    turn : largest residual of C and D, as a share of the distance of A and B.
    cameras : (n, 11) filled: f, parity, rotation (9).

    Returns
    -------
    int
        How many held.
    """
    kept = 0
    rotation = np.empty((3, 3))
    for n in range(len(found)):
        q, p = found[n]
        ax, ay = xy[quads[q, 0]]
        bx, by = xy[quads[q, 1]]
        va, vb = vectors[stars[p, 0]], vectors[stars[p, 1]]
        cosine = va[0] * vb[0] + va[1] * vb[1] + va[2] * vb[2]
        base = math.hypot(ax - bx, ay - by)
        f = focal_length(ax, ay, bx, by, cosine, base / max(math.acos(min(1.0, cosine)), 1e-9))
        if f <= 0:
            continue
        attitude(ax, ay, bx, by, f, parity[q], va, vb, rotation)
        good = True
        for corner in range(2, 4):
            v = vectors[stars[p, corner]]
            c = rotation @ v
            if c[2] < 0.1:
                good = False
                break
            x, y = f * parity[q] * c[0] / c[2], f * c[1] / c[2]
            off = math.hypot(x - xy[quads[q, corner], 0], y - xy[quads[q, corner], 1])
            good = good and off <= turn * base
        if not good:
            continue
        cameras[kept, 0], cameras[kept, 1] = f, parity[q]
        for i in range(3):
            for j in range(3):
                cameras[kept, 2 + 3 * i + j] = rotation[i, j]
        kept += 1
    return kept
