"""What passes in nights drawn here, by nothing of livestack's, and what `livestack stack` tells of it.

    PYTHONPATH=. python benchmarks/bench_movers.py [streaks clean asteroids faint newcomers] [--seeds 2]
        [--nights plain altaz ...] [--keep DIR]

Stars are Moffat profiles sampled at pixel centres, light is Poisson, read noise normal; each frame turns, drifts and
jitters by a similarity that is known exactly. A peak of s means s times the noise of a pixel of sky and read-out; a
point's SNR is its flux over the noise of the best weighting, noise * sqrt(4 pi) sigma for a Gaussian core of the same
FWHM. A streak is found when both its ends, or for one that is longer than what was told half its length, lie within
3 px of what passages.csv says; ends are compared where they are sharp. Places are compared in the scene.

* streaks: satellites right across, cut by the exposure, aircraft that blink, meteors; peaks 3 to 30.
* clean: the same nights with nothing in them: whatever is told is false.
* asteroids: SNR 5 to 9 in a frame, over 8 to 30 frames. faint: SNR 1.5 to 2.5 over 36 frames.
* newcomers: a star from the middle of the night on.
"""

from __future__ import annotations

import argparse
import csv
import json
import math
import os
import subprocess
import sys
import tempfile
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from astropy.io import fits

WIDTH, HEIGHT = 900, 640
SHOWN = ("kind", "first_file", "last_file", "x0", "y0", "x1", "y1", "snr", "n_frames", "rate_px_min")
NIGHTS = {
    "plain": {},
    "drift": {"drift": 1.6, "turn": 0.02},
    "altaz": {"turn": 0.35, "jitter": 1.0},
    "dither": {"jitter": 6.0},
    "clouds": {"clouds": True},
    "hot": {"hot": 6e-4, "jitter": 4.0},
    "seeing": {"fwhm": 5.2, "fwhm_wander": 0.15},
    "mosaic": {"bayer": "RGGB", "sky": 900.0},
    "cosmics": {"cosmics": 14},
}


@dataclass
class Night:
    """One night's frames and what is true of them."""

    folder: Path
    to_scene: dict[str, np.ndarray] = field(default_factory=dict)
    streaks: list[dict] = field(default_factory=list)
    points: list[dict] = field(default_factory=list)
    files: list[str] = field(default_factory=list)


def similarity(dx: float, dy: float, degrees: float) -> np.ndarray:
    """(3, 3) frame (x, y, 1) -> scene, turning about the middle."""
    a, middle = math.radians(degrees), np.array([WIDTH / 2, HEIGHT / 2])
    turn = np.array([[math.cos(a), -math.sin(a)], [math.sin(a), math.cos(a)]])
    matrix = np.eye(3)
    matrix[:2, :2], matrix[:2, 2] = turn, middle + np.array([dx, dy]) - turn @ middle
    return matrix


def move(matrix: np.ndarray, points) -> np.ndarray:
    """Points (n, 2) by a (3, 3)."""
    points = np.atleast_2d(np.asarray(points, float))
    return points @ matrix[:2, :2].T + matrix[:2, 2]


def around(x: float, y: float, reach: int) -> tuple[tuple[slice, slice], np.ndarray]:
    """The part of the picture within so many pixels of a place, and the squares of its pixels' distances from it."""
    rows = slice(max(0, round(y) - reach), max(0, min(HEIGHT, round(y) + reach + 1)))
    columns = slice(max(0, round(x) - reach), max(0, min(WIDTH, round(x) + reach + 1)))
    dy, dx = np.arange(HEIGHT)[rows] - y, np.arange(WIDTH)[columns] - x
    return (rows, columns), dx**2 + (dy**2)[:, None]


def star(image: np.ndarray, x: float, y: float, flux: float, fwhm: float, beta: float = 3.0) -> None:
    """Add a Moffat star."""
    alpha = fwhm / (2 * math.sqrt(2 ** (1 / beta) - 1))
    reach = int(min(max(4 * fwhm, alpha * (flux / 3.0) ** (0.5 / beta)), 70)) + 2
    part, d2 = around(x, y, reach)
    image[part] += flux * (beta - 1) / (math.pi * alpha**2) * (1 + d2 / alpha**2) ** -beta


def streak(image: np.ndarray, ends: np.ndarray, peak, sigma: float) -> None:
    """Add a line of light between two places; `peak` is a function of the share of the way from the first."""
    (x0, y0), (x1, y1) = ends
    length = math.hypot(x1 - x0, y1 - y0)
    cos, sin = (x1 - x0) / length, (y1 - y0) / length
    dx, dy = np.arange(WIDTH) - x0, (np.arange(HEIGHT) - y0)[:, None]
    along, across = dx * cos + dy * sin, dy * cos - dx * sin
    near = (np.abs(across) < 5 * sigma) & (along > -5 * sigma) & (along < length + 5 * sigma)
    a, w = along[near], across[near]
    erf = np.vectorize(math.erf, otypes=[float])
    ends_ = 0.5 * (erf(a / (1.414 * sigma)) - erf((a - length) / (1.414 * sigma)))
    image[near] += peak(np.clip(a / length, 0, 1)) * ends_ * np.exp(-0.5 * (w / sigma) ** 2)


def clip_line(ends: np.ndarray) -> np.ndarray | None:
    """The part of a line within the frame's pixels."""
    (x0, y0), (x1, y1) = ends
    low, high = 0.0, 1.0
    for p, d, size in ((x0, x1 - x0, WIDTH), (y0, y1 - y0, HEIGHT)):
        for edge, sign in ((-0.5, 1), (size - 0.5, -1)):
            a, b = sign * (p - edge), sign * d
            if b == 0:
                if a < 0:
                    return None
            elif b > 0:
                low = max(low, -a / b)
            else:
                high = min(high, -a / b)
    if low >= high:
        return None
    return np.array([[x0 + t * (x1 - x0), y0 + t * (y1 - y0)] for t in (low, high)])


def draw_streak(rng, kind: str, noise: float, fwhm: float) -> tuple[list, dict]:
    """What to add to a frame, and what is true of it (frame pixels)."""
    peak = noise * math.exp(rng.uniform(math.log(3), math.log(30)))
    angle = rng.uniform(0, 2 * math.pi)
    x, y = rng.uniform(0.25, 0.75) * WIDTH, rng.uniform(0.25, 0.75) * HEIGHT
    length = {"cut": rng.uniform(60, 400), "meteor": rng.uniform(120, 400)}.get(kind, 3000.0)
    way = np.array([math.cos(angle), math.sin(angle)]) * length / 2
    ends = np.array([np.subtract((x, y), way), np.add((x, y), way)])
    sigma = fwhm / 2.3548
    true = {"kind": "satellite" if kind in ("across", "cut") else kind, "peak": peak / noise, "style": kind}
    if kind == "meteor":
        top = rng.uniform(0.4, 0.7)
        lights = [(ends, lambda t: peak * np.where(t < top, t / top, (1 - t) / (1 - top)), 1.15 * sigma)]
    elif kind == "aircraft":
        period, lit, gap = rng.uniform(45, 110), rng.uniform(0.08, 0.25), rng.uniform(2, 4) * fwhm
        side = np.array([-math.sin(angle), math.cos(angle)]) * gap / 2
        blink = lambda t: peak * (((t * length / period) % 1.0) < lit)  # noqa: E731
        lights = [(ends, blink, 2.0 * sigma)]
        lights += [(ends + s * side, lambda t: np.full_like(t, 0.45 * peak), 1.4 * sigma) for s in (-1, 1)]
    else:
        lights = [(ends, lambda t: np.full_like(t, peak), 1.05 * sigma)]
    true["ends"] = ends
    return lights, true


def make_night(
    folder: Path, seed: int, what: str, kind: str, n: int, *, fwhm=3.0, fwhm_wander=0.05, sky=400.0, drift=0.4,
    turn=0.01, jitter=1.0, clouds=False, hot=0.0, bayer=None, cosmics=0,
) -> Night:  # fmt: skip
    """Draw and write a night."""
    rng = np.random.default_rng([seed, len(what), sum(map(ord, kind))])
    night = Night(folder)
    folder.mkdir(parents=True)
    read, bias, gain = 4.0, 300.0, 1.3
    noise = math.sqrt(sky + read**2)
    count = 220
    stars = np.c_[rng.uniform(-80, WIDTH + 80, count), rng.uniform(-80, HEIGHT + 80, count)]
    flux = 1500 / (1 - rng.random(count) * (1 - 1500 / 1.5e6)) ** 1.1
    hot_pixels = np.where(rng.random((HEIGHT, WIDTH)) < hot, rng.uniform(100, 8000, (HEIGHT, WIDTH)), 0.0)
    blobs = [(rng.uniform(0.2, 0.8) * WIDTH, rng.uniform(0.2, 0.8) * HEIGHT, rng.uniform(40, 130)) for _ in range(5)]
    if what in ("asteroids", "faint"):
        for k in range(4 if what == "asteroids" else 6):
            snr = rng.uniform(5, 9) if what == "asteroids" else rng.uniform(1.5, 2.5)
            frames = int(rng.integers(8, min(30, n) + 1)) if what == "asteroids" else n
            first = int(rng.integers(0, n - frames + 1))
            top = 5.0 if what == "asteroids" else 2.5
            rate = math.exp(rng.uniform(math.log(0.35), math.log(top)))
            angle = rng.uniform(0, 2 * math.pi)
            way = rate * n / 2
            middle = np.array([rng.uniform(0.3, 0.7) * WIDTH, rng.uniform(0.3, 0.7) * HEIGHT])
            velocity = rate * np.array([math.cos(angle), math.sin(angle)])
            del way
            night.points.append({"snr": snr, "first": first, "last": first + frames - 1, "velocity": velocity,
                                 "at": middle - velocity * (first + frames / 2), "rate": rate, "k": k})  # fmt: skip
    if what == "newcomers":
        for _ in range(3):
            at = np.array([rng.uniform(0.15, 0.85) * WIDTH, rng.uniform(0.15, 0.85) * HEIGHT])
            night.points.append({"snr": rng.uniform(12, 60), "first": n // 2, "last": n - 1, "velocity": np.zeros(2),
                                 "at": at, "rate": 0.0})  # fmt: skip
    x = y = 0.0
    styles = ["across", "cut", "meteor", "aircraft"]
    for i in range(n):
        x, y = x + drift * rng.normal(0.7, 0.4), y + drift * rng.normal(0.3, 0.4)
        jog = rng.normal(0, jitter, 2) if i else np.zeros(2)
        matrix = similarity(x + jog[0], y + jog[1], turn * i)
        inverse = np.linalg.inv(matrix)
        wide = fwhm * math.exp(fwhm_wander * math.sin(i / 5.0) + 0.02 * rng.normal())
        clear = 1.0 - (0.45 * max(0.0, math.sin(i / 4.0)) if clouds else 0.02 * rng.random())
        light = np.full((HEIGHT, WIDTH), sky * (1 + 0.5 * (1 - clear)))
        gx, gy = np.arange(WIDTH), np.arange(HEIGHT)[:, None]
        light += sky * 0.1 * (gx / WIDTH - 0.5) * math.cos(i / 9) + (sky * 0.05 * np.sin(gx / 90 + i) if clouds else 0)
        for bx, by, size in blobs:
            px, py = move(inverse, (bx, by))[0]
            light += clear * 60 * np.exp(-0.5 * ((gx - px) ** 2 + (gy - py) ** 2) / size**2)
        for (sx, sy), f in zip(move(inverse, stars), flux, strict=True):
            star(light, sx, sy, f * clear, wide)
        unit = noise * math.sqrt(4 * math.pi) * fwhm / 2.3548
        for one in night.points:
            if one["first"] <= i <= one["last"]:
                px, py = move(inverse, one["at"] + one["velocity"] * i)[0]
                for part in np.linspace(-0.4, 0.4, 5):
                    vx, vy = move(inverse, one["at"] + one["velocity"] * (i + part))[0]
                    core(light, vx, vy, one["snr"] * unit / 5, fwhm)
        name = f"f_{i:03d}.fits"
        if what == "streaks" and rng.random() < 0.6:
            lights, true = draw_streak(rng, styles[int(rng.integers(4))], noise, fwhm)
            seen = clip_line(true["ends"])
            if seen is not None and np.hypot(*(seen[1] - seen[0])) > 50:
                for ends, peak, sigma in lights:
                    streak(light, ends, peak, sigma)
                sharp = np.abs(seen - true["ends"]).max(axis=1) > 0.01
                if true["style"] == "cut":
                    sharp[:] = True
                night.streaks.append({**true, "file": name, "seen": move(matrix, seen), "sharp": sharp})
        if bayer:
            light[0::2, 0::2] *= 0.7
            light[1::2, 1::2] *= 0.6
        for _ in range(rng.poisson(cosmics)):
            cx, cy, a, length = (
                rng.uniform(5, WIDTH - 40),
                rng.uniform(5, HEIGHT - 40),
                rng.uniform(0, 6.3),
                rng.pareto(1.3),
            )
            for t in np.arange(0, min(length, 30), 0.5):
                light[
                    int(np.clip(cy + t * math.sin(a), 0, HEIGHT - 1)), int(np.clip(cx + t * math.cos(a), 0, WIDTH - 1))
                ] += 700
        data = (
            rng.poisson(np.maximum(light, 0))
            + rng.normal(0, read, light.shape)
            + hot_pixels * (1 + 0.02 * rng.normal())
        )
        moment = f"2026-11-20T2{i // 120}:{i // 2 % 60:02d}:{30 * (i % 2):02d}"
        header = fits.Header([("EXPTIME", 30.0), ("DATE-OBS", moment), ("OBJECT", what), ("GAIN", 100)])
        if bayer:
            header["BAYERPAT"] = bayer
        fits.PrimaryHDU(np.clip(np.round(data / gain + bias), 0, 65535).astype(np.uint16), header).writeto(
            folder / name
        )
        night.to_scene[name] = matrix
        night.files.append(name)
    return night


def core(image: np.ndarray, x: float, y: float, flux: float, fwhm: float) -> None:
    """Add a Gaussian point."""
    sigma, reach = fwhm / 2.3548, int(5 * fwhm)
    part, d2 = around(x, y, reach)
    image[part] += flux / (2 * math.pi * sigma**2) * np.exp(-0.5 * d2 / sigma**2)


def run(night: Night, out: Path) -> tuple[list[dict], np.ndarray, set[str]]:
    """What livestack tells of a night: rows of passages.csv, reference -> scene, files that were stacked."""
    command = [sys.executable, "-m", "livestack", "stack", str(night.folder), "--output", str(out), "--no-final-pass",
               "--passages", "on", "--solve", "off", "--photometry", "off", "--formats", "fits", "--json"]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(done.stderr[-2000:])
    rows, reference, stacked = [], night.files[0], set()
    for line in (out / "session.jsonl").read_text().splitlines():
        record = json.loads(line)
        if record["type"] == "reference":
            reference = record["file"]
        if record["type"] == "frame" and record["status"] == "stacked":
            stacked.add(record["file"])
    for path in out.glob("*/passages.csv"):
        rows += list(csv.DictReader(path.open()))
    return rows, night.to_scene[reference], stacked


def numbers(row: dict) -> np.ndarray:
    """Ends (2, 2) of a row."""
    return np.array([[float(row["x0"]), float(row["y0"])], [float(row["x1"]), float(row["y1"])]])


def tell_wrong(rows: list[dict], tell: bool) -> None:
    """Print what was told that is not there."""
    shown = ["kind", "first_file", "last_file", "x0", "y0", "x1", "y1", "width_px", "snr", "n_frames", "rate_px_min"]
    for row in rows if tell else ():
        print("      false", {name: row[name] for name in shown})


def score_streaks(night: Night, rows: list[dict], to_scene: np.ndarray, stacked: set[str], tell: bool) -> dict:
    """Found, with good ends, of the right kind, and what was told that is not there."""
    used, result = set(), {"n": 0, "found": 0, "ends": 0, "n_ends": 0, "kind": 0, "off": []}
    for true in night.streaks:
        if true["file"] not in stacked:
            continue
        result["n"] += 1
        ends, best = true["seen"], None
        length = np.hypot(*(ends[1] - ends[0]))
        way = (ends[1] - ends[0]) / length
        for k, row in enumerate(rows):
            if not row["first_file"] <= true["file"] <= row["last_file"] or row["kind"] in ("mover", "newcomer"):
                continue
            got = move(to_scene, numbers(row))
            off = np.abs((got - ends[0]) @ np.array([-way[1], way[0]]))
            along = np.sort((got - ends[0]) @ way)
            shared = min(along[1], length) - max(along[0], 0)
            if off.max() < (12 if true["kind"] == "aircraft" else 3) and shared > 0.5 * length:
                used.add(k)
                gap = np.abs([along[0], along[1] - length])
                if best is None or gap.max() < best[0].max():
                    best = (gap, row)
        if best is None:
            if tell:
                where = np.round(ends, 0).tolist()
                print(f"      missed {true['style']} peak {true['peak']:.1f} in {true['file']} {where}")
            continue
        result["found"] += 1
        result["kind"] += best[1]["kind"] == true["kind"]
        if tell and best[1]["kind"] != true["kind"]:
            print(f"      {true['style']} peak {true['peak']:.1f} in {true['file']} told as {best[1]['kind']}")
        if true["kind"] == "satellite":
            result["n_ends"] += 1
            result["ends"] += bool(best[0].max() <= 3)
            result["off"].append(best[0].max())
            if tell and best[0].max() > 3:
                print(f"      ends off by {best[0].round(1)} {true['style']} peak {true['peak']:.1f} in {true['file']}")
    wrong = [row for k, row in enumerate(rows) if k not in used]
    tell_wrong(wrong, tell)
    return {**result, "false": len(wrong), "frames": len(stacked)}


def score_points(night: Night, rows: list[dict], to_scene: np.ndarray, stacked: set[str], tell: bool) -> dict:
    """Found, rate within 2 %, and false ones."""
    used, result = set(), {"n": 0, "found": 0, "rate": 0, "false": 0, "frames": len(stacked), "off": [], "limit": []}
    wanted = ("newcomer",) if night.points and night.points[0]["rate"] == 0 else ("mover",)
    for true in night.points:
        frames = [i for i in range(true["first"], true["last"] + 1) if night.files[i] in stacked]
        if len(frames) < 6:
            continue
        result["n"] += 1
        best = None
        for k, row in enumerate(rows):
            if row["kind"] not in wanted:
                continue
            got = move(to_scene, numbers(row))
            i0, i1 = night.files.index(row["first_file"]), night.files.index(row["last_file"])
            close = [np.hypot(*(g - true["at"] - true["velocity"] * i)) for g, i in zip(got, (i0, i1), strict=True)]
            if max(close) < 4 and i0 <= frames[-1] and i1 >= frames[0]:
                used.add(k)
                rate = float(row["rate_px_min"] or 0) / 2.0  # two frames a minute
                best = min(best or 9.0, abs(rate - true["rate"]) / true["rate"] if true["rate"] else 0.0)
        if best is None:
            if tell:
                span = f"frames {true['first']}-{true['last']} at {true['at'].round()}"
                print(f"      missed SNR {true['snr']:.2f} rate {true['rate']:.2f} {span}")
            continue
        result["found"] += 1
        result["rate"] += best <= 0.02
        result["off"].append(best)
        steps = np.array(frames) - np.mean(frames)
        sigma = 3.0 / 2.3548  # of a place in one frame: sigma over SNR times sqrt 2
        result["limit"].append(
            math.sqrt(2) * sigma / true["snr"] / math.sqrt((steps**2).sum()) / max(true["rate"], 1e-9)
        )
    wrong = [row for k, row in enumerate(rows) if k not in used]
    tell_wrong(wrong, tell)
    result["false"] = len(wrong)
    return result


def main() -> None:
    """Draw, run, score, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", nargs="*", default=[])
    parser.add_argument("--seeds", type=int, nargs="+", default=[1])
    parser.add_argument("--nights", nargs="+", default=list(NIGHTS))
    parser.add_argument("--frames", type=int, default=36)
    parser.add_argument("--tell", action="store_true", help="each miss and each false one")
    parser.add_argument("--keep", type=Path)
    asked = parser.parse_args()
    os.environ.setdefault("PYTHONPATH", ".")
    for what in asked.what or ["streaks", "clean", "asteroids", "faint", "newcomers"]:
        total: dict[str, float] = {}
        for kind in asked.nights:
            for seed in asked.seeds:
                with tempfile.TemporaryDirectory() as place:
                    root = asked.keep / f"{what}-{kind}-{seed}" if asked.keep else Path(place)
                    night = make_night(root / "night", seed, what, kind, asked.frames, **NIGHTS[kind])
                    rows, to_scene, stacked = run(night, root / "out")
                    score = score_streaks if what in ("streaks", "clean") else score_points
                    found = score(night, rows, to_scene, stacked, asked.tell)
                off = found.pop("off", [])
                limit = found.pop("limit", [])
                words = "  ".join(f"{name} {value}" for name, value in found.items())
                more = f"  worst {max(off):.3g}" if off else ""
                more += f"  median {np.median(off):.3g} of a limit of {np.median(limit):.3g}" if limit else ""
                print(f"{what:10} {kind:8} seed {seed}  {words}{more}", flush=True)
                for name, value in found.items():
                    total[name] = total.get(name, 0) + value
        print(f"{what:10} all      {total}", flush=True)


if __name__ == "__main__":
    main()
