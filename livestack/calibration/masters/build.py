"""Building masters from folders of bias, dark, flat and dark-flat frames.

Every frame is read once to learn what it is and how bright, and again to be averaged. In between, frames are grouped,
and those refused that cannot belong (a light, a saturated flat, a dark with a light leak), each with its reason. The
order is bias, dark-flats, darks, flats, since a flat needs its offset subtracted before it can be scaled. Flats are
brought to one level, colour by colour, and freed from the bands of a flickering lamp, before they are averaged.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np

from livestack.base.errors import FrameError, MasterError, UsageError
from livestack.base.frame import FrameInfo, FrameKind, with_bayer
from livestack.base.settings import CalibrationSettings
from livestack.calibration.masters.combine import Combiner
from livestack.calibration.masters.files import Master, master_file_name, write_master
from livestack.calibration.masters.flicker import MIN_BANDS, band_corrections, measure_bands, row_profile
from livestack.calibration.masters.grouping import Candidate, group_candidates, kind_by_content, kind_by_name
from livestack.calibration.masters.library import MasterLibrary, colour_parts
from livestack.formats import is_frame_name, read_frame, read_frames
from livestack.kernels.bands import Bands

ORDER = (FrameKind.BIAS, FrameKind.DARK_FLAT, FrameKind.DARK, FrameKind.FLAT)
MAX_FLAT, MIN_FLAT = 0.92, 0.02
"""Share of the range between which a flat's median must lie: above it clips, below it is noise."""
LEVEL_SIGMA = 8.0
LEVEL_FLOOR = 0.02
"""A level is out of line when it is off by so many robust sigma of the group's levels, and by this share."""
MIN_FRAMES = 2
FEW_FRAMES = 5

Progress = Callable[[int, int, str], None]
"""Called with (steps done, steps in all, what is being done)."""


@dataclass(frozen=True)
class BuiltMaster:
    """One master that was written.

    Attributes
    ----------
    path, kind, info : the file, what it is, its matching keys.
    frames : names of the frames in it.
    noise : of one frame, ADU; of flats, relative to 1.
    rejected : share of samples clipped, 0 to 1.
    notes : sentences on what to know about it.
    """

    path: Path
    kind: FrameKind
    info: FrameInfo
    frames: tuple[str, ...]
    noise: float
    rejected: float
    notes: tuple[str, ...]


@dataclass(frozen=True)
class MastersReport:
    """What became of the files.

    Attributes
    ----------
    masters : in the order in which they were built.
    refused : (file, sentence why) for each frame that went into none.
    """

    masters: tuple[BuiltMaster, ...]
    refused: tuple[tuple[Path, str], ...]


def build_masters(
    paths: Iterable[Path | str],
    output: Path | str,
    settings: CalibrationSettings | None = None,
    progress: Progress | None = None,
    bands: Bands | None = None,
) -> MastersReport:
    """Build masters from all calibration frames among files and folders, and write them into `output`.

    Parameters
    ----------
    paths : files, and folders that are searched with their sub-folders; `output` itself is passed over.
    output : folder, made if it is not there; a master of the same name is replaced.

    Raises
    ------
    UsageError : a path does not exist.
    MasterError : nothing could be built; the sentence says why for the first file.
    SessionError : `output` cannot be written.
    """
    settings = settings or CalibrationSettings()
    output = Path(output)
    files = _find_files([Path(p) for p in paths], output)
    tell = progress or (lambda done, total, what: None)
    steps = 2 * len(files)
    candidates: list[Candidate] = []
    refused: list[tuple[Path, str]] = []
    for number, (path, root) in enumerate(files):
        tell(number, steps, f"looking at {path.name}")
        _examine(path, root, settings.bayer, candidates, refused)

    groups = group_candidates(candidates, settings.temperature_tolerance_c)
    groups.sort(key=lambda group: ORDER.index(group[0].kind))
    built: list[BuiltMaster] = []
    done = len(files)
    for group in groups:
        kept = _refuse_strangers(group, refused)
        if len(kept) < MIN_FRAMES:
            refused += [
                (c.path, f"{c.name} is the only {c.kind.value} of its kind: take {FEW_FRAMES} or more.") for c in kept
            ]
            continue
        library = MasterLibrary([Master(b.path, b.kind, b.info) for b in built], settings)
        what = f"averaging {len(kept)} {kept[0].kind.value} frames"
        built.append(_build(kept, output, library, partial(_tell_from, tell, done, steps, what), bands))
        done += len(kept)
    tell(steps, steps, "done")
    if not built:
        reason = f" {refused[0][1]}" if refused else ""
        raise MasterError(
            f"no master could be built from {len(files)} files: expected bias, dark or flat frames.{reason}"
        )
    return MastersReport(tuple(built), tuple(sorted(refused)))


def _tell_from(tell: Progress, done: int, steps: int, what: str, number: int) -> None:
    tell(min(done + number, steps), steps, what)


def _find_files(paths: list[Path], output: Path) -> list[tuple[Path, Path]]:
    """(file, the folder in which it was searched for), each file once."""
    own = output.resolve()
    found: dict[Path, Path] = {}
    for path in paths:
        if path.is_dir():
            inside = sorted(p for p in path.rglob("*") if p.is_file() and is_frame_name(p))
            for file in inside:
                if own not in file.resolve().parents:
                    found.setdefault(file, path)
        elif path.exists():
            found.setdefault(path, path.parent)
        else:
            raise UsageError(f"{path}: no such file or folder; name calibration frames or folders of them.")
    return list(found.items())


def _examine(
    path: Path, root: Path, bayer: str | None, candidates: list[Candidate], refused: list[tuple[Path, str]]
) -> None:
    """Find out what the frames of a file are; `bayer` corrects their headers."""
    try:
        for read in read_frames(path):
            frame = with_bayer(read, bayer)
            info = frame.info
            if info.is_master:
                refused.append((path, f"{frame.name} is a master already: copy it into the folder of masters."))
                return
            kind, why = info.kind, "header"
            if kind is FrameKind.UNKNOWN:
                kind, why = kind_by_name(path, root), "name"
            if kind is FrameKind.UNKNOWN:
                kind, why = kind_by_content(frame), "content"
            if kind is FrameKind.LIGHT:
                refused.append(
                    (path, f"{frame.name} is a light by its {why}: masters are made of bias, dark and flat frames.")
                )
                return
            if kind is FrameKind.UNKNOWN:
                sentence = "does not say what it is and looks like no bias, dark or flat: name its folder so."
                refused.append((path, f"{frame.name} {sentence}"))
                return
            level = float(np.median(frame.data[..., ::3, ::3]))
            candidates.append(Candidate(path, frame.index, kind, why, info, level))
    except FrameError as error:
        refused.append((path, str(error)))


def _refuse_strangers(group: list[Candidate], refused: list[tuple[Path, str]]) -> list[Candidate]:
    """The members of a group whose level is in line."""
    levels = np.array([c.level_adu for c in group])
    centre = float(np.median(levels))
    scatter = 1.4826 * float(np.median(np.abs(levels - centre)))
    kept = []
    for candidate in group:
        level, full = candidate.level_adu, candidate.info.saturation_adu
        if candidate.kind is FrameKind.FLAT:
            if full and not MIN_FLAT * full < level < MAX_FLAT * full:
                sentence = "too bright: it clips" if level > 0.5 * full else "too dark to tell the pixels apart"
                refused.append(
                    (
                        candidate.path,
                        f"{candidate.name}: a flat with a median of {level:.0f} of {full:.0f} ADU is {sentence}.",
                    )
                )
                continue
        elif abs(level - centre) > max(LEVEL_SIGMA * scatter, LEVEL_FLOOR * abs(centre), 2.0):
            refused.append((
                candidate.path,
                f"{candidate.name}: its median of {level:.0f} ADU is out of line with the other {candidate.kind.value} "
                f"frames ({centre:.0f} ADU): light may have leaked in.",
            ))  # fmt: skip
            continue
        kept.append(candidate)
    return kept


def _build(
    group: list[Candidate], output: Path, library: MasterLibrary, tell: Callable[[int], None], bands: Bands | None
) -> BuiltMaster:
    """Average one group and write it."""
    kind, first = group[0].kind, group[0].info
    info = _common_info(group)
    notes = list(dict.fromkeys(s for c in group for s in c.info.oddities))
    by_content = sum(c.why == "content" for c in group)
    if by_content:
        notes.append(
            f"{by_content} of {len(group)} frames are taken for {kind.value} by content: neither header nor name says."
        )
    if len(group) < FEW_FRAMES:
        notes.append(f"only {len(group)} frames: extremes cannot be told well; take 15 or more.")
    subtract: np.ndarray | None = None
    words = ""
    if kind is FrameKind.FLAT:
        subtract, words = library.match_flat_field(first, notes)
    shape = (first.height, first.width) if first.planes == 1 else (first.planes, first.height, first.width)
    flats = _Flats(group, subtract) if kind is FrameKind.FLAT else None
    if flats is not None:
        notes += flats.notes
    combiner = Combiner(shape, len(group), bands)
    for number, candidate in enumerate(group):
        tell(number)
        combiner.add(flats.read(number) if flats is not None else _read(candidate))
    combined = combiner.result()
    if kind is FrameKind.FLAT:
        to_unit_level(combined.mean, first.mosaic)
    name = master_file_name(kind, info)
    path = output / name
    history = (
        f"mean of {combined.n_frames} {kind.value} frames, {100 * combined.rejected:.3f} % of samples clipped",
        *([words] if words else []),
        *notes,
        *(f"from {c.name} ({c.kind.value} by its {c.why}, median {c.level_adu:.0f} ADU)" for c in group),
    )
    write_master(path, kind, info, combined.mean, combined.variance, combined.n_frames, combined.rejected, history)
    names = tuple(c.name for c in group)
    return BuiltMaster(path, kind, info, names, combined.noise, combined.rejected, tuple(notes))


def _common_info(group: list[Candidate]) -> FrameInfo:
    """The keys of the group; exposure and temperature are means."""

    def mean(values: list[float | None]) -> float | None:
        told = [v for v in values if v is not None]
        return float(np.mean(told)) if told else None

    first = group[0].info
    return replace(
        first,
        kind=group[0].kind,
        exposure_s=mean([c.info.exposure_s for c in group]),
        temperature_c=mean([c.info.temperature_c for c in group]),
        is_master=True,
    )


def _read(candidate: Candidate) -> np.ndarray:
    return read_frame(candidate.path, candidate.index).data.astype(np.float32)


class _Flats:
    """The flats of a group, read one at a time, each without offset, level and bands."""

    def __init__(self, group: list[Candidate], subtract: np.ndarray | None) -> None:
        self.group = group
        self.offset = np.float32(abs(group[0].info.pedestal_adu or 0.0)) if subtract is None else subtract
        self.corrections: list[np.ndarray] = []
        levels, by_frame = [], []
        for candidate in group:
            data, means = self._at_unit_level(candidate)
            levels.append(np.mean(means))
            by_frame.append([row_profile(view) for view in self._views(data)])
        profiles = [np.array(frames) for frames in zip(*by_frame, strict=True)]
        change = np.ptp(levels) / np.mean(levels)
        self.notes = [f"the flats differ by {100 * change:.1f} % in brightness: each brought to 1."]
        bands = max(measure_bands(profile) for profile in profiles)
        if bands > MIN_BANDS:
            self.corrections = [band_corrections(profile) for profile in profiles]
            self.notes.append(
                f"the flats show bands of {100 * bands:.1f} % rms that move from frame to frame, as a lamp on the "
                "mains makes them: taken out row by row; expose longer or use a steady lamp."
            )

    def _views(self, data: np.ndarray) -> list[np.ndarray]:
        return [view for part in colour_parts(data, self.group[0].info.mosaic) for view in part]

    def _at_unit_level(self, candidate: Candidate) -> tuple[np.ndarray, list[float]]:
        data = _read(candidate) - self.offset
        return data, to_unit_level(data, candidate.info.mosaic)

    def read(self, number: int) -> np.ndarray:
        """Flat `number` of the group, float32, 1 on average in each colour."""
        data, _ = self._at_unit_level(self.group[number])
        for view, correction in zip(self._views(data), self.corrections, strict=False):
            view /= correction[number][:, None]
        return data


def to_unit_level(data: np.ndarray, mosaic: str | None) -> list[float]:
    """Divide each colour by its mean, in place; the means. All greens of a mosaic share one."""
    means = []
    for part in colour_parts(data, mosaic):
        mean = float(np.mean([float(np.nanmean(view, dtype=np.float64)) for view in part]))
        means.append(mean)
        for view in part:
            view /= np.float32(mean)
    return means
