"""Master frames: building them from bias, dark, flat and dark-flat frames, and choosing those that fit a light.

`build` makes them (`grouping` decides what belongs together, `combine` averages), `files` keeps them, `library` matches
them to lights and makes them what `calibration.calibrate` subtracts and divides by, `flaws` finds defective pixels.
"""

from livestack.calibration.calibrate import MatchedMasters
from livestack.calibration.masters.build import BuiltMaster, MastersReport, build_masters
from livestack.calibration.masters.files import Master
from livestack.calibration.masters.library import MasterLibrary, load_masters

__all__ = [
    "BuiltMaster",
    "Master",
    "MasterLibrary",
    "MastersReport",
    "MatchedMasters",
    "build_masters",
    "load_masters",
]
