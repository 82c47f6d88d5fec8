"""Stacks of several filters to one colour image: LRGB, SHO, HOO, or any mixture one cares to write down.

Each filter is brought to a sky of zero and to the scale of the others: broadband filters by the colour of the stars,
narrowband ones by the strength of their extended light (a star is a poor standard there: it would drown OIII and SII in
H-alpha). A luminance filter replaces the brightness and leaves the colour: where there is light, by the ratio of both,
which keeps the hue; in the sky by the difference, which adds no noise.

The result is linear, in ADU above the sky, and drawn by `picture.render`; for a narrowband composition with the setting
`white_balance = "none"`, for its balance is part of the palette.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise

import cv2
import numpy as np

from livestack.base.errors import UsageError
from livestack.kernels.render import LUMA
from livestack.picture.background import measure_sky
from livestack.picture.balance import measure_balance
from livestack.picture.reduction import reduce_planes

Palette = Mapping[str, Mapping[str, float]]
"""For each of R, G, B (and L, when wanted) the roles that make it up and their weights."""

PALETTES: dict[str, Palette] = {
    "RGB": {"R": {"R": 1.0}, "G": {"G": 1.0}, "B": {"B": 1.0}},
    "LRGB": {"L": {"L": 1.0}, "R": {"R": 1.0}, "G": {"G": 1.0}, "B": {"B": 1.0}},
    "SHO": {"R": {"SII": 1.0}, "G": {"Ha": 1.0}, "B": {"OIII": 1.0}},
    "HOO": {"R": {"Ha": 1.0}, "G": {"OIII": 1.0}, "B": {"OIII": 1.0}},
}
NARROWBAND = frozenset({"Ha", "Hb", "OIII", "SII", "NII"})
LIT_SNR2 = 25.0
"""Square of the signal to noise at which the luminance begins to work by the ratio."""
STARS_SIDE = 1920
"""Stars are compared on a copy of at most this size."""
MAX_BOOST = 10.0
"""A filter without signal is not blown up further than this; its noise would fill the picture."""

_ROLES: dict[str, tuple[str, ...]] = {
    "Ha": ("ha", "halpha", "hydrogenalpha", "h_alpha", "hα"),
    "Hb": ("hb", "hbeta", "hβ"),
    "OIII": ("oiii", "o3", "o-iii"),
    "SII": ("sii", "s2"),
    "NII": ("nii", "n2"),
    "R": ("r", "red", "rot", "rouge", "rosso"),
    "G": ("g", "green", "grun", "grün", "vert", "verde"),
    "B": ("b", "blue", "blau", "bleu", "blu"),
    "L": ("l", "lum", "lumi", "luminance", "luminanz", "clear", "clr", "c", "uvir", "uvircut", "ircut", "ir-cut"),
}


@dataclass(frozen=True, eq=False)
class Recipe:
    """How stacks become a colour image.

    Attributes
    ----------
    palette : what goes where.
    skies, gains : for each role the sky, ADU, and the factor of what is above it.
    light : of a luminance: its factor, and the noise of the colours' own luminance, ADU; None without one.
    """

    palette: Palette
    skies: Mapping[str, float]
    gains: Mapping[str, float]
    light: tuple[float, float] | None = None

    @property
    def pedestal_adu(self) -> float:
        """A neutral sky, as bright as the skies that went in are on average."""
        used = {role for mixture in self.palette.values() for role in mixture}
        return float(np.mean([self.skies[role] for role in used]))

    def apply(self, channels: Mapping[str, np.ndarray], noisier: float = 1.0) -> np.ndarray:
        """(3, h, w) float32 of a part of the stacks; `noisier` times the noise of the data that were measured."""
        return self.mix(_planes_by_role(channels), noisier)

    def mix(self, planes: Mapping[str, np.ndarray], noisier: float = 1.0) -> np.ndarray:
        """The same, of planes by role."""
        rgb = np.stack([self._mixture(planes, colour) for colour in "RGB"])
        if self.light is None:
            return rgb
        factor, noise = self.light
        light = self._mixture(planes, "L") * np.float32(factor)
        luma = np.tensordot(np.array(LUMA, np.float32), rgb, axes=1)
        snr2 = (np.maximum(luma, 0) / np.float32(max(noise * noisier, 1e-9))) ** 2
        lit = snr2 / (snr2 + np.float32(LIT_SNR2))
        by_ratio = rgb * np.clip(light / np.maximum(luma, np.float32(1e-9)), 0, 20)
        return (lit * by_ratio + (1 - lit) * (rgb + (light - luma))).astype(np.float32)

    def _mixture(self, planes: Mapping[str, np.ndarray], target: str) -> np.ndarray:
        weights = self.palette[target]
        total = sum(weights.values())
        # Weights need not add up to 1; the brightness of a mixture is that of its parts.
        mixed = np.zeros_like(planes[next(iter(weights))], dtype=np.float32)
        for role, weight in weights.items():
            mixed += np.float32(weight / total * self.gains[role]) * (planes[role] - np.float32(self.skies[role]))
        return mixed


def filter_role(name: str) -> str | None:
    """What a filter is for: "L", "R", "G", "B", "Ha", "Hb", "OIII", "SII" or "NII"; None when its name does not tell.

    Understands "Luminance", "H_Alpha 7nm", "Baader Red", "O-III", "s2" and the like.
    """
    text = re.sub(r"\d+([.,]\d+)?\s*nm\b", " ", name.strip().lower())
    spelt = {re.sub(r"[^\wα-ω]|_", "", word): role for role, words in _ROLES.items() for word in words}
    joined = re.sub(r"[^\wα-ω]|_", "", text)
    if joined in spelt:
        return spelt[joined]
    words = [word for word in re.split(r"[^\wα-ω]+|_", text) if word]
    found = {spelt[word] for word in words if word in spelt}
    pairs = {spelt[a + b] for a, b in pairwise(words) if a + b in spelt}
    narrow = pairs | found & NARROWBAND
    if len(narrow) == 1:
        return narrow.pop()
    return found.pop() if len(found) == 1 and not narrow else None


def parse_palette(text: str) -> Palette:
    """Read a palette as people write it: a name ("SHO"), or "R=SII, G=0.8*Ha+0.2*OIII, B=OIII".

    Raises
    ------
    UsageError : a word or number that does not fit.
    """
    if text.upper() in PALETTES:
        return PALETTES[text.upper()]
    palette: dict[str, dict[str, float]] = {}
    for part in filter(None, (part.strip() for part in text.split(","))):
        target, equals, mixture = (piece.strip() for piece in part.partition("="))
        if not equals or target.upper() not in ("L", "R", "G", "B"):
            raise _bad_palette(text, part)
        weights: dict[str, float] = {}
        for term in mixture.split("+"):
            match = re.fullmatch(r"\s*(?:(\d+(?:\.\d*)?|\.\d+)\s*\*\s*)?([\w-]+)\s*", term)
            role = filter_role(match[2]) if match else None
            if match is None or role is None:
                raise _bad_palette(text, term)
            weights[role] = weights.get(role, 0.0) + float(match[1] or 1)
        palette[target.upper()] = weights
    if not {"R", "G", "B"} <= palette.keys():
        raise _bad_palette(text, text)
    return palette


def choose_palette(roles: set[str]) -> str:
    """The palette that suits the filters there are.

    Raises
    ------
    UsageError : no named palette does.
    """
    for name, needs in (("LRGB", "L R G B"), ("RGB", "R G B"), ("SHO", "SII Ha OIII"), ("HOO", "Ha OIII")):
        if set(needs.split()) <= roles:
            return name
    raise UsageError(
        f"compose: no palette fits the filters {_listed(roles)}; expected L R G B, R G B, SII Ha OIII or Ha OIII. "
        "Say which filter goes where, for instance R=Ha, G=L, B=L."
    )


def compose(channels: Mapping[str, np.ndarray], palette: str | Palette = "auto") -> np.ndarray:
    """Make one colour image of the stacks of several filters.

    Parameters
    ----------
    channels : filter name -> stack on the common grid, float32 in ADU, NaN = no data; (H, W), or (3, H, W) for a colour
        camera, which then is R, G and B. Names are understood as by `filter_role`.
    palette : "auto", "RGB", "LRGB", "SHO", "HOO", a text for `parse_palette`, or the mapping itself.

    Returns
    -------
    (3, H, W) float32, ADU above the sky; NaN where a filter that is needed has no data.

    Raises
    ------
    UsageError : sizes differ, two stacks are for the same filter, or the palette needs a filter that is not there.
    """
    planes = _planes_by_role(channels)
    if isinstance(palette, str):
        palette = PALETTES[choose_palette(set(planes))] if palette.lower() == "auto" else parse_palette(palette)
    recipe = _measure(planes, palette)
    return recipe.mix(planes)


def measure_recipe(channels: Mapping[str, np.ndarray], palette: Palette) -> Recipe:
    """What `compose` measures, to be used on other parts or sizes of the same stacks; see there."""
    return _measure(_planes_by_role(channels), palette)


def _measure(planes: Mapping[str, np.ndarray], palette: Palette) -> Recipe:
    for weights in palette.values():
        if sum(weights.values()) <= 0:
            raise UsageError(f"compose: the weights of {_listed(set(weights))} add up to 0; expected more than 0.")
    needed = {role for mixture in palette.values() for role in mixture}
    if missing := needed - planes.keys():
        raise UsageError(
            f"compose: the palette needs {_listed(missing)}; there is {_listed(set(planes))}. "
            "Choose another palette or stack the missing filter."
        )
    skies, gains = _equalise({role: planes[role] for role in planes if role in needed})
    recipe = Recipe({colour: palette[colour] for colour in "RGB"}, skies, gains)
    if "L" not in palette:
        return recipe
    sampled = {role: _sampled(plane) for role, plane in planes.items() if role in needed}
    luma = np.tensordot(np.array(LUMA, np.float32), recipe.mix(sampled), axes=1)
    whole = Recipe(palette, skies, gains)
    luminance = whole._mixture(sampled, "L")
    noise_luma, noise_light = measure_sky(luma)[1], measure_sky(luminance)[1]
    both = (luma > 10 * noise_luma) & (luminance > 10 * noise_light)
    ratio = float(np.median(luma[both] / luminance[both])) if both.sum() >= 20 else 1.0
    return Recipe(palette, skies, gains, (ratio, noise_luma))


def _planes_by_role(channels: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    planes: dict[str, np.ndarray] = {}
    names: dict[str, str] = {}
    size: tuple[int, ...] | None = None
    for name, data in channels.items():
        if data.ndim == 3 and data.shape[0] == 3:
            parts = dict(zip("RGB", data, strict=True))
        elif data.ndim == 2 and (role := filter_role(name)) is not None:
            parts = {role: data}
        elif data.ndim == 2:
            raise UsageError(
                f"compose: the filter name {name!r} says no colour; expected for instance L, R, Ha or OIII."
            )
        else:
            raise UsageError(f"compose: {name!r} has shape {data.shape}; expected (H, W) or (3, H, W).")
        if size is not None and data.shape[-2:] != size:
            raise UsageError(
                f"compose: {name!r} is {data.shape[-2:]}, the others are {size}; stack onto one reference."
            )
        size = data.shape[-2:]
        for role, plane in parts.items():
            if role in planes:
                raise UsageError(f"compose: {names[role]!r} and {name!r} are both {role}; give only one of them.")
            planes[role], names[role] = plane, name
    return planes


def _equalise(planes: dict[str, np.ndarray]) -> tuple[dict[str, float], dict[str, float]]:
    """For each role its sky, and the factor that brings what is above it to the scale of the others."""
    skies = {role: measure_sky(_sampled(plane)) for role, plane in planes.items()}
    factors = dict.fromkeys(planes, 1.0)
    if {"R", "G", "B"} <= planes.keys():
        small, _ = reduce_planes(np.stack([planes[role] for role in "RGB"]).astype(np.float32, copy=False), STARS_SIDE)
        measured = np.array([measure_sky(_sampled(plane)) for plane in small])
        above = small - measured[:, 0, None, None].astype(np.float32)
        gains, _ = measure_balance(above, small, measured[:, 1])
        factors |= dict(zip("RGB", (float(gain) for gain in gains / gains[1]), strict=True))
    narrow = sorted(NARROWBAND & planes.keys())
    strengths = {role: extended_strength(planes[role] - np.float32(skies[role][0]), skies[role][1]) for role in narrow}
    most = max(strengths.values(), default=0.0)
    for role, strength in strengths.items():
        if strength > 0:
            factors[role] = min(most / strength, MAX_BOOST)
    return {role: float(sky) for role, (sky, _) in skies.items()}, factors


def extended_strength(level: np.ndarray, noise: float) -> float:
    """Strength of the extended light of a plane (H, W) with a sky of zero, ADU: a high percentile without the stars."""
    step = max(1, round(max(level.shape) / 1000))
    view = np.ascontiguousarray(np.nan_to_num(level[::step, ::step]), dtype=np.float32)
    smooth = cv2.blur(cv2.medianBlur(cv2.medianBlur(view, 5), 5), (5, 5))
    seen = smooth[np.isfinite(level[::step, ::step])]
    return max(float(np.percentile(seen, 99.0)), noise) if seen.size else 0.0


def _sampled(plane: np.ndarray) -> np.ndarray:
    step = max(1, round((plane.size / 400_000) ** 0.5))
    return plane[::step, ::step]


def _listed(words: set[str]) -> str:
    return ", ".join(sorted(words)) or "nothing"


def _bad_palette(text: str, part: str) -> UsageError:
    return UsageError(
        f"palette: {part.strip()!r} in {text!r} is not understood; expected auto, {', '.join(PALETTES)} "
        "or for instance R=SII, G=0.8*Ha+0.2*OIII, B=OIII."
    )
