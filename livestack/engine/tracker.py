"""Where the next frame should lie: the last transforms of a group, its lens, and the frames that fit nowhere."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import ClassVar

import numpy as np

from livestack.base.frame import Frame
from livestack.base.settings import RegistrationSettings
from livestack.base.state import OwnState
from livestack.engine.ledger import Member
from livestack.engine.place import expect, place
from livestack.engine.reference import FEW_STARS, Patch, Reference
from livestack.engine.states import Detected
from livestack.registration import StarReference, register_stars
from livestack.registration import transform as tf
from livestack.registration.distortion import Distortion
from livestack.registration.features.smoothed import Smoothed, register_smoothed, smooth
from livestack.registration.transform import Registration, Unregistered

SAME_FIELD = 0.3
"""Two names are one target where the middles of the pictures are no farther apart than this share of the field."""
UNMATCHED_KEPT = 3
"""So many frames in a row that fit each other, and not the group, are another field, or of another size for good."""

SOFT_STARS, SOFT_SNR = 30, 15.0
"""A match of fewer stars than this, in the middle fainter than that, is asked about."""
LEAST_SOFT = 3
"""So many detections at least: in a cloud there is nothing to ask about."""
SOFT_PX = 3.0
"""The stars of soft frames wander by so much."""
Source = tuple[str, int] | None
"""The file of a frame, and which frame of it; None for one that has no file."""
STILLS_KEPT = 6
"""Transforms of the last frames, where the pattern of a sensor that stood still would lie."""


def _is_weak(detected: Detected, found: Registration | Unregistered) -> bool:
    """Whether a frame's stars were too few and too faint to be believed without being asked about."""
    stars = detected.stars
    if isinstance(found, Unregistered):
        return len(stars) >= LEAST_SOFT and float(np.median(stars.snr)) < SOFT_SNR
    few = 0 < found.n_matched < SOFT_STARS
    return few and float(np.median(stars.snr[found.frame_index])) < SOFT_SNR


def _source_of(frame: Frame) -> Source:
    return None if frame.path is None else (str(frame.path), frame.index)


class Tracker(OwnState):
    """Registers the frames of one group, one after the other.

    Attributes
    ----------
    believed : files of the refused frames that the frame noted last agrees with, where it is of another field or size.
    """

    GIVEN: ClassVar[frozenset[str]] = frozenset({"_settings"})

    def __init__(self, settings: RegistrationSettings) -> None:
        self._settings = settings
        self._last: np.ndarray | None = None
        self._before: np.ndarray | None = None
        self._lens: Distortion | None = None
        self._stills: list[np.ndarray] = []
        self._unmatched: list[tuple[StarReference, Source]] = []
        self._misfits: list[tuple[tuple[int, int, int], Source]] = []
        self.believed: list[tuple[str, int]] = []

    def register(
        self, reference: Reference, detected: Detected, luminance: Callable[[], np.ndarray]
    ) -> tuple[Registration | Unregistered, Patch | None]:
        """Where a frame lies on the group's reference, and the patch it was matched to; see `place.place`."""
        hints = expect(self._last, self._before)
        return place(reference, detected, luminance, hints, self._settings, self._lens)

    def register_soft(
        self, reference: Reference, detected: Detected, found: Registration | Unregistered,
        luminance: Callable[[], np.ndarray], deep: Callable[[], Smoothed],
    ) -> Registration | Unregistered:  # fmt: skip
        """The last resort, and the arbiter where stars say little: all of a frame's light against that of the stack.

        Parameters
        ----------
        found : what the stars have said.
        deep : gives the details of the stack, on the reference's grid.
        """
        if self._settings.method not in ("auto", "stars") or reference.starless or not _is_weak(detected, found):
            return found
        still = [np.eye(3), *self._stills]
        by_light = register_smoothed(deep(), smooth(luminance()), self._last, still)
        if by_light is None:
            return found
        index, its = reference.stars.match_near(tf.apply(by_light.matrix, detected.stars.xy), np.eye(3), SOFT_PX)
        return replace(by_light, frame_index=index, reference_index=its)

    def register_sibling(
        self, reference: Reference, detected: Detected, luminance: Callable[[], np.ndarray]
    ) -> Registration | Unregistered:
        """Where the first frame of another filter lies on this group's reference."""
        hint = np.eye(3) if self._last is None or not reference.patches else self._last
        return place(reference, detected, luminance, [hint], self._settings)[0]

    def accept(self, found: Registration) -> None:
        """The frame is in the stack: the next one is looked for from here."""
        self._before, self._last, self._lens = self._last, found.matrix, found.distortion
        self._stills = [*self._stills, found.matrix][-STILLS_KEPT:]
        self._unmatched.clear()
        self._misfits.clear()

    def go_on_from(self, members: Sequence[Member]) -> None:
        """The reference has changed: the last frames lie so on the new one."""
        self._last, self._lens = members[-1].matrix, members[-1].distortion
        self._stills = [member.matrix for member in members][-STILLS_KEPT:]
        self._before = members[-2].matrix

    def recognises(self, reference: Reference | None, detected: Detected) -> bool:
        """True when a frame, beyond doubt, shows the reference's field."""
        return self._beyond_doubt(reference, detected, np.eye(3) if self._last is None else self._last) is not None

    def points_at(self, reference: Reference | None, detected: Detected) -> bool:
        """True when a frame, beyond doubt, shows the reference's field, their middles not far from each other."""
        found = self._beyond_doubt(reference, detected, np.eye(3))
        if reference is None or found is None:
            return False
        width, height = detected.frame.info.size
        x, y = tf.apply(found.matrix, np.array([[(width - 1) / 2, (height - 1) / 2]]))[0]
        tall, wide = reference.shape
        return bool(abs(x - wide / 2) < SAME_FIELD * wide and abs(y - tall / 2) < SAME_FIELD * tall)

    def _beyond_doubt(self, reference: Reference | None, detected: Detected, hint: np.ndarray) -> Registration | None:
        """Where a frame lies on a reference, by stars so many that there is no doubt; None else."""
        if reference is None or reference.starless or min(len(detected.stars), len(reference.stars.stars)) < FEW_STARS:
            return None
        found = register_stars(reference.stars, detected.stars, [hint], self._settings)
        return found if isinstance(found, Registration) and found.n_matched >= FEW_STARS else None

    def note_misfit(self, frame: Frame) -> bool:
        """Remember a frame of another size; True when the two before it were of that size too."""
        mine = (frame.channels, *frame.info.size)
        self._misfits = [*self._misfits, (mine, _source_of(frame))][-UNMATCHED_KEPT:]
        changed = [size for size, _ in self._misfits] == [mine] * UNMATCHED_KEPT
        self.believed = [source for _, source in self._misfits[:-1] if source] if changed else []
        return changed

    def note_unmatched(self, detected: Detected) -> bool:
        """Remember a frame that fits nowhere; True when it agrees with two such before it."""
        info = detected.frame.info
        mine = StarReference(detected.stars, info.width, info.height)
        agree: list[Source] = []
        if len(detected.stars) >= FEW_STARS:
            for other, source in self._unmatched:
                if isinstance(register_stars(other, detected.stars, [np.eye(3)], self._settings), Registration):
                    agree.append(source)
        self._unmatched = [*self._unmatched, (mine, _source_of(detected.frame))][-UNMATCHED_KEPT:]
        changed = len(agree) >= 2
        self.believed = [source for source in agree if source] if changed else []
        return changed

    def forget_unmatched(self) -> None:
        """The frame that was noted last belongs elsewhere."""
        self._unmatched = self._unmatched[:-1]
