"""Stacks that are no mean: the largest sample, the sum, and one for each stretch of time."""

from __future__ import annotations

import numpy as np
import pytest
from astropy.io import fits

from livestack.errors import UsageError
from livestack.kernels.bands import Bands
from livestack.pipeline import LiveStack
from livestack.session import Session
from livestack.settings import QualitySettings, RegistrationSettings, SaveSettings, Settings, StackSettings
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
