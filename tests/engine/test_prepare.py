"""A frame on its own: the parts of its pixels are the whole's, nothing is changed, copies are known."""

from __future__ import annotations

import numpy as np
import pytest

from livestack.base.frame import Frame, FrameInfo
from livestack.base.settings import Settings
from livestack.calibration.defects import DefectMap
from livestack.engine.developer import Developer
from livestack.engine.prepare import calibrate, file_to_stack_pixels, fingerprint, prepare
from livestack.kernels.bands import Bands


def make(bayer: str | None, planes: int = 1, seed: int = 1) -> Frame:
    rng = np.random.default_rng(seed)
    shape = (90, 130) if planes == 1 else (3, 90, 130)
    return Frame(rng.integers(100, 4000, shape).astype(np.uint16), FrameInfo(130, 90, bayer=bayer), label="made")


def some_defects(shape: tuple[int, int]) -> DefectMap:
    rng = np.random.default_rng(3)
    column = np.zeros(shape, bool)
    column[20:, 77] = True
    return DefectMap.of(shape, hot=rng.random(shape) < 0.004, column=column)


@pytest.mark.parametrize("keep_raw", [True, False])
@pytest.mark.parametrize(("bayer", "planes"), [(None, 1), ("RGGB", 1), ("GRBG", 1), (None, 3)])
@pytest.mark.parametrize("repaired", [True, False])
def test_a_region_is_the_crop_of_the_whole(
    bayer: str | None, planes: int, repaired: bool, keep_raw: bool, bands: Bands
) -> None:
    prepared = calibrate(make(bayer, planes), None, Settings(), bands)
    defects = some_defects((90, 130)) if repaired else None
    part = Developer(prepared, "mhc", keep_raw).region(23, 61, 31, 101, defects)
    whole = Developer(prepared, "mhc").whole(defects, bands)
    assert part.shape == (3 if bayer or planes == 3 else 1, 38, 70)
    assert np.allclose(part, whole[:, 23:61, 31:101], rtol=1e-6, atol=1e-3)


def test_the_callers_pixels_are_never_changed(bands: Bands) -> None:
    frame = make("RGGB")
    before = frame.data.copy()
    developer = Developer(prepare(frame, None, Settings(), bands), "mhc", keep_raw=True)
    developer.whole(some_defects((90, 130)), bands)
    developer.region(0, 40, 0, 40, some_defects((90, 130)))
    assert np.array_equal(frame.data, before)


def test_fingerprints_tell_exposures_apart() -> None:
    assert fingerprint(make(None).data) == fingerprint(make(None).data.copy())
    assert fingerprint(make(None).data) != fingerprint(make(None, seed=2).data)
    assert fingerprint(np.zeros((4, 6), np.uint16)) != fingerprint(np.zeros((6, 4), np.uint16))


def test_superpixels_make_a_colour_frame_of_half_the_size(bands: Bands) -> None:
    frame = make("GRBG")
    half = prepare(frame, None, Settings.model_validate({"calibration": {"debayer": "superpixel"}}), bands)
    assert half.data is not None
    assert half.data.shape == (3, 45, 65)
    assert (half.frame.info.size, half.frame.info.bayer, half.frame.channels) == ((65, 45), None, 3)
    assert np.array_equal(half.data[0], frame.data[0::2, 1::2].astype(np.float32))
    assert np.array_equal(half.data[1], (frame.data[0::2, 0::2] + frame.data[1::2, 1::2].astype(np.float32)) / 2)


def test_cosmic_rays_of_a_single_frame_become_no_data(bands: Bands) -> None:
    rng = np.random.default_rng(5)
    data = rng.normal(1000, 5, (90, 130)).astype(np.float32)
    data[40, 50:53] += 2000
    frame = Frame(data, FrameInfo(130, 90), label="hit")
    found = prepare(frame, None, Settings.model_validate({"calibration": {"cosmic_rays": True}}), bands)
    assert found.data is not None
    assert np.isnan(found.data[40, 50:53]).all()
    assert np.isnan(found.data).mean() < 0.01


def test_super_pixels_lie_where_the_matrix_says() -> None:
    halved = Settings.model_validate({"calibration": {"debayer": "superpixel"}})
    matrix = file_to_stack_pixels(make("GRBG").info, halved)
    # the middle of the first cell of four pixels is the first super-pixel
    assert np.allclose(matrix @ (0.5, 0.5, 1), (0, 0, 1))
    assert np.array_equal(file_to_stack_pixels(make("GRBG").info, Settings()), np.eye(3))
