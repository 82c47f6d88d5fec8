"""The web application: pages, pictures and events for everybody, controls for the host alone.

Everything a visitor can reach only reads. Updates go out as server-sent events (`streaming`); pictures are encoded once
for each change (`encoder`), true pixels come as tiles (`tiles`), the light of stars and the sky as JSON (`star_pages`,
`sky_pages`). The host's page and controls need the secret of the host's link (`access_control`). The session is known
through its snapshots and `Controls` only.

There is no encryption: on a network that is not trusted, put a reverse proxy with TLS in front.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Callable
from typing import Any, get_args

import segno
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import FileResponse, HTMLResponse, JSONResponse, Response
from starlette.routing import Route

from livestack.base.choices import Moving
from livestack.base.errors import LivestackError
from livestack.faces.web.access_control import (
    HostKey,
    RateLimit,
    SecurityHeaders,
    caller_of,
    is_cross_site,
    read_bounded,
    set_host_cookie,
)
from livestack.faces.web.encoder import Encoder
from livestack.faces.web.host_pages import HostPages
from livestack.faces.web.sky_pages import SkyPages
from livestack.faces.web.star_pages import StarPages
from livestack.faces.web.static_files import STATIC, send_static
from livestack.faces.web.streaming import EventStream, PatientResponse, Streams
from livestack.faces.web.tiles import Busy, TileStore
from livestack.session.snapshot import Controls, Slot

BODY_BYTES = 4096
TEXT_LENGTH = 500
FOR_EVER = {"cache-control": "public, max-age=31536000, immutable"}


class Site:
    """The endpoints; one instance for each application."""

    def __init__(
        self, slot: Slot, controls: Controls | None, token: str | None, join_url: str | None, home: str | None = None
    ) -> None:
        self.streams = Streams()
        self.tiles = TileStore()
        self.key = HostKey(token) if token else None
        self._slot = slot
        self._controls = controls
        self._join_url = join_url
        self._loop: asyncio.AbstractEventLoop | None = None
        self.encoder = Encoder(slot, self._changed, join_url)
        self.stars = StarPages(self.encoder)
        self.sky = SkyPages(self.encoder)
        self.host = HostPages(self.encoder, controls, self._admit, home)
        self._tile_rate = RateLimit(per_s=30, burst=150)
        self._host_rate = RateLimit(per_s=5, burst=20)

    def _changed(self) -> None:
        if self._loop is not None:
            # RuntimeError: the loop ended between two snapshots; nobody listens any more.
            with contextlib.suppress(RuntimeError):
                self._loop.call_soon_threadsafe(self.streams.ring)

    @contextlib.asynccontextmanager
    async def lifespan(self, app: Starlette) -> AsyncIterator[None]:
        """Run the encoder as long as the application."""
        self._loop = asyncio.get_running_loop()
        await run_in_threadpool(self.encoder.start)
        try:
            yield
        finally:
            self._loop = None
            self.tiles.close()
            self.host.close()
            await run_in_threadpool(self.encoder.stop)

    def close_streams(self) -> None:
        """End all event streams; may be called from any thread."""
        self.streams.closing = True
        self._changed()

    # --- everybody -----------------------------------------------------------------------------------------------

    async def page(self, request: Request) -> Response:
        """The outreach page."""
        return FileResponse(STATIC / "index.html", media_type="text/html; charset=utf-8")

    async def overlay(self, request: Request) -> Response:
        """A transparent strip for a live broadcast."""
        return FileResponse(STATIC / "overlay.html", media_type="text/html; charset=utf-8")

    async def status(self, request: Request) -> Response:
        """The status, for those who cannot listen to events."""
        return Response(self.encoder.view.status, media_type="application/json")

    async def events(self, request: Request) -> Any:
        """Server-sent events: the status at every change."""
        caller = caller_of(request)
        if self.streams.is_full(caller):
            raise HTTPException(
                503, "too many visitors listen; the page asks now and then instead", {"retry-after": "10"}
            )
        return EventStream(self.encoder, self.streams, caller)

    async def picture(self, request: Request) -> Any:
        """A picture by its name; who is too late for it gets the newest of its kind."""
        name = request.path_params["name"]
        data = self.encoder.find(name)
        headers = {"content-type": "image/jpeg", **FOR_EVER, "etag": f'"{name}"'}
        if data is None:
            data = self.encoder.newest(name.partition("-")[0])
            headers = {"content-type": "image/jpeg", "cache-control": "no-store"}
        elif request.headers.get("if-none-match") == headers["etag"]:
            return Response(status_code=304, headers=headers)
        if data is None:
            raise HTTPException(404)
        return PatientResponse(data, headers)

    async def tile(self, request: Request) -> Any:
        """True pixels of the newest stack."""
        view = self.encoder.view
        if not self._tile_rate.allows(caller_of(request)):
            raise HTTPException(429, headers={"retry-after": "1"})
        name = request.path_params["name"]
        if name != view.stack_name:
            raise HTTPException(410)  # the stack has grown: the page asks again under the new name
        try:
            data = await self.tiles.get(name, view.snapshot, request.path_params["column"], request.path_params["row"])
        except (Busy, LivestackError):
            raise HTTPException(503, headers={"retry-after": "1"}) from None
        if data is None:
            raise HTTPException(404)
        return PatientResponse(data, {"content-type": "image/jpeg", **FOR_EVER})

    async def qr(self, request: Request) -> Response:
        """The QR code that lets phones join."""
        if self._join_url is None:
            raise HTTPException(404)
        code = segno.make(self._join_url, error="m", micro=False)
        svg = code.svg_inline(scale=8, border=3, dark="#000", light="#fff", omitsize=True)
        svg = svg.replace("<svg ", '<svg xmlns="http://www.w3.org/2000/svg" ', 1) if "xmlns" not in svg else svg
        return Response(svg, media_type="image/svg+xml", headers={"cache-control": "no-cache"})

    # --- the host ------------------------------------------------------------------------------------------------

    def _admit(self, request: Request) -> None:
        """Let only the host pass.

        Raises
        ------
        HTTPException : 403.
        """
        if self.key is None or not self.key.admits(request):
            raise HTTPException(403, "This is the host's: open the secret link that the terminal shows.")

    async def enter(self, request: Request) -> Response:
        """The secret link: the browser becomes the host's and goes on to the host's page."""
        token = request.path_params["token"]
        if self.key is None or not self.key.matches(token):
            raise HTTPException(403, "This link is not valid (any more): take the one that the terminal shows.")
        # Not a redirect by status: a browser that came from a message on another site would not send a Strict cookie.
        page = HTMLResponse(
            '<!doctype html><html lang="en"><meta charset="utf-8"><title>livestack</title>'
            '<link rel="icon" href="/static/icon.svg">'
            '<meta http-equiv="refresh" content="0;url=/host"><p><a href="/host">To the host\'s page</a></p></html>'
        )
        set_host_cookie(self.key, token, page.headers)
        return page

    async def host_page(self, request: Request) -> Response:
        """The host's page."""
        self._admit(request)
        return HTMLResponse(fill_host_page())

    async def host_action(self, request: Request) -> Response:
        """One of the controls, asked for with JSON."""
        self._admit(request)
        if is_cross_site(request):
            raise HTTPException(403, "The request came from another site.")
        if request.headers.get("content-type", "").partition(";")[0].strip() != "application/json":
            raise HTTPException(415, "Expected JSON.")
        if not self._host_rate.allows("host"):
            raise HTTPException(429, "Too many requests; wait a second.", {"retry-after": "1"})
        body = await read_bounded(request, BODY_BYTES)
        if body is None:
            raise HTTPException(413, f"More than {BODY_BYTES} bytes.")
        if self._controls is None:
            raise HTTPException(404, "This session has no controls.")
        try:
            asked = json.loads(body or b"{}")
            call = choose_action(
                self._controls, request.path_params["action"], asked if isinstance(asked, dict) else {}
            )
        except (ValueError, UnicodeDecodeError) as error:
            raise HTTPException(400, f"Not understood: {error}") from None
        try:
            return JSONResponse({"message": await run_in_threadpool(call)})
        except LivestackError as error:
            return JSONResponse({"message": str(error)}, 409)


def choose_action(controls: Controls, action: str, asked: dict[str, Any]) -> Callable[[], str]:
    """Return the call that an action of the host's page stands for.

    Raises
    ------
    ValueError : unknown action, or a value of the wrong kind or range.
    """
    plain = {"pause": controls.pause, "resume": controls.resume, "save": controls.save_now, "stop": controls.stop}
    texts = {
        "target": controls.new_target,
        "note": controls.set_note,
        "object": controls.set_object,
        "remove": controls.remove_frame,
    }
    if action in plain:
        return plain[action]
    if action in texts:
        text = asked.get("text")
        if not isinstance(text, str) or len(text) > TEXT_LENGTH:
            raise ValueError(f"'text' must be a text of at most {TEXT_LENGTH} characters.")
        return lambda: texts[action](text.strip() if action != "remove" else text)
    if action == "stretch":
        background, saturation = asked.get("background"), asked.get("saturation")
        if not isinstance(background, (int, float)) or not 0.005 <= background <= 0.6:
            raise ValueError("'background' must be a number from 0.005 to 0.6.")
        if not isinstance(saturation, (int, float)) or not 0 <= saturation <= 4:
            raise ValueError("'saturation' must be a number from 0 to 4.")
        return lambda: controls.set_stretch(float(background), float(saturation))
    if action in ("render", "save-settings"):
        section = "render" if action == "render" else "save"
        if not asked or any(not isinstance(v, (str, int, float, bool, list)) for v in asked.values()):
            raise ValueError("expected settings and their values.")
        return lambda: controls.change(section, asked)
    if action == "goal":
        name, seconds = asked.get("filter"), asked.get("seconds")
        if not isinstance(name, str) or len(name) > TEXT_LENGTH:
            raise ValueError("'filter' must be the name of a filter.")
        if not isinstance(seconds, (int, float)) or not 0 <= seconds <= 1e7:
            raise ValueError("'seconds' must be a number from 0 to 10 million.")
        return lambda: controls.set_goal(name, float(seconds))
    if action == "show":
        which = next((word for word in get_args(Moving) if word == asked.get("which")), None)
        if which is None:
            raise ValueError(f"'which' must be one of {', '.join(get_args(Moving))}.")
        return lambda: controls.show(which)
    if action == "follow":
        x, y = asked.get("x"), asked.get("y")
        if not isinstance(x, (int, float)) or not isinstance(y, (int, float)) or not (0 <= x < 1e6 and 0 <= y < 1e6):
            raise ValueError("'x' and 'y' must be pixels of the picture.")
        return lambda: controls.follow(float(x), float(y))
    raise ValueError(f"unknown action '{action}'.")


def fill_host_page() -> str:
    """Return the outreach page with the host's controls in it."""
    page, controls = ((STATIC / name).read_text(encoding="utf-8") for name in ("index.html", "host.html"))
    return page.replace("<!-- host -->", controls).replace('data-mode="live"', 'data-mode="live" data-host="1"')


async def tell_error(request: Request, error: Exception) -> Response:
    """Answer an error in one sentence."""
    assert isinstance(error, HTTPException)
    return JSONResponse({"message": error.detail}, error.status_code, error.headers)


def make_app(
    slot: Slot, controls: Controls | None = None, token: str | None = None, join_url: str | None = None,
    home: str | None = None,
) -> Starlette:  # fmt: skip
    """Return the application; its `state.site` is the `Site`.

    Parameters
    ----------
    slot : where the session publishes.
    controls : what the host may do; None: nothing.
    token : the host's secret; None: there is no host's page.
    join_url : address that visitors scan; None: no QR code.
    home : address of the page that began the session; None: there is none.
    """
    site = Site(slot, controls, token, join_url, home)
    app = Starlette(
        routes=[
            Route("/", site.page),
            Route("/static/{name}", send_static),
            Route("/overlay", site.overlay),
            Route("/status.json", site.status),
            Route("/events", site.events),
            Route("/picture/{name}.jpg", site.picture),
            Route("/tile/{name}/{column:int}-{row:int}.jpg", site.tile),
            Route("/stars.json", site.stars.list),
            Route("/star.json", site.stars.one),
            Route("/sky.json", site.sky.all),
            Route("/qr.svg", site.qr),
            Route("/enter/{token}", site.enter),
            Route("/host", site.host_page),
            Route("/host/state.json", site.host.state),
            Route("/host/night.json", site.host.night),
            Route("/host/frame/{number}.jpg", site.host.frame),
            Route("/host/picture.png", site.host.picture),
            Route("/host/stack.fits", site.host.stack),
            Route("/host/film", site.host.film),
            Route("/host/do/{action}", site.host_action, methods=["POST"]),
        ],
        middleware=[Middleware(SecurityHeaders)],
        exception_handlers={HTTPException: tell_error},
        lifespan=site.lifespan,
    )
    app.state.site = site
    return app
