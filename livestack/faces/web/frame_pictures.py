"""Single frames of the night as pictures, read from their files when somebody wants to see them.

Few at a time, in one thread, so that looking does not slow the stack; what was drawn is kept while there is room.
"""

from __future__ import annotations

import asyncio
import os
from collections import OrderedDict
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from livestack.base.frame import Frame
from livestack.base.settings import RenderSettings
from livestack.calibration.debayer import debayer
from livestack.calibration.xtrans import debayer_xtrans
from livestack.faces.timelapse import encode_jpeg
from livestack.faces.web.tiles import Busy
from livestack.formats import read_frame
from livestack.picture import measure_look, reduce_planes, render
from livestack.session.snapshot import TrendPoint

THUMB_SIDE = 160
KEPT_BYTES = 24 << 20
MOST_WAITING = 24


class FramePictures:
    """Draws frames, small or in full, with a stretch of their own."""

    def __init__(self) -> None:
        self._executor = ThreadPoolExecutor(max_workers=1, thread_name_prefix="livestack-web-frames")
        self._kept: OrderedDict[tuple[str, int, bool], bytes] = OrderedDict()
        self._waiting: dict[tuple[str, int, bool], asyncio.Future[bytes]] = {}

    def close(self) -> None:
        """End the thread."""
        self._executor.shutdown(wait=False, cancel_futures=True)

    async def get(self, point: TrendPoint, full: bool, render_settings: RenderSettings) -> bytes:
        """Return a frame as JPEG: every pixel, or a thumbnail.

        Raises
        ------
        Busy : too many wait. FrameError, OSError : it cannot be read (any more).
        """
        key = (os.fspath(point.path or ""), point.index, full)
        if key in self._kept:
            self._kept.move_to_end(key)
            return self._kept[key]
        if key not in self._waiting:
            if len(self._waiting) >= MOST_WAITING:
                raise Busy
            loop = asyncio.get_running_loop()
            task = loop.run_in_executor(self._executor, draw_frame, point, full, render_settings)
            self._waiting[key] = task
            task.add_done_callback(lambda done: self._keep(key, done))
        return await asyncio.shield(self._waiting[key])

    def _keep(self, key: tuple[str, int, bool], done: asyncio.Future[bytes]) -> None:
        self._waiting.pop(key, None)
        if done.cancelled() or done.exception() is not None:
            return
        self._kept[key] = done.result()
        while sum(map(len, self._kept.values())) > KEPT_BYTES and len(self._kept) > 1:
            self._kept.popitem(last=False)


def draw_frame(point: TrendPoint, full: bool, settings: RenderSettings) -> bytes:
    """Read a frame and draw it the right way up.

    Raises
    ------
    FrameError : it cannot be read.
    """
    assert point.path is not None
    frame = read_frame(point.path, point.index)
    bottom_up = frame.info.bottom_up
    if not full:
        small, _ = reduce_planes(grey_of(frame), THUMB_SIDE)
        return encode_jpeg(stretched(small[::1, ::-1] if bottom_up else small), THUMB_SIDE, 70)
    planes = developed(frame)
    look = measure_look(planes, settings.model_copy(update={"black": 0.0, "midtone": 0.5, "white": 1.0}))
    return encode_jpeg(render(planes, look, bottom_up=bottom_up).rgb, None, 88)


def developed(frame: Frame) -> np.ndarray:
    """(C, H, W) float32 of a frame, debayered, not calibrated."""
    data = np.ascontiguousarray(frame.data, dtype=np.float32)
    if data.ndim == 3:
        return data
    if frame.info.xtrans is not None:
        return debayer_xtrans(data, frame.info.xtrans)
    if frame.info.bayer is not None:
        return debayer(data, frame.info.bayer, "bilinear")
    return data[None]


def grey_of(frame: Frame) -> np.ndarray:
    """(1, h, w) float32 in grey; a mosaic at half its size."""
    data = np.asarray(frame.data)
    if data.ndim == 3:
        return np.ascontiguousarray(data.mean(axis=0, dtype=np.float32)[None])
    if frame.info.mosaic is None:
        return np.ascontiguousarray(data[None], dtype=np.float32)
    height, width = data.shape[0] // 2 * 2, data.shape[1] // 2 * 2
    cells = data[:height, :width].reshape(height // 2, 2, width // 2, 2)
    return np.ascontiguousarray(cells.mean(axis=(1, 3), dtype=np.float32)[None])


def stretched(planes: np.ndarray) -> np.ndarray:
    """(h, w, 3) uint8 of (1, h, w) between its percentiles."""
    known = planes[np.isfinite(planes)]
    if not known.size:
        return np.zeros((*planes.shape[1:], 3), np.uint8)
    low, high = np.percentile(known, [1, 99.7])
    level = np.sqrt(np.clip((np.nan_to_num(planes[0], nan=low) - low) / max(float(high - low), 1e-9), 0, 1))
    return np.repeat((255 * level).astype(np.uint8)[:, :, None], 3, axis=2)
