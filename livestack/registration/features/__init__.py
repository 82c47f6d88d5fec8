"""Registration without stars: the Moon, planets, the terrain of a crater, clouds of a nebula.

Keypoints first (`keypoints`), masked phase correlation where there are none (`correlation`), both refined on the pixels
by tracking a few hundred windows; the limb of a planet or Moon on black (`disc`); `prepare` makes the pictures they
work on and knows how sharp a frame is. `faint` bears out, or not, what a star or two propose.
"""

from livestack.registration.features.disc import find_disc
from livestack.registration.features.prepare import sharpness
from livestack.registration.features.reference import FeatureReference

__all__ = ["FeatureReference", "find_disc", "sharpness"]
