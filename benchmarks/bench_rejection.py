"""What rejection costs and what it saves, on nights with known truth: one table, the same registered frames for all.

    python benchmarks/bench_rejection.py [--frames 20 40 120] [--size 480x360] [--kinds mono osc] [--seed 1]
        [--debayer drizzle] [--seeing 3]

A night of trails (frames 1, 3 and later, two that cross), cosmic rays, hot pixels, a step of the sky, thin cloud and
wandering seeing is stacked by `LiveStack`; every other method then gets the very frames it accepted, with its
transforms, normalisation and weights. Truth is the same weighted mean of the same frames without artefacts (same noise,
no trails, cosmic rays or hot pixels). Columns: rms of (result - truth) in units of the ideal noise of the stack, for
clear sky, stars, places that an artefact touched in some frame, and those of them on stars; noise of the clear sky in
means of 8 x 8 pixels over that of truth (a method that blurs or rejects good samples shows here); bias of the stars'
flux (sum of all, and the worst star), and the share of pixels left without a value. With `--debayer drizzle` the truth
is drizzled from the same twins, and only what livestack does is shown; the others know no drops.
"""

from __future__ import annotations

import argparse
import sys
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from astropy.stats import mad_std, sigma_clip
from scipy.ndimage import binary_dilation

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from livestack.base.frame import Frame
from livestack.base.settings import CalibrationSettings, SaveSettings, Settings
from livestack.engine.developer import Developer, Pixels
from livestack.engine.group import Group
from livestack.engine.ledger import Member
from livestack.engine.live_stack import LiveStack
from livestack.engine.prepare import calibrate
from livestack.engine.restack import test_anew
from livestack.engine.warmup import finish_warmup
from livestack.simulate import Fault, Scenario, parse_size, simulate_frame
from livestack.stacking.accumulators import Stack

METHODS = ("mean", "welford", "sigma_clip", "winsorized", "live", "final")


def night(kind: str, frames: int, width: int, height: int, seed: int, **changes: object) -> Scenario:
    """The night of the table."""
    at = [round(share * frames) for share in (0.3, 0.45, 0.6, 0.75, 0.9)]
    faults = (
        Fault(kind="satellite", first=0, amount=20),
        Fault(kind="satellite", first=2, amount=8),
        Fault(kind="satellite", first=at[0], amount=25),
        Fault(kind="satellite", first=at[0], amount=25),
        Fault(kind="satellite", first=at[1], amount=4),
        Fault(kind="aircraft", first=at[3], amount=18),
        Fault(kind="satellite", first=at[4], amount=40),
        Fault(kind="clouds", first=at[1], last=at[1] + max(1, frames // 12), amount=0.7),
        Fault(kind="bright_sky", first=at[2], last=frames - 1, amount=1.6),
    )
    knobs: dict[str, object] = {
        "name": kind, "seed": seed, "frames": frames, "width": width, "height": height, "faults": faults,
        "bayer": "RGGB" if kind == "osc" else None, "satellite_rate": 0.3, "cosmic_rate": 40.0, "hot_pixels": 0.0005,
        "dither_px": 4.0, "rotation_deg": 0.02, "stars": 150, "seeing_jitter": 0.08,
    }  # fmt: skip
    return Scenario(**{**knobs, **changes})


@dataclass
class Session:
    """A night as stacked: the accepted frames on one grid, (N, C, H, W) normalised, and where artefacts are."""

    cube: np.ndarray
    twin: np.ndarray
    touched: np.ndarray
    ideal: np.ndarray
    peak: np.ndarray
    weights: np.ndarray
    seeing: np.ndarray
    gain_e_adu: float
    saturation_adu: float
    results: dict[str, np.ndarray] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)
    n_refused: int = 0
    drizzled: tuple[np.ndarray, np.ndarray, np.ndarray] | None = None
    """Truth, what is expected without noise, and where artefacts fell, of a stack of drops."""


def _planes(frame: Frame, group: Group, live: LiveStack, clean: bool) -> np.ndarray:
    prepared = calibrate(frame, None, live.settings, live.bands)
    defects = None if clean else group.defects.known
    return Developer(prepared, live.settings.calibration.interpolation).whole(defects, live.bands)


def _on_grid(planes: np.ndarray, member: Member, group: Group, live: LiveStack) -> np.ndarray:
    """(C, H, W) one frame as the stack sees it."""
    assert group.stack is not None
    alone = Stack(*group.stack.shape, origin=group.stack.origin)
    alone.add(planes, member.matrix, member.normalisation, 1.0, None, live.bands)
    return alone.image()


def stack_night(scenario: Scenario, settings: Settings | None = None, cube: bool = True) -> Session:
    """Stack a night with livestack, live and again; and put its frames and their twins on the grid for the others."""
    settings = settings or Settings(save=SaveSettings(final_pass=False))
    clean = scenario.model_copy(update={"hot_pixels": 0.0})
    numbers: dict[str, int] = {}
    frames = {}
    results, seconds = {}, {}
    with LiveStack(settings) as live:
        began = time.perf_counter()
        spent = 0.0
        for index in range(scenario.frames):
            simulated = simulate_frame(scenario, index)
            frames[index] = simulated
            numbers[simulated.frame.name] = index
            began = time.perf_counter()
            live.add(simulated.frame)
            spent += time.perf_counter() - began
        group = max(live.groups.values(), key=lambda one: one.n_stacked)
        began = time.perf_counter()
        finish_warmup(group)
        seconds["live"] = spent + time.perf_counter() - began
        assert group.stack is not None
        results["live"] = group.stack.image()
        members = list(group.members)
        began = time.perf_counter()

        def fetch(member: Member) -> object:
            return calibrate(frames[numbers[member.name]].frame, None, live.settings, live.bands)

        from concurrent.futures import ThreadPoolExecutor

        with ThreadPoolExecutor(1) as reader:
            test_anew(group, fetch, reader, None, None)  # type: ignore[arg-type]
        seconds["final"] = time.perf_counter() - began
        results["final"] = group.stack.image()
        if group.accumulation.drop is not None:
            return _drizzled_night(scenario, live, group, members, {m.name: frames[numbers[m.name]] for m in members},
                                   {m.name: numbers[m.name] for m in members}, results, seconds)  # fmt: skip
        shape = (len(members), *group.stack.shape)
        twin = np.empty(shape, np.float32)
        ideal, peak = np.empty(shape, np.float32), np.empty(shape, np.float32)
        touched = np.zeros(shape, bool)
        seen = np.empty(shape if cube else (1, 1, 1, 1), np.float32)
        for n, member in enumerate(members):
            index = numbers[member.name]
            simulated = frames[index]
            pure = simulate_frame(clean, index, expected=True)
            assert pure.expected is not None
            twin[n] = _on_grid(_planes(pure.twin, group, live, True), member, group, live)
            noiseless = Frame(np.minimum(pure.expected, scenario.saturation_adu).astype(np.float32), pure.frame.info)
            ideal[n] = _on_grid(_planes(noiseless, group, live, True), member, group, live)
            peak[n] = (ideal[n] - member.normalisation.surface[:, :1, None]) / member.normalisation.factor[
                :, None, None
            ]
            if cube:
                seen[n] = _on_grid(_planes(simulated.frame, group, live, False), member, group, live)
            mask = simulated.artefact_mask.astype(np.float32)
            planes = np.repeat(mask[None], shape[1], axis=0)
            alone = Stack(*group.stack.shape)
            from livestack.stacking.normalisation import Normalisation

            alone.add(planes, member.matrix, Normalisation.identity(shape[1]), 1.0, None, live.bands)
            touched[n] = np.abs(np.nan_to_num(alone.image())) > 1e-3
        if scenario.bayer:
            touched = binary_dilation(touched, np.ones((1, 1, 5, 5)))
        return Session(
            seen, twin, touched, ideal, peak, np.array([m.weight for m in members]),
            np.array([m.fwhm_px or np.nan for m in members]), scenario.gain_e_adu, scenario.saturation_adu, results,
            seconds, group.ledger.n_refused,
        )  # fmt: skip


def _drizzled_night(scenario, live, group, members, frames, numbers, results, seconds) -> Session:  # type: ignore[no-untyped-def]
    """The same of a drizzled stack: drops have no frames on the grid, so that all is stacked at once."""
    from dataclasses import replace

    from livestack.stacking import drizzle
    from livestack.stacking.normalisation import Normalisation

    clean = scenario.model_copy(update={"hot_pixels": 0.0})
    channels = group.stack.shape[0]
    truth, ideal, hit = (group.stack.empty() for _ in range(3))
    hit.origin[:] = 0.0
    full = group.stack.empty()
    for member in members:
        pure = simulate_frame(clean, numbers[member.name], expected=True)
        twin = calibrate(pure.twin, None, live.settings, live.bands).data
        noiseless = np.minimum(pure.expected, scenario.saturation_adu).astype(np.float32)
        expected = calibrate(Frame(noiseless, pure.frame.info), None, live.settings, live.bands).data
        shot = group.accumulation.shot(member, Pixels(twin))
        drizzle.add(truth, shot, None, live.bands)
        drizzle.add(ideal, replace(shot, samples=expected), None, live.bands)
        mask = frames[member.name].artefact_mask.astype(np.float32)
        plain = replace(shot, normalisation=Normalisation.identity(channels), weight=1.0)
        drizzle.add(hit, replace(plain, samples=mask), None, live.bands)
        drizzle.add(full, replace(plain, samples=(noiseless > 0.98 * scenario.saturation_adu).astype(np.float32)), None,
                    live.bands)  # fmt: skip
    mean = ideal.image()
    mean[(full.image() > 1e-6)] = np.nan  # no truth where cores are full, and where not all frames look
    for c in range(channels):
        mean[c][truth.count[c] < 0.9 * np.median(truth.count[c])] = np.nan
    touched = np.abs(np.nan_to_num(hit.mean)) * hit.weight > 0.02
    weights = np.array([m.weight for m in members])
    none = np.empty((0, *group.stack.shape), np.float32)
    return Session(
        none, none, none, none, none, weights, np.array([m.fwhm_px or np.nan for m in members]), scenario.gain_e_adu,
        scenario.saturation_adu, results, seconds, group.ledger.n_refused, (truth.image(), mean, touched),
    )  # fmt: skip


def _drizzled_places(session: Session) -> Places:
    """Truth and the regions of the table, of drops."""
    assert session.drizzled is not None
    truth, expected, touched = session.drizzled
    whole = np.isfinite(truth) & ~binary_dilation(~np.isfinite(expected), np.ones((1, 5, 5)))
    noise, stars = np.empty_like(truth), np.zeros(truth.shape, bool)
    w = session.weights
    for c in range(len(truth)):
        level = np.nanmedian(expected[c][whole[c]])
        dark = whole[c] & (expected[c] < np.nanquantile(expected[c][whole[c]], 0.6))
        floor = float(np.mean((truth[c] - expected[c])[dark] ** 2))
        share = (w**2).sum() / w.sum() ** 2
        light = 0.7 * np.maximum(expected[c] - level, 0) / session.gain_e_adu * share
        noise[c] = np.sqrt(np.maximum(floor + light, floor))
        # as far out as around stars of debayered frames
        stars[c] = whole[c] & (expected[c] - _smooth_sky(expected[c], whole[c]) > np.sqrt(floor / share))
    return Places(
        truth, expected, noise, whole & ~stars & ~touched, stars & ~touched, whole & touched & ~stars, touched & stars,
        whole,
    )  # fmt: skip


def weighted(cube: np.ndarray, weights: np.ndarray, used: np.ndarray) -> np.ndarray:
    """Weighted mean of the used samples; NaN where there is none."""
    w = (weights.reshape(-1, 1, 1, 1) * used).astype(np.float32)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.asarray((w * np.where(used, cube, 0)).sum(axis=0) / w.sum(axis=0))


def plain_mean(cube: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """No rejection."""
    return weighted(cube, weights, np.isfinite(cube))


def naive_welford(cube: np.ndarray, weights: np.ndarray, kappa: float = 3.0, after: int = 5) -> np.ndarray:
    """Running mean and variance; beyond 3 sigma is rejected once five samples are in."""
    shape = cube.shape[1:]
    mean, m2, total, n = (np.zeros(shape) for _ in range(4))
    for x, w in zip(cube.astype(float), weights, strict=True):
        variance = np.where(n > 1, m2 / np.maximum(total, 1e-20) * n / np.maximum(n - 1, 1), np.inf)
        ok = np.isfinite(x) & ((n < after) | ((x - mean) ** 2 <= kappa**2 * variance))
        new = total + w * ok
        d = np.where(ok, x - mean, 0)
        step = d * w / np.maximum(new, 1e-20)
        m2 += w * d * (d - step)
        mean += step
        total = new
        n += ok
    return np.where(n > 0, mean, np.nan)


def batch_clip(cube: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """`astropy.stats.sigma_clip`, k = 3, about the median with the MAD."""
    out = np.empty(cube.shape[1:], np.float32)
    for y in range(0, cube.shape[2], 24):
        part = cube[:, :, y : y + 24]
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            clipped = sigma_clip(part, sigma=3, cenfunc="median", stdfunc=mad_std, axis=0, masked=True)
        out[:, y : y + 24] = weighted(part, weights, ~np.ma.getmaskarray(clipped))
    return out


def winsorized_clip(cube: np.ndarray, weights: np.ndarray, kappa: float = 3.0) -> np.ndarray:
    """Winsorized sigma clipping as Siril documents it: sigma of samples drawn in to 1.5 sigma x 1.134, iterated."""
    out = np.empty(cube.shape[1:], np.float32)
    for y in range(0, cube.shape[2], 24):
        part = cube[:, :, y : y + 24]
        flat = part.reshape(len(part), -1).astype(float)
        used = np.isfinite(flat)
        active = np.flatnonzero(used.sum(axis=0) > 3)
        for _ in range(10):
            if len(active) == 0:
                break
            now = np.where(used[:, active], flat[:, active], np.nan)
            median = np.nanmedian(now, axis=0)
            sigma = np.nanstd(now, axis=0, ddof=1)
            drawn = now.copy()
            for _ in range(20):
                drawn = np.clip(drawn, median - 1.5 * sigma, median + 1.5 * sigma)
                previous, sigma = sigma, 1.134 * np.nanstd(drawn, axis=0, ddof=1)
                if np.all(np.abs(sigma - previous) <= 5e-4 * np.maximum(previous, 1e-12)):
                    break
            bad = np.abs(now - median) > kappa * sigma
            room = used[:, active].sum(axis=0) - bad.sum(axis=0) >= 3
            bad &= room
            used[:, active] &= ~bad
            active = active[bad.any(axis=0)]
        out[:, y : y + 24] = weighted(part, weights, used.reshape(part.shape))
    return out


PEERS: dict[str, Callable[[np.ndarray, np.ndarray], np.ndarray]] = {
    "mean": plain_mean, "welford": naive_welford, "sigma_clip": batch_clip, "winsorized": winsorized_clip,
}  # fmt: skip


@dataclass
class Places:
    """Where the columns are measured, (C, H, W) bool, and the ideal stack's noise there."""

    truth: np.ndarray
    expected: np.ndarray
    noise: np.ndarray
    sky: np.ndarray
    stars: np.ndarray
    trails: np.ndarray
    crossed: np.ndarray
    whole: np.ndarray


def places(session: Session) -> Places:
    """Truth and the regions of the table."""
    if session.drizzled is not None:
        return _drizzled_places(session)
    w, twin = session.weights, session.twin
    # A core that is full in some frame has no truth: its samples are clipped, and scaled up through thin cloud.
    full = binary_dilation((session.peak > 0.98 * session.saturation_adu).any(axis=0), np.ones((1, 5, 5)))
    whole = np.isfinite(twin).all(axis=0) & np.isfinite(session.ideal).all(axis=0) & ~full
    truth = weighted(twin, w, np.isfinite(twin))
    expected = weighted(session.ideal, w, np.isfinite(session.ideal))
    scatter = ((twin - session.ideal) ** 2).mean(axis=0)
    noise = np.empty_like(truth)
    stars = np.zeros(truth.shape, bool)
    sky_level = np.empty(len(truth))
    for c in range(len(truth)):
        level = np.nanmedian(expected[c][whole[c]])
        sky_level[c] = level
        dark = whole[c] & (expected[c] < np.nanquantile(expected[c][whole[c]], 0.6))
        floor = float(np.mean(scatter[c][dark]))
        model = np.sqrt(np.maximum(floor + 0.7 * np.maximum(expected[c] - level, 0) / session.gain_e_adu, floor))
        noise[c] = model * np.sqrt((w**2).sum()) / w.sum()
        stars[c] = whole[c] & (expected[c] - _smooth_sky(expected[c], whole[c]) > 1.0 * np.sqrt(floor))
    touched = session.touched.any(axis=0)
    return Places(
        truth,
        expected,
        noise,
        whole & ~stars & ~touched,
        stars & ~touched,
        whole & touched & ~stars,
        touched & stars,
        whole,
    )


def _smooth_sky(image: np.ndarray, whole: np.ndarray) -> np.ndarray:
    """Sky and nebula under the stars: median over 41 x 41 of the expected image, on every fourth pixel."""
    from scipy.ndimage import median_filter, zoom

    filled = np.where(np.isfinite(image), image, np.nanmedian(image[whole]))
    small = median_filter(filled[::4, ::4], 11)
    grown = zoom(small, 4, order=1)[: image.shape[0], : image.shape[1]]
    return np.pad(grown, [(0, image.shape[0] - grown.shape[0]), (0, image.shape[1] - grown.shape[1])], mode="edge")


def _rms(values: np.ndarray) -> float:
    return float(np.sqrt(np.mean(np.square(values)))) if values.size else float("nan")


def _blocks(image: np.ndarray, use: np.ndarray) -> np.ndarray:
    """Means of the 8 x 8 blocks of which three quarters are usable."""
    c, h, w = image.shape
    h, w = h // 8 * 8, w // 8 * 8

    def fold(a: np.ndarray) -> np.ndarray:
        return a[:, :h, :w].reshape(c, h // 8, 8, w // 8, 8).sum(axis=(2, 4))

    number = fold(use.astype(float))
    total = fold(np.where(use, image, 0).astype(float))
    good = number >= 48
    return np.asarray(total[good] / number[good])


def star_biases(result: np.ndarray, at: Places, session: Session, seeing: float) -> np.ndarray:
    """Relative flux error of each bright, whole star: sum over 2 FWHM around local peaks of the expected image."""
    from scipy.ndimage import maximum_filter

    biases = []
    radius = round(2 * seeing) + 1
    yy, xx = np.mgrid[-radius : radius + 1, -radius : radius + 1]
    disc = (yy**2 + xx**2) <= radius**2
    for c in range(len(result)):
        sky = _smooth_sky(at.expected[c], np.isfinite(at.expected[c]))
        light = at.expected[c] - sky
        peak = (light == maximum_filter(np.nan_to_num(light), 2 * radius + 1)) & (
            light > 60 * np.nanmedian(at.noise[c])
        )
        for y, x in zip(*np.nonzero(peak), strict=True):
            if not (radius <= y < light.shape[0] - radius and radius <= x < light.shape[1] - radius):
                continue
            window = np.s_[c, y - radius : y + radius + 1, x - radius : x + radius + 1]
            flux = float(light[window[1:]][disc].sum())
            error = float((result[window] - at.truth[window])[disc].sum())
            if at.whole[window][disc].all() and flux > 150 * float(np.sqrt((at.noise[window][disc] ** 2).sum())):
                biases.append(error / flux)
    return np.array(biases)


def row(session: Session, at: Places, result: np.ndarray) -> dict[str, float]:
    """One line of the table."""
    error = (result - at.truth) / at.noise
    holes = ~np.isfinite(result) & np.isfinite(at.truth)
    usable = at.sky & np.isfinite(result)
    quiet = (
        _blocks(result - at.expected, at.sky)
        if not holes.any()
        else _blocks(np.where(usable, result - at.expected, 0), usable)
    )
    biases = star_biases(result, at, session, float(np.nanmedian(session.seeing)))
    ok = np.isfinite(error)
    return {
        "sky": _rms(error[at.sky & ok]),
        "stars": _rms(error[at.stars & ok]),
        "trails": _rms(error[at.trails & ok]),
        "crossed": _rms(error[at.crossed & ok]),
        "noise": float(np.std(quiet) / np.std(_blocks(at.truth - at.expected, at.sky))),
        "flux %": 100 * float(np.median(biases)) if len(biases) else float("nan"),
        "worst %": 100 * float(biases[np.argmax(np.abs(biases))]) if len(biases) else float("nan"),
        "holes": float(holes.mean()),
    }


def table(
    kind: str,
    frames: int,
    size: tuple[int, int],
    seed: int,
    methods: tuple[str, ...] = METHODS,
    debayer: str = "mhc",
    **changes: object,
) -> dict[str, dict[str, float]]:
    """All lines of one night."""
    drizzled = debayer == "drizzle"
    peers = [m for m in methods if m in PEERS and not drizzled]
    methods = tuple(m for m in methods if not drizzled or m not in PEERS)
    settings = Settings(save=SaveSettings(final_pass=False), calibration=CalibrationSettings(debayer=debayer))  # type: ignore[arg-type]
    session = stack_night(night(kind, frames, *size, seed, **changes), settings, cube=bool(peers))
    at = places(session)
    for name in peers:
        began = time.perf_counter()
        session.results[name] = PEERS[name](session.cube, session.weights)
        session.seconds[name] = time.perf_counter() - began
    lines = {name: row(session, at, session.results[name]) for name in methods}
    print(
        f"\n{kind}, {frames} frames ({len(session.weights)} accepted), {size[0]}x{size[1]}, seed {seed} {changes or ''}"
    )
    head = list(next(iter(lines.values())))
    print(f"{'method':12}" + "".join(f"{name:>9}" for name in head) + f"{'s':>8}")
    for name, line in lines.items():
        print(f"{name:12}" + "".join(f"{value:9.3f}" for value in line.values()) + f"{session.seconds[name]:8.1f}")
    return lines


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--frames", type=int, nargs="+", default=[20, 40, 120])
    parser.add_argument("--kinds", nargs="+", default=["mono", "osc"])
    parser.add_argument("--size", default="480x360")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--debayer", default="mhc", choices=("mhc", "bilinear", "drizzle"))
    parser.add_argument("--seeing", type=float, help="FWHM of the night, px")
    parser.add_argument("--methods", nargs="+", default=list(METHODS))
    words = parser.parse_args()
    for kind in words.kinds:
        for frames in words.frames:
            changes = {} if words.seeing is None else {"fwhm_px": words.seeing}
            table(
                kind, frames, parse_size(words.size), words.seed, tuple(words.methods), debayer=words.debayer, **changes
            )


if __name__ == "__main__":
    main()
