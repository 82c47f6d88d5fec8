"""Where a frame lies on a reference: by its stars, by way of a patch, by what else it shows, or where it lies already.

`place` tries what the settings allow in the order of DESIGN: the reference's stars and those of its patches, likeliest
first; where stars are few or none, the limb of a disc on black, keypoints and phase correlation. How each way works is
`registration`'s business, what becomes of the answer `group`'s.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial

import numpy as np

from livestack.base.frame import FrameInfo
from livestack.base.settings import RegistrationSettings
from livestack.detection import StarCatalog
from livestack.engine.reference import FEW_STARS, Patch, Reference, nearest_patches
from livestack.engine.states import Detected
from livestack.registration import register_stars
from livestack.registration import transform as tf
from livestack.registration.distortion import Distortion, to_reference
from livestack.registration.transform import Registration, Unregistered

ALIGNED_PX = 3.0
"""Stars of frames that are said to be aligned are found within this."""


def place(
    reference: Reference,
    detected: Detected,
    luminance: Callable[[], np.ndarray],
    hints: Sequence[np.ndarray],
    settings: RegistrationSettings,
    lens: Distortion | None = None,
) -> tuple[Registration | Unregistered, Patch | None]:
    """Carry a frame onto a reference.

    Parameters
    ----------
    luminance : gives the frame's pixels, (H, W) float32; asked for only where stars do not tell.
    hints : (3, 3) each, where the frame is expected, likeliest first; may be empty.
    lens : distortion of the frame before.

    Returns
    -------
    Its transform, or why there is none; and the patch that it was matched to, None = the reference itself.
    """
    if settings.method == "none":
        return _in_place(reference, detected.stars), None
    if settings.method == "auto" and reference.features is not None and reference.features.disc is not None:
        by_limb = reference.features.register_disc(luminance())
        if by_limb is not None:
            return by_limb, None
    found: Registration | Unregistered = Unregistered("registration by stars is switched off")
    if settings.method in ("auto", "stars") and not (reference.starless and settings.method == "auto"):
        for patch in nearest_patches(reference, hints[0] if hints else None):
            if patch is None:
                witness = partial(_borne_out, reference, detected, luminance)
                found = mine = register_stars(reference.stars, detected.stars, list(hints), settings, lens, witness)
            else:
                back = np.linalg.inv(patch.matrix)
                mine = register_stars(patch.stars, detected.stars, [back @ hint for hint in hints], settings)
            if isinstance(mine, Registration):
                return (mine if patch is None else _by_way_of(patch, mine, detected.frame.info)), patch
    few = reference.starless or min(len(detected.stars), len(reference.stars.stars)) < FEW_STARS
    wanted = settings.method in ("features", "phase") or (settings.method == "auto" and few)
    if reference.features is None or not wanted:
        return found, None
    methods = ("features", "phase") if settings.method == "auto" else (settings.method,)
    return reference.features.register(luminance(), hints[0] if hints else None, methods=methods), None


def expect(last: np.ndarray | None, before: np.ndarray | None) -> list[np.ndarray]:
    """Where the next frame should lie: the last transform carried on by its drift, then the last one itself."""
    if last is None:
        return []
    return [last] if before is None else [last @ np.linalg.inv(before) @ last, last]


def _in_place(reference: Reference, stars: StarCatalog) -> Registration:
    """A frame that lies on the reference already; the stars that agree tell its brightness."""
    index, its = reference.stars.match_near(stars.xy, np.eye(3), ALIGNED_PX)
    away = np.hypot(*(stars.xy[index] - reference.stars.stars.xy[its]).T)
    rms = float(np.sqrt(np.mean(away**2))) if len(index) else math.nan
    return Registration(np.eye(3), "none", index, its, rms)


def _borne_out(
    reference: Reference, detected: Detected, luminance: Callable[[], np.ndarray], matrix: np.ndarray
) -> bool:
    """Whether the pixels bear out a transform that rests on a star or two."""
    if reference.features is None:
        return False
    return reference.features.agrees(luminance(), matrix, reference.stars.stars.xy, detected.stars.xy)


def _by_way_of(patch: Patch, found: Registration, info: FrameInfo) -> Registration:
    """A frame that was registered to a patch, on the reference."""
    if patch.distortion is None and found.distortion is None:
        return replace(found, matrix=patch.matrix @ found.matrix)

    def onto(points: np.ndarray) -> np.ndarray:
        return to_reference(patch.matrix, patch.distortion, to_reference(found.matrix, found.distortion, points))

    matrix, distortion = tf.relay(info.width, info.height, onto)
    return replace(found, matrix=matrix, distortion=distortion)
