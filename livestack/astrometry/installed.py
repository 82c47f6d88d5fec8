"""Where in the sky: asking a solver that is installed anyway, ASTAP or astrometry.net, with its deeper catalogue.

This module runs programs, with a time limit; it writes in a temporary folder only. They are shown a picture that is
drawn from the stars we found, so that hot pixels, gradients and the size of the frame do not matter to them.
"""

from __future__ import annotations

import math
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from astropy.io import fits
from scipy.spatial import cKDTree

from livestack.astrometry.catalogue import Catalogue
from livestack.astrometry.headers import map_of_cards
from livestack.astrometry.sky_map import SkyMap
from livestack.astrometry.solver import Hint, Solved, Unsolved, catalogue_stars
from livestack.formats.wcs import Cards, is_wcs_card, parse_header, read_wcs

SOLVERS = ("astap_cli", "astap", "solve-field")
TIMEOUT_S = 120.0
POLL_S = 0.05
DRAWN_SIDE_PX = 2400
"""The longer side of a picture that is drawn for a solver, at most."""
DRAWN_STARS = 500
DRAWN_SIGMA_PX = 1.4
MATCH_PX = 2.0
"""A star of our catalogue is met within so many pixels of the drawn picture."""
LEAST_EXPECTED, LEAST_MET = 4, 0.5
"""A solution under which so many stars of our catalogue ought to be seen, and fewer than this share are, is none."""


@dataclass(frozen=True)
class PlateSolution:
    """What a solver found: WCS cards of the picture it was shown, and a sentence about it."""

    cards: Cards
    solver: str
    sentence: str


def solve_plate(
    image: Path,
    ra_deg: float | None = None,
    dec_deg: float | None = None,
    scale_arcsec_px: float | None = None,
    height_px: int | None = None,
    timeout_s: float = TIMEOUT_S,
    cancelled: threading.Event | None = None,
) -> tuple[PlateSolution | None, str]:
    """Ask an installed solver where a picture points.

    Parameters
    ----------
    image : a FITS file (or PNG, JPEG); it is only read.
    ra_deg, dec_deg, scale_arcsec_px : what is known beforehand; makes it fast.
    height_px : height of the picture, from which with the scale follows the field that ASTAP asks for.
    timeout_s : after so long the solver is stopped.
    cancelled : when set, it is stopped at once.

    Returns
    -------
    The solution, or None; and a sentence on what happened. Without a solver, or without success, nothing is raised.
    """
    solver = find_solver()
    if solver is None:
        looked = ", ".join(SOLVERS)
        return None, f"No plate solver was found ({looked}); install ASTAP (astap_cli) or astrometry.net."
    name = Path(solver).name
    with tempfile.TemporaryDirectory(prefix="livestack-solve-") as folder:
        base = Path(folder) / "solved"
        if name == "solve-field":
            command = _astrometry_command(solver, image, base, ra_deg, dec_deg, scale_arcsec_px, timeout_s)
        else:
            command = _astap_command(solver, image, base, ra_deg, dec_deg, scale_arcsec_px, height_px)
        try:
            status = _run(command, folder, timeout_s, cancelled or threading.Event())
        except subprocess.TimeoutExpired:
            after = "early" if cancelled is not None and cancelled.is_set() else f"after {timeout_s:g} s"
            return None, f"{name} was stopped {after} without a solution of {image.name}."
        except OSError as error:
            return None, f"{name} could not be started: {error.strerror}."
        found = base.with_suffix(".wcs")
        if not found.exists():
            return None, f"{name} found no solution for {image.name} (exit status {status})."
        cards = parse_header(found.read_bytes())
    wcs = read_wcs(cards)
    if wcs is None:
        return None, f"{name} wrote a WCS for {image.name} that cannot be understood."
    ra, dec = (float(v) for v in wcs.wcs.crval)
    scale = 3600 * math.sqrt(abs(float(np.linalg.det(wcs.pixel_scale_matrix))))
    sentence = f"{name} solved {image.name}: RA {ra:.4f} deg, Dec {dec:+.4f} deg, {scale:.3f} arcsec per pixel."
    return PlateSolution(tuple(card for card in cards if is_wcs_card(card[0])), name, sentence), sentence


def solve_stars(
    xy: np.ndarray, flux: np.ndarray, width: int, height: int, hint: Hint, catalogue: Catalogue,
    timeout_s: float = TIMEOUT_S, cancelled: threading.Event | None = None,
) -> Solved | Unsolved:  # fmt: skip
    """Ask an installed solver where stars lie.

    Parameters
    ----------
    xy : (n, 2) their places, px, 0-based; flux : (n,) ADU; both in any order.
    width, height : of the picture, px.
    hint : what is known beforehand.
    catalogue : ours; what the solver says is held against it.
    timeout_s : after so long the solver is stopped.
    cancelled : when set, it is stopped at once.
    """
    usable = np.flatnonzero(np.isfinite(xy).all(axis=1) & (flux > 0))
    order = usable[np.argsort(-flux[usable], kind="stable")][:DRAWN_STARS]
    shrink = max(1.0, max(width, height) / DRAWN_SIDE_PX)
    picture = draw_stars((np.asarray(xy)[order] + 0.5) / shrink - 0.5, flux[order], (width, height), shrink)
    scale = None if hint.scale_arcsec is None else hint.scale_arcsec * shrink
    with tempfile.TemporaryDirectory(prefix="livestack-plate-") as folder:
        plate = Path(folder) / "stars.fits"
        fits.writeto(plate, picture)
        found, sentence = solve_plate(plate, hint.ra_deg, hint.dec_deg, scale, picture.shape[0], timeout_s, cancelled)
    drawn = None if found is None else map_of_cards(found.cards, picture.shape[1], picture.shape[0])
    if found is None or drawn is None:
        return Unsolved(sentence.rstrip("."))
    back = np.array([[shrink, 0, 0.5 * shrink - 0.5], [0, shrink, 0.5 * shrink - 0.5], [0, 0, 1]])
    return _held_against(catalogue, drawn.moved(back, width, height), found.solver, np.asarray(xy), order, shrink)


def draw_stars(xy: np.ndarray, flux: np.ndarray, size: tuple[int, int], shrink: float) -> np.ndarray:
    """(H, W) uint16: round stars on a sky with a little noise, brightest first as given, all well above it.

    Parameters
    ----------
    xy : (n, 2) px of the drawn picture; flux : (n,) of which only the ratios count.
    size : width and height before, px; both are divided by `shrink`.
    """
    width, height = (max(1, round(side / shrink)) for side in size)
    picture = np.random.default_rng(1).normal(1000.0, 12.0, (height, width)).astype(np.float32)
    # brightness by its root: the faintest of many is as clearly seen as the brightest is not clipped
    peaks = 400.0 + 40000.0 * np.sqrt(flux / flux.max()) if len(flux) else flux
    reach = round(5 * DRAWN_SIGMA_PX)
    for (x, y), peak in zip(xy, peaks, strict=True):
        left, top = max(0, round(x) - reach), max(0, round(y) - reach)
        across, down = (
            np.arange(left, min(width, round(x) + reach + 1)),
            np.arange(top, min(height, round(y) + reach + 1)),
        )
        if len(across) and len(down):
            spot = np.exp(-((down[:, None] - y) ** 2 + (across - x) ** 2) / (2 * DRAWN_SIGMA_PX**2))
            picture[top : top + len(down), left : left + len(across)] += peak * spot
    return np.clip(picture, 0, 65535).astype(np.uint16)


def _held_against(
    catalogue: Catalogue, sky: SkyMap, solver: str, xy: np.ndarray, order: np.ndarray, shrink: float
) -> Solved | Unsolved:
    """What a solver found, with the stars of our catalogue that it meets; not believed where it misses them."""
    ra, dec = sky.centre
    index, field = catalogue_stars(sky, catalogue)
    places = sky.to_pixels(field.sky)
    with np.errstate(invalid="ignore"):
        inside = ((places > 0) & (places < (sky.width - 1, sky.height - 1))).all(axis=1)
    expected = np.flatnonzero(inside)[: len(order)]
    away, mine = cKDTree(xy[order]).query(places[expected])
    met = away < MATCH_PX * shrink
    if len(expected) >= LEAST_EXPECTED and met.mean() < LEAST_MET:
        return Unsolved(
            f"not solved: {solver} says RA {ra:.4f} deg, Dec {dec:+.4f} deg, but of {len(expected)} bright stars there "
            f"the picture shows {met.sum()}"
        )
    wide, high = sky.field_deg
    said = (
        f"solved by {solver}: RA {ra:.4f} deg, Dec {dec:+.4f} deg, {sky.scale_arcsec:.3f} arcsec per pixel, "
        f"{wide:.2f} x {high:.2f} deg"
    )
    rms = float(np.sqrt(np.mean(away[met] ** 2))) if met.any() else math.nan
    return Solved(sky, solver, said, order[mine[met]], index[expected[met]], rms, math.nan, field)


def find_solver() -> str | None:
    """The solver that is installed, None without one."""
    return next((path for name in SOLVERS if (path := shutil.which(name))), None)


def _run(command: list[str], folder: str, timeout_s: float, cancelled: threading.Event) -> int:
    """Run a program behind what else runs, and end it with all that it has started; its exit status.

    Raises
    ------
    subprocess.TimeoutExpired : it took too long, or was cancelled.
    OSError : it cannot be started.
    """
    behind = {"creationflags": 0x4000 | 0x08000000} if sys.platform == "win32" else {"start_new_session": True}
    silent = subprocess.DEVNULL
    with subprocess.Popen(command, stdin=silent, stdout=silent, stderr=silent, cwd=folder, **behind) as process:
        if sys.platform != "win32":
            os.setpriority(os.PRIO_PGRP, process.pid, 10)
        end = time.monotonic() + timeout_s
        while process.poll() is None:
            if time.monotonic() >= end or cancelled.wait(POLL_S):
                if sys.platform == "win32":
                    process.kill()
                else:
                    os.killpg(process.pid, signal.SIGKILL)
                raise subprocess.TimeoutExpired(command, timeout_s)
    return process.returncode


def _astap_command(
    solver: str, image: Path, base: Path, ra: float | None, dec: float | None, scale: float | None, height: int | None
) -> list[str]:
    command = [solver, "-f", str(image), "-o", str(base), "-wcs"]
    if scale is not None and height is not None:
        command += ["-fov", f"{scale * height / 3600:.4f}"]
    if ra is not None and dec is not None:
        command += ["-ra", f"{ra / 15:.6f}", "-spd", f"{dec + 90:.6f}", "-r", "30"]
    else:
        command += ["-r", "180"]
    return command


def _astrometry_command(
    solver: str, image: Path, base: Path, ra: float | None, dec: float | None, scale: float | None, timeout_s: float
) -> list[str]:
    command = [solver, "--overwrite", "--no-plots", "--dir", str(base.parent), "--wcs", f"{base}.wcs"]
    command += ["--new-fits", "none", "--cpulimit", f"{max(1, round(timeout_s))}"]
    if scale is not None:
        command += ["--scale-units", "arcsecperpix", "--scale-low", f"{0.8 * scale:.5f}"]
        command += ["--scale-high", f"{1.2 * scale:.5f}"]
    if ra is not None and dec is not None:
        command += ["--ra", f"{ra:.6f}", "--dec", f"{dec:.6f}", "--radius", "10"]
    return [*command, str(image)]
