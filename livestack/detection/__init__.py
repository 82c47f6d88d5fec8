"""Stars and sky of one frame: detected once, on binned data; refined on full-size windows.

Detection (sky on a mesh, matched filter, peaks told apart by how far they rise above where they meet) looks at a
binned frame; accuracy comes from the windowed centroids at full size. A mosaic is measured on the mean of each 2 x 2
cell, one of every colour, so that no chromatic checkerboard pulls a centroid. What is matched with what is
`registration`'s.
"""

from livestack.detection.catalogue import FWHM_PER_SIGMA, StarCatalog
from livestack.detection.detect import find_stars, luminance
from livestack.detection.sky import MESH_SAMPLES, Sky, measure_sky, phase_planes, terraces_of

__all__ = [
    "FWHM_PER_SIGMA",
    "MESH_SAMPLES",
    "Sky",
    "StarCatalog",
    "find_stars",
    "luminance",
    "measure_sky",
    "phase_planes",
    "terraces_of",
]
