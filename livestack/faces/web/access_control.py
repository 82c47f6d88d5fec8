"""Who may do what: the host's secret, requests from other sites, rates, and the headers that every answer carries.

Visitors only ever read. What changes the session needs the secret, which the host's link turns into a cookie that
scripts cannot read and that other sites cannot send (HttpOnly, SameSite=Strict); besides, a request that a browser says
comes from another site is refused (Origin, Sec-Fetch-Site).
"""

from __future__ import annotations

import hashlib
import hmac
import time
from collections import OrderedDict

from starlette.datastructures import MutableHeaders
from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

SECURITY_HEADERS = (
    (
        b"content-security-policy",
        b"default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
        b"manifest-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'",
    ),
    (b"x-content-type-options", b"nosniff"),
    (b"x-frame-options", b"DENY"),
    (b"referrer-policy", b"no-referrer"),
    (b"cross-origin-resource-policy", b"same-origin"),
    (b"cross-origin-opener-policy", b"same-origin"),
    (b"permissions-policy", b"camera=(), microphone=(), geolocation=()"),
)


class SecurityHeaders:
    """Adds the headers to every answer, and `no-store` where the answer does not say how long it keeps."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on and complete the answer's headers."""

        async def send_complete(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = list(message.get("headers", ()))
                present = {name.lower() for name, _ in headers}
                headers += [(name, value) for name, value in SECURITY_HEADERS if name not in present]
                if b"cache-control" not in present:
                    headers.append((b"cache-control", b"no-store"))
                message = {**message, "headers": headers}
            await send(message)

        await self._app(scope, receive, send_complete)


class HostKey:
    """The host's secret: compares in constant time, and names the cookie so that two sessions do not mix."""

    def __init__(self, token: str) -> None:
        self._token = token.encode()
        self.cookie = f"livestack_{hashlib.sha256(self._token).hexdigest()[:10]}"

    def matches(self, candidate: str) -> bool:
        """True for the secret itself."""
        return hmac.compare_digest(candidate.encode("utf-8", "replace"), self._token)

    def admits(self, request: Request) -> bool:
        """True when the request carries the secret, as cookie or as `Authorization: Bearer`."""
        kind, _, value = request.headers.get("authorization", "").partition(" ")
        if kind.lower() == "bearer" and self.matches(value.strip()):
            return True
        return self.matches(request.cookies.get(self.cookie, ""))


def is_cross_site(request: Request) -> bool:
    """True when the browser says that another site made this request."""
    if request.headers.get("sec-fetch-site", "same-origin") not in ("same-origin", "none"):
        return True
    origin = request.headers.get("origin")
    return origin is not None and origin.partition("://")[2] != request.headers.get("host", "")


class RateLimit:
    """A bucket of permits for each caller: `burst` at once, `per_s` in the long run; remembers `callers` callers."""

    def __init__(self, per_s: float, burst: float, callers: int = 1000) -> None:
        self._per_s, self._burst, self._callers = per_s, burst, callers
        self._buckets: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def allows(self, caller: str, now: float | None = None) -> bool:
        """Take a permit; False when there is none."""
        now = time.monotonic() if now is None else now
        level, since = self._buckets.pop(caller, (self._burst, now))
        level = min(self._burst, level + (now - since) * self._per_s)
        allowed = level >= 1
        self._buckets[caller] = (level - 1 if allowed else level, now)
        if len(self._buckets) > self._callers:
            self._buckets.popitem(last=False)
        return allowed


def caller_of(request: Request) -> str:
    """Return the address that the request came from."""
    return request.client.host if request.client else ""


async def read_bounded(request: Request, limit: int) -> bytes | None:
    """Return the body, or None when it is longer than `limit` bytes; never holds more than that."""
    declared = request.headers.get("content-length", "0")
    if not declared.isdigit() or int(declared) > limit:
        return None
    body = b""
    async for chunk in request.stream():
        body += chunk
        if len(body) > limit:
            return None
    return body


def set_host_cookie(key: HostKey, token: str, headers: MutableHeaders, path: str = "/host") -> None:
    """Add the header that makes a browser the host's: for this session, out of reach of scripts and other sites."""
    headers["set-cookie"] = f"{key.cookie}={token}; Path={path}; Max-Age=86400; HttpOnly; SameSite=Strict"
