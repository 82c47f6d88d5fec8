"""The judge on invented nights whose every fault is known; frames that are no lights; warnings said once."""

from __future__ import annotations

import json
import math
import string
from dataclasses import replace

import numpy as np
import pytest

from livestack.base.frame import FrameInfo, FrameKind
from livestack.base.settings import DetectionSettings, QualitySettings
from livestack.detection import find_stars, measure_sky
from livestack.kernels.bands import Bands
from livestack.quality import (
    REASONS,
    Alerts,
    ContentStats,
    FrameMeasures,
    Judge,
    accept,
    frame_weight,
    not_a_light,
    refuse,
)  # fmt: skip
from livestack.quality.content import content_stats, shows_something, texture
from livestack.registration.transform import Decomposition

INFO = FrameInfo(width=640, height=480)
GOOD = FrameMeasures(
    n_stars=120, n_matched=100, rms_px=0.08, fwhm_px=3.0, eccentricity=0.3, elongation_deg=20.0, sky_adu=900.0,
    noise_adu=20.0, transparency=1.0, rejected_fraction=0.002,
)  # fmt: skip


def night(n: int, seed: int = 1, scatter: float = 1.0) -> list[FrameMeasures]:
    """Frames of a decent night with natural scatter."""
    rng = np.random.default_rng(seed)

    def near(value: float, share: float) -> float:
        return float(value * (1 + scatter * share * rng.normal()))

    return [
        replace(
            GOOD, n_stars=round(near(120, 0.05)), rms_px=near(0.08, 0.15), fwhm_px=near(3.0, 0.05),
            eccentricity=near(0.3, 0.1), sky_adu=near(900, 0.01), noise_adu=near(20, 0.01),
            transparency=near(1.0, 0.02),
        )
        for _ in range(n)
    ]  # fmt: skip


def settled(settings: QualitySettings | None = None) -> Judge:
    judge = Judge(settings or QualitySettings())
    for measures in night(30):
        judge.accept(measures)
    return judge


@pytest.mark.parametrize("reason", REASONS)
def test_every_reason_has_a_sentence_that_begins_with_it(reason: str) -> None:
    values = {name: 1.0 if spec else "x" for _, name, spec, _ in string.Formatter().parse(REASONS[reason]) if name}
    verdict = refuse(reason, **values)
    assert not verdict.accepted
    assert verdict.weight == 0
    beginning = {"rejected_samples": "too many samples rejected"}.get(reason, reason.replace("_", " "))
    assert verdict.message.startswith(beginning)


def test_an_unknown_reason_is_a_mistake() -> None:
    with pytest.raises(KeyError):
        refuse("bad karma")


@pytest.mark.parametrize("scatter", [0.0, 0.05, 1.0, 2.0])
def test_natural_scatter_refuses_nothing(scatter: float) -> None:
    judge = Judge(QualitySettings())
    for measures in night(300, seed=2, scatter=scatter):
        verdict = judge.judge(measures)
        assert verdict.accepted, verdict
        judge.accept(measures)


@pytest.mark.parametrize(
    ("change", "reason", "number"),
    [
        ({"transparency": 0.2}, "clouds", "20 %"),
        ({"fwhm_px": 6.5}, "defocus", "6.5 px"),
        ({"eccentricity": 0.93, "elongation_deg": -37.0}, "trailing", "-37 deg"),
        ({"sky_adu": 2400.0, "noise_adu": 44.0}, "bright_sky", "4."),
        ({"n_stars": 9, "transparency": None}, "too_few_stars", "9 found"),
        ({"rms_px": 1.2}, "high_residual", "1.20 px"),
        ({"rejected_fraction": 0.6}, "rejected_samples", "60 %"),
    ],
)
def test_each_fault_is_named_with_its_number(change: dict[str, float], reason: str, number: str) -> None:
    verdict = settled().judge(replace(GOOD, **change))
    assert (verdict.accepted, verdict.reason, verdict.weight) == (False, reason, 0)
    assert number in verdict.message


def test_a_bright_sky_is_seen_under_a_high_pedestal() -> None:
    judge = Judge(QualitySettings())
    for measures in night(20):
        judge.accept(replace(measures, sky_adu=(measures.sky_adu or 0) + 20000))
    bright = judge.judge(replace(GOOD, sky_adu=20000 + 900 * 6, noise_adu=20 * 6**0.5))
    assert bright.reason == "bright_sky"
    assert judge.judge(replace(GOOD, sky_adu=20000 + 900 * 1.5, noise_adu=20 * 1.5**0.5)).accepted


def test_slow_airmass_is_no_fault_and_a_cloud_is() -> None:
    judge = Judge(QualitySettings())
    for i, measures in enumerate(night(200, seed=3)):
        faded = replace(measures, transparency=(measures.transparency or 1) * (1 - 0.0042 * i))
        verdict = judge.judge(faded)
        assert verdict.accepted, (i, verdict)
        judge.accept(faded)
    assert judge.usual("transparency") == pytest.approx(0.22, abs=0.03)
    assert judge.judge(replace(GOOD, transparency=0.03)).reason == "clouds"


def test_the_first_frames_are_judged_leniently_but_not_blindly() -> None:
    judge = Judge(QualitySettings())
    assert judge.judge(replace(GOOD, fwhm_px=7.0)).accepted
    judge.accept(GOOD)
    assert judge.judge(replace(GOOD, transparency=0.1)).reason == "clouds"
    assert judge.judge(replace(GOOD, eccentricity=0.97)).reason == "trailing"


def test_what_is_not_known_is_not_judged() -> None:
    assert settled().judge(FrameMeasures(n_stars=110, n_matched=0)).accepted


def test_switched_off_it_refuses_nothing_and_weighs_alike() -> None:
    judge = settled(QualitySettings(enabled=False))
    assert judge.judge(replace(GOOD, transparency=0.01, fwhm_px=30)) == accept(1.0)


def test_another_exposure_is_no_bright_sky() -> None:
    """Five times the exposure: five times sky and stars' light, noise by its square root; clouds are still seen."""
    judge = Judge(QualitySettings())
    for measures in night(20):
        judge.accept(replace(measures, exposure_s=30.0))
    longer = replace(GOOD, sky_adu=4500.0, noise_adu=20 * 5**0.5, exposure_s=150.0)
    assert judge.judge(replace(longer, exposure_s=30.0)).reason == "bright_sky"
    verdict = judge.judge(longer)
    assert verdict.accepted
    assert verdict.weight == 4, "five, but for the limit"
    assert judge.judge(replace(longer, transparency=0.1)).reason == "clouds"
    for measures in night(20, seed=2):
        judge.accept(replace(measures, sky_adu=4500.0, noise_adu=45.0, exposure_s=150.0))
    assert judge.judge(replace(longer, sky_adu=4500 * 6, noise_adu=45 * 6**0.5)).reason == "bright_sky"
    assert judge.usual("sky_adu", 30.0) == pytest.approx(900, rel=0.02)
    other = Judge(QualitySettings())
    other.restore(json.loads(json.dumps(judge.state())))
    assert other.usual("sky_adu", 150.0) == judge.usual("sky_adu", 150.0) == pytest.approx(4500)


def test_a_shorter_exposure_counts_for_what_light_it_brings() -> None:
    """Half the exposure under the sky's own noise: half the weight, as two of them equal one."""
    whole = replace(GOOD, exposure_s=60.0)
    assert frame_weight(replace(whole, noise_adu=20 / 2**0.5, exposure_s=30.0), whole) == pytest.approx(0.5)


def test_judging_does_not_remember_and_a_restored_judge_agrees() -> None:
    judge = settled()
    before = json.dumps(judge.state())
    frames = [*night(20, seed=5), replace(GOOD, fwhm_px=9.0), replace(GOOD, transparency=0.1)]
    verdicts = [judge.judge(measures) for measures in frames]
    assert json.dumps(judge.state()) == before
    other = Judge(QualitySettings())
    other.restore(json.loads(before))
    assert [other.judge(measures) for measures in frames] == verdicts
    assert any(not verdict.accepted for verdict in verdicts), "the test must see both kinds"


def test_weight_is_the_signal_to_noise_squared_of_a_point_source() -> None:
    assert frame_weight(GOOD, GOOD) == 1
    assert frame_weight(replace(GOOD, transparency=0.5), GOOD) == pytest.approx(0.25)
    assert frame_weight(replace(GOOD, noise_adu=40.0), GOOD) == pytest.approx(0.25)
    assert frame_weight(replace(GOOD, fwhm_px=6.0), GOOD) == pytest.approx(0.25)
    assert frame_weight(replace(GOOD, noise_adu=1e6), GOOD) == 0.05
    assert frame_weight(replace(GOOD, noise_adu=0.1), GOOD) == 4
    without = replace(GOOD, fwhm_px=None, sharpness=2.0)
    assert frame_weight(replace(without, sharpness=1.0), without) == pytest.approx(0.25)


@pytest.mark.parametrize("kind", [FrameKind.BIAS, FrameKind.DARK, FrameKind.FLAT, FrameKind.DARK_FLAT])
def test_a_header_that_says_so_is_believed(kind: FrameKind) -> None:
    verdict = not_a_light(replace(INFO, kind=kind), ContentStats(80, 900, 20, 3))
    assert verdict is not None
    assert verdict.reason == "not_a_light"
    assert kind.value in verdict.message


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (ContentStats(120, 900, 20, 0.3), None),
        (ContentStats(0, 500, 6, 0.1), "not_a_light"),  # the cap is on
        (ContentStats(0, 2500, 40, 0.2), None),  # overcast: bright, for the judge or the registration to say
        (ContentStats(0, 900, 20, 60.0), None),  # the Moon
        (ContentStats(0, 500, 0, 0.0), "blank"),
        (ContentStats(0, math.nan, 0, 0.0), "blank"),
    ],
)
def test_content_tells_a_dark_from_clouds_and_the_moon(content: ContentStats, reason: str | None) -> None:
    verdict = not_a_light(INFO, content, settled())
    assert (verdict.reason if verdict else None) == reason


def noise(mosaic: bool) -> np.ndarray:
    """A dark: noise, a pedestal, hot pixels; of a mosaic the colours differ."""
    rng = np.random.default_rng(12)
    data = 500 + rng.normal(0, 6, (120, 180))
    data[rng.uniform(size=data.shape) < 1e-3] += 4000
    if mosaic:
        data[::2, ::2] += 300
    return data.astype(np.float32)


@pytest.mark.parametrize("mosaic", [False, True])
def test_small_craters_on_a_level_ground_are_a_scene(mosaic: bool) -> None:
    """Nothing in the sky's coarse mesh and no star, and yet no dark."""
    info = replace(INFO, width=180, height=120, bayer="RGGB" if mosaic else None)
    empty = ContentStats(0, 500, 6, 0.1)
    y, x = np.mgrid[:120, :180]
    ripples = 90 * np.sin(x / 6) * np.sin(y / 6)
    assert texture(noise(mosaic), mosaic) < 0.5
    assert not_a_light(info, empty, settled(), noise(mosaic)).reason == "not_a_light"
    scene = (noise(mosaic) + ripples).astype(np.float32)
    assert texture(scene, mosaic) > 3
    assert not_a_light(info, empty, settled(), scene) is None
    scene[:60] = np.nan
    assert not_a_light(info, empty, settled(), scene) is None
    assert not_a_light(info, empty, settled(), np.full((120, 180), np.nan, np.float32)).reason == "not_a_light"


def play(frames: list[FrameMeasures], moved: list[Decomposition] | None = None) -> tuple[Alerts, list[str]]:
    warnings, said = Alerts(), []
    for i, measures in enumerate(frames):
        said += warnings.update(measures, moved[i] if moved else None, (640, 480))
    return warnings, said


def ramp(name: str, start: float, end: float, n: int = 40) -> list[FrameMeasures]:
    quiet = night(30, seed=6)
    return quiet + [replace(m, **{name: start + (end - start) * i / n}) for i, m in enumerate(night(n, seed=7))]


def test_a_quiet_night_warns_of_nothing() -> None:
    warnings, said = play(night(200, seed=8))
    assert said == []
    assert warnings.active == ()


@pytest.mark.parametrize(
    ("frames", "word"),
    [
        (ramp("fwhm_px", 3.0, 5.0), "focus"),
        ([*night(30), *(replace(m, transparency=0.4) for m in night(8))], "clouds"),
        ([*night(30), *(replace(m, eccentricity=0.85, elongation_deg=31.0) for m in night(8))], "along 31 deg"),
        ([*night(30), *(replace(m, eccentricity=0.85, elongation_deg=45.0 * (i % 4)) for i, m in enumerate(night(8)))],
         "wind"),
        ([*night(30), *(replace(m, sky_adu=2000.0, noise_adu=31.0) for m in night(8))], "sky is brightening"),
        ([replace(m, transparency=1 - 0.012 * i, n_stars=120 - i) for i, m in enumerate(night(50))], "dew"),
    ],
)  # fmt: skip
def test_each_warning_is_said_once(frames: list[FrameMeasures], word: str) -> None:
    warnings, said = play(frames)
    assert [text for text in said if word in text] == said
    assert len(said) == 1
    assert warnings.active == tuple(said)


def test_a_longer_exposure_is_no_brightening_sky() -> None:
    short = [replace(m, exposure_s=30.0) for m in night(30)]
    _, said = play([*short, *(replace(m, exposure_s=150.0, sky_adu=4500.0, noise_adu=45.0) for m in night(12))])
    assert said == []


def test_a_warning_ends_and_may_come_again() -> None:
    bad = [replace(m, fwhm_px=4.5) for m in night(12)]
    warnings, said = play([*night(40), *bad, *night(30), *bad])
    assert len(said) == 2
    warnings, _ = play([*night(40), *bad, *night(30)])
    assert warnings.active == ()


def test_one_bad_frame_warns_nobody() -> None:
    _, said = play([*night(30), replace(GOOD, fwhm_px=9, transparency=0.1, eccentricity=0.97), *night(30)])
    assert said == []


def test_drifting_out_of_the_picture() -> None:
    moved = [Decomposition(1.0, 0.0, 2.0 * i, -i) for i in range(80)]
    _, said = play(night(80), moved)
    assert len(said) == 1
    assert "drifting out" in said[0]


def test_warnings_go_on_after_a_restart() -> None:
    frames = ramp("fwhm_px", 3.0, 5.0)
    through, said = play(frames)
    first, before = play(frames[:50])
    second = Alerts()
    second.restore(json.loads(json.dumps(first.state())))
    after = [text for m in frames[50:] for text in second.update(m, None, None)]
    assert before + after == said
    assert second.active == through.active


def test_exposures_that_jitter_are_one() -> None:
    """A driver that writes 9.9998 s, and now and then a short frame, must not silence the brightening sky."""
    warnings, judge = Alerts(), Judge(QualitySettings())
    said: list[str] = []
    for i in range(60):
        exposure = 1.0 if i % 7 == 3 else 10.0 + 1e-4 * (-1) ** i
        sky = (1000.0 + 40.0 * max(0, i - 20)) * (0.1 if exposure < 5 else 1.0)
        measures = FrameMeasures(n_stars=100, n_matched=90, sky_adu=sky, noise_adu=20.0, exposure_s=exposure)
        said += warnings.update(measures)
        judge.accept(measures)
    assert any("sky" in sentence and "bright" in sentence for sentence in said)
    assert judge.usual("sky_adu", 10.04) == judge.usual("sky_adu", 9.97)
    assert judge.usual("sky_adu", 1.0) != judge.usual("sky_adu", 10.0)


def test_a_black_frame_with_one_bright_thing_is_not_blank() -> None:
    y, x = np.mgrid[:400, :600]
    planet = np.round(120 / (1 + np.exp((np.hypot(x - 210, y - 170) - 22) / 2))).astype(np.float32)
    nothing = np.zeros_like(planet)
    hot = nothing.copy()
    hot[100, 200] = 255.0
    for data, shown in ((planet, True), (np.stack([planet] * 3), True), (nothing, False), (hot, False)):
        assert shows_something(data, 0.0, 12**-0.5) is shown
        bands = Bands(1)
        sky = measure_sky(data, None, bands)
        content = content_stats(sky, find_stars(data, None, sky, 255.0, DetectionSettings(), bands))
        verdict = not_a_light(FrameInfo(width=600, height=400), content, None, data)
        assert (verdict is None) is shown
