"""True pixels on demand: square JPEG tiles of the full-size stack, few at a time.

A tile is rendered once for each state of the stack and kept while there is room; requests for the same tile wait for
the same rendering. One thread renders; when too many tiles wait, more are refused, so that a crowd zooming in
cannot take the machine away from the stack.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from concurrent.futures import ThreadPoolExecutor

from livestack.faces.timelapse import encode_jpeg
from livestack.session.snapshot import Snapshot

TILE_SIDE = 512
MOST_WAITING = 24
MOST_KEPT = 128


class Busy(Exception):
    """Too many tiles wait already; ask again in a second."""


class TileStore:
    """Renders and keeps the tiles of the newest stack."""

    def __init__(self) -> None:
        self._executor = ThreadPoolExecutor(max_workers=1, thread_name_prefix="livestack-web-tiles")
        self._kept: OrderedDict[tuple[str, int, int], bytes] = OrderedDict()
        self._waiting: dict[tuple[str, int, int], asyncio.Future[bytes]] = {}

    def close(self) -> None:
        """End the thread."""
        self._executor.shutdown(wait=False, cancel_futures=True)

    async def get(self, name: str, snapshot: Snapshot, column: int, row: int) -> bytes | None:
        """Return the tile as JPEG, None outside the picture.

        Raises
        ------
        Busy : too many tiles wait.
        """
        width, height = snapshot.full_size
        x, y = column * TILE_SIDE, row * TILE_SIDE
        region = snapshot.region
        if region is None or column < 0 or row < 0 or x >= width or y >= height:
            return None
        key = (name, column, row)
        if key in self._kept:
            return self._kept[key]
        if key not in self._waiting:
            if len(self._waiting) >= MOST_WAITING:
                raise Busy
            w, h = min(TILE_SIDE, width - x), min(TILE_SIDE, height - y)
            loop = asyncio.get_running_loop()
            self._waiting[key] = loop.run_in_executor(self._executor, lambda: encode_jpeg(region(x, y, w, h), None, 90))
            self._waiting[key].add_done_callback(lambda done: self._keep(key, done))
        # A visitor who goes away must not cancel the tile for the others.
        return await asyncio.shield(self._waiting[key])

    def _keep(self, key: tuple[str, int, int], done: asyncio.Future[bytes]) -> None:
        self._waiting.pop(key, None)
        if done.cancelled() or done.exception() is not None:
            return
        self._kept[key] = done.result()
        while len(self._kept) > MOST_KEPT:
            self._kept.popitem(last=False)
