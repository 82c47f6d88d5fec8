"""What one does with a good stack: deconvolve it with its own PSF, sharpen it by scale, crop it to full coverage.

Pure steps on arrays; reading and writing files and choosing between deep sky and Moon is `products.enhance`'s.
"""

from livestack.picture.enhance.crop import full_coverage
from livestack.picture.enhance.deconvolve import Deconvolution, KernelAt, deconvolve
from livestack.picture.enhance.wavelets import DEFAULT_GAINS, MOON_GAINS, sharpen, starlet

__all__ = [
    "DEFAULT_GAINS",
    "MOON_GAINS",
    "Deconvolution",
    "KernelAt",
    "deconvolve",
    "full_coverage",
    "sharpen",
    "starlet",
]
