"""What a session leaves behind: the PSF through the night, and the stacks with their pictures at its end."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from datetime import datetime
from pathlib import Path

import numpy as np

from livestack.base.durable import storage_error
from livestack.base.errors import FrameError
from livestack.base.journal import PsfRecord, Record
from livestack.base.settings import Settings
from livestack.base.version import version
from livestack.detection.psf import CSV_COLUMNS, PSFModel, measure_psf, plan_sample
from livestack.engine.group import GroupStack
from livestack.engine.pipeline import LiveStack, Result
from livestack.products.extras import write_products
from livestack.products.stack_files import append_psf_csv, build_header, isot, write_pictures, write_stack

ENOUGH_STARS = 60
"""So many have to lie in the rows that are looked at, or all rows are."""

WAIT_FRAMES = 5
"""So many frames after it was begun a PSF is written down, or waited for: told by frames, not by the clock, so that the
same night gives the same journal."""


class Keeper:
    """Measures and saves the stacks of one session.

    Parameters
    ----------
    output : the session's folder.
    append : writes a record into the journal.
    say : tells a sentence.
    measured : (group, number of frames) of the PSFs that the journal holds already.
    """

    def __init__(
        self, output: Path, settings: Settings, stack: LiveStack, append: Callable[[Record], None],
        say: Callable[[str], None], measured: Iterable[tuple[str, int]] = (),
    ) -> None:  # fmt: skip
        self.results: list[Path] = []
        self.psf: dict[str, PSFModel] = {}
        self._output, self._settings, self._stack = output, settings, stack
        self._append, self._say = append, say
        self._measured = set(measured)
        self._task: tuple[str, int, datetime | None, threading.Thread, list[PSFModel | None]] | None = None
        self._lines = 0

    # PSF through the night

    def want_psf(self, group: GroupStack) -> None:
        """Every few frames measure the stack's PSF in the background, on a copy."""
        if group.n_stacked % self._settings.psf.every_frames or (group.name, group.n_stacked) in self._measured:
            return
        if group.stack is None or (group.reference and group.reference.starless):
            return
        self.collect_psf()
        stack = group.stack
        sample = plan_sample(*stack.shape[1:])
        if sample is None or group.reference is None or len(group.reference.stars.stars) * sample.share < ENOUGH_STARS:
            image, sample = np.mean(stack.image(), axis=0), None
        else:
            image = sample.take(lambda rows: np.mean(stack.image(rows), axis=0))
        found: list[PSFModel | None] = []
        info = group.reference.info if group.reference else None
        scale = info.scale_arcsec_px if info else None
        saturation = info.saturation_adu if info else None
        settings = self._settings.psf

        def measure() -> None:
            model = measure_psf(image, saturation, settings, scale, sample=sample)
            found.append(model)
            if model is not None:
                self.psf[group.name] = model  # to be seen at once

        worker = threading.Thread(target=measure, name="livestack-psf", daemon=True)
        worker.start()
        self._lines = 0
        self._task = (group.name, group.n_stacked, group.members[-1].info.date_obs, worker, found)

    @property
    def at_rest(self) -> bool:
        """No PSF is being measured that the journal does not hold yet."""
        return self._task is None

    def collect_psf(self, due: bool = False) -> None:
        """Write down the PSF that is being measured.

        Parameters
        ----------
        due : a frame's line comes next: only when it is the PSF's turn, a set number of such lines later, so that the
            stack need not wait for it, and yet the same night gives the same journal.
        """
        if self._task is None:
            return
        self._lines += 1
        if due and self._lines < min(WAIT_FRAMES, self._settings.psf.every_frames):
            return
        name, n_frames, newest, worker, found = self._task
        self._task = None
        worker.join()
        model = found[0] if found else None
        if model is not None:
            self._write_psf(name, n_frames, newest, model)

    def _write_psf(self, name: str, n_frames: int, newest: datetime | None, model: PSFModel) -> None:
        """Into journal and psf.csv; `newest` is when the frame that was stacked last began."""
        self.psf[name] = model
        profile = model.profile
        self._append(
            PsfRecord(
                group=name, n_frames=n_frames, n_stars=model.n_stars, fwhm_px=model.fwhm_px,
                fwhm_arcsec=model.fwhm_arcsec, fwhm_x_px=profile.fwhm_x_px, fwhm_y_px=profile.fwhm_y_px,
                eccentricity=model.eccentricity, theta_deg=profile.theta_deg, beta=profile.beta,
                gaussian=vars(model.gaussian), moffat=vars(model.moffat),
            )
        )  # fmt: skip
        path = self._output / name / "psf.csv"
        row: dict[str, object] = {"n_frames": n_frames, **model.summary()}
        row["date_obs"] = isot(newest) if newest is not None else None
        try:
            append_psf_csv(path, (*CSV_COLUMNS, "date_obs"), row)
        except OSError as error:
            raise storage_error(path, error) from error

    def close(self) -> None:
        """Wait for what is being measured."""
        if self._task is not None:
            self._task[3].join()

    # Saving

    def save_group(self, group: GroupStack, final: bool) -> None:
        """Write a group's stack and its pictures.

        Parameters
        ----------
        final : every frame was tested against the finished stack.

        Raises
        ------
        SessionError : disk full, or not writable.
        """
        result = self._stack.result(group.name, copy=False)
        folder = self._output / group.name
        model = self._measure(result)
        if model is not None:
            self.psf[group.name] = model
        header = build_header(result, self._settings, version(), model, group.history, final)
        path = folder / "stack.fits"
        write_stack(path, result, header)
        written = [path]
        last_word = final or not self._settings.save.final_pass or not self._settings.stack.rejects
        if last_word and model is not None:
            self._write_psf(group.name, group.n_stacked, group.members[-1].info.date_obs, model)
        written += write_pictures(folder, result, self._settings, self._stack.bands, None)
        self.results.extend(p for p in written if p not in self.results)

    def save_windows(self, group: GroupStack, stopped: Callable[[], bool]) -> None:
        """Write a stack for each so many minutes, `window-001.fits` and on, from the frames' files.

        Raises
        ------
        SessionError : disk full, or not writable.
        """
        try:
            for number, result in enumerate(self._stack.windows(group.name, stopped), start=1):
                path = self._output / group.name / f"window-{number:03d}.fits"
                write_stack(path, result, build_header(result, self._settings, version(), None, group.history, False))
                self.results.append(path)
                self._say(f"Saved {group.name}/{path.name}: {len(result.members)} frame(s).")
        except FrameError as error:
            self._say(f"No more windows of {group.name} were saved: {error}")

    def save_products(self, final: bool) -> None:
        """Write what is made of the saved stacks: the colour picture of several filters and the like.

        Raises
        ------
        SessionError : disk full, or not writable.
        """
        settings = self._settings
        if not final:
            settings = settings.model_copy(update={"save": settings.save.model_copy(update={"solve": False})})
        made = write_products(self._output, self._stack, settings, f"livestack {version()}", self._say)
        self.results.extend(path for path in made if path not in self.results)

    def use(self, settings: Settings) -> None:
        """From now on these settings; the pictures look as the user chose."""
        self._settings = settings

    def _measure(self, result: Result) -> PSFModel | None:
        if result.reference.starless:
            return None
        image = result.mean if result.mean.ndim == 2 else np.mean(result.mean, axis=0)
        info = result.reference.info
        return measure_psf(image, info.saturation_adu, self._settings.psf, info.scale_arcsec_px)

    def final_pass(self, group: GroupStack, told: Callable[[], None], stopped: Callable[[], bool]) -> bool:
        """Test all frames against the finished stack; False when it was stopped, or left out (said why).

        Parameters
        ----------
        told : called after each word on the progress.
        """
        total = group.n_stacked

        def progress(done: int, of: int) -> None:
            if done == of or done % max(1, of // 20) == 0:
                self._say(f"Final pass {group.name}: {done} of {of} frames tested again.")
                told()

        try:
            return self._stack.final_pass(group.name, progress, stopped)
        except FrameError as error:
            self._say(f"The final pass of {group.name} over {total} frames was left out: {error}")
            return False
