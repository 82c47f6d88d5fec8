"""What is known of the sky in a stack: where it lies, and how faint it reaches."""

from __future__ import annotations

from dataclasses import dataclass

from livestack.astrometry.sky_map import SkyMap


@dataclass(frozen=True, eq=False)
class SkyFacts:
    """A solved field, and what its catalogue stars tell of the light.

    Attributes
    ----------
    sky : from the pixels of the reference (of the grid that a group's frames are registered to) to the sky.
    solver : what found it: "livestack", or the name of a program.
    rms_arcsec : scatter of the matched stars, root mean square of the distances.
    n_stars : matched with the catalogue.
    zero_point : magnitude (Gaia's G) of a star of 1 ADU/s in the green or only channel; None: not known.
    limit_mag : faintest point source that the stack shows at 5 sigma; None: not known.
    sky_mag : brightness of the sky, mag/arcsec^2; None: not known.
    limits : (frames stacked, limit_mag) as the stack grew.
    """

    sky: SkyMap
    solver: str
    rms_arcsec: float
    n_stars: int
    zero_point: float | None = None
    limit_mag: float | None = None
    sky_mag: float | None = None
    limits: tuple[tuple[int, float], ...] = ()
