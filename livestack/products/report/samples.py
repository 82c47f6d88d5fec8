"""Back to the camera's files: one frame on the stack's grid, and every frame's samples of a small piece of sky.

The transforms of the journal say where each frame lies, so nothing needs to be registered again. Samples are brought to
one sky level by their median; they are not calibrated, which changes neither their scatter nor their outliers.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from livestack.base.errors import FrameError
from livestack.base.frame import with_bayer
from livestack.base.journal import FrameRecord
from livestack.calibration.binning import bin_data
from livestack.calibration.debayer import debayer, debayer_region
from livestack.calibration.xtrans import debayer_xtrans
from livestack.formats import read_frame
from livestack.products.report.gather import Group, Night, StackFile

PIECE = 192
"""Side of the piece of sky, in pixels."""
MOST_FRAMES = 60
COVERED_SHARE = 0.5
"""All frames together must cover so much of the piece."""
BLOCK = 4
"""Noise is measured on means of 4 x 4 pixels: single pixels would flatter an interpolation that blurs."""


@dataclass(frozen=True, eq=False)
class Samples:
    """What each frame saw of one piece of sky.

    Attributes
    ----------
    cube : (N, h, w) float32, one layer a frame in the order of stacking, on the stack's grid; NaN = not covered.
    names : (N,) file names.
    corner : (x, y) of the piece in stored pixels of the stack.
    n_wanted : frames that were in the stack; N is smaller when files are gone.
    """

    cube: np.ndarray
    names: list[str]
    corner: tuple[int, int]
    n_wanted: int


def read_planes(path: Path, index: int, method: str = "mhc", bayer: str | None = None) -> np.ndarray:
    """A file as (C, H, W) float32, mosaics debayered, not calibrated; `bayer` corrects its header.

    Raises
    ------
    FrameError
        It is no frame that can be read.
    """
    frame = with_bayer(read_frame(path, index), bayer)
    data = np.ascontiguousarray(frame.data, dtype=np.float32)
    if frame.info.xtrans is not None:
        planes = debayer_xtrans(data, frame.info.xtrans)
        return bin_data(planes, mosaic=False) if method == "superpixel" else planes
    if frame.info.bayer is not None and data.ndim == 2:
        return debayer(data, frame.info.bayer, method)  # type: ignore[arg-type]
    return data if data.ndim == 3 else data[None]


def frame_on_grid(
    night: Night, group: Group, shape: tuple[int, ...], first_pixel: tuple[int, int]
) -> tuple[FrameRecord, np.ndarray] | None:
    """The reference, else the best frame that can still be read, on the stack's grid: (record, (C, H, W) float32).

    Parameters
    ----------
    shape : of the stack; first_pixel : reference (x, y) of its first pixel.
    """
    how = night.settings.calibration
    bayer = "none" if shape[0] == 1 else how.bayer  # a header may name a mosaic that was binned away
    best = sorted(group.stacked, key=lambda f: -(f.weight or 0.0))
    if group.reference is not None:
        best.sort(key=lambda f: f.file != group.reference.file)  # type: ignore[union-attr]
    for record in best[:5]:
        if record.transform is None:
            continue
        try:
            planes = read_planes(night.source(record), record.index, how.interpolation, bayer)
        except (FrameError, OSError):
            continue
        if len(planes) != shape[0]:
            continue
        matrix = np.array(record.transform, dtype=np.float64)
        if np.allclose(matrix, np.eye(3)) and planes.shape == shape and first_pixel == (0, 0):
            return record, planes
        warped = [_warp(plane, matrix, first_pixel, shape[2], shape[1]) for plane in planes]
        return record, np.stack(warped)
    return None


def choose_piece(stack: StackFile) -> tuple[int, int] | None:
    """Corner (x, y) of a quiet, fully covered piece of sky, of these the one where most was rejected; or None."""
    image = stack.image.mean(axis=0)
    height, width = image.shape
    if height < PIECE or width < PIECE:
        return None
    coverage, rejected = stack.maps.get("COVERAGE"), stack.maps.get("REJHIGH")
    full = None if coverage is None else coverage.min(axis=0)
    most = 0.0 if full is None else float(full.max())
    candidates = []
    for y in range(0, height - PIECE + 1, PIECE // 2):
        for x in range(0, width - PIECE + 1, PIECE // 2):
            piece = image[y : y + PIECE : 2, x : x + PIECE : 2]
            if not np.isfinite(piece).all():
                continue
            if full is not None and float(np.median(full[y : y + PIECE : 4, x : x + PIECE : 4])) < 0.9 * most:
                continue
            busy = float(np.percentile(piece, 95) - np.percentile(piece, 5))
            thrown = 0.0 if rejected is None else float(rejected[:, y : y + PIECE, x : x + PIECE].sum())
            candidates.append((busy, thrown, x, y))
    if not candidates:
        return None
    candidates.sort()
    quiet = candidates[: max(1, len(candidates) // 3)]
    _, _, x, y = max(quiet, key=lambda c: c[1])
    return x, y


def sample_piece(
    night: Night, group: Group, corner: tuple[int, int], first_pixel: tuple[int, int] = (0, 0), mono: bool = False
) -> Samples | None:
    """Read the piece from every frame, or from 60 evenly chosen; None when fewer than three can be read.

    Parameters
    ----------
    corner : (x, y) of the piece in the stack; first_pixel : reference (x, y) of the stack's first pixel.
    mono : the stack has one channel, whatever mosaic the headers name.
    """
    place = corner[0] + first_pixel[0], corner[1] + first_pixel[1]
    registered = [f for f in group.stacked if f.transform is not None]
    chosen = registered
    if len(registered) > MOST_FRAMES:
        chosen = [registered[i] for i in np.linspace(0, len(registered) - 1, MOST_FRAMES).astype(int)]
    layers, names, how = [], [], night.settings.calibration
    for record in chosen:
        try:
            layer = _piece_of(night.source(record), record, place, how.interpolation, "none" if mono else how.bayer)
        except (FrameError, OSError):
            continue
        if layer is not None and np.isfinite(layer).mean() > 0.9:
            layers.append(layer)
            names.append(Path(record.file).name)
    if len(layers) < 3:
        return None
    cube = np.stack(layers)
    if np.isfinite(cube).all(axis=0).mean() < COVERED_SHARE:
        return None
    level = np.nanmedian(cube, axis=(1, 2))
    cube += (np.median(level) - level)[:, None, None]
    return Samples(cube, names, corner, len(registered))


def _piece_of(
    path: Path, record: FrameRecord, corner: tuple[int, int], method: str, bayer: str | None
) -> np.ndarray | None:
    """One frame's piece, (PIECE, PIECE) float32, its green or its mean; None when it lies outside."""
    matrix = np.array(record.transform, dtype=np.float64)
    inverse = np.linalg.inv(matrix)
    x, y = corner
    box = np.array([[x, y, 1], [x + PIECE, y, 1], [x, y + PIECE, 1], [x + PIECE, y + PIECE, 1]], dtype=np.float64).T
    seen = inverse @ box
    seen = seen[:2] / seen[2]
    frame = with_bayer(read_frame(path, record.index), bayer)
    height, width = frame.data.shape[-2:]
    x0, y0 = (max(int(np.floor(v.min())) - 6, 0) // 6 * 6 for v in seen)
    x1, y1 = (min(int(np.ceil(v.max())) + 7, n) for v, n in zip(seen, (width, height), strict=True))
    if method == "superpixel" and frame.info.mosaic is not None:
        plane = read_planes(path, record.index, method, bayer).mean(axis=0)
        x0 = y0 = 0
    elif x1 - x0 < 16 or y1 - y0 < 16:
        return None
    else:
        part = np.ascontiguousarray(frame.data[..., y0:y1, x0:x1], dtype=np.float32)
        if frame.info.xtrans is not None:
            part = debayer_xtrans(part, frame.info.xtrans)
        elif frame.info.bayer is not None and part.ndim == 2:
            part = debayer_region(part, frame.info.bayer, 0, part.shape[0], 0, part.shape[1], "bilinear")
        plane = part[1] if part.ndim == 3 else part
    shifted = matrix @ np.array([[1, 0, x0], [0, 1, y0], [0, 0, 1]], dtype=np.float64)
    return _warp(plane, shifted, corner, PIECE, PIECE)


def _warp(plane: np.ndarray, matrix: np.ndarray, corner: tuple[int, int], width: int, height: int) -> np.ndarray:
    """`plane` on the reference's grid, cut at `corner`; outside is NaN."""
    moved = np.array([[1, 0, -corner[0]], [0, 1, -corner[1]], [0, 0, 1]], dtype=np.float64) @ matrix
    return np.asarray(
        cv2.warpAffine(
            np.ascontiguousarray(plane), moved[:2] / moved[2, 2], (width, height),
            flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_CONSTANT, borderValue=float("nan"),
        )
    )  # fmt: skip


def block_noise(image: np.ndarray) -> float:
    """Noise of (h, w) on the scale of 4 x 4 pixels: robust sigma of neighbouring block means' difference / sqrt 2."""
    height, width = (n // BLOCK * BLOCK for n in image.shape)
    means = image[:height, :width].reshape(height // BLOCK, BLOCK, width // BLOCK, BLOCK).mean(axis=(1, 3))
    steps = np.concatenate([(means[:, 1:] - means[:, :-1]).ravel(), (means[1:] - means[:-1]).ravel()])
    steps = steps[np.isfinite(steps)]
    if steps.size == 0:
        return float("nan")
    return float(1.4826 * np.median(np.abs(steps - np.median(steps))) / np.sqrt(2.0))


def noise_as_added(cube: np.ndarray) -> tuple[list[int], list[float]]:
    """(n, noise of the mean of the first n frames over that of a single frame)."""
    single = float(np.nanmedian([block_noise(layer) for layer in cube]))
    running = np.cumsum(cube, axis=0, dtype=np.float64)
    counts = list(range(1, len(cube) + 1))
    return counts, [block_noise((running[n - 1] / n).astype(np.float32)) / single for n in counts]
