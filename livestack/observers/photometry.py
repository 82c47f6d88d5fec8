"""Light curves while the night goes on: each registered frame's stars measured, and compared with all others.

What is measured is kept frame by frame. The whole night is solved anew, in a thread, when it has grown by a quarter,
and at the end; in between a frame is compared with what the last solution knows of its stars. Nothing here changes the
stack.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, ClassVar

import numpy as np

from livestack.base.frame import FrameInfo
from livestack.base.settings import PhotometrySettings
from livestack.calibration.calibrate import saturation_after
from livestack.engine.events import Event, FrameDone, FrameRefused, FrameRegistered, FrameStacked, ReferenceChanged
from livestack.engine.reference import Reference
from livestack.engine.states import Outcome
from livestack.engine.views import StackView
from livestack.kernels.bands import Bands
from livestack.photometry.curves import Curves
from livestack.photometry.measure import Exposure, measure_frame
from livestack.photometry.night import LEAST_SNR, SAME_PX, Measured, Newcomer, Solution, StarNight, go_on, solve_night
from livestack.photometry.times import jd_of
from livestack.photometry.watch import THERE_ALL_ALONG, Sudden, light_in_mean, say_newcomers
from livestack.registration.distortion import to_frame, to_reference

FIRST_SOLUTION = 8
GROWTH = 1.25
WAIT_FRAMES = 2
"""So many frames after it was begun a solution is taken over, or waited for: counted in frames, not by the clock, so
that the same night tells the same of its stars."""


class _Task:
    """A solution that is being made of the frames that a night had when it was begun."""

    def __init__(self, group: str, night: StarNight, n_frames: int) -> None:
        self.group, self.n_frames, self.age = group, n_frames, 0
        self._found: Solution | None = None
        frozen = night.as_of(n_frames)
        self._worker = threading.Thread(target=self._run, args=(frozen,), name="livestack-photometry", daemon=True)
        self._worker.start()

    def _run(self, night: StarNight) -> None:
        self._found = solve_night(night, self.group)

    def result(self) -> Solution | None:
        """What it found; waits for it."""
        self._worker.join()
        return self._found


class Photometry:
    """Measures the stars of all groups.

    Parameters
    ----------
    bands : threads of the kernels.
    say : tells a sentence, once, on a star that changes suddenly.

    Attributes
    ----------
    nights : what was measured, by group.
    """

    name: ClassVar[str] = "photometry"
    version: ClassVar[int] = 1

    def __init__(self, settings: PhotometrySettings, bands: Bands, say: Callable[[str], None]) -> None:
        self.nights: dict[str, StarNight] = {}
        self.references: dict[str, Reference] = {}
        self._settings, self._bands, self._say = settings, bands, say
        self._pending: tuple[str, Measured] | None = None
        self._newcomers: list[Newcomer] = []
        self._solutions: dict[str, Solution] = {}
        self._sudden: dict[str, Sudden] = {}
        self._task: _Task | None = None

    def on_event(self, event: Event) -> None:
        """Measure a frame when it is registered; keep it when it is told what became of it."""
        if not self._settings.enabled:
            return
        if isinstance(event, ReferenceChanged):
            self._begin(event.group, event.reference)
        elif isinstance(event, FrameRegistered):
            self._measure(event)
        elif isinstance(event, FrameStacked | FrameRefused):
            self._keep(event.outcome)
        elif isinstance(event, FrameDone) and event.view is not None:
            self._tell_newcomers(event.view)

    def state(self) -> Mapping[str, Any]:
        """All that was measured."""
        task = self._task
        return {
            "nights": {name: night.state() for name, night in self.nights.items()},
            "references": dict(self.references),
            "told": {name: sudden.state() for name, sudden in self._sudden.items()},
            "solved": {name: solution.n_solved for name, solution in self._solutions.items()},
            "task": None if task is None else (task.group, task.n_frames, task.age),
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go on from what `state` returned."""
        self.nights = {str(name): StarNight.restored(saved) for name, saved in state["nights"].items()}
        self.references = dict(state["references"])
        self._sudden = {str(name): Sudden(saved) for name, saved in state["told"].items()}
        for name, n_frames in state["solved"].items():
            solution = solve_night(self.nights[name].as_of(n_frames), name)
            if solution is not None:
                self._solutions[name] = go_on(solution, self.nights[name])
        if state["task"] is not None:
            group, n_frames, age = state["task"]
            self._task = _Task(group, self.nights[group], n_frames)
            self._task.age = age

    def curves(self, group: str) -> Curves | None:
        """The light of a group's stars as it is known now; None while there is too little."""
        solution = self._solutions.get(group)
        return solution.curves if solution is not None else None

    def finish(self, group: str) -> Solution | None:
        """The whole night solved: what is saved."""
        self._collect()
        night = self.nights.get(group)
        solution = solve_night(night, group) if night is not None else None
        if solution is not None:
            self._solutions[group] = solution
        return solution

    # Frames

    def _begin(self, group: str, reference: Reference) -> None:
        """A reference: its stars are followed; where it took over from another, those of that one go on."""
        self.references[group] = replace(reference, features=None, patches=())
        stars = reference.stars.stars
        keep = stars.snr >= LEAST_SNR
        x, y, flux = stars.x[keep], stars.y[keep], stars.flux[keep]
        size = reference.shape[1], reference.shape[0]
        known = self.nights.get(group)
        if reference.starless or (known is not None and reference.from_previous is None):
            self.nights.pop(group, None)
            self._solutions.pop(group, None)
            known = None
        if reference.starless:
            return
        if known is None:
            most = self._settings.max_stars
            self.nights[group] = StarNight(x[:most], y[:most], flux[:most], size, per_photon_of(reference.info))
            return
        assert reference.from_previous is not None
        known.move(reference.from_previous, size)
        away = np.hypot(x[:, None] - known.x[None, :], y[:, None] - known.y[None, :]).min(axis=1, initial=math.inf)
        new = np.flatnonzero(away > SAME_PX)[: max(0, self._settings.max_stars - len(known))]
        known.extend(x[new], y[new], flux[new])

    def _measure(self, event: FrameRegistered) -> None:
        night, detected, found = self.nights.get(event.group), event.detected, event.registration
        self._pending, self._newcomers = None, []
        if night is None or not len(night) or detected.data is None:
            return
        info, stars = detected.frame.info, detected.stars
        places = to_frame(found.matrix, found.distortion, night.xy)
        exposure = Exposure(
            detected.data, info.bayer, saturation_after(info, detected.masters), night.per_photon, event.defects,
            stars.fwhm_px, detected.sky.noise_adu,
        )  # fmt: skip
        light = measure_frame(exposure, places, np.maximum(night.flux, 1e-3), self._bands)
        if light is None:
            return
        if len(stars):
            seen = to_reference(found.matrix, found.distortion, stars.xy)
            width = stars.fwhm / (stars.fwhm_px or math.nan)
            self._newcomers = night.refine(seen, stars.flux, stars.snr, width, self._settings.max_stars)
        name = detected.frame.path.as_posix() if detected.frame.path is not None else detected.frame.name
        jd = jd_of(info.date_obs, info.exposure_s)
        measured = Measured.of(light, places, info.size, name, detected.frame.index, jd, info.exposure_s or math.nan)
        self._pending = (event.group, measured)

    def _tell_newcomers(self, view: StackView) -> None:
        """Stars that this frame was the last to bear out, unless the stack shows that they were there all along."""
        found, self._newcomers = self._newcomers, []
        night, reference = self.nights.get(view.group), view.reference
        fwhm = reference.stars.stars.fwhm_px if reference is not None else None
        if night is None or not found or fwhm is None:
            return
        onto = view.canvas.from_reference
        places = night.xy @ onto[:2, :2].T + onto[:2, 2]
        fwhm *= view.canvas.scale
        came = []
        for one in found:
            share = light_in_mean(view.image, view.shape, one, places, night.flux, fwhm)
            if share is None or share < THERE_ALL_ALONG:
                came.append(one)
        for sentence in say_newcomers(came, night.xy, night.size):
            self._say(sentence)

    def _keep(self, outcome: Outcome) -> None:
        pending, self._pending = self._pending, None
        if pending is None or pending[0] != outcome.group:
            return
        group, measured = pending
        night = self.nights.get(group)
        if night is None:
            return
        night.frames.append(measured)
        if self._task is not None:
            self._task.age += 1
            if self._task.age >= WAIT_FRAMES:
                self._collect()
        solution = self._solutions.get(group)
        if solution is not None:
            self._solutions[group] = solution = go_on(solution, night)
            for sentence in self._sudden.setdefault(group, Sudden()).look(solution):
                self._say(sentence)
        solved = solution.n_solved if solution is not None else 0
        due = len(night.frames) >= max(FIRST_SOLUTION, GROWTH * solved)
        if due and self._task is None:
            self._task = _Task(group, night, len(night.frames))

    def _collect(self) -> None:
        """Take over what the thread has found."""
        task, self._task = self._task, None
        found = task.result() if task is not None else None
        if task is None or found is None:
            return
        night = self.nights.get(task.group)
        if night is not None and len(night.frames) >= task.n_frames:
            self._solutions[task.group] = go_on(found, night)


def per_photon_of(info: FrameInfo) -> float | None:
    """ADU^2 of variance per ADU of light, by the header's EGAIN (e-/ADU); None where it is silent or senseless."""
    for keyword, value, _ in info.cards:
        if keyword == "EGAIN" and isinstance(value, int | float) and 1e-3 < value < 1e3:
            return 1.0 / float(value)
    return None
