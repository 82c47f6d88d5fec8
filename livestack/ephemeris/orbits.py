"""Motion about the Sun by its pull alone, for all shapes of orbits: universal variables from the perihelion on.

With s = 0 at the perihelion, t = q s + mu e s^3 c3(b s^2), b = mu (1 - e) / q, and c0 .. c3 Stumpff's functions
(Danby 1988, Fundamentals of Celestial Mechanics, ch. 6). Ellipses, parabolas and hyperbolas need no cases of their own.
The planets' pull is left out: within some weeks of the elements' epoch that is worth seconds of arc for an asteroid of
the main belt, after some months minutes of arc; near the Earth or Jupiter more.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

MU = 0.01720209895**2
"""Pull of the Sun, au^3 / day^2 (Gauss's constant squared)."""
OBLIQUITY_DEG = 84381.448 / 3600.0
"""Of the ecliptic of J2000, to which orbits are told, against the equator."""
ROUNDS = 60


@dataclass(frozen=True, eq=False)
class Orbits:
    """Orbits of n bodies, all arrays (n,).

    Attributes
    ----------
    q_au, e : distance at perihelion, eccentricity; inclination_deg, node_deg, perihelion_deg : to ecliptic J2000.
    time_jd : of the passage through the perihelion, TT; any of them where the orbit is closed.
    """

    q_au: np.ndarray
    e: np.ndarray
    inclination_deg: np.ndarray
    node_deg: np.ndarray
    perihelion_deg: np.ndarray
    time_jd: np.ndarray

    def __len__(self) -> int:
        return len(self.q_au)

    def some(self, which: np.ndarray) -> Orbits:
        """Those with these numbers."""
        return Orbits(
            self.q_au[which], self.e[which], self.inclination_deg[which], self.node_deg[which],
            self.perihelion_deg[which], self.time_jd[which],
        )  # fmt: skip

    def places(self, jd_tt: np.ndarray | float) -> np.ndarray:
        """(n, 3) au from the Sun, equatorial J2000 axes, at moments (n,) or one for all."""
        since = np.broadcast_to(np.asarray(jd_tt, dtype=float), self.q_au.shape) - self.time_jd
        beta = MU * (1.0 - self.e) / self.q_au
        closed = self.e < 1.0
        with np.errstate(divide="ignore", invalid="ignore"):
            period = np.where(closed, 2 * math.pi * (self.q_au / np.maximum(1.0 - self.e, 1e-12)) ** 1.5 / MU**0.5, 0.0)
            turns = np.where(period > 0, np.rint(since / period), 0.0)
        s = _universal(since - turns * period, self.q_au, self.e, beta)
        _, c1, c2, _ = stumpff(beta * s * s)
        along = self.q_au - MU * s * s * c2
        across = s * np.sqrt(self.q_au * MU * (1.0 + self.e)) * c1
        w, node, i = (np.radians(v) for v in (self.perihelion_deg, self.node_deg, self.inclination_deg))
        u, v = along * np.cos(w) - across * np.sin(w), along * np.sin(w) + across * np.cos(w)
        x = u * np.cos(node) - v * np.sin(node) * np.cos(i)
        y = u * np.sin(node) + v * np.cos(node) * np.cos(i)
        z = v * np.sin(i)
        tilt = math.radians(OBLIQUITY_DEG)
        return np.stack([x, y * math.cos(tilt) - z * math.sin(tilt), y * math.sin(tilt) + z * math.cos(tilt)], axis=1)


def stumpff(x: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """c0 .. c3 of x (n,): cos, sinc and so on of its root; of imaginary ones where x is negative."""
    x = np.asarray(x, dtype=float)
    small = np.abs(x) < 0.1
    root = np.sqrt(np.where(small, 1.0, np.abs(x)))
    positive = x > 0
    reach = np.minimum(root, 300.0)
    c0 = np.where(positive, np.cos(root), np.cosh(reach))
    c1 = np.where(positive, np.sin(root), np.sinh(reach)) / root
    safe = np.where(small, 1.0, x)
    c2, c3 = (1.0 - c0) / safe, (1.0 - c1) / safe
    s3, s2 = _series(x, 3), _series(x, 2)
    c2, c3 = np.where(small, s2, c2), np.where(small, s3, c3)
    return np.where(small, 1.0 - x * s2, c0), np.where(small, 1.0 - x * s3, c1), c2, c3


def _series(x: np.ndarray, k: int) -> np.ndarray:
    """c_k of small x: the sum of (-x)^j / (k + 2 j)!."""
    near = np.clip(x, -0.1, 0.1)
    total = np.zeros_like(near)
    for j in range(7, -1, -1):
        total = total * -near + 1.0 / math.factorial(k + 2 * j)
    return total


def _universal(since: np.ndarray, q: np.ndarray, e: np.ndarray, beta: np.ndarray) -> np.ndarray:
    """s of times since the perihelion, days: Newton's rule held within bounds between which the answer lies."""
    t = np.abs(since)
    high = t / q  # the distance is never less than q
    low = np.zeros_like(high)
    s = np.minimum(high, np.cbrt(6.0 * t / (MU * np.maximum(e, 1e-3))))
    for _ in range(ROUNDS):
        _, _, c2, c3 = stumpff(beta * s * s)
        over = q * s + MU * e * s**3 * c3 - t
        high, low = np.where(over > 0, s, high), np.where(over <= 0, s, low)
        step = s - over / np.maximum(q + MU * e * s * s * c2, 1e-12)
        following = np.where((step > low) & (step < high), step, 0.5 * (low + high))
        if np.all(np.abs(following - s) <= 1e-14 * (1.0 + np.abs(s))):
            s = following
            break
        s = following
    return np.asarray(np.copysign(s, since))
