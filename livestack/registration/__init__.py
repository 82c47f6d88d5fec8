"""From the stars of a frame to the transform that carries it onto the reference.

`cascade` holds `register_stars`, the order of the attempts; `asterisms` and `pairs` propose transforms without any
knowledge, `reference` counts what supports a proposal and what luck would do as well, `model` makes the final fit, and
`lens` bends it where a lens distorts.
"""

from livestack.registration.asterisms import asterisms
from livestack.registration.cascade import register_stars
from livestack.registration.reference import StarReference, reference_registration
from livestack.registration.transform import Registration, Unregistered

__all__ = ["Registration", "StarReference", "Unregistered", "asterisms", "reference_registration", "register_stars"]
