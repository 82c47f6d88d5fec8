"""The web view of a session, served from a thread."""

from __future__ import annotations

from starlette.applications import Starlette

from livestack.faces.web.app import Site, make_app
from livestack.faces.web.serving import AppServer, bind_port, find_lan_address, qr_text
from livestack.session.snapshot import Controls, Slot

__all__ = ["WebServer", "bind_port", "find_lan_address", "make_app", "qr_text"]


class WebServer(AppServer):
    """The web view of a slot, served from a thread of its own.

    Parameters
    ----------
    slot : where the session publishes.
    controls : what the host may ask of the session.
    host, port, token : as for `AppServer`.
    home : address of the page that began the session, where there is one: it is served behind that page's server.
    join_url : address that visitors scan; None: its own, where others can reach it.
    """

    def __init__(
        self, slot: Slot, controls: Controls | None, host: str = "127.0.0.1", port: int = 8765,
        token: str | None = None, home: str | None = None, join_url: str | None = None,
    ) -> None:  # fmt: skip
        super().__init__(host, port, token, behind=home is not None)
        self._slot, self._controls, self._home, self._join_url = slot, controls, home, join_url
        self._site: Site | None = None

    def make(self) -> Starlette:
        """The application."""
        join = self._join_url or (self.public_url if self.is_open else None)
        app = make_app(self._slot, self._controls, self._token, join, self._home)
        self._site = app.state.site
        return app

    def say_goodbye(self) -> None:
        """End the event streams."""
        if self._site is not None:
            self._site.close_streams()
