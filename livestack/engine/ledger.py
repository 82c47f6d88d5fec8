"""What is remembered of a frame: what became of it, and what the stack needs to know of it later."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

import numpy as np

from livestack.base.frame import FrameInfo
from livestack.detection import StarCatalog
from livestack.engine.prepare import Developer, Prepared
from livestack.quality import FrameMeasures
from livestack.registration.distortion import Distortion
from livestack.stacking.accumulators import Normalisation, RejectedSamples


@dataclass(frozen=True, eq=False)
class Outcome:
    """What became of one frame; the fields are those of the journal's `frame` line.

    Attributes
    ----------
    path : the file, None for a frame that a program handed over; `index` its position in a file of many.
    status : "stacked" or "refused"; `reason` a key of `quality.REASONS`, `message` its sentence.
    transform : (3, 3) frame (x, y, 1) -> reference (x, y, 1), None when unregistered.
    distortion : what a lens adds to it; None where it adds nothing.
    rejected : the samples that the stack refused; None before streaming begins.
    """

    name: str
    path: Path | None
    index: int
    group: str
    status: str
    reason: str | None = None
    message: str = ""
    transform: np.ndarray | None = None
    method: str | None = None
    n_stars: int | None = None
    n_matched: int | None = None
    rms_px: float | None = None
    fwhm_px: float | None = None
    eccentricity: float | None = None
    elongation_deg: float | None = None
    sky_adu: float | None = None
    noise_adu: float | None = None
    transparency: float | None = None
    weight: float | None = None
    rejected_fraction: float | None = None
    exposure_s: float | None = None
    date_obs: datetime | None = None
    timings_s: dict[str, float] = field(default_factory=dict)
    normalisation: Normalisation | None = None
    warnings: tuple[str, ...] = ()
    distortion: Distortion | None = None
    new_target: bool = False
    """It matches other frames that were refused, not the reference: the telescope points somewhere else now."""

    @property
    def stacked(self) -> bool:
        """True when the frame is in the stack."""
        return self.status == "stacked"


@dataclass(frozen=True, eq=False)
class Member:
    """A stacked frame as the group remembers it: enough to take it out again, or to test it anew."""

    name: str
    path: Path | None
    index: int
    info: FrameInfo
    matrix: np.ndarray
    normalisation: Normalisation
    weight: float
    noise: np.ndarray
    """(C,) of the frame's pixels, ADU."""
    fwhm_px: float | None
    rms_px: float | None
    rejected: RejectedSamples
    rejected_fraction: float = 0.0
    distortion: Distortion | None = None


@dataclass(frozen=True, eq=False)
class Held:
    """A warm-up frame that waits with its pixels."""

    member: Member
    developer: Developer
    stars: StarCatalog
    measures: FrameMeasures
    prepared: Prepared
    """Without pixels."""
