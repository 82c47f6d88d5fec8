"""What a session leaves: each group's stack with its pictures, its windows of time, and what is made of them all."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import datetime
from pathlib import Path

import numpy as np

from livestack.astrometry.facts import SkyFacts
from livestack.base.errors import FrameError
from livestack.base.settings import Settings
from livestack.base.version import version
from livestack.detection.psf import PSFModel, measure_psf
from livestack.engine.group import Group
from livestack.engine.live_stack import LiveStack
from livestack.engine.results import Result
from livestack.photometry.depth import BETA, Stamps, exposure_of
from livestack.products.comet import write_object
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
    facts : where the reference of a group lies in the sky; has_black : whether its sky is light alone;
        tell_depth : told (group, frames, facts) of a stack that is saved.

    Attributes
    ----------
    results : what was written so far.
    """

    def __init__(
        self, output: Path, settings: Settings, stack: LiveStack, say: Callable[[str], None], tell_psf: Tell,
        facts: Callable[[str], SkyFacts | None] = lambda group: None,
        has_black: Callable[[str], bool] = lambda group: False,
        tell_depth: Callable[[str, int, SkyFacts], None] = lambda group, n_frames, facts: None,
    ) -> None:  # fmt: skip
        self.results: list[Path] = []
        self.settings = settings
        self._output, self._stack, self._say, self._tell_psf = output, stack, say, tell_psf
        self._facts, self._has_black, self._tell_depth = facts, has_black, tell_depth

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
        sky = self._facts(group.name)
        model = self._measure(result, sky)
        if sky is not None:
            sky = deepest(sky, result, model, self._has_black(group.name))
            self._tell_depth(group.name, group.n_stacked, sky)
        path = folder / "stack.fits"
        write_stack(path, result, build_header(result, settings, version(), model, group.history, final, sky))
        written = [path]
        last_word = final or not settings.save.final_pass or not settings.stack.rejects
        if last_word and model is not None:
            self._tell_psf(group.name, group.n_stacked, group.members[-1].info.date_obs, model)
        written += write_pictures(folder, result, settings, self._stack.bands, None)
        written += write_object(folder, self._stack, group, result, model, settings, final, sky)
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
                header = build_header(
                    result, self.settings, version(), None, group.history, False, self._facts(group.name)
                )
                write_stack(path, result, header)
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
            settings = settings.model_copy(update={"save": settings.save.model_copy(update={"solve": "off"})})
        made = write_products(self._output, self._stack, settings, f"livestack {version()}", self._say, self._facts)
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

    def _measure(self, result: Result, sky: SkyFacts | None) -> PSFModel | None:
        if result.reference.starless:
            return None
        image = result.mean if result.mean.ndim == 2 else np.mean(result.mean, axis=0)
        info = result.reference.info
        scale = sky.sky.scale_arcsec if sky is not None else info.scale_arcsec_px
        scale = None if scale is None else scale / result.canvas.scale
        return measure_psf(image, info.saturation_adu, self.settings.psf, scale)


def deepest(facts: SkyFacts, result: Result, model: PSFModel | None, black: bool) -> SkyFacts:
    """What is known of a stack's sky with zero point, limit and sky brightness of the stack as it is saved.

    Parameters
    ----------
    black : the sky is light alone.
    """
    info, stars = result.reference.info, result.reference.stars.stars
    theirs = None if stars.fwhm_px is None else stars.fwhm_px * result.canvas.scale
    fwhm = model.fwhm_px if model is not None else theirs
    if fwhm is None:
        return facts
    image = result.mean if result.mean.ndim == 3 else result.mean[None]
    sky = facts.sky.moved(result.canvas.from_reference, result.canvas.width, result.canvas.height)
    beta = model.profile.beta if model is not None else None
    stamps = Stamps.cut(lambda rows, columns: image[:, rows, columns], image.shape, sky, facts.field, fwhm, beta)
    depth = stamps.measure(sky.scale_arcsec, exposure_of(info), info.saturation_adu, black)
    if depth is None:
        return facts
    if depth.limit_mag is None:
        return depth.added_to(facts, ())
    n, earlier = len(result.members), tuple(one for one in facts.limits if one[0] < len(result.members))
    if earlier and theirs is not None:
        # while stacking the width of the stars was that of the reference, not the stack's own
        rough = replace(stamps, fwhm_px=theirs, beta=BETA).measure(
            sky.scale_arcsec, exposure_of(info), info.saturation_adu, black
        )
        shift = depth.limit_mag - rough.limit_mag if rough is not None and rough.limit_mag is not None else 0.0
        earlier = tuple((frames, limit + shift) for frames, limit in earlier)
    return depth.added_to(facts, (*earlier, (n, depth.limit_mag)))
