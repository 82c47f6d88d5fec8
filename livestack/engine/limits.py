"""What a frame's samples are tested with: the noise to expect of them, and what sets its stars apart from the stack's.

The noise model is that of the warm-up, brought to the frame's own noise and brightness. A frame of other seeing than
the stack's differs around stars by a multiple of their Laplacian, and beyond where that tells by a share of the local
range.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from livestack.base.settings import StackSettings
from livestack.detection import FWHM_PER_SIGMA
from livestack.engine.ledger import Member
from livestack.stacking.noise_model import Limits, NoiseModel

SHAPE_ERROR = 0.5
"""How far the flank of a star may be from what its Laplacian tells, as a share of the local range and for each unit of
ln(width ratio)."""
BLUR_TRUSTED = 1.25
"""Ratio of widths up to which a frame's stars are the stack's stars plus a multiple of their Laplacian."""
INTERPOLATION_GAIN = 0.75
"""Variance that interpolation leaves to a sample on average, until the warm-up has measured it."""
ASKED, GOLDEN = 60, 0.618034
"""So many frames tell what is usual."""


def limits_for(
    member: Member,
    noise: NoiseModel | None,
    origin: np.ndarray,
    settings: StackSettings,
    usual_rms_px: float,
    width_px: float | None,
    others: Sequence[Member] = (),
    own_pixels: bool = False,
    drizzled_structure: float | None = None,
) -> Limits:
    """What this frame's samples are tested with.

    Parameters
    ----------
    noise : fitted in the warm-up; None before.
    origin : (C,) sky of the reference, ADU.
    usual_rms_px : residual of matched stars that frames have.
    width_px : FWHM of the stars that it is tested against.
    others : the frames in the stack.
    own_pixels : samples are the frame's own pixels, whose noise no interpolation has made less; `drizzled_structure` as
        `Blot` has it.
    """
    factor = member.normalisation.factor
    variance = (factor * member.noise) ** 2
    structure = settings.gradient
    if noise is not None:
        left = noise.floor if own_pixels else np.ones_like(noise.floor)  # what interpolation left of the noise
        floor, slope = noise.floor / left * variance, noise.slope / np.maximum(left, 1e-6) * factor
        if noise.structure is not None:
            structure = min(max(noise.structure, 0.2 * structure), 3.0 * structure)
    else:
        floor = variance if own_pixels else INTERPOLATION_GAIN * variance
        # Photon noise unknown as yet: at most the sky's own variance is photon noise over the sky's level.
        slope = floor / np.maximum(np.abs(origin), 1.0)
    if drizzled_structure is not None:
        structure = min(max(drizzled_structure, 0.1 * settings.gradient), 3.0 * settings.gradient)
    excess, blur = _unlike(member, usual_rms_px, width_px, settings.kappa)
    louder = np.maximum(variance / np.maximum(_usual_variance(others, variance), 1e-12), 1.0)
    return Limits(floor, slope, structure, excess, blur, settings.kappa, settings.prior_dof, louder)


def _usual_variance(members: Sequence[Member], otherwise: np.ndarray) -> np.ndarray:
    """(C,) of the sky of a stack's frames on its scale, by their weights as its sum of squares has it; ADU^2.

    Of a long night by some of them, in no step in which exposures may alternate.
    """
    if len(members) > ASKED:
        members = [members[int(GOLDEN * k % 1.0 * len(members))] for k in range(ASKED)]
    total = sum(member.weight for member in members)
    if total <= 0:
        return otherwise
    each = [member.weight * (member.normalisation.factor * member.noise) ** 2 for member in members]
    return np.asarray(np.sum(each, axis=0) / total)


def _unlike(member: Member, usual_rms_px: float, width: float | None, kappa: float) -> tuple[float, float]:
    """What sets this frame's stars apart from stars of FWHM `width`: the share of the local range, and its blur."""
    excess = 0.5 * max(0.0, min(member.rms_px or 0.0, 1.0) - usual_rms_px)
    if not member.fwhm_px or not width:
        return excess, 0.0
    variance = (width / FWHM_PER_SIGMA) ** 2
    ratio = member.fwhm_px / width
    near = min(max(ratio, 1 / BLUR_TRUSTED), BLUR_TRUSTED)
    # A star's peak goes with 1 / FWHM^2; its discrete Laplacian there is 4 (exp(-1 / 2 sigma^2) - 1) of the peak.
    blur = (1.0 - near**-2) / (4.0 * (1.0 - math.exp(-0.5 / variance)))
    # Beyond where the Laplacian tells: its 3 x 3 range is this share of the peak.
    share = max(0.05, 1.0 - math.exp(-1.0 / variance))
    excess += abs(ratio**-2 - near**-2) / (kappa * share) + SHAPE_ERROR * abs(math.log(near))
    return excess, blur


def stacked_fwhm_px(members: Sequence[Member]) -> float | None:
    """Width of the stars in the stack: that of the mean of peaks, which go with 1 / FWHM^2."""
    peaks = [(member.weight, member.weight / member.fwhm_px**2) for member in members if member.fwhm_px]
    total = sum(weight for weight, _ in peaks)
    return math.sqrt(total / sum(peak for _, peak in peaks)) if total > 0 else None
