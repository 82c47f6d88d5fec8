"""What is made of finished stacks: colour pictures on disk, flat stacks, solved plates, names, formats."""

from __future__ import annotations

import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
import tifffile
from astropy.io import fits
from astropy.wcs import WCS

from livestack.astrometry.objects import ObjectLabel
from livestack.base.settings import Settings
from livestack.engine.live_stack import LiveStack
from livestack.products.extras import draw_labels, put_wcs, write_flattened, write_products
from livestack.products.stack_files import build_header, write_pictures, write_stack
from livestack.simulate import named_scenario, simulate_frame

WIDTH, HEIGHT = 420, 300
SOLVER = """#!{python}
import sys
base = sys.argv[sys.argv.index("-o") + 1]
cards = dict(CTYPE1="'RA---TAN'", CTYPE2="'DEC--TAN'", CRVAL1=299.9015, CRVAL2=22.7211, CRPIX1=210.5, CRPIX2=150.5,
    CD1_1=-4.5e-4, CD1_2=0.0, CD2_1=0.0, CD2_2=4.5e-4)
lines = [f"{{k:8}}= {{v:>20}} / solved".ljust(80) for k, v in cards.items()]
open(base + ".wcs", "w").write("\\n".join([*lines, "END"]) + "\\n")
from pathlib import Path
Path({seen!r}).write_bytes(Path(sys.argv[sys.argv.index("-f") + 1]).read_bytes())
"""


def read_picture(path: Path) -> np.ndarray:
    picture = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
    assert picture is not None
    return picture


def settings(**save: object) -> Settings:
    return Settings.model_validate({"save": save})


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, LiveStack]:
    """A saved session of one target through three filters."""
    night = named_scenario("filters", frames=9, width=WIDTH, height=HEIGHT, filters=("R", "G", "B"), objects=("M 27",))
    output = tmp_path_factory.mktemp("session")
    stack = LiveStack()
    for i in range(9):
        assert stack.add(simulate_frame(night, i).frame).stacked
    for name in stack.groups:
        (output / name).mkdir()
        result = stack.result(name)
        write_stack(output / name / "stack.fits", result, build_header(result, stack.settings, "0", None, [], True))
    return output, stack


def test_a_colour_picture_is_written(saved: tuple[Path, LiveStack]) -> None:
    output, stack = saved
    said: list[str] = []
    written = write_products(output, stack, settings(solve="off"), "livestack 0", said.append)
    folder = output / "m-27-rgb"
    assert written == [folder / f"composite.{end}" for end in ("fits", "png", "tif")]
    assert said == ["Colour picture: RGB of R (3 frames, 90 s), G (3 frames, 90 s), B (3 frames, 90 s)."]
    with fits.open(folder / "composite.fits") as hdus:
        hdus.verify("exception")
        data, header = hdus[0].data, hdus[0].header
        assert data.shape == (3, HEIGHT, WIDTH)
        assert data.dtype == np.dtype(">f4")
        assert [header[f"EXPT{f}"] for f in "RGB"] == [90.0] * 3
        assert (header["EXPTOTAL"], header["NCOMBINE"], header["PALETTE"]) == (270.0, 9, "RGB")
        assert (header["OBJECT"], header["ROWORDER"]) == ("M 27", "TOP-DOWN")
        assert header["DATE-OBS"] < header["DATE-END"]
        assert "FILTER" not in header
        assert np.nanmedian(data[0]) == pytest.approx(header["SKYADU"], abs=3)
        # green is the standard: its own ADU, on the common sky
        green = stack.result("m-27-g").mean
        away = data[1] - (green - np.nanmedian(green) + np.nanmedian(data[1]))
        assert np.nanmax(np.abs(away)) < 0.01
    assert read_picture(folder / "composite.png").shape == (HEIGHT, WIDTH, 3)


def test_a_palette_that_lacks_a_filter_is_said(tmp_path: Path) -> None:
    chosen = Settings.model_validate({"render": {"palette": "SHO"}, "save": {"solve": "off"}})
    night = named_scenario("filters", frames=4, width=WIDTH, height=HEIGHT, filters=("R", "G"), objects=("M 27",))
    with LiveStack(chosen) as two:
        for i in range(4):
            assert two.add(simulate_frame(night, i).frame).stacked
        said: list[str] = []
        assert write_products(tmp_path, two, chosen, "livestack 0", said.append) == []
    assert said == ["No colour picture of m-27-r: the palette SHO needs other filters."]


def test_a_flattened_stack_keeps_its_stars_and_loses_its_slope(tmp_path: Path) -> None:
    rng = np.random.default_rng(5)
    y, x = np.mgrid[:HEIGHT, :WIDTH]
    slope = 0.4 * x - 0.2 * y
    data = 1000 + slope + rng.normal(0, 4, (HEIGHT, WIDTH))
    data[100:104, 200:204] += 5000
    data[:9] = np.nan
    path = tmp_path / "stack.fits"
    fits.writeto(path, data.astype(np.float32), fits.Header({"OBJECT": "M 27"}))
    flat_path = write_flattened(path)
    assert flat_path.name == "stack_flat.fits"
    flat, header = fits.getdata(flat_path), fits.getheader(flat_path)
    assert header["OBJECT"] == "M 27"
    assert "sky surface" in str(header["HISTORY"])
    assert np.isnan(flat[:9]).all()
    corners = [np.median(flat[a : a + 60, b : b + 80]) for a in (10, HEIGHT - 70) for b in (5, WIDTH - 90)]
    assert np.ptp(corners) < 2  # of 220 ADU
    assert np.nanmedian(flat) == pytest.approx(np.nanmedian(data), abs=3)
    assert (flat[100:104, 200:204] - np.nanmedian(flat)).mean() == pytest.approx(5000, rel=0.01)


# Plates


@pytest.fixture
def solver(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A stand-in for ASTAP is all there is on PATH; what it was shown comes to the path that is returned."""
    folder, seen = tmp_path / "bin", tmp_path / "seen.fits"
    folder.mkdir()
    script = folder / "astap_cli"
    script.write_text(SOLVER.format(python=sys.executable, seen=str(seen)))
    script.chmod(0o755)
    monkeypatch.setenv("PATH", str(folder))
    return seen


def test_a_solution_goes_into_every_header_and_names_onto_pictures(saved: tuple[Path, LiveStack], solver: Path) -> None:
    output, stack = saved
    before = {name: fits.getdata(output / name / "stack.fits", "VARIANCE") for name in stack.groups}
    said: list[str] = []
    written = write_products(output, stack, settings(solve="external"), "livestack 0", said.append)
    assert said[0] == "astap_cli solved m-27-r.fits: RA 299.9015 deg, Dec +22.7211 deg, 1.620 arcsec per pixel."
    shown = fits.getdata(solver)
    assert (shown.shape, shown.dtype.kind) == ((HEIGHT, WIDTH), "u")
    image = stack.result("m-27-r").mean
    known = np.isfinite(image)
    low, high = np.percentile(image[known], (0.5, 99.95))
    assert np.corrcoef(shown[known], image[known].clip(low, high))[0, 1] > 0.999
    for path in [*(output / name / "stack.fits" for name in stack.groups), output / "m-27-rgb" / "composite.fits"]:
        header = fits.getheader(path)
        wcs = WCS(header, naxis=2)
        np.testing.assert_allclose(wcs.wcs_pix2world([[209.5, 149.5]], 0)[0], (299.9015, 22.7211), atol=1e-6)
        assert header["OBJECT"] == "M 27"
    for name, variance in before.items():
        assert np.array_equal(fits.getdata(output / name / "stack.fits", "VARIANCE"), variance, equal_nan=True)
    labelled = {path.parent.name for path in written if path.name.endswith("_labelled.png")}
    pytest.importorskip("pyongc")
    assert labelled == {"m-27-r", "m-27-g", "m-27-b", "m-27-rgb"}
    plain, named = (read_picture(output / "m-27-rgb" / f"composite{end}.png") for end in ("", "_labelled"))
    changed = np.argwhere((plain != named).any(axis=2))
    assert 20 < len(changed) < 0.2 * WIDTH * HEIGHT


def test_without_a_solver_nothing_is_lost(
    saved: tuple[Path, LiveStack], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    output, stack = saved
    monkeypatch.setenv("PATH", str(tmp_path))
    said: list[str] = []
    written = write_products(output, stack, settings(solve="external"), "livestack 0", said.append)
    assert "No plate solver was found" in said[0]
    assert not any("labelled" in path.name for path in written)


def test_another_wcs_takes_the_place_of_the_old(tmp_path: Path) -> None:
    path = tmp_path / "stack.fits"
    old = fits.Header({"CTYPE1": "RA---TAN-SIP", "CTYPE2": "DEC--TAN-SIP", "A_ORDER": 2, "CDELT1": 1.0, "GAIN": 100})
    fits.HDUList([fits.PrimaryHDU(np.ones((4, 5), np.float32), old), fits.ImageHDU(np.zeros((4, 5)), name="WEIGHT")]
                 ).writeto(path)  # fmt: skip
    put_wcs(path, (("WCSAXES", 2, ""), ("CTYPE1", "RA---TAN", "projection"), ("CD1_1", 1e-4, "")))
    with fits.open(path) as hdus:
        header = hdus[0].header
        assert (header["CTYPE1"], header["CD1_1"], header["GAIN"]) == ("RA---TAN", 1e-4, 100)
        assert not {"CTYPE2", "A_ORDER", "CDELT1"} & set(header)
        assert hdus["WEIGHT"].data.shape == (4, 5)


def test_labels_are_drawn_where_the_objects_are_whichever_way_up() -> None:
    label = ObjectLabel("M 27 (Dumbbell)", 300.0, 60.0, 40.0)
    blank = np.zeros((HEIGHT, WIDTH, 3), np.uint16)
    for flipped, row in ((False, 60), (True, HEIGHT - 1 - 60)):
        drawn = draw_labels(blank, [label], flipped)
        assert drawn.dtype == np.uint8
        ring = np.argwhere(drawn[..., 0] > 100)
        near = ring[np.hypot(ring[:, 1] - 300, ring[:, 0] - row) < 21.5]
        radius = np.hypot(near[:, 1] - 300, near[:, 0] - row)
        assert np.median(radius) == pytest.approx(20, abs=1)
    at_edge = draw_labels(blank, [ObjectLabel("NGC 6853 with a long name", 415.0, 2.0, None)])
    assert at_edge[..., 0].any()


# Formats


def test_pictures_in_every_format(saved: tuple[Path, LiveStack], tmp_path: Path) -> None:
    _, stack = saved
    result = stack.result("m-27-g")
    chosen = settings(formats=["png", "png16", "tiff", "tiff32", "jpeg"])
    written = write_pictures(tmp_path, result, chosen, stack.bands, None)
    names = ["stack.png", "stack_16bit.png", "stack.tif", "stack_linear.tif", "stack.jpg"]
    assert [path.name for path in written] == names
    png, png16, tif, linear, jpeg = (read_picture(path) for path in written)
    assert [image.dtype for image in (png, png16, tif, linear, jpeg)] == [
        np.uint8, np.uint16, np.uint16, np.float32, np.uint8,
    ]  # fmt: skip
    assert np.array_equal(png16, tif)
    assert np.array_equal(png, (tif >> 8).astype(np.uint8))
    assert np.abs(jpeg.astype(int) - png).mean() < 3
    assert np.array_equal(linear, result.mean, equal_nan=True)
    with tifffile.TiffFile(written[2]) as file:
        words = file.pages[0].description.splitlines()
    assert {"object: M 27", "filter: G", "frames: 3", "exposure in all: 90 s"} <= set(words)


def test_only_what_is_asked_for_is_written(saved: tuple[Path, LiveStack], tmp_path: Path) -> None:
    _, stack = saved
    assert write_pictures(tmp_path, stack.result("m-27-g"), settings(formats=["fits"]), stack.bands, None) == []
    assert list(tmp_path.iterdir()) == []
