"""Stars' light through the night: measured in each frame's own pixels, compared with that of all others.

`measure` takes the light of known places out of one frame, `ensemble` tells what the sky did to all stars from what one
of them did alone, `curves` holds what has come of it.
"""

from livestack.photometry.curves import BLENDED, COSMIC, DEFECT, EDGE, POOR, SATURATED, Curves

__all__ = ["BLENDED", "COSMIC", "DEFECT", "EDGE", "POOR", "SATURATED", "Curves"]
