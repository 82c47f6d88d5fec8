"""The point spread function through the night: measured every few frames, in the background, on a copy of the stack."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Mapping
from datetime import datetime
from typing import Any, ClassVar

import numpy as np

from livestack.base.settings import PSFSettings
from livestack.detection.psf import PSFModel, measure_psf, plan_sample
from livestack.engine.events import Event, FrameDone, FrameRefused, FrameStacked
from livestack.engine.views import StackView

ENOUGH_STARS = 60
"""So many have to lie in the rows that are looked at, or all rows are."""
WAIT_FRAMES = 5
"""So many frames after it was begun a PSF is told, or waited for: counted in frames, not by the clock, so that the same
night gives the same journal."""

Tell = Callable[[str, int, datetime | None, PSFModel], None]
"""(group, frames in its stack, when the newest of them began, what was measured)"""


class PsfTrend:
    """Measures the PSF of each stack every `every_frames` frames.

    Parameters
    ----------
    tell : called with each measurement, in the thread that stacks.
    measured : (group, number of frames) of those that were told before.

    Attributes
    ----------
    latest : by group; there as soon as it is measured.
    """

    name: ClassVar[str] = "psf trend"
    version: ClassVar[int] = 1

    def __init__(self, settings: PSFSettings, tell: Tell, measured: Iterable[tuple[str, int]] = ()) -> None:
        self.latest: dict[str, PSFModel] = {}
        self._settings, self._tell, self._measured = settings, tell, set(measured)
        self._task: tuple[str, int, datetime | None, threading.Thread, list[PSFModel | None]] | None = None
        self._frames = 0

    def on_event(self, event: Event) -> None:
        """Tell what is due before a frame is told; begin anew when it is done."""
        if isinstance(event, FrameStacked | FrameRefused):
            self._frames += 1
            if self._frames >= min(WAIT_FRAMES, self._settings.every_frames):
                self.collect()
        elif isinstance(event, FrameDone) and event.view is not None:
            self.begin(event.view)

    def state(self) -> Mapping[str, Any]:
        """Nothing: checkpoints are made while nothing is being measured, and the journal tells what was."""
        return {}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Nothing to go on from."""

    def begin(self, view: StackView) -> None:
        """Measure the stack's PSF in the background, if its turn has come."""
        if view.n_stacked % self._settings.every_frames or (view.group, view.n_stacked) in self._measured:
            return
        if view.reference is None or view.reference.starless:
            return
        self.collect()
        sample = plan_sample(*view.shape[1:])
        if sample is None or len(view.reference.stars.stars) * sample.share < ENOUGH_STARS:
            image, sample = np.mean(view.image(), axis=0), None
        else:
            image = sample.take(lambda rows: np.mean(view.image(rows), axis=0))
        found: list[PSFModel | None] = []
        info, settings, group = view.reference.info, self._settings, view.group
        scale = None if info.scale_arcsec_px is None else info.scale_arcsec_px / view.canvas.scale

        def measure() -> None:
            model = measure_psf(image, info.saturation_adu, settings, scale, sample=sample)
            found.append(model)
            if model is not None:
                self.latest[group] = model  # to be seen at once

        worker = threading.Thread(target=measure, name="livestack-psf", daemon=True)
        worker.start()
        self._frames = 0
        self._task = (group, view.n_stacked, view.newest_at, worker, found)

    @property
    def at_rest(self) -> bool:
        """Nothing is being measured that was not told yet."""
        return self._task is None

    def collect(self) -> None:
        """Wait for what is being measured, and tell it."""
        if self._task is None:
            return
        name, n_frames, newest_at, worker, found = self._task
        self._task = None
        worker.join()
        model = found[0] if found else None
        if model is not None:
            self.latest[name] = model
            self._tell(name, n_frames, newest_at, model)

    def close(self) -> None:
        """Wait for what is being measured; nobody is told any more."""
        if self._task is not None:
            self._task[3].join()
