"""What passed: each stacked frame beside the night so far; what it shows that the others do not is told.

A frame is made smaller when it is registered, before anything is repaired in it, and looked at when it is done. The
first frames of a group wait until its reference is settled. Nothing here changes the stack.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import timedelta
from pathlib import Path
from typing import Any, ClassVar

import cv2
import numpy as np

from livestack.base.settings import PassageSettings
from livestack.engine.events import Event, FrameDone, FrameRegistered, ReferenceChanged
from livestack.engine.reference import Reference
from livestack.engine.states import Outcome
from livestack.kernels import movers as kernel
from livestack.kernels.bands import Bands
from livestack.movers.map_store import MapStore
from livestack.movers.newcomers import find_newcomers
from livestack.movers.passages import Passage, join_satellites
from livestack.movers.reduced import FIRST_FRAMES, LEAST_FRAMES, MARGIN, Grid, ReducedNight, Trails
from livestack.movers.streaks import Streak, find_streaks
from livestack.movers.tracking import find_tracks
from livestack.registration import transform as tf
from livestack.registration.distortion import to_reference
from livestack.stacking.canvas import Canvas

MOST_HELD = 12
"""Frames that wait at most, however long the warm-up is."""
DEFECT_REACH = 2
"""Reduced pixels around a bad one that the filter for points smears its light over."""
LONG_PX, AUTO_PX, PX_A_MINUTE = 3_000_000, 30_000_000, 100_000_000
"""Reduced pixels of all frames that take seconds to search; that are searched without being asked to; in a minute."""
LEAST_ELONGATION = 8.0
"""A streak within a frame is longer than so many times what it is wider than stars: else it is a comet's, a halo's."""
SHORT_FWHM, LINGERS_PX, LINGERS_FRAMES = 30.0, 25.0, 20
"""Shorter streaks whose middles are nearer than so much are of one thing that stays; for so many frames it is
remembered where."""
ALERTS = {"meteor": "A meteor", "newcomer": "A star that was not there before"}

Tell = Callable[[str, Passage], None]
"""(group, what passed)"""


@dataclass(frozen=True, eq=False)
class _Laid:
    """A frame made smaller, before it is known what became of it.

    Attributes
    ----------
    reduced : (H, W) float32; footprint : (4, 2) its corners on the reference.
    """

    file: str
    time_utc: str
    reduced: np.ndarray
    footprint: np.ndarray
    factor: float = 1.0

    matrix: np.ndarray = field(default_factory=lambda: np.eye(3))
    minutes: float = math.nan
    """Of the middle of the exposure, since an epoch."""

    def state(self) -> tuple[Any, ...]:
        return self.file, self.time_utc, self.reduced, self.footprint, self.factor, self.matrix, self.minutes


@dataclass(frozen=True, eq=False)
class _Seen:
    """A frame whose residual is kept; see `_Laid`."""

    file: str
    time_utc: str
    matrix: np.ndarray
    minutes: float
    gain: float
    """Share of its residual that the mean took."""

    def state(self) -> tuple[Any, ...]:
        return self.file, self.time_utc, self.matrix, self.minutes, self.gain


@dataclass(eq=False)
class _Watch:
    """One group: its night made smaller, the frames that wait for it, and what passed."""

    night: ReducedNight
    maps: MapStore
    seen: list[_Seen] = field(default_factory=list)
    held: list[_Laid] = field(default_factory=list)
    found: list[Passage] = field(default_factory=list)
    defects: np.ndarray = field(default_factory=lambda: np.zeros(0, dtype=int))
    """Flat indices of the bad pixels of a frame that are known by now."""
    width: int = 0
    """Of a frame, px."""
    is_full: bool = False
    """It was told that no more residuals are kept."""
    waiting: list[Passage] = field(default_factory=list)
    """Streaks of the last frame that lie within it: told when the next one shows none there."""
    followed: tuple[float, float, float, float] | None = None
    """Left, top, right, bottom of all places on the reference that the light of what is followed has reached."""
    lingering: list[tuple[float, float, int]] = field(default_factory=list)
    """Where light stayed from frame to frame (x, y of the reference), and how many frames ago."""


class Passages:
    """Looks for what passes in all groups.

    Parameters
    ----------
    bands : threads of the kernels.
    tell : called with each passage when it is known; `alert` with a sentence for the person at the telescope.
    spoken : the name of a file as the journal says it.
    folder : where residuals are kept until the night is over; None keeps them in memory.
    say : called with a sentence when something takes long, or cannot be kept.
    """

    name: ClassVar[str] = "passages"
    version: ClassVar[int] = 3

    def __init__(
        self, settings: PassageSettings, bands: Bands, tell: Tell, alert: Callable[[str], None],
        spoken: Callable[[Path], str], folder: Path | None = None, say: Callable[[str], None] = lambda said: None,
    ) -> None:  # fmt: skip
        self._folder, self._say = folder, say
        self._settings, self._bands = settings, bands
        self._tell, self._alert, self._spoken = tell, alert, spoken
        self._groups: dict[str, _Watch] = {}
        self._pending: tuple[str, _Laid] | None = None

    def on_event(self, event: Event) -> None:
        """Make a frame smaller when it is registered; look at it when it is done."""
        if not self._settings.enabled:
            return
        if isinstance(event, ReferenceChanged):
            self._begin(event.group, event.reference)
        elif isinstance(event, FrameRegistered):
            self._lay(event)
        elif isinstance(event, FrameDone):
            self._take(event.outcome)
            if event.view is not None and event.view.moving is not None:
                self._note_followed(event.view.group, event.view.moving.canvas)

    def state(self) -> Mapping[str, Any]:
        """All that was found, and what later frames are compared with."""
        return {
            name: (
                watch.night.state(),
                [one.state() for one in watch.held],
                [one.state() for one in watch.found],
                [one.state() for one in watch.seen],
                [one.state() for one in watch.waiting],
                list(watch.lingering),
                watch.followed,
            )
            for name, watch in self._groups.items()
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go on from what `state` returned."""
        if not self._settings.enabled:
            return
        for name, (saved, held, found, seen, waiting, lingering, followed) in state.items():
            night = ReducedNight.restored(saved)
            shape = night.mean.shape
            maps = MapStore.restored(self._file(name), shape, len(seen))
            if maps is None:  # they are gone: what moves is looked for in the frames that come
                maps, seen = MapStore(self._file(name), shape), []
            self._groups[str(name)] = _Watch(
                night,
                maps,
                [_Seen(*one) for one in seen],
                [_Laid(*one) for one in held],
                [Passage(**one) for one in found],
                waiting=[Passage(**one) for one in waiting],
                lingering=[tuple(one) for one in lingering],
                followed=None if followed is None else tuple(followed),
            )

    def passages(self, group: str) -> tuple[Passage, ...]:
        """What passed so far."""
        watch = self._groups.get(group)
        return tuple(watch.found) if watch is not None else ()

    def finish(self, group: str) -> tuple[Passage, ...]:
        """The whole night looked at: what is saved."""
        watch = self._groups.get(group)
        if watch is None:
            return ()
        self._start(group, watch, LEAST_FRAMES)
        self._tell_waiting(group, watch)
        self._find_movers(group, watch)
        return tuple(join_satellites(watch.found, [one.file for one in watch.seen]))

    def trails(self, group: str) -> Trails | None:
        """The light of all streaks so far; None where there was none."""
        watch = self._groups.get(group)
        if watch is None or watch.night.trails is None:
            return None
        return Trails(watch.night.trails, watch.night.grid)

    def close(self) -> None:
        """Give back what was kept for the end of the night."""
        for watch in self._groups.values():
            watch.maps.close()

    def _file(self, group: str) -> Path | None:
        return None if self._folder is None else self._folder / f"residuals-{group}.bin"

    # Frames

    def _begin(self, group: str, reference: Reference) -> None:
        """A reference: its grid; where it takes over from another, the frames that wait go along."""
        fwhm = reference.stars.stars.fwhm_px
        if reference.starless or fwhm is None:
            self._groups.pop(group, None)
            return
        before = self._groups.get(group)
        info = reference.info
        grid = Grid.of(reference.shape, fwhm, info.bayer is not None, info.planes)
        watch = _Watch(ReducedNight(grid, fwhm), MapStore(self._file(group), (grid.height, grid.width)))
        if before is not None and reference.from_previous is not None and not before.night.n_frames:
            watch.held = _moved(before, watch.night.grid, reference)
        self._groups[group] = watch

    def _lay(self, event: FrameRegistered) -> None:
        watch, detected, placed = self._groups.get(event.group), event.detected, event.registration
        self._pending = None
        if watch is None or detected.data is None:
            return
        frame, info = detected.frame, detected.frame.info
        watch.width, watch.defects = info.width, event.defects % (info.width * info.height)
        reduced = watch.night.lay(detected.data, placed.matrix, placed.distortion, event.defects, self._bands)
        right, bottom = info.width - 0.5, info.height - 0.5
        corners = np.array([[-0.5, -0.5], [right, -0.5], [right, bottom], [-0.5, bottom]])
        name = self._spoken(frame.path) if frame.path is not None else frame.name
        middle, minutes = "", math.nan
        if info.date_obs is not None:
            moment = info.date_obs + timedelta(seconds=(info.exposure_s or 0.0) / 2)
            minutes = moment.timestamp() / 60.0
            middle = moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")
        footprint = to_reference(placed.matrix, placed.distortion, corners)
        laid = _Laid(name, middle, reduced, footprint, matrix=placed.matrix, minutes=minutes)
        self._pending = (event.group, laid)

    def _take(self, outcome: Outcome) -> None:
        pending, self._pending = self._pending, None
        if pending is None or pending[0] != outcome.group or outcome.normalisation is None:
            return
        group, laid = pending
        watch = self._groups[group]
        factor = float(np.mean(outcome.normalisation.factor))
        laid = replace(laid, factor=factor)
        if watch.night.n_frames:
            self._look(group, watch, laid)
            return
        watch.held.append(laid)
        settled = outcome.rejected_fraction is not None and len(watch.held) >= FIRST_FRAMES
        if settled or len(watch.held) >= MOST_HELD:
            self._start(group, watch, FIRST_FRAMES)

    def _start(self, group: str, watch: _Watch, least: int) -> None:
        """Begin the mean with the frames that wait, and look at each of them."""
        held, watch.held = watch.held, []
        if watch.night.n_frames or len(held) < least:
            watch.held = held
            return
        watch.night.begin([(one.reduced, one.factor) for one in held], self._bands)
        for one in held:
            self._look(group, watch, one, learn=False)

    def _look(self, group: str, watch: _Watch, laid: _Laid, learn: bool = True) -> None:
        """What one frame shows beside the others; `learn` False where the mean was begun with it."""
        night = watch.night
        gain = night.gain if learn else 0.0
        residual = night.add(laid.reduced, laid.factor, self._bands, learn)
        streaks = find_streaks(residual, night.grid, night.fwhm_px, laid.footprint)
        within = [one for one in streaks if not (one.cut0 or one.cut1)]
        fat = [one for one in within if one.length_px < LEAST_ELONGATION * (one.width_px - night.fwhm_px)]
        short = [one for one in within if one not in fat and one.length_px < SHORT_FWHM * night.fwhm_px]
        self._wait_with(
            group, watch, [_as_passage(one, laid) for one in short], [_as_passage(one, laid) for one in fat]
        )
        for streak in streaks:
            if streak not in short and streak not in fat:
                self._found(group, watch, _as_passage(streak, laid))
            ends = night.grid.from_reference(np.array([[streak.x0, streak.y0], [streak.x1, streak.y1]]))
            reach = (1.5 * streak.width_px + 3.0) / night.grid.bin
            night.keep_trail(residual, ends, reach)
            kernel.erase_line(residual.points, *ends.ravel(), reach)
        if watch.maps.append(residual.points):
            watch.seen.append(_Seen(laid.file, laid.time_utc, laid.matrix, laid.minutes, gain))
        elif not watch.is_full:
            watch.is_full = True
            self._say(f"{group}: what moves is looked for in its first {len(watch.seen)} frames; no more can be kept.")

    def _note_followed(self, group: str, canvas: Canvas) -> None:
        watch = self._groups.get(group)
        if watch is not None:
            box = (canvas.left, canvas.top, canvas.left + canvas.width, canvas.top + canvas.height)
            known = watch.followed or box
            watch.followed = (*map(min, known[:2], box[:2]), *map(max, known[2:], box[2:]))  # type: ignore[assignment]

    def _wait_with(self, group: str, watch: _Watch, streaks: list[Passage], fat: list[Passage]) -> None:
        """Tell the streaks of the frame before, but for those that are still there, or where there is broad light now:
        that is a comet's beside the mean, which holds it where it was."""
        stays = [(x, y, age + 1) for x, y, age in watch.lingering if age < LINGERS_FRAMES]
        before, watch.waiting = watch.waiting, []
        stays += [(*_middle(one), 0) for one in fat]
        for one in streaks:
            if any(math.dist(_middle(one), _middle(other)) < LINGERS_PX for other in before) or any(
                math.dist(_middle(one), place[:2]) < LINGERS_PX for place in stays
            ):
                stays.append((*_middle(one), 0))
            else:
                watch.waiting.append(one)
        watch.lingering = stays
        for other in before:
            if all(math.dist(_middle(other), place[:2]) >= LINGERS_PX for place in stays):
                self._found(group, watch, other)

    def _tell_waiting(self, group: str, watch: _Watch) -> None:
        """No other frame comes."""
        waiting, watch.waiting = watch.waiting, []
        for one in waiting:
            self._found(group, watch, one)

    def _find_movers(self, group: str, watch: _Watch) -> None:
        """What moves through all frames so far; those that were told before are told anew as they are now."""
        seen, night = watch.seen, watch.night
        dated = np.array([one.minutes for one in seen])
        timed = len(seen) >= 2 and bool(np.isfinite(dated).all() and (np.diff(dated) > 0).all())
        times = dated - dated[0] if timed else np.arange(float(len(seen)))
        # the matrices lead to the reference, tracks are told from its margin on
        shift = tf.similarity(1.0, 0.0, MARGIN * night.grid.bin, MARGIN * night.grid.bin)
        matrices = [shift @ one.matrix for one in seen]
        gains = np.array([one.gain for one in seen], dtype=np.float32)
        pixels = len(seen) * night.grid.width * night.grid.height
        if self._settings.look == "auto" and pixels > AUTO_PX:
            self._say(
                f"{group}: what moves and is too faint for one frame was not looked for in {len(seen)} frames, which"
                f" takes about {max(1, round(pixels / PX_A_MINUTE))} min; --passages on does."
            )
            self._find_newcomers(group, watch, gains)
            return
        if pixels > LONG_PX:
            self._say(f"{group}: looking for what moves through {len(seen)} frames.")
        maps = watch.maps.against_end(gains, night.stars, self._bands)
        self._forget_defects(watch, maps)
        tracks = find_tracks(
            maps,
            times,
            matrices,
            night.grid.bin,
            night.fwhm_px,
            self._bands,
        )
        watch.found = [one for one in watch.found if one.kind != "mover"]
        for track in tracks:
            first, last = seen[track.first], seen[track.last]
            ends = night.grid.to_reference(np.array([[track.x0, track.y0], [track.x1, track.y1]]))
            minutes = times[track.last] - times[track.first]
            rate = math.hypot(*(ends[1] - ends[0])) / minutes if timed else math.nan
            (x0, y0), (x1, y1) = ends.tolist()
            moving = Passage(
                "mover", first.file, last.file, track.n_seen, first.time_utc, x0, y0, x1, y1, night.fwhm_px, track.snr,
                float(rate),
            )  # fmt: skip
            self._found(group, watch, moving)
        self._find_newcomers(group, watch, gains)

    @staticmethod
    def _forget_defects(watch: _Watch, maps: np.ndarray) -> None:
        """Take bad pixels of the sensor out of maps (N, H, W), in place: the first came before they were known."""
        grid, bad = watch.night.grid, watch.defects
        if not len(bad) or not watch.width:
            return
        xy = np.stack([bad % watch.width, bad // watch.width], axis=1).astype(float)
        for image, one in zip(maps[:MOST_HELD], watch.seen, strict=False):
            at = np.rint(grid.from_reference(tf.apply(one.matrix, xy))).astype(int)
            for dy in range(-DEFECT_REACH, DEFECT_REACH + 1):
                for dx in range(-DEFECT_REACH, DEFECT_REACH + 1):
                    x, y = at[:, 0] + dx, at[:, 1] + dy
                    inside = (x >= 0) & (y >= 0) & (x < grid.width) & (y < grid.height)
                    image[y[inside], x[inside]] = 0

    def _find_newcomers(self, group: str, watch: _Watch, gains: np.ndarray) -> None:
        """Stars that came; none where something moves: it, too, was not there when the night began."""
        seen, night = watch.seen, watch.night
        moving = [one for one in watch.found if one.kind == "mover"]
        watch.found = [one for one in watch.found if one.kind != "newcomer"]
        for star in find_newcomers(night, watch.maps.maps(), gains):
            x, y = night.grid.to_reference(np.array([[star.x, star.y]]))[0].tolist()
            if any(one.distance_px(x, y) < 2 * night.fwhm_px for one in moving) or _is_within(watch.followed, x, y):
                continue
            first, last = seen[star.first], seen[-1]
            came = Passage(
                "newcomer", first.file, last.file, star.n_seen, first.time_utc, x, y, x, y, night.fwhm_px, star.snr, 0.0
            )
            self._found(group, watch, came)

    def _found(self, group: str, watch: _Watch, passage: Passage) -> None:
        watch.found.append(passage)
        self._tell(group, passage)
        if passage.kind in ALERTS:
            self._alert(f"{ALERTS[passage.kind]} ({group}): {passage.sentence}.")


def _is_within(box: tuple[float, float, float, float] | None, x: float, y: float) -> bool:
    """Whether a place lies in a box, or nearer to it than half of its size: it was elsewhere before it was followed."""
    if box is None:
        return False
    x0, y0, x1, y1 = box
    return abs(2 * x - x0 - x1) < 2 * (x1 - x0) and abs(2 * y - y0 - y1) < 2 * (y1 - y0)


def _middle(one: Passage) -> tuple[float, float]:
    """Of a streak, px of the reference."""
    return (one.x0 + one.x1) / 2, (one.y0 + one.y1) / 2


def _as_passage(streak: Streak, laid: _Laid) -> Passage:
    return Passage(
        streak.kind, laid.file, laid.file, 1, laid.time_utc, streak.x0, streak.y0, streak.x1, streak.y1,
        streak.width_px, streak.snr,
    )  # fmt: skip


def _moved(before: _Watch, grid: Grid, reference: Reference) -> list[_Laid]:
    """The frames that wait, on the grid of a reference that was one of them."""
    to_new = reference.from_previous
    assert to_new is not None
    corners = np.array([[0.0, 0.0], [1000.0, 0.0], [0.0, 1000.0]])
    here = before.night.grid.to_reference(corners) @ to_new[:2, :2].T + to_new[:2, 2]
    matrix = cv2.getAffineTransform(corners.astype(np.float32), grid.from_reference(here).astype(np.float32))
    own = next((one.factor for one in before.held if Path(one.file).name == Path(reference.name).name), 1.0)
    moved = []
    for one in before.held:
        reduced = cv2.warpAffine(
            one.reduced, matrix, (grid.width, grid.height), flags=cv2.INTER_LINEAR, borderValue=math.nan
        )
        footprint = one.footprint @ to_new[:2, :2].T + to_new[:2, 2]
        moved.append(
            replace(
                one, reduced=np.asarray(reduced), footprint=footprint, factor=one.factor / own,
                matrix=to_new @ one.matrix,
            )
        )  # fmt: skip
    return moved
