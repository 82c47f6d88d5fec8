"""Cosmic rays, hot pixels and pieces of a trail among a handful of stars: what has another width is no star.

In a frame of many stars a few of them change nothing; beside three stars they are the majority, and the frame's FWHM,
its number of stars and its weight would be theirs.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from livestack.detection import StarCatalog
from livestack.engine.states import Detected, Held
from livestack.registration.transform import Registration

FEW = 40
"""Above so many stars hits do not matter."""
NARROW, WIDE = 0.75, 1.6
"""Of the width of the stars: hits are narrower than this, pieces of a trail wider."""
LEAST_MATCHED = 3


def without_hits(detected: Detected, found: Registration) -> tuple[Detected, Registration]:
    """A registered frame without what is much narrower or wider than its matched stars."""
    stars = detected.stars
    widths = stars.fwhm[found.frame_index]
    if len(stars) > FEW or np.isfinite(widths).sum() < LEAST_MATCHED:
        return detected, found
    keep = ~_unlike(stars, float(np.nanmedian(widths)))
    keep[found.frame_index] = True
    if keep.all():
        return detected, found
    places = np.cumsum(keep) - 1
    return replace(detected, stars=stars.select(keep)), replace(found, frame_index=places[found.frame_index])


def clean_first(held: Sequence[Held], name: str) -> list[Held]:
    """The frames of a warm-up, the one called `name`, which all others were registered to, without hits as they are."""
    others = [one.stars.fwhm_px for one in held if one.member.name != name and one.stars.fwhm_px]
    if len(others) < LEAST_MATCHED:
        return list(held)
    return [_clean(one, float(np.median(others))) if one.member.name == name else one for one in held]


def _clean(one: Held, width: float) -> Held:
    if len(one.stars) > FEW or one.measures.fwhm_px is None:
        return one
    hits = _unlike(one.stars, width)
    if not hits.any() or (~hits).sum() < LEAST_MATCHED:
        return one
    stars = one.stars.select(~hits)
    measures = replace(
        one.measures, n_stars=len(stars), n_matched=len(stars), fwhm_px=stars.fwhm_px,
        eccentricity=stars.median_eccentricity, elongation_deg=stars.elongation_deg,
    )  # fmt: skip
    member = replace(one.member, fwhm_px=stars.fwhm_px)
    return replace(one, member=member, measures=measures, detected=replace(one.detected, stars=stars))


def _unlike(stars: StarCatalog, width: float) -> np.ndarray:
    """(n,) bool: measured, and much narrower or wider than stars of FWHM `width`."""
    with np.errstate(invalid="ignore"):
        other = (stars.fwhm < NARROW * width) | (stars.fwhm > WIDE * width)
    return np.asarray(np.isfinite(stars.fwhm) & other)
