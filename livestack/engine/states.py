"""The states of a frame on its way, a type for each: none can be taken for another.

    Frame -> Calibrated -> Detected -> Registered -> Judged -> Normalised -> Stacked
                                   \\-------------\\---------\\-----------\\-> Refused

`Outcome` is what can be told of a frame, filled in as it goes on; a `Stacked` or `Refused` frame's is complete.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from livestack.base.frame import Frame
from livestack.calibration.calibrate import MatchedMasters
from livestack.detection import Sky, StarCatalog
from livestack.engine.developer import Developer
from livestack.engine.ledger import Member
from livestack.quality import FrameMeasures
from livestack.registration.distortion import Distortion
from livestack.registration.transform import Registration
from livestack.stacking.normalisation import Normalisation

if TYPE_CHECKING:
    from livestack.engine.reference import Patch


@dataclass(frozen=True, eq=False, kw_only=True)
class Calibrated:
    """A frame whose pixels are linear.

    Attributes
    ----------
    data : (H, W) mono or mosaic, or (3, H, W), float32, ADU, not debayered; None once the pixels were let go.
    masters : that calibrated it, None where there are none.
    timings_s : seconds by step.
    grainy : neighbouring pixels share noise: the colours were rebuilt from an X-Trans mosaic.
    """

    frame: Frame
    data: np.ndarray | None
    masters: MatchedMasters | None
    timings_s: dict[str, float] = field(default_factory=dict)
    grainy: bool = False

    @property
    def shape(self) -> tuple[int, int]:
        """(height, width)."""
        return self.frame.info.height, self.frame.info.width


@dataclass(frozen=True, eq=False, kw_only=True)
class Detected(Calibrated):
    """A calibrated frame with all that can be known of it alone.

    Attributes
    ----------
    fingerprint : of the raw pixels; equal for copies of one exposure.
    """

    sky: Sky
    stars: StarCatalog
    fingerprint: int


def without_pixels(detected: Detected) -> Detected:
    """What is known of a frame, its pixels let go."""
    return replace(detected, data=None)


@dataclass(frozen=True, eq=False)
class Outcome:
    """What became of one frame; the fields are those of the journal's `frame` line.

    Attributes
    ----------
    path : the file, None for a frame that a program handed over; `index` its position in a file of many.
    status : "stacked" or "refused"; `reason` a key of `quality.REASONS`, `message` its sentence.
    transform : (3, 3) frame (x, y, 1) -> reference (x, y, 1), None when unregistered.
    distortion : what a lens adds to it; None where it adds nothing.
    rejected_fraction : share of its samples that the stack refused; None before streaming begins.
    warnings : sentences for the person at the telescope.
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

    @property
    def stacked(self) -> bool:
        """True when the frame is in the stack."""
        return self.status == "stacked"


@dataclass(frozen=True, eq=False)
class Registered:
    """A frame that lies on the reference.

    Attributes
    ----------
    registration : frame -> reference.
    patch : what it was matched to, where that is not the reference itself.
    """

    detected: Detected
    developer: Developer
    registration: Registration
    patch: Patch | None
    outcome: Outcome


@dataclass(frozen=True, eq=False)
class Judged:
    """A registered frame that is good enough.

    Attributes
    ----------
    weight : relative to the reference's.
    flux_ratio : flux on the reference's scale over that of the frame; None where no star tells.
    """

    registered: Registered
    measures: FrameMeasures
    weight: float
    flux_ratio: float | None
    outcome: Outcome


@dataclass(frozen=True, eq=False)
class Normalised:
    """A judged frame with what brings it to the reference's brightness and sky; `member` is its line in the ledger."""

    judged: Judged
    member: Member
    outcome: Outcome


@dataclass(frozen=True, eq=False)
class Held:
    """A stacked frame that waits with its pixels for the end of the warm-up; `detected` is without them."""

    member: Member
    developer: Developer
    measures: FrameMeasures
    detected: Detected

    @property
    def stars(self) -> StarCatalog:
        """Its stars, in its own pixels."""
        return self.detected.stars


@dataclass(frozen=True, eq=False)
class Stacked:
    """A frame whose samples are in the stack."""

    outcome: Outcome


@dataclass(frozen=True, eq=False)
class Refused:
    """A frame that is not in the stack.

    Attributes
    ----------
    new_target : it agrees with frames that were refused before it, not with the stack: the telescope points somewhere
        else now, or the camera takes frames of another size.
    """

    outcome: Outcome
    new_target: bool = False
