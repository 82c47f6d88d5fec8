"""At the door of the web view: so many connections at most, and none for those who never say what they want.

uvicorn answers 503 beyond its limits but holds every connection all the same; a visitor who opens a thousand would use
up the file handles that the session needs for its frames. Here connections beyond the limits are closed as they come.
"""

from __future__ import annotations

import asyncio

from uvicorn.protocols.http.h11_impl import H11Protocol

MOST_CONNECTIONS = 500
MOST_PER_CALLER = 150
"""One address may hold so many (this machine itself, where a proxy may run: all)."""
SILENCE_S = 15.0
"""A connection that did not bring a whole request within this time is closed."""
LOOPBACK = ("127.0.0.1", "::1")


def may_enter(caller: str, present: list[str]) -> bool:
    """True when one more connection of `caller` fits beside those of the callers `present`."""
    if len(present) >= MOST_CONNECTIONS:
        return False
    return caller in LOOPBACK or present.count(caller) < MOST_PER_CALLER


class BoundedProtocol(H11Protocol):
    """uvicorn's HTTP/1.1 connection, with a limit on how many there are and how long they may say nothing."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Take the connection, or close it at once."""
        peer = transport.get_extra_info("peername")
        present = [other.client[0] for other in self.connections if isinstance(other, H11Protocol) and other.client]
        if peer and not may_enter(str(peer[0]), present):
            self.transport = transport
            transport.abort()
            return
        super().connection_made(transport)
        self.loop.call_later(SILENCE_S, self._close_silent)

    def _close_silent(self) -> None:
        if self.cycle is None and not self.transport.is_closing():
            self.transport.close()
