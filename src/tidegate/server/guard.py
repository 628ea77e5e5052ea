"""Which requests are let through to the admin API."""

from __future__ import annotations

import hmac
from collections.abc import Callable, Collection
from http import HTTPStatus
from typing import TYPE_CHECKING, Final

from msgspec import json
from starlette.datastructures import Headers
from starlette.responses import Response

from tidegate.core.hosts import Hosts, is_this_machine
from tidegate.server.dashboard.sessions import COOKIE

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Receive, Scope, Send

__all__ = ["Guard", "is_operator"]

_OPEN_PATHS: Final = ("/health", "/ready")
_LOGIN_PATHS: Final = ("/", "/try", "/login", "/static/style.css")
_SAFE_METHODS: Final = ("GET", "HEAD", "OPTIONS", "TRACE")  # RFC 9110, section 9.2.1
_OPERATOR: Final = "operator"


class Guard:
    """Lets a request through to the admin API, or refuses it.

    With a token set, everything but `/health`, `/ready` and the login asks for
    `Authorization: Bearer`, or for the cookie of somebody who has logged in with it.
    Without one (allowed on loopback only) the Host has to be a name of this machine or one of
    `hosts`, so that a web page cannot reach it by a name of its own that points to 127.0.0.1.
    """

    def __init__(
        self,
        app: ASGIApp,
        token: str | None,
        hosts: Collection[str] = (),
        knows: Callable[[str], bool] | None = None,
    ) -> None:
        self._app = app
        self._knows = knows
        self._token = token.encode() if token else None
        # "*" is for pages of any name, and an API that changes settings must not be open to them.
        self._hosts = Hosts([host for host in hosts if host != "*"])

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] == "http":
            headers = Headers(scope=scope)
            refusal = self._refuse(headers)
            if refusal is None:
                scope.setdefault("state", {})[_OPERATOR] = True
            elif scope["path"] in (*_OPEN_PATHS, *(_LOGIN_PATHS if self._token else ())):
                refusal = None
            if refusal is None and scope["method"] not in _SAFE_METHODS:
                refusal = _refuse_other_sites(headers)
            if refusal is not None:
                await refusal(scope, receive, send)
                return
        await self._app(scope, receive, send)

    def _refuse(self, headers: Headers) -> Response | None:
        if self._token is None:
            host = headers.get("host", "")
            if is_this_machine(host) or self._hosts.allows(host):
                return None
            return _refusal(
                HTTPStatus.FORBIDDEN,
                "the Host header does not name this machine; set admin.token or server.hosts",
            )
        scheme, _, given = headers.get("authorization", "").partition(" ")
        # As bytes, because a header may hold any, and text is compared only if it is ASCII.
        if scheme.lower() == "bearer" and hmac.compare_digest(
            given.strip().encode("latin-1"), self._token
        ):
            return None
        if self._knows is not None and self._knows(_session(headers)):
            return None
        return _refusal(
            HTTPStatus.UNAUTHORIZED,
            "this needs the admin token, as 'Authorization: Bearer <token>'",
            {"WWW-Authenticate": "Bearer"},
        )


def _session(headers: Headers) -> str:
    """The cookie of the dashboard, empty without one."""
    for part in headers.get("cookie", "").split(";"):
        name, _, value = part.strip().partition("=")
        if name == COOKIE:
            return value
    return ""


def is_operator(scope: Scope) -> bool:
    """Tell whether a request came from somebody who may use the API, on the open paths too."""
    return bool(scope.get("state", {}).get(_OPERATOR))


def _refuse_other_sites(headers: Headers) -> Response | None:
    """Refuse a change that a page of another site asks for: its browser sends that unasked.

    Browsers say so in `Sec-Fetch-Site`, or at least in `Origin` (Fetch, 3.1 and 3.2).
    """
    site = headers.get("sec-fetch-site", "none").strip().lower()
    origin = headers.get("origin")
    foreign = origin is not None and origin.partition("://")[2] != headers.get("host")
    if site in ("none", "same-origin") and not foreign:
        return None
    return _refusal(HTTPStatus.FORBIDDEN, "not allowed from a page of another site")


def _refusal(status: int, text: str, headers: dict[str, str] | None = None) -> Response:
    body = json.encode({"error": text})
    return Response(body, status, headers, media_type="application/json")
