"""The admin API: metrics, stats and the list of connections, on a listener of its own."""

from __future__ import annotations

import asyncio
import hmac
import time
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from prometheus_client.exposition import choose_encoder
from starlette.applications import Starlette
from starlette.datastructures import Headers, QueryParams
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from tidegate.core.settings import DrainSettings
from tidegate.core.settings.fields import shown
from tidegate.errors import ConfigError
from tidegate.node import health
from tidegate.server.checks import is_loopback
from tidegate.server.explaining import explanation, last_refusals, parsed_address

if TYPE_CHECKING:
    from prometheus_client.registry import Collector
    from starlette.requests import Request
    from starlette.types import ASGIApp, Receive, Scope, Send

    from tidegate.core.settings import AdminSettings
    from tidegate.engine.connection import Connection
    from tidegate.node.server import Server

__all__ = ["admin_app"]

_OPEN_PATHS = ("/health", "/ready")
_PAGE_DEFAULT = 100
_PAGE_MAX = 1000
_TURN = 1000  # connections looked at before the loop gets its turn again


def admin_app(node: Server, settings: AdminSettings, collector: Collector) -> ASGIApp:
    """The admin API as an ASGI application.

    With a token set, everything but `/health` and `/ready` asks for `Authorization: Bearer`.
    Without one (allowed on loopback only) the Host header has to name this machine, so that a web
    page cannot reach it by pointing a name of its own at 127.0.0.1.
    """

    async def metrics(request: Request) -> Response:
        encode, content_type = choose_encoder(request.headers.get("accept", ""))
        return Response(encode(collector), headers={"Content-Type": content_type})

    async def stats(_request: Request) -> Response:
        return JSONResponse(node.snapshot())

    async def connections(request: Request) -> Response:
        return JSONResponse(await _page(node, _query(request.query_params)))

    async def explain(request: Request) -> Response:
        return JSONResponse(explanation(node, request.query_params))

    async def refusals(_request: Request) -> Response:
        return JSONResponse(last_refusals(node))

    async def healthy(_request: Request) -> Response:
        return JSONResponse(health.health_body(node))

    async def ready(_request: Request) -> Response:
        status, body = health.ready_body(node)
        return JSONResponse(body, status)

    async def drain(request: Request) -> Response:
        if request.method == "POST":
            _refuse_pages(request.headers)
            node.begin_drain(_window(request.query_params))
        if node.leaving is None:
            return JSONResponse({"draining": False})
        node.leaving.watched = True
        return JSONResponse(node.leaving.progress(), 202 if request.method == "POST" else 200)

    async def failed(_request: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)
        return JSONResponse(
            {"error": error.detail}, error.status_code, headers=dict(error.headers or {})
        )

    app = Starlette(
        routes=[
            Route("/metrics", metrics),
            Route("/stats", stats),
            Route("/connections", connections),
            Route("/explain", explain),
            Route("/refusals", refusals),
            Route("/drain", drain, methods=["GET", "POST"]),
            Route("/health", healthy),
            Route("/ready", ready),
        ],
        exception_handlers={HTTPException: failed},
    )
    return _Guard(app, settings)


class _Guard:
    """Lets a request through to the admin API, or answers it."""

    def __init__(self, app: ASGIApp, settings: AdminSettings) -> None:
        self._app = app
        self._token = settings.token.encode() if settings.token else None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        refusal = None
        if scope["type"] == "http" and scope["path"] not in _OPEN_PATHS:
            refusal = self._refuse(Headers(scope=scope))
        await (refusal or self._app)(scope, receive, send)

    def _refuse(self, headers: Headers) -> Response | None:
        if self._token is None:
            if is_loopback(_host_name(headers.get("host", ""))):
                return None
            return JSONResponse(
                {"error": "the Host header does not name this machine; set admin.token"}, 403
            )
        scheme, _, given = headers.get("authorization", "").partition(" ")
        # As bytes, because a header may hold any, and text is compared only if it is ASCII.
        if scheme.lower() == "bearer" and hmac.compare_digest(
            given.strip().encode("latin-1"), self._token
        ):
            return None
        return JSONResponse(
            {"error": "this needs the admin token, as 'Authorization: Bearer <token>'"},
            401,
            headers={"WWW-Authenticate": "Bearer"},
        )


def _host_name(value: str) -> str:
    """The host of a Host header, without its port."""
    if value.startswith("["):
        return value.partition("]")[0][1:]
    return value.partition(":")[0]


def _refuse_pages(headers: Headers) -> None:
    """Refuse what a page of another site asks for: a browser sends it without being asked to."""
    origin = headers.get("origin")
    if origin is not None and origin.partition("://")[2] != headers.get("host"):
        raise HTTPException(403, "not allowed from a page of another site")


def _window(params: QueryParams) -> float | None:
    """The window in seconds that a drain is asked for with; None for that of the settings."""
    given = dict(params.multi_items())
    text = given.pop("window", None)
    if given:
        raise HTTPException(400, f"unknown parameter {shown(next(iter(given)))}; there is window")
    if text is None:
        return None
    try:
        return DrainSettings(window=float(text)).window
    except ValueError:
        raise HTTPException(400, f"window: {shown(text)} is not a number") from None
    except ConfigError as error:
        raise HTTPException(400, str(error)) from None


@dataclass(frozen=True, slots=True)
class _Query:
    """What `/connections` was asked for."""

    limit: int = _PAGE_DEFAULT
    after: int = -1
    user: str | None = None
    ip: str | None = None
    room: str | None = None

    def matches(self, connection: Connection) -> bool:
        return (
            connection.number > self.after
            and not connection.closed
            and connection.lease.held  # else it still waits to be let in
            and (self.user is None or connection.user == self.user)
            and (self.ip is None or connection.address == self.ip)
        )


def _query(params: QueryParams) -> _Query:
    found: dict[str, Any] = {}
    for name, value in params.multi_items():
        if name not in _Query.__slots__:
            allowed = ", ".join(_Query.__slots__)
            raise HTTPException(400, f"unknown parameter {shown(name)}; there are {allowed}")
        if name in found:
            raise HTTPException(400, f"{name}: given twice")
        if name == "limit":
            found[name] = _whole_number(name, value, 1, _PAGE_MAX)
        elif name == "after":
            found[name] = _whole_number(name, value, 0, 2**63 - 1)
        elif name == "ip":
            found[name] = parsed_address(value)
        else:
            found[name] = value
    return _Query(**found)


def _whole_number(name: str, value: str, low: int, high: int) -> int:
    if value.isascii() and value.isdecimal() and len(value) < 20 and low <= int(value) <= high:
        return int(value)
    raise HTTPException(400, f"{name}: {shown(value)} is not a whole number from {low} to {high}")


async def _page(node: Server, query: _Query) -> dict[str, object]:
    """The page of connections that `query` asks for, by number, and the cursor of the next."""
    source: Iterable[Connection] = node.connections
    if query.room is not None:
        source = node.rooms.members(query.room)
    found: list[Connection] = []
    # A copy, because connections come and go while other turns of the loop run.
    for index, connection in enumerate(list(source), 1):
        if query.matches(connection):
            found.append(connection)
        if index % _TURN == 0:
            await asyncio.sleep(0)
    found.sort(key=lambda connection: connection.number)
    now = time.monotonic()
    return {
        "connections": [_row(connection, now) for connection in found[: query.limit]],
        "next": found[query.limit - 1].number if len(found) > query.limit else None,
    }


def _row(connection: Connection, now: float) -> dict[str, object]:
    return {
        "id": connection.id,
        "number": connection.number,
        "user": connection.user,
        "tier": connection.tier,
        "address": connection.address,
        "rooms": list(connection.rooms),
        "age": round(now - connection.opened_at, 3),
        "idle": round(now - connection.last_active, 3),
        "buffered": connection.buffered,
    }
