"""Where in the sky: asking an installed solver, and naming what the picture shows.

Solving is left to a program that is installed anyway, ASTAP or astrometry.net; object names come from `pyongc`
(OpenNGC) where that is installed. This module runs programs, with a time limit; it writes in a temporary folder only.
"""

from __future__ import annotations

import importlib.util
import math
import re
import shutil
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from livestack.base.errors import FrameError
from livestack.formats.wcs import Cards, is_wcs_card, parse_header, read_wcs

SOLVERS = ("astap_cli", "astap", "solve-field")


@dataclass(frozen=True)
class PlateSolution:
    """What a solver found: WCS cards of the picture it was shown, and a sentence about it."""

    cards: Cards
    solver: str
    sentence: str


@dataclass(frozen=True)
class ObjectLabel:
    """A named object in the picture: centre in pixels (0-based, as stored), and its larger axis in pixels or None."""

    name: str
    x: float
    y: float
    size_px: float | None


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


def label_objects(cards: Cards, width: int, height: int, limit: int = 30) -> list[ObjectLabel]:
    """Name the deep-sky objects in the picture, the largest first.

    Messier, NGC and IC objects from OpenNGC; Messier numbers and common names are preferred. The list is empty where
    `pyongc` is not installed.

    Raises
    ------
    FrameError : the cards hold no usable WCS.
    """
    wcs = read_wcs(cards)
    if wcs is None:
        raise FrameError("Object names need a WCS, and the header has none that can be used; solve the picture first.")
    if importlib.util.find_spec("pyongc") is None:
        return []
    from pyongc import ongc

    centre = np.array(wcs.all_pix2world([[(width - 1) / 2, (height - 1) / 2]], 0)[0])
    scale_deg = math.sqrt(abs(float(np.linalg.det(wcs.pixel_scale_matrix))))
    radius = 0.5 * math.hypot(width, height) * scale_deg
    labels = []
    for item in _catalogue_around(ongc, float(centre[0]), float(centre[1]), radius):
        if item.rad_coords is None:
            continue
        ra, dec = np.degrees(item.rad_coords)
        if separation_deg(ra, dec, *centre) > min(radius * 1.05, 89.0):
            continue
        # The inverse of distortion terms may not converge far outside; the linear part is enough for a label.
        x, y = wcs.wcs_world2pix([[ra, dec]], 0)[0]
        if not (0 <= x < width and 0 <= y < height):
            continue
        major = item.dimensions[0]
        size = None if major is None else float(major) / 60 / scale_deg
        labels.append(ObjectLabel(_spoken_name(item), float(x), float(y), size))
    labels.sort(key=lambda label: (-(label.size_px or 0.0), label.name))
    return labels[:limit]


def _catalogue_around(ongc, ra: float, dec: float, radius: float) -> list:  # type: ignore[no-untyped-def]
    """Catalogue entries in a box on the sky that holds the circle; the box may run over 0 h or a pole."""
    low, high = max(-90.0, dec - radius), min(90.0, dec + radius)
    if max(abs(low), abs(high)) > 85:
        spans = [(-1.0, 361.0)]
    else:
        reach = min(180.0, radius / math.cos(math.radians(max(abs(low), abs(high)))))
        spans = [(ra - reach, ra + reach)]
        if spans[0][0] < 0:
            spans.append((spans[0][0] + 360, 361.0))
        if spans[0][1] > 360:
            spans.append((-1.0, spans[0][1] - 360))
    found = {}
    for start, stop in spans:
        for item in ongc.listObjects(minra=start, maxra=stop, mindec=low - 0.01, maxdec=high + 0.01):
            if (
                "Duplicate" not in item.type
                and "star" not in item.type.lower().split()
                and item.type != "Nonexistent object"
            ):
                found[item.name] = item
    return list(found.values())


def separation_deg(ra1: float, dec1: float, ra2: float, dec2: float) -> float:
    a1, d1, a2, d2 = (math.radians(v) for v in (ra1, dec1, ra2, dec2))
    haversine = math.sin((d2 - d1) / 2) ** 2 + math.cos(d1) * math.cos(d2) * math.sin((a2 - a1) / 2) ** 2
    return math.degrees(2 * math.asin(min(1.0, math.sqrt(haversine))))


def _spoken_name(item) -> str:  # type: ignore[no-untyped-def]
    messier, _, _, common, _ = item.identifiers
    number = f"M {int(messier[1:])}" if messier else re.sub(r"^(NGC|IC)0*(\d+.*)$", r"\1 \2", item.name)
    return f"{number} ({common[0]})" if common else number


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
