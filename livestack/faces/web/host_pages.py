"""What the host alone may read: the state, the night's frames, single frames, and files to take away."""

from __future__ import annotations

import contextlib
import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from starlette.background import BackgroundTask
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import FileResponse, JSONResponse, Response

from livestack.base.errors import FrameError, LivestackError
from livestack.faces.timelapse import encode_jpeg, write_film
from livestack.faces.web.encoder import Encoder
from livestack.faces.web.frame_pictures import FramePictures
from livestack.faces.web.status import frame_rows, host_status
from livestack.faces.web.tiles import Busy
from livestack.session.snapshot import Controls, Snapshot, TrendPoint

STRIP_ROWS = 512
FILM_SIDE = 854
SAVED_WITHIN_S = 120.0


class HostPages:
    """The endpoints.

    Parameters
    ----------
    admit : raises where a request is not the host's.
    home : address of the page that began the session, None where there is none.
    """

    def __init__(
        self, encoder: Encoder, controls: Controls | None, admit: Callable[[Request], None], home: str | None
    ) -> None:
        self._encoder, self._controls, self._admit, self._home = encoder, controls, admit, home
        self._frames = FramePictures()

    def close(self) -> None:
        """End the threads."""
        self._frames.close()

    async def state(self, request: Request) -> Response:
        """Messages, warnings, what is in force."""
        self._admit(request)
        told = await run_in_threadpool(host_status, self._encoder.view.snapshot)
        return JSONResponse({**told, "home": self._home})

    async def night(self, request: Request) -> Response:
        """The frames that came after number `after`."""
        self._admit(request)
        after = request.query_params.get("after")
        if after is not None and (not after.isdecimal() or len(after) > 9):
            raise HTTPException(400, "'after' must be the number of a frame.")
        last = -1 if after is None else int(after)
        return JSONResponse(await run_in_threadpool(frame_rows, self._encoder.view.snapshot, last))

    async def frame(self, request: Request) -> Response:
        """One frame as a picture, by its number; `full=1`: every pixel. "newest": the last one that came."""
        self._admit(request)
        point = find_point(self._encoder.view.snapshot, request.path_params["number"])
        if point is None or point.path is None:
            raise HTTPException(404, "There is no such frame.")
        full = request.query_params.get("full") == "1"
        try:
            data = await self._frames.get(point, full, self._encoder.view.snapshot.render)
        except Busy:
            raise HTTPException(503, "Many frames are being drawn; ask again.", {"retry-after": "1"}) from None
        except (FrameError, OSError) as error:
            raise HTTPException(404, f"{point.file}: cannot be shown ({error}).") from None
        return Response(data, media_type="image/jpeg", headers={"cache-control": "private, max-age=3600"})

    async def picture(self, request: Request) -> Response:
        """The picture as it is seen, every pixel, as PNG."""
        self._admit(request)
        snapshot = self._encoder.view.snapshot
        if snapshot.region is None:
            raise HTTPException(404, "There is no picture yet.")
        try:
            data = await run_in_threadpool(draw_png, snapshot)
        except LivestackError as error:
            raise HTTPException(503, str(error)) from None
        return Response(data, media_type="image/png", headers=_named(f"{_stem(snapshot)}.png"))

    async def stack(self, request: Request) -> Response:
        """The linear stack as it stands: saved first, then sent."""
        self._admit(request)
        snapshot = self._encoder.view.snapshot
        if snapshot.output is None or not snapshot.group or self._controls is None:
            raise HTTPException(404, "There is no stack yet.")
        path = snapshot.output / snapshot.group / "stack.fits"
        await run_in_threadpool(save_and_wait, self._controls, path)
        return FileResponse(path, media_type="application/fits", headers=_named(f"{_stem(snapshot)}.fits"))

    async def film(self, request: Request) -> Response:
        """How the picture grew, as a film."""
        self._admit(request)
        pictures = self._encoder.grown
        if len(pictures) < 2:
            raise HTTPException(404, "There are not pictures enough for a film yet.")
        path = await run_in_threadpool(film_of, pictures)
        kind = "video/mp4" if path.suffix == ".mp4" else "image/webp"
        headers = _named(f"{_stem(self._encoder.view.snapshot)}_growing{path.suffix}")
        return FileResponse(path, media_type=kind, headers=headers, background=BackgroundTask(path.unlink))


def find_point(snapshot: Snapshot, asked: str) -> TrendPoint | None:
    """The frame of a number, or "newest"."""
    if asked == "newest":
        return next((point for point in reversed(snapshot.trend) if point.path is not None), None)
    if not asked.isdecimal() or len(asked) > 9:
        return None
    return next((point for point in reversed(snapshot.trend) if point.frame == int(asked)), None)


def draw_png(snapshot: Snapshot) -> bytes:
    """The whole picture in true pixels, strip by strip.

    Raises
    ------
    LivestackError : the canvas grew meanwhile.
    """
    width, height = snapshot.full_size
    assert snapshot.region is not None
    strips = [snapshot.region(0, y, width, min(STRIP_ROWS, height - y)) for y in range(0, height, STRIP_ROWS)]
    done, data = cv2.imencode(".png", cv2.cvtColor(np.concatenate(strips), cv2.COLOR_RGB2BGR))
    if not done:
        raise LivestackError("picture: could not be written as PNG.")
    return bytes(data)


def save_and_wait(controls: Controls, path: Path) -> None:
    """Let the session save, and wait until the stack is newer than the wish.

    Raises
    ------
    HTTPException : it takes too long.
    """
    asked = time.time()
    controls.save_now()
    end = time.monotonic() + SAVED_WITHIN_S
    while time.monotonic() < end:
        with contextlib.suppress(OSError):
            if os.stat(path).st_mtime >= asked - 0.01:
                return
        time.sleep(0.1)
    raise HTTPException(503, "The stack is not saved yet; ask again.")


def film_of(pictures: list[bytes]) -> Path:
    """Write a film into a temporary file and return where it is."""
    handle, name = tempfile.mkstemp(prefix="livestack-", suffix=".mp4")
    os.close(handle)
    path = Path(name)
    made = write_film([make_small(picture) for picture in pictures], path)
    if made != path:
        path.unlink()
    return made


def make_small(picture: bytes) -> bytes:
    """A JPEG at the size of the film: encoding takes its time from the stack."""
    decoded = cv2.imdecode(np.frombuffer(picture, np.uint8), cv2.IMREAD_COLOR)
    return encode_jpeg(decoded[:, :, ::-1], FILM_SIDE, 88) if decoded is not None else picture


def _stem(snapshot: Snapshot) -> str:
    return f"{snapshot.group or 'stack'}_{snapshot.n_stacked}"


def _named(name: str) -> dict[str, Any]:
    return {"content-disposition": f'attachment; filename="{name}"', "cache-control": "no-store"}
