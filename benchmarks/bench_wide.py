"""A night with a short lens that distorts, stacked with a matrix alone and with the polynomial beside it.

    PYTHONPATH=. python benchmarks/bench_wide.py [--frames 30] [--size 1800x1200] [--distortion -12] [--picture FILE]

The field drifts by a fifth of its width and turns by some degrees over the night. Stars of known place and light are
measured in the middle, the zone and the corners of the stack: width across the two axes (Gaussian fit), distance from
where the reference, the first frame, shows them, light within 3 px over what was sent. The first row is one frame.
Last come processor time a frame of registration and of accumulation, and the share of samples refused.
"""

from __future__ import annotations

import argparse

import cv2
import numpy as np
from scipy.optimize import curve_fit
from scipy.spatial import cKDTree

from livestack import LiveStack, Settings
from livestack.simulate import Scenario, named_scenario, parse_size, simulate_frame

HALF_PX = 7
ZONES = {"middle": (0.0, 0.4), "zone": (0.4, 0.7), "corners": (0.7, 1.0)}


def profile(
    place: np.ndarray, peak: float, x: float, y: float, a: float, b: float, turn: float, sky: float
) -> np.ndarray:
    """An elliptical Gaussian at (2, n) places."""
    c, s = np.cos(turn), np.sin(turn)
    u, v = place[0] - x, place[1] - y
    return peak * np.exp(-0.5 * (((u * c + v * s) / a) ** 2 + ((v * c - u * s) / b) ** 2)) + sky


def measure(image: np.ndarray, x: float, y: float) -> tuple[float, float, float, float] | None:
    """FWHM across (geometric mean), long over short axis, distance from (x, y), light within 3 px; None: no fit."""
    i, j = round(y), round(x)
    cut = image[i - HALF_PX : i + HALF_PX + 1, j - HALF_PX : j + HALF_PX + 1].astype(float)
    if cut.shape != (2 * HALF_PX + 1,) * 2 or not np.isfinite(cut).all():
        return None
    rows, columns = np.mgrid[-HALF_PX : HALF_PX + 1, -HALF_PX : HALF_PX + 1]
    place = np.stack([columns.ravel() + j - x, rows.ravel() + i - y])
    sky = float(np.median(cut))
    start = [float(cut.max()) - sky, 0.0, 0.0, 1.2, 1.1, 0.1, sky]
    try:
        found, _ = curve_fit(profile, place, cut.ravel(), start, maxfev=1000)
    except RuntimeError:
        return None
    a, b = sorted(abs(found[3:5]))
    light = float((cut.ravel() - sky)[np.hypot(*place) < 3.0].sum())
    return 2.3548 * float(np.sqrt(a * b)), float(b / a), float(np.hypot(*found[1:3])), light


def table(name: str, image: np.ndarray, coverage: np.ndarray, scenario: Scenario) -> None:
    stars = simulate_frame(scenario, 0).stars
    xy = np.column_stack([stars["x"], stars["y"]])
    centre = np.array([(scenario.width - 1) / 2, (scenario.height - 1) / 2])
    far = np.hypot(*(xy - centre).T) / np.hypot(*centre)
    alone = cKDTree(xy).query(xy, k=2)[0][:, 1] > 9
    good = alone & (stars["flux_e"] > 4000) & (stars["flux_e"] < 1.2e5)
    for zone, (low, high) in ZONES.items():
        rows = []
        for n in np.flatnonzero(good & (far >= low) & (far < high)):
            if coverage[round(xy[n, 1]), round(xy[n, 0])] < 0.5 * coverage.max():
                continue
            found = measure(image, *xy[n])
            if found is not None:
                rows.append((*found[:3], found[3] * scenario.gain_e_adu / stars["flux_e"][n]))
        middle = np.median(np.array(rows), axis=0)
        worst = np.percentile(np.array(rows)[:, 2], 95)
        print(
            f"| {name} | {zone} | {len(rows)} | {middle[0]:.2f} | {middle[1]:.2f} | {middle[2]:.2f} | {worst:.2f} "
            f"| {100 * middle[3]:.1f} |"
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--frames", type=int, default=30)
    parser.add_argument("--size", default="1800x1200")
    parser.add_argument("--distortion", type=float, default=-12.0, help="px in the corner")
    parser.add_argument("--picture", help="write the stacks' upper left corners side by side, enlarged")
    options = parser.parse_args()
    width, height = parse_size(options.size)
    night = 1 / max(1, options.frames - 1)
    scenario = named_scenario(
        "wide", width=width, height=height, frames=options.frames, distortion_px=options.distortion,
        drift_px=(0.2 * width * night, -0.08 * height * night),
    )  # fmt: skip
    one = simulate_frame(scenario, 0).frame.data
    print("| stack | where | stars | FWHM px | long / short | off px | 95 % px | light % |")
    print("|---|---|---|---|---|---|---|---|")
    table("one frame", one, np.ones(one.shape), scenario)
    said, corners = [], []
    for model in ("similarity", "affine", "auto"):
        settings = Settings()
        registration = settings.registration.model_copy(update={"model": model})
        with LiveStack(settings.model_copy(update={"registration": registration})) as stack:
            outcomes = [stack.add(simulate_frame(scenario, i).frame) for i in range(scenario.frames)]
            result = stack.result()
        table(model, result.mean, result.coverage, scenario)
        steps = [1e3 * np.median([o.timings_s[k] for o in outcomes[10:]]) for k in ("register", "accumulate")]
        refused = 100 * np.mean([o.rejected_fraction or 0.0 for o in outcomes])
        said.append(
            f"{model}: {sum(o.stacked for o in outcomes)} frames, register {steps[0]:.1f} ms, accumulate "
            f"{steps[1]:.1f} ms, {refused:.3f} % of samples refused"
        )
        corners.append(result.mean[-140:, :210])
    print("\n".join(said))
    if options.picture:
        low = float(np.nanmedian(corners[0]))
        shown = [np.clip(255 * np.arcsinh((c - low) / 20) / 4, 0, 255) for c in corners]
        side = np.hstack([np.pad(np.nan_to_num(c), ((0, 0), (0, 6))) for c in shown]).astype(np.uint8)
        cv2.imwrite(options.picture, cv2.resize(side, None, fx=2.5, fy=2.5, interpolation=cv2.INTER_NEAREST))


if __name__ == "__main__":
    main()
