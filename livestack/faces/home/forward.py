"""Hands requests on to the session's own server and its answers back, piece by piece: one address for both.

HTTP/1.0 to the session: an answer ends with its connection, so events and pictures pass through as they are. Pictures
that are good for ever are kept here, so that a crowd costs the session one of each.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Iterable

from starlette.types import Receive, Scope, Send

from livestack.faces.web.streaming import SEND_TIMEOUT_S

PIECE_BYTES = 64 * 1024
LONGEST_HEAD = 32 * 1024
KEPT_BYTES = 48 << 20
MOST_BODY = 64 * 1024
"""No control of a session takes more."""
_NOT_OURS = {b"connection", b"keep-alive", b"transfer-encoding", b"upgrade", b"te", b"trailer", b"proxy-connection",
             b"x-forwarded-for", b"x-forwarded-proto", b"forwarded", b"expect"}  # fmt: skip

Headers = list[tuple[bytes, bytes]]


class KeptAnswers:
    """Answers that never change, by their path; the oldest go first."""

    def __init__(self, limit: int = KEPT_BYTES) -> None:
        self._limit, self._size = limit, 0
        self._kept: OrderedDict[bytes, tuple[Headers, bytes]] = OrderedDict()

    def get(self, path: bytes) -> tuple[Headers, bytes] | None:
        """The answer of a path."""
        return self._kept.get(path)

    def keep(self, path: bytes, headers: Headers, body: bytes) -> None:
        """Keep an answer."""
        if path in self._kept or len(body) > self._limit // 8:
            return
        self._kept[path] = (headers, body)
        self._size += len(body)
        while self._size > self._limit:
            _, (_, old) = self._kept.popitem(last=False)
            self._size -= len(old)


class Forward:
    """An ASGI endpoint that asks the server on `port` of this machine.

    Raises
    ------
    OSError : nobody listens there, before anything was answered.
    """

    def __init__(self, port: int, kept: KeptAnswers) -> None:
        self._port, self._kept = port, kept

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on and the answer back."""
        path = scope.get("raw_path") or scope["path"].encode()
        if scope["method"] == "GET" and (known := self._kept.get(path)) is not None:
            await _answer(send, 200, known[0], known[1])
            return
        reader, writer = await asyncio.open_connection("127.0.0.1", self._port, limit=LONGEST_HEAD)
        gone: asyncio.Task[None] | None = None
        try:
            writer.write(_head(scope, path))
            more, taken = scope["method"] not in ("GET", "HEAD"), 0
            while more:
                message = await receive()
                taken += len(message.get("body", b""))
                if message["type"] == "http.disconnect":
                    return
                if taken > MOST_BODY:
                    await _answer(send, 413, [], b"")
                    return
                writer.write(message.get("body", b""))
                more = message.get("more_body", False)
                await writer.drain()
            status, headers = _read_head(await reader.readuntil(b"\r\n\r\n"))
            await send({"type": "http.response.start", "status": status, "headers": headers})
            gone = asyncio.create_task(_until_gone(receive))
            body, keeps = bytearray(), status == 200 and scope["method"] == "GET" and _is_for_ever(headers)
            while True:
                reading = asyncio.create_task(reader.read(PIECE_BYTES))
                await asyncio.wait({gone, reading}, return_when=asyncio.FIRST_COMPLETED)
                if not reading.done():
                    reading.cancel()
                    return
                piece = reading.result()
                if keeps:
                    body += piece
                await asyncio.wait_for(
                    send({"type": "http.response.body", "body": piece, "more_body": bool(piece)}), SEND_TIMEOUT_S
                )
                if not piece:
                    break
            if keeps and len(body) == _length(headers):
                self._kept.keep(path, headers, bytes(body))
        finally:
            if gone is not None:
                gone.cancel()
            writer.close()


async def _until_gone(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


async def _answer(send: Send, status: int, headers: Headers, body: bytes) -> None:
    await send({"type": "http.response.start", "status": status, "headers": headers})
    for start in range(0, max(1, len(body)), PIECE_BYTES):
        last = start + PIECE_BYTES >= len(body)
        piece = {"type": "http.response.body", "body": body[start : start + PIECE_BYTES], "more_body": not last}
        await asyncio.wait_for(send(piece), SEND_TIMEOUT_S)


def _head(scope: Scope, path: bytes) -> bytes:
    """The request's first lines, as HTTP/1.0, with the caller's address."""
    query = scope.get("query_string", b"")
    target = path + (b"?" + query if query else b"")
    caller = scope["client"][0].encode() if scope.get("client") else b"127.0.0.1"
    lines = [scope["method"].encode() + b" " + target + b" HTTP/1.0"]
    lines += [name + b": " + value for name, value in _plain(scope["headers"])]
    lines += [b"x-forwarded-for: " + caller, b"connection: close"]
    return b"\r\n".join(lines) + b"\r\n\r\n"


def _plain(headers: Iterable[tuple[bytes, bytes]]) -> Headers:
    return [(name, value) for name, value in headers if name.lower() not in _NOT_OURS]


def _read_head(head: bytes) -> tuple[int, Headers]:
    first, *lines = head[:-4].split(b"\r\n")
    fields = [line.split(b":", 1) for line in lines if b":" in line]
    return int(first.split(b" ", 2)[1]), _plain((name.strip(), value.strip()) for name, value in fields)


def _is_for_ever(headers: Headers) -> bool:
    return any(name.lower() == b"cache-control" and b"immutable" in value for name, value in headers)


def _length(headers: Headers) -> int:
    return next((int(value) for name, value in headers if name.lower() == b"content-length"), -1)
