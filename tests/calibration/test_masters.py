"""Masters: from simulated nights whose sensor is known, and from real calibration frames."""

from __future__ import annotations

import re
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits

from livestack.base.errors import MasterError, UsageError
from livestack.base.frame import Frame, FrameInfo, FrameKind
from livestack.base.settings import CalibrationSettings
from livestack.calibration.calibrate import calibrate
from livestack.calibration.cosmetic import DefectLearner, repair
from livestack.calibration.masters import build_masters, load_masters
from livestack.calibration.masters.combine import Combiner
from livestack.calibration.masters.flaws import find_flaws
from livestack.calibration.masters.flicker import measure_bands
from livestack.calibration.masters.grouping import kind_by_content, kind_by_name
from livestack.calibration.masters.library import MasterLibrary, inverse_flat
from livestack.faces import cli
from livestack.formats import read_frame, read_info
from livestack.kernels.bands import Bands
from livestack.simulate import named_scenario, simulate_calibration, simulate_frame
from livestack.simulate.sensor import make_sensor

DATA = Path(__file__).resolve().parents[3] / "shared" / "data"
real_frames = pytest.mark.skipif(not DATA.is_dir(), reason=f"no real frames in {DATA.name} beside the repository")

SHAPE = (60, 90)


def write(path, data, **cards):
    """A FITS file as a camera writes it: 16-bit unsigned."""
    path.parent.mkdir(parents=True, exist_ok=True)
    header = fits.Header()
    for keyword, value in cards.items():
        header[keyword.replace("_", "-")] = value
    fits.PrimaryHDU(np.asarray(data).astype(np.uint16), header).writeto(path)
    return path


def camera(**cards):
    return {"INSTRUME": "Cam", "GAIN": 100, "OFFSET": 50, "CCD_TEMP": -10.0, "EXPTIME": 10.0} | cards


def write_set(folder, kind, count, level, seed=0, noise=5.0, pattern=0.0, **cards):
    """Frames of a level with Gaussian noise and a fixed pattern."""
    rng = np.random.default_rng(seed)
    words = {"bias": "Bias Frame", "dark": "Dark Frame", "flat": "Flat Field", "darkflat": "Dark Flat"}
    for number in range(count):
        data = level + pattern + rng.normal(0, noise, SHAPE)
        write(folder / f"{kind}_{number:02d}.fits", data, IMAGETYP=words[kind], **camera(**cards))


def info_of(**more):
    given = {
        "width": SHAPE[1], "height": SHAPE[0], "exposure_s": 10.0, "gain": 100.0, "offset": 50.0,
        "temperature_c": -10.0, "camera": "Cam", "kind": FrameKind.LIGHT,
    }  # fmt: skip
    return FrameInfo(**(given | more))


@pytest.fixture(scope="module")
def calibrated_night(tmp_path_factory):
    """Masters of the simulated night with vignetting, dust, amp glow and hot pixels, mono and colour."""
    nights = {}
    for bayer in (None, "RGGB"):
        scenario = named_scenario("calibrated", frames=16, width=330, height=250, seed=7)
        scenario = scenario.model_copy(update={"bayer": bayer, "nebula_e": 0.0, "stars": 40})
        folder = tmp_path_factory.mktemp(f"night-{bayer}")
        for kind in (FrameKind.BIAS, FrameKind.DARK, FrameKind.FLAT, FrameKind.DARK_FLAT):
            for number in range(24):
                frame = simulate_calibration(scenario, kind, number)
                i = frame.info
                cards = {
                    "IMAGETYP": kind.value, "EXPTIME": i.exposure_s, "GAIN": i.gain, "OFFSET": i.offset,
                    "CCD_TEMP": i.temperature_c, "INSTRUME": i.camera,
                } | ({"BAYERPAT": i.bayer} if i.bayer else {})  # fmt: skip
                write(folder / "raw" / f"{kind.value}_{number:02d}.fits", frame.data, **cards)
        report = build_masters([folder / "raw"], folder / "masters")
        nights[bayer] = scenario, report, load_masters(folder / "masters")
    return nights


@pytest.mark.parametrize("bayer", [None, "RGGB"])
def test_a_calibrated_night_is_flat_and_dark(calibrated_night, bayer):
    scenario, report, library = calibrated_night[bayer]
    assert [m.kind for m in report.masters] == ["bias", "dark-flat", "dark", "flat"]
    assert report.refused == ()
    sensor = make_sensor(scenario)
    frames = [simulate_frame(scenario, n) for n in range(12)]
    masters = library.match(frames[0].frame.info)
    assert masters.missing == ()

    truth = np.ones((scenario.height, scenario.width)) if sensor.flat is None else sensor.flat
    good = ~sensor.defects & (truth > 0.5)
    for part in [np.s_[:, :]] if bayer is None else [np.s_[0::2, 0::2], np.s_[1::2, 1::2]]:
        residual = (truth * masters.inverse_flat)[part][good[part]]
        residual /= residual.mean()
        blocks = residual[: residual.size // 64 * 64].reshape(-1, 64).mean(axis=1)
        assert np.std(blocks) < 0.003, "flat structure left"

    dark_adu = sensor.dark_e_s * scenario.exposure_s / scenario.gain_e_adu
    expected = scenario.pedestal_adu + sensor.columns_adu + dark_adu
    single = np.median(np.abs(np.diff(frames[0].frame.data.astype(float), axis=1 if bayer is None else 0))) * 1.05
    stack_noise = single / np.sqrt(60)
    left = (masters.dark - expected)[good]
    assert abs(np.median(left)) < 0.2 * stack_noise, "dark current left"
    views = (np.s_[:40, :40], np.s_[:40, -40:], np.s_[-40:, :40], np.s_[-40:, -40:])
    corners = [np.median((masters.dark - expected)[view]) for view in views]
    assert np.max(np.abs(corners)) < 0.4 * stack_noise + 0.1, "amp glow left"

    stars_hidden = np.median([calibrate(f.frame, masters) for f in frames], axis=0)
    repair(stars_hidden, masters.defects, bayer)
    sky = stars_hidden if bayer is None else stars_hidden[0::2, 0::2]
    tiles = [np.median(t) for band in np.array_split(sky, 4) for t in np.array_split(band, 5, axis=1)]
    assert np.ptp(tiles) / np.median(tiles) < 0.03, "the calibrated sky is even"


def test_hot_pixels_of_the_simulated_night_are_known_or_harmless(calibrated_night):
    scenario, _, library = calibrated_night[None]
    frame = simulate_frame(scenario, 0).frame
    masters = library.match(frame.info)
    truth = make_sensor(scenario).defects
    assert (masters.defects.mask & truth).sum() >= 0.8 * truth.sum()
    assert (masters.defects.mask & ~truth).sum() <= 1e-3 * truth.size


def test_the_simulated_warm_sensor_is_learned_in_fifteen_dithered_frames():
    scenario = named_scenario("hot", frames=15, width=420, height=310, seed=3)
    learner = DefectLearner((310, 420), scenario.bayer)
    frames, last = [], np.zeros(2)
    for number in range(15):
        simulated = simulate_frame(scenario, number)
        position = np.asarray(simulated.transform)[:2, 2]
        frames.append(calibrate(simulated.frame))
        learner.update(frames[-1], tuple(position - last))
        last = position
    sensor = make_sensor(scenario)
    dark_adu = np.broadcast_to(sensor.dark_e_s, (310, 420)) * scenario.exposure_s / scenario.gain_e_adu
    noise = 1.4826 * np.median(np.abs(np.diff(frames[0][::2, :: 2 if scenario.bayer else 1]))) / 2**0.5
    hot = dark_adu - np.median(dark_adu) > 6 * noise
    found = learner.defects().mask
    assert hot.sum() > 50
    assert (found & hot).sum() >= 0.995 * hot.sum()
    columns = np.zeros_like(found)
    columns.flat[learner.defects().column] = True
    assert (found & ~sensor.defects & ~columns).sum() <= 3, "stars were eaten"


@real_frames
def test_real_frames_with_decimal_commas(tmp_path):
    report = build_masters([DATA / "calib_osc_asi120"], tmp_path)
    assert [(m.kind, len(m.frames)) for m in report.masters] == [("bias", 5), ("dark", 5), ("flat", 5)]
    bias, _, flat = report.masters
    assert any("6,4E-05" in note for note in bias.notes), "the broken header is told"
    assert any("bands" in note for note in flat.notes), "the lamp's bands are told"
    assert bias.info.exposure_s == pytest.approx(6.4e-5)
    master = read_frame(flat.path).data
    rows = master[0::2, 0::2].mean(axis=1)
    smooth = np.polynomial.Polynomial.fit(np.arange(len(rows)), rows, 6)(np.arange(len(rows)))
    assert np.std(rows / smooth) < 0.004, "of the 13 % bands nothing is left"
    with fits.open(bias.path) as units:
        header = units[0].header
        assert (header["IMAGETYP"], header["NCOMBINE"], header["BAYERPAT"]) == ("Master Bias", 5, "GRBG")
        assert "Bias_ASIImg_frame0003.fit" in str(header["HISTORY"])
        assert units["VARIANCE"].shape == units[0].shape

    with pytest.raises(MasterError, match=r"1280 x 960 GRBG, the light is 1304 x 976 RGGB: use masters of this camera"):
        load_masters(tmp_path).match(read_info(DATA / "m27_osc_asi224" / "Light_1069.fits"))


@real_frames
def test_noise_of_a_real_master_bias_falls_with_the_root_of_the_number(tmp_path):
    files = sorted((DATA / "calib_osc_asi120" / "bias").iterdir())
    report = build_masters(files[:4], tmp_path)
    data = [read_frame(f).data.astype(np.float64) for f in files]

    def spread(a):
        return np.std(a[np.abs(a - np.median(a)) < 200])

    single = np.median([spread(data[i] - data[i + 1]) for i in range(4)]) / 2**0.5
    against_fifth = spread(read_frame(report.masters[0].path).data - data[4])
    assert against_fifth == pytest.approx(single * np.sqrt(1 + 1 / 4), rel=0.03)


@real_frames
def test_lights_are_refused_and_nothing_is_built_of_them(tmp_path):
    with pytest.raises(MasterError, match=r"from 6 files.*Light_1069.fits is a light by its header"):
        build_masters([DATA / "m27_osc_asi224"], tmp_path)


class TestCombining:
    def test_pure_noise_is_averaged_to_one_over_root_n(self):
        rng = np.random.default_rng(1)
        combiner = Combiner((80, 130), 40)
        for _ in range(40):
            combiner.add(rng.normal(300, 5, (80, 130)).astype(np.float32))
        combined = combiner.result()
        assert np.std(combined.mean) == pytest.approx(5 / np.sqrt(40), rel=0.03)
        assert np.mean(combined.mean) == pytest.approx(300, abs=0.03)
        assert np.mean(combined.variance) == pytest.approx(25, rel=0.03)
        assert combined.noise == pytest.approx(5, rel=0.05)
        assert combined.rejected < 0.002

    @pytest.mark.parametrize("first, last", [(0, 6), (16, 22)])
    def test_cosmic_rays_leave_nothing_whenever_they_come(self, first, last):
        rng = np.random.default_rng(2)
        combiner = Combiner((80, 130), 24)
        hit = np.zeros((80, 130), bool)
        for n in range(24):
            frame = rng.normal(300, 5, (80, 130)).astype(np.float32)
            if first <= n < last:
                ray = rng.random(frame.shape) < 0.02
                frame[ray] += rng.uniform(100, 9000, ray.sum())
                hit |= ray
            combiner.add(frame)
        combined = combiner.result()
        assert abs(combined.mean[hit] - 300).max() < 6 * 5 / np.sqrt(20)

    def test_a_changed_level_is_not_locked_out(self):
        rng = np.random.default_rng(3)
        combiner = Combiner((40, 60), 60)
        for n in range(60):
            combiner.add(rng.normal(300 if n % 2 else 330, 5, (40, 60)).astype(np.float32))
        assert np.median(combiner.result().mean) == pytest.approx(315, abs=2)

    def test_is_the_plain_mean_where_nothing_is_extreme_and_equal_for_any_threads(self):
        """Three levels in turn, so that no sample is far from the median in terms of the scatter."""
        frames = np.random.default_rng(4).normal(100, 0.1, (20, 33, 47)).astype(np.float32)
        frames[0::3] += 10
        frames[1::3] -= 10
        means = []
        for threads in (1, 3):
            with Bands(threads) as bands:
                combiner = Combiner((33, 47), 20, bands)
                for frame in frames:
                    combiner.add(frame)
                means.append(combiner.result().mean)
        np.testing.assert_array_equal(means[0], means[1])
        np.testing.assert_allclose(means[0], frames.mean(axis=0, dtype=np.float64), rtol=1e-6)

    def test_missing_samples_do_not_count(self):
        combiner = Combiner((4, 5), 3)
        for value in (1.0, 2.0, np.nan):
            frame = np.full((4, 5), value, np.float32)
            frame[0, 0] = np.nan
            combiner.add(frame)
        combined = combiner.result()
        assert np.isnan(combined.mean[0, 0])
        assert combined.mean[1, 1] == 1.5

    def test_nothing_has_no_average(self):
        with pytest.raises(ValueError, match="expected one or more"):
            Combiner((4, 5)).result()


class TestSorting:
    @pytest.mark.parametrize(
        "name, kind",
        [
            ("Bias_001.fits", "bias"), ("x/darks/0001.fits", "dark"), ("flat-dark/1.fits", "dark-flat"),
            ("DARKFLATS/1.fits", "dark-flat"), ("skyflat_R_3.fits", "flat"), ("lights/dark nebula 3.fits", "dark"),
            ("lights/LDN 1235.fits", "light"), ("offsets/9.fits", "bias"), ("darkness/1.fits", "unknown"),
            ("night/1.fits", "unknown"),
        ],
    )  # fmt: skip
    def test_by_name(self, name, kind):
        assert kind_by_name(Path("/root") / name, Path("/root")) == kind

    @pytest.mark.parametrize("told", [True, False])
    @pytest.mark.parametrize("bayer", [None, "RGGB"])
    def test_by_content(self, told, bayer):
        scenario = named_scenario("calibrated", width=330, height=250, seed=2).model_copy(
            update={"bayer": bayer, "cold_pixels": 0.0}
        )

        def silent(frame):
            exposure = frame.info.exposure_s if told else None
            return Frame(frame.data, replace(frame.info, kind=FrameKind.UNKNOWN, exposure_s=exposure))

        for kind in (FrameKind.BIAS, FrameKind.DARK, FrameKind.FLAT):
            assert kind_by_content(silent(simulate_calibration(scenario, kind, 0))) is kind
        assert kind_by_content(silent(simulate_frame(scenario, 0).frame)) is FrameKind.UNKNOWN

    @real_frames
    @pytest.mark.parametrize(
        "pattern, kind",
        [
            ("calib_osc_asi120/bias/*", "bias"), ("calib_osc_asi120/dark_10s/*", "dark"),
            ("calib_osc_asi120/flat/*", "flat"), ("moon_png/*", "unknown"), ("m44_altaz_jpeg/*0.jpeg", "unknown"),
        ],
    )  # fmt: skip
    def test_real_frames_by_content(self, pattern, kind):
        files = sorted(DATA.glob(pattern))
        assert files
        assert {kind_by_content(read_frame(file)).value for file in files[::3]} == {kind}

    def test_frames_are_grouped_by_all_keys(self, tmp_path):
        write_set(tmp_path / "a", "dark", 3, 500, EXPTIME=10.0)
        write_set(tmp_path / "b", "dark", 3, 510, EXPTIME=30.0)
        write_set(tmp_path / "c", "dark", 3, 505, EXPTIME=10.0, GAIN=200)
        write_set(tmp_path / "d", "dark", 3, 505, EXPTIME=10.0, CCD_TEMP=15.0)
        write_set(tmp_path / "e", "dark", 3, 501, EXPTIME=10.0, CCD_TEMP=-9.0)
        write_set(tmp_path / "f", "flat", 3, 20000, FILTER="R")
        write_set(tmp_path / "g", "flat", 3, 21000, FILTER="B")
        report = build_masters([tmp_path], tmp_path / "out")
        assert sorted(len(m.frames) for m in report.masters) == [3, 3, 3, 3, 3, 6]
        assert len({m.path for m in report.masters}) == 6
        load_masters(tmp_path / "out")
        again = build_masters([tmp_path], tmp_path / "out")
        assert [m.frames for m in again.masters] == [m.frames for m in report.masters], "own output is passed over"

    def test_strangers_are_refused_with_the_reason(self, tmp_path):
        write_set(tmp_path, "dark", 6, 500)
        write(tmp_path / "dark_leak.fits", np.full(SHAPE, 900), IMAGETYP="Dark", **camera())
        write_set(tmp_path, "flat", 4, 20000)
        write(tmp_path / "flat_bright.fits", np.full(SHAPE, 64000), IMAGETYP="Flat", **camera())
        write(tmp_path / "flat_dim.fits", np.full(SHAPE, 700), IMAGETYP="Flat", **camera())
        write(tmp_path / "bias_0.fits", np.full(SHAPE, 480), IMAGETYP="Bias", **camera())
        (tmp_path / "dark_broken.fits").write_bytes((tmp_path / "dark_00.fits").read_bytes()[:5000])
        report = build_masters([tmp_path], tmp_path / "out")
        why = {path.name: reason for path, reason in report.refused}
        assert set(why) == {"dark_leak.fits", "flat_bright.fits", "flat_dim.fits", "bias_0.fits", "dark_broken.fits"}
        assert "out of line" in why["dark_leak.fits"]
        assert "it clips" in why["flat_bright.fits"]
        assert "too dark" in why["flat_dim.fits"]
        assert "the only bias" in why["bias_0.fits"]
        assert {m.kind: len(m.frames) for m in report.masters} == {"dark": 6, "flat": 4}

    def test_a_wrong_path_is_named(self, tmp_path):
        with pytest.raises(UsageError, match="nowhere: no such file or folder"):
            build_masters([tmp_path / "nowhere"], tmp_path / "out")


def test_the_command_tells_what_went_in_and_what_was_refused(tmp_path, capsys, monkeypatch):
    write_set(tmp_path / "raw", "dark", 3, 500)
    write(tmp_path / "raw" / "flat_bright.fits", np.full(SHAPE, 64000), IMAGETYP="Flat", **camera())
    words = ["livestack", "masters", str(tmp_path / "raw"), "--output", str(tmp_path / "out")]
    monkeypatch.setattr(sys, "argv", words)
    with pytest.raises(SystemExit) as left:
        cli.main()
    assert left.value.code == 0
    told = capsys.readouterr().out
    assert "only 3 frames" in told
    assert "refused" in told
    assert "it clips" in told
    assert [m.kind for m in load_masters(tmp_path / "out").masters] == ["dark"]


class TestFlats:
    def test_bands_of_a_flickering_lamp_go_vignetting_and_dust_stay(self, tmp_path):
        rng = np.random.default_rng(5)
        y, x = np.mgrid[:240, :190]
        truth = 1 - 0.3 * ((x - 95) ** 2 + (y - 120) ** 2) / 153**2
        truth = truth * (1 - 0.1 * (np.hypot(x - 60, y - 70) < 6))
        for n in range(8):
            data = rng.normal(500, 5, truth.shape)
            write(tmp_path / "raw" / f"bias_{n}.fits", data, IMAGETYP="Bias", **camera(EXPTIME=0.0))
            lamp = (1 + 0.2 * np.sin(y / 3.0 + rng.uniform(0, 6.28))) * rng.uniform(0.9, 1.1)
            light = rng.poisson(25000 * truth * lamp) + 500
            write(tmp_path / "raw" / f"flat_{n}.fits", light, IMAGETYP="Flat", **camera(EXPTIME=0.005))
        report = build_masters([tmp_path / "raw"], tmp_path / "out")
        assert any("bands of 1" in note for note in report.masters[1].notes)
        flat = read_frame(report.masters[1].path).data
        residual = flat / truth
        assert np.std(residual / residual.mean()) < 0.006
        assert abs(np.std((residual / residual.mean()).mean(axis=1))) < 0.003

    def test_steady_flats_are_left_alone(self):
        rng = np.random.default_rng(6)
        assert measure_bands(1 + rng.normal(0, 0.0003, (6, 200))) < 0.001

    def test_each_colour_is_brought_to_one_greens_together(self):
        flat = np.ones((20, 30), np.float32)
        flat[0::2, 0::2] *= 0.5
        flat[0::2, 1::2] *= 1.02
        inverse = inverse_flat(flat, "RGGB")
        assert inverse[0, 0] == pytest.approx(1)
        assert inverse[0, 1] / inverse[1, 0] == pytest.approx(1 / 1.02, rel=1e-5), "greens are equalled"

    def test_dead_pixels_are_missing(self):
        flat = np.ones(SHAPE, np.float32)
        flat[3, 4] = 0.0
        inverse = inverse_flat(flat, None)
        assert np.isnan(inverse[3, 4])
        assert np.isfinite(inverse).sum() == flat.size - 1


@pytest.fixture(scope="module")
def library(tmp_path_factory):
    """Masters of a small camera whose dark current is a ramp, and the ramp (10 s, ADU)."""
    folder = tmp_path_factory.mktemp("library")
    ramp = np.linspace(0, 40, SHAPE[1])[None, :]
    write_set(folder / "raw", "bias", 6, 500, EXPTIME=0.0)
    write_set(folder / "raw" / "10", "dark", 6, 500, pattern=ramp, seed=1)
    write_set(folder / "raw" / "30", "dark", 6, 500, pattern=3 * ramp, seed=2, EXPTIME=30.0)
    write_set(folder / "raw" / "R", "flat", 6, 20000, seed=3, EXPTIME=1.0, FILTER="R")
    build_masters([folder / "raw"], folder / "masters")
    return load_masters(folder / "masters"), ramp


class TestMatching:
    def test_the_dark_of_the_exposure_holds_the_bias_already(self, library):
        matched = library[0].match(info_of(filter_name="R"))
        np.testing.assert_allclose(np.median(matched.dark, axis=0), 500 + library[1][0], atol=4)
        assert matched.missing == ()
        assert "bias included" in matched.history[0]
        assert [kind for _, kind, _ in matched.used] == ["dark", "flat"]
        assert all(len(checksum) == 64 for _, _, checksum in matched.used)

    def test_a_dark_of_another_exposure_is_scaled_from_the_bias_up(self, library):
        matched = library[0].match(info_of(exposure_s=60.0))
        np.testing.assert_allclose(np.median(matched.dark, axis=0), 500 + 6 * library[1][0], atol=9)
        assert [kind for _, kind, _ in matched.used][:2] == ["dark", "bias"]

    @pytest.mark.parametrize(
        "change, sentence",
        [
            ({"gain": 300.0}, "gain 100 and offset 50, the light with gain 300"),
            ({"temperature_c": 9.0}, "at -10.0 C, the light at 9.0 C"),
            ({"exposure_s": 600.0}, "was exposed 30 s only, the light 600 s: the bias alone"),
            ({"filter_name": "Ha"}, r"no master flat for filter Ha \(there is R\)"),
            ({"camera": "Other"}, "is from Cam, the light from Other"),
        ],
    )
    def test_what_does_not_fit_is_said(self, library, change, sentence):
        matched = library[0].match(info_of(**({"filter_name": "R"} | change)))
        assert any(re.search(sentence, s) for s in matched.missing), matched.missing

    def test_a_flat_alone_is_used_and_its_harm_is_told(self, library):
        flats = [m for m in library[0].masters if m.kind is FrameKind.FLAT]
        matched = MasterLibrary(flats, CalibrationSettings()).match(info_of(filter_name="R"))
        assert matched.inverse_flat is not None
        assert any("keeps its offset" in s and "make a master bias" in s for s in matched.missing), matched.missing

    @pytest.mark.parametrize(
        "change, text",
        [
            ({"width": 92}, r"90 x 60 without a colour mosaic, the light is 92 x 60"),
            ({"binning": (2, 2)}, r"the light is 90 x 60 .* binned 2 x 2"),
            ({"planes": 3}, r"without a colour mosaic, the light is 90 x 60 in colour: use masters of this camera"),
        ],
    )
    def test_other_pixels_are_refused_by_naming_both_sides(self, library, change, text):
        with pytest.raises(MasterError, match=text):
            library[0].match(info_of(**change))

    def test_a_dark_of_another_exposure_needs_a_bias(self, tmp_path):
        write_set(tmp_path / "raw", "dark", 4, 500)
        build_masters([tmp_path / "raw"], tmp_path / "out")
        matched = load_masters(tmp_path / "out").match(info_of(exposure_s=20.0))
        assert matched.dark is None
        assert "scaling needs a master bias" in matched.missing[0]

    def test_tolerance_of_temperature_is_a_setting(self, library):
        strict = load_masters(library[0].masters[0].path.parent, CalibrationSettings(temperature_tolerance_c=1.0))
        assert strict.match(info_of(temperature_c=-7.0)).dark is not None, "the bias is left"
        assert any("more than 1 C" in s for s in strict.match(info_of(temperature_c=-7.0)).missing)

    def test_masters_of_other_programs_are_read(self, tmp_path):
        """As fractions of the 16-bit range, without any of our keywords."""
        data = np.full(SHAPE, 500 / 65535, np.float32)
        fits.PrimaryHDU(data).writeto(tmp_path / "MasterDark_ISO800.fits")
        matched = load_masters(tmp_path).match(info_of())
        np.testing.assert_allclose(matched.dark, 500, rtol=1e-5)
        assert any("not told" in s for s in matched.missing)

    @pytest.mark.parametrize("single", [True, False])
    def test_a_folder_without_masters_is_refused(self, tmp_path, single):
        if single:
            write_set(tmp_path, "dark", 2, 500)
        text = "expected masters, found none" + (r" \(dark_00.fits is not called a master" if single else "")
        with pytest.raises(UsageError, match=text):
            load_masters(tmp_path)
        with pytest.raises(UsageError, match="no such folder of masters"):
            load_masters(tmp_path / "nowhere")
        with pytest.raises(UsageError, match="is a file, expected the folder of masters"):
            load_masters(Path(__file__))


def test_flaws_are_what_subtraction_cannot_mend():
    rng = np.random.default_rng(8)
    dark = rng.normal(500, 1, SHAPE).astype(np.float32)
    variance = np.full(SHAPE, 16.0, np.float32)
    flat = rng.normal(1, 0.01, SHAPE).astype(np.float32)
    dark[5, 6] = 900  # hot
    dark[9, 9] += 6  # warm: subtracted, not repaired
    variance[20, 21] = 2000  # flickers
    flat[30, 31] = 0.1  # hardly sees light
    dark[:, 50] += 200
    flaws = find_flaws(dark, variance, flat, None)
    pixel = [y * SHAPE[1] + x for y, x in ((5, 6), (20, 21), (30, 31))]
    assert set(pixel) <= set(flaws.indices.tolist())
    assert 9 * SHAPE[1] + 9 not in flaws.indices
    assert set((flaws.column % SHAPE[1]).tolist()) == {50}
    assert len(flaws.column) == SHAPE[0]
    assert len(flaws) == 3 + SHAPE[0]
    assert find_flaws(None, None, None, None) is None
