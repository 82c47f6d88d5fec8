"""A simulated night on disk: files that appear as a camera writes them, and `truth.json` beside them."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path
from typing import Any, Literal

import numpy as np

from livestack.errors import UsageError
from livestack.frame import FrameKind
from livestack.simulate.exposure import SimulatedFrame, simulate_calibration, simulate_frame
from livestack.simulate.files import SINGLE_FILE_FORMATS, encode_frame
from livestack.simulate.scenario import Scenario
from livestack.simulate.sky import Sky, make_sky

Style = Literal["direct", "rename"]


def _appear(path: Path, content: bytes, pace_s: float, style: Style) -> None:
    """Let a file appear as a camera's does: growing under its own name, or renamed into place."""
    if style == "rename":
        beside = path.with_name(f".{path.name}.part")
        beside.write_bytes(content)
        os.replace(beside, path)
        return
    with path.open("wb") as file:
        pieces = 1 if pace_s <= 0 else 4
        step = -(-len(content) // pieces)
        for start in range(0, len(content), step):
            file.write(content[start : start + step])
            file.flush()
            if start + step < len(content):
                time.sleep(min(0.05, pace_s / 10))


def _truth_of(simulated: SimulatedFrame, file: str, position: int, scenario: Scenario) -> dict[str, Any]:
    """The line of one frame in `truth.json`."""
    conditions = simulated.conditions
    registrable = not conditions.dark and conditions.sky_number < len(scenario.objects)
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
    }


def _catalogue(sky: Sky) -> dict[str, Any]:
    """The stars of a target as columns, brightest first."""
    return {
        "x": np.round(sky.x, 4).tolist(),
        "y": np.round(sky.y, 4).tolist(),
        "flux_e": np.round(sky.flux_e, 1).tolist(),
        "r_over_g": np.round(sky.colour[:, 0], 4).tolist(),
        "b_over_g": np.round(sky.colour[:, 2], 4).tolist(),
    }


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
) -> Path:
    """Write the night into the folder `out` and return the path of its `truth.json`.

    Parameters
    ----------
    file_format : one of `livestack.simulate.files.FORMATS`.
    pace_s : time from one frame's appearance to the next; 0: as fast as it goes.
    twin : also write each frame without trails and cosmic rays, into `twin/`.
    masks : also write where trails, cosmic rays and defects are, as `masks/<frame>.npz`.
    calibration : number of bias, dark, flat and dark-flat frames each, into `calibration/`.
    style : "direct" grows under its own name; "rename" is written beside and renamed into place.
    """
    if file_format not in SINGLE_FILE_FORMATS:
        raise UsageError(f"format: found {file_format}, expected one of {', '.join(SINGLE_FILE_FORMATS)}.")
    out.mkdir(parents=True, exist_ok=True)
    extras = [name for name, wanted in (("twin", twin), ("masks", masks), ("calibration", calibration)) if wanted]
    for name in extras:
        (out / name).mkdir(exist_ok=True)
    for kind in (FrameKind.BIAS, FrameKind.DARK, FrameKind.FLAT, FrameKind.DARK_FLAT):
        for number in range(calibration):
            frame = simulate_calibration(scenario, kind, number)
            name = f"{kind.value}_{number:04d}.{file_format}"
            (out / "calibration" / name).write_bytes(encode_frame(scenario, frame, file_format))
    told = []
    began = time.monotonic()
    for index in range(scenario.frames):
        simulated = simulate_frame(scenario, index)
        name = f"{scenario.name}_{index:04d}.{file_format}"
        content = encode_frame(scenario, simulated.frame, file_format)
        content = content[: int(len(content) * min(simulated.conditions.written_share, 1.0))]
        time.sleep(max(0.0, began + index * pace_s - time.monotonic()))
        _appear(out / name, content, pace_s, style)
        told.append(_truth_of(simulated, name, 0, scenario))
        if twin:
            (out / "twin" / name).write_bytes(encode_frame(scenario, simulated.twin, file_format))
        if masks:
            parts = {kind: getattr(simulated, f"{kind}_mask") for kind in ("trail", "cosmic", "defect")}
            np.savez_compressed(out / "masks" / f"{name}.npz", **parts)
    truth = {
        "scenario": scenario.model_dump(mode="json"),
        "format": file_format,
        "transforms": "row-major 3x3, frame (x, y, 1) to reference (x, y, 1), 0-based, integers at pixel centres",
        "frames": told,
        "stars": {name: _catalogue(make_sky(scenario, number)) for number, name in enumerate(scenario.objects)},
    }
    path = out / "truth.json"
    path.write_text(json.dumps(truth, indent=1))
    return path
