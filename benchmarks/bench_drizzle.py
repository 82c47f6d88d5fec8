"""Drizzle and debayering of dithered mosaics against the truth, and beside the `drizzle` package of STScI.

    PYTHONPATH=. python benchmarks/bench_drizzle.py [--fwhm 1.6 2 3] [--frames 30] [--ways mhc drizzle] [--seed 1]
        [--scale 1] [--pixfrac 1]

A renderer of its own: stars are Gaussians integrated over the camera's pixels, of known and different colours, on an
even sky; frames are shifted at random (and turned a little), seen through an RGGB mosaic, with photon and read noise.
Each way stacks them by `LiveStack` from nothing but the frames: transforms, weights and rejection are its own. The
package gets the very same frames with the very transforms and weights that the session found.

Columns, the worst of the colours where there are three:

* fwhm: median FWHM of the stars by a fitted Gaussian, over what pixels and drop allow: the same fit to the noise-free
  star seen through pixel, drop and pixel of the grid ("debayered" has no such limit: that of drizzle is taken).
* colour %: median error of the ratio of red and blue to green, in apertures; worst of both.
* scatter %: of those ratios from star to star. fwhm px: of green, in pixels of the camera. place px: of the stars.
* flux %: median error of the flux of stars by SNR from faint to bright, and the largest difference between two of them.
* noise: noise of means of 8 x 8 pixels of the sky, less a cubic surface (the session's own of the sky), over the ideal,
  that of all samples of the colour that lie there.
* grid %: largest difference of the four pixels of a cell of the mosaic from their mean, over the whole sky, of the
  noise of a pixel (0.2 to 0.5 is chance).
* refused %: share of the samples that were refused of frames without any artefact.
"""

from __future__ import annotations

import argparse
import itertools
import math
import sys
import time
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
from scipy.optimize import least_squares
from scipy.special import erf

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from livestack.base.frame import Frame, FrameInfo
from livestack.base.settings import (
    CalibrationSettings,
    FollowSettings,
    Settings,
    StackSettings,
)
from livestack.engine.group import Group
from livestack.engine.live_stack import LiveStack
from livestack.engine.restack import test_anew
from livestack.engine.warmup import finish_warmup

SKY = np.array([300.0, 400.0, 250.0])
READ = 4.0
FULL = 60000.0
COLOURS = np.array([[0, 1], [1, 2]])
FWHM = 2.0 * math.sqrt(2.0 * math.log(2.0))


@dataclass
class Field:
    """The truth: places (n, 2) on the reference, fluxes (n, 3) in electrons, and the stars' sigma."""

    xy: np.ndarray
    flux: np.ndarray
    sigma: float
    shape: tuple[int, int]


def make_field(fwhm: float, shape: tuple[int, int], seed: int) -> Field:
    """Stars on a jittered lattice, from SNR 10 in one frame's green to 80 % of the full well."""
    rng = np.random.default_rng(seed)
    step = 40
    x, y = np.meshgrid(np.arange(step, shape[1] - step + 1, step), np.arange(step, shape[0] - step + 1, step))
    xy = np.stack([x.ravel(), y.ravel()], axis=1) + rng.uniform(-4, 4, (x.size, 2))
    sigma = fwhm / FWHM
    brightest = 0.8 * FULL / (erf(0.5 / (sigma * 2**0.5)) ** 2)
    faintest = 10 * math.sqrt((SKY[1] + READ**2) * 4 * math.pi * sigma**2)
    flux = 10 ** rng.uniform(math.log10(faintest), math.log10(brightest), len(xy))
    ratio = np.stack([rng.uniform(0.5, 1.0, len(xy)), np.ones(len(xy)), rng.uniform(0.4, 1.0, len(xy))], axis=1)
    return Field(xy, flux[:, None] * ratio, sigma, shape)


def profile(centre: np.ndarray, sigma: float, n: int, reach: int = 9) -> tuple[np.ndarray, np.ndarray]:
    """First pixels (k,) and light (k, 2 reach + 1) along one axis of stars at `centre` (k,)."""
    first = np.round(centre).astype(int) - reach
    edges = first[:, None] + np.arange(2 * reach + 2) - 0.5 - centre[:, None]
    return first, np.diff(0.5 * erf(edges / (sigma * 2**0.5)), axis=1)


def render(field: Field, matrix: np.ndarray) -> np.ndarray:
    """(H, W) expected electrons of the mosaic; `matrix` frame -> reference."""
    height, width = field.shape
    back = np.linalg.inv(matrix)
    places = field.xy @ back[:2, :2].T + back[:2, 2]
    planes = np.tile(SKY[:, None, None], (1, height, width)).astype(float)
    x0, px = profile(places[:, 0], field.sigma, width)
    y0, py = profile(places[:, 1], field.sigma, height)
    side = px.shape[1]
    for k in range(len(places)):
        ys, xs = np.s_[max(0, y0[k]) : y0[k] + side], np.s_[max(0, x0[k]) : x0[k] + side]
        part = np.outer(py[k][max(0, -y0[k]) :][: height - ys.start], px[k][max(0, -x0[k]) :][: width - xs.start])
        if part.size:
            planes[:, ys, xs] += field.flux[k][:, None, None] * part
    mosaic = np.empty((height, width))
    for j in range(2):
        for i in range(2):
            mosaic[j::2, i::2] = planes[COLOURS[j, i], j::2, i::2]
    return mosaic


def make_frames(field: Field, n: int, seed: int, dither: float, turn_deg: float) -> list[Frame]:
    """The frames as a camera of gain 1 and no offset writes them."""
    rng = np.random.default_rng(seed + 1000)
    height, width = field.shape
    middle = np.array([(width - 1) / 2, (height - 1) / 2])
    frames = []
    for k in range(n):
        angle = math.radians(turn_deg) * rng.normal() if k else 0.0
        linear = np.array([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]])
        matrix = np.eye(3)
        matrix[:2, :2] = linear
        matrix[:2, 2] = middle - linear @ middle + (rng.uniform(-dither, dither, 2) if k else 0.0)
        electrons = rng.poisson(render(field, matrix)) + rng.normal(0, READ, field.shape) + 500.0
        data = np.clip(np.round(electrons), 0, 65535).astype(np.uint16)
        info = FrameInfo(
            width=width, height=height, bayer="RGGB", bits=16, saturation_adu=65535.0, exposure_s=60.0,
            date_obs=datetime(2026, 11, 20, 20, tzinfo=UTC) + timedelta(minutes=k), object_name="field",
        )  # fmt: skip
        frames.append(Frame(data, info, label=f"frame {k:03d}"))
    return frames


def stack(frames: list[Frame], way: str, scale: float, pixfrac: float, final: bool) -> tuple[Group, float, LiveStack]:
    """The group after all frames, and the seconds of a frame after the warm-up."""
    from concurrent.futures import ThreadPoolExecutor

    drizzled = {"scale": scale, "pixfrac": pixfrac} if way == "drizzle" else {}
    settings = Settings(
        calibration=CalibrationSettings(debayer=way),
        stack=StackSettings(**drizzled),
        follow=FollowSettings(target="none"),
    )
    live = LiveStack(settings)
    seconds = []
    for frame in frames:
        begin = time.process_time()
        live.add(frame)
        seconds.append(time.process_time() - begin)
    (group,) = live.groups.values()
    finish_warmup(group)
    if final:
        by_name = {frame.name: frame for frame in frames}
        with ThreadPoolExecutor(1) as reader:
            test_anew(group, lambda member: live.intake.calibrate(by_name[member.name]), reader, None, None)
    return group, float(np.median(seconds[10:])), live


def package(frames: list[Frame], group: Group, pixfrac: float, scale: float, kernel: str) -> np.ndarray:
    """(3, H, W) of the same frames by the package, with the session's transforms, normalisations and weights."""
    from drizzle.resample import Drizzle

    assert group.stack is not None
    height, width = group.stack.shape[1:]
    canvas = group.stack.canvas
    by_name = {frame.name: frame for frame in frames}
    workers = [Drizzle(kernel=kernel, out_shape=(height, width), disable_ctx=True) for _ in range(3)]
    for member in group.members:
        data = by_name[member.name].data
        y, x = np.mgrid[: data.shape[0], : data.shape[1]].astype(float)
        m = canvas.from_reference @ member.matrix
        places = np.stack([m[0, 0] * x + m[0, 1] * y + m[0, 2], m[1, 0] * x + m[1, 1] * y + m[1, 2]], axis=-1)
        u0, du, v0, dv = canvas.ruler
        u, v = u0 + du * places[..., 0], v0 + dv * places[..., 1]
        powers = (1, u, v, u * u, u * v, v * v, u**3, u * u * v, u * v * v, v**3)
        for c in range(3):
            surface = sum(a * p for a, p in zip(member.normalisation.surface[c], powers, strict=True))
            values = (member.normalisation.factor[c] * data + surface).astype(np.float32)
            own = np.zeros(data.shape, np.float32)
            for j in range(2):
                for i in range(2):
                    own[j::2, i::2] = COLOURS[j, i] == c
            workers[c].add_image(
                values, exptime=1.0, pixmap=places, weight_map=own * np.float32(member.weight), pixfrac=pixfrac,
                in_units="cps", iscale=1.0, scale=1.0 / scale,
            )  # fmt: skip
    out = np.stack([np.array(one.out_img) for one in workers])
    out[np.stack([np.array(one.out_wht) for one in workers]) == 0] = np.nan
    return out


def fit_width(part: np.ndarray, sigma: float, noise2: np.ndarray | float = 1.0) -> tuple[float, float, float]:
    """(FWHM, x, y) of a Gaussian with a level fitted to a small picture."""
    side = part.shape[0]
    y, x = np.mgrid[:side, :side]
    good = np.isfinite(part)
    middle = (side - 1) / 2

    def away(p: np.ndarray) -> np.ndarray:
        model = p[0] * np.exp(-((x - p[1]) ** 2 + (y - p[2]) ** 2) / (2 * p[3] ** 2)) + p[4]
        return ((model - part) / np.sqrt(noise2))[good]

    level = np.nanmedian(part)
    start = [np.nanmax(part) - level, middle, middle, sigma, level]
    found = least_squares(away, start, method="lm").x
    return FWHM * abs(found[3]), found[1], found[2]


def ideal_width(fwhm: float, scale: float, pixfrac: float) -> float:
    """Median FWHM by the same fit of noise-free stars through pixel, drop and pixel of the grid, px of the grid."""
    fine = 60
    reach = 8
    grid = (np.arange(-reach * fine, reach * fine + 1)) / fine  # camera px
    line = np.exp(-0.5 * (grid / (fwhm / FWHM)) ** 2)

    def box(a: np.ndarray, side: float) -> np.ndarray:
        n = max(1, round(side * fine))
        kernel = np.ones(n | 1)
        if n % 2 == 0:
            kernel[[0, -1]] = 0.5
        return np.convolve(a, kernel / kernel.sum(), mode="same")

    for side in (1.0, pixfrac, 1.0 / scale):
        line = box(line, side)
    widths = []
    rng = np.random.default_rng(0)
    half = math.ceil(3 * fwhm * scale / 2) + 2
    for _ in range(20):
        x, y = (
            np.interp((np.arange(-half, half + 1) - s) / scale, grid, line, left=0, right=0)
            for s in rng.uniform(-0.5, 0.5, 2)
        )
        widths.append(fit_width(np.outer(y, x), fwhm * scale / FWHM)[0])
    return float(np.median(widths))


def measure(image: np.ndarray, field: Field, group: Group, fwhm: float, ideal: float, base: float) -> dict[str, float]:
    """One line of the table; `base` is the offset of the files."""
    assert group.stack is not None
    assert group.reference is not None
    canvas = group.stack.canvas
    scale = canvas.scale
    shape = image.shape[1:]
    grid = canvas.from_reference
    by_truth = field.xy @ grid[:2, :2].T + grid[:2, 2]  # the first frame sets the grid, and lies as the truth does
    radius = 2.2 * math.sqrt(fwhm**2 + 0.7) * scale
    half = math.ceil(radius) + 2
    y, x = np.mgrid[-half : half + 1, -half : half + 1]
    outer = math.ceil(radius + 8 * scale)
    far_y, far_x = np.mgrid[-outer : outer + 1, -outer : outer + 1]
    n = len(group.members)
    widths, fluxes, kept, shifts = [], [], [], []
    for k, (cx, cy) in enumerate(by_truth):
        ix, iy = round(cx), round(cy)
        edge = outer + 8
        if not (edge <= ix < shape[1] - edge and edge <= iy < shape[0] - edge):
            continue
        part = image[:, iy - half : iy + half + 1, ix - half : ix + half + 1] - (SKY + base)[:, None, None]
        if not np.isfinite(part).all():
            continue
        around = image[:, iy - outer : iy + outer + 1, ix - outer : ix + outer + 1] - (SKY + base)[:, None, None]
        far = np.hypot(far_x - (cx - ix), far_y - (cy - iy))
        ring = (far > radius + 2 * scale) & (far < outer)
        part -= np.nanmedian(around[:, ring], axis=1)[:, None, None]
        r = np.hypot(x - (cx - ix), y - (cy - iy))
        share = np.clip(radius + 0.5 - r, 0, 1)
        fluxes.append((part * share).sum(axis=(1, 2)) / scale**2)
        kept.append(k)
        snr = field.flux[k, 1] / math.sqrt(field.flux[k, 1] + 4 * math.pi * field.sigma**2 * (SKY[1] + READ**2))
        if snr > 40:
            inner = np.s_[:, half - round(1.6 * fwhm * scale) : half + round(1.6 * fwhm * scale) + 1]
            inner = (slice(None), inner[1], inner[1])
            fitted = [fit_width(plane, fwhm * scale / FWHM) for plane in part[inner]]
            widths.append([f[0] for f in fitted])
            m = part[inner].shape[1] // 2
            shifts.append([(f[1] - m - (cx - ix), f[2] - m - (cy - iy)) for f in fitted])
    truth, found = field.flux[kept], np.array(fluxes)
    caught = 1 - math.exp(-0.5 * (radius / scale) ** 2 / (field.sigma**2 + 2 / 12 + 1 / 12))
    snr = truth[:, 1] / np.sqrt(truth[:, 1] + 4 * math.pi * field.sigma**2 * (SKY[1] + READ**2))
    error = found / truth / caught - 1
    edges = [10, 25, 60, 150, np.inf]
    steps = [100 * np.median(error[(snr >= a) & (snr < b)]) for a, b in itertools.pairwise(edges)]
    bright = snr > 60
    ratio = (found[:, [0, 2]] / found[:, [1]]) / (truth[:, [0, 2]] / truth[:, [1]]) - 1
    quiet = np.ones(shape, bool)
    for cx, cy in by_truth:
        ys, xs = np.ogrid[: shape[0], : shape[1]]
        quiet &= np.hypot(xs - cx, ys - cy) > 4.5 * fwhm * scale
    border = math.ceil(10 * scale)
    quiet[:border], quiet[-border:], quiet[:, :border], quiet[:, -border:] = False, False, False, False
    noise, pattern = [], []
    side = round(8 * scale) // 2 * 2
    for c in range(3):
        plane = np.where(quiet & np.isfinite(image[c]), image[c] - base - SKY[c], np.nan)
        h, w = shape[0] // side * side, shape[1] // side * side
        blocks = plane[:h, :w].reshape(h // side, side, w // side, side).swapaxes(1, 2).reshape(-1, side * side)
        good = np.isfinite(blocks).all(axis=1)
        v, u = np.divmod(np.flatnonzero(good), w // side)
        u, v = 2 * u / (w // side) - 1, 2 * v / (h // side) - 1
        smooth = np.stack([np.ones(len(u)), u, v, u * u, u * v, v * v, u**3, u * u * v, u * v * v, v**3], axis=1)
        whole = blocks[good].mean(axis=1)
        whole = whole - smooth @ np.linalg.lstsq(smooth, whole, rcond=None)[0]
        samples = n * (side / scale) ** 2 * (0.5 if c == 1 else 0.25)
        noise.append(np.std(whole) / math.sqrt((SKY[c] + READ**2 + 1 / 12) / samples))
        cells = [plane[j::2, i::2] for j in range(2) for i in range(2)]
        means = np.array([np.nanmean(cell) for cell in cells])
        spread = np.nanstd(plane) / 100
        pattern.append(np.abs(means - means.mean()).max() / spread)
    width = np.median(np.array(widths), axis=0)
    shift = np.median(np.array(shifts), axis=0)
    return {
        "fwhm": float((width / ideal)[np.argmax(np.abs(width / ideal - 1))]),
        "fwhm px": float(width[1] / scale),
        "place px": float(np.abs(shift).max() / scale),
        "colour %": 100 * float(np.abs(np.median(ratio[bright], axis=0)).max()),
        "scatter %": 100 * float(1.4826 * np.median(np.abs(ratio[bright] - np.median(ratio[bright], axis=0)))),
        "flux %": float(np.median(steps)),
        "trend %": float(np.ptp(steps)),
        "noise": float(max(noise)),
        "grid %": float(max(pattern)),
        "refused %": 100 * float(np.mean([m.rejected_fraction for m in group.members])),
        "nan %": 100 * float(np.isnan(image[:, border:-border, border:-border]).mean()),
    }


def show(name: str, line: dict[str, float], seconds: float) -> None:
    """Print one line."""
    print(f"{name:22}" + "".join(f"{value:10.3f}" for value in line.values()) + f"{1000 * seconds:9.0f}", flush=True)


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--fwhm", type=float, nargs="+", default=[1.6, 2.0, 3.0])
    parser.add_argument("--frames", type=int, default=30)
    parser.add_argument("--ways", nargs="+", default=["mhc", "drizzle"])
    parser.add_argument("--size", default="720x540")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--scale", type=float, default=1.0)
    parser.add_argument("--pixfrac", type=float, default=1.0)
    parser.add_argument("--dither", type=float, default=6.0)
    parser.add_argument("--turn", type=float, default=0.02, help="degrees")
    parser.add_argument("--final", action="store_true", help="with the final pass")
    parser.add_argument("--package", action="store_true", help="also the `drizzle` package (extra: peers)")
    words = parser.parse_args()
    width, height = (int(v) for v in words.size.split("x"))
    for fwhm in words.fwhm:
        field = make_field(fwhm, (height, width), words.seed)
        frames = make_frames(field, words.frames, words.seed, words.dither, words.turn)
        ideal = ideal_width(fwhm, words.scale, words.pixfrac)
        print(
            f"\nFWHM {fwhm} px, {words.frames} frames of {width}x{height}, scale {words.scale}, pixfrac {words.pixfrac}"
        )
        for way in words.ways:
            group, seconds, live = stack(frames, way, words.scale, words.pixfrac, words.final)
            assert group.stack is not None
            assert group.reference is not None
            turned = group.reference.name != frames[0].name
            line = measure(group.stack.image(), field, group, fwhm, ideal, 500.0)
            if way == words.ways[0]:
                print(" " * 22 + "".join(f"{name:>10}" for name in line) + f"{'cpu ms':>9}")
            show(way + (f" ({len(group.members)} of {words.frames})" if len(group.members) < words.frames else "")
                 + (" other reference" if turned else ""), line, seconds)  # fmt: skip
            if way == "drizzle" and words.package:
                for kernel in ("square", "turbo"):
                    begin = time.process_time()
                    image = package(frames, group, words.pixfrac, words.scale, kernel)
                    show(f"package, {kernel}", measure(image, field, group, fwhm, ideal, 500.0),
                         (time.process_time() - begin) / len(group.members))  # fmt: skip
                    whole = np.isfinite(image) & np.isfinite(group.stack.image())
                    off = (image - group.stack.image())[whole]
                    print(f"{'':22}median difference from drizzle {np.median(np.abs(off)):.4f} ADU")
            live.close()


if __name__ == "__main__":
    main()
