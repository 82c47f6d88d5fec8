"""A small session's folder, made without the engine: camera files, journal and stack as the contract says."""

from __future__ import annotations

import math
from datetime import UTC, datetime, timedelta
from pathlib import Path

import cv2
import numpy as np
from astropy.io import fits

from livestack.base.journal import (
    FrameRecord,
    Journal,
    PsfRecord,
    ReferenceRecord,
    SessionStart,
    SessionStop,
    WarningRecord,
)
from livestack.base.settings import Settings

SKY, NOISE = 800.0, 12.0
SHAPE = (330, 420)


def draw_sky(shift: tuple[float, float], seed: int = 5) -> np.ndarray:
    """Stars of a fixed sky, moved by `shift` (x, y); (H, W) float64 above the background."""
    rng = np.random.default_rng(seed)
    image = np.zeros(SHAPE)
    yy, xx = np.mgrid[: SHAPE[0], : SHAPE[1]]
    for _ in range(45):
        x, y = rng.uniform(5, SHAPE[1] - 5) + shift[0], rng.uniform(5, SHAPE[0] - 5) + shift[1]
        height = 10 ** rng.uniform(2.0, 3.7)
        image += height * (1 + ((xx - x) ** 2 + (yy - y) ** 2) / 3.2**2) ** -3.0
    return image


def make_night(
    folder: Path, n: int = 12, object_name: str = "M 13", trail_in: int | None = 4, frames_gone: bool = False
) -> Path:
    """Write a night of `n` frames, two more refused, and its finished session; the session's folder."""
    rng = np.random.default_rng(11)
    camera, session = folder / "night", folder / "night" / "livestack" / "first"
    camera.mkdir(parents=True)
    (session / "m13").mkdir(parents=True)
    start = datetime(2026, 3, 14, 22, 10, tzinfo=UTC)
    layers, records = [], []
    for i in range(n + 2):
        angle = math.radians(0.03 * i)
        shift = (0.8 * i, -0.5 * i)
        image = SKY + draw_sky((-shift[0], -shift[1])) + rng.normal(0, NOISE, SHAPE)
        if i == trail_in:
            image[np.arange(SHAPE[0]), (40 + np.arange(SHAPE[0])) % SHAPE[1]] += 40 * NOISE
        name = f"light_{i:03d}.fits"
        if not frames_gone:
            fits.writeto(camera / name, np.clip(image, 0, 65535).astype(np.uint16))
        refused = i in (2, 7)
        matrix = ((1.0, 0.0, shift[0]), (0.0, 1.0, shift[1]), (0.0, 0.0, 1.0))
        records.append(
            FrameRecord(
                file=name, group="m13", status="refused" if refused else "stacked",
                reason="clouds" if refused else None,
                message="clouds: the stars reach 20 % of their usual light" if refused else "",
                transform=None if refused else matrix, method="asterisms", n_stars=40, n_matched=30, rms_px=0.05,
                fwhm_px=3.2 + 0.02 * i, eccentricity=0.3 + angle, sky_adu=SKY + i, noise_adu=NOISE,
                transparency=0.2 if refused else 1.0 - 0.005 * i, weight=None if refused else 1.0, exposure_s=60.0,
                date_obs=start + timedelta(seconds=75 * i),
            )
        )  # fmt: skip
        if not refused:
            layers.append(
                cv2.warpAffine(image, np.array(matrix)[:2], SHAPE[::-1], flags=cv2.INTER_LINEAR, borderValue=math.nan)
            )
    cube = np.stack(layers)
    centre = np.nanmedian(cube, axis=0)
    cube[np.abs(cube - centre) > 6 * NOISE + 0.2 * (centre - SKY)] = math.nan
    coverage = np.isfinite(cube).sum(axis=0)
    edge = np.stack([np.isnan(layer) for layer in layers]).sum(axis=0)
    header = fits.Header(
        {"OBJECT": object_name, "NCOMBINE": n, "XPIXSZ": 3.76, "FOCALLEN": 530.0, "INSTRUME": "Cam <1>"}
    )
    hdus = [fits.PrimaryHDU(np.where(coverage > 0, np.nanmean(cube, axis=0), np.nan).astype(np.float32), header)]
    maps = {
        "VARIANCE": np.nanvar(cube, axis=0), "WEIGHT": coverage, "COVERAGE": coverage,
        "REJLOW": 0 * coverage, "REJHIGH": n - edge - coverage,
    }  # fmt: skip
    hdus += [fits.ImageHDU(np.asarray(value, dtype=np.float32), name=name) for name, value in maps.items()]
    fits.HDUList(hdus).writeto(session / "m13" / "stack.fits")
    with Journal(session / "session.jsonl") as journal:
        journal.append(SessionStart(version="0.1.0", settings=Settings().model_dump(mode="json"), folder=str(camera)))
        journal.append(ReferenceRecord(group="m13", file="light_000.fits", message="sharpest"))
        for i, record in enumerate(records):
            journal.append(record)
            if i % 5 == 4:
                journal.append(PsfRecord(group="m13", n_frames=i + 1, n_stars=30, fwhm_px=3.3 - 0.01 * i))
        journal.append(WarningRecord(kind="focus", message="The stars grow: check the focus."))
        journal.append(SessionStop(status="saved", reason="the folder was quiet", n_stacked=n, n_refused=2))
    return session
