"""What a session tells its faces: messages, trends, and the snapshot that is published after every event."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from livestack.astrometry.facts import SkyFacts
from livestack.base.errors import LivestackError
from livestack.base.journal import FrameRecord, Record, ReferenceRecord, RemovedRecord, SessionStart, WarningRecord
from livestack.base.settings import RenderSettings, SaveSettings
from livestack.detection.psf import PSFModel
from livestack.engine.events import Event, FrameDone, FrameTakenOut
from livestack.engine.states import Outcome
from livestack.engine.targets import Targets
from livestack.engine.views import StackView
from livestack.observers.preview import Drawing
from livestack.photometry import Curves
from livestack.registration import transform as tf
from livestack.session.snapshot import Slot, Snapshot, State, TrendPoint, Upright

MESSAGES_KEPT = 50
TREND_KEPT = 2000
HISTORY_POINTS = 200


class StatusFeed:
    """Keeps what faces show, and publishes it. Its many members are the things shown; commands set some of them.

    Parameters
    ----------
    slot : where snapshots go.
    name : of the session; `output` its folder.
    targets : whose groups and exposures are told; to be looked at.
    n_waiting : asked for the number of files that wait.

    Attributes
    ----------
    psf : latest measurement by group, of whoever measures.
    noise : by group, (frames stacked, measured noise of the stack over that of one frame) as the stack grew.
    sequence : frames and files told so far; frame_size : (width, height) of the frame that comes next.
    """

    name: ClassVar[str] = "status"
    version: ClassVar[int] = 3

    def __init__(self, slot: Slot, name: str, output: Path, targets: Targets, n_waiting: Callable[[], int]) -> None:
        self.slot = slot
        self.trend: deque[TrendPoint] = deque(maxlen=TREND_KEPT)
        self.noise: dict[str, list[tuple[int, float]]] = {}
        self.psf: dict[str, PSFModel] = {}
        self.active_group = ""
        self.object_override = ""
        self.paused = False
        self.n_refused = 0
        self._refused: set[str] = set()
        self.sequence = 0
        self.frame_size = (1, 1)
        self.curves: Callable[[str], Curves | None] = lambda group: None
        self.sky: Callable[[str], SkyFacts | None] = lambda group: None
        self.render, self.save = RenderSettings(), SaveSettings()
        self.goals: dict[str, float] = {}
        self.passed: Callable[[str], str] = lambda group: ""
        self._targets = targets
        self._groups = targets.groups
        self._n_waiting = n_waiting
        self._snapshot = Snapshot(session_name=name, output=output)
        self._messages: deque[str] = deque(maxlen=MESSAGES_KEPT)
        self._drawn: Drawing | None = None
        self._lock = threading.Lock()

    def say(self, message: str) -> None:
        """A sentence for whoever looks."""
        self._messages.append(message)

    def draw(self, drawing: Drawing) -> None:
        """Take over a new picture, from whatever thread; the next snapshot shows it."""
        with self._lock:
            self._drawn = drawing

    @property
    def has_news(self) -> bool:
        """There is a picture that no snapshot has shown."""
        return self._drawn is not None and self._drawn.picture.rgb is not self._snapshot.picture

    # Frames

    def on_event(self, event: Event) -> None:
        """A frame went through."""
        if isinstance(event, FrameDone):
            if not event.outcome.stacked:
                self.say(event.outcome.message)
            self._note(event.outcome)
        elif isinstance(event, FrameTakenOut):
            self._take_out((event.member.path or Path(event.member.name)).name, event.member.index, event.why)

    def state(self) -> Mapping[str, Any]:
        """What the journal does not tell."""
        return {"noise": self.noise, "object": self.object_override, "goals": self.goals}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go on from what `state` returned."""
        self.noise = {str(name): list(history) for name, history in state["noise"].items()}
        self.object_override = str(state["object"])
        self.goals = {str(name): float(seconds) for name, seconds in state["goals"].items()}

    def _note(self, outcome: Outcome) -> None:
        self.sequence += 1
        moved = tf.decompose(outcome.transform, *self.frame_size) if outcome.transform is not None else None
        self._add(
            TrendPoint(
                frame=self.sequence, file=outcome.name, status="stacked" if outcome.stacked else "refused",
                time=outcome.date_obs, fwhm_px=outcome.fwhm_px, eccentricity=outcome.eccentricity,
                sky_adu=outcome.sky_adu, transparency=outcome.transparency, n_stars=outcome.n_stars or 0,
                dx_px=moved.dx_px if moved else None, dy_px=moved.dy_px if moved else None,
                rotation_deg=moved.rotation_deg if moved else None, reason=outcome.reason,
                message=outcome.message or None, path=outcome.path, index=outcome.index,
            )
        )  # fmt: skip
        if outcome.stacked:
            self.active_group = outcome.group

    def note_refusal(self, path: Path, reason: str, message: str) -> None:
        """A file never became a frame."""
        self.sequence += 1
        blank = (None, None, None, None, None, 0, None, None, None)
        self._add(TrendPoint(self.sequence, path.name, "refused", *blank, reason, message, path))
        self.say(message)

    def _add(self, point: TrendPoint) -> None:
        self.trend.append(point)
        if point.status == "refused":
            self._refused.add(point.file)
            self.n_refused += 1
        elif point.file in self._refused:  # taken up again
            self._refused.discard(point.file)
            self.n_refused -= 1

    def _take_out(self, name: str, index: int, why: str) -> None:
        """A frame is in no stack any more: its point says so, under a new number, for those who know the old one."""
        for place, point in enumerate(self.trend):
            known = (point.path.name if point.path is not None else point.file, point.index, point.status)
            if known == (name, index, "stacked"):
                self.sequence += 1
                del self.trend[place]
                gone = replace(point, frame=self.sequence, status="refused", reason="removed", message=why or None)
                self.trend.append(gone)
                return

    def recall(self, records: Sequence[Record]) -> None:
        """Take over what the journal of the interrupted session tells."""
        size, base = (1, 1), Path()
        for number, record in enumerate(records):
            if isinstance(record, SessionStart):
                base = Path(record.folder)
            elif isinstance(record, ReferenceRecord) and record.width and record.height:
                size = (record.width, record.height)
            elif isinstance(record, WarningRecord):
                self.say(record.message)
            elif isinstance(record, RemovedRecord):
                self.sequence = number - 1
                self._take_out(Path(record.file).name, record.index, record.message)
            elif isinstance(record, FrameRecord):
                moved = None
                if record.transform is not None:
                    moved = tf.decompose(np.array(record.transform, dtype=float), *size)
                self._add(
                    TrendPoint(
                        frame=number, file=Path(record.file).name, status=record.status, time=record.date_obs,
                        fwhm_px=record.fwhm_px, eccentricity=record.eccentricity, sky_adu=record.sky_adu,
                        transparency=record.transparency, n_stars=record.n_stars or 0,
                        dx_px=moved.dx_px if moved else None, dy_px=moved.dy_px if moved else None,
                        rotation_deg=moved.rotation_deg if moved else None, reason=record.reason,
                        message=record.message or None, path=base / record.file, index=record.index,
                    )
                )  # fmt: skip
                self.sequence = number
                if record.status == "stacked":
                    self.active_group = record.group
                else:
                    self.say(record.message)

    # Publishing

    def publish(self, state: State | None = None, note: str | None = None) -> None:
        """Replace the snapshot."""
        with self._lock:
            drawing = self._drawn
        old = self._snapshot
        picture, last, sequence = old.picture, old.last_frame, old.picture_sequence
        if drawing is not None and drawing.picture.rgb is not picture:
            picture, sequence = drawing.picture.rgb, sequence + 1
            if drawing.last_frame is not None or last is None or last.shape != picture.shape:
                last = drawing.last_frame
            self._note_noise(drawing)
        group = self._groups.get(self.active_group)
        point = self.trend[-1] if self.trend else None
        psf = self.psf.get(self.active_group)
        info = group.reference.info if group is not None and group.reference is not None else None
        exposure = self._targets.exposure_of(self.active_group)
        noise = self.noise.get(self.active_group, [])
        ratio = noise[-1][1] if noise else None
        fwhm = psf.fwhm_px if psf else (point.fwhm_px if point else None)
        sky = self.sky(self.active_group)
        scale = sky.sky.scale_arcsec if sky is not None else info.scale_arcsec_px if info else None
        self._snapshot = replace(
            old,
            sequence=old.sequence + 1,
            picture_sequence=sequence,
            state=state or ("paused" if self.paused else old.state if old.state != "paused" else "watching"),
            object_name=self.object_override or (info.object_name or "" if info else ""),
            group=self.active_group,
            n_stacked=sum(one.n_stacked for one in self._targets.on_grid_of(self.active_group)),
            n_session=sum(one.n_stacked for one in self._groups.values()),
            n_refused=self.n_refused,
            n_waiting=self._n_waiting(),
            exposure_s=exposure,
            fwhm_px=fwhm,
            fwhm_arcsec=fwhm * scale if fwhm and scale else None,
            eccentricity=psf.eccentricity if psf else (point.eccentricity if point else None),
            sky_adu=point.sky_adu if point else None,
            snr_gain=1.0 / ratio if ratio else None,
            snr_ideal=float(group.n_stacked) ** 0.5 if group is not None and group.n_stacked else None,
            noise_history=tuple(noise),
            trend=tuple(self.trend),
            messages=tuple(self._messages),
            warnings=group.alerts.active if group is not None else (),
            picture=picture,
            last_frame=last,
            full_size=(drawing.canvas.width, drawing.canvas.height) if drawing is not None else (0, 0),
            region=self._region if picture is not None else None,
            value=self._value if picture is not None else None,
            note=old.note if note is None else note,
            curves=self.curves(self.active_group),
            upright=self._upright(drawing),
            sky=sky,
            passed=self.passed(self.active_group),
            follows=group is not None and group.following.active,
            render=self.render,
            save=self.save,
            levels=drawing.levels if drawing is not None else None,
            psf=psf,
            goals=dict(self.goals),
        )
        self.slot.publish(self._snapshot)

    def _note_noise(self, drawing: Drawing) -> None:
        noise = self.noise.setdefault(drawing.group, [])
        if drawing.noise and min(drawing.noise) > 0 and (not noise or drawing.n_frames != noise[-1][0]):
            noise.append((drawing.n_frames, drawing.noise[1] / drawing.noise[0]))
            if len(noise) > HISTORY_POINTS:
                del noise[1::2]

    def _upright(self, drawing: Drawing | None) -> Upright | None:
        """How the picture shows the active group's reference; None where it is of another grid."""
        drawn = self._groups.get(drawing.group) if drawing is not None else None
        active = self._groups.get(self.active_group)
        if drawing is None or drawn is None or active is None or drawn.grid.root != active.grid.root:
            return None
        bottom_up = bool(drawn.reference and drawn.reference.info.bottom_up)
        return Upright.of(drawing.canvas, bottom_up)

    def _now_drawn(self) -> tuple[Drawing | None, StackView | None]:
        """The picture that is shown, and its stack as it is now."""
        with self._lock:
            drawing = self._drawn
        group = self._groups.get(drawing.group) if drawing else None
        view = StackView.of(group, with_newest=False) if group is not None else None  # once: it may be another soon
        return drawing, view

    def _value(self, x: int, y: int) -> tuple[float, ...]:
        """What the stack holds at a true pixel of the upright picture; called from faces' threads."""
        drawing, view = self._now_drawn()
        if drawing is None or view is None or drawing.canvas != view.canvas:
            return ()
        return drawing.value(view, x, y)

    def _region(self, x: int, y: int, w: int, h: int) -> np.ndarray:
        """True pixels of the upright picture, for zooming; called from faces' threads."""
        drawing, view = self._now_drawn()
        if drawing is None or view is None:
            raise LivestackError("region: nothing has been drawn yet; ask again.")
        if drawing.canvas != view.canvas:
            raise LivestackError("region: the canvas has grown; ask again when it is drawn.")
        return drawing.region(view, x, y, w, h)
