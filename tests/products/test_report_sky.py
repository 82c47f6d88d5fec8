"""The report's chapter on the sky: figures of a night whose air, sky and stars are known, against them."""

from __future__ import annotations

import math
import re
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest
from astropy import units as u
from astropy.coordinates import AltAz, EarthLocation, SkyCoord
from astropy.io import fits
from astropy.time import Time
from typer.testing import CliRunner

from livestack.base.journal import DepthRecord, FrameRecord, ReferenceRecord, read_journal
from livestack.faces.cli import app
from livestack.products.report.air import air_masses, dimming_of, fit_extinction, lost_light, sky_magnitudes
from livestack.products.report.gather import gather_night
from livestack.products.report.sky import map_of_stack, sky_chapter
from tests.clear_night import DEC, RA, SCALE, make_clear_night

START = datetime(2026, 1, 10, 19, tzinfo=UTC)
SAME = ((1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (0.0, 0.0, 1.0))


def frame(name: str, transparency: float | None, minutes: float = 0.0, **more: object) -> FrameRecord:
    return FrameRecord(
        file=name, group="g", status="stacked", transparency=transparency,
        date_obs=START + timedelta(minutes=minutes), **{"exposure_s": 30.0, **more},
    )  # fmt: skip


class TestLight:
    def test_a_new_reference_changes_nothing(self) -> None:
        """The same light told against one reference, or against a second one that has 0.8 of the first one's."""
        light = {"a": 1.0, "b": 0.5, "c": 0.8, "d": 0.4}
        one = [frame(name, value) for name, value in light.items()]
        moved = ReferenceRecord(group="g", file="c", from_previous=SAME)
        two = [*one[:3], moved, frame("d", 0.4 / 0.8)]
        frames = [record for record in two if isinstance(record, FrameRecord)]
        truth = [-2.5 * math.log10(value) for value in light.values()]
        assert lost_light(one, dimming_of(one, "g")) == pytest.approx(truth)
        assert lost_light(frames, dimming_of(two, "g")) == pytest.approx(truth)

    def test_what_cannot_be_carried_over_is_not_told(self) -> None:
        records = [frame("a", 1.0), ReferenceRecord(group="g", file="z", from_previous=SAME), frame("b", 0.9)]
        assert set(dimming_of(records, "g")) == {("b", 0)}
        assert dimming_of([frame("a", None), frame("b", 0.0)], "g") == {}
        assert dimming_of([frame("a", 1.0)], "another") == {}

    def test_extinction_is_the_slope_and_clouds_are_no_air(self) -> None:
        draw = np.random.default_rng(4)
        air = np.linspace(1.1, 2.2, 30)
        lost = 0.23 * (air - 1.1) + draw.normal(0, 0.005, 30)
        lost[[5, 17, 18]] += 0.6
        found = fit_extinction(air.tolist(), lost.tolist())
        assert found is not None
        assert found.mag == pytest.approx(0.23, abs=4 * found.error)
        assert found.error < 0.01
        assert fit_extinction(air[:6].tolist(), lost[:6].tolist()) is None
        assert fit_extinction([1.3] * 30, lost.tolist()) is None

    def test_air_masses_are_those_of_the_place(self) -> None:
        frames = [frame("a", 1.0, minutes) for minutes in (0, 120, 300)]
        header = fits.Header({"SITELAT": 48.0, "SITELONG": 11.0})
        site = EarthLocation.from_geodetic(11 * u.deg, 48 * u.deg)
        moments = Time([one.date_obs + timedelta(seconds=15) for one in frames if one.date_obs])
        altitude = SkyCoord(RA, DEC, unit="deg").transform_to(AltAz(obstime=moments, location=site)).alt
        truth = 1 / np.sin(altitude.rad)
        assert air_masses(frames, (RA, DEC), header) == pytest.approx(truth, rel=0.01)
        assert np.isnan(air_masses(frames, (RA, DEC), fits.Header())).all()

    def test_the_sky_of_frames_of_another_exposure_compares(self) -> None:
        header = {"SKYMAG": 20.3, "REFFRAME": "a.fits"}
        frames = [frame("a.fits", 1.0, sky_adu=600.0), frame("sub/b.fits", 0.5, sky_adu=600.0, exposure_s=60.0)]
        assert sky_magnitudes(frames, header) == pytest.approx([20.3, 20.3 + 2.5 * math.log10(2)])
        assert np.isnan(sky_magnitudes(frames, {"REFFRAME": "a.fits"})).all()
        assert np.isnan(sky_magnitudes(frames, {"SKYMAG": 20.3, "REFFRAME": "gone"})).all()


@pytest.mark.real_sky
def test_a_night_is_told_as_it_was(tmp_path: Path) -> None:
    truth = {one.name: one for one in make_clear_night(tmp_path / "night")}
    out = tmp_path / "out"
    done = CliRunner().invoke(app, ["stack", str(tmp_path / "night"), "--output", str(out), "--no-final-pass"])
    assert done.exit_code == 0, done.output
    night = gather_night(out)
    (group,) = night.groups
    assert group.stack is not None
    header, frames = group.stack.header, list(group.frames)
    true = [truth[Path(one.file).name] for one in frames]

    clearest = max(one.zero_mag for one in true)
    assert lost_light(frames, group.dimming) == pytest.approx([clearest - one.zero_mag for one in true], abs=0.04)
    sky = map_of_stack(group.stack)
    assert sky is not None
    assert air_masses(frames, sky.centre, header) == pytest.approx([one.air for one in true], rel=0.01)
    zero = truth[header["REFFRAME"]].zero_mag
    dark = [zero - 2.5 * math.log10(one.sky_adu_s / SCALE**2) for one in true]
    assert sky_magnitudes(frames, header) == pytest.approx(dark, abs=0.05)

    told = [record for record in read_journal(out) if isinstance(record, DepthRecord)]
    assert told[-1].limit_mag == pytest.approx(header["MAGLIM"], abs=1e-3)
    assert told[-1].limits[-1] == (len(frames), told[-1].limit_mag)

    page = (out / "report.html").read_text()
    part = page.split('<h2 id="sky">The sky</h2>')[1].split("<h2")[0]
    for words in (
        "You are looking at", "5h 35m 12s, −1° 12′ 00″", f"{SCALE:.3f} arcsec a pixel", "1.67° × 1.25°", "Solved by",
        "mag: Gaia G of a star of 1 ADU/s", "times fainter than the naked eye", "mag/arcsec²: the sky over a suburb",
        "light lost against the best frame, mag", "Air mass (1 is the zenith)", "higher is darker", "higher is fainter",
    ):  # fmt: skip
        assert words in part, words
    assert not re.search(r"\bnan\b", part)


def test_without_a_place_nothing_is_told(tmp_path: Path) -> None:
    from tests.night_folder import make_night

    with np.errstate(all="ignore"), pytest.warns(RuntimeWarning):
        folder = make_night(tmp_path, n=4, trail_in=None, frames_gone=True)
    (group,) = gather_night(folder).groups
    part = sky_chapter(group, None)
    assert "light lost against the best frame" in part
    assert "Middle" not in part
    assert "mag/arcsec" not in part
