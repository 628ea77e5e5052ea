"""The admin API: `Control` over HTTP, on a listener of its own.

What a request asks for becomes a value, `Control` is called with it, and the result is the JSON.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, Final

from msgspec import json
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.responses import Response
from starlette.routing import Route

from tidegate.errors import ConfigError, UsageError
from tidegate.node import health
from tidegate.node.control import (
    ConnectionsQuery,
    ExplainQuery,
    ExplainRoomQuery,
    RoomsQuery,
    Selector,
)
from tidegate.server.admin_requests import AdminRequests, Counted
from tidegate.server.bodies import (
    Disconnect,
    DrainQuery,
    RebalanceQuery,
    Revoke,
    SettingsQuery,
    StatsQuery,
    TimelineQuery,
)
from tidegate.server.dashboard.pages import Dashboard
from tidegate.server.dashboard.sessions import Sessions
from tidegate.server.guard import Guard, is_operator
from tidegate.server.messages_api import MessagesApi
from tidegate.server.metrics import MetricsCollector, exposition
from tidegate.server.openapi import document
from tidegate.server.requests import field_of, read_body, read_query

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.types import ASGIApp

    from tidegate.core.settings import Settings
    from tidegate.node.control import Control
    from tidegate.server.timeline import Timeline

__all__ = ["FAILURES", "admin_app"]


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
    requests = AdminRequests()
    api = _Api(control, MetricsCollector(control, counts, requests), timeline, sources or {})
    messages = MessagesApi(control)
    sessions = Sessions(settings.admin.token)
    dashboard = Dashboard(sessions, settings, lambda: control.status().addresses)
    app = Starlette(
        routes=[
            Route("/metrics", api.metrics),
            Route("/stats", api.stats),
            Route("/nodes", api.nodes),
            Route("/timeline", api.timeline),
            Route("/connections", api.connections),
            Route("/rooms", api.rooms),
            Route("/rooms/join", messages.join, methods=["POST"]),
            Route("/rooms/leave", messages.leave, methods=["POST"]),
            Route("/users", messages.users),
            Route("/presence", messages.presence),
            Route("/history", messages.history),
            Route("/publish", messages.publish, methods=["POST"]),
            Route("/publish/batch", messages.batch, methods=["POST"]),
            Route("/ping", messages.ping, methods=["POST"]),
            Route("/disconnect", api.disconnect, methods=["POST"]),
            Route("/revoke", api.revoke, methods=["POST"]),
            Route("/drain", api.drain, methods=["GET", "POST"]),
            Route("/rebalance", api.rebalance, methods=["GET", "POST"]),
            Route("/explain", api.explain),
            Route("/explain/room", api.explain_room),
            Route("/refusals", api.refusals),
            Route("/settings", api.settings, methods=["GET", "PATCH"]),
            Route("/openapi.json", api.openapi),
            Route("/health", api.health),
            Route("/ready", api.ready),
            *(dashboard.routes if settings.admin.dashboard else ()),
        ],
        exception_handlers=FAILURES,
    )
    guard = Guard(app, settings.admin.token, settings.server.hosts, sessions.knows)
    return Counted(guard, app.routes, requests)


class _Api:
    """What each path does."""

    def __init__(
        self,
        control: Control,
        collector: MetricsCollector,
        timeline: Timeline,
        sources: Mapping[str, str],
    ) -> None:
        self._control = control
        self._timeline = timeline
        self._sources = dict(sources)
        self._collector = collector

    async def metrics(self, request: Request) -> Response:
        accepted = ",".join(request.headers.getlist("accept"))
        await asyncio.to_thread(self._collector.measure)
        body, content_type = exposition(self._collector, accepted)
        return Response(body, headers={"Content-Type": content_type})

    async def stats(self, request: Request) -> Response:
        if read_query(request.query_params, StatsQuery).scope == "fleet":
            return _json(await self._control.fleet_stats())
        return _json(self._control.snapshot())

    async def nodes(self, _request: Request) -> Response:
        return _json(await self._control.nodes())

    async def connections(self, request: Request) -> Response:
        query = read_query(request.query_params, ConnectionsQuery)
        return _json(await self._control.connections(query))

    async def timeline(self, request: Request) -> Response:
        query = read_query(request.query_params, TimelineQuery)
        return _json(self._timeline.since(query.since))

    async def rooms(self, request: Request) -> Response:
        return _json(await self._control.rooms(read_query(request.query_params, RoomsQuery)))

    async def disconnect(self, request: Request) -> Response:
        body = await read_body(request, Disconnect)
        selector = Selector(id=body.id, user=body.user, ip=body.ip, room=body.room)
        done = await self._control.disconnect(
            selector, body.detail, may_return=body.may_return, code=body.code
        )
        return _json(done)

    async def revoke(self, request: Request) -> Response:
        body = await read_body(request, Revoke)
        return _json(await self._control.revoke(body.user, body.before))

    async def drain(self, request: Request) -> Response:
        if request.method == "POST":
            query = read_query(request.query_params, DrainQuery)
            return _json(self._control.drain(query.window), HTTPStatus.ACCEPTED)
        return _json(self._control.drain_progress() or {"draining": False})

    async def rebalance(self, request: Request) -> Response:
        if request.method == "POST":
            query = read_query(request.query_params, RebalanceQuery)
            return _json(await self._control.rebalance(query.rate), HTTPStatus.ACCEPTED)
        return _json(await self._control.rebalanced())

    async def explain(self, request: Request) -> Response:
        query = read_query(request.query_params, ExplainQuery)
        return _json(await self._control.explain(query))

    async def explain_room(self, request: Request) -> Response:
        query = read_query(request.query_params, ExplainRoomQuery)
        return _json(await self._control.explain_room(query))

    async def refusals(self, _request: Request) -> Response:
        return _json(
            {"refusals": self._control.refusals(), "reasons": self._control.refused_reasons()}
        )

    async def settings(self, request: Request) -> Response:
        if request.method == "PATCH":
            query = read_query(request.query_params, SettingsQuery)
            changes = await read_body(request, dict[str, Any])
            if query.scope == "fleet":
                applied = await self._control.apply_everywhere(changes)
            else:
                applied = self._control.apply(changes)
            self._sources.update(dict.fromkeys(applied.applied, "PATCH /settings"))
            return _json(applied)
        return _json({"settings": self._control.settings().settings, "sources": self._sources})

    async def openapi(self, _request: Request) -> Response:
        text = document(self._control.status().version)
        return Response(text, media_type="application/json")

    async def health(self, request: Request) -> Response:
        if not is_operator(request.scope):
            return Response(health.HEALTHY, media_type="application/json")
        status = self._control.status()
        return _json(
            {
                "status": "ok",
                "version": status.version,
                "uptime": round(status.uptime, 3),
                "ready": status.ready,
                "reason": status.reason,
                "down": status.down,
                "stats": self._control.snapshot(),
            }
        )

    async def ready(self, _request: Request) -> Response:
        status, body = health.ready_body(self._control)
        return _json(body, status)


async def _refused(_request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    return _json(_problem(error.detail), error.status_code, dict(error.headers or {}))


async def _wrong(_request: Request, error: Exception) -> Response:
    return _json(_problem(str(error)), HTTPStatus.BAD_REQUEST)


def _problem(text: str) -> dict[str, str]:
    field = field_of(text)
    return {"error": text} if field is None else {"error": text, "field": field}


async def _too_deep(_request: Request, _error: Exception) -> Response:
    return _json({"error": "the body: it is nested too deeply"}, HTTPStatus.BAD_REQUEST)


FAILURES: Final[Mapping[Any, Any]] = {
    HTTPException: _refused,
    ConfigError: _wrong,
    UsageError: _wrong,
    RecursionError: _too_deep,
}
"""What is answered when a request fails, by the error."""


def _json(value: object, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    return Response(json.encode(value), status, headers, media_type="application/json")
