"""What is known of the sky in a stack: where it lies, and how faint it reaches."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from livestack.astrometry.sky_map import SkyMap


@dataclass(frozen=True, eq=False)
class FieldStars:
    """Stars of the catalogue in a solved field and around it, brightest first.

    Attributes
    ----------
    sky : (n, 2) RA and Dec, degrees; g : (n,) magnitude in Gaia's G; ids : (n,) as in `Catalogue`.
    bp_rp : (n,) colour index, NaN where it is not known; None: of none.
    """

    sky: np.ndarray
    g: np.ndarray
    ids: np.ndarray
    bp_rp: np.ndarray | None = None

    def nearest(self, sky: np.ndarray, within_arcsec: float) -> np.ndarray:
        """(k,) index of the star at each place (k, 2) in degrees; -1 where there is none."""
        found = np.full(len(sky), -1)
        for k, (ra, dec) in enumerate(sky):
            if not np.isfinite(ra + dec) or not len(self.g):
                continue
            along = (self.sky[:, 0] - ra + 180.0) % 360.0 - 180.0
            off = np.hypot(along * np.cos(np.radians(dec)), self.sky[:, 1] - dec) * 3600.0
            best = int(np.argmin(off))
            found[k] = best if off[best] <= within_arcsec else -1
        return found


@dataclass(frozen=True, eq=False)
class SkyFacts:
    """A solved field, and what its catalogue stars tell of the light.

    Attributes
    ----------
    sky : from the pixels of the reference (of the grid that a group's frames are registered to) to the sky.
    solver : what found it: "livestack", or the name of a program.
    rms_arcsec : scatter of the matched stars, root mean square of the distances.
    n_stars : matched with the catalogue.
    field : stars of the catalogue there.
    zero_point : magnitude (Gaia's G) of a star of 1 ADU/s in the green or only channel; None: not known.
    limit_mag : faintest point source that the stack shows at 5 sigma; None: not known.
    sky_mag : brightness of the sky, mag/arcsec^2; None: not known.
    limits : (frames stacked, limit_mag) as the stack grew.
    zero_points : of each channel, R, G, B; one for mono; empty: not known.
    colour_term : magnitudes that the zero point is higher for a star whose BP - RP is one larger than `colour_pivot`,
        for which it holds; None: not known.
    """

    sky: SkyMap
    solver: str
    rms_arcsec: float
    n_stars: int
    field: FieldStars | None = None
    zero_point: float | None = None
    limit_mag: float | None = None
    sky_mag: float | None = None
    limits: tuple[tuple[int, float], ...] = ()
    zero_points: tuple[float, ...] = ()
    colour_term: float | None = None
    colour_pivot: float | None = None
