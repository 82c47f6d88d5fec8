"""The chapter on why stacking works, told with the reader's own frames."""

from __future__ import annotations

from html import escape

import numpy as np

from livestack.products.report.charts import Series, chart, histogram
from livestack.products.report.lesson import Lesson, PixelStory
from livestack.products.report.page import table
from livestack.products.report.samples import Samples, noise_as_added


def noise_chapter(samples: Samples) -> str:
    """Noise as frames were added, against one over the square root of their number."""
    counts, noise = noise_as_added(samples.cube)
    n = len(counts)
    ideal = [1.0 / np.sqrt(c) for c in counts]
    drawn = chart(
        [Series(counts, noise, "measured", "dots", "a"),
         Series(counts, ideal, "one over the root of N", "dashes", "b")],
        "Noise of the mean, one frame = 1", "frames", log=True,
    )  # fmt: skip
    gain, best = 1.0 / noise[-1], float(np.sqrt(n))
    if gain > 0.85 * best:
        verdict = "It follows the law: nothing but random noise is left, and more frames will go on helping."
    elif gain > 0.6 * best:
        verdict = (
            "It falls behind the law: faint stars and nebulosity are structure and do not average away, and "
            "neither does a pattern "
            "of the sensor that stays in place; dithering between frames helps against the latter."
        )
    else:
        verdict = (
            "It falls well behind the law. Either this piece of sky is full of real detail, or a pattern of the "
            "sensor repeats "
            "in every frame: dither between frames and calibrate with darks."
        )
    some = "" if n == samples.n_wanted else f" ({n} of the {samples.n_wanted} frames were read again for this)"
    return (
        "<h2 id=noise>Did more frames help?</h2>"
        f"<p>In a quiet piece of sky the noise of {n} frames{some} is {gain:.1f} times smaller than that of one frame; "
        f"the best that {n} frames can do is the square root of {n}, {best:.1f}. {verdict}</p>{drawn}"
    )


def lesson_chapter(samples: Samples, lesson: Lesson) -> str:
    """One pixel's samples, their distribution, and what an outlier does to mean, median and clipped mean."""
    quiet, hit = lesson.quiet, lesson.hit
    n = len(quiet.samples)
    order = np.sort(quiet.samples)
    straight = quiet.median + quiet.sigma * lesson.theory
    dots = chart(
        [Series(list(range(1, n + 1)), quiet.samples.tolist(), "", "dots", "a", samples.names),
         Series([1, n], [quiet.mean, quiet.mean], "mean", "line", "b")],
        f"One pixel ({quiet.x}, {quiet.y}) in every frame, ADU", "frame",
    )  # fmt: skip
    plot = chart(
        [Series(lesson.theory.tolist(), order.tolist(), "samples in order", "dots", "a"),
         Series(lesson.theory.tolist(), straight.tolist(), "Gaussian", "dashes", "b")],
        "Q-Q plot: the samples against what a Gaussian would give, ADU", "sigma",
    )  # fmt: skip
    many = histogram(lesson.pooled, [], "How far every sample of the piece lies from its pixel's median")
    return (
        "<h2 id=why>Why stacking works, on your own frames</h2>"
        "<p>A sensor is a crowd of cheap thermometers: each reading is a little wrong, too high as often as too low. "
        f"Here is one quiet pixel in {n} frames. Its readings scatter by {quiet.sigma:.3g} ADU, yet "
        f"their mean is known to "
        f"{quiet.sigma / np.sqrt(n):.2g} ADU, because the errors cancel: by the square root of the number of "
        f"frames.</p>"
        f'<div class="grid2">{dots}{plot}{many}</div>'
        f"<p>{escape(_normal_words(lesson))}</p>"
        f"<h3>{'What crossed your picture' if lesson.hit_is_real else 'What a satellite would do'}</h3>"
        f"{_hit_words(samples, lesson)}"
        f'<div class="grid2">{_hit_chart(samples, hit)}<div>{_hit_table(hit)}</div></div>'
        f"<p>Then why not always the median? Because it throws knowledge away. In this piece of your sky the median is "
        f"{lesson.noise[1]:.2f} times as noisy as the mean; the theory for many frames says 1.25. The mean of "
        f"what is left after "
        f"clipping is {lesson.noise[2]:.2f} times as noisy, and no outlier survives in it: that is why the "
        f"stack uses it.</p>"
    )


def _normal_words(lesson: Lesson) -> str:
    n, p = len(lesson.quiet.samples), lesson.normality_p
    if n < 8:
        return (
            f"With only {n} frames one pixel cannot show what shape its scatter has; all pixels of the piece "
            f"together can: "
            "the bars follow the bell curve, and that is what entitles us to take the middle for the truth."
        )
    base = f"On the Q-Q plot Gaussian noise lies on a straight line. The Shapiro-Wilk test gives p = {p:.2f}: "
    if p > 0.05:
        return (
            base
            + "nothing speaks against Gaussian noise, so the middle of the readings is the best guess of the truth."
        )
    return (
        base + "this pixel's readings are not quite Gaussian; a drifting sky or a cloud will do that. Averages of many "
        "readings are close to Gaussian even then (the central limit theorem)."
    )


def _hit_words(samples: Samples, lesson: Lesson) -> str:
    hit = lesson.hit
    n = len(hit.samples)
    shift = (hit.mean - hit.clipped) / max(hit.sigma / np.sqrt(n), 1e-12)
    height = (hit.samples[hit.culprit] - hit.median) / max(hit.sigma, 1e-12)
    if lesson.hit_is_real:
        name = samples.names[hit.culprit] if hit.culprit < len(samples.names) else "one frame"
        start = (
            f"At pixel ({hit.x}, {hit.y}) {name} stands {height:.0f} sigma above all others: a satellite, an "
            "aircraft or a cosmic ray."
        )
    else:
        start = (
            f"Nothing crossed this piece of sky. On paper, we add {height:.0f} sigma to one frame of the pixel above."
        )
    return (
        f"<p>{escape(start)} The plain mean of all frames is off by {hit.mean - hit.clipped:.3g} ADU for it, "
        f"{abs(shift):.1f} times the "
        f"noise it should have, and would be for ever. The median hardly moves. Clipping asks for each reading "
        f"how far it lies "
        f"from the median, in units of the usual scatter, leaves out what lies beyond 3 "
        f"({hit.n_clipped} of {n} here), and averages the rest.</p>"
    )


def _hit_chart(samples: Samples, hit: PixelStory) -> str:
    n = len(hit.samples)
    ends = [1, n]
    return chart(
        [
            Series(list(range(1, n + 1)), hit.samples.tolist(), "", "dots", "a", samples.names),
            Series(ends, [hit.mean] * 2, "mean", "line", "bad"),
            Series(ends, [hit.clipped] * 2, "clipped mean", "dashes", "b"),
        ],
        "The same, with the outlier, ADU", "frame",
    )  # fmt: skip


def _hit_table(hit: PixelStory) -> str:
    error = hit.sigma / np.sqrt(len(hit.samples))
    rows = [
        (name, f"{value:.5g} ADU", f"{(value - hit.clipped) / max(error, 1e-12):+.1f}")
        for name, value in (("mean", hit.mean), ("median", hit.median), ("clipped mean", hit.clipped))
    ]
    return table(("", "value", "off by, in units of the mean's noise"), rows)
