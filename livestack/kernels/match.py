"""Loops over pairs of stars, for `registration`: what two stars of each frame propose, and what supports it."""

from __future__ import annotations

import math

import numpy as np
from numba import njit


@njit(nogil=True, cache=True)
def pair_similarities(
    frame: np.ndarray,
    frame_mag: np.ndarray,
    frame_slack: np.ndarray,
    reference: np.ndarray,
    reference_mag: np.ndarray,
    reference_slack: np.ndarray,
    max_log_scale: float,
    turn: float,
    max_turn: float,
    min_base: float,
    radius: float,
    best: np.ndarray,
) -> int:
    """Try every pair of frame stars on every ordered pair of reference stars; keep the best supported similarities.

    Parameters
    ----------
    frame, reference : (n, 2), (m, 2) float64 positions.
    frame_mag, reference_mag : natural logarithms of the fluxes; *_slack: how far each may be wrong (saturation, noise).
    max_log_scale : largest |log scale|; turn, max_turn: believed rotation and its tolerance, radians.
    min_base : shortest distance of a pair, px; radius : tolerance beside the base, px, growing with distance from it.
    best : (k, 6) float64, filled: hits, -mean squared residual, a, b, tx, ty
        of x' = a x - b y + tx, y' = b x + a y + ty;
        rows in falling order of (hits, -residual); unused rows have 0 hits.

    Returns
    -------
    int
        How many similarities passed the tests of scale, rotation and flux: what chance has to be measured against.
    """
    n, m = frame.shape[0], reference.shape[0]
    rows = best.shape[0]
    best[:] = 0.0
    tried = 0
    for i in range(n):
        for j in range(i + 1, n):
            ax = frame[j, 0] - frame[i, 0]
            ay = frame[j, 1] - frame[i, 1]
            base2 = ax * ax + ay * ay
            if base2 < min_base * min_base:
                continue
            for k in range(m):
                first = frame_mag[i] - reference_mag[k]
                for q in range(m):
                    if q == k:
                        continue
                    slack = frame_slack[i] + frame_slack[j] + reference_slack[k] + reference_slack[q]
                    other = frame_mag[j] - reference_mag[q]
                    if abs(first - other) > slack:
                        continue
                    bx = reference[q, 0] - reference[k, 0]
                    by = reference[q, 1] - reference[k, 1]
                    a = (ax * bx + ay * by) / base2
                    b = (ax * by - ay * bx) / base2
                    if abs(0.5 * math.log(max(a * a + b * b, 1e-12))) > max_log_scale:
                        continue
                    if max_turn < math.pi:
                        off = math.atan2(b, a) - turn
                        off -= 2 * math.pi * math.floor(off / (2 * math.pi) + 0.5)
                        if abs(off) > max_turn:
                            continue
                    tried += 1
                    tx = reference[k, 0] - (a * frame[i, 0] - b * frame[i, 1])
                    ty = reference[k, 1] - (b * frame[i, 0] + a * frame[i, 1])
                    level = 0.5 * (first + other)
                    mx = 0.5 * (frame[i, 0] + frame[j, 0])
                    my = 0.5 * (frame[i, 1] + frame[j, 1])
                    hits = 2.0
                    total = 0.0
                    for p in range(n):
                        if p in (i, j):
                            continue
                        x = a * frame[p, 0] - b * frame[p, 1] + tx
                        y = b * frame[p, 0] + a * frame[p, 1] + ty
                        far2 = ((frame[p, 0] - mx) ** 2 + (frame[p, 1] - my) ** 2) / base2
                        limit = radius * radius * (1.0 + 2.0 * far2)
                        nearest = limit
                        for r in range(m):
                            d = (reference[r, 0] - x) ** 2 + (reference[r, 1] - y) ** 2
                            if d < nearest:
                                allowed = 0.5 * slack + frame_slack[p] + reference_slack[r]
                                if abs(frame_mag[p] - reference_mag[r] - level) < allowed:
                                    nearest = d
                        if nearest < limit:
                            hits += 1.0
                            total += nearest / (1.0 + 2.0 * far2)
                    score = -total / max(1.0, hits - 2.0)
                    row = rows
                    while row > 0 and (
                        best[row - 1, 0] < hits or (best[row - 1, 0] == hits and best[row - 1, 1] < score)
                    ):
                        row -= 1
                    if row < rows:
                        for move in range(rows - 1, row, -1):
                            best[move] = best[move - 1]
                        best[row, 0] = hits
                        best[row, 1] = score
                        best[row, 2] = a
                        best[row, 3] = b
                        best[row, 4] = tx
                        best[row, 5] = ty
    return tried


@njit(nogil=True, cache=True)
def shift_votes(mapped: np.ndarray, reference: np.ndarray, radius: float, best: np.ndarray) -> None:
    """Shifts that carry many mapped frame stars (n, 2) near reference stars (m, 2), best supported first.

    Every pair of stars proposes its difference; each is counted by how many differences lie within `radius` of it.
    `best` (k, 3) float64, filled: votes, dx, dy; later rows differ from earlier ones by more than 2 x radius.
    """
    n, m = mapped.shape[0], reference.shape[0]
    total = n * m
    dx = np.empty(total)
    dy = np.empty(total)
    for i in range(n):
        for k in range(m):
            dx[i * m + k] = reference[k, 0] - mapped[i, 0]
            dy[i * m + k] = reference[k, 1] - mapped[i, 1]
    order = np.argsort(dx, kind="mergesort")
    votes = np.zeros(total, dtype=np.int64)
    for s in range(total):
        u = order[s]
        for t in range(s, total):
            v = order[t]
            if dx[v] - dx[u] > radius:
                break
            if abs(dy[v] - dy[u]) <= radius:
                votes[u] += 1
                if v != u:
                    votes[v] += 1
    best[:] = 0.0
    for row in range(best.shape[0]):
        top = -1
        for u in range(total):
            if top < 0 or votes[u] > votes[top]:
                top = u
        if top < 0 or votes[top] <= 0:
            return
        sx = 0.0
        sy = 0.0
        count = 0
        for v in range(total):
            if abs(dx[v] - dx[top]) <= radius and abs(dy[v] - dy[top]) <= radius:
                sx += dx[v]
                sy += dy[v]
                count += 1
        best[row, 0] = votes[top]
        best[row, 1] = sx / count
        best[row, 2] = sy / count
        cx, cy = dx[top], dy[top]
        for v in range(total):
            if abs(dx[v] - cx) <= 2 * radius and abs(dy[v] - cy) <= 2 * radius:
                votes[v] = 0
