"""Where in the sky: asking a solver that is installed anyway, ASTAP or astrometry.net.

This module runs programs, with a time limit; it writes in a temporary folder only.
"""

from __future__ import annotations

import math
import shutil
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from livestack.formats.wcs import Cards, is_wcs_card, parse_header, read_wcs

SOLVERS = ("astap_cli", "astap", "solve-field")


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
    timeout_s: float = 120.0,
) -> tuple[PlateSolution | None, str]:
    """Ask an installed solver where a picture points.

    Parameters
    ----------
    image : a FITS file (or PNG, JPEG); it is only read.
    ra_deg, dec_deg, scale_arcsec_px : what is known beforehand; makes it fast.
    height_px : height of the picture, from which with the scale follows the field that ASTAP asks for.
    timeout_s : after so long the solver is stopped.

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
            done = subprocess.run(command, capture_output=True, timeout=timeout_s, check=False, cwd=folder)
        except subprocess.TimeoutExpired:
            return None, f"{name} was stopped after {timeout_s:g} s without a solution of {image.name}."
        except OSError as error:
            return None, f"{name} could not be started: {error.strerror}."
        found = base.with_suffix(".wcs")
        if not found.exists():
            return None, f"{name} found no solution for {image.name} (exit status {done.returncode})."
        cards = parse_header(found.read_bytes())
    wcs = read_wcs(cards)
    if wcs is None:
        return None, f"{name} wrote a WCS for {image.name} that cannot be understood."
    ra, dec = (float(v) for v in wcs.wcs.crval)
    scale = 3600 * math.sqrt(abs(float(np.linalg.det(wcs.pixel_scale_matrix))))
    sentence = f"{name} solved {image.name}: RA {ra:.4f} deg, Dec {dec:+.4f} deg, {scale:.3f} arcsec per pixel."
    return PlateSolution(tuple(card for card in cards if is_wcs_card(card[0])), name, sentence), sentence


def find_solver() -> str | None:
    """The solver that is installed, None without one."""
    return next((path for name in SOLVERS if (path := shutil.which(name))), None)


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
