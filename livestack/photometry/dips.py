"""All dips that a light curve may hold, each with its probability.

A trapezoid is the difference of two smoothed steps. Depth, level and trends are linear, so that the products of all
steps with each other tell at once how well all mids, lengths and ingresses fit, as in the search for boxes (Kovacs,
Zucker & Mazeh 2002, doi:10.1051/0004-6361:20020802), under each kind of noise (`correlated`) and with more or fewer
trends. Those that the curve does not bear out lose by the ratio of evidences (Kass & Raftery 1995,
doi:10.1080/01621459.1995.10476572). What is told of them is `transit`'s business.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from livestack.photometry.correlated import Noise, kinds_of_noise, scaled_errors

INGRESS_SHARE, INGRESS_FACTOR = 0.15, 2.0
"""What is known beforehand of the ingress, as a share of the whole: within this factor, one sigma. Planets lie there;
without it few frames in the ingress leave the length of the transit open."""
SHARES = 0.02, 0.5
"""Of the ingress in the whole, least and largest; 0.5 is a dip like a V."""
SLOPE = 0.01
"""Share of the light by which a star drifts against all others from the middle of a night to its end, one sigma, where
it does at all."""
PER_AIRMASS = 0.02
"""Share by which a star of another colour than the others fades with each air mass, one sigma."""
LEAST_BESIDE = 0.15
"""Share of the points that lie beside a dip at least: with fewer nobody knows from where it is deep."""
LIKELY = 4e-3
"""Share of all probability from which a way is followed to the end."""
_COARSE, _FINE = 64, 32


def trapezoid(times: np.ndarray, mid: float, width: float, ingress: float) -> np.ndarray:
    """A dip of depth 1; `width` is that at half depth, and the whole, T14, is `width + ingress`."""
    return np.clip((0.5 * (width + ingress) - np.abs(times - mid)) / max(ingress, 1e-12), 0.0, 1.0)


@dataclass(frozen=True, eq=False)
class Points:
    """What is fitted: times from the middle of the night, relative flux, errors, trends (n, k) of one sigma."""

    times: np.ndarray
    flux: np.ndarray
    errors: np.ndarray
    trends: np.ndarray

    def only(self, kept: np.ndarray) -> Points:
        """Some of them."""
        return Points(self.times[kept], self.flux[kept], self.errors[kept], self.trends[kept])


@dataclass(frozen=True, eq=False)
class Shapes:
    """Shapes that were tried, (g,) each: mid, whole length and ingress in days; the best depth and its error; logarithm
    of likelihood, and of probability; row in the list of ways, each a kind of noise and a number of trends."""

    mid: np.ndarray
    length: np.ndarray
    ingress: np.ndarray
    depth: np.ndarray
    error: np.ndarray
    likelihood: np.ndarray
    worth: np.ndarray
    way: np.ndarray

    @property
    def edges(self) -> tuple[np.ndarray, np.ndarray]:
        """Where half of the light that will be missing is missing: on the way in, and out."""
        half = 0.5 * (self.length - self.ingress)
        return self.mid - half, self.mid + half

    def weights(self) -> np.ndarray:
        """(g,) float64 probabilities; the sum is 1."""
        weights = np.exp(self.worth - self.worth.max())
        return np.asarray(weights / weights.sum())

    def only(self, kept: np.ndarray) -> Shapes:
        """Some of them."""
        return Shapes(*(getattr(self, name)[kept] for name in self.__dataclass_fields__))


@dataclass(frozen=True, eq=False)
class Way:
    """One kind of noise with the first few trends, and the points under it.

    Attributes
    ----------
    trends : how many.
    basis, hold : (n, k) and (k,), take what the trends may explain out of white values.
    level : (n,) direction of the level, white; flux : (n,) white, without level and trends.
    offset : logarithm of what is believed of it, and of all that does not depend on the dip.
    free : degrees of freedom beside level and depth.
    """

    noise: Noise
    trends: int
    basis: np.ndarray
    hold: np.ndarray
    level: np.ndarray
    flux: np.ndarray
    offset: float
    free: int

    def clean(self, white: np.ndarray) -> np.ndarray:
        """White values, (n, k), without level and trends."""
        held = white - self.basis @ (self.hold[:, None] * (self.basis.T @ white))
        return np.asarray(held - np.outer(self.level, self.level @ held))

    def likelihood(self, chi2: np.ndarray) -> np.ndarray:
        """Its logarithm, by whatever factor the errors are wrong."""
        return np.asarray(self.offset - 0.5 * self.free * np.log(np.maximum(chi2, 1e-300)))

    @property
    def without_dip(self) -> float:
        """Logarithm of the likelihood of a curve that holds no dip."""
        return float(self.likelihood(self.flux @ self.flux))


def all_ways(points: Points, usual_noise: float | None) -> list[Way]:
    """All kinds of noise, each with no trend, one, and so on; `usual_noise` as in `fit_transit`."""
    errors = scaled_errors(points.flux, points.errors)
    most = points.trends.shape[1]
    return [
        one_way(points, noise, trends, most)
        for noise in kinds_of_noise(points.times, errors, usual_noise)
        for trends in range(most + 1)
    ]


def one_way(points: Points, noise: Noise, trends: int, most: int) -> Way:
    """One of them; `most` is the largest number of trends."""
    basis, size, _ = np.linalg.svd(noise.whiten(points.trends[:, :trends]), full_matrices=False)
    # a trend is held by what is known of its size as one more point would hold it
    hold = 1.0 - 1.0 / np.sqrt(1.0 + size**2)
    level, flux = (noise.whiten(v) for v in (np.ones(len(points.times)), points.flux))
    level, flux = (v - basis @ (hold * (basis.T @ v)) for v in (level, flux))
    length = float(np.sqrt(level @ level))
    level = level / length
    offset = noise.belief - np.log(most + 1) - noise.volume - 0.5 * float(np.log1p(size**2).sum()) - np.log(length)
    return Way(noise, trends, basis, hold, level, flux - level * (level @ flux), offset, len(flux) - 2)


def _steps(points: Points, edges: np.ndarray, ingress: float) -> np.ndarray:
    """Smoothed steps from 0 to 1, (n, k), that are half way up at each edge."""
    return np.clip((points.times[:, None] - edges[None, :]) / ingress + 0.5, 0.0, 1.0)


@dataclass(frozen=True, eq=False)
class _Pairs:
    """Dips between two lists of edges with one ingress.

    Attributes
    ----------
    steps : (n, k) at all edges, those on the way in first; first, last : (g,) columns of a dip's two edges.
    believed : (g,) logarithm of what is believed beforehand; mid, length : (g,) days.
    """

    steps: np.ndarray
    first: np.ndarray
    last: np.ndarray
    believed: np.ndarray
    mid: np.ndarray
    length: np.ndarray
    ingress: float

    @staticmethod
    def of(points: Points, edges_in: np.ndarray, edges_out: np.ndarray, ingress: float) -> _Pairs:
        """Those of which enough was seen, and enough beside them."""
        width = edges_out[None, :] - edges_in[:, None]
        share = ingress / (width + ingress)
        times = points.times
        inside = np.searchsorted(times, edges_out)[None, :] - np.searchsorted(times, edges_in)[:, None]
        before = np.searchsorted(times, edges_in - 0.5 * ingress, side="right")
        after = len(times) - np.searchsorted(times, edges_out + 0.5 * ingress)
        use = (width > 0) & (share > SHARES[0]) & (share <= SHARES[1]) & (inside >= 3)
        first, last = np.nonzero(use & (before[:, None] + after[None, :] >= max(4, LEAST_BESIDE * len(times))))
        width, share = width[first, last], share[first, last]
        # length and ingress are believed to be even in their logarithm, ingresses near what planets have
        believed = -np.log(width + ingress) - 0.5 * (np.log(share / INGRESS_SHARE) / np.log(INGRESS_FACTOR)) ** 2
        steps = np.concatenate([_steps(points, edges, ingress) for edges in (edges_in, edges_out)], axis=1)
        mid = 0.5 * (edges_in[first] + edges_out[last])
        return _Pairs(steps, first, last + len(edges_in), believed, mid, width + ingress, ingress)

    def weigh(self, way: Way, number: int, white: np.ndarray) -> Shapes:
        """Dark dips with their probabilities; `white`: the steps under the way's noise."""
        steps = way.clean(white)
        squares, light = (steps**2).sum(axis=0), way.flux @ steps
        first, last = self.first, self.last
        begin = first.max() + 1
        products = steps[:, :begin].T @ steps[:, begin:]
        size = np.maximum(squares[first] + squares[last] - 2 * products[first, last - begin], 1e-12)
        depth = (light[last] - light[first]) / size
        chi2 = way.flux @ way.flux - depth**2 * size
        likelihood = way.likelihood(chi2)
        shapes = Shapes(
            self.mid, self.length, np.full(len(first), self.ingress), depth,
            np.sqrt(np.maximum(chi2, 0) / way.free / size), likelihood, likelihood + self.believed,
            np.full(len(first), number),
        )  # fmt: skip
        return shapes.only(depth > 0)


def _try(
    points: Points, ways: list[Way], numbers: list[int], edges_in: np.ndarray, edges_out: np.ndarray,
    ingresses: np.ndarray,
) -> Shapes | None:  # fmt: skip
    """All dips between two lists of edges; `numbers`: which of the ways."""
    pairs = [_Pairs.of(points, edges_in, edges_out, float(ingress)) for ingress in ingresses]
    pairs = [some for some in pairs if len(some.first)]
    found: list[Shapes] = []
    noise: Noise | None = None
    white: list[np.ndarray] = []
    for number in numbers:
        way = ways[number]
        if way.noise is not noise:
            noise = way.noise
            white = [noise.whiten(some.steps) for some in pairs]
        found += [some.weigh(way, number, its) for some, its in zip(pairs, white, strict=True)]
    if not any(len(one.mid) for one in found):
        return None
    return Shapes(*(np.concatenate([getattr(one, name) for one in found]) for name in Shapes.__dataclass_fields__))


def search(points: Points, ways: list[Way]) -> Shapes | None:
    """Try the whole night; None where nothing is darker than the rest."""
    times = points.times
    span, step = float(times[-1] - times[0]), float(np.median(np.diff(times)))
    edges = np.linspace(times[0] - 0.15 * span, times[-1] + 0.15 * span, _COARSE)
    ingresses = np.geomspace(max(0.5 * step, 0.01 * span), 0.3 * span, 5)
    return _try(points, ways, list(range(len(ways))), edges, edges, ingresses)


def refine(points: Points, ways: list[Way], shapes: Shapes) -> Shapes:
    """Try ever finer where anything is likely, with the ways that are."""
    step = float(np.median(np.diff(points.times)))
    total = np.bincount(shapes.way, shapes.weights(), len(ways))
    numbers = [int(k) for k in np.flatnonzero(total > LIKELY)]
    reach = np.inf
    for _ in range(4):
        weights = shapes.weights()
        some = shapes.only(weights > 1e-4 * weights.max())
        ranges = []
        for edges in some.edges:
            low, high = edges.min(), edges.max()
            # a step of the grid more on each side, for the best may lie between
            more = max(0.1 * (high - low), 0.5 * step)
            ranges.append(np.linspace(low - more, high + more, _FINE))
        before, reach = reach, float(max(np.ptp(one) for one in ranges))
        if reach > 0.7 * before:
            break
        ingresses = np.geomspace(0.8 * some.ingress.min(), 1.25 * some.ingress.max(), 7)
        finer = _try(points, ways, numbers, ranges[0], ranges[1], ingresses)
        if finer is None:
            break
        shapes = finer
    return shapes


def shape_of(points: Points, shapes: Shapes, number: int) -> np.ndarray:
    """(n,) one of the dips, of depth 1."""
    mid, length, ingress = (float(v[number]) for v in (shapes.mid, shapes.length, shapes.ingress))
    return trapezoid(points.times, mid, length - ingress, ingress)
