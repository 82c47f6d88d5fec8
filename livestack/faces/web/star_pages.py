"""The pages of the stars' light: what varies most, and one star's curve. Read only, for everybody, small.

An answer carries a tag that holds the number of the change, so that asking again without news costs nothing.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from livestack.faces.web.access_control import RateLimit, caller_of
from livestack.faces.web.encoder import Encoder
from livestack.faces.web.stars import StarDesk, Starlight
from livestack.faces.web.streaming import PatientResponse

NEAR_PX = 12.0
"""A place means the nearest star that is not further from it, unless the page says how far."""


class StarPages:
    """The endpoints; the light is that of the encoder's view."""

    def __init__(self, encoder: Encoder) -> None:
        self._encoder = encoder
        self._desk = StarDesk()
        self._rate = RateLimit(per_s=10, burst=60)

    async def list(self, request: Request) -> Any:
        """Where the measured stars are, and which vary most."""
        light = self._light(request)
        return await self._tell_light(request, light, None)

    async def one(self, request: Request) -> Any:
        """One star's curve: by `star`, a number that is good for the `key` it came with, or nearest to `x`, `y`."""
        light = self._light(request)
        try:
            star, key, place, within = read_star_query(request.query_params)
        except ValueError as error:
            raise HTTPException(400, f"Not understood: {error}") from None
        found = light.find(star, key, place, within)
        if found is None:
            raise HTTPException(404, "There is no measured star there.")
        return await self._tell_light(request, light, found)

    def _light(self, request: Request) -> Starlight:
        """Return the stars' light as it is now.

        Raises
        ------
        HTTPException : too many requests, or nothing was measured.
        """
        if not self._rate.allows(caller_of(request)):
            raise HTTPException(429, "Too many requests; wait a second.", {"retry-after": "1"})
        light = self._encoder.view.stars
        if light is None:
            raise HTTPException(404, "No stars have been measured yet.")
        return light

    async def _tell_light(self, request: Request, light: Starlight, star: int | None) -> Any:
        """Answer with the list (None) or a star's curve; in few bytes where the browser has it already."""
        tag = f'"{self._encoder.run}-{light.number}-{"all" if star is None else star}"'
        headers = {"content-type": "application/json", "cache-control": "no-cache", "etag": tag}
        if request.headers.get("if-none-match") == tag:
            return Response(status_code=304, headers=headers)
        return PatientResponse(await run_in_threadpool(self._desk.answer, light, star), headers)


def read_star_query(asked: Mapping[str, str]) -> tuple[int | None, str | None, tuple[float, float] | None, float]:
    """Return the number of a star, the key of its set, a place of the picture (x, y), and how far from it, px.

    Raises
    ------
    ValueError : neither a number nor a place, or something that is no number.
    """
    star = int(asked["star"]) if "star" in asked else None
    place = (float(asked["x"]), float(asked["y"])) if "x" in asked and "y" in asked else None
    within = float(asked.get("within", NEAR_PX))
    if star is None and place is None:
        raise ValueError("expected 'star', or 'x' and 'y'.")
    if not all(map(math.isfinite, (*(place or ()), within))):
        raise ValueError("a number is not finite.")
    return star, asked.get("key"), place, within
