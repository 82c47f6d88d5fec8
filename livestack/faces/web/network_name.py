"""A name for the address on the local network, `livestack.local`, by multicast DNS, where zeroconf is installed.

zeroconf is LGPL and never required: without it, or where the network forbids it, the address stays a number.
"""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Callable
from typing import Any

NAME = "livestack"


class NetworkName:
    """Announces a web page under a name until `close`.

    Parameters
    ----------
    address, port : where it is served.

    Attributes
    ----------
    url : by its name.
    """

    def __init__(self, zeroconf: Any, address: str, port: int) -> None:
        self.url = f"http://{NAME}.local:{port}/"
        self._info = zeroconf.ServiceInfo(
            "_http._tcp.local.", f"{NAME}._http._tcp.local.", addresses=[socket.inet_aton(address)], port=port,
            server=f"{NAME}.local.", properties={"path": "/"},
        )  # fmt: skip
        self._zeroconf = zeroconf.Zeroconf(interfaces=[address])
        self._zeroconf.register_service(self._info, allow_name_change=True)

    def close(self) -> None:
        """Take the name back."""
        self._zeroconf.unregister_service(self._info)
        self._zeroconf.close()


def announce(address: str, port: int, load: Callable[[], Any] | None = None) -> NetworkName | None:
    """Announce a page; None where that cannot be done.

    Parameters
    ----------
    load : brings the module zeroconf; for tests.
    """
    try:
        module = (load or _zeroconf)()
    except ImportError:
        return None
    with contextlib.suppress(OSError, ValueError, module.Error):
        return NetworkName(module, address, port)
    return None


def _zeroconf() -> Any:
    import zeroconf

    return zeroconf
