"""Serves an application from a thread: binds the port, knows its addresses and its secret, starts and stops."""

from __future__ import annotations

import errno
import secrets
import socket
import threading
import time

import segno
import uvicorn
from starlette.applications import Starlette

from livestack.base.errors import UsageError
from livestack.faces.web.connection_limits import BoundedProtocol

START_TIMEOUT_S = 15.0


def bind_port(host: str, port: int) -> socket.socket:
    """Return a socket bound to `host` and `port` (0: any free port).

    Raises
    ------
    UsageError : the port is taken, may not be used, or there is no such address here.
    """
    try:
        family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
    except socket.gaierror:
        raise UsageError(f"--host {host}: there is no such address; 127.0.0.1 or 0.0.0.0 will do.") from None
    bound = socket.socket(family, socket.SOCK_STREAM)
    try:
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        bound.bind(address)
    except OSError as error:
        bound.close()
        if error.errno == errno.EADDRINUSE:
            found, remedy = "another program uses this port", "choose another with --port, or 0 for any free one"
        elif error.errno == errno.EACCES:
            found, remedy = "this port needs special rights", "choose one above 1023"
        else:
            found, remedy = f"cannot serve on {host} ({error.strerror})", "127.0.0.1 or 0.0.0.0 will do"
        raise UsageError(f"--port {port}: {found}; {remedy}.") from None
    return bound


def find_lan_address() -> str:
    """Return this machine's address in its network, for others to use; no packet is sent to find it."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))  # TEST-NET-1 (RFC 5737): only asks the routing table
            return str(probe.getsockname()[0])
        except OSError:
            return "127.0.0.1"


def address_of(host: str, port: int) -> str:
    """Return the address under which others reach what listens on `host` and `port`."""
    name = find_lan_address() if host in ("0.0.0.0", "::", "") else host
    return f"http://[{name}]:{port}/" if ":" in name else f"http://{name}:{port}/"


def qr_text(url: str) -> str:
    """Return a QR code of `url` made of block characters, for a terminal with dark background, 2 rows a line."""
    rows = [[bool(cell) for cell in row] for row in segno.make(url, error="l", micro=False).matrix_iter(border=2)]
    if len(rows) % 2:
        rows.append([False] * len(rows[0]))
    # Light modules are drawn, dark ones are the background: readers expect dark on light.
    blocks = {(False, False): "█", (False, True): "▀", (True, False): "▄", (True, True): " "}
    return "\n".join(
        "".join(blocks[pair] for pair in zip(*rows[n : n + 2], strict=True)) for n in range(0, len(rows), 2)
    )


class AppServer:
    """An application served from a thread of its own; what it serves is its `make`.

    Parameters
    ----------
    host, port : where to listen; 127.0.0.1 lets in nobody else, 0.0.0.0 the network; port 0 takes a free one.
    token : the host's secret; drawn at random where None.
    behind : it is reached through another server of this machine, which says for whom it asks.
    """

    def __init__(self, host: str, port: int, token: str | None, behind: bool = False) -> None:
        self._host, self._port = host, port
        self._token = token or secrets.token_urlsafe(18)
        self._behind = behind
        self._server: uvicorn.Server | None = None
        self._thread: threading.Thread | None = None

    def make(self) -> Starlette:
        """Return the application; called once the port is known."""
        raise NotImplementedError

    def say_goodbye(self) -> None:
        """Let go of those who would stay for ever; called before the end."""

    @property
    def port(self) -> int:
        """Where it listens."""
        return self._port

    @property
    def public_url(self) -> str:
        """The address for everybody."""
        return address_of(self._host, self._port)

    @property
    def host_url(self) -> str:
        """The host's secret address: whoever opens it may control the session."""
        return f"{self.public_url}enter/{self._token}"

    @property
    def is_open(self) -> bool:
        """True when others than this machine can reach it."""
        return not (self._host in ("localhost", "::1") or self._host.startswith("127."))

    def start(self) -> None:
        """Serve; returns when the first visitor can come.

        Raises
        ------
        UsageError : the port is taken, or there is no such address.
        """
        if self._thread is not None:
            return
        bound = bind_port(self._host, self._port)
        self._port = int(bound.getsockname()[1])
        config = uvicorn.Config(
            self.make(),
            loop="asyncio",
            http=BoundedProtocol,
            ws="none",
            lifespan="on",
            log_config=None,
            log_level="critical",
            access_log=False,  # the secret link must not end up in a log
            server_header=False,
            proxy_headers=self._behind,
            forwarded_allow_ips="127.0.0.1",
            timeout_keep_alive=10,
            timeout_graceful_shutdown=2,
        )
        self._server = server = uvicorn.Server(config)
        self._thread = threading.Thread(target=server.run, args=([bound],), name="livestack-web", daemon=True)
        self._thread.start()
        end = time.monotonic() + START_TIMEOUT_S
        while not server.started and self._thread.is_alive() and time.monotonic() < end:
            time.sleep(0.01)
        if not server.started:
            bound.close()
            raise UsageError(f"--port {self._port}: the web view did not start; try again with another --port.")

    def stop(self) -> None:
        """Say goodbye to the visitors and end; returns when the port is free again."""
        if self._server is None or self._thread is None:
            return
        self.say_goodbye()
        self._server.should_exit = True
        self._thread.join(timeout=10)
        self._server, self._thread = None, None
