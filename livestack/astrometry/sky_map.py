"""From pixels to the sky and back: a gnomonic projection (TAN), with SIP polynomials where a lens bends.

Calabretta & Greisen 2002, doi:10.1051/0004-6361:20021327; Shupe et al. 2005 (SIP). Pixels are 0-based, integers at
their centres, x to the right and y along the stored rows; sky places are ICRS degrees.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace

import numpy as np

from livestack.astrometry.catalogue import to_degrees, to_vectors

Cards = tuple[tuple[str, str | int | float | bool, str], ...]

STEPS = 30
"""Rounds of the inverse of a distortion; it converges by a factor of its steepness (below 0.1) each time."""


def powers(order: int) -> list[tuple[int, int]]:
    """Exponents (p, q) of u^p v^q of SIP: from the second order up."""
    return [(total - q, q) for total in range(2, order + 1) for q in range(total + 1)]


def monomials(uv: np.ndarray, order: int) -> np.ndarray:
    """(n, terms) of points (n, 2)."""
    u, v = uv.T
    return np.column_stack([u**p * v**q for p, q in powers(order)]) if order >= 2 else np.empty((len(uv), 0))


@dataclass(frozen=True, eq=False)
class SkyMap:
    """A picture's place in the sky.

    Attributes
    ----------
    ra_deg, dec_deg : of the point where the sky is touched.
    x, y : pixel of that point.
    cd : (2, 2) degrees per pixel: (east, north) on the tangent plane of (x, y).
    order : of the distortion; 0 or 1: none.
    sip : (terms, 2) coefficients of `powers(order)`, pixels, of x and of y.
    width, height : of the picture, px.
    """

    ra_deg: float
    dec_deg: float
    x: float
    y: float
    cd: np.ndarray
    width: int
    height: int
    order: int = 0
    sip: np.ndarray = field(default_factory=lambda: np.empty((0, 2)))

    def to_sky(self, xy: np.ndarray) -> np.ndarray:
        """(n, 2) RA and Dec in degrees of pixels (n, 2)."""
        uv = np.asarray(xy, dtype=float).reshape(-1, 2) - (self.x, self.y)
        bent = uv + monomials(uv, self.order) @ self.sip
        plane = np.radians(bent @ self.cd.T)
        east, north, out = self._axes()
        return to_degrees(out + plane[:, :1] * east + plane[:, 1:] * north)

    def to_pixels(self, sky: np.ndarray) -> np.ndarray:
        """(n, 2) pixels of places (n, 2) in degrees; NaN for what lies behind, or too far out for the distortion."""
        sky = np.asarray(sky, dtype=float).reshape(-1, 2)
        return self.pixels_of(to_vectors(sky[:, 0], sky[:, 1]))

    def pixels_of(self, vectors: np.ndarray) -> np.ndarray:
        """The same of unit vectors (n, 3)."""
        plane = self.plane_of(vectors)
        straight = np.degrees(plane) @ np.linalg.inv(self.cd).T
        if self.order < 2:
            return np.asarray(straight + np.array([self.x, self.y]))
        # The polynomials speak of the picture alone: what lies farther out than half of it again is not asked.
        half = 0.5 * max(self.width, self.height)
        straight = np.where(np.abs(straight).max(axis=1, keepdims=True) < 3 * half, straight, np.nan)
        uv = straight.copy()
        for _ in range(STEPS):
            new = straight - monomials(uv, self.order) @ self.sip
            new = np.clip(new, -4 * half, 4 * half)
            moved = np.abs(new - uv)
            uv = new
            if not (moved > 1e-7).any():
                break
        uv[np.abs(uv + monomials(uv, self.order) @ self.sip - straight).max(axis=1) > 0.01] = np.nan
        return np.asarray(uv + np.array([self.x, self.y]))

    def plane_of(self, vectors: np.ndarray) -> np.ndarray:
        """(n, 2) east and north on the tangent plane, radians; NaN behind."""
        east, north, out = self._axes()
        depth = vectors @ out
        depth = np.where(depth > 0.05, depth, np.nan)
        return np.column_stack([vectors @ east / depth, vectors @ north / depth])

    def _axes(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        ra, dec = math.radians(self.ra_deg), math.radians(self.dec_deg)
        east = np.array([-math.sin(ra), math.cos(ra), 0.0])
        north = np.array([-math.sin(dec) * math.cos(ra), -math.sin(dec) * math.sin(ra), math.cos(dec)])
        return east, north, to_vectors(self.ra_deg, self.dec_deg)

    # What it says

    @property
    def centre(self) -> tuple[float, float]:
        """RA and Dec of the middle of the picture, degrees."""
        ra, dec = self.to_sky(np.array([[(self.width - 1) / 2, (self.height - 1) / 2]]))[0]
        return float(ra), float(dec)

    @property
    def scale_arcsec(self) -> float:
        """Arcseconds a pixel in the middle."""
        return 3600.0 * math.sqrt(abs(float(np.linalg.det(self.cd))))

    @property
    def mirrored(self) -> bool:
        """True where the stored rows, drawn from the top down, show the sky as a mirror does."""
        return float(np.linalg.det(self.cd)) < 0

    @property
    def rotation_deg(self) -> float:
        """Position angle of the upward direction (against the stored rows): north through east, 0 to 360."""
        east, north = self.cd @ (0.0, -1.0)
        return math.degrees(math.atan2(east, north)) % 360.0

    @property
    def field_deg(self) -> tuple[float, float]:
        """Width and height on the sky, degrees, measured through the middle."""
        mx, my = (self.width - 1) / 2, (self.height - 1) / 2
        ends = np.array([[-0.5, my], [self.width - 0.5, my], [mx, -0.5], [mx, self.height - 0.5]])
        v = to_vectors(*self.to_sky(ends).T)
        angles = [2 * math.degrees(math.asin(min(1.0, 0.5 * float(np.linalg.norm(v[k] - v[k + 1]))))) for k in (0, 2)]
        return angles[0], angles[1]

    def moved(self, transform: np.ndarray, width: int, height: int) -> SkyMap:
        """The map of another grid of pixels.

        Parameters
        ----------
        transform : (3, 3) affine, pixels of this map -> pixels of the other.
        width, height : of the other, px.
        """
        linear = np.asarray(transform, dtype=float)[:2, :2]
        x, y = linear @ (self.x, self.y) + transform[:2, 2]
        sip = self.sip
        if self.order >= 2 and not np.allclose(linear, np.eye(2), atol=1e-12):
            # A polynomial stays one of the same order: it is fitted exactly at enough points.
            half = 0.5 * max(width, height)
            side = np.linspace(-half, half, self.order + 2)
            new = np.stack(np.meshgrid(side, side), axis=-1).reshape(-1, 2)
            old = new @ np.linalg.inv(linear).T
            bend = monomials(old, self.order) @ self.sip @ linear.T
            sip = np.linalg.lstsq(monomials(new / half, self.order), bend, rcond=None)[0]
            sip /= np.array([half ** (p + q) for p, q in powers(self.order)])[:, None]
        cd = self.cd @ np.linalg.inv(linear)
        return replace(self, x=float(x), y=float(y), cd=cd, sip=sip, width=width, height=height)

    def cards(self) -> Cards:
        """A WCS of FITS."""
        bends = self.order >= 2
        ending = "-SIP" if bends else ""
        cards: list[tuple[str, str | int | float | bool, str]] = [
            ("WCSAXES", 2, "number of axes"),
            ("CTYPE1", f"RA---TAN{ending}", "gnomonic projection"),
            ("CTYPE2", f"DEC--TAN{ending}", "gnomonic projection"),
            ("CUNIT1", "deg", "unit"),
            ("CUNIT2", "deg", "unit"),
            ("CRVAL1", self.ra_deg, "[deg] right ascension there"),
            ("CRVAL2", self.dec_deg, "[deg] declination there"),
            ("CRPIX1", self.x + 1, "[px] reference pixel, 1-based"),
            ("CRPIX2", self.y + 1, "[px] reference pixel, 1-based"),
            ("RADESYS", "ICRS", "as in Gaia DR3"),
        ]
        cards += [(f"CD{i + 1}_{j + 1}", float(self.cd[i, j]), "[deg/px]") for i in range(2) for j in range(2)]
        if bends:
            cards += _sip_cards("AB", self.order, self.sip)
            cards += _sip_cards(("AP", "BP"), self.order, self._inverse())
        return tuple(cards)

    def _inverse(self) -> np.ndarray:
        """Coefficients of the inverse polynomials, fitted over the picture: the linear terms are left out, as small."""
        columns = np.linspace(0, self.width - 1, 15) - self.x
        rows = np.linspace(0, self.height - 1, 15) - self.y
        uv = np.stack(np.meshgrid(columns, rows), axis=-1).reshape(-1, 2)
        bent = uv + monomials(uv, self.order) @ self.sip
        half = 0.5 * max(self.width, self.height)
        found = np.linalg.lstsq(monomials(bent / half, self.order), uv - bent, rcond=None)[0]
        return np.asarray(found / np.array([half ** (p + q) for p, q in powers(self.order)])[:, None])


def _sip_cards(
    names: str | tuple[str, str], order: int, values: np.ndarray
) -> list[tuple[str, str | int | float | bool, str]]:
    cards: list[tuple[str, str | int | float | bool, str]] = []
    for k, name in enumerate(names):
        cards.append((f"{name}_ORDER", order, "order of the distortion (SIP)"))
        cards += [(f"{name}_{p}_{q}", float(values[i, k]), "") for i, (p, q) in enumerate(powers(order))]
    return cards


def position_angle_deg(ra0: float, dec0: float, ra1: float, dec1: float) -> float:
    """Direction from one place to another along the great circle, 0 to 360 from north through east; all degrees."""
    step, low, high = math.radians(ra1 - ra0), math.radians(dec0), math.radians(dec1)
    east = math.sin(step) * math.cos(high)
    north = math.cos(low) * math.sin(high) - math.sin(low) * math.cos(high) * math.cos(step)
    return math.degrees(math.atan2(east, north)) % 360.0
