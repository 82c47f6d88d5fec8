"""From a saved stack to an enhanced one, files to files: what `livestack enhance` does.

Crop to full coverage, deconvolve each channel with the PSF measured on it, sharpen by scale, write the linear result
with its history, its picture, and before and after side by side. Deep sky and Moon want different things: with stars
there is a PSF to take back and a sky to leave alone; without, there is detail at every scale and no sky.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal, cast, get_args

import cv2
import numpy as np
from astropy.io import fits

from livestack.base.durable import replacing, write_atomically
from livestack.base.errors import UnreadableFrame, UsageError
from livestack.base.settings import RenderSettings
from livestack.detection.psf import PSFModel, measure_psf
from livestack.picture import Picture, encode_jpeg, encode_png, encode_tiff, measure_look, render
from livestack.picture.enhance import (
    DEFAULT_GAINS,
    MOON_GAINS,
    Deconvolution,
    KernelAt,
    deconvolve,
    full_coverage,
    sharpen,
)
from livestack.products.stack_files import terraces_in

Target = Literal["auto", "deep-sky", "moon"]
MIN_STARS = 8
"""With fewer the PSF is not believed."""
PICTURE_SIDE = 1600
VARYING_SHARE = 0.08
"""Change of width over the field, as a share, from which each part is deconvolved with its own PSF."""


@dataclass(frozen=True)
class Wishes:
    """What is asked for; None = what suits the target.

    Attributes
    ----------
    gains : of the wavelet layers, finest first; empty leaves them alone.
    """

    target: Target = "auto"
    deconvolution: bool | None = None
    iterations: int = 20
    gains: Sequence[float] | None = None
    crop: bool = True


def parse_wishes(target: str, deconvolution: bool | None, iterations: int, wavelets: str | None, crop: bool) -> Wishes:
    """Wishes from words as they are typed; `wavelets` like "1,1.5,1.3" or "off".

    Raises
    ------
    UsageError
        A word is not understood.
    """
    if target not in get_args(Target):
        raise UsageError(f"--target: found {target!r}, expected one of {', '.join(get_args(Target))}.")
    gains: tuple[float, ...] | None = None
    if wavelets is not None:
        try:
            gains = () if wavelets.strip() == "off" else tuple(float(word) for word in wavelets.split(","))
        except ValueError as error:
            raise UsageError(f"--wavelets: found {wavelets!r}, expected numbers like 1,1.5,1.3 or off.") from error
    return Wishes(cast(Target, target), deconvolution, iterations, gains, crop)


@dataclass(frozen=True, eq=False)
class Enhanced:
    """What was made: the files, and sentences on what was done."""

    fits_path: Path
    picture_path: Path
    comparison_path: Path
    words: tuple[str, ...]


def enhance_stack(
    path: Path,
    output: Path | None = None,
    wishes: Wishes | None = None,
    progress: Callable[[float], None] | None = None,
) -> Enhanced:
    """Enhance a stack.fits and write the results beside it, or into `output`.

    Parameters
    ----------
    path : FITS with (H, W) or (3, H, W) in its primary HDU; an extension COVERAGE is used for the crop.
    progress : is told the share done, 0..1.

    Raises
    ------
    UnreadableFrame
        The file is no such FITS.
    UsageError
        Deconvolution was asked for and there are too few stars to measure a PSF on.
    """
    wishes = wishes or Wishes()
    header, image, coverage = _read(path)
    words: list[str] = []
    if wishes.crop:
        x0, y0, x1, y1 = full_coverage(
            np.isfinite(image).all(axis=0).astype(np.float32) if coverage is None else coverage
        )
        if (x0, y0, x1, y1) != (0, 0, image.shape[2], image.shape[1]):
            image = np.ascontiguousarray(image[:, y0:y1, x0:x1])
            _shift_reference_pixel(header, x0, y0)
            words.append(f"cropped to full coverage: {x1 - x0} x {y1 - y0} pixels from ({x0}, {y0})")
    target, models = _judge(image, wishes.target)
    words.append(f"treated as {'deep sky' if target == 'deep-sky' else 'Moon or planet'}")
    result = image
    wanted = target == "deep-sky" if wishes.deconvolution is None else wishes.deconvolution
    if wanted:
        if models is None:
            raise UsageError(
                f"{path.name}: a PSF needs at least {MIN_STARS} single, unsaturated stars, fewer were found; "
                "leave out --deconvolve, or enhance a deeper stack."
            )
        result = _deconvolve_all(image, models, wishes.iterations, progress)
        after = measure_psf(result.mean(axis=0))
        before = models[len(models) // 2]
        words.append(
            f"deconvolved, {wishes.iterations} iterations, PSF of {before.fwhm_px:.2f} px from {before.n_stars} stars"
            + (f"; stars are {after.fwhm_px:.2f} px wide now" if after else "")
        )
    gains = (DEFAULT_GAINS if target == "deep-sky" else MOON_GAINS) if wishes.gains is None else tuple(wishes.gains)
    if any(gain != 1.0 for gain in gains):
        _check_gains(gains, image.shape)
        result = np.stack([sharpen(plane, gains, protect_stars=target == "deep-sky") for plane in result])
        words.append(f"wavelet layers multiplied by {', '.join(f'{g:g}' for g in gains)}, finest first")
    if progress is not None:
        progress(1.0)
    return _write(path, output or path.parent, header, image, result, words)


def _judge(image: np.ndarray, target: Target) -> tuple[Target, list[PSFModel] | None]:
    """What it is, and each channel's PSF (the mean's where a channel has too few stars); None without a PSF."""
    common = measure_psf(image.mean(axis=0)) if target != "moon" else None
    if common is None or common.n_stars < MIN_STARS:
        return ("deep-sky" if target == "deep-sky" else "moon"), None
    if target == "auto" and measure_look(image, RenderSettings()).kind == "bright":
        return "moon", None
    if len(image) == 1:
        return "deep-sky", [common]
    return "deep-sky", [_fit_to(common, measure_psf(plane)) for plane in image]


def _fit_to(common: PSFModel, own: PSFModel | None) -> PSFModel:
    """The common PSF with the width of one channel: shapes that differ between colours would tint the stars."""
    if own is None or own.n_stars < MIN_STARS:
        return common
    share = min(max(own.fwhm_px / common.fwhm_px, 0.85), 1.2)
    shape = replace(common.moffat, fwhm_x_px=share * common.moffat.fwhm_x_px, fwhm_y_px=share * common.moffat.fwhm_y_px)
    return replace(common, moffat=shape, photon_adu=own.photon_adu)


def _deconvolve_all(
    image: np.ndarray, models: list[PSFModel], iterations: int, progress: Callable[[float], None] | None
) -> np.ndarray:
    done = []
    for number, (plane, model) in enumerate(zip(image, models, strict=True)):
        how = Deconvolution(iterations=iterations, photon_adu=model.photon_adu, saturation_adu=float(np.nanmax(image)))

        def tell(share: float, number: int = number) -> None:
            if progress is not None:
                progress(0.95 * (number + share) / len(image))

        done.append(deconvolve(plane, kernels_of(model), how, tell))
    return np.stack(done)


def kernels_of(model: PSFModel) -> KernelAt | np.ndarray:
    """The kernel of each place: one for all where the stars look alike, else that of the nearest cells of the map."""
    field = model.field
    cells = [c for c in field.cells if c.n_stars >= 3] if field else []
    widths = [c.fwhm_px for c in cells]
    if len(cells) < 4 or max(widths) - min(widths) < VARYING_SHARE * model.fwhm_px:
        return model.image()
    size = 2 * math.ceil(4.0 * max(widths)) + 1
    centres = np.array([[0.5 * (c.x0_px + c.x1_px), 0.5 * (c.y0_px + c.y1_px)] for c in cells])
    reach = 0.5 * (cells[0].x1_px - cells[0].x0_px)
    fwhm = np.array(widths)
    elongation = np.array([(1 - c.ratio**2) / (1 + c.ratio**2) for c in cells])
    turn = np.radians([2 * c.theta_deg for c in cells])

    def kernel_at(x: float, y: float) -> np.ndarray:
        weight = np.exp(-0.5 * ((centres[:, 0] - x) ** 2 + (centres[:, 1] - y) ** 2) / reach**2) + 1e-12
        weight /= weight.sum()
        e1, e2 = float(weight @ (elongation * np.cos(turn))), float(weight @ (elongation * np.sin(turn)))
        e, width = min(math.hypot(e1, e2), 0.9), float(weight @ fwhm)
        ratio = math.sqrt((1 - e) / (1 + e))
        local = replace(
            model.profile, fwhm_x_px=width / math.sqrt(ratio), fwhm_y_px=width * math.sqrt(ratio),
            theta_deg=0.5 * math.degrees(math.atan2(e2, e1)),
        )  # fmt: skip
        return local.image(size)

    return kernel_at


def _check_gains(gains: Sequence[float], shape: tuple[int, ...]) -> None:
    if not all(math.isfinite(g) and 0 <= g <= 50 for g in gains):
        raise UsageError(f"--wavelets: expected factors between 0 and 50, found {', '.join(f'{g:g}' for g in gains)}.")
    most = int(math.log2(min(shape[-2:]))) - 2
    if len(gains) > most:
        raise UsageError(
            f"--wavelets: {len(gains)} layers do not fit {shape[-1]} x {shape[-2]} pixels; give at most {most}."
        )


def _read(path: Path) -> tuple[fits.Header, np.ndarray, np.ndarray | None]:
    """Header, image (C, H, W) float32, coverage (H, W) or None."""
    try:
        with fits.open(path, memmap=False) as hdus:
            header, data = hdus[0].header.copy(), hdus[0].data
            coverage = hdus["COVERAGE"].data if "COVERAGE" in hdus else None
    except FileNotFoundError as error:
        raise UnreadableFrame(f"{path}: there is no such file; give the stack.fits of a session.") from error
    except (OSError, ValueError, TypeError) as error:
        raise UnreadableFrame(
            f"{path.name}: is no readable FITS ({error}); give the stack.fits of a session."
        ) from error
    if data is None or not (data.ndim == 2 or (data.ndim == 3 and data.shape[0] in (1, 3))):
        found = "no image" if data is None else f"shape {data.shape}"
        raise UnreadableFrame(f"{path.name}: expected an image (H, W) or (3, H, W), found {found}; give a stack.fits.")
    image = np.ascontiguousarray(data, dtype=np.float32)
    if coverage is not None:
        coverage = np.asarray(coverage, dtype=np.float32)
        coverage = coverage.min(axis=0) if coverage.ndim == 3 else coverage
        if coverage.shape != image.shape[-2:]:
            coverage = None
    return header, image[None] if image.ndim == 2 else image, coverage


def _shift_reference_pixel(header: fits.Header, x0: int, y0: int) -> None:
    """Keep the WCS true after a crop."""
    for keyword, shift in (("CRPIX1", x0), ("CRPIX2", y0)):
        if isinstance(header.get(keyword), int | float):
            header[keyword] = header[keyword] - shift


def _write(
    path: Path, output: Path, header: fits.Header, before: np.ndarray, after: np.ndarray, words: list[str]
) -> Enhanced:
    output.mkdir(parents=True, exist_ok=True)
    for sentence in words:
        header.add_history(f"livestack enhance: {sentence}")
    flat = after[0] if len(after) == 1 else after
    hdu = fits.PrimaryHDU(np.ascontiguousarray(flat, dtype=np.float32), header)
    bottom_up = str(header.get("ROWORDER", "")).strip().upper() == "BOTTOM-UP"
    settings = RenderSettings()
    terraces = terraces_in(header, len(before))
    look = measure_look(before, settings, terraces=terraces)
    new_look = measure_look(after, settings, terraces=terraces)
    full = render(after, new_look, bottom_up=bottom_up, depth=16)
    made = Enhanced(
        output / f"{path.stem}_enhanced.fits",
        output / f"{path.stem}_enhanced.png",
        output / "before_after.jpg",
        tuple(words),
    )
    with replacing(made.fits_path) as temporary:
        hdu.writeto(temporary, overwrite=True)
    write_atomically(made.picture_path, encode_png(render(after, new_look, bottom_up=bottom_up)))
    write_atomically(made.picture_path.with_suffix(".tif"), encode_tiff(full))
    write_atomically(made.comparison_path, encode_jpeg(_beside(before, after, look, bottom_up)))
    return made


def _beside(before: np.ndarray, after: np.ndarray, look, bottom_up: bool) -> Picture:  # type: ignore[no-untyped-def]
    """Before and after in one stretch, left and right, the middle of the picture at full resolution."""
    _, height, width = before.shape
    w, h = min(width, PICTURE_SIDE // 2), min(height, PICTURE_SIDE // 2)
    region = ((width - w) // 2, (height - h) // 2, w, h)
    pair = [render(image, look, region=region, bottom_up=bottom_up).rgb for image in (before, after)]
    for rgb, name in zip(pair, ("before", "after"), strict=True):
        cv2.putText(rgb, name, (12, h - 14), cv2.FONT_HERSHEY_SIMPLEX, 0.7, (255, 255, 255), 1, cv2.LINE_AA)
    return Picture(np.ascontiguousarray(np.concatenate(pair, axis=1)), 1.0)
