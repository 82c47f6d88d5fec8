"""An X-Trans camera's FITS: from 36 letters in the header to a colour stack."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits

from livestack import Settings
from livestack.base.errors import MasterError
from livestack.base.frame import Frame, FrameInfo, FrameKind
from livestack.base.resources import session_bytes
from livestack.calibration.calibrate import MatchedMasters
from livestack.calibration.defects import DefectMap
from livestack.calibration.masters import build_masters, load_masters
from livestack.calibration.masters.library import inverse_flat
from livestack.engine.prepare import file_to_stack_pixels, prepare
from livestack.formats import read_frame, read_info
from livestack.kernels.bands import Bands
from livestack.products.report.samples import read_planes
from tests.calibration.test_xtrans import PATTERN, mosaic_of, star
from tests.heard import HeardStack

HEIGHT, WIDTH = 220, 300
SKY = np.array([900.0, 1500.0, 700.0])
STARS = np.array([0.6, 1.0, 0.5])
HOT = (np.array([40, 100, 171]), np.array([60, 201, 122]))


def exposure(dx: float, dy: float, seed: int, n_stars: int = 40) -> np.ndarray:
    """(H, W) uint16: stars of FWHM 3 px shifted by (dx, dy), sky, noise, three hot pixels."""
    rng = np.random.default_rng(7)
    light = np.zeros((HEIGHT, WIDTH))
    for x, y, magnitude in rng.uniform((10, 10, 4), (WIDTH - 10, HEIGHT - 10, 5), (n_stars, 3)):
        light += 10**magnitude * star(light.shape, x + dx, y + dy, 3.0)
    mosaic = mosaic_of(SKY[:, None, None] + STARS[:, None, None] * light, PATTERN)
    mosaic += np.random.default_rng(seed).normal(0, 15, mosaic.shape)
    mosaic[HOT] += 3000
    return mosaic.astype(np.uint16)


def written(folder: Path, number: int, keyword: str = "BAYERPAT") -> Path:
    path = folder / f"light_{number}.fits"
    header = fits.Header([(keyword, PATTERN), ("EXPTIME", 10.0), ("IMAGETYP", "Light Frame")])
    fits.PrimaryHDU(exposure(1.3 * number, -0.7 * number, number), header).writeto(path)
    return path


@pytest.mark.parametrize("keyword", ["BAYERPAT", "XTRANS"])
def test_frames_are_stacked_in_colour_and_it_is_said_once(tmp_path: Path, keyword: str) -> None:
    with HeardStack() as stack:
        for number in range(5):
            outcome = stack.add(read_frame(written(tmp_path, number, keyword)))
            assert outcome.status == "stacked", outcome.message
            assert outcome.transform is not None
            np.testing.assert_allclose(outcome.transform[:2, 2], (-1.3 * number, 0.7 * number), atol=0.03)
        mean, said = stack.result().mean, stack.notices
    assert mean.shape == (3, HEIGHT, WIDTH)
    np.testing.assert_allclose(np.nanmedian(mean, axis=(1, 2)), SKY, rtol=0.01)
    assert len([sentence for sentence in said if "X-Trans" in sentence]) == 1


def test_what_the_user_says_counts(tmp_path: Path) -> None:
    frame = read_frame(written(tmp_path, 0))
    with HeardStack(Settings.model_validate({"calibration": {"bayer": "none"}})) as stack:
        stack.add(frame)
        assert stack.result().mean.shape == (HEIGHT, WIDTH)
        assert len(stack.notices) >= 1
        assert "the headers say X-Trans; the frames are taken for mono, as --bayer says." in stack.notices


def test_noise_has_no_stars_and_hot_pixels_are_none(bands: Bands) -> None:
    info = FrameInfo(WIDTH, HEIGHT, xtrans=PATTERN, saturation_adu=65535.0)
    frame = Frame(exposure(0, 0, 3, n_stars=0), info)
    made = prepare(frame, None, Settings(), bands)
    assert made.data is not None
    assert made.data.shape == (3, HEIGHT, WIDTH)
    assert (made.frame.info.xtrans, made.frame.info.planes, made.frame.channels) == (None, 3, 3)
    assert len(made.stars) == 0
    assert np.abs(made.data - SKY[:, None, None]).max() < 6.5 * 15
    left = prepare(frame, None, Settings.model_validate({"calibration": {"cosmetic": False}}), bands)
    assert left.data is not None
    assert left.data.max() > SKY.max() + 500


def test_defects_of_the_masters_have_no_weight(bands: Bands) -> None:
    info = FrameInfo(WIDTH, HEIGHT, xtrans=PATTERN)
    column = np.zeros((HEIGHT, WIDTH), bool)
    column[:, 150] = True
    data = exposure(0, 0, 3, n_stars=0)
    data[:, 150] = 30000
    masters = MatchedMasters(info, defects=DefectMap.of(column.shape, column=column))
    made = prepare(Frame(data, info), masters, Settings(), bands)
    assert made.data is not None
    assert np.abs(made.data - SKY[:, None, None]).max() < 6.5 * 15


def test_half_size_lies_where_the_matrix_says(bands: Bands) -> None:
    half = Settings.model_validate({"calibration": {"debayer": "superpixel"}})
    info = FrameInfo(WIDTH, HEIGHT, xtrans=PATTERN)
    frame = Frame(exposure(0, 0, 1), info)
    small, whole = (prepare(frame, None, settings, bands) for settings in (half, Settings()))
    assert small.data is not None
    assert small.data.shape == (3, HEIGHT // 2, WIDTH // 2)
    matrix = file_to_stack_pixels(info, half)
    assert np.array_equal(file_to_stack_pixels(info, Settings()), np.eye(3))
    shown = matrix @ np.stack([whole.stars.x[:5], whole.stars.y[:5], np.ones(5)])
    near = np.hypot(small.stars.x[:, None] - shown[0], small.stars.y[:, None] - shown[1]).min(axis=0)
    assert near.max() < 0.05


def test_a_coloured_lamp_stays_out_of_the_flat() -> None:
    lamp = mosaic_of(np.ones((3, 60, 72)) * np.array([2.0, 1.0, 0.4])[:, None, None], PATTERN)
    np.testing.assert_allclose(inverse_flat(lamp, PATTERN), 1.0, rtol=1e-5)


def test_memory_counts_three_planes() -> None:
    mono = FrameInfo(6000, 4000)
    held = session_bytes(replace(mono, xtrans=PATTERN), Settings())
    assert held > session_bytes(replace(mono, bayer="RGGB"), Settings()) > session_bytes(mono, Settings())


def test_the_report_reads_them_in_colour(tmp_path: Path) -> None:
    path = written(tmp_path, 0)
    assert read_info(path).xtrans == PATTERN
    assert read_planes(path, 0).shape == (3, HEIGHT, WIDTH)
    assert read_planes(path, 0, "superpixel").shape == (3, HEIGHT // 2, WIDTH // 2)
    assert read_planes(path, 0, bayer="none").shape == (1, HEIGHT, WIDTH)


def test_masters_are_built_and_fit_by_the_pattern(tmp_path: Path) -> None:
    lamp = np.array([14000.0, 30000.0, 9000.0])[:, None, None] * np.linspace(0.9, 1.1, WIDTH)
    field = mosaic_of(np.broadcast_to(lamp, (3, HEIGHT, WIDTH)), PATTERN)
    (tmp_path / "flats").mkdir()
    for number in range(5):
        data = np.random.default_rng(number).normal(field, 50).astype(np.uint16)
        data[90, 91] = 100
        cards = fits.Header([("BAYERPAT", PATTERN), ("IMAGETYP", "Flat"), ("ROWORDER", "BOTTOM-UP")])
        fits.PrimaryHDU(data[::-1].copy(), cards).writeto(tmp_path / "flats" / f"flat_{number}.fits")
    report = build_masters([tmp_path / "flats"], tmp_path / "masters")
    assert [built.kind.value for built in report.masters] == ["flat"]
    library = load_masters(tmp_path / "masters")
    light = read_info(next((tmp_path / "flats").glob("*.fits")))
    assert read_info(report.masters[0].path).xtrans == light.xtrans
    matched = library.match(replace(light, kind=FrameKind.LIGHT))
    assert matched.inverse_flat is not None
    assert matched.defects is not None
    slope = np.broadcast_to(1 / np.linspace(0.9, 1.1, WIDTH), (HEIGHT, WIDTH))
    good = np.isfinite(matched.inverse_flat)
    np.testing.assert_allclose(matched.inverse_flat[good], slope[good], rtol=0.03)
    assert matched.defects.indices.tolist() == [(HEIGHT - 1 - 90) * WIDTH + 91]
    data = np.ascontiguousarray(exposure(0, 0, 1)[::-1])
    with HeardStack(masters=library) as stack:
        assert stack.add(Frame(data, FrameInfo(WIDTH, HEIGHT, xtrans=light.xtrans))).status == "stacked"
        # they had no weight in the mosaic: planes are not repaired again
        assert [group.defects.by_masters for group in stack.groups.values()] == [None]
    turned = "".join(np.array(list(PATTERN)).reshape(6, 6).T.ravel())
    with pytest.raises(MasterError, match="X-Trans"):
        library.match(replace(light, xtrans=turned))
