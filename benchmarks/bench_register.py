"""How well and how fast frames are registered, against simulated truth, beside peers where they can be had.

    PYTHONPATH=. python benchmarks/bench_register.py [--trials 12] [--size 1200x800] [--peer NAME=PYTHON ...]

Each case is a pair of simulated frames with a known transform. Columns: success (a transform within 2 px at every
corner of the frame), false (a transform further off: worse than none), displacement of the corners from truth (median
and worst of the successes; for one and two stars of the stars themselves, nothing fixes the corners), processor time of
finding the stars and of the match. `unrelated` counts false matches among pairs of frames of different fields.

The frames of `wide lens` are distorted, so that no matrix carries one onto the other: there the displacement is the
largest in a grid over what both frames show, and a second row has the matrix alone.

Peers run in an interpreter of their own (astroalign pins another build of `sep`): `--peer astroalign=/path/python`,
`--peer seiza=/path/python`. astroalign gets the reference's stars ready; Seiza gives no way to register alone, so its
time is that of a whole `push`.
"""

from __future__ import annotations

import argparse
import json
import math
import subprocess
import sys
import tempfile
import time
from itertools import product
from pathlib import Path

import numpy as np

GOOD_PX = 2.0


def corner_distance(one: np.ndarray, other: np.ndarray, points: np.ndarray) -> float:
    """Largest distance between where two matrices put `points` (n, 2)."""
    difference = (one - other)[:2]
    return float(np.hypot(*(points @ difference[:, :2].T + difference[:, 2]).T).max())


def peer_main(name: str, folder: Path) -> None:
    """Run as a peer: register the pairs in `folder`, print [matrix or None, seconds] of each as JSON."""
    answers = []
    for path in sorted(folder.glob("*.npz")):
        pair = np.load(path)
        reference, frame = pair["reference"], pair["frame"]
        matrix, seconds = {"astroalign": _astroalign, "seiza": _seiza}[name](reference, frame)
        answers.append([matrix, seconds])
    print(json.dumps(answers))


def _astroalign(reference: np.ndarray, frame: np.ndarray) -> tuple[list[list[float]] | None, float]:
    import astroalign

    known = astroalign._find_sources(reference, detection_sigma=5, min_area=5)
    start = time.process_time()
    try:
        found, _ = astroalign.find_transform(frame, known)
    except (astroalign.MaxIterError, TypeError, ValueError):
        return None, time.process_time() - start
    return np.asarray(found.params).tolist(), time.process_time() - start


def _seiza(reference: np.ndarray, frame: np.ndarray) -> tuple[list[list[float]] | None, float]:
    import seiza

    start = time.process_time()
    try:
        stacker = seiza.LiveStacker.from_array(reference / np.float32(65535))
        start = time.process_time()
        told = stacker.push(frame / np.float32(65535))
    except seiza.StackError:
        return None, time.process_time() - start
    seconds = time.process_time() - start
    if not told.accepted:
        return None, seconds
    return _seiza_matrix(told), seconds


def _seiza_matrix(told: object) -> list[list[float]]:
    said = told.mapping["transform"]  # type: ignore[attr-defined]
    c = said["scale"] * math.cos(said["rotation_radians"])
    s = said["scale"] * math.sin(said["rotation_radians"])
    return [[c, -s, said["translation_x"]], [s, c, said["translation_y"]], [0.0, 0.0, 1.0]]


if len(sys.argv) == 4 and sys.argv[1] == "--as-peer":  # before anything of ours is imported: it is not there
    peer_main(sys.argv[2], Path(sys.argv[3]))
    sys.exit(0)

from livestack.base.settings import DetectionSettings, RegistrationSettings  # noqa: E402
from livestack.detection import StarCatalog, find_stars, measure_sky  # noqa: E402
from livestack.kernels.bands import Bands  # noqa: E402
from livestack.registration import Registration, StarReference, register_stars  # noqa: E402
from livestack.registration import transform as tf  # noqa: E402
from livestack.registration.distortion import to_frame  # noqa: E402
from livestack.registration.features import FeatureReference  # noqa: E402
from livestack.simulate import Fault, Scenario, parse_size, project_pixels, simulate_frame  # noqa: E402

BANDS = Bands(1)
FEW = {"two stars", "one star"}


def cases(width: int, height: int, trial: int) -> dict[str, tuple[dict[str, object], bool]]:
    """Name -> (knobs of the scenario, whether the last transform is known as a hint)."""
    rng = np.random.default_rng(trial)
    turn = float(rng.uniform(-180, 180))
    dense = {"stars": 600, "nebula_e": 0.0}
    nine = {"stars": 9, "stars_within": 0.6, "flux_min_e": 4000.0, "nebula_e": 0.0}

    def fault(kind: str, amount: float) -> dict[str, object]:
        return {"faults": (Fault(kind=kind, first=1, amount=amount),)}  # type: ignore[arg-type]

    some = {"drift_px": tuple(rng.uniform(-0.1, 0.1, 2) * (width, height))}
    return {
        "dense": ({**dense, "drift_px": (7.3, -4.1)}, False),
        "dense, predicted": ({**dense, "drift_px": (1.3, -0.7)}, True),
        "1500 stars": ({"stars": 3000, "drift_px": (7.3, -4.1)}, False),
        "nine stars, any rotation": ({**nine, **some, "rotation_deg": turn}, False),
        "two stars": ({**nine, "stars": 2, "drift_px": (6.1, -3.3), "rotation_deg": 0.05}, True),
        "one star": ({**nine, "stars": 1, "drift_px": (6.1, -3.3)}, True),
        "rotation 0-360": ({**dense, **some, "rotation_deg": turn}, False),
        "meridian flip": ({**dense, "rotation_deg": 180.0, "drift_px": (17.0, -9.0)}, False),
        "scale 0.95-1.05": ({**dense, **some, **fault("rescale", float(rng.uniform(0.95, 1.05)))}, False),
        "shift of half the field": ({**dense, "drift_px": (0.5 * width, 0.0)}, False),
        "seeing 2 to 6 px": ({**dense, "fwhm_px": 2.0, "drift_px": (7.3, -4.1), **fault("defocus", 3.0)}, False),
        "mosaic": ({**dense, "bayer": "RGGB", "drift_px": (7.3, -4.1)}, False),
        "transparency 40 %": ({**dense, "drift_px": (7.3, -4.1), **fault("clouds", 0.4)}, False),
        "wide lens": (
            {
                **dense,
                "distortion_px": -0.008 * width,
                "drift_px": (0.18 * width, -0.08 * height),
                "rotation_deg": 5.0,
                "rotation_centre": (0.4, 0.6),
            },
            False,
        ),
        "faint stars only": ({**dense, "flux_min_e": 250.0, "flux_max_e": 2500.0, "drift_px": (7.3, -4.1)}, False),
    }


def detect(scenario: Scenario, index: int) -> tuple[np.ndarray, np.ndarray, StarCatalog, float, np.ndarray]:
    """Pixels, truth, catalogue, seconds it took, true star places."""
    made = simulate_frame(scenario, index)
    data = made.frame.data.astype(np.float32)
    start = time.process_time()
    sky = measure_sky(data, scenario.bayer, BANDS)
    stars = find_stars(data, scenario.bayer, sky, scenario.saturation_adu, DetectionSettings(), BANDS)
    seconds = time.process_time() - start
    return data, made.transform, stars, seconds, np.column_stack([made.stars["x"], made.stars["y"]])


class Tally:
    """Results of one case."""

    def __init__(self) -> None:
        self.errors: list[float] = []
        self.failed = self.false = 0
        self.find_s: list[float] = []
        self.match_s: list[float] = []

    def add(self, matrix: np.ndarray | None, truth: np.ndarray, points: np.ndarray) -> None:
        self.count(None if matrix is None else corner_distance(matrix, truth, points))

    def count(self, error: float | None) -> None:
        if error is None:
            self.failed += 1
        elif error < GOOD_PX:
            self.errors.append(error)
        else:
            self.false += 1

    def row(self, name: str, who: str) -> str:
        trials = len(self.errors) + self.failed + self.false
        middle = f"{np.median(self.errors):.3f}" if self.errors else "-"
        worst = f"{max(self.errors):.3f}" if self.errors else "-"
        find = f"{1e3 * np.median(self.find_s):.1f}" if self.find_s else "-"
        match = f"{1e3 * np.median(self.match_s):.1f}" if self.match_s else "-"
        success = f"{len(self.errors)}/{trials}"
        return f"| {name} | {who} | {success} | {self.false} | {middle} | {worst} | {find} | {match} |"


def run_peer(
    who: str, python: str, pairs: list[tuple[np.ndarray, np.ndarray]]
) -> list[tuple[np.ndarray | None, float]]:
    """Let a peer register the pairs in its own interpreter."""
    with tempfile.TemporaryDirectory() as folder:
        for i, (reference, frame) in enumerate(pairs):
            np.savez(Path(folder) / f"{i:04d}.npz", reference=reference, frame=frame)
        command = [python, str(Path(__file__).resolve()), "--as-peer", who, folder]
        told = subprocess.run(command, capture_output=True, text=True, check=True, cwd=folder)
    return [(None if matrix is None else np.array(matrix), s) for matrix, s in json.loads(told.stdout.splitlines()[-1])]


def green(data: np.ndarray) -> np.ndarray:
    """What a peer that knows nothing of mosaics can use: the mean of each cell's neighbourhood, at full size."""
    import cv2

    return np.asarray(cv2.blur(data, (2, 2), anchor=(0, 0)))


def wide_errors(scenario: Scenario, transforms: list[np.ndarray], found: Registration) -> tuple[float, float]:
    """Largest displacement over what both frames show, from reference to frame: with the matrix alone, and in all."""
    x, y = np.meshgrid(np.linspace(0, scenario.width - 1, 33), np.linspace(0, scenario.height - 1, 33))
    points = np.column_stack([x.ravel(), y.ravel()])
    truth = project_pixels(scenario, points, *transforms)
    seen = ((truth >= 0) & (truth <= (scenario.width - 1, scenario.height - 1))).all(axis=1)
    ways = (None, found.distortion)
    alone, whole = (np.hypot(*(to_frame(found.matrix, way, points) - truth)[seen].T).max() for way in ways)
    return float(alone), float(whole)


def bench_case(name: str, trials: int, width: int, height: int, peers: dict[str, str]) -> None:
    ours, others = Tally(), {who: Tally() for who in peers}
    alone = Tally()
    pairs, truths = [], []
    for trial in range(trials):
        knobs, hinted = cases(width, height, trial)[name]
        base = {"name": "bench", "seed": 100 + trial, "frames": 2, "width": width, "height": height, **knobs}
        scenario = Scenario.model_validate(base)
        reference, first, known, _, _ = detect(scenario, 0)
        frame, second, stars, find_s, places = detect(scenario, 1)
        truth = np.linalg.inv(first) @ second
        points = places if name in FEW else tf.corners(width, height)
        hints = []
        if hinted:
            hints = [truth.copy()]
            hints[0][:2, 2] += (12.0, -8.0) if name in FEW else (2.1, -1.4)
        star_reference = StarReference(known, width, height)
        register_stars(star_reference, stars, hints, RegistrationSettings())  # compiled, warm
        start = time.process_time()
        found = register_stars(star_reference, stars, hints, RegistrationSettings())
        ours.match_s.append(time.process_time() - start)
        ours.find_s.append(find_s)
        if scenario.distortion_px and isinstance(found, Registration):
            errors = wide_errors(scenario, [first, second], found)
            alone.count(errors[0])
            ours.count(errors[1])
        else:
            ours.add(found.matrix if isinstance(found, Registration) else None, truth, points)
        mosaic = scenario.bayer is not None
        pairs.append((green(reference), green(frame)) if mosaic else (reference, frame))
        truths.append((truth, points))
    print(ours.row(name, "livestack"), flush=True)
    if alone.errors or alone.false:
        print(alone.row("", "its matrix alone"), flush=True)
    for who, python in peers.items():
        for (matrix, seconds), (truth, points) in zip(run_peer(who, python, pairs), truths, strict=True):
            others[who].match_s.append(seconds)
            others[who].add(matrix, truth, points)
        print(others[who].row("", who), flush=True)


def matches(reference: StarReference, picture: FeatureReference | None, stars: StarCatalog, data: np.ndarray) -> bool:
    """Whether a frame is registered; `picture` is the reference's, asked where there are hardly any stars."""

    def witness(matrix: np.ndarray) -> bool:
        return picture is not None and picture.agrees(data, matrix, reference.stars.xy, stars.xy)

    found = register_stars(reference, stars, [np.eye(3)], RegistrationSettings(), witness=witness)
    return isinstance(found, Registration)


def bench_unrelated(count: int, width: int, height: int) -> None:
    """False matches among pairs of frames of different fields: from one star to six hundred."""
    for stars in (1, 2, 9, 40, 600):
        n = math.ceil(math.sqrt(count)) + 1
        seen = [
            detect(
                Scenario(
                    seed=500 + i, frames=1, width=width, height=height, stars=stars, nebula_e=0.0,
                    flux_min_e=4000.0 if stars < 100 else 500.0, stars_within=0.6 if stars < 9 else None,
                ), 0,
            )
            for i in range(n)
        ]  # fmt: skip
        references = [StarReference(one[2], width, height) for one in seen]
        pictures = [FeatureReference(one[0]) if stars < 9 else None for one in seen]
        tried = [(i, j) for i, j in product(range(n), range(n)) if i != j][:count]
        false = sum(matches(references[i], pictures[i], seen[j][2], seen[j][0]) for i, j in tried)
        print(f"| unrelated, {stars} stars | livestack | {len(tried) - false}/{len(tried)} | {false} | - | - | - | - |")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trials", type=int, default=12)
    parser.add_argument("--size", default="1200x800")
    parser.add_argument("--unrelated", type=int, default=500)
    parser.add_argument("--peer", action="append", default=[], metavar="NAME=PYTHON")
    options = parser.parse_args()
    width, height = parse_size(options.size)
    peers = dict(word.split("=", 1) for word in options.peer)
    print("| case | who | success | false | median px | worst px | find ms | match ms |")
    print("|---|---|---|---|---|---|---|---|")
    for name in cases(width, height, 0):
        bench_case(name, options.trials, width, height, peers)
    bench_unrelated(options.unrelated, width, height)


if __name__ == "__main__":
    main()
