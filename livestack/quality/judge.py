"""The judge: a frame's measures against robust, rolling limits of the frames that were accepted before it.

Each limit is a factor on the median of the last accepted frames (so a slow change of airmass is no fault) that scatter
can widen: with a robust sigma of 1.4826 MAD a frame is refused only beyond the factor *and* beyond `limit_sigma`
sigmas. The factor is the floor: nights with a tiny MAD refuse nothing that hurts nobody, for the weights already
account for a frame of lesser quality. What is not known (no stars, no transparency) is not judged. Sky, noise and
number of stars are compared among frames of the same exposure only: one that is five times as long is no bright sky.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass

import numpy as np

from livestack.base.settings import QualitySettings
from livestack.quality.reasons import Verdict, accept, refuse

HISTORY = 30
"""Accepted frames that the limits look back on."""
SAME_EXPOSURE = 0.1
"""Exposures that differ by less are one, as a share."""
ENOUGH = 4
"""With fewer accepted frames only the limits hold that need no history, relative to the reference."""
WIDEST = 1.5
"""Scatter widens a limit at most by this factor: on a ragged night a cloud must still be a cloud."""
FEW_STARS_SHARE = 0.2
RMS_RATIO = 3.0
RMS_FLOOR_PX = 0.4
WEIGHT_RANGE = (0.05, 4.0)
"""Below 1/20 a frame adds nothing measurable, and a weight near zero would only hide a frame that should be refused;
above 4 it is the measurement, or a poor reference, that speaks: no single frame may outvote many."""


@dataclass(frozen=True)
class FrameMeasures:
    """What is known of a registered frame; None where it could not be measured.

    Attributes
    ----------
    n_stars, n_matched : stars found, stars matched with the reference.
    rms_px : residual of the matched stars.
    fwhm_px, eccentricity, elongation_deg : median star; eccentricity sqrt(1 - b^2/a^2), direction of its long axis.
    sky_adu, noise_adu : sky level and noise of one pixel, in the frame's own ADU.
    transparency : flux of the matched stars over the reference's, per exposure.
    rejected_fraction : share of samples that the stack rejected, when it has seen the frame.
    sharpness : for frames without stars (`features.sharpness`); stands in for 1 / FWHM in the weight.
    exposure_s : of the frame.
    """

    n_stars: int
    n_matched: int
    rms_px: float | None = None
    fwhm_px: float | None = None
    eccentricity: float | None = None
    elongation_deg: float | None = None
    sky_adu: float | None = None
    noise_adu: float | None = None
    transparency: float | None = None
    rejected_fraction: float | None = None
    sharpness: float | None = None
    exposure_s: float | None = None

    @property
    def elongation(self) -> float | None:
        """Long over short axis of the median star, >= 1."""
        if not known(self.eccentricity):
            return None
        return 1.0 / math.sqrt(max(1e-4, 1.0 - min(1.0, self.eccentricity or 0.0) ** 2))


def known(value: float | None) -> bool:
    """True for a number that was really measured."""
    return value is not None and math.isfinite(value)


def _ratio(one: float | None, other: float | None) -> float:
    """`one / other`, 1 where either is unknown or not positive."""
    if one is None or other is None or not (known(one) and known(other)) or one <= 0 or other <= 0:
        return 1.0
    return one / other


def same_exposure(one: float | None, other: float | None) -> bool:
    """Whether skies of two exposures may be compared: drivers write 9.9998 s for 10 s."""
    if one is None or other is None:
        return one is other
    return abs(one - other) <= SAME_EXPOSURE * max(abs(one), abs(other))


def frame_weight(measures: FrameMeasures, reference: FrameMeasures) -> float:
    """(light / (noise x FWHM))^2 relative to the reference: the gain in signal to noise of a point source.

    The light of a frame is its transparency times its exposure. Without stars sharpness stands in for 1 / FWHM. Limited
    to `WEIGHT_RANGE`.
    """
    if known(measures.fwhm_px) and known(reference.fwhm_px):
        width = _ratio(measures.fwhm_px, reference.fwhm_px)
    else:
        width = 1.0 / _ratio(measures.sharpness, reference.sharpness)
    light = _ratio(measures.transparency, reference.transparency) * _ratio(measures.exposure_s, reference.exposure_s)
    quality = light / (_ratio(measures.noise_adu, reference.noise_adu) * width)
    return float(np.clip(quality**2, *WEIGHT_RANGE))


@dataclass(frozen=True)
class _Usual:
    """Median and robust sigma of the last accepted frames."""

    median: float
    sigma: float

    def below(self, factor: float, limit_sigma: float) -> float:
        """Lower limit: factor x median, lower where scatter asks for it."""
        floor = factor * self.median
        return max(floor / WIDEST, min(floor, self.median - limit_sigma * self.sigma))

    def above(self, factor: float, limit_sigma: float) -> float:
        """Upper limit: factor x median, higher where scatter asks for it."""
        floor = factor * self.median
        return min(floor * WIDEST, max(floor, self.median + limit_sigma * self.sigma))


class Judge:
    """Decides on each registered frame. `judge` only looks; `accept` remembers a frame that was stacked.

    Parameters
    ----------
    settings : limits. With `enabled` False nothing but an impossible residual is refused, and all weights are 1.
    """

    QUANTITIES = ("n_stars", "fwhm_px", "elongation", "sky_adu", "noise_adu", "transparency", "rms_px")
    BY_EXPOSURE = ("n_stars", "sky_adu", "noise_adu")

    def __init__(self, settings: QualitySettings) -> None:
        self.settings = settings
        self.reference: FrameMeasures | None = None
        self._history: dict[str, deque[float]] = {}

    def set_reference(self, measures: FrameMeasures) -> None:
        """Weights are relative to this frame (else to the first accepted one)."""
        self.reference = measures

    def judge(self, measures: FrameMeasures) -> Verdict:
        """Look at a frame without remembering it. `rejected_fraction` is judged when it is known."""
        if not self.settings.enabled:
            return accept(1.0)
        for check in (
            self._clouds,
            self._few_stars,
            self._sky,
            self._trailing,
            self._defocus,
            self._residual,
            self._rejected,
        ):
            verdict = check(measures)
            if verdict is not None:
                return verdict
        return accept(1.0 if self.reference is None else frame_weight(measures, self.reference))

    def accept(self, measures: FrameMeasures) -> None:
        """Remember a frame that was stacked; the limits follow it."""
        if self.reference is None:
            self.reference = measures
        for name in self.QUANTITIES:
            value = getattr(measures, name)
            if known(value):
                values = self._history.setdefault(self._key(name, measures.exposure_s), deque(maxlen=HISTORY))
                values.append(float(value))

    def usual(self, name: str, exposure_s: float | None = None) -> float | None:
        """Median of a quantity over the last accepted frames (of that exposure), None before the first."""
        values = self._history.get(self._key(name, exposure_s))
        return float(np.median(values)) if values else None

    def _key(self, name: str, exposure_s: float | None) -> str:
        if exposure_s is None or exposure_s <= 0 or name not in self.BY_EXPOSURE:
            return name
        for key in self._history:
            word, _, told = key.partition(" ")
            if word == name and told and same_exposure(float(told), exposure_s):
                return key
        return f"{name} {exposure_s!r}"

    def state(self) -> dict[str, object]:
        """Everything that `judge` depends on besides the settings, as JSON would have it."""
        return {
            "reference": None if self.reference is None else asdict(self.reference),
            "history": {name: list(values) for name, values in self._history.items()},
        }

    def restore(self, state: Mapping[str, object]) -> None:
        """Go on from what `state` returned."""
        reference, history = state["reference"], state["history"]
        self.reference = FrameMeasures(**reference) if isinstance(reference, Mapping) else None
        if not isinstance(history, Mapping):
            raise ValueError(f"state: expected a table under 'history', found {type(history).__name__}.")
        self._history = {str(key): deque(map(float, _values(history, key)), maxlen=HISTORY) for key in history}

    def _recent(self, name: str, exposure_s: float | None = None) -> _Usual | None:
        values = np.array(self._history.get(self._key(name, exposure_s), ()))
        if len(values) < ENOUGH:
            return None
        median = float(np.median(values))
        return _Usual(median, 1.4826 * float(np.median(np.abs(values - median))))

    def _clouds(self, m: FrameMeasures) -> Verdict | None:
        if m.transparency is None or not known(m.transparency):
            return None
        usual = self._recent("transparency") or _Usual(1.0, 0.0)
        limit = usual.below(self.settings.min_transparency, self.settings.limit_sigma)
        if m.transparency >= limit:
            return None
        return refuse("clouds", percent=100 * m.transparency / usual.median, limit=100 * limit / usual.median)

    def _few_stars(self, m: FrameMeasures) -> Verdict | None:
        usual = self._recent("n_stars", m.exposure_s)
        if usual is None or usual.median < 15:
            return None  # of a handful of stars a few may go missing on any frame
        limit = usual.below(FEW_STARS_SHARE, self.settings.limit_sigma)
        return refuse("too_few_stars", found=m.n_stars, usual=usual.median, limit=limit) if m.n_stars < limit else None

    def _sky(self, m: FrameMeasures) -> Verdict | None:
        """Light of the sky: its level where nothing else is in it, else its photon noise, which no pedestal hides."""
        level, noise = self._recent("sky_adu", m.exposure_s), self._recent("noise_adu", m.exposure_s)
        if level is None or noise is None or m.sky_adu is None or m.noise_adu is None or noise.median <= 0:
            return None
        if m.sky_adu <= level.median + 3 * noise.median:
            return None
        by_noise = (m.noise_adu / noise.median) ** 2
        by_level = m.sky_adu / level.median if level.median > 3 * noise.median else 0.0
        ratio = max(by_noise, by_level)
        # Scatter of the variance: twice the relative scatter of the noise.
        usual = _Usual(1.0, max(2 * noise.sigma / noise.median, level.sigma / max(level.median, noise.median)))
        limit = usual.above(self.settings.max_sky_ratio, self.settings.limit_sigma)
        return refuse("bright_sky", ratio=ratio, limit=limit) if ratio > limit else None

    def _defocus(self, m: FrameMeasures) -> Verdict | None:
        usual = self._recent("fwhm_px")
        if usual is None or m.fwhm_px is None or not known(m.fwhm_px):
            return None
        limit = usual.above(self.settings.max_fwhm_ratio, self.settings.limit_sigma)
        return refuse("defocus", fwhm=m.fwhm_px, usual=usual.median, limit=limit) if m.fwhm_px > limit else None

    def _trailing(self, m: FrameMeasures) -> Verdict | None:
        elongation = m.elongation
        if elongation is None:
            return None
        usual = self._recent("elongation")
        # Relative to the accepted frames: optics that draw every star long are no fault of this frame.
        limit = (usual or _Usual(1.25, 0.0)).above(self.settings.max_elongation, self.settings.limit_sigma)
        if elongation <= limit:
            return None
        return refuse("trailing", ratio=elongation, direction=m.elongation_deg or 0.0, limit=limit)

    def _residual(self, m: FrameMeasures) -> Verdict | None:
        usual = self._recent("rms_px")
        if usual is None or m.rms_px is None or not known(m.rms_px):
            return None
        limit = max(RMS_FLOOR_PX, usual.above(RMS_RATIO, self.settings.limit_sigma))
        return refuse("high_residual", rms=m.rms_px, limit=limit) if m.rms_px > limit else None

    def _rejected(self, m: FrameMeasures) -> Verdict | None:
        limit = self.settings.max_rejected_fraction
        if m.rejected_fraction is None or not m.rejected_fraction > limit:
            return None
        return refuse("rejected_samples", percent=100 * m.rejected_fraction, limit=100 * limit)


def _values(history: Mapping[str, object], name: str) -> Sequence[float]:
    values = history.get(name, [])
    if not isinstance(values, list):
        raise ValueError(f"state: expected a list under 'history.{name}', found {type(values).__name__}.")
    return values
