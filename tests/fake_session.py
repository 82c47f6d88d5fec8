"""A session that is none: publishes synthetic snapshots of a galaxy rising out of noise, records what it is asked."""

from __future__ import annotations

import threading
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import numpy as np

from livestack.astrometry import SkyMap
from livestack.astrometry.facts import SkyFacts
from livestack.photometry import COSMIC, Curves
from livestack.photometry.variability import variability
from livestack.session.snapshot import Controls, Slot, Snapshot, TrendPoint, Upright

REASONS = {4: "clouds", 9: "trailing", 10: "clouds", 17: "defocus"}


def paint_sky(width: int, height: int, seed: int = 1) -> np.ndarray:
    """Return (height, width, 3) float32 in 0..1: a spiral galaxy and some hundred stars, without noise."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[0:height, 0:width].astype(np.float32)
    dx, dy = (x - 0.52 * width) / height, (y - 0.47 * height) / height
    u, v = dx * 0.92 + dy * 0.39, (dy * 0.92 - dx * 0.39) / 0.55
    r, angle = np.hypot(u, v), np.arctan2(v, u)
    arms = 0.55 + 0.45 * np.cos(2 * angle - 14 * np.log(r + 0.05))
    disc, core = np.exp(-r / 0.12) * arms, np.exp(-((r / 0.035) ** 1.2))
    sky = np.full((height, width, 3), 0.055, np.float32)
    sky += disc[..., None] * np.array([0.42, 0.5, 0.72], np.float32)
    sky += core[..., None] * np.array([0.8, 0.68, 0.5], np.float32)
    for _ in range(width * height // 5000):
        sx, sy, flux = rng.uniform(0, width), rng.uniform(0, height), 0.08 * rng.pareto(1.3) + 0.05
        tint = np.array([1, rng.uniform(0.85, 1), rng.uniform(0.7, 1.1)], np.float32)
        x0, x1, y0, y1 = max(0, int(sx) - 9), int(sx) + 10, max(0, int(sy) - 9), int(sy) + 10
        spot = np.exp(-((x[y0:y1, x0:x1] - sx) ** 2 + (y[y0:y1, x0:x1] - sy) ** 2) / 2 / 1.6**2)
        sky[y0:y1, x0:x1] += np.minimum(flux, 3) * spot[..., None] * tint
    return sky


def place_stars(width: int, height: int, seed: int = 1) -> np.ndarray:
    """Return (n, 3) x, y, flux of the stars that `paint_sky` paints, the brightest first."""
    rng = np.random.default_rng(seed)
    stars = []
    for _ in range(width * height // 5000):
        stars.append((rng.uniform(0, width), rng.uniform(0, height), 0.08 * rng.pareto(1.3) + 0.05))
        rng.uniform(0.85, 1), rng.uniform(0.7, 1.1)  # the tint
    return np.array(sorted(stars, key=lambda star: -star[2]))


def make_curves(
    width: int, height: int, n_frames: int, upright: Upright, seed: int = 1, pause_s: float = 60.0, most: int = 120,
    dated: bool = True,
) -> Curves:  # fmt: skip
    """Return curves of the painted stars with known light.

    Star 3 fades by 0.3 mag after two fifths of 120 frames, star 5 pulsates by 0.2 mag in 50 minutes, all others are
    steady. Frame 7 of star 4 is flagged.
    """
    x, y, flux = place_stars(width, height, seed)[:most].T
    x, y = upright.to_reference(x, y)
    n, rng = len(x), np.random.default_rng(seed)
    frames = np.arange(n_frames)
    mag = -2.5 * np.log10(flux) - 10.0
    error = np.hypot(0.003, 0.02 * 10 ** (0.3 * (mag - np.median(mag))))[:, None] * np.ones(n_frames)
    left = error * rng.standard_normal((300, n)).T[:, :n_frames]
    left[3] += np.clip((frames - 48) / 30, 0, 1) * 0.3
    left[5] += 0.1 * np.sin(2 * np.pi * frames * pause_s / 3000.0)
    flags = np.zeros((n, n_frames), np.uint8)
    if n_frames > 7:
        left[4, 7] -= 0.2
        flags[4, 7] = COSMIC
    clean = np.where(flags == 0, left, np.nan)
    jd = 2461042.375 + frames * pause_s / 86400 if dated else np.full(n_frames, np.nan)
    return Curves(
        group="m31", x=x, y=y, mag=mag, rms_mmag=1e3 * np.nanstd(clean, axis=1), expected_mmag=1e3 * error[:, 0],
        variability=variability(clean, error, mag, np.zeros(n_frames)), n_good=(flags == 0).sum(axis=1),
        files=tuple(f"/night/Light_{k:04d}.fits" for k in frames), index=np.zeros(n_frames, int), jd=jd,
        mags=(mag[:, None] + left).astype(np.float32), errors=error.astype(np.float32),
        flux=np.ones((n, n_frames), np.float32), flags=flags,
    )  # fmt: skip


class FakeSession:
    """Publishes into `slot`: step by step with `step`, or by itself with `start`."""

    def __init__(self, width: int = 1200, height: int = 780, seed: int = 1) -> None:
        self.slot = Slot()
        self.asked: list[tuple[object, ...]] = []
        self._rng = np.random.default_rng(seed)
        self._truth = paint_sky(width, height, seed)
        self._mean = np.zeros_like(self._truth)
        self._stop = threading.Event()
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        self._frames = 0
        self.snapshot = Snapshot(session_name="night", object_name="M 31", group="m31", full_size=(width, height))
        self.controls = Controls(
            pause=lambda: self._ask("pause", state="paused"),
            resume=lambda: self._ask("resume", state="watching"),
            save_now=lambda: self._ask("save"),
            stop=lambda: self._ask("stop", state="ended"),
            new_target=lambda name: self._ask("target", name, object_name=name, group=name),
            set_note=lambda words: self._ask("note", words, note=words),
            set_object=lambda name: self._ask("object", name, object_name=name),
            set_stretch=lambda background, saturation: self._ask(
                "stretch",
                background,
                saturation,
                render=self.snapshot.render.model_copy(update={"background": background, "saturation": saturation}),
            ),
            show=lambda which: self._ask(
                "show", which, render=self.snapshot.render.model_copy(update={"moving": which})
            ),
            follow=lambda x, y: self._ask("follow", round(x), round(y)),
            change=lambda section, values: self._ask(
                "change",
                section,
                dict(values),
                **{section: getattr(self.snapshot, section).model_copy(update=dict(values))},
            ),
            set_goal=lambda name, seconds: self._ask(
                "goal", name, seconds, goals={**self.snapshot.goals, name: seconds}
            ),
            remove_frame=lambda name: self._ask("remove", name),
        )

    def _ask(self, *words: object, **change: object) -> str:
        self.asked.append(words)
        self.publish(messages=(*self.snapshot.messages, " ".join(map(str, words))), **change)
        return f"{words[0]}: done."

    def measure(self, n_frames: int, upright: Upright | None = None, **how: object) -> None:
        """Publish the light of the painted stars in so many frames, see `make_curves`."""
        width, height = self.snapshot.full_size
        upright = upright or Upright(-16, -32, height)
        self.publish(curves=make_curves(width, height, n_frames, upright, **how), upright=upright)  # type: ignore[arg-type]

    def solve(self, sky: SkyMap | None, upright: Upright | None = None, **facts: object) -> None:
        """Publish where the picture lies: `sky` is a map of the picture's own pixels; None: it is not known."""
        upright = upright or Upright(-16, -32, self.snapshot.full_size[1], bottom_up=True)
        if sky is None:
            self.publish(sky=None)
            return
        reference = sky.moved(np.linalg.inv(upright.transform), sky.width, sky.height)
        known = SkyFacts(reference, "livestack", 0.4, 87, **facts)  # type: ignore[arg-type]
        self.publish(sky=known, upright=upright)

    def publish(self, **change: object) -> None:
        """Publish the snapshot with a change."""
        with self._lock:
            self.snapshot = replace(self.snapshot, sequence=self.snapshot.sequence + 1, **change)  # type: ignore[arg-type]
            self.slot.publish(self.snapshot)

    def step(self) -> None:
        """One more frame: stacked, or refused where `REASONS` says so."""
        frame, before = self._frames, self.snapshot
        self._frames += 1
        raw = self._truth + np.float32(0.16) * self._rng.standard_normal(self._truth.shape, np.float32)
        reason = REASONS.get(frame)
        name = f"Light_{frame:04d}.fits"
        point = TrendPoint(
            frame, name, "refused" if reason else "stacked",
            datetime(2026, 1, 1, 22, tzinfo=UTC) + timedelta(seconds=30 * frame),
            None if reason == "clouds" else 2.9 + 0.4 * float(np.sin(frame / 5)), 0.41, 900 + 3.0 * frame,
            0.3 if reason == "clouds" else 0.97 - 0.002 * frame, 120, 0.1 * frame, 0.0, 0.0,
            reason, f"{name} refused: {reason}" if reason else None,
        )  # fmt: skip
        common = {"state": "watching", "trend": (*before.trend, point), "last_frame": self._show(raw[::2, ::2])}
        if reason:
            self.publish(n_refused=before.n_refused + 1, messages=(*before.messages, point.message), **common)
            return
        n = before.n_stacked + 1
        self._mean += (raw - self._mean) / n
        full = self._show(self._mean)
        self.publish(
            n_stacked=n, n_session=n, picture_sequence=before.picture_sequence + 1,
            picture=np.ascontiguousarray(full[::2, ::2]),
            region=lambda x, y, w, h: full[y : y + h, x : x + w].copy(), exposure_s={"L": 30.0 * n},
            fwhm_px=point.fwhm_px, fwhm_arcsec=2.2, eccentricity=0.41, sky_adu=point.sky_adu, snr_gain=0.97 * n**0.5,
            snr_ideal=n**0.5,
            noise_history=(*before.noise_history, (n, (1.03 if n > 1 else 1) / n**0.5)), **common,
        )  # fmt: skip

    @staticmethod
    def _show(linear: np.ndarray) -> np.ndarray:
        return (255 * np.clip(linear, 0, 1) ** 0.8).astype(np.uint8)

    def start(self, pause_s: float = 0.5) -> None:
        """Step by itself from a thread until `stop`."""

        def run() -> None:
            while not self._stop.wait(pause_s):
                if self.snapshot.state != "paused":
                    self.step()

        self._thread = threading.Thread(target=run, daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """End the thread."""
        self._stop.set()
        if self._thread is not None:
            self._thread.join()
