"""Alerts for the person at the telescope: each said once when it sets in, and again only after it has been over.

Two levels for each (hysteresis): a warning sets in at the higher and ends at the lower one, on the median of the last
few frames, so that one bad frame warns nobody. Refused frames count too: it is they that one is warned of.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Mapping

import numpy as np

from livestack.quality.judge import FrameMeasures, Judge, known, same_exposure
from livestack.registration.transform import Decomposition

LATELY = 5
"""Frames whose median is "now"."""
LONG = 60
"""Frames that are remembered."""
DEW_FRAMES = 20

# warning: (sets in at, is over at)
LEVELS = {
    "focus": (1.25, 1.12),
    "clouds": (0.65, 0.85),
    "tracking": (1.35, 1.2),
    "dew": (0.30, 0.15),
    "sky": (1.6, 1.3),
    "drift": (0.15, 0.08),
    "mirrored": (0.5, 0.4),
}


class Alerts:
    """Watches the measures of frame after frame. `update` returns what is new, `active` what is in force."""

    QUANTITIES = ("n_stars", "fwhm_px", "elongation", "sky_adu", "noise_adu", "transparency", "narrow_px", "e1", "e2")

    def __init__(self) -> None:
        self._history: dict[str, deque[float]] = {name: deque(maxlen=LONG) for name in self.QUANTITIES}
        self._active: dict[str, str] = {}
        self._exposure_s: float | None = None
        self._others = 0

    @property
    def active(self) -> tuple[str, ...]:
        """Sentences in force, in a fixed order."""
        return tuple(self._active[name] for name in LEVELS if name in self._active)

    def update(
        self, measures: FrameMeasures, moved: Decomposition | None = None, size: tuple[int, int] | None = None
    ) -> list[str]:
        """Take in one frame, stacked or refused.

        Parameters
        ----------
        measures : of the frame.
        moved : its transform in people's words, None when unregistered.
        size : (width, height) of the frame; with `moved` tells how much of the field has left.

        Returns
        -------
        list of str
            Alerts that set in with this frame.
        """
        self._remember(measures)
        checks = {
            "focus": self._focus(),
            "clouds": self._clouds(),
            "tracking": self._tracking(),
            "dew": self._dew(),
            "sky": self._sky(),
            "drift": _drift(moved, size),
            "mirrored": _mirrored(moved),
        }
        new = []
        for name, found in checks.items():
            if found is None:
                continue
            value, sentence = found
            on, off = LEVELS[name]
            sign = -1.0 if on < off else 1.0
            if name not in self._active and sign * value > sign * on:
                self._active[name] = sentence
                new.append(sentence)
            elif name in self._active and sign * value < sign * off:
                del self._active[name]
        return new

    def state(self) -> dict[str, object]:
        """What `update` depends on, as JSON would have it."""
        return {
            "history": {k: list(v) for k, v in self._history.items()},
            "active": dict(self._active),
            "exposure_s": self._exposure_s,
            "others": self._others,
        }

    def restore(self, state: Mapping[str, object]) -> None:
        """Go on from what `state` returned."""
        history, active = state["history"], state["active"]
        if not isinstance(history, Mapping) or not isinstance(active, Mapping):
            raise ValueError("state: expected tables under 'history' and 'active'.")
        self._history = {k: deque(map(float, history.get(k, [])), maxlen=LONG) for k in self.QUANTITIES}
        self._active = {str(k): str(v) for k, v in active.items() if k in LEVELS}
        exposure = state["exposure_s"]
        self._exposure_s = float(exposure) if isinstance(exposure, int | float) else None
        others = state["others"]
        self._others = others if isinstance(others, int) else 0

    def _remember(self, m: FrameMeasures) -> None:
        values: dict[str, float | None] = {name: getattr(m, name) for name in self.QUANTITIES if hasattr(m, name)}
        # another exposure has another sky: now and then one is passed over, several in a row begin anew
        self._others = 0 if same_exposure(m.exposure_s, self._exposure_s) else self._others + 1
        if self._others > LATELY or (self._others and not any(self._history[name] for name in Judge.BY_EXPOSURE)):
            self._exposure_s, self._others = m.exposure_s, 0
            for name in Judge.BY_EXPOSURE:
                self._history[name].clear()
        if self._others:
            values |= dict.fromkeys(Judge.BY_EXPOSURE)
        elongation = m.elongation
        if elongation is not None and m.elongation_deg is not None:
            size = (elongation**2 - 1) / (elongation**2 + 1)
            angle = math.radians(2 * m.elongation_deg)
            if m.fwhm_px is not None:
                values["narrow_px"] = m.fwhm_px * math.sqrt(2 / (1 + elongation**2))
            values["e1"], values["e2"] = size * math.cos(angle), size * math.sin(angle)
        for name, value in values.items():
            if value is not None and known(value):
                self._history[name].append(float(value))

    def _now_and_before(self, name: str, lately: int = LATELY) -> tuple[float, np.ndarray] | None:
        """Median of the last few, and all that came before; None while there is too little."""
        values = np.array(self._history[name])
        if len(values) < 2 * lately:
            return None
        return float(np.median(values[-lately:])), values[:-lately]

    def _focus(self) -> tuple[float, str] | None:
        # Across the trail: a star that wind or tracking draws long is not out of focus.
        found = self._now_and_before("narrow_px") or self._now_and_before("fwhm_px")
        if found is None:
            return None
        now, before = found
        best = float(np.percentile(before, 25))
        return now / best, f"focus is drifting: the stars grew from {best:.1f} to {now:.1f} px; refocus"

    def _clouds(self) -> tuple[float, str] | None:
        found = self._now_and_before("transparency", 3)
        if found is None:
            return None
        now, before = found
        usual = float(np.median(np.sort(before)[-max(3, len(before) // 2) :]))
        # Clouds come quickly; what fades over many frames is dew or airmass.
        recent = float(np.median(before[-8:]))
        drop = min(1.0, now / usual) if now < 0.85 * recent or "clouds" in self._active else 1.0
        return drop, f"clouds are coming: the stars are down to {100 * now / usual:.0f} % of their light"

    def _tracking(self) -> tuple[float, str] | None:
        values = self._history["elongation"]
        if len(values) < LATELY or len(self._history["e1"]) < LATELY:
            return None
        now = float(np.median(list(values)[-LATELY:]))
        older = list(values)[:-LATELY]
        usual = float(np.percentile(older, 25)) if len(older) >= LATELY else 1.1
        e1, e2 = (np.array(self._history[k])[-LATELY:] for k in ("e1", "e2"))
        shared = math.hypot(float(e1.mean()), float(e2.mean())) / max(1e-9, float(np.hypot(e1, e2).mean()))
        direction = math.degrees(0.5 * math.atan2(float(e2.mean()), float(e1.mean())))
        if shared > 0.7:
            what = f"tracking: stars trail along {direction:.0f} deg, {now:.1f} times as long as wide; check guiding"
        else:
            what = f"wind: stars trail in changing directions, {now:.1f} times as long as wide; shield the telescope"
        return now / max(1.0, min(usual, 1.3)), what

    def _dew(self) -> tuple[float, str] | None:
        """Slow loss of light and stars together, steady where clouds are ragged."""
        light = np.array(self._history["transparency"])
        stars = np.array(self._history["n_stars"])
        if len(light) < DEW_FRAMES or len(stars) < DEW_FRAMES:
            return None
        light, stars = light[-2 * DEW_FRAMES :], stars[-2 * DEW_FRAMES :]
        loss, raggedness = _slow_loss(light)
        fewer, _ = _slow_loss(stars)
        steady = raggedness < 0.35 * max(loss, 1e-6) and "clouds" not in self._active
        value = min(loss, 2 * fewer) if steady else 0.0
        return value, f"dew? the stars have slowly lost {100 * loss:.0f} % of their light; look at the lens, heat it"

    def _sky(self) -> tuple[float, str] | None:
        level, noise = self._now_and_before("sky_adu"), self._now_and_before("noise_adu")
        if level is None or noise is None:
            return None
        (sky_now, sky_before), (noise_now, noise_before) = level, noise
        sky_best, noise_best = float(np.percentile(sky_before, 25)), float(np.percentile(noise_before, 25))
        if noise_best <= 0 or sky_now < sky_best + noise_best:
            return 1.0, ""
        ratio = max((noise_now / noise_best) ** 2, sky_now / sky_best if sky_best > 3 * noise_best else 0.0)
        return ratio, f"the sky is brightening: {ratio:.1f} times as bright as before; Moon, dawn or a lamp"


def _slow_loss(values: np.ndarray) -> tuple[float, float]:
    """Share that was lost along a straight line through thirds of the series, and the scatter about that line."""
    third = len(values) // 3
    first, last = float(np.median(values[:third])), float(np.median(values[-third:]))
    if first <= 0:
        return 0.0, 1.0
    slope = (last - first) / (len(values) - third)
    line = first + slope * (np.arange(len(values)) - (third - 1) / 2)
    scatter = 1.4826 * float(np.median(np.abs(values - line)))
    return 1 - last / first, scatter / first


def _mirrored(moved: Decomposition | None) -> tuple[float, str] | None:
    if moved is None:
        return None
    return float(moved.mirrored), (
        "the frames are mirror images of the reference (another diagonal or telescope, a flipped read-out); they are "
        "turned over and stacked"
    )


def _drift(moved: Decomposition | None, size: tuple[int, int] | None) -> tuple[float, str] | None:
    if moved is None or size is None:
        return None
    width, height = size
    left = 1 - max(0.0, 1 - abs(moved.dx_px) / width) * max(0.0, 1 - abs(moved.dy_px) / height)
    return left, (
        f"the field is drifting out: {100 * left:.0f} % of it has left the picture "
        f"({moved.dx_px:+.0f}, {moved.dy_px:+.0f} px); recentre"
    )
