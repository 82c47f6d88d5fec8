"""A simulated night on disk: files that appear as a camera writes them, and `truth.json` beside them.

`truth.json` is written last. It holds the scenario, one entry for each frame (file, index in a file of many frames,
transform, seeing, transparency, sky, artefacts, and what should become of it) and the stars of each target on the
reference grid. Where the sky is the real one it says of each frame and target where it looks, how it is turned, and
what a star of which magnitude leaves; `sky_truth` explains the words.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Literal

import numpy as np

from livestack.base.errors import SessionError, UsageError
from livestack.base.frame import Frame, FrameKind
from livestack.simulate.exposure import SimulatedFrame, simulate_calibration, simulate_frame
from livestack.simulate.files import FORMATS, encode_frame
from livestack.simulate.real_sky import aim_of, julian_year, read_catalogue
from livestack.simulate.scenario import Scenario
from livestack.simulate.ser import SerWriter
from livestack.simulate.sky import Sky, make_sky, seen_box

Style = Literal["direct", "rename"]
Put = Callable[[Frame, str, float], tuple[str, int]]
"""Puts a frame away under a stem, as much of the file as that share; says the file's name and the index in it."""

_CALIBRATION_KINDS = (FrameKind.BIAS, FrameKind.DARK, FrameKind.FLAT, FrameKind.DARK_FLAT)
_HEADERLESS = ("ser", "tiff", "png")


def _appear(path: Path, content: bytes, pace_s: float, style: Style) -> None:
    """Let a file appear as a camera's does: growing under its own name, or renamed into place."""
    if style == "rename":
        beside = path.with_name(f".{path.name}.part")
        beside.write_bytes(content)
        os.replace(beside, path)
        return
    pieces = 4 if pace_s > 0 else 1
    step = max(1, -(-len(content) // pieces))
    with path.open("wb") as file:
        for start in range(0, len(content), step):
            file.write(content[start : start + step])
            file.flush()
            if start + step < len(content):
                time.sleep(min(0.05, pace_s / 10))


def _as_format_can(scenario: Scenario, file_format: str) -> Scenario:
    """The night without those faults that the format cannot hold.

    A recording of many frames has no single file to cut short, and where there is no header none can say "dark".
    """
    faults = scenario.faults
    if file_format == "ser":
        faults = tuple(fault for fault in faults if fault.kind != "truncated")
    if file_format in _HEADERLESS:
        capped = {"kind": "capped"}
        faults = tuple(f.model_copy(update=capped) if f.kind == "dark" else f for f in faults)
    return scenario.model_copy(update={"faults": faults})


def _truth_of(simulated: SimulatedFrame, file: str, position: int, scenario: Scenario) -> dict[str, Any]:
    """The entry of one frame in `truth.json`."""
    conditions = simulated.conditions
    registrable = not conditions.dark and conditions.sky_number < len(scenario.objects)
    where = {}
    if scenario.real_sky and not conditions.dark:
        number, transparency = conditions.sky_number, conditions.transparency
        where = sky_truth(scenario, number, simulated.transform, transparency, conditions.sky_e)
    return {
        "file": file,
        "index": position,
        "object": conditions.object_name,
        "filter": conditions.filter_name,
        "date_obs": conditions.start.isoformat(),
        "transform": simulated.transform.tolist() if registrable else None,
        "fwhm_px": conditions.fwhm_px,
        "smear_px": conditions.smear_px,
        "transparency": conditions.transparency,
        "sky_e": conditions.sky_e,
        "stars_in_frame": len(simulated.stars),
        "faults": [fault.kind for fault in conditions.faults],
        "artefacts": list(simulated.artefacts),
        "expected": conditions.verdict,
        "reason": conditions.reason,
        **where,
    }


def sky_truth(
    scenario: Scenario, number: int, transform: np.ndarray, transparency: float, sky_e: float
) -> dict[str, Any]:
    """Where a frame of sky `number` looks, and its light in magnitudes.

    Parameters
    ----------
    transform : (3, 3) of the frame (`SimulatedFrame.transform`).
    transparency, sky_e : of the frame, as in `Conditions`.

    Returns
    -------
    ra_deg, dec_deg (ICRS) of the frame's middle; scale_arcsec a pixel there; position_angle_deg, north through east, of
    the direction against the stored rows; mirrored, True where the stored rows drawn from the top show the sky as a
    mirror does; zero_point_mag, the G of a star that leaves 1 ADU a second in this frame (green, or mono without
    filter), air and clouds included; sky_mag_arcsec2 on the scale of that zero point, None where there is no sky.
    """
    seen = aim_of(scenario, number).seen_through(transform, (scenario.width - 1) / 2, (scenario.height - 1) / 2)
    sky_mag = scenario.sky_magnitude_of(sky_e, transparency, seen.scale_arcsec) if sky_e > 0 else None
    return {
        "ra_deg": seen.ra_deg,
        "dec_deg": seen.dec_deg,
        "scale_arcsec": seen.scale_arcsec,
        "position_angle_deg": seen.position_angle_deg,
        "mirrored": seen.mirrored,
        "zero_point_mag": scenario.clear_zero_point_mag + 2.5 * math.log10(transparency),
        "sky_mag_arcsec2": sky_mag,
    }


def _fields(scenario: Scenario) -> dict[str, Any]:
    """`sky_truth` of each target's reference frame, and which stars it shows."""
    fields = {}
    for number, name in enumerate(scenario.objects):
        stars = make_sky(scenario, number).real
        assert stars is not None
        fields[name] = {
            **sky_truth(scenario, number, np.eye(3), 1.0, scenario.clear_sky_e),
            "extinction_mag": scenario.extinction_mag,
            "star_places_of_year": read_catalogue().year_of(julian_year(scenario.start)),
            "faintest_mag": stars.faintest_mag,
        }
    return fields


def _paths(scenario: Scenario, told: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Each comet and asteroid with its place on the reference in each frame, as columns."""
    minutes = [scenario.minutes_of(number) for number in range(len(told))]
    paths = []
    for mover in scenario.movers:
        x, y = zip(*(mover.place(when) for when in minutes), strict=True)
        paths.append({**mover.model_dump(), "x_ref": [round(v, 4) for v in x], "y_ref": [round(v, 4) for v in y]})
    return paths


def _catalogue(scenario: Scenario, sky: Sky) -> dict[str, Any]:
    """The stars of a target that some frame may show, as columns, brightest first."""
    left, top, right, bottom = seen_box(scenario, margin_px=5)
    seen = (sky.x > left) & (sky.x < right) & (sky.y > top) & (sky.y < bottom)
    real = {}
    if sky.real is not None:
        real = {
            "g_mag": np.round(sky.real.g_mag[seen], 4).tolist(),
            "ra_deg": np.round(sky.real.ra_deg[seen], 8).tolist(),
            "dec_deg": np.round(sky.real.dec_deg[seen], 8).tolist(),
            "source_id": sky.real.source_id[seen].tolist(),
        }
    return {
        "x": np.round(sky.x[seen], 4).tolist(),
        "y": np.round(sky.y[seen], 4).tolist(),
        "flux_e": np.round(sky.flux_e[seen], 1).tolist(),
        "r_over_g": np.round(sky.colour[seen, 0], 4).tolist(),
        "b_over_g": np.round(sky.colour[seen, 2], 4).tolist(),
        **real,
    }


def _write_truth(scenario: Scenario, path: Path, file_format: str, told: list[dict[str, Any]]) -> None:
    """Write `truth.json`; one line for each frame and each column of the catalogue."""
    parts = [
        f'"scenario": {scenario.model_dump_json()}',
        f'"format": "{file_format}"',
        '"transforms": "row-major 3x3, frame (x, y, 1) to reference (x, y, 1), 0-based, integers at pixel centres"',
        '"frames": [\n' + ",\n".join(json.dumps(entry) for entry in told) + "\n]",
    ]
    if scenario.movers:
        parts.append(f'"movers": {json.dumps(_paths(scenario, told))}')
    if scenario.real_sky:
        parts.append(f'"fields": {json.dumps(_fields(scenario))}')
    tables = []
    for number, name in enumerate(scenario.objects):
        columns = _catalogue(scenario, make_sky(scenario, number)).items()
        tables.append(f"{json.dumps(name)}: {{" + ",\n".join(f'"{key}": {json.dumps(c)}' for key, c in columns) + "}")
    parts.append('"stars": {' + ",\n".join(tables) + "}")
    path.write_text("{\n" + ",\n".join(parts) + "\n}\n", encoding="utf-8")


def _write_calibration(scenario: Scenario, folder: Path, file_format: str, count: int) -> None:
    """Write `count` frames of each kind of calibration into `folder`; as FITS where the format has no header."""
    folder.mkdir(parents=True, exist_ok=True)
    file_format = "fits" if file_format in _HEADERLESS else file_format
    for kind in _CALIBRATION_KINDS:
        for number in range(count):
            frame = simulate_calibration(scenario, kind, number)
            name = f"{kind.value}_{number:04d}.{file_format}"
            (folder / name).write_bytes(encode_frame(scenario, frame, file_format))


@contextlib.contextmanager
def _open_sink(scenario: Scenario, folder: Path, file_format: str, pace_s: float, style: Style) -> Iterator[Put]:
    """What puts frames into `folder`: a file for each, or one recording of all."""
    folder.mkdir(parents=True, exist_ok=True)
    if file_format == "ser":
        name, count = f"{scenario.name}.ser", 0
        with SerWriter(folder / name, scenario) as recording:

            def append(frame: Frame, stem: str, share: float) -> tuple[str, int]:
                nonlocal count
                recording.append(frame)
                count += 1
                return name, count - 1

            yield append
        return

    def write(frame: Frame, stem: str, share: float) -> tuple[str, int]:
        content = encode_frame(scenario, frame, file_format)
        name = f"{stem}.{file_format}"
        _appear(folder / name, content[: int(len(content) * min(share, 1.0))], pace_s, style)
        return name, 0

    yield write


def _wait_until(moment: float, stop: Callable[[], bool]) -> bool:
    """Sleep until the monotonic `moment`; False when `stop` said so before."""
    while not stop():
        left = moment - time.monotonic()
        if left <= 0:
            return True
        time.sleep(min(left, 0.1))
    return False


def write_session(
    scenario: Scenario,
    out: Path,
    *,
    file_format: str = "fits",
    pace_s: float = 0.0,
    twin: bool = False,
    masks: bool = False,
    calibration: int = 0,
    style: Style = "direct",
    stop: Callable[[], bool] = lambda: False,
) -> Path:
    """Write the night into the folder `out` and return the path of its `truth.json`.

    Parameters
    ----------
    file_format : one of `simulate.files.FORMATS`. `ser` makes one file of all frames.
    pace_s : time from one frame's appearance to the next; 0: as fast as it goes.
    twin : also write each frame without trails, movers and cosmic rays, into `twin/`.
    masks : also write where trails, cosmic rays and defects are, as `masks/<frame>.npz` with the boolean arrays trail,
        cosmic and defect (True = touched).
    calibration : number of bias, dark, flat and dark-flat frames each, into `calibration/`.
    style : "direct" grows under its own name; "rename" is written beside and renamed into place.
    stop : asked before each frame; True ends the night early, the truth is of the frames written so far.

    Raises
    ------
    UsageError : the format is unknown, or needs a package that is not there.
    SessionError : the folder cannot be written to.
    """
    if file_format not in FORMATS:
        raise UsageError(f"format: found {file_format}, expected one of {', '.join(FORMATS)}.")
    scenario = _as_format_can(scenario, file_format)
    told: list[dict[str, Any]] = []
    path = out / "truth.json"
    try:
        if calibration:
            _write_calibration(scenario, out / "calibration", file_format, calibration)
        if masks:
            (out / "masks").mkdir(parents=True, exist_ok=True)
        with contextlib.ExitStack() as sinks:
            put = sinks.enter_context(_open_sink(scenario, out, file_format, pace_s, style))
            put_twin = sinks.enter_context(_open_sink(scenario, out / "twin", file_format, 0, style)) if twin else None
            began = time.monotonic()
            for index in range(scenario.frames):
                simulated = simulate_frame(scenario, index)
                if not _wait_until(began + index * pace_s, stop):
                    break
                stem = f"{scenario.name}_{index:04d}"
                file, position = put(simulated.frame, stem, simulated.conditions.written_share)
                told.append(_truth_of(simulated, file, position, scenario))
                if put_twin:
                    put_twin(simulated.twin, stem, 1.0)
                if masks:
                    parts = {kind: getattr(simulated, f"{kind}_mask") for kind in ("trail", "cosmic", "defect")}
                    np.savez_compressed(out / "masks" / f"{stem}.npz", **parts)
        _write_truth(scenario, path, file_format, told)
    except OSError as error:
        raise SessionError(f"{out}: cannot write the simulated night ({error}); choose another folder.") from error
    return path
