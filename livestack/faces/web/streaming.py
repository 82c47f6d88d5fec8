"""Answers that wait for slow visitors: pictures in pieces, and server-sent events with only the latest status.

Nothing is queued for anybody: a visitor whose line is slow is written to when there is room, gets the newest state
then, and is let go when nothing was taken for half a minute. So memory does not grow with the crowd or with the night.
"""

from __future__ import annotations

import asyncio
from collections import Counter

from starlette.types import Receive, Scope, Send

from livestack.faces.web.encoder import Encoder

MOST_STREAMS = 200
MOST_STREAMS_PER_CALLER = 60
"""Of the 200 event streams one address may hold so many (this machine itself, where a proxy may run: any number)."""
TICK_S = 10.0
"""A sign of life when nothing changes: pages that miss it say "reconnecting"."""
SEND_TIMEOUT_S = 30.0
"""A visitor who takes nothing for so long is let go."""
PIECE_BYTES = 64 * 1024
LOOPBACK = ("127.0.0.1", "::1", "testclient")


class PatientResponse:
    """Bytes sent piece by piece, each when the visitor took the one before: a slow line holds 64 kB."""

    def __init__(self, body: bytes, headers: dict[str, str]) -> None:
        self._body = body
        self._headers = [(k.encode(), v.encode()) for k, v in {**headers, "content-length": str(len(body))}.items()]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send, or give up on a visitor who takes nothing."""
        body = b"" if scope["method"] == "HEAD" else self._body
        await send({"type": "http.response.start", "status": 200, "headers": self._headers})
        for start in range(0, max(1, len(body)), PIECE_BYTES):
            last = start + PIECE_BYTES >= len(body)
            piece = {"type": "http.response.body", "body": body[start : start + PIECE_BYTES], "more_body": not last}
            await asyncio.wait_for(send(piece), SEND_TIMEOUT_S)


class Streams:
    """Who listens to the events, and the bell that tells them of a change."""

    def __init__(self) -> None:
        self.closing = False
        self.per_caller: Counter[str] = Counter()
        self._bell = asyncio.Event()

    @property
    def count(self) -> int:
        """How many listen."""
        return self.per_caller.total()

    @property
    def bell(self) -> asyncio.Event:
        """Rings at the next change."""
        return self._bell

    def ring(self) -> None:
        """Wake everybody; called in the event loop."""
        self._bell.set()
        self._bell = asyncio.Event()

    def is_full(self, caller: str) -> bool:
        """True when no further stream can be had from this address."""
        crowded = caller not in LOOPBACK and self.per_caller[caller] >= MOST_STREAMS_PER_CALLER
        return self.count >= MOST_STREAMS or crowded


class EventStream:
    """One visitor's server-sent events: always the latest status only, whatever was missed meanwhile."""

    def __init__(self, encoder: Encoder, streams: Streams, caller: str) -> None:
        self._encoder, self._streams, self._caller = encoder, streams, caller

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send until the visitor leaves, stops taking, or the server closes."""

        async def until_gone() -> None:
            while (await receive())["type"] != "http.disconnect":
                pass

        async def put(text: bytes) -> None:
            await asyncio.wait_for(
                send({"type": "http.response.body", "body": text, "more_body": True}), SEND_TIMEOUT_S
            )

        if scope.get("method") == "HEAD":
            await send({"type": "http.response.start", "status": 200, "headers": []})
            await send({"type": "http.response.body", "body": b""})
            return
        headers = [(b"content-type", b"text/event-stream; charset=utf-8"), (b"x-accel-buffering", b"no")]
        self._streams.per_caller[self._caller] += 1
        gone = asyncio.create_task(until_gone())
        try:
            await send({"type": "http.response.start", "status": 200, "headers": headers})
            await put(b"retry: 2000\n\n")
            seen = None
            while not (gone.done() or self._streams.closing):
                bell, view = self._streams.bell, self._encoder.view
                if view.number != seen:
                    seen = view.number
                    await put(b"data: " + view.status + b"\n\n")
                    continue
                ringing = asyncio.create_task(bell.wait())
                await asyncio.wait({gone, ringing}, timeout=TICK_S, return_when=asyncio.FIRST_COMPLETED)
                if not ringing.done():
                    ringing.cancel()
                    if not gone.done():
                        await put(b"event: tick\ndata: 1\n\n")
            await send({"type": "http.response.body", "body": b"", "more_body": False})
        finally:
            gone.cancel()
            self._streams.per_caller[self._caller] -= 1
            self._streams.per_caller += Counter()  # drop those at zero
