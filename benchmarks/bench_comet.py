"""Comets and asteroids followed, against nights drawn with known truth and their twins without comet and without stars.

    python benchmarks/bench_comet.py [--nights NAME ...] [--seed 1] [--quick] [--blank 20] [--handling] [--keep DIR]

Nothing of livestack is used but its commands. Sky, stars, comet and read noise of a frame are drawn apart, each from a
seed of its own, so that the twins carry the very noise of the night. The ideal stack on the comet is the mean of the
star-less twin, aligned by truth, with the weights of the session; the ideal stack of the stars is that of the
comet-less twin by `--follow none` on the same reference. Residues are in units of the ideal stack's noise, after a
surface of second order was taken off; `least` is what is left if every star were known exactly and each sample weighted
by its photon noise: no method can do better. Widths and fluxes are relative to the ideal.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from pathlib import Path

import numpy as np
from astropy.io import fits
from scipy.ndimage import convolve, gaussian_filter, map_coordinates
from scipy.optimize import least_squares
from scipy.signal import fftconvolve

WIDTH, HEIGHT = 960, 680
CADENCE_S, EXPOSURE_S = 45, 10
SKY_E, READ_E, BIAS_ADU = 400.0, 4.0, 300.0
START = datetime(2026, 11, 20, 21)
COLOURS = {"sky": (0.8, 1.0, 0.6), "comet": (0.6, 1.0, 0.7)}
CUBIC = -0.75
"""Slope of the cubic convolution by which the ideal is resampled."""


@dataclass(frozen=True)
class Night:
    """What is drawn. Lengths in px, light in electrons, rates in px a frame."""

    name: str
    rate: float = 1.0
    angle_deg: float | None = None
    bend_px: float = 0.0
    nucleus: float = 2e4
    coma: float = 300.0
    extent: float = 60.0
    power: float = 1.2
    tail: float = 0.0
    frames: int = 30
    mosaic: bool = False
    stars: int = 260
    enters: int = 0
    cloudy: tuple[int, ...] = ()
    turn_deg: float = 0.03
    drift: float = 0.6
    hot: int = 0
    flip: int = 0
    satellites: int = 0
    ripple: float = 0.2
    seeing: tuple[float, float] = (2.5, 4.0)
    nebula: float = 0.0
    over: tuple[float, ...] = (2e4,)
    """Light of the stars that are put on the path, from its first tenth to its last."""


NIGHTS = (
    Night("bright-3", rate=3, extent=80, coma=500, over=(1.5e5, 1e4)),
    Night("bright-3-clear", rate=3, extent=80, coma=500, over=()),
    Night("bright-3-crowd", rate=3, extent=80, coma=500, over=(3e5, 4e4, 1e4, 1.5e5, 2e4)),
    Night("slow-0.5", rate=0.5, extent=40, frames=40),
    Night("faint-nucleus", rate=1, nucleus=1500, coma=80, extent=60, frames=36),
    Night("wide-tail", rate=1, extent=200, coma=250, power=1.0, tail=60),
    Night("compact-bent", rate=3, extent=20, coma=200, bend_px=6, over=(1.5e5, 1e4)),
    Night("asteroid-20", rate=1, nucleus=2800, coma=0, over=(1e4,)),
    Night("asteroid-100", rate=3, nucleus=14000, coma=0, over=(1.5e5, 1e4)),
    Night("mosaic-tail", rate=1, extent=100, coma=300, tail=40, mosaic=True),
    Night("mosaic-asteroid", rate=3, nucleus=14000, coma=0, mosaic=True, over=(1.5e5, 1e4)),
    Night("enters-10", rate=3, extent=40, enters=10, frames=36),
    Night("refused", rate=1, extent=60, cloudy=(7, 8, 9, 18, 19)),
    Night("slow-wide", rate=0.5, extent=150, coma=250, tail=40, bend_px=2, frames=48),
    Night("slow-asteroid-20", rate=0.5, nucleus=2800, coma=0, frames=48),
)
BLANK = (
    Night("plain"),
    Night("hot pixels, drift", hot=800, drift=0.5, ripple=0.05),
    Night("hot pixels, large drift", hot=400, drift=3.0, ripple=0.05),
    Night("seeing", seeing=(2.2, 5.0)),
    Night("field rotation", turn_deg=0.5),
    Night("flip", flip=14, hot=200),
    Night("clouds", cloudy=(6, 7, 12, 13, 14, 22), ripple=0.4),
    Night("satellites", satellites=25),
    Night("large drift", drift=6.0),
    Night("mosaic, hot pixels", mosaic=True, hot=400),
    Night("nebula, rotation", nebula=150, turn_deg=0.3),
    Night("crowded", stars=2500),
)


# Drawing -----------------------------------------------------------------------------------------------------------


@dataclass
class Truth:
    """What was drawn."""

    night: Night
    seed: int
    at: np.ndarray
    flux: np.ndarray
    tint: np.ndarray
    path: np.ndarray
    to_scene: list[np.ndarray]
    seeing: np.ndarray
    clear: np.ndarray
    names: list[str]

    def comet(self, number: int, to_scene: np.ndarray) -> np.ndarray:
        """The comet's place in the pixels of `to_scene`."""
        return seen(self.path[number][None], to_scene)[0]


def seen(places: np.ndarray, to_scene: np.ndarray) -> np.ndarray:
    """Places of the scene (n, 2) in the frame."""
    return (np.c_[places, np.ones(len(places))] @ np.linalg.inv(to_scene).T)[:, :2]


def moffat(radius2: np.ndarray, fwhm: float, beta: float = 3.2) -> np.ndarray:
    """Sum 1 over the plane."""
    alpha2 = (0.5 * fwhm) ** 2 / (2 ** (1 / beta) - 1)
    return (beta - 1) / (math.pi * alpha2) * (1 + radius2 / alpha2) ** -beta


def plan(night: Night, seed: int, comet: bool = True) -> Truth:
    """Draw the scene and how it is seen."""
    draw = np.random.default_rng([seed, 1])
    count = night.frames
    angle = math.radians(draw.uniform(0, 360) if night.angle_deg is None else night.angle_deg)
    along, across = np.array([math.cos(angle), math.sin(angle)]), np.array([-math.sin(angle), math.cos(angle)])
    middle = np.array([WIDTH / 2, HEIGHT / 2]) + draw.uniform(-60, 60, 2)
    step = np.arange(count) - (count - 1) / 2
    if night.enters:
        along, across = np.array([1.0, 0.0]), np.array([0.0, 1.0])
        middle = np.array([night.rate * (count / 2 - night.enters) - 8, HEIGHT / 2])
    bent = night.bend_px * (step / (count / 2)) ** 2
    path = middle + night.rate * step[:, None] * along + bent[:, None] * across
    share = draw.random(night.stars)
    reach = 60 + night.drift * count
    at = np.c_[
        draw.uniform(-reach, WIDTH + reach, night.stars),
        draw.uniform(-reach, HEIGHT + reach, night.stars),
    ]
    flux = 800 / (1 - share * (1 - 800 / 1e6))
    if comet:  # some are put where the comet will pass
        for number, light in enumerate(night.over):
            place = 0.1 + 0.8 * (number + 0.6) / len(night.over)
            at = np.r_[at, path[int(place * count)][None] + draw.normal(0, 0.7, (1, 2))]
            flux = np.r_[flux, light]
    to_scene, x, y = [], 0.0, 0.0
    drift = draw.uniform(0, 2 * math.pi)
    for number in range(count):
        a = math.radians(night.turn_deg * number + (180 if night.flip and number >= night.flip else 0))
        turn = np.array([[math.cos(a), -math.sin(a)], [math.sin(a), math.cos(a)]])
        x += night.drift * (math.cos(drift) + draw.normal(0, 0.6))
        y += night.drift * (math.sin(drift) + draw.normal(0, 0.6))
        centre = np.array([WIDTH / 2, HEIGHT / 2])
        matrix = np.eye(3)
        matrix[:2, :2], matrix[:2, 2] = turn, centre + np.array([x, y]) - turn @ centre
        to_scene.append(matrix)
    low, high = night.seeing
    seeing = low + (high - low) * draw.beta(1.5, 2.5, count)
    clear = 1 - night.ripple * draw.random(count)
    clear[list(night.cloudy)] *= 0.08
    return Truth(
        night, seed, at, flux, np.exp(draw.normal(0, 0.2, (len(flux), 2))), path, to_scene, seeing, clear,
        [f"n_{number:03d}.fits" for number in range(count)],
    )  # fmt: skip


def tinted(kind: str, night: Night) -> np.ndarray | float:
    """How a light shows behind the filters."""
    if not night.mosaic:
        return 1.0
    red, green, blue = COLOURS[kind]
    whole = np.full((HEIGHT, WIDTH), green)
    whole[::2, ::2], whole[1::2, 1::2] = red, blue
    return whole


def sky_of(truth: Truth, number: int) -> np.ndarray:
    """Expected sky of a frame, electrons, with a gradient that rises."""
    rise = number / truth.night.frames
    y, x = np.mgrid[-1 : 1 : HEIGHT * 1j, -1 : 1 : WIDTH * 1j]
    level = SKY_E * (1 + 0.35 * rise + (0.05 + 0.15 * rise) * (0.8 * x - 0.6 * y) + 0.03 * rise * x * x)
    return level * tinted("sky", truth.night)


def stars_of(truth: Truth, number: int) -> np.ndarray:
    """Expected light of the stars."""
    image = np.zeros((HEIGHT, WIDTH))
    fwhm = truth.seeing[number]
    for (x, y), flux, (red, blue) in zip(seen(truth.at, truth.to_scene[number]), truth.flux, truth.tint, strict=True):
        half = int(min(90, 6 + fwhm * (flux / 3) ** (1 / 6.4)))
        x0, x1 = max(int(x) - half, 0), min(int(x) + half + 1, WIDTH)
        y0, y1 = max(int(y) - half, 0), min(int(y) + half + 1, HEIGHT)
        if x1 <= x0 or y1 <= y0:
            continue
        stamp = flux * moffat((np.arange(x0, x1) - x) ** 2 + ((np.arange(y0, y1) - y) ** 2)[:, None], fwhm)
        if truth.night.mosaic:
            stamp[y0 % 2 :: 2, x0 % 2 :: 2] *= red
            stamp[1 - y0 % 2 :: 2, 1 - x0 % 2 :: 2] *= blue
        image[y0:y1, x0:x1] += stamp
    return image * truth.clear[number]


def comet_at(night: Night, place: np.ndarray, turn: float, fwhm: float) -> np.ndarray:
    """The comet's light through the seeing; `turn`: where its tail points, radians."""
    x, y = np.arange(WIDTH) - place[0], (np.arange(HEIGHT) - place[1])[:, None]
    radius = np.hypot(x, y)
    image = night.nucleus * moffat(radius**2, fwhm)
    if night.coma:
        fine = 0.5 * np.arange(-120, 121)
        patch = np.hypot(fine, fine[:, None])
        beam = moffat(patch[40:-40, 40:-40] ** 2, fwhm)

        def shape(r: np.ndarray) -> np.ndarray:
            return np.asarray(night.coma / (1 + (r / 3) ** night.power) * np.exp(-((r / night.extent) ** 2)))

        soft = fftconvolve(shape(patch), beam / beam.sum(), mode="same")[120, 120:180]
        image += np.where(radius < 28, np.interp(radius, fine[120:180], soft), shape(radius))
    if night.tail:
        u, v = x * math.cos(turn) + y * math.sin(turn), y * math.cos(turn) - x * math.sin(turn)
        on = 1 / (1 + np.exp(np.clip(-u / 3, -50, 50)))
        wide = 4 + 0.08 * np.maximum(u, 0)
        image += night.tail * on * np.exp(-np.maximum(u, 0) / 180) * np.exp(-0.5 * (v / wide) ** 2)
    return image


def comet_of(truth: Truth, number: int) -> np.ndarray:
    """Expected light of the comet in a frame."""
    matrix = truth.to_scene[number]
    turn = 0.7 - math.atan2(matrix[1, 0], matrix[0, 0])
    image = comet_at(truth.night, truth.comet(number, matrix), turn, truth.seeing[number])
    return image * truth.clear[number] * tinted("comet", truth.night)


def extras(truth: Truth, number: int) -> np.ndarray:
    """Satellites and a nebula."""
    image = np.zeros((HEIGHT, WIDTH))
    draw = np.random.default_rng([truth.seed, 7])
    for _ in range(truth.night.satellites):
        when, angle, peak = draw.integers(truth.night.frames), draw.uniform(0, math.pi), draw.uniform(20, 300)
        cx, cy = draw.uniform(0.2, 0.8) * WIDTH, draw.uniform(0.2, 0.8) * HEIGHT
        if when == number:
            off = (np.arange(WIDTH) - cx) * math.sin(angle) - (np.arange(HEIGHT)[:, None] - cy) * math.cos(angle)
            image += peak * np.exp(-0.5 * (off / 1.3) ** 2)
    for _ in range(8 if truth.night.nebula else 0):
        place, size = draw.uniform(0.1, 0.9, 2) * (WIDTH, HEIGHT), draw.uniform(4, 60)
        x, y = seen(place[None], truth.to_scene[number])[0]
        off = np.hypot(np.arange(WIDTH) - x, (np.arange(HEIGHT) - y)[:, None])
        image += truth.night.nebula * np.exp(-off / size) * truth.clear[number]
    return image


def render(truth: Truth, folder: Path, comet: bool = True) -> None:
    """The night, and its twins `twin` (no comet) and `starless`."""
    for name in ("night", "twin", "starless"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    sensor = np.random.default_rng([truth.seed, 5])
    hot = np.zeros((HEIGHT, WIDTH))
    count = truth.night.hot
    hot[sensor.integers(0, HEIGHT, count), sensor.integers(0, WIDTH, count)] = sensor.exponential(600, count) + 60
    for number, name in enumerate(truth.names):
        lots = [np.random.default_rng([truth.seed, 9, number, part]) for part in range(4)]
        sky = lots[0].poisson(sky_of(truth, number) + hot) + lots[1].normal(0, READ_E, (HEIGHT, WIDTH)) + BIAS_ADU
        stars = lots[2].poisson(stars_of(truth, number) + extras(truth, number))
        cards = [("EXPTIME", float(EXPOSURE_S)), ("OBJECT", "drawn")]
        cards += [("DATE-OBS", (START + timedelta(seconds=CADENCE_S * number)).isoformat())]
        cards += [("BAYERPAT", "RGGB")] if truth.night.mosaic else []

        def write(kind: str, image: np.ndarray, name: str = name, cards: list = cards) -> None:
            whole = np.clip(np.round(image), 0, 65535).astype(np.uint16)
            fits.PrimaryHDU(whole, fits.Header(cards)).writeto(folder / kind / name, overwrite=True)

        if not comet:
            write("night", sky + stars)
            continue
        light = lots[3].poisson(comet_of(truth, number))
        write("night", sky + stars + light)
        write("twin", sky + stars)
        write("starless", sky + light)


# Running -----------------------------------------------------------------------------------------------------------


@dataclass
class Session:
    """What a command left behind."""

    out: Path
    cpu_s: float
    lines: list[dict]
    text: str

    @property
    def group(self) -> Path | None:
        return next((path.parent for path in self.out.glob("*/stack.fits")), None)

    def frames(self) -> list[dict]:
        return [line for line in self.lines if line["type"] == "frame"]

    def found_after(self) -> int | None:
        """Frames until it was told that something moves."""
        seen_frames = 0
        for line in self.lines:
            seen_frames += line["type"] == "frame"
            if "moves" in str(line.get("message", "")) and line["type"] != "frame":
                return seen_frames
        return None


def command(*words: str, wait: bool = True) -> subprocess.Popen:
    """Start livestack."""
    process = subprocess.Popen(
        [sys.executable, "-m", "livestack", *words], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    if wait:
        process.said = process.communicate()[0]  # type: ignore[attr-defined]
    return process


def stack(night: Path, out: Path, *words: str) -> Session:
    """One session, start to end."""
    shutil.rmtree(out, ignore_errors=True)
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    process = command(
        "stack", str(night), "--output", str(out), "--solve", "off", "--photometry", "off", "--formats", "fits", *words
    )
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return session_of(out, cpu, process.said)  # type: ignore[attr-defined]


def session_of(out: Path, cpu: float = math.nan, text: str = "") -> Session:
    """Read a session's folder."""
    journal = out / "session.jsonl"
    lines = [json.loads(line) for line in journal.read_text().splitlines() if line] if journal.exists() else []
    return Session(out, cpu, lines, text)


def plane(path: Path) -> np.ndarray:
    """The only or the green plane."""
    data = np.asarray(fits.getdata(path), dtype=float)
    return data[1] if data.ndim == 3 else data


# Measuring ---------------------------------------------------------------------------------------------------------


def resampled(image: np.ndarray, matrix: np.ndarray) -> np.ndarray:
    """`image` by cubic convolution where `matrix` (target to image) says."""
    y, x = np.mgrid[:HEIGHT, :WIDTH].astype(float)
    u = matrix[0, 0] * x + matrix[0, 1] * y + matrix[0, 2]
    v = matrix[1, 0] * x + matrix[1, 1] * y + matrix[1, 2]
    left, top = np.floor(u).astype(int), np.floor(v).astype(int)
    inside = (left >= 1) & (left < WIDTH - 2) & (top >= 1) & (top < HEIGHT - 2)
    left, top = np.clip(left, 1, WIDTH - 3), np.clip(top, 1, HEIGHT - 3)

    def taps(t: np.ndarray) -> list[np.ndarray]:
        def near(d: np.ndarray) -> np.ndarray:
            return ((CUBIC + 2) * d - (CUBIC + 3)) * d * d + 1

        def far(d: np.ndarray) -> np.ndarray:
            return ((CUBIC * d - 5 * CUBIC) * d + 8 * CUBIC) * d - 4 * CUBIC

        return [far(t + 1), near(t), near(1 - t), far(2 - t)]

    across, down = taps(u - left), taps(v - top)
    flat, base = image.ravel(), top * WIDTH + left
    total = np.zeros((HEIGHT, WIDTH))
    for j in range(4):
        row = sum(across[i] * flat[base + (j - 1) * WIDTH + i - 1] for i in range(4))
        total += down[j] * row
    return np.where(inside, total, np.nan)


def green(mosaic: np.ndarray) -> np.ndarray:
    """Green of an RGGB mosaic (Malvar, He, Cutler)."""
    kernel = np.array([[0, 0, -1, 0, 0], [0, 0, 2, 0, 0], [-1, 2, 4, 2, -1], [0, 0, 2, 0, 0], [0, 0, -1, 0, 0]]) / 8
    full = convolve(mosaic, kernel, mode="mirror")
    full[::2, 1::2], full[1::2, ::2] = mosaic[::2, 1::2], mosaic[1::2, ::2]
    return full


@dataclass
class Ideal:
    """The stack on the comet as it should be."""

    image: np.ndarray
    sigma: float
    stars: np.ndarray
    least: np.ndarray
    place: np.ndarray
    whole: np.ndarray


def _weights(session: Session) -> dict[str, float]:
    """Of the stacked frames, relative to the last reference."""
    found: dict[str, float] = {}
    early: set[str] = set()
    for line in session.lines:
        if line["type"] == "frame" and line["status"] == "stacked":
            found[line["file"]] = line["weight"]
        elif line["type"] == "reference" and line["from_previous"]:
            early = set(found)
    if early and session.group is not None:  # theirs are relative to the reference before: the sum tells the factor
        total = float(np.nanmedian(fits.getdata(session.group / "stack.fits", "WEIGHT")))
        late = sum(weight for name, weight in found.items() if name not in early)
        factor = (total - late) / sum(found[name] for name in early)
        found = {name: weight * (factor if name in early else 1) for name, weight in found.items()}
    return found


def ideal_comet(truth: Truth, folder: Path, session: Session, reference: int) -> Ideal:
    """Mean of the star-less twin, aligned on the comet by truth."""
    weights = _weights(session)
    base = truth.to_scene[reference]
    total, heap, norm = np.zeros((HEIGHT, WIDTH)), np.zeros((HEIGHT, WIDTH)), 0.0
    inverse = np.zeros((HEIGHT, WIDTH))
    for number, name in enumerate(truth.names):
        if name not in weights:
            continue
        move = np.eye(3)
        move[:2, 2] = truth.path[number] - truth.path[reference]
        matrix = np.linalg.inv(truth.to_scene[number]) @ move @ base
        scale = truth.clear[reference] / truth.clear[number]
        image = np.asarray(fits.getdata(folder / "starless" / name), dtype=float) - BIAS_ADU - sky_of(truth, number)
        stars = stars_of(truth, number)
        if truth.night.mosaic:
            image, stars = green(image), green(stars)
        y, x = np.mgrid[:HEIGHT, :WIDTH]
        at = [matrix[1, 0] * x + matrix[1, 1] * y + matrix[1, 2], matrix[0, 0] * x + matrix[0, 1] * y + matrix[0, 2]]
        stars = map_coordinates(stars, at, order=1)
        weight = weights[name]
        total += weight * scale * resampled(image, matrix)
        heap += weight * scale * stars
        norm += weight
        inverse += weight / (1 + np.maximum(stars, 0) / (SKY_E + READ_E**2))
    image, stars = total / norm, heap / norm
    place = truth.comet(reference, base)
    radius = np.hypot(np.arange(WIDTH) - place[0], (np.arange(HEIGHT) - place[1])[:, None])
    whole = np.isfinite(image)
    sky = whole & (radius > 1.5 * truth.night.extent * bool(truth.night.coma) + 20)
    rough = image - gaussian_filter(np.where(whole, image, 0), 8)
    sigma = 1.4826 * float(np.median(np.abs(rough[sky] - np.median(rough[sky]))))
    least = np.sqrt(np.maximum(norm / inverse - 1, 0))
    return Ideal(image, sigma, stars, least, place, whole)


def levelled(diff: np.ndarray, use: np.ndarray) -> np.ndarray:
    """Less a surface of second order through `use`."""
    y, x = np.mgrid[-1 : 1 : HEIGHT * 1j, -1 : 1 : WIDTH * 1j]
    terms = np.stack([np.ones_like(x), x, y, x * x, x * y, y * y], axis=-1)
    keep = use.copy()
    for _ in range(4):
        step = max(1, int(keep.sum() / 40000))
        fit = np.linalg.lstsq(terms[keep][::step], diff[keep][::step], rcond=None)[0]
        rest = diff - terms @ fit
        spread = 1.4826 * np.median(np.abs(rest[keep]))
        keep = use & (np.abs(rest) < 3 * spread)
    return rest


def blocks(values: np.ndarray, use: np.ndarray, side: int = 32, least: int = 60) -> np.ndarray:
    """Root mean squares of blocks of so many used pixels."""
    found = []
    for y in range(0, HEIGHT, side):
        for x in range(0, WIDTH, side):
            inner = values[y : y + side, x : x + side][use[y : y + side, x : x + side]]
            if inner.size >= least:
                found.append(math.sqrt(float(np.mean(inner**2))))
    return np.array(found) if found else np.array([math.nan])


def width_of(image: np.ndarray, place: np.ndarray, fwhm: float) -> float:
    """FWHM of a Gaussian on a constant, about the nucleus."""
    half = math.ceil(1.6 * fwhm)
    cx, cy = (round(float(v)) for v in place)
    cut = image[cy - half : cy + half + 1, cx - half : cx + half + 1]
    y, x = np.mgrid[-half : half + 1, -half : half + 1]
    ok = np.isfinite(cut)
    if ok.sum() < 20:
        return math.nan

    def model(p: np.ndarray) -> np.ndarray:
        return p[0] * np.exp(-0.5 * ((x - p[1]) ** 2 + (y - p[2]) ** 2) / p[3] ** 2) + p[4]

    start = [np.nanmax(cut) - np.nanmin(cut), place[0] - cx, place[1] - cy, fwhm / 2.35, np.nanmin(cut)]
    return abs(float(least_squares(lambda p: (model(p) - cut)[ok], start).x[3])) * 2.3548


def judge_comet(truth: Truth, ideal: Ideal, session: Session, reference: int) -> dict[str, float]:
    """Figures of comet.fits."""
    assert session.group is not None
    path = session.group / "comet.fits"
    header = fits.getheader(path)
    image = plane(path)
    night = truth.night
    row: dict[str, float] = {}
    place = np.array([header["RATEX"], header["RATEY"]])
    row["place"] = float(np.hypot(*(place - ideal.place)))
    angle = math.radians(header["RATEPA"])
    told = place + np.outer(
        (np.arange(night.frames) - reference) * CADENCE_S / 60 * header["RATEPXM"], [math.cos(angle), math.sin(angle)]
    )
    base = truth.to_scene[reference]
    true = np.array([truth.comet(number, base) for number in range(night.frames)])
    speed = np.gradient(true, axis=0)[reference] * 60 / CADENCE_S
    row["rate"] = float(header["RATEPXM"] - np.hypot(*speed))
    stacked = [number for number, name in enumerate(truth.names) if name in _weights(session)]
    row["path"] = (
        float(np.sqrt(np.mean(np.sum((told - true)[stacked] ** 2, axis=1)))) if not night.bend_px else math.nan
    )
    row["rms told"] = float(header.get("RATERMS", math.nan))
    radius = np.hypot(np.arange(WIDTH) - ideal.place[0], (np.arange(HEIGHT) - ideal.place[1])[:, None])
    use = ideal.whole & np.isfinite(image)
    far = use & (radius > (1.6 * night.extent + 20 if night.coma else 25))
    diff = levelled(image - ideal.image, far) / ideal.sigma
    row["holes"] = float(np.mean(~np.isfinite(image[ideal.whole])))
    fwhm = float(np.median(truth.seeing))
    row["width"] = width_of(image, ideal.place, fwhm) / width_of(ideal.image, ideal.place, fwhm)
    for reach in (3, 10, 40):
        inner = use & (radius <= reach)
        light = float(np.sum(ideal.image[inner]))
        row[f"flux{reach}"] = float(np.sum(diff[inner])) * ideal.sigma / light * 100
        row[f"noise{reach}"] = math.sqrt(inner.sum()) * ideal.sigma / light * 100
    field = use & (radius > 12)
    crossed = field & (ideal.stars > ideal.sigma)
    row["field"] = float(np.median(blocks(diff, field)))
    row["clean"] = float(np.median(blocks(diff, field & (ideal.stars < 0.02 * ideal.sigma))))
    of = blocks(diff, crossed)
    row["crossed"], row["crossed95"] = float(np.median(of)), float(np.percentile(of, 95))
    row["least"] = float(np.median(blocks(ideal.least, crossed)))
    row["bias"] = float(np.mean(np.clip(diff[crossed], -20, 20))) if crossed.any() else math.nan
    rough = np.where(use, (image / ideal.sigma) - gaussian_filter(np.where(use, image / ideal.sigma, 0), 8), 0)
    best = np.where(use, ideal.image / ideal.sigma - gaussian_filter(np.where(use, ideal.image / ideal.sigma, 0), 8), 0)
    edge = np.zeros_like(use)
    edge[30:-30, 30:-30] = True
    quiet, loud = far & edge & (ideal.stars < 0.02 * ideal.sigma), far & edge & (ideal.stars > ideal.sigma)
    row["grain"] = float(np.median(blocks(rough, quiet)) / np.median(blocks(best, quiet)))
    row["grain*"] = float(np.median(blocks(rough, loud)) / np.median(blocks(best, loud)))
    row["near"] = float(np.sqrt(np.mean(diff[use & (radius <= 12)] ** 2)))
    return row


def judge_stack(truth: Truth, session: Session, twin: Session, reference: int) -> dict[str, float]:
    """Figures of stack.fits against the comet-less twin."""
    assert session.group is not None
    assert twin.group is not None
    image, other = plane(session.group / "stack.fits"), plane(twin.group / "stack.fits")
    base, night = truth.to_scene[reference], truth.night
    weights = _weights(session)
    trail, inverse, norm = np.zeros((HEIGHT, WIDTH)), np.zeros((HEIGHT, WIDTH)), 0.0
    used = [number for number, name in enumerate(truth.names) if name in weights]
    for number in used:
        place, weight = truth.comet(number, base), weights[truth.names[number]]
        light = comet_at(night, place, 0.7 - math.atan2(base[1, 0], base[0, 0]), truth.seeing[number])
        trail += weight * light * truth.clear[reference]
        inverse += weight / (1 + light * truth.clear[number] / (SKY_E + READ_E**2))
        norm += weight
    trail /= norm
    least = np.sqrt(np.maximum(norm / inverse - 1, 0))
    steps = np.array([truth.comet(number, base) for number in used])
    fine = np.c_[*(np.interp(np.linspace(0, len(steps) - 1, 600), np.arange(len(steps)), steps[:, k]) for k in (0, 1))]
    off = np.full((HEIGHT, WIDTH), np.inf)
    for x, y in fine[::2]:
        off = np.minimum(off, np.hypot(np.arange(WIDTH) - x, (np.arange(HEIGHT) - y)[:, None]))
    border = np.zeros((HEIGHT, WIDTH), bool)
    border[8:-8, 8:-8] = True
    use = border & np.isfinite(image) & np.isfinite(other)
    far = use & (off > (1.6 * night.extent + 20 if night.coma else 25))
    sky = other - gaussian_filter(np.where(np.isfinite(other), other, np.nanmedian(other)), 3)
    sigma = 1.4826 * float(np.nanmedian(np.abs(sky[far] - np.median(sky[far])))) / 0.99
    diff = levelled(image - other, far) / sigma
    core, halo = use & (off < 4), use & (off > 6) & (trail > sigma)
    row = {
        "far": float(np.median(blocks(diff, far))),
        "core": float(np.median(blocks(diff, core, 24, 40))),
        "core max": float(np.max(blocks(diff, core, 24, 40))),
        "core least": float(np.median(blocks(least, core, 24, 40))),
        "core mean": float(np.mean(diff[core])),
        "halo": float(np.median(blocks(diff, halo))),
        "halo least": float(np.median(blocks(least, halo))),
        "halo mean": float(np.mean(diff[halo])) if halo.any() else math.nan,
        "plain": float(np.max(trail[core])) / sigma,
    }
    places, errors = seen(truth.at, base), []
    for (x, y), flux in zip(places, truth.flux * truth.clear[reference], strict=True):
        if not (12 < x < WIDTH - 12 and 12 < y < HEIGHT - 12) or off[round(y), round(x)] > 5:
            continue
        radius = np.hypot(np.arange(WIDTH) - x, (np.arange(HEIGHT) - y)[:, None])
        inner = radius < 5
        if flux / (sigma * math.sqrt(inner.sum())) < 60 or flux > 4e5:
            continue
        errors.append(float(np.sum(diff[inner])) * sigma / flux * 100)
    row["stars"] = len(errors)
    row["star%"] = float(np.median(np.abs(errors))) if errors else math.nan
    row["worst%"] = max(errors, key=abs) if errors else math.nan
    return row


# The tables --------------------------------------------------------------------------------------------------------


def report(rows: list[dict[str, object]]) -> str:
    """A table in Markdown."""
    heads = list(rows[0])

    def cell(value: object) -> str:
        if isinstance(value, float):
            return "-" if math.isnan(value) else f"{value:.3f}" if abs(value) < 10 else f"{value:.1f}"
        return str(value)

    lines = ["| " + " | ".join(heads) + " |", "|" + "---|" * len(heads)]
    lines += ["| " + " | ".join(cell(row[head]) for head in heads) + " |" for row in rows]
    return "\n".join(lines)


def verdicts(row: dict[str, float]) -> list[str]:
    """Targets that were missed."""
    limits = {"place": 0.15, "path": 0.15, "width": 1.05, "field": 0.35, "crossed": 0.35, "core": 0.35, "halo": 0.35}
    missed = [f"{key} {row[key]:.2f}" for key, limit in limits.items() if key in row and row[key] > limit]
    for reach in (3, 10, 40):
        if f"flux{reach}" in row and abs(row[f"flux{reach}"]) > max(2.0, row[f"noise{reach}"]):
            missed.append(f"flux{reach} {row[f'flux{reach}']:+.1f}%")
    if abs(row.get("worst%", 0)) > 2:
        missed.append(f"star {row['worst%']:+.1f}%")
    return missed


def frame_seconds(session: Session) -> float:
    """Median time of a frame after the first twelve, by the journal."""
    return float(
        np.median(
            [sum(s or 0 for s in line["timings_s"].values()) for line in session.frames()[12:] if line["timings_s"]]
        )
    )


def judge_night(night: Night, seed: int, folder: Path, passes: tuple[bool, ...]) -> list[dict[str, object]]:
    """Draw, stack and judge."""
    truth = plan(night, seed)
    render(truth, folder)
    rows: list[dict[str, object]] = []
    for final in passes:
        words = () if final else ("--no-final-pass",)
        label = "final" if final else "live"
        session = stack(folder / "night", folder / f"out-{label}", *words)
        row: dict[str, object] = {"night": night.name, "pass": label, "found": session.found_after() or "never"}
        if session.group is None:
            row["missed"] = "no stack: " + session.text.strip()[-200:]
            rows.append(row)
            continue
        name = fits.getheader(session.group / "stack.fits")["REFFRAME"]
        reference = truth.names.index(name)
        row["stacked"] = len(_weights(session))
        refused = {line["file"] for line in session.frames() if line["status"] != "stacked"}
        figures: dict[str, float] = {}
        if (session.group / "comet.fits").exists():
            ideal = ideal_comet(truth, folder, session, reference)
            figures |= judge_comet(truth, ideal, session, reference)
        twin = stack(
            folder / "twin", folder / f"twin-{label}", "--follow", "none", "--reference", str(folder / "twin" / name),
            *words,
        )  # fmt: skip
        figures |= judge_stack(truth, session, twin, reference)
        if not final:
            figures["cpu"] = session.cpu_s / twin.cpu_s
            figures["time"] = frame_seconds(session) / frame_seconds(twin)
        missed = verdicts(figures)
        if not (session.group / "comet.fits").exists():
            missed.insert(0, "not found")
        clear = {truth.names[number] for number in range(night.frames) if number not in night.cloudy}
        if refused & clear:
            missed.append(f"{len(refused & clear)} good frames refused")
        rows.append(row | figures | {"missed": ", ".join(missed) or "none"})
    return rows


COMET = (
    "night", "pass", "found", "stacked", "place", "path", "rate", "rms told", "width", "flux3", "noise3", "flux10",
    "noise10", "flux40", "noise40", "clean", "field", "crossed", "least", "crossed95", "grain", "grain*", "bias",
    "near", "holes",
)  # fmt: skip
STARS = (
    "night", "pass", "plain", "far", "core", "core least", "core max", "core mean", "halo", "halo least", "halo mean",
    "stars", "star%", "worst%", "cpu", "time", "missed",
)  # fmt: skip


def judge_handling(seed: int, folder: Path) -> list[dict[str, object]]:
    """Told wrongly, told the rate, killed and resumed."""
    night = replace(NIGHTS[0], name="handling", over=())
    truth = plan(night, seed)
    render(truth, folder)
    first = truth.comet(0, truth.to_scene[0])
    base = truth.to_scene[0]
    step = truth.comet(1, base) - first
    rate = f"{np.hypot(*step) * 60 / CADENCE_S:.3f},{math.degrees(math.atan2(step[1], step[0])):.2f}"
    at, off = f"{first[0]:.1f},{first[1]:.1f}", f"{first[0] + 4:.1f},{first[1] - 3:.1f}"
    here = ("--reference", str(folder / "night" / truth.names[0]), "--no-final-pass")
    rows = []

    def add(label: str, session: Session) -> None:
        row: dict[str, object] = {"case": label, "found": session.found_after() or "never"}
        if session.group is None or not (session.group / "comet.fits").exists():
            rows.append(row | {"missed": "no comet.fits: " + session.text.strip()[-160:].replace("\n", " ")})
            return
        reference = truth.names.index(fits.getheader(session.group / "stack.fits")["REFFRAME"])
        ideal = ideal_comet(truth, folder, session, reference)
        figures = judge_comet(truth, ideal, session, reference)
        rows.append(row | figures | {"missed": ", ".join(verdicts(figures)) or "none"})

    for label, words in {
        "X,Y": ("--follow", at),
        "X,Y wrong by 5": ("--follow", off),
        "X,Y and rate": ("--follow", at, "--rate", rate),
        "X,Y wrong by 5 and rate": ("--follow", off, "--rate", rate),
        "auto and rate": ("--rate", rate),
    }.items():
        add(label, stack(folder / "night", folder / "out", *here, *words))
    for kill_at in (8, 22):
        out = folder / "killed"
        shutil.rmtree(out, ignore_errors=True)
        words = ("--solve", "off", "--photometry", "off", "--formats", "fits")
        process = command("stack", str(folder / "night"), "--output", str(out), *words, *here, wait=False)
        until = time.monotonic() + 300
        while len(session_of(out).frames() if _readable(out) else []) < kill_at and time.monotonic() < until:
            time.sleep(0.05)
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
        had = len(session_of(out).frames()) if _readable(out) else -1
        again = command("resume", str(out), "--no-final-pass")
        session = session_of(out, text=again.said)  # type: ignore[attr-defined]
        add(f"killed after {had} and resumed", session)
    return rows


def _readable(out: Path) -> bool:
    try:
        session_of(out)
    except ValueError:  # a line half written
        return False
    return True


def judge_blank(count: int, seed: int, folder: Path) -> None:
    """Nights on which nothing moves."""
    print("\n| nothing moves: night | seed | stacked | found |\n|---|---|---|---|", flush=True)
    wrong = 0
    for number in range(count):
        night = BLANK[number % len(BLANK)]
        at = seed + 100 + number
        render(plan(night, at, comet=False), folder / "blank", comet=False)
        session = stack(folder / "blank" / "night", folder / "blank-out", "--no-final-pass")
        found = session.found_after()
        made = session.group is not None and (session.group / "comet.fits").exists()
        wrong += bool(found or made)
        told = [
            line["message"] for line in session.lines if line["type"] != "frame" and "moves" in str(line.get("message"))
        ]
        print(f"| {night.name} | {at} | {len(_weights(session))} | {told[0][:90] if told else made} |", flush=True)
        shutil.rmtree(folder / "blank")
    print(f"\nSomething found where nothing moves: {wrong} of {count} nights", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--nights", nargs="*", default=[night.name for night in NIGHTS])
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--quick", action="store_true", help="24 frames a night, without the final pass")
    parser.add_argument("--blank", type=int, default=0, help="also so many nights on which nothing moves")
    parser.add_argument("--handling", action="store_true", help="also places told wrongly, rates, kill and resume")
    parser.add_argument("--passes", nargs="*", default=["live", "final"], help="live, final")
    parser.add_argument("--keep", type=Path, help="keep nights and stacks here")
    options = parser.parse_args()
    rows: list[dict[str, object]] = []
    with tempfile.TemporaryDirectory() as scratch:
        root = options.keep or Path(scratch)
        for number, night in enumerate(NIGHTS):
            if night.name not in options.nights:
                continue
            chosen = (
                replace(night, frames=24, cloudy=tuple(n for n in night.cloudy if n < 24)) if options.quick else night
            )
            passes = ("live",) if options.quick else options.passes
            done = judge_night(chosen, options.seed + number, root / night.name, tuple(p == "final" for p in passes))
            for heads in (COMET, STARS):
                print("\n" + report([{head: row.get(head, "") for head in heads} for row in done]), flush=True)
            rows += done
            if not options.keep:
                shutil.rmtree(root / night.name)
        if rows:
            print("\n# All nights\n")
            for heads in (COMET, STARS):
                print(report([{head: row.get(head, "") for head in heads} for row in rows]) + "\n")
            bad = [row for row in rows if row["missed"] != "none"]
            print(f"{len(rows) - len(bad)} of {len(rows)} stacks meet every target", flush=True)
        if options.handling:
            done = judge_handling(options.seed, root / "handling")
            heads = ("case", *COMET[2:3], *COMET[4:], "missed")
            print("\n" + report([{head: row.get(head, "") for head in heads} for row in done]), flush=True)
        if options.blank:
            judge_blank(options.blank, options.seed, root)


if __name__ == "__main__":
    main()
