"""The point spread function: how a star's light is smeared over the sensor, measured from the stars themselves.

`measure_psf` fits isolated, unsaturated stars (`measure`), averages them robustly into a `PSFModel` (`model`) and
describes how the image of a star changes across the field (`field`). All of it is pure: an image in, values out.

**Which FWHM?** That of the light as it falls on the sensor, before the pixels average it: the fit averages the profile
over each pixel, so that a star drawn on a fine grid with a FWHM of 2.00 px and then binned measures 2.00 px. Programs
that fit the profile at the pixel centres report about sqrt(FWHM^2 + 0.46) px instead (2.11 for 2.00).
"""

from livestack.detection import FWHM_PER_SIGMA
from livestack.detection.psf.field import Cell, FieldMap, map_field
from livestack.detection.psf.measure import measure_psf
from livestack.detection.psf.model import CSV_COLUMNS, Profile, PSFModel, StarTable
from livestack.detection.psf.sample import RowSample, plan_sample

__all__ = [
    "CSV_COLUMNS", "FWHM_PER_SIGMA", "Cell", "FieldMap", "PSFModel", "Profile", "RowSample", "StarTable", "map_field",
    "measure_psf", "plan_sample",
]  # fmt: skip
