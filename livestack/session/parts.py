"""What a running session is made of: the stack, its observers, and what they write to; closed together."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from datetime import datetime
from pathlib import Path

import numpy as np

from livestack.astrometry import Solved, Unsolved
from livestack.base.errors import SessionError
from livestack.base.journal import FollowRecord
from livestack.base.settings import PassageSettings, Settings
from livestack.detection.psf import PSFModel
from livestack.engine.events import Alert
from livestack.engine.group import Group
from livestack.engine.live_stack import LiveStack
from livestack.movers.passages import on_sky, tally
from livestack.observers.observer import Observer, guarded
from livestack.observers.passages import Passages
from livestack.observers.photometry import Photometry
from livestack.observers.plate_solving import PlateSolving
from livestack.observers.preview import Drawing, Preview
from livestack.observers.psf_trend import PsfTrend
from livestack.photometry.times import jd_of, site_of
from livestack.products.naming import Names
from livestack.products.passage_files import write_passages, write_trails
from livestack.products.saver import Saver
from livestack.products.stack_files import write_preview
from livestack.products.star_files import write_curves
from livestack.session.checkpoint import FOLDER_NAME, Checkpointer, Checkpoints
from livestack.session.journal_writer import JournalWriter
from livestack.session.status_feed import StatusFeed
from livestack.stacking.mask_store import MaskStore


class SessionParts:
    """The stack of a session and all that hears of it. Its public members are the parts, one each.

    Parameters
    ----------
    measured : (group, number of frames) of PSFs that the journal tells already.
    say_later : tells a sentence from another thread.
    more : observers that a program has added.

    Attributes
    ----------
    measuring : observers that measure, which hear of frames that are replayed, too.
    """

    def __init__(
        self, output: Path, settings: Settings, stack: LiveStack, status: StatusFeed, journal: JournalWriter,
        measured: Iterable[tuple[str, int]], say_later: Callable[[str], None], more: Sequence[Observer] = (),
    ) -> None:  # fmt: skip
        self.output, self.settings, self.stack, self.status, self.journal = output, settings, stack, status, journal
        self._say_later = say_later
        self.psf = PsfTrend(settings.psf, self._tell_psf, measured)
        self.sky = PlateSolving(settings.save.solve == "auto", self._take_solution)
        self.saver = Saver(
            output, settings, stack, status.say, self._tell_psf, self.sky.facts, self.sky.has_black, journal.write_depth
        )
        status.psf = self.psf.latest
        status.render, status.save = settings.render, settings.save
        self.preview = Preview(stack.targets, settings.render, self._take_drawing, status.say, status.say)
        self.photometry = Photometry(settings.photometry, stack.bands, lambda said: journal.notice(said, "star"))
        self.passages = Passages(
            settings.passages, stack.bands, journal.write_passage, lambda said: stack.events.publish(Alert(said)),
            journal.spoken, output / FOLDER_NAME, status.say,
        )  # fmt: skip
        wants_names = settings.passages.enabled or settings.follow.name is not None
        self._names = Names(settings.passages if wants_names else PassageSettings(), status.say)
        self._body = self._names.find(settings.follow.name) if settings.follow.name is not None else None
        status.curves = self.photometry.curves
        status.sky = self.sky.facts
        status.passed = lambda group: tally(self.passages.passages(group))
        self.measuring: tuple[Observer, ...] = (self.psf, self.photometry, self.sky, self.passages, *more)
        self.observers: tuple[Observer, ...] = (*self.measuring, journal, status, self.preview)
        self.masks: MaskStore | None = None
        self.checkpoints: Checkpoints | None = None

    def keep_state(self, folder: Path, masks: MaskStore) -> Checkpoints:
        """From now on checkpoints are made, in `folder`; what `masks` holds belongs to them."""
        save = self.settings.save
        writer = Checkpointer(folder, masks, save.checkpoint_every_frames, save.checkpoint_every_s)
        self.masks = masks
        self.checkpoints = Checkpoints(
            writer, self.output, self.stack, self.journal, self.observers, lambda: self.psf.at_rest
        )
        return self.checkpoints

    def subscribe(self) -> None:
        """Let all parts hear what happens to frames."""
        assert self.checkpoints is not None
        # those that measure frames come first: a checkpoint holds what they made of the frame that it holds
        added = self.measuring[1:]
        rest = [one for one in self.observers if one not in added]
        for observer in (*added, self.checkpoints, *rest):
            needed = observer in (self.checkpoints, self.journal, self.status)
            self.stack.events.subscribe(observer.on_event if needed else guarded(observer, self.status.say))

    def collect_checkpoint(self, wait: bool = True) -> None:
        """Tell of the checkpoint that was under way; with `wait`, the accumulators may be changed afterwards."""
        if self.checkpoints is not None:
            self.checkpoints.collect(wait)

    def save_group(self, group: Group, final: bool) -> None:
        """Write a group's stack; its PSF is the newest there is."""
        model = self.saver.save_group(group, final)
        if model is not None:
            self.psf.latest[group.name] = model

    def save_curves(self, group: Group) -> None:
        """Write the light curves of a group's stars, where there are any."""
        solution = self.photometry.finish(group.name)
        reference = self.photometry.references.get(group.name)
        if solution is not None and reference is not None:
            night = self.photometry.nights[group.name]
            written = write_curves(
                self.output / group.name,
                solution,
                night,
                reference.info,
                self.journal.spoken,
                self.sky.facts(group.name),
            )
            self.saver.results.extend(path for path in written if path not in self.saver.results)

    def save_passages(self, group: Group) -> None:
        """Write what passed while a group was stacked."""
        if self.settings.passages.enabled:
            facts = self.sky.facts(group.name)
            found = self.passages.finish(group.name)
            if facts is not None:
                found = tuple(on_sky(one, facts.sky.to_sky) for one in found)
                info = group.members[0].info
                found = self._names.given(found, site_of(info), info.exposure_s or 0.0)
            path = write_passages(self.output / group.name, found)
            if found:
                self.status.say(f"{group.name}: {tally(found)} passed.")
            written, trails = [path], self.passages.trails(group.name)
            if trails is not None:
                result = self.stack.result(group.name, copy=False)
                written += write_trails(self.output / group.name, result, trails, self.settings, self.stack.bands)
            self.saver.results.extend(one for one in written if one not in self.saver.results)

    def draw_active(self, otherwise: Group | None = None) -> None:
        """Draw the stack that is being filled."""
        self.preview.draw_group(self.stack.groups.get(self.status.active_group) or otherwise)

    def active_group(self) -> Group | None:
        """The group that is being filled; None before there is one."""
        return self.stack.groups.get(self.status.active_group)

    def use(self, settings: Settings) -> None:
        """From now on these settings: pictures look as the user chose."""
        self.settings = self.saver.settings = settings
        self.preview.settings = self.status.render = settings.render
        self.status.save = settings.save

    def close_state(self) -> None:
        """Wait for the checkpoint under way, close the files."""
        if self.checkpoints is not None:
            self.checkpoints.writer.close()
        if self.masks is not None:
            self.masks.close()

    def close(self) -> None:
        """End all threads of the parts."""
        self.preview.close()
        self.psf.close()
        self.sky.close()
        self.passages.close()
        self.close_state()
        self.stack.close()

    def _take_solution(self, group: str, answer: Solved | Unsolved) -> None:
        """Tell where a group lies; where the user named an object by its place in the sky, it is followed now."""
        self.journal.write_solution(group, answer)
        follow = self.settings.follow
        chosen = self.stack.groups.get(group)
        if not follow.needs_sky or chosen is None or chosen.following.wanted is not None:
            return
        if isinstance(answer, Unsolved):
            self.journal.notice(f"--follow {follow.target}: {group} is not solved; give its pixels X,Y.")
            return
        wanted, velocity = follow.sky, None
        if self._body is not None:
            info = chosen.reference.info if chosen.reference is not None else None
            if info is None or info.date_obs is None:
                self.journal.notice(f"--follow {follow.target}: the frames tell no DATE-OBS; give its pixels X,Y.")
                return
            jd, site = jd_of(info.date_obs, info.exposure_s), site_of(info)
            wanted = self._body.place(jd, site)
            minute = np.array([self._body.place(jd + k / 1440, site) for k in (-1, 1)])
            before, after = answer.sky.to_pixels(minute)
            velocity = float(after[0] - before[0]) / 2, float(after[1] - before[1]) / 2
        x, y = (float(value) for value in answer.sky.to_pixels(np.array([wanted]))[0])
        if not (0 <= x < answer.sky.width and 0 <= y < answer.sky.height):
            self.journal.notice(f"--follow {follow.target}: lies outside the field of {group}.")
            return
        self.follow(group, x, y, velocity)

    def follow(self, group: str, x: float, y: float, velocity: tuple[float, float] | None = None) -> None:
        """From now on what is at that place of a group's reference is stacked on itself, too; velocity in px/min."""
        self.journal.append_event(FollowRecord(group=group, x=x, y=y, velocity=velocity))
        self.stack.follow(group, x, y, velocity)
        name = f"{self._body.name}, " if self._body is not None and velocity is not None else "what is "
        self.status.say(f"Following {name}at x {x:.0f}, y {y:.0f} of {group}.")

    def _tell_psf(self, group: str, n_frames: int, newest_at: datetime | None, model: PSFModel) -> None:
        self.psf.latest[group] = model
        self.journal.write_psf(self.output, group, n_frames, newest_at, model)

    def _take_drawing(self, drawing: Drawing) -> None:
        """From the thread that draws: write the preview, keep the drawing for the next snapshot."""
        try:
            write_preview(self.output / "preview.jpg", drawing.picture)
        except SessionError as error:
            self._say_later(str(error))
        self.status.draw(drawing)
