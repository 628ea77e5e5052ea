"""The pages and files of the dashboard, and the login."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache
from html import escape
from http import HTTPStatus
from importlib.resources import files
from math import ceil
from typing import TYPE_CHECKING, Final
from urllib.parse import parse_qs

from starlette.responses import RedirectResponse, Response
from starlette.routing import Route

from tidegate.server.dashboard.sessions import COOKIE
from tidegate.server.dashboard.trying import allowed_source, public_url
from tidegate.server.guard import is_operator

if TYPE_CHECKING:
    from starlette.requests import Request

    from tidegate.core.settings import Settings
    from tidegate.server.dashboard.sessions import Sessions

__all__ = ["FILES", "Dashboard"]

_TYPES: Final = {
    "css": "text/css; charset=utf-8",
    "html": "text/html; charset=utf-8",
    "js": "text/javascript; charset=utf-8",
    "svg": "image/svg+xml",
}
_FOLDER: Final = files("tidegate.server.dashboard") / "static"
# No request goes elsewhere, no page may show this one in a frame, no script is in the page.
_POLICY: Final = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; "
    "connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)
_HEADERS: Final = {
    "Content-Security-Policy": _POLICY,
    "Cache-Control": "no-cache",
    "Referrer-Policy": "same-origin",
    "X-Content-Type-Options": "nosniff",
}
_LARGEST_LOGIN: Final = 4096


@lru_cache(maxsize=1)
def _names() -> frozenset[str]:
    names = [entry.name for entry in _FOLDER.iterdir() if entry.is_file()]
    names += [f"vendor/{entry.name}" for entry in (_FOLDER / "vendor").iterdir()]
    return frozenset(name for name in names if name.rpartition(".")[2] in _TYPES)


FILES: Final = _names
"""The names of the files."""


@lru_cache(maxsize=64)
def _content(name: str) -> bytes:
    return (_FOLDER / name).read_bytes()


def _file(name: str, status: int = HTTPStatus.OK) -> Response:
    return _answer(name, _content(name), status)


def _answer(name: str, content: bytes, status: int = HTTPStatus.OK, policy: str = "") -> Response:
    headers = {**_HEADERS, "Content-Security-Policy": policy} if policy else _HEADERS
    return Response(content, status, headers, media_type=_TYPES[name.rpartition(".")[2]])


class Dashboard:
    """What each path of the dashboard answers.

    Args:
        sessions: who has logged in.
        settings: of the server.
        addresses: returns host and port of every public listener.
    """

    def __init__(
        self,
        sessions: Sessions,
        settings: Settings,
        addresses: Callable[[], Sequence[tuple[str, int]]],
    ) -> None:
        self._sessions = sessions
        self._settings = settings
        self._addresses = addresses
        self.routes = [
            Route("/", self._home),
            Route("/try", self._try),
            Route("/login", self._log_in, methods=["POST"]),
            Route("/logout", self._log_out, methods=["POST"]),
            Route("/static/{name:path}", self._static),
        ]

    async def _home(self, request: Request) -> Response:
        if is_operator(request.scope):
            return _file("index.html")
        return _file("login.html")

    async def _try(self, request: Request) -> Response:
        if not is_operator(request.scope):
            return _file("login.html")
        url = public_url(self._settings, self._addresses(), request.headers.get("host", ""))
        page = _content("try.html").replace(b"PUBLIC_URL", escape(url).encode())
        # Beside the admin API this page may ask the public listener, and nobody else.
        allowed = f"connect-src 'self' {allowed_source(url)}" if url else "connect-src 'self'"
        return _answer("try.html", page, policy=_POLICY.replace("connect-src 'self'", allowed))

    async def _static(self, request: Request) -> Response:
        name = request.path_params["name"]
        if name not in FILES():
            return Response("there is no such file", HTTPStatus.NOT_FOUND, media_type="text/plain")
        return _file(name)

    async def _log_in(self, request: Request) -> Response:
        body = b""
        async for piece in request.stream():
            body += piece
            if len(body) > _LARGEST_LOGIN:
                return _file("login.html", HTTPStatus.REQUEST_ENTITY_TOO_LARGE)
        token = parse_qs(body.decode("utf-8", "replace")).get("token", [""])[0]
        session = self._sessions.log_in(token)
        if isinstance(session, float):
            response = _file("login-later.html", HTTPStatus.TOO_MANY_REQUESTS)
            response.headers["Retry-After"] = str(ceil(session))
            return response
        if session is None:
            return _file("login-wrong.html", HTTPStatus.UNAUTHORIZED)
        response = RedirectResponse("/", HTTPStatus.SEE_OTHER)
        response.set_cookie(
            COOKIE,
            session,
            httponly=True,
            samesite="strict",
            secure=request.url.scheme == "https",
        )
        return response

    async def _log_out(self, request: Request) -> Response:
        self._sessions.log_out(request.cookies.get(COOKIE, ""))
        response = RedirectResponse("/", HTTPStatus.SEE_OTHER)
        response.delete_cookie(COOKIE, httponly=True, samesite="strict")
        return response
