"""Where a picture points: its stars matched to the catalogue of Gaia, with a hint or without one."""

from livestack.astrometry.catalogue import Catalogue
from livestack.astrometry.sky_map import SkyMap
from livestack.astrometry.solver import Hint, Solved, Solver, Unsolved

__all__ = ["Catalogue", "Hint", "SkyMap", "Solved", "Solver", "Unsolved"]
