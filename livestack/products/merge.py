"""Two nights become one stack: `stack.fits` files merged exactly on one grid, through their stars on different ones.

A saved stack holds mean, variance, weights and counts, from which the sums of squares follow; stacks on one grid merge
without loss (Chan, Golub & LeVeque 1979). On another grid the second stack is registered to the first by the stars of
both, its mean interpolated once and brought to the first one's flux and sky; variance, weight and counts, which are not
to be smoothed, are taken from the nearest pixel. Its weights are put on the first one's scale by the noise of both.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from astropy.io import fits

from livestack.base.durable import replacing, write_atomically
from livestack.base.errors import UsageError
from livestack.base.settings import DetectionSettings, RegistrationSettings, RenderSettings
from livestack.base.version import version
from livestack.detection import Sky, StarCatalog, find_stars, measure_sky
from livestack.kernels.bands import Bands
from livestack.kernels.resample import sample_tile
from livestack.picture import encode_png, measure_look, render
from livestack.products.stack_files import EXTENSIONS, terraces_in
from livestack.registration import StarReference, Unregistered, register_stars
from livestack.registration import transform as tf
from livestack.stacking.accumulators import Stack
from livestack.stacking.laying import upright
from livestack.stacking.normalisation import Normalisation
from livestack.stacking.normalise import ReferenceLight, flux_ratio, normalise

SAME_GRID_PX = 0.05
SAME_FLUX = 0.01
STRIP_ROWS = 64


@dataclass(frozen=True, eq=False)
class SavedStack:
    """A `stack.fits` as accumulators, with its header."""

    path: Path
    header: fits.Header
    stack: Stack

    @property
    def picture(self) -> np.ndarray:
        """(H, W) or (3, H, W) float32, ADU, NaN = no data."""
        image = self.stack.image()
        return image[0] if len(image) == 1 else image


@dataclass(frozen=True)
class Merged:
    """How stacks were merged: a sentence for each that was added."""

    path: Path
    picture: Path
    words: tuple[str, ...]


def find_stack(place: Path) -> Path:
    """The `stack.fits` that is meant: the file itself, or the only one of a session's folder.

    Raises
    ------
    UsageError : there is none, or there are several.
    """
    if place.is_file():
        return place
    found = sorted(place.glob("stack.fits")) or sorted(place.glob("*/stack.fits"))
    if len(found) == 1:
        return found[0]
    if found:
        names = ", ".join(str(path.relative_to(place)) for path in found)
        raise UsageError(f"{place}: holds several stacks ({names}); name the one that is meant.")
    raise UsageError(f"{place}: holds no stack.fits; expected a session's folder or a stack that livestack saved.")


def read_saved(path: Path) -> SavedStack:
    """Read a `stack.fits` back into accumulators.

    Raises
    ------
    UsageError : it is no stack of ours, or no mean.
    """
    try:
        with fits.open(path, memmap=False) as file:
            header = file[0].header.copy()
            mean = np.asarray(file[0].data, dtype=np.float32)
            maps = {name: np.asarray(file[name].data) for name in EXTENSIONS}
    except (OSError, KeyError, TypeError, ValueError) as error:
        raise UsageError(
            f"{path}: is no stack of livestack ({error}); expected a FITS file with {', '.join(EXTENSIONS)}."
        ) from error
    if header.get("STACKMOD", "mean") != "mean":
        raise UsageError(f"{path}: is a {header['STACKMOD']}, expected a mean; only means can be merged.")
    shape = mean.shape if mean.ndim == 3 else (1, *mean.shape)
    mean = mean.reshape(shape)
    planes = {name: data.reshape(shape) for name, data in maps.items()}
    count = planes["COVERAGE"].astype(np.uint16)
    weight = planes["WEIGHT"].astype(np.float32)
    origin = np.array([np.nanmedian(plane) if np.isfinite(plane).any() else 0.0 for plane in mean])
    n = count.astype(np.float32)
    with np.errstate(invalid="ignore", divide="ignore"):
        m2 = np.where(count > 1, planes["VARIANCE"].astype(np.float32) * weight * (n - 1) / n, np.float32(0))
    arrays = {
        "mean": np.where(weight > 0, mean - origin.astype(np.float32)[:, None, None], np.float32(0)),
        "m2": np.nan_to_num(m2),
        "weight": weight,
        "count": count,
        "low": planes["REJLOW"].astype(np.uint16),
        "high": planes["REJHIGH"].astype(np.uint16),
    }
    return SavedStack(path, header, Stack.restore(arrays, origin, int(header.get("NCOMBINE", 0))))


def merge_stacks(places: Sequence[Path], output: Path | None, bands: Bands) -> Merged:
    """Merge saved stacks onto the grid and scale of the first and write the result.

    Parameters
    ----------
    places : two or more files or session folders.
    output : file to write; default `merged.fits` beside the first stack. Its picture, a PNG, lies beside it.

    Raises
    ------
    UsageError : they cannot be merged: colours differ, or their stars do not match.
    SessionError : the result cannot be written.
    """
    if len(places) < 2:
        raise UsageError(f"merge: found {len(places)} stack, expected two or more.")
    paths = [find_stack(place) for place in places]
    if len({path.resolve() for path in paths}) < len(paths):
        raise UsageError(f"merge: {paths[0]} was named twice; each frame may count only once.")
    first = read_saved(paths[0])
    output = output or paths[0].with_name("merged.fits")
    words = []
    stars = _Stars(first, bands)
    for path in paths[1:]:
        other = read_saved(path)
        if other.stack.shape[0] != first.stack.shape[0]:
            raise UsageError(f"{path}: has {other.stack.shape[0]} colour(s), {first.path} has {first.stack.shape[0]}.")
        carried, how = _carry(other, stars, bands)
        first.stack.merge(carried, bands)
        words.append(f"{path}: {how}.")
        _add_header(first.header, other.header)
    _write(output, first, words)
    picture = output.with_suffix(".png")
    _draw(picture, first, bands)
    return Merged(output, picture, tuple(words))


class _Stars:
    """Stars and sky of a saved stack."""

    def __init__(self, saved: SavedStack, bands: Bands) -> None:
        image = saved.picture
        self.saved = saved
        self.height, self.width = image.shape[-2:]
        self.sky: Sky = measure_sky(image, None, bands)
        self.catalog: StarCatalog = find_stars(image, None, self.sky, None, DetectionSettings(), bands)
        field = self.height, self.width
        self.light = ReferenceLight(self.catalog, self.sky, np.eye(3), self.width, self.height, field)
        self.reference = StarReference(self.catalog, self.width, self.height)


def _carry(other: SavedStack, onto: _Stars, bands: Bands) -> tuple[Stack, str]:
    """The other stack on the grid and scale of the first, and how it came there."""
    alike = other.stack.shape == onto.saved.stack.shape and _same_reference(other.header, onto.saved.header)
    stars = _Stars(other, bands)
    found = register_stars(onto.reference, stars.catalog, [np.eye(3)], RegistrationSettings())
    if isinstance(found, Unregistered):
        if alike and len(onto.catalog) == 0:
            return other.stack, "merged exactly, on the same reference"
        raise UsageError(
            f"{other.path}: cannot be laid onto {onto.saved.path} ({found.message}); expected the same field."
        )
    ratio = flux_ratio(onto.catalog, stars.catalog, found.reference_index, found.frame_index)
    corners = np.array([[0, 0], [onto.width, 0], [0, onto.height], [onto.width, onto.height]], dtype=float)
    off = float(np.abs(tf.apply(found.matrix, corners) - corners).max())
    if alike and off < SAME_GRID_PX and ratio is not None and abs(ratio - 1) < SAME_FLUX:
        return other.stack, "merged exactly, on the same reference"
    normalisation = normalise(onto.light, stars.sky, found.matrix, ratio, stars.width, stars.height)
    carried = resample_stack(other.stack, found.matrix, normalisation, onto.saved.stack.shape, bands)
    match_weights(carried, onto.saved.stack)
    moved = tf.decompose(found.matrix, stars.width, stars.height)
    over = "a mirror image, turned over and " if moved.mirrored else ""
    return carried, (
        f"{over}resampled by {found.n_matched} stars (rms {found.rms_px:.3f} px): turned {moved.rotation_deg:.2f} "
        f"degrees, scaled {moved.scale:.4f}, flux times {float(normalisation.factor[0]):.4f}"
    )


def _same_reference(a: fits.Header, b: fits.Header) -> bool:
    """Whether two stacks lie on one grid, and their first pixels on one place of it (`LTV`: a canvas that grew)."""
    alike = all(a.get(keyword, 0.0) == b.get(keyword, 0.0) for keyword in ("LTV1", "LTV2", "LTM1_1"))
    return "REFFRAME" in a and a.get("REFFRAME") == b.get("REFFRAME") and alike


def resample_stack(
    stack: Stack, matrix: np.ndarray, normalisation: Normalisation, shape: tuple[int, int, int], bands: Bands
) -> Stack:
    """A stack on another grid: the mean interpolated and normalised, all else from the nearest pixel.

    Parameters
    ----------
    matrix : (3, 3) the stack's (x, y) -> the grid's.
    shape : (C, H, W) of the grid.
    """
    channels, height, width = shape
    # surfaces are in ADU: no origin is taken off here
    out = Stack(*shape)
    out.n_frames = stack.n_frames
    source, small = upright(stack.image(), np.linalg.inv(matrix))
    inverse = np.linalg.inv(matrix)
    factor2 = normalisation.factor**2
    v, u = np.linspace(-1, 1, height), np.linspace(-1, 1, width)

    def part(y0: int, y1: int) -> None:
        for top in range(y0, y1, STRIP_ROWS):
            bottom = min(y1, top + STRIP_ROWS)
            yy, xx = np.mgrid[top:bottom, 0:width].astype(float)
            sx = np.rint(inverse[0, 0] * xx + inverse[0, 1] * yy + inverse[0, 2]).astype(int)
            sy = np.rint(inverse[1, 0] * xx + inverse[1, 1] * yy + inverse[1, 2]).astype(int)
            inside = (sx >= 0) & (sy >= 0) & (sx < stack.shape[2]) & (sy < stack.shape[1])
            sx, sy = np.where(inside, sx, 0), np.where(inside, sy, 0)
            for c in range(channels):
                rows = np.s_[c, top:bottom]
                value = np.empty((bottom - top, width), dtype=np.float32)
                sample_tile(source[c], small, top, 0, value)
                value = value * np.float32(normalisation.factor[c])
                value += _surface(normalisation.surface[c], u, v[top:bottom]).astype(np.float32)
                good = inside & np.isfinite(value) & (stack.weight[c][sy, sx] > 0)
                out.mean[rows] = np.where(good, value, 0)
                out.m2[rows] = np.where(good, stack.m2[c][sy, sx] * np.float32(factor2[c]), 0)
                for mine, theirs in ((out.weight, stack.weight), (out.count, stack.count)):
                    mine[rows] = np.where(good, theirs[c][sy, sx], 0)
                for mine, theirs in ((out.low, stack.low), (out.high, stack.high)):
                    mine[rows] = np.where(inside, theirs[c][sy, sx], 0)

    bands.run(part, height)
    return out


def _surface(coefficients: np.ndarray, u: np.ndarray, v: np.ndarray) -> np.ndarray:
    """(len(v), len(u)) of a normalisation's cubic surface."""
    c = np.zeros((4, 4))
    c[0, 0], c[1, 0], c[0, 1], c[2, 0], c[1, 1], c[0, 2], c[3, 0], c[2, 1], c[1, 2], c[0, 3] = coefficients
    return np.polynomial.polynomial.polygrid2d(u, v, c).T


def match_weights(stack: Stack, reference: Stack) -> None:
    """Scale a stack's weights so that equal noise of a sample weighs the same in both stacks; its M2 goes along."""
    worth = []
    for one in (stack, reference):
        variance, some = one.variance(), one.count > 1
        step = max(1, some.sum() // 200000)
        picked = np.flatnonzero(some)[::step]
        if len(picked) == 0:
            return
        each = one.weight.ravel()[picked] / one.count.ravel()[picked]
        worth.append(float(np.median(each)) * float(np.median(variance.ravel()[picked])))
    if worth[0] > 0:
        scale = np.float32(worth[1] / worth[0])
        stack.weight *= scale
        stack.m2 *= scale


def _add_header(header: fits.Header, other: fits.Header) -> None:
    """Counts and exposures add up; dates span both nights."""
    for keyword in ("NCOMBINE", "NREFUSED", "EXPTOTAL"):
        if keyword in header and keyword in other:
            header[keyword] = header[keyword] + other[keyword]
    for keyword, choose in (("DATE-OBS", min), ("DATE-END", max)):
        dates = [one[keyword] for one in (header, other) if keyword in one]
        if dates:
            header[keyword] = choose(dates)
    for keyword in ("FWHM", "ECCENTR"):
        header.remove(keyword, ignore_missing=True)


def _write(path: Path, saved: SavedStack, words: Sequence[str]) -> None:
    header, stack = saved.header, saved.stack
    header["SWCREATE"] = (f"livestack {version()}", "software")
    for line in (f"merged onto {saved.path.name}", *words):
        header.add_history("".join(c if 32 <= ord(c) < 127 else "?" for c in line))
    maps = {
        "VARIANCE": stack.variance(), "WEIGHT": stack.weight, "COVERAGE": stack.count, "REJLOW": stack.low,
        "REJHIGH": stack.high,
    }  # fmt: skip
    with replacing(path) as temporary:
        fits.PrimaryHDU(saved.picture, header).writeto(temporary, overwrite=True)
        for name in EXTENSIONS:
            data = maps[name][0] if stack.shape[0] == 1 else maps[name]
            fits.append(temporary, data, fits.Header({"EXTNAME": name}), verify=False)


def _draw(path: Path, saved: SavedStack, bands: Bands) -> None:
    """The merged picture beside the merged stack, stretched, 8 bit."""
    planes = saved.stack.image()
    look = measure_look(planes, RenderSettings(), None, bands, terraces_in(saved.header, len(planes)))
    bottom_up = str(saved.header.get("ROWORDER", "")).strip().upper() == "BOTTOM-UP"
    write_atomically(path, encode_png(render(planes, look, bottom_up=bottom_up, bands=bands)))
