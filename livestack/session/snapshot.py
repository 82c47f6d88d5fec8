"""What the faces (terminal, window, web) know of a session: one frozen `Snapshot`, replaced as a whole.

The session publishes a new one after every event into a slot; a face reads the latest and never waits for, or slows,
the stack. Nothing in a snapshot is shared with the accumulators except through `region`, which copies on demand.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Literal

import numpy as np

from livestack.astrometry.facts import SkyFacts
from livestack.base.choices import Moving
from livestack.base.settings import RenderSettings, SaveSettings
from livestack.detection.psf import PSFModel
from livestack.photometry import Curves
from livestack.stacking.canvas import Canvas

State = Literal["starting", "watching", "paused", "saving", "ended"]


@dataclass(frozen=True)
class TrendPoint:
    """One frame of the night as the trends show it; None where it was not measured."""

    frame: int
    file: str
    status: Literal["stacked", "refused"]
    time: datetime | None
    fwhm_px: float | None
    eccentricity: float | None
    sky_adu: float | None
    transparency: float | None
    n_stars: int
    dx_px: float | None
    dy_px: float | None
    rotation_deg: float | None
    reason: str | None = None
    message: str | None = None
    path: Path | None = None
    """Its file, where there is one; `index` is its place in a file of many."""
    index: int = 0


@dataclass(frozen=True)
class Upright:
    """Where the pixels of the reference lie in the picture that is shown; both 0-based, integers at pixel centres.

    Attributes
    ----------
    left, top : of the canvas: where its first pixel lies on the reference, in pixels of the canvas.
    height : rows of the canvas.
    bottom_up : the picture begins with the last row.
    scale : pixels of the canvas along one of the reference.
    """

    left: int
    top: int
    height: int
    bottom_up: bool = False
    scale: float = 1.0

    @classmethod
    def of(cls, canvas: Canvas, bottom_up: bool) -> Upright:
        """For the picture of a canvas."""
        return cls(canvas.left, canvas.top, canvas.height, bottom_up, canvas.scale)

    def from_reference(self, x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Places on the reference as places in true pixels of the upright picture; any shape."""
        s, shift = self.scale, 0.5 * (self.scale - 1.0)
        row = s * y + shift - self.top
        return s * x + shift - self.left, self.height - 1 - row if self.bottom_up else row

    @property
    def transform(self) -> np.ndarray:
        """(3, 3) affine: places on the reference -> the upright picture."""
        s, shift = self.scale, 0.5 * (self.scale - 1.0)
        down = -s if self.bottom_up else s
        first = self.height - 1 + self.top - shift if self.bottom_up else shift - self.top
        return np.array([[s, 0.0, shift - self.left], [0.0, down, first], [0.0, 0.0, 1.0]])

    def to_reference(self, x: float, y: float) -> tuple[float, float]:
        """A place in true pixels of the upright picture as one on the reference."""
        row = self.height - 1 - y if self.bottom_up else y
        shift = 0.5 * (self.scale - 1.0)
        return (x + self.left - shift) / self.scale, (row + self.top - shift) / self.scale


@dataclass(frozen=True, eq=False)
class Snapshot:
    """The session at one moment.

    Attributes
    ----------
    sequence : counts up by one with each snapshot; a face that saw this number has nothing to redraw.
    picture_sequence : counts up when `picture` changed.
    picture, last_frame : (h, w, 3) uint8 sRGB, already the right way up; the stretched stack and the newest raw frame
        with the same stretch and geometry (None before the first).
    full_size : (width, height) of the stack in true pixels.
    region : (x, y, w, h) in true pixels of the upright picture -> (h, w, 3) uint8, stretched like `picture`; None
        before the first frame. Cheap for small regions; may be called from any thread.
    value : (x, y) true pixel of the upright picture -> ADU of the stack, one number a channel; none where
        nothing was stacked, or while the canvas grows. None before the first frame; may be called from any thread.
    n_stacked : frames in the stacks of the target that is shown, through all its filters; n_session : in all stacks.
    n_refused : frames refused in the whole session.
    exposure_s : accepted exposure of that target by filter name ("" when the headers name none).
    snr_gain : measured gain in signal to noise over a single frame; `snr_ideal` is the square root of N.
    noise_history : (frames stacked, measured noise of the stack over that of one frame) as the stack grew.
    messages : newest last: what was refused, warnings, what was saved.
    warnings : those in force now.
    curves : light of the stars of `group`, None while there is none.
    upright : from the reference of `group` to the picture, None while the picture shows something else.
    sky : where the reference of `group` lies in the sky, None while that is not known.
    follows : an object is followed in `group`, and has a stack of its own.
    render : how the picture is drawn; save : what is left in the morning.
    levels : (C, n) how many pixels have which brightness between 0 and 1, before black, midtone and white of `render`.
    psf : newest measurement of the stack's PSF, None before the first.
    goals : seconds of light that are wanted, by filter.
    passed : what passed while `group` was stacked, in words; "" while nothing did.
    """

    sequence: int = 0
    picture_sequence: int = 0
    state: State = "starting"
    session_name: str = ""
    object_name: str = ""
    group: str = ""
    n_stacked: int = 0
    n_session: int = 0
    n_refused: int = 0
    n_waiting: int = 0
    exposure_s: dict[str, float] = field(default_factory=dict)
    fwhm_px: float | None = None
    fwhm_arcsec: float | None = None
    eccentricity: float | None = None
    sky_adu: float | None = None
    snr_gain: float | None = None
    snr_ideal: float | None = None
    noise_history: tuple[tuple[int, float], ...] = ()
    trend: tuple[TrendPoint, ...] = ()
    messages: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    picture: np.ndarray | None = None
    last_frame: np.ndarray | None = None
    full_size: tuple[int, int] = (0, 0)
    region: Callable[[int, int, int, int], np.ndarray] | None = None
    value: Callable[[int, int], tuple[float, ...]] | None = None
    output: Path | None = None
    curves: Curves | None = None
    upright: Upright | None = None
    sky: SkyFacts | None = None
    passed: str = ""
    follows: bool = False
    render: RenderSettings = field(default_factory=RenderSettings)
    save: SaveSettings = field(default_factory=SaveSettings)
    levels: np.ndarray | None = None
    psf: PSFModel | None = None
    goals: dict[str, float] = field(default_factory=dict)
    note: str = ""
    """A few words of the host for the public."""


class Slot:
    """Holds the latest snapshot. Writers replace it; readers look at it or wait for a newer one."""

    def __init__(self) -> None:
        self._latest = Snapshot()
        self._changed = threading.Condition()

    def publish(self, snapshot: Snapshot) -> None:
        """Replace the snapshot and wake those who wait."""
        with self._changed:
            self._latest = snapshot
            self._changed.notify_all()

    @property
    def latest(self) -> Snapshot:
        """The newest snapshot."""
        return self._latest

    def wait_newer(self, sequence: int, timeout_s: float) -> Snapshot:
        """Return as soon as a snapshot newer than `sequence` is there, or the latest one after `timeout_s`."""
        with self._changed:
            self._changed.wait_for(lambda: self._latest.sequence > sequence, timeout_s)
            return self._latest


@dataclass(frozen=True)
class Controls:
    """What the host's page and the window may ask of a session; each returns at once with a sentence."""

    pause: Callable[[], str]
    resume: Callable[[], str]
    save_now: Callable[[], str]
    stop: Callable[[], str]
    new_target: Callable[[str], str]
    set_note: Callable[[str], str]
    set_object: Callable[[str], str]
    set_stretch: Callable[[float, float], str]
    """(background 0..1, saturation) for the picture from now on."""
    show: Callable[[Moving], str]
    """What the picture shows while an object is followed."""
    follow: Callable[[float, float], str]
    """(x, y) of an object in the upright picture, true pixels: it is stacked on itself from now on."""
    change: Callable[[str, Mapping[str, object]], str]
    """(section, field -> value): settings that may change while it runs, of "render" and "save"."""
    set_goal: Callable[[str, float], str]
    """(filter, seconds of light that are wanted; 0: none)."""
    remove_frame: Callable[[str], str]
    """Take a stacked frame, named as in `TrendPoint.file`, out of the stack again."""
