"""Synthetic tracking on maps that numpy draws, and the maps' arithmetic against numpy."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from livestack.kernels import movers as kernel
from livestack.kernels.bands import Bands
from livestack.movers import tracking
from livestack.movers.map_store import MapStore
from livestack.movers.tracking import find_tracks

SHAPE, N = (90, 130), 30
TIMES = np.arange(N) * 0.5
SHIFTED = [np.array([[1, 0, 7.0 * (k % 3)], [0, 1, 5.0 * (k % 4)], [0, 0, 1]]) for k in range(N)]


def maps_with(draw: np.random.Generator, places, snr: float) -> np.ndarray:
    """Noise filtered as points are, and a point of that SNR at places (N, 2)."""
    white = draw.standard_normal((N, *SHAPE))
    taps = np.exp(-0.5 * (np.arange(-2, 3) / 0.8) ** 2)
    noise = np.apply_along_axis(np.convolve, 2, np.apply_along_axis(np.convolve, 1, white, taps, "same"), taps, "same")
    noise /= noise.std()
    y, x = np.mgrid[: SHAPE[0], : SHAPE[1]]
    for k, (at_x, at_y) in enumerate(places):
        noise[k] += snr * np.exp(-0.25 * ((x - at_x) ** 2 + (y - at_y) ** 2) / 0.8**2)
    return np.clip(np.round(noise * 16), -127, 127).astype(np.int8)


def test_what_no_frame_shows_is_found_with_its_rate() -> None:
    places = np.array([(30 + 1.1 * k, 60 - 0.7 * k) for k in range(N)])
    with Bands(1) as bands:
        tracks = find_tracks(maps_with(np.random.default_rng(5), places, 2.2), TIMES, SHIFTED, 2, 3.2, bands)
    (one,) = tracks
    share = TIMES[one.first] / TIMES[-1], TIMES[one.last] / TIMES[-1]
    for part, found in zip(share, ((one.x0, one.y0), (one.x1, one.y1)), strict=True):
        assert found == pytest.approx(places[0] + part * (places[-1] - places[0]), abs=0.8)
    assert one.last - one.first >= 20


def test_what_stands_still_is_none_nor_a_pixel_of_the_sensor() -> None:
    still = np.full((N, 2), (60.0, 40.0))
    drift = [np.array([[1, 0, 2.0 * k], [0, 1, 1.0 * k], [0, 0, 1]]) for k in range(N)]
    on_sensor = np.array([(30 + 1.0 * k, 30 + 0.5 * k) for k in range(N)])
    with Bands(1) as bands:
        assert find_tracks(maps_with(np.random.default_rng(6), still, 4.0), TIMES, SHIFTED, 2, 3.2, bands) == []
        assert find_tracks(maps_with(np.random.default_rng(8), on_sensor, 4.0), TIMES, drift, 2, 3.2, bands) == []


def test_noise_has_no_tracks() -> None:
    with Bands(1) as bands:
        assert find_tracks(maps_with(np.random.default_rng(9), [], 0.0), TIMES, SHIFTED, 2, 3.2, bands) == []


def test_maps_against_the_end_are_against_the_frames_of_another_time() -> None:
    draw, n, apart = np.random.default_rng(2), 12, 3
    frames = draw.normal(0, 20, (n, 3, 5))
    gains = np.array([0.0] * 3 + [1 / (k + 1) for k in range(3, n)], np.float32)
    mean, residuals = frames[:3].mean(axis=0), []
    for frame, gain in zip(frames, gains, strict=True):
        residuals.append(frame - mean)
        mean = mean + gain * residuals[-1]
    maps = np.clip(np.round(residuals), -127, 127).astype(np.int8)
    maps[maps == 0] = 1  # 0 means no data
    out = np.empty_like(maps)
    kernel.refer_to_end(maps, gains, apart, np.zeros((3, 5), bool), out, 0, 3)
    for t in range(n):
        others = [k for k in range(n) if abs(k - t) > apart]
        expected = (frames[t] - frames[others].mean(axis=0)) / np.sqrt(1 + 1 / len(others))
        assert out[t] == pytest.approx(expected, abs=3.0)


def test_a_store_goes_on_from_what_a_checkpoint_held(tmp_path: Path) -> None:
    path, draw = tmp_path / "maps.bin", np.random.default_rng(1)
    images = [draw.integers(-100, 100, (4, 7)).astype(np.int8) for _ in range(5)]
    store = MapStore(path, (4, 7))
    for image in images:
        store.append(image)
    again = MapStore.restored(path, (4, 7), 3)
    assert again is not None
    again.append(images[4])
    assert np.array_equal(again.maps(), np.array([*images[:3], images[4]]))
    assert MapStore.restored(path, (4, 7), 9) is None
    again.close()
    assert not path.exists()


def test_halved_maps_are_sums_of_four_in_units_of_their_scatter() -> None:
    maps = np.clip(np.round(16 * np.random.default_rng(4).standard_normal((3, 51, 70))), -127, 127).astype(np.int8)
    with Bands(1) as bands:
        out = tracking._halved(maps, bands)
    sums = maps[:, :50].astype(float).reshape(3, 25, 2, 35, 2).sum(axis=(2, 4))
    scale = np.median(out[sums > 40] / sums[sums > 40])
    assert np.abs(out - np.clip(scale * sums, -127, 127)).max() <= 1.5
    assert out.std() == pytest.approx(16, rel=0.15)


def test_a_search_at_half_the_size_finds_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tracking, "LARGE", 100)
    places = np.array([(30 + 1.1 * k, 60 - 0.7 * k) for k in range(N)])
    with Bands(1) as bands:
        (one,) = find_tracks(maps_with(np.random.default_rng(5), places, 2.5), TIMES, SHIFTED, 2, 3.2, bands)
    share = TIMES[one.first] / TIMES[-1], TIMES[one.last] / TIMES[-1]
    for part, found in zip(share, ((one.x0, one.y0), (one.x1, one.y1)), strict=True):
        assert found == pytest.approx(places[0] + part * (places[-1] - places[0]), abs=0.8)


def test_a_faint_point_in_six_frames_is_not_believed_a_bright_one_is() -> None:
    places = np.array([(30 + 1.5 * k, 60 - 0.7 * k) for k in range(N)])
    for snr, expected in ((3.2, 0), (7.0, 1)):
        maps = maps_with(np.random.default_rng(5), places, snr)[:6]
        with Bands(1) as bands:
            assert len(find_tracks(maps, TIMES[:6], SHIFTED[:6], 2, 3.2, bands)) == expected
