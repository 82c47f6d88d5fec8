"""What a simulated night is made of: one frozen `Scenario` with all its knobs, and the faults of single frames.

Light is counted in electrons, lengths in pixels, times in frames or seconds; where the sky is the real one
(`real_sky`), stars and sky are in magnitudes and turned into electrons here. The defaults are a decent night with a
cooled CMOS camera on an equatorial mount, without a single fault. Named scenarios are in `simulate.nights`.
"""

from __future__ import annotations

import math
from datetime import UTC, datetime
from typing import Literal

from pydantic import Field

from livestack.base.settings import Section
from livestack.simulate.movers import Mover, Newcomer, Passing

FaultKind = Literal[
    "satellite", "aircraft", "clouds", "defocus", "wind", "bright_sky", "rescale",
    "truncated", "other_field", "dark", "capped", "duplicate",
]  # fmt: skip
Verdict = Literal["stacked", "refused", "either"]


class Fault(Section):
    """Something that befalls the frames `first` to `last`; several may hit the same frame.

    What `amount` means: satellite, aircraft: peak of the trail in sigma of the sky noise; clouds: transparency that is
    left; defocus: factor on the FWHM; wind: length of the smear in pixels; bright_sky: factor on the sky; rescale:
    factor on the image scale; truncated: share of the file that is written; duplicate: how many frames back the
    original is; other_field, dark (header says so), capped (a dark whose header says light): nothing.
    """

    kind: FaultKind
    first: int = Field(ge=0, description="first frame that is hit, counted from 0")
    last: int | None = Field(None, description="last frame that is hit; None: only the first")
    amount: float = Field(1.0, description="how bad, see above")
    expected: Verdict | None = Field(None, description="what should become of the frame; None: judged from the amount")

    def hits(self, index: int) -> bool:
        """True when frame `index` is one of those."""
        return self.first <= index <= (self.first if self.last is None else self.last)

    @property
    def verdict(self) -> tuple[Verdict, str | None]:
        """What should become of a frame with this fault, and the reason a refusal should give."""
        reason, refused = {
            "satellite": (None, False),
            "aircraft": (None, False),
            "rescale": (None, False),
            "clouds": ("clouds", self.amount < 0.25),
            "defocus": ("defocus", self.amount > 2.0),
            "wind": ("trailing", self.amount > 8.0),
            "bright_sky": ("bright_sky", self.amount > 5.0),
            "truncated": ("truncated", True),
            "other_field": ("no_registration", True),
            "dark": ("not_a_light", True),
            "capped": ("not_a_light", True),
            "duplicate": ("duplicate", True),
        }[self.kind]
        verdict: Verdict = self.expected or ("refused" if refused else "stacked")
        return verdict, reason if verdict != "stacked" else None


class Scenario(Section):
    """A night: sky, weather, mount, camera and faults. Every frame follows from this and its index alone."""

    name: str = Field("mono", description="what the night is called")
    seed: int = Field(1, ge=0, description="all that is random follows from it")
    frames: int = Field(38, ge=1, description="number of light frames")
    width: int = Field(800, ge=16, description="pixels in a row")
    height: int = Field(600, ge=16, description="rows")

    # the camera's files
    bayer: Literal["RGGB", "BGGR", "GRBG", "GBRG"] | None = Field(None, description="colour filter mosaic as stored")
    row_order: Literal["TOP-DOWN", "BOTTOM-UP"] = Field("TOP-DOWN", description="which way up the file is")
    objects: tuple[str, ...] = Field(("M 27",), description="targets, one after the other through the night")
    filters: tuple[str, ...] = Field((), description="filters, cycled frame by frame; L R G B change the starlight")
    camera: str = Field("Simulated 2600", description="INSTRUME")
    telescope: str = Field("Simulated 80/480", description="TELESCOP")
    start: datetime = Field(datetime(2025, 8, 14, 21, 3, 20, tzinfo=UTC), description="start of the first exposure")
    exposure_s: float = Field(30.0, gt=0, description="exposure of a light")
    cadence_s: float = Field(32.0, gt=0, description="time from one exposure's start to the next")
    pixel_um: float = Field(3.76, gt=0, description="pixel size")
    focal_mm: float = Field(480.0, gt=0, description="focal length")
    ra_deg: float = Field(299.9015, description="right ascension of the first target")
    dec_deg: float = Field(22.7211, description="declination of the first target")

    # sensor
    gain_e_adu: float = Field(0.8, gt=0, description="electrons for one ADU")
    gain_setting: int = Field(100, description="the camera's own number for it (GAIN)")
    offset_setting: int = Field(50, description="the camera's own number for the pedestal (OFFSET)")
    pedestal_adu: float = Field(500.0, ge=0, description="bias level")
    read_noise_e: float = Field(1.8, ge=0, description="read noise of a pixel")
    full_well_e: float = Field(50000.0, gt=0, description="electrons at which a pixel is full")
    adc_bits: int = Field(16, ge=8, le=16, description="bits of the converter")
    temperature_c: float = Field(-10.0, description="sensor temperature")
    dark_e_s: float = Field(0.004, ge=0, description="mean dark current of a pixel at -10 C; doubles every 6 degrees")
    bias_columns_adu: float = Field(0.0, ge=0, description="rms of a fixed offset of each column")
    prnu: float = Field(0.0, ge=0, description="rms of the pixels' relative sensitivity")
    hot_pixels: float = Field(0.0, ge=0, le=0.1, description="share of pixels with much dark current")
    hot_e_s: float = Field(60.0, gt=0, description="mean dark current of those at -10 C")
    cold_pixels: float = Field(0.0, ge=0, le=0.1, description="share of pixels with little sensitivity")
    bad_columns: int = Field(0, ge=0, description="columns that read low from some row on")
    vignetting: float = Field(0.0, ge=0, lt=1, description="light lost in the corners")
    dust: int = Field(0, ge=0, description="shadows of dust")
    amp_glow_e_s: float = Field(0.0, ge=0, description="glow at its corner of the sensor")

    # sky
    stars: int = Field(300, ge=0, description="stars in a frame, on average")
    stars_within: float | None = Field(
        None, gt=0, le=1, description="exactly so many stars, all within this share of the frame; None: everywhere"
    )
    flux_min_e: float = Field(500.0, gt=0, description="electrons of the faintest star in one exposure")
    flux_max_e: float = Field(3e6, gt=0, description="electrons of the brightest possible star")
    flux_slope: float = Field(0.8, gt=0, description="N(>F) goes with F to the minus this")
    nebula_e: float = Field(60.0, ge=0, description="brightest part of the nebula, electrons a pixel and exposure")
    terrain_e: float = Field(0.0, ge=0, description="mean light of a lunar landscape in place of the sky; 0: none")
    sky_e: float = Field(300.0, ge=0, description="sky, electrons a pixel and exposure (green, or mono)")
    sky_gradient: float = Field(0.0, ge=0, lt=1, description="rise of the sky from the centre to the corner, relative")
    sky_gradient_deg: float = Field(35.0, description="its direction on the reference grid")
    sky_gradient_turn_deg: float = Field(0.0, description="its turn from frame to frame")
    sky_trend: float = Field(0.0, description="relative change of the sky from frame to frame")
    transparency_jitter: float = Field(0.01, ge=0, lt=0.3, description="rms of the wander of transparency")

    # the real sky, about `ra_deg` and `dec_deg`, in place of stars and sky above
    real_sky: bool = Field(False, description="stars of the catalogue, and fainter ones by their numbers; no nebula")
    position_angle_deg: float = Field(0.0, description="of up in the reference frame, stored rows drawn from the top")
    mirrored: bool = Field(False, description="the stored rows, drawn from the top, show the sky as a mirror does")
    zero_point_mag: float = Field(20.0, description="G of a star that leaves 1 ADU a second (green, or mono), no air")
    extinction_mag: float = Field(0.0, ge=0, description="magnitudes that clear air takes from the stars")
    sky_mag_arcsec2: float = Field(20.5, description="brightness of the sky, on the scale of the stars in the frame")
    faintest_mag: float | None = Field(None, le=25, description="G of the faintest star; None: as bright as the noise")
    pointing_error_deg: float = Field(0.1, ge=0, le=90, description="how far off the place in the header is")

    # optics and seeing
    fwhm_px: float = Field(3.0, ge=0.6, description="FWHM of a star")
    beta: float = Field(3.5, gt=1.2, description="Moffat exponent")
    seeing_jitter: float = Field(0.05, ge=0, lt=0.5, description="rms of the relative wander of the FWHM")
    aspect: float = Field(1.0, ge=1, description="long over short axis of every star")
    aspect_deg: float = Field(0.0, description="direction of the long axis")
    tilt: float = Field(0.0, ge=0, lt=1, description="relative growth of the FWHM from the centre to the right edge")
    curvature: float = Field(0.0, ge=0, lt=2, description="relative growth of the FWHM from the centre to the corners")
    distortion_px: float = Field(0.0, description="radial displacement of a star in the corner (pincushion > 0)")

    # mount
    drift_px: tuple[float, float] = Field((0.31, -0.17), description="drift of the pointing a frame, reference pixels")
    dither_px: float = Field(0.0, ge=0, description="radius of the dither, a new place after each `dither_every`")
    dither_every: int = Field(1, ge=1, description="frames between two dithers")
    jitter_px: float = Field(0.3, ge=0, description="rms of the pointing from frame to frame")
    rotation_deg: float = Field(0.0, description="field rotation a frame")
    rotation_centre: tuple[float, float] = Field((0.5, 0.5), description="what it turns about, as shares of the frame")
    flip_at: int | None = Field(None, description="first frame after the meridian flip")
    flip_error_px: tuple[float, float] = Field((17.3, -9.8), description="pointing error after the flip")

    # artefacts
    satellite_rate: float = Field(0.0, ge=0, description="satellite trails a frame, on average")
    aircraft_rate: float = Field(0.0, ge=0, description="aircraft a frame, on average")
    cosmic_rate: float = Field(0.0, ge=0, description="cosmic rays a megapixel and frame, on average")
    faults: tuple[Fault, ...] = Field((), description="what befalls single frames")
    movers: tuple[Mover, ...] = Field((), description="comets and asteroids")
    newcomers: tuple[Newcomer, ...] = Field((), description="stars that were not there before")
    passing: tuple[Passing, ...] = Field((), description="what crosses single frames, told one by one")

    @property
    def without_movers(self) -> Scenario:
        """The same night in which nothing moves, crosses, or is new."""
        faults = tuple(fault for fault in self.faults if fault.kind not in ("satellite", "aircraft"))
        nothing = {"movers": (), "newcomers": (), "passing": (), "satellite_rate": 0.0, "aircraft_rate": 0.0}
        return self.model_copy(update={**nothing, "faults": faults})

    def minutes_of(self, index: int) -> float:
        """From the middle of the first exposure to that of frame `index`."""
        return self.cadence_s * index / 60.0

    @property
    def scale_arcsec_px(self) -> float:
        """Sampling of the sky."""
        return 206.264806 * self.pixel_um / self.focal_mm

    @property
    def clear_zero_point_mag(self) -> float:
        """G of a star that leaves 1 ADU a second through the clear air of the night, where the sky is the real one."""
        return self.zero_point_mag - self.extinction_mag

    @property
    def clear_sky_e(self) -> float:
        """Sky in electrons a pixel and exposure (green, or mono) before trend, clouds and faults."""
        if not self.real_sky:
            return self.sky_e
        return self.electrons_of(self.sky_mag_arcsec2) * self.scale_arcsec_px**2

    def electrons_of(self, magnitude: float) -> float:
        """What a star of that G leaves in one exposure through clear air (green, or mono), where the sky is real."""
        per_second = 10 ** (-0.4 * (magnitude - self.clear_zero_point_mag))
        return per_second * self.gain_e_adu * self.exposure_s

    def sky_magnitude_of(self, electrons: float, transparency: float, scale_arcsec: float) -> float:
        """Magnitudes an arcsec^2 of so many electrons a pixel, on the scale of stars behind that transparency."""
        per_second = electrons / (self.gain_e_adu * self.exposure_s * scale_arcsec**2)
        return self.clear_zero_point_mag + 2.5 * math.log10(transparency / per_second)

    @property
    def adc_max(self) -> int:
        """Largest value of the converter."""
        return (1 << self.adc_bits) - 1

    @property
    def saturation_adu(self) -> float:
        """Value at which a pixel clips: full well or converter, whichever comes first."""
        return min(float(self.adc_max), self.full_well_e / self.gain_e_adu + self.pedestal_adu)

    def target_of(self, index: int) -> int:
        """Which of `objects` frame `index` shows: the night is shared out evenly."""
        return min(index * len(self.objects) // self.frames, len(self.objects) - 1)

    def filter_of(self, index: int) -> str | None:
        """The filter of frame `index`."""
        return self.filters[index % len(self.filters)] if self.filters else None

    def faults_of(self, index: int) -> tuple[Fault, ...]:
        """The faults that hit frame `index`."""
        return tuple(fault for fault in self.faults if fault.hits(index))
