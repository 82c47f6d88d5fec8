"""One target through one filter: its reference, its judge, its warm-up and its stack.

`offer` carries a prepared frame through registration, judging, normalising and stacking, in that order, and says what
became of it. The first frame that is any good sets the grid. When the warm-up is full its frames are judged against
each other: if one is clearly better than the first, it becomes the reference; then they are combined robustly and
streaming begins. Which group a frame belongs to is `pipeline`'s to say.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np

from livestack.base.errors import UsageError
from livestack.base.frame import Frame, FrameInfo
from livestack.base.resources import canvas_pixels
from livestack.base.settings import Settings
from livestack.calibration.cosmetic import DefectLearner
from livestack.calibration.defects import DefectMap
from livestack.detection import StarCatalog
from livestack.engine.ledger import Held, Member, Outcome
from livestack.engine.limits import INTERPOLATION_GAIN, limits_for, stacked_fwhm_px
from livestack.engine.place import expect, place
from livestack.engine.prepare import Developer, Prepared
from livestack.engine.reference import (
    FEW_STARS,
    Patch,
    Reference,
    carry_over,
    exposure_ratio,
    extend,
    find_better,
    is_starless,
    make_reference,
    refine_positions,
    weigh_anew,
)
from livestack.kernels.bands import Bands
from livestack.quality import (
    FrameMeasures,
    Judge,
    Verdict,
    Warnings,
    content_stats,
    not_a_light,
    refuse,
)
from livestack.registration import StarReference, reference_registration, register_stars
from livestack.registration import transform as tf
from livestack.registration.distortion import Distortion
from livestack.registration.features import FeatureReference, find_disc, sharpness
from livestack.registration.transform import Registration, Unregistered
from livestack.stacking.accumulators import Added, Limits, NoiseModel, Normalisation, RejectedSamples, Stack, WarmSample
from livestack.stacking.canvas import Canvas, footprint
from livestack.stacking.normalise import flux_ratio, normalise

UNMATCHED_KEPT = 3
"""So many frames in a row that fit each other, and not the group, are another field, or of another size for good."""
PATIENCE = 5
"""So many frames of a filter may fit no other filter of the target before they get a grid of their own."""
DISC_STARS = 40
"""A planet's belts and a Moon's craters are taken for so many stars at most."""
LEARN_FROM_ALL, LEARN_EVERY = 24, 4
"""Defects are learned from each of the first frames; a sensor grows new ones slowly, so later from some."""


class GroupStack:
    """Everything about one target through one filter.

    Parameters
    ----------
    name : of the group, a slug; `settings`, `bands` as everywhere.
    anchor : reference of a sibling (the same target through another filter) whose grid this group shares.
    on_reference : told when a frame becomes the reference (name, index, why).
    keep : where the rejected samples of each frame are kept; None holds them in memory.
    grids : asked (name, header of the first frame) for the groups whose grid this one may share, likeliest first.
    peers : asked (name) for the groups on the same grid, this one among them: they share one canvas.

    Attributes
    ----------
    grid : name of the group whose reference frame is the grid: its own, or a sibling's.
    """

    def __init__(
        self,
        name: str,
        settings: Settings,
        bands: Bands,
        anchor: Reference | None = None,
        on_reference: Callable[[Reference, str], None] | None = None,
        keep: Callable[[RejectedSamples], RejectedSamples] | None = None,
        grids: Callable[[str, FrameInfo], Sequence[GroupStack]] | None = None,
        peers: Callable[[str], Sequence[GroupStack]] | None = None,
    ) -> None:
        self.name = name
        self.grid = name
        self.lends_grid = False
        self._grids = grids
        self._peers = peers
        self.settings = settings
        self.bands = bands
        self.anchor = anchor
        self.on_reference = on_reference
        self._keep = keep or (lambda rejected: rejected)
        self.reference: Reference | None = None
        self.stack: Stack | None = None
        self.judge = Judge(settings.quality)
        self.warnings = Warnings()
        self.noise: NoiseModel | None = None
        self.members: list[Member] = []
        self.n_refused = 0
        self.warming = True
        self.master_defects: DefectMap | None = None
        self.history: tuple[str, ...] = ()
        self.newest: tuple[np.ndarray, np.ndarray, Normalisation, float] | None = None
        """Planes, matrix, normalisation and share of the weight of the frame stacked last, for whoever shows it."""
        self._held: list[Held] = []
        self._chosen: FrameMeasures | None = None
        self._learner: DefectLearner | None = None
        self._last: np.ndarray | None = None
        self._before: np.ndarray | None = None
        self._lens: Distortion | None = None
        self._learned_at: np.ndarray | None = None
        self._unmatched: list[StarReference] = []
        self.opened_for: tuple[int, int, int] | None = None
        """Channels, width and height of the frame that the group was opened for."""
        self._misfits: list[tuple[int, int, int]] = []
        self._fingerprints: dict[int, str] = {}
        self._told_full = False

    # What the world may ask

    @property
    def n_stacked(self) -> int:
        """Frames in the stack."""
        return len(self.members)

    @property
    def exposure_s(self) -> float:
        """Accepted exposure in all."""
        return sum(member.info.exposure_s or 0.0 for member in self.members)

    @property
    def defects(self) -> DefectMap | None:
        """Pixels of the sensor that are not to be trusted, by masters or learned."""
        if not self.settings.calibration.cosmetic:
            return None
        learned = self._learner.defects() if self._learner is not None else None
        if learned is None or self.master_defects is None:
            return learned if self.master_defects is None else self.master_defects
        return learned | self.master_defects

    # One frame

    def offer(self, prepared: Prepared) -> Outcome:
        """Carry one frame through; says what became of it."""
        frame = prepared.frame
        outcome = self._start(prepared)
        twin = self._fingerprints.get(prepared.fingerprint)
        if twin is not None:
            return self._refuse(outcome, refuse("duplicate", detail=twin))
        if not self.fits(frame):
            refused = self._refuse(outcome, refuse("wrong_size", detail=self._misfit(frame)))
            return replace(refused, new_target=self._note_misfit(frame))
        if self.reference is not None and frame.info.is_master and not self.reference.info.is_master:
            said = "its header says that it is a stack already, the others are single exposures; merge it afterwards"
            return self._refuse(outcome, refuse("not_a_light", detail=said))
        unlit = not_a_light(frame.info, content_stats(prepared.sky, prepared.stars), self.judge, prepared.data)
        if unlit is not None:
            return self._refuse(outcome, unlit)

        begin = time.perf_counter()
        developer = Developer(prepared, self.settings.calibration.debayer, keep_raw=self.warming)
        found, patch = self._register(prepared, developer)
        outcome.timings_s["register"] = time.perf_counter() - begin
        if isinstance(found, Unregistered):
            changed = self._note_unmatched(prepared)
            refused = self._refuse(outcome, refuse("no_registration", detail=found.message))
            return replace(refused, new_target=changed, warnings=self._warn(refused, None))
        assert self.reference is not None

        ratio = self._flux_ratio(prepared.stars, found, patch)
        measures = self._measure(prepared, developer, found, ratio)
        outcome = replace(
            outcome,
            transform=found.matrix,
            distortion=found.distortion,
            method=found.method,
            n_matched=found.n_matched,
            rms_px=measures.rms_px,
            transparency=measures.transparency,
        )
        verdict = self.judge.judge(measures)
        moved = tf.decompose(found.matrix, frame.info.width, frame.info.height)
        grows = self.settings.stack.canvas == "union"
        warned = tuple(self.warnings.update(measures, moved, None if grows else frame.info.size))
        if not verdict.accepted:
            return replace(self._refuse(outcome, verdict), warnings=warned)

        self._learn_defects(prepared, found.matrix)
        normalisation = self._normalise(prepared, found, ratio)
        member = Member(
            frame.name, frame.path, frame.index, replace(frame.info, cards=(), oddities=()), found.matrix,
            normalisation, verdict.weight,
            prepared.sky.noise.astype(float), measures.fwhm_px, measures.rms_px,
            RejectedSamples.pack(np.empty(0, np.int64)), distortion=found.distortion,
        )  # fmt: skip
        warned += self._make_room(member, developer.shape)
        if grows and not self._lands(member, developer.shape):
            outside = refuse("no_registration", detail="it lies wholly outside the canvas, which is full")
            return replace(self._refuse(outcome, outside), warnings=warned)
        added = self._add(member, developer, outcome)
        if not self.warming and self.settings.quality.enabled:
            verdict = self.judge.judge(replace(measures, rejected_fraction=added.rejected_fraction))
            if not verdict.accepted:
                self._take_out(replace(member, rejected=added.rejected), developer)
                return replace(self._refuse(outcome, verdict), warnings=warned, normalisation=normalisation)
        kept = member.rejected if self.warming else self._keep(added.rejected)
        member = replace(member, rejected=kept, rejected_fraction=added.rejected_fraction)
        self.members.append(member)
        self.judge.accept(measures)
        self._fingerprints[prepared.fingerprint] = frame.name
        self._before, self._last, self._lens = self._last, found.matrix, found.distortion
        self._unmatched.clear()
        self._misfits.clear()
        if grows:
            self.reference = extend(self.reference, prepared, found, normalisation, ratio)
        if self.warming:
            self._held.append(Held(member, developer, prepared.stars, measures, replace(prepared, data=None)))
            if len(self._held) >= (1 if self.settings.stack.mode == "maximum" else self.settings.stack.warmup_frames):
                self.finish_warmup()
        member = self.members[-1]  # as it stands now: the end of the warm-up may have brought another reference
        return replace(
            outcome, status="stacked", transform=member.matrix, distortion=member.distortion, weight=member.weight,
            normalisation=member.normalisation, warnings=warned,
            rejected_fraction=None if self.warming else member.rejected_fraction,
        )  # fmt: skip

    def _start(self, prepared: Prepared) -> Outcome:
        """The outcome's fields that are known before anything is compared."""
        frame, stars = prepared.frame, prepared.stars
        return Outcome(
            name=frame.name, path=frame.path, index=frame.index, group=self.name, status="refused", n_stars=len(stars),
            fwhm_px=stars.fwhm_px, eccentricity=stars.median_eccentricity, elongation_deg=stars.elongation_deg,
            sky_adu=prepared.sky.level_adu, noise_adu=prepared.sky.noise_adu, exposure_s=frame.info.exposure_s,
            date_obs=frame.info.date_obs, timings_s=dict(prepared.timings_s),
        )  # fmt: skip

    def _refuse(self, outcome: Outcome, verdict: Verdict) -> Outcome:
        self.n_refused += 1
        return replace(outcome, status="refused", reason=verdict.reason, message=f"{outcome.name}: {verdict.message}")

    def fits(self, frame: Frame) -> bool:
        """True when a frame has the size and the channels of this group's, or there are none yet."""
        return self.reference is None or (
            frame.channels == self._grid_shape()[0] and frame.info.size == self.reference.info.size
        )

    def _misfit(self, frame: Frame) -> str:
        assert self.reference is not None
        info = self.reference.info
        return (
            f"{frame.info.width} x {frame.info.height} with {frame.channels} channel(s), the session has "
            f"{info.width} x {info.height} with {self._grid_shape()[0]}; stack it in a session of its own"
        )

    def _grid_shape(self) -> tuple[int, int, int]:
        assert self.stack is not None
        return self.stack.shape

    # Registration

    def _register(self, prepared: Prepared, developer: Developer) -> tuple[Registration | Unregistered, Patch | None]:
        if self.reference is None:
            return self._first(prepared, developer), None
        hints = expect(self._last, self._before)
        return self._place(self.reference, prepared, developer, hints, self._lens)

    def _place(
        self,
        reference: Reference,
        prepared: Prepared,
        developer: Developer,
        hints: Sequence[np.ndarray],
        lens: Distortion | None = None,
    ) -> tuple[Registration | Unregistered, Patch | None]:
        pixels = partial(self._luminance, developer)
        return place(reference, prepared, pixels, hints, self.settings.registration, lens)

    def _luminance(self, developer: Developer) -> np.ndarray:
        return np.asarray(np.mean(developer.whole(self.defects, self.bands), axis=0, dtype=np.float32))

    def _first(self, prepared: Prepared, developer: Developer) -> Registration | Unregistered:
        """The first frame sets the grid, or takes its place on the sibling's."""
        found: Registration = reference_registration(len(prepared.stars))
        info, why = prepared.frame.info, "the first frame"
        siblings = self._grids(self.name, info) if self._grids is not None else ()
        for sibling in siblings:
            assert sibling.reference is not None
            if self.settings.registration.method == "none" and info.size != sibling.reference.info.size:
                continue
            expected = np.eye(3) if sibling._last is None or not sibling.reference.patches else sibling._last
            placed, _ = self._place(sibling.reference, prepared, developer, [expected])
            if isinstance(placed, Registration):
                self.anchor, self.grid = sibling.reference, sibling.grid
                sibling.lends_grid = True
                found = replace(
                    found,
                    matrix=placed.matrix,
                    method=placed.method,
                    rms_px=placed.rms_px,
                    distortion=placed.distortion,
                )
                break
        else:
            if siblings and info.object_name and self.n_refused < PATIENCE:
                # the header says that it is the same target: a cloud, not another grid
                return Unregistered(f"it does not fit the frames of {siblings[0].name}, the same target")
            if siblings and info.object_name:
                why = f"the first frame after {PATIENCE} that do not fit those of {siblings[0].name}, the same target"
        self._set_reference(prepared, developer, found, why)
        return found

    def recognises(self, prepared: Prepared) -> bool:
        """True when a frame, beyond doubt, shows this group's field."""
        reference = self.reference
        if reference is None or reference.starless or min(len(prepared.stars), len(reference.stars.stars)) < FEW_STARS:
            return False
        hint = np.eye(3) if self._last is None else self._last
        found = register_stars(reference.stars, prepared.stars, [hint], self.settings.registration)
        return isinstance(found, Registration) and found.n_matched >= FEW_STARS

    def forget_unmatched(self) -> None:
        """The frame refused last was no frame of this group."""
        self.n_refused -= 1
        self._unmatched = self._unmatched[:-1]

    def stand_alone(self) -> None:
        """Stop looking for a sibling's grid: the next frame sets a grid of its own."""
        self._grids = None

    def adopt_reference(self, prepared: Prepared) -> None:
        """Register everything to this frame, which need not be stacked itself."""
        developer = Developer(prepared, self.settings.calibration.debayer)
        found = reference_registration(len(prepared.stars))
        self._set_reference(prepared, developer, found, "chosen by the user")
        self._chosen = self._measure(prepared, developer, found, 1.0 if len(prepared.stars) else None)
        self.judge.set_reference(self._chosen)

    def _set_reference(
        self,
        prepared: Prepared,
        developer: Developer,
        found: Registration,
        why: str,
        to_new: np.ndarray | None = None,
    ) -> None:
        anchor = self.anchor if self.grid != self.name else None
        starless = is_starless(prepared)
        method = self.settings.registration.method
        needed = method in ("features", "phase") or (method == "auto" and (starless or len(prepared.stars) < FEW_STARS))
        if method == "auto" and not needed and len(prepared.stars) < DISC_STARS:
            needed = find_disc(self._luminance(developer)) is not None
        features = FeatureReference(self._luminance(developer)) if needed and anchor is None else None
        starless = starless or (features is not None and features.disc is not None)  # belts and moons are no stars
        self.reference = make_reference(
            prepared, developer.shape if anchor is None else anchor.shape, found.matrix, starless,
            features if anchor is None else anchor.features, to_new, found.distortion,
        )  # fmt: skip
        sky = [float(np.nanmedian(level)) if np.isfinite(level).any() else 0.0 for level in prepared.sky.level]
        peers = [peer.stack.canvas for peer in self._on_grid() if peer is not self and peer.stack is not None]
        canvas = peers[0] if peers else None
        self.stack = Stack(prepared.frame.channels, *self.reference.shape, origin=np.array(sky), canvas=canvas)
        if self.on_reference is not None:
            self.on_reference(self.reference, why)

    def _on_grid(self) -> Sequence[GroupStack]:
        """The groups on this one's grid, itself among them."""
        return self._peers(self.name) if self._peers is not None else (self,)

    def _make_room(self, member: Member, shape: tuple[int, int]) -> tuple[str, ...]:
        """Let the canvas grow so that it holds a frame of (height, width), if it may; what is to be said of it."""
        assert self.stack is not None
        assert self.reference is not None
        if self.settings.stack.canvas != "union":
            return ()
        now = self.stack.canvas
        wider = now.around([footprint(member.matrix, shape[0], shape[1], member.distortion)], steps=True)
        if wider == now:
            return ()
        if wider.width * wider.height > canvas_pixels(self.reference.info, self.settings):
            said = (
                f"the canvas is full: it holds {now.width} x {now.height} pixels, and this frame would make it "
                f"{wider.width} x {wider.height}; what lies outside is left out (canvas_max and memory_limit_mb say "
                "how far it may grow)"
            )
            told, self._told_full = self._told_full, True
            return () if told else (said,)
        for group in self._on_grid():
            assert group.stack is not None
            group.stack = group.stack.grown(wider)
        return ()

    def _lands(self, member: Member, shape: tuple[int, int]) -> bool:
        """Whether a frame of (height, width) has a place on the canvas."""
        assert self.stack is not None
        x0, y0, x1, y1 = footprint(member.matrix, shape[0], shape[1], member.distortion)
        canvas = self.stack.canvas
        across = x0 < canvas.left + canvas.width and x1 > canvas.left
        return across and y0 < canvas.top + canvas.height and y1 > canvas.top

    def _note_misfit(self, frame: Frame) -> bool:
        """Remember a frame of another size; True when the two before it were of that size too."""
        self._misfits = [*self._misfits, (frame.channels, *frame.info.size)][-UNMATCHED_KEPT:]
        return self._misfits.count(self._misfits[-1]) == UNMATCHED_KEPT

    def _note_unmatched(self, prepared: Prepared) -> bool:
        """Remember a frame that fits nowhere; True when it agrees with two such before it."""
        info = prepared.frame.info
        mine = StarReference(prepared.stars, info.width, info.height)
        agree = 0
        if len(prepared.stars) >= FEW_STARS:
            for other in self._unmatched:
                found = register_stars(other, prepared.stars, [np.eye(3)], self.settings.registration)
                agree += isinstance(found, Registration)
        self._unmatched = [*self._unmatched, mine][-UNMATCHED_KEPT:]
        return agree >= 2

    # Measuring

    def _flux_ratio(self, stars: StarCatalog, found: Registration, patch: Patch | None = None) -> float | None:
        """Flux on the reference's scale over that of a frame, by the stars that were matched."""
        assert self.reference is not None
        if found.n_matched == 0:
            return None
        theirs = self.reference.light.stars if patch is None else patch.stars.stars
        ratio = flux_ratio(theirs, stars, found.reference_index, found.frame_index)
        return ratio if ratio is None or patch is None else ratio * patch.ratio

    def _normalise(self, prepared: Prepared, found: Registration, ratio: float | None) -> Normalisation:
        """To the reference's brightness and sky; a plain mean of frames that are aligned takes them as they are."""
        assert self.reference is not None
        info, settings = prepared.frame.info, self.settings
        if settings.registration.method == "none" and not settings.quality.enabled and not settings.stack.rejects:
            return Normalisation.identity(prepared.frame.channels)
        light = self.reference.light
        return normalise(light, prepared.sky, found.matrix, ratio, info.width, info.height, found.factor)

    def _measure(
        self, prepared: Prepared, developer: Developer, found: Registration, ratio: float | None
    ) -> FrameMeasures:
        assert self.reference is not None
        stars, info = prepared.stars, prepared.frame.info
        exposures = exposure_ratio(info, self.reference.info)
        starless = self.reference.starless
        return FrameMeasures(
            n_stars=len(stars),
            n_matched=found.n_matched,
            rms_px=found.rms_px if math.isfinite(found.rms_px) else None,
            fwhm_px=None if starless else stars.fwhm_px,
            eccentricity=None if starless else stars.median_eccentricity,
            elongation_deg=None if starless else stars.elongation_deg,
            sky_adu=prepared.sky.level_adu,
            noise_adu=prepared.sky.noise_adu,
            transparency=None if ratio is None else 1.0 / (ratio * exposures),
            sharpness=sharpness(self._luminance(developer)) if starless else None,
            exposure_s=info.exposure_s,
        )

    def _warn(self, outcome: Outcome, moved: tf.Decomposition | None) -> tuple[str, ...]:
        measures = FrameMeasures(
            n_stars=outcome.n_stars or 0, n_matched=0, sky_adu=outcome.sky_adu, noise_adu=outcome.noise_adu,
            exposure_s=outcome.exposure_s,
        )
        return tuple(self.warnings.update(measures, moved))

    def _learn_defects(self, prepared: Prepared, matrix: np.ndarray) -> None:
        if not self.settings.calibration.cosmetic or prepared.data is None or prepared.data.ndim != 2:
            return
        if self.n_stacked >= LEARN_FROM_ALL and self.n_stacked % LEARN_EVERY:
            return
        if self._learner is None:
            self._learner = DefectLearner(prepared.data.shape, prepared.frame.info.bayer)
        shift = (0.0, 0.0)
        if self._learned_at is not None:
            # how far the middle of the field moved over the sensor since the last frame
            height, width = prepared.shape
            centre = np.array([[(width - 1) / 2, (height - 1) / 2]])
            before = tf.apply(np.linalg.inv(self._learned_at), tf.apply(matrix, centre))
            shift = (float(before[0, 0] - centre[0, 0]), float(before[0, 1] - centre[0, 1]))
        self._learned_at = matrix
        self._learner.update(prepared.data, shift, self.bands)

    # Stacking

    def limits_for(self, member: Member, width_px: float | None = None) -> Limits:
        """What this frame's samples are tested with, against stars of that FWHM (default: the stack's)."""
        assert self.stack is not None
        usual = self.judge.usual("rms_px") or 0.0
        width = width_px or stacked_fwhm_px(self.members)
        return limits_for(member, self.noise, self.stack.origin, self.settings.stack, usual, width)

    def _add(self, member: Member, developer: Developer, outcome: Outcome) -> Added:
        assert self.stack is not None
        begin = time.perf_counter()
        self.newest = None
        planes = developer.whole(self.defects, self.bands)
        developed = time.perf_counter()
        added = self._put(self.stack, planes, member, self.settings.stack.rejects and not self.warming)
        total = member.weight + sum(one.weight for one in self.members)
        self.newest = (planes, member.matrix, member.normalisation, member.weight / total)
        outcome.timings_s["warp"] = developed - begin
        outcome.timings_s["accumulate"] = time.perf_counter() - developed
        return added

    def _put(self, stack: Stack, planes: np.ndarray, member: Member, test: bool) -> Added:
        """Add a member's planes to a stack on our grid, in our mode."""
        if self.settings.stack.mode == "maximum" and stack.n_frames:
            return stack.add_largest(planes, member.matrix, member.normalisation, self.bands, member.distortion)
        limits = self.limits_for(member) if test else None
        return stack.add(
            planes, member.matrix, member.normalisation, member.weight, limits, self.bands, member.distortion
        )

    def restack(self, members: Sequence[Member], fetch: Callable[[Member], Prepared]) -> Stack:
        """A stack of some members by themselves, read anew by `fetch`: robust start, then one after the other."""
        assert self.stack is not None
        stack = self.stack.empty()
        first = 1 if self.settings.stack.mode == "maximum" else self.settings.stack.warmup_frames
        debayer = self.settings.calibration.debayer
        stack.start_robustly(
            self._samples([(m, Developer(fetch(m), debayer, keep_raw=True)) for m in members[:first]]),
            self.settings.stack.rejects,
            self.bands,
        )
        for member in members[first:]:
            planes = Developer(fetch(member), debayer).whole(self.defects, self.bands)
            self._put(stack, planes, member, self.settings.stack.rejects)
        return stack

    @property
    def canvas(self) -> Canvas:
        """The part of the canvas that holds something of the frames on this grid; the whole one unless it grows."""
        assert self.stack is not None
        whole = self.stack.canvas
        members = [member for group in self._on_grid() for member in group.members]
        if self.settings.stack.canvas != "union" or not members:
            return whole
        boxes = [footprint(m.matrix, m.info.height, m.info.width, m.distortion) for m in members]
        x0, y0, x1, y1 = np.array(boxes).T
        left, top = max(whole.left, int(x0.min())), max(whole.top, int(y0.min()))
        right, bottom = min(whole.left + whole.width, int(x1.max())), min(whole.top + whole.height, int(y1.max()))
        return replace(whole, left=left, top=top, width=right - left, height=bottom - top)

    def forget_pixels(self) -> None:
        """Give the memory of the stack back: nothing more will be stacked or shown; the ledger stays."""
        self.stack = self.newest = None

    def windows(self) -> list[list[Member]]:
        """The members by time of exposure, in windows of `window_minutes` from the first one; none is empty."""
        minutes = self.settings.stack.window_minutes
        dated = sorted((m.info.date_obs, n) for n, m in enumerate(self.members) if m.info.date_obs is not None)
        if minutes is None or not dated:
            return []
        found: dict[int, list[Member]] = {}
        for moment, n in dated:
            number = int((moment - dated[0][0]).total_seconds() // (60 * minutes))
            found.setdefault(number, []).append(self.members[n])
        return list(found.values())

    def _take_out(self, member: Member, developer: Developer) -> None:
        assert self.stack is not None
        planes = developer.whole(self.defects, self.bands)
        self.stack.remove(
            planes, member.matrix, member.normalisation, member.weight, member.rejected, self.bands, member.distortion
        )

    def remove(self, position: int, prepared: Prepared) -> None:
        """Take the member at `position` out of the stack again; `prepared` is its frame, read anew."""
        if self.settings.stack.mode == "maximum":
            raise UsageError(
                f"{self.members[position].name}: is in a stack of largest samples, which forgets the others; stack the "
                "remaining frames anew."
            )
        self.finish_warmup()
        developer = Developer(prepared, self.settings.calibration.debayer)
        self._take_out(self.members[position], developer)
        del self.members[position]

    def test_again(
        self,
        fetch: Callable[[Member], Prepared],
        reader: Executor,
        progress: Callable[[int, int], None] | None,
        stopped: Callable[[], bool] | None,
    ) -> bool:
        """Test every member against the finished stack without itself; replace the stack when all were tested.

        `fetch` reads and calibrates a member; `reader` runs it one frame ahead.
        """
        assert self.stack is not None
        fresh = self.stack.empty()
        self.newest = None
        tested = []
        width = stacked_fwhm_px(self.members)
        ahead = reader.submit(fetch, self.members[0])
        for number, member in enumerate(self.members):
            if stopped is not None and stopped():
                ahead.cancel()
                return False
            prepared = ahead.result()
            if number + 1 < len(self.members):
                ahead = reader.submit(fetch, self.members[number + 1])
            added = self.stack.finalise(
                fresh,
                Developer(prepared, self.settings.calibration.debayer).whole(self.defects, self.bands),
                member.matrix,
                member.normalisation,
                member.weight,
                self.limits_for(member, width),
                member.rejected,
                self.bands,
                member.distortion,
            )
            del prepared
            tested.append(
                replace(member, rejected=self._keep(added.rejected), rejected_fraction=added.rejected_fraction)
            )
            if progress is not None:
                progress(number + 1, len(self.members))
        self.stack = fresh
        self.members = tested
        return True

    # Going on after an interruption

    _NO_STATE = frozenset(
        {
            "name", "settings", "bands", "on_reference", "newest", "stack", "judge", "warnings", "_held", "_keep",
            "_grids", "_peers",
        }
    )  # fmt: skip
    """Attributes that are given anew, or kept in another form; all others are the state."""

    def state(self) -> dict[str, Any]:
        """All that `restore` needs to go on as if nothing had been; our own objects, and the live arrays themselves.

        While the warm-up lasts, the frames that it holds are named only: their pixels are read again.
        """
        state: dict[str, Any] = {
            "own": {name: value for name, value in vars(self).items() if name not in self._NO_STATE},
            "judge": self.judge.state(),
            "warnings": self.warnings.state(),
            "held": [(held.member, held.measures) for held in self._held],
        }
        if self.stack is not None:
            arrays = {} if self.warming else self.stack.arrays()
            state["stack"] = (self.stack.shape[0], self.stack.canvas, self.stack.origin, self.stack.n_frames, arrays)
        return state

    def restore(self, state: Mapping[str, Any], fetch: Callable[[Member], Prepared]) -> None:
        """Go on from what `state` returned; `fetch` reads and prepares a frame that the warm-up held.

        Raises
        ------
        FrameError : such a frame cannot be read any more.
        ValueError : the accumulators do not belong together.
        """
        vars(self).update(state["own"])
        self.judge.restore(state["judge"])
        self.warnings.restore(state["warnings"])
        if "stack" not in state:
            return
        channels, canvas, origin, n_frames, arrays = state["stack"]
        if not self.warming:
            self.stack = Stack.restore(arrays, origin, n_frames, canvas)
            return
        self.stack = Stack(channels, canvas.field[0], canvas.field[1], origin, canvas)
        for member, measures in state["held"]:
            prepared = fetch(member)
            developer = Developer(prepared, self.settings.calibration.debayer, keep_raw=True)
            planes = developer.whole(None, self.bands)
            self.stack.add(
                planes, member.matrix, member.normalisation, member.weight, None, self.bands, member.distortion
            )
            self._held.append(Held(member, developer, prepared.stars, measures, replace(prepared, data=None)))

    # Warm-up

    def finish_warmup(self) -> None:
        """Combine the frames held so far robustly and begin streaming; nothing to do when that is over."""
        if not self.warming or not self._held:
            return
        assert self.reference is not None
        assert self.stack is not None
        self._choose_reference()
        own = next((held.measures for held in self._held if held.member.name == self.reference.name), self._chosen)
        assert own is not None
        self.judge.set_reference(own)
        if self.settings.quality.enabled:
            self._held = weigh_anew(self._held, own)
        self.reference = refine_positions(self.reference, self._held)
        held = [(one.member, one.developer) for one in self._held]
        if self.settings.stack.rejects:
            samples = self._samples(held)
            fitted = self.stack.fit_noise(samples, self.bands)
            if fitted is not None:
                mean = np.mean([s.limits.floor / INTERPOLATION_GAIN for s in samples], axis=0)
                self.noise = NoiseModel(fitted.floor / np.maximum(mean, 1e-12), fitted.slope, fitted.structure)
                samples = self._samples(held)
            added = self.stack.start_robustly(samples, True, self.bands)
        else:
            added = self.stack.start_robustly(self._samples(held), False, self.bands)
        self.members = [
            replace(held.member, rejected=self._keep(one.rejected), rejected_fraction=one.rejected_fraction)
            for held, one in zip(self._held, added, strict=True)
        ]
        self._held.clear()
        self.warming = False

    def _samples(self, held: Sequence[tuple[Member, Developer]]) -> list[WarmSample]:
        defects = self.defects
        widths = [member.fwhm_px for member, _ in held if member.fwhm_px]
        middle, stacked = float(np.median(widths)) if widths else None, stacked_fwhm_px(self.members)

        def view(member: Member, developer: Developer) -> WarmSample:
            def develop(y0: int, y1: int, x0: int, x1: int) -> np.ndarray:
                return developer.region(y0, y1, x0, x1, defects)

            return WarmSample(
                develop,
                developer.shape,
                member.matrix,
                member.normalisation,
                member.weight,
                self.limits_for(member, stacked),
                self.limits_for(member, middle),
                member.distortion,
            )

        return [view(member, developer) for member, developer in held]

    def _choose_reference(self) -> None:
        """Let a clearly better frame of the warm-up take over, unless others rely on the grid."""
        assert self.reference is not None
        fixed = self.anchor is not None or self.lends_grid or self.settings.registration.reference is not None
        fixed = fixed or bool(self.reference.patches)
        if fixed or self.judge.reference is None:
            return
        best = find_better(self._held, self.reference, self.judge.reference)
        if best is None:
            return
        to_new = np.linalg.inv(best.member.matrix)
        itself = reference_registration(len(best.stars))
        self._set_reference(best.prepared, best.developer, itself, "the best frame of the warm-up", to_new)
        self._held = carry_over(self._held, best, self.reference)
        for held in self._held:
            self._make_room(held.member, held.developer.shape)
        self._last, self._lens = self._held[-1].member.matrix, self._held[-1].member.distortion
        self._before = self._held[-2].member.matrix
        self.judge = Judge(self.settings.quality)
        for held in self._held:
            self.judge.accept(held.measures)
