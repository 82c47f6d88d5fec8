"""Merging saved stacks: two halves of a night against the whole, and two nights on different grids."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits

from livestack.base.errors import UsageError
from livestack.base.settings import QualitySettings, Settings, StackSettings
from livestack.engine.live_stack import LiveStack
from livestack.kernels.bands import Bands
from livestack.products.merge import find_stack, merge_stacks, read_saved
from livestack.products.stack_files import build_header, write_stack
from livestack.simulate import named_scenario, simulate_frame

NIGHT = named_scenario("mono", frames=12, width=420, height=330, seed=6, stars=160)
SETTINGS = Settings(
    stack=StackSettings(rejection="none", warmup_frames=1), quality=QualitySettings(enabled=False)
)  # fmt: skip


def save(path: Path, indices: list[int], night=NIGHT, settings: Settings = SETTINGS) -> Path:
    """Stack some frames of a night and save them; the first of them is the reference."""
    with LiveStack(settings) as live:
        for index in indices:
            assert live.add(simulate_frame(night, index).frame).stacked
        result = live.result()
        write_stack(path, result, build_header(result, settings, "0", None, [], False))
    return path


@pytest.fixture(scope="module")
def bands():
    with Bands(1) as one:
        yield one


def test_two_halves_are_the_whole(tmp_path, bands):
    """The same reference in both halves: exact, once that frame is taken out of the second again."""
    whole = save(tmp_path / "whole.fits", [0, 1, 2, 3, 4, 0 + 5])
    first = save(tmp_path / "a.fits", [0, 1, 2])
    with LiveStack(SETTINGS) as live:
        for index in (0, 3, 4, 5):
            live.add(simulate_frame(NIGHT, index).frame)
        live.remove(simulate_frame(NIGHT, 0).frame.name, frame=simulate_frame(NIGHT, 0).frame)
        result = live.result()
        second = tmp_path / "b.fits"
        write_stack(second, result, build_header(result, SETTINGS, "0", None, [], False))
    made = merge_stacks([first, second], tmp_path / "merged.fits", bands)
    assert "exactly" in made.words[0]
    with fits.open(whole) as expected, fits.open(made.path) as found:
        assert found[0].header["NCOMBINE"] == 6
        assert found[0].header["EXPTOTAL"] == pytest.approx(expected[0].header["EXPTOTAL"])
        for keyword in ("DATE-OBS", "DATE-END", "REFFRAME"):
            assert found[0].header[keyword] == expected[0].header[keyword]
        np.testing.assert_array_equal(np.isnan(found[0].data), np.isnan(expected[0].data))
        np.testing.assert_allclose(found[0].data, expected[0].data, rtol=1e-6, atol=0.01)
        np.testing.assert_array_equal(found["COVERAGE"].data, expected["COVERAGE"].data)
        np.testing.assert_allclose(found["WEIGHT"].data, expected["WEIGHT"].data, rtol=1e-5)
        np.testing.assert_allclose(found["VARIANCE"].data, expected["VARIANCE"].data, rtol=1e-2, atol=1)


@pytest.mark.parametrize("flip", [False, True])
def test_two_nights_on_different_grids(tmp_path, bands, flip):
    """The second half has its own reference, or is upside down: the first one's flux and sky, and less noise."""
    turn = {"flip_at": 1, "faults": ()} if flip else {}
    night = NIGHT.model_copy(update=turn)
    first = save(tmp_path / "a.fits", [0] if flip else [0, 1, 2, 3, 4, 5], night)
    second = save(tmp_path / "b.fits", [6, 7, 8, 9, 10, 11], night)
    made = merge_stacks([first, second], None, bands)
    assert made.path == tmp_path / "merged.fits"
    assert "resampled" in made.words[0]
    with fits.open(made.path) as found, fits.open(first) as alone:
        merged, old = found[0].data.astype(float), alone[0].data.astype(float)
        both = found["COVERAGE"].data == found[0].header["NCOMBINE"]
        assert both.mean() > 0.7
        clean = simulate_frame(night, 0, expected=True).expected
        calm = both & (clean < np.median(clean) + 5)
        assert np.std((merged - clean)[calm]) < (0.5 if flip else 0.85) * np.std((old - clean)[calm])
        # faint stars that drown in the noise of one frame, not in that of six, lift its sky by a tenth of sigma
        assert abs(float(np.median((merged - clean)[calm]))) < 3
        light = clean - np.median(clean)
        bright = both & (light > 300) & (clean < 30000)
        assert np.sum((merged - clean)[bright]) / np.sum(light[bright]) == pytest.approx(0, abs=0.03)
        assert np.isfinite(found["VARIANCE"].data[both]).all()


def test_a_night_in_mirror_image_is_merged_and_told(tmp_path, bands):
    """Another telescope with a diagonal: turned over, said so, and as deep as both nights together."""
    first, second = save(tmp_path / "a.fits", [1, 2, 3]), save(tmp_path / "b.fits", [4, 5, 6])
    with fits.open(second) as file:
        for hdu in file:
            hdu.data = np.ascontiguousarray(hdu.data[:, ::-1])
        file[0].header["REFFRAME"] = "another.fits"
        file.writeto(tmp_path / "mirrored.fits")
    plain = merge_stacks([first, second], tmp_path / "plain.fits", bands)
    turned = merge_stacks([first, tmp_path / "mirrored.fits"], tmp_path / "turned.fits", bands)
    assert "mirror image" in turned.words[0]
    assert "mirror image" not in plain.words[0]
    one, other = fits.getdata(plain.path), fits.getdata(turned.path)
    inside = np.s_[20:-20, 20:-20]
    away = np.abs(one - other)[inside]
    assert np.nanmedian(away) < 0.1 * 1.4826 * np.nanmedian(np.abs(one - np.nanmedian(one)))


def test_reading_back_loses_nothing(tmp_path):
    path = save(tmp_path / "s.fits", [0, 1, 2])
    saved = read_saved(path)
    with fits.open(path) as file:
        np.testing.assert_allclose(saved.picture, file[0].data, rtol=1e-6)
        np.testing.assert_allclose(saved.stack.variance()[0], file["VARIANCE"].data, rtol=1e-4)


def test_what_cannot_be_merged(tmp_path, bands):
    path = save(tmp_path / "s.fits", [0, 1])
    with pytest.raises(UsageError, match="two or more"):
        merge_stacks([path], None, bands)
    with pytest.raises(UsageError, match="twice"):
        merge_stacks([path, path], None, bands)
    plain = tmp_path / "plain.fits"
    fits.PrimaryHDU(np.zeros((5, 6), dtype=np.float32)).writeto(plain)
    with pytest.raises(UsageError, match="no stack of livestack"):
        merge_stacks([path, plain], None, bands)
    with pytest.raises(UsageError, match=r"no stack\.fits"):
        find_stack(tmp_path / "nowhere")
    other = save(
        tmp_path / "o.fits", [0, 1], named_scenario("mono", frames=3, width=420, height=330, seed=77, stars=160)
    )
    with pytest.raises(UsageError, match="same field"):
        merge_stacks([path, other], None, bands)
    for name in ("x", "y"):
        (tmp_path / "session" / name).mkdir(parents=True)
        (tmp_path / "session" / name / "stack.fits").write_bytes(b"")
    with pytest.raises(UsageError, match="several"):
        find_stack(tmp_path / "session")
