"""Stacks that are no mean: the largest sample, the sum, and one for each stretch of time."""

from __future__ import annotations

import numpy as np
import pytest
from astropy.io import fits

from livestack.base.errors import UsageError
from livestack.base.settings import QualitySettings, RegistrationSettings, SaveSettings, Settings, StackSettings
from livestack.engine.live_stack import LiveStack
from livestack.kernels.bands import Bands
from livestack.session.session import Session
from livestack.simulate import named_scenario, simulate_frame, write_session

NIGHT = named_scenario("mono", frames=9, width=260, height=200, seed=4, cosmic_rate=20.0)


def stacked(settings: Settings, n: int = 9):
    live = LiveStack(settings, bands=Bands(1))  # starts no threads, so there is nothing to close
    for index in range(n):
        outcome = live.add(simulate_frame(NIGHT, index).frame)
        assert outcome.stacked, outcome.message
    return live.result(), live


def test_maximum_of_frames_that_are_aligned():
    settings = Settings(
        stack=StackSettings(mode="maximum"), registration=RegistrationSettings(method="none"),
        quality=QualitySettings(enabled=False),
    )  # fmt: skip
    result, live = stacked(settings, 4)
    group = next(iter(live.groups.values()))
    expected = np.max(
        [
            member.normalisation.factor[0] * simulate_frame(NIGHT, index).frame.data.astype(float)
            for index, member in enumerate(group.members)
        ],
        axis=0,
    )
    np.testing.assert_allclose(result.mean, expected, atol=0.05)
    assert np.isnan(result.variance).all()
    assert (result.coverage == 4).all()
    assert (result.weight == 1).all()
    assert not live.final_pass(group.name)
    with pytest.raises(UsageError, match="anew"):
        live.remove(group.members[1].name, frame=simulate_frame(NIGHT, 1).frame)


def test_sum_is_the_mean_times_the_samples():
    mean, _ = stacked(Settings())
    total, _ = stacked(Settings(stack=StackSettings(mode="sum")))
    samples = mean.coverage + mean.rejected
    np.testing.assert_allclose(total.mean, mean.mean * samples, rtol=1e-6)
    np.testing.assert_array_equal(total.variance, mean.variance)
    assert (mean.rejected > 0).any()


def test_a_result_stands_still_unless_it_shares():
    with LiveStack(Settings(stack=StackSettings(warmup_frames=3))) as live:
        for index in range(4):
            live.add(simulate_frame(NIGHT, index).frame)
        held, shared = live.result(), live.result(copy=False)
        before = held.coverage.copy()
        live.add(simulate_frame(NIGHT, 4).frame)
        np.testing.assert_array_equal(held.coverage, before)
        assert shared.coverage.sum() > before.sum()


def test_windows_are_the_frames_of_their_time(tmp_path):
    """A window equals a session that had only its frames, on the same grid."""
    night = NIGHT.model_copy(update={"cadence_s": 60.0, "cosmic_rate": 0.0})
    write_session(night, tmp_path / "night")
    settings = Settings(
        stack=StackSettings(window_minutes=4.0, rejection="none"), save=SaveSettings(final_pass=False),
        quality=QualitySettings(enabled=False),
    )  # fmt: skip
    end = Session([tmp_path / "night"], settings, tmp_path / "out", one_shot=True).run()
    assert end.status == 0
    paths = sorted((tmp_path / "out").glob("*/window-*.fits"))
    assert [fits.getval(path, "NCOMBINE") for path in paths] == [4, 4, 1]
    assert [fits.getval(path, "DATE-OBS")[11:16] for path in paths] == ["21:03", "21:07", "21:11"]
    whole = fits.getdata(paths[0].with_name("stack.fits")).astype(float)
    weights = [fits.getdata(path, "WEIGHT").astype(float) for path in paths]
    parts = [np.nan_to_num(fits.getdata(path).astype(float)) for path in paths]
    total = np.sum(weights, axis=0)
    good = total > 0
    mean = np.sum([w * p for w, p in zip(weights, parts, strict=True)], axis=0)[good] / total[good]
    np.testing.assert_allclose(mean, whole[good], rtol=1e-5)


def test_plain_mean_of_aligned_frames_is_numpys():
    """Nothing registered, judged or refused: the mean and variance of the numbers as they are."""
    night = named_scenario(
        "mono",
        frames=6,
        width=240,
        height=180,
        seed=8,
        drift_px=(0, 0),
        jitter_px=0.0,
        rotation_deg=0.0,
        sky_trend=0.05,
    )
    frames = [simulate_frame(night, i).frame for i in range(6)]
    plain = Settings.model_validate(
        {
            "registration": {"method": "none"}, "stack": {"rejection": "none"}, "quality": {"enabled": False},
            "calibration": {"cosmetic": False},
        }
    )  # fmt: skip
    with LiveStack(plain) as stack:
        for frame in frames:
            assert stack.add(frame).stacked
        result = stack.result()
    cube = np.array([frame.data for frame in frames], dtype=float)
    np.testing.assert_allclose(result.mean, cube.mean(axis=0), rtol=1e-6)
    np.testing.assert_allclose(result.variance, cube.var(axis=0, ddof=1), rtol=2e-3, atol=1e-2)


def test_aligned_frames_are_brought_to_one_flux():
    """With `--registration none` a thin cloud and a rising sky still leave the stars as bright as in the reference."""
    night = named_scenario(
        "mono", frames=12, width=320, height=240, seed=8, drift_px=(0, 0), jitter_px=0.0, rotation_deg=0.0,
        dither_px=0.0, sky_trend=0.05, stars=120, flux_min_e=20000.0, nebula_e=0.0,
    )  # fmt: skip
    with LiveStack(Settings.model_validate({"registration": {"method": "none"}})) as stack:
        outcomes = [stack.add(simulate_frame(night, i).frame) for i in range(12)]
    factors = [float(o.normalisation.factor[0]) for o in outcomes]
    assert all(o.stacked and o.n_matched > 30 for o in outcomes)
    assert np.abs(np.array(factors) - 1).max() < 0.05  # the ratio of the skies would be 1 / 1.55
