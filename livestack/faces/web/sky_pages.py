"""The page of the sky: where the picture lies, lines, names, and how faint it reaches. Read only, for everybody.

The answer carries a tag that holds the number of the change, so that asking again without news costs nothing.
"""

from __future__ import annotations

from typing import Any

from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from livestack.faces.web.access_control import RateLimit, caller_of
from livestack.faces.web.encoder import Encoder
from livestack.faces.web.sky import SkyDesk
from livestack.faces.web.streaming import PatientResponse


class SkyPages:
    """The endpoint; the sky is that of the encoder's view."""

    def __init__(self, encoder: Encoder) -> None:
        self._encoder = encoder
        self._desk = SkyDesk()
        self._rate = RateLimit(per_s=5, burst=30)

    async def all(self, request: Request) -> Any:
        """All that is known of the sky in the picture.

        Raises
        ------
        HTTPException : too many requests, or it is not known where the picture lies.
        """
        if not self._rate.allows(caller_of(request)):
            raise HTTPException(429, "Too many requests; wait a second.", {"retry-after": "1"})
        solved = self._encoder.view.sky
        if solved is None:
            raise HTTPException(404, "It is not known (yet) where in the sky this picture lies.")
        tag = f'"{self._encoder.run}-sky-{solved.number}"'
        headers = {"content-type": "application/json", "cache-control": "no-cache", "etag": tag}
        if request.headers.get("if-none-match") == tag:
            return Response(status_code=304, headers=headers)
        return PatientResponse(await run_in_threadpool(self._desk.answer, solved), headers)
