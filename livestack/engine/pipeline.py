"""The way of a frame: one stage after the other, each from one state to the next, or to `Refused`.

    Frame        what the camera wrote
      calibrate    linear pixels                               prepare.py      knows this frame alone
    Calibrated
      detect       its sky and its stars                       prepare.py      knows this frame alone
    Detected
      admit        no copy, the right size, a light at all
      register     where it lies on the reference              tracker.py, place.py
    Registered
      judge        good enough, and how much it counts         quality/
    Judged
      normalise    the reference's brightness and sky          stacking/normalise.py
    Normalised
      accumulate   each sample tested, then added              accumulation.py, stacking/
    Stacked

Each stage here leaves the work, and whatever must be remembered of it, to the owner of that state in the `Group`. The
first two stages need no other frame and run beside the stacking. Which group a frame belongs to is `routing`'s to say.
Same frames in the same order give the same result, bit for bit.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial

import numpy as np

from livestack.base.frame import Frame
from livestack.engine.developer import Developer, Pixels, mosaic_of
from livestack.engine.events import FrameRegistered
from livestack.engine.grid import lands, make_room
from livestack.engine.group import Group
from livestack.engine.hits import without_hits
from livestack.engine.ledger import Member
from livestack.engine.reference import exposure_ratio, extend
from livestack.engine.separate import add_to_object
from livestack.engine.states import (
    Detected,
    Held,
    Judged,
    Normalised,
    Outcome,
    Refused,
    Registered,
    Stacked,
    without_pixels,
)
from livestack.engine.warmup import finish_warmup
from livestack.kernels.bands import Bands
from livestack.quality import FrameMeasures, Verdict, content_stats, not_a_light, refuse
from livestack.registration import reference_registration
from livestack.registration import transform as tf
from livestack.registration.features import sharpness
from livestack.registration.transform import Registration, Unregistered
from livestack.stacking.normalisation import Normalisation
from livestack.stacking.normalise import flux_ratio
from livestack.stacking.normalise import normalise as to_reference_scale
from livestack.stacking.rejected_samples import RejectedSamples

PATIENCE = 5
"""So many frames of a filter may fit no other filter of the target before they get a grid of their own."""


def carry(group: Group, detected: Detected) -> Stacked | Refused:
    """Carry a frame through one group, to the end or to where it is refused."""
    refused = admit(group, detected)
    if refused is not None:
        return refused
    registered = register(group, detected)
    if isinstance(registered, Refused):
        return registered
    judged = judge(group, registered)
    if isinstance(judged, Refused):
        return judged
    normalised = normalise(group, judged)
    if isinstance(normalised, Refused):
        return normalised
    return accumulate(group, normalised)


def admit(group: Group, detected: Detected) -> Refused | None:
    """Whether it may come in at all: no copy of another frame, of the group's size, a light."""
    frame, reference, changed = detected.frame, group.reference, False
    verdict: Verdict | None
    twin = group.ledger.twin_of(detected.fingerprint)
    if twin is not None:
        verdict = refuse("duplicate", detail=twin)
    elif not fits(group, frame):
        verdict = refuse("wrong_size", detail=_misfit(group, frame))
        changed = group.tracker.note_misfit(frame)
    elif reference is not None and frame.info.is_master and not reference.info.is_master:
        said = "its header says that it is a stack already, the others are single exposures; merge it afterwards"
        verdict = refuse("not_a_light", detail=said)
    else:
        content = content_stats(detected.sky, detected.stars)
        verdict = not_a_light(frame.info, content, group.judge, detected.data)
    return None if verdict is None else _refused(group, _begin(group, detected), verdict, changed)


def register(group: Group, detected: Detected) -> Registered | Refused:
    """Where it lies on the group's reference; the first frame becomes that."""
    begin = time.perf_counter()
    outcome = _begin(group, detected)
    developer = Developer(detected, group.settings.calibration.interpolation, keep_raw=group.warmup.active)
    if group.reference is None:
        found, patch = _first(group, detected, developer), None
    else:
        pixels = partial(group.luminance, developer)
        found, patch = group.tracker.register(group.reference, detected, pixels)
        settled = group.tracker.register_soft(group.reference, detected, found, pixels, group.deep_details)
        found, patch = settled, patch if settled is found else None
    outcome.timings_s["register"] = time.perf_counter() - begin
    if isinstance(found, Unregistered):
        changed = group.tracker.note_unmatched(detected)
        measures = FrameMeasures(
            n_stars=outcome.n_stars or 0, n_matched=0, sky_adu=outcome.sky_adu, noise_adu=outcome.noise_adu,
            exposure_s=outcome.exposure_s,
        )  # fmt: skip
        warnings = tuple(group.alerts.update(measures, None))
        outcome = replace(outcome, warnings=warnings)
        return _refused(group, outcome, refuse("no_registration", detail=found.message), changed)
    clean, found = without_hits(detected, found)
    if clean is not detected:
        detected, outcome = clean, _begin(group, clean, outcome.timings_s)
    outcome = replace(
        outcome, transform=found.matrix, distortion=found.distortion, method=found.method, n_matched=found.n_matched
    )
    _tell_registered(group, detected, found)
    return Registered(detected, developer, found, patch, outcome)


def _tell_registered(group: Group, detected: Detected, found: Registration) -> None:
    """Show the frame to those who measure it, whatever becomes of it; nobody can write its pixels."""
    assert detected.data is not None
    pixels = detected.data.view()
    pixels.flags.writeable = False
    known = group.defects.known
    defects = np.empty(0, dtype=np.int64) if known is None else known.indices
    group.events.publish(FrameRegistered(group.name, replace(detected, data=pixels), found, defects))


def judge(group: Group, registered: Registered) -> Judged | Refused:
    """Whether it is good enough, how much it counts, and what the person at the telescope should hear."""
    detected, found = registered.detected, registered.registration
    ratio = _flux_ratio(group, registered)
    measures = measure(group, registered, ratio)
    verdict = group.judge.judge(measures)
    info = detected.frame.info
    moved = tf.decompose(found.matrix, info.width, info.height)
    drifts = None if group.settings.stack.canvas == "union" else info.size  # a canvas that grows goes along
    outcome = replace(
        registered.outcome, rms_px=measures.rms_px, transparency=measures.transparency,
        warnings=tuple(group.alerts.update(measures, moved, drifts)),
    )  # fmt: skip
    if not verdict.accepted:
        return _refused(group, outcome, verdict)
    return Judged(registered, measures, verdict.weight, ratio, outcome)


def normalise(group: Group, judged: Judged) -> Normalised | Refused:
    """What brings it to the reference's brightness and sky, and room for it on the canvas."""
    registered, measures = judged.registered, judged.measures
    detected, found, developer = registered.detected, registered.registration, registered.developer
    frame = detected.frame
    group.defects.learn(detected, found.matrix, group.n_stacked, group.bands)
    member = Member(
        frame.name, frame.path, frame.index, replace(frame.info, cards=(), oddities=()), found.matrix,
        _normalisation(group, detected, found, judged.flux_ratio), judged.weight, detected.sky.noise.astype(float),
        measures.fwhm_px, measures.rms_px, RejectedSamples.pack(np.empty(0, np.int64)), distortion=found.distortion,
    )  # fmt: skip
    outcome = replace(judged.outcome, warnings=judged.outcome.warnings + make_room(group, member, developer.shape))
    if group.settings.stack.canvas == "union" and not lands(group, member, developer.shape):
        outside = refuse("no_registration", detail="it lies wholly outside the canvas, which is full")
        return _refused(group, outcome, outside)
    return Normalised(judged, member, outcome)


def accumulate(group: Group, normalised: Normalised) -> Stacked | Refused:
    """Test each sample against the stack and add it; a frame of which too much is refused goes out again."""
    judged, member, outcome = normalised.judged, normalised.member, normalised.outcome
    registered, measures = judged.registered, judged.measures
    detected, found, developer = registered.detected, registered.registration, registered.developer
    settings, warmup, ledger, accumulation = group.settings, group.warmup, group.ledger, group.accumulation
    assert group.reference is not None
    limits = group.limits_for(member) if settings.stack.rejects and not warmup.active else None
    begin = time.perf_counter()
    pixels = group.pixels(developer)
    outcome.timings_s["warp"] = time.perf_counter() - begin
    shown = _shown(group, developer, pixels)
    parted, alone = None, pixels
    if group.following.active:
        parted = group.following.part(shown(), member)
        bayer = None if accumulation.drop is None else accumulation.drop.bayer
        alone = replace(pixels, data=mosaic_of(parted.stars, bayer))
    added = accumulation.add(member, alone, limits, ledger.members, outcome.timings_s, shown)
    if not warmup.active and settings.quality.enabled:
        verdict = group.judge.judge(replace(measures, rejected_fraction=added.rejected_fraction))
        if not verdict.accepted:
            accumulation.take_out(replace(member, rejected=added.rejected), alone)
            return _refused(group, replace(outcome, normalisation=member.normalisation), verdict)
    kept = member.rejected if warmup.active else accumulation.keep(added.rejected)
    ledger.enter(
        replace(member, rejected=kept, rejected_fraction=added.rejected_fraction), detected.fingerprint
    )  # fmt: skip
    if parted is not None:
        of_object = None if limits is None else group.limits_for(member, interpolated=True)
        add_to_object(group, member, parted.object, of_object)
    group.following.observe(detected, member, developer, group.reference)
    group.judge.accept(measures)
    group.tracker.accept(found)
    if settings.stack.canvas == "union":
        group.reference = extend(group.reference, detected, found, member.normalisation, judged.flux_ratio)
    if warmup.active:
        warmup.held.append(Held(ledger.members[-1], developer, measures, without_pixels(detected)))
        if warmup.is_full:
            finish_warmup(group)
    member = ledger.members[-1]  # as it stands now: the end of the warm-up may have brought another reference
    return Stacked(
        replace(
            outcome, status="stacked", transform=member.matrix, distortion=member.distortion, weight=member.weight,
            normalisation=member.normalisation,
            rejected_fraction=None if warmup.active else member.rejected_fraction,
        )
    )  # fmt: skip


def _shown(group: Group, developer: Developer, pixels: Pixels) -> Callable[[], np.ndarray]:
    """Makes the planes of a frame for whoever looks at it; of one that is drizzled only then."""
    if pixels.data.ndim == 3:
        return lambda: pixels.data
    return partial(developer.whole, group.defects.known, Bands(1))


def adopt_reference(group: Group, detected: Detected) -> None:
    """Register everything to this frame, which need not be stacked itself."""
    developer = Developer(detected, group.settings.calibration.interpolation)
    found = reference_registration(len(detected.stars))
    group.set_reference(detected, developer, found, "chosen by the user")
    registered = Registered(detected, developer, found, None, _begin(group, detected))
    group.warmup.chosen = measure(group, registered, 1.0 if len(detected.stars) else None)
    group.judge.set_reference(group.warmup.chosen)


def fits(group: Group, frame: Frame) -> bool:
    """True when a frame has the size and the channels of this group's, or there are none yet."""
    if group.reference is None or group.stack is None:
        return True
    return frame.channels == group.stack.shape[0] and frame.info.size == group.reference.info.size


def _misfit(group: Group, frame: Frame) -> str:
    assert group.reference is not None
    assert group.stack is not None
    its, ours = frame.info, group.reference.info
    return (
        f"{its.width} x {its.height} with {frame.channels} channel(s), the session has "
        f"{ours.width} x {ours.height} with {group.stack.shape[0]}; stack it in a session of its own"
    )


def measure(group: Group, registered: Registered, ratio: float | None) -> FrameMeasures:
    """What a frame is judged by; `ratio` as in `Judged.flux_ratio`."""
    assert group.reference is not None
    detected, found = registered.detected, registered.registration
    stars, info = detected.stars, detected.frame.info
    exposures = exposure_ratio(info, group.reference.info)
    starless = group.reference.starless
    return FrameMeasures(
        n_stars=len(stars),
        n_matched=found.n_matched,
        rms_px=found.rms_px if math.isfinite(found.rms_px) else None,
        fwhm_px=None if starless else stars.fwhm_px,
        eccentricity=None if starless else stars.median_eccentricity,
        elongation_deg=None if starless else stars.elongation_deg,
        sky_adu=detected.sky.level_adu,
        noise_adu=detected.sky.noise_adu,
        transparency=None if ratio is None else 1.0 / (ratio * exposures),
        sharpness=sharpness(group.luminance(registered.developer)) if starless else None,
        exposure_s=info.exposure_s,
    )


def _begin(group: Group, detected: Detected, timings_s: dict[str, float] | None = None) -> Outcome:
    """The outcome's fields that are known before anything is compared."""
    frame, stars = detected.frame, detected.stars
    return Outcome(
        name=frame.name, path=frame.path, index=frame.index, group=group.name, status="refused", n_stars=len(stars),
        fwhm_px=stars.fwhm_px, eccentricity=stars.median_eccentricity, elongation_deg=stars.elongation_deg,
        sky_adu=detected.sky.level_adu, noise_adu=detected.sky.noise_adu, exposure_s=frame.info.exposure_s,
        date_obs=frame.info.date_obs, timings_s=dict(detected.timings_s if timings_s is None else timings_s),
    )  # fmt: skip


def _refused(group: Group, outcome: Outcome, verdict: Verdict, new_target: bool = False) -> Refused:
    group.ledger.n_refused += 1
    said = f"{outcome.name}: {verdict.message}"
    return Refused(replace(outcome, status="refused", reason=verdict.reason, message=said), new_target)


def _first(group: Group, detected: Detected, developer: Developer) -> Registration | Unregistered:
    """The first frame sets the grid, or takes its place on a sibling's."""
    found: Registration = reference_registration(len(detected.stars))
    info, why = detected.frame.info, "the first frame"
    siblings = () if group.grid.alone else group.family.siblings_of(group.name, info)
    pixels = partial(group.luminance, developer)
    for sibling in siblings:
        assert sibling.reference is not None
        if group.settings.registration.method == "none" and info.size != sibling.reference.info.size:
            continue
        placed = sibling.tracker.register_sibling(sibling.reference, detected, pixels)
        if isinstance(placed, Registration):
            group.grid.share(sibling)
            found = replace(
                found, matrix=placed.matrix, method=placed.method, rms_px=placed.rms_px, distortion=placed.distortion
            )
            break
    else:
        if siblings and info.object_name and group.ledger.n_refused < PATIENCE:
            # the header says that it is the same target: a cloud, not another grid
            return Unregistered(f"it does not fit the frames of {siblings[0].name}, the same target")
        if siblings and info.object_name:
            why = f"the first frame after {PATIENCE} that do not fit those of {siblings[0].name}, the same target"
    group.set_reference(detected, developer, found, why)
    return found


def _flux_ratio(group: Group, registered: Registered) -> float | None:
    """Flux on the reference's scale over that of a frame, by the stars that were matched."""
    assert group.reference is not None
    found, patch = registered.registration, registered.patch
    if found.n_matched == 0:
        return None
    theirs = group.reference.light.stars if patch is None else patch.stars.stars
    ratio = flux_ratio(theirs, registered.detected.stars, found.reference_index, found.frame_index)
    return ratio if ratio is None or patch is None else ratio * patch.ratio


def _normalisation(group: Group, detected: Detected, found: Registration, ratio: float | None) -> Normalisation:
    """To the reference's brightness and sky; a plain mean of frames that are aligned takes them as they are."""
    assert group.reference is not None
    info, settings = detected.frame.info, group.settings
    if settings.registration.method == "none" and not settings.quality.enabled and not settings.stack.rejects:
        return Normalisation.identity(detected.frame.channels)
    light = group.reference.light
    return to_reference_scale(light, detected.sky, found.matrix, ratio, info.width, info.height, found.factor)
