"""What one does with a good stack: deconvolve it with its own PSF, sharpen it by scale, crop it to full coverage.

Pure steps on arrays; reading and writing files and choosing between deep sky and Moon is `livestack.darkroom`'s.
"""

from livestack.enhance.crop import full_coverage
from livestack.enhance.deconvolve import Deconvolution, KernelAt, deconvolve
from livestack.enhance.wavelets import DEFAULT_GAINS, MOON_GAINS, sharpen, starlet

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
