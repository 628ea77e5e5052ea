"""Which requests are let through to the admin API."""

from __future__ import annotations

import hmac
from http import HTTPStatus
from typing import TYPE_CHECKING, Final

from msgspec import json
from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.responses import Response

from tidegate.addresses import is_loopback

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Receive, Scope, Send

__all__ = ["Guard", "refuse_other_sites"]

_OPEN_PATHS: Final = ("/health", "/ready")


class Guard:
    """Lets a request through to the admin API, or refuses it.

    With a token set, everything but `/health` and `/ready` asks for `Authorization: Bearer`.
    Without one (allowed on loopback only) the Host header has to name this machine, so that a web
    page cannot reach it by pointing a name of its own at 127.0.0.1.
    """

    def __init__(self, app: ASGIApp, token: str | None) -> None:
        self._app = app
        self._token = token.encode() if token else None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        refusal = None
        if scope["type"] == "http" and scope["path"] not in _OPEN_PATHS:
            refusal = self._refuse(Headers(scope=scope))
        await (refusal or self._app)(scope, receive, send)

    def _refuse(self, headers: Headers) -> Response | None:
        if self._token is None:
            if is_loopback(_host_name(headers.get("host", ""))):
                return None
            return _refusal(
                HTTPStatus.FORBIDDEN,
                "the Host header does not name this machine; set admin.token",
            )
        scheme, _, given = headers.get("authorization", "").partition(" ")
        # As bytes, because a header may hold any, and text is compared only if it is ASCII.
        if scheme.lower() == "bearer" and hmac.compare_digest(
            given.strip().encode("latin-1"), self._token
        ):
            return None
        return _refusal(
            HTTPStatus.UNAUTHORIZED,
            "this needs the admin token, as 'Authorization: Bearer <token>'",
            {"WWW-Authenticate": "Bearer"},
        )


def refuse_other_sites(headers: Headers) -> None:
    """Refuse what a page of another site asks for: a browser sends it without being asked to.

    Raises:
        HTTPException: the request comes from such a page (403).
    """
    origin = headers.get("origin")
    if origin is not None and origin.partition("://")[2] != headers.get("host"):
        raise HTTPException(HTTPStatus.FORBIDDEN, "not allowed from a page of another site")


def _host_name(value: str) -> str:
    """The host of a Host header, without its port."""
    if value.startswith("["):
        return value.partition("]")[0][1:]
    return value.partition(":")[0]


def _refusal(status: int, text: str, headers: dict[str, str] | None = None) -> Response:
    body = json.encode({"error": text})
    return Response(body, status, headers, media_type="application/json")
