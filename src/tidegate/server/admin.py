"""The admin API: `Control` over HTTP, on a listener of its own.

What a request asks for becomes a value, `Control` is called with it, and the result is the JSON.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

from msgspec import Struct, json
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.responses import Response
from starlette.routing import Route

from tidegate.errors import ConfigError, UsageError
from tidegate.node import health
from tidegate.node.control import ConnectionsQuery, ExplainQuery, RoomsQuery, Selector
from tidegate.server.dashboard.pages import Dashboard
from tidegate.server.dashboard.sessions import Sessions
from tidegate.server.guard import Guard, is_operator
from tidegate.server.metrics import MetricsCollector, exposition
from tidegate.server.requests import read_body, read_query

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.types import ASGIApp

    from tidegate.core.settings import Settings
    from tidegate.node.control import Control
    from tidegate.server.timeline import Timeline

__all__ = ["admin_app"]


def admin_app(
    control: Control,
    settings: Settings,
    counts: Callable[[], Sequence[int]],
    timeline: Timeline,
    sources: Mapping[str, str] | None = None,
) -> ASGIApp:
    """The admin API of one node, and its dashboard, as an ASGI application.

    Args:
        counts: returns the numbers of `PROCESS_COUNTERS`, in their order.
        timeline: has what the charts show.
        sources: where settings come from, by full name.
    """
    api = _Api(control, counts, timeline, sources or {})
    sessions = Sessions(settings.admin.token)
    dashboard = Dashboard(sessions)
    app = Starlette(
        routes=[
            Route("/metrics", api.metrics),
            Route("/stats", api.stats),
            Route("/timeline", api.timeline),
            Route("/connections", api.connections),
            Route("/rooms", api.rooms),
            Route("/disconnect", api.disconnect, methods=["POST"]),
            Route("/drain", api.drain, methods=["GET", "POST"]),
            Route("/explain", api.explain),
            Route("/refusals", api.refusals),
            Route("/settings", api.settings, methods=["GET", "PATCH"]),
            Route("/health", api.health),
            Route("/ready", api.ready),
            *(dashboard.routes if settings.admin.dashboard else ()),
        ],
        exception_handlers={
            HTTPException: _refused,
            ConfigError: _wrong,
            UsageError: _wrong,
            RecursionError: _too_deep,
        },
    )
    return Guard(app, settings.admin.token, settings.server.hosts, sessions.knows)


class _TimelineQuery(Struct):
    since: float = 0.0


class _DrainQuery(Struct):
    window: float | None = None


class _Disconnect(Struct, forbid_unknown_fields=True):
    """The fields of a `Selector`, and what the clients are told beside the reason."""

    id: str | None = None
    user: str | None = None
    ip: str | None = None
    room: str | None = None
    detail: str = ""


class _Api:
    """What each path does."""

    def __init__(
        self,
        control: Control,
        counts: Callable[[], Sequence[int]],
        timeline: Timeline,
        sources: Mapping[str, str],
    ) -> None:
        self._control = control
        self._timeline = timeline
        self._sources = dict(sources)
        self._collector = MetricsCollector(control, counts)

    async def metrics(self, request: Request) -> Response:
        accepted = ",".join(request.headers.getlist("accept"))
        await asyncio.to_thread(self._collector.measure)
        body, content_type = exposition(self._collector, accepted)
        return Response(body, headers={"Content-Type": content_type})

    async def stats(self, _request: Request) -> Response:
        return _json(self._control.snapshot())

    async def connections(self, request: Request) -> Response:
        query = read_query(request.query_params, ConnectionsQuery)
        return _json(await self._control.connections(query))

    async def timeline(self, request: Request) -> Response:
        query = read_query(request.query_params, _TimelineQuery)
        return _json(self._timeline.since(query.since))

    async def rooms(self, request: Request) -> Response:
        return _json(self._control.rooms(read_query(request.query_params, RoomsQuery)))

    async def disconnect(self, request: Request) -> Response:
        body = await read_body(request, _Disconnect)
        selector = Selector(id=body.id, user=body.user, ip=body.ip, room=body.room)
        return _json(await self._control.disconnect(selector, body.detail))

    async def drain(self, request: Request) -> Response:
        if request.method == "POST":
            query = read_query(request.query_params, _DrainQuery)
            return _json(self._control.drain(query.window), HTTPStatus.ACCEPTED)
        return _json(self._control.drain_progress() or {"draining": False})

    async def explain(self, request: Request) -> Response:
        return _json(self._control.explain(read_query(request.query_params, ExplainQuery)))

    async def refusals(self, _request: Request) -> Response:
        return _json(
            {"refusals": self._control.refusals(), "reasons": self._control.refused_reasons()}
        )

    async def settings(self, request: Request) -> Response:
        if request.method == "PATCH":
            applied = self._control.apply(await read_body(request, dict[str, Any]))
            self._sources.update(dict.fromkeys(applied.applied, "PATCH /settings"))
            return _json(applied)
        return _json({"settings": self._control.settings().settings, "sources": self._sources})

    async def health(self, request: Request) -> Response:
        if not is_operator(request.scope):
            return Response(health.HEALTHY, media_type="application/json")
        status = self._control.status()
        return _json(
            {
                "status": "ok",
                "version": status.version,
                "uptime": round(status.uptime, 3),
                "stats": self._control.snapshot(),
            }
        )

    async def ready(self, _request: Request) -> Response:
        status, body = health.ready_body(self._control)
        return _json(body, status)


async def _refused(_request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    return _json({"error": error.detail}, error.status_code, dict(error.headers or {}))


async def _wrong(_request: Request, error: Exception) -> Response:
    return _json({"error": str(error)}, HTTPStatus.BAD_REQUEST)


async def _too_deep(_request: Request, _error: Exception) -> Response:
    return _json({"error": "the body: it is nested too deeply"}, HTTPStatus.BAD_REQUEST)


def _json(value: object, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    return Response(json.encode(value), status, headers, media_type="application/json")
