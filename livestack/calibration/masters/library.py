"""A folder of masters, and which of them fit a light.

A master fits when it comes from the same pixels (size, binning, mosaic phase): one that does not is refused by naming
both sides. Among those that fit, the dark is chosen by gain, offset, temperature and exposure, the flat by filter. A
dark holds the bias already, so the bias is subtracted only where there is no dark of the light's exposure: alone, or to
scale the dark current of another exposure. What a header leaves out counts as fitting; what had to be guessed is said.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from livestack.base.errors import FrameError, MasterError, UsageError
from livestack.base.frame import FrameInfo, FrameKind, info_with_bayer, same_exposure
from livestack.base.settings import CalibrationSettings
from livestack.calibration.calibrate import MatchedMasters, describe_sensor
from livestack.calibration.masters.files import Master
from livestack.calibration.masters.flaws import find_flaws
from livestack.calibration.masters.grouping import kind_by_name
from livestack.formats import is_frame_name, read_info

DEAD_FLAT = 0.05
"""Where a flat is below this share of its mean it says nothing about the light."""
MAX_STRETCH = 4.0
"""A dark is scaled to at most so many times its exposure: beyond, its own noise would dominate."""


def load_masters(folder: Path | str, settings: CalibrationSettings | None = None) -> MasterLibrary:
    """The masters in a folder and its sub-folders; pixels are read when a light asks for them.

    Raises
    ------
    UsageError : the folder is not there, or holds no master.
    """
    folder = Path(folder)
    if not folder.is_dir():
        found = "is a file, expected the folder of masters" if folder.exists() else "no such folder of masters"
        raise UsageError(f"{folder}: {found}; build one with `livestack masters PATH... --output DIR`.")
    masters, ignored = [], []
    for path in sorted(p for p in folder.rglob("*") if p.is_file() and is_frame_name(p)):
        try:
            info = info_with_bayer(read_info(path), None if settings is None else settings.bayer)
        except FrameError as error:
            ignored.append(f"{path.name} is no use as a master: {error}")
            continue
        kind = info.kind if info.kind is not FrameKind.UNKNOWN else kind_by_name(path, folder)
        named = "master" in path.stem.lower()
        if kind in (FrameKind.LIGHT, FrameKind.UNKNOWN) or not (info.is_master or named):
            ignored.append(f"{path.name} is not called a master by header or name, and is left alone.")
            continue
        masters.append(Master(path, kind, info))
    if not masters:
        found = f" ({ignored[0].rstrip('.')})" if ignored else ""
        raise UsageError(
            f"{folder}: expected masters, found none{found}; build some with `livestack masters PATH... --output DIR`."
        )
    return MasterLibrary(masters, settings or CalibrationSettings(), tuple(ignored))


class MasterLibrary:
    """Masters to choose from.

    Parameters
    ----------
    masters : in any order; of two that fit equally well the first by name is taken.
    settings : tolerance of temperature.
    ignored : sentences on files that were passed over.
    """

    def __init__(self, masters: Sequence[Master], settings: CalibrationSettings, ignored: tuple[str, ...] = ()) -> None:
        self.masters = tuple(sorted(masters, key=lambda m: (m.path.name, str(m.path))))
        self.settings = settings
        self.ignored = ignored

    def match(self, info: FrameInfo) -> MatchedMasters:
        """The masters for lights with this header.

        Raises
        ------
        MasterError : no master in the library comes from the same pixels, or one that is needed cannot be read.
        """
        fitting = [m for m in self.masters if not difference(m.info, info)]
        if self.masters and not fitting:
            other = self.masters[0]
            raise MasterError(
                f"{other.name} is {describe_pixels(other.info)}, the light is {describe_pixels(info)}: "
                "use masters of this camera and binning, or none."
            )
        said: list[str] = []
        used: list[Master] = []
        bias = self._choose_bias(fitting, info, said)
        dark = self._choose_dark(fitting, info, bias, said)
        flat = self._choose_flat(fitting, info, said)
        subtract, words = _subtrahend(bias, dark, info, used)
        flat_pixels = inverse = None
        if flat is not None:
            used.append(flat)
            flat_pixels = flat.read()
            inverse = inverse_flat(flat_pixels, info.mosaic)
            words.append(f"divided by {flat.name}")
            if subtract is None:
                said.append(
                    f"the light keeps its offset, for there is neither a master bias nor a dark that fits: {flat.name} "
                    "divides the offset too, and corners come out too bright; make a master bias."
                )
        for master in used:
            if master.info.camera and info.camera and master.info.camera != info.camera:
                said.append(
                    f"{master.name} is from {master.info.camera}, the light from {info.camera}: same pixels, used."
                )
        defects = None
        if info.planes == 1:
            own = dark.read() if dark is not None else None
            defects = find_flaws(own, dark.read_variance() if dark else None, flat_pixels, info.mosaic)
        return MatchedMasters(
            info,
            subtract,
            inverse,
            defects,
            tuple(said),
            tuple(words),
            tuple((m.path, m.kind.value, m.checksum) for m in used),
        )

    def match_flat_field(self, info: FrameInfo, said: list[str]) -> tuple[np.ndarray | None, str]:
        """What to subtract from raw flats with this header (dark-flat, dark, else bias), and the words for it."""
        fitting = [m for m in self.masters if not difference(m.info, info)]
        as_dark = [Master(m.path, FrameKind.DARK, m.info) for m in fitting if m.kind is FrameKind.DARK_FLAT]
        quiet: list[str] = []
        bias = self._choose_bias(fitting, info, quiet)
        alike = [m for m in fitting if m.kind is FrameKind.DARK and _same_exposure(m.info, info)]
        dark = self._choose_dark(as_dark, info, None, quiet) or self._choose_dark(alike, info, None, quiet)
        subtract, words = _subtrahend(bias, dark, info, [])
        if subtract is None:
            said.append("there is neither dark-flat nor bias for the flats: their offset stays in.")
        return subtract, "; ".join(words)

    def _choose_bias(self, fitting: list[Master], info: FrameInfo, said: list[str]) -> Master | None:
        found = [m for m in fitting if m.kind is FrameKind.BIAS and _same_electronics(m.info, info)]
        return min(found, key=lambda m: _temperature_gap(m.info, info) or 0.0) if found else None

    def _choose_dark(
        self, fitting: list[Master], info: FrameInfo, bias: Master | None, said: list[str]
    ) -> Master | None:
        darks = [m for m in fitting if m.kind is FrameKind.DARK]
        if not darks:
            said.append(f"there is no master dark: {'the bias alone is' if bias else 'nothing is'} subtracted.")
            return None
        alike = [m for m in darks if _same_electronics(m.info, info)]
        if not alike:
            d = darks[0]
            said.append(
                f"{d.name} was taken with gain {_value(d.info.gain)} and offset {_value(d.info.offset)}, the light "
                f"with gain {_value(info.gain)} and offset {_value(info.offset)}: not used."
            )
            return None
        tolerance = self.settings.temperature_tolerance_c
        cool = [m for m in alike if (_temperature_gap(m.info, info) or 0.0) <= tolerance]
        if not cool:
            d = min(alike, key=lambda m: _temperature_gap(m.info, info) or 0.0)
            said.append(
                f"{d.name} was taken at {d.info.temperature_c:.1f} C, the light at {info.temperature_c:.1f} C, "
                f"more than {tolerance:g} C apart: not used."
            )
            return None
        same = [m for m in cool if _same_exposure(m.info, info)]
        if same:
            return min(same, key=lambda m: _temperature_gap(m.info, info) or 0.0)
        t = info.exposure_s
        longest = max(cool, key=lambda m: m.info.exposure_s or 0.0)
        t_dark = longest.info.exposure_s
        if t is None or t_dark is None:
            said.append(f"the exposure of the light or of {longest.name} is not told: taken to be the same.")
            return longest
        if bias is None:
            said.append(
                f"{longest.name} was exposed {t_dark:g} s, the light {t:g} s: scaling needs a master bias; not used."
            )
            return None
        if t > MAX_STRETCH * t_dark:
            said.append(
                f"{longest.name} was exposed {t_dark:g} s only, the light {t:g} s: the bias alone is subtracted."
            )
            return None
        return longest

    def _choose_flat(self, fitting: list[Master], info: FrameInfo, said: list[str]) -> Master | None:
        flats = [m for m in fitting if m.kind is FrameKind.FLAT]
        if not flats:
            said.append("there is no master flat: vignetting and dust stay.")
            return None
        wanted = (info.filter_name or "").casefold()
        same = [m for m in flats if (m.info.filter_name or "").casefold() == wanted]
        if same:
            return same[0]
        silent = [m for m in flats if not m.info.filter_name]
        if silent or not wanted:
            flat = (silent or flats)[0]
            said.append(f"the filter of the light or of {flat.name} is not told: taken to be the same.")
            return flat
        names = ", ".join(sorted({m.info.filter_name or "" for m in flats}))
        said.append(
            f"there is no master flat for filter {info.filter_name} (there is {names}): vignetting and dust stay."
        )
        return None


def difference(master: FrameInfo, light: FrameInfo) -> bool:
    """Whether the two come from different pixels: size, binning, colours, mosaic phase (when both tell it)."""
    phases_differ = master.mosaic is not None and light.mosaic is not None and master.mosaic != light.mosaic
    return (
        master.size != light.size or master.binning != light.binning or master.planes != light.planes or phases_differ
    )


def describe_pixels(info: FrameInfo) -> str:
    """Size, mosaic phase and, where there is any, binning: "652 x 488 RGGB binned 2 x 2"."""
    binned = "" if info.binning == (1, 1) else f" binned {info.binning[0]} x {info.binning[1]}"
    return describe_sensor(info) + binned


def inverse_flat(flat: np.ndarray, mosaic: str | None) -> np.ndarray:
    """1 / flat, the flat's mean being 1 in each colour; NaN where the flat is dead.

    Each colour has a mean of its own, or the colour of the flat's lamp would be taken out of the sky; both greens share
    one, so that their difference in sensitivity is corrected.
    """
    flat = flat.astype(np.float32, copy=True)
    for part in colour_parts(flat, mosaic):
        mean = np.mean([float(np.nanmean(view)) for view in part])
        for view in part:
            view /= np.float32(mean)
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(flat > DEAD_FLAT, np.float32(1) / flat, np.float32(np.nan))


def colour_parts(data: np.ndarray, mosaic: str | None) -> list[list[np.ndarray]]:
    """Views of the pixels of each colour: of a mosaic (4 or 36 letters) its phases of R, G, B, else each plane."""
    if data.ndim == 3:
        return [[plane] for plane in data]
    if mosaic is None:
        return [[data]]
    side = math.isqrt(len(mosaic))
    phases = range(side * side)
    return [[data[k // side :: side, k % side :: side] for k in phases if mosaic[k] == colour] for colour in "RGB"]


def _subtrahend(
    bias: Master | None, dark: Master | None, info: FrameInfo, used: list[Master]
) -> tuple[np.ndarray | None, list[str]]:
    """All that is subtracted, and the words for it."""
    if dark is None:
        if bias is None:
            return None, []
        used.append(bias)
        return bias.read(), [f"subtracted {bias.name}"]
    used.append(dark)
    t, t_dark = info.exposure_s, dark.info.exposure_s
    if bias is None or t is None or t_dark is None or _same_exposure(dark.info, info):
        return dark.read(), [f"subtracted {dark.name} (bias included)"]
    used.append(bias)
    level = bias.read()
    return level + np.float32(t / t_dark) * (dark.read() - level), [
        f"subtracted {bias.name} and {t / t_dark:.4g} x the dark current of {dark.name}"
    ]


def _same_electronics(a: FrameInfo, b: FrameInfo) -> bool:
    pairs = ((a.gain, b.gain), (a.offset, b.offset))
    return all(x is None or y is None or abs(x - y) < 0.5 for x, y in pairs)


def _same_exposure(a: FrameInfo, b: FrameInfo) -> bool:
    if a.exposure_s is None or b.exposure_s is None:
        return False
    return same_exposure(a.exposure_s, b.exposure_s)


def _temperature_gap(a: FrameInfo, b: FrameInfo) -> float | None:
    if a.temperature_c is None or b.temperature_c is None:
        return None
    return abs(a.temperature_c - b.temperature_c)


def _value(number: float | None) -> str:
    return "not told" if number is None else f"{number:g}"
