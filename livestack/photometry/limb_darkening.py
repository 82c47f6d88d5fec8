"""A planet before a star that is darker at its rim (Mandel & Agol 2002, doi:10.1086/345520), by way of `batman`.

`batman` (Kreidberg 2015, doi:10.1086/683602) computes the light; it is an extra, and where it is not installed the
trapezoid of `transit` has to do. The orbit is a circle whose period is told, for one transit does not tell it. Mid,
size, impact parameter and duration are drawn with the affine-invariant sampler (Goodman & Weare 2010,
doi:10.2140/camcos.2010.5.65), the baseline is the best for each; noise is found as for the trapezoid.
"""

from __future__ import annotations

import importlib.util
from dataclasses import replace

import numpy as np

from livestack.base.errors import UsageError
from livestack.photometry.correlated import Noise, measure_noise
from livestack.photometry.dips import trapezoid
from livestack.photometry.transit import CLIP_SIGMA, MOST_POINTS, Transit, Value, trend_columns

DEFAULT_DARKENING = (0.40, 0.25)
"""Quadratic, of a star like the Sun in red light (Claret & Bloemen 2011, doi:10.1051/0004-6361/201116451), rounded."""
WORSE = 1.15
_WALKERS, _STEPS, _BURN = 24, 500, 200


def is_there() -> bool:
    """Whether `batman` is installed."""
    return importlib.util.find_spec("batman") is not None


def parse_limb_darkening(text: str | None) -> tuple[float, float]:
    """Quadratic coefficients from "u1,u2"; `DEFAULT_DARKENING` for None.

    Raises
    ------
    UsageError : these are not two numbers of a star that is bright everywhere and not brighter at its rim.
    """
    if text is None:
        return DEFAULT_DARKENING
    try:
        first, second = (float(part) for part in text.split(","))
    except ValueError:
        first, second = np.nan, np.nan
    if not (first + second < 1 and first > 0 and first + 2 * second > 0):  # Kipping 2013, doi:10.1093/mnras/stt1435
        raise UsageError(
            f"--limb-darkening {text}: expected u1,u2 with u1 > 0, u1 + u2 < 1 and u1 + 2 u2 > 0, like 0.40,0.25."
        )
    return first, second


def scaled_axis(duration: float, ratio: float, impact: float, period: float) -> float:
    """a/R* of a circular orbit from T14 and period (same unit), Rp/R* and impact parameter (Winn 2010, eq. 14)."""
    half = np.sin(np.pi * duration / period)
    return float(np.sqrt(((1 + ratio) ** 2 - impact**2) / half**2 + impact**2))


def fit_planet(
    times: np.ndarray, flux: np.ndarray, errors: np.ndarray, airmass: np.ndarray | None, first: Transit,
    darkening: tuple[float, float], period: float, usual_noise: float | None = None,
) -> Transit:  # fmt: skip
    """Fit a planet where a trapezoid has found a transit.

    Parameters
    ----------
    times, flux, errors, airmass, usual_noise : as for `fit_transit`.
    first : what that has found.
    darkening : u1, u2.
    period : days.

    Returns
    -------
    The transit with the planet's numbers; `more` holds rp_rs, a_rs, inclination_deg, impact; depth is that at the mid.
    What was found `first`, where no planet leaves nearly as little scatter: an eclipse, a fade.
    """
    import batman

    order = np.argsort(times, kind="stable")
    # a model of many points costs much; every second or third of them tells the same
    order = order[:: max(1, -(-len(order) // (2 * MOST_POINTS)))]
    away = np.abs(flux - first.model)[order]
    kept = order[away < CLIP_SIGMA * max(1.4826 * float(np.median(away)), 1e-12)]
    centre = first.mid.value
    trends = trend_columns(times - centre, airmass)[:, : int(first.slope) + int(first.airmass)]
    base = np.c_[np.ones(len(times)), trends]
    when = np.ascontiguousarray(times[kept] - centre)
    shape = trapezoid(when, 0, first.duration.value - first.ingress.value, first.ingress.value)
    noise = measure_noise(when, (flux - first.model)[kept], errors[kept], np.c_[base[kept], shape], usual_noise)

    words = batman.TransitParams()
    words.t0, words.per, words.ecc, words.w = 0.0, period, 0.0, 90.0
    words.rp, words.a, words.inc = 0.1, 10.0, 90.0
    words.limb_dark, words.u = "quadratic", list(darkening)
    fitted_model, whole_model = (batman.TransitModel(words, np.ascontiguousarray(t)) for t in (when, times - centre))

    def shade(model: object, parameters: np.ndarray) -> np.ndarray:
        mid, ratio, impact, duration = (float(v) for v in parameters)
        words.t0, words.rp, words.a = mid, ratio, scaled_axis(duration, ratio, impact, period)
        words.inc = float(np.degrees(np.arccos(min(1.0, impact / words.a))))
        return np.asarray(model.light_curve(words))  # type: ignore[attr-defined]

    def worth(parameters: np.ndarray) -> float:
        _, ratio, impact, duration = parameters
        if not (0.005 < ratio < 0.5 and 0 <= impact < 1 and 0 < duration < 0.4 * period):
            return -np.inf
        return -0.5 * _chi2(noise, base[kept] * shade(fitted_model, parameters)[:, None], flux[kept])

    # the rim takes less than the centre, hence a little smaller a planet than the root of the depth
    ratio = float(np.clip(np.sqrt(first.depth.value * 0.85), 0.01, 0.4))
    start = np.array([0.0, ratio, 0.3, min(first.duration.value, 0.35 * period)])
    width = np.array([first.mid.error, 0.05 * ratio, 0.1, min(first.duration.error, 0.1 * first.duration.value)])
    drawn = _draw(worth, start, width)
    middle = np.median(drawn, axis=0)
    light = shade(whole_model, middle)
    linear = np.linalg.lstsq(
        noise.whiten(base[kept] * shade(fitted_model, middle)[:, None]), noise.whiten(flux[kept]), rcond=None
    )[0]
    line = base @ linear
    scatter, plain = (float(np.std((flux - model)[kept])) for model in (line * light, first.model))
    if scatter > WORSE * plain:
        return first
    axis = np.array([scaled_axis(d, k, b, period) for _, k, b, d in drawn])
    inclination = np.degrees(np.arccos(np.minimum(1, drawn[:, 2] / axis)))
    centre_model = batman.TransitModel(words, np.zeros(1))
    depths = []
    for parameters in drawn[:: max(1, len(drawn) // 200)]:
        depths.append(1 - float(shade(centre_model, np.r_[0.0, parameters[1:]])[0]))
    # from second to first contact, of a circle that crosses in a straight line
    whole, inner = (1 + drawn[:, 1]) ** 2 - drawn[:, 2] ** 2, np.maximum((1 - drawn[:, 1]) ** 2 - drawn[:, 2] ** 2, 0)
    ingress = 0.5 * drawn[:, 3] * (1 - np.sqrt(inner / whole))
    return replace(
        first, name=f"limb-darkened planet, u = {darkening[0]:g}, {darkening[1]:g}, period {period:g} d",
        mid=Value(centre + float(np.median(drawn[:, 0])), float(drawn[:, 0].std())), depth=_value(np.array(depths)),
        duration=_value(drawn[:, 3]), ingress=_value(ingress), model=line * light, baseline=line,
        scatter=scatter, lasting=noise.lasting, memory=noise.memory, n=len(kept),
        more={"rp_rs": _value(drawn[:, 1]), "a_rs": _value(axis), "inclination_deg": _value(inclination),
              "impact": _value(drawn[:, 2])},
    )  # fmt: skip


def _chi2(noise: Noise, design: np.ndarray, flux: np.ndarray) -> float:
    """What is left with the best baseline."""
    both = noise.whiten(np.c_[design, flux])
    ortho, _ = np.linalg.qr(both[:, :-1])
    left = both[:, -1] - ortho @ (ortho.T @ both[:, -1])
    return float(left @ left)


def _draw(worth, start: np.ndarray, width: np.ndarray) -> np.ndarray:  # type: ignore[no-untyped-def]
    """Draw parameters, (d, k), with probability exp(worth), by walkers that stretch towards each other."""
    random = np.random.default_rng(0)
    size = len(start)
    places = np.abs(start + width * random.standard_normal((_WALKERS, size)))
    places[:, 0] = start[0] + width[0] * random.standard_normal(_WALKERS)
    places[:, 2] = random.uniform(0, 0.8, _WALKERS)
    values = np.array([worth(place) for place in places])
    kept = []
    for step in range(_STEPS):
        for half in (np.arange(0, _WALKERS, 2), np.arange(1, _WALKERS, 2)):
            others = np.setdiff1d(np.arange(_WALKERS), half)
            stretch = (1 + random.random(len(half))) ** 2 / 2
            partners = random.choice(others, len(half))
            for walker, z, partner in zip(half, stretch, partners, strict=True):
                there = places[partner] + z * (places[walker] - places[partner])
                value = worth(there)
                if np.log(random.random()) < (size - 1) * np.log(z) + value - values[walker]:
                    places[walker], values[walker] = there, value
        if step >= _BURN:
            kept.append(places.copy())
    return np.concatenate(kept)


def _value(drawn: np.ndarray) -> Value:
    return Value(float(np.median(drawn)), float(drawn.std()))
