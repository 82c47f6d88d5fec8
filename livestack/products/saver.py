"""What a session leaves: each group's stack with its pictures, its windows of time, and what is made of them all."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from pathlib import Path

import numpy as np

from livestack.base.errors import FrameError
from livestack.base.settings import Settings
from livestack.base.version import version
from livestack.detection.psf import PSFModel, measure_psf
from livestack.engine.group import Group
from livestack.engine.live_stack import LiveStack
from livestack.engine.results import Result
from livestack.products.extras import write_products
from livestack.products.stack_files import build_header, write_pictures, write_stack

Tell = Callable[[str, int, datetime | None, PSFModel], None]
"""As in `observers.psf_trend`."""


class Saver:
    """Saves the stacks of one session.

    Parameters
    ----------
    output : the session's folder.
    settings : may be replaced while it runs; pictures look as the user chose last.
    say : tells a sentence; `tell_psf` a measurement of a finished stack.

    Attributes
    ----------
    results : what was written so far.
    """

    def __init__(
        self, output: Path, settings: Settings, stack: LiveStack, say: Callable[[str], None], tell_psf: Tell
    ) -> None:
        self.results: list[Path] = []
        self.settings = settings
        self._output, self._stack, self._say, self._tell_psf = output, stack, say, tell_psf

    def save_group(self, group: Group, final: bool) -> PSFModel | None:
        """Write a group's stack and its pictures.

        Parameters
        ----------
        final : every frame was tested against the finished stack.

        Returns
        -------
        Its point spread function; None where it could not be measured.

        Raises
        ------
        SessionError : disk full, or not writable.
        """
        settings = self.settings
        result = self._stack.result(group.name, copy=False)
        folder = self._output / group.name
        model = self._measure(result)
        path = folder / "stack.fits"
        write_stack(path, result, build_header(result, settings, version(), model, group.history, final))
        written = [path]
        last_word = final or not settings.save.final_pass or not settings.stack.rejects
        if last_word and model is not None:
            self._tell_psf(group.name, group.n_stacked, group.members[-1].info.date_obs, model)
        written += write_pictures(folder, result, settings, self._stack.bands, None)
        self.results.extend(p for p in written if p not in self.results)
        return model

    def save_windows(self, group: Group, stopped: Callable[[], bool]) -> None:
        """Write a stack for each so many minutes, `window-001.fits` and on, from the frames' files.

        Raises
        ------
        SessionError : disk full, or not writable.
        """
        try:
            for number, result in enumerate(self._stack.windows(group.name, stopped), start=1):
                path = self._output / group.name / f"window-{number:03d}.fits"
                write_stack(path, result, build_header(result, self.settings, version(), None, group.history, False))
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
        settings = self.settings
        if not final:
            settings = settings.model_copy(update={"save": settings.save.model_copy(update={"solve": False})})
        made = write_products(self._output, self._stack, settings, f"livestack {version()}", self._say)
        self.results.extend(path for path in made if path not in self.results)

    def final_pass(self, group: Group, told: Callable[[], None], stopped: Callable[[], bool]) -> bool:
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

    def _measure(self, result: Result) -> PSFModel | None:
        if result.reference.starless:
            return None
        image = result.mean if result.mean.ndim == 2 else np.mean(result.mean, axis=0)
        info = result.reference.info
        return measure_psf(image, info.saturation_adu, self.settings.psf, info.scale_arcsec_px)
