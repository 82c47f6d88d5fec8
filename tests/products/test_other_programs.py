"""stack.fits in the hands of other programs: size, channels and rows as astropy reads them."""

from __future__ import annotations

import csv
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
import sep
import tifffile
from astropy.io import fits

from livestack.base.settings import Settings
from livestack.engine.live_stack import LiveStack
from livestack.products.extras import write_products
from livestack.products.stack_files import build_header, write_stack
from livestack.simulate import named_scenario, simulate_frame

WIDTH, HEIGHT = 420, 300


def run(*command: str) -> str:
    ended = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    return ended.stdout + ended.stderr


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A mono, a colour and a bottom-up stack, and a composite."""
    folder = tmp_path_factory.mktemp("stacks")
    nights = {
        "mono": named_scenario("mono", frames=3, width=WIDTH, height=HEIGHT),
        "colour": named_scenario("osc", frames=3, width=WIDTH, height=HEIGHT),
        "bottom_up": named_scenario("osc", frames=3, width=WIDTH, height=HEIGHT, row_order="BOTTOM-UP"),
        "filters": named_scenario("filters", frames=6, width=WIDTH, height=HEIGHT, filters=("R", "G", "B")),
    }
    for name, night in nights.items():
        with LiveStack(Settings.model_validate({"save": {"formats": ["fits"]}})) as stack:
            for i in range(3):
                assert stack.add(simulate_frame(night, i).frame).stacked
            if name == "filters":
                assert len(write_products(folder, stack, stack.settings, "livestack 0", lambda _: None)) == 1
                continue
            result = stack.result()
            write_stack(folder / f"{name}.fits", result, build_header(result, stack.settings, "0", None, [], False))
    shutil.copy(next(folder.glob("*/composite.fits")), folder / "composite.fits")
    return folder


@pytest.mark.parametrize("name", ["mono", "colour", "bottom_up", "composite"])
def test_siril_opens_it_with_its_channels_and_rows(files: Path, name: str, tmp_path: Path) -> None:
    program = shutil.which("siril-cli")
    if program is None:
        pytest.skip("siril-cli is not installed")
    script = tmp_path / "look.ssf"
    script.write_text(f"requires 1.0.0\nload {name}\nsavetif32 {tmp_path / name}\nclose\n")
    said = run(program, "-d", str(files), "-s", str(script))
    data = np.asarray(fits.getdata(files / f"{name}.fits"), dtype=float)
    planes = data if data.ndim == 3 else data[None]
    assert f"{len(planes)} layer(s), {WIDTH}x{HEIGHT} pixels" in said, said
    seen = tifffile.imread(tmp_path / f"{name}.tif").astype(float)
    seen = np.moveaxis(seen, -1, 0) if seen.ndim == 3 else seen[None]
    # Siril always shows the first row of a FITS file at the bottom; a TIFF begins at the top.
    seen = seen[:, ::-1]
    assert seen.shape == planes.shape
    known = np.isfinite(planes).all(axis=0)
    for plane, shown in zip(planes, seen, strict=True):
        slope, level = np.polyfit(plane[known], shown[known], 1)
        assert slope > 0
        assert np.abs(slope * plane[known] + level - shown[known]).max() < 1e-3 * np.ptp(shown[known])
    assert fits.getheader(files / f"{name}.fits")["ROWORDER"] == ("BOTTOM-UP" if name == "bottom_up" else "TOP-DOWN")


@pytest.mark.parametrize("name", ["mono", "colour"])
def test_astap_finds_the_stars_where_they_are(files: Path, name: str, tmp_path: Path) -> None:
    program = shutil.which("astap_cli")
    if program is None:
        pytest.skip("astap_cli is not installed")
    copy = tmp_path / f"{name}.fits"
    shutil.copy(files / f"{name}.fits", copy)
    run(program, "-f", str(copy), "-extract", "20")
    with open(copy.with_suffix(".csv"), newline="") as file:
        theirs = np.array([[float(row["x"]), float(row["y"])] for row in csv.DictReader(file)])
    data = np.asarray(fits.getdata(copy), dtype=np.float32)
    image = np.ascontiguousarray(data if data.ndim == 2 else data.mean(axis=0))
    image = np.nan_to_num(image, nan=float(np.nanmedian(image)))
    sky = sep.Background(image)
    found = sep.extract(image - sky.back(), 10, err=sky.globalrms)
    mine = np.column_stack([found["x"], found["y"]])
    # 1-based, counted from the first row
    distance = np.hypot(*(theirs[:, None] - 1 - mine[None]).T).min(axis=0)
    assert len(theirs) >= 10
    assert np.median(distance) < 0.3
