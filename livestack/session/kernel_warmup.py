"""The first run on a machine compiles the loops, which takes a minute or two: done beside the wait for the first frame.

A handful of tiny invented frames goes through the same steps as real ones; what is compiled is kept in numba's cache on
disk, so later runs only load it. After a change of any loop all are compiled anew (`livestack.kernels`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

from livestack.base.frame import Frame, FrameInfo
from livestack.base.settings import CalibrationSettings, Settings, StackSettings
from livestack.detection.psf import measure_psf
from livestack.engine.ledger import Member
from livestack.engine.live_stack import LiveStack
from livestack.engine.prepare import calibrate
from livestack.engine.restack import test_anew
from livestack.engine.states import Calibrated
from livestack.kernels.accumulate import accumulate_strip
from livestack.kernels.bands import Bands
from livestack.observers.photometry import Photometry
from livestack.picture import measure_look, render

SIDE = 160


def is_compiled(drizzled: bool = False) -> bool:
    """True when the cache holds the stack's loop, as it does after a first run; of drizzle the last one, too."""
    stats = getattr(accumulate_strip, "stats", None)  # None where numba is switched off
    if stats is None or stats.cache_path is None:
        return True
    wanted = ["accumulate.accumulate_strip-*.nbi", *(["drizzle_test.look_at_rows-*.nbi"] if drizzled else [])]
    return all(any(Path(stats.cache_path).glob(name)) for name in wanted)


def compile_loops(stopped: Callable[[], bool], drizzled: bool = False) -> None:
    """Send tiny frames through every step; `stopped` is asked now and then, `drizzled` adds the loops of drizzle."""
    debayered = Settings(stack=StackSettings(warmup_frames=2))
    by_drops = debayered.model_copy(update={"calibration": CalibrationSettings(debayer="drizzle")})
    ways = [(None, debayered), ("RGGB", debayered), *([("RGGB", by_drops)] if drizzled else [])]
    for bayer, settings in ways:
        with LiveStack(settings) as stack:
            stars = Photometry(settings.photometry, stack.bands, lambda said: None)
            stack.events.subscribe(stars.on_event)
            frames = invented_frames(bayer)
            for frame in frames:
                if stopped():
                    return
                stack.add(frame)
            linear = np.atleast_3d(stack.result().mean.T).T
            render(linear, measure_look(linear, settings.render), SIDE // 2)
            if stopped():
                return
            measure_psf(linear[0])
            if stopped():
                return
            group = next(iter(stack.groups.values()))
            with ThreadPoolExecutor(1) as reader:
                test_anew(group, _fetch_from(frames, settings, stack.bands), reader, None, None)


def _fetch_from(frames: Sequence[Frame], settings: Settings, bands: Bands) -> Callable[[Member], Calibrated]:
    """What gives a member's pixels again."""
    return lambda member: calibrate(frames[member.index], None, settings, bands)


def invented_frames(bayer: str | None) -> list[Frame]:
    """Three frames of a dozen stars."""
    draw = np.random.default_rng(1)
    places = draw.uniform(16, SIDE - 16, (24, 2))
    y, x = np.mgrid[:SIDE, :SIDE]
    frames = []
    for number in range(3):
        light = np.full((SIDE, SIDE), 500.0)
        for star, (px, py) in enumerate(places + 0.4 * number):
            # one of them flares, for that has a loop of its own
            light += (9000.0 if star == 0 and number == 2 else 3000.0) * np.exp(-((x - px) ** 2 + (y - py) ** 2) / 4.0)
        noisy = (light + draw.normal(0, 15, light.shape)).astype(np.uint16)
        info = FrameInfo(width=SIDE, height=SIDE, bayer=bayer, bits=16, saturation_adu=65535.0, exposure_s=1.0)
        frames.append(Frame(noisy, info, None, number))
    return frames
