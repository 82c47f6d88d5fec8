"""One target through one filter: the objects that own its state.

What happens to a frame of it is in `pipeline`, what ends its warm-up in `warmup`, how a finished stack is tested again
in `restack`. A group holds the owners together, sets the reference, and gives and takes back the state of all.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import cv2
import numpy as np

from livestack.base.settings import Settings
from livestack.engine.accumulation import Accumulation, Keep
from livestack.engine.developer import Developer, Pixels
from livestack.engine.events import Events, ReferenceChanged
from livestack.engine.following import Following
from livestack.engine.grid import Family, GridPlace
from livestack.engine.ledger import Ledger, Member
from livestack.engine.limits import limits_for, stacked_fwhm_px
from livestack.engine.reference import FEW_STARS, Reference, is_starless, make_reference
from livestack.engine.sensor_defects import SensorDefects
from livestack.engine.states import Detected, Held, without_pixels
from livestack.engine.tracker import Tracker
from livestack.engine.warmup import WarmUp
from livestack.kernels.bands import Bands
from livestack.quality import Alerts, Judge
from livestack.registration.features import FeatureReference, find_disc
from livestack.registration.features.smoothed import Smoothed, smooth_rows
from livestack.registration.transform import Registration
from livestack.stacking.accumulators import Stack
from livestack.stacking.noise_model import Limits

DISC_STARS = 40
"""A planet's belts and a Moon's craters are taken for so many stars at most."""
OWNERS = ("grid", "tracker", "judge", "alerts", "defects", "ledger", "following", "warmup")


class Group:
    """Everything about one target through one filter. Its many members are the owners of its state, one each.

    Parameters
    ----------
    name : a slug; `settings`, `bands` as everywhere.
    family : knows the other groups of the night.
    events : where a change of the reference is told.
    keep : where the rejected samples of each frame are kept.

    Attributes
    ----------
    history : what the masters did, for the header of what is saved.
    """

    def __init__(self, name: str, settings: Settings, bands: Bands, family: Family, events: Events, keep: Keep) -> None:
        self.name = name
        self.settings, self.bands, self.family, self.events = settings, bands, family, events
        self.reference: Reference | None = None
        self.history: tuple[str, ...] = ()
        self.grid = GridPlace(name)
        self.tracker = Tracker(settings.registration)
        self.judge = Judge(settings.quality)
        self.alerts = Alerts()
        self.defects = SensorDefects(settings.calibration.cosmetic)
        self.warmup = WarmUp(settings.stack)
        self.ledger = Ledger()
        self.following = Following(settings.follow)
        self.accumulation = Accumulation(settings, bands, keep)

    @property
    def stack(self) -> Stack | None:
        """The accumulators; None until there is a reference."""
        return self.accumulation.stack

    @property
    def members(self) -> list[Member]:
        """The frames in the stack."""
        return self.ledger.members

    @property
    def n_stacked(self) -> int:
        """How many frames are in the stack."""
        return len(self.ledger.members)

    @property
    def field(self) -> tuple[int, int]:
        """(height, width) of the reference."""
        assert self.reference is not None
        return self.reference.shape

    @property
    def stars_fwhm_px(self) -> float:
        """Width of the stars in the stack."""
        own = self.reference.stars.stars.fwhm_px if self.reference is not None else None
        return stacked_fwhm_px(self.ledger.members) or own or 3.0

    def pixels(self, developer: Developer) -> Pixels:
        """What of a frame goes into the stack."""
        return developer.pixels(self.accumulation.drop is not None, self.defects.known, self.bands)

    def luminance(self, developer: Developer) -> np.ndarray:
        """(H, W) float32, the mean of a frame's planes."""
        return np.asarray(np.mean(developer.whole(self.defects.known, self.bands), axis=0, dtype=np.float32))

    def deep_details(self) -> Smoothed:
        """The smoothed details of the stack, on the reference's grid."""
        assert self.stack is not None
        stack, canvas = self.stack, self.stack.canvas
        if canvas.scale != 1:
            return self._scaled_details(stack)
        height, width = canvas.field

        def read(rows: slice) -> np.ndarray:
            out = np.full((rows.stop - rows.start, width), np.nan, dtype=np.float32)
            y0, y1 = max(rows.start, canvas.top), min(rows.stop, canvas.top + canvas.height)
            x0, x1 = max(0, canvas.left), min(width, canvas.left + canvas.width)
            if y0 < y1 and x0 < x1:
                part = stack.image(slice(y0 - canvas.top, y1 - canvas.top), slice(x0 - canvas.left, x1 - canvas.left))
                out[y0 - rows.start : y1 - rows.start, x0:x1] = np.mean(part, axis=0)
            return out

        return smooth_rows(read, (height, width))

    def _scaled_details(self, stack: Stack) -> Smoothed:
        """As `deep_details`, of a stack whose pixels are smaller than the reference's."""
        height, width = stack.canvas.field
        back = stack.canvas.from_reference[:2]

        def read(rows: slice) -> np.ndarray:
            matrix = back.copy()
            matrix[:, 2] += back[:, 1] * rows.start
            size, flags = (width, rows.stop - rows.start), cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
            planes = [
                cv2.warpAffine(plane, matrix, size, flags=flags, borderValue=float("nan")) + level
                for plane, level in zip(stack.mean, stack.origin, strict=True)
            ]
            return np.asarray(np.mean(planes, axis=0), dtype=np.float32)

        return smooth_rows(read, (height, width))

    def set_reference(
        self, detected: Detected, developer: Developer, found: Registration, why: str, to_new: np.ndarray | None = None
    ) -> None:
        """Let a frame be what others are registered to, and begin an empty stack on its grid.

        Parameters
        ----------
        found : where it lies on the grid; `to_new` (3, 3) from the reference before to this one.
        """
        anchor = self.grid.anchor if self.grid.root != self.name else None
        starless = is_starless(detected)
        method = self.settings.registration.method
        needed = method in ("features", "phase") or (method == "auto" and (starless or len(detected.stars) < FEW_STARS))
        if method == "auto" and not needed and len(detected.stars) < DISC_STARS:
            needed = find_disc(self.luminance(developer)) is not None
        features = FeatureReference(self.luminance(developer)) if needed and anchor is None else None
        starless = starless or (features is not None and features.disc is not None)  # belts and moons are no stars
        self.reference = make_reference(
            detected, developer.shape if anchor is None else anchor.shape, found.matrix, starless,
            features if anchor is None else anchor.features, to_new, found.distortion,
        )  # fmt: skip
        sky = [float(np.nanmedian(level)) if np.isfinite(level).any() else 0.0 for level in detected.sky.level]
        others = [peer.stack for peer in self.family.on_grid_of(self.name) if peer is not self]
        canvas = next((stack.canvas.scaled(1.0) for stack in others if stack is not None), None)
        self.accumulation.stack = Stack(
            detected.frame.channels, *self.reference.shape, origin=np.array(sky), canvas=canvas
        )
        self.events.publish(ReferenceChanged(self.name, self.reference, why))

    def limits_for(self, member: Member, width_px: float | None = None, interpolated: bool = False) -> Limits:
        """What this frame's samples are tested with, against stars of that FWHM (default: the stack's).

        Parameters
        ----------
        interpolated : its samples are interpolated, though the stack is drizzled.
        """
        assert self.stack is not None
        usual = self.judge.usual("rms_px") or 0.0
        width = width_px or stacked_fwhm_px(self.ledger.members)
        members = self.ledger.members
        own = self.accumulation.drop is not None and not interpolated
        blot = self.accumulation.blot
        structure = blot.structure if own and blot is not None else None
        return limits_for(
            member, self.accumulation.noise, self.stack.origin, self.settings.stack, usual, width, members, own,
            structure,
        )  # fmt: skip

    # Going on after an interruption

    def state(self) -> dict[str, Any]:
        """All that `restore` needs to go on as if nothing had been; our own objects, and the live arrays themselves.

        While the warm-up lasts, the frames that it holds are named only: their pixels are read again.
        """
        state: dict[str, Any] = {name: getattr(self, name).state() for name in OWNERS}
        state |= {"reference": self.reference, "history": self.history, "noise": self.accumulation.noise}
        if self.stack is not None:
            arrays = {} if self.warmup.active else self.stack.arrays()
            state["stack"] = (self.stack.shape[0], self.stack.canvas, self.stack.origin, self.stack.n_frames, arrays)
        state["drop"], filler = (self.accumulation.drop, self.accumulation.blot), self.accumulation.filler
        if filler is not None:
            state["filler"] = (filler.canvas, filler.origin, filler.n_frames, filler.arrays())
        return state

    def restore(self, state: Mapping[str, Any], fetch: Callable[[Member], Detected]) -> None:
        """Go on from what `state` returned; `fetch` reads and prepares a frame that the warm-up held.

        Raises
        ------
        FrameError : such a frame cannot be read any more.
        ValueError : the accumulators do not belong together.
        """
        for name in OWNERS:
            if name != "warmup":
                getattr(self, name).restore(state[name])
        self.reference, self.history, self.accumulation.noise = state["reference"], state["history"], state["noise"]
        self.warmup.active, self.warmup.chosen = state["warmup"]["active"], state["warmup"]["chosen"]
        if "stack" not in state:
            return
        channels, canvas, origin, n_frames, arrays = state["stack"]
        if not self.warmup.active:
            self.accumulation.stack = Stack.restore(arrays, origin, n_frames, canvas)
            self.accumulation.drop, self.accumulation.blot = state["drop"]
            if "filler" in state:
                canvas, origin, n_frames, arrays = state["filler"]
                self.accumulation.filler = Stack.restore(arrays, origin, n_frames, canvas)
            return
        self.accumulation.stack = stack = Stack(channels, canvas.field[0], canvas.field[1], origin, canvas)
        for member, measures in state["warmup"]["held"]:
            detected = fetch(member)
            developer = Developer(detected, self.settings.calibration.interpolation, keep_raw=True)
            self.accumulation.put(stack, Pixels(developer.whole(None, self.bands)), member, None)
            self.warmup.held.append(Held(member, developer, measures, without_pixels(detected)))
