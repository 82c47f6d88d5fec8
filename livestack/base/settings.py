"""All settings: one frozen model for each step, defaults = what we recommend.

They are passed as arguments, never global, and written whole into the first line of the journal. `livestack config`
prints them as commented TOML; the comments are the descriptions below.
"""

from __future__ import annotations

import math
import re
from pathlib import Path
from typing import Literal, Self

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from livestack.base.choices import (
    BayerPattern,
    CanvasExtent,
    Debayering,
    Looking,
    Moving,
    Norm,
    PictureFormat,
    PSFFunction,
    RegistrationMethod,
    RejectionMethod,
    SolveMode,
    StackMode,
    Stretch,
    TransformModel,
    WhiteBalance,
)


class Section(BaseModel):
    """Base of every section: frozen, and a misspelt name is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class IngestSettings(Section):
    """Which files become frames, and when."""

    existing: bool = Field(True, description="take the frames that are already in the folder")
    recursive: bool = Field(True, description="look into sub-folders")
    poll: bool = Field(False, description="look at intervals instead of trusting folder events (network shares)")
    look_interval_s: float = Field(0.3, gt=0, description="pause between two looks at a file that may still grow")
    rescan_interval_s: float = Field(5.0, gt=0, description="pause between two scans of the whole folder")
    settle_timeout_s: float = Field(
        60.0, gt=0, description="how long an unfinished file may stand still before it is refused"
    )
    idle_stop_s: float | None = Field(None, description="end the session after so many seconds without a new file")
    max_frames: int | None = Field(None, description="end the session after so many stacked frames")


class CalibrationSettings(Section):
    """From camera pixels to linear, debayered data."""

    masters: Path | None = Field(None, description="folder of master frames")
    temperature_tolerance_c: float = Field(
        5.0, ge=0, description="how far a dark's temperature may be from the light's"
    )
    cosmetic: bool = Field(True, description="repair hot, cold and column defects (masters or learned while running)")
    cosmic_rays: bool = Field(False, description="find cosmic rays in each single frame; the stack does it better")
    bayer: BayerPattern | None = Field(
        None, description="Bayer pattern of the frames as stored, where the header is wrong or silent; none: mono."
    )
    debayer: Debayering = Field(
        "mhc",
        description="mhc: Malvar-He-Cutler; bilinear; superpixel: half size, one colour pixel for each 2 x 2; drizzle: "
        "nothing is interpolated, each pixel feeds the stack's own colour (mono, too); needs frames that are dithered; "
        "auto: drizzle for undersampled stars in a mosaic where the frames' shifts carry it, else mhc",
    )

    @property
    def interpolation(self) -> Literal["mhc", "bilinear", "superpixel"]:
        """How a mosaic becomes a picture where one is needed before, or beside, the drizzled stack."""
        return "mhc" if self.debayer == "auto" or self.debayer == "drizzle" else self.debayer


class DetectionSettings(Section):
    """Finding stars."""

    threshold_sigma: float = Field(5.0, gt=0, description="detection limit after the matched filter, in sigma")
    max_stars: int = Field(1500, ge=10, description="keep at most so many of the brightest")


class RegistrationSettings(Section):
    """From stars (or features) to a transform."""

    method: RegistrationMethod = Field(
        "auto", description="auto: stars, else features, else phase correlation; none: frames are aligned already"
    )
    model: TransformModel = Field(
        "auto",
        description="auto takes the affine, and the polynomial for a lens that distorts, only where each lowers the "
        "cross-validated residual",
    )
    max_scale_change: float = Field(0.12, ge=0, description="largest believed difference of scale")
    max_rms_px: float = Field(1.5, gt=0, description="largest believed residual of matched stars")
    reference: Path | None = Field(None, description="register to this frame instead of the best of the warm-up")


class QualitySettings(Section):
    """Which registered frames are good enough, and how much they count."""

    enabled: bool = Field(True, description="refuse clouds, trailing, defocus ... and weight the rest")
    limit_sigma: float = Field(5.0, gt=0, description="robust sigma beyond which a frame is refused")
    min_transparency: float = Field(0.3, ge=0, le=1, description="flux of the stars relative to the accepted frames")
    max_fwhm_ratio: float = Field(1.8, gt=1, description="FWHM relative to the accepted frames")
    max_elongation: float = Field(2.0, gt=1, description="ratio of the star's axes, relative to the accepted frames")
    max_rejected_fraction: float = Field(0.25, gt=0, le=1, description="share of rejected samples")
    max_sky_ratio: float = Field(4.0, gt=1, description="sky brightness relative to the accepted frames")


SCALES = (1.0, 1.5, 2.0)


class StackSettings(Section):
    """The running mean and its rejection."""

    rejection: RejectionMethod = Field("live", description="moderated streaming rejection, or plain mean")
    warmup_frames: int = Field(10, ge=1, description="frames that are combined robustly before streaming begins")
    kappa: float = Field(3.5, gt=0, description="prediction limit in sigma, both sides")
    prior_dof: float = Field(12.0, gt=0, description="how many samples the noise model is worth")
    gradient: float = Field(0.25, ge=0, description="allowance around stars, in pixels of misregistration or seeing")
    mode: StackMode = Field(
        "mean", description="mean; maximum: the brightest sample, for star trails; sum: mean times number of samples"
    )
    canvas: CanvasExtent = Field(
        "reference",
        description="reference: the stack is as large as its reference frame; union: it grows with what is seen, for "
        "drifting and dithered fields and mosaics",
    )
    canvas_max: float = Field(
        4.0, ge=1, description="a growing canvas becomes at most so many times as large as the reference"
    )
    scale: float = Field(1.0, description="pixels of the drizzled stack along each pixel of the reference: 1, 1.5 or 2")
    pixfrac: float = Field(
        1.0,
        gt=0.1,
        le=1,
        description="side of the drops that drizzle makes of pixels; smaller is sharper, and wants more frames",
    )
    window_minutes: float | None = Field(
        None, gt=0, description="at the end also save a stack for each so many minutes (comets, photometry)"
    )

    @field_validator("scale")
    @classmethod
    def _known_scale(cls, value: float) -> float:
        if value not in SCALES:
            raise ValueError("expected 1, 1.5 or 2")
        return value

    @property
    def rejects(self) -> bool:
        """True when samples are tested and refused."""
        return self.rejection == "live" and self.mode != "maximum"


class PSFSettings(Section):
    """Measuring the point spread function."""

    every_frames: int = Field(5, ge=1, description="fit the PSF of the stack after so many stacked frames")
    max_stars: int = Field(200, ge=3, description="fit at most so many stars")
    function: PSFFunction = Field("moffat", description="profile that is reported and used for deconvolution")
    beta: float | None = Field(
        None, gt=1.2, le=50, description="hold Moffat's beta at this value instead of fitting it"
    )


class PhotometrySettings(Section):
    """Light curves of the stars."""

    enabled: bool = Field(True, description="measure the stars of each frame, and save their light curves")
    max_stars: int = Field(2000, ge=10, description="follow at most so many of the brightest")


class PassageSettings(Section):
    """What passed: satellites, aircraft, meteors, asteroids, new stars."""

    look: Looking = Field(
        "auto",
        description="look for what passes and moves, where there are stars; auto: what is too faint for a "
        "single frame not in a long night, where that takes minutes at its end",
    )
    tle: Path | None = Field(None, description="file of two-line elements that names satellites; needs sgp4")
    mpcorb: Path | None = Field(None, description="file like the Minor Planet Center's MPCORB.DAT that names asteroids")
    comets: Path | None = Field(None, description="file like the Minor Planet Center's CometEls.txt that names comets")

    @property
    def enabled(self) -> bool:
        """Anything is looked for."""
        return self.look != "off"


class FollowSettings(Section):
    """A comet or an asteroid that is stacked on itself, beside the stars."""

    target: str = Field(
        "auto",
        description="what is followed: auto (what moves is found), a pixel X,Y of the reference, RA,DEC in degrees "
        "(DEC with its sign), the name of a body in the files of passages.comets or passages.mpcorb, or none",
    )
    rate: str | None = Field(
        None, description="how it moves, where that is known: PX_PER_MIN,ANGLE; the angle from +x towards +y, degrees"
    )

    @field_validator("target")
    @classmethod
    def _known_target(cls, value: str) -> str:
        if _pair(value) is None and not any(letter.isalpha() for letter in value):
            raise ValueError(f"{value!r}: expected auto, none, X,Y (pixels), RA,+DEC (degrees) or a name")
        return value.strip()

    @field_validator("rate")
    @classmethod
    def _known_rate(cls, value: str | None) -> str | None:
        if value is not None and _pair(value) is None:
            raise ValueError(f"{value!r}: expected PX_PER_MIN,ANGLE, for instance 2.5,140")
        return value

    @property
    def is_off(self) -> bool:
        """Nothing is followed."""
        return self.target.lower() == "none"

    @property
    def pixel(self) -> tuple[float, float] | None:
        """X and Y on the reference, where the user gave them."""
        return None if self._is_sky else _pair(self.target)

    @property
    def name(self) -> str | None:
        """Of a body in a file of elements, where the user gave one."""
        known = self.target.lower() in ("auto", "none") or _pair(self.target) is not None
        return None if known else self.target

    @property
    def sky(self) -> tuple[float, float] | None:
        """RA and Dec in degrees, where the user gave them: the second number has its sign."""
        return _pair(self.target) if self._is_sky else None

    @property
    def needs_sky(self) -> bool:
        """Its place is known only once the plate is solved."""
        return self.sky is not None or self.name is not None

    @property
    def velocity(self) -> tuple[float, float] | None:
        """Px/min along x and y of the reference, where the user gave the rate."""
        pair = None if self.rate is None else _pair(self.rate)
        if pair is None:
            return None
        angle = math.radians(pair[1])
        return pair[0] * math.cos(angle), pair[0] * math.sin(angle)

    @property
    def _is_sky(self) -> bool:
        _, comma, second = self.target.partition(",")
        return bool(comma) and second.strip()[:1] in ("+", "-")


def _pair(words: str) -> tuple[float, float] | None:
    try:
        first, second = (float(word) for word in words.split(","))
    except ValueError:
        return None
    return (first, second) if math.isfinite(first) and math.isfinite(second) else None


class RenderSettings(Section):
    """From linear data to a picture."""

    stretch: Stretch = Field(
        "auto",
        description="auto: midtone transfer from the sky's level and noise; asinh, log, gamma: the sky at the same "
        "brightness, by another curve; linear: as in the data",
    )
    norm: Norm = Field(
        "stack",
        description="whose noise sets black and stretch: stack, so that ever fainter things appear; frame, a single "
        "frame of the night, so that the picture keeps its brightness and loses its noise",
    )
    black: float = Field(0.0, ge=0, lt=1, description="level of the stretched picture that becomes black")
    midtone: float = Field(0.5, gt=0, lt=1, description="level between black and white that becomes middle grey")
    white: float = Field(1.0, gt=0, le=1, description="level of the stretched picture that becomes white")
    linked: bool = Field(True, description="one stretch for all channels; else each is stretched by its own noise")
    white_balance: WhiteBalance = Field(
        "stars", description="stars: the median star becomes neutral; none: as it is, for narrowband palettes"
    )
    palette: str = Field(
        "auto",
        description="colour picture of a target stacked through several filters: auto, LRGB, RGB, SHO, HOO, a mixture "
        "such as R=SII, G=0.8*Ha+0.2*OIII, B=OIII, or none",
    )
    background: float = Field(0.12, gt=0, lt=1, description="where the sky ends up in the picture, 0 black to 1 white")
    saturation: float = Field(1.5, ge=0, description="colour strength; 0 grey, 1 as in the data")
    gradient_removal: bool = Field(
        True, description="take light-pollution gradients out of the picture (never out of the data)"
    )
    moving: Moving = Field(
        "both",
        description="the live picture while a comet or asteroid is followed: the object among the stars, the stars, or "
        "the object alone",
    )
    preview_width: int = Field(1920, ge=64, description="longest side of the live preview")

    @model_validator(mode="after")
    def _black_below_white(self) -> Self:
        if self.black >= self.white:
            raise ValueError(f"black {self.black:g} must lie below white {self.white:g}")
        return self


class SaveSettings(Section):
    """What is left in the morning."""

    output: Path | None = Field(None, description="session folder; default FOLDER/livestack/<start time>")
    final_pass: bool = Field(True, description="re-read the accepted frames and clip against the finished mean")
    formats: tuple[PictureFormat, ...] = Field(
        ("fits", "png", "tiff"),
        description="what is written of each stack: fits (always: stack.fits, linear), png (8 bit), png16, tiff (16 "
        "bit), jpeg: stretched; tiff32: linear",
    )
    flatten: bool = Field(False, description="also write stack_flat.fits, the stack without its sky gradient")
    solve: SolveMode = Field(
        "auto",
        description="where the stack lies in the sky. auto: found while stacking, with the catalogue that comes along; "
        "where that finds nothing, by an installed ASTAP or astrometry.net; external: only by those, at the end; off",
    )
    timelapse: bool = Field(False, description="write a film of the stack growing")
    publish: Path | None = Field(None, description="also write picture and status as static files here")
    checkpoint_every_frames: int = Field(20, ge=1, description="save what resume needs after so many frames")
    checkpoint_every_s: float = Field(120.0, gt=0, description="... or after so many seconds, whichever comes first")
    memory_limit_mb: int | None = Field(None, description="bin 2 x 2 rather than need more memory than this")


class NotifySettings(Section):
    """Being told elsewhere: on a phone, by mail, in a chat."""

    urls: tuple[str, ...] = Field(
        (), description="where to, as apprise writes it: ntfy://topic, tgram://token/chat, mailto://..., json://host"
    )
    quiet: str | None = Field(
        None, description="local hours in which only the end of a session that broke off is told, such as 23:30-06:00"
    )

    @field_validator("quiet")
    @classmethod
    def _known_hours(cls, value: str | None) -> str | None:
        if value is not None and not _HOURS.fullmatch(value.strip()):
            raise ValueError(f"{value!r}: expected two times of the day, for instance 23:30-06:00")
        return None if value is None else value.strip()


_HOURS = re.compile(r"([01]?\d|2[0-3]):[0-5]\d-([01]?\d|2[0-3]):[0-5]\d")


class FaceSettings(Section):
    """How the session shows itself."""

    window: bool = Field(False, description="desktop window")
    web: bool = Field(False, description="web view for this machine or, with host, for the network")
    host: str = Field("127.0.0.1", description="address to serve on; 0.0.0.0 lets phones in")
    port: int = Field(8765, ge=0, le=65535, description="port of the web view; 0 takes any free one")
    json_events: bool = Field(False, description="events as JSON lines on stdout instead of the dashboard")


class Settings(Section):
    """Everything, a section for each step."""

    ingest: IngestSettings = IngestSettings()
    calibration: CalibrationSettings = CalibrationSettings()
    detection: DetectionSettings = DetectionSettings()
    registration: RegistrationSettings = RegistrationSettings()
    quality: QualitySettings = QualitySettings()
    stack: StackSettings = StackSettings()
    psf: PSFSettings = PSFSettings()
    photometry: PhotometrySettings = PhotometrySettings()
    passages: PassageSettings = PassageSettings()
    follow: FollowSettings = FollowSettings()
    render: RenderSettings = RenderSettings()
    save: SaveSettings = SaveSettings()
    notify: NotifySettings = NotifySettings()
    face: FaceSettings = FaceSettings()

    @model_validator(mode="after")
    def _scaled_by_drizzle(self) -> Self:
        if self.calibration.debayer == "drizzle" and self.stack.mode == "maximum":
            raise ValueError("drizzle makes a mean; star trails (mode maximum) need another debayer")
        if self.stack.scale != 1 and not self.drizzles:
            raise ValueError(f"a scale of {self.stack.scale:g} needs debayer drizzle or auto (--debayer drizzle)")
        return self

    @property
    def drizzles(self) -> bool:
        """The stack is drizzled, if the frames carry it."""
        return self.calibration.debayer in ("auto", "drizzle")
