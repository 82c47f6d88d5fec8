"""The colour picture of a target that is stacked through several filters: which stacks, which palette, which pixels.

`plan_composite` looks at what is there (one `Part` for each filter) and says what can be made of it; `Composite` makes
it, small for the preview or in true pixels for the final save and for zooming, from the live accumulators. How filters
are mixed is `compose`'s business, how the result is drawn `picture.render`'s.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from livestack.base.errors import UsageError
from livestack.base.settings import RenderSettings
from livestack.kernels.bands import Bands
from livestack.picture import Look, shrink_stack
from livestack.picture.balance import mix_luma
from livestack.picture.compose import (
    NARROWBAND,
    PALETTES,
    STARS_SIDE,
    Palette,
    Recipe,
    choose_palette,
    filter_role,
    measure_recipe,
    parse_palette,
)
from livestack.stacking.accumulators import Stack

BAND_ROWS = 256
OFF = "none"
COLOUR = "RGB"
"""Role of a colour camera's stack."""
COLOURS = frozenset({"R", "G", "B"})


@dataclass(frozen=True, eq=False)
class Part:
    """The stack of one target through one filter."""

    group: str
    filter_name: str
    stack: Stack
    exposure_s: float
    n_frames: int


@dataclass(frozen=True, eq=False)
class Composite:
    """What is put together.

    Attributes
    ----------
    target : of what, a slug; `name` adds the palette.
    palette_name : "LRGB", ..., or "custom".
    parts : by role ("L", "R", "Ha" ...; `COLOUR` for a colour camera); all stacks are on one grid.
    """

    target: str
    palette_name: str
    palette: Palette
    parts: Mapping[str, Part]

    @property
    def name(self) -> str:
        """Of its folder, for instance "m-27-lrgb"."""
        return f"{self.target}-{self.palette_name.lower()}"

    @property
    def narrowband(self) -> bool:
        """True when the colours are the palette's and not those of the stars."""
        return bool(NARROWBAND & {role for colour in "RGB" for role in self.palette[colour]})

    @property
    def size(self) -> tuple[int, int]:
        """(width, height) in true pixels."""
        _, height, width = next(iter(self.parts.values())).stack.shape
        return width, height

    @property
    def words(self) -> str:
        """What is put together, in a few words."""
        listed = ", ".join(
            f"{'colour' if role == COLOUR else role} ({part.n_frames} frames, {part.exposure_s:g} s)"
            for role, part in self.parts.items()
        )
        return f"{self.palette_name} of {listed}"

    def settings_for(self, settings: RenderSettings) -> RenderSettings:
        """How it is drawn: the balance of narrowband colours is part of the palette."""
        return settings.model_copy(update={"white_balance": "none"}) if self.narrowband else settings

    def channels(self, rows: slice = slice(None), columns: slice = slice(None)) -> dict[str, np.ndarray]:
        """By role, (h, w) or (3, h, w) float32 in ADU, NaN = no data."""
        images = {role: part.stack.image(rows, columns) for role, part in self.parts.items()}
        return {role: image[0] if len(image) == 1 else image for role, image in images.items()}

    def make(self, bands: Bands | None = None) -> tuple[np.ndarray, float]:
        """(3, H, W) float32 in ADU, NaN where a filter has no data, and the sky in it, the same in all colours."""
        _, mixed = self.make_small(STARS_SIDE, bands)
        width, height = self.size
        noisier, sky = mixed.noisier, mixed.recipe.pedestal_adu
        planes = np.empty((3, height, width), np.float32)
        for start in range(0, height, BAND_ROWS):
            rows = slice(start, min(start + BAND_ROWS, height))
            planes[:, rows] = mixed.recipe.apply(self.channels(rows), noisier)
        planes += np.float32(sky)
        return planes, sky

    def make_small(self, max_side: int, bands: Bands | None = None) -> tuple[np.ndarray, Mixed]:
        """(3, h, w) float32 with at most `max_side` pixels a side, and what true pixels need to look the same."""
        small: dict[str, np.ndarray] = {}
        here: dict[str, np.ndarray] = {}
        there: dict[str, np.ndarray] = {}
        scale = 1.0
        for role, part in self.parts.items():
            stack = part.stack
            read = shrink_stack(stack.mean, stack.weight, stack.origin, max_side, bands)
            scale = read.scale
            small[role], here[role], there[role] = (
                planes[0] if len(planes) == 1 else planes for planes in (read.planes, read.here, read.there)
            )
        recipe = measure_recipe(small, self.palette)
        return recipe.apply(small), Mixed(self, recipe, scale, recipe.apply(here), recipe.apply(there))


@dataclass(frozen=True, eq=False)
class Mixed:
    """A composite with the numbers of its preview, for parts of it in true pixels.

    Attributes
    ----------
    scale : true pixels per pixel of the preview.
    here, there : (3, n, m) float32, true pixels of the colour picture and others a few pixels beside them.
    """

    composite: Composite
    recipe: Recipe
    scale: float
    here: np.ndarray
    there: np.ndarray

    @property
    def noisier(self) -> float:
        """Noise of true pixels over that of the data which the recipe was measured on."""
        if self.recipe.light is None or self.scale == 1:
            return 1.0
        return max(1.0, self._noise(np.ones(3)) / max(self.recipe.light[1], 1e-9))

    def _noise(self, gains: np.ndarray) -> float:
        """Sigma of the luminance of true pixels, ADU."""
        difference = np.abs(mix_luma(self.here, gains) - mix_luma(self.there, gains))
        seen = difference[np.isfinite(difference)]
        return 1.4826 * float(np.median(seen)) / math.sqrt(2) if seen.size else 0.0

    def part(self, rows: slice, columns: slice) -> np.ndarray:
        """(3, h, w) float32 in true pixels, ADU above the sky."""
        return self.recipe.apply(self.composite.channels(rows, columns), self.noisier)

    def look(self, small: Look) -> Look:
        """The preview's look for true pixels, which are noisier than averages."""
        sigma = small.noise_at(1.0)
        if self.scale == 1:
            return replace(small, size=self.composite.size)
        noise = ((1.0, max(sigma, self._noise(small.gains))), (self.scale, sigma))
        return replace(small, size=self.composite.size, noise=noise)


def check_palette(text: str) -> None:
    """Refuse a palette that nobody understands, before the night begins.

    Raises
    ------
    UsageError : says what is expected.
    """
    if text.lower() not in ("auto", OFF):
        parse_palette(text)


def plan_composite(target: str, parts: Sequence[Part], palette: str) -> Composite | None:
    """What colour picture the stacks of one target make; None when there is none (yet).

    Of two stacks for one role the longer exposed is taken; a full set of mono R, G, B comes before a colour camera.

    Parameters
    ----------
    target : name of what they show; parts : its stacks, on one grid.
    palette : "auto", "none", a name, or a text for `parse_palette`.

    Raises
    ------
    UsageError : the palette is not understood.
    """
    if palette.lower() == OFF or len(parts) < 2:
        return None
    by_role: dict[str, Part] = {}
    for part in sorted(parts, key=lambda one: one.exposure_s):
        role = COLOUR if part.stack.shape[0] == 3 else filter_role(part.filter_name) if part.filter_name else "L"
        if role is not None:
            by_role[role] = part
    if by_role.keys() >= COLOURS:
        by_role.pop(COLOUR, None)
    roles = set(by_role) - {COLOUR} | (COLOURS if COLOUR in by_role else set())
    if palette.lower() == "auto":
        try:
            name = choose_palette(roles)
        except UsageError:
            return None
        chosen = PALETTES[name]
    else:
        chosen = parse_palette(palette)
        name = palette.upper() if palette.upper() in PALETTES else "custom"
    needed = {role for mixture in chosen.values() for role in mixture}
    if not needed <= roles:
        return None
    order = [role for role in ("L", COLOUR, "R", "G", "B", "SII", "Ha", "OIII", "Hb", "NII") if role in by_role]
    wanted = {
        role: by_role[role]
        for role in order
        if (needed & COLOURS if role == COLOUR else role in needed and not (role in COLOURS and COLOUR in by_role))
    }
    return Composite(target, name, chosen, wanted) if len(wanted) > 1 else None
