"""Home's application: its pages and questions for the host alone; all else is the running session's, at one address.

Everything below `/home` needs the host's secret, to read as well as to act: it tells what lies on this machine. What is
not home's is handed on to the session that runs (`forward`), whose own guard is the same. Where none runs, visitors are
told so, and the host goes home.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import FileResponse, HTMLResponse, JSONResponse, RedirectResponse, Response
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from livestack.base.errors import LivestackError
from livestack.base.text import clean_text
from livestack.faces.home.desk import Desk
from livestack.faces.home.forward import Forward, KeptAnswers
from livestack.faces.home.roots import OutsideRoots
from livestack.faces.web.access_control import (
    HostKey,
    RateLimit,
    SecurityHeaders,
    is_cross_site,
    read_bounded,
    set_host_cookie,
)
from livestack.faces.web.static_files import STATIC, send_static

BODY_BYTES = 64 * 1024
REPORT_POLICY = (
    "default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'unsafe-inline'; base-uri 'none'; "
    "form-action 'none'; frame-ancestors 'none'; sandbox allow-scripts"
)
"""The report is one file with all in it; whatever is in it gets no name here, hence no cookie either."""
RESTS = (
    '<!doctype html><html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width">'
    '<meta http-equiv="refresh" content="10"><title>The telescope rests</title>'
    '<link rel="icon" href="static/icon.svg"><link rel="stylesheet" href="static/style.css"></head>'
    '<body><main><p id="waiting" role="status">The telescope rests. This page looks again every ten seconds.</p></main>'
    "</body></html>"
)
MEDIA = {
    ".png": "image/png", ".jpg": "image/jpeg", ".jpeg": "image/jpeg", ".mp4": "video/mp4", ".webp": "image/webp",
}  # fmt: skip


class HomeSite:
    """The endpoints; `desk` does what they ask for."""

    def __init__(self, desk: Desk, token: str) -> None:
        self.desk = desk
        self.key = HostKey(token)
        self._token = token
        self._kept = KeptAnswers()
        self._rate = RateLimit(per_s=10, burst=40)

    def _admit(self, request: Request) -> None:
        if not self.key.admits(request):
            raise HTTPException(403, "This is the host's: open the secret link that the terminal shows.")

    # --- the way in ------------------------------------------------------------------------------------------------

    async def enter(self, request: Request) -> Response:
        """The secret link: the browser becomes the host's and goes home."""
        token = request.path_params["token"]
        if not self.key.matches(token):
            raise HTTPException(403, "This link is not valid (any more): take the one that the terminal shows.")
        page = HTMLResponse(
            '<!doctype html><html lang="en"><meta charset="utf-8"><title>livestack</title>'
            '<link rel="icon" href="/static/icon.svg">'
            '<meta http-equiv="refresh" content="0;url=/home"><p><a href="/home">Home</a></p></html>'
        )
        set_host_cookie(self.key, token, page.headers, "/")
        return page

    async def page(self, request: Request) -> Response:
        """Home."""
        self._admit(request)
        return FileResponse(STATIC / "home.html", media_type="text/html; charset=utf-8")

    # --- questions -------------------------------------------------------------------------------------------------

    def asked(self, answer: Callable[[Desk, Request], Any]) -> Callable[[Request], Any]:
        """An endpoint for the host that answers with JSON, made in a thread of its own."""

        async def endpoint(request: Request) -> Response:
            self._admit(request)
            try:
                return JSONResponse(await run_in_threadpool(answer, self.desk, request))
            except OutsideRoots as error:
                raise HTTPException(403, str(error)) from None
            except LivestackError as error:
                raise HTTPException(409, str(error)) from None
            except OSError as error:
                raise HTTPException(409, f"{error.filename}: {error.strerror}.") from None

        return endpoint

    async def picture(self, request: Request) -> Response:
        """The picture of a past session, small."""
        self._admit(request)
        data = await run_in_threadpool(self.desk.thumbnail, request.path_params["key"])
        if data is None:
            raise HTTPException(404)
        return Response(data, media_type="image/jpeg", headers={"cache-control": "no-cache"})

    async def file(self, request: Request) -> Response:
        """A file of a past session, by its number in the list."""
        self._admit(request)
        found = await run_in_threadpool(self.desk.file, request.path_params["key"], request.path_params["number"])
        if found is None:
            raise HTTPException(404)
        shown = request.query_params.get("show") == "1" and found.suffix in MEDIA
        kind = MEDIA.get(found.suffix, "application/octet-stream")
        return FileResponse(found, media_type=kind, filename=None if shown else found.name)

    async def report(self, request: Request) -> Response:
        """The night report of a past session, in a box of its own."""
        self._admit(request)
        found = await run_in_threadpool(self.desk.report, request.path_params["key"])
        if found is None:
            raise HTTPException(404, "This session has no report (yet).")
        headers = {"content-security-policy": REPORT_POLICY}
        return FileResponse(found, media_type="text/html; charset=utf-8", headers=headers)

    # --- what is to be done ----------------------------------------------------------------------------------------

    async def act(self, request: Request) -> Response:
        """One of home's actions, asked for with JSON."""
        self._admit(request)
        if is_cross_site(request):
            raise HTTPException(403, "The request came from another site.")
        if request.headers.get("content-type", "").partition(";")[0].strip() != "application/json":
            raise HTTPException(415, "Expected JSON.")
        if not self._rate.allows("host"):
            raise HTTPException(429, "Too many requests; wait a second.", {"retry-after": "1"})
        body = await read_bounded(request, BODY_BYTES)
        if body is None:
            raise HTTPException(413, f"More than {BODY_BYTES} bytes.")
        try:
            asked = json.loads(body or b"{}")
            action = self.desk.actions.get(request.path_params["action"])
            if action is None or not isinstance(asked, dict):
                raise ValueError(f"unknown action '{request.path_params['action']}'.")
        except ValueError as error:
            raise HTTPException(400, f"Not understood: {error}") from None
        try:
            return JSONResponse({"message": await run_in_threadpool(action, asked)})
        except OutsideRoots as error:
            raise HTTPException(403, str(error)) from None
        except LivestackError as error:
            return JSONResponse({"message": str(error)}, 409)
        except OSError as error:
            return JSONResponse({"message": f"{error.filename}: {error.strerror}."}, 409)

    # --- the session's -----------------------------------------------------------------------------------------------

    async def session(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Whatever is not home's is asked of the running session."""
        if scope["type"] != "http":
            return
        request = Request(scope)
        port = self.desk.runner.port
        if port is not None:
            try:
                await Forward(port, self._kept)(scope, receive, send)
                return
            except (ConnectionError, OSError):  # ended between two looks
                pass
        await self._no_session(request)(scope, receive, send)

    def _no_session(self, request: Request) -> Response:
        path = request.url.path
        if path in ("/", "/host") and self.key.admits(request):
            return RedirectResponse("/home", 303)
        if path == "/":
            return HTMLResponse(RESTS)
        if path == "/host" or path.startswith("/host/"):
            if not self.key.admits(request):
                return JSONResponse({"message": "This is the host's."}, 403)
            return JSONResponse({"message": "The session has ended.", "home": "/home"}, 503)
        return JSONResponse({"message": "No session is running."}, 503, {"retry-after": "10"})


async def tell_error(request: Request, error: Exception) -> Response:
    """Answer an error in one sentence."""
    assert isinstance(error, HTTPException)
    return JSONResponse({"message": clean_text(str(error.detail))}, error.status_code, error.headers)


def make_home(desk: Desk, token: str) -> Starlette:
    """Return the application; its `state.site` is the `HomeSite`."""
    site = HomeSite(desk, token)
    asked = site.asked
    app = Starlette(
        routes=[
            Route("/enter/{token}", site.enter),
            Route("/static/{name}", send_static),
            Route("/home", site.page),
            Route("/home/state.json", asked(lambda desk, _: desk.state())),
            Route("/home/folder.json", asked(lambda desk, request: desk.folder(request.query_params.get("path")))),
            Route("/home/survey.json", asked(lambda desk, request: desk.survey(request.query_params.get("path")))),
            Route("/home/form.json", asked(lambda desk, _: desk.form())),
            Route("/home/doctor.json", asked(lambda desk, request: desk.doctor(request.query_params.get("path")))),
            Route("/home/gallery.json", asked(lambda desk, _: desk.past())),
            Route("/home/session/{key}.json", asked(lambda desk, request: desk.one(request.path_params["key"]))),
            Route("/home/picture/{key}.jpg", site.picture),
            Route("/home/file/{key}/{number:int}", site.file),
            Route("/home/report/{key}", site.report),
            Route("/home/do/{action}", site.act, methods=["POST"]),
        ],
        middleware=[Middleware(SecurityHeaders)],
        exception_handlers={HTTPException: tell_error},
    )
    app.router.default = site.session
    app.state.site = site
    return app
