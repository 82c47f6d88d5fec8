"""The object that a group follows: where it is in each frame, its own stack, and what is taken off the frames.

It begins as a place that the user names, or is found among the sources of the frames (`following.finder`). From then on
each frame goes into two stacks: without the object's light into that of the stars, without the stars' into that of the
object (`following.two_skies`). Frames that were stacked before are read again (`engine.separate`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, ClassVar

import numpy as np

from livestack.base.settings import FollowSettings
from livestack.base.state import OwnState
from livestack.detection import FWHM_PER_SIGMA
from livestack.engine.developer import Developer
from livestack.engine.ledger import Member
from livestack.engine.reference import Reference
from livestack.engine.states import Detected
from livestack.following.finder import Found, Sources, find_moving
from livestack.following.nucleus import find_nucleus
from livestack.following.path import Path, fit_path
from livestack.following.two_skies import (
    SHARP_ERROR,
    Model,
    moved,
    moved_sky,
    object_models,
    passed_over,
    star_model,
    subtract,
)
from livestack.registration import transform as tf
from livestack.registration.distortion import to_frame, to_reference
from livestack.stacking.accumulators import Stack
from livestack.stacking.rejected_samples import RejectedSamples

LOOKED_AT = (6, 8, 11, 15, 20, 27, 36, 48, 64, 90, 128, 180, 256)
"""After so many frames a moving object is looked for."""
SOURCE_SNR, MOST_SOURCES = 6.0, 200
"""What is remembered of each frame until something is found to move."""
REACH_FWHM, FIRST_REACH_PX = 2.0, 12.0
"""How far from where it should be it may be: once its path is known, and before."""
PATCH_PX = 40
FRESH = 1.2
"""The models are made anew when the stacks have so many times as many frames."""
PATH_FRAMES = 4
"""Frames from which a path is believed that the user did not give."""
SEPARATED_FWHM = 1.5
"""The object must have gone so many widths of a star before two stacks can be told apart."""
SEEING_ERROR, MOST_BLUR = 0.3, 0.6
"""Of the correction for seeing, what may be wrong with it; and how far it goes, as a share of the model's sigma^2."""
CURVED_SHARE, CURVED_SPAN = 0.6, 0.8
"""A path may be curved where so many of the frames, over so much of the night, tell its places."""
STRAY_PX, AGAIN = 0.5, 1.25
"""Frames are read again when the path has changed by so much, and there are so many times as many of them."""


def cropped(member: Member, y: int, x: int) -> Member:
    """A member as a region of it lies that begins at (y, x)."""
    return replace(member, matrix=member.matrix @ tf.similarity(1.0, 0.0, x, y))


@dataclass(frozen=True, eq=False)
class Parted:
    """A frame's planes (C, h, w) for the stack of the stars, and for that of the object."""

    stars: np.ndarray
    object: np.ndarray


class Following(OwnState):
    """What is followed in one group.

    Attributes
    ----------
    path : None until it is known.
    velocity : px/min along x and y of the reference, where it was told how it moves.
    places : where it is, in the pixels of each frame (name, index).
    shown : its light, to be looked at.
    model_fwhm : of stars in the models, px.
    used, used_of : the path by which the object's stack was made of its first so many frames.
    stack : of the object, on the reference's grid at the path's epoch; None until it is begun.
    rejected : what that stack refused of each frame.
    """

    GIVEN: ClassVar[frozenset[str]] = frozenset({"_settings"})

    def __init__(self, settings: FollowSettings) -> None:
        self._settings = settings
        self.path: Path | None = None
        self.places: dict[tuple[str, int], tuple[float, float]] = {}
        self.stack: Stack | None = None
        self.rejected: dict[tuple[str, int], RejectedSamples] = {}
        self.stars_model: Model | None = None
        self.object_model: Model | None = None
        self.shown: Model | None = None
        self.model_fwhm: float | None = None
        self.used: Path | None = None
        self.used_of = 0
        self.refreshed = 0
        self.wanted: tuple[float, float] | None = settings.pixel
        self.velocity = settings.velocity
        self.height: float | None = None
        self.sources: list[Sources] = []
        self.first_at: datetime | None = None
        self.tried = 0
        self.gave_up = settings.is_off

    @property
    def active(self) -> bool:
        """Two stacks grow."""
        return self.stack is not None

    def follow(self, x: float, y: float, velocity: tuple[float, float] | None = None) -> None:
        """From now on what is at that place of the reference; `velocity` in px/min, where it is known."""
        self.__init__(self._settings)  # type: ignore[misc]
        self.wanted, self.gave_up = (x, y), False
        self.velocity = velocity or self.velocity

    def carry(self, to_new: np.ndarray) -> None:
        """Another reference has taken over; `to_new` (3, 3) from the one before."""
        if self.wanted is not None:
            x, y = tf.apply(to_new, np.array([self.wanted]))[0]
            self.wanted = float(x), float(y)
        if self.velocity is not None:
            along = to_new[:2, :2] @ np.array(self.velocity)
            self.velocity = float(along[0]), float(along[1])
        self.path = None

    def state(self) -> dict[str, Any]:
        """All that `restore` needs; the stack as its arrays."""
        state = super().state()
        if self.stack is not None:
            state["stack"] = (self.stack.canvas, self.stack.origin, self.stack.n_frames, self.stack.arrays())
        return state

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go on from what `state` returned."""
        super().restore(state)
        if state["stack"] is not None:
            canvas, origin, n_frames, arrays = state["stack"]
            self.stack = Stack.restore(arrays, origin, n_frames, canvas)

    # Where it is

    def observe(self, detected: Detected, member: Member, developer: Developer, reference: Reference) -> None:
        """Measure it in a frame that was stacked, or remember the frame's sources."""
        if self.gave_up:
            return
        if self.wanted is None and self.path is None:
            stars = detected.stars.select(detected.stars.snr >= SOURCE_SNR)
            stars = stars.select(np.arange(len(stars)) < MOST_SOURCES)
            on_reference = to_reference(member.matrix, member.distortion, stars.xy)
            minutes = self.minutes_of(member)
            self.sources.append(
                Sources(member.name, member.index, minutes, on_reference, stars.xy, stars.flux, stars.snr, stars.fwhm)
            )
            return
        self.measure(member, developer, reference)

    def look(self, members: Sequence[Member], reference: Reference, last: bool = False) -> Found | None:
        """Look for an object among the sources so far, when it is time to; `last`: now or never."""
        n = len(self.sources)
        due = n > self.tried and (n in LOOKED_AT or last)
        named = self.wanted is not None or self._settings.needs_sky
        if self.gave_up or self.path is not None or named or not due:
            return None
        self.tried = n
        place = {(m.name, m.index): m for m in members}
        known = [
            replace(s, xy=to_reference(place[s.name, s.index].matrix, place[s.name, s.index].distortion, s.on_frame))
            for s in self.sources
            if (s.name, s.index) in place
        ]
        found = find_moving(known, self._epoch(reference))
        if found is not None:
            self.path, self.sources = found.path, []
            self.places = dict(found.places)
        elif n >= LOOKED_AT[-1]:
            self.gave_up, self.sources = True, []
        return found

    def fit(self, members: Sequence[Member], reference: Reference) -> None:
        """The path through all places measured so far."""
        minutes, xy = [], []
        for member in members:
            place = self.places.get((member.name, member.index))
            if place is not None:
                minutes.append(self.minutes_of(member))
                xy.append(to_reference(member.matrix, member.distortion, np.array([place]))[0])
        if len(xy) >= 3:
            all_of_them = [self.minutes_of(member) for member in members]
            # a curve through places of a part of the night would lead astray in the rest of it
            known = len(xy) >= CURVED_SHARE * len(members) and np.ptp(minutes) >= CURVED_SPAN * np.ptp(all_of_them)
            path = fit_path(np.array(minutes), np.array(xy), self._epoch(reference), fast=bool(known))
            if path is not None:
                self.path = path

    def is_ready(self, members: Sequence[Member], fwhm_px: float) -> bool:
        """Whether its path is known and has taken it far enough to tell two stacks apart."""
        if self.path is None or self.active or len(self.places) < PATH_FRAMES:
            return False
        times = [self.minutes_of(member) for member in members]
        return float(np.hypot(*(self.path.at(max(times)) - self.path.at(min(times))))) >= SEPARATED_FWHM * fwhm_px

    def minutes_of(self, member: Member) -> float:
        """Middle of its exposure, minutes since the first frame."""
        return self._minutes(member.info.date_obs, member.info.exposure_s)

    # Two stacks

    def on_object(self, member: Member, field: tuple[int, int]) -> Member:
        """A member as it lies on the object's grid; `field` as in `two_skies.moved_sky`."""
        assert self.path is not None
        shift = self.path.shift(self.minutes_of(member))
        matrix, distortion = moved(member.matrix, member.distortion, shift)
        normalisation = moved_sky(member.normalisation, shift, field)
        return replace(member, matrix=matrix, normalisation=normalisation, distortion=distortion)

    def part(self, planes: np.ndarray, member: Member) -> Parted:
        """A frame without the object, and without the stars."""
        return Parted(self.without_object(planes, member), self.without_stars(planes, member))

    def without_object(self, planes: np.ndarray, member: Member) -> np.ndarray:
        """A frame's planes, or a region of them, as they go into the stack of the stars."""
        if self.object_model is None:
            return planes
        assert self.path is not None
        matrix, distortion = moved(member.matrix, member.distortion, self.path.shift(self.minutes_of(member)))
        return subtract(planes, self.object_model, matrix, member.normalisation, distortion, self._blur(member))

    def without_stars(self, planes: np.ndarray, member: Member) -> np.ndarray:
        """The same for the stack of the object."""
        if self.stars_model is None:
            return planes
        lies = member.matrix, member.normalisation, member.distortion
        return subtract(planes, self.stars_model, *lies, self._blur(member))

    def refresh(self, stars: Stack, members: Sequence[Member], fwhm_px: float, always: bool = False) -> None:
        """Make the models anew, where the stacks have grown by enough."""
        if self.stack is None or self.path is None or not (always or len(members) >= FRESH * self.refreshed):
            return
        self.refreshed = len(members)
        self.model_fwhm = fwhm_px
        # what the correction for seeing leaves is a share of it
        blurs = [abs(self._blur(member)) for member in members]
        sharp = SHARP_ERROR + SEEING_ERROR * float(np.quantile(blurs, 0.8))
        noise = np.median([member.noise * member.normalisation.factor for member in members], axis=0)
        x, y = (float(value) for value in self.path.coefficients[0])
        self.object_model, self.shown = object_models(self.stack, x, y, fwhm_px, noise, sharp)
        shifts = np.array([self.path.shift(self.minutes_of(member)) for member in members])
        self.stars_model = star_model(stars, noise, sharp, passed_over(self.shown, shifts, stars.canvas))

    def light_at(self, member: Member) -> Model | None:
        """The object's light where it was when a frame was taken, to the pixel; None before it is followed."""
        if self.shown is None or self.path is None:
            return None
        dx, dy = (round(float(step)) for step in self.path.shift(self.minutes_of(member)))
        canvas = self.shown.canvas
        return Model(self.shown.light, replace(canvas, left=canvas.left + dx, top=canvas.top + dy))

    def gone_by(self, member: Member) -> np.ndarray | None:
        """(2,) how far it had gone since the epoch of its stack, px; None before it is followed."""
        return self.path.shift(self.minutes_of(member)) if self.active and self.path is not None else None

    def measure(self, member: Member, developer: Developer, reference: Reference) -> None:
        """Where it is in a frame, the stars taken off as they are known; a place that is far off is forgotten."""
        key = member.name, member.index
        place = self._place_in(member, developer, reference)
        if place is not None:
            self.places[key] = place
        elif self.path is not None and key in self.places:
            before = to_reference(member.matrix, member.distortion, np.array([self.places[key]]))[0]
            if np.hypot(*(before - self.path.at(self.minutes_of(member)))) > STRAY_PX:
                del self.places[key]

    def strays(self, members: Sequence[Member]) -> bool:
        """Whether the path has left the one by which the object's stack was made."""
        if self.path is None or self.used is None or len(members) < AGAIN * self.used_of:
            return False
        times = [self.minutes_of(member) for member in members]
        return max(float(np.hypot(*(self.path.at(t) - self.used.at(t)))) for t in times) > STRAY_PX

    # Inside

    def _blur(self, member: Member) -> float:
        """As in `two_skies.subtract`."""
        if member.fwhm_px is None or self.model_fwhm is None:
            return 0.0
        difference = (member.fwhm_px**2 - self.model_fwhm**2) / FWHM_PER_SIGMA**2
        most = MOST_BLUR * (self.model_fwhm / FWHM_PER_SIGMA) ** 2
        return 0.5 * float(np.clip(difference, -most, most))

    def _place_in(self, member: Member, developer: Developer, reference: Reference) -> tuple[float, float] | None:
        minutes = self.minutes_of(member)
        fwhm, rate = reference.stars.stars.fwhm_px or 3.0, self.velocity
        drift = np.array(rate or (0.0, 0.0)) * (minutes - self._epoch(reference))
        if self.path is not None:
            expected, reach = self.path.at(minutes), REACH_FWHM * fwhm
        else:
            assert self.wanted is not None
            expected = np.array(self.wanted) + drift
            # elements give the motion well, the place only to some arcseconds or minutes
            reach = REACH_FWHM * fwhm if self._settings.velocity is not None else FIRST_REACH_PX
        x, y = to_frame(member.matrix, member.distortion, expected[None])[0]
        height, width = developer.shape
        x0, x1 = max(0, round(x) - PATCH_PX), min(width, round(x) + PATCH_PX + 1)
        y0, y1 = max(0, round(y) - PATCH_PX), min(height, round(y) + PATCH_PX + 1)
        if x1 - x0 < PATCH_PX or y1 - y0 < PATCH_PX:
            return None
        region = developer.region(y0, y1, x0, x1, None)
        patch = np.mean(self.without_stars(region, cropped(member, y0, x0)), axis=0)
        nucleus = find_nucleus(patch, x - x0, y - y0, reach, fwhm, self.height)
        if nucleus is None:
            return None
        self.height = nucleus.height if self.height is None else 0.8 * self.height + 0.2 * nucleus.height
        place = nucleus.x + x0, nucleus.y + y0
        if self.path is None:
            at = to_reference(member.matrix, member.distortion, np.array([place]))[0] - drift
            self.wanted = float(at[0]), float(at[1])
        return place

    def _epoch(self, reference: Reference) -> float:
        return self._minutes(reference.info.date_obs, reference.info.exposure_s)

    def _minutes(self, start: datetime | None, exposure_s: float | None) -> float:
        if start is None:
            return 0.0
        if self.first_at is None:
            self.first_at = start
        return (start - self.first_at).total_seconds() / 60 + (exposure_s or 0.0) / 120
