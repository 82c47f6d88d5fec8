"""Calibration against the same arithmetic in float64."""

from __future__ import annotations

import numpy as np
import pytest

from livestack.base.errors import MasterError
from livestack.base.frame import Frame, FrameInfo
from livestack.calibration.calibrate import MatchedMasters, calibrate, pedestal_adu, saturation_after
from livestack.kernels.bands import Bands

SHAPE = (41, 67)


def info_of(shape, **more):
    return FrameInfo(width=shape[-1], height=shape[-2], **more)


def frame_of(data, **more):
    return Frame(np.ascontiguousarray(data), info_of(data.shape, **more), label="light")


@pytest.fixture
def parts():
    rng = np.random.default_rng(5)
    dark = rng.normal(105, 4, SHAPE).astype(np.float32)
    inverse_flat = (1 / rng.uniform(0.6, 1.1, SHAPE)).astype(np.float32)
    return dark, inverse_flat


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.int16, np.int32, np.float32])
@pytest.mark.parametrize("with_dark", [False, True])
@pytest.mark.parametrize("with_flat", [False, True])
@pytest.mark.parametrize("colours", [(), (3,)])
def test_is_raw_minus_dark_over_flat(parts, dtype, with_dark, with_flat, colours):
    low = -300 if np.issubdtype(dtype, np.signedinteger) or dtype == np.float32 else 0
    raw = np.random.default_rng(2).integers(low, 250, (*colours, *SHAPE)).astype(dtype)
    dark, inverse_flat = (np.broadcast_to(a, raw.shape).copy() for a in parts)
    masters = MatchedMasters(info_of(SHAPE), dark if with_dark else None, inverse_flat if with_flat else None)
    expected = raw.astype(np.float64)
    if with_dark:
        expected = expected - dark
    if with_flat:
        expected = expected * inverse_flat
    out = calibrate(frame_of(raw), masters)
    assert out.dtype == np.float32
    np.testing.assert_allclose(out, expected, rtol=2e-6, atol=1e-4)
    with Bands(3) as bands:
        np.testing.assert_array_equal(calibrate(frame_of(raw), masters, bands=bands), out)


def test_noise_below_zero_is_kept(parts):
    raw = np.random.default_rng(1).poisson(105, SHAPE).astype(np.uint16)
    out = calibrate(frame_of(raw), MatchedMasters(info_of(SHAPE), dark=np.full(SHAPE, 105, np.float32)))
    assert abs(out.mean()) < 4 * 10.3 / np.sqrt(out.size)
    assert out.min() < -20


def test_without_masters_the_values_are_the_cameras(parts):
    raw = np.arange(np.prod(SHAPE), dtype=np.uint16).reshape(SHAPE)
    np.testing.assert_array_equal(calibrate(frame_of(raw)), raw.astype(np.float32))


def test_full_range_is_exact():
    raw = np.array([[0, 65535, 32768, 1]] * 2, np.uint16)
    np.testing.assert_array_equal(calibrate(frame_of(raw)), raw)


@pytest.mark.parametrize("value", [100, -100.0])
def test_pedestal_is_taken_off_once(value):
    raw = np.full(SHAPE, 130, np.uint16)
    frame = frame_of(raw, pedestal_adu=value)
    assert pedestal_adu(frame.info) == 100
    assert np.all(calibrate(frame) == 30)
    dark = MatchedMasters(frame.info, dark=np.full(SHAPE, 110, np.float32))
    assert np.all(calibrate(frame, dark) == 20), "a dark holds the pedestal already"


def test_missing_stays_missing_and_dead_flat_pixels_become_missing(parts):
    dark, inverse_flat = parts
    inverse_flat[3, 4] = np.nan
    raw = np.full(SHAPE, 500, np.float32)
    raw[7, 8] = np.nan
    out = calibrate(frame_of(raw), MatchedMasters(info_of(SHAPE), dark, inverse_flat))
    assert {tuple(map(int, p)) for p in np.argwhere(np.isnan(out))} == {(3, 4), (7, 8)}


def test_masters_of_another_camera_are_refused_by_naming_both_sides(parts):
    masters = MatchedMasters(info_of((960, 1280), bayer="GRBG"))
    light = frame_of(np.zeros((976, 1304), np.uint16), bayer="RGGB")
    with pytest.raises(MasterError, match=r"1280 x 960 GRBG.*1304 x 976 RGGB.*use masters of this camera"):
        calibrate(light, masters)


def test_masters_of_another_phase_are_refused(parts):
    light = frame_of(np.zeros(SHAPE, np.uint16), bayer="RGGB")
    with pytest.raises(MasterError, match=r"GRBG.*RGGB"):
        calibrate(light, MatchedMasters(info_of(SHAPE, bayer="GRBG")))


def test_saturation_follows_the_pixels():
    info = info_of(SHAPE, saturation_adu=4095.0)
    flat = np.ones(SHAPE, np.float32)
    flat[:, :9] = 1 / 1.25
    masters = MatchedMasters(info, np.full(SHAPE, 95, np.float32), flat)
    assert saturation_after(info, masters) == pytest.approx(4000 / 1.25)
    assert saturation_after(info, None) == 4095
    assert saturation_after(info_of(SHAPE), masters) is None


def test_unknown_number_types_are_named():
    with pytest.raises(ValueError, match=r"light: expected uint8.*found float64"):
        calibrate(frame_of(np.zeros(SHAPE)))
