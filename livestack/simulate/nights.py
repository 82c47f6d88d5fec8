"""Nights with a name: what `livestack simulate --scenario` offers.

Each is the default night with some knobs turned. Faults sit at shares of the night, so that they scale with the number
of frames.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from pydantic import ValidationError

from livestack.base.errors import UsageError
from livestack.simulate.movers import Mover, Newcomer, Passing
from livestack.simulate.projection import name_place, parse_place
from livestack.simulate.scenario import Fault, FaultKind, Scenario

_AREA_PX = 800 * 600
"""Frames of this size have the number of stars that the night says; others go with the root of their area."""

_OF_THE_REAL_SKY = {
    "position_angle_deg", "mirrored", "zero_point_mag", "extinction_mag", "sky_mag_arcsec2", "pointing_error_deg",
}  # fmt: skip


def _at(frames: int, share: float) -> int:
    """The frame at that share of the night."""
    return min(int(share * frames), frames - 1)


def _fault(kind: FaultKind, frames: int, share: float, amount: float = 1.0, to: float | None = None) -> Fault:
    """A fault from one share of the night to another."""
    last = None if to is None else max(_at(frames, to), _at(frames, share))
    return Fault(kind=kind, first=_at(frames, share), last=last, amount=amount)


def _mono(frames: int) -> dict[str, Any]:
    return {"rotation_deg": 0.02, "dither_px": 4.0}


def _osc(frames: int) -> dict[str, Any]:
    return {**_mono(frames), "bayer": "RGGB", "camera": "Simulated 533MC"}


def _trails(frames: int) -> dict[str, Any]:
    crossing = [_fault("satellite", frames, share, 25) for share in (0.3, 0.3, 0.6)]
    faults = (Fault(kind="satellite", first=0, amount=20), *crossing, _fault("aircraft", frames, 0.75, 18))
    return {**_mono(frames), "satellite_rate": 0.35, "cosmic_rate": 25.0, "faults": faults}


def _altaz(frames: int) -> dict[str, Any]:
    return {"exposure_s": 10.0, "cadence_s": 10.5, "rotation_deg": 0.6, "rotation_centre": (0.55, 0.42),
            "drift_px": (0.2, 0.3), "jitter_px": 1.0, "flux_min_e": 400.0, "sky_e": 150.0}  # fmt: skip


def _wide(frames: int) -> dict[str, Any]:
    night = 1 / max(frames - 1, 1)
    return {"focal_mm": 50.0, "telescope": "Simulated 50 mm", "fwhm_px": 2.2, "stars": 900, "flux_max_e": 3e5,
            "nebula_e": 20.0, "distortion_px": -5.0, "drift_px": (190 * night, -70 * night),
            "rotation_deg": 8 * night, "rotation_centre": (0.4, 0.6)}  # fmt: skip


def _flip(frames: int) -> dict[str, Any]:
    return {**_mono(frames), "flip_at": max(frames // 2, 1)}


def _clouds(frames: int) -> dict[str, Any]:
    thin, thick = _fault("clouds", frames, 0.25, 0.6, to=0.35), _fault("clouds", frames, 0.6, 0.08, to=0.7)
    return {**_mono(frames), "transparency_jitter": 0.03, "faults": (thin, thick)}


def _wind(frames: int) -> dict[str, Any]:
    gusts = (_fault("wind", frames, 0.35, 12.0, to=0.42), _fault("wind", frames, 0.7, 18.0))
    return {**_mono(frames), "faults": (*gusts, _fault("wind", frames, 0.55, 1.0))}


def _defocus(frames: int) -> dict[str, Any]:
    return {**_mono(frames), "faults": (_fault("defocus", frames, 0.6, 2.6, to=0.75),)}


def _hot(frames: int) -> dict[str, Any]:
    return {"dither_px": 5.0, "hot_pixels": 0.0008, "cold_pixels": 0.0001, "bad_columns": 1, "temperature_c": 5.0}


def _gradient(frames: int) -> dict[str, Any]:
    return {**_mono(frames), "sky_e": 800.0, "sky_gradient": 0.35, "sky_gradient_turn_deg": 0.8, "sky_trend": 0.004,
            "faults": (_fault("bright_sky", frames, 0.55, 1.8, to=1.0),)}  # fmt: skip


def _few(stars: int) -> Callable[[int], dict[str, Any]]:
    def knobs(frames: int) -> dict[str, Any]:
        return {"stars": stars, "stars_within": 0.7, "flux_min_e": 15000.0, "flux_max_e": 120000.0, "nebula_e": 0.0,
                "rotation_deg": 0.0 if stars == 1 else 0.02, "dither_px": 4.0}  # fmt: skip

    return knobs


def _calibrated(frames: int) -> dict[str, Any]:
    return {**_mono(frames), "vignetting": 0.35, "dust": 7, "amp_glow_e_s": 4.0, "prnu": 0.006, "dark_e_s": 0.05,
            "hot_pixels": 0.0005, "bias_columns_adu": 1.5, "temperature_c": 0.0}  # fmt: skip


def _filters(frames: int) -> dict[str, Any]:
    return {**_mono(frames), "filters": ("L", "R", "G", "B"), "objects": ("M 27", "NGC 6960")}


def _moon(frames: int) -> dict[str, Any]:
    return {"objects": ("Moon",), "stars": 0, "nebula_e": 0.0, "sky_e": 20.0, "terrain_e": 9000.0, "fwhm_px": 2.4,
            "seeing_jitter": 0.25, "exposure_s": 0.02, "cadence_s": 0.5, "drift_px": (30 / frames, -13 / frames),
            "jitter_px": 1.5, "transparency_jitter": 0.02}  # fmt: skip


def _everything(frames: int) -> dict[str, Any]:
    faults = (
        Fault(kind="satellite", first=0, amount=20),
        _fault("clouds", frames, 0.2, 0.07, to=0.24),
        _fault("truncated", frames, 0.3, 0.6),
        _fault("wind", frames, 0.38, 15.0),
        _fault("satellite", frames, 0.45, 30),
        _fault("satellite", frames, 0.45, 12),
        _fault("dark", frames, 0.52),
        _fault("capped", frames, 0.58),
        _fault("other_field", frames, 0.64),
        _fault("defocus", frames, 0.7, 2.8, to=0.74),
        _fault("bright_sky", frames, 0.8, 1.6, to=1.0),
        _fault("aircraft", frames, 0.86, 15),
        _fault("duplicate", frames, 0.92),
    )
    return {**_calibrated(frames), "amp_glow_e_s": 1.0, "dither_px": 4.0, "dither_every": 2,
            "flip_at": max(frames // 2, 1), "sky_gradient": 0.15, "satellite_rate": 0.1, "cosmic_rate": 15.0,
            "bad_columns": 1, "faults": faults}  # fmt: skip


def _movers(frames: int) -> dict[str, Any]:
    at = [_at(frames, share) for share in (0.15, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.0)]
    passing = (
        Passing(kind="satellite", frame=at[0], peak_sigma=12.0),
        Passing(kind="train", frame=at[1], number=4, peak_sigma=6.0),
        Passing(kind="geostationary", frame=at[2], frames=2, peak_sigma=8.0),
        Passing(kind="aircraft", frame=at[3], peak_sigma=15.0),
        Passing(kind="meteor", frame=at[4], peak_sigma=20.0),
        Passing(kind="satellite", frame=at[5], peak_sigma=4.0),
        Passing(kind="satellite", frame=at[7], peak_sigma=9.0),
    )
    movers = (
        Mover(x=200.0, y=380.0, rate_px_min=2.2, angle_deg=-18.0, flux_e=4000.0),
        Mover(x=560.0, y=150.0, rate_px_min=0.8, angle_deg=130.0, flux_e=1500.0),
        Mover(x=420.0, y=420.0, rate_px_min=1.4, angle_deg=250.0, flux_e=450.0),
    )
    new = (Newcomer(x=333.0, y=222.0, first=_at(frames, 0.5), flux_e=6000.0),)
    return {**_mono(frames), "passing": passing, "movers": movers, "newcomers": new}


def _comet(frames: int) -> dict[str, Any]:
    comet = Mover(
        kind="comet", x=300.0, y=230.0, rate_px_min=3.0, angle_deg=28.0, flux_e=9000.0, coma_e=25.0, coma_px=40.0,
        tail_e=20.0, tail_px=140.0, tail_deg=205.0,
    )  # fmt: skip
    return {**_mono(frames), "movers": (comet,)}


def _sky(frames: int) -> dict[str, Any]:
    return {**_mono(frames), "real_sky": True}


SCENARIOS: dict[str, tuple[str, Callable[[int], dict[str, Any]]]] = {
    "mono": ("equatorial mount, drift, dither and a little rotation", _mono),
    "osc": ("the same with a colour mosaic", _osc),
    "trails": ("satellites (one in the first frame, two that cross), an aircraft, cosmic rays", _trails),
    "altaz": ("alt-azimuth mount: the field turns about a point off the middle", _altaz),
    "wide": ("a short lens that distorts, on a tripod head that drifts: the field moves and turns over it", _wide),
    "flip": ("meridian flip midway: upside down and some pixels off", _flip),
    "clouds": ("thin clouds that should be weighted, thick ones that should be refused", _clouds),
    "wind": ("gusts: two spells of smeared stars and a slight one", _wind),
    "defocus": ("the focus slips for some frames", _defocus),
    "hot": ("a warm sensor: hot and cold pixels, a bad column; dithered", _hot),
    "gradient": ("light pollution that turns with the night, and a step in the sky", _gradient),
    "sparse": ("nine stars", _few(9)),
    "two_stars": ("two stars", _few(2)),
    "one_star": ("one star", _few(1)),
    "calibrated": ("vignetting, dust, amp glow, hot pixels; made for calibration frames", _calibrated),
    "everything": ("a bad night: a bit of all, with broken and foreign files", _everything),
    "filters": ("two targets one after the other, filters L R G B in turn", _filters),
    "moon": ("a cratered landscape without stars, drifting in and out of focus", _moon),
    "movers": ("satellites, a train of them, an aircraft, a meteor, three asteroids, a nova", _movers),
    "comet": ("a comet with coma and tail that moves over the stars", _comet),
    "sky": ("the real sky about --at: catalogue stars to G 10, fainter ones by their numbers", _sky),
}
"""Name: what it shows, and the knobs it turns for a given number of frames."""


def named_scenario(name: str, **changes: Any) -> Scenario:
    """The night called `name`, with any other knobs of `Scenario` turned by `changes`.

    Raises
    ------
    UsageError : there is no such night, or a knob has no such name or value.
    """
    if name not in SCENARIOS:
        raise UsageError(f"scenario: there is no night called {name}; choose one of {', '.join(SCENARIOS)}.")
    frames = int(changes.get("frames", Scenario().frames))
    knobs: dict[str, Any] = {"name": name, **SCENARIOS[name][1](frames), **changes}
    if knobs.get("real_sky") and (knobs.get("terrain_e") or knobs.get("stars_within")):
        raise UsageError(f"scenario: the night {name} has no room for the real sky; choose sky, or another.")
    if "stars_within" not in knobs and "stars" not in changes:
        area = int(knobs.get("width", 800)) * int(knobs.get("height", 600))
        knobs["stars"] = round(int(knobs.get("stars", Scenario().stars)) * math.sqrt(area / _AREA_PX))
    try:
        return Scenario(**knobs)
    except ValidationError as error:
        told = "; ".join(
            f"{'.'.join(map(str, one['loc']))}: found {one['input']!r}; {one['msg'][:1].lower()}{one['msg'][1:]}"
            for one in error.errors()
        )
        raise UsageError(f"scenario: {told}.") from error


def asked_scenario(name: str, *, at: str | None = None, scale_arcsec: float | None = None, **asked: Any) -> Scenario:
    """The night called `name` in a person's words; what is None in `asked` was not asked for.

    Parameters
    ----------
    at : "RA,DEC" of the middle (`parse_place`); any night with a sky then shows the real one there.
    scale_arcsec : arcseconds a pixel, which the focal length then follows.

    Raises
    ------
    UsageError : as `named_scenario`; or words about the real sky for a night that does not show it.
    """
    knobs = {key: value for key, value in asked.items() if value is not None}
    if knobs.get("bayer") == "none":
        knobs["bayer"] = None
    if at is not None:
        ra, dec = parse_place(at)
        knobs |= {"real_sky": True, "ra_deg": ra, "dec_deg": dec}
        knobs.setdefault("objects", (name_place(ra, dec),))
    elif name != "sky":
        alone = sorted(_OF_THE_REAL_SKY & knobs.keys())
        if alone:
            raise UsageError(f"scenario: {name} does not show the real sky, which {', '.join(alone)} is for; add --at.")
    if scale_arcsec is not None:
        knobs["focal_mm"] = 206.264806 * float(knobs.get("pixel_um", Scenario().pixel_um)) / scale_arcsec
    return named_scenario(name, **knobs)


def parse_size(words: str) -> tuple[int, int]:
    """(width, height) of "800x600"."""
    parts = words.lower().split("x")
    if len(parts) != 2 or not all(part.strip().isdigit() for part in parts):
        raise UsageError(f"size: found {words}, expected width x height in pixels, such as 800x600.")
    return int(parts[0]), int(parts[1])
