"""Which surfaces a sky may be: a plane, a curved one, a vignetted plane, light that rises toward the borders.

Each family is a sum of polynomial terms; the terms of light from the borders, powers of the distance from the opposite
border, have factors >= 0, so that none of them can make a hump inside the field. Which family it is, and what is sky
at all, is `skyfit`'s business.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from scipy.optimize import nnls

from livestack.kernels.render import sum_terms, weigh_terms

MAX_DEGREE = 6
"""Coefficient arrays are (MAX_DEGREE + 1, MAX_DEGREE + 1) whatever the degree, so that surfaces can be blended."""
MAX_ORDER = 4
"""0: a level; 1: a plane; 2: curved; 3: a vignetted plane; 4: light from the borders too."""
CURVED, VIGNETTED = 1, 2
"""Places of these two among the families of surfaces, which begin with the plane."""
BORDER_POWERS = (4, 6)


@dataclass(frozen=True, eq=False)
class Family:
    """Surfaces that are sums of terms: the first `n_free` with any factor, the others with factors >= 0.

    Attributes
    ----------
    coefficients : (n, MAX_DEGREE + 1, MAX_DEGREE + 1) of each term, as in `background.Surface`.
    values : (blocks, n) of each term at the blocks.
    """

    coefficients: np.ndarray
    values: np.ndarray
    n_free: int

    @property
    def n_terms(self) -> int:
        return len(self.coefficients)

    def solve(self, levels: np.ndarray, weights: np.ndarray) -> np.ndarray:
        """Factors (n,) of the weighted least-squares fit to `levels` (blocks,)."""
        normal, right = np.empty((self.n_terms, self.n_terms)), np.empty(self.n_terms)
        weigh_terms(self.values, weights, levels, normal, right)
        normal.flat[:: self.n_terms + 1] += 1e-9 * np.trace(normal) / self.n_terms
        n = self.n_free
        if n == len(normal):
            return np.linalg.solve(normal, right)
        # The free factors are eliminated; what remains is a small problem with factors >= 0 (Lawson & Hanson).
        eliminated = np.linalg.solve(normal[:n, :n], np.column_stack([normal[:n, n:], right[:n]]))
        reduced = normal[n:, n:] - normal[n:, :n] @ eliminated[:, :-1]
        reduced.flat[:: len(reduced) + 1] += 1e-7 * np.trace(reduced) / len(reduced)
        root = np.linalg.cholesky(reduced)
        positive, _ = nnls(
            root.T, np.linalg.solve(root, right[n:] - normal[n:, :n] @ eliminated[:, -1]), maxiter=100 * len(root)
        )
        return np.concatenate([eliminated[:, -1] - eliminated[:, :-1] @ positive, positive])

    def at_blocks(self, factors: np.ndarray) -> np.ndarray:
        """The surface at the blocks, (blocks,)."""
        out = np.empty(len(self.values))
        sum_terms(self.values, factors, out)
        return out

    def fit(self, levels: np.ndarray, weights: np.ndarray) -> np.ndarray:
        """The fitted surface at the blocks, (blocks,)."""
        return self.at_blocks(self.solve(levels, weights))


def families_at(u: np.ndarray, v: np.ndarray, aspect: float) -> list[Family]:
    """Plane, curved sky, vignetted plane, light from the borders, with their values at the blocks."""
    powers = np.arange(MAX_DEGREE + 1)
    monomials = (u[None, :] ** powers[:, None])[:, None] * (v[None, :] ** powers[:, None])[None]
    families = []
    for terms, n_free in _terms(aspect):
        values = np.ascontiguousarray(np.einsum("kpq,pqb->bk", terms, monomials))
        families.append(Family(terms, values, n_free))
    return families


@lru_cache(maxsize=8)
def _terms(aspect: float) -> tuple[tuple[np.ndarray, int], ...]:
    """(coefficients of the terms, how many of them are free) of each family."""

    def term(**factors: float) -> np.ndarray:
        out = np.zeros((MAX_DEGREE + 1, MAX_DEGREE + 1))
        for name, factor in factors.items():
            out[int(name[1]), int(name[2])] = factor
        return out

    plane = [term(_00=1), term(_10=1), term(_01=1)]
    curved = [*plane, term(_20=1, _00=-1 / 3), term(_11=1), term(_02=1, _00=-1 / 3)]
    # Round in pixels, 1 in the corners; its product with a plane is what vignetting makes of a plane.
    ru, rv = 1 / (1 + aspect**2), aspect**2 / (1 + aspect**2)
    vignetted = [term(_30=ru, _12=rv, _10=-0.6), term(_21=ru, _03=rv, _01=-0.6)]
    borders = [_border(45.0 * step, power) for step in range(8) for power in BORDER_POWERS]
    corners = [term(_40=-(ru**2), _22=-2 * ru * rv, _04=-(rv**2))]
    every = [*curved, *vignetted, *borders, *corners]
    lists = ((plane, 3), (curved, 6), (every[:8], 8), (every, 8))
    return tuple((np.array(terms), n_free) for terms, n_free in lists)


def _border(angle_deg: float, power: int) -> np.ndarray:
    """Coefficients of w^power, w rising from 0 at one border or corner of the field to 1 at the opposite one."""
    a, b = math.cos(math.radians(angle_deg)), math.sin(math.radians(angle_deg))
    a, b = 0.5 * a / (abs(a) + abs(b)), 0.5 * b / (abs(a) + abs(b))
    out = np.zeros((MAX_DEGREE + 1, MAX_DEGREE + 1))
    for p in range(power + 1):
        for q in range(power + 1 - p):
            rest = power - p - q
            ways = math.factorial(power) // (math.factorial(p) * math.factorial(q) * math.factorial(rest))
            out[p, q] = ways * a**p * b**q * 0.5**rest
    return out
