"""Master frames: building them from bias, dark, flat and dark-flat frames, and choosing those that fit a light.

`build` makes them (`grouping` decides what belongs together, `combine` averages), `files` keeps them, `library` matches
them to lights and turns them into what `livestack.calibrate` subtracts and divides by, `flaws` finds defective pixels.
"""

from livestack.calibrate import MatchedMasters
from livestack.masters.build import BuiltMaster, MastersReport, build_masters
from livestack.masters.files import Master
from livestack.masters.library import MasterLibrary, load_masters

__all__ = [
    "BuiltMaster",
    "Master",
    "MasterLibrary",
    "MastersReport",
    "MatchedMasters",
    "build_masters",
    "load_masters",
]
